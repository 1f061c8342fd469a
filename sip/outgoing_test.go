package sip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

var audioFrame = audio.Clip{ALaw: audio.Silence(20)}

// rang is what came of Ring.
type rang struct {
	leg media.Leg
	err error
}

// ring rings an extension on a goroutine.
func (h *house) ring(ctx context.Context, extension string, who Caller) <-chan rang {
	ch := make(chan rang, 1)
	go func() {
		leg, err := h.a.Ring(ctx, extension, who)
		ch <- rang{leg, err}
	}()
	return ch
}

// calling waits for an INVITE.
func (p *peer) calling() string {
	p.h.t.Helper()
	invite := p.expect("INVITE")
	p.callID = headerOf(invite, "Call-ID")
	return invite
}

func (p *peer) contact() string { return "Contact: <sip:phone@" + p.addr.String() + ">\r\n" }

// lift answers an INVITE and takes the ACK.
func (p *peer) lift(invite, toTag string) string {
	p.h.t.Helper()
	p.reply(invite, "200 OK", toTag, p.contact(), p.offer(""))
	return p.expect("ACK")
}

// byeFromPhone hangs up from the telephone's side.
func (p *peer) byeFromPhone(invite, toTag string) {
	p.h.t.Helper()
	p.fromPhone("BYE", invite, toTag, 77, "")
	p.expect("SIP/2.0 200")
}

// fromPhone sends a request of the telephone's side.
func (p *peer) fromPhone(method, invite, toTag string, seq int, body string) {
	p.h.t.Helper()
	head := ""
	if body != "" {
		head = "Content-Type: application/sdp\r\n"
	}
	p.send(fmt.Sprintf("%s sip:pronto@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s\r\nFrom: %s;tag=%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n%sContent-Length: %d\r\n\r\n%s",
		method, p.server, p.addr, randomText(), headerOf(invite, "To"), toTag, headerOf(invite, "From"), p.callID, seq, method, head, len(body), body))
}

func TestATelephoneRings(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{Number: "+390551234567", Name: `Mario "il medico" Rossi`})
		invite := p.calling()
		if !strings.HasPrefix(invite, "INVITE sip:1001@"+p.addr.String()+" SIP/2.0") {
			h.t.Errorf("Request-URI of %q", invite)
		}
		if from := headerOf(invite, "From"); !strings.HasPrefix(from, `"Mario \"il medico\" Rossi" <sip:+390551234567@127.0.0.1`) {
			h.t.Errorf("From: %s", from)
		}
		if pai := headerOf(invite, "P-Asserted-Identity"); !strings.Contains(pai, "<sip:+390551234567@127.0.0.1>") {
			h.t.Errorf("P-Asserted-Identity: %s", pai)
		}
		if via := headerOf(invite, "Via"); !strings.Contains(via, h.a.Addr().String()) {
			h.t.Errorf("not from the listener: %s", via)
		}
		p.reply(invite, "180 Ringing", "a", p.contact(), "")
		ack := p.lift(invite, "a")
		if !strings.HasPrefix(ack, "ACK sip:phone@"+p.addr.String()) || tagOf(ack, "To") != "a" {
			h.t.Errorf("ACK: %q", ack)
		}
		r := <-got
		if r.err != nil || r.leg.Stream() == nil {
			h.t.Fatalf("ring: %v", r.err)
		}
		p.reply(invite, "200 OK", "a", p.contact(), p.offer("")) // our ACK was lost
		p.expect("ACK")
		p.byeFromPhone(invite, "a")
		select {
		case <-r.leg.Done():
		case <-time.After(20 * time.Second):
			h.t.Error("the leg does not hear of its BYE")
		}
	})
}

func TestAWithheldCallerStaysUnknownToTheOperator(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		ctx, cancel := context.WithCancel(h.t.Context())
		got := h.ring(ctx, "1001", Caller{})
		invite := p.calling()
		if from := headerOf(invite, "From"); !strings.Contains(from, "anonymous@anonymous.invalid") || headerOf(invite, "P-Asserted-Identity") != "" {
			h.t.Errorf("%q", invite)
		}
		p.reply(invite, "180 Ringing", "a", "", "")
		cancel()
		cancelled := p.expect("CANCEL")
		if r := <-got; !errors.Is(r.err, context.Canceled) {
			h.t.Errorf("ring: %v", r.err)
		}
		p.reply(cancelled, "200 OK", "a", "", "")
		p.reply(invite, "487 Request Terminated", "a", "", "")
		p.expect("ACK")
	})
}

