package sip

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// The edge stands between the sockets and sipgo. Everything that arrives is
// looked at here, in the order in which it arrived: what is malformed, forbidden,
// of no known dialog or a plain question is answered without a transaction and
// goes no further, so a stranger leaves no trace in sipgo's tables (TELEPHONY
// P6); CANCEL, BYE and the ACK of a 2xx are acted on here, so none can be overtaken
// inside the process (P8, P10). What remains goes on to sipgo's transactions.

const (
	readPause       = 10 * time.Millisecond // after a read error that is not the end
	readErrors      = 100                   // in a row, then the socket is given up
	partialLongest  = 10 * time.Second      // a message over TCP must be whole by then, whatever has come of it
	handshake       = 5 * time.Second       // of TLS, for who connects to us
	strangerLongest = 60 * time.Second      // a TCP connection has to show who it is by then, whatever it says
	idleKnown       = 2 * time.Hour         // of a trunk's or a telephone's: longer than a registration
	maxConns        = 1024                  // TCP connections in all
	maxStrangers    = 256                   // of those that have not shown who they are; one more ends the oldest
	maxConnsSource  = 16                    // of those of one source
	writeLongest    = 5 * time.Second       // a peer that does not read is gone
	waitingKnown    = 4 << 20               // octets to one peer who does not read them: what a carrier gets in those five seconds, at 400 calls a second
	waitingStranger = 64 << 10              // octets to one who has not shown who it is
	waitingKept     = 64 << 10              // octets: a larger buffer is given up when it is empty
	partingLongest  = time.Second           // for what is left to say to a peer when its connection ends
	cancelsKept     = 5 * time.Second       // a CANCEL that overtook its INVITE on the way
	maxCancels      = 1024
	unclaimedKept   = 30 * time.Second // an INVITE that sipgo never gave us
	unclaimedSweep  = time.Second      // such are looked for this often: not among a thousand calls with each new one
	tcpFrame        = 64 << 10         // header and body of one message over TCP
	keepAliveLength = 4                // RFC 5626 §3.5.1: a ping is two CRLF
)

// flow is a way to a peer: over which socket, from where to where.
type flow struct {
	tcp    bool        // a connection
	tls    bool        // a secret one
	whom   *tls.Config // whom we connect to by TLS; nil: only they connect to us
	local  netip.AddrPort
	remote netip.AddrPort
	write  func([]byte) error
}

// network is the transport as Via names it (RFC 3261 §20.42).
func (f flow) network() string {
	switch {
	case f.tls:
		return "TLS"
	case f.tcp:
		return "TCP"
	}
	return "UDP"
}

// to is the same socket towards another address.
func (f flow) to(a *Agent, remote netip.AddrPort) flow {
	if f.remote == remote {
		return f
	}
	if f.tcp {
		f.remote = remote
		return a.streamFlow(f)
	}
	return a.udpFlow(f.local, remote)
}

// packetEdge is a UDP socket as sipgo sees it.
type packetEdge struct {
	net.PacketConn
	a     *Agent
	local netip.AddrPort
	once  sync.Once
}

// ReadFrom gives the next datagram that is worth a transaction.
func (p *packetEdge) ReadFrom(b []byte) (int, net.Addr, error) {
	p.once.Do(p.a.reading.Done) // sipgo has the socket in its pool now
	failed := 0
	for {
		n, from, err := p.PacketConn.ReadFrom(b)
		if err != nil {
			if p.a.stopping() || errors.Is(err, net.ErrClosed) || failed == readErrors {
				return 0, nil, net.ErrClosed // sipgo ends its loop on any error
			}
			failed++
			pause(p.a.ctx, readPause)
			continue
		}
		failed = 0
		remote := addrPort(from)
		if n > 0 && p.a.inspect(p.a.udpFlow(p.local, remote), b[:n]) {
			return n, from, nil
		}
	}
}

// WriteTo is the way out, sipgo's and ours.
func (p *packetEdge) WriteTo(b []byte, to net.Addr) (int, error) {
	p.a.ladders.sent(b)
	return p.PacketConn.WriteTo(b, to)
}

// streamListener hands accepted connections to sipgo, and those we dialled.
type streamListener struct {
	net.Listener
	a     *Agent
	local netip.AddrPort
	tls   *tls.Config // nil: in clear
}

