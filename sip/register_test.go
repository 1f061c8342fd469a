package sip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answersChallenge says whether a request carries the answer that HA1 by an
// algorithm makes to a nonce.
func answersChallenge(t *testing.T, m, name, method, realm, nonce, algorithm string) {
	t.Helper()
	c, ok := parseCredentials(headerOf(m, name))
	if !ok || c.username != "account" || c.realm != realm || c.nonce != nonce || c.algorithm != algorithm || c.opaque != "o1" {
		t.Errorf("%s: %q", name, headerOf(m, name))
		return
	}
	short, long := HA1("account", realm, "geheim")
	if algorithm == algorithmSHA256 {
		short = long
	}
	if c.response != c.digestResponse(short, method) {
		t.Errorf("a wrong answer: %q", headerOf(m, name))
	}
}

const twoChallenges = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", opaque=\"o1\", qop=\"auth\"\r\n" +
	"WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", opaque=\"o1\", algorithm=SHA-256, qop=\"auth\"\r\n"

// TestKeepRegistered registers at a carrier that challenges by two algorithms,
// finds the nonce stale, wants a longer time, fails for a while, and is told
// goodbye at the end.
func TestKeepRegistered(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.peer(trunkIP)
		ctx, cancel := context.WithCancel(h.t.Context())
		defer cancel()
		tries := make(chan error, 1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.a.KeepRegistered(ctx, RegisterOptions{Extension: "0551234567", User: "account", Password: "geheim",
				Registrar: p.addr, Domain: "voip.example.it", Expires: time.Minute}, func(err error) { tries <- err })
		}()
		m := p.expect("REGISTER sip:voip.example.it SIP/2.0")
		first := m
		if to := headerOf(m, "To"); !strings.Contains(to, "<sip:0551234567@voip.example.it>") || headerOf(m, "Authorization") != "" {
			h.t.Errorf("registers %q", m)
		}
		p.reply(m, "401 Unauthorized", "r", twoChallenges, "")
		m = p.expect("REGISTER")
		answersChallenge(h.t, m, "Authorization", "REGISTER", "carrier", "n1", algorithmSHA256)
		p.reply(m, "401 Unauthorized", "r", "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n2\", opaque=\"o1\", stale=TRUE\r\n", "")
		m = p.expect("REGISTER")
		answersChallenge(h.t, m, "Authorization", "REGISTER", "carrier", "n2", algorithmMD5)
		p.reply(m, "423 Interval Too Brief", "r", "Min-Expires: 300\r\n", "")
		m = p.expect("REGISTER")
		if headerOf(m, "Expires") != "300" || headerOf(m, "CSeq") == "" {
			h.t.Errorf("asks again with %q", m)
		}
		p.reply(m, "200 OK", "r", "Contact: "+headerOf(m, "Contact")+";expires=200\r\n", "")
		if err := <-tries; err != nil {
			h.t.Fatalf("registered: %v", err)
		}

		granted := time.Now()
		<-time.After(130 * time.Second)
		m = p.expect("REGISTER")
		if since := time.Since(granted); since < 100*time.Second || since > 150*time.Second {
			h.t.Errorf("renewed after %s of 200 s", since)
		}
		for _, x := range []struct {
			code  int
			head  string
			after time.Duration
		}{{403, "", 5 * time.Second}, {503, "Retry-After: 18 (busy)\r\n", 18 * time.Second}} {
			p.reply(m, fmt.Sprint(x.code, " No"), "r", x.head, "")
			var s *StatusError
			if err := <-tries; !errors.As(err, &s) || s.Code != x.code {
				h.t.Errorf("refused: %v", err)
			}
			refused := time.Now()
			m = p.expect("REGISTER")
			if since := time.Since(refused).Round(time.Second); since != x.after {
				h.t.Errorf("tried again after %s", since)
			}
		}
		p.reply(m, "200 OK", "r", "", "")
		if err := <-tries; err != nil {
			h.t.Fatal(err)
		}
		cancel()
		m = p.expect("REGISTER")
		if headerOf(m, "Expires") != "0" {
			h.t.Errorf("the goodbye is %q", m)
		}
		number := func(m string) (n int) {
			_, _ = fmt.Sscanf(headerOf(m, "CSeq"), "%d", &n)
			return n
		}
		if headerOf(m, "Call-ID") != headerOf(first, "Call-ID") || number(m) != number(first)+7 { // RFC 3261 §10.2.4
			h.t.Errorf("%q, after %q", m, first)
		}
		p.reply(m, "200 OK", "r", "", "")
		<-ended
	})
}

