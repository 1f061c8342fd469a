package queue

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

// wants puts a wish into the inbox of somebody's talk, and takes it out again.
func (d *desk) wants(user int64, c Command, at time.Time) {
	d.tb.Helper()
	d.ok(d.Command(background, user, c, at))
	taken, err := d.takeCommand(background, d.seat(user).Offer.UUID, at)
	d.ok(err)
	if taken == nil || taken.Wish != c.Wish || taken.Target != c.Target {
		d.tb.Fatalf("%+v was taken, not %+v", taken, c)
	}
}

// TestSinceWhenATalkStands: not since it began, nor since it was last told of; and
// nobody's who talks as two do.
func TestSinceWhenATalkStands(t *testing.T) {
	d := newDesk(t)
	anna, _ := d.talks(d, "anna", after(0))
	offer := d.seat(anna).Offer.UUID
	since := func(want *time.Time) {
		t.Helper()
		got := d.seat(anna).TalkAt
		if (got == nil) != (want == nil) || got != nil && !got.Equal(*want) {
			t.Errorf("it stands so since %v, not %v", got, want)
		}
	}
	since(nil)
	held := after(5)
	d.ok(d.Stands(background, offer, Held, "", journal.OnHold, Target{}, held))
	d.ok(d.Stands(background, offer, Held, "telephone", journal.OnHold, Target{}, after(6)))
	since(&held)
	d.ok(d.Stands(background, offer, Together, "", journal.Resumed, Target{}, after(8)))
	since(nil)
	again := after(9)
	d.ok(d.Stands(background, offer, Asking, "", journal.Asked, Target{}, again))
	since(&again)
}

// TestCommand: only who talks has an inbox; it holds one wish, which is taken once
// and not after its time.
func TestCommand(t *testing.T) {
	d := newDesk(t)
	anna, _ := d.talks(d, "anna", after(0))
	bruno := d.sits("bruno", after(0), 60, "bruno")
	offer := d.seat(anna).Offer.UUID
	d.refuses(d.Command(background, bruno, Command{Wish: Hold}, after(1)), ErrNotTalking)
	d.refuses(d.Command(background, anna, Command{Wish: Resume}, after(1)), ErrNotNow)
	d.refuses(d.Command(background, anna, Command{Wish: Transfer, Target: Target{Operator: anna}}, after(1)), ErrNotFree)
	d.wants(anna, Command{Wish: Transfer, Target: Target{Operator: bruno}}, after(1))
	d.wants(anna, Command{Wish: Consult, Target: Target{Number: "+390559876543"}}, after(1))
	d.ok(d.Command(background, anna, Command{Wish: Hold}, after(2)))
	d.refuses(d.Command(background, anna, Command{Wish: Hold}, after(3)), ErrNotNow)
	if c, err := d.takeCommand(background, offer, after(12)); err != nil || c != nil {
		t.Errorf("a wish was met ten seconds late: %+v, %v", c, err)
	}
	heard := make(chan *Command)
	go func() {
		c, _ := d.Commanded(background, &Offer{ID: offer})
		heard <- c
	}()
	d.ok(d.Command(background, anna, Command{Wish: Hold}, time.Now()))
	if c := <-heard; c == nil || c.Wish != Hold {
		t.Errorf("the conversation heard %+v", c)
	}
	over, cancel := context.WithCancelCause(background)
	cancel(errRehearsed)
	if _, err := d.Commanded(over, &Offer{ID: offer}); err != errRehearsed {
		t.Errorf("the end of a talk is %v", err)
	}
	d.wants(anna, Command{Wish: Consult, Target: Target{Operator: bruno}}, after(20))
	d.ok(d.Command(background, anna, Command{Wish: Hold}, after(20)))
	d.ok(d.Release(background, offer, after(21)))
	var left int
	d.ok(d.db.Pool.QueryRow(background, `select count(*) from commands`).Scan(&left))
	if left != 0 {
		t.Error("the inbox outlives the talk")
	}
}

