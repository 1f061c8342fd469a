package calendar

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at reads a time on the clock of Rome; a zone at the end tells the two hours of
// an October night apart.
func at(t testing.TB, s string) time.Time {
	t.Helper()
	if s == "" {
		return time.Time{}
	}
	if when, err := time.Parse("2006-01-02 15:04:05 -0700", s); err == nil {
		return when
	}
	when, err := time.ParseInLocation("2006-01-02 15:04:05", s, rome)
	if err != nil {
		if when, err = time.ParseInLocation("2006-01-02 15:04", s, rome); err != nil {
			t.Fatal(err)
		}
	}
	return when
}

func weekdays(spans ...Span) (h Hours) {
	for d := time.Monday; d <= time.Friday; d++ {
		h.Week[d] = spans
	}
	return h
}

func everyDay(spans ...Span) (h Hours) {
	for d := range h.Week {
		h.Week[d] = spans
	}
	return h
}

func TestOpen(t *testing.T) {
	office := weekdays(Span{8 * 60, 20 * 60})
	split := weekdays(Span{14 * 60, 18 * 60}, Span{8*60 + 30, 13 * 60})
	saturday := weekdays(Span{480, 1200})
	saturday.Week[time.Saturday] = []Span{{480, 780}}
	holidaysToo := office
	holidaysToo.OpenHolidays = true
	florence := office
	florence.Patron = &MonthDay{time.June, 24}
	night := everyDay(Span{1320, 1440}, Span{0, 360})
	allDay := everyDay(Span{0, 1440})
	allDay.OpenHolidays = true
	touching := weekdays(Span{480, 720}, Span{720, 900}, Span{840, 1000})
	wedding := Hours{}
	wedding.Week[time.Tuesday] = []Span{{9 * 60, 9*60 + 1}}
	closedFor := func(h Hours, first, last Date, spans ...Span) Hours {
		h.Exceptional = append([]Period{{first, last, spans}}, h.Exceptional...)
		return h
	}
	election := closedFor(office, Date{2026, time.June, 6}, Date{2026, time.June, 8}, Span{0, 1440}) // Saturday to Monday
	christmas := closedFor(office, Date{2026, time.December, 25}, Date{2026, time.December, 25}, Span{9 * 60, 12 * 60})
	moving := closedFor(Hours{Always: true}, Date{2026, time.March, 3}, Date{2026, time.March, 4})
	patronToo := closedFor(florence, Date{2026, time.June, 24}, Date{2026, time.June, 24}, Span{600, 660})
	dst := everyDay(Span{90, 150}) // 01:30–02:30, across both changes of the clocks
	dst.OpenHolidays = true

	for _, c := range []struct {
		name    string
		hours   Hours
		at      string
		open    bool
		changes string
	}{
		{"a Monday morning", office, "2026-03-02 12:29", true, "2026-03-02 20:00"},
		{"the first instant", office, "2026-03-02 08:00", true, "2026-03-02 20:00"},
		{"just before", office, "2026-03-02 07:59:59", false, "2026-03-02 08:00"},
		{"the last second", office, "2026-03-02 19:59:59", true, "2026-03-02 20:00"},
		{"closing is closed", office, "2026-03-02 20:00", false, "2026-03-03 08:00"},
		{"Friday night", office, "2026-03-06 21:00", false, "2026-03-09 08:00"},
		{"Christmas Eve", office, "2026-12-24 21:00", false, "2026-12-28 08:00"}, // the 25th is a Friday, the 26th Saturday
		{"Christmas Eve 2027", office, "2027-12-24 21:00", false, "2027-12-27 08:00"},
		{"Christmas, open on holidays", holidaysToo, "2026-12-25 09:00", true, "2026-12-25 20:00"},
		{"Easter", office, "2026-04-03 20:30", false, "2026-04-07 08:00"},
		{"lunch", split, "2026-03-02 13:00", false, "2026-03-02 14:00"},
		{"before lunch", split, "2026-03-02 12:59", true, "2026-03-02 13:00"},
		{"after lunch", split, "2026-03-02 15:10", true, "2026-03-02 18:00"},
		{"Saturday morning", saturday, "2026-03-07 09:00", true, "2026-03-07 13:00"},
		{"Friday into Saturday", saturday, "2026-03-06 20:00", false, "2026-03-07 08:00"},
		{"patron day", florence, "2026-06-24 10:00", false, "2026-06-25 08:00"},
		{"no patron of others", office, "2026-06-24 10:00", true, "2026-06-24 20:00"},
		{"St Francis 2024 was a working Friday", office, "2024-10-04 10:00", true, "2024-10-04 20:00"},
		{"St Francis 2027 is a Monday off", office, "2027-10-04 10:00", false, "2027-10-05 08:00"},
		{"through midnight", night, "2026-03-02 23:59:59", true, "2026-03-03 06:00"},
		{"night into a holiday ends at midnight", night, "2026-04-30 23:00", true, "2026-05-01 00:00"},
		{"holiday into its night stays closed", night, "2026-05-01 23:00", false, "2026-05-02 00:00"},
		{"touching windows are one", touching, "2026-03-02 11:00", true, "2026-03-02 16:40"},
		{"one minute a week", wedding, "2026-03-03 09:01", false, "2026-03-10 09:00"},
		{"all day, every day", allDay, "2026-03-02 11:00", true, ""},
		{"always", Hours{Always: true}, "2026-12-25 03:00", true, ""},
		{"never", Hours{}, "2026-03-02 11:00", false, ""},
		{"an election begins at midnight", election, "2026-06-05 20:00", false, "2026-06-06 00:00"},
		{"an election lasts through its nights", election, "2026-06-06 23:30", true, "2026-06-09 00:00"},
		{"after the election the office opens at eight", election, "2026-06-09 00:00", false, "2026-06-09 08:00"},
		{"a holiday with windows of its own", christmas, "2026-12-25 10:00", true, "2026-12-25 12:00"},
		{"the other holidays stay", christmas, "2026-12-26 10:00", false, "2026-12-28 08:00"},
		{"closed although always open", moving, "2026-03-03 10:00", false, "2026-03-05 00:00"},
		{"always open until a closed day", moving, "2026-03-01 10:00", true, "2026-03-03 00:00"},
		{"an exceptional patron day", patronToo, "2026-06-24 10:30", true, "2026-06-24 11:00"},
		{"UTC is not Rome", office, "2026-03-02 07:30:00 +0000", true, "2026-03-02 20:00"},

		// 29 March 2026: 02:00 CET is 03:00 CEST. 25 October 2026: 03:00 CEST is 02:00 CET.
		{"the night of the lost hour", dst, "2026-03-29 01:30", true, "2026-03-29 03:00:00 +0200"},
		{"a short day's morning", everyDay(Span{480, 1200}), "2026-03-28 20:00", false, "2026-03-29 08:00:00 +0200"},
		{"opens inside the lost hour", everyDay(Span{150, 600}), "2026-03-29 01:59", false, "2026-03-29 03:00:00 +0200"},
		{"both edges inside the lost hour", everyDay(Span{130, 170}), "2026-03-29 01:00", false, "2026-03-30 02:10"},
		{"first round of the double hour", dst, "2026-10-25 02:15:00 +0200", true, "2026-10-25 02:30:00 +0200"},
		{"between the rounds", dst, "2026-10-25 02:45:00 +0200", false, "2026-10-25 02:00:00 +0100"},
		{"second round", dst, "2026-10-25 02:15:00 +0100", true, "2026-10-25 02:30:00 +0100"},
		{"31 December of a leap year to come", office, "2040-12-31 20:30", false, "2041-01-02 08:00"}, // once never came back
		{"a long day's evening", everyDay(Span{480, 1200}), "2026-10-24 20:00", false, "2026-10-25 08:00:00 +0100"},
	} {
		open, changes := c.hours.Open(at(t, c.at))
		if want := at(t, c.changes); open != c.open || !changes.Equal(want) {
			t.Errorf("%s: at %s open is %v until %v, want %v until %v", c.name, c.at, open, changes, c.open, want)
		}
	}
}

