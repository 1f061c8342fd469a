package audio

import (
	"bytes"
	"testing"
)

// Values from the tables of ITU-T G.711 (1a and 2a), scaled from 13 and 14 bits
// to 16: they stand here by hand, so that formula and table are not their own judge.
func TestDecodedValuesAreTheTables(t *testing.T) {
	for _, c := range []struct {
		law   Law
		octet byte
		want  int16
	}{
		{PCMA, 0xD5, 8}, {PCMA, 0x55, -8}, // decision value 0…1 of 4096
		{PCMA, 0xD4, 24}, {PCMA, 0xC5, 264}, {PCMA, 0xF5, 528},
		{PCMA, 0xAA, 32256}, {PCMA, 0x2A, -32256}, // 4032 of 4096
		{PCMA, 0x80, 5504}, {PCMA, 0x00, -5504},
		{PCMU, 0xFF, 0}, {PCMU, 0x7F, 0}, {PCMU, 0xFE, 8}, {PCMU, 0x7E, -8},
		{PCMU, 0x80, 32124}, {PCMU, 0x00, -32124}, // 8031 of 8192
		{PCMU, 0xEF, 132}, {PCMU, 0x8F, 16764},
	} {
		decode := ALawToPCM
		if c.law == PCMU {
			decode = ULawToPCM
		}
		if got := decode(c.octet); got != c.want {
			t.Errorf("%s %#02x is %d, want %d", c.law, c.octet, got, c.want)
		}
	}
}

func TestEncodingIsIdempotent(t *testing.T) {
	for i := range 256 {
		b := byte(i)
		if got := ALaw(ALawToPCM(b)); got != b {
			t.Errorf("A-law %#02x comes back as %#02x", b, got)
		}
		want := b
		if b == 0x7F { // the second zero of µ-law
			want = 0xFF
		}
		if got := ULaw(ULawToPCM(b)); got != want {
			t.Errorf("µ-law %#02x comes back as %#02x, want %#02x", b, got, want)
		}
	}
}

func TestEncodingTakesTheNearestValue(t *testing.T) {
	for _, law := range []struct {
		name   string
		encode func(int16) byte
		decode func(byte) int16
	}{{"A-law", ALaw, ALawToPCM}, {"µ-law", ULaw, ULawToPCM}} {
		far := func(s int, b byte) int { d := s - int(law.decode(b)); return max(d, -d) }
		for s := -1 << 15; s < 1<<15; s += 7 { // 7 is prime to every step of the laws
			got := law.encode(int16(s))
			for b := range 256 {
				if far(s, byte(b)) < far(s, got) {
					t.Fatalf("%s: %d became %#02x (%d), %#02x (%d) is nearer", law.name, s, got, law.decode(got), b, law.decode(byte(b)))
				}
			}
		}
		if law.encode(0) != map[string]byte{"A-law": 0xD5, "µ-law": 0xFF}[law.name] {
			t.Errorf("%s: zero became %#02x", law.name, law.encode(0))
		}
	}
}

func TestTranscode(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	there, back := make([]byte, 256), make([]byte, 256)
	Transcode(there, all, PCMA, PCMU)
	Transcode(back, there, PCMU, PCMA)
	for i := range all {
		// One step of the coarser law at this loudness; both laws have 16 steps per doubling.
		a, b := int(ALawToPCM(all[i])), int(ALawToPCM(back[i]))
		if d := max(a-b, b-a); d > max(16, max(a, -a)/16) {
			t.Errorf("A-law %d became %d over µ-law", a, b)
		}
		if there[i] != ULaw(ALawToPCM(all[i])) {
			t.Errorf("A-law %#02x became µ-law %#02x", all[i], there[i])
		}
	}
	Transcode(back, all, PCMA, PCMA)
	if !bytes.Equal(back, all) {
		t.Error("the same law is not a copy")
	}
	in := bytes.Clone(all)
	Transcode(in, in, PCMA, PCMU) // in place
	if !bytes.Equal(in, there) {
		t.Error("in place differs")
	}
	short := []byte{1, 2, 3}
	Transcode(short, []byte{0xD5}, PCMA, PCMU)
	if short[1] != 2 || short[2] != 3 {
		t.Error("wrote beyond the source")
	}
	if n := testing.AllocsPerRun(100, func() { Transcode(back, all, PCMA, PCMU) }); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

func BenchmarkTranscode(b *testing.B) {
	frame := make([]byte, FrameBytes)
	for b.Loop() {
		Transcode(frame, frame, PCMA, PCMU)
	}
}
