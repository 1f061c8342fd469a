package recordings

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/sip/audio"
)

// TestNoRoom: below what must stay free no recording begins or goes on, and what
// was said is kept; a little above is not room enough to begin again.
func TestNoRoom(t *testing.T) {
	a, err := Open(t.TempDir(), "n1", dbtest.New(t), quiet)
	must(t, err)
	var free atomic.Uint64
	free.Store(1000)
	a.KeepFree(1000)
	a.FreeBy(func(string) (uint64, error) { return free.Load(), nil })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { must(t, a.Run(ctx)) })
	defer wg.Wait()
	defer cancel()

	tape, err := a.Tape(ctx, uuid.New(), noon)
	must(t, err)
	if _, err := tape.Write(audio.Tone(440, 20, -20)); err != nil {
		t.Fatal(err)
	}
	free.Store(999)
	if a.HasRoom() {
		t.Error("there is room on a full disk")
	}
	if _, err := a.Tape(ctx, uuid.New(), noon); !errors.Is(err, ErrNoRoom) {
		t.Errorf("a recording began: %v", err)
	}
	if _, err := tape.Write(audio.Tone(440, 20, -20)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("a recording goes on: %v", err)
	}
	if sound, err := tape.Close(ctx, noon.Add(time.Second)); err != nil || sound.Length != audio.FrameTime {
		t.Errorf("kept: %v, %v", sound, err)
	}
	free.Store(1099)
	if a.HasRoom() {
		t.Error("the alarm flutters")
	}
	free.Store(1100)
	if !a.HasRoom() {
		t.Error("there is no room again")
	}
}

// TestDiskFull fills a real disk in the middle of a recording: what was said
// before is whole, also for the next run, and is finished when there is room.
func TestDiskFull(t *testing.T) {
	disk, fill, empty := smallDisk(t)
	a, err := Open(disk, "n1", dbtest.New(t), quiet)
	must(t, err)
	ctx := t.Context()
	tape, err := a.Tape(ctx, uuid.New(), noon)
	must(t, err)
	said := audio.Tone(440, 2000, -20)
	for frame := range slices.Chunk(said, audio.FrameBytes) {
		if _, err := tape.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	must(t, a.spool.flush())
	fill(a)
	more := audio.Tone(600, 1000, -20) // more than what may be left of a page
	if _, err := tape.Write(more); err != nil {
		t.Fatal(err) // it is in memory
	}
	if err := a.spool.flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a full disk takes sound: %v", err)
	}
	if _, err := tape.Close(ctx, noon.Add(3*time.Second)); err == nil {
		t.Error("a recording whose end is nowhere on the disk is called safe")
	}
	left, err := look(filepath.Join(disk, spoolDir, "*.seg")) // as a run after a crash would
	must(t, err)
	tapes, _ := left.left()
	if len(tapes) != 1 || !slices.Equal(tapes[0].sound, said) {
		t.Fatalf("of what was said before, %d tapes are on the disk", len(tapes))
	}

	empty(a)
	a.finishLate(ctx)
	must(t, a.Close())
	f, err := os.Open(filepath.Join(disk, soundPath(noon, tape.id)))
	must(t, err)
	defer f.Close()
	if got, err := audio.ReadWAV(f); err != nil || !slices.Equal(got, slices.Concat(said, more)) {
		t.Errorf("the file has %d bytes of sound (%v)", len(got), err)
	}
}

// smallDisk is a directory on a file system of some KB, and what fills and
// empties it. Who is not root may mount none: there the archive's disk fails in
// its place, at the same call.
func smallDisk(t *testing.T) (dir string, fill, empty func(a *Archive)) {
	t.Helper()
	dir = t.TempDir()
	if os.Geteuid() != 0 {
		return dir, func(a *Archive) { a.spool.datasync = func(*os.File) error { return syscall.ENOSPC } },
			func(a *Archive) { a.spool.datasync = datasync }
	}
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	filler := filepath.Join(dir, "filler")
	return dir, func(*Archive) {
		f, err := os.Create(filler)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		must(t, f.Close())
	}, func(*Archive) { must(t, os.Remove(filler)) }
}
