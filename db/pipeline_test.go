package db_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

// leave leaves a change to count for the next round.
func leave(tx *db.Tx, number string, read func(error) error) {
	var b pgx.Batch
	b.Queue(`insert into services (number, name) values ($1, $1)`, number)
	tx.Later(&b, read)
}

func TestWhatWasLeftComesBeforeTheNext(t *testing.T) {
	d := dbtest.New(t)
	count := func(tx *db.Tx) (n int) {
		if err := tx.QueryRow(t.Context(), `select count(*) from services`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	err := d.Tx(t.Context(), func(tx *db.Tx) error {
		leave(tx, "1", nil)
		leave(tx, "2", nil)
		if n := count(tx); n != 2 {
			t.Errorf("%d services were there for the next statement, want 2", n)
		}
		leave(tx, "3", nil)
		rows, err := tx.Query(t.Context(), `select number from services order by number`)
		if err != nil {
			return err
		}
		numbers, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(numbers) != 3 {
			t.Errorf("rows are %v (%v), want three", numbers, err)
		}
		leave(tx, "4", nil)
		var b pgx.Batch
		b.Queue(`update services set name = ''`).Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() != 4 {
				t.Errorf("%d services were there for a batch, want 4", tag.RowsAffected())
			}
			return nil
		})
		if err := tx.SendBatch(t.Context(), &b).Close(); err != nil {
			return err
		}
		if n := count(tx); n != 4 { // nothing travels with it
			t.Errorf("%d services, want 4", n)
		}
		leave(tx, "5", nil)
		return nil
	})
	if err != nil || services(t, d) != 5 {
		t.Errorf("%d services after the commit (%v), want 5", services(t, d), err)
	}
}

func TestErrorOfWhatWasLeftUndoesAll(t *testing.T) {
	d := dbtest.New(t)
	errMeant := errors.New("what it means here")
	meant := func(error) error { return errMeant }
	for what, then := range map[string]func(tx *db.Tx) error{
		"at the commit":        func(*db.Tx) error { return nil },
		"with a statement":     func(tx *db.Tx) error { return addService(t.Context(), tx, "2") },
		"and not heard at all": func(tx *db.Tx) error { _ = addService(t.Context(), tx, "2"); return nil },
	} {
		err := d.Tx(t.Context(), func(tx *db.Tx) error {
			leave(tx, "1", nil)
			leave(tx, "1", meant) // a number is unique
			return then(tx)
		})
		if err == nil || services(t, d) != 0 {
			t.Errorf("%s: %d services and error %v, want none and an error", what, services(t, d), err)
		}
		if what != "and not heard at all" && !errors.Is(err, errMeant) {
			t.Errorf("%s: the error is %v, want what read makes of it", what, err)
		}
	}
	if err := d.Tx(t.Context(), func(tx *db.Tx) error { return addService(t.Context(), tx, "3") }); err != nil || services(t, d) != 1 {
		t.Errorf("afterwards: %d services (%v), want one", services(t, d), err)
	}
}

// Many topics are more than one notification holds.
func TestOtherNodesHearOfManyTopics(t *testing.T) {
	d := dbtest.New(t)
	other := open(t, d.Pool.Config().ConnString())
	ctx, cancel := context.WithCancel(t.Context())
	listened := make(chan struct{})
	first := other.Wakeups.Subscribe("topic:0")
	go func() { defer close(listened); _ = other.Listen(ctx) }()
	defer func() { cancel(); <-listened }()
	awaitWake(t, first, "who begins to listen wakes all")
	last := other.Wakeups.Subscribe("topic:1999")
	if err := d.Tx(t.Context(), func(tx *db.Tx) error {
		for i := range 2000 {
			tx.Wake("topic:" + strconv.Itoa(i))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	awaitWake(t, first, "the first topic")
	awaitWake(t, last, "the last topic")
}
