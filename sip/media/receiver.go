package media

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	// inARow is how many consecutive packets of a new port or a new SSRC it takes
	// to believe it (RFC 3550 §A.1 MIN_SEQUENTIAL).
	inARow = 2
	// maxDropout and maxMisorder bound what is loss or reordering; a sequence
	// number outside is a sender that started anew (RFC 3550 §A.1).
	maxDropout  = 3000
	maxMisorder = 100
	// replayWindow is how far back a late packet is told from a duplicate.
	replayWindow = 64
	// packetsPerSecond is more than a telephone sends: 100 of 10 ms, as many of
	// a key, and the burst after a stall.
	packetsPerSecond = 500
	// jitterLongest is beyond what a call could bear; more is a broken report.
	jitterLongest = 10 * time.Second
)

// kind is what a packet carries.
type kind int

const (
	kindSound kind = iota
	kindKey
	kindNoise // comfort noise: the peer has gone silent
	kindEmpty // a keep-alive without payload (RFC 6263 §4.1)
)

// arrival is an accepted packet.
type arrival struct {
	header
	kind    kind
	law     audio.Law // of sound
	key     rune      // a key that was just pressed; 0: none, or a repetition
	latched bool      // the latch closed with this packet: aim at its sender
	rekeyed bool      // it is one of the first with a new key
}

// receiver is the incoming half of a stream: it decides which packets are the
// peer's, and keeps the account of them for the reports.
type receiver struct {
	mu      sync.Mutex // guards everything; taken by the reader, Agree, the pacer every 5 s, and Stats. No other lock is taken under it.
	agreed  bool
	format  Format
	cipher  *cipher // nil: what comes is in clear
	before  *cipher // of the key before; nil: there was none, or its time is over
	receive bool
	latch   latch
	source  source
	next    candidate // a second SSRC that may become the source
	keys    keyMemory
	tones   *audio.Tones  // where telephone-event was not agreed; else nil
	wide    *wideEar      // the reader's, without the lock: what is G.722, as A-law; nil: nothing was yet
	second  time.Duration // the running second of the flood limit
	inSec   int
	packets uint64
	dropped drops

	beforeUntil time.Duration

	// From the peer's reports.
	lastSR   uint32        // middle 32 bits of its NTP time
	lastSRAt time.Duration // when it came
	trip     time.Duration
	told     told
}

// told is the last block about our sound.
type told struct {
	known  bool
	lost   int32  // RFC 3550 §6.4.1: 24 bits, below zero with duplicates
	jitter uint32 // in samples
}

// take judges one datagram. The payload is b[from:to].
func (r *receiver) take(b []byte, src netip.AddrPort, at time.Duration) (a arrival, from, to int, why reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, from, to, why = r.judge(b, src, at)
	if why != used {
		r.dropped[why]++
	} else {
		r.packets++
	}
	return a, from, to, why
}

func (r *receiver) judge(b []byte, src netip.AddrPort, at time.Duration) (a arrival, from, to int, why reason) {
	if !r.agreed {
		return a, 0, 0, dropEarly
	}
	if !r.latch.permits(src.Addr()) { // before anything else looks at a stranger's bytes
		return a, 0, 0, dropStranger
	}
	if second := at.Truncate(time.Second); second != r.second {
		r.second, r.inSec = second, 0
	}
	if r.inSec++; r.inSec > packetsPerSecond {
		return a, 0, 0, dropFlood
	}
	if r.cipher != nil {
		if b, a.rekeyed, why = r.unseal(b, at); why != used {
			return a, 0, 0, why
		}
	}
	var ok bool
	if a.header, from, to, ok = parse(b); !ok || len(b) > maxPacket {
		return a, 0, 0, dropMalformed
	}
	switch { // the payload type, which RFC 3551 binds to 0, 8, 9 and 13, and the answer to the rest
	case from == to:
		a.kind = kindEmpty // whatever its number: senders of keep-alives use any
	case r.format.KeyPT != 0 && a.pt == r.format.KeyPT:
		a.kind = kindKey
	case a.pt == r.format.PT:
		a.law = r.format.Law
	case a.pt == ptPCMU:
		a.law = audio.PCMU
	case a.pt == ptPCMA:
		a.law = audio.PCMA
	case a.pt == ptG722:
		a.law = audio.G722
	case a.pt == ptCN:
		a.kind = kindNoise
	default:
		return a, 0, 0, dropPayload
	}
	// The latch closes on what was agreed, not on whatever flies by. Keys leave it
	// open: some peers send them from another port than the sound, and it is the
	// sound that needs the return path.
	settles := a.kind == kindNoise || a.kind == kindSound && a.pt == r.format.PT
	why, a.latched = r.latch.admit(src, a.header, settles, at)
	if why != used {
		return a, 0, 0, why
	}
	if !r.receive {
		return a, 0, 0, dropHold
	}
	// Keys may come from an SSRC of their own; RFC 4733 §2.1 wants them in the
	// sound's, where they share its sequence numbers.
	if a.kind != kindKey || a.ssrc == r.source.ssrc {
		if why := r.follow(a, at); why != used {
			return a, 0, 0, why
		}
	}
	switch {
	case a.kind == kindKey && to-from < keySize:
		return a, 0, 0, dropMalformed
	case a.kind == kindKey:
		a.key = r.keys.press(a.header, b[from:to])
		if a.key != 0 && !r.keys.counts(byEvent) || r.keys.way == byInfo {
			a.kind, a.key, to = kindEmpty, 0, from // pressed by INFO already
		}
	case a.kind == kindSound && r.tones != nil:
		a.key = r.tones.Hear(r.plain(a, b[from:to]))
	}
	return a, from, to, used
}

