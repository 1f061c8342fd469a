package media

import (
	"bytes"
	"context"
	"math"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

func wideFormat() Format { return Format{Law: audio.G722, PT: 9, KeyPT: 101} }

// encoded is some A-law as a telephone of G.722 says it, all of it.
func encoded(e *audio.G722Encoder, alaw []byte) []byte {
	g722 := make([]byte, len(alaw))
	e.Encode(g722, alaw)
	return g722
}

// speak says sound, a packet each 20 ms.
func (p *phone) speak(to netip.AddrPort, sound []byte) {
	tick := time.NewTicker(audio.FrameTime)
	defer tick.Stop()
	for ; len(sound) >= audio.FrameBytes; sound = sound[audio.FrameBytes:] {
		<-tick.C
		p.say(to, sound[:audio.FrameBytes])
	}
}

// heardAs is what a telephone has heard, in A-law.
func (p *phone) heardAs(f Format) (alaw []byte) {
	for _, packet := range p.packets() {
		if packet.pt == f.PT {
			alaw = append(alaw, packet.payload...)
		}
	}
	switch f.Law {
	case audio.G722:
		new(audio.G722Decoder).Decode(alaw, alaw)
	case audio.PCMU:
		audio.Transcode(alaw, alaw, audio.PCMU, audio.PCMA)
	}
	return alaw
}

// toneLevel is how loud a tone of hz is in some A-law, dBFS.
func toneLevel(alaw []byte, hz float64) float64 {
	var re, im float64
	for i, a := range alaw {
		x, at := float64(audio.ALawToPCM(a)), 2*math.Pi*hz*float64(i)/audio.Rate
		re, im = re+x*math.Cos(at), im+x*math.Sin(at)
	}
	return 20 * math.Log10(math.Hypot(re, im)/float64(len(alaw))*math.Sqrt2/(1<<15)+1e-9)
}

// loudest is the largest sample of some A-law.
func loudest(alaw []byte) (most int16) {
	for _, a := range alaw {
		most = max(most, audio.ALawToPCM(a), -audio.ALawToPCM(a))
	}
	return most
}

// A telephone of G.722 and one of either law hear each other as loud as they speak, and
// whoever listens, records or asks for keys hears both.
func TestWideband(t *testing.T) {
	const low, high, level = 600, 1000, -20.0
	for _, f := range []Format{aLawFormat(), uLawFormat()} {
		t.Run(f.Law.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(t, wideFormat(), f)
				tap := r.e.Tap()
				leave, err := tap.Join(Caller, r.a)
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
				ctx, stop := context.WithCancel(t.Context())
				var heard, taped []byte
				done := make(chan struct{}, 2)
				go func() {
					_ = r.a.Record(ctx, func(alaw []byte) bool { heard = append(heard, alaw...); return true })
					done <- struct{}{}
				}()
				go func() {
					_ = tap.Run(ctx, func(sound []byte) {
						for i := 0; i < len(sound); i += 2 {
							taped = append(taped, sound[i])
						}
					})
					done <- struct{}{}
				}()
				end := r.bridge(t)
				go func() {
					said := audio.Tone(low, 1000, level)
					if f.Law == audio.PCMU {
						audio.Transcode(said, said, audio.PCMA, audio.PCMU)
					}
					r.anna.speak(r.b.Addr(), said)
					done <- struct{}{}
				}()
				r.rossi.speak(r.a.Addr(), encoded(new(audio.G722Encoder), audio.Tone(high, 1000, level)))
				<-done
				synctest.Wait()
				end()
				stop()
				<-done
				<-done
				for name, x := range map[string]struct {
					sound []byte
					hz    float64
				}{"anna": {r.anna.heardAs(f), high}, "rossi": {r.rossi.heardAs(wideFormat()), low}, "who listens": {heard, high}, "the tap": {taped, high}} {
					best := math.Inf(-1)
					for at := 0; at+4000 <= len(x.sound); at += 400 {
						best = max(best, toneLevel(x.sound[at:at+4000], x.hz))
					}
					if math.Abs(best-level) > 1 {
						t.Errorf("%s hears %.1f dBFS of %d octets at %v Hz", name, best, len(x.sound), x.hz)
					}
				}
				continuous(t, r.anna.packets(), audioSlack)
			})
		})
	}
}

