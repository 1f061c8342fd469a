package ivr

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// holdLongest is how long a caller may be held: by then the operator has forgotten
// them, and the two hear each other again; or, where the telephone itself holds and they
// cannot, somebody else answers.
const holdLongest = 10 * time.Minute

// Why a talk came back to the two it began with; screens know these words, and
// the outcomes of queue.
const (
	whyHeldLong     = "held_long"     // holdLongest is over
	whyTelephone    = "telephone"     // the key of the operator's telephone, for a caller who is held
	whyNotFree      = "not_free"      // the colleague has a caller by now
	whyDeclined     = "declined"      // the colleague did not want to
	whyNoAnswer     = "no_answer"     // nor lifted, as queue.NoAnswer says of somebody outside
	whyUnreachable  = "unreachable"   // their telephone could not be rung
	whyOperatorGone = "operator_gone" // hung up while the caller heard music
	whyHungUp       = "hung_up"       // who was asked
	whyFault        = "fault"         // ours
)

// talk is a caller with an operator, and what the operator's page asks of it.
type talk struct {
	desk  *Desk
	call  Call
	c     *tickets.Contact
	place *queue.Place // the caller's; nil: we have rung them, of which service is not known, and they are not given on
	leg   media.Leg    // the operator's; nil: they have gone, and are free
	offer *queue.Offer // that led to the talk
	taken *recorded    // what is kept of it
	leave func()       // ends that for the operator

	attended *attended // by supervisors; nil: by nobody, ever
	second   media.Leg // another call of the operator's telephone, to who is asked; nil: there is none

	waits  bool   // the caller is in the queue again
	unmix  func() // ends the mix of three; nil: there is none
	unsure bool   // perhaps the place waits again: the database went away as it was told to
	ending tickets.Ending
	ends   bool // the call ends with the talk, as ending says
	free   bool // finished has let the operator go on
}

// move is one stretch of a talk: it returns the next, nil when the talk is over.
type move func(ctx context.Context) move

// talk joins caller and operator, of whom it is noted that they talk, until one of
// them hangs up, or the operator gives the caller on: waits says that they stand in
// the queue again.
func (d *Desk) talk(ctx context.Context, call Call, c *tickets.Contact, place *queue.Place, leg media.Leg, offer *queue.Offer, taken *recorded) (waits bool, ending tickets.Ending) {
	t := &talk{desk: d, call: call, c: c, place: place, leg: leg, offer: offer, taken: taken, leave: func() {}, ending: tickets.Served}
	defer t.over(ctx)     // a panic, too, must not leave the operator talking to nobody
	if ctx.Err() == nil { // else the caller hung up as the operator answered
		taken.begin(ctx)
	}
	taken.stands("")
	t.leave = taken.joins(media.Operator, leg.Stream())
	t.attend(ctx)
	for next := move(t.together); next != nil; {
		next = next(ctx)
	}
	t.ends = !t.waits
	return t.waits, t.ending
}

// over lets the operator go on to the wrap-up. That the contact has ended is noted with
// it, unless a recording is to be finished first, which nobody waits for.
func (t *talk) over(ctx context.Context) {
	if t.unmix != nil {
		t.unmix()
	}
	offer := t.offer
	if t.leg != nil {
		t.part(ctx)
		if !t.free && (!t.ends || t.taken.runs() || !t.desk.ended(ctx, t.call, t.c, offer, t.ending)) {
			t.desk.release(ctx, offer)
		}
	}
	if t.unsure && !t.waits {
		t.desk.leave(ctx, t.place, "")
	}
}

// part hangs up on the operator.
func (t *talk) part(ctx context.Context) {
	t.unattended()
	t.partSecond(ctx)
	t.leg.Hangup(context.WithoutCancel(ctx))
	t.leave()
	t.desk.judge(t.c, tickets.LegOperator, t.leg.Stream())
	t.leg = nil
}

// together is the talk as it begins: the two hear each other.
func (t *talk) together(ctx context.Context) move {
	var key bool
	c := t.stretch(ctx, t.orKey(&key, t.holds, func(ctx context.Context) error { return t.bridge(ctx, t.call.Stream(), t.leg.Stream()) }), func(*queue.Command) {})
	if c == nil && ctx.Err() == nil && gone(t.leg) && !t.finished(ctx) {
		c = t.last(ctx)
	}
	t.attended.stand(false)
	switch {
	case c != nil:
		return t.obey(c)
	case key && ctx.Err() == nil && !gone(t.leg):
		return func(ctx context.Context) move { return t.held(ctx, whyTelephone) }
	}
	return nil // however it ended, the caller was served
}

