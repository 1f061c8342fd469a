// Package calendar is working time: opening hours and Italian holidays, on the
// clock of Rome and across its daylight saving.
package calendar

import (
	"time"
	_ "time/tzdata" // a small container has no zone files, and Rome must be right there too
)

var rome = mustLoad("Europe/Rome")

func mustLoad(name string) *time.Location {
	l, err := time.LoadLocation(name)
	if err != nil {
		panic(err) // cannot happen: the zones are in the program
	}
	return l
}

// Rome is the clock that opening hours, holidays and screens are read on.
func Rome() *time.Location { return rome }
