// Package recordings is the audio archive: what callers say is on disk within
// 200 ms, and what cannot be written to the database waits here until it can.
package recordings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
)

const (
	spoolDir   = "spool"
	soundDir   = "recordings"
	lockName   = "lock"
	refusedLog = "refused.jsonl" // facts that the database did not take, for a person to look at

	againEvery   = time.Second            // between two attempts to reach the database, or a failing disk
	againSoon    = 100 * time.Millisecond // between two attempts of a recovery, which calls wait for
	replayBudget = 10 * time.Second       // of one fact
	triesMost    = 3                      // of a fact that is refused although the database is there
	rowBudget    = 1500 * time.Millisecond
)

// errNobody: OnReplay has not been called. The facts wait.
var errNobody = errors.New("nobody takes deferred facts yet")

// Archive keeps the sounds of one node, and the facts that wait for the database.
type Archive struct {
	dir   string // the node's data directory
	node  string
	db    *db.DB
	log   *slog.Logger
	spool *spool
	keys  *Keys  // nil: nothing is sealed
	free  func() // gives up the directory
	room  room

	mu     sync.Mutex // guards what follows
	replay func(ctx context.Context, kind string, raw json.RawMessage) error
	facts  []deferred // on disk, not done; in order
	left   []*leftTape
	late   []*Tape            // closed, but their files could not be written
	aside  map[uuid.UUID]bool // tapes that no key of ours opens

	// keeping is held from the moment a fact gets its number until it stands in
	// facts, so that both have the same order.
	keeping sync.Mutex
	more    chan struct{} // a fact was added
}

// Open opens the archive under dir, the node's data directory, and reads what a
// former run left there. The database need not be there. One process at a time
// may have a directory: until the end of Run, or Close.
func Open(dir, node string, d *db.DB, log *slog.Logger) (*Archive, error) {
	if log == nil {
		log = slog.Default()
	}
	a := &Archive{dir: dir, node: node, db: d, log: log, more: make(chan struct{}, 1), room: room{free: statFree}, aside: map[uuid.UUID]bool{}}
	if err := makeDir(filepath.Join(dir, spoolDir)); err != nil {
		return nil, err
	}
	var err error
	if a.free, err = hold(filepath.Join(dir, spoolDir, lockName)); err != nil {
		return nil, err
	}
	if a.spool, a.left, a.facts, err = openSpool(filepath.Join(dir, spoolDir), log); err != nil {
		a.free()
		return nil, err
	}
	aside, err := a.lookAside()
	if err != nil {
		a.free()
		return nil, errors.Join(err, a.spool.close())
	}
	a.left = append(a.left, aside...)
	return a, nil
}

// hold locks a file as long as this process lives, or until free. A bare
// descriptor: an *os.File would be closed when nobody refers to it.
func hold(path string) (free func(), err error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("another process has %s: %w", filepath.Dir(path), err)
	}
	return sync.OnceFunc(func() {
		// Unlocked, not only closed: a child that is being started has the
		// descriptor too until its exec.
		_ = syscall.Flock(fd, syscall.LOCK_UN)
		_ = syscall.Close(fd)
	}), nil
}

// OnReplay says who takes the facts that were deferred, in their order. fn must
// do nothing when a fact comes a second time. An error for which db.Away holds
// means that it comes again later; a fact that is refused three times is written
// to the spool's refused.jsonl and logged.
func (a *Archive) OnReplay(fn func(ctx context.Context, kind string, raw json.RawMessage) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replay = fn
}

// Defer keeps a fact, as JSON, until the database is back. It returns when the
// fact is on disk; an error says that it is not kept.
func (a *Archive) Defer(kind string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("defer %s: %w", kind, err)
	}
	d := deferred{Kind: kind, Fact: raw}
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("defer %s: %w", kind, err)
	}
	a.keeping.Lock()
	defer a.keeping.Unlock()
	if d.n, err = a.spool.keep(body); err != nil {
		return fmt.Errorf("defer %s: %w", kind, err)
	}
	a.mu.Lock()
	a.facts = append(a.facts, d)
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
	return nil
}

// Pending tells whether facts are waiting for the database.
func (a *Archive) Pending() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.facts) > 0
}

// Run puts sound on disk every 100 ms and replays facts when the database is
// back, until ctx ends. Then it puts the rest on disk and gives the directory up.
func (a *Archive) Run(ctx context.Context) error {
	defer a.free()
	var wg sync.WaitGroup
	wg.Go(func() { a.catchUp(ctx) })
	wg.Go(func() { a.watchDisk(ctx) })
	a.keepSyncing(ctx)
	wg.Wait()
	if err := a.spool.close(); err != nil {
		return fmt.Errorf("close the spool: %w", err)
	}
	return nil
}

