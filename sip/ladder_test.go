package sip

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
)

// tracedCall plays a whole call in a bubble (a caller with a name and a number, a
// telephone that is rung, lifted and hung up on) and gives its trace.
func tracedCall(t *testing.T, head, body string) (trace Trace) {
	synctest.Test(t, func(t *testing.T) {
		traces := make(chan Trace, 4)
		h := build(t, &wire{ends: map[netip.AddrPort]*wireEnd{}}, netip.MustParseAddrPort("127.0.0.1:0"), func(h *house, ctx context.Context, c *Call) {
			if err := c.Answer(ctx); err != nil {
				h.errs <- err
				return
			}
			leg, err := h.a.Ring(ctx, "1001", Caller{Number: c.From(), Name: "Mario Rossi"})
			if err != nil {
				h.errs <- err
				return
			}
			h.joined <- leg
			h.errs <- c.Bridge(ctx, leg)
		}, func(_ *house, c *Config) { c.Traced = func(one Trace) { traces <- one } })
		defer h.stop()
		phone := h.phone("1001")
		caller := h.peer(trunkIP)
		caller.invite(head, caller.offer("")+body)
		ok := caller.expect("SIP/2.0 200")
		caller.toTag = tagOf(ok, "To")
		caller.ack(randomText(), "")
		invite := phone.expect("INVITE")
		phone.reply(invite, "180 Ringing", "p1", "", "")
		phone.reply(invite, "200 OK", "p1", fmt.Sprintf("Contact: <sip:1001@%s>\r\n", phone.addr), phone.offer(""))
		phone.expect("ACK")
		<-h.joined
		caller.bye()
		bye := phone.expect("BYE")
		phone.reply(bye, "200 OK", "", "", "")
		if err := <-h.errs; err != nil {
			t.Errorf("the call broke off: %v", err)
		}
		trace = <-traces
	})
	return trace
}

// ways writes a trace as one word per message: who, which way, what.
func ways(t Trace) string {
	var b strings.Builder
	for _, m := range t.Messages {
		word := strings.Fields(m.First)[0]
		if word == "SIP/2.0" {
			word = strings.Fields(m.First)[1]
		}
		fmt.Fprintf(&b, "%s%s%s ", t.Ways[m.Way].End[:1], map[bool]string{true: "<", false: ">"}[m.Out != (t.Ways[m.Way].End == EndTelephone)], word)
	}
	return strings.TrimSpace(b.String())
}

// TestLadder: one trace holds all ways of a call, in order, each to its end.
func TestLadder(t *testing.T) {
	got := tracedCall(t, "", "")
	const want = "c>INVITE c<200 c>ACK t>INVITE t<180 t<200 t>ACK c>BYE c<200 t>BYE t<200"
	// The caller's BYE and the telephone's come of two goroutines.
	if w := ways(got); w != want && w != strings.Replace(want, "c<200 t>BYE", "t>BYE c<200", 1) {
		t.Errorf("the ladder is\n%s, want\n%s", w, want)
	}
	if len(got.Ways) != 2 || got.Ways[0].Name != "trunk" || got.Ways[1].Name != "1001" || got.Left != 0 {
		t.Errorf("%+v", got.Ways)
	}
	text, _ := json.Marshal(got)
	for _, secret := range []string{"390551234567", "0551234567", "Mario", "Rossi", "rossi"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%q is kept: %s", secret, text)
		}
	}
	for _, useful := range []string{"+390*******67", "m=audio 19000 RTP/AVP 8 0 96", "a=rtpmap:96 telephone-event/8000", "CSeq: 1 INVITE", "branch=z9hG4bK", "sip:1001@127.0.0.99:"} {
		if !strings.Contains(string(text), useful) {
			t.Errorf("%q is not kept: %s", useful, text)
		}
	}
}

