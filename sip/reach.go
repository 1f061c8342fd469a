package sip

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// A telephone behind a NAT is rung by the way that it opened when it registered, and a
// NAT forgets a way of UDP that nothing goes out by, often after half a minute: then the
// telephone is signed in, and does not ring. So it is asked something from time to time,
// and what it answers keeps the way open (trap 14). One by TCP or TLS, or whose address
// is its own, needs none of that.

const (
	reachEvery = 25 * time.Second // RFC 5626 §4.4: over UDP every 24 to 29 s
	reachLasts = 600              // seconds that such a telephone is granted: one that has moved to another way of its NAT says so soon
	reachAgain = time.Second      // until those of before a restart are asked for again
	maxReached = 4096             // of them
)

// reached are the telephones behind NATs, by where they send from.
type reached struct {
	mu   sync.Mutex // guards ways
	ways map[netip.AddrPort]reach
}

type reach struct {
	flow    flow
	contact string
	until   time.Time
}

// behindNAT tells whether a telephone that has registered by a flow says another address
// than it has.
func behindNAT(f flow, contact string) bool {
	_, _, host := uriParts(contact)
	ip, err := netip.ParseAddr(host)
	return !f.tcp && err == nil && ip.Unmap() != f.remote.Addr()
}

// note keeps what a telephone has registered.
func (r *reached) note(f flow, w wish) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.all || len(w.remove) > 0 {
		delete(r.ways, f.remote)
	}
	for _, b := range w.add {
		r.keep(f, b)
	}
}

// keep keeps a telephone, if it is one behind a NAT. r.mu is held.
func (r *reached) keep(f flow, b Binding) {
	if _, known := r.ways[f.remote]; behindNAT(f, b.Contact) && (known || len(r.ways) < maxReached) {
		r.ways[f.remote] = reach{f, b.Contact, b.Expires}
	}
}

// remember keeps, and gives, those that had registered before we began, but for who has
// done so since; false: they are not known.
func (a *Agent) remember() (before []reach, ok bool) {
	if a.cfg.Signed == nil {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(a.ctx, phonesLongest)
	defer cancel()
	list, err := a.cfg.Signed(ctx)
	if err != nil {
		return nil, false // the database is away: it is no news
	}
	a.reached.mu.Lock()
	defer a.reached.mu.Unlock()
	for _, b := range list {
		if _, since := a.reached.ways[b.Source]; since || b.Transport != transportUDP {
			continue
		}
		if f, err := a.outFlow(b.Source, b.Transport, nil); err == nil {
			a.reached.keep(f, b)
			if one, kept := a.reached.ways[f.remote]; kept {
				before = append(before, one)
			}
		}
	}
	return before, true
}

// due gives those whose turn it is, and forgets the others.
func (r *reached) due(now time.Time) (list []reach) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, one := range r.ways {
		if !one.until.After(now) {
			delete(r.ways, at)
			continue
		}
		list = append(list, one)
	}
	return list
}

// keepReached asks the telephones behind NATs until the agent stops: at once those of
// before a restart, whose ways may be closing.
func (a *Agent) keepReached() {
	before, ok := a.remember()
	for ; !ok; before, ok = a.remember() {
		select {
		case <-time.After(reachAgain):
		case <-a.quit:
			return
		}
	}
	a.askAll(before)
	tick := time.NewTicker(reachEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-a.quit:
			return
		}
		a.askAll(a.reached.due(time.Now()))
	}
}

// askAll asks telephones something. Nobody waits for what they answer.
func (a *Agent) askAll(list []reach) {
	for _, one := range list {
		var target sip.Uri
		if err := sip.ParseUri(one.contact, &target); err != nil {
			continue
		}
		target.Headers = nil // RFC 4475 §3.3.14: never trusted
		own := sip.Uri{Scheme: "sip", User: "pronto", Host: hostText(one.flow.local.Addr())}
		to := sip.Uri{Scheme: "sip", User: target.User, Host: strings.Trim(target.Host, "[]")}
		req, f := newClientDialog(a, sip.FromHeader{Address: own}, sip.ToHeader{Address: to}, target, one.flow).request(sip.OPTIONS, 0)
		if err := a.post(a.ctx, req, f); err != nil {
			a.log.Debug("sip: a telephone was not asked", "error", err)
		}
	}
}
