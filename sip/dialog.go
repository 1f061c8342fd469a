package sip

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// maxForwards is what every request of ours starts with (RFC 3261 §8.1.1.6).
const maxForwards = 70

// dialog is what both sides of a call must agree on (RFC 3261 §12): who they
// are, how requests are numbered and where they go.
type dialog struct {
	a        *Agent
	callID   string
	localTag string
	sips     bool // whoever began it wants TLS on every hop

	mu        sync.Mutex // guards what follows
	remoteTag string
	local     sip.FromHeader // as we write it, with our tag
	remote    sip.ToHeader   // as we write it, with theirs once it is known
	seq       uint32         // of our last request
	remoteSeq uint32         // of theirs
	target    sip.Uri        // their Contact
	routes    []sip.Uri      // in the order in which we send
	flow      flow
	moved     netip.Addr // where the far side, a telephone, has signed in since
}

// newServerDialog is the dialog of an INVITE that came in.
func newServerDialog(a *Agent, req *sip.Request, f flow, localTag string) *dialog {
	d := &dialog{a: a, callID: req.CallID().Value(), localTag: localTag, flow: f}
	d.remoteTag = rawParam(req.From().Params, "tag")
	to, from := req.To(), req.From()
	d.local = sip.FromHeader{DisplayName: to.DisplayName, Address: *to.Address.Clone(), Params: sip.HeaderParams{{K: "tag", V: localTag}}}
	d.remote = sip.ToHeader{DisplayName: from.DisplayName, Address: *from.Address.Clone()}
	if d.remoteTag != "" { // RFC 2543 had none
		d.remote.Params = sip.HeaderParams{{K: "tag", V: d.remoteTag}}
	}
	d.seq = randomSeq()
	d.remoteSeq = req.CSeq().SeqNo
	d.target = *from.Address.Clone()
	if target, ok := targetOf(req.Contact()); ok {
		d.target = target
	} else { // they are where they have called from
		d.target.Host, d.target.Port = f.remote.Addr().String(), int(f.remote.Port())
		if f.remote.Addr().Is6() {
			d.target.Host = "[" + d.target.Host + "]"
		}
	}
	d.sips = req.Recipient.IsEncrypted() || d.target.IsEncrypted() // RFC 3261 §12.1.1
	for _, h := range req.GetHeaders("record-route") {             // RFC 3261 §12.1.1: in order
		if rr, ok := h.(*sip.RecordRouteHeader); ok {
			d.routes = append(d.routes, *rr.Address.Clone())
		}
	}
	return d
}

// newClientDialog is the dialog of an INVITE that we are about to send.
func newClientDialog(a *Agent, local sip.FromHeader, remote sip.ToHeader, target sip.Uri, f flow) *dialog {
	d := &dialog{a: a, callID: randomText() + "@" + hostText(f.local.Addr()), localTag: randomText(), flow: f}
	d.local, d.remote, d.target, d.seq = local, remote, target, randomSeq()
	d.sips = target.IsEncrypted() // RFC 3261 §8.1.1.8
	d.local.Params = sip.HeaderParams{{K: "tag", V: d.localTag}}
	return d
}

// targetOf is where a Contact says that its sender is to be asked; false: nowhere that
// anything could be sent (RFC 3261 §8.1.1.8 wants a SIP or SIPS URI).
func targetOf(c *sip.ContactHeader) (sip.Uri, bool) {
	if c == nil || c.Address.Wildcard || c.Address.Port < 0 || c.Address.Port > 1<<16-1 {
		return sip.Uri{}, false
	}
	if scheme := strings.ToLower(c.Address.Scheme); scheme != "" && scheme != "sip" && scheme != schemeSIPS {
		return sip.Uri{}, false
	}
	return *c.Address.Clone(), true
}

// confirm takes over what a 2xx says (RFC 3261 §12.1.2): remote tag, target,
// route set.
func (d *dialog) confirm(res *sip.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remoteTag = rawParam(res.To().Params, "tag")
	d.remote.Params = sip.HeaderParams{{K: "tag", V: d.remoteTag}}
	if target, ok := targetOf(res.Contact()); ok {
		d.target = target
	}
	d.routes = nil
	for _, h := range res.GetHeaders("record-route") {
		if rr, ok := h.(*sip.RecordRouteHeader); ok {
			d.routes = append([]sip.Uri{*rr.Address.Clone()}, d.routes...) // in reverse order
		}
	}
}

