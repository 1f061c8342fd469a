package recordings

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/sip/audio"
)

// chunkOctets is how much of a file age seals at a time.
const chunkOctets = 64 << 10

// identities makes n secret keys.
func identities(t testing.TB, n int) (list []*age.X25519Identity) {
	t.Helper()
	for range n {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, id)
	}
	return list
}

// keyFile writes secret keys as age-keygen does.
func keyFile(t testing.TB, ids ...*age.X25519Identity) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recordings.key")
	text := "# created: 2026-03-02T12:00:00Z\n"
	for _, id := range ids {
		text += id.String() + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keysOf seals to the first of some secret keys, and opens with all.
func keysOf(t testing.TB, ids ...*age.X25519Identity) *Keys {
	t.Helper()
	k, err := ReadKeys([]string{ids[0].Recipient().String()}, keyFile(t, ids...))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sealedOf seals octets in memory.
func sealedOf(t testing.TB, k *Keys, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := k.seal(&b, func(w io.Writer) error { _, err := w.Write(plain); return err }); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func noise(n int) []byte {
	b, r := make([]byte, n), rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

// What is half configured is refused, and no secret is repeated.
func TestReadKeys(t *testing.T) {
	ids := identities(t, 2)
	mine, other := ids[0], ids[1]
	open := keyFile(t, mine)
	must(t, os.Chmod(open, 0o644))
	pub := mine.Recipient().String()
	for name, c := range map[string]struct {
		recipients []string
		path, want string
	}{
		"nobody could hear":    {[]string{pub}, "", "recipients without identities"},
		"nothing is encrypted": {nil, keyFile(t, mine), "identities without recipients"},
		"a secret as public":   {[]string{pub, mine.String()}, keyFile(t, mine), "number 2 is not a public key"},
		"two in one":           {[]string{pub + "\n" + pub}, keyFile(t, mine), "number 1 is not"},
		"no file":              {[]string{pub}, filepath.Join(t.TempDir(), "none"), "no such file"},
		"a directory":          {[]string{pub}, t.TempDir(), "no file of keys"},
		"everybody's":          {[]string{pub}, open, "chmod 600"},
		"no keys":              {[]string{pub}, keyFile(t), "age-keygen"},
		"another's":            {[]string{pub}, keyFile(t, other), "opens what is encrypted"},
	} {
		k, err := ReadKeys(c.recipients, c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(strings.ToUpper(err.Error()), mine.String()[:20]) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	if k, err := ReadKeys(nil, ""); k != nil || err != nil || k.Sealing() != 0 {
		t.Errorf("nothing is configured: %v, %v", k, err)
	}
	// A key that is kept elsewhere may be among them.
	if k, err := ReadKeys([]string{other.Recipient().String(), pub}, keyFile(t, mine)); err != nil || k.Sealing() != 2 {
		t.Errorf("two keys: %v, %v", k, err)
	}
}

// Any part of a sealed file can be read by itself, and age reads the whole.
func TestSealedFileIsReadFromAnywhere(t *testing.T) {
	id := identities(t, 1)[0]
	k := keysOf(t, id)
	for _, n := range []int{0, 1, chunkOctets - 1, chunkOctets, chunkOctets + 1, 2 * chunkOctets, 3*chunkOctets + 1000} {
		plain := noise(n)
		sealed := sealedOf(t, k, plain)
		if r, err := age.Decrypt(bytes.NewReader(sealed), id); err != nil {
			t.Errorf("%d octets: age refuses them: %v", n, err)
		} else if all, err := io.ReadAll(r); err != nil || !bytes.Equal(all, plain) {
			t.Errorf("%d octets: age reads %d others (%v)", n, len(all), err)
		}
		r, err := k.open(bytes.NewReader(sealed), int64(len(sealed)))
		must(t, err)
		if r.Size() != int64(n) {
			t.Errorf("%d octets became %d", n, r.Size())
		}
		for _, at := range []int{n - 1, 0, chunkOctets - 1, chunkOctets, chunkOctets + 1, 2*chunkOctets - 1, 2 * chunkOctets, 3 * chunkOctets, n} {
			for _, want := range []int{1, 2, chunkOctets + 2} {
				if at < 0 || at > n {
					continue
				}
				if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.LimitReader(r, int64(want)))
				if err != nil || !bytes.Equal(got, plain[at:min(at+want, n)]) {
					t.Errorf("of %d octets, %d from %d on are others (%v)", n, want, at, err)
				}
			}
		}
	}
}

// Where a file was changed it is not read; where it was cut it is not opened.
func TestSealedFileThatWasChanged(t *testing.T) {
	ids := identities(t, 2)
	k := keysOf(t, ids[0])
	plain := noise(3*chunkOctets + 1000)
	whole := sealedOf(t, k, plain)
	const sealed = chunkOctets + chacha20poly1305.Overhead
	begins := len(whole) - (1000 + chacha20poly1305.Overhead) - 3*sealed // of the first chunk
	swapped := slices.Concat(whole[:begins], whole[begins+sealed:begins+2*sealed], whole[begins:begins+sealed], whole[begins+2*sealed:])
	flipped := func(at int) []byte { b := bytes.Clone(whole); b[at] ^= 1; return b }
	for name, c := range map[string]struct {
		file  []byte
		opens bool
		good  int // octets from the start that are still read
	}{
		"first chunk":         {flipped(begins + 5), true, 0},
		"second chunk":        {flipped(begins + sealed + 5), true, chunkOctets},
		"its seal":            {flipped(begins + 2*sealed - 1), true, chunkOctets},
		"last chunk":          {flipped(len(whole) - 30), false, 0},
		"the header":          {flipped(30), false, 0},
		"swapped chunks":      {swapped, true, 0},
		"cut at a chunk":      {whole[:begins+2*sealed], false, 0},
		"cut within":          {whole[:begins+sealed+700], false, 0},
		"nothing but header":  {whole[:begins], false, 0},
		"a chunk in between":  {slices.Concat(whole[:begins+sealed], whole[begins:]), true, chunkOctets},
		"a chunk is missing":  {slices.Concat(whole[:begins+sealed], whole[begins+2*sealed:]), false, 0},
		"empty":               {nil, false, 0},
		"something else, WAV": {[]byte("RIFF\x00\x00\x00\x00WAVEfmt "), false, 0},
	} {
		r, err := k.open(bytes.NewReader(c.file), int64(len(c.file)))
		if (err == nil) != c.opens && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: opened: %v", name, err)
		}
		if err != nil {
			continue
		}
		got, err := io.ReadAll(r)
		if err == nil || !bytes.Equal(got, plain[:c.good]) {
			t.Errorf("%s: %d octets are read, %d are good (%v)", name, len(got), c.good, err)
		}
	}
	if _, err := keysOf(t, ids[1]).open(bytes.NewReader(whole), int64(len(whole))); !errors.Is(err, ErrLocked) {
		t.Errorf("another's key: %v", err)
	}
}

// FuzzSealed: whatever is done to a sealed file, what is read is what was sealed.
func FuzzSealed(f *testing.F) {
	k := keysOf(f, identities(f, 1)[0])
	plain := noise(chunkOctets + 100)
	whole := sealedOf(f, k, plain)
	f.Add(0, byte(0), len(whole), 0)
	f.Add(40, byte(1), len(whole), 5)
	f.Add(300, byte(1), len(whole), chunkOctets)
	f.Add(len(whole)-1, byte(1), len(whole), chunkOctets)
	f.Add(0, byte(0), len(whole)-116, 0)
	f.Add(0, byte(0), 0, 0)
	f.Fuzz(func(t *testing.T, at int, flip byte, size, from int) {
		file := bytes.Clone(whole[:min(max(size, 0), len(whole))])
		if at >= 0 && at < len(file) {
			file[at] ^= flip
		}
		r, err := k.open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		if _, err := r.Seek(int64(from), io.SeekStart); err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if from > len(plain) {
			from = len(plain)
		}
		if !bytes.HasPrefix(plain[from:], got) || err == nil && len(got) != len(plain)-from {
			t.Fatalf("from %d on %d octets are read that were not sealed (%v)", from, len(got), err)
		}
	})
}

// found names the files below dir that hold these octets.
func found(dir string, octets []byte) (names []string, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		if bytes.Contains(b, octets) {
			names = append(names, path)
		}
		return err
	})
	return names, err
}

// sealedArchive opens an archive that seals.
func sealedArchive(t *testing.T, dir string, d *db.DB, k *Keys) *Archive {
	t.Helper()
	a := openArchive(t, dir, d)
	a.Seal(k)
	return a
}

// A talk and a message are on the disk from the first word to the last, and at no
// time in clear: not while they are said, nor after a crash, in a backup, or when done.
// Without keys the same test finds them.
func TestNothingIsOnTheDiskInClear(t *testing.T) {
	said, spoken := speech(0, 2000, 100), beside(speech(0, 2000, 100), audio.Silence(2100))
	loud := said[3*audio.FrameBytes : 4*audio.FrameBytes]     // of a message, a frame
	louder := spoken[5*audio.FrameBytes : 6*audio.FrameBytes] // of a talk
	for name, k := range map[string]*Keys{"clear": nil, "sealed": keysOf(t, identities(t, 1)[0])} {
		t.Run(name, func(t *testing.T) {
			d := dbtest.New(t)
			dir := t.TempDir()
			a := sealedArchive(t, dir, d, k)
			holds := func(when, dir string, octets ...[]byte) {
				t.Helper()
				for _, o := range octets {
					if in, err := found(dir, o); err != nil || (len(in) > 0) != (k == nil) {
						t.Errorf("%s: %.12q is in %v (%v)", when, o, in, err)
					}
				}
			}
			message, talk := uuid.New(), uuid.New()
			addContact(t, d, message)
			addContact(t, d, talk)
			m, err := a.Tape(t.Context(), message, noon)
			must(t, err)
			record(t, m, said)
			k2, err := a.Talk(t.Context(), talk, noon, 1)
			must(t, err)
			record(t, k2, spoken)
			<-m.row
			<-k2.row
			must(t, a.spool.flush())
			holds("while it is said", dir, loud, louder)
			crashed, backup := copyDir(t, dir), t.TempDir()

			_, err = m.Close(t.Context(), noon.Add(2*time.Second))
			must(t, err)
			_, err = k2.Close(t.Context(), noon.Add(2*time.Second))
			must(t, err)
			holds("afterwards", dir, loud, louder, []byte("RIFF"), []byte("WAVE"))
			if got := readMessage(t, a, message); !bytes.Equal(got, said) {
				t.Error("the message is not what was said")
			}
			// Meanwhile a backup that found it being made.
			rows := []Kept{{ID: m.ID(), Contact: message, Kind: kindMessage, Started: noon}, {ID: k2.ID(), Contact: talk, Kind: kindTalk, Days: 1, Started: noon}}
			if _, tapes, err := SaveSpool(dir, backup, rows); err != nil || tapes != 2 {
				t.Errorf("%d tapes are in the backup (%v)", tapes, err)
			}
			holds("in a backup of what was finished since", backup, loud, louder)
			early := t.TempDir()
			if _, tapes, err := SaveSpool(crashed, early, rows); err != nil || tapes != 2 {
				t.Errorf("%d tapes are in the early backup (%v)", tapes, err)
			}
			holds("in a backup meanwhile", early, loud, louder)
			for when, dir := range map[string]string{"crash": crashed, "backup": backup, "early backup": early} {
				b := sealedArchive(t, dir, d, k)
				sounds, err := b.Recover(t.Context())
				must(t, err)
				if sounds[message] != 2*time.Second {
					t.Errorf("%s: sounds are %v", when, sounds)
				}
				if got := readMessage(t, b, message); !bytes.Equal(got, said) {
					t.Errorf("%s: the message is not what was said", when)
				}
				r, _, err := b.TalkSound(t.Context(), talk)
				must(t, err)
				got, err := (tapeKind{Talk: true}).read(r)
				if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, spoken) {
					t.Errorf("%s: the talk is not what was said (%v)", when, err)
				}
				must(t, b.Close())
				holds(when, dir, loud, louder, []byte("RIFF"))
			}
			if n, err := a.Erase(t.Context(), noon.AddDate(0, 0, 2)); err != nil || n != 1 {
				t.Errorf("%d were erased (%v)", n, err)
			}
			if left, err := found(filepath.Join(dir, soundDir), nil); err != nil || len(left) != 1 {
				t.Errorf("after the talk's time %v are left (%v)", left, err)
			}
			must(t, a.Close())
		})
	}
}

// A recording whose key is not there is not played, not altered and not lost: neither
// one that is finished nor one that a crash cut off. With the key it is as ever.
func TestKeyThatIsMissing(t *testing.T) {
	d := dbtest.New(t)
	ids := identities(t, 2)
	old, fresh := keysOf(t, ids[0]), keysOf(t, ids[1])
	dir := t.TempDir()
	a := sealedArchive(t, dir, d, old)
	said := speech(500, 3000, 500)
	contacts := []uuid.UUID{uuid.New(), uuid.New()}
	var tapes []*Tape
	for _, c := range contacts {
		addContact(t, d, c)
		tape, err := a.Tape(t.Context(), c, noon)
		must(t, err)
		record(t, tape, said)
		<-tape.row
		tapes = append(tapes, tape)
	}
	_, err := tapes[0].Close(t.Context(), noon.Add(4*time.Second))
	must(t, err)
	must(t, a.spool.flush())
	dir = copyDir(t, dir) // the crash
	must(t, a.Close())
	path := filepath.Join(dir, soundPath(noon, tapes[0].ID())+sealedExt)
	before, err := os.ReadFile(path)
	must(t, err)

	for range 2 { // and at the next start
		b := sealedArchive(t, dir, d, fresh)
		sounds, err := b.Recover(t.Context())
		must(t, err)
		if sounds[contacts[1]] != 4*time.Second { // all of it, for lack of ears: it is a message
			t.Errorf("sounds are %v", sounds)
		}
		if _, _, err := b.Message(t.Context(), contacts[0]); !errors.Is(err, ErrLocked) {
			t.Errorf("played without the key: %v", err)
		}
		if got := kindsOf(t, d, contacts[1]); got != "recording" {
			t.Errorf("journal: %s", got)
		}
		later := uuid.New() // life goes on
		addContact(t, d, later)
		more, err := b.Tape(t.Context(), later, noon.Add(time.Hour))
		must(t, err)
		_, err = more.Close(t.Context(), noon.Add(time.Hour))
		must(t, err)
		must(t, b.Close())
		if left := files(t, filepath.Join(dir, spoolDir)); len(left) != 0 {
			t.Errorf("what has no key holds %v", left)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("its file was touched (%v)", err)
	}
	backup := t.TempDir()
	if _, n, err := SaveSpool(dir, backup, []Kept{{ID: tapes[1].ID(), Contact: contacts[1], Kind: kindMessage, Started: noon}}); err != nil || n != 1 {
		t.Errorf("%d tapes without a key are in a backup (%v)", n, err)
	}
	rotated := keysOf(t, ids[1], ids[0])
	for _, dir := range []string{backup, dir} {
		b := sealedArchive(t, dir, d, rotated)
		_, err := b.Recover(t.Context())
		must(t, err)
		if got := readMessage(t, b, contacts[1]); !bytes.Equal(got, said) {
			t.Error("with the key it is not what was said")
		}
		must(t, b.Close())
		if left, err := filepath.Glob(filepath.Join(dir, spoolDir, "*"+asideExt)); err != nil || len(left) != 0 {
			t.Errorf("still aside: %v (%v)", left, err)
		}
	}
	if got := kindsOf(t, d, contacts[1]); got != "recording recorded" {
		t.Errorf("journal: %s", got)
	}
}

// A talk that waits for its key waits no longer than it may be kept.
func TestASetAsideTalkIsErasedInTime(t *testing.T) {
	d := dbtest.New(t)
	ids := identities(t, 2)
	dir := t.TempDir()
	a := sealedArchive(t, dir, d, keysOf(t, ids[0]))
	contact := uuid.New()
	addContact(t, d, contact)
	tape, err := a.Talk(t.Context(), contact, noon, 1)
	must(t, err)
	record(t, tape, speech(0, 1000, 0))
	<-tape.row
	must(t, a.spool.flush())
	dir = copyDir(t, dir) // the crash
	must(t, a.Close())
	b := sealedArchive(t, dir, d, keysOf(t, ids[1]))
	_, err = b.Recover(t.Context())
	must(t, err)
	for _, c := range []struct {
		after time.Duration
		n     int
	}{{23 * time.Hour, 0}, {25 * time.Hour, 1}, {26 * time.Hour, 0}} {
		if n, err := b.Erase(t.Context(), noon.Add(c.after)); err != nil || n != c.n {
			t.Errorf("after %s %d were erased, want %d (%v)", c.after, n, c.n, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, spoolDir, "*"+asideExt)); err != nil || len(left) != 0 {
		t.Errorf("still aside: %v (%v)", left, err)
	}
	if got := kindsOf(t, d, contact); got != "taping tape_erased" {
		t.Errorf("journal: %s", got)
	}
	must(t, b.Close())
	c := sealedArchive(t, dir, d, keysOf(t, ids[1], ids[0])) // and its key brings nothing back
	_, err = c.Recover(t.Context())
	must(t, err)
	if _, _, err := c.TalkSound(t.Context(), contact); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was erased is played: %v", err)
	}
	must(t, c.Close())
}

// What a crash left in clear, before there were keys, is sealed when it is finished,
// and nothing of it stays.
func TestSealedFromTheNextStart(t *testing.T) {
	d := dbtest.New(t)
	dir := t.TempDir()
	a := openArchive(t, dir, d)
	contact := uuid.New()
	addContact(t, d, contact)
	tape, err := a.Tape(t.Context(), contact, noon)
	must(t, err)
	said := speech(0, 3000, 0)
	record(t, tape, said)
	<-tape.row
	must(t, a.spool.flush())
	crashed := copyDir(t, dir)
	must(t, a.Close())
	for _, ext := range []string{"", partExt} { // the crash came between the file and the row, and another before
		path := filepath.Join(crashed, soundPath(noon, tape.ID())+ext)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, said, 0o600))
	}
	b := sealedArchive(t, crashed, d, keysOf(t, identities(t, 1)[0]))
	_, err = b.Recover(t.Context())
	must(t, err)
	if got := readMessage(t, b, contact); !bytes.Equal(got, said) {
		t.Error("it is not what was said")
	}
	must(t, b.Close())
	if in, err := found(crashed, said[3*audio.FrameBytes:4*audio.FrameBytes]); err != nil || len(in) > 0 {
		t.Errorf("in clear in %v (%v)", in, err)
	}
}

