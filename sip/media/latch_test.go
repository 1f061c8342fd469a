package media

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
)

// heardFrom lets a stream hear sound packets and tells which were taken.
func heardFrom(s *Stream, src netip.AddrPort, h header, payload []byte) bool {
	_, _, _, why := s.in.take(raw(h, payload), src, s.engine.now())
	return why == used
}

func TestOnlyThePeerIsHeard(t *testing.T) {
	named := netip.MustParseAddrPort("198.51.100.7:4000")
	private := netip.MustParseAddrPort("192.168.1.20:4000")
	nat := netip.MustParseAddr("198.51.100.99")
	other := netip.MustParseAddr("203.0.113.66")
	at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	type in struct {
		from netip.AddrPort
		ssrc uint32
		seq  uint16
		pt   uint8
		ok   bool
	}
	for _, c := range []struct {
		name string
		peer Peer
		in   []in
	}{
		{"the address and port described", Peer{RTP: named, Source: named.Addr()},
			[]in{{named, 1, 1, 8, true}, {named, 1, 2, 8, true}}},
		{"a stranger never, however long he tries", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(other, 4000), 1, 1, 8, false}, {at(other, 4000), 1, 2, 8, false}, {at(other, 4000), 1, 3, 8, false}}},
		{"another port after two in a row", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(named.Addr(), 9000), 1, 1, 8, false}, {at(named.Addr(), 9000), 1, 2, 8, true}, {at(named.Addr(), 9000), 1, 3, 8, true}}},
		{"not when a number lies between", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(named.Addr(), 9000), 1, 1, 8, false}, {at(named.Addr(), 9000), 1, 3, 8, false}}},
		{"not with two sources", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(named.Addr(), 9000), 1, 1, 8, false}, {at(named.Addr(), 9000), 2, 2, 8, false}}},
		{"not with a payload type nobody agreed to", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(named.Addr(), 9000), 1, 1, 97, false}, {at(named.Addr(), 9000), 1, 2, 97, false}, {at(named.Addr(), 9000), 1, 3, 8, false}}},
		{"no third port once two in a row came from the described one", Peer{RTP: named, Source: named.Addr()},
			[]in{{named, 1, 1, 8, true}, {named, 1, 2, 8, true}, {at(named.Addr(), 9000), 1, 3, 8, false}, {at(named.Addr(), 9000), 1, 4, 8, false}, {named, 1, 5, 8, true}}},
		{"the described port even then", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(named.Addr(), 9000), 1, 1, 8, false}, {at(named.Addr(), 9000), 1, 2, 8, true}, {named, 1, 3, 8, true}}},
		{"and it takes over", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(named.Addr(), 9000), 1, 1, 8, false}, {at(named.Addr(), 9000), 1, 2, 8, true}, {named, 1, 3, 8, true}, {named, 1, 4, 8, true}, {at(named.Addr(), 9000), 1, 5, 8, false}, {named, 1, 6, 8, true}}},
		{"keys from another port do not close the latch on it", Peer{RTP: named, Source: named.Addr()},
			[]in{{at(named.Addr(), 9000), 5, 1, 101, false}, {at(named.Addr(), 9000), 5, 2, 101, true}, {at(named.Addr(), 9002), 1, 1, 8, false}, {at(named.Addr(), 9002), 1, 2, 8, true}, {at(named.Addr(), 9000), 5, 3, 101, false}}},
		{"behind a NAT the signalling's address", Peer{RTP: private, Source: nat},
			[]in{{at(nat, 31000), 1, 1, 8, false}, {at(nat, 31000), 1, 2, 8, true}, {at(other, 31000), 1, 3, 8, false}}},
		{"a public description is not overruled by the signalling", Peer{RTP: named, Source: nat},
			[]in{{at(nat, 4000), 1, 1, 8, false}, {at(nat, 4000), 1, 2, 8, false}}},
		{"a new source after two in a row", Peer{RTP: named, Source: named.Addr()},
			[]in{{named, 1, 1, 8, true}, {named, 1, 2, 8, true}, {named, 9, 70, 8, false}, {named, 9, 71, 8, true}, {named, 9, 72, 8, true}}},
		{"not a second source beside the first", Peer{RTP: named, Source: named.Addr()},
			[]in{{named, 1, 1, 8, true}, {named, 9, 70, 8, false}, {named, 1, 2, 8, true}, {named, 9, 71, 8, false}, {named, 1, 3, 8, true}, {named, 9, 72, 8, false}}},
		{"an IPv4 address in IPv6 clothes", Peer{RTP: netip.MustParseAddrPort("[::ffff:198.51.100.7]:4000"), Source: named.Addr()},
			[]in{{named, 1, 1, 8, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire()
			s := open(t, start(t, w))
			c.peer.Send, c.peer.Receive = true, true
			s.Agree(aLawFormat(), c.peer)
			for i, p := range c.in {
				payload := frameOf(1)
				if p.pt == 101 {
					payload = []byte{1, 10, 0, 160}
				}
				if ok := heardFrom(s, p.from, header{pt: p.pt, ssrc: p.ssrc, seq: p.seq, ts: 160 * uint32(p.seq)}, payload); ok != p.ok {
					t.Errorf("packet %d, %+v: taken %v", i, p, ok)
				}
			}
		})
	}
}

