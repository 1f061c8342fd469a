package audio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

// chunk is one chunk of a WAV file with its padding.
func chunk(id string, body []byte) []byte {
	out := binary.LittleEndian.AppendUint32([]byte(id), uint32(len(body)))
	out = append(out, body...)
	if len(body)%2 == 1 {
		out = append(out, 0)
	}
	return out
}

// format is the body of a "fmt " chunk.
func format(tag uint16, channels, rate, bits int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, tag)
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(rate*channels*bits/8))
	b = le.AppendUint16(b, uint16(channels*bits/8))
	return le.AppendUint16(b, uint16(bits))
}

func wav(chunks ...[]byte) []byte {
	body := append([]byte("WAVE"), bytes.Join(chunks, nil)...)
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

// sine is a tone at any rate in a wanted encoding.
func sine(f wavFormat, hz, seconds float64, amplitude float64) []byte {
	var out []byte
	for i := range int(seconds * float64(f.rate)) {
		s := clamp(amplitude * math.Sin(2*math.Pi*hz*float64(i)/float64(f.rate)))
		for range f.channels {
			switch {
			case f.tag == formatALaw:
				out = append(out, ALaw(s))
			case f.tag == formatULaw:
				out = append(out, ULaw(s))
			case f.bits == 8:
				out = append(out, byte(s>>8)+128)
			default:
				out = binary.LittleEndian.AppendUint16(out, uint16(s))
			}
		}
	}
	return out
}

// power is the level of one frequency in the sound, in dBFS of its RMS (Goertzel).
func power(alaw []byte, hz float64) float64 {
	var re, im float64
	for i, a := range alaw {
		s := float64(ALawToPCM(a)) / fullScale
		re += s * math.Cos(2*math.Pi*hz*float64(i)/Rate)
		im += s * math.Sin(2*math.Pi*hz*float64(i)/Rate)
	}
	return 20 * math.Log10(math.Sqrt2*math.Hypot(re, im)/float64(len(alaw))+1e-12)
}

func TestReadWAVKeepsToneAndLevel(t *testing.T) {
	for _, rate := range []int{4000, 6000, 7999, 8000, 8001, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 47999, 48000} {
		for _, f := range []wavFormat{
			{formatPCM, 1, rate, 16}, {formatPCM, 2, rate, 16}, {formatPCM, 1, rate, 8}, {formatPCM, 2, rate, 8},
			{formatALaw, 1, rate, 8}, {formatALaw, 2, rate, 8}, {formatULaw, 1, rate, 8}, {formatULaw, 2, rate, 8},
		} {
			in := wav(chunk("fmt ", format(f.tag, f.channels, f.rate, f.bits)), chunk("data", sine(f, 1000, 0.5, 8000)))
			out, err := ReadWAV(bytes.NewReader(in))
			if err != nil {
				t.Fatalf("%+v: %v", f, err)
			}
			if d := len(out) - Rate/2; d < -2 || d > 2 {
				t.Errorf("%+v: half a second became %d octets", f, len(out))
			}
			want := 20 * math.Log10(8000/math.Sqrt2/fullScale)
			if got := power(out, 1000); math.Abs(got-want) > 0.3 {
				t.Errorf("%+v: 1000 Hz came out at %.2f dBFS, went in at %.2f", f, got, want)
			}
			if got := Level(out); math.Abs(got-want) > 0.5 {
				t.Errorf("%+v: all of it is %.2f dBFS, the tone was %.2f", f, got, want)
			}
		}
	}
}

// What telephones cannot carry must vanish, not come back as another tone.
func TestReadWAVDoesNotAlias(t *testing.T) {
	for _, hz := range []float64{4600, 6000, 7000, 9000, 11000, 15000} {
		f := wavFormat{formatPCM, 1, 48000, 16}
		out, err := ReadWAV(bytes.NewReader(wav(chunk("fmt ", format(f.tag, 1, f.rate, 16)), chunk("data", sine(f, hz, 0.5, 20000)))))
		if err != nil {
			t.Fatal(err)
		}
		if got := Level(out[400 : len(out)-400]); got > -55 { // the ends hold the click of an abrupt start
			t.Errorf("%v Hz is heard at %.1f dBFS", hz, got)
		}
	}
}

func TestReadWAVTakesUglyFiles(t *testing.T) {
	sound := []byte{0xD5, 0x10, 0x20, 0x30, 0x40}
	alaw := chunk("fmt ", format(formatALaw, 1, 8000, 8))
	long := append(format(formatALaw, 1, 8000, 8), 0, 0)
	ext := append(format(formatExtensible, 1, 8000, 8), 22, 0, 8, 0, 4, 0, 0, 0)
	ext = append(ext, 6, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71)
	endless := chunk("data", sound)[:8+len(sound)]
	binary.LittleEndian.PutUint32(endless[4:], math.MaxUint32)
	streamed := wav(alaw, endless)
	binary.LittleEndian.PutUint32(streamed[4:], 0)
	for name, in := range map[string][]byte{
		"plain":                 wav(alaw, chunk("data", sound)),
		"format with extension": wav(chunk("fmt ", long), chunk("fact", []byte{5, 0, 0, 0}), chunk("data", sound)),
		"extensible":            wav(chunk("fmt ", ext), chunk("data", sound)),
		"longer format":         wav(chunk("fmt ", append(bytes.Clone(ext), 1, 2, 3)), chunk("data", sound)),
		"chunks before":         wav(chunk("JUNK", make([]byte, 27)), alaw, chunk("LIST", []byte("INFO odd")), chunk("data", sound)),
		"chunks after":          wav(alaw, chunk("data", sound), chunk("LIST", []byte("INFO"))),
		"last format wins":      wav(chunk("fmt ", format(formatPCM, 2, 44100, 16)), alaw, chunk("data", sound)),
		"written to a pipe":     streamed,
		"padding cut off":       bytes.TrimSuffix(wav(alaw, chunk("data", sound)), []byte{0}),
	} {
		out, err := ReadWAV(iotest.OneByteReader(bytes.NewReader(in)))
		if err != nil || !bytes.Equal(out, sound) {
			t.Errorf("%s: % x, %v", name, out, err)
		}
	}
	if out, err := ReadWAV(bytes.NewReader(wav(alaw, chunk("data", nil)))); err != nil || len(out) != 0 {
		t.Errorf("empty sound: %v, %v", out, err)
	}
	half := wav(chunk("fmt ", format(formatPCM, 2, 8000, 16)), chunk("data", []byte{0, 1, 0, 1, 9, 9, 9}))
	if out, err := ReadWAV(bytes.NewReader(half)); err != nil || len(out) != 1 {
		t.Errorf("half a sample at the end: %v, %v", out, err)
	}
}

func TestReadWAVRefuses(t *testing.T) {
	good := chunk("fmt ", format(formatPCM, 1, 8000, 16))
	data := chunk("data", make([]byte, 20))
	misaligned := format(formatPCM, 1, 8000, 16)
	misaligned[12] = 3
	for says, in := range map[string][]byte{
		"ends in the header":             []byte("RIFF"),
		`begins with "ID3`:               []byte("ID3\x03 an MP3 file, say"),
		`begins with "RIFX`:              append([]byte("RIFX"), wav(good, data)[4:]...),
		"no data chunk so far":           wav(good),
		"data before its format":         wav(data, good),
		"format of 14 octets":            wav(chunk("fmt ", make([]byte, 14)), data),
		"ends in the format":             wav(good[:12]),
		"format 0x0003 of 32 bits":       wav(chunk("fmt ", format(3, 1, 8000, 32)), data),
		"format 0x0001 of 24 bits":       wav(chunk("fmt ", format(formatPCM, 1, 8000, 24)), data),
		"format 0x0006 of 16 bits":       wav(chunk("fmt ", format(formatALaw, 1, 8000, 16)), data),
		"extensible format of 16 octets": wav(chunk("fmt ", format(formatExtensible, 1, 8000, 16)), data),
		"6 channels":                     wav(chunk("fmt ", format(formatPCM, 6, 8000, 16)), data),
		"0 channels":                     wav(chunk("fmt ", format(formatPCM, 0, 8000, 16)), data),
		"96000 Hz":                       wav(chunk("fmt ", format(formatPCM, 1, 96000, 16)), data),
		"0 Hz":                           wav(chunk("fmt ", format(formatPCM, 1, 0, 16)), data),
		"3 octets for 1 channels":        wav(chunk("fmt ", misaligned), data),
	} {
		out, err := ReadWAV(bytes.NewReader(in))
		if !errors.Is(err, ErrNotWAV) || out != nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v", says, out, err)
		}
	}
	var n countReader
	huge := io.MultiReader(bytes.NewReader(append(wav(good), "data\xFF\xFF\xFF\xFF"...)), &n)
	if _, err := ReadWAV(huge); !errors.Is(err, ErrNotWAV) || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("endless sound: %v", err)
	}
	junk := io.MultiReader(bytes.NewReader(append(wav(good), "JUNK\xFF\xFF\xFF\xFF"...)), &n)
	if _, err := ReadWAV(junk); !errors.Is(err, ErrNotWAV) {
		t.Errorf("endless junk: %v", err)
	}
	if n > 2*LargestWAV {
		t.Errorf("read %d octets of endless files", n)
	}
	broken := errors.New("the disk is on fire")
	if _, err := ReadWAV(io.MultiReader(bytes.NewReader(wav(good)), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrNotWAV) {
		t.Errorf("a failing reader: %v", err)
	}
}

