package ivr

import (
	"context"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/tickets"
)

// emergencyWait is how long a caller waits in silence to learn whether an
// announcement is on: it is in memory, but for the first who asks.
const emergencyWait = time.Second

// mobileRefused says whether the service does not serve this caller's network. A
// withheld number is served: we cannot know.
func mobileRefused(c *tickets.Contact) bool {
	return c.Service != nil && c.Service.MobilesRefused && tickets.Mobile(c.Caller)
}

// refuseMobile tells a caller from a mobile network why this number does not
// answer (A2), and that is all: nothing is registered but the call.
func (d *Desk) refuseMobile(ctx context.Context, call Call) (tickets.Ending, error) {
	if err := call.Play(ctx, d.Prompts.Clip(prompts.NoMobiles)); err != nil {
		return hungUp(ctx, tickets.RefusedMobile, err)
	}
	return tickets.RefusedMobile, nil
}

// emergency is the announcement that is on for everybody. One that cannot be read
// is none: the caller is better served by the menu.
func (d *Desk) emergency(ctx context.Context, call Call) tickets.Emergency {
	ctx, cancel := context.WithTimeout(ctx, emergencyWait)
	defer cancel()
	e, err := d.Tickets.Emergency(ctx, call.Arrived())
	if err != nil && ctx.Err() == nil {
		d.Log.Warn("the emergency announcement could not be read", "error", err)
	}
	return e
}

// announce plays the emergency announcement instead of everything else, by day and
// by night. Who stays on gets a number and may leave a message; who hangs up has
// heard what there was to hear, and is not to be rung back.
func (d *Desk) announce(ctx context.Context, call Call, c *tickets.Contact, e tickets.Emergency) (tickets.Ending, error) {
	if err := call.Play(ctx, d.Prompts.Or(e.Clip, prompts.Emergency)); err != nil {
		return hungUp(ctx, tickets.AbandonedIVR, err)
	}
	d.note(ctx, c, tickets.Step{Kind: journal.Announced, At: time.Now()})
	if c.Deferred {
		return d.message(ctx, call, c, tickets.AbandonedIVR)
	}
	return d.registered(ctx, call, c, tickets.NoMessage)
}
