package media

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// lostAfter is how long a peer that should be sending may send neither RTP nor
// RTCP before it counts as gone (TELEPHONY 2.9).
const lostAfter = 30 * time.Second

// Format is what an offer and its answer agreed on.
type Format struct {
	Law   audio.Law // of the sound, both ways
	PT    uint8     // its payload type in the peer's numbering
	KeyPT uint8     // telephone-event's, in the peer's numbering; 0: not agreed
	Noise bool      // the peer knows comfort noise, payload type 13 (RFC 3389)
}

// Peer is the other side as its session description and its signalling show it.
type Peer struct {
	RTP    netip.AddrPort // where it wants RTP; 0.0.0.0 or port 0: nowhere, a hold
	RTCP   netip.AddrPort // where it wants RTCP; zero: the port above RTP's
	Source netip.Addr     // where the SIP came from; counts when RTP is a private address
	// Send and Receive are our directions. The peer that holds us with sendonly
	// has Send false; inactive makes both false.
	Send, Receive bool
	// Crypto encrypts what is sent and what is expected; nil: in clear.
	Crypto *Crypto
}

// Stream is one leg's sound: a pair of sockets, what is heard on them and what is
// sent. Its methods may be called from any goroutine.
type Stream struct {
	engine *Engine
	ip     netip.Addr
	port   int
	rtp    Conn
	rtcp   Conn

	in       receiver
	out      sender
	keyboard keyboard
	comfort  comfort
	reports  reports

	joined  atomic.Pointer[Stream] // the leg our packets go to
	bridged atomic.Bool
	hold    hold
	ears    atomic.Pointer[[]*ear]   // who hears what arrives; replaced, never changed
	taps    atomic.Pointer[[]*track] // who records what arrives; likewise
	earsMu  sync.Mutex               // guards the replacing of both

	heard    atomic.Int64                // time.Duration: the last sign of life, or the last Agree
	expect   atomic.Bool                 // signs of life are due
	lost     atomic.Pointer[func(error)] // is called when there were none for too long
	gone     atomic.Bool                 // it was called
	stumbled atomic.Bool                 // it was logged
	ticks    int                         // the pacer's

	aim     sync.Mutex // held by Agree and narrow, which decide whom the socket is for
	life    sync.Mutex // guards paced, and that Close comes once
	paced   bool
	closed  chan struct{}
	readers sync.WaitGroup
}

// watched is a socket that brings what arrives by itself, until it is closed.
type watched interface {
	watch(handle func([]byte, netip.AddrPort)) error
}

// hurry tells the socket, if it makes a difference, that what arrives is waited
// for, or no longer.
func (s *Stream) hurry(on bool) error {
	if c, ok := s.rtp.(interface{ hurry(on bool) error }); ok {
		return c.hurry(on)
	}
	return nil
}

// narrow lets nobody but the peer in by the kernel's own hand, while the stream is bridged:
// once the latch is closed, and on the address that was agreed. The kernel then also looks
// for the way only once. widen, and each Agree, open the socket again.
func (s *Stream) narrow() {
	c, ok := s.rtp.(interface{ connect(netip.AddrPort) error })
	if !ok || !s.bridged.Load() {
		return
	}
	s.aim.Lock()
	defer s.aim.Unlock()
	s.in.mu.Lock()
	peer, settled := s.in.latch.named, s.in.latch.closed && s.in.latch.source == s.in.latch.named
	s.in.mu.Unlock()
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if settled && s.out.to == peer && !s.out.closed {
		_ = c.connect(peer) // if it cannot be, it is as before
	}
}

func (s *Stream) widen() {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.widen()
}

// begin makes the stream and starts the reading of its two sockets.
func (e *Engine) begin(ip netip.Addr, port int, rtp, rtcp Conn) (*Stream, error) {
	s := &Stream{
		engine:   e,
		ip:       ip,
		port:     port,
		rtp:      rtp,
		rtcp:     rtcp,
		keyboard: keyboard{pressed: make(chan struct{})},
		hold:     hold{changed: make(chan struct{})},
		closed:   make(chan struct{}),
	}
	s.out.conn = rtp
	s.out.ssrc, s.out.base, s.out.seq = random32(), random32(), firstNumber()
	s.out.fresh = true
	s.reports.name = canonicalName()
	for _, half := range []struct {
		conn   Conn
		handle func([]byte, netip.AddrPort)
	}{{rtp, s.receive}, {rtcp, s.receiveReport}} {
		if w, ok := half.conn.(watched); ok {
			if err := w.watch(half.handle); err != nil {
				return nil, err
			}
			continue
		}
		s.readers.Add(1)
		go s.read(half.conn, half.handle)
	}
	e.mu.Lock()
	e.streams[s] = struct{}{}
	e.mu.Unlock()
	return s, nil
}

