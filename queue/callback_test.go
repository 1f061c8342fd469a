package queue

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

const rossisNumber = "+390551234567"

// rungBack is a caller who has asked to be rung back.
func (d *desk) rungBack(topic string, urgency int, t0 time.Time) *Place {
	d.tb.Helper()
	p := d.waits(topic, urgency, t0)
	d.ok(p.ToCallback(background, rossisNumber, t0.Add(time.Second)))
	return p
}

// ends gives a contact its ending.
func (d *desk) ends(contact uuid.UUID, ending string, at time.Time) {
	d.tb.Helper()
	d.exec(`update contacts set ending = $2, te = $3 where id = $1`, contact, ending, at)
}

// pendingFor is the pending offer of a contact, also of one to be rung back.
func (d *desk) pendingFor(contact uuid.UUID) *Offer {
	d.tb.Helper()
	offers, err := ids(background, d.db.Pool, `select id from offers where contact_id = @contact and state = 'pending'`, args{"contact": contact})
	d.ok(err)
	if len(offers) != 1 {
		d.tb.Fatalf("%d offers are pending for %s", len(offers), contact)
	}
	o, err := d.Offer(background, offers[0])
	d.ok(err)
	return o
}

// attempt begins the outbound contact of an offer, as an operator who lifts does.
func (d *desk) attempt(o *Offer, at time.Time) uuid.UUID {
	d.tb.Helper()
	id := d.call(at)
	d.exec(`update contacts set direction = 'outbound' where id = $1`, id)
	d.ok(d.db.Tx(background, func(tx *db.Tx) error { return d.AcceptCallback(background, tx, o.ID, id, at) }))
	return id
}

// booked reads the newest callback of a contact: its outcome and attempts.
func (d *desk) booked(contact uuid.UUID) (id uuid.UUID, outcome string, attempts int) {
	d.tb.Helper()
	d.ok(d.db.Pool.QueryRow(background, `select id, coalesce(outcome, ''), attempts from callbacks where contact_id = $1 order by booked_at desc limit 1`, contact).
		Scan(&id, &outcome, &attempts))
	return id, outcome, attempts
}

// standsAt is where a callback's place stands.
func (d *desk) standsAt(contact uuid.UUID) (state placeState) {
	d.tb.Helper()
	d.ok(d.db.Pool.QueryRow(background, `select state from places where contact_id = $1 and kind = 'callback'`, contact).Scan(&state))
	return state
}

// TestCallbackKeepsPlace: who hangs up and is to be rung back is served in the
// order of the first INVITE, among those who wait on the line.
func TestCallbackKeepsPlace(t *testing.T) {
	d := newDesk(t)
	first := d.waits("software", 2, after(0))
	rossi := d.rungBack("software", 2, after(1))
	last := d.waits("software", 2, after(2))
	d.ends(rossi.contact, "callback_booked", after(3))
	anna := d.sits("anna", after(4), 0, "software")

	o := d.offered(first, after(5))
	d.ok(d.Accept(background, o.ID, after(6)))
	d.ok(d.Release(background, o.ID, after(7)))
	d.DialsOut(true)
	d.match(after(8), 1)
	if o = d.pendingFor(rossi.contact); o.node != d.node || o.Operator != anna {
		t.Fatalf("offered: %+v", o)
	}
	attempt := d.attempt(o, after(9))
	d.stands(anna, "available/ talking")
	if got := d.seat(anna).Contact.UUID; got != attempt {
		t.Fatalf("anna is with %s, not with the attempt", got)
	}
	d.ok(d.Attempted(background, attempt, Reached, after(20)))
	d.ok(d.Attempted(background, attempt, SystemFault, after(21))) // told before
	d.ok(d.Release(background, o.ID, after(30)))
	if _, outcome, n := d.booked(rossi.contact); outcome != "reached" || n != 1 {
		t.Fatalf("the callback: %s after %d attempts", outcome, n)
	}
	d.offered(last, after(31))
	d.told(journal.ContactStream(rossi.contact), "waiting", "booked", "offered", "accepted", "attempted")
	d.told(journal.ContactStream(attempt), "released", "wrapped")
}

