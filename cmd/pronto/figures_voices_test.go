//go:build figures

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	voiceSockets = 4
	voicePhases  = 20 // of a millisecond each
	voiceSize    = 12 + audio.FrameBytes
	voiceMark    = "pronto-figures:" // in the sound: what is ours, and no prompt or music
	voiceLook    = time.Millisecond  // how often is looked for what has come
	voiceNice    = 10                // of the threads that speak and hear
	voiceRest    = 2 * time.Second   // until the last has come, or no more comes
	voiceRests   = 5
	voiceLate    = 2 * time.Millisecond // of a turn, after which those that follow are put off as well
	voiceBatch   = 16                   // packets that go, or are looked for, at once: their telephones are no part of what is measured
	voiceBuffer  = 256                  // of a packet that has come; a longer one is none of ours
	voiceControl = 64                   // of what the kernel says with it
	momentTime   = 20 * time.Millisecond
	momentStep   = 100 * time.Microsecond
	momentSteps  = 1000
	momentsAfter = 5 // moments that a theft disturbs, its own among them: a queue of 40 ms was seen to take 80 to be gone
	delayStep    = 10 * time.Microsecond
	delaySteps   = 100_000 // up to a second
)

// voices are the sound of many telephones: each sends a packet every 20 ms, as
// telephones do, and what comes back of them says when it left; the kernel says when
// it came. Their sockets are
// looked at every millisecond and wake nobody: a network card does not make
// the sender of a packet pay for the waking of who receives it, and on loopback
// that would be the server.
type voices struct {
	t       testing.TB
	sockets []*voiceSocket
	began   time.Time
	running atomic.Bool // what is sent now is measured
	sent    atomic.Int64
	putOff  atomic.Int64 // nanoseconds of what is measured in which nobody spoke who should have

	mu     sync.Mutex // guards what follows
	phases [voicePhases][]*voice
	spoken int // how many have begun to speak: each has its own moment within the 20 ms
	next   int // socket

	heardMu sync.Mutex // guards what follows
	heard   [ways]delays
	moments []moment // of byDesk, since from
	from    time.Time
}

// way is by whom a voice's packets come back.
type way byte

const (
	byDesk   way = iota
	byNobody     // from socket to socket: how long the telephones themselves let a packet wait
	byRelay      // a process that does nothing else: how long anybody's packet waits for a processor here
	ways
)

// delays are how many packets took how long, in steps.
type delays struct {
	n     int
	steps [delaySteps]int
}

// moment is a short time: how many packets that were sent in it took how long, and what
// the host had taken of all processors at its end since the first.
type moment struct {
	n      int
	steps  [momentSteps]uint16
	stolen time.Duration
}

// undisturbed are the packets of moments in which, and shortly before which, the host took
// nothing: what it takes of a machine that is two thirds busy makes a queue, and not only of
// those packets that come meanwhile.
func undisturbed(moments []moment) (share float64, p99 time.Duration) {
	var all, quiet int
	var steps [momentSteps]int
	for i, m := range moments {
		all += m.n
		if before := moments[max(0, i-momentsAfter)]; m.stolen != before.stolen || i < momentsAfter {
			continue
		}
		quiet += m.n
		for step, n := range m.steps {
			steps[step] += int(n)
		}
	}
	if quiet == 0 {
		return 0, 0
	}
	left := quiet * 99 / 100
	for step, n := range steps {
		if left -= n; left < 0 {
			return float64(quiet) / float64(all), time.Duration(step) * momentStep
		}
	}
	return float64(quiet) / float64(all), momentSteps * momentStep
}

// voice is one of them.
type voice struct {
	from *voiceSocket
	to   syscall.RawSockaddrInet4
	seq  uint16
	pkt  [voiceSize]byte

	way way // for the desk to relay, unless said otherwise
}

// voiceSocket is one that the runtime does not watch.
type voiceSocket struct {
	fd   int
	addr *net.UDPAddr

	out batch  // what is about to go; of run, with mu
	in  batch  // what has come; of hear
	own []byte // where in keeps it
}

// batch is some packets that one system call moves.
type batch struct {
	n    int
	msgs [voiceBatch]message
	iovs [voiceBatch]syscall.Iovec
}

// message is a struct mmsghdr (sendmmsg(2)) where a pointer has 64 bits.
type message struct {
	syscall.Msghdr
	length uint32
	_      uint32
}

// The numbers of what package syscall does not know.
var (
	sysSendmmsg = map[string]uintptr{"amd64": 307, "arm64": 269}[runtime.GOARCH]
	sysRecvmmsg = map[string]uintptr{"amd64": 299, "arm64": 243}[runtime.GOARCH]
)

