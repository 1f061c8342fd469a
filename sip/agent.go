// Package sip is Pronto's user agent: it listens on UDP, TCP and TLS, knows trunks
// by their address and operators' telephones by their registration, and makes
// of every INVITE a *Call on a goroutine of its own. Parsing, transports and
// transactions are sipgo's; the edge before it, dialogs, offers and answers are
// ours, and so is what outlives a transaction: a 2xx, and what is past.
package sip

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/pronto-desk/pronto/sip/media"
)

const (
	udpReadBuffer = 4 << 20                // octets: without it bursts are lost at 1000 calls/s (TELEPHONY 1.4)
	maxCalls      = 2000                   // alive at once; far beyond what the desk's relay carries
	stopLongest   = 10 * time.Second       // what may be left of handlers and BYEs at the end
	byeLongest    = 1 * time.Second        // an answer to our BYE, while stopping
	lastWords     = 20 * time.Millisecond  // what was read before is on its way to its handler
	tryingAfter   = 150 * time.Millisecond // who is not answered by then is told that we are at it
	dialLongest   = 3 * time.Second        // to open a TCP connection to a telephone
)

func init() {
	// sipgo keeps these for the whole process. It would send nothing above 1300
	// octets over UDP (TELEPHONY P5), and logs whole messages of strangers.
	sip.UDPMTUSize = 65535
	sip.TransportBufferReadSize = 65535
	sip.SetDefaultLogger(slog.New(slog.DiscardHandler))
	for _, name := range []string{"refer-to", "referred-by"} { // read as they stand: what is left out or put right is not seen
		delete(sip.DefaultHeadersParser(), name)
	}
}

// Config is what an Agent needs to know. Only Media is required, and that only
// by calls that are answered.
type Config struct {
	// Addrs are the addresses to listen on, UDP and TCP on each. They must be
	// concrete: a wildcard address cannot be named in a Contact (TELEPHONY P9).
	// Port 0 takes a free one.
	Addrs []netip.AddrPort
	// TLSAddrs are the addresses to listen on for TLS, as concrete, and TLS says
	// with which certificate.
	TLSAddrs []netip.AddrPort
	TLS      *tls.Config
	// SRTP is whether the sound of telephones on TLS is encrypted.
	SRTP SRTP
	// Packet are sockets to serve instead of listening (tests, a wire in memory).
	Packet []net.PacketConn
	// Trunks are the carriers that may call in, known by address only.
	Trunks []Trunk
	// Realm of the telephones' digest; default "pronto".
	Realm string
	// Digests are the algorithms offered, "MD5" and "SHA-256", in order; default
	// MD5 then SHA-256: many telephones look at the first challenge only, and
	// know no other than MD5.
	Digests []string
	// Phones knows the operators' telephones; nil: no registrar.
	Phones Phones
	// Node is this server's name, and Peers knows the others on the same
	// database; nil: it is alone.
	Node  string
	Peers Peers
	// Media gives the streams.
	Media *media.Engine
	// Handle conducts one call; see Call. It runs on the call's goroutine, after
	// 100 Trying and before any other answer. Its context ends with cause
	// ErrHungUp when the caller does. When it returns, a call that still lives
	// is hung up, one that was never answered is refused with 500. nil: every
	// INVITE gets 404.
	Handle func(ctx context.Context, c *Call)
	// Closing says whether new calls are refused from now on, for carriers that ask by
	// OPTIONS; nil: not before Run ends.
	Closing func() bool
	// Refer judges a REFER inside a call, and does what it asks: outcome waits for
	// what came of it, as a SIP status. One that is refused, by us or with the status
	// that it gives, was not done; it hears of both. It is not waited for longer than
	// five seconds. nil: all are refused.
	Refer func(ctx context.Context, r Referral) (outcome func(context.Context) int, status int)
	// Dialled conducts a call that a telephone makes while we have rung it and it
	// talks: it has proved whose it is, and `to` is what was dialled, as in Referral.
	// It runs like Handle. nil: such calls are a stranger's.
	Dialled func(ctx context.Context, c *Call, extension, to string)
	// Second conducts the second call of a telephone at another node, which that one has
	// passed to us (Pass) for the talk that `what` names. It is answered; otherwise it runs
	// like Handle. nil: such calls are refused.
	Second func(ctx context.Context, c *Call, what string)
	// Domains are the names, beside its addresses, by which telephones know this
	// server.
	Domains []string
	// Signed gives the telephones that have registered here, before this process began,
	// too. nil: there are none.
	Signed func(ctx context.Context) ([]Binding, error)
	// Traced gets the signalling of each conversation some seconds after it has
	// ended, without what must not be kept. It runs on a goroutine of its own and
	// should not take long. nil: nothing is traced.
	Traced func(Trace)
	// Log gets our own lines; default slog.Default().
	Log *slog.Logger
	// UserAgent is said in Server and User-Agent; default "Pronto".
	UserAgent string
}

