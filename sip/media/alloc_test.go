package media

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// quietConn is a socket that takes everything and brings nothing.
type quietConn struct {
	written int
	closed  chan struct{}
}

func newQuietConn(netip.AddrPort) (Conn, error) { return &quietConn{closed: make(chan struct{})}, nil }

func (c *quietConn) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	<-c.closed
	return 0, netip.AddrPort{}, net.ErrClosed
}

func (c *quietConn) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	c.written++
	return len(b), nil
}
func (c *quietConn) SetReadDeadline(time.Time) error { return nil }
func (c *quietConn) LocalAddr() net.Addr             { return &net.UDPAddr{} }
func (c *quietConn) Close() error                    { close(c.closed); return nil }

// pair is two joined streams without a network, and what feeds the first.
func pair(tb testing.TB, fa, fb Format, crypto ...*Crypto) (a, b *Stream, peer netip.AddrPort) {
	tb.Helper()
	e := New(Config{Listen: newQuietConn})
	peer = netip.AddrPortFrom(rossiIP, 4000)
	streams := [2]*Stream{}
	for i, f := range []Format{fa, fb} {
		s, err := e.Open(serverIP)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(s.Close)
		p := Peer{RTP: peer, Source: rossiIP, Send: true, Receive: true}
		if len(crypto) > 0 {
			p.Crypto = crypto[0]
		}
		s.Agree(f, p)
		streams[i] = s
	}
	a, b = streams[0], streams[1]
	a.out.join(b)
	b.out.join(a)
	a.joined.Store(b)
	b.joined.Store(a)
	return a, b, peer
}

func TestNoAllocationPerPacket(t *testing.T) {
	payload := frameOf(1)
	for _, c := range []struct {
		name   string
		fa, fb Format
		ear    bool
	}{
		{"forward", aLawFormat(), aLawFormat(), false},
		{"forward between laws", uLawFormat(), aLawFormat(), false},
		{"forward and hear", uLawFormat(), aLawFormat(), true},
		{"forward from G.722", wideFormat(), aLawFormat(), true},
		{"forward to G.722", uLawFormat(), wideFormat(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, peer := pair(t, c.fa, c.fb)
			if c.ear {
				e := newEar()
				a.listen(e)
				defer a.unlisten(e)
			}
			p := &phone{pt: c.fa.PT, keyPT: c.fa.KeyPT, ssrc: 1}
			buf := make([]byte, maxPacket)
			n := testing.AllocsPerRun(400, func() {
				header{pt: p.pt, seq: p.seq, ts: p.ts, ssrc: p.ssrc}.put(buf)
				copy(buf[headerSize:], payload)
				a.receive(buf[:headerSize+len(payload)], peer)
				p.seq++
				p.ts += samplesPerFrame
				a.engine.epoch = a.engine.epoch.Add(-audio.FrameTime) // 20 ms have passed
			})
			if n != 0 {
				t.Errorf("%v allocations per packet", n)
			}
			if w := b.rtp.(*quietConn).written; w < 400 {
				t.Errorf("only %d packets were forwarded", w)
			}
		})
	}

	t.Run("forward between encrypted legs", func(t *testing.T) {
		c := testCrypto(SHA1x80)
		a, b, peer := pair(t, aLawFormat(), aLawFormat(), c)
		far, p := newFar(t, c), &phone{pt: 8, ssrc: 1}
		var sealed [][]byte
		for range 410 {
			sealed = append(sealed, far.seal(t, raw(header{pt: p.pt, seq: p.seq, ts: p.ts, ssrc: p.ssrc}, payload)))
			p.seq++
			p.ts += samplesPerFrame
		}
		i := 0
		n := testing.AllocsPerRun(400, func() {
			a.receive(sealed[i], peer)
			i++
			a.engine.epoch = a.engine.epoch.Add(-audio.FrameTime)
		})
		if n > forgetful {
			t.Errorf("%v allocations per packet", n)
		}
		if w := b.rtp.(*quietConn).written; w < 400 {
			t.Errorf("only %d packets were forwarded", w)
		}
	})

	t.Run("keys", func(t *testing.T) {
		a, _, peer := pair(t, aLawFormat(), uLawFormat())
		p := &phone{keyPT: 101, ssrc: 1}
		keys := p.keyPackets(1)
		i := 0
		if n := testing.AllocsPerRun(6, func() { a.receive(keys[i], peer); i++ }); n != 0 {
			t.Errorf("%v allocations per packet", n)
		}
	})

	for name, clip := range map[string]audio.Clip{"music": {ALaw: make([]byte, 1000), Loop: true}, "silence": {}} {
		t.Run(name, func(t *testing.T) {
			for _, f := range []Format{aLawFormat(), uLawFormat(), wideFormat()} {
				a, _, _ := pair(t, f, f)
				defer a.Start(clip)()
				at := time.Duration(0)
				if n := testing.AllocsPerRun(200, func() { a.tick(at); at += audio.FrameTime }); n != 0 {
					t.Errorf("%v: %v allocations per frame", f.Law, n)
				}
				if w := a.rtp.(*quietConn).written; w < 200 {
					t.Errorf("%d frames sent", w)
				}
			}
		})
	}

	t.Run("hear", func(t *testing.T) {
		e := newEar()
		frame := make([]byte, audio.FrameBytes)
		ts := uint32(0)
		if n := testing.AllocsPerRun(200, func() { e.put(1, ts, payload, audio.PCMU); e.take(frame); ts += samplesPerFrame }); n != 0 {
			t.Errorf("%v allocations per frame", n)
		}
	})
}
