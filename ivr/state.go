package ivr

import (
	"context"
	"errors"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	stateTries = 2                // a doctor in a hurry: then a colleague looks it up
	stateWait  = 10 * time.Second // the number has to be found first, on a paper or in a mail
	stateAfter = 5 * time.Second  // to ask for an operator, after the state
)

// keyOperator asks for an operator after the state was told.
const keyOperator = '1'

// state tells a caller how a request stands (A10), if it is the caller's own.
// onward: the caller is still there and wants a person, about the request that
// was told, or because nothing could be.
func (d *Desk) state(ctx context.Context, call Call, c *tickets.Contact) (onward bool, ending tickets.Ending, err error) {
	ticket, err := d.asked(ctx, call, c)
	if err != nil {
		ending, err = d.sorry(ctx, call, c, tickets.AbandonedIVR, err)
		return false, ending, err
	}
	if ticket == nil {
		if err := call.Play(ctx, d.Prompts.Clip(prompts.StateColleague)); err != nil {
			ending, err = hungUp(ctx, tickets.AbandonedIVR, err)
			return false, ending, err
		}
		return true, "", nil
	}
	if err := call.Play(ctx, d.Prompts.State(request(ticket), time.Now())); err != nil {
		ending, err = hungUp(ctx, tickets.AbandonedIVR, err)
		return false, ending, err
	}
	d.note(ctx, c, tickets.Step{Kind: journal.StateTold, At: time.Now(), Ticket: ticket.ID, Data: map[string]any{"status": ticket.Status}})
	c.Ticket = ticket
	key, err := call.Ask(ctx, d.Prompts.Clip(prompts.StateOperator), stateAfter)
	switch {
	case err != nil:
		ending, err = hungUp(ctx, tickets.SelfServed, err)
		return false, ending, err
	case key == keyOperator:
		return true, "", nil
	}
	_ = call.Play(ctx, d.Prompts.Clip(prompts.Goodbye)) // who does not hear it out was served all the same
	return false, tickets.SelfServed, nil
}

// asked is the ticket whose number the caller types; nil when there is none that
// this caller may hear about. A caller without a number is asked for none.
func (d *Desk) asked(ctx context.Context, call Call, c *tickets.Contact) (*tickets.Ticket, error) {
	if c.Caller == "" {
		return nil, nil
	}
	question := prompts.StateNumber
	for range stateTries {
		typed, err := call.Digits(ctx, d.Prompts.Clip(question), tickets.TypedMost, stateWait)
		if err != nil {
			return nil, err
		}
		ticket, err := d.Tickets.Asked(ctx, c, typed, time.Now())
		if !errors.Is(err, tickets.ErrNotFound) {
			return ticket, err
		}
		question = prompts.StateAgain
	}
	return nil, nil
}

// request is a ticket as the prompts tell it.
func request(t *tickets.Ticket) prompts.Request {
	r := prompts.Request{Number: t.Number, Received: t.ReceivedAt, Outcome: t.Outcome}
	if t.TakenAt != nil {
		r.Taken = *t.TakenAt
	}
	if t.ClosedAt != nil {
		r.Closed = *t.ClosedAt
	}
	return r
}
