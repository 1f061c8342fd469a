package media

import (
	"math"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// Quality is how sound arrived in one direction of a stream.
type Quality struct {
	Packets uint64        // that were sent this way, as far as the receiver can tell
	Lost    float64       // share of them that never came, 0 to 1
	Jitter  time.Duration // of arrivals, RFC 3550 §6.4.1
	Trip    time.Duration // there and back; 0: unknown
	Wide    bool          // it is G.722
}

// Known says whether there was anything to judge by.
func (q Quality) Known() bool { return q.Packets > 0 }

// Parameters of the E-model. ITU-T G.107 gives the rating of a line with the
// default values of all the others; ITU-T G.113 appendix I those of G.711 in a
// telephone that conceals losses, and what is nearest to the lower sub-band of G.722
// (0040).
const (
	ratingDefault = 93.2
	lossWorst     = 95 // what is left to lose: Ie,eff = Ie + (95 − Ie)·Ppl/(Ppl + Bpl) of G.107
	delayUnheard  = 100 * time.Millisecond

	lossRobust     = 25.1 // Bpl of G.711 with concealment, whose Ie is 0
	wideWorse      = 2    // Ie of ADPCM with five bits a sample (G.726 at 40 kbit/s): the lower sub-band has six
	wideLossRobust = 4.3  // Bpl of a codec that conceals nothing: a loss puts the memory of G.722 astray, too
)

// MOS estimates how good a talk in this direction sounds, from 1 (bad) to 4.5
// (as good as a telephone can), by the E-model: ITU-T G.107 (Idd and Ie,eff)
// with losses at random, no echo and no advantage, Annex B from
// rating to mean opinion score. What delays is half a round trip, a packet, and a
// jitter buffer of twice the jitter. Of G.722 it judges the telephone sound, which is
// all that a carrier, a recording and the house get of it.
func (q Quality) MOS() float64 {
	lost := 100 * min(1, max(0, q.Lost))
	worse, robust := 0.0, lossRobust
	if q.Wide {
		worse, robust = wideWorse, wideLossRobust
	}
	r := ratingDefault - delayed(q.Trip/2+audio.FrameTime+2*q.Jitter) - worse - (lossWorst-worse)*lost/(lost+robust)
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}

// delayed is the impairment Idd by the mouth-to-ear delay, ITU-T G.107.
func delayed(d time.Duration) float64 {
	if d <= delayUnheard {
		return 0
	}
	x := math.Log2(float64(d) / float64(delayUnheard))
	return 25 * (math.Pow(1+math.Pow(x, 6), 1.0/6) - 3*math.Pow(1+math.Pow(x/3, 6), 1.0/6) + 2)
}
