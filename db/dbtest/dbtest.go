// Package dbtest gives each test a fresh, migrated database: a clone of a template
// on a PostgreSQL server that ends with the test binary.
package dbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/private"
)

const (
	serverVar    = "TEST_DATABASE_URL" // a server to use instead of a private one; its user may create databases
	slots        = 64                  // test binaries of one user at the same time
	stepLongest  = 2 * time.Minute     // to start the server, or to clone: on a machine that is busy with other tests
	closeLongest = 10 * time.Second
	poolSize     = 8              // connections of one test
	templateKey  = 0x70726f6e746f // advisory lock while a template is made: "pronto"
	namePrefix   = "pronto_test_"
)

// settings trade safety after a power cut, which no test looks at, for speed.
var settings = map[string]string{
	"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
	"max_connections": "300", "shared_buffers": "64MB", "autovacuum": "off",
	"wal_level": "minimal", "max_wal_senders": "0",
}

// server is the one of this test binary.
type server struct {
	admin    string // address of a database from which others are created
	template string
	how      string     // of cloning
	clone    sync.Mutex // one clone at a time: PostgreSQL refuses a template that is in use
}

var start = sync.OnceValues(open)

// New opens a fresh migrated database. It is closed and dropped at the end of the
// test, whatever the test leaves connected. Inside a synctest bubble open the
// address of URL, taken before the bubble, with db.Open.
func New(t testing.TB) *db.DB {
	t.Helper()
	address := URL(t)
	d, err := db.Open(t.Context(), db.Config{URL: address, MaxConns: poolSize, Log: quiet})
	if err != nil {
		t.Fatalf("open a test database: %v", err)
	}
	t.Cleanup(func() { // before the drop, which was registered first
		closed := make(chan struct{})
		go func() { d.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(closeLongest):
			t.Errorf("the test kept a connection: a transaction was not ended, or rows not closed")
		}
	})
	return d
}

// URL is the address of a fresh migrated database that is dropped at the end of
// the test. Call it outside synctest bubbles.
func URL(t testing.TB) string {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatalf("start the test database server: %v", err)
	}
	name := namePrefix + strconv.Itoa(os.Getpid()) + "_" + strings.ToLower(rand.Text()[:10])
	if err := s.create(name); err != nil {
		t.Fatalf("make a test database: %v", err)
	}
	t.Cleanup(func() {
		if err := s.exec("drop database " + name + " with (force)"); err != nil {
			t.Errorf("drop a test database: %v", err)
		}
	})
	return in(s.admin, name)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// open finds or starts the server and makes the template.
func open() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stepLongest)
	defer cancel()
	s := &server{admin: os.Getenv(serverVar), template: "pronto_template_" + db.SchemaHash()[:16]}
	if s.admin != "" {
		return s, s.prepare(ctx)
	}
	p, err := startPrivate(ctx)
	if err != nil {
		return nil, err
	}
	s.admin = in(p.URL(), "postgres")
	if err := s.dropOld(ctx); err != nil {
		return nil, err
	}
	return s, s.prepare(ctx)
}

// startPrivate starts the server of the first directory that no other test binary
// uses. It dies with this binary; its directory stays, so that the next one finds
// cluster and template ready.
func startPrivate(ctx context.Context) (*private.Server, error) {
	base := filepath.Join(os.TempDir(), fmt.Sprintf("pronto-test-%d", os.Getuid()))
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	for n := range slots {
		dir := filepath.Join(base, strconv.Itoa(n))
		p, err := private.Start(ctx, private.Config{Dir: dir, Log: quiet, Settings: settings})
		if errors.Is(err, private.ErrInUse) {
			continue
		}
		var setup *private.SetupError
		if err == nil || errors.As(err, &setup) || ctx.Err() != nil {
			return p, err
		}
		// What a power cut left without fsync is nothing to keep. Only the
		// cluster goes: the lock's file must stay where others look for it.
		if err := os.RemoveAll(filepath.Join(dir, "pg")); err != nil {
			return nil, err
		}
		if p, err = private.Start(ctx, private.Config{Dir: dir, Log: quiet, Settings: settings}); !errors.Is(err, private.ErrInUse) {
			return p, err
		}
	}
	return nil, fmt.Errorf("%d test binaries are running in %s", slots, base)
}

// prepare makes the template unless it is there. Several binaries may share a
// server that was given to them.
func (s *server) prepare(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// PostgreSQL 15 would write every page to the log, 10 times slower than
	// copying files, which is all that older ones know.
	if err := conn.QueryRow(ctx, `select case when current_setting('server_version_num')::int >= 150000 then ' strategy file_copy' else '' end`).Scan(&s.how); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", int64(templateKey)); err != nil {
		return err
	}
	defer conn.Exec(ctx, "select pg_advisory_unlock($1)", int64(templateKey))
	var made bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", s.template).Scan(&made); err != nil || made {
		return err
	}
	// Renamed when it is whole, like the cluster itself.
	raw := s.template + "_new"
	if _, err := conn.Exec(ctx, "drop database if exists "+raw+" with (force)"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "create database "+raw+" template template0 encoding 'UTF8' locale 'C.UTF-8'"); err != nil {
		return err
	}
	d, err := db.Open(ctx, db.Config{URL: in(s.admin, raw), Log: quiet})
	if err != nil {
		return err
	}
	err = d.Migrate(ctx)
	d.Close()
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "alter database "+raw+" rename to "+s.template)
	return err
}

// dropOld removes what killed test binaries and former schemas left in a server
// that is ours alone.
func (s *server) dropOld(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select datname from pg_database where datname like 'pronto\\_t%' and datname <> $1", s.template)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, "drop database "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) create(name string) error {
	s.clone.Lock()
	defer s.clone.Unlock()
	return s.exec("create database " + name + " template " + s.template + s.how)
}

// exec runs one statement on a connection of its own: none is left that could
// belong to a bubble, or to a test that is over.
func (s *server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepLongest)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// in is the same address with another database.
func in(address, name string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" { // keywords and values: the last one counts
		return address + " dbname=" + name
	}
	u.Path = "/" + name
	return u.String()
}
