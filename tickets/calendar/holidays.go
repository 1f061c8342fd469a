package calendar

import "time"

// holiday is a public holiday on a fixed day, with the years in which it is one: a
// report on a past year must not know a law that came later.
type holiday struct {
	month time.Month
	day   int
	name  string
	from  int // first year
	to    int // last year, 0: until further notice
}

// The national public holidays (law 27 May 1949 n. 260 as amended). Those without
// a later law hold from its year; what was abolished before 1986 is left out.
var holidays = [...]holiday{
	{time.January, 1, "Capodanno", 1949, 0},
	{time.January, 6, "Epifania", 1986, 0},                                // again: decree 28 December 1985 n. 792
	{time.March, 17, "150º anniversario dell'Unità d'Italia", 2011, 2011}, // decree-law 22 February 2011 n. 5
	{time.April, 25, "Anniversario della Liberazione", 1949, 0},
	{time.May, 1, "Festa dei lavoratori", 1949, 0},
	{time.June, 2, "Festa della Repubblica", 2001, 0}, // again: law 20 November 2000 n. 336
	{time.August, 15, "Assunzione di Maria Vergine", 1949, 0},
	{time.October, 4, "San Francesco d'Assisi", 2026, 0}, // again: law 8 October 2025 n. 151
	{time.November, 1, "Ognissanti", 1949, 0},
	{time.December, 8, "Immacolata Concezione", 1949, 0},
	{time.December, 25, "Natale", 1949, 0},
	{time.December, 26, "Santo Stefano", 1949, 0},
}

// Holiday says whether the day of t in Rome is a national public holiday, by the
// law of that year, and which. Sundays are no holidays by themselves; Easter
// Sunday is. The patron day of a town is not among them: see Hours.Patron.
func Holiday(t time.Time) (name string, yes bool) {
	year, month, day := t.In(rome).Date()
	for _, h := range holidays {
		if month == h.month && day == h.day && year >= h.from && (h.to == 0 || year <= h.to) {
			return h.name, true
		}
	}
	switch easterMonth, easterDay := easter(year); {
	case month == easterMonth && day == easterDay:
		return "Pasqua", true
	case time.Date(year, month, day-1, 12, 0, 0, 0, time.UTC).Equal(time.Date(year, easterMonth, easterDay, 12, 0, 0, 0, time.UTC)):
		return "Lunedì dell'Angelo", true
	}
	return "", false
}

// easter is Easter Sunday of a Gregorian year by the anonymous algorithm of 1876
// (J. Meeus, Astronomical Algorithms, chapter 8).
func easter(year int) (time.Month, int) {
	a, b, c := year%19, year/100, year%100
	d, e := b/4, b%4
	g := (8*b + 13) / 25
	h := (19*a + b - d - g + 15) % 30
	i, k := c/4, c%4
	l := (32 + 2*e + 2*i - h - k) % 7
	m := (a + 11*h + 19*l) / 433
	n := h + l - 7*m
	month := (n + 90) / 25
	return time.Month(month), (n + 33*month + 19) % 32
}
