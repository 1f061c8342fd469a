package sip

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/pronto-desk/pronto/sip/media"
)

// SRTP says whether the sound of a leg is encrypted. Keys travel in session
// descriptions (SDES, RFC 4568), so it is only where these travel by TLS.
type SRTP uint8

const (
	SRTPOff      SRTP = iota // never: who insists gets 488
	SRTPOffer                // when the far side does: offered beside the sound in clear (RFC 8643), accepted when it is offered
	SRTPRequired             // always: sound in clear is refused with 488
)

// terms are what a leg agrees to.
type terms struct {
	clear  bool // sound in clear
	crypto bool // encrypted sound
}

// terms are those of the leg: SRTP needs its signalling to be secret.
func (c *Call) terms() terms {
	c.dlg.mu.Lock()
	defer c.dlg.mu.Unlock()
	return terms{clear: c.srtp != SRTPRequired, crypto: c.srtp != SRTPOff && c.dlg.flow.tls}
}

// possible tells whether the leg can be heard at all.
func (t terms) possible() bool { return t.clear || t.crypto }

const (
	maxCrypto = 16 // a=crypto lines of one m= line that are kept
	ownTag    = 1  // of the line we offer
	// leastLifetime is how many packets a key must be good for: some five hours
	// of 20 ms. We do not change keys during a call.
	leastLifetime = 1 << 20
	inline        = "inline:"
)

// suites by their names (RFC 4568 §6.2).
var suites = map[string]media.Suite{"AES_CM_128_HMAC_SHA1_80": media.SHA1x80, "AES_CM_128_HMAC_SHA1_32": media.SHA1x32}

func suiteName(s media.Suite) string {
	for name, suite := range suites {
		if suite == s {
			return name
		}
	}
	return ""
}

// cryptoLine is an a=crypto that we can do.
type cryptoLine struct {
	tag   int
	suite media.Suite
	key   media.Master // of who wrote the line
}

// parseCrypto reads "1 AES_CM_128_HMAC_SHA1_80 inline:<key>|2^31" (RFC 4568 §9.1).
// ok is false for what we cannot do: other suites, several keys, a master key
// identifier, session parameters that change the packets.
func parseCrypto(value string) (c cryptoLine, ok bool) {
	f := strings.Fields(value)
	if len(f) < 3 || len(f[0]) > 9 || !isDigits(f[0]) {
		return c, false
	}
	c.tag, _ = strconv.Atoi(f[0])
	if c.suite, ok = suites[strings.ToUpper(f[1])]; !ok {
		return c, false
	}
	if len(f[2]) < len(inline) || !strings.EqualFold(f[2][:len(inline)], inline) {
		return c, false
	}
	key, lifetime, limited := strings.Cut(f[2][len(inline):], "|")
	if limited && !lasts(lifetime) {
		return c, false
	}
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(b) != len(c.key) {
		return c, false
	}
	copy(c.key[:], b)
	for _, parameter := range f[3:] {
		// RFC 4568 §6.3: the size of a window is a hint, all others change the packets.
		if !strings.HasPrefix(strings.ToUpper(parameter), "WSH=") {
			return c, false
		}
	}
	return c, true
}

// lasts tells whether a lifetime, "2^20" or a number of packets, is enough for a
// call. What has a colon is a master key identifier.
func lasts(text string) bool {
	if exponent, ok := strings.CutPrefix(text, "2^"); ok {
		n, err := strconv.ParseUint(exponent, 10, 8)
		return err == nil && n >= 20 && n <= 48
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return err == nil && n >= leastLifetime
}

// ownKey is the key of what a leg sends.
type ownKey struct {
	made  bool
	suite media.Suite
	key   media.Master
}

// of is the key for a suite: the same as long as the suite is, since its
// packets are counted on.
func (k *ownKey) of(suite media.Suite) media.Master {
	if !k.made || k.suite != suite {
		k.made, k.suite = true, suite
		_, _ = rand.Read(k.key[:]) // never fails
	}
	return k.key
}

// line writes our a=crypto.
func (k *ownKey) line(tag int, suite media.Suite) string {
	key := k.of(suite)
	return fmt.Sprintf("a=crypto:%d %s %s%s\r\n", tag, suiteName(suite), inline, base64.StdEncoding.EncodeToString(key[:]))
}
