package queue

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db/journal"
)

// TestSeatMoves is every change of a seat, as a table.
func TestSeatMoves(t *testing.T) {
	id := uuid.MustParse("00000000-0000-4000-8000-000000000001")
	start := Seat{User: 1, WrapUp: 60 * time.Second, Declared: Available, DeclaredAt: after(0), Doing: Idle, DoingAt: after(0), IdleSince: after(0)}
	offered := start.offered(Offer{ID: id, Contact: id, OfferedAt: after(10), ExpiresAt: after(30), node: "north"})
	talking := offered.talking(after(15))
	wrapping := talking.released(after(100))
	away := start.declare(Break, "Pausa", after(5))
	unhurried := talking
	unhurried.WrapUp = 0
	for _, c := range []struct {
		name      string
		got       Seat
		declared  Declared
		reason    string
		doing     Doing
		until     float64 // seconds; 0: none
		idleSince float64
		held      bool // an offer and a contact
	}{
		{"an offer rings until it expires", offered, Available, "", Offered, 30, 0, true},
		{"a talk lasts as long as its node renews it", talking, Available, "", Talking, 75, 0, true},
		{"an offer that came to nothing was idle time", offered.spared(after(20)), Available, "", Idle, 0, 0, false},
		{"a missed offer pauses", offered.spared(after(30)).paused(Missed, after(30)), Break, Missed, Idle, 0, 0, false},
		{"a pause of one's own is not overwritten", away.paused(Missed, after(30)), Break, "Pausa", Idle, 0, 0, false},
		{"a talk ends in the wrap-up", wrapping, Available, "", Wrapping, 160, 0, true},
		{"no wrap-up, idle at once", unhurried.released(after(100)), Available, "", Idle, 0, 100, false},
		{"idle begins after the wrap-up", wrapping.wrapped(after(160)), Available, "", Idle, 0, 160, false},
		{"available ends the wrap-up", wrapping.declare(Available, "", after(120)), Available, "", Idle, 0, 120, false},
		{"a break waits for the wrap-up", wrapping.declare(Break, "Pranzo", after(120)), Break, "Pranzo", Wrapping, 160, 0, true},
		{"a break waits for the talk", talking.declare(Break, "Pausa", after(20)), Break, "Pausa", Talking, 75, 0, true},
		{"available again during the talk", talking.declare(Off, "", after(20)).declare(Available, "", after(21)), Available, "", Talking, 75, 0, true},
		{"idle begins when one is available", away.declare(Available, "", after(50)), Available, "", Idle, 0, 50, false},
		{"available twice is once", start.declare(Available, "", after(50)), Available, "", Idle, 0, 0, false},
		{"only breaks have a reason", start.declare(Admin, "Pausa", after(50)), Admin, "", Idle, 0, 0, false},
		{"a wrap-up is extended", wrapping.extended(90 * time.Second), Available, "", Wrapping, 250, 0, true},
		{"within the limit", wrapping.extended(2 * time.Hour), Available, "", Wrapping, 100 + 3600, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := c.got
			if g.Declared != c.declared || g.Reason != c.reason || g.Doing != c.doing {
				t.Errorf("%s/%s %s", g.Declared, g.Reason, g.Doing)
			}
			if (g.DoingUntil == nil) != (g.Doing == Idle) {
				t.Errorf("%s until %v: idle has no deadline, everything else has one", g.Doing, g.DoingUntil)
			}
			if g.DoingUntil != nil && !g.DoingUntil.Equal(after(c.until)) {
				t.Errorf("until %v, not %v", g.DoingUntil, after(c.until))
			}
			if !g.IdleSince.Equal(after(c.idleSince)) {
				t.Errorf("idle since %v, not %v", g.IdleSince, after(c.idleSince))
			}
			if g.Offer.Valid != c.held || g.Contact.Valid != c.held {
				t.Errorf("offer %v, contact %v", g.Offer, g.Contact)
			}
		})
	}
}

