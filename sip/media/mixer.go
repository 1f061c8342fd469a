package media

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	// primeTicks is how long a mix listens before it is heard: as much as an ear keeps
	// back, so that the first frame it sends is full.
	primeTicks = earDepth / samplesPerFrame
	// primeLongest is how many turns before those it waits for somebody who says nothing:
	// their packets are late, or they send none.
	primeLongest = 3
)

// turnLongest is how long a turn of the pacer's may keep us waiting: it takes 20 ms,
// and a few before a mix is heard.
const turnLongest = time.Second

var errNoTurn = errors.New("media: the mix is not heard")

// port is one stream's place in a mix: it hears all the others. The pacer's turn of
// the stream is its clock, so a mix has no goroutine of its own. The sender's mu
// guards it.
type port struct {
	ears   []*ear // one for each of the others
	lost   []audio.Concealer
	frame  [samplesPerFrame]int32 // the next 20 ms: the sum of the others
	waited int                    // turns in which somebody had said nothing yet
	ticks  int                    // of priming, after those
	fades  bool                   // the next frame is the last
	begun  chan struct{}          // closed when it is heard
	begins bool                   // the next frame is the first
	done   chan struct{}          // closed when it is not any more
}

// Mix lets each of three or more streams hear the sum of the others, from when it
// returns until stop is called, which waits for the end. Like a clip it covers what
// is relayed to a stream: a Bridge may begin or end beneath it unheard, so that the
// change from relay to mix and back leaves no hole. It swells up and dies away
// within a frame, without a click. A clip that sounds covers it. Keys go where the sound
// goes. Mix costs three jitter buffers and as many encoders: two legs alone are
// relayed. ErrBridged when a stream is in a mix already, ErrClosed, ErrStopped.
func Mix(streams ...*Stream) (stop func(), err error) {
	wanted := map[*Stream][]*Stream{}
	for i, s := range streams {
		wanted[s] = append(slices.Clone(streams[:i]), streams[i+1:]...)
	}
	m := &mix{}
	if err := m.set(wanted); err != nil {
		return nil, err
	}
	return m.stop, nil
}

// mix is who hears a sum of whom.
type mix struct {
	hearing map[*Stream]*hearing
}

// hearing is one stream that hears others.
type hearing struct {
	*port
	undo []func() // the others are no longer listened to
}

// set lets each of some streams hear the sum of others, and those that heard
// something before and are not named hear what is relayed to them again. Who hears
// what they heard goes on unchanged. When it returns everything is heard, or
// nothing, with the error.
func (m *mix) set(wanted map[*Stream][]*Stream) error {
	m.drop(func(s *Stream) bool { return wanted[s] == nil })
	if m.hearing == nil {
		m.hearing = map[*Stream]*hearing{}
	}
	var begun []*Stream
	for s, others := range wanted {
		if m.hearing[s] != nil {
			continue
		}
		h, err := s.hears(others)
		if err != nil {
			m.stop()
			return err
		}
		m.hearing[s] = h
		begun = append(begun, s)
	}
	for _, s := range begun {
		if err := s.until(m.hearing[s].begun); err != nil {
			m.stop()
			return err
		}
	}
	return nil
}

// stop lets nobody hear anything of it; a second time does nothing.
func (m *mix) stop() { m.drop(func(*Stream) bool { return true }) }

// drop ends the hearing of some, and waits for the last frame of each.
func (m *mix) drop(who func(*Stream) bool) {
	for s, h := range m.hearing {
		if who(s) {
			s.out.fade(h.port)
		}
	}
	for s, h := range m.hearing {
		if who(s) {
			s.ends(h.port)
			h.over()
			delete(m.hearing, s)
		}
	}
}

// hears gives a stream the sum of others, of which it has yet to hear the first
// frame.
func (s *Stream) hears(others []*Stream) (*hearing, error) {
	h := &hearing{port: &port{begun: make(chan struct{}), done: make(chan struct{}), begins: true}}
	for _, other := range others {
		if err := other.hurry(true); err != nil {
			h.over()
			return nil, fmt.Errorf("media: mix: %w", err)
		}
		e := newEar()
		e.whose = s
		other.listen(e)
		h.undo = append(h.undo, func() { other.unlisten(e); _ = other.hurry(false) }) // a socket that is closed hurries no more
		h.ears = append(h.ears, e)
	}
	h.lost = make([]audio.Concealer, len(h.ears))
	if !s.out.mix(h.port) {
		h.over()
		return nil, ErrBridged
	}
	return h, nil
}

func (h *hearing) over() {
	for _, f := range h.undo {
		f()
	}
	h.undo = nil
}

// until waits for a turn of the pacer's, or for what makes waiting pointless.
func (s *Stream) until(turn <-chan struct{}) error {
	select {
	case <-turn:
		return nil
	case <-s.closed:
		return ErrClosed
	case <-s.engine.stopped:
		return ErrStopped
	case <-time.After(turnLongest):
		return errNoTurn
	}
}

// ends waits for the last frame of a port; a stream that has no turns any more has
// sent it.
func (s *Stream) ends(p *port) {
	if s.until(p.done) != nil {
		s.out.unmix(p)
	}
}

// mix gives a stream a port; false when it has one.
func (o *sender) mix(p *port) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.port != nil {
		return false
	}
	o.port = p
	return true
}

// fade lets the next frame of a port be its last.
func (o *sender) fade(p *port) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.fades = true
}

func (o *sender) unmix(p *port) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.port == p {
		o.port = nil
	}
}

// mixed says whether what is sent is a mix. The caller holds o.mu.
func (o *sender) mixed() bool { return o.port != nil && o.port.ticks >= primeTicks }

// tickMix is the turn of the stream's port: it takes the next 20 ms of the others.
// It returns it when they are to be sent; ahead: they cannot be yet. The caller holds
// o.mu.
func (o *sender) tickMix(ahead bool) *port {
	p := o.port
	if p == nil {
		return nil
	}
	all := p.pull()
	if p.ticks < primeTicks && !p.fades {
		if all || p.waited == primeLongest {
			p.ticks++
		} else {
			p.waited++
		}
		return nil
	}
	heard := p.ticks >= primeTicks
	if p.begins && (!ahead || p.fades) {
		p.begins = false
		p.ramp(0, 1)
		close(p.begun)
	}
	if p.fades {
		p.ramp(samplesPerFrame, -1)
		close(p.done)
		o.port = nil
	}
	if !heard {
		return nil
	}
	return p
}

// pull sums what the others have said; all: each of them has said something.
func (p *port) pull() (all bool) {
	all = true
	p.frame = [samplesPerFrame]int32{}
	var said [samplesPerFrame]byte
	for i, e := range p.ears {
		all = e.take(said[:]) && all
		p.lost[i].Mend(said[:], e.missing[:])
		for k, a := range said {
			p.frame[k] += int32(audio.ALawToPCM(a))
		}
	}
	return all
}

// ramp lets the frame swell up, or die away: its first sample is from/160 of what
// it was, and each one after by a 160th more or less.
func (p *port) ramp(from, by int32) {
	for k := range p.frame {
		p.frame[k] = p.frame[k] * (from + by*int32(k)) / samplesPerFrame
	}
}

// put writes the frame in a peer's law; what is louder than the law can say is as
// loud as it can.
func (p *port) put(payload []byte, law audio.Law) {
	for k, v := range p.frame {
		pcm := int16(max(-1<<15, min(1<<15-1, v)))
		if law == audio.PCMU {
			payload[k] = audio.ULaw(pcm)
		} else {
			payload[k] = audio.ALaw(pcm)
		}
	}
}
