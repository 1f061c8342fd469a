//go:build linux && (amd64 || arm64)

package media

import (
	"context"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A stream that is bridged or heard is read promptly, otherwise with patience;
// and the last socket takes the pollers' goroutines with it.
func TestSocketsHurryForBridges(t *testing.T) {
	e := New(Config{})
	a, err := e.Open(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Open(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	s := a.rtp.(*socket)
	where := func() *poller {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.poller
	}
	until := func(p *poller) { // go test ends a wait without end
		for where() != p {
			<-time.After(time.Millisecond)
		}
	}
	if where() != &s.sockets.patient {
		t.Error("a new stream is in a hurry")
	}
	over, end := context.WithCancel(t.Context())
	bridged, heard := make(chan error), make(chan error)
	go func() { bridged <- Bridge(over, a, b) }()
	until(&s.sockets.prompt[0])
	go func() { heard <- a.Hear(t.Context(), func([]byte) bool { return over.Err() == nil }) }()
	end()
	<-bridged
	<-heard
	if where() != &s.sockets.patient {
		t.Error("the hurry outlives the bridge")
	}
	go func() { heard <- a.Hear(t.Context(), func([]byte) bool { return true }) }()
	until(&s.sockets.prompt[0])
	goroutines := []chan struct{}{s.sockets.prompt[0].done, s.sockets.patient.done}
	a.Close()
	<-heard
	b.Close()
	for i, done := range goroutines {
		select {
		case <-done:
		default:
			t.Errorf("goroutine %d lives on after the last Close", i)
		}
	}
}

// TestWhoTalksIsAlone: while a stream is bridged, the kernel itself lets in nobody but its
// peer; before, after, and from a new agreement on, we look for ourselves.
func TestWhoTalksIsAlone(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	e := New(Config{})
	var streams [2]*Stream
	var phones [2]*phone
	for i := range streams {
		s, err := e.Open(local)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		phones[i] = newPhone(t, listenUDP, netip.AddrPortFrom(local, 0), aLawFormat())
		s.Agree(aLawFormat(), phones[i].peer())
		streams[i] = s
	}
	s, doctor := streams[0], phones[0]
	stranger := newPhone(t, listenUDP, netip.AddrPortFrom(local, 0), aLawFormat())
	until := func(what string, done func() bool) {
		for end := time.Now().Add(20 * time.Second); !done(); <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	alone := func() bool {
		_, err := syscall.Getpeername(s.rtp.(*socket).fd)
		return err == nil
	}
	says := func(p *phone) { p.talk(s.Addr(), 4) }
	refused := func() uint64 { return s.Stats().Dropped["port"] }

	says(doctor)
	until("the doctor is not heard", func() bool { return s.Stats().Latched })
	says(stranger)
	until("nobody looks at the stranger", func() bool { return refused() == 4 })

	talk, hangUp := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- Bridge(talk, streams[0], streams[1]) }()
	until("the socket is for everybody", alone)
	before, heard := refused(), s.Stats().In
	says(stranger)
	says(doctor)
	until("the doctor is not heard in the talk", func() bool { return s.Stats().In >= heard+4 })
	if now := refused(); now != before {
		t.Errorf("%d packets of a stranger came in", now-before)
	}

	s.Agree(aLawFormat(), stranger.peer()) // the doctor has moved to another telephone
	until("the new telephone is not heard", func() bool { says(stranger); return s.Stats().Latched && s.Stats().In > heard+4 })
	until("the socket is not the new telephone's", alone)
	hangUp()
	<-over
	if alone() {
		t.Error("the socket is somebody's after the talk")
	}
	before = refused()
	says(doctor)
	until("nobody looks at who was the doctor", func() bool { return refused() > before })
}

// A poller that finds few waits longer for them, so that they come together; one that has
// much to read never does, whatever the pace at which it found that.
func TestPace(t *testing.T) {
	s := newSockets()
	for _, c := range []struct {
		found int
		over  time.Duration
		want  time.Duration
	}{
		{0, 64 * breathPrompt, breathLeisure},
		{64*few - 1, 64 * breathPrompt, breathLeisure},
		{64 * few, 64 * breathPrompt, breathPrompt},
		{192*few - 1, 64 * breathLeisure, breathLeisure},
		{192 * few, 64 * breathLeisure, breathPrompt},
	} {
		if got := s.prompt[0].pace(c.found, c.over); got != c.want {
			t.Errorf("%d in %s: %s", c.found, c.over, got)
		}
		if got := s.patient.pace(c.found, c.over); got != breathPatient {
			t.Errorf("a patient one waits %s", got)
		}
	}
}

// The second poller comes when the first has enough, and more go to who has fewer.
func TestPollersShareMany(t *testing.T) {
	s := newSockets()
	s.prompt = make([]poller, 2)
	for _, c := range []struct{ first, second, want int }{
		{0, 0, 0}, {enough - 1, 0, 0}, {enough, 0, 1}, {enough, enough - 1, 1}, {enough, enough, 0}, {enough + 1, enough, 1}, {enough - 1, enough + 9, 0},
	} {
		s.prompt[0].watched.Store(int32(c.first))
		s.prompt[1].watched.Store(int32(c.second))
		if got := s.promptOne(); got != &s.prompt[c.want] {
			t.Errorf("%+v: another", c)
		}
	}
}

// Whoever relays sound is woken in time by a kernel that may be late for all others.
func TestSoundIsPunctual(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	slack := func() uintptr {
		const prGetTimerSlack = 30 // linux/prctl.h
		is, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
		return is
	}
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(20*time.Millisecond), 0)
	if got := slack(); got != uintptr(20*time.Millisecond) {
		t.Fatalf("the kernel may be %d ns late", got)
	}
	punctual()
	if got := slack(); got != uintptr(slackest) {
		t.Errorf("the kernel may be %d ns late, want %v", got, slackest)
	}
}