func TestDeclare(t *testing.T) {
	d := newDesk(t)
	anna := d.operator("anna", 60, "software")
	d.stands(anna, "off/ idle")
	d.refuses(d.Declare(background, anna, "asleep", "", after(0)), ErrState)
	d.refuses(d.Declare(background, anna+100, "available", "", after(0)), ErrNoSeat)
	d.refuses(d.ExtendWrapUp(background, anna+100, time.Minute, after(0)), ErrNoSeat)
	if _, err := d.Seat(background, anna+100); err == nil {
		t.Fatal("nobody has a seat")
	}
	d.ok(d.Declare(background, anna, "available", "", after(1)))
	d.ok(d.Declare(background, anna, "available", "", after(2))) // nothing new
	d.ok(d.Declare(background, anna, "break", "Pranzo", after(3)))
	d.stands(anna, "break/Pranzo idle")
	d.told(journal.SeatStream(anna), "declared", "declared")
	d.refuses(d.ExtendWrapUp(background, anna, time.Minute, after(4)), ErrNotWrapping)

	var words int
	d.ok(d.db.Pool.QueryRow(background, `select count(*) from journal where data::text like '%Pranzo%'`).Scan(&words))
	if words != 0 {
		t.Fatal("an operator's own reason is in the journal")
	}
	list, err := d.Seats(background)
	d.ok(err)
	if len(list) != 1 || list[0].Operator != "anna" || list[0].Extension != "1001" || list[0].WrapUp != time.Minute {
		t.Fatalf("seats: %+v", list)
	}
}

// TestDeclareWhileRinging: whoever goes is not waited for.
func TestDeclareWhileRinging(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 60, "software")
	rossi := d.waits("software", 2, after(1))
	o := d.offered(rossi, after(2))
	d.ok(d.Declare(background, anna, "available", "", after(3))) // they are: nothing changes
	d.stands(anna, "available/ offered")
	d.ok(d.Declare(background, anna, "break", "Pausa", after(4)))
	d.stands(anna, "break/Pausa idle")
	if got := d.state(rossi); got != placeWaiting {
		t.Fatalf("the place is %s", got)
	}
	d.refuses(d.Accept(background, o.ID, after(5)), ErrTooLate)
	d.match(after(6), 0)
	d.told(journal.SeatStream(anna), "declared", "offered", "withdrawn", "declared")
}

// TestForce: a supervisor's word is an operator's own, and it is known whose it
// was until they, or the desk, say something else.
func TestForce(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 60, "software")
	carla := d.operator("carla", 0)
	rossi := d.waits("software", 2, after(1))
	forced := func(by string, at time.Time) {
		t.Helper()
		s := d.seat(anna)
		if s.ForcedBy != by || (s.DeclaredBy == carla) != (by == "carla") || !s.DeclaredAt.Equal(at) {
			t.Fatalf("forced by %q (%d) at %v, want %q at %v", s.ForcedBy, s.DeclaredBy, s.DeclaredAt, by, at)
		}
	}
	d.ok(d.Force(background, anna, carla, "available", "", after(1))) // they are: it stays their own
	forced("", after(0))

	o := d.offered(rossi, after(2))
	d.ok(d.Force(background, anna, carla, "break", "Riunione", after(3))) // the telephone stops ringing
	d.stands(anna, "break/Riunione idle")
	d.refuses(d.Accept(background, o.ID, after(4)), ErrTooLate)
	forced("carla", after(3))

	d.ok(d.Force(background, anna, carla, "available", "", after(5)))
	o = d.offered(rossi, after(6))
	d.ok(d.Accept(background, o.ID, after(7)))
	d.ok(d.Force(background, anna, carla, "off", "", after(8))) // the talk goes on
	d.stands(anna, "off/ talking")
	forced("carla", after(8))
	d.ok(d.Release(background, o.ID, after(20)))
	d.stands(anna, "off/ wrapping")
	d.ok(d.Force(background, anna, carla, "available", "", after(21))) // ends the wrap-up
	d.stands(anna, "available/ idle")
	forced("carla", after(21))

	verdi := d.offered(d.waits("software", 2, after(22)), after(23))
	d.ok(d.TimeOut(background, verdi.ID, after(43)))
	d.stands(anna, "break/missed idle")
	forced("", after(43)) // the desk's own doing
	d.ok(d.Force(background, anna, carla, "off", "", after(50)))
	d.ok(d.Declare(background, anna, "available", "", after(51)))
	forced("", after(51))

	var by, own int
	d.ok(d.db.Pool.QueryRow(background, `select count(*) filter (where data->>'by' = $2), count(*) filter (where data->>'by' is null)
		from journal where stream = $1 and kind = 'declared'`, journal.SeatStream(anna), itoa(carla)).Scan(&by, &own))
	if by != 5 || own != 3 {
		t.Fatalf("the journal names her %d times and not %d times", by, own)
	}
	d.refuses(d.Force(background, anna, carla, "asleep", "", after(60)), ErrState)
	d.refuses(d.Force(background, carla+100, carla, "off", "", after(60)), ErrNoSeat)
}

