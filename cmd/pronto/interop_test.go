//go:build interop

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
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
// the manual says: a caller is answered by the second and a stranger is sent away. Calls
// out go through it as well: anna asks somebody outside, and then gives a caller to them.
func TestInteropKamailio(t *testing.T) {
	t.Parallel()
	const outside = "+390559876543"
	dir, program := t.TempDir(), "../../.make/kamailio/usr/sbin/kamailio"
	modules, err := filepath.Glob("../../.make/kamailio/usr/lib/*/kamailio/modules")
	if err != nil || len(modules) != 1 {
		t.Fatalf("no Kamailio: use make interop INTEROP=DIR (%v)", err)
	}
	proxy, carrier, dead := fmt.Sprint("127.0.0.1:", freePort(t)), fmt.Sprint("127.0.0.1:", freePort(t)), fmt.Sprint("127.0.0.1:", freePort(t))
	s := newServer(t, func(s *server) {
		trunk := strings.NewReplacer("192.0.2.5:5060", proxy, "192.0.2.5", "127.0.0.1").Replace(recipe(t, "In Pronto the proxy is the trunk:"))
		put(t, filepath.Join(dir, "pronto.toml"), []byte("[sip]\ntransfer_out = \"operators\"\n"+trunk))
		s.args = []string{"--config", filepath.Join(dir, "pronto.toml")}
	})
	config := strings.NewReplacer("192.0.2.5:5060", proxy, "/etc/kamailio/dispatcher.list", filepath.Join(dir, "dispatcher.list")).Replace(recipe(t, "`kamailio.cfg` (5.6):"))
	nodes := strings.NewReplacer("192.0.2.11:5060", dead, "192.0.2.12:5060", s.sip,
		"203.0.113.4:5060", outside+"@"+carrier).Replace(recipe(t, "set, address, flags, priority:")) // a baresip answers OPTIONS only by its own name
	put(t, filepath.Join(dir, "kamailio.cfg"), []byte(config))
	put(t, filepath.Join(dir, "dispatcher.list"), []byte(nodes))
	silence := filepath.Join(dir, "silence.wav")
	putWAV(t, silence, bytes.Repeat([]byte{audio.ALaw(0)}, 120*audio.Rate)) // baresip hangs up at its end
	bianchi := baresip(t, dir, fmt.Sprintf("<sip:%s@127.0.0.1;transport=udp>;regint=0;audio_codecs=%s;answermode=auto", outside, onlyPCMA), silence, "127.0.0.1:@SIP@", carrier)
	log := new(tail)
	cmd := exec.Command(program, "-DD", "-E", "-m", "32", "-M", "4", "-n", "2", "-Y", dir, "-L", modules[0], "-f", filepath.Join(dir, "kamailio.cfg"))
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Dir(modules[0])) // its modules look for them where Debian would have installed them
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
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	call := func(from, press, lasts string) error {
		out, err := exec.CommandContext(ctx, phone, "--server", proxy, "--local", from, "--to", "800000001", "--from", "+390551234567", "--press", press, "--for", lasts).CombinedOutput()
		t.Logf("from %s (%v):\n%s", from, err, out)
		return err
	}
	within(t, 20*time.Second, "a call through Kamailio", func() error { return call("127.0.0.1", "", "4s") })
	s.waitContacts(1, 20*time.Second, "the call to be on record", func(c tickets.Record) bool {
		return endingOf(c) == "abandoned_ivr" && c.Caller == "+390551234567"
	})
	var refused *exec.ExitError
	if err := call("127.0.0.77", "", "4s"); !errors.As(err, &refused) || refused.ExitCode() != 2 {
		t.Errorf("a stranger's call ended with %v", err)
	}

	anna := phoneOf(ctx, t, s, "1001")
	available(t, s, "anna")
	over := make(chan error, 1)
	go func() { over <- call("127.0.0.1", "12", "2m") }() // ends with ctx
	if err := anna.Rings(ctx, tellsWithin); err != nil {
		t.Fatal("anna: ", err)
	}
	if err := anna.Lift(ctx); err != nil {
		t.Fatal("anna: ", err)
	}
	within(t, tellsWithin, "anna to talk", func() error { return s.does("anna", "talking") })
	if err := anna.Consult(ctx, outside, "1001", s.secrets().Phones["1001"]); err != nil {
		t.Fatal("anna asks somebody outside: ", err)
	}
	bianchi.tells("CALL_ESTABLISHED")
	if err := anna.HangUp(ctx); err != nil { // and the desk hangs up on who was asked
		t.Fatal(err)
	}
	bianchi.tells("CALL_CLOSED")
	within(t, tellsWithin, "anna and the caller to be together again", func() error {
		status, err := anna.Refer(ctx, "<sip:"+outside+"@"+s.sip+">", false)
		if err == nil && status != referGiven {
			t.Fatalf("the transfer outside ended with %d", status)
		}
		return err
	})
	bianchi.tells("CALL_ESTABLISHED")
	bianchi.does("hangup", "")
	if err := <-over; err != nil {
		t.Errorf("the caller whom somebody outside hung up on: %v", err)
	}
	c := s.waitContacts(1, tellsWithin, "the call to be over", func(c tickets.Record) bool { return endingOf(c) == "transferred_out" })[0]
	byes := map[bool]int{} // by whether they are ours: those that went by the way of Record-Route
	for _, trace := range signalled(t, s, c) {
		for _, m := range trace.Messages {
			headers := strings.Join(m.Headers, "\n")
			if trace.Ways[m.Way].End == sip.EndCarrier && strings.HasPrefix(m.First, "BYE ") && (m.Out && strings.Contains(headers, "Route: ") || !m.Out && strings.Count(headers, "Via: ") == 2) {
				byes[m.Out]++
			}
		}
	}
	if byes[true] != 2 || byes[false] != 1 {
		t.Errorf("%d BYEs of ours and %d of theirs went through Kamailio, want 2 and 1", byes[true], byes[false])
	}
}

// ear is what must be left of the sound that somebody hears: correlation, and signal to
// noise in dB.
type ear struct{ corr, snr string }

// Sound passes as it is; at a telephone that plays a few milliseconds more or less when
// it has too much or too little in hand; and through G.722, whose waveform is another.
var (
	clean    = ear{"0.98", "25"}
	adaptive = ear{"0.98", "12"}
	wideband = ear{"0.9", "8"}
)

// compare holds what was heard against what was said.
func compare(t *testing.T, said, heard string, by ear) error {
	t.Helper()
	out, err := exec.Command("/usr/bin/python3", material(t, "audio_check.py"), said, heard,
		"--min-corr", by.corr, "--min-snr", by.snr, "--min-stoi", "0.95", "--max-dropouts", "0").CombinedOutput()
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
