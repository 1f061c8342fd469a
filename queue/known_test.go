package queue

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// rounds counts how often something is said to PostgreSQL after it has answered.
type rounds struct {
	mu   sync.Mutex // guards what follows
	n    int
	said bool // and it has not answered yet
}

// counted is a connection whose rounds are counted.
type counted struct {
	net.Conn
	r *rounds
}

func (c counted) Write(b []byte) (int, error) {
	c.r.mu.Lock()
	if !c.r.said {
		c.r.n++
	}
	c.r.said = true
	c.r.mu.Unlock()
	return c.Conn.Write(b)
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.said = c.r.said && n == 0
	return n, err
}

// of is how many rounds fn takes.
func (r *rounds) of(fn func()) int {
	count := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.n }
	before := count()
	fn()
	return count() - before
}

// count has d talk to its database by one connection, whose rounds are counted.
func (d *desk) count(t *testing.T) *rounds {
	t.Helper()
	r := &rounds{}
	c := d.db.Pool.Config()
	c.MinConns, c.MaxConns = 0, 1
	dial := c.ConnConfig.DialFunc
	c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return counted{conn, r}, err
	}
	pool, err := pgxpool.NewWithConfig(background, c)
	d.ok(err)
	was := d.db.Pool
	d.db.Pool = pool
	t.Cleanup(func() { d.db.Pool = was; pool.Close() })
	return r
}

// marks are what is to be true with an acceptance or a release: once, and only of who
// was not marked before.
func (d *desk) marks(contact uuid.UUID, mark string) Also {
	sql, a := `update contacts set trunk = @mark where id = @contact and trunk <> @mark`, args{"contact": contact, "mark": mark}
	b := &pgx.Batch{}
	b.Queue(sql, a)
	line := func(ctx context.Context, tx *db.Tx) error {
		return journal.Append(ctx, tx, journal.Line{Stream: journal.ContactStream(contact), At: morning, Kind: journal.Noted, Contact: null(contact)})
	}
	return Also{Batch: b, Then: line, Known: func(ctx context.Context, tx *db.Tx) error {
		var b pgx.Batch
		b.Queue(`with known as (`+sql+` returning 1) select 1 / count(*)::int from known`, a)
		tx.Later(&b, nil)
		return line(ctx, tx)
	}}
}

// all is everything that the queue has written, with one name for an offer.
func (d *desk) all(offer uuid.UUID) string {
	d.tb.Helper()
	var text string
	d.ok(d.db.Pool.QueryRow(background, `select concat_ws(e'\n',
		(select string_agg(to_jsonb(s)::text, e'\n' order by user_id) from seats s),
		(select string_agg(to_jsonb(o)::text, e'\n' order by offered_at) from offers o),
		(select string_agg(to_jsonb(p)::text, e'\n' order by contact_id) from places p),
		(select string_agg(to_jsonb(c)::text, e'\n' order by offer_id) from commands c),
		(select string_agg((to_jsonb(c) - 'search_words')::text, e'\n' order by id) from contacts c),
		(select string_agg((to_jsonb(b) - 'id')::text, e'\n' order by contact_id) from callbacks b),
		(select string_agg(concat_ws(' ', stream, seq, at, kind, contact_id, ticket_id, user_id, data - 'callback'), e'\n' order by stream, seq) from journal))`).Scan(&text))
	return strings.ReplaceAll(text, offer.String(), "the offer")
}

// talkOf is a talk of anna's, and the offer that led to it.
func (d *desk) talkOf(wrapUp int) (anna int64, o *Offer) {
	d.tb.Helper()
	anna = d.sits("anna", after(0), wrapUp, "anna")
	o = d.offered(d.waits("anna", 2, after(0)), after(1))
	d.ok(d.AcceptWith(background, o, after(2), d.marks(o.Contact, "accepted")))
	d.stands(anna, "available/ talking")
	return anna, o
}

// prepared lets one talk pass, of which nothing stays: its statements are known to the
// connection from then on.
func (d *desk) prepared() {
	d.tb.Helper()
	_, o := d.talkOf(60)
	d.ok(d.ReleaseWith(background, o, after(3), d.marks(o.Contact, "ended")))
	d.exec(`truncate journal, contacts, offers, users cascade`)
	d.calls, d.topics = 0, map[string]int64{}
}

