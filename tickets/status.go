package tickets

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Status of a ticket.
type Status string

const (
	Open     Status = "open"      // nobody has taken it
	InCharge Status = "in_charge" // it has an owner who has begun
	Closed   Status = "closed"
)

// move is what a person does with a ticket's status.
type move string

const (
	take   move = "take"
	finish move = "close"
	reopen move = "reopen"
)

// moves is the whole of what is allowed: where a move leads from a status.
// What is not in it is refused.
var moves = map[move]map[Status]Status{
	take:   {Open: InCharge, InCharge: InCharge}, // a colleague's ticket too: hand-overs are taken
	finish: {Open: Closed, InCharge: Closed},
	reopen: {Closed: InCharge}, // whoever reopens has it
}

// refusals say why a move is not allowed, in Italian.
var refusals = map[move]string{
	take:   "Il ticket è chiuso: va prima riaperto.",
	finish: "Il ticket è già chiuso.",
	reopen: "Il ticket non è chiuso.",
}

// after is the status that m leads to, or a *Refusal.
func (s Status) after(m move) (Status, error) {
	next, ok := moves[m][s]
	if !ok {
		return s, &Refusal{"status", refusals[m]}
	}
	return next, nil
}

// textMost bounds descriptions, solutions and notes, in characters: forty
// pages, more than anybody types and less than hurts.
const textMost = 100_000

// change locks a ticket, lets fn change it and returns it as it is afterwards.
func (b *Book) change(ctx context.Context, number string, fn func(tx *db.Tx, t *Ticket) error) (*Ticket, error) {
	var after *Ticket
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		t, err := lockTicket(ctx, tx, number)
		if err != nil {
			return err
		}
		if err := fn(tx, t); err != nil {
			return err
		}
		after, err = ticketByID(ctx, tx, t.ID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ticket %s: %w", number, err)
	}
	return after, nil
}

// Take makes `by` the owner; the first taking is Tk. *Refusal when closed.
// Taking what one has already changes nothing.
func (b *Book) Take(ctx context.Context, number string, by int64, at time.Time) (*Ticket, error) {
	return b.change(ctx, number, func(tx *db.Tx, t *Ticket) error {
		next, err := t.Status.after(take)
		if err != nil {
			return err
		}
		if t.OwnerID == by && t.Status == next {
			return nil
		}
		return takeOver(ctx, tx, t.ID, uuid.Nil, by, at)
	})
}

// takeOver gives a ticket to an operator. The contacts it came from were taken
// in charge when it was first taken (Tk).
func takeOver(ctx context.Context, tx *db.Tx, ticket int64, contact uuid.UUID, by int64, at time.Time) error {
	var b pgx.Batch
	b.Queue(takeSQL, takeArgs(ticket, by, at))
	tx.Later(&b, nil)
	leaveTaken(tx, ticket, at)
	return note(ctx, tx, ticket, journal.Taken, contact, by, at, nil)
}

const takeSQL = `update tickets set status = 'in_charge', owner_id = @by, taken_at = coalesce(taken_at, @at), version = version + 1 where id = @ticket`

func takeArgs(ticket, by int64, at time.Time) pgx.StrictNamedArgs {
	return pgx.StrictNamedArgs{"ticket": ticket, "by": by, "at": at}
}

// leaveTaken gives the contacts of a ticket their Tk with the next round of a
// transaction.
func leaveTaken(tx *db.Tx, ticket int64, at time.Time) {
	var b pgx.Batch
	b.Queue(`update contacts set tk = greatest(t0, @at::timestamptz) where ticket_id = @ticket and tk is null`, pgx.StrictNamedArgs{"ticket": ticket, "at": at})
	tx.Later(&b, nil)
}

// Close closes with a code of Outcomes. A closing without owner is also a
// taking. With "da_richiamare" the caller stands on the list of calls to ring
// back until somebody takes it there. *Refusal when the ticket is closed
// already or the outcome is none.
func (b *Book) Close(ctx context.Context, number string, by int64, outcome, solution string, at time.Time) (*Ticket, error) {
	if !among(outcome, Outcomes()) {
		return nil, &Refusal{"outcome", "Scegliere un esito."}
	}
	solution, err := text(solution)
	if err != nil {
		return nil, &Refusal{"solution", err.Error()}
	}
	return b.change(ctx, number, func(tx *db.Tx, t *Ticket) error {
		if _, err := t.Status.after(finish); err != nil {
			return err
		}
		if t.Status == Open {
			if err := takeOver(ctx, tx, t.ID, uuid.Nil, by, at); err != nil {
				return err
			}
		}
		// A solution already saved by the form is not wiped out by a closing without one.
		if _, err := tx.Exec(ctx, `update tickets set status = 'closed', outcome = @outcome, solution = coalesce(nullif(@solution::text, ''), solution),
			closed_at = @at, closed_by = @by, version = version + 1 where id = @ticket`,
			pgx.StrictNamedArgs{"ticket": t.ID, "outcome": outcome, "solution": solution, "at": at, "by": by}); err != nil {
			return err
		}
		if outcome == outcomeRingBack {
			if err := oweRingBack(ctx, tx, t.ID); err != nil {
				return err
			}
		}
		return note(ctx, tx, t.ID, journal.Closed, uuid.Nil, by, at, map[string]any{"outcome": outcome})
	})
}

