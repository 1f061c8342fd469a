//go:build linux && (amd64 || arm64)

package media

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/pronto-desk/pronto/sip/audio"
)

// This file reads the sockets of an engine in rounds, with epolls of its own and a
// goroutine for each. The runtime's poller would wake a goroutine for each packet, and
// look for other work before and after; at the rates of a help desk that costs
// more than twice as much as moving the packets. Other systems, and sockets that
// Config.Listen makes, have a goroutine each.

// How long a poller waits between two rounds, so that what comes close together
// is read in one: it is waking up that costs. One that serves bridges and
// recorders must not delay; keys, reports and the watchdog can wait for a frame.
const (
	breathPrompt  = time.Millisecond
	breathLeisure = 3 * time.Millisecond // of a prompt one that finds few
	breathPatient = audio.FrameTime

	few       = 24 // datagrams in a millisecond, those of 240 talks: less is hardly worth waking up for
	judgeOver = 64 // breaths, after which a poller asks itself how much it finds
)

const (
	eventsAtOnce = 256 // sockets read in a round
	readAtOnce   = 16  // datagrams read before they are handled
	bufferSize   = 1600

	// Datagrams of one socket between two breaths: sound and keys of a frame, and as
	// many as keep a stranger's flood from filling the buffer in which the caller's
	// own stand, up to some thousands a second.
	roundsPrompt  = 8
	roundsPatient = 64
)

// sockets reads an engine's sockets: those of bridges promptly, the rest with
// patience. Many that are prompt are shared among as many pollers as there are processors,
// up to promptMost: while the system lets one of them wait for its processor, the
// others read on, and what has piled up is read by all. Few have one, for each wakes
// up a thousand times a second.
type sockets struct {
	prompt  []poller
	patient poller
}

const (
	promptMost = 4
	enough     = 512 // sockets of one prompt poller before there is another: 256 talks
)

// poller reads sockets; its goroutine lives as long as there are any.
type poller struct {
	breath  time.Duration
	leisure time.Duration // its breath while it finds few
	rounds  int           // between two breaths

	life sync.Mutex // guards what follows; held while the goroutine starts or ends
	epfd int
	stop chan struct{} // closed to end the goroutine
	done chan struct{} // closed at its end; nil: there is none

	mu       sync.Mutex                     // guards handlers; held while a round is handled
	handlers []func([]byte, netip.AddrPort) // by descriptor; nil: of another
	watched  atomic.Int32                   // how many there are
}

// arrived is a datagram that was read and not handled yet.
type arrived struct {
	handle func([]byte, netip.AddrPort)
	b      []byte
	from   netip.AddrPort
}

// socket is a UDP socket that a poller reads.
type socket struct {
	sockets *sockets
	fd      int
	addr    netip.AddrPort
	peer    netip.AddrPort // connected to; zero: to nobody. Who writes and who connects take turns.

	mu     sync.Mutex // guards what follows
	poller *poller    // nil: none yet, or closed
	handle func([]byte, netip.AddrPort)
	urgent int // how many are in a hurry
	closed bool
}

// listen opens a socket on a concrete address.
func (p *sockets) listen(at netip.AddrPort) (Conn, error) {
	if at.Addr().Zone() != "" { // its number is the business of package net
		return listenUDP(at)
	}
	family := syscall.AF_INET6
	if at.Addr().Is4() {
		family = syscall.AF_INET
	}
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if family == syscall.AF_INET6 {
		err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
	}
	if err == nil {
		var sa address
		sa.set(at, family == syscall.AF_INET6)
		if _, _, errno := syscall.Syscall(syscall.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.size)); errno != 0 {
			err = errno
		}
	}
	if err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &socket{sockets: p, fd: fd, addr: at}, nil
}

// watch begins to call handle with what arrives, on a poller's goroutine.
func (s *socket) watch(handle func([]byte, netip.AddrPort)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
	return s.move(&s.sockets.patient)
}

// hurry has the socket read promptly, until it was called as often with false.
func (s *socket) hurry(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.urgent > 0
	if on {
		s.urgent++
	} else {
		s.urgent--
	}
	switch is := s.urgent > 0; {
	case s.closed || s.handle == nil || is == was:
		return nil
	case is:
		return s.move(s.sockets.promptOne())
	default:
		return s.move(&s.sockets.patient)
	}
}

// move gives the socket to another poller. The caller holds s.mu.
func (s *socket) move(to *poller) error {
	if s.poller != nil {
		s.poller.remove(s.fd, true)
		s.poller = nil
	}
	if err := to.add(s.fd, s.handle); err != nil {
		return err
	}
	s.poller = to
	return nil
}