type outbound struct {
	conn  net.Conn
	taken chan struct{} // closed when sipgo knows the connection
}

// Addr is where the listener listens.
func (l *streamListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.local) }

// Accept gives the next connection within the limits.
func (l *streamListener) Accept() (net.Conn, error) {
	failed := 0
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if l.a.stopping() || errors.Is(err, net.ErrClosed) || failed == readErrors {
				return nil, net.ErrClosed
			}
			failed++ // too many open files, most likely
			pause(l.a.ctx, readPause)
			continue
		}
		failed = 0
		if l.tls != nil {
			conn = tls.Server(conn, l.tls) // it shakes hands when it is read, not here: a silent peer must not keep others out
		}
		if s, ok := l.a.admit(conn, flow{tcp: true, tls: l.tls != nil, local: l.local, remote: addrPort(conn.RemoteAddr())}); ok {
			return s, nil
		}
		_ = conn.Close()
	}
}

// dialledListener is the entrance for connections that we open.
type dialledListener struct {
	a     *Agent
	next  chan outbound
	taken chan struct{} // of the connection given last
}

func (l *dialledListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.a.local[0]) }
func (l *dialledListener) Close() error   { return nil }

// Accept waits for a dialled connection. When it is called again, sipgo has put
// the last one into its pool.
func (l *dialledListener) Accept() (net.Conn, error) {
	if l.taken != nil {
		close(l.taken)
		l.taken = nil
	}
	select {
	case d := <-l.next:
		l.taken = d.taken
		return d.conn, nil
	case <-l.a.stopped:
		return nil, net.ErrClosed
	}
}

// streamEdge is a TCP connection as sipgo sees it: each Read gives one whole
// message that is worth a transaction. What sipgo takes for TCP may be TLS: it
// knows nothing of certificates, and may not open connections (see New).
type streamEdge struct {
	net.Conn
	a     *Agent
	flow  flow
	since time.Time
	known atomic.Bool // a trunk, or a telephone that signed in

	// The reader's.
	buf      []byte
	began    time.Time // when the message that is not whole yet did; zero: there is none
	searched int       // octets of buf that hold no end of its headers
	need     int       // octets of the message, once its headers are known

	outMu sync.Mutex    // guards out
	out   []byte        // to be written; who writes waits for no peer
	more  chan struct{} // there is something
	done  chan struct{} // closed by Close
	once  sync.Once
}

// admit takes a connection in, or not. Strangers never take the places of those who
// have shown who they are, and of one another those of who has had time enough.
func (a *Agent) admit(conn net.Conn, f flow) (*streamEdge, bool) {
	s := &streamEdge{Conn: conn, a: a, flow: f, since: time.Now(), more: make(chan struct{}, 1), done: make(chan struct{})}
	s.flow.write = s.send
	source := sourceOf(s.flow.remote.Addr())
	_, trusted := a.trunkOf(s.flow.remote.Addr())
	s.known.Store(trusted || f.whom != nil)
	a.mu.Lock()
	if a.closing || len(a.conns) >= maxConns {
		a.mu.Unlock()
		return nil, false
	}
	if other := a.conns[f.remote]; other != nil && !other.serves(f) {
		a.mu.Unlock()
		return nil, false // behind a NAT two can look like one: a secret way must not become a clear one
	}
	var oldest *streamEdge
	if !s.known.Load() {
		all, same := 0, 0
		for _, other := range a.conns {
			if other.known.Load() {
				continue
			}
			all++
			if sourceOf(other.flow.remote.Addr()) == source {
				same++
			}
			if oldest == nil || other.since.Before(oldest.since) {
				oldest = other
			}
		}
		if same >= maxConnsSource {
			a.mu.Unlock()
			return nil, false
		}
		if all < maxStrangers {
			oldest = nil
		}
	}
	a.conns[f.remote] = s
	a.writers.Add(1)
	a.mu.Unlock()
	go s.write()
	if oldest != nil {
		_ = oldest.Close()
	}
	return s, true
}

// proven says that the far side has shown who it is.
func (s *streamEdge) proven() { s.known.Store(true) }

