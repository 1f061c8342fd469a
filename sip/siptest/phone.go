package siptest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/media"
)

// Phone is a telephone with ears on a Wire: a doctor's, which dials, or an
// operator's, which rings. It runs a user agent and a media engine of its own.
type Phone struct {
	wire   *Wire       // nil: real sockets
	whom   *tls.Config // the desk it connects to by TLS; nil: by UDP
	agent  *sip.Agent
	engine *media.Engine
	srtp   sip.SRTP
	desk   netip.AddrPort
	ear    ear
	cursor int // how far Hears has come in what was heard

	registered atomic.Int32 // how often Register has asked

	mu      sync.Mutex // guards call, rung and lifted
	call    *sip.Call
	held    *sip.Call     // the first, while there is a second
	rung    chan struct{} // closed when it rings
	lifted  chan lift     // what to do with a ringing call
	hearing chan struct{} // closed when nobody listens any more
	stop    func()
	done    chan struct{}
}

type lift struct {
	status int // 0: answer
	result chan error
}

// NewPhone makes a telephone at an address of the wire and runs it until Close.
// desk is where it dials to and whose calls it takes.
func NewPhone(w *Wire, addr netip.Addr, desk netip.AddrPort) (*Phone, error) {
	conn, err := w.Listen(netip.AddrPortFrom(addr, 5060))
	if err != nil {
		return nil, err
	}
	p, err := newPhone(desk, media.Config{Listen: w.Media}, sip.Config{Packet: []net.PacketConn{conn}}, sip.SRTPOff)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("telephone at %s: %w", addr, err)
	}
	p.wire = w
	return p, nil
}

// NewRealPhone makes a telephone with sockets of this machine and runs it until
// Close. With whom it speaks to the desk by TLS, and its sound is as srtp says.
func NewRealPhone(addr netip.Addr, desk netip.AddrPort, whom *tls.Config, srtp sip.SRTP) (*Phone, error) {
	p, err := newPhone(desk, media.Config{}, sip.Config{Addrs: []netip.AddrPort{netip.AddrPortFrom(addr, 0)}}, srtp)
	if err != nil {
		return nil, fmt.Errorf("telephone at %s: %w", addr, err)
	}
	p.whom = whom
	return p, nil
}

// newPhone makes a telephone of what it stands on, and runs it.
func newPhone(desk netip.AddrPort, sound media.Config, c sip.Config, srtp sip.SRTP) (*Phone, error) {
	p := &Phone{desk: desk, srtp: srtp, rung: make(chan struct{}), lifted: make(chan lift), done: make(chan struct{})}
	quiet := slog.New(slog.DiscardHandler)
	sound.MinPort, sound.MaxPort, sound.Log = 40000, 40999, quiet
	p.engine = media.New(sound)
	c.Media, c.Log, c.Handle, c.UserAgent = p.engine, quiet, p.ring, "siptest"
	c.Trunks = []sip.Trunk{{Name: "desk", Networks: []netip.Prefix{netip.PrefixFrom(desk.Addr(), desk.Addr().BitLen())}, SRTP: srtp}}
	var err error
	if p.agent, err = sip.New(c); err == nil {
		err = p.agent.Listen()
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() { // ends with Close
		defer close(p.done)
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.engine.Run(ctx) })
		_ = p.agent.Run(ctx)
		wg.Wait()
	}()
	return p, nil
}

// Close ends the telephone and whatever call it has.
func (p *Phone) Close() {
	p.stop()
	<-p.done
}

// Dial rings the desk and returns when it has answered.
func (p *Phone) Dial(ctx context.Context, number string, o sip.DialOptions) error {
	o.Via, o.TLS, o.SRTP = p.desk, p.whom, p.srtp
	call, err := p.agent.Dial(ctx, number, o)
	if err != nil {
		return err
	}
	p.begin(call)
	return nil
}

// begin keeps the call and listens to it.
func (p *Phone) begin(call *sip.Call) {
	hearing := make(chan struct{})
	p.mu.Lock()
	p.call, p.hearing = call, hearing
	p.mu.Unlock()
	p.ear.pause()
	go func() { // ends with the call
		defer close(hearing)
		_ = call.Stream().Hear(context.Background(), func(alaw []byte) bool {
			p.ear.listen(alaw)
			return true
		})
	}()
}

// busyHere is the status of a telephone that rings or talks already.
const busyHere = 486

// ring is what the telephone does when the desk calls it: it rings until it is
// lifted, declined or no longer called. It has one line.
func (p *Phone) ring(ctx context.Context, call *sip.Call) {
	if !p.free() {
		_ = call.Refuse(ctx, busyHere, 0)
		return
	}
	select {
	case l := <-p.lifted:
		var err error
		if l.status != 0 {
			err = call.Refuse(ctx, l.status, 0)
		} else if err = call.Answer(ctx); err == nil {
			p.begin(call)
		}
		p.silence()
		l.result <- err
		if l.status == 0 {
			<-ctx.Done() // returning would hang up
		}
	case <-ctx.Done():
		p.silence()
	}
}

// silence ends the ringing.
func (p *Phone) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rung = make(chan struct{})
}

// free takes the line for a call that rings, if there is none yet.
func (p *Phone) free() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.rung:
		return false
	default:
	}
	if p.call != nil {
		select {
		case <-p.call.Done():
		default:
			return false
		}
	}
	close(p.rung)
	return true
}

