package sip

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// A 3xx asks us to ring elsewhere (RFC 3261 §8.1.3.4). Elsewhere is never a place of
// the far side's free choice: a telephone may name another address of its own
// machine, a carrier another switch of its own for the number that we dialled.
// Anything else would let whoever sets up a telephone, or breaks into one, make calls
// at the desk's cost; and the record would name somebody who did not answer.

const redirectsMost = 5 // of one call: two telephones that name each other end there

// redirects are the places where an INVITE may still be tried.
type redirects struct {
	left  []sip.Uri
	tried []string
}

// collect takes the targets that a 3xx names and that we may follow, the preferred
// ones first.
func (r *redirects) collect(c *Call, res *sip.Response) {
	type named struct {
		uri sip.Uri
		q   float64
	}
	var list []named
	for _, value := range headers(res, "contact") {
		for _, a := range addresses(value) {
			var uri sip.Uri
			if err := sip.ParseUri(a.uri, &uri); err != nil || !c.mayFollow(uri) {
				continue
			}
			q := 1.0
			if text, ok := param(a.params, "q"); ok {
				q, _ = strconv.ParseFloat(text, 64)
			}
			// Nothing but the address: no headers, no maddr, no other transport.
			list = append(list, named{sip.Uri{Scheme: "sip", User: uri.User, Host: uri.Host, Port: uri.Port}, q})
		}
	}
	slices.SortStableFunc(list, func(a, b named) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	for _, n := range list {
		r.left = append(r.left, n.uri)
	}
}

// next aims the call at the next target that was not tried yet.
func (r *redirects) next(c *Call) bool {
	c.dlg.mu.Lock()
	defer c.dlg.mu.Unlock()
	if len(r.tried) == 0 {
		r.tried = append(r.tried, c.dlg.target.String())
	}
	for len(r.left) > 0 && len(r.tried) <= redirectsMost {
		target := r.left[0]
		r.left = r.left[1:]
		if !slices.Contains(r.tried, target.String()) {
			r.tried = append(r.tried, target.String())
			c.dlg.target = target
			return true
		}
	}
	return false
}

// mayFollow tells whether a call may go to an address that a 3xx names.
func (c *Call) mayFollow(uri sip.Uri) bool {
	host, err := netip.ParseAddr(strings.Trim(uri.Host, "[]"))
	if err != nil || uri.Scheme != "sip" {
		return false
	}
	host = host.Unmap()
	c.dlg.mu.Lock()
	from := c.dlg.flow.remote.Addr()
	c.dlg.mu.Unlock()
	if c.phone {
		return host == from
	}
	was, trusted := c.a.trunkOf(from)
	now, also := c.a.trunkOf(host)
	if host != from && (!trusted || !also || was != now) {
		return false
	}
	_, user, _ := uriParts(uri.String())
	number := Number(user)
	return user == c.identity.to || number != "" && number == Number(c.identity.to)
}
