package tickets

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Record is a contact as screens and outside tests read it: the row, its
// instants, and (from ContactOf and Contacts) its journal.
type Record struct {
	ID           uuid.UUID  `json:"id"`
	CallID       string     `json:"call_id"`
	Channel      Channel    `json:"channel"`
	Caller       string     `json:"caller"`
	CallerSource string     `json:"caller_source"`
	Dialled      string     `json:"dialled"`
	Service      string     `json:"service"` // its name, "" for an unknown number
	Customer     *Customer  `json:"customer"`
	Match        string     `json:"match"`
	Topic        *Topic     `json:"topic"`
	Urgency      *int       `json:"urgency"`
	T0           time.Time  `json:"t0"`
	Ta           *time.Time `json:"ta"`
	Ts           *time.Time `json:"ts"`
	Tq           *time.Time `json:"tq"`
	Tr           *time.Time `json:"tr"`
	Tc           *time.Time `json:"tc"`
	Te           *time.Time `json:"te"`
	Tw           *time.Time `json:"tw"`
	Tk           *time.Time `json:"tk"`
	Ending       *string    `json:"ending"`
	Ticket       *string    `json:"ticket"` // its number
	TicketID     int64      `json:"-"`
	Operator     *string    `json:"operator"` // name
	NumberTold   bool       `json:"number_told"`
	RingBack     *string    `json:"ring_back"` // due, taken
	HasRecording bool       `json:"has_recording"`
	Journal      []Line     `json:"journal,omitempty"`
}

// Line is one journal line of a contact.
type Line struct {
	Seq  int            `json:"seq"`
	At   time.Time      `json:"at"`
	Kind string         `json:"kind"`
	Data map[string]any `json:"data"`
}

// ContactFilter chooses contacts; zero fields do not filter.
type ContactFilter struct {
	CallID string
	Caller string // E.164
	Ticket int64
	Limit  int // 0: PageDefault; at most PageMost
}

// Contacts lists contacts with their journals, newest first.
func (b *Book) Contacts(ctx context.Context, f ContactFilter) ([]Record, error) {
	return nil, ErrNotFound
}

// ContactOf is one contact with its journal; ErrNotFound.
func (b *Book) ContactOf(ctx context.Context, id uuid.UUID) (*Record, error) {
	return nil, ErrNotFound
}

// RingBacks lists the calls to ring back that nobody has taken, oldest first,
// without a limit in time.
func (b *Book) RingBacks(ctx context.Context) ([]Record, error) { return nil, ErrNotFound }

// RingBacksDue counts RingBacks.
func (b *Book) RingBacksDue(ctx context.Context) (int, error) { return 0, ErrNotFound }

// TakeRingBack takes a call off that list; *Refusal when somebody was quicker
// or it is not on the list.
func (b *Book) TakeRingBack(ctx context.Context, contact uuid.UUID, by int64, at time.Time) (*Record, error) {
	return nil, ErrNotFound
}

// CallsToday counts the calls of a number on the day of `at` in Italy; 0 for "".
func (b *Book) CallsToday(ctx context.Context, number string, at time.Time) (int, error) {
	return 0, ErrNotFound
}
