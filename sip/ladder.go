package sip

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"
)

// What went over the wire for a call is kept beside it, so that a carrier's
// engineer and ours can look at the same ladder. The edge copies each message as
// it stood, in order, and nothing else happens on the way of a call: what must
// not be kept is taken out once the call has ended (mask.go), and the traces of
// many calls are written together (traces.go).

// Limits of what is kept of the signalling.
const (
	ladderMessage = 4 << 10         // octets of one message: an INVITE through five proxies has some 3 000
	ladderFirst   = 48              // messages of a call's beginning: five telephones that were rung in vain
	ladderUsual   = 8               // messages of an ordinary call, which has six
	ladderLast    = 32              // messages of its end; what came between is counted
	ladderCall    = 64 << 10        // octets of one call; an ordinary one has 6 000
	ladderNode    = 32 << 20        // octets of all calls of a node; beyond, messages are counted only
	ladderWays    = 32              // ways of one call
	ladderLinger  = 4 * time.Second // after the last way has ended: a BYE that got lost twice comes again
	ladderUnheld  = unclaimedKept   // an INVITE of which no call was made
)

// Ends of a way, other than ours.
const (
	EndCarrier   = "carrier"
	EndTelephone = "telephone"
	EndNode      = "node" // another server of ours, which rings a telephone
)

// Way is one way of a call's signalling.
type Way struct {
	CallID  string `json:"call_id"`
	End     string `json:"end" enum:"carrier,telephone,node"`
	Name    string `json:"name"`    // of the trunk; the telephone's extension
	Network string `json:"network"` // UDP, TCP, TLS
	Remote  string `json:"remote"`  // address and port
}

// seen is a message as it was on the wire.
type seen struct {
	at    time.Time
	way   int
	out   bool
	cut   bool // longer than ladderMessage
	again int  // so often repeated, octet by octet
	data  string
}

// ladder is the signalling of one call; its ladders' mutex guards it.
type ladder struct {
	begun  time.Time
	ended  time.Time // when the last way did
	ways   []Way
	first  []seen
	last   []seen
	octets int
	left   int // messages that were not kept
	held   int // calls, and conversations, that are not over
	linger *time.Timer
	done   bool
}

// ladders are those of an agent.
type ladders struct {
	a      *Agent
	wanted bool

	mu     sync.Mutex // guards what follows, and every ladder
	open   map[string]*ladder
	octets int
}

type ladderKey struct{}

// Trace begins the trace of a conversation in which we dial: calls that are made
// with the context belong to it. done says that no more will be.
func (a *Agent) Trace(ctx context.Context) (_ context.Context, done func()) {
	if !a.ladders.wanted {
		return ctx, func() {}
	}
	l := &ladder{begun: time.Now(), held: 1}
	return context.WithValue(ctx, ladderKey{}, l), func() { a.ladders.release(l) }
}

