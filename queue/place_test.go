package queue

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

func TestJoin(t *testing.T) {
	d := newDesk(t)
	topic := d.topic("software")
	join := func(e Entry) error {
		return d.db.Tx(background, func(tx *db.Tx) error {
			_, err := d.Join(background, tx, e)
			return err
		})
	}
	contact := d.call(after(0))
	if err := join(Entry{Contact: contact, Topic: topic, Urgency: 3, T0: after(0), At: after(1)}); err == nil {
		t.Fatal("an urgency that is none was taken")
	}
	if err := join(Entry{Contact: contact, Topic: topic + 100, Urgency: 1, T0: after(0), At: after(1)}); err == nil {
		t.Fatal("a topic that is none was taken")
	}
	if err := join(Entry{Contact: uuid.New(), Topic: topic, Urgency: 1, T0: after(0), At: after(1)}); err == nil {
		t.Fatal("a contact that is none was taken")
	}
	e := Entry{Contact: contact, Topic: topic, Urgency: 2, T0: after(0), At: after(1)}
	d.ok(join(e))
	if err := join(e); err == nil {
		t.Fatal("a second place was given")
	}
	d.ok(d.Leave(background, contact, after(2)))
	e.At = after(3)
	d.ok(join(e)) // again, after leaving
	d.told(journal.ContactStream(contact), "waiting", "left", "waiting")

	// The place comes and goes with the transaction it was taken in.
	other, failed := d.call(after(4)), errors.New("the ticket could not be opened")
	err := d.db.Tx(background, func(tx *db.Tx) error {
		if _, err := d.Join(background, tx, Entry{Contact: other, Topic: topic, Urgency: 2, T0: after(4), At: after(4)}); err != nil {
			return err
		}
		return failed
	})
	d.refuses(err, failed)
	list, err := d.Waiting(background)
	d.ok(err)
	if len(list) != 1 || list[0].Contact != contact || list[0].Topic != topic || !list[0].JoinedAt.Equal(after(3)) {
		t.Fatalf("waiting: %+v", list)
	}
}

func TestLeave(t *testing.T) {
	d := newDesk(t)
	d.ok(d.Leave(background, uuid.New(), after(0))) // never had a place
	rossi := d.waits("software", 2, after(0))
	d.ok(rossi.Leave(background, after(1)))
	d.ok(rossi.Leave(background, after(2)))
	d.told(journal.ContactStream(rossi.contact), "waiting", "left")

	anna := d.sits("anna", after(3), 0, "software")
	verdi := d.waits("software", 2, after(4))
	o := d.offered(verdi, after(5))
	d.ok(d.Accept(background, o.ID, after(6)))
	d.ok(verdi.Leave(background, after(7))) // taken: the talk goes on
	d.stands(anna, "available/ talking")
	if got := d.state(verdi); got != placeTaken {
		t.Fatalf("the place is %s", got)
	}
	for _, p := range []*Place{rossi, verdi} {
		if _, err := p.Wait(background); !errors.Is(err, ErrGone) {
			t.Errorf("waiting on a place that is gone: %v", err)
		}
	}
}

