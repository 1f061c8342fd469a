package siptest

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/media"
)

// soon is how long anything in these tests may take, on the bubble's clock.
const soon = 40 * time.Second

var (
	deskAt   = netip.MustParseAddrPort("10.0.0.1:5060")
	carrier  = netip.MustParsePrefix("10.0.2.0/24")
	caller   = netip.MustParseAddr("10.0.2.1")
	operator = netip.MustParseAddr("10.0.1.1")
)

// register is the telephones of a desk in memory, for sip.Config.Phones.
type register struct {
	mu       sync.Mutex // guards bindings
	bindings []sip.Binding
}

func (r *register) Secret(_ context.Context, extension string, _ bool) (s sip.Secret, ok bool, err error) {
	a1 := extension + ":pronto:geheim"
	s.MD5, s.SHA256 = fmt.Sprintf("%x", md5.Sum([]byte(a1))), fmt.Sprintf("%x", sha256.Sum256([]byte(a1)))
	return s, extension == "1001", nil
}

func (r *register) Bind(ctx context.Context, b sip.Binding) error {
	_ = r.Unbind(ctx, b.Extension, b.Contact)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bindings = append(r.bindings, b)
	return nil
}

func (r *register) Unbind(_ context.Context, extension, contact string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bindings = slices.DeleteFunc(r.bindings, func(b sip.Binding) bool {
		return b.Extension == extension && (contact == "*" || b.Contact == contact)
	})
	return nil
}

func (r *register) Bindings(_ context.Context, extension string, at time.Time) (found []sip.Binding, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bindings {
		if b.Extension == extension && b.Expires.After(at) {
			found = append(found, b)
		}
	}
	return found, nil
}

// desk runs a user agent at deskAt whose calls are conducted by handle, and gives
// it and what ends it.
func desk(t *testing.T, w *Wire, handle func(context.Context, *sip.Agent, *sip.Call)) (agent *sip.Agent, stop func()) {
	t.Helper()
	conn, err := w.Listen(deskAt)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	engine := media.New(media.Config{MinPort: 20000, MaxPort: 20999, Listen: w.Media, Log: log})
	agent, err = sip.New(sip.Config{
		Packet: []net.PacketConn{conn}, Media: engine, Phones: &register{}, Realm: "pronto", Log: log,
		Trunks: []sip.Trunk{{Name: "carrier", Networks: []netip.Prefix{carrier}}},
		Handle: func(ctx context.Context, c *sip.Call) { handle(ctx, agent, c) },
	})
	if err == nil {
		err = agent.Listen()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = engine.Run(ctx) })
	wg.Go(func() { _ = agent.Run(ctx) })
	return agent, func() { cancel(); wg.Wait() }
}