// TestCommandIsNotLost: who stops waiting while the inbox is being emptied still gets what
// lay in it.
func TestCommandIsNotLost(t *testing.T) {
	address := dbtest.URL(t)
	open := func(url string) *desk {
		d, err := db.Open(t.Context(), db.Config{URL: url, MaxConns: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		return deskOn(t, d, "north")
	}
	d := open(address)
	far, hold, pass := farFrom(t, d.db.Pool.Config().ConnConfig)
	slow := open(far)
	anna, _ := d.talks(d, "anna", after(0))
	offer := d.seat(anna).Offer.UUID
	if c, err := slow.takeCommand(background, offer, after(1)); c != nil || err != nil { // it has a connection now that knows the statement
		t.Fatalf("an empty inbox held %v, %v", c, err)
	}
	d.ok(d.Command(background, anna, Command{Wish: Transfer}, time.Now()))
	hold()
	pass = sync.OnceFunc(pass)
	defer pass() // or a test that fails meanwhile would not end
	ctx, stop := context.WithCancel(background)
	got := make(chan *Command)
	go func() {
		c, _ := slow.Commanded(ctx, &Offer{ID: offer})
		got <- c
	}()
	looking, enough := context.WithTimeout(t.Context(), 10*time.Second)
	defer enough()
	for left := 1; left > 0; {
		d.ok(d.db.Pool.QueryRow(looking, `select count(*) from commands`).Scan(&left))
	}
	stop()
	pass()
	if c := <-got; c == nil || c.Wish != Transfer {
		t.Errorf("%v was taken", c)
	}
}

// farFrom is the address of a database whose answers are kept back between hold and pass.
func farFrom(t *testing.T, to *pgx.ConnConfig) (address string, hold, pass func()) {
	t.Helper()
	network, server := pgconn.NetworkAddress(to.Host, to.Port)
	near, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var gate sync.RWMutex
	var relays sync.WaitGroup
	relay := func(a, b net.Conn, through func()) {
		defer a.Close()
		defer b.Close()
		for buf := make([]byte, 4096); ; {
			n, err := a.Read(buf)
			through()
			if err != nil {
				return
			}
			if _, err := b.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	relays.Go(func() {
		for {
			a, err := near.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial(network, server)
			if err != nil {
				a.Close()
				continue
			}
			relays.Go(func() { relay(a, b, func() {}) })
			relays.Go(func() { relay(b, a, func() { gate.RLock(); defer gate.RUnlock() }) })
		}
	})
	t.Cleanup(func() { near.Close(); relays.Wait() })
	u := url.URL{Scheme: "postgres", User: url.UserPassword(to.User, to.Password), Host: near.Addr().String(), Path: to.Database, RawQuery: "sslmode=disable"}
	return u.String(), gate.Lock, gate.Unlock
}

// TestGive: who is given on has T0 and urgency as before, and is somebody's at once
// when a colleague was named; of two who are given to each other nobody is lost.
func TestGive(t *testing.T) {
	d := newDesk(t)
	anna, rossi := d.talks(d, "anna", after(0))
	bruno, verdi := d.talks(d, "bruno", after(1))
	first, second := d.seat(anna).Offer.UUID, d.seat(bruno).Offer.UUID
	d.refuses(d.Give(background, first, Target{Operator: bruno}, "", after(5)), ErrNotFree)
	d.stands(anna, "available/ talking")
	d.ok(d.Give(background, second, Target{}, "operator_gone", after(6)))
	d.refuses(d.Give(background, second, Target{}, "", after(6)), ErrTooLate)
	d.stands(bruno, "available/ wrapping")
	d.ok(d.Declare(background, bruno, "available", "", after(7)))
	d.ok(d.Give(background, first, Target{Operator: bruno}, "", after(8)))
	d.stands(anna, "available/ wrapping")
	d.stands(bruno, "available/ offered")
	o := d.offerOf(rossi)
	d.ok(d.Decline(background, o.ID, Refused, after(9)))
	if d.state(rossi) != placeWaiting || d.state(verdi) != placeWaiting {
		t.Fatal("somebody who was given on waits no more")
	}
	list, err := d.Waiting(background)
	d.ok(err)
	if list[0].Contact != rossi.contact || !list[0].T0.Equal(after(0)) {
		t.Errorf("the first in the queue is %+v", list[0])
	}
	d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "accepted", "given", "released", "waiting", "offered", "declined")
}

// TestAskedRecovers: a crash while a colleague is rung, or talks with the operator,
// costs the colleague nothing.
func TestAskedRecovers(t *testing.T) {
	d := newDesk(t)
	anna, rossi := d.talks(d, "anna", after(0))
	bruno, clara := d.sits("bruno", after(0), 0, "bruno"), d.sits("clara", after(0), 60, "clara")
	offer := d.seat(anna).Offer.UUID
	o, err := d.Ask(background, offer, clara, after(1))
	d.ok(err)
	d.refuses(d.HandOver(background, offer, o.ID, after(1)), ErrTooLate)
	d.ok(d.Accept(background, o.ID, after(2)))
	if s := d.seat(clara); s.Talk != Advising || s.Contact.UUID != rossi.contact {
		t.Fatalf("the seat of who is asked is %+v", s)
	}
	d.refuses(d.Command(background, clara, Command{Wish: Hold}, after(3)), ErrNotNow)
	_, err = d.Ask(background, offer, bruno, after(3))
	d.ok(err)
	var operator int64
	d.ok(d.db.Pool.QueryRow(background, `select operator_id from contacts where id = $1`, rossi.contact).Scan(&operator))
	if operator != anna {
		t.Error("who is only asked has the caller")
	}
	_, err = d.Ask(background, uuid.New(), bruno, after(3))
	d.refuses(err, ErrTooLate)
	d.ok(New(d.db, "north", nil).Recover(background, after(4)))
	d.stands(anna, "available/ wrapping")
	d.stands(bruno, "available/ idle")
	d.stands(clara, "available/ wrapping")
}
