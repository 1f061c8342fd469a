//go:build linux && (amd64 || arm64)

package media

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// A stream that is bridged or heard is read promptly, otherwise with patience;
// and the last socket takes the pollers' goroutines with it.
func TestSocketsHurryForBridges(t *testing.T) {
	e := New(Config{})
	a, err := e.Open(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Open(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	s := a.rtp.(*socket)
	where := func() *poller {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.poller
	}
	until := func(p *poller) { // go test ends a wait without end
		for where() != p {
			<-time.After(time.Millisecond)
		}
	}
	if where() != &s.sockets.patient {
		t.Error("a new stream is in a hurry")
	}
	over, end := context.WithCancel(t.Context())
	bridged, heard := make(chan error), make(chan error)
	go func() { bridged <- Bridge(over, a, b) }()
	until(s.sockets.promptOf(s.fd))
	go func() { heard <- a.Hear(t.Context(), func([]byte) bool { return over.Err() == nil }) }()
	end()
	<-bridged
	<-heard
	if where() != &s.sockets.patient {
		t.Error("the hurry outlives the bridge")
	}
	go func() { heard <- a.Hear(t.Context(), func([]byte) bool { return true }) }()
	until(s.sockets.promptOf(s.fd))
	goroutines := []chan struct{}{s.sockets.promptOf(s.fd).done, s.sockets.patient.done}
	a.Close()
	<-heard
	b.Close()
	for i, done := range goroutines {
		select {
		case <-done:
		default:
			t.Errorf("goroutine %d lives on after the last Close", i)
		}
	}
}
