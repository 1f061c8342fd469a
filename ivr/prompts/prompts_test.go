package prompts

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// What is asked of every sound. The levels leave room on both sides of the -20 dBFS
// that make.sh aims at, for a customer's own speaker and for very short words.
const (
	loudest      = -14.0
	softest      = -30.0
	largestSet   = 3_500_000 // octets: it is part of the program
	quickestRead = 30 * time.Millisecond
	slowestRead  = 160 * time.Millisecond // per letter
	edge         = 3 * audio.FrameBytes   // octets at each end that may be air
)

func TestEveryClipCanBeHeardAndRead(t *testing.T) {
	lib, total := Italian(), 0
	for _, name := range lib.Names() {
		c := lib.Clip(name)
		total += len(c.ALaw)
		if c.Name != name || c.Text == "" || len(c.ALaw) == 0 {
			t.Errorf("%s: name %q, text %q, %d octets", name, c.Name, c.Text, len(c.ALaw))
			continue
		}
		if len(c.ALaw)%audio.FrameBytes != 0 {
			t.Errorf("%s: %d octets are no whole frames", name, len(c.ALaw))
		}
		if db := audio.Level(c.ALaw); db < softest || db > loudest {
			t.Errorf("%s: %.1f dBFS", name, db)
		}
		full := 0
		for _, a := range c.ALaw {
			if s := audio.ALawToPCM(a); s >= 32256 || s <= -32256 {
				full++
			}
		}
		if full > 0 {
			t.Errorf("%s: %d samples are clipped", name, full)
		}
		tone := name == Ringing || name == Engaged // with their pauses
		if c.Loop != (tone || name == Music) {
			t.Errorf("%s: loop is %v", name, c.Loop)
		}
		if name == Music {
			continue
		}
		if first, last := audio.ALawToPCM(c.ALaw[0]), audio.ALawToPCM(c.ALaw[len(c.ALaw)-1]); max(first, -first, last, -last) > 300 {
			t.Errorf("%s: begins with %d and ends with %d: a click", name, first, last)
		}
		if lead := audio.Level(c.ALaw[:min(len(c.ALaw), edge)]); lead < -60 {
			t.Errorf("%s: begins with silence", name)
		}
		if name == Beep || tone {
			continue
		}
		// Sound at another rate or law would not last as long as its words, or not sound.
		letter := c.Duration() / time.Duration(len([]rune(c.Text)))
		if letter < quickestRead || letter > slowestRead {
			t.Errorf("%s: %q in %v is %v a letter", name, c.Text, c.Duration(), letter)
		}
		if tail := audio.Level(c.ALaw[max(0, len(c.ALaw)-4*edge):]); tail < -50 {
			t.Errorf("%s: ends with silence", name)
		}
	}
	if total > largestSet {
		t.Errorf("all clips are %d octets, at most %d are wanted in the program", total, largestSet)
	}
}

func TestMusicLoopsWithoutASeam(t *testing.T) {
	music := Italian().Clip(Music)
	if d := music.Duration(); d < 20*time.Second || d > 30*time.Second {
		t.Errorf("the music lasts %v", d)
	}
	largest := 0
	step := func(i, j int) int {
		d := int(audio.ALawToPCM(music.ALaw[i])) - int(audio.ALawToPCM(music.ALaw[j]))
		return max(d, -d)
	}
	for i := 1; i < len(music.ALaw); i++ {
		largest = max(largest, step(i, i-1))
	}
	if seam := step(0, len(music.ALaw)-1); seam > largest {
		t.Errorf("the seam is a step of %d, no other is above %d", seam, largest)
	}
	voice, under := audio.Level(Italian().Clip(Welcome).ALaw), audio.Level(music.ALaw)
	if under > voice-3 {
		t.Errorf("the music has %.1f dBFS, the voice %.1f", under, voice)
	}
	for second := 0; second+1 < len(music.ALaw)/audio.Rate; second++ {
		if db := audio.Level(music.ALaw[second*audio.Rate : (second+1)*audio.Rate]); db < under-5 || db > under+5 {
			t.Errorf("second %d of the music has %.1f dBFS, all of it %.1f", second, db, under)
		}
	}
}

func TestEveryNamedClipIsThere(t *testing.T) {
	lib := Italian()
	names := []string{
		Welcome, NotHeard, Urgent, Waiting, StillHere, Connected, Nobody, Music, Closed, LeaveWord, Beep, WordTaken, NoWord, Fault, Goodbye, NoMobiles, Recorded, Emergency, Ringing, Engaged,
		StateNumber, StateAgain, StateColleague, StateOperator, WillCall, CannotCall, TooLong, Closing, CallJoined, DutyOffer, DutyCall, DutyAway, DutyTake,
		MenuIs, TicketIs, ServiceIs, ReopensIs, StateIs,
		PlaceIs, PlaceNumber, ManyBefore, "in_coda", WaitIs, ShortWait, LongWait, "un_minuto", "minuti",
		OfferCall, OfferWord, RequestIs, JoinRequest, "richiesta_in_attesa", "richiesta_presa",
	}
	names = append(names, ordinals[:]...)
	names = append(names, numbers[:]...)
	names = append(names, months[:]...)
	for d := range weekdays {
		names = append(names, weekdays[d], the[d]+weekdays[d], from[d]+weekdays[d], to[d]+weekdays[d])
	}
	for _, name := range names {
		if !lib.has(name) {
			t.Errorf("there is no %s", name)
		}
	}
}

// The committed sounds are those of the committed table.
func TestTextsAreTheTables(t *testing.T) {
	table, err := os.ReadFile("it.tsv")
	if err != nil {
		t.Fatal(err)
	}
	lib, want := Italian(), map[string]string{Beep: "(segnale acustico)", Music: "(musica)", Ringing: "(segnale di libero)", Engaged: "(segnale di occupato)"}
	for line := range strings.Lines(string(table)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		want[name] = text
	}
	for name, text := range want {
		if got := lib.base[name].Text; got != text {
			t.Errorf("%s says %q, the table %q: run make.sh", name, got, text)
		}
	}
	if len(want) != len(lib.Names()) {
		t.Errorf("%d clips, %d lines in the table: run make.sh", len(lib.Names()), len(want))
	}
}

func TestMissingClipIsATone(t *testing.T) {
	lib := New(map[string]audio.Clip{})
	c := lib.Clip("non c'è")
	if c.Text != "" || c.Name != "non c'è" || c.Duration() > time.Second || audio.Level(c.ALaw) < softest {
		t.Errorf("a missing clip is %+v of %v", c.Name, c.Duration())
	}
	// A sentence without its clips is still a clip.
	if got := lib.Number("2026-1"); len(got.ALaw) == 0 {
		t.Errorf("a number without clips is %+v", got)
	}
}

// TestNoVoiceIsHeardAsAKey: what we say comes back from some telephones, and a
// doctor's voice is not unlike ours.
func TestNoVoiceIsHeardAsAKey(t *testing.T) {
	lib := Italian()
	var heard time.Duration
	for _, name := range lib.Names() {
		c := lib.Clip(name)
		var tones audio.Tones
		for part := range slices.Chunk(c.ALaw, audio.FrameBytes) {
			if key := tones.Hear(part, audio.PCMA); key != 0 {
				t.Errorf("in %s a %c is heard", name, key)
			}
		}
		heard += c.Duration()
	}
	if heard < time.Minute {
		t.Errorf("only %s were heard", heard)
	}
}
