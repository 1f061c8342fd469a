package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

// strictly is the address of a database on which a deadlock is not resolved
// after a second, as PostgreSQL does, but lasts until the test fails. (Where the
// user of TEST_DATABASE_URL may not say so, deadlocks only cost time.)
func strictly(t *testing.T) string {
	t.Helper()
	address := dbtest.URL(t)
	d, err := db.Open(background, db.Config{URL: address, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var name string
	if err := d.Pool.QueryRow(background, `select current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Pool.Exec(background, `alter database `+name+` set deadlock_timeout = '1min'`); err != nil {
		t.Logf("deadlocks will be resolved: %v", err)
	}
	return address
}

// TestTwoNodes lets two nodes with a pool each work on one database: all callers
// wait at once, and whatever is offered is accepted, withdrawn and timed out by
// both nodes at the same time. Nobody may be given twice, nobody may hold two,
// everybody must be served in the end.
func TestTwoNodes(t *testing.T) {
	const (
		callers   = 60
		operators = 6
	)
	address := strictly(t)
	var nodes []*desk
	ctx, cancel := context.WithCancel(background)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, name := range []string{"north", "south"} {
		pool, err := db.Open(background, db.Config{URL: address, MaxConns: 10})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close) // after all that is deferred
		d := deskOn(t, pool, name)
		d.ok(d.Recover(background, time.Now()))
		running.Go(func() { _ = pool.Listen(ctx) })
		running.Go(func() { _ = d.Run(ctx) })
		for range 2 { // matches that nobody asked for
			running.Go(func() {
				for ctx.Err() == nil {
					if _, err := d.Match(ctx, time.Now()); err != nil && ctx.Err() == nil {
						t.Errorf("match: %v", err)
					}
					select {
					case <-ctx.Done():
					case <-time.After(time.Duration(rand.IntN(5)) * time.Millisecond):
					}
				}
			})
		}
		nodes = append(nodes, d)
	}
	north := nodes[0]
	skills := []string{"software", "certificati"}
	busy := map[int64]*atomic.Bool{}
	for i := range operators {
		user := north.operator(fmt.Sprintf("op%d", i), 0, skills[:1+i%2]...)
		busy[user] = new(atomic.Bool)
	}
	var places []*Place
	for i := range callers {
		at := time.Now()
		places = append(places, nodes[i%2].waits(skills[i/2%2], 1+i%2, at))
	}
	for user := range busy {
		north.ok(north.Declare(background, user, "available", "", time.Now()))
	}

	var talks, lost atomic.Int64
	var all sync.WaitGroup
	for _, p := range places {
		all.Go(func() {
			limit, done := context.WithTimeout(background, time.Minute)
			defer done()
			for {
				o, err := p.Wait(limit)
				if err != nil {
					t.Errorf("wait: %v", err)
					return
				}
				if !contend(t, nodes, o, busy[o.Operator]) {
					lost.Add(1)
					continue
				}
				talks.Add(1)
				busy[o.Operator].Store(false) // before the seat is free for others
				if err := p.q.Release(background, o.ID, time.Now()); err != nil {
					t.Errorf("release: %v", err)
				}
				return
			}
		})
	}
	all.Wait()
	if talks.Load() != callers {
		t.Fatalf("%d of %d callers were served", talks.Load(), callers)
	}
	if lost.Load() == 0 {
		t.Fatal("no acceptance ever lost: nothing was contended")
	}
	var twice, accepted int
	north.ok(north.db.Pool.QueryRow(background, `select count(*) filter (where n > 1), sum(n) from (
		select count(*) as n from offers where state = 'accepted' group by contact_id) x`).Scan(&twice, &accepted))
	if twice != 0 || accepted != callers {
		t.Fatalf("%d callers were given twice, %d offers accepted", twice, accepted)
	}
	// No seat's talks may overlap.
	var overlaps int
	north.ok(north.db.Pool.QueryRow(background, `
		select count(*) from journal a join journal b on a.stream = b.stream and b.seq = a.seq + 1
		where a.stream like 'seat:%' and (a.kind in ('accepted', 'offered') and b.kind = 'offered')`).Scan(&overlaps))
	if overlaps != 0 {
		t.Fatalf("%d offers were made to a seat that held one", overlaps)
	}
	for user := range busy {
		north.kinds(journal.SeatStream(user))
	}
}

// contend lets everybody end an offer at once, and tells whether it was accepted.
func contend(t *testing.T, nodes []*desk, o *Offer, busy *atomic.Bool) (accepted bool) {
	ends := []func() error{
		func() error { return nodes[0].Accept(background, o.ID, time.Now()) },
		func() error { return nodes[1].Accept(background, o.ID, time.Now()) },
		func() error { return nodes[1].Withdraw(background, o.ID, time.Now()) },
	}
	var won [3]bool
	var all sync.WaitGroup
	for i, end := range ends {
		all.Go(func() {
			err := end()
			if won[i] = err == nil; err != nil && !errors.Is(err, ErrTooLate) {
				t.Errorf("end an offer: %v", err)
			}
			if won[i] && i < 2 && busy.Swap(true) {
				t.Errorf("operator %d holds two", o.Operator)
			}
		})
	}
	all.Wait()
	n := 0
	for _, w := range won {
		if w {
			n++
		}
	}
	if n != 1 {
		t.Errorf("an offer has %d winners", n)
	}
	return won[0] || won[1]
}

// TestLeaveRaces lets callers hang up at the very moment at which they are
// offered and accepted: either they are gone or they are served, never both, and
// no seat stays behind.
func TestLeaveRaces(t *testing.T) {
	pool, err := db.Open(background, db.Config{URL: strictly(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	d := deskOn(t, pool, "north")
	anna := d.sits("anna", time.Now(), 0, "software")
	var left, served int
	for range 60 {
		p := d.waits("software", 2, time.Now())
		var offer uuid.UUID
		accepted := false
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := d.Match(background, time.Now()); err != nil {
				t.Errorf("match: %v", err)
			}
			if s := d.seat(anna); s.Doing == Offered {
				offer = s.Offer.UUID
				err := d.Accept(background, offer, time.Now())
				if accepted = err == nil; err != nil && !errors.Is(err, ErrTooLate) {
					t.Errorf("accept: %v", err)
				}
			}
		})
		all.Go(func() {
			<-time.After(time.Duration(rand.IntN(4000)) * time.Microsecond)
			if err := p.Leave(background, time.Now()); err != nil {
				t.Errorf("leave: %v", err)
			}
		})
		all.Wait()
		switch got := d.state(p); {
		case accepted && got == placeTaken:
			served++
			d.stands(anna, "available/ talking")
			d.ok(d.Release(background, offer, time.Now()))
		case !accepted && got == placeLeft:
			left++
		default:
			t.Fatalf("accepted %v, and the place is %s", accepted, got)
		}
		d.stands(anna, "available/ idle")
	}
	t.Logf("%d left, %d were served", left, served)
}
