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

// What several have gathered for one statement comes once, at the end.
func TestGatheredComesWithTheCommit(t *testing.T) {
	d := dbtest.New(t)
	const gather = `insert into services (number, name) select unnest($1::text[]), cardinality($1)::text`
	texts := func(rows []any) []any {
		var all []string
		for _, row := range rows {
			all = append(all, row.(string))
		}
		return []any{all}
	}
	gathers := func(numbers ...string) error {
		return d.Tx(t.Context(), func(tx *db.Tx) error {
			for _, number := range numbers {
				tx.Gather(gather, []any{number}, texts, func(err error) error { return errors.Join(errGathered, err) })
				var n int
				if err := tx.QueryRow(t.Context(), `select count(*) from services where number = $1`, number).Scan(&n); err != nil || n != 0 {
					return errors.Join(err, errors.New("it came before the end"))
				}
			}
			return nil
		})
	}
	if err := gathers("1", "2"); err != nil {
		t.Fatal(err)
	}
	var together int
	if err := d.Pool.QueryRow(t.Context(), `select count(*) from services where name = '2'`).Scan(&together); err != nil || together != 2 {
		t.Errorf("%d came together (%v), want 2", together, err)
	}
	if err := gathers("3", "3"); !errors.Is(err, errGathered) || services(t, d) != 2 {
		t.Errorf("a number that is there twice: %v, and %d services", err, services(t, d))
	}
}

var errGathered = errors.New("what it means here")

// A node that is alone notifies nobody; who comes is told to look at everything, and
// of all that happens from then on.
func TestAloneNobodyIsTold(t *testing.T) {
	d := dbtest.New(t)
	other := open(t, d.Pool.Config().ConnString())
	ctx, cancel := context.WithCancel(t.Context())
	listened := make(chan struct{})
	seat, mark := other.Wakeups.Subscribe("seat:1"), other.Wakeups.Subscribe("mark")
	go func() { defer close(listened); _ = other.Listen(ctx) }()
	defer func() { cancel(); <-listened }()
	awaitWake(t, seat, "who begins to listen wakes all")
	awaitWake(t, mark, "who begins to listen wakes all")
	changes := func() {
		t.Helper()
		if err := d.Tx(t.Context(), func(tx *db.Tx) error { tx.Wake("seat:1"); return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Pool.Exec(t.Context(), `select pg_notify('pronto', 'somebody mark')`); err != nil {
			t.Fatal(err)
		}
		awaitWake(t, mark, "what came after it")
	}
	alone := func(is bool) {
		t.Helper()
		if err := d.Alone(t.Context(), is); err != nil {
			t.Fatal(err)
		}
	}
	alone(true)
	changes()
	if woken(seat) {
		t.Error("a node that is alone has told another")
	}
	for range 2 { // what was about to commit the first time is made good the second
		alone(false)
		awaitWake(t, mark, "a node that has come is to look at everything")
		awaitWake(t, seat, "a node that has come is to look at everything")
	}
	alone(false)
	changes()
	if !woken(seat) {
		t.Error("a node that is not alone has not told the other")
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