func TestTheFirstTelephoneLiftedWins(t *testing.T) {
	both(t, ring, func(h *house) {
		p, q := h.phone("1001"), h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{Number: "+390551234567"})
		first, second := p.calling(), q.calling()
		p.reply(first, "180 Ringing", "a", "", "")
		q.reply(second, "180 Ringing", "b", "", "")
		p.lift(first, "a")
		if r := <-got; r.err != nil {
			h.t.Fatal(r.err)
		}
		cancelled := q.expect("CANCEL")
		if headerOf(cancelled, "Reason") != elsewhere {
			h.t.Errorf("Reason: %q", headerOf(cancelled, "Reason"))
		}
		if headerOf(cancelled, "Via") != headerOf(second, "Via") || headerOf(cancelled, "CSeq") != strings.Replace(headerOf(second, "CSeq"), "INVITE", "CANCEL", 1) {
			h.t.Errorf("CANCEL of another request: %q", cancelled)
		}
		q.reply(cancelled, "200 OK", "b", "", "")
		// It is lifted all the same, in the same instant.
		q.lift(second, "b")
		q.reply(q.expect("BYE"), "200 OK", "", "", "")
		p.byeFromPhone(first, "a")
	})
}

func TestCancelWaitsForAnAnswer(t *testing.T) { // RFC 3261 §9.1
	bubble(t, ring, func(h *house) {
		p := h.phone("1001")
		ctx, cancel := context.WithCancel(h.t.Context())
		got := h.ring(ctx, "1001", Caller{})
		invite := p.calling()
		cancel()
		<-got
		if m := p.within(300 * time.Millisecond); m != "" {
			h.t.Fatalf("before any answer: %q", m)
		}
		p.reply(invite, "180 Ringing", "a", "", "")
		cancelled := p.expect("CANCEL")
		p.reply(cancelled, "200 OK", "a", "", "")
		p.reply(invite, "487 Request Terminated", "a", "", "")
		p.expect("ACK")
		if err := h.a.Drained(h.t.Context()); err != nil {
			h.t.Error(err)
		}
	})
}

func TestCancelCrossesTheFarAnswer(t *testing.T) { // TELEPHONY P12: no ghost call
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		ctx, cancel := context.WithCancel(h.t.Context())
		got := h.ring(ctx, "1001", Caller{})
		invite := p.calling()
		p.reply(invite, "180 Ringing", "a", "", "")
		cancel()
		p.expect("CANCEL")
		<-got
		p.lift(invite, "a")
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
	})
}

func TestASecondAnswerOfAForkIsHungUp(t *testing.T) { // trap 3
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		p.lift(invite, "a")
		r := <-got
		p.reply(invite, "200 OK", "fork", p.contact(), p.offer(""))
		if ack := p.expect("ACK"); tagOf(ack, "To") != "fork" {
			h.t.Errorf("ACK: %q", ack)
		}
		bye := p.expect("BYE")
		if tagOf(bye, "To") != "fork" {
			h.t.Errorf("BYE: %q", bye)
		}
		p.reply(bye, "200 OK", "", "", "")
		if isDone(r.leg.Done()) {
			h.t.Error("the first answer was hung up too")
		}
		p.byeFromPhone(invite, "a")
	})
}

func TestNoTelephone(t *testing.T) {
	both(t, ring, func(h *house) {
		for status, want := range map[string]error{
			"486 Busy Here": ErrDeclined, "603 Decline": ErrDeclined, "480 Temporarily Unavailable": ErrUnreachable,
			"404 Not Found": ErrUnreachable, "503 Service Unavailable": ErrUnreachable, "488 Not Acceptable Here": ErrDeclined, "302 Moved": ErrDeclined,
		} {
			p := h.phone("1" + status[:3])
			got := h.ring(h.t.Context(), "1"+status[:3], Caller{})
			invite := p.calling()
			p.reply(invite, status, "a", "", "")
			p.expect("ACK")
			r := <-got
			var s *StatusError
			if !errors.Is(r.err, want) || !errors.As(r.err, &s) || !strings.HasPrefix(status, s.Error()[len("sip: answered "):][:3]) {
				h.t.Errorf("%s: %v", status, r.err)
			}
		}
		if r := <-h.ring(h.t.Context(), "1999", Caller{}); !errors.Is(r.err, ErrUnreachable) {
			h.t.Errorf("not registered: %v", r.err)
		}
		if h.a.Registered("1999", time.Now()) || !h.a.Registered("1486", time.Now()) {
			h.t.Error("Registered")
		}
	})
}

