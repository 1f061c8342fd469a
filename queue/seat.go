package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Declared is what an operator said.
type Declared string

// What an operator can declare.
const (
	Available Declared = "available"
	Break     Declared = "break"
	Admin     Declared = "admin" // at work, but not for callers
	Off       Declared = "off"
)

// Doing is what the desk is doing with an operator. Every Doing but Idle has the
// instant that ends it, and an event that usually ends it before:
//
//	offered   accept, decline, withdraw      RingLongest: timed out, paused
//	talking   release                        renewed by the beat of the call's node; talkLease after its last
//	wrapping  the operator is available      the operator's own wrap-up, extended at will up to MaxWrapUp
type Doing string

// What the desk can be doing with an operator.
const (
	Idle     Doing = "idle"
	Offered  Doing = "offered"
	Talking  Doing = "talking"
	Wrapping Doing = "wrapping"
)

// Why the desk itself has put an operator on a break; Busy and Unreachable are
// reasons of Decline too.
const (
	Missed      = "missed"            // did not answer an offer
	Busy        = "busy"              // the telephone was engaged
	Unreachable = "phone_unreachable" // the telephone could not be rung
)

// Seat is an operator at work.
type Seat struct {
	User        int64
	Operator    string // the name they sign in with
	DisplayName string
	Extension   string        // "": no telephone
	WrapUp      time.Duration // after each talk; 0: none

	Declared   Declared
	Reason     string // Pausa, Pranzo, …; Missed, Busy, Unreachable when the desk paused them
	DeclaredAt time.Time
	DeclaredBy int64  // the supervisor who said it for them; 0: themselves, or the desk
	ForcedBy   string // that supervisor's name as shown
	Doing      Doing
	DoingAt    time.Time
	DoingUntil *time.Time // nil when idle
	IdleSince  time.Time  // the longest idle is served first
	Offer      uuid.NullUUID
	Contact    uuid.NullUUID // offered, talking, or the one being wrapped up
	Ticket     string        // the contact's ticket, "" when there is none
	Node       string        // who holds the call
	Version    int64         // counts the changes
	Topics     []int64       // that the operator has skills for
	Active     bool          // false: was let go; a talk goes on to its end
	Talk       Talk          // where the talk stands
	TalkAt     *time.Time    // since when it stands so; nil: as long as there is a talk
	TalkWhy    string        // why what was asked of it last came to nothing, one of our words; "": it did not

	Supervisor      string     // who takes part in the talk, as they sign in; "": nobody
	SupervisorName  string     // as shown
	SupervisorPart  Part       // how
	SupervisorSince *time.Time // since when; nil: their telephone rings

	Supervises    uuid.NullUUID // the offer that led to the talk in which they take part themselves
	SupervisesWhy string        // why that came to nothing the last time, one of our words; "": it did not
}

// offered is the seat with an offer ringing.
func (s Seat) offered(o Offer) Seat {
	s.Doing, s.DoingAt, s.DoingUntil = Offered, o.OfferedAt, &o.ExpiresAt
	s.Offer, s.Contact, s.Node = null(o.ID), null(o.Contact), o.node
	return s
}

// talking is the seat whose offer was accepted.
func (s Seat) talking(at time.Time) Seat {
	until := at.Add(talkLease)
	s.Doing, s.DoingAt, s.DoingUntil, s.Talk, s.TalkWhy = Talking, at, &until, Together, ""
	return s
}

// spared is the seat whose offer came to nothing. It has been idle all along, so
// that it is not served later for having been asked.
func (s Seat) spared(at time.Time) Seat {
	s.Doing, s.DoingAt, s.DoingUntil, s.Talk, s.TalkWhy = Idle, at, nil, Together, ""
	s.Offer, s.Contact, s.Node = uuid.NullUUID{}, uuid.NullUUID{}, ""
	return s
}

// paused is the seat the desk takes from a room that seems to be empty. What an
// operator has declared themselves stands.
func (s Seat) paused(reason string, at time.Time) Seat {
	if s.Declared == Available {
		s.Declared, s.Reason, s.DeclaredAt, s.DeclaredBy = Break, reason, at, 0
	}
	return s
}

// released is the seat after its talk.
func (s Seat) released(at time.Time) Seat {
	if s.WrapUp <= 0 {
		return s.wrapped(at)
	}
	until := at.Add(s.WrapUp)
	s.Doing, s.DoingAt, s.DoingUntil, s.Node, s.Talk, s.TalkWhy = Wrapping, at, &until, "", Together, ""
	return s
}

// wrapped is the seat after its wrap-up: now it begins to be idle.
func (s Seat) wrapped(at time.Time) Seat {
	s = s.spared(at)
	s.IdleSince = at
	return s
}

