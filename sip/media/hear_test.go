package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// numbers are the numbers that heard frames spell; -1 is silence, -2 a mixture.
func numbers(frames [][]byte) []int {
	var all []int
	for _, f := range frames {
		switch {
		case bytes.Equal(f, frameOf(binary.BigEndian.Uint32(f))):
			all = append(all, int(binary.BigEndian.Uint32(f)))
		case bytes.Count(f, []byte{0xD5}) == len(f):
			all = append(all, -1)
		default:
			all = append(all, -2)
		}
	}
	return all
}

// trimmed is without the silence at the beginning and the end.
func trimmed(n []int) []int {
	for len(n) > 0 && n[0] == -1 {
		n = n[1:]
	}
	for len(n) > 0 && n[len(n)-1] == -1 {
		n = n[:len(n)-1]
	}
	return n
}

func TestEar(t *testing.T) {
	// Each step is one turn of 20 ms: the packets that come before it.
	say := func(n uint32) [2]uint32 { return [2]uint32{n, n * samplesPerFrame} }
	shifted := func(n, ts uint32) [2]uint32 { return [2]uint32{n, n*samplesPerFrame + ts} }
	for _, c := range []struct {
		name  string
		turns [][][2]uint32
		want  []int
	}{
		{"in order", [][][2]uint32{{say(1)}, {say(2)}, {say(3)}, {say(4)}}, []int{1, 2, 3, 4}},
		{"one lost", [][][2]uint32{{say(1)}, {}, {say(3)}, {say(4)}}, []int{1, -1, 3, 4}},
		{"two changed", [][][2]uint32{{say(1)}, {say(3)}, {say(2)}, {say(4)}}, []int{1, 2, 3, 4}},
		{"one twice", [][][2]uint32{{say(1)}, {say(2), say(2)}, {say(3)}, {say(4)}}, []int{1, 2, 3, 4}},
		{"a stall of 40 ms", [][][2]uint32{{say(1)}, {say(2)}, {}, {}, {say(3), say(4), say(5)}, {say(6)}}, []int{1, 2, 3, 4, 5, 6}},
		{"the clock wraps", [][][2]uint32{{{1, 0xFFFFFFFF - 159}}, {{2, 0}}, {{3, 160}}}, []int{1, 2, 3}},
		{"a pause of the source", [][][2]uint32{{say(1)}, {say(2)}, {}, {}, {}, {}, {say(7)}, {say(8)}}, []int{1, 2, -1, -1, -1, -1, 7, 8}},
		{"a jump of the clock", [][][2]uint32{{say(1)}, {say(2)}, {say(3)}, {}, {}, {}, {shifted(4, 1<<30)}, {shifted(5, 1<<30)}}, []int{1, 2, 3, -1, -1, -1, 4, 5}},
		{"a jump back", [][][2]uint32{{shifted(1, 1<<30)}, {shifted(2, 1<<30)}, {}, {}, {}, {say(3)}, {say(4)}}, []int{1, 2, -1, -1, -1, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEar()
			var heard [][]byte
			turn := func() {
				f := make([]byte, audio.FrameBytes)
				e.take(f)
				heard = append(heard, f)
			}
			for _, packets := range c.turns {
				for _, p := range packets {
					e.put(1, p[1], frameOf(p[0]), audio.PCMA)
				}
				turn()
			}
			for range 10 {
				turn()
			}
			if got := trimmed(numbers(heard)); !slices.Equal(got, c.want) {
				t.Errorf("heard %v, want %v", got, c.want)
			}
		})
	}
}

func TestEarTakesAnyPacketLength(t *testing.T) {
	for _, size := range []int{1, 40, 80, 240, 480, 1400} {
		e := newEar()
		want := make([]byte, 20000)
		for i := range want {
			want[i] = byte(1 + i%200)
		}
		var heard []byte
		frame := make([]byte, audio.FrameBytes)
		for sent := 0; sent < len(want); {
			for sent < len(want) && sent <= len(heard) {
				n := min(size, len(want)-sent)
				e.put(1, uint32(sent), want[sent:sent+n], audio.PCMA)
				sent += n
			}
			e.take(frame)
			heard = append(heard, frame...)
		}
		for e.take(frame) {
			heard = append(heard, frame...)
		}
		if i := bytes.Index(heard, want); i != earDepth {
			t.Errorf("packets of %d octets: found at %d, want %d", size, i, earDepth)
		}
	}
}

