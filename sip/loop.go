package sip

import (
	"strconv"
	"strings"
)

// A call that goes round in a circle, or that comes twice over two ways, is one call
// too many: it would ring the desk without end, or two operators for one doctor.

// circled tells whether an INVITE is one that we sent ourselves (RFC 3261 §16.3): we
// know our own branches.
func (a *Agent) circled(m *raw) bool {
	for _, h := range m.headers {
		if h.name != "via" {
			continue
		}
		for one := range strings.SplitSeq(h.value, ",") {
			if branch, _, _, _ := viaTop(one); a.ourBranch(branch) {
				return true
			}
		}
	}
	return false
}

// requestID is the same for an INVITE that was forked on its way and comes by two
// ways (RFC 3261 §8.2.2.2); "": it cannot be told.
func requestID(m *raw) string {
	from := tag(m.get("from"))
	if from == "" {
		return ""
	}
	n, _, _ := m.cseq()
	return m.get("call-id") + "|" + from + "|" + strconv.FormatUint(uint64(n), 10)
}

// merged tells whether the same INVITE is being dealt with already, by another way.
func (a *Agent) merged(key, id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	first, ok := a.requests[id]
	return ok && id != "" && first != key
}

// drop forgets an INVITE. a.mu is held.
func (a *Agent) drop(key string) {
	if inv := a.invites[key]; inv != nil && a.requests[inv.id] == key {
		delete(a.requests, inv.id)
	}
	delete(a.invites, key)
}