// TestSoundMoves: a peer that has named another address hears us there, although what it
// sent before comes late, and although it says nothing itself. Later the old address is one
// like any other that the peer may have.
func TestSoundMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, start(t, newWire()))
		before, now := netip.AddrPortFrom(rossiIP, 4000), netip.AddrPortFrom(rossiIP, 5000)
		var seq uint16
		says := func(from netip.AddrPort, n int) {
			for range n {
				seq++
				s.receive(raw(header{pt: 8, ssrc: 1, seq: seq, ts: 160 * uint32(seq)}, frameOf(1)), from)
			}
		}
		heardAt := func(want netip.AddrPort) {
			t.Helper()
			s.out.mu.Lock()
			defer s.out.mu.Unlock()
			if s.out.to != want {
				t.Errorf("sound goes to %s, not %s", s.out.to, want)
			}
		}
		for _, first := range []netip.AddrPort{before, netip.AddrPortFrom(rossiIP, 4002)} { // where it was named, and where it showed itself
			s.Agree(aLawFormat(), Peer{RTP: before, Source: rossiIP, Send: true, Receive: true})
			<-time.After(2 * leftLongest)
			says(first, 2)
			heardAt(first)
			s.Agree(aLawFormat(), Peer{RTP: now, Source: rossiIP, Send: true, Receive: true})
			says(first, 5)
			heardAt(now)
			<-time.After(leftLongest)
			says(first, 2)
			heardAt(first)
			says(now, 2)
			heardAt(now)
			says(first, 2)
			heardAt(now)
		}
	})
}

