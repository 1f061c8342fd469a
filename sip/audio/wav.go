package audio

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrNotWAV is what every fault of ReadWAV's input wraps: the file is refused
// for what it holds, and could be read.
var ErrNotWAV = errors.New("not a usable WAV file")

// Limits of what ReadWAV takes.
const (
	LargestWAV  = 64 << 20 // bytes: six minutes of the best it takes, over two hours of A-law
	lowestRate  = 4000     // Hz: below it nothing is speech
	highestRate = 48000    // Hz: what sound cards record at
)

// Wave format tags (Microsoft, "Multiple Channel Audio Data and WAVE Files").
const (
	formatPCM        = 0x0001
	formatALaw       = 0x0006
	formatULaw       = 0x0007
	formatExtensible = 0xFFFE // the real tag is the start of a GUID further on
)

// wavFormat is the part of a "fmt " chunk that matters.
type wavFormat struct {
	tag      uint16
	channels int
	rate     int // Hz
	bits     int // of one sample of one channel
}

// ReadWAV reads a WAV file and returns its sound as A-law, 8 kHz, mono. It takes
// PCM of 16 and 8 bits, A-law and µ-law, one channel or two (which are mixed), 4
// to 48 kHz, up to 64 MiB. Chunks it does not know are skipped; a data chunk that
// claims more than there is (programs that write to a pipe cannot know) ends with
// the file. A file of another kind is an error that wraps ErrNotWAV and says what
// was found; a failing r is returned as it failed.
func ReadWAV(r io.Reader) ([]byte, error) { return readWAV(r, false) }

// ReadWholeWAV is ReadWAV for a file that somebody hands over: one that was cut off
// on its way, before its data chunk ends, is refused too.
func ReadWholeWAV(r io.Reader) ([]byte, error) { return readWAV(r, true) }

func readWAV(r io.Reader, whole bool) ([]byte, error) {
	f, data, err := readData(r, LargestWAV, whole)
	if err != nil {
		return nil, err
	}
	return f.toALaw(data), nil
}

// ReadStereoWAV reads what WriteStereoWAV has written, up to most bytes.
func ReadStereoWAV(r io.Reader, most int64) ([]byte, error) {
	f, data, err := readData(r, most, true)
	if err != nil {
		return nil, err
	}
	if f.tag != formatALaw || f.channels != 2 || f.rate != Rate {
		return nil, fmt.Errorf("%w: format %#04x with %d channels at %d Hz; A-law with two at %d is meant", ErrNotWAV, f.tag, f.channels, f.rate, Rate)
	}
	return data, nil
}

// readData finds the octets of a file's sound and what they are.
func readData(r io.Reader, most int64, whole bool) (wavFormat, []byte, error) {
	limited := &io.LimitedReader{R: r, N: most + 1}
	in := bufio.NewReader(limited)
	var head [12]byte
	if err := readFull(in, head[:], "header"); err != nil {
		return wavFormat{}, nil, err
	}
	if string(head[:4]) != "RIFF" || string(head[8:]) != "WAVE" {
		return wavFormat{}, nil, fmt.Errorf("%w: it begins with %q, not RIFF…WAVE", ErrNotWAV, head[:])
	}
	var format *wavFormat
	for {
		var chunk [8]byte
		if err := readFull(in, chunk[:], "chunk header (no data chunk so far)"); err != nil {
			return wavFormat{}, nil, err
		}
		size := int64(binary.LittleEndian.Uint32(chunk[4:]))
		switch string(chunk[:4]) {
		case "fmt ":
			f, err := readFormat(in, size)
			if err != nil {
				return wavFormat{}, nil, err
			}
			format = &f
		case "data":
			if format == nil {
				return wavFormat{}, nil, fmt.Errorf("%w: data before its format", ErrNotWAV)
			}
			data, err := io.ReadAll(io.LimitReader(in, size))
			if err != nil {
				return wavFormat{}, nil, fmt.Errorf("read WAV data: %w", err)
			}
			if limited.N <= 0 {
				return wavFormat{}, nil, fmt.Errorf("%w: larger than %d MiB", ErrNotWAV, most>>20)
			}
			if whole && int64(len(data)) < size {
				return wavFormat{}, nil, fmt.Errorf("%w: it ends after %d of %d bytes of sound", ErrNotWAV, len(data), size)
			}
			return *format, data, nil
		default:
			if err := skip(in, size+size%2); err != nil { // chunks are padded to an even length
				return wavFormat{}, nil, err
			}
			if limited.N <= 0 {
				return wavFormat{}, nil, fmt.Errorf("%w: no data in the first %d MiB", ErrNotWAV, most>>20)
			}
		}
	}
}

