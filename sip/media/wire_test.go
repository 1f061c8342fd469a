package media

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// wire is a network made of channels, for tests inside a bubble.
type wire struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*wireConn
}

func newWire() *wire { return &wire{conns: map[netip.AddrPort]*wireConn{}} }

type datagram struct {
	b    []byte
	from netip.AddrPort
}

type wireConn struct {
	wire   *wire
	addr   netip.AddrPort
	in     chan datagram
	once   sync.Once
	closed chan struct{}
}

func (w *wire) listen(at netip.AddrPort) (Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns[at] != nil {
		return nil, syscall.EADDRINUSE
	}
	c := &wireConn{wire: w, addr: at, in: make(chan datagram, 4096), closed: make(chan struct{})}
	w.conns[at] = c
	return c, nil
}

func (c *wireConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.in:
		return copy(b, d.b), d.from, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (c *wireConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.wire.deliver(c.addr, to, b)
	return len(b), nil
}

// deliver sends a datagram that claims to come from anywhere.
func (w *wire) deliver(from, to netip.AddrPort, b []byte) {
	w.mu.Lock()
	c := w.conns[to]
	w.mu.Unlock()
	if c == nil {
		return
	}
	select {
	case c.in <- datagram{append([]byte(nil), b...), from}:
	default:
	}
}

func (c *wireConn) SetReadDeadline(time.Time) error { return nil }
func (c *wireConn) LocalAddr() net.Addr             { return net.UDPAddrFromAddrPort(c.addr) }
func (c *wireConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.wire.mu.Lock()
		delete(c.wire.conns, c.addr)
		c.wire.mu.Unlock()
	})
	return nil
}

var (
	serverIP = netip.MustParseAddr("192.0.2.1")
	rossiIP  = netip.MustParseAddr("198.51.100.7")
	annaIP   = netip.MustParseAddr("203.0.113.9")
)

// start runs an engine on the wire until the test ends.
func start(t testing.TB, w *wire) *Engine {
	t.Helper()
	e := New(Config{MinPort: 20000, MaxPort: 20999, Listen: w.listen})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return e
}

func open(t testing.TB, e *Engine) *Stream {
	t.Helper()
	s, err := e.Open(serverIP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// packet is one that a phone received.
type packet struct {
	header
	payload []byte
	at      time.Duration // since the phone was made
	from    netip.AddrPort
}

// phone is a far end under the test's control.
type phone struct {
	t     testing.TB
	conn  Conn
	addr  netip.AddrPort
	ssrc  uint32
	seq   uint16
	ts    uint32
	pt    uint8
	keyPT uint8
	begun time.Time

	mu   sync.Mutex
	got  []packet
	done chan struct{}
}

func newPhone(t testing.TB, listen func(netip.AddrPort) (Conn, error), at netip.AddrPort, f Format) *phone {
	t.Helper()
	c, err := listen(at)
	if err != nil {
		t.Fatal(err)
	}
	p := &phone{t: t, conn: c, addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), ssrc: random32(), seq: uint16(random32()), ts: random32(), pt: f.PT, keyPT: f.KeyPT, begun: time.Now(), done: make(chan struct{})}
	go p.read()
	t.Cleanup(func() { c.Close(); <-p.done })
	return p
}

func (p *phone) read() {
	defer close(p.done)
	b := make([]byte, 2000)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		h, i, j, ok := parse(b[:n])
		if !ok {
			p.t.Errorf("phone got %x, which is not RTP", b[:n])
			continue
		}
		p.mu.Lock()
		p.got = append(p.got, packet{h, append([]byte(nil), b[i:j]...), time.Since(p.begun), from})
		p.mu.Unlock()
	}
}

// packets returns what was received so far.
func (p *phone) packets() []packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]packet(nil), p.got...)
}

func (p *phone) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = nil
}

func raw(h header, payload []byte) []byte {
	b := make([]byte, headerSize+len(payload))
	h.put(b)
	copy(b[headerSize:], payload)
	return b
}

// say sends one packet of sound and moves the clock on by its length.
func (p *phone) say(to netip.AddrPort, payload []byte) {
	p.conn.WriteToUDPAddrPort(raw(header{pt: p.pt, seq: p.seq, ts: p.ts, ssrc: p.ssrc}, payload), to)
	p.seq++
	p.ts += uint32(len(payload))
}

// talk says n different frames, one each 20 ms.
func (p *phone) talk(to netip.AddrPort, n int) [][]byte {
	var said [][]byte
	tick := time.NewTicker(audio.FrameTime)
	defer tick.Stop()
	for range n {
		<-tick.C
		f := frameOf(uint32(p.seq))
		said = append(said, f)
		p.say(to, f)
	}
	return said
}

// frameOf is a frame that spells a number.
func frameOf(n uint32) []byte {
	f := make([]byte, audio.FrameBytes)
	for i := range f {
		f[i] = byte(i)
	}
	binary.BigEndian.PutUint32(f, n)
	return f
}

// keyPackets is a key as RFC 4733 sends it: five packets and two repetitions.
func (p *phone) keyPackets(code uint8) [][]byte {
	var all [][]byte
	for i := range 7 {
		e := event{code: code, end: i >= 4, duration: uint16(160 * min(i+1, 5))}
		var b [4]byte
		e.put(b[:])
		all = append(all, raw(header{marker: i == 0, pt: p.keyPT, seq: p.seq, ts: p.ts, ssrc: p.ssrc}, b[:]))
		p.seq++
	}
	p.ts += 1120
	return all
}

func (p *phone) send(to netip.AddrPort, all ...[]byte) {
	for _, b := range all {
		p.conn.WriteToUDPAddrPort(b, to)
	}
}

func aLawFormat() Format { return Format{Law: audio.PCMA, PT: 8, KeyPT: 101} }
func uLawFormat() Format { return Format{Law: audio.PCMU, PT: 0, KeyPT: 96} }

func (p *phone) peer() Peer {
	return Peer{RTP: p.addr, Source: p.addr.Addr(), Send: true, Receive: true}
}