// Two telephones of G.722 hear each other's octets, both bands of them. Music between
// them, and their going on after it, neither clicks nor blows up, however loud the one
// was and quiet the other; nor does a listener who comes late, or a hole.
func TestWidebandUntouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, wideFormat(), wideFormat())
		end := r.bridge(t)
		speech, err := os.ReadFile("../audio/testdata/g722_said.alaw")
		if err != nil {
			t.Fatal(err)
		}
		speech = speech[2000:] // half a second of it
		middle := 0            // just after its loudest frame
		for at := audio.FrameBytes; at < len(speech); at += audio.FrameBytes {
			if loudest(speech[at-audio.FrameBytes:at]) == loudest(speech) {
				middle = at
				break
			}
		}
		var e audio.G722Encoder
		said := encoded(&e, speech)
		for i := range said {
			said[i] ^= byte(i) & 0xC0 // an upper band
		}
		r.rossi.speak(r.a.Addr(), said)
		synctest.Wait()
		var heard []byte
		for _, p := range r.anna.packets() {
			heard = append(heard, p.payload...)
		}
		if !bytes.Contains(heard, said[wideMeets:]) {
			t.Error("they do not hear each other's octets")
		}
		var music, over int // anna's packets before it, and until it was over
		r.rossi.speak(r.a.Addr(), encoded(&e, speech[:middle]))
		synctest.Wait()
		music = len(r.anna.packets())
		stopMusic := r.b.Start(audio.Clip{ALaw: audio.Tone(1000, 600, -40)})
		<-time.After(600 * time.Millisecond)
		stopMusic()
		synctest.Wait()
		over = len(r.anna.packets())
		encoded(&e, speech[middle:]) // nobody hears it
		r.rossi.seq += 5             // and this is lost
		r.rossi.ts += 5 * samplesPerFrame
		r.rossi.speak(r.a.Addr(), encoded(&e, append(speech, speech[:middle]...)))
		synctest.Wait()
		var late []byte
		hears := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			defer close(hears)
			_ = r.a.Hear(ctx, func(alaw []byte) bool { late = append(late, alaw...); return true })
		}()
		synctest.Wait()
		r.rossi.speak(r.a.Addr(), encoded(&e, speech[middle:]))
		r.rossi.speak(r.a.Addr(), encoded(&e, speech))
		synctest.Wait()
		end()
		stop()
		<-hears
		const quiet = 470 // the largest sample of a tone of -40 dBFS
		loud := loudest(speech)
		sound := r.anna.heardAs(wideFormat())
		for i := range len(sound) / 160 {
			limit := loud
			if i > music && i < over { // the frame in which it settles sounds on
				limit = quiet * 3 / 2
			}
			if most := loudest(sound[160*i : 160*(i+1)]); most > limit+limit/20 {
				t.Errorf("%d is heard in frame %d, with music from %d to %d", most, i, music, over)
			}
		}
		if l := audio.Level(sound[len(sound)-2000:]); math.Abs(l-audio.Level(speech[2000:])) > 1 {
			t.Errorf("in the end speech of %.1f dBFS is heard at %.1f", audio.Level(speech[2000:]), l)
		}
		if l := audio.Level(late[len(late)-2000:]); math.Abs(l-audio.Level(speech[2000:])) > 1 || loudest(late) > loud+loud/8 {
			t.Errorf("who comes late hears %.1f dBFS, %d at most", l, loudest(late))
		}
	})
}

// Sound that is listened to from its middle is heard no louder than it is.
func TestWidebandFromTheMiddle(t *testing.T) {
	var e audio.G722Encoder
	tone := audio.Tone(800, 600, -6)
	said, w, heard := encoded(&e, tone), wideEar{}, []byte(nil)
	for at := 1600; at+160 <= len(said); at += 160 {
		heard = append(heard, w.hear(header{ssrc: 1, seq: uint16(at / 160), ts: uint32(at)}, said[at:at+160])...)
	}
	if most := loudest(heard); most > loudest(tone)+loudest(tone)/8 {
		t.Errorf("%d is heard of a tone of %d", most, loudest(tone))
	}
	if l := toneLevel(heard[1600:2400], 800); math.Abs(l+6) > 0.5 {
		t.Errorf("it is heard at %.1f dBFS in the end", l)
	}
}

// What we make after two have heard each other's G.722 is heard from its first sample on,
// be it a clip or a mix of what they go on saying: nothing has to come before it.
func TestWidebandAfterRelay(t *testing.T) {
	const level = -10.0
	// frames are what anna has heard.
	frames := func(r *talkRoom) (list [][]byte) {
		sound := r.anna.heardAs(wideFormat())
		for ; len(sound) >= samplesPerFrame; sound = sound[samplesPerFrame:] {
			list = append(list, sound[:samplesPerFrame])
		}
		return list
	}
	t.Run("a clip", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(t, wideFormat(), wideFormat())
			end := r.bridge(t)
			r.rossi.speak(r.a.Addr(), encoded(new(audio.G722Encoder), audio.Tone(800, 1000, level)))
			synctest.Wait()
			relayed := len(r.anna.packets())
			clip := audio.Clip{ALaw: audio.Tone(500, 100, level)}
			ended := make(chan error, 1)
			go func() { ended <- r.b.Play(t.Context(), clip) }()
			synctest.Wait()
			end()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			for i, frame := range frames(r)[relayed : relayed+5] {
				if l := toneLevel(frame, 500); math.Abs(l-level) > 1.5 {
					t.Errorf("frame %d of the clip is heard at %.1f dBFS", i, l)
				}
			}
			continuous(t, r.anna.packets(), audioSlack)
		})
	})
	for name, late := range map[string]time.Duration{"a mix": 0, "a mix as a packet is late": 25 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(t, wideFormat(), wideFormat())
				c := open(t, r.e)
				bruno := newPhone(t, r.w.listen, netip.AddrPortFrom(annaIP, 7000), aLawFormat())
				c.Agree(aLawFormat(), bruno.peer())
				end := r.bridge(t)
				said := make(chan struct{})
				begins := make(chan struct{})
				go func() {
					defer close(said)
					sound := encoded(new(audio.G722Encoder), audio.Tone(800, 2000, level))
					r.rossi.speak(r.a.Addr(), sound[:8000])
					close(begins)
					<-time.After(late)
					r.rossi.speak(r.a.Addr(), sound[8000:])
				}()
				<-begins
				<-time.After(audio.FrameTime / 2) // between two turns of the pacer's
				stop, err := Mix(r.a, r.b, c)
				if err != nil {
					t.Fatal(err)
				}
				<-said
				stop()
				end()
				synctest.Wait()
				want := audio.Level(audio.Tone(800, 20, level))
				for i, frame := range frames(r)[20:95] { // from when they hear each other's octets until rossi has nothing more to say
					if l := audio.Level(frame); math.Abs(l-want) > 3 { // where the mix takes over the phase jumps
						t.Errorf("frame %d is heard at %.1f dBFS", 20+i, l)
					}
				}
			})
		})
	}
}
