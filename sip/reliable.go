package sip

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Provisional answers that are acknowledged (RFC 3262): ours where the caller requires
// it, the far side's whenever it sends them. We never ask for them ourselves, unless a
// carrier answers 421.

const reliably = "100rel"

// branch is one of the telephones that our INVITE makes ring.
type branch struct {
	rseq     uint32 // of the last answer that was taken
	body     []byte // the session it described, if it did
	answered bool   // which was an offer, and our PRACK had the answer
}

const branchesMost = 16 // of one INVITE; more are not acknowledged, and give up

// alertReliably sends 180 with a number and repeats it until PRACK comes. c.mu is
// held.
func (c *Call) alertReliably() error {
	if c.pracked != nil || len(sessionBody(header(c.req, "content-type", "c"), c.req.Body())) == 0 {
		// Once is enough. And without an offer in the INVITE ours would have to be in
		// the 180 (RFC 3261 §13.2.1): such a caller hears nothing until we answer.
		return nil
	}
	c.rseq, c.pracked, c.early = randomSeq(), make(chan struct{}), true
	res := c.response(c.req, sip.StatusRinging, nil)
	res.AppendHeader(sip.NewHeader("Require", reliably))
	res.AppendHeader(sip.NewHeader("RSeq", fmt.Sprint(c.rseq)))
	c.a.enrol(c)
	if err := c.tx.Respond(res); err != nil {
		return err
	}
	pracked := c.pracked
	c.a.later(func() { c.repeat(res, pracked) })
	return nil
}

// repeat sends a 180 again until it is acknowledged, T1 apart and twice as long each
// time (RFC 3262 §3). After 64·T1 the INVITE should be refused: but who calls is
// there, and does not hear less than without it, so we go on.
func (c *Call) repeat(res *sip.Response, pracked chan struct{}) {
	for interval := sip.T1; interval < 64*sip.T1; interval *= 2 {
		t := time.NewTimer(interval)
		select {
		case <-t.C:
		case <-pracked:
		case <-c.ctx.Done():
		}
		t.Stop()
		c.mu.Lock()
		if c.state != ringing || isDone(pracked) {
			c.mu.Unlock()
			return
		}
		_ = c.tx.Respond(res)
		c.mu.Unlock()
	}
}

// onPrack takes the acknowledgement of a 180 of ours. It may come after our 200.
func (a *Agent) onPrack(req *sip.Request, tx sip.ServerTransaction) {
	c := a.inDialog(req, tx)
	if c == nil {
		return
	}
	f := strings.Fields(header(req, "rack"))
	c.mu.Lock()
	want := []string{fmt.Sprint(c.rseq), "", string(sip.INVITE)}
	if c.req != nil {
		want[1] = fmt.Sprint(c.req.CSeq().SeqNo)
	}
	match := c.pracked != nil && !isDone(c.pracked) && len(f) == 3 && f[0] == want[0] && f[1] == want[1] && f[2] == want[2]
	if match {
		close(c.pracked)
	}
	c.mu.Unlock()
	if !match {
		a.respond(req, tx, sip.StatusCallTransactionDoesNotExists) // RFC 3262 §3
		return
	}
	a.respond(req, tx, sip.StatusOK)
}

// provisional acknowledges an answer of the far side's that wants it, in its order
// (RFC 3262 §4); one that comes again has a PRACK on its way.
func (c *Call) provisional(res *sip.Response, late bool) {
	to := rawParam(res.To().Params, "tag")
	n, err := strconv.ParseUint(strings.TrimSpace(header(res, "rseq")), 10, 32)
	if res.StatusCode == sip.StatusTrying || err != nil || n == 0 || to == "" || !has(res, reliably, "require") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.branches[to]
	switch {
	case b == nil && len(c.branches) == branchesMost, b != nil && uint32(n) != b.rseq+1, c.state != ringing:
		return
	case b == nil:
		b = &branch{}
		if c.branches == nil {
			c.branches = map[string]*branch{}
		}
		c.branches[to] = b
	}
	b.rseq = uint32(n)
	prack, f := c.dlg.branchOf(res, 0).request(sip.PRACK, c.dlg.number())
	prack.AppendHeader(sip.NewHeader("RAck", fmt.Sprintf("%d %d %s", n, res.CSeq().SeqNo, sip.INVITE)))
	if body := sessionBody(header(res, "content-type", "c"), res.Body()); len(body) > 0 && b.body == nil {
		b.body = append([]byte{}, body...)
		if answer := c.early183(b, late); answer != nil {
			prack.AppendHeader(sip.NewHeader("Content-Type", sdpType))
			prack.SetBody(answer)
		}
	}
	c.a.later(func() { _, _ = c.a.ask(c.a.ctx, prack, f, byeWait) })
}

// early183 answers the offer of a far side that was sent none (RFC 3262 §5); nil: it
// was an answer. c.mu is held.
func (c *Call) early183(b *branch, late bool) []byte {
	if !late {
		return nil
	}
	s, err := parseSDP(b.body)
	if err != nil {
		return nil
	}
	g, err := s.agree(c.source(), c.terms())
	if err != nil {
		return nil
	}
	b.answered = true
	c.agree(g)
	return c.local.answer(s, g)
}

// described is the session that a 2xx describes, or the reliable answer before it;
// done: everything about it has been agreed.
func (c *Call) described(res *sip.Response) (body []byte, done bool) {
	body = sessionBody(header(res, "content-type", "c"), res.Body())
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.branches[rawParam(res.To().Params, "tag")]
	if b == nil || b.body == nil {
		return body, false
	}
	return b.body, b.answered // RFC 3262 §5: what the 2xx repeats of it says nothing new
}

// number takes the next number of the dialog.
func (d *dialog) number() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	return d.seq
}

// branchOf is the dialog of one of several who answer the same INVITE.
func (d *dialog) branchOf(res *sip.Response, seq uint32) *dialog {
	d.mu.Lock()
	second := &dialog{a: d.a, callID: d.callID, localTag: d.localTag, local: d.local, remote: d.remote, target: d.target, seq: seq, flow: d.flow}
	d.mu.Unlock()
	second.confirm(res)
	return second
}
