package sip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/media"
)

// socket is what a test's telephone needs: a real UDP socket or one end of a
// wire inside a bubble.
type socket interface {
	net.PacketConn
	media.Conn
}

// wire is a network made of channels.
type wire struct {
	mu   sync.Mutex // guards ends and lose
	ends map[netip.AddrPort]*wireEnd
	lose func(from, to netip.AddrPort, b []byte) bool
}

type wireEnd struct {
	wire   *wire
	addr   netip.AddrPort
	in     chan datagram
	once   sync.Once
	closed chan struct{}
	limit  atomic.Pointer[time.Time]
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

func (w *wire) listen(at netip.AddrPort) (*wireEnd, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends[at] != nil {
		return nil, syscall.EADDRINUSE
	}
	e := &wireEnd{wire: w, addr: at, in: make(chan datagram, 4096), closed: make(chan struct{})}
	w.ends[at] = e
	return e, nil
}

func (e *wireEnd) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	var late <-chan time.Time
	if at := e.limit.Load(); at != nil && !at.IsZero() {
		t := time.NewTimer(time.Until(*at))
		defer t.Stop()
		late = t.C
	}
	select {
	case d := <-e.in:
		return copy(b, d.b), d.from, nil
	case <-late:
		return 0, netip.AddrPort{}, context.DeadlineExceeded
	case <-e.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (e *wireEnd) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	e.wire.mu.Lock()
	other, lose := e.wire.ends[to], e.wire.lose
	e.wire.mu.Unlock()
	if other == nil || lose != nil && lose(e.addr, to, b) {
		return len(b), nil
	}
	select {
	case other.in <- datagram{append([]byte(nil), b...), e.addr}:
	default:
	}
	return len(b), nil
}

func (e *wireEnd) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := e.ReadFromUDPAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

func (e *wireEnd) WriteTo(b []byte, to net.Addr) (int, error) {
	return e.WriteToUDPAddrPort(b, addrPort(to))
}

func (e *wireEnd) Close() error {
	e.once.Do(func() {
		close(e.closed)
		e.wire.mu.Lock()
		delete(e.wire.ends, e.addr)
		e.wire.mu.Unlock()
	})
	return nil
}

func (e *wireEnd) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(e.addr) }
func (e *wireEnd) SetDeadline(time.Time) error        { return nil }
func (e *wireEnd) SetWriteDeadline(time.Time) error   { return nil }
func (e *wireEnd) SetReadDeadline(at time.Time) error { e.limit.Store(&at); return nil }

// house is an agent under test and the network around it.
type house struct {
	t      *testing.T
	a      *Agent
	wire   *wire // nil: real sockets
	phones *memory
	calls  chan *Call
	errs   chan error
	joined chan media.Leg // the operator's leg, as soon as Ring has returned it
	keys   chan rune
	log    *strings.Builder
	logMu  sync.Mutex
	stop   func()
}

func (h *house) Write(b []byte) (int, error) {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return h.log.Write(b)
}

func (h *house) logged() string {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return h.log.String()
}

// both runs a test over real sockets and again inside a bubble, where waiting
// costs nothing.
func both(t *testing.T, handle func(h *house, ctx context.Context, c *Call), test func(h *house)) {
	t.Run("sockets", func(t *testing.T) { test(newHouse(t, nil, handle)) })
	t.Run("bubble", func(t *testing.T) { bubble(t, handle, test) })
}

func bubble(t *testing.T, handle func(h *house, ctx context.Context, c *Call), test func(h *house)) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, &wire{ends: map[netip.AddrPort]*wireEnd{}}, handle)
		defer h.stop()
		test(h)
	})
}

var (
	trunkNet  = netip.MustParsePrefix("127.0.0.0/26")
	trunkIP   = netip.MustParseAddr("127.0.0.1")
	strangeIP = netip.MustParseAddr("127.0.0.99") // loopback, but on no trunk
)

func newHouse(t *testing.T, w *wire, handle func(h *house, ctx context.Context, c *Call)) *house {
	t.Helper()
	return build(t, w, netip.MustParseAddrPort("127.0.0.1:0"), handle)
}

func newHouseAt(t *testing.T, at netip.AddrPort, handle func(h *house, ctx context.Context, c *Call)) *house {
	t.Helper()
	return build(t, nil, at, handle)
}

