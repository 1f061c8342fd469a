package queue

import (
	"context"
	"testing"

	"github.com/pronto-desk/pronto/db/journal"
)

// TestBecame: what became of a transfer is what the journal says of the seat since; one
// that is not done is a line of the contact's, with no number in it.
func TestBecame(t *testing.T) {
	d := newDesk(t)
	anna, place := d.talks(d, "anna", after(0))
	bruno := d.sits("bruno", after(0), 60, "bruno")
	offer := d.seat(anna).Offer.UUID
	mark := func() int {
		n, err := d.Mark(background, anna)
		d.ok(err)
		return n
	}
	became := func(mark int, want journal.Kind, why string) {
		t.Helper()
		kind, reason, err := d.Became(background, anna, mark)
		if d.ok(err); kind != want || reason != why {
			t.Errorf("it became %s %q, not %s %q", kind, reason, want, why)
		}
	}
	first := mark()
	over, cancel := context.WithCancelCause(background)
	cancel(errRehearsed)
	if _, _, err := d.Became(over, anna, first); err != errRehearsed {
		t.Errorf("the end of the wait is %v", err)
	}
	d.ok(d.NotReferred(background, anna, "", 403, after(1)))
	d.ok(d.NotReferred(background, 0, "nobody's", 403, after(1)))
	d.ok(d.Stands(background, offer, Together, "not_free", journal.Returned, Target{Operator: bruno}, after(2)))
	became(first, journal.Returned, "not_free")
	second := mark()
	heard := make(chan journal.Kind)
	go func() {
		kind, _, _ := d.Became(background, anna, second)
		heard <- kind
	}()
	d.ok(d.Give(background, offer, Target{Operator: bruno}, "", after(3)))
	if kind := <-heard; kind != journal.Given {
		t.Errorf("the telephone hears %q", kind)
	}
	became(second, journal.Given, "")
	var refused, status int
	d.ok(d.db.Pool.QueryRow(background, `select count(*), max((data ->> 'status')::int) from journal where kind = 'not_given' and contact_id = $1`, place.contact).Scan(&refused, &status))
	if refused != 1 || status != 403 {
		t.Errorf("%d refusals, %d", refused, status)
	}
}
