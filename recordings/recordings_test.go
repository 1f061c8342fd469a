package recordings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/sip/audio"
)

const patience = 20 * time.Second

func nowhere(t testing.TB) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: "postgres://pronto@/pronto?host=" + filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func openArchive(t testing.TB, dir string, d *db.DB) *Archive {
	t.Helper()
	a, err := Open(dir, "n1", d, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addContact(t testing.TB, d *db.DB, id uuid.UUID) {
	t.Helper()
	if err := tryContact(t.Context(), d, id); err != nil {
		t.Fatal(err)
	}
}

func tryContact(ctx context.Context, d *db.DB, id uuid.UUID) error {
	_, err := d.Pool.Exec(ctx, `insert into contacts (id, node, channel, call_id, caller_source, dialled, t0) values ($1::uuid, 'n1', 'phone', $1::uuid::text, 'withheld', '800', $2) on conflict do nothing`, id, noon)
	return err
}

// speech is silence with a tone in it.
func speech(before, tone, after int) []byte {
	b := append(audio.Silence(before), audio.Tone(440, tone, -12)...)
	return append(b, audio.Silence(after)...)
}

// record writes sound as frames, as a call does.
func record(t testing.TB, tape *Tape, sound []byte) {
	t.Helper()
	for len(sound) > 0 {
		n := min(audio.FrameBytes, len(sound))
		if _, err := tape.Write(sound[:n]); err != nil {
			t.Fatal(err)
		}
		sound = sound[n:]
	}
}

func readMessage(t testing.TB, a *Archive, contact uuid.UUID) []byte {
	t.Helper()
	r, _, err := a.Message(t.Context(), contact)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	alaw, err := audio.ReadWAV(r)
	if err != nil {
		t.Fatal(err)
	}
	return alaw
}

func kindsOf(t testing.TB, d *db.DB, contact uuid.UUID) string {
	t.Helper()
	if err := journal.Verify(t.Context(), d.Pool, journal.ContactStream(contact)); err != nil {
		t.Error(err)
	}
	lines, err := journal.OfContact(t.Context(), d.Pool, contact)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range lines {
		out = append(out, string(l.Kind))
	}
	return strings.Join(out, " ")
}

func TestMessageIsFiledListedHeardAndTaken(t *testing.T) {
	d := dbtest.New(t)
	dir := t.TempDir()
	a := openArchive(t, dir, d)
	contact := uuid.New()
	addContact(t, d, contact)
	woken := d.Wakeups.Subscribe("messages")
	defer woken.Close()

	tape, err := a.Tape(t.Context(), contact, noon)
	must(t, err)
	said := speech(500, 3000, 700)
	record(t, tape, said)
	if _, _, err := a.Message(t.Context(), contact); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a message that is being recorded: %v", err)
	}
	sound, err := tape.Close(t.Context(), noon.Add(4200*time.Millisecond))
	must(t, err)
	if want := (Sound{4200 * time.Millisecond, 3000 * time.Millisecond}); sound != want {
		t.Errorf("sound is %v, want %v", sound, want)
	}
	if again, err := tape.Close(t.Context(), noon.Add(time.Hour)); err != nil || again != sound {
		t.Errorf("closed again: %v, %v", again, err)
	}
	if _, err := tape.Write(said); !errors.Is(err, errClosed) {
		t.Errorf("written after the end: %v", err)
	}
	if a.Pending() {
		t.Error("something waits although the database is there")
	}
	if got := readMessage(t, a, contact); string(got) != string(said) {
		t.Errorf("the file has %d bytes that are not what was said", len(got))
	}
	if left := files(t, filepath.Join(dir, "spool")); len(left) > 1 {
		t.Errorf("in the spool are %v", left)
	}
	list, err := a.Messages(t.Context(), Filter{State: "new"})
	must(t, err)
	if len(list) != 1 || list[0].ContactID != contact || list[0].LengthMS != 4200 || list[0].SoundMS != 3000 || list[0].State != "new" || !list[0].StartedAt.Equal(noon) {
		t.Fatalf("messages are %+v", list)
	}
	select {
	case <-woken.C():
	default:
		t.Error("nobody was woken")
	}

	must(t, addUsers(t, d))
	id := list[0].ID
	must(t, a.Heard(t.Context(), id, 1, noon.Add(time.Minute)))
	must(t, a.Heard(t.Context(), id, 2, noon.Add(2*time.Minute)))
	must(t, a.Take(t.Context(), id, 1, noon.Add(3*time.Minute)))
	must(t, a.Take(t.Context(), id, 1, noon.Add(4*time.Minute)))
	if err := a.Take(t.Context(), id, 2, noon.Add(5*time.Minute)); !errors.Is(err, ErrTaken) {
		t.Errorf("taken by another: %v", err)
	}
	for _, err := range []error{a.Heard(t.Context(), uuid.New(), 1, noon), a.Take(t.Context(), uuid.New(), 1, noon)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no such message: %v", err)
		}
	}
	if got := kindsOf(t, d, contact); got != "recording recorded heard taken" {
		t.Errorf("journal: %s", got)
	}
	list, err = a.Messages(t.Context(), Filter{})
	must(t, err)
	if m := list[0]; m.State != "taken" || m.TakenBy != "anna" || !m.TakenAt.Equal(noon.Add(3*time.Minute)) || !m.HeardAt.Equal(noon.Add(time.Minute)) {
		t.Errorf("message is %+v", m)
	}
	if list, err = a.Messages(t.Context(), Filter{State: "new"}); err != nil || len(list) != 0 {
		t.Errorf("new messages: %v (%v)", list, err)
	}
	if list, err = a.Messages(t.Context(), Filter{Before: noon}); err != nil || len(list) != 0 {
		t.Errorf("older messages: %v (%v)", list, err)
	}
	must(t, a.Close())
}