// Trunk is a carrier: whoever sends from one of its networks is believed about
// the caller's identity and may ring the desk.
type Trunk struct {
	Name     string
	Networks []netip.Prefix
	Lines    int // calls at once, in and out, that were bought of the carrier; 0: as many as come
	// TLS says whom we connect to when a call of theirs outlives its connection;
	// nil: to nobody.
	TLS  *tls.Config
	SRTP SRTP // of calls both ways
}

// Phones knows the operators' telephones: their secrets and where they are.
// *Locations is one over the database.
type Phones interface {
	// Secret gives the secret of a telephone; ok is false when there is none. again:
	// what was read some seconds ago may be too old. It takes as long, and does the same,
	// whether there is one or not.
	Secret(ctx context.Context, extension string, again bool) (s Secret, ok bool, err error)
	// Bind adds or renews a binding, until b.Expires.
	Bind(ctx context.Context, b Binding) error
	// Unbind removes one contact, or all of an extension's when contact is "*".
	Unbind(ctx context.Context, extension, contact string) error
	// Bindings gives those that have not expired at the given instant.
	Bindings(ctx context.Context, extension string, at time.Time) ([]Binding, error)
}

// Secret is what is known of a telephone to believe it.
type Secret struct {
	MD5, SHA256 string       // hexadecimal H(extension:realm:password) by both algorithms (RFC 7616 §3.4.2)
	Places      []netip.Addr // where it registered from lately
}

// Binding is one place where an extension can be rung.
type Binding struct {
	Extension string
	Contact   string         // the Contact URI as registered
	Source    netip.AddrPort // where the REGISTER came from
	Transport string         // "udp", "tcp" or "tls"
	Node      string         // whose socket that was; "": ours
	CallID    string
	CSeq      uint32
	UserAgent string
	Expires   time.Time
}

// Agent is the user agent. New, Listen, Run.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	secret [32]byte
	parser *sip.Parser
	nonces *nonces

	ua     *sipgo.UserAgent
	server *sipgo.Server
	client *sipgo.Client

	local     []netip.AddrPort // of UDP and TCP
	safe      []netip.AddrPort // of TLS
	packets   map[netip.AddrPort]*packetEdge
	listeners []*streamListener
	dialled   *dialledListener

	ctx     context.Context // the agent's life; ends before the sockets do
	cancel  context.CancelFunc
	quit    chan struct{} // closed when Run begins to stop
	stopped chan struct{} // closed when sockets are about to close
	work    sync.WaitGroup
	reading sync.WaitGroup // until sipgo reads every socket
	writers sync.WaitGroup // of connections
	ready   chan struct{}  // closed then: before, it would send from a socket of its own
	deaf    atomic.Bool    // nothing is read any more

	limits   limits
	guesses  guesses
	nobody   Secret // of telephones that there are not
	signing  signing
	grumbles grumbles
	relayed  relayed
	reached  reached
	ladders  ladders

	mu       sync.Mutex // guards what follows
	closing  bool       // no new calls
	ended    bool       // no new work
	conns    map[netip.AddrPort]*streamEdge
	invites  map[string]*invitation
	swept    time.Time         // when invites were last looked through
	requests map[string]string // by requestID, the key of its invitation
	cancels  map[string]time.Time
	dialogs  map[string]*Call
	past     map[string]*past
	buried   []burial    // in the order of their time
	digger   *time.Timer // nil: nothing was buried yet
	calls    map[*Call]struct{}
	lines    map[string]int // of each trunk, how many are in use
	changed  chan struct{}  // closed and made anew when a call ends
}

var (
	errStopping     = errors.New("sip: the server is stopping")
	errNoRoom       = errors.New("sip: no room for another connection")
	errNoConnection = errors.New("sip: the peer's connection is gone")
)

