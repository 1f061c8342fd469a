package recordings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Kinds of the archive's own facts in the spool.
const (
	kindRecording = "recording.begun"
	kindRecorded  = "recording.complete"
)

// What rows of messages wake.
const (
	topicJournal  = "journal"
	topicMessages = "messages"
)

// Limits of a list.
const (
	pageDefault = 50
	pageMost    = 500
)

// ErrTaken is a message that somebody else has taken.
var ErrTaken = errors.New("somebody else has taken this message")

// errNoContact: the contact's row is not there, so it waits in the spool itself.
var errNoContact = errors.New("the recording's contact is not in the database yet")

// tapeFact is what the database learns of a tape, at its beginning and at its
// end.
type tapeFact struct {
	Tape uuid.UUID `json:"tape"`
	tapeKind
	Contact  uuid.UUID `json:"contact"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	LengthMS int64     `json:"length_ms,omitempty"`
	SoundMS  int64     `json:"sound_ms,omitempty"`
	Path     string    `json:"path,omitempty"`
}

// factID is the same whenever the fact is written: at once, again because the
// answer was lost, or from the spool.
func (f tapeFact) factID(kind string) uuid.UUID { return uuid.NewSHA1(f.Tape, []byte(kind)) }

// insertBegun and insertComplete return the contact's ticket. Both do nothing
// the second time; the journal's line says that it was one.
const (
	insertBegun = `insert into recordings (id, contact_id, node, kind, state, started_at, keep_until)
		values (@id, @contact, @node, @kind, 'recording', @started, @keep)
		on conflict (id) do update set node = recordings.node
		returning (select ticket_id from contacts where id = contact_id)`
	insertComplete = `insert into recordings (id, contact_id, node, kind, state, started_at, ended_at, length_ms, sound_ms, path, keep_until)
		values (@id, @contact, @node, @kind, 'complete', @started, @ended, @length, @sound, @path, @keep)
		on conflict (id) do update set state = 'complete', ended_at = @ended, length_ms = @length, sound_ms = @sound, path = @path, paused_at = null
		returning (select ticket_id from contacts where id = contact_id)`
)

// writeRow writes a tape's row and its journal line in one transaction. Doing it
// twice is harmless.
func (a *Archive) writeRow(ctx context.Context, kind string, f tapeFact) error {
	sql, begins, ends := insertBegun, journal.Recording, journal.Recorded
	if f.Talk {
		begins, ends = journal.Taping, journal.Taped
	}
	args := pgx.StrictNamedArgs{"id": f.Tape, "contact": f.Contact, "node": a.node, "kind": f.name(), "started": f.Started, "keep": f.keepUntil()}
	line := journal.Line{
		Stream: journal.ContactStream(f.Contact), Kind: begins, At: f.Started,
		Contact: uuid.NullUUID{UUID: f.Contact, Valid: true},
		Fact:    uuid.NullUUID{UUID: f.factID(kind), Valid: true},
		Data:    map[string]any{"recording": f.Tape},
	}
	if kind == kindRecorded {
		sql = insertComplete
		args["ended"], args["length"], args["sound"], args["path"] = f.Ended, f.LengthMS, f.SoundMS, f.Path
		line.Kind, line.At = ends, f.Ended
		line.Data["length_ms"], line.Data["sound_ms"] = f.LengthMS, f.SoundMS
	}
	err := a.db.Tx(ctx, func(tx *db.Tx) error {
		var ticket *int64
		if err := tx.QueryRow(ctx, sql, args).Scan(&ticket); err != nil {
			return err
		}
		if ticket != nil {
			line.Ticket = *ticket
		}
		tx.Wake(topicJournal, line.Stream)
		if !f.Talk {
			tx.Wake(topicMessages)
		}
		return journal.Append(ctx, tx, line)
	})
	var pe *pgconn.PgError
	switch {
	case errors.Is(err, journal.ErrReplayed):
		return nil
	case errors.As(err, &pe) && pe.Code == "23503": // foreign_key_violation
		return errNoContact
	case err != nil:
		return fmt.Errorf("write a recording's row: %w", err)
	}
	return nil
}

// unendedSounds adds the recordings of this node whose contact has no ending: the
// file was finished, but the call was not. A row that still says "recording"
// without a tape in the spool or set aside lost its sound; it is completed as empty.
func (a *Archive) unendedSounds(ctx context.Context, sounds map[uuid.UUID]time.Duration) error {
	rows, err := a.db.Pool.Query(ctx, `select id as tape, contact_id as contact, started_at as started, kind = 'talk' as talk from recordings
		where node = $1 and state = 'recording' order by started_at`, a.node)
	if err != nil {
		return fmt.Errorf("find unfinished recordings: %w", err)
	}
	type lost struct {
		Tape, Contact uuid.UUID
		Started       time.Time
		Talk          bool
	}
	empty, err := pgx.CollectRows(rows, pgx.RowToStructByName[lost])
	if err != nil {
		return fmt.Errorf("find unfinished recordings: %w", err)
	}
	for _, l := range empty {
		if a.isAside(l.Tape) {
			continue
		}
		a.log.Error("a recording has no sound in the spool", "contact", l.Contact, "recording", l.Tape)
		if err := a.writeRow(ctx, kindRecorded, tapeFact{Tape: l.Tape, tapeKind: tapeKind{Talk: l.Talk}, Contact: l.Contact, Started: l.Started, Ended: l.Started}); err != nil {
			return err
		}
	}
	rows, err = a.db.Pool.Query(ctx, `select r.contact_id as contact, max(coalesce(r.sound_ms, 0)) as sound
		from recordings r join contacts c on c.id = r.contact_id
		where r.node = $1 and r.kind = 'message' and c.ending is null group by r.contact_id`, a.node)
	if err != nil {
		return fmt.Errorf("find recordings of unfinished contacts: %w", err)
	}
	type taped struct {
		Contact uuid.UUID
		Sound   int64
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[taped])
	if err != nil {
		return fmt.Errorf("find recordings of unfinished contacts: %w", err)
	}
	for _, f := range found {
		sounds[f.Contact] = max(sounds[f.Contact], time.Duration(f.Sound)*time.Millisecond)
	}
	return nil
}

// Message is one recorded message, as a screen lists it.
type Message struct {
	ID        uuid.UUID  `json:"id"`
	ContactID uuid.UUID  `json:"contact_id"`
	StartedAt time.Time  `json:"received_at"`
	LengthMS  int        `json:"length_ms"`
	SoundMS   int        `json:"sound_ms"`
	State     string     `json:"state"`    // new, taken, heard
	TakenBy   string     `json:"taken_by"` // a user's name, or ""
	TakenAt   *time.Time `json:"taken_at"`
	HeardAt   *time.Time `json:"heard_at"`
}

// Filter picks messages; the zero Filter picks the newest 50.
type Filter struct {
	State  string    // "new": neither taken nor heard; "": all
	Before time.Time // older than this; zero: from the newest
	Limit  int       // at most 500; 0: 50
}

// Messages lists complete messages, newest first. One without sound to speak of
// (under 2 s) belongs to a ticket that was closed as senza_messaggio; it is
// listed too.
func (a *Archive) Messages(ctx context.Context, f Filter) ([]Message, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = pageDefault
	}
	where, args := []string{`true`}, pgx.StrictNamedArgs{"limit": min(limit, pageMost)}
	if f.State == "new" {
		where = append(where, `r.taken_at is null and r.heard_at is null`)
	}
	if !f.Before.IsZero() {
		where, args["before"] = append(where, `r.started_at < @before`), f.Before
	}
	rows, err := a.db.Pool.Query(ctx, `select r.id, r.contact_id, r.started_at, coalesce(r.length_ms, 0) as length_ms, coalesce(r.sound_ms, 0) as sound_ms,
			case when r.taken_at is not null then 'taken' when r.heard_at is not null then 'heard' else 'new' end as state,
			coalesce(u.name, '') as taken_by, r.taken_at, r.heard_at
		from recordings r left join users u on u.id = r.taken_by
		where r.kind = 'message' and r.state = 'complete'
			and `+strings.Join(where, ` and `)+`
		order by r.started_at desc, r.id limit @limit`, args)
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	messages, err := pgx.CollectRows(rows, pgx.RowToStructByName[Message])
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	return messages, nil
}

// Elsewhere is the error for sound that is on another node's disk.
type Elsewhere struct{ Node string }

// Error implements error.
func (e *Elsewhere) Error() string { return "the sound is on " + e.Node }

// Message opens the sound of a contact's last message, a WAV file of A-law, and
// tells when it ended. fs.ErrNotExist: there is none, or not yet; *Elsewhere: not
// on this node; ErrLocked and ErrDamaged.
func (a *Archive) Message(ctx context.Context, contact uuid.UUID) (io.ReadSeekCloser, time.Time, error) {
	return a.sound(ctx, contact, kindMessage)
}

// sound opens the last recording of its kind.
func (a *Archive) sound(ctx context.Context, contact uuid.UUID, kind string) (io.ReadSeekCloser, time.Time, error) {
	var path, node string
	var ended time.Time
	err := a.db.Pool.QueryRow(ctx, `select path, node, ended_at from recordings
		where contact_id = $1 and kind = $2 and state = 'complete' and path <> '' order by started_at desc limit 1`, contact, kind).Scan(&path, &node, &ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, time.Time{}, fmt.Errorf("%s of contact %s: %w", kind, contact, fs.ErrNotExist)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s of contact %s: %w", kind, contact, err)
	}
	if !filepath.IsLocal(path) {
		return nil, time.Time{}, fmt.Errorf("%s of contact %s: its path leads elsewhere", kind, contact)
	}
	f, err := a.openFile(filepath.Join(a.dir, path))
	if errors.Is(err, fs.ErrNotExist) && node != a.node {
		err = &Elsewhere{node}
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s of contact %s: %w", kind, contact, err)
	}
	return f, ended.UTC(), nil
}

// Heard notes that user listened to a message; the first time counts.
// fs.ErrNotExist: there is no such message.
func (a *Archive) Heard(ctx context.Context, id uuid.UUID, user int64, at time.Time) error {
	return a.change(ctx, id, user, at, journal.Heard, `update recordings set heard_at = @at, heard_by = @user
		where id = @id and heard_at is null returning contact_id, (select ticket_id from contacts where id = contact_id)`)
}

// Take gives a message to user. ErrTaken: somebody else has it; fs.ErrNotExist:
// there is no such message. Taking it twice is harmless.
func (a *Archive) Take(ctx context.Context, id uuid.UUID, user int64, at time.Time) error {
	err := a.change(ctx, id, user, at, journal.Taken, `update recordings set taken_at = @at, taken_by = @user
		where id = @id and taken_at is null returning contact_id, null::bigint`) // the ticket is not taken with it, unless the page asks for both
	if err != nil {
		return err
	}
	var holder int64
	if err := a.db.Pool.QueryRow(ctx, `select taken_by from recordings where id = $1`, id).Scan(&holder); err != nil {
		return fmt.Errorf("take a message: %w", err)
	}
	if holder != user {
		return ErrTaken
	}
	return nil
}

// Whose tells the contact of a message, and who has taken it, 0 for nobody;
// fs.ErrNotExist: there is no such message.
func (a *Archive) Whose(ctx context.Context, id uuid.UUID) (contact uuid.UUID, taken int64, err error) {
	err = a.db.Pool.QueryRow(ctx, `select contact_id, coalesce(taken_by, 0) from recordings where id = $1 and kind = 'message'`, id).Scan(&contact, &taken)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return contact, 0, fmt.Errorf("message %s: %w", id, err)
	}
	return contact, taken, nil
}

// TakeOf gives the message of a contact to user, if it has one that nobody has
// taken: who left it was rung back.
func (a *Archive) TakeOf(ctx context.Context, contact uuid.UUID, user int64, at time.Time) error {
	var id uuid.UUID
	err := a.db.Pool.QueryRow(ctx, `select id from recordings where contact_id = $1 and kind = 'message' and taken_at is null order by started_at limit 1`, contact).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a message: %w", err)
	}
	return a.Take(ctx, id, user, at)
}

// change runs an update that happens once, with its journal line.
func (a *Archive) change(ctx context.Context, id uuid.UUID, user int64, at time.Time, kind journal.Kind, sql string) error {
	err := a.db.Tx(ctx, func(tx *db.Tx) error {
		line := journal.Line{At: at, Kind: kind, User: user, Data: map[string]any{"recording": id}}
		var ticket *int64
		err := tx.QueryRow(ctx, sql, pgx.StrictNamedArgs{"id": id, "user": user, "at": at}).Scan(&line.Contact, &ticket)
		if errors.Is(err, pgx.ErrNoRows) { // it happened before, or there is no such message
			return tx.QueryRow(ctx, `select contact_id from recordings where id = $1`, id).Scan(&line.Contact)
		}
		if err != nil {
			return err
		}
		if ticket != nil {
			line.Ticket = *ticket
		}
		line.Stream = journal.ContactStream(line.Contact.UUID)
		tx.Wake(topicJournal, topicMessages, line.Stream)
		return journal.Append(ctx, tx, line)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("message %s: %w", id, fs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("message %s is %s: %w", id, kind, err)
	}
	return nil
}
