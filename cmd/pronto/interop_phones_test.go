//go:build interop

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/siptest"
	"github.com/pronto-desk/pronto/tickets"
)

// Telephones that this project did not write, each on a console of its own: they are
// told what to do and say what happens to them, so that no story has to guess how long
// anything takes.

const (
	tellsWithin = 40 * time.Second // what happens to a telephone on a machine that is busy
	tries       = 3                // sound is played by the clock, and a busy machine loses some of it without anybody's fault: what is wrong with us is wrong every time
)

// console is where a telephone takes its commands and tells its news.
type console struct {
	t    *testing.T
	name string
	in   io.Writer
	out  *tail
	seen int // what of out was waited for
}

// tells waits for news, after those that were waited for before.
func (c *console) tells(news string) {
	c.t.Helper()
	within(c.t, tellsWithin, c.name+" to tell "+news, func() error {
		out := c.out.String()
		_, after, found := strings.Cut(out[c.seen:], news)
		if !found {
			return errors.New(lastLines(out, 10))
		}
		c.seen = len(out) - len(after)
		return nil
	})
}

// types gives a linphonec a line.
func (c *console) types(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		c.t.Fatal(c.name, ": ", err)
	}
}

// does gives a baresip a command.
func (c *console) does(command, params string) {
	c.t.Helper()
	text, err := json.Marshal(map[string]string{"command": command, "params": params})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c.in, "%d:%s,", len(text), text); err != nil { // a netstring
		c.t.Fatal(c.name, ": ", err)
	}
}

// runs starts a telephone's program, which ends with the test.
func runs(t *testing.T, name string, phone *exec.Cmd) *tail {
	t.Helper()
	log := new(tail)
	phone.Stdout, phone.Stderr = log, log
	if err := phone.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = phone.Process.Kill()
		_ = phone.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, lastLines(log.String(), 30))
		}
	})
	return log
}

// linphone starts a linphonec that plays and records files: the telephone of an
// extension, or a carrier's caller with that number when there is no password.
func linphone(t *testing.T, s *server, dir, user, password string) *console {
	t.Helper()
	config, err := os.ReadFile(material(t, "phones/linphonerc"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("sip_port=5171", "sip_port="+strconv.Itoa(freePort(t)), "127.0.0.1:5160", s.sip, "1003", user, "secret", password,
		"realm=127.0.0.1", "realm=pronto", "audio_rtp_port=23000", "audio_rtp_port="+strconv.Itoa(freePort(t)&^1),
		"audio_jitt_comp=60", "audio_jitt_comp=60\naudio_adaptive_jitt_comp_enabled=0").Replace(string(config))
	if password == "" {
		text, _, _ = strings.Cut(text, "[proxy_0]")
	}
	put(t, filepath.Join(dir, "linphonerc"), []byte(text))
	if err := os.MkdirAll(filepath.Join(dir, ".local/share/linphone"), 0o700); err != nil { // without it, it does not register
		t.Fatal(err)
	}
	phone := exec.Command("linphonec", "-c", filepath.Join(dir, "linphonerc"))
	phone.Dir, phone.Env = dir, append(os.Environ(), "HOME="+dir)
	in, err := phone.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, name: "linphonec " + user, in: in, out: runs(t, "linphonec "+user, phone)}
	c.types("soundcard use files")
	c.tells("Using wav files")
	c.types("record " + filepath.Join(dir, "heard.wav"))
	return c
}

// baresip starts a baresip with an account, which says the sound in spoken.
func baresip(t *testing.T, dir, account, spoken string) *console {
	t.Helper()
	config, err := os.ReadFile(material(t, "phones/baresip.conf"))
	if err != nil {
		t.Fatal(err)
	}
	control := freePort(t)
	text := strings.NewReplacer("@SIP@", strconv.Itoa(freePort(t)), "@CTL@", strconv.Itoa(control), "@RTP@", "34000-34100",
		"@IN@", spoken, "@DIR@", dir, "@NAME@", "it").Replace(string(config)) + "statmode_default off\n"
	put(t, filepath.Join(dir, "config"), []byte(text))
	put(t, filepath.Join(dir, "accounts"), []byte(account+"\n"))
	phone := exec.Command("baresip", "-f", dir)
	phone.Dir = dir
	runs(t, "baresip", phone)
	c := &console{t: t, name: "baresip", out: new(tail)}
	within(t, tellsWithin, "baresip to take commands", func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", control))
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = conn.Close() })
		go func() { _, _ = io.Copy(c.out, conn) }()
		c.in = conn
		return nil
	})
	return c
}