// New makes an agent; it opens nothing yet.
func New(c Config) (*Agent, error) {
	if len(c.Addrs) == 0 && len(c.Packet) == 0 {
		return nil, errors.New("sip: no address to listen on")
	}
	if len(c.TLSAddrs) > 0 && c.TLS == nil {
		return nil, errors.New("sip: TLS without a certificate")
	}
	for _, ap := range slices.Concat(c.Addrs, c.TLSAddrs) {
		if !ap.Addr().IsValid() || ap.Addr().IsUnspecified() {
			return nil, fmt.Errorf("sip: %s is no concrete address: a telephone could not be told where we are", ap)
		}
	}
	if c.Realm == "" {
		c.Realm = "pronto"
	}
	if c.UserAgent == "" {
		c.UserAgent = "Pronto"
	}
	if len(c.Digests) == 0 {
		c.Digests = []string{algorithmMD5, algorithmSHA256}
	}
	for _, d := range c.Digests {
		if d != algorithmMD5 && d != algorithmSHA256 {
			return nil, fmt.Errorf("sip: unknown digest %q: MD5 or SHA-256", d)
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	a := &Agent{
		cfg: c, log: c.Log, parser: sip.NewParser(), nonces: newNonces(),
		packets: map[netip.AddrPort]*packetEdge{}, quit: make(chan struct{}), ready: make(chan struct{}), stopped: make(chan struct{}),
		limits:   limits{buckets: map[netip.Prefix]*bucket{}},
		guesses:  guesses{left: map[guesser]*bucket{}},
		signing:  signing{answers: map[string]*signed{}},
		relayed:  relayed{since: map[string]time.Time{}},
		reached:  reached{ways: map[netip.AddrPort]reach{}},
		grumbles: grumbles{last: map[string]time.Time{}, less: map[string]int{}},
		conns:    map[netip.AddrPort]*streamEdge{},
		invites:  map[string]*invitation{}, requests: map[string]string{}, cancels: map[string]time.Time{},
		dialogs: map[string]*Call{}, past: map[string]*past{}, calls: map[*Call]struct{}{}, lines: map[string]int{}, changed: make(chan struct{}),
	}
	a.ladders = ladders{a: a, wanted: c.Traced != nil, open: map[string]*ladder{}}
	_, _ = rand.Read(a.secret[:]) // never fails
	a.nobody.MD5, a.nobody.SHA256 = HA1("", c.Realm, string(a.secret[:]))
	a.ctx, a.cancel = context.WithCancel(context.Background())
	ua, err := sipgo.NewUA(
		sipgo.WithUserAgent(c.UserAgent),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerUnhandledResponseHandler(a.onStray)),
		// We open connections ourselves. sipgo, finding one gone, would open
		// another in clear, also in the place of one by TLS.
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerTransports(sip.TransportsConfig{TCP: &sip.TransportTCP{DialerCreate: neverDial}})),
	)
	if err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	if a.server, err = sipgo.NewServer(ua); err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	if a.client, err = sipgo.NewClient(ua); err != nil {
		return nil, fmt.Errorf("sip: %w", err)
	}
	a.ua = ua
	a.server.OnInvite(a.guard(a.onInvite))
	a.server.OnAck(a.guard(func(*sip.Request, sip.ServerTransaction) {})) // of a refusal: the transaction's matter
	a.server.OnUpdate(a.guard(a.onUpdate))
	a.server.OnPrack(a.guard(a.onPrack))
	a.server.OnInfo(a.guard(a.onInfo))
	a.server.OnRefer(a.guard(a.onRefer))
	a.server.OnNotify(a.guard(a.onNotify))
	a.server.OnOptions(a.guard(a.onOptions))
	a.server.OnNoRoute(a.guard(func(req *sip.Request, tx sip.ServerTransaction) {
		a.respond(req, tx, sip.StatusMethodNotAllowed, sip.NewHeader("Allow", allow))
	}))
	return a, nil
}

// Listen opens the sockets, so that a port in use is known before Run.
func (a *Agent) Listen() (err error) {
	defer func() {
		if err != nil {
			a.closeSockets()
		}
	}()
	for _, pc := range a.cfg.Packet {
		a.addPacket(pc)
	}
	for _, addr := range a.cfg.Addrs {
		udp, tcp, err := listenBoth(addr)
		if err != nil {
			return fmt.Errorf("sip: listen: %w", err)
		}
		if err := udp.SetReadBuffer(udpReadBuffer); err != nil {
			a.log.Warn("sip: read buffer", "error", err)
		}
		p := a.addPacket(udp)
		a.listeners = append(a.listeners, &streamListener{Listener: tcp, a: a, local: p.local})
	}
	for _, addr := range a.cfg.TLSAddrs {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			return fmt.Errorf("sip: listen: %w", err)
		}
		at := addrPort(l.Addr())
		a.safe = append(a.safe, at)
		a.listeners = append(a.listeners, &streamListener{Listener: l, a: a, local: at, tls: a.cfg.TLS})
	}
	a.dialled = &dialledListener{a: a, next: make(chan outbound)}
	return nil
}

