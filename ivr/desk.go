// Package ivr is the conversation with a caller: greeting, hours, menu, queue,
// talk, and the message left when nobody is there. Desk.Answer runs it from top
// to bottom on the call's own goroutine; where it stands is the call's state.
package ivr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	menuTries    = 3                       // then the default topic: a person helps better than a fourth menu
	menuWait     = 5 * time.Second         // after the menu has been read
	urgencyWait  = 4 * time.Second         // asked once; silence is "not blocking"
	joinWait     = 4 * time.Second         // asked once; silence opens a new request
	messageMax   = 3 * time.Minute         // longest message
	messageQuiet = 5 * time.Second         // this much silence ends a message
	endingWait   = 10 * time.Second        // writing how a call ended may take this long after the caller has gone
	drainRetry   = 30 * time.Second        // Retry-After while the server closes: a restart takes less
	leaveWait    = 2 * time.Second         // giving the place back: the caller may be there and hear nothing meanwhile
	enterSilent  = 1500 * time.Millisecond // then who has chosen hears music while ticket and place are written
	enterLongest = 15 * time.Second        // music for who has chosen, while they cannot be given a place: longer than a database restarts or changes over
	awayRetry    = time.Second             // a waiting caller's search tries the database again this often
	awayAsks     = 30 * time.Second        // no search takes so long to learn that it is away: a match has ten seconds, and one may be before it
	awayLongest  = 90 * time.Second        // and gives up after this: the caller may then leave a message
)

// sipBusy is 486 Busy Here (RFC 3261 §21.4.24): the caller hears the engaged tone at
// once, and the carrier does not take us for broken, as it would with 503.
const sipBusy = 486

// keyBlocking answers the question whether the fault blocks the doctor's work,
// keyJoin the question whether the call belongs to the open request.
const (
	keyBlocking = '1'
	keyJoin     = '1'
)

// Desk is what one call needs on its way. It holds nothing of any single call.
type Desk struct {
	Tickets  *tickets.Book
	Queue    *queue.Queue
	Archive  *recordings.Archive
	Prompts  *prompts.Library
	Phones   Phones
	Lines    Lines                              // to the customers, nil without a trunk that takes calls
	Plan     tickets.DialPlan                   // whom Lines may dial
	Tap      func() *media.Tap                  // listens to a talk that is recorded; nil: none is
	Draining func() bool                        // the server is closing: refuse new calls
	Judged   func(who, way string, mos float64) // hears of each leg's quality, for the metrics; nil: nobody
	Log      *slog.Logger

	menus menus
	live  live

	seconds seconds
}

// Answer conducts one call from ring to hang-up, on the goroutine that sip
// started for it, and notes how it ended. When the caller hangs up, ctx is
// cancelled and whichever line is running returns.
func (d *Desk) Answer(ctx context.Context, call Call) {
	contact, err := d.Tickets.Begin(ctx, tickets.Arrival{
		Channel: tickets.Phone, ID: call.ID(), From: call.From(), Source: call.Source(),
		To: call.To(), Trunk: call.Trunk(), At: call.Arrived(),
	})
	if err != nil { // neither the database nor the disk took it: a call that cannot be registered is not answered
		d.Log.Error("a call could not be registered", "call_id", call.ID(), "error", err)
		_ = call.Refuse(ctx, http.StatusServiceUnavailable, drainRetry)
		return
	}
	log := d.Log.With("contact", contact.ID)
	log.Info("a call came", "call_id", call.ID(), "to", call.To(), "trunk", call.Trunk()) // never who calls: the log is not the register
	ctx, gone := d.live.enter(ctx, contact.ID)
	defer gone()
	ending, err := d.safely(ctx, call, contact)
	if errors.Is(context.Cause(ctx), ErrGivenUp) {
		log.Warn("a call was given up by another node, and is ended")
		d.excuse(ctx, call)
	} else if err != nil {
		log.Error("the conversation broke off", "ending", ending, "error", err)
	}
	d.judge(contact, tickets.LegCaller, call.Stream())
	done, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingWait)
	defer cancel()
	if err := d.Tickets.End(done, contact, ending, time.Now(), err); err != nil {
		log.Error("the ending could not be written", "ending", ending, "error", err)
	}
	if contact.Ticket != nil {
		log = log.With("ticket", contact.Ticket.Number)
	}
	log.Info("a call ended", "ending", ending, "seconds", int(time.Since(call.Arrived()).Seconds()))
}

