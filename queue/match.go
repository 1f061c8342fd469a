package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
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
	node     string
	topic    int64
	route    route // of the topic
	joined   time.Time
	sticky   int64   // the operator who served them within the last hour; 0: nobody
	callback bool    // to be rung back, by this node
	refused  []int64 // operators who must not have this caller now
}

// free is a seat as Match sees it: available and idle.
type free struct {
	seat   Seat // a match knows its user, their name and extension alone
	wraps  bool // they have a wrap-up
	skills []skill
}

// pair gives callers to seats, and returns for each seat the index of its caller,
// or -1. Callers come in the queue's order, seats longest idle first. A caller
// takes the longest idle of the seats that fit best. If all that fit are taken, a
// caller before is moved to another seat where that lets both be served: so as
// many are served as can be, and nobody's turn is lost to somebody behind.
//
// This is Kuhn's augmenting path (Naval Research Logistics Quarterly 2, 1955):
// the served are the first, in the queue's order, that can be served together.
func pair(callers []caller, seats []free, at time.Time) *pairing {
	p := &pairing{callers: callers, seats: seats, at: at, has: make([]int, len(seats)), choices: make([][]int, len(callers))}
	for i := range p.has {
		p.has[i] = -1
	}
	served := 0
	for c := range callers {
		if served == len(seats) {
			break
		}
		if p.place(c, make([]bool, len(seats))) {
			served++
		}
	}
	p.reunite()
	return p
}

// pairing is a pair in the making.
type pairing struct {
	callers []caller
	seats   []free
	at      time.Time
	has     []int   // by seat, the index of its caller, or -1
	moved   bool    // somebody was, so that others are served
	choices [][]int // by caller, the seats that fit, the best first; nil: not asked yet
}

// fitting are the seats that fit caller c, the best first.
func (p *pairing) fitting(c int) []int {
	if p.choices[c] == nil {
		list := []int{}
		for s := range p.seats {
			if p.seats[s].fits(p.callers[c], p.at) {
				list = append(list, s)
			}
		}
		slices.SortStableFunc(list, func(a, b int) int { return p.rank(a, c) - p.rank(b, c) })
		p.choices[c] = list
	}
	return p.choices[c]
}

func (p *pairing) rank(s, c int) int { return p.seats[s].rank(p.callers[c], p.at) }

// place finds a seat for caller c, moving others if need be; tried are the seats
// it need not look at again.
func (p *pairing) place(c int, tried []bool) bool {
	for _, s := range p.fitting(c) {
		if p.has[s] < 0 && !tried[s] {
			p.has[s] = c
			return true
		}
	}
	p.moved = true
	for _, s := range p.fitting(c) {
		if !tried[s] {
			tried[s] = true
			if p.place(p.has[s], tried) {
				p.has[s] = c
				return true
			}
		}
	}
	return false
}

// plain says that everybody has at once got the longest idle of those who know their
// topic best, or whom they know themselves: with more seats, that have been idle for a
// shorter time, it would be the same.
func (p *pairing) plain() bool {
	served := 0
	for s, c := range p.has {
		if c < 0 {
			continue
		}
		if served++; p.rank(s, c) != rankSticky && (p.rank(s, c) > rankBest || p.callers[c].sticky != 0) {
			return false
		}
	}
	return served == len(p.callers) && !p.moved
}

// reunite lets two callers change seats when one of them knows the other's
// operator, and the other's seat is not the worse for them.
func (p *pairing) reunite() {
	for mine, c := range p.has {
		if c < 0 || p.callers[c].sticky == 0 || p.rank(mine, c) == rankSticky {
			continue
		}
		for known, other := range p.has {
			if other >= 0 && p.rank(known, c) == rankSticky && slices.Contains(p.fitting(c), known) &&
				slices.Contains(p.fitting(other), mine) && p.rank(mine, other) <= p.rank(known, other) {
				p.has[mine], p.has[known] = other, c
				break
			}
		}
	}
}

