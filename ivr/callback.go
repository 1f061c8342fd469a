package ivr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	customerRings = 45 * time.Second // nine rings: a doctor puts the stethoscope down first
	engagedTone   = 3 * time.Second  // so that the operator hears how it ended, and looks at the page
)

// Line is a customer's telephone that we rang and that answered: a call like one
// that came in, but for who ends it.
type Line interface {
	Call
	media.Leg
}

// Lines dials out. Dial returns when the customer has answered; id becomes the
// Call-ID. An error that is *Unreached says what came of it; the end of ctx
// cancels the ringing.
type Lines interface {
	Dial(ctx context.Context, number, id string) (Line, error)
}

// Unreached is why a customer was not reached.
type Unreached struct {
	Outcome queue.Outcome
	Err     error // what the network said
}

// Error says the outcome and what the network said.
func (u *Unreached) Error() string { return fmt.Sprintf("%s: %v", u.Outcome, u.Err) }

// Unwrap gives what the network said.
func (u *Unreached) Unwrap() error { return u.Err }

var (
	errNoAnswer     = errors.New("the customer does not answer")
	errOperatorGone = errors.New("the operator hung up")
)

// RingBack rings one customer back, from the operator's telephone to the end of
// the talk: the operator first, so that nobody who answers waits for us. It runs
// on a goroutine that queue.Conduct started for it.
func (d *Desk) RingBack(ctx context.Context, to queue.Ringing) {
	if err := caught(func() error { d.ringBack(ctx, to); return nil }); err != nil {
		d.Log.Error("an operator could not be rung", "offer", to.ID, "error", err)
		d.withdraw(ctx, to.ID)
	}
}

// withdraw takes back an offer that cannot be conducted; one that has led to an
// attempt stays.
func (d *Desk) withdraw(ctx context.Context, offer uuid.UUID) {
	at := time.Now()
	err := d.Queue.Withdraw(context.WithoutCancel(ctx), offer, at)
	if errors.Is(err, queue.ErrTooLate) {
		return
	}
	d.orLater("withdraw", Withdrawn{Offer: offer, At: at}, err)
}

func (d *Desk) ringBack(ctx context.Context, to queue.Ringing) {
	log := d.Log.With("contact", to.Contact, "offer", to.ID)
	if d.Draining() {
		d.withdraw(ctx, to.ID)
		return
	}
	attempt := tickets.Outgoing{ID: uuid.New(), First: to.Contact, Number: to.Number, At: time.Now()}
	c := attempt.Contact()
	ctx, gone := d.live.enter(ctx, attempt.ID) // a node that was taken for dead ends its attempts too
	defer gone()
	var begun error
	leg, err := d.Phones.RingFirst(ctx, &to.Offer, to.Number, func(ctx context.Context, at time.Time) error {
		attempt.At = at
		begun = d.Tickets.BeginAttempt(ctx, c, attempt, func(ctx context.Context, tx *db.Tx) error {
			return d.Queue.AcceptCallback(ctx, tx, to.ID, attempt.ID, at)
		})
		return begun
	})
	switch {
	case err == nil:
	case db.Away(err): // lifted in vain; and perhaps the database knows of an acceptance
		d.orLater("attempted", Attempted{Attempt: attempt.ID, Outcome: queue.SystemFault, At: time.Now()}, err)
		d.orLater("withdraw", Withdrawn{Offer: to.ID, At: time.Now()}, err)
		return
	case begun != nil && !errors.Is(begun, queue.ErrTooLate):
		log.Error("an attempt could not begin", "error", begun)
		d.withdraw(ctx, to.ID)
		return
	default: // the telephone was not lifted, and the queue knows why
		return
	}
	defer leg.Hangup(context.WithoutCancel(ctx))
	log = log.With("attempt", attempt.ID)
	log.Info("somebody is rung back")
	outcome, ending, err := queue.SystemFault, tickets.SystemFault, error(nil)
	if fault := caught(func() error { outcome, ending, err = d.reach(ctx, c, to, leg); return nil }); fault != nil {
		outcome, ending, err = queue.SystemFault, tickets.SystemFault, fault
	}
	if ending == tickets.SystemFault {
		log.Error("a ringing back broke off", "error", err)
	}
	log.Info("a ringing back ended", "outcome", outcome, "ending", ending, "seconds", int(time.Since(attempt.At).Seconds()), "why", err)
	d.finish(ctx, c, to, leg, outcome, ending)
}

