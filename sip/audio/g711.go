// Package audio is pure sound: G.711, G.722, WAV files, tones and levels. Nothing in
// it knows packets, calls or clocks.
//
// The sound of the house is A-law, 8 kHz, mono: what Italian trunks speak and
// what every telephone and browser understands.
package audio

// Law is how sound is written: in one of the two companding laws of ITU-T G.711, an
// octet a sample, or as G.722. Its value is its static RTP payload type (RFC 3551 §6,
// table 4).
type Law uint8

// The laws.
const (
	PCMU Law = 0 // µ-law: North America, Japan
	PCMA Law = 8 // A-law: the rest of the world
	G722 Law = 9 // no law, but as many octets a second: twice the band of a telephone
)

// String returns the encoding name used in SDP (RFC 3551 §4.5.2, §4.5.14).
func (l Law) String() string {
	switch l {
	case PCMU:
		return "PCMU"
	case G722:
		return "G722"
	}
	return "PCMA"
}

// G711 is the law of G.711 in which sound is made that is to be written in l: G.722
// is made of A-law.
func (l Law) G711() Law {
	if l == G722 {
		return PCMA
	}
	return l
}

// Silence returns the octet that decodes to the quietest sample of a law of G.711.
func (l Law) Silence() byte {
	if l == PCMU {
		return ulawSilence
	}
	return alawSilence
}

const (
	alawSilence = 0xD5 // the smallest positive A-law value, +8 of 32768
	ulawSilence = 0xFF // µ-law zero
)

// Tables, built once. Decoding has one entry per octet; encoding has one per
// 16-bit sample and holds the octet whose value is nearest, which is what the
// formula of G.711 amounts to, without its rounding slips.
var (
	alawPCM = decodeTable(alawFormula)
	ulawPCM = decodeTable(ulawFormula)
	pcmALaw = encodeTable(&alawPCM, alawSilence)
	pcmULaw = encodeTable(&ulawPCM, ulawSilence)

	alawToULaw = crossTable(&alawPCM, pcmULaw)
	ulawToALaw = crossTable(&ulawPCM, pcmALaw)
)

// ALaw returns the A-law octet nearest to a sample.
func ALaw(pcm int16) byte { return pcmALaw[uint16(pcm)] }

// ALawToPCM returns the sample an A-law octet stands for.
func ALawToPCM(a byte) int16 { return alawPCM[a] }

// ULaw returns the µ-law octet nearest to a sample.
func ULaw(pcm int16) byte { return pcmULaw[uint16(pcm)] }

// ULawToPCM returns the sample a µ-law octet stands for.
func ULawToPCM(u byte) int16 { return ulawPCM[u] }

// Transcode writes src, which is in one law of G.711, to dst in the other, octet by octet,
// as far as both reach. dst may be src itself. It does not allocate.
func Transcode(dst, src []byte, from, to Law) {
	n := min(len(dst), len(src))
	if from == to {
		copy(dst[:n], src[:n])
		return
	}
	table := &alawToULaw
	if from == PCMU {
		table = &ulawToALaw
	}
	for i, b := range src[:n] {
		dst[i] = table[b]
	}
}

// alawFormula decodes one A-law octet, G.711 §3.1 table 1a: even bits are
// inverted on the wire; then sign, three bits of segment, four of interval. The
// 13-bit value of the table is scaled to 16 bits.
func alawFormula(a byte) int16 {
	a ^= 0x55
	segment := a >> 4 & 7
	value := int16(a&15)<<4 + 8
	if segment > 0 {
		value = (value + 0x100) << (segment - 1)
	}
	if a&0x80 == 0 {
		return -value
	}
	return value
}

// ulawFormula decodes one µ-law octet, G.711 §3.2 table 2a: all bits are
// inverted on the wire; the bias of 33 is 132 when scaled to 16 bits.
func ulawFormula(u byte) int16 {
	const bias = 33 << 2
	u = ^u
	value := (int16(u&15)<<3+bias)<<(u>>4&7) - bias
	if u&0x80 != 0 {
		return -value
	}
	return value
}

func decodeTable(formula func(byte) int16) (table [256]int16) {
	for i := range table {
		table[i] = formula(byte(i))
	}
	return table
}

// encodeTable inverts a decode table by nearest value. Ties go to the quieter
// octet; zero goes to the law's own octet of silence (µ-law has two zeros).
func encodeTable(decode *[256]int16, silence byte) *[1 << 16]byte {
	// The octets in rising order of value, so that the search is one walk.
	var order [256]byte
	for i := range order {
		order[i] = byte(i)
	}
	for i := 1; i < len(order); i++ { // insertion sort: 256 entries, once
		for j := i; j > 0 && decode[order[j]] < decode[order[j-1]]; j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	table := new([1 << 16]byte)
	at := 0
	for s := -1 << 15; s < 1<<15; s++ {
		for at+1 < len(order) && closer(int(decode[order[at+1]]), int(decode[order[at]]), s) {
			at++
		}
		table[uint16(int16(s))] = order[at]
	}
	table[0] = silence
	return table
}

// closer says whether the value next, which is not below this, stands for the
// sample s better than this does.
func closer(next, this, s int) bool {
	dn, dt := max(next-s, s-next), max(this-s, s-this)
	if dn == dt { // equally far: the quieter one, and past the double zero
		return next <= 0
	}
	return dn < dt
}

func crossTable(decode *[256]int16, encode *[1 << 16]byte) (table [256]byte) {
	for i := range table {
		table[i] = encode[uint16(decode[i])]
	}
	return table
}
