package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

const (
	firstAnswer = 5 * time.Second                                 // four transmissions without a word: nobody is there, the next operator is better
	ringLongest = 3 * time.Minute                                 // TELEPHONY 1.3: sipgo has no Timer C; queue gives up long before
	cancelWait  = 32 * time.Second                                // 64·T1 for the 487 (RFC 3261 §9.1)
	elsewhere   = `SIP;cause=200;text="Call completed elsewhere"` // RFC 3326 §2, trap 3
)

var (
	defaultLaws   = []uint8{uint8(audio.PCMA), uint8(audio.PCMU), uint8(audio.G722)}
	errElsewhere  = errors.New("sip: answered elsewhere")
	errNoProgress = fmt.Errorf("%w: it tries, and says no more", ErrUnreachable)
)

// Caller is what an operator's telephone shows while it rings.
type Caller struct {
	Number string // E.164, or "" when withheld
	Name   string // may be empty
}

// DialOptions are the ways a call can be made by Dial.
type DialOptions struct {
	ID        string         // Call-ID; "": one is made
	From      string         // number of the caller, said in From
	Home      string         // the domain of the caller's addresses; "": our address
	Name      string         // display name, said in From
	Asserted  string         // P-Asserted-Identity, when not empty
	Anonymous bool           // From anonymous@anonymous.invalid and Privacy: id (RFC 3323)
	Diversion string         // number the call was diverted from (RFC 5806)
	Laws      []uint8        // payload types to offer, in order; default PCMA (8), PCMU (0), G722 (9)
	Via       netip.AddrPort // where to send the INVITE
	Domain    string         // whom it is for, when Via was found by a name; "": Via
	TCP       bool           // over TCP instead of UDP
	TLS       *tls.Config    // over TLS, with whom it names; nil: not
	SRTP      SRTP           // by TLS only
	LateOffer bool           // no SDP in the INVITE: the answer goes in the ACK
	Trunk     string         // the trunk whose line it takes; "": nobody's
	Account   Account        // for a carrier that challenges INVITEs; zero: it is refused then
	Progress  time.Duration  // how long a switch may say nothing but that it tries; 0: as long as it rings
}

// Dial makes a call and returns when it is answered; `to` is a number or a user
// part. Errors are those of Ring.
func (a *Agent) Dial(ctx context.Context, to string, o DialOptions) (*Call, error) {
	f, err := a.outFlow(o.Via, transportOf(o.TCP, o.TLS), o.TLS)
	if err != nil {
		return nil, err
	}
	host := hostText(o.Via.Addr())
	target := sip.Uri{Scheme: "sip", User: escapeUser(to), Host: host, Port: int(o.Via.Port())}
	if o.Domain != "" { // RFC 3263 §4: the address is how it travels, not whom it is for
		host, target.Host, target.Port = o.Domain, o.Domain, 0
	}
	remote := sip.ToHeader{Address: sip.Uri{Scheme: "sip", User: target.User, Host: host}}
	home, homeText := hostText(f.local.Addr()), bracketed(f.local.Addr())
	if o.Home != "" { // a carrier asks proof of who it is of those of its own domain, and believes no others
		home, homeText = o.Home, o.Home
	}
	local := sip.FromHeader{DisplayName: escapeName(o.Name), Address: sip.Uri{Scheme: "sip", User: escapeUser(o.From), Host: home}}
	var extra []sip.Header
	if o.Anonymous {
		local = anonymousFrom
		extra = append(extra, sip.NewHeader("Privacy", "id"))
	}
	if o.Asserted != "" {
		extra = append(extra, sip.NewHeader("P-Asserted-Identity", "<sip:"+escapeUser(o.Asserted)+"@"+homeText+">"))
	}
	if o.Diversion != "" {
		extra = append(extra, sip.NewHeader("Diversion", "<sip:"+escapeUser(o.Diversion)+"@"+homeText+">;reason=unconditional"))
	}
	laws := o.Laws
	if len(laws) == 0 {
		laws = defaultLaws
	}
	var decided atomic.Bool
	c := a.newCall(local, remote, target, f, laws, identity{to: to})
	if o.ID != "" {
		c.dlg.callID = o.ID
	}
	results := make(chan error, 1)
	if !a.line(c, o.Trunk) {
		return nil, ErrNoLine
	}
	c.account, c.srtp, c.far, c.progress = o.Account, o.SRTP, Way{End: EndCarrier, Name: o.Trunk}, o.Progress
	if err := a.invite(ctx, c, extra, o.LateOffer, &decided, results); err != nil {
		a.remove(c)
		return nil, err
	}
	select {
	case err := <-results:
		if err != nil {
			return nil, err
		}
		return c, nil
	case <-ctx.Done():
		if decided.CompareAndSwap(false, true) {
			return nil, context.Cause(ctx)
		}
		if err := <-results; err != nil { // answered in the same instant
			return nil, err
		}
		return c, nil
	}
}

