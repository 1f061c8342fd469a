package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

const (
	levels    = 3             // of a skill: 1 best
	stickyFor = time.Minute   // a caller who rings again prefers the operator they know for so long
	stickyAge = time.Hour     // and again means: so long after that talk
	longTalk  = 3 * time.Hour // no talk lasts so long; bounds the search for it
	forever   = 100 * 365 * 24 * time.Hour
)

// skill is what an operator knows of a topic.
type skill struct {
	topic int64
	level int // 1 best … levels
}

// route is how the demands of a topic relax while a caller waits. The zero route
// is content with every level at once and has nowhere else to go.
type route struct {
	relax    [levels]time.Duration // by level less one: the wait after which it is good enough
	overflow int64                 // a topic whose operators are good enough too; 0: none
	after    time.Duration         // after this wait
}

// rank orders the seats that fit a caller: who knows them, then by level, then
// who only helps out.
const (
	rankSticky   = 0
	rankBest     = 1
	rankOverflow = levels + 1
)

// from is the instant from which a seat fits a caller, as far as skills go; false
// when it never does.
func (f free) from(c caller) (at time.Time, ok bool) {
	wait := time.Duration(forever)
	for _, s := range f.skills {
		switch {
		case s.topic == c.topic:
			wait = min(wait, c.route.relax[s.level-1])
		case s.topic == c.route.overflow && c.route.overflow != 0:
			wait = min(wait, c.route.after)
		}
	}
	return c.joined.Add(wait), wait < forever
}

// fits says whether a caller can be offered to a seat at an instant. What fits
// goes on fitting as time passes, but for a refusal.
func (f free) fits(c caller, at time.Time) bool {
	from, ok := f.from(c)
	return ok && !from.After(later(at, c.joined)) && !slices.Contains(c.refused, f.seat.User)
}

// later is the later of two instants: a match may have begun before a place it
// finds was taken.
func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// rank is how gladly a caller is given to a seat that fits: 0 most.
func (f free) rank(c caller, at time.Time) int {
	if c.sticky == f.seat.User && c.sticky != 0 && at.Before(c.joined.Add(stickyFor)) {
		return rankSticky
	}
	for _, s := range f.skills {
		if s.topic == c.topic {
			return s.level
		}
	}
	return rankOverflow
}

// class are callers who fit the same of the free seats: those of a topic who
// joined within a stretch of time. Refusals set a caller apart.
type class struct {
	topic       int64
	after, upto time.Time // joined after one, at the other at the latest
}

// classes are the classes of callers that at least one of the seats fits.
func classes(routes map[int64]route, seats []free, at time.Time) (list []class) {
	for topic, r := range routes {
		waits := append([]time.Duration{0, r.after}, r.relax[:]...) // what relaxes, and when
		slices.Sort(waits)
		waits = slices.Compact(waits)
		var before []bool // of the class with less patience: which seats fit
		for i, w := range waits {
			c := class{topic: topic, after: at.Add(-forever), upto: at.Add(-w)}
			if i == 0 {
				c.upto = at.Add(forever) // also who joined since
			}
			if i+1 < len(waits) {
				c.after = at.Add(-waits[i+1])
			}
			one := caller{topic: topic, route: r, joined: at.Add(-w)}
			fit := make([]bool, len(seats))
			for s, f := range seats {
				fit[s] = f.fits(one, at)
			}
			switch {
			case !slices.Contains(fit, true):
			case slices.Equal(fit, before):
				list[len(list)-1].after = c.after
			default:
				list = append(list, c)
			}
			before = fit
		}
	}
	return list
}

// Route is how the demands of a topic relax while a caller waits, as it is
// configured. The zero Route takes every operator of the topic at once.
type Route struct {
	Topic    string        // its code
	Second   time.Duration // the wait after which operators of level 2 may have the caller
	Third    time.Duration // of level 3; not less than Second
	Overflow string        // the code of a topic whose operators help out; "": nobody does
	After    time.Duration // the wait after which they do
}

// ErrRoute is a Route that cannot be; errors.As finds the *RouteError.
var ErrRoute = errors.New("not a way for a topic to relax")

// RouteError says what is wrong with a Route, by its field: second, third, after,
// overflow or topic.
type RouteError struct {
	Field string
	Why   string
}

// Error implements error.
func (e *RouteError) Error() string { return ErrRoute.Error() + ": " + e.Why }

// Unwrap makes it an ErrRoute.
func (e *RouteError) Unwrap() error { return ErrRoute }

