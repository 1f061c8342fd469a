package calendar

import "time"

// Span is one window of a day, from Open up to but not including Close, both in
// minutes since midnight on the clock of Rome; 0 ≤ Open < Close ≤ 1440 (24:00).
// A window that reaches 24:00 and one of the next day that begins at 0 are one
// opening without a break.
type Span struct{ Open, Close int }

// MonthDay is a day of every year.
type MonthDay struct {
	Month time.Month
	Day   int
}

// Hours says when a service answers. The zero Hours never does.
type Hours struct {
	Week         [7][]Span // by time.Weekday: 0 is Sunday; in any order, may overlap
	Always       bool      // day and night, holidays too; the rest is not looked at
	OpenHolidays bool      // a holiday is a day like the others of its weekday
	Patron       *MonthDay // the patron day of the service's municipality, nil for none
}

// horizon is how far Open looks for a change: past a year, so that a service that
// is open on one day of the year only is still found.
const horizon = 400 * 24 * time.Hour

// Open says whether the service answers at t, which is what the clock on the wall
// in Rome decides: on the night the clocks go back, the hour between two and three
// is inside or outside of a window twice. It also says when that changes: the next
// opening of a closed service, the next closing of an open one, on the clock of
// Rome. changes is zero if nothing changes within 400 days, as with Always.
func (h Hours) Open(t time.Time) (open bool, changes time.Time) {
	if h.Always {
		return true, time.Time{}
	}
	at := t.In(rome)
	open = h.openAt(at)
	// Walk through stretches in which the wall clock runs evenly: they end at
	// midnight, and where daylight saving begins or ends.
	for end := at.Add(horizon); at.Before(end); {
		wall := sinceMidnight(at)
		stretch := 24*time.Hour - wall
		// After 2037 package time counts 365 days for every year, so that on 31
		// December of a leap year the end it gives lies in the past.
		if _, shift := at.ZoneBounds(); shift.After(at) {
			stretch = min(stretch, shift.Sub(at))
		}
		spans := h.spans(at)
		for {
			step, more := nextEdge(spans, wall)
			if !more || step-wall >= stretch {
				break // no edge before the stretch ends
			}
			if covers(spans, step) != open {
				return open, at.Add(step - wall)
			}
			at, stretch, wall = at.Add(step-wall), stretch-(step-wall), step
		}
		at = at.Add(stretch)
		if h.openAt(at) != open {
			return open, at
		}
	}
	return open, time.Time{}
}

// openAt says whether the service answers at t, a time on the clock of Rome.
func (h Hours) openAt(t time.Time) bool { return covers(h.spans(t), sinceMidnight(t)) }

// spans are the windows of the day of t, a time on the clock of Rome.
func (h Hours) spans(t time.Time) []Span {
	if !h.OpenHolidays {
		if _, holiday := Holiday(t); holiday {
			return nil
		}
		if h.Patron != nil && t.Month() == h.Patron.Month && t.Day() == h.Patron.Day {
			return nil
		}
	}
	return h.Week[t.Weekday()]
}

// sinceMidnight is what the wall clock shows, not how long the day has lasted.
func sinceMidnight(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute +
		time.Duration(second)*time.Second + time.Duration(t.Nanosecond())
}

// covers says whether one of the windows holds this time of the day.
func covers(spans []Span, wall time.Duration) bool {
	for _, s := range spans {
		if wall >= minutes(s.Open) && wall < minutes(s.Close) {
			return true
		}
	}
	return false
}

// nextEdge is the first beginning or end of a window after this time of the day.
func nextEdge(spans []Span, wall time.Duration) (edge time.Duration, ok bool) {
	for _, s := range spans {
		for _, e := range [2]time.Duration{minutes(s.Open), minutes(s.Close)} {
			if e > wall && (!ok || e < edge) {
				edge, ok = e, true
			}
		}
	}
	return edge, ok
}

func minutes(n int) time.Duration { return time.Duration(n) * time.Minute }
