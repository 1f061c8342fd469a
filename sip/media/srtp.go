package media

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// Suite is a way to encrypt a stream's packets, RTP and RTCP (RFC 3711, RFC 4568
// §6.2): AES in counter mode with a key of 128 bits, and an HMAC-SHA1 of so many
// bits at the end of each RTP packet.
type Suite uint8

const (
	SHA1x80 Suite = iota
	SHA1x32
)

// Master is a master key of 16 octets and its salt of 14. It does not let itself
// be printed.
type Master [30]byte

const (
	masterSize = 16      // octets of the key in a Master
	keyHidden  = "[key]" // what is printed instead of one
)

// Format implements fmt.Formatter, for logs as well.
func (Master) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, keyHidden) }

// MarshalText implements encoding.TextMarshaler.
func (Master) MarshalText() ([]byte, error) { return []byte(keyHidden), nil }

// Crypto is what an offer and its answer agreed on for encryption: each side
// names the key of what it sends, and what its packets call it, if they do (RFC 3711
// §3.1: the MKI).
type Crypto struct {
	Suite           Suite
	Ours, Theirs    Master
	OurID, TheirsID string
}

const (
	tagLongest   = 10 // octets of authentication of an RTP packet
	idLongest    = 4  // octets of a key's name in it
	replayBehind = 128
)

// One key takes over from another while the talk goes on. Neither side knows when the
// other has heard of it: what was sent before is still on its way.
const (
	rekeyLongest = 32 * time.Second // 64·T1: until the answer must have arrived, their old key is good
	rekeyLate    = time.Second      // and so long for what is overtaken by the first packet of the new one
	rekeyUnheard = 2 * time.Second  // our new key is used once theirs is; or then, if they send nothing
)

var errNoCipher = errors.New("media: no cipher")

// secret is what one side's packets are encrypted with.
type secret struct {
	suite Suite
	key   Master
	id    string
}

// ours and theirs are the secrets of the two sides; nil: in clear.
func (c *Crypto) ours() *secret {
	if c == nil {
		return nil
	}
	return &secret{c.Suite, c.Ours, c.OurID}
}

func (c *Crypto) theirs() *secret {
	if c == nil {
		return nil
	}
	return &secret{c.Suite, c.Theirs, c.TheirsID}
}

// context begins to count from nothing.
func (s secret) context() *srtp.Context {
	profile := srtp.ProtectionProfileAes128CmHmacSha1_80
	if s.suite == SHA1x32 {
		profile = srtp.ProtectionProfileAes128CmHmacSha1_32
	}
	// RFC 3711 §3.3.2: a packet that is sent again by somebody is not heard again.
	options := []srtp.ContextOption{srtp.SRTPReplayProtection(replayBehind), srtp.SRTCPReplayProtection(replayBehind)}
	if s.id != "" {
		options = append(options, srtp.MasterKeyIndicator([]byte(s.id)))
	}
	ctx, err := srtp.CreateContext(s.key[:masterSize], s.key[masterSize:], profile, options...)
	if err != nil {
		return nil // in no case in clear
	}
	return ctx
}

// cipher is one direction of an encrypted stream. Whoever uses it holds the lock
// of that half.
type cipher struct {
	secret
	ctx    *srtp.Context // nil: nothing passes
	anew   *srtp.Context // of a peer who may count from nothing with this key; nil: it is known how they count
	header rtp.Header    // scratch, so that a packet allocates nothing
	out    []byte        // the packet that is sealed

	counted bool // what follows is known: the newest packet
	ssrc    uint32
	top     uint16
}

func newCipher(s secret) *cipher { return &cipher{secret: s, ctx: s.context()} }

// goesOn says whether a cipher is one of this secret. It then stays, since its counters
// and its memory of what came belong to the key.
func (c *cipher) goesOn(s *secret) bool { return c != nil && c.secret == *s }

// follows goes on counting where another key of the same direction has come to: the
// rollover counter and the index of reports are not begun anew (RFC 3711 §3.3.1, §3.4).
func (c *cipher) follows(was *cipher) *cipher {
	if c.ctx == nil || was.ctx == nil || !was.counted {
		return c
	}
	roc, _ := was.ctx.ROC(was.ssrc)
	c.ctx.SetROC(was.ssrc, roc)
	var b [headerSize]byte
	header{seq: was.top, ssrc: was.ssrc}.put(b[:])
	_, _ = c.seal(b[:]) // nobody gets it: it says how far the numbers have come
	if index, known := was.ctx.Index(was.ssrc); known {
		c.ctx.SetIndex(was.ssrc, index)
	}
	return c
}

// rolled says whether the numbers have begun again: then whoever has only now come
// cannot know how often.
func (c *cipher) rolled() bool {
	if c.ctx == nil || !c.counted {
		return false
	}
	roc, _ := c.ctx.ROC(c.ssrc)
	return roc > 0
}

