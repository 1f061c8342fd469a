// Package private runs the PostgreSQL server that the desk starts by itself when
// no address of one is configured: a child process that ends with ours, on a
// socket only we can reach, in a directory we never delete. It needs Linux.
package private

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What stands in the data directory.
const (
	clusterName  = "pg"          // the cluster
	freshName    = "pg.new"      // one that initdb has not finished
	lockName     = "pg.lock"     // held by whoever may touch the others
	passwordName = "pg.password" // of the superuser below, mode 0600
	initPassword = "pg.initpw"   // the same for initdb, readable to the server's user, for a moment
	logName      = "pg.log"
)

const (
	superuser = "pronto"
	database  = "pronto"
	port      = "5432" // names the socket's file; nothing listens on the network

	startLongest = 5 * time.Minute        // a crash may leave much to redo
	readyPoll    = 5 * time.Millisecond   // looks at a small file while the server starts
	askLongest   = 5 * time.Second        // one connection of our own, for a question
	fastLongest  = 20 * time.Second       // a fast shutdown writes what is dirty
	quitLongest  = 5 * time.Second        // an immediate one writes nothing
	againFirst   = 100 * time.Millisecond // restarts of a server that died: at once, then slower
	againLongest = 5 * time.Second
	logLargest   = 16 << 20 // bytes; then the log becomes pg.log.1
	logTail      = 2048     // bytes of it that an error carries
)

// SetupError is a fault that starting again does not mend: cmd/pronto ends with
// 78 (EX_CONFIG). Its text says what is wrong and what to do.
type SetupError struct {
	Problem, Remedy string
	Err             error // ErrInUse, or nil
}

// Unwrap gives Err.
func (e *SetupError) Unwrap() error { return e.Err }

// Error is the problem and the remedy in one line.
func (e *SetupError) Error() string {
	if e.Remedy == "" {
		return e.Problem
	}
	return e.Problem + ": " + e.Remedy
}

// ErrInUse is part of the SetupError of a directory on which another pronto is
// running.
var ErrInUse = errors.New("in use")

// Config says where the server's data are.
type Config struct {
	Dir      string            // the node's data directory; made if it is not there. May be relative
	Log      *slog.Logger      // nil: slog.Default()
	Settings map[string]string // PostgreSQL settings beside ours; tests switch fsync off
}

// Server is a PostgreSQL of our own.
type Server struct {
	dir      string // absolute
	url      string
	log      *slog.Logger
	settings map[string]string
	owner    owner
	bin      string // directory of the programs
	socket   string // directory of the socket
	free     func() // gives up the directory

	life context.Context // ends with Stop
	end  context.CancelFunc

	mu    sync.Mutex // guards child; held while a server is started, and from Stop on
	child *child
}

// Start starts the server of a data directory, making its cluster first if there
// is none, and returns when it accepts connections. Whatever a former run left
// (a half-made cluster, a server that is still ending) is cleared away first. A
// *SetupError says that a person must do something.
func Start(ctx context.Context, c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	dir, err := absolute(c.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, log: c.Log, settings: c.Settings}
	if s.free, err = hold(filepath.Join(dir, lockName)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLongest)
	defer cancel()
	if err := s.prepare(ctx); err != nil {
		s.free()
		return nil, err
	}
	if s.child, err = s.launch(ctx); err != nil {
		s.free()
		return nil, fmt.Errorf("start PostgreSQL in %s: %w", s.cluster(), err)
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

func (s *Server) cluster() string { return filepath.Join(s.dir, clusterName) }

// absolute makes the data directory and finds its real path, which is what the
// kernel tells about processes that stand in it.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", &SetupError{"no data directory is given", "name one with --data", nil}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // recordings and secrets in it have narrower modes of their own
		return "", &SetupError{"the data directory cannot be made: " + err.Error(), "choose another with --data", nil}
	}
	return filepath.EvalSymlinks(dir)
}

// hold takes the directory's lock, which lasts as long as this process or until
// free. It is a bare descriptor: an *os.File would be closed, and the lock given
// up, as soon as nobody refers to the Server, whose PostgreSQL still runs.
func hold(path string) (free func(), err error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &SetupError{fmt.Sprintf("the data directory cannot be written: %s: %v", path, err), "choose another with --data, or give it to this user", nil}
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		syscall.Close(fd)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &SetupError{"another pronto is running on " + filepath.Dir(path), "stop it, or choose another directory with --data", ErrInUse}
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return sync.OnceFunc(func() {
		// Unlocked, not only closed: a child that is being started has the
		// descriptor too until its exec.
		_ = syscall.Flock(fd, syscall.LOCK_UN)
		_ = syscall.Close(fd)
	}), nil
}

// prepare leaves a whole cluster in which nobody works.
func (s *Server) prepare(ctx context.Context) error {
	version, made, err := clusterVersion(s.cluster())
	if err != nil {
		return err
	}
	if s.bin, err = programs(version); err != nil {
		return err
	}
	if s.owner, err = ownerOf(s.cluster(), made); err != nil {
		return err
	}
	if s.socket, err = socketDir(s.dir, s.owner); err != nil {
		return err
	}
	fresh := filepath.Join(s.dir, freshName)
	if err := s.evict(ctx, fresh); err != nil {
		return err
	}
	if err := os.RemoveAll(fresh); err != nil { // never finished: nothing is in it
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	password, err := s.password(made)
	if err != nil {
		return err
	}
	s.url = address(s.socket, password)
	if !made {
		return s.initdb(ctx, password)
	}
	return nil
}

// address is the URL of a server on a socket.
func address(socket, password string) string {
	query := url.Values{"host": {socket}, "port": {port}, "sslmode": {"disable"}}.Encode()
	query = strings.ReplaceAll(query, "+", "%20") // a plus is a plus in PostgreSQL's addresses
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, password), Path: "/" + database, RawQuery: query}
	return u.String()
}

