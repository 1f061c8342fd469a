package calendar

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// slowIn asks the edition that holds at an instant.
func slowIn(c Calendar, t time.Time) bool {
	var h Hours
	for _, e := range c {
		if !e.From.After(t) {
			h = e.Hours
		}
	}
	return slowOpen(h, t)
}

// TestCalendarAgainstMinuteByMinute holds the sums against a walk that asks every
// minute of twelve days, with up to three editions that follow each other there.
func TestCalendarAgainstMinuteByMinute(t *testing.T) {
	const days = 12
	rapid.Check(t, func(r *rapid.T) {
		start := anyStart(r).Truncate(time.Minute)
		c := Calendar{{start.AddDate(-1, 0, 0), anyHours(r, start)}}
		for range rapid.IntRange(0, 2).Draw(r, "more editions") {
			from := c[len(c)-1].From
			if from.Before(start) {
				from = start
			}
			from = from.Add(time.Duration(rapid.IntRange(0, 6*24*60).Draw(r, "from")) * time.Minute)
			c = append(c, Edition{from, anyHours(r, start)})
		}
		open := make([]bool, days*24*60) // of each minute
		worked := make([]time.Duration, len(open)+1)
		for i := range open {
			open[i] = slowIn(c, start.Add(time.Duration(i)*time.Minute))
			worked[i+1] = worked[i]
			if open[i] {
				worked[i+1] += time.Minute
			}
		}
		at := func(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }
		for range 20 {
			i := rapid.IntRange(0, len(open)-1).Draw(r, "a")
			j := rapid.IntRange(0, len(open)).Draw(r, "b")
			if got, want := c.Elapsed(at(i), at(j)), max(0, worked[j]-worked[i]); got != want {
				r.Fatalf("from %v to %v %v of work, want %v", at(i).In(rome), at(j).In(rome), got, want)
			}
			next := i
			for next < len(open) && !open[next] {
				next++
			}
			if opens, ok := c.NextOpening(at(i)); next < len(open) && (!ok || !opens.Equal(at(next))) || next == len(open) && ok && opens.Before(at(next)) {
				r.Fatalf("from %v the next opening is %v, %v; want %v", at(i).In(rome), opens, ok, at(next).In(rome))
			}
			d := time.Duration(rapid.IntRange(0, days*12*60).Draw(r, "d")) * time.Minute
			due := i
			for due < len(open) && worked[due]-worked[i] < d {
				due++
			}
			if worked[due]-worked[i] < d { // it lies past what was walked
				continue
			}
			if got, ok := c.Add(at(i), d); !ok || !got.Equal(at(due)) {
				r.Fatalf("%v of work after %v is %v, %v; want %v", d, at(i).In(rome), got, ok, at(due).In(rome))
			}
		}
	})
}

