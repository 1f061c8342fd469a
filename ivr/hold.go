package ivr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	forecastWait = 2 * time.Second  // for where they stand; with the database away the music just goes on
	closingWait  = 10 * time.Second // after the offer at closing time: a choice that counts wants a moment
)

// Keys that a waiting caller may press at any time.
const (
	keyCallback = '1'
	keyMessage  = '2'
)

// errFound ends the caller's company in the queue: an operator has answered, or
// the search is over.
var errFound = errors.New("the search is over")

// How a wait ends that no operator ends.
var (
	errCallback = errors.New("the caller wants to be called back")
	errMessage  = errors.New("the caller wants to leave a message")
	errTooLong  = errors.New("the longest wait is over")
	errNobody   = errors.New("nobody is signed in for this topic")
	errClosed   = errors.New("the service has closed")
)

// whyLeft is what the journal says of each of them. A callback's place is kept.
var whyLeft = map[error]string{errCallback: "", errMessage: "message", errTooLong: "too_long", errNobody: "nobody", errClosed: "closed"}

// hold keeps the caller company until an operator has answered. The ticket's
// number is the first thing heard; a quick operator cuts it short, and then the
// screen says that it is still to be told. An offer that rings in an empty room
// costs the caller nothing: the place is kept and the music goes on. Unless an
// operator has taken it, the place is given back before hold returns, but for who
// is to be called back. Whoever chooses something else, or hangs up, at the instant
// at which an operator answers has the operator: it is noted already that they talk.
func (d *Desk) hold(ctx context.Context, call Call, c *tickets.Contact, place *queue.Place, ticket *tickets.Ticket) (leg media.Leg, offer *queue.Offer, err error) {
	waiting, stop := context.WithCancelCause(ctx) // ends for both: when somebody was found, or when the company is over
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = caught(func() (err error) { // nobody above would: it is a goroutine of its own
			leg, offer, err = d.search(waiting, place, c)
			return err
		})
		stop(errFound)
	}()
	stop(caught(func() error { return d.company(waiting, call, c, place, ticket) })) // a search must not outlive it
	<-done
	over := context.Cause(waiting)
	why, chosen := whyLeft[over]
	switch {
	case err == nil:
		if !errors.Is(over, errFound) && !chosen && ctx.Err() == nil { // an accident from which nobody suffers now
			d.Log.Warn("a caller's company broke off as an operator answered", "contact", c.ID, "error", over)
		}
		return leg, offer, nil
	case errors.Is(over, errCallback): // also when they hung up right after the key
		return nil, nil, over
	case chosen && ctx.Err() == nil:
		err = over
	}
	d.leave(ctx, place, why)
	return nil, nil, err
}

// leave gives the place back, whatever happened; with the database away the
// spool remembers it.
func (d *Desk) leave(ctx context.Context, place *queue.Place, why string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	at := time.Now()
	d.orLater("leave", Left{Contact: place.Contact(), At: at}, place.LeaveFor(ctx, why, at))
}

// instead is the way on of a caller whose wait ended without an operator: by
// their own choice, or because nobody will answer. Who leaves no message then is
// rung back.
func (d *Desk) instead(ctx context.Context, call Call, c *tickets.Contact, place *queue.Place, why error) (tickets.Ending, error) {
	sentence := ""
	switch {
	case errors.Is(why, errCallback):
		return d.toCallback(ctx, call, c, place)
	case errors.Is(why, errClosed): // they have heard why
		return d.message(ctx, call, c, tickets.NoOperator)
	case errors.Is(why, errMessage):
		return d.message(ctx, call, c, tickets.AbandonedQueue)
	case errors.Is(why, errTooLong):
		sentence = prompts.TooLong
	case errors.Is(why, errNobody):
		sentence = prompts.Nobody
	default:
		return d.sorry(ctx, call, c, tickets.AbandonedQueue, why)
	}
	if err := call.Play(ctx, d.Prompts.Clip(sentence)); err != nil {
		return hungUp(ctx, tickets.NoOperator, err)
	}
	return d.message(ctx, call, c, tickets.NoOperator)
}

