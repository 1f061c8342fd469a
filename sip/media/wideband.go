package media

import "github.com/pronto-desk/pronto/sip/audio"

// wideGap is how much of a peer's G.722 may be missing, in samples, before what comes
// then begins from nothing: as long as what is lost is made up.
const wideGap = 3 * samplesPerFrame

// Two memories of G.722 that hear the same are the same after a while. In samples.
const (
	wideSwell = 6 * samplesPerFrame           // over which sound swells up that was not heard from its beginning: what is expected of it may be wrong, and too loud
	wideMeets = wideSwell + 6*samplesPerFrame // until what was encoded anew can go on as it came
)

// wideEar is what a peer of G.722 is heard with. It belongs to the goroutine that reads
// the packets, and decodes each at most once, when somebody asks for it: two legs of
// G.722 that nobody listens to cost next to nothing. What was passed on meanwhile is
// remembered, so that who listens then hears at once.
type wideEar struct {
	decoder audio.G722Decoder
	known   bool
	ssrc    uint32
	seq     uint16 // of the packet that alaw is of
	next    uint32 // the timestamp after it
	swell   int    // samples since the decoder began
	alaw    [maxPacket]byte
	passed  wideTrail
}

// wideTrail is the end of what was passed on as it came, without a hole.
type wideTrail struct {
	ssrc   uint32
	next   uint32 // the timestamp after it
	octets []byte
	more   bool // there was more, and this is as much as counts
}

// add goes on by a packet.
func (t *wideTrail) add(h header, sound []byte) {
	if t.octets == nil {
		t.octets = make([]byte, 0, wideMeets)
	}
	if h.ssrc != t.ssrc || h.ts != t.next {
		t.octets, t.more = t.octets[:0], false
	}
	t.ssrc, t.next = h.ssrc, h.ts+uint32(len(sound))
	sound = sound[max(0, len(sound)-wideMeets):]
	if over := len(t.octets) + len(sound) - wideMeets; over > 0 {
		t.octets, t.more = t.octets[:copy(t.octets, t.octets[over:])], true
	}
	t.octets = append(t.octets, sound...)
}

// plain is the sound of a packet in a law of G.711, valid until the next packet.
func (r *receiver) plain(a arrival, sound []byte) ([]byte, audio.Law) {
	if a.law != audio.G722 {
		return sound, a.law
	}
	return r.ear().hear(a.header, sound), audio.PCMA
}

// ear is what a peer of G.722 is heard with.
func (r *receiver) ear() *wideEar {
	if r.wide == nil {
		r.wide = new(wideEar)
	}
	return r.wide
}

// hear decodes a packet. One whose octets say how something goes on that was not heard,
// since nobody asked, or since it was lost, begins anew.
func (w *wideEar) hear(h header, sound []byte) []byte {
	if w.known && h.ssrc == w.ssrc && h.seq == w.seq {
		return w.alaw[:len(sound)]
	}
	if gap := int32(h.ts - w.next); !w.known || h.ssrc != w.ssrc || gap > wideGap || gap < -wideGap {
		w.decoder, w.swell = audio.G722Decoder{}, 0
		if p := &w.passed; p.more && h.ssrc == p.ssrc && h.ts == p.next {
			w.decoder.Follow(p.octets)
			w.swell = wideSwell
		}
	}
	w.known, w.ssrc, w.seq, w.next = true, h.ssrc, h.seq, h.ts+uint32(len(sound))
	alaw := w.alaw[:len(sound)]
	w.decoder.Decode(alaw, sound)
	for i := 0; i < len(alaw) && w.swell < wideSwell; i++ {
		alaw[i] = audio.ALaw(int16(int(audio.ALawToPCM(alaw[i])) * w.swell / wideSwell))
		w.swell++
	}
	return alaw
}

// wideVoice is where the decoder of a peer of G.722 stands: the encoder of what we make
// goes on from what the peer has heard. What another peer has encoded is passed on as it
// is; the end of that is remembered, and heard by our encoder when it is its turn again:
// all of it, or so much that it stands where the peer does. Where nobody knows what the
// peer has heard, a frame of silence comes before what we make. The other way round the
// two encoders meet: for a while we decode what the other says and encode it anew, until
// ours is where the other is.
type wideVoice struct {
	encoder audio.G722Encoder
	astray  bool      // the peer has heard what the encoder has not made, or not what it has
	lost    bool      // and nobody knows what
	passed  wideTrail // what it has heard since
	meets   int       // samples until the encoders have met
}

// lose says that nobody knows where the peer stands, if anything was sent at all.
func (v *wideVoice) lose(begun bool) {
	v.astray, v.lost = begun, begun
	v.passed.octets, v.passed.more = v.passed.octets[:0], false
}

// settles says whether a frame of silence comes next.
func (v *wideVoice) settles() bool { return v.astray && v.lost && !v.passed.more }

// speak encodes A-law, in place.
func (v *wideVoice) speak(sound []byte) {
	if v.settles() {
		v.encoder.Settle(sound)
		v.lose(false)
		return
	}
	if v.astray {
		if v.passed.more {
			v.encoder = audio.G722Encoder{}
		}
		v.encoder.Follow(v.passed.octets)
		v.lose(false)
	}
	v.encoder.Encode(sound, sound)
}

// passes says whether what another encoder has made is passed on as it is; begins: it
// did not make what came before.
func (v *wideVoice) passes(sound []byte, begins bool) bool {
	if begins {
		v.meets = wideMeets
	}
	if v.meets > 0 {
		v.meets -= len(sound)
		return false
	}
	v.astray = true
	v.passed.add(header{ssrc: v.passed.ssrc, ts: v.passed.next}, sound) // of a hole the peer has heard nothing
	return true
}
