package recordings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func newSpool(t *testing.T, dir string) (*spool, []*leftTape, []deferred) {
	t.Helper()
	s, tapes, facts, err := openSpool(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s, tapes, facts
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func beginTape(t *testing.T, s *spool) uuid.UUID {
	t.Helper()
	id := uuid.New()
	b, err := json.Marshal(tapeStart{Contact: id, At: noon})
	must(t, err)
	must(t, s.add(id, tapeBegun, b))
	return id
}

func addSound(t *testing.T, s *spool, id uuid.UUID, at int, sound string) {
	t.Helper()
	b := []byte{byte(at), byte(at >> 8), 0, 0, 0, 0, 0, 0}
	must(t, s.add(id, tapeSound, append(b, sound...)))
}

func keepFact(t *testing.T, s *spool, name string) uint64 {
	t.Helper()
	n, err := s.keep(fmt.Appendf(nil, `{"kind":%q,"fact":1}`, name))
	must(t, err)
	return n
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	must(t, err)
	return names
}

func kinds(facts []deferred) (out []string) {
	for _, f := range facts {
		out = append(out, f.Kind)
	}
	return out
}

func TestSpoolGivesBackWhatIsNotDone(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := newSpool(t, dir)
	a, b := beginTape(t, s), beginTape(t, s)
	addSound(t, s, a, 0, "abc")
	addSound(t, s, b, 0, "xyz")
	first := keepFact(t, s, "one")
	addSound(t, s, a, 3, "def")
	must(t, s.add(a, tapeClosed, []byte{1, 0, 0, 0, 0, 0, 0, 0}))
	keepFact(t, s, "two")
	must(t, s.add(b, tapeDone, nil))
	must(t, s.done(first))
	must(t, s.close())

	s, tapes, facts := newSpool(t, dir)
	if len(tapes) != 1 || tapes[0].id != a || string(tapes[0].sound) != "abcdef" || tapes[0].start.Contact != a || !tapes[0].closed.Equal(time.UnixMicro(1)) {
		t.Errorf("tapes left: %+v", tapes)
	}
	if fmt.Sprint(kinds(facts)) != "[two]" {
		t.Errorf("facts left: %v", kinds(facts))
	}
	must(t, s.add(a, tapeDone, nil))
	must(t, s.done(facts[0].n))
	must(t, s.close())
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("all is done, but there are %v", left)
	}
	if _, tapes, facts = newSpool(t, dir); len(tapes)+len(facts) != 0 {
		t.Errorf("came back: %v %v", tapes, facts)
	}
}

// Wherever a crash tears the file, what was whole before is there, and the spool
// goes on.
func TestSpoolSurvivesATearAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := newSpool(t, dir)
	id := beginTape(t, s)
	for n := range 4 {
		addSound(t, s, id, n, string(rune('a'+n)))
		keepFact(t, s, fmt.Sprint(n))
	}
	must(t, s.close())
	whole, err := os.ReadFile(files(t, dir)[0])
	must(t, err)
	last, base := 0, t.TempDir()
	for cut := 0; cut <= len(whole); cut++ {
		junk := []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\x03\x00\x00\x00abcdxyz"}[cut%3]
		dir := filepath.Join(base, fmt.Sprint(cut))
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf(segmentName, 7)), append(bytes.Clone(whole[:cut]), junk...), 0o600))
		s, tapes, facts := newSpool(t, dir)
		sound := ""
		if len(tapes) > 0 {
			sound = string(tapes[0].sound)
		}
		if len(facts) < last || len(facts) > len(sound) || sound != "abcd"[:len(sound)] {
			t.Fatalf("cut at %d: facts %v, sound %q after %d facts before", cut, kinds(facts), sound, last)
		}
		last = len(facts)
		s.datasync = func(*os.File) error { return nil } // this process lives on
		n := keepFact(t, s, "more")
		must(t, s.close())
		if _, _, again := newSpool(t, dir); len(again) != len(facts)+1 || again[len(facts)].n != n {
			t.Fatalf("cut at %d: after one more fact there are %v", cut, kinds(again))
		}
	}
	if last != 4 {
		t.Errorf("the whole file has %d facts", last)
	}
}

