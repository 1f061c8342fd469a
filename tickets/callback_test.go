package tickets

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

// The service of these tests is open from eight to six, Monday to Friday.
func (d *desk) officeHours() {
	d.t.Helper()
	var week [7][]calendar.Span
	for day := time.Monday; day <= time.Friday; day++ {
		week[day] = []calendar.Span{{Open: 8 * 60, Close: 18 * 60}}
	}
	_, err := d.PutService(d.t.Context(), Service{Number: "848000111", Name: "Ufficio", Hours: calendar.Hours{Week: week}, Menu: []MenuItem{{Key: '1', Topic: d.topics[0], Default: true}}})
	must(d.t, err)
}

// rome is an instant of March 2026, of which the 2nd is a Monday.
func rome(day, hour, minute int, more time.Duration) time.Time {
	return time.Date(2026, time.March, day, hour, minute, 0, 0, calendar.Rome()).Add(more)
}

// promised is a hand-made callback; each attempt is made at its instant.
type promised struct {
	asked    time.Time
	first    time.Time // zero: no attempt yet
	outcome  string    // "": it stands
	ended    time.Time
	attempts []string // outcomes; "": going on
}

// promise books callbacks of one contact, one after the other.
func (d *desk) promise(list ...promised) *Contact {
	d.t.Helper()
	c, err := d.Begin(d.t.Context(), Arrival{Channel: Phone, ID: uuid.NewString(), From: "+390551234567", Source: "asserted", To: "848000111", At: list[0].asked})
	must(d.t, err)
	for _, p := range list {
		id := uuid.New()
		var ended *time.Time
		if p.outcome != "" {
			ended = &p.ended
		}
		_, err := d.db.Pool.Exec(d.t.Context(), `insert into callbacks (id, contact_id, origin, number, asked_at, booked_at, attempts, first_at, outcome, ended_at)
			values ($1, $2, 'queue', '+390551234567', $3, $3, $4, $5, nullif($6, ''), $7)`, id, c.ID, p.asked, len(p.attempts), orNull(p.first), p.outcome, ended)
		must(d.t, err)
		for n, outcome := range p.attempts {
			_, err := d.db.Pool.Exec(d.t.Context(), `insert into contacts (id, node, channel, call_id, caller_source, dialled, t0, direction, callback_id, outcome)
				values ($1, 'node1', 'phone', $2, 'from', '+390551234567', $3, 'outbound', $4, $5)`, uuid.New(), fmt.Sprint(id, n), p.first.Add(time.Duration(n)*time.Minute), id, outcome)
			must(d.t, err)
		}
	}
	return c
}

// TestWithinAnHour: the hour for the first attempt is of working time, and its last
// instant belongs to it.
func TestWithinAnHour(t *testing.T) {
	d := newDesk(t)
	d.officeHours()
	for _, c := range []struct {
		name         string
		asked, first time.Time
		within       bool
	}{
		{"at once", rome(2, 10, 0, 0), rome(2, 10, 0, time.Second), true},
		{"the last instant", rome(2, 10, 0, 0), rome(2, 11, 0, 0), true},
		{"an instant later", rome(2, 10, 0, 0), rome(2, 11, 0, time.Millisecond), false},
		{"over the night, the last instant", rome(2, 17, 30, 0), rome(3, 8, 30, 0), true},
		{"over the night, an instant later", rome(2, 17, 30, 0), rome(3, 8, 30, time.Millisecond), false},
		{"over the weekend, the last instant", rome(6, 17, 45, 0), rome(9, 8, 45, 0), true},
		{"over the weekend, an instant later", rome(6, 17, 45, 0), rome(9, 8, 45, time.Millisecond), false},
		{"asked on Sunday", rome(8, 12, 0, 0), rome(9, 9, 0, 0), true},
		{"asked on Sunday, too late", rome(8, 12, 0, 0), rome(9, 9, 1, 0), false},
		{"rung on Sunday", rome(6, 17, 30, 0), rome(8, 12, 0, 0), true},
		{"over the night in which the clocks go forward", rome(27, 17, 45, 0), rome(30, 8, 45, 0), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			contact := d.promise(promised{asked: c.asked, first: c.first, outcome: "reached", ended: c.first, attempts: []string{"reached"}})
			list, err := d.callbacks(t.Context(), `where b.contact_id = @contact`, map[string]any{"contact": contact.ID}, c.first.Add(time.Hour))
			must(t, err)
			if len(list) != 1 || list[0].WithinAnHour == nil || *list[0].WithinAnHour != c.within {
				t.Errorf("asked %v, rung %v: %+v", c.asked, c.first, list)
			}
			waits := d.promise(promised{asked: c.asked}) // no attempt at all
			open, err := d.CallbackOf(t.Context(), waits.ID, c.first)
			must(t, err)
			if open == nil || open.WithinAnHour != nil || open.OutOfTime == c.within {
				t.Errorf("asked %v, looked at %v: %+v", c.asked, c.first, open)
			}
		})
	}
}

