package media

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// apart takes the two channels of a tap apart.
func apart(sound []byte) (caller, operator []byte) {
	for i := 0; i+1 < len(sound); i += 2 {
		caller, operator = append(caller, sound[i]), append(operator, sound[i+1])
	}
	return caller, operator
}

// onset is where sound begins that is louder than a line is, after a sample; -1:
// nowhere.
func onset(alaw []byte, after int) int {
	for i := after; i+40 <= len(alaw); i += 8 {
		if audio.Level(alaw[i:i+40]) > -30 {
			return i
		}
	}
	return -1
}

// taps runs a tap until stop, which returns what it handed over.
func taps(t *testing.T, e *Engine) (tap *Tap, stop func() []byte) {
	t.Helper()
	tap = e.Tap()
	var sound bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- tap.Run(ctx, func(f []byte) { sound.Write(f) }) }()
	return tap, func() []byte {
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("the tap ended with %v", err)
		}
		return sound.Bytes()
	}
}

func joined(t *testing.T, tap *Tap, side Side, s *Stream) (leave func()) {
	t.Helper()
	leave, err := tap.Join(side, s)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

// TestTapKeepsBothSidesTogether: over lines that jitter and lose, with telephones
// whose clocks run apart and whose numbers begin anywhere, both sides clap once a
// second at one instant; in the recording the claps are less than 40 ms apart.
func TestTapKeepsBothSidesTogether(t *testing.T) {
	const seconds = 60
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		e := start(t, w)
		tap, stop := taps(t, e)
		r := rand.New(rand.NewPCG(1, 2))
		phones := make(chan struct{})
		for side, at := range map[Side]netip.AddrPort{Caller: netip.AddrPortFrom(rossiIP, 4000), Operator: netip.AddrPortFrom(annaIP, 4000)} {
			s, p := open(t, e), newPhone(t, w.listen, at, aLawFormat())
			s.Agree(aLawFormat(), p.peer())
			joined(t, tap, side, s)
			slow := time.Duration(0) // how much longer a frame of this clock is
			if side == Operator {
				slow = 10 * time.Microsecond // 500 ppm: a worse clock than any telephone's
			}
			// The first packets are the slowest of all.
			delays := slices.Repeat([]time.Duration{80 * time.Millisecond}, 3)
			for range seconds * 60 {
				delays = append(delays, time.Duration(r.IntN(60))*time.Millisecond)
			}
			lost := r.Perm(seconds * 60)[:seconds]
			go func() {
				defer func() { phones <- struct{}{} }()
				begun := time.Now()
				for n := 0; time.Since(begun) < seconds*time.Second; n++ {
					sound := audio.Silence(20)
					if d := time.Since(begun) % time.Second; d < 100*time.Millisecond {
						sound = audio.Tone(1000, 20, -10)
					}
					packet := raw(header{pt: p.pt, seq: p.seq, ts: p.ts, ssrc: p.ssrc}, sound)
					p.seq, p.ts = p.seq+1, p.ts+samplesPerFrame
					if !slices.Contains(lost, n) {
						time.AfterFunc(delays[n], func() { p.send(s.Addr(), packet) })
					}
					<-time.After(audio.FrameTime + slow)
				}
			}()
		}
		<-phones
		<-phones
		<-time.After(time.Second)
		sound := stop()
		caller, operator := apart(sound)
		if d := time.Duration(len(caller)) * time.Second / audio.Rate; d < (seconds+1)*time.Second-TapEvery || d > (seconds+2)*time.Second {
			t.Errorf("%s of a talk of %d s", d, seconds)
		}
		worst, claps := 0, 0
		for at := 0; ; claps++ {
			left := onset(caller, at)
			right := onset(operator, at)
			if left < 0 || right < 0 {
				break
			}
			worst = max(worst, left-right, right-left)
			at = max(left, right) + audio.Rate/2
		}
		if claps < seconds-1 || worst > 40*audio.Rate/1000 {
			t.Errorf("%d claps, at worst %d ms apart", claps, worst*1000/audio.Rate)
		}
		t.Logf("%d claps, at worst %d ms apart", claps, worst*1000/audio.Rate)
	})
}