// Close ends the watching; when it returns, handle is not running any more.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	if s.poller != nil {
		s.poller.remove(s.fd, false)
	}
	return syscall.Close(s.fd)
}

func (s *socket) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, errors.ErrUnsupported // the poller reads
}
func (s *socket) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }
func (s *socket) LocalAddr() net.Addr             { return net.UDPAddrFromAddrPort(s.addr) }

// WriteToUDPAddrPort sends a datagram; with a full buffer it fails at once.
func (s *socket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if to == s.peer {
		n, errno := s.send(b, nil)
		if errno == syscall.ECONNREFUSED { // what came back of one before: this one was not sent yet
			n, errno = s.send(b, nil)
		}
		return n, failure(errno)
	}
	var sa address
	sa.set(to, !s.addr.Addr().Is4())
	n, errno := s.send(b, &sa)
	return n, failure(errno)
}

// send sends to an address; nil: to whom the socket is connected to. It is a raw call: it
// never waits, so the scheduler need not know of it.
func (s *socket) send(b []byte, to *address) (int, syscall.Errno) {
	var at, size uintptr
	if to != nil {
		at, size = uintptr(unsafe.Pointer(&to.raw)), uintptr(to.size)
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, at, size)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func failure(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// connect gives the socket one peer: the kernel lets in nobody else, and knows the way;
// the zero address: none.
func (s *socket) connect(to netip.AddrPort) error {
	if to == s.peer {
		return nil
	}
	var sa address
	if to.IsValid() {
		sa.set(to, !s.addr.Addr().Is4())
	} else {
		sa.raw.Family, sa.size = syscall.AF_UNSPEC, syscall.SizeofSockaddrInet6 // connect(2)
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(s.fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.size)); errno != 0 {
		return os.NewSyscallError("connect", errno)
	}
	s.peer = to
	return nil
}

// ready is epoll_pwait(2) that waits for nothing. It is a raw call like the others: one that
// the scheduler knows of wakes the thread of its that looks after who is in the kernel for too
// long, which then comes back two thousand times a second, and for as long again if it finds
// another. Of twenty talks that was half of all the work.
func ready(epfd int, events []syscall.EpollEvent) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// receive reads one datagram that is there already; syscall.EAGAIN: none is.
func receive(fd int, b []byte) (int, netip.AddrPort, error) {
	var sa address
	sa.size = uint32(unsafe.Sizeof(sa.raw))
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		syscall.MSG_DONTWAIT, uintptr(unsafe.Pointer(&sa.raw)), uintptr(unsafe.Pointer(&sa.size)))
	if errno != 0 {
		return 0, netip.AddrPort{}, errno
	}
	return int(n), sa.get(), nil
}

func newSockets() *sockets {
	p := &sockets{prompt: make([]poller, min(runtime.GOMAXPROCS(0), promptMost)), patient: poller{breath: breathPatient, leisure: breathPatient, rounds: roundsPatient}}
	for i := range p.prompt {
		p.prompt[i].breath, p.prompt[i].leisure, p.prompt[i].rounds = breathPrompt, breathLeisure, roundsPrompt
	}
	return p
}

// promptOne is the poller for one more socket: the first that has not enough, else the one
// that has the fewest.
func (p *sockets) promptOne() *poller {
	least := &p.prompt[0]
	for i := range p.prompt {
		one := &p.prompt[i]
		if one.watched.Load() < enough {
			return one
		}
		if one.watched.Load() < least.watched.Load() {
			least = one
		}
	}
	return least
}

// address is a sockaddr_in or sockaddr_in6, which is the larger.
type address struct {
	raw  syscall.RawSockaddrInet6
	size uint32
}

func (a *address) set(ap netip.AddrPort, six bool) {
	if six {
		a.raw.Family = syscall.AF_INET6
		a.raw.Addr = ap.Addr().As16()
		a.size = syscall.SizeofSockaddrInet6
	} else {
		four := (*syscall.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		four.Family = syscall.AF_INET
		four.Addr = ap.Addr().Unmap().As4()
		a.size = syscall.SizeofSockaddrInet4
	}
	port := (*[2]byte)(unsafe.Pointer(&a.raw.Port)) // network order, in either form at the same place
	port[0], port[1] = byte(ap.Port()>>8), byte(ap.Port())
}

func (a *address) get() netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&a.raw.Port))
	n := uint16(port[0])<<8 | uint16(port[1])
	switch a.raw.Family {
	case syscall.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*syscall.RawSockaddrInet4)(unsafe.Pointer(&a.raw)).Addr), n)
	case syscall.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.raw.Addr).Unmap(), n)
	}
	return netip.AddrPort{}
}

