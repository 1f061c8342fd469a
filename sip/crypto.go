package sip

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
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

	lacks4, lacks6 bool // no socket of ours has an address of IPv4, or of IPv6
}

// terms are those of the leg: SRTP needs its signalling to be secret.
func (c *Call) terms() terms {
	c.dlg.mu.Lock()
	defer c.dlg.mu.Unlock()
	t := terms{clear: c.srtp != SRTPRequired, crypto: c.srtp != SRTPOff && c.dlg.flow.tls, lacks4: true, lacks6: true}
	for _, l := range slices.Concat(c.a.local, c.a.safe) {
		t.lacks4, t.lacks6 = t.lacks4 && !l.Addr().Is4(), t.lacks6 && l.Addr().Is4()
	}
	if at := c.local.addr; at.IsValid() { // its sound has its socket, which stays
		t.lacks4, t.lacks6 = !at.Addr().Is4(), at.Addr().Is4()
	}
	return t
}

// lacks tells whether nothing of ours could send to an address, nor hear it.
func (t terms) lacks(a netip.Addr) bool { return a.Is4() && t.lacks4 || a.Is6() && t.lacks6 }

// possible tells whether the leg can be heard at all.
func (t terms) possible() bool { return t.clear || t.crypto }

const (
	maxCrypto = 16 // a=crypto lines of one m= line that are kept
	ownTag    = 1  // of the line we offer
	// leastLifetime is how many packets a key must be good for: some five hours
	// of 20 ms. Whoever wants to change it earlier can, but need not then.
	leastLifetime = 1 << 20
	mostLifetime  = 1 << 48 // RFC 3711 §9.2
	inline        = "inline:"
	idLongest     = 4  // octets of a key's name in each packet; telephones have 1 or 4
	leastWindow   = 64 // packets, of WSH (RFC 4568 §6.3.6)
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
	id    string       // what their packets call it (the MKI); "": nothing
}

// parseCrypto reads "1 AES_CM_128_HMAC_SHA1_80 inline:<key>|2^31|1:4" (RFC 4568 §9.1).
// ok is false for what we cannot do: other suites, several keys, session parameters that
// change the packets. Then the next line may do (§5.1.2).
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
	key, more, limited := strings.Cut(f[2][len(inline):], "|")
	if limited {
		if c.id, ok = after(more); !ok {
			return c, false
		}
	}
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(b) != len(c.key) {
		return c, false
	}
	copy(c.key[:], b)
	for _, parameter := range f[3:] {
		if !harmless(parameter) {
			return c, false
		}
	}
	return c, true
}

// harmless tells whether a session parameter changes no packet (RFC 4568 §6.3): the size
// of a window is a hint, and what begins with - need not be known. All others
// (UNENCRYPTED_SRTP, UNAUTHENTICATED_SRTP, KDR, FEC_ORDER, FEC_KEY, a new one) are to be
// done or the line to be refused.
func harmless(parameter string) bool {
	window, is := strings.CutPrefix(strings.ToUpper(parameter), "WSH=")
	if !is {
		return len(parameter) > 1 && parameter[0] == '-'
	}
	n, err := strconv.ParseUint(window, 10, 16)
	return err == nil && n >= leastWindow
}

// after reads what follows a key, "2^20", "1:4" or "2^20|1:4": its lifetime and its name.
func after(text string) (id string, ok bool) {
	first, second, both := strings.Cut(text, "|")
	switch {
	case both:
		id, ok = identifier(second)
		return id, ok && lasts(first)
	case strings.Contains(first, ":"):
		return identifier(first)
	}
	return "", lasts(first)
}

// identifier reads a master key identifier, "1:4": a number, and in how many octets each
// packet has it (RFC 4568 §6.1).
func identifier(text string) (id string, ok bool) {
	value, length, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(length, 10, 8)
	if err != nil || n == 0 || n > idLongest {
		return "", false
	}
	v, err := strconv.ParseUint(value, 10, int(8*n))
	if err != nil {
		return "", false
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(v))
	return string(b[idLongest-n:]), true
}

// lasts tells whether a lifetime, "2^20" or a number of packets, is enough for a
// call.
func lasts(text string) bool {
	if exponent, ok := strings.CutPrefix(text, "2^"); ok {
		n, err := strconv.ParseUint(exponent, 10, 8)
		return err == nil && n >= 20 && n <= 48
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return err == nil && n >= leastLifetime && n <= mostLifetime
}

// ownKey is the key of what a leg sends.
type ownKey struct {
	made  bool
	suite media.Suite
	key   media.Master
	tag   int    // of the line that was written last; 0: none was
	id    string // what our packets call it, as the far side's do
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
func (k *ownKey) line(tag int, suite media.Suite, id string) string {
	key := k.of(suite)
	k.tag, k.id = tag, id
	name := ""
	if id != "" {
		var b [idLongest]byte
		copy(b[idLongest-len(id):], id)
		name = fmt.Sprintf("|%d:%d", binary.BigEndian.Uint32(b[:]), len(id))
	}
	return fmt.Sprintf("a=crypto:%d %s %s%s%s\r\n", tag, suiteName(suite), inline, base64.StdEncoding.EncodeToString(key[:]), name)
}

// rekey makes a new key of ours for a new one of theirs: whoever has that now need not
// know what was said before.
func (c *Call) rekey(g agreement) {
	if g.crypto != nil && c.crypto != nil && g.crypto.key != c.crypto.Theirs {
		c.local.key.made = false
	}
}