func addUsers(t testing.TB, d *db.DB) error {
	_, err := d.Pool.Exec(t.Context(), `insert into users (name, display_name, role, password_hash, created_at) values ('anna', 'Anna', 'operator', '', $1), ('bruno', 'Bruno', 'operator', '', $1)`, noon)
	return err
}

func TestSoundIsFromTheFirstToTheLastLoudFrame(t *testing.T) {
	for name, c := range map[string]struct {
		alaw          []byte
		length, sound time.Duration
	}{
		"nothing":         {nil, 0, 0},
		"silence":         {audio.Silence(2000), 2 * time.Second, 0},
		"hiss":            {audio.Tone(1000, 2000, -55), 2 * time.Second, 0},
		"whole":           {audio.Tone(1000, 2000, -30), 2 * time.Second, 2 * time.Second},
		"pause within":    {append(speech(1000, 500, 3000), speech(0, 500, 1000)...), 6 * time.Second, 4 * time.Second},
		"ends in a frame": {append(audio.Silence(100), audio.Tone(1000, 10, -12)...), 110 * time.Millisecond, 10 * time.Millisecond},
	} {
		if got := (tapeKind{}).measure(c.alaw); got != (Sound{c.length, c.sound}) {
			t.Errorf("%s: %v, want %v and %v", name, got, c.length, c.sound)
		}
	}
}

func TestOneProcessHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	d := nowhere(t)
	a := openArchive(t, dir, d)
	if _, err := Open(dir, "n1", d, quiet); err == nil {
		t.Fatal("two have the directory")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, a.Run(ctx))
	must(t, openArchive(t, dir, d).Close())
}

// switched is a database that can be taken away and brought back: a directory in
// which the server's socket appears.
func switched(t *testing.T) (d, real *db.DB, there func(bool)) {
	t.Helper()
	address, err := url.Parse(dbtest.URL(t))
	must(t, err)
	query := address.Query()
	server := filepath.Join(query.Get("host"), ".s.PGSQL."+query.Get("port"))
	if query.Get("host") == "" {
		t.Fatalf("the test database must be on a socket")
	}
	dir, err := os.MkdirTemp("", "pronto-away-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	open := func(a string) *db.DB {
		d, err := db.Open(t.Context(), db.Config{URL: a, MaxConns: 4})
		must(t, err)
		t.Cleanup(d.Close)
		return d
	}
	real = open(address.String())
	query.Set("host", dir)
	address.RawQuery = query.Encode()
	d = open(address.String())
	link := filepath.Join(dir, filepath.Base(server))
	return d, real, func(yes bool) {
		if yes {
			must(t, os.Symlink(server, link))
			return
		}
		must(t, os.Remove(link))
		d.Pool.Reset()
	}
}