// Who could be offered a caller, and for what, the longest idle first. They are not
// locked: of hundreds who are free a match takes as many as wait.
const freeSQL = `
	select f.user_id, f.name, f.extension, f.wraps, coalesce(k.topic_id, 0), coalesce(k.level, 0) from (
		select s.user_id, u.name, coalesce(u.extension, '') as extension, u.wrap_up > 0 as wraps, s.idle_since from seats s join users u on u.id = s.user_id
		where s.doing = 'idle' and s.declared = 'available' and u.active and not ` + supervisingSQL + ` order by s.idle_since, s.user_id limit @most
	) f left join user_topics k on k.user_id = f.user_id order by f.idle_since, f.user_id, k.topic_id`

// On most days nearly everybody who waits is one of a few, and hundreds are free: a
// match reads so many of them first, and all only if it would make a difference.
const (
	fewSeats = 8
	allSeats = math.MaxInt32
)

// fewCallers are so few that they are all read before it is known who is free.
const fewCallers = 16

const routeColumns = `id, relax_2, relax_3, coalesce(overflow_id, 0), overflow_after`

const routesSQL = `select ` + routeColumns + ` from topics`

// The topics' routes, and how many wait, as far as it matters: whether there is anybody
// beside as many as those seats can serve.
const waitingSQL = `select ` + routeColumns + `, (select count(*) from (select from places where state = 'waiting' limit @most::bigint + 1) w) from topics`

// The first callers of each class, as many as there are free seats, and all whom
// somebody has refused: nobody behind those of their own class can be served
// before them. A caller of a node that has fallen silent is probably gone with it.
// Somebody to be rung back is offered when their time has come, by a node that
// can dial. (Adding nothing to joined_at keeps the planner to the index that has
// the queue's order, so that it reads no more than that.)
func callersSQL(classes string) string {
	return `
	with refusals as (
		select contact_id, array_agg(user_id) as users from offers
		where state = 'declined' and reason = @refused and ended_at > @refused_since group by contact_id
	), firsts as (
		select x.* from ` + classes + ` as class(topic, after, upto), lateral (
			select p.* from places p
			where p.state = 'waiting' and p.topic_id = class.topic
				and p.joined_at + interval '0' > class.after and p.joined_at + interval '0' <= class.upto and ` + heldSQL + `
				and p.contact_id <> all(@without) and p.contact_id <> all(array(select contact_id from refusals))
			order by p.urgency, p.t0, p.contact_id limit @most
		) x
		union all
		select p.* from refusals r join places p on p.contact_id = r.contact_id
		where p.state = 'waiting' and p.contact_id <> all(@without) and ` + heldSQL + `
	)
	select p.contact_id, case when p.kind = 'callback' then @node else p.node end, p.topic_id, p.joined_at, coalesce(p.sticky_id, 0),
		p.kind = 'callback', coalesce((select users from refusals r where r.contact_id = p.contact_id), '{}')
	from firsts p order by p.urgency, p.t0, p.contact_id`
}

// The classes of callersSQL: those that the seats give, which have to be known first;
// or everybody of a topic, where so few wait that all are read.
const (
	givenClasses = `unnest(@topics::bigint[], @afters::timestamptz[], @uptos::timestamptz[])`
	allClasses   = `(select id, timestamptz '-infinity', timestamptz 'infinity' from topics)`
)

var (
	callersOfClasses = callersSQL(givenClasses)
	callersOfAll     = callersSQL(allClasses)
)

// heldSQL says whether there is a node that conducts what an offer leads to. Who
// has a callback booked and is on the line with us again is not dialled meanwhile.
const heldSQL = `case when p.kind = 'callback' then @dials and p.next_at <= @at and not ` + onLineSQL + ` else p.node <> all(@silent) end`