// Ring makes the telephones of an extension ring, on whichever node they are, and
// gives the one that was lifted first; the others are cancelled. Errors:
// ErrUnreachable, ErrDeclined (see *StatusError), ErrNoAnswer, or the cause of
// ctx, whose end cancels the ringing.
func (a *Agent) Ring(ctx context.Context, extension string, who Caller) (media.Leg, error) {
	return a.ring(ctx, extension, who, a.ways(ctx, extension))
}

// way is how one telephone, or all those of another node, can be made to ring.
type way struct {
	binding Binding
	node    netip.AddrPort // valid: through that node
	asks    string         // of it
}

// ways are those of an extension; each other node is asked once.
func (a *Agent) ways(ctx context.Context, extension string) (list []way) {
	for _, b := range a.bindings(ctx, extension, time.Now()) {
		node, through, ok := a.place(b)
		if !ok || through && slices.ContainsFunc(list, func(w way) bool { return w.node == node }) {
			continue
		}
		list = append(list, way{binding: b, node: node, asks: asksRing})
	}
	return list
}

// call prepares the call of a way.
func (a *Agent) call(w way, who Caller) (*Call, []sip.Header, error) {
	if w.node.IsValid() {
		return a.callNode(w.node, w.asks, w.binding.Extension, who)
	}
	return a.callTo(w.binding, who)
}

