package media

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

func TestPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		e := New(Config{MinPort: 30001, MaxPort: 30012, Listen: w.listen}) // 30002…30011: five pairs
		other, err := w.listen(netip.AddrPortFrom(serverIP, 30005))        // somebody else's program
		if err != nil {
			t.Fatal(err)
		}
		var all []*Stream
		for range 4 {
			s, err := e.Open(serverIP)
			if err != nil {
				t.Fatal(err)
			}
			if p := s.Addr().Port(); p%2 != 0 || p < 30002 || p > 30010 || p == 30004 {
				t.Errorf("port %d", p)
			}
			all = append(all, s)
		}
		if _, err := e.Open(serverIP); err != ErrNoPorts {
			t.Errorf("a fifth: %v", err)
		}
		if st := e.Stats(); st.Streams != 4 || st.Ports != 8 {
			t.Errorf("%+v", st)
		}
		other.Close()
		s, err := e.Open(serverIP)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		s.Close()
		if st := e.Stats(); st.Streams != 4 || st.Ports != 8 || st.Cooling != 1 {
			t.Errorf("%+v", st)
		}
		if _, err := e.Open(serverIP); err != ErrNoPorts {
			t.Errorf("a pair that was just closed: %v", err)
		}
		<-time.After(portCooldown)
		if s, err = e.Open(serverIP); err != nil {
			t.Errorf("the same pair, rested: %v", err)
		}
		for _, s := range append(all, s) {
			s.Close()
		}
		if st := e.Stats(); st.Streams != 0 || st.Ports != 0 || st.Cooling != 5 {
			t.Errorf("%+v", st)
		}
	})
}

func TestPortsAreHardToGuess(t *testing.T) {
	w := newWire()
	e := New(Config{Listen: w.listen})
	var ports []uint16
	for range 50 {
		s, err := e.Open(serverIP)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ports = append(ports, s.Addr().Port())
	}
	near := 0
	for i := 1; i < len(ports); i++ {
		if d := int(ports[i]) - int(ports[i-1]); d > -100 && d < 100 {
			near++
		}
	}
	if slices.IsSorted(ports) || near > 25 {
		t.Errorf("ports %v", ports)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	e := New(Config{Listen: func(netip.AddrPort) (Conn, error) { return nil, syscall.EMFILE }})
	if _, err := e.Open(serverIP); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("too many files: %v", err)
	}
	if _, err := New(Config{MinPort: 5000, MaxPort: 5000}).Open(serverIP); err != ErrNoPorts {
		t.Errorf("a range without a pair: %v", err)
	}
	if _, err := New(Config{}).Open(netip.MustParseAddr("192.0.2.77")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address of somebody else: %v", err)
	}
	if st := e.Stats(); st.Ports != 0 {
		t.Errorf("%+v", st)
	}
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		e := New(Config{Listen: w.listen})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		if err := e.Run(t.Context()); err != ErrRunning {
			t.Errorf("a second Run: %v", err)
		}
		s := open(t, e)
		rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
		s.Agree(aLawFormat(), rossi.peer())
		time.AfterFunc(time.Second, cancel)
		loop := numbered(1, 1)
		loop.Loop = true
		if err := s.Play(t.Context(), loop); err != ErrStopped {
			t.Errorf("Play: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// The pacer must cost nothing while there is no stream, and begin at once when
// one comes.
func TestPacerSleeps(t *testing.T) {
	var p pacer
	p.wake = make(chan struct{}, 1)
	calls := 0
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p.wake = make(chan struct{}, 1)
		begun := time.Now()
		done := make(chan struct{})
		go func() { defer close(done); p.run(ctx, func() time.Duration { calls++; return time.Since(begun) }) }()
		<-time.After(time.Hour)
		synctest.Wait()
		if calls != 0 {
			t.Errorf("the pacer looked at the clock %d times in an idle hour", calls)
		}
		cancel()
		<-done
	})
}

func TestPacerKeepsItsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		e := start(t, w)
		<-time.After(time.Hour) // asleep: nobody's frames are late
		defer func() {
			if st := e.Stats(); st.Late != 0 {
				t.Errorf("%d frames late", st.Late)
			}
		}()
		for i := range uint16(2*company + 8) {
			s := open(t, e)
			p := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000+2*i), aLawFormat())
			s.Agree(aLawFormat(), p.peer())
			<-time.After(3 * time.Millisecond)
			defer func() {
				all := p.packets()
				if len(all) < 499 {
					t.Fatalf("%d packets in 10 s", len(all))
				}
				for j := 1; j < len(all); j++ {
					if d := all[j].at - all[j-1].at; d != audio.FrameTime {
						t.Fatalf("packet %d came %v after the last", j, d)
					}
				}
			}()
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		var phases []int
		for _, p := range e.pacer.phases {
			phases = append(phases, len(p))
		}
		slices.Sort(phases)
		if got := phases[len(phases)-3:]; !slices.Equal(got, []int{8, company, company}) {
			t.Errorf("%d streams in phases of %v", 2*company+8, phases)
		}
	})
}

