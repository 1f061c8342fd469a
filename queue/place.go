package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// placeState is where a place stands:
//
//	waiting → offered → taken
//	   ↑ └──────┴─────→ left
//	   └─ an offer that came to nothing; a caller who joins again
type placeState string

const (
	placeWaiting placeState = "waiting"
	placeOffered placeState = "offered"
	placeTaken   placeState = "taken"
	placeLeft    placeState = "left"

	// placeBooked is how the place of a caller who is to be rung back looks to
	// the call it began with: it is no longer theirs.
	placeBooked placeState = "booked"
)

// Entry is a caller who joins the queue.
type Entry struct {
	Contact uuid.UUID
	Topic   int64
	Urgency int       // 1 blocking, 2 not
	T0      time.Time // the INVITE: the order within an urgency
	At      time.Time
}

// Place is a caller's position in the queue: by urgency, then by T0, then by the
// contact's id. It is kept through offers that come to nothing. One goroutine,
// the call's, waits on it.
type Place struct {
	q       *Queue
	contact uuid.UUID
	over    atomic.Bool // we left it ourselves
	given   uuid.UUID   // the offer that Wait returned last
	first   *Offer      // made as the place was taken, and not returned yet; nil: none
}

// Contact is whose place it is.
func (p *Place) Contact() uuid.UUID { return p.contact }

// Place is the place of somebody whom an attempt has rung back, which AcceptCallback
// has made.
func (q *Queue) Place(attempt uuid.UUID) *Place { return &Place{q: q, contact: attempt} }

