package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// The advisory lock under which one match at a time runs, in the key space of
// two integers: the journal's locks are in the other one.
const (
	matchLockClass = 0x70726f6e // "pron"
	matchLock      = 1
)

// caller is a place as Match sees it.
type caller struct {
	contact  uuid.UUID
	node     string // who will join the two: a callback is conducted by the node that offers it
	topic    int64
	callback bool
	refused  []int64 // operators who must not have this caller now
}

// free is a seat as Match sees it: available and idle.
type free struct {
	seat   Seat
	topics []int64
}

func (f free) fits(c caller) bool {
	return slices.Contains(f.topics, c.topic) && !slices.Contains(c.refused, f.seat.User)
}

// from is the instant from which a seat fits a caller, as far as skills go; false
// when it never does.
func (f free) from(c caller) (time.Time, bool) {
	return time.Time{}, slices.Contains(f.topics, c.topic)
}

// pair gives callers to seats, and returns for each seat the index of its caller,
// or -1. Callers come in the queue's order, seats longest idle first. A caller
// takes the longest idle seat that fits. If all that fit are taken, a caller
// before is moved to another seat where that lets both be served: so as many are
// served as can be, and nobody's turn is lost to somebody behind.
//
// This is Kuhn's augmenting path (Naval Research Logistics Quarterly 2, 1955):
// the served are the first, in the queue's order, that can be served together.
func pair(callers []caller, seats []free) []int {
	has := make([]int, len(seats))
	for i := range has {
		has[i] = -1
	}
	served := 0
	for c := range callers {
		if served == len(seats) {
			break
		}
		if place(callers, seats, has, c, make([]bool, len(seats))) {
			served++
		}
	}
	return has
}

// place finds a seat for caller c, moving others if need be; tried are the seats
// it need not look at again.
func place(callers []caller, seats []free, has []int, c int, tried []bool) bool {
	for s := range seats {
		if has[s] < 0 && !tried[s] && seats[s].fits(callers[c]) {
			has[s] = c
			return true
		}
	}
	for s := range seats {
		if !tried[s] && seats[s].fits(callers[c]) {
			tried[s] = true
			if place(callers, seats, has, has[s], tried) {
				has[s] = c
				return true
			}
		}
	}
	return false
}

const freeSQL = `select ` + seatColumns + `, array(select topic_id from user_topics k where k.user_id = s.user_id)` + seatsFirst + `
	where s.doing = 'idle' and s.declared = 'available' and u.active order by s.idle_since, s.user_id for update of s skip locked`

const freeCountSQL = `select count(*) from seats s join users u on u.id = s.user_id where s.doing = 'idle' and s.declared = 'available' and u.active`

// A caller of a node that has fallen silent is probably gone with it. Somebody
// to be rung back is offered when their time has come, by a node that can dial.
// When no seat is free nobody need be read.
const callersSQL = `
	select p.contact_id, case when p.kind = 'callback' then @node else p.node end, p.topic_id, p.kind = 'callback', array(
		select o.user_id from offers o
		where o.contact_id = p.contact_id and o.state = 'declined' and o.reason = @refused and o.ended_at > @refused_since)
	from places p left join nodes n on n.id = p.node
	where p.state = 'waiting' and case when p.kind = 'callback' then @dials and p.next_at <= @at
			else p.node = @node or n.seen_at is null or n.seen_at > @silent end
		and exists (select from seats where doing = 'idle' and declared = 'available')
	order by p.urgency, p.t0, p.contact_id`

// How often, and after which pause (doubled each time), Match looks again at what
// somebody else had locked: short transactions, of which some change nothing and
// so wake nobody. The sum is some 300 ms; after that the next beat looks.
const (
	lookAgain      = 5
	lookAgainPause = 10 * time.Millisecond
)

// Match offers callers to operators, as many as it can: callers by urgency, then
// by T0, then by id; each to the longest idle of the seats that are available,
// idle and skilled for the topic, and whose operator has not refused this caller
// within a minute. It returns how many offers it made.
func (q *Queue) Match(ctx context.Context, at time.Time) (made int, err error) {
	pause := lookAgainPause
	for range 1 + lookAgain {
		var n int
		var skipped bool
		err := q.db.Tx(ctx, func(tx *db.Tx) (err error) {
			n, skipped, err = q.match(ctx, tx, at)
			return err
		})
		if err != nil {
			return made, fmt.Errorf("match: %w", err)
		}
		made += n
		if !skipped {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return made, fmt.Errorf("match: %w", context.Cause(ctx))
		}
		at = at.Add(pause)
		pause *= 2
	}
	return made, nil
}

