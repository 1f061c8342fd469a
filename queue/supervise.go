package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Part is how a supervisor takes part in an operator's talk.
type Part string

// The parts. A supervisor may change from each to each.
const (
	Listen  Part = "listen"  // they hear both
	Whisper Part = "whisper" // and the operator hears them
	Barge   Part = "barge"   // and so does the caller
)

// talkOver is why a supervision ended with the talk, as the journal says it.
const talkOver = "talk_over"

// Supervision is a supervisor who takes part in the talk that an offer led to.
type Supervision struct {
	By        int64
	Extension string // whose telephone is to ring
	Of        string // the operator, as shown
	As        Part
	At        time.Time  // when they asked: no two are the same
	Since     *time.Time // since when they are on; nil: their telephone rings
}

// same says whether nothing has changed.
func (s *Supervision) same(o *Supervision) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.By == o.By && s.As == o.As && s.At.Equal(o.At) && (s.Since == nil) == (o.Since == nil)
}

// supervisingSQL says whether the operator of seat s takes part in somebody's talk:
// they are offered nobody meanwhile. What stands there of a talk that is over says nothing.
// Nearly nobody does, so nearly always no offer is looked at.
const supervisingSQL = `(s.supervises is not null and exists (select from offers x where x.id = s.supervises and x.released_at is null))`

// SupervisionTopic names the wake-ups of whoever lets supervisors into the talk that
// an offer led to.
func SupervisionTopic(offer uuid.UUID) string { return "supervision:" + offer.String() }

// Supervise asks that a supervisor take part in the talk that an offer led to: the
// conversation rings their telephone. ErrNotTalking when that talk is over; ErrNotNow
// while its two do not hear each other; ErrSupervised when somebody else takes part in
// it; ErrSupervises when the supervisor is in one already, ErrSeatBusy with a caller.
func (q *Queue) Supervise(ctx context.Context, by int64, offer uuid.UUID, as Part, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error { return q.supervise(ctx, tx, by, offer, as, at) })
	if err != nil {
		return fmt.Errorf("supervise a talk: %w", err)
	}
	return nil
}

func (q *Queue) supervise(ctx context.Context, tx *db.Tx, by int64, offer uuid.UUID, as Part, at time.Time) error {
	o, err := readOffer(ctx, tx, offer)
	if errors.Is(err, ErrTooLate) {
		return ErrNotTalking
	}
	if err == nil {
		err = makeSeat(ctx, tx, by, at)
	}
	if err != nil {
		return err
	}
	seats, err := lockSeats(ctx, tx, o.Operator, by)
	if err != nil {
		return err
	}
	var taken bool
	err = tx.QueryRow(ctx, `select exists (select from seats where supervises = @offer)`, args{"offer": offer}).Scan(&taken)
	if err != nil {
		return err
	}
	switch mine, theirs := seats[by], seats[o.Operator]; {
	case theirs.Doing != Talking || theirs.Offer != null(offer):
		return ErrNotTalking
	case mine.Doing == Offered || mine.Doing == Talking: // oneself, too
		return ErrSeatBusy
	case mine.Supervises.Valid:
		return ErrSupervises
	case taken:
		return ErrSupervised
	case theirs.Talk != Together:
		return ErrNotNow
	}
	w := q.work(tx, at)
	w.batch.Queue(`update seats set supervises = @offer, supervises_as = @as, supervises_at = @at, supervises_since = null, supervises_why = '' where user_id = @by`,
		args{"offer": offer, "as": as, "at": at, "by": by})
	w.moved(journal.SupervisionAsked, o, by, map[string]any{"as": as})
	return w.done(ctx)
}

// supervision writes a line about a supervisor in the talk that an offer led to, on
// the contact's stream and on the operator's seat.
func (w *work) supervision(k journal.Kind, o Offer, by int64, more map[string]any) {
	w.wake(SupervisionTopic(o.ID), PlaceTopic(o.Contact), SeatTopic(o.Operator), SeatTopic(by))
	of, at := map[string]any{"offer": o.ID, "operator": o.Operator}, map[string]any{"offer": o.ID, "contact": o.Contact, "by": by}
	for key, v := range more {
		of[key], at[key] = v, v
	}
	w.line(journal.Line{Stream: journal.ContactStream(o.Contact), Kind: k, Contact: null(o.Contact), User: by, Data: of})
	w.line(journal.Line{Stream: journal.SeatStream(o.Operator), Kind: k, User: o.Operator, Data: at})
}

