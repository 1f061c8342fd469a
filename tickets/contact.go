package tickets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

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
	Legs         []Leg      // of telephones that are no longer on the line, for the ending
	Ended        bool       // EndWith has written the ending
	Talked       bool       // an operator has talked with the caller: the ticket is not open any more
	// Deferred: the database was away, so what is noted goes to the spool and
	// becomes rows when it is back. There is no Ticket then, and Open refuses.
	Deferred bool
}

// Leg is how sound went to and from one telephone of a contact, up to its end.
type Leg struct {
	Who     string     `json:"who" enum:"caller,operator"` // caller: whom the desk rang, of an outbound contact
	Heard   *Direction `json:"heard"`                      // what reached us; nil: nothing did
	Reached *Direction `json:"reached"`                    // what reached the telephone, as it says itself; nil: it said nothing
}

// Whose leg it is.
const (
	LegCaller   = "caller"
	LegOperator = "operator"
)

// Direction is the quality of one direction of a leg.
type Direction struct {
	Packets  uint64  `json:"packets"`
	Lost     float64 `json:"lost"`      // share, 0 to 1
	JitterMS int     `json:"jitter_ms"` // RFC 3550 §6.4.1
	TripMS   int     `json:"trip_ms"`   // there and back; 0: unknown
	MOS      float64 `json:"mos"`       // estimated, 1 to 4.5 (ITU-T G.107)
}

// ticket is the row of the contact's ticket, nil when it has none.
func (c *Contact) ticket() *int64 {
	if c.Ticket == nil {
		return nil
	}
	return &c.Ticket.ID
}

// Step is one step of a contact's way: its journal line and, by its kind, the
// instants and facts of the contact that come with it. Zero fields say nothing.
type Step struct {
	Kind     journal.Kind
	At       time.Time
	Topic    int64
	Urgency  int
	Operator int64
	Ticket   int64          // a ticket that is there already becomes the contact's, unless it has one
	Data     map[string]any // ids and codes only: the journal holds no names, numbers or texts
}

// Matter is what a ticket is opened with.
type Matter struct {
	Channel Channel
	Topic   int64 // 0: none
	Urgency int   // Blocking, NotBlocking; 0: NotBlocking
	At      time.Time
	Queued  bool   // the caller takes a place in the queue with it: Tq
	Kind    string // code of CallTypes; "": the default
	// Chosen is when the caller chose topic and urgency (Ts), if that is to be noted
	// with the opening; it is, also when there is no ticket in the end.
	Chosen time.Time
	// Patience is how long the caller waits for it, if they hear something; 0: as long as
	// for any fact.
	Patience time.Duration
	Beside   Beside // nil: nothing

	choice *stepped // of Chosen; nil: none
}

// Beside is what somebody else does in the transaction that gives a contact its ticket.
type Beside interface {
	Over() *db.DB                              // whose connections it is made over; nil: the book's
	Ahead(tx *db.Tx)                           // leaves for the first round what can be said before anything is known
	Then(ctx context.Context, tx *db.Tx) error // comes after the ticket
	Again(err error) bool                      // whether it is to be made once more, after an error
}

// factBudget is how long the caller's way waits for the database before the
// fact goes to the spool: silence on the line until then, so not long.
const factBudget = 1500 * time.Millisecond

// factAgain is how often a fact is tried within it: a restart takes some 300 ms.
const factAgain = 100 * time.Millisecond

// textLongest bounds what a header may leave in a row, in bytes.
const textLongest = 255

// Begin registers a call before anything is answered: the contact's row and
// its first journal line, committed. With the database away the fact goes to
// the spool, the contact is Deferred and err is nil; err is only returned when
// neither took it. The caller's hang-up does not interrupt it: a call that
// rang once is registered (A8).
func (b *Book) Begin(ctx context.Context, a Arrival) (*Contact, error) {
	c := &Contact{
		ID: uuid.New(), Channel: a.Channel, CallID: clean(a.ID), Caller: Normalise(a.From), CallerSource: a.Source,
		Dialled: Normalise(a.To), Trunk: clean(a.Trunk), T0: a.At, Match: MatchNone,
	}
	if c.Channel == "" {
		c.Channel = Phone
	}
	switch {
	case c.Caller == "":
		c.CallerSource, c.Match = sourceWithheld, MatchWithheld
	case c.CallerSource != sourceAsserted:
		c.CallerSource = sourceFrom // what nobody vouches for
	}
	if c.Dialled == "" {
		c.Dialled = clean(a.To) // no number at all: kept, so that one sees what was dialled
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), factBudget)
	defer cancel()
	service, err := b.ServiceAt(limited, c.Dialled, c.T0)
	switch {
	case err == nil:
		c.Service = service
	case !errors.Is(err, ErrNotFound) && !db.Away(err):
		return nil, fmt.Errorf("begin: %w", err)
	}
	f := &begun{
		Fact: uuid.New(), Contact: c.ID, Node: b.node, Channel: c.Channel, CallID: c.CallID, Trunk: c.Trunk,
		Caller: c.Caller, Source: c.CallerSource, Dialled: c.Dialled, T0: c.T0,
	}
	if service != nil {
		f.Service, f.Settings = service.ID, service.Version
	}
	if err := b.write(limited, c, f); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	if !c.Deferred {
		c.Customers = f.found
		c.Match = matchOf(c.Caller, len(f.found))
	}
	return c, nil
}

