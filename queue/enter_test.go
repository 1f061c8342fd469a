package queue

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// enters is a caller who enters the queue as the desk lets them, with a match if there may be
// one; tries is how many transactions it took.
func (d *desk) enters(contact uuid.UUID, topic string, at float64) (p *Place, tries int) {
	d.tb.Helper()
	when := after(at)
	n, err := d.Entering(Entry{Contact: contact, Topic: d.topic(topic), Urgency: 2, T0: when, At: when})
	d.ok(err)
	for again := true; again; tries++ {
		over := n.Over()
		if over == nil {
			over = d.db
		}
		err = over.Tx(background, func(tx *db.Tx) error {
			n.Ahead(tx)
			if _, err := tx.Exec(background, `update contacts set tq = coalesce(tq, $2) where id = $1`, contact, when); err != nil { // as the ticket does
				return err
			}
			return n.Then(background, tx)
		})
		again = err != nil && n.Again(err)
	}
	p = n.Done(err)
	d.ok(err)
	return p, tries
}

// TestEntersToAnOperator: where somebody is free a caller has them with their place, in one
// transaction, and Wait tells so without a word to the database.
func TestEntersToAnOperator(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(-60), 0, "software")
	contact := d.call(after(0))
	p, _ := d.enters(contact, "software", 0)
	o := p.first
	if o == nil || len(d.turn) > 0 {
		t.Fatalf("nobody was offered the caller, or the turn to match was kept: %v", o)
	}
	d.written([]*Offer{o})
	d.stands(anna, "available/ offered")
	d.told(journal.ContactStream(contact), "waiting", "offered")
	runs := d.runs
	if got, err := p.Wait(background); err != nil || got != o || d.runs != runs {
		t.Fatalf("Wait: %v, %v after %d matches, want %v and none", got, err, d.runs-runs, o)
	}
	d.ok(d.Accept(background, o.ID, after(2)))
	if _, err := p.Wait(background); !errors.Is(err, ErrGone) {
		t.Fatalf("waiting on a place that was taken: %v", err)
	}
	var ordered bool
	d.ok(d.db.Pool.QueryRow(background, `select tr >= tq from contacts where id = $1`, contact).Scan(&ordered))
	if !ordered {
		t.Error("they rang before they waited")
	}
}

// TestWhoWaitsComesFirst: an operator of whom nobody has taken notice yet is for who waits
// longer, not for who comes now.
func TestWhoWaitsComesFirst(t *testing.T) {
	d := newDesk(t)
	first := d.waits("software", 2, after(0))
	anna := d.sits("anna", after(-60), 0, "software")
	p, _ := d.enters(d.call(after(1)), "software", 1)
	if p.first != nil || d.state(p) != placeWaiting || d.state(first) != placeOffered || d.seat(anna).Contact.UUID != first.contact {
		t.Fatalf("who came first is %s, who came last %s", d.state(first), d.state(p))
	}
}

// TestEntersAlone: whoever cannot be matched along only joins, and calls for a match.
func TestEntersAlone(t *testing.T) {
	const more = fewCallers + 1
	for name, c := range map[string]struct {
		before func(d *desk, anna int64) (after func())
		tries  int
	}{
		"this process matches": {func(d *desk, _ int64) func() {
			d.turn <- struct{}{}
			return func() { <-d.turn }
		}, 1},
		"another node matches": {func(d *desk, _ int64) func() {
			tx, err := d.db.Pool.Begin(background)
			d.ok(err)
			_, err = tx.Exec(background, `select pg_advisory_xact_lock($1, $2)`, matchLockClass, matchLock)
			d.ok(err)
			return func() { d.ok(tx.Rollback(background)) }
		}, 1},
		"the operator is leaving": {func(d *desk, anna int64) func() {
			tx, err := d.db.Pool.Begin(background)
			d.ok(err)
			_, err = tx.Exec(background, `select from seats where user_id = $1 for update`, anna)
			d.ok(err)
			return func() { d.ok(tx.Rollback(background)) }
		}, 2},
		"many wait": {func(d *desk, anna int64) func() {
			d.ok(d.Declare(background, anna, "break", "", after(-50)))
			for i := range more {
				d.waits("software", 2, after(float64(i)/more-30))
			}
			d.ok(d.Declare(background, anna, "available", "", after(-20)))
			return func() {}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			anna := d.sits("anna", after(-60), 0, "software")
			over := c.before(d, anna)
			called := d.db.Wakeups.Subscribe(TopicMatch)
			defer called.Close()
			contact := d.call(after(0))
			p, tries := d.enters(contact, "software", 0)
			over()
			if len(d.turn) > 0 {
				t.Fatal("the turn to match was kept")
			}
			if tries != c.tries || p.first != nil || d.state(p) != placeWaiting {
				t.Fatalf("%d tries, want %d; the place is %s, want waiting", tries, c.tries, d.state(p))
			}
			select {
			case <-called.C():
			default:
				t.Fatal("nobody was called to match")
			}
			d.told(journal.ContactStream(contact), "waiting")
			made, err := d.Match(background, after(1))
			d.ok(err)
			if len(made) != 1 || name != "many wait" && !slices.ContainsFunc(made, func(o *Offer) bool { return o.Contact == contact }) {
				t.Fatalf("%d offers then, want one", len(made))
			}
		})
	}
}
