package media

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"

	"github.com/pronto-desk/pronto/sip/audio"
)

func testCrypto(suite Suite) *Crypto {
	c := &Crypto{Suite: suite}
	for i := range c.Ours {
		c.Ours[i], c.Theirs[i] = byte(i), byte(100+i)
	}
	return c
}

// far is the telephone's side of an encrypted leg: pion's contexts, as any peer's
// would be.
type far struct{ out, in *srtp.Context }

func newFar(t testing.TB, c *Crypto) far {
	t.Helper()
	profile := srtp.ProtectionProfileAes128CmHmacSha1_80
	if c.Suite == SHA1x32 {
		profile = srtp.ProtectionProfileAes128CmHmacSha1_32
	}
	named := func(id string) (o []srtp.ContextOption) {
		if id != "" {
			o = append(o, srtp.MasterKeyIndicator([]byte(id)))
		}
		return o
	}
	out, err := srtp.CreateContext(c.Theirs[:16], c.Theirs[16:], profile, named(c.TheirsID)...)
	if err != nil {
		t.Fatal(err)
	}
	in, err := srtp.CreateContext(c.Ours[:16], c.Ours[16:], profile, named(c.OurID)...)
	if err != nil {
		t.Fatal(err)
	}
	return far{out, in}
}

func (f far) seal(t testing.TB, b []byte) []byte {
	t.Helper()
	sealed, err := f.out.EncryptRTP(nil, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestAnEncryptedLegAndAClearOne: a talk between them, both ways, with both suites.
func TestAnEncryptedLegAndAClearOne(t *testing.T) {
	for _, suite := range []Suite{SHA1x80, SHA1x32} {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(t, aLawFormat(), aLawFormat())
			c := testCrypto(suite)
			p := r.rossi.peer()
			p.Crypto = c
			r.a.Agree(aLawFormat(), p)
			phone := newFar(t, c)
			r.rossi.forget()
			end := r.bridge(t)
			defer end()
			var said [][]byte
			for i := range uint32(20) {
				payload := frameOf(i + 1)
				said = append(said, payload)
				r.rossi.send(r.a.Addr(), phone.seal(t, raw(header{pt: 8, seq: r.rossi.seq, ts: r.rossi.ts, ssrc: 7}, payload)))
				r.rossi.seq++
				r.rossi.ts += samplesPerFrame
				<-time.After(audio.FrameTime)
			}
			spoken := r.anna.talk(r.b.Addr(), 20)
			synctest.Wait()
			if got := bodies(r.anna.packets(), aLawFormat()); !slices.EqualFunc(got, said, bytes.Equal) {
				t.Errorf("the clear side heard %d frames of %d", len(got), len(said))
			}
			heard := 0
			for _, p := range r.rossi.packets() {
				b := raw(p.header, p.payload)
				if slices.ContainsFunc(spoken, func(s []byte) bool { return bytes.Contains(b, s) }) {
					t.Fatal("sound in clear on the encrypted leg")
				}
				plain, err := phone.in.DecryptRTP(nil, b, nil)
				if err != nil {
					t.Fatalf("a packet that the telephone cannot read: %v", err)
				}
				if slices.ContainsFunc(spoken, func(s []byte) bool { return bytes.Equal(plain[headerSize:], s) }) {
					heard++
				}
			}
			if heard != len(spoken) {
				t.Errorf("the encrypted side heard %d frames of %d", heard, len(spoken))
			}
		})
	}
}

