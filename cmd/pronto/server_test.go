package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/tickets"
)

// The tests of this file's family run the shipped programs as processes, on
// real sockets and the real private database.

var programs struct {
	once           sync.Once
	dir            string
	pronto, caller string
	err            error
}

// built compiles the two programs once per test run.
func built(t testing.TB) (pronto, caller string) {
	t.Helper()
	programs.once.Do(func() {
		programs.dir, programs.err = os.MkdirTemp("", "pronto-bin")
		if programs.err != nil {
			return
		}
		for name, target := range map[string]*string{"pronto": &programs.pronto, "caller": &programs.caller} {
			*target = filepath.Join(programs.dir, name)
			if out, err := exec.Command("go", "build", "-o", *target, module+"/cmd/"+name).CombinedOutput(); err != nil {
				programs.err = fmt.Errorf("build %s: %w\n%s", name, err, out)
				return
			}
		}
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return programs.pronto, programs.caller
}

func TestMain(m *testing.M) {
	code := m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

// server is a running `pronto serve --demo` of a test.
type server struct {
	t         testing.TB
	dir       string
	sip, http string
	rtp       string
	operators int
	args      []string
	env       []string
	scheme    string       // http
	client    *http.Client // http.DefaultClient

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	log   *tail
	token string
}

// tail keeps the last of what a process wrote, for the moment a test fails.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

const tailLongest = 64 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - tailLongest; over > 0 {
		l.text = append(l.text[:0], l.text[over:]...)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// newServer starts a desk in a directory of its own and ends it with the test.
func newServer(t testing.TB, change ...func(*server)) *server {
	t.Helper()
	s := &server{t: t, dir: dataDir(t), log: new(tail), operators: 2, scheme: "http", client: http.DefaultClient}
	s.sip = freeAddr(t, "udp")
	s.http = freeAddr(t, "tcp")
	s.rtp = freeRange(t)
	for _, c := range change {
		c(s)
	}
	s.start()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the server said:\n%s", s.log)
		}
	})
	return s
}

// dataDir is a directory that a private PostgreSQL of another user may enter,
// which t.TempDir is not.
func dataDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pronto-data")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// freeAddr gives a loopback address whose port was free a moment ago, for UDP and for
// TCP: SIP wants both.
func freeAddr(t testing.TB, network string) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenPacket("udp", l.Addr().String())
		_ = l.Close()
		if err == nil {
			_ = c.Close()
			return l.Addr().String()
		}
	}
}

var nextRange = struct {
	mu   sync.Mutex // guards from
	from int
}{from: 20000}

// freeRange gives every server of a test run ports of its own for sound.
func freeRange(t testing.TB) string {
	nextRange.mu.Lock()
	defer nextRange.mu.Unlock()
	from := nextRange.from
	nextRange.from += 400
	if nextRange.from > 31000 { // below the ports the system gives out by itself
		nextRange.from = 20000
	}
	return fmt.Sprintf("%d-%d", from, from+399)
}

// start starts the process and waits until calls are answered.
func (s *server) start() {
	s.t.Helper()
	line := s.command()
	s.cmd = exec.Command(line[0], line[1:]...)
	s.cmd.Env = append(os.Environ(), "DATABASE_URL=")
	s.cmd.Env = append(s.cmd.Env, s.env...)
	s.cmd.Stderr = s.log
	s.cmd.Stdout = s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func() { _ = s.cmd.Wait(); close(ended) }()
	within(s.t, 60*time.Second, "the server to be ready", func() error {
		select {
		case <-ended:
			s.t.Fatalf("the server ended at its start:\n%s", s.log)
		default:
		}
		if !s.isReady() {
			return errors.New("not ready")
		}
		return nil
	})
	if s.token == "" {
		s.token = s.newToken("carla")
	}
}

