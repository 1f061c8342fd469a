package recordings

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/sip/audio"
)

// The spool is what a node must not forget when it dies: segments of records
// that are only ever appended. A record is its length, its checksum and its
// payload (both numbers little-endian, of 4 bytes), a payload is a kind and what
// belongs to it. A tail that a crash tore off fails its length or checksum.
const (
	magic       = "PRONTO1\n" // begins a segment
	headBytes   = 8           // of a record
	recordMost  = 1 << 20     // payload: far above a frame or a fact; more is not ours
	segmentMost = 16 << 20    // bytes; then the next segment, so that the old one can go
	bufferMost  = 64 << 20    // bytes that wait while the disk fails: half an hour of four messages
	segmentName = "%016x.seg"
)

// syncEvery: whoever said something 200 ms ago finds it on disk: at most 100 ms
// here and the time of one fdatasync.
const syncEvery = 100 * time.Millisecond

// Kinds of records. uuid is the tape's, n a fact's number.
const (
	tapeBegun  = 'T' // uuid, JSON of tapeStart
	tapeSound  = 'S' // uuid, offset in the tape (8 bytes), A-law, sealed if the tape has a key
	tapeClosed = 'C' // uuid, µs since 1970
	tapeDone   = 'D' // uuid: its file is whole and its row written or deferred
	factKept   = 'F' // n, JSON of deferred
	factsDone  = 'U' // n: all facts up to it
)

var (
	errFull   = errors.New("the spool cannot be written and its memory is full")
	errRecord = errors.New("a record of the spool is larger than allowed")
	checksum  = crc32.MakeTable(crc32.Castagnoli)
)

// deferred is a fact as the spool keeps it.
type deferred struct {
	Kind string          `json:"kind"`
	Fact json.RawMessage `json:"fact"`

	n uint64 // its number: facts come back in this order
}

// tapeStart is what must be known about a tape after a crash.
type tapeStart struct {
	Contact uuid.UUID `json:"contact"`
	At      time.Time `json:"at"`
	Key     []byte    `json:"key,omitempty"` // an age file that holds the key of its records; nil: they are in clear
	tapeKind
}

// leftTape is a tape that a former run left in the spool.
type leftTape struct {
	id     uuid.UUID
	start  tapeStart
	closed time.Time // zero: it was running
	sound  []byte
	sealed []recordSound // what of it is not opened yet, as it came
	aside  string        // the file in which it waits for its key; "": it is in a segment
}

// entry is a record on its way to the disk.
type entry struct {
	framed []byte
	tape   uuid.UUID // whose beginning or sound it is, else Nil
	fact   uint64    // its number, else 0
	err    *error    // of a fact, guarded by mu: it is given up, not tried again, when the disk fails
}

// segment says what still needs a file of the spool.
type segment struct {
	path  string
	tapes map[uuid.UUID]bool // with records in it, not done
	fact  uint64             // the highest in it
}

// spool is the files and the memory before them.
type spool struct {
	dir string
	log *slog.Logger

	mu       sync.Mutex // guards what follows; never held during disk work
	waiting  []entry
	bytes    int    // of waiting
	taken    uint64 // entries ever added
	synced   uint64 // of these, on disk or given up
	nextFact uint64
	doneFact uint64 // all facts up to it are done
	open     map[uuid.UUID]bool
	segments []*segment // oldest first; the last one is being written, if file is open

	diskMu  sync.Mutex // held while writing; taken before mu
	file    *os.File   // nil: the next write begins a segment
	size    int64
	last    uint64 // number of the last segment
	failing bool   // since the last write

	datasync func(*os.File) error // fdatasync; tests put a failing disk here
	most     int64                // segmentMost; tests have smaller ones

	dirty chan struct{} // something waits
}