// listenBoth opens UDP and TCP on one address. A port chosen for the one may be
// taken for the other: then another one is chosen.
func listenBoth(addr netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	const tries = 50 // of a free port
	for try := 1; ; try++ {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return nil, nil, err
		}
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addrPort(udp.LocalAddr())))
		if err == nil {
			return udp, tcp, nil
		}
		_ = udp.Close()
		if addr.Port() != 0 || try == tries {
			return nil, nil, err
		}
	}
}

func (a *Agent) addPacket(pc net.PacketConn) *packetEdge {
	p := &packetEdge{PacketConn: pc, a: a, local: addrPort(pc.LocalAddr())}
	a.packets[p.local] = p
	a.reading.Add(1)
	a.local = append(a.local, p.local)
	return p
}

// Addr is the first address the agent listens on, after Listen.
func (a *Agent) Addr() netip.AddrPort {
	if len(a.local) == 0 {
		return netip.AddrPort{}
	}
	return a.local[0]
}

// Addrs are all the addresses the agent listens on, after Listen.
func (a *Agent) Addrs() []netip.AddrPort { return slices.Clone(a.local) }

// TLSAddr is the first address for TLS, after Listen; not valid when there is none.
func (a *Agent) TLSAddr() netip.AddrPort {
	if len(a.safe) == 0 {
		return netip.AddrPort{}
	}
	return a.safe[0]
}

// neverDial is a dialler whose connections fail.
func neverDial(net.Addr) net.Dialer {
	return net.Dialer{Control: func(string, string, syscall.RawConn) error { return errNoConnection }}
}

// Run serves until ctx ends. Then it takes no more calls, hangs up those that
// are left, waits for their handlers and closes everything.
func (a *Agent) Run(ctx context.Context) error {
	var serving sync.WaitGroup
	for _, p := range a.packets {
		serving.Go(func() { _ = a.server.ServeUDP(p) })
	}
	for _, l := range a.listeners {
		serving.Go(func() { _ = a.server.ServeTCP(l) })
	}
	serving.Go(func() { _ = a.server.ServeTCP(a.dialled) })
	a.reading.Wait()
	close(a.ready)
	if a.cfg.Phones != nil {
		a.later(a.keepReached)
	}

	<-ctx.Done()
	a.mu.Lock()
	a.closing = true
	left := make([]*Call, 0, len(a.calls))
	for c := range a.calls {
		left = append(left, c)
	}
	a.mu.Unlock()
	close(a.quit)
	for _, c := range left {
		c.hangUp(errStopping)
	}
	err := a.settle()
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	// sipgo makes goroutines of what it read that nobody can wait for; one that
	// found its socket gone would open another.
	a.deaf.Store(true)
	pause(context.WithoutCancel(ctx), lastWords)
	a.cancel()
	close(a.stopped)
	a.closeSockets()
	_ = a.ua.Close() // ends transactions; its error is that of a closed socket
	serving.Wait()
	a.writers.Wait()
	if err == nil {
		a.work.Wait()
	}
	a.ladders.flush()
	return err
}

// settle waits for handlers and BYEs.
func (a *Agent) settle() error {
	done := make(chan struct{})
	go func() {
		a.work.Wait()
		close(done)
	}()
	t := time.NewTimer(stopLongest)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		return errors.New("sip: a call's handler does not return")
	}
}

func (a *Agent) closeSockets() {
	for _, p := range a.packets {
		_ = p.PacketConn.Close()
	}
	for _, l := range a.listeners {
		_ = l.Listener.Close()
	}
	a.mu.Lock()
	conns := make([]*streamEdge, 0, len(a.conns))
	for _, c := range a.conns {
		conns = append(conns, c)
	}
	a.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// stopping tells whether no new calls are taken.
func (a *Agent) stopping() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closing
}

// begin announces work that Run waits for; false: it is too late.
func (a *Agent) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	a.work.Add(1)
	return true
}

// later runs fn on a goroutine that Run waits for, if it is not too late.
func (a *Agent) later(fn func()) {
	if !a.begin() {
		return
	}
	go func() {
		defer a.work.Done()
		defer a.caught("background")
		fn()
	}()
}

