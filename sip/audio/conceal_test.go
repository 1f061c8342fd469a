package audio

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// voice is a second of a vowel: a row of harmonics of hz that swells and falls.
func voice(hz float64) []byte {
	out := make([]byte, Rate)
	for i := range out {
		at := float64(i) / Rate
		x := 0.0
		for h := 1; h <= 8; h++ {
			x += 3000 / float64(h) * math.Sin(2*math.Pi*hz*float64(h)*at+float64(h))
		}
		out[i] = ALaw(int16(x * (0.6 + 0.4*math.Sin(2*math.Pi*3*at))))
	}
	return out
}

// lossy is sound with packets lost, and which samples those are.
func lossy(sound []byte, lost func(packet int) bool) (holed []byte, missing []bool) {
	holed, missing = bytes.Clone(sound), make([]bool, len(sound))
	for i := range sound {
		if lost(i / FrameBytes) {
			holed[i], missing[i] = alawSilence, true
		}
	}
	return holed, missing
}

// deviation is the level of the difference of two sounds, as a part of the first.
func deviation(want, got []byte) float64 {
	var all, off float64
	for i := range want {
		x, y := float64(ALawToPCM(want[i])), float64(ALawToPCM(got[i]))
		all += x * x
		off += (x - y) * (x - y)
	}
	return math.Sqrt(off / all)
}

// steepest is the largest step between two samples.
func steepest(alaw []byte) (most int) {
	for i := 1; i < len(alaw); i++ {
		step := int(ALawToPCM(alaw[i])) - int(ALawToPCM(alaw[i-1]))
		most = max(most, step, -step)
	}
	return most
}

func TestALostPacketIsMadeUp(t *testing.T) {
	for _, hz := range []float64{85, 110, 150, 200, 240, 310} {
		sound := voice(hz)
		holed, missing := lossy(sound, func(packet int) bool { return packet%10 == 7 })
		silent := deviation(sound, holed)
		var c Concealer
		for at := 0; at < len(holed); at += FrameBytes {
			c.Mend(holed[at:at+FrameBytes], missing[at:at+FrameBytes])
		}
		mended := deviation(sound, holed)
		if mended > silent/2 {
			t.Errorf("a voice of %v Hz is off by %.2f, and by %.2f with holes", hz, mended, silent)
		}
		if got, most := steepest(holed), steepest(sound); got > most*3/2 {
			t.Errorf("a voice of %v Hz has a step of %d, its steepest was %d: a click", hz, got, most)
		}
	}
}

func TestALongGapFallsSilent(t *testing.T) {
	sound := voice(120)
	holed, missing := lossy(sound, func(packet int) bool { return packet >= 10 && packet < 40 })
	var c Concealer
	c.Mend(holed, missing)
	level := func(packet int) float64 { return Level(holed[packet*FrameBytes : (packet+1)*FrameBytes]) }
	if level(10) < -40 || level(12) > level(10)-3 {
		t.Errorf("the first 20 ms have %.0f dBFS, the third %.0f", level(10), level(12))
	}
	for packet := 13; packet < 40; packet++ {
		if level(packet) > -60 {
			t.Fatalf("after %d ms there is still %.0f dBFS", (packet-10)*20, level(packet))
		}
	}
	if !bytes.Equal(holed[41*FrameBytes:], sound[41*FrameBytes:]) {
		t.Error("what came after the gap is not as it came")
	}
}

func TestWhatCameIsLeftAsItIs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	sound := make([]byte, Rate)
	for i := range sound {
		sound[i] = byte(random.IntN(256))
	}
	got := bytes.Clone(sound)
	var c Concealer
	c.Mend(got, make([]bool, len(got)))
	if !bytes.Equal(got, sound) {
		t.Error("sound without a gap was changed")
	}
	var fresh Concealer // a gap before anything was heard
	hole := bytes.Repeat([]byte{alawSilence}, FrameBytes)
	all := make([]bool, FrameBytes)
	for i := range all {
		all[i] = true
	}
	fresh.Mend(hole, all)
	if Level(hole) > -60 {
		t.Errorf("out of nothing comes %.0f dBFS", Level(hole))
	}
	if n := testing.AllocsPerRun(10, func() { c.Mend(got[:FrameBytes], all) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkConcealALostPacket(b *testing.B) {
	sound := voice(120)
	lost := make([]bool, 2*FrameBytes)
	for i := range FrameBytes {
		lost[i] = true
	}
	var c Concealer
	c.Mend(sound, make([]bool, len(sound)))
	for b.Loop() {
		c.Mend(sound[:2*FrameBytes], lost)
	}
}
