// Package tickets is the desk's memory of callers and their matters: contacts
// (one interaction each, with exactly one ending), tickets with gap-free
// numbers, the register of customers, and the services that can be dialled.
//
// Every exported method of Book that changes something is one transaction:
// the rows, their journal lines and the wake-ups. What a call has to say while
// the database is away goes to Later and is replayed, in order and once.
package tickets

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/pronto-desk/pronto/db"
)

// Book keeps contacts, tickets, customers and services. Its methods may be
// called from any goroutine; a Contact belongs to the goroutine of its call.
type Book struct {
	db    *db.DB
	node  string
	later Later
	log   *slog.Logger
	*memory
	shared *sharing

	// Plan is whom the desk may dial: who is on duty must be among them. Set it
	// before the book is used.
	Plan DialPlan
}

// memory is what a book remembers of the database.
type memory struct {
	changed *db.Subscription // services or topics were edited, here or on another node
	mu      sync.Mutex       // guards the three below
	// services as last read; they outlive the database, so that a caller is
	// greeted by the right hours while the database is away.
	services     *catalogue
	wanted, have int // how often services should have been read, and the state they have
}

// Later keeps the facts of calls while the database is away; recordings.Archive
// is one. Defer returns when the fact is on disk. Facts come back through
// Book.Replay in the order they went in.
type Later interface {
	Defer(kind string, v any) error
	Pending() bool
}

// topicServices is woken when services, topics or the emergency announcement change.
const topicServices = "services"

// NewBook opens the book of one node; the database need not be there yet.
// later may be nil: then a call's fact fails when the database is away.
func NewBook(d *db.DB, node string, later Later, log *slog.Logger) *Book {
	if log == nil {
		log = slog.Default()
	}
	return &Book{db: d, node: node, later: later, log: log, memory: &memory{changed: d.Wakeups.Subscribe(topicServices), wanted: 1}, shared: newSharing(d.Own())}
}

// Through is the same book, read by another way to the same database.
func (b *Book) Through(d *db.DB) *Book {
	other := *b
	other.db = d
	return &other
}

// Errors that callers tell apart.
var (
	// ErrNotFound: there is no such ticket, contact, service or customer.
	ErrNotFound = errors.New("not found")
	// ErrDeferred: the contact's facts wait in the spool, so nothing that needs
	// its row can be done now. ivr goes on as with the database away.
	ErrDeferred = errors.New("the contact waits for the database")
	// ErrEnded: the contact has its ending, so no ticket can be opened for it.
	ErrEnded = errors.New("the contact has ended")
	// ErrBadFact: a deferred fact that can never be replayed.
	ErrBadFact = errors.New("unusable fact")
)

// Refusal is an input or a move that the rules forbid. Reason is Italian, for
// the person who asked; Field names the field it is about, or is "".
type Refusal struct{ Field, Reason string }

func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Reason
	}
	return r.Field + ": " + r.Reason
}