// match is one transaction of Match. It tells whether it had to skip somebody.
func (q *Queue) match(ctx context.Context, tx *db.Tx, at time.Time) (made int, skipped bool, err error) {
	seats, callers, skipped, err := q.candidates(ctx, tx, at)
	if err != nil {
		return 0, false, err
	}
	for {
		has := pair(callers, seats)
		gone, err := lockChosen(ctx, tx, callers, has)
		if err != nil {
			return 0, false, err
		}
		if len(gone) == 0 {
			made, err = q.offer(ctx, tx, callers, seats, has, at)
			return made, skipped, err
		}
		// Some are leaving just now. Who is behind them may have their seats.
		skipped = true
		callers = slices.DeleteFunc(callers, func(c caller) bool { return gone[c.contact] })
	}
}

// candidates takes the lock and then reads who is free and who waits, and whether
// there are more free seats than it could lock. They are four statements in one round: each has its own snapshot (read committed), so
// those that read see what the match before this one has committed. A lock
// taken within the reading statement would come after its snapshot.
func (q *Queue) candidates(ctx context.Context, tx *db.Tx, at time.Time) (seats []free, callers []caller, skipped bool, err error) {
	var b pgx.Batch
	b.Queue(`select pg_advisory_xact_lock(@class, @lock)`, args{"class": matchLockClass, "lock": matchLock})
	b.Queue(freeSQL).Query(func(rows pgx.Rows) (err error) {
		seats, err = pgx.CollectRows(rows, scanFree)
		return err
	})
	b.Queue(callersSQL, args{"node": q.node, "dials": q.Dials(), "at": at, "silent": at.Add(-silentAfter), "refused": Refused, "refused_since": at.Add(-refusedFor)}).
		Query(func(rows pgx.Rows) (err error) {
			callers, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c caller, err error) {
				return c, row.Scan(&c.contact, &c.node, &c.topic, &c.callback, &c.refused)
			})
			return err
		})
	var all int
	b.Queue(freeCountSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&all) })
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return nil, nil, false, err
	}
	return seats, callers, all > len(seats) && len(callers) > 0, nil
}

func scanFree(row pgx.CollectableRow) (f free, err error) {
	var wrapUp int
	s := &f.seat
	err = row.Scan(&s.User, &s.Operator, &s.DisplayName, &s.Extension, &wrapUp, &s.Declared, &s.Reason, &s.DeclaredAt, &s.Doing, &s.DoingAt,
		&s.DoingUntil, &s.IdleSince, &s.Offer, &s.Contact, &s.Ticket, &s.Node, &s.Version, &f.topics)
	s.WrapUp = time.Duration(wrapUp) * time.Second
	return f, err
}

// lockChosen locks the places of the chosen callers, and returns those that are
// no longer there to be locked.
func lockChosen(ctx context.Context, tx *db.Tx, callers []caller, has []int) (gone map[uuid.UUID]bool, err error) {
	var chosen []uuid.UUID
	for _, c := range has {
		if c >= 0 {
			chosen = append(chosen, callers[c].contact)
		}
	}
	if len(chosen) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `select contact_id from places where contact_id = any(@chosen) and state = 'waiting' for update skip locked`,
		args{"chosen": chosen})
	if err != nil {
		return nil, err
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, err
	}
	gone = map[uuid.UUID]bool{}
	for _, id := range chosen {
		if !slices.Contains(locked, id) {
			gone[id] = true
		}
	}
	return gone, nil
}

// offer writes the offers that were decided.
func (q *Queue) offer(ctx context.Context, tx *db.Tx, callers []caller, seats []free, has []int, at time.Time) (made int, err error) {
	var w *work
	for s, c := range has {
		if c < 0 {
			continue
		}
		if w == nil {
			w = q.work(tx, at)
		}
		seat, caller := seats[s].seat, callers[c]
		o := Offer{ID: uuid.New(), Contact: caller.contact, Operator: seat.User, Name: seat.Operator, Extension: seat.Extension,
			State: Pending, OfferedAt: at, ExpiresAt: at.Add(RingLongest), node: caller.node}
		w.seat(seat.offered(o))
		w.place(o.Contact, placeWaiting, placeOffered, at)
		w.offer(o)
		w.both(journal.Offered, o, nil)
		if caller.callback {
			w.wake(TopicCallbacks)
		}
		made++
	}
	if w == nil {
		return 0, nil
	}
	return made, w.do(ctx)
}