// finished lets the operator, who has hung up, go on to the wrap-up, as over does; false:
// something was asked of the talk before, or is otherwise than mostly, and nothing has
// happened.
func (t *talk) finished(ctx context.Context) bool {
	if t.c.Deferred {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingWait)
	defer cancel()
	at, c, also := time.Now(), *t.c, queue.Also{}
	ends := !t.taken.runs()
	if ends {
		c.Legs = slices.Concat(c.Legs, judged(t.c, tickets.LegOperator, t.leg.Stream()), judged(t.c, tickets.LegCaller, t.call.Stream()))
		part, err := t.desk.Tickets.EndWith(&c, t.ending, at)
		if err != nil {
			return false
		}
		also = queue.Also(part)
	}
	if err := t.desk.Queue.ReleaseUnasked(ctx, t.offer, at, also); err != nil {
		return false // if the database is away, what is tried next says so
	}
	t.free, t.c.Ended = true, ends
	if ends {
		t.desk.judge(t.c, tickets.LegCaller, t.call.Stream())
	}
	return true
}

// holds returns when the operator's telephone holds the call.
func (t *talk) holds(ctx context.Context) error { return t.leg.Stream().AwaitHold(ctx, true) }

// resumes returns when it does no longer. Where the page holds, it must have held before.
func (t *talk) resumes(ctx context.Context) error { return t.leg.Stream().AwaitHold(ctx, false) }
func (t *talk) resumesToo(ctx context.Context) error {
	if err := t.holds(ctx); err != nil {
		return err
	}
	return t.resumes(ctx)
}

// orKey is fn that ends, too, when a key of the operator's telephone was pressed, which
// it then says. A telephone says how it stands and not what it wants, so a key that goes
// unnoticed beside something else is noticed in the next stretch.
func (t *talk) orKey(key *bool, pressed, fn func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		ctx, stop := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() { // ends with fn
			defer close(watched)
			if *key = pressed(ctx) == nil; *key {
				stop()
			}
		}()
		defer func() { // also when fn panics
			stop()
			<-watched
			if *key {
				err = nil
			}
		}()
		return fn(ctx)
	}
}

// bridge joins two; a mix that they were in dies away above it, and then a supervisor
// hears them.
func (t *talk) bridge(ctx context.Context, a, b *media.Stream) error {
	unmix, guest := t.unmix, t.attended
	t.unmix = nil
	var above sync.WaitGroup
	defer above.Wait()
	above.Go(func() {
		if unmix != nil {
			unmix()
		}
		guest.stand(true)
	})
	return media.Bridge(ctx, a, b)
}

// obey is the stretch that a command begins.
func (t *talk) obey(c *queue.Command) move {
	switch c.Wish {
	case queue.Hold:
		return func(ctx context.Context) move { return t.held(ctx, "") }
	case queue.Transfer:
		return func(ctx context.Context) move { return t.transfer(ctx, c.Target) }
	case queue.Consult:
		return func(ctx context.Context) move { return t.consult(ctx, c) }
	}
	return t.together
}

// held lets the caller hear music, and the operator nothing: by their page or, as why
// says, by their telephone.
func (t *talk) held(ctx context.Context, why string) move {
	t.stands(ctx, queue.Held, why, journal.OnHold, queue.Target{})
	limited, cancel := context.WithTimeout(ctx, holdLongest)
	defer cancel()
	var key bool
	pressed := t.resumesToo
	if why == whyTelephone {
		pressed = t.resumes
	}
	c := t.until(limited, t.orKey(&key, pressed, func(ctx context.Context) error {
		return t.call.While(ctx, t.desk.Prompts.Clip(prompts.Music), func(ctx context.Context) error { return wait(ctx, t.leg) })
	}))
	switch {
	case ctx.Err() != nil:
		return nil
	case c == nil && gone(t.leg):
		return t.alone
	case c == nil && key:
		t.stands(ctx, queue.Together, "", journal.Resumed, queue.Target{})
		return t.together
	case c == nil && t.leg.Stream().Holds():
		return t.forgotten
	case c == nil:
		t.stands(ctx, queue.Together, whyHeldLong, journal.Resumed, queue.Target{})
		return t.together
	case c.Wish == queue.Resume:
		t.stands(ctx, queue.Together, "", journal.Resumed, queue.Target{})
		return t.together
	}
	return t.obey(c)
}

// alone is a caller whose operator hung up while they heard music: nobody has told
// them goodbye, so they wait for somebody else where they waited before.
func (t *talk) alone(ctx context.Context) move {
	if t.place == nil {
		return nil // the operator can ring them again
	}
	t.give(ctx, queue.Target{}, whyOperatorGone)
	return nil
}