// readFull fills b; a file that ends before is not a WAV file.
func readFull(r io.Reader, b []byte, what string) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends in the %s", ErrNotWAV, what)
	}
	if err != nil {
		return fmt.Errorf("read WAV %s: %w", what, err)
	}
	return nil
}

// skip passes over n bytes, or to the end of the file, which the next read finds.
func skip(r io.Reader, n int64) error {
	if _, err := io.CopyN(io.Discard, r, n); err != nil && err != io.EOF {
		return fmt.Errorf("read WAV: %w", err)
	}
	return nil
}

const (
	shortFormat = 16 // octets of a plain "fmt " chunk
	longFormat  = 40 // of an extensible one
)

// readFormat reads a "fmt " chunk and refuses what we cannot play.
func readFormat(r io.Reader, size int64) (wavFormat, error) {
	if size < shortFormat {
		return wavFormat{}, fmt.Errorf("%w: a format of %d octets, at least %d are needed", ErrNotWAV, size, shortFormat)
	}
	b := make([]byte, min(size, longFormat))
	if err := readFull(r, b, "format"); err != nil {
		return wavFormat{}, err
	}
	if err := skip(r, size+size%2-int64(len(b))); err != nil {
		return wavFormat{}, err
	}
	le := binary.LittleEndian
	f := wavFormat{tag: le.Uint16(b), channels: int(le.Uint16(b[2:])), bits: int(le.Uint16(b[14:]))}
	rate, align := le.Uint32(b[4:]), int(le.Uint16(b[12:]))
	if f.tag == formatExtensible {
		if len(b) < longFormat {
			return f, fmt.Errorf("%w: an extensible format of %d octets, %d are needed", ErrNotWAV, size, longFormat)
		}
		f.tag = le.Uint16(b[24:])
	}
	switch {
	case f.tag == formatPCM && (f.bits == 16 || f.bits == 8), f.tag == formatALaw && f.bits == 8, f.tag == formatULaw && f.bits == 8:
	default:
		return f, fmt.Errorf("%w: format %#04x of %d bits; PCM of 16 or 8 bits, A-law and µ-law of 8 are taken", ErrNotWAV, f.tag, f.bits)
	}
	switch {
	case f.channels < 1 || f.channels > 2:
		return f, fmt.Errorf("%w: %d channels; one or two are taken", ErrNotWAV, f.channels)
	case rate < lowestRate || rate > highestRate:
		return f, fmt.Errorf("%w: %d Hz; %d to %d are taken", ErrNotWAV, rate, lowestRate, highestRate)
	case align != f.channels*f.bits/8:
		return f, fmt.Errorf("%w: %d octets for %d channels of %d bits", ErrNotWAV, align, f.channels, f.bits)
	}
	f.rate = int(rate)
	return f, nil
}

// toALaw brings data in this format to A-law, 8 kHz, mono. An incomplete last
// sample is dropped.
func (f wavFormat) toALaw(data []byte) []byte {
	if f.tag == formatALaw && f.channels == 1 && f.rate == Rate {
		return data // ours already: not one octet changes
	}
	step := f.channels * f.bits / 8
	pcm := make([]int16, len(data)/step)
	for i := range pcm {
		sum := 0.0
		for c := range f.channels {
			sum += f.sample(data[i*step+c*f.bits/8:])
		}
		pcm[i] = clamp(sum / float64(f.channels))
	}
	if f.rate != Rate {
		return resample(pcm, f.rate)
	}
	out := make([]byte, len(pcm))
	for i, s := range pcm {
		out[i] = ALaw(s)
	}
	return out
}

// sample decodes the first sample of b on the scale of 16 bits.
func (f wavFormat) sample(b []byte) float64 {
	switch {
	case f.tag == formatALaw:
		return float64(ALawToPCM(b[0]))
	case f.tag == formatULaw:
		return float64(ULawToPCM(b[0]))
	case f.bits == 8:
		return float64(int(b[0])-128) * 256 // 8-bit PCM is unsigned
	default:
		return float64(int16(binary.LittleEndian.Uint16(b)))
	}
}

func clamp(v float64) int16 {
	return int16(math.Round(max(math.MinInt16, min(math.MaxInt16, v))))
}

// lobes is how many zero crossings of the sinc stand on each side of a sample of
// output: with a Hann window 16 leave the stop band some 60 dB down, below the
// noise of A-law.
const lobes = 16

// pass is how much of the narrower of both bands is kept; the rest is the slope
// of the filter, so that nothing is folded back.
const pass = 0.92