// TestCallbackWithoutLine: a node that cannot dial offers no callback, and those
// who wait on the line are served all the same.
func TestCallbackWithoutLine(t *testing.T) {
	d := newDesk(t)
	rossi := d.rungBack("software", 1, after(0))
	verdi := d.waits("software", 2, after(1))
	d.sits("anna", after(2), 0, "software")
	d.offered(verdi, after(3))
	d.sits("bruno", after(4), 0, "software")
	d.match(after(5), 0)
	d.DialsOut(true)
	d.match(after(6), 1)
	d.pendingFor(rossi.contact)
}

// TestCallbackNeverMoreThanOperators: each of them holds an operator.
func TestCallbackNeverMoreThanOperators(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	for n := range 5 {
		d.rungBack("software", 2, after(float64(n)))
	}
	d.sits("anna", after(10), 0, "software")
	d.sits("bruno", after(10), 0, "software")
	d.match(after(11), 2)
	d.match(after(12), 0)
}

// TestToCallbackWhileRinging: the operator's telephone is spared, the caller has
// gone, and is the next to be offered.
func TestToCallbackWhileRinging(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	anna := d.sits("anna", after(0), 0, "software")
	rossi := d.waits("software", 2, after(1))
	o := d.offered(rossi, after(2))
	d.refuses(rossi.ToCallback(background, "", after(3)), ErrNoNumber)
	d.ok(rossi.ToCallback(background, rossisNumber, after(3)))
	d.refuses(rossi.ToCallback(background, rossisNumber, after(3)), ErrBooked)
	d.stands(anna, "available/ idle")
	d.refuses(d.Accept(background, o.ID, after(4)), ErrTooLate)
	d.ok(rossi.Leave(background, after(5)))
	d.match(after(6), 1)
	o = d.pendingFor(rossi.contact)
	if err := d.Accept(background, o.ID, after(7)); err == nil {
		t.Fatal("a callback was accepted without an attempt")
	}
	d.ok(d.TimeOut(background, o.ID, after(26)))
	d.stands(anna, "break/missed idle")
	if got := d.standsAt(rossi.contact); got != placeWaiting {
		t.Fatalf("the place is %s", got)
	}
	_, err := rossi.Wait(background) // the call it began with
	d.refuses(err, ErrGone)
}

// TestToCallbackTooLate: an operator has just lifted.
func TestToCallbackTooLate(t *testing.T) {
	d := newDesk(t)
	d.sits("anna", after(0), 0, "software")
	rossi := d.waits("software", 2, after(1))
	o := d.offered(rossi, after(2))
	d.ok(d.Accept(background, o.ID, after(3)))
	d.refuses(rossi.ToCallback(background, rossisNumber, after(4)), ErrTalking)
}

// TestNotReached: three attempts, a quarter of an hour apart, then a person decides.
func TestNotReached(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	rossi := d.rungBack("software", 2, after(0))
	d.ends(rossi.contact, "callback_booked", after(1))
	anna := d.sits("anna", after(2), 60, "software")
	at := after(3)
	for n, outcome := range []Outcome{NoAnswer, Engaged, NoAnswer} {
		d.match(at, 1)
		o := d.pendingFor(rossi.contact)
		attempt := d.attempt(o, at.Add(time.Second))
		at = at.Add(30 * time.Second)
		d.ok(d.Attempted(background, attempt, outcome, at))
		d.ok(d.ReleaseUnreached(background, o.ID, at))
		d.stands(anna, "available/ wrapping")
		d.ok(d.endWrapUps(background, []int64{anna}, at.Add(unreachedWrapUp)))
		d.stands(anna, "available/ idle") // a minute would be for a talk
		d.ends(attempt, "not_reached", at)
		if _, _, attempts := d.booked(rossi.contact); attempts != n+1 {
			t.Fatalf("%d attempts are counted after %d", attempts, n+1)
		}
		d.match(at.Add(CallbackAgain-time.Second), 0)
		next, _, err := d.sweep(background, at.Add(unreachedWrapUp))
		d.ok(err)
		if n < CallbackTries-1 && !next.Equal(at.Add(CallbackAgain)) {
			t.Fatalf("the clock is set to %v", next)
		}
		at = at.Add(CallbackAgain)
	}
	d.match(at, 0)
	if _, outcome, _ := d.booked(rossi.contact); outcome != "not_reached" {
		t.Fatalf("the callback is %q", outcome)
	}
	var due string
	d.ok(d.db.Pool.QueryRow(background, `select coalesce(ring_back, '') from contacts where id = $1`, rossi.contact).Scan(&due))
	if due != "due" {
		t.Fatal("nobody is told that the customer was not reached")
	}
}

