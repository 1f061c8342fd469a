package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

// TestOfferEnds is every way in which an offer ends: what becomes of seat and
// place, whether the same two meet again at once, and what the journal tells.
func TestOfferEnds(t *testing.T) {
	d := newDesk(t)
	for i, c := range []struct {
		name  string
		end   func(o *Offer, p *Place, at time.Time) error
		state State
		seat  string
		place placeState
		again int // offers a match at once makes
		lines []string
	}{
		{"accepted", func(o *Offer, _ *Place, at time.Time) error { return d.Accept(background, o.ID, at) },
			Accepted, "available/ talking", placeTaken, 0, []string{"accepted"}},
		{"refused on the page", func(o *Offer, _ *Place, at time.Time) error { return d.Decline(background, o.ID, Refused, at) },
			Declined, "available/ idle", placeWaiting, 0, []string{"declined"}},
		{"engaged", func(o *Offer, _ *Place, at time.Time) error { return d.Decline(background, o.ID, Busy, at) },
			Declined, "break/busy idle", placeWaiting, 0, []string{"declined"}},
		{"unreachable", func(o *Offer, _ *Place, at time.Time) error { return d.Decline(background, o.ID, Unreachable, at) },
			Declined, "break/phone_unreachable idle", placeWaiting, 0, []string{"declined"}},
		{"missed", func(o *Offer, _ *Place, at time.Time) error { return d.TimeOut(background, o.ID, at) },
			TimedOut, "break/missed idle", placeWaiting, 0, []string{"timed_out"}},
		{"withdrawn", func(o *Offer, _ *Place, at time.Time) error { return d.Withdraw(background, o.ID, at) },
			Withdrawn, "available/ idle", placeWaiting, 1, []string{"withdrawn", "offered"}},
		{"the caller leaves", func(_ *Offer, p *Place, at time.Time) error { return p.Leave(background, at) },
			Withdrawn, "available/ idle", placeLeft, 0, []string{"withdrawn", "left"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.tb = t
			skill := c.name
			anna := d.sits("anna"+string(rune('a'+i)), after(0), 60, skill)
			rossi := d.waits(skill, 2, after(1))
			o := d.offered(rossi, after(2))
			if !o.ExpiresAt.Equal(after(2).Add(RingLongest)) || o.State != Pending || o.Operator != anna {
				t.Fatalf("%+v", o)
			}
			d.ok(c.end(o, rossi, after(3)))
			over, err := d.Offer(background, o.ID)
			d.ok(err)
			if over.State != c.state {
				t.Errorf("the offer is %s", over.State)
			}
			d.stands(anna, c.seat)
			if got := d.state(rossi); got != c.place {
				t.Errorf("the place is %s", got)
			}
			for name, late := range map[string]func() error{
				"accept":   func() error { return d.Accept(background, o.ID, after(4)) },
				"decline":  func() error { return d.Decline(background, o.ID, Refused, after(4)) },
				"time out": func() error { return d.TimeOut(background, o.ID, after(4)) },
				"withdraw": func() error { return d.Withdraw(background, o.ID, after(4)) },
				"painted":  func() error { return d.Painted(background, o.ID, after(4)) },
			} {
				if err := late(); !errors.Is(err, ErrTooLate) {
					t.Errorf("%s afterwards: %v", name, err)
				}
			}
			d.match(after(5), c.again)
			d.told(journal.ContactStream(rossi.contact), append([]string{"waiting", "offered"}, c.lines...)...)
			if c.again == 1 {
				d.ok(rossi.Leave(background, after(6)))
			}
		})
	}
}

