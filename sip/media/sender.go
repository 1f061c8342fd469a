package media

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	// fillAfter is how long a joined leg may be quiet before we send silence in
	// its place: longer than any stall of a network whose packets still come,
	// far shorter than the media timers of NATs and session border controllers
	// (20–60 s).
	fillAfter = time.Second
	// aheadLongest and astrayLongest bound how far a relayed timestamp may run
	// before or lag behind the wall clock; beyond, it is set anew.
	aheadLongest  = 500 * time.Millisecond
	astrayLongest = time.Second
)

// sender is the outgoing half of a stream: one SSRC, sequence numbers without a
// hole, timestamps on the wall clock, whatever it is that sounds.
type sender struct {
	mu     sync.Mutex // guards everything; held while a packet is written, so that the wire sees the order of the numbers. A leaf: no lock is taken under it but an ear's or a comfort's, which are.
	conn   Conn
	format Format
	cipher *cipher // nil: what is sent is in clear
	heir   *cipher // of a new key that the peer has perhaps not heard of, until heirAt; nil: there is none
	heirAt time.Duration
	to     netip.AddrPort // where packets go
	send   bool           // the peer wants them
	closed bool           // the socket is gone; its descriptor may be somebody else's by now

	ssrc    uint32
	seq     uint16 // highest sent
	base    uint32 // timestamp of the engine's epoch
	next    uint32 // least timestamp of the next packet: the end of what was sent
	begun   bool   // something was sent, so next counts
	fresh   bool   // the next sound packet begins a talkspurt: marker
	packets uint64
	octets  uint32        // of payload, RFC 3550 §6.4.1
	lastTS  uint32        // of the newest packet
	lastAt  time.Duration // when it was sent

	keying []*keying   // our own keys come first,
	floor  []*sounding // then what was started last,
	port   *port       // then the mix, once it is to be heard,
	from   *Stream     // then the joined leg; else silence

	live   bool // the segment continues
	spurt  segment
	alien  alienKey
	wide   wideVoice     // where the peer's G.722 stands
	heard  time.Duration // when the joined leg's last packet went out
	frame  [headerSize + samplesPerFrame]byte
	failed uint64 // packets the socket refused

	dropped drops
}

// sounding is a clip on its way to the peer.
type sounding struct {
	alaw []byte
	at   int // next octet
	loop bool
	done chan struct{} // closed when the last frame was sent
}

// segment is a run of relayed packets of one source. Its offsets are added to
// the source's numbers, so that loss and reordering reach the peer as they are
// (trap 10).
type segment struct {
	ssrc  uint32
	seq   uint16 // offset
	ts    uint32 // offset
	first uint16 // the source's number the segment began with
}

// alienKey is the event that a joined leg sends beside its sound, from an SSRC
// of its own, with timestamps that say nothing about the sound's.
type alienKey struct {
	known    bool
	ssrc, ts uint32 // the event
	out      uint32 // our timestamp for it
}

// ready says whether anything may be sent now. The caller holds o.mu, here and
// below.
func (o *sender) ready() bool { return o.send && !o.closed && o.to.IsValid() }

// widen opens the socket to others than the peer again.
func (o *sender) widen() {
	if c, ok := o.conn.(interface{ connect(netip.AddrPort) error }); ok && !o.closed {
		_ = c.connect(netip.AddrPort{})
	}
}

// clock is the timestamp for a packet that begins now: the wall clock, unless
// what was sent already reaches further.
func (o *sender) clock(at time.Duration) uint32 {
	ts := o.base + samples(at)
	if o.begun && int32(ts-o.next) < 0 {
		return o.next
	}
	return ts
}

// write sends b with the header h, whose SSRC it adds.
func (o *sender) write(b []byte, h header, at time.Duration) {
	h.ssrc = o.ssrc
	h.put(b)
	if !o.begun {
		o.begun, o.next = true, h.ts
	}
	o.lastTS, o.lastAt = h.ts, at
	o.packets++
	o.octets += uint32(len(b) - headerSize)
	var err error
	if o.cipher != nil {
		b, err = o.cipher.seal(b)
	}
	if err == nil {
		_, err = o.conn.WriteToUDPAddrPort(b, o.to)
	}
	if err != nil {
		o.failed++ // a full buffer or no route: like a packet lost on the way
	}
}