// serves tells whether the connection is what a flow wants: TLS, and with the
// one whom we would connect to (RFC 5923 §8.2: who connected to us has shown no
// certificate).
func (s *streamEdge) serves(f flow) bool {
	return s.flow.tls == f.tls && (f.whom == nil || s.flow.whom != nil)
}

// Close forgets the connection and has it closed, as soon as what it was to be told
// is said.
func (s *streamEdge) Close() error {
	s.once.Do(func() {
		s.a.mu.Lock()
		if s.a.conns[s.flow.remote] == s {
			delete(s.a.conns, s.flow.remote)
		}
		s.a.mu.Unlock()
		close(s.done)
		_ = s.Conn.SetDeadline(time.Now().Add(partingLongest)) // of a write that hangs
		_ = s.Conn.SetReadDeadline(time.Now())
	})
	return nil
}

// write writes what is to be written until the connection ends, and closes it. What
// came while it wrote goes in one piece.
func (s *streamEdge) write() {
	defer s.a.writers.Done()
	defer s.Conn.Close()
	var written []byte
	for {
		ended := false
		select {
		case <-s.more:
			ended = isDone(s.done)
		case <-s.done:
			ended = true
		}
		if !ended {
			_ = s.Conn.SetWriteDeadline(time.Now().Add(writeLongest))
		} else {
			_ = s.Conn.SetWriteDeadline(time.Now().Add(partingLongest)) // for what is left
		}
		written = s.waiting(written)
		if len(written) > 0 {
			if _, err := s.Conn.Write(written); err != nil {
				_ = s.Close() // half a message may be under way: nothing can follow it
				return
			}
		}
		if ended {
			return
		}
	}
}

// waiting takes what is to be written, and leaves a buffer for what comes next.
func (s *streamEdge) waiting(spare []byte) []byte {
	if cap(spare) > waitingKept {
		spare = nil
	}
	s.outMu.Lock()
	defer s.outMu.Unlock()
	b := s.out
	s.out = spare[:0]
	return b
}

// Write is sipgo's way out. It never waits: a peer that does not read keeps nobody
// who talks to others, and is gone when too much waits for it.
func (s *streamEdge) Write(b []byte) (int, error) {
	s.a.ladders.sent(b)
	if isDone(s.done) {
		return 0, net.ErrClosed
	}
	most := waitingStranger
	if s.known.Load() {
		most = waitingKnown
	}
	s.outMu.Lock()
	room := len(s.out)+len(b) <= most
	if room {
		s.out = append(s.out, b...)
	}
	s.outMu.Unlock()
	if !room {
		_ = s.Close()
		return 0, net.ErrClosed
	}
	select {
	case s.more <- struct{}{}:
	default: // it knows
	}
	return len(b), nil
}

func (s *streamEdge) send(b []byte) error {
	_, err := s.Write(b)
	return err
}

// Read gives one message. A fault in the framing ends the connection: there is
// nothing to find the next message by.
func (s *streamEdge) Read(b []byte) (int, error) {
	if err := s.shakeHands(); err != nil {
		s.a.grumble("a TLS connection failed", s.flow.remote, err.Error())
		return 0, net.ErrClosed
	}
	chunk := make([]byte, 4096)
	for {
		frame, err := s.frame()
		if err != nil {
			return 0, net.ErrClosed
		}
		if frame != nil {
			if s.a.inspect(s.flow, frame) { // what is too long for b has gone no further
				return copy(b, frame), nil
			}
			continue
		}
		_ = s.Conn.SetReadDeadline(s.deadline(time.Now()))
		if isDone(s.done) {
			return 0, net.ErrClosed
		}
		n, err := s.Conn.Read(chunk)
		s.buf = append(s.buf, chunk[:n]...)
		if err != nil && n == 0 {
			return 0, net.ErrClosed // quietly, whatever it was
		}
	}
}

// deadline is until when more has to come. Neither a stranger's nor that of a message
// moves with what comes meanwhile: an octet now and then would keep it for ever.
func (s *streamEdge) deadline(now time.Time) time.Time {
	at := now.Add(idleKnown)
	if !s.known.Load() {
		at = s.since.Add(strangerLongest)
	}
	switch {
	case len(bytes.TrimLeft(s.buf, "\r\n")) == 0:
		s.began = time.Time{}
		return at
	case s.began.IsZero():
		s.began = now
	}
	if whole := s.began.Add(partialLongest); whole.Before(at) {
		at = whole
	}
	return at
}