// accepts is counts for a request that may be a target refresh: it takes over the new
// Contact (RFC 3261 §12.2.2).
func (d *dialog) accepts(req *sip.Request, f flow) int {
	if status := d.counts(rawParam(req.From().Params, "tag"), req.CSeq().SeqNo, f); status != 0 {
		return status
	}
	if req.Method == sip.INVITE || req.Method == sip.UPDATE {
		if target, ok := targetOf(req.Contact()); ok {
			d.mu.Lock()
			d.target = target
			d.mu.Unlock()
		}
	}
	return 0
}

// counts checks the tag and the number of a request inside the dialog; 0: it is the next.
func (d *dialog) counts(theirs string, seq uint32, f flow) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	// What began in secret goes on so: an answer may hold a key of the sound.
	if theirs != d.remoteTag || d.flow.tls && !f.tls {
		return sip.StatusCallTransactionDoesNotExists
	}
	if seq <= d.remoteSeq && d.remoteSeq != 0 {
		return sip.StatusInternalServerError // RFC 3261 §12.2.2: out of order
	}
	d.remoteSeq = seq
	if !f.tcp && !d.flow.tcp {
		f = d.a.udpFlow(d.flow.local, f.remote) // from the socket that they know
	}
	d.flow = f // the way they reach us now is the way back
	return 0
}

// isWith tells whether the far side can have this tag: any, before it is known.
func (d *dialog) isWith(tag string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remoteTag == "" || d.remoteTag == tag
}

// belongs tells whether an address may speak in a call. Whoever knows its tags may have
// read them somewhere; carriers look at the source too. It is the far side's, that of
// another switch of the same trunk, or where the telephone has signed in since.
func (a *Agent) belongs(c *Call, ip netip.Addr) bool {
	if c.knows(ip) {
		return true
	}
	if c.far.End == EndCarrier {
		return a.isOf(ip, c.far.Name)
	}
	return a.isOf(ip, c.trunk)
}

// isOf tells whether an address is a trunk's.
func (a *Agent) isOf(ip netip.Addr, trunk string) bool {
	is, trusted := a.trunkOf(ip)
	return trusted && is == trunk
}

// moved lets a telephone that has signed in from another address go on with its calls
// from there.
func (a *Agent) moved(extension string, to netip.Addr) {
	a.mu.Lock()
	var list []*Call
	for c := range a.calls {
		if c.far.End == EndTelephone && c.far.Name == extension {
			list = append(list, c)
		}
	}
	a.mu.Unlock()
	for _, c := range list {
		c.dlg.mu.Lock()
		c.dlg.moved = to
		c.dlg.mu.Unlock()
	}
}

// request builds the next request inside the dialog; ACK and CANCEL take the
// number of the INVITE they belong to.
func (d *dialog) request(method sip.RequestMethod, seq uint32) (*sip.Request, flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if seq == 0 {
		d.seq++
		seq = d.seq
	}
	target := *d.target.Clone()
	target.Headers = nil // RFC 4475 §3.3.14: never applied
	routes := d.routes
	uri := target
	if len(routes) > 0 && !hasParam(routes[0], "lr") {
		// RFC 3261 §12.2.1.1: a strict router wants itself in the Request-URI.
		uri = *routes[0].Clone()
		uri.Headers = nil
		routes = append(append([]sip.Uri{}, routes[1:]...), target)
	}
	hop := target
	if len(d.routes) > 0 {
		hop = d.routes[0]
	}
	f := d.a.wayTo(d.flow, hop)
	req := d.a.newRequest(method, uri, f)
	for i := range routes {
		req.AppendHeader(&sip.RouteHeader{Address: *routes[i].Clone()})
	}
	local, remote := d.local, d.remote
	local.Params, remote.Params = local.Params.Clone(), remote.Params.Clone()
	req.AppendHeader(&local)
	req.AppendHeader(&remote)
	id := sip.CallIDHeader(d.callID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: seq, MethodName: method})
	return req, f
}

// wayTo decides where a request of a dialog goes: to its next hop when that is
// an address of the same peer, else back through the flow (TELEPHONY P9, trap 14).
func (a *Agent) wayTo(f flow, hop sip.Uri) flow {
	if f.tcp && a.connOf(f) != nil {
		return f // the connection that is open
	}
	host, err := netip.ParseAddr(strings.Trim(hop.Host, "[]"))
	if err != nil {
		return f
	}
	port := uint16(sip.DefaultUdpPort)
	if f.tls {
		port = uint16(sip.DefaultTlsPort)
	}
	if hop.Port > 0 && hop.Port <= 65535 {
		port = uint16(hop.Port)
	}
	host = host.Unmap()
	if host != f.remote.Addr() {
		was, trusted := a.trunkOf(f.remote.Addr())
		if now, also := a.trunkOf(host); !trusted || !also || now != was {
			return f
		}
	}
	if f.tls && f.whom == nil {
		f.whom = a.carrier(host)
	}
	return f.to(a, netip.AddrPortFrom(host, port))
}

