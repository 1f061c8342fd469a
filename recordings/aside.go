package recordings

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"
)

// asideExt ends the name of a file in the spool with one tape, in records as of a
// segment, that no key of ours opens. In its segment it would hold all that is
// recorded after it. It is tried again at each start.
const asideExt = ".locked"

// open opens what was sealed, and says how many records were not what was written:
// they are missing. An error says that no key of ours opens it; nothing has changed.
func (t *leftTape) open(k *Keys) (forged int, err error) {
	if t.start.Key == nil {
		return 0, nil
	}
	seal, err := k.openTape(t.start.Key)
	if err != nil {
		return 0, err
	}
	for _, r := range t.sealed {
		sound, err := seal.Open(nil, nonce(r.at), r.sound, nil)
		if err != nil {
			forged++
			continue
		}
		t.add(r.at, sound)
	}
	t.sealed = nil
	return forged, nil
}

// octets is how much sound a tape has, opened or not.
func (t *leftTape) octets() int {
	n := len(t.sound)
	for _, r := range t.sealed {
		if end := r.at + uint64(max(len(r.sound)-chacha20poly1305.Overhead, 0)); end <= uint64(t.start.most()) {
			n = max(n, int(end))
		}
	}
	return n
}

// unseal opens the sound of a tape that a former run left.
func (a *Archive) unseal(l *leftTape) error {
	forged, err := l.open(a.keys)
	if err != nil {
		return err
	}
	if forged > 0 {
		a.log.Error("records of a recording are not what was written: silence stands for them", "recording", l.id, "contact", l.start.Contact, "records", forged)
	}
	if len(l.sound) > 0 {
		return nil
	}
	f, err := a.openFile(filepath.Join(a.dir, soundPath(l.start.At, l.id)+sealedExt))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was said
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// It was finished while a backup was made, which kept its file as it was.
	l.sound, err = l.start.read(f)
	return err
}

// setAside keeps a tape that no key of ours opens as it is.
func (a *Archive) setAside(l *leftTape, why error) error {
	a.log.Error("a recording cannot be opened and is set aside until its key is there", "recording", l.id, "contact", l.start.Contact, "err", why)
	a.mu.Lock()
	a.aside[l.id] = true
	a.mu.Unlock()
	if l.aside != "" {
		return nil
	}
	records := l.records([]byte(magic))
	if !l.closed.IsZero() {
		records = append(records, frame(tapeClosed, l.id[:], binary.LittleEndian.AppendUint64(nil, uint64(l.closed.UnixMicro())))...)
	}
	if err := writeWhole(filepath.Join(a.dir, asidePath(l.id)), func(w io.Writer) error { _, err := w.Write(records); return err }); err != nil {
		return err
	}
	if err := a.Defer(kindRecording, l.start.fact(l.id)); err != nil {
		return err
	}
	return a.spool.add(l.id, tapeDone, nil)
}

// asidePath is the file of a tape that was set aside, below the node's data directory.
func asidePath(tape uuid.UUID) string {
	return filepath.Join(spoolDir, tape.String()+asideExt)
}

// allAside are the tapes that were set aside.
func (a *Archive) allAside() []uuid.UUID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.aside))
}

func (a *Archive) isAside(tape uuid.UUID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.aside[tape]
}

// lookAside reads the tapes that were set aside.
func (a *Archive) lookAside() ([]*leftTape, error) {
	dir := filepath.Join(a.dir, spoolDir)
	found, err := look(filepath.Join(dir, "*"+asideExt))
	if err != nil {
		return nil, fmt.Errorf("read what was set aside: %w", err)
	}
	tapes, _ := found.left()
	for _, t := range tapes {
		t.aside = filepath.Join(dir, t.id.String()+asideExt)
	}
	return tapes, nil
}