// shakeHands makes the connection secret, if it is to be and is not yet.
func (s *streamEdge) shakeHands() error {
	c, ok := s.Conn.(*tls.Conn)
	if !ok || c.ConnectionState().HandshakeComplete {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.a.ctx, handshake)
	defer cancel()
	return c.HandshakeContext(ctx)
}

var errFraming = errors.New("no message boundary")

// frame takes one message off the buffer; nil when it is not whole yet.
func (s *streamEdge) frame() ([]byte, error) {
	for bytes.HasPrefix(s.buf, []byte("\r\n")) { // RFC 3261 §7.5: ignored before the start line
		if bytes.HasPrefix(s.buf, []byte("\r\n\r\n")) { // RFC 5626 §3.5.1: a ping
			s.buf = s.buf[keepAliveLength:]
			if !s.known.Load() && !s.a.limits.take(s.flow.remote.Addr(), time.Now()) {
				continue // a message like any other
			}
			if err := s.send([]byte("\r\n")); err != nil {
				return nil, err
			}
			continue
		}
		if len(s.buf) == 2 {
			return nil, nil // half a ping
		}
		s.buf = s.buf[2:]
	}
	if len(s.buf) < s.need {
		return nil, nil // its headers were read
	}
	const end = "\r\n\r\n"
	from := max(0, s.searched-len(end)) // whoever sends octet by octet makes us look at each but once
	head := bytes.Index(s.buf[from:], []byte(end))
	if head < 0 {
		if s.searched = len(s.buf); s.searched > tcpFrame {
			return nil, errFraming
		}
		return nil, nil
	}
	head += from
	m, ok := scan(s.buf[:head+len(end)])
	if !ok {
		return nil, errFraming
	}
	length := 0
	for _, h := range m.headers {
		if h.name != "content-length" {
			continue
		}
		n, err := strconv.ParseUint(h.value, 10, 31)
		switch {
		case err != nil, length > 0 && int(n) != length:
			s.a.reject(s.flow, m, bad("Content-Length")) // RFC 4475 §3.1.2.3, §3.3.9
			return nil, errFraming
		case n > tcpFrame:
			s.a.reject(s.flow, m, &fault{status: tooLarge, reason: reasonOf(tooLarge)})
			return nil, errFraming
		}
		length = int(n)
	}
	if s.need = head + len(end) + length; len(s.buf) < s.need {
		return nil, nil
	}
	frame := slices.Clone(s.buf[:s.need])
	s.buf = append(s.buf[:0], s.buf[s.need:]...)
	s.began, s.searched, s.need = time.Time{}, 0, 0
	return frame, nil
}

// invitation is an INVITE on its way to a goroutine, known from the moment it
// was read so that a CANCEL finds it.
type invitation struct {
	at       time.Time
	id       string // see requestID
	flow     flow
	trunk    string
	phone    string // a telephone of ours that talks; "": none
	node     bool   // another node's: a telephone of ours is to be rung
	claimed  bool
	canceled bool
	settled  bool   // answered with a 2xx: its transaction is over, and it is known until its call is forgotten
	onCancel func() // set by the call
}

