package media

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// talkRoom is a caller and an operator on one engine.
type talkRoom struct {
	w           *wire
	e           *Engine
	a, b        *Stream
	rossi, anna *phone
}

func newRoom(t *testing.T, rossi, anna Format) *talkRoom {
	w := newWire()
	r := &talkRoom{w: w, e: start(t, w)}
	r.a, r.b = open(t, r.e), open(t, r.e)
	r.rossi = newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), rossi)
	r.anna = newPhone(t, w.listen, netip.AddrPortFrom(annaIP, 6000), anna)
	r.a.Agree(rossi, r.rossi.peer())
	r.b.Agree(anna, r.anna.peer())
	return r
}

var errOver = errors.New("the talk is over")

// bridge joins the two until the returned function is called.
func (r *talkRoom) bridge(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() { done <- Bridge(ctx, r.a, r.b) }()
	synctest.Wait()
	return func() {
		cancel(errOver)
		if err := <-done; err != errOver {
			t.Errorf("Bridge returned %v", err)
		}
	}
}

// bodies are the payloads of sound packets that spell numbers.
func bodies(ps []packet, f Format) [][]byte {
	var all [][]byte
	for _, p := range sounds(ps, f.Law.Silence()) {
		if p.pt == f.PT {
			all = append(all, p.payload)
		}
	}
	return all
}

func TestBridgeBothWays(t *testing.T) {
	for _, c := range []struct{ rossi, anna Format }{{aLawFormat(), aLawFormat()}, {uLawFormat(), uLawFormat()}, {uLawFormat(), aLawFormat()}, {aLawFormat(), uLawFormat()}} {
		t.Run(c.rossi.Law.String()+"-"+c.anna.Law.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(t, c.rossi, c.anna)
				end := r.bridge(t)
				var fromAnna [][]byte
				done := make(chan struct{})
				go func() { defer close(done); fromAnna = r.anna.talk(r.b.Addr(), 100) }()
				fromRossi := r.rossi.talk(r.a.Addr(), 100)
				<-done
				synctest.Wait()
				end()
				for _, d := range []struct {
					said     [][]byte
					heard    []packet
					from, to Format
				}{{fromRossi, r.anna.packets(), c.rossi, c.anna}, {fromAnna, r.rossi.packets(), c.anna, c.rossi}} {
					heard := bodies(d.heard, d.to)
					if len(heard) != 100 {
						t.Fatalf("%d frames of 100 heard", len(heard))
					}
					for i := range heard {
						want := slices.Clone(d.said[i])
						audio.Transcode(want, want, d.from.Law, d.to.Law)
						if !bytes.Equal(heard[i], want) {
							t.Fatalf("frame %d: heard % x, want % x", i, heard[i][:8], want[:8])
						}
						if d.from.Law == d.to.Law && !bytes.Equal(heard[i], d.said[i]) {
							t.Fatalf("frame %d is not the same octets", i)
						}
					}
					continuous(t, d.heard, audioSlack)
				}
			})
		})
	}
}

// The whole walk of a caller is one RTP stream: prompt, keys, music, talk, music
// again while the operator asks, talk.
func TestOneStreamFromPromptToTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), uLawFormat())
		music := numbered(10, 5000)
		music.Loop = true
		if err := r.a.Play(t.Context(), numbered(30, 1)); err != nil {
			t.Fatal(err)
		}
		stop := r.a.Start(music)
		if err := r.a.Play(t.Context(), numbered(5, 900)); err != nil { // "your number is", over the music
			t.Fatal(err)
		}
		r.rossi.talk(r.a.Addr(), 37)
		if err := r.a.SendKeys(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		stop()
		end := r.bridge(t)
		<-time.After(133 * time.Millisecond) // anna's first packet takes its time, and comes between two of our turns
		r.anna.talk(r.b.Addr(), 111)
		synctest.Wait()
		end()
		stop = r.a.Start(music)
		<-time.After(777 * time.Millisecond)
		stop()
		end = r.bridge(t)
		r.anna.talk(r.b.Addr(), 50)
		synctest.Wait()
		end()
		<-time.After(500 * time.Millisecond)
		synctest.Wait()
		continuous(t, r.rossi.packets(), 2*audioSlack)
		var talk int
		for _, p := range r.rossi.packets() {
			if len(p.payload) == 160 && p.payload[0] == audio.ALaw(audio.ULawToPCM(0)) && p.payload[4] == audio.ALaw(audio.ULawToPCM(4)) {
				talk++
			}
		}
		if talk != 161 {
			t.Errorf("%d of 161 frames of anna's arrived", talk)
		}
	})
}

func TestBridgePassesLossAndOrderOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		defer r.bridge(t)()
		var all [][]byte
		for i := range uint16(12) {
			all = append(all, raw(header{pt: 8, seq: 65530 + i, ts: 160 * uint32(i), ssrc: 7}, frameOf(uint32(i))))
		}
		// 3 and 4 change places, 6 is lost, 8 comes twice, 10 comes long after its time.
		for _, i := range []int{0, 1, 2, 4, 3, 5, 7, 8, 8, 9, 11, 10} {
			r.rossi.send(r.a.Addr(), all[i])
			synctest.Wait()
		}
		var seqs, ts []uint32
		var order []uint32
		for _, p := range sounds(r.anna.packets(), 0xD5) {
			order = append(order, uint32(p.payload[3]))
			seqs, ts = append(seqs, uint32(p.seq)), append(ts, p.ts)
		}
		if want := []uint32{0, 1, 2, 4, 3, 5, 7, 8, 9, 11, 10}; !slices.Equal(order, want) {
			t.Fatalf("order %v, want %v", order, want)
		}
		for i, n := range order {
			if uint16(seqs[i]-seqs[0]) != uint16(n) || ts[i]-ts[0] != 160*n {
				t.Errorf("frame %d has number %d and time %d after the first", n, seqs[i]-seqs[0], ts[i]-ts[0])
			}
		}
		if d := r.a.Stats().Dropped; d["duplicate"] != 1 {
			t.Errorf("dropped %v", d)
		}
		// The silence after it goes on behind the highest number, not the last.
		r.anna.forget()
		<-time.After(2 * time.Second)
		synctest.Wait()
		if next := r.anna.packets()[0].seq; next != uint16(seqs[0])+12 {
			t.Errorf("the silence begins at %d after the first", next-uint16(seqs[0]))
		}
		// What overtook the beginning of a run has no number any more.
		for _, seq := range []uint16{105, 106, 104, 107, 106} {
			r.rossi.send(r.a.Addr(), raw(header{pt: 8, seq: seq, ts: 1e6 + 160*uint32(seq), ssrc: 7}, frameOf(uint32(seq))))
			synctest.Wait()
		}
		continuous(t, r.anna.packets(), 100*time.Millisecond)
		if d := r.b.Stats().Dropped; d["late"] != 1 {
			t.Errorf("dropped %v", d)
		}
		if d := r.a.Stats().Dropped; d["duplicate"] != 2 {
			t.Errorf("dropped %v", d)
		}
	})
}

func TestBridgeStripsWhatIsNotSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		defer r.bridge(t)()
		p := raw(header{pt: 8, seq: 1, ts: 1, ssrc: 7}, nil)
		p[0] = 0xB2                                             // padding, extension, two CSRCs
		p = append(p, 0, 0, 0, 1, 0, 0, 0, 2)                   // CSRCs
		p = append(p, 0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0)       // an extension of one word
		p = append(append(p, frameOf(42)...), 0, 0, 0, 0, 0, 6) // six octets of padding
		r.rossi.send(r.a.Addr(), p)
		synctest.Wait()
		got := r.anna.packets()
		if last := got[len(got)-1]; !bytes.Equal(last.payload, frameOf(42)) || last.ssrc == 7 {
			t.Errorf("forwarded %d octets from SSRC %x", len(last.payload), last.ssrc)
		}
	})
}

func TestBridgeFillsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		defer r.bridge(t)()
		<-time.After(500 * time.Millisecond) // nobody speaks yet
		synctest.Wait()
		if n := len(r.anna.packets()); n < 25 {
			t.Errorf("%d packets of silence in 500 ms before the first word", n)
		}
		r.rossi.talk(r.a.Addr(), 50)
		synctest.Wait()
		r.anna.forget()
		<-time.After(10 * time.Second) // rossi goes silent without a word
		synctest.Wait()
		if n := len(r.anna.packets()); n < 440 || n > 452 {
			t.Errorf("%d packets of silence in 10 s", n)
		}
		// He comes back; the clock of his stream went on meanwhile.
		r.rossi.ts += 10 * 8000
		r.rossi.talk(r.a.Addr(), 50)
		// Comfort noise: silence from us at once.
		r.rossi.send(r.a.Addr(), raw(header{pt: ptCN, seq: r.rossi.seq, ts: r.rossi.ts, ssrc: r.rossi.ssrc}, []byte{60}))
		r.rossi.seq++
		r.rossi.ts += 8000
		<-time.After(time.Second)
		r.rossi.talk(r.a.Addr(), 50)
		// A clock that stood still during the pause.
		<-time.After(5 * time.Second)
		r.rossi.talk(r.a.Addr(), 50)
		// A keep-alive without payload leaves no hole.
		r.rossi.send(r.a.Addr(), raw(header{pt: 20, seq: r.rossi.seq, ts: r.rossi.ts, ssrc: r.rossi.ssrc}, nil))
		r.rossi.seq++
		r.rossi.talk(r.a.Addr(), 50)
		// A telephone that starts anew: numbers, clock and SSRC.
		synctest.Wait()
		soFar := len(r.anna.packets())
		r.rossi.seq, r.rossi.ts, r.rossi.ssrc = r.rossi.seq+20000, r.rossi.ts-100000, r.rossi.ssrc+1
		r.rossi.talk(r.a.Addr(), 50)
		r.rossi.seq, r.rossi.ts = r.rossi.seq+20000, r.rossi.ts+0x70000000
		r.rossi.talk(r.a.Addr(), 50)
		synctest.Wait()
		all := r.anna.packets()
		continuous(t, all, 60*time.Millisecond)
		for _, p := range all {
			if p.pt != 8 || len(p.payload) != audio.FrameBytes {
				t.Fatalf("%d octets of payload type %d forwarded", len(p.payload), p.pt)
			}
		}
		if n := len(all) - soFar; n != 98 { // the first of each new beginning is not believed
			t.Errorf("%d of 98 frames after the new beginnings", n)
		}
	})
}

// A telephone whose numbers jump while its clock goes on, and one whose clock
// stands still in short pauses, both keep the other's stream whole.
func TestBridgeRepairsNumbersAndClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		defer r.bridge(t)()
		r.rossi.talk(r.a.Addr(), 20)
		r.rossi.seq += 20000
		r.rossi.talk(r.a.Addr(), 20)
		synctest.Wait()
		continuous(t, r.anna.packets(), 3*audioSlack)
		for range 20 { // half a second of pause each time
			r.rossi.talk(r.a.Addr(), 5)
			<-time.After(500 * time.Millisecond)
		}
		synctest.Wait()
		continuous(t, r.anna.packets(), astrayLongest+audioSlack)
	})
}

func TestBridgeThatEndedForwardsNothing(t *testing.T) {
	a, b, _ := pair(t, aLawFormat(), aLawFormat())
	b.out.join(nil)
	buf := raw(header{pt: 8, seq: 1, ssrc: 1}, frameOf(1))
	b.out.forward(a, arrival{header: header{pt: 8, seq: 1, ssrc: 1}, law: audio.PCMA}, buf, headerSize, len(buf), a.engine.now())
	if w := b.rtp.(*quietConn).written; w != 0 || b.Stats().Dropped["late"] != 1 {
		t.Errorf("%d packets forwarded, dropped %v", w, b.Stats().Dropped)
	}
}