// add lets a packet go with the next ones.
func (v *voiceSocket) add(one *voice) {
	o := &v.out
	o.iovs[o.n] = syscall.Iovec{Base: &one.pkt[0], Len: voiceSize}
	o.msgs[o.n].Msghdr = syscall.Msghdr{Name: (*byte)(unsafe.Pointer(&one.to)), Namelen: syscall.SizeofSockaddrInet4, Iov: &o.iovs[o.n], Iovlen: 1}
	if o.n++; o.n == voiceBatch {
		v.flush()
	}
}

// flush sends what was added; what is refused is lost.
func (v *voiceSocket) flush() {
	o := &v.out
	for at := 0; at < o.n; {
		n, _, errno := syscall.Syscall6(sysSendmmsg, uintptr(v.fd), uintptr(unsafe.Pointer(&o.msgs[at])), uintptr(o.n-at), syscall.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			n = 1 // the first is refused
		}
		at += int(n)
	}
	o.n = 0
}

// receive reads packets that are there; none: there are no more.
func (v *voiceSocket) receive() []message {
	const each = voiceBuffer + voiceControl
	if v.own == nil {
		v.own = make([]byte, voiceBatch*each)
	}
	for i := range v.in.msgs {
		b := v.own[i*each:]
		v.in.iovs[i] = syscall.Iovec{Base: &b[0], Len: voiceBuffer}
		v.in.msgs[i].Msghdr = syscall.Msghdr{Iov: &v.in.iovs[i], Iovlen: 1, Control: &b[voiceBuffer], Controllen: voiceControl}
	}
	n, _, errno := syscall.Syscall6(sysRecvmmsg, uintptr(v.fd), uintptr(unsafe.Pointer(&v.in.msgs)), voiceBatch, syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return nil
	}
	return v.in.msgs[:n]
}

// packet is what has come, and when: the kernel says so (SO_TIMESTAMPNS, a struct
// timespec), which has it long before we look.
func (m *message) packet() (b []byte, at time.Time, ok bool) {
	control := unsafe.Slice(m.Control, m.Controllen)
	if len(control) < syscall.CmsgLen(16) {
		return nil, time.Time{}, false
	}
	stamp := control[syscall.CmsgLen(0):]
	return unsafe.Slice(m.Iov.Base, m.length), time.Unix(int64(binary.NativeEndian.Uint64(stamp)), int64(binary.NativeEndian.Uint64(stamp[8:]))), true
}

func (v *voiceSocket) LocalAddr() net.Addr { return v.addr }
func (v *voiceSocket) Close() error        { return syscall.Close(v.fd) }
func (v *voiceSocket) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	return len(b), syscall.Sendto(v.fd, b, syscall.MSG_DONTWAIT, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
}

func newVoices(t testing.TB) *voices {
	t.Helper()
	v := &voices{t: t, began: time.Now()}
	for range voiceSockets {
		conn := roomySocket(t)
		file, err := conn.File() // another descriptor of it
		if err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Dup(int(file.Fd()))
		if err == nil {
			err = syscall.SetNonblock(fd, true)
		}
		if err == nil {
			err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
		}
		if err = errors.Join(err, file.Close(), conn.Close()); err != nil {
			t.Fatal(err)
		}
		v.sockets = append(v.sockets, &voiceSocket{fd: fd, addr: conn.LocalAddr().(*net.UDPAddr)})
	}
	v.control(byNobody, 1, func(from *voiceSocket) *net.UDPAddr { return from.addr })
	stop := make(chan struct{})
	var parts sync.WaitGroup
	parts.Go(func() { v.run(stop) })
	parts.Go(func() { v.hear(stop) })
	t.Cleanup(func() {
		close(stop)
		parts.Wait()
		for _, s := range v.sockets {
			s.Close()
		}
	})
	return v
}

// control adds voices that do not speak to the desk, one in every so many milliseconds of a frame.
func (v *voices) control(by way, every int, to func(from *voiceSocket) *net.UDPAddr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for phase := 0; phase < voicePhases; phase += every {
		from := v.sockets[phase%len(v.sockets)]
		one := newVoice(from, to(from).AddrPort(), phase)
		one.way = by
		v.phases[phase] = append(v.phases[phase], one)
	}
}

