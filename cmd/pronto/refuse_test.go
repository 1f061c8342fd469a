package main

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/tickets"
)

// TestRefusals rings in every way that is refused, and holds the answer and the
// contact that is left of it.
func TestRefusals(t *testing.T) {
	s := newServer(t, func(s *server) { s.rtp = "31000-31003" }) // sound for two calls
	k := newRawTrunk(t, s.sip)

	unknown, err := k.invite("800999999")
	if err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, s, unknown, 404, "refused_unknown_number")

	k.media = "m=audio %d RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n"
	incompatible, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, s, incompatible, 488, "refused_incompatible")
	k.media = ""

	var busy []*rawCall
	for range 2 {
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		if status, _, err := c.answer(); err != nil || status != 200 {
			t.Fatalf("answered %d: %v", status, err)
		}
		busy = append(busy, c)
	}
	full, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, s, full, 503, "refused_no_line")
	for _, c := range busy {
		if err := c.hangUp(); err != nil {
			t.Error(err)
		}
	}

	before := len(s.contacts(""))
	stranger := newRawTrunkAt(t, s.sip, net.IPv4(127, 0, 0, 100)) // outside of 127.0.0.0/26
	c, err := stranger.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := c.answer(); err != nil || status != 403 {
		t.Errorf("a stranger got %d: %v", status, err)
	}
	if after := len(s.contacts("")); after != before {
		t.Errorf("a stranger left %d contacts", after-before)
	}
}

func mustRefuse(t *testing.T, s *server, c *rawCall, status int, ending string) {
	t.Helper()
	got, _, err := c.answer()
	if err != nil || got != status {
		t.Errorf("answered %d, want %d: %v", got, status, err)
	}
	r := s.contactOf(c.id, "the refused call's ending", func(r tickets.Record) bool { return r.Ending != nil })
	if endingOf(r) != ending || r.Ta != nil || r.Ticket != nil {
		t.Errorf("%d ended %s, want %s, unanswered and without a ticket (%s)", status, endingOf(r), ending, kinds(r))
	}
}

// TestClosing sends SIGTERM during a call: it may end, new ones are refused with
// 503 and Retry-After, and then the process ends with 0.
func TestClosing(t *testing.T) {
	s := newServer(t)
	k := newRawTrunk(t, s.sip)
	staying, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := staying.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "readyz to say that it closes", func() error {
		if s.isReady() {
			return errors.New("it is ready")
		}
		return nil
	})
	late, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-late.answers:
		if a.status != 503 || !strings.Contains(a.text, "Retry-After:") {
			t.Errorf("a call at closing time got:\n%s", a.text)
		}
	case <-time.After(rawWait):
		t.Error("a call at closing time got no answer")
	}
	k.send(late.request("OPTIONS", 2, "sip:"+s.sip, "", "")) // a carrier asks whether to send more
	for text := ""; !strings.Contains(text, "OPTIONS"); {
		select {
		case a := <-late.answers: // or the refusal again, which nobody has acknowledged
			if text = a.text; a.status != 503 {
				t.Errorf("asked at closing time it says:\n%s", text)
			}
		case <-time.After(rawWait):
			t.Fatal("OPTIONS at closing time got no answer")
		}
	}
	select {
	case <-staying.bye:
		t.Error("the call in progress was cut")
	case <-s.ended:
		t.Error("the server did not wait for its call")
	default:
	}
	if err := staying.hangUp(); err != nil {
		t.Error(err)
	}
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the server does not end after its last call")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d", code)
	}
	s.start()
	for id, want := range map[string]string{late.id: "refused_closing", staying.id: "abandoned_ivr"} {
		if c := s.contactOf(id, "the ending", func(c tickets.Record) bool { return c.Ending != nil }); endingOf(c) != want {
			t.Errorf("%s ended %s, want %s", id, endingOf(c), want)
		}
	}
}