// isReady asks /readyz.
func (s *server) isReady() bool {
	resp, err := s.client.Get(s.scheme + "://" + s.http + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// command is the line that starts the server.
func (s *server) command() []string {
	pronto, _ := built(s.t)
	return append([]string{pronto, "serve", "--data", s.dir, "--sip", s.sip, "--rtp", s.rtp, "--http", s.http, "--demo", "--demo-operators", fmt.Sprint(s.operators)}, s.args...)
}

// newToken asks the second program line of the contract for a bearer token.
func (s *server) newToken(user string) string {
	s.t.Helper()
	pronto, _ := built(s.t)
	cmd := exec.Command(pronto, "token", "--data", s.dir, "--user", user)
	cmd.Env = append(os.Environ(), "DATABASE_URL=")
	cmd.Env = append(cmd.Env, s.env...)
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("pronto token: %v\n%s", err, s.log)
	}
	words := strings.Fields(string(out))
	if len(words) == 0 {
		s.t.Fatal("pronto token printed nothing")
	}
	return words[len(words)-1]
}

// kill ends the process as a power cut would, and waits until it is gone.
func (s *server) kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.ended
}

// stop sends SIGTERM and gives the exit code.
func (s *server) stop() int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(60 * time.Second):
		s.t.Fatalf("the server did not end on SIGTERM:\n%s", s.log)
	}
	return s.cmd.ProcessState.ExitCode()
}

// secrets reads demo.json.
func (s *server) secrets() demoSecrets {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "demo.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var d demoSecrets
	if err := json.Unmarshal(text, &d); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// do asks the API and gives the status; a body is sent and an answer read as JSON.
func (s *server) do(method, path string, body, answer any) (status int, err error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.scheme+"://"+s.http+"/api/v1"+path, in)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if answer == nil || len(text) == 0 {
		return resp.StatusCode, nil
	}
	if raw, ok := answer.(*[]byte); ok {
		*raw = text
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(text, answer)
}

// must is do that fails the test on any error.
func (s *server) must(method, path string, body, answer any) {
	s.t.Helper()
	if _, err := s.do(method, path, body, answer); err != nil {
		s.t.Fatal(err)
	}
}

// scraped are the server's metrics.
func (s *server) scraped() string {
	s.t.Helper()
	resp, err := s.client.Get(s.scheme + "://" + s.http + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// contacts are all of the newest contacts, or those of one Call-ID.
func (s *server) contacts(callID string) []tickets.Record {
	s.t.Helper()
	var list struct{ Items []tickets.Record }
	path := "/contacts?limit=200"
	if callID != "" {
		path += "&call_id=" + callID
	}
	s.must("GET", path, nil, &list)
	return list.Items
}

// waitContacts waits until n contacts are there that ok accepts, newest first.
func (s *server) waitContacts(n int, longest time.Duration, what string, ok func(tickets.Record) bool) []tickets.Record {
	s.t.Helper()
	var found []tickets.Record
	within(s.t, longest, what, func() error {
		found = found[:0]
		all := s.contacts("")
		for _, c := range all {
			if ok(c) {
				found = append(found, c)
			}
		}
		if len(found) < n {
			return fmt.Errorf("%d of %d (of %d contacts)", len(found), n, len(all))
		}
		return nil
	})
	return found
}

// declare sets an operator's state.
func (s *server) declare(operator, declared string) {
	s.t.Helper()
	s.must("PUT", "/operators/"+operator+"/state", map[string]string{"declared": declared}, nil)
}

const lookAgain = 50 * time.Millisecond // how often within looks

// within asks ok again and again until it gives no error, at most for longest.
func within(t testing.TB, longest time.Duration, what string, ok func() error) {
	t.Helper()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	end := time.Now().Add(longest)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s: %v", longest, what, err)
		}
		<-again.C
	}
}

// kinds are the journal's lines of a contact in a row.
func kinds(c tickets.Record) string {
	var list []string
	for _, l := range c.Journal {
		list = append(list, l.Kind)
	}
	return strings.Join(list, " ")
}

// endingOf is a contact's ending, "" while it has none.
func endingOf(c tickets.Record) string {
	if c.Ending == nil {
		return ""
	}
	return *c.Ending
}
