package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// State is where an offer stands: pending, then exactly one of the others.
type State string

// The states of an offer.
const (
	Pending   State = "pending"
	Accepted  State = "accepted"
	Declined  State = "declined"
	TimedOut  State = "timed_out"
	Withdrawn State = "withdrawn"
)

// Refused is the reason of Decline when the operator chose "Rifiuta" on the
// page: the seat stays available, but not for this caller for a minute.
const Refused = "rifiuta"

// Offer is one caller offered to one operator.
type Offer struct {
	ID        uuid.UUID
	Contact   uuid.UUID
	Operator  int64
	Name      string // the operator's, as they sign in
	Extension string // "": the operator has no telephone
	State     State
	OfferedAt time.Time
	ExpiresAt time.Time // when it is missed
	PaintedAt *time.Time
	Consult   bool // the operator is only asked by the one who talks: the caller stays theirs

	wraps bool    // the operator has a wrap-up, when it was read
	node  string  // the caller's
	mark  db.Mark // an instant before it was made, or read, or accepted; zero: it is not known
}

// end is one way in which a pending offer ends.
type end struct {
	to     State
	reason string
	place  placeState // where the caller's place stands afterwards
	pause  string     // why the operator is put on a break; "": they are not

	contact uuid.UUID // of Accepted with something else: whose offer it is
	also    Also      // and what that is
}

// cause is what Watch's context ends with.
var cause = map[State]error{Declined: ErrDeclined, TimedOut: ErrTimedOut, Withdrawn: ErrWithdrawn}

// kind is how the journal calls each end.
var kind = map[State]journal.Kind{
	Accepted: journal.Accepted, Declined: journal.Declined, TimedOut: journal.TimedOut, Withdrawn: journal.Withdrawn,
}

// conclude ends a pending offer: whoever changes its state first has won, and
// ErrTooLate is for everybody else. Seat and place follow in the same
// transaction; it returns the seat as it stands then.
func (q *Queue) conclude(ctx context.Context, tx *db.Tx, id uuid.UUID, e end, at time.Time) (Seat, error) {
	var b pgx.Batch
	won := false
	b.Queue(`update offers set state = @to, reason = @reason, ended_at = @at where id = @id and state = 'pending'`,
		args{"id": id, "to": e.to, "reason": e.reason, "at": at}).
		Exec(func(tag pgconn.CommandTag) error { won = tag.RowsAffected() == 1; return nil })
	var again []overtaken
	if e.to == Accepted {
		queueOvertaken(&b, ofOffer, id, &again)
	}
	if e.also.Batch != nil { // it may lock the contact: the place comes before that
		queuePlace(&b, e.contact, placeOffered, e.place, at)
		b.QueuedQueries = append(b.QueuedQueries, e.also.Batch.QueuedQueries...)
	}
	o, seat, err := lockOffer(ctx, tx, id, pendingOffer, &b) // one that is over will not be pending again: no need to wait for the seat
	if err != nil {
		return seat, err
	}
	if !won {
		return seat, ErrTooLate
	}
	w := q.work(tx, at)
	w.both(kind[e.to], o, why(e.reason))
	if e.also.Batch == nil {
		w.place(o.Contact, placeOffered, e.place, at)
	}
	switch {
	case e.to == Accepted && o.Consult:
		seat = seat.talking(at)
		seat.Talk = Advising
	case e.to == Accepted:
		seat = seat.talking(at)
		if e.also.Then == nil {
			w.operator(o)
		}
		w.settle(o, again)
	default:
		w.wake(OfferTopic(id))
		seat = seat.spared(at)
		w.unreserve(o.Contact, at)
		err = w.unneeded(ctx, o.Contact)
		w.wake(TopicMatch)
	}
	if err != nil {
		return seat, err
	}
	if e.pause != "" && seat.Declared == Available {
		seat = seat.paused(e.pause, at)
		w.declared(seat)
	}
	w.seat(seat)
	if err := w.done(ctx); err != nil || e.also.Then == nil {
		return seat, err
	}
	return seat, e.also.Then(ctx, tx)
}