// password reads the superuser's password, or makes it when there is no cluster
// yet. It is on disk before the cluster is.
func (s *Server) password(made bool) (string, error) {
	path := filepath.Join(s.dir, passwordName)
	b, err := os.ReadFile(path)
	if p := strings.TrimSpace(string(b)); err == nil && p != "" {
		return p, nil
	}
	if made {
		return "", &SetupError{path + ", the password of the database in " + s.cluster() + ", cannot be read", "bring it back from a backup", nil}
	}
	p := rand.Text()
	return p, writeSynced(path, p+"\n", 0o600)
}

// launch starts the server process and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) (*child, error) {
	if err := s.evict(ctx, s.cluster()); err != nil {
		return nil, err
	}
	// Nobody is left, and nobody can come while we hold the lock: these name
	// processes that are gone, or a stranger who got the same number.
	for _, stale := range []string{filepath.Join(s.cluster(), "postmaster.pid"), s.socketFile(), s.socketFile() + ".lock"} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("clear away: %w", err)
		}
	}
	log, err := openLog(filepath.Join(s.dir, logName))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has it
	socket := s.socket
	if socket == s.cluster() {
		socket = "." // where the server stands: no parent matters
	}
	args := []string{
		"-c", "listen_addresses=", "-c", "port=" + port,
		"-c", "unix_socket_directories=" + socket, "-c", "unix_socket_permissions=0700",
		"-c", "logging_collector=off", "-c", "log_destination=stderr",
	}
	for name, value := range s.settings {
		args = append(args, "-c", name+"="+value)
	}
	ch, err := s.spawn(s.cluster(), log, nil, "postgres", args...)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx, ch); err != nil {
		ch.end(fastLongest)
		return nil, err
	}
	return ch, nil
}

func (s *Server) socketFile() string { return filepath.Join(s.socket, ".s.PGSQL."+port) }

// ready waits until the server says so, and makes our database if it is the
// first time.
func (s *Server) ready(ctx context.Context, ch *child) error {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for !saysReady(filepath.Join(s.cluster(), "postmaster.pid")) {
		select {
		case <-ch.done:
			return fmt.Errorf("PostgreSQL ended while starting (%s): %s", ch.status(), tail(filepath.Join(s.dir, logName)))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
	}
	conn, err := connect(ctx, s.url, database)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "3D000" { // invalid_catalog_name
		return s.createDatabase(ctx)
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return conn.Close(ctx)
}

func (s *Server) createDatabase(ctx context.Context) error {
	conn, err := connect(ctx, s.url, "postgres")
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "create database "+database); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}

func connect(ctx context.Context, url, name string) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	c.Database = name
	c.ConnectTimeout = askLongest
	return pgx.ConnectConfig(ctx, c)
}

// saysReady reads the status line of postmaster.pid
// (src/include/utils/pidfile.h, line 8).
func saysReady(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	lines := strings.Split(string(b), "\n")
	return len(lines) >= 8 && strings.TrimSpace(lines[7]) == "ready"
}

// URL is the address of the server, with its password. It stays the same when
// the server is restarted.
func (s *Server) URL() string { return s.url }

// Run starts the server again whenever it dies, until ctx ends or Stop is
// called; then it returns nil. A server that still runs when ctx ends goes on
// until Stop, for those who have something to write on their way out.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	for pause := time.Duration(0); ; pause = min(max(2*pause, againFirst), againLongest) {
		s.mu.Lock()
		ch := s.child
		s.mu.Unlock()
		watched := time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-ch.done:
		}
		if ctx.Err() != nil { // Stop ended it
			return nil
		}
		if time.Since(watched) > againLongest { // it did work
			pause = 0
		}
		s.log.Error("PostgreSQL ended by itself and is started again", "status", ch.status(), "in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if err := s.relaunch(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("PostgreSQL could not be started again", "err", err)
		}
	}
}

func (s *Server) relaunch(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startLongest)
	defer cancel()
	ch, err := s.launch(ctx)
	if err != nil {
		return err
	}
	s.child = ch
	return nil
}

// Stop ends the server and gives the directory free. A second Stop does nothing.
func (s *Server) Stop() {
	s.end() // a start in progress gives up
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child.end(fastLongest)
	if s.socket != s.cluster() {
		_ = os.Remove(s.socket) // the short one; if it is not empty it may stay
	}
	s.free()
}

// Made tells whether a data directory has a cluster.
func Made(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, clusterName))
	return err == nil
}

// Attach finds the address of a server that another process runs on the same
// data directory, such as `pronto serve` for `pronto token`.
func Attach(dir string) (url string, ok bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", false
	}
	password, err := os.ReadFile(filepath.Join(dir, passwordName))
	if err != nil {
		return "", false
	}
	for _, socket := range []string{filepath.Join(dir, clusterName), shortDir(dir)} {
		path := filepath.Join(socket, ".s.PGSQL."+port)
		if len(path) > pathLongest {
			continue
		}
		conn, err := net.DialTimeout("unix", path, askLongest)
		if err == nil {
			conn.Close()
			return address(socket, strings.TrimSpace(string(password))), true
		}
	}
	return "", false
}

// openLog opens the server's log, which starts anew when it has grown large.
func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > logLargest {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("rotate the server's log: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	return f, nil
}

// tail is the end of a log, for an error.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > logTail {
		b = b[len(b)-logTail:]
	}
	return strings.TrimSpace(string(b))
}

// writeSynced writes a small file that survives a crash.
func writeSynced(path, text string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
