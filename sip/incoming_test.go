package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

// waitAnswer answers and stays until somebody hangs up.
func waitAnswer(h *house, ctx context.Context, c *Call) {
	if err := c.Answer(ctx); err != nil {
		return
	}
	<-ctx.Done()
}

// ring never answers.
func ring(h *house, ctx context.Context, c *Call) { <-ctx.Done() }

// over waits for a call's end and gives its cause.
func ended(t *testing.T, c *Call) error {
	t.Helper()
	select {
	case <-c.Done():
		return c.Err()
	case <-time.After(200 * time.Second):
		t.Fatal("the call does not end")
		return nil
	}
}

func TestACallIsAnsweredAndHungUp(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		ok := p.answered()
		for name, want := range map[string]string{"Content-Type": "application/sdp", "Contact": "<sip:pronto@" + h.a.Addr().String() + ">", "Allow": allow, "Server": "Pronto"} {
			if got := headerOf(ok, name); got != want {
				h.t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		c := <-h.calls
		if c.From() != "+390551234567" || c.Source() != SourceFrom || c.To() != "800000001" || c.Trunk() != "trunk" || c.ID() != p.callID {
			h.t.Errorf("call: %q %q %q %q %q", c.From(), c.Source(), c.To(), c.Trunk(), c.ID())
		}
		if h.a.Calls() != 1 {
			h.t.Errorf("%d calls alive", h.a.Calls())
		}
		p.bye()
		if err := ended(h.t, c); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
		if err := h.a.Drained(h.t.Context()); err != nil || h.a.Calls() != 0 {
			h.t.Errorf("%v, %d calls left", err, h.a.Calls())
		}
	})
}

func TestWeHangUp(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) { _ = c.Answer(ctx) }, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		bye := p.expect("BYE sip:p@" + p.addr.String())
		if tagOf(bye, "From") != p.toTag || tagOf(bye, "To") != p.tag || headerOf(bye, "Call-ID") != p.callID {
			h.t.Errorf("BYE is of another dialog: %s", bye)
		}
		p.reply(bye, "200 OK", "", "", "")
		p.nothing(time.Second) // no further BYE
	})
}

func TestCancelBeforeTheAnswer(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		p.expect("SIP/2.0 100")
		p.send(p.request("CANCEL", branch, "", ""))
		p.expect("SIP/2.0 200")
		refused := p.expect("SIP/2.0 487")
		p.toTag = tagOf(refused, "To")
		p.ack(branch, "")
		if err := ended(h.t, <-h.calls); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
		p.nothing(1200 * time.Millisecond) // the ACK stopped the 487
	})
}

func TestCancelOvertakesItsInvite(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		if err := c.Answer(ctx); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("answered a call that was cancelled: %v", err)
		}
	}, func(h *house) {
		p := h.peer(trunkIP)
		p.seq = 1
		branch := randomText()
		p.send(p.request("CANCEL", branch, "", ""))
		p.expect("SIP/2.0 481")
		p.send(p.request("INVITE", branch, "", p.offer("")))
		p.toTag = tagOf(p.expect("SIP/2.0 487"), "To")
		p.ack(branch, "")
		if err := ended(h.t, <-h.calls); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
	})
}

// TestCancelBackToBack is TELEPHONY P8: without the edge a CANCEL that follows
// at once finds no INVITE in one of ten cases.
func TestCancelBackToBack(t *testing.T) {
	h := newHouse(t, nil, ring)
	for range 200 {
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		p.send(p.request("CANCEL", branch, "", ""))
		var got []string
		for len(got) < 2 {
			m := p.within(20 * time.Second)
			if m == "" {
				t.Fatalf("only %q", got)
			}
			if status := strings.Fields(m)[1]; status != "100" {
				got = append(got, status)
			}
		}
		if s := strings.Join(got, " "); s != "200 487" && s != "487 200" {
			t.Fatalf("got %s", s)
		}
		_ = p.s.Close()
	}
}

func TestCancelCrossesTheAnswer(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		tag := p.toTag
		p.toTag = ""
		p.send(p.request("CANCEL", branch, "", ""))
		if m := p.expect("SIP/2.0 200"); !strings.Contains(headerOf(m, "CSeq"), "CANCEL") {
			h.t.Fatalf("got %q", m)
		}
		p.toTag = tag
		p.ack(randomText(), "")
		p.bye()
		if err := ended(h.t, <-h.calls); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
	})
}