// declare is the seat after its operator said something. While they talk or wrap
// up it takes effect afterwards, but for this: being available ends the wrap-up.
func (s Seat) declare(d Declared, reason string, at time.Time) Seat {
	if s.Doing == Wrapping && d == Available {
		s = s.wrapped(at)
	}
	if s.Declared != Available && d == Available && s.Doing == Idle {
		s.IdleSince = at // waiting for calls begins now
	}
	if d != Break {
		reason = "" // only breaks have one
	}
	if s.Declared != d || s.Reason != reason {
		s.Declared, s.Reason, s.DeclaredAt = d, reason, at
	}
	return s
}

// extended is the seat with a longer wrap-up, of MaxWrapUp in all at most.
func (s Seat) extended(d time.Duration) Seat {
	until := s.DoingUntil.Add(d)
	if longest := s.DoingAt.Add(MaxWrapUp); until.After(longest) {
		until = longest
	}
	s.DoingUntil = &until
	return s
}

// Declare notes what an operator says of themselves: available, break, admin or
// off, with the reason of a break. Being available ends the wrap-up. Whoever
// goes while an offer rings is not waited for: the offer is withdrawn. During a
// talk it is kept for afterwards. ErrState, ErrNoSeat.
func (q *Queue) Declare(ctx context.Context, user int64, declared, reason string, at time.Time) error {
	return q.declare(ctx, user, 0, declared, reason, at)
}

// Force is Declare in a supervisor's name: it takes effect as the operator's own
// word would, the journal says who spoke, and so does the operator's page until
// they choose for themselves. A state they are in already stays their own.
func (q *Queue) Force(ctx context.Context, user, by int64, declared, reason string, at time.Time) error {
	return q.declare(ctx, user, by, declared, reason, at)
}

func (q *Queue) declare(ctx context.Context, user, by int64, declared, reason string, at time.Time) error {
	d := Declared(declared)
	switch d {
	case Available, Break, Admin, Off:
	default:
		return fmt.Errorf("declare %q: %w", declared, ErrState)
	}
	return q.db.Tx(ctx, func(tx *db.Tx) error {
		if err := makeSeat(ctx, tx, user, at); err != nil {
			return fmt.Errorf("declare %s: %w", declared, err)
		}
		seat, err := lockSeat(ctx, tx, user)
		if err == nil {
			err = q.declareIn(ctx, tx, seat, d, reason, by, at)
		}
		if err != nil {
			return fmt.Errorf("declare %s: %w", declared, err)
		}
		return nil
	})
}

// Dismiss is Declare off in the transaction that lets somebody go, or come back:
// what they had declared before must not call them. A talk goes on to its end; but
// whoever takes part in somebody else's is hung up on.
func (q *Queue) Dismiss(ctx context.Context, tx *db.Tx, user int64, at time.Time) error {
	seat, err := lockSeat(ctx, tx, user)
	if errors.Is(err, ErrNoSeat) {
		return nil
	}
	if err == nil {
		err = q.declareIn(ctx, tx, seat, Off, "", 0, at)
	}
	if err == nil && seat.Supervises.Valid {
		err = q.excluded(ctx, tx, seat, "dismissed", at)
	}
	if err != nil {
		return fmt.Errorf("dismiss: %w", err)
	}
	return nil
}

// declareIn is Declare, or Force by somebody, for a seat that the transaction has
// locked.
func (q *Queue) declareIn(ctx context.Context, tx *db.Tx, seat Seat, d Declared, reason string, by int64, at time.Time) (err error) {
	if seat.Doing == Offered && d != Available {
		if seat, err = q.conclude(ctx, tx, seat.Offer.UUID, end{to: Withdrawn, reason: string(d), place: placeWaiting}, at); err != nil {
			return err
		}
	}
	next := seat.declare(d, reason, at)
	changed := next.Declared != seat.Declared || next.Reason != seat.Reason
	if !changed && next.Doing == seat.Doing {
		return nil
	}
	if changed {
		next.DeclaredBy = by
	}
	w := q.work(tx, at)
	if seat.Doing == Wrapping && next.Doing == Idle {
		w.wrapped(seat, at)
	}
	if changed {
		w.declared(next)
	}
	w.seat(next)
	w.wake(TopicMatch)
	return w.done(ctx)
}

// ExtendWrapUp gives an operator d more to wrap up. ErrNotWrapping.
func (q *Queue) ExtendWrapUp(ctx context.Context, user int64, d time.Duration, at time.Time) error {
	if d <= 0 {
		return fmt.Errorf("extend the wrap-up by %v: not a longer time", d)
	}
	return q.db.Tx(ctx, func(tx *db.Tx) error {
		seat, err := lockSeat(ctx, tx, user)
		if err != nil {
			return fmt.Errorf("extend the wrap-up: %w", err)
		}
		if seat.Doing != Wrapping || !seat.DoingUntil.After(at) {
			return fmt.Errorf("extend the wrap-up: %w", ErrNotWrapping)
		}
		next := seat.extended(d)
		w := q.work(tx, at)
		w.seat(next)
		w.line(journal.Line{Stream: journal.SeatStream(user), Kind: journal.Extended, User: user,
			Data: map[string]any{"contact": seat.Contact, "until": next.DoingUntil.UTC()}})
		return w.done(ctx)
	})
}