// moved is supervision for two seats that are locked: both are others now.
func (w *work) moved(k journal.Kind, o Offer, by int64, more map[string]any) {
	w.batch.Queue(`update seats set version = version + 1 where user_id in (@operator, @by)`, args{"operator": o.Operator, "by": by})
	w.supervision(k, o, by, more)
}

// over notes that a supervision has ended with the talk. The supervisor's seat is
// not locked: what it says of a talk that is over says nothing.
func (w *work) over(o Offer, by int64) {
	w.supervision(journal.SupervisionEnded, o, by, why(talkOver))
	w.wake(TopicMatch)
}

// lockSupervision locks the seats of a supervisor and of the operator in whose talk
// they take part, and gives the offer that led to it. ErrNotSupervising.
func lockSupervision(ctx context.Context, tx *db.Tx, by int64) (o Offer, err error) {
	mine, err := readSeat(ctx, tx, by)
	switch {
	case errors.Is(err, ErrNoSeat):
		return o, ErrNotSupervising
	case err != nil:
		return o, err
	case !mine.Supervises.Valid:
		return o, ErrNotSupervising
	}
	if o, err = readOffer(ctx, tx, mine.Supervises.UUID); err != nil {
		return o, err
	}
	seats, err := lockSeats(ctx, tx, o.Operator, by)
	if err != nil {
		return o, err
	}
	if theirs := seats[o.Operator]; seats[by].Supervises != mine.Supervises || theirs.Doing != Talking || theirs.Offer != null(o.ID) {
		return o, ErrNotSupervising
	}
	return o, nil
}

// SuperviseAs changes a supervisor's part in the talk that they are in.
// ErrNotSupervising.
func (q *Queue) SuperviseAs(ctx context.Context, by int64, as Part, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		o, err := lockSupervision(ctx, tx, by)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `update seats set supervises_as = @as where user_id = @by and supervises_as <> @as`, args{"by": by, "as": as})
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		w := q.work(tx, at)
		w.moved(journal.SupervisionChanged, o, by, map[string]any{"as": as})
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("supervise a talk otherwise: %w", err)
	}
	return nil
}

// Supervises notes that a supervisor is on, before they hear anything: whoever is
// heard is told first. ErrNotSupervising when they have thought better of it, or the
// talk is over.
func (q *Queue) Supervises(ctx context.Context, s *Supervision, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		o, err := lockSupervision(ctx, tx, s.By)
		if err != nil {
			return err
		}
		var as Part
		err = tx.QueryRow(ctx, `update seats set supervises_since = @at where user_id = @by and supervises_at = @asked returning supervises_as`,
			args{"by": s.By, "asked": s.At, "at": at}).Scan(&as)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotSupervising
		}
		if err != nil {
			return err
		}
		w := q.work(tx, at)
		w.moved(journal.SupervisionBegan, o, s.By, map[string]any{"as": as})
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("note that a supervisor is on: %w", err)
	}
	return nil
}

// StopSupervising ends a supervisor's part in the talk that they are in; their
// telephone is hung up. ErrNotSupervising.
func (q *Queue) StopSupervising(ctx context.Context, by int64, at time.Time) error {
	return q.supervised(ctx, by, nil, "", at)
}

// Supervised notes that a supervision has ended otherwise than with its talk, and
// why, when it came to nothing. ErrNotSupervising when it had ended before.
func (q *Queue) Supervised(ctx context.Context, s *Supervision, reason string, at time.Time) error {
	return q.supervised(ctx, s.By, &s.At, reason, at)
}

// supervised ends what a supervisor takes part in, if it is what they asked for at an
// instant; nil: whatever it is.
func (q *Queue) supervised(ctx context.Context, by int64, asked *time.Time, reason string, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		o, err := lockSupervision(ctx, tx, by)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `update seats set supervises = null, supervises_as = '', supervises_since = null, supervises_why = @reason
			where user_id = @by and supervises_at = coalesce(@asked, supervises_at)`, args{"by": by, "asked": asked, "reason": reason})
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotSupervising
		}
		w := q.work(tx, at)
		w.moved(journal.SupervisionEnded, o, by, why(reason))
		w.wake(TopicMatch)
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("end a supervision: %w", err)
	}
	return nil
}

