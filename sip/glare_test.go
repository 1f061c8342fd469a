package sip

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestHowLongAGlareLasts(t *testing.T) { // RFC 3261 §14.1
	for range 1000 {
		if d := glareWait(true); d < 2100*time.Millisecond || d > 4*time.Second || d%glareStep != 0 {
			t.Fatalf("who made the Call-ID waits %s", d)
		}
		if d := glareWait(false); d < 0 || d > 2*time.Second || d%glareStep != 0 {
			t.Fatalf("the other side waits %s", d)
		}
	}
}

func TestBothReinviteAtOnce(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.timed("Allow: INVITE\r\nSession-Expires: 90;refresher=uas\r\n")
		ours := p.due("INVITE")
		p.reply(ours, "100 Trying", "", "", "")
		branch := p.invite("", p.offer("a=sendonly\r\n"))
		p.expect("SIP/2.0 491")
		p.ack(branch, "")
		p.seq++
		p.send(p.request("UPDATE", randomText(), "", p.offer("a=sendonly\r\n")))
		p.expect("SIP/2.0 491")
		p.seq++
		p.send(p.request("UPDATE", randomText(), "", "")) // which offers nothing
		p.expect("SIP/2.0 200")
		p.reply(ours, "491 Request Pending", "", "", "")
		p.expect("ACK")
		began := time.Now()
		again := p.due("INVITE")
		if after := time.Since(began); after > glareOtherMost+time.Second {
			h.t.Errorf("after %s", after)
		}
		if headerOf(again, "CSeq") == headerOf(ours, "CSeq") {
			h.t.Errorf("the same request again: %q", again)
		}
		p.reply(again, "200 OK", "", p.contact(), p.offer("a=inactive\r\n"))
		p.expect("ACK")
		p.invite("", p.offer("a=inactive\r\n")) // now it is their turn
		p.expect("SIP/2.0 200")
		p.ack(randomText(), "")
		p.bye()
	})
}

func TestWhoMadeTheCallWaitsLonger(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		invite := p.calling()
		p.reply(invite, "200 OK", "a", p.contact()+"Session-Expires: 90;refresher=uac\r\n", p.offer("a=inactive\r\n"))
		p.expect("ACK")
		<-got
		for range 5 {
			p.reply(p.due("INVITE"), "491 Request Pending", "", "", "")
			p.expect("ACK")
			began := time.Now()
			again := p.due("INVITE")
			if after := time.Since(began); after < glareOwnerLeast || after > glareOwnerMost+time.Second {
				h.t.Errorf("after %s", after)
			}
			p.reply(again, "200 OK", "", p.contact()+"Session-Expires: 90;refresher=uac\r\n", p.offer("a=inactive\r\n"))
			p.expect("ACK")
		}
	})
}

func TestAReinviteThatIsNeverAnsweredIsCancelled(t *testing.T) {
	bubble(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.timed("Session-Expires: 600;refresher=uas\r\n")
		ours := p.due("INVITE")
		p.reply(ours, "180 Ringing", "", "", "")
		cancelled := p.due("CANCEL")
		p.reply(cancelled, "200 OK", "", "", "")
		p.reply(ours, "487 Request Terminated", "", "", "")
		p.expect("ACK")
		p.bye()
	})
}