// Release frees an operator from a talk that is over: they wrap up, or are idle
// when they have no wrap-up. A second Release does nothing, nor does one of an
// offer that was never accepted.
func (q *Queue) Release(ctx context.Context, offer uuid.UUID, at time.Time) error {
	return q.release(ctx, offer, "", at, Also{})
}

// Also is what else is to be true when an operator accepts, or is released.
type Also struct {
	Batch *pgx.Batch                                 // is sent in the round that locks the seat, after it, also when that finds the offer over: then nothing of it happens; nil: nothing
	Then  func(ctx context.Context, tx *db.Tx) error // what follows from its results; nil: nothing, nor is there a Batch

	// Known leaves both for the round of the COMMIT, with what breaks the transaction off
	// where they would not be as is known: it divides by zero; nil: nothing is known.
	Known func(ctx context.Context, tx *db.Tx) error
}

// ReleaseWith is Release in one transaction with something else, which is done whoever
// has released the operator. What was asked of the talk last comes too late.
func (q *Queue) ReleaseWith(ctx context.Context, offer *Offer, at time.Time, also Also) error {
	err := q.ReleaseUnasked(ctx, offer, at, also)
	if errors.Is(err, ErrOtherwise) {
		err = q.release(ctx, offer.ID, "", at, also)
	}
	return err
}

// ReleaseUnasked is ReleaseWith for a talk of which nothing is known but what is in its
// offer, in one round. ErrOtherwise when something lies in its inbox, somebody supervises
// it, the operator has no wrap-up, or it is over: then nothing has happened.
//
// Commands and supervisors come under the lock of the operator's seat. So the seat is
// taken first, and a statement that comes after that looks whether there are any: what
// was asked before is found, and what comes later finds that nobody talks.
func (q *Queue) ReleaseUnasked(ctx context.Context, offer *Offer, at time.Time, also Also) error {
	if !offer.wraps || also.Known == nil && also.Then != nil {
		return ErrOtherwise
	}
	offer.wraps = false // it is not tried twice
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		w := q.work(tx, at)
		w.batch.Queue(`
			update seats s set doing = 'wrapping', doing_at = @at, doing_until = @at::timestamptz + u.wrap_up * interval '1 second', node = '',
				talk = '', talk_at = case when s.talk = '' then s.talk_at else @at end, talk_why = '', version = s.version + 1
			from users u where s.user_id = @user and u.id = s.user_id and s.doing = 'talking' and s.offer_id = @offer and u.wrap_up > 0`,
			args{"user": offer.Operator, "offer": offer.ID, "at": at})
		w.batch.Queue(`
			with freed as (
				update offers set released_at = @at where id = @offer and state || '' = 'accepted' and released_at is null and contact_id = @contact
					and exists (select from seats where user_id = @user and doing = 'wrapping' and offer_id = @offer and doing_at = @at)
					and not exists (select from seats where supervises = @offer) and not exists (select from commands where offer_id = @offer) returning 1
			) select 1 / count(*)::int from freed`,
			args{"user": offer.Operator, "offer": offer.ID, "contact": offer.Contact, "at": at})
		w.both(journal.Released, *offer, nil)
		if err := w.done(ctx); err != nil || also.Known == nil {
			return err
		}
		return also.Known(ctx, tx)
	})
	if divided(err) {
		return ErrOtherwise
	}
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// divided tells whether a check broke a transaction off: it divides by how many rows are
// as they should be. It must be an error: COMMIT is under way when it is asked, and nothing
// else keeps that from what was done before; one that is caught in PostgreSQL would cost every call a
// subtransaction. So PostgreSQL's log has a line (docs/operations.md), and what is known here
// to be otherwise is not tried.
func divided(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && said.Code == "22012" // division_by_zero
}

// ReleaseUnreached is Release for an operator who rang somebody back in vain:
// there is no more to wrap up than a handset and a word.
func (q *Queue) ReleaseUnreached(ctx context.Context, offer uuid.UUID, at time.Time) error {
	return q.release(ctx, offer, unreached, at, Also{})
}

const (
	unreached       = "unreached"      // the reason in the journal
	unreachedWrapUp = 10 * time.Second // to put the handset down: the next call would find it engaged
)

