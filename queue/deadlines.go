package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
)

// Run keeps the queue's clocks until ctx ends: it says that this node lives, ends
// offers and wrap-ups whose time is over, frees what a dead node has left, and
// matches when anything has changed. It sleeps until the next of these or a
// wake-up. Errors of the database are logged, and tried again a second later.
func (q *Queue) Run(ctx context.Context) error {
	changed := q.db.Wakeups.Subscribe(TopicQueue)
	defer changed.Close()
	match := q.db.Wakeups.Subscribe(TopicMatch)
	defer match.Close()
	nodes := q.db.Wakeups.Subscribe(TopicNodes)
	defer nodes.Close()
	beat := time.NewTimer(0)
	defer beat.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	var alive pulse
	failing := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			err = q.tend(ctx, &alive, time.Now())
			beat.Reset(beatEvery)
		case <-nodes.C():
			err = q.beat(ctx, time.Now())
		case <-match.C():
			err = q.look(ctx)
		case <-due.C:
			if err = q.keep(ctx, due); err == nil {
				err = q.look(ctx) // it may have been a refusal that has lapsed
			}
		case <-changed.C():
			err = q.keep(ctx, due)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			q.log.Error("the queue's clocks cannot be kept, trying again", "error", err, "database_away", db.Away(err))
			q.db.Wakeups.Wake(TopicMatch) // who waits is to learn it too: the wake-ups of others will not come
		} else if err == nil && failing {
			q.log.Info("the queue's clocks are kept again")
		}
		failing = err != nil
	}
}

// pulse is how long this node has been in touch with the database.
type pulse struct{ since, last time.Time }

func (p *pulse) beat(at time.Time) {
	if p.last.IsZero() || at.Sub(p.last) > silentAfter {
		p.since = at
	}
	p.last = at
}

// judges tells whether this node may judge others: not right after it was away
// itself, for then they probably were too and have yet to say that they live.
func (p *pulse) judges(at time.Time) bool { return at.Sub(p.since) >= silentAfter }

// tend is one beat: first our own talks are renewed, only then others judged. It
// also matches, in case a wake-up was lost on its way from another node.
func (q *Queue) tend(ctx context.Context, alive *pulse, at time.Time) error {
	if err := q.beat(ctx, at); err != nil {
		return err
	}
	alive.beat(at)
	if err := q.judge(ctx, alive.judges(at), at); err != nil {
		return err
	}
	return q.look(ctx)
}

// beat says that this node lives, and with it all its talks. A talk whose
// contact has its ending is none: it is left to judge.
func (q *Queue) beat(ctx context.Context, at time.Time) error {
	var b pgx.Batch
	q.beatNode(&b, at)
	b.Queue(`
		update seats set doing_until = @until where user_id in (
			select s.user_id from seats s join contacts c on c.id = s.contact_id
			where s.doing = 'talking' and s.node = @node and c.ending is null for update of s skip locked)`,
		args{"node": q.node, "until": at.Add(talkLease)})
	if err := q.db.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	return nil
}

// judge frees the seats whose talk nobody renews: those of dead nodes, when
// others may be judged, and our own whose contact has long ended. Callers who
// waited on a dead node have gone with it; their contacts are for the tickets'
// recovery. A ringing back that nobody conducts any more has failed, and is
// tried again.
func (q *Queue) judge(ctx context.Context, others bool, at time.Time) error {
	a := args{"node": q.node, "others": others, "at": at, "dead": at.Add(-talkLease)}
	talks, err := ids(ctx, q.db.Pool, `
		select s.offer_id from seats s join contacts c on c.id = s.contact_id left join nodes n on n.id = s.node
		where s.doing = 'talking' and s.doing_until <= @at
			and case when s.node = @node then c.ending is not null else @others and coalesce(n.seen_at <= @dead, true) end`, a)
	if err != nil {
		return fmt.Errorf("look for dead talks: %w", err)
	}
	var places []uuid.UUID
	if others {
		places, err = ids(ctx, q.db.Pool, `
			select p.contact_id from places p join nodes n on n.id = p.node
			where p.state in ('waiting', 'offered') and p.kind = 'live' and p.node <> @node and n.seen_at <= @dead`, args{"node": q.node, "dead": at.Add(-talkLease)})
		if err != nil {
			return fmt.Errorf("look for dead places: %w", err)
		}
	}
	attempts, err := ids(ctx, q.db.Pool, `
		select p.attempt from places p join callbacks b on b.contact_id = p.contact_id and b.outcome is null
			join contacts c on c.id = p.attempt left join nodes n on n.id = p.node
		where c.te <= @dead or @others and p.node <> @node and n.seen_at <= @dead`, args{"node": q.node, "others": others, "dead": at.Add(-talkLease)})
	if err != nil {
		return fmt.Errorf("look for dead attempts: %w", err)
	}
	var errs []error
	for _, attempt := range attempts {
		q.log.Warn("a ringing back that nobody conducts has failed", "attempt", attempt)
		errs = append(errs, q.Attempted(ctx, attempt, SystemFault, at))
	}
	for _, offer := range talks {
		q.log.Warn("a talk that nobody renews is over", "offer", offer)
		errs = append(errs, q.release(ctx, offer, "node_lost", at))
	}
	for _, contact := range places {
		q.log.Warn("a place of a dead node is given up", "contact", contact)
		errs = append(errs, q.leave(ctx, contact, "node_lost", at))
	}
	return errors.Join(errs...)
}

