package ivr

import (
	"context"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// night answers while the service is closed (A7): the hours and the next
// opening, the number of the request, the tone, the message.
func (d *Desk) night(ctx context.Context, call Call, c *tickets.Contact, reopens time.Time) (tickets.Ending, error) {
	closed := audio.Join("chiuso", d.Prompts.Clip(prompts.Closed), d.Prompts.Hours(c.Service.Hours), d.Prompts.Reopens(reopens, call.Arrived()))
	if err := call.Play(ctx, closed); err != nil {
		return hungUp(ctx, tickets.OutOfHoursNoMessage, err)
	}
	ticket, err := d.Tickets.Open(ctx, c, tickets.Matter{
		Channel: tickets.Voicemail, Topic: c.Service.DefaultTopic().ID, Urgency: tickets.NotBlocking, At: time.Now(),
	}, nil)
	if away(err) {
		return d.courtesy(ctx, call, c)
	} else if err != nil {
		return hungUp(ctx, tickets.OutOfHoursNoMessage, err)
	}
	if err := call.Play(ctx, d.Prompts.Number(ticket.Number)); err != nil {
		return hungUp(ctx, tickets.OutOfHoursNoMessage, err)
	}
	d.note(ctx, c, tickets.Step{Kind: journal.Told, At: time.Now()})
	return d.message(ctx, call, c)
}

// courtesy answers while the database is away: what happens goes to the spool
// and becomes a contact, and a ticket if there is a message, when it is back.
func (d *Desk) courtesy(ctx context.Context, call Call, c *tickets.Contact) (tickets.Ending, error) {
	if err := call.Play(ctx, d.Prompts.Clip(prompts.Fault)); err != nil {
		return hungUp(ctx, tickets.SystemFault, err)
	}
	return d.message(ctx, call, c)
}

// message takes what the caller has to say after the tone. From the tone on it
// is on its way to the disk; the ticket exists already.
func (d *Desk) message(ctx context.Context, call Call, c *tickets.Contact) (tickets.Ending, error) {
	invitation := audio.Join("lasci_messaggio, beep", d.Prompts.Clip(prompts.LeaveWord), d.Prompts.Clip(prompts.Beep))
	if err := call.Play(ctx, invitation); err != nil {
		return hungUp(ctx, tickets.OutOfHoursNoMessage, err)
	}
	tape, err := d.Archive.Tape(ctx, c.ID, time.Now())
	if err != nil {
		return hungUp(ctx, tickets.NoMessage, err)
	}
	_, recordErr := call.Record(ctx, tape, media.Limits{Longest: messageMax, Silence: messageQuiet})
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingWait)
	defer cancel()
	sound, err := tape.Close(closing, time.Now())
	if err != nil {
		return tickets.SystemFault, err
	}
	if err := d.Tickets.EndMessage(closing, c, c.Ticket, sound.Sound, time.Now()); err != nil {
		return tickets.SystemFault, err
	}
	if sound.Sound < tickets.ShortestMessage {
		return tickets.NoMessage, nil
	}
	if recordErr == nil { // ended by #, silence or the longest time: somebody is still there
		_ = call.Play(ctx, d.Prompts.Clip(prompts.WordTaken))
	}
	return tickets.MessageLeft, nil
}
