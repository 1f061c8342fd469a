//go:build linux && (amd64 || arm64)

package media

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/pronto-desk/pronto/sip/audio"
)

// This file reads the sockets of an engine in rounds, with epolls of its own and
// goroutines for each. The runtime's poller would wake a goroutine for each packet, and
// look for other work before and after; at the rates of a help desk that costs
// more than twice as much as moving the packets. Other systems, and sockets that
// Config.Listen makes, have a goroutine each.

// How long a reader waits between two breaths, so that what comes close together
// is read in one: it is waking up that costs. One that serves bridges and
// recorders must not delay; keys, reports and the watchdog can wait for a frame.
const (
	breathPrompt  = time.Millisecond
	breathLeisure = 3 * time.Millisecond // of a prompt one that finds few
	breathPatient = audio.FrameTime

	few       = 24 // datagrams in a millisecond, those of 240 talks: less is hardly worth waking up for
	judgeOver = 64 // breaths, after which a reader asks itself how much it finds
)

const (
	handful    = 16 // datagrams read before they are handled
	bufferSize = 1600

	// Datagrams of one socket between two breaths: sound and keys of a frame, and as
	// many as keep a stranger's flood from filling the buffer in which the caller's
	// own stand, up to some thousands a second.
	roundsPrompt  = 8
	roundsPatient = 64
)

// Few that are prompt have one reader, for each wakes up some hundred times a second or a
// thousand; of many there are as many as processors.
const (
	readersMost = 4
	enough      = 512 // sockets for each reader before there is another: 256 talks
)

// sockets reads an engine's sockets: those of bridges promptly, the rest with
// patience.
type sockets struct {
	prompt, patient poller
}

// poller reads the sockets that it watches. All its readers read all of them, a handful at
// a time: while the system lets one wait for its processor, the others read what is there.
type poller struct {
	breath  time.Duration
	leisure time.Duration // its breath while a reader finds few
	rounds  int           // between two breaths
	most    int           // readers
	share   int           // sockets for each before there is another

	life    sync.Mutex // guards what follows; held while a reader starts or ends
	epfd    int        // while there is a reader
	readers []*reader

	mu      sync.Mutex   // guards what follows
	idle    *sync.Cond   // of mu: a reader has put down what it had in hand
	entries []entry      // by descriptor
	watches atomic.Int32 // how many there are
}

// entry is a socket of a poller's.
type entry struct {
	handle func([]byte, netip.AddrPort) // nil: not ours
	inHand bool                         // of a reader: what it hears it hears in order, and from nobody else
}

// reader is a goroutine of a poller's, and what it has in hand.
type reader struct {
	stop, done chan struct{} // closed to end it, and at its end

	events [handful]syscall.EpollEvent
	hand   [handful]arrived
	slab   [handful * bufferSize]byte
}

// arrived is a datagram that was read and not handled yet.
type arrived struct {
	fd     int
	handle func([]byte, netip.AddrPort)
	b      []byte // nil: there was none
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

// watch begins to call handle with what arrives, on a reader's goroutine, one at a time.
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
		return s.move(&s.sockets.prompt)
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
	if !sa.set(to, !s.addr.Addr().Is4()) {
		return 0, syscall.EAFNOSUPPORT
	}
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
	if !to.IsValid() {
		sa.raw.Family, sa.size = syscall.AF_UNSPEC, syscall.SizeofSockaddrInet6 // connect(2)
	} else if !sa.set(to, !s.addr.Addr().Is4()) {
		return syscall.EAFNOSUPPORT
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
	p := &sockets{
		prompt:  poller{breath: breathPrompt, leisure: breathLeisure, rounds: roundsPrompt, most: min(runtime.GOMAXPROCS(0), readersMost), share: enough},
		patient: poller{breath: breathPatient, leisure: breathPatient, rounds: roundsPatient, most: 1, share: enough},
	}
	p.prompt.idle, p.patient.idle = sync.NewCond(&p.prompt.mu), sync.NewCond(&p.patient.mu)
	return p
}

// crowded says whether there is more to read promptly than is enough for one reader.
func (p *sockets) crowded() bool { return p.prompt.wanted(int(p.prompt.watches.Load())) > 1 }

// wanted is how many readers a number of sockets is to have.
func (p *poller) wanted(sockets int) int {
	return min(p.most, (sockets+p.share-1)/p.share)
}

// address is a sockaddr_in or sockaddr_in6, which is the larger.
type address struct {
	raw  syscall.RawSockaddrInet6
	size uint32
}

// set takes over an address; false: it is of another family than the socket, and whoever
// describes a session may name any.
func (a *address) set(ap netip.AddrPort, six bool) bool {
	if ap.Addr().Unmap().Is4() == six {
		return false
	}
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
	return true
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

// add watches a socket, and starts a reader if one is wanted for it.
func (p *poller) add(fd int, handle func([]byte, netip.AddrPort)) error {
	p.life.Lock()
	defer p.life.Unlock()
	if len(p.readers) == 0 {
		epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("epoll_create1", err)
		}
		p.epfd = epfd
	}
	err := p.heed(fd, handle)
	p.suit()
	return err
}

func (p *poller) heed(fd int, handle func([]byte, netip.AddrPort)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.entries) <= fd {
		p.entries = append(p.entries, entry{})
	}
	p.entries[fd].handle = handle
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	if err := syscall.EpollCtl(p.epfd, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		p.entries[fd].handle = nil
		return os.NewSyscallError("epoll_ctl", err)
	}
	p.watches.Add(1)
	return nil
}

