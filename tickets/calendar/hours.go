package calendar

import "time"

// Span is one window of a day, from Open up to but not including Close, both in
// minutes since local midnight; 0 ≤ Open < Close ≤ 1440 (24:00).
type Span struct{ Open, Close int }

// MonthDay is a day of every year.
type MonthDay struct {
	Month time.Month
	Day   int
}

// Hours says when a service answers.
type Hours struct {
	Week         [7][]Span // by time.Weekday: 0 is Sunday
	Always       bool      // day and night, holidays too; Week is not looked at
	OpenHolidays bool      // a holiday is a day like the others of its weekday
	Patron       *MonthDay // the patron day of the service's municipality, nil for none
}

// Open says whether the service answers at t and when that changes.
func (h Hours) Open(t time.Time) (open bool, changes time.Time) { return h.Always, time.Time{} }