// begin opens the ladder of an INVITE that came in, unless it is a retransmission.
func (t *ladders) begin(way Way) {
	if !t.wanted {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[way.CallID] != nil {
		return
	}
	l := &ladder{begun: time.Now(), ways: []Way{way}}
	t.open[way.CallID] = l
	t.wait(l, ladderUnheld)
}

// of is the ladder of a call that came in; nil: it has none.
func (t *ladders) of(callID string) *ladder {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[callID]
}

// hold keeps a ladder open until release; nil: it was given away.
func (t *ladders) hold(l *ladder) *ladder {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l == nil || l.done {
		return nil
	}
	l.held++
	l.linger.Stop()
	return l
}

// join adds a call that we are about to make to the ladder of its conversation.
func (t *ladders) join(ctx context.Context, c *Call) {
	l, _ := ctx.Value(ladderKey{}).(*ladder)
	if l == nil {
		return
	}
	way := c.far
	way.CallID, way.Network, way.Remote = c.dlg.callID, c.dlg.flow.network(), c.dlg.flow.remote.String()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch other := t.open[way.CallID]; {
	case l.done, other != nil && other != l, other == nil && len(l.ways) >= ladderWays:
		return
	case other == nil: // otherwise another switch is tried with the same Call-ID
		l.ways = append(l.ways, way)
		t.open[way.CallID] = l
	}
	l.held++
	if l.linger != nil {
		l.linger.Stop()
	}
	c.ladder = l
}

// release says that a call, or a conversation, is over.
func (t *ladders) release(l *ladder) {
	if l == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.held--; l.held == 0 && !l.done {
		l.ended = time.Now()
		t.wait(l, ladderLinger)
	}
}

// wait gives a ladder away after a while. t.mu is held.
func (t *ladders) wait(l *ladder, d time.Duration) {
	if l.linger != nil {
		l.linger.Reset(d)
		return
	}
	l.linger = time.AfterFunc(d, func() {
		if !t.a.begin() {
			return // flush takes it
		}
		defer t.a.work.Done()
		defer t.a.caught("a trace")
		t.give(l)
	})
}

// give hands a ladder to whoever keeps traces, unless a call holds it anew.
func (t *ladders) give(l *ladder) {
	t.mu.Lock()
	if l.done || l.held > 0 {
		t.mu.Unlock()
		return
	}
	t.close(l)
	t.mu.Unlock()
	t.hand(l)
}

// close forgets a ladder. t.mu is held.
func (t *ladders) close(l *ladder) {
	l.done = true
	l.linger.Stop()
	t.octets -= l.octets
	for _, way := range l.ways {
		if t.open[way.CallID] == l {
			delete(t.open, way.CallID)
		}
	}
	if l.ended.IsZero() {
		l.ended = time.Now()
	}
}

// hand gives away what a ladder holds; its calls hold the ladder on.
func (t *ladders) hand(l *ladder) {
	if len(l.first) > 0 {
		t.a.cfg.Traced(t.a.masked(l))
	}
	l.first, l.last = nil, nil
}

// flush gives away what is left when the agent has ended.
func (t *ladders) flush() {
	t.mu.Lock()
	var left []*ladder
	for _, l := range t.open {
		if !l.done {
			if l.linger == nil {
				l.linger = time.NewTimer(0)
			}
			t.close(l)
			left = append(left, l)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(left, func(a, b *ladder) int { return a.begun.Compare(b.begun) })
	for _, l := range left {
		t.hand(l)
	}
}

// saw keeps a message of a call that is traced.
func (t *ladders) saw(callID string, out bool, data []byte) {
	if !t.wanted {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.open[callID]; l != nil {
		t.keep(l, callID, out, data)
	}
}

// sent is saw for what leaves a socket.
func (t *ladders) sent(data []byte) {
	if !t.wanted {
		return
	}
	_, rest, ok := bytes.Cut(data, []byte("\r\nCall-ID: ")) // as we and sipgo write it
	if !ok {
		return
	}
	callID, _, _ := bytes.Cut(rest, []byte("\r\n"))
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.open[string(callID)]; l != nil {
		t.keep(l, string(callID), true, data)
	}
}

// keep adds a message to a ladder, within the limits. t.mu is held.
func (t *ladders) keep(l *ladder, callID string, out bool, data []byte) {
	s := seen{at: time.Now(), out: out, way: slices.IndexFunc(l.ways, func(g Way) bool { return g.CallID == callID })}
	if len(data) > ladderMessage {
		data, s.cut = data[:ladderMessage], true
	}
	for _, list := range [][]seen{l.last, l.first} {
		i := lastOf(list, s.way, out)
		if i >= 0 && list[i].data == string(data) {
			list[i].again++
			return
		}
		if i >= 0 {
			break
		}
	}
	switch {
	case t.octets+len(data) > ladderNode:
		l.left++
		return
	case len(l.first) < ladderFirst && l.octets+len(data) <= ladderCall/2 && len(l.last) == 0:
		s.data = string(data)
		if l.first == nil {
			l.first = make([]seen, 0, ladderUsual)
		}
		l.first = append(l.first, s)
	default:
		for len(l.last) > 0 && (len(l.last) >= ladderLast || l.octets+len(data) > ladderCall) {
			t.count(l, -len(l.last[0].data))
			l.last = slices.Delete(l.last, 0, 1)
			l.left++
		}
		s.data = string(data)
		l.last = append(l.last, s)
	}
	t.count(l, len(data))
}

// lastOf finds the message that went the same way last.
func lastOf(list []seen, way int, out bool) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].way == way && list[i].out == out {
			return i
		}
	}
	return -1
}

func (t *ladders) count(l *ladder, octets int) {
	l.octets += octets
	t.octets += octets
}