func TestTheAnswerIsRepeatedUntilAcknowledged(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		began := time.Now()
		var at []string
		for range 4 {
			m := p.within(5 * time.Second)
			if !strings.HasPrefix(m, "SIP/2.0 200") {
				h.t.Fatalf("got %q", m)
			}
			at = append(at, time.Since(began).Round(100*time.Millisecond).String())
		}
		// RFC 3261 §13.3.1.4: T1, doubled up to T2.
		if got := strings.Join(at, " "); got != "500ms 1.5s 3.5s 7.5s" {
			h.t.Errorf("repeated at %s", got)
		}
		p.ack(randomText(), "")
		p.nothing(20 * time.Second)
	})
}

func TestAnAnswerThatNobodyAcknowledgesEndsWithBye(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		began := time.Now()
		for {
			m := p.within(10 * time.Second)
			if strings.HasPrefix(m, "BYE") {
				break
			}
			if !strings.HasPrefix(m, "SIP/2.0 200") {
				h.t.Fatalf("got %q", m)
			}
		}
		// The sound's watchdog hangs up after 30 s, but no BYE goes out before the
		// ACK could still come (RFC 3261 §15).
		if after := time.Since(began).Round(time.Second); after != 32*time.Second {
			h.t.Errorf("BYE after %s", after)
		}
		ended(h.t, <-h.calls)
	})
}

func TestByeInsteadOfAnAck(t *testing.T) { // trap 1
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.bye()
		p.nothing(40 * time.Second) // neither the 200 again nor a BYE of ours
		p.seq--
		p.ack(randomText(), "") // it comes after all
		p.nothing(5 * time.Second)
	})
}

func TestAnAckThatUsesTheBranchOfTheInvite(t *testing.T) { // TELEPHONY P10
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.ack(branch, "")
		p.ack(branch, "") // and comes twice
		p.nothing(1200 * time.Millisecond)
		p.bye()
		p.ack(branch, "") // and a third time after BYE
		p.nothing(300 * time.Millisecond)
	})
}

func TestARepeatedInviteIsOneCall(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.seq = 1
		m := p.request("INVITE", randomText(), "", p.offer(""))
		p.send(m)
		p.send(m)
		p.send(m)
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.ack(randomText(), "")
		for {
			if m := p.within(700 * time.Millisecond); m == "" {
				break
			}
		}
		if n := h.a.Calls(); n != 1 {
			h.t.Errorf("%d calls", n)
		}
		p.send(m)
		p.nothing(700 * time.Millisecond) // RFC 6026 §7.1
		tag := p.toTag
		p.bye()
		p.toTag = ""
		p.send(m)
		p.nothing(700 * time.Millisecond)
		if n := h.a.Calls(); n != 0 {
			h.t.Errorf("%d calls after the end, of %s", n, tag)
		}
	})
}

// TestNothingIsLeftOfACall, when none of its requests can come again.
func TestNothingIsLeftOfACall(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		for range 3 {
			p := h.peer(trunkIP)
			p.answered()
			p.bye()
			p.nothing(10 * time.Second)
		}
		p := h.peer(trunkIP)
		p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.seq++
		p.send(p.request("BYE", randomText(), "", ""))
		p.expect("SIP/2.0 200")
		p.nothing(tombstone + 2*digEvery)
		h.a.mu.Lock()
		defer h.a.mu.Unlock()
		if n := len(h.a.dialogs) + len(h.a.past) + len(h.a.buried) + len(h.a.invites) + len(h.a.requests); n != 0 {
			h.t.Errorf("%d dialogs, %d past, %d buried, %d INVITEs, %d of requests", len(h.a.dialogs), len(h.a.past), len(h.a.buried), len(h.a.invites), len(h.a.requests))
		}
	})
}

// TestTrying: who waits longer than a moment is told that we are at it, once (RFC 3261 §17.2.1).
func TestTrying(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.peer(trunkIP)
		began := time.Now()
		branch := p.invite("", p.offer(""))
		if m := p.within(time.Second); !strings.HasPrefix(m, "SIP/2.0 100") || time.Since(began) != tryingAfter || tagOf(m, "To") == "" {
			h.t.Errorf("after %s: %q", time.Since(began), m)
		}
		p.nothing(time.Second)
		p.send(p.request("CANCEL", branch, "", ""))
		p.expect("SIP/2.0 200")
		p.toTag = tagOf(p.expect("SIP/2.0 487"), "To")
		p.ack(branch, "")
	})
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("", p.offer(""))
		if m := p.within(time.Second); !strings.HasPrefix(m, "SIP/2.0 200") {
			h.t.Errorf("%q", m)
		} else {
			p.toTag = tagOf(m, "To")
		}
		p.ack(randomText(), "")
		p.bye()
	})
}