func TestSegmentsGoFromTheOldestWhenTheirContentIsDone(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := newSpool(t, dir)
	s.most = 1 // each flush fills a segment
	a := beginTape(t, s)
	must(t, s.flush())
	b := beginTape(t, s)
	must(t, s.flush())
	n := keepFact(t, s, "one")
	addSound(t, s, a, 0, "abc")
	must(t, s.flush())
	if got := len(files(t, dir)); got != 4 {
		t.Fatalf("%d segments, want 4", got)
	}
	must(t, s.add(b, tapeDone, nil))
	must(t, s.done(n))
	must(t, s.flush())
	if got := len(files(t, dir)); got != 5 { // the second and third are done, but the first is not
		t.Errorf("%d segments, want 5", got)
	}
	s2, tapes, facts := newSpool(t, dir)
	if len(tapes) != 1 || tapes[0].id != a || string(tapes[0].sound) != "abc" || len(facts) != 0 || len(files(t, dir)) != 5 {
		t.Errorf("a reader finds %v and %v", tapes, facts)
	}
	_ = s2
	must(t, s.add(a, tapeDone, nil))
	must(t, s.flush())
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("all is done, but there are %v", left)
	}
	keepFact(t, s, "two") // and it goes on
	must(t, s.close())
	if _, _, facts := newSpool(t, dir); fmt.Sprint(kinds(facts)) != "[two]" {
		t.Errorf("facts %v", kinds(facts))
	}
}

// A full disk: facts are refused, and do not turn up later; sound is kept in
// memory and written, once, when there is room.
func TestFullDiskIsReportedAndOvercome(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := newSpool(t, dir)
	id := beginTape(t, s)
	addSound(t, s, id, 0, "abc")
	keepFact(t, s, "before")
	s.datasync = func(f *os.File) error { return &os.PathError{Op: "sync", Path: f.Name(), Err: syscall.ENOSPC} }
	addSound(t, s, id, 3, "def")
	if _, err := s.keep([]byte(`{"kind":"refused","fact":1}`)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a fact on a full disk: %v", err)
	}
	if err := s.flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("flush on a full disk: %v", err)
	}
	big := make([]byte, recordMost/2)
	var err error
	for range bufferMost / len(big) {
		if err = s.add(id, tapeSound, big); err != nil {
			break
		}
	}
	if !errors.Is(err, errFull) {
		t.Errorf("memory is full: %v", err)
	}
	s.datasync = datasync
	must(t, s.flush())
	keepFact(t, s, "after")
	must(t, s.close())
	_, tapes, facts := newSpool(t, dir)
	if fmt.Sprint(kinds(facts)) != "[before after]" || len(tapes) != 1 || !bytes.HasPrefix(tapes[0].sound, []byte("abcdef")) {
		t.Errorf("left are %v and %d tapes", kinds(facts), len(tapes))
	}
	if err := s.add(id, tapeSound, make([]byte, recordMost)); !errors.Is(err, errRecord) {
		t.Errorf("a record that is too large: %v", err)
	}
}