// TestReleaseOfWhatIsKnown: a talk as most are is ended in one round. Whatever has
// happened to it, its end is what it is when everything is read first.
func TestReleaseOfWhatIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(d *desk, anna int64, o *Offer)
		known   bool // it makes no difference, and the end is one round
		wrapUp  int  // 0: a minute
	}{
		"nothing": {func(*desk, int64, *Offer) {}, true, 0},
		"a break is declared": {func(d *desk, anna int64, _ *Offer) {
			d.ok(d.Declare(background, anna, "break", "Pausa", after(5)))
		}, true, 0},
		"a supervisor declares": {func(d *desk, anna int64, _ *Offer) {
			d.ok(d.Force(background, anna, d.sits("carla", after(0), 0), "admin", "", after(5)))
		}, true, 0},
		"a longer wrap-up": {func(d *desk, anna int64, _ *Offer) { d.exec(`update users set wrap_up = 90 where id = $1`, anna) }, true, 0},
		"no wrap-up any more": {func(d *desk, anna int64, _ *Offer) {
			d.exec(`update users set wrap_up = 0 where id = $1`, anna)
		}, false, 0},
		"never a wrap-up": {func(*desk, int64, *Offer) {}, false, -1},
		"let go and renamed": {func(d *desk, anna int64, _ *Offer) {
			d.exec(`update users set name = 'anna2', display_name = 'A', extension = null, active = false where id = $1`, anna)
			d.ok(d.db.Tx(background, func(tx *db.Tx) error { return d.Dismiss(background, tx, anna, after(5)) }))
		}, true, 0},
		"held": {func(d *desk, _ int64, o *Offer) {
			d.ok(d.Stands(background, o.ID, Held, "", journal.OnHold, Target{}, after(5)))
		}, true, 0},
		"held and back": {func(d *desk, _ int64, o *Offer) {
			d.ok(d.Stands(background, o.ID, Held, "", journal.OnHold, Target{}, after(5)))
			d.ok(d.Stands(background, o.ID, Together, "held_long", journal.Resumed, Target{}, after(6)))
		}, true, 0},
		"a wish": {func(d *desk, anna int64, _ *Offer) {
			d.ok(d.Command(background, anna, Command{Wish: Hold}, after(7)))
		}, false, 0},
		"a supervisor is on": {func(d *desk, _ int64, o *Offer) {
			d.ok(d.Supervise(background, d.operator("carla", 0), o.ID, Listen, after(5)))
		}, false, 0},
		"a supervisor has gone": {func(d *desk, _ int64, o *Offer) {
			carla := d.operator("carla", 0)
			d.ok(d.Supervise(background, carla, o.ID, Listen, after(5)))
			d.ok(d.StopSupervising(background, carla, after(6)))
		}, true, 0},
		"released by another node": {func(d *desk, _ int64, o *Offer) {
			d.ok(deskOn(t, d.db, "south").Release(background, o.ID, after(8)))
		}, false, 0},
		"and somebody else's by now": {func(d *desk, anna int64, o *Offer) {
			d.ok(d.Release(background, o.ID, after(6)))
			d.ok(d.Declare(background, anna, "available", "", after(7)))
			d.ok(d.Accept(background, d.offered(d.waits("anna", 2, after(7)), after(7)).ID, after(8)))
			d.exec(`update offers set id = '00000000-0000-0000-0000-00000000000f' where id <> $1`, o.ID)
			d.exec(`update seats set offer_id = '00000000-0000-0000-0000-00000000000f' where user_id = $1`, anna)
			d.exec(`truncate journal`)
		}, false, 0},
		"another call's by now": {func(d *desk, _ int64, o *Offer) {
			d.exec(`update offers set contact_id = $2 where id = $1`, o.ID, d.call(after(3)))
		}, false, 0},
		"what comes with it is otherwise": {func(d *desk, _ int64, o *Offer) {
			d.exec(`update contacts set trunk = 'ended' where id = $1`, o.Contact)
		}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			end := func(read bool) (all string, took int) {
				d := newDesk(t)
				r := d.count(t)
				d.prepared()
				wrapUp := c.wrapUp
				if wrapUp == 0 {
					wrapUp = 60
				}
				anna, o := d.talkOf(max(wrapUp, 0))
				c.happens(d, anna, o)
				if read {
					o.wraps = false
				}
				also := d.marks(o.Contact, "ended")
				took = r.of(func() {
					if err := d.ReleaseUnasked(background, o, after(8), also); (err == nil) != (c.known && !read) || err != nil && !errors.Is(err, ErrOtherwise) {
						t.Errorf("the end of what is known: %v", err)
					} else if err != nil {
						d.ok(d.ReleaseWith(background, o, after(8), also))
					}
				})
				return d.all(o.ID), took
			}
			want, _ := end(true)
			got, took := end(false)
			if got != want {
				t.Errorf("of what is known it made\n%s\nof what is read\n%s", got, want)
			}
			if c.known && took != 1 {
				t.Errorf("it took %d rounds", took)
			}
		})
	}
}

