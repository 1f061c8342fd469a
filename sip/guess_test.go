package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestGuesses: a search is slow, whether from one place or from many, and whoever has
// the right password is let in at once.
func TestGuesses(t *testing.T) {
	now := time.Unix(1e9, 0)
	g := guesses{left: map[guesser]*bucket{}}
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }
	looked := func(source netip.Addr, user string, home bool, tries int, apart time.Duration) (n int) {
		for range tries {
			if g.try(source, user, home, now) {
				n++
			}
			now = now.Add(apart)
		}
		return n
	}
	if n := looked(at(1), "1001", false, 1000, 0); n != 5 {
		t.Errorf("one source looks for one password: %d at once", n)
	}
	if n := looked(at(1), "1001", false, 3600, time.Second); n > 61 || n < 50 {
		t.Errorf("in an hour: %d", n)
	}
	spread := 0
	for i := range 1000 {
		spread += looked(at(2), fmt.Sprint(2000+i), false, 5, 0)
	}
	if spread != 30 {
		t.Errorf("one source tries many names: %d", spread)
	}
	many := 0
	for i := range 500 {
		many += looked(at(1000+i), "1003", false, 5, 0)
	}
	if many > 60+500 {
		t.Errorf("many sources look for one password: %d", many)
	}
	// The operator of 1003, at their desk, at another one, and after they have mistyped it.
	desk, other := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.9.7")
	for what, ok := range map[string]bool{
		"at their desk":     g.try(desk, "1003", true, now),
		"at another one":    g.try(other, "1003", false, now),
		"a year of typing":  looked(desk, "1003", true, 1000, 30*time.Second) == 1000,
		"a network's other": g.try(netip.MustParseAddr("2001:db8::1"), "1003", false, now),
	} {
		if !ok {
			t.Errorf("%s: an operator is locked out", what)
		}
	}
	for range 5 {
		g.try(other, "1004", false, now)
	}
	g.right(other, "1004", false, now)
	if !g.try(other, "1004", false, now) {
		t.Error("what was wrong before a right answer counts after it")
	}
	for i := range 5 * maxGuesses {
		g.try(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), fmt.Sprint(i), false, now)
	}
	if len(g.left) > maxGuesses+3 {
		t.Errorf("%d are remembered", len(g.left))
	}
}

// TestNobodyIsLockedOut: while somebody elsewhere tries passwords for 1001, the
// telephone of 1001 signs in.
func TestNobodyIsLockedOut(t *testing.T) {
	bubble(t, ring, func(h *house) {
		thief := h.peer(netip.MustParseAddr("127.0.0.98"))
		desk := h.peer(strangeIP)
		guess := func(password string) string {
			c := challengeOf(h.t, thief.register("1001", ""))
			<-time.After(time.Second) // within what any stranger may send
			return thief.register("1001", "Contact: <sip:x@"+thief.addr.String()+">\r\n"+c.line("1001", password, algorithmSHA256, "00000001"))
		}
		for i := range 20 {
			if m := guess(fmt.Sprint("guess", i)); !strings.HasPrefix(m, "SIP/2.0 401") || strings.Contains(m, "stale") {
				h.t.Fatalf("a guess got %q", m)
			}
		}
		// Not even the right one is looked at now, and the answer does not say so.
		if m := guess("secret"); !strings.HasPrefix(m, "SIP/2.0 401") || strings.Contains(m, "stale") {
			h.t.Errorf("the right one after many got %q", m)
		}
		c := challengeOf(h.t, desk.register("1001", ""))
		if m := desk.register("1001", "Contact: <sip:1001@"+desk.addr.String()+">\r\n"+c.line("1001", "secret", algorithmSHA256, "00000001")); !strings.HasPrefix(m, "SIP/2.0 200") {
			h.t.Errorf("the operator got %q", m)
		}
		<-time.After(10 * time.Minute)
		if m := guess("secret"); !strings.HasPrefix(m, "SIP/2.0 200") {
			h.t.Errorf("after a pause: %q", m)
		}
	})
}

