package audio

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What we make and hear is, bit by bit, what another codec makes and hears, at the
// level that went in.
func TestG722(t *testing.T) {
	heard, pcm := testdata(t, "g722_heard.g722"), testdata(t, "g722_heard.pcm")
	said, made := testdata(t, "g722_said.alaw"), testdata(t, "g722_said.g722")

	var e G722Encoder
	got := make([]byte, len(said))
	for at := 0; at < len(said); at += 80 { // in any pieces
		e.Encode(got[at:], said[at:min(at+80, len(said))])
	}
	for i := range got {
		if got[i] != made[i] {
			t.Fatalf("octet %d is encoded as %#02x, %#02x by the other", i, got[i], made[i])
		}
	}
	var d G722Decoder
	alaw := bytes.Clone(heard)
	d.Decode(alaw, alaw) // in place
	for i := range alaw {
		if want := ALaw(int16(binary.LittleEndian.Uint16(pcm[2*i:]))); alaw[i] != want {
			t.Fatalf("octet %d is heard as %#02x, %#02x by the other", i, alaw[i], want)
		}
	}
	// Sound of both bands, through the other's filters, and ours alone: as loud as it was.
	for name, x := range map[string]struct{ from, to int }{"tone": {400, 2000}, "speech": {2000, 6000}} {
		if before, after := Level(said[x.from:x.to]), Level(alaw[x.from:x.to]); math.Abs(before-after) > 0.5 {
			t.Errorf("%s of %.1f dBFS is heard at %.1f", name, before, after)
		}
		d, back := G722Decoder{}, bytes.Clone(made)
		d.Decode(back, back)
		if noise := apart(said[x.from:x.to], back[x.from:x.to]); noise > Level(said[x.from:x.to])-25 {
			t.Errorf("%s of %.1f dBFS comes back with noise of %.1f", name, Level(said[x.from:x.to]), noise)
		}
	}
	if n := testing.AllocsPerRun(100, func() { e.Encode(got, said[:160]); d.Decode(alaw, got[:160]); e.Settle(got[:160]) }); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

// apart is the level of the difference of two sounds, dBFS.
func apart(a, b []byte) float64 {
	sum := 0.0
	for i := range a {
		d := float64(ALawToPCM(a[i])) - float64(ALawToPCM(b[i]))
		sum += d * d
	}
	return 10 * math.Log10(sum/float64(len(a))/fullScale/fullScale+1e-12)
}

// loudest is the largest sample of some A-law.
func loudest(alaw []byte) (most int16) {
	for _, a := range alaw {
		most = max(most, ALawToPCM(a), -ALawToPCM(a))
	}
	return most
}

// A decoder that has heard one encoder goes on to another after a frame that settles
// it, be the one ever so loud and the other ever so quiet, without a click; and hears it
// as it is.
func TestG722Settles(t *testing.T) {
	loud, quiet := Tone(700, 200, -4), Tone(1000, 200, -40)
	for name, x := range map[string]struct{ before, after []byte }{"to quiet": {loud, quiet}, "to loud": {quiet, loud}, "to silence": {loud, Silence(200)}} {
		var one, other G722Encoder
		var d G722Decoder
		g722 := make([]byte, len(x.before))
		one.Encode(g722, x.before)
		d.Decode(g722, g722)
		frame := make([]byte, FrameBytes)
		other.Settle(frame)
		d.Decode(frame, frame)
		if most := loudest(frame[8:]); most > loudest(x.before)+100 { // it rings out what there was
			t.Errorf("%s: %d is heard as it settles", name, most)
		}
		if most := loudest(frame[80:]); most > 300 {
			t.Errorf("%s: %d is heard after 10 ms", name, most)
		}
		g722 = make([]byte, len(x.after))
		other.Encode(g722, x.after)
		d.Decode(g722, g722)
		if most := loudest(g722); float64(most) > 1.2*float64(loudest(x.after))+100 {
			t.Errorf("%s: %d is heard of %d", name, most, loudest(x.after))
		}
		if noise := apart(g722[800:], x.after[800:]); noise > max(Level(x.after[800:])-20, -60) {
			t.Errorf("%s: noise of %.1f dBFS in what follows", name, noise)
		}
	}
}

// Whatever comes, and whatever is missing of it, is heard no louder than sound can be,
// and what is right afterwards is heard as it is.
func FuzzG722(f *testing.F) {
	f.Add(testdata(f, "g722_heard.g722")[:480], 1)
	f.Add(bytes.Repeat([]byte{0}, 480), 160)
	f.Add(bytes.Repeat([]byte{32, 4}, 240), 320)
	f.Add(bytes.Repeat([]byte{32}, 480), 3)
	tone := Tone(1000, 400, -20)
	f.Fuzz(func(t *testing.T, g722 []byte, skip int) {
		var d G722Decoder
		alaw := make([]byte, len(g722))
		d.Decode(alaw, g722)
		var e G722Encoder
		right := make([]byte, len(tone))
		e.Encode(right, tone)
		right = right[max(0, min(skip, 800)):]
		d.Decode(right, right)
		last := right[len(right)-800:]
		if was, is := Level(tone[len(tone)-800:]), Level(last); math.Abs(was-is) > 1 {
			t.Errorf("%.1f dBFS are heard at %.1f a fifth of a second later", was, is)
		}
	})
}

func BenchmarkG722(b *testing.B) {
	speech := testdata(b, "g722_said.alaw")[2000:]
	frame := make([]byte, FrameBytes)
	b.Run("encode", func(b *testing.B) {
		var e G722Encoder
		b.ReportAllocs()
		for at := 0; b.Loop(); at = (at + FrameBytes) % (len(speech) - FrameBytes) {
			e.Encode(frame, speech[at:])
		}
	})
	b.Run("decode", func(b *testing.B) {
		g722 := testdata(b, "g722_said.g722")[2000:]
		var d G722Decoder
		b.ReportAllocs()
		for at := 0; b.Loop(); at = (at + FrameBytes) % (len(g722) - FrameBytes) {
			d.Decode(frame, g722[at:])
		}
	})
}
