package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pronto-desk/pronto/db"
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

// ErrRoute is a Route that cannot be.
var ErrRoute = errors.New("not a way for a topic to relax")

const routeLongest = 24 * time.Hour

// SetRoute changes a topic's route; who waits is looked at again at once.
func (q *Queue) SetRoute(ctx context.Context, r Route) error {
	for _, d := range []time.Duration{r.Second, r.Third, r.After} {
		if d < 0 || d > routeLongest || d%time.Second != 0 {
			return fmt.Errorf("%w: %v is not in whole seconds, up to %v", ErrRoute, d, routeLongest)
		}
	}
	switch {
	case r.Second > r.Third:
		return fmt.Errorf("%w: the third level comes before the second", ErrRoute)
	case r.Overflow == r.Topic:
		return fmt.Errorf("%w: %s would overflow to itself", ErrRoute, r.Topic)
	}
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		tag, err := tx.Exec(ctx, `
			update topics t set relax_2 = @second, relax_3 = @third, overflow_id = o.id, overflow_after = @after
			from (select @overflow::text as code) w left join topics o on o.code = w.code
			where t.code = @topic and (w.code = '' or o.id is not null)`,
			args{"topic": r.Topic, "second": int(r.Second / time.Second), "third": int(r.Third / time.Second),
				"overflow": r.Overflow, "after": int(r.After / time.Second)})
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("%w: %s or %s is not a topic", ErrRoute, r.Topic, r.Overflow)
		}
		tx.Wake(TopicQueue, TopicMatch)
		return nil
	})
	if err != nil {
		return fmt.Errorf("route a topic: %w", err)
	}
	return nil
}
