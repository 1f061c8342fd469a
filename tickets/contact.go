package tickets

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Channel is the way a contact or a ticket came to the desk.
type Channel string

const (
	Phone     Channel = "phone"
	Voicemail Channel = "voicemail" // of tickets: a contact by telephone that left a message
)

// Urgency of a matter: the caller's work stands still, or it does not.
const (
	Blocking    = 1
	NotBlocking = 2
)

// ShortestMessage is the sound under which a message is none: a breath and a
// hang-up.
const ShortestMessage = 2 * time.Second

// How sure we are who is calling, by the number alone.
const (
	MatchCertain  = "certain"  // the number belongs to one customer
	MatchSeveral  = "several"  // to several: a practice's telephone
	MatchNone     = "none"     // to nobody in the register
	MatchWithheld = "withheld" // the caller shows no number
)

// Arrival is an INVITE as sip hands it over, before anything was answered.
type Arrival struct {
	Channel Channel
	ID      string // the Call-ID
	From    string // E.164, or "" when withheld
	Source  string // of From: asserted, from, withheld
	To      string // the number dialled
	Trunk   string
	At      time.Time // T0
}

// Contact is one interaction while it goes on. It belongs to the goroutine of
// its call.
type Contact struct {
	ID           uuid.UUID
	Channel      Channel
	CallID       string
	Caller       string // E.164, or "" when withheld
	CallerSource string // asserted, from, withheld
	Dialled      string // as Normalise gives it
	Trunk        string
	T0           time.Time
	Service      *Service   // nil: no such number; with Deferred: or not known
	Customers    []Customer // whose number it is; at most MatchesShown
	Match        string     // MatchCertain …
	Ticket       *Ticket    // the ticket of this contact, once it is open
	// Deferred: the database was away, so what is noted goes to the spool and
	// becomes rows when it is back. There is no Ticket then, and Open refuses.
	Deferred bool

	chosen bool // the caller has chosen from the menu
}

// Step is one step of a contact's way: its journal line and, by its kind, the
// instants and facts of the contact that come with it. Zero fields say nothing.
type Step struct {
	Kind     journal.Kind
	At       time.Time
	Topic    int64
	Urgency  int
	Operator int64
	Data     map[string]any // ids and codes only: the journal holds no names, numbers or texts
}

// Matter is what a ticket is opened with.
type Matter struct {
	Channel Channel
	Topic   int64 // 0: none
	Urgency int   // Blocking, NotBlocking; 0: NotBlocking
	At      time.Time
	Queued  bool // the caller takes a place in the queue with it: Tq
}

// Recovered is what Recover found unfinished.
type Recovered struct {
	Messages []uuid.UUID // contacts that ended as messages (or short of one)
	Faults   []uuid.UUID // contacts that ended system_fault
}

// Begin registers a call before anything is answered: the contact's row and
// its first journal line, committed. With the database away the fact goes to
// the spool, the contact is Deferred and err is nil; err is only returned when
// neither took it. The caller's hang-up does not interrupt it.
func (b *Book) Begin(ctx context.Context, a Arrival) (*Contact, error) { return nil, ErrNotFound }

// Note writes one step. With the database away it goes to the spool.
func (b *Book) Note(ctx context.Context, c *Contact, s Step) error { return ErrNotFound }

// Open gives the contact's matter its number and its row, prefilled, together
// with whatever `together` (may be nil) does, in one transaction. A contact
// that has a ticket keeps it. Errors: ErrDeferred, ErrEnded, db.Away, together's.
func (b *Book) Open(ctx context.Context, c *Contact, m Matter, together func(ctx context.Context, tx *db.Tx, t *Ticket) error) (*Ticket, error) {
	return nil, ErrNotFound
}

// End writes how the contact ended, once: a second ending is a no-op. cause is
// logged, not kept.
func (b *Book) End(ctx context.Context, c *Contact, e Ending, at time.Time, cause error) error {
	return ErrNotFound
}

// EndMessage ends a contact that could leave a message: MessageLeft with
// ShortestMessage of sound or more, else NoMessage and the ticket is closed as
// senza_messaggio. t is the ticket opened at the beep, nil when the contact is
// deferred: the ticket is then opened at the replay.
func (b *Book) EndMessage(ctx context.Context, c *Contact, t *Ticket, sound time.Duration, at time.Time) error {
	return ErrNotFound
}

// Replay writes a deferred fact. Doing it twice is harmless. An error for which
// db.Away holds means: again later; ErrBadFact: never.
func (b *Book) Replay(ctx context.Context, kind string, raw json.RawMessage) error {
	return ErrNotFound
}

// Recover ends the contacts that a crash of this node left without an ending:
// those with a tape as messages, the others system_fault and to be rung back.
// tapes is the sound found on disk by contact. Replay pending facts first.
func (b *Book) Recover(ctx context.Context, at time.Time, tapes map[uuid.UUID]time.Duration) (Recovered, error) {
	return Recovered{}, ErrNotFound
}
