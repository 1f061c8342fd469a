// Package media is the RTP engine: what a caller hears, what is heard of a
// caller, and how two legs are joined (RFC 3550, RFC 3551, RFC 4733).
//
// # Who owns what
//
// An [Engine] owns the range of ports, the pacer and the counts. A [Stream] is
// one leg: an even port for RTP, the odd one above for RTCP. Whoever opened it
// closes it. A stream has two halves that share nothing but the socket:
//
//   - the receiver judges what arrives: is it from the peer (latch), is it RTP of
//     an agreed type, is it new (source), is it a key (keyMemory, or its tones
//     where telephone-event was not agreed);
//   - the sender is the leg's one outgoing RTP stream. One SSRC, sequence numbers
//     without a hole and timestamps on the wall clock last the whole call,
//     whatever sounds: our keys, else the clip that was started last, else the
//     joined leg, else silence. There is always something, so that no NAT or
//     session border controller takes the call for dead; except when the peer
//     holds.
//
// Each half has one mutex. A goroutine holds at most one of them at a time, and
// nothing but a write to the socket happens under it: no log line, no database,
// no waiting. What goes wrong with a packet is a count with a reason.
//
// # Which goroutine runs where, and when it ends
//
//   - Engine.Run, the pacer, one for all streams; ends with its context. Every
//     stream has a phase of 1 ms within the 20 ms, and its turns are at absolute
//     deadlines. A turn sends a frame if one is due, every 5 s a report, and looks
//     whether the peer is lost. Without streams it sleeps; turns more than 100 ms
//     late are dropped.
//   - The reading of the sockets. On Linux a few goroutines serve all streams, in
//     rounds: some every millisecond or two the streams that are bridged or heard, one
//     every 20 ms the rest. They begin with the first such socket and end with
//     the last. Elsewhere, and with sockets made by Config.Listen, each socket has
//     a goroutine of its own, which ends when Close closes it. Either way Close
//     returns when nothing of the stream is being read any more. The goroutine
//     that reads a packet also does what follows from it: it keeps keys, feeds
//     the ears and, in a bridge, writes the packet to the other leg, from the
//     buffer it was read into. No packet is allocated or handed over.
//   - Play, Key, SendKeys, Hear, Record and Bridge block the goroutine that calls them,
//     the call's own, until their work or their context ends. Hear
//     and Record run their function on it.
//
// # Whose packets are taken
//
// TELEPHONY 2.7: only those from the address of the session description or, when
// that is private, the address of the signalling; after two in a row from one
// port, only from that port and the one described, until the next offer and
// answer. A new SSRC counts after two packets in a row with none of the old one
// between. Ports are random in a wide range and rest before they are used again.
//
// # Encrypted legs
//
// With [Peer].Crypto a leg is SRTP and SRTCP (RFC 3711). A packet is decrypted in
// the buffer it was read into, once its address is allowed and before anything
// else is believed of it; what the sender writes is encrypted last. All between,
// ears and bridges too, is as for a leg in clear, so one of each can be joined.
//
// # What a bridge does to a packet
//
// The joined leg's numbers are shifted, not made anew: loss and reordering reach
// the peer as they are. When the source changes, pauses or jumps, a new shift
// continues our own numbers. Extensions, CSRCs and padding stay behind. A-law to
// A-law the octets are the same, and so they are from G.722 to G.722; between the laws a
// table converts them, and G.722 is decoded and encoded, for who wants it (0035). Comfort
// noise (payload type 13, RFC 3389) is passed on where the other peer agreed to it.
// To anybody else, to who listens or records, and to all after one second, noise of
// that level is made, at most 50 dB below overload, until there is sound again.
package media
