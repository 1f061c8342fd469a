package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/web"
)

// paintedWait is how long a telephone waits for the operator's page to have
// painted who is calling; then it rings anyway (CONSOLE.md, the socket).
const paintedWait = 150 * time.Millisecond

// tellWait is how long the queue may take to hear how a ringing ended.
const tellWait = 5 * time.Second

// acceptAgain is how often the queue is told again of a lifted handset while the
// database is away.
const acceptAgain = 200 * time.Millisecond

// phones rings operators: the page first, then the desk telephone.
type phones struct {
	agent *sip.Agent
	queue *queue.Queue
	web   *web.Server
	log   *slog.Logger
}

// Ring makes the offer's operator's telephone ring until it is lifted, the
// offer ends otherwise (declined on the page, timed out), or the caller goes.
// Lifting accepts: compare-and-set before any sound is joined.
func (p *phones) Ring(ctx context.Context, offer *queue.Offer, contact *tickets.Contact, accept func(context.Context, time.Time) error) (media.Leg, error) {
	return p.ring(ctx, offer, sip.Caller{Number: contact.Caller, Name: callerName(contact)}, accept)
}

// RingFirst is Ring for an operator who is to be joined with somebody whom we
// have yet to dial.
func (p *phones) RingFirst(ctx context.Context, offer *queue.Offer, number string, accept func(context.Context, time.Time) error) (media.Leg, error) {
	return p.ring(ctx, offer, sip.Caller{Number: number, Name: "Richiamata"}, accept)
}

// RingSupervisor rings the supervisor who is to take part in an operator's talk.
func (p *phones) RingSupervisor(ctx context.Context, s *queue.Supervision) (media.Leg, error) {
	leg, err := p.agent.Ring(ctx, s.Extension, sip.Caller{Name: "Ascolto: " + s.Of})
	switch {
	case err == nil:
		return leg, nil
	case errors.Is(err, sip.ErrNoAnswer), errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %w", queue.ErrTimedOut, err)
	case errors.Is(err, sip.ErrDeclined):
		return nil, fmt.Errorf("%w: %w", queue.ErrDeclined, err)
	}
	return nil, err
}

func (p *phones) ring(ctx context.Context, offer *queue.Offer, who sip.Caller, accept func(context.Context, time.Time) error) (media.Leg, error) {
	pending, cancel := p.queue.Watch(ctx, offer)
	defer cancel()
	if p.web.Pages(offer.Operator) > 0 {
		select {
		case <-p.web.Painted(pending, offer.ID):
		case <-time.After(paintedWait):
		case <-pending.Done():
			return nil, context.Cause(pending)
		}
	}
	leg, err := p.agent.Ring(pending, offer.Extension, who)
	if err != nil {
		return nil, p.unanswered(ctx, pending, offer, err)
	}
	if err := p.accept(ctx, offer, accept, time.Now()); err != nil {
		leg.Hangup(context.WithoutCancel(ctx)) // lifted too late: somebody or something else decided
		return nil, fmt.Errorf("accept offer %s: %w", offer.ID, err)
	}
	return leg, nil
}

// accept tells the queue that the handset was lifted. The database may be away
// for a moment, as in a restart: the operator then hears nothing, no longer than
// tellWait, and is not hung up on.
func (p *phones) accept(ctx context.Context, offer *queue.Offer, accept func(context.Context, time.Time) error, at time.Time) error {
	tell, done := context.WithTimeout(context.WithoutCancel(ctx), tellWait)
	defer done()
	unsure := false // a word of ours may have arrived, and its answer got lost
	for {
		err := accept(tell, at)
		switch {
		case errors.Is(err, queue.ErrTooLate) && unsure:
			o, readErr := p.queue.Offer(tell, offer.ID)
			if readErr == nil && o.State == queue.Accepted {
				return nil // nobody but us accepts it
			}
			return err
		case !db.Away(err):
			return err
		}
		unsure = true
		select {
		case <-time.After(acceptAgain):
		case <-tell.Done():
			return err
		case <-ctx.Done(): // the caller has gone meanwhile
			return err
		}
	}
}

// callerName is what the telephone's display says beside the number: the doctor,
// or the practice of several.
func callerName(c *tickets.Contact) string {
	switch len(c.Customers) {
	case 0:
		return ""
	case 1:
		return c.Customers[0].Name
	}
	return c.Customers[0].Practice
}

// unanswered tells the queue why a telephone was not lifted, unless the queue
// ended the offer itself and knows.
func (p *phones) unanswered(ctx, pending context.Context, offer *queue.Offer, err error) error {
	if pending.Err() != nil {
		return context.Cause(pending)
	}
	tell, done := context.WithTimeout(context.WithoutCancel(ctx), tellWait)
	defer done()
	var told error
	switch {
	case errors.Is(err, sip.ErrNoAnswer):
		told = p.queue.TimeOut(tell, offer.ID, time.Now())
	case errors.Is(err, sip.ErrDeclined):
		told = p.queue.Decline(tell, offer.ID, queue.Busy, time.Now())
	default:
		told = p.queue.Decline(tell, offer.ID, queue.Unreachable, time.Now())
	}
	if told != nil && !errors.Is(told, queue.ErrTooLate) {
		p.log.Warn("the queue was not told of an unanswered telephone", "offer", offer.ID, "error", told)
	}
	p.log.Info("a telephone was not answered", "contact", offer.Contact, "extension", offer.Extension, "error", err)
	return err
}
