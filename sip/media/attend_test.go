package media

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// What the three say, each a loudness of its own: every sum of them is another.
const (
	rossiSays = 1000
	annaSays  = -3000
	guestSays = 8000
)

// hears is what everybody is to hear of the three, by the guest's part.
var hears = []struct {
	part               Part
	rossi, anna, guest int
}{
	{Listening, annaSays, rossiSays, rossiSays + annaSays},
	{Whispering, annaSays, rossiSays + guestSays, rossiSays + annaSays},
	{Barging, annaSays + guestSays, rossiSays + guestSays, rossiSays + annaSays},
	{Whispering, annaSays, rossiSays + guestSays, rossiSays + annaSays},
	{Barging, annaSays + guestSays, rossiSays + guestSays, rossiSays + annaSays},
	{Listening, annaSays, rossiSays, rossiSays + annaSays},
	{Apart, annaSays, rossiSays, 0},
	{Whispering, annaSays, rossiSays + guestSays, rossiSays + annaSays},
	{Apart, annaSays, rossiSays, 0},
}

// Each hears whom they are to hear, in every part and after every change. Of a guest
// who whispers the caller hears nothing, not in one octet, the changes included: what
// they get is what the operator's telephone sent. And no change leaves caller or
// operator without a packet, or without sound, for more than 40 ms.
func TestAttend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newThree(t)
		end := r.bridge(t)
		defer end()
		defer r.rossi.chant(r.a.Addr(), audio.ALaw(rossiSays))()
		<-time.After(7 * time.Millisecond) // they do not speak in step
		defer r.anna.chant(r.b.Addr(), audio.ULaw(annaSays))()
		<-time.After(5 * time.Millisecond)
		defer r.bruno.chant(r.c.Addr(), audio.ALaw(guestSays))()
		<-time.After(500 * time.Millisecond)
		r.rossi.forget()
		r.anna.forget()
		a := Attend(r.c, r.a, r.b)
		only := audio.ALaw(audio.ULawToPCM(audio.ULaw(annaSays)))
		before := Apart
		for _, want := range hears {
			since := len(r.rossi.packets())
			<-time.After(3 * time.Millisecond)
			if err := a.As(want.part); err != nil {
				t.Fatal(err)
			}
			<-time.After(400 * time.Millisecond)
			for who, sum := range map[*phone]int{r.rossi: want.rossi, r.anna: want.anna, r.bruno: want.guest} {
				heardAs(t, who, r.anna, sum)
			}
			if want.part != Barging && before != Barging {
				for _, p := range r.rossi.packets()[since:] {
					if bytes.Count(p.payload, []byte{only}) != len(p.payload) {
						t.Fatalf("part %d: the caller hears % x", want.part, p.payload)
					}
				}
			}
			before = want.part
		}
		a.Leave()
		if err := a.As(Barging); err != nil {
			t.Error(err)
		}
		<-time.After(200 * time.Millisecond)
		synctest.Wait()
		heardAs(t, r.rossi, r.anna, annaSays)
		for name, p := range map[string]*phone{"rossi": r.rossi, "anna": r.anna} {
			silence := audio.PCMA.Silence()
			if p == r.anna {
				silence = audio.PCMU.Silence()
			}
			unbroken(t, name, p.packets(), silence)
		}
	})
}

// heardAs fails unless the newest packet of a phone is a sum of what is said.
func heardAs(t *testing.T, p, uLaw *phone, sum int) {
	t.Helper()
	got := p.packets()
	octet := got[len(got)-1].payload[80]
	heard := audio.ALawToPCM(octet)
	if p == uLaw {
		heard = audio.ULawToPCM(octet)
	}
	if diff := int(heard) - sum; diff > 300 || diff < -300 { // half a step of G.711 up there, of each that was summed
		t.Errorf("%v hears %d, not %d", p.addr, heard, sum)
	}
}

// unbroken fails when there is no packet, or no sound, for more than 40 ms.
func unbroken(t *testing.T, name string, got []packet, silence byte) {
	t.Helper()
	continuous(t, got, 2*audioSlack)
	loud := got[0].at
	for i := range got {
		if i > 0 && got[i].at-got[i-1].at > 40*time.Millisecond {
			t.Errorf("%s: no packet for %v", name, got[i].at-got[i-1].at)
		}
		if bytes.Count(got[i].payload, []byte{silence}) == len(got[i].payload) {
			continue
		}
		if hole := got[i].at - loud; hole > 40*time.Millisecond {
			t.Errorf("%s: no sound for %v", name, hole)
		}
		loud = got[i].at
	}
}

// A guest who is gone, or whose talk is over, holds nobody up, and leaves nothing.
func TestAttendOutlivesItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newThree(t)
		a := Attend(r.c, r.a, r.b)
		if err := a.As(Barging); err != nil {
			t.Fatal(err)
		}
		if _, err := Mix(r.a, r.b, r.c); err != ErrBridged {
			t.Errorf("two mixes of the same: %v", err)
		}
		r.c.Close()
		r.a.Close()
		begun := time.Now()
		a.Leave()
		a.Leave()
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("leaving took %v", took)
		}
		for _, s := range []*Stream{r.a, r.b, r.c} {
			s.out.mu.Lock()
			left := s.out.port != nil
			s.out.mu.Unlock()
			if left || s.ears.Load() != nil {
				t.Error("something is left")
			}
		}
		if err := Attend(r.c, r.a, r.b).As(Listening); err == nil {
			t.Error("somebody who is gone attends")
		}
	})
}