// reach dials the customer and joins them with the operator until either hangs up,
// and with whoever they are given on to. What it notes of a customer who answered it
// notes before they talk.
func (d *Desk) reach(ctx context.Context, c *tickets.Contact, to queue.Ringing, leg media.Leg) (queue.Outcome, tickets.Ending, error) {
	line, err := d.dial(ctx, c, leg)
	if err != nil {
		outcome := outcomeOf(err)
		return outcome, endingAfter[outcome], err
	}
	defer line.Hangup(context.WithoutCancel(ctx))
	now := time.Now()
	d.note(ctx, c, tickets.Step{Kind: journal.Answered, At: now})
	d.attempted(ctx, c, queue.Reached, now)
	if c.Ticket == nil && !c.Deferred {
		if err := d.Tickets.OpenForFirst(ctx, c, to.Contact, now); err != nil {
			d.Log.Warn("who was rung back has no ticket", "contact", c.ID, "error", err)
		}
	}
	if err := d.Archive.TakeOf(context.WithoutCancel(ctx), to.Contact, to.Operator, now); err != nil {
		d.Log.Warn("the message of who was rung back was not taken", "contact", to.Contact, "error", err)
	}
	talking, stop := lasting(ctx, line)
	defer stop()
	var place *queue.Place // to wait in as their service says
	if c.Service != nil {
		place = d.Queue.Place(c.ID)
	}
	d.note(talking, c, tickets.Step{Kind: journal.Talking, At: time.Now(), Operator: to.Operator})
	offer := to.Offer
	offer.Contact = c.ID                                               // it is the attempt's since the operator has lifted
	waits, ending := d.talk(talking, line, c, place, leg, &offer, nil) // who is rung back has heard no notice
	if waits {
		ending, err = d.served(talking, line, c, place, nil, nil)
	}
	d.judge(c, tickets.LegCaller, line.Stream())
	return queue.Reached, ending, err
}

// lasting is a context that ends with a leg, too; the function ends it, and waits.
func lasting(ctx context.Context, leg media.Leg) (context.Context, func()) {
	ctx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { // ends with ctx
		defer close(watched)
		_ = wait(ctx, leg)
		stop()
	}()
	return ctx, func() { stop(); <-watched }
}

// dial rings the customer while the operator hears that it rings.
func (d *Desk) dial(ctx context.Context, c *tickets.Contact, leg media.Leg) (Line, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watched := make(chan struct{})
	go func() { // ends with ctx
		defer close(watched)
		select {
		case <-leg.Done():
			stop(errOperatorGone)
		case <-ctx.Done():
		}
	}()
	defer func() { stop(nil); <-watched }()
	silent := leg.Stream().Start(d.Prompts.Clip(prompts.Ringing))
	defer silent()
	return d.outside(ctx, c.Caller, c.CallID, customerRings)
}

// outcomeOf is what came of a dialling that returned err.
func outcomeOf(err error) queue.Outcome {
	var u *Unreached
	switch {
	case errors.Is(err, errOperatorGone):
		return queue.OperatorGone
	case errors.Is(err, errNoAnswer):
		return queue.NoAnswer
	case errors.As(err, &u):
		return u.Outcome
	}
	return queue.SystemFault
}

// finish notes how an attempt ended, lets the operator hear it, and frees them.
func (d *Desk) finish(ctx context.Context, c *tickets.Contact, to queue.Ringing, leg media.Leg, outcome queue.Outcome, ending tickets.Ending) {
	ctx = context.WithoutCancel(ctx)
	now := time.Now()
	if outcome != queue.Reached {
		d.attempted(ctx, c, outcome, now)
	}
	done, cancel := context.WithTimeout(ctx, endingWait)
	defer cancel()
	if err := d.Tickets.End(done, c, ending, now, nil); err != nil {
		d.Log.Error("the ending could not be written", "contact", c.ID, "error", err)
	}
	if outcome == queue.Reached {
		return // the talk has freed them
	}
	tone := leg.Stream().Start(d.Prompts.Clip(prompts.Engaged))
	select {
	case <-time.After(engagedTone):
	case <-leg.Done():
	}
	tone()
	leg.Hangup(ctx)
	freed, cancel := context.WithTimeout(ctx, endingWait)
	defer cancel()
	at := time.Now()
	d.orLater("release", Released{Offer: to.ID, At: at}, d.Queue.ReleaseUnreached(freed, to.ID, at))
}

// endingAfter is the ending of an attempt's contact that did not reach its customer, by
// its outcome.
var endingAfter = map[queue.Outcome]tickets.Ending{
	queue.SystemFault: tickets.SystemFault,
	queue.NoAnswer:    tickets.NotReached, queue.Engaged: tickets.NotReached, queue.Rejected: tickets.NotReached,
	queue.WrongNumber: tickets.NotReached, queue.NotAllowed: tickets.NotReached, queue.NoLine: tickets.NotReached,
	queue.OperatorGone: tickets.NotReached,
}

// attempted tells the queue what came of an attempt, whatever happened.
func (d *Desk) attempted(ctx context.Context, c *tickets.Contact, outcome queue.Outcome, at time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	d.orLater("attempted", Attempted{Attempt: c.ID, Outcome: outcome, At: at}, d.Queue.Attempted(ctx, c.ID, outcome, at))
}
