package recordings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/sip/audio"
)

// What rows call the two kinds of recordings.
const (
	kindMessage = "message"
	kindTalk    = "talk"
)

// talkMost bounds the memory of one talk: four hours of two channels. No call to a
// help desk has lasted so long.
const talkMost = 4 * 3600 * audio.Rate * talkChannels

const talkChannels = 2 // the caller's octet before the operator's

// tapeKind says what a tape is of.
type tapeKind struct {
	Talk bool `json:"talk,omitempty"` // of caller and operator; else a message
	Days int  `json:"days,omitempty"` // how long a talk is kept
}

// Talk starts a recording of a contact's talk, which is kept for so many days. As
// Tape, it returns at once. ErrNoRoom: the disk is nearly full.
func (a *Archive) Talk(ctx context.Context, contact uuid.UUID, at time.Time, days int) (*Tape, error) {
	if !a.HasRoom() {
		return nil, ErrNoRoom
	}
	return a.tape(ctx, tapeStart{Contact: contact, At: at.UTC(), tapeKind: tapeKind{Talk: true, Days: days}})
}

// ID is the recording's.
func (t *Tape) ID() uuid.UUID { return t.id }

func (k tapeKind) name() string {
	if k.Talk {
		return kindTalk
	}
	return kindMessage
}

func (k tapeKind) channels() int {
	if k.Talk {
		return talkChannels
	}
	return 1
}

// most is how many octets a tape may hold.
func (k tapeKind) most() int {
	if k.Talk {
		return talkMost
	}
	return tapeMost
}

// keepUntil is when a tape is erased that began then; nil: nobody has said.
func (f tapeFact) keepUntil() *time.Time {
	if f.Days == 0 {
		return nil
	}
	until := f.Started.AddDate(0, 0, f.Days)
	return &until
}

func (k tapeKind) write(w io.Writer, alaw []byte) error {
	if k.Talk {
		return audio.WriteStereoWAV(w, alaw)
	}
	return audio.WriteWAV(w, alaw)
}

// read is write's inverse.
func (k tapeKind) read(r io.Reader) ([]byte, error) {
	if k.Talk {
		return audio.ReadStereoWAV(r, talkMost+wavHead)
	}
	return audio.ReadWAV(r)
}

// wavHead is room for what stands before the sound in a file.
const wavHead = 1 << 10

// TalkSound opens the sound of a contact's talk, a WAV file of A-law with the caller
// left and the operator right, and tells when it ended. Errors as Message's.
func (a *Archive) TalkSound(ctx context.Context, contact uuid.UUID) (io.ReadSeekCloser, time.Time, error) {
	return a.sound(ctx, contact, kindTalk)
}

// ErrNotTaped is a talk of which no recording runs.
var ErrNotTaped = errors.New("no recording runs of this talk")

// Taping says whether the talk that an operator is in is recorded, and whether that
// is paused.
type Taping struct {
	Recorded bool `json:"recorded"`
	Paused   bool `json:"paused"`
}

// tapingOf are the running recordings of the talk that @user is in.
const tapingOf = `from offers o where o.user_id = @user and o.state = 'accepted' and o.released_at is null
	and r.contact_id = o.contact_id and r.kind = 'talk' and r.state = 'recording'`

// TapingOf is how the recording stands of the talk that an operator is in.
func (a *Archive) TapingOf(ctx context.Context, user int64) (t Taping, err error) {
	err = a.db.Pool.QueryRow(ctx, `select r.paused_at is not null from recordings r where exists (select `+tapingOf+`)`,
		pgx.StrictNamedArgs{"user": user}).Scan(&t.Paused)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, nil
	}
	if err != nil {
		return t, fmt.Errorf("look for the recording of a talk: %w", err)
	}
	t.Recorded = true
	return t, nil
}

// GapOperator is the reason of a gap, as the journal says it, that an operator asked for.
const GapOperator = "operator"