// Where a caller's number comes from.
const (
	sourceAsserted = "asserted" // P-Asserted-Identity of a trusted trunk
	sourceFrom     = "from"     // the From header: anybody's word
	sourceWithheld = "withheld"
)

// clean makes a text from outside fit for a row: valid UTF-8 without NUL, which
// PostgreSQL refuses, and bounded.
func clean(s string) string {
	if len(s) > textLongest {
		s = s[:textLongest]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\x00", "")
}

// Note writes one step, also after the caller hung up. With the database away
// it goes to the spool.
func (b *Book) Note(ctx context.Context, c *Contact, s Step) error {
	if s.Kind == journal.Talking {
		c.Talked = true
	}
	f := &stepped{Fact: uuid.New(), Contact: c.ID, Kind: s.Kind, At: s.At, Topic: s.Topic, Urgency: s.Urgency, Operator: s.Operator, Ticket: s.Ticket, Data: s.Data}
	if err := b.write(ctx, c, f); err != nil {
		return fmt.Errorf("note %s: %w", s.Kind, err)
	}
	return nil
}

// Talks notes in the transaction by which an operator accepts a contact that the
// two talk from then on, which takes the matter in charge.
func (b *Book) Talks(c *Contact, operator int64, at time.Time) Part {
	f := &stepped{Fact: uuid.New(), Contact: c.ID, Kind: journal.Talking, At: at, Operator: operator}
	p := Part{Batch: &pgx.Batch{}, Then: func(ctx context.Context, tx *db.Tx) error {
		if err := f.follow(ctx, tx); err != nil {
			return fmt.Errorf("note that they talk: %w", err)
		}
		return nil
	}, Known: func(ctx context.Context, tx *db.Tx) error {
		if err := f.known(ctx, tx, c.Ticket, c.Talked); err != nil {
			return fmt.Errorf("note that they talk: %w", err)
		}
		return nil
	}}
	f.queue(p.Batch)
	return p
}

// Open gives the contact's matter its number and its row, prefilled, together
// with whatever `together` (may be nil) does, in one transaction: an error of
// either leaves no trace, and no gap in the numbers. A contact that has a
// ticket keeps it. Errors: ErrDeferred, ErrEnded, db.Away, together's. A
// hang-up while it runs does not cut it in two; end the contact afterwards.
func (b *Book) Open(ctx context.Context, c *Contact, m Matter, together func(ctx context.Context, tx *db.Tx, ticket int64) error) (*Ticket, error) {
	return b.enter(ctx, c, m, func(ctx context.Context, tx *db.Tx, m Matter) (int64, error) { return openTicket(ctx, tx, c.ID, m) }, together)
}

// getting finds or makes the ticket of a matter.
type getting func(ctx context.Context, tx *db.Tx, m Matter) (int64, error)

// enter gives the contact the ticket that get finds or makes. What the caller chose is
// noted in any case.
func (b *Book) enter(ctx context.Context, c *Contact, m Matter, get getting, together func(ctx context.Context, tx *db.Tx, ticket int64) error) (*Ticket, error) {
	if !m.Chosen.IsZero() {
		m.choice = &stepped{Fact: uuid.New(), Contact: c.ID, Kind: journal.Classified, At: m.Chosen, Topic: m.Topic, Urgency: m.Urgency}
	}
	t, err := b.entered(ctx, c, m, get, together)
	if err != nil {
		if m.choice != nil {
			c.Deferred = c.Deferred || db.Away(err) && b.later != nil // it was waited for: the spool takes it at once
			err = errors.Join(err, b.write(ctx, c, m.choice))
		}
		return nil, fmt.Errorf("open a ticket: %w", err)
	}
	c.Ticket = t
	return t, nil
}

// entered is the transaction of enter. A database that restarts is back within the
// budget; it is tried again as long as it is certain that nothing was committed.
func (b *Book) entered(ctx context.Context, c *Contact, m Matter, get getting, together func(ctx context.Context, tx *db.Tx, ticket int64) error) (t *Ticket, err error) {
	if c.Deferred {
		return nil, ErrDeferred
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(m.Patience, factBudget))
	defer cancel()
	for {
		commits, over := false, b.db
		if m.Beside != nil && m.Beside.Over() != nil {
			over = m.Beside.Over()
		}
		err = over.Tx(ctx, func(tx *db.Tx) error {
			commits = false
			if m.Beside != nil {
				m.Beside.Ahead(tx)
			}
			id, err := get(ctx, tx, m)
			if err == nil && m.Beside != nil {
				err = m.Beside.Then(ctx, tx)
			}
			if err == nil && together != nil {
				err = together(ctx, tx, id)
			}
			if err != nil {
				return err
			}
			leaveTicket(tx, id, &t)
			commits = true
			return nil
		})
		if err != nil && m.Beside != nil && m.Beside.Again(err) {
			continue
		}
		if commits || !db.Away(err) || b.later == nil || b.later.Pending() || !again(ctx) {
			return t, err
		}
	}
}

// End writes how the contact ended, once: a second ending is a no-op. What a
// contact's ending brings about (the list of calls to ring back, the closing
// of a ticket without message) is in the table of endings. cause is logged,
// not kept.
func (b *Book) End(ctx context.Context, c *Contact, e Ending, at time.Time, cause error) error {
	rule, ok := endings[e]
	if !ok {
		return fmt.Errorf("end a contact: %q is no ending", e)
	}
	if c.Ended {
		return nil
	}
	if cause != nil {
		b.log.Warn("a contact ended with an error", "contact", c.ID, "ending", e, "error", cause)
	}
	f := &ended{Fact: uuid.New(), Contact: c.ID, Ending: e, At: at, Legs: c.Legs}
	// Who heard that we are out of order and left no message is rung back like
	// somebody whom we failed.
	f.Owed = c.Deferred && rule.silent
	if err := b.write(ctx, c, f); err != nil {
		return fmt.Errorf("end %s: %w", e, err)
	}
	return nil
}

// Part is what a transaction of somebody else's is to do.
type Part struct {
	Batch *pgx.Batch                                 // comes first, in whatever round
	Then  func(ctx context.Context, tx *db.Tx) error // follows from its results

	// Known leaves both for the round of the COMMIT, as they are where the contact stands,
	// and has the ticket, as we know; if not, the transaction breaks off with a division
	// by zero.
	Known func(ctx context.Context, tx *db.Tx) error
}

// EndWith is End in a transaction of somebody else's, which knows first whether it was
// committed: then c.Ended is to be set. A contact that is Deferred has its own way, and
// a message End's.
func (b *Book) EndWith(c *Contact, e Ending, at time.Time) (Part, error) {
	f := &ended{Fact: uuid.New(), Contact: c.ID, Ending: e, At: at, Legs: c.Legs}
	if !e.Known() || e == MessageLeft {
		return Part{}, fmt.Errorf("end %s: %w", e, ErrBadFact)
	}
	p := Part{Batch: &pgx.Batch{}, Then: func(ctx context.Context, tx *db.Tx) error {
		if err := f.follow(ctx, tx); err != nil {
			return fmt.Errorf("end %s: %w", e, err)
		}
		return nil
	}, Known: func(ctx context.Context, tx *db.Tx) error {
		if err := f.known(ctx, tx, c.ticket()); err != nil {
			return fmt.Errorf("end %s: %w", e, err)
		}
		return nil
	}}
	if err := f.queue(p.Batch); err != nil {
		return Part{}, fmt.Errorf("end %s: %w", e, err)
	}
	return p, nil
}

// EndMessage ends a contact that could leave a message: MessageLeft with
// ShortestMessage of sound or more, else NoMessage and the ticket is closed as
// senza_messaggio. t is the ticket opened at the beep, nil when the contact is
// deferred: the ticket of a message is then opened at the replay.
func (b *Book) EndMessage(ctx context.Context, c *Contact, t *Ticket, sound time.Duration, at time.Time) error {
	return b.End(ctx, c, endingOf(sound), at, nil)
}

// endingOf is the ending of a message with so much sound.
func endingOf(sound time.Duration) Ending {
	if sound < ShortestMessage {
		return NoMessage
	}
	return MessageLeft
}
