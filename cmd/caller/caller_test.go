package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

func TestKeys(t *testing.T) {
	for text, want := range map[string][]press{
		"":             nil,
		"1@2s,2@9s":    {{"1", 2 * time.Second}, {"2", 9 * time.Second}},
		" 12# @500ms ": {{"12#", 500 * time.Millisecond}},
		"1,*,a@3s,9":   {{"1", time.Second}, {"*", 2 * time.Second}, {"A", 3 * time.Second}, {"9", 4 * time.Second}},
	} {
		if got, err := parseKeys(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "1@", "1@two", "@2s", "1@-2s", "1@5s,2@4s"} {
		if got, err := parseKeys(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	got, err := parsePress("1,,2#", 2*time.Second)
	if want := []press{{"1", 2 * time.Second}, {"2", 4 * time.Second}, {"#", 4 * time.Second}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parsePress("1 2", 0); err == nil {
		t.Error("a blank is no key")
	}
}

// events reads the names of a diary in JSON.
func events(t *testing.T, out []byte) (names []string) {
	t.Helper()
	for line := range bytes.Lines(out) {
		var e struct {
			At    float64 `json:"at"`
			Event string  `json:"event"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		names = append(names, e.Event)
	}
	return names
}

func TestTheEarTellsSilenceSoundAndTonesApart(t *testing.T) {
	var out bytes.Buffer
	e := &ear{say: newDiary(&out, true), keep: true}
	noise := make([]byte, 4800)
	seed := uint32(1)
	for i := range noise {
		seed = seed*1664525 + 1013904223
		noise[i] = audio.ALaw(int16(seed>>16) / 8)
	}
	for _, sound := range [][]byte{audio.Silence(500), audio.Tone(1000, 500, -20), audio.Silence(100), audio.Tone(440, 500, -20), noise, audio.Silence(500)} {
		for ; len(sound) >= audio.FrameBytes; sound = sound[audio.FrameBytes:] {
			e.hear(sound[:audio.FrameBytes])
		}
	}
	e.flush()
	// The silence of 100 ms is too short to be told.
	want := []string{"hears silence", "hears tone 1000 Hz", "hears tone 440 Hz", "hears sound", "hears silence"}
	if got := events(t, out.Bytes()); !slices.Equal(got, want) {
		t.Errorf("told %q", got)
	}
	if e.loud != 1600*time.Millisecond || e.total != 2700*time.Millisecond || len(e.sound) != 2700*8 {
		t.Errorf("loud %s of %s, %d octets kept", e.loud, e.total, len(e.sound))
	}
}

// server is a desk in miniature: it asks for a key, says a tone, hangs up.
func server(t *testing.T, phones sip.Phones) (*sip.Agent, chan rune) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	engine := media.New(media.Config{MinPort: 22000, MaxPort: 22999, Log: log})
	keys := make(chan rune, 1)
	agent, err := sip.New(sip.Config{
		Addrs:  []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Trunks: []sip.Trunk{{Name: "test", Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}},
		Phones: phones, Media: engine, Log: log,
		Handle: func(ctx context.Context, c *sip.Call) {
			if c.To() != "800000001" {
				_ = c.Refuse(ctx, 404, 0)
				return
			}
			if c.Answer(ctx) != nil {
				return
			}
			key, _ := c.Ask(ctx, audio.Clip{}, 5*time.Second)
			keys <- key
			_ = c.Play(ctx, audio.Clip{Name: "tone", ALaw: audio.Tone(1000, 500, -20)})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = engine.Run(ctx) })
	running.Go(func() { _ = agent.Run(ctx) })
	t.Cleanup(func() { end(); running.Wait() })
	return agent, keys
}

func TestACallFromTheTerminal(t *testing.T) {
	agent, keys := server(t, nil)
	saved := filepath.Join(t.TempDir(), "heard.wav")
	var out bytes.Buffer
	code := run(t.Context(), []string{"--server", agent.Addr().String(), "--keys", "7@100ms", "--save", saved, "--json"}, &out, io.Discard)
	if code != exitFine {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	if key := <-keys; key != '7' {
		t.Errorf("the server heard %q", key)
	}
	got := events(t, out.Bytes())
	for _, want := range []string{"dials", "answered", "presses", "hears tone 1000 Hz", "the other side hung up", "saved", "ended"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	file, err := os.Open(saved)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if sound, err := audio.ReadWAV(file); err != nil || audio.Level(sound[len(sound)/2:]) < -30 {
		t.Errorf("saved %d octets, %v", len(sound), err)
	}
}

func TestExitCodes(t *testing.T) {
	agent, _ := server(t, nil)
	to := agent.Addr().String()
	for _, x := range []struct {
		args string
		want int
	}{
		{"--server " + to + " --to 800999999", exitRefused},
		{"--server 127.0.0.1:9 --patience 300ms", exitUnreachable},
		{"--server nowhere", exitUsage},
		{"--keys x", exitUsage},
		{"--press 1 --keys 2", exitUsage},
		{"--say /does/not/exist", exitUsage},
		{"--decline 200", exitUsage},
		{"--no-such-flag", exitUsage},
		{"--help", exitFine},
		{"--local 127.0.0.1:" + strings.Split(to, ":")[1] + " --server " + to, exitFailed},
	} {
		var out bytes.Buffer
		if got := run(t.Context(), strings.Fields(x.args), &out, &out); got != x.want {
			t.Errorf("%s: exit code %d, want %d: %s", x.args, got, x.want, out.String())
		}
	}
}

// oneOperator knows extension 1001 with the password "secret".
type oneOperator struct {
	mu sync.Mutex // guards b
	b  []sip.Binding
	at chan struct{}
}

func (o *oneOperator) Secret(_ context.Context, extension string, _ bool) (s sip.Secret, ok bool, err error) {
	s.MD5, s.SHA256 = sip.HA1(extension, "pronto", "secret")
	return s, extension == "1001", nil
}

func (o *oneOperator) Bind(_ context.Context, b sip.Binding) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = []sip.Binding{b}
	close(o.at)
	return nil
}

func (o *oneOperator) Unbind(context.Context, string, string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = nil
	return nil
}

func (o *oneOperator) Bindings(context.Context, string, time.Time) ([]sip.Binding, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b, nil
}

func TestAnOperatorsTelephone(t *testing.T) {
	phones := &oneOperator{at: make(chan struct{})}
	agent, _ := server(t, phones)
	var out bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"--server", agent.Addr().String(), "--register", "1001", "--password", "secret",
			"--answer-after", "50ms", "--talk", "300ms", "--calls", "1", "--json"}, &out, io.Discard)
	}()
	<-phones.at
	leg, err := agent.Ring(t.Context(), "1001", sip.Caller{Number: "+390551234567", Name: "Mario Rossi"})
	if err != nil {
		t.Fatal(err)
	}
	<-leg.Done() // it hangs up after 300 ms
	if c := <-code; c != exitFine {
		t.Errorf("exit code %d", c)
	}
	got := events(t, out.Bytes())
	for _, want := range []string{"registered", "rings", "lifts the handset", "hangs up", "ended"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if list, _ := phones.Bindings(t.Context(), "1001", time.Now()); len(list) != 0 {
		t.Error("still registered")
	}
	if c := run(t.Context(), []string{"--server", agent.Addr().String(), "--register", "1001", "--password", "wrong"}, io.Discard, io.Discard); c != exitPassword {
		t.Errorf("a wrong password: exit code %d", c)
	}
}