// countReader is an endless file that counts what was taken from it.
type countReader int

func (n *countReader) Read(b []byte) (int, error) { *n += countReader(len(b)); return len(b), nil }

func TestWriteWAV(t *testing.T) {
	for _, n := range []int{0, 1, 2, 159, 160, 16001} {
		alaw := make([]byte, n)
		for i := range alaw {
			alaw[i] = byte(i * 7)
		}
		for name, write := range map[string]func(io.Writer, []byte) error{"A-law": WriteWAV, "PCM": WritePCMWAV} {
			var file bytes.Buffer
			if err := write(&file, alaw); err != nil {
				t.Fatal(err)
			}
			b := file.Bytes()
			if got := int(binary.LittleEndian.Uint32(b[4:])); got != len(b)-8 || len(b)%2 != 0 {
				t.Errorf("%s of %d: says %d octets follow, %d do", name, n, got, len(b)-8)
			}
			back, err := ReadWAV(&file)
			if err != nil || !bytes.Equal(back, alaw) {
				t.Errorf("%s of %d did not come back: %v", name, n, err)
			}
		}
	}
	full := errors.New("disk full")
	if err := WriteWAV(brokenWriter{full}, make([]byte, 3)); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func FuzzReadWAV(f *testing.F) {
	for _, c := range []wavFormat{{formatPCM, 1, 8000, 16}, {formatPCM, 2, 44100, 8}, {formatALaw, 1, 8000, 8}, {formatULaw, 2, 48000, 8}} {
		f.Add(wav(chunk("fmt ", format(c.tag, c.channels, c.rate, c.bits)), chunk("LIST", []byte("x")), chunk("data", make([]byte, 64))))
	}
	f.Add([]byte("RIFF\x00\x00\x00\x00WAVEfmt \xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := ReadWAV(bytes.NewReader(in))
		if err != nil {
			if !errors.Is(err, ErrNotWAV) || out != nil {
				t.Fatalf("%v with %d octets of sound", err, len(out))
			}
			return
		}
		if len(out) > 2*len(in) { // the lowest rate taken is half of ours
			t.Fatalf("%d octets became %d", len(in), len(out))
		}
		var file bytes.Buffer
		if err := WriteWAV(&file, out); err != nil {
			t.Fatal(err)
		}
		if back, err := ReadWAV(&file); err != nil || !bytes.Equal(back, out) {
			t.Fatalf("what was read does not survive being written: %v", err)
		}
	})
}
