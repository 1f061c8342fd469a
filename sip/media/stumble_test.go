package media

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"

	"github.com/pronto-desk/pronto/sip/audio"
)

// clumsy is a socket whose sending is a fault of ours.
type clumsy struct{ Conn }

func (clumsy) WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error) { panic("a fault of ours") }

// A fault in one stream's work ends its talk and is logged once. The pacer, the readers and
// all who are heard by them go on, and what the stream held is given back.
func TestStumbleIsOneStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, aLawFormat(), aLawFormat())
		var said bytes.Buffer
		r.e.log = slog.New(slog.NewTextHandler(&said, nil))
		third := open(t, r.e)
		guest := newPhone(t, r.w.listen, netip.AddrPortFrom(rossiIP, 4100), aLawFormat())
		third.Agree(aLawFormat(), guest.peer())
		lost := make(chan error, 4)
		r.a.WhenLost(func(why error) { lost <- why })
		r.b.WhenLost(func(why error) { lost <- why })
		bridged := make(chan error)
		go func() { bridged <- Bridge(t.Context(), r.a, r.b) }()
		synctest.Wait()
		r.b.out.mu.Lock()
		r.b.out.conn = clumsy{r.b.out.conn}
		r.b.out.mu.Unlock()

		r.rossi.say(r.a.Addr(), frameOf(1)) // a stumbles in sending it on, b at its next turn
		clip := numbered(50, 1)
		if err := third.Play(t.Context(), clip); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := sounds(guest.packets(), audio.PCMA.Silence()); len(got) != 50 {
			t.Errorf("somebody else heard %d frames, not 50", len(got))
		}
		for range 2 {
			select {
			case why := <-lost:
				if !errors.Is(why, ErrStumbled) {
					t.Errorf("lost for %v", why)
				}
			default:
				t.Fatal("a talk that cannot be heard does not end")
			}
		}
		<-time.After(2 * lostAfter)
		if len(lost) > 0 {
			t.Error("lost more than once")
		}
		r.a.Stats() // nothing is locked for good
		r.b.Stats()
		r.a.Close()
		r.b.Close()
		if err := <-bridged; !errors.Is(err, ErrClosed) {
			t.Errorf("the bridge ended with %v", err)
		}
		if n := strings.Count(said.String(), "a stream stumbled"); n != 2 {
			t.Errorf("logged %d times, not once for each:\n%.2000s", n, said.String())
		}
		if st := r.e.Stats(); st.Streams != 1 {
			t.Errorf("%d streams are left, not 1", st.Streams)
		}
	})
}

// The same with the reports, which have a socket of their own, and with the farewell at the end.
func TestStumbleInReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := open(t, start(t, w))
		s.engine.log = slog.New(slog.DiscardHandler)
		s.rtcp = clumsy{s.rtcp}
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		lost := make(chan error, 4)
		s.WhenLost(func(why error) { lost <- why })
		s.Agree(aLawFormat(), rossi.peer())
		<-time.After(time.Duration(reportTicks+1) * audio.FrameTime)
		synctest.Wait()
		select {
		case why := <-lost:
			if !errors.Is(why, ErrStumbled) {
				t.Errorf("lost for %v", why)
			}
		default:
			t.Error("nobody was told")
		}
		s.Close()
		if st := s.engine.Stats(); st.Streams != 0 || st.Ports != 0 {
			t.Errorf("%d streams with %d ports are left", st.Streams, st.Ports)
		}
	})
}

// And with what is received, on a reader that a lock must not stop for good.
func TestStumbleInHearing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, half := range []string{"sound", "reports"} {
			w := newWire()
			s := open(t, start(t, w))
			s.engine.log = slog.New(slog.DiscardHandler)
			rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
			lost := make(chan error, 4)
			s.WhenLost(func(why error) { lost <- why })
			s.Agree(aLawFormat(), rossi.peer())
			s.in.mu.Lock()
			s.in.cipher = &cipher{ctx: new(srtp.Context)} // without what it needs
			s.in.mu.Unlock()
			if half == "sound" {
				rossi.say(s.Addr(), frameOf(1))
			} else {
				w.deliver(rossi.addr, s.rtcpAddr(), marshal(t, &rtcp.ReceiverReport{SSRC: rossi.ssrc}))
			}
			synctest.Wait()
			select {
			case why := <-lost:
				if !errors.Is(why, ErrStumbled) {
					t.Errorf("%s: lost for %v", half, why)
				}
			default:
				t.Errorf("%s: nobody was told", half)
			}
			s.Stats()
			s.Close()
		}
	})
}
