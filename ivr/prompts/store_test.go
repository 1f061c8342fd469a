package prompts

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/sip/audio"
)

var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// wav is a PCM file of 16 bits with so many seconds of a tone of a level, at a rate.
func wav(t *testing.T, seconds, rate, channels int, peak float64) []byte {
	t.Helper()
	le := binary.LittleEndian
	size := seconds * rate * channels * 2
	b := le.AppendUint32([]byte("RIFF"), uint32(36+size))
	b = le.AppendUint32(append(b, "WAVEfmt "...), 16)
	b = le.AppendUint16(le.AppendUint16(b, 1), uint16(channels))
	b = le.AppendUint32(le.AppendUint32(b, uint32(rate)), uint32(rate*channels*2))
	b = le.AppendUint16(le.AppendUint16(b, uint16(channels*2)), 16)
	b = le.AppendUint32(append(b, "data"...), uint32(size))
	for i := range seconds * rate {
		sample := int16(peak * float64(i%(rate/400)-rate/800) / float64(rate/800)) // a saw of 400 Hz
		for range channels {
			b = le.AppendUint16(b, uint16(sample))
		}
	}
	return b
}

const loud = 6000

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// anna is a supervisor of a database.
func anna(t *testing.T, d *db.DB) (id int64) {
	t.Helper()
	must(t, d.Pool.QueryRow(t.Context(), `insert into users (name, display_name, role, password_hash, created_at) values ('anna', 'Anna', 'supervisor', '', now()) returning id`).Scan(&id))
	return id
}

// TestUglyFilesChangeNothing: each file that is no good prompt is refused with its
// reason, and what sounded before sounds on.
func TestUglyFilesChangeNothing(t *testing.T) {
	d := dbtest.New(t)
	s, by := NewStore(d, Italian(), nil), anna(t, d)
	ctx := t.Context()
	_, err := s.Put(ctx, Welcome, "Buongiorno.", wav(t, 1, 8000, 1, loud), by, monday)
	must(t, err)
	must(t, s.Load(ctx))
	before := s.Library().Clip(Welcome)
	good := wav(t, 1, 8000, 1, loud)
	cut := slices.Concat(good[:22], []byte{9, 0}, good[24:]) // nine channels
	for _, c := range []struct {
		why, name, text string
		file            []byte
		field, reason   string
	}{
		{"nothing", Welcome, "x", nil, "file", "vuoto"},
		{"an MP3", Welcome, "x", []byte("ID3\x04\x00 not a WAV at all"), "file", "non è un WAV"},
		{"another RIFF", Welcome, "x", []byte("RIFF\x04\x00\x00\x00AVI LIST"), "file", "non si può usare"},
		{"its header only", Welcome, "x", good[:30], "file", "non si può usare"},
		{"half of it", Welcome, "x", good[:len(good)/2], "file", "incompleto"},
		{"nine channels", Welcome, "x", cut, "file", "non si può usare"},
		{"no sound", Welcome, "x", wav(t, 0, 8000, 1, loud), "file", "non contiene suono"},
		{"silence", Welcome, "x", wav(t, 2, 44100, 2, 0), "file", "silenzio"},
		{"next to silence", Welcome, "x", wav(t, 2, 8000, 1, 30), "file", "silenzio"},
		{"a speech", Welcome, "x", wav(t, 181, 8000, 1, loud), "file", "Dura 3:01: al massimo 3:00."},
		{"endless music", Music, "x", wav(t, 601, 8000, 1, loud), "file", "Dura 10:01: al massimo 10:00."},
		{"a film", Welcome, "x", make([]byte, LargestFile+1), "file", "supera 20 MB"},
		{"no words", Welcome, " \t", good, "text", "Scrivi"},
		{"two lines", Welcome, "uno\ndue", good, "text", "caratteri non ammessi"},
		{"a novel", Welcome, strings.Repeat("è", TextLongest+1), good, "text", "supera 1000"},
		{"a path", "../guasto", "x", good, "name", "Il nome"},
		{"a name in capitals", "Guasto", "x", good, "name", "Il nome"},
		{"a long name", strings.Repeat("a", 65), "x", good, "name", "Il nome"},
		{"no name", "", "x", good, "name", "Il nome"},
	} {
		_, err := s.Put(ctx, c.name, c.text, c.file, by, monday)
		var refused *Refused
		if !errors.As(err, &refused) || refused.Field != c.field || !strings.Contains(refused.Reason, c.reason) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	must(t, s.Load(ctx))
	if now := s.Library().Clip(Welcome); !bytes.Equal(now.ALaw, before.ALaw) || now.Text != "Buongiorno." {
		t.Errorf("another prompt sounds: %q of %v", now.Text, now.Duration())
	}
}

// TestReplacedPromptSoundsOnEveryNode: two nodes hear of it by a wake-up, what was
// begun sounds on, and the program's own comes back.
func TestReplacedPromptSoundsOnEveryNode(t *testing.T) {
	d := dbtest.New(t)
	by := anna(t, d)
	nodes := []*Store{NewStore(d, Italian(), nil), NewStore(d, Italian(), nil)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, len(nodes))
	for _, s := range nodes {
		go func() { ended <- s.Run(ctx) }()
	}
	defer func() {
		cancel()
		for range nodes {
			must(t, <-ended)
		}
	}()
	sounds := func(what string, ok func(l *Library) bool) {
		t.Helper()
		deadline, tick := time.After(time.Minute), time.NewTicker(10*time.Millisecond)
		defer tick.Stop()
		for _, s := range nodes {
			for !ok(s.Library()) {
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatalf("not heard within a minute: %s", what)
				}
			}
		}
	}
	lib := nodes[0].Library()
	begun, offers, edition := lib.Clip(Welcome), lib.Offers(true), lib.Edition()

	p, err := nodes[0].Put(ctx, Welcome, " Buongiorno a tutti. ", wav(t, 2, 44100, 2, loud), by, monday)
	must(t, err)
	if p.Text != "Buongiorno a tutti." || p.LengthMS != 2000 || p.By != "Anna" || !p.Replaced || !p.Embedded || p.Original != begun.Text || !p.At.Equal(monday) {
		t.Errorf("put: %+v", p)
	}
	_, err = nodes[1].Put(ctx, OfferCall, "Prema uno.", wav(t, 1, 8000, 1, loud), by, monday)
	must(t, err)
	_, err = nodes[1].Put(ctx, Music, "(altra musica)", wav(t, 200, 8000, 1, loud), by, monday)
	must(t, err)
	sounds("the new ones", func(l *Library) bool {
		return l.Clip(Welcome).Text == "Buongiorno a tutti." && l.Clip(Music).Text == "(altra musica)" && strings.HasPrefix(l.Offers(true).Text, "Prema uno.")
	})
	if c := lib.Clip(Welcome); len(c.ALaw)%audio.FrameBytes != 0 || c.Loop || audio.Level(c.ALaw) < -30 || !lib.Clip(Music).Loop {
		t.Errorf("the new welcome: %v, loop %v, %.1f dBFS", c.Duration(), c.Loop, audio.Level(c.ALaw))
	}
	if lib.Edition() == edition {
		t.Error("nobody can tell that what they put together is old")
	}
	if !bytes.Equal(begun.ALaw, Italian().Clip(Welcome).ALaw) || strings.HasPrefix(offers.Text, "Prema uno.") {
		t.Error("what sounds already has changed")
	}

	must(t, nodes[1].Remove(ctx, Welcome, by, monday.Add(time.Hour)))
	sounds("the program's own", func(l *Library) bool { return l.Clip(Welcome).Text == begun.Text })
	var refused *Refused
	if err := nodes[1].Remove(ctx, Welcome, by, monday); !errors.As(err, &refused) {
		t.Errorf("removed twice: %v", err)
	}
	var kinds string
	must(t, d.Pool.QueryRow(ctx, `select string_agg(kind || ' ' || (data ->> 'prompt'), ', ' order by seq) from journal where stream = 'desk'`).Scan(&kinds))
	if kinds != "prompt_replaced benvenuto, prompt_replaced offerta_richiamata, prompt_replaced musica, prompt_restored benvenuto" {
		t.Errorf("the journal: %s", kinds)
	}
}