// Addr is where the peer is to send its RTP; RTCP is one port above.
func (s *Stream) Addr() netip.AddrPort { return netip.AddrPortFrom(s.ip, uint16(s.port)) }

// Agree tells the stream what an offer and its answer came to, the first time and
// after each further one. It opens the latch: until two packets in a row come
// from one port of an allowed address, any port of it may be the peer's, but for a second
// that from which the peer has just moved away. From
// the first Agree on the stream sends a packet every 20 ms, silence at the least,
// unless p says that the peer holds; and after 30 s without a packet it is lost
// (WhenLost), unless it holds. With p.Crypto both directions are encrypted, RTCP too: what
// does not authenticate is dropped, and shows nobody's port. A key that takes over from
// another loses no packet: see rekeyLongest.
func (s *Stream) Agree(f Format, p Peer) {
	sends := p.Send && reachable(p.RTP)
	s.aim.Lock()
	s.in.mu.Lock()
	moved := s.in.latch.arm(p, s.engine.now())
	if moved || !s.in.receive {
		s.in.source.known = false // believe the first packet of the new far side
	}
	if f.KeyPT == 0 || moved {
		s.in.keys.way = 0 // another telephone, or other ways than before
	}
	s.in.agreed, s.in.format, s.in.receive = true, f, p.Receive
	if f.KeyPT != 0 {
		s.in.tones = nil
	} else if s.in.tones == nil {
		s.in.tones = new(audio.Tones)
	}
	s.in.encrypt(p.Crypto.theirs(), s.engine.now())
	s.in.mu.Unlock()

	s.out.mu.Lock()
	s.out.widen()
	if moved || f.Law != s.out.format.Law {
		s.out.wide = wideVoice{astray: s.out.begun, lost: s.out.begun}
	}
	s.out.format = f
	s.out.encrypt(p.Crypto.ours(), moved, s.engine.now())
	if moved {
		s.out.to = netip.AddrPortFrom(p.RTP.Addr().Unmap(), p.RTP.Port())
	}
	s.out.fresh = s.out.fresh || sends && !s.out.send
	s.out.send = sends
	s.out.mu.Unlock()
	s.aim.Unlock()

	if !p.Receive || moved {
		s.comfort.end()
	}
	s.hold.set(!sends)
	s.reports.aim(p)
	s.heard.Store(int64(s.engine.now()))
	s.expect.Store(p.Receive && sends)

	s.life.Lock()
	defer s.life.Unlock()
	if !s.paced && !s.isClosed() {
		s.paced = true
		s.engine.pacer.add(s)
	}
}

// read hands the datagrams of one socket to handle until the socket is closed.
func (s *Stream) read(c Conn, handle func([]byte, netip.AddrPort)) {
	defer s.readers.Done()
	b := make([]byte, maxPacket+1) // one more, to see what is too long
	failed := 0
	for {
		n, src, err := c.ReadFromUDPAddrPort(b)
		if err == nil {
			failed = 0
			handle(b[:n], netip.AddrPortFrom(src.Addr().Unmap(), src.Port()))
			continue
		}
		if s.isClosed() || errors.Is(err, net.ErrClosed) {
			return
		}
		// A passing trouble (an ICMP error, no memory) must not end the leg, nor
		// a lasting one spin: the watchdog ends the call.
		if failed++; failed > 3 {
			select {
			case <-time.After(audio.FrameTime):
			case <-s.closed:
				return
			}
		}
	}
}

