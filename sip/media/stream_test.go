package media

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// numbered is a clip of n frames that spell their numbers.
func numbered(n int, first uint32) audio.Clip {
	c := audio.Clip{Name: "numbered"}
	for i := range n {
		c.ALaw = append(c.ALaw, frameOf(first+uint32(i))...)
	}
	return c
}

// sounds drops silent frames at both ends.
func sounds(ps []packet, silence byte) []packet {
	silent := func(p packet) bool { return bytes.Count(p.payload, []byte{silence}) == len(p.payload) }
	for len(ps) > 0 && silent(ps[0]) {
		ps = ps[1:]
	}
	for len(ps) > 0 && silent(ps[len(ps)-1]) {
		ps = ps[:len(ps)-1]
	}
	return ps
}

// continuous fails unless the packets are one RTP stream: one SSRC, sequence
// numbers +1, timestamps that never go back and keep to the clock within slack.
func continuous(t *testing.T, ps []packet, slack time.Duration) {
	t.Helper()
	for i := range ps {
		if i == 0 {
			continue
		}
		a, b := ps[i-1], ps[i]
		if b.ssrc != ps[0].ssrc {
			t.Fatalf("packet %d: SSRC %x after %x", i, b.ssrc, ps[0].ssrc)
		}
		if b.seq != a.seq+1 {
			t.Fatalf("packet %d: sequence number %d after %d", i, b.seq, a.seq)
		}
		if int32(b.ts-a.ts) < 0 {
			t.Fatalf("packet %d: timestamp goes back by %d", i, int32(a.ts-b.ts))
		}
		if len(b.payload) == keySize {
			continue // a key has the time of its beginning as long as it is down
		}
		clock := duration(b.ts - ps[0].ts)
		if off := clock - (b.at - ps[0].at); off > slack || off < -slack {
			t.Fatalf("packet %d: timestamp is %v off the clock", i, off)
		}
	}
}

func TestPlayIsHeardExactly(t *testing.T) {
	for _, f := range []Format{aLawFormat(), uLawFormat()} {
		t.Run(f.Law.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				s := open(t, start(t, w))
				rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), f)
				s.Agree(f, rossi.peer())
				clip := numbered(50, 1)
				clip.ALaw = append(clip.ALaw, 1, 2, 3) // a last frame that is not full
				begun := time.Now()
				if err := s.Play(t.Context(), clip); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(begun); d < 1000*time.Millisecond || d > 1020*time.Millisecond {
					t.Errorf("51 frames took %v", d)
				}
				if err := s.Play(t.Context(), numbered(2, 100)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				got := sounds(rossi.packets(), f.Law.Silence())
				if len(got) != 53 {
					t.Fatalf("heard %d frames, want 53 without a gap", len(got))
				}
				continuous(t, got, 0)
				var heard []byte
				for _, p := range got {
					if p.pt != f.PT || len(p.payload) != audio.FrameBytes {
						t.Fatalf("payload type %d, %d octets", p.pt, len(p.payload))
					}
					heard = append(heard, p.payload...)
				}
				want := append([]byte(nil), clip.ALaw...)
				want = append(want, audio.Silence(20)[3:]...)
				want = append(want, numbered(2, 100).ALaw...)
				audio.Transcode(want, want, audio.PCMA, f.Law)
				for i := len(clip.ALaw); i < 51*audio.FrameBytes; i++ {
					want[i] = f.Law.Silence() // our filling, not a conversion of A-law's
				}
				if !bytes.Equal(heard, want) {
					t.Error("what was heard is not the clip")
				}
				if !got[0].marker || got[1].marker {
					t.Error("the marker belongs to the first packet of the sound")
				}
			})
		})
	}
}

// Music comes back to its beginning without a gap, wherever in a frame it ends,
// and a clip over it only interrupts it.
func TestMusicLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		tune := make([]byte, 1000)
		for i := range tune {
			tune[i] = byte(1 + i%199)
		}
		stop := s.Start(audio.Clip{ALaw: tune, Loop: true})
		<-time.After(time.Second)
		if err := s.Play(t.Context(), numbered(10, 1)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		stop()
		stop()
		synctest.Wait()
		var heard []byte
		for _, p := range sounds(rossi.packets(), 0xD5) {
			heard = append(heard, p.payload...)
		}
		before, after, found := bytes.Cut(heard, numbered(10, 1).ALaw)
		if !found || len(before) < 7800 || len(after) < 7800 {
			t.Fatalf("%d octets, the clip, %d octets", len(before), len(after))
		}
		for i, octet := range append(before, after...) {
			if octet != tune[i%len(tune)] {
				t.Fatalf("octet %d is %d, want %d", i, octet, tune[i%len(tune)])
			}
		}
	})
}

func TestPlayEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		hungUp := errors.New("hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(hungUp) })
		loop := numbered(3, 1)
		loop.Loop = true
		if err := s.Play(ctx, loop); err != hungUp {
			t.Fatalf("Play returned %v", err)
		}
		synctest.Wait()
		rossi.forget()
		if err := s.Play(t.Context(), numbered(1, 77)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		<-time.After(time.Second)
		synctest.Wait()
		if got := sounds(rossi.packets(), 0xD5); len(got) != 1 || !bytes.Equal(got[0].payload, frameOf(77)) {
			t.Errorf("after the clip %d packets of sound", len(got))
		}
		time.AfterFunc(time.Second, s.Close)
		if err := s.Play(t.Context(), loop); err != ErrClosed {
			t.Errorf("Play on a stream that closes: %v", err)
		}
		if err := s.Play(t.Context(), loop); err != ErrClosed {
			t.Errorf("Play on a closed stream: %v", err)
		}
	})
}
