package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/outbox"
)

const (
	testPassword = "corretto cavallo batteria"
	testWait     = 20 * time.Second // for something that must happen: the machine is shared
)

// noon is a working Monday.
var noon = time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)

// logged collects what a server logs.
type logged struct {
	mu   sync.Mutex // guards buf and more
	buf  bytes.Buffer
	more chan struct{} // closed when something is logged
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.buf.Write(p)
}

// wait waits until a text has been logged.
func (l *logged) wait(t testing.TB, text string) {
	t.Helper()
	late := time.After(testWait)
	for {
		l.mu.Lock()
		if strings.Contains(l.buf.String(), text) {
			l.mu.Unlock()
			return
		}
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q is not logged: %s", text, l)
		}
	}
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// desk is a server over a fresh database: operators anna (1001) and bruno
// (1002), supervisor carla, one service with one topic.
type desk struct {
	*Server
	t     testing.TB
	http  *httptest.Server
	log   *logged
	topic tickets.Topic
	stop  func() // ends Run, and waits for it

	mu     sync.Mutex // guards below
	clock  time.Time
	cannot map[int64]string // why a user's seat cannot ring
	unfit  error            // what Ready says
}

func (d *desk) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clock
}

func (d *desk) pass(by time.Duration) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clock = d.clock.Add(by)
	return d.clock
}

// testHash is hashed once: 50 ms for each user of each test add up.
var testHash = sync.OnceValues(func() (string, error) {
	return newHasher().hash(context.Background(), testPassword)
})

func newDesk(t testing.TB, change ...func(*Config)) *desk {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel() // each desk has a database of its own
	}
	return deskOn(t, dbtest.New(t), change...)
}

func deskOn(t testing.TB, base *db.DB, change ...func(*Config)) *desk {
	t.Helper()
	d := &desk{t: t, log: &logged{}, clock: noon, cannot: map[int64]string{}}
	log := slog.New(slog.NewTextHandler(d.log, nil))
	archive, err := recordings.Open(t.TempDir(), "n1", base, log)
	must(t, err)
	hooks, err := outbox.New(outbox.Config{DB: base, Now: d.now, Log: log})
	must(t, err)
	c := Config{
		Webhooks: hooks, Prompts: prompts.NewStore(base, prompts.Italian(), log), DB: base, Queue: queue.New(base, "n1", log), Archive: archive, Book: tickets.NewBook(base, "n1", archive, log),
		Log: log, Now: d.now,
		CanRing: func(user int64, _ string) (bool, string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			why, no := d.cannot[user]
			return !no, why
		},
		Ready: func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.unfit
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pronto_calls 0\n") }),
	}
	for _, fn := range change {
		fn(&c)
	}
	d.Server = New(c)
	d.seed()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	d.http = httptest.NewServer(d.Handler())
	t.Cleanup(func() {
		d.stop()
		d.http.Close()
	})
	return d
}

// alongside runs one more part until the test ends.
func (d *desk) alongside(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	d.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("Run: %v", err)
		}
	})
}

// within takes what must come.
func within[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(testWait):
		t.Fatal("nothing came")
	}
	return v
}