// TestHopeless: a number that nobody has is not dialled again.
func TestHopeless(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	rossi := d.rungBack("software", 2, after(0))
	d.sits("anna", after(2), 0, "software")
	d.match(after(3), 1)
	o := d.pendingFor(rossi.contact)
	d.ok(d.Attempted(background, d.attempt(o, after(4)), WrongNumber, after(5)))
	d.ok(d.ReleaseUnreached(background, o.ID, after(5)))
	d.match(after(100000), 0)
}

// TestBookCallback books a call that ended long ago.
func TestBookCallback(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	d.topic("software")
	lost := d.call(after(0))
	book := func(e CallbackEntry) error {
		return d.db.Tx(background, func(tx *db.Tx) error { return d.BookCallback(background, tx, e) })
	}
	d.ends(lost, "abandoned_queue", after(1))
	e := CallbackEntry{Contact: lost, Origin: FromLost, At: after(10)}
	d.refuses(book(e), ErrNoNumber) // withheld
	e.Number = rossisNumber
	d.ok(book(e))
	d.refuses(book(e), ErrBooked)
	d.sits("anna", after(11), 0, "software")
	d.match(after(12), 1)
	d.ok(d.Withdraw(background, d.pendingFor(lost).ID, after(13)))

	id, _, _ := d.booked(lost)
	d.ok(d.CancelCallback(background, id, 0, after(14)))
	d.refuses(d.CancelCallback(background, id, 0, after(15)), ErrNotBooked)
	d.match(after(16), 0)
	d.ok(book(e)) // again, after it was cancelled
	d.match(after(17), 1)
	d.told(journal.ContactStream(lost), "booked", "offered", "withdrawn", "cancelled", "booked", "offered")

	// Who waits on a line that died keeps the place.
	verdi := d.waits("software", 2, after(18))
	joined := after(18)
	d.ok(book(CallbackEntry{Contact: verdi.contact, Origin: FromFault, Number: rossisNumber, At: after(40)}))
	list, err := d.Waiting(background)
	d.ok(err)
	if len(list) != 2 || list[1].Contact != verdi.contact || !list[1].Callback || !list[1].JoinedAt.Equal(joined) {
		t.Fatalf("waiting: %+v", list)
	}
}

// TestServedThenRungBack: a talk that is over stands in nobody's way.
func TestServedThenRungBack(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	d.sits("anna", after(0), 0, "software")
	rossi := d.waits("software", 2, after(1))
	o := d.offered(rossi, after(2))
	d.ok(d.Accept(background, o.ID, after(3)))
	d.ok(d.Release(background, o.ID, after(4)))
	d.ends(rossi.contact, "served", after(4))
	d.ok(d.db.Tx(background, func(tx *db.Tx) error {
		return d.BookCallback(background, tx, CallbackEntry{Contact: rossi.contact, Origin: FromTicket, Number: rossisNumber, At: after(5)})
	}))
	d.match(after(6), 1)
	d.attempt(d.pendingFor(rossi.contact), after(7))
}

// rossi makes a contact of rossi's own number: he rings, once more.
func (d *desk) rossi(t0 time.Time) uuid.UUID {
	d.tb.Helper()
	id := d.call(t0)
	d.exec(`update contacts set caller = $2, caller_source = 'asserted', match = 'certain' where id = $1`, id, rossisNumber)
	return id
}

