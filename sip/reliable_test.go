package sip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// alertFirst rings, and answers when the test says so.
func alertFirst(h *house, ctx context.Context, c *Call) {
	if err := c.Alert(); err != nil {
		h.t.Error(err)
	}
	select {
	case <-h.keys:
		_ = c.Answer(ctx)
		<-ctx.Done()
	case <-ctx.Done():
	}
}

// prack acknowledges a provisional answer.
func (p *peer) prack(ringing string) {
	p.send(p.request("PRACK", randomText(), fmt.Sprintf("RAck: %s %s\r\n", headerOf(ringing, "RSeq"), headerOf(ringing, "CSeq")), ""))
}

func TestAProvisionalAnswerThatMustBeAcknowledged(t *testing.T) {
	both(t, alertFirst, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("Require: 100rel\r\n", p.offer(""))
		ringing := p.expect("SIP/2.0 180")
		if headerOf(ringing, "Require") != "100rel" || headerOf(ringing, "RSeq") == "" || tagOf(ringing, "To") == "" {
			h.t.Errorf("%q", ringing)
		}
		if again := p.expect("SIP/2.0 180"); headerOf(again, "RSeq") != headerOf(ringing, "RSeq") {
			h.t.Errorf("another one: %q", again)
		}
		p.toTag = tagOf(ringing, "To")
		invite := p.seq
		for _, other := range []string{fmt.Sprint("7 ", invite, " INVITE"), fmt.Sprint(headerOf(ringing, "RSeq"), " ", invite+1, " INVITE"), fmt.Sprint(headerOf(ringing, "RSeq"), " ", invite, " UPDATE"), "x", ""} {
			p.seq++
			p.send(p.request("PRACK", randomText(), "RAck: "+other+"\r\n", ""))
			p.expect("SIP/2.0 481")
		}
		p.seq++
		p.prack(ringing)
		p.expect("SIP/2.0 200")
		p.nothing(3 * time.Second) // acknowledged
		p.seq++
		p.prack(ringing)
		p.expect("SIP/2.0 481") // of nothing any more
		p.seq++
		p.send(p.request("UPDATE", randomText(), "", p.offer("")))
		if m := p.expect("SIP/2.0 500"); headerOf(m, "Retry-After") == "" { // RFC 3311 §5.2: the INVITE's offer is open
			h.t.Errorf("%q", m)
		}
		h.keys <- '#'
		ok := p.expect("SIP/2.0 200")
		if tagOf(ok, "To") != p.toTag || !strings.Contains(bodyOf(ok), "m=audio") {
			h.t.Errorf("%q", ok)
		}
		next := p.seq
		p.seq = invite
		p.ack(randomText(), "")
		p.seq = next
		p.bye()
	})
}

func TestACallGoesOnWithoutPrack(t *testing.T) {
	bubble(t, alertFirst, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("Require: 100rel\r\n", p.offer(""))
		began, n := time.Now(), 0
		for p.within(40*time.Second) != "" {
			n++
		}
		if took := time.Since(began) - 40*time.Second; took < 31*time.Second || took > 33*time.Second || n != 7 { // 180 and its repetitions
			h.t.Errorf("%d answers in %s", n, took)
		}
		h.keys <- '#'
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.ack(randomText(), "")
		p.bye()
	})
}

func TestByeBeforeTheAnswer(t *testing.T) { // RFC 3261 §15.1.2
	both(t, alertFirst, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("Require: 100rel\r\n", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 180"), "To")
		p.seq++
		p.send(p.request("BYE", randomText(), "", ""))
		got := map[string]bool{}
		for range 2 {
			m := p.expect("SIP/2.0 ")
			got[strings.Fields(m)[1]+" "+strings.Fields(headerOf(m, "CSeq"))[1]] = true
		}
		if !got["487 INVITE"] || !got["200 BYE"] {
			h.t.Errorf("got %v", got)
		}
		p.seq--
		p.ack(branch, "")
		if err := ended(h.t, <-h.calls); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
	})
}

