package outbox

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

const testWait = 60 * time.Second // for something that must happen: the machine is shared

var noon = time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)

// got is one request that a receiver had.
type got struct {
	id, stamp, signature, body string
}

// listener is somebody's program; answer says what it answers to the n-th.
type listener struct {
	*httptest.Server
	all chan got
	n   atomic.Int64
}

func listen(t *testing.T, answer func(n int64) int) *listener {
	l := &listener{all: make(chan got, 1000)}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header
		l.all <- got{h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature"), string(body)}
		status := answer(l.n.Add(1))
		if status >= 300 && status < 400 {
			w.Header().Set("Location", l.URL+"/elsewhere")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *listener) next(t *testing.T) got {
	t.Helper()
	select {
	case g := <-l.all:
		return g
	case <-time.After(testWait):
		t.Fatal("nothing was delivered")
		return got{}
	}
}

func fine(int64) int { return http.StatusNoContent }

// desk is a database with a person and a ticket, and webhooks over it.
type desk struct {
	*Webhooks
	user, ticket int64
	clock        atomic.Int64 // ns
}

func newDesk(t *testing.T, base *db.DB, allow bool) *desk {
	t.Helper()
	d := &desk{}
	d.clock.Store(noon.UnixNano())
	var err error
	d.Webhooks, err = New(Config{
		DB: base, AllowPrivate: allow, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(0, d.clock.Load()).UTC() },
		retry: func(int) time.Duration { return time.Millisecond },
	})
	must(t, err)
	must(t, base.Pool.QueryRow(t.Context(), `insert into users (name, display_name, role, password_hash, created_at) values ('carla', 'Carla', 'supervisor', '', $1)
		on conflict (name) do update set role = excluded.role returning id`, noon).Scan(&d.user))
	must(t, base.Pool.QueryRow(t.Context(), `insert into tickets (year, serial, status, channel, received_at, opened_at) values (2026, 1, 'open', 'phone', $1, $1)
		on conflict (year, serial) do update set status = excluded.status returning id`, noon).Scan(&d.ticket))
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run starts the webhooks; they have ended when the test has.
func (d *desk) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func (d *desk) happens(t *testing.T, kind journal.Kind) {
	t.Helper()
	must(t, d.DB.Tx(t.Context(), func(tx *db.Tx) error {
		tx.Wake("journal")
		return journal.Append(t.Context(), tx, journal.Line{Stream: journal.TicketStream(d.ticket), At: d.Now(), Kind: kind, Ticket: d.ticket, User: d.user, Data: map[string]any{"outcome": "risolto"}})
	}))
}

// settles waits until what has happened can be read: the tests' one server holds
// lines back while a transaction of another test is older.
func (d *desk) settles(t *testing.T) {
	t.Helper()
	for late := time.Now().Add(testWait); ; pause(t.Context(), 20*time.Millisecond, nil) {
		held, err := journal.Held(t.Context(), d.DB.Pool)
		must(t, err)
		if !held {
			return
		}
		if time.Now().After(late) {
			t.Fatal("lines are held back for ever")
		}
	}
}

// until reads the one receiver until it is as wanted.
func (d *desk) until(t *testing.T, want func(Webhook) bool) Webhook {
	t.Helper()
	late := time.Now().Add(testWait)
	for {
		all, err := d.List(t.Context())
		must(t, err)
		if len(all) == 1 && want(all[0]) {
			return all[0]
		}
		if time.Now().After(late) {
			t.Fatalf("the webhook is %+v", all)
		}
		pause(t.Context(), 20*time.Millisecond, nil)
	}
}

func TestAMessageIsDeliveredUntilItArrives(t *testing.T) {
	t.Parallel()
	d := newDesk(t, dbtest.New(t), true)
	l := listen(t, func(n int64) int {
		return map[bool]int{true: http.StatusInternalServerError, false: http.StatusOK}[n <= 2]
	})
	d.happens(t, journal.Closed) // before there was a webhook: told to none
	d.settles(t)
	hook, secret, err := d.Add(t.Context(), d.user, l.URL, []string{"ticket.closed", "ticket.opened", "ticket.opened"})
	must(t, err)
	d.happens(t, journal.Opened) // before anything runs
	d.happens(t, journal.Edited) // not asked for
	d.run(t)
	first, second, third := l.next(t), l.next(t), l.next(t)
	if first.id == "" || first.id != second.id || first.id != third.id || first.body != third.body {
		t.Errorf("three tries: %+v %+v %+v", first, second, third)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	must(t, err)
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, third.id+"."+third.stamp+"."+third.body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); third.signature != want {
		t.Errorf("the signature is %q, want %q", third.signature, want)
	}
	var m message
	must(t, json.Unmarshal([]byte(third.body), &m))
	if m.Type != "ticket.opened" || m.Data.Ticket != "2026-1" || m.Data.User != "carla" || !m.Timestamp.Equal(noon) {
		t.Errorf("the message is %s", third.body)
	}
	after := d.until(t, func(h Webhook) bool { return h.DeliveredAt != nil })
	if after.FailingSince != nil || after.LastFault != "" || after.ID != hook.ID || !slices.Equal(after.Events, []string{"ticket.closed", "ticket.opened"}) {
		t.Errorf("afterwards it is %+v", after)
	}
	if strings.Contains(strings.Join(after.Events, " ")+after.URL, secret) {
		t.Error("the secret is listed")
	}
	d.happens(t, journal.Closed)
	if g := l.next(t); !strings.Contains(g.body, `"ticket.closed"`) || g.id == first.id {
		t.Errorf("the next is %+v", g)
	}
}

// TestAWebhookOfADeskThatHadNone: while there is none nobody asks whether there is. One
// that is added or enabled is heard of at once, on the bubble's clock.
func TestAWebhookOfADeskThatHadNone(t *testing.T) {
	t.Parallel()
	address := dbtest.URL(t)
	synctest.Test(t, func(t *testing.T) {
		base, err := db.Open(t.Context(), db.Config{URL: address, MaxConns: 2})
		must(t, err)
		defer base.Close()
		d := newDesk(t, base, true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { d.follow(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		synctest.Wait() // it has found none
		hook, _, err := d.Add(t.Context(), d.user, "http://127.0.0.1:1", []string{"ticket.opened"})
		must(t, err)
		settled := func() { // other tests' transactions hold lines back, by the machine's clock: go test ends a wait without end
			for held := true; held; pause(t.Context(), heldAgain, nil) {
				var err error
				held, err = journal.Held(t.Context(), base.Pool)
				must(t, err)
			}
		}
		for want := 1; want <= 2; want++ {
			d.happens(t, journal.Opened)
			settled()
			began := time.Now()
			for jobs := 0; jobs != want; pause(t.Context(), heldAgain, nil) {
				must(t, base.Pool.QueryRow(t.Context(), `select count(*) from river_job`).Scan(&jobs))
				if time.Since(began) > idleAgain/2 {
					t.Fatalf("%d jobs after %v", jobs, time.Since(began))
				}
			}
			must(t, d.Disable(t.Context(), d.user, hook.ID))
			synctest.Wait()
			d.happens(t, journal.Opened) // told to none
			settled()
			must(t, d.Enable(t.Context(), d.user, hook.ID))
		}
	})
}

func TestTwoNodesHandOutOnce(t *testing.T) {
	t.Parallel()
	base := dbtest.New(t)
	one, two := newDesk(t, base, true), newDesk(t, base, true)
	l := listen(t, fine)
	_, _, err := one.Add(t.Context(), one.user, l.URL, []string{"ticket.opened"})
	must(t, err)
	one.run(t)
	two.run(t)
	const writers, each = 4, 10
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				one.happens(t, journal.Opened)
			}
		})
	}
	all.Wait()
	ids := map[string]bool{}
	for len(ids) < writers*each {
		ids[l.next(t).id] = true
	}
	var jobs int
	must(t, base.Pool.QueryRow(t.Context(), `select count(*) from river_job`).Scan(&jobs))
	if jobs != writers*each {
		t.Errorf("%d jobs for %d lines", jobs, writers*each)
	}
}

func TestAReceiverThatTakesNothingIsDisabled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		pass   time.Duration
		why    string
	}{
		"three days of faults": {http.StatusBadGateway, failedFor, "tre giorni"},
		"gone":                 {http.StatusGone, 0, "410"},
		"only a redirect":      {http.StatusTemporaryRedirect, failedFor, "307"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dbtest.New(t), true)
			l := listen(t, func(int64) int { return c.status })
			hook, _, err := d.Add(t.Context(), d.user, l.URL, []string{"ticket.opened"})
			must(t, err)
			d.run(t)
			d.happens(t, journal.Opened)
			if c.pass > 0 {
				d.until(t, func(h Webhook) bool { return h.FailingSince != nil })
				d.clock.Add(int64(c.pass))
				d.happens(t, journal.Opened)
			}
			off := d.until(t, func(h Webhook) bool { return h.DisabledAt != nil })
			if !strings.Contains(off.DisabledWhy, c.why) {
				t.Errorf("it is disabled because %q", off.DisabledWhy)
			}
			var lines int
			must(t, d.DB.Pool.QueryRow(t.Context(), `select count(*) from journal where kind = 'webhook_disabled'`).Scan(&lines))
			if lines != 1 {
				t.Errorf("%d lines in the journal", lines)
			}
			must(t, d.Enable(t.Context(), d.user, hook.ID))
			if on := d.until(t, func(h Webhook) bool { return h.DisabledAt == nil }); on.DisabledWhy != "" || on.FailingSince != nil {
				t.Errorf("enabled it is %+v", on)
			}
			must(t, d.Remove(t.Context(), d.user, hook.ID))
			if err := d.Remove(t.Context(), d.user, hook.ID); !errors.Is(err, ErrNotFound) {
				t.Errorf("removed twice: %v", err)
			}
		})
	}
}