// booksRossi is rossi, who waited, asked to be rung back and hung up.
func (d *desk) booksRossi(topic string, t0 time.Time) uuid.UUID {
	d.tb.Helper()
	id := d.rossi(t0)
	d.ok(d.join(id, topic, 2, t0, t0).ToCallback(background, rossisNumber, t0.Add(time.Second)))
	d.ends(id, "callback_booked", t0.Add(2*time.Second))
	return id
}

// TestServedMeanwhile: who did not wait to be rung back and rings again waits once,
// where they stood, is not dialled meanwhile, and is not rung back when an operator
// has spoken with them.
func TestServedMeanwhile(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	first := d.booksRossi("software", after(0))
	d.exec(`update contacts set ring_back = 'due' where id = $1`, first)
	later := d.waits("software", 2, after(10))
	again := d.rossi(after(60))
	anna := d.sits("anna", after(61), 0, "software")
	d.match(after(61), 1) // he is in the menu: nobody dials a number that is on the line
	d.ok(d.Withdraw(background, d.offerOf(later).ID, after(62)))
	rossi := d.join(again, "software", 2, after(60), after(63))
	if f, err := d.Forecast(background, again, after(63)); err != nil || f.Position != 1 {
		t.Fatalf("he is told to be number %d (%v): his own place counts once", f.Position, err)
	}
	o := d.offered(rossi, after(64)) // before the one who came after his first call
	d.ok(d.Accept(background, o.ID, after(65)))
	id, outcome, attempts := d.booked(first)
	if outcome != "served" || attempts != 0 || d.standsAt(first) != placeLeft {
		t.Fatalf("the callback: %q after %d attempts, its place is %s", outcome, attempts, d.standsAt(first))
	}
	var due string
	var by int64
	d.ok(d.db.Pool.QueryRow(background, `select ring_back, ring_back_by from contacts where id = $1`, first).Scan(&due, &by))
	if due != "taken" || by != anna {
		t.Fatalf("the first call is still to be rung back: %s by %d", due, by)
	}
	d.refuses(d.CancelCallback(background, id, 0, after(66)), ErrNotBooked)
	d.told(journal.ContactStream(first), "waiting", "booked", "cancelled")
}

// TestServedByAnother: a callback stands when somebody else is served, or when the
// number says nothing about who rings, or when nobody was served.
func TestServedByAnother(t *testing.T) {
	for _, c := range []struct {
		name, number, match string
		accepted            bool
	}{
		{"another number", "+390559999999", "certain", true},
		{"withheld", "", "withheld", true},
		{"a practice's telephone", rossisNumber, "several", true},
		{"gave up again", rossisNumber, "certain", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.DialsOut(true)
			first := d.booksRossi("software", after(0))
			d.topic("rete")
			again := d.call(after(60))
			d.exec(`update contacts set caller = $2, match = $3 where id = $1`, again, c.number, c.match)
			p := d.join(again, "rete", 2, after(60), after(60))
			d.sits("anna", after(61), 0, "rete")
			o := d.offered(p, after(62))
			if c.accepted {
				d.ok(d.Accept(background, o.ID, after(63)))
				d.ok(d.Release(background, o.ID, after(70)))
			} else {
				d.ok(p.Leave(background, after(63)))
			}
			d.ends(again, "served", after(70))
			if _, outcome, _ := d.booked(first); outcome != "" {
				t.Fatalf("the callback is over: %q", outcome)
			}
			d.sits("bruno", after(71), 0, "software")
			d.match(after(72), 1)
			d.pendingFor(first)
		})
	}
}

