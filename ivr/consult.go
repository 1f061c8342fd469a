package ivr

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// asked is who an operator talks to about a caller: a colleague, or somebody outside.
type asked struct {
	leg   media.Leg
	offer *queue.Offer // nil: outside
	to    queue.Target
	leave func() // the recording; nil: it does not hear them
}

// records lets the recording hear a colleague whom the caller hears.
func (t *talk) records(other *asked) {
	if other.leave == nil && other.offer != nil {
		other.leave = t.taken.joins(media.Operator, other.leg.Stream())
	}
}

// consult lets the operator talk to somebody first, while the caller hears music.
// Who refuses, is engaged or does not lift leaves the two as they were.
func (t *talk) consult(ctx context.Context, wish *queue.Command) move {
	to := wish.Target
	t.stands(ctx, queue.Asking, "", journal.Asked, to)
	hush := t.call.Stream().Start(t.desk.Prompts.Clip(prompts.Music))
	defer hush()
	var other *asked
	why := whyUnreachable
	if !wish.Telephone || t.takeSecond(ctx) {
		other, why = t.ask(ctx, to)
	}
	switch {
	case other != nil:
		return t.private(ctx, other, hush)
	case ctx.Err() != nil:
		return nil
	case gone(t.leg):
		return t.alone
	}
	return t.back(ctx, to, why)
}

// back joins caller and operator again.
func (t *talk) back(ctx context.Context, to queue.Target, why string) move {
	t.partSecond(ctx)
	t.stands(ctx, queue.Together, why, journal.Returned, to)
	return t.together
}

// ask rings who is to be asked while the operator hears that it rings; nil when they
// were not reached, and why, or when somebody has thought better of it.
func (t *talk) ask(ctx context.Context, to queue.Target) (other *asked, why string) {
	var err error
	c := t.until(ctx, func(ctx context.Context) error {
		ctx, stop := lasting(ctx, t.leg)
		defer stop()
		ctx, over := lasting(ctx, t.ear())
		defer over()
		silent := t.ear().Stream().Start(t.desk.Prompts.Clip(prompts.Ringing))
		defer silent()
		other, err = t.reach(ctx, to)
		return nil
	})
	switch {
	case c == nil && ctx.Err() == nil && !gone(t.leg) && !gone(t.ear()) && other != nil:
		return other, ""
	case other != nil: // just as it was lifted
		t.dismiss(ctx, other)
	}
	if c != nil || gone(t.ear()) {
		return nil, ""
	}
	return nil, whyNot(err)
}

// whyNot is why somebody was not reached, in words that screens know.
func whyNot(err error) string {
	var u *Unreached
	switch {
	case err == nil:
		return ""
	case errors.Is(err, queue.ErrNotFree):
		return whyNotFree
	case errors.Is(err, queue.ErrDeclined):
		return whyDeclined
	case errors.Is(err, queue.ErrTimedOut):
		return whyNoAnswer
	case errors.Is(err, errNoAnswer):
		return string(queue.NoAnswer)
	case errors.As(err, &u):
		return string(u.Outcome)
	}
	return whyUnreachable
}

// reach rings a colleague, whose page shows who it is about, or somebody outside.
func (t *talk) reach(ctx context.Context, to queue.Target) (*asked, error) {
	if to.Number != "" {
		line, err := t.desk.outside(ctx, to.Number, uuid.NewString(), customerRings)
		if err != nil {
			return nil, err
		}
		return &asked{leg: line, to: to}, nil
	}
	offer, err := t.desk.Queue.Ask(ctx, t.offer.ID, to.Operator, time.Now())
	if err != nil {
		return nil, err
	}
	leg, err := t.desk.Phones.Ring(ctx, offer, t.c, func(ctx context.Context, at time.Time) error {
		return t.desk.Queue.Accept(ctx, offer.ID, at)
	})
	if err != nil {
		t.desk.withdraw(ctx, offer.ID)
		return nil, err
	}
	return &asked{leg: leg, offer: offer, to: to}, nil
}

// outside dials a number that the dial plan allows, and lets it ring so long; an
// error is *Unreached, or the cause of ctx.
func (d *Desk) outside(ctx context.Context, number, id string, rings time.Duration) (Line, error) {
	if err := d.Plan.Allows(number); err != nil {
		return nil, &Unreached{queue.NotAllowed, err}
	}
	if d.Lines == nil {
		return nil, &Unreached{queue.NoLine, queue.ErrNoLine}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, rings, errNoAnswer)
	defer cancel()
	return d.Lines.Dial(ctx, number, id)
}

// private is the talk of the operator with who was asked; the caller hears music
// until hush is called.
func (t *talk) private(ctx context.Context, other *asked, hush func()) move {
	t.stands(ctx, queue.Consulting, "", journal.Consulted, other.to)
	c := t.taking(ctx, func(ctx context.Context) error { return t.confide(ctx, other) }, func(c *queue.Command) {
		if c.Wish != queue.Confer {
			return
		}
		stop, err := media.Mix(t.call.Stream(), t.ear().Stream(), other.leg.Stream()) // beneath it the two hear each other on
		if err != nil {
			t.desk.Log.Warn("three could not be mixed", "contact", t.c.ID, "error", err)
			return
		}
		t.unmix = stop
	})
	if t.unmix != nil {
		hush()
		return t.three(ctx, other)
	}
	return t.then(ctx, other, c)
}