// inspect decides about one message; true: it goes on to sipgo.
func (a *Agent) inspect(f flow, data []byte) (pass bool) {
	defer func() {
		if r := recover(); r != nil { // never the process (issue 2)
			a.grumble("a message broke the reader", f.remote, fmt.Sprint(r))
			pass = false
		}
	}()
	if a.deaf.Load() || len(bytes.Trim(data, "\r\n\x00 ")) == 0 {
		return false // keep-alive
	}
	large := len(data) > maxMessage
	if large {
		data = data[:maxHead] // what it is, and whose, is said there; nothing else of it is looked at
	}
	m, ok := scan(data)
	if !ok || large && !answerable(m) {
		a.grumble("garbage", f.remote, "")
		return false
	}
	if strings.HasPrefix(m.first, "SIP/") {
		return a.inspectResponse(f, m, data)
	}
	method, uri, status, ok := m.requestLine()
	if !ok {
		a.grumble("garbage", f.remote, "")
		return false
	}
	trunk, trusted := a.trunkOf(f.remote.Addr())
	call, past := a.meant(f, m)
	if !trusted && call == nil && past == nil && !a.isPeer(f.remote.Addr()) {
		if isScanner(m.get("user-agent")) || !a.limits.take(f.remote.Addr(), time.Now()) {
			return false // TELEPHONY trap 17: no answer at all
		}
	} else if !large {
		a.ladders.saw(m.get("call-id"), false, data)
	}
	if large { // after the limits of strangers; the answer is never longer than what came
		a.reject(f, m, &fault{status: tooLarge, reason: reasonOf(tooLarge)})
		return false
	}
	if status != 0 {
		a.reject(f, m, &fault{status: status, reason: reasonOf(status)})
		return false
	}
	if fault := validate(m, method, uri, f.tls, a.isOurs); fault != nil {
		a.reject(f, m, fault)
		return false
	}
	switch { // the call's own matters, of which nobody else need know: it is not parsed for sipgo
	case method == "ACK" && (call != nil && call.onAck(m) || past != nil && past.onAck(m)):
		return false
	case method == "BYE" && call != nil:
		a.later(func() { a.onBye(f, m, call) })
		return false
	case method == "BYE" && past != nil:
		a.onLateBye(f, m, past)
		return false
	}
	if msg, err := parse(a.parser, data); err != nil || !complete(msg) {
		a.reject(f, m, bad("unreadable"))
		return false
	}
	switch method {
	case "CANCEL":
		a.onCancel(f, m)
		return false
	case "ACK":
		return a.refused(f, m)
	case "INVITE":
		if tag(m.get("to")) == "" {
			return a.inspectInvite(f, m, uri, trunk, trusted, data)
		}
	case "REGISTER":
		a.inspectRegister(f, m)
		return false
	case "OPTIONS":
		if tag(m.get("to")) == "" {
			a.onQuestion(f, m)
			return false
		}
	}
	if call == nil {
		if method == "REFER" && tag(m.get("to")) == "" { // of no call at all
			a.grumble("a transfer of nobody's call was refused", f.remote, "")
			a.reply(f, m, sip.StatusForbidden, reasonOf(sip.StatusForbidden))
			return false
		}
		a.reply(f, m, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist") // trap 20
		return false
	}
	if method == "INVITE" {
		a.note(f, inviteKey(f, m), requestID(m), trunk, "", false) // its ACK, when it is refused, must find its way
	}
	return true
}

// onQuestion answers an OPTIONS outside of any call as an INVITE would be (RFC 3261
// §11.2): a carrier that asks sends its calls to where they are taken.
func (a *Agent) onQuestion(f flow, m *raw) {
	if a.stopping() || a.cfg.Closing != nil && a.cfg.Closing() {
		a.reply(f, m, sip.StatusServiceUnavailable, reasonOf(sip.StatusServiceUnavailable), "Retry-After: 30")
		return
	}
	a.reply(f, m, sip.StatusOK, "OK", "Allow: "+allow, "Accept: "+acceptBodies, "Supported: timer, "+reliably)
}

// answerable tells whether a message that was not read to its end is a request that an
// answer can be made of.
func answerable(m *raw) bool {
	if _, _, _, ok := m.requestLine(); !ok {
		return false
	}
	return !slices.ContainsFunc(needed, func(name string) bool { return m.get(name) == "" })
}

// complete tells whether the parser found what sipgo's transactions rely on.
func complete(msg sip.Message) bool {
	return msg.Via() != nil && msg.From() != nil && msg.To() != nil && msg.CallID() != nil && msg.CSeq() != nil
}

// inspectResponse lets through what answers us.
func (a *Agent) inspectResponse(f flow, m *raw, data []byte) bool {
	branch, _, _, _ := viaTop(m.get("via"))
	if !a.ourBranch(branch) {
		return false
	}
	a.ladders.saw(m.get("call-id"), false, data)
	msg, err := parse(a.parser, data)
	if err != nil || !complete(msg) {
		return false
	}
	res, ok := msg.(*sip.Response)
	if !ok || res.StatusCode < 100 || res.StatusCode > 699 {
		return false
	}
	if res.IsSuccess() && res.CSeq().MethodName == sip.INVITE {
		if c := a.dialog(m.get("call-id"), tag(m.get("from"))); c != nil && c.acknowledgeAgain(res) {
			return false // our ACK was lost
		}
	}
	return true
}

// refused tells whether an ACK is for an INVITE that we refuse, whose transaction waits
// for it.
func (a *Agent) refused(f flow, m *raw) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.invites[inviteKey(f, m)] != nil
}

