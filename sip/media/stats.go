package media

import (
	"net/netip"
	"time"
)

// reason is why a packet that arrived was not used, or was not passed on.
type reason int

const (
	used          reason = iota // not dropped
	dropMalformed               // not RTP, or not RTCP on the RTCP port
	dropEarly                   // before the first Agree
	dropStranger                // from an address that the signalling did not name
	dropPort                    // right address, but the latch is closed on another port
	dropUnlatched               // right address, new port, not yet two in a row
	dropHold                    // we do not receive now
	dropPayload                 // a payload type nobody agreed to
	dropSource                  // a new SSRC, not yet two in a row
	dropDuplicate               // a sequence number that was there already
	dropLate                    // too old to be of use
	dropFlood                   // more packets per second than any telephone sends
	dropKeys                    // typed-ahead keys beyond the limit
	dropCovered                 // relayed while a clip or our own keys sounded
	dropUnsent                  // relayed to a peer that holds or has no address
	dropNoFormat                // relayed key to a peer that takes no keys
	dropBurst                   // relayed, but too far ahead of the clock
	dropForged                  // not encrypted with the peer's key, or sent again
	reasons                     // how many there are
)

var reasonNames = [reasons]string{"", "malformed", "early", "stranger", "port", "unlatched", "hold", "payload", "source",
	"duplicate", "late", "flood", "keys", "covered", "unsent", "no_format", "burst", "forged"}

// drops counts by reason.
type drops [reasons]uint64

func (d *drops) byName() map[string]uint64 {
	m := make(map[string]uint64, reasons)
	for r, n := range d {
		if n > 0 && reason(r) != used {
			m[reasonNames[r]] = n
		}
	}
	return m
}

// counts is what a stream adds to its engine's Stats.
type counts struct {
	in, out, failed uint64
	dropped         drops
}

func (c *counts) add(o counts) {
	c.in += o.in
	c.out += o.out
	c.failed += o.failed
	for r, n := range o.dropped {
		c.dropped[r] += n
	}
}

// StreamStats is what one stream has sent and heard.
type StreamStats struct {
	In, Out uint64            // RTP packets accepted and sent
	Lost    int64             // packets of the present source that never came (RFC 3550 §6.4.1); negative with duplicates
	Jitter  time.Duration     // of arrivals, RFC 3550 §6.4.1
	Trip    time.Duration     // round trip from the peer's last report; 0: unknown
	Remote  netip.AddrPort    // where we send to
	Latched bool              // Remote was learned from packets since the last Agree
	SSRC    uint32            // our own
	Dropped map[string]uint64 // by reason
	Heard   Quality           // how the peer's sound reached us
	Told    Quality           // how ours reached the peer, by its last report; Known() is false without one
}