// TestRekey: each side gets a new key in the middle of a talk, after its numbers have
// begun again (RFC 3711 §3.3.1). Nobody loses a frame, whatever was on its way or
// overtaken, and whether or not the telephone then counts its rounds anew.
func TestRekey(t *testing.T) {
	for name, anew := range map[string]bool{"who counts on": false, "who begins anew": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(t, aLawFormat(), aLawFormat())
				first, second := testCrypto(SHA1x80), testCrypto(SHA1x80)
				second.Ours[0]++
				second.Theirs[0]++
				second.OurID, second.TheirsID = "\x00\x01", "\x07"
				r.rossi.seq = 1<<16 - 10
				r.a.out.mu.Lock()
				r.a.out.seq = 1<<16 - 10
				r.a.out.mu.Unlock()
				p := r.rossi.peer()
				p.Crypto = first
				r.a.Agree(aLawFormat(), p)
				synctest.Wait()
				r.rossi.forget()
				end := r.bridge(t)
				old := newFar(t, first)
				var said, spoken [][]byte
				next := func(f far) []byte {
					said = append(said, frameOf(uint32(len(said)+1)))
					b := f.seal(t, raw(header{pt: 8, seq: r.rossi.seq, ts: r.rossi.ts, ssrc: 7}, said[len(said)-1]))
					r.rossi.seq++
					r.rossi.ts += samplesPerFrame
					return b
				}
				both := func(sealed []byte) {
					r.rossi.send(r.a.Addr(), sealed)
					spoken = append(spoken, frameOf(uint32(1000+len(spoken))))
					r.anna.say(r.b.Addr(), spoken[len(spoken)-1])
					<-time.After(audio.FrameTime)
				}
				for range 20 {
					both(next(old))
				}
				p.Crypto = second
				r.a.Agree(aLawFormat(), p)
				for range 4 { // our answer is on its way
					both(next(old))
				}
				again := newFar(t, second)
				if !anew {
					again.out.SetROC(7, 1)
				}
				again.in.SetROC(r.a.Stats().SSRC, 1)
				before := len(spoken)
				late := next(old)
				both(next(again))
				both(late)
				for range 20 {
					both(next(again))
				}
				synctest.Wait()
				end()
				heard := bodies(r.anna.packets(), aLawFormat())
				for i, f := range said {
					if n := len(slices.DeleteFunc(slices.Clone(heard), func(h []byte) bool { return !bytes.Equal(h, f) })); n != 1 {
						t.Errorf("frame %d was heard %d times", i, n)
					}
				}
				var told [][]byte
				changed := -1
				for _, p := range r.rossi.packets() {
					b := raw(p.header, p.payload)
					plain, err := old.in.DecryptRTP(nil, b, nil)
					if err != nil {
						if plain, err = again.in.DecryptRTP(nil, b, nil); changed < 0 {
							changed = len(told)
						}
					}
					if err != nil {
						t.Fatalf("a packet that the telephone cannot read, after %d: %v", len(told), err)
					}
					if plain = plain[headerSize:]; slices.ContainsFunc(spoken, func(s []byte) bool { return bytes.Equal(s, plain) }) {
						told = append(told, plain)
					}
				}
				if !slices.EqualFunc(told, spoken, bytes.Equal) {
					t.Errorf("the telephone heard %d frames of %d", len(told), len(spoken))
				}
				if changed < before || changed > before+1 {
					t.Errorf("our new key is used from frame %d on, theirs from %d", changed, before)
				}
				if st := r.a.Stats(); st.Dropped["forged"] > 0 {
					t.Errorf("%+v", st.Dropped)
				}
			})
		})
	}
}

// TestRekeyElsewhere: who says nothing is spoken to with the new key after a while; who
// is somebody else is at once, and with numbers that they can begin to count.
func TestRekeyElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		keys := [3]*Crypto{testCrypto(SHA1x80), testCrypto(SHA1x80), testCrypto(SHA1x32)}
		keys[1].Ours[0]++
		keys[2].Ours[1]++
		r.a.out.mu.Lock()
		r.a.out.seq = 1<<16 - 10
		r.a.out.mu.Unlock()
		readable := func(p *phone, c *Crypto, rounds uint32) (n, of int) {
			f := newFar(t, c)
			f.in.SetROC(r.a.Stats().SSRC, rounds)
			for _, p := range p.packets() {
				of++
				if _, err := f.in.DecryptRTP(nil, raw(p.header, p.payload), nil); err == nil {
					n++
				}
			}
			return n, of
		}
		p := r.rossi.peer()
		for i, c := range keys[:2] {
			p.Crypto = c
			r.a.Agree(aLawFormat(), p)
			<-time.After(rekeyUnheard + audio.FrameTime)
			synctest.Wait()
			r.rossi.forget()
			<-time.After(time.Second)
			synctest.Wait()
			if n, of := readable(r.rossi, c, 1); n != of || n < 40 {
				t.Errorf("with key %d %d packets of %d can be read", i, n, of)
			}
		}
		before := r.a.Stats().SSRC
		other := newPhone(t, r.w.listen, netip.AddrPortFrom(rossiIP, 4400), aLawFormat())
		p = other.peer()
		p.Crypto = keys[2]
		r.a.Agree(aLawFormat(), p)
		<-time.After(time.Second)
		synctest.Wait()
		if n, of := readable(other, keys[2], 0); n != of || n < 40 {
			t.Errorf("another telephone can read %d packets of %d", n, of)
		}
		if r.a.Stats().SSRC == before {
			t.Error("it cannot know that the numbers of this source have begun again")
		}
	})
}

