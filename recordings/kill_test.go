package recordings

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	helperVar = "RECORDINGS_TEST_DIR"  // set: this process is the one that is killed
	busyVar   = "RECORDINGS_TEST_BUSY" // set: with short tapes and facts, each of which brings all sound to the disk
	keyVar    = "RECORDINGS_TEST_KEY"  // set: a secret key; what is said is sealed to it
	tapesKept = 3                      // of the helper, at a time
	kills     = 100
	atOnce    = 10                     // helpers alive at the same time
	killMost  = 900 * time.Millisecond // after the start
	promise   = 200 * time.Millisecond // how long ago a frame may have been said and still be lost
	beatEvery = 10 * time.Millisecond  // a process that does not come to say so is late, and so is what it syncs
	syncUsual = 50 * time.Millisecond  // an fdatasync that takes longer is the disk's fault
)

// TestMain is also the process that is killed: it records tapes in real time and
// says what it did, each time after it was done.
func TestMain(m *testing.M) {
	dir := os.Getenv(helperVar)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := recordForEver(dir); err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
}

// recordForEver says "frame TAPE N AT" after frame n of a contact's tape was
// taken, "closed TAPE" and "fact N" when these are promised to last, and "beat",
// "sync" and "synced", with the instant, to tell when this machine, not the
// archive, was late.
func recordForEver(dir string) error {
	d, err := db.Open(context.Background(), db.Config{URL: "postgres://pronto@/pronto?host=" + filepath.Join(dir, "none"), Log: quiet})
	if err != nil {
		return err
	}
	a, err := Open(dir, "n1", d, quiet)
	if err != nil {
		return err
	}
	if secret := os.Getenv(keyVar); secret != "" {
		id, err := age.ParseX25519Identity(secret)
		if err != nil {
			return err
		}
		a.Seal(&Keys{[]age.Recipient{id.Recipient()}, []age.Identity{id}})
	}
	var mu sync.Mutex // guards standard output
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	a.spool.datasync = func(f *os.File) error {
		say("sync %d", time.Now().UnixNano())
		err := datasync(f)
		say("synced %d", time.Now().UnixNano())
		return err
	}
	a.spool.most = 20_000 // many segments
	go a.Run(context.Background())
	go func() { // is this process running at all?
		for {
			say("beat %d", time.Now().UnixNano())
			<-time.After(beatEvery)
		}
	}()
	busy := os.Getenv(busyVar) != ""
	go func() {
		for n := 0; busy; n++ {
			if err := a.Defer("step", n); err != nil {
				say("failed %v", err)
			}
			say("fact %d", n)
			<-time.After(30 * time.Millisecond)
		}
	}()
	var wg sync.WaitGroup
	for range tapesKept {
		wg.Go(func() {
			for {
				contact := uuid.New()
				tape, err := a.Tape(context.Background(), contact, time.Now())
				if err != nil {
					say("failed %v", err)
					return
				}
				frames := 10 + rand.IntN(60)
				if !busy {
					frames = 1000 // it ends with the kill
				}
				for n := range frames {
					if _, err := tape.Write(frameOf(n)); err != nil {
						say("failed %v", err)
					}
					say("frame %s %d %d", contact, n, time.Now().UnixNano())
					<-time.After(audio.FrameBytes * time.Second / audio.Rate)
				}
				if _, err := tape.Close(context.Background(), time.Now()); err != nil {
					say("failed %v", err)
				}
				say("closed %s %d", contact, frames)
			}
		})
	}
	wg.Wait()
	return nil
}

// frameOf is a loud frame that tells its number.
func frameOf(n int) []byte {
	b := bytes.Repeat([]byte{audio.ALaw(20000)}, audio.FrameBytes)
	binary.LittleEndian.PutUint32(b, uint32(n))
	return b
}

