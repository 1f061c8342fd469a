package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/private"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/siptest"
	"github.com/pronto-desk/pronto/tickets"
)

var errTalking = errors.New("still talking")

// TestDatabaseAway takes the database away during a talk: the talk goes on, a
// new caller may leave a message, and when the database is back both are there
// once.
func TestDatabaseAway(t *testing.T) {
	database := private.Config{Dir: dataDir(t), Log: slog.New(slog.DiscardHandler)}
	pg, err := private.Start(context.Background(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Stop() })
	s := newServer(t, func(s *server) {
		s.env = []string{"DATABASE_URL=" + pg.URL()}
	})
	sippPhones(t, s, sippDir(t), 1, time.Minute)
	k := newRawTrunk(t, s.sip)
	k.from = "+390551234567" // Mario Rossi's
	talk, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := talk.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	talk.press("12")
	s.contactOf(talk.id, "the talk", func(c tickets.Record) bool { return c.Tc != nil })

	pg.Stop()
	night, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, took, err := night.answer(); err != nil || status != 200 {
		t.Fatalf("with the database away: answered %d after %s: %v", status, took, err)
	}
	stop := make(chan struct{})
	sent := night.speak(stop)
	said := time.NewTimer(25 * time.Second) // courtesy, invitation and tone take about 15
	<-said.C
	close(stop)
	last := <-sent - 1
	if err := night.hangUp(); err != nil {
		t.Error(err)
	}
	select {
	case <-talk.bye:
		t.Error("the talk ended with the database")
	default:
	}
	if err := talk.hangUp(); err != nil {
		t.Error(err)
	}

	if pg, err = private.Start(context.Background(), database); err != nil {
		t.Fatal(err)
	}
	served := s.contactOf(talk.id, "the talk's end to be replayed", func(c tickets.Record) bool { return c.Ending != nil })
	if endingOf(served) != "served" || served.Te.Sub(*served.Tc) < 20*time.Second {
		t.Errorf("the talk ended %s after %s (%s)", endingOf(served), served.Te.Sub(*served.Tc), kinds(served))
	}
	message := s.contactOf(night.id, "the message to become a ticket", func(c tickets.Record) bool { return c.Ending != nil && c.Ticket != nil && c.HasRecording })
	if endingOf(message) != "voicemail" || message.NumberTold {
		t.Errorf("the message ended %s, number told: %v (%s)", endingOf(message), message.NumberTold, kinds(message))
	}
	for _, c := range []tickets.Record{served, message} {
		if strings.Count(kinds(c), "begun") != 1 || strings.Count(kinds(c), "ended") != 1 {
			t.Errorf("a fact stands twice: %s", kinds(c))
		}
	}
	var ticket tickets.Ticket
	s.must("GET", "/tickets/"+*message.Ticket, nil, &ticket)
	if !ticket.ReceivedAt.Equal(message.T0) || ticket.RequesterName != "Mario Rossi" {
		t.Errorf("the ticket is %q's, received %s; the call came %s", ticket.RequesterName, ticket.ReceivedAt, message.T0)
	}
	var wav []byte
	s.must("GET", "/contacts/"+message.ID.String()+"/recording", nil, &wav)
	sound, err := audio.ReadWAV(strings.NewReader(string(wav)))
	if err != nil {
		t.Fatal(err)
	}
	holdFrames(t, siptest.Read(sound), last, 0)
	var operators struct {
		Items []struct{ Operator, Doing string }
	}
	within(t, 20*time.Second, "anna to be free again", func() error {
		s.must("GET", "/operators", nil, &operators)
		for _, o := range operators.Items {
			if o.Doing == "talking" {
				return errTalking
			}
		}
		return nil
	})
}
