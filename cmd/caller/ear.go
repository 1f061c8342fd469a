package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	window      = 5 * audio.FrameBytes // 100 ms: fine enough for a beep, and ten waves of 100 Hz
	quiet       = -50.0                // dBFS: the noise of a line
	steady      = 2                    // windows in a row until a change is a change
	purity      = 0.8                  // of the energy in one frequency: a tone
	lowestTone  = 200                  // Hz
	highestTone = 2000                 // Hz: dial tones, beeps and test tones lie between
	toneStep    = 10                   // Hz, the resolution of 100 ms
)

// ear listens and notes what changes.
type ear struct {
	say   *diary
	keep  bool
	sound []byte

	total, loud time.Duration
	part        []byte // of a window
	now         string // what was noted last
	next        string // what may be noted next
	times       int    // how often in a row
}

// hear takes one frame.
func (e *ear) hear(frame []byte) bool {
	e.total += audio.FrameTime
	if e.keep && time.Duration(len(e.sound))*time.Second/audio.Rate < longestSave {
		e.sound = append(e.sound, frame...)
	}
	e.part = append(e.part, frame...)
	if len(e.part) >= window {
		e.judge(e.part[:window])
		e.part = e.part[:0]
	}
	return true
}

// flush judges what is left at the end.
func (e *ear) flush() {
	if len(e.part) >= audio.FrameBytes {
		e.judge(e.part)
	}
	e.part = nil
}

// judge notes what a window holds, once it has lasted.
func (e *ear) judge(w []byte) {
	level := audio.Level(w)
	what := kindOf(w, level)
	if what != "silence" {
		e.loud += time.Duration(len(w)) * time.Second / audio.Rate
	}
	if what != e.next {
		e.next, e.times = what, 0
	}
	if e.times++; e.times == steady && what != e.now {
		e.now = what
		e.say.note("hears "+what, "level_db", math.Round(level))
	}
}

// kindOf tells silence, sound and tones apart.
func kindOf(w []byte, level float64) string {
	if level < quiet {
		return "silence"
	}
	samples := make([]float64, len(w))
	var energy float64
	for i, b := range w {
		samples[i] = float64(audio.ALawToPCM(b))
		energy += samples[i] * samples[i]
	}
	best, most := 0, 0.0
	for hz := lowestTone; hz <= highestTone; hz += toneStep {
		if p := power(samples, float64(hz)); p > most {
			best, most = hz, p
		}
	}
	if most >= purity*energy {
		return fmt.Sprintf("tone %d Hz", best)
	}
	return "sound"
}

// power is the energy of one frequency in a window (Goertzel), on the scale of
// the sum of squares.
func power(samples []float64, hz float64) float64 {
	c := 2 * math.Cos(2*math.Pi*hz/audio.Rate)
	var a, b float64
	for _, s := range samples {
		a, b = s+c*a-b, a
	}
	return (a*a + b*b - c*a*b) * 2 / float64(len(samples))
}

// diary prints what happens, with the time since the start.
type diary struct {
	mu    sync.Mutex // guards out
	out   io.Writer
	json  bool
	began time.Time
}

func newDiary(out io.Writer, asJSON bool) *diary {
	return &diary{out: out, json: asJSON, began: time.Now()}
}

// note prints one event with its details: pairs of a name and a value.
func (d *diary) note(event string, details ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := time.Since(d.began).Round(time.Millisecond)
	if d.json {
		m := map[string]any{"at": float64(at.Milliseconds()) / 1000, "event": event}
		for i := 0; i+1 < len(details); i += 2 {
			m[details[i].(string)] = details[i+1]
		}
		_ = json.NewEncoder(d.out).Encode(m)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%8.3fs  %s", at.Seconds(), event)
	for i := 0; i+1 < len(details); i += 2 {
		if v := fmt.Sprint(details[i+1]); v != "" {
			fmt.Fprintf(&b, "  %s=%s", details[i], v)
		}
	}
	fmt.Fprintln(d.out, b.String())
}