// TestAnEarlyDialog: a 180 that nobody acknowledges makes the call known to who calls, too
// (RFC 3261 §12.1.1): what they send in it is not of a call that there is not, which would
// be its end (§12.2.1.2).
func TestAnEarlyDialog(t *testing.T) {
	both(t, alertFirst, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 180"), "To")
		p.seq++
		p.send(p.request("UPDATE", randomText(), "", ""))
		p.expect("SIP/2.0 200")
		p.seq++
		p.send(p.request("UPDATE", randomText(), "", p.offer("")))
		p.expect("SIP/2.0 500")
		p.seq++
		p.send(p.request("PRACK", randomText(), "RAck: 1 1 INVITE\r\n", ""))
		p.expect("SIP/2.0 481") // of nothing
		h.keys <- '#'
		p.expect("SIP/2.0 200")
		p.seq -= 3
		p.ack(randomText(), "")
		p.seq += 3
		p.bye()
	})
}

func TestALateOfferIsNotAlerted(t *testing.T) {
	both(t, alertFirst, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("Require: 100rel\r\n", "")
		p.expect("SIP/2.0 100")
		p.nothing(time.Second)
		h.keys <- '#'
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.ack(randomText(), p.offer(""))
		p.bye()
	})
}

func TestWeAcknowledgeProvisionalAnswers(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		progress := func(status string, n int, body string) {
			p.reply(invite, status, "a", fmt.Sprintf("%sRequire: 100rel\r\nRSeq: %d\r\n", p.contact(), n), body)
		}
		progress("183 Session Progress", 41, p.offer(""))
		prack := p.expect("PRACK sip:phone@" + p.addr.String())
		if headerOf(prack, "RAck") != "41 "+headerOf(invite, "CSeq") || tagOf(prack, "To") != "a" {
			h.t.Errorf("%q", prack)
		}
		p.reply(prack, "200 OK", "", "", "")
		progress("183 Session Progress", 41, p.offer("")) // our PRACK was late
		progress("180 Ringing", 43, "")                   // 42 is still on its way
		p.nothing(200 * time.Millisecond)
		progress("180 Ringing", 42, "")
		second := p.expect("PRACK")
		if headerOf(second, "RAck") != "42 "+headerOf(invite, "CSeq") || headerOf(second, "CSeq") == headerOf(prack, "CSeq") {
			h.t.Errorf("%q", second)
		}
		p.reply(second, "200 OK", "", "", "")
		p.reply(invite, "200 OK", "a", p.contact(), "") // the answer was in the 183
		ack := p.expect("ACK")
		if headerOf(ack, "CSeq") != strings.Replace(headerOf(invite, "CSeq"), "INVITE", "ACK", 1) {
			h.t.Errorf("%q", ack)
		}
		r := <-got
		if r.err != nil {
			h.t.Fatal(r.err)
		}
		r.leg.Hangup(h.t.Context())
		bye := p.expect("BYE")
		p.reply(bye, "200 OK", "", "", "")
	})
}

func TestACarrierThatWantsThemAcknowledged(t *testing.T) { // 421
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		if strings.Contains(headerOf(invite, "Supported"), "100rel") {
			h.t.Errorf("offered unasked: %q", invite)
		}
		p.refuse(invite, "421 Extension Required", "Require: 100rel\r\n")
		again := p.calling()
		if headerOf(again, "Supported") != "timer, 100rel" {
			h.t.Errorf("%q", again)
		}
		p.refuse(again, "421 Extension Required", "Require: 100rel\r\n")
		if r := <-got; !errors.Is(r.err, ErrDeclined) {
			h.t.Errorf("ring: %v", r.err)
		}
	})
}