// relayed adds voices whose packets a plain relay sends back to them, a process of its own
// until the test's end: what they wait is the least that any program's packets wait on this
// machine at the same time.
func (v *voices) relayed() {
	v.t.Helper()
	conn := roomySocket(v.t)
	defer conn.Close()
	file, err := conn.File()
	if err != nil {
		v.t.Fatal(err)
	}
	defer file.Close()
	relay := exec.Command(os.Args[0])
	relay.Env = append(os.Environ(), relayEnv+"=1")
	relay.ExtraFiles = []*os.File{file}
	if err := relay.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() {
		_ = relay.Process.Kill()
		_ = relay.Wait() // it was killed
	})
	v.control(byRelay, 5, func(*voiceSocket) *net.UDPAddr { return conn.LocalAddr().(*net.UDPAddr) })
}

const (
	relayEnv    = "PRONTO_FIGURES_RELAY" // set: this process is the plain relay
	relaySocket = 3                      // the first that a process inherits beside the usual three
)

func init() {
	if os.Getenv(relayEnv) != "" {
		os.Exit(plainRelay(relaySocket))
	}
}

// plainRelay sends back what comes until it is killed.
func plainRelay(fd int) (code int) {
	if err := syscall.SetNonblock(fd, false); err != nil {
		return 1
	}
	buf := make([]byte, relayBytes+1)
	for {
		n, from, err := syscall.Recvfrom(fd, buf, 0)
		if err == nil {
			err = syscall.Sendto(fd, buf[:n], 0, from)
		}
		if err != nil && err != syscall.EINTR {
			return 1
		}
	}
}

// roomySocket keeps what arrives while its reader waits for a processor.
func roomySocket(t testing.TB) *net.UDPConn {
	t.Helper()
	const room = 8 << 20
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var refused error
		err = raw.Control(func(fd uintptr) {
			refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, room)
		})
		err = errors.Join(err, refused)
	}
	if errors.Is(err, os.ErrPermission) { // not root: what the system grants
		err = conn.SetReadBuffer(room)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// socket is the one that the next telephone has.
func (v *voices) socket() rtpSocket {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next++
	return v.sockets[v.next%len(v.sockets)]
}

// speak begins to send to an address from a socket of the next telephone.
func (v *voices) speak(to netip.AddrPort) (rtpSocket, func()) {
	from := v.socket()
	return from, v.speakFrom(from, to)
}

// speakFrom begins to send to an address from one of our sockets, until stop.
func (v *voices) speakFrom(from rtpSocket, to netip.AddrPort) (stop func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.spoken++
	phase := v.spoken % voicePhases
	one := newVoice(from.(*voiceSocket), to, v.spoken)
	v.phases[phase] = append(v.phases[phase], one)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.phases[phase] = slices.DeleteFunc(v.phases[phase], func(other *voice) bool { return other == one })
	}
}

func newVoice(from *voiceSocket, to netip.AddrPort, ssrc int) *voice {
	one := &voice{from: from, to: syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: to.Addr().Unmap().As4()}}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&one.to.Port))[:], to.Port())
	one.pkt[0], one.pkt[1] = 0x80, 8 // RTP, PCMA
	binary.BigEndian.PutUint32(one.pkt[8:], uint32(ssrc))
	copy(one.pkt[12+16:], voiceMark)
	return one
}

// stepBack lets the desk go first on the processors that callers and desk share
// here: those who call a desk do not take its processor from it. It is for a
// goroutine that keeps its thread to its end.
func stepBack() error {
	runtime.LockOSThread() // setpriority(2) is of a thread on Linux
	return os.NewSyscallError("setpriority", syscall.Setpriority(syscall.PRIO_PROCESS, 0, voiceNice))
}

// run sends what is due. When the threads of the voices were kept from a processor, all go
// on at their pace from then on: telephones in the field are not one program, and do not
// say at once what all of them could not say meanwhile.
func (v *voices) run(stop <-chan struct{}) {
	if err := stepBack(); err != nil {
		v.t.Error(err)
		return
	}
	next := time.NewTimer(0)
	defer next.Stop()
	due := v.began
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-next.C:
		}
		if late := time.Since(due); late > voiceLate {
			due = due.Add(late)
			if v.running.Load() {
				v.putOff.Add(int64(late))
			}
		}
		v.turn(n)
		due = due.Add(audio.FrameTime / voicePhases)
		next.Reset(time.Until(due))
	}
}

