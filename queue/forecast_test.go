package queue

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

// equal are n handling times of the same length.
func equal(n int, d time.Duration) (list []time.Duration) {
	for range n {
		list = append(list, d)
	}
	return list
}

// knows is a seat with skills of the first level.
func knows(topics ...int64) (f free) {
	for _, topic := range topics {
		f.skills = append(f.skills, skill{topic, 1})
	}
	return f
}

// works is an operator who has been doing something for some time.
func works(declared Declared, doing Doing, since time.Duration, topics ...int64) worker {
	w := worker{free: knows(topics...), serving: topics[0]}
	w.seat.Declared, w.seat.Doing, w.seat.DoingAt = declared, doing, morning.Add(-since)
	if doing == Wrapping {
		until := w.seat.DoingAt.Add(time.Minute)
		w.seat.DoingUntil = &until
	}
	return w
}

func TestForecast(t *testing.T) {
	const a, b = 1, 2
	const min = time.Minute
	fourMinutes := map[int64][]time.Duration{a: equal(9, 4*min), b: equal(9, 2*min)}
	for _, c := range []struct {
		name      string
		workers   []worker
		before    []int64 // topics of who waits before
		handled   map[int64][]time.Duration
		position  int
		operators int
		wait      time.Duration
	}{
		{"nobody works", nil, nil, fourMinutes, 1, 0, unknown},
		{"nobody who fits", []worker{works(Available, Idle, 0, b)}, nil, fourMinutes, 1, 0, unknown},
		{"on a break: there, but who knows for how long", []worker{works(Break, Idle, 0, a)}, nil, fourMinutes, 1, 1, unknown},
		{"no experience", []worker{works(Available, Idle, 0, a)}, nil, nil, 1, 1, unknown},
		{"hardly any experience", []worker{works(Available, Idle, 0, a)}, nil, map[int64][]time.Duration{a: equal(2, min)}, 1, 1, unknown},
		{"somebody is free", []worker{works(Available, Idle, 0, a)}, nil, fourMinutes, 1, 1, 0},
		{"the rest of a talk", []worker{works(Available, Talking, min, a)}, nil, fourMinutes, 1, 1, 3 * min},
		{"a talk longer than all", []worker{works(Available, Talking, 9*min, a)}, nil, fourMinutes, 1, 1, min},
		{"the rest of a wrap-up", []worker{works(Available, Wrapping, 20*time.Second, a)}, nil, fourMinutes, 1, 1, 40 * time.Second},
		{"a break after the talk", []worker{works(Break, Talking, min, a)}, nil, fourMinutes, 1, 1, unknown},
		{"one before", []worker{works(Available, Talking, min, a)}, []int64{a}, fourMinutes, 2, 1, 7 * min},
		{"two operators", []worker{works(Available, Talking, min, a), works(Available, Talking, 2*min, a)}, []int64{a}, fourMinutes, 2, 2, 3 * min},
		{"who is before with something else takes the same operator", []worker{works(Available, Idle, 0, a, b)}, []int64{b, b}, fourMinutes, 1, 1, 4 * min},
		{"another's own experience is better than none", []worker{works(Available, Idle, 0, a)}, []int64{a}, map[int64][]time.Duration{b: equal(5, min)}, 2, 1, min},
		{"who cannot be served is in nobody's way", []worker{works(Available, Idle, 0, a)}, []int64{b}, fourMinutes, 1, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := scene{workers: c.workers, handled: c.handled}
			for _, topic := range c.before {
				s.lines = append(s.lines, caller{contact: uuid.New(), topic: topic})
			}
			me := uuid.New() // joined long ago
			s.lines = append(s.lines, caller{contact: me, topic: a})
			want := Forecast{Position: c.position, Operators: c.operators, Wait: c.wait}
			if got := forecast(s, morning)[me]; got != want {
				t.Errorf("%+v, not %+v", got, want)
			}
		})
	}
}

// TestForecastOfTheRows: what the rows say is what the forecast is made from, and
// a forecast is read again when it is old.
func TestForecastOfTheRows(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 30, "software")
	for i := range recentLeast { // talks of 100 s and 20 s of wrap-up, 5 s of ringing before
		at := after(200 * float64(i))
		p := d.waits("software", 2, at)
		o := d.offered(p, at)
		d.ok(d.Accept(background, o.ID, at.Add(5*time.Second)))
		d.ok(d.Release(background, o.ID, at.Add(105*time.Second)))
		d.ok(d.Declare(background, anna, "available", "", at.Add(125*time.Second)))
	}
	now := after(1000)
	talking := d.waits("software", 2, now)
	d.ok(d.Accept(background, d.offered(talking, now).ID, now))
	first, second := d.waits("software", 2, now), d.waits("software", 1, now)
	d.waits("certificati", 1, now)
	for _, c := range []struct {
		name string
		p    *Place
		at   time.Time
		want Forecast
	}{
		{"talking", talking, now, Forecast{}},
		{"urgent", second, now, Forecast{1, 1, 125 * time.Second}},
		{"behind", first, now, Forecast{2, 1, 250 * time.Second}},
		{"still the same", first, now.Add(OutlookFresh - 1), Forecast{2, 1, 250 * time.Second}},
		{"later", first, now.Add(25 * time.Second), Forecast{2, 1, 225 * time.Second}},
	} {
		got, err := d.Forecast(background, c.p.contact, c.at)
		d.ok(err)
		if got != c.want {
			t.Errorf("%s: %+v, not %+v", c.name, got, c.want)
		}
	}
}
