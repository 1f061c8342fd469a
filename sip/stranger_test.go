package sip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// The two stories of this file are told by the attacker, on real sockets, while a
// doctor talks to the desk. At the end of each the doctor has noticed nothing.

// trapIP is where everything that the stranger writes points to: nothing may come there.
var trapIP = netip.MustParseAddr("127.0.0.77")

// trap is a place that answers nothing and counts who comes.
type trap struct {
	at   string // address and port, UDP and TCP
	came atomic.Int32
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	udp, tcp, err := listenBoth(netip.AddrPortFrom(trapIP, 0))
	if err != nil {
		t.Fatal(err)
	}
	p := &trap{at: udp.LocalAddr().String()}
	t.Cleanup(func() { _, _ = udp.Close(), tcp.Close() })
	go func() { // ends with its socket
		for b := make([]byte, 1500); ; p.came.Add(1) {
			if _, _, err := udp.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	go func() {
		for ; ; p.came.Add(1) {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return p
}

// doctor is a caller with ears and a voice: what it says is one octet again and again.
type doctor struct {
	*peer
	rtp    *net.UDPConn
	desk   netip.AddrPort // where its sound goes
	heard  atomic.Int64   // packets
	octet  byte
	number atomic.Uint32 // of its last packet
	ssrc   uint32
	silent chan struct{}
}

// doctor rings the desk from a trunk and is answered.
func (h *house) doctor(octet byte) *doctor {
	h.t.Helper()
	rtp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(trunkIP, 0)))
	if err != nil {
		h.t.Fatal(err)
	}
	d := &doctor{peer: h.peer(trunkIP), rtp: rtp, octet: octet, ssrc: 0x1234, silent: make(chan struct{})}
	d.invite("", strings.Replace(d.offer(""), " 19000 ", fmt.Sprintf(" %d ", addrPort(rtp.LocalAddr()).Port()), 1))
	ok := d.expect("SIP/2.0 200")
	d.toTag = tagOf(ok, "To")
	d.ack(randomText(), "")
	s, err := parseSDP([]byte(bodyOf(ok)))
	if err != nil {
		h.t.Fatal(err)
	}
	d.desk = netip.AddrPortFrom(netip.MustParseAddr(s.media[0].addr), s.media[0].port)
	go func() { // ends with the socket
		for b := make([]byte, 1500); ; d.heard.Add(1) {
			if _, _, err := rtp.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	go func() {
		frame := time.NewTicker(audio.FrameTime)
		defer frame.Stop()
		for {
			select {
			case <-frame.C:
				_, _ = rtp.WriteToUDPAddrPort(packet(8, uint16(d.number.Add(1)), d.ssrc, d.octet), d.desk)
			case <-d.silent:
				return
			}
		}
	}()
	h.t.Cleanup(func() { _ = rtp.Close() })
	return d
}

// hears waits for some more packets from the desk.
func (d *doctor) hears(n int64) {
	d.h.t.Helper()
	eventually(d.h.t, "the doctor hears the desk", func(from int64) func() bool {
		return func() bool { return d.heard.Load() >= from+n }
	}(d.heard.Load()))
}

// packet is a frame of sound that is one octet again and again.
func packet(pt uint8, seq uint16, ssrc uint32, octet byte) []byte {
	b := make([]byte, 12+160)
	b[0], b[1] = 0x80, pt
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], 160*uint32(seq))
	binary.BigEndian.PutUint32(b[8:], ssrc)
	for i := range b[12:] {
		b[12+i] = octet
	}
	return b
}

// eventually waits for something that other goroutines do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); !is(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// descriptors are those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestStrangerSIP: somebody has found our port.
func TestStrangerSIP(t *testing.T) {
	outside := newTrap(t)
	var given atomic.Int32 // REFERs and second calls that the house heard of
	h := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), func(_ *house, ctx context.Context, c *Call) {
		if c.Answer(ctx) == nil {
			_ = c.While(ctx, audio.Clip{ALaw: make([]byte, 1600), Loop: true}, func(ctx context.Context) error { <-ctx.Done(); return nil })
		}
	}, func(_ *house, c *Config) {
		c.Refer = func(context.Context, Referral) (func(context.Context) int, int) { given.Add(1); return nil, 403 }
		c.Dialled = func(context.Context, *Call, string, string) { given.Add(1) }
	})
	doctor := h.doctor(0x55)
	doctor.hears(5)
	desk := h.peer(netip.MustParseAddr("127.0.0.99"))
	c := challengeOf(t, desk.register("1001", ""))
	if m := desk.register("1001", "Contact: <sip:1001@"+desk.addr.String()+">\r\n"+c.line("1001", "secret", algorithmSHA256, "00000001")); !strings.HasPrefix(m, "SIP/2.0 200") {
		t.Fatalf("an operator's telephone got %q", m)
	}
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	ip := netip.MustParseAddr("127.0.1.1")
	var strangers []*peer
	stranger := func() *peer { // one for each chapter: a single one would soon get no answer at all
		ip = ip.Next()
		p := h.peer(ip)
		strangers = append(strangers, p)
		return p
	}
	// gets says something and expects an answer; "": none.
	gets := func(p *peer, what, message, want string) {
		t.Helper()
		p.send(message)
		if want == "" { // what is asked next is answered next
			p.seq++
			p.send(p.request("OPTIONS", "after"+randomText(), "", ""))
			if m := p.within(20 * time.Second); !strings.HasPrefix(m, "SIP/2.0 200") && !strings.HasPrefix(m, "SIP/2.0 481") || !strings.Contains(m, "z9hG4bKafter") {
				t.Errorf("%s got %q", what, m)
			}
			return
		}
		if m := p.within(20 * time.Second); !strings.HasPrefix(m, "SIP/2.0 "+want) {
			t.Errorf("%s got %q, not %s", what, m, want)
		}
	}

	// It looks around.
	p := stranger()
	ask := func(method, head, body string) string { p.seq++; return p.request(method, randomText(), head, body) }
	gets(p, "OPTIONS", ask("OPTIONS", "", ""), "200")
	gets(p, "a scanner", ask("OPTIONS", "User-Agent: friendly-scanner\r\n", ""), "")
	for _, garbage := range []string{"GET http://" + outside.at + "/ HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00", strings.Repeat("A", 9000), "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx\r\n\r\n"} {
		gets(p, "garbage", garbage, "")
	}
	for _, method := range []string{"BYE", "UPDATE", "INFO", "PRACK", "NOTIFY"} {
		gets(p, method+" of no call", ask(method, "", ""), "481")
	}
	gets(p, "CANCEL of no call", ask("CANCEL", "", ""), "481")
	gets(p, "ACK of no call", ask("ACK", "", ""), "")
	gets(p, "MESSAGE", ask("MESSAGE", "", ""), "405")
	gets(p, "SUBSCRIBE", ask("SUBSCRIBE", "", ""), "405")

	// It wants to telephone at our cost.
	p = stranger()
	premium := func(uri, head string) string {
		return strings.Replace(ask("INVITE", head, p.offer("")), "sip:800000001@"+p.server.String()+" ", uri+" ", 1)
	}
	for what, message := range map[string]string{
		"the desk":         premium("sip:800000001@"+p.server.String(), ""),
		"a premium number": premium("sip:+39899123456@"+p.server.String(), ""),
		"escapes":          premium("sip:%2B39899123456@"+p.server.String(), ""),
		"tel":              premium("tel:+39899123456", ""),
		"another host":     premium("sip:+39899123456@"+outside.at, ""),
		"maddr":            premium("sip:800000001@"+p.server.String()+";maddr="+trapIP.String(), ""),
		"Route":            premium("sip:800000001@"+p.server.String(), "Route: <sip:"+outside.at+";lr>\r\n"),
		"a false identity": premium("sip:800000001@"+p.server.String(), "P-Asserted-Identity: <tel:+390551234567>\r\nRemote-Party-ID: <sip:1001@pronto>\r\n"),
		"a false operator": strings.Replace(premium("sip:1002@"+p.server.String(), ""), "sip:+390551234567@", "sip:1001@", 1),
		"a false node":     premium("sip:1001@"+p.server.String(), nodeHeader+": north 1 00\r\n"),
		"things to fetch": premium("sip:800000001@"+p.server.String(), "Call-Info: <http://"+outside.at+"/card>;purpose=card\r\nAlert-Info: <http://"+outside.at+"/ring>\r\nIdentity: x;info=<http://"+
			outside.at+"/cert>\r\nRecord-Route: <sip:"+outside.at+";lr>\r\n"),
	} {
		gets(p, what, message, "403")
	}
	gets(p, "headers in the URI", premium("sip:800000001@"+p.server.String()+"?Route=%3Csip:"+outside.at+"%3E", ""), "400")
	gets(p, "REFER", ask("REFER", "Refer-To: <sip:+39899123456@"+outside.at+">\r\n", ""), "403")
	gets(p, "Replaces", ask("INVITE", "Replaces: "+doctor.callID+";to-tag="+doctor.toTag+";from-tag="+doctor.tag+"\r\n", p.offer("")), "481")

	// It has overheard the doctor's call, every tag of it.
	p = stranger()
	p.callID, p.tag, p.toTag, p.seq = doctor.callID, doctor.tag, doctor.toTag, doctor.seq+10
	for method, head := range map[string]string{"BYE": "", "INFO": "Content-Type: application/dtmf-relay\r\n", "PRACK": "RAck: 1 1 INVITE\r\n", "NOTIFY": "Event: refer\r\n", "OPTIONS": "",
		"REFER": "Refer-To: <sip:1001@" + p.server.String() + ">\r\n"} {
		gets(p, method+" of another's call", ask(method, head, ""), "481")
	}
	for _, method := range []string{"INVITE", "UPDATE"} { // the sound is to come here
		gets(p, method+" of another's call", ask(method, "", p.offer("")), "481")
	}
	gets(p, "ACK of another's call", ask("ACK", "", p.offer("")), "")
	same := h.peer(trunkIP) // or is on the doctor's own machine, but has guessed the tags
	for _, tags := range [][2]string{{doctor.tag, "guessed"}, {"guessed", doctor.toTag}} {
		same.callID, same.tag, same.toTag, same.seq = doctor.callID, tags[0], tags[1], doctor.seq+10
		for _, method := range []string{"BYE", "INVITE", "UPDATE", "REFER"} {
			same.seq++
			body := map[bool]string{true: same.offer("")}[method == "INVITE" || method == "UPDATE"]
			gets(same, method+" with a guessed tag", same.request(method, randomText(), "Refer-To: <sip:1001@pronto>\r\n", body), "481")
		}
	}

	// It writes what a log, or a screen, might take for something else.
	p = stranger()
	const escape = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>"
	gets(p, "a name that is a command", strings.Replace(ask("INVITE", "Subject: "+escape+"\r\n", p.offer("")), `"Mario"`, `"`+escape+`"`, 1), "403")
	gets(p, "half a line end", strings.Replace(strings.ReplaceAll(ask("OPTIONS", "", ""), "\r\n", "\r\n"), "Max-Forwards", "X: a\rlevel=ERROR msg=forged\r\nMax-Forwards", 1), "")

	// It tries passwords.
	p = stranger()
	for i := range 8 {
		c := challengeOf(t, p.register("1001", ""))
		if m := p.register("1001", "Contact: <sip:x@"+p.addr.String()+">\r\n"+c.line("1001", fmt.Sprint("1234", i), algorithmMD5, "00000001")); !strings.HasPrefix(m, "SIP/2.0 401") {
			t.Errorf("a guess got %q", m)
		}
	}

	// It takes all the connections that there are, says nothing on them, or a little.
	var open []net.Conn
	for range maxStrangers/maxConnsSource + 4 {
		ip = ip.Next()
		from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP(ip.AsSlice())}}
		for i := range maxConnsSource + 2 {
			conn, err := from.Dial("tcp", h.a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
			_, _ = io.WriteString(conn, []string{"", "OPTIONS ", "\r\n\r\n", "OPTIONS sip:x SIP/2.0\r\nContent-Length: 99999999\r\n\r\n"}[i%4])
		}
	}
	softphone := newHouse(t, nil, ring)
	if _, err := softphone.a.Register(t.Context(), RegisterOptions{Extension: "1002", Password: "secret", Registrar: h.a.Addr(), TCP: true, Expires: time.Minute}); err != nil {
		t.Errorf("an operator cannot sign in over TCP: %v", err)
	}
	softphone.stop()
	for _, conn := range open {
		_ = conn.Close()
	}

	// And what a caller of the carrier's brings along is not believed either: our BYE goes to the carrier.
	q := h.peer(trunkIP)
	q.invite("Record-Route: <sip:"+outside.at+";lr>\r\nCall-Info: <http://"+outside.at+"/>\r\n", strings.Replace(q.offer(""), "m=audio", "a=x:http://"+outside.at+"/\r\nm=audio", 1))
	q.toTag = tagOf(q.expect("SIP/2.0 200"), "To")
	q.ack(randomText(), "")
	<-h.calls // the doctor's
	(<-h.calls).Hangup(t.Context())
	q.reply(q.expect("BYE"), "200 OK", "", "", "")

	// Nothing has come of it.
	doctor.hears(25)
	doctor.seq++
	doctor.send(doctor.request("OPTIONS", randomText(), "", ""))
	doctor.expect("SIP/2.0 200")
	if n := h.a.Calls(); n != 1 {
		t.Errorf("%d calls, not the doctor's alone", n)
	}
	if n := given.Load(); n != 0 {
		t.Errorf("the house was asked %d times", n)
	}
	if n := outside.came.Load(); n != 0 {
		t.Errorf("%d messages went where the stranger wanted them", n)
	}
	if log := h.logged(); strings.ContainsAny(log, "\x1b\x07") || strings.Contains(log, "script") || strings.Contains(log, "forged") || strings.Contains(log, "390551234567") {
		t.Errorf("the log says what the stranger wrote:\n%s", log)
	} else if lines := strings.Count(log, "\n"); lines > 12 {
		t.Errorf("%d lines in the log:\n%s", lines, log)
	}
	for _, p := range strangers { // sipgo never heard of them (TELEPHONY P6)
		if conn, err := h.a.ua.TransportLayer().GetConnection("udp", p.addr.String()); err == nil && conn != nil {
			t.Errorf("%s is remembered", p.addr)
		}
		_ = p.s.Close()
	}
	h.a.mu.Lock()
	if n, m := len(h.a.invites), len(h.a.cancels); n > 2 || m > 0 {
		t.Errorf("%d invitations and %d CANCELs are remembered", n, m)
	}
	h.a.mu.Unlock()
	_, _ = same.s.Close(), q.s.Close()
	eventually(t, "connections are closed", func() bool {
		h.a.mu.Lock()
		defer h.a.mu.Unlock()
		return len(h.a.conns) == 0
	})
	eventually(t, fmt.Sprint(files, " descriptors are open as before"), func() bool { return descriptors(t) <= files })
	eventually(t, fmt.Sprint(goroutines, " goroutines run as before"), func() bool { return runtime.NumGoroutine() <= goroutines+16 }) // transactions end after 32 s
	close(doctor.silent)
	doctor.bye()
}