// contactFacts takes the facts of contacts in this test: one kind makes the row,
// the others are noted.
type contactFacts struct {
	d *db.DB

	mu   sync.Mutex // guards seen
	seen []string
}

func (c *contactFacts) take(ctx context.Context, kind string, raw json.RawMessage) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	if kind == "bad" {
		return errors.New("refused for ever")
	}
	if kind == "contact" {
		if err := tryContact(ctx, c.d, uuid.MustParse(text)); err != nil {
			return err
		}
	} else if _, err := c.d.Pool.Exec(ctx, `select 1`); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, text)
	return nil
}

func (c *contactFacts) list() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.seen, " ")
}

// A caller leaves a message while the database is away; when it is back contact,
// row, journal and other facts come in their order, once.
func TestMessageWaitsForTheDatabase(t *testing.T) {
	d, real, there := switched(t)
	dir := t.TempDir()
	a := openArchive(t, dir, d)
	facts := &contactFacts{d: d}
	a.OnReplay(facts.take)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- a.Run(ctx) }()

	contact := uuid.New()
	must(t, a.Defer("contact", contact))
	tape, err := a.Tape(t.Context(), contact, noon)
	must(t, err)
	record(t, tape, speech(0, 2500, 0))
	if sound, err := tape.Close(t.Context(), noon.Add(2500*time.Millisecond)); err != nil || sound.Sound != 2500*time.Millisecond {
		t.Fatalf("closed with %v, %v", sound, err)
	}
	for _, s := range []string{"a", "b", "c"} {
		must(t, a.Defer("step", s))
	}
	must(t, a.Defer("bad", "x"))
	must(t, a.Defer("step", "d"))
	if !a.Pending() {
		t.Fatal("nothing waits")
	}
	if facts.list() != "" {
		t.Errorf("replayed without a database: %s", facts.list())
	}
	there(true)
	for deadline := time.Now().Add(patience); a.Pending(); {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting; replayed: %s", facts.list())
		}
		<-time.After(10 * time.Millisecond)
	}
	if want := contact.String() + " a b c d"; facts.list() != want {
		t.Errorf("replayed %s, want %s", facts.list(), want)
	}
	if got := kindsOf(t, real, contact); got != "recording recorded" {
		t.Errorf("journal: %s", got)
	}
	if got := (tapeKind{}).measure(readMessage(t, a, contact)); got.Sound != 2500*time.Millisecond {
		t.Errorf("the message has %v", got)
	}
	refused, err := os.ReadFile(filepath.Join(dir, "spool", "refused.jsonl"))
	if err != nil || strings.Count(string(refused), "\n") != 1 || !strings.Contains(string(refused), `"kind":"bad"`) {
		t.Errorf("refused: %q (%v)", refused, err)
	}

	// And away again: what was begun with the database ends without it.
	tape, err = a.Tape(t.Context(), contact, noon.Add(time.Hour))
	must(t, err)
	record(t, tape, speech(0, 100, 0))
	<-tape.row
	there(false)
	if _, err := tape.Close(t.Context(), noon.Add(time.Hour+time.Second)); err != nil || !a.Pending() {
		t.Errorf("closed without a database: %v, pending %v", err, a.Pending())
	}
	there(true)
	for deadline := time.Now().Add(patience); a.Pending(); {
		if time.Now().After(deadline) {
			t.Fatal("still waiting")
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	must(t, <-ran)
	if got := kindsOf(t, real, contact); got != "recording recorded recording recorded" {
		t.Errorf("journal: %s", got)
	}
	if left := files(t, filepath.Join(dir, "spool")); len(left) != 0 {
		t.Errorf("all is done, but there are %v", left)
	}
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// Whatever was already written when a crash came, a recovery writes the rest and
// nothing twice, however often it is repeated.
func TestRecoveryFinishesAndNeverDoubles(t *testing.T) {
	d := dbtest.New(t)
	dir := t.TempDir()
	a := openArchive(t, dir, d)
	known, deferredContact, short := uuid.New(), uuid.New(), uuid.New()
	addContact(t, d, known)
	addContact(t, d, short)

	running, err := a.Tape(t.Context(), known, noon)
	must(t, err)
	<-running.row
	record(t, running, speech(200, 2800, 0))
	must(t, a.Defer("contact", deferredContact))
	orphan, err := a.Tape(t.Context(), deferredContact, noon.Add(time.Minute))
	must(t, err)
	record(t, orphan, speech(0, 1000, 500))
	<-orphan.row
	closed, err := a.Tape(t.Context(), short, noon.Add(2*time.Minute))
	must(t, err)
	record(t, closed, speech(0, 600, 0))
	must(t, a.spool.flush())
	torn := copyDir(t, dir) // the crash of the first round: nothing is closed
	_, err = closed.Close(t.Context(), noon.Add(2*time.Minute+time.Second))
	must(t, err)
	later := copyDir(t, dir) // of the second: one tape is

	want := map[uuid.UUID]time.Duration{known: 2800 * time.Millisecond, deferredContact: time.Second, short: 600 * time.Millisecond}
	for round, dir := range []string{later, torn, torn} {
		again := openArchive(t, dir, d)
		facts := &contactFacts{d: d}
		again.OnReplay(facts.take)
		got, err := again.Recover(t.Context())
		must(t, err)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round %d: sounds are %v, want %v", round, got, want)
		}
		if again.Pending() {
			t.Errorf("round %d: something waits", round)
		}
		for _, contact := range []uuid.UUID{known, deferredContact, short} {
			if got := kindsOf(t, d, contact); got != "recording recorded" {
				t.Errorf("round %d: journal %s", round, got)
			}
			if got := (tapeKind{}).measure(readMessage(t, again, contact)).Sound; got != want[contact] {
				t.Errorf("round %d: file has %v of sound, want %v", round, got, want[contact])
			}
		}
		must(t, again.Close())
		if left := files(t, filepath.Join(dir, "spool")); len(left) != 0 {
			t.Errorf("round %d: all is done, but there are %v", round, left)
		}
	}
	var rows, complete int
	must(t, d.Pool.QueryRow(t.Context(), `select count(*), count(*) filter (where state = 'complete' and ended_at >= started_at) from recordings`).Scan(&rows, &complete))
	if rows != 3 || complete != 3 {
		t.Errorf("%d rows, %d complete, want 3", rows, complete)
	}
	// Contacts that have their ending are nobody's business any more.
	_, err = d.Pool.Exec(t.Context(), `update contacts set ending = 'voicemail', te = t0`)
	must(t, err)
	last := openArchive(t, t.TempDir(), d)
	if got, err := last.Recover(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("sounds are %v (%v)", got, err)
	}
	must(t, last.Close())
}

// A row whose tape never reached the disk must not say "recording" for ever.
func TestRecoveryCompletesARowWithoutSound(t *testing.T) {
	d := dbtest.New(t)
	contact := uuid.New()
	addContact(t, d, contact)
	a := openArchive(t, t.TempDir(), d)
	must(t, a.writeRow(t.Context(), kindRecording, tapeFact{Tape: uuid.New(), Contact: contact, Started: noon}))
	got, err := a.Recover(t.Context())
	if sound, there := got[contact]; err != nil || !there || sound != 0 {
		t.Errorf("sounds are %v (%v)", got, err)
	}
	if _, _, err := a.Message(t.Context(), contact); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a message without sound: %v", err)
	}
	if got := kindsOf(t, d, contact); got != "recording recorded" {
		t.Errorf("journal: %s", got)
	}
	must(t, a.Close())
}

