package media

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// How a tap lays sound on its time. All in samples, which are octets.
const (
	tapRing  = 8192 // one second and a bit
	tapDelay = 1600 // 200 ms: a packet that comes later than that is missing from the recording
	tapOff   = 160  // 20 ms beside its place sound may stand; the two sides are then less than 40 ms apart
	tapCalm  = 100  // packets (2 s) of which the quickest tells whether a source's clock has run away
)

// tapAnew is how long packets come too late, and none in time, from a source that
// started anew; those that a network held back come all at once.
const tapAnew = 100 * time.Millisecond

// TapEvery is how often a tap hands its sound over: few records on a disk, and soon there.
const TapEvery = 100 * time.Millisecond

// Side is a channel of a tap.
type Side int

// The two sides of a talk.
const (
	Caller   Side = iota // left
	Operator             // right; one or, in a conference, several
	sides
)

// Tap listens to the two sides of a talk and puts them beside each other as they
// were spoken: every packet has its place by its RTP timestamp, and the place of a
// stream's timestamps is found by when its quickest packets come. What the sides
// receive from their telephones is heard, whatever is played to them and whoever
// they are joined with, so a tap lives on while legs come and go.
type Tap struct {
	engine *Engine
	start  time.Duration // the engine's time of sample 0

	mu     sync.Mutex // guards what follows; a track's own lock is taken under it
	next   int64      // the next sample to be handed over
	tracks []*track
	pauses []pause // the running one last
}

// pause is a stretch of which nothing is kept; until is 0 while it lasts.
type pause struct{ from, until int64 }

// Tap makes a tap whose time begins now.
func (e *Engine) Tap() *Tap { return &Tap{engine: e, start: e.now()} }

// Join lets the tap hear what a stream receives, as one of side, until leave.
// leave may be called twice, and after the stream was closed.
func (t *Tap) Join(side Side, s *Stream) (leave func(), err error) {
	if err := s.hurry(true); err != nil {
		return nil, fmt.Errorf("media: tap: %w", err)
	}
	t.mu.Lock()
	k := &track{side: side, from: t.start, next: t.next}
	k.deaf = len(t.pauses) > 0 && t.pauses[len(t.pauses)-1].until == 0
	k.clear()
	t.tracks = append(t.tracks, k)
	t.mu.Unlock()
	s.tap(k)
	return sync.OnceFunc(func() {
		s.untap(k)
		_ = s.hurry(false) // a socket that is closed hurries no more
		t.mu.Lock()
		defer t.mu.Unlock()
		k.until = max(t.at(), 1) // what came until then is still to be handed over
	}), nil
}

// Pause begins or ends a stretch of which nothing is kept, neither side's: silence
// stands for it, as long as it was.
func (t *Tap) Pause(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.pauses) - 1
	running := last >= 0 && t.pauses[last].until == 0
	switch at := t.at(); {
	case on && !running:
		t.pauses = append(t.pauses, pause{from: at})
	case !on && running:
		t.pauses[last].until = max(at, 1)
	}
	for _, k := range t.tracks {
		k.stopEars(on)
	}
}

// at is the present sample.
func (t *Tap) at() int64 { return sampleAt(t.engine.now() - t.start) }

func sampleAt(d time.Duration) int64 { return int64(d * audio.Rate / time.Second) }

// Run hands over what was said, 20 ms at a time and 200 ms later: two channels of
// A-law, the caller's octet before the operator's. What was lost is made up for
// 60 ms; what is missing longer is silence. It goes on until ctx ends, whose cause
// it returns once everything is handed over. fn should not wait; what it does not
// take in a second is silence.
func (t *Tap) Run(ctx context.Context, fn func(sound []byte)) error {
	tick := time.NewTicker(TapEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.hand(t.at()-tapDelay, fn)
		case <-ctx.Done():
			t.hand(t.at(), fn)
			return context.Cause(ctx)
		}
	}
}

// hand hands over the whole frames before upTo.
func (t *Tap) hand(upTo int64, fn func(sound []byte)) {
	var sound [int(sides) * samplesPerFrame]byte
	for t.mix(upTo, sound[:]) {
		fn(sound[:])
	}
}

// mix writes the next frame to sound; false: it is not over yet.
func (t *Tap) mix(upTo int64, sound []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next+samplesPerFrame > upTo {
		return false
	}
	kept := t.kept()
	var sum [sides][samplesPerFrame]int
	var frame [samplesPerFrame]byte
	for _, k := range t.tracks {
		k.read(frame[:], kept)
		for i, a := range frame {
			sum[k.side][i] += int(audio.ALawToPCM(a))
		}
	}
	t.next += samplesPerFrame
	t.tracks = slices.DeleteFunc(t.tracks, func(k *track) bool { return k.until > 0 && k.until <= t.next })
	for side := range sum {
		for i, s := range sum[side] {
			sound[int(sides)*i+side] = audio.ALaw(int16(min(max(s, -1<<15), 1<<15-1)))
		}
	}
	return true
}