// keep ends what is over and sets due to the next deadline.
func (q *Queue) keep(ctx context.Context, due *time.Timer) error {
	at := time.Now()
	next, err := q.sweep(ctx, at)
	switch {
	case err != nil:
		due.Reset(retryAfter)
	case next.IsZero():
		due.Stop()
	default:
		due.Reset(time.Until(next))
	}
	return err
}

// dueOffer is a pending offer whose time is over.
type dueOffer struct {
	id   uuid.UUID
	late bool // nobody could look after it in time: it costs the operator nothing
}

// sweep ends the offers and wrap-ups that are over at an instant, and returns the
// next instant at which one is, a refusal lapses, a topic is content with more
// operators for somebody who waits, or somebody is to be rung back again; zero when
// there is none.
func (q *Queue) sweep(ctx context.Context, at time.Time) (next time.Time, err error) {
	var offers []dueOffer
	var wraps []int64
	var first *time.Time
	var b pgx.Batch
	b.Queue(`
		select o.id, o.expires_at <= @silent or (o.node <> @node and coalesce(n.seen_at <= @silent, false))
		from offers o left join nodes n on n.id = o.node where o.state = 'pending' and o.expires_at <= @at`,
		args{"at": at, "silent": at.Add(-silentAfter), "node": q.node}).
		Query(func(rows pgx.Rows) (err error) {
			offers, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o dueOffer, err error) { return o, row.Scan(&o.id, &o.late) })
			return err
		})
	b.Queue(`select user_id from seats where doing = 'wrapping' and doing_until <= @at`, args{"at": at}).
		Query(func(rows pgx.Rows) (err error) {
			wraps, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
	b.Queue(`select min(t) from (
			select expires_at as t from offers where state = 'pending'
			union all select doing_until from seats where doing = 'wrapping'
			union all select next_at from places where kind = 'callback' and state = 'waiting'
			union all select o.ended_at + @refused_for::interval from places p join offers o on o.contact_id = p.contact_id
				where p.state = 'waiting' and o.state = 'declined' and o.reason = @refused and o.ended_at > @at::timestamptz - @refused_for::interval
			union all select f.joined_at + r.wait from (
					select id, unnest(array[relax_2, relax_3, case when overflow_id is not null then overflow_after end]) * interval '1 second' as wait from topics
				) r, lateral (
					select joined_at from places where state = 'waiting' and topic_id = r.id and joined_at > @at::timestamptz - r.wait order by joined_at limit 1
				) f where r.wait > '0'
		) deadlines where t > @at`,
		args{"at": at, "refused_for": refusedFor, "refused": Refused}).
		QueryRow(func(row pgx.Row) error { return row.Scan(&first) })
	if err := q.db.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return next, fmt.Errorf("look for deadlines: %w", err)
	}
	if first != nil {
		next = *first
	}
	var errs []error
	for _, o := range offers {
		if o.late {
			err = q.withdraw(ctx, o.id, "late", at)
		} else {
			err = q.TimeOut(ctx, o.id, at)
		}
		if err != nil && !errors.Is(err, ErrTooLate) {
			errs = append(errs, err)
		}
	}
	for _, user := range wraps {
		errs = append(errs, q.endWrapUp(ctx, user, at))
	}
	return next, errors.Join(errs...)
}

func ids(ctx context.Context, q querier, sql string, a args) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, sql, a)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}