// TestServedWhileDialled: he is served on his other line while we ring the first,
// or while the telephone of who is to ring him rings. Neither is tried again.
func TestServedWhileDialled(t *testing.T) {
	for name, dialled := range map[string]bool{"dialled": true, "offered": false} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.DialsOut(true)
			first := d.booksRossi("software", after(0))
			d.sits("anna", after(1), 0, "software")
			d.match(after(2), 1)
			o := d.pendingFor(first)
			var attempt uuid.UUID
			if dialled {
				attempt = d.attempt(o, after(3))
			}
			rossi := d.join(d.rossi(after(4)), "software", 2, after(4), after(4))
			d.sits("bruno", after(5), 0, "software")
			live := d.offered(rossi, after(6))
			d.ok(d.Accept(background, live.ID, after(7)))
			if _, outcome, _ := d.booked(first); outcome != "" {
				t.Fatalf("over in the middle of an attempt: %q", outcome)
			}
			if dialled {
				d.ok(d.Attempted(background, attempt, Engaged, after(8)))
			} else {
				d.ok(d.Withdraw(background, o.ID, after(8)))
			}
			if _, outcome, _ := d.booked(first); outcome != "served" || d.standsAt(first) != placeLeft {
				t.Fatalf("the callback is %q, its place %s", outcome, d.standsAt(first))
			}
		})
	}
}

// TestCallbackAgain: who rings again and asks again to be rung back is rung back
// once, and keeps the first place; about another topic it is another matter.
func TestCallbackAgain(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	first := d.booksRossi("software", after(0))
	other := d.booksRossi("rete", after(5))
	between := d.waits("software", 2, after(10))
	second := d.booksRossi("software", after(60))
	if _, outcome, _ := d.booked(first); outcome != "cancelled" || d.standsAt(first) != placeLeft {
		t.Fatalf("the first callback is %q, its place %s", outcome, d.standsAt(first))
	}
	if _, outcome, _ := d.booked(other); outcome != "" {
		t.Fatalf("the other matter's callback is %q", outcome)
	}
	d.sits("anna", after(70), 0, "software")
	d.match(after(71), 1)
	d.pendingFor(second)
	if d.state(between) != placeWaiting {
		t.Fatal("whoever came in between was served first")
	}
}

// TestGivenOnAfterRingingBack: who was rung back and is given on waits where they stood,
// before whoever came since; who then hangs up can be rung back once more. Of another
// callback of theirs nothing was said.
func TestGivenOnAfterRingingBack(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	first := d.booksRossi("software", after(0))
	other := d.booksRossi("rete", after(5))
	between := d.waits("carta", 2, after(20))
	anna := d.sits("anna", after(30), 60, "software")
	d.match(after(31), 1)
	attempt := d.attempt(d.pendingFor(first), after(32))
	d.exec(`update contacts set caller = $2, match = 'certain' where id = $1`, attempt, rossisNumber)
	d.ok(d.Attempted(background, attempt, Reached, after(33)))
	d.wants(anna, Command{Wish: Transfer, Target: Target{Topic: d.topic("carta")}}, after(34))
	d.ok(d.Give(background, d.seat(anna).Offer.UUID, Target{Topic: d.topic("carta")}, "", after(35)))
	d.stands(anna, "available/ wrapping")
	bruno := d.sits("bruno", after(36), 60, "carta")
	place := d.Place(attempt)
	o := d.offered(place, after(37))
	if o.Operator != bruno || d.state(between) != placeWaiting {
		t.Fatalf("whoever came later was served first: %+v", o)
	}
	var ring *time.Time
	d.ok(d.db.Pool.QueryRow(background, `select tr from contacts where id = $1`, attempt).Scan(&ring))
	if ring != nil {
		t.Errorf("a Tr of somebody whom we rang: %s", ring)
	}
	d.ok(d.Accept(background, o.ID, after(38)))
	if _, outcome, _ := d.booked(other); outcome != "" {
		t.Errorf("the other matter's callback is %q", outcome)
	}
	d.ok(d.Give(background, o.ID, Target{Topic: d.topic("software")}, "", after(39)))
	d.ok(place.Leave(background, after(40)))
	d.ends(attempt, "abandoned_queue", after(41))
	d.told(journal.ContactStream(attempt), "given", "released", "waiting", "offered", "accepted", "given", "released", "waiting", "left")
	d.ok(d.Declare(background, bruno, "available", "", after(42)))
	again, err := d.RingBackNow(background, anna, CallbackEntry{Contact: attempt, Origin: FromLost, At: after(43)})
	d.ok(err)
	if o := d.pendingFor(attempt); o.ID != again {
		t.Errorf("not rung back once more: %+v", o)
	}
	d.attempt(d.pendingFor(attempt), after(44))
}

