package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// timerSlack is how late the kernel may wake a thread of ours, so as to wake several
// at once (PR_SET_TIMERSLACK, prctl(2)). Go's runtime has a thread that looks after the
// others, and sleeps for 20 µs at a time while they come and go as those of a desk
// do: with the kernel's own 50 µs it was woken 2 000 times a second and more, for a
// twelfth of all that the program needed, and with half a millisecond still 1 300 times,
// for a tenth of what 200 talks need. Whoever moves sound is punctual by itself (sip/media);
// all else that has a time can bear two milliseconds. It must not be much more: a
// thread that waits for a disk keeps its processor until the watcher has come by.
const timerSlack = 2 * time.Millisecond

// Of linux/prctl.h.
const (
	prSetTimerSlack = 29
	prGetTimerSlack = 30
)

// slacken starts the program anew, as the same process, with timerSlack: a thread has it
// from the one that started it, and the runtime's starts before main. Where that is
// not to be had the program runs on as it is: a thread that is scheduled in real time
// (CPUSchedulingPolicy=fifo) has no slack, whatever it sets, and would start anew for ever.
func slacken() {
	runtime.LockOSThread() // the slack is a thread's
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err != nil || threadSlack() >= timerSlack {
		return
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(timerSlack), 0); errno != 0 || threadSlack() < timerSlack {
		return
	}
	_ = syscall.Exec(self, os.Args, os.Environ()) // returns only when it failed
}

// threadSlack is that of this thread; 0: it has none, or nobody knows.
func threadSlack() time.Duration {
	has, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	if errno != 0 {
		return 0
	}
	return time.Duration(has)
}