func (d *desk) seed() {
	d.t.Helper()
	hash, err := testHash()
	must(d.t, err)
	for _, u := range []User{
		{Name: "anna", DisplayName: "Anna Bianchi", Role: Operator, Extension: "1001"},
		{Name: "bruno", DisplayName: "Bruno Neri", Role: Operator, Extension: "1002"},
		{Name: "carla", DisplayName: "Carla Verdi", Role: Supervisor},
	} {
		d.exec(`insert into users (name, display_name, role, password_hash, extension, wrap_up, created_at)
			values (@name, @display, @role, @hash, nullif(@extension, ''), 3, @at)`,
			pgx.StrictNamedArgs{"name": u.Name, "display": u.DisplayName, "role": u.Role, "hash": hash, "extension": u.Extension, "at": noon})
	}
	ctx := d.t.Context()
	d.topic, err = d.Book.PutTopic(ctx, "software", "Cartella clinica")
	must(d.t, err)
	service := tickets.Service{Number: "800000001", Name: "Assistenza", Menu: []tickets.MenuItem{{Key: '1', Topic: d.topic, Default: true}}}
	service.Hours.Always = true
	_, err = d.Book.PutService(ctx, service)
	must(d.t, err)
	d.exec(`insert into user_topics (user_id, topic_id, level) select id, @topic, 1 from users where extension is not null`, pgx.StrictNamedArgs{"topic": d.topic.ID})
	_, err = d.Book.PutCustomer(ctx, tickets.Customer{
		Code: "1042", Name: "Mario Rossi", Practice: "Studio Rossi", Authority: "ASL Toscana Centro", Numbers: []string{"+390551234567"},
	}, noon)
	must(d.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *desk) exec(sql string, args ...any) {
	d.t.Helper()
	_, err := d.DB.Pool.Exec(d.t.Context(), sql, args...)
	must(d.t, err)
}

func one[T any](d *desk, sql string, args ...any) (v T) {
	d.t.Helper()
	must(d.t, d.DB.Pool.QueryRow(d.t.Context(), sql, args...).Scan(&v))
	return v
}

func (d *desk) user(name string) User {
	d.t.Helper()
	u, err := d.users.ByName(d.t.Context(), name)
	must(d.t, err)
	return u
}

// person is somebody who asks the server.
type person struct {
	d      *desk
	token  string // bearer
	cookie string // or the session's
	header http.Header
}

// bearer is somebody with an API token.
func (d *desk) bearer(name string) *person {
	d.t.Helper()
	token, err := d.users.Token(d.t.Context(), name, time.Hour)
	must(d.t, err)
	return &person{d: d, token: token, header: http.Header{}}
}

// browser is somebody signed in, whose browser says where its requests come from.
func (d *desk) browser(name string) *person {
	d.t.Helper()
	ctx, err := d.sessions.Load(d.t.Context(), "")
	must(d.t, err)
	u := d.user(name)
	d.sessions.Put(ctx, "user", u.ID)
	d.sessions.Put(ctx, "stamp", u.stamp())
	token, _, err := d.sessions.Commit(ctx)
	must(d.t, err)
	return &person{d: d, cookie: token, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
}

// reply is an answer, read whole.
type reply struct {
	*http.Response
	body string
}

// ask sends a request; body is JSON, or nil, or a string sent as it is.
func (p *person) ask(method, path string, body any) reply {
	p.d.t.Helper()
	var in io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case string:
		in, kind = strings.NewReader(b), "application/json"
	default:
		raw, err := json.Marshal(b)
		must(p.d.t, err)
		in, kind = bytes.NewReader(raw), "application/json"
	}
	r, err := http.NewRequestWithContext(p.d.t.Context(), method, p.d.http.URL+path, in)
	must(p.d.t, err)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	if p.cookie != "" {
		r.AddCookie(&http.Cookie{Name: p.d.sessions.Cookie.Name, Value: p.cookie})
	}
	for key, values := range p.header {
		r.Header[key] = values
	}
	return p.d.do(r)
}

func (p *person) get(path string) reply { p.d.t.Helper(); return p.ask(http.MethodGet, path, nil) }

var noFollow = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       testWait,
}

func (d *desk) do(r *http.Request) reply {
	d.t.Helper()
	resp, err := noFollow.Do(r)
	must(d.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(d.t, err)
	return reply{resp, string(body)}
}

// want fails the test when the answer has another status.
func (r reply) want(t testing.TB, status int) reply {
	t.Helper()
	if r.StatusCode != status {
		t.Fatalf("%s %s: status %d, want %d: %s", r.Request.Method, r.Request.URL.Path, r.StatusCode, status, r.body)
	}
	return r
}

// problem is the answer as RFC 9457 has it.
func (r reply) problem(t testing.TB, status int) problem {
	t.Helper()
	r.want(t, status)
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/problem+json") {
		t.Fatalf("a problem came as %q: %s", kind, r.body)
	}
	p := decoded[problem](t, r.body)
	if p.Status != status || p.Title == "" || p.Detail == "" {
		t.Fatalf("an incomplete problem: %s", r.body)
	}
	return p
}

func decoded[T any](t testing.TB, raw string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatalf("not JSON of %T: %v in %.300s", v, err, raw)
	}
	return v
}

// call is a caller in the queue: contact, ticket and place.
type call struct {
	contact *tickets.Contact
	ticket  *tickets.Ticket
	place   *queue.Place
}

// rings lets somebody call and choose the topic; nobody is offered it yet.
func (d *desk) rings(from string) call {
	d.t.Helper()
	ctx, at := d.t.Context(), d.now()
	source := "asserted"
	if from == "" {
		source = "withheld"
	}
	c, err := d.Book.Begin(ctx, tickets.Arrival{Channel: tickets.Phone, ID: uuid.NewString(), From: from, Source: source, To: "800000001", Trunk: "test", At: at})
	must(d.t, err)
	out := call{contact: c}
	entering, err := d.Queue.Entering(queue.Entry{Contact: c.ID, Topic: d.topic.ID, Urgency: tickets.Blocking, T0: at, At: at})
	must(d.t, err)
	out.ticket, err = d.Book.Open(ctx, c, tickets.Matter{Channel: tickets.Phone, Topic: d.topic.ID, Urgency: tickets.Blocking, At: at, Queued: true, Beside: entering}, nil)
	out.place = entering.Done(err)
	must(d.t, err)
	return out
}

// offered lets somebody call and offers the call to an operator who has just
// become available.
func (d *desk) offered(operator, from string) (call, *queue.Offer) {
	d.t.Helper()
	c := d.rings(from)
	must(d.t, d.Queue.Declare(d.t.Context(), d.user(operator).ID, string(queue.Available), "", d.now()))
	return c, d.match(c)
}

func (d *desk) match(c call) *queue.Offer {
	d.t.Helper()
	_, err := d.Queue.Match(d.t.Context(), d.now())
	must(d.t, err)
	id := one[uuid.UUID](d, `select id from offers where contact_id = $1 and state = 'pending'`, c.contact.ID)
	o, err := d.Queue.Offer(d.t.Context(), id)
	must(d.t, err)
	return o
}
