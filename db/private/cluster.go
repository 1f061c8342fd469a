package private

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

const (
	pathLongest = 107 // unix(7): sun_path has 108 bytes, the last is 0
	oldest      = 13  // the first major version with xid8, which the journal is read by
)

// tuning is added to the cluster's postgresql.conf, where an administrator may
// change it. What a statement held (names, numbers) never reaches the log.
const tuning = `
# Pronto
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_error_verbosity = terse
log_min_error_statement = panic
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_checkpoints = off
jit = off
wal_compression = on
max_connections = 100
`

// programs finds the directory of initdb and postgres: of that major version, or
// the newest for version 0.
func programs(version int) (string, error) {
	found := installed()
	best := 0
	for v := range found {
		if v == version || version == 0 && v > best {
			best = v
		}
	}
	switch {
	case version == 0 && best >= oldest, version != 0 && best == version:
		return found[best], nil
	case len(found) == 0:
		return "", &SetupError{"PostgreSQL is not installed", "sudo apt-get install postgresql, or set DATABASE_URL", nil}
	case version == 0:
		return "", &SetupError{fmt.Sprintf("PostgreSQL %d is too old", best), "install 13 or later, or set DATABASE_URL", nil}
	}
	return "", &SetupError{
		fmt.Sprintf("the database was made by PostgreSQL %d, which is not installed (installed: %s); nothing was touched", version, majors(found)),
		fmt.Sprintf("sudo apt-get install postgresql-%d", version), nil}
}

func majors(found map[int]string) string {
	var out []string
	for v := range found {
		out = append(out, strconv.Itoa(v))
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

// installed maps major versions to directories. $PG_BIN, when set, is the only
// place.
func installed() map[int]string {
	found := map[int]string{}
	add := func(dir string) {
		if v := majorOf(dir); v != 0 && found[v] == "" {
			found[v] = dir
		}
	}
	if dir := os.Getenv("PG_BIN"); dir != "" {
		add(dir)
		return found
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} { // Debian, PGDG's RPMs
		dirs, _ := filepath.Glob(pattern) // the patterns are good ones
		for _, dir := range dirs {
			add(dir)
		}
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			add(filepath.Dir(path))
		}
	}
	return found
}

var inPath = regexp.MustCompile(`^/usr/(?:lib/postgresql/|pgsql-)([0-9]+)/bin$`)
var inVersion = regexp.MustCompile(`\(PostgreSQL\) ([0-9]+)`)

// majorOf tells the major version of the programs in a directory; 0: none.
func majorOf(dir string) int {
	for _, name := range []string{"postgres", "initdb"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode()&0o111 == 0 {
			return 0
		}
	}
	m := inPath.FindStringSubmatch(dir) // spares starting a process
	if m == nil {
		out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			return 0
		}
		if m = inVersion.FindStringSubmatch(string(out)); m == nil {
			return 0
		}
	}
	v, _ := strconv.Atoi(m[1]) // digits
	return v
}

// clusterVersion reads the major version of a cluster; made is false when there
// is none.
func clusterVersion(dir string) (version int, made bool, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, os.ErrPermission) {
		return 0, false, &SetupError{dir + " belongs to another user", "run pronto as that user or as root, or choose another directory with --data", nil}
	}
	if err == nil {
		version, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil {
		return 0, false, &SetupError{dir + " is not a database of ours; nothing was touched", "move it away, or choose another directory with --data", nil}
	}
	return version, true, nil
}

// owner is the user who runs the server. PostgreSQL refuses to be root.
type owner struct {
	name     string
	uid, gid int
	drop     bool // we are root and become this user
}