// TestTheNextRegistrar: of a registrar with several addresses the next one is asked when
// one is away or ill (RFC 3263 §4.3), and from then on first; a refusal holds for all.
func TestTheNextRegistrar(t *testing.T) {
	bubble(t, ring, func(h *house) {
		first, second := h.peer(trunkIP), h.peer(trunkIP)
		nowhere := errors.New("no such name")
		var away atomic.Bool
		ctx, cancel := context.WithCancel(h.t.Context())
		defer cancel()
		tries := make(chan error, 1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.a.KeepRegistered(ctx, RegisterOptions{Extension: "0551234567", Domain: "voip.example.it", Expires: time.Minute, Locate: func(context.Context) ([]netip.AddrPort, error) {
				if away.Load() {
					return nil, nowhere
				}
				return []netip.AddrPort{first.addr, second.addr}, nil
			}}, func(err error) { tries <- err })
		}()
		answered := func(p *peer, status, head string) {
			h.t.Helper()
			p.reply(p.due("REGISTER sip:voip.example.it SIP/2.0"), status, "r", head, "")
		}
		told := func(want int) {
			h.t.Helper()
			err := <-tries
			var s *StatusError
			if errors.As(err, &s); (err == nil) != (want == 200) || err != nil && (s == nil || s.Code != want) {
				h.t.Fatalf("told %v, want %d", err, want)
			}
		}
		answered(first, "503 Service Unavailable", "")
		answered(second, "200 OK", "Expires: 60\r\n")
		told(200)
		answered(second, "200 OK", "Expires: 60\r\n")
		told(200)
		first.nothing(time.Millisecond)
		away.Store(true)
		for m := range 3 { // its name is away for a while
			if err := <-tries; !errors.Is(err, nowhere) {
				h.t.Fatalf("try %d: %v", m, err)
			}
		}
		away.Store(false)
		second.due("REGISTER")
		answered(first, "403 Forbidden", "") // for the second says nothing
		told(403)
		for second.within(time.Millisecond) != "" { // what it was asked before
		}
		second.nothing(time.Millisecond)
		answered(first, "200 OK", "Expires: 60\r\n")
		told(200)
		cancel()
		if m := first.due("REGISTER"); headerOf(m, "Expires") != "0" {
			h.t.Errorf("the goodbye is %q", m)
		}
		<-ended
		second.nothing(time.Millisecond)
	})
}

// TestRegisterRefused: refusals that cannot be mended are errors, each
// with its status, after as few requests as can be.
func TestRegisterRefused(t *testing.T) {
	for name, answers := range map[string][]string{
		"wrong password":       {"401 Unauthorized", twoChallenges, "401 Unauthorized", twoChallenges},
		"always stale":         {"401 Unauthorized", twoChallenges, "401 Unauthorized", staleChallenge, "401 Unauthorized", staleChallenge, "401 Unauthorized", staleChallenge},
		"no algorithm of ours": {"401 Unauthorized", "WWW-Authenticate: Digest realm=\"c\", nonce=\"n\", algorithm=MD5-sess\r\n"},
		"too brief, no time":   {"423 Interval Too Brief", ""},
		"too brief, a year":    {"423 Interval Too Brief", "Min-Expires: 31536000\r\n"},
		"too brief, words":     {"423 Interval Too Brief", "Min-Expires: long\r\n"},
		"too brief, shorter":   {"423 Interval Too Brief", "Min-Expires: 5\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, ring, func(h *house) {
				p := h.peer(trunkIP)
				done := make(chan error, 1)
				go func() {
					_, err := h.a.Register(h.t.Context(), RegisterOptions{Extension: "0551234567", User: "account", Password: "geheim", Registrar: p.addr, Expires: time.Minute})
					done <- err
				}()
				for i := 0; i < len(answers); i += 2 {
					p.reply(p.expect("REGISTER"), answers[i], "r", answers[i+1], "")
				}
				if err := <-done; err == nil {
					h.t.Error("registered")
				}
			})
		})
	}
}

// TestOurOwnContactCounts: a registrar tells of all contacts of the account, and only
// what it gave to ours says when we must come again.
func TestOurOwnContactCounts(t *testing.T) {
	const others = "Contact: <sip:0551234567@192.0.2.7:5060>;expires=7\r\nContact: <sip:0551234567@127.0.0.1:5099>;expires=9, \"Pronto\" "
	for name, c := range map[string]struct {
		answer string // %s: our contact
		want   time.Duration
	}{
		"after others":             {others + "%s;q=0.5;expires=240\r\n", 240 * time.Second},
		"before others":            {"Contact: %s;expires=60\r\nContact: <sip:0551234567@192.0.2.7>;expires=3000\r\n", 60 * time.Second},
		"the time in Expires":      {"Contact: %s\r\nExpires: 120\r\n", 120 * time.Second},
		"only Expires":             {"Expires: 90\r\n", 90 * time.Second},
		"written otherwise":        {"Contact: <sip:x@192.0.2.7>;expires=300\r\nContact: <sip:y@192.0.2.8>;expires=200\r\n", 200 * time.Second},
		"nothing that makes sense": {"Contact: %s;expires=soon\r\n", 10 * time.Minute},
		"nothing at all":           {"", 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, ring, func(h *house) {
				p := h.peer(trunkIP)
				granted := make(chan time.Duration, 1)
				go func() {
					g, _ := h.a.Register(h.t.Context(), RegisterOptions{Extension: "0551234567", Registrar: p.addr, Domain: "voip.example.it", Expires: 10 * time.Minute})
					granted <- g
				}()
				m := p.expect("REGISTER")
				p.reply(m, "200 OK", "r", strings.ReplaceAll(c.answer, "%s", headerOf(m, "Contact")), "")
				if got := <-granted; got != c.want {
					h.t.Errorf("granted %s, want %s", got, c.want)
				}
			})
		})
	}
}