// TestStrangerTCP: connections end at the time that is set for them, whatever is said
// on them meanwhile.
func TestStrangerTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, &wire{ends: map[netip.AddrPort]*wireEnd{}}, ring)
		defer h.stop()
		port := uint16(1000)
		// open connects, and says when the connection was closed.
		open := func(ip netip.Addr) (net.Conn, *streamEdge, <-chan time.Duration) {
			far, near := net.Pipe()
			port++
			s, ok := h.a.admit(near, flow{tcp: true, local: h.a.Addr(), remote: netip.AddrPortFrom(ip, port)})
			if !ok {
				t.Fatal("not admitted")
			}
			closed, began := make(chan time.Duration, 1), time.Now()
			go func() {
				for b := make([]byte, 65535); ; {
					if _, err := s.Read(b); err != nil {
						closed <- time.Since(began).Round(time.Second)
						_ = s.Close()
						return
					}
				}
			}()
			return far, s, closed
		}
		say := func(c net.Conn, text string, every time.Duration) {
			go func() {
				for {
					if _, err := io.WriteString(c, text); err != nil {
						return
					}
					<-time.After(every)
				}
			}()
		}
		for what, x := range map[string]struct {
			ip   netip.Addr
			text string // "": nothing
			want time.Duration
		}{
			"says nothing":                {strangeIP, "", strangerLongest},
			"an octet now and then":       {strangeIP, "O", partialLongest},
			"alive, and nobody":           {strangeIP, "\r\n\r\n", strangerLongest},
			"asks and asks":               {strangeIP, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nFrom: <sip:x@y>;tag=1\r\nTo: <sip:x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", strangerLongest},
			"a carrier's, octet by octet": {trunkIP, "O", partialLongest},
			"a carrier's that is silent":  {trunkIP, "", idleKnown},
		} {
			c, _, closed := open(x.ip)
			go func() { _, _ = io.Copy(io.Discard, c) }()
			if x.text != "" {
				say(c, x.text, 4*time.Second)
			}
			if after := <-closed; after != x.want {
				t.Errorf("%s: closed after %s, not %s", what, after, x.want)
			}
			_ = c.Close()
		}
		// Who does not read is gone after five seconds, and nobody waits for them.
		c, s, closed := open(trunkIP)
		began := time.Now()
		for range waitingKnown / 1000 {
			if _, err := s.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %s for somebody who does not read", waited)
		}
		if after := <-closed; after != writeLongest {
			t.Errorf("who does not read is closed after %s", after)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("written afterwards: %v", err)
		}
		_ = c.Close()
		for ip, most := range map[netip.Addr]int{trunkIP: waitingKnown, strangeIP: waitingStranger} {
			c, s, closed = open(ip)
			for range 3 * most / 1000 { // or at once, if too much waits
				_, _ = s.Write(make([]byte, 1000))
			}
			if after := <-closed; after != 0 {
				t.Errorf("%s, with too much to read, closed after %s", ip, after)
			}
			_ = c.Close()
		}
	})
}

