//go:build interop

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/siptest"
	"github.com/pronto-desk/pronto/tickets"
)

// Peers and material that this project did not write: `make interop INTEROP=DIR`.
// They are used from where they are and never copied into the tree.

func material(t *testing.T, path string) string {
	t.Helper()
	dir := os.Getenv("PRONTO_INTEROP")
	if dir == "" {
		t.Fatal("PRONTO_INTEROP names no folder: use make interop INTEROP=DIR")
	}
	return filepath.Join(dir, path)
}

// TestInteropTorture sends the torture messages of RFC 4475 and RFC 5118 over
// UDP and TCP and holds the answers against their index.
func TestInteropTorture(t *testing.T) {
	t.Parallel()
	for i, of := range [][2]string{{"rfc4475", "udp"}, {"rfc4475", "tcp"}, {"rfc5118", "udp"}, {"rfc5118", "tcp"}} {
		corpus, transport := of[0], of[1]
		from := fmt.Sprint("127.0.0.", 2+i) // an address of its own: answers go to the port that a message names
		t.Run(corpus+" "+transport, func(t *testing.T) {
			t.Parallel()                           // most of it is waiting, for servers to start and for answers that must not come
			url := "DATABASE_URL=" + dbtest.URL(t) // one database for all the servers: theirs would take most of the time
			s := newServer(t, func(s *server) { s.env = []string{url} })
			s.stop()
			// A fresh server for each message: our 404 to an INVITE that is never
			// acknowledged is repeated (RFC 3261 §17.2.1) into the socket of the next.
			cmd := exec.Command("/usr/bin/python3", material(t, "torture.py"), s.sip, material(t, corpus), "--index", material(t, corpus+"/index.tsv"), "--transport", transport, "--src", from, "--unique",
				"--wait", "1", "--spawn", "exec "+strings.Join(s.command(), " "))
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), url)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("torture: %v\n%s", err, out)
			}
			passed := 0
			for _, line := range strings.Split(string(out), "\n") {
				switch {
				case strings.HasPrefix(line, "PASS"):
					passed++
				case strings.HasPrefix(line, "FAIL"), strings.Contains(line, "DEAD"):
					t.Error(line)
				}
			}
			if passed == 0 {
				t.Fatalf("no message passed:\n%s", out)
			}
			t.Logf("%d messages answered as they must", passed)
		})
	}
}