func TestALateOfferInAProvisionalAnswer(t *testing.T) {
	h := newHouse(t, nil, ring)
	p := h.peer(trunkIP)
	done := make(chan error, 1)
	go func() {
		c, err := h.a.Dial(t.Context(), "1001", DialOptions{Via: p.addr, LateOffer: true})
		if err == nil {
			c.Hangup(t.Context())
		}
		done <- err
	}()
	invite := p.calling()
	p.reply(invite, "183 Session Progress", "a", p.contact()+"Require: 100rel\r\nRSeq: 1\r\n", p.offer(""))
	prack := p.expect("PRACK")
	if !strings.Contains(bodyOf(prack), "m=audio") || headerOf(prack, "Content-Type") != sdpType {
		t.Errorf("no answer in %q", prack)
	}
	p.reply(prack, "200 OK", "", "", "")
	p.reply(invite, "200 OK", "a", p.contact(), "")
	if ack := p.expect("ACK"); bodyOf(ack) != "" {
		t.Errorf("a second answer in %q", ack)
	}
	p.reply(p.expect("BYE"), "200 OK", "", "", "")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAnUpdateBeforeTheAnswer: who rings may change the session before anybody lifts, once
// our offer has a reliable answer, and ask whether we are still there at any time (RFC
// 3311 §5.2). What was agreed last is what is heard.
func TestAnUpdateBeforeTheAnswer(t *testing.T) {
	both(t, ring, func(h *house) {
		p, sound := h.phone("1001"), h.peer(strangeIP)
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		p.reply(invite, "180 Ringing", "a", p.contact(), "")
		<-time.After(50 * time.Millisecond) // datagrams may overtake each other in us
		p.fromPhone("UPDATE", invite, "a", 10, p.offer(""))
		p.expect("SIP/2.0 491") // our offer has no answer yet
		p.fromPhone("UPDATE", invite, "a", 11, "")
		p.expect("SIP/2.0 200")
		p.fromPhone("UPDATE", invite, "other", 11, "")
		p.expect("SIP/2.0 481")
		p.fromPhone("BYE", invite, "a", 12, "")
		p.expect("SIP/2.0 481") // RFC 3261 §15: who is called does not say BYE before the answer

		p.reply(invite, "183 Session Progress", "a", p.contact()+"Require: 100rel\r\nRSeq: 1\r\n", p.offer(""))
		prack := p.expect("PRACK")
		p.reply(prack, "200 OK", "", "", "")
		moved := fmt.Sprintf("v=0\r\no=p 1 2 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\n", sound.addr.Addr(), sound.addr.Addr(), sound.addr.Port())
		p.fromPhone("UPDATE", invite, "a", 13, moved)
		ok := p.expect("SIP/2.0 200")
		if body := bodyOf(ok); !strings.Contains(body, "m=audio ") || !strings.Contains(body, " RTP/AVP 0\r\n") || tagOf(ok, "To") != tagOf(invite, "From") || headerOf(ok, "Contact") == "" {
			h.t.Errorf("%q", ok)
		}
		p.fromPhone("UPDATE", invite, "a", 13, moved)
		p.expect("SIP/2.0 500") // RFC 3261 §12.2.2: out of order
		p.fromPhone("UPDATE", invite, "a", 14, "v=0\r\nm=audio 4000 RTP/AVP 18\r\n")
		p.expect("SIP/2.0 488") // and all stays as it was

		p.reply(invite, "200 OK", "a", p.contact(), p.offer("")) // which says nothing new (RFC 3262 §5)
		p.expect("ACK")
		r := <-got
		if r.err != nil {
			h.t.Fatal(r.err)
		}
		if packet := sound.within(20 * time.Second); packet == "" || packet[1]&0x7f != 0 { // something is always sent
			h.t.Errorf("%d octets at where the sound was moved to", len(packet))
		}
		p.fromPhone("UPDATE", invite, "a", 14, "")
		p.expect("SIP/2.0 500") // it counts on
		p.byeFromPhone(invite, "a")
	})
}