// TestStrangerRTP: somebody knows where the doctor's sound comes in, and whence.
func TestStrangerRTP(t *testing.T) {
	const doctors, forged = 0x11, 0x77 // what is heard of each
	heard := make(chan byte, 1<<14)
	h := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), func(h *house, ctx context.Context, c *Call) {
		if c.Answer(ctx) != nil {
			return
		}
		go func() { // ends with the call
			if key, err := c.Key(ctx); err == nil {
				h.keys <- key
			}
		}()
		_ = c.Stream().Record(ctx, func(frame []byte) bool {
			for _, b := range frame {
				select {
				case heard <- b:
				default:
				}
			}
			return true
		})
		<-ctx.Done()
	})
	d := h.doctor(doctors)
	c := <-h.calls
	d.hears(5)
	eventually(t, "the doctor is heard", func() bool { return c.Stream().Stats().Latched })
	before := c.Stream().Stats()
	report := netip.AddrPortFrom(d.desk.Addr(), d.desk.Port()+1)

	elsewhere := h.socketAt(strangeIP) // another machine
	neighbour := h.socketAt(trunkIP)   // the doctor's own, another port
	goodbye := []byte{0x80, 201, 0, 1, 0, 0, 0x12, 0x34, 0x81, 203, 0, 1, 0, 0, 0x12, 0x34}
	key := append(packet(96, 900, d.ssrc, 0)[:12], 9, 0x80|10, 3, 32)
	for i := range 60 { // beside the doctor's own words, for more than a second
		for _, s := range []*net.UDPConn{elsewhere, neighbour} {
			for _, b := range [][]byte{
				packet(8, uint16(d.number.Load())+uint16(i), d.ssrc, forged), // as if it were the doctor
				packet(8, uint16(d.number.Load())+1000, d.ssrc, forged),      // ahead of them, so that theirs come late
				packet(8, uint16(7000+i), 0x6666, forged),                    // as another who speaks now
				key, {}, {0x80}, []byte("OPTIONS sip:x SIP/2.0\r\n\r\n"), make([]byte, 1500),
			} {
				_, _ = s.WriteToUDPAddrPort(b, d.desk)
			}
			_, _ = s.WriteToUDPAddrPort(goodbye, report) // the doctor has gone, says who is not the doctor
			_, _ = s.WriteToUDPAddrPort(goodbye[:9], report)
		}
		d.hears(1)
	}
	d.hears(10)

	after := c.Stream().Stats()
	if after.Remote != addrPort(d.rtp.LocalAddr()) || c.Err() != nil {
		t.Errorf("the desk speaks to %s, %v", after.Remote, c.Err())
	}
	if after.In-before.In < 50 || after.Dropped["stranger"] < 300 || after.Dropped["port"] < 100 {
		t.Errorf("%d packets of the doctor taken, dropped %v", after.In-before.In, after.Dropped)
	}
	for _, s := range []*net.UDPConn{elsewhere, neighbour} {
		_ = s.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, _, err := s.ReadFromUDPAddrPort(make([]byte, 1500)); err == nil {
			t.Errorf("%d octets went to who is not the doctor", n)
		}
	}
	count := map[byte]int{}
	for len(heard) > 0 {
		count[<-heard]++
	}
	if count[forged] >= audio.FrameBytes || count[doctors] < 8000 { // a few are made up where a frame is missing
		t.Errorf("heard of the doctor %d samples, of others %d", count[doctors], count[forged])
	}
	select {
	case k := <-h.keys:
		t.Errorf("key %q was pressed by nobody", k)
	default:
	}

	// The doctor hangs up, and goes on sending. The port is not given to the next call so soon.
	d.bye()
	eventually(t, "the port rests", func() bool { return h.a.cfg.Media.Stats().Cooling == 1 })
	close(d.silent)
}