func TestWhatIsNotTaken(t *testing.T) {
	named := netip.AddrPortFrom(rossiIP, 4000)
	peer := Peer{RTP: named, Source: rossiIP, Send: true, Receive: true}
	for _, c := range []struct {
		name, reason string
		peer         Peer
		packets      [][]byte
		want         uint64
	}{
		{"while we do not receive", "hold", Peer{RTP: named, Source: rossiIP, Send: true}, [][]byte{raw(header{pt: 8}, frameOf(1))}, 1},
		{"too long", "malformed", peer, [][]byte{raw(header{pt: 8}, make([]byte, maxPacket))}, 1},
		{"no RTP", "malformed", peer, [][]byte{{}, {0x80}, []byte("GET / HTTP/1.1\r\n\r\n"), {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0}}, 4},
		{"a key that is too short", "malformed", peer, [][]byte{raw(header{pt: 101}, []byte{1, 2, 3})}, 1},
		{"a payload type nobody agreed to", "payload", peer, [][]byte{raw(header{pt: 97}, frameOf(1))}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, _ := pair(t, aLawFormat(), aLawFormat())
			a.Agree(aLawFormat(), c.peer)
			for _, p := range c.packets {
				a.receive(p, named)
			}
			if st := a.Stats(); st.Dropped[c.reason] != c.want || st.In != 0 || b.rtp.(*quietConn).written != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
	t.Run("before the first Agree", func(t *testing.T) {
		s, err := New(Config{Listen: newQuietConn}).Open(serverIP)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.receive(raw(header{pt: 8}, frameOf(1)), named)
		if d := s.Stats().Dropped; d["early"] != 1 {
			t.Errorf("dropped %v", d)
		}
	})
	t.Run("more than a telephone sends", func(t *testing.T) {
		a, _, _ := pair(t, aLawFormat(), aLawFormat())
		a.engine.epoch = time.Now().Add(-time.Hour - time.Millisecond) // the second has just begun
		for i := range 2 * packetsPerSecond {
			a.in.second = a.engine.now().Truncate(time.Second) // however long this takes
			a.receive(raw(header{pt: 8, seq: uint16(i), ts: 160 * uint32(i), ssrc: 1}, frameOf(1)), named)
		}
		if st := a.Stats(); st.In != packetsPerSecond || st.Dropped["flood"] != packetsPerSecond {
			t.Errorf("%+v", st)
		}
		a.engine.epoch = a.engine.epoch.Add(-time.Second)
		a.receive(raw(header{pt: 8, seq: 1001, ts: 160 * 1001, ssrc: 1}, frameOf(1)), named)
		if st := a.Stats(); st.In != packetsPerSecond+1 {
			t.Errorf("a second later %+v", st)
		}
	})
}

// An attacker who sprays our ports must neither be heard nor get the caller's
// sound, and must not keep the peer from being heard.
func TestRTPBleed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		thief := newPhone(t, w.listen, netip.MustParseAddrPort("203.0.113.66:4000"), aLawFormat())
		sibling := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 7000), aLawFormat()) // same address, another port
		s.Agree(aLawFormat(), rossi.peer())
		go thief.talk(s.Addr(), 100)
		said := rossi.talk(s.Addr(), 20)
		go sibling.talk(s.Addr(), 80)
		said = append(said, rossi.talk(s.Addr(), 80)...)
		synctest.Wait()
		if n := len(thief.packets()) + len(sibling.packets()); n != 0 {
			t.Errorf("%d packets went to others than the peer", n)
		}
		st := s.Stats()
		if st.In != uint64(len(said)) || st.Dropped["stranger"] < 90 || st.Dropped["port"] < 75 {
			t.Errorf("taken %d of %d, dropped %v", st.In, len(said), st.Dropped)
		}
		if st.Remote != rossi.addr || !st.Latched {
			t.Errorf("sending to %v", st.Remote)
		}
	})
}

func TestReturnPathFollowsTheLatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		nat := newPhone(t, w.listen, netip.MustParseAddrPort("198.51.100.99:31000"), aLawFormat())
		peer := Peer{RTP: netip.MustParseAddrPort("192.168.1.20:4000"), Source: nat.addr.Addr(), Send: true, Receive: true}
		s.Agree(aLawFormat(), peer)
		nat.talk(s.Addr(), 10)
		synctest.Wait()
		if n := len(nat.packets()); n < 7 {
			t.Fatalf("%d packets back through the NAT", n)
		}
		// A re-INVITE with the same description makes no hole …
		nat.forget()
		s.Agree(aLawFormat(), peer)
		before := s.Stats().In
		nat.talk(s.Addr(), 10)
		synctest.Wait()
		if n, in := len(nat.packets()), s.Stats().In-before; n < 9 || in != 10 {
			t.Errorf("after the re-INVITE %d packets back, %d heard of 10", n, in)
		}
		// … and one that names another address opens the latch for it.
		moved := newPhone(t, w.listen, netip.MustParseAddrPort("203.0.113.20:5000"), aLawFormat())
		s.Agree(aLawFormat(), moved.peer())
		nat.forget()
		before = s.Stats().In
		go nat.talk(s.Addr(), 10)
		moved.talk(s.Addr(), 10)
		synctest.Wait()
		if n, in := len(nat.packets()), s.Stats().In-before; n != 0 || in != 10 {
			t.Errorf("after the move %d packets to the old address, %d heard of 10", n, in)
		}
		if n := len(moved.packets()); n < 9 {
			t.Errorf("%d packets to the new address", n)
		}
	})
}