// The disk has no room for the file: the caller's message is safe in the spool,
// and becomes a file when there is.
func TestFileThatFindsNoRoomComesLater(t *testing.T) {
	d := dbtest.New(t)
	dir := t.TempDir()
	contact := uuid.New()
	addContact(t, d, contact)
	obstacle := filepath.Join(dir, "recordings")
	must(t, os.WriteFile(obstacle, nil, 0o600))
	a := openArchive(t, dir, d)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- a.Run(ctx) }()
	tape, err := a.Tape(t.Context(), contact, noon)
	must(t, err)
	record(t, tape, speech(0, 2500, 0))
	if sound, err := tape.Close(t.Context(), noon.Add(3*time.Second)); err != nil || sound.Sound != 2500*time.Millisecond {
		t.Errorf("closed with %v, %v", sound, err)
	}
	crashed := copyDir(t, dir)
	must(t, os.Remove(obstacle))
	for deadline := time.Now().Add(patience); ; {
		if _, _, err := a.Message(t.Context(), contact); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the file was never written")
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	must(t, <-ran)

	// The same after a crash in between; a recovery that finds no room says so,
	// and can be repeated.
	b := openArchive(t, crashed, d)
	if _, err := b.Recover(t.Context()); err == nil {
		t.Error("recovered without room")
	}
	must(t, os.Remove(filepath.Join(crashed, "recordings")))
	if got, err := b.Recover(t.Context()); err != nil || got[contact] != 2500*time.Millisecond {
		t.Errorf("sounds are %v (%v)", got, err)
	}
	must(t, b.Close())
}

