package media

import "encoding/binary"

// Sizes on the wire.
const (
	headerSize = 12   // RFC 3550 §5.1, without CSRC
	maxPacket  = 1500 // an Ethernet frame; 20 ms of G.711 or G.722 are 172 octets
	keySize    = 4    // RFC 4733 §2.3
)

// Payload types that are not negotiated.
const (
	ptPCMU = 0  // RFC 3551 §6
	ptPCMA = 8  // RFC 3551 §6
	ptG722 = 9  // RFC 3551 §6
	ptCN   = 13 // RFC 3389: comfort noise
)

// samplesPerFrame is a frame on the RTP clock: 8000 Hz for both laws
// (RFC 3551 §4.5.14), for G.722, whose clock is said to be half of what it is (RFC 3551 §4.5.2),
// and therefore for telephone-event (RFC 4733 §2.1).
const samplesPerFrame = 160

// header is what we read of an RTP packet.
type header struct {
	marker bool
	pt     uint8
	seq    uint16
	ts     uint32
	ssrc   uint32
}

// parse reads an RTP packet (RFC 3550 §5.1) and returns where its payload lies
// in b; CSRCs, a header extension and padding are stepped over. ok is false when
// it is not RTP or its lengths contradict each other.
func parse(b []byte) (h header, from, to int, ok bool) {
	if len(b) < headerSize || b[0]>>6 != 2 {
		return h, 0, 0, false
	}
	h = header{
		marker: b[1]&0x80 != 0,
		pt:     b[1] & 0x7f,
		seq:    binary.BigEndian.Uint16(b[2:]),
		ts:     binary.BigEndian.Uint32(b[4:]),
		ssrc:   binary.BigEndian.Uint32(b[8:]),
	}
	from, to = headerSize+4*int(b[0]&0x0f), len(b)
	if b[0]&0x10 != 0 { // RFC 3550 §5.3.1: the length counts words after the first
		if to < from+4 {
			return h, 0, 0, false
		}
		from += 4 + 4*int(binary.BigEndian.Uint16(b[from+2:]))
	}
	if from > to {
		return h, 0, 0, false
	}
	if b[0]&0x20 != 0 { // the last octet counts the padding, itself included
		pad := 0
		if to > from {
			pad = int(b[to-1])
		}
		if pad == 0 || pad > to-from {
			return h, 0, 0, false
		}
		to -= pad
	}
	return h, from, to, true
}

// put writes the header to the first 12 octets of b.
func (h header) put(b []byte) {
	b[0] = 0x80
	b[1] = h.pt
	if h.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], h.seq)
	binary.BigEndian.PutUint32(b[4:], h.ts)
	binary.BigEndian.PutUint32(b[8:], h.ssrc)
}