func TestHoldSendsNothing(t *testing.T) {
	for name, hold := range map[string]func(p Peer) Peer{
		"sendonly": func(p Peer) Peer { p.Send = false; return p },
		"inactive": func(p Peer) Peer { p.Send, p.Receive = false, false; return p },
		"0.0.0.0":  func(p Peer) Peer { p.RTP = netip.MustParseAddrPort("0.0.0.0:4000"); return p },
		"port 0":   func(p Peer) Peer { p.RTP = netip.AddrPortFrom(p.RTP.Addr(), 0); return p },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				s := open(t, start(t, w))
				lost := lostOf(s)
				rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
				s.Agree(aLawFormat(), rossi.peer())
				rossi.talk(s.Addr(), 50)
				synctest.Wait()
				s.Agree(aLawFormat(), hold(rossi.peer()))
				synctest.Wait()
				before := rossi.packets()
				if err := s.Play(t.Context(), numbered(100, 1)); err != nil { // passes unheard, in its time
					t.Fatal(err)
				}
				<-time.After(2 * lostAfter)
				if n := len(rossi.packets()); n != len(before) {
					t.Errorf("%d packets sent to a peer that holds", n-len(before))
				}
				select {
				case <-lost:
					t.Error("the watchdog ended a call on hold")
				default:
				}
				s.Agree(aLawFormat(), rossi.peer())
				rossi.talk(s.Addr(), 50)
				synctest.Wait()
				all := rossi.packets()
				continuous(t, all, audioSlack)
				if len(all) < len(before)+48 || !all[len(before)].marker {
					t.Error("the sound does not go on after the hold with a marker")
				}
				if st := s.Stats(); st.Lost != 0 || st.In != 100 {
					t.Errorf("after the hold: %+v", st)
				}
			})
		})
	}
}

func TestSoundAfterAHoldBeginsWithAMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		<-time.After(time.Second)
		hold := rossi.peer()
		hold.Send = false
		s.Agree(aLawFormat(), hold)
		<-time.After(time.Second)
		synctest.Wait()
		rossi.forget()
		s.Agree(aLawFormat(), rossi.peer())
		<-time.After(time.Second)
		synctest.Wait()
		for i, p := range rossi.packets() {
			if p.marker != (i == 0) {
				t.Fatalf("packet %d: marker %v", i, p.marker)
			}
		}
	})
}

// audioSlack is how far a timestamp may be off the clock after a change of what
// sounds: one frame.
const audioSlack = 20 * time.Millisecond

func TestLostAfterThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		lost := lostOf(s)
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		rossi.talk(s.Addr(), 100)
		silent := time.Now()
		// An RTCP report after 20 s counts as life; a stranger's packet does not.
		<-time.After(20 * time.Second)
		w.deliver(netip.AddrPortFrom(rossiIP, 4001), s.rtcpAddr(), marshal(t, &rtcp.ReceiverReport{SSRC: rossi.ssrc}))
		<-time.After(15 * time.Second)
		select {
		case <-lost:
			t.Fatal("lost although a report came")
		default:
		}
		w.deliver(netip.MustParseAddrPort("203.0.113.66:1"), s.Addr(), raw(header{pt: 8}, frameOf(1)))
		<-lost
		if d := time.Since(silent); d < 50*time.Second || d > 50*time.Second+2*audioSlack {
			t.Errorf("lost after %v", d)
		}
	})
}

// lostOf is closed when the stream is lost.
func lostOf(s *Stream) <-chan struct{} {
	lost := make(chan struct{})
	s.WhenLost(func(error) { close(lost) })
	return lost
}