// Beyond the company the phases fill evenly, and those who leave make room.
func TestPhasesFillEvenly(t *testing.T) {
	p := &pacer{wake: make(chan struct{}, 1)}
	var all []*Stream
	const each = company + 10 // in each phase
	for range each * slots {
		s := &Stream{}
		p.add(s)
		all = append(all, s)
	}
	for i := range p.phases {
		if n := len(p.phases[i]); n != each {
			t.Errorf("phase %d has %d of %d", i, n, each*slots)
		}
	}
	for _, s := range all {
		p.remove(s)
		p.remove(s)
	}
	if _, n := p.next(0); n != 0 {
		t.Errorf("%d left", n)
	}
}

// stuckConn delays one write.
type stuckConn struct {
	Conn
	delay chan time.Duration
}

func (c *stuckConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	select {
	case d := <-c.delay:
		<-time.After(d)
	default:
	}
	return c.Conn.WriteToUDPAddrPort(b, to)
}

func TestPacerCatchesUpOrLetsGo(t *testing.T) {
	for _, c := range []struct {
		stall      time.Duration
		late       uint64
		packets    int
		clipFrames int
	}{
		{90 * time.Millisecond, 0, 100, 0},
		{400 * time.Millisecond, 19, 81, 0},
	} {
		t.Run(c.stall.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				stuck := make(chan time.Duration, 1)
				e := New(Config{Listen: func(a netip.AddrPort) (Conn, error) {
					c, err := w.listen(a)
					return &stuckConn{c, stuck}, err
				}})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); e.Run(ctx) }()
				s := open(t, e)
				rossi := newPhone(t, w.listen, netip.AddrPortFrom(rossiIP, 4000), aLawFormat())
				s.Agree(aLawFormat(), rossi.peer())
				<-time.After(505 * time.Millisecond)
				synctest.Wait()
				rossi.forget()
				stuck <- c.stall
				clip := numbered(60, 1)
				s.Start(clip)
				<-time.After(2 * time.Second)
				synctest.Wait()
				cancel()
				<-done
				all := rossi.packets()
				if st := e.Stats(); st.Late != c.late || len(all) != c.packets {
					t.Errorf("%d packets in 2 s, %d let go, want %d and %d", len(all), st.Late, c.packets, c.late)
				}
				for i, p := range all {
					if i > 0 && p.seq != all[i-1].seq+1 {
						t.Fatalf("packet %d: number %d after %d", i, p.seq, all[i-1].seq)
					}
				}
				last := all[len(all)-1]
				if off := duration(last.ts-all[0].ts) - (last.at - all[0].at); off < -c.stall || off > c.stall {
					t.Errorf("the clock is %v off", off)
				}
				if n := len(sounds(all, 0xD5)); n != 60 {
					t.Errorf("%d frames of the clip", n)
				}
			})
		})
	}
}
