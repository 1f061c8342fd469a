package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

func TestMain(m *testing.M) {
	// The goroutine that owns the test server lives as long as the test binary.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/pronto-desk/pronto/db/private.(*Server).spawn.func1"))
}

// morning is when every test of explicit instants begins.
var morning = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// after is an instant, in seconds from the morning.
func after(seconds float64) time.Time {
	return morning.Add(time.Duration(seconds * float64(time.Second)))
}

// desk is a queue with its database, and what the tests put into it.
type desk struct {
	tb interface {
		Helper()
		Fatalf(format string, args ...any)
	}
	*Queue
	db     *db.DB
	topics map[string]int64
	calls  int
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	return deskOn(t, dbtest.New(t), "north")
}

func deskOn(t testing.TB, d *db.DB, node string) *desk {
	return &desk{tb: t, Queue: New(d, node, nil), db: d, topics: map[string]int64{}}
}

var background = context.Background()

func (d *desk) exec(sql string, a ...any) {
	d.tb.Helper()
	if _, err := d.db.Pool.Exec(background, sql, a...); err != nil {
		d.tb.Fatalf("%s: %v", sql, err)
	}
}

func (d *desk) ok(err error) {
	d.tb.Helper()
	if err != nil {
		d.tb.Fatalf("unexpected error: %v", err)
	}
}

func (d *desk) topic(code string) int64 {
	d.tb.Helper()
	if id, ok := d.topics[code]; ok {
		return id
	}
	var id int64
	d.ok(d.db.Pool.QueryRow(background, `insert into topics (code, name) values ($1, $1)
		on conflict (code) do update set name = excluded.name returning id`, code).Scan(&id))
	d.topics[code] = id
	return id
}

// operator makes somebody with skills, who has not declared anything yet.
func (d *desk) operator(name string, wrapUp int, skills ...string) int64 {
	d.tb.Helper()
	var id int64
	d.ok(d.db.Pool.QueryRow(background, `insert into users (name, display_name, role, password_hash, extension, wrap_up, created_at)
		values ($1, $1, 'operator', '', (select 1001 + count(*) from users)::text, $2, $3) returning id`, name, wrapUp, morning).Scan(&id))
	for _, skill := range skills {
		d.exec(`insert into user_topics values ($1, $2)`, id, d.topic(skill))
	}
	return id
}

// sits makes somebody with skills who is available since an instant.
func (d *desk) sits(name string, since time.Time, wrapUp int, skills ...string) int64 {
	d.tb.Helper()
	id := d.operator(name, wrapUp, skills...)
	d.ok(d.Declare(background, id, "available", "", since))
	return id
}

// call makes a contact; ids rise, so that ties in T0 are decided by the order of calls.
func (d *desk) call(t0 time.Time) uuid.UUID {
	d.tb.Helper()
	d.calls++
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(d.calls))
	if d.node != "north" {
		copy(id[:], d.node)
	}
	d.exec(`insert into contacts (id, node, channel, call_id, caller_source, dialled, t0) values ($1, $2, 'phone', $3, 'withheld', '800000001', $4)`,
		id, d.node, strconv.Itoa(d.calls), t0)
	return id
}

// Join takes a place, while somebody else matches: so nobody is offered it with that.
func (d *desk) Join(ctx context.Context, tx *db.Tx, e Entry) (*Place, error) {
	n, err := d.Entering(e)
	if err != nil {
		return nil, err
	}
	n.quit()
	n.Ahead(tx)
	err = n.Then(ctx, tx)
	return n.Done(err), err
}

func (d *desk) join(contact uuid.UUID, topic string, urgency int, t0, at time.Time) *Place {
	d.tb.Helper()
	id := d.topic(topic)
	var p *Place
	d.ok(d.db.Tx(background, func(tx *db.Tx) (err error) {
		p, err = d.Join(background, tx, Entry{Contact: contact, Topic: id, Urgency: urgency, T0: t0, At: at})
		return err
	}))
	d.exec(`update contacts set tq = coalesce(tq, $2) where id = $1`, contact, at) // as the ticket does
	return p
}

// waits is a caller who has just joined the queue.
func (d *desk) waits(topic string, urgency int, t0 time.Time) *Place {
	d.tb.Helper()
	return d.join(d.call(t0), topic, urgency, t0, t0)
}

func (d *desk) match(at time.Time, want int) {
	d.tb.Helper()
	got, err := d.Match(background, at)
	d.ok(err)
	if len(got) != want {
		d.tb.Fatalf("%d offers were made, not %d", len(got), want)
	}
	d.written(got)
}

// written compares offers as a match tells of them with their rows.
func (d *desk) written(made []*Offer) {
	d.tb.Helper()
	for _, o := range made {
		row, err := d.Offer(background, o.ID)
		d.ok(err)
		late := max(o.OfferedAt.Sub(row.OfferedAt).Abs(), o.ExpiresAt.Sub(row.ExpiresAt).Abs()) // rows have microseconds
		told := *o
		told.OfferedAt, told.ExpiresAt, told.mark = row.OfferedAt, row.ExpiresAt, 0
		if late >= time.Microsecond || told != *row {
			d.tb.Fatalf("the match tells %+v, the row %+v", *o, *row)
		}
	}
}

// matches is how many matches this node's looks have taken.
func (d *desk) matches() uint64 {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	return d.Queue.runs
}

// offerOf is the pending offer of a place.
func (d *desk) offerOf(p *Place) *Offer {
	d.tb.Helper()
	_, o, err := readPlace(background, d.db.Pool, p.contact)
	d.ok(err)
	if o == nil {
		d.tb.Fatalf("no offer is pending for %s", p.contact)
	}
	return o
}

// offered makes the one offer there is to make.
func (d *desk) offered(p *Place, at time.Time) *Offer {
	d.tb.Helper()
	d.match(at, 1)
	return d.offerOf(p)
}

func (d *desk) state(p *Place) placeState {
	d.tb.Helper()
	state, _, err := readPlace(background, d.db.Pool, p.contact)
	d.ok(err)
	return state
}

func (d *desk) seat(user int64) Seat {
	d.tb.Helper()
	s, err := d.Seat(background, user)
	d.ok(err)
	return *s
}

// stands compares a seat with "declared/reason doing".
func (d *desk) stands(user int64, want string) {
	d.tb.Helper()
	s := d.seat(user)
	got := fmt.Sprintf("%s/%s %s", s.Declared, s.Reason, s.Doing)
	if got != want {
		d.tb.Fatalf("the seat of %s is %q, not %q", s.Operator, got, want)
	}
}

// kinds are what a stream of the journal tells, in order; its chain must hold.
func (d *desk) kinds(stream string) []string {
	d.tb.Helper()
	d.ok(journal.Verify(background, d.db.Pool, stream))
	rows, err := d.db.Pool.Query(background, `select kind from journal where stream = $1 order by seq`, stream)
	d.ok(err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	d.ok(err)
	return list
}

func (d *desk) told(stream string, want ...string) {
	d.tb.Helper()
	if got := d.kinds(stream); !slices.Equal(got, want) {
		d.tb.Fatalf("%s tells %v, not %v", stream, got, want)
	}
}

func (d *desk) refuses(err, want error) {
	d.tb.Helper()
	if !errors.Is(err, want) {
		d.tb.Fatalf("the error is %v, not %v", err, want)
	}
}

// checks sets how many runs a rapid test makes, unless the command line does.
func checks(t *testing.T, n int) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if given {
		return
	}
	was := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Lookup("rapid.checks").Value.Set(was) })
}