// A joined leg goes on reading for a moment when the other is closed: nothing
// may be written to a socket that is not ours any more.
func TestNothingIsWrittenAfterClose(t *testing.T) {
	a, b, peer := pair(t, aLawFormat(), aLawFormat())
	for i := range uint16(3) {
		a.receive(raw(header{pt: 8, seq: i, ts: 160 * uint32(i), ssrc: 1}, frameOf(1)), peer)
	}
	before := b.rtp.(*quietConn).written
	b.Close()
	b.Agree(aLawFormat(), Peer{RTP: peer, Source: rossiIP, Send: true, Receive: true})
	a.receive(raw(header{pt: 8, seq: 3, ts: 480, ssrc: 1}, frameOf(1)), peer)
	b.out.tick(b.engine.now())
	if w := b.rtp.(*quietConn).written; before != 3 || w != before {
		t.Errorf("%d packets before Close, %d after", before, w)
	}
}

func TestBridgeDoesNotDelayAfterAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		defer r.bridge(t)()
		r.rossi.talk(r.a.Addr(), 20)
		<-time.After(3 * time.Second)
		for range 150 { // all that was kept back comes at once
			r.rossi.say(r.a.Addr(), frameOf(1))
		}
		r.rossi.talk(r.a.Addr(), 100)
		synctest.Wait()
		all := r.anna.packets()
		continuous(t, all, aheadLongest+audioSlack)
		if d := r.b.Stats().Dropped; d["burst"] < 100 {
			t.Errorf("dropped %v", d)
		}
	})
}

func TestClipCoversTheTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		defer r.bridge(t)()
		said := make(chan struct{})
		go func() { defer close(said); r.rossi.talk(r.a.Addr(), 200) }()
		<-time.After(time.Second)
		synctest.Wait()
		r.anna.forget()
		if err := r.b.Play(t.Context(), numbered(50, 77000)); err != nil {
			t.Fatal(err)
		}
		<-said
		synctest.Wait()
		all := r.anna.packets()
		continuous(t, all, audioSlack)
		clip := 0
		for _, p := range all {
			if p.payload[1] == 1 { // 77000 = 0x012CC8
				clip++
			}
		}
		if clip != 50 || len(all) < 145 || len(all) > 152 {
			t.Errorf("%d frames of the clip among %d", clip, len(all))
		}
		if d := r.b.Stats().Dropped; d["covered"] < 48 || d["covered"] > 52 {
			t.Errorf("dropped %v", d)
		}
	})
}

func TestBridgeMapsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rossi, anna := aLawFormat(), uLawFormat() // keys are 101 here and 96 there
		r := newRoom(t, rossi, anna)
		end := r.bridge(t)
		r.rossi.talk(r.a.Addr(), 10)
		r.rossi.send(r.a.Addr(), r.rossi.keyPackets(11)...)
		r.rossi.talk(r.a.Addr(), 10)
		// A key from an SSRC beside the sound's, in the midst of it, as SIPp sends it.
		beside := &phone{ssrc: 99, seq: 1000, ts: 5, keyPT: 101}
		for i, k := range beside.keyPackets(3) {
			r.rossi.talk(r.a.Addr(), 1)
			if i != 2 { // one is lost
				r.rossi.send(r.a.Addr(), k)
			}
		}
		r.rossi.talk(r.a.Addr(), 10)
		synctest.Wait()
		end()
		all := r.anna.packets()
		for i := 1; i < len(all); i++ {
			if all[i].seq != all[i-1].seq+1 || all[i].ssrc != all[0].ssrc {
				t.Fatalf("packet %d: number %d after %d", i, all[i].seq, all[i-1].seq)
			}
		}
		var m keyMemory
		var keys []rune
		n := 0
		for _, p := range all {
			if p.pt == anna.KeyPT {
				n++
				if key := m.press(p.header, p.payload); key != 0 {
					keys = append(keys, key)
				}
			}
		}
		if string(keys) != "#3" || n != 13 {
			t.Errorf("anna got %q in %d packets", string(keys), n)
		}
		if key, ch := r.a.keyboard.take(); ch == nil {
			t.Errorf("key %q was kept although it was forwarded", key)
		}
	})
}