// Close puts everything on disk and gives the directory up, for those who did not
// call Run.
func (a *Archive) Close() error {
	defer a.free()
	return a.spool.close()
}

func (a *Archive) keepSyncing(ctx context.Context) {
	wait := syncEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.spool.dirty:
		}
		select { // others add to it meanwhile
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = syncEvery
		if a.spool.flush() != nil { // it has logged it
			wait = againEvery
			select {
			case a.spool.dirty <- struct{}{}:
			default:
			}
		}
	}
}

// catchUp replays what was deferred and writes the files that a full disk
// refused.
func (a *Archive) catchUp(ctx context.Context) {
	for ctx.Err() == nil {
		a.finishLate(ctx)
		again := a.replayAll(ctx, againEvery) != nil
		a.mu.Lock()
		again = again || len(a.late) > 0
		a.mu.Unlock()
		var timer <-chan time.Time // none while there is nothing to do
		if again {
			timer = time.After(againEvery)
		}
		select {
		case <-ctx.Done():
		case <-timer:
		case <-a.more:
			if again { // somebody else met the same absence: not earlier for that
				select {
				case <-ctx.Done():
				case <-timer:
				}
			}
		}
	}
}

// replayAll replays until nothing is left, or the database is away.
func (a *Archive) replayAll(ctx context.Context, pause time.Duration) error {
	for tries := 1; ; {
		a.mu.Lock()
		if len(a.facts) == 0 {
			a.mu.Unlock()
			return nil
		}
		d, replay := a.facts[0], a.replay
		a.mu.Unlock()
		err := a.replayOne(ctx, d, replay)
		switch {
		case err == nil:
		case db.Away(err) || errors.Is(err, errNobody) || ctx.Err() != nil:
			return err
		case tries < triesMost:
			tries++
			a.log.Warn("a fact was refused", "kind", d.Kind, "err", err, "try", tries-1)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			continue
		default:
			if err := a.refuse(d, err); err != nil {
				return err
			}
		}
		tries = 1
		a.mu.Lock()
		a.facts = a.facts[1:]
		a.mu.Unlock()
		if err := a.spool.done(d.n); err != nil {
			a.log.Error("a fact that was replayed could not be marked so: it will come again after a restart", "err", err)
		}
	}
}

func (a *Archive) replayOne(ctx context.Context, d deferred, replay func(context.Context, string, json.RawMessage) error) error {
	ctx, cancel := context.WithTimeout(ctx, replayBudget)
	defer cancel()
	switch d.Kind {
	case kindRecording, kindRecorded:
		var f tapeFact
		if err := json.Unmarshal(d.Fact, &f); err != nil {
			return fmt.Errorf("read a recording's fact: %w", err)
		}
		return a.writeRow(ctx, d.Kind, f)
	}
	if replay == nil {
		return errNobody
	}
	return replay(ctx, d.Kind, d.Fact)
}

// refuse puts a fact where a person finds it.
func (a *Archive) refuse(d deferred, why error) error {
	path := filepath.Join(a.dir, spoolDir, refusedLog)
	a.log.Error("a fact is refused by the database and set aside", "kind", d.Kind, "err", why, "file", path)
	b, err := json.Marshal(struct {
		deferred
		Why string `json:"why"`
	}{d, why.Error()})
	if err != nil {
		return fmt.Errorf("set a fact aside: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("set a fact aside: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("set a fact aside: %w", err)
	}
	return nil
}

// Recover finishes what a crash left, before the first call: every tape becomes a
// file and a row, and facts are replayed if the database is there. It returns how
// much sound there is of each contact that has a recording but no ending yet.
func (a *Archive) Recover(ctx context.Context) (map[uuid.UUID]time.Duration, error) {
	a.mu.Lock()
	left := a.left
	a.left = nil
	a.mu.Unlock()
	sounds := map[uuid.UUID]time.Duration{}
	for i, l := range left {
		sound, err := a.finishLeft(l)
		if err != nil {
			a.mu.Lock()
			a.left = left[i:] // nothing of them is lost: once more
			a.mu.Unlock()
			return nil, fmt.Errorf("finish the recording of contact %s: %w", l.start.Contact, err)
		}
		if !l.start.Talk { // a talk is no message, however it was cut off
			sounds[l.start.Contact] = max(sounds[l.start.Contact], sound.Sound)
		}
	}
	if err := a.spool.flush(); err != nil {
		return nil, err
	}
	err := a.replayAll(ctx, againSoon)
	if err == nil {
		err = a.unendedSounds(ctx, sounds)
	}
	if db.Away(err) || errors.Is(err, errNobody) {
		a.log.Warn("what was deferred stays so for now", "err", err)
		return sounds, nil
	}
	return sounds, err
}
