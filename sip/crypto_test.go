package sip

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/media"
)

// goodKey is 30 octets in base64.
const goodKey = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"

func TestParseCrypto(t *testing.T) {
	for line, want := range map[string]bool{
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey:                           true,
		"999999999 AES_CM_128_HMAC_SHA1_32 inline:" + goodKey + "|2^20":         true,
		"1 aes_cm_128_hmac_sha1_80 INLINE:" + goodKey + "|1048576 WSH=64":       true,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^31|1:4":             true, // a master key identifier
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|1:4":                  true,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|255:1":                true,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|256:1":                false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|1:0":                  false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|1:128":                false, // the RFC's most: longer than the sound is worth
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|1:":                   false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|:1":                   false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|-1:1":                 false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^31|":                false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "||1:4":                 false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|1:4|2^31":             false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^31|1:4|1:4":         false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^49":                 false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|281474976710657":      false, // 2^48 + 1
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^10":                 false, // over in twenty seconds
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|":                     false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + ";inline:" + goodKey:    false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " UNENCRYPTED_SRTP":     false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " UNAUTHENTICATED_SRTP": false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " UNENCRYPTED_SRTCP":    false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " KDR=1":                false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " FEC_ORDER=FEC_SRTP":   false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " FEC_KEY=inline:x":     false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " WSH=63":               false, // §6.3.6: 64 at the least
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " WSH=":                 false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " SOMETHING=1":          false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " -something=1 WSH=128": true,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + " -":                    false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey[:39]:                      false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "AAAA":                  false,
		"1 AES_CM_128_HMAC_SHA1_80 inline:":                                     false,
		"1 AES_CM_128_HMAC_SHA1_80 in":                                          false,
		"1 AES_CM_128_HMAC_SHA1_80 uri:" + goodKey:                              false,
		"1 F8_128_HMAC_SHA1_80 inline:" + goodKey:                               false,
		"1 AES_256_CM_HMAC_SHA1_80 inline:" + strings.Repeat("A", 64):           false,
		"-1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey:                          false,
		"1234567890 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey:                  false,
		"AES_CM_128_HMAC_SHA1_80 inline:" + goodKey:                             false,
		"1 AES_CM_128_HMAC_SHA1_80":                                             false,
		"":                                                                      false,
	} {
		c, ok := parseCrypto(line)
		if ok != want {
			t.Errorf("%q: %v", line, ok)
		}
		if key, _ := base64.StdEncoding.DecodeString(goodKey); ok && string(c.key[:]) != string(key) {
			t.Errorf("%q: another key", line)
		}
	}
}

// FuzzCrypto: what is read is written so that it is read as the same.
func FuzzCrypto(f *testing.F) {
	f.Add("1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^20")
	f.Add("2 AES_CM_128_HMAC_SHA1_32 inline:" + goodKey + "|1048576 WSH=64")
	f.Add("1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^20|1:4 KDR=1 -x")
	f.Fuzz(func(t *testing.T, value string) {
		c, ok := parseCrypto(value)
		if !ok {
			return
		}
		k := ownKey{made: true, suite: c.suite, key: c.key}
		again, ok := parseCrypto(strings.TrimSuffix(strings.TrimPrefix(k.line(c.tag, c.suite, c.id), "a=crypto:"), "\r\n"))
		if !ok || again != c {
			t.Fatalf("%q was read as %v, written, and read as %v", value, c.tag, again.tag)
		}
	})
}