func TestBridgeKeepsKeysFromWhoTakesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), Format{Law: audio.PCMA, PT: 8})
		defer r.bridge(t)()
		r.rossi.talk(r.a.Addr(), 10)
		r.rossi.send(r.a.Addr(), r.rossi.keyPackets(5)...)
		r.rossi.talk(r.a.Addr(), 10)
		synctest.Wait()
		all := r.anna.packets()
		continuous(t, all, 160*time.Millisecond)
		for _, p := range all {
			if p.pt != 8 {
				t.Errorf("payload type %d forwarded", p.pt)
			}
		}
		if d := r.b.Stats().Dropped; d["no_format"] != 7 {
			t.Errorf("dropped %v", d)
		}
	})
}

func TestBridgeIsExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		third := open(t, r.e)
		if err := Bridge(t.Context(), r.a, r.a); err != ErrBridged {
			t.Errorf("a stream with itself: %v", err)
		}
		end := r.bridge(t)
		if err := Bridge(t.Context(), third, r.b); err != ErrBridged {
			t.Errorf("a third: %v", err)
		}
		end()
		done := make(chan error)
		go func() { done <- Bridge(t.Context(), third, r.b) }()
		synctest.Wait()
		r.b.Close()
		if err := <-done; err != ErrClosed {
			t.Errorf("a closed leg: %v", err)
		}
		r.rossi.talk(r.a.Addr(), 3) // goes nowhere, harms nobody
		r.rossi.send(r.a.Addr(), r.rossi.keyPackets(6)...)
		synctest.Wait()
		if keys := collect(r.a); keys != "6" {
			t.Errorf("after the bridge keys are ours again, but %q were kept", keys)
		}
	})
}

// The very first packet of a stream may be a relayed one, wherever its random
// clock starts and however long the engine has been running.
func TestRelayBeginsAnywhere(t *testing.T) {
	for base := uint32(0); ; base += 1 << 30 {
		for _, up := range []time.Duration{0, 80 * time.Hour, 1000 * time.Hour} { // 2^31 samples are 74.6 h
			t.Run(strconv.Itoa(int(base>>30))+"-"+up.String(), func(t *testing.T) {
				a, b, peer := pair(t, aLawFormat(), aLawFormat())
				wrote := &wiretap{Conn: b.out.conn}
				b.out.conn, b.out.base = wrote, base
				a.engine.epoch = a.engine.epoch.Add(-up)
				keys := (&phone{ssrc: 77, seq: 5, ts: 1 << 31, keyPT: 101}).keyPackets(1)
				for i := range uint16(30) {
					a.receive(raw(header{pt: 8, seq: i, ts: 160 * uint32(i), ssrc: 1}, frameOf(1)), peer)
					if i == 10 {
						a.receive(keys[0], peer)
					}
					a.engine.epoch = a.engine.epoch.Add(-audio.FrameTime)
				}
				for range 3 {
					b.out.live = false // silence follows
					b.out.tick(a.engine.now())
					a.engine.epoch = a.engine.epoch.Add(-audio.FrameTime)
				}
				if len(wrote.all) != 34 || wrote.bad != "" {
					t.Fatalf("%d packets, %s", len(wrote.all), wrote.bad)
				}
				for i, h := range wrote.all {
					if d := h.ts - base - samples(up); d > 34*samplesPerFrame {
						t.Errorf("packet %d: timestamp %d after the clock", i, int32(d))
					}
					if i > 0 && (h.seq != wrote.all[i-1].seq+1 || int32(h.ts-wrote.all[i-1].ts) < 0) {
						t.Errorf("packet %d: %+v after %+v", i, h, wrote.all[i-1])
					}
				}
			})
		}
		if base == 3<<30 {
			return
		}
	}
}
