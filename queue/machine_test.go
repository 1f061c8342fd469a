package queue

import (
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/pronto-desk/pronto/db/journal"
)

// A desk in memory, as simple as it can be told, to compare the real one with.
type (
	room struct {
		d      *desk
		at     time.Time
		seats  []*modelSeat
		places []*modelPlace
		offers []*modelOffer
	}
	modelSeat struct {
		user             int64
		skills           []int64
		wrapUp           time.Duration
		declared, reason string
		doing            string
		until, idleSince time.Time
		offer            *modelOffer
	}
	modelPlace struct {
		place   *Place
		topic   int64
		urgency int
		t0      time.Time
		state   string
	}
	modelOffer struct {
		id       uuid.UUID
		seat     *modelSeat
		place    *modelPlace
		state    string
		expires  time.Time
		refused  time.Time // zero: not
		released bool
	}
)

func newRoom(t *rapid.T, d *desk) *room {
	d.tb = t
	d.exec(`delete from journal`)
	d.exec(`delete from offers`)
	d.exec(`delete from seats`)
	d.exec(`delete from places`)
	d.exec(`delete from contacts`)
	d.exec(`delete from users`)
	r := &room{d: d, at: morning}
	topics := []string{"software", "certificati", "carta"}
	for i := range rapid.IntRange(1, 4).Draw(t, "seats") {
		skills := rapid.SliceOfNDistinct(rapid.SampledFrom(topics), 1, 3, rapid.ID).Draw(t, "skills")
		s := &modelSeat{wrapUp: time.Duration(rapid.SampledFrom([]int{0, 5, 60}).Draw(t, "wrap-up")) * time.Second, declared: "off", doing: "idle"}
		s.user = d.operator("op"+itoa(int64(i)), int(s.wrapUp.Seconds()), skills...)
		for _, skill := range skills {
			s.skills = append(s.skills, d.topic(skill))
		}
		r.seats = append(r.seats, s)
		r.declare(s, rapid.SampledFrom([]string{"available", "available", "break"}).Draw(t, "declared"))
	}
	return r
}

// idle is a seat that is done with an offer or a wrap-up.
func (s *modelSeat) idle() { s.doing, s.until, s.offer = "idle", time.Time{}, nil }

func (r *room) declare(s *modelSeat, declared string) {
	reason := ""
	if declared == "break" {
		reason = "Pausa"
	}
	r.d.ok(r.d.Declare(background, s.user, declared, reason, r.at))
	if s.doing == "offered" && declared != "available" {
		r.over(s.offer, "withdrawn", "waiting", "")
	}
	if declared == "available" && (s.doing == "wrapping" || s.doing == "idle" && s.declared != "available") {
		s.idle()
		s.idleSince = r.at
	}
	s.declared, s.reason = declared, reason
}

// over ends a pending offer in the model.
func (r *room) over(o *modelOffer, state, place, pause string) {
	o.state, o.place.state = state, place
	if state == "accepted" {
		o.seat.doing, o.seat.until = "talking", r.at.Add(60*time.Second)
		return
	}
	o.seat.idle()
	if pause != "" && o.seat.declared == "available" {
		o.seat.declared, o.seat.reason = "break", pause
	}
}

// ends does something to an offer that ends it, in the desk and in the model.
func (r *room) ends(o *modelOffer, real func(uuid.UUID) error, state, place, pause string) {
	err := real(o.id)
	if o.state != "pending" {
		r.d.refuses(err, ErrTooLate)
		return
	}
	r.d.ok(err)
	r.over(o, state, place, pause)
}

// ordered are the places in a state, in the queue's order.
func (r *room) ordered(state string) (list []*modelPlace) {
	for _, p := range r.places {
		if p.state == state {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *modelPlace) int {
		return cmp.Or(cmp.Compare(a.urgency, b.urgency), a.t0.Compare(b.t0), slices.Compare(a.place.contact[:], b.place.contact[:]))
	})
	return list
}

// couldTake tells whether a seat could take a caller now.
func (r *room) couldTake(s *modelSeat, p *modelPlace) bool {
	if s.declared != "available" || s.doing != "idle" || !slices.Contains(s.skills, p.topic) {
		return false
	}
	return !slices.ContainsFunc(r.offers, func(o *modelOffer) bool {
		return o.seat == s && o.place == p && !o.refused.IsZero() && r.at.Before(o.refused.Add(60*time.Second))
	})
}

// together tells, by trying everything, whether all these places can be served.
func (r *room) together(places []*modelPlace, seats []*modelSeat) bool {
	if len(places) == 0 {
		return true
	}
	for i, s := range seats {
		if r.couldTake(s, places[0]) && r.together(places[1:], slices.Delete(slices.Clone(seats), i, i+1)) {
			return true
		}
	}
	return false
}