func TestABusyTelephoneLetsTheOtherRing(t *testing.T) {
	both(t, ring, func(h *house) {
		p, q := h.phone("1001"), h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		first, second := p.calling(), q.calling()
		p.reply(first, "486 Busy Here", "a", "", "")
		p.expect("ACK")
		q.lift(second, "b")
		if r := <-got; r.err != nil {
			h.t.Error(r.err)
		}
		q.byeFromPhone(second, "b")
	})
}

func TestADeadTelephone(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.phone("1001")
		began := time.Now()
		r := <-h.ring(h.t.Context(), "1001", Caller{})
		if !errors.Is(r.err, ErrUnreachable) || time.Since(began) != firstAnswer {
			h.t.Errorf("after %s: %v", time.Since(began), r.err)
		}
		// And one that rings for ever.
		for p.within(10*time.Second) != "" {
		}
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		p.reply(invite, "180 Ringing", "a", "", "")
		began = time.Now()
		if r := <-got; !errors.Is(r.err, ErrNoAnswer) || time.Since(began).Round(time.Second) != ringLongest {
			h.t.Errorf("after %s: %v", time.Since(began), r.err)
		}
		p.reply(p.expect("CANCEL"), "200 OK", "a", "", "")
		p.reply(invite, "487 Request Terminated", "a", "", "")
		p.expect("ACK")
	})
}

func TestA487ThatNeverComes(t *testing.T) { // trap 2
	bubble(t, ring, func(h *house) {
		p := h.phone("1001")
		ctx, cancel := context.WithCancel(h.t.Context())
		got := h.ring(ctx, "1001", Caller{})
		p.reply(p.calling(), "180 Ringing", "a", "", "")
		<-time.After(time.Second) // in the bubble: the 180 has arrived
		cancel()
		<-got
		if err := h.a.Drained(h.t.Context()); err != nil {
			h.t.Error(err)
		}
	})
}

func TestAnAnswerWithoutACodec(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		p.reply(invite, "200 OK", "a", p.contact(), "v=0\r\nm=audio 4000 RTP/AVP 18\r\n")
		p.expect("ACK")
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
		if r := <-got; !errors.Is(r.err, ErrNoCodec) {
			h.t.Errorf("ring: %v", r.err)
		}
	})
}

func TestBridgeEndsWithEitherSide(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		if c.Answer(ctx) != nil {
			return
		}
		leg, err := h.a.Ring(ctx, "1001", Caller{Number: c.From()})
		if err != nil {
			h.errs <- err
			return
		}
		h.joined <- leg
		h.errs <- c.Bridge(ctx, leg)
	}, func(h *house) {
		phone := h.phone("1001")
		for _, who := range []string{"caller", "operator"} {
			p := h.peer(trunkIP)
			p.answered()
			invite := phone.calling()
			phone.lift(invite, "a"+who)
			<-h.joined // our ACK leaves a moment before: a BYE in between finds nobody to join, and Ring says so
			if who == "caller" {
				p.bye()
				phone.reply(phone.expect("BYE"), "200 OK", "", "", "")
			} else {
				phone.byeFromPhone(invite, "a"+who)
				p.reply(p.expect("BYE"), "200 OK", "", "", "")
			}
			if err := <-h.errs; err != nil {
				h.t.Errorf("%s hung up: %v", who, err)
			}
		}
	})
}

func TestTheCallerHangsUpWhileItRings(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		if c.Answer(ctx) != nil {
			return
		}
		_, err := h.a.Ring(ctx, "1001", Caller{Number: c.From()})
		h.errs <- err
	}, func(h *house) {
		phone, p := h.phone("1001"), h.peer(trunkIP)
		p.answered()
		invite := phone.calling()
		phone.reply(invite, "180 Ringing", "a", "", "")
		p.bye()
		cancelled := phone.expect("CANCEL")
		phone.reply(cancelled, "200 OK", "a", "", "")
		phone.reply(invite, "487 Request Terminated", "a", "", "")
		phone.expect("ACK")
		if err := <-h.errs; !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ring: %v", err)
		}
	})
}

