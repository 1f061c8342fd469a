package calendar

import "time"

// Holiday says whether the day of t in Rome is a national public holiday.
func Holiday(t time.Time) (name string, yes bool) { return "", false }
