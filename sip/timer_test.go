package sip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const knowsTimer = "Supported: timer\r\n"

// timed makes a call on hold with a timer, up to its ACK.
func (p *peer) timed(head string) string {
	p.h.t.Helper()
	p.invite(knowsTimer+head, p.offer("a=inactive\r\n")) // on hold: nobody waits for sound
	ok := p.expect("SIP/2.0 200")
	p.toTag = tagOf(ok, "To")
	p.ack(randomText(), "")
	return ok
}

// due expects a message that may be a long time in coming.
func (p *peer) due(start string) string {
	p.h.t.Helper()
	m := p.within(3 * time.Hour)
	if !strings.HasPrefix(m, start) {
		p.h.t.Fatalf("expected %q, got %q", start, m)
	}
	return m
}

// byeAfter expects a BYE, and gives when it came.
func (p *peer) byeAfter() time.Duration {
	p.h.t.Helper()
	began := time.Now()
	p.due("BYE")
	return time.Since(began).Round(time.Second)
}

func TestASessionThatIsTooShortGets422(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite(knowsTimer+"Session-Expires: 60\r\n", p.offer(""))
		refused := p.expect("SIP/2.0 422")
		if headerOf(refused, "Min-SE") != "90" {
			h.t.Errorf("%q", refused)
		}
		p.toTag = tagOf(refused, "To")
		p.ack(branch, "")
		p.toTag = ""
		// A proxy asks, the telephone knows no timer: it could make nothing of a 422.
		p.invite("Session-Expires: 60\r\n", p.offer(""))
		ok := p.expect("SIP/2.0 200")
		if headerOf(ok, "Session-Expires") != "90;refresher=uas" || headerOf(ok, "Require") != "" {
			h.t.Errorf("%q", ok)
		}
		p.toTag = tagOf(ok, "To")
		p.ack(randomText(), "")
		p.seq++
		p.send(p.request("UPDATE", randomText(), knowsTimer+"Session-Expires: 89\r\n", ""))
		p.expect("SIP/2.0 422")
		p.bye() // the call has lost nothing
	})
}

func TestTheTimerThatIsGranted(t *testing.T) { // RFC 4028 §9, table 2
	both(t, waitAnswer, func(h *house) {
		for _, x := range []struct{ head, want, require string }{
			{"", "", ""},
			{knowsTimer, "1800;refresher=uas", ""},
			{knowsTimer + "Session-Expires: 600\r\n", "600;refresher=uac", "timer"},
			{"k: timer\r\nx: 600;refresher=uac\r\n", "600;refresher=uac", "timer"},
			{"Require: timer\r\nSession-Expires: 600;refresher=uas\r\n", "600;refresher=uas", ""},
			{"Session-Expires: 600;refresher=uac\r\n", "600;refresher=uas", ""},
			{knowsTimer + "Session-Expires: soon\r\n", "1800;refresher=uas", ""},
			{knowsTimer + "Min-SE: 3600\r\n", "3600;refresher=uas", ""},
		} {
			p := h.peer(trunkIP)
			p.invite(x.head, p.offer(""))
			ok := p.expect("SIP/2.0 200")
			if headerOf(ok, "Session-Expires") != x.want || headerOf(ok, "Require") != x.require {
				h.t.Errorf("%q: %q, Require %q", x.head, headerOf(ok, "Session-Expires"), headerOf(ok, "Require"))
			}
			p.toTag = tagOf(ok, "To")
			p.ack(randomText(), "")
			p.bye()
		}
	})
}

func TestACallThatTheCallerDoesNotRefreshEnds(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.timed("Session-Expires: 90;refresher=uac\r\n")
		for range 3 {
			p.nothing(45 * time.Second)
			p.seq++
			p.send(p.request("UPDATE", randomText(), knowsTimer+"Session-Expires: 90;refresher=uac\r\n", ""))
			if ok := p.expect("SIP/2.0 200"); headerOf(ok, "Session-Expires") != "90;refresher=uac" {
				h.t.Errorf("%q", ok)
			}
		}
		if after := p.byeAfter(); after != 60*time.Second { // RFC 4028 §10: a third before the end
			h.t.Errorf("BYE after %s", after)
		}
		if err := ended(h.t, <-h.calls); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
	})
}

func TestWhoSpeaksIsNotCutOff(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		mouth, err := h.wire.listen(netip.AddrPortFrom(trunkIP, 19000)) // where the offer says
		if err != nil {
			h.t.Fatal(err)
		}
		defer mouth.Close()
		p.invite(knowsTimer+"Session-Expires: 90;refresher=uac\r\n", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.ack(randomText(), "")
		c := <-h.calls
		rtp := append([]byte{0x80, 8, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 160)...)
		for range 300 { // five minutes of speech, and not one refresh
			rtp[3]++
			_, _ = mouth.WriteToUDPAddrPort(rtp, c.Stream().Addr())
			p.nothing(time.Second)
		}
		if after := p.byeAfter(); after > 30*time.Second {
			h.t.Errorf("BYE %s after the last word", after)
		}
	})
}