func TestLateOffer(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		h.errs <- c.Answer(ctx)
		<-ctx.Done()
	}, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("", "")
		ok := p.expect("SIP/2.0 200")
		if !strings.Contains(bodyOf(ok), " RTP/AVP 8 0 9 101") {
			h.t.Errorf("no offer in %q", ok)
		}
		p.toTag = tagOf(ok, "To")
		p.ack(randomText(), p.offer(""))
		if err := <-h.errs; err != nil {
			h.t.Errorf("answer: %v", err)
		}
		p.bye()
	})
}

func TestLateOfferWithoutAnAnswer(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) { h.errs <- c.Answer(ctx) }, func(h *house) {
		p := h.peer(trunkIP)
		p.invite("", "")
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.ack(randomText(), "")
		if err := <-h.errs; !errors.Is(err, ErrNoCodec) {
			h.t.Errorf("answer: %v", err)
		}
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
	})
}

func TestNoCommonCodecIs488(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) { h.errs <- c.Answer(ctx) }, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 15 18\r\n")
		refused := p.expect("SIP/2.0 488")
		p.toTag = tagOf(refused, "To")
		p.ack(branch, "")
		if err := <-h.errs; !errors.Is(err, ErrNoCodec) {
			h.t.Errorf("answer: %v", err)
		}
		if !strings.HasPrefix(headerOf(refused, "Warning"), "305") {
			h.t.Errorf("no warning in %q", refused)
		}
	})
}

func TestPortsUsedUpIs503(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		h.a.cfg.Media = media.New(media.Config{MinPort: 1, MaxPort: 1}) // not one pair
		h.errs <- c.Answer(ctx)
		<-ctx.Done()
	}, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		refused := p.expect("SIP/2.0 503")
		p.toTag = tagOf(refused, "To")
		p.ack(branch, "")
		if err := <-h.errs; !errors.Is(err, media.ErrNoPorts) {
			h.t.Errorf("answer: %v", err)
		}
		if headerOf(refused, "Retry-After") == "" {
			h.t.Errorf("no Retry-After in %q", refused)
		}
	})
}

// TestNoRoomIs503: of more calls than we hold at once one hears when to come again, and
// one that comes as another has ended is taken.
func TestNoRoomIs503(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		there := make([]Call, maxCalls)
		fill := func(on bool) {
			h.a.mu.Lock()
			defer h.a.mu.Unlock()
			for i := range there {
				if delete(h.a.calls, &there[i]); on {
					h.a.calls[&there[i]] = struct{}{}
				}
			}
		}
		fill(true)
		defer fill(false)
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		refused := p.expect("SIP/2.0 503")
		p.toTag = tagOf(refused, "To")
		p.ack(branch, "")
		if headerOf(refused, "Retry-After") == "" {
			h.t.Errorf("no Retry-After in %q", refused)
		}
		fill(false)
		q := h.peer(trunkIP)
		q.answered()
		q.bye()
	})
}

// TestAContactThatIsNoAddress: whoever calls with one is hung up on where they are.
func TestAContactThatIsNoAddress(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		for _, contact := range []string{"<sip:p@" + trunkIP.String() + ":70000>", "<mailto:p@example.com>"} {
			p := h.peer(trunkIP)
			p.seq++
			says := func(m string) { p.send(strings.ReplaceAll(m, "<sip:p@"+p.addr.String()+">", contact)) }
			says(p.request("INVITE", randomText(), "", p.offer("")))
			ok := p.expect("SIP/2.0 200")
			p.toTag = tagOf(ok, "To")
			says(p.request("ACK", randomText(), "", ""))
			c := <-h.calls
			go c.Hangup(context.Background())
			bye := p.expect("BYE ")
			p.reply(bye, "200 OK", "", "", "")
			if strings.Contains(bye, "70000") || strings.Contains(bye, "mailto") {
				h.t.Errorf("%q", bye)
			}
			_ = ended(h.t, c)
		}
	})
}

