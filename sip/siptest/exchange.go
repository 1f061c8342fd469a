package siptest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/media"
)

// Exchange is a carrier's switch on a Wire: what the desk dials, it rings at the
// telephone that has the number. A number that nobody has gets 404, one that is
// refused by Refuse that status.
type Exchange struct {
	agent *sip.Agent
	stop  func()
	done  chan struct{}

	mu      sync.Mutex // guards what follows
	phones  map[string]*Phone
	refused map[string]int
	dialled map[string]int // how often
	shown   string         // the number shown to whom was rung last
}

const nobodyHere = 404

// NewExchange makes a switch at an address of the wire and runs it until Close.
func NewExchange(w *Wire, addr, desk netip.AddrPort) (*Exchange, error) {
	x := &Exchange{phones: map[string]*Phone{}, refused: map[string]int{}, dialled: map[string]int{}, done: make(chan struct{})}
	conn, err := w.Listen(addr)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	engine := media.New(media.Config{MinPort: 40000, MaxPort: 40999, Listen: w.Media, Log: quiet})
	x.agent, err = sip.New(sip.Config{
		Packet: []net.PacketConn{conn}, Media: engine, Log: quiet, Handle: x.ring, UserAgent: "siptest",
		Trunks: []sip.Trunk{{Name: "desk", Networks: []netip.Prefix{netip.PrefixFrom(desk.Addr(), desk.Addr().BitLen())}}},
	})
	if err == nil {
		err = x.agent.Listen()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("exchange at %s: %w", addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x.stop = cancel
	go func() { // ends with Close
		defer close(x.done)
		var wg sync.WaitGroup
		wg.Go(func() { _ = engine.Run(ctx) })
		_ = x.agent.Run(ctx)
		wg.Wait()
	}()
	return x, nil
}

// Close ends the switch and all its calls.
func (x *Exchange) Close() {
	x.stop()
	<-x.done
}

// Connect gives a number to a telephone.
func (x *Exchange) Connect(number string, p *Phone) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.phones[number] = p
}

// Refuse answers calls to a number with a status; 0: no longer.
func (x *Exchange) Refuse(number string, status int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refused[number] = status
}

// Dialled is how often a number was dialled, and the number shown last.
func (x *Exchange) Dialled(number string) (n int, shown string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dialled[number], x.shown
}

func (x *Exchange) ring(ctx context.Context, call *sip.Call) {
	x.mu.Lock()
	x.dialled[call.To()]++
	x.shown = call.From() + " " + call.Source()
	phone, status := x.phones[call.To()], x.refused[call.To()]
	x.mu.Unlock()
	switch {
	case status != 0:
		_ = call.Refuse(ctx, status, 0)
	case phone == nil:
		_ = call.Refuse(ctx, nobodyHere, 0)
	default:
		_ = call.Alert()
		phone.ring(ctx, call)
	}
}