func TestPatronDayPutsOffTheOnlyDayOfTheWeek(t *testing.T) {
	h := Hours{OpenHolidays: true}
	h.Week[time.Monday] = []Span{{600, 660}}
	h.Patron = &MonthDay{time.March, 2}
	if _, changes := h.Open(at(t, "2026-03-02 11:00")); !changes.Equal(at(t, "2026-03-09 10:00")) {
		t.Errorf("opens again %v", changes)
	}
}

// slowHoliday is the list of DEFINITIONS written down a second time, plainly.
func slowHoliday(t time.Time) bool {
	day := t.In(rome).Format("2006-01-02")
	switch day[5:] {
	case "01-01", "01-06", "04-25", "05-01", "08-15", "11-01", "12-08", "12-25", "12-26":
		return true
	case "06-02":
		return day >= "2001"
	case "10-04":
		return day >= "2026"
	case "03-17":
		return day[:4] == "2011"
	}
	for _, e := range easters {
		sunday, _ := time.Parse("2006-01-02", e)
		if day == e || day == sunday.AddDate(0, 0, 1).Format("2006-01-02") {
			return true
		}
	}
	return false
}

// slowOpen asks the clock on the wall, minute by minute.
func slowOpen(h Hours, t time.Time) bool {
	local := t.In(rome)
	today := local.Format("2006-01-02")
	for _, p := range h.Exceptional {
		if day := func(d Date) string {
			return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Format("2006-01-02")
		}; day(p.First) <= today && today <= day(p.Last) {
			return slowCovers(p.Spans, local)
		}
	}
	if h.Always {
		return true
	}
	if !h.OpenHolidays && (slowHoliday(t) || h.Patron != nil && local.Format("1-2") == time.Date(2000, h.Patron.Month, h.Patron.Day, 0, 0, 0, 0, time.UTC).Format("1-2")) {
		return false
	}
	return slowCovers(h.Week[int(local.Weekday())], local)
}