// remove ends the watching of a socket, and the readers that nobody needs any more: handle
// is not running when it returns. A socket that does not stay open afterwards leaves the
// kernel's list by itself.
func (p *poller) remove(fd int, stays bool) {
	p.life.Lock()
	defer p.life.Unlock()
	p.mu.Lock()
	p.entries[fd].handle = nil
	for p.entries[fd].inHand {
		p.idle.Wait()
	}
	p.watches.Add(-1)
	if stays {
		syscall.EpollCtl(p.epfd, syscall.EPOLL_CTL_DEL, fd, nil)
	}
	p.mu.Unlock()
	p.suit()
}

// suit starts or ends readers, so that there are as many as are wanted; those that came for
// a crowd stay until half of it has gone. The caller holds p.life.
func (p *poller) suit() {
	n := int(p.watches.Load())
	for len(p.readers) < p.wanted(n) {
		r := &reader{stop: make(chan struct{}), done: make(chan struct{})}
		p.readers = append(p.readers, r)
		go p.read(r, p.epfd)
	}
	for len(p.readers) > p.wanted(2*n) {
		last := len(p.readers) - 1
		close(p.readers[last].stop)
		<-p.readers[last].done
		p.readers = p.readers[:last]
	}
	if len(p.readers) == 0 {
		syscall.Close(p.epfd)
	}
}

// read reads what has arrived, in rounds. It never blocks in the kernel: a thread
// that does so costs the scheduler more than looking each time.
func (p *poller) read(r *reader, epfd int) {
	defer close(r.done)
	pace := p.breath
	breath := time.NewTicker(pace)
	defer breath.Stop()
	found, breaths := 0, 0
	for {
		select {
		case <-r.stop:
			return
		case <-breath.C:
		}
		punctual()
		for range p.rounds {
			n := p.round(r, epfd)
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

// round reads a datagram of each socket that has some, or two of the last few, and returns
// how many these were. To read once more in vain, to see that there is no second, would cost as
// much as a datagram: the next round sees that for all sockets at once.
func (p *poller) round(r *reader, epfd int) (found int) {
	for range 1 + int(p.watches.Load())/handful {
		n, errno := ready(epfd, r.events[:]) // in turns, where it is more than a handful: epoll(7)
		if errno != 0 {                      // EINTR, a signal; nothing else can happen to a descriptor of ours
			return found
		}
		found += p.take(r, n)
		if n < handful {
			break
		}
	}
	return found
}

// take reads and handles a datagram of each of the first n sockets that the kernel has named,
// unless another reader has it in hand; it returns of how many. All are read before they are handled: so
// the processor's caches hold the kernel's code for reading, and then that for sending,
// for a fiftieth less.
func (p *poller) take(r *reader, n int) (found int) {
	mine := 0
	p.mu.Lock()
	for _, e := range r.events[:n] {
		w := &p.entries[e.Fd]
		if w.handle == nil || w.inHand { // nil: removed since the kernel named it
			continue
		}
		w.inHand = true
		r.hand[mine] = arrived{fd: int(e.Fd), handle: w.handle}
		mine++
	}
	p.mu.Unlock()
	hand := r.hand[:mine]
	for i := range hand {
		b := r.slab[i*bufferSize:][:maxPacket+1]
		if n, from, err := receive(hand[i].fd, b); err == nil { // else another was first, or an ICMP error, which reading has cleared
			hand[i].b, hand[i].from = b[:n], from
			found++
		}
	}
	for _, a := range hand {
		if a.b != nil {
			a.handle(a.b, a.from)
		}
	}
	p.mu.Lock()
	for _, a := range hand {
		p.entries[a.fd].inHand = false
	}
	p.mu.Unlock()
	p.idle.Broadcast()
	return found
}
