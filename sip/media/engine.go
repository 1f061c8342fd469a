package media

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What the engine's methods return beside the cause of a context that ended.
var (
	ErrNoPorts = errors.New("media: no free pair of RTP ports")
	ErrClosed  = errors.New("media: the stream is closed")
	ErrStopped = errors.New("media: the engine has stopped")
	ErrNoKeys  = errors.New("media: the peer did not agree to telephone-event")
	ErrBadKey  = errors.New("media: no such key")
	ErrBridged = errors.New("media: the stream is bridged already")
	ErrRunning = errors.New("media: the engine runs already")
)

// Why a stream is lost (WhenLost).
var (
	ErrSilent   = errors.New("media: no sound for a long time")
	ErrStumbled = errors.New("media: a fault of ours in this stream")
)

// The range of ports when the configuration names none: wide, so that a port
// is hard to guess (RTP bleed), and below Linux's ephemeral ports (32768…).
const (
	defaultMinPort = 20000
	defaultMaxPort = 24999
)

// portCooldown is how long a closed pair of ports stays unused: the far side of
// the call before may still be sending, and must not be heard in the next one.
const portCooldown = 5 * time.Second

// Conn is a datagram socket; *net.UDPConn is one. Writing must not block for
// longer than a copy into a buffer, and Close must end a read that waits.
type Conn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	LocalAddr() net.Addr
	Close() error
}

// Config is what an Engine needs.
type Config struct {
	// MinPort and MaxPort bound the UDP ports in use, both included; both 0:
	// 20000 to 24999. A stream takes an even port for RTP and the odd one above.
	MinPort, MaxPort uint16
	// Listen opens one socket; nil: a UDP socket of the system. An error that is
	// syscall.EADDRINUSE makes Open try another pair, any other ends it.
	Listen func(netip.AddrPort) (Conn, error)
	Log    *slog.Logger // nil: slog.Default()
}

// Engine owns the ports, the pacer and the counts of all streams.
type Engine struct {
	listen   func(netip.AddrPort) (Conn, error)
	sockets  *sockets // that listen opens; nil: others
	log      *slog.Logger
	min, max int       // first even port, last odd port
	epoch    time.Time // instant 0 of every time.Duration in this package

	pacer   pacer
	running atomic.Bool
	stopped chan struct{} // closed when Run returns

	mu      sync.Mutex // guards what follows
	streams map[*Stream]struct{}
	taken   map[int]bool          // even ports of open streams
	cooling map[int]time.Duration // even port: instant from which it may be used again
	past    counts                // of streams that are closed
}

// New returns an engine without streams. Its Run must be running for anything
// to be sent.
func New(c Config) *Engine {
	if c.MinPort == 0 && c.MaxPort == 0 {
		c.MinPort, c.MaxPort = defaultMinPort, defaultMaxPort
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	e := &Engine{
		listen:  c.Listen,
		log:     c.Log,
		min:     max(2, int(c.MinPort)+int(c.MinPort)&1),
		max:     int(c.MaxPort) - (int(c.MaxPort)+1)&1,
		epoch:   time.Now(),
		stopped: make(chan struct{}),
		streams: map[*Stream]struct{}{},
		taken:   map[int]bool{},
		cooling: map[int]time.Duration{},
	}
	if e.listen == nil {
		e.sockets = newSockets()
		e.listen = e.sockets.listen
	}
	e.pacer.wake = make(chan struct{}, 1)
	return e
}

func listenUDP(at netip.AddrPort) (Conn, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err // not c: a nil *net.UDPConn in an interface is not nil
	}
	return c, nil
}

// Crowded says whether so many streams are bridged or heard that one processor should not
// be all there is for them: whatever keeps it for a moment would keep them all.
func (e *Engine) Crowded() bool { return e.sockets != nil && e.sockets.crowded() }

// now is the time since the engine was made, on the monotonic clock.
func (e *Engine) now() time.Duration { return time.Since(e.epoch) }

// Run is the pacer: it sends what streams have to send, every 20 ms, and sleeps
// while there is no stream. It returns nil when ctx ends; streams stay open, but
// nothing is played any more.
func (e *Engine) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer close(e.stopped)
	e.pacer.run(ctx, e.now)
	return nil
}

// Open takes a pair of ports on the address ip, an even one for RTP and the
// odd one above for RTCP (RFC 3550 §11), chosen at random among the free, and
// begins to read from them. ErrNoPorts when the range has none left. The stream
// must be closed.
func (e *Engine) Open(ip netip.Addr) (*Stream, error) {
	pairs := (e.max - e.min + 1) / 2
	if pairs <= 0 {
		return nil, ErrNoPorts
	}
	start := int(random32() % uint32(pairs))
	for i := range pairs {
		port := e.min + 2*((start+i)%pairs)
		if !e.take(port) {
			continue
		}
		rtp, rtcp, err := e.listenPair(ip, port)
		if errors.Is(err, syscall.EADDRINUSE) { // somebody else's: leave it alone
			e.release(port, 0)
			continue
		}
		if err != nil {
			e.release(port, 0)
			return nil, fmt.Errorf("media: open %v: %w", netip.AddrPortFrom(ip, uint16(port)), err)
		}
		s, err := e.begin(ip, port, rtp, rtcp)
		if err != nil {
			rtp.Close()
			rtcp.Close()
			e.release(port, 0)
			return nil, fmt.Errorf("media: open %v: %w", netip.AddrPortFrom(ip, uint16(port)), err)
		}
		return s, nil
	}
	return nil, ErrNoPorts
}

func (e *Engine) listenPair(ip netip.Addr, port int) (rtp, rtcp Conn, err error) {
	rtp, err = e.listen(netip.AddrPortFrom(ip, uint16(port)))
	if err != nil {
		return nil, nil, err
	}
	rtcp, err = e.listen(netip.AddrPortFrom(ip, uint16(port)+1))
	if err != nil {
		rtp.Close()
		return nil, nil, err
	}
	return rtp, rtcp, nil
}

// take marks an even port as taken, if it is free and cool.
func (e *Engine) take(port int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.taken[port] {
		return false
	}
	if until, hot := e.cooling[port]; hot {
		if e.now() < until {
			return false
		}
		delete(e.cooling, port)
	}
	e.taken[port] = true
	return true
}

func (e *Engine) release(port int, cooldown time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.taken, port)
	if cooldown > 0 {
		e.cooling[port] = e.now() + cooldown
	}
}

// Stats is what the engine has done, for /metrics.
type Stats struct {
	Streams int               // open now
	Ports   int               // UDP ports in use now
	Cooling int               // pairs of ports that wait for their next use
	In, Out uint64            // RTP packets accepted and sent since the start
	Failed  uint64            // packets the socket refused, of those in Out
	Late    uint64            // frames never sent because the pacer was more than 100 ms behind
	Dropped map[string]uint64 // packets received and not used, by reason
}

// Stats counts over all streams, open and closed.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	total := e.past
	for s := range e.streams {
		total.add(s.counts())
	}
	for port, until := range e.cooling { // the only place that forgets ports nobody asks for
		if e.now() >= until {
			delete(e.cooling, port)
		}
	}
	return Stats{
		Streams: len(e.streams),
		Ports:   2 * len(e.taken),
		Cooling: len(e.cooling),
		In:      total.in,
		Out:     total.out,
		Failed:  total.failed,
		Late:    e.pacer.late.Load(),
		Dropped: total.dropped.byName(),
	}
}

// random32 is for what must not be guessed: ports, SSRC, first sequence number
// and timestamp (RFC 3550 §5.1, RTP bleed).
func random32() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return binary.BigEndian.Uint32(b[:])
}