// follow keeps the account of the source, and changes it only when another
// SSRC comes twice in a row without a word of the present one between.
func (r *receiver) follow(a arrival, at time.Duration) reason {
	if r.source.known && a.ssrc != r.source.ssrc {
		if r.next.count(netip.AddrPort{}, a.header) < inARow {
			return dropSource
		}
		r.source = source{}
	}
	r.next = candidate{}
	if !r.source.known {
		r.source.begin(a.header)
	} else if why := r.source.order(a.seq); why != used {
		return why
	}
	if a.kind == kindSound {
		r.source.measure(a.ts, at)
	}
	return used
}

// candidate counts consecutive packets of something we do not believe yet.
type candidate struct {
	from netip.AddrPort
	ssrc uint32
	seq  uint16 // expected next
	n    int
}

func (c *candidate) count(from netip.AddrPort, h header) int {
	if c.n == 0 || c.from != from || c.ssrc != h.ssrc || c.seq != h.seq {
		*c = candidate{from: from, ssrc: h.ssrc}
	}
	c.seq = h.seq + 1
	c.n++
	return c.n
}

// latch decides whose packets are the peer's. The address must be the one of
// the session description; or, when that one is private and the signalling came
// from elsewhere, the address of the signalling (the peer is behind a NAT). The
// port is free until two packets in a row agree on one, then closed until the
// next Agree; the port of the description stays open beside it, since only the
// signalling could have named it, and two of its packets take over.
type latch struct {
	named    netip.AddrPort // of the session description
	behind   netip.Addr     // the other address allowed; invalid: none
	source   netip.AddrPort // learned; invalid: nothing yet
	closed   bool           // source is settled until the next Agree
	unproven candidate

	left      netip.AddrPort // where the peer was before the description named another address,
	leftUntil time.Duration  // whose packets that are still on their way settle nothing until then
}

// leftLongest is how long packets may still come from where the peer was: it moves when it
// has our answer, and what it sent before may be late.
const leftLongest = time.Second

// arm opens the latch for a new offer/answer and says whether the description
// names another address than before. What was learned stays good while it is the
// same, so that a re-INVITE makes no hole; it is up to the next two packets. A
// description without an address is a hold, which changes nobody's identity.
func (l *latch) arm(p Peer, at time.Duration) (moved bool) {
	if !reachable(p.RTP) {
		return false
	}
	named := netip.AddrPortFrom(p.RTP.Addr().Unmap(), p.RTP.Port())
	src := p.Source.Unmap()
	moved = named != l.named
	if moved {
		l.left, l.leftUntil = l.named, at+leftLongest
		if l.source.IsValid() {
			l.left = l.source
		}
		l.source = netip.AddrPort{}
	}
	l.named, l.closed, l.unproven, l.behind = named, false, candidate{}, netip.Addr{}
	if src.IsValid() && src != named.Addr() && private(named.Addr()) {
		l.behind = src
	}
	return moved
}

