package tickets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
)

// clipLongest bounds the name of a prompt, in bytes.
const clipLongest = 64

var errNoClip = &Refusal{"clip", "Questo messaggio vocale non esiste."}

// Emergency is an announcement that every caller hears instead of a menu, on all
// services, while it is on. The zero Emergency is none.
type Emergency struct {
	Active bool
	Clip   string // the prompt's name; "": the one that comes with the program
	Since  time.Time
	Until  time.Time // zero: until somebody ends it
}

// Emergency is the announcement that is on at an instant. Like Service it answers
// from memory while the database is away.
func (b *Book) Emergency(ctx context.Context, at time.Time) (Emergency, error) {
	known, err := b.known(ctx)
	if err != nil {
		return Emergency{}, err
	}
	return emergencyAt(known.emergencies, at), nil
}

// EmergencyNow is Emergency from the database, for whoever was told by the
// journal that it changed: memory may hear of it a moment later.
func (b *Book) EmergencyNow(ctx context.Context, at time.Time) (Emergency, error) {
	list, err := readEmergencies(ctx, b.db.Pool)
	if err != nil {
		return Emergency{}, fmt.Errorf("read the emergency announcement: %w", err)
	}
	return emergencyAt(list, at), nil
}

func emergencyAt(list []Emergency, at time.Time) Emergency {
	for _, e := range list {
		if !e.Since.After(at) && (e.Until.IsZero() || e.Until.After(at)) {
			return e
		}
	}
	return Emergency{}
}

// emergenciesKept is how many are in memory: those that have ended are for tests
// and for a clock that was set.
const emergenciesKept = 10

func readEmergencies(ctx context.Context, q querier) ([]Emergency, error) {
	rows, err := q.Query(ctx, `select clip, since, until from emergencies order by since desc, id desc limit $1`, emergenciesKept)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Emergency, error) {
		e := Emergency{Active: true}
		var until *time.Time
		err := row.Scan(&e.Clip, &e.Since, &until)
		if until != nil {
			e.Until = *until
		}
		return e, err
	})
}

// BeginEmergency puts the announcement on, or another one in its place. clip is a
// prompt's name, "" for the one that comes with the program; until may be zero.
func (b *Book) BeginEmergency(ctx context.Context, clip string, until time.Time, by int64, at time.Time) error {
	if clip = strings.TrimSpace(clip); len(clip) > clipLongest || clean(clip) != clip {
		return errNoClip
	}
	if !until.IsZero() && !until.After(at) {
		return &Refusal{"until", "La fine dell'annuncio deve essere nel futuro."}
	}
	var end *time.Time
	if !until.IsZero() {
		end = &until
	}
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		switch known, err := prompts.Exists(ctx, tx, cmp.Or(clip, prompts.Emergency)); {
		case err != nil:
			return err
		case !known:
			return errNoClip
		}
		if _, err := endEmergency(ctx, tx, by, at); err != nil {
			return err
		}
		var id int64
		if err := tx.QueryRow(ctx, `insert into emergencies (clip, since, until, started_by) values (@clip, @at, @until, @by) returning id`,
			pgx.StrictNamedArgs{"clip": clip, "at": at, "until": end, "by": by}).Scan(&id); err != nil {
			return err
		}
		return emergencyLine(ctx, tx, journal.EmergencyBegan, id, by, at)
	})
	if err != nil {
		return fmt.Errorf("begin the emergency announcement: %w", err)
	}
	return nil
}

// EndEmergency takes the announcement off; *Refusal without a field when none is on.
func (b *Book) EndEmergency(ctx context.Context, by int64, at time.Time) error {
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		id, err := endEmergency(ctx, tx, by, at)
		switch {
		case err != nil:
			return err
		case id == 0:
			return &Refusal{"", "Nessun annuncio di emergenza è attivo."}
		}
		return emergencyLine(ctx, tx, journal.EmergencyEnded, id, by, at)
	})
	if err != nil {
		return fmt.Errorf("end the emergency announcement: %w", err)
	}
	return nil
}

// endEmergency ends the announcement that is on and gives its id, 0 for none.
func endEmergency(ctx context.Context, tx *db.Tx, by int64, at time.Time) (id int64, err error) {
	tx.Wake(topicServices)
	err = tx.QueryRow(ctx, `update emergencies set until = @at, ended_by = @by where since <= @at and (until is null or until > @at) returning id`,
		pgx.StrictNamedArgs{"at": at, "by": by}).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return id, err
}

func emergencyLine(ctx context.Context, tx *db.Tx, kind journal.Kind, id, by int64, at time.Time) error {
	tx.Wake(topicJournal, journal.DeskStream)
	return journal.Append(ctx, tx, journal.Line{Stream: journal.DeskStream, At: at, Kind: kind, User: by, Data: map[string]any{"emergency": id}})
}