func phone(t *testing.T, w *Wire, at netip.Addr) *Phone {
	t.Helper()
	p, err := NewPhone(w, at, deskAt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// must reads the conversations below as a list of what has to succeed.
func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// serve is a small desk: welcome, one key, the number, then the operator.
func serve(t *testing.T) func(context.Context, *sip.Agent, *sip.Call) {
	lib := prompts.New(Prompts())
	return func(ctx context.Context, agent *sip.Agent, call *sip.Call) {
		if err := call.Answer(ctx); err != nil {
			t.Errorf("answer: %v", err)
			return
		}
		key, err := call.Ask(ctx, lib.Clip(prompts.Welcome), 5*time.Second)
		if err != nil || key != '2' {
			t.Errorf("the desk heard key %q, %v", key, err)
		}
		if err := call.Play(ctx, lib.Number("2026-11")); err != nil {
			t.Errorf("number: %v", err)
		}
		var leg media.Leg
		err = call.While(ctx, lib.Clip(prompts.Music), func(ctx context.Context) (err error) {
			leg, err = agent.Ring(ctx, "1001", sip.Caller{Number: call.From(), Name: "Mario Rossi"})
			return err
		})
		if err != nil {
			t.Errorf("ring: %v", err)
			return
		}
		if err := call.Bridge(ctx, leg); err != nil {
			t.Errorf("bridge: %v", err)
		}
	}
}

// talk is one call from the first INVITE to the last BYE.
func talk(t *testing.T, w *Wire, o sip.DialOptions) {
	ctx := t.Context()
	agent, stop := desk(t, w, serve(t))
	defer stop()
	rossi, anna := phone(t, w, caller), phone(t, w, operator)
	defer rossi.Close()
	defer anna.Close()
	must(t, "register", anna.Register(ctx, "1001", "geheim", time.Hour))
	if !agent.Registered("1001", time.Now()) {
		t.Error("the desk does not know the telephone")
	}
	must(t, "dial", rossi.Dial(ctx, "800123456", o))
	must(t, "welcome", rossi.Hears(ctx, soon, "benvenuto"))
	must(t, "press", rossi.Press(ctx, "2"))
	must(t, "number", rossi.Hears(ctx, soon, "numero_pratica", "duemila", "ventisei", "trattino", "uno", "uno"))
	must(t, "music", rossi.Hears(ctx, soon, "musica"))
	must(t, "rings", anna.Rings(ctx, soon))
	<-time.After(7 * time.Second)
	must(t, "lift", anna.Lift(ctx))
	must(t, "rossi says", rossi.Say(ctx, "il certificato di Bianchi", 3*time.Second))
	must(t, "anna hears", anna.Hears(ctx, soon, "il certificato di Bianchi"))
	must(t, "anna says", anna.Say(ctx, "Perché non parte?", 2*time.Second))
	must(t, "rossi hears", rossi.Hears(ctx, soon, "Perché non parte?"))
	must(t, "hang up", anna.HangUp(ctx))
	must(t, "gone", rossi.Gone(ctx, soon))
	if got := strings.Join(rossi.Names(), " "); got != "benvenuto numero_pratica duemila ventisei trattino uno uno musica Perché non parte?" {
		t.Errorf("rossi heard %q", got)
	}
}

// TestDigits: a number typed as people type. A space is a pause longer than any
// between two keys, a full stop one that is not.
func TestDigits(t *testing.T) {
	const most = 5
	for typed, want := range map[string]string{
		"123#":      "123",
		"1.2.3#":    "123",
		"12 3":      "12", // the pause has closed it
		"1*23#":     "23",
		"1*  23#":   "23", // who starts again finds the paper again
		"#1":        "",
		"":          "",
		"*":         "",
		"1A2D#":     "12",
		"12345#":    "12345",
		"123456#":   "123456", // one too many is seen
		"12345678#": "123456",
		"1234567*8": "8",
	} {
		t.Run(typed, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewWire(1)
				w.Delay = 5 * time.Millisecond
				got := make(chan string, 2)
				_, stop := desk(t, w, func(ctx context.Context, _ *sip.Agent, call *sip.Call) {
					if err := call.Answer(ctx); err != nil {
						t.Errorf("answer: %v", err)
						return
					}
					number, err := call.Digits(ctx, Spell("numero", 2*time.Second), most, 15*time.Second)
					if err != nil {
						t.Errorf("digits: %v", err)
					}
					got <- number
					_, err = call.Digits(ctx, Spell("ancora", time.Minute), most, time.Second)
					if err == nil {
						t.Error("a number of a caller who has hung up")
					}
					got <- "gone"
				})
				defer stop()
				rossi := phone(t, w, caller)
				defer rossi.Close()
				must(t, "dial", rossi.Dial(t.Context(), "800123456", sip.DialOptions{From: "+390551234567"}))
				for _, key := range typed {
					switch key {
					case ' ':
						<-time.After(5 * time.Second)
					case '.':
						<-time.After(3 * time.Second)
					default:
						must(t, "press", rossi.Press(t.Context(), string(key)))
					}
				}
				if number := <-got; number != want {
					t.Errorf("typed %q: %q, want %q", typed, number, want)
				}
				must(t, "hang up", rossi.HangUp(t.Context()))
				<-got
			})
		})
	}
}

func TestCallFromDialToHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWire(1)
		w.Delay = 5 * time.Millisecond
		talk(t, w, sip.DialOptions{From: "+390551234567"})
	})
}

// The caller speaks µ-law, the operator A-law: the desk transcodes between them.
func TestOtherLawIsHeardToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWire(1)
		w.Delay = 5 * time.Millisecond
		talk(t, w, sip.DialOptions{From: "+390551234567", Laws: []uint8{0}})
	})
}

func TestLossyWireIsHeardThrough(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewWire(seed)
				w.Delay, w.Loss, w.Reorder, w.Late = 20*time.Millisecond, 0.03, 0.05, 30*time.Millisecond
				talk(t, w, sip.DialOptions{From: "+390551234567"})
			})
		})
	}
}

// What a second call begins with is heard, though the first ended with the same.
func TestEveryCallIsHeardAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := NewWire(1), t.Context()
		_, stop := desk(t, w, func(ctx context.Context, _ *sip.Agent, c *sip.Call) {
			if c.Answer(ctx) == nil {
				_ = c.Play(ctx, Spell("benvenuto", time.Minute)) // until the caller hangs up
			}
		})
		defer stop()
		rossi := phone(t, w, caller)
		defer rossi.Close()
		for range 2 {
			must(t, "dial", rossi.Dial(ctx, "800123456", sip.DialOptions{From: "+390551234567"}))
			must(t, "hears", rossi.Hears(ctx, soon, "benvenuto"))
			must(t, "hang up", rossi.HangUp(ctx))
		}
	})
}

func TestRegisterNeedsThePassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := NewWire(1), t.Context()
		agent, stop := desk(t, w, serve(t))
		defer stop()
		anna := phone(t, w, operator)
		defer anna.Close()
		if err := anna.Register(ctx, "1001", "falsch", time.Hour); err == nil || agent.Registered("1001", time.Now()) {
			t.Errorf("with a wrong password: %v", err)
		}
		must(t, "register", anna.Register(ctx, "1001", "geheim", time.Hour))
		must(t, "sign off", anna.Register(ctx, "1001", "geheim", 0))
		if agent.Registered("1001", time.Now()) {
			t.Error("still registered after signing off")
		}
	})
}

// A telephone has one line: it declines, is busy, and stops ringing when nobody
// calls any more.
func TestTelephoneRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := NewWire(1), t.Context()
		w.Delay = 5 * time.Millisecond
		agent, stop := desk(t, w, serve(t))
		defer stop()
		anna := phone(t, w, operator)
		defer anna.Close()
		must(t, "register", anna.Register(ctx, "1001", "geheim", time.Hour))
		ring := func(ctx context.Context) <-chan error {
			rung := make(chan error, 1)
			go func() { // ends with the ringing or the call
				leg, err := agent.Ring(ctx, "1001", sip.Caller{Number: "+390551234567"})
				rung <- err
				if err == nil {
					<-leg.Done()
				}
			}()
			return rung
		}
		status := func(err error) int {
			var s *sip.StatusError
			if !errors.As(err, &s) {
				t.Errorf("no status: %v", err)
				return 0
			}
			return s.Code
		}
		quiet := func(when string) {
			t.Helper()
			synctest.Wait()
			if anna.Rings(ctx, time.Second) == nil {
				t.Errorf("it rings %s", when)
			}
		}
		quiet("without a call")

		first := ring(ctx)
		must(t, "rings", anna.Rings(ctx, soon))
		if got := status(<-ring(ctx)); got != 486 {
			t.Errorf("a second call while it rings gets %d", got)
		}
		must(t, "decline", anna.Decline(ctx, 603))
		if got := status(<-first); got != 603 {
			t.Errorf("declined with %d", got)
		}
		quiet("after it was declined")

		waiting, cancel := context.WithCancel(ctx)
		second := ring(waiting)
		must(t, "rings again", anna.Rings(ctx, soon))
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("given up: %v", err)
		}
		<-time.After(time.Second)
		quiet("after the caller gave up")

		third := ring(ctx)
		must(t, "rings a third time", anna.Rings(ctx, soon))
		must(t, "lift", anna.Lift(ctx))
		must(t, "third", <-third)
		quiet("while it talks")
		if got := status(<-ring(ctx)); got != 486 {
			t.Errorf("a call while it talks gets %d", got)
		}
		must(t, "hang up", anna.HangUp(ctx))

		impatient, cancel2 := context.WithTimeout(ctx, time.Second)
		defer cancel2()
		if err := anna.Lift(impatient); err == nil {
			t.Error("a telephone that does not ring is answered")
		}
	})
}

func TestHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var p Phone
		p.ear.listen(Spell("benvenuto", spelled).ALaw)
		p.ear.listen(Spell("menu", spelled).ALaw)
		if err := p.Hears(ctx, time.Second, "menu"); err == nil {
			t.Error("heard the second word first")
		}
		must(t, "first", p.Hears(ctx, time.Second, "benvenuto"))
		began := time.Now()
		if err := p.Hears(ctx, time.Minute, "menu", "attesa"); err == nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		p.ear.pause()
		p.ear.listen(Spell("menu", spelled).ALaw)
		p.ear.listen(Spell("attesa", spelled).ALaw)
		if err := p.Hears(ctx, time.Second, "menu", "attesa"); err == nil {
			t.Error("a word that was heard twice is passed over")
		}
		must(t, "at last", p.HearsAtLast(ctx, time.Second, "attesa"))
		if err := p.HearsAtLast(ctx, time.Second, "attesa"); err == nil {
			t.Error("a word was heard a second time")
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if err := p.Hears(cancelled, time.Minute, "musica"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		for name, err := range map[string]error{"press": p.Press(ctx, "1"), "say": p.Say(ctx, "x", time.Second), "hang up": p.HangUp(ctx), "gone": p.Gone(ctx, time.Second)} {
			if err == nil {
				t.Errorf("%s without a call", name)
			}
		}
	})
}
