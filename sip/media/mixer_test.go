package media

import (
	"bytes"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// chant says the same sample over and over until the returned function is called.
func (p *phone) chant(to netip.AddrPort, sample byte) (stop func()) {
	quit := make(chan struct{})
	var said sync.WaitGroup
	said.Go(func() {
		tick := time.NewTicker(audio.FrameTime)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.say(to, bytes.Repeat([]byte{sample}, audio.FrameBytes))
			case <-quit:
				return
			}
		}
	})
	return func() { close(quit); said.Wait() }
}

// three is a caller and an operator who talk, and somebody to join them.
type three struct {
	*talkRoom
	c     *Stream
	bruno *phone
}

func newThree(t *testing.T) *three {
	r := &three{talkRoom: newRoom(t, aLawFormat(), uLawFormat())}
	r.c = open(t, r.e)
	r.bruno = newPhone(t, r.w.listen, netip.AddrPortFrom(annaIP, 7000), aLawFormat())
	r.c.Agree(aLawFormat(), r.bruno.peer())
	return r
}

func TestMixIsTheSumOfTheOthers(t *testing.T) {
	for _, c := range []struct{ rossi, anna, bruno int16 }{{1000, -3000, 500}, {30000, 20000, 0}, {-30000, -20000, -10000}} {
		synctest.Test(t, func(t *testing.T) {
			r := newThree(t)
			said := map[*phone]int16{r.rossi: c.rossi, r.anna: c.anna, r.bruno: c.bruno}
			defer r.rossi.chant(r.a.Addr(), audio.ALaw(c.rossi))()
			defer r.anna.chant(r.b.Addr(), audio.ULaw(c.anna))()
			defer r.bruno.chant(r.c.Addr(), audio.ALaw(c.bruno))()
			<-time.After(100 * time.Millisecond)
			stop, err := Mix(r.a, r.b, r.c)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			if _, err := Mix(r.a, r.b, r.c); err != ErrBridged {
				t.Errorf("a second mix: %v", err)
			}
			<-time.After(time.Second)
			for p := range said {
				p.forget()
			}
			<-time.After(time.Second)
			synctest.Wait()
			for p := range said {
				sum := 0
				for other, v := range said {
					if other != p {
						sum += int(audio.ALawToPCM(audio.ALaw(v)))
					}
				}
				want := int16(max(-32768, min(32767, sum)))
				got := p.packets()
				if len(got) < 49 {
					t.Fatalf("%d packets in a second", len(got))
				}
				for _, packet := range got {
					heard := audio.ALawToPCM(packet.payload[80])
					if p == r.anna {
						heard = audio.ULawToPCM(packet.payload[80])
					}
					if diff := int(heard) - int(want); diff > 1100 || diff < -1100 { // half a step of G.711 at the top
						t.Fatalf("somebody hears %d, want %d", heard, want)
					}
				}
			}
		})
	}
}

// What one of them loses on the way is made up for the others.
func TestMixMakesUpALostPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newThree(t)
		stop, err := Mix(r.a, r.b, r.c)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		r.rossi.sings(r.a.Addr(), audio.PCMA)
		<-time.After(time.Second)
		synctest.Wait()
		var heard []byte
		for _, p := range r.bruno.packets() {
			heard = append(heard, p.payload...)
		}
		if silent, all := holes(heard); silent > 0 || all < 90 {
			t.Errorf("%d of %d are silent", silent, all)
		}
	})
}

// From a relay to a mix and back no listener has a hole of more than 40 ms, neither
// between packets nor in the sound, and it stays one RTP stream.
func TestChangeToMixAndBackHasNoHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newThree(t)
		end := r.bridge(t)
		defer r.rossi.chant(r.a.Addr(), audio.ALaw(8000))()
		<-time.After(7 * time.Millisecond) // they do not speak in step
		defer r.anna.chant(r.b.Addr(), audio.ULaw(-4000))()
		<-time.After(500 * time.Millisecond)
		r.rossi.forget()
		r.anna.forget()
		for range 5 {
			<-time.After(203 * time.Millisecond)
			stop, err := Mix(r.a, r.b, r.c)
			if err != nil {
				t.Fatal(err)
			}
			end() // beneath the mix
			<-time.After(331 * time.Millisecond)
			end = r.bridge(t)
			stop()
		}
		<-time.After(500 * time.Millisecond)
		synctest.Wait()
		end()
		for name, p := range map[string]*phone{"rossi": r.rossi, "anna": r.anna} {
			got := p.packets()
			silence := audio.PCMA.Silence()
			if p == r.anna {
				silence = audio.PCMU.Silence()
			}
			unbroken(t, name, got, silence)
		}
	})
}