// toCallback keeps the place for a caller who hangs up now.
func (d *Desk) toCallback(ctx context.Context, call Call, c *tickets.Contact, place *queue.Place) (tickets.Ending, error) {
	booking, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWait)
	defer cancel()
	if err := place.ToCallback(booking, c.Caller, time.Now()); err != nil {
		d.leave(ctx, place, "")
		return d.sorry(ctx, call, c, tickets.AbandonedQueue, err)
	}
	_ = call.Play(ctx, d.Prompts.Clip(prompts.WillCall)) // who hangs up meanwhile is called back all the same
	return tickets.CallbackBooked, nil
}

// callable says whether this caller can be called back: we know their number, and
// there is a line to call it on.
func (d *Desk) callable(c *tickets.Contact) bool { return c.Caller != "" && d.Queue.Dials() }

// moments are the instants at which something is said to a waiting caller.
type moments struct {
	announce time.Time // where they stand, and what they may do
	nobody   time.Time // from here on nobody is waited for who is not signed in
	limit    time.Time // the longest wait is over
	closing  time.Time // the service closes, and who waits is not served; zero: they are, or it never does
}

// momentsFrom are those of a caller who joins the queue.
func momentsFrom(now time.Time, s *tickets.Service) moments {
	m := moments{announce: now.Add(s.AnnounceEvery), nobody: now.Add(s.NobodyWait), limit: now.Add(s.MaxWait)}
	if s.AtClosing == tickets.AtClosingCallback {
		_, m.closing = s.Open(now)
	}
	return m
}

