package queue

import (
	"testing"

	"github.com/pronto-desk/pronto/db/journal"
)

// TestRecover restarts one of two nodes while it holds a talk, a ringing offer
// and a caller who waits.
func TestRecover(t *testing.T) {
	d := newDesk(t)
	south := deskOn(t, d.db, "south")
	talking, rossi := d.talks(d, "talking", after(0))
	theirs, _ := d.talks(south, "theirs", after(0))
	waiting := d.waits("nobody", 1, after(0))
	ringing := d.sits("ringing", after(0), 60, "ringing")
	rung := d.waits("ringing", 2, after(0))
	d.offered(rung, after(0))
	other := south.waits("nobody", 2, after(0))

	restarted := New(d.db, "north", nil)
	for range 2 { // a second time changes nothing
		d.ok(restarted.Recover(background, after(5)))
		d.stands(talking, "available/ wrapping")
		d.stands(ringing, "available/ idle")
		d.stands(theirs, "available/ talking")
		for p, want := range map[*Place]placeState{waiting: placeLeft, rung: placeLeft, rossi: placeTaken, other: placeWaiting} {
			if got := d.state(p); got != want {
				t.Errorf("a place is %s, not %s", got, want)
			}
		}
	}
	if until := d.seat(talking).DoingUntil; !until.Equal(after(65)) {
		t.Errorf("wrapping until %v", until)
	}
	d.told(journal.ContactStream(rung.contact), "waiting", "offered", "withdrawn", "left")
	d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "accepted", "released")
}