// TestStoppingAfterItRang: who waits for the answer to a CANCEL does not hold up
// the end for as long as a CANCEL may take.
func TestStoppingAfterItRang(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		ctx, unwanted := context.WithCancel(h.t.Context())
		got := h.ring(ctx, "1001", Caller{})
		p.reply(p.calling(), "180 Ringing", "a", "", "")
		unwanted()
		if r := <-got; r.err == nil {
			h.t.Error("rang")
		}
		p.expect("CANCEL") // and it says not a word
		began := time.Now()
		h.stop()
		if took := time.Since(began); took >= stopLongest {
			h.t.Errorf("stopping took %s", took)
		}
	})
}

func TestStoppingWhileItRings(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		p.reply(invite, "180 Ringing", "a", "", "")
		q := h.phone("1002")
		also := h.ring(h.t.Context(), "1002", Caller{}) // not a word from it
		q.calling()
		began := time.Now()
		h.stop()
		if took := time.Since(began); took >= stopLongest {
			h.t.Errorf("stopping took %s", took)
		}
		if r := <-got; r.err == nil {
			h.t.Error("rang")
		}
		if r := <-also; r.err == nil {
			h.t.Error("rang")
		}
	})
}

func TestDial(t *testing.T) {
	for _, o := range []DialOptions{{From: "+390551234567"}, {LateOffer: true}, {Laws: []uint8{0}}, {TCP: true}, {TCP: true, LateOffer: true}} {
		server := newHouse(t, nil, waitAnswer)
		client := newHouse(t, nil, waitAnswer)
		o.Via = server.a.Addr()
		c, err := client.a.Dial(t.Context(), "800000001", o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		there := <-server.calls
		if there.To() != "800000001" || there.From() != o.From {
			t.Errorf("%+v: from %q to %q", o, there.From(), there.To())
		}
		deadline := time.After(20 * time.Second)
		for c.Stream().Stats().In == 0 || there.Stream().Stats().In == 0 {
			select {
			case <-deadline:
				t.Fatalf("%+v: no sound: %+v %+v", o, c.Stream().Stats(), there.Stream().Stats())
			default:
				_ = c.Play(t.Context(), audioFrame)
			}
		}
		if o.From == "" {
			there.Hangup(t.Context())
			_ = ended(t, c)
		} else {
			c.Hangup(t.Context())
			_ = ended(t, there)
		}
		client.stop()
		server.stop()
	}
}

func TestDialIdentity(t *testing.T) {
	server := newHouse(t, nil, func(h *house, ctx context.Context, c *Call) { _ = c.Refuse(ctx, 486, 0) })
	client := newHouse(t, nil, waitAnswer)
	for _, x := range []struct {
		o                DialOptions
		from, source, to string
	}{
		{DialOptions{From: "0551234567"}, "+390551234567", SourceFrom, "+3906555"},
		{DialOptions{From: "anna", Asserted: "+390551234567"}, "+390551234567", SourceAsserted, "+3906555"},
		{DialOptions{Anonymous: true, Asserted: "+390551234567"}, "", SourceWithheld, "+3906555"},
		{DialOptions{From: "0551234567", Diversion: "800000001"}, "+390551234567", SourceFrom, "800000001"},
	} {
		x.o.Via = server.a.Addr()
		_, err := client.a.Dial(t.Context(), "+3906555", x.o)
		var s *StatusError
		if !errors.As(err, &s) || s.Code != 486 {
			t.Fatalf("dial: %v", err)
		}
		c := <-server.calls
		if c.From() != x.from || c.Source() != x.source || c.To() != x.to {
			t.Errorf("%+v: %q %q %q", x.o, c.From(), c.Source(), c.To())
		}
	}
}

// TestTheWayOfACallWeMake: the proxies that an answer names are the way of what follows,
// the last of them first (RFC 3261 §12.1.2); one that knows no loose routing gets itself
// as whom the request is for (§12.2.1.1).
func TestTheWayOfACallWeMake(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		for _, loose := range []bool{true, false} {
			p, proxy := h.peer(trunkIP), h.peer(trunkIP)
			calls := make(chan *Call, 1)
			go func() {
				c, err := h.a.Dial(h.t.Context(), "0551234567", DialOptions{Via: p.addr})
				if err != nil {
					h.t.Error(err)
				}
				calls <- c
			}()
			lr := map[bool]string{true: ";lr"}[loose]
			far := "<sip:192.0.2.9;lr>"
			near := "<sip:" + proxy.addr.String() + lr + ">"
			target := "sip:phone@" + p.addr.String()
			p.reply(p.calling(), "200 OK", "a", p.contact()+"Record-Route: "+far+"\r\nRecord-Route: "+near+"\r\n", p.offer(""))
			to, want := target, []string{near, far}
			if !loose {
				to, want = "sip:"+proxy.addr.String(), []string{far, "<" + target + ">"}
			}
			check := func(method string) string {
				m := proxy.expect(method + " " + to + " SIP/2.0\r\n")
				var routes []string
				for line := range strings.SplitSeq(m, "\r\n") {
					if route, ok := strings.CutPrefix(line, "Route: "); ok {
						routes = append(routes, strings.Split(route, ", ")...)
					}
				}
				if !slices.Equal(routes, want) {
					h.t.Errorf("%s goes by %q, want %q", method, routes, want)
				}
				return m
			}
			check("ACK")
			c := <-calls
			if c == nil {
				return
			}
			c.Hangup(h.t.Context())
			proxy.reply(check("BYE"), "200 OK", "", "", "")
		}
	})
}

