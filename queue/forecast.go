package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	recentFor   = 7 * 24 * time.Hour // handling times older than a week say little about today
	recentMost  = 200                // of each topic: more do not make the estimate better
	recentLeast = 3                  // fewer are no experience: nothing is said of the wait

	// OutlookFresh is how old a forecast may be: all callers of a node are told
	// from one, and so are the screens.
	OutlookFresh = 5 * time.Second

	// The outlook plays the queue to its end so often: the longer it is, the more
	// its own length evens out.
	playsMost = 200
	playsWork = 2_000_000 // looks of a caller at an operator in all plays together, about
)

// Forecast is what a waiting caller can be told.
type Forecast struct {
	Position  int           // among who waits for the same topic, from 1; 0: not waiting, or just being offered
	Operators int           // who fit and are not off
	Wait      time.Duration // expected, from now on; below zero: not known
}

// unknown is a wait of which nothing can be said.
const unknown = -time.Second

// worker is an operator who is not off, as the forecast sees them.
type worker struct {
	free          // of seat only User, Declared, Doing, DoingAt and DoingUntil
	serving int64 // the topic of the caller they have, 0 without one
}

// scene is everything an outlook depends on.
type scene struct {
	workers []worker
	lines   []caller                  // who waits, in order; not who is being offered
	handled map[int64][]time.Duration // recent handling times by topic: ring, talk and wrap-up
}

// forecast says what each waiting caller can expect at an instant. It plays the
// queue to its end several times, with handling times drawn from the recent
// ones, and gives the mean; the same scene has the same forecast. It knows nothing
// of blocking calls still to come, of callers who give up and of breaks that end.
func forecast(r scene, at time.Time) map[uuid.UUID]Forecast {
	out := make(map[uuid.UUID]Forecast, len(r.lines))
	before := map[int64]int{}
	for _, l := range r.lines {
		before[l.topic]++
		f := Forecast{Position: before[l.topic], Wait: unknown}
		for _, w := range r.workers {
			if _, ok := w.from(l); ok {
				f.Operators++
			}
		}
		out[l.contact] = f
	}
	times := experience(r.handled)
	if times.all == nil {
		return out
	}
	sum, plays := make([]time.Duration, len(r.lines)), 0
	served := make([]bool, len(r.lines))
	random := rand.New(rand.NewPCG(1, uint64(len(r.lines))))
	waits := waitsOf(r)
	for range min(playsMost, 1+playsWork/(1+len(r.lines)*len(r.workers))) {
		plays++
		play(r, waits, times, random, at, func(i int, wait time.Duration) {
			sum[i] += wait
			served[i] = true
		})
	}
	for i, l := range r.lines {
		if served[i] {
			f := out[l.contact]
			f.Wait = sum[i] / time.Duration(plays)
			out[l.contact] = f
		}
	}
	return out
}

// waitsOf says for each topic of who waits from which wait on each operator who
// can be counted on fits; forever when they do not.
func waitsOf(r scene) map[int64][]time.Duration {
	waits := map[int64][]time.Duration{}
	for _, l := range r.lines {
		if waits[l.topic] != nil {
			continue
		}
		list := make([]time.Duration, len(r.workers))
		for i, w := range r.workers {
			list[i] = forever
			if from, ok := w.from(l); ok && w.seat.Declared == Available { // when a break ends is their own affair
				list[i] = from.Sub(l.joined)
			}
		}
		waits[l.topic] = list
	}
	return waits
}

// play serves the queue once, each caller by whoever can begin first.
func play(r scene, waits map[int64][]time.Duration, times handling, random *rand.Rand, at time.Time, served func(line int, wait time.Duration)) {
	until := make([]time.Duration, len(r.workers)) // from at, when each is free
	for i, w := range r.workers {
		until[i] = w.busy(times, random, at)
	}
	for i, l := range r.lines {
		best, begins, waited := -1, time.Duration(0), max(0, at.Sub(l.joined))
		for s, wait := range waits[l.topic] {
			if wait == forever {
				continue
			}
			if start := max(until[s], wait-waited); best < 0 || start < begins {
				best, begins = s, start
			}
		}
		if best < 0 {
			continue
		}
		served(i, begins)
		until[best] = begins + times.draw(random, l.topic, 0)
	}
}

// busy is how long an operator is not free yet: as long as those were who had
// been at it so long already.
func (w worker) busy(times handling, random *rand.Rand, at time.Time) time.Duration {
	switch w.seat.Doing {
	case Offered, Talking:
		return times.draw(random, w.serving, at.Sub(w.seat.DoingAt))
	case Wrapping:
		if w.seat.DoingUntil != nil {
			return max(0, w.seat.DoingUntil.Sub(at))
		}
	}
	return 0
}

// handling is what recent calls have taken.
type handling struct {
	topics map[int64][]time.Duration // ascending
	all    []time.Duration           // ascending; nil: no experience
}