// How often, and after which pause (doubled each time), Match looks again at what
// somebody else had locked: short transactions, of which some change nothing and
// so wake nobody. The sum is some 300 ms; after that the next beat looks.
const (
	lookAgain      = 5
	lookAgainPause = 10 * time.Millisecond
)

// Match offers callers to operators, as many as it can: callers by urgency, then
// by T0, then by id; each to the longest idle of the seats that are available,
// idle and fit best, and whose operator has not refused this caller within a
// minute. It returns the offers it made.
func (q *Queue) Match(ctx context.Context, at time.Time) (made []*Offer, err error) {
	pause := lookAgainPause
	for range 1 + lookAgain {
		more, skipped, err := q.matchOnce(ctx, at)
		if err != nil {
			return made, fmt.Errorf("match: %w", err)
		}
		made = append(made, more...)
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

// leaving are callers and operators who were gone, or going, when they were to be
// brought together.
type leaving struct {
	callers []uuid.UUID
	seats   []int64 // by their users
}

// Error says how many they are.
func (l *leaving) Error() string {
	return fmt.Sprintf("%d callers and %d operators are leaving", len(l.callers), len(l.seats))
}

func (l *leaving) any() bool { return len(l.callers)+len(l.seats) > 0 }

// matchOnce looks once. It tells whether it had to skip somebody. When some of the
// chosen are leaving just now, nothing of it happens and it is done again without
// them: others may have their turn.
func (q *Queue) matchOnce(ctx context.Context, at time.Time) (made []*Offer, skipped bool, err error) {
	var gone leaving
	for {
		err := q.own.Tx(ctx, func(tx *db.Tx) (err error) {
			made, err = q.match(ctx, tx, gone, at)
			return err
		})
		var more *leaving
		if !errors.As(err, &more) {
			return made, gone.any(), err
		}
		gone.callers, gone.seats = append(gone.callers, more.callers...), append(gone.seats, more.seats...)
	}
}

// match is one transaction of Match, without those who are gone. Its error is a
// *leaving when some of those it chose could not be brought together.
func (q *Queue) match(ctx context.Context, tx *db.Tx, gone leaving, at time.Time) (made []*Offer, err error) {
	p, all, err := q.pairs(ctx, tx, gone, q.few, at)
	if err == nil && !all {
		p, _, err = q.pairs(ctx, tx, gone, allSeats, at)
	}
	if err != nil || len(p.callers) == 0 {
		return nil, err
	}
	return q.offer(ctx, tx, p, at)
}

// pairs brings those who wait together with so many of those who are free, the longest
// idle, and tells whether with all of them it would be the same.
func (q *Queue) pairs(ctx context.Context, tx *db.Tx, gone leaving, most int, at time.Time) (p *pairing, all bool, err error) {
	v, err := q.vacant(ctx, tx, gone, most, at)
	if err != nil {
		return nil, false, err
	}
	v.seats = slices.DeleteFunc(v.seats, func(f free) bool { return slices.Contains(gone.seats, f.seat.User) })
	if v.waiting > fewCallers || most == allSeats {
		if v.callers, err = q.firsts(ctx, tx, v.seats, v.routes, gone, at); err != nil {
			return nil, false, err
		}
	}
	p, all = v.pair(at)
	return p, all, nil
}

// vacancies are what a match reads first.
type vacancies struct {
	seats   []free
	routes  map[int64]route
	waiting int      // how many, as far as it matters
	callers []caller // who waits, if they are few
	all     bool     // nobody else is free
}

// pair brings them together, and tells whether with all seats and callers it would be the same.
func (v *vacancies) pair(at time.Time) (p *pairing, all bool) {
	p = pair(v.callers, v.seats, at)
	return p, v.all || len(v.callers) == v.waiting && p.plain()
}

// vacant takes the lock and then reads how many wait, who is free, the topics'
// routes, and, unless all seats are asked for, who waits, of whom that is all if they are
// fewCallers at most. They are statements in one round: each has its own snapshot (read
// committed), so those that read see what the match before this one has committed. A
// lock taken within the reading statement would come after its snapshot.
func (q *Queue) vacant(ctx context.Context, tx *db.Tx, gone leaving, most int, at time.Time) (v vacancies, err error) {
	var b pgx.Batch
	b.Queue(`select pg_advisory_xact_lock(@class, @lock)`, args{"class": matchLockClass, "lock": matchLock})
	q.queueVacant(&b, &v, gone, most, at)
	err = tx.SendBatch(ctx, &b).Close()
	return v, err
}

// queueVacant puts what vacant reads under the lock into a batch.
func (q *Queue) queueVacant(b *pgx.Batch, v *vacancies, gone leaving, most int, at time.Time) {
	b.Queue(freeSQL, args{"most": most}).Query(func(rows pgx.Rows) (err error) {
		v.seats, err = scanFree(rows)
		v.all = len(v.seats) < most
		return err
	})
	b.Queue(waitingSQL, args{"most": max(most, fewCallers)}).Query(func(rows pgx.Rows) (err error) {
		v.routes, err = scanRoutes(rows, &v.waiting)
		return err
	})
	if most != allSeats {
		b.Queue(callersOfAll, q.callersArgs(gone, fewCallers, at)).Query(func(rows pgx.Rows) (err error) {
			v.callers, err = scanCallers(rows, v.routes)
			return err
		})
	}
}

// scanFree joins the rows of each seat, which come one after the other.
func scanFree(rows pgx.Rows) (seats []free, err error) {
	var seat Seat
	var wraps bool
	var s skill
	_, err = pgx.ForEachRow(rows, []any{&seat.User, &seat.Operator, &seat.Extension, &wraps, &s.topic, &s.level}, func() error {
		if len(seats) == 0 || seats[len(seats)-1].seat.User != seat.User {
			seats = append(seats, free{seat: seat, wraps: wraps})
		}
		if last := &seats[len(seats)-1]; s.topic != 0 {
			last.skills = append(last.skills, s)
		}
		return nil
	})
	return seats, err
}

// scanRoutes reads the routes; further is where their further columns go.
func scanRoutes(rows pgx.Rows, further ...any) (map[int64]route, error) {
	routes := map[int64]route{}
	var topic, overflow int64
	var second, third, after int
	_, err := pgx.ForEachRow(rows, append([]any{&topic, &second, &third, &overflow, &after}, further...), func() error {
		routes[topic] = route{
			relax:    [levels]time.Duration{1: time.Duration(second) * time.Second, 2: time.Duration(third) * time.Second},
			overflow: overflow, after: time.Duration(after) * time.Second,
		}
		return nil
	})
	return routes, err
}

// firsts reads who waits, as far as they may be served by these seats, but for
// those who were gone when they were to be offered.
func (q *Queue) firsts(ctx context.Context, tx *db.Tx, seats []free, routes map[int64]route, gone leaving, at time.Time) ([]caller, error) {
	var topics []int64
	var afters, uptos []time.Time
	for _, c := range classes(routes, seats, at) {
		topics, afters, uptos = append(topics, c.topic), append(afters, c.after), append(uptos, c.upto)
	}
	if len(topics) == 0 {
		return nil, nil
	}
	a := q.callersArgs(gone, len(seats), at)
	a["topics"], a["afters"], a["uptos"] = topics, afters, uptos
	rows, err := tx.Query(ctx, callersOfClasses, a)
	if err != nil {
		return nil, err
	}
	return scanCallers(rows, routes)
}

// callersArgs are the arguments of callersSQL, but for its classes.
func (q *Queue) callersArgs(gone leaving, most int, at time.Time) args {
	return args{
		"most": most, "without": append([]uuid.UUID{}, gone.callers...),
		"node": q.node, "silent": q.silentNodes(), "refused": Refused, "refused_since": at.Add(-refusedFor), "dials": q.dials.Load(), "at": at,
	}
}

func scanCallers(rows pgx.Rows, routes map[int64]route) ([]caller, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c caller, err error) {
		err = row.Scan(&c.contact, &c.node, &c.topic, &c.joined, &c.sticky, &c.callback, &c.refused)
		c.route = routes[c.topic]
		return c, err
	})
}