// release is Release, for a reason of ours when it is not "", and with what else is
// to be done.
func (q *Queue) release(ctx context.Context, offer uuid.UUID, reason string, at time.Time, also Also) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		var b pgx.Batch
		f := queueFreeing(&b, offer, at)
		if also.Batch != nil {
			b.QueuedQueries = append(b.QueuedQueries, also.Batch.QueuedQueries...)
		}
		o, seat, err := lockOffer(ctx, tx, offer, anyOffer, &b)
		if err != nil {
			return err
		}
		if f.first {
			w := q.work(tx, at)
			w.freed(o, seat, f, reason)
			err = w.done(ctx)
		}
		if err != nil || also.Then == nil {
			return err
		}
		return also.Then(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// freeing is what was found when an operator was freed of an offer.
type freeing struct {
	first      bool  // nobody had freed them before
	supervisor int64 // who took part in the talk; 0: nobody
}

// queueFreeing puts into a batch that the operator of an accepted offer is free of it,
// and nothing is asked of the talk any more. The transaction holds their seat by then.
// (Adding nothing to the state keeps the planner from the index of those that were
// accepted, through which it would read all that were freed since the last vacuum.)
func queueFreeing(b *pgx.Batch, offer uuid.UUID, at time.Time) *freeing {
	f := &freeing{}
	b.Queue(`with unmet as (delete from commands where offer_id = @id)
		update offers set released_at = @at where id = @id and state || '' = 'accepted' and released_at is null
		returning coalesce((select user_id from seats where supervises = @id), 0)`, args{"id": offer, "at": at}).
		QueryRow(func(row pgx.Row) error {
			err := row.Scan(&f.supervisor)
			if f.first = err == nil; errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		})
	return f
}

// released frees the operator of an offer, whose seat the transaction has locked;
// false when they were free of it before.
func (w *work) released(ctx context.Context, o Offer, seat Seat, reason string) (bool, error) {
	var b pgx.Batch
	f := queueFreeing(&b, o.ID, w.at)
	if err := w.tx.SendBatch(ctx, &b).Close(); err != nil {
		return false, fmt.Errorf("release: %w", err)
	}
	if f.first {
		w.freed(o, seat, f, reason)
	}
	return f.first, nil
}

// freed is what follows for the seat.
func (w *work) freed(o Offer, seat Seat, f *freeing, reason string) {
	if f.supervisor != 0 { // it holds no longer than the talk; their own seat is not ours to lock here
		w.over(o, f.supervisor)
	}
	w.both(journal.Released, o, why(reason))
	if seat.Doing != Talking || seat.Offer != null(o.ID) {
		return
	}
	if reason == unreached {
		seat.WrapUp = min(seat.WrapUp, unreachedWrapUp)
	}
	next := seat.released(w.at)
	w.seat(next)
	if next.Doing == Idle {
		w.wrapped(seat, w.at)
		w.wake(TopicMatch)
	}
}

// endWrapUps ends wrap-ups whose time is over, each at the instant it was to end. One
// that has been extended or ended meanwhile stays as it is; one that cannot be ended
// keeps no other.
func (q *Queue) endWrapUps(ctx context.Context, users []int64, at time.Time) error {
	err := q.endWrapUpsTogether(ctx, users, at)
	if err == nil || len(users) == 1 || ctx.Err() != nil {
		return err
	}
	var errs []error
	for _, user := range users {
		errs = append(errs, q.endWrapUpsTogether(ctx, []int64{user}, at))
	}
	return errors.Join(errs...)
}

func (q *Queue) endWrapUpsTogether(ctx context.Context, users []int64, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		seats, err := lockWrapping(ctx, tx, users, at)
		for _, seat := range seats {
			over := *seat.DoingUntil
			w := q.work(tx, over)
			w.wrapped(seat, over)
			w.seat(seat.wrapped(over))
			w.wake(TopicMatch)
			err = errors.Join(err, w.done(ctx))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("end the wrap-up: %w", err)
	}
	return nil
}

// Seat reads one operator's seat; somebody who never declared anything is off.
func (q *Queue) Seat(ctx context.Context, user int64) (*Seat, error) {
	return q.SeatThrough(ctx, q.db, user)
}

// SeatThrough is Seat by another way to the same database.
func (q *Queue) SeatThrough(ctx context.Context, d *db.DB, user int64) (*Seat, error) {
	seat, err := readSeat(ctx, d.Pool, user)
	if err != nil {
		return nil, fmt.Errorf("read the seat of user %d: %w", user, err)
	}
	return &seat, nil
}

// Seats reads the seats of all active operators, by name, and of those who were
// let go and are still at a call. Who has neither a seat nor a telephone is no
// operator.
func (q *Queue) Seats(ctx context.Context) ([]Seat, error) {
	seats, err := readSeats(ctx, q.db.Pool)
	if err != nil {
		return nil, fmt.Errorf("read the seats: %w", err)
	}
	return seats, nil
}

func null(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: true} }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