// TestTapThroughPauseAndTransfer: what is said in a pause is nowhere, another
// operator's sound follows on the same side, and all of it is octet for octet what
// was said.
func TestTapThroughPauseAndTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		e := start(t, w)
		tap, stop := taps(t, e)
		a, b, c := open(t, e), open(t, e), open(t, e)
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		anna := newPhone(t, w.listen, netip.AddrPortFrom(annaIP, 4000), aLawFormat())
		bruno := newPhone(t, w.listen, netip.AddrPortFrom(annaIP, 4002), aLawFormat())
		a.Agree(aLawFormat(), rossi.peer())
		b.Agree(aLawFormat(), anna.peer())
		c.Agree(aLawFormat(), bruno.peer())
		defer joined(t, tap, Caller, a)()
		leave := joined(t, tap, Operator, b)
		first := rossi.talk(a.Addr(), 10)
		answer := anna.talk(b.Addr(), 10)
		synctest.Wait()
		tap.Pause(true)
		tap.Pause(true)
		secret := rossi.talk(a.Addr(), 50)
		synctest.Wait()
		tap.Pause(false)
		leave()
		leave()
		b.Close()
		defer joined(t, tap, Operator, c)()
		last := bruno.talk(c.Addr(), 10)
		synctest.Wait()
		caller, operator := apart(stop())
		if !bytes.Contains(caller, slices.Concat(first...)) {
			t.Error("the caller's first words are not there")
		}
		for _, f := range secret {
			if bytes.Contains(caller, f) {
				t.Fatal("what was said in the pause was kept")
			}
		}
		one, other := bytes.Index(operator, slices.Concat(answer[1:]...)), bytes.Index(operator, slices.Concat(last[1:]...)) // the first of a source is led to from nothing
		if one < 0 || other < 0 {
			t.Fatalf("the operators' words are at %d and %d", one, other)
		}
		if d := other - one - 60*samplesPerFrame; d < -samplesPerFrame || d > samplesPerFrame {
			t.Errorf("the second operator is %d samples beside their place: the pause has another length than it had", d)
		}
		if a.taps.Load() == nil || b.taps.Load() != nil {
			t.Error("the tap listens to the wrong streams")
		}
	})
}

// TestTapKeepsNothingOfAPauseThatComesLate: what was said in a pause and was slow on its
// way is not kept either, and what was said after it is.
func TestTapKeepsNothingOfAPauseThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		e := start(t, w)
		tap, stop := taps(t, e)
		s, rossi := open(t, e), newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		defer joined(t, tap, Caller, s)()
		rossi.talk(s.Addr(), 10)
		synctest.Wait()
		tap.Pause(true)
		secret := audio.Tone(700, 200, -5)
		var late [][]byte
		for frame := range slices.Chunk(secret, audio.FrameBytes) {
			<-time.After(audio.FrameTime)
			late = append(late, raw(header{pt: rossi.pt, seq: rossi.seq, ts: rossi.ts, ssrc: rossi.ssrc}, frame))
			rossi.seq, rossi.ts = rossi.seq+1, rossi.ts+samplesPerFrame
		}
		tap.Pause(false)
		rossi.send(s.Addr(), late...)
		after := rossi.talk(s.Addr(), 10)
		synctest.Wait()
		caller, _ := apart(stop())
		for frame := range slices.Chunk(secret[audio.FrameBytes:], audio.FrameBytes/2) { // it swells up, and is nothing at first
			if bytes.Contains(caller, frame) {
				t.Fatal("what was said in the pause was kept")
			}
		}
		if !bytes.Contains(caller, slices.Concat(after[2:]...)) { // what follows a gap is led to
			t.Error("what was said after the pause is not there")
		}
	})
}

// TestTapMakesUpALostPacket: a talk's recording has no hole where a packet was lost.
func TestTapMakesUpALostPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), uLawFormat())
		tap, stop := taps(t, r.e)
		defer joined(t, tap, Caller, r.a)()
		defer joined(t, tap, Operator, r.b)()
		var singing sync.WaitGroup
		singing.Go(func() { r.rossi.sings(r.a.Addr(), audio.PCMA) })
		singing.Go(func() { r.anna.sings(r.b.Addr(), audio.PCMU) })
		singing.Wait()
		<-time.After(time.Second)
		caller, operator := apart(stop())
		for who, sound := range map[string][]byte{"caller": caller, "operator": operator} {
			if silent, all := holes(sound); silent > 0 || all < 90 {
				t.Errorf("the %s's side: %d of %d are silent", who, silent, all)
			}
		}
	})
}

// A network that holds everything back for a second and lets it come at once
// leaves a gap, and the rest in its place.
func TestTrackAfterAStall(t *testing.T) {
	k := &track{}
	k.clear()
	var heard []byte
	frame := make([]byte, samplesPerFrame)
	at := time.Duration(0)
	turn := func() {
		for k.next+samplesPerFrame <= sampleAt(at)-tapDelay {
			k.read(frame, true)
			heard = append(heard, frame...)
		}
	}
	var ts uint32 = 1<<32 - 100*samplesPerFrame // the clock wraps
	for n := range 200 {
		at = time.Duration(n+1) * audio.FrameTime
		ts += samplesPerFrame
		if n >= 100 && n < 150 {
			turn()
			continue
		}
		from := n
		if n == 150 {
			from = 100
		}
		for m := from; m <= n; m++ {
			k.put(at, 1, ts-uint32(n-m)*samplesPerFrame, frameOf(uint32(m)), audio.PCMA)
		}
		turn()
	}
	at += time.Second
	turn()
	for n := 0; n < 190; n++ {
		there := bytes.Equal(heard[n*samplesPerFrame:][:4], frameOf(uint32(n))[:4])
		if want := n < 100 || n > 141; want && !there && n != 142 { // 142 is mixed with what was made up
			t.Errorf("frame %d is not in its place", n)
		}
	}
}