// next is the first of them.
func (m moments) next() time.Time {
	first := m.announce
	for _, t := range [2]time.Time{m.limit, m.closing} {
		if !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// company is what a waiting caller hears: the number, a kind word, music, and
// every so often where they stand and what they may do instead; their keys
// count at any time. What was pressed before the number was told is forgotten:
// who answers the question before too late, or presses a key too many in the
// menu, has not chosen to go. It returns why the wait is over.
func (d *Desk) company(ctx context.Context, call Call, c *tickets.Contact, place *queue.Place, ticket *tickets.Ticket) error {
	m := momentsFrom(time.Now(), c.Service)
	if ticket != nil { // nil: they were told before they were given on
		if err := call.Play(ctx, d.Prompts.Number(ticket.Number)); err != nil {
			return err
		}
		d.note(ctx, c, tickets.Step{Kind: journal.Told, At: time.Now()})
	}
	if err := forget(ctx, call); err != nil {
		return err
	}
	say := []audio.Clip{d.Prompts.Clip(prompts.Waiting)}
	for {
		key, err := tell(ctx, call, say)
		if err == nil && key == 0 {
			key, say, err = d.music(ctx, call, c, place, &m)
		}
		if errors.Is(err, errClosing) {
			return d.closing(ctx, call, c)
		}
		if err != nil {
			return err
		}
		if key == 0 {
			continue // there is something to be said
		}
		if say, err = d.pressed(c, key); err != nil {
			return err
		}
	}
}

// tell says one thing after the other, until a key is pressed, which it returns;
// 0: everything was said.
func tell(ctx context.Context, call Call, say []audio.Clip) (key rune, err error) {
	for _, clip := range say {
		if key, err = call.Ask(ctx, clip, 0); err != nil || key != 0 {
			break
		}
	}
	return key, err
}

// pressed is what a key brings about: the end of the wait, or something to be
// said, perhaps nothing.
func (d *Desk) pressed(c *tickets.Contact, key rune) (say []audio.Clip, err error) {
	switch {
	case key == keyMessage:
		return say, errMessage
	case key != keyCallback || !c.Service.CallbackOffered:
	case d.callable(c):
		return say, errCallback
	case c.Caller == "":
		return []audio.Clip{d.Prompts.Clip(prompts.CannotCall)}, nil
	}
	return say, nil
}

// closing offers a callback, or a message, to who waits when the service closes.
// It returns what they have chosen; meanwhile an operator may still answer.
func (d *Desk) closing(ctx context.Context, call Call, c *tickets.Contact) error {
	offer := audio.Join("chiusura, offerte", d.Prompts.Clip(prompts.Closing), d.Prompts.Offers(d.callable(c)))
	key, err := call.Ask(ctx, offer, closingWait)
	switch {
	case err != nil:
		return err
	case key == keyCallback && d.callable(c):
		return errCallback
	}
	return errClosed
}

// forget drops the keys that were pressed so far.
func forget(ctx context.Context, call Call) error {
	for {
		if key, err := call.Ask(ctx, audio.Clip{}, 0); err != nil || key == 0 {
			return err
		}
	}
}

var (
	errMoment  = errors.New("something is to be said")
	errClosing = errors.New("the service closes")
)

// music sounds until the caller presses a key or something is to be said, which
// it returns.
func (d *Desk) music(ctx context.Context, call Call, c *tickets.Contact, place *queue.Place, m *moments) (key rune, say []audio.Clip, err error) {
	err = call.While(ctx, d.Prompts.Clip(prompts.Music), func(ctx context.Context) (err error) {
		for {
			until, cancel := context.WithDeadlineCause(ctx, m.next(), errMoment)
			key, err = call.Key(until)
			cancel()
			now := time.Now()
			switch {
			case !errors.Is(err, errMoment) || ctx.Err() != nil:
				return err
			case !now.Before(m.limit):
				return errTooLong
			case !m.closing.IsZero() && !now.Before(m.closing):
				return errClosing
			}
			m.announce = m.announce.Add(c.Service.AnnounceEvery)
			if say, err = d.announcement(ctx, c, place, !now.Before(m.nobody)); err != nil || say != nil {
				return err
			}
		}
	})
	return key, say, err
}

// announcement says where a caller stands and what they may do instead of
// waiting; nothing when that cannot be found out now. errNobody when nobody is
// there to be waited for, and that is not to be borne any longer (enough).
func (d *Desk) announcement(ctx context.Context, c *tickets.Contact, place *queue.Place, enough bool) ([]audio.Clip, error) {
	asked, cancel := context.WithTimeout(ctx, forecastWait)
	defer cancel()
	f, err := d.Queue.Forecast(asked, place.Contact(), time.Now())
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		d.Log.Warn("a caller cannot be told where they stand", "contact", c.ID, "error", err)
		return nil, nil
	case f.Position == 0: // an operator is just being rung
		return nil, nil
	case f.Operators == 0 && enough:
		return nil, errNobody
	}
	return []audio.Clip{d.Prompts.Place(f.Position, f.Wait), d.Prompts.Offers(c.Service.CallbackOffered && d.callable(c))}, nil
}

// search waits for offers and rings them until an operator has answered. While
// the database is away, or refuses for whatever reason, it tries again: the
// caller has music and keeps the place.
func (d *Desk) search(ctx context.Context, place *queue.Place, c *tickets.Contact) (media.Leg, *queue.Offer, error) {
	var away time.Time // since when the database has not answered
	for {
		asked := time.Now()
		offer, err := place.Wait(ctx)
		if time.Since(asked) > awayAsks {
			away = time.Time{} // it was there in between
		}
		switch {
		case err == nil:
			away = time.Time{}
			leg, err := d.Phones.Ring(ctx, offer, c, func(ctx context.Context, at time.Time) error {
				err := d.Queue.AcceptWith(ctx, offer, at, queue.Also(d.Tickets.Talks(c, offer.Operator, at)))
				c.Talked = c.Talked || err == nil
				return err
			})
			if err == nil {
				return leg, offer, nil
			}
			if db.Away(err) { // the operator lifted in vain; and perhaps the database knows of an acceptance
				d.orLater("withdraw", Withdrawn{Offer: offer.ID, At: time.Now()}, err)
			}
		case errors.Is(err, queue.ErrGone) || ctx.Err() != nil:
			return nil, nil, fmt.Errorf("wait: %w", err)
		case away.IsZero():
			away = time.Now()
		case time.Since(away) > awayLongest:
			return nil, nil, fmt.Errorf("wait: %w", err)
		default:
			select {
			case <-time.After(awayRetry):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
	}
}