// operatorsAccount is the line by which a baresip is anna's telephone.
func operatorsAccount(s *server, transport, at, more string) string {
	return fmt.Sprintf("<sip:1001@127.0.0.1;transport=%s>;auth_pass=%s;outbound=\"sip:%s;transport=%s\";regint=300;audio_codecs=PCMA/8000/1;answermode=auto%s",
		transport, s.secrets().Phones["1001"], at, transport, more)
}

// annaAvailable waits for anna's telephone to register, and makes her available.
func annaAvailable(t *testing.T, s *server) {
	t.Helper()
	within(t, tellsWithin, "anna's telephone to register", func() error {
		_, err := s.do("PUT", "/operators/anna/state", map[string]string{"declared": "available"}, nil)
		return err
	})
}

// heardBy are the files of what a baresip heard, one for each time that its sound was
// set up, the oldest first.
func heardBy(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "dump-*-dec.wav")) // their names sort by time
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestInteropTalks listens to talks between other people's telephones. Nothing else of
// this suite runs beside them: sound is played by the clock.
func TestInteropTalks(t *testing.T) {
	t.Run("baresip rings linphonec", func(t *testing.T) { t.Parallel(); ringsLinphone(t) })
	t.Run("linphonec rings baresip", func(t *testing.T) { t.Parallel(); ringsBaresip(t) })
}

// ringsLinphone lets a baresip ring the number over TCP, hear the greeting and press
// keys, and anna's linphonec lift, hold, talk, press keys and give the caller to bruno.
// The caller holds, too.
func ringsLinphone(t *testing.T) {
	s := newServer(t)
	refA, refB := material(t, "audio/ref_a.wav"), material(t, "audio/ref_b.wav")
	annas, callers := t.TempDir(), t.TempDir()
	anna := linphone(t, s, annas, "1001", s.secrets().Phones["1001"])
	annaAvailable(t, s)
	silence, spoken := filepath.Join(callers, "silence.wav"), filepath.Join(callers, "spoken.wav")
	putWAV(t, silence, bytes.Repeat([]byte{audio.ALaw(0)}, 90*audio.Rate)) // baresip hangs up at its end
	padWAV(t, refA, spoken, 90)
	caller := baresip(t, callers, fmt.Sprintf("<sip:+390551234567@127.0.0.1;transport=tcp>;regint=0;outbound=\"sip:%s;transport=tcp\";audio_codecs=PCMA/8000/1", s.sip), silence)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	bruno := brunosPhone(ctx, t, s)

	greeting := prompts.Italian().Clip(prompts.Welcome)
	welcome := filepath.Join(callers, "welcome.wav")
	putWAV(t, welcome, greeting.ALaw)
	caller.does("dial", "sip:800000001@127.0.0.1")
	caller.tells("CALL_ESTABLISHED")
	hasHeard(t, callers, greeting.Duration()+time.Second)
	caller.does("sndcode", "1")
	caller.does("sndcode", "2")
	anna.tells("Receiving new incoming call")
	if err := compare(t, welcome, sofar(t, heardBy(t, callers)...), clean); err != nil {
		t.Error("the greeting: ", err)
	}
	anna.types("answer")
	anna.tells("Media streams established")
	within(t, tellsWithin, "anna to talk", func() error { return s.does("anna", "talking") })
	anna.types("pause")
	anna.tells("is now paused")
	anna.types("resume")
	anna.tells("Media streams established")
	talk(t, callers, func() { anna.types("play " + refB); caller.does("ausrc", "aufile,"+spoken) }, func() error {
		return errors.Join(compare(t, refB, sofar(t, heardBy(t, callers)...), clean), compare(t, refA, sofar(t, filepath.Join(annas, "heard.wav")), adaptive))
	})
	caller.does("hold", "") // this baresip records no more after it: keys show that both sides are heard again
	caller.tells("CALL_REMOTE_SDP")
	caller.does("resume", "")
	caller.tells("CALL_REMOTE_SDP")
	anna.types("5")
	caller.tells("CALL_DTMF_START")
	caller.does("sndcode", "7")
	anna.tells("Receiving tone 7")
	s.declare("bruno", "available")
	anna.types("transfer 1 sip:1002@127.0.0.1")
	if err := bruno.Rings(ctx, tellsWithin); err != nil {
		t.Fatal("bruno, whom anna gives the caller to: ", err)
	}
	if err := bruno.Lift(ctx); err != nil {
		t.Fatal(err)
	}
	anna.tells("ended")
	within(t, tellsWithin, "bruno to talk", func() error { return s.does("bruno", "talking") })
	caller.does("hangup", "")
	recordedAs(t, s, "bruno", "begun answered classified opened waiting offered accepted talking taken held resumed given released waiting offered accepted talking released ended")
}

