package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets"
)

// SIPp is somebody else's SIP: what it accepts, a carrier's equipment accepts.

// sippDir is a folder with the scenarios and voices that SIPp streams.
func sippDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	scenarios, err := filepath.Glob("testdata/sipp/*.xml")
	if err != nil || len(scenarios) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range scenarios {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var alaw, ulaw []byte // ten seconds of a warbling tone, well above any silence threshold
	for i := range 10 * 8000 {
		x := float64(i) / 8000
		v := int16(9000 * math.Sin(2*math.Pi*(500*x+60*math.Sin(2*math.Pi*3*x)/(2*math.Pi))))
		alaw = append(alaw, audio.ALaw(v))
		ulaw = append(ulaw, audio.ULaw(v))
	}
	for name, sound := range map[string][]byte{"voice.alaw": alaw, "voice.ulaw": ulaw} {
		if err := os.WriteFile(filepath.Join(dir, name), sound, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sipp is a SIPp process of a test.
type sipp struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  *tail
	dir  string
	name string
}

// startSIPp starts a scenario from a port of its own; remote is "" for one that answers.
func startSIPp(t testing.TB, dir, scenario, remote string, port int, args ...string) *sipp {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	p := &sipp{t: t, log: new(tail), dir: dir, name: scenario}
	line := []string{"-sf", scenario, "-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", strconv.Itoa(port), "-nostdin", "-trace_err", "-error_file", scenario + ".err"}
	if remote != "" {
		line = append([]string{remote}, line...)
	}
	p.cmd = exec.CommandContext(ctx, "sipp", append(line, args...)...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "TERM=dumb")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatalf("start sipp: %v", err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		cancel()
		if t.Failed() {
			errs, _ := os.ReadFile(filepath.Join(dir, scenario+".err"))
			t.Logf("sipp %s said:\n%s\n%s", scenario, lastLines(p.log.String(), 25), lastLines(string(errs), 25))
		}
	})
	return p
}

// soundPort is where a SIPp of this run puts its sound: below what the system
// gives away and what servers of tests have, and apart from other runs.
func soundPort(n int) string { return strconv.Itoa(10000 + os.Getpid()%1000*8 + n*2) }

// wait waits for the end and fails unless every call went as its scenario says.
func (p *sipp) wait() {
	p.t.Helper()
	if err := p.cmd.Wait(); err != nil {
		errs, _ := os.ReadFile(filepath.Join(p.dir, p.name+".err"))
		p.t.Fatalf("sipp %s: %v\n%s\n%s", p.name, err, errs, lastLines(p.log.String(), 60))
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// freePort gives a free UDP port of 127.0.0.1.
func freePort(t testing.TB) int {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// sippPhones registers SIPp telephones for the first n operators and lets them
// answer, all on one port, talking for talk.
func sippPhones(t testing.TB, s *server, dir string, n int, talk time.Duration) {
	t.Helper()
	port := freePort(t)
	phones := s.secrets().Phones
	csv := "SEQUENTIAL\n"
	for i := range n {
		ext := strconv.Itoa(demoFirstPhone + i)
		csv += fmt.Sprintf("%s;[authentication username=%s password=%s]\n", ext, ext, phones[ext])
	}
	if err := os.WriteFile(filepath.Join(dir, "phones.csv"), []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	startSIPp(t, dir, "register.xml", s.sip, port, "-inf", "phones.csv", "-m", strconv.Itoa(n)).wait()
	startSIPp(t, dir, "operator.xml", "", port, "-d", strconv.Itoa(int(talk.Milliseconds())), "-mp", soundPort(2))
	for i := range n {
		s.declare(demoOperator(i+1), "available")
	}
}

// TestSIPpWholeJob brings several callers through the menu, the queue and a talk
// with an operator's telephone, over real sockets and a real database.
func TestSIPpWholeJob(t *testing.T) {
	const calls, operators = 8, 3
	s := newServer(t, func(s *server) { s.operators = operators })
	dir := sippDir(t)
	sippPhones(t, s, dir, operators, 2*time.Second)
	startSIPp(t, dir, "caller.xml", s.sip, freePort(t), "-s", "800000001", "-m", strconv.Itoa(calls), "-r", "2", "-mp", soundPort(0)).wait()

	served := s.waitContacts(calls, 20*time.Second, "every call to be served", func(c tickets.Record) bool { return endingOf(c) == "served" })
	numbers := map[string]bool{}
	for _, c := range served {
		t.Logf("%s: %s", c.CallID, timeline(c))
		if c.Caller != "+390551234567" || c.CallerSource != "asserted" || c.Match != "certain" {
			t.Errorf("caller %q by %s is matched %s, want Mario Rossi, asserted, certain", c.Caller, c.CallerSource, c.Match)
		}
		if c.Topic == nil || c.Topic.Code != "certificati" {
			t.Errorf("key 2 chose %+v, want certificati", c.Topic)
		}
		if c.Ticket == nil || numbers[*c.Ticket] {
			t.Errorf("ticket %v is missing or given twice", c.Ticket)
		} else {
			numbers[*c.Ticket] = true
		}
		last := c.T0
		for _, at := range []*time.Time{c.Ta, c.Ts, c.Tq, c.Tr, c.Tc, c.Te} {
			if at == nil {
				t.Fatalf("an instant is missing: %+v (%s)", c, kinds(c))
			}
			if at.Before(last) {
				t.Errorf("instants run backwards: %v before %v (%s)", *at, last, kinds(c))
			}
			last = *at
		}
		if talk := c.Te.Sub(*c.Tc); talk < 1500*time.Millisecond || talk > 10*time.Second {
			t.Errorf("talked %s, want about 2 s", talk)
		}
	}
}

// TestSIPpVoicemail leaves messages at a service that is always closed.
func TestSIPpVoicemail(t *testing.T) {
	const calls = 3
	s := newServer(t)
	dir := sippDir(t)
	startSIPp(t, dir, "night.xml", s.sip, freePort(t), "-s", "800000002", "-m", strconv.Itoa(calls), "-r", "3", "-d", "40000", "-mp", soundPort(0)).wait()
	for _, c := range s.waitContacts(calls, 20*time.Second, "the calls to end", func(c tickets.Record) bool { return c.Ending != nil }) {
		t.Logf("%s: %s: %s", c.CallID, endingOf(c), timeline(c))
		if endingOf(c) != "voicemail" {
			t.Errorf("a message ended %s", endingOf(c))
		}
		if c.Ticket == nil || !c.HasRecording || !c.NumberTold {
			t.Errorf("a message without its ticket, its sound or its number told: %+v", c)
			continue
		}
		var wav []byte
		s.must("GET", "/contacts/"+c.ID.String()+"/recording", nil, &wav)
		sound, err := audio.ReadWAV(strings.NewReader(string(wav)))
		if err != nil {
			t.Errorf("the recording is no WAV: %v", err)
		} else if len(sound) < 2*8000 || audio.Level(sound) < -20 {
			t.Errorf("the recording has %d samples at %.0f dBFS: not what was said", len(sound), audio.Level(sound))
		}
	}
}

// TestSIPpRaces lets a caller's ACK, BYE and CANCEL come at the worst moments, all races
// side by side at one desk: each is answered as the scenario says, and each call ends once.
func TestSIPpRaces(t *testing.T) {
	s := newServer(t)
	dir := sippDir(t)
	races := []string{"bye-before-ack", "bye-in-reinvite", "bye-twice", "cancel-first", "cancel-late", "wrong-tag"}
	var running []*sipp
	for i, race := range races {
		running = append(running, startSIPp(t, dir, race+".xml", s.sip, freePort(t), "-s", "800000001", "-m", "3", "-r", "3", "-timeout", "60", "-mp", soundPort(4+2*i)))
	}
	for _, p := range running {
		p.wait()
	}
	for _, c := range s.waitContacts(3*len(races), 20*time.Second, "every call to end", func(c tickets.Record) bool { return c.Ending != nil }) {
		if n := strings.Count(kinds(c)+" ", "ended "); !strings.HasPrefix(endingOf(c), "abandoned_") || n != 1 {
			t.Errorf("%s ended %d times, %s: %s", c.CallID, n, endingOf(c), kinds(c))
		}
	}
}

// timeline is a contact's journal with the seconds since T0.
func timeline(c tickets.Record) string {
	var list []string
	for _, l := range c.Journal {
		list = append(list, fmt.Sprintf("%s %.1f", l.Kind, l.At.Sub(c.T0).Seconds()))
	}
	return strings.Join(list, ", ")
}
