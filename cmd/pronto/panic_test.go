package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// stumbling is an ivr.Phones that panics, on whichever goroutine it is asked.
type stumbling struct{}

func (stumbling) Ring(context.Context, *queue.Offer, *tickets.Contact, func(context.Context, time.Time) error) (media.Leg, error) {
	panic("no telephone rings today")
}

func (stumbling) RingFirst(context.Context, *queue.Offer, string, func(context.Context, time.Time) error) (media.Leg, error) {
	panic("no telephone rings today")
}

func (stumbling) RingSupervisor(context.Context, *queue.Supervision) (media.Leg, error) {
	panic("no telephone")
}

// TestPanicWhileRinging: an accident while an operator is rung is one caller's,
// who is asked for a message; the desk and the others go on.
func TestPanicWhileRinging(t *testing.T) {
	gate, url := newGate(t, dbtest.URL(t))
	dir := dataDir(t)
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, gate: gate, operators: map[string]*actor{}, callers: map[string]*actor{}}
		if err := s.open(url, dir, []string{"2026-03-02", "09:00"}); err != nil {
			t.Fatal(err)
		}
		sound := s.house.desk.Phones
		s.house.desk.Phones = stumbling{}
		lines := func(list ...string) {
			for _, line := range list {
				if err := s.play(fields(line)); err != nil {
					s.explain()
					t.Errorf("%s: %v", line, err)
				}
			}
		}
		lines("anna sits", "rossi dials 800000001", "rossi presses 12", "rossi hears-at-last guasto", "rossi hears lasci_messaggio",
			"rossi hears beep", `rossi says 5s "non funziona"`, "rossi hangs up", "contact rossi voicemail recorded ticket 2026-1")
		s.house.desk.Phones = sound
		<-time.After(queue.RingLongest) // the bubble's time
		lines("anna declares available", "bianchi dials 800000001", "bianchi presses 12", "anna lifts", "anna does talking",
			"bianchi hangs up", "contact bianchi served by anna")
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
}