// inspectInvite decides about the INVITE of a new call.
func (a *Agent) inspectInvite(f flow, m *raw, uri, trunk string, trusted bool, data []byte) bool {
	key := inviteKey(f, m)
	if a.isSettled(key) {
		return false // RFC 6026 §7.1: one that comes again after its 200, which the call itself repeats
	}
	node := m.count(strings.ToLower(nodeHeader)) > 0
	if node && !a.fromNode(f, m, uri, time.Now()) {
		a.grumble("a call that is no other node's was refused", f.remote, "")
		a.reply(f, m, sip.StatusForbidden, "Forbidden")
		return false
	}
	if n := m.count("replaces"); n > 0 { // RFC 3891 §3: nobody takes a call of ours over
		status := sip.StatusCallTransactionDoesNotExists
		id, params, _ := strings.Cut(m.get("replaces"), ";")
		if ours, _ := param(params, "to-tag"); n > 1 {
			status = sip.StatusBadRequest
		} else if a.dialog(strings.TrimSpace(id), ours) != nil && trusted {
			status = sip.StatusForbidden
		}
		a.grumble("a call that is to take another's place was refused", f.remote, "")
		a.reply(f, m, status, reasonOf(status))
		return false
	}
	phone := ""
	if !node {
		phone = a.talkingAt(f, m)
	}
	if phone != "" { // also where a trunk is: on this machine, behind one exchange with the lines
		trunk, trusted = "", false
		if !a.proves(f, m) {
			return false
		}
	}
	if !trusted && !node && phone == "" {
		a.grumble("a call from no trunk was refused", f.remote, "")
		a.reply(f, m, sip.StatusForbidden, "Forbidden")
		return false
	}
	if a.stopping() {
		a.reply(f, m, sip.StatusServiceUnavailable, "Service Unavailable", "Retry-After: 30")
		return false
	}
	if a.cfg.Handle == nil && !node && phone == "" {
		a.reply(f, m, sip.StatusNotFound, "Not Found")
		return false
	}
	if branch, _, _, _ := viaTop(m.get("via")); branch == "" && tag(m.get("from")) == "" {
		a.reject(f, m, bad("neither branch nor tag")) // no transaction can be made of it
		return false
	}
	id := requestID(m)
	if !node && (a.circled(m) || a.merged(key, id)) { // of nodes, relayed knows which are new
		a.grumble("a call that is here already was refused", f.remote, "")
		a.reply(f, m, sip.StatusLoopDetected, reasonOf(sip.StatusLoopDetected))
		return false
	}
	if phone == "" {
		a.trace(f, m, trunk, node, data)
	}
	a.note(f, key, id, trunk, phone, node)
	return true
}

// trace begins to keep what goes over the wire for a new call.
func (a *Agent) trace(f flow, m *raw, trunk string, node bool, data []byte) {
	callID := m.get("call-id")
	if a.ladders.of(callID) != nil {
		return // a retransmission, kept with all that comes
	}
	leg := Way{CallID: callID, End: EndCarrier, Name: trunk, Network: f.network(), Remote: f.remote.String()}
	if node {
		leg.End = EndNode
		leg.Name, _ = nodeAsks(m.get(strings.ToLower(nodeHeader)))
	}
	a.ladders.begin(leg)
	a.ladders.saw(callID, false, data)
}

// note remembers an INVITE by its branch, before sipgo makes a goroutine of it.
func (a *Agent) note(f flow, key, id, trunk, phone string, node bool) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.invites[key] != nil {
		return // a retransmission
	}
	inv := &invitation{at: now, id: id, flow: f, trunk: trunk, phone: phone, node: node}
	if at, ok := a.cancels[key]; ok && now.Sub(at) < cancelsKept {
		inv.canceled = true
		delete(a.cancels, key)
	}
	if now.Sub(a.swept).Abs() >= unclaimedSweep {
		a.swept = now
		for k, other := range a.invites {
			if !other.claimed && now.Sub(other.at) > unclaimedKept {
				a.drop(k)
			}
		}
	}
	a.invites[key] = inv
	if inv.id != "" {
		a.requests[inv.id] = key
	}
}