// Spool and file both fail: the one case in which Close must say so.
func TestCloseSaysThatSoundIsNotSafe(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "recordings"), nil, 0o600))
	a := openArchive(t, dir, nowhere(t))
	tape, err := a.Tape(t.Context(), uuid.New(), noon)
	must(t, err)
	<-tape.row
	a.spool.datasync = func(*os.File) error { return errors.New("no room") }
	record(t, tape, speech(0, 100, 0))
	if _, err := tape.Close(t.Context(), noon); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("err is %v", err)
	}
	if err := a.Defer("step", "a"); err == nil || a.Pending() && kindsHas(a, "step") {
		t.Errorf("a fact on a full disk: %v", err)
	}
	if err := a.Close(); err == nil {
		t.Error("closed although sound is not on disk")
	}
}

func kindsHas(a *Archive, kind string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.facts {
		if f.Kind == kind {
			return true
		}
	}
	return false
}

func TestTapeEndsAfterAnHour(t *testing.T) {
	a := openArchive(t, t.TempDir(), nowhere(t))
	tape, err := a.Tape(t.Context(), uuid.New(), noon)
	must(t, err)
	tape.mu.Lock()
	tape.sound = make([]byte, tapeMost)
	tape.mu.Unlock()
	if _, err := tape.Write(make([]byte, audio.FrameBytes)); !errors.Is(err, errTooLong) {
		t.Errorf("err is %v", err)
	}
	tape.mu.Lock()
	tape.sound = nil
	tape.mu.Unlock()
	_, err = tape.Close(t.Context(), noon)
	must(t, err)
	must(t, a.Close())
}

// In a bubble sound is on disk 100 ms after it was said, to the millisecond.
func TestSoundIsOnDiskInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a := openArchive(t, dir, nowhere(t))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- a.Run(ctx) }()
		tape, err := a.Tape(ctx, uuid.New(), time.Now())
		must(t, err)
		<-tape.row
		for n := range 50 {
			record(t, tape, audio.Silence(20))
			<-time.After(20 * time.Millisecond)
			synctest.Wait()
			left, err := onDisk(dir)
			must(t, err)
			if want := n - 4; left < want*audio.FrameBytes { // 5 frames are 100 ms
				t.Fatalf("after %d frames %d bytes are on disk", n+1, left)
			}
		}
		_, err = tape.Close(ctx, time.Now())
		must(t, err)
		cancel()
		must(t, <-ran)
	})
}

// onDisk counts the sound in a spool that somebody is writing.
func onDisk(dir string) (int, error) {
	names, err := filepath.Glob(filepath.Join(dir, "spool", "*.seg"))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		if _, err := readRecords(strings.NewReader(string(b)), func(p []byte) {
			if r, ok := parse(p).(recordSound); ok {
				n += len(r.sound)
			}
		}); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func BenchmarkWrite(b *testing.B) {
	a, err := Open(b.TempDir(), "n1", nowhere(b), quiet)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ran := make(chan error)
	go func() { ran <- a.Run(ctx) }()
	tape, err := a.Tape(ctx, uuid.New(), noon)
	if err != nil {
		b.Fatal(err)
	}
	frame := audio.Silence(20)
	for b.Loop() {
		if _, err := tape.Write(frame); err != nil && !errors.Is(err, errTooLong) {
			b.Fatal(err)
		}
	}
	cancel()
	if err := <-ran; err != nil && !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
}