// receive handles one RTP datagram, on the stream's reader.
func (s *Stream) receive(b []byte, src netip.AddrPort) {
	defer s.stumble()
	at := s.engine.now()
	a, from, to, why := s.in.take(b, src, at)
	if why != used {
		return
	}
	s.heard.Store(int64(at))
	if a.latched || a.rekeyed {
		s.out.follow(a, src)
		s.narrow()
	}
	switch a.kind {
	case kindNoise:
		s.comfort.begin(a, b[from])
	case kindSound:
		s.comfort.end()
		s.heed(a, b[from:to], at)
	}
	mixed := a.key != 0 && a.kind == kindKey && s.pass(uint8(strings.IndexRune(keyNames, a.key))) // a tone is heard in the mix
	if leg := s.joined.Load(); leg != nil {
		leg.out.forward(s, a, b, from, to, at)
		return
	}
	if a.key != 0 && !mixed {
		way := byEvent
		if a.kind == kindSound {
			way = byTone
		}
		s.press(a.key, way)
	}
}

// heed lets ears and taps hear the sound of a packet.
func (s *Stream) heed(a arrival, sound []byte, at time.Duration) {
	ears, tracks := s.ears.Load(), s.taps.Load()
	if ears == nil && tracks == nil {
		return
	}
	sound, law := s.in.plain(a, sound)
	if ears != nil {
		for _, e := range *ears {
			e.put(a.ssrc, a.ts, sound, law)
		}
	}
	if tracks != nil {
		for _, k := range *tracks {
			k.put(at, a.ssrc, a.ts, sound, law)
		}
	}
}

// tick is the stream's turn; the pacer takes it every 20 ms.
func (s *Stream) tick(at time.Duration) {
	defer s.stumble()
	if s.comfort.on.Load() {
		s.rest(at)
	}
	s.out.tick(at)
	if s.ticks++; s.ticks%reportTicks == 0 {
		s.report(at)
	}
	if s.expect.Load() && at-time.Duration(s.heard.Load()) >= lostAfter {
		s.lose(ErrSilent)
	}
}

// WhenLost has fn called, once and on a goroutine of its own, with ErrSilent when the peer
// has sent neither RTP nor RTCP for 30 s although we expect to hear it (time on hold does not
// count), or with ErrStumbled when a fault of ours keeps the stream from its work. It is to
// be said within the first of the 30 s.
func (s *Stream) WhenLost(fn func(why error)) { s.lost.Store(&fn) }

func (s *Stream) lose(why error) {
	if fn := s.lost.Load(); fn != nil && !s.gone.Swap(true) {
		go (*fn)(why)
	}
}

// stumble is deferred by what the goroutines of all streams do for this one: a panic there is
// one logged stream and the end of its call, never the process, nor another's sound.
func (s *Stream) stumble() {
	p := recover()
	if p == nil {
		return
	}
	if !s.stumbled.Swap(true) { // the next turn may well stumble too
		s.engine.log.Error("media: a stream stumbled", "port", s.port, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
	s.lose(ErrStumbled)
}

// Silent is for how long the peer has sent nothing at all.
func (s *Stream) Silent() time.Duration {
	return s.engine.now() - time.Duration(s.heard.Load())
}

// Play sounds a clip and returns when its last frame was sent, 20 ms before the
// peer has heard it out, so that another clip can follow without a gap. A clip
// that loops sounds until ctx ends. Play returns the cause of ctx's end,
// ErrClosed, or ErrStopped when the engine's Run ended. Before the first Agree it
// waits. While the peer holds, the clip passes unheard. A clip that begins while
// another sounds interrupts it.
func (s *Stream) Play(ctx context.Context, c audio.Clip) error {
	if len(c.ALaw) == 0 {
		return nil
	}
	clip := &sounding{alaw: c.ALaw, loop: c.Loop, done: make(chan struct{})}
	s.out.sound(clip)
	if err := s.await(ctx, clip.done); err != nil {
		s.out.hush(clip)
		return err
	}
	return nil
}

// Ask sounds a clip until a key comes, typed-ahead keys included, and waits some
// more after its end. It gives 0 when there was only silence, and otherwise what
// Play and Key do.
func (s *Stream) Ask(ctx context.Context, c audio.Clip, wait time.Duration) (rune, error) {
	clip := &sounding{alaw: c.ALaw, loop: c.Loop, done: make(chan struct{})}
	if len(c.ALaw) > 0 {
		s.out.sound(clip)
		defer s.out.hush(clip)
	} else {
		close(clip.done)
	}
	ended, stopped := clip.done, s.engine.stopped
	var silence <-chan time.Time
	for {
		key, pressed := s.keyboard.take()
		if pressed == nil {
			return key, nil
		}
		select {
		case <-pressed:
		case <-ended:
			after := time.NewTimer(wait)
			defer after.Stop()
			ended, stopped, silence = nil, nil, after.C
		case <-silence:
			return 0, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-s.closed:
			return 0, ErrClosed
		case <-stopped:
			return 0, ErrStopped
		}
	}
}

// await waits for done, or for what makes waiting for it pointless.
func (s *Stream) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.closed:
		return ErrClosed
	case <-s.engine.stopped:
		return ErrStopped
	}
}

