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
// G.722 that nobody listens to cost nothing.
type wideEar struct {
	decoder audio.G722Decoder
	known   bool
	ssrc    uint32
	seq     uint16 // of the packet that alaw is of
	next    uint32 // the timestamp after it
	swell   int    // samples since the decoder began
	alaw    [maxPacket]byte
}

// plain is the sound of a packet in a law of G.711, valid until the next packet.
func (r *receiver) plain(a arrival, sound []byte) ([]byte, audio.Law) {
	if a.law != audio.G722 {
		return sound, a.law
	}
	if r.wide == nil {
		r.wide = new(wideEar)
	}
	return r.wide.hear(a.header, sound), audio.PCMA
}

// hear decodes a packet. One whose octets say how something goes on that was not heard,
// since nobody asked, or since it was lost, begins anew.
func (w *wideEar) hear(h header, sound []byte) []byte {
	if w.known && h.ssrc == w.ssrc && h.seq == w.seq {
		return w.alaw[:len(sound)]
	}
	if gap := int32(h.ts - w.next); !w.known || h.ssrc != w.ssrc || gap > wideGap || gap < -wideGap {
		w.decoder, w.swell = audio.G722Decoder{}, 0
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
// is, and then nobody knows. A frame of silence is between that and what we make next.
// The other way round the two encoders meet: for a while we decode what the other says
// and encode it anew, until ours is where the other is.
type wideVoice struct {
	encoder audio.G722Encoder
	astray  bool // the peer has heard what the encoder has not made, or not what it has
	meets   int  // samples until the encoders have met
}

// speak encodes A-law, in place.
func (v *wideVoice) speak(sound []byte) {
	if v.astray {
		v.encoder.Settle(sound)
		v.astray = false
		return
	}
	v.encoder.Encode(sound, sound)
}

// passes says whether what another encoder has made is passed on as it is; begins: it
// did not make what came before.
func (v *wideVoice) passes(n int, begins bool) bool {
	if begins {
		v.meets = wideMeets
	}
	if v.meets > 0 {
		v.meets -= n
		return false
	}
	v.astray = true
	return true
}