// claim gives the call its invitation; onCancel will be called once, at once
// when the CANCEL came before. The result is false when the INVITE is unknown.
func (a *Agent) claim(key string, onCancel func()) (*invitation, bool) {
	a.mu.Lock()
	inv := a.invites[key]
	if inv == nil {
		a.mu.Unlock()
		return nil, false
	}
	inv.claimed = true
	inv.onCancel = onCancel
	canceled := inv.canceled
	a.mu.Unlock()
	if canceled && onCancel != nil {
		onCancel()
	}
	return inv, true
}

// saysPhone is the telephone of ours that an INVITE says to be of; "": of none.
func (a *Agent) saysPhone(key string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if inv := a.invites[key]; inv != nil {
		return inv.phone
	}
	return ""
}

// answered is what a 2xx means for an INVITE: nobody can cancel it any more, and if it comes
// again it is to be let fall.
func (a *Agent) answered(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if inv := a.invites[key]; inv != nil {
		inv.settled, inv.onCancel = true, nil
	}
}

func (a *Agent) isSettled(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	inv := a.invites[key]
	return inv != nil && inv.settled
}

// unclaim forgets an INVITE whose transaction is over, unless it was answered: then it goes
// with its call.
func (a *Agent) unclaim(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if inv := a.invites[key]; inv != nil && !inv.settled {
		a.drop(key)
	}
}