// TestConfigurationFaults: exit 78 and a line that names the place.
func TestConfigurationFaults(t *testing.T) {
	pronto, _ := built(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "pronto.toml")
	if err := os.WriteFile(file, []byte("[sip]\nlisten = [\"127.0.0.1:5060\"]\nlissen = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"serve", "--config", file},
		{"check", "--config", file},
		{"serve", "--data", dir, "--sip", "everywhere"},
		{"serve", "--nonsense"},
	} {
		out, err := exec.Command(pronto, args...).CombinedOutput()
		exit, ok := err.(*exec.ExitError)
		if !ok || exit.ExitCode() != exitConfig {
			t.Errorf("pronto %s: %v, want exit %d\n%s", strings.Join(args, " "), err, exitConfig, out)
		}
		if args[1] == "--config" && !strings.Contains(string(out), "pronto.toml:3") {
			t.Errorf("pronto %s does not name the line:\n%s", strings.Join(args, " "), out)
		}
	}
}

// TestOneServerPerDirectory: the second server of a data directory ends with 78
// and does not touch it.
func TestOneServerPerDirectory(t *testing.T) {
	s := newServer(t)
	line := s.command()
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != exitConfig || !strings.Contains(string(out), "another pronto") {
		t.Errorf("a second server: %v\n%s", err, out)
	}
	if !s.isReady() {
		t.Error("the first server is no longer ready")
	}
}

// TestAddressTaken: a server whose addresses another program has ends before it
// makes a database, names each, and may be started again by its supervisor.
func TestAddressTaken(t *testing.T) {
	pronto, _ := built(t)
	phone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer phone.Close()
	browser, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer browser.Close()
	dir := t.TempDir()
	out, err := exec.Command(pronto, "serve", "--data", dir,
		"--sip", phone.LocalAddr().String(), "--sip", "192.0.2.77:5060", "--http", browser.Addr().String()).CombinedOutput() // an address kept for examples
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != exitFault {
		t.Errorf("%v, want exit %d", err, exitFault)
	}
	for _, want := range []string{
		"sip.listen (--sip): " + phone.LocalAddr().String() + " is in use",
		"192.0.2.77:5060 is no address of this machine",
		"http.listen (--http): " + browser.Addr().String() + " is in use",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "pg")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a database was made in vain: %v", err)
	}
}

