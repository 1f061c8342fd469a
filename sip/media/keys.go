package media

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// keyNames are the keys of a telephone in the order of RFC 4733 §3.2, table 3.
const keyNames = "0123456789*#ABCD"

// typedAhead is how many keys wait to be asked for: more than any menu is deep.
const typedAhead = 32

// How we press keys: long enough for every receiver, RFC 4733 §2.6.3 wants 40 ms
// and 40 ms between at the least.
const (
	keyTime  = 100 * time.Millisecond
	keyPause = 60 * time.Millisecond

	keyUpdates = int(keyTime / audio.FrameTime)              // packets while the key is down, the last with the E bit
	keyEnds    = 3                                           // RFC 4733 §2.5.1.4: the end packet comes three times
	keyTicks   = int((keyTime + keyPause) / audio.FrameTime) // from one key to the next
	keyVolume  = 10                                          // −10 dBm0, RFC 4733 §2.3.3
)

// event is the payload of a telephone-event packet, RFC 4733 §2.3.
type event struct {
	code     uint8
	end      bool
	duration uint16 // samples
}

func parseEvent(b []byte) event {
	return event{code: b[0], end: b[1]&0x80 != 0, duration: binary.BigEndian.Uint16(b[2:])}
}

func (e event) put(b []byte) {
	b[0], b[1] = e.code, keyVolume
	if e.end {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], e.duration)
}

// keyMemory tells a key that was pressed from the repetitions of its packets.
type keyMemory struct {
	last [8]pressed // a ring: as many presses as reordering may mix up
	n    int
	way  way // how the first key came where telephone-event was agreed; 0: none has
}

// counts tells whether a key that came this way does: those that come as the first one
// came. Some telephones agree to telephone-event and press their keys by INFO, some
// press each by both.
func (m *keyMemory) counts(by way) bool {
	if m.way == 0 {
		m.way = by
	}
	return m.way == by
}

type pressed struct {
	ssrc, ts uint32
	code     uint8
	end      bool
	known    bool
}

// press returns the key when the packet is the first of an event, which is any
// packet of a timestamp that was not there yet: the first ones may be lost, all
// but one of the end packets too (RFC 4733 §2.5.1.4). Flash and other
// events that are not keys return 0.
func (m *keyMemory) press(h header, payload []byte) rune {
	e := parseEvent(payload)
	for i := range m.last {
		p := &m.last[i]
		if !p.known || p.ssrc != h.ssrc {
			continue
		}
		if p.ts == h.ts {
			p.end = p.end || e.end
			return 0
		}
		// RFC 4733 §2.5.1.3: an event of more than 8.19 s goes on in a new segment,
		// whose timestamp lies the longest duration further.
		if h.ts == p.ts+0xFFFF && p.code == e.code && !p.end && !h.marker {
			p.ts, p.end = h.ts, e.end
			return 0
		}
	}
	m.last[m.n%len(m.last)] = pressed{ssrc: h.ssrc, ts: h.ts, code: e.code, end: e.end, known: true}
	m.n++
	if int(e.code) >= len(keyNames) {
		return 0
	}
	return rune(keyNames[e.code])
}

// way is how a key came.
type way int

const (
	byEvent way = iota + 1 // telephone-event
	byTone                 // the two tones of a key, heard in the sound; not where telephone-event was agreed
	byInfo                 // a SIP INFO
)

// keyboard holds the keys that were pressed and not yet asked for.
type keyboard struct {
	mu      sync.Mutex // guards everything
	way     way        // the first without telephone-event, 0: none yet; a peer that uses both ways presses each key once
	keys    [typedAhead]rune
	n       int
	pressed chan struct{} // closed while n > 0
}

// press keeps a key; false when too many wait.
func (k *keyboard) press(key rune, by way) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.way == 0 && by != byEvent {
		k.way = by
	}
	if by != byEvent && by != k.way {
		return true
	}
	if k.n == len(k.keys) {
		return false
	}
	k.keys[k.n] = key
	k.n++
	if k.n == 1 {
		close(k.pressed)
	}
	return true
}

// take returns the oldest key, or the channel to wait on for it.
func (k *keyboard) take() (rune, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.n == 0 {
		return 0, k.pressed
	}
	key := k.keys[0]
	copy(k.keys[:], k.keys[1:k.n])
	k.n--
	if k.n == 0 {
		k.pressed = make(chan struct{})
	}
	return key, nil
}

// Press is a key, 0–9, *, # or A–D, that came by SIP INFO. It counts unless the peer
// has pressed keys by telephone-event before, or by their tones where that was not
// agreed. In a bridge it goes to the other leg, in a mix
// to all who hear this one.
func (s *Stream) Press(key rune) {
	code := strings.IndexRune(keyNames, key)
	if code < 0 {
		return
	}
	s.in.mu.Lock()
	counts := s.in.format.KeyPT == 0 || s.in.keys.counts(byInfo)
	s.in.mu.Unlock()
	if !counts {
		return
	}
	passed := s.pass(uint8(code))
	if leg := s.joined.Load(); leg != nil {
		leg.out.tell(uint8(code), false)
		return
	}
	if passed {
		return
	}
	s.press(key, byInfo)
}

