package db_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

const patience = 20 * time.Second // of a test that waits for something which takes milliseconds

// addService is a change to count: one row.
func addService(ctx context.Context, tx *db.Tx, number string) error {
	_, err := tx.Exec(ctx, `insert into services (number, name) values ($1, $1)`, number)
	return err
}

func services(t *testing.T, d *db.DB) int {
	t.Helper()
	var n int
	if err := d.Pool.QueryRow(t.Context(), `select count(*) from services`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func woken(s *db.Subscription) bool {
	select {
	case <-s.C():
		return true
	default:
		return false
	}
}

func awaitWake(t *testing.T, s *db.Subscription, what string) {
	t.Helper()
	select {
	case <-s.C():
	case <-time.After(patience):
		t.Fatalf("nobody was woken: %s", what)
	}
}

func TestTxCommitsAndWakesAfterwards(t *testing.T) {
	d := dbtest.New(t)
	s := d.Wakeups.Subscribe("queue")
	defer s.Close()
	err := d.Tx(t.Context(), func(tx *db.Tx) error {
		tx.Wake("queue", "queue", "seat:1")
		if woken(s) {
			t.Error("woken before the commit")
		}
		return addService(t.Context(), tx, "1")
	})
	if err != nil || services(t, d) != 1 || !woken(s) || woken(s) {
		t.Errorf("err %v, %d services, want one and one wake-up", err, services(t, d))
	}
}

func TestTxRollsBack(t *testing.T) {
	d := dbtest.New(t)
	s := d.Wakeups.Subscribe("queue")
	defer s.Close()
	errOurs := errors.New("ours")
	err := d.Tx(t.Context(), func(tx *db.Tx) error {
		tx.Wake("queue")
		return errors.Join(addService(t.Context(), tx, "1"), errOurs)
	})
	if !errors.Is(err, errOurs) || services(t, d) != 0 || woken(s) {
		t.Errorf("err %v, %d services", err, services(t, d))
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = d.Tx(t.Context(), func(tx *db.Tx) error {
			if err := addService(t.Context(), tx, "1"); err != nil {
				t.Error(err)
			}
			panic("a bug")
		})
	}()
	if n := services(t, d); n != 0 || d.Pool.Stat().AcquiredConns() != 0 {
		t.Errorf("after a panic: %d services, %d connections taken", n, d.Pool.Stat().AcquiredConns())
	}
}

func TestTxRunsAgainAfterAClash(t *testing.T) {
	d := dbtest.New(t)
	for code, clash := range map[string]bool{"40001": true, "40P01": true, "23505": false} {
		tries := 0
		err := d.Tx(t.Context(), func(tx *db.Tx) error {
			tries++
			tx.Wake(fmt.Sprint(tries))
			if tries < 4 {
				_, err := tx.Exec(t.Context(), fmt.Sprintf(`do $$ begin raise exception using errcode = '%s'; end $$`, code))
				return err
			}
			return nil
		})
		if clash && (err != nil || tries != 4) || !clash && (err == nil || tries != 1) {
			t.Errorf("%s: %d tries, err %v", code, tries, err)
		}
	}
	tries := 0
	err := d.Tx(t.Context(), func(tx *db.Tx) error {
		tries++
		return &pgconn.PgError{Code: "40001"}
	})
	if err == nil || tries != 4 {
		t.Errorf("a clash that stays: %d tries, err %v", tries, err)
	}
}

// A caller may hang up at any moment: before the commit nothing stays, and a
// commit that has begun is not cut off.
func TestHangUpNeverCutsACommit(t *testing.T) {
	d := dbtest.New(t)
	ctx, hangUp := context.WithCancel(t.Context())
	err := d.Tx(ctx, func(tx *db.Tx) error {
		err := addService(ctx, tx, "1")
		hangUp()
		return err
	})
	if err != nil || services(t, d) != 1 {
		t.Errorf("hang-up before the commit: err %v, %d services", err, services(t, d))
	}
	ctx, hangUp = context.WithCancel(t.Context())
	err = d.Tx(ctx, func(tx *db.Tx) error {
		hangUp()
		return addService(ctx, tx, "2")
	})
	if !errors.Is(err, context.Canceled) || services(t, d) != 1 {
		t.Errorf("hang-up within: err %v, %d services", err, services(t, d))
	}
}

func TestWakeupsAreCoalescedAndEnd(t *testing.T) {
	d := dbtest.New(t)
	a := d.Wakeups.Subscribe("seat:1", "queue", "seat:1")
	b := d.Wakeups.Subscribe("queue")
	d.Wakeups.Wake("queue", "seat:1")
	d.Wakeups.Wake("queue")
	if !woken(a) || woken(a) || !woken(b) || woken(b) {
		t.Error("each should be woken once")
	}
	d.Wakeups.Wake("seat:1")
	if !woken(a) || woken(b) {
		t.Error("seat:1 is a's alone")
	}
	a.Close()
	a.Close()
	d.Wakeups.Wake("queue", "seat:1")
	if woken(a) || !woken(b) {
		t.Error("only b still listens")
	}
	b.Close()
}

// TestQuiet: a topic was quiet since an instant if it is certain that it was not woken.
func TestQuiet(t *testing.T) {
	w := dbtest.New(t).Wakeups
	if w.Quiet("seat:1", 0) {
		t.Error("quiet since ever")
	}
	mark := w.Mark()
	w.Wake("queue", "seat:2")
	if !w.Quiet("seat:1", mark) || w.Quiet("seat:2", mark) || !w.Quiet("seat:2", w.Mark()) {
		t.Error("seat:2 alone was woken, and before now")
	}
	for range 254 { // and the two: as many as are kept
		w.Wake("queue")
	}
	if !w.Quiet("seat:1", mark) || w.Quiet("seat:2", mark) {
		t.Error("what is kept was forgotten")
	}
	w.Wake("queue")
	if w.Quiet("seat:1", mark) {
		t.Error("what was forgotten was quiet")
	}
	d := dbtest.New(t)
	mark = d.Wakeups.Mark()
	ctx, stop := context.WithCancel(t.Context())
	up := d.Wakeups.Subscribe("up")
	done := make(chan error)
	go func() { done <- d.Listen(ctx) }()
	<-up.C()
	if d.Wakeups.Quiet("seat:1", mark) {
		t.Error("while nobody listened all was quiet")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Two nodes: what one commits wakes the other, and when the listening connection
// was lost everybody looks again.
func TestListenBringsTheOtherNodesWakeups(t *testing.T) {
	address := dbtest.URL(t)
	here, there := open(t, address), open(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	seat, other := here.Wakeups.Subscribe("seat:1"), here.Wakeups.Subscribe("other")
	wg.Go(func() {
		if err := here.Listen(ctx); err != nil {
			t.Error(err)
		}
	})
	awaitWake(t, seat, "the first connection")
	awaitWake(t, other, "the first connection")

	wake := func(d *db.DB, topic string) {
		t.Helper()
		if err := d.Tx(t.Context(), func(tx *db.Tx) error { tx.Wake(topic); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	wake(there, "seat:1")
	awaitWake(t, seat, "a commit on the other node")
	if woken(other) {
		t.Error("another topic was woken")
	}

	// What travels with a batch arrives once, and so does what is noted after it.
	if err := there.Tx(t.Context(), func(tx *db.Tx) error {
		var batch pgx.Batch
		tx.Wake("seat:1")
		tx.Notify(&batch)
		tx.Wake("other")
		return tx.SendBatch(t.Context(), &batch).Close()
	}); err != nil {
		t.Fatal(err)
	}
	awaitWake(t, seat, "a batch on the other node")
	awaitWake(t, other, "what came after its batch")

	// Our own commits have woken us already: they do not come back.
	wake(here, "seat:1")
	if !woken(seat) {
		t.Error("our own commit woke nobody")
	}
	wake(there, "other") // comes after ours would
	awaitWake(t, other, "a commit on the other node")
	if woken(seat) {
		t.Error("our own wake-up came back")
	}

	if _, err := there.Pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query = 'listen pronto'`); err != nil {
		t.Fatal(err)
	}
	awaitWake(t, seat, "the connection that came after one was lost")
	awaitWake(t, other, "the connection that came after one was lost")
}

func open(t *testing.T, address string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: address, MaxConns: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// Call scripts run with another clock in a bubble; the pool must live there.
func TestPoolLivesInABubble(t *testing.T) {
	address := dbtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		d, err := db.Open(t.Context(), db.Config{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		s := d.Wakeups.Subscribe("queue")
		defer s.Close()
		start := time.Now()
		go func() {
			<-time.After(time.Hour)
			if err := d.Tx(t.Context(), func(tx *db.Tx) error { tx.Wake("queue"); return addService(t.Context(), tx, "1") }); err != nil {
				t.Error(err)
			}
		}()
		<-s.C()
		if took := time.Since(start); took != time.Hour || services(t, d) != 1 {
			t.Errorf("woken after %v with %d services", took, services(t, d))
		}
	})
}

func TestSeveralNodesMigrateAtOnce(t *testing.T) {
	address := dbtest.URL(t)
	d := open(t, address)
	if _, err := d.Pool.Exec(t.Context(), `drop schema public cascade; create schema public`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 2 {
		node := open(t, address)
		wg.Go(func() {
			if err := node.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := d.Migrate(t.Context()); err != nil || services(t, d) != 0 {
		t.Errorf("once more: %v", err)
	}
}

func TestAwayKnowsAnAbsentDatabase(t *testing.T) {
	d := dbtest.New(t)
	exec := func(sql string) error {
		return d.Tx(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(t.Context(), sql); return err })
	}
	nowhere := open(t, "postgres://pronto@/pronto?host="+filepath.Join(t.TempDir(), "none"))
	_, refused := nowhere.Pool.Exec(t.Context(), `select 1`)

	full := dbtest.New(t)
	for range full.Pool.Config().MaxConns {
		c, err := full.Pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	fullErr := full.Tx(short, func(*db.Tx) error { return nil })

	gone := open(t, dbtest.URL(t))
	gone.Close()
	closed := gone.Tx(t.Context(), func(*db.Tx) error { return nil })

	mute, err := net.Listen("unix", filepath.Join(t.TempDir(), ".s.PGSQL.5432")) // accepts, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	waits, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, muteErr := open(t, "postgres://pronto@/pronto?host="+filepath.Dir(mute.Addr().String())).Pool.Exec(waits, `select 1`)

	var lost error
	err = d.Tx(t.Context(), func(tx *db.Tx) error {
		_, lost = tx.Exec(t.Context(), `select pg_terminate_backend(pg_backend_pid())`)
		_, err := tx.Exec(t.Context(), `select 1`)
		return err
	})

	hungUp, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		what string
		err  error
		away bool
	}{
		{"refused", refused, true},
		{"pool is full", fullErr, true},
		{"pool is closed", closed, true},
		{"mute server", muteErr, true},
		{"connection ended by the server", lost, true},
		{"connection is gone", err, true},
		{"no room", &pgconn.PgError{Code: "53300"}, true},
		{"starting", fmt.Errorf("begin: %w", &pgconn.PgError{Code: "57P03"}), true},
		{"disk full", &pgconn.PgError{Code: "53100"}, true},
		{"standby", &pgconn.PgError{Code: "25006"}, true},
		{"EOF", fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true},
		{"nothing", nil, false},
		{"hung up", d.Tx(hungUp, func(*db.Tx) error { return nil }), false},
		{"constraint", exec(`insert into service_hours values (77, 1, '08:00', '09:00')`), false},
		{"syntax", exec(`selec`), false},
		{"ours", errors.New("ours"), false},
	} {
		if c.err == nil && c.what != "nothing" {
			t.Errorf("%s: no error", c.what)
		}
		if got := db.Away(c.err); got != c.away {
			t.Errorf("%s: away is %v (%v)", c.what, got, c.err)
		}
	}
}

func TestOpenRefusesOnlyAnUnreadableAddress(t *testing.T) {
	if _, err := db.Open(t.Context(), db.Config{URL: "postgres://pronto:secret@%zz"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("err is %v", err)
	}
	open(t, "postgres://pronto@nowhere.invalid/pronto")
}

// TestOwnerMigrates: a customer's database belongs to a role that is nobody
// special; the extensions of the search are trusted, and need no more.
func TestOwnerMigrates(t *testing.T) {
	d := dbtest.New(t)
	name := "owner_" + strings.ToLower(rand.Text()[:10])
	for _, sql := range []string{"create role " + name + " login nosuperuser nocreatedb", "create database " + name + " template template0 owner " + name} {
		if _, err := d.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, sql := range []string{"drop database " + name + " with (force)", "drop role " + name} {
			if _, err := d.Pool.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	config := d.Pool.Config().ConnConfig
	address := url.URL{Scheme: "postgres", Path: "/" + name, RawQuery: url.Values{"host": {config.Host}, "port": {strconv.Itoa(int(config.Port))}, "options": {"--role=" + name}}.Encode(), User: url.UserPassword(config.User, config.Password)}
	theirs, err := db.Open(t.Context(), db.Config{URL: address.String(), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := theirs.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var special bool
	var found int
	if err := theirs.Pool.QueryRow(t.Context(), `select rolsuper, (select count(*) from pg_extension where extname in ('unaccent', 'pg_trgm')) from pg_roles where rolname = current_user`).Scan(&special, &found); err != nil || special || found != 2 {
		t.Errorf("superuser %v, %d extensions, %v", special, found, err)
	}
}
