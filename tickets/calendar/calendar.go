package calendar

import "time"

// Edition is the hours that hold from an instant on.
type Edition struct {
	From  time.Time
	Hours Hours
}

// Calendar is the hours of a service over the years: each edition, in the order
// of From, holds until the next one. Before the first the service is closed. Its
// sums are of time that passes, so that a window across the night in which the
// clocks go back has an hour more.
type Calendar []Edition

// Open is Hours.Open across editions: a change may come with one.
func (c Calendar) Open(t time.Time) (open bool, changes time.Time) {
	open, changes, _ = c.run(t)
	return open, changes
}

// NextOpening is the first instant from t on at which the service answers, t
// itself if it does; false if there is none within 400 days.
func (c Calendar) NextOpening(t time.Time) (opens time.Time, ok bool) {
	open, changes, _ := c.run(t)
	if open {
		return t, true
	}
	return changes, !changes.IsZero()
}

// Elapsed is the working time from a up to b: how long the service was open
// between the two. It is 0 if b does not come after a.
func (c Calendar) Elapsed(a, b time.Time) (sum time.Duration) {
	for at := a; at.Before(b); {
		open, _, until := c.run(at)
		if until.After(b) {
			until = b
		}
		if open {
			sum += until.Sub(at)
		}
		at = until
	}
	return sum
}

// Add is the first instant at which d of working time has passed since t: t
// itself for a d of 0 or less. What is due when a window ends is due at its end,
// not at the next opening. It is false if the service does not open for 400 days
// before that.
func (c Calendar) Add(t time.Time, d time.Duration) (due time.Time, ok bool) {
	for at := t; ; {
		if d <= 0 {
			return at, true
		}
		open, changes, until := c.run(at)
		switch {
		case open && until.Sub(at) >= d:
			return at.Add(d), true
		case open:
			d -= until.Sub(at)
		case changes.IsZero():
			return time.Time{}, false
		}
		at = until
	}
}

// run is the stretch that begins at t in which the service is open or is closed:
// it ends at changes, zero if that is more than 400 days away; until is the end
// that is known of.
func (c Calendar) run(t time.Time) (open bool, changes, until time.Time) {
	at := t.In(rome)
	end := at.Add(horizon)
	open = c.openAt(at)
	for at.Before(end) {
		hours, until := c.edition(at, end)
		if changes, found := hours.change(at, until); found {
			return open, changes, changes
		}
		if at = until; at.Before(end) && c.openAt(at) != open {
			return open, at, at
		}
	}
	return open, time.Time{}, end
}

// edition is the hours that hold at at, and when they end, at most end.
func (c Calendar) edition(at, end time.Time) (hours Hours, until time.Time) {
	until = end
	for _, e := range c {
		if e.From.After(at) {
			if e.From.Before(end) {
				until = e.From.In(rome)
			}
			break
		}
		hours = e.Hours
	}
	return hours, until
}

func (c Calendar) openAt(at time.Time) bool {
	hours, _ := c.edition(at, at)
	return hours.openAt(at)
}
