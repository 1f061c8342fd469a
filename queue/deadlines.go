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
// offers and wrap-ups whose time is over, and matches when anything has changed. It sleeps until the next of these or a
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
	due := newAlarm() // for deadlines, and for who waits
	defer due.Stop()
	due.by(time.Now())
	var deadline time.Time // the next that is known
	var looked time.Time   // when somebody to match was looked for last
	wanted := false        // a match was asked for since
	again := time.NewTicker(rehearseEvery)
	defer again.Stop()
	_ = q.rehearse(ctx, time.Now(), true)
	failing := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			err = q.tend(ctx, time.Now())
			beat.Reset(beatEvery)
		case <-again.C:
			_ = q.rehearse(ctx, time.Now(), false) // an error that lasts is the next beat's, too
		case <-nodes.C():
			err = q.beat(ctx, time.Now())
		case <-match.C():
			wanted = true
			due.by(looked.Add(lookRest))
			continue
		case <-changed.C():
			due.by(time.Now().Add(keepSoon))
			continue
		case <-due.C:
			due.rang()
			over := !deadline.IsZero() && !time.Now().Before(deadline)
			matches := wanted || over
			if matches {
				looked, wanted = time.Now(), false
			}
			var waits bool
			deadline, waits, err = q.keep(ctx, due)
			if err == nil && over {
				q.db.Wakeups.Wake(TopicMatch) // it may have been a refusal that has lapsed; who was freed has waked it, too
			}
			if err == nil && waits && matches {
				_, err = q.look(ctx, true)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			q.log.Error("the queue's clocks cannot be kept, trying again", "error", err, "database_away", db.Away(err))
			q.db.Wakeups.Wake(TopicMatch) // who waits is to learn it too: the wake-ups of others will not come
		} else if err == nil && failing {
			q.log.Info("the queue's clocks are kept again")
			_ = q.rehearse(ctx, time.Now(), true) // the connections are new
		}
		failing = err != nil
	}
}

// alarm rings once, at the earliest instant that it was set to since it rang.
type alarm struct {
	*time.Timer
	at time.Time // zero: it is not set
}

func newAlarm() *alarm {
	a := &alarm{Timer: time.NewTimer(0)}
	a.Stop()
	return a
}

// by sets it to ring at an instant at the latest.
func (a *alarm) by(at time.Time) {
	if a.at.IsZero() || at.Before(a.at) {
		a.at = at
		a.Reset(time.Until(at))
	}
}

// rang says that it was heard.
func (a *alarm) rang() { a.at = time.Time{} }

// tend is one beat: first our own talks are renewed, only then is it asked which
// of them are over. It also matches, in case a wake-up was lost on its way from
// another node.
func (q *Queue) tend(ctx context.Context, at time.Time) error {
	if err := q.beat(ctx, at); err != nil {
		return err
	}
	if err := q.judge(ctx, at); err != nil {
		return err
	}
	_, err := q.look(ctx, false)
	return err
}

// beat says that this node lives, and renews those of its talks that have but half
// of their lease left. A talk whose contact has its ending is none: it is left to
// judge.
func (q *Queue) beat(ctx context.Context, at time.Time) error {
	var b pgx.Batch
	q.beatNode(&b, at)
	b.Queue(`
		update seats set doing_until = @until where user_id in (
			select s.user_id from seats s join contacts c on c.id = s.contact_id
			where s.doing = 'talking' and s.doing_until <= @half and s.node = @node and c.ending is null for update of s skip locked)`,
		args{"node": q.node, "half": at.Add(talkLease / 2), "until": at.Add(talkLease)})
	ctx, cancel := context.WithTimeout(ctx, beatLongest)
	defer cancel()
	err := q.db.Pool.SendBatch(ctx, &b).Close()
	if err == nil {
		err = q.db.Alone(ctx, q.alone())
	}
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	return nil
}

// judge frees our own seats whose contact has long ended, so that the talk is one
// that nobody renews. A ringing back of ours that nobody conducts any more has
// failed, and is tried again. What dead nodes have left is the leader's: GiveUp.
func (q *Queue) judge(ctx context.Context, at time.Time) error {
	var talks, attempts []uuid.UUID
	var b pgx.Batch
	b.Queue(`
		select s.offer_id from seats s join contacts c on c.id = s.contact_id
		where s.doing = 'talking' and s.doing_until <= @at and s.node = @node and c.ending is not null`, args{"node": q.node, "at": at}).
		Query(func(rows pgx.Rows) (err error) { talks, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); return err })
	b.Queue(`
		select p.attempt from places p join callbacks b on b.contact_id = p.contact_id and b.outcome is null
			join contacts c on c.id = p.attempt where c.te <= @dead`, args{"dead": at.Add(-talkLease)}).
		Query(func(rows pgx.Rows) (err error) {
			attempts, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			return err
		})
	asked, cancel := context.WithTimeout(ctx, beatLongest)
	defer cancel()
	if err := q.db.Pool.SendBatch(asked, &b).Close(); err != nil {
		return fmt.Errorf("look for dead talks and attempts: %w", err)
	}
	var errs []error
	for _, attempt := range attempts {
		q.log.Warn("a ringing back that nobody conducts has failed", "attempt", attempt)
		errs = append(errs, q.Attempted(ctx, attempt, SystemFault, at))
	}
	for _, offer := range talks {
		q.log.Warn("a talk that nobody renews is over", "offer", offer)
		errs = append(errs, q.release(ctx, offer, "node_lost", at, Also{}))
	}
	return errors.Join(errs...)
}

// keep ends what is over and sets due to the next deadline, which it returns; zero:
// there is none. It says whether anybody waits.
func (q *Queue) keep(ctx context.Context, due *alarm) (next time.Time, waits bool, err error) {
	at := time.Now()
	next, waits, err = q.sweep(ctx, at)
	rested := time.Now().Add(keepRest)
	switch {
	case err != nil:
		due.by(time.Now().Add(retryAfter))
	case next.IsZero():
	case next.Before(rested):
		due.by(rested)
	default:
		due.by(next)
	}
	return next, waits, err
}

// dueOffer is a pending offer whose time is over.
type dueOffer struct {
	id   uuid.UUID
	late bool // nobody could look after it in time: it costs the operator nothing
}

// sweep ends the offers and wrap-ups that are over at an instant, and returns the
// next instant at which one is, a refusal lapses, a topic is content with more
// operators for somebody who waits, or somebody is to be rung back again; zero when
// there is none. It says whether anybody waited before that.
func (q *Queue) sweep(ctx context.Context, at time.Time) (next time.Time, waits bool, err error) {
	var offers []dueOffer
	var wraps []int64
	var first *time.Time
	var b pgx.Batch
	b.Queue(`
		select id, expires_at <= @late or node = any(@silent)
		from offers where state = 'pending' and expires_at <= @at`,
		args{"at": at, "late": at.Add(-silentAfter), "silent": q.silentNodes()}).
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
	b.Queue(waitsSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&waits) })
	if err := q.clock.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return next, false, fmt.Errorf("look for deadlines: %w", err)
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
	if len(wraps) > 0 {
		errs = append(errs, q.endWrapUps(ctx, wraps, at))
	}
	return next, waits, errors.Join(errs...)
}

func ids(ctx context.Context, q querier, sql string, a args) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, sql, a)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}