// TestTalk follows one call to the end of the wrap-up.
func TestTalk(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 60, "software")
	rossi := d.waits("software", 2, after(1))
	o := d.offered(rossi, after(2))
	d.ok(d.Accept(background, o.ID, after(5)))
	d.stands(anna, "available/ talking")
	d.ok(d.Declare(background, anna, "break", "Pausa", after(50)))
	d.stands(anna, "break/Pausa talking")
	d.ok(d.Release(background, o.ID, after(100)))
	d.stands(anna, "break/Pausa wrapping")
	d.ok(d.Release(background, o.ID, after(130))) // told twice
	if until := d.seat(anna).DoingUntil; !until.Equal(after(160)) {
		t.Fatalf("wrapping until %v", until)
	}
	d.ok(d.ExtendWrapUp(background, anna, 30*time.Second, after(140)))
	d.ok(d.endWrapUps(background, []int64{anna}, after(170))) // not yet
	d.stands(anna, "break/Pausa wrapping")
	d.refuses(d.ExtendWrapUp(background, anna, time.Second, after(190)), ErrNotWrapping)
	d.ok(d.endWrapUps(background, []int64{anna}, after(195))) // a little late: it ended when it was to end
	d.stands(anna, "break/Pausa idle")
	if since := d.seat(anna).IdleSince; !since.Equal(after(190)) {
		t.Fatalf("idle since %v", since)
	}
	d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "accepted", "released", "wrapped")
	d.told(journal.SeatStream(anna), "declared", "offered", "accepted", "declared", "released", "extended", "wrapped")

	var tq, tr, tw time.Time
	var operator int64
	d.ok(d.db.Pool.QueryRow(background, `select tq, tr, tw, operator_id from contacts where id = $1`, rossi.contact).Scan(&tq, &tr, &tw, &operator))
	if !tq.Equal(after(1)) || !tr.Equal(after(2)) || !tw.Equal(after(190)) || operator != anna {
		t.Fatalf("tq %v tr %v tw %v operator %d", tq, tr, tw, operator)
	}
	entries, err := journal.OfContact(background, d.db.Pool, rossi.contact)
	d.ok(err)
	if len(entries) != 5 {
		t.Fatalf("the contact's own timeline has %d lines: each event once", len(entries))
	}
}

// TestAvailableEndsWrapUp: and the next caller is offered at once.
func TestAvailableEndsWrapUp(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 60, "software")
	o := d.offered(d.waits("software", 2, after(1)), after(2))
	d.ok(d.Accept(background, o.ID, after(3)))
	verdi := d.waits("software", 2, after(4))
	d.match(after(5), 0)
	d.ok(d.Release(background, o.ID, after(10)))
	d.match(after(11), 0)
	d.ok(d.Declare(background, anna, "available", "", after(20)))
	d.offered(verdi, after(21))
	d.told(journal.SeatStream(anna), "declared", "offered", "accepted", "released", "wrapped", "offered")
}

func TestNoWrapUp(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 0, "software")
	o := d.offered(d.waits("software", 2, after(1)), after(2))
	d.ok(d.Accept(background, o.ID, after(3)))
	d.ok(d.Release(background, o.ID, after(9)))
	d.stands(anna, "available/ idle")
	d.told(journal.ContactStream(o.Contact), "waiting", "offered", "accepted", "released", "wrapped")
}
