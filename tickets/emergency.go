package tickets

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

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
	for _, e := range known.emergencies {
		if !e.Since.After(at) && (e.Until.IsZero() || e.Until.After(at)) {
			return e, nil
		}
	}
	return Emergency{}, nil
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