// TestForgedPackets: neither heard nor latched on, and counted.
func TestForgedPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, start(t, newWire()))
		c := testCrypto(SHA1x80)
		named := netip.AddrPortFrom(rossiIP, 4000)
		forger := netip.AddrPortFrom(rossiIP, 9000) // the right address: from behind the same NAT, say
		s.Agree(aLawFormat(), Peer{RTP: named, Source: rossiIP, Send: true, Receive: true, Crypto: c})
		phone := newFar(t, c)
		wrong := testCrypto(SHA1x80)
		wrong.Theirs[0]++
		other := newFar(t, wrong)
		var forged uint64
		refused := func(what string, b []byte) {
			t.Helper()
			s.receive(slices.Clone(b), forger)
			if forged++; s.Stats().Dropped["forged"] != forged || s.Stats().In != 0 {
				t.Errorf("%s: %+v", what, s.Stats())
			}
		}
		good := phone.seal(t, raw(header{pt: 8, seq: 500, ts: 160, ssrc: 7}, frameOf(1)))
		for seq := range uint16(4) {
			clear := raw(header{pt: 8, seq: 100 + seq, ts: 160 * uint32(seq), ssrc: 7}, frameOf(1))
			refused("in clear", clear)
			refused("with a wrong key", other.seal(t, clear))
		}
		for i := range good {
			changed := slices.Clone(good)
			changed[i] ^= 1
			refused(fmt.Sprintf("octet %d changed", i), changed)
			refused(fmt.Sprintf("cut to %d", i), good[:i])
		}
		if st := s.Stats(); st.Latched || st.Remote != named {
			t.Errorf("latched on a forger: %+v", st)
		}
		s.receive(slices.Clone(good), named)
		if st := s.Stats(); st.In != 1 {
			t.Errorf("the true one was not heard: %+v", st)
		}
		s.receive(slices.Clone(good), named)
		if st := s.Stats(); st.In != 1 || st.Dropped["forged"] != forged+1 {
			t.Errorf("sent again by somebody: %+v", st)
		}

		// RTCP as well: a forged report does not move ours.
		report := marshal(t, &rtcp.ReceiverReport{SSRC: 7})
		s.receiveReport(slices.Clone(report), forger)
		if s.Stats().Dropped["forged"] != forged+2 || s.reports.learned {
			t.Errorf("a report in clear was believed: %+v", s.Stats())
		}
		sealed, err := phone.out.EncryptRTCP(nil, report, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.receiveReport(sealed, netip.AddrPortFrom(rossiIP, 4001))
		if !s.reports.learned {
			t.Errorf("the peer's report was not believed: %+v", s.Stats())
		}
	})
}

// tap keeps every datagram that comes to an address.
type tap struct {
	mu   sync.Mutex // guards list
	list [][]byte
}

func newTap(t testing.TB, w *wire, at netip.AddrPort) *tap {
	t.Helper()
	c, err := w.listen(at)
	if err != nil {
		t.Fatal(err)
	}
	p, done := &tap{}, make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, maxPacket)
		for {
			n, _, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.list = append(p.list, slices.Clone(b[:n]))
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return p
}

func (p *tap) all() iter.Seq[[]byte] {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Values(slices.Clone(p.list))
}

// TestReportsAreEncrypted, and a new offer with the same key goes on counting.
func TestReportsAreEncrypted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		c := testCrypto(SHA1x32)
		phone := newFar(t, c)
		rtp := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		reports := newTap(t, w, netip.AddrPortFrom(rossiIP, 4001))
		p := rtp.peer()
		p.Crypto = c
		s.Agree(aLawFormat(), p)
		<-time.After(6 * time.Second)
		again := *c
		p.Crypto = &again
		s.Agree(aLawFormat(), p)
		<-time.After(5 * time.Second)
		synctest.Wait()
		n := 0
		for b := range reports.all() {
			plain, err := phone.in.DecryptRTCP(nil, b, nil)
			if err != nil {
				t.Fatal(err)
			}
			if all, err := rtcp.Unmarshal(plain); err != nil || len(all) < 2 {
				t.Errorf("%v, %v", all, err)
			}
			n++
			if index := binary.BigEndian.Uint32(b[len(b)-14:]) &^ (1 << 31); index != uint32(n) { // before the 80 bits of authentication
				t.Errorf("report %d has index %d", n, index)
			}
		}
		if n < 2 {
			t.Errorf("%d reports", n)
		}
	})
}

// TestKeysAreNotPrinted in any of the ways in which a log line is made.
func TestKeysAreNotPrinted(t *testing.T) {
	c := testCrypto(SHA1x80)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v", *c, *c, *c), fmt.Sprint(c.Ours), fmt.Sprintf("%x %s %d", c.Ours, c.Ours, c.Ours), string(text)} {
		if strings.Contains(s, "29") || strings.Contains(s, "1d") || strings.Contains(s, "129") {
			t.Errorf("printed: %s", s)
		}
	}
}