// Demote ends the part in a talk of somebody who may not supervise any more, in the
// transaction that takes the right away. Whoever takes part in nothing is left alone.
func (q *Queue) Demote(ctx context.Context, tx *db.Tx, user int64, at time.Time) error {
	seat, err := lockSeat(ctx, tx, user)
	switch {
	case errors.Is(err, ErrNoSeat):
		return nil
	case err == nil && seat.Supervises.Valid:
		err = q.excluded(ctx, tx, seat, "demoted", at)
	}
	if err != nil {
		return fmt.Errorf("demote: %w", err)
	}
	return nil
}

// Unsupervised ends the part of everybody who supervises a talk of a service, in the
// transaction that forbids it.
func (q *Queue) Unsupervised(ctx context.Context, tx *db.Tx, service int64, at time.Time) error {
	rows, err := tx.Query(ctx, `
		select s.user_id from seats s join offers o on o.id = s.supervises and o.released_at is null join contacts c on c.id = o.contact_id
		where c.service_id = @service order by s.user_id`, args{"service": service})
	if err != nil {
		return fmt.Errorf("end the supervision of a service: %w", err)
	}
	users, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	for _, user := range users {
		var seat Seat
		if seat, err = lockSeat(ctx, tx, user); err == nil && seat.Supervises.Valid {
			err = q.excluded(ctx, tx, seat, "withdrawn", at)
		}
		if err != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("end the supervision of a service: %w", err)
	}
	return nil
}

// excluded ends the supervision of somebody who is let go, or may not supervise any
// more, whose seat is locked; the operator's is not, and stands as it stood.
func (q *Queue) excluded(ctx context.Context, tx *db.Tx, seat Seat, reason string, at time.Time) error {
	o, err := readOffer(ctx, tx, seat.Supervises.UUID)
	if err != nil {
		return err
	}
	w := q.work(tx, at)
	w.batch.Queue(`update seats set supervises = null, supervises_as = '', supervises_since = null where user_id = @by`, args{"by": seat.User})
	w.supervision(journal.SupervisionEnded, o, seat.User, why(reason))
	return w.done(ctx)
}

// AwaitSupervision waits until who supervises the talk that an offer led to, or how,
// is another than was, and returns it; nil is nobody. It ends with ctx, whose cause it
// returns; while the database is away it tries again every second.
func (q *Queue) AwaitSupervision(ctx context.Context, offer *Offer, was *Supervision) (*Supervision, error) {
	woken := q.db.Wakeups.Subscribe(SupervisionTopic(offer.ID))
	defer woken.Close()
	again := time.NewTimer(retryAfter)
	again.Stop()
	defer again.Stop()
	for look := was != nil || !q.quiet(SupervisionTopic(offer.ID), offer); ; look = true {
		if look {
			now, err := q.supervisionOf(ctx, offer.ID)
			switch {
			case ctx.Err() != nil:
				return nil, context.Cause(ctx)
			case err != nil:
				again.Reset(retryAfter)
			case !now.same(was):
				return now, nil
			default:
				again.Stop()
			}
		}
		select {
		case <-woken.C():
		case <-again.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// supervisionOf reads who takes part in a talk; nil: nobody.
func (q *Queue) supervisionOf(ctx context.Context, offer uuid.UUID) (*Supervision, error) {
	rows, err := q.db.Pool.Query(ctx, `
		select s.user_id as by, coalesce(u.extension, '') as extension, w.display_name as of, s.supervises_as as as, s.supervises_at as at, s.supervises_since as since
		from seats s join users u on u.id = s.user_id join offers o on o.id = s.supervises and o.released_at is null join users w on w.id = o.user_id
		where s.supervises = @offer`, args{"offer": offer})
	if err != nil {
		return nil, fmt.Errorf("read who supervises: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Supervision])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read who supervises: %w", err)
	}
	return s, nil
}