// add watches a socket, and starts the goroutine for the first one.
func (p *poller) add(fd int, handle func([]byte, netip.AddrPort)) error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.done == nil {
		if err := p.start(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.handlers) <= fd {
		p.handlers = append(p.handlers, nil)
	}
	p.handlers[fd] = handle
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	if err := syscall.EpollCtl(p.epfd, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		p.handlers[fd] = nil
		return os.NewSyscallError("epoll_ctl", err)
	}
	p.watched.Add(1)
	return nil
}

func (p *poller) start() error {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	p.epfd, p.stop, p.done = epfd, make(chan struct{}), make(chan struct{})
	p.handlers = nil
	p.watched.Store(0)
	go p.run(epfd, p.stop, p.done)
	return nil
}

// remove ends the watching of a socket; after the last one it ends the
// goroutine and waits for it. One that does not stay open afterwards leaves the
// kernel's list by itself.
func (p *poller) remove(fd int, stays bool) {
	p.life.Lock()
	defer p.life.Unlock()
	p.mu.Lock()
	known := fd < len(p.handlers) && p.handlers[fd] != nil
	if known {
		p.handlers[fd] = nil
		p.watched.Add(-1)
		if stays {
			syscall.EpollCtl(p.epfd, syscall.EPOLL_CTL_DEL, fd, nil)
		}
	}
	last := known && p.watched.Load() == 0
	p.mu.Unlock()
	if !last {
		return
	}
	close(p.stop)
	<-p.done
	syscall.Close(p.epfd)
	p.done = nil
}

// run reads what has arrived, in rounds. It never blocks in the kernel: a thread
// that does so costs the scheduler more than looking each time.
func (p *poller) run(epfd int, stop, done chan struct{}) {
	defer close(done)
	events := make([]syscall.EpollEvent, eventsAtOnce)
	slab := make([]byte, readAtOnce*bufferSize)
	pace := p.breath
	breath := time.NewTicker(pace)
	defer breath.Stop()
	found, breaths := 0, 0
	for {
		select {
		case <-stop:
			return
		case <-breath.C:
		}
		punctual()
		for range p.rounds {
			n := p.round(epfd, events, slab)
			if n == 0 {
				break
			}
			found += n
		}
		if breaths++; breaths < judgeOver {
			continue
		}
		if next := p.pace(found, judgeOver*pace); next != pace {
			pace = next
			breath.Reset(pace)
		}
		found, breaths = 0, 0
	}
}

// slackest is how late sound may be woken: it is relayed every millisecond or three, and
// sent every 20.
const slackest = 500 * time.Microsecond

const prSetTimerSlack = 29 // linux/prctl.h

// punctual has the kernel wake the thread that we are on no later than that. The program's
// threads may be woken later than sound can bear (cmd/pronto: timerSlack), and which of them
// sleeps until the next breath is Go's to choose: mostly the one that was there at the last.
func punctual() {
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(slackest), 0)
}

// pace is how long to wait between rounds, by how many datagrams were found in a time.
func (p *poller) pace(found int, over time.Duration) time.Duration {
	if time.Duration(found)*time.Millisecond < few*over {
		return p.leisure
	}
	return p.breath
}

// round reads a datagram of each socket that has some, and returns how many these
// were. To read once more in vain, to see that there is no second, would cost as
// much as a datagram: the next round sees that for all sockets at once. Some are read
// before they are handled: so the processor's caches hold the kernel's code for
// reading, and then that for sending, for a fiftieth less.
func (p *poller) round(epfd int, events []syscall.EpollEvent, slab []byte) int {
	n, errno := ready(epfd, events)
	if errno != 0 { // EINTR, a signal; nothing else can happen to a descriptor of ours
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var in [readAtOnce]arrived
	for some := range slices.Chunk(events[:n], readAtOnce) {
		read := 0
		for _, e := range some {
			handle := p.handlers[e.Fd]
			if handle == nil { // removed since the kernel named it
				continue
			}
			b := slab[read*bufferSize:][:maxPacket+1]
			if n, from, err := receive(int(e.Fd), b); err == nil { // else an ICMP error, which reading has cleared
				in[read] = arrived{handle, b[:n], from}
				read++
			}
		}
		for i := range in[:read] {
			in[i].handle(in[i].b, in[i].from)
		}
	}
	return n
}
