package media

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/seeds"
)

// FuzzRTP compares our reading of a packet with that of pion/rtp.
func FuzzRTP(f *testing.F) {
	f.Add(raw(header{pt: 8, seq: 1, ts: 2, ssrc: 3}, frameOf(1)))
	f.Add([]byte{0xB2, 0x88, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0, 9, 9, 0, 2})
	f.Add([]byte{0xA0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1})
	f.Add([]byte{0x80})
	for _, seed := range seeds.Of(f, "rtp") {
		for _, packet := range seeds.Packets(seed) {
			f.Add(packet)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, from, to, ok := parse(b)
		var p rtp.Packet
		err := p.Unmarshal(b)
		if !ok {
			return // we are stricter: padding must lie within the payload, header extensions need no valid inside
		}
		if from < headerSize || to < from || to > len(b) {
			t.Fatalf("payload %d:%d of %d", from, to, len(b))
		}
		if err != nil {
			return // pion also reads the inside of extensions
		}
		if h.pt != p.PayloadType || h.seq != p.SequenceNumber || h.ts != p.Timestamp || h.ssrc != p.SSRC || h.marker != p.Marker {
			t.Fatalf("%+v, pion reads %v", h, p.Header)
		}
		if !bytes.Equal(b[from:to], p.Payload) {
			t.Fatalf("payload %x, pion reads %x", b[from:to], p.Payload)
		}
		h.put(b)
		if again, _, _, ok := parse(append(b[:headerSize:headerSize], 0)); !ok || again != h {
			t.Fatalf("%+v written and read again is %+v", h, again)
		}
	})
}

// stage is a bridge with a recorder that fuzz targets throw packets at.
func stage(t *testing.T) (a, b *Stream, wrote *wiretap, peer netip.AddrPort) {
	a, b, peer = pair(t, uLawFormat(), aLawFormat())
	wrote = &wiretap{Conn: b.out.conn}
	b.out.conn = wrote
	return a, b, wrote, peer
}

// wiretap checks that what leaves a stream is one well-formed RTP stream.
type wiretap struct {
	Conn
	all []header
	bad string
}

func (w *wiretap) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	h, from, _, ok := parse(b)
	switch {
	case !ok || from != headerSize:
		w.bad = "not plain RTP"
	case h.pt != 8 && h.pt != 101:
		w.bad = "a payload type nobody agreed to"
	case len(w.all) > 0 && h.ssrc != w.all[0].ssrc:
		w.bad = "another SSRC"
	}
	for _, o := range w.all[max(0, len(w.all)-50):] {
		if o.seq == h.seq {
			w.bad = "a number twice"
		}
	}
	w.all = append(w.all, h)
	return len(b), nil
}

