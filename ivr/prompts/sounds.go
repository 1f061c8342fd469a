//go:build ignore

// This program makes the sounds that are not spoken: the tone before a message,
// the tones of Italian exchanges and the music of the queue. make.sh runs it.
//
// The music is the project's own: eight bars of four slow chords, a soft pad under
// single notes that ring like a small electric piano. It is computed on a circle,
// so that the end runs into the start without a seam, stays in the band that a
// telephone carries, and has no beat and no loud places that would tire a listener
// who hears it for ten minutes.
package main

import (
	"log"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	beat   = audio.Rate * 3 / 4 // samples: 80 beats a minute
	bars   = 8
	length = bars * 4 * beat // 24 s
	level  = -26             // dBFS RMS: under a voice, which has -20
)

// The chords, one per bar, as numbers of keys of a piano (60 is middle C, 261.6 Hz).
var chords = [bars][4]int{
	{60, 64, 67, 71}, // C maj7
	{57, 64, 67, 72}, // A min7
	{65, 69, 72, 76}, // F maj7
	{62, 67, 71, 74}, // G 6
	{64, 67, 71, 74}, // E min7
	{57, 64, 67, 72}, // A min7
	{62, 65, 69, 72}, // D min7
	{62, 65, 67, 71}, // G 7
}

// The tune over them: key and beat within the bar.
var tune = [bars][]struct {
	key int
	at  float64
}{
	{{79, 0}, {76, 1.5}, {74, 3}},
	{{72, 0}, {76, 2}},
	{{77, 0}, {76, 1}, {72, 2.5}},
	{{74, 0}, {71, 2}},
	{{79, 0}, {76, 2}, {74, 3}},
	{{72, 0}, {76, 2.5}},
	{{77, 0}, {74, 1.5}, {72, 3}},
	{{71, 0}, {74, 2}},
}

func main() {
	dir := os.Args[1]
	write(dir, "beep", "(segnale acustico)", audio.Tone(1000, 400, -20))
	write(dir, "libero", "(segnale di libero)", slices.Concat(audio.Tone(425, 1000, -20), audio.Silence(4000)))
	write(dir, "occupato", "(segnale di occupato)", slices.Concat(audio.Tone(425, 500, -20), audio.Silence(500)))
	write(dir, "musica", "(musica)", music())
}

func write(dir, name, text string, sound []byte) {
	if err := os.WriteFile(filepath.Join(dir, name+".al"), sound, 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".txt"), []byte(text+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
}

func music() []byte {
	circle := make([]float64, length)
	for bar, chord := range chords {
		start := bar * 4 * beat
		for i, key := range chord {
			pad(circle, start, key, 0.10)
			// The chord once more as single notes, up and down, between the beats.
			note(circle, start+i*beat+beat/2, key, 0.16)
		}
		for _, n := range tune[bar] {
			note(circle, start+int(n.at*beat), n.key, 0.30)
		}
	}
	var sum float64
	for _, v := range circle {
		sum += v * v
	}
	gain := math.Pow(10, level/20.0) * 32768 / math.Sqrt(sum/length)
	out := make([]byte, length)
	for i, v := range circle {
		out[i] = audio.ALaw(int16(math.Round(gain * v)))
	}
	return out
}

// note strikes a key: three partials, the higher ones gone sooner.
func note(circle []float64, start, key int, loud float64) {
	const attack, seconds = 0.012, 3.0
	hz := pitch(key)
	for i := range int(seconds * audio.Rate) {
		t := float64(i) / audio.Rate
		envelope := math.Min(1, t/attack) * (1 - t/seconds)
		v := math.Exp(-1.6*t)*math.Sin(2*math.Pi*hz*t) +
			0.30*math.Exp(-3.5*t)*math.Sin(4*math.Pi*hz*t) +
			0.08*math.Exp(-6*t)*math.Sin(6*math.Pi*hz*t)
		circle[(start+i)%length] += loud * envelope * v
	}
}

// pad lets a key swell and fade over its bar and into the next: two voices a
// little apart, so that it floats.
func pad(circle []float64, start, key int, loud float64) {
	const seconds = 4.2
	hz := pitch(key)
	for i := range int(seconds * audio.Rate) {
		t := float64(i) / audio.Rate
		envelope := math.Sin(math.Pi * t / seconds)
		v := math.Sin(2*math.Pi*hz*0.9988*t) + math.Sin(2*math.Pi*hz*1.0012*t) + 0.15*math.Sin(4*math.Pi*hz*t)
		circle[(start+i)%length] += loud * envelope * envelope * v
	}
}

// pitch is the frequency of a key in equal temperament, A above middle C at 440 Hz.
func pitch(key int) float64 { return 440 * math.Pow(2, float64(key-69)/12) }
