package recordings

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	// silenceBelow: a telephone line without speech has -70 to -50 dBFS, quiet
	// speech on it -35 and more.
	silenceBelow = -45.0

	// tapeMost bounds the memory of one recording: an hour.
	tapeMost = 3600 * audio.Rate
)

var (
	errClosed  = errors.New("the tape is closed")
	errTooLong = errors.New("the recording is as long as it may be")
)

// Sound says how long a recording is, and how much of it is sound: from the
// first to the last frame above the silence threshold.
type Sound struct{ Length, Sound time.Duration }

// Tape is one recording while it is made.
type Tape struct {
	a     *Archive
	id    uuid.UUID
	start tapeStart
	seal  cipher.AEAD   // of its records in the spool; nil: they are in clear
	row   chan struct{} // closed when its row is written, or deferred

	mu     sync.Mutex // guards what follows
	sound  []byte     // A-law
	closed bool
	ended  time.Time
}

// Tape starts a recording of a contact. It returns at once: its row is written
// meanwhile, or deferred. ErrNoRoom: the disk is nearly full.
func (a *Archive) Tape(ctx context.Context, contact uuid.UUID, at time.Time) (*Tape, error) {
	if !a.HasRoom() {
		return nil, ErrNoRoom
	}
	return a.tape(ctx, tapeStart{Contact: contact, At: at.UTC()})
}

// tape is Tape and Talk.
func (a *Archive) tape(ctx context.Context, start tapeStart) (*Tape, error) {
	t := &Tape{a: a, id: uuid.New(), row: make(chan struct{})}
	var err error
	if a.keys != nil {
		if start.Key, t.seal, err = a.keys.newTape(); err != nil {
			return nil, fmt.Errorf("start a recording: %w", err)
		}
	}
	t.start = start
	b, err := json.Marshal(t.start)
	if err != nil {
		return nil, fmt.Errorf("start a recording: %w", err)
	}
	if err := a.spool.add(t.id, tapeBegun, b); err != nil {
		return nil, fmt.Errorf("start a recording: %w", err)
	}
	go func() { // Close waits for it
		defer close(t.row)
		// On disk first, so that no row speaks of a tape that a crash has lost.
		if err := a.spool.flush(); err != nil {
			return // logged; the row comes with the end
		}
		a.writeOrDefer(context.WithoutCancel(ctx), kindRecording, start.fact(t.id))
	}()
	return t, nil
}

// Write adds A-law sound at 8 kHz, to a talk's tape with two channels whose octets
// alternate. It copies and returns; the sound is on disk within 200 ms. It fails
// when the tape is closed or as long as it may be, when the disk is nearly full, or
// when it has failed for so long that memory is full.
func (t *Tape) Write(frame []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, errClosed
	}
	if len(t.sound)+len(frame) > t.start.most() {
		return 0, errTooLong
	}
	if t.a.room.full.Load() {
		return 0, ErrNoRoom
	}
	if err := t.a.spool.add(t.id, tapeSound, t.record(frame)); err != nil {
		return 0, fmt.Errorf("record: %w", err)
	}
	t.sound = append(t.sound, frame...)
	return len(frame), nil
}

// record is a frame as the spool has it. mu is held.
func (t *Tape) record(frame []byte) []byte {
	at := uint64(len(t.sound))
	r := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(frame)+chacha20poly1305.Overhead), at)
	if t.seal == nil {
		return append(r, frame...)
	}
	return t.seal.Seal(r, nonce(at), frame, nil)
}

// Close ends the recording: its file is written, and its row or, when the
// database is away, the fact that brings the row later. An error says that the
// sound is not safe; a file that a full disk refuses is written later from the
// spool, and is no error. A second Close only returns the sound again.
func (t *Tape) Close(ctx context.Context, at time.Time) (Sound, error) {
	t.mu.Lock()
	again := t.closed
	t.closed = true
	if !again {
		t.ended = at.UTC()
	}
	alaw := t.sound
	t.mu.Unlock()
	sound := t.start.measure(alaw)
	if again {
		return sound, nil
	}
	spooled := t.a.spool.add(t.id, tapeClosed, binary.LittleEndian.AppendUint64(nil, uint64(at.UnixMicro())))
	if spooled == nil {
		spooled = t.a.spool.flush()
	}
	<-t.row
	err := t.finish(context.WithoutCancel(ctx))
	if err == nil {
		return sound, nil
	}
	t.a.log.Error("a recording could not be finished; it is tried again", "contact", t.start.Contact, "err", err)
	t.a.mu.Lock()
	t.a.late = append(t.a.late, t)
	t.a.mu.Unlock()
	select {
	case t.a.more <- struct{}{}:
	default:
	}
	if spooled != nil {
		return sound, errors.Join(err, spooled)
	}
	return sound, nil
}