// onCancel answers a CANCEL (RFC 3261 §9.2) and tells the call. One that
// overtook its INVITE is kept for a while (TELEPHONY P8, trap 2).
func (a *Agent) onCancel(f flow, m *raw) {
	key, now := inviteKey(f, m), time.Now()
	a.mu.Lock()
	inv := a.invites[key]
	var tell func()
	switch {
	case inv != nil && !inv.canceled:
		inv.canceled = true
		tell = inv.onCancel
	case inv == nil:
		for k, at := range a.cancels {
			if now.Sub(at) > cancelsKept {
				delete(a.cancels, k)
			}
		}
		if _, trusted := a.trunkOf(f.remote.Addr()); (trusted || a.isPeer(f.remote.Addr())) && len(a.cancels) < maxCancels {
			a.cancels[key] = now
		}
	}
	a.mu.Unlock()
	if inv == nil {
		a.reply(f, m, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
		return
	}
	a.reply(f, m, sip.StatusOK, "OK")
	if tell != nil {
		tell()
	}
}

// inviteKey is the same for an INVITE, its CANCEL and the ACK of its refusal
// (RFC 3261 §17.2.3), and never the same for two senders.
func inviteKey(f flow, m *raw) string {
	branch, sentBy, port, _ := viaTop(m.get("via"))
	sentBy, _, _ = strings.Cut(strings.ToLower(sentBy), ":")
	if rest, ok := strings.CutPrefix(branch, sip.RFC3261BranchMagicCookie); ok && rest != "" {
		return f.remote.Addr().String() + "|" + branch + "|" + sentBy + ":" + strconv.Itoa(port)
	}
	// RFC 4475 §3.2.1: a bare cookie says nothing.
	n, _, _ := m.cseq()
	return fmt.Sprintf("%s|%s|%s|%d|%s:%d", f.remote.Addr(), m.get("call-id"), tag(m.get("from")), n, sentBy, port)
}

// reject answers what is wrong with a request and says so, not too often.
func (a *Agent) reject(f flow, m *raw, x *fault) {
	a.grumble("refused", f.remote, strconv.Itoa(x.status)+" "+x.reason)
	if method, _, _ := strings.Cut(m.first, " "); method == "ACK" {
		return // nothing ever answers an ACK
	}
	a.reply(f, m, x.status, x.reason, x.extra...)
}

// reply answers without a transaction (RFC 3261 §8.2.7): the same request gets
// the same answer again, the same To tag included.
func (a *Agent) reply(f flow, m *raw, status int, reason string, extra ...string) {
	if m.get("via") == "" && !f.tcp && !a.mayGuess(f) {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", status, reason)
	first := true
	for _, h := range m.headers {
		if h.name != "via" {
			continue
		}
		value := h.value
		if first {
			value = received(value, f.remote)
			first = false
		}
		fmt.Fprintf(&b, "Via: %s\r\n", value)
	}
	if from := m.get("from"); from != "" {
		fmt.Fprintf(&b, "From: %s\r\n", from)
	}
	if to := m.get("to"); to != "" {
		if tag(to) == "" {
			to += ";tag=" + a.mark(m.get("call-id")+m.get("from")+m.get("cseq"))
		}
		fmt.Fprintf(&b, "To: %s\r\n", to)
	}
	if id := m.get("call-id"); id != "" {
		fmt.Fprintf(&b, "Call-ID: %s\r\n", id)
	}
	if cseq := m.get("cseq"); cseq != "" {
		fmt.Fprintf(&b, "CSeq: %s\r\n", cseq)
	}
	for _, line := range extra {
		fmt.Fprintf(&b, "%s\r\n", line)
	}
	fmt.Fprintf(&b, "Server: %s\r\nContent-Length: 0\r\n\r\n", a.cfg.UserAgent)
	to := f
	if !f.tcp {
		// RFC 3261 §18.2.2 and RFC 3581 §4: to where it came from, at the port
		// in Via unless the sender asked for the one it used.
		if _, _, port, rport := viaTop(m.get("via")); !rport && m.get("via") != "" {
			to = f.to(a, netip.AddrPortFrom(f.remote.Addr(), uint16(port)))
		}
	}
	_ = to.write(b.Bytes()) // lost like any datagram: the peer asks again
}

// mayGuess: without a Via only a trunk gets an answer, where it sent from.
func (a *Agent) mayGuess(f flow) bool {
	_, trusted := a.trunkOf(f.remote.Addr())
	return trusted
}

// received completes the topmost Via as RFC 3261 §18.2.1 and RFC 3581 §4 ask.
func received(via string, from netip.AddrPort) string {
	top, rest := via, ""
	if i := strings.IndexByte(via, ','); i >= 0 && !strings.Contains(via[:i], `"`) {
		top, rest = via[:i], via[i:]
	}
	_, sentBy, _, rport := viaTop(top)
	if rport {
		head, params, _ := strings.Cut(top, ";")
		parts := strings.Split(params, ";")
		for i, p := range parts {
			if strings.EqualFold(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(p), "=")), "rport") {
				parts[i] = "rport=" + strconv.Itoa(int(from.Port()))
			}
		}
		return head + ";" + strings.Join(parts, ";") + ";received=" + from.Addr().String() + rest
	}
	host := sentBy
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	if strings.Trim(host, "[]") != from.Addr().String() {
		return strings.TrimRight(top, " ") + ";received=" + from.Addr().String() + rest
	}
	return via
}

// mark is a short text that only we can make of another.
func (a *Agent) mark(s string) string {
	h := hmac.New(sha256.New, a.secret[:])
	h.Write([]byte(s))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// newBranch makes a branch that we recognise when it comes back.
func (a *Agent) newBranch() string {
	r := randomText()
	return sip.RFC3261BranchMagicCookie + r + a.mark("branch"+r)
}

func (a *Agent) ourBranch(b string) bool {
	rest, ok := strings.CutPrefix(b, sip.RFC3261BranchMagicCookie)
	const markLength = 16
	if !ok || len(rest) <= markLength {
		return false
	}
	r := rest[:len(rest)-markLength]
	return hmac.Equal([]byte(rest[len(r):]), []byte(a.mark("branch"+r)))
}

// isScanner knows those who look for open exchanges all day.
func isScanner(userAgent string) bool {
	u := strings.ToLower(userAgent)
	for _, name := range []string{"friendly-scanner", "sipvicious", "sip-scan", "sipscan", "sipcli", "pplsip", "vaxsipuseragent", "sundayddr"} {
		if strings.Contains(u, name) {
			return true
		}
	}
	return false
}

// addrPort is the address of a socket in its plainest form.
func addrPort(addr net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch t := addr.(type) {
	case *net.UDPAddr:
		ap = t.AddrPort()
	case *net.TCPAddr:
		ap = t.AddrPort()
	default:
		if addr != nil {
			ap, _ = netip.ParseAddrPort(addr.String())
		}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// pause waits a moment unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
