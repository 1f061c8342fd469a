//go:build figures

package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	callsFor     = 10 * time.Second // at each rate
	relayPackets = 50_000           // about a second's work of one core
	relayBytes   = 172              // 20 ms of G.711 with its RTP header
	relayAhead   = 64               // packets on their way: fewer than a socket's buffer holds
	rusageThread = 1                // RUSAGE_THREAD, getrusage(2)

	tracesRate  = 100              // calls a second
	tracesLater = 7 * time.Second  // a trace is written some seconds after the call has ended
	soakRate    = 200              // calls a second
	soakWarm    = 2_000            // calls that fill the maps and the pools once
	soakRest    = 45 * time.Second // the longest that anything of a call is remembered: a BYE that may come again (32 s), with a port that rests (5 s)
	soakLook    = 500 * time.Millisecond
	soakLooks   = 300 // at the most, until the collector has come by: an idle program waits two minutes for it
)

var (
	callRates = flag.String("calls", "20,100,200,400", "how many calls a second TestFigures/calls makes, one rate after the other")
	soakCalls = flag.Int("soak", 10_000, "how many calls TestFigures/soak makes")
)

// callsFigures are what a call costs that is answered and hung up, at rising rates.
func callsFigures(t *testing.T, f *figures) {
	s := newServer(t, func(s *server) { s.rtp = "10000-32767" }) // ports rest between calls: many
	k := newCrowd(t, s)
	answerRate(t, s, k, 20, 3*time.Second) // the first calls pay for plans and pages
	for text := range strings.SplitSeq(*callRates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 1 {
			t.Fatalf("-calls: %q is no rate", text)
		}
		took, failed, cpu := answersAt(t, s, k, rate, callsFor)
		if len(failed) > 0 {
			t.Logf("%d calls/s: %d of %d calls failed, the first: %v", rate, len(failed), len(failed)+len(took), failed[0]) // more than this machine can do now
		}
		if len(took) == 0 {
			t.Fatalf("none of %d calls was answered", len(failed))
		}
		r := figure{what: fmt.Sprintf("answered and hung up, %d calls/s, contact committed", rate),
			measured: fmt.Sprintf("%d of %d failed; %s", len(failed), rate*int(callsFor/time.Second), spread(took)),
			each:     cpu / time.Duration(len(took)), unit: "call"}
		if rate == 400 {
			r.must, r.aim = "no failure, 1.5 ms", "1 000 calls/s, 0.9 ms"
		}
		f.row(r)
	}
}

// answerRate rings at a rate for a while, and hangs up as soon as it is answered.
func answerRate(t *testing.T, s *server, k *rawTrunk, rate int, length time.Duration) (took []time.Duration, cpu time.Duration) {
	took, failed, cpu := answersAt(t, s, k, rate, length)
	if len(failed) > 0 {
		t.Fatalf("%d calls failed, the first: %v", len(failed), failed[0])
	}
	return took, cpu
}

// answersAt is answerRate with the calls that failed.
func answersAt(t *testing.T, s *server, k *rawTrunk, rate int, length time.Duration) (took []time.Duration, failed []error, cpu time.Duration) {
	type result struct {
		took time.Duration
		err  error
	}
	n := rate * int(length/time.Second)
	results := make(chan result, n)
	before := cpuOf(t, s.cmd.Process.Pid)
	atRate(rate, n, func(int) {
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		go func() { // its end is read from results
			status, took, err := c.answer()
			if err == nil && status != 200 {
				err = fmt.Errorf("answered %d", status)
			}
			if err == nil {
				err = c.hangUp()
			}
			k.forget(c)
			results <- result{took, err}
		}()
	})
	for range n {
		if r := <-results; r.err != nil {
			failed = append(failed, r.err)
		} else {
			took = append(took, r.took)
		}
	}
	return took, failed, cpuOf(t, s.cmd.Process.Pid) - before
}

// atRate does something n times, at its time each.
func atRate(rate, n int, do func(i int)) {
	began := time.Now()
	for i := range n {
		rest(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate)))) // a ticker would leave some out
		do(i)
	}
}