// three lets caller, operator and who was asked hear each other.
func (t *talk) three(ctx context.Context, other *asked) move {
	t.records(other)
	if t.second != nil {
		defer t.taken.joins(media.Operator, t.second.Stream())()
	}
	t.stands(ctx, queue.Conference, "", journal.Conferred, other.to)
	c := t.until(ctx, func(ctx context.Context) error {
		ctx, stop := lasting(ctx, other.leg)
		defer stop()
		ctx, over := lasting(ctx, t.ear())
		defer over()
		return wait(ctx, t.leg)
	})
	return t.then(ctx, other, c)
}

// then is what follows when operator and who was asked have talked: the operator
// wants something, or somebody has hung up.
func (t *talk) then(ctx context.Context, other *asked, c *queue.Command) move {
	left := gone(t.leg)
	switch {
	case ctx.Err() != nil:
		t.dismiss(ctx, other)
		return nil
	case gone(other.leg):
		t.dismiss(ctx, other)
		if left {
			return t.alone
		}
		return t.back(ctx, other.to, whyHungUp)
	case left, c != nil && c.Wish == queue.Complete: // an operator who hangs up has said all that there was to say
		return t.handOver(ctx, other)
	}
	t.dismiss(ctx, other)
	return t.back(ctx, other.to, "")
}

// handOver gives the caller to who was asked, and frees the operator.
func (t *talk) handOver(ctx context.Context, other *asked) move {
	if other.offer == nil {
		return t.away(ctx, other.leg, other.to)
	}
	told, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	if err := t.desk.Queue.HandOver(told, t.offer.ID, other.offer.ID, time.Now()); err != nil {
		t.desk.Log.Warn("a caller could not be handed over", "contact", t.c.ID, "error", err)
		t.dismiss(ctx, other)
		if gone(t.leg) {
			return t.alone
		}
		return t.back(ctx, other.to, whyFault)
	}
	t.part(ctx)
	t.records(other)
	t.leg, t.offer, t.leave = other.leg, other.offer, other.leave
	t.taken.stands("")
	t.attend(ctx)
	return t.together
}

// dismiss hangs up on who was asked.
func (t *talk) dismiss(ctx context.Context, other *asked) {
	other.leg.Hangup(context.WithoutCancel(ctx))
	if other.leave != nil {
		other.leave()
	}
	if other.offer != nil {
		t.desk.judge(t.c, tickets.LegOperator, other.leg.Stream())
		t.desk.release(ctx, other.offer)
	}
}

// out gives the caller to somebody outside, who is dialled while they hear that it
// rings. Who is not reached leaves the caller in the queue: the operator has gone.
func (t *talk) out(ctx context.Context, to queue.Target) move {
	if err := t.give(ctx, to, ""); err != nil {
		return t.kept(ctx, to, err)
	}
	var line Line
	var why error
	err := t.call.While(ctx, t.desk.Prompts.Clip(prompts.Ringing), func(ctx context.Context) error {
		line, why = t.desk.outside(ctx, to.Number, uuid.NewString(), customerRings)
		return why
	})
	switch {
	case ctx.Err() != nil: // the caller had enough
		if line != nil {
			line.Hangup(context.WithoutCancel(ctx))
		}
		return nil
	case err != nil:
		t.requeue(ctx, whyNot(why))
		return nil
	}
	return t.with(ctx, line)
}

// requeue gives the caller their place again after they could not be given on.
func (t *talk) requeue(ctx context.Context, why string) {
	told, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	err := t.desk.Queue.Requeue(told, t.c.ID, why, time.Now())
	if t.waits = err == nil; err != nil {
		t.unsure = t.unsure || db.Away(err)
		t.desk.Log.Warn("a caller could not be given their place again", "contact", t.c.ID, "error", err)
	}
}

// away leaves the caller with somebody outside whom the operator has asked.
func (t *talk) away(ctx context.Context, line media.Leg, to queue.Target) move {
	if err := t.give(ctx, to, ""); err != nil {
		t.desk.Log.Warn("that a caller was given on could not be noted", "contact", t.c.ID, "error", err)
		offer := t.offer
		t.part(ctx)
		t.desk.release(ctx, offer)
	}
	return func(ctx context.Context) move { return t.with(ctx, line) } // once the music is over
}

// with joins the caller with somebody outside until one of them hangs up.
func (t *talk) with(ctx context.Context, line media.Leg) move {
	defer line.Hangup(context.WithoutCancel(ctx))
	t.ending = tickets.TransferredOut
	t.taken.stands(gapOutside)
	t.desk.note(ctx, t.c, tickets.Step{Kind: journal.Joined, At: time.Now(), Data: map[string]any{"to": "outside"}})
	_ = t.bridge(ctx, t.call.Stream(), line.Stream())
	return nil
}