func TestRefuse(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		if err := c.Refuse(ctx, 503, 1500*time.Millisecond); err != nil {
			h.t.Error(err)
		}
		if err := c.Answer(ctx); err == nil {
			h.t.Error("answered after refusing")
		}
	}, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		refused := p.expect("SIP/2.0 503")
		if headerOf(refused, "Retry-After") != "2" {
			h.t.Errorf("%q", refused)
		}
		p.toTag = tagOf(p.expect("SIP/2.0 503"), "To") // repeated until acknowledged
		p.ack(branch, "")
		p.nothing(3 * time.Second)
	})
}

func TestAHandlerThatReturnsOrStumbles(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		switch {
		case c.To() == "800000001" && h.logged() == "":
			panic("ouch")
		}
	}, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", p.offer(""))
		p.toTag = tagOf(p.expect("SIP/2.0 500"), "To")
		p.ack(branch, "")
		if n := strings.Count(h.logged(), "ouch"); n != 1 {
			h.t.Errorf("logged %d times: %s", n, h.logged())
		}
		if !strings.Contains(h.logged(), p.callID) {
			h.t.Errorf("which call? %s", h.logged())
		}
		q := h.peer(trunkIP) // and the process goes on
		branch = q.invite("", q.offer(""))
		q.toTag = tagOf(q.expect("SIP/2.0 500"), "To")
		q.ack(branch, "")
	})
}

func TestHoldAndResume(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		first := bodyOf(p.answered())
		for _, step := range []struct{ offer, want string }{
			{p.offer("a=sendonly\r\n"), "a=recvonly"},
			{p.offer("a=inactive\r\n"), "a=inactive"},
			{strings.Replace(p.offer(""), "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1), "a=recvonly"},
			{p.offer("a=sendrecv\r\n"), "a=sendrecv"},
		} {
			p.invite("", step.offer)
			ok := p.expect("SIP/2.0 200")
			p.ack(randomText(), "")
			if !strings.Contains(bodyOf(ok), step.want) {
				h.t.Errorf("want %s in %q", step.want, bodyOf(ok))
			}
			if originID(bodyOf(ok)) != originID(first) {
				h.t.Errorf("another session: %q", bodyOf(ok))
			}
		}
		p.invite("", "") // without a description: we offer everything
		ok := p.expect("SIP/2.0 200")
		if !strings.Contains(bodyOf(ok), " RTP/AVP 8 0 9 101") {
			h.t.Errorf("no offer in %q", ok)
		}
		p.ack(randomText(), p.offer(""))
		p.bye()
	})
}

func originID(body string) string {
	for line := range strings.SplitSeq(body, "\r\n") {
		if f := strings.Fields(line); strings.HasPrefix(line, "o=") && len(f) > 2 {
			return f[1]
		}
	}
	return ""
}

func TestAReinviteThatCannotBe(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		branch := p.invite("", "v=0\r\nm=audio 4000 RTP/AVP 18\r\n")
		p.expect("SIP/2.0 488")
		p.ack(branch, "")
		p.seq -= 2 // an old number
		branch = p.invite("", p.offer(""))
		p.seq++
		if m := p.within(20 * time.Second); !strings.HasPrefix(m, "SIP/2.0 500") {
			h.t.Errorf("an old request got %q", m)
		}
		_ = branch
		p.seq += 5
		p.bye() // the call stands as it was
	})
}

func TestGlare(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		p.invite("", p.offer("a=sendonly\r\n"))
		p.expect("SIP/2.0 200") // not acknowledged yet: an answer of ours is open
		late := p.seq
		p.invite("", p.offer(""))
		for {
			m := p.within(2 * time.Second)
			if strings.HasPrefix(m, "SIP/2.0 491") {
				break
			}
			if !strings.HasPrefix(m, "SIP/2.0 200") {
				h.t.Fatalf("got %q", m)
			}
		}
		p.ack("x", "") // of the 491, whose branch we do not care about
		p.seq = late
		p.ack(randomText(), "")
		p.seq += 2
		p.send(p.request("BYE", randomText(), "", ""))
		for {
			m := p.within(20 * time.Second)
			if strings.HasPrefix(m, "SIP/2.0 200") && strings.Contains(headerOf(m, "CSeq"), "BYE") {
				break
			}
			if m == "" {
				h.t.Fatal("no answer to BYE")
			}
		}
	})
}

