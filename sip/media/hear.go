package media

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// The jitter buffer of an ear (TELEPHONY 2.9). All in samples, which are octets.
const (
	earRing    = 8192 // one second and a bit; divides 2^32, so timestamps may wrap
	earDepth   = 320  // 40 ms of sound kept back at the start, and after a source changes
	earDeepest = 960  // 120 ms: no telephone network in use jitters more for long
	earFar     = 8000 // a timestamp this far off is a source that started anew
	earLate    = 5    // as many packets in a row that come too late: the clock was stopped, not the network
	earCalm    = 100  // frames (2 s) over which the buffer is seen to be deeper than needed
)

// earBehind is how late Hear may be with its frames before it lets go of them.
const earBehind = time.Second

// ear turns what arrives, early, late, twice or not at all, into one frame of
// A-law every 20 ms.
type ear struct {
	whose *Stream // who hears by it, in a mix; nil: nobody's telephone

	mu     sync.Mutex // guards everything
	ring   [earRing]byte
	came   [earRing]bool // that sample of ring came, and was not read yet
	synced bool
	ssrc   uint32
	next   uint32 // timestamp of the next sample to be heard
	end    uint32 // timestamp after the newest sample
	depth  uint32 // how much is kept back
	hold   int    // frames of silence to be heard before going on, which deepens the buffer
	late   int    // packets in a row that came too late

	calm     int                   // frames since shallow was reset
	shallow  int32                 // least depth seen in them
	missing  [samplesPerFrame]bool // of the frame that take gave last
	fragment [maxPacket]byte
}

func newEar() *ear {
	e := &ear{depth: earDepth}
	e.clear()
	return e
}

func (e *ear) clear() {
	for i := range e.ring {
		e.ring[i], e.came[i] = audio.PCMA.Silence(), false
	}
}

// put enters the sound of one packet.
func (e *ear) put(ssrc, ts uint32, sound []byte, law audio.Law) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ahead := int32(ts - e.next)
	if !e.synced || ssrc != e.ssrc || ahead > earFar-int32(len(sound)) || ahead < -earFar || e.late >= earLate {
		e.clear()
		e.synced, e.ssrc, e.late, e.hold = true, ssrc, 0, 0
		e.next, e.end = ts-e.depth, ts
		e.settle()
	}
	past := int32(e.next - ts) // samples whose time is over
	if past >= int32(len(sound)) {
		e.late++
		if e.depth < earDeepest && e.hold == 0 {
			e.depth += samplesPerFrame
			e.hold++
			e.settle()
		}
		return
	}
	e.late = 0
	if law != audio.PCMA {
		audio.Transcode(e.fragment[:len(sound)], sound, law, audio.PCMA)
		sound = e.fragment[:len(sound)]
	}
	if past > 0 {
		sound, ts = sound[past:], e.next
	}
	at := int(ts % earRing)
	n := copy(e.ring[at:], sound)
	copy(e.ring[:], sound[n:])
	for i := range sound {
		e.came[(at+i)%earRing] = true
	}
	if end := ts + uint32(len(sound)); int32(end-e.end) > 0 {
		e.end = end
	}
}

// settle begins to watch anew how deep the buffer is.
func (e *ear) settle() { e.calm, e.shallow = 0, earRing }

// take writes the next 20 ms to frame and reports whether any of it lay in the
// buffer.
func (e *ear) take(frame []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.synced || e.hold > 0 {
		e.hold = max(0, e.hold-1)
		for i := range frame {
			frame[i], e.missing[i] = audio.PCMA.Silence(), e.synced
		}
		return e.synced
	}
	left := int32(e.end - e.next)
	e.shallow = min(e.shallow, left)
	if e.calm++; e.calm == earCalm {
		if e.shallow > int32(e.depth)+2*samplesPerFrame {
			e.read(frame) // a frame is let go: less delay, or a peer's clock that runs fast
			left -= samplesPerFrame
		}
		e.settle()
	}
	e.read(frame)
	return left > 0
}

// read moves a frame out of the ring and leaves silence behind.
func (e *ear) read(frame []byte) {
	for i := range frame {
		at := (e.next + uint32(i)) % earRing
		frame[i], e.missing[i] = e.ring[at], !e.came[at]
		e.ring[at], e.came[at] = audio.PCMA.Silence(), false
	}
	e.next += uint32(len(frame))
	if int32(e.end-e.next) < 0 {
		e.end = e.next
	}
}

// Hear calls fn every 20 ms with one frame of what arrives, 160 octets of A-law
// that are valid during the call: sound in its order, 40 to 120 ms after it came,
// silence for what is missing. It goes on until fn says false (nil), ctx ends
// (its cause; what has arrived by then is still handed over) or the stream is
// closed (ErrClosed, likewise). Several may hear at once. fn should return
// within 20 ms; delays are caught up, those of more than a second lose sound.
func (s *Stream) Hear(ctx context.Context, fn func(alaw []byte) bool) error {
	return s.hear(ctx, func(alaw []byte, _ []bool) bool { return fn(alaw) })
}

// Record is Hear for what is kept: what is missing for up to 60 ms is made up.
func (s *Stream) Record(ctx context.Context, fn func(alaw []byte) bool) error {
	var lost audio.Concealer
	return s.hear(ctx, func(alaw []byte, missing []bool) bool {
		lost.Mend(alaw, missing)
		return fn(alaw)
	})
}

func (s *Stream) hear(ctx context.Context, fn func(alaw []byte, missing []bool) bool) error {
	if err := s.hurry(true); err != nil {
		return fmt.Errorf("media: hear: %w", err)
	}
	defer s.hurry(false)
	e := newEar()
	s.listen(e)
	defer s.unlisten(e)

	var frame [audio.FrameBytes]byte
	timer := time.NewTimer(audio.FrameTime)
	defer timer.Stop()
	next := s.engine.now()
	for {
		next += audio.FrameTime
		wait := next - s.engine.now()
		if wait < -earBehind {
			next -= wait
			wait = 0
		}
		timer.Reset(max(0, wait))
		var ended error
		select {
		case <-timer.C:
		case <-ctx.Done():
			ended = context.Cause(ctx)
		case <-s.closed:
			ended = ErrClosed
		}
		if ended != nil {
			for e.take(frame[:]) && fn(frame[:], e.missing[:]) {
			}
			return ended
		}
		e.take(frame[:])
		if !fn(frame[:], e.missing[:]) {
			return nil
		}
	}
}