// TestStoppedAtTheStart: SIGTERM while the database is awaited is an ordinary
// end, as later.
func TestStoppedAtTheStart(t *testing.T) {
	pronto, _ := built(t)
	cmd := exec.Command(pronto, "serve", "--data", t.TempDir(), "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--database", "postgres://nobody@127.0.0.1:1/nothing")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.Contains(lines.Text(), "waiting for the database") {
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "pronto: ") {
			t.Errorf("an error is told: %s", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v, want exit 0", err)
	}
}

// TestCommands adds by command what an installation needs, beside a running
// server, and reads a register with bad lines.
func TestCommands(t *testing.T) {
	s := newServer(t)
	pronto, _ := built(t)
	good := "codice;nome;ambulatorio;azienda;email;numeri\n2001;Niccolò Però;Via Larga 1;Azienda USL Toscana Sud Est;;0564 123456\n"
	bad := good + "2002;;Via Stretta;;;\n2003;Ada Neri;Via Corta;;non-una-mail;12\n"
	for name, text := range map[string]string{"good.csv": good, "bad.csv": bad} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args  []string
		stdin string
		exit  int
		says  string
	}{
		{[]string{"user", "add", "dario", "--role", "operator", "--extension", "1077", "--display", "Dario Però"}, "una-parola-lunga\n", 0, "Added dario"},
		{[]string{"user", "add", "dario"}, "una-parola-lunga\n", exitFault, "taken"},
		{[]string{"user", "add", "eva"}, "corta\n", exitFault, "password"},
		{[]string{"user", "add", ""}, "una-parola-lunga\n", exitFault, "user name"},
		{[]string{"user", "add", "eva"}, "", exitFault, "a password is needed"},
		{[]string{"phone", "1077"}, "segreto-del-telefono\n", 0, "1077"},
		{[]string{"phone", "1077"}, "corta\n", exitFault, "10 characters"},
		{[]string{"phone", "1078"}, "segreto-del-telefono\n", 0, "Nobody has extension 1078"},
		{[]string{"service", "add", "800555000", "--name", "Prova", "--hours", "mon-fri 08:00-13:00", "--hours", "mon-fri 14:00-18:00", "--menu", "1=software=Cartella clinica"}, "", 0, "800555000"},
		{[]string{"service", "add", "800555001", "--name", "Prova", "--hours", "mon 08:00-13:00", "--hours", "mon 12:00-18:00", "--menu", "1=software=Cartella"}, "", exitConfig, "overlaps"},
		{[]string{"service", "add", "800555002", "--name", "Prova", "--always", "--menu", "1=software=Nuovo", "--menu", "1=altro=Doppio"}, "", exitConfig, "key 1"},
		{[]string{"service", "add", "800555003", "--name", "Prova", "--menu", "1=software=Nuovo"}, "", exitConfig, "--hours"},
		{[]string{"service", "add", "800555004", "--name", "Prova", "--always", "--menu", "1=nuova=Nuova", "--menu", "2=software=Nuovo"}, "", exitConfig, `is called "Cartella clinica", on all numbers: write 2=software`},
		{[]string{"service", "add", "800555005", "--name", "Prova", "--always", "--menu", "1=nuova"}, "", exitConfig, `there is no topic "nuova" yet`}, // nor made by the line before
		{[]string{"service", "add", "800555006", "--name", "Prova", "--always", "--menu", "1=software"}, "", 0, "800555006"},
		{[]string{"service", "list"}, "", 0, "    mon-fri 08:00-13:00, 14:00-18:00\n    1  Cartella clinica (software)\n"}, // as before the refused menus
		{[]string{"customers", "import", filepath.Join(s.dir, "bad.csv")}, "", exitFault, "nothing was imported"},
		{[]string{"customers", "import", filepath.Join(s.dir, "good.csv")}, "", 0, "1 new"},
		{[]string{"user", "list"}, "", 0, "dario"},
		{[]string{"check"}, "", 0, "800555000"},
	} {
		cmd := exec.Command(pronto, append(c.args, "--data", s.dir)...)
		cmd.Env = append(os.Environ(), "DATABASE_URL=")
		cmd.Stdin = strings.NewReader(c.stdin)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.exit || !strings.Contains(string(out), c.says) {
			t.Errorf("pronto %s: exit %d, want %d and %q:\n%s", strings.Join(c.args, " "), cmd.ProcessState.ExitCode(), c.exit, c.says, out)
		}
	}
	var found struct{ Items []tickets.Customer }
	s.must("GET", "/customers?q=Per%C3%B2", nil, &found)
	if len(found.Items) != 1 || len(found.Items[0].Numbers) != 1 || found.Items[0].Numbers[0] != "+390564123456" {
		t.Errorf("the register holds %+v", found.Items)
	}
}

// TestVerify tampers with the journal of a call.
func TestVerify(t *testing.T) {
	s := newServer(t)
	_, caller := built(t)
	if out, err := exec.Command(caller, "--server", s.sip, "--for", "1s").CombinedOutput(); err != nil {
		t.Fatalf("caller: %v\n%s", err, out)
	}
	s.waitContacts(1, time.Minute, "the call to be on record", func(c tickets.Record) bool { return endingOf(c) == "abandoned_ivr" })
	if out := s.mustRun("verify", "--data", s.dir); !strings.Contains(out, "all as they were written") {
		t.Errorf("pronto verify says %q", out)
	}
	conn := s.database()
	for _, c := range [][2]string{
		{`delete from journal where kind = 'ended'`, "has an ending that the journal does not tell"},
		{`update journal set at = at + interval '1 minute' where kind = 'answered'`, "is not what was written"},
		{`delete from journal where kind = 'begun'`, "is missing"},
	} {
		if _, err := conn.Exec(t.Context(), c[0]); err != nil {
			t.Fatal(err)
		}
		s.mustRefuse(c[1], "verify", "--data", s.dir)
	}
}

// TestNoDeskHere: what reads a desk makes none where the directory's name is wrong.
func TestNoDeskHere(t *testing.T) {
	pronto, _ := built(t)
	dir := filepath.Join(t.TempDir(), "mistyped")
	for _, command := range [][]string{{"verify"}, {"trace", "x"}, {"backup", filepath.Join(t.TempDir(), "copy")}} {
		out, err := exec.Command(pronto, append(command, "--data", dir)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 78 || !strings.Contains(string(out), dir) {
			t.Errorf("%s: %v, %q", command[0], err, out)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s made %s: %v", command[0], dir, err)
		}
	}
}