// kept says whether the next frame is kept: it touches no pause. A pause that is
// over is forgotten.
func (t *Tap) kept() bool {
	t.pauses = slices.DeleteFunc(t.pauses, func(p pause) bool { return p.until != 0 && p.until <= t.next })
	return len(t.pauses) == 0 || t.pauses[0].from >= t.next+samplesPerFrame
}

// track is what one stream receives, on the time of its tap.
type track struct {
	side  Side
	until int64 // the tap's: the first sample that is nobody's any more; 0: it is still joined
	lost  audio.Concealer

	mu    sync.Mutex // guards what follows; taken by the stream's reader, under no other lock
	from  time.Duration
	ring  [tapRing]byte
	came  [tapRing]bool
	next  int64         // the next sample to be read
	known bool          // ssrc, ts and place hold
	ssrc  uint32        // the source's
	ts    uint32        // a timestamp of it …
	place int64         // … and the sample at which its sound stands
	late  time.Duration // since when every packet came too late; 0: they do not
	heard int           // packets since quick was reset
	deaf  bool          // a pause runs: what comes is not kept, wherever its timestamp puts it
	quick int64         // by how much the quickest of them came before its place
}

func (k *track) clear() {
	for i := range k.ring {
		k.ring[i], k.came[i] = audio.PCMA.Silence(), false
	}
}

// put enters the sound of one packet that came at an instant: sound that is not
// delayed on its way ends when it comes.
func (k *track) put(at time.Duration, ssrc, ts uint32, sound []byte, law audio.Law) {
	k.mu.Lock()
	defer k.mu.Unlock()
	begins := sampleAt(at-k.from) - int64(len(sound))
	place := k.place + int64(int32(ts-k.ts))
	early := place - begins
	switch {
	case !k.known || ssrc != k.ssrc || early > tapDelay || k.late != 0 && at-k.late > tapAnew:
		k.known, k.ssrc, place = true, ssrc, begins
		k.settle()
	case early > tapOff: // those before it were slow, and stand too late
		place = begins
		k.settle()
	case place < k.next && place < begins-tapDelay:
		if k.late == 0 {
			k.late = at
		}
		return
	default:
		place -= k.drift(early)
	}
	k.late, k.ts, k.place = 0, ts, place
	if k.deaf {
		return
	}
	for i, a := range sound {
		at := place + int64(i)
		if at < k.next || at >= k.next+tapRing { // its time is over; or nobody reads
			continue
		}
		if law != audio.PCMA {
			a = audio.ALaw(audio.ULawToPCM(a))
		}
		k.ring[at%tapRing], k.came[at%tapRing] = a, true
	}
}

func (k *track) stopEars(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deaf = on
}

// settle begins to watch anew how quick the packets are.
func (k *track) settle() { k.late, k.heard, k.quick = 0, 0, -tapRing }

// drift is how far the source's clock has run away, once that is sure: its
// quickest packet of two seconds was late too.
func (k *track) drift(early int64) (by int64) {
	k.quick = max(k.quick, early)
	if k.heard++; k.heard < tapCalm {
		return 0
	}
	if k.quick < -tapOff {
		by = k.quick
	}
	k.settle()
	return by
}

// read moves the next frame out of the ring, mended; one that is not kept is
// silence, and nothing of it is used to mend.
func (k *track) read(frame []byte, kept bool) {
	var missing [samplesPerFrame]bool
	k.mu.Lock()
	for i := range frame {
		at := (k.next + int64(i)) % tapRing
		frame[i], missing[i] = k.ring[at], !k.came[at]
		k.ring[at], k.came[at] = audio.PCMA.Silence(), false
	}
	k.next += int64(len(frame))
	k.mu.Unlock()
	if !kept {
		k.lost = audio.Concealer{}
		for i := range frame {
			frame[i] = audio.PCMA.Silence()
		}
		return
	}
	k.lost.Mend(frame, missing[:])
}

// tap adds a track to what hears the stream, untap removes it.
func (s *Stream) tap(k *track) {
	s.earsMu.Lock()
	defer s.earsMu.Unlock()
	var tracks []*track
	if old := s.taps.Load(); old != nil {
		tracks = slices.Clone(*old)
	}
	tracks = append(tracks, k)
	s.taps.Store(&tracks)
}

func (s *Stream) untap(k *track) {
	s.earsMu.Lock()
	defer s.earsMu.Unlock()
	tracks := slices.DeleteFunc(slices.Clone(*s.taps.Load()), func(o *track) bool { return o == k })
	if len(tracks) == 0 {
		s.taps.Store(nil)
		return
	}
	s.taps.Store(&tracks)
}