func build(t *testing.T, w *wire, at netip.AddrPort, handle func(h *house, ctx context.Context, c *Call), change ...func(*house, *Config)) *house {
	t.Helper()
	h := &house{t: t, wire: w, phones: newMemory(), calls: make(chan *Call, 64), errs: make(chan error, 8), joined: make(chan media.Leg, 8), keys: make(chan rune, 8), log: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(h, nil))
	mc := media.Config{MinPort: 41000, MaxPort: 44999, Log: log}
	c := Config{
		Trunks: []Trunk{{Name: "trunk", Networks: []netip.Prefix{trunkNet, netip.MustParsePrefix("::1/128")}}},
		Phones: h.phones, Log: log, Realm: "pronto",
		Handle: func(ctx context.Context, c *Call) {
			select {
			case h.calls <- c:
			default:
			}
			handle(h, ctx, c)
		},
	}
	if w != nil {
		mc.Listen = func(at netip.AddrPort) (media.Conn, error) { return w.listen(at) }
		if at.Port() == 0 {
			at = netip.AddrPortFrom(at.Addr(), 5060)
		}
		end, err := w.listen(at)
		if err != nil {
			t.Fatal(err)
		}
		c.Packet = []net.PacketConn{end}
	} else {
		c.Addrs = []netip.AddrPort{at}
	}
	for _, change := range change {
		change(h, &c)
	}
	c.Media = media.New(mc)
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Listen(); err != nil {
		t.Fatal(err)
	}
	h.a = a
	ctx, cancel := context.WithCancel(context.Background())
	sound, silence := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	var playing sync.WaitGroup
	playing.Go(func() { _ = c.Media.Run(sound) })
	h.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		silence()
		playing.Wait()
	})
	t.Cleanup(h.stop)
	return h
}

// peer is a telephone of plain text: it says what a test makes it say.
type peer struct {
	h      *house
	s      socket
	addr   netip.AddrPort
	server netip.AddrPort
	callID string
	seq    int
	tag    string // its own
	toTag  string // the server's
}

var peers atomic.Int64

// peer opens a telephone on an address.
func (h *house) peer(ip netip.Addr) *peer {
	h.t.Helper()
	p := &peer{h: h, server: h.a.Addr(), callID: fmt.Sprintf("call-%d-%s", peers.Add(1), randomText()), tag: "peer" + randomText()[:4]}
	if h.wire != nil {
		end, err := h.wire.listen(netip.AddrPortFrom(ip, uint16(6000+peers.Load()%30000)))
		if err != nil {
			h.t.Fatal(err)
		}
		p.s = end
	} else {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
		if err != nil {
			h.t.Fatal(err)
		}
		p.s = c
		h.t.Cleanup(func() { _ = c.Close() })
	}
	p.addr = addrPort(p.s.LocalAddr())
	return p
}

func (p *peer) send(text string) {
	p.h.t.Helper()
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	if _, err := p.s.WriteToUDPAddrPort([]byte(text), p.server); err != nil {
		p.h.t.Fatal(err)
	}
}