func TestTargetRefresh(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		_ = c.Answer(ctx)
		_, _ = c.Ask(ctx, audio.Clip{}, time.Second)
		_, _ = c.Ask(ctx, audio.Clip{}, time.Second)
	}, func(h *house) {
		p, other := h.peer(trunkIP), h.peer(trunkIP)
		p.answered()
		p.seq++
		m := p.request("INVITE", randomText(), "", p.offer(""))
		p.send(strings.Replace(m, "Contact: <sip:p@"+p.addr.String(), "Contact: <sip:new@"+other.addr.String(), 1))
		p.expect("SIP/2.0 200")
		p.ack(randomText(), "")
		bye := other.expect("BYE sip:new@" + other.addr.String())
		other.reply(bye, "200 OK", "", "", "")
	})
}

func TestRecordRoute(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) { _ = c.Answer(ctx) }, func(h *house) {
		p, proxy := h.peer(trunkIP), h.peer(trunkIP)
		p.invite(fmt.Sprintf("Record-Route: <sip:%s;lr>, <sip:192.0.2.9;lr>\r\n", proxy.addr), p.offer(""))
		ok := p.expect("SIP/2.0 200")
		if !strings.Contains(ok, "Record-Route: <sip:"+proxy.addr.String()+";lr>") {
			h.t.Errorf("no Record-Route in %q", ok)
		}
		p.toTag = tagOf(ok, "To")
		p.ack(randomText(), "")
		bye := proxy.expect("BYE sip:p@" + p.addr.String())
		if !strings.Contains(bye, "Route: <sip:"+proxy.addr.String()+";lr>") || !strings.Contains(bye, "Route: <sip:192.0.2.9;lr>") {
			h.t.Errorf("routes of %q", bye)
		}
		proxy.reply(bye, "200 OK", "", "", "")
	})
}

// TestWhereAnAnswerGoes: to the port in Via where no other was asked for, and it says
// whom it went to when Via names somebody else (RFC 3261 §18.2).
func TestWhereAnAnswerGoes(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.seq++
		via := fmt.Sprintf("Via: SIP/2.0/UDP sbc.example.it:%d;branch=z9hG4bK", p.addr.Port())
		p.send(strings.Replace(p.request("INVITE", randomText(), "", p.offer("")), "Via: SIP/2.0/UDP "+p.addr.String()+";rport;branch=z9hG4bK", via, 1))
		ok := p.expect("SIP/2.0 200")
		if got := headerOf(ok, "Via"); !strings.HasPrefix(got, "SIP/2.0/UDP sbc.example.it:") || !strings.Contains(got, ";received="+trunkIP.String()) {
			h.t.Errorf("Via: %q", got)
		}
		p.toTag = tagOf(ok, "To")
		p.ack(randomText(), "")
		p.bye()
	})
}

// broken is a transaction whose connection is gone.
type broken struct{ sip.ServerTransaction }

func (broken) Respond(*sip.Response) error        { return net.ErrClosed }
func (broken) OnTerminate(sip.FnTxTerminate) bool { return true }

// TestAReinviteWhoseAnswerCannotBeSent blocks neither the next one nor our BYE.
func TestAReinviteWhoseAnswerCannotBeSent(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		c := <-h.calls
		synctest.Wait() // for the ACK
		p.seq++
		msg, err := h.a.parser.ParseSIP([]byte(p.request("INVITE", randomText(), "", p.offer("a=sendonly\r\n"))))
		if err != nil {
			h.t.Fatal(err)
		}
		req := msg.(*sip.Request)
		req.SetSource(p.addr.String())
		h.a.onReinvite(req, broken{}, h.a.flowOf(req), "none")
		p.invite("", p.offer(""))
		p.expect("SIP/2.0 200")
		p.ack(randomText(), "")
		c.Hangup(context.Background())
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
	})
}

