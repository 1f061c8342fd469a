// Package db is the desk's one PostgreSQL: the pool, its schema, transactions
// that wake those who wait for their effect, and the answer to "is it there".
package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	defaultMaxConns = 20               // fewer than PostgreSQL's own 100, enough for 20 calls/s of short transactions
	connectTimeout  = 2 * time.Second  // a caller waits behind this: longer is the same as away
	healthPeriod    = 30 * time.Second // idle connections are looked at this often
	txLongest       = 10 * time.Second // a transaction whose caller set no deadline
	endLongest      = 5 * time.Second  // COMMIT and ROLLBACK, which no hang-up may cut short
	txTries         = 4                // the first and three more after 40001 or 40P01

	// What the server itself breaks off, in case our side is stuck or gone.
	statementTimeout = "30000" // ms
	idleTxTimeout    = "30000" // ms
)

// Config says where the database is.
type Config struct {
	URL      string       // postgres://…, or keywords and values
	MaxConns int32        // upper bound of the pool; 0: 20
	Log      *slog.Logger // nil: slog.Default()
}

// DB is the pool and the wake-ups of one process.
type DB struct {
	Pool    *pgxpool.Pool
	Wakeups *Wakeups

	log  *slog.Logger
	self string // marks our own notifications, so that Listen leaves them out
}

// Open makes the pool. The server need not be there yet: connections are made
// when they are needed. Only a URL that cannot be read is an error.
func Open(ctx context.Context, c Config) (*DB, error) {
	pc, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("read the database's address: %w", err)
	}
	pc.MaxConns = c.MaxConns
	if pc.MaxConns <= 0 {
		pc.MaxConns = defaultMaxConns
	}
	pc.HealthCheckPeriod = healthPeriod
	if pc.ConnConfig.ConnectTimeout == 0 || pc.ConnConfig.ConnectTimeout > connectTimeout {
		pc.ConnConfig.ConnectTimeout = connectTimeout
	}
	params := pc.ConnConfig.RuntimeParams
	params["timezone"] = "UTC"
	setDefault(params, "application_name", "pronto")
	setDefault(params, "statement_timeout", statementTimeout)
	setDefault(params, "idle_in_transaction_session_timeout", idleTxTimeout)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("make the pool: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &DB{Pool: pool, Wakeups: newWakeups(), log: c.Log, self: newSelf()}, nil
}

func setDefault(params map[string]string, key, value string) {
	if _, set := params[key]; !set {
		params[key] = value
	}
}

// Close gives up the pool once its connections are back.
func (d *DB) Close() { d.Pool.Close() }

// Tx is one transaction and the topics that its commit will wake.
type Tx struct {
	pgx.Tx
	topics []string
}

// Wake notes topics: with the commit the other nodes hear of them, after it this
// process does. A wake-up says "look again", never what happened.
func (t *Tx) Wake(topics ...string) { t.topics = append(t.topics, topics...) }

// Tx runs fn in one transaction (read committed) and commits unless fn fails.
// After a serialization failure or a deadlock fn runs again, at most four times
// in all, so it must be able to. A hang-up (ctx) ends the work but never cuts a
// COMMIT in two; when ctx has no deadline the transaction has 10 s.
func (d *DB) Tx(ctx context.Context, fn func(tx *Tx) error) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, txLongest)
		defer cancel()
	}
	for try := 1; ; try++ {
		err := d.once(ctx, fn)
		if err == nil || try == txTries || !clashed(err) || ctx.Err() != nil {
			return err
		}
	}
}

func (d *DB) once(ctx context.Context, fn func(tx *Tx) error) error {
	inner, err := d.Pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	tx := &Tx{Tx: inner}
	committed := false
	defer func() { // also when fn panics
		if !committed {
			endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLongest)
			defer cancel()
			_ = inner.Rollback(endCtx) // a connection that cannot roll back is closed by pgx: the same to us
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if beside, ok := ctx.Value(alongsideKey{}).(func(context.Context, *Tx) error); ok {
		if err := beside(ctx, tx); err != nil {
			return fmt.Errorf("alongside: %w", err)
		}
	}
	topics := distinct(tx.topics)
	if len(topics) > 0 {
		if _, err := tx.Exec(ctx, `select pg_notify('pronto', $1 || ' ' || topic) from unnest($2::text[]) topic`, d.self, topics); err != nil {
			return fmt.Errorf("notify: %w", err)
		}
	}
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLongest)
	defer cancel()
	err = inner.Commit(endCtx)
	committed = err == nil
	// Also after a COMMIT whose answer was lost: it may have happened, and
	// looking again costs nothing.
	d.Wakeups.Wake(topics...)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// alongsideKey finds what Alongside left in a context.
type alongsideKey struct{}

// Alongside lets fn be part of every transaction that is made with the returned
// context, just before its commit: what must be true exactly when a change is.
func Alongside(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) context.Context {
	return context.WithValue(ctx, alongsideKey{}, fn)
}

// clashed tells whether the same transaction may succeed when it is run again.
func clashed(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "40001" || pe.Code == "40P01") // serialization_failure, deadlock_detected
}
