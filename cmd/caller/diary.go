package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// diary prints what happened and when, a line each.
type diary struct {
	out   io.Writer
	json  bool
	began time.Time
	mu    sync.Mutex // guards out
}

// note prints one event with the seconds since the start.
func (d *diary) note(what, format string, args ...any) {
	at, detail := time.Since(d.began), fmt.Sprintf(format, args...)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json {
		_ = json.NewEncoder(d.out).Encode(map[string]any{"s": math.Round(at.Seconds()*1000) / 1000, "what": what, "detail": detail})
		return
	}
	fmt.Fprintf(d.out, "%8.2f  %-16s %s\n", at.Seconds(), what, detail)
}

const (
	soundFloor = -50.0 // dBFS: above it something is heard
	settle     = 10    // frames (200 ms) that a change must last to be told
	toneShare  = 0.8   // of a frame's energy at one frequency: a tone
)

// tones are what a desk or a network may sound.
var tones = []float64{425, 1000}

// ear tells silence, tones and sound apart.
type ear struct {
	now   string
	next  string
	count int
	level float64
}

// hear takes 20 ms; it says what is heard from now on when that has changed.
func (e *ear) hear(alaw []byte) (what string, changed bool) {
	level := audio.Level(alaw)
	next := "sound"
	if level < soundFloor {
		next = "silence"
	} else if hz := toneOf(alaw); hz > 0 {
		next = fmt.Sprintf("a tone of %.0f Hz", hz)
	}
	if next != e.next {
		e.next, e.count, e.level = next, 0, level
	}
	e.count++
	e.level = math.Max(e.level, level)
	if e.count < settle || next == e.now {
		return "", false
	}
	e.now = next
	if next == "silence" {
		return next, true
	}
	return fmt.Sprintf("%s, %.0f dBFS", next, e.level), true
}

// toneOf is the frequency that holds most of a frame's energy, or 0. Goertzel's
// algorithm: one bin of a Fourier transform.
func toneOf(alaw []byte) float64 {
	var energy float64
	for _, b := range alaw {
		v := float64(audio.ALawToPCM(b))
		energy += v * v
	}
	if energy == 0 {
		return 0
	}
	for _, hz := range tones {
		c := 2 * math.Cos(2*math.Pi*hz/audio.Rate)
		var s1, s2 float64
		for _, b := range alaw {
			s1, s2 = float64(audio.ALawToPCM(b))+c*s1-s2, s1
		}
		power := (s1*s1 + s2*s2 - c*s1*s2) * 2 / float64(len(alaw))
		if power/energy > toneShare {
			return hz
		}
	}
	return 0
}
