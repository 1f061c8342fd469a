package audio

import (
	"math"
	"strings"
	"time"
)

// The clock of telephone sound.
const (
	Rate       = 8000                  // samples, and A-law octets, per second
	FrameBytes = 160                   // one frame: 20 ms at 8 kHz, what one RTP packet carries
	FrameTime  = 20 * time.Millisecond // how long a frame lasts
)

// Clip is something to be heard, with the words that are spoken in it.
type Clip struct {
	Name string // how logs and tests call it
	ALaw []byte // A-law, 8 kHz, mono
	Text string // what is said, in the language it is said in; "" for tones and music
	Loop bool   // sounds again from the start until it is stopped
}

// Duration is how long the clip sounds once.
func (c Clip) Duration() time.Duration { return octets(len(c.ALaw)) }

// octets is how long n octets of G.711 last.
func octets(n int) time.Duration { return time.Duration(n) * time.Second / Rate }

// bytesFor is how many octets of G.711 fill d; a negative d has none.
func bytesFor(d time.Duration) int { return max(0, int(d*Rate/time.Second)) }

// Join returns one clip that sounds the given ones after each other, without a
// gap, and whose text is theirs with spaces between. It never loops.
func Join(name string, clips ...Clip) Clip {
	n := 0
	for _, c := range clips {
		n += len(c.ALaw)
	}
	joined := Clip{Name: name, ALaw: make([]byte, 0, n)}
	var words []string
	for _, c := range clips {
		joined.ALaw = append(joined.ALaw, c.ALaw...)
		if c.Text != "" {
			words = append(words, c.Text)
		}
	}
	joined.Text = strings.Join(words, " ")
	return joined
}

// Silence returns d milliseconds of silence in A-law; none if d is not positive.
func Silence(ms int) []byte {
	s := make([]byte, bytesFor(time.Duration(ms)*time.Millisecond))
	for i := range s {
		s[i] = alawSilence
	}
	return s
}

// toneEdge is how long a tone takes to rise and to fall: an abrupt edge clicks.
const toneEdge = 5 * time.Millisecond

// Tone returns ms milliseconds of a sine of hz (up to half the sampling rate) in
// A-law, with an RMS level of dBFS: 0 is the RMS of a full-scale square wave, so
// the loudest clean sine is about -3. Its edges are soft.
func Tone(hz, ms int, dBFS float64) []byte {
	n := bytesFor(time.Duration(ms) * time.Millisecond)
	edge := float64(min(bytesFor(toneEdge), n/2))
	amplitude := math.Min(fullScale-1, fullScale*math.Sqrt2*math.Pow(10, dBFS/20))
	out := make([]byte, n)
	for i := range out {
		gain := 1.0
		if edge > 0 {
			gain = math.Min(1, math.Min(float64(i), float64(n-1-i))/edge)
		}
		out[i] = ALaw(int16(math.Round(gain * amplitude * math.Sin(2*math.Pi*float64(hz)*float64(i)/Rate))))
	}
	return out
}

const (
	fullScale = 1 << 15 // the largest magnitude of a 16-bit sample
	floorDBFS = -96     // the level of nothing at all: the range of 16 bits
)

// Level returns the RMS level of A-law sound in dBFS: 0 for a full-scale square
// wave, about -3 for a full-scale sine, -96 for silence or for no sound.
func Level(alaw []byte) float64 {
	if len(alaw) == 0 {
		return floorDBFS
	}
	var sum float64
	for _, a := range alaw {
		if a == alawSilence || a == alawSilence^0x80 { // ±8: A-law has no zero
			continue
		}
		s := float64(ALawToPCM(a))
		sum += s * s
	}
	if sum == 0 {
		return floorDBFS
	}
	db := 20 * math.Log10(math.Sqrt(sum/float64(len(alaw)))/fullScale)
	return max(floorDBFS, min(0, db))
}
