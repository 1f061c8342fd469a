package media

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// comfortLeast is the level, in dB below overload, that comfort noise has at most:
// louder it would be sound, for who waits until a caller has stopped speaking too.
const comfortLeast = 50

// comfortFar is how far the timestamp of a further packet may be from where the noise
// stands, in samples: it changes the level, and begins nothing.
const comfortFar = 2 * samplesPerFrame

// comfort is the quiet noise that stands for what a peer does not send while nobody
// speaks (RFC 3389): from the packet that says so to the next sound.
type comfort struct {
	on atomic.Bool

	mu   sync.Mutex // guards what follows; a leaf
	ssrc uint32
	ts   uint32 // of the next sample that is heard
	loud int32  // the largest sample
	seed uint32
}

// begin takes a packet of comfort noise. Of its payload the level is looked at; the
// spectrum that may follow is not: nobody hears the difference at such a level.
func (n *comfort) begin(a arrival, level byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if off := int32(a.ts - n.ts); !n.on.Load() || a.ssrc != n.ssrc || off > comfortFar || off < -comfortFar {
		n.ssrc, n.ts = a.ssrc, a.ts
	}
	below := float64(max(level&0x7f, comfortLeast)) // RFC 3389 §3: the first bit is 0
	n.loud = int32(math.Sqrt(3) * (1 << 15) * math.Pow(10, -below/20))
	n.on.Store(true)
}

// end is the peer's sound again.
func (n *comfort) end() {
	if n.on.Load() {
		n.on.Store(false)
	}
}

// fill writes noise in a law to a frame; false: the peer does not rest.
func (n *comfort) fill(frame []byte, law audio.Law) bool {
	if !n.on.Load() {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range frame {
		n.seed = n.seed*1664525 + 1013904223 // any numbers that do not repeat for hours
		pcm := int16((int64(n.seed>>8)*int64(2*n.loud+1))>>24 - int64(n.loud))
		if law == audio.PCMU {
			frame[i] = audio.ULaw(pcm)
		} else {
			frame[i] = audio.ALaw(pcm)
		}
	}
	return true
}

// rest lets who listens to the stream hear the noise of one turn, as if the peer had
// sent it.
func (s *Stream) rest(at time.Duration) {
	ears, tracks := s.ears.Load(), s.taps.Load()
	if ears == nil && tracks == nil {
		return
	}
	var frame [samplesPerFrame]byte
	if !s.comfort.fill(frame[:], audio.PCMA) {
		return
	}
	s.comfort.mu.Lock()
	ssrc, ts := s.comfort.ssrc, s.comfort.ts
	s.comfort.ts += samplesPerFrame
	s.comfort.mu.Unlock()
	if ears != nil {
		for _, e := range *ears {
			e.put(ssrc, ts, frame[:], audio.PCMA)
		}
	}
	if tracks != nil {
		for _, k := range *tracks {
			k.put(at, ssrc, ts, frame[:], audio.PCMA)
		}
	}
}
