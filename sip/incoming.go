package sip

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// onInvite runs on a goroutine of its own for every INVITE that the edge let
// through: a new call lives on it to its end (TELEPHONY P15).
func (a *Agent) onInvite(req *sip.Request, tx sip.ServerTransaction) {
	f := a.flowOf(req)
	key := inviteKey(f, named(req))
	if a.isSettled(key) {
		return // it came again, and was read, while its call was answered
	}
	tx.OnTerminate(func(string, error) { a.unclaim(key) })
	if rawParam(req.To().Params, "tag") != "" {
		a.onReinvite(req, tx, f, key)
		return
	}
	if a.saysPhone(key) != "" {
		m, ok := scan([]byte(req.String()))
		if !ok || !a.authentic(req, tx, f, m) {
			return
		}
	}
	a.onCall(req, tx, f, key)
}

// named are the headers by which an INVITE is known (inviteKey), as its parser kept
// them.
func named(req *sip.Request) *raw {
	return &raw{headers: []rawHeader{{"via", req.Via().Value()}, {"call-id", req.CallID().Value()}, {"from", req.From().Value()}, {"cseq", req.CSeq().Value()}}}
}

// flowOf is the way a request came.
func (a *Agent) flowOf(req *sip.Request) flow {
	remote, _ := netip.ParseAddrPort(req.Source())
	remote = netip.AddrPortFrom(remote.Addr().Unmap().WithZone(""), remote.Port())
	if strings.EqualFold(req.Transport(), "TCP") {
		if c := a.connAt(remote); c != nil {
			return c.flow
		}
		local, _ := a.localFor(remote.Addr()) // it is gone
		return a.streamFlow(flow{tcp: true, local: local, remote: remote})
	}
	local, _ := a.localFor(remote.Addr())
	return a.udpFlow(local, remote)
}

// onCall makes a call of an INVITE and lets Handle conduct it.
func (a *Agent) onCall(req *sip.Request, tx sip.ServerTransaction, f flow, key string) {
	c := &Call{a: a, arrived: time.Now(), identity: identify(req), req: req, tx: tx, key: key, laws: defaultLaws}
	if phone := a.saysPhone(key); phone != "" {
		c.phone, c.far = true, Way{End: EndTelephone, Name: phone}
	}
	ladder := a.ladders.of(req.CallID().Value())
	c.ctx, c.cancel = context.WithCancelCause(context.WithValue(a.ctx, ladderKey{}, ladder))
	defer c.cancel(ErrEnded)
	c.dlg = newServerDialog(a, req, f, randomText())
	if !a.add(c) {
		res := c.response(req, sip.StatusServiceUnavailable, nil)
		res.AppendHeader(sip.NewHeader("Retry-After", "30"))
		_ = tx.Respond(res)
		return
	}
	c.ladder = a.ladders.hold(ladder)
	defer a.remove(c)
	inv, ok := a.claim(key, c.canceled)
	if ok {
		c.dlg.flow = inv.flow
		c.trunk = inv.trunk
	} else {
		c.trunk, _ = a.trunkOf(f.remote.Addr())
	}
	if i := slices.IndexFunc(a.cfg.Trunks, func(t Trunk) bool { return t.Name == c.trunk }); i >= 0 {
		c.srtp = a.cfg.Trunks[i].SRTP
	}
	c.beyond = !a.line(c, c.trunk)
	defer time.AfterFunc(tryingAfter, c.trying).Stop()
	if c.Err() != nil {
		a.log.Info("sip: cancelled before it arrived", "call", c.ID())
	}
	defer c.end()
	if ok && inv.phone != "" {
		a.onDialled(c, inv.phone)
		return
	}
	if ok && inv.node {
		a.relay(c)
		return
	}
	a.cfg.Handle(c.ctx, c)
}

// trying says that we are at it, to a caller who has heard nothing for a while. RFC 3261
// §17.2.1 asks for it unless an answer follows within 200 ms, and hardly a call waits so long.
func (c *Call) trying() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == ringing && !c.early {
		_ = c.tx.Respond(c.response(c.req, sip.StatusTrying, nil))
	}
}