func TestNoSuchOffer(t *testing.T) {
	d := newDesk(t)
	id := uuid.New()
	d.refuses(d.Accept(background, id, after(0)), ErrTooLate)
	d.refuses(d.Release(background, id, after(0)), ErrTooLate)
	d.refuses(d.Painted(background, id, after(0)), ErrTooLate)
	_, err := d.Offer(background, id)
	d.refuses(err, ErrTooLate)
	d.sits("anna", after(0), 0, "software")
	o := d.offered(d.waits("software", 2, after(1)), after(2))
	if err := d.Decline(background, o.ID, "boredom", after(3)); err == nil {
		t.Fatal("a reason that is none was taken")
	}
	d.ok(d.Release(background, o.ID, after(3))) // never accepted: nothing to release
	d.stands(o.Operator, "available/ offered")
}

// TestRefusalLapses: for a minute somebody else, then the same two again.
func TestRefusalLapses(t *testing.T) {
	d := newDesk(t)
	d.sits("anna", after(0), 0, "software")
	rossi := d.waits("software", 2, after(1))
	o := d.offered(rossi, after(2))
	d.ok(d.Decline(background, o.ID, Refused, after(10)))
	verdi := d.waits("software", 2, after(11))
	o = d.offered(verdi, after(12)) // the same operator, another caller
	d.ok(d.Withdraw(background, o.ID, after(13)))
	d.ok(verdi.Leave(background, after(13)))
	d.match(after(69.9), 0)
	d.offered(rossi, after(70))
}

func TestPainted(t *testing.T) {
	d := newDesk(t)
	d.sits("anna", after(0), 0, "software")
	o := d.offered(d.waits("software", 2, after(1)), after(2))
	woken := d.db.Wakeups.Subscribe(SeatTopic(o.Operator))
	defer woken.Close()
	d.ok(d.Painted(background, o.ID, after(3)))
	d.ok(d.Painted(background, o.ID, after(4)))
	<-woken.C()
	got, err := d.Offer(background, o.ID)
	d.ok(err)
	if got.PaintedAt == nil || !got.PaintedAt.Equal(after(3)) {
		t.Fatalf("painted at %v", got.PaintedAt)
	}
	d.told(journal.ContactStream(o.Contact), "waiting", "offered", "painted")
}

// inBubble runs a test with the clock of a bubble, on a real database.
func inBubble(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Helper()
	address := dbtest.URL(t) // outside
	synctest.Test(t, func(t *testing.T) {
		pool, err := db.Open(t.Context(), db.Config{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		test(t, deskOn(t, pool, "north"))
	})
}

// TestWatch: the context ends with the reason for which the offer came to nothing.
func TestWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		d.sits("anna", time.Now(), 0, "software")
		anna := d.sits("bruno", time.Now(), 0, "software")
		rossi := d.waits("software", 2, time.Now())
		for _, c := range []struct {
			want error
			end  func(o *Offer) error
		}{
			{ErrWithdrawn, func(o *Offer) error { return d.Withdraw(background, o.ID, time.Now()) }},
			{ErrDeclined, func(o *Offer) error { return d.Decline(background, o.ID, Refused, time.Now()) }},
			{ErrTimedOut, func(*Offer) error { return nil }}, // nobody does anything, the clock goes on
		} {
			o := d.offered(rossi, time.Now())
			began := time.Now()
			ctx, stop := d.Watch(background, o)
			synctest.Wait()
			d.ok(c.end(o))
			<-ctx.Done()
			if cause := context.Cause(ctx); cause != c.want {
				t.Errorf("the cause is %v, not %v", cause, c.want)
			}
			long := time.Duration(0) // an end wakes the watch
			if c.want == ErrTimedOut {
				long = RingLongest
			}
			if took := time.Since(began); took.Round(time.Millisecond) != long {
				t.Errorf("it rang for %v, not %v", took, long)
			}
			stop()
		}
		d.stands(anna, "break/missed idle")

		// An acceptance does not end it; the caller's hang-up does.
		d.ok(d.Declare(background, anna, "available", "", time.Now()))
		o := d.offered(rossi, time.Now())
		call, hangUp := context.WithCancelCause(background)
		ctx, stop := d.Watch(call, o)
		defer stop()
		d.ok(d.Accept(background, o.ID, time.Now()))
		<-time.After(2 * RingLongest)
		if ctx.Err() != nil {
			t.Fatalf("the watch of an accepted offer ended: %v", context.Cause(ctx))
		}
		hungUp := errors.New("hung up")
		hangUp(hungUp)
		<-ctx.Done()
		if context.Cause(ctx) != hungUp {
			t.Errorf("the cause is %v", context.Cause(ctx))
		}

		ctx, stop = d.Watch(background, &Offer{ID: uuid.New()})
		defer stop()
		<-ctx.Done()
		if context.Cause(ctx) != ErrWithdrawn {
			t.Errorf("no such offer: %v", context.Cause(ctx))
		}
	})
}

