package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// register sends a REGISTER and gives the answer.
func (p *peer) register(extension, head string) string {
	p.h.t.Helper()
	p.seq++
	p.send(fmt.Sprintf("REGISTER sip:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@pronto>;tag=x\r\nTo: <sip:%s@pronto>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\n%sContent-Length: 0\r\n\r\n",
		p.server, p.addr, randomText(), extension, extension, p.callID, p.seq, head))
	return p.within(20 * time.Second)
}

// challenge takes the nonce out of a 401.
func challengeOf(t *testing.T, m string) credentials {
	t.Helper()
	c, ok := parseCredentials(headerOf(m, "WWW-Authenticate"))
	if !ok || c.nonce == "" {
		t.Fatalf("no challenge in %q", m)
	}
	return c
}

func (c credentials) line(user, password, algorithm, nc string) string {
	return c.lineFor("REGISTER", "sip:pronto", user, password, algorithm, nc)
}

// lineFor is line for a request of another method, to a Request-URI.
func (c credentials) lineFor(method, uri, user, password, algorithm, nc string) string {
	c.username, c.uri, c.algorithm, c.qop, c.nc, c.cnonce = user, uri, algorithm, "auth", nc, "abc"
	ha1, long := HA1(user, c.realm, password)
	if algorithm == algorithmSHA256 {
		ha1 = long
	}
	return fmt.Sprintf("Authorization: Digest username=%q, realm=%q, nonce=%q, uri=%q, response=%q, algorithm=%s, qop=auth, nc=%s, cnonce=%q\r\n",
		user, c.realm, c.nonce, c.uri, c.digestResponse(ha1, method), algorithm, nc, c.cnonce)
}

func TestATelephoneRegisters(t *testing.T) {
	both(t, ring, func(h *house) {
		for _, algorithm := range []string{algorithmMD5, algorithmSHA256} {
			p := h.peer(strangeIP)
			contact := "Contact: <sip:1001@" + p.addr.String() + ";x=%41>;expires=600\r\n"
			m := p.register("1001", contact)
			if !strings.HasPrefix(m, "SIP/2.0 401") || strings.Count(m, "WWW-Authenticate: Digest") != 2 {
				h.t.Fatalf("got %q", m)
			}
			c := challengeOf(h.t, m)
			m = p.register("1001", contact+c.line("1001", "secret", algorithm, "00000001"))
			if !strings.HasPrefix(m, "SIP/2.0 200") || headerOf(m, "Contact") != "<sip:1001@"+p.addr.String()+";x=%41>;expires=600" {
				h.t.Fatalf("got %q", m)
			}
			// The next count of the same nonce is right, the same one is stale.
			if m = p.register("1001", contact+c.line("1001", "secret", algorithm, "00000002")); !strings.HasPrefix(m, "SIP/2.0 200") {
				h.t.Fatalf("got %q", m)
			}
			if m = p.register("1001", contact+c.line("1001", "secret", algorithm, "00000002")); !strings.HasPrefix(m, "SIP/2.0 401") || !strings.Contains(m, "stale=true") {
				h.t.Fatalf("a replay got %q", m)
			}
			// Away again.
			if m = p.register("1001", "Contact: *\r\nExpires: 0\r\n"+c.line("1001", "secret", algorithm, "00000003")); !strings.HasPrefix(m, "SIP/2.0 200") || headerOf(m, "Contact") != "" {
				h.t.Fatalf("got %q", m)
			}
			if h.a.Registered("1001", time.Now()) {
				h.t.Error("still registered")
			}
		}
	})
}

func TestEveryoneGetsTheSame401(t *testing.T) {
	both(t, ring, func(h *house) {
		var answers []string
		for _, x := range []struct{ to, user, password string }{
			{"1001", "1001", "wrong"}, {"99999", "99999", "secret"}, {"1001", "1002", "secret"}, {"1001", "99999", ""},
		} {
			p := h.peer(strangeIP)
			c := challengeOf(h.t, p.register(x.to, ""))
			m := p.register(x.to, "Contact: <sip:x@"+p.addr.String()+">\r\n"+c.line(x.user, x.password, algorithmMD5, "00000001"))
			var shape []string // what remains when the nonce and the identifiers are taken out
			for line := range strings.SplitSeq(m, "\r\n") {
				name, _, _ := strings.Cut(line, ":")
				shape = append(shape, name)
			}
			answers = append(answers, strings.Join(shape, ","))
			if !strings.HasPrefix(m, "SIP/2.0 401") || strings.Contains(m, "stale") {
				h.t.Errorf("%+v got %q", x, m)
			}
		}
		for _, a := range answers {
			if a != answers[0] {
				h.t.Errorf("%s\nis not\n%s", a, answers[0])
			}
		}
	})
}