// interopSIPp is a folder from which SIPp finds other people's scenarios.
func interopSIPp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(material(t, "sipp/*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, f := range files {
		if err := os.Symlink(f, filepath.Join(dir, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestInteropSIPp runs the outside scenarios unchanged: the whole job with
// operators' telephones, voicemail, answer and hang up.
func TestInteropSIPp(t *testing.T) {
	t.Parallel()
	const operators, calls = 3, 6
	s := newServer(t, func(s *server) { s.operators = operators })
	dir := interopSIPp(t)
	port := freePort(t)
	phones := s.secrets().Phones
	csv := "SEQUENTIAL\n"
	for i := range operators {
		ext := strconv.Itoa(demoFirstPhone + i)
		csv += fmt.Sprintf("%s;[authentication username=%s password=%s];127.0.0.1:%d\n", ext, ext, phones[ext], port)
	}
	if err := os.WriteFile(filepath.Join(dir, "operators.csv"), []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	startSIPp(t, dir, "uac_register.xml", s.sip, port, "-inf", "operators.csv", "-m", strconv.Itoa(operators)).wait()
	startSIPp(t, dir, "uas_operator.xml", "", port, "-d", "2000", "-set", "ring", "500", "-mp", soundPort(2))
	for i := range operators {
		s.declare(demoOperator(i+1), "available")
	}
	startSIPp(t, dir, "uac_full_job.xml", s.sip, freePort(t), "-s", "800000001", "-m", strconv.Itoa(calls), "-r", "2", "-mp", soundPort(0)).wait()
	s.waitContacts(calls, 30*time.Second, "the calls to be served", func(c tickets.Record) bool { return endingOf(c) == "served" })
	startSIPp(t, dir, "uac_voicemail.xml", s.sip, freePort(t), "-s", "800000002", "-m", "2", "-r", "2", "-d", "40000", "-mp", soundPort(0)).wait()
	s.waitContacts(2, 30*time.Second, "the messages", func(c tickets.Record) bool { return endingOf(c) == "voicemail" })
	startSIPp(t, dir, "uac_answer_hangup.xml", s.sip, freePort(t), "-s", "800000001", "-m", "20", "-r", "20", "-d", "100", "-mp", soundPort(0)).wait()
	s.waitContacts(20, 30*time.Second, "the short calls", func(c tickets.Record) bool { return endingOf(c) == "abandoned_ivr" })
}

// TestInteropBaresip gives anna a baresip as her telephone, by TLS and with encrypted
// sound; the caller's is in clear. Both speak at once, and both directions are compared
// with what was said.
func TestInteropBaresip(t *testing.T) {
	dir := dataDir(t)
	cert, key := newAuthority(t).pair(10)
	put(t, filepath.Join(dir, "sip.pem"), cert)
	put(t, filepath.Join(dir, "sip.key"), key)
	var at string
	s := newServer(t, func(s *server) {
		at = freeAddr(t, "tcp")
		put(t, filepath.Join(dir, "pronto.toml"), fmt.Appendf(nil, "[sip]\ntls_listen = [%q]\ncertificate = \"sip.pem\"\nkey = \"sip.key\"\nsrtp = \"required\"\n", at))
		s.args = []string{"--config", filepath.Join(dir, "pronto.toml")}
	})
	talkBy(t, s, "tls", at, ";mediaenc=srtp-mand")
}

// startBaresip registers a baresip as anna's telephone, which lifts by itself and says
// the sound in spoken, and makes her available.
// control is where it takes commands.
func startBaresip(t *testing.T, s *server, dir, spoken, transport, at, more string) (control int) {
	t.Helper()
	control = freePort(t)
	config, err := os.ReadFile(material(t, "phones/baresip.conf"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("@SIP@", strconv.Itoa(freePort(t)), "@CTL@", strconv.Itoa(control), "@RTP@", "34000-34100",
		"@IN@", spoken, "@DIR@", dir, "@NAME@", "anna").Replace(string(config))
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	account := fmt.Sprintf("<sip:1001@127.0.0.1;transport=%s>;auth_pass=%s;outbound=\"sip:%s;transport=%s\";regint=300;audio_codecs=PCMA/8000/1;answermode=auto%s\n",
		transport, s.secrets().Phones["1001"], at, transport, more)
	if err := os.WriteFile(filepath.Join(dir, "accounts"), []byte(account), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(tail)
	phone := exec.Command("baresip", "-f", dir)
	phone.Dir, phone.Stdout, phone.Stderr = dir, log, log
	if err := phone.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = phone.Process.Kill()
		_ = phone.Wait()
		if t.Failed() {
			t.Logf("baresip said:\n%s", lastLines(log.String(), 20))
		}
	})
	within(t, 20*time.Second, "baresip to register and anna to be available", func() error {
		_, err := s.do("PUT", "/operators/anna/state", map[string]string{"declared": "available"}, nil)
		return err
	})
	return control
}

// TestInteropBaresipTransfers lets anna's baresip hold a caller, take them up again, and
// give them to bruno with its transfer key.
func TestInteropBaresipTransfers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	_, program := built(t)
	dir := t.TempDir()
	spoken := filepath.Join(dir, "operator.wav")
	padWAV(t, material(t, "audio/ref_b.wav"), spoken, 60) // baresip hangs up at its end
	control := startBaresip(t, s, dir, spoken, "udp", s.sip, "")
	desk, err := netip.ParseAddrPort(s.sip)
	if err != nil {
		t.Fatal(err)
	}
	bruno, err := siptest.NewRealPhone(netip.MustParseAddr("127.0.0.1"), desk, nil, sip.SRTPOff)
	if err != nil {
		t.Fatal(err)
	}
	defer bruno.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := bruno.Register(ctx, "1002", s.secrets().Phones["1002"], time.Hour); err != nil {
		t.Fatal(err)
	}
	call := exec.CommandContext(ctx, program, "--server", s.sip, "--to", "800000001", "--from", "+390551234567", "--press", "12", "--for", "100s")
	if err := call.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = call.Wait() }()
	within(t, 40*time.Second, "anna to talk", func() error { return s.does("anna", "talking") })
	s.declare("bruno", "available")
	key, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", control))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	for _, command := range []string{`{"command":"hold"}`, `{"command":"resume"}`, `{"command":"hold"}`, `{"command":"transfer","params":"sip:1002@127.0.0.1"}`} {
		if _, err := fmt.Fprintf(key, "%d:%s,", len(command), command); err != nil { // a netstring
			t.Fatal(err)
		}
		answer := make([]byte, 4096)
		_ = key.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := key.Read(answer)
		t.Logf("baresip says to %s: %q %v", command, answer[:n], err)
	}
	if err := bruno.Rings(ctx, 40*time.Second); err != nil {
		t.Fatal("bruno, whom anna gives the caller to: ", err)
	}
	if err := bruno.Lift(ctx); err != nil {
		t.Fatal(err)
	}
	within(t, 40*time.Second, "anna to be free of the caller", func() error { return s.does("anna", "wrapping") })
	within(t, 40*time.Second, "bruno to talk", func() error { return s.does("bruno", "talking") })
	if err := bruno.HangUp(ctx); err != nil {
		t.Fatal(err)
	}
	s.waitContacts(1, 40*time.Second, "the talk to have been bruno's", func(c tickets.Record) bool {
		return endingOf(c) == "served" && c.Operator != nil && *c.Operator == "bruno"
	})
}

// does holds what the desk does with an operator against what it should.
func (s *server) does(operator, want string) error {
	var list struct {
		Items []struct{ Operator, Doing string }
	}
	if _, err := s.do("GET", "/operators", nil, &list); err != nil {
		return err
	}
	for _, o := range list.Items {
		if o.Operator == operator && o.Doing == want {
			return nil
		}
	}
	return fmt.Errorf("%+v", list.Items)
}

// talkBy lets a caller and anna's baresip talk, and listens to both.
func talkBy(t *testing.T, s *server, transport, at, more string) {
	_, program := built(t)
	dir := t.TempDir()
	refA, refB := material(t, "audio/ref_a.wav"), material(t, "audio/ref_b.wav")
	spoken := filepath.Join(dir, "operator.wav")
	padWAV(t, refB, spoken, 12) // the caller has said theirs by then
	startBaresip(t, s, dir, spoken, transport, at, more)
	// Sound is played by the clock, and a machine that is busy elsewhere for a moment
	// loses some of it without anybody's fault: a call that sounded wrong is made once
	// more. What is wrong with us is wrong every time.
	const tries = 3
	for try := 1; ; try++ {
		heard := filepath.Join(dir, fmt.Sprintf("caller-heard-%d.wav", try))
		call := exec.Command(program, "--server", s.sip, "--to", "800000001", "--from", "+390551234567", "--press", "12",
			"--say", refA, "--say-after", "8s", "--save", heard, "--for", "45s")
		out, err := call.CombinedOutput()
		t.Logf("the caller said (%v):\n%s", err, out)
		s.waitContacts(try, 60*time.Second, "the talk to be over", func(c tickets.Record) bool { return endingOf(c) == "served" })
		decoded, err := filepath.Glob(filepath.Join(dir, "dump-*-dec.wav"))
		if err != nil || len(decoded) != try {
			t.Fatalf("baresip recorded %d calls: %v", len(decoded), err)
		}
		err = errors.Join(compare(t, refB, heard), compare(t, refA, decoded[try-1])) // their names sort by time
		if err == nil {
			return
		}
		if try == tries {
			t.Fatal(err)
		}
		t.Log(err)
	}
}

// recipe is the indented block of the operations manual that follows a line which
// ends with after.
func recipe(t *testing.T, after string) string {
	t.Helper()
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(manual), after+"\n\n")
	if !found {
		t.Fatalf("no recipe after %q", after)
	}
	var b strings.Builder
	for line := range strings.Lines(rest) {
		if line != "\n" && !strings.HasPrefix(line, "    ") {
			break
		}
		b.WriteString(line)
	}
	return b.String()
}

// TestInteropKamailio puts a Kamailio before two nodes, the first of them dead, as
// the manual says: a caller is answered by the second and a stranger is sent away.
func TestInteropKamailio(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	dir, program := t.TempDir(), "../../.make/kamailio/usr/sbin/kamailio"
	modules, err := filepath.Glob("../../.make/kamailio/usr/lib/*/kamailio/modules")
	if err != nil || len(modules) != 1 {
		t.Fatalf("no Kamailio: use make interop INTEROP=DIR (%v)", err)
	}
	proxy, carrier, dead := fmt.Sprint("127.0.0.1:", freePort(t)), fmt.Sprint("127.0.0.1:", freePort(t)), fmt.Sprint("127.0.0.1:", freePort(t))
	config := strings.NewReplacer("192.0.2.5:5060", proxy, "/etc/kamailio/dispatcher.list", filepath.Join(dir, "dispatcher.list")).Replace(recipe(t, "`kamailio.cfg` (5.6):"))
	nodes := strings.NewReplacer("192.0.2.11:5060", dead, "192.0.2.12:5060", s.sip, "203.0.113.4:5060", carrier).Replace(recipe(t, "set, address, flags, priority:"))
	put(t, filepath.Join(dir, "kamailio.cfg"), []byte(config))
	put(t, filepath.Join(dir, "dispatcher.list"), []byte(nodes))
	log := new(tail)
	cmd := exec.Command(program, "-DD", "-E", "-m", "32", "-M", "4", "-n", "2", "-Y", dir, "-L", modules[0], "-f", filepath.Join(dir, "kamailio.cfg"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it ends its children itself
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Kamailio said:\n%s", lastLines(log.String(), 30))
		}
	})
	_, phone := built(t)
	call := func(from string) error {
		out, err := exec.Command(phone, "--server", proxy, "--local", from, "--to", "800000001", "--from", "+390551234567", "--for", "4s").CombinedOutput()
		t.Logf("from %s (%v):\n%s", from, err, out)
		return err
	}
	within(t, 20*time.Second, "a call through Kamailio", func() error { return call(carrier) })
	s.waitContacts(1, 20*time.Second, "the call to be on record", func(c tickets.Record) bool {
		return endingOf(c) == "abandoned_ivr" && c.Caller == "+390551234567"
	})
	var refused *exec.ExitError
	if err := call("127.0.0.77"); !errors.As(err, &refused) || refused.ExitCode() != 2 {
		t.Errorf("a stranger's call ended with %v", err)
	}
}

// compare holds what was heard against what was said.
func compare(t *testing.T, said, heard string) error {
	t.Helper()
	out, err := exec.Command("/usr/bin/python3", material(t, "audio_check.py"), said, heard, "--min-corr", "0.98", "--min-snr", "25", "--max-dropouts", "0").CombinedOutput()
	t.Logf("%s:\n%s", filepath.Base(heard), out)
	if err != nil {
		return fmt.Errorf("%s is not what was said: %w", heard, err)
	}
	return nil
}

// padWAV copies a 16-bit WAV with some seconds of silence behind it.
func padWAV(t *testing.T, from, to string, seconds int) {
	t.Helper()
	wav, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	data := strings.Index(string(wav), "data")
	rate := binary.LittleEndian.Uint32(wav[24:])
	frame := binary.LittleEndian.Uint16(wav[32:])
	wav = append(wav, make([]byte, seconds*int(rate)*int(frame))...)
	binary.LittleEndian.PutUint32(wav[4:], uint32(len(wav)-8))
	binary.LittleEndian.PutUint32(wav[data+4:], uint32(len(wav)-data-8))
	if err := os.WriteFile(to, wav, 0o644); err != nil {
		t.Fatal(err)
	}
}
