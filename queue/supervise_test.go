package queue

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// TestSupervise: one supervisor takes part in one talk, if its two hear each other;
// they are offered nobody meanwhile, and change and end as they like.
func TestSupervise(t *testing.T) {
	d := newDesk(t)
	anna, rossi := d.talks(d, "anna", after(0))
	bruno, _ := d.talks(d, "bruno", after(1))
	carla, dora := d.sits("carla", after(0), 60, "carla"), d.operator("dora", 60)
	offer := d.seat(anna).Offer.UUID
	d.refuses(d.Supervise(background, carla, uuid.New(), Listen, after(5)), ErrNotTalking)
	d.refuses(d.Supervise(background, bruno, offer, Listen, after(5)), ErrSeatBusy)
	d.refuses(d.Supervise(background, anna, offer, Listen, after(5)), ErrSeatBusy)
	d.refuses(d.SuperviseAs(background, carla, Barge, after(5)), ErrNotSupervising)
	d.refuses(d.StopSupervising(background, dora, after(5)), ErrNotSupervising)
	d.ok(d.Stands(background, offer, Held, "", journal.OnHold, Target{}, after(6)))
	d.refuses(d.Supervise(background, carla, offer, Listen, after(7)), ErrNotNow)
	d.ok(d.Stands(background, offer, Together, "", journal.Resumed, Target{}, after(8)))

	d.ok(d.Supervise(background, carla, offer, Listen, after(10)))
	d.refuses(d.Supervise(background, carla, d.seat(bruno).Offer.UUID, Listen, after(11)), ErrSupervises)
	d.refuses(d.Supervise(background, dora, offer, Listen, after(11)), ErrSupervised)
	s, err := d.AwaitSupervision(background, &Offer{ID: offer}, nil)
	d.ok(err)
	if s.By != carla || s.As != Listen || s.Since != nil || s.Of != "anna" || s.Extension != d.seat(carla).Extension {
		t.Fatalf("the conversation is told %+v", s)
	}
	verdi := d.waits("carla", 2, after(12))
	d.match(after(12), 0)
	if d.seat(carla).free() {
		t.Error("a supervisor who takes part in a talk is free")
	}
	d.ok(d.Supervises(background, s, after(13)))
	d.ok(d.SuperviseAs(background, carla, Whisper, after(14)))
	d.ok(d.SuperviseAs(background, carla, Whisper, after(15))) // nothing new
	if seat := d.seat(anna); seat.Supervisor != "carla" || seat.SupervisorPart != Whisper || !seat.SupervisorSince.Equal(after(13)) {
		t.Errorf("anna's seat says %+v", seat)
	}
	d.ok(d.Supervised(background, s, "", after(16)))
	d.refuses(d.Supervised(background, s, "", after(17)), ErrNotSupervising)
	if seat := d.seat(anna); seat.Supervisor != "" || seat.SupervisorSince != nil {
		t.Errorf("anna's seat says %+v", seat)
	}
	d.match(after(18), 1)
	d.ok(d.Decline(background, d.offerOf(verdi).ID, Refused, after(18)))
	d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "accepted", "held", "resumed",
		"supervision_asked", "supervision_began", "supervision_changed", "supervision_ended")

	// What was asked before ends nothing that was asked since.
	d.ok(d.Supervise(background, carla, offer, Barge, after(20)))
	d.refuses(d.Supervised(background, s, "no_answer", after(21)), ErrNotSupervising)
	again, err := d.AwaitSupervision(background, &Offer{ID: offer}, nil)
	d.ok(err)
	d.ok(d.Supervised(background, again, "no_answer", after(22)))
	if seat := d.seat(carla); seat.Supervises.Valid || seat.SupervisesWhy != "no_answer" {
		t.Errorf("carla's seat says %+v", seat)
	}
}

// TestSupervisionEndsWithTheTalk: who takes part in a talk that is over, handed over,
// or left by a crash takes part in nothing, and is offered callers again.
func TestSupervisionEndsWithTheTalk(t *testing.T) {
	d := newDesk(t)
	anna, rossi := d.talks(d, "anna", after(0))
	carla, bruno := d.sits("carla", after(0), 60, "carla"), d.sits("bruno", after(0), 60)
	offer := d.seat(anna).Offer.UUID
	d.ok(d.Supervise(background, carla, offer, Listen, after(1)))
	s, err := d.AwaitSupervision(background, &Offer{ID: offer}, nil)
	d.ok(err)
	gone := make(chan *Supervision)
	go func() {
		now, _ := d.AwaitSupervision(background, &Offer{ID: offer}, s)
		gone <- now
	}()
	asked, err := d.Ask(background, offer, bruno, after(2))
	d.ok(err)
	d.ok(d.Accept(background, asked.ID, after(3)))
	d.ok(d.HandOver(background, offer, asked.ID, after(4)))
	if now := <-gone; now != nil {
		t.Errorf("after handing over the conversation is told %+v", now)
	}
	d.refuses(d.Supervises(background, s, after(5)), ErrNotSupervising)
	d.refuses(d.SuperviseAs(background, carla, Barge, after(5)), ErrNotSupervising)
	d.refuses(d.StopSupervising(background, carla, after(5)), ErrNotSupervising)
	if d.seat(bruno).Supervisor != "" || !d.seat(carla).free() {
		t.Error("carla was handed over with the caller")
	}
	d.ok(d.Supervise(background, carla, asked.ID, Whisper, after(6))) // the same talk, another operator
	d.ok(d.db.Tx(background, func(tx *db.Tx) error { return d.Dismiss(background, tx, carla, after(6)) }))
	if d.seat(bruno).Supervisor != "" {
		t.Error("who was let go takes part")
	}
	d.ok(d.Declare(background, carla, "available", "", after(6)))
	d.ok(d.Supervise(background, carla, asked.ID, Whisper, after(6)))
	d.ok(New(d.db, "north", nil).Recover(background, after(7)))
	if !d.seat(carla).free() {
		t.Error("a crash has left a supervisor in a talk")
	}
	d.waits("carla", 2, after(8))
	d.match(after(8), 1)
	d.told(journal.ContactStream(rossi.contact), "waiting", "offered", "accepted", "supervision_asked", "offered", "accepted", "given",
		"supervision_ended", "released", "joined", "supervision_asked", "supervision_ended", "supervision_asked", "supervision_ended", "released")
	over, cancel := context.WithCancelCause(background)
	time.AfterFunc(time.Millisecond, func() { cancel(errRehearsed) })
	if _, err := d.AwaitSupervision(over, &Offer{ID: offer}, nil); err != errRehearsed {
		t.Errorf("the end of a talk is %v", err)
	}
}
