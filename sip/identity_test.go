package sip

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"

	"github.com/pronto-desk/pronto/sip/seeds"
)

func TestNumber(t *testing.T) {
	for in, want := range map[string]string{
		"+390551234567":        "+390551234567",
		"00390551234567":       "+390551234567",
		"0551234567":           "+390551234567", // landlines keep their zero
		"055 12.34-567":        "+390551234567",
		"390551234567":         "+390551234567",
		"3331234567":           "+393331234567",
		"393331234567":         "+393331234567",
		"3911234567":           "+393911234567", // a mobile of the 391 range, not a country code
		"+39 333 1234567":      "+393331234567",
		"800000001":            "800000001",
		"+39800000001":         "800000001",
		"0039800123456":        "800123456",
		"+39848123456":         "848123456",
		"199123456":            "199123456",
		"112":                  "112",
		"1500":                 "1500",
		"116117":               "116117",
		"+442079460000":        "+442079460000",
		"0044 20 7946 0000":    "+442079460000",
		"204":                  "204", // an extension of an exchange
		"799901":               "799901",
		"":                     "",
		"1":                    "",
		"anonymous":            "",
		"+":                    "",
		"anna1001":             "",
		"+3905512345678901234": "",
		"++390551234567":       "",
	} {
		if got := Number(in); got != want {
			t.Errorf("Number(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestItalianNumbers compares the short way for Italian numbers with the library's: three
// numbers of each range, as the first says what is known of the others.
func TestItalianNumbers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tail := func(n int) (digits string) {
		for range n {
			digits += string(rune('0' + random.IntN(10)))
		}
		return digits
	}
	short := 0
	for range 20_000 {
		start := []string{"0", "3", "39", "390", "393", "0039", "39800", "06", "02", "0575", "4", "0669", "0831", "0878", "398", "355", "39066"}[random.IntN(17)] + tail(random.IntN(5))
		n := random.IntN(9)
		plus := random.IntN(2) == 0
		for range 3 {
			digits := start + tail(n)
			got := italian(digits, plus)
			if got != "" {
				short++
				if want := looked(digits, plus); got != want {
					t.Fatalf("of %q (plus %t) it makes %q, the library %q", digits, plus, got, want)
				}
			}
			national := strings.TrimPrefix(digits, "39")
			if plus && national != digits && len(national) >= minItalian && len(national) <= maxItalian && (national[0] == '3' || national[0] == '0' && national[1] != '0') && (got != "") != libraryKnows(national) {
				t.Fatalf("of %q it makes %q, and the library knows it: %t", digits, got, libraryKnows(national))
			}
		}
	}
	if short < 9_000 {
		t.Errorf("only %d of 60 000 were read the short way", short)
	}
}

func BenchmarkNumber(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Number("+390551234567") == "" {
			b.Fatal("no number")
		}
	}
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"+390551234567", "0039800000001", "112", "anonymous", "055/123", "\x00", "+\u0663"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := Number(s)
		if n != "" && strings.Trim(n, "0123456789") != "" && (n[0] != '+' || !isDigits(n[1:])) {
			t.Fatalf("Number(%q) = %q", s, n)
		}
		if len(n) > maxNumberDigits+1 {
			t.Fatalf("Number(%q) = %q is too long", s, n)
		}
		if n != "" && Number(n) != n {
			t.Fatalf("Number(%q) = %q, of which it makes %q", s, n, Number(n))
		}
	})
}

