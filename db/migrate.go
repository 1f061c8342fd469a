package db

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed schema/*.sql
var schema embed.FS

const (
	lockPoll  = 1   // seconds between two looks at the lock of a node that is migrating
	lockTries = 300 // five minutes
)

// Migrate brings the schema up to date. Several nodes may do it at once: one
// works, the others wait for it.
func (d *DB) Migrate(ctx context.Context) error {
	provider, done, err := d.provider()
	if err != nil {
		return err
	}
	defer done()
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, r := range results {
		d.log.Info("schema migrated", "file", r.Source.Path, "took", r.Duration)
	}
	return nil
}

// provider is what migrates; done gives back its connection.
func (d *DB) provider() (p *goose.Provider, done func(), err error) {
	files, err := fs.Sub(schema, "schema")
	if err != nil {
		return nil, nil, fmt.Errorf("open the schema: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPoll, lockTries))
	if err != nil {
		return nil, nil, fmt.Errorf("make the migration lock: %w", err)
	}
	conn := stdlib.OpenDBFromPool(d.Pool)
	p, err = goose.NewProvider(goose.DialectPostgres, conn, files,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithSlog(d.log), goose.WithVerbose(false))
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("read the schema: %w", err)
	}
	return p, func() { conn.Close() }, nil
}

// SchemaHash names the schema files of this program: two programs with the same
// hash make the same tables.
func SchemaHash() string {
	h := sha256.New()
	entries, err := schema.ReadDir("schema")
	if err != nil {
		panic(err) // embedded: cannot fail
	}
	for _, e := range entries { // sorted by name
		b, err := schema.ReadFile("schema/" + e.Name())
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(h, "%s %d\n", e.Name(), len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}