// Pause pauses the recording of the talk that an operator is in, or lets it go on;
// for the whole call, whoever joins it. Asking twice is harmless. ErrNotTaped: there
// is none.
func (a *Archive) Pause(ctx context.Context, user int64, paused bool, at time.Time) error {
	err := a.db.Tx(ctx, func(tx *db.Tx) error {
		var id uuid.UUID
		line := journal.Line{At: at, Kind: journal.GapEnd, User: user}
		err := tx.QueryRow(ctx, `update recordings r set paused_at = case when @paused then @at::timestamptz end, paused_by = @user `+tapingOf+`
			and (r.paused_at is null) = @paused returning r.id, r.contact_id`,
			pgx.StrictNamedArgs{"user": user, "paused": paused, "at": at}).Scan(&id, &line.Contact)
		if err != nil {
			return err
		}
		line.Stream, line.Data = journal.ContactStream(line.Contact.UUID), map[string]any{"recording": id}
		if paused {
			line.Kind, line.Data["reason"] = journal.Gap, GapOperator
		}
		tx.Wake(topicJournal, line.Stream, tapeTopic(id))
		return journal.Append(ctx, tx, line)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		t, err := a.TapingOf(ctx, user)
		if err == nil && (!t.Recorded || t.Paused != paused) {
			err = ErrNotTaped
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("pause the recording of a talk: %w", err)
	}
	return nil
}

func tapeTopic(id uuid.UUID) string { return "tape:" + id.String() }

// Pauses tells fn, again and again until ctx ends, whether a tape is paused. While
// the database is away it stays as it was.
func (a *Archive) Pauses(ctx context.Context, tape uuid.UUID, fn func(paused bool)) {
	woken := a.db.Wakeups.Subscribe(tapeTopic(tape))
	defer woken.Close()
	again := time.NewTimer(againEvery)
	defer again.Stop()
	for {
		again.Stop()
		select {
		case <-ctx.Done():
			return
		case <-woken.C():
		case <-again.C:
		}
		var paused bool
		err := a.db.Pool.QueryRow(ctx, `select paused_at is not null from recordings where id = $1`, tape).Scan(&paused)
		if err != nil {
			again.Reset(againSoon)
			continue
		}
		fn(paused)
	}
}

// eraseMost is how many recordings are erased at a time.
const eraseMost = 100

// dueTape is a recording whose time is over.
type dueTape struct {
	ID, Contact uuid.UUID
	Path        string
	Started     time.Time
}

// Erase erases the recordings of this node whose time is over, as many as it can,
// and says how many. The file goes first: a row that says so has none. What was set
// aside for its key is not complete, and its time is over all the same.
func (a *Archive) Erase(ctx context.Context, at time.Time) (n int, err error) {
	rows, err := a.db.Pool.Query(ctx, `select id, contact_id as contact, path, started_at as started from recordings
		where node = @node and keep_until < @at and (state = 'complete' or state = 'recording' and id = any(@aside)) order by keep_until limit @most`,
		pgx.StrictNamedArgs{"node": a.node, "at": at, "most": eraseMost, "aside": a.allAside()})
	if err != nil {
		return 0, fmt.Errorf("look for recordings whose time is over: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[dueTape])
	if err != nil {
		return 0, fmt.Errorf("look for recordings whose time is over: %w", err)
	}
	var failed []error
	for _, d := range list {
		if err := a.erase(ctx, d, at); err != nil {
			failed = append(failed, fmt.Errorf("erase recording %s: %w", d.ID, err))
			continue
		}
		n++
	}
	return n, errors.Join(failed...)
}

func (a *Archive) erase(ctx context.Context, d dueTape, at time.Time) error {
	files := []string{d.Path}
	if a.isAside(d.ID) { // and what a backup kept beside it, see unseal
		files = []string{asidePath(d.ID), soundPath(d.Started, d.ID) + sealedExt}
	}
	for _, path := range files {
		if err := a.eraseFile(path); err != nil {
			return err
		}
	}
	return a.db.Tx(ctx, func(tx *db.Tx) error {
		tag, err := tx.Exec(ctx, `update recordings set state = 'erased', path = '' where id = $1 and state <> 'erased'`, d.ID)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		line := journal.Line{Stream: journal.ContactStream(d.Contact), At: at, Kind: journal.Erased, Contact: uuid.NullUUID{UUID: d.Contact, Valid: true},
			Data: map[string]any{"recording": d.ID, "reason": "time"}}
		tx.Wake(topicJournal, line.Stream)
		return journal.Append(ctx, tx, line)
	})
}

// eraseFile removes a file below the node's data directory, if there is one.
func (a *Archive) eraseFile(path string) error {
	if path == "" {
		return nil
	}
	if !filepath.IsLocal(path) {
		return errors.New("its path leads elsewhere")
	}
	full := filepath.Join(a.dir, path)
	if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := syncDir(filepath.Dir(full)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