// tick sends the frame of one 20 ms turn. It is called by the pacer.
func (o *sender) tick(at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.heir != nil && at >= o.heirAt {
		o.rekey()
	}
	ahead := len(o.floor) == 0 && o.begun && int32(o.next-o.base-samples(at)) >= samplesPerFrame // the relay has sent more than the time that has passed
	mixed := o.tickMix(ahead)                                                                    // whatever is sent, the others go on talking
	if o.tickKeys(at) {
		return
	}
	payload, law := o.frame[headerSize:], o.format.Law.G711()
	switch {
	case len(o.floor) > 0:
		o.live = false
		if !o.settles() {
			o.fill(payload, law)
		}
	case mixed != nil && ahead:
		o.live = false
		return // so that no change from relay to mix puts the clock off for good
	case mixed != nil:
		o.live = false
		mixed.put(payload, law)
	case o.live && at-o.heard < fillAfter:
		return // the joined leg speaks for itself
	default:
		o.live = false
		if o.from != nil && o.from.comfort.fill(payload, law) {
			break
		}
		for i := range payload {
			payload[i] = law.Silence()
		}
	}
	if !o.ready() {
		o.wide.lose(o.begun)
		return
	}
	if o.format.Law == audio.G722 {
		o.wide.speak(payload)
	}
	o.seq++
	ts := o.clock(at)
	o.write(o.frame[:], header{marker: o.fresh, pt: o.format.PT, seq: o.seq, ts: ts}, at)
	o.fresh = false
	o.next = ts + samplesPerFrame
}

// settles says whether this frame is the silence that a peer of G.722 gets before what
// we make (wideVoice): a clip waits for it, or its beginning would be lost.
func (o *sender) settles() bool { return o.format.Law == audio.G722 && o.wide.settles() && o.ready() }

// fill puts the next frame of what has the floor into payload, in a law of G.711. A
// clip that has sent its last frame leaves the floor.
func (o *sender) fill(payload []byte, law audio.Law) {
	top := o.floor[len(o.floor)-1]
	n := 0
	for n < len(payload) {
		if top.at == len(top.alaw) {
			if !top.loop {
				break
			}
			top.at = 0
		}
		k := min(len(payload)-n, len(top.alaw)-top.at)
		audio.Transcode(payload[n:n+k], top.alaw[top.at:top.at+k], audio.PCMA, law)
		n += k
		top.at += k
	}
	for i := n; i < len(payload); i++ {
		payload[i] = law.Silence()
	}
	if top.at == len(top.alaw) && !top.loop {
		o.floor = o.floor[:len(o.floor)-1]
		o.fresh = true
		close(top.done)
	}
}

// sound gives a clip the floor; what had it before goes on afterwards.
func (o *sender) sound(c *sounding) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.floor = append(o.floor, c)
	o.fresh = true
}

// hush takes a clip from the floor; when it returns, no more of it is sent.
func (o *sender) hush(c *sounding) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.floor, c); i >= 0 {
		o.floor = slices.Delete(o.floor, i, i+1)
		o.fresh = true
	}
}

// join lets the packets of a leg through; nil: of none. When it returns, no
// packet of the leg before is on its way.
func (o *sender) join(from *Stream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.from = from
	o.live = false
}

// follow takes over where an arrival shows that the peer is, and that it has our answer.
func (o *sender) follow(a arrival, src netip.AddrPort) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.latched {
		o.to = src
	}
	if a.rekeyed { // they have our answer
		o.rekey()
	}
}

// forward relays one packet of a joined leg. b is the leg's read buffer and
// b[from:to] the payload; the new header is written in front of it, in place. It
// runs on the reader of the joined leg and allocates nothing.
func (o *sender) forward(leg *Stream, a arrival, b []byte, from, to int, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if why := o.relay(leg, a, b, from, to, at); why != used {
		o.dropped[why]++
	}
}

