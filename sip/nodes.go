package sip

import (
	"context"
	"errors"
	"fmt"
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

// A second call of a telephone goes the other way: the node that it has registered at
// passes it to the one that has its talk, with an INVITE of the same kind.

// What a call from one node asks of another.
const (
	asksRing   = "ring"   // the telephones of an extension
	asksSecond = "second" // a talk: to take it for the second call of its operator's telephone
)

const (
	nodeHeader   = "Pronto-Node"    // of an INVITE from one node to another: name, instant, proof, and what it asks unless that is to ring
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
func (a *Agent) nodeLine(asks, user, callID, tag string, now time.Time) sip.Header {
	at := strconv.FormatInt(now.Unix(), 10)
	line := a.cfg.Node + " " + at + " " + a.cfg.Peers.Prove(asks, a.cfg.Node, at, user, callID, tag)
	if asks != asksRing { // a node of before knows no other
		line += " " + asks
	}
	return sip.NewHeader(nodeHeader, line)
}

// nodeAsks reads from such a header which node asks, and what.
func nodeAsks(value string) (node, asks string) {
	words := strings.Fields(value)
	if len(words) == 4 {
		return words[0], words[3]
	}
	node, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	return node, asksRing
}

// fromNode tells whether an INVITE is another node's: it comes from the address
// of one that lives, and proves to know what only nodes know.
func (a *Agent) fromNode(f flow, m *raw, uri string, now time.Time) bool {
	line := m.get(strings.ToLower(nodeHeader))
	words := strings.Fields(line)
	_, asks := nodeAsks(line)
	if n := len(words); n != 3 && (n != 4 || asks != asksSecond) || !a.isPeer(f.remote.Addr()) {
		return false
	}
	at, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > nodeFresh {
		return false
	}
	_, user, _ := uriParts(uri)
	return a.cfg.Peers.Proven(words[2], asks, words[0], words[1], user, m.get("call-id"), tag(m.get("from")))
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

// callNode prepares the call to another node that is to ring an extension, or to take
// the call for what asks says.
func (a *Agent) callNode(node netip.AddrPort, asks, user string, who Caller) (*Call, []sip.Header, error) {
	b := Binding{Extension: user, Contact: "sip:" + user + "@" + node.String(), Source: node, Transport: transportUDP}
	c, extra, err := a.callTo(b, who)
	if err != nil {
		return nil, nil, err
	}
	c.far.End = EndNode
	return c, append(extra, a.nodeLine(asks, user, c.dlg.callID, c.dlg.localTag, time.Now())), nil
}

// relay rings a telephone of ours for another node, and joins the two sides until
// one hangs up.
func (a *Agent) relay(c *Call) {
	node, asks := nodeAsks(header(c.req, strings.ToLower(nodeHeader)))
	if asks == asksSecond {
		a.second(c, node)
		return
	}
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
	a.later(func() { a.outlive(c, node) })
	a.later(func() { c.mirror(leg.Stream()) })
	if err := c.Bridge(c.ctx, leg); err != nil && c.Err() == nil {
		a.log.Warn("sip: a talk for another node broke off", "call", c.ID(), "error", err)
	}
}

// second takes the second call of a telephone from the node that it has registered at.
func (a *Agent) second(c *Call, node string) {
	if a.cfg.Second == nil || !a.relayed.first(c.ID(), c.arrived) {
		_ = c.refuse(sip.StatusForbidden, 0)
		return
	}
	if err := c.Answer(c.ctx); err != nil {
		a.log.Info("sip: the second call of a telephone of another node could not be answered", "call", c.ID(), "error", err)
		return
	}
	a.later(func() { a.outlive(c, node) })
	a.cfg.Second(c.ctx, c, c.req.Recipient.User)
}

// Pass gives a call of a telephone of ours that Dialled conducts to the node that has its
// talk, which `what` names to it: it is answered as soon as that one has, and the two
// sides are joined until one hangs up. A call that was not passed is not answered.
func (a *Agent) Pass(ctx context.Context, c *Call, node, what string) error {
	at, lives := netip.AddrPort{}, false
	if a.cfg.Peers != nil {
		at, lives = a.cfg.Peers.Where(node)
	}
	if !lives {
		return fmt.Errorf("pass a call to %s: %w", node, ErrUnreachable)
	}
	leg, err := a.ring(ctx, what, Caller{}, []way{{binding: Binding{Extension: what}, node: at, asks: asksSecond}})
	if err != nil {
		return fmt.Errorf("pass a call to %s: %w", node, err)
	}
	if err := c.Answer(ctx); err != nil {
		leg.Hangup(context.WithoutCancel(ctx))
		return fmt.Errorf("pass a call to %s: %w", node, err)
	}
	a.later(func() { a.outlive(c, node) })
	return c.Bridge(ctx, leg)
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
