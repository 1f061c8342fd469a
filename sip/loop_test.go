package sip

import (
	"strings"
	"testing"
	"time"
)

func TestAMergedRequestIs482(t *testing.T) { // RFC 3261 §8.2.2.2
	both(t, ring, func(h *house) {
		p, other := h.peer(trunkIP), h.peer(trunkIP.Next())
		branch := p.invite("", p.offer(""))
		p.expect("SIP/2.0 100")
		other.callID, other.tag, other.seq = p.callID, p.tag, p.seq
		for _, way := range []*peer{p, other} {
			way.send(way.request("INVITE", randomText(), "", p.offer("")))
			if m := way.expect("SIP/2.0 482"); tagOf(m, "To") == "" {
				h.t.Errorf("%q", m)
			}
		}
		p.send(p.request("INVITE", branch, "", p.offer(""))) // a retransmission is none
		p.expect("SIP/2.0 100")
		if n := h.a.Calls(); n != 1 {
			h.t.Errorf("%d calls", n)
		}
		p.send(p.request("CANCEL", branch, "", ""))
		p.expect("SIP/2.0 200")
		p.toTag = tagOf(p.expect("SIP/2.0 487"), "To")
		p.ack(branch, "")
		p.toTag = ""
		p.seq++ // and who tries again later is welcome
		p.send(p.request("INVITE", randomText(), "", p.offer("")))
		p.expect("SIP/2.0 100")
	})
}

func TestOurOwnCallThatComesBackIs482(t *testing.T) {
	both(t, ring, func(h *house) {
		phone, p := h.phone("1001"), h.peer(trunkIP)
		h.ring(h.t.Context(), "1001", Caller{})
		ours := headerOf(phone.calling(), "Via")
		p.seq++
		m := p.request("INVITE", randomText(), "", p.offer(""))
		p.send(strings.Replace(m, "Max-Forwards", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx, "+ours+"\r\nMax-Forwards", 1))
		p.expect("SIP/2.0 482")
		if n := h.a.Calls(); n != 1 {
			h.t.Errorf("%d calls", n)
		}
	})
}

func TestRequestsAreForgotten(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		for range 10 {
			p := h.peer(trunkIP)
			p.answered()
			p.bye()
		}
		<-time.After(2 * time.Minute) // in the bubble: all transactions are over
		h.a.mu.Lock()
		defer h.a.mu.Unlock()
		if len(h.a.requests) != 0 || len(h.a.invites) != 0 || len(h.a.dialogs) != 0 {
			h.t.Errorf("%d requests, %d INVITEs and %d dialogs are left", len(h.a.requests), len(h.a.invites), len(h.a.dialogs))
		}
	})
}