// ErrRouteChanged: somebody else has changed the route since it was read.
var ErrRouteChanged = errors.New("the route was changed meanwhile")

// RouteLongest is the longest wait that a route can ask for.
const RouteLongest = 24 * time.Hour

func (r Route) check() error {
	for _, d := range []struct {
		field string
		wait  time.Duration
	}{{"second", r.Second}, {"third", r.Third}, {"after", r.After}} {
		if d.wait < 0 || d.wait > RouteLongest || d.wait%time.Second != 0 {
			return &RouteError{d.field, fmt.Sprintf("%v is not in whole seconds, up to %v", d.wait, RouteLongest)}
		}
	}
	switch {
	case r.Second > r.Third:
		return &RouteError{"third", "the third level comes before the second"}
	case r.Overflow == r.Topic:
		return &RouteError{"overflow", r.Topic + " would overflow to itself"}
	}
	return nil
}

// TopicRoute is a topic with its route, and how many people know it.
type TopicRoute struct {
	ID    int64
	Name  string
	Route Route
	Knows [levels]int // active people, by level less one
}

const topicRoutesSQL = `
	select t.id, t.name, t.code, t.relax_2, t.relax_3, coalesce(o.code, ''), t.overflow_after,
		array(select count(u.id) from generate_series(1, 3) level
			left join user_topics k on k.topic_id = t.id and k.level = level.level
			left join users u on u.id = k.user_id and u.active
			group by level.level order by level.level)
	from topics t left join topics o on o.id = t.overflow_id order by t.id`

// TopicRoutes lists all topics by id.
func (q *Queue) TopicRoutes(ctx context.Context) ([]TopicRoute, error) {
	rows, err := q.db.Pool.Query(ctx, topicRoutesSQL)
	if err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t TopicRoute, err error) {
		var second, third, after int
		var knows []int
		err = row.Scan(&t.ID, &t.Name, &t.Route.Topic, &second, &third, &t.Route.Overflow, &after, &knows)
		t.Route.Second, t.Route.Third, t.Route.After = time.Duration(second)*time.Second, time.Duration(third)*time.Second, time.Duration(after)*time.Second
		copy(t.Knows[:], knows)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the routes: %w", err)
	}
	return list, nil
}

// SetRoute changes a topic's route; who waits is looked at again at once. was is
// the route that the one who changes it has seen, nil for whatever there is; by
// is 0 for the command line. *RouteError, ErrRouteChanged.
func (q *Queue) SetRoute(ctx context.Context, was *Route, r Route, by int64, at time.Time) error {
	if err := r.check(); err != nil {
		return err
	}
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		topic, now, err := lockRoute(ctx, tx, r.Topic)
		switch {
		case err != nil:
			return err
		case was != nil && *was != now:
			return ErrRouteChanged
		}
		tag, err := tx.Exec(ctx, `
			update topics t set relax_2 = @second, relax_3 = @third, overflow_id = o.id, overflow_after = @after
			from (select @overflow::text as code) w left join topics o on o.code = w.code
			where t.id = @topic and (w.code = '' or o.id is not null)`,
			args{"topic": topic, "second": int(r.Second / time.Second), "third": int(r.Third / time.Second),
				"overflow": r.Overflow, "after": int(r.After / time.Second)})
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return &RouteError{"overflow", r.Overflow + " is not a topic"}
		}
		w := q.work(tx, at)
		w.wake(TopicMatch)
		w.line(journal.Line{Stream: journal.DeskStream, Kind: journal.Routed, User: by, Data: map[string]any{"topic": topic}})
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("route a topic: %w", err)
	}
	return nil
}

// lockRoute reads the route of a topic, which nobody else changes until the
// transaction ends.
func lockRoute(ctx context.Context, tx *db.Tx, code string) (topic int64, r Route, err error) {
	var second, third, after int
	r.Topic = code
	err = tx.QueryRow(ctx, `
		select t.id, t.relax_2, t.relax_3, coalesce((select o.code from topics o where o.id = t.overflow_id), ''), t.overflow_after
		from topics t where t.code = @code for update`, args{"code": code}).Scan(&topic, &second, &third, &r.Overflow, &after)
	if errors.Is(err, pgx.ErrNoRows) {
		err = &RouteError{"topic", code + " is not a topic"}
	}
	r.Second, r.Third, r.After = time.Duration(second)*time.Second, time.Duration(third)*time.Second, time.Duration(after)*time.Second
	return topic, r, err
}