// TestSRTPIsAgreed between what we want and what the carrier wants, and heard
// both ways.
func TestSRTPIsAgreed(t *testing.T) {
	for _, x := range []struct {
		ours, theirs SRTP
		late, clear  bool // without a description in the INVITE; by TCP in clear
		status       int
		crypto       bool
	}{
		{ours: SRTPOff, theirs: SRTPOff},
		{ours: SRTPOff, theirs: SRTPOffer},
		{ours: SRTPOffer, theirs: SRTPOff},
		{ours: SRTPOffer, theirs: SRTPOffer, crypto: true},
		{ours: SRTPOffer, theirs: SRTPOffer, late: true, crypto: true},
		{ours: SRTPOffer, theirs: SRTPRequired, crypto: true},
		{ours: SRTPRequired, theirs: SRTPOffer, crypto: true},
		{ours: SRTPRequired, theirs: SRTPRequired, late: true, crypto: true},
		{ours: SRTPRequired, theirs: SRTPOff, status: 488},
		{ours: SRTPOff, theirs: SRTPRequired, status: 488},
		{ours: SRTPOffer, theirs: SRTPRequired, clear: true, status: 488},
		{ours: SRTPOffer, theirs: SRTPOffer, clear: true},
	} {
		t.Run(fmt.Sprintf("%+v", x), func(t *testing.T) {
			carrier, whom := safeHouse(t, waitAnswer, func(_ *house, c *Config) { c.Trunks[0].SRTP = x.theirs })
			desk, _ := safeHouse(t, ring)
			o := DialOptions{From: "800000001", Via: carrier.a.TLSAddr(), TLS: whom, SRTP: x.ours, LateOffer: x.late}
			if x.clear {
				o.Via, o.TLS, o.TCP = carrier.a.Addr(), nil, true
			}
			c, err := desk.a.Dial(t.Context(), "0551234567", o)
			if x.status != 0 {
				var s *StatusError
				if !errors.As(err, &s) || s.Code != x.status {
					t.Fatalf("want %d, got %v", x.status, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			there := <-carrier.calls
			for _, s := range []*media.Stream{c.Stream(), there.Stream()} {
				for tick := time.NewTicker(20 * time.Millisecond); s.Stats().In < 10; <-tick.C {
					if t.Context().Err() != nil {
						t.Fatal("nothing is heard")
					}
				}
				if st := s.Stats(); st.Dropped["forged"] > 0 {
					t.Errorf("%+v", st.Dropped)
				}
			}
			answered := there
			if x.late {
				answered = c
			}
			answered.mu.Lock()
			said := answered.local.last
			key := base64.StdEncoding.EncodeToString(answered.local.key.key[:])
			answered.mu.Unlock()
			if strings.Contains(said, "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key) != x.crypto {
				t.Errorf("answered: %s", said)
			}
			if log := carrier.logged() + desk.logged(); strings.Contains(log, key) || strings.Contains(log, "inline:") {
				t.Errorf("a key in the log: %s", log)
			}
			there.Hangup(t.Context())
			_ = ended(t, c)
		})
	}
}

func TestSRTPIsNotDialledInClear(t *testing.T) {
	h := newHouse(t, nil, waitAnswer)
	_, err := h.a.Dial(t.Context(), "0551234567", DialOptions{From: "1", Via: h.a.Addr(), SRTP: SRTPRequired})
	if !errors.Is(err, ErrNoCodec) {
		t.Error(err)
	}
}

// safe is a telephone of plain text by TLS.
func (h *house) safe(whom *tls.Config) *line {
	h.t.Helper()
	p := h.peer(trunkIP)
	c, err := tls.Dial("tcp", h.a.TLSAddr().String(), whom)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	p.addr = addrPort(c.LocalAddr())
	return &line{p, c, bufio.NewReader(c)}
}

// TestOffersOfSRTP as telephones and exchanges write them.
func TestOffersOfSRTP(t *testing.T) {
	line1 := "a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:" + strings.Repeat("A", 64) + "\r\n"
	line7 := "a=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:" + goodKey + "|2^31\r\n"
	for _, x := range []struct {
		name, profile, lines string
		clear                bool
		status, want         string
	}{
		{"the first that we can do", "RTP/SAVP", line1 + line7, false, "200", "a=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:"},
		{"a key with a name", "RTP/SAVP", "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^31|1:4 KDR=1\r\n" +
			"a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey + "|2^31|258:2\r\n" + line7, false, "200", "|258:2\r\n"},
		{"beside sound in clear", "RTP/AVP", line1 + line7, false, "200", "a=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:"},
		{"none that we can do, beside sound in clear", "RTP/AVP", line1, false, "200", ""},
		{"none that we can do", "RTP/SAVP", line1, false, "488", ""},
		{"no key", "RTP/SAVP", "", false, "488", ""},
		{"a key that everybody reads", "RTP/SAVP", line7, true, "488", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			h, whom := safeHouse(t, waitAnswer, func(_ *house, c *Config) { c.Trunks[0].SRTP = SRTPOffer })
			l := h.tcp()
			if !x.clear {
				l = h.safe(whom)
			}
			l.seq++
			l.write(l.request("INVITE", randomText(), "", strings.Replace(l.offer(x.lines), "RTP/AVP", x.profile, 1)))
			answer := l.want("SIP/2.0 " + x.status)
			if got := strings.Contains(answer, "a=crypto"); got != (x.want != "") || !strings.Contains(answer, x.want) {
				t.Errorf("answered %s", answer)
			}
			if x.status == "200" && !strings.Contains(answer, " "+x.profile+" 8") {
				t.Errorf("another profile: %s", answer)
			}
			if strings.Contains(answer, goodKey) {
				t.Error("the key of the telephone is ours")
			}
		})
	}
}

// TestRekeyByReinvite: a new key of theirs gets a new one of ours, under the tag that
// they offer; the same one changes nothing.
func TestRekeyByReinvite(t *testing.T) {
	h, whom := safeHouse(t, waitAnswer, func(_ *house, c *Config) { c.Trunks[0].SRTP = SRTPRequired })
	l := h.safe(whom)
	other := strings.Replace(goodKey, "d0Rm", "AAAA", 1)
	var ours []string
	for i, line := range []string{"1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey, "2 AES_CM_128_HMAC_SHA1_80 inline:" + other + "|1:1",
		"2 AES_CM_128_HMAC_SHA1_80 inline:" + other + "|1:1", "3 AES_CM_128_HMAC_SHA1_32 inline:" + other} {
		l.seq++
		l.write(l.request("INVITE", randomText(), "", strings.Replace(l.offer("a=crypto:"+line+"\r\n"), "RTP/AVP", "RTP/SAVP", 1)))
		answer := l.want("SIP/2.0 200")
		l.toTag = tagOf(answer, "To")
		l.write(l.request("ACK", randomText(), "", ""))
		_, key, _ := strings.Cut(bodyOf(answer), "a=crypto:"+line[:strings.Index(line, ":")+1])
		key, _, _ = strings.Cut(key, "\r\n")
		key, name, _ := strings.Cut(key, "|")
		if len(key) != len(goodKey) || strings.HasSuffix(line, "|1:1") != (name == "1:1") {
			t.Fatalf("offer %d was answered %s", i, answer)
		}
		ours = append(ours, key)
	}
	if ours[0] == ours[1] || ours[1] != ours[2] || ours[2] == ours[3] {
		t.Errorf("our keys: %q", ours)
	}
	if (<-h.calls).Stream() == nil {
		t.Error("no sound")
	}
	l.seq++
	l.write(l.request("BYE", randomText(), "", ""))
	l.want("SIP/2.0 200")
}

// TestAnotherSuiteThanOffered ends the call: the answer must choose among ours.
func TestAnotherSuiteThanOffered(t *testing.T) {
	c := &Call{a: &Agent{local: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:5060")}}, srtp: SRTPOffer, dlg: &dialog{flow: flow{tcp: true, tls: true}}}
	for lines, want := range map[string]bool{
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey: true,
		"a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:" + goodKey: false,
		"a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:" + goodKey: false,
	} {
		s, err := parseSDP([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/SAVP 8\r\n" + lines + "\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.takeDescription(s); (err == nil) != want {
			t.Errorf("%s: %v", lines, err)
		}
	}
}