func slowCovers(spans []Span, local time.Time) bool {
	minute := local.Hour()*60 + local.Minute()
	for _, s := range spans {
		if s.Open <= minute && minute < s.Close {
			return true
		}
	}
	return false
}

// slowChange walks on minute by minute until the answer is another, for at most a
// given number of days.
func slowChange(h Hours, t time.Time, days int) time.Time {
	was := slowOpen(h, t)
	next := t.Truncate(time.Minute) // Rome's offsets are whole minutes
	for range days * 24 * 60 {
		next = next.Add(time.Minute)
		if slowOpen(h, next) != was {
			return next
		}
	}
	return time.Time{}
}

// interesting are the days and nights on which hours go wrong.
var interesting = rapid.SampledFrom([]string{
	"-03-29 01:00", "-03-26 01:30", "-03-31 00:00", "-10-25 01:00", "-10-28 01:30", "-10-31 00:00",
	"-12-24 20:00", "-12-31 23:00", "-01-05 12:00", "-10-03 21:00", "-10-04 10:00", "-04-20 08:00", "-06-01 22:00", "-02-28 23:30", "-03-16 23:00",
})

var anySpan = rapid.Custom(func(t *rapid.T) Span {
	a := rapid.OneOf(rapid.IntRange(0, 1439), rapid.SampledFrom([]int{0, 90, 119, 120, 150, 180, 181, 480})).Draw(t, "opens")
	b := rapid.OneOf(rapid.IntRange(a+1, 1440), rapid.SampledFrom([]int{1440})).Draw(t, "closes")
	return Span{a, b}
})

// anyStart is an instant within three days of an interesting one, 2000 to 2040.
func anyStart(r *rapid.T) time.Time {
	year := rapid.IntRange(2000, 2040).Draw(r, "year")
	start, err := time.ParseInLocation("2006-01-02 15:04", time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Format("2006")+interesting.Draw(r, "day"), rome)
	if err != nil {
		r.Fatal(err)
	}
	return start.Add(time.Duration(rapid.IntRange(-3*24*3600, 3*24*3600).Draw(r, "seconds")) * time.Second)
}

// anyHours are hours with exceptional days around an instant.
func anyHours(r *rapid.T, around time.Time) (h Hours) {
	for d := range h.Week {
		h.Week[d] = rapid.SliceOfN(anySpan, 0, 3).Draw(r, "spans")
	}
	h.OpenHolidays = rapid.Bool().Draw(r, "open on holidays")
	h.Always = rapid.IntRange(0, 5).Draw(r, "always") == 0
	if rapid.Bool().Draw(r, "patron") {
		h.Patron = &MonthDay{time.Month(rapid.IntRange(1, 12).Draw(r, "month")), rapid.IntRange(1, 28).Draw(r, "day")}
	}
	for range rapid.IntRange(0, 2).Draw(r, "exceptional") {
		first := around.AddDate(0, 0, rapid.IntRange(-2, 10).Draw(r, "first"))
		last := first.AddDate(0, 0, rapid.IntRange(0, 4).Draw(r, "days"))
		spans := rapid.OneOf(rapid.SliceOfN(anySpan, 0, 2), rapid.Just([]Span{{0, 1440}})).Draw(r, "windows")
		h.Exceptional = append(h.Exceptional, Period{DateOf(first), DateOf(last), spans})
	}
	return h
}

func TestOpenAgainstMinuteByMinute(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		start := anyStart(r)
		h := anyHours(r, start)
		open, changes := h.Open(start)
		if open != slowOpen(h, start) {
			r.Fatalf("at %v open is %v", start.In(rome), open)
		}
		// Minute by minute is slow: past twelve days we only ask that the change found
		// lies past them too, and that it is one.
		const days = 12
		want := slowChange(h, start, days)
		if want.IsZero() && !changes.IsZero() && !changes.After(start.Add(days*24*time.Hour-time.Minute)) {
			r.Fatalf("at %v changes %v, minute by minute not within %d days", start.In(rome), changes, days)
		}
		if !want.IsZero() && !changes.Equal(want) {
			r.Fatalf("at %v (open %v) changes %v, want %v", start.In(rome), open, changes, want.In(rome))
		}
		if !changes.IsZero() && (slowOpen(h, changes) == open || slowOpen(h, changes.Add(-time.Second)) != open) {
			r.Fatalf("at %v: %v is no change", start.In(rome), changes)
		}
	})
}

func TestNeverWithinFourHundredDays(t *testing.T) {
	never := Hours{OpenHolidays: true}
	start := time.Now()
	open, changes := never.Open(at(t, "2026-01-01 00:00"))
	if open || !changes.IsZero() {
		t.Errorf("never: %v, %v", open, changes)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("looking for nothing took %v", d)
	}
}

func BenchmarkOpen(b *testing.B) {
	h, when := weekdays(Span{480, 1200}), time.Date(2026, 12, 24, 21, 0, 0, 0, rome)
	for b.Loop() {
		h.Open(when)
	}
}