// over ends an offer in a transaction of its own.
func (q *Queue) over(ctx context.Context, offer uuid.UUID, e end, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		_, err := q.conclude(ctx, tx, offer, e, at)
		return err
	})
	if err != nil {
		return fmt.Errorf("end an offer as %s: %w", e.to, err)
	}
	return nil
}

// Accept gives the caller to the operator: the seat talks, the place is taken.
// ErrTooLate when the offer is over, whoever ended it.
func (q *Queue) Accept(ctx context.Context, offer uuid.UUID, at time.Time) error {
	return q.over(ctx, offer, end{to: Accepted, place: placeTaken}, at)
}

// AcceptWith is Accept in one transaction with something else, which names the
// operator on the contact.
func (q *Queue) AcceptWith(ctx context.Context, offer *Offer, at time.Time, also Also) error {
	mark := q.db.Wakeups.Mark()
	err := q.acceptKnown(ctx, offer, at, also)
	if errors.Is(err, ErrOtherwise) {
		err = q.over(ctx, offer.ID, end{to: Accepted, place: placeTaken, contact: offer.Contact, also: also}, at)
	}
	if err == nil {
		offer.mark = mark // nothing was asked of the talk before
	}
	return err
}

// acceptKnown is AcceptWith in one round, for an offer that is as it was made.
// ErrOtherwise when it is over, or the caller has a callback that ends with it: then
// nothing has happened. An offer ends under the lock of its seat, which the first
// statement takes and the second looks for.
func (q *Queue) acceptKnown(ctx context.Context, o *Offer, at time.Time, also Also) error {
	if o.Consult || also.Known == nil {
		return ErrOtherwise
	}
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		w := q.work(tx, at)
		w.batch.Queue(`
			update seats set doing = 'talking', doing_at = @at, doing_until = @until, version = version + 1
			where user_id = @user and doing = 'offered' and offer_id = @offer`,
			args{"user": o.Operator, "offer": o.ID, "at": at, "until": at.Add(talkLease)})
		w.batch.Queue(`
			with won as (
				update offers set state = 'accepted', reason = '', ended_at = @at where id = @offer and state = 'pending' and contact_id = @contact and not consult
					and exists (select from seats where user_id = @user and doing = 'talking' and offer_id = @offer and doing_at = @at)
					and not exists (select from contacts me `+againSQL+` where me.id = @contact) returning 1
			) select 1 / count(*)::int from won`,
			args{"user": o.Operator, "offer": o.ID, "contact": o.Contact, "at": at})
		w.place(o.Contact, placeOffered, placeTaken, at)
		w.both(journal.Accepted, *o, nil)
		if err := w.done(ctx); err != nil {
			return err
		}
		return also.Known(ctx, tx)
	})
	if divided(err) {
		return ErrOtherwise
	}
	if err != nil {
		return fmt.Errorf("end an offer as %s: %w", Accepted, err)
	}
	return nil
}

// Decline ends an offer that the operator or their telephone does not want, for
// one of the reasons Refused, Busy and Unreachable. The last two pause the
// operator, who sees why. The caller keeps the place. ErrTooLate.
func (q *Queue) Decline(ctx context.Context, offer uuid.UUID, reason string, at time.Time) error {
	e := end{to: Declined, reason: reason, place: placeWaiting}
	switch reason {
	case Refused:
	case Busy, Unreachable:
		e.pause = reason
	default:
		return fmt.Errorf("decline an offer: no such reason %q", reason)
	}
	return q.over(ctx, offer, e, at)
}

// TimeOut ends an offer that nobody answered: the operator is paused, the caller
// keeps the place. ErrTooLate.
func (q *Queue) TimeOut(ctx context.Context, offer uuid.UUID, at time.Time) error {
	return q.over(ctx, offer, end{to: TimedOut, place: placeWaiting, pause: Missed}, at)
}

// Withdraw takes an offer back, at nobody's expense. ErrTooLate.
func (q *Queue) Withdraw(ctx context.Context, offer uuid.UUID, at time.Time) error {
	return q.withdraw(ctx, offer, "", at)
}

func (q *Queue) withdraw(ctx context.Context, offer uuid.UUID, reason string, at time.Time) error {
	return q.over(ctx, offer, end{to: Withdrawn, reason: reason, place: placeWaiting}, at)
}