// Of a packet that comes half too late the other half is heard, and the first is
// not kept for the next round of the ring.
func TestEarHearsHalfAPacket(t *testing.T) {
	e := newEar()
	frame := make([]byte, audio.FrameBytes)
	e.put(1, 0, frameOf(1), audio.PCMA)
	for range 3 {
		e.take(frame)
	}
	e.put(1, 80, frameOf(2), audio.PCMA)
	e.take(frame)
	if want := append(frameOf(2)[80:], audio.Silence(10)...); !bytes.Equal(frame, want) {
		t.Errorf("heard % x", frame)
	}
	for i := range 2 * earRing / audio.FrameBytes {
		if e.take(frame); bytes.Count(frame, []byte{0xD5}) != len(frame) {
			t.Fatalf("frame %d of the silence after it: % x", i, frame)
		}
	}
}

// A jittery network deepens the buffer until nothing comes too late any more; a
// clock that runs fast does not let it grow without end.
func TestEarAdapts(t *testing.T) {
	e := newEar()
	frame := make([]byte, audio.FrameBytes)
	lost := 0
	for n := range uint32(1500) {
		if n%5 == 4 { // five at once every 100 ms
			for k := n - 4; k <= n; k++ {
				e.put(1, k*samplesPerFrame, frameOf(k+1), audio.PCMA)
			}
		}
		e.take(frame)
		if n > 200 && bytes.Count(frame, []byte{0xD5}) == len(frame) {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d frames of silence after the buffer had time to adapt", lost)
	}

	e = newEar() // every tenth packet comes three turns late
	lost = 0
	for n := range uint32(1500) {
		if n%10 != 0 {
			e.put(1, n*samplesPerFrame, frameOf(n+1), audio.PCMA)
		}
		if n%10 == 3 {
			e.put(1, (n-3)*samplesPerFrame, frameOf(n-2), audio.PCMA)
		}
		e.take(frame)
		if n > 200 && bytes.Count(frame, []byte{0xD5}) == len(frame) {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d frames of silence although late packets had shown themselves", lost)
	}

	e = newEar() // a source whose clock stood still for 600 ms
	for n := range uint32(60) {
		if n < 10 || n >= 40 {
			k := n
			if n >= 40 {
				k -= 30
			}
			e.put(1, k*samplesPerFrame, frameOf(k+1), audio.PCMA)
		}
		e.take(frame)
		if n > 52 && bytes.Count(frame, []byte{0xD5}) == len(frame) {
			t.Errorf("turn %d is silent long after the source came back", n)
		}
	}

	e = newEar()
	deepest := int32(0)
	for n := range uint32(20000) { // ten minutes of a source 0.2 % too fast
		e.put(1, n*samplesPerFrame, frameOf(n+1), audio.PCMA)
		if n%500 != 0 {
			e.take(frame)
		}
		deepest = max(deepest, int32(e.end-e.next))
	}
	if deepest > earDepth+6*samplesPerFrame {
		t.Errorf("the buffer grew to %v", duration(uint32(deepest)))
	}
}

func TestHear(t *testing.T) {
	for _, f := range []Format{aLawFormat(), uLawFormat()} {
		t.Run(f.Law.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				s := open(t, start(t, w))
				rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), f)
				s.Agree(f, rossi.peer())
				var first, second [][]byte
				ctx, cancel := context.WithCancelCause(t.Context())
				done := make(chan error, 2)
				begun := time.Now()
				go func() {
					done <- s.Hear(ctx, func(a []byte) bool { first = append(first, bytes.Clone(a)); return true })
				}()
				go func() { // a second ear, which has enough after 30 frames
					done <- s.Hear(ctx, func(a []byte) bool { second = append(second, bytes.Clone(a)); return len(second) < 30 })
				}()
				<-time.After(200 * time.Millisecond)
				said := rossi.talk(s.Addr(), 50)
				rossi.seq, rossi.ts = rossi.seq+10, rossi.ts+10*samplesPerFrame
				<-time.After(200 * time.Millisecond)
				said = append(said, rossi.talk(s.Addr(), 50)...)
				synctest.Wait()
				hungUp := errors.New("hung up")
				cancel(hungUp)
				if err := <-done; err != nil {
					t.Errorf("the second ear: %v", err)
				}
				if err := <-done; err != hungUp {
					t.Errorf("the first ear: %v", err)
				}
				for i := range said {
					audio.Transcode(said[i], said[i], f.Law, audio.PCMA)
				}
				var silence [][]byte
				for range 10 {
					silence = append(silence, audio.Silence(20))
				}
				want := slices.Concat(slices.Concat(said[:50]...), slices.Concat(silence...), slices.Concat(said[50:]...))
				if !bytes.Contains(slices.Concat(first...), want) {
					t.Error("what was heard is not what was said, with silence for what was lost")
				}
				if d := time.Since(begun); len(first) < int(d/audio.FrameTime) || len(first) > int(d/audio.FrameTime)+4 {
					t.Errorf("%d frames in %v", len(first), d)
				}
				if len(second) != 30 || s.ears.Load() != nil {
					t.Errorf("the second ear heard %d frames", len(second))
				}
			})
		})
	}
}

func TestHearWithoutSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		n := 0
		time.AfterFunc(time.Second, s.Close)
		err := s.Hear(t.Context(), func(a []byte) bool {
			n++
			if !bytes.Equal(a, audio.Silence(20)) {
				t.Errorf("heard % x", a[:8])
			}
			return true
		})
		if err != ErrClosed || n < 49 || n > 50 {
			t.Errorf("%d frames in a second, %v", n, err)
		}
	})
}

func TestHearCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		var heard []byte
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- s.Hear(ctx, func(a []byte) bool {
				heard = append(heard, a...)
				if len(heard) == 30*audio.FrameBytes {
					<-time.After(600 * time.Millisecond) // the disk has hiccups
				}
				return true
			})
		}()
		said := rossi.talk(s.Addr(), 100)
		<-time.After(time.Second)
		synctest.Wait()
		if n := len(heard) / audio.FrameBytes; n < 149 {
			t.Errorf("%d frames in 3 s: the delay was not caught up", n)
		}
		cancel()
		<-done
		if !bytes.Contains(heard, slices.Concat(said...)) {
			t.Error("a slow listener lost sound")
		}
	})
}

// sings is a tone of a second, of which one packet in ten is lost on its way.
func (p *phone) sings(to netip.AddrPort, law audio.Law) {
	tick := time.NewTicker(audio.FrameTime)
	defer tick.Stop()
	n := 0
	for frame := range slices.Chunk(audio.Tone(150, 1000, -15), audio.FrameBytes) {
		<-tick.C
		if n++; n%10 == 5 {
			p.seq, p.ts = p.seq+1, p.ts+samplesPerFrame
			continue
		}
		audio.Transcode(frame, frame, audio.PCMA, law)
		p.say(to, frame)
	}
}

// holes counts the stretches of 10 ms, from the first sound to the last, and those of
// them that are silent.
func holes(alaw []byte) (silent, all int) {
	var loud []bool
	for s := range slices.Chunk(alaw, audio.FrameBytes/2) {
		loud = append(loud, audio.Level(s) > -40)
	}
	for len(loud) > 0 && !loud[0] {
		loud = loud[1:]
	}
	for len(loud) > 0 && !loud[len(loud)-1] {
		loud = loud[:len(loud)-1]
	}
	for _, l := range loud {
		if !l {
			silent++
		}
	}
	return silent, len(loud)
}

// TestRecordMakesUpALostPacket, where Hear leaves silence.
func TestRecordMakesUpALostPacket(t *testing.T) {
	for name, c := range map[string]struct {
		hear   func(*Stream, context.Context, func([]byte) bool) error
		silent int
	}{"Hear": {(*Stream).Hear, 10}, "Record": {(*Stream).Record, 0}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire()
			s := open(t, start(t, w))
			rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
			s.Agree(aLawFormat(), rossi.peer())
			var frames [][]byte
			ctx, hangUp := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				done <- c.hear(s, ctx, func(a []byte) bool { frames = append(frames, bytes.Clone(a)); return true })
			}()
			rossi.sings(s.Addr(), audio.PCMA)
			synctest.Wait()
			hangUp()
			<-done
			if silent, all := holes(bytes.Join(frames, nil)); all < 90 || silent != c.silent {
				t.Errorf("%s: %d of %d are silent, want %d", name, silent, all, c.silent)
			}
		})
	}
}
