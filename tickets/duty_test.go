package tickets

import (
	"slices"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

func TestWhoIsOnDuty(t *testing.T) {
	evening, night := Duty{Numbers: []string{"+390577000011"}, From: 18 * 60, To: 22 * 60}, Duty{Numbers: []string{"+390577000011"}, From: 20 * 60, To: 8 * 60}
	always, midnight := Duty{Numbers: []string{"+390577000011"}}, Duty{Numbers: []string{"+390577000011"}, From: 0, To: minutesPerDay}
	for _, c := range []struct {
		duty Duty
		at   string
		want bool
	}{
		{evening, "2026-03-02 17:59", false}, {evening, "2026-03-02 18:00", true}, {evening, "2026-03-02 21:59", true}, {evening, "2026-03-02 22:00", false},
		{night, "2026-03-02 19:59", false}, {night, "2026-03-02 20:00", true}, {night, "2026-03-03 00:00", true}, {night, "2026-03-03 07:59", true}, {night, "2026-03-03 08:00", false},
		{night, "2026-03-29 03:30", true}, {night, "2026-07-02 20:00", true}, // the clocks of Italy, not of the server
		{always, "2026-03-02 12:00", true}, {midnight, "2026-03-02 23:59", true}, {midnight, "2026-03-03 00:00", true},
		{Duty{}, "2026-03-02 21:00", false},
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", c.at, calendar.Rome())
		must(t, err)
		if got := c.duty.At(at.UTC()); len(got) > 0 != c.want {
			t.Errorf("at %s from %d to %d: %v", c.at, c.duty.From, c.duty.To, got)
		}
	}
}

// TestDutyIsChecked refuses who cannot be rung, with the row and the reason.
func TestDutyIsChecked(t *testing.T) {
	d := newDesk(t)
	id := d.newDraft()
	for i, c := range []struct {
		duty   DutySetting
		fields []string
	}{
		{DutySetting{Numbers: []string{"055 7654321", "333 1234567"}, From: "20:00", To: "08:00"}, nil},
		{DutySetting{Numbers: []string{"0557654321"}}, nil},
		{DutySetting{Numbers: []string{"0557654321"}, From: "20:00", To: "24:00"}, nil},
		{DutySetting{}, nil},
		{DutySetting{Numbers: []string{"112", "+44 20 7946 0000", "899 123456"}}, []string{"duty.numbers[0]", "duty.numbers[1]", "duty.numbers[2]"}},
		{DutySetting{Numbers: []string{"", "0557654321", "+39 055 7654321"}}, []string{"duty.numbers[0]", "duty.numbers[2]"}},
		{DutySetting{Numbers: []string{"848000111"}}, []string{"duty.numbers[0]"}}, // its own
		{DutySetting{Numbers: []string{"800123456"}}, []string{"duty.numbers[0]"}}, // another service's
		{DutySetting{Numbers: []string{"1", "2", "3", "4"}}, []string{"duty.numbers"}},
		{DutySetting{From: "20:00"}, []string{"duty.to"}},
		{DutySetting{To: "08:00"}, []string{"duty.from"}},
		{DutySetting{From: "24:00", To: "08:00"}, []string{"duty.from"}},
		{DutySetting{From: "08:00", To: "08:00"}, []string{"duty.to"}},
	} {
		settings := settingsOf(t, settingsJSON)
		settings.Duty = c.duty
		_, err := d.PutDraft(t.Context(), id, Draft{Settings: settings, Revision: int64(i + 1)}, d.anna, monday)
		must(t, err)
		list, err := d.Check(t.Context(), id, monday)
		must(t, err)
		var fields []string
		for _, f := range blocking(list) {
			if f.Place != placeDuty || f.Reason == "" {
				t.Errorf("%+v: the fault is %+v", c.duty, f)
			}
			fields = append(fields, f.Field)
		}
		if !slices.Equal(fields, c.fields) {
			t.Errorf("%+v: the faults are %v", c.duty, list)
		}
	}
	d.Plan.Shown = []string{"+390557654321"} // it may lead to the desk, or to a night porter
	settings := settingsOf(t, settingsJSON)
	settings.Duty.Numbers = []string{"0557654321", "3331234567"}
	_, err := d.PutDraft(t.Context(), id, Draft{Settings: settings, Revision: 14}, d.anna, monday)
	must(t, err)
	list, err := d.Check(t.Context(), id, monday)
	must(t, err)
	if len(blocking(list)) > 0 || !slices.ContainsFunc(list, func(f Fault) bool { return f.Field == "duty.numbers[0]" && f.Warning }) ||
		slices.ContainsFunc(list, func(f Fault) bool { return f.Field == "duty.numbers[1]" }) {
		t.Errorf("the number that the desk shows: %v", list)
	}
}