func TestWeRefresh(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		first := p.timed("Allow: INVITE, UPDATE\r\nSession-Expires: 90;refresher=uas\r\n")
		for range 3 {
			began := time.Now()
			update := p.due("UPDATE")
			if after := time.Since(began).Round(time.Second); after != 45*time.Second || bodyOf(update) != "" || headerOf(update, "Session-Expires") != "90;refresher=uac" {
				h.t.Errorf("after %s: %q", after, update)
			}
			p.reply(update, "200 OK", "", p.contact()+"Session-Expires: 90;refresher=uac\r\n", "")
		}
		p.reply(p.due("UPDATE"), "422 Too Small", "", "Min-SE: 120\r\n", "")
		longer := p.due("UPDATE")
		if headerOf(longer, "Session-Expires") != "120;refresher=uac" || headerOf(longer, "Min-SE") != "120" {
			h.t.Errorf("%q", longer)
		}
		p.reply(longer, "405 Method Not Allowed", "", "Allow: INVITE\r\n", "")
		again := p.due("INVITE")
		if bodyOf(again) != bodyOf(first) { // nothing has changed: not even the version
			h.t.Errorf("%q, was %q", bodyOf(again), bodyOf(first))
		}
		p.reply(again, "100 Trying", "", "", "")
		p.reply(again, "200 OK", "", p.contact()+"Session-Expires: 120;refresher=uac\r\n", p.offer("a=inactive\r\n"))
		ack := p.expect("ACK")
		if headerOf(ack, "CSeq") != strings.Replace(headerOf(again, "CSeq"), "INVITE", "ACK", 1) {
			h.t.Errorf("%q", ack)
		}
		p.reply(again, "200 OK", "", p.contact(), p.offer("a=inactive\r\n")) // the ACK was lost
		p.expect("ACK")
		for _, refusal := range []string{"488 Not Acceptable Here", "403 Forbidden", "500 Server Internal Error"} {
			again := p.due("INVITE") // whoever refuses is there
			p.reply(again, refusal, "", "", "")
			p.expect("ACK")
		}
		if h.a.Calls() != 1 {
			h.t.Error("a refused refresh ended the call")
		}
		began := time.Now()
		for m := p.within(time.Minute); !strings.HasPrefix(m, "BYE"); m = p.within(time.Minute) { // not a word any more
			if m != "" && !strings.HasPrefix(m, "INVITE") {
				h.t.Fatalf("got %q", m)
			}
		}
		if after := time.Since(began); after < 80*time.Second || after > 3*time.Minute {
			h.t.Errorf("BYE after %s", after)
		}
	})
}

func TestARefreshOfACallThatIsGone(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.timed("Allow: UPDATE\r\nSession-Expires: 90;refresher=uas\r\n")
		p.reply(p.due("UPDATE"), "481 Gone", "", "", "") // some say so of every UPDATE
		again := p.due("INVITE")
		p.reply(again, "481 Gone", "", "", "")
		p.expect("ACK")
		p.reply(p.expect("BYE"), "481 Gone", "", "", "")
		if err := ended(h.t, <-h.calls); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
	})
}

func TestTheTimerOfACallWeMake(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		if headerOf(invite, "Session-Expires") != "1800" || headerOf(invite, "Supported") != "timer" {
			h.t.Errorf("%q", invite)
		}
		p.reply(invite, "422 Session Interval Too Small", "a", "Min-SE: 3600\r\n", "")
		p.expect("ACK")
		longer := p.calling()
		if headerOf(longer, "Session-Expires") != "3600" || headerOf(longer, "Min-SE") != "3600" || headerOf(longer, "Call-ID") != headerOf(invite, "Call-ID") {
			h.t.Errorf("%q", longer)
		}
		p.reply(longer, "200 OK", "b", p.contact()+"Require: timer\r\nSession-Expires: 3600;refresher=uac\r\n", p.offer("a=inactive\r\n"))
		p.expect("ACK")
		if r := <-got; r.err != nil {
			h.t.Fatal(r.err)
		}
		began := time.Now()
		for { // we refresh: no UPDATE, it was not allowed
			m := p.within(time.Hour)
			if strings.HasPrefix(m, "INVITE") {
				p.reply(m, "200 OK", "", p.contact()+"Session-Expires: 3600;refresher=uas\r\n", p.offer("a=inactive\r\n"))
				p.expect("ACK")
				break
			}
			h.t.Fatalf("got %q", m)
		}
		if after := time.Since(began).Round(time.Second); after != 30*time.Minute {
			h.t.Errorf("refreshed after %s", after)
		}
		if after := p.byeAfter(); after != time.Hour-byeBefore { // and now they should have
			h.t.Errorf("BYE after %s", after)
		}
	})
}

func TestA422ThatAsksForNothingIsARefusal(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		p.reply(p.calling(), "422 Session Interval Too Small", "a", "Min-SE: 90\r\n", "")
		p.expect("ACK")
		if r := <-got; !errors.Is(r.err, ErrDeclined) {
			h.t.Errorf("ring: %v", r.err)
		}
	})
}