func (r *room) match(t *rapid.T) {
	waiting := r.ordered("waiting")
	var want []*modelPlace // who must be served: in order, each who can be together with those before
	for _, p := range waiting {
		if with := append(slices.Clone(want), p); r.together(with, r.seats) {
			want = with
		}
	}
	made, err := r.d.Match(background, r.at)
	r.d.ok(err)
	if len(made) != len(want) {
		t.Fatalf("%d offers were made, %d could be", len(made), len(want))
	}
	r.d.written(made)
	var longest *modelSeat // of those that fit the only caller
	if len(waiting) == 1 {
		for _, s := range r.seats {
			if r.couldTake(s, waiting[0]) && (longest == nil || s.idleSince.Before(longest.idleSince)) {
				longest = s
			}
		}
	}
	for _, p := range want {
		o := r.d.offerOf(p.place)
		s := r.seats[slices.IndexFunc(r.seats, func(s *modelSeat) bool { return s.user == o.Operator })]
		if !r.couldTake(s, p) {
			t.Fatalf("%+v was offered to %+v", p, s)
		}
		if longest != nil && s != longest {
			t.Fatalf("seat %d is idle longer than seat %d", longest.user, s.user)
		}
		made := &modelOffer{id: o.ID, seat: s, place: p, state: "pending", expires: r.at.Add(20 * time.Second)}
		r.offers = append(r.offers, made)
		p.state, s.doing, s.until, s.offer = "offered", "offered", made.expires, made
	}
	for _, p := range r.ordered("waiting") {
		for _, s := range r.seats {
			if r.couldTake(s, p) {
				t.Fatalf("%+v waits while %+v is idle", p, s)
			}
		}
	}
}

func (r *room) sweep(*rapid.T) {
	_, _, err := r.d.sweep(background, r.at)
	r.d.ok(err)
	for _, o := range r.offers {
		switch {
		case o.state != "pending" || o.expires.After(r.at):
		case o.expires.After(r.at.Add(-silentAfter)):
			r.over(o, "timed_out", "waiting", "missed")
		default:
			r.over(o, "withdrawn", "waiting", "") // too late to blame anybody
		}
	}
	for _, s := range r.seats {
		if s.doing == "wrapping" && !s.until.After(r.at) {
			s.idleSince = s.until
			s.idle()
		}
	}
}

func (r *room) release(o *modelOffer) {
	r.d.ok(r.d.Release(background, o.id, r.at))
	if o.state != "accepted" || o.released {
		return
	}
	o.released = true
	if o.seat.wrapUp == 0 {
		o.seat.idleSince = r.at
		o.seat.idle()
		return
	}
	o.seat.doing, o.seat.until = "wrapping", r.at.Add(o.seat.wrapUp)
}

func (r *room) leave(p *modelPlace) {
	r.d.ok(p.place.Leave(background, r.at))
	if i := slices.IndexFunc(r.offers, func(o *modelOffer) bool { return o.place == p && o.state == "pending" }); i >= 0 {
		r.over(r.offers[i], "withdrawn", "left", "")
	}
	if p.state == "waiting" {
		p.state = "left"
	}
}

func (r *room) extend(s *modelSeat) {
	err := r.d.ExtendWrapUp(background, s.user, time.Minute, r.at)
	if s.doing != "wrapping" || !s.until.After(r.at) {
		r.d.refuses(err, ErrNotWrapping)
		return
	}
	r.d.ok(err)
	s.until = s.until.Add(time.Minute)
}

// compare holds the rows against the model.
func (r *room) compare(t *rapid.T) {
	seats, err := r.d.Seats(background)
	r.d.ok(err)
	callers := map[uuid.UUID]int64{}
	for i, s := range r.seats { // both are in the order of names
		got := seats[i]
		var until time.Time
		if got.DoingUntil != nil {
			until = *got.DoingUntil
		}
		if string(got.Declared) != s.declared || got.Reason != s.reason || string(got.Doing) != s.doing {
			t.Fatalf("seat %d is %s/%s %s, not %s/%s %s", s.user, got.Declared, got.Reason, got.Doing, s.declared, s.reason, s.doing)
		}
		if !until.Equal(s.until) || s.doing == "idle" && !s.idleSince.IsZero() && !got.IdleSince.Equal(s.idleSince) {
			t.Fatalf("seat %d %s until %v, not %v; idle since %v, not %v", s.user, s.doing, until, s.until, got.IdleSince, s.idleSince)
		}
		if got.Offer.Valid != (s.offer != nil) || got.Offer.Valid && got.Offer.UUID != s.offer.id {
			t.Fatalf("seat %d holds the offer %v, not %+v", s.user, got.Offer, s.offer)
		}
		if got.Contact.Valid && (got.Doing == Offered || got.Doing == Talking) {
			if other, twice := callers[got.Contact.UUID]; twice {
				t.Fatalf("seats %d and %d hold the same caller", other, s.user)
			}
			callers[got.Contact.UUID] = s.user
		}
	}
	rows, err := r.d.db.Pool.Query(background, `select contact_id, state from places`)
	r.d.ok(err)
	states := map[uuid.UUID]string{}
	var id uuid.UUID
	var state string
	_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error { states[id] = state; return nil })
	r.d.ok(err)
	for _, p := range r.places {
		if states[p.place.contact] != p.state {
			t.Fatalf("the place of %s is %s, not %s", p.place.contact, states[p.place.contact], p.state)
		}
	}
	list, err := r.d.Waiting(background)
	r.d.ok(err)
	if n := len(r.ordered("waiting")) + len(r.ordered("offered")); len(list) != n {
		t.Fatalf("%d are listed as waiting, not %d", len(list), n)
	}
}