// safely is converse with a panic made into an ending: one caller's accident is
// one logged call, and it is registered like any other.
func (d *Desk) safely(ctx context.Context, call Call, c *tickets.Contact) (ending tickets.Ending, err error) {
	ending = tickets.SystemFault
	err = caught(func() (err error) {
		ending, err = d.converse(ctx, call, c)
		return err
	})
	return ending, err
}

// caught is fn with a panic made into an error that says where.
func caught(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v: %s", p, debug.Stack())
		}
	}()
	return fn()
}

// converse is the conversation itself: hours, menu, queue, talk.
func (d *Desk) converse(ctx context.Context, call Call, c *tickets.Contact) (tickets.Ending, error) {
	if ending, status := d.refusal(call, c); status != 0 {
		return ending, call.Refuse(ctx, status, drainRetry)
	}
	if err := call.Answer(ctx); err != nil {
		return unanswered(ctx, err)
	}
	unknown := c.Deferred // as it came; what the database misses from now on can be made good
	d.note(ctx, c, tickets.Step{Kind: journal.Answered, At: time.Now()})
	if mobileRefused(c) { // before the announcement: who may not call at all is told so
		return d.refuseMobile(ctx, call)
	}
	if e := d.emergency(ctx, call); e.Active {
		return d.announce(ctx, call, c, e)
	}
	if unknown {
		return d.courtesy(ctx, call, c)
	}
	if open, reopens := c.Service.Open(call.Arrived()); !open {
		return d.night(ctx, call, c, reopens)
	}
	item, err := d.choose(ctx, call, c)
	if err != nil {
		return hungUp(ctx, tickets.AbandonedIVR, err)
	}
	if item.Action == tickets.ActionState {
		if onward, ending, err := d.state(ctx, call, c); !onward {
			return ending, err
		}
	}
	matter, err := d.classify(ctx, call, c, item)
	if err != nil {
		return hungUp(ctx, tickets.AbandonedIVR, err)
	}
	request, err := d.again(ctx, call, c, item, &matter)
	if err != nil {
		return hungUp(ctx, tickets.AbandonedIVR, err)
	}
	ticket, place, err := d.enters(ctx, call, c, matter, request)
	if err != nil {
		return d.sorry(ctx, call, c, tickets.AbandonedIVR, err)
	}
	taken := &recorded{desk: d, call: call, c: c}
	defer taken.finish(ctx)
	return d.served(ctx, call, c, place, ticket, taken)
}

// served is the way of who waits: a talk, or what they get instead; who is given on
// waits again.
func (d *Desk) served(ctx context.Context, call Call, c *tickets.Contact, place *queue.Place, ticket *tickets.Ticket, taken *recorded) (tickets.Ending, error) {
	for {
		leg, offer, err := d.hold(ctx, call, c, place, ticket)
		if err != nil {
			return d.instead(ctx, call, c, place, err)
		}
		waits, ending := d.talk(ctx, call, c, place, leg, offer, taken)
		if !waits {
			return ending, nil
		}
		ticket = nil // its number was told; who is given on waits again, with music
	}
}

// refusal says whether this call is refused before it is answered, and how.
func (d *Desk) refusal(call Call, c *tickets.Contact) (ending tickets.Ending, status int) {
	switch {
	case d.Draining():
		return tickets.RefusedClosing, http.StatusServiceUnavailable
	case c.Service == nil && !c.Deferred: // with the database away we cannot know
		return tickets.RefusedUnknownNumber, http.StatusNotFound
	case call.Beyond():
		return tickets.RefusedNoLine, sipBusy
	}
	return "", 0
}

// unanswered is the ending of a call that Answer could not take.
func unanswered(ctx context.Context, err error) (tickets.Ending, error) {
	switch { // a refusal ends ctx too, so our own reasons come first
	case errors.Is(err, media.ErrNoPorts):
		return tickets.RefusedNoLine, nil
	case errors.Is(err, ErrNoCodec):
		return tickets.RefusedIncompatible, nil
	case ctx.Err() != nil:
		return tickets.AbandonedBeforeAnswer, nil
	}
	return tickets.SystemFault, fmt.Errorf("answer: %w", err)
}

// hungUp is the ending of a step that returned err: the caller's own, when the
// caller hung up, and otherwise a fault of ours.
func hungUp(ctx context.Context, ending tickets.Ending, err error) (tickets.Ending, error) {
	if ctx.Err() != nil {
		return left(ctx, ending)
	}
	return tickets.SystemFault, err
}

