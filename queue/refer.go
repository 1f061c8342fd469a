package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Mark is where the stream of an operator's seat stands: Became looks at what follows.
func (q *Queue) Mark(ctx context.Context, user int64) (mark int, err error) {
	err = q.db.Pool.QueryRow(ctx, `select coalesce(max(seq), 0) from journal where stream = @stream`, args{"stream": journal.SeatStream(user)}).Scan(&mark)
	if err != nil {
		return 0, fmt.Errorf("mark a seat's stream: %w", err)
	}
	return mark, nil
}

// Became waits for what became of the wish to give a caller on that an operator had
// since mark, and says why if it came to nothing. It is one of journal.Given, Returned
// and Released (the talk ended otherwise). It ends with ctx, whose cause it returns;
// while the database is away it tries again every second.
func (q *Queue) Became(ctx context.Context, user int64, mark int) (kind journal.Kind, reason string, err error) {
	woken := q.db.Wakeups.Subscribe(SeatTopic(user))
	defer woken.Close()
	again := time.NewTicker(retryAfter)
	defer again.Stop()
	for {
		err := q.db.Pool.QueryRow(ctx, `
			select kind, coalesce(data ->> 'reason', '') from journal
			where stream = @stream and seq > @mark and kind in (@given, @returned, @released) order by seq limit 1`,
			args{"stream": journal.SeatStream(user), "mark": mark, "given": journal.Given, "returned": journal.Returned, "released": journal.Released}).Scan(&kind, &reason)
		if err == nil {
			return kind, reason, nil
		}
		select {
		case <-woken.C():
		case <-again.C:
		case <-ctx.Done():
			return "", "", context.Cause(ctx)
		}
	}
}

// Last takes what was asked of a talk just before its operator hung up; nil: nothing.
func (q *Queue) Last(ctx context.Context, offer uuid.UUID, at time.Time) (*Command, error) {
	return q.takeCommand(ctx, offer, at)
}

// NotReferred notes on a contact that a telephone asked to give it on, as it may not:
// on that of an operator's talk, or with user 0 on that of a caller's own call.
func (q *Queue) NotReferred(ctx context.Context, user int64, callID string, status int, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		var contact uuid.UUID
		sql, a := `select contact_id from seats where user_id = @user and contact_id is not null`, args{"user": user}
		if user == 0 {
			sql, a = `select id from contacts where call_id = @call and ending is null order by t0 desc limit 1`, args{"call": callID}
		}
		switch err := tx.QueryRow(ctx, sql, a).Scan(&contact); {
		case errors.Is(err, pgx.ErrNoRows):
			return nil // over meanwhile
		case err != nil:
			return err
		}
		w := q.work(tx, at)
		w.wake(PlaceTopic(contact))
		w.line(journal.Line{Stream: journal.ContactStream(contact), Kind: journal.NotGiven, Contact: null(contact), User: user, Data: map[string]any{"status": status}})
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("note a transfer that was refused: %w", err)
	}
	return nil
}