// TestCallbackFigures counts hand-made callbacks: contacts, not promises.
func TestCallbackFigures(t *testing.T) {
	d := newDesk(t)
	d.officeHours()
	from, to, at := rome(2, 0, 0, 0), rome(3, 0, 0, 0), rome(3, 12, 0, 0)
	empty, err := d.CallbackFigures(t.Context(), from, to, at)
	must(t, err)
	if empty.Asked != 0 || empty.WithinShare != nil || empty.Definition != "callbacks/2" || empty.WorkingMinutes != 60 || len(empty.CalendarVersion) != 2 || empty.CalendarVersion[1] != (Edition{"Ufficio", 1}) {
		t.Fatalf("an empty period: %+v", empty)
	}
	ten := rome(2, 10, 0, 0)
	one := func(outcome string, first time.Time, attempts ...string) promised {
		return promised{asked: ten, first: first, outcome: outcome, ended: first.Add(time.Hour), attempts: attempts}
	}
	soon, late := ten.Add(5*time.Minute), ten.Add(61*time.Minute)
	d.promise(one("reached", soon, "no_answer", "reached"))
	d.promise(one("not_reached", late, "busy", "no_answer", "no_answer"))
	d.promise(one("not_reached", soon, "no_answer"), promised{asked: ten.Add(4 * time.Hour), first: ten.Add(6 * time.Hour), outcome: "reached", ended: ten.Add(6 * time.Hour), attempts: []string{"reached"}}) // twice promised
	d.promise(promised{asked: ten, outcome: "served", ended: ten.Add(20 * time.Minute)})                                                                                                                       // rang again at once
	d.promise(promised{asked: ten, outcome: "served", ended: ten.Add(2 * time.Hour)})                                                                                                                          // we were too late
	d.promise(promised{asked: ten, outcome: "cancelled", ended: ten.Add(2 * time.Hour)})                                                                                                                       // cancelled, and too late all the same
	d.promise(promised{asked: ten, outcome: "no_operator", ended: ten.Add(time.Minute)}, promised{asked: ten.Add(time.Minute)})                                                                                // waits since
	d.promise(promised{asked: ten, first: soon, attempts: []string{""}})                                                                                                                                       // is being dialled
	d.promise(promised{asked: from.Add(-time.Millisecond)})                                                                                                                                                    // yesterday's
	d.promise(promised{asked: to})                                                                                                                                                                             // tomorrow's
	f, err := d.CallbackFigures(t.Context(), from, to, at)
	must(t, err)
	share := 3.0 / 7
	want := CallbackFigures{Definition: "callbacks/2", From: from.UTC(), To: to.UTC(), Asked: 8, Attempted: 4, Attempts: 8, Reached: 2, NotReached: 1, Served: 2, Cancelled: 1, Open: 2,
		Within: 3, WithinShare: &share, NeverAttempted: 3, WorkingMinutes: 60, CalendarVersion: empty.CalendarVersion, Outcomes: f.Outcomes}
	if !reflect.DeepEqual(*f, want) {
		t.Errorf("figures\n%+v, want\n%+v", *f, want)
	}
	if f.Asked != f.Reached+f.NotReached+f.Served+f.Cancelled+f.Open {
		t.Errorf("they do not add up: %+v", f)
	}
	tallies := map[string]int{}
	for _, o := range f.Outcomes {
		tallies[o.Code] = o.Count
	}
	if !reflect.DeepEqual(tallies, map[string]int{"reached": 2, "no_answer": 4, "busy": 1}) {
		t.Errorf("outcomes: %v", tallies)
	}
}

// TestToday counts a hand-made day in Italy.
func TestToday(t *testing.T) {
	d := newDesk(t)
	at := rome(2, 15, 0, 0)
	call := func(t0 time.Time, topic int, set string) {
		t.Helper()
		c := d.call("+390577000001", t0)
		var id *int64
		if topic >= 0 {
			id = &d.topics[topic].ID
		}
		_, err := d.db.Pool.Exec(t.Context(), `update contacts set topic_id = $2, `+set+` where id = $1`, c.ID, id)
		must(t, err)
	}
	second := 0
	next := func() time.Time { second++; return rome(2, 9, 0, time.Duration(second)*time.Second) }
	served := `tq = t0, tc = t0 + interval '10 s', te = t0 + interval '60 s', ending = 'served'`
	call(next(), 0, served)
	call(next(), 0, `tq = t0, tc = t0 + interval '10 s'`) // talking just now
	call(next(), 1, served)
	call(next(), 0, `tq = t0, te = t0 + interval '4.999 s', ending = 'abandoned_queue'`)
	call(next(), 0, `tq = t0, te = t0 + interval '5 s', ending = 'abandoned_queue'`)
	call(next(), 1, `tq = t0, te = t0 + interval '90 s', ending = 'callback_booked'`)
	call(next(), -1, `te = t0 + interval '9 s', ending = 'abandoned_ivr'`)
	call(next(), -1, `te = t0, ending = 'refused_no_line'`)
	call(next(), 1, `direction = 'outbound', tc = t0, te = t0, ending = 'served'`) // we rang
	call(rome(2, 0, 0, 0), 1, `te = t0 + interval '9 s', ending = 'voicemail'`)
	call(rome(2, 0, 0, -time.Millisecond), 1, served) // yesterday
	call(at.Add(time.Minute), 1, served)              // not yet
	got, err := d.Today(t.Context(), at)
	must(t, err)
	want := &Today{Definition: "today/1", From: rome(2, 0, 0, 0).UTC(), Received: 9, Answered: 3, Abandoned: 2, ShortAbandoned: 1, ShortSeconds: 5, Topics: []TopicToday{
		{d.topics[0].ID, 4, 2, 2}, {d.topics[1].ID, 3, 1, 0},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("today\n%+v, want\n%+v", got, want)
	}
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
