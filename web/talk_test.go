package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets"
)

// A number of one's own choice is dialled for who may, in the dial plan, with a line.
func TestOutside(t *testing.T) {
	s := &Server{Config: Config{Queue: new(queue.Queue), Plan: tickets.DialPlan{Prefixes: []string{"+390"}}, DialsFreely: []Role{Supervisor}}}
	const doctor = "+39 055 1234567"
	if _, err := s.outside(User{Role: Supervisor}, doctor); err == nil {
		t.Error("without a line somebody is dialled")
	}
	s.Queue.DialsOut(true)
	if _, err := s.outside(User{Role: Operator}, doctor); err == nil {
		t.Error("who may not dials")
	}
	for _, number := range []string{"112", "+39899123456", "+3933312345678", "+33123456789", "sip:rossi@example.com", ""} {
		if _, err := s.outside(User{Role: Supervisor}, number); err == nil {
			t.Errorf("%q is dialled", number)
		}
	}
	if to, err := s.outside(User{Role: Supervisor}, doctor); err != nil || to.Number != "+390551234567" {
		t.Errorf("%+v, %v", to, err)
	}
}

// TestSealedTalk: a talk that is encrypted on the disk is played from anywhere, and
// says why when it cannot be.
func TestSealedTalk(t *testing.T) {
	dir := t.TempDir()
	mine, other := newIdentity(t), newIdentity(t)
	path := filepath.Join(t.TempDir(), "recordings.key")
	must(t, os.WriteFile(path, []byte(mine.String()), 0o600))
	keys, err := recordings.ReadKeys([]string{mine.Recipient().String()}, path)
	must(t, err)
	theirs := make(chan int, 1) // what another node says
	d := newDesk(t, func(c *Config) {
		c.Archive, err = recordings.Open(dir, "n1", c.DB, c.Log)
		must(t, err)
		c.Archive.Seal(keys)
		c.Sound = func(context.Context, string, string, uuid.UUID, string, http.Header) (*http.Response, error) {
			return &http.Response{StatusCode: <-theirs, Body: http.NoBody}, nil
		}
	})
	talk := func(ms int) (url, file string) {
		c := d.rings("+390551234567").contact
		tape, err := d.Archive.Talk(t.Context(), c.ID, noon, 30)
		must(t, err)
		_, err = tape.Write(audio.Tone(440, ms, -12))
		must(t, err)
		_, err = tape.Close(t.Context(), noon.Add(20*time.Second))
		must(t, err)
		return "/api/v1/contacts/" + c.ID.String() + "/talk", filepath.Join(dir, one[string](d, `select path from recordings where id = $1`, tape.ID()))
	}

	at, _ := talk(40_000) // 20 s of two channels
	d.browser("anna").get(at).problem(t, http.StatusForbidden)
	carla := d.browser("carla")
	whole := carla.get(at).want(t, http.StatusOK)
	if !strings.HasPrefix(whole.body, "RIFF") || len(whole.body) < 320_000 || whole.Header.Get("Accept-Ranges") != "bytes" {
		t.Fatalf("%d octets come as %v", len(whole.body), whole.Header)
	}
	const chunk = 64 << 10 // octets that age seals at a time
	n := len(whole.body)
	for _, r := range [][2]int{{0, 0}, {chunk - 1, chunk}, {chunk, chunk}, {3*chunk - 1, 4 * chunk}, {n - 1, n - 1}, {0, n - 1}} {
		carla.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", r[0], r[1])}}
		if got := carla.get(at).want(t, http.StatusPartialContent); got.body != whole.body[r[0]:r[1]+1] || got.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", r[0], r[1], n) {
			t.Errorf("from %d to %d: %d octets, %s", r[0], r[1], len(got.body), got.Header.Get("Content-Range"))
		}
	}
	carla.header = http.Header{"Range": {"bytes=-10"}}
	if got := carla.get(at).want(t, http.StatusPartialContent); got.body != whole.body[n-10:] {
		t.Errorf("the last ten: %q", got.body)
	}
	carla.header = nil

	at, file := talk(1000)
	f, err := os.Create(file)
	must(t, err)
	w, err := age.Encrypt(f, other.Recipient())
	must(t, err)
	must(t, errors.Join(w.Close(), f.Close()))
	if p := carla.get(at).problem(t, http.StatusLocked); !strings.Contains(p.Detail, "Non è persa") {
		t.Errorf("with another's key: %+v", p)
	}
	at, file = talk(1000)
	must(t, os.Truncate(file, 1000))
	if p := carla.get(at).problem(t, http.StatusInternalServerError); !strings.Contains(p.Detail, "danneggiato") {
		t.Errorf("a part of it: %+v", p)
	}

	// On another node's disk it is no different.
	must(t, os.Remove(file))
	d.exec(`update recordings set node = 'n2'`)
	for _, status := range []int{http.StatusLocked, http.StatusInternalServerError} {
		theirs <- status
		carla.get(at).problem(t, status)
	}
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	return id
}