// went notes the newest packet.
func (c *cipher) went() {
	if h := &c.header; !c.counted || c.ssrc != h.SSRC || int16(h.SequenceNumber-c.top) > 0 {
		c.counted, c.ssrc, c.top = true, h.SSRC, h.SequenceNumber
	}
}

// seal encrypts an RTP packet; the result is good until the next one.
func (c *cipher) seal(b []byte) ([]byte, error) {
	if c.ctx == nil {
		return nil, errNoCipher
	}
	const more = tagLongest + idLongest
	if n := len(b) + more; cap(c.out) < n {
		c.out = make([]byte, 0, max(n, headerSize+samplesPerFrame+more))
	}
	sealed, err := c.ctx.EncryptRTP(c.out, b, &c.header)
	if err == nil {
		c.went()
	}
	return sealed, err
}

// unseal decrypts an RTP packet in place, if it is the peer's.
func (c *cipher) unseal(b []byte) ([]byte, reason) {
	if c.ctx == nil {
		return nil, dropForged
	}
	plain, err := c.ctx.DecryptRTP(b, b, &c.header)
	if err != nil && c.anew != nil {
		if plain, err = c.anew.DecryptRTP(b, b, &c.header); err == nil {
			c.ctx = c.anew
		}
	}
	if err == nil {
		c.anew = nil
		c.went()
	}
	return plain, whyNot(err)
}

// encrypt takes over what was agreed on for what comes. With another key than before,
// what was sent with that one is still heard.
func (r *receiver) encrypt(s *secret, at time.Duration) {
	switch {
	case s == nil:
		r.cipher, r.before = nil, nil
	case r.cipher.goesOn(s):
	case r.cipher == nil:
		r.cipher = newCipher(*s)
	default:
		r.before, r.beforeUntil = r.cipher, at+rekeyLongest
		r.cipher = newCipher(*s).follows(r.before)
		if r.before.rolled() { // some peers begin anew all the same
			r.cipher.anew = s.context()
		}
	}
}

// unseal decrypts what came, with the key that it has. rekeyed: the peer uses the new
// one.
func (r *receiver) unseal(b []byte, at time.Duration) (plain []byte, rekeyed bool, why reason) {
	plain, why = r.cipher.unseal(b)
	switch {
	case r.before == nil:
		return plain, false, why
	case at >= r.beforeUntil:
		r.before = nil
	case why == used:
		r.beforeUntil = min(r.beforeUntil, at+rekeyLate)
	default:
		plain, why = r.before.unseal(b)
		return plain, false, why
	}
	return plain, why == used, why
}

// unsealReport decrypts a report, likewise.
func (r *receiver) unsealReport(b []byte, at time.Duration) ([]byte, reason) {
	plain, why := r.cipher.unsealReport(b)
	if why != used && r.before != nil && at < r.beforeUntil {
		return r.before.unsealReport(b)
	}
	return plain, why
}

// encrypt takes over what was agreed on for what is sent. moved: to somebody else, who
// knows of no key before.
func (o *sender) encrypt(s *secret, moved bool, at time.Duration) {
	switch {
	case s == nil:
		o.cipher, o.heir = nil, nil
	case o.heir.goesOn(s):
	case o.cipher.goesOn(s):
		o.heir = nil
	case o.cipher == nil:
		o.cipher = newCipher(*s)
	default:
		o.heir, o.heirAt = newCipher(*s), at+rekeyUnheard
	}
	if !moved || o.heir == nil {
		return
	}
	if o.cipher.rolled() { // RFC 3711 §3.3.1: of a stream of its own they know that it begins
		o.ssrc, o.seq, o.live = random32(), firstNumber(), false
		o.cipher, o.heir = o.heir, nil
	}
	o.rekey()
}

// rekey begins to use the new key, if there is one.
func (o *sender) rekey() {
	if o.heir != nil {
		o.cipher, o.heir = o.heir.follows(o.cipher), nil
	}
}

// firstNumber is below 2^15, so that a first packet that is lost does not put the peer's
// count of rounds wrong (RFC 3711 §3.3.1).
func firstNumber() uint16 { return uint16(random32()) >> 1 }

// sealReport encrypts a report of ours, where the leg is encrypted.
func (o *sender) sealReport(b []byte) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cipher == nil {
		return b, nil
	}
	return o.cipher.sealReport(b)
}

// sealReport encrypts an RTCP packet, unsealReport decrypts one.
func (c *cipher) sealReport(b []byte) ([]byte, error) {
	if c.ctx == nil {
		return nil, errNoCipher
	}
	return c.ctx.EncryptRTCP(nil, b, &rtcp.Header{})
}

func (c *cipher) unsealReport(b []byte) ([]byte, reason) {
	if c.ctx == nil {
		return nil, dropForged
	}
	plain, err := c.ctx.DecryptRTCP(b, b, &rtcp.Header{})
	return plain, whyNot(err)
}

// whyNot is why a packet was not decrypted: pion tells a replay from a forgery
// in words only.
func whyNot(err error) reason {
	if err == nil {
		return used
	}
	return dropForged
}
