package audio

import "math"

// How what was lost is made up, in samples.
const (
	concealPast   = 512               // what is remembered; a power of two
	concealLow    = 120               // longest period that is looked for: a voice of 66 Hz
	concealHigh   = 40                // shortest: 200 Hz; a higher voice is met at a multiple of its period
	concealMatch  = 160               // over which two stretches are compared
	concealWhole  = 80                // 10 ms at full strength
	concealFades  = 480               // after 60 ms nothing is left: longer would be a robot's voice
	concealMixing = 32                // 4 ms in which what comes again takes over
	concealJoin   = concealHigh / 4   // over which a period's end is led to its beginning
	concealLeast  = 64 * concealMatch // energy below which there is nothing to repeat
)

// Concealer makes up sound that was lost on the way by repeating the last period
// of the voice, ever more softly, for 60 ms; after that a gap is silent (after
// ITU-T G.711 appendix I, without its delay). The zero value is ready. It does not
// allocate.
type Concealer struct {
	past   [concealPast]int16 // what was heard, a ring
	n      uint               // samples heard so far
	period [concealLow]int16  // what is repeated
	pitch  int                // its length
	gap    int                // samples since the last that came; 0: none is missing
	mixed  int                // samples mixed since the gap ended
}

// Mend fills the samples of A-law sound that are missing; all sound goes through
// it, in its order. missing is as long as alaw.
func (c *Concealer) Mend(alaw []byte, missing []bool) {
	for i, lost := range missing {
		x := ALawToPCM(alaw[i])
		switch {
		case lost:
			if c.gap == 0 {
				c.begin()
			}
			c.mixed = 0
			x = c.next()
			alaw[i] = ALaw(x)
		case c.gap > 0: // it comes again
			c.mixed++
			share := float64(c.mixed) / concealMixing
			x = int16(math.Round(share*float64(x) + (1-share)*float64(c.next())))
			alaw[i] = ALaw(x)
			if c.mixed == concealMixing {
				c.gap, c.mixed = 0, 0
			}
		}
		c.past[c.n%concealPast] = x
		c.n++
	}
}

// ago is the sample heard k samples ago, from 1.
func (c *Concealer) ago(k int) int16 { return c.past[(c.n-uint(k))%concealPast] }

// begin finds the period of what was heard last: the distance at which it is most
// like itself.
func (c *Concealer) begin() {
	c.pitch = concealHigh
	best := math.Inf(-1)
	for lag := concealHigh; lag <= concealLow; lag++ {
		var like, energy float64
		for k := 1; k <= concealMatch; k++ {
			x, y := float64(c.ago(k)), float64(c.ago(k+lag))
			like += x * y
			energy += y * y
		}
		if energy < concealLeast {
			continue
		}
		if like /= math.Sqrt(energy); like > best*1.001 { // of two alike the shorter
			best, c.pitch = like, lag
		}
	}
	for i := range c.pitch {
		c.period[i] = c.ago(c.pitch - i)
	}
	// Its end is led to what stood before its beginning, so that it can follow itself.
	for j := range concealJoin {
		share := float64(j+1) / (concealJoin + 1)
		end, before := float64(c.ago(concealJoin-j)), float64(c.ago(c.pitch+concealJoin-j))
		c.period[c.pitch-concealJoin+j] = int16(math.Round((1-share)*end + share*before))
	}
}

// next is the next sample that is made up.
func (c *Concealer) next() int16 {
	x := float64(c.period[c.gap%c.pitch])
	c.gap++
	switch {
	case c.gap >= concealFades:
		return 0
	case c.gap > concealWhole:
		x *= float64(concealFades-c.gap) / (concealFades - concealWhole)
	}
	return int16(math.Round(x))
}
