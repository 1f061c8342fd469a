package media

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// collect takes all keys that wait.
func collect(s *Stream) string {
	var keys []rune
	for {
		key, wait := s.keyboard.take()
		if wait != nil {
			return string(keys)
		}
		keys = append(keys, key)
	}
}

func TestKeysAreHeardOnce(t *testing.T) {
	named := netip.AddrPortFrom(rossiIP, 4000)
	press := func(code uint8, from int, to int) func(*phone) [][]byte {
		return func(p *phone) [][]byte { return p.keyPackets(code)[from:to] }
	}
	for _, c := range []struct {
		name string
		send []func(*phone) [][]byte
		want string
	}{
		{"whole", []func(*phone) [][]byte{press(1, 0, 7)}, "1"},
		{"first packets lost", []func(*phone) [][]byte{press(2, 3, 7)}, "2"},
		{"only the last end packet arrives", []func(*phone) [][]byte{press(3, 6, 7)}, "3"},
		{"only the first packet arrives", []func(*phone) [][]byte{press(4, 0, 1)}, "4"},
		{"the same key twice", []func(*phone) [][]byte{press(5, 0, 7), press(5, 0, 7)}, "55"},
		{"the end of the first lost", []func(*phone) [][]byte{press(6, 0, 2), press(6, 0, 7)}, "66"},
		{"every key", []func(*phone) [][]byte{func(p *phone) [][]byte {
			var all [][]byte
			for code := range uint8(16) {
				all = append(all, p.keyPackets(code)...)
			}
			return all
		}}, "0123456789*#ABCD"},
		{"flash is no key", []func(*phone) [][]byte{press(16, 0, 7), press(7, 0, 7)}, "7"},
		{"two keys with packets mixed up", []func(*phone) [][]byte{func(p *phone) [][]byte {
			a, b := p.keyPackets(8), p.keyPackets(9)
			return [][]byte{a[0], a[2], a[1], b[0], a[6], a[5], b[1], a[4], b[6]}
		}}, "89"},
		{"duplicates on the way", []func(*phone) [][]byte{func(p *phone) [][]byte {
			a := p.keyPackets(0)
			return [][]byte{a[0], a[0], a[1], a[1], a[6], a[6]}
		}}, "0"},
		{"nine seconds long, in two segments", []func(*phone) [][]byte{func(p *phone) [][]byte {
			a := p.keyPackets(1)[:4]
			p.ts += 0xFFFF - 1120
			b := p.keyPackets(1)
			b[0][1] &= 0x7f // a further segment has no marker
			return append(a, b...)
		}}, "1"},
		{"too short to be an event", []func(*phone) [][]byte{func(p *phone) [][]byte {
			return [][]byte{p.keyPackets(1)[0][:15]}
		}}, ""},
		{"too short, then whole", []func(*phone) [][]byte{func(p *phone) [][]byte {
			a := p.keyPackets(1)
			return [][]byte{a[0][:15], a[1], a[2][:13], a[3]}
		}}, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				s := open(t, start(t, w))
				f := aLawFormat()
				rossi := newPhone(t, w.listen, named, f)
				s.Agree(f, rossi.peer())
				for _, send := range c.send {
					rossi.say(s.Addr(), frameOf(0))
					rossi.send(s.Addr(), send(rossi)...)
				}
				synctest.Wait()
				if keys := collect(s); keys != c.want {
					t.Errorf("keys %q, want %q", keys, c.want)
				}
			})
		})
	}
}

func TestKeysOfAnotherTypeAreNotKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), Format{PT: 8, KeyPT: 96})
		s.Agree(aLawFormat(), rossi.peer()) // 101
		rossi.send(s.Addr(), rossi.keyPackets(1)...)
		synctest.Wait()
		s.Agree(Format{PT: 8, KeyPT: 96}, rossi.peer())
		rossi.send(s.Addr(), rossi.keyPackets(2)...)
		synctest.Wait()
		if keys := collect(s); keys != "2" {
			t.Errorf("keys %q", keys)
		}
	})
}

