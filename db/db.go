// Package db is the desk's one PostgreSQL: the pool, its schema, transactions
// that wake those who wait for their effect, and the answer to "is it there".
package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	defaultMaxConns = 20               // fewer than PostgreSQL's own 100, enough for 20 calls/s of short transactions
	keptConns       = 4                // that stay open through a quiet night, for the first call of the morning
	listConns       = 4                // for lists and searches
	connectTimeout  = 2 * time.Second  // a caller waits behind this: longer is the same as away
	healthPeriod    = 30 * time.Second // idle connections are looked at this often
	ageJitter       = 10 * time.Minute // connections that began together do not all end at the hour, in the middle of a call
	txLongest       = 10 * time.Second // a transaction whose caller set no deadline
	endLongest      = 5 * time.Second  // COMMIT and ROLLBACK, which no hang-up may cut short
	txTries         = 4                // the first and three more after 40001 or 40P01

	// PostgreSQL's plan_cache_mode: a statement is planned once, or for its values each time.
	genericPlans = "force_generic_plan"
	customPlans  = "force_custom_plan"

	// Its enable_seqscan: whether a table may be read through where an index would do.
	byCost  = "on"
	byIndex = "off"

	// What the server itself breaks off, in case our side is stuck or gone.
	statementTimeout = "30000" // ms
	idleTxTimeout    = "30000" // ms
)

// Config says where the database is.
type Config struct {
	URL      string       // postgres://…, or keywords and values
	MaxConns int32        // upper bound of Pool; 0: 20. Lists has 4 more
	Log      *slog.Logger // nil: slog.Default()
}

// DB is the connections and the wake-ups of one process.
//
// What calls, operators and clocks ask goes through Pool: the same statements over
// and over, planned once on a connection and not for their values. Lists and
// searches, whose best plan depends on what is looked for, go through Lists, are
// planned each time, and however slow they are, no call waits behind them.
type DB struct {
	Pool    *pgxpool.Pool
	Lists   *pgxpool.Pool
	Wakeups *Wakeups

	url  string
	log  *slog.Logger
	self string // marks our own notifications, so that Listen leaves them out

	mu  sync.Mutex // guards own
	own []*pgxpool.Pool
}

// Open makes the pools. The server need not be there yet: connections are made
// when they are needed. Only a URL that cannot be read is an error.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.MaxConns <= 0 {
		c.MaxConns = defaultMaxConns
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	pool, err := open(ctx, c.URL, genericPlans, min(keptConns, c.MaxConns), c.MaxConns, byCost)
	if err != nil {
		return nil, err
	}
	lists, err := open(ctx, c.URL, customPlans, 0, listConns, byCost)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &DB{Pool: pool, Lists: lists, Wakeups: newWakeups(), url: c.URL, log: c.Log, self: newSelf()}, nil
}

// Own is the same database by a connection of one's own, for who must not wait
// behind a burst of calls, nor for a connection that has not planned its few
// statements yet. What it asks names few rows, by an index: a plan that reads a
// table through, made when that was empty, would only grow slower with the day. It
// is closed with d.
func (d *DB) Own() *DB {
	pool, err := open(context.Background(), d.url, genericPlans, 0, 1, byIndex) // connects when it is needed
	if err != nil {
		panic(err) // Open has read the same address
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own = append(d.own, pool)
	return &DB{Pool: pool, Lists: d.Lists, Wakeups: d.Wakeups, url: d.url, log: d.log, self: d.self}
}

// open makes a pool of at least and at most so many connections, on which
// statements are planned in one way (PostgreSQL's plan_cache_mode and enable_seqscan).
func open(ctx context.Context, url, plans string, least, most int32, seqscan string) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the database's address: %w", err)
	}
	pc.MinConns, pc.MaxConns = least, most
	if plans == customPlans { // who asks for a list is not told that the database is away because a connection has died since
		pc.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	}
	pc.HealthCheckPeriod, pc.MaxConnLifetimeJitter = healthPeriod, ageJitter
	pc.AfterConnect = knowUUIDs
	if pc.ConnConfig.ConnectTimeout == 0 || pc.ConnConfig.ConnectTimeout > connectTimeout {
		pc.ConnConfig.ConnectTimeout = connectTimeout
	}
	params := pc.ConnConfig.RuntimeParams
	params["timezone"] = "UTC"
	setDefault(params, "application_name", "pronto")
	setDefault(params, "statement_timeout", statementTimeout)
	setDefault(params, "idle_in_transaction_session_timeout", idleTxTimeout)
	setDefault(params, "plan_cache_mode", plans)
	setDefault(params, "enable_seqscan", seqscan)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("make the pool: %w", err)
	}
	return pool, nil
}

