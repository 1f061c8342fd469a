//go:build linux && (amd64 || arm64)

package media

import (
	"context"
	"net/netip"
	"runtime"
	"sync/atomic"
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
	until(&s.sockets.prompt)
	go func() { heard <- a.Hear(t.Context(), func([]byte) bool { return over.Err() == nil }) }()
	end()
	<-bridged
	<-heard
	if where() != &s.sockets.patient {
		t.Error("the hurry outlives the bridge")
	}
	go func() { heard <- a.Hear(t.Context(), func([]byte) bool { return true }) }()
	until(&s.sockets.prompt)
	goroutines := []chan struct{}{s.sockets.prompt.readers[0].done, s.sockets.patient.readers[0].done}
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

// TestPeerOfAnotherFamily: a description may name, for the sound or for the reports alone, an
// address of a family that the stream's sockets have not got. What would go there is lost, and
// nothing else is.
func TestPeerOfAnotherFamily(t *testing.T) {
	for local, peer := range map[string]string{"127.0.0.1": "2001:db8::1", "::1": "192.0.2.1"} {
		e := New(Config{})
		s, err := e.Open(netip.MustParseAddr(local))
		if err != nil {
			t.Fatal(err)
		}
		to := netip.AddrPortFrom(netip.MustParseAddr(peer), 4000)
		s.Agree(aLawFormat(), Peer{RTP: to, Source: to.Addr(), Send: true, Receive: true})
		s.tick(e.now())
		s.report(e.now())
		if st := e.Stats(); st.Out != 1 || st.Failed != 1 {
			t.Errorf("from %s to %s %d packets were sent and %d failed, not 1 and 1", local, peer, st.Out, st.Failed)
		}
		if err := s.rtp.(*socket).connect(to); err == nil {
			t.Errorf("a socket on %s is connected to %s", local, peer)
		}
		near := netip.AddrPortFrom(netip.MustParseAddr(local), 4000)
		s.Agree(aLawFormat(), Peer{RTP: near, RTCP: to, Source: near.Addr(), Send: true, Receive: true})
		s.report(e.now())
		s.Close()
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

// A reader that finds few waits longer for them, so that they come together; one that has
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
		if got := s.prompt.pace(c.found, c.over); got != c.want {
			t.Errorf("%d in %s: %s", c.found, c.over, got)
		}
		if got := s.patient.pace(c.found, c.over); got != breathPatient {
			t.Errorf("a patient one waits %s", got)
		}
	}
}

// A second reader comes when there is enough for two, and goes when half of that is left; none
// outlives the last socket.
func TestReadersComeAndGo(t *testing.T) {
	s := newSockets()
	p := &s.prompt
	p.most, p.share = 3, 2
	fds := bareSockets(t, 9)
	for _, c := range []struct{ sockets, readers int }{{0, 0}, {1, 1}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {9, 3}, {3, 3}, {2, 2}, {1, 1}, {2, 1}, {3, 2}, {1, 1}, {0, 0}} {
		for n := int(p.watches.Load()); n < c.sockets; n++ {
			if err := p.add(fds[n], func([]byte, netip.AddrPort) {}); err != nil {
				t.Fatal(err)
			}
		}
		for n := int(p.watches.Load()); n > c.sockets; n-- {
			p.remove(fds[n-1], true)
		}
		if want := c.sockets > p.share; s.crowded() != want {
			t.Errorf("crowded with %d sockets: %v", c.sockets, !want)
		}
		if len(p.readers) != c.readers {
			t.Fatalf("%d readers for %d sockets, want %d", len(p.readers), c.sockets, c.readers)
		}
	}
}

// While a reader is kept from its work, as by a machine that takes its processor away, another
// reads all but what the first has in hand; that is nobody else's, and comes in order.
func TestReadersStandInForEachOther(t *testing.T) {
	p := &newSockets().prompt
	p.most, p.share = 2, 2*handful
	fds := bareSockets(t, 4*handful)
	came := make([]chan byte, len(fds))
	stuck, free := make(chan int), make(chan struct{})
	var held atomic.Bool
	for i, fd := range fds {
		came[i] = make(chan byte, 8)
		if err := p.add(fd, func(b []byte, _ netip.AddrPort) {
			if held.CompareAndSwap(false, true) {
				stuck <- i
				<-free
			}
			came[i] <- b[0]
		}); err != nil {
			t.Fatal(err)
		}
	}
	say := func(what byte) {
		for _, fd := range fds {
			to, err := syscall.Getsockname(fd)
			if err == nil {
				err = syscall.Sendto(fd, []byte{what}, 0, to)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	say(1)
	first := <-stuck
	say(2)
	inHand := 0
	p.mu.Lock()
	for i, fd := range fds {
		if p.entries[fd].inHand && i != first {
			inHand++
		}
	}
	p.mu.Unlock()
	if inHand >= 2*handful {
		t.Errorf("%d sockets are in hand", inHand)
	}
	heard := 0
	for heard < 2*(len(fds)-handful) { // go test ends a wait without end
		heard = 0
		for _, c := range came {
			heard += len(c)
		}
		<-time.After(time.Millisecond)
	}
	if len(came[first]) != 0 {
		t.Error("a socket that one reader has in hand was read by another")
	}
	removed := make(chan struct{})
	go func() { defer close(removed); p.remove(fds[first], true) }()
	select {
	case <-removed:
		t.Error("a socket was given back while its sound was handled")
	case <-time.After(20 * time.Millisecond):
	}
	close(free)
	<-removed
	if got := len(came[first]); got != 1 {
		t.Errorf("%d datagrams of the socket that was given back", got)
	}
	for i, fd := range fds {
		if i == first {
			continue
		}
		for _, want := range []byte{1, 2} {
			if got := <-came[i]; got != want {
				t.Errorf("socket %d: %d, want %d", i, got, want)
			}
		}
		p.remove(fd, true)
	}
}

// A round reads of every socket that has something, of however many there are, and hardly more of
// one that is flooded; later rounds read what is left, and nothing is read that is not there.
func TestRoundReadsAll(t *testing.T) {
	p := &newSockets().prompt
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(epfd)
	p.epfd = epfd // without readers: we read
	fds := bareSockets(t, 3*handful+1)
	heard := map[int]int{}
	for _, fd := range fds {
		if err := p.heed(fd, func([]byte, netip.AddrPort) { heard[fd]++ }); err != nil {
			t.Fatal(err)
		}
	}
	for i, fd := range fds {
		to, err := syscall.Getsockname(fd)
		for range 1 + 4*(i%2) {
			if err == nil {
				err = syscall.Sendto(fd, []byte{1}, 0, to)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all := 0
	for n := 1; ; n++ {
		got := p.round(&reader{}, epfd)
		if all += got; got == 0 {
			break
		}
		if got > len(fds)+handful {
			t.Errorf("round %d: %d datagrams of %d sockets", n, got, len(fds))
		}
		for i, fd := range fds {
			if n == 1 && (heard[fd] < 1 || heard[fd] > 2) {
				t.Errorf("socket %d: %d datagrams in the first round", i, heard[fd])
			}
		}
	}
	want := 0
	for i, fd := range fds {
		each := 1 + 4*(i%2)
		if want += each; heard[fd] != each {
			t.Errorf("socket %d: %d datagrams, want %d", i, heard[fd], each)
		}
	}
	if all != want {
		t.Errorf("%d datagrams were counted, want %d", all, want)
	}
}

// bareSockets are UDP sockets of the loopback that nobody reads.
func bareSockets(t *testing.T, n int) (fds []int) {
	t.Helper()
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return fds
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