// end is what happens when the handler has returned, or stumbled: nobody stays
// on the line.
func (c *Call) end() {
	status := sip.StatusInternalServerError
	if r := recover(); r != nil { // one logged call, never the process
		c.a.log.Error("sip: the call's handler stumbled", "call", c.ID(), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	}
	c.mu.Lock()
	state := c.state
	c.mu.Unlock()
	switch state {
	case ringing:
		_ = c.refuse(status, 0)
	case answered, talking:
		c.hangUp(ErrEnded)
	}
}

// onReinvite renegotiates a call (RFC 3261 §14): hold, resume, another address.
func (a *Agent) onReinvite(req *sip.Request, tx sip.ServerTransaction, f flow, key string) {
	_, _ = a.claim(key, nil)
	c := a.dialog(req.CallID().Value(), rawParam(req.To().Params, "tag"))
	if c == nil {
		a.respond(req, tx, sip.StatusCallTransactionDoesNotExists)
		return
	}
	c.mu.Lock()
	switch {
	case c.state == over:
		c.mu.Unlock()
		a.respond(req, tx, sip.StatusCallTransactionDoesNotExists)
		return
	case c.busy() != 0:
		status := c.busy()
		c.mu.Unlock()
		a.putOff(req, tx, status)
		return
	}
	c.inviting = true
	c.mu.Unlock()
	status := c.dlg.accepts(req, f)
	var answer []byte
	if status == 0 {
		var err error
		if answer, err = c.renegotiate(req, true); err != nil {
			status = sip.StatusNotAcceptableHere // the session stays as it was (RFC 3261 §14.2)
		}
	}
	w := newWaiting(req.CSeq().SeqNo)
	c.mu.Lock()
	if c.state == over {
		status = sip.StatusCallTransactionDoesNotExists
	}
	if status != 0 {
		c.inviting = false
		c.mu.Unlock()
		a.respond(req, tx, status)
		return
	}
	ok := c.accept(req, answer)
	c.waiting, c.accepted = w, w.seq
	c.inviting = false // from here on it is ours that is open
	err := tx.Respond(ok)
	if err != nil { // its connection is gone: nobody will acknowledge what nobody got
		c.waiting = nil
		close(w.rest)
	}
	c.mu.Unlock()
	if err != nil {
		return
	}
	newResending(func() error { return tx.Respond(ok) }, w).run(c, nil, nil)
	if late := len(sessionBody(header(req, "content-type", "c"), req.Body())) == 0; late && isDone(w.done) {
		if err := c.takeAnswer(w); err != nil { // the session stays as it was
			a.log.Debug("sip: an answer in an ACK that changes nothing", "call", c.ID(), "error", err)
		}
	}
}

// renegotiate takes an offer and gives our answer, or our offer when there is
// none in an INVITE.
func (c *Call) renegotiate(req *sip.Request, offerBack bool) ([]byte, error) {
	body := sessionBody(header(req, "content-type", "c"), req.Body())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(body) == 0 && !offerBack {
		return nil, nil
	}
	if c.stream == nil || c.state == over {
		return nil, ErrEnded
	}
	if len(body) == 0 {
		return c.local.offer(c.laws, sendRecv, c.terms()), nil
	}
	offer, err := parseSDP(body)
	if err != nil {
		return nil, err
	}
	g, err := offer.agreeAgain(c.source(), c.format, c.terms())
	if err != nil {
		return nil, err
	}
	c.rekey(g)
	answer := c.local.answer(offer, g)
	c.agree(g)
	if b := c.ringsBy(req); b != nil {
		b.agreed = &g
	}
	return answer, nil
}

// inDialog finds the call of a request inside a dialog and checks its number;
// nil: it was answered.
func (a *Agent) inDialog(req *sip.Request, tx sip.ServerTransaction) *Call {
	c := a.dialog(req.CallID().Value(), rawParam(req.To().Params, "tag"))
	if c == nil {
		a.respond(req, tx, sip.StatusCallTransactionDoesNotExists)
		return nil
	}
	c.mu.Lock()
	gone := c.state == over // what may come then is a BYE (onBye)
	c.mu.Unlock()
	if gone {
		a.respond(req, tx, sip.StatusCallTransactionDoesNotExists)
		return nil
	}
	if status := c.dialogOf(req).accepts(req, a.flowOf(req)); status != 0 {
		a.respond(req, tx, status)
		return nil
	}
	return c
}

// dialogOf is the dialog that a request counts in. While a call of ours rings, who rings
// may change how (RFC 3311) or ask; only the answer, or a refusal, ends it.
func (c *Call) dialogOf(req *sip.Request) *dialog {
	switch req.Method {
	case sip.UPDATE, sip.INFO, sip.OPTIONS:
		c.mu.Lock()
		defer c.mu.Unlock()
		if b := c.ringsBy(req); b != nil {
			return b.dlg
		}
	}
	return c.dlg
}

// onBye ends a call. Both sides may say BYE at once: each gets its 200 (trap 19). It needs no
// transaction: one that comes again gets the same answer (RFC 3261 §8.2.7).
func (a *Agent) onBye(f flow, m *raw, c *Call) {
	seq, _, _ := m.cseq()
	c.mu.Lock() // to the end of the decision: the next may be at its heels
	status := 0
	switch {
	case c.saidBye && c.byeSeq == seq:
		status = sip.StatusOK
	case c.saidBye && c.state == over:
		status = sip.StatusCallTransactionDoesNotExists
	default:
		status = c.dlg.counts(tag(m.get("from")), seq, f)
	}
	if status == 0 {
		c.saidBye, c.byeSeq = true, seq
	}
	unanswered := c.state == ringing && c.tx != nil
	c.mu.Unlock()
	if status != 0 {
		a.reply(f, m, status, reasonOf(status))
		return
	}
	if unanswered { // RFC 3261 §15.1.2: of a dialog that a 180 made known
		c.canceled()
	}
	c.finish(ErrHungUp, false) // first: whoever reads our 200 finds no dialog any more
	a.reply(f, m, sip.StatusOK, reasonOf(sip.StatusOK))
}

// onUpdate refreshes a session, or renegotiates it without an ACK (RFC 3311).
func (a *Agent) onUpdate(req *sip.Request, tx sip.ServerTransaction) {
	c := a.inDialog(req, tx)
	if c == nil {
		return
	}
	c.mu.Lock()
	busy := c.busy()
	if b := c.ringsBy(req); b != nil && b.settled {
		busy = 0
	}
	c.mu.Unlock()
	if len(req.Body()) > 0 && busy != 0 {
		a.putOff(req, tx, busy) // RFC 3311 §5.2
		return
	}
	answer, err := c.renegotiate(req, false)
	if err != nil {
		a.respond(req, tx, sip.StatusNotAcceptableHere)
		return
	}
	c.mu.Lock()
	res := c.accept(req, answer)
	c.mu.Unlock()
	_ = tx.Respond(res)
}

// onInfo takes keys of telephones that know no telephone-event (TELEPHONY 2.6);
// where it was agreed, keys come that way only.
func (a *Agent) onInfo(req *sip.Request, tx sip.ServerTransaction) {
	c := a.inDialog(req, tx)
	if c == nil {
		return
	}
	key := infoKey(mediaType(header(req, "content-type", "c")), string(req.Body()))
	if s, err := c.sound(); err == nil && key != 0 {
		s.Press(key)
	}
	a.respond(req, tx, sip.StatusOK)
}

// infoKey reads "Signal=5\r\nDuration=160" or a plain "5".
func infoKey(kind, body string) rune {
	text := strings.TrimSpace(body)
	if kind == dtmfRelayType {
		text = ""
		for line := range strings.FieldsFuncSeq(body, func(r rune) bool { return r == '\r' || r == '\n' }) {
			name, value, _ := strings.Cut(line, "=")
			if strings.EqualFold(strings.TrimSpace(name), "signal") {
				text = strings.TrimSpace(value)
			}
		}
	}
	if len(text) != 1 || !strings.Contains("0123456789*#ABCD", strings.ToUpper(text)) {
		return 0
	}
	return rune(strings.ToUpper(text)[0])
}

// onOptions answers the question of a peer whether a dialog still stands.
func (a *Agent) onOptions(req *sip.Request, tx sip.ServerTransaction) {
	if c := a.inDialog(req, tx); c != nil {
		a.respond(req, tx, sip.StatusOK, sip.NewHeader("Allow", allow), sip.NewHeader("Accept", acceptBodies))
	}
}
