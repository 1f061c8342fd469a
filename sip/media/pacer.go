package media

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	slotTime = time.Millisecond
	slots    = int64(audio.FrameTime / slotTime) // phases the streams are spread over, so that they do not all send at once

	// company is how many streams share a phase before the next one is opened:
	// their packets leave within half a millisecond.
	company = 128
	// slotStride is the way from one phase to the next that is opened: prime to
	// slots, so that it comes by all of them, far from each other.
	slotStride = 7

	// behindLongest is how late frames may still be sent. A peer's jitter buffer
	// bridges some 100 ms; what comes later is thrown away there, so it is not
	// sent, and the sound goes on where it was.
	behindLongest = 100 * time.Millisecond
)

// pacer gives every stream its turn each 20 ms. Slots are counted from the
// engine's epoch; the deadline of a slot is absolute, so a late turn does not
// move the next one (a ticker per stream lost 18 % of its frames under load).
type pacer struct {
	wake chan struct{} // capacity 1: the phases have changed
	late atomic.Uint64 // frames dropped because we were too far behind

	mu     sync.Mutex // guards phases and count; held while a phase is served
	phases [slots][]*Stream
	count  int
}

// add puts a stream into the first phase that has room, else into the emptiest:
// waking up costs as much as sending several packets, so a few streams share a
// phase, and many are spread.
func (p *pacer) add(s *Stream) {
	p.mu.Lock()
	best := int64(0)
	for i := range slots {
		phase := i * slotStride % slots
		if len(p.phases[phase]) < company {
			best = phase
			break
		}
		if len(p.phases[phase]) < len(p.phases[best]) {
			best = phase
		}
	}
	p.phases[best] = append(p.phases[best], s)
	p.count++
	opened := len(p.phases[best]) == 1
	p.mu.Unlock()
	if !opened { // it wakes for the others in any case
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// remove takes a stream out; when it returns, the pacer is not in the stream
// and will not come back. Removing twice does nothing.
func (p *pacer) remove(s *Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.phases {
		if j := slices.Index(p.phases[i], s); j >= 0 {
			p.phases[i] = slices.Delete(p.phases[i], j, j+1)
			p.count--
			return
		}
	}
}

// next returns the first slot from n on that has streams, and how many streams
// there are in all; 0: none.
func (p *pacer) next(n int64) (slot int64, count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := n; k < n+slots; k++ {
		if len(p.phases[k%slots]) > 0 {
			return k, p.count
		}
	}
	return n, 0
}

func (p *pacer) serve(slot int64, at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.phases[slot%slots] {
		s.tick(at)
	}
}

func (p *pacer) run(ctx context.Context, now func() time.Duration) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	idle := true
	var n int64 // the next slot to serve
	for ctx.Err() == nil {
		slot, count := p.next(n)
		if count == 0 {
			idle = true
			select {
			case <-p.wake:
			case <-ctx.Done():
			}
			continue
		}
		if idle { // slots that passed in our sleep are nobody's loss
			idle = false
			n = int64(now()/slotTime) + 1
			continue
		}
		at := time.Duration(slot) * slotTime
		behind := now() - at
		if behind > behindLongest {
			caughtUp := int64(now() / slotTime)
			p.late.Add(uint64((caughtUp-n)/slots) * uint64(count))
			n = caughtUp
			continue
		}
		if behind < 0 {
			timer.Reset(-behind)
			select {
			case <-timer.C:
			case <-p.wake: // somebody whose turn may be earlier, but not in the past
				n = int64(now()/slotTime) + 1
			case <-ctx.Done():
			}
			continue
		}
		punctual()
		p.serve(slot, at)
		n = slot + 1
	}
}