// ringsBaresip lets a linphonec ring the number as a carrier's caller does, in clear, and
// hold; anna's telephone is a baresip, by TLS and with encrypted sound.
func ringsBaresip(t *testing.T) {
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
	refA, refB := material(t, "audio/ref_a.wav"), material(t, "audio/ref_b.wav")
	annas, callers := t.TempDir(), t.TempDir()
	spoken := filepath.Join(annas, "spoken.wav")
	padWAV(t, refB, spoken, 60) // baresip hangs up at its end
	anna := baresip(t, annas, operatorsAccount(s, "tls", at, ";mediaenc=srtp-mand"), spoken)
	annaAvailable(t, s)
	caller := linphone(t, s, callers, "+390551234567", "")
	caller.types("call sip:800000001@" + s.sip)
	caller.tells("Media streams established")
	caller.types("1")
	caller.types("2")
	anna.tells("CALL_ESTABLISHED")
	caller.types("pause")
	caller.tells("is now paused")
	caller.types("resume")
	caller.tells("Media streams established")
	talk(t, annas, func() { caller.types("play " + refA); anna.does("ausrc", "aufile,"+spoken) }, func() error {
		return errors.Join(compare(t, refA, sofar(t, heardBy(t, annas)...), clean), compare(t, refB, sofar(t, filepath.Join(callers, "heard.wav")), adaptive))
	})
	caller.types("terminate")
	anna.tells("CALL_CLOSED")
	recordedAs(t, s, "anna", "begun answered classified opened waiting offered accepted talking taken released ended")
}

// recordedAs holds the one call's contact against what was done.
func recordedAs(t *testing.T, s *server, operator, journal string) {
	t.Helper()
	c := s.waitContacts(1, tellsWithin, "the talk to be over", func(c tickets.Record) bool { return endingOf(c) == "served" })[0]
	c = s.contactOf(c.CallID, "its operator", func(c tickets.Record) bool { return true }) // no list of talks says whose they were
	if c.Operator == nil || *c.Operator != operator || c.Caller != "+390551234567" || c.Topic == nil || c.Topic.Code != "software" || c.Ticket == nil {
		t.Errorf("not the call that was made: %+v", c)
	}
	if told := strings.ReplaceAll(kinds(c), " told", ""); told != journal { // its number, when the operator is not quicker
		t.Errorf("the journal says %s, not %s", told, journal)
	}
}

