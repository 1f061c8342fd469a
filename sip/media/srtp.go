package media

import (
	"errors"
	"fmt"
	"io"

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
// names the key of what it sends.
type Crypto struct {
	Suite        Suite
	Ours, Theirs Master
}

const (
	tagLongest   = 10 // octets of authentication of an RTP packet
	replayBehind = 128
)

var errNoCipher = errors.New("media: no cipher")

// cipher is one direction of an encrypted stream. Whoever uses it holds the lock
// of that half.
type cipher struct {
	suite  Suite
	key    Master
	ctx    *srtp.Context // nil: nothing passes
	header rtp.Header    // scratch, so that a packet allocates nothing
	out    []byte        // the packet that is sealed
}

// renewed is the cipher after an Agree: the same goes on while its key does,
// since its counters and its memory of what came belong to the key.
func (c *cipher) renewed(agreed *Crypto, key func(*Crypto) Master) *cipher {
	if agreed == nil {
		return nil
	}
	k := key(agreed)
	if c != nil && c.suite == agreed.Suite && c.key == k {
		return c
	}
	profile := srtp.ProtectionProfileAes128CmHmacSha1_80
	if agreed.Suite == SHA1x32 {
		profile = srtp.ProtectionProfileAes128CmHmacSha1_32
	}
	// RFC 3711 §3.3.2: a packet that is sent again by somebody is not heard again.
	ctx, err := srtp.CreateContext(k[:masterSize], k[masterSize:], profile, srtp.SRTPReplayProtection(replayBehind), srtp.SRTCPReplayProtection(replayBehind))
	if err != nil {
		ctx = nil // in no case in clear
	}
	return &cipher{suite: agreed.Suite, key: k, ctx: ctx}
}

func ours(c *Crypto) Master   { return c.Ours }
func theirs(c *Crypto) Master { return c.Theirs }

// seal encrypts an RTP packet; the result is good until the next one.
func (c *cipher) seal(b []byte) ([]byte, error) {
	if c.ctx == nil {
		return nil, errNoCipher
	}
	if n := len(b) + tagLongest; cap(c.out) < n {
		c.out = make([]byte, 0, max(n, headerSize+samplesPerFrame+tagLongest))
	}
	return c.ctx.EncryptRTP(c.out, b, &c.header)
}

// unseal decrypts an RTP packet in place, if it is the peer's.
func (c *cipher) unseal(b []byte) ([]byte, reason) {
	if c.ctx == nil {
		return nil, dropForged
	}
	plain, err := c.ctx.DecryptRTP(b, b, &c.header)
	return plain, whyNot(err)
}

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
