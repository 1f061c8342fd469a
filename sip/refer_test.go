package sip

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// referring is a house that hears of each REFER and does what the test lets it.
type referring struct {
	asked   chan Referral
	become  chan int
	dialled chan string
}

// refers builds a house with one telephone of ours that is in a talk, and plays test
// with it.
func refers(t *testing.T, test func(h *house, r *referring, p *peer), change ...func(*house, *Config)) {
	r := &referring{asked: make(chan Referral, 64), become: make(chan int, 1), dialled: make(chan string, 8)}
	h := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), ring, append(change, func(_ *house, c *Config) {
		c.Domains = []string{"desk.test"}
		c.Dialled = func(ctx context.Context, c *Call, extension, to string) {
			r.dialled <- extension + " " + to
			_ = c.Answer(ctx)
			<-ctx.Done()
		}
		c.Refer = func(_ context.Context, x Referral) (func(context.Context) int, int) {
			r.asked <- x
			if x.To == "1404" {
				return nil, 404
			}
			return func(ctx context.Context) int {
				select {
				case status := <-r.become:
					return status
				case <-ctx.Done():
					return 500
				}
			}, x.Refused
		}
	})...)
	p := h.phone("1001")
	got := h.ring(t.Context(), "1001", Caller{Number: "+390551234567"})
	invite := p.calling()
	p.lift(invite, "a")
	if x := <-got; x.err != nil {
		t.Fatal(x.err)
	}
	p.seq, p.tag, p.toTag = 1, "a", tagOf(invite, "From")
	test(h, r, p)
}

// refer sends a REFER inside the peer's dialog.
func (p *peer) refer(head string) {
	p.seq++
	p.send(p.request("REFER", randomText(), head, ""))
}

// notified answers the next NOTIFY and gives what it says.
func (p *peer) notified(status string) (event, state, said string) {
	p.h.t.Helper()
	m := p.expect("NOTIFY")
	p.reply(m, status, "", "", "")
	return headerOf(m, "Event"), headerOf(m, "Subscription-State"), strings.TrimSpace(bodyOf(m))
}

// TestReferFromATelephone: 202, what is happening, what came of it, and only then BYE.
func TestReferFromATelephone(t *testing.T) {
	refers(t, func(h *house, r *referring, p *peer) {
		p.refer("Refer-To: \"Bruno\" <sip:1002@desk.test;user=phone>\r\n")
		if m := p.expect("SIP/2.0 202"); headerOf(m, "Contact") == "" {
			t.Errorf("%q", m)
		}
		if x := <-r.asked; x.Extension != "1001" || x.To != "1002" || x.Refused != 0 {
			t.Errorf("the house hears %+v", x)
		}
		if event, state, said := p.notified("200 OK"); event != "refer" || !strings.HasPrefix(state, "active;expires=") || said != "SIP/2.0 100 Trying" {
			t.Errorf("%q %q %q", event, state, said)
		}
		p.refer("Refer-To: <sip:1003@127.0.0.1>\r\n")
		p.expect("SIP/2.0 491") // one at a time
		if x := <-r.asked; x.Refused != 491 || x.To != "" {
			t.Errorf("the house hears %+v", x)
		}
		r.become <- 486
		if event, state, said := p.notified("200 OK"); event != "refer" || state != "terminated;reason=noresource" || said != "SIP/2.0 486 Busy Here" {
			t.Errorf("%q %q %q", event, state, said)
		}
		p.refer("r: sip:carta@" + p.server.String() + ";transport=udp\r\n")
		p.expect("SIP/2.0 202")
		if x := <-r.asked; x.To != "carta" {
			t.Errorf("the house hears %+v", x)
		}
		if event, _, _ := p.notified("200 OK"); event != fmt.Sprintf("refer;id=%d", p.seq) { // RFC 3515 §2.4.6
			t.Errorf("event %q", event)
		}
		go h.a.dialog(p.callID, p.toTag).Hangup(t.Context()) // the caller was given on: we hang up
		r.become <- 200
		if _, _, said := p.notified("200 OK"); said != "SIP/2.0 200 OK" {
			t.Errorf("%q", said)
		}
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
	})
}