// TestASwitchThatOnlyTries: one that says 100 and no more is sent a CANCEL in time for
// another, and not before it has answered that: no two lines ring at once. Who lifts in
// that very instant is talked to; who lifts later is hung up.
func TestASwitchThatOnlyTries(t *testing.T) {
	const patience = 12 * time.Second
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		type dialled struct {
			call *Call
			err  error
		}
		dial := func(wait time.Duration) (invite string, got chan dialled) {
			got = make(chan dialled, 1)
			go func() {
				c, err := h.a.Dial(h.t.Context(), "0551234567", DialOptions{Via: p.addr, Progress: wait})
				got <- dialled{c, err}
			}()
			invite = p.calling()
			p.reply(invite, "100 Trying", "", "", "")
			return invite, got
		}
		waited := func(began time.Time, want time.Duration) {
			h.t.Helper()
			if took := time.Since(began).Round(time.Second); took != want {
				h.t.Errorf("after %s, not %s", took, want)
			}
		}
		due := func(start string) string { // it may take longer than a test waits
			h.t.Helper()
			m := p.within(time.Minute)
			if !strings.HasPrefix(m, start) {
				h.t.Fatalf("expected %q, got %q", start, m)
			}
			return m
		}
		failed := func(got chan dialled) {
			h.t.Helper()
			if d := <-got; !errors.Is(d.err, errNoProgress) || !errors.Is(d.err, ErrUnreachable) {
				h.t.Errorf("dialled %v", d.err)
			}
		}

		began := time.Now() // it answers the CANCEL after a second
		invite, got := dial(patience)
		p.reply(due("CANCEL"), "200 OK", "a", "", "")
		waited(began, patience)
		<-time.After(time.Second)
		if len(got) != 0 {
			h.t.Error("given up while it may still ring")
		}
		p.reply(invite, "487 Request Terminated", "a", "", "")
		p.expect("ACK")
		failed(got)

		invite, got = dial(patience) // it is lifted as we give up
		p.reply(due("CANCEL"), "200 OK", "a", "", "")
		p.lift(invite, "a")
		d := <-got
		if d.err != nil {
			h.t.Fatalf("lifted: %v", d.err)
		}
		d.call.Hangup(h.t.Context())
		p.reply(p.expect("BYE"), "200 OK", "", "", "")

		began = time.Now() // it does not even answer that, and then somebody lifts
		invite, got = dial(patience)
		due("CANCEL")
		failed(got)
		waited(began, patience+firstAnswer)
		for p.within(time.Second) != "" { // the CANCEL again
		}
		p.send(p.answer(invite, "200 OK", "late", p.contact(), p.offer("")))
		for m := ""; !strings.HasPrefix(m, "BYE"); { // after the ACK; between them the CANCEL again
			if m = due(""); strings.HasPrefix(m, "BYE") {
				p.reply(m, "200 OK", "", "", "")
			}
		}
		if err := h.a.Drained(h.t.Context()); err != nil {
			h.t.Error(err)
		}
		for p.within(cancelWait) != "" { // until we have given up on the CANCEL
		}

		for _, status := range []string{"180 Ringing", "183 Session Progress"} { // it rings: that is all we wanted to know
			invite, got = dial(patience)
			p.reply(invite, status, "a", "", "")
			p.nothing(3 * patience)
			p.lift(invite, "a")
			d = <-got
			d.call.Hangup(h.t.Context())
			p.reply(p.expect("BYE"), "200 OK", "", "", "")
		}
		invite, got = dial(0) // and without another one there is nothing better
		p.nothing(3 * patience)
		p.lift(invite, "a")
		d = <-got
		d.call.Hangup(h.t.Context())
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
	})
}
