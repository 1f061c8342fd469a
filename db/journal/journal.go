// Package journal is the desk's one record of what happened: append-only lines,
// each committed with the state it changes, each stream a chain of hashes. A line
// carries ids, never names, numbers or texts, so that a person can be erased and
// the chain still verifies.
package journal

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Kind says what happened.
type Kind string

// What can happen. A kind is text in the database: a new one needs no migration.
const (
	// A contact's way.
	Begun      Kind = "begun"      // the INVITE: every clock starts
	Answered   Kind = "answered"   // 200 OK
	Refused    Kind = "refused"    // a final answer that is no 200
	Classified Kind = "classified" // topic and urgency are known
	Opened     Kind = "opened"     // the ticket has its number
	Told       Kind = "told"       // the caller heard the number
	StateTold  Kind = "state_told" // the caller heard how a ticket stands, which is the contact's from then on
	Waiting    Kind = "waiting"    // in the queue
	Left       Kind = "left"       // out of the queue without an operator
	Offered    Kind = "offered"
	Painted    Kind = "painted" // the operator's page shows the pop
	Accepted   Kind = "accepted"
	Declined   Kind = "declined"
	TimedOut   Kind = "timed_out"
	Withdrawn  Kind = "withdrawn"
	Talking    Kind = "talking"
	OnHold     Kind = "held"      // the caller hears music, the operator nothing
	Resumed    Kind = "resumed"   // they hear each other again
	Asked      Kind = "asked"     // the operator asks somebody else, the caller hears music
	Consulted  Kind = "consulted" // who was asked has answered
	Conferred  Kind = "conferred" // all three hear each other
	Returned   Kind = "returned"  // from somebody else to the operator, or to the queue
	Joined     Kind = "joined"    // somebody else and the caller hear each other
	Given      Kind = "given"     // the operator gives the caller on
	NotGiven   Kind = "not_given" // a telephone asked for that by REFER, as it may not
	Released   Kind = "released"  // the operator is free of the call
	Ended      Kind = "ended"     // the contact has its ending
	RingBack   Kind = "ring_back"
	RungBack   Kind = "rung_back" // somebody took the call to ring back
	Booked     Kind = "booked"    // the caller is to be rung back
	Attempted  Kind = "attempted" // what came of ringing back
	Cancelled  Kind = "cancelled" // the callback was taken back
	Recovered  Kind = "recovered" // after a crash
	Announced  Kind = "announced" // the caller heard the emergency announcement
	DutyRung   Kind = "duty_rung" // somebody on duty was rung, and did not take the call
	DutyTook   Kind = "duty_took" // somebody on duty took the call

	// A supervisor in the talk of an operator.
	SupervisionAsked   Kind = "supervision_asked"   // their telephone is to ring
	SupervisionBegan   Kind = "supervision_began"   // they are on
	SupervisionChanged Kind = "supervision_changed" // to listen, whisper or barge
	SupervisionEnded   Kind = "supervision_ended"

	// A ticket's way.
	Attached Kind = "attached" // another contact became the ticket's
	Noted    Kind = "noted"
	Edited   Kind = "edited"
	Taken    Kind = "taken"
	Closed   Kind = "closed"
	Reopened Kind = "reopened"
	Imported Kind = "imported"

	// The register's way, beside edited and imported.
	Added   Kind = "added"
	Removed Kind = "removed"
	Merged  Kind = "merged" // one person was given what was another's

	// An operator's day.
	SignedIn  Kind = "signed_in"
	SignedOut Kind = "signed_out"
	Declared  Kind = "declared"
	Missed    Kind = "missed" // did not answer an offer: paused
	Wrapped   Kind = "wrapped"
	Extended  Kind = "extended" // the wrap-up

	// A recording's way.
	Recording Kind = "recording"
	Recorded  Kind = "recorded"
	Heard     Kind = "heard"
	Played    Kind = "played" // somebody listened

	// A recorded talk's way.
	Taping Kind = "taping"      // it begins
	Gap    Kind = "taping_gap"  // nothing is kept from here on, for a reason
	GapEnd Kind = "taping_on"   // it is again
	Taped  Kind = "taped"       // it has ended, and its sound is a file
	Erased Kind = "tape_erased" // its time was over

	// The settings' way.
	Published      Kind = "published" // a version of a service's settings
	Discarded      Kind = "discarded" // a draft of them
	EmergencyBegan Kind = "emergency_began"
	EmergencyEnded Kind = "emergency_ended"
	Routed         Kind = "routed" // how a topic's demands relax
)