// talk lets both sides speak at once, until a baresip has heard it all, and compares what
// they heard with what was said; once more when a busy machine lost some of it.
func talk(t *testing.T, listener string, speak func(), sounds func() error) {
	t.Helper()
	const lasts = 18 * time.Second // the longer of the two, and what is on its way
	for try := 1; ; try++ {
		before := heardFor(t, listener)
		speak()
		hasHeard(t, listener, before+lasts)
		err := sounds()
		if err == nil {
			return
		}
		if try == tries {
			t.Fatal(err)
		}
		t.Log(err)
	}
}

// brunosPhone is the one that calls are transferred to, registered.
func brunosPhone(ctx context.Context, t *testing.T, s *server) *siptest.Phone {
	t.Helper()
	desk, err := netip.ParseAddrPort(s.sip)
	if err != nil {
		t.Fatal(err)
	}
	bruno, err := siptest.NewRealPhone(netip.MustParseAddr("127.0.0.1"), desk, nil, sip.SRTPOff)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bruno.Close)
	if err := bruno.Register(ctx, "1002", s.secrets().Phones["1002"], time.Hour); err != nil {
		t.Fatal(err)
	}
	return bruno
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
	anna := baresip(t, dir, operatorsAccount(s, "udp", s.sip, ""), spoken)
	annaAvailable(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bruno := brunosPhone(ctx, t, s)
	call := exec.CommandContext(ctx, program, "--server", s.sip, "--to", "800000001", "--from", "+390551234567", "--press", "12", "--for", "100s")
	if err := call.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = call.Wait() }()
	within(t, 40*time.Second, "anna to talk", func() error { return s.does("anna", "talking") })
	s.declare("bruno", "available")
	for range 2 {
		anna.does("hold", "")
		anna.tells("CALL_REMOTE_SDP")
		anna.does("resume", "")
		anna.tells("CALL_REMOTE_SDP")
	}
	anna.does("transfer", "sip:1002@127.0.0.1")
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
	c := s.waitContacts(1, 40*time.Second, "the talk to be over", func(c tickets.Record) bool { return endingOf(c) == "served" })[0]
	s.contactOf(c.CallID, "the talk to have been bruno's", func(c tickets.Record) bool { return c.Operator != nil && *c.Operator == "bruno" })
}

// hasHeard waits until a baresip has recorded so much.
func hasHeard(t *testing.T, dir string, d time.Duration) {
	t.Helper()
	within(t, d+tellsWithin, "baresip to hear for "+d.String(), func() error {
		if heard := heardFor(t, dir); heard < d {
			return fmt.Errorf("it has heard for %s", heard)
		}
		return nil
	})
}

// heardFor is how much a baresip has recorded, in 16 bits at 8 kHz.
func heardFor(t *testing.T, dir string) time.Duration {
	t.Helper()
	var size int64
	for _, path := range heardBy(t, dir) {
		about, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += about.Size()
	}
	return time.Duration(size) * time.Second / (2 * audio.Rate)
}

// sofar puts together what a telephone has recorded of a call that goes on, in 16 bits
// at 8 kHz: its own files say how long they are only once they are closed.
func sofar(t *testing.T, paths ...string) string {
	t.Helper()
	const header = 44
	var sound []byte
	for _, path := range paths {
		wav, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sound = append(sound, wav[min(header, len(wav)):len(wav)&^1]...)
	}
	var wav bytes.Buffer
	if err := audio.WritePCMWAV(&wav, make([]byte, len(sound)/2)); err != nil { // for its header
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "heard.wav")
	put(t, to, append(wav.Bytes()[:header], sound...))
	return to
}

// putWAV writes a sound as 16-bit WAV.
func putWAV(t *testing.T, path string, alaw []byte) {
	t.Helper()
	var wav bytes.Buffer
	if err := audio.WritePCMWAV(&wav, alaw); err != nil {
		t.Fatal(err)
	}
	put(t, path, wav.Bytes())
}
