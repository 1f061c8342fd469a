package siptest

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip/audio"
)

func TestSpelledSoundIsReadBack(t *testing.T) {
	long := strings.Repeat("perché ", 20)
	for _, name := range []string{"benvenuto", "menu_non-tecnica", "il certificato di Bianchi", "È già così", "", "x", long[:longestN]} {
		if got := Read(Spell(name, spelled).ALaw); !slices.Equal(got, []string{name}) {
			t.Errorf("%q is read as %q", name, got)
		}
	}
	if got := Read(Spell(long, spelled).ALaw); !slices.Equal(got, []string{long[:longestN]}) {
		t.Errorf("a long name is read as %q", got)
	}
	if c := Spell("x", 0); len(c.ALaw) != audio.FrameBytes || c.Text != "x" {
		t.Errorf("the shortest clip has %d octets", len(c.ALaw))
	}
}

// Equal words next to each other are two because of the pause between them; sound
// that goes on is one.
func TestSentencesAreReadWordByWord(t *testing.T) {
	lib := prompts.New(Prompts())
	want := []string{"numero_pratica", "duemila", "ventisei", "trattino", "uno", "uno", "due"}
	if got := Read(lib.Number("2026-112").ALaw); !slices.Equal(got, want) {
		t.Errorf("the number is read as %q", got)
	}
	music := lib.Clip(prompts.Music)
	if !music.Loop {
		t.Error("the music does not loop")
	}
	if got := Read(append(bytes.Clone(music.ALaw), music.ALaw...)); !slices.Equal(got, []string{"musica"}) {
		t.Errorf("music that loops is read as %q", got)
	}
}

// damaged is a clip on its way: frames lost, which the receiver fills with silence.
func damaged(alaw []byte, lost func(frame int) bool) []byte {
	out := bytes.Clone(alaw)
	for i := range len(out) / audio.FrameBytes {
		if lost(i) {
			copy(out[i*audio.FrameBytes:], audio.Silence(20))
		}
	}
	return out
}

func TestReadingSurvivesTheWay(t *testing.T) {
	words := audio.Join("words", Spell("benvenuto", spelled), Spell("menu", spelled), audio.Clip{ALaw: audio.Silence(160)}, Spell("menu", spelled))
	want := []string{"benvenuto", "menu", "menu"}
	for name, way := range map[string]func([]byte) []byte{
		"every other frame lost": func(b []byte) []byte { return damaged(b, func(i int) bool { return i%2 == 1 }) },
		"five in a row lost":     func(b []byte) []byte { return damaged(b, func(i int) bool { return i%20 >= 4 && i%20 < 9 }) },
		"the other law and back": func(b []byte) []byte {
			out := make([]byte, len(b))
			audio.Transcode(out, b, audio.PCMA, audio.PCMU)
			audio.Transcode(out, out, audio.PCMU, audio.PCMA)
			return out
		},
		"not on the grid": func(b []byte) []byte { return append(audio.Silence(7), b...) },
		"torn packets": func(b []byte) []byte { // the second half of a frame is another's
			out := bytes.Clone(b)
			copy(out[3*audio.FrameBytes+12:], audio.Silence(20))
			return out
		},
		"packets of two words in one": func(b []byte) []byte {
			out := bytes.Clone(b)
			copy(out[3*audio.FrameBytes+12:4*audio.FrameBytes], Spell("musicante", spelled).ALaw[12:])
			return out
		},
	} {
		if got := Read(way(words.ALaw)); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	var e ear
	for i := range words.ALaw { // an ear does not care how sound is cut up
		e.listen(words.ALaw[i : i+1])
	}
	if got := e.names(); !slices.Equal(got, want) {
		t.Errorf("octet by octet: %q", got)
	}
	if got := Read(append(audio.Tone(425, 500, -10), prompts.Italian().Clip(prompts.Welcome).ALaw...)); len(got) != 0 {
		t.Errorf("real sound is read as %q", got)
	}
}

func TestEveryHalfOctetSurvivesTheOtherLaw(t *testing.T) {
	for _, b := range append(append([]byte{padding}, alphabet[:]...), mark...) {
		if got := audio.ALaw(audio.ULawToPCM(audio.ULaw(audio.ALawToPCM(b)))); got != b {
			t.Errorf("%#02x comes back as %#02x", b, got)
		}
		if db := audio.Level([]byte{b}); db < -40 {
			t.Errorf("%#02x is %.0f dBFS: silence detectors must take spelled frames for sound", b, db)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(Spell("benvenuto", spelled).ALaw[:200], 3)
	f.Add(mark, 0)
	f.Fuzz(func(t *testing.T, noise []byte, n int) {
		word := Spell("parola", 2*audio.FrameTime).ALaw
		sound := append(bytes.Clone(noise), word...)
		got := Read(sound)
		if len(got) == 0 || got[len(got)-1] != "parola" { // noise may hide the first frame, not the second
			t.Fatalf("after noise: %q", got)
		}
		var e ear
		n = max(1, min(len(sound), n))
		e.listen(sound[:n])
		e.listen(sound[n:])
		if !slices.Equal(e.names(), got) {
			t.Fatalf("in two pieces: %q, in one: %q", e.names(), got)
		}
	})
}
