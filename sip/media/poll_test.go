package media

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Real sockets that are opened, joined, heard and closed while packets rain on
// them: nothing may hang, and what is left over is nobody's.
func TestSocketsComeAndGo(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		t.Run(ip, func(t *testing.T) {
			local := netip.MustParseAddr(ip)
			e := New(Config{MinPort: 20000, MaxPort: 29999})
			ctx, cancel := context.WithCancel(t.Context())
			run := make(chan struct{})
			go func() { defer close(run); e.Run(ctx) }()
			rain, err := listenUDP(netip.AddrPortFrom(local, 0))
			if err != nil {
				t.Fatal(err)
			}
			defer rain.Close()
			from := netip.AddrPortFrom(local, rain.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port())
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for n := range 10 {
						a, err := e.Open(local)
						if err != nil {
							t.Error(err)
							return
						}
						b, err := e.Open(local)
						if err != nil {
							t.Error(err)
							return
						}
						p := Peer{RTP: from, Source: local, Send: true, Receive: true}
						a.Agree(aLawFormat(), p)
						b.Agree(aLawFormat(), p)
						over, end := context.WithTimeout(ctx, 30*time.Millisecond)
						var work sync.WaitGroup
						work.Go(func() { Bridge(over, a, b) })
						work.Go(func() { a.Hear(over, func([]byte) bool { return true }) })
						for seq := range uint16(20) {
							rain.WriteToUDPAddrPort(raw(header{pt: 8, seq: seq, ts: 160 * uint32(seq), ssrc: 1}, frameOf(1)), a.Addr())
						}
						for a.Stats().In < 20 { // the network delivers; go test ends a wait without end
							<-time.After(time.Millisecond)
						}
						if n%2 == 0 {
							a.Close() // in the middle of everything
						}
						work.Wait()
						end()
						a.Close()
						b.Close()
					}
				})
			}
			all.Wait()
			cancel()
			<-run
			if st := e.Stats(); st.Streams != 0 || st.Ports != 0 || st.In != 8*10*20 {
				t.Errorf("%+v", st)
			}
		})
	}
}
