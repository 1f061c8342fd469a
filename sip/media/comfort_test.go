package media

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// rests sends a packet of comfort noise, and moves the clock on by what follows it.
func (p *phone) rests(r *talkRoom, payload []byte, pause time.Duration) {
	p.send(r.a.Addr(), raw(header{pt: ptCN, seq: p.seq, ts: p.ts, ssrc: p.ssrc}, payload))
	p.seq++
	p.ts += samples(pause)
	<-time.After(pause)
}

// noisy counts the frames that are noise of a level, in dB around it.
func noisy(frames [][]byte, law audio.Law, level float64) (n int) {
	for _, f := range frames {
		alaw := bytes.Clone(f)
		audio.Transcode(alaw, f, law, audio.PCMA)
		if l := audio.Level(alaw); l > level-3 && l < level+3 {
			n++
		}
	}
	return n
}

// TestComfortNoiseIsHeard: from the packet that says so to the next sound, the joined
// leg, who listens and the recording hear noise of that level: no hole, and no burst
// whatever the packet says.
func TestComfortNoiseIsHeard(t *testing.T) {
	for name, x := range map[string]struct {
		payload []byte
		level   float64 // dBFS
	}{
		"as said":           {[]byte{60}, -60},
		"with its spectrum": {append([]byte{55}, bytes.Repeat([]byte{200}, 40)...), -55},
		"far too loud":      {[]byte{0}, -50},
		"a bit too many":    {[]byte{0x80 | 58}, -58},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(t, aLawFormat(), uLawFormat())
				defer r.bridge(t)()
				tap, stop := taps(t, r.e)
				defer joined(t, tap, Caller, r.a)()
				var heard [][]byte
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = r.a.Record(ctx, func(f []byte) bool { heard = append(heard, bytes.Clone(f)); return true })
				}()
				r.rossi.talk(r.a.Addr(), 10)
				synctest.Wait()
				r.anna.forget()
				r.rossi.rests(r, x.payload, 2*time.Second) // 100 frames
				synctest.Wait()
				var sent [][]byte
				for _, p := range r.anna.packets() {
					sent = append(sent, p.payload)
				}
				if n := noisy(sent, audio.PCMU, x.level); n < 95 || n > 101 || n != len(sent) {
					t.Errorf("the other side hears %d frames of noise, of %d", n, len(sent))
				}
				said := r.rossi.talk(r.a.Addr(), 10)
				<-time.After(time.Second)
				cancel()
				<-done
				var told [][]byte
				sound := stop()
				for c, _ := apart(sound); len(c) >= samplesPerFrame; c = c[samplesPerFrame:] {
					told = append(told, c[:samplesPerFrame])
				}
				for who, frames := range map[string][][]byte{"who listens": heard, "the recording": told} {
					if n := noisy(frames, audio.PCMA, x.level); n < 90 || n > 104 {
						t.Errorf("%s hears %d frames of noise", who, n)
					}
					if all := bytes.Join(frames, nil); !bytes.Contains(all, said[5]) || !bytes.Contains(all, bytes.Join(said[6:9], nil)) {
						t.Errorf("%s does not hear what is said then", who)
					}
				}
			})
		})
	}
}

// TestComfortNoiseIsPassedOn: as it came, to who agreed to it; from a second on we
// make it, so that nobody takes the leg for dead. A packet that says nothing is none.
func TestComfortNoiseIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		knows := aLawFormat()
		knows.Noise = true
		r := newRoom(t, aLawFormat(), knows)
		defer r.bridge(t)()
		r.rossi.talk(r.a.Addr(), 10)
		r.rossi.rests(r, []byte{61, 7}, 3*time.Second)
		r.rossi.talk(r.a.Addr(), 10)
		synctest.Wait()
		all := r.anna.packets()
		continuous(t, all, 60*time.Millisecond)
		var passed int
		var made [][]byte
		for _, p := range all {
			switch {
			case p.pt == ptCN && bytes.Equal(p.payload, []byte{61, 7}) && !p.marker:
				passed++
			case passed > 0:
				made = append(made, p.payload)
			}
		}
		if n := noisy(made, audio.PCMA, -61); passed != 1 || n < 95 || n > 102 {
			t.Errorf("%d packets were passed on, and %d frames of noise follow", passed, n)
		}
		r.anna.forget()
		r.rossi.rests(r, nil, 3*time.Second)
		synctest.Wait()
		made = nil
		for _, p := range r.anna.packets() {
			if p.pt == ptCN {
				t.Error("a packet without a level was passed on")
			}
			made = append(made, p.payload)
		}
		if n := noisy(made, audio.PCMA, -61); n != 0 {
			t.Errorf("%d frames of noise after a packet that says nothing", n)
		}
	})
}