// left is the ending of a call that ended meanwhile: the caller's own, unless a fault of
// ours in its sound ended it, and they are to be rung back.
func left(ctx context.Context, ending tickets.Ending) (tickets.Ending, error) {
	if why := context.Cause(ctx); errors.Is(why, media.ErrStumbled) {
		return tickets.SystemFault, why
	}
	return ending, nil
}

// sorry is the way on from a step of ours that failed, whatever it was: who is
// still there hears that we are out of order and may leave a message.
func (d *Desk) sorry(ctx context.Context, call Call, c *tickets.Contact, ending tickets.Ending, err error) (tickets.Ending, error) {
	if ctx.Err() != nil {
		return left(ctx, ending)
	}
	d.Log.Warn("a caller hears that we are out of order", "contact", c.ID, "error", err)
	return d.courtesy(ctx, call, c)
}

// choose asks what it is about, at most three times. Silence and wrong keys get
// the default topic.
func (d *Desk) choose(ctx context.Context, call Call, c *tickets.Contact) (tickets.MenuItem, error) {
	menu := d.menu(c.Service)
	if c.Service.RecordingNotice { // heard whole: no key skips it (A13)
		if err := call.Play(ctx, menu.notice); err != nil {
			return tickets.MenuItem{}, fmt.Errorf("recording notice: %w", err)
		}
	}
	clip := menu.first
	for range menuTries {
		key, err := call.Ask(ctx, clip, menuWait)
		if err != nil {
			return tickets.MenuItem{}, fmt.Errorf("menu: %w", err)
		}
		if item, ok := c.Service.Item(key); ok {
			return item, nil
		}
		clip = menu.again
	}
	return tickets.MenuItem{Topic: c.Service.DefaultTopic()}, nil
}

// classify is the matter of what was chosen, once the caller has said whether the
// fault blocks the work. Who has asked about a request is spared the question:
// it is that request's matter, or an inquiry. What was chosen is noted as they enter
// the queue, which is at once, or before they are asked anything else.
func (d *Desk) classify(ctx context.Context, call Call, c *tickets.Contact, item tickets.MenuItem) (tickets.Matter, error) {
	m := tickets.Matter{Channel: tickets.Phone, Topic: item.Topic.ID, Urgency: tickets.NotBlocking, Queued: true}
	switch {
	case item.Action != tickets.ActionState:
		key, err := call.Ask(ctx, d.Prompts.Clip(prompts.Urgent), urgencyWait)
		if err != nil {
			return m, fmt.Errorf("urgency: %w", err)
		}
		if key == keyBlocking {
			m.Urgency = tickets.Blocking
		}
	case c.Ticket != nil && c.Ticket.Topic != nil:
		m.Topic, m.Urgency = c.Ticket.Topic.ID, c.Ticket.Urgency
	default:
		m.Topic, m.Kind = c.Service.DefaultTopic().ID, tickets.CallState
	}
	m.Chosen = time.Now()
	return m, nil
}

// again tells who rings again of the request they have open, and asks whether
// this call belongs to it; nil when it does not, or there is none. It is a
// question of its own, after the others, and whatever was pressed before it is
// forgotten: a key meant for the menu, or one too many, opens a new request as it
// always did. Silence does so too.
func (d *Desk) again(ctx context.Context, call Call, c *tickets.Contact, item tickets.MenuItem, m *tickets.Matter) (*tickets.Ticket, error) {
	if item.Action == tickets.ActionState {
		return nil, nil // they have asked about one themselves
	}
	request, err := d.Tickets.OpenRequest(ctx, c, time.Now())
	if errors.Is(err, tickets.ErrNotFound) {
		return nil, nil
	}
	d.note(ctx, c, tickets.Step{Kind: journal.Classified, At: m.Chosen, Topic: m.Topic, Urgency: m.Urgency})
	m.Chosen = time.Time{}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil: // no reason to keep anybody from the queue
		d.Log.Warn("a caller was not told of their open request", "contact", c.ID, "error", err)
		return nil, nil
	}
	if err := call.Play(ctx, d.Prompts.OpenRequest(request.Number, string(request.Status))); err != nil {
		return nil, fmt.Errorf("open request: %w", err)
	}
	if err := forget(ctx, call); err != nil {
		return nil, fmt.Errorf("open request: %w", err)
	}
	key, err := call.Ask(ctx, d.Prompts.Clip(prompts.JoinRequest), joinWait)
	if err != nil || key != keyJoin {
		return nil, err
	}
	return request, call.Play(ctx, d.Prompts.Clip(prompts.CallJoined))
}

