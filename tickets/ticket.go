package tickets

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Status of a ticket.
type Status string

const (
	Open     Status = "open"      // nobody has taken it
	InCharge Status = "in_charge" // it has an owner who has begun
	Closed   Status = "closed"
)

// Person is somebody who signs in, as other people's screens show them.
type Person struct {
	Name        string `json:"name"`
	DisplayName string `json:"display_name"`
}

// Ticket is a customer's matter.
type Ticket struct {
	ID              int64      `json:"-"`
	Number          string     `json:"number"` // "2026-123"
	Status          Status     `json:"status"`
	Subject         string     `json:"subject"`
	Description     string     `json:"description"`
	CallType        string     `json:"call_type"` // code of CallTypes
	Topic           *Topic     `json:"topic"`
	Urgency         int        `json:"urgency"`
	FaultType       string     `json:"fault_type"` // bloccante, non_bloccante or ""
	Channel         Channel    `json:"channel"`
	Customer        *Customer  `json:"customer"`
	RequesterName   string     `json:"requester_name"`
	RequesterNumber string     `json:"requester_number"`
	Practice        string     `json:"practice"`
	Authority       string     `json:"authority"`
	Outcome         string     `json:"outcome"` // code of Outcomes, senza_messaggio, or "" while it is open
	Solution        string     `json:"solution"`
	Owner           *Person    `json:"owner"`
	OwnerID         int64      `json:"-"` // 0: nobody
	ReceivedAt      time.Time  `json:"received_at"`
	OpenedAt        time.Time  `json:"opened_at"`
	TakenAt         *time.Time `json:"taken_at"`
	ClosedAt        *time.Time `json:"closed_at"`
	ClosedBy        *Person    `json:"closed_by"`
	Version         int64      `json:"version"`
}

// Note is what somebody wrote on a ticket; it is never changed.
type Note struct {
	ID   int64     `json:"id"`
	At   time.Time `json:"at"`
	By   *Person   `json:"by"` // nil: the desk itself
	Text string    `json:"text"`
}

// Moment is one line of a ticket's timeline.
type Moment struct {
	At           time.Time  `json:"at"`
	Kind         string     `json:"kind"` // of the journal line
	Text         string     `json:"text"` // Italian
	By           string     `json:"by"`   // display name, or ""
	ContactID    *uuid.UUID `json:"contact_id"`
	HasRecording bool       `json:"has_recording"`
	Ending       string     `json:"ending"`
}

// TicketPage is a ticket with all that happened to it.
type TicketPage struct {
	Ticket
	Timeline []Moment `json:"timeline"` // oldest first
	Contacts []Record `json:"contacts"` // newest first, without their journals
	Notes    []Note   `json:"notes"`    // oldest first
}

// Filter chooses tickets; zero fields do not filter.
type Filter struct {
	Status  string // "open" (not closed), "closed", "all" or ""
	Owner   int64  // of this user
	Unowned bool   // of nobody
	Query   string // number, requester, subject, customer
	Cursor  string // Page.Next of the page before
	Limit   int    // 0: PageDefault; at most PageMost
}

// Rows per page of a list.
const (
	PageDefault = 50
	PageMost    = 200
)

// Page is a stretch of a list, newest first.
type Page[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"` // cursor of the next page; nil at the end
}

// Asker is somebody whose open tickets are looked for.
type Asker struct {
	Customers []int64
	Number    string // E.164
	Except    string // a ticket number that is not wanted: the one just opened
}

// Fields are values of a ticket by their JSON name, as decoded from JSON.
// "topic" and "customer" take an id, a code, an object with either, or null.
type Fields map[string]any

// Conflict is a field that somebody else changed meanwhile.
type Conflict struct {
	Current any       `json:"current"`
	By      string    `json:"by"` // display name, or "" for the desk itself
	At      time.Time `json:"at"`
}

// ConflictError: nothing was applied, because these fields are no longer what
// the editor saw.
type ConflictError struct{ Fields map[string]Conflict }

func (e *ConflictError) Error() string { return "the ticket was changed meanwhile" }

// Ticket is the page of one ticket; ErrNotFound.
func (b *Book) Ticket(ctx context.Context, number string) (*TicketPage, error) {
	return nil, ErrNotFound
}

// TicketOf is one ticket without its timeline; ErrNotFound.
func (b *Book) TicketOf(ctx context.Context, number string) (*Ticket, error) { return nil, ErrNotFound }

// TicketByID is TicketOf by the id that places, contacts and the journal carry.
func (b *Book) TicketByID(ctx context.Context, id int64) (*Ticket, error) { return nil, ErrNotFound }

// Tickets lists tickets, newest first. A cursor that is none is a *Refusal.
func (b *Book) Tickets(ctx context.Context, f Filter) (Page[Ticket], error) {
	return Page[Ticket]{}, ErrNotFound
}

// OpenTicketsOf lists the tickets of somebody that are not closed, newest first.
func (b *Book) OpenTicketsOf(ctx context.Context, who Asker, limit int) ([]Ticket, error) {
	return nil, ErrNotFound
}

// Edit applies `set` where the ticket still has the values of `base`, all or
// nothing: *ConflictError when a field was changed meanwhile, *Refusal for a
// value that is not allowed, ErrNotFound.
func (b *Book) Edit(ctx context.Context, number string, by int64, base, set Fields, at time.Time) (*Ticket, error) {
	return nil, ErrNotFound
}

// AddNote writes a note; *Refusal when it is empty or too long.
func (b *Book) AddNote(ctx context.Context, number string, by int64, text string, at time.Time) (*Ticket, error) {
	return nil, ErrNotFound
}

// Take makes `by` the owner; the first taking is Tk. *Refusal when closed.
func (b *Book) Take(ctx context.Context, number string, by int64, at time.Time) (*Ticket, error) {
	return nil, ErrNotFound
}

// Close closes with a code of Outcomes. A closing without owner is also a
// taking. *Refusal when it is closed already or the outcome is none.
func (b *Book) Close(ctx context.Context, number string, by int64, outcome, solution string, at time.Time) (*Ticket, error) {
	return nil, ErrNotFound
}

// Reopen makes a closed ticket open again, in charge of its owner if it has
// one. *Refusal when it is not closed.
func (b *Book) Reopen(ctx context.Context, number string, by int64, at time.Time) (*Ticket, error) {
	return nil, ErrNotFound
}
