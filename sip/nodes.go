package sip

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pronto-desk/pronto/sip/media"
)

// A telephone is rung by the node it has registered at: only that one has its
// connection, or the address that the network between them lets through. The
// node that has the caller sends it an INVITE; it rings, and joins the two sides
// once the handset is lifted. What the telephone says (486, 603), a CANCEL and a
// BYE pass through by being those of the two calls.

const (
	nodeHeader   = "Pronto-Node"    // of an INVITE from one node to another: name, instant, proof
	nodeFresh    = 60 * time.Second // clocks of two nodes may differ by so much; a proof is not accepted later
	lifeEvery    = time.Second      // how often a talk for another node asks whether that one is still there
	maxRelayed   = 4096             // calls remembered within that time: far more than telephones ring
	relayNoPhone = sip.StatusTemporarilyUnavailable
)

// Peers knows the other servers on the same database.
type Peers interface {
	// Where gives the SIP address of a node that lives.
	Where(node string) (netip.AddrPort, bool)
	// Life names the life of a node: another name, and who waits for it no longer
	// does.
	Life(node string) string
	// Knows tells whether a node that lives has this address.
	Knows(netip.Addr) bool
	// Prove makes a proof that words come from a node, Proven checks one.
	Prove(words ...string) string
	Proven(proof string, words ...string) bool
}

// relayed are the calls of other nodes that were begun lately, by Call-ID: a
// proof is good for one.
type relayed struct {
	mu    sync.Mutex // guards since
	since map[string]time.Time
}

// first tells whether a call is new; an old one, or one too many, is not.
func (r *relayed) first(callID string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, at := range r.since {
		if now.Sub(at) > 2*nodeFresh {
			delete(r.since, id)
		}
	}
	if _, known := r.since[callID]; known || len(r.since) >= maxRelayed {
		return false
	}
	r.since[callID] = now
	return true
}

// isPeer tells whether an address is another node's.
func (a *Agent) isPeer(ip netip.Addr) bool { return a.cfg.Peers != nil && a.cfg.Peers.Knows(ip) }

// nodeLine is the header that makes an INVITE of ours known to another node.
func (a *Agent) nodeLine(extension, callID, tag string, now time.Time) sip.Header {
	at := strconv.FormatInt(now.Unix(), 10)
	return sip.NewHeader(nodeHeader, a.cfg.Node+" "+at+" "+a.cfg.Peers.Prove("ring", a.cfg.Node, at, extension, callID, tag))
}

// fromNode tells whether an INVITE is another node's: it comes from the address
// of one that lives, and proves to know what only nodes know.
func (a *Agent) fromNode(f flow, m *raw, uri string, now time.Time) bool {
	words := strings.Fields(m.get(strings.ToLower(nodeHeader)))
	if len(words) != 3 || !a.isPeer(f.remote.Addr()) {
		return false
	}
	at, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > nodeFresh {
		return false
	}
	_, extension, _ := uriParts(uri)
	return a.cfg.Peers.Proven(words[2], "ring", words[0], words[1], extension, m.get("call-id"), tag(m.get("from")))
}

// place tells how a binding is reached: through another node, from here, or not
// at all. A telephone on UDP whose node has died may let itself be rung from
// here, until it registers anew; a connection died with its node.
func (a *Agent) place(b Binding) (node netip.AddrPort, through, ok bool) {
	if b.Node == "" || b.Node == a.cfg.Node || a.cfg.Peers == nil {
		return netip.AddrPort{}, false, true
	}
	if node, ok := a.cfg.Peers.Where(b.Node); ok {
		return node, true, true
	}
	return netip.AddrPort{}, false, b.Transport == transportUDP
}

// callNode prepares the call to another node that is to ring an extension.
func (a *Agent) callNode(node netip.AddrPort, extension string, who Caller) (*Call, []sip.Header, error) {
	b := Binding{Extension: extension, Contact: "sip:" + extension + "@" + node.String(), Source: node, Transport: transportUDP}
	c, extra, err := a.callTo(b, who)
	if err != nil {
		return nil, nil, err
	}
	c.far.End = EndNode
	return c, append(extra, a.nodeLine(extension, c.dlg.callID, c.dlg.localTag, time.Now())), nil
}

// relay rings a telephone of ours for another node, and joins the two sides until
// one hangs up.
func (a *Agent) relay(c *Call) {
	extension := c.req.Recipient.User
	if !isExtension(extension) || !a.relayed.first(c.ID(), c.arrived) {
		_ = c.refuse(sip.StatusForbidden, 0)
		return
	}
	var here []way
	for _, b := range a.bindings(c.ctx, extension, c.arrived) {
		if b.Node == "" || b.Node == a.cfg.Node { // no other: a call goes round in no circle
			here = append(here, way{binding: b})
		}
	}
	leg, err := a.ring(c.ctx, extension, Caller{Number: c.From(), Name: c.Name()}, here)
	a.log.Info("sip: rang a telephone for another node", "call", c.ID(), "extension", extension, "error", err)
	if err != nil {
		_ = c.refuse(relayStatus(err), 0)
		return
	}
	if err := c.Answer(c.ctx); err != nil {
		leg.Hangup(context.WithoutCancel(c.ctx))
		return
	}
	node, _, _ := strings.Cut(strings.TrimSpace(header(c.req, strings.ToLower(nodeHeader))), " ")
	a.later(func() { a.outlive(c, node) })
	a.later(func() { c.mirror(leg.Stream()) })
	if err := c.Bridge(c.ctx, leg); err != nil && c.Err() == nil {
		a.log.Warn("sip: a talk for another node broke off", "call", c.ID(), "error", err)
	}
}

// mirror holds a call as long as a telephone does: its caller is at another node, and
// hears music there.
func (c *Call) mirror(s *media.Stream) {
	for on := true; s.AwaitHold(c.ctx, on) == nil; on = !on {
		if err := c.Hold(c.ctx, on); err != nil && c.Err() == nil {
			c.a.log.Warn("sip: that a telephone holds could not be said to another node", "call", c.ID(), "holds", on, "error", err)
		}
	}
}

// outlive ends a talk for a node that has died: nobody will say BYE, and the
// operator is free for others.
func (a *Agent) outlive(c *Call, node string) {
	life := a.cfg.Peers.Life(node)
	again := time.NewTicker(lifeEvery)
	defer again.Stop()
	for {
		select {
		case <-c.Done():
			return
		case <-again.C:
			if a.cfg.Peers.Life(node) != life {
				a.log.Warn("sip: the node of a caller has died", "call", c.ID(), "node", node)
				c.hangUp(ErrHungUp)
				return
			}
		}
	}
}

// relayStatus tells the other node what the telephone said.
func relayStatus(err error) int {
	var s *StatusError
	if errors.As(err, &s) && s.Code >= 400 {
		return s.Code
	}
	if errors.Is(err, ErrDeclined) {
		return sip.StatusForbidden // a telephone that sends its calls to where they may not go
	}
	return relayNoPhone
}