// TestTwoOnOneNumber: of two who call at the same time from one number, as two
// doctors of one practice do, each keeps what was promised to them.
func TestTwoOnOneNumber(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	first, second, third := d.rossi(after(0)), d.rossi(after(1)), d.rossi(after(2))
	places := []*Place{d.join(first, "software", 2, after(0), after(3)), d.join(second, "software", 2, after(1), after(4))}
	waiting := d.join(third, "software", 2, after(2), after(5))
	for i, p := range places {
		d.ok(p.ToCallback(background, rossisNumber, after(6+float64(i))))
	}
	d.ends(first, "callback_booked", after(8))
	d.ends(second, "callback_booked", after(8))
	d.sits("anna", after(9), 0, "software")
	d.match(after(10), 1) // nobody dials a number that is on the line
	d.ok(d.Accept(background, d.offerOf(waiting).ID, after(11)))
	for _, contact := range []uuid.UUID{first, second} {
		if _, outcome, _ := d.booked(contact); outcome != "" || d.standsAt(contact) != placeWaiting {
			t.Errorf("a promise of another's is %q, its place %s", outcome, d.standsAt(contact))
		}
	}
}

// TestRecoverCallbacks: a crash keeps every callback, one in the middle of an
// attempt is tried again at once, and the attempt counts.
func TestRecoverCallbacks(t *testing.T) {
	d := newDesk(t)
	d.DialsOut(true)
	booked := d.rungBack("software", 2, after(0))
	anna := d.sits("anna", after(1), 0, "software")
	bruno := d.sits("bruno", after(2), 0, "software")
	ringing := d.rungBack("software", 1, after(3))
	dialled := d.rungBack("software", 1, after(2))
	d.match(after(4), 2)
	attempt := d.attempt(d.pendingFor(dialled.contact), after(5))

	d.ok(d.Recover(background, after(6)))
	d.ok(d.Recover(background, after(7))) // harmless
	d.stands(anna, "available/ idle")
	d.stands(bruno, "available/ idle")
	for _, p := range []*Place{booked, ringing, dialled} {
		if got := d.standsAt(p.contact); got != placeWaiting {
			t.Errorf("the place is %s", got)
		}
	}
	if _, outcome, n := d.booked(dialled.contact); outcome != "" || n != 1 {
		t.Fatalf("the callback: %q after %d attempts", outcome, n)
	}
	var what string
	d.ok(d.db.Pool.QueryRow(background, `select outcome from contacts where id = $1`, attempt).Scan(&what))
	if what != string(SystemFault) {
		t.Fatalf("the attempt is %q", what)
	}
	d.match(after(8), 2)
	d.pendingFor(dialled.contact)
	d.pendingFor(ringing.contact)
}

// TestCallbackOfDeadNode: another node that can dial rings back instead.
func TestCallbackOfDeadNode(t *testing.T) {
	shared := dbtest.New(t)
	north, south := deskOn(t, shared, "north"), deskOn(t, shared, "south")
	north.DialsOut(true)
	south.DialsOut(true)
	north.ok(north.beat(background, after(0)))
	rossi := north.rungBack("software", 2, after(0))
	waiting := north.rungBack("software", 2, after(1))
	north.sits("anna", after(1), 0, "software")
	north.match(after(2), 1)
	north.attempt(north.pendingFor(rossi.contact), after(3))

	dead := after(3).Add(talkLease)
	south.ok(south.beat(background, dead))
	south.clears(Node{ID: "north", SeenAt: after(0)}, dead)
	if got := south.standsAt(rossi.contact); got != placeWaiting {
		t.Fatalf("the place is %s", got)
	}
	south.match(dead, 1)
	if o := south.pendingFor(rossi.contact); o.node != "south" {
		t.Fatalf("conducted by %s", o.node)
	}
	if got := south.standsAt(waiting.contact); got != placeWaiting {
		t.Fatalf("who waits to be rung back was given up: %s", got)
	}
}
