package sip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pronto-desk/pronto/sip/seeds"
)

func TestMain(m *testing.M) {
	// The tests' PostgreSQL lives as long as the test binary.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/pronto-desk/pronto/db/private.(*Server).spawn.func1"))
}

// TestValidation: what is wrong gets the code that RFC 4475 expects, from the
// edge, without a call.
func TestValidation(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.peer(trunkIP)
		good := func() string { p.seq++; return p.request("INVITE", randomText(), "", p.offer("")) }
		swap := func(old, new string) string {
			m := good()
			if !strings.Contains(m, old) {
				h.t.Fatalf("%q is not in %q", old, m)
			}
			return strings.Replace(m, old, new, 1)
		}
		for _, x := range []struct{ name, message, want, head string }{
			{"version", swap(" SIP/2.0\r\n", " SIP/7.0\r\n"), "505", ""},
			{"two blanks", swap("INVITE sip", "INVITE  sip"), "400", ""},
			{"lower case", strings.Replace(swap("INVITE sip", "invite sip"), "0 INVITE", "0 invite", 1), "4", ""},
			{"lower case twice", strings.ReplaceAll(good(), "INVITE", "invite"), "501", "Allow"},
			{"unknown method", strings.ReplaceAll(good(), "INVITE", "NEWMETHOD"), "501", "Allow"},
			{"known method", strings.ReplaceAll(good(), "INVITE", "SUBSCRIBE"), "405", "Allow"},
			{"other CSeq", swap(fmt.Sprintf("CSeq: %d INVITE", p.seq+1), "CSeq: 1 OPTIONS"), "400", ""},
			{"huge CSeq", swap(fmt.Sprintf("CSeq: %d ", p.seq+1), "CSeq: 36893488147419103232 "), "400", ""},
			{"two CSeq", swap("CSeq:", "CSeq: 5 INVITE\r\nCSeq:"), "400", ""},
			{"two From", swap("From:", "From: <sip:x@y>;tag=z\r\nFrom:"), "400", ""},
			{"two in compact form", swap("Call-ID:", "i: other\r\nCall-ID:"), "400", ""},
			{"no To", swap("To: <sip:800000001@127.0.0.1>\r\n", ""), "400", ""},
			{"scheme", swap("INVITE sip:", "INVITE soap.beep:"), "416", ""},
			{"sips", swap("INVITE sip:", "INVITE sips:"), "416", ""},
			{"headers in the URI", swap(" SIP/2.0\r\n", "?Route=%3Csip:x%3E SIP/2.0\r\n"), "400", ""},
			{"scheme of To", swap("To: <sip:800000001@127.0.0.1>", "To: <isbn:2983792873>"), "400", ""},
			{"bare contact", swap("Contact: <sip:p@"+p.addr.String()+">", "Contact: sip:p@"+p.addr.String()+"?x=y"), "400", ""},
			{"Max-Forwards", swap("Max-Forwards: 70", "Max-Forwards: 300"), "400", ""},
			{"too many hops", strings.Replace(swap("Max-Forwards: 70", "Max-Forwards: 0"), "800000001@"+p.server.String(), "800000001@192.0.2.1", 1), "483", ""},
			{"Require", swap("Max-Forwards", "Require: nothing, 100rel\r\nMax-Forwards"), "420", "Unsupported: nothing\r\n"},
			{"body", swap("Content-Type: application/sdp", "Content-Type: application/unknown"), "415", "Accept: application/sdp"},
			{"encoding", swap("Content-Type:", "Content-Encoding: gzip\r\nContent-Type:"), "415", "Accept"},
			{"Accept", swap("Content-Type:", "Accept: text/plain\r\nContent-Type:"), "406", ""},
			{"too short", swap("Content-Length: ", "Content-Length: 9"), "400", ""},
			{"negative", swap("Content-Length: ", "Content-Length: -"), "400", ""},
			{"neither branch nor tag", strings.Replace(strings.Replace(good(), ";branch=", ";x=", 1), ";tag="+p.tag, "", 1), "400", ""},
		} {
			p.send(x.message)
			m := p.within(20 * time.Second)
			if !strings.HasPrefix(m, "SIP/2.0 "+x.want) || !strings.Contains(m, x.head) {
				h.t.Errorf("%s: %q got %q", x.name, x.message, m)
			}
			if m != "" && (tagOf(m, "To") == "" && x.name != "no To" || headerOf(m, "Call-ID") == "") {
				h.t.Errorf("%s: not fit to be matched: %q", x.name, m)
			}
		}
		for _, garbage := range []string{"\r\n\r\n", "hello", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx\r\n\r\n", strings.Repeat("x", 5000), "\x00\x00\x00"} {
			p.send(garbage)
			p.nothing(50 * time.Millisecond)
		}
		if n := h.a.Calls(); n != 0 {
			h.t.Errorf("%d calls came of it", n)
		}
		if lines := strings.Count(h.logged(), "\n"); lines > 6 {
			h.t.Errorf("%d lines in the log:\n%s", lines, h.logged())
		}
		if strings.Contains(h.logged(), "+390551234567") {
			h.t.Errorf("personal data in the log:\n%s", h.logged())
		}
		p.send(good()) // and a good one still rings
		p.expect("SIP/2.0 100")
	})
}