// openSpool reads what former runs left: tapes that are not done and facts that
// are not, in their order.
func openSpool(dir string, log *slog.Logger) (*spool, []*leftTape, []deferred, error) {
	if err := makeDir(dir); err != nil {
		return nil, nil, nil, err
	}
	s := &spool{dir: dir, log: log, open: map[uuid.UUID]bool{}, dirty: make(chan struct{}, 1), datasync: datasync, most: segmentMost}
	names, err := filepath.Glob(filepath.Join(dir, "*.seg")) // sorted; the pattern is good
	if err != nil {
		return nil, nil, nil, fmt.Errorf("list the spool: %w", err)
	}
	found := reading{tapes: map[uuid.UUID]*leftTape{}}
	for i, name := range names {
		if _, err := fmt.Sscanf(filepath.Base(name), segmentName, &s.last); err != nil {
			return nil, nil, nil, fmt.Errorf("spool file %s: its name is not ours", name)
		}
		seg := &segment{path: name, tapes: map[uuid.UUID]bool{}}
		s.segments = append(s.segments, seg)
		err := readSegment(name, func(payload []byte) {
			if !found.take(seg, payload) {
				log.Error("the spool holds a record that this version does not know", "file", name, "bytes", len(payload))
			}
		})
		var torn *tornError
		switch {
		case errors.As(err, &torn) && i == len(names)-1: // what a crash leaves
			log.Info("the spool's torn end was cut off", "file", name, "bytes", torn.lost)
			if err := os.Truncate(name, torn.good); err != nil {
				return nil, nil, nil, fmt.Errorf("cut the spool's torn end: %w", err)
			}
		case errors.As(err, &torn): // a disk that failed while we wrote, or was changed since
			log.Error("a file of the spool is damaged; what follows the damage is lost", "file", name, "at", torn.good, "bytes", torn.lost)
		case err != nil:
			return nil, nil, nil, err
		}
	}
	left, facts := found.left()
	s.nextFact, s.doneFact = found.nextFact, found.doneFact
	for _, t := range left {
		s.open[t.id] = true
	}
	for _, seg := range s.segments {
		for id := range seg.tapes {
			if !s.open[id] {
				delete(seg.tapes, id)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, left, facts, s.removeDone()
}

// reading is what the records of all segments say together.
type reading struct {
	tapes              map[uuid.UUID]*leftTape // not done
	order              []uuid.UUID             // in which tapes began
	facts              []deferred
	nextFact, doneFact uint64
}

// take adds a record and notes in seg what it needs its segment for; false: it is
// not one of ours.
func (g *reading) take(seg *segment, payload []byte) bool {
	switch r := parse(payload).(type) {
	case recordTape:
		g.tapes[r.id] = &leftTape{id: r.id, start: r.start}
		g.order = append(g.order, r.id)
		seg.tapes[r.id] = true
	case recordSound:
		if t := g.tapes[r.id]; t != nil { // else its beginning was in a segment that is gone: it was done
			seg.tapes[r.id] = true
			t.take(r)
		}
	case recordClosed:
		if t := g.tapes[r.id]; t != nil {
			t.closed = r.at
		}
	case recordDone:
		delete(g.tapes, r.id)
	case recordFact:
		g.facts = append(g.facts, r.deferred)
		seg.fact = max(seg.fact, r.n)
		g.nextFact = max(g.nextFact, r.n)
	case recordFacts:
		g.doneFact = max(g.doneFact, r.n)
		g.nextFact = max(g.nextFact, r.n)
	default:
		return false
	}
	return true
}

// left is what is not done, in the order in which it came.
func (g *reading) left() (tapes []*leftTape, facts []deferred) {
	for _, id := range g.order {
		if t := g.tapes[id]; t != nil {
			tapes = append(tapes, t)
			delete(g.tapes, id) // a number that came twice counts once
		}
	}
	for _, f := range g.facts {
		if f.n > g.doneFact {
			facts = append(facts, f)
		}
	}
	return tapes, facts
}

// What a payload holds.
type (
	recordTape struct {
		id    uuid.UUID
		start tapeStart
	}
	recordSound struct {
		id    uuid.UUID
		at    uint64
		sound []byte // valid until the next record
	}
	recordClosed struct {
		id uuid.UUID
		at time.Time
	}
	recordDone  struct{ id uuid.UUID }
	recordFact  struct{ deferred }
	recordFacts struct{ n uint64 }
)

// parse reads a payload; nil: it is not one of ours.
func parse(payload []byte) any {
	if len(payload) < 1 {
		return nil
	}
	kind, rest := payload[0], payload[1:]
	switch kind {
	case factKept, factsDone:
		if len(rest) < 8 {
			return nil
		}
		n := binary.LittleEndian.Uint64(rest)
		if kind == factsDone {
			return recordFacts{n}
		}
		d := deferred{n: n}
		if err := json.Unmarshal(rest[8:], &d); err != nil {
			return nil
		}
		return recordFact{d}
	case tapeBegun, tapeSound, tapeClosed, tapeDone:
		id, err := uuid.FromBytes(rest[:min(16, len(rest))])
		if err != nil {
			return nil
		}
		rest = rest[16:]
		switch kind {
		case tapeBegun:
			r := recordTape{id: id}
			if err := json.Unmarshal(rest, &r.start); err != nil {
				return nil
			}
			return r
		case tapeDone:
			return recordDone{id}
		}
		if len(rest) < 8 {
			return nil
		}
		switch kind {
		case tapeSound:
			return recordSound{id, binary.LittleEndian.Uint64(rest), rest[8:]}
		case tapeClosed:
			return recordClosed{id, time.UnixMicro(int64(binary.LittleEndian.Uint64(rest))).UTC()}
		}
	}
	return nil
}

// take adds a record of sound; one that is sealed is opened later.
func (t *leftTape) take(r recordSound) {
	if t.start.Key == nil {
		t.add(r.at, r.sound)
		return
	}
	r.sound = bytes.Clone(r.sound)
	t.sealed = append(t.sealed, r)
}

// add puts sound where it belongs: what a failing disk made us write twice
// counts once, what is missing is silence.
func (t *leftTape) add(at uint64, sound []byte) {
	have := uint64(len(t.sound))
	switch {
	case at > have+recordMost, at+uint64(len(sound)) > uint64(t.start.most()): // not ours
	case at > have:
		t.sound = append(t.sound, bytes.Repeat([]byte{audio.PCMA.Silence()}, int(at-have))...)
		t.sound = append(t.sound, sound...)
	case have-at < uint64(len(sound)):
		t.sound = append(t.sound, sound[have-at:]...)
	}
}

// tornError is the end of what can be read in a segment.
type tornError struct{ good, lost int64 }

// Error says where.
func (e *tornError) Error() string {
	return fmt.Sprintf("torn after %d bytes, %d lost", e.good, e.lost)
}

func readSegment(path string, each func(payload []byte)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	good, err := readRecords(f, each)
	if err != nil {
		return fmt.Errorf("read the spool: %s: %w", path, err)
	}
	if good < st.Size() {
		return &tornError{good, st.Size() - good}
	}
	return nil
}

// readRecords calls each with the whole records of a segment, in order, and
// returns how many bytes they take with the segment's beginning. The rest is
// torn. An error is one of reading, not of content.
func readRecords(r io.Reader, each func(payload []byte)) (good int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var head [headBytes]byte
	if ok, err := readWhole(in, head[:len(magic)]); !ok || string(head[:len(magic)]) != magic {
		return 0, err
	}
	good = int64(len(magic))
	var payload []byte
	for {
		if ok, err := readWhole(in, head[:]); !ok {
			return good, err
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n == 0 || n > recordMost { // zeros are what some file systems leave after a power cut
			return good, nil
		}
		if int(n) > cap(payload) {
			payload = make([]byte, n)
		}
		payload = payload[:n]
		if ok, err := readWhole(in, payload); !ok {
			return good, err
		}
		if crc32.Checksum(payload, checksum) != binary.LittleEndian.Uint32(head[4:]) {
			return good, nil
		}
		each(payload)
		good += headBytes + int64(n)
	}
}

// readWhole fills b; ok is false at a torn end.
func readWhole(r io.Reader, b []byte) (ok bool, err error) {
	_, err = io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	return err == nil, err
}

// frame makes a record of parts.
func frame(kind byte, parts ...[]byte) []byte {
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, headBytes, headBytes+n)
	b = append(b, kind)
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.LittleEndian.PutUint32(b, uint32(n))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[headBytes:], checksum))
	return b
}

// add puts a record of a tape on its way. It does not touch the disk.
func (s *spool) add(id uuid.UUID, kind byte, rest []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case tapeBegun:
		s.open[id] = true
	case tapeDone:
		delete(s.open, id)
		for _, seg := range s.segments {
			delete(seg.tapes, id)
		}
	}
	e := entry{framed: frame(kind, id[:], rest)}
	if kind == tapeBegun || kind == tapeSound {
		e.tape = id
	}
	return s.put(e)
}

