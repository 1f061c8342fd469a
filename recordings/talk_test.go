package recordings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db/dbtest"
)

// beside puts two channels beside each other, as a talk's tape has them.
func beside(caller, operator []byte) (sound []byte) {
	for i, a := range caller {
		sound = append(sound, a, operator[i])
	}
	return sound
}

func readTalk(t *testing.T, dir, path string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, path))
	must(t, err)
	defer f.Close()
	sound, err := tapeKind{Talk: true}.read(f)
	must(t, err)
	return sound
}

// A talk that a crash cut off is there after it, both channels to the last frame
// that was on disk, and is nobody's message.
func TestTalkOutlivesACrash(t *testing.T) {
	d := dbtest.New(t)
	dir := t.TempDir()
	a := openArchive(t, dir, d)
	contact := uuid.New()
	addContact(t, d, contact)
	tape, err := a.Talk(t.Context(), contact, noon, 90)
	must(t, err)
	<-tape.row
	said := beside(speech(200, 2000, 800), speech(1500, 1000, 500))
	record(t, tape, said)
	must(t, a.spool.flush())
	crashed := copyDir(t, dir)
	must(t, a.Close())

	for range 2 { // a second recovery finds the same
		b := openArchive(t, crashed, d)
		sounds, err := b.Recover(t.Context())
		must(t, err)
		if len(sounds) != 0 {
			t.Errorf("a talk is taken for a message: %v", sounds)
		}
		must(t, b.Close())
	}
	var kind, state, path string
	var length, sound int
	var until time.Time
	must(t, d.Pool.QueryRow(t.Context(), `select kind, state, path, length_ms, sound_ms, keep_until from recordings where id = $1`, tape.ID()).Scan(&kind, &state, &path, &length, &sound, &until))
	if kind != "talk" || state != "complete" || length != 3000 || sound != 2300 || !until.Equal(noon.AddDate(0, 0, 90)) {
		t.Errorf("the row says %s, %s, %d ms, %d of them sound, until %s", kind, state, length, sound, until)
	}
	if got := readTalk(t, crashed, path); string(got) != string(said) {
		t.Errorf("the file has %d octets that are not what was said", len(got))
	}
	if got := kindsOf(t, d, contact); got != "taping taped" {
		t.Errorf("journal: %s", got)
	}
	if _, _, err := a.Message(t.Context(), contact); err == nil {
		t.Error("a talk is played as a message")
	}
}

// When its time is over a talk's file goes, then its row says so, with a line in the
// journal; what is kept longer stays, and so do messages.
func TestErase(t *testing.T) {
	d := dbtest.New(t)
	dir := t.TempDir()
	a := openArchive(t, dir, d)
	defer a.Close()
	var paths []string
	contacts := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for i, start := range []func() (*Tape, error){
		func() (*Tape, error) { return a.Talk(t.Context(), contacts[0], noon, 1) },
		func() (*Tape, error) { return a.Talk(t.Context(), contacts[1], noon, 2) },
		func() (*Tape, error) { return a.Tape(t.Context(), contacts[2], noon) },
	} {
		addContact(t, d, contacts[i])
		tape, err := start()
		must(t, err)
		record(t, tape, speech(0, 1000, 0))
		_, err = tape.Close(t.Context(), noon.Add(time.Second))
		must(t, err)
		var path string
		must(t, d.Pool.QueryRow(t.Context(), `select path from recordings where id = $1`, tape.ID()).Scan(&path))
		paths = append(paths, filepath.Join(dir, path))
	}
	for _, c := range []struct {
		after time.Duration
		n     int
	}{{23 * time.Hour, 0}, {25 * time.Hour, 1}, {26 * time.Hour, 0}} {
		if n, err := a.Erase(t.Context(), noon.Add(c.after)); err != nil || n != c.n {
			t.Errorf("after %s %d were erased, want %d (%v)", c.after, n, c.n, err)
		}
	}
	for i, there := range []bool{false, true, true} {
		if _, err := os.Stat(paths[i]); (err == nil) != there {
			t.Errorf("file %d: %v", i, err)
		}
	}
	if got := kindsOf(t, d, contacts[0]); got != "taping taped tape_erased" {
		t.Errorf("journal: %s", got)
	}
	if _, _, err := a.TalkSound(t.Context(), contacts[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was erased is played: %v", err)
	}
	if r, _, err := a.TalkSound(t.Context(), contacts[1]); err != nil {
		t.Error(err)
	} else {
		must(t, r.Close())
	}
}
