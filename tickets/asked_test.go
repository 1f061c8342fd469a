package tickets

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
)

func TestReadings(t *testing.T) {
	for typed, want := range map[string]string{
		"2026123":      "2026-123 2026-2026123 2025-2026123",
		"20261":        "2026-1 2026-20261 2025-20261", // or the 20 261st of this year
		"123":          "2026-123 2025-123",
		"2026":         "2026-2026 2025-2026",
		"0042":         "2026-42 2025-42",
		"202600042":    "2026-42", // longer than a serial
		"20260000":     "",
		"0":            "",
		"":             "",
		"12a":          "",
		"١٢٣":          "",
		"20261234567":  "2026-1234567",
		"202612345678": "",
	} {
		if got := strings.Join(readings(typed, monday), " "); got != want {
			t.Errorf("%q is read %q, want %q", typed, got, want)
		}
	}
	newYear := time.Date(2026, 12, 31, 23, 30, 0, 0, time.UTC) // 00:30 in Rome
	if got := readings("7", newYear); !slices.Equal(got, []string{"2027-7", "2026-7"}) {
		t.Errorf("after midnight in Rome: %v", got)
	}
}

func FuzzReadings(f *testing.F) {
	for _, s := range []string{"2026123", "1", "*", "0000000000", "99999999999", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		for _, n := range readings(typed, monday) {
			year, serial, _ := strings.Cut(n, "-")
			if len(year) != yearDigits || serial == "" || len(serial) > serialDigits || serial[0] == '0' || strings.Trim(year+serial, "0123456789") != "" {
				t.Fatalf("%q is read %q", typed, n)
			}
		}
	})
}

// TestAsked: the state is the requester's affair. An unknown number and
// somebody else's are one and the same answer.
func TestAsked(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	ticket := d.ticket() // of rossi, who rang from +390551234567
	_, err := d.PutCustomer(ctx, Customer{Code: "1042", Name: "Mario Rossi", Numbers: []string{"0551234567", "3331234567"}}, monday)
	must(t, err)
	for _, c := range []struct {
		who, from, typed string
		found            bool
	}{
		{"the number it came from", "+390551234567", "20261", true},
		{"the serial alone", "+390551234567", "1", true},
		{"another number of the customer", "+393331234567", "1", true},
		{"somebody else", "+390577000001", "1", false},
		{"another customer", "+390557654321", "20261", false},
		{"withheld", "", "1", false},
		{"no such ticket", "+390551234567", "2", false},
		{"nothing", "+390551234567", "", false},
	} {
		got, err := d.Asked(ctx, d.call(c.from, monday.Add(time.Hour)), c.typed, monday.Add(time.Hour))
		switch {
		case c.found && (err != nil || got.Number != ticket.Number):
			t.Errorf("%s: %v, %v", c.who, got, err)
		case !c.found && (!errors.Is(err, ErrNotFound) || got != nil):
			t.Errorf("%s: %v, %v", c.who, got, err)
		}
	}
}

// TestAskedByWhoIsNotRegistered: the number that a request came from is enough.
func TestAskedByWhoIsNotRegistered(t *testing.T) {
	d := newDesk(t)
	c := d.call("+390577000001", monday)
	_, err := d.Book.Open(t.Context(), c, Matter{At: monday}, nil)
	must(t, err)
	if _, err := d.Asked(t.Context(), d.call("+390577000001", monday), "1", monday); err != nil {
		t.Error(err)
	}
}

// TestStateToldIsTheContactsTicket: who heard of a ticket is on its page, and
// an operator finds it.
func TestStateToldIsTheContactsTicket(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	ticket := d.ticket()
	later := monday.Add(time.Hour)
	c := d.call("+390551234567", later)
	must(t, d.Note(ctx, c, Step{Kind: journal.StateTold, At: later, Ticket: ticket.ID, Data: map[string]any{"status": ticket.Status}}))
	opened, err := d.Book.Open(ctx, c, Matter{At: later, Queued: true}, nil)
	must(t, err)
	if opened.Number != ticket.Number {
		t.Errorf("a second ticket: %s", opened.Number)
	}
	must(t, d.End(ctx, c, SelfServed, later.Add(time.Minute), nil))
	r := d.record(c)
	if r.Ticket == nil || *r.Ticket != ticket.Number || !r.NumberTold || r.RingBack != nil {
		t.Errorf("the contact is %+v", r)
	}
	page, err := d.Book.Ticket(ctx, ticket.Number)
	must(t, err)
	if !slices.ContainsFunc(page.Timeline, func(m Moment) bool { return m.Kind == string(journal.StateTold) && *m.ContactID == c.ID }) {
		t.Errorf("the page tells %+v", page.Timeline)
	}
}

// TestSilenceClosesNoOlderMessage: who asked about a message of yesterday and
// then left none has not taken yesterday's back.
func TestSilenceClosesNoOlderMessage(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	first := d.call("+390551234567", monday)
	message, err := d.Book.Open(ctx, first, Matter{Channel: Voicemail, At: monday}, nil)
	must(t, err)
	must(t, d.End(ctx, first, MessageLeft, monday.Add(time.Minute), nil))
	later := monday.Add(time.Hour)
	c := d.call("+390551234567", later)
	must(t, d.Note(ctx, c, Step{Kind: journal.StateTold, At: later, Ticket: message.ID}))
	must(t, d.End(ctx, c, NoMessage, later.Add(time.Minute), nil))
	got, err := d.TicketOf(ctx, message.Number)
	must(t, err)
	if got.Status != Open {
		t.Errorf("the message's ticket is %s", got.Status)
	}
}