// experience puts handling times in order.
func experience(handled map[int64][]time.Duration) handling {
	h := handling{topics: map[int64][]time.Duration{}}
	for topic, list := range handled {
		h.all = append(h.all, list...)
		if len(list) >= recentLeast {
			h.topics[topic] = slices.Sorted(slices.Values(list))
		}
	}
	if len(h.all) < recentLeast {
		h.all = nil
	}
	slices.Sort(h.all)
	return h
}

// draw is a handling time of a topic that has lasted for some time already, less
// that time. Who is at it longer than anybody was has a quarter of the median to go.
func (h handling) draw(random *rand.Rand, topic int64, already time.Duration) time.Duration {
	list := h.topics[topic]
	if list == nil {
		list = h.all
	}
	first, _ := slices.BinarySearchFunc(list, already, func(d, already time.Duration) int {
		if d <= already {
			return -1
		}
		return 1
	})
	if first == len(list) {
		return list[len(list)/2] / 4
	}
	return list[first+random.IntN(len(list)-first)] - already
}

// outlook is the last forecast of this node.
type outlook struct {
	mu    sync.Mutex // guards the rest, and lets one look while others wait for it
	at    time.Time
	known map[uuid.UUID]Forecast
}

// Forecast is what the caller of a contact can be told at an instant, some
// seconds old at most.
func (q *Queue) Forecast(ctx context.Context, contact uuid.UUID, at time.Time) (Forecast, error) {
	all, err := q.Forecasts(ctx, at)
	return all[contact], err
}

// Forecasts is what all who wait can be told, by contact. Do not change it. It is
// some seconds old at most, and never older than one of those it is asked about:
// who has just joined is told at once.
func (q *Queue) Forecasts(ctx context.Context, at time.Time, about ...uuid.UUID) (map[uuid.UUID]Forecast, error) {
	q.outlook.mu.Lock()
	defer q.outlook.mu.Unlock()
	unheard := slices.ContainsFunc(about, func(id uuid.UUID) bool { _, known := q.outlook.known[id]; return !known })
	if age := at.Sub(q.outlook.at); q.outlook.known != nil && age >= 0 && age < OutlookFresh && !unheard {
		return q.outlook.known, nil
	}
	r, err := q.scene(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("look at the queue: %w", err)
	}
	q.outlook.known, q.outlook.at = forecast(r, at), at
	return q.outlook.known, nil
}

const workersSQL = `
	select u.id, s.declared, s.doing, s.doing_at, s.doing_until, coalesce(p.topic_id, 0),
		array(select topic_id from user_topics k where k.user_id = s.user_id order by topic_id),
		array(select level from user_topics k where k.user_id = s.user_id order by topic_id)
	from seats s join users u on u.id = s.user_id left join places p on p.contact_id = s.contact_id
	where s.declared <> 'off' and u.active order by s.idle_since, s.user_id`

// Who is to be rung back stands in the same order, from when on they are to be,
// unless they are on the line again: they wait once.
const linesSQL = `
	select p.contact_id, p.topic_id, p.joined_at from places p
	where p.state = 'waiting' and (p.kind = 'live' or p.next_at <= @at and not ` + onLineSQL + `)
	order by p.urgency, p.t0, p.contact_id`

const handledSQL = `
	select t.id, h.took from topics t, lateral (
		select greatest(c.tw, o.released_at) - o.offered_at as took
		from offers o join contacts c on c.id = o.contact_id join places p on p.contact_id = o.contact_id
		where p.topic_id = t.id and o.state = 'accepted' and o.released_at > @since and c.tw is not null
		order by o.released_at desc limit @most
	) h`

// scene reads who works, who waits, and what recent calls have taken.
func (q *Queue) scene(ctx context.Context, at time.Time) (r scene, err error) {
	r.handled = map[int64][]time.Duration{}
	var b pgx.Batch
	b.Queue(workersSQL).Query(func(rows pgx.Rows) (err error) {
		r.workers, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w worker, err error) {
			var topics []int64
			var levels []int
			err = row.Scan(&w.seat.User, &w.seat.Declared, &w.seat.Doing, &w.seat.DoingAt, &w.seat.DoingUntil, &w.serving, &topics, &levels)
			w.skills = skills(topics, levels)
			return w, err
		})
		return err
	})
	b.Queue(linesSQL, args{"at": at}).Query(func(rows pgx.Rows) (err error) {
		r.lines, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l caller, err error) {
			return l, row.Scan(&l.contact, &l.topic, &l.joined)
		})
		return err
	})
	var routes map[int64]route
	b.Queue(routesSQL).Query(func(rows pgx.Rows) (err error) {
		routes, err = scanRoutes(rows)
		return err
	})
	b.Queue(handledSQL, args{"since": at.Add(-recentFor), "most": recentMost}).Query(func(rows pgx.Rows) error {
		var topic int64
		var took time.Duration
		_, err := pgx.ForEachRow(rows, []any{&topic, &took}, func() error {
			r.handled[topic] = append(r.handled[topic], took)
			return nil
		})
		return err
	})
	err = q.db.Pool.SendBatch(ctx, &b).Close()
	for i := range r.lines {
		r.lines[i].route = routes[r.lines[i].topic]
	}
	return r, err
}