// put is add with mu held.
func (s *spool) put(e entry) error {
	if len(e.framed)-headBytes > recordMost {
		return errRecord
	}
	if s.bytes+len(e.framed) > bufferMost {
		return errFull
	}
	s.waiting = append(s.waiting, e)
	s.bytes += len(e.framed)
	s.taken++
	select {
	case s.dirty <- struct{}{}:
	default:
	}
	return nil
}

// keep puts a fact on disk and returns its number when it is there.
func (s *spool) keep(body []byte) (uint64, error) {
	var failed error
	s.mu.Lock()
	s.nextFact++
	n := s.nextFact
	err := s.put(entry{framed: frame(factKept, binary.LittleEndian.AppendUint64(nil, n), body), fact: n, err: &failed})
	upTo := s.taken
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	err = s.sync(upTo)
	s.mu.Lock()
	defer s.mu.Unlock()
	if failed != nil { // also when somebody else was the one to write it
		return 0, failed
	}
	return n, err
}

// done notes that all facts up to n are done. It need not be on disk: a fact that
// comes twice does nothing the second time.
func (s *spool) done(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doneFact = n
	return s.put(entry{framed: frame(factsDone, binary.LittleEndian.AppendUint64(nil, n))})
}

// flush puts everything that waits on disk.
func (s *spool) flush() error {
	s.mu.Lock()
	upTo := s.taken
	s.mu.Unlock()
	return s.sync(upTo)
}

