package media

import (
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtcp"

	"github.com/pronto-desk/pronto/sip/audio"
)

// reportTicks is how many turns lie between two reports: 5 s, the minimum
// interval of RFC 3550 §6.2. Streams have different phases, so no jitter is added.
const reportTicks = int(5 * time.Second / audio.FrameTime)

// maxReports bounds the packets read of one compound datagram: a sender has two
// or three.
const maxReports = 8

// reports is the RTCP side of a stream.
type reports struct {
	name string // CNAME, RFC 7022 §4.2: random per stream, so that it tells nothing

	mu      sync.Mutex // guards what follows
	to      netip.AddrPort
	learned bool   // to was learned since the last Agree
	sent    uint64 // RTP packets sent when the last report went out
}

// canonicalName makes a CNAME, RFC 7022 §4.2: 96 bits in base64.
func canonicalName() string {
	var b [12]byte
	rand.Read(b[:])
	return base64.StdEncoding.EncodeToString(b[:])
}

// aim sets where reports go after an Agree.
func (r *reports) aim(p Peer) {
	to := p.RTCP
	if !to.IsValid() && reachable(p.RTP) && p.RTP.Port() < 65535 {
		to = netip.AddrPortFrom(p.RTP.Addr(), p.RTP.Port()+1) // RFC 3550 §11
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.learned = false
	if reachable(to) {
		r.to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	}
}

// receiveReport handles one RTCP datagram, on the reader of the RTCP socket.
func (s *Stream) receiveReport(b []byte, src netip.AddrPort) {
	defer s.stumble()
	at := s.engine.now()
	s.out.mu.Lock()
	ours := s.out.ssrc
	s.out.mu.Unlock()
	if s.in.takeReport(b, src, ours, at) != used {
		return
	}
	s.heard.Store(int64(at))
	s.reports.mu.Lock()
	if !s.reports.learned { // behind a NAT the port is another than the description's
		s.reports.learned, s.reports.to = true, src
	}
	s.reports.mu.Unlock()
}

// takeReport judges one RTCP datagram; own is our SSRC.
func (r *receiver) takeReport(b []byte, src netip.AddrPort, own uint32, at time.Duration) reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := r.judgeReport(b, src, own, at)
	if why != used {
		r.dropped[why]++
	}
	return why
}

func (r *receiver) judgeReport(b []byte, src netip.AddrPort, own uint32, at time.Duration) (why reason) {
	if !r.agreed {
		return dropEarly
	}
	if !r.latch.permits(src.Addr()) {
		return dropStranger
	}
	if r.cipher != nil {
		if b, why = r.unsealReport(b, at); why != used {
			return why
		}
	}
	return r.readReport(b, own, at)
}

// readReport reads the reports of a compound packet (RFC 3550 §6.1) that a
// permitted address sent; own is our SSRC. Other packets are stepped over, so
// that an extension nobody here reads costs us no report. The caller holds r.mu.
func (r *receiver) readReport(b []byte, own uint32, at time.Duration) reason {
	for n := 0; len(b) > 0; n++ {
		var h rtcp.Header
		if n == maxReports || h.Unmarshal(b) != nil {
			return dropMalformed
		}
		size := 4 * (int(h.Length) + 1)
		if size > len(b) {
			return dropMalformed
		}
		one := b[:size]
		b = b[size:]
		if n == 0 && h.Type != rtcp.TypeSenderReport && h.Type != rtcp.TypeReceiverReport {
			return dropMalformed // RFC 3550 §A.2: the first of a compound is a report
		}
		switch h.Type {
		case rtcp.TypeSenderReport:
			var sr rtcp.SenderReport
			if sr.Unmarshal(one) != nil {
				return dropMalformed
			}
			r.lastSR, r.lastSRAt = uint32(sr.NTPTime>>16), at
			r.roundTrip(sr.Reports, own)
		case rtcp.TypeReceiverReport:
			var rr rtcp.ReceiverReport
			if rr.Unmarshal(one) != nil {
				return dropMalformed
			}
			r.roundTrip(rr.Reports, own)
		}
	}
	return used
}