// guard makes a handler of sipgo one that Run waits for and whose panic is one
// logged request.
func (a *Agent) guard(fn func(*sip.Request, sip.ServerTransaction)) sipgo.RequestHandler {
	return func(req *sip.Request, tx sip.ServerTransaction) {
		if !a.begin() {
			return
		}
		defer a.work.Done()
		defer a.caught(string(req.Method))
		fn(req, tx)
	}
}

func (a *Agent) caught(what string) {
	if r := recover(); r != nil {
		a.log.Error("sip: a handler stumbled", "while", what, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	}
}

// Calls is the number of calls alive, both ways.
func (a *Agent) Calls() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.calls)
}

// Drained waits until no call is left; otherwise it gives the cause of ctx.
func (a *Agent) Drained(ctx context.Context) error {
	for {
		a.mu.Lock()
		left, changed := len(a.calls), a.changed
		a.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// add takes a call in, if there is room.
func (a *Agent) add(c *Call) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closing || len(a.calls) >= maxCalls {
		return false
	}
	a.calls[c] = struct{}{}
	return true
}

// line gives a call one of its trunk's lines, until it is removed; false when all
// are in use. A carrier may send more calls than were bought.
func (a *Agent) line(c *Call, trunk string) bool {
	i := slices.IndexFunc(a.cfg.Trunks, func(t Trunk) bool { return t.Name == trunk })
	if i < 0 || a.cfg.Trunks[i].Lines == 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lines[trunk] >= a.cfg.Trunks[i].Lines {
		return false
	}
	a.lines[trunk]++
	c.line = trunk
	return true
}

// unline gives a call's line back before its end.
func (a *Agent) unline(c *Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlined(c)
}

// unlined is unline. a.mu is held.
func (a *Agent) unlined(c *Call) {
	if c.line != "" {
		a.lines[c.line]--
		c.line = ""
	}
}

// remove is the end of a call, its handler included.
func (a *Agent) remove(c *Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlined(c)
	if _, ok := a.calls[c]; !ok {
		return
	}
	delete(a.calls, c)
	a.ladders.release(c.ladder)
	close(a.changed)
	a.changed = make(chan struct{})
}

// dialog finds a call by Call-ID and our own tag.
func (a *Agent) dialog(callID, localTag string) *Call {
	if localTag == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dialogs[callID+"|"+localTag]
}

func (a *Agent) enrol(c *Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dialogs[c.dlg.callID+"|"+c.dlg.localTag] = c
}

// trunkOf finds the trunk of an address.
func (a *Agent) trunkOf(ip netip.Addr) (name string, ok bool) {
	ip = ip.Unmap()
	for _, t := range a.cfg.Trunks {
		if slices.ContainsFunc(t.Networks, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			return t.Name, true
		}
	}
	return "", false
}

// isOurs tells whether a host name or address can mean this server.
func (a *Agent) isOurs(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && slices.ContainsFunc(slices.Concat(a.local, a.safe), func(l netip.AddrPort) bool { return l.Addr() == ip.Unmap() })
}

// localFor chooses the address of ours that a peer can reach.
func (a *Agent) localFor(remote netip.Addr) (netip.AddrPort, bool) { return nearest(a.local, remote) }

// safeFor is localFor for TLS. Where we do not listen for it, what we are asked
// comes back over the connection (RFC 5923).
func (a *Agent) safeFor(remote netip.Addr) (netip.AddrPort, bool) {
	if l, ok := nearest(a.safe, remote); ok {
		return l, true
	}
	return a.localFor(remote)
}

// nearest chooses among addresses the one that a peer most likely reaches. Where several
// are as near, a server with one leg in the house and one at its carrier, the system knows
// by which it sends.
func nearest(ours []netip.AddrPort, remote netip.Addr) (netip.AddrPort, bool) {
	best, found, score := netip.AddrPort{}, false, -1
	tied := false
	for _, l := range ours {
		if l.Addr().Is4() != remote.Is4() {
			continue
		}
		s := 0
		if l.Addr().IsLoopback() == remote.IsLoopback() {
			s++
		}
		if sourceNet(l.Addr()).Contains(remote) {
			s += 2
		}
		tied = s == score || tied && s < score
		if s > score {
			best, found, score = l, true, s
		}
	}
	if tied {
		from := sourceFor(remote)
		if i := slices.IndexFunc(ours, func(l netip.AddrPort) bool { return l.Addr() == from }); i >= 0 {
			return ours[i], true
		}
	}
	return best, found
}

// sourceFor is the address that the system would send from; not valid when it has no way.
func sourceFor(remote netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, uint16(sip.DefaultUdpPort)))) // which sends nothing
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return addrPort(conn.LocalAddr()).Addr()
}

