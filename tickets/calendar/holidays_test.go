package calendar

import (
	"testing"
	"time"
)

// Easter Sundays as printed in calendars.
var easters = []string{
	"2000-04-23", "2001-04-15", "2002-03-31", "2003-04-20", "2004-04-11", "2005-03-27", "2006-04-16", "2007-04-08", "2008-03-23", "2009-04-12",
	"2010-04-04", "2011-04-24", "2012-04-08", "2013-03-31", "2014-04-20", "2015-04-05", "2016-03-27", "2017-04-16", "2018-04-01", "2019-04-21",
	"2020-04-12", "2021-04-04", "2022-04-17", "2023-04-09", "2024-03-31", "2025-04-20", "2026-04-05", "2027-03-28", "2028-04-16", "2029-04-01",
	"2030-04-21", "2031-04-13", "2032-03-28", "2033-04-17", "2034-04-09", "2035-03-25", "2036-04-13", "2037-04-05", "2038-04-25", "2039-04-10", "2040-04-01",
	"1818-03-22", "1943-04-25", "1954-04-18", "1981-04-19", "2049-04-18", "2076-04-19", "2285-03-22",
}

func TestEaster(t *testing.T) {
	for _, want := range easters {
		day, err := time.Parse("2006-01-02", want)
		if err != nil {
			t.Fatal(err)
		}
		month, d := easter(day.Year())
		if got := time.Date(day.Year(), month, d, 0, 0, 0, 0, time.UTC); !got.Equal(day) {
			t.Errorf("Easter is %s, want %s", got.Format("2 January 2006"), want)
		}
	}
}

func TestHoliday(t *testing.T) {
	for _, c := range []struct{ at, name string }{
		{"2026-01-01 00:00", "Capodanno"}, {"2026-01-01 23:59:59", "Capodanno"}, {"2026-01-02 00:00", ""},
		{"2026-01-06 10:00", "Epifania"}, {"1985-01-06 10:00", ""}, {"1986-01-06 10:00", "Epifania"},
		{"2026-04-05 10:00", "Pasqua"}, {"2026-04-06 10:00", "Lunedì dell'Angelo"}, {"2026-04-04 10:00", ""}, {"2026-04-07 10:00", ""},
		{"2024-03-31 10:00", "Pasqua"}, {"2024-04-01 10:00", "Lunedì dell'Angelo"}, // over the end of a month
		{"2026-04-25 10:00", "Anniversario della Liberazione"}, {"2011-04-25 10:00", "Anniversario della Liberazione"}, // also Easter Monday
		{"2026-05-01 10:00", "Festa dei lavoratori"},
		{"2000-06-02 10:00", ""}, {"2001-06-02 10:00", "Festa della Repubblica"}, {"2026-06-02 10:00", "Festa della Repubblica"},
		{"2026-08-15 10:00", "Assunzione di Maria Vergine"}, {"2026-11-01 10:00", "Ognissanti"}, {"2026-12-08 10:00", "Immacolata Concezione"},
		{"2026-12-25 10:00", "Natale"}, {"2026-12-26 10:00", "Santo Stefano"}, {"2026-12-24 10:00", ""}, {"2026-12-31 10:00", ""},
		{"2024-10-04 10:00", ""}, {"2025-10-04 10:00", ""}, {"2026-10-04 10:00", "San Francesco d'Assisi"}, {"2039-10-04 10:00", "San Francesco d'Assisi"},
		{"2010-03-17 10:00", ""}, {"2011-03-17 10:00", "150º anniversario dell'Unità d'Italia"}, {"2012-03-17 10:00", ""},
		{"2026-06-24 10:00", ""}, {"2026-05-25 10:00", ""}, // patron days and Whit Monday are not national
		{"2025-12-31 23:30:00 +0000", "Capodanno"}, // it is past midnight in Rome
	} {
		if name, yes := Holiday(at(t, c.at)); name != c.name || yes != (c.name != "") {
			t.Errorf("%s: %q, %v; want %q", c.at, name, yes, c.name)
		}
	}
}

func TestEveryDayOfFortyYears(t *testing.T) {
	for day := time.Date(2000, 1, 1, 12, 0, 0, 0, rome); day.Year() <= 2040; day = day.AddDate(0, 0, 1) {
		if _, yes := Holiday(day); yes != slowHoliday(day) {
			t.Errorf("%s: %v", day.Format("2006-01-02"), yes)
		}
	}
}

func TestRome(t *testing.T) {
	if Rome().String() != "Europe/Rome" {
		t.Errorf("Rome is %v", Rome())
	}
	if _, offset := time.Date(2026, 7, 1, 12, 0, 0, 0, Rome()).Zone(); offset != 7200 {
		t.Errorf("summer in Rome is %d s east", offset)
	}
}