// Rings waits until the telephone rings, at most longest.
func (p *Phone) Rings(ctx context.Context, longest time.Duration) error {
	p.mu.Lock()
	rung := p.rung
	p.mu.Unlock()
	if err := wait(ctx, longest, rung); err != nil {
		return errors.New("the telephone does not ring")
	}
	return nil
}

// Lift answers a ringing telephone; Decline refuses with a SIP status.
func (p *Phone) Lift(ctx context.Context) error                { return p.decide(ctx, 0) }
func (p *Phone) Decline(ctx context.Context, status int) error { return p.decide(ctx, status) }

func (p *Phone) decide(ctx context.Context, status int) error {
	l := lift{status, make(chan error, 1)}
	select {
	case p.lifted <- l:
		return <-l.result
	case <-ctx.Done():
		return errors.New("the telephone does not ring")
	}
}

// Hears waits until exactly these names are heard, one after the other, from
// where the last Hears has stopped, at most longest for the first.
func (p *Phone) Hears(ctx context.Context, longest time.Duration, names ...string) error {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	for {
		list, more := p.ear.after(p.cursor)
		n := min(len(list), len(names))
		for i := range n {
			if list[i].Name != names[i] {
				return fmt.Errorf("heard %s, expected %v", say(list), names)
			}
		}
		if n == len(names) {
			p.cursor += n
			return nil
		}
		select {
		case <-more:
		case <-timer.C:
			return fmt.Errorf("heard %q in %s, expected %v", say(list), longest, names)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// HearsAtLast is Hears that lets other names pass before the first.
func (p *Phone) HearsAtLast(ctx context.Context, longest time.Duration, names ...string) error {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	for {
		list, more := p.ear.after(p.cursor)
		at := slices.IndexFunc(list, func(h Heard) bool { return h.Name == names[0] })
		if at >= 0 {
			p.cursor += at
			return p.Hears(ctx, longest, names...)
		}
		select {
		case <-more:
		case <-timer.C:
			return fmt.Errorf("heard %q in %s, expected %v among it", say(list), longest, names)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Names are all the names heard so far.
func (p *Phone) Names() []string { return p.ear.names() }

// Press sends keys as RFC 4733 events.
func (p *Phone) Press(ctx context.Context, keys string) error {
	c, err := p.current()
	if err != nil {
		return err
	}
	return c.Stream().SendKeys(ctx, keys)
}

// Say speaks: d of frames that carry text.
func (p *Phone) Say(ctx context.Context, text string, d time.Duration) error {
	c, err := p.current()
	if err != nil {
		return err
	}
	return c.Stream().Play(ctx, Spell(text, d))
}

// HangUp ends the call and waits until nobody listens to it any more.
func (p *Phone) HangUp(ctx context.Context) error {
	c, err := p.current()
	if err != nil {
		return err
	}
	c.Hangup(ctx)
	return p.Gone(ctx, 5*time.Second)
}

// Hold presses the telephone's own hold key, or takes the other side up again.
func (p *Phone) Hold(ctx context.Context, on bool) error {
	c, err := p.current()
	if err != nil {
		return err
	}
	return c.Hold(ctx, on)
}

// Consult rings somebody in a second call, as the extension that the telephone is; the
// first call waits.
func (p *Phone) Consult(ctx context.Context, number, extension, password string) error {
	first, err := p.current()
	if err != nil {
		return err
	}
	call, err := p.agent.Dial(ctx, number, sip.DialOptions{From: extension, Account: sip.Account{User: extension, Password: password}, Via: p.desk, TLS: p.whom, SRTP: p.srtp})
	if err != nil {
		return err
	}
	p.begin(call)
	p.mu.Lock()
	p.held = first
	p.mu.Unlock()
	return nil
}

// Join gives the other side of the first call to that of the second, and returns what
// it is told came of it.
func (p *Phone) Join(ctx context.Context) (int, error) {
	p.mu.Lock()
	first, second := p.held, p.call
	p.mu.Unlock()
	if first == nil {
		return 0, errors.New("there is no second call")
	}
	told, err := first.Refer(ctx, "<sip:pronto@"+p.desk.String()+"?"+second.Replaces()+">")
	if err != nil {
		return 0, err
	}
	return finally(ctx, told)
}

// finally waits for the last thing that is told of a transfer.
func finally(ctx context.Context, told <-chan int) (int, error) {
	for {
		select {
		case status := <-told:
			if status >= 200 {
				return status, nil
			}
		case <-ctx.Done():
			return 0, errors.New("nothing is told of the transfer")
		}
	}
}

// Refer gives the other side of the call on with the telephone's own key, to the
// address of Refer-To, and returns what it is told came of it; with leave it hangs up
// as soon as it was understood, and is told nothing. A refusal is a *sip.StatusError.
func (p *Phone) Refer(ctx context.Context, to string, leave bool) (int, error) {
	c, err := p.current()
	if err != nil {
		return 0, err
	}
	told, err := c.Refer(ctx, to)
	if err != nil {
		return 0, err
	}
	if leave {
		return 0, p.HangUp(ctx)
	}
	return finally(ctx, told)
}

// Gone waits until the call is over, whoever ended it, at most longest; of two the
// first goes on.
func (p *Phone) Gone(ctx context.Context, longest time.Duration) error {
	c, err := p.current()
	if err != nil {
		return err
	}
	if err := wait(ctx, longest, c.Done()); err != nil {
		return errors.New("the call goes on")
	}
	<-p.hearing
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		p.call, p.held = p.held, nil
	}
	return nil
}

func (p *Phone) current() (*sip.Call, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.call == nil {
		return nil, errors.New("there is no call")
	}
	return p.call, nil
}
