package audio

import (
	"bytes"
	"math"
	"testing"
	"time"
)

func TestJoin(t *testing.T) {
	a := Clip{Name: "a", ALaw: []byte{1, 2}, Text: "Prema", Loop: true}
	beep := Clip{Name: "beep", ALaw: []byte{3}}
	b := Clip{Name: "b", ALaw: []byte{4}, Text: "uno."}
	got := Join("menu", a, beep, b)
	if got.Name != "menu" || got.Text != "Prema uno." || got.Loop || !bytes.Equal(got.ALaw, []byte{1, 2, 3, 4}) {
		t.Errorf("joined to %+v", got)
	}
	got.ALaw[0] = 9
	if a.ALaw[0] != 1 {
		t.Error("a joined clip shares the sound of its parts")
	}
	if empty := Join("nothing"); len(empty.ALaw) != 0 || empty.Text != "" {
		t.Errorf("nothing joined to %+v", empty)
	}
}

func TestDuration(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 0, 1: 125 * time.Microsecond, FrameBytes: FrameTime, 8000 * 3600: time.Hour} {
		if got := (Clip{ALaw: make([]byte, n)}).Duration(); got != want {
			t.Errorf("%d octets last %v, want %v", n, got, want)
		}
	}
}

func TestLevelOfTones(t *testing.T) {
	for _, db := range []float64{-6, -20, -40, -60} {
		for _, hz := range []int{50, 425, 1000, 3400} {
			if got := Level(Tone(hz, 1000, db)); math.Abs(got-db) > 0.6 {
				t.Errorf("a tone of %d Hz at %v dBFS measures %.2f", hz, db, got)
			}
		}
	}
	if got := Level(Tone(1000, 1000, 0)); math.Abs(got+3) > 0.3 {
		t.Errorf("the loudest sine measures %.2f, want about -3: it must not wrap around", got)
	}
	for name, sound := range map[string][]byte{"nothing": nil, "silence": Silence(100), "the other silence": bytes.Repeat([]byte{0x55}, 80)} {
		if got := Level(sound); got != -96 {
			t.Errorf("%s measures %v", name, got)
		}
	}
	if got := Level(bytes.Repeat([]byte{0xAA, 0x2A}, 400)); got > 0 || got < -0.2 {
		t.Errorf("a full square wave measures %v", got)
	}
}

func TestToneHasItsFrequencyAndSoftEdges(t *testing.T) {
	tone := Tone(425, 1000, -10)
	if len(tone) != Rate {
		t.Fatalf("a second has %d octets", len(tone))
	}
	crossings := 0
	for i := 1; i < len(tone); i++ {
		if (tone[i-1]&0x80 == 0) && (tone[i]&0x80 != 0) { // the sign bit of A-law
			crossings++
		}
	}
	if crossings < 424 || crossings > 426 {
		t.Errorf("425 Hz crosses zero upwards %d times a second", crossings)
	}
	for _, edge := range [][]byte{tone[:4], tone[len(tone)-4:]} {
		for _, a := range edge {
			if s := ALawToPCM(a); s > 1500 || s < -1500 {
				t.Errorf("an edge begins at %d", s)
			}
		}
	}
	for _, ms := range []int{0, -5} {
		if len(Tone(425, ms, -10)) != 0 || len(Silence(ms)) != 0 {
			t.Errorf("%d ms have sound", ms)
		}
	}
	if got := Silence(20); len(got) != FrameBytes || ALawToPCM(got[7]) != 8 {
		t.Errorf("20 ms of silence: %d octets of %d", len(got), ALawToPCM(got[7]))
	}
}