// skills joins two columns.
func skills(topics []int64, levels []int) (list []skill) {
	for i, topic := range topics {
		list = append(list, skill{topic, levels[i]})
	}
	return list
}

// offer writes the offers that were decided.
func (q *Queue) offer(ctx context.Context, tx *db.Tx, p *pairing, at time.Time) (made []*Offer, err error) {
	var w *work
	var gone leaving
	var offers []uuid.UUID
	mark := tx.Mark()
	for s, c := range p.has {
		if c < 0 {
			continue
		}
		if w == nil {
			w = q.work(tx, at)
		}
		caller, seat := p.callers[c], p.seats[s]
		o := Offer{ID: uuid.New(), Contact: caller.contact, Operator: seat.seat.User, Name: seat.seat.Operator, Extension: seat.seat.Extension,
			State: Pending, OfferedAt: at, ExpiresAt: at.Add(RingLongest), wraps: seat.wraps, node: caller.node, mark: mark}
		w.ring(o, &gone)
		w.take(o.Contact, &gone)
		w.offer(o, caller.callback)
		w.both(journal.Offered, o, overflowed(seat, caller))
		offers, made = append(offers, o.ID), append(made, &o)
	}
	if w == nil {
		return nil, nil
	}
	w.certain(offers, &gone)
	return made, w.done(ctx)
}

