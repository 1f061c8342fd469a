package db

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pipeline is a transaction that spares rounds. BEGIN travels with its first
// statement, what was left for later with the next, and COMMIT with the last: each
// round is two changes of process, and all that the transaction has locked is
// locked for so much longer.
type pipeline struct {
	conn  *pgxpool.Conn
	tx    pgx.Tx     // nil: not begun yet
	later []leftover // to be sent with what comes next
}

// leftover is a statement that was left for later.
type leftover struct {
	query *pgx.QueuedQuery
	read  func(error) error // what an error of it means; nil: itself
}

// begin begins at once, for what cannot travel in a batch.
func (p *pipeline) begin(ctx context.Context) (err error) {
	if p.tx == nil {
		if p.tx, err = p.conn.Conn().Begin(ctx); err != nil {
			return err
		}
	}
	return p.flush(ctx)
}

// flush sends what was left for later, alone.
func (p *pipeline) flush(ctx context.Context) error {
	if len(p.later) == 0 {
		return nil
	}
	return p.SendBatch(ctx, &pgx.Batch{}).Close()
}

// plain says that nothing travels with the next statement. What a lost connection
// says is its own affair, and not that the transaction is over.
func (p *pipeline) plain() bool {
	return p.tx != nil && len(p.later) == 0 && !p.conn.Conn().IsClosed()
}

// SendBatch sends BEGIN, what was left for later and b in one round.
func (p *pipeline) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	for _, query := range b.QueuedQueries {
		remembered(query.Arguments)
	}
	if p.plain() {
		return p.tx.SendBatch(ctx, b)
	}
	var all pgx.Batch
	ahead := p.later
	p.later = nil
	begins := p.tx == nil
	if begins {
		all.BeginTx(pgx.TxOptions{})
	}
	for _, l := range ahead {
		remembered(l.query.Arguments)
		all.QueuedQueries = append(all.QueuedQueries, l.query)
	}
	all.QueuedQueries = append(all.QueuedQueries, b.QueuedQueries...)
	results := p.conn.Conn().SendBatch(ctx, &all)
	if begins {
		p.tx = results.Tx()
		if _, err := results.Exec(); err != nil {
			return broken(results, err)
		}
	}
	for _, l := range ahead {
		err := readResult(results, l.query)
		if err != nil && l.read != nil {
			err = l.read(err)
		}
		if err != nil {
			return broken(results, err)
		}
	}
	return results
}

// readResult takes the next result, which is that of a query.
func readResult(results pgx.BatchResults, query *pgx.QueuedQuery) error {
	if query.Fn != nil {
		return query.Fn(results)
	}
	_, err := results.Exec()
	return err
}

// broken closes results and says err wherever it is asked.
func broken(results pgx.BatchResults, err error) pgx.BatchResults {
	_ = results.Close() // the same error, or none: err is what there is to say
	return pgx.FailedBatchResults(&pgx.Batch{}, err)
}

// one sends a single statement with what stands before it.
func (p *pipeline) one(ctx context.Context, sql string, args []any) pgx.BatchResults {
	var b pgx.Batch
	b.Queue(sql, args...)
	return p.SendBatch(ctx, &b)
}

func (p *pipeline) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if p.plain() {
		return p.tx.Exec(ctx, sql, remembered(args)...)
	}
	results := p.one(ctx, sql, args)
	tag, err := results.Exec()
	if closed := results.Close(); err == nil {
		err = closed
	}
	return tag, err
}

func (p *pipeline) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if p.plain() {
		return p.tx.Query(ctx, sql, remembered(args)...)
	}
	results := p.one(ctx, sql, args)
	rows, err := results.Query()
	if err != nil {
		_ = results.Close()
		return rows, err
	}
	return &batchRows{Rows: rows, results: results}, nil
}

func (p *pipeline) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if p.plain() {
		return p.tx.QueryRow(ctx, sql, remembered(args)...)
	}
	results := p.one(ctx, sql, args)
	return &batchRow{results.QueryRow(), results}
}

// batchRows are the rows of a batch that ends with them.
type batchRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

// Next ends the batch after the last row: whoever reads to the end need not close.
func (r *batchRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close ends rows and batch.
func (r *batchRows) Close() {
	r.Rows.Close()
	r.err = r.results.Close()
}

// Err is what went wrong, once the rows are read or closed.
func (r *batchRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// batchRow is the one row of a batch that ends with it.
type batchRow struct {
	row     pgx.Row
	results pgx.BatchResults
}

// Scan reads the row and ends the batch.
func (r *batchRow) Scan(into ...any) error {
	err := r.row.Scan(into...)
	if closed := r.results.Close(); err == nil {
		err = closed
	}
	return err
}

// Commit sends what was left for later and COMMIT in one round. A transaction in
// which nothing was said needs none.
func (p *pipeline) Commit(ctx context.Context) error {
	if p.tx == nil && len(p.later) == 0 {
		return nil
	}
	if p.plain() {
		return p.tx.Commit(ctx)
	}
	results := p.one(ctx, "commit", nil)
	tag, err := results.Exec()
	if closed := results.Close(); err == nil {
		err = closed
	}
	if err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// Rollback takes everything back that was not committed.
func (p *pipeline) Rollback(ctx context.Context) error {
	p.later = nil
	conn := p.conn.Conn()
	if conn.IsClosed() || conn.PgConn().TxStatus() == outsideTx {
		return nil
	}
	_, err := conn.Exec(ctx, "rollback")
	if err != nil {
		err = errors.Join(err, conn.Close(ctx)) // nobody knows where it stands
	}
	return err
}

// outsideTx is what the protocol says of a connection without a transaction.
const outsideTx = 'I'

func (p *pipeline) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	return p.tx.Begin(ctx)
}

func (p *pipeline) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := p.begin(ctx); err != nil {
		return 0, err
	}
	return p.tx.CopyFrom(ctx, table, columns, rows)
}

func (p *pipeline) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	return p.tx.Prepare(ctx, name, sql)
}

// LargeObjects is not for us.
func (p *pipeline) LargeObjects() pgx.LargeObjects { panic("nothing here is a large object") }

func (p *pipeline) Conn() *pgx.Conn { return p.conn.Conn() }
