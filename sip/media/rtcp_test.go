package media

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
)

// reporter is the far end's RTCP socket.
type reporter struct {
	conn Conn
	done chan struct{}

	mu   sync.Mutex
	got  [][]rtcp.Packet
	when []time.Time
}

func newReporter(t *testing.T, w *wire, at netip.AddrPort) *reporter {
	t.Helper()
	c, err := w.listen(at)
	if err != nil {
		t.Fatal(err)
	}
	r := &reporter{conn: c, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		b := make([]byte, 2000)
		for {
			n, _, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			all, err := rtcp.Unmarshal(b[:n])
			if err != nil {
				t.Errorf("report %x: %v", b[:n], err)
			}
			r.mu.Lock()
			r.got, r.when = append(r.got, all), append(r.when, time.Now())
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() { c.Close(); <-r.done })
	return r
}

func (r *reporter) reports() ([][]rtcp.Packet, []time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got, r.when
}

func marshal(t testing.TB, all ...rtcp.Packet) []byte {
	t.Helper()
	b, err := rtcp.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *Stream) rtcpAddr() netip.AddrPort { return netip.AddrPortFrom(s.ip, uint16(s.port)+1) }

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		ear := newReporter(t, w, netip.AddrPortFrom(rossiIP, 4001))
		s.Agree(aLawFormat(), rossi.peer())

		rossi.talk(s.Addr(), 100)
		ear.conn.WriteToUDPAddrPort(marshal(t, &rtcp.SenderReport{SSRC: rossi.ssrc, NTPTime: 0x1122334455667788}), s.rtcpAddr())
		rossi.seq += 25 // lost on the way
		rossi.ts += 25 * samplesPerFrame
		rossi.talk(s.Addr(), 125)
		<-time.After(time.Second)
		synctest.Wait()

		got, when := ear.reports()
		if len(got) != 1 {
			t.Fatalf("%d reports in 5.5 s", len(got))
		}
		sr, ok := got[0][0].(*rtcp.SenderReport)
		if !ok {
			t.Fatalf("the first report is a %T", got[0][0])
		}
		sdes, ok := got[0][1].(*rtcp.SourceDescription)
		if !ok || len(sdes.Chunks) != 1 || len(sdes.Chunks[0].Items) != 1 || len(sdes.Chunks[0].Items[0].Text) != 16 {
			t.Errorf("no CNAME of its own: %v", got[0])
		}
		ps := rossi.packets()
		last := ps[249]
		if sr.SSRC != last.ssrc || sr.PacketCount != 250 || sr.OctetCount != 250*160 || sr.RTPTime != last.ts {
			t.Errorf("sender report %+v, last packet %+v", sr, last.header)
		}
		if sent := when[0]; sr.NTPTime != ntp(sent) {
			t.Errorf("NTP time %x at %v", sr.NTPTime, sent)
		}
		if len(sr.Reports) != 1 {
			t.Fatal("no reception block")
		}
		r := sr.Reports[0]
		if r.SSRC != rossi.ssrc || r.TotalLost != 25 || r.LastSequenceNumber&0xFFFF != uint32(rossi.seq-1) || r.Jitter != 0 {
			t.Errorf("reception %+v", r)
		}
		if want := uint8(25 * 256 / 250); r.FractionLost < want-1 || r.FractionLost > want+1 {
			t.Errorf("fraction lost %d, want about %d", r.FractionLost, want)
		}
		if r.LastSenderReport != 0x33445566 || r.Delay < 2*65536 || r.Delay > 3*65536 {
			t.Errorf("last report %x, %d/65536 s ago", r.LastSenderReport, r.Delay)
		}
		if st := s.Stats(); st.Lost != 25 {
			t.Errorf("lost %d", st.Lost)
		}

		// Round trip: the peer answers our report 300 ms after it got it, 80 ms away.
		<-time.After(380 * time.Millisecond)
		since := time.Since(when[0])
		ear.conn.WriteToUDPAddrPort(marshal(t, &rtcp.ReceiverReport{SSRC: rossi.ssrc, Reports: []rtcp.ReceptionReport{
			{SSRC: sr.SSRC, LastSenderReport: uint32(sr.NTPTime >> 16), Delay: uint32((since - 80*time.Millisecond) << 16 / time.Second), TotalLost: 14, Jitter: 80}}}), s.rtcpAddr())
		synctest.Wait()
		if trip := s.Stats().Trip; trip < 79*time.Millisecond || trip > 81*time.Millisecond {
			t.Errorf("round trip %v, want 80 ms", trip)
		}
		st := s.Stats()
		if q := st.Heard; q.Packets != 250 || q.Lost != 0.1 || q.Jitter != 0 || q.Trip != st.Trip {
			t.Errorf("heard %+v, want 25 of 250 lost", q)
		}
		if q := st.Told; q.Packets != st.Out || q.Lost != 14/float64(st.Out) || q.Jitter != 10*time.Millisecond || q.Trip != st.Trip {
			t.Errorf("the peer heard %+v, want 14 of %d lost and 80 samples of jitter", q, st.Out)
		}

		// On hold we only receive, and say so; at the end we say goodbye.
		hold := rossi.peer()
		hold.Send = false
		s.Agree(aLawFormat(), hold)
		<-time.After(11 * time.Second)
		s.Close()
		synctest.Wait()
		got, _ = ear.reports()
		if _, ok := got[2][0].(*rtcp.ReceiverReport); !ok {
			t.Errorf("on hold we send a %T", got[2][0])
		}
		end := got[len(got)-1]
		if bye, ok := end[len(end)-1].(*rtcp.Goodbye); !ok || bye.Sources[0] != sr.SSRC {
			t.Errorf("the last words were %v", end)
		}
	})
}

func TestReportsFromOthersAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		b := marshal(t, &rtcp.SenderReport{SSRC: 1, NTPTime: 1 << 40})
		w.deliver(netip.MustParseAddrPort("203.0.113.66:4001"), s.rtcpAddr(), b)
		w.deliver(netip.AddrPortFrom(rossiIP, 4001), s.rtcpAddr(), b[:len(b)-3])
		w.deliver(netip.AddrPortFrom(rossiIP, 4001), s.rtcpAddr(), marshal(t, &rtcp.Goodbye{Sources: []uint32{1}}))
		synctest.Wait()
		if s.in.lastSR != 0 {
			t.Error("a stranger's report was read")
		}
		if d := s.Stats().Dropped; d["stranger"] != 1 || d["malformed"] != 2 {
			t.Errorf("dropped %v", d)
		}
		// Behind a NAT reports come from another port: that is where ours go.
		ear := newReporter(t, w, netip.AddrPortFrom(rossiIP, 31001))
		ear.conn.WriteToUDPAddrPort(b, s.rtcpAddr())
		<-time.After(6 * time.Second)
		if got, _ := ear.reports(); len(got) != 1 {
			t.Errorf("%d reports to the port that reports", len(got))
		}
	})
}