func (v *voices) turn(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	running := v.running.Load()
	for _, one := range v.phases[n%voicePhases] {
		one.seq++
		binary.BigEndian.PutUint16(one.pkt[2:], one.seq)
		binary.BigEndian.PutUint32(one.pkt[4:], uint32(one.seq)*audio.FrameBytes)
		binary.BigEndian.PutUint64(one.pkt[12:], uint64(time.Now().UnixNano()))
		one.pkt[12+8] = 0
		if running {
			one.pkt[12+8] = 1 + byte(one.way)
		}
		if running && one.way == byDesk {
			v.sent.Add(1)
		}
		one.from.add(one)
	}
	for _, from := range v.sockets {
		from.flush()
	}
}

// hear looks for what has come, until stop.
func (v *voices) hear(stop <-chan struct{}) {
	if err := stepBack(); err != nil {
		v.t.Error(err)
		return
	}
	look := time.NewTicker(voiceLook)
	defer look.Stop()
	for {
		select {
		case <-stop:
			return
		case <-look.C:
		}
		for _, s := range v.sockets {
			for more := true; more; {
				came := s.receive()
				for i := range came {
					if pkt, at, ok := came[i].packet(); ok {
						v.count(pkt, at)
					}
				}
				more = len(came) == voiceBatch
			}
		}
	}
}

// count takes note of a packet if it is one of ours.
func (v *voices) count(pkt []byte, at time.Time) {
	if len(pkt) != voiceSize || pkt[12+8] == 0 || pkt[12+8] > byte(ways) || !bytes.HasPrefix(pkt[12+16:], []byte(voiceMark)) {
		return
	}
	step := time.Duration(at.UnixNano()-int64(binary.BigEndian.Uint64(pkt[12:]))) / delayStep
	v.heardMu.Lock()
	defer v.heardMu.Unlock()
	d := &v.heard[pkt[12+8]-1]
	if i := int(at.Add(-step*delayStep).Sub(v.from) / momentTime); pkt[12+8] == 1+byte(byDesk) && i >= 0 && i < len(v.moments) {
		v.moments[i].n++
		v.moments[i].steps[min(max(step*delayStep/momentStep, 0), momentSteps-1)]++
	}
	d.n++
	d.steps[min(max(step, 0), delaySteps-1)]++
}

// measure begins or ends a stretch of which every packet counts.
func (v *voices) measure(on bool) { v.running.Store(on) }

// watch measures for a while, and what the host takes meanwhile.
func (v *voices) watch(length time.Duration) {
	v.heardMu.Lock()
	v.moments, v.from = make([]moment, length/momentTime), time.Now()
	v.heardMu.Unlock()
	v.measure(true)
	defer v.measure(false)
	before := stolen(v.t)
	for i := range v.moments {
		<-time.After(time.Until(v.from.Add(time.Duration(i+1) * momentTime)))
		v.moments[i].stolen = stolen(v.t) - before // count leaves it alone
	}
}

// measured is how many packets were sent in it, and what came of them: the last may
// be on their way, or lie in our sockets.
func (v *voices) measured() (sent, heard int, delay string) {
	for range voiceRests {
		rest(voiceRest)
		sent = int(v.sent.Load())
		v.heardMu.Lock()
		before := heard
		heard = v.heard[byDesk].n
		v.heardMu.Unlock()
		if heard == sent || heard == before {
			break
		}
	}
	v.heardMu.Lock()
	defer v.heardMu.Unlock()
	delay = fmt.Sprintf("%s (from telephone to telephone: %s; by a plain relay: %s)", &v.heard[byDesk], &v.heard[byNobody], &v.heard[byRelay])
	delay += fmt.Sprintf("; the telephones could not speak for %s", rounded(time.Duration(v.putOff.Load())))
	if n := v.overflown(); n > 0 {
		delay += fmt.Sprintf("; %d packets, at any time, by full sockets of the telephones", n)
	}
	return sent, heard, delay
}

// overflown is how many packets our sockets had no room for (SO_MEMINFO, the last of
// nine numbers): lost by the telephones, which stand behind the desk here, and not by it.
func (v *voices) overflown() (n int) {
	const soMemInfo, drops = 55, 8
	for _, s := range v.sockets {
		var info [9]uint32
		size := uint32(unsafe.Sizeof(info))
		if _, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(s.fd), syscall.SOL_SOCKET, soMemInfo, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); errno == 0 {
			n += int(info[drops])
		}
	}
	return n
}

func (d *delays) String() string {
	at := func(share float64) time.Duration {
		left := int(share * float64(d.n))
		for step, n := range d.steps {
			if left -= n; left < 0 {
				return time.Duration(step) * delayStep
			}
		}
		return delaySteps * delayStep
	}
	return fmt.Sprintf("median %s, p99 %s, p99.9 %s", rounded(at(.5)), rounded(at(.99)), rounded(at(.999)))
}