// inviteWith parses an INVITE with these header lines.
func inviteWith(t testing.TB, uri, to, from string, head ...string) *sip.Request {
	t.Helper()
	text := "INVITE " + uri + " SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nMax-Forwards: 70\r\nFrom: " + from +
		";tag=1\r\nTo: " + to + "\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
	for _, h := range head {
		text += h + "\r\n"
	}
	msg, err := parse(sip.NewParser(), []byte(text+"Content-Length: 0\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return msg.(*sip.Request)
}

func TestIdentity(t *testing.T) {
	const trunk, desk = "sip:trunk01@192.0.2.9", "<sip:800000001@192.0.2.9>"
	for name, x := range map[string]struct {
		uri, to, from string
		head          []string
		want          identity
	}{
		"from": {"sip:800000001@h", desk, `"Mario Rossi" <sip:0551234567@h>`, nil,
			identity{"+390551234567", "Mario Rossi", SourceFrom, "800000001"}},
		"asserted": {"sip:800000001@h", desk, "<sip:201@h>", []string{`P-Asserted-Identity: "Studio Rossi" <sip:+390551234567@carrier;user=phone>, <tel:+390559999999>`},
			identity{"+390551234567", "Studio Rossi", SourceAsserted, "800000001"}},
		"asserted by tel": {"sip:800000001@h", desk, "<sip:201@h>", []string{"P-Asserted-Identity: <tel:+390551234567>"},
			identity{"+390551234567", "", SourceAsserted, "800000001"}},
		"asserted, no number": {"sip:800000001@h", desk, "<sip:0551234567@h>", []string{"P-Asserted-Identity: <sip:anna@h>"},
			identity{"+390551234567", "", SourceFrom, "800000001"}},
		"privacy": {"sip:800000001@h", desk, "<sip:0551234567@h>", []string{"P-Asserted-Identity: <sip:+390551234567@h>", "Privacy: id"},
			identity{"", "", SourceWithheld, "800000001"}},
		"privacy none": {"sip:800000001@h", desk, "<sip:0551234567@h>", []string{"Privacy: none"},
			identity{"+390551234567", "", SourceFrom, "800000001"}},
		"anonymous": {"sip:800000001@h", desk, `"Anonymous" <sip:anonymous@anonymous.invalid>`, []string{"P-Asserted-Identity: <sip:+390551234567@h>"},
			identity{"", "", SourceWithheld, "800000001"}},
		"restricted":  {"sip:800000001@h", desk, "<sip:Restricted@h>", nil, identity{"", "", SourceWithheld, "800000001"}},
		"unavailable": {"sip:800000001@h", desk, "<sip:unavailable@unknown.invalid>", nil, identity{"", "", SourceWithheld, "800000001"}},
		"no user":     {"sip:800000001@h", desk, "<sip:h>", nil, identity{"", "", SourceWithheld, "800000001"}},
		"a name":      {"sip:800000001@h", desk, "<sip:anna@h>", nil, identity{"", "", SourceWithheld, "800000001"}},
		"escaped":     {"sip:%38%30%30000001@h", desk, "<sip:%2B390551234567@h>", nil, identity{"+390551234567", "", SourceFrom, "800000001"}},
		"number portability": {"sip:800000001@h", desk, "<sip:+390551234567;npdi;rn=+39123@h>", nil,
			identity{"+390551234567", "", SourceFrom, "800000001"}},
		"account in the URI": {trunk, desk, "<sip:0551234567@h>", nil, identity{"+390551234567", "", SourceFrom, "800000001"}},
		"diverted": {"sip:+390552222222@h", desk, "<sip:0551234567@h>", []string{"Diversion: <sip:+390553333333@h>;reason=unconditional", "Diversion: <sip:800000001@h>"},
			identity{"+390551234567", "", SourceFrom, "800000001"}},
		"history": {"sip:+390552222222@h", desk, "<sip:0551234567@h>", []string{"History-Info: <sip:800000001@h>;index=1, <sip:+390552222222@h>;index=1.1"},
			identity{"+390551234567", "", SourceFrom, "800000001"}},
		"history of one": {"sip:+390552222222@h", desk, "<sip:0551234567@h>", []string{"History-Info: <sip:+390559999999@h>;index=1"},
			identity{"+390551234567", "", SourceFrom, "+390552222222"}},
		"forwarded mobile": {"sip:+390552222222@h", desk, "<sip:0551234567@h>", []string{"Diversion: <sip:+393331234567@h>"},
			identity{"+390551234567", "", SourceFrom, "+390552222222"}},
		"toll-free stands": {"sip:800000001@h", desk, "<sip:0551234567@h>", []string{"Diversion: <sip:+390553333333@h>"},
			identity{"+390551234567", "", SourceFrom, "800000001"}},
		"tel": {"tel:+390552222222", desk, "<tel:0551234567;phone-context=+39>", nil, identity{"+390551234567", "", SourceFrom, "+390552222222"}},
	} {
		if got := identify(inviteWith(t, x.uri, x.to, x.from, x.head...)); got != x.want {
			t.Errorf("%s: %+v, want %+v", name, got, x.want)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{`"A \" B" <sip:a@b>;tag=x, <tel:1>`, "<", ">", `"`, "a,b,,", `<sip:"a@b">`, "*", "sip:a?x=<y>"} {
		f.Add(s)
	}
	for _, seed := range seeds.Of(f, "uri") {
		f.Add(string(seed))
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, a := range addresses(s) {
			_, _, _ = uriParts(a.uri)
			_, _ = param(a.params, "tag")
			if !strings.Contains(s, a.uri) || !strings.Contains(s, a.params) {
				t.Fatalf("%q: %+v was never said", s, a)
			}
		}
		q := quote(s)
		if strings.ContainsAny(q, "\r\n") || unquote(q) != strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(s, "\ufffd")) && strings.ToValidUTF8(s, "") == s {
			t.Fatalf("quote(%q) = %s", s, q)
		}
		_, _, _, _ = viaTop(s)
		_, _ = parseCredentials(s)
	})
}
