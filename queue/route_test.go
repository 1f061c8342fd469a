package queue

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/pronto-desk/pronto/db/journal"
)

// route lets a topic relax.
func (d *desk) route(r Route) {
	d.tb.Helper()
	d.topic(r.Topic)
	if r.Overflow != "" {
		d.topic(r.Overflow)
	}
	d.ok(d.SetRoute(background, nil, r, 0, after(0)))
}

// knows gives somebody a skill of a level.
func (d *desk) knows(user int64, topic string, level int) {
	d.tb.Helper()
	d.exec(`insert into user_topics (user_id, topic_id, level) values ($1, $2, $3)`, user, d.topic(topic), level)
}

// TestRelaxation: who is not the best for a topic is offered its callers when
// they have waited, at the instant at which that is so.
func TestRelaxation(t *testing.T) {
	d := newDesk(t)
	d.route(Route{Topic: "carta", Second: 30 * time.Second, Third: time.Minute, Overflow: "software", After: 90 * time.Second})
	second, third, other := d.sits("second", after(0), 0), d.sits("third", after(0), 0), d.sits("other", after(0), 0, "software")
	d.knows(second, "carta", 2)
	d.knows(third, "carta", 3)
	rossi := d.waits("carta", 2, after(10))
	for _, c := range []struct {
		user int64
		at   float64
	}{{second, 40}, {third, 70}, {other, 100}} {
		next, _, err := d.sweep(background, after(c.at-0.5))
		d.ok(err)
		if !next.Equal(after(c.at)) {
			t.Errorf("the next look is at %v, not %v", next, after(c.at))
		}
		d.match(after(c.at-0.001), 0)
		if o := d.offered(rossi, after(c.at)); o.Operator != c.user {
			t.Fatalf("at %v it is %s", c.at, o.Name)
		}
		d.ok(d.Declare(background, c.user, "break", "", after(c.at)))
	}
	d.told("contact:"+rossi.contact.String(), "waiting", "offered", "withdrawn", "offered", "withdrawn", "offered", "withdrawn")
	if next, _, err := d.sweep(background, after(100)); err != nil || !next.IsZero() {
		t.Errorf("nothing relaxes any more, but the next look is at %v (%v)", next, err)
	}
}

func TestRoutesThatCannotBe(t *testing.T) {
	d := newDesk(t)
	d.topic("carta")
	d.topic("software")
	for name, r := range map[string]Route{
		"no topic":                 {Topic: "giardinaggio"},
		"no topic to overflow to":  {Topic: "carta", Overflow: "giardinaggio"},
		"to itself":                {Topic: "carta", Overflow: "carta"},
		"below zero":               {Topic: "carta", Second: -time.Second},
		"longer than a day":        {Topic: "carta", Third: 25 * time.Hour},
		"half a second":            {Topic: "carta", After: 500 * time.Millisecond},
		"the third level is first": {Topic: "carta", Second: 2 * time.Minute, Third: time.Minute},
	} {
		t.Run(name, func(t *testing.T) { d.refuses(d.SetRoute(background, nil, r, 0, after(0)), ErrRoute) })
	}
	full := Route{Topic: "carta", Second: time.Minute, Third: time.Minute, Overflow: "software", After: time.Hour}
	d.ok(d.SetRoute(background, nil, full, 0, after(0)))
	d.ok(d.SetRoute(background, nil, Route{Topic: "carta"}, 0, after(0)))
}

// TestRoutesOfTwo: who changes a route that somebody else has changed since they
// read it is told, and nothing is lost.
func TestRoutesOfTwo(t *testing.T) {
	d := newDesk(t)
	carta := d.topic("carta")
	anna := d.sits("anna", after(0), 0)
	d.knows(anna, "carta", 2)
	d.knows(d.sits("bruno", after(0), 0, "software"), "carta", 3)
	d.exec(`update users set active = false where id = $1`, d.sits("carla", after(0), 0, "carta"))
	read := func() TopicRoute {
		t.Helper()
		list, err := d.TopicRoutes(background)
		d.ok(err)
		return list[slices.IndexFunc(list, func(x TopicRoute) bool { return x.ID == carta })]
	}
	first := read()
	if first.Route != (Route{Topic: "carta"}) || first.Knows != [levels]int{0, 1, 1} {
		t.Errorf("at first: %+v", first)
	}
	full := Route{Topic: "carta", Second: 30 * time.Second, Third: time.Minute, Overflow: "software", After: time.Hour}
	d.ok(d.SetRoute(background, &first.Route, full, anna, after(1)))
	d.refuses(d.SetRoute(background, &first.Route, Route{Topic: "carta", Third: time.Hour}, anna, after(2)), ErrRouteChanged)
	if now := read(); now.Route != full {
		t.Errorf("after the lost race: %+v", now)
	}
	d.told(journal.DeskStream, "routed")
}