func TestANonceAgesAndBelongsToItsSource(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.peer(strangeIP)
		c := challengeOf(h.t, p.register("1001", ""))
		<-time.After(nonceLife + time.Second) // in the bubble
		if m := p.register("1001", c.line("1001", "secret", algorithmMD5, "00000001")); !strings.Contains(m, "stale=true") {
			h.t.Errorf("got %q", m)
		}
		c = challengeOf(h.t, p.register("1001", ""))
		q := h.peer(netip.MustParseAddr("127.0.0.98"))
		if m := q.register("1001", c.line("1001", "secret", algorithmMD5, "00000001")); !strings.HasPrefix(m, "SIP/2.0 401") || strings.Contains(m, "stale") {
			h.t.Errorf("got %q", m)
		}
	})
}

func TestContactsOfATelephone(t *testing.T) {
	both(t, ring, func(h *house) {
		p := h.peer(strangeIP)
		c := challengeOf(h.t, p.register("1001", ""))
		n := 0
		try := func(head, want string) string {
			h.t.Helper()
			n++
			m := p.register("1001", head+c.line("1001", "secret", algorithmMD5, fmt.Sprintf("%08x", n)))
			if !strings.HasPrefix(m, "SIP/2.0 "+want) {
				h.t.Errorf("%q got %q", head, m)
			}
			return m
		}
		try("Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.2>;expires=120\r\nExpires: 300\r\n", "200")
		if m := try("", "200"); strings.Count(m, "Contact: <sip:") != 2 || !strings.Contains(m, "<sip:b@192.0.2.2>;expires=120") {
			h.t.Errorf("bindings: %q", m)
		}
		if m := try("Contact: <sip:a@192.0.2.1>;expires=5\r\n", "423"); headerOf(m, "Min-Expires") != "30" {
			h.t.Errorf("got %q", m)
		}
		try("Contact: <sip:a@192.0.2.1>;expires=0\r\n", "200")
		if m := try("Contact: <sip:c@"+p.addr.String()+">;expires=99999\r\n", "200"); !strings.Contains(m, "<sip:c@"+p.addr.String()+">;expires=7200") {
			h.t.Errorf("got %q", m)
		}
		try("Contact: *\r\nExpires: 30\r\n", "400")
		try("Contact: <mailto:a@b>\r\n", "400")
		try("Contact: <sip:caff\xe8@192.0.2.1>\r\n", "400") // no database keeps it, and 503 would be asked again for ever
		try("Contact: <sip:a\x00b@192.0.2.1>\r\n", "400")
		for _, nowhere := range []string{"192.0.2.1:0", "192.0.2.1:65536", "[2001:db8::1]:99999", "192.0.2.1:;transport=udp"} { // could never be rung
			try("Contact: <sip:a@"+nowhere+">\r\n", "400")
		}
		try("Contact: <sip:a@[2001:db8::1]>\r\nExpires: 300\r\n", "200")
		try("Contact: <sip:a@[2001:db8::1]:65535>;expires=0, <sip:a@[2001:db8::1]>;expires=0\r\n", "200")
		for i := range maxContacts - 2 {
			try(fmt.Sprintf("Contact: <sip:d%d@192.0.2.1>\r\n", i), "200")
		}
		try("Contact: <sip:toomany@192.0.2.1>\r\n", "403")
		// A request that comes late: same Call-ID, lower number.
		p.seq -= 5
		try("Contact: <sip:d5@192.0.2.1>\r\n", "500")
		p.seq += 5
		h.phones.mu.Lock()
		h.phones.err = errors.New("the database is away")
		h.phones.mu.Unlock()
		if m := try("", "503"); headerOf(m, "Retry-After") == "" {
			h.t.Errorf("got %q", m)
		}
	})
}

