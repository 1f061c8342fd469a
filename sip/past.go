package sip

import (
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"
)

// tombstone is how long what is over may still be asked for: 64·T1, in which a request that
// was lost, or whose answer was, comes again (RFC 3261 §17.1.2.2).
const (
	tombstone = 32 * time.Second
	digEvery  = time.Second // what is past is forgotten that often, not each by its own clock
)

// past is what is left of a call that came in and is over: enough to answer what may still
// come. Thousands end within those 32 seconds, and each was a hundred times as large.
type past struct {
	trunk     string
	remote    netip.Addr
	moved     netip.Addr // see dialog
	tls       bool
	remoteTag string
	remoteSeq uint32 // of their last request
	accepted  uint32 // of the INVITE that we accepted
	saidBye   bool
	byeSeq    uint32
}

// burial is a dialog to be forgotten, with the INVITE that it began with.
type burial struct {
	at     time.Time // then
	dialog string
	invite string // "": its transaction sees to it
}

// bury forgets a call once no retransmission of its last requests can come; all of it at
// once but what answers them, when nothing of it is wanted any more.
func (a *Agent) bury(c *Call, all bool) {
	b := burial{at: time.Now().Add(tombstone), dialog: c.dlg.callID + "|" + c.dlg.localTag, invite: c.key}
	var p *past
	if all {
		p = c.pass()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if inv := a.invites[b.invite]; inv == nil || !inv.settled {
		b.invite = ""
	}
	if p != nil && a.dialogs[b.dialog] == c {
		delete(a.dialogs, b.dialog)
		a.past[b.dialog] = p
	}
	a.buried = append(a.buried, b)
	switch {
	case a.digger == nil:
		a.digger = time.AfterFunc(tombstone, a.dig)
	case len(a.buried) == 1:
		a.digger.Reset(tombstone)
	}
}

// dig forgets what was buried long enough ago.
func (a *Agent) dig() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, n := time.Now(), 0
	for _, b := range a.buried {
		if b.at.After(now) {
			break
		}
		delete(a.dialogs, b.dialog)
		delete(a.past, b.dialog)
		if b.invite != "" {
			a.drop(b.invite)
		}
		n++
	}
	a.buried = append(a.buried[:0], a.buried[n:]...)
	if len(a.buried) > 0 {
		a.digger.Reset(max(a.buried[0].at.Sub(now), digEvery))
	} else {
		a.buried = nil
	}
}

// pass is what will be left of the call.
func (c *Call) pass() *past {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dlg.mu.Lock()
	defer c.dlg.mu.Unlock()
	return &past{trunk: c.trunk, remote: c.dlg.flow.remote.Addr(), moved: c.dlg.moved, tls: c.dlg.flow.tls, remoteTag: c.dlg.remoteTag,
		remoteSeq: c.dlg.remoteSeq, accepted: c.accepted, saidBye: c.saidBye, byeSeq: c.byeSeq}
}

// meant finds the call that a request is for, or what is left of it; neither: it is as if
// there were none, for one who has no business with it.
func (a *Agent) meant(f flow, m *raw) (*Call, *past) {
	ours := tag(m.get("to"))
	if ours == "" {
		return nil, nil
	}
	id, theirs := m.get("call-id")+"|"+ours, tag(m.get("from"))
	a.mu.Lock()
	c, p := a.dialogs[id], a.past[id]
	a.mu.Unlock()
	switch {
	case c != nil && a.belongs(c, f.remote.Addr()) && c.dlg.isWith(theirs):
		return c, nil
	case p != nil && p.remoteTag == theirs && (p.remote == f.remote.Addr() || p.moved == f.remote.Addr() || a.isOf(f.remote.Addr(), p.trunk)):
		return nil, p
	}
	return nil, nil
}

// onAck tells whether an ACK is, once more, of the 2xx.
func (p *past) onAck(m *raw) bool {
	seq, _, _ := m.cseq()
	return seq == p.accepted
}

// onLateBye answers a BYE after the end: one that crossed ours, or comes again.
func (a *Agent) onLateBye(f flow, m *raw, p *past) {
	seq, _, _ := m.cseq()
	a.mu.Lock()
	status := sip.StatusOK
	switch {
	case p.tls && !f.tls, p.saidBye && seq != p.byeSeq:
		status = sip.StatusCallTransactionDoesNotExists
	case p.saidBye:
	case seq <= p.remoteSeq && p.remoteSeq != 0:
		status = sip.StatusInternalServerError // RFC 3261 §12.2.2: out of order
	default:
		p.saidBye, p.byeSeq = true, seq
	}
	a.mu.Unlock()
	a.reply(f, m, status, reasonOf(status))
}