// finish writes the file and the row of a closed tape and is done with it.
func (t *Tape) finish(ctx context.Context) error {
	f := t.start.fact(t.id)
	f.Ended = t.ended
	if err := t.a.writeSound(&f, t.sound); err != nil {
		return err
	}
	if err := t.a.writeOrDefer(ctx, kindRecorded, f); err != nil {
		return err
	}
	return t.a.spool.add(t.id, tapeDone, nil)
}

// finishLate tries again what a full disk refused.
func (a *Archive) finishLate(ctx context.Context) {
	a.mu.Lock()
	late := a.late
	a.late = nil
	a.mu.Unlock()
	for _, t := range late {
		if err := t.finish(ctx); err != nil {
			a.mu.Lock()
			a.late = append(a.late, t)
			a.mu.Unlock()
		} else {
			a.log.Info("a recording is finished after all", "contact", t.start.Contact)
		}
	}
}

// finishLeft does the same for a tape of a former run. Its rows come through the
// facts, behind those of its contact that wait.
func (a *Archive) finishLeft(l *leftTape) (Sound, error) {
	if err := a.unseal(l); err != nil {
		length := l.start.length(l.octets())
		return Sound{Length: length, Sound: length}, a.setAside(l, err)
	}
	f := l.start.fact(l.id)
	sound := l.start.measure(l.sound)
	if f.Ended = l.closed; f.Ended.IsZero() {
		f.Ended = f.Started.Add(sound.Length)
	}
	if err := a.writeSound(&f, l.sound); err != nil {
		return sound, err
	}
	if err := errors.Join(a.Defer(kindRecording, f), a.Defer(kindRecorded, f)); err != nil {
		return sound, err
	}
	if err := a.spool.add(l.id, tapeDone, nil); err != nil || l.aside == "" {
		return sound, err
	}
	return sound, os.Remove(l.aside)
}

// soundPath is where a tape's file stands, below the node's data directory; sealedExt
// follows when it is sealed.
func soundPath(started time.Time, tape uuid.UUID) string {
	return filepath.Join(soundDir, started.UTC().Format("2006/01/02"), tape.String()+".wav")
}

// writeSound writes the WAV file of a tape and completes its fact.
func (a *Archive) writeSound(f *tapeFact, alaw []byte) error {
	sound := f.measure(alaw)
	f.LengthMS, f.SoundMS = sound.Length.Milliseconds(), sound.Sound.Milliseconds()
	open := soundPath(f.Started, f.Tape)
	f.Path = open
	if a.keys != nil {
		f.Path += sealedExt
	}
	err := writeWhole(filepath.Join(a.dir, f.Path), func(w io.Writer) error {
		return a.keys.seal(w, func(w io.Writer) error { return f.write(w, alaw) })
	})
	if err != nil || a.keys == nil {
		return err
	}
	// What a crash left from when nothing was sealed says the same, in clear.
	for _, old := range []string{open, open + partExt} {
		if err := os.Remove(filepath.Join(a.dir, old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write a recording: %w", err)
		}
	}
	return nil
}

// partExt follows the name of a file that is not whole yet.
const partExt = ".part"

// writeWhole writes a file, and its directory. Under its name it is whole and on the
// disk; until then it has another.
func writeWhole(path string, fill func(io.Writer) error) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	part := path + partExt
	w, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write a recording: %w", err)
	}
	err = fill(w)
	if err = errors.Join(err, w.Sync(), w.Close()); err != nil {
		return errors.Join(fmt.Errorf("write a recording: %w", err), os.Remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("write a recording: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// writeOrDefer writes a row of a tape now, or later when the database is away,
// when others wait already, or when the contact's own row is still to come.
func (a *Archive) writeOrDefer(ctx context.Context, kind string, f tapeFact) error {
	if !a.Pending() {
		ctx, cancel := context.WithTimeout(ctx, rowBudget)
		defer cancel()
		err := a.writeRow(ctx, kind, f)
		if err == nil {
			return nil
		}
		if !db.Away(err) && !errors.Is(err, errNoContact) {
			a.log.Warn("a recording's row was refused; it is tried again", "contact", f.Contact, "err", err)
		}
	}
	return a.Defer(kind, f)
}

// fact is what the database learns of a tape at its beginning.
func (s tapeStart) fact(tape uuid.UUID) tapeFact {
	return tapeFact{Tape: tape, tapeKind: s.tapeKind, Contact: s.Contact, Started: s.At}
}

// measure finds the sound in a recording.
func (k tapeKind) measure(alaw []byte) Sound {
	first, last, step := -1, -1, k.channels()*audio.FrameBytes
	for i := 0; i < len(alaw); i += step {
		if audio.Level(alaw[i:min(i+step, len(alaw))]) > silenceBelow {
			if first < 0 {
				first = i
			}
			last = min(i+step, len(alaw))
		}
	}
	s := Sound{Length: k.length(len(alaw))}
	if first >= 0 {
		s.Sound = k.length(last - first)
	}
	return s
}

// length is how long so many octets last.
func (k tapeKind) length(octets int) time.Duration {
	return time.Duration(octets/k.channels()) * time.Second / audio.Rate
}