// ring is Ring, for the ways given.
func (a *Agent) ring(ctx context.Context, extension string, who Caller, ways []way) (media.Leg, error) {
	if len(ways) == 0 {
		return nil, fmt.Errorf("ring %s: %w: not registered", extension, ErrUnreachable)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var decided atomic.Bool
	type result struct {
		call *Call
		err  error
	}
	results := make(chan result, len(ways))
	for _, w := range ways {
		c, extra, err := a.call(w, who)
		if err != nil {
			results <- result{err: err}
			continue
		}
		one := make(chan error, 1)
		if err := a.invite(ctx, c, extra, false, &decided, one); err != nil {
			results <- result{err: err}
			continue
		}
		a.later(func() {
			err := <-one
			results <- result{c, err}
		})
	}
	var worst error
	for range ways {
		select {
		case r := <-results:
			if r.err == nil {
				cancel(errElsewhere)
				return r.call, nil
			}
			worst = weightier(worst, r.err)
			if isGlobal(r.err) && decided.CompareAndSwap(false, true) {
				return nil, fmt.Errorf("ring %s: %w", extension, r.err) // RFC 3261 §21.6: nowhere else either
			}
		case <-ctx.Done():
			if decided.CompareAndSwap(false, true) {
				return nil, context.Cause(ctx)
			}
			for r := range results { // lifted in the same instant: that counts
				if r.err == nil {
					cancel(errElsewhere)
					return r.call, nil
				}
				if errors.Is(r.err, ErrNoCodec) {
					return nil, fmt.Errorf("ring %s: %w", extension, r.err)
				}
			}
		}
	}
	return nil, fmt.Errorf("ring %s: %w", extension, worst)
}

// weightier keeps the answer that says most: a no weighs more than silence.
func weightier(a, b error) error {
	if a == nil || errors.Is(b, ErrDeclined) && !errors.Is(a, ErrDeclined) {
		return b
	}
	return a
}

func isGlobal(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code >= 600
}

// callTo prepares the call to one telephone.
func (a *Agent) callTo(b Binding, who Caller) (*Call, []sip.Header, error) {
	var target sip.Uri
	if err := sip.ParseUri(b.Contact, &target); err != nil {
		return nil, nil, fmt.Errorf("%w: contact: %w", ErrUnreachable, err)
	}
	target.Headers = nil // RFC 4475 §3.3.14: never trusted
	f, err := a.outFlow(b.Source, b.Transport, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	f = a.wayTo(f, target)
	remote := sip.ToHeader{Address: sip.Uri{Scheme: "sip", User: b.Extension, Host: hostText(f.local.Addr())}}
	local := anonymousFrom
	var extra []sip.Header
	if who.Number != "" {
		host := hostText(f.local.Addr())
		local = sip.FromHeader{DisplayName: escapeName(who.Name), Address: sip.Uri{Scheme: "sip", User: escapeUser(who.Number), Host: host}}
		name := ""
		if who.Name != "" {
			name = quote(who.Name) + " "
		}
		extra = append(extra, sip.NewHeader("P-Asserted-Identity", name+"<sip:"+escapeUser(who.Number)+"@"+bracketed(f.local.Addr())+">"))
	} else if who.Name != "" {
		local.DisplayName = escapeName(who.Name)
	}
	c := a.newCall(local, remote, target, f, defaultLaws, identity{to: b.Extension})
	c.phone, c.far = true, Way{End: EndTelephone, Name: b.Extension}
	if f.tls {
		c.srtp = a.cfg.SRTP
	}
	return c, extra, nil
}

// anonymousFrom is the caller who does not want to be known (RFC 3323 §4.1.1.3).
var anonymousFrom = sip.FromHeader{DisplayName: "Anonymous", Address: sip.Uri{Scheme: "sip", User: "anonymous", Host: "anonymous.invalid"}}

func (a *Agent) newCall(local sip.FromHeader, remote sip.ToHeader, target sip.Uri, f flow, laws []uint8, id identity) *Call {
	c := &Call{a: a, arrived: time.Now(), identity: id, laws: laws}
	c.ctx, c.cancel = context.WithCancelCause(a.ctx)
	c.dlg = newClientDialog(a, local, remote, target, f)
	return c
}

// Transports as a Binding names them.
const (
	transportUDP = "udp"
	transportTCP = "tcp"
	transportTLS = "tls"
)

func transportOf(tcp bool, whom *tls.Config) string {
	switch {
	case whom != nil:
		return transportTLS
	case tcp:
		return transportTCP
	}
	return transportUDP
}

// outFlow is a way to an address; by TLS, to whom is there.
func (a *Agent) outFlow(to netip.AddrPort, transport string, whom *tls.Config) (flow, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	near := a.localFor
	if transport == transportTLS {
		near = a.safeFor
	}
	local, ok := near(to.Addr())
	switch {
	case !ok:
		return flow{}, fmt.Errorf("%w: no address of ours reaches %s", ErrUnreachable, to)
	case transport == transportUDP:
		return a.udpFlow(local, to), nil
	}
	return a.streamFlow(flow{tcp: true, tls: transport == transportTLS, whom: whom, local: local, remote: to}), nil
}

// invite sends an INVITE and follows it on a goroutine to its very end. What
// came of it is sent to results once: nil when the far side answered and the
// call is joined. decided is swapped by whoever settles the matter first: an
// answer, or the one who no longer wants it.
func (a *Agent) invite(ctx context.Context, c *Call, extra []sip.Header, late bool, decided *atomic.Bool, results chan<- error) error {
	if !c.terms().possible() {
		return fmt.Errorf("dial: %w", ErrNoCodec)
	}
	if !a.add(c) {
		return errStopping
	}
	a.ladders.join(ctx, c)
	stream, err := c.open(nil)
	if err != nil {
		a.remove(c)
		return fmt.Errorf("dial: %w", err)
	}
	c.stream = stream
	c.local = local{id: uint64(c.arrived.Unix()), version: 1, addr: stream.Addr()}
	a.enrol(c)
	write := func(r *retry) (attempt, error) {
		req, f := c.dlg.request(sip.INVITE, 0)
		req.AppendHeader(&sip.ContactHeader{Address: c.dlg.contact(f)})
		req.AppendHeader(sip.NewHeader("Allow", allow))
		for _, h := range slices.Concat(extra, r.headers()) {
			req.AppendHeader(h)
		}
		signed := r.sign(req)
		c.mu.Lock()
		c.ackSeq, c.signed, c.branches = req.CSeq().SeqNo, signed, nil // a refusal has ended what rang before
		c.mu.Unlock()
		if !late {
			req.AppendHeader(sip.NewHeader("Content-Type", sdpType))
			req.SetBody(c.local.offer(c.laws, sendRecv, c.terms()))
		}
		tx, err := a.start(ctx, req, f)
		if err == nil {
			tx.OnRetransmission(func(res *sip.Response) { a.onStray(res) }) // another 2xx: a fork
		}
		return attempt{req, f, tx}, err
	}
	learned := &retry{proofs: proofs{account: c.account}}
	first, err := write(learned)
	if err != nil {
		c.finish(ErrUnreachable, false)
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if !a.begin() {
		first.tx.Terminate()
		c.finish(errStopping, false)
		return errStopping
	}
	go func() {
		defer a.work.Done()
		defer a.caught("INVITE")
		a.follow(ctx, c, first, learned, write, late, decided, results)
	}()
	return nil
}

// attempt is an INVITE on its way.
type attempt struct {
	req *sip.Request
	f   flow
	tx  sip.ClientTransaction
}

// follow reads what comes back for an INVITE. A refusal that tells what to do
// otherwise is followed by another one, that write makes. A switch that only says that it
// tries is left for the next one where c.progress says so: it is sent a CANCEL, and who
// asked is told when it has answered that, or five seconds later, so that no two lines
// ring at once. What is lifted in that instant counts, what is lifted later is hung up.
func (a *Agent) follow(ctx context.Context, c *Call, now attempt, learned *retry, write func(*retry) (attempt, error), late bool, decided *atomic.Bool, results chan<- error) {
	told := false
	tell := func(err error) {
		if !told {
			told = true
			results <- err
		}
	}
	fail := func(err error) {
		tell(err)
		c.finish(err, false)
	}
	limit, progress := time.NewTimer(firstAnswer), time.NewTimer(c.progress)
	defer limit.Stop()
	defer progress.Stop()
	if c.progress == 0 {
		progress.Stop()
	}
	var canceled, left, provisional bool // left: withdrawn, but who asked has not been told
	unwanted, gone, quit := ctx.Done(), c.ctx.Done(), a.quit
	cancel := func(reason error) {
		if canceled {
			return
		}
		canceled = true
		unwanted, gone = nil, nil
		limit.Reset(cancelWait)
		if a.stopping() {
			limit.Reset(byeLongest)
		}
		tell(reason)
		if provisional && !left {
			a.cancelInvite(ctx, now.req, now.f, reason)
		}
	}
	for {
		select {
		case res := <-now.tx.Responses():
			switch {
			case res.IsProvisional():
				if !provisional && (canceled || left) {
					a.cancelInvite(ctx, now.req, now.f, context.Cause(ctx)) // RFC 3261 §9.1: held back until now
				}
				switch {
				case provisional, canceled:
				case left:
					limit.Reset(firstAnswer)
				default:
					limit.Reset(ringLongest)
				}
				provisional = true
				if res.StatusCode != sip.StatusTrying {
					progress.Stop()
				}
				c.provisional(res, late)
				continue
			case res.IsSuccess():
				err := c.joined(res, late)
				switch {
				case !canceled && err == nil && decided.CompareAndSwap(false, true):
					tell(nil)
					c.Stream().WhenLost(func(why error) { a.later(func() { c.lost(why) }) })
				case err != nil && !canceled:
					tell(err)
					c.finish(err, true)
				default: // trap 2: it crossed our CANCEL, or another telephone was quicker
					tell(errElsewhere)
					c.finish(errElsewhere, true)
				}
				return
			case !canceled && !left && learned.learn(c, res):
				var err error
				if now, err = write(learned); err != nil {
					fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
					return
				}
				provisional = false
				limit.Reset(firstAnswer)
				if c.progress > 0 {
					progress.Reset(c.progress)
				}
			case left && res.StatusCode == sip.StatusRequestTerminated:
				fail(errNoProgress)
				return
			default:
				fail(statusError(res.StatusCode, res.Reason))
				return
			}
		case <-unwanted:
			cancel(context.Cause(ctx))
		case <-gone:
			cancel(c.gone())
		case <-progress.C:
			if canceled {
				continue
			}
			left = true
			if provisional {
				a.cancelInvite(ctx, now.req, now.f, nil)
				limit.Reset(firstAnswer)
			}
		case <-quit:
			quit = nil
			if canceled { // before we began to stop
				limit.Reset(byeLongest)
			}
		case <-limit.C:
			switch {
			case canceled: // neither 487 nor anything else
				now.tx.Terminate()
				fail(ErrUnreachable)
				return
			case !provisional:
				now.tx.Terminate()
				fail(fmt.Errorf("%w: no response", ErrUnreachable))
				return
			case left:
				a.unline(c) // the next switch needs it
				cancel(errNoProgress)
				continue
			}
			cancel(ErrNoAnswer)
		case <-now.tx.Done():
			fail(fmt.Errorf("%w: %w", ErrUnreachable, now.tx.Err()))
			return
		case <-a.stopped:
			now.tx.Terminate()
			fail(errStopping)
			return
		}
	}
}

// joined acknowledges a 2xx and agrees to what it says.
func (c *Call) joined(res *sip.Response, late bool) error {
	c.dlg.confirm(res)
	said, agreed := c.described(res)
	s, err := parseSDP(said)
	var body []byte
	if agreed != nil {
		err = nil
		c.mu.Lock()
		if c.state != over {
			c.agree(*agreed) // of several that rang another one may have been the last to agree
		}
		c.mu.Unlock()
	} else if err == nil && late {
		var g agreement
		if g, err = s.agree(c.source(), c.terms()); err == nil {
			c.mu.Lock()
			body = c.local.answer(s, g)
			if c.state != over {
				c.agree(g)
			}
			c.mu.Unlock()
		}
	} else if err == nil {
		err = c.takeDescription(s)
	}
	c.mu.Lock()
	ended := c.state == over
	if !ended {
		c.state, c.branches = talking, nil
		c.granted(res)
	}
	ack, f := c.dlg.request(sip.ACK, c.ackSeq)
	if body != nil {
		ack.AppendHeader(sip.NewHeader("Content-Type", sdpType))
		ack.SetBody(body)
	}
	signAlike(ack, c.signed)
	c.ack, c.ackFlow = ack, f
	c.mu.Unlock()
	c.sendAck()
	if ended { // we hung up while it rang: now it must hear of it
		c.a.later(func() { c.bye(nil) })
		return c.gone()
	}
	if err != nil && !errors.Is(err, ErrNoCodec) {
		err = fmt.Errorf("%w: %w", ErrNoCodec, err)
	}
	return err
}

func (c *Call) sendAck() {
	c.mu.Lock()
	ack, f := c.ack, c.ackFlow
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.a.ctx, dialLongest)
	defer cancel()
	if err := c.a.post(ctx, ack.Clone(), f); err != nil {
		c.a.log.Debug("sip: ACK not sent", "error", err)
	}
}

// acknowledgeAgain repeats the ACK for a 2xx that came again; false: it is
// another one. It runs on the reader's goroutine.
func (c *Call) acknowledgeAgain(res *sip.Response) bool {
	c.mu.Lock()
	mine := c.ack != nil && res.CSeq().SeqNo == c.ackSeq
	c.mu.Unlock()
	c.dlg.mu.Lock()
	mine = mine && rawParam(res.To().Params, "tag") == c.dlg.remoteTag
	c.dlg.mu.Unlock()
	if mine {
		c.a.later(c.sendAck)
	}
	return mine
}

// cancelInvite sends a CANCEL (RFC 3261 §9.1): the INVITE's own Via, no body.
func (a *Agent) cancelInvite(ctx context.Context, invite *sip.Request, f flow, why error) {
	req := sip.NewRequest(sip.CANCEL, invite.Recipient)
	req.AppendHeader(sip.HeaderClone(invite.Via()))
	forwards := sip.MaxForwardsHeader(maxForwards)
	req.AppendHeader(&forwards)
	sip.CopyHeaders("Route", invite, req)
	for _, h := range []sip.Header{invite.From(), invite.To(), invite.CallID()} {
		req.AppendHeader(sip.HeaderClone(h))
	}
	req.AppendHeader(&sip.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: sip.CANCEL})
	if errors.Is(why, errElsewhere) {
		req.AppendHeader(sip.NewHeader("Reason", elsewhere))
	}
	a.later(func() { _, _ = a.ask(a.ctx, req, f, cancelWait) })
}

// onStray gets 2xx that belong to no call of ours any more, and those of a
// second branch: somebody lifted a handset and must be told (trap 3).
func (a *Agent) onStray(res *sip.Response) {
	if !res.IsSuccess() || res.CSeq() == nil || res.CSeq().MethodName != sip.INVITE || res.From() == nil || res.To() == nil {
		return
	}
	c := a.dialog(res.CallID().Value(), rawParam(res.From().Params, "tag"))
	if c == nil {
		return
	}
	c.dlg.mu.Lock()
	same := c.dlg.remoteTag == rawParam(res.To().Params, "tag")
	c.dlg.mu.Unlock()
	if same {
		c.acknowledgeAgain(res)
		return
	}
	second := c.dlg.branchOf(res, res.CSeq().SeqNo)
	c.mu.Lock()
	signed := c.signed
	c.mu.Unlock()
	a.later(func() {
		ack, f := second.request(sip.ACK, res.CSeq().SeqNo)
		signAlike(ack, signed)
		_ = a.post(a.ctx, ack, f)
		_, _ = c.insist(func() (*sip.Request, flow) { return second.request(sip.BYE, 0) }, byeWait)
	})
}

// escapeUser makes text fit for the user part of an address.
func escapeUser(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || slices.Contains([]byte("-_.!~*'()&=+$,"), c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// escapeName makes a name fit to stand between the quotes that sipgo writes.
func escapeName(s string) string {
	if s == "" {
		return ""
	}
	q := quote(s)
	return q[1 : len(q)-1]
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}