// TestOwnPrompts are those of names that the program does not have: they exist, can
// be heard, and cannot go while they are announced.
func TestOwnPrompts(t *testing.T) {
	d := dbtest.New(t)
	s, by := NewStore(d, Italian(), nil), anna(t, d)
	ctx := t.Context()
	exists := func(name string) bool {
		t.Helper()
		ok, err := Exists(ctx, d.Pool, name)
		must(t, err)
		return ok
	}
	if exists("guasto_fse") || exists("") || exists("../it/benvenuto") || !exists(Emergency) {
		t.Error("what exists at first is wrong")
	}
	_, err := s.Put(ctx, "guasto_fse", "Il fascicolo è fermo.", wav(t, 1, 16000, 1, loud), by, monday)
	must(t, err)
	if !exists("guasto_fse") {
		t.Error("what was put does not exist")
	}
	all, err := s.List(ctx)
	must(t, err)
	if len(all) != len(Italian().Names())+1 {
		t.Errorf("%d prompts are listed", len(all))
	}
	i := slices.IndexFunc(all, func(p Prompt) bool { return p.Name == "guasto_fse" })
	if i < 0 || all[i].Embedded || !all[i].Replaced || all[i].LengthMS != 1000 || all[i].By != "Anna" {
		t.Errorf("it is listed as %+v", all[max(i, 0)])
	}
	if c, _, err := s.Sound(ctx, "guasto_fse", false); err != nil || c.Duration() != time.Second {
		t.Errorf("it sounds %v, %v", c.Duration(), err)
	}
	for _, original := range []bool{true, false} {
		if _, _, err := s.Sound(ctx, "non_c_e", original); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is not there: %v", err)
		}
	}
	if _, err := d.Pool.Exec(ctx, `insert into emergencies (clip, since, started_by) values ('guasto_fse', $1, $2)`, monday, by); err != nil {
		t.Fatal(err)
	}
	var refused *Refused
	if err := s.Remove(ctx, "guasto_fse", by, monday); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "emergenza") {
		t.Errorf("removed while it is announced: %v", err)
	}
	if _, err := d.Pool.Exec(ctx, `update emergencies set until = $1, ended_by = $2`, monday, by); err != nil {
		t.Fatal(err)
	}
	must(t, s.Remove(ctx, "guasto_fse", by, monday.Add(time.Second)))
	if exists("guasto_fse") {
		t.Error("what was removed exists")
	}
}
