package media

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// The same on real sockets: two telephones talk through two streams, one hears a
// clip before, and a recorder hears one of them. Nothing here depends on how
// fast the machine is.
func TestLoopback(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	e := New(Config{})
	ctx, cancel := context.WithCancel(t.Context())
	run := make(chan struct{})
	go func() { defer close(run); e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-run })

	leg := func(f Format) (*Stream, *phone) {
		s, err := e.Open(local)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		p := newPhone(t, listenUDP, netip.AddrPortFrom(local, 0), f)
		s.Agree(f, p.peer())
		return s, p
	}
	a, rossi := leg(uLawFormat())
	b, anna := leg(aLawFormat())
	// until waits for what the network brings; a test that hangs is ended by go test
	until := func(done func() bool) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !done() {
			<-tick.C
		}
	}

	clip := numbered(10, 300)
	if err := a.Play(t.Context(), clip); err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(clip.ALaw)
	audio.Transcode(want, want, audio.PCMA, audio.PCMU)
	heard := func(p *phone) []byte {
		var all []byte
		for _, p := range p.packets() {
			if len(p.payload) == audio.FrameBytes {
				all = append(all, p.payload...)
			}
		}
		return all
	}
	until(func() bool { return bytes.Contains(heard(rossi), want) })

	rossi.send(a.Addr(), rossi.keyPackets(4)...)
	if key, err := a.Key(t.Context()); key != '4' || err != nil {
		t.Fatalf("key %q, %v", key, err)
	}

	over, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Bridge(over, a, b) }()
	tape := make(chan []byte)
	go func() {
		var all []byte
		a.Hear(over, func(f []byte) bool { all = append(all, f...); return true })
		tape <- all
	}()
	until(func() bool { return a.joined.Load() != nil && b.joined.Load() != nil && a.ears.Load() != nil })
	spoken := make(chan [][]byte)
	go func() { spoken <- anna.talk(b.Addr(), 50) }()
	said := rossi.talk(a.Addr(), 50)
	answered := <-spoken
	for i := range said {
		audio.Transcode(said[i], said[i], audio.PCMU, audio.PCMA)
		audio.Transcode(answered[i], answered[i], audio.PCMA, audio.PCMU)
	}
	last := func(all [][]byte) []byte { return all[len(all)-1] }
	until(func() bool { return bytes.Contains(heard(anna), last(said)) })
	until(func() bool { return bytes.Contains(heard(rossi), last(answered)) })
	end()
	if err := <-done; err != context.Canceled {
		t.Errorf("Bridge: %v", err)
	}
	if all := <-tape; !bytes.Contains(all, last(said)) {
		t.Error("the recorder did not hear what was said")
	}
	for _, p := range []*phone{rossi, anna} {
		all := p.packets()
		for i := 1; i < len(all); i++ {
			if all[i].seq != all[i-1].seq+1 || all[i].ssrc != all[0].ssrc || int32(all[i].ts-all[i-1].ts) < 0 {
				t.Fatalf("packet %d: %+v after %+v", i, all[i].header, all[i-1].header)
			}
		}
	}
	if st := e.Stats(); st.Failed != 0 || len(st.Dropped) != 0 {
		t.Errorf("%+v", st)
	}
}