// TestAsk: a key ends the question at once, silence some time after its end, and
// nothing of the clip sounds any more.
func TestAsk(t *testing.T) {
	const clip, wait = 2 * time.Second, 3 * time.Second
	hungUp := errors.New("hung up")
	for name, of := range map[string]struct {
		press, end time.Duration // 0: never
		key        rune
		err        error
		took       time.Duration
	}{
		"silence":        {took: clip + wait},
		"in the clip":    {press: time.Second, key: '7', took: time.Second},
		"after the clip": {press: clip + time.Second, key: '7', took: clip + time.Second},
		"hung up":        {end: time.Second, err: hungUp, took: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				s := open(t, start(t, w))
				rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
				s.Agree(aLawFormat(), rossi.peer())
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if of.press > 0 {
					time.AfterFunc(of.press, func() { rossi.send(s.Addr(), rossi.keyPackets(7)...) })
				}
				if of.end > 0 {
					time.AfterFunc(of.end, func() { cancel(hungUp) })
				}
				began := time.Now()
				key, err := s.Ask(ctx, numbered(100, 1), wait)
				if took := time.Since(began); key != of.key || err != of.err || took < of.took-2*audioSlack || took > of.took+2*audioSlack {
					t.Errorf("%q, %v after %v; want %q, %v after %v", key, err, took, of.key, of.err, of.took)
				}
				s.out.mu.Lock()
				defer s.out.mu.Unlock()
				if len(s.out.floor) > 0 {
					t.Error("the clip goes on")
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, start(t, newWire()))
		time.AfterFunc(time.Second, s.Close)
		if _, err := s.Ask(t.Context(), audio.Clip{}, wait); err != ErrClosed {
			t.Errorf("the stream closed: %v", err)
		}
	})
}

func TestTypedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		waiting := func(ch <-chan struct{}) bool {
			select {
			case <-ch:
				return true
			default:
				return false
			}
		}
		before := s.Pressed()
		if waiting(before) {
			t.Error("a key waits before any was pressed")
		}
		rossi.send(s.Addr(), rossi.keyPackets(1)...)
		rossi.send(s.Addr(), rossi.keyPackets(2)...)
		synctest.Wait()
		if !waiting(before) || !waiting(s.Pressed()) {
			t.Error("Pressed does not tell")
		}
		for _, want := range "12" {
			if key, err := s.Key(t.Context()); key != want || err != nil {
				t.Errorf("key %q, %v, want %q", key, err, want)
			}
		}
		if waiting(s.Pressed()) {
			t.Error("Pressed tells of keys that were taken")
		}
		time.AfterFunc(time.Second, func() { rossi.send(s.Addr(), rossi.keyPackets(3)...) })
		if key, err := s.Key(t.Context()); key != '3' || err != nil {
			t.Errorf("key %q, %v", key, err)
		}
		synctest.Wait() // for the rest of it, which would be a key anew behind eight others
		for range 40 {
			rossi.send(s.Addr(), rossi.keyPackets(9)...)
		}
		synctest.Wait()
		if keys := collect(s); len(keys) != typedAhead {
			t.Errorf("%d keys kept", len(keys))
		}
		if d := s.Stats().Dropped; d["keys"] != 40-typedAhead {
			t.Errorf("dropped %v", d)
		}
		hungUp := errors.New("hung up")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(hungUp) })
		if _, err := s.Key(ctx); err != hungUp {
			t.Errorf("Key: %v", err)
		}
		time.AfterFunc(time.Second, s.Close)
		if _, err := s.Key(t.Context()); err != ErrClosed {
			t.Errorf("Key: %v", err)
		}
	})
}

func TestSendKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		f := uLawFormat()
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), f)
		s.Agree(f, rossi.peer())
		<-time.After(time.Second)
		begun := time.Now()
		if err := s.SendKeys(t.Context(), "5#a"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < 460*time.Millisecond || d > 480*time.Millisecond {
			t.Errorf("three keys took %v", d)
		}
		<-time.After(time.Second)
		synctest.Wait()
		all := rossi.packets()
		continuous(t, all, audioSlack)
		var m keyMemory
		var keys []rune
		var events []packet
		for _, p := range all {
			if p.pt == f.KeyPT {
				events = append(events, p)
				if key := m.press(p.header, p.payload); key != 0 {
					keys = append(keys, key)
				}
			}
		}
		if string(keys) != "5#A" || len(events) != 21 {
			t.Fatalf("keys %q in %d packets", string(keys), len(events))
		}
		for i, p := range events {
			e := parseEvent(p.payload)
			k := i % 7
			if p.marker != (k == 0) || e.end != (k >= 4) || e.duration != uint16(160*min(k+1, 5)) || p.ts != events[i-k].ts {
				t.Errorf("packet %d: marker %v, %+v, time %d", i, p.marker, e, p.ts-events[0].ts)
			}
		}
		if gap := events[7].ts - events[0].ts; gap != 1280 {
			t.Errorf("the second key is %d samples after the first", gap)
		}
		if err := s.SendKeys(t.Context(), "12x"); !errors.Is(err, ErrBadKey) {
			t.Errorf("a key that is none: %v", err)
		}
		s.Agree(Format{PT: 0}, rossi.peer())
		if err := s.SendKeys(t.Context(), "1"); err != ErrNoKeys {
			t.Errorf("a peer without keys: %v", err)
		}
	})
}

func TestSendKeysEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := s.SendKeys(ctx, "11111111"); err != context.DeadlineExceeded {
			t.Errorf("SendKeys: %v", err)
		}
		synctest.Wait()
		rossi.forget()
		<-time.After(time.Second)
		synctest.Wait()
		for _, p := range rossi.packets() {
			if p.pt == 101 {
				t.Fatal("keys go on after the context ended")
			}
		}
	})
}

// tones is a key of 80 ms by its two tones, with 60 ms of silence after it.
func tones(low, high float64) (frames [][]byte) {
	for n := range 7 {
		frame := frameOf(0)
		for i := range frame {
			frame[i] = audio.PCMA.Silence()
			if at := float64(n*samplesPerFrame+i) / audio.Rate; n < 4 {
				frame[i] = audio.ALaw(int16(6000 * (math.Sin(2*math.Pi*low*at) + math.Sin(2*math.Pi*high*at))))
			}
		}
		frames = append(frames, frame)
	}
	return frames
}

// TestKeysWithoutTelephoneEvent: by tones or by INFO, whichever came first, so
// that a peer which uses both ways presses each key once.
func TestKeysWithoutTelephoneEvent(t *testing.T) {
	for name, c := range map[string]struct {
		keyPT uint8
		press string // the 5, t: by its tones, i: by INFO, e: by telephone-event
		want  string
	}{
		"tones":            {0, "tt", "55"},
		"INFO":             {0, "ii", "55"},
		"tones, then INFO": {0, "titi", "55"},
		"INFO, then tones": {0, "itit", "55"},
		// Where telephone-event was agreed: by it or by INFO, and never by tones.
		"agreed, tones":            {101, "tt", ""},
		"agreed, INFO only":        {101, "tiit", "55"},
		"agreed, events and INFO":  {101, "eieie", "555"},
		"agreed, INFO then events": {101, "ieie", "55"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire()
			s := open(t, start(t, w))
			f := Format{Law: audio.PCMA, PT: 8, KeyPT: c.keyPT}
			rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), f)
			s.Agree(f, rossi.peer())
			for _, p := range c.press {
				switch p {
				case 'i':
					s.Press('5')
					continue
				case 'e':
					rossi.send(s.Addr(), rossi.keyPackets(5)...)
					synctest.Wait()
					continue
				}
				for _, frame := range tones(770, 1336) {
					rossi.say(s.Addr(), frame)
				}
				synctest.Wait()
			}
			if keys := collect(s); keys != c.want {
				t.Errorf("%s: keys %q, want %q", name, keys, c.want)
			}
			s.Press('x')
			if keys := collect(s); keys != "" {
				t.Errorf("x is the key %q", keys)
			}
		})
	}
}

// TestAKeyByInfoGoesToTheOtherLeg of a bridge, as one of telephone-event does.
func TestAKeyByInfoGoesToTheOtherLeg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, Format{Law: audio.PCMA, PT: 8}, aLawFormat())
		end := r.bridge(t)
		r.a.Press('7')
		pause := time.NewTimer(10 * audio.FrameTime)
		<-pause.C
		synctest.Wait()
		end()
		var m keyMemory
		keys := ""
		for _, p := range r.anna.packets() {
			if p.pt == 101 {
				if key := m.press(p.header, p.payload); key != 0 {
					keys += string(key)
				}
			}
		}
		if keys != "7" {
			t.Errorf("anna's telephone heard %q", keys)
		}
	})
}
