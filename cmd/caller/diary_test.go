package main

import (
	"slices"
	"testing"

	"github.com/pronto-desk/pronto/sip/audio"
)

// TestEar tells silence, the desk's tone and other sound apart, and does not
// tell what lasts less than 200 ms.
func TestEar(t *testing.T) {
	sound := append(append(append(audio.Silence(400), audio.Tone(1000, 400, -20)...), audio.Silence(100)...), audio.Tone(700, 600, -20)...)
	var e ear
	var told []string
	for ; len(sound) >= audio.FrameBytes; sound = sound[audio.FrameBytes:] {
		if what, changed := e.hear(sound[:audio.FrameBytes]); changed {
			told = append(told, what)
		}
	}
	want := []string{"silence", "a tone of 1000 Hz, -20 dBFS", "sound, -20 dBFS"}
	if !slices.Equal(told, want) {
		t.Fatalf("told %q, want %q", told, want)
	}
}
