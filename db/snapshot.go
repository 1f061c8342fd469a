package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	backupKey    = 0x70726f6e746f6263 // advisory lock of a backup or a restore: "prontobc"
	versionTable = "goose_db_version" // the migrations' own, which a restore makes by migrating
	closeLongest = 5 * time.Second    // saying goodbye to a connection of our own
)

// ErrBackupRuns is a backup or a restore that found another at work.
var ErrBackupRuns = errors.New("another backup or restore of this database is running")

// ErrNoDesk is a database in which no desk was ever made.
var ErrNoDesk = errors.New("the database holds no desk yet")

// Table is a table as a backup keeps it: the columns that are written, not those
// that the database works out.
type Table struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
}

// Sequence is a counter and the last number it gave; 0: none yet.
type Sequence struct {
	Name string `json:"name"`
	Last int64  `json:"last"`
}

// Snapshot is everything the database holds at one instant, read by COPY in one
// transaction: pg_dump would have to be there, and be of the server's version.
// It has a connection of its own and holds nothing up but the schema.
type Snapshot struct {
	Schema    int64  // version of the schema
	Server    string // of PostgreSQL
	Tables    []Table
	Sequences []Sequence

	conn *pgx.Conn
}

// Snapshot begins one. Close ends it. ErrBackupRuns: somebody else has one.
func (d *DB) Snapshot(ctx context.Context) (s *Snapshot, err error) {
	conn, err := d.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeConn(ctx, conn)
		}
	}()
	if _, err := conn.Exec(ctx, `begin isolation level repeatable read, read only`); err != nil {
		return nil, fmt.Errorf("begin the snapshot: %w", err)
	}
	s = &Snapshot{conn: conn}
	err = conn.QueryRow(ctx, `select coalesce(max(version_id), 0), current_setting('server_version') from `+versionTable).Scan(&s.Schema, &s.Server)
	var pe *pgconn.PgError
	switch {
	case errors.As(err, &pe) && pe.Code == "42P01", err == nil && s.Schema == 0: // undefined_table
		return nil, ErrNoDesk
	case err != nil:
		return nil, fmt.Errorf("read the schema's version: %w", err)
	}
	if s.Tables, err = tables(ctx, conn); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, `select sequencename::text as name, coalesce(last_value, 0) as last from pg_sequences
		where schemaname = current_schema() and sequencename not like '`+versionTable+`%' order by 1`)
	if err != nil {
		return nil, fmt.Errorf("list sequences: %w", err)
	}
	if s.Sequences, err = pgx.CollectRows(rows, pgx.RowToStructByName[Sequence]); err != nil {
		return nil, fmt.Errorf("list sequences: %w", err)
	}
	return s, nil
}

// alone is a connection beside the pool, on which nothing is too long, and which
// says and reads values as every version of PostgreSQL does. It has the lock that
// makes it the only one at such work, in this process or any other.
func (d *DB) alone(ctx context.Context) (*pgx.Conn, error) {
	config := d.Pool.Config().ConnConfig.Copy()
	for name, value := range map[string]string{
		"statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
		"client_encoding": "UTF8", "datestyle": "ISO, YMD", "intervalstyle": "postgres", "bytea_output": "hex", "extra_float_digits": "1",
	} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	var mine bool
	err = conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, int64(backupKey)).Scan(&mine)
	switch {
	case err != nil:
		closeConn(ctx, conn)
		return nil, fmt.Errorf("take the backup's lock: %w", err)
	case !mine:
		closeConn(ctx, conn)
		return nil, ErrBackupRuns
	}
	return conn, nil
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLongest)
	defer cancel()
	_ = conn.Close(ctx) // what it had open is rolled back, its lock is free
}

// tables lists the tables of the schema and their columns. What the database
// works out is left out, and so is the transaction that wrote a row: another
// server counts transactions anew, and readers in the order of commits
// (db/journal) would wait until it has counted as far. Its default gives a
// restored row the transaction that restores it.
func tables(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}) ([]Table, error) {
	rows, err := q.Query(ctx, `select c.relname::text, array_agg(a.attname::text order by a.attnum), 0::bigint
		from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
		where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relname <> $1
			and not a.attisdropped and a.attgenerated = '' and not (a.atttypid = 'xid8'::regtype and a.atthasdef)
		group by 1 order by 1`, versionTable)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Table])
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return list, nil
}

// Query reads in the snapshot, for those who must know what it holds.
func (s *Snapshot) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return s.conn.Query(ctx, sql, args...)
}

// QueryRow reads one row in the snapshot.
func (s *Snapshot) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return s.conn.QueryRow(ctx, sql, args...)
}

// Copy writes a table's rows in PostgreSQL's own text form and returns how many.
func (s *Snapshot) Copy(ctx context.Context, t Table, w io.Writer) (int64, error) {
	done, err := s.conn.PgConn().CopyTo(ctx, w, "copy "+t.list()+" to stdout")
	if err != nil {
		return 0, fmt.Errorf("copy %s: %w", t.Name, err)
	}
	return done.RowsAffected(), nil
}

// Close gives up the snapshot and its lock.
func (s *Snapshot) Close(ctx context.Context) { closeConn(ctx, s.conn) }

// list is the table and its columns as COPY names them.
func (t Table) list() string {
	var columns []string
	for _, c := range t.Columns {
		columns = append(columns, pgx.Identifier{c}.Sanitize())
	}
	return pgx.Identifier{t.Name}.Sanitize() + " (" + strings.Join(columns, ", ") + ")"
}