// sourceNet is the network an interface most likely has.
func sourceNet(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// udpFlow is a way over one of our UDP sockets.
func (a *Agent) udpFlow(local, remote netip.AddrPort) flow {
	f := flow{local: local, remote: remote}
	if p := a.packets[local]; p != nil {
		f.write = func(b []byte) error {
			_, err := p.WriteTo(b, net.UDPAddrFromAddrPort(remote))
			return err
		}
	} else {
		f.write = func([]byte) error { return net.ErrClosed }
	}
	return f
}

// streamFlow is a way over a TCP connection, open or to be opened.
func (a *Agent) streamFlow(f flow) flow {
	f.write = func(b []byte) error {
		if c := a.connOf(f); c != nil {
			return c.send(b)
		}
		return net.ErrClosed
	}
	return f
}

// connOf is the open connection of a flow, or nil.
func (a *Agent) connOf(f flow) *streamEdge {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.conns[f.remote]; c != nil && c.serves(f) {
		return c
	}
	return nil
}

// connAt is the connection with an address, whatever its kind, or nil.
func (a *Agent) connAt(remote netip.AddrPort) *streamEdge {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns[remote]
}

// open connects to the far side of a flow, and by TLS finds out that it is the
// one that the flow is for.
func (a *Agent) open(ctx context.Context, f flow) (net.Conn, error) {
	if f.tls && f.whom == nil {
		return nil, errNoConnection // they connect to us
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.remote.String())
	if err != nil || !f.tls {
		return conn, err
	}
	secret := tls.Client(conn, f.whom)
	if err := secret.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", f.remote, err)
	}
	return secret, nil
}

// connect makes sure that a TCP flow has its connection, and that sipgo knows it.
func (a *Agent) connect(ctx context.Context, f flow) error {
	if a.connOf(f) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialLongest)
	defer cancel()
	conn, err := a.open(ctx, f)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s, ok := a.admit(conn, f)
	if !ok {
		_ = conn.Close()
		return errNoRoom
	}
	s.proven() // we called them
	d := outbound{conn: s, taken: make(chan struct{})}
	select {
	case a.dialled.next <- d:
	case <-a.stopped:
		_ = s.Close()
		return errStopping
	}
	select {
	case <-d.taken:
	case <-a.stopped:
		return errStopping
	}
	return nil
}

// respond answers a request inside its transaction.
func (a *Agent) respond(req *sip.Request, tx sip.ServerTransaction, status int, extra ...sip.Header) {
	res := a.response(req, status, nil, extra...)
	if err := tx.Respond(res); err != nil {
		a.log.Debug("sip: answer not sent", "status", status, "error", err)
	}
}

// response builds an answer.
func (a *Agent) response(req *sip.Request, status int, body []byte, extra ...sip.Header) *sip.Response {
	res := sip.NewResponseFromRequest(req, status, reasonOf(status), body)
	if via := res.Via(); via != nil && !via.Params.Has("received") { // sipgo adds it beside rport only
		from, err := netip.ParseAddrPort(req.Source())
		if ip := from.Addr().Unmap().WithZone("").String(); err == nil && strings.Trim(via.Host, "[]") != ip {
			via.Params.Add("received", ip) // RFC 3261 §18.2.1
		}
	}
	for _, h := range extra {
		res.AppendHeader(h)
	}
	res.AppendHeader(sip.NewHeader("Server", a.cfg.UserAgent))
	return res
}

// reasonOf are the phrases of the answers we give (RFC 3261 §21).
func reasonOf(status int) string {
	switch status {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 200:
		return "OK"
	case statusAccepted:
		return "Accepted"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 415:
		return "Unsupported Media Type"
	case 421:
		return "Extension Required"
	case 422:
		return "Session Interval Too Small"
	case 423:
		return "Interval Too Brief"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case statusBadEvent:
		return "Bad Event"
	case 491:
		return "Request Pending"
	case 500:
		return "Server Internal Error"
	case 503:
		return "Service Unavailable"
	case 505:
		return "Version Not Supported"
	case tooLarge:
		return "Message Too Large"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	}
	return "Refused"
}
