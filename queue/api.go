// Package queue decides who waits, who is free and who gets whom: places of
// callers, seats of operators, offers of one to the other, wrap-up.
package queue

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
)

// RingLongest is how long an offer rings: five rings, then the next operator.
const RingLongest = 20 * time.Second

var (
	ErrTooLate     = errors.New("queue: the offer is over")
	ErrDeclined    = errors.New("queue: the operator declined")
	ErrTimedOut    = errors.New("queue: the operator did not answer")
	ErrWithdrawn   = errors.New("queue: the offer was withdrawn")
	ErrGone        = errors.New("queue: the place is no longer in the queue")
	ErrNoSeat      = errors.New("queue: no such operator")
	ErrNotWrapping = errors.New("queue: the operator is not wrapping up")
)

// Reasons of Decline.
const (
	Refused     = "rifiuta"           // on the page: the seat stays available, not for this caller for a minute
	Busy        = "busy"              // the telephone said 486: the seat is paused
	Unreachable = "phone_unreachable" // the telephone cannot be rung: the seat is paused
)

// Declared is what an operator said; Doing is what the desk is doing with them.
type (
	Declared string
	Doing    string
	State    string // of an offer
)

const (
	Available Declared = "available"
	Break     Declared = "break"
	Admin     Declared = "admin"
	Off       Declared = "off"

	Idle     Doing = "idle"
	Offered  Doing = "offered"
	Talking  Doing = "talking"
	Wrapping Doing = "wrapping"

	Pending   State = "pending"
	Accepted  State = "accepted"
	Declined  State = "declined"
	TimedOut  State = "timed_out"
	Withdrawn State = "withdrawn"
)

type Queue struct{}

type Entry struct {
	Contact uuid.UUID
	Topic   int64
	Urgency int
	T0, At  time.Time
}

type Place struct{ Contact uuid.UUID }

type Offer struct {
	ID, Contact          uuid.UUID
	Operator             int64
	Name, Extension      string
	State                State
	OfferedAt, ExpiresAt time.Time
}

type Seat struct {
	User                             int64
	Operator, DisplayName, Extension string
	Declared                         Declared
	Reason                           string
	DeclaredAt                       time.Time
	Doing                            Doing
	DoingAt                          time.Time
	DoingUntil                       *time.Time
	IdleSince                        time.Time
	Offer, Contact                   uuid.NullUUID
	Ticket                           string
	Version                          int64
}

type Waiting struct {
	Contact      uuid.UUID
	Topic        int64
	Urgency      int
	T0, JoinedAt time.Time
	State        string // waiting or offered
}

func New(d *db.DB, node string, log *slog.Logger) *Queue                      { panic("todo") }
func (q *Queue) Run(ctx context.Context) error                                { panic("todo") }
func (q *Queue) Join(ctx context.Context, tx *db.Tx, e Entry) (*Place, error) { panic("todo") }
func (p *Place) Wait(ctx context.Context) (*Offer, error)                     { panic("todo") }
func (p *Place) Leave(ctx context.Context, at time.Time) error                { panic("todo") }
func (q *Queue) Match(ctx context.Context, at time.Time) (int, error)         { panic("todo") }
func (q *Queue) Watch(ctx context.Context, offer uuid.UUID) (context.Context, context.CancelFunc) {
	panic("todo")
}

// WaitPainted waits until the operator's page has shown the offer, at most longest.
func (q *Queue) WaitPainted(ctx context.Context, offer uuid.UUID, longest time.Duration) bool {
	panic("todo")
}
func (q *Queue) Offer(ctx context.Context, id uuid.UUID) (*Offer, error)         { panic("todo") }
func (q *Queue) Accept(ctx context.Context, offer uuid.UUID, at time.Time) error { panic("todo") }
func (q *Queue) Decline(ctx context.Context, offer uuid.UUID, reason string, at time.Time) error {
	panic("todo")
}
func (q *Queue) TimeOut(ctx context.Context, offer uuid.UUID, at time.Time) error  { panic("todo") }
func (q *Queue) Withdraw(ctx context.Context, offer uuid.UUID, at time.Time) error { panic("todo") }
func (q *Queue) Painted(ctx context.Context, offer uuid.UUID, at time.Time) error  { panic("todo") }
func (q *Queue) Release(ctx context.Context, offer uuid.UUID, at time.Time) error  { panic("todo") }
func (q *Queue) Declare(ctx context.Context, user int64, declared, reason string, at time.Time) error {
	panic("todo")
}
func (q *Queue) ExtendWrapUp(ctx context.Context, user int64, d time.Duration, at time.Time) error {
	panic("todo")
}
func (q *Queue) Seats(ctx context.Context) ([]Seat, error)           { panic("todo") }
func (q *Queue) Seat(ctx context.Context, user int64) (*Seat, error) { panic("todo") }
func (q *Queue) Waiting(ctx context.Context) ([]Waiting, error)      { panic("todo") }
func (q *Queue) Recover(ctx context.Context, at time.Time) error     { panic("todo") }