// ownerOf is the owner of the cluster, or of the one to be made.
func ownerOf(cluster string, made bool) (owner, error) {
	if os.Geteuid() != 0 {
		return owner{name: "this user", uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	if made {
		st, err := os.Stat(cluster)
		if err != nil {
			return owner{}, fmt.Errorf("find the cluster's owner: %w", err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		if sys.Uid == 0 {
			return owner{}, &SetupError{cluster + " belongs to root, as whom PostgreSQL refuses to run", "chown -R postgres: " + cluster, nil}
		}
		o := owner{name: strconv.Itoa(int(sys.Uid)), uid: int(sys.Uid), gid: int(sys.Gid), drop: true}
		if u, err := user.LookupId(o.name); err == nil {
			o.name = u.Username
		}
		return o, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return owner{}, fmt.Errorf("read user %s: %w", name, err)
		}
		return owner{name: name, uid: uid, gid: gid, drop: true}, nil
	}
	return owner{}, &SetupError{"PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody", "sudo apt-get install postgresql", nil}
}

// socketDir is where the socket stands: in the cluster, or in a short directory
// when that path is too long for a socket.
func socketDir(dir string, o owner) (string, error) {
	if cluster := filepath.Join(dir, clusterName); len(filepath.Join(cluster, ".s.PGSQL."+port)) <= pathLongest {
		return cluster, nil
	}
	short := shortDir(dir)
	if err := os.Mkdir(short, 0o700); err == nil {
		err = os.Chown(short, o.uid, o.gid)
		if err != nil {
			return "", fmt.Errorf("give away the socket's directory: %w", err)
		}
	} else if !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the socket's directory: %w", err)
	}
	st, err := os.Lstat(short)
	if err != nil {
		return "", fmt.Errorf("look at the socket's directory: %w", err)
	}
	if sys := st.Sys().(*syscall.Stat_t); !st.IsDir() || int(sys.Uid) != o.uid || st.Mode().Perm() != 0o700 { // anybody may write to /tmp
		return "", &SetupError{short + ", which is needed for the database's socket, belongs to somebody else", "remove it, or choose a shorter directory with --data", nil}
	}
	return short, nil
}

// shortDir is the same for every process that knows the data directory.
func shortDir(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "/tmp/pronto-" + hex.EncodeToString(sum[:8])
}

// initdb makes the cluster beside its place and renames it when it is whole: one
// that was killed half-way looks whole to PostgreSQL.
func (s *Server) initdb(ctx context.Context, password string) error {
	fresh := filepath.Join(s.dir, freshName)
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("make the cluster: %w", err)
	}
	pw, err := s.passwordFile(password)
	if err != nil {
		return err
	}
	defer os.Remove(pw.Name())
	defer pw.Close()
	if s.owner.drop {
		if err := os.Chown(fresh, s.owner.uid, s.owner.gid); err != nil {
			return fmt.Errorf("give away the cluster: %w", err)
		}
	}
	log, err := openLog(filepath.Join(s.dir, logName))
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"--username=" + superuser, "--pwfile=" + procFD(secondFD),
		"--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--data-checksums",
		"--encoding=UTF8", "--locale=C.UTF-8", "--text-search-config=italian",
		"--no-clean"} // one that is killed late must not remove what its successor writes
	if s.settings["fsync"] == "off" { // tests
		args = append(args, "--no-sync")
	}
	ch, err := s.spawn(fresh, log, pw, "initdb", args...)
	if err != nil {
		return err
	}
	select {
	case <-ch.done:
	case <-ctx.Done():
		ch.end(quitLongest)
		return context.Cause(ctx)
	}
	if ch.err != nil {
		return fmt.Errorf("initdb in %s: %w: %s", fresh, ch.err, tail(filepath.Join(s.dir, logName)))
	}
	conf, err := os.OpenFile(filepath.Join(fresh, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("tune the cluster: %w", err)
	}
	_, err = conf.WriteString(tuning)
	if err = errors.Join(err, conf.Sync(), conf.Close()); err != nil {
		return fmt.Errorf("tune the cluster: %w", err)
	}
	if err := os.Rename(fresh, s.cluster()); err != nil {
		return fmt.Errorf("finish the cluster: %w", err)
	}
	return syncDir(s.dir)
}

// passwordFile is the superuser's password as initdb's user can read it: in a
// file (initdb cannot take it from /dev/stdin), for a moment.
func (s *Server) passwordFile(password string) (*os.File, error) {
	path := filepath.Join(s.dir, initPassword)
	if err := writeSynced(path, password+"\n", 0o600); err != nil {
		return nil, err
	}
	if s.owner.drop {
		if err := os.Chown(path, s.owner.uid, s.owner.gid); err != nil {
			return nil, fmt.Errorf("give away %s: %w", path, err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("write the password for initdb: %w", err)
	}
	return f, nil
}
