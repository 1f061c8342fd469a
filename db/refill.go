package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"
)

// telling are the tables that hold people's work: where all are empty, nothing
// can be lost. What a migration itself writes into others is made again.
var telling = []string{"users", "services", "customers", "tickets", "contacts", "recordings", "journal"}

// Holdings counts the rows of the tables that hold people's work, those without
// any left out: an empty list is an empty desk, or none yet.
func (d *DB) Holdings(ctx context.Context) ([]Table, error) {
	var found []Table
	for _, name := range telling {
		var there bool
		if err := d.Pool.QueryRow(ctx, `select to_regclass($1) is not null`, name).Scan(&there); err != nil {
			return nil, fmt.Errorf("look for %s: %w", name, err)
		}
		if !there {
			continue
		}
		t := Table{Name: name}
		if err := d.Pool.QueryRow(ctx, `select count(*) from `+name).Scan(&t.Rows); err != nil {
			return nil, fmt.Errorf("count %s: %w", name, err)
		}
		if t.Rows > 0 {
			found = append(found, t)
		}
	}
	return found, nil
}

// Refill puts a backup's rows in the place of whatever its tables hold, in one
// transaction: all of it, or nothing. The schema must be the backup's. read gives
// a table's rows as Snapshot.Copy wrote them; check looks at the whole before it
// is committed.
func (d *DB) Refill(ctx context.Context, list []Table, sequences []Sequence, read func(Table) (io.ReadCloser, error), check func(ctx context.Context, tx pgx.Tx) error) error {
	conn, err := d.alone(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(ctx) // after a commit it does nothing, and the connection is closed anyway
	if err := fits(ctx, tx, list); err != nil {
		return err
	}
	rebuild, err := bare(ctx, tx)
	if err != nil {
		return err
	}
	for _, t := range list {
		if err := fill(ctx, tx, t, read); err != nil {
			return err
		}
	}
	for _, s := range sequences {
		if s.Last == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, `select setval($1::text::regclass, $2)`, pgx.Identifier{s.Name}.Sanitize(), s.Last); err != nil {
			return fmt.Errorf("set sequence %s: %w", s.Name, err)
		}
	}
	for _, sql := range rebuild {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if err := check(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if _, err := conn.Exec(ctx, `analyze`); err != nil { // or the first searches guess
		d.log.Warn("the restored tables could not be analysed", "err", err)
	}
	return nil
}

// fits tells whether the tables here are those of the backup.
func fits(ctx context.Context, tx pgx.Tx, list []Table) error {
	here, err := tables(ctx, tx)
	if err != nil {
		return err
	}
	columns := map[string][]string{}
	for _, t := range here {
		columns[t.Name] = t.Columns
	}
	for _, t := range list {
		have, ok := columns[t.Name]
		if !ok {
			return fmt.Errorf("the backup has a table %s that this schema has not", t.Name)
		}
		for _, c := range t.Columns {
			if !slices.Contains(have, c) {
				return fmt.Errorf("the backup's table %s has a column %s that this schema has not", t.Name, c)
			}
		}
		delete(columns, t.Name)
	}
	for name := range columns {
		return fmt.Errorf("the backup has no table %s", name)
	}
	return nil
}

// bare takes away what would be worked out row by row (foreign keys, indexes but
// for primary keys, triggers) and every row, and returns the statements
// that bring it back. Keys are checked again as they come back, so a backup that
// contradicts itself is refused.
func bare(ctx context.Context, tx pgx.Tx) (rebuild []string, err error) {
	rows, err := tx.Query(ctx, `
		select format('alter table %s drop constraint %I', conrelid::regclass, conname),
			format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)),
			case contype when 'f' then 2 else 1 end as place
		from pg_constraint where contype in ('f', 'u') and connamespace = current_schema()::regnamespace
		union all
		select format('drop index %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid), 1
		from pg_index i join pg_class c on c.oid = i.indrelid
		where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and not i.indisprimary
			and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
		union all
		select format('alter table %s disable trigger user', c.oid::regclass), format('alter table %s enable trigger user', c.oid::regclass), 3
		from pg_class c where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
			and exists (select from pg_trigger g where g.tgrelid = c.oid and not g.tgisinternal)
		union all
		select 'truncate ' || string_agg(c.oid::regclass::text, ', '), '', 0
		from pg_class c where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relname <> $1
		order by place desc`, versionTable)
	if err != nil {
		return nil, fmt.Errorf("read keys and indexes: %w", err)
	}
	type pair struct {
		Away, Back string
		Place      int
	}
	pairs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pair])
	if err != nil {
		return nil, fmt.Errorf("read keys and indexes: %w", err)
	}
	for _, p := range pairs {
		if _, err := tx.Exec(ctx, p.Away); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Away, err)
		}
		if p.Back != "" {
			rebuild = append(rebuild, p.Back)
		}
	}
	slices.Reverse(rebuild) // indexes, then the keys that use them, then triggers
	return rebuild, nil
}

// fill copies the rows of one table.
func fill(ctx context.Context, tx pgx.Tx, t Table, read func(Table) (io.ReadCloser, error)) error {
	r, err := read(t)
	if err != nil {
		return err
	}
	defer r.Close()
	done, err := tx.Conn().PgConn().CopyFrom(ctx, r, "copy "+t.list()+" from stdin")
	if err != nil {
		return fmt.Errorf("fill %s: %w", t.Name, err)
	}
	if done.RowsAffected() != t.Rows {
		return fmt.Errorf("fill %s: %d rows came, the backup has %d", t.Name, done.RowsAffected(), t.Rows)
	}
	return nil
}

// ErrNewerSchema is a backup of a program newer than this one.
var ErrNewerSchema = errors.New("the backup is of a newer version of Pronto than this one")

// MigrateTo brings an empty database to a version of the schema, up or down.
func (d *DB) MigrateTo(ctx context.Context, version int64) error {
	provider, done, err := d.provider()
	if err != nil {
		return err
	}
	defer done()
	now, newest, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	switch {
	case version > newest:
		return ErrNewerSchema
	case now > version:
		_, err = provider.DownTo(ctx, version)
	default:
		_, err = provider.UpTo(ctx, version)
	}
	if err != nil {
		return fmt.Errorf("migrate to version %d: %w", version, err)
	}
	return nil
}