// A fact that somebody else's flush failed to write is refused as well.
func TestManyKeepersHearTheirOwnOutcome(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := newSpool(t, dir)
	var mu sync.Mutex // guards count and kept
	count, kept := 0, map[uint64]bool{}
	s.datasync = func(f *os.File) error {
		mu.Lock()
		defer mu.Unlock()
		if count++; count%3 == 0 {
			return syscall.EIO
		}
		return datasync(f)
	}
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for n := range 20 {
				no, err := s.keep(fmt.Appendf(nil, `{"kind":"%d-%d","fact":1}`, k, n))
				if err == nil {
					mu.Lock()
					kept[no] = true
					mu.Unlock()
				} else if !errors.Is(err, syscall.EIO) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	must(t, s.close())
	_, _, facts := newSpool(t, dir)
	for _, f := range facts {
		if !kept[f.n] {
			t.Errorf("fact %d was refused, but is there", f.n)
		}
		delete(kept, f.n)
	}
	if len(kept) > 0 || len(facts) < 20 {
		t.Errorf("%d facts of %d are missing", len(kept), len(facts))
	}
}

func TestDamageWithinIsNotTakenForSound(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := newSpool(t, dir)
	keepFact(t, s, "one")
	keepFact(t, s, "two")
	must(t, s.close())
	name := files(t, dir)[0]
	b, err := os.ReadFile(name)
	must(t, err)
	b[len(b)-3] ^= 1
	must(t, os.WriteFile(name, b, 0o600))
	s, _, facts := newSpool(t, dir)
	if fmt.Sprint(kinds(facts)) != "[one]" {
		t.Errorf("facts %v", kinds(facts))
	}
	must(t, s.close())
}

func FuzzReadSpool(f *testing.F) {
	id := uuid.New()
	f.Add([]byte(magic))
	f.Add(append([]byte(magic), frame(factKept, make([]byte, 8), []byte(`{"kind":"a","fact":{}}`))...))
	f.Add(append([]byte(magic), frame(tapeSound, id[:], make([]byte, 8+160))...))
	f.Add(append([]byte(magic), frame(tapeBegun, id[:], []byte(`{"contact":"`+id.String()+`"}`))...))
	f.Add(append(append([]byte(magic), frame(tapeDone, id[:])...), frame(tapeClosed, id[:], make([]byte, 8))...))
	f.Add(append([]byte(magic), frame(factsDone, make([]byte, 8))[:12]...))
	k := keysOf(f, identities(f, 1)[0])
	wrapped, seal, err := k.newTape()
	if err != nil {
		f.Fatal(err)
	}
	start, err := json.Marshal(tapeStart{Contact: id, Key: wrapped})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Concat([]byte(magic), frame(tapeBegun, id[:], start), frame(tapeSound, id[:], make([]byte, 8), seal.Seal(nil, nonce(0), make([]byte, 160), nil)), frame(tapeSound, id[:], make([]byte, 9))))
	f.Fuzz(func(t *testing.T, b []byte) {
		var records [][]byte
		good, err := readRecords(bytes.NewReader(b), func(p []byte) {
			records = append(records, bytes.Clone(p))
			parse(p) // must not panic
		})
		if err != nil || good < 0 || good > int64(len(b)) {
			t.Fatalf("%d of %d bytes are good (%v)", good, len(b), err)
		}
		// What is good is exactly what the records say, so appending after it
		// gives one more.
		again := []byte(magic)
		for _, p := range records {
			again = append(again, frame(p[0], p[1:])...)
		}
		if good > 0 && !bytes.Equal(again, b[:good]) {
			t.Fatal("the good part is not the records")
		}
		count := 0
		if _, err := readRecords(bytes.NewReader(append(again, frame(tapeDone, make([]byte, 16))...)), func([]byte) { count++ }); err != nil || count != len(records)+1 {
			t.Fatalf("%d records after one more than %d (%v)", count, len(records), err)
		}
		// Nor may a whole spool stumble over them.
		found, seg := reading{tapes: map[uuid.UUID]*leftTape{}}, &segment{tapes: map[uuid.UUID]bool{}}
		for _, p := range records {
			found.take(seg, p)
		}
		tapes, facts := found.left()
		if len(tapes)+len(facts) > len(records) {
			t.Fatal("more is left than there was")
		}
		for _, tape := range tapes {
			most := tape.octets()
			_, _ = tape.open(k) // must not panic
			if len(tape.sound) > most {
				t.Fatalf("%d octets were opened of a tape of %d", len(tape.sound), most)
			}
			if len(tape.sound) > tape.start.most() {
				t.Fatal("a tape is longer than any")
			}
		}
	})
}