// Painted notes that the operator's page shows the offer. A second time does
// nothing; ErrTooLate when the offer is over.
func (q *Queue) Painted(ctx context.Context, offer uuid.UUID, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		tag, err := tx.Exec(ctx, `update offers set painted_at = @at where id = @id and state = 'pending' and painted_at is null`,
			args{"id": offer, "at": at})
		if err != nil {
			return err
		}
		o, err := readOffer(ctx, tx, offer)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 1:
			w := q.work(tx, at)
			w.both(journal.Painted, o, nil)
			return w.done(ctx)
		case o.State != Pending:
			return ErrTooLate
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note that an offer is painted: %w", err)
	}
	return nil
}

// Offer reads an offer; ErrTooLate when there is none of this id.
func (q *Queue) Offer(ctx context.Context, id uuid.UUID) (*Offer, error) {
	o, err := readOffer(ctx, q.db.Pool, id)
	if err != nil {
		return nil, fmt.Errorf("read an offer: %w", err)
	}
	return &o, nil
}

// Watch returns a context that ends when the offer has come to nothing; its cause
// is ErrDeclined, ErrTimedOut or ErrWithdrawn. It lasts hardly longer than RingLongest, also
// when the database is away. An acceptance does not end it, so that what was
// begun under it can become the talk. The function ends the watch and waits for
// its end; call it.
func (q *Queue) Watch(ctx context.Context, offer *Offer) (context.Context, context.CancelFunc) {
	watched, stop := context.WithCancelCause(ctx)
	sub := q.db.Wakeups.Subscribe(OfferTopic(offer.ID)) // before we return: nothing from now on is missed
	id, expires, look := offer.ID, offer.ExpiresAt, !q.quiet(OfferTopic(offer.ID), offer)
	if look {
		expires = time.Now().Add(RingLongest) // until we know better
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer sub.Close()
		if err := q.watch(watched, id, expires, look, sub); err != nil {
			stop(err)
		}
	}()
	return watched, func() {
		stop(context.Canceled)
		<-done
	}
}

// quiet tells whether it is certain that whoever has subscribed to a topic of an offer,
// or of its talk, need not look: nothing has happened since the offer was made (by this
// process), read or accepted. Whatever ends an offer, asks something of its talk or lets a
// supervisor in wakes after its COMMIT. If that was in this process, the wake-up is kept
// since the mark, or finds the subscription; the mark is older than the offer's own COMMIT,
// so nothing can have come before it. If it was on another node, its notification is
// still to come, or is kept here; and what is missed while nobody listens, or by a node that has
// just come, makes everybody look and nothing quiet.
func (q *Queue) quiet(topic string, o *Offer) bool { return q.db.Wakeups.Quiet(topic, o.mark) }

// watchAsks is how long a watch waits for an answer: then its connection is taken for
// dead. A database that is only slow has as long.
const watchAsks = 5 * time.Second

// watch returns the cause for which the offer is over, nil when it was accepted. It
// looks at first unless the offer is known to be pending.
func (q *Queue) watch(ctx context.Context, offer uuid.UUID, expires time.Time, look bool, sub *db.Subscription) error {
	missed := time.NewTimer(time.Until(expires))
	defer missed.Stop()
	again := time.NewTimer(retryAfter)
	again.Stop()
	defer again.Stop()
	for {
		if look {
			asked, cancel := context.WithTimeout(ctx, watchAsks)
			o, err := readOffer(asked, q.db.Pool, offer)
			cancel()
			switch {
			case errors.Is(err, ErrTooLate):
				return ErrWithdrawn // there is none of this id
			case err != nil:
				again.Reset(retryAfter)
			case o.State == Pending:
				missed.Reset(time.Until(o.ExpiresAt))
				again.Stop()
			default:
				return cause[o.State]
			}
		}
		look = true
		select {
		case <-sub.C():
		case <-again.C:
		case <-missed.C:
			if err := q.TimeOut(ctx, offer, time.Now()); err != nil && !errors.Is(err, ErrTooLate) {
				return ErrTimedOut // the database is away: its row is ended when it is back
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