// oweRingBack puts the last call of a ticket on the list, again if need be.
func oweRingBack(ctx context.Context, tx *db.Tx, ticket int64) error {
	_, err := tx.Exec(ctx, `update contacts set ring_back = 'due', ring_back_by = null, ring_back_at = null
		where id = (select id from contacts where ticket_id = $1 and caller <> '' order by t0 desc, id desc limit 1)`, ticket)
	return err
}

// closeSilent closes the ticket of a message that was none, unless somebody has
// begun to work on it, or it is not a message's, or not this contact's own: who
// asked how an older message stands has said nothing new.
func closeSilent(ctx context.Context, tx *db.Tx, ticket int64, contact uuid.UUID, at time.Time) error {
	tag, err := tx.Exec(ctx, `update tickets set status = 'closed', outcome = @outcome, closed_at = @at, version = version + 1
		where id = @ticket and channel = @channel and status = 'open' and received_at = (select t0 from contacts where id = @contact)`,
		pgx.StrictNamedArgs{"ticket": ticket, "contact": contact, "outcome": outcomeNoMessage, "at": at, "channel": Voicemail})
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	return note(ctx, tx, ticket, journal.Closed, contact, 0, at, map[string]any{"outcome": outcomeNoMessage})
}

// Reopen makes a closed ticket open again, in charge of whoever reopens it. The
// outcome is taken back, the solution stays as what was tried. *Refusal when it
// is not closed.
func (b *Book) Reopen(ctx context.Context, number string, by int64, at time.Time) (*Ticket, error) {
	return b.change(ctx, number, func(tx *db.Tx, t *Ticket) error {
		next, err := t.Status.after(reopen)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update tickets set status = @status, outcome = '', closed_at = null, closed_by = null, owner_id = @by,
			taken_at = coalesce(taken_at, @at), version = version + 1 where id = @ticket`,
			pgx.StrictNamedArgs{"ticket": t.ID, "status": next, "by": by, "at": at}); err != nil {
			return err
		}
		leaveTaken(tx, t.ID, at)
		return note(ctx, tx, t.ID, journal.Reopened, uuid.Nil, by, at, nil)
	})
}

// AddNote writes a note, also on a closed ticket; *Refusal when it is empty or
// too long.
func (b *Book) AddNote(ctx context.Context, number string, by int64, body string, at time.Time) (*Ticket, error) {
	body, err := text(body)
	if err != nil {
		return nil, &Refusal{"text", err.Error()}
	}
	if strings.TrimSpace(body) == "" {
		return nil, &Refusal{"text", "La nota è vuota."}
	}
	return b.change(ctx, number, func(tx *db.Tx, t *Ticket) error {
		var id int64
		if err := tx.QueryRow(ctx, `insert into ticket_notes (ticket_id, author_id, at, text) values (@ticket, @by, @at, @text) returning id`,
			pgx.StrictNamedArgs{"ticket": t.ID, "by": by, "at": at, "text": body}).Scan(&id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update tickets set version = version + 1 where id = $1`, t.ID); err != nil {
			return err
		}
		return note(ctx, tx, t.ID, journal.Noted, uuid.Nil, by, at, map[string]any{"note": id})
	})
}

// text makes what somebody typed fit for a row: valid UTF-8, no NUL, which
// PostgreSQL refuses, one kind of line end. The error is Italian.
func text(s string) (string, error) {
	s = strings.ReplaceAll(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", ""), "\r\n", "\n")
	if n := utf8.RuneCountInString(s); n > textMost {
		return "", &Refusal{Reason: fmt.Sprintf("Il testo è troppo lungo: %d caratteri, al massimo %d.", n, textMost)}
	}
	return s, nil
}

func among(code string, codes []Code) bool {
	for _, c := range codes {
		if c.Code == code {
			return true
		}
	}
	return false
}
