package main

import (
	"context"
	"runtime"
	"syscall"
	"time"
)

// Go keeps as many of its processors going as the machine has. Whenever a thread finds
// work on one it wakes another, to look whether there is more on the next: a desk, which
// wakes up a thousand times a second for a moment's work, pays for each moment twice, and
// callers are answered the later for it. While all there is to do is what one can do, one
// does it: a tenth less for a whole job (docs/decisions/0050).
const (
	processorsLook = 25 * time.Millisecond
	busyShare      = 90              // percent of one processor within a look: it is busy, and others are wanted at once
	calmFor        = 2 * time.Second // without a busy look, after which it is judged what it all came to:
	calmShare      = 45              // less of one processor, in percent: one does it all
	steadyShare    = 50              // as much or more: several do. Five hundred talks have no busy look, and come late with one.
)

// tendProcessors sets how many of Go's processors work, one or all there were at the
// start, by what the program uses, until ctx ends; all while it is crowded, for what
// then keeps one processor for a moment keeps everybody.
func tendProcessors(ctx context.Context, crowded func() bool) {
	all := runtime.GOMAXPROCS(0)
	if all == 1 {
		return
	}
	defer runtime.GOMAXPROCS(all)
	look := time.NewTicker(processorsLook)
	defer look.Stop()
	var load load
	at, before := time.Now(), processTime()
	several := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now, used := time.Now(), processTime()
		if wants := load.wantsSeveral(used-before, now.Sub(at), several, crowded()); wants != several {
			several = wants
			if several {
				runtime.GOMAXPROCS(all) // stops the program for some 50 µs, as the other way
			} else {
				runtime.GOMAXPROCS(1)
			}
		}
		at, before = now, used
	}
}

// load is what the program has used since it was last busy.
type load struct {
	used, passed time.Duration
}

// wantsSeveral says, by the CPU time that the program used within the time that has passed
// since it was asked last, whether more than one processor is to work; several: whether more
// do now; crowded: so many talk that more are wanted whatever it used.
func (l *load) wantsSeveral(used, passed time.Duration, several, crowded bool) bool {
	if crowded || used*100 >= passed*busyShare {
		*l = load{}
		return true
	}
	l.used, l.passed = l.used+used, l.passed+passed
	if l.passed < calmFor {
		return several
	}
	calm, steady := l.used*100 < l.passed*calmShare, l.used*100 >= l.passed*steadyShare
	*l = load{}
	return steady || several && !calm
}

// processTime is the CPU time that all threads of the program have used so far.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil { // cannot be: getrusage(2)
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
