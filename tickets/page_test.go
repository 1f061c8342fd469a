package tickets

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// many opens n tickets, several of them received at the same instant.
func (d *desk) many(n int) (numbers []string) {
	d.t.Helper()
	for i := range n {
		c := d.call("+393331234567", monday.Add(time.Duration(i/3)*time.Minute))
		t, err := d.Book.Open(d.t.Context(), c, Matter{At: c.T0}, nil)
		must(d.t, err)
		numbers = append(numbers, t.Number)
	}
	return numbers
}

// TestPaging: whatever the size of a page, the pages together are the list, and
// a ticket that comes in between doubles and hides none.
func TestPaging(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	want := d.many(11)
	slices.Reverse(want)
	rapid.Check(t, func(rt *rapid.T) {
		f := Filter{Limit: rapid.IntRange(1, 12).Draw(rt, "limit")}
		var got []string
		for {
			page, err := d.Tickets(ctx, f)
			if err != nil {
				rt.Fatal(err)
			}
			if len(page.Items) > f.Limit {
				rt.Fatalf("%d on a page of %d", len(page.Items), f.Limit)
			}
			for _, t := range page.Items {
				got = append(got, t.Number)
			}
			if page.Next == nil {
				break
			}
			f.Cursor = *page.Next
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("got %v, want %v", got, want)
		}
	})
	first, err := d.Tickets(ctx, Filter{Limit: 4})
	must(t, err)
	newer := d.call("", monday.Add(time.Hour))
	_, err = d.Book.Open(ctx, newer, Matter{At: monday.Add(time.Hour)}, nil)
	must(t, err)
	second, err := d.Tickets(ctx, Filter{Limit: 4, Cursor: *first.Next})
	must(t, err)
	if second.Items[0].Number != want[4] {
		t.Errorf("the second page begins with %s, want %s", second.Items[0].Number, want[4])
	}
	var refused *Refusal
	for _, cursor := range []string{"x", "!!", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5OS4x"} {
		if _, err := d.Tickets(ctx, Filter{Cursor: cursor}); !errors.As(err, &refused) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

func TestFilters(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	numbers := d.many(3)           // 2026-1 … 3, of an unknown mobile number
	rossi := d.ticket().Number     // 2026-4
	hundred := d.ticket().Number   // 2026-5, with a subject full of pattern characters
	underline := d.ticket().Number // 2026-6
	_, err := d.Edit(ctx, hundred, d.anna, Fields{"subject": "Certificati"}, Fields{"subject": `Sconto 100% a\b`}, monday)
	must(t, err)
	_, err = d.Edit(ctx, underline, d.anna, Fields{"subject": "Certificati", "requester_name": "Mario Rossi"}, Fields{"subject": "Sconto 100x a_b", "requester_name": "Dr.ssa NERI"}, monday)
	must(t, err)
	_, err = d.Take(ctx, numbers[0], d.anna, monday)
	must(t, err)
	_, err = d.Book.Close(ctx, numbers[1], d.bruno, "risolto", "", monday)
	must(t, err)
	for _, c := range []struct {
		name string
		f    Filter
		want []string
	}{
		{"all", Filter{}, []string{"2026-1", "2026-2", "2026-3", "2026-4", "2026-5", "2026-6"}},
		{"all by name", Filter{Status: "all"}, []string{"2026-1", "2026-2", "2026-3", "2026-4", "2026-5", "2026-6"}},
		{"open", Filter{Status: "open"}, []string{"2026-1", "2026-3", "2026-4", "2026-5", "2026-6"}},
		{"closed", Filter{Status: "closed"}, []string{"2026-2"}},
		{"mine", Filter{Owner: d.anna}, []string{"2026-1"}},
		{"mine, open", Filter{Owner: d.bruno, Status: "open"}, nil},
		{"nobody's", Filter{Unowned: true, Status: "open"}, []string{"2026-3", "2026-4", "2026-5", "2026-6"}},
		{"by number", Filter{Query: " 2026-2 "}, []string{"2026-2"}},
		{"by requester", Filter{Query: "neri"}, []string{"2026-6"}},
		{"by customer", Filter{Query: "mario ros"}, []string{rossi, "2026-5", "2026-6"}},
		{"by telephone", Filter{Query: "333 1234567"}, []string{"2026-1", "2026-2", "2026-3"}},
		{"by subject", Filter{Query: "sconto"}, []string{"2026-5", "2026-6"}},
		{"a percent sign is itself", Filter{Query: "100%"}, []string{"2026-5"}},
		{"an underline is itself", Filter{Query: "a_b"}, []string{"2026-6"}},
		{"a backslash is itself", Filter{Query: `a\b`}, []string{"2026-5"}},
		{"no such", Filter{Query: "2026-7"}, nil},
		{"a NUL", Filter{Query: "ne\x00ri"}, []string{"2026-6"}},
	} {
		page, err := d.Tickets(ctx, c.f)
		must(t, err)
		var got []string
		for _, t := range page.Items {
			got = append(got, t.Number)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	var refused *Refusal
	if _, err := d.Tickets(ctx, Filter{Status: "lost"}); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}

// TestOpenTicketsOf: the person's open matters come before the new one.
func TestOpenTicketsOf(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	old := d.ticket().Number
	closed := d.ticket().Number
	_, err := d.Book.Close(ctx, closed, d.anna, "risolto", "", monday)
	must(t, err)
	// Rossi from another telephone, which the operator has told apart.
	mobile := d.call("+393331234567", monday.Add(time.Hour))
	other, err := d.Book.Open(ctx, mobile, Matter{At: monday.Add(time.Hour)}, nil)
	must(t, err)
	_, err = d.Edit(ctx, other.Number, d.anna, Fields{"customer": nil}, Fields{"customer": float64(d.rossi.ID)}, monday)
	must(t, err)
	now := d.ticket().Number
	for _, c := range []struct {
		who   Asker
		limit int
		want  []string
	}{
		{Asker{Customers: []int64{d.rossi.ID}, Number: "+390551234567", Except: now}, 3, []string{other.Number, old}},
		{Asker{Customers: []int64{d.rossi.ID}, Except: now}, 1, []string{other.Number}},
		{Asker{Number: "+390551234567"}, 3, []string{now, old}},
		{Asker{Number: "+393331234567"}, 3, []string{other.Number}},
		{Asker{}, 3, nil},
	} {
		list, err := d.OpenTicketsOf(ctx, c.who, c.limit)
		must(t, err)
		var got []string
		for _, t := range list {
			got = append(got, t.Number)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.who, got, c.want)
		}
	}
	// A caller who hides the number is not everybody who does.
	hidden := d.call("", monday)
	_, err = d.Book.Open(ctx, hidden, Matter{At: monday}, nil)
	must(t, err)
	if list, err := d.OpenTicketsOf(ctx, Asker{Number: ""}, 3); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestCallsToday counts by the day in Italy.
func TestCallsToday(t *testing.T) {
	d := newDesk(t)
	for _, at := range []string{
		"2026-03-28T22:59:59Z",                         // Saturday 23:59:59
		"2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", // Sunday, of 23 hours
		"2026-03-29T22:00:00Z", // Monday
	} {
		t0, err := time.Parse(time.RFC3339, at)
		must(t, err)
		d.call("+390551234567", t0)
		d.call("+393331234567", t0)
		d.call("", t0)
	}
	for at, want := range map[string]int{"2026-03-28T12:00:00Z": 1, "2026-03-29T12:00:00Z": 2, "2026-03-29T21:59:59Z": 2, "2026-03-29T22:00:00Z": 1, "2026-03-31T12:00:00Z": 0} {
		now, err := time.Parse(time.RFC3339, at)
		must(t, err)
		if got, err := d.CallsToday(t.Context(), "+390551234567", now); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", at, got, err, want)
		}
		if got, err := d.CallsToday(t.Context(), "", now); err != nil || got != 0 {
			t.Errorf("hidden: %d, %v", got, err)
		}
	}
}

func TestContactsByCallID(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	for i := range 3 {
		_, err := d.Begin(ctx, Arrival{Channel: Phone, ID: fmt.Sprint("c", i/2), From: "+390551234567", Source: "asserted", To: "800123456", At: monday.Add(time.Duration(i) * time.Minute)})
		must(t, err)
	}
	for _, c := range []struct {
		f    ContactFilter
		want int
	}{{ContactFilter{CallID: "c0"}, 2}, {ContactFilter{CallID: "c1"}, 1}, {ContactFilter{CallID: "c2"}, 0}, {ContactFilter{}, 3}, {ContactFilter{Limit: 1}, 1}, {ContactFilter{Caller: "+390551234567"}, 3}, {ContactFilter{Caller: "+390"}, 0}, {ContactFilter{Ticket: 5}, 0}} {
		list, err := d.Contacts(ctx, c.f)
		must(t, err)
		if len(list) != c.want || list == nil {
			t.Errorf("%+v: %d, want %d", c.f, len(list), c.want)
		}
		for i := 1; i < len(list); i++ {
			if list[i].T0.After(list[i-1].T0) {
				t.Errorf("%+v: not the newest first", c.f)
			}
		}
	}
}
