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

// Date is one day of one year.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// DateOf is the day of t in Rome.
func DateOf(t time.Time) Date {
	year, month, day := t.In(rome).Date()
	return Date{year, month, day}
}

// Before says whether d is an earlier day than other.
func (d Date) Before(other Date) bool {
	return d.Year < other.Year || d.Year == other.Year && (d.Month < other.Month || d.Month == other.Month && d.Day < other.Day)
}

// Period is a run of exceptional days, the last included, whose windows hold
// instead of all others: those of an election (B3) last from 0 to 1440, a closed
// day has none.
type Period struct {
	First, Last Date
	Spans       []Span
}

// Hours says when a service answers. The zero Hours never does.
type Hours struct {
	Week         [7][]Span // by time.Weekday: 0 is Sunday; in any order, may overlap
	Always       bool      // day and night, holidays too; only exceptional days are others
	OpenHolidays bool      // a holiday, the patron day included, is a day like the others of its weekday
	Patron       *MonthDay // the patron day of the service's municipality, nil for none
	Exceptional  []Period  // they come before holidays, patron and week; the first that holds a day decides
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
	at := t.In(rome)
	changes, _ = h.change(at, at.Add(horizon))
	return h.openAt(at), changes
}

// change is the first instant after at and before end, both on the clock of Rome,
// at which the service answers if it does not at at, and the other way round.
func (h Hours) change(at, end time.Time) (changes time.Time, found bool) {
	if h.Always && len(h.Exceptional) == 0 {
		return time.Time{}, false
	}
	open := h.openAt(at)
	// Walk through stretches in which the wall clock runs evenly: they end at
	// midnight, and where daylight saving begins or ends.
	for at.Before(end) {
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
			at, stretch, wall = at.Add(step-wall), stretch-(step-wall), step
			if covers(spans, step) != open {
				return within(at, end)
			}
		}
		at = at.Add(stretch)
		if h.openAt(at) != open {
			return within(at, end)
		}
	}
	return time.Time{}, false
}

// within is t, if it lies before end.
func within(t, end time.Time) (time.Time, bool) {
	if !t.Before(end) {
		return time.Time{}, false
	}
	return t, true
}

// openAt says whether the service answers at t, a time on the clock of Rome.
func (h Hours) openAt(t time.Time) bool { return covers(h.spans(t), sinceMidnight(t)) }

// allDay is the window of a day that has no other.
var allDay = []Span{{0, 24 * 60}}

// spans are the windows of the day of t, a time on the clock of Rome.
func (h Hours) spans(t time.Time) []Span {
	if len(h.Exceptional) > 0 {
		day := DateOf(t)
		for _, p := range h.Exceptional {
			if !day.Before(p.First) && !p.Last.Before(day) {
				return p.Spans
			}
		}
	}
	if h.Always {
		return allDay
	}
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