// tracesFigures are what it costs to keep the signalling of a call: two desks in
// turns, one that keeps it and one that does not.
func tracesFigures(t *testing.T, f *figures) {
	config := filepath.Join(t.TempDir(), "pronto.toml")
	if err := os.WriteFile(config, []byte("[sip]\ntrace_days = 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keeps := newServer(t, func(s *server) { s.rtp = "10000-20999" })
	forgets := newServer(t, func(s *server) { s.rtp, s.args = "21000-31999", []string{"--config", config} })
	each := map[*server][]time.Duration{}
	for round := range 4 {
		for _, s := range []*server{keeps, forgets} {
			before := cpuOf(t, s.cmd.Process.Pid)
			took, _ := answerRate(t, s, newCrowd(t, s), tracesRate, callsFor)
			rest(tracesLater)
			if round > 0 { // the first calls pay for plans and pages
				each[s] = append(each[s], (cpuOf(t, s.cmd.Process.Pid)-before)/time.Duration(len(took)))
			}
		}
	}
	with, without := median(each[keeps]), median(each[forgets])
	f.row(figure{what: fmt.Sprintf("keeping a call's signalling, masked, at %d calls/s", tracesRate),
		measured: fmt.Sprintf("%s with, %s without", rounded(with), rounded(without)), each: max(with-without, 0), unit: "call"})
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// soakFigures let many calls pass, and look whether everything is back where it began.
func soakFigures(t *testing.T, f *figures) {
	s := newServer(t, func(s *server) { s.rtp = "10000-32767" })
	k := newCrowd(t, s)
	answerRate(t, s, k, soakRate, soakWarm/soakRate*time.Second)
	rest(soakRest)
	before := s.holds()
	length := time.Duration(max(1, *soakCalls/soakRate)) * time.Second
	took, failed, cpu := answersAt(t, s, k, soakRate, length)
	if len(took) == 0 {
		t.Fatalf("none of %d calls was answered, the first: %v", len(failed), failed[0])
	}
	rest(soakRest)
	after := s.holds()
	f.row(figure{what: fmt.Sprintf("soak: %d calls at %d calls/s, then %s of rest", len(took)+len(failed), soakRate, soakRest), must: "back where it began",
		measured: fmt.Sprintf("%d failed; heap %.1f to %.1f MB, goroutines %.0f to %.0f, descriptors %.0f to %.0f, ports %.0f to %.0f", len(failed),
			before.heap/1e6, after.heap/1e6, before.goroutines, after.goroutines, before.descriptors, after.descriptors, before.ports, after.ports),
		each: cpu / time.Duration(len(took)), unit: "call"})
}

// holdings are what a process holds on to.
type holdings struct{ heap, goroutines, descriptors, ports float64 }

// holds asks /metrics what the server holds on to, just after a collection: what is
// garbage is not held.
func (s *server) holds() holdings {
	s.t.Helper()
	var found holdings
	collections := 0.0
	for i := range soakLooks {
		rest(soakLook)
		resp, err := s.client.Get(s.scheme + "://" + s.http + "/metrics")
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		was, now := collections, 0.0
		for name, value := range map[string]*float64{"go_gc_duration_seconds_count": &now, "go_memstats_heap_alloc_bytes": &found.heap, "go_goroutines": &found.goroutines,
			"process_open_fds": &found.descriptors, "pronto_media_ports": &found.ports} {
			m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text)
			if m == nil {
				s.t.Fatalf("/metrics does not tell %s", name)
			}
			n, err := strconv.ParseFloat(string(m[1]), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			*value = n
		}
		if collections = now; i > 0 && now > was {
			break
		}
	}
	return found
}

// relayCost is the CPU that a plain relay on loopback needs for one datagram: a
// read and a write, nothing else. It is the unit in which machines compare.
func relayCost(t *testing.T) time.Duration {
	t.Helper()
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	relay, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(relay)
	if err := syscall.Bind(relay, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	limit := syscall.NsecToTimeval(rawWait.Nanoseconds())
	if err := syscall.SetsockoptTimeval(relay, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(relay)
	if err != nil {
		t.Fatal(err)
	}
	at := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}
	to := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: out.LocalAddr().(*net.UDPAddr).Port}

	window := make(chan struct{}, relayAhead)
	var parts sync.WaitGroup
	parts.Go(func() { // the listener: makes room for the next
		buf := make([]byte, relayBytes)
		for range relayPackets {
			_ = out.SetReadDeadline(time.Now().Add(rawWait))
			if _, err := out.Read(buf); err != nil {
				t.Error(err)
				out.Close()
				return
			}
			<-window
		}
	})
	parts.Go(func() { // the speaker
		buf := make([]byte, relayBytes)
		for i := range relayPackets {
			select {
			case window <- struct{}{}:
			case <-time.After(rawWait):
				t.Error("a datagram was lost on the way")
				return
			}
			binary.BigEndian.PutUint32(buf, uint32(i))
			if _, err := in.WriteTo(buf, at); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var cost time.Duration
	parts.Go(func() { cost, err = relayDatagrams(relay, to) })
	parts.Wait()
	if err != nil {
		t.Fatal(os.NewSyscallError("relay", err))
	}
	return cost
}

// relayDatagrams passes relayPackets on and gives the CPU of its thread for each.
func relayDatagrams(relay int, to syscall.Sockaddr) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &before); err != nil {
		return 0, err
	}
	buf := make([]byte, relayBytes)
	for range relayPackets {
		n, _, err := syscall.Recvfrom(relay, buf, 0)
		if err != nil {
			return 0, err
		}
		if err := syscall.Sendto(relay, buf[:n], 0, to); err != nil {
			return 0, err
		}
	}
	if err := syscall.Getrusage(rusageThread, &after); err != nil {
		return 0, err
	}
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	return time.Duration(spent / relayPackets), nil
}

// forget lets go of a call that is over.
func (k *rawTrunk) forget(c *rawCall) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.calls, c.id)
}
