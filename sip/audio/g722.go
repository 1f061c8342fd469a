package audio

import "math"

// G.722 carries 7 kHz in two sub-bands of ITU-T G.722: six bits of an octet are
// the lower one, up to 4 kHz, two the upper one. The lower sub-band alone is
// telephone sound at 8 kHz, an octet a sample, so that is what the house makes
// and hears of it: without the filters that split the bands (§3.1, §4.4), hence
// without their delay. What is above 4 kHz is not heard, and what is sent has
// nothing there.
//
// Both directions have a memory: what an octet means depends on all before it. The
// two ends forget what made them differ (a packet that was lost) within some 50 ms,
// for all that is remembered leaks away (§3.5, §3.6).
const (
	g722Rest = 0xFD // the upper sub-band at rest, the lower one's smallest step
	g722Loud = 9 << 11
)

// g722Quiet is the octet of an upper sub-band that sinks to nothing and stays there,
// whatever it was: the smaller of its two positive steps (§6.2.2, INVQAH, LOGSCH).
const g722Quiet = 0b11 << 6

// Tables of the lower sub-band (ITU-T G.722 §6.2.1, blocks QUANTL, INVQBL, INVQAL,
// LOGSCL and SCALEL).
var (
	// Between which magnitudes of the difference, in 1/4096 of the step, a code stands.
	g722Bounds = [29]int32{35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
		1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919}
	// Which it stands for, in 1/32768 of the step: with all its six bits …
	g722Fine = func() (table [64]int32) {
		for i, v := range [30]int32{136, 432, 728, 1040, 1360, 1688, 2032, 2400, 2776, 3168, 3576, 4008, 4464, 4944, 5456, 6000, 6576,
			7192, 7856, 8576, 9360, 10232, 11192, 12280, 13512, 14984, 16704, 19008, 21904, 24808} {
			table[g722Code(i, false)], table[g722Code(i, true)] = v, -v
		}
		for code := range 4 { // nobody sends them
			table[code] = -136
		}
		return table
	}()
	// … and with four, which is what both ends go on from.
	g722Coarse = [16]int32{0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0}
	// By how much the step grows then, in 1/2048 of a doubling.
	g722Growth = [16]int32{-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60}
	// The step itself within a doubling.
	g722Steps = func() (table [32]int32) {
		for i := range table {
			table[i] = int32(math.Round(2048 * math.Exp2(float64(i)/32)))
		}
		return table
	}()
)

// g722Code is the code of the interval i, from 0.
func g722Code(i int, negative bool) byte {
	switch {
	case !negative:
		return byte(61 - i)
	case i < 2:
		return byte(63 - i)
	}
	return byte(33 - i)
}

// lowerBand is what both ends remember of the lower sub-band, in the units of 15 bit
// sound. The zero value is how they begin.
type lowerBand struct {
	scale  int32    // the logarithm of the step, 1/2048
	signal int32    // what is expected next,
	zeros  int32    // and the part of it that the zeros say
	poles  [2]int32 // coefficients of the predictor,
	zero   [6]int32
	heard  [2]int32 // what they are applied to, the last first,
	steps  [6]int32
	signs  [2]int32 // and what moves the poles
}

// step is how large a difference is now (SCALEL).
func (l *lowerBand) step() int32 {
	wide := g722Steps[l.scale>>6&31]
	if shift := 8 - l.scale>>11; shift >= 0 {
		return wide >> shift << 2
	} else {
		return wide << -shift << 2
	}
}