const staleChallenge = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n2\", opaque=\"o1\", stale=true\r\n"

// TestALostConnectionIsRegisteredAnew: a registrar reaches us by the connection that we
// registered by, so one that ends is made anew long before the registration lapses.
func TestALostConnectionIsRegisteredAnew(t *testing.T) {
	h := newHouse(t, nil, ring)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.a.KeepRegistered(ctx, RegisterOptions{Extension: "0551234567", Registrar: addrPort(l.Addr()), TCP: true, Expires: time.Hour}, func(error) {})
	}()
	answer := func() net.Conn {
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
		conn, err := l.Accept()
		if err != nil {
			t.Fatalf("no connection: %v", err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		if m := string(b[:n]); err != nil || !strings.HasPrefix(m, "REGISTER") {
			t.Fatalf("%q, %v", m, err)
		}
		p := &peer{h: h}
		if _, err := io.WriteString(conn, p.answer(string(b[:n]), "200 OK", "r", "", "")); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	began := time.Now()
	_ = answer().Close()
	conn := answer()
	if took := time.Since(began); took < registerAgain/2 {
		t.Errorf("again after %s", took)
	}
	cancel()
	b := make([]byte, 4096)
	if n, err := conn.Read(b); err != nil || !strings.Contains(string(b[:n]), "Expires: 0\r\n") {
		t.Errorf("the goodbye is %q, %v", b[:n], err)
	}
	_ = conn.Close()
	<-ended
}

// hangUpAll ends what calls there are from our side.
func hangUpAll(h *house) {
	h.a.mu.Lock()
	list := slices.Collect(maps.Keys(h.a.calls))
	h.a.mu.Unlock()
	for _, c := range list {
		c.Hangup(context.Background())
	}
}

// TestACarrierChallengesOurCall: a 407 is answered once, with a new CSeq and the
// same Call-ID; a wrong password is a refusal. So it is with our BYE.
func TestACarrierChallengesOurCall(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.peer(trunkIP)
		dial := func(ctx context.Context) <-chan error {
			done := make(chan error, 1)
			go func() {
				_, err := h.a.Dial(ctx, "+390551234567", DialOptions{Via: p.addr, From: "+39055400500", Account: Account{"account", "geheim"}})
				done <- err
			}()
			return done
		}
		const proxyChallenge = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", opaque=\"o1\", algorithm=MD5, qop=\"auth\"\r\n"
		done := dial(h.t.Context())
		first := p.calling()
		p.reply(first, "407 Proxy Authentication Required", "x", proxyChallenge, "")
		p.expect("ACK")
		second := p.calling()
		answersChallenge(h.t, second, "Proxy-Authorization", "INVITE", "carrier", "n1", algorithmMD5)
		if headerOf(second, "Call-ID") != headerOf(first, "Call-ID") || headerOf(second, "CSeq") == headerOf(first, "CSeq") || tagOf(second, "To") != "" {
			h.t.Errorf("asked again with %q", second)
		}
		p.reply(second, "180 Ringing", "a", p.contact(), "")
		p.lift(second, "a")
		if err := <-done; err != nil {
			h.t.Fatalf("dial: %v", err)
		}
		hangUpAll(h)
		bye := p.expect("BYE") // refused, the call would stand, and cost
		p.reply(bye, "407 Proxy Authentication Required", "", strings.ReplaceAll(proxyChallenge, "n1", "n2"), "")
		again := p.expect("BYE")
		answersChallenge(h.t, again, "Proxy-Authorization", "BYE", "carrier", "n2", algorithmMD5)
		p.reply(again, "407 Proxy Authentication Required", "", proxyChallenge, "")
		p.nothing(100 * time.Millisecond) // once

		done = dial(h.t.Context())
		for range 2 {
			p.reply(p.calling(), "407 Proxy Authentication Required", "y", proxyChallenge, "")
			p.expect("ACK")
		}
		var s *StatusError
		if err := <-done; !errors.As(err, &s) || s.Code != 407 {
			h.t.Errorf("a wrong password: %v", err)
		}
	})
}