// carrier is whom we connect to by TLS at the address of a trunk; nil: nobody.
func (a *Agent) carrier(ip netip.Addr) *tls.Config {
	name, _ := a.trunkOf(ip)
	i := slices.IndexFunc(a.cfg.Trunks, func(t Trunk) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return a.cfg.Trunks[i].TLS
}

// newRequest starts a request: start line, Via, Max-Forwards, User-Agent.
func (a *Agent) newRequest(method sip.RequestMethod, uri sip.Uri, f flow) *sip.Request {
	req := sip.NewRequest(method, uri)
	via := &sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: f.network(),
		Host: hostText(f.local.Addr()), Port: int(f.local.Port())}
	via.Params = sip.HeaderParams{{K: "branch", V: a.newBranch()}}
	if !f.tcp {
		via.Params = append(via.Params, sip.HeaderKV{K: "rport"})
	}
	req.AppendHeader(via)
	forwards := sip.MaxForwardsHeader(maxForwards)
	req.AppendHeader(&forwards)
	req.AppendHeader(sip.NewHeader("User-Agent", a.cfg.UserAgent))
	return req
}

// address makes sipgo send a request over a flow: from the listener's socket
// (TELEPHONY P9), over the connection that is open.
func (a *Agent) address(ctx context.Context, req *sip.Request, f flow) error {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	req.SetDestination(f.remote.String())
	if !f.tcp {
		req.SetTransport("UDP")
		req.Laddr = sip.Addr{IP: net.IP(f.local.Addr().AsSlice()), Port: int(f.local.Port())}
		return nil
	}
	req.SetTransport("TCP") // also TLS: see streamEdge
	// No Laddr over TCP: sipgo's pool knows accepted connections by our own
	// address too, and would take any of them.
	return a.connect(ctx, f)
}

// asBuilt keeps sipgo from completing a request.
func asBuilt(*sipgo.Client, *sip.Request) error { return nil }

// start sends a request in a transaction.
func (a *Agent) start(ctx context.Context, req *sip.Request, f flow) (sip.ClientTransaction, error) {
	if req.Body() == nil {
		req.SetBody(nil)
	}
	if err := a.address(ctx, req, f); err != nil {
		return nil, err
	}
	return a.client.TransactionRequest(ctx, req, asBuilt)
}

// post sends an ACK, which has no transaction.
func (a *Agent) post(ctx context.Context, req *sip.Request, f flow) error {
	if req.Body() == nil {
		req.SetBody(nil)
	}
	if err := a.address(ctx, req, f); err != nil {
		return err
	}
	return a.client.WriteRequest(req, asBuilt)
}

// ask sends a request and waits for its final response, at most longest. The
// transaction is read to its end or terminated: sipgo blocks in one that is not.
func (a *Agent) ask(ctx context.Context, req *sip.Request, f flow, longest time.Duration) (*sip.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	tx, err := a.start(ctx, req, f)
	if err != nil {
		return nil, err
	}
	defer tx.Terminate()
	quit := a.quit
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res, nil
			}
		case <-quit: // not much longer then
			quit = nil
			defer time.AfterFunc(byeLongest, cancel).Stop()
		case <-tx.Done():
			return nil, fmt.Errorf("%s: %w", req.Method, tx.Err())
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-a.stopped:
			return nil, errStopping
		}
	}
}

func hasParam(u sip.Uri, name string) bool {
	for _, kv := range u.UriParams {
		if strings.EqualFold(strings.TrimSpace(kv.K), name) {
			return true
		}
	}
	return false
}

// hostText is an address as sipgo wants hosts: it adds the brackets itself.
func hostText(a netip.Addr) string { return a.String() }

// ownURI is an address of ours at the end of a flow.
func ownURI(user string, f flow) sip.Uri {
	u := sip.Uri{Scheme: "sip", User: user, Host: hostText(f.local.Addr()), Port: int(f.local.Port())}
	if f.tcp {
		u.UriParams = sip.HeaderParams{{K: "transport", V: strings.ToLower(f.network())}}
	}
	return u
}

// contact is our own address in a dialog.
func (d *dialog) contact(f flow) sip.Uri {
	u := ownURI("pronto", f)
	if d.sips {
		u.Scheme, u.UriParams = schemeSIPS, nil // RFC 5630 §3.1.4: transport=tls says no more
	}
	return u
}

// randomText is 16 characters that nobody guesses.
func randomText() string {
	const alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = alphabet[b[i]%byte(len(alphabet))]
	}
	return string(b[:])
}

// randomSeq starts the numbers of a dialog low enough that they never wrap.
func randomSeq() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])&0xffff + 1
}
