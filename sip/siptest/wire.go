// Package siptest is a telephone network for tests: a wire in memory that loses
// and reorders by a seed, prompts that spell their own name, and telephones with
// ears that read them. Everything works inside a testing/synctest bubble.
package siptest

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pronto-desk/pronto/sip/media"
)

// queueLength is how many packets a socket keeps for a reader that is late:
// 20 s of sound, more than any test lets pass without reading.
const queueLength = 1024

// Wire is a datagram network made of channels. Set its faults before use.
type Wire struct {
	Delay   time.Duration // of every packet
	Loss    float64       // share of packets that never arrive, 0 to 1
	Reorder float64       // share of packets that arrive Late after their turn
	Late    time.Duration
	Spare   func(from, to netip.AddrPort, data []byte) bool // packets that no fault touches; nil: none

	seed  uint64
	mu    sync.Mutex // guards conns and cut
	conns map[netip.AddrPort]*Conn
	cut   map[netip.Addr]bool
}

// NewWire makes a network; equal seeds have equal faults.
func NewWire(seed uint64) *Wire {
	return &Wire{seed: seed, conns: map[netip.AddrPort]*Conn{}, cut: map[netip.Addr]bool{}}
}

// Conn is a socket on a Wire: a net.PacketConn for SIP, a media.Conn for sound.
type Conn struct {
	wire   *Wire
	addr   netip.AddrPort
	in     chan packet
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex // guards sent, deadline and expired
	sent     uint64
	deadline *time.Timer
	expired  chan struct{}
}

type packet struct {
	from netip.AddrPort
	data []byte
}

var (
	_ net.PacketConn = (*Conn)(nil)
	_ media.Conn     = (*Conn)(nil)
)

// Listen opens a socket; EADDRINUSE when there is one at that address.
func (w *Wire) Listen(addr netip.AddrPort) (*Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "wire", Err: syscall.EADDRINUSE}
	}
	c := &Conn{wire: w, addr: addr, in: make(chan packet, queueLength), closed: make(chan struct{}), expired: make(chan struct{})}
	w.conns[addr] = c
	return c, nil
}

// Cut takes a machine off the network: what is on its way to or from it is lost
// too. Mend brings it back.
func (w *Wire) Cut(machine netip.Addr)  { w.reach(machine, false) }
func (w *Wire) Mend(machine netip.Addr) { w.reach(machine, true) }

func (w *Wire) reach(machine netip.Addr, reached bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[machine] = !reached
}

// Media is Listen as media.Config wants it.
func (w *Wire) Media(addr netip.AddrPort) (media.Conn, error) { return w.Listen(addr) }

// chance is a number in [0,1) that depends on the seed, the sender and how many
// packets it has sent, and on nothing else: timers due at one instant fire in
// any order, so a shared source of random numbers would not repeat itself.
func (w *Wire) chance(from netip.AddrPort, n uint64, salt byte) float64 {
	h := fnv.New64a()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], w.seed)
	h.Write(b[:])
	binary.BigEndian.PutUint64(b[:], n)
	h.Write(b[:])
	h.Write([]byte(from.String()))
	h.Write([]byte{salt})
	x := h.Sum64()
	x ^= x >> 33 // FNV's high bits are weak for inputs that differ only at their end
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// send carries one packet, or does not.
func (w *Wire) send(from, to netip.AddrPort, data []byte, n uint64) {
	delay := w.Delay
	if w.Spare == nil || !w.Spare(from, to, data) {
		if w.Loss > 0 && w.chance(from, n, 'l') < w.Loss {
			return
		}
		if w.Reorder > 0 && w.chance(from, n, 'r') < w.Reorder {
			delay += w.Late
		}
	}
	p := packet{from, append([]byte(nil), data...)}
	if delay <= 0 {
		w.deliver(to, p)
		return
	}
	time.AfterFunc(delay, func() { w.deliver(to, p) })
}

func (w *Wire) deliver(to netip.AddrPort, p packet) {
	w.mu.Lock()
	c := w.conns[to]
	if w.cut[to.Addr()] || w.cut[p.from.Addr()] {
		c = nil
	}
	w.mu.Unlock()
	if c == nil {
		return // nobody there, as with UDP
	}
	select {
	case c.in <- p:
	default: // the reader's buffer is full, as with UDP
	}
}

// read waits for a packet, the deadline or the end.
func (c *Conn) read(b []byte) (int, netip.AddrPort, error) {
	for {
		c.mu.Lock()
		expired := c.expired
		c.mu.Unlock()
		select {
		case p := <-c.in:
			return copy(b, p.data), p.from, nil
		case <-c.closed:
			return 0, netip.AddrPort{}, net.ErrClosed
		case <-expired:
			c.mu.Lock()
			late := expired == c.expired
			c.mu.Unlock()
			if late {
				return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
			}
		}
	}
}

func (c *Conn) write(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	c.mu.Lock()
	c.sent++
	n := c.sent
	c.mu.Unlock()
	c.wire.send(c.addr, to, b, n)
	return len(b), nil
}

// ReadFromUDPAddrPort reads a packet.
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) { return c.read(b) }

// WriteToUDPAddrPort sends a packet.
func (c *Conn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) { return c.write(b, to) }

// ReadFrom reads a packet.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.read(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo sends a packet.
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, errors.New("wire: not a UDP address")
	}
	a := u.AddrPort()
	return c.write(b, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

// LocalAddr is the socket's address.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// SetReadDeadline ends reads at t; the zero time never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline != nil {
		c.deadline.Stop()
		c.deadline = nil
	}
	old := c.expired
	c.expired = make(chan struct{})
	select {
	case <-old:
	default:
		close(old) // a reader looks at the new deadline
	}
	if t.IsZero() {
		return nil
	}
	now := c.expired
	if wait := time.Until(t); wait > 0 {
		c.deadline = time.AfterFunc(wait, func() { close(now) })
	} else {
		close(now)
	}
	return nil
}

// SetWriteDeadline does nothing: writing never waits.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close frees the address and ends reads.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.wire.mu.Lock()
		delete(c.wire.conns, c.addr)
		c.wire.mu.Unlock()
		close(c.closed)
		c.mu.Lock()
		if c.deadline != nil {
			c.deadline.Stop()
		}
		c.mu.Unlock()
	})
	return nil
}

// Wait waits for something that a test expects, at most longest.
func wait(ctx context.Context, longest time.Duration, ch <-chan struct{}) error {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errors.New("waited in vain")
	}
}