func TestInsideTheDialog(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) {
		_ = c.Answer(ctx)
		r, _ := c.Ask(ctx, audio.Clip{}, 20*time.Second)
		h.keys <- r
		<-ctx.Done()
	}, func(h *house) {
		p := h.peer(trunkIP)
		// Without telephone-event: keys come by INFO.
		plain := func(extra string) string {
			return strings.ReplaceAll(strings.ReplaceAll(p.offer(extra), " 96\r\n", "\r\n"), "a=rtpmap:96 telephone-event/8000\r\n", "")
		}
		p.invite("", plain(""))
		p.toTag = tagOf(p.expect("SIP/2.0 200"), "To")
		p.ack(randomText(), "")
		say := func(method, head, body, want string) string {
			h.t.Helper()
			p.seq++
			p.send(p.request(method, randomText(), head, body))
			return p.expect("SIP/2.0 " + want)
		}
		say("UPDATE", "", "", "200")
		if m := say("UPDATE", "", plain("a=sendonly\r\n"), "200"); !strings.Contains(m, "a=recvonly") {
			h.t.Errorf("UPDATE: %q", m)
		}
		say("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=7\r\nDuration=160\r\n", "200")
		if r := <-h.keys; r != '7' {
			h.t.Errorf("key %q", r)
		}
		say("INFO", "", "", "200")
		if m := say("INFO", "Content-Type: text/plain\r\n", "x", "415"); headerOf(m, "Accept") == "" {
			h.t.Errorf("415 without Accept: %q", m)
		}
		p.seq--
		say("OPTIONS", "", "", "200")
		say("MESSAGE", "", "", "405")
		p.bye()
		tag := p.toTag
		say("BYE", "", "", "481")
		p.toTag = "unknown"
		say("OPTIONS", "", "", "481")
		say("INVITE", "", p.offer(""), "481")
		p.toTag = tag
	})
}

func TestARepeatedByeGetsItsAnswerAgain(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		p.seq++
		bye := p.request("BYE", randomText(), "", "")
		p.send(bye)
		p.send(bye) // at the heels of the first
		p.send(bye)
		first := p.expect("SIP/2.0 200")
		for range 2 {
			if again := p.expect("SIP/2.0 200"); again != first {
				h.t.Errorf("%q, then %q", first, again)
			}
		}
		p.send(bye)
		if again := p.expect("SIP/2.0 200"); again != first {
			h.t.Errorf("%q, then %q", first, again)
		}
		p.seq++
		p.send(p.request("BYE", randomText(), "", ""))
		p.expect("SIP/2.0 481") // another one
	})
}

func TestBothSayByeAtOnce(t *testing.T) {
	both(t, func(h *house, ctx context.Context, c *Call) { _ = c.Answer(ctx) }, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		theirs := p.expect("BYE")
		p.seq++
		p.send(p.request("BYE", randomText(), "", ""))
		p.expect("SIP/2.0 200")
		p.reply(theirs, "200 OK", "", "", "")
		p.nothing(1200 * time.Millisecond)
	})
}

func TestOurByeIsOverWhateverTheySay(t *testing.T) { // TELEPHONY P13, trap 19
	bubble(t, func(h *house, ctx context.Context, c *Call) { _ = c.Answer(ctx) }, func(h *house) {
		for _, status := range []string{"100 Trying", "401 Unauthorized", "481 Gone", ""} {
			p := h.peer(trunkIP)
			p.answered()
			bye := p.expect("BYE")
			if status != "" {
				p.reply(bye, status, "", "", "")
			}
		}
		if err := h.a.Drained(h.t.Context()); err != nil {
			h.t.Error(err)
		}
	})
}

func TestSilenceOnTheLineEndsTheCall(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		began := time.Now()
		bye := p.within(60 * time.Second)
		if !strings.HasPrefix(bye, "BYE") || time.Since(began).Round(time.Second) != 30*time.Second {
			h.t.Errorf("after %s: %q", time.Since(began), bye)
		}
		if err := ended(h.t, <-h.calls); !errors.Is(err, ErrHungUp) {
			h.t.Errorf("ended by %v", err)
		}
	})
}

func TestACallOnHoldMayBeSilent(t *testing.T) { // trap 11
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		p.invite("", p.offer("a=inactive\r\n"))
		p.expect("SIP/2.0 200")
		p.ack(randomText(), "")
		p.nothing(90 * time.Second)
		p.bye()
	})
}

func TestStoppingHangsUpAndRefuses(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p, q := h.peer(trunkIP), h.peer(trunkIP)
		p.answered()
		q.invite("", q.offer(""))
		q.expect("SIP/2.0 200") // not acknowledged
		began := time.Now()
		h.stop()
		if took := time.Since(began); took >= stopLongest {
			h.t.Errorf("stopping took %s", took)
		}
		if m := p.within(time.Second); !strings.HasPrefix(m, "BYE") {
			h.t.Errorf("got %q", m)
		}
	})
}