// Line is one thing that happened, before it has its place in the stream.
type Line struct {
	Stream  string // ContactStream, TicketStream, SeatStream, ServiceStream or DeskStream
	At      time.Time
	Kind    Kind
	Contact uuid.NullUUID
	Ticket  int64 // 0: none
	User    int64 // 0: none
	Data    map[string]any
	Fact    uuid.NullUUID // replayed once, whatever happens
}

// Entry is a line as it stands in the journal. XID and ID are its place in the
// order of commits, Seq (from 1) its place in its stream. Numbers in Data are
// float64.
type Entry struct {
	XID     uint64
	ID      int64
	Stream  string
	Seq     int
	At      time.Time
	Kind    Kind
	Contact uuid.NullUUID
	Ticket  int64
	User    int64
	Data    map[string]any
}

// Querier reads: a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ErrReplayed is a fact that stands in the journal already. The transaction has
// failed with it: roll back, and treat the fact as done.
var ErrReplayed = errors.New("this fact is in the journal already")

// ContactStream names the stream of a contact.
func ContactStream(id uuid.UUID) string { return "contact:" + id.String() }

// TicketStream names the stream of a ticket, by its row's id.
func TicketStream(id int64) string { return "ticket:" + strconv.FormatInt(id, 10) }

// ServiceStream names the stream of a service's settings.
func ServiceStream(id int64) string { return "service:" + strconv.FormatInt(id, 10) }

// DeskStream is the stream of what concerns every service.
const DeskStream = "desk"

// SeatStream names the stream of an operator's seat.
func SeatStream(user int64) string { return "seat:" + strconv.FormatInt(user, 10) }

const appendSQL = `select journal_append($1, $2, $3, $4, $5, $6, $7, $8, $9)`

// gatherer is a transaction that can leave rows for its COMMIT (db.Tx).
type gatherer interface {
	Gather(sql string, rows []any, args func(rows []any) []any, read func(error) error)
}

// Append writes lines at the ends of their streams, in one statement. Two
// transactions that append to the same stream wait for each other. Whoever
// commits them wakes the topic "journal". A db.Tx writes all its lines with its
// COMMIT: an error of theirs, ErrReplayed too, is then the COMMIT's.
func Append(ctx context.Context, tx pgx.Tx, lines ...Line) error {
	if len(lines) == 0 {
		return nil
	}
	rows, err := wires(lines)
	if err != nil {
		return err
	}
	if g, ok := tx.(gatherer); ok {
		g.Gather(appendSQL, rows, arguments, failed)
		return nil
	}
	if _, err := tx.Exec(ctx, appendSQL, arguments(rows)...); err != nil {
		return failed(err)
	}
	return nil
}

// Queue puts the same statement into a batch, so that lines travel in one round
// with the state they belong to. Give the error of the batch to Replayed.
func Queue(b *pgx.Batch, lines ...Line) error {
	if len(lines) == 0 {
		return nil
	}
	rows, err := wires(lines)
	if err != nil {
		return err
	}
	b.Queue(appendSQL, arguments(rows)...).Exec(func(pgconn.CommandTag) error { return nil })
	return nil
}

// Replayed turns the error of a batch into ErrReplayed when a fact of it stands
// in the journal already, and returns any other error as it is.
func Replayed(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "23505" && pe.ConstraintName == "journal_fact_key" { // unique_violation
		return ErrReplayed
	}
	return err
}

func failed(err error) error {
	if err = Replayed(err); errors.Is(err, ErrReplayed) {
		return err
	}
	return fmt.Errorf("append to the journal: %w", err)
}

// wire is a Line as it travels: its data are made text at once, so that nobody
// changes them while the line waits for its COMMIT.
type wire struct {
	Line
	data string
}