func (o *sender) relay(leg *Stream, a arrival, b []byte, from, to int, at time.Duration) reason {
	switch {
	case o.from != leg:
		return dropLate // the bridge has just ended
	case len(o.floor) > 0 || len(o.keying) > 0 || o.mixed():
		return dropCovered
	case !o.ready():
		o.live = false
		o.wide.lose(o.begun)
		return dropUnsent
	}
	switch a.kind {
	case kindNoise:
		if !o.format.Noise { // it gets noise that we make, from the next tick on
			o.live = false
			return used
		}
	case kindEmpty:
		o.skip(a)
		return used
	case kindKey:
		if o.format.KeyPT == 0 {
			o.skip(a)
			return dropNoFormat
		}
		if o.live && a.ssrc != o.spurt.ssrc {
			o.insertKey(a, b[from-headerSize:to], at)
			return used
		}
	}

	seq, ts := a.seq+o.spurt.seq, a.ts+o.spurt.ts
	begins := !o.live || a.ssrc != o.spurt.ssrc
	if !begins {
		ahead := int16(seq - o.seq)
		if ahead <= 0 && int16(a.seq-o.spurt.first) < 0 {
			return dropLate // reordered across the beginning of the segment: its number is taken
		}
		begins = ahead > maxDropout || ahead < -maxMisorder
		// A key keeps the timestamp of its beginning as long as it is down.
		if drift := int32(ts - o.base - samples(at)); a.kind == kindSound &&
			(drift > int32(samples(aheadLongest)) || drift < -int32(samples(astrayLongest))) {
			begins = true
		}
	}
	if begins {
		seq, ts = o.seq+1, o.clock(at)
		if int32(ts-o.base-samples(at)) > int32(samples(aheadLongest)) {
			o.live = false
			return dropBurst
		}
		o.spurt = segment{ssrc: a.ssrc, seq: seq - a.seq, ts: ts - a.ts, first: a.seq}
		o.live = true
	}

	pt, span := o.format.PT, uint32(to-from) // an octet is a sample in both laws, and of the clock of G.722
	if a.kind == kindKey {
		pt, span = o.format.KeyPT, 0
	} else if a.kind == kindNoise {
		pt, span = ptCN, 0
	} else {
		o.convert(leg, a, b[from:to], begins)
	}
	o.write(b[from-headerSize:to], header{marker: a.marker || begins && a.kind != kindNoise, pt: pt, seq: seq, ts: ts}, at)
	o.heard = at
	if int16(seq-o.seq) > 0 {
		o.seq = seq
	}
	if end := ts + span; int32(end-o.next) > 0 {
		o.next = end
	}
	return used
}

// convert writes the sound of a joined leg, in place, as the peer wants it.
func (o *sender) convert(leg *Stream, a arrival, sound []byte, begins bool) {
	switch both := a.law == o.format.Law; {
	case both && a.law != audio.G722:
		return
	case both && o.wide.passes(sound, begins):
		leg.in.ear().passed.add(a.header, sound)
		return
	}
	plain, law := leg.in.plain(a, sound)
	audio.Transcode(sound, plain, law, o.format.Law.G711())
	if o.format.Law == audio.G722 {
		o.wide.speak(sound)
	}
}

// insertKey sends a key packet of an SSRC that is not the sound's between the
// sound's packets, whose numbers move on by one.
func (o *sender) insertKey(a arrival, b []byte, at time.Duration) {
	if !o.alien.known || o.alien.ssrc != a.ssrc || o.alien.ts != a.ts {
		out := o.base + samples(at)
		if int32(out-o.lastTS) < 0 { // in the order of the sound
			out = o.lastTS
		}
		if o.alien.known && int32(out-o.alien.out) <= 0 { // and not the key before
			out = o.alien.out + 1
		}
		o.alien = alienKey{known: true, ssrc: a.ssrc, ts: a.ts, out: out}
	}
	o.seq++
	o.spurt.seq++
	o.spurt.first = o.seq + 1 - o.spurt.seq // what is older has other offsets
	ts, when := o.lastTS, o.lastAt
	o.write(b, header{marker: a.marker, pt: o.format.KeyPT, seq: o.seq, ts: o.alien.out}, at)
	o.lastTS, o.lastAt = ts, when // the sound's, which the next key and the reports go by
	o.heard = at
}

// skip closes the hole that a packet we do not forward would leave in the
// numbers, if nothing was sent after it yet.
func (o *sender) skip(a arrival) {
	if !o.live || a.ssrc != o.spurt.ssrc || a.seq+o.spurt.seq != o.seq+1 {
		return
	}
	o.spurt.seq--
	o.spurt.first = a.seq + 1
}