// reachable says whether anything can be sent there: not to 0.0.0.0 or port 0,
// which mean a hold (RFC 3264 §8.4, trap 9).
func reachable(a netip.AddrPort) bool {
	return a.IsValid() && !a.Addr().IsUnspecified() && a.Port() != 0
}

// private says whether an address means nothing outside its own network.
func private(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() || sharedSpace.Contains(a)
}

// sharedSpace is what carriers put their customers into, RFC 6598.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

func (l *latch) permits(a netip.Addr) bool {
	return a == l.named.Addr() || l.behind.IsValid() && a == l.behind
}

// admit judges a packet from a permitted address, and says whether it closed
// the latch, which it may only if it settles anything.
func (l *latch) admit(src netip.AddrPort, h header, settles bool, at time.Duration) (why reason, closes bool) {
	known := src == l.named || l.source.IsValid() && src == l.source
	switch {
	case l.closed && !known:
		return dropPort, false
	case l.closed && src == l.source:
		return used, false
	case src == l.left && !known && at < l.leftUntil:
		return dropUnlatched, false
	}
	if l.unproven.count(src, h) < inARow {
		if known {
			return used, false
		}
		return dropUnlatched, false
	}
	if !settles {
		return used, false
	}
	l.source, l.closed = src, true
	return used, true
}

// source is the account of one SSRC that we hear (RFC 3550 §6.4.1, §A.1, §A.3).
type source struct {
	known    bool
	ssrc     uint32
	first    uint32 // extended sequence number of the first packet
	top      uint32 // highest extended sequence number
	seen     uint64 // bit i: top-i has been there
	bad      uint32 // where a sender that started anew would go on; 1<<16: nowhere
	received uint32

	jitter  uint32 // ×16, samples
	transit uint32
	timed   bool // transit is known

	priorExpected, priorReceived uint32 // at the last report
}

const nowhere = 1 << 16 // no sequence number

func (s *source) begin(h header) {
	*s = source{known: true, ssrc: h.ssrc, first: uint32(h.seq), top: uint32(h.seq), seen: 1, bad: nowhere, received: 1}
}

// order enters a sequence number and tells duplicates and stragglers.
func (s *source) order(seq uint16) reason {
	ahead := seq - uint16(s.top) // modulo 2^16
	switch {
	case ahead == 0:
		return dropDuplicate
	case ahead < maxDropout:
		s.top += uint32(ahead)
		s.seen = s.seen<<ahead | 1 // a shift of 64 and more leaves the 1
	case -ahead < replayWindow:
		bit := uint64(1) << -ahead
		if s.seen&bit != 0 {
			return dropDuplicate
		}
		s.seen |= bit
	case -ahead < maxMisorder:
		return dropLate
	default: // two in a row from far away: it started anew
		if uint32(seq) != s.bad {
			s.bad = uint32(seq + 1)
			return dropLate
		}
		s.begin(header{seq: seq, ssrc: s.ssrc})
		return used
	}
	s.bad = nowhere
	s.received++
	return used
}

// measure updates the jitter, RFC 3550 §A.8.
func (s *source) measure(ts uint32, at time.Duration) {
	transit := samples(at) - ts
	if !s.timed {
		s.transit, s.timed = transit, true
		return
	}
	d := int32(transit - s.transit)
	s.transit = transit
	if d < 0 {
		d = -d
	}
	s.jitter += uint32(d) - (s.jitter+8)>>4
}

// lost is how many packets of the source never came (RFC 3550 §A.3).
func (s *source) lost() int64 {
	if !s.known {
		return 0
	}
	return int64(s.top-s.first) + 1 - int64(s.received)
}

// expected is how many packets of the source there were up to the last one.
func (s *source) expected() uint64 {
	if !s.known {
		return 0
	}
	return uint64(s.top-s.first) + 1
}

// share is a part of a whole, at least 0 and at most 1.
func share(part int64, of uint64) float64 { return min(1, max(0, float64(part)/float64(of))) }

// samples is a time on the RTP clock: 8000 Hz, one sample each 125 µs.
func samples(d time.Duration) uint32 {
	return uint32(d / (125 * time.Microsecond))
}

// duration is a number of samples as time.
func duration(n uint32) time.Duration { return time.Duration(n) * 125 * time.Microsecond }