func wires(lines []Line) ([]any, error) {
	out := make([]any, len(lines))
	for i := range lines {
		l := &lines[i]
		if l.Stream == "" || l.Kind == "" || l.At.IsZero() || strings.ContainsAny(l.Stream+string(l.Kind), "\n\x00") {
			return nil, fmt.Errorf("journal line %q of stream %q at %v: stream, kind and instant are needed", l.Kind, l.Stream, l.At)
		}
		data := "{}"
		if len(l.Data) > 0 {
			b, err := json.Marshal(l.Data)
			if err != nil {
				return nil, fmt.Errorf("encode journal lines: %w", err)
			}
			data = string(b)
		}
		out[i] = wire{*l, data}
	}
	return out, nil
}

// arguments are lines as journal_append takes them: an array of each column.
func arguments(rows []any) []any {
	n := len(rows)
	streams, kinds, datas := make([]string, n), make([]string, n), make([]string, n)
	ats, tickets, users := make([]int64, n), make([]pgtype.Int8, n), make([]pgtype.Int8, n)
	contacts, facts := make([]uuid.NullUUID, n), make([]uuid.NullUUID, n)
	turns := make([]int32, n) // in PostgreSQL places count from 1
	for i, row := range rows {
		l := row.(wire)
		turns[i] = int32(i + 1)
		streams[i], ats[i], kinds[i], datas[i] = l.Stream, l.At.UnixMicro(), string(l.Kind), l.data
		tickets[i], users[i] = pgtype.Int8{Int64: l.Ticket, Valid: l.Ticket != 0}, pgtype.Int8{Int64: l.User, Valid: l.User != 0}
		contacts[i], facts[i] = l.Contact, l.Fact
	}
	slices.SortStableFunc(turns, func(a, b int32) int { return cmp.Compare(streams[a-1], streams[b-1]) })
	return []any{turns, streams, ats, kinds, contacts, tickets, users, datas, facts}
}

const columns = `xid::text::bigint, id, stream, seq, at, kind, contact_id, coalesce(ticket_id, 0), coalesce(user_id, 0), data`

func scan(row pgx.CollectableRow) (Entry, error) {
	var e Entry
	var xid int64
	err := row.Scan(&xid, &e.ID, &e.Stream, &e.Seq, &e.At, &e.Kind, &e.Contact, &e.Ticket, &e.User, &e.Data)
	e.XID, e.At = uint64(xid), e.At.UTC()
	return e, err
}

func collect(ctx context.Context, q Querier, sql string, args ...any) ([]Entry, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	entries, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return entries, nil
}

// OfContact reads what happened to a contact, whatever the stream, in the order
// in which it was written.
func OfContact(ctx context.Context, q Querier, id uuid.UUID) ([]Entry, error) {
	return collect(ctx, q, `select `+columns+` from journal where contact_id = $1 order by id`, id)
}

// OfTicket reads what happened to a ticket, whatever the stream.
func OfTicket(ctx context.Context, q Querier, id int64) ([]Entry, error) {
	return collect(ctx, q, `select `+columns+` from journal where ticket_id = $1 order by id`, id)
}

// Cursor is a place in the order of commits. The zero Cursor is before the first
// line.
type Cursor struct {
	XID uint64
	ID  int64
}