// tripLongest is beyond what a call could bear; more is a broken report.
const tripLongest = 10 * time.Second

// roundTrip keeps what the peer says of our sound, and computes how long a packet
// travels there and back, RFC 3550 §6.4.1.
func (r *receiver) roundTrip(blocks []rtcp.ReceptionReport, own uint32) {
	for _, b := range blocks {
		if b.SSRC != own {
			continue
		}
		r.told = told{known: true, lost: int32(b.TotalLost<<8) >> 8, jitter: b.Jitter}
		if b.LastSenderReport == 0 {
			continue
		}
		trip := uint32(ntp(time.Now())>>16) - b.LastSenderReport - b.Delay
		if d := time.Duration(uint64(trip) * uint64(time.Second) >> 16); d < tripLongest {
			r.trip = d
		}
	}
}

// ntp is a time in the format of RFC 3550 §4: seconds since 1900 in the upper
// half, their fraction in the lower.
func ntp(t time.Time) uint64 {
	const seconds1900to1970 = 2208988800
	return uint64(t.Unix()+seconds1900to1970)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// report sends the account of what we sent and heard, on the pacer.
func (s *Stream) report(at time.Duration) { s.sendReport(at, false) }

// goodbye tells the peer that the stream ends, RFC 3550 §6.6.
func (s *Stream) goodbye(at time.Duration) { s.sendReport(at, true) }

func (s *Stream) sendReport(at time.Duration, leave bool) {
	defer s.stumble()
	s.reports.mu.Lock()
	to := s.reports.to
	s.reports.mu.Unlock()
	if !to.IsValid() {
		return
	}
	blocks := s.in.reception(at)
	s.out.mu.Lock()
	ssrc, packets := s.out.ssrc, s.out.packets
	sr := &rtcp.SenderReport{
		SSRC:        ssrc,
		NTPTime:     ntp(time.Now()),
		RTPTime:     s.out.lastTS + samples(at-s.out.lastAt), // the instant of NTPTime on the stream's own clock
		PacketCount: uint32(packets),
		OctetCount:  s.out.octets,
		Reports:     blocks,
	}
	s.out.mu.Unlock()

	s.reports.mu.Lock()
	spoke := packets != s.reports.sent
	s.reports.sent = packets
	s.reports.mu.Unlock()

	var compound []rtcp.Packet
	if spoke {
		compound = append(compound, sr)
	} else { // RFC 3550 §6.4: who sent nothing since the last report has only received
		compound = append(compound, &rtcp.ReceiverReport{SSRC: ssrc, Reports: blocks})
	}
	compound = append(compound, rtcp.NewCNAMESourceDescription(ssrc, s.reports.name))
	if leave {
		compound = append(compound, &rtcp.Goodbye{Sources: []uint32{ssrc}})
	}
	b, err := rtcp.Marshal(compound)
	if err == nil {
		b, err = s.out.sealReport(b)
	}
	if err == nil {
		s.rtcp.WriteToUDPAddrPort(b, to) // a report that cannot be sent is a report lost
	}
}

// reception is the block about the source we hear, RFC 3550 §A.3; none when we
// hear nobody.
func (r *receiver) reception(at time.Duration) []rtcp.ReceptionReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	src := &r.source
	if !src.known {
		return nil
	}
	expected := src.top - src.first + 1
	lost := src.lost()
	interval, got := expected-src.priorExpected, src.received-src.priorReceived
	src.priorExpected, src.priorReceived = expected, src.received
	b := rtcp.ReceptionReport{
		SSRC:               src.ssrc,
		TotalLost:          uint32(min(max(0, lost), 1<<23-1)), // RFC 3550 §6.4.1: 24 bits, signed
		LastSequenceNumber: src.top,
		Jitter:             src.jitter >> 4,
	}
	if interval > got {
		b.FractionLost = uint8(min(255, uint64(interval-got)<<8/uint64(interval)))
	}
	if r.lastSR != 0 {
		b.LastSenderReport = r.lastSR
		b.Delay = uint32((at - r.lastSRAt) << 16 / time.Second)
	}
	return []rtcp.ReceptionReport{b}
}
