package tickets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// monday is a working morning in Florence: 10:00 in Italy, in winter.
var monday = time.Date(2026, time.March, 2, 9, 0, 0, 0, time.UTC)

// desk is a book on a fresh database with a service, a menu, three doctors and
// two operators.
type desk struct {
	*Book
	t           testing.TB
	db          *db.DB
	spool       *spool
	anna, bruno int64
	topics      []Topic
	rossi       *Customer
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{t: t, db: dbtest.New(t), spool: &spool{}}
	d.Book = NewBook(d.db, "node1", d.spool, slog.New(slog.DiscardHandler))
	d.Plan = DialPlan{Prefixes: DefaultPrefixes()}
	ctx := t.Context()
	for i, name := range []string{"anna", "bruno"} {
		ids := []*int64{&d.anna, &d.bruno}
		must(t, d.db.Pool.QueryRow(ctx, `insert into users (name, display_name, role, password_hash, extension, created_at) values ($1, $2, 'operator', '', $3, $4) returning id`,
			name, "Operatore "+name, fmt.Sprint(1001+i), monday).Scan(ids[i]))
	}
	for _, name := range []string{"Cartella clinica", "Certificati", "Carta sanitaria"} {
		topic, err := d.PutTopic(ctx, fmt.Sprintf("t%d", len(d.topics)+1), name)
		must(t, err)
		d.topics = append(d.topics, topic)
	}
	_, err := d.PutService(ctx, Service{
		Number: "800123456", Name: "Assistenza", Hours: calendar.Hours{Always: true},
		Menu: []MenuItem{{Key: '1', Topic: d.topics[0]}, {Key: '2', Topic: d.topics[1]}, {Key: '3', Topic: d.topics[2], Default: true}},
	})
	must(t, err)
	d.rossi, err = d.PutCustomer(ctx, Customer{Code: "1042", Name: "Mario Rossi", Practice: "Ambulatorio Centro", Authority: "Toscana Centro", Numbers: []string{"0551234567"}}, monday)
	must(t, err)
	for i, name := range []string{"Anna Bianchi", "Luca Verdi"} { // one surgery, one telephone
		_, err := d.PutCustomer(ctx, Customer{Code: fmt.Sprint(2000 + i), Name: name, Numbers: []string{"0557654321"}}, monday)
		must(t, err)
	}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spool is a Later in memory that has been through JSON, as on disk.
type spool struct {
	mu     sync.Mutex // guards the two below
	facts  []kept
	broken bool
}

type kept struct {
	kind string
	raw  json.RawMessage
}

func (s *spool) Defer(kind string, v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errors.New("the disk is full")
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.facts = append(s.facts, kept{kind, raw})
	return nil
}

func (s *spool) Pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.facts) > 0
}

// away is a book of the same node whose database cannot be reached, and that
// shares this desk's spool and what it knows of the services.
func (d *desk) away() *Book {
	d.t.Helper()
	gone, err := db.Open(context.Background(), db.Config{URL: "postgres://x:x@127.0.0.1:1/x?sslmode=disable", Log: slog.New(slog.DiscardHandler)})
	must(d.t, err)
	d.t.Cleanup(gone.Close)
	b := NewBook(gone, "node1", d.spool, slog.New(slog.DiscardHandler))
	b.services, err = d.known(d.t.Context())
	must(d.t, err)
	return b
}

// replay plays the spool into the desk's database, in order.
func (d *desk) replay() {
	d.t.Helper()
	for _, f := range d.spool.facts {
		must(d.t, d.Replay(d.t.Context(), f.kind, f.raw))
	}
}

// call is an INVITE from `from` at t0.
func (d *desk) call(from string, t0 time.Time) *Contact {
	d.t.Helper()
	c, err := d.Begin(d.t.Context(), Arrival{Channel: Phone, ID: fmt.Sprintf("call-%d", t0.UnixNano()), From: from, Source: "asserted", To: "800123456", Trunk: "carrier", At: t0})
	must(d.t, err)
	return c
}

// ticket is an open ticket of Mario Rossi.
func (d *desk) ticket() *Ticket {
	d.t.Helper()
	t, err := d.Book.Open(d.t.Context(), d.call("+390551234567", monday), Matter{Channel: Phone, Topic: d.topics[1].ID, Urgency: Blocking, At: monday.Add(time.Minute)}, nil)
	must(d.t, err)
	return t
}

// record reads a contact back.
func (d *desk) record(c *Contact) *Record {
	d.t.Helper()
	r, err := d.ContactOf(d.t.Context(), c.ID)
	must(d.t, err)
	return r
}

func kinds(r *Record) (list []string) {
	for _, l := range r.Journal {
		list = append(list, l.Kind)
	}
	return list
}

func (d *desk) count(sql string, args ...any) (n int) {
	d.t.Helper()
	must(d.t, d.db.Pool.QueryRow(d.t.Context(), sql, args...).Scan(&n))
	return n
}

var _ querier = (pgx.Tx)(nil)