// lockedOut returns when n transactions wait for rows that others have; what comes of
// none of them is known by then.
func (d *desk) lockedOut(n int, ends ...chan error) {
	d.tb.Helper()
	for waiting := 0; waiting < n; {
		for _, end := range ends {
			if len(end) > 0 {
				d.tb.Fatalf("it did not wait: %v", <-end)
			}
		}
		d.ok(d.db.Lists.QueryRow(background, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`).Scan(&waiting))
	}
}

// TestNoWishIsLost: one that is put into the inbox while the end of the talk waits for it
// is found there; one that waits for the end is refused.
func TestNoWishIsLost(t *testing.T) {
	d := newDesk(t)
	anna, o := d.talkOf(60)
	tx, err := d.db.Pool.Begin(background)
	d.ok(err)
	_, err = tx.Exec(background, `select from seats where user_id = $1 for update`, anna) // as Command does
	d.ok(err)
	_, err = tx.Exec(background, `insert into commands (offer_id, wants, expires_at) values ($1, 'hold', $2)`, o.ID, time.Now().Add(time.Minute))
	d.ok(err)
	ended := make(chan error, 1)
	go func() { ended <- d.ReleaseUnasked(background, o, after(5), Also{}) }()
	d.lockedOut(1, ended)
	d.ok(tx.Commit(background))
	d.refuses(<-ended, ErrOtherwise)
	d.stands(anna, "available/ talking")
	if c, err := d.Last(background, o.ID, time.Now()); err != nil || c == nil || c.Wish != Hold {
		t.Fatalf("%+v lay in the inbox (%v)", c, err)
	}

	o.wraps = true // the two in the other order
	tx, err = d.db.Pool.Begin(background)
	d.ok(err)
	_, err = tx.Exec(background, `select from contacts where id = $1 for update`, o.Contact)
	d.ok(err)
	go func() { ended <- d.ReleaseUnasked(background, o, after(6), d.marks(o.Contact, "ended")) }()
	d.lockedOut(1, ended) // with the seat
	asked := make(chan error, 1)
	go func() { asked <- d.Command(background, anna, Command{Wish: Hold}, after(6)) }()
	d.lockedOut(2, ended, asked)
	d.ok(tx.Commit(background))
	d.ok(<-ended)
	d.refuses(<-asked, ErrNotTalking)
	d.stands(anna, "available/ wrapping")
}

// TestAcceptanceOfWhatIsKnown: an offer as most are is accepted in one round. Whatever
// has happened to it, what comes of it is what does when everything is read first.
func TestAcceptanceOfWhatIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(d *desk, anna int64, o *Offer)
		known   bool // it makes no difference, and the acceptance is one round
		want    error
	}{
		"nothing":  {func(*desk, int64, *Offer) {}, true, nil},
		"painted":  {func(d *desk, _ int64, o *Offer) { d.ok(d.Painted(background, o.ID, after(2))) }, true, nil},
		"declared": {func(d *desk, anna int64, _ *Offer) { d.ok(d.Declare(background, anna, "available", "", after(2))) }, true, nil},
		"renamed, with another telephone and wrap-up": {func(d *desk, anna int64, _ *Offer) {
			d.exec(`update users set name = 'anna2', extension = '2000', wrap_up = 5 where id = $1`, anna)
			d.exec(`delete from user_topics`)
		}, true, nil},
		"a break":   {func(d *desk, anna int64, _ *Offer) { d.ok(d.Declare(background, anna, "break", "", after(2))) }, false, ErrTooLate},
		"timed out": {func(d *desk, _ int64, o *Offer) { d.ok(deskOn(t, d.db, "south").TimeOut(background, o.ID, after(21))) }, false, ErrTooLate},
		"swept late": {func(d *desk, _ int64, _ *Offer) {
			_, _, err := deskOn(t, d.db, "south").sweep(background, after(40))
			d.ok(err)
		}, false, ErrTooLate},
		"hung up": {func(d *desk, _ int64, o *Offer) { d.ok(d.Leave(background, o.Contact, after(2))) }, false, ErrTooLate},
		"accepted by another": {func(d *desk, _ int64, o *Offer) {
			d.ok(deskOn(t, d.db, "south").Accept(background, o.ID, after(3)))
		}, false, ErrTooLate},
		"offered again": {func(d *desk, anna int64, o *Offer) {
			d.ok(d.Withdraw(background, o.ID, after(2)))
			d.match(after(2), 1)
			d.exec(`update offers set id = '00000000-0000-0000-0000-00000000000f' where id <> $1`, o.ID)
			d.exec(`update seats set offer_id = '00000000-0000-0000-0000-00000000000f' where user_id = $1`, anna)
			d.exec(`truncate journal`)
		}, false, ErrTooLate},
		"of who was to be rung back": {func(d *desk, _ int64, o *Offer) {
			first := d.rungBack("software", 2, after(-10))
			d.ends(first.contact, "callback_booked", after(-5))
			d.exec(`update contacts set caller = $2 where id = $1`, o.Contact, rossisNumber)
		}, false, nil},
		"another call's by now": {func(d *desk, _ int64, o *Offer) {
			d.exec(`update offers set contact_id = $2 where id = $1`, o.ID, d.call(after(2)))
		}, false, nil},
		"only asked about the caller": {func(d *desk, _ int64, o *Offer) { d.exec(`update offers set consult = true where id = $1`, o.ID) }, false, nil},
		"what comes with it is otherwise": {func(d *desk, _ int64, o *Offer) {
			d.exec(`update contacts set trunk = 'accepted' where id = $1`, o.Contact)
		}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			accept := func(read bool) (all string, took int) {
				d := newDesk(t)
				r := d.count(t)
				d.prepared()
				anna := d.sits("anna", after(0), 60, "anna")
				o := d.offered(d.waits("anna", 2, after(0)), after(1))
				c.happens(d, anna, o)
				also := d.marks(o.Contact, "accepted")
				known := also.Known
				reached := false
				also.Known = func(ctx context.Context, tx *db.Tx) error { reached = true; return known(ctx, tx) }
				if read {
					also.Known = nil
				}
				took = r.of(func() {
					if err := d.AcceptWith(background, o, after(3), also); !errors.Is(err, c.want) {
						t.Errorf("it is accepted with %v", err)
					}
				})
				if reached == read {
					t.Error("it was tried otherwise")
				}
				return d.all(o.ID), took
			}
			want, _ := accept(true)
			got, took := accept(false)
			if got != want {
				t.Errorf("of what is known it made\n%s\nof what is read\n%s", got, want)
			}
			if c.known != (took == 1) {
				t.Errorf("it took %d rounds", took)
			}
		})
	}
}

// TestWhoEndsAnOfferFirst: an acceptance that waits for the seat of an offer that
// somebody else ends comes too late; who waits for the acceptance does.
func TestWhoEndsAnOfferFirst(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 60, "anna")
	rossi := d.waits("anna", 2, after(0))
	o := d.offered(rossi, after(1))
	hold := func() pgx.Tx {
		t.Helper()
		tx, err := d.db.Pool.Begin(background)
		d.ok(err)
		_, err = tx.Exec(background, `select from contacts where id = $1 for update`, rossi.contact)
		d.ok(err)
		return tx
	}
	tx := hold()
	accepted, ended := make(chan error, 1), make(chan error, 1)
	go func() { accepted <- d.AcceptWith(background, o, after(2), d.marks(o.Contact, "accepted")) }()
	d.lockedOut(1, accepted) // with seat, offer and place
	go func() { ended <- d.TimeOut(background, o.ID, after(21)) }()
	d.lockedOut(2, accepted, ended)
	d.ok(tx.Commit(background))
	d.ok(<-accepted)
	d.refuses(<-ended, ErrTooLate)
	d.stands(anna, "available/ talking")

	d.ok(d.Give(background, o.ID, Target{}, "", after(30)))
	d.ok(d.Declare(background, anna, "available", "", after(31)))
	d.exec(`update contacts set trunk = '' where id = $1`, rossi.contact)
	o = d.offered(rossi, after(32))
	tx, err := d.db.Pool.Begin(background)
	d.ok(err)
	_, err = tx.Exec(background, `update seats set doing = 'idle', doing_until = null, offer_id = null, contact_id = null where user_id = $1`, anna)
	d.ok(err)
	_, err = tx.Exec(background, `update offers set state = 'withdrawn', ended_at = now() where id = $1`, o.ID)
	d.ok(err)
	go func() { accepted <- d.AcceptWith(background, o, after(33), d.marks(o.Contact, "accepted")) }()
	d.lockedOut(1, accepted)
	d.ok(tx.Commit(background))
	d.refuses(<-accepted, ErrTooLate)
	d.stands(anna, "available/ idle")
}
