package recordings

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/journal"
)

// chunk is how much sound a record of a saved spool holds, in bytes: as much as
// can be written and read in one go.
const chunk = 64 << 10

// Kept is a recording's row as a backup sees it.
type Kept struct {
	ID      uuid.UUID
	Contact uuid.UUID
	Node    string
	Kind    string // message or talk
	Days    int    // how long a talk is kept
	State   string // recording, complete or erased
	Started time.Time
	Path    string // below the node's data directory; "" while it is made
}

// All reads every recording's row, oldest first.
func All(ctx context.Context, q journal.Querier) ([]Kept, error) {
	rows, err := q.Query(ctx, `select id, contact_id as contact, node, kind,
		coalesce(extract(day from keep_until - started_at), 0)::int as days, state, started_at as started, path from recordings where state <> 'erased' order by started_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list recordings: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Kept])
	if err != nil {
		return nil, fmt.Errorf("list recordings: %w", err)
	}
	return list, nil
}

// SaveSpool writes into the directory to what the node whose data directory is
// data has not yet brought to the database: the facts that wait, and the sound so
// far of the recordings that were being made. The node may go on meanwhile. A
// restored desk finds it as it would find its own spool after a crash; what is sealed
// stays so, and no key is needed. It returns how many facts and tapes there are.
func SaveSpool(data, to string, making []Kept) (facts, tapes int, err error) {
	found, err := look(filepath.Join(data, spoolDir, "*.seg"), filepath.Join(data, spoolDir, "*"+asideExt))
	if err != nil {
		return 0, 0, err
	}
	left, waiting := found.left()
	byID := map[uuid.UUID]*leftTape{}
	for _, t := range left {
		byID[t.id] = t
	}
	out := []byte(magic)
	for _, k := range making {
		t := byID[k.ID]
		if t == nil { // finished since: its file is whole
			if t, err = finishedSince(data, to, k); err != nil {
				return 0, 0, err
			}
		}
		if t == nil { // its beginning has not reached the disk
			continue
		}
		out = t.records(out)
		tapes++
	}
	for i, d := range waiting {
		body, err := json.Marshal(d)
		if err != nil {
			return 0, 0, fmt.Errorf("save a fact: %w", err)
		}
		out = append(out, frame(factKept, binary.LittleEndian.AppendUint64(nil, uint64(i+1)), body)...)
	}
	if tapes+len(waiting) == 0 {
		return 0, 0, nil
	}
	dir := filepath.Join(to, spoolDir)
	if err := makeDir(dir); err != nil {
		return 0, 0, err
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf(segmentName, 1)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, 0, fmt.Errorf("save the spool: %w", err)
	}
	_, err = f.Write(out)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, 0, fmt.Errorf("save the spool: %w", err)
	}
	return len(waiting), tapes, syncDir(dir)
}

// look reads files of a spool that another process may be writing: a segment that is
// removed meanwhile was done, an end that is not whole yet is left out.
func look(patterns ...string) (reading, error) {
	found := reading{tapes: map[uuid.UUID]*leftTape{}}
	var names []string
	for _, pattern := range patterns {
		some, err := filepath.Glob(pattern) // sorted; the pattern is good
		if err != nil {
			return found, fmt.Errorf("list the spool: %w", err)
		}
		names = append(names, some...)
	}
	for _, name := range names {
		err := readSegment(name, func(payload []byte) { found.take(&segment{tapes: map[uuid.UUID]bool{}}, payload) })
		var torn *tornError
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &torn) {
			return found, err
		}
	}
	return found, nil
}

// finishedSince is a tape whose file was written after the backup's snapshot; nil
// when there is none. A sealed file is copied as it is, and the tape has no sound.
func finishedSince(data, to string, k Kept) (*leftTape, error) {
	kind := tapeKind{Talk: k.Kind == kindTalk, Days: k.Days}
	l := &leftTape{id: k.ID, start: tapeStart{Contact: k.Contact, At: k.Started.UTC(), tapeKind: kind}}
	path := soundPath(k.Started, k.ID)
	f, err := os.Open(filepath.Join(data, path))
	if errors.Is(err, fs.ErrNotExist) {
		path += sealedExt
		f, err = os.Open(filepath.Join(data, path))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a recording: %w", err)
	}
	defer f.Close()
	if filepath.Ext(path) == sealedExt {
		return l, writeWhole(filepath.Join(to, path), func(w io.Writer) error { _, err := io.Copy(w, f); return err })
	}
	if l.sound, err = kind.read(f); err != nil {
		return nil, fmt.Errorf("read a recording: %w", err)
	}
	return l, nil
}

// records are a tape's beginning and sound as a segment has them, sealed if they came
// so. It has no end: the call is cut there.
func (t *leftTape) records(out []byte) []byte {
	start, err := json.Marshal(t.start)
	if err != nil {
		panic(err) // an instant and a number: cannot fail
	}
	out = append(out, frame(tapeBegun, t.id[:], start)...)
	for _, r := range t.sealed {
		out = append(out, frame(tapeSound, t.id[:], binary.LittleEndian.AppendUint64(nil, r.at), r.sound)...)
	}
	for at := 0; at < len(t.sound); at += chunk {
		out = append(out, frame(tapeSound, t.id[:], binary.LittleEndian.AppendUint64(nil, uint64(at)), t.sound[at:min(at+chunk, len(t.sound))])...)
	}
	return out
}

// Holds names what a data directory holds of an archive, in words for a person;
// "" when there is nothing that could be lost.
func Holds(data string) (string, error) {
	for _, dir := range []string{soundDir, spoolDir} {
		var first string
		err := filepath.WalkDir(filepath.Join(data, dir), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || d.Name() == lockName) {
				return nil
			}
			if err == nil {
				first = path
				err = fs.SkipAll
			}
			return err
		})
		if err != nil {
			return "", fmt.Errorf("look into %s: %w", dir, err)
		}
		if first != "" {
			return first, nil
		}
	}
	return "", nil
}