// TestNothingIsReadAgain: what was read or written an instant before is not read again,
// but for what has happened since: rows that nobody has waked for show what is looked at.
func TestNothingIsReadAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		anna := d.sits("anna", time.Now(), 0, "software")
		rossi := d.waits("software", 2, time.Now())
		o, err := rossi.Wait(background)
		d.ok(err)
		d.exec(`update offers set state = 'withdrawn' where id = $1`, o.ID)
		ctx, stop := d.Watch(background, o)
		synctest.Wait()
		d.ok(ctx.Err())
		d.db.Wakeups.Wake(OfferTopic(o.ID))
		<-ctx.Done()
		stop()
		d.exec(`update offers set state = 'pending' where id = $1`, o.ID)

		// What ends between the making of an offer and its watch is not missed, nor is
		// that news may have been.
		began := time.Now()
		d.ok(d.Decline(background, o.ID, Refused, began))
		ctx, stop = d.Watch(background, o)
		<-ctx.Done()
		if context.Cause(ctx) != ErrDeclined || time.Since(began) > time.Second {
			t.Errorf("after %v: %v", time.Since(began), context.Cause(ctx))
		}
		stop()
		<-time.After(refusedFor) // the two again
		o, err = rossi.Wait(background)
		d.ok(err)

		// So with what is asked of the talk.
		d.ok(d.AcceptWith(background, o, time.Now(), Also{Then: func(context.Context, *db.Tx) error { return nil }}))
		talk, over := context.WithCancel(background)
		heard := make(chan *Command, 2)
		listen := func() { c, _ := d.Commanded(talk, o); heard <- c }
		d.exec(`insert into commands (offer_id, wants, expires_at) values ($1, 'hold', $2)`, o.ID, time.Now().Add(time.Hour))
		go listen()
		synctest.Wait()
		if len(heard) != 0 {
			t.Error("the inbox was looked into")
		}
		d.db.Wakeups.Wake(OfferTopic(o.ID))
		if c := <-heard; c == nil || c.Wish != Hold {
			t.Errorf("%+v was asked", c)
		}
		d.ok(d.Command(background, anna, Command{Wish: Hold}, time.Now()))
		go listen()
		if c := <-heard; c == nil || c.Wish != Hold {
			t.Errorf("%+v was asked before", c)
		}
		carla := d.sits("carla", time.Now(), 0)
		d.exec(`update seats set supervises = $1, supervises_as = 'listen', supervises_at = $2 where user_id = $3`, o.ID, time.Now(), carla)
		joins := make(chan *Supervision, 1)
		await := func() { s, _ := d.AwaitSupervision(talk, o, nil); joins <- s }
		go await()
		synctest.Wait()
		if len(joins) != 0 {
			t.Error("supervisors were looked for")
		}
		d.db.Wakeups.Wake(SupervisionTopic(o.ID))
		if s := <-joins; s == nil || s.By != carla {
			t.Errorf("%+v takes part", s)
		}
		go await() // who asked before
		if s := <-joins; s == nil || s.By != carla {
			t.Errorf("%+v took part", s)
		}
		over()
	})
}