// within gives the next message that comes in time; "" when none does.
func (p *peer) within(d time.Duration) string {
	p.h.t.Helper()
	_ = p.s.SetReadDeadline(time.Now().Add(d))
	b := make([]byte, 65535)
	n, _, err := p.s.ReadFromUDPAddrPort(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// expect waits for a message whose first line starts like this; 100 Trying is
// passed over unless it is asked for.
func (p *peer) expect(start string) string {
	p.h.t.Helper()
	for {
		m := p.within(20 * time.Second) // a machine that is busy with other tests
		if strings.HasPrefix(m, start) {
			return m
		}
		if !strings.HasPrefix(m, "SIP/2.0 100") {
			p.h.t.Fatalf("expected %q, got %q", start, m)
		}
	}
}

func (p *peer) nothing(d time.Duration) {
	p.h.t.Helper()
	if m := p.within(d); m != "" {
		p.h.t.Fatalf("expected nothing, got %q", m)
	}
}

// offer is a description with the given direction line.
func (p *peer) offer(extra string) string {
	return fmt.Sprintf("v=0\r\no=p 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 8 0 96\r\na=rtpmap:96 telephone-event/8000\r\n%s", p.addr.Addr(), p.addr.Addr(), 19000, extra)
}

// request builds a request of the peer's dialog; head are further header lines.
func (p *peer) request(method, branch, head, body string) string {
	seq := p.seq
	to := ""
	if p.toTag != "" {
		to = ";tag=" + p.toTag
	}
	if body != "" && !strings.Contains(head, "Content-Type") {
		head += "Content-Type: application/sdp\r\n"
	}
	return fmt.Sprintf("%s sip:800000001@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\n"+
		"From: \"Mario\" <sip:+390551234567@%s>;tag=%s\r\nTo: <sip:800000001@%s>%s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:p@%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		method, p.server, p.addr, branch, p.addr.Addr(), p.tag, p.server.Addr(), to, p.callID, seq, method, p.addr, head, len(body), body)
}

// invite sends an INVITE and returns its branch.
func (p *peer) invite(head, body string) string {
	p.seq++
	branch := randomText()
	p.send(p.request("INVITE", branch, head, body))
	return branch
}

func (p *peer) ack(branch, body string) { p.send(p.request("ACK", branch, "", body)) }

// answered makes a call up to its ACK.
func (p *peer) answered() string {
	p.h.t.Helper()
	p.invite("", p.offer(""))
	ok := p.expect("SIP/2.0 200")
	p.toTag = tagOf(ok, "To")
	p.ack(randomText(), "")
	return ok
}

// bye hangs up and expects 200.
func (p *peer) bye() {
	p.h.t.Helper()
	p.seq++
	p.send(p.request("BYE", randomText(), "", ""))
	p.expect("SIP/2.0 200")
}

// reply answers a request with its own headers.
func (p *peer) reply(req, status, toTag, head, body string) {
	p.send(p.answer(req, status, toTag, head, body))
}

// answer is what reply says.
func (p *peer) answer(req, status, toTag, head, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %s\r\n", status)
	for line := range strings.SplitSeq(req, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "Via", "From", "Call-ID", "CSeq", "Record-Route":
			b.WriteString(line + "\r\n")
		case "To":
			if toTag != "" && !strings.Contains(line, "tag=") {
				line += ";tag=" + toTag
			}
			b.WriteString(line + "\r\n")
		}
	}
	if body != "" {
		head += "Content-Type: application/sdp\r\n"
	}
	fmt.Fprintf(&b, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	return b.String()
}

// headerOf gives the first value of a header in a message.
func headerOf(m, name string) string {
	for line := range strings.SplitSeq(m, "\r\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func tagOf(m, name string) string { return tag(headerOf(m, name)) }

func bodyOf(m string) string {
	_, body, _ := strings.Cut(m, "\r\n\r\n")
	return body
}

// memory is a Phones for tests: every extension of four digits exists, its
// password is "secret".
type memory struct {
	mu    sync.Mutex // guards what follows
	b     map[string]map[string]Binding
	err   error
	asked []bool // for secrets: whether anew
}

func newMemory() *memory { return &memory{b: map[string]map[string]Binding{}} }

func (m *memory) Secret(_ context.Context, extension string, again bool) (s Secret, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, again)
	if m.err != nil || len(extension) != 4 {
		return s, false, m.err
	}
	for _, b := range m.b[extension] {
		s.Places = append(s.Places, b.Source.Addr())
	}
	s.MD5, s.SHA256 = HA1(extension, "pronto", "secret")
	return s, true, nil
}

func (m *memory) Bind(_ context.Context, b Binding) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b[b.Extension] == nil {
		m.b[b.Extension] = map[string]Binding{}
	}
	m.b[b.Extension][b.Contact] = b
	return m.err
}

func (m *memory) Unbind(_ context.Context, extension, contact string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if contact == "*" {
		delete(m.b, extension)
	}
	delete(m.b[extension], contact)
	return m.err
}

func (m *memory) Bindings(_ context.Context, extension string, at time.Time) (list []Binding, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.b[extension] {
		if b.Expires.After(at) {
			list = append(list, b)
		}
	}
	return list, m.err
}

// phone registers a peer as a telephone without the ceremony.
func (h *house) phone(extension string) *peer {
	h.t.Helper()
	p := h.peer(strangeIP)
	_ = h.phones.Bind(context.Background(), Binding{Extension: extension, Contact: "sip:" + extension + "@" + p.addr.String(),
		Source: p.addr, Transport: "udp", Expires: time.Now().Add(time.Hour)})
	return p
}

type ctxt = context.Context