// TestFortyYears walks every minute from 2000 to the end of 2040 once, with the
// hours of a real desk that change twice, and holds sums over any stretch of it
// against the count.
func TestFortyYears(t *testing.T) {
	begin, end := time.Date(2000, 1, 1, 0, 0, 0, 0, rome), time.Date(2041, 1, 1, 0, 0, 0, 0, rome)
	day := everyDay(Span{0, 150}, Span{8 * 60, 13 * 60}, Span{14 * 60, 18*60 + 30}) // the night window meets both changes of the clocks
	day.OpenHolidays = true
	office := weekdays(Span{8 * 60, 20 * 60})
	office.Week[time.Saturday] = []Span{{480, 840}}
	office.Patron = &MonthDay{time.June, 24}
	office.Exceptional = []Period{{Date{2026, time.May, 20}, Date{2026, time.June, 8}, []Span{{0, 1440}}}, {Date{2030, time.March, 1}, Date{2030, time.March, 3}, nil}}
	c := Calendar{{begin, day}, {time.Date(2009, 5, 12, 11, 20, 0, 0, rome), office}, {time.Date(2033, 1, 1, 0, 0, 0, 0, rome), day}}

	n := int(end.Sub(begin) / time.Minute)
	worked := make([]int32, n+1)        // minutes of work until each minute
	holidays := map[int]bool{}          // by day since begin, asked once
	for i, at := 0, begin; i < n; i++ { // by hand, not by the code under test
		local := at.In(rome)
		edition := c[0].Hours
		if !at.Before(c[2].From) {
			edition = c[2].Hours
		} else if !at.Before(c[1].From) {
			edition = c[1].Hours
		}
		key := local.Year()*1000 + local.YearDay()
		off, known := holidays[key]
		if !known {
			off = slowHoliday(local) || local.Month() == time.June && local.Day() == 24
			holidays[key] = off
		}
		spans := edition.Week[local.Weekday()]
		if off && !edition.OpenHolidays {
			spans = nil
		}
		for _, p := range edition.Exceptional {
			if d := DateOf(local); !d.Before(p.First) && !p.Last.Before(d) {
				spans = p.Spans
			}
		}
		worked[i+1] = worked[i]
		if slowCovers(spans, local) {
			worked[i+1]++
		}
		at = at.Add(time.Minute)
	}
	at := func(i int) time.Time { return begin.Add(time.Duration(i) * time.Minute) }
	random := rand.New(rand.NewPCG(1, 2))
	for k := range 1500 {
		i := random.IntN(n)
		j := min(n, i+random.IntN(90*24*60))
		if k%100 == 0 {
			j = i + random.IntN(n-i) // years
		}
		want := time.Duration(worked[j]-worked[i]) * time.Minute
		if got := c.Elapsed(at(i), at(j)); got != want {
			t.Fatalf("from %v to %v %v of work, want %v", at(i), at(j), got, want)
		}
		first := i // the first minute by which all of it has passed
		for first < j && worked[first] < worked[j] {
			first++
		}
		if got, ok := c.Add(at(i), want); !ok || !got.Equal(at(first)) {
			t.Fatalf("%v of work after %v is %v, want %v", want, at(i), got, at(first))
		}
	}
	if total := c.Elapsed(begin, end); total != time.Duration(worked[n])*time.Minute {
		t.Errorf("forty-one years have %v of work, want %v minutes", total, worked[n])
	}
}

func TestCalendarAtItsEdges(t *testing.T) {
	office := weekdays(Span{8 * 60, 20 * 60})
	longer := weekdays(Span{8 * 60, 22 * 60})
	c := Calendar{{at(t, "2026-03-02 00:00"), office}, {at(t, "2026-03-03 19:00"), longer}, {at(t, "2026-03-04 12:00"), Hours{}}}
	for _, q := range []struct {
		at      string
		open    bool
		changes string
	}{
		{"2026-03-01 10:00", false, "2026-03-02 08:00"}, // before the first edition
		{"2026-03-02 10:00", true, "2026-03-02 20:00"},
		{"2026-03-03 10:00", true, "2026-03-03 22:00"}, // the longer day begins before the old one has closed
		{"2026-03-04 09:00", true, "2026-03-04 12:00"}, // an edition closes it
		{"2026-03-04 12:00", false, ""},
	} {
		if open, changes := c.Open(at(t, q.at)); open != q.open || !changes.Equal(at(t, q.changes)) {
			t.Errorf("at %s open is %v until %v", q.at, open, changes)
		}
	}
	if _, ok := c.NextOpening(at(t, "2026-03-04 12:00")); ok {
		t.Error("it never opens again")
	}
	if _, ok := c.Add(at(t, "2026-03-04 11:00"), 2*time.Hour); ok {
		t.Error("there is one hour of work left")
	}
	if due, ok := c.Add(at(t, "2026-03-04 11:00"), time.Hour); !ok || !due.Equal(at(t, "2026-03-04 12:00")) {
		t.Errorf("due at closing: %v", due)
	}
	if sum := c.Elapsed(at(t, "2026-03-01 00:00"), at(t, "2030-01-01 00:00")); sum != 12*time.Hour+14*time.Hour+4*time.Hour {
		t.Errorf("all of it is %v", sum)
	}
	if now := at(t, "2026-03-07 03:00"); c.Elapsed(now, now) != 0 || c.Elapsed(now, now.Add(-time.Hour)) != 0 {
		t.Error("nothing passes backwards")
	}
	if due, ok := c.Add(at(t, "2026-03-01 03:00"), 0); !ok || !due.Equal(at(t, "2026-03-01 03:00")) {
		t.Errorf("nothing to add: %v", due)
	}
	if due, ok := (Calendar{{time.Time{}, Hours{Always: true}}}).Add(at(t, "2026-03-01 03:00"), 20_000*time.Hour); !ok || !due.Equal(at(t, "2026-03-01 03:00").Add(20_000*time.Hour)) {
		t.Errorf("always open: %v", due)
	}
}
