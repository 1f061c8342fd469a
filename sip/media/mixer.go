package media

import (
	"errors"
	"fmt"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// primeTicks is how long a mix listens before it is heard: as much as an ear keeps
// back, and a turn, so that the first frame it sends is full.
const primeTicks = earDepth/samplesPerFrame + 1

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
	ticks  int                    // of priming
	fades  bool                   // the next frame is the last
	begun  chan struct{}          // closed when it is heard
	begins bool                   // the next frame is the first
	done   chan struct{}          // closed when it is not any more
}

// Mix lets each of three or more streams hear the sum of the others, from when it
// returns until stop is called, which waits for the end. Like a clip it covers what
// is relayed to a stream: a Bridge may begin or end beneath it unheard, so that the
// change from relay to mix and back leaves no hole. It swells up and dies away
// within a frame, without a click. A clip that sounds covers it, and its keys reach
// nobody. Mix costs three jitter buffers and as many encoders: two legs alone are
// relayed. ErrBridged when a stream is in a mix already, ErrClosed, ErrStopped.
func Mix(streams ...*Stream) (stop func(), err error) {
	ports := make([]*port, len(streams))
	var undo []func()
	stop = func() {
		for i, s := range streams {
			if ports[i] != nil {
				s.out.fade(ports[i])
			}
		}
		for i, s := range streams {
			if ports[i] != nil {
				s.ends(ports[i])
			}
		}
		for _, f := range undo {
			f()
		}
		undo, ports = nil, make([]*port, len(streams))
	}
	for i, s := range streams {
		if err := s.hurry(true); err != nil {
			stop()
			return nil, fmt.Errorf("media: mix: %w", err)
		}
		undo = append(undo, func() { s.hurry(false) })
		p := &port{begun: make(chan struct{}), done: make(chan struct{}), begins: true}
		for j, other := range streams {
			if j != i {
				e := newEar()
				other.listen(e)
				undo = append(undo, func() { other.unlisten(e) })
				p.ears = append(p.ears, e)
			}
		}
		p.lost = make([]audio.Concealer, len(p.ears))
		if !s.out.mix(p) {
			stop()
			return nil, ErrBridged
		}
		ports[i] = p
	}
	for i, s := range streams {
		if err := s.until(ports[i].begun); err != nil {
			stop()
			return nil, err
		}
	}
	return stop, nil
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
	p.pull()
	if p.ticks < primeTicks && !p.fades {
		p.ticks++
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

// pull sums what the others have said.
func (p *port) pull() {
	p.frame = [samplesPerFrame]int32{}
	var said [samplesPerFrame]byte
	for i, e := range p.ears {
		e.take(said[:])
		p.lost[i].Mend(said[:], e.missing[:])
		for k, a := range said {
			p.frame[k] += int32(audio.ALawToPCM(a))
		}
	}
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