// FuzzReceive throws a row of datagrams at a joined stream with an ear: nothing
// may panic, and what is forwarded is one well-formed stream. A row is a
// sequence of steps: an octet of waiting (ms), an octet for the sender, two of
// length, then the datagram.
func FuzzReceive(f *testing.F) {
	step := func(wait, from byte, d []byte) []byte {
		return append([]byte{wait, from, byte(len(d) >> 8), byte(len(d))}, d...)
	}
	var row []byte
	p := &phone{pt: 0, keyPT: 96, ssrc: 1, seq: 65530, ts: 0xFFFFFF00}
	for range 8 {
		row = append(row, step(20, 0, raw(header{pt: 0, seq: p.seq, ts: p.ts, ssrc: 1}, frameOf(1)))...)
		p.seq++
		p.ts += 160
	}
	for _, k := range p.keyPackets(5) {
		row = append(row, step(20, 0, k)...)
	}
	row = append(row, step(200, 0, raw(header{pt: 13, seq: p.seq, ts: p.ts, ssrc: 1}, []byte{1}))...)
	row = append(row, step(40, 0, raw(header{pt: 13, seq: p.seq + 1, ts: p.ts, ssrc: 1}, []byte{255, 1, 2, 3}))...)
	row = append(row, step(20, 0, raw(header{pt: 8, seq: p.seq - 3, ts: p.ts, ssrc: 1}, frameOf(1)))...)
	row = append(row, step(20, 1, raw(header{pt: 0, seq: 9, ts: 9, ssrc: 2}, frameOf(1)))...)
	row = append(row, step(20, 0, raw(header{pt: 96, seq: 7, ts: 7, ssrc: 3}, []byte{1, 0, 0, 160}))...)
	row = append(row, step(20, 0, raw(header{pt: 0, seq: p.seq, ts: p.ts, ssrc: 1}, nil))...)
	f.Add(row)
	for _, seed := range seeds.Of(f, "rtp") {
		var row []byte
		for _, packet := range seeds.Packets(seed) {
			row = append(row, step(20, 0, packet)...)
		}
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		a, b, wrote, peer := stage(t)
		e := newEar()
		a.listen(e)
		frame := make([]byte, audio.FrameBytes)
		senders := []netip.AddrPort{peer, netip.AddrPortFrom(rossiIP, 9), netip.AddrPortFrom(annaIP, 4000), {}}
		buf := make([]byte, maxPacket+1)
		at := time.Duration(0)
		for len(row) >= 4 {
			wait, from, n := time.Duration(row[0])*time.Millisecond, senders[int(row[1])%len(senders)], int(binary.BigEndian.Uint16(row[2:]))
			row = row[4:]
			n = min(n, len(row), len(buf))
			copy(buf, row[:n])
			row = row[n:]
			a.engine.epoch = a.engine.epoch.Add(-wait)
			for ; wait >= audio.FrameTime; wait -= audio.FrameTime {
				e.take(frame)
				at = max(at, a.engine.now())
				a.tick(at)
				b.out.tick(at)
			}
			a.receive(buf[:n], from)
		}
		if wrote.bad != "" {
			t.Fatal("sent ", wrote.bad)
		}
		if lead := int32(e.end - e.next); lead < 0 || lead > earRing {
			t.Fatalf("the ear holds %d samples", lead)
		}
	})
}

// FuzzRTCP reads reports; whatever comes, nothing panics and the round trip stays
// within reason.
func FuzzRTCP(f *testing.F) {
	add := func(all ...rtcp.Packet) {
		b, err := rtcp.Marshal(all)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&rtcp.SenderReport{SSRC: 1, NTPTime: 1 << 40, Reports: []rtcp.ReceptionReport{{SSRC: 7, LastSenderReport: 5}}}, rtcp.NewCNAMESourceDescription(1, "x"), &rtcp.Goodbye{Sources: []uint32{1}})
	add(&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 7}, {SSRC: 8}}})
	add(&rtcp.PictureLossIndication{})
	f.Add([]byte{0x80, 201, 0, 1, 0, 0, 0, 1, 0x80, 207, 0xFF, 0xFF})
	for _, seed := range seeds.Of(f, "rtcp") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &receiver{}
		why := r.readReport(b, 7, time.Second)
		if r.trip < 0 || r.trip >= tripLongest {
			t.Fatalf("round trip %v", r.trip)
		}
		if why != used && why != dropMalformed {
			t.Fatalf("dropped as %v", reasonNames[why])
		}
	})
}

// FuzzKeys feeds rows of event packets: a repetition is never a second key.
func FuzzKeys(f *testing.F) {
	f.Add([]byte{1, 1, 10, 0, 160, 1, 1, 138, 3, 32, 2, 5, 10, 0, 160})
	f.Fuzz(func(t *testing.T, row []byte) {
		var m keyMemory
		for len(row) >= 5 {
			h := header{ssrc: uint32(row[0] >> 6), ts: uint32(row[0]&0x3F) * 1000, marker: row[0]&1 != 0}
			first := m.press(h, row[1:5])
			if first != 0 && !bytes.ContainsRune([]byte(keyNames), first) {
				t.Fatalf("key %q", first)
			}
			if again := m.press(h, row[1:5]); again != 0 {
				t.Fatalf("key %q for the repetition of %q", again, first)
			}
			row = row[5:]
		}
	})
}
