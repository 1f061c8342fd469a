package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
)

// runs starts the queue's clocks, until the test calls the function it returns.
func (d *desk) ticks() (stop func()) {
	ctx, cancel := context.WithCancel(background)
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		d.ok(<-done)
	}
}

// TestClocks lets the clock run over a missed offer, a wrap-up and a refusal.
func TestClocks(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		defer d.ticks()()
		start := time.Now()
		pass := func(seconds float64) {
			t.Helper()
			<-time.After(time.Until(start.Add(time.Duration(seconds * float64(time.Second)))))
			synctest.Wait()
		}
		anna := d.sits("anna", start, 30, "software")
		rossi := d.waits("software", 2, start)
		pass(1)
		d.stands(anna, "available/ offered") // by Run: nobody waits on the place
		pass(19.999)
		d.stands(anna, "available/ offered")
		pass(20.001)
		d.stands(anna, "break/missed idle")

		pass(30)
		bruno := d.sits("bruno", time.Now(), 30, "software")
		pass(30.001)
		d.ok(d.Accept(background, d.offerOf(rossi).ID, time.Now()))
		pass(1000) // a long talk: its lease is renewed
		d.stands(bruno, "available/ talking")
		d.ok(d.Release(background, d.seat(bruno).Offer.UUID, time.Now()))
		pass(1029.9)
		d.stands(bruno, "available/ wrapping")
		d.ok(d.ExtendWrapUp(background, bruno, 10*time.Second, time.Now()))
		verdi := d.waits("software", 2, time.Now())
		pass(1039.9)
		d.stands(bruno, "available/ wrapping")
		pass(1040.1)
		d.stands(bruno, "available/ offered")

		d.ok(d.Decline(background, d.offerOf(verdi).ID, Refused, time.Now()))
		pass(1100)
		d.stands(bruno, "available/ idle")
		pass(1100.2)
		d.stands(bruno, "available/ offered")
		d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "timed_out", "offered", "accepted", "released", "wrapped")
		d.told(journal.ContactStream(verdi.contact), "waiting", "offered", "declined", "offered")
		d.told(journal.SeatStream(anna), "declared", "offered", "missed", "declared")
	})
}

// TestLateOffer: an offer that could not be ended in time, because the database
// was away, costs the operator nothing.
func TestLateOffer(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 0, "software")
	rossi := d.waits("software", 2, after(0))
	d.offered(rossi, after(1))
	next, _, err := d.sweep(background, after(2))
	d.ok(err)
	if !next.Equal(after(21)) {
		t.Fatalf("the next deadline is %v", next)
	}
	_, _, err = d.sweep(background, after(600))
	d.ok(err)
	d.stands(anna, "available/ idle")
	d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "withdrawn")
	next, _, err = d.sweep(background, after(601))
	d.ok(err)
	if !next.IsZero() {
		t.Fatalf("a deadline at %v, of nothing", next)
	}
}

// talks makes an operator who talks to somebody whose call a node holds.
func (d *desk) talks(on *desk, name string, at time.Time) (user int64, p *Place) {
	d.tb.Helper()
	user = d.sits(name, at, 60, name)
	p = on.waits(name, 2, at)
	d.ok(d.Accept(background, d.offered(p, at).ID, at))
	return user, p
}

// TestForgottenRelease: our own talk whose contact has its ending is over, even if
// nobody released it.
func TestForgottenRelease(t *testing.T) {
	d := newDesk(t)
	anna, rossi := d.talks(d, "anna", after(0))
	d.ok(d.tend(background, after(50)))
	d.exec(`update contacts set ending = 'served', te = $2 where id = $1`, rossi.contact, after(55))
	d.ok(d.tend(background, after(109)))
	d.stands(anna, "available/ talking")
	d.ok(d.tend(background, after(110)))
	d.stands(anna, "available/ wrapping")
}