// socketAt is a UDP socket on an address.
func (h *house) socketAt(ip netip.Addr) *net.UDPConn {
	h.t.Helper()
	s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestSoundIsSentToNobodyElse: a description that names everybody, or this very machine,
// does not make us send there.
func TestSoundIsSentToNobodyElse(t *testing.T) {
	far := netip.MustParseAddr("198.51.100.7")
	for addr, want := range map[string]string{"224.0.0.1": "", "255.255.255.255": "", "::ffff:224.0.0.1": "", "ff02::1": "", "127.0.0.1": "198.51.100.7:4000", "::1": "198.51.100.7:4000", "198.51.100.9": "198.51.100.9:4000"} {
		s, err := parseSDP([]byte("v=0\r\nc=IN IP4 " + addr + "\r\nm=audio 4000 RTP/AVP 8\r\na=rtcp:53 IN IP4 127.0.0.1\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := s.agree(far, terms{clear: true})
		switch {
		case want == "" && !errors.Is(err, ErrNoCodec):
			t.Errorf("%s: %+v, %v", addr, g.peer, err)
		case want != "" && (err != nil || g.peer.RTP != netip.MustParseAddrPort(want) || g.peer.RTCP.Addr().IsLoopback()):
			t.Errorf("%s: %+v, %v", addr, g.peer, err)
		}
	}
}

// TestAnAddressOfAnotherFamily: what has no socket of ours to be sent from is no way to be
// heard (RFC 6157 §3), and a line that follows may be one. Reports go the sound's way at most.
func TestAnAddressOfAnotherFamily(t *testing.T) {
	far := netip.MustParseAddr("198.51.100.7")
	const here = "m=audio 5000 RTP/AVP 8\r\nc=IN IP4 198.51.100.7\r\n"
	for body, want := range map[string]string{
		"m=audio 4000 RTP/AVP 8\r\nc=IN IP6 2001:db8::1\r\n":         "",
		"m=audio 4000 RTP/AVP 8\r\nc=IN IP6 2001:db8::1\r\n" + here:  "198.51.100.7:5000 198.51.100.7:5001",
		"m=audio 4000 RTP/AVP 8\r\nc=IN IP6 ::ffff:198.51.100.7\r\n": "198.51.100.7:4000 198.51.100.7:4001",
		here + "a=rtcp:53 IN IP6 2001:db8::1\r\n":                    "198.51.100.7:5000 198.51.100.7:53",
		here + "a=rtcp:53 IN IP4 255.255.255.255\r\n":                "198.51.100.7:5000 198.51.100.7:53",
		here + "a=rtcp:53 IN IP4 198.51.100.8\r\n":                   "198.51.100.7:5000 198.51.100.8:53",
	} {
		s, err := parseSDP([]byte("v=0\r\n" + body))
		if err != nil {
			t.Fatal(err)
		}
		switch g, err := s.agree(far, terms{clear: true, lacks6: true}); {
		case want == "" && !errors.Is(err, ErrNoCodec):
			t.Errorf("%q: %+v, %v", body, g.peer, err)
		case want != "" && (err != nil || g.peer.RTP.String()+" "+g.peer.RTCP.String() != want):
			t.Errorf("%q: %+v, %v", body, g.peer, err)
		}
	}
	six, _ := parseSDP([]byte("v=0\r\n" + here))
	if g, err := six.agree(netip.MustParseAddr("2001:db8::7"), terms{clear: true, lacks4: true}); !errors.Is(err, ErrNoCodec) {
		t.Errorf("without IPv4: %+v, %v", g.peer, err)
	}
}