// TestLadderHidesWhatItMust: ugly cases of where a number, a name, a key or a
// password may stand.
func TestLadderHidesWhatItMust(t *testing.T) {
	got := tracedCall(t,
		"P-Asserted-Identity: \"ROSSI, Mario\" <sip:+390551234567@127.0.0.1>, <tel:055%2D1234567>\r\n"+
			"Remote-Party-ID: Rossi <sip:0551234567@10.0.0.1>;party=calling;x=0551234567\r\n"+
			"Diversion: <sip:mario.rossi:geheim@example.it;phone-context=+39055>;reason=\"user-busy 0551234567\"\r\n"+
			"History-Info: <sip:%30551234567@example.it?Reason=SIP%3Bcause%3D302>;index=1\r\n"+
			"Authorization: Digest username=\"0551234567\", response=\"0123456789abcdef0123456789abcdef\", nonce=\"geheim\"\r\n"+
			"Proxy-Authorization: geheim\r\n"+
			"Reason: Q.850;cause=16;text=\"Mario Rossi at 055 123 45 67 or 055.12.34.567\"\r\n"+
			"Warning: 399 127.0.0.1 \"sip:geheim@example.it rang 333/1234567\"\r\n"+
			"User-Agent: Linphone/5.2 (Geheim's iPhone)\r\n"+
			"Subject: geheim\r\nCall-Info: <http://geheim.example>\r\nX-Mario: geheim\r\n"+
			"Record-Route: <sip:10.0.0.1;lr;who=geheim>;+sip.instance=\"<urn:uuid:geheim>\"\r\n",
		"s=geheim\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:geheim0551234567geheim\r\nA=crypto:2 geheim\r\na=Crypto:3 AES_CM_128_HMAC_SHA1_32 inline:geheim\r\nk=clear:geheim\r\ni=geheim\r\na=label:geheim\r\na=tool:geheim\r\n")
	text, _ := json.Marshal(got)
	for _, secret := range []string{"0551234567", "551234567", "1234567", "mario", "rossi", "geheim", "0123456789abcdef", "123 45 67", "055-1234567", "12.34.567"} {
		if i := strings.Index(strings.ToLower(string(text)), secret); i >= 0 {
			t.Errorf("%q is kept: …%s", secret, text[max(0, i-80):min(len(text), i+40)])
		}
	}
	for _, useful := range []string{"Authorization: Digest *", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 *", "cause=16", "User-Agent: Linphone/5.2", "example.it", "399 127.0.0.1"} {
		if !strings.Contains(string(text), useful) {
			t.Errorf("%q is not kept: %s", useful, text)
		}
	}
}

// TestMaskUser: never half of a number, nothing of a name.
func TestMaskUser(t *testing.T) {
	for user, want := range map[string]string{
		"+390551234567": "+390*******67", "390551234567": "390*******67", "800000001": "80*****01", "055123": "****23", "12345": "***45",
		"1001": "1001", "112": "112", "": "", "anonymous": "anonymous", "pronto": "pronto", "mario": "*", "+": "*", "+1": "*", "+12": "+12", "+123": "+*23", "055a1234567": "*", "+39 055": "*", "٠٥٥١٢٣٤": "*",
	} {
		if got := string(appendUser(nil, user)); got != want {
			t.Errorf("appendUser(%q) = %q, want %q", user, got, want)
		}
	}
}

// TestLadderIsBounded: whatever comes, a ladder has its first and its last
// messages, and no more octets than one call may have.
func TestLadderIsBounded(t *testing.T) {
	a, err := New(Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Traced: func(Trace) {}})
	if err != nil {
		t.Fatal(err)
	}
	a.ladders.begin(Way{CallID: "x", End: EndCarrier})
	l := a.ladders.hold(a.ladders.of("x"))
	message := func(n, size int) []byte {
		m := fmt.Sprintf("INFO sip:1 SIP/2.0\r\nCall-ID: x\r\nCSeq: %d INFO\r\nX: ", n)
		return []byte(m + strings.Repeat("x", size) + "\r\n\r\n")
	}
	for n := range 1000 {
		a.ladders.saw("x", n%2 == 0, message(n, n*20%9000))
		for range 3 {
			a.ladders.saw("x", n%2 == 0, message(n, n*20%9000)) // repeated: counted only
		}
		if l.octets > ladderCall || a.ladders.octets != l.octets || len(l.first) > ladderFirst || len(l.last) > ladderLast {
			t.Fatalf("after %d messages: %d octets, %d and %d", n, l.octets, len(l.first), len(l.last))
		}
	}
	got := a.masked(l)
	if first, last := got.Messages[0], got.Messages[len(got.Messages)-1]; first.Headers[1] != "CSeq: 0 INFO" || last.Headers[1] != "CSeq: 999 INFO" || last.Again != 3 {
		t.Errorf("the ladder goes from %q to %q (%d)", first.Headers, last.Headers, last.Again)
	}
	if got.Left+len(got.Messages) != 1000 {
		t.Errorf("%d messages and %d that are missing", len(got.Messages), got.Left)
	}
	a.ladders.release(l)
	a.ladders.flush()
	if len(a.ladders.open) != 0 || a.ladders.octets != 0 {
		t.Errorf("%d ladders, %d octets are left", len(a.ladders.open), a.ladders.octets)
	}
}

