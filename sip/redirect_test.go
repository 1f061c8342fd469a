package sip

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// refuse answers an INVITE with no, and takes the ACK.
func (p *peer) refuse(invite, status, head string) {
	p.h.t.Helper()
	p.reply(invite, status, "r", head, "")
	p.expect("ACK")
}

func TestATelephoneNamesAnotherOfItsAddresses(t *testing.T) {
	both(t, ring, func(h *house) {
		p, q := h.phone("1001"), h.peer(strangeIP) // two of one machine
		got := h.ring(h.t.Context(), "1001", Caller{Number: "+390551234567"})
		first := p.calling()
		p.refuse(first, "302 Moved Temporarily", fmt.Sprintf("Contact: <sip:home@%s>;q=0.3, <sip:desk@%s;maddr=192.0.2.7?Route=x>;q=0.8\r\n", "192.0.2.1", q.addr))
		second := q.calling()
		if !strings.HasPrefix(second, "INVITE sip:desk@"+q.addr.String()+" SIP/2.0") || headerOf(second, "Call-ID") != headerOf(first, "Call-ID") || headerOf(second, "CSeq") == headerOf(first, "CSeq") {
			h.t.Errorf("%q", second)
		}
		q.lift(second, "b")
		if r := <-got; r.err != nil {
			h.t.Fatal(r.err)
		}
		q.byeFromPhone(second, "b")
	})
}

func TestTheNextTargetIsTriedWhenTheFirstSaysNo(t *testing.T) {
	both(t, ring, func(h *house) {
		p, q, last := h.phone("1001"), h.peer(strangeIP), h.peer(strangeIP)
		got := h.ring(h.t.Context(), "1001", Caller{})
		p.refuse(p.calling(), "300 Multiple Choices", fmt.Sprintf("Contact: <sip:c@%s>;q=0.1\r\nContact: <sip:b@%s>;q=0.9\r\n", last.addr, q.addr))
		q.refuse(q.calling(), "486 Busy Here", "")
		invite := last.calling()
		last.lift(invite, "c")
		if r := <-got; r.err != nil {
			h.t.Fatal(r.err)
		}
		last.byeFromPhone(invite, "c")
	})
}

func TestNobodySendsOurCallsElsewhere(t *testing.T) {
	both(t, ring, func(h *house) {
		elsewhere, stranger := h.peer(trunkIP), h.peer(strangeIP.Next())
		for i, contact := range []string{
			"Contact: <sip:0039899123456@" + elsewhere.addr.String() + ">\r\n", // out by the trunk
			"Contact: <sip:1001@" + stranger.addr.String() + ">\r\n",
			"Contact: <sip:1002@pronto.example>\r\n",
			"Contact: <tel:+39899123456>\r\n",
			"Contact: <sips:1001@" + strangeIP.String() + ">\r\n",
			"Contact: *\r\n",
			"",
		} {
			extension := fmt.Sprint(2000 + i)
			p := h.phone(extension)
			got := h.ring(h.t.Context(), extension, Caller{})
			p.refuse(p.calling(), "302 Moved Temporarily", contact)
			r := <-got
			var s *StatusError
			if !errors.Is(r.err, ErrDeclined) || !errors.As(r.err, &s) || s.Code != 302 {
				h.t.Errorf("%q: %v", contact, r.err)
			}
			if len(contact) > 0 && relayStatus(r.err) != 403 {
				h.t.Errorf("another node hears %d", relayStatus(r.err))
			}
		}
		elsewhere.nothing(100 * time.Millisecond)
		stranger.nothing(100 * time.Millisecond)
	})
}

func TestTelephonesThatNameEachOther(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		for i := range redirectsMost + 1 { // always a new name: only the number of them ends it
			p.refuse(p.calling(), "302 Moved Temporarily", fmt.Sprintf("Contact: <sip:n%d@%s>\r\n", i, p.addr))
		}
		if r := <-got; !errors.Is(r.err, ErrDeclined) {
			h.t.Errorf("ring: %v", r.err)
		}
		q := h.phone("1002")
		got = h.ring(h.t.Context(), "1002", Caller{})
		q.refuse(q.calling(), "302 Moved Temporarily", "Contact: <sip:a@"+q.addr.String()+">\r\n")
		q.refuse(q.calling(), "302 Moved Temporarily", "Contact: <sip:1002@"+q.addr.String()+">\r\n")
		if r := <-got; !errors.Is(r.err, ErrDeclined) {
			h.t.Errorf("ring: %v", r.err)
		}
	})
}

func TestACarrierNamesAnotherSwitchForTheSameNumber(t *testing.T) {
	h := newHouse(t, nil, ring)
	first, second := h.peer(trunkIP), h.peer(trunkIP.Next())
	for number, follows := range map[string]bool{"+390551234567": true, "0551234567": true, "899123456": false} {
		done := make(chan error, 1)
		go func() {
			c, err := h.a.Dial(t.Context(), "+390551234567", DialOptions{Via: first.addr, From: "800000001"})
			if err == nil {
				c.Hangup(t.Context())
			}
			done <- err
		}()
		first.refuse(first.calling(), "302 Moved Temporarily", "Contact: <sip:"+number+"@"+second.addr.String()+">\r\n")
		if follows {
			second.lift(second.calling(), "b")
			second.reply(second.expect("BYE"), "200 OK", "", "", "")
		}
		if err := <-done; follows != (err == nil) || !follows && !errors.Is(err, ErrDeclined) {
			t.Errorf("%s: %v", number, err)
		}
	}
}
