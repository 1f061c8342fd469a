package recordings

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	roomEvery = time.Second // a second of messages is some KB: nothing beside what is kept free
	roomBack  = 10          // there is room again when a tenth more than needed is free, so that the alarm does not flutter
)

// ErrNoRoom is a recording that does not begin, or does not go on, because less
// of the disk is free than must stay so. What was said before is kept.
var ErrNoRoom = errors.New("the disk is nearly full")

// room watches the disk under the data directory. What is kept free is for the
// database and for the facts in the spool: calls go on when messages do not.
type room struct {
	keep uint64                           // bytes; 0: nobody looks
	free func(dir string) (uint64, error) // statfs; tests have a disk of their own
	full atomic.Bool
}

// KeepFree says how many bytes of the disk must stay free, before the first
// recording. 0: none.
func (a *Archive) KeepFree(bytes uint64) { a.room.keep = bytes }

// FreeBy replaces the disk that is asked, for tests.
func (a *Archive) FreeBy(free func(dir string) (uint64, error)) { a.room.free = free }

// Free is how many bytes are free for us.
func (a *Archive) Free() (uint64, error) {
	free, err := a.room.free(a.dir)
	if err != nil {
		return 0, fmt.Errorf("look at the disk: %w", err)
	}
	return free, nil
}

// HasRoom tells whether messages are taken now. A disk that cannot be asked is
// tried.
func (a *Archive) HasRoom() bool {
	a.lookAtDisk()
	return !a.room.full.Load()
}

// lookAtDisk notes whether there is room, and logs when that changes.
func (a *Archive) lookAtDisk() {
	if a.room.keep == 0 {
		return
	}
	free, err := a.Free()
	if err != nil {
		return // what cannot be written says so by itself
	}
	need := a.room.keep
	if a.room.full.Load() {
		need += need / roomBack
	}
	full := free < need
	switch changed := a.room.full.Swap(full) != full; {
	case changed && full:
		a.log.Error("the disk is nearly full: messages are refused until there is room", "free", free, "keep_free", a.room.keep, "dir", a.dir)
	case changed:
		a.log.Info("the disk has room again: messages are taken", "free", free)
	}
}

// watchDisk looks again and again until ctx ends.
func (a *Archive) watchDisk(ctx context.Context) {
	if a.room.keep == 0 {
		return
	}
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		a.lookAtDisk()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// statFree asks the file system what an ordinary user may still write.
func statFree(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