// TestTogether: what is to be true with an acceptance, or with a release, is so exactly
// when they are; a release that another was quicker to make does not keep it from
// happening.
func TestTogether(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 30, "software")
	rossi := d.waits("software", 2, after(1))
	o := d.offered(rossi, after(2))
	failed := errors.New("it could not be noted")
	names := func(name string, err error) func(context.Context, *db.Tx) error {
		return func(ctx context.Context, tx *db.Tx) error {
			_, execErr := tx.Exec(ctx, `update contacts set trunk = $2 where id = $1`, rossi.contact, name)
			return errors.Join(execErr, err)
		}
	}
	is := func(want string) {
		t.Helper()
		var got string
		d.ok(d.db.Pool.QueryRow(background, `select trunk from contacts where id = $1`, rossi.contact).Scan(&got))
		if got != want {
			t.Fatalf("it is %q, not %q", got, want)
		}
	}
	accepting := &pgx.Batch{}
	accepting.Queue(`update contacts set dialled = dialled || '!' where id = $1`, rossi.contact)
	var dialled string
	d.ok(d.db.Pool.QueryRow(background, `select dialled from contacts where id = $1`, rossi.contact).Scan(&dialled))
	d.refuses(d.AcceptWith(background, o, after(3), Also{Batch: accepting, Then: names("in vain", failed)}), failed)
	d.stands(anna, "available/ offered")
	is("")
	d.ok(d.AcceptWith(background, o, after(3), Also{Batch: accepting, Then: names("accepted", nil)}))
	d.stands(anna, "available/ talking")
	is("accepted")
	d.refuses(d.AcceptWith(background, o, after(4), Also{Batch: accepting, Then: names("twice", nil)}), ErrTooLate)
	is("accepted")
	var now string
	d.ok(d.db.Pool.QueryRow(background, `select dialled from contacts where id = $1`, rossi.contact).Scan(&now))
	if now != dialled+"!" {
		t.Errorf("what was to come with the seat's lock made of %q %q", dialled, now)
	}
	noted := &pgx.Batch{}
	noted.Queue(`update contacts set node = 'noted' where id = $1 and trunk = 'accepted'`, rossi.contact)
	d.refuses(d.ReleaseWith(background, o, after(5), Also{Batch: noted, Then: names("in vain", failed)}), failed)
	d.stands(anna, "available/ talking")
	is("accepted")
	d.ok(d.Release(background, o.ID, after(5)))
	d.ok(d.ReleaseWith(background, o, after(6), Also{Batch: noted, Then: names("released", nil)}))
	is("released")
	var node string
	d.ok(d.db.Pool.QueryRow(background, `select node from contacts where id = $1`, rossi.contact).Scan(&node))
	if node != "noted" {
		t.Errorf("what was to come with the seat's lock did not: %q", node)
	}
	d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "accepted", "released")
}

// TestWrapUpsEndTogether: those that are over end in one transaction, each when it was
// to end; one that is not over stays.
func TestWrapUpsEndTogether(t *testing.T) {
	d := newDesk(t)
	var users []int64
	for i, name := range []string{"anna", "bruno", "carla"} {
		user, p := d.talks(d, name, after(0))
		d.ok(d.Release(background, d.seat(user).Offer.UUID, after(float64(10*i))))
		users = append(users, user)
		_ = p
	}
	d.ok(d.endWrapUps(background, users, after(75)))
	d.stands(users[0], "available/ idle")
	d.stands(users[1], "available/ idle")
	d.stands(users[2], "available/ wrapping")
	var transactions, instants int
	d.ok(d.db.Pool.QueryRow(background, `select count(distinct xid::text), count(distinct at) from journal where kind = 'wrapped'`).Scan(&transactions, &instants))
	if transactions != 1 || instants != 2 || !d.seat(users[1]).IdleSince.Equal(after(70)) {
		t.Fatalf("%d transactions, %d instants, and bruno is idle since %v", transactions, instants, d.seat(users[1]).IdleSince)
	}
}