// TestReferSaysNothing: to who wants to hear nothing (RFC 4488), and no longer to who
// knows of no subscription; a telephone that hung up is told nevertheless.
func TestReferSaysNothing(t *testing.T) {
	refers(t, func(h *house, r *referring, p *peer) {
		p.refer("Refer-To: <tel:+390559876543>\r\nRefer-Sub: false\r\nRequire: norefersub\r\n")
		if m := p.expect("SIP/2.0 202"); headerOf(m, "Refer-Sub") != "false" {
			t.Errorf("%q", m)
		}
		r.become <- 200
		p.nothing(300 * time.Millisecond)
		p.refer("Refer-To: <sip:1002@127.0.0.1>\r\n")
		p.expect("SIP/2.0 202")
		p.notified("481 Call/Transaction Does Not Exist")
		r.become <- 503
		p.nothing(300 * time.Millisecond)
		p.refer("Refer-To: <sip:1002@127.0.0.1>\r\n")
		p.expect("SIP/2.0 202")
		p.notified("200 OK")
		p.bye()
		r.become <- 200
		if _, _, said := p.notified("481 Call/Transaction Does Not Exist"); said != "SIP/2.0 200 OK" {
			t.Errorf("%q", said)
		}
	})
}

// TestReferThatIsNotDone: nothing of an address is followed but what was dialled at
// this very server.
func TestReferThatIsNotDone(t *testing.T) {
	refers(t, func(h *house, r *referring, p *peer) {
		for _, c := range []struct{ head, status string }{
			{"", "400"},
			{"Refer-To: <sip:1002@127.0.0.1>\r\nRefer-To: <sip:1003@127.0.0.1>\r\n", "400"},
			{"Refer-To: <sip:1002@127.0.0.1>, <sip:1003@127.0.0.1>\r\n", "400"},
			{"Refer-To: <sip:1002@127.0.0.1>\r\nr: <sip:1003@127.0.0.1>\r\n", "400"},
			{"Refer-To: nobody\r\n", "400"},
			{"Refer-To: <>\r\n", "400"},
			{"Refer-To: <http://127.0.0.1/1002>\r\n", "416"},
			{"Refer-To: <sips:1002@127.0.0.1>\r\n", "416"},
			{"Refer-To: <sip:1002@evil.test>\r\n", "403"},
			{"Refer-To: <sip:1002@127.0.0.1.evil.test>\r\n", "403"},
			{"Refer-To: <sip:1002@127.0.0.1@evil.test>\r\n", "403"},
			{"Refer-To: <sip:1002@127.0.0.1:x>\r\n", "403"},
			{"Refer-To: <sip:1002@127.0.0.1;maddr=192.0.2.1>\r\n", "403"},
			{"Refer-To: <sip:1002@127.0.0.1;lr>\r\n", "403"},
			{"Refer-To: <sip:1002@127.0.0.1;method=BYE>\r\n", "403"},
			{"Refer-To: <sip:1002;ext@127.0.0.1>\r\n", "403"},
			{"Refer-To: <sip:1002@127.0.0.1?Route=%3Csip:192.0.2.1%3E>\r\n", "403"},
			{"Refer-To: <sip:127.0.0.1>\r\n", "403"},
			{"Refer-To: <sip:%31002@127.0.0.1>\r\n", "404"},
			{"Refer-To: <sip:1002:secret@127.0.0.1>\r\n", "404"},
			{"Refer-To: <sip:@127.0.0.1>\r\n", "404"},
			{"Refer-To: <sip:+@127.0.0.1>\r\n", "404"},
			{"Refer-To: <tel:+39055;phone-context=evil.test>\r\n", "404"},
			{"Refer-To: <sip:" + strings.Repeat("1", 33) + "@127.0.0.1>\r\n", "404"},
			{"Refer-To: <sip:1404@127.0.0.1>\r\n", "404"}, // the house knows nobody
			{"Require: replaces\r\nRefer-To: <sip:1002@127.0.0.1>\r\n", "420"},
		} {
			p.refer(c.head)
			p.expect("SIP/2.0 " + c.status)
			select {
			case x := <-r.asked:
				if x.To != "" && x.To != "1404" {
					t.Errorf("%q: the house is asked for %q", c.head, x.To)
				}
			default:
			}
		}
		for range refersMost { // enough is enough: the house is no longer bothered
			p.refer("Refer-To: <sip:1404@127.0.0.1>\r\n")
			p.expect("SIP/2.0 40")
		}
		p.refer("Refer-To: <sip:1002@127.0.0.1>\r\n")
		p.expect("SIP/2.0 403")
		if n := len(r.asked); n >= refersMost {
			t.Errorf("the house hears of %d more", n)
		}
		if c := h.a.dialog(p.callID, p.toTag); c.Err() != nil {
			t.Error("the call did not survive")
		}
	})
}