// A record of the spool that was changed is silence, and the rest is heard.
func TestRecordThatWasChanged(t *testing.T) {
	k := keysOf(t, identities(t, 1)[0])
	wrapped, seal, err := k.newTape()
	must(t, err)
	l := &leftTape{start: tapeStart{Key: wrapped}}
	part := func(at uint64, text string) recordSound {
		return recordSound{at: at, sound: seal.Seal(nil, nonce(at), []byte(text), nil)}
	}
	changed, moved := part(3, "bbb"), part(3, "xxx")
	changed.sound[0] ^= 1
	moved.at = 9
	for _, r := range []recordSound{part(0, "aaa"), changed, part(6, "ccc"), moved, {at: 12, sound: []byte("clear")}, {at: 1 << 60}} {
		l.take(r)
	}
	if n := l.octets(); n != 12 {
		t.Errorf("it has %d octets", n)
	}
	forged, err := l.open(k)
	want := "aaa" + strings.Repeat(string([]byte{audio.PCMA.Silence()}), 3) + "ccc"
	if err != nil || forged != 4 || string(l.sound) != want {
		t.Errorf("%q with %d forged (%v)", l.sound, forged, err)
	}
	if _, err := l.open(nil); !errors.Is(err, ErrLocked) {
		t.Errorf("without keys: %v", err)
	}
}

// A read of 1 KB in the middle of an hour's talk.
func BenchmarkSealedRange(b *testing.B) {
	k := keysOf(b, identities(b, 1)[0])
	file := sealedOf(b, k, make([]byte, 3600*audio.Rate*talkChannels))
	b.ReportMetric(float64(len(file)), "file-octets")
	buf := make([]byte, 1<<10)
	for b.Loop() {
		r, err := k.open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.ReadAt(buf, r.Size()/2); err != nil {
			b.Fatal(err)
		}
	}
}