// resample brings sound at rate to A-law at 8 kHz: every sample of output is a
// windowed sinc laid over the input. As both rates are whole numbers, the weights
// repeat after 8000/gcd samples of output and are computed once.
func resample(in []int16, rate int) []byte {
	phases := Rate / gcd(rate, Rate)
	cutoff := pass * math.Min(1, Rate/float64(rate))
	reach := int(math.Ceil(lobes / cutoff)) // inputs on each side
	weights := make([][]float64, phases)
	for p := range weights {
		_, frac := math.Modf(float64(p) * float64(rate) / Rate)
		weights[p] = sincWeights(frac, cutoff, reach)
	}
	out := make([]byte, int64(len(in))*Rate/int64(rate))
	for i := range out {
		first := int(int64(i)*int64(rate)/Rate) - reach + 1 // may lie before the start
		w := weights[i%phases]
		from, to := max(0, first), min(len(in), first+len(w))
		sum := 0.0
		for k, s := range in[from:to] {
			sum += w[from-first+k] * float64(s)
		}
		out[i] = ALaw(clamp(sum))
	}
	return out
}

// sincWeights are the weights of the 2*reach inputs around a point that lies frac
// after the reach-th of them. They add up to one, so that level is kept.
func sincWeights(frac, cutoff float64, reach int) []float64 {
	w := make([]float64, 2*reach)
	total := 0.0
	for k := range w {
		x := float64(k-reach+1) - frac // distance in inputs
		s := 1.0
		if x != 0 {
			s = math.Sin(math.Pi*cutoff*x) / (math.Pi * cutoff * x)
		}
		if edge := float64(reach); math.Abs(x) < edge {
			w[k] = s * 0.5 * (1 + math.Cos(math.Pi*x/edge)) // Hann
		}
		total += w[k]
	}
	for k := range w {
		w[k] /= total
	}
	return w
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// WriteWAV writes A-law sound as a WAV file of WAVE_FORMAT_ALAW, 8 kHz, mono.
func WriteWAV(w io.Writer, alaw []byte) error {
	if err := writeWAVHeader(w, formatALaw, 1, 1, len(alaw)); err != nil {
		return err
	}
	return writeData(w, alaw)
}

// WriteStereoWAV is WriteWAV for two channels, whose octets alternate.
func WriteStereoWAV(w io.Writer, alaw []byte) error {
	if err := writeWAVHeader(w, formatALaw, 2, 1, len(alaw)/2); err != nil {
		return err
	}
	return writeData(w, alaw[:len(alaw)/2*2])
}

// WritePCMWAV writes A-law sound as a WAV file of 16-bit PCM, 8 kHz, mono, for
// programs that know nothing else.
func WritePCMWAV(w io.Writer, alaw []byte) error {
	if err := writeWAVHeader(w, formatPCM, 1, 2, len(alaw)); err != nil {
		return err
	}
	pcm := make([]byte, 0, 2*len(alaw))
	for _, a := range alaw {
		pcm = binary.LittleEndian.AppendUint16(pcm, uint16(ALawToPCM(a)))
	}
	return writeData(w, pcm)
}

// writeData writes the octets of a data chunk, padded to an even length.
func writeData(w io.Writer, data []byte) error {
	if _, err := w.Write(data); err != nil {
		return err
	}
	if len(data)%2 == 0 {
		return nil
	}
	_, err := w.Write([]byte{0})
	return err
}

// writeWAVHeader writes all that comes before the octets of sound; width is that
// of a sample of one channel.
func writeWAVHeader(w io.Writer, tag uint16, channels, width, samples int) error {
	size := int64(channels) * int64(width) * int64(samples)
	var fact []byte
	le := binary.LittleEndian
	format := []byte("fmt ")
	format = le.AppendUint32(format, shortFormat)
	if tag != formatPCM { // any other format has an extension, here empty, and a "fact" chunk
		le.PutUint32(format[4:], shortFormat+2)
		fact = le.AppendUint32([]byte("fact\x04\x00\x00\x00"), uint32(samples))
	}
	format = le.AppendUint16(format, tag)
	format = le.AppendUint16(format, uint16(channels))
	format = le.AppendUint32(format, Rate)
	format = le.AppendUint32(format, uint32(Rate*channels*width))
	format = le.AppendUint16(format, uint16(channels*width))
	format = le.AppendUint16(format, uint16(8*width))
	if tag != formatPCM {
		format = le.AppendUint16(format, 0)
	}
	rest := int64(len("WAVE")+len(format)+len(fact)+len("data")+4) + size + size%2
	if rest > math.MaxUint32 {
		return fmt.Errorf("%d samples do not fit into a WAV file", samples)
	}
	head := le.AppendUint32([]byte("RIFF"), uint32(rest))
	head = append(head, "WAVE"...)
	head = append(head, format...)
	head = append(head, fact...)
	head = append(head, "data"...)
	head = le.AppendUint32(head, uint32(size))
	_, err := w.Write(head)
	return err
}
