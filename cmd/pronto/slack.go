package main

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// timerSlack is how late the kernel may wake a thread of ours, so as to wake several
// at once (PR_SET_TIMERSLACK, prctl(2)); its own choice would be 50 µs. Whoever moves sound is
// punctual by itself (sip/media); all else that has a time can bear two milliseconds.
//
// watcherSlack is that of one thread: Go's runtime has one that looks after the others,
// and sleeps for 20 µs at a time while they come and go as those of a desk do. With the kernel's
// 50 µs it was woken 2 000 times a second and more, for a twelfth of all that the program needed,
// with two milliseconds still 600 times, for a twentieth. It must not be much more: a thread
// that waits for a disk keeps its processor until the watcher has come by, and who
// computes for long is interrupted by it.
const (
	timerSlack   = 2 * time.Millisecond
	watcherSlack = 10 * time.Millisecond
)

// Of linux/prctl.h.
const (
	prSetTimerSlack = 29
	prGetTimerSlack = 30
)

// slacken gives the program's threads their slack. A thread has that of the one that
// started it, and the runtime's watcher starts before main, so the program starts anew, as
// the same process, with watcherSlack; then all but the watcher take their own. Where
// that is not to be had the program runs on as it is: a thread that is scheduled in real
// time (CPUSchedulingPolicy=fifo) has no slack, whatever it sets, and would start anew
// for ever.
func slacken() {
	if threadSlack() >= watcherSlack {
		tighten()
		return
	}
	runtime.LockOSThread() // the slack is a thread's
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err != nil {
		return
	}
	if setThreadSlack(watcherSlack); threadSlack() < watcherSlack {
		return
	}
	_ = syscall.Exec(self, os.Args, os.Environ()) // returns only when it failed
	setThreadSlack(timerSlack)
}

// threadsAhead is how many threads there are to be from the start: more than a desk needs
// at once, so that none is started when one is wanted. For it is often the watcher that
// sees that, and its slack that the new one would have.
const threadsAhead = 16

// tighten gives timerSlack to all threads that goroutines run on, and so to those that
// these will start. Goroutines each hold one, until all do.
func tighten() {
	setThreadSlack(timerSlack) // first of all: to hold a thread may start one
	n := threadsAhead
	if threads, err := os.ReadDir("/proc/self/task"); err == nil {
		n = max(n, len(threads))
	}
	var held sync.WaitGroup
	held.Add(n)
	for range n {
		go func() { // ends when all hold one
			setThreadSlack(timerSlack)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			setThreadSlack(timerSlack)
			held.Done()
			held.Wait()
		}()
	}
	held.Wait()
}

// keepTight gives timerSlack to the thread that we are on, if the watcher has started it.
// Who comes by often, on whatever thread, has all of them in time.
func keepTight() {
	if threadSlack() > timerSlack {
		setThreadSlack(timerSlack)
	}
}

// setThreadSlack sets that of this thread.
func setThreadSlack(slack time.Duration) {
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(slack), 0)
}

// threadSlack is that of this thread; 0: it has none, or nobody knows.
func threadSlack() time.Duration {
	has, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	if errno != 0 {
		return 0
	}
	return time.Duration(has)
}