// sync returns when the first upTo entries are on disk. Whoever comes while
// another writes finds its work done by the next one: many wait for one
// fdatasync.
func (s *spool) sync(upTo uint64) error {
	s.diskMu.Lock()
	defer s.diskMu.Unlock()
	s.mu.Lock()
	if s.synced >= upTo {
		s.mu.Unlock()
		return nil
	}
	batch, size := s.waiting, s.bytes
	s.waiting, s.bytes = nil, 0
	s.mu.Unlock()

	seg, err := s.write(batch, size)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// Sound is tried again; of a fact its owner hears that it was not kept,
		// and may do something else, so it must not turn up later.
		err = fmt.Errorf("write the spool: %w", err)
		for i, e := range batch {
			if e.err != nil {
				*e.err = err
				size -= len(e.framed)
				batch[i] = entry{} // its place in the count
			}
		}
		s.waiting, s.bytes = append(batch, s.waiting...), s.bytes+size
		if !s.failing {
			s.log.Error("the spool cannot be written", "err", err)
		}
		s.failing = true
		return err
	}
	if s.failing {
		s.log.Info("the spool can be written again")
		s.failing = false
	}
	s.synced += uint64(len(batch))
	for _, e := range batch {
		if s.open[e.tape] {
			seg.tapes[e.tape] = true
		}
		seg.fact = max(seg.fact, e.fact)
	}
	return s.removeDone()
}

// write appends a batch to the current segment. After a failure it is cut back to
// what was there before, and the next write begins another segment.
func (s *spool) write(batch []entry, size int) (seg *segment, err error) {
	if s.file == nil {
		if err := s.begin(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	seg = s.segments[len(s.segments)-1]
	s.mu.Unlock()
	b := make([]byte, 0, size)
	for _, e := range batch {
		b = append(b, e.framed...)
	}
	if _, err = s.file.Write(b); err == nil {
		err = s.datasync(s.file)
	}
	if err != nil {
		err = errors.Join(err, s.file.Truncate(s.size), s.file.Close())
		s.file = nil
		return seg, err
	}
	s.size += int64(len(b))
	if s.size > s.most {
		err = s.file.Close()
		s.file = nil
	}
	return seg, err
}

// begin makes the next segment.
func (s *spool) begin() error {
	path := filepath.Join(s.dir, fmt.Sprintf(segmentName, s.last+1))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.last++
	if _, err = f.WriteString(magic); err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	s.file, s.size = f, int64(len(magic))
	s.mu.Lock()
	s.segments = append(s.segments, &segment{path: path, tapes: map[uuid.UUID]bool{}})
	s.mu.Unlock()
	return nil
}

// removeDone removes segments whose tapes and facts are all done, from the
// oldest on: what a younger one says about an older one counts as long as that
// one is there. The current one goes too when nothing is left: a voice stays no
// longer than it must. Both locks are held, or nobody else is there.
func (s *spool) removeDone() error {
	for len(s.segments) > 0 {
		seg := s.segments[0]
		if len(seg.tapes) > 0 || seg.fact > s.doneFact {
			return nil
		}
		if len(s.segments) == 1 && s.file != nil {
			if len(s.waiting) > 0 || len(s.open) > 0 {
				return nil
			}
			if err := s.file.Close(); err != nil {
				return fmt.Errorf("close the spool: %w", err)
			}
			s.file = nil
		}
		if err := os.Remove(seg.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a done part of the spool: %w", err)
		}
		s.segments = s.segments[1:]
	}
	return nil
}

// close writes what waits and closes the file.
func (s *spool) close() error {
	err := s.flush()
	s.diskMu.Lock()
	defer s.diskMu.Unlock()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return err
}

// makeDir makes a directory for our user alone, and its name durable.
func makeDir(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a directory: %w", err)
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync a directory: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", strings.TrimSuffix(dir, "/"), err)
	}
	return nil
}

// datasync is fdatasync: the content and the size, not the times.
func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