// TestNoOracle compares what is done for a name that there is, with a password that is
// wrong, and for one that there is not: what is computed, not how long it took.
func TestNoOracle(t *testing.T) {
	h := newHouse(t, nil, ring)
	s, _, _ := h.phones.Secret(t.Context(), "1001", false)
	c := credentials{realm: "pronto", nonce: "n", uri: "sip:pronto", qop: "auth", nc: "00000001", cnonce: "c", algorithm: algorithmMD5}
	work := func(found bool, s Secret) float64 {
		return testing.AllocsPerRun(100, func() {
			if h.a.answers(c, s, found, "REGISTER") {
				t.Error("believed")
			}
		})
	}
	if there, not := work(true, s), work(false, Secret{}); there != not {
		t.Errorf("%v allocations for a name that there is, %v for one that there is not", there, not)
	}
	asked := func(user string) string {
		p := h.peer(strangeIP)
		m, _ := scan([]byte("REGISTER sip:pronto SIP/2.0\r\nTo: <sip:" + user + "@pronto>\r\n" + c.line(user, "wrong", algorithmMD5, "00000001") + "\r\n"))
		h.phones.mu.Lock()
		h.phones.asked = nil
		h.phones.mu.Unlock()
		if extension, status := h.a.authenticate(t.Context(), m, "REGISTER", p.addr.Addr(), time.Now()); extension != "" || status != 401 {
			t.Errorf("%s: %q, %d", user, extension, status)
		}
		return fmt.Sprint(h.phones.asked)
	}
	if there, not := asked("1001"), asked("99999"); there != not || there != "[false true]" {
		t.Errorf("asked %s for a name that there is, %s for one that there is not", there, not)
	}
}

// TestCredentialsAreForTheirRequest: what was signed for another method, another
// server, somebody else's name or a weaker algorithm signs nobody in.
func TestCredentialsAreForTheirRequest(t *testing.T) {
	h := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), ring, func(_ *house, c *Config) { c.Digests = []string{algorithmSHA256} })
	for what, line := range map[string]func(c credentials) string{
		"another method": func(c credentials) string {
			return c.lineFor("INVITE", "sip:pronto", "1001", "secret", algorithmSHA256, "00000001")
		},
		"another server": func(c credentials) string {
			return c.lineFor("REGISTER", "sip:evil.test", "1001", "secret", algorithmSHA256, "00000001")
		},
		"a user of the uri": func(c credentials) string {
			return c.lineFor("REGISTER", "sip:1002@pronto", "1001", "secret", algorithmSHA256, "00000001")
		},
		"no uri": func(c credentials) string {
			return c.lineFor("REGISTER", "", "1001", "secret", algorithmSHA256, "00000001")
		},
		"somebody else":      func(c credentials) string { return c.line("1002", "secret", algorithmSHA256, "00000001") },
		"a weaker algorithm": func(c credentials) string { return c.line("1001", "secret", algorithmMD5, "00000001") },
		"count nought":       func(c credentials) string { return c.line("1001", "secret", algorithmSHA256, "00000000") },
		"no count":           func(c credentials) string { return c.line("1001", "secret", algorithmSHA256, "x") },
		"integrity too": func(c credentials) string {
			return strings.Replace(c.line("1001", "secret", algorithmSHA256, "00000001"), "qop=auth", "qop=auth-int", 1)
		},
		"a nonce of its own": func(c credentials) string {
			c.nonce = strings.Repeat("0", len(c.nonce))
			return c.line("1001", "secret", algorithmSHA256, "00000001")
		},
	} {
		p := h.peer(strangeIP)
		c := challengeOf(t, p.register("1001", ""))
		if m := p.register("1001", "Contact: <sip:1001@"+p.addr.String()+">\r\n"+line(c)); !strings.HasPrefix(m, "SIP/2.0 401") {
			t.Errorf("%s got %q", what, m)
		}
	}
	if h.a.Registered("1001", time.Now()) {
		t.Error("signed in")
	}
}

// TestARegisterComesTwice: the answer to the first was lost; its nonce is spent, and yet
// the second gets it again.
func TestARegisterComesTwice(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.peer(strangeIP)
		c := challengeOf(h.t, p.register("1001", ""))
		p.seq++
		m := fmt.Sprintf("REGISTER sip:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\nFrom: <sip:1001@pronto>;tag=x\r\nTo: <sip:1001@pronto>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\n%sContent-Length: 0\r\n\r\n",
			p.server, p.addr, randomText(), p.callID, p.seq, c.line("1001", "secret", algorithmSHA256, "00000001"))
		for range 3 {
			p.send(m)
			p.expect("SIP/2.0 200")
		}
	})
}
