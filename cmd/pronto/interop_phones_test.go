//go:build interop

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
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
// extension, or a carrier's caller with that number when there is no password. change is
// what its configuration says otherwise: old, new, old, new…
func linphone(t *testing.T, s *server, dir, user, password string, change ...string) *console {
	t.Helper()
	config, err := os.ReadFile(material(t, "phones/linphonerc"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(append(change, "sip_port=5171", "sip_port="+strconv.Itoa(freePort(t)), "127.0.0.1:5160", s.sip, "1003", user, "secret", password,
		"realm=127.0.0.1", "realm=pronto", "audio_rtp_port=23000", "audio_rtp_port="+strconv.Itoa(freePort(t)&^1),
		"audio_jitt_comp=60", "audio_jitt_comp=60\naudio_adaptive_jitt_comp_enabled=0")...).Replace(string(config))
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

// baresip starts a baresip with an account, which says the sound in spoken. change is
// what its configuration says otherwise.
func baresip(t *testing.T, dir, account, spoken string, change ...string) *console {
	t.Helper()
	config, err := os.ReadFile(material(t, "phones/baresip.conf"))
	if err != nil {
		t.Fatal(err)
	}
	control := freePort(t)
	text := strings.NewReplacer(append(change, "@SIP@", strconv.Itoa(freePort(t)), "@CTL@", strconv.Itoa(control), "@RTP@", "34000-34100",
		"@IN@", spoken, "@DIR@", dir, "@NAME@", "it")...).Replace(string(config)) + "statmode_default off\n"
	put(t, filepath.Join(dir, "config"), []byte(text))
	put(t, filepath.Join(dir, "accounts"), []byte(account+"\n"))
	args := []string{"-f", dir}
	if strings.Contains(account, "@[") {
		args = append(args, "-6")
	}
	phone := exec.Command("baresip", args...)
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

// Codecs as a baresip's account names them, each as the only one.
const (
	onlyPCMA = "PCMA/8000/1"
	onlyG722 = "G722/16000/1"
)

// operatorsAccount is the line by which a baresip is the telephone of an extension.
func operatorsAccount(s *server, extension, transport, at, codec, more string) string {
	return fmt.Sprintf("<sip:%s@127.0.0.1;transport=%s>;auth_pass=%s;outbound=\"sip:%s;transport=%s\";regint=300;audio_codecs=%s;answermode=auto%s",
		extension, transport, s.secrets().Phones[extension], at, transport, codec, more)
}

// available waits for an operator's telephone to register, and makes the operator
// available.
func available(t *testing.T, s *server, operator string) {
	t.Helper()
	within(t, tellsWithin, operator+"'s telephone to register", func() error {
		_, err := s.do("PUT", "/operators/"+operator+"/state", map[string]string{"declared": "available"}, nil)
		return err
	})
}

// withTLS lets a desk speak TLS too, at an address, where sound must be encrypted; roots
// is a file with who vouches for it.
func withTLS(t *testing.T) (change func(*server), at, roots string) {
	t.Helper()
	dir := dataDir(t)
	vouches := newAuthority(t)
	cert, key := vouches.pair(10)
	at, roots = freeAddr(t, "tcp"), filepath.Join(dir, "roots.pem")
	put(t, roots, vouches.pem)
	put(t, filepath.Join(dir, "sip.pem"), cert)
	put(t, filepath.Join(dir, "sip.key"), key)
	put(t, filepath.Join(dir, "pronto.toml"), fmt.Appendf(nil, "[sip]\ntls_listen = [%q]\ncertificate = \"sip.pem\"\nkey = \"sip.key\"\nsrtp = \"required\"\n", at))
	return func(s *server) { s.args = append(s.args, "--config", filepath.Join(dir, "pronto.toml")) }, at, roots
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
	t.Run("linphonec asks baresip", func(t *testing.T) { t.Parallel(); asksBaresip(t) })
}

// ringsLinphone lets a baresip ring the number over TCP, hear the greeting and press
// keys, and anna's linphonec lift, hold, talk, press keys and give the caller to bruno.
// The caller holds, too.
func ringsLinphone(t *testing.T) {
	s := newServer(t)
	refA, refB := said(t, "audio/ref_a.wav"), said(t, "audio/ref_b.wav")
	annas, callers := t.TempDir(), t.TempDir()
	anna := linphone(t, s, annas, "1001", s.secrets().Phones["1001"])
	available(t, s, "anna")
	silence, spoken := filepath.Join(callers, "silence.wav"), filepath.Join(callers, "spoken.wav")
	putWAV(t, silence, bytes.Repeat([]byte{audio.ALaw(0)}, 90*audio.Rate)) // baresip hangs up at its end
	padWAV(t, refA, spoken, 90)
	caller := baresip(t, callers, fmt.Sprintf("<sip:+390551234567@127.0.0.1;transport=tcp>;regint=0;outbound=\"sip:%s;transport=tcp\";audio_codecs=PCMA/8000/1", s.sip), silence)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	bruno := phoneOf(ctx, t, s, "1002")

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
	byTLS, at, _ := withTLS(t)
	s := newServer(t, byTLS)
	refA, refB := said(t, "audio/ref_a.wav"), said(t, "audio/ref_b.wav")
	annas, callers := t.TempDir(), t.TempDir()
	spoken := filepath.Join(annas, "spoken.wav")
	padWAV(t, refB, spoken, 60) // baresip hangs up at its end
	anna := baresip(t, annas, operatorsAccount(s, "1001", "tls", at, onlyPCMA, ";mediaenc=srtp-mand"), spoken)
	available(t, s, "anna")
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

// asksBaresip lets a baresip of IPv6, which speaks nothing but G.722, ring anna's linphonec,
// which is there by TLS with encrypted sound. She asks bruno in a second call, whose
// baresip speaks nothing but G.722 either, and gives the caller to him: REFER with Replaces.
func asksBaresip(t *testing.T) {
	byTLS, at, roots := withTLS(t)
	six := fmt.Sprintf("[::1]:%d", freePort(t))
	s := newServer(t, byTLS, func(s *server) { s.args = append(s.args, "--sip", six) })
	refA, refB := said(t, "audio/ref_a.wav"), said(t, "audio/ref_b.wav")
	annas, brunos, callers := t.TempDir(), t.TempDir(), t.TempDir()
	silence, paddedA, paddedB := filepath.Join(callers, "silence.wav"), filepath.Join(callers, "a.wav"), filepath.Join(callers, "b.wav")
	putWAV(t, filepath.Join(callers, "short.wav"), []byte{audio.ALaw(0)})
	padWAV(t, doubled(t, filepath.Join(callers, "short.wav")), silence, 120) // baresip hangs up at its end
	padWAV(t, doubled(t, refA), paddedA, 90)
	padWAV(t, doubled(t, refB), paddedB, 90)
	rates := []string{"ausrc_srate 8000", "ausrc_srate 16000", "auplay_srate 8000", "auplay_srate 16000"}
	anna := linphone(t, s, annas, "1001", s.secrets().Phones["1001"],
		"sip_tls_port=0", "sip_tls_port=-2\nroot_ca="+roots+"\nverify_server_certs=1\nverify_server_cn=0\nmedia_encryption=srtp\nmedia_encryption_mandatory=1", "<sip:127.0.0.1:5160>", "<sip:"+at+";transport=tls>")
	available(t, s, "anna")
	bruno := baresip(t, brunos, operatorsAccount(s, "1002", "udp", s.sip, onlyG722, ""), silence, rates...)
	caller := baresip(t, callers, fmt.Sprintf("<sip:+390551234567@[::1];transport=udp>;regint=0;outbound=\"sip:%s;transport=udp\";audio_codecs=%s", six, onlyG722), silence,
		append(rates, "sip_listen 127.0.0.1:", "net_interface ::1\nsip_listen [::1]:")...)

	caller.does("dial", "sip:800000001@[::1]")
	caller.tells("CALL_ESTABLISHED")
	caller.does("sndcode", "1")
	caller.does("sndcode", "2")
	anna.tells("Receiving new incoming call")
	anna.types("answer")
	anna.tells("Media streams established")
	within(t, tellsWithin, "anna to talk", func() error { return s.does("anna", "talking") })
	talk(t, callers, func() { anna.types("play " + refB); caller.does("ausrc", "aufile,"+paddedA) }, func() error {
		return errors.Join(compare(t, refB, sofar(t, heardBy(t, callers)...), wideband), compare(t, refA, sofar(t, filepath.Join(annas, "heard.wav")), wideband))
	})
	available(t, s, "bruno")
	anna.types("pause")
	anna.tells("is now paused")
	anna.types("call sip:1002@" + at + ";transport=tls")
	anna.tells("Media streams established")
	bruno.tells("CALL_ESTABLISHED")
	s.waitContacts(1, tellsWithin, "anna to talk to bruno", func(c tickets.Record) bool { return strings.Contains(kinds(c), "consulted") }) // before, the transfer gets 491
	anna.types("transfer 1 --to-call 2")
	anna.tells("ended")
	anna.tells("ended")
	within(t, tellsWithin, "bruno to talk", func() error { return s.does("bruno", "talking") })
	talk(t, brunos, func() { bruno.does("ausrc", "aufile,"+paddedA); caller.does("ausrc", "aufile,"+paddedB) }, func() error {
		return errors.Join(compare(t, refA, sofar(t, heardBy(t, callers)...), wideband), compare(t, refB, sofar(t, heardBy(t, brunos)...), wideband))
	})
	caller.does("hangup", "")
	c := recordedAs(t, s, "bruno", "begun answered classified opened waiting offered accepted talking taken held asked offered accepted consulted given released joined released ended")
	spoke := map[string]string{} // by the way, what their first description says
	for _, trace := range signalled(t, s, c) {
		for _, m := range trace.Messages {
			way := trace.Ways[m.Way]
			for _, line := range m.Body {
				whose := way.End + " " + way.Name
				if f := strings.Fields(line); !m.Out && strings.HasPrefix(line, "m=audio ") && spoke[whose] == "" {
					host, _, _ := net.SplitHostPort(way.Remote)
					spoke[whose] = strings.Join([]string{way.Network, host, f[2], f[3]}, " ")
				}
			}
		}
	}
	want := map[string]string{"carrier demo": "UDP ::1 RTP/AVP 9", "telephone 1001": "TLS 127.0.0.1 RTP/SAVP 8", "telephone 1002": "UDP 127.0.0.1 RTP/AVP 9"}
	if !maps.Equal(spoke, want) {
		t.Errorf("they spoke %v, want %v", spoke, want)
	}
}

// signalled waits for what was signalled for a contact: it is kept some seconds after the
// call is over.
func signalled(t *testing.T, s *server, c tickets.Record) []sip.Trace {
	t.Helper()
	var list struct{ Items []sip.Trace }
	within(t, tellsWithin, "what was signalled", func() error {
		s.must("GET", "/contacts/"+c.ID.String()+"/trace", nil, &list)
		if len(list.Items) == 0 {
			return errors.New("nothing is kept yet")
		}
		return nil
	})
	return list.Items
}

// recordedAs holds the one call's contact against what was done.
func recordedAs(t *testing.T, s *server, operator, journal string) tickets.Record {
	t.Helper()
	c := s.waitContacts(1, tellsWithin, "the talk to be over", func(c tickets.Record) bool { return endingOf(c) == "served" })[0]
	c = s.contactOf(c.CallID, "its operator", func(c tickets.Record) bool { return true }) // no list of talks says whose they were
	if c.Operator == nil || *c.Operator != operator || c.Caller != "+390551234567" || c.Topic == nil || c.Topic.Code != "software" || c.Ticket == nil {
		t.Errorf("not the call that was made: %+v", c)
	}
	// Its number is told when the operator is not quicker, and who gave it on has wrapped up some time.
	if lines := strings.NewReplacer(" told", "", " wrapped", "").Replace(kinds(c)); lines != journal {
		t.Errorf("the journal says %s, not %s", lines, journal)
	}
	return c
}

// talk lets both sides speak at once, until a baresip has heard it all, and compares what
// they heard with what was said; once more when a busy machine lost some of it.
func talk(t *testing.T, listener string, speak func(), sounds func() error) {
	t.Helper()
	const lasts = saidFor + 2*time.Second // and what is on its way
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

// phoneOf is a telephone of ours, registered.
func phoneOf(ctx context.Context, t *testing.T, s *server, extension string) *siptest.Phone {
	t.Helper()
	desk, err := netip.ParseAddrPort(s.sip)
	if err != nil {
		t.Fatal(err)
	}
	phone, err := siptest.NewRealPhone(netip.MustParseAddr("127.0.0.1"), desk, nil, sip.SRTPOff)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(phone.Close)
	if err := phone.Register(ctx, extension, s.secrets().Phones[extension], time.Hour); err != nil {
		t.Fatal(err)
	}
	return phone
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
	anna := baresip(t, dir, operatorsAccount(s, "1001", "udp", s.sip, onlyPCMA, ""), spoken)
	available(t, s, "anna")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bruno := phoneOf(ctx, t, s, "1002")
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

// heardFor is how much a baresip has recorded.
func heardFor(t *testing.T, dir string) (d time.Duration) {
	t.Helper()
	for _, path := range heardBy(t, dir) {
		wav, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(wav) > wavHeader {
			d += time.Duration(len(wav)-wavHeader) * time.Second / time.Duration(2*binary.LittleEndian.Uint32(wav[wavRate:]))
		}
	}
	return d
}

// Where telephones write into a WAV of 16 bits what we read.
const (
	wavRate   = 24 // samples a second; what this is in octets follows
	wavHeader = 44
)

// sofar puts together what a telephone has recorded of a call that goes on, in 16 bits:
// its own files say how long they are only once they are closed.
func sofar(t *testing.T, paths ...string) string {
	t.Helper()
	var sound []byte
	rate := uint32(audio.Rate)
	for _, path := range paths {
		wav, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(wav) > wavHeader {
			if says := binary.LittleEndian.Uint32(wav[wavRate:]); says != 0 { // linphonec says it when it closes the file
				rate = says
			}
			sound = append(sound, wav[wavHeader:len(wav)&^1]...)
		}
	}
	var wav bytes.Buffer
	if err := audio.WritePCMWAV(&wav, make([]byte, len(sound)/2)); err != nil { // for its header
		t.Fatal(err)
	}
	header := wav.Bytes()[:wavHeader]
	binary.LittleEndian.PutUint32(header[wavRate:], rate)
	binary.LittleEndian.PutUint32(header[wavRate+4:], 2*rate)
	to := filepath.Join(t.TempDir(), "heard.wav")
	put(t, to, append(header, sound...))
	return to
}

// doubled brings a WAV of 16 bits at 8 kHz to 16 kHz, for a baresip that speaks G.722: its
// own filter takes two decibels away.
func doubled(t *testing.T, path string) string {
	t.Helper()
	const taps = 24 // to either side
	wav, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in := make([]float64, (len(wav)-wavHeader)/2)
	for i := range in {
		in[i] = float64(int16(binary.LittleEndian.Uint16(wav[wavHeader+2*i:])))
	}
	out := bytes.NewBuffer(nil)
	out.Write(wav[:wavHeader])
	for i := range in {
		between := 0.0 // a sample and the next, by a sinc under a raised cosine
		for k := max(0, i-taps+1); k < min(len(in), i+taps+1); k++ {
			x := float64(i-k) + 0.5
			between += in[k] * math.Sin(math.Pi*x) / (math.Pi * x) * (0.5 + 0.5*math.Cos(math.Pi*x/taps))
		}
		_ = binary.Write(out, binary.LittleEndian, []int16{int16(in[i]), int16(max(math.MinInt16, min(math.MaxInt16, between)))})
	}
	wav = out.Bytes()
	binary.LittleEndian.PutUint32(wav[4:], uint32(len(wav)-8))
	binary.LittleEndian.PutUint32(wav[wavRate:], 2*audio.Rate)
	binary.LittleEndian.PutUint32(wav[wavRate+4:], 4*audio.Rate)
	binary.LittleEndian.PutUint32(wav[wavHeader-4:], uint32(len(wav)-wavHeader))
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	put(t, to, wav)
	return to
}

const saidFor = 10 * time.Second // enough to be judged, and three talks are waited for

// said is the beginning of a piece of speech.
func said(t *testing.T, name string) string {
	t.Helper()
	wav, err := os.ReadFile(material(t, name))
	if err != nil {
		t.Fatal(err)
	}
	length := int(saidFor/time.Second) * 2 * int(binary.LittleEndian.Uint32(wav[wavRate:]))
	data := strings.Index(string(wav), "data") + len("data")
	wav = wav[:data+4+length]
	binary.LittleEndian.PutUint32(wav[4:], uint32(len(wav)-8))
	binary.LittleEndian.PutUint32(wav[data:], uint32(length))
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	put(t, path, wav)
	return path
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