func TestStrangers(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.peer(strangeIP)
		branch := p.invite("", p.offer(""))
		if m := p.expect("SIP/2.0 403"); tagOf(m, "To") == "" {
			h.t.Errorf("%q", m)
		}
		// Whoever sets up a trunk reads in the log which address it needs.
		if !strings.Contains(h.logged(), "a call from no trunk") || !strings.Contains(h.logged(), strangeIP.String()) {
			h.t.Errorf("the log does not name who was refused: %q", h.logged())
		}
		p.ack(branch, "")
		p.seq++
		p.send(p.request("OPTIONS", randomText(), "", ""))
		if m := p.expect("SIP/2.0 200"); headerOf(m, "Allow") == "" {
			h.t.Errorf("%q", m)
		}
		p.seq++
		p.send(p.request("OPTIONS", randomText(), "User-Agent: friendly-scanner\r\n", ""))
		p.nothing(100 * time.Millisecond)
		p.send(strings.Replace(p.request("OPTIONS", randomText(), "", ""), ";rport", "", 1)) // to the port in Via
		p.expect("SIP/2.0 200")
		if n := h.a.Calls(); n != 0 || len(h.calls) != 0 {
			h.t.Errorf("%d calls came of it", n)
		}
	})
}

func TestAFloodOfAStranger(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.peer(strangeIP)
		for range 500 {
			p.register("1001", "")
			if len(p.s.(*wireEnd).in) > 0 {
				h.t.Fatal("more answers than questions")
			}
		}
	})
	bubble(t, ring, func(h *house) {
		p, trunk := h.peer(strangeIP), h.peer(trunkIP)
		answers := 0
		for range 500 {
			p.seq++
			p.send(p.request("OPTIONS", randomText(), "", ""))
		}
		for p.within(100*time.Millisecond) != "" {
			answers++
		}
		if answers != strangerBurst {
			h.t.Errorf("%d of 500 were answered", answers)
		}
		trunk.invite("", trunk.offer("")) // the carrier does not notice
		trunk.expect("SIP/2.0 100")
		<-time.After(10 * time.Second) // in the bubble: it may ask again
		p.send(p.request("OPTIONS", randomText(), "", ""))
		p.expect("SIP/2.0 200")
	})
}