// TestMaskWrites: what is kept of a header, in each message in which it stands.
func TestMaskWrites(t *testing.T) {
	for header, want := range map[string]string{
		"v : SIP / 2.0 / UDP first.example.com: 4000;ttl=16 ;x=y;branch=z9.1, SIP/2.0/TCP 10.0.0.1": "Via: SIP / 2.0 / UDP first.example.com: 4000;ttl=16;branch=z9.1, SIP/2.0/TCP 10.0.0.1",
		"f: \"Mario\r\n\tRossi\" <sip:mario@[2001:DB8::1%eth0]:05061;x=1;LR?a=b>;TAG=1;y":           "From: \"*\" <sip:*@[2001:db8::1]:5061;lr?*>;tag=1",
		"Contact: *, sip:1001@h05512345;expires=60, <http://x>":                                     "Contact: <*>, <sip:1001@h********>;expires=60, <*>",
		"Refer-To: <sips:a@b:99999>, <tel:055123>, <tel:mario;x=y>, <sip:10.0.0.1:5060;lr>":         "Refer-To: <sips:*@b>, <tel:****23>, <tel:*>, <sip:10.0.0.1:5060;lr>",
		"Warning: 399 127.0.0.1. \"tel:1 333/12345678 caf\u00e9 1.2.3.4.5\"":                        "Warning: 399 127.0.0.1. * ***/******** caf? 1.2.3.4.5\"",
		"User-Agent: Linphone/5.2 1234567 b c d":                                                    "User-Agent: Linphone/5.2 ******* b",
		"Server: a (b) c":                                                                           "Server: a",
		"Authorization: Digest username=\"x\"":                                                      "Authorization: Digest *",
		"Authorization: x y":                                                                        "Authorization: *",
		"Allow: INVITE, (x) 123456":                                                                 "Allow: INVITE, ?x? ******",
		"Call-ID: a{b}@\xff":                                                                        "Call-ID: a?b?@?",
		"Z: y":                                                                                      "",
	} {
		got := new(Agent).masked(&ladder{first: []seen{{data: "BYE sip:x SIP/2.0\r\n" + header + "\r\n\r\n"}, {data: "SIP/2.0 200\r\nZ: x\r\n" + header + "\r\nZ: z\r\n\r\n"}}})
		for _, m := range got.Messages {
			if line := strings.Join(m.Headers, "|"); line != want {
				t.Errorf("of %q is kept %q, want %q", header, line, want)
			}
		}
		if len(got.Messages) != 2 {
			t.Errorf("%d messages", len(got.Messages))
		}
	}
}

// TestMaskForgets: the room for one call is used for the next, which has other secrets.
func TestMaskForgets(t *testing.T) {
	const bye = "BYE sip:x SIP/2.0\r\n"
	for range 3 {
		one := new(Agent).masked(&ladder{first: []seen{{data: bye + "From: \"Mario\" <sip:+390559876543@x>\r\nTo: <sip:x>;tag=mario\r\nContent-Type: application/sdp\r\n\r\na=mario:x\r\n"}}})
		two := new(Agent).masked(&ladder{first: []seen{{data: bye + "To: <sip:x>;tag=mario\r\nContent-Type: application/sdp\r\n\r\na=mario:x\r\n"}}})
		if got := one.Messages[0]; got.Headers[1] != "To: <sip:x>;tag=*****" || got.Body[0] != "a=*****:*" {
			t.Errorf("the first has %+v", got)
		}
		if got := two.Messages[0]; len(got.Headers) != 2 || got.Headers[0] != "To: <sip:x>;tag=mario" || len(got.Body) != 1 || got.Body[0] != "a=mario:*" {
			t.Errorf("the second has %+v", got)
		}
	}
}

// TestMaskEnds: a key of what hides would hide itself for ever.
func TestMaskEnds(t *testing.T) {
	invite := "INVITE sip:+390559876543@x SIP/2.0\r\nFrom: <sip:+390559876543@x>;tag=1\r\nX: inline:****\r\n\r\n"
	got := new(Agent).masked(&ladder{ways: []Way{{CallID: "x"}}, first: []seen{{data: invite}}})
	if len(got.Messages) != 1 || got.Messages[0].First != "INVITE sip:+390*******43@x SIP/2.0" {
		t.Errorf("%+v", got.Messages)
	}
}