// dials sends the INVITE of another call, from the same telephone.
func (p *peer) dials(extension, to, head string) {
	p.seq++
	p.send(strings.NewReplacer("sip:800000001@"+p.server.String(), "sip:"+to+"@"+p.server.String(), "<sip:+390551234567@", "<sip:"+extension+"@").
		Replace(p.request("INVITE", randomText(), head, p.offer(""))))
}

// TestASecondCallWhereATrunkIs: the second call of a telephone that has its address in
// common with a trunk (an exchange in front, one machine for all) is the telephone's and
// needs its proof; whatever else comes from there is the trunk's.
func TestASecondCallWhereATrunkIs(t *testing.T) {
	refers(t, func(h *house, r *referring, p *peer) {
		second := h.peer(strangeIP)
		second.dials("1001", "1002", "")
		second.dials("1001", "1002", challengeOf(t, second.expect("SIP/2.0 401")).lineFor("INVITE", "sip:1002@"+p.server.String(), "1001", "secret", algorithmMD5, "00000001"))
		second.expect("SIP/2.0 200")
		if got := <-r.dialled; got != "1001 1002" {
			t.Errorf("dialled: %q", got)
		}
		for _, from := range []string{"1003", "+390551234567"} {
			caller := h.peer(strangeIP)
			caller.dials(from, "800000001", "")
			caller.expect("SIP/2.0 100")
			if c := <-h.calls; c.Trunk() != "exchange" {
				t.Errorf("%s calls by the trunk %q", from, c.Trunk())
			}
		}
	}, func(_ *house, c *Config) {
		c.Trunks = append(c.Trunks, Trunk{Name: "exchange", Networks: []netip.Prefix{netip.PrefixFrom(strangeIP, 32)}})
	})
}

// TestASecondCall: a telephone whose operator talks may ring somebody, once it has
// proved whose it is, and join the two; nobody else may, not even it at other times.
func TestASecondCall(t *testing.T) {
	refers(t, func(h *house, r *referring, p *peer) {
		second := h.peer(strangeIP)
		uri := func(to string) string { return "sip:" + to + "@" + p.server.String() }
		proof := func(signed, user, password string) string {
			second.dials("1001", "1002", "")
			m := second.expect("SIP/2.0 401")
			return challengeOf(t, m).lineFor("INVITE", signed, user, password, algorithmMD5, "00000001")
		}
		for name, head := range map[string]string{
			"wrong password":    proof(uri("1002"), "1001", "guessed"),
			"another telephone": proof(uri("1002"), "1003", "secret"),
			"another number":    proof(uri("1003"), "1001", "secret"),
		} {
			second.dials("1001", "1002", head)
			if m := second.expect("SIP/2.0 4"); !strings.HasPrefix(m, "SIP/2.0 401") {
				t.Errorf("%s: %q", name, m)
			}
		}
		second.dials("1003", "1002", "") // who does not talk is a stranger
		second.expect("SIP/2.0 403")
		elsewhere := h.peer(netip.MustParseAddr("127.0.0.98"))
		elsewhere.dials("1001", "1002", "")
		elsewhere.expect("SIP/2.0 403")

		head := proof(uri("1002"), "1001", "secret")
		second.dials("1001", "1002", head)
		if got := <-r.dialled; got != "1001 1002" {
			t.Errorf("dialled: %q", got)
		}
		second.toTag = tagOf(second.expect("SIP/2.0 200"), "To")
		second.ack(randomText(), "")
		replay := h.peer(strangeIP)
		replay.dials("1001", "1002", head) // overheard
		replay.expect("SIP/2.0 401")

		names := func(callID, ours, theirs string) string {
			return "Refer-To: <sip:1002@127.0.0.1?Replaces=" + escapeUser(callID+";to-tag="+ours+";from-tag="+theirs) + ">\r\n"
		}
		caller := h.peer(trunkIP)
		caller.invite("", caller.offer(""))
		<-h.calls
		for name, head := range map[string]string{
			"itself":          names(p.callID, p.toTag, p.tag),
			"a caller's":      names(caller.callID, "guessed", caller.tag),
			"nobody's":        names("nobody", second.toTag, second.tag),
			"without its tag": names(second.callID, second.toTag, "guessed"),
		} {
			p.refer(head)
			if m := p.expect("SIP/2.0 4"); !strings.HasPrefix(m, "SIP/2.0 481") {
				t.Errorf("%s: %q", name, m)
			}
			if x := <-r.asked; x.Joins || x.Refused != 481 {
				t.Errorf("%s: the house hears %+v", name, x)
			}
		}
		p.refer(strings.Replace(names(second.callID, second.toTag, second.tag), "127.0.0.1", "evil.test", 1))
		p.expect("SIP/2.0 403")
		<-r.asked
		p.refer(names(second.callID, second.toTag, second.tag))
		p.expect("SIP/2.0 202")
		if x := <-r.asked; !x.Joins || x.To != "" || x.Extension != "1001" {
			t.Errorf("the house hears %+v", x)
		}
		p.notified("200 OK")
		r.become <- 200
		p.notified("200 OK")

		// Nobody takes a call over by an INVITE with Replaces.
		for ip, status := range map[netip.Addr]string{trunkIP: "403", strangeIP: "481"} {
			thief := h.peer(ip)
			thief.invite("Replaces: "+second.callID+";to-tag="+second.toTag+";from-tag="+second.tag+"\r\n", thief.offer(""))
			thief.expect("SIP/2.0 " + status)
			thief.invite("Replaces: nobody;to-tag=a;from-tag=b\r\n", thief.offer(""))
			thief.expect("SIP/2.0 481")
			thief.invite("Replaces: a;to-tag=a;from-tag=b\r\nReplaces: b;to-tag=a;from-tag=b\r\n", thief.offer(""))
			thief.expect("SIP/2.0 400")
		}
		p.bye()
		second.bye()
		second.toTag, second.callID = "", "another"
		second.dials("1001", "1002", "") // the talk is over
		second.expect("SIP/2.0 403")
	})
}