// TestSticky: somebody who rings again within the hour after they were served is
// offered first to who served them last; a withheld number is nobody's.
func TestSticky(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.sits("anna", after(0), 0, "software"), d.sits("bruno", after(1), 0, "software")
	ring := func(caller string, t0 float64) *Place {
		contact := d.call(after(t0))
		d.exec(`update contacts set caller = $2 where id = $1`, contact, caller)
		return d.join(contact, "software", 2, after(t0), after(t0))
	}
	served := func(caller string, by int64, t0, te float64) {
		d.exec(`update contacts set caller = $2, operator_id = $3, ending = 'served', te = $4 where id = $1`, d.call(after(t0)), caller, by, after(te))
	}
	served("+390551", bruno, 10, 20)
	served("+390552", anna, 10, 20)
	served("+390552", bruno, 30, 40)
	served("", bruno, 50, 60)
	const hour = 3600
	for _, c := range []struct {
		name, caller string
		t0           float64
		want         int64
	}{
		{"again", "+390551", 100, bruno},
		{"the last one", "+390552", 100, bruno},
		{"somebody new", "+390553", 100, anna},
		{"a withheld number", "", 100, anna},
		{"just within the hour", "+390551", 19 + hour, bruno},
		{"an hour later", "+390551", 21 + hour, anna},
	} {
		p := ring(c.caller, c.t0)
		if o := d.offered(p, after(c.t0)); o.Operator != c.want {
			t.Errorf("%s: %s", c.name, o.Name)
		}
		d.ok(p.Leave(background, after(c.t0)))
	}
}

// TestMatchReadsEnough: Match reads only the first callers of each class, and
// offers as if it had read all of them.
func TestMatchReadsEnough(t *testing.T) {
	d := newDesk(t)
	checks(t, 60)
	for _, r := range []Route{{Topic: "a", Second: time.Minute, Third: 2 * time.Minute, Overflow: "b", After: 3 * time.Minute}, {Topic: "b"}, {Topic: "c", Third: time.Minute}} {
		d.route(r)
	}
	topics := []string{"a", "b", "c"}
	rooms := 0
	rapid.Check(t, func(t *rapid.T) {
		rooms++
		d.exec(`truncate offers, seats, places, contacts, user_topics cascade`)
		at := after(1000)
		d.tb = t
		for i := range rapid.IntRange(1, 4).Draw(t, "seats") {
			user := d.sits(fmt.Sprintf("op%d.%d", rooms, i), after(float64(i)), 0)
			for _, topic := range rapid.SliceOfNDistinct(rapid.SampledFrom(topics), 1, 3, rapid.ID).Draw(t, "skills") {
				d.knows(user, topic, rapid.IntRange(1, levels).Draw(t, "level"))
			}
		}
		for range rapid.IntRange(0, 14).Draw(t, "callers") {
			waited := float64(rapid.IntRange(0, 5).Draw(t, "waited")) * 50
			t0 := after(1000 - waited - float64(rapid.IntRange(0, 100).Draw(t, "ivr")))
			p := d.join(d.call(t0), rapid.SampledFrom(topics).Draw(t, "topic"), rapid.IntRange(1, 2).Draw(t, "urgency"), t0, after(1000-waited))
			if rapid.IntRange(0, 4).Draw(t, "refused") == 0 {
				d.exec(`insert into offers (id, contact_id, user_id, node, state, offered_at, expires_at, ended_at, reason)
					select $1, $2, user_id, 'north', 'declined', $3, $3, $3, 'rifiuta' from seats order by idle_since limit 1`, uuid.New(), p.contact, after(990))
			}
		}
		callers, seats := d.everybody(at)
		want := map[uuid.UUID]int64{}
		for s, c := range pair(callers, seats, at).has {
			if c >= 0 {
				want[callers[c].contact] = seats[s].seat.User
			}
		}
		d.few = rapid.IntRange(1, 4).Draw(t, "few")
		d.match(at, len(want))
		rows, err := d.db.Pool.Query(background, `select contact_id, user_id from offers where state = 'pending'`)
		d.ok(err)
		var contact uuid.UUID
		var user int64
		_, err = pgx.ForEachRow(rows, []any{&contact, &user}, func() error {
			if want[contact] != user {
				t.Errorf("caller %s was offered to %d, not to %d", contact, user, want[contact])
			}
			return nil
		})
		d.ok(err)
	})
	d.tb, d.few = t, fewSeats
}

// everybody reads all who wait and all who are free.
func (d *desk) everybody(at time.Time) (callers []caller, seats []free) {
	d.tb.Helper()
	tx, err := d.db.Pool.Begin(background)
	d.ok(err)
	defer func() { d.ok(tx.Rollback(background)) }()
	rows, err := tx.Query(background, freeSQL, args{"most": allSeats})
	d.ok(err)
	seats, err = scanFree(rows)
	d.ok(err)
	rows, err = tx.Query(background, routesSQL)
	d.ok(err)
	routes, err := scanRoutes(rows)
	d.ok(err)
	rows, err = tx.Query(background, `select contact_id, topic_id, joined_at, array(
			select user_id from offers o where o.contact_id = p.contact_id and state = 'declined' and ended_at > $1)
		from places p order by urgency, t0, contact_id`, at.Add(-refusedFor))
	d.ok(err)
	callers, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c caller, err error) {
		err = row.Scan(&c.contact, &c.topic, &c.joined, &c.refused)
		c.route = routes[c.topic]
		return c, err
	})
	d.ok(err)
	return callers, seats
}