// TestATelephoneBehindANAT is asked something often enough that it can be rung, as long as
// it is signed in; one whose address is its own is left alone.
func TestATelephoneBehindANAT(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p, q := h.peer(strangeIP), h.peer(strangeIP)
		for phone, contact := range map[*peer]string{p: "sip:1001@192.168.7.9:5062;x=1", q: "sip:1002@" + q.addr.String()} {
			extension := contact[len("sip:"):][:4]
			c := challengeOf(h.t, phone.register(extension, ""))
			m := phone.register(extension, "Contact: <"+contact+">;expires=7200\r\n"+c.line(extension, "secret", algorithmMD5, "00000001"))
			if want := map[*peer]string{p: ";expires=600", q: ";expires=7200"}[phone]; !strings.HasSuffix(headerOf(m, "Contact"), want) {
				h.t.Errorf("registered until %q", m)
			}
		}
		asked := 0
		for began := time.Now(); time.Since(began) < 5*time.Minute; asked++ {
			since := time.Now()
			m := p.within(time.Minute)
			if !strings.HasPrefix(m, "OPTIONS sip:1001@192.168.7.9:5062;x=1 SIP/2.0\r\n") || time.Since(since) > 29*time.Second {
				h.t.Fatalf("after %s: %q", time.Since(since), m)
			}
			p.reply(m, "200 OK", "a", "", "")
		}
		c := challengeOf(h.t, p.register("1001", ""))
		p.register("1001", "Contact: *\r\nExpires: 0\r\n"+c.line("1001", "secret", algorithmMD5, "00000001"))
		p.nothing(time.Minute)
		q.nothing(time.Millisecond)
	})
}

// TestATelephoneBehindANATIsKeptThroughARestart: one that had registered before is asked
// at once, as soon as it is known; not one whose address is its own, nor by TCP.
func TestATelephoneBehindANATIsKeptThroughARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := make(chan []Binding)
		h := build(t, &wire{ends: map[netip.AddrPort]*wireEnd{}}, netip.MustParseAddrPort("127.0.0.1:0"), ring, func(_ *house, c *Config) {
			c.Signed = func(context.Context) ([]Binding, error) {
				if list := <-known; list != nil {
					return list, nil
				}
				return nil, errors.New("the database is away")
			}
		})
		defer h.stop()
		p, q, r := h.peer(strangeIP), h.peer(strangeIP), h.peer(strangeIP)
		until := time.Now().Add(10 * time.Minute)
		known <- nil
		known <- []Binding{
			{Extension: "1001", Contact: "sip:1001@192.168.7.9:5062", Source: p.addr, Transport: transportUDP, Expires: until},
			{Extension: "1002", Contact: "sip:1002@" + q.addr.String(), Source: q.addr, Transport: transportUDP, Expires: until},
			{Extension: "1003", Contact: "sip:1003@192.168.7.9:5064", Source: r.addr, Transport: transportTCP, Expires: until},
		}
		for range 3 {
			if m := p.within(29 * time.Second); !strings.HasPrefix(m, "OPTIONS sip:1001@192.168.7.9:5062 SIP/2.0\r\n") {
				t.Fatalf("got %q", m)
			}
		}
		q.nothing(time.Millisecond)
		r.nothing(time.Millisecond)
	})
}

func TestOldTelephonesAreAskedForMD5Only(t *testing.T) {
	both(t, ring, func(h *house) {
		m := h.peer(strangeIP).register("1001", "User-Agent: baresip v1.0.0 (x86_64/linux)\r\n")
		if strings.Count(m, "WWW-Authenticate") != 1 || !strings.Contains(m, "algorithm=MD5") {
			h.t.Errorf("got %q", m)
		}
	})
}

func TestRegisterAsATelephone(t *testing.T) {
	server := newHouse(t, nil, ring)
	client := newHouse(t, nil, func(h *house, ctx ctxt, c *Call) {
		_ = c.Alert()
		waitAnswer(h, ctx, c)
	})
	for _, tcp := range []bool{false, true} {
		o := RegisterOptions{Extension: "1001", Password: "secret", Registrar: server.a.Addr(), TCP: tcp, Expires: time.Minute}
		granted, err := client.a.Register(t.Context(), o)
		if err != nil || granted != time.Minute {
			t.Fatalf("register: %s, %v", granted, err)
		}
		leg, err := server.a.Ring(t.Context(), "1001", Caller{Number: "+390551234567", Name: "Mario Rossi"})
		if err != nil {
			t.Fatalf("tcp %t: %v", tcp, err)
		}
		c := <-client.calls
		if c.From() != "+390551234567" || c.Name() != "Mario Rossi" || c.Source() != SourceAsserted {
			t.Errorf("the telephone shows %q %q %q", c.From(), c.Name(), c.Source())
		}
		leg.Hangup(t.Context())
		_ = ended(t, c)
		o.Expires = 0
		if _, err := client.a.Register(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if server.a.Registered("1001", time.Now()) {
			t.Error("still registered")
		}
		o.Password, o.Expires = "wrong", time.Minute
		var s *StatusError
		if _, err := client.a.Register(t.Context(), o); !errors.As(err, &s) || s.Code != 401 {
			t.Errorf("a wrong password: %v", err)
		}
	}
}