// End is the place after everything that After can return now. Lines which are
// committed but held back (see Held) come after it, so they may be told although
// a state read later has them already.
func End(ctx context.Context, q Querier) (Cursor, error) {
	var xmin int64
	if err := q.QueryRow(ctx, `select pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&xmin); err != nil {
		return Cursor{}, fmt.Errorf("read the journal's end: %w", err)
	}
	return Cursor{XID: uint64(xmin - 1), ID: math.MaxInt64}, nil
}

const (
	afterSQL = `select ` + columns + ` from journal
		where (xid, id) > ($1::text::xid8, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
		order by xid, id limit $3`
	// The last line alone, by the index: asked whether there is any such line, PostgreSQL
	// expects a third of all to be one, and reads the whole journal to find none.
	heldSQL = `select coalesce((select xid from journal order by xid desc, id desc limit 1) >= pg_snapshot_xmin(pg_current_snapshot()), false)`
)

// After reads at most limit lines after c, and the cursor for the next call.
// Commits do not come in the order of ids: a reader that asks for "id > last"
// loses lines. So a line is returned only when every transaction with a lower
// number has ended, in the order (xid, id); until then it is held back. Of two
// transactions that wrote to one stream at the same time the later writer may
// come first: Seq has the order of the stream.
func After(ctx context.Context, q Querier, c Cursor, limit int) ([]Entry, Cursor, error) {
	entries, err := collect(ctx, q, afterSQL, strconv.FormatUint(c.XID, 10), c.ID, limit)
	if err != nil {
		return nil, c, err
	}
	return entries, c.past(entries), nil
}

// Batcher sends a batch: a pool or a transaction.
type Batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Look is Held and After in one round: who reads all that there is need not ask
// again whether there is more. Held comes first, so that what was held back at that
// instant is either returned or said to be held.
func Look(ctx context.Context, q Batcher, c Cursor, limit int) (entries []Entry, next Cursor, held bool, err error) {
	var b pgx.Batch
	b.Queue(heldSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&held) })
	b.Queue(afterSQL, strconv.FormatUint(c.XID, 10), c.ID, limit).Query(func(rows pgx.Rows) (err error) {
		entries, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err := q.SendBatch(ctx, &b).Close(); err != nil {
		return nil, c, false, fmt.Errorf("read the journal: %w", err)
	}
	return entries, c.past(entries), held, nil
}

// past is the place after these entries.
func (c Cursor) past(entries []Entry) Cursor {
	if n := len(entries); n > 0 {
		c = Cursor{XID: entries[n-1].XID, ID: entries[n-1].ID}
	}
	return c
}

// Held tells whether committed lines are still held back by an older transaction
// somewhere on the server. That transaction may end without waking anybody, so a
// reader who finds true asks After again some 20 ms later.
func Held(ctx context.Context, q Querier) (bool, error) {
	var held bool
	err := q.QueryRow(ctx, heldSQL).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("read the journal's end: %w", err)
	}
	return held, nil
}

// Broken is what Verify finds: the first line of a stream that is not what was
// written.
type Broken struct {
	Stream string
	Seq    int
	What   string
}

// Error says which line is broken, and how.
func (b *Broken) Error() string {
	return fmt.Sprintf("journal %s, line %d: %s", b.Stream, b.Seq, b.What)
}

// Verify recomputes the chain of a stream. A *Broken says that a line was
// changed, added or removed; the removal of the last lines of a stream is the one
// thing that a chain cannot show.
func Verify(ctx context.Context, q Querier, stream string) error {
	_, err := verify(ctx, q, `where stream = $1 order by seq`, stream)
	return err
}

// VerifyAll recomputes every chain, in one pass, and returns how many lines there
// are.
func VerifyAll(ctx context.Context, q Querier) (lines int, err error) {
	return verify(ctx, q, `order by stream, seq`)
}

// verify recomputes chains that come one after the other.
func verify(ctx context.Context, q Querier, which string, args ...any) (lines int, err error) {
	rows, err := q.Query(ctx, `select stream, seq, at, kind, coalesce(contact_id::text, ''), coalesce(ticket_id::text, ''), coalesce(user_id::text, ''),
		data::text, coalesce(fact::text, ''), prev, hash from journal `+which, args...)
	if err != nil {
		return 0, fmt.Errorf("read the journal: %w", err)
	}
	defer rows.Close()
	var before []byte
	var last string // the stream of the line before
	want := 1
	for ; rows.Next(); lines++ {
		var seq int
		var at time.Time
		var stream, kind, contact, ticket, user, data, fact string
		var prev, hash []byte
		if err := rows.Scan(&stream, &seq, &at, &kind, &contact, &ticket, &user, &data, &fact, &prev, &hash); err != nil {
			return lines, fmt.Errorf("read the journal: %w", err)
		}
		if stream != last {
			last, before, want = stream, nil, 1
		}
		if seq != want {
			return lines, &Broken{stream, want, "is missing"}
		}
		if !bytes.Equal(prev, before) {
			return lines, &Broken{stream, seq, "does not follow the line before it"}
		}
		text := strings.Join([]string{stream, strconv.Itoa(seq), strconv.FormatInt(at.UnixMicro(), 10), kind, contact, ticket, user, data, fact}, "\n")
		sum := sha256.Sum256(append(bytes.Clone(prev), text...))
		if !bytes.Equal(hash, sum[:]) {
			return lines, &Broken{stream, seq, "is not what was written"}
		}
		before = hash
		want++
	}
	if err := rows.Err(); err != nil {
		return lines, fmt.Errorf("read the journal: %w", err)
	}
	return lines, nil
}
