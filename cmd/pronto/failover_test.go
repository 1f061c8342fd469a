package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/private"
	"github.com/pronto-desk/pronto/tickets"
)

// cluster is a PostgreSQL of this test: one with a standby that has every commit.
type cluster struct {
	t        testing.TB
	primary  string // directory of each
	standby  string
	password string
	owner    *syscall.Credential // PostgreSQL refuses to be root
}

// unsafely trades safety after a power cut for speed: only processes die here.
var unsafely = map[string]string{"fsync": "off", "full_page_writes": "off"}

// newCluster starts a primary and a synchronous standby of it.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, primary: dataDir(t), standby: dataDir(t)}
	pg, err := private.Start(context.Background(), private.Config{Dir: c.primary, Log: slog.New(slog.DiscardHandler), Settings: unsafely})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Stop() })
	password, err := os.ReadFile(filepath.Join(c.primary, "pg.password"))
	if err != nil {
		t.Fatal(err)
	}
	c.password = strings.TrimSpace(string(password))
	info, err := os.Stat(c.socket(c.primary))
	if err != nil {
		t.Fatal(err)
	}
	sys := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() == 0 {
		c.owner = &syscall.Credential{Uid: sys.Uid, Gid: sys.Gid}
	}
	copying := c.command("pg_basebackup", "-h", c.socket(c.primary), "-U", "pronto", "-D", c.socket(c.standby), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	copying.SysProcAttr.Credential = nil // it makes its directory in ours
	if out, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	err = filepath.WalkDir(c.socket(c.standby), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(sys.Uid), int(sys.Gid)))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, stale := range []string{".s.PGSQL.5432", ".s.PGSQL.5432.lock"} { // copied with the rest
		if err := os.Remove(filepath.Join(c.socket(c.standby), stale)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	log := new(tail)
	server := c.command("postgres", "-D", ".", "-c", "listen_addresses=", "-c", "unix_socket_directories=.", "-c", "port=5432", "-c", "fsync=off")
	server.Dir, server.Stderr = c.socket(c.standby), log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // immediate
		_ = server.Wait()
		if t.Failed() {
			t.Logf("the standby said:\n%s", log)
		}
	})
	within(t, 60*time.Second, "the standby to follow", func() error {
		return c.ask(c.primary, `select count(*) = 1 from pg_stat_replication where state = 'streaming'`)
	})
	// From now on a commit is acknowledged when the standby has it, too.
	for _, sql := range []string{`alter system set synchronous_standby_names = '*'`, `select pg_reload_conf()`} {
		if err := c.exec(c.primary, sql); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 60*time.Second, "the standby to be synchronous", func() error {
		return c.ask(c.primary, `select count(*) = 1 from pg_stat_replication where sync_state = 'sync'`)
	})
	return c
}

func (c *cluster) socket(dir string) string { return filepath.Join(dir, "pg") }

// command is a program of the PostgreSQL that made the primary.
func (c *cluster) command(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	version, err := os.ReadFile(filepath.Join(c.socket(c.primary), "PG_VERSION"))
	if err != nil {
		c.t.Fatal(err)
	}
	dir := os.Getenv("PG_BIN")
	if dir == "" {
		dir = filepath.Join("/usr/lib/postgresql", strings.TrimSpace(string(version)), "bin")
	}
	cmd := exec.Command(filepath.Join(dir, name), args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PGPASSWORD="+c.password)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
	return cmd
}

// url is the address of the one of these that takes writes.
func (c *cluster) url(dirs ...string) string {
	var hosts, ports []string
	for _, dir := range dirs {
		hosts, ports = append(hosts, c.socket(dir)), append(ports, "5432")
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("pronto", c.password), Path: "/pronto", RawQuery: url.Values{
		"host": {strings.Join(hosts, ",")}, "port": {strings.Join(ports, ",")}, "sslmode": {"disable"}, "target_session_attrs": {"read-write"},
	}.Encode()}
	return u.String()
}

func (c *cluster) connect(dir string) (*pgx.Conn, error) {
	return pgx.Connect(context.Background(), strings.Replace(c.url(dir), "read-write", "any", 1))
}

func (c *cluster) exec(dir, sql string) error {
	conn, err := c.connect(dir)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), sql)
	return err
}

// ask is an error unless a question is answered with true.
func (c *cluster) ask(dir, sql string) error {
	conn, err := c.connect(dir)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	var yes bool
	if err := conn.QueryRow(context.Background(), sql).Scan(&yes); err != nil {
		return err
	}
	if !yes {
		return fmt.Errorf("not so: %s", sql)
	}
	return nil
}

// failOver kills the primary, as a power cut would, and promotes the standby.
func (c *cluster) failOver() {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.socket(c.primary), "postmaster.pid"))
	if err != nil {
		c.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	if err := c.exec(c.standby, `select pg_promote()`); err != nil {
		c.t.Fatal(err)
	}
}

// TestDatabaseFailsOver kills the primary in the middle of a talk and of a wait:
// both go on, every row that was acknowledged is there, new callers are served as
// before, and the waiting one when the operator is free.
func TestDatabaseFailsOver(t *testing.T) {
	pg := newCluster(t)
	s := newServer(t, func(s *server) { s.env = []string{"DATABASE_URL=" + pg.url(pg.primary, pg.standby)} })
	sippPhones(t, s, sippDir(t), 1, 10*time.Minute)
	k := newRawTrunk(t, s.sip)
	talking := asks(t, k)
	s.contactOf(talking.id, "the talk", func(c tickets.Record) bool { return c.Tc != nil })
	waiting := asks(t, k)
	before := s.contactOf(waiting.id, "the caller to wait", func(c tickets.Record) bool { return c.Tq != nil })

	pg.failOver()
	since := time.Now()
	within(t, 60*time.Second, "calls to be answered as before", func() error {
		if !s.isReady() {
			return errors.New("not ready")
		}
		return nil
	})
	t.Logf("ready %.1f s after the standby was promoted", time.Since(since).Seconds())
	third := asks(t, k)
	s.contactOf(third.id, "a new caller to wait", func(c tickets.Record) bool { return c.Tq != nil })
	for _, c := range []*rawCall{talking, waiting} {
		select {
		case <-c.bye:
			t.Errorf("%s was hung up", c.id)
		default:
		}
	}
	after := s.contactOf(waiting.id, "the waiting caller", func(tickets.Record) bool { return true })
	if after.Ending != nil || *after.Ticket != *before.Ticket || !strings.HasPrefix(kinds(after), kinds(before)) {
		t.Errorf("before: %s, ticket %s; after: %s, ticket %s", kinds(before), *before.Ticket, kinds(after), *after.Ticket)
	}
	within(t, 60*time.Second, "the listener and the leader to be there", func() error {
		return errors.Join(pg.ask(pg.standby, `select exists (select from pg_stat_activity where query = 'listen pronto')`),
			pg.ask(pg.standby, `select exists (select from pg_locks where locktype = 'advisory' and classid = 1886547822 and objid = 2 and granted)`))
	})
	if err := talking.hangUp(); err != nil {
		t.Error(err)
	}
	s.contactOf(talking.id, "the talk to have its ending", func(c tickets.Record) bool { return endingOf(c) == "served" })
	s.contactOf(waiting.id, "the waiting caller to be served", func(c tickets.Record) bool { return c.Tc != nil })
}