// Who leaves a mix leaves the others to themselves.
func TestMixOutlivesItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newThree(t)
		stop, err := Mix(r.a, r.b, r.c)
		if err != nil {
			t.Fatal(err)
		}
		r.c.Close()
		defer r.rossi.chant(r.a.Addr(), audio.ALaw(8000))()
		<-time.After(500 * time.Millisecond)
		r.anna.forget()
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
		if len(sounds(r.anna.packets(), audio.PCMU.Silence())) < 4 {
			t.Error("anna hears rossi no more")
		}
		stop()
		stop()
		for _, s := range []*Stream{r.a, r.b, r.c} {
			s.out.mu.Lock()
			left := s.out.port != nil
			s.out.mu.Unlock()
			if left || s.ears.Load() != nil {
				t.Error("something of the mix is left")
			}
		}
	})
}

// keysHeard are the keys that a telephone was told of, each once.
func (p *phone) keysHeard() (keys string) {
	var m keyMemory
	for _, packet := range p.packets() {
		if packet.pt != p.keyPT || len(packet.payload) != keySize {
			continue
		}
		if key := m.press(packet.header, packet.payload); key != 0 {
			keys += string(key)
		}
	}
	return keys
}

// A key that one of three presses, by an event or by SIP INFO, the two others are told
// of, once, and nobody keeps it. Who only listens is told beside the one who is relayed.
func TestKeysGoWhereTheSoundGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newThree(t)
		r.c.Agree(Format{Law: audio.PCMA, PT: 8}, r.bruno.peer()) // he presses by INFO, and is told nothing
		stop, err := Mix(r.a, r.b, r.c)
		if err != nil {
			t.Fatal(err)
		}
		r.rossi.send(r.a.Addr(), r.rossi.keyPackets(5)...)
		<-time.After(500 * time.Millisecond)
		r.anna.send(r.b.Addr(), r.anna.keyPackets(7)...)
		<-time.After(500 * time.Millisecond)
		r.c.Press('#')
		for range 3 * typedAhead {
			r.c.Press('1')
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		stop()
		ones := strings.Repeat("1", typedAhead-1)
		if rossi, anna, bruno := r.rossi.keysHeard(), r.anna.keysHeard(), r.bruno.keysHeard(); rossi != "7#"+ones || anna != "5#"+ones || bruno != "" {
			t.Errorf("rossi was told %q, anna %q, bruno %q", rossi, anna, bruno)
		}
		for _, s := range []*Stream{r.a, r.b, r.c} {
			if key, pressed := s.keyboard.take(); pressed == nil {
				t.Errorf("%c was kept", key)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newThree(t)
		end := r.bridge(t)
		guest := Attend(r.c, r.a, r.b)
		if err := guest.As(Listening); err != nil {
			t.Fatal(err)
		}
		r.rossi.send(r.a.Addr(), r.rossi.keyPackets(5)...)
		<-time.After(500 * time.Millisecond)
		r.bruno.send(r.c.Addr(), r.bruno.keyPackets(9)...)
		<-time.After(500 * time.Millisecond)
		synctest.Wait()
		if rossi, anna, bruno := r.rossi.keysHeard(), r.anna.keysHeard(), r.bruno.keysHeard(); rossi != "" || anna != "5" || bruno != "5" {
			t.Errorf("rossi was told %q, anna %q, who listens %q", rossi, anna, bruno)
		}
		guest.Leave()
		end()
	})
}