// told holds the journal against the rows: folded from the start, a contact's
// lines say where its place stands, and no chain is broken.
func (r *room) told(t *rapid.T) {
	next := map[string]string{"waiting": "waiting", "offered": "offered", "accepted": "taken", "declined": "waiting",
		"timed_out": "waiting", "withdrawn": "waiting", "left": "left"}
	for _, p := range r.places {
		state := ""
		for _, kind := range r.d.kinds(journal.ContactStream(p.place.contact)) {
			if after, moves := next[kind]; moves {
				state = after
			}
		}
		if state != p.state {
			t.Fatalf("the journal says that %s is %s, not %s", p.place.contact, state, p.state)
		}
	}
	for _, s := range r.seats {
		r.d.kinds(journal.SeatStream(s.user))
	}
}

// TestAnyOrder lets callers and operators do anything in any order and at any
// time, and compares the desk with the model after every step.
func TestAnyOrder(t *testing.T) {
	checks(t, 40)
	d := newDesk(t)
	rapid.Check(t, func(t *rapid.T) {
		r := newRoom(t, d)
		pass := func(t *rapid.T) {
			r.at = r.at.Add(time.Duration(rapid.IntRange(0, 30_000).Draw(t, "ms")) * time.Millisecond)
		}
		seat := func(t *rapid.T) *modelSeat { return rapid.SampledFrom(r.seats).Draw(t, "seat") }
		offer := func(t *rapid.T) *modelOffer {
			if len(r.offers) == 0 {
				t.Skip("no offer yet") // rapid draws another step
			}
			recent := r.offers[max(0, len(r.offers)-6):]
			return rapid.SampledFrom(recent).Draw(t, "offer")
		}
		join := func(t *rapid.T) {
			pass(t)
			p := &modelPlace{topic: d.topic(rapid.SampledFrom([]string{"software", "certificati", "carta"}).Draw(t, "topic")),
				urgency: rapid.IntRange(1, 2).Draw(t, "urgency"),
				t0:      r.at.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "before")) * time.Second), state: "waiting"}
			code := ""
			for name, id := range d.topics {
				if id == p.topic {
					code = name
				}
			}
			p.place = d.join(d.call(p.t0), code, p.urgency, p.t0, r.at)
			r.places = append(r.places, p)
		}
		match := func(t *rapid.T) { pass(t); r.match(t) }
		accept := func(t *rapid.T) {
			r.ends(offer(t), func(id uuid.UUID) error { return d.Accept(background, id, r.at) }, "accepted", "taken", "")
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": join, "join too": join,
			"match": match, "match too": match,
			"accept": accept, "accept too": accept,
			"leave": func(t *rapid.T) {
				if len(r.places) == 0 {
					t.Skip("nobody has joined yet") // rapid draws another step
				}
				r.leave(rapid.SampledFrom(r.places).Draw(t, "place"))
			},
			"refuse": func(t *rapid.T) {
				o := offer(t)
				if o.state == "pending" {
					o.refused = r.at
				}
				r.ends(o, func(id uuid.UUID) error { return d.Decline(background, id, Refused, r.at) }, "declined", "waiting", "")
			},
			"engaged": func(t *rapid.T) {
				r.ends(offer(t), func(id uuid.UUID) error { return d.Decline(background, id, Busy, r.at) }, "declined", "waiting", Busy)
			},
			"miss": func(t *rapid.T) {
				r.ends(offer(t), func(id uuid.UUID) error { return d.TimeOut(background, id, r.at) }, "timed_out", "waiting", "missed")
			},
			"withdraw": func(t *rapid.T) {
				r.ends(offer(t), func(id uuid.UUID) error { return d.Withdraw(background, id, r.at) }, "withdrawn", "waiting", "")
			},
			"release": func(t *rapid.T) { pass(t); r.release(offer(t)) },
			"extend":  func(t *rapid.T) { r.extend(seat(t)) },
			"sweep":   func(t *rapid.T) { pass(t); r.sweep(t) },
			"declare": func(t *rapid.T) {
				pass(t)
				r.declare(seat(t), rapid.SampledFrom([]string{"available", "available", "break", "admin", "off"}).Draw(t, "declared"))
			},
			"paint": func(t *rapid.T) {
				o := offer(t)
				err := d.Painted(background, o.id, r.at)
				if (o.state == "pending") != (err == nil) || err != nil && !errors.Is(err, ErrTooLate) {
					t.Fatalf("painted: %v, the offer is %s", err, o.state)
				}
			},
			"": r.compare,
		})
		r.told(t)
	})
}