// TestReferOfOthers: a caller, a stranger, and who guesses a call, transfer nobody.
func TestReferOfOthers(t *testing.T) {
	asked := make(chan Referral, 8)
	h := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), waitAnswer, func(_ *house, c *Config) {
		c.Refer = func(_ context.Context, x Referral) (func(context.Context) int, int) {
			asked <- x
			return nil, 0
		}
	})
	caller := h.peer(trunkIP)
	caller.answered()
	caller.refer("Refer-To: <sip:1001@127.0.0.1>\r\n")
	caller.expect("SIP/2.0 403")
	if x := <-asked; x.Extension != "" || x.To != "" || x.Refused != 403 {
		t.Errorf("the house hears %+v", x)
	}
	caller.seq++
	caller.send(caller.request("NOTIFY", randomText(), "Event: refer\r\nSubscription-State: active\r\nContent-Type: message/sipfrag\r\n", "SIP/2.0 200 OK"))
	caller.expect("SIP/2.0 481") // we have asked for nothing

	for _, ip := range []netip.Addr{strangeIP, trunkIP} {
		p := h.peer(ip)
		p.refer("Refer-To: <sip:1001@127.0.0.1>\r\n") // of no call
		p.expect("SIP/2.0 403")
		p.toTag = "guessed"
		p.refer("Refer-To: <sip:1001@127.0.0.1>\r\n")
		p.expect("SIP/2.0 481")
		p.callID, p.toTag = caller.callID, caller.toTag // another's call, by its identifiers, without the caller's tag
		p.refer("Refer-To: <sip:1001@127.0.0.1>\r\n")
		p.expect("SIP/2.0 481")
	}
	if len(asked) != 0 {
		t.Error("the house hears of strangers")
	}
	caller.bye()
}

// FuzzReferTo: whatever stands in Refer-To, what is taken out of it may have been dialled.
func FuzzReferTo(f *testing.F) {
	a := &Agent{cfg: Config{Domains: []string{"desk.test"}}, local: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5060"), netip.MustParseAddrPort("[::1]:5060")}}
	for _, uri := range []string{"sip:1002@127.0.0.1", "sip:1002@[::1]:5060;transport=tcp", "tel:+390551234567", "sip:%31@desk.test", "sip:carta@desk.test?Replaces=x"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		dialled, status := a.dialledIn(uri)
		if (status == 0) != dialable(dialled) || status == 0 && (strings.ContainsAny(dialled, "@%;?:/ <>\"\r\n") || len(dialled) > dialledMost) || status != 0 && status < 400 {
			t.Errorf("%q: %q, %d", uri, dialled, status)
		}
	})
}
