package web

import (
	"testing"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/tickets"
)

// A number of one's own choice is dialled for who may, in the dial plan, with a line.
func TestOutside(t *testing.T) {
	s := &Server{Config: Config{Queue: new(queue.Queue), Plan: tickets.DialPlan{Prefixes: []string{"+390"}}, DialsFreely: []Role{Supervisor}}}
	const doctor = "+39 055 1234567"
	if _, err := s.outside(User{Role: Supervisor}, doctor); err == nil {
		t.Error("without a line somebody is dialled")
	}
	s.Queue.DialsOut(true)
	if _, err := s.outside(User{Role: Operator}, doctor); err == nil {
		t.Error("who may not dials")
	}
	for _, number := range []string{"112", "+39899123456", "+3933312345678", "+33123456789", "sip:rossi@example.com", ""} {
		if _, err := s.outside(User{Role: Supervisor}, number); err == nil {
			t.Errorf("%q is dialled", number)
		}
	}
	if to, err := s.outside(User{Role: Supervisor}, doctor); err != nil || to.Number != "+390551234567" {
		t.Errorf("%+v, %v", to, err)
	}
}