// forgotten is a caller whom the operator's telephone holds for too long. Nobody else can
// end that, so they wait for somebody who hears them.
func (t *talk) forgotten(ctx context.Context) move {
	if t.place != nil { // nil: they can be rung again
		t.give(ctx, queue.Target{}, whyHeldLong)
	}
	return nil
}

// transfer gives the caller on unannounced. Who cannot be given on goes on talking.
func (t *talk) transfer(ctx context.Context, to queue.Target) move {
	if t.place == nil {
		return t.back(ctx, to, whyFault)
	}
	if to.Number != "" {
		return t.out(ctx, to)
	}
	if err := t.give(ctx, to, ""); err != nil {
		return t.kept(ctx, to, err)
	}
	return nil
}

// kept is a caller who could not be given on.
func (t *talk) kept(ctx context.Context, to queue.Target, err error) move {
	why := whyNotFree
	if !errors.Is(err, queue.ErrNotFree) {
		t.desk.Log.Warn("a caller could not be given on", "contact", t.c.ID, "error", err)
		why = whyFault
	}
	if gone(t.leg) {
		return t.alone // the operator relied on it
	}
	return t.back(ctx, to, why)
}

// give frees the operator and gives the caller back to the queue, for one colleague
// or for whoever answers, unless somebody outside is to have them.
func (t *talk) give(ctx context.Context, to queue.Target, reason string) error {
	told, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	if err := t.desk.Queue.Give(told, t.offer.ID, to, reason, time.Now()); err != nil {
		t.unsure = t.unsure || db.Away(err)
		return err
	}
	t.part(ctx)
	t.waits = to.Number == ""
	t.taken.stands(gapWaiting)
	return nil
}

// until runs fn until the operator's page asks for something, which it returns; nil
// when fn ended otherwise.
func (t *talk) until(ctx context.Context, fn func(context.Context) error) *queue.Command {
	return t.taking(ctx, fn, func(*queue.Command) {})
}

// taking is until with what is to be done while fn still runs.
func (t *talk) taking(ctx context.Context, fn func(context.Context) error, take func(*queue.Command)) *queue.Command {
	c := t.stretch(ctx, fn, take)
	if c == nil && ctx.Err() == nil && (gone(t.leg) || gone(t.ear())) {
		c = t.last(ctx)
	}
	return c
}

// stretch is taking but for what the operator asked for and did not wait for.
func (t *talk) stretch(ctx context.Context, fn func(context.Context) error, take func(*queue.Command)) (c *queue.Command) {
	stretch, stop := context.WithCancel(ctx)
	listened := make(chan struct{})
	go func() { // ends with the stretch
		defer close(listened)
		if c, _ = t.desk.Queue.Commanded(stretch, t.offer); c != nil {
			take(c)
			stop()
		}
	}()
	err := caught(func() error { return fn(stretch) })
	broke := err != nil && stretch.Err() == nil && !errors.Is(err, media.ErrClosed)
	stop()
	<-listened
	if broke {
		t.desk.Log.Warn("the talk broke off", "contact", t.c.ID, "error", err)
	}
	if ctx.Err() != nil {
		return nil // the caller has gone: whatever was asked, there is nobody left
	}
	return c
}

// last is what the operator asked for and did not wait for: who transfers with the
// telephone's key hangs up at once.
func (t *talk) last(ctx context.Context) *queue.Command {
	asked, cancel := context.WithTimeout(ctx, leaveWait)
	defer cancel()
	c, err := t.desk.Queue.Last(asked, t.offer.ID, time.Now())
	if err != nil {
		t.desk.Log.Warn("what was asked last of a talk could not be read", "contact", t.c.ID, "error", err)
	}
	return c
}

// stands tells the queue, and with it the operator's page, how the talk stands. With
// the database away the talk goes on all the same.
func (t *talk) stands(ctx context.Context, now queue.Talk, why string, happened journal.Kind, to queue.Target) {
	t.taken.stands(gapWhile[now])
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	if err := t.desk.Queue.Stands(ctx, t.offer.ID, now, why, happened, to, time.Now()); err != nil {
		t.desk.Log.Warn("how a talk stands could not be noted", "contact", t.c.ID, "stands", now, "error", err)
	}
}

// wait returns when a leg is gone, or ctx ends.
func wait(ctx context.Context, leg media.Leg) error {
	select {
	case <-leg.Done():
		return media.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func gone(leg media.Leg) bool {
	select {
	case <-leg.Done():
		return true
	default:
		return false
	}
}