func setDefault(params map[string]string, key, value string) {
	if _, set := params[key]; !set {
		params[key] = value
	}
}

// Close gives up the connections once they are back.
func (d *DB) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, pool := range d.own {
		pool.Close()
	}
	d.Lists.Close()
	d.Pool.Close()
}

// Tx is one transaction and the topics that its commit will wake. It begins with
// its first statement.
type Tx struct {
	pgx.Tx
	pipe     *pipeline // the same
	db       *DB
	topics   []string
	notified int // so many of the topics travel already
	gathered []gathering
}

// gathering is what was gathered for one statement.
type gathering struct {
	sql  string
	rows []any
	args func(rows []any) []any
	read func(error) error
}

// Wake notes topics: with the commit the other nodes hear of them, after it this
// process does. A wake-up says "look again", never what happened.
func (t *Tx) Wake(topics ...string) { t.topics = append(t.topics, topics...) }

// Mark is now, before whatever this transaction commits.
func (t *Tx) Mark() Mark { return t.db.Wakeups.Mark() }

// Later leaves statements for the round of whatever this transaction says next: its
// COMMIT, if nothing else. So their errors come with that; read (nil: none) makes of
// them what they mean here. What follows from a result cannot be left: send it.
func (t *Tx) Later(b *pgx.Batch, read func(error) error) {
	for _, query := range b.QueuedQueries {
		t.pipe.later = append(t.pipe.later, leftover{query, read})
	}
}

// Gather leaves rows for a statement that comes with the COMMIT, once for all that
// was gathered for it: args makes its arguments of them. read is as Later's. Nothing
// of this transaction sees what the statement does.
func (t *Tx) Gather(sql string, rows []any, args func(rows []any) []any, read func(error) error) {
	for i := range t.gathered {
		if t.gathered[i].sql == sql {
			t.gathered[i].rows = append(t.gathered[i].rows, rows...)
			return
		}
	}
	t.gathered = append(t.gathered, gathering{sql, rows, args, read})
}

// leaveGathered leaves the statements for what was gathered.
func (t *Tx) leaveGathered() {
	for _, g := range t.gathered {
		var b pgx.Batch
		b.Queue(g.sql, g.args(g.rows)...)
		t.Later(&b, g.read)
	}
}

// What other nodes hear is one notification, unless it would be too long for one:
// PostgreSQL takes 8000 bytes.
const (
	notifySQL     = `select pg_notify('pronto', $1)`
	notifyLongest = 7000
)

// Notify puts what the other nodes will hear at the commit into a batch, so that
// it needs no round of its own. Topics noted after it still have theirs.
func (t *Tx) Notify(b *pgx.Batch) {
	topics := distinct(t.topics[t.notified:])
	t.notified = len(t.topics)
	if t.db.Wakeups.untold.Load() == toldOften {
		return // nobody listens but ourselves
	}
	for len(topics) > 0 {
		said := t.db.self
		for len(topics) > 0 && (said == t.db.self || len(said)+len(topics[0]) < notifyLongest) {
			said, topics = said+" "+topics[0], topics[1:]
		}
		b.Queue(notifySQL, said).Exec(func(pgconn.CommandTag) error { return nil })
	}
}

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
	conn, err := d.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer conn.Release()
	pipe := &pipeline{conn: conn}
	tx := &Tx{Tx: pipe, pipe: pipe, db: d}
	committed := false
	defer func() { // also when fn panics
		if !committed {
			endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLongest)
			defer cancel()
			_ = pipe.Rollback(endCtx) // a connection that cannot roll back is closed: the same to us
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
	tx.leaveGathered()
	var end pgx.Batch
	tx.Notify(&end)
	tx.Later(&end, nil)
	deadline, _ := ctx.Deadline() // what was left for the COMMIT travels with it, and has as long as the rest
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(endLongest, time.Until(deadline)))
	defer cancel()
	err = pipe.Commit(endCtx)
	committed = err == nil
	// Also after a COMMIT whose answer was lost: it may have happened, and
	// looking again costs nothing.
	d.Wakeups.Wake(distinct(tx.topics)...)
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

// Accompanied tells whether Alongside has left something in ctx: its transaction
// is not to be shared with others.
func Accompanied(ctx context.Context) bool { return ctx.Value(alongsideKey{}) != nil }

// clashed tells whether the same transaction may succeed when it is run again.
func clashed(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "40001" || pe.Code == "40P01") // serialization_failure, deadlock_detected
}