// Start sounds a clip in the background, and returns what stops it. After stop
// has returned no more of it is sent; stopping twice does nothing.
func (s *Stream) Start(c audio.Clip) (stop func()) {
	if len(c.ALaw) == 0 {
		return func() {}
	}
	clip := &sounding{alaw: c.ALaw, loop: c.Loop, done: make(chan struct{})}
	s.out.sound(clip)
	return func() { s.out.hush(clip) }
}

func (s *Stream) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Close says goodbye to the peer's RTCP, closes the sockets and waits for the
// readers. What waits in the stream's methods returns ErrClosed. The ports rest
// for 5 s. Closing again does nothing.
func (s *Stream) Close() {
	s.life.Lock()
	if s.isClosed() {
		s.life.Unlock()
		return
	}
	close(s.closed)
	s.life.Unlock()

	e := s.engine
	e.pacer.remove(s)
	s.goodbye(e.now())
	s.out.mu.Lock()
	s.out.closed = true
	s.out.mu.Unlock()
	s.rtp.Close()
	s.rtcp.Close()
	s.readers.Wait()

	e.release(s.port, portCooldown)
	e.mu.Lock()
	delete(e.streams, s)
	e.past.add(s.counts())
	e.mu.Unlock()
	if !e.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	st := s.Stats()
	e.log.Debug("stream closed", "port", s.port, "in", st.In, "out", st.Out, "lost", st.Lost, "jitter", st.Jitter, "dropped", st.Dropped)
}

// Stats says what the stream has sent and heard so far.
func (s *Stream) Stats() StreamStats {
	c := s.counts()
	st := StreamStats{In: c.in, Out: c.out, Dropped: c.dropped.byName()}
	s.in.mu.Lock()
	wide := s.in.format.Law == audio.G722
	st.Lost, st.Jitter, st.Trip, st.Latched = s.in.source.lost(), duration(s.in.source.jitter>>4), s.in.trip, s.in.latch.closed
	st.Heard = Quality{Packets: s.in.source.expected(), Jitter: st.Jitter, Trip: st.Trip, Wide: wide}
	if st.Heard.Known() {
		st.Heard.Lost = share(st.Lost, st.Heard.Packets)
	}
	if t := s.in.told; t.known && st.Out > 0 {
		st.Told = Quality{Packets: st.Out, Lost: share(int64(t.lost), st.Out), Jitter: duration(min(t.jitter, samples(jitterLongest))), Trip: st.Trip, Wide: wide}
	}
	s.in.mu.Unlock()
	s.out.mu.Lock()
	st.Remote, st.SSRC = s.out.to, s.out.ssrc
	s.out.mu.Unlock()
	return st
}

func (s *Stream) counts() counts {
	s.in.mu.Lock()
	c := counts{in: s.in.packets, dropped: s.in.dropped}
	s.in.mu.Unlock()
	s.out.mu.Lock()
	c.add(counts{out: s.out.packets, failed: s.out.failed, dropped: s.out.dropped})
	s.out.mu.Unlock()
	return c
}

// listen adds an ear, unlisten removes it.
func (s *Stream) listen(e *ear) {
	s.earsMu.Lock()
	defer s.earsMu.Unlock()
	var ears []*ear
	if old := s.ears.Load(); old != nil {
		ears = slices.Clone(*old)
	}
	ears = append(ears, e)
	s.ears.Store(&ears)
}

func (s *Stream) unlisten(e *ear) {
	s.earsMu.Lock()
	defer s.earsMu.Unlock()
	ears := slices.DeleteFunc(slices.Clone(*s.ears.Load()), func(o *ear) bool { return o == e })
	if len(ears) == 0 {
		s.ears.Store(nil)
		return
	}
	s.ears.Store(&ears)
}