// TestLeaveWaitsForWhatIsUnderWay: a place whose COMMIT was asked for, and not answered
// in time, comes into being after its caller has gone elsewhere, and is left all the same.
func TestLeaveWaitsForWhatIsUnderWay(t *testing.T) {
	d := newDesk(t)
	contact, topic := d.call(after(0)), d.topic("software")
	taken, commit, committed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		committed <- d.db.Tx(background, func(tx *db.Tx) error {
			if _, err := tx.Exec(background, `select from contacts where id = $1 for update`, contact); err != nil {
				return err
			}
			_, err := d.Join(background, tx, Entry{Contact: contact, Topic: topic, Urgency: 2, T0: after(0), At: after(1)})
			close(taken)
			<-commit
			return err
		})
	}()
	<-taken
	left := make(chan error, 1)
	go func() { left <- d.Leave(background, contact, after(2)) }()
	for waits := false; !waits && len(left) == 0; {
		d.ok(d.db.Pool.QueryRow(background, `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waits))
	}
	close(commit)
	d.ok(<-committed)
	d.ok(<-left)
	d.told(journal.ContactStream(contact), "waiting", "left")
}

// TestWait is a caller's wait from the empty room to the operator, in a bubble:
// if Wait polled, an hour of it would not pass in an instant, and if it missed a
// wake-up it would not end.
func TestWait(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		start := time.Now()
		rossi := d.waits("software", 2, start)
		offers := make(chan *Offer)
		ctx, cancel := context.WithCancelCause(background)
		over := make(chan error)
		go func() {
			for {
				o, err := rossi.Wait(ctx)
				if err != nil {
					over <- err
					return
				}
				offers <- o
			}
		}()
		select {
		case <-time.After(time.Hour):
		case o := <-offers:
			t.Fatalf("an offer from nobody: %+v", o)
		}
		anna := d.sits("anna", time.Now(), 0, "software")
		o := <-offers
		if o.Operator != anna || time.Since(start) != time.Hour {
			t.Fatalf("%+v after %v", o, time.Since(start))
		}
		synctest.Wait() // the same offer does not come twice
		bruno := d.sits("bruno", time.Now(), 0, "software")
		d.ok(d.Decline(background, o.ID, Unreachable, time.Now()))
		if o = <-offers; o.Operator != bruno {
			t.Fatalf("the next offer: %+v", o)
		}
		hungUp := errors.New("hung up")
		cancel(hungUp)
		if err := <-over; err != hungUp {
			t.Fatalf("the wait ended with %v", err)
		}
		d.ok(rossi.Leave(background, time.Now()))
		if time.Since(start) != time.Hour {
			t.Fatalf("an hour and %v have passed", time.Since(start)-time.Hour)
		}
	})
}

// TestWaitTakesWhatItsMatchMade: who is offered somebody by the match they asked for does
// not read what it was: here they could not.
func TestWaitTakesWhatItsMatchMade(t *testing.T) {
	pool, err := db.Open(background, db.Config{URL: dbtest.URL(t), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	d := deskOn(t, pool, "north")
	d.sits("anna", after(0), 0, "software")
	rossi := d.waits("software", 2, after(1))
	only, err := pool.Pool.Acquire(background)
	d.ok(err)
	defer only.Release()
	ctx, cancel := context.WithTimeout(background, 5*time.Second)
	defer cancel()
	o, err := rossi.Wait(ctx)
	d.ok(err)
	only.Release()
	d.written([]*Offer{o})

	// Until it has ended there is no other, and then the next is read where somebody
	// else made it.
	d.ok(d.Withdraw(background, o.ID, after(2)))
	next := d.offered(rossi, after(3))
	if again, err := rossi.Wait(background); err != nil || again.ID != next.ID {
		t.Errorf("%+v, %v", again, err)
	}
	short, over := context.WithCancelCause(background)
	time.AfterFunc(100*time.Millisecond, func() { over(errRehearsed) })
	if again, err := rossi.Wait(short); err != errRehearsed {
		t.Errorf("twice %+v, %v", again, err)
	}
}

// TestManyWaitersMatchOnce: all who ask while a match runs need one more.
func TestManyWaitersMatchOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		var all sync.WaitGroup
		for range 100 {
			p := d.waits("software", 2, time.Now())
			all.Go(func() {
				if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("the wait ended with %v", err)
				}
			})
		}
		<-time.After(time.Second) // all of them wait
		before := d.matches()
		asked := d.asked.Load()
		d.turn <- struct{}{} // a match runs
		d.db.Wakeups.Wake(TopicMatch)
		<-time.After(time.Second)
		if n := d.asked.Load() - asked; n != 100 {
			t.Fatalf("%d looks were asked for, not 100", n)
		}
		<-d.turn
		<-time.After(time.Second)
		if n := d.matches() - before; n != 1 {
			t.Fatalf("a hundred looks took %d matches", n)
		}
		cancel()
		all.Wait()
	})
}

// TestWaitBack: a place that another node has given up for dead is taken back by
// the caller who is still there.
func TestWaitBack(t *testing.T) {
	inBubble(t, func(t *testing.T, d *desk) {
		rossi := d.waits("software", 2, time.Now())
		offers := make(chan *Offer)
		go func() {
			o, err := rossi.Wait(background)
			d.ok(err)
			offers <- o
		}()
		<-time.After(time.Minute)
		d.ok(d.leave(background, rossi.contact, "node_lost", time.Now()))
		<-time.After(time.Minute)
		d.sits("anna", time.Now(), 0, "software")
		if o := <-offers; o.Contact != rossi.contact {
			t.Fatalf("%+v", o)
		}
		d.told(journal.ContactStream(rossi.contact), "waiting", "left", "waiting", "offered")
	})
}

// TestWakeAcrossNodes: a caller on one node is woken by an operator on another.
func TestWakeAcrossNodes(t *testing.T) {
	address := dbtest.URL(t)
	ctx, cancel := context.WithCancel(background)
	var nodes []*desk
	var running sync.WaitGroup
	for _, name := range []string{"north", "south"} {
		pool, err := db.Open(background, db.Config{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close) // after all that is deferred
		up := pool.Wakeups.Subscribe("up")
		running.Go(func() { _ = pool.Listen(ctx) })
		<-up.C() // listening wakes everybody
		nodes = append(nodes, deskOn(t, pool, name))
	}
	defer running.Wait()
	defer cancel()
	north, south := nodes[0], nodes[1]
	rossi := north.waits("software", 2, time.Now())
	offers := make(chan *Offer)
	go func() {
		o, err := rossi.Wait(background)
		north.ok(err)
		offers <- o
	}()
	anna := south.sits("anna", time.Now(), 0, "software")
	o := <-offers
	if o.Operator != anna || o.node != "north" {
		t.Fatalf("%+v", o)
	}
	watched, stop := north.Watch(background, o)
	defer stop()
	south.ok(south.Decline(background, o.ID, Refused, time.Now()))
	<-watched.Done()
	if context.Cause(watched) != ErrDeclined {
		t.Fatalf("the watch ended with %v", context.Cause(watched))
	}
}

// TestWaitingReadsNothingOld: who waits or is offered is listed without reading the places
// of whoever has left.
func TestWaitingReadsNothingOld(t *testing.T) {
	d := newDesk(t)
	d.sits("anna", after(0), 60, "anna")
	d.exec(`insert into contacts (id, node, channel, call_id, caller_source, dialled, t0) select gen_random_uuid(), '', 'phone', i, 'withheld', '', $1 from generate_series(1, 5000) i`, morning)
	d.exec(`insert into places (contact_id, node, topic_id, urgency, t0, joined_at, state) select id, '', $1, 2, t0, t0, 'taken' from contacts`, d.topic("anna"))
	d.exec(`analyze places`)
	offered, waiting := d.waits("anna", 2, after(1)), d.waits("anna", 2, after(2))
	d.match(after(3), 1)
	d.count(t) // one connection: its counts are told when it is asked to
	read := func() (n int) {
		d.exec(`select pg_stat_force_next_flush()`)
		d.ok(d.db.Pool.QueryRow(background, `select seq_tup_read from pg_stat_user_tables where relname = 'places'`).Scan(&n))
		return n
	}
	before := read()
	list, err := d.Waiting(background)
	d.ok(err)
	if len(list) != 2 || list[0].Contact != offered.contact || list[0].State != "offered" || list[1].Contact != waiting.contact || list[1].State != "waiting" {
		t.Errorf("%+v", list)
	}
	if n := read() - before; n != 0 {
		t.Errorf("%d places were read through for it", n)
	}
}