func TestHoldInAllItsSpellings(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		first := bodyOf(p.answered())
		port := strings.Fields(first[strings.Index(first, "m=audio "):])[1]
		none := strings.Replace(p.offer(""), "m=audio 19000", "m=audio 0", 1)
		video := "m=video 5000 RTP/AVP 96\r\nm=image 6000 udptl t38\r\nm=audio 7000 RTP/SAVP 8\r\n"
		version := 0
		for i, step := range []struct{ offer, audio, dir string }{
			{p.offer("a=sendonly\r\n"), port, "a=recvonly"},
			{p.offer("a=inactive\r\n"), port, "a=inactive"},
			{strings.Replace(p.offer(""), "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1), port, "a=recvonly"},
			{strings.Replace(p.offer("a=inactive\r\n"), "c=IN IP4 127.0.0.1", "c=IN IP6 ::", 1), port, "a=inactive"},
			{none, "0", ""},
			{p.offer(video), port, "a=sendrecv"},
			{none + "m=video 5000 RTP/AVP 96\r\n", "0", ""},
			{p.offer("a=recvonly\r\n"), port, "a=sendonly"},
			{p.offer(""), port, "a=sendrecv"},
		} {
			for _, method := range []string{"INVITE", "UPDATE"} {
				p.seq++
				p.send(p.request(method, randomText(), "", step.offer))
				ok := p.expect("SIP/2.0 200")
				if method == "INVITE" {
					p.ack(randomText(), "")
				}
				body := bodyOf(ok)
				if !strings.Contains(body, "m=audio "+step.audio+" RTP/AVP 8") || !strings.Contains(body, step.dir) {
					h.t.Errorf("%d by %s: want %s %s in %q", i, method, step.audio, step.dir, body)
				}
				if strings.Count(body, "m=") != strings.Count(step.offer, "m=") {
					h.t.Errorf("%d by %s: other m-lines in %q", i, method, body)
				}
				if strings.Contains(step.offer, video) && (!strings.Contains(body, "m=video 0 RTP/AVP 96\r\nm=image 0 udptl t38\r\nm=audio 0 RTP/SAVP 8\r\n")) {
					h.t.Errorf("%d by %s: not refused in %q", i, method, body)
				}
				if originID(body) != originID(first) {
					h.t.Errorf("%d by %s: another session", i, method)
				}
				now, _ := strconv.Atoi(strings.Fields(body)[3])
				if method == "UPDATE" && now != version || now < version {
					h.t.Errorf("%d by %s: version %d after %d", i, method, now, version)
				}
				version = now
			}
		}
		branch := p.invite("", none+"m=image 6000 udptl t38\r\n") // a fax, which would have neither sound nor picture
		p.expect("SIP/2.0 488")
		p.ack(branch, "")
		p.bye()
	})
}

// TestWeHold: an offer of ours that comes at a bad time is made again, one that is
// refused leaves the session as it was (RFC 3261 §14.1).
func TestWeHold(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.phone("1001")
		got := h.ring(h.t.Context(), "1001", Caller{})
		const timer = "Session-Expires: 90;refresher=uac\r\n"
		p.reply(p.calling(), "200 OK", "a", p.contact()+timer, p.offer("a=inactive\r\n"))
		p.expect("ACK")
		c := (<-got).leg.(*Call)
		done := make(chan error, 1)
		asks := func(dir string) string {
			h.t.Helper()
			m := p.due("INVITE")
			if !strings.Contains(bodyOf(m), "a="+dir+"\r\n") {
				h.t.Errorf("want %s in %q", dir, bodyOf(m))
			}
			return m
		}
		refuses := func(invite, status string) {
			h.t.Helper()
			p.reply(invite, status, "", "", "")
			p.expect("ACK")
		}
		agrees := func(invite string) {
			h.t.Helper()
			p.reply(invite, "200 OK", "", p.contact()+timer, p.offer("a=inactive\r\n"))
			p.expect("ACK")
		}
		go func() { done <- c.Hold(h.t.Context(), true) }()
		refuses(asks("sendonly"), "491 Request Pending")
		began := time.Now()
		again := asks("sendonly")
		if after := time.Since(began); after < glareOwnerLeast || after > glareOwnerMost { // the Call-ID is ours
			h.t.Errorf("after %s", after)
		}
		agrees(again)
		if err := <-done; err != nil {
			h.t.Errorf("hold: %v", err)
		}
		go func() { done <- c.Hold(h.t.Context(), false) }()
		refuses(asks("sendrecv"), "488 Not Acceptable Here")
		var s *StatusError
		if err := <-done; !errors.As(err, &s) || s.Code != 488 {
			h.t.Errorf("resume: %v", err)
		}
		agrees(asks("sendonly")) // a refresh says what holds
		go func() { done <- c.Hold(h.t.Context(), false) }()
		for range holdTries {
			refuses(asks("sendrecv"), "491 Request Pending")
		}
		if err := <-done; err == nil {
			h.t.Error("resumed, of somebody who always has an offer of their own")
		}
		agrees(asks("sendonly"))
	})
}

func TestAPortThatNeverWasIsNoHold(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		branch := p.invite("", strings.Replace(p.offer(""), "m=audio 19000", "m=audio 0", 1))
		p.toTag = tagOf(p.expect("SIP/2.0 488"), "To")
		p.ack(branch, "")
	})
}

func TestALateAnswerThatMakesNoSenseChangesNothing(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		p.answered()
		p.invite("", "")
		p.expect("SIP/2.0 200")
		p.ack(randomText(), "") // with the answer missing
		p.nothing(time.Second)
		p.invite("", "")
		p.expect("SIP/2.0 200")
		p.ack(randomText(), "v=0\r\nm=audio 4000 RTP/AVP 18\r\n")
		p.nothing(time.Second)
		p.bye()
	})
}
