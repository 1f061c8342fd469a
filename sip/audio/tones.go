package audio

import "math"

// The keys of a telephone by their two tones, Hz (ITU-T Q.23 §6).
var (
	lowTones  = [4]float64{697, 770, 852, 941}
	highTones = [4]float64{1209, 1336, 1477, 1633}
	toneKeys  = [4][4]rune{{'1', '2', '3', 'A'}, {'4', '5', '6', 'B'}, {'7', '8', '9', 'C'}, {'*', '0', '#', 'D'}}
)

// What is taken for a key, within what ITU-T Q.24 (annex A, the European
// administrations) wants taken: tones of 40 ms with 40 ms between them, up to
// 1.5 % off, one up to 6 dB stronger than the other.
const (
	toneBlock  = 102  // samples, 12.75 ms: three fit into the shortest tone
	toneHits   = 2    // blocks in a row that say the same key: it is pressed
	toneMisses = 3    // blocks in a row that do not: it is let go
	toneLevel  = 400  // amplitude of each tone, 16 bit: -35 dBm0
	toneShare  = 0.6  // of a block's energy: two tones 1.5 % off have 0.72 of it, a vowel is spread over its harmonics
	toneTwist  = 6.31 // 8 dB of power between the two
	toneAlone  = 6.31 // 8 dB of power above the others of their group
)

var toneCoefficients = func() (c [8]float64) {
	for i := range 4 {
		c[i] = 2 * math.Cos(2*math.Pi*lowTones[i]/Rate)
		c[4+i] = 2 * math.Cos(2*math.Pi*highTones[i]/Rate)
	}
	return c
}()

// Tones finds the keys that somebody presses in what is heard of them, for
// telephones that send tones and no events (Goertzel, American Mathematical
// Monthly 65, 1958). The zero value is ready. It does not allocate.
type Tones struct {
	block  [toneBlock]float64
	n      int
	last   rune // what the block before said
	hits   int
	down   rune // the key that is pressed; 0: none
	misses int
}

// Hear takes the next sound, any length, and returns the key that has begun to be
// pressed in it, 0 for none. It tells each press once, 26 to 38 ms after it began.
func (t *Tones) Hear(sound []byte, law Law) (pressed rune) {
	table := &alawPCM
	if law == PCMU {
		table = &ulawPCM
	}
	for _, b := range sound {
		t.block[t.n] = float64(table[b])
		if t.n++; t.n < toneBlock {
			continue
		}
		t.n = 0
		if key := t.judge(toneOf(&t.block)); key != 0 {
			pressed = key
		}
	}
	return pressed
}

// judge counts what the blocks say.
func (t *Tones) judge(key rune) (pressed rune) {
	if key == 0 || key != t.last {
		t.last, t.hits = key, 0
	}
	if key != 0 {
		t.hits++
	}
	switch {
	case key != 0 && key == t.down:
		t.misses = 0
	case key != 0 && t.hits == toneHits:
		t.down, t.misses = key, 0
		return key
	case t.down != 0:
		if t.misses++; t.misses == toneMisses {
			t.down, t.misses = 0, 0
		}
	}
	return 0
}

// toneOf is the key whose two tones a block is made of; 0: none.
func toneOf(block *[toneBlock]float64) rune {
	energy := 0.0
	for _, x := range block {
		energy += x * x
	}
	// A tone of amplitude a has the energy n·a²/2, and the power (n·a/2)² at its
	// own frequency.
	if energy < toneBlock*toneLevel*toneLevel {
		return 0
	}
	var power [8]float64
	for i, c := range toneCoefficients {
		var before, last float64
		for _, x := range block {
			before, last = last, x+c*last-before
		}
		power[i] = before*before + last*last - c*before*last
	}
	low, high := strongest(power[:4]), strongest(power[4:])
	if low < 0 || high < 0 {
		return 0
	}
	l, h := power[low], power[4+high]
	const weakest = (toneBlock * toneLevel / 2) * (toneBlock * toneLevel / 2)
	if l < weakest || h < weakest || l > toneTwist*h || h > toneTwist*l || l+h < toneShare*energy*toneBlock/2 {
		return 0
	}
	return toneKeys[low][high]
}

// strongest is the tone of a group that stands out of it; -1: none does.
func strongest(power []float64) int {
	best := 0
	for i, p := range power {
		if p > power[best] {
			best = i
		}
	}
	for i, p := range power {
		if i != best && p*toneAlone > power[best] {
			return -1
		}
	}
	return best
}