// enters is enter for callers who are not to lose their turn because the database was
// away, or slow, for a moment, or we stood still ourselves: they hear music meanwhile.
func (d *Desk) enters(ctx context.Context, call Call, c *tickets.Contact, m tickets.Matter, request *tickets.Ticket) (ticket *tickets.Ticket, place *queue.Place, err error) {
	done := make(chan struct{})
	go func() { // ends within enterLongest, also when the caller hangs up: what was begun is not cut in two
		defer close(done)
		err = caught(func() (err error) {
			ticket, place, err = d.persists(ctx, c, m, request)
			return err
		})
	}()
	select {
	case <-done:
		return ticket, place, err
	case <-time.After(enterSilent):
	}
	_ = call.While(ctx, d.Prompts.Clip(prompts.Music), func(ctx context.Context) error { // whoever hangs up is heard of below
		select {
		case <-done:
		case <-ctx.Done():
		}
		return nil
	})
	<-done
	return ticket, place, err
}

// persists is enter that is done again when the database was not there for it, once
// what was kept for it meanwhile is written, whatever came of it before.
func (d *Desk) persists(ctx context.Context, c *tickets.Contact, m tickets.Matter, request *tickets.Ticket) (ticket *tickets.Ticket, place *queue.Place, err error) {
	end := time.Now().Add(enterLongest)
	limited, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	for {
		m.Patience = time.Until(end)
		ticket, place, err = d.enter(ctx, c, m, request)
		if !missed(err) || !d.Tickets.Settled(limited, c) {
			return ticket, place, err
		}
		m.Chosen = time.Time{} // it is noted
	}
}

// missed tells whether the database was not there for something.
func missed(err error) bool { return db.Away(err) || errors.Is(err, tickets.ErrDeferred) }

// enter takes the caller's place and opens the ticket, unless the call has one
// already or belongs to an open request, in one transaction: there is no instant
// at which one exists without the other.
func (d *Desk) enter(ctx context.Context, c *tickets.Contact, m tickets.Matter, request *tickets.Ticket) (ticket *tickets.Ticket, place *queue.Place, err error) {
	m.At = time.Now()
	entering, err := d.Queue.Entering(queue.Entry{Contact: c.ID, Topic: m.Topic, Urgency: m.Urgency, T0: c.T0, At: m.At})
	if err != nil {
		return nil, nil, err
	}
	defer func() { place = entering.Done(err) }() // also when what follows panics
	m.Beside = entering
	err = tickets.ErrNotFound
	if request != nil {
		ticket, err = d.Tickets.Attach(ctx, c, request.Number, m, nil)
	}
	if errors.Is(err, tickets.ErrNotFound) { // none, or it was closed just now
		ticket, err = d.Tickets.Open(ctx, c, m, nil)
	}
	if err != nil {
		if db.Away(err) { // perhaps it was written, and only the answer lost: nobody is to be offered a place without a caller
			d.orLater("leave", Left{Contact: c.ID, At: m.At}, err)
		}
		return nil, nil, fmt.Errorf("enter the queue for topic %d: %w", m.Topic, err)
	}
	return ticket, nil, nil
}

// release lets the operator go on to the wrap-up.
func (d *Desk) release(ctx context.Context, offer *queue.Offer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingWait)
	defer cancel()
	at := time.Now()
	d.orLater("release", Released{Offer: offer.ID, At: at}, d.Queue.ReleaseWith(ctx, offer, at, queue.Also{}))
}

// ended lets the operator go on to the wrap-up and writes how the contact ended, in one
// transaction; false: neither was written, and each is to go its own way.
func (d *Desk) ended(ctx context.Context, call Call, c *tickets.Contact, offer *queue.Offer, e tickets.Ending) bool {
	if c.Deferred {
		return false
	}
	d.judge(c, tickets.LegCaller, call.Stream())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingWait)
	defer cancel()
	at := time.Now()
	part, err := d.Tickets.EndWith(c, e, at)
	if err == nil {
		err = d.Queue.ReleaseWith(ctx, offer, at, queue.Also(part))
	}
	if err != nil {
		d.Log.Warn("a talk and its contact could not be ended together", "contact", c.ID, "error", err)
		return false
	}
	c.Ended = true
	return true
}

// note writes one step of the contact's way. A step that cannot be written
// anywhere is logged and costs the caller nothing.
func (d *Desk) note(ctx context.Context, c *tickets.Contact, step tickets.Step) {
	if err := d.Tickets.Note(context.WithoutCancel(ctx), c, step); err != nil {
		d.Log.Error("a step could not be noted", "contact", c.ID, "step", step.Kind, "error", err)
	}
}