// benchLadder is an ordinary call.
func benchLadder() *ladder {
	const head = "Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK776asdhds;rport\r\nMax-Forwards: 70\r\nFrom: \"Mario Rossi\" <sip:+390551234567@192.0.2.7>;tag=1928301774\r\n" +
		"To: <sip:800000001@192.0.2.1>\r\nCall-ID: a84b4c76e66710@192.0.2.7\r\nCSeq: 1 INVITE\r\nContact: <sip:+390551234567@192.0.2.7:5060>\r\n" +
		"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nUser-Agent: Carrier/1.2.3\r\n"
	const body = "Content-Type: application/sdp\r\n\r\nv=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n" +
		"m=audio 20000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
	l := &ladder{ways: []Way{{CallID: "a84b4c76e66710@192.0.2.7"}}}
	for _, message := range []string{"INVITE sip:800000001@192.0.2.1 SIP/2.0\r\n" + head + body, "SIP/2.0 100 Trying\r\n" + head + "\r\n", "SIP/2.0 200 OK\r\n" + head + body,
		"ACK sip:pronto@192.0.2.1 SIP/2.0\r\n" + head + "\r\n", "BYE sip:pronto@192.0.2.1 SIP/2.0\r\n" + head + "\r\n", "SIP/2.0 200 OK\r\n" + head + "\r\n"} {
		l.first = append(l.first, seen{data: message})
	}
	return l
}

// BenchmarkMask is what the signalling of an ordinary call costs beside the database.
func BenchmarkMask(b *testing.B) {
	a, l := new(Agent), benchLadder()
	b.ReportAllocs()
	for b.Loop() {
		a.masked(l)
	}
}

// FuzzMask: whatever a message looks like, the number and the name in its From
// appear nowhere, and nothing that is kept can begin another line.
func FuzzMask(f *testing.F) {
	const number, name, key = "+390559876543", "Quintiliana", "c2VjcmV0c2VjcmV0"
	for _, s := range []string{
		"To: <sip:NUMBER@x>\r\nCall-ID: NUMBER\r\n", "P-Asserted-Identity: NAME NUMBER\r\n", "Reason: SIP;text=\"NAME NUMBER\"\r\nUser-Agent: NAME NUMBER (NAME)\r\n",
		"Via: SIP/2.0/UDP NUMBER;branch=NUMBER;x=NAME\r\n", "Diversion: \"a\\\"<NUMBER\" <sip:*NUMBER*@[::1]:NUMBER>;reason=NAME\r\n",
		"Content-Type: application/sdp\r\n\r\nv=0\r\no=NAME NUMBER 1 IN IP4 NUMBER\r\na=crypto:1 KEY inline:KEY\r\na=KEY:KEY\r\nk=KEY\r\n",
		"Content-Type: multipart/mixed;boundary=b\r\n\r\n--b\r\nContent-Type: application/sdp\r\n\r\na=crypto:NUMBER inline:KEY\r\n--b--", "X: *\r\nFrom: \"*\" <sip:****@x>\r\n", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		rest = strings.NewReplacer("NUMBER", number, "NAME", name).Replace(rest)
		rest = strings.ReplaceAll(strings.ReplaceAll(rest, key, ""), "inline:KEY", "inline:"+key)
		data := "INVITE sip:" + number + "@x SIP/2.0\r\nFrom: \"" + name + "\" <sip:" + number + "@x>;tag=1\r\n" + rest
		if !strings.Contains(data, "\r\n\r\n") {
			data += "\r\n\r\n"
		}
		a := &Agent{}
		l := &ladder{ways: []Way{{CallID: "x"}}, first: []seen{{data: data}, {data: data[:len(data)*2/3], cut: true}}}
		trace := a.masked(l)
		for _, m := range trace.Messages {
			for _, line := range append(append([]string{m.First}, m.Headers...), m.Body...) {
				low := strings.ToLower(line)
				if strings.Contains(low, number[1:]) || strings.Contains(low, strings.ToLower(name)) || strings.Contains(line, key) {
					t.Fatalf("kept: %q of %q", line, data)
				}
				if strings.ContainsAny(line, "\r\n\x00\x1b") || len(line) > maskValue+40 {
					t.Fatalf("not one line: %q", line)
				}
			}
		}
	})
}
