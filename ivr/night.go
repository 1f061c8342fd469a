package ivr

import (
	"context"
	"errors"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// night answers while the service is closed (A7): the hours and the next
// opening, who is on duty for an emergency, the number of the request, the tone,
// the message.
func (d *Desk) night(ctx context.Context, call Call, c *tickets.Contact, reopens time.Time) (tickets.Ending, error) {
	closed := audio.Join("chiuso", d.Prompts.Clip(prompts.Closed), d.Prompts.Hours(c.Service.Hours), d.Prompts.Reopens(reopens, call.Arrived()))
	if err := call.Play(ctx, closed); err != nil {
		return hungUp(ctx, tickets.OutOfHoursNoMessage, err)
	}
	if numbers := d.onDuty(call, c); len(numbers) > 0 {
		switch urgent, err := d.emergencyAsked(ctx, call); {
		case err != nil:
			return hungUp(ctx, tickets.OutOfHoursNoMessage, err)
		case urgent:
			return d.duty(ctx, call, c, numbers)
		}
	}
	return d.registered(ctx, call, c, tickets.OutOfHoursNoMessage)
}

// registered gives the caller's matter its number, tells it, and takes the
// message. Who hangs up before the tone has ended as before says, an ending that
// closes the ticket.
func (d *Desk) registered(ctx context.Context, call Call, c *tickets.Contact, before tickets.Ending) (tickets.Ending, error) {
	ticket, err := d.Tickets.Open(ctx, c, tickets.Matter{
		Channel: tickets.Voicemail, Topic: c.Service.DefaultTopic().ID, Urgency: tickets.NotBlocking, At: time.Now(),
	}, nil)
	if err != nil {
		return d.sorry(ctx, call, c, before, err)
	}
	if err := call.Play(ctx, d.Prompts.Number(ticket.Number)); err != nil {
		return hungUp(ctx, before, err)
	}
	d.note(ctx, c, tickets.Step{Kind: journal.Told, At: time.Now()})
	return d.message(ctx, call, c, before)
}

// courtesy answers while we are out of order, most likely with the database
// away: what happens goes to the spool and becomes a contact, and a ticket if
// there is a message, when it is back. Who leaves none is owed a call.
func (d *Desk) courtesy(ctx context.Context, call Call, c *tickets.Contact) (tickets.Ending, error) {
	c.Deferred = true         // also when none of its facts met the absence yet: another wait would be silence on the line
	if !d.Archive.HasRoom() { // its words would invite to a message
		return d.noRoom(ctx, call, c)
	}
	if err := call.Play(ctx, d.Prompts.Clip(prompts.Fault)); err != nil {
		return hungUp(ctx, tickets.SystemFault, err)
	}
	return d.message(ctx, call, c, tickets.SystemFault)
}

// message takes what the caller has to say after the tone. From the tone on it
// is on its way to the disk; the ticket exists already. Who hangs up before the
// tone has ended as before says.
func (d *Desk) message(ctx context.Context, call Call, c *tickets.Contact, before tickets.Ending) (tickets.Ending, error) {
	if !d.Archive.HasRoom() {
		return d.noRoom(ctx, call, c)
	}
	invitation := audio.Join("lasci_messaggio, beep", d.Prompts.Clip(prompts.LeaveWord), d.Prompts.Clip(prompts.Beep))
	if err := call.Play(ctx, invitation); err != nil {
		return hungUp(ctx, before, err)
	}
	tape, err := d.Archive.Tape(ctx, c.ID, time.Now())
	if errors.Is(err, recordings.ErrNoRoom) {
		return d.noRoom(ctx, call, c)
	}
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
	d.judge(c, tickets.LegCaller, call.Stream()) // their contact ends here, whatever they still hear
	if err := d.Tickets.EndMessage(closing, c, c.Ticket, sound.Sound, time.Now()); err != nil {
		return tickets.SystemFault, err
	}
	if sound.Sound < tickets.ShortestMessage {
		if recordErr == nil { // a bad line, or too soft a voice: who is cut off without a word believes to have been heard
			_ = call.Play(ctx, d.Prompts.Clip(prompts.NoWord))
		}
		return tickets.NoMessage, nil
	}
	switch {
	case recordErr == nil: // ended by #, silence or the longest time: somebody is still there
		_ = call.Play(ctx, d.Prompts.Clip(prompts.WordTaken))
	case ctx.Err() == nil: // the disk: what was said until then is kept
		d.Log.Error("a message was cut", "contact", c.ID, "error", recordErr)
		_ = call.Play(ctx, d.Prompts.Clip(prompts.WordCut))
	}
	return tickets.MessageLeft, nil
}

// noRoom tells a caller that no message can be taken, and when to ring again. The
// call stands among those to ring back.
func (d *Desk) noRoom(ctx context.Context, call Call, c *tickets.Contact) (tickets.Ending, error) {
	d.Log.Warn("a caller could leave no message", "contact", c.ID, "error", recordings.ErrNoRoom)
	clip := d.Prompts.Clip(prompts.NoRoom)
	if c.Service != nil {
		clip = audio.Join(prompts.NoRoom, clip, d.Prompts.Hours(c.Service.Hours))
	}
	if err := call.Play(ctx, clip); err != nil {
		return hungUp(ctx, tickets.SystemFault, err)
	}
	return tickets.SystemFault, nil
}
