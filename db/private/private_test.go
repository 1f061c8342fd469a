package private_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/private"
)

const (
	helperVar = "PRIVATE_TEST_DIR" // set: this process is the helper that serves this directory and is killed
	patience  = time.Minute
)

// lazy is for tests that kill processes, not machines.
var lazy = map[string]string{"fsync": "off"}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestMain is also the process that tests kill: it starts a server, says where,
// and lives until its standard input ends.
func TestMain(m *testing.M) {
	dir := os.Getenv(helperVar)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := private.Start(context.Background(), private.Config{Dir: dir, Log: quiet, Settings: lazy})
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Stop()
}

func start(t *testing.T, dir string) *private.Server {
	t.Helper()
	s, err := private.Start(t.Context(), private.Config{Dir: dir, Log: quiet, Settings: lazy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// ask runs statements, each with one row of one text.
func ask(t *testing.T, url string, statements ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var out []string
	for _, sql := range statements {
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		out = append(out, texts...)
	}
	return out
}

func TestServerKeepsItsDataAndItsDistance(t *testing.T) {
	t.Chdir(t.TempDir())
	began := time.Now()
	s, err := private.Start(t.Context(), private.Config{Dir: "./data", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	t.Logf("first start: %v", time.Since(began))
	got := ask(t, s.URL(), `create table kept (x text)`, `insert into kept values ('here') returning x`,
		`show listen_addresses`, `show data_checksums`, `show default_text_search_config`, `show jit`, `show lc_collate`, `show password_encryption`)
	if want := "[here  on pg_catalog.italian off C.UTF-8 scram-sha-256]"; fmt.Sprint(got) != want {
		t.Errorf("settings are %v, want %s", got, want)
	}
	if _, err := pgx.Connect(t.Context(), strings.Replace(s.URL(), "pronto:", "pronto:x", 1)); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("a wrong password gives %v", err)
	}
	if st, err := os.Stat("data/pg.password"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", st, err)
	}
	if url, ok := private.Attach("data"); !ok || url != s.URL() {
		t.Errorf("attached to %q, %v, want the server's address", url, ok)
	}
	_, err = private.Start(t.Context(), private.Config{Dir: "data", Log: quiet})
	var setup *private.SetupError
	if !errors.Is(err, private.ErrInUse) || !errors.As(err, &setup) {
		t.Errorf("a second server on the directory: %v", err)
	}
	s.Stop()
	s.Stop()
	if url, ok := private.Attach("data"); ok {
		t.Errorf("attached to %q, which is stopped", url)
	}
	began = time.Now()
	again := start(t, "data")
	t.Logf("later start: %v", time.Since(began))
	if got := ask(t, again.URL(), `select x from kept`); got[0] != "here" || again.URL() != s.URL() {
		t.Errorf("kept %v at %s", got, again.URL())
	}
	if _, err := os.Stat("data/pg.initpw"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("initdb's password file is still there: %v", err)
	}
}

// postmaster reads the server's pid.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "pg", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestServerThatIsKilledComesBack(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	ask(t, s.URL(), `create table kept (x text)`, `insert into kept values ('here') returning x`)
	busy, err := pgx.Connect(t.Context(), s.URL()) // an orphan with work to do
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { _, _ = busy.Exec(ctx, `select count(*) from generate_series(1, 100000000)`) })
	for range 2 {
		pid := postmaster(t, dir)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(patience)
		for {
			if got, err := tryAsk(s.URL(), `select x from kept`); err == nil && postmaster(t, dir) != pid {
				if got != "here" {
					t.Errorf("kept %q", got)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the server did not come back")
			}
		}
	}
}

func tryAsk(url, sql string) (text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, err
}

// helper runs a server in a process that a test kills.
func helper(t *testing.T, dir string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"="+dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
}

func TestKilledParentTakesItsServerAlong(t *testing.T) {
	dir := t.TempDir()
	for n := range 3 {
		cmd, out := helper(t, dir)
		url, err := out.ReadString('\n')
		if err != nil || !strings.HasPrefix(url, "postgres://") {
			t.Fatalf("helper says %q (%v)", url, err)
		}
		url = strings.TrimSpace(url)
		if n == 0 {
			ask(t, url, `create table kept (x text)`)
		}
		ask(t, url, `insert into kept values ('here') returning x`)
		busy, err := pgx.Connect(t.Context(), url) // SIGTERM would wait for this one
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close(context.Background())
		old := postmaster(t, dir)
		if n == 2 { // a stopped server hears no death signal in time; the next start must wait for it
			if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(200*time.Millisecond, func() { _ = syscall.Kill(old, syscall.SIGCONT) })
		}
		kill(t, cmd)
		s := start(t, dir)
		if now := postmaster(t, dir); now == old {
			t.Errorf("the old server %d still runs", old)
		}
		if got := ask(t, s.URL(), `select count(*)::text from kept`); got[0] != strconv.Itoa(n+1) {
			t.Errorf("%s rows after %d inserts", got[0], n+1)
		}
		s.Stop()
	}
}

// Whenever the first start is killed, the next one makes a whole cluster.
func TestFirstStartMayBeKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 6 {
		cmd, _ := helper(t, dir)
		<-time.After(time.Duration(r.IntN(1200)) * time.Millisecond) // the moment is what is tested
		kill(t, cmd)
	}
	s := start(t, dir)
	if got := ask(t, s.URL(), `select current_database()::text`); got[0] != "pronto" {
		t.Errorf("database is %q", got[0])
	}
	if _, err := os.Stat(filepath.Join(dir, "pg.new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pg.new is still there: %v", err)
	}
}

// What a killed initdb leaves looks whole, and pid files may name somebody else:
// here, this very process.
func TestLeftoversDoNotStopAStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "pg.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "pg.new", "PG_VERSION"), "15\n")
	s := start(t, dir)
	s.Stop()
	pid := fmt.Sprintf("%d\n%s\n1\n5432\n%s\n\n 1 1\nready\n", os.Getpid(), filepath.Join(dir, "pg"), filepath.Join(dir, "pg"))
	write(t, filepath.Join(dir, "pg", "postmaster.pid"), pid)
	write(t, filepath.Join(dir, "pg", ".s.PGSQL.5432.lock"), pid)
	write(t, filepath.Join(dir, "pg", ".s.PGSQL.5432"), "")
	ask(t, start(t, dir).URL(), `select 'well'`)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLongAndClosedPathsWork(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("lungo/", 20), "data")
	s := start(t, long) // t.TempDir is closed to others, so root's server gets it opened
	ask(t, s.URL(), `select 'well'`)
	if url, ok := private.Attach(long); !ok || url != s.URL() {
		t.Errorf("attached to %q, %v", url, ok)
	}
	_, socket, _ := strings.Cut(s.URL(), "%2Ftmp%2F")
	socket, _, _ = strings.Cut(socket, "&")
	if !strings.HasPrefix(socket, "pronto-") {
		t.Fatalf("the socket is not in a short directory: %s", s.URL())
	}
	s.Stop()
	if _, err := os.Stat(filepath.Join("/tmp", socket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the short directory is left: %v", err)
	}

	open, err := os.MkdirTemp("", "pronto-open-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	ask(t, start(t, filepath.Join(open, "a b%c")).URL(), `select 'well'`)
}

func TestFaultsOfTheSetUpSayWhatToDo(t *testing.T) {
	made := t.TempDir()
	start(t, made).Stop()

	fault := func(dir string, words ...string) {
		t.Helper()
		s, err := private.Start(t.Context(), private.Config{Dir: dir, Log: quiet})
		if err == nil {
			s.Stop()
		}
		var setup *private.SetupError
		if !errors.As(err, &setup) {
			t.Fatalf("err is %v, want a SetupError", err)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	fault("", "--data")

	write(t, filepath.Join(made, "pg", "PG_VERSION"), "9999\n")
	fault(made, "PostgreSQL 9999", "sudo apt-get install postgresql-9999", "nothing was touched")
	if _, err := os.Stat(filepath.Join(made, "pg", "base")); err != nil {
		t.Errorf("the cluster of another version was touched: %v", err)
	}
	write(t, filepath.Join(made, "pg", "PG_VERSION"), "15\n")

	if err := os.Rename(filepath.Join(made, "pg.password"), filepath.Join(made, "away")); err != nil {
		t.Fatal(err)
	}
	fault(made, "pg.password", "backup")

	foreign := t.TempDir()
	if err := os.Mkdir(filepath.Join(foreign, "pg"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(foreign, "pg", "letter.txt"), "dear")
	fault(foreign, "not a database of ours")
	if _, err := os.Stat(filepath.Join(foreign, "pg", "letter.txt")); err != nil {
		t.Errorf("somebody's directory was touched: %v", err)
	}

	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	fault(filepath.Join(file, "data"), "cannot be made")

	t.Setenv("PG_BIN", t.TempDir())
	fault(t.TempDir(), "sudo apt-get install postgresql", "DATABASE_URL")
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if s, err := private.Start(ctx, private.Config{Dir: dir, Log: quiet}); err == nil {
		s.Stop()
		t.Fatal("started in no time")
	}
	ask(t, start(t, dir).URL(), `select 'well'`) // the directory is free again
}
