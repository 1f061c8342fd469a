package queue

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// faults gives a contact the ending of a fault, as the tickets do for a lost node.
func (d *desk) faults(contact uuid.UUID, at time.Time) {
	d.tb.Helper()
	d.exec(`update contacts set ending = 'system_fault', te = greatest($2, t0), caller = '+390551234567' where id = $1`, contact, at)
}

// clears does for a node what the leader does, without callbacks.
func (d *desk) clears(n Node, at time.Time) {
	d.tb.Helper()
	given, err := d.GiveUp(background, n, at)
	d.ok(err)
	if !given {
		d.tb.Fatalf("%s has beaten since", n.ID)
	}
	d.exec(`update contacts set ending = 'system_fault', te = greatest($2, t0) where node = $1 and ending is null`, n.ID, at)
	d.ok(d.FreeTalks(background, n.ID, at))
	d.ok(d.LeavePlaces(background, n.ID, at))
}

// TestDeadNode: the talks of a node that has died are over, its callers gone or
// to be rung back with their place, its offers withdrawn; ours go on.
func TestDeadNode(t *testing.T) {
	d := newDesk(t)
	south := deskOn(t, d.db, "south")
	d.ok(d.Recover(background, after(0)))
	south.ok(south.Recover(background, after(0)))
	ours, _ := d.talks(d, "ours", after(0))
	theirs, talker := d.talks(south, "theirs", after(0))
	waiting := south.waits("nobody", 2, after(0))
	ringing := d.sits("ringing", after(0), 60, "ringing")
	rung := south.waits("ringing", 2, after(0))
	d.offered(rung, after(0))

	for s := 0.0; s < silentAfter.Seconds(); s++ {
		d.ok(d.tend(background, after(s)))
		if list := d.Silent(); len(list) > 0 {
			t.Fatalf("silent after %g s: %+v", s, list)
		}
	}
	d.ok(d.tend(background, after(5)))
	list := d.Silent()
	if len(list) != 1 || list[0].ID != "south" {
		t.Fatalf("silent: %+v", list)
	}
	given, err := d.GiveUp(background, list[0], after(5))
	d.ok(err)
	if !given {
		t.Fatal("not given up")
	}
	// Nothing is touched before its contact has ended: that is the fence.
	d.ok(d.FreeTalks(background, "south", after(5)))
	d.ok(d.LeavePlaces(background, "south", after(5)))
	d.stands(theirs, "available/ talking")
	d.stands(ringing, "available/ offered")

	for _, p := range []*Place{talker, waiting, rung} {
		d.faults(p.contact, after(5))
	}
	d.ok(d.FreeTalks(background, "south", after(5)))
	for _, p := range []*Place{talker, waiting} {
		d.ok(d.db.Tx(background, func(tx *db.Tx) error {
			return d.BookCallback(background, tx, CallbackEntry{Contact: p.contact, Origin: FromFault, At: after(5)})
		}))
	}
	d.ok(d.LeavePlaces(background, "south", after(5)))
	d.stands(theirs, "available/ wrapping")
	d.stands(ringing, "available/ idle")
	d.stands(ours, "available/ talking")
	for p, want := range map[*Place]placeState{talker: placeBooked, waiting: placeBooked, rung: placeLeft} {
		if got := d.state(p); got != want {
			t.Errorf("a place of the dead node is %s, not %s", got, want)
		}
	}
	d.told(journal.ContactStream(rung.contact), "waiting", "offered", "withdrawn", "left")
	d.told(journal.ContactStream(talker.contact), "waiting", "offered", "accepted", "released", "booked")

	// It was only frozen: what it believes to have comes too late.
	if _, err := rung.offer(background); !errors.Is(err, ErrGone) {
		t.Errorf("the place is back: %v", err)
	}
	if _, err := waiting.offer(background); !errors.Is(err, ErrGone) {
		t.Errorf("the place is theirs: %v", err)
	}
	south.ok(south.beat(background, after(12)))
	d.ok(d.beat(background, after(12)))
	if _, lives := d.Node("south"); !lives {
		t.Error("a node that beats again does not live")
	}
	if given, err := d.GiveUp(background, list[0], after(13)); err != nil || given {
		t.Errorf("given up although it beats: %v", err)
	}
}

// TestOwnStumbleJudgesNobody: who could not look themselves does not call others
// silent: the database was away for all, most likely.
func TestOwnStumbleJudgesNobody(t *testing.T) {
	d := newDesk(t)
	south := deskOn(t, d.db, "south")
	beats := func(from, to float64, nodes ...*desk) {
		for s := from; s <= to; s++ {
			for _, n := range nodes {
				n.ok(n.tend(background, after(s)))
			}
		}
	}
	d.ok(d.Recover(background, after(0)))
	south.ok(south.Recover(background, after(0)))
	ours, _ := d.talks(d, "ours", after(0))
	theirs, _ := d.talks(south, "theirs", after(0))
	waiting := south.waits("nobody", 2, after(0))
	beats(0, 10, d, south)
	beats(14, 14, d) // a hiccup of three seconds for both; we are the first to be back
	if list := d.Silent(); len(list) > 0 {
		t.Fatalf("silent: %+v", list)
	}
	beats(15, 20, d, south)
	beats(620, 624, d) // ten minutes
	if list := d.Silent(); len(list) > 0 {
		t.Fatalf("silent: %+v", list)
	}
	beats(625, 640, d, south)
	if list := d.Silent(); len(list) > 0 {
		t.Fatalf("silent: %+v", list)
	}
	d.stands(ours, "available/ talking")
	d.stands(theirs, "available/ talking")
	if got := d.state(waiting); got != placeWaiting {
		t.Fatalf("the place is %s", got)
	}
	beats(641, 646, d)
	if list := d.Silent(); len(list) != 1 {
		t.Fatalf("silent: %+v", list)
	}
}