// overflowed is the data of an offer to somebody who only helps out.
func overflowed(f free, c caller) map[string]any {
	if slices.ContainsFunc(f.skills, func(s skill) bool { return s.topic == c.topic }) {
		return nil
	}
	return map[string]any{"overflow": c.route.overflow}
}

// errRehearsed rolls a rehearsal back.
var errRehearsed = errors.New("it was a rehearsal")

// rehearse does, for nobody, what a match does, and takes it back: a connection
// that has never seen these tables, statements and functions needs 25 ms more for
// its first match, and one whose plans a vacuum or an ANALYZE has thrown away 3 ms.
// The caller who comes next should not pay that. For new connections the rehearsal
// is whole: with an offer of nobody to nobody, whose foreign keys are looked up and
// fail, and leave a line in the server's log. It always ends in an error, which is of
// interest to its test alone.
func (q *Queue) rehearse(ctx context.Context, at time.Time, whole bool) error {
	ctx, cancel := context.WithTimeout(ctx, beatLongest)
	defer cancel()
	return q.own.Tx(ctx, func(tx *db.Tx) error {
		if _, err := q.vacant(ctx, tx, leaving{}, q.few, at); err != nil {
			return err
		}
		nobody := []free{{skills: []skill{{topic: 0, level: 1}}}}
		if _, err := q.firsts(ctx, tx, nobody, map[int64]route{0: {}}, leaving{}, at); err != nil {
			return err
		}
		var gone leaving
		w := q.work(tx, at)
		o := Offer{ID: uuid.New(), State: Pending, OfferedAt: at, ExpiresAt: at.Add(RingLongest), node: q.node}
		w.ring(o, &gone)
		w.take(o.Contact, &gone)
		w.offer(o, false)
		w.both(journal.Offered, o, nil)
		w.certain(nil, &gone)
		err := w.do(ctx)
		if err == nil && whole {
			_, err = tx.Exec(ctx, `insert into offers (id, contact_id, user_id, node, state, offered_at, expires_at) values (@id, @id, 0, '', 'pending', @at, @at)`,
				args{"id": o.ID, "at": at})
		}
		return errors.Join(errRehearsed, err)
	})
}
