package audio

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pressing is how somebody presses keys.
type pressing struct {
	tone, pause time.Duration
	off         float64 // of both frequencies, a part of them
	low, high   float64 // amplitudes
	noise       float64 // amplitude of white noise
}

// sound is what is heard of it, from a random phase on.
func (p pressing) sound(random *rand.Rand, law Law, keys string) []byte {
	var pcm []int16
	add := func(d time.Duration, low, high float64) {
		a, b := random.Float64(), random.Float64()
		for i := range int(d * Rate / time.Second) {
			x := p.noise * (2*random.Float64() - 1)
			if low > 0 {
				at := float64(i) / Rate
				x += p.low*math.Sin(2*math.Pi*(low*(1+p.off)*at+a)) + p.high*math.Sin(2*math.Pi*(high*(1+p.off)*at+b))
			}
			pcm = append(pcm, int16(x))
		}
	}
	add(time.Duration(random.IntN(40))*time.Millisecond, 0, 0)
	for _, key := range keys {
		for l, row := range toneKeys {
			if h := slices.Index(row[:], key); h >= 0 {
				add(p.tone, lowTones[l], highTones[h])
			}
		}
		add(p.pause, 0, 0)
	}
	sound := make([]byte, len(pcm))
	for i, x := range pcm {
		sound[i] = ALaw(x)
		if law == PCMU {
			sound[i] = ULaw(x)
		}
	}
	return sound
}

// heard feeds sound in packets of 20 ms, some of which are lost.
func heard(sound []byte, law Law, lost func(packet int) bool) string {
	var t Tones
	keys := ""
	packet := 0
	for part := range slices.Chunk(sound, FrameBytes) {
		if packet++; lost != nil && lost(packet) {
			continue
		}
		if key := t.Hear(part, law); key != 0 {
			keys += string(key)
		}
	}
	return keys
}

const everyKey = "0123456789*#ABCD11#"

func TestTonesOfEveryKey(t *testing.T) {
	const loud, faint = 8000, 800 // -9 and -29 dBm0
	random := rand.New(rand.NewPCG(1, 2))
	for name, p := range map[string]pressing{
		"usual":                {tone: 100 * time.Millisecond, pause: 60 * time.Millisecond, low: loud, high: loud},
		"as short as may be":   {tone: 45 * time.Millisecond, pause: 45 * time.Millisecond, low: loud, high: loud},
		"long":                 {tone: 2 * time.Second, pause: 100 * time.Millisecond, low: loud, high: loud},
		"faint":                {tone: 80 * time.Millisecond, pause: 60 * time.Millisecond, low: faint, high: faint},
		"too low by 1.5 %":     {tone: 80 * time.Millisecond, pause: 60 * time.Millisecond, off: -0.015, low: loud, high: loud},
		"too high by 1.5 %":    {tone: 80 * time.Millisecond, pause: 60 * time.Millisecond, off: 0.015, low: loud, high: loud},
		"the low tone 6 dB up": {tone: 80 * time.Millisecond, pause: 60 * time.Millisecond, low: loud, high: loud / 2},
		"the high one 6 dB up": {tone: 80 * time.Millisecond, pause: 60 * time.Millisecond, low: loud / 2, high: loud},
		"in noise at 20 dB":    {tone: 80 * time.Millisecond, pause: 60 * time.Millisecond, low: loud, high: loud, noise: 0.17 * loud},
	} {
		for _, law := range []Law{PCMA, PCMU} {
			for range 20 { // phases
				if keys := heard(p.sound(random, law, everyKey), law, nil); keys != everyKey {
					t.Errorf("%s, %v: heard %q", name, law, keys)
					break
				}
			}
		}
	}
}

// TestALostPacketPressesNoKeyTwice: nothing is heard of it, so it makes no pause.
func TestALostPacketPressesNoKeyTwice(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	p := pressing{tone: 200 * time.Millisecond, pause: 100 * time.Millisecond, low: 6000, high: 6000}
	for range 50 {
		sound := p.sound(random, PCMA, everyKey)
		if keys := heard(sound, PCMA, func(n int) bool { return n%7 == 3 }); keys != everyKey {
			t.Fatalf("heard %q", keys)
		}
	}
}

// TestWhatIsNoKey: single tones, dial tones, wrong pairs, noise, silence.
func TestWhatIsNoKey(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	second := func(amplitude float64, tones ...float64) []byte {
		sound := make([]byte, Rate)
		for i := range sound {
			x := 0.0
			for _, hz := range tones {
				x += amplitude * math.Sin(2*math.Pi*hz*float64(i)/Rate)
			}
			sound[i] = ALaw(int16(x))
		}
		return sound
	}
	noise := make([]byte, 20*Rate)
	for i := range noise {
		noise[i] = byte(random.IntN(256))
	}
	for name, sound := range map[string][]byte{
		"silence":         Silence(1000),
		"noise":           noise,
		"425 Hz":          second(9000, 425),
		"one low tone":    second(9000, 770),
		"one high tone":   second(9000, 1336),
		"two low tones":   second(7000, 697, 852),
		"two high tones":  second(7000, 1209, 1477),
		"three tones":     second(6000, 697, 852, 1336),
		"4 % off":         second(8000, 770*1.04, 1336*1.04),
		"350 and 440":     second(8000, 350, 440),
		"too faint":       second(200, 770, 1336),
		"a fax's 1100":    second(9000, 1100),
		"a fax's 2100":    second(9000, 2100),
		"a chord of five": second(4000, 523, 659, 784, 1047, 1319),
	} {
		if keys := heard(sound, PCMA, nil); keys != "" {
			t.Errorf("%s is heard as %q", name, keys)
		}
	}
}

func TestTonesDoNotAllocate(t *testing.T) {
	var tones Tones
	sound := pressing{tone: 60 * time.Millisecond, pause: 60 * time.Millisecond, low: 8000, high: 8000}.sound(rand.New(rand.NewPCG(7, 8)), PCMA, "12")
	if n := testing.AllocsPerRun(100, func() { tones.Hear(sound, PCMA) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTones(b *testing.B) {
	var tones Tones
	sound := pressing{tone: 10 * time.Second, low: 8000, high: 8000}.sound(rand.New(rand.NewPCG(9, 10)), PCMA, "5")[:FrameBytes]
	for b.Loop() {
		tones.Hear(sound, PCMA)
	}
}