// follow goes on by one sample, whose code is known (§6.2.1: INVQAL, LOGSCL, PARREC,
// RECONS, UPPOL1, UPPOL2, UPZERO, FILTEP, FILTEZ, PREDIC).
func (l *lowerBand) follow(step int32, code byte) {
	coarse := code >> 2 & 15
	d := step * g722Coarse[coarse] >> 15
	l.scale = min(max(l.scale*127>>7+g722Growth[coarse], 0), g722Loud)
	heard, sign := saturate(l.signal+d), saturate(l.zeros+d)>>31

	second := saturate(l.poles[0] << 2)
	first := int32(-192)
	if sign == l.signs[0] {
		second, first = min(-second, math.MaxInt16), 192
	}
	second = second>>7 + l.poles[1]*32512>>15
	if sign == l.signs[1] {
		second += 128
	} else {
		second -= 128
	}
	second = min(max(second, -12288), 12288) // beyond, it would ring
	limit := 15360 - second
	l.poles[0], l.poles[1] = min(max(first+l.poles[0]*32640>>15, -limit), limit), second
	l.heard[1], l.heard[0] = l.heard[0], heard
	l.signs[1], l.signs[0] = l.signs[0], sign

	by := int32(128)
	if d == 0 {
		by = 0
	}
	l.zeros = 0
	next := d // each step moves on by one place
	for i, old := range l.steps {
		move := by
		if old>>31 != d>>31 {
			move = -by
		}
		l.zero[i] = saturate(move + l.zero[i]*32640>>15)
		l.steps[i] = next
		l.zeros += l.zero[i] * saturate(2*next) >> 15
		next = old
	}
	l.zeros = saturate(l.zeros)
	l.signal = saturate(saturate(l.poles[0]*saturate(2*l.heard[0])>>15+l.poles[1]*saturate(2*l.heard[1])>>15) + l.zeros)
}

// hear goes on by what was encoded by another.
func (l *lowerBand) hear(g722 []byte) {
	for _, b := range g722 {
		l.follow(l.step(), b)
	}
}

// saturate keeps a value within 16 bits.
func saturate(v int32) int32 { return min(max(v, math.MinInt16), math.MaxInt16) }

// G722Encoder makes G.722 of A-law. The zero value is ready. It does not allocate.
type G722Encoder struct{ lower lowerBand }

// Encode writes alaw as G.722 to dst, octet by octet, as far as both reach. dst may be
// alaw itself.
func (e *G722Encoder) Encode(dst, alaw []byte) {
	for i, a := range alaw[:min(len(dst), len(alaw))] {
		step := e.lower.step()
		d := saturate(int32(alawPCM[a])>>1 - e.lower.signal)
		negative := d < 0
		if negative {
			d = ^d
		}
		at, end := 0, len(g722Bounds) // the first bound that is above it
		for at < end {
			if mid := (at + end) / 2; d < g722Bounds[mid]*step>>12 {
				end = mid
			} else {
				at = mid + 1
			}
		}
		code := g722Code(at, negative)
		e.lower.follow(step, code)
		dst[i] = g722Quiet | code
	}
}

// Follow goes on to where a decoder is that stood where the encoder does, and has heard
// this.
func (e *G722Encoder) Follow(g722 []byte) { e.lower.hear(g722) }

// Settle writes silence to dst, and begins anew with it: whatever a decoder has heard
// before, from another encoder perhaps, it goes on without a click. Nothing but the
// smallest code brings the largest step to the smallest in 156 samples (LOGSCL), so dst
// should be a frame.
func (e *G722Encoder) Settle(dst []byte) {
	e.lower = lowerBand{}
	for i := range dst {
		e.lower.follow(e.lower.step(), g722Rest)
		dst[i] = g722Rest
	}
}

// G722Decoder makes A-law of G.722. The zero value is ready. It does not allocate.
type G722Decoder struct{ lower lowerBand }

// Decode writes g722 as A-law to dst, octet by octet, as far as both reach. dst may be
// g722 itself.
func (d *G722Decoder) Decode(dst, g722 []byte) {
	for i, b := range g722[:min(len(dst), len(g722))] {
		step := d.lower.step()
		pcm := d.lower.signal + step*g722Fine[b&63]>>15
		pcm = min(max(pcm, -1<<14), 1<<14-1) // LIMIT
		dst[i] = pcmALaw[uint16(int16(pcm<<1))]
		d.lower.follow(step, b)
	}
}

// Follow hears g722 without a sound.
func (d *G722Decoder) Follow(g722 []byte) { d.lower.hear(g722) }