// pass presses a key for everybody who hears the stream in a mix, which has its sound and
// not its packets; false: nobody does.
func (s *Stream) pass(code uint8) (passed bool) {
	ears := s.ears.Load()
	if ears == nil {
		return false
	}
	for _, e := range *ears {
		if e.whose != nil && e.whose.out.tell(code, true) {
			passed = true
		}
	}
	return passed
}

// tell presses a key of somebody whom the peer hears, in a mix that is heard or by what
// is relayed; false: they are heard the other way, and so is the key.
func (o *sender) tell(code uint8, mixed bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.mixed() != mixed:
		return false
	case o.format.KeyPT == 0:
		o.dropped[dropNoFormat]++
	case len(o.keying) >= typedAhead: // faster than they can be told
		o.dropped[dropKeys]++
	default:
		o.keying = append(o.keying, &keying{codes: []uint8{code}, done: make(chan struct{})})
	}
	return true
}

func (s *Stream) press(key rune, by way) {
	if !s.keyboard.press(key, by) {
		s.in.mu.Lock()
		s.in.dropped[dropKeys]++
		s.in.mu.Unlock()
	}
}

// Key returns the next key that was pressed, 0–9, *, # or A–D; one pressed
// before the call counts (at most 32 wait). It returns the cause of ctx's end, or
// ErrClosed. Keys pressed while the stream is bridged or heard in a mix go there
// instead.
func (s *Stream) Key(ctx context.Context) (rune, error) {
	for {
		key, pressed := s.keyboard.take()
		if pressed == nil {
			return key, nil
		}
		select {
		case <-pressed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-s.closed:
			return 0, ErrClosed
		}
	}
}

// Pressed returns a channel that is closed as long as a key waits for Key: at
// once if one was typed ahead, else when the next one is pressed. After taking
// keys ask for a new channel. It is for barge-in: stop the clip, then call Key.
func (s *Stream) Pressed() <-chan struct{} {
	s.keyboard.mu.Lock()
	defer s.keyboard.mu.Unlock()
	return s.keyboard.pressed
}

// keying is a row of keys on its way to the peer.
type keying struct {
	codes []uint8
	tick  int    // within the present key
	ts    uint32 // of the present key
	done  chan struct{}
}

// SendKeys presses keys (0–9, *, #, A–D) on our side, each 100 ms with 60 ms
// after it, and returns when the last is through. ErrNoKeys when the peer takes
// none, ErrBadKey for what is not a key. Other sound is silent meanwhile.
func (s *Stream) SendKeys(ctx context.Context, keys string) error {
	k := &keying{done: make(chan struct{})}
	for _, key := range strings.ToUpper(keys) {
		code := strings.IndexRune(keyNames, key)
		if code < 0 {
			return fmt.Errorf("%w: %q", ErrBadKey, key)
		}
		k.codes = append(k.codes, uint8(code))
	}
	if len(k.codes) == 0 {
		return nil
	}
	if !s.out.startKeys(k) {
		return ErrNoKeys
	}
	if err := s.await(ctx, k.done); err != nil {
		s.out.stopKeys(k)
		return err
	}
	return nil
}

// startKeys queues keys; false when the peer takes none.
func (o *sender) startKeys(k *keying) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.format.KeyPT == 0 {
		return false
	}
	o.keying = append(o.keying, k)
	return true
}

func (o *sender) stopKeys(k *keying) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, other := range o.keying {
		if other == k {
			o.keying = append(o.keying[:i], o.keying[i+1:]...)
			return
		}
	}
}

// tickKeys sends what the keys have to send in this tick; false when the tick is
// free for sound. The caller holds o.mu.
func (o *sender) tickKeys(at time.Duration) bool {
	if len(o.keying) == 0 {
		return false
	}
	k := o.keying[0]
	tick := k.tick
	k.tick++
	if tick == 0 {
		k.ts = o.clock(at) // RFC 4733 §2.2.1: the timestamp is the key's beginning, in all its packets
	}
	if k.tick == keyTicks {
		k.tick = 0
		if k.codes = k.codes[1:]; len(k.codes) == 0 {
			o.keying = o.keying[1:]
			close(k.done)
		}
		return false
	}
	if tick >= keyUpdates+keyEnds-1 {
		return false
	}
	down := min(tick+1, keyUpdates)
	e := event{code: k.codes[0], end: down == keyUpdates, duration: uint16(down * samplesPerFrame)}
	e.put(o.frame[headerSize:])
	o.live = false
	if o.ready() {
		o.write(o.frame[:headerSize+keySize], header{marker: tick == 0, pt: o.format.KeyPT, seq: o.seq + 1, ts: k.ts}, at)
		o.seq++
	}
	return true
}
