package sip

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// proofsOf are the proofs that a request carries, by realm; those for proxies in capitals.
func proofsOf(m string) map[string]credentials {
	found := map[string]credentials{}
	for line := range strings.SplitSeq(m, "\r\n") {
		name, value, _ := strings.Cut(line, ": ")
		c, ok := parseCredentials(value)
		switch {
		case ok && name == "Authorization":
			found[c.realm] = c
		case ok && name == "Proxy-Authorization":
			found[strings.ToUpper(c.realm)] = c
		}
	}
	return found
}

// proves holds a request against who has asked for proofs so far: ONE:1 is the first proof
// with the nonce of the proxy of that realm.
func proves(t *testing.T, m string, want ...string) {
	t.Helper()
	method, _, _ := strings.Cut(m, " ")
	if method == "ACK" {
		method = "INVITE" // RFC 3261 §13.2.2.4: the same proofs
	}
	have := proofsOf(m)
	if len(have) != len(want) {
		t.Errorf("%d proofs in %q", len(have), m)
	}
	for _, w := range want {
		realm, uses, _ := strings.Cut(w, ":")
		c, ok := have[realm]
		short, _ := HA1("account", c.realm, "geheim")
		if !ok || c.nc != "0000000"+uses || !c.right(short, method) {
			t.Errorf("the proof for %s is %+v", w, c)
		}
	}
}

// asking is the challenge of a realm.
func asking(realm string, proxy bool) string {
	name := "WWW"
	if proxy {
		name = "Proxy"
	}
	return fmt.Sprintf("%s-Authenticate: Digest realm=%q, nonce=%q, qop=\"auth-int,auth\"\r\n", name, realm, "n"+realm)
}

// TestProxiesInTurn: two proxies and whom a request is for ask for a proof, one after the
// other or both at once, and each gets what it asked for as long as the request goes on
// (RFC 3261 §22.3).
func TestProxiesInTurn(t *testing.T) {
	both(t, waitAnswer, func(h *house) {
		p := h.peer(trunkIP)
		account := Account{"account", "geheim"}
		calls := make(chan *Call, 1)
		go func() {
			c, err := h.a.Dial(h.t.Context(), "0551234567", DialOptions{Via: p.addr, Account: account})
			if err != nil {
				h.t.Error(err)
			}
			calls <- c
		}()
		m := p.calling()
		p.refuse(m, "407 Proxy Authentication Required", asking("one", true))
		m = p.calling()
		proves(h.t, m, "ONE:1")
		p.refuse(m, "407 Proxy Authentication Required", asking("two", true))
		m = p.calling()
		proves(h.t, m, "ONE:2", "TWO:1")
		p.refuse(m, "401 Unauthorized", asking("one", false)) // a realm of the same name is another one
		m = p.calling()
		proves(h.t, m, "ONE:3", "TWO:2", "one:1")
		proves(h.t, p.lift(m, "a"), "ONE:3", "TWO:2", "one:1")
		c := <-calls
		if c == nil {
			return
		}
		c.Hangup(h.t.Context())
		m = p.expect("BYE")
		p.reply(m, "407 Proxy Authentication Required", "", asking("one", true)+asking("two", true), "")
		m = p.expect("BYE")
		proves(h.t, m, "ONE:1", "TWO:1")
		p.reply(m, "401 Unauthorized", "", asking("far", false), "")
		m = p.expect("BYE")
		proves(h.t, m, "ONE:2", "TWO:2", "far:1")
		p.reply(m, "200 OK", "", "", "")

		done := make(chan error, 1)
		go func() {
			_, err := h.a.Register(h.t.Context(), RegisterOptions{Extension: "0551234567", User: "account", Password: "geheim", Registrar: p.addr, Expires: time.Minute})
			done <- err
		}()
		m = p.expect("REGISTER")
		p.reply(m, "407 Proxy Authentication Required", "r", asking("one", true), "")
		m = p.expect("REGISTER")
		proves(h.t, m, "ONE:1")
		p.reply(m, "401 Unauthorized", "r", asking("home", false), "")
		m = p.expect("REGISTER")
		proves(h.t, m, "ONE:2", "home:1")
		p.reply(m, "200 OK", "r", "", "")
		if err := <-done; err != nil {
			h.t.Error(err)
		}

		go func() { // and who never has enough is not asked for ever
			_, err := h.a.Dial(h.t.Context(), "0551234567", DialOptions{Via: p.addr, Account: account})
			done <- err
		}()
		for i := range realmsMost + 1 {
			m = p.calling()
			p.refuse(m, "407 Proxy Authentication Required", asking(fmt.Sprint("r", i), true))
		}
		var s *StatusError
		if err := <-done; !errors.As(err, &s) || s.Code != 407 {
			h.t.Errorf("refused: %v", err)
		}
	})
}