func TestNothingIsSentInsideTheHouse(t *testing.T) {
	t.Parallel()
	hit := make(chan struct{}, 10)
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit <- struct{}{} }))
	defer server.Close()
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	s := newSender(false)
	s.client.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		if f := s.send(t.Context(), "https://"+host+port, "whsec_AAAA", delivery{Message: "msg_1", Body: "{}"}, noon); f == nil || !strings.Contains(f.italian, "non è pubblico") {
			t.Errorf("%s: %v", host, f)
		}
	}
	if len(hit) != 0 {
		t.Error("a request came inside")
	}
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "::1": false, "::": false, "fe80::1%eth0": false, "fd00::1": false, "::ffff:10.0.0.1": false,
		"64:ff9b::a00:1": false, "2002:a00:1::": false, "198.18.0.1": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is public: %v", address, got)
		}
	}
}

func TestWhatCanBeRegistered(t *testing.T) {
	t.Parallel()
	d := newDesk(t, dbtest.New(t), false)
	for _, bad := range []string{
		"", "http://example.org/", "ftp://example.org", "https://", "https://anna:segreto@example.org/", "https://example.org/#x", "//example.org", "https://" + strings.Repeat("x", urlMost), "https://a b/", "javascript:alert(1)",
		"https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://[fd00::1]:8443/", "https://example.org:99999/", "https://example.org:0/",
	} {
		if _, _, err := d.Add(t.Context(), d.user, bad, []string{"ticket.opened"}); !errors.Is(err, ErrURL) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	for _, names := range [][]string{nil, {"ticket.lost"}, {"ticket.opened", ""}} {
		if _, _, err := d.Add(t.Context(), d.user, "https://example.org/", names); !errors.Is(err, ErrEvent) {
			t.Errorf("%v: %v", names, err)
		}
	}
	for range hooksMost {
		_, _, err := d.Add(t.Context(), d.user, "https://example.org/", []string{"ticket.opened"})
		must(t, err)
	}
	if _, _, err := d.Add(t.Context(), d.user, "https://example.org/", []string{"ticket.opened"}); !errors.Is(err, ErrMany) {
		t.Errorf("one more: %v", err)
	}
	if err := d.Enable(t.Context(), d.user, uuid.New()); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown one: %v", err)
	}
}

// TestSchemaIsRivers: our file leaves what River's own migrations would.
func TestSchemaIsRivers(t *testing.T) {
	t.Parallel()
	migrator, err := rivermigrate.New(riverpgxv5.New(dbtest.New(t).Pool), nil)
	must(t, err)
	found, err := migrator.Validate(t.Context(), nil)
	must(t, err)
	if !found.OK {
		t.Errorf("River asks for more: %v", found.Messages)
	}
}