// Killed at any moment: every frame said more than 200 ms before is there, every
// tape that was closed is whole, every fact that was deferred comes back in
// order, and a second recovery finds the same; sealed or not.
func TestKillAtAnyMomentLosesNothingOlderThan200ms(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	type moment struct {
		after  time.Duration
		busy   bool
		secret string
	}
	secret := identities(t, 1)[0].String()
	moments := make(chan moment, kills)
	for n := range kills {
		m := moment{after: time.Duration(r.Int64N(int64(killMost))), busy: n%2 == 0}
		if n%4 < 2 {
			m.secret = secret
		}
		moments <- m
	}
	close(moments)
	var mu sync.Mutex // guards worst and checked
	var worst time.Duration
	checked := 0
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for m := range moments {
				dir, err := os.MkdirTemp(t.TempDir(), "")
				if err != nil {
					t.Error(err)
					return
				}
				age, frames := killOnce(t, dir, m.after, m.busy, m.secret)
				mu.Lock()
				worst = max(worst, age)
				checked += frames
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d kills, %d frames promised and found; the oldest frame lost was %v old", kills, checked, worst)
	if checked < kills {
		t.Error("the helpers hardly recorded anything")
	}
}

// killOnce lets a helper record, kills it and looks at what is left. It returns
// the age of the oldest frame that is lost and how many had to be there.
func killOnce(t *testing.T, dir string, after time.Duration, busy bool, secret string) (oldest time.Duration, promised int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"="+dir, keyVar+"="+secret)
	if busy {
		cmd.Env = append(cmd.Env, busyVar+"=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return 0, 0
	}
	in := bufio.NewReader(out)
	if _, err := in.ReadString('\n'); err != nil { // it has begun
		t.Error(err)
	}
	killed := make(chan time.Time, 1)
	time.AfterFunc(after, func() {
		killed <- time.Now()
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	})
	b, err := io.ReadAll(in)
	if err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed
	at := <-killed

	said := map[uuid.UUID]map[int]time.Time{} // frames of a contact
	closed := map[uuid.UUID]int{}
	facts := 0
	var late time.Duration // by which this machine, not the archive, broke the promise
	beat, sync := time.Time{}, time.Time{}
	wait := func(since *time.Time, until time.Time, usual time.Duration) {
		if !since.IsZero() {
			late += max(0, until.Sub(*since)-usual)
		}
		*since = time.Time{}
	}
	lines := strings.Split(string(b), "\n")
	for _, line := range lines[:len(lines)-1] { // the last one may be torn
		var contact string
		var n int
		var ns int64
		switch {
		case scanned(line, "frame %s %d %d", &contact, &n, &ns):
			id := uuid.MustParse(contact)
			if said[id] == nil {
				said[id] = map[int]time.Time{}
			}
			said[id][n] = time.Unix(0, ns)
		case scanned(line, "closed %s %d", &contact, &n):
			closed[uuid.MustParse(contact)] = n
		case scanned(line, "fact %d", &n):
			facts = max(facts, n+1)
		case scanned(line, "beat %d", &ns):
			wait(&beat, time.Unix(0, ns), 2*beatEvery)
			beat = time.Unix(0, ns)
		case scanned(line, "sync %d", &ns):
			sync = time.Unix(0, ns)
		case scanned(line, "synced %d", &ns):
			wait(&sync, time.Unix(0, ns), syncUsual)
		default:
			t.Errorf("the helper says %q", line)
		}
	}
	wait(&beat, at, 2*beatEvery)
	wait(&sync, at, syncUsual)

	var k *Keys
	if secret != "" {
		id, err := age.ParseX25519Identity(secret)
		if err != nil {
			t.Error(err)
			return 0, 0
		}
		k = &Keys{[]age.Recipient{id.Recipient()}, []age.Identity{id}}
		if in, err := found(dir, frameOf(0)[4:]); err != nil || len(in) > 0 {
			t.Errorf("killed after %v: in clear in %v (%v)", after, in, err)
		}
	}
	frames, steps := recovered(t, dir, k)
	if steps < facts {
		t.Errorf("%d facts came back of %d", steps, facts)
	}
	for contact, times := range said {
		must := 0 // of its frames, from the first one on
		for n, when := range times {
			if closed[contact] > 0 || at.Sub(when) > promise+late {
				must = max(must, n+1)
			}
		}
		n := frames[contact]
		if n < must || n < closed[contact] {
			t.Errorf("killed after %v: of %d frames (closed: %d) %d are there; this machine was late by %v", after, must, closed[contact], n, late)
		}
		if when, lost := times[n]; lost {
			oldest = max(oldest, at.Sub(when))
		}
		promised += must
	}
	return oldest, promised
}

func scanned(line, format string, args ...any) bool {
	n, err := fmt.Sscanf(line, format, args...)
	return err == nil && n == len(args)
}

// recovered does what a restart does, twice, with the database still away, and
// returns frames by contact and the count of facts.
func recovered(t *testing.T, dir string, k *Keys) (frames map[uuid.UUID]int, steps int) {
	d := nowhere(t)
	frames = map[uuid.UUID]int{}
	var before string
	for round := range 2 {
		a, err := Open(dir, "n1", d, quiet)
		if err != nil {
			t.Error(err)
			return nil, 0
		}
		a.Seal(k)
		sounds, err := a.Recover(context.Background())
		if err != nil {
			t.Error(err)
		}
		if round == 1 && len(sounds) != 0 {
			t.Errorf("tapes were found again: %v", sounds)
		}
		steps = 0
		var order strings.Builder
		for _, f := range a.facts {
			order.WriteString(f.Kind + string(f.Fact) + "\n")
			switch f.Kind {
			case "step":
				if string(f.Fact) != fmt.Sprint(steps) {
					t.Errorf("fact %s comes as number %d", f.Fact, steps)
				}
				steps++
			case kindRecorded:
				// Twice, if the kill came between the fact and the mark that the
				// tape is done: the database takes it once.
				contact, n := checkFile(t, a, f.Fact)
				frames[contact] = n
			}
		}
		if round == 1 && order.String() != before {
			t.Error("the second recovery finds other facts than the first")
		}
		before = order.String()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	return frames, steps
}

// checkFile reads the file of a complete tape and returns its frames, which must
// come in order from the first one on.
func checkFile(t *testing.T, a *Archive, raw json.RawMessage) (contact uuid.UUID, frames int) {
	var f tapeFact
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Error(err)
		return contact, 0
	}
	file, err := a.openFile(filepath.Join(a.dir, f.Path))
	if err != nil {
		t.Error(err)
		return f.Contact, 0
	}
	defer file.Close()
	alaw, err := audio.ReadWAV(file)
	if err != nil {
		t.Error(err)
	}
	for n := 0; n*audio.FrameBytes < len(alaw); n++ {
		if got := alaw[n*audio.FrameBytes : (n+1)*audio.FrameBytes]; !bytes.Equal(got, frameOf(n)) {
			t.Errorf("frame %d of %s is not what was said", n, f.Contact)
			break
		}
	}
	return f.Contact, len(alaw) / audio.FrameBytes
}