// Wait blocks until an offer is committed for this place. It matches by itself
// whenever somebody may have become free, on whichever node, and it never polls.
// An offer is returned once: until it has ended, a second Wait waits for the
// next. Errors: the cause of ctx; ErrGone when the place was taken or left; what
// the database says (db.Away: try again a little later, the place is kept).
func (p *Place) Wait(ctx context.Context) (*Offer, error) {
	if o := p.first; o != nil {
		p.first, p.given = nil, o.ID
		return o, nil
	}
	mine := p.q.db.Wakeups.Subscribe(PlaceTopic(p.contact))
	defer mine.Close()
	anybody := p.q.db.Wakeups.Subscribe(TopicMatch)
	defer anybody.Close()
	match, read := true, true
	for {
		var o *Offer
		if match {
			made, err := p.q.look(ctx, true)
			if err != nil {
				return nil, waitError(ctx, err)
			}
			if i := slices.IndexFunc(made, func(o *Offer) bool { return o.Contact == p.contact }); i >= 0 {
				o = made[i] // no need to read it: if it is over by now, its watch says so
			}
		}
		if o == nil && read {
			var err error
			if o, err = p.offer(ctx); err != nil {
				return nil, waitError(ctx, err)
			}
		}
		if o != nil && o.ID != p.given {
			p.given = o.ID
			return o, nil
		}
		select {
		case <-mine.C():
			match, read = false, true
		case <-anybody.C():
			match, read = true, false // an offer for us wakes our own topic
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// waitError is the cause of ctx, also when it ended in the middle of a statement.
func waitError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("wait for an operator: %w", err)
}

// offer is the pending offer of this place, nil when there is none.
func (p *Place) offer(ctx context.Context) (*Offer, error) {
	for {
		mark := p.q.db.Wakeups.Mark()
		state, o, err := readPlace(ctx, p.q.db.Pool, p.contact)
		switch {
		case err != nil:
			return nil, err
		case state == placeLeft && !p.over.Load():
			// Another node took us for dead, but the caller is still here.
			if err := p.back(ctx, time.Now()); err != nil {
				return nil, err
			}
		case state == placeLeft || state == placeTaken || state == placeBooked:
			return nil, ErrGone
		case o != nil:
			o.mark = mark
			return o, nil
		default:
			return nil, nil
		}
	}
}

// back returns a place that somebody else has left for us; ErrGone when the
// contact has its ending: then we were given up, and the caller is to hear so.
func (p *Place) back(ctx context.Context, at time.Time) error {
	return p.q.db.Tx(ctx, func(tx *db.Tx) error {
		tag, err := tx.Exec(ctx, `update places set state = 'waiting', left_at = null, node = @node where contact_id = @contact and state = 'left' and kind = 'live'
			and exists (select from contacts c where c.id = contact_id and c.ending is null)`,
			args{"contact": p.contact, "node": p.q.node})
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrGone
		}
		w := p.q.work(tx, at)
		w.contact(journal.Waiting, p.contact, why("node_alive"))
		w.wake(TopicMatch)
		return w.done(ctx)
	})
}

// Leave gives the place up and withdraws a pending offer. A place that is taken
// or left already stays so, and so does one that became a callback.
func (p *Place) Leave(ctx context.Context, at time.Time) error { return p.LeaveFor(ctx, "", at) }

// LeaveFor is Leave with the reason, for the journal: one of our own words, ""
// when the caller has gone.
func (p *Place) LeaveFor(ctx context.Context, reason string, at time.Time) error {
	p.over.Store(true)
	return p.q.leave(ctx, p.contact, reason, at)
}

// Leave is Place.Leave for who has only the contact: a fact from the spool, after
// the database was away. A COMMIT whose answer was lost may be under way still: the
// transaction by which a place is taken holds the contact, so it is waited for.
func (q *Queue) Leave(ctx context.Context, contact uuid.UUID, at time.Time) error {
	if _, err := q.db.Pool.Exec(ctx, `select from contacts where id = @contact for share`, args{"contact": contact}); err != nil {
		return fmt.Errorf("leave the queue: %w", err)
	}
	return q.leave(ctx, contact, "", at)
}

const leaveTries = 5 // one for each time that an offer begins or ends just then

// errMoved is a place that is no longer where it was read to be.
var errMoved = errors.New("the place has moved")

// leave is Leave, for a reason of ours when it is not "". Each try is a
// transaction of its own: an update that waited for a row and then does not
// match it keeps the row locked all the same, and a place must not be locked
// before the seat.
func (q *Queue) leave(ctx context.Context, contact uuid.UUID, reason string, at time.Time) error {
	err := errMoved
	for try := 0; try < leaveTries && errors.Is(err, errMoved); try++ {
		err = q.db.Tx(ctx, func(tx *db.Tx) error { return q.leaveOnce(ctx, tx, contact, reason, at) })
	}
	if err != nil {
		return fmt.Errorf("leave the queue: %w", err)
	}
	return nil
}

func (q *Queue) leaveOnce(ctx context.Context, tx *db.Tx, contact uuid.UUID, reason string, at time.Time) error {
	state, o, err := readPlace(ctx, tx, contact)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil // it never had a place
	case err != nil:
		return err
	case state == placeTaken || state == placeLeft || state == placeBooked:
		return nil
	case state == placeOffered && o == nil:
		return errMoved
	case state == placeOffered:
		_, err := q.conclude(ctx, tx, o.ID, end{to: Withdrawn, reason: "left", place: placeLeft}, at)
		if errors.Is(err, ErrTooLate) {
			return errMoved // the offer has ended otherwise
		} else if err != nil {
			return err
		}
	case state == placeWaiting:
		tag, err := tx.Exec(ctx, `update places set state = 'left', left_at = @at where contact_id = @contact and state = 'waiting' and kind = 'live'`,
			args{"contact": contact, "at": at})
		if err != nil {
			return err
		} else if tag.RowsAffected() == 0 {
			return errMoved // it has just been offered
		}
	}
	w := q.work(tx, at)
	w.contact(journal.Left, contact, why(reason))
	return w.done(ctx)
}

// Waiting is a caller in the queue, for screens.
type Waiting struct {
	Contact  uuid.UUID
	Topic    int64
	Urgency  int
	T0       time.Time
	JoinedAt time.Time
	State    string // waiting or offered
	Callback bool   // the caller has gone and is to be rung back, from NextAt on
	NextAt   *time.Time
}

// Waiting lists the callers in the queue, in its order. Who waits is found by an index, who
// is offered by their offer, so that no index need be kept of the latter; the places
// of years are not read (0060).
func (q *Queue) Waiting(ctx context.Context) ([]Waiting, error) {
	rows, err := q.db.Pool.Query(ctx, `
		select contact_id as contact, topic_id as topic, urgency, t0, joined_at, state, kind = 'callback' as callback, next_at
		from (
			select * from places where state = 'waiting'
			union all select p.* from offers o join places p on p.contact_id = o.contact_id where o.state = 'pending' and p.state = 'offered'
		) p order by urgency, t0, contact_id`)
	if err != nil {
		return nil, fmt.Errorf("list who waits: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Waiting])
	if err != nil {
		return nil, fmt.Errorf("list who waits: %w", err)
	}
	return list, nil
}
