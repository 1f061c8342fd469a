package sip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/media"
)

// cpuNow is the CPU time of this process.
func cpuNow(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchRequest is a request of a carrier as most of them write it.
func benchRequest(method string, n, seq int, toTag, uri, body string) []byte {
	kind := ""
	if body != "" {
		kind = "Content-Type: application/sdp\r\n"
	}
	if toTag != "" {
		toTag = ";tag=" + toTag
	}
	return fmt.Appendf(nil, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6060;branch=z9hG4bK%d-%d-%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: \"Mario Rossi\" <sip:+390551234567@127.0.0.1>;tag=bench%d\r\nTo: <sip:800000001@127.0.0.1>%s\r\nCall-ID: bench-%d@127.0.0.1\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:+390551234567@127.0.0.1:6060>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nUser-Agent: Carrier/1.2.3\r\n%sContent-Length: %d\r\n\r\n%s",
		method, uri, n, seq, method, n, toTag, n, seq, method, kind, len(body), body)
}

const benchSDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\n" +
	"a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"

// BenchmarkCall is a call that is answered and hung up, without desk and database:
// what the agent, the transactions and the sockets of its sound take.
func BenchmarkCall(b *testing.B) {
	for name, traced := range map[string]func(Trace){"plain": nil, "traced": func(Trace) {}} {
		b.Run(name, func(b *testing.B) { benchmarkCall(b, traced) })
	}
}

func benchmarkCall(b *testing.B, traced func(Trace)) {
	w := &wire{ends: map[netip.AddrPort]*wireEnd{}}
	at := netip.MustParseAddrPort("127.0.0.1:5060")
	end, err := w.listen(at)
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	engine := media.New(media.Config{MinPort: 20000, MaxPort: 32000, Log: log})
	a, err := New(Config{Packet: []net.PacketConn{end}, Trunks: []Trunk{{Name: "trunk", Networks: []netip.Prefix{trunkNet}}}, Media: engine, Log: log, Traced: traced,
		Handle: func(ctx context.Context, c *Call) {
			if err := c.Answer(ctx); err == nil {
				<-ctx.Done()
			}
		}})
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Listen(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	running.Go(func() { _ = engine.Run(ctx) })
	defer running.Wait()
	defer cancel()
	carrier, err := w.listen(netip.MustParseAddrPort("127.0.0.1:6060"))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 4096)
	expect := func(start string) string {
		for {
			n, _, err := carrier.ReadFromUDPAddrPort(buf)
			if err != nil {
				b.Fatal(err)
			}
			if m := string(buf[:n]); strings.HasPrefix(m, start) {
				return m
			}
		}
	}
	n := 0
	call := func() {
		n++
		_, _ = carrier.WriteToUDPAddrPort(benchRequest("INVITE", n, 1, "", "sip:800000001@127.0.0.1", benchSDP), at)
		_, to, _ := strings.Cut(expect("SIP/2.0 200"), "\r\nTo: ")
		to, _, _ = strings.Cut(to, "\r\n")
		_, _ = carrier.WriteToUDPAddrPort(benchRequest("ACK", n, 1, tag(to), "sip:pronto@127.0.0.1", ""), at)
		_, _ = carrier.WriteToUDPAddrPort(benchRequest("BYE", n, 2, tag(to), "sip:pronto@127.0.0.1", ""), at)
		expect("SIP/2.0 200")
	}
	call()
	b.ReportAllocs()
	before := cpuNow(b)
	for b.Loop() {
		call()
	}
	b.ReportMetric(float64(cpuNow(b)-before)/float64(b.N)/1e3, "µs-cpu/op")
}

// BenchmarkInspect is what the edge does with the messages of a call.
func BenchmarkInspect(b *testing.B) {
	w := &wire{ends: map[netip.AddrPort]*wireEnd{}}
	end, err := w.listen(netip.MustParseAddrPort("127.0.0.1:5060"))
	if err != nil {
		b.Fatal(err)
	}
	a, err := New(Config{Packet: []net.PacketConn{end}, Trunks: []Trunk{{Name: "trunk", Networks: []netip.Prefix{trunkNet}}}, Handle: func(context.Context, *Call) {}})
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Listen(); err != nil {
		b.Fatal(err)
	}
	f := a.udpFlow(a.Addr(), netip.MustParseAddrPort("127.0.0.1:6060"))
	invite := benchRequest("INVITE", 1, 1, "", "sip:800000001@127.0.0.1", benchSDP)
	b.ReportAllocs()
	for b.Loop() {
		if !a.inspect(f, invite) {
			b.Fatal("an INVITE that does not pass")
		}
	}
}
