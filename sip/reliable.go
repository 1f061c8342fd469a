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

// branch is one of the telephones that our INVITE makes ring: a dialog of its own (RFC
// 3261 §12.1), until one is lifted.
type branch struct {
	dlg     *dialog
	rseq    uint32     // of the last answer that was acknowledged; 0: none
	body    []byte     // the session that such a one described, if it did
	settled bool       // with that, offer and answer are through: theirs may come
	agreed  *agreement // to an offer of theirs, which has our answer
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

// provisional notes who rings, and acknowledges an answer of the far side's that wants
// it, in its order (RFC 3262 §4); one that comes again has a PRACK on its way.
func (c *Call) provisional(res *sip.Response, late bool) {
	to := rawParam(res.To().Params, "tag")
	if res.StatusCode == sip.StatusTrying || to == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.branches[to]
	switch {
	case c.state != ringing, b == nil && len(c.branches) == branchesMost:
		return
	case b == nil:
		b = &branch{dlg: c.dlg.branchOf(res, 0)}
		if c.branches == nil {
			c.branches = map[string]*branch{}
		}
		c.branches[to] = b
	}
	n, err := strconv.ParseUint(strings.TrimSpace(header(res, "rseq")), 10, 32)
	if err != nil || n == 0 || b.rseq != 0 && uint32(n) != b.rseq+1 || !has(res, reliably, "require") {
		return
	}
	b.rseq = uint32(n)
	var answer []byte
	if body := sessionBody(header(res, "content-type", "c"), res.Body()); len(body) > 0 && b.body == nil {
		b.body = append([]byte{}, body...)
		answer = c.early183(b, late)
	}
	write := func() (*sip.Request, flow) {
		prack, f := b.dlg.request(sip.PRACK, c.dlg.number())
		prack.AppendHeader(sip.NewHeader("RAck", fmt.Sprintf("%d %d %s", n, res.CSeq().SeqNo, sip.INVITE)))
		if answer != nil {
			prack.AppendHeader(sip.NewHeader("Content-Type", sdpType))
			prack.SetBody(answer)
		}
		return prack, f
	}
	c.a.later(func() { _, _ = c.insist(write, byeWait) })
}

// early183 answers the offer of a far side that was sent none (RFC 3262 §5); nil: it
// was an answer. c.mu is held.
func (c *Call) early183(b *branch, late bool) []byte {
	if !late {
		b.settled = true
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
	b.agreed, b.settled = &g, true
	c.agree(g)
	return c.local.answer(s, g)
}

// ringsBy is which of those that our INVITE makes ring has sent a request; nil: none, or
// the call is not one of ours that rings. c.mu is held.
func (c *Call) ringsBy(req *sip.Request) *branch {
	if c.state != ringing || c.tx != nil {
		return nil
	}
	return c.branches[rawParam(req.From().Params, "tag")]
}

// described is the session that a 2xx describes, or the reliable answer before it, or
// what has been agreed to since.
func (c *Call) described(res *sip.Response) (body []byte, agreed *agreement) {
	body = sessionBody(header(res, "content-type", "c"), res.Body())
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.branches[rawParam(res.To().Params, "tag")]
	if b == nil {
		return body, nil
	}
	c.dlg.heard(b.dlg)
	if b.body != nil {
		body = b.body // RFC 3262 §5: what the 2xx repeats of it says nothing new
	}
	return body, b.agreed
}

// heard takes over how far the far side has counted in the dialog before it was lifted.
func (d *dialog) heard(early *dialog) {
	early.mu.Lock()
	seq := early.remoteSeq
	early.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remoteSeq = max(d.remoteSeq, seq)
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
	second := &dialog{a: d.a, callID: d.callID, localTag: d.localTag, sips: d.sips, local: d.local, remote: d.remote, target: d.target, seq: seq, flow: d.flow}
	d.mu.Unlock()
	second.confirm(res)
	return second
}
