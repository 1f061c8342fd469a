package ivr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	keyDuty  = '1' // an emergency that cannot wait
	keyTake  = '1' // who is on duty takes the call
	dutyWait = 4 * time.Second

	dutyRounds = 2                // everybody on duty once more: a telephone takes its time to be found in the dark
	dutyPause  = 10 * time.Second // before that: who was engaged has heard that somebody calls
	dutyRings  = 30 * time.Second // six rings, and before the voicemail of most
	dutyAsks   = 2                // the sentence is heard twice
	dutyTakes  = 5 * time.Second  // after it; voicemails press no keys
)

var errNotTaken = errors.New("nobody pressed the key that takes the call")

// onDuty is who can be rung for this call while the service is closed; nobody
// without a line to dial out.
func (d *Desk) onDuty(call Call, c *tickets.Contact) []string {
	if !d.Queue.Dials() {
		return nil
	}
	return c.Service.Duty.At(call.Arrived())
}

// emergencyAsked asks whether it is an emergency that cannot wait until the service
// opens. Whatever was pressed before is forgotten: who knows the menu of the day by
// heart does not mean to wake anybody.
func (d *Desk) emergencyAsked(ctx context.Context, call Call) (bool, error) {
	if err := forget(ctx, call); err != nil {
		return false, err
	}
	key, err := call.Ask(ctx, d.Prompts.Clip(prompts.DutyOffer), dutyWait)
	return key == keyDuty, err
}

// duty rings who is on duty (A12), one after the other, and joins the first who
// takes the call with the caller. The matter has its number before anybody is rung.
// If nobody takes it the caller may leave a message; who does not is rung back.
func (d *Desk) duty(ctx context.Context, call Call, c *tickets.Contact, numbers []string) (tickets.Ending, error) {
	topic := c.Service.DefaultTopic().ID
	d.note(ctx, c, tickets.Step{Kind: journal.Classified, At: time.Now(), Topic: topic, Urgency: tickets.Blocking})
	ticket, err := d.Tickets.Open(ctx, c, tickets.Matter{Channel: tickets.Phone, Topic: topic, Urgency: tickets.Blocking, At: time.Now()}, nil)
	switch {
	case ctx.Err() != nil:
		return left(ctx, tickets.NoOperator)
	case err != nil: // an emergency does not wait for our database
		d.Log.Error("somebody on duty is rung without a ticket", "contact", c.ID, "error", err)
	default:
		if err := call.Play(ctx, d.Prompts.Number(ticket.Number)); err != nil {
			return hungUp(ctx, tickets.NoOperator, err)
		}
		d.note(ctx, c, tickets.Step{Kind: journal.Told, At: time.Now()})
	}
	if err := call.Play(ctx, d.Prompts.Clip(prompts.DutyCall)); err != nil {
		return hungUp(ctx, tickets.NoOperator, err)
	}
	var line Line
	var place int
	err = call.While(ctx, d.Prompts.Clip(prompts.Ringing), func(ctx context.Context) (err error) {
		line, place, err = d.ringDuty(ctx, c, numbers)
		return err
	})
	switch {
	case err == nil:
		return d.onTheLine(ctx, call, c, line, place)
	case ctx.Err() != nil:
		return left(ctx, tickets.NoOperator)
	}
	d.Log.Warn("nobody on duty took the call", "contact", c.ID, "error", err)
	if err := call.Play(ctx, d.Prompts.Clip(prompts.DutyAway)); err != nil {
		return hungUp(ctx, tickets.NoOperator, err)
	}
	return d.message(ctx, call, c, tickets.NoOperator)
}

// onTheLine joins the caller with who is on duty until either hangs up. Without a
// ticket nobody would look after the matter tomorrow: then it ends as a fault, and
// the caller is rung back.
func (d *Desk) onTheLine(ctx context.Context, call Call, c *tickets.Contact, line Line, place int) (tickets.Ending, error) {
	defer line.Hangup(context.WithoutCancel(ctx))
	d.note(ctx, c, tickets.Step{Kind: journal.DutyTook, At: time.Now(), Data: map[string]any{"place": place}})
	err := call.Bridge(ctx, line)
	d.judge(c, tickets.LegOperator, line.Stream())
	if err != nil && ctx.Err() == nil {
		d.Log.Warn("the talk broke off", "contact", c.ID, "error", err)
	}
	if c.Ticket == nil {
		return tickets.SystemFault, nil
	}
	return tickets.TransferredOut, nil
}

// ringDuty rings who is on duty, in their order and then once more, until somebody
// takes the call; place is theirs, from 1. The error is the last one's.
func (d *Desk) ringDuty(ctx context.Context, c *tickets.Contact, numbers []string) (line Line, place int, err error) {
	var last error
	for round := range dutyRounds {
		if round > 0 {
			select {
			case <-time.After(dutyPause):
			case <-ctx.Done():
			}
		}
		for i, number := range numbers {
			line, err := d.take(ctx, number)
			if err == nil {
				return line, i + 1, nil
			}
			if ctx.Err() != nil {
				return nil, 0, context.Cause(ctx)
			}
			d.note(ctx, c, tickets.Step{Kind: journal.DutyRung, At: time.Now(), Data: map[string]any{"place": i + 1, "outcome": dutyOutcome(err)}})
			last = fmt.Errorf("ring number %d on duty: %w", i+1, err)
		}
	}
	return nil, 0, last
}

// dutyOutcome is what came of ringing somebody on duty.
func dutyOutcome(err error) string {
	if errors.Is(err, errNotTaken) {
		return tickets.DutyNotTaken
	}
	return string(outcomeOf(err))
}

// take rings a number, and asks whoever lifts to take the call: a voicemail lifts,
// too, and an emergency must not end on its tape.
func (d *Desk) take(ctx context.Context, number string) (Line, error) {
	line, err := d.outside(ctx, number, uuid.NewString(), dutyRings)
	if err != nil {
		return nil, err
	}
	for range dutyAsks {
		key, err := line.Ask(ctx, d.Prompts.Clip(prompts.DutyTake), dutyTakes)
		switch {
		case err == nil && key == keyTake:
			return line, nil
		case err != nil: // either has hung up
			line.Hangup(context.WithoutCancel(ctx))
			return nil, errNotTaken
		}
	}
	line.Hangup(context.WithoutCancel(ctx))
	return nil, errNotTaken
}