func TestLimitsForgetSources(t *testing.T) {
	l := limits{buckets: map[netip.Prefix]*bucket{}}
	now := time.Unix(1e9, 0)
	for i := range 3 * maxSources {
		l.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(l.buckets) > maxSources {
		t.Errorf("%d sources remembered", len(l.buckets))
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for range strangerBurst {
		l.take(a, now)
	}
	if l.take(b, now) {
		t.Error("an IPv6 host has as many lives as it has addresses")
	}
}

// line is a telephone over TCP.
type line struct {
	*peer
	c net.Conn
	r *bufio.Reader
}

func (h *house) tcp() *line {
	h.t.Helper()
	p := h.peer(trunkIP)
	c, err := net.Dial("tcp", h.a.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	p.addr = addrPort(c.LocalAddr())
	return &line{p, c, bufio.NewReader(c)}
}

func (l *line) write(s string) {
	l.h.t.Helper()
	if _, err := io.WriteString(l.c, strings.ReplaceAll(s, "SIP/2.0/UDP", "SIP/2.0/TCP")); err != nil {
		l.h.t.Fatal(err)
	}
}

// read gives one message.
func (l *line) read() string {
	l.h.t.Helper()
	_ = l.c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var b strings.Builder
	length := 0
	for {
		s, err := l.r.ReadString('\n')
		if err != nil {
			return b.String()
		}
		b.WriteString(s)
		_, _ = fmt.Sscanf(s, "Content-Length: %d", &length)
		if s == "\r\n" && b.Len() > 2 {
			break
		}
	}
	body := make([]byte, length)
	_, _ = io.ReadFull(l.r, body)
	return b.String() + string(body)
}

func (l *line) want(start string) string {
	l.h.t.Helper()
	for {
		m := l.read()
		if strings.HasPrefix(m, start) {
			return m
		}
		if !strings.HasPrefix(m, "SIP/2.0 100") {
			l.h.t.Fatalf("expected %q, got %q", start, m)
		}
	}
}

func TestACallOverTCP(t *testing.T) {
	h := newHouse(t, nil, waitAnswer)
	l := h.tcp()
	l.write("\r\n\r\n") // a keep-alive
	if s, err := l.r.ReadString('\n'); s != "\r\n" {
		t.Fatalf("%q, %v", s, err)
	}
	l.seq = 1
	m := l.request("INVITE", randomText(), "", l.offer(""))
	for _, part := range []string{"\r\n", m[:10], m[10:300], m[300:]} { // as TCP pleases, after an empty line (RFC 3261 §7.5)
		l.write(part)
	}
	l.toTag = tagOf(l.want("SIP/2.0 200"), "To")
	ack := l.request("ACK", randomText(), "", "")
	l.seq++
	l.write(ack + l.request("OPTIONS", randomText(), "", "")) // two in one piece
	l.want("SIP/2.0 200")
	c := <-h.calls
	c.Hangup(t.Context())
	bye := l.want("BYE")
	if !strings.Contains(headerOf(bye, "Via"), "SIP/2.0/TCP") {
		t.Errorf("%q", bye)
	}
	var b strings.Builder
	for line := range strings.SplitSeq(bye, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "Via", "From", "To", "Call-ID", "CSeq":
			b.WriteString(line + "\r\n")
		}
	}
	l.write("SIP/2.0 200 OK\r\n" + b.String() + "Content-Length: 0\r\n\r\n")
	if err := ended(t, c); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

func TestGarbageOverTCP(t *testing.T) {
	h := newHouse(t, nil, ring)
	for _, x := range []struct{ say, answer string }{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\nINVITE", ""}, // passed over
		{strings.Repeat("x", tcpFrame+5000), "closed"},
		{"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nContent-Length: -1\r\n\r\n", "400"},
		{"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nContent-Length: 100000\r\n\r\n", "513"},
		{"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:x>\r\nCall-ID: large\r\nCSeq: 1 OPTIONS\r\nContent-Length: 65000\r\n\r\n" + strings.Repeat("x", 65000), "513"},
		{"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nContent-Length: 3\r\nl: 5\r\n\r\nabc", "400"},
	} {
		l := h.tcp()
		_, _ = io.WriteString(l.c, x.say)
		_ = l.c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		got, err := io.ReadAll(l.r)
		switch x.answer {
		case "":
			if len(got) > 0 {
				t.Errorf("%.20q got %q", x.say, got)
			}
		case "closed":
			if errors.Is(err, context.DeadlineExceeded) || len(got) > 0 {
				t.Errorf("%.20q got %q, %v", x.say, got, err)
			}
		default:
			if !strings.HasPrefix(string(got), "SIP/2.0 "+x.answer) {
				t.Errorf("%.20q got %q", x.say, got)
			}
		}
	}
}

func TestConnectionsOfAStrangerAreFew(t *testing.T) {
	h := newHouse(t, nil, ring)
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP(strangeIP.AsSlice())}}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for i := range maxConnsSource + 1 {
		c, err := from.Dial("tcp", h.a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_, _ = io.WriteString(c, "\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, err = io.ReadFull(c, make([]byte, 2))
		if (err == nil) != (i < maxConnsSource) {
			t.Errorf("connection %d: %v", i+1, err)
		}
	}
}

func TestACallOverIPv6(t *testing.T) {
	server := newHouseAt(t, netip.MustParseAddrPort("[::1]:0"), waitAnswer)
	client := newHouseAt(t, netip.MustParseAddrPort("[::1]:0"), waitAnswer)
	c, err := client.a.Dial(t.Context(), "800000001", DialOptions{From: "0551234567", Via: server.a.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	there := <-server.calls
	if there.Trunk() != "trunk" || there.From() != "+390551234567" || !there.Stream().Addr().Addr().Is6() {
		t.Errorf("%q %q %s", there.Trunk(), there.From(), there.Stream().Addr())
	}
	there.Hangup(t.Context())
	_ = ended(t, c)
}

// TestSoundOfAnotherFamily: who signals by IPv4 and has sound by IPv6, or the other way
// round, gets an address of ours that their sound can reach. That does not change while
// they talk.
func TestSoundOfAnotherFamily(t *testing.T) {
	six := netip.MustParseAddrPort("[::1]:0")
	h := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), waitAnswer, func(_ *house, c *Config) { c.Addrs = append(c.Addrs, six) })
	four, sixth := "c=IN IP4 127.0.0.1", "c=IN IP6 ::1"
	for _, sound := range []string{four, sixth} {
		for i, ip := range []netip.Addr{trunkIP, six.Addr()} {
			p := h.peer(ip)
			p.server = h.a.Addrs()[i]
			says := func(method, body string) {
				m := p.request(method, randomText(), "", body)
				p.send(strings.ReplaceAll(m, "@::1>", "@[::1]>"))
			}
			offer := p.offer("")
			from, to := strings.Index(offer, "c=IN"), strings.Index(offer, "\r\nt=")
			p.seq++
			says("INVITE", offer[:from]+sound+offer[to:])
			ok := p.expect("SIP/2.0 200")
			if body := bodyOf(ok); !strings.Contains(body, "\r\n"+sound+"\r\n") {
				t.Errorf("SIP from %s, %q is answered %q", ip, sound, body)
			}
			p.toTag = tagOf(ok, "To")
			says("ACK", "")
			other := map[string]string{four: sixth, sixth: four}[sound]
			p.seq++
			says("INVITE", offer[:from]+other+offer[to:])
			p.expect("SIP/2.0 488") // the call goes on as it was (RFC 3261 §14.2)
			says("ACK", "")
			p.seq++
			says("INVITE", offer[:from]+sound+offer[to:])
			p.expect("SIP/2.0 200")
			says("ACK", "")
			p.seq++
			says("BYE", "")
			p.expect("SIP/2.0 200")
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, c := range []Config{
		{},
		{Addrs: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:5060")}},
		{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Digests: []string{"ROT13"}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	h := newHouse(t, nil, ring)
	b, err := New(Config{Addrs: []netip.AddrPort{h.a.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(); err == nil {
		t.Error("a port in use was opened twice")
	}
}

// FuzzInspect throws bytes at the edge: nothing may break it, and what goes on to
// sipgo must be complete.
func FuzzInspect(f *testing.F) {
	for _, s := range []string{
		"OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKb\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
		"INVITE sip:x@y SIP/2.0\r\nv: SIP / 2.0 / UDP a ; branch = z9hG4bKb\r\nf: \"a\" <sip:a@b>;tag=1\r\nt: <sip:x@y>\r\ni: c\r\nCSeq: 1 INVITE\r\nm: *\r\n\r\nbody",
		"REGISTER sip:y SIP/2.0\r\nVia: SIP/2.0/UDP [::1]:5;rport;branch=z9hG4bKb\r\nFrom: sip:a@b;tag=1\r\nTo: sip:x@y\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\nAuthorization: Digest realm=\"pronto\", nonce=\"00\"\r\n\r\n",
		"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKb\r\n\r\n",
		"CANCEL sip:x@y SIP/2.0\r\nVia: x\r\n\r\n", "ACK sip: SIP/2.0\r\n:\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, folder := range []string{"sip", "sip-dialog", "uri", "stun", "rtp"} { // whatever comes to our port
		for _, seed := range seeds.Of(f, folder) {
			f.Add(seed)
		}
	}
	a, err := New(Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5060")}, Trunks: []Trunk{{Name: "t", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Phones: newMemory(), Handle: func(context.Context, *Call) {}})
	if err != nil {
		f.Fatal(err)
	}
	way := flow{local: netip.MustParseAddrPort("127.0.0.1:5060"), remote: netip.MustParseAddrPort("192.0.2.1:5060")}
	f.Fuzz(func(t *testing.T, data []byte) {
		way.write = func(b []byte) error {
			// What we answer must itself be SIP: nothing of the request may break
			// out of its line.
			m, ok := scan(b)
			if !ok || m.count("content-length") != 1 || m.count("server") != 1 || len(m.body) != 0 {
				t.Fatalf("%q was answered %q", data, b)
			}
			return nil
		}
		way.tcp = true // answers go where way.write says
		if !a.inspect(way, data) {
			return
		}
		msg, err := parse(a.parser, data)
		if err != nil || !complete(msg) {
			t.Fatalf("%q goes on", data)
		}
	})
}

// TestACarrierAsksWhileWeClose: it hears that its calls are not taken, and sends them
// to where they are.
func TestACarrierAsksWhileWeClose(t *testing.T) {
	var closing atomic.Bool
	synctest.Test(t, func(t *testing.T) {
		h := build(t, &wire{ends: map[netip.AddrPort]*wireEnd{}}, netip.MustParseAddrPort("127.0.0.1:0"), ring, func(_ *house, c *Config) { c.Closing = closing.Load })
		defer h.stop()
		p := h.peer(trunkIP)
		for want, on := range map[string]bool{"SIP/2.0 200": false, "SIP/2.0 503": true} {
			closing.Store(on)
			p.seq++
			p.send(p.request("OPTIONS", randomText(), "", ""))
			if m := p.expect(want); on != (headerOf(m, "Retry-After") != "") {
				t.Errorf("%q", m)
			}
		}
	})
}

// TestABurstOverOneConnection: a carrier's proxy sends everything over one
// connection, and all at once after it was away.
func TestABurstOverOneConnection(t *testing.T) {
	h := newHouse(t, nil, func(_ *house, ctx context.Context, c *Call) { _ = c.Refuse(ctx, 486, 0) })
	l := h.tcp()
	const calls = 500
	var all strings.Builder
	for i := range calls {
		l.seq, l.callID, l.tag = 1, fmt.Sprintf("burst-%d", i), fmt.Sprintf("t%d", i)
		all.WriteString(l.request("INVITE", randomText(), "", l.offer("")))
	}
	l.write(all.String())
	for n := 0; n < calls; {
		switch m := l.read(); {
		case m == "":
			t.Fatalf("%d of %d calls were answered", n, calls)
		case strings.HasPrefix(m, "SIP/2.0 486"):
			n++
		}
	}
}

// TestAMessageThatIsTooLarge: it is told so (RFC 3261 §21.5.7), as far as it says what it
// is; never with more than came, within the limits of strangers, and nothing of it stays.
func TestAMessageThatIsTooLarge(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.peer(strangeIP)
		padding := strings.Repeat("a=x\r\n", maxMessage/5+1)
		large := func(method, head string) string {
			p.seq++
			return p.request(method, randomText(), head, padding[:maxMessage-len(head)])
		}
		answered := func(m string) {
			h.t.Helper()
			p.send(m)
			got := p.expect("SIP/2.0 513 Message Too Large")
			if headerOf(got, "Call-ID") != p.callID || tagOf(got, "To") == "" || len(got) > 1000 {
				h.t.Errorf("%q", got)
			}
		}
		answered(large("INVITE", ""))
		answered(large("OPTIONS", "X-Long: "+strings.Repeat("x", maxHead-1000)+"\r\n"))
		for name, m := range map[string]string{
			"an ACK":             large("ACK", ""),
			"a head without end": large("INVITE", "X-Long: "+strings.Repeat("x", maxHead)+"\r\n"),
			"no Call-ID":         strings.Replace(large("INVITE", ""), "Call-ID", "X-ID", 1),
			"an answer":          p.answer(large("INVITE", ""), "200 OK", "a", "", padding),
			"garbage":            strings.Repeat("x", maxMessage+100),
			"a scanner":          large("OPTIONS", "User-Agent: friendly-scanner\r\n"),
		} {
			p.send(m)
			if got := p.within(200 * time.Millisecond); got != "" {
				h.t.Errorf("%s gets %q", name, got)
			}
		}
		if h.wire != nil { // where no time passes meanwhile
			n := 0
			for range 2 * strangerBurst {
				p.send(large("OPTIONS", ""))
			}
			for p.within(time.Second) != "" {
				n++
			}
			if n == 0 || n > strangerBurst {
				h.t.Errorf("of a flood %d are answered", n)
			}
		}
		h.a.mu.Lock()
		if len(h.a.invites) != 0 || len(h.a.dialogs) != 0 {
			h.t.Errorf("%d INVITEs, %d dialogs are remembered", len(h.a.invites), len(h.a.dialogs))
		}
		h.a.mu.Unlock()
		p = h.peer(trunkIP) // a carrier has no limit
		for range 2 * strangerBurst {
			answered(large("OPTIONS", ""))
		}
	})
}

// TestTheSystemKnowsTheWay: of several addresses of ours that seem as near to a peer, the
// one that the system sends from is said, or its answers go elsewhere (trap 16).
func TestTheSystemKnowsTheWay(t *testing.T) {
	at := netip.MustParseAddrPort
	remote := netip.MustParseAddr("127.0.0.9") // from 127.0.0.1
	for _, ours := range [][]netip.AddrPort{
		{at("127.0.0.2:1"), at("127.0.0.1:1")}, {at("127.0.0.1:1"), at("127.0.0.2:1")},
		{at("192.0.2.1:1"), at("127.0.0.3:1"), at("127.0.0.1:1"), at("192.0.2.2:1")},
	} {
		if l, ok := nearest(ours, remote); !ok || l != at("127.0.0.1:1") {
			t.Errorf("of %v it is %v, %t", ours, l, ok)
		}
	}
	if l, ok := nearest([]netip.AddrPort{at("192.0.2.1:1"), at("192.0.2.2:1"), at("127.0.0.3:1")}, remote); !ok || l != at("127.0.0.3:1") {
		t.Errorf("%v, %t", l, ok)
	}
	if l, ok := nearest([]netip.AddrPort{at("127.0.0.3:1"), at("127.0.0.2:1")}, remote); !ok || l != at("127.0.0.3:1") { // the system's is none of ours
		t.Errorf("%v, %t", l, ok)
	}
}
