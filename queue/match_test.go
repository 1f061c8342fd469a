package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/pronto-desk/pronto/db"
)

// possible tells by trying everything whether all these callers can be served.
func possible(callers []caller, seats []free) bool {
	if len(callers) == 0 {
		return true
	}
	for i, s := range seats {
		if s.fits(callers[0], morning) && possible(callers[1:], slices.Delete(slices.Clone(seats), i, i+1)) {
			return true
		}
	}
	return false
}

// firsts are the callers that must be served: each, in order, who can be served
// together with those before.
func firsts(callers []caller, seats []free) (list []caller) {
	for _, c := range callers {
		if with := append(slices.Clone(list), c); possible(with, seats) {
			list = with
		}
	}
	return list
}

func drawRoom(t *rapid.T) ([]caller, []free) {
	callers := make([]caller, rapid.IntRange(0, 6).Draw(t, "callers"))
	for i := range callers {
		callers[i] = caller{contact: uuid.New(), topic: rapid.Int64Range(1, 3).Draw(t, "topic"),
			joined:  morning.Add(-time.Duration(rapid.IntRange(0, 4).Draw(t, "waited")) * time.Minute),
			sticky:  rapid.Int64Range(0, 4).Draw(t, "knows"),
			refused: rapid.SliceOfN(rapid.Int64Range(1, 4), 0, 2).Draw(t, "refused")}
		callers[i].route = route{relax: [levels]time.Duration{1: time.Minute, 2: 2 * time.Minute}, after: 3 * time.Minute}
		if callers[i].topic == 1 {
			callers[i].route.overflow = 2
		}
	}
	seats := make([]free, rapid.IntRange(0, 4).Draw(t, "seats"))
	for i := range seats {
		seats[i].seat.User = int64(i + 1)
		for _, topic := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 3), 0, 3, rapid.ID).Draw(t, "skills") {
			seats[i].skills = append(seats[i].skills, skill{topic, rapid.IntRange(1, levels).Draw(t, "level")})
		}
	}
	return callers, seats
}

// TestPairIsFairAndFull compares with every possibility.
func TestPairIsFairAndFull(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		callers, seats := drawRoom(t)
		has := pair(callers, seats, morning).has
		var served []caller
		for c := range callers {
			n := 0
			for s, i := range has {
				if i != c {
					continue
				}
				n++
				if !seats[s].fits(callers[c], morning) {
					t.Fatalf("caller %d got seat %d, which does not fit", c, s)
				}
			}
			if n > 1 {
				t.Fatalf("caller %d got %d seats", c, n)
			} else if n == 1 {
				served = append(served, callers[c])
			}
		}
		want := firsts(callers, seats)
		if !slices.EqualFunc(served, want, func(a, b caller) bool { return a.contact == b.contact }) {
			t.Fatalf("served %v, not %v", served, want)
		}
		if len(callers) == 1 && len(served) == 1 { // the longest idle of those that fit best
			given := slices.Index(has, 0)
			for s, f := range seats {
				if rank, best := f.rank(callers[0], morning), seats[given].rank(callers[0], morning); f.fits(callers[0], morning) && (rank < best || rank == best && s < given) {
					t.Fatalf("seat %d is better than seat %d", s, given)
				}
			}
		}
	})
}

// TestPlainPairsStand: pairs that are plain with the first of the seats are the same
// with all of them.
func TestPlainPairsStand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		callers, seats := drawRoom(t)
		few := pair(callers, seats[:rapid.IntRange(0, len(seats)).Draw(t, "few")], morning)
		if !few.plain() {
			return
		}
		want := few.has
		for len(want) < len(seats) {
			want = append(want, -1)
		}
		if has := pair(callers, seats, morning).has; !slices.Equal(has, want) {
			t.Fatalf("with all seats %v, with %d of them %v", has, len(few.seats), want)
		}
	})
}

// TestMovedIsNotPlain: who makes way for somebody else would not have to, if a seat
// further on were theirs.
func TestMovedIsNotPlain(t *testing.T) {
	callers := []caller{{topic: 1}, {topic: 2}}
	seats := []free{knows(1, 2), knows(1), knows(2)}
	if p := pair(callers, seats[:2], morning); !slices.Equal(p.has, []int{1, 0}) || p.plain() {
		t.Errorf("of two seats %v, plain: %v", p.has, p.plain())
	}
	if p := pair(callers, seats, morning); !slices.Equal(p.has, []int{0, -1, 1}) || !p.plain() {
		t.Errorf("of three seats %v, plain: %v", p.has, p.plain())
	}
}

// TestMatchReadsOn: who fits is found also behind many who have been idle for longer.
func TestMatchReadsOn(t *testing.T) {
	d := newDesk(t)
	for i := range fewSeats + 1 {
		d.sits(fmt.Sprintf("op%d", i), after(float64(i)), 0, "certificati")
	}
	anna := d.sits("anna", after(90), 0, "software")
	rossi, neri := d.waits("software", 2, after(100)), d.waits("certificati", 2, after(101))
	d.match(after(102), 2)
	if o := d.offerOf(rossi); o.Operator != anna {
		t.Errorf("rossi was offered to %s", o.Name)
	}
	if o := d.offerOf(neri); o.Name != "op0" {
		t.Errorf("neri was offered to %s, who is not the longest idle", o.Name)
	}
	d.exec(`update users set active = false where name = 'op1'`)
	bianchi := d.waits("certificati", 2, after(103))
	if o := d.offered(bianchi, after(104)); o.Name != "op2" {
		t.Errorf("bianchi was offered to %s", o.Name)
	}
}

func TestPair(t *testing.T) {
	const a, b = 1, 2
	seat := func(user int64, topics ...int64) free {
		f := knows(topics...)
		f.seat.User = user
		return f
	}
	level := func(user int64, level int) free { return free{seat: Seat{User: user}, skills: []skill{{a, level}}} }
	relaxed := route{relax: [levels]time.Duration{1: time.Minute, 2: 2 * time.Minute}, overflow: b, after: 3 * time.Minute}
	waited := func(d time.Duration) caller { return caller{topic: a, joined: morning.Add(-d), route: relaxed} }
	knew := func(user int64, ago time.Duration) caller {
		return caller{topic: a, joined: morning.Add(-ago), sticky: user}
	}
	for _, c := range []struct {
		name    string
		callers []caller
		seats   []free
		want    []int
	}{
		{"nobody", nil, nil, []int{}},
		{"an empty room", []caller{{topic: a}}, nil, []int{}},
		{"no skill", []caller{{topic: a}}, []free{seat(1, b)}, []int{-1}},
		{"no skill at all", []caller{{topic: a}}, []free{seat(1)}, []int{-1}},
		{"the longest idle", []caller{{topic: a}}, []free{seat(1, b), seat(2, a), seat(3, a)}, []int{-1, 0, -1}},
		{"in order", []caller{{topic: a}, {topic: a}, {topic: a}}, []free{seat(1, a), seat(2, a)}, []int{0, 1}},
		{"who is behind goes ahead only where the first cannot", []caller{{topic: a}, {topic: b}}, []free{seat(1, b)}, []int{1}},
		{"the first moves so that two are served", []caller{{topic: a}, {topic: b}}, []free{seat(1, a, b), seat(2, a)}, []int{1, 0}},
		{"the first does not give way", []caller{{topic: a}, {topic: b}}, []free{seat(1, a, b)}, []int{0}},
		{"refused, another one", []caller{{topic: a, refused: []int64{1}}}, []free{seat(1, a), seat(2, a)}, []int{-1, 0}},
		{"not good enough yet", []caller{waited(time.Minute - 1)}, []free{level(1, 2), level(2, 3)}, []int{-1, -1}},
		{"good enough by now", []caller{waited(time.Minute)}, []free{level(1, 3), level(2, 2)}, []int{-1, 0}},
		{"anybody by now", []caller{waited(2 * time.Minute)}, []free{level(1, 3)}, []int{0}},
		{"the best all the same", []caller{waited(time.Hour)}, []free{level(1, 3), level(2, 1), level(3, 2)}, []int{-1, 0, -1}},
		{"the longest idle of the best", []caller{waited(time.Hour)}, []free{level(1, 3), level(2, 2), level(3, 2)}, []int{-1, 0, -1}},
		{"nobody else yet", []caller{waited(3*time.Minute - 1)}, []free{seat(1, b)}, []int{-1}},
		{"others help out", []caller{waited(3 * time.Minute)}, []free{seat(1, b)}, []int{0}},
		{"who helps out comes last", []caller{waited(time.Hour)}, []free{seat(1, b), level(2, 3)}, []int{-1, 0}},
		{"who helps out has their own callers in turn", []caller{{topic: b}, waited(time.Hour)}, []free{seat(1, b)}, []int{0}},
		{"somebody they know", []caller{knew(2, 0)}, []free{seat(1, a), seat(2, a)}, []int{-1, 0}},
		{"somebody they knew, too long ago", []caller{knew(2, stickyFor)}, []free{seat(1, a), seat(2, a)}, []int{0, -1}},
		{"somebody they know is busy: nobody is waited for", []caller{knew(2, 0)}, []free{seat(1, a)}, []int{0}},
		{"somebody they know who cannot help", []caller{knew(2, 0)}, []free{seat(1, a), seat(2, b)}, []int{0, -1}},
		{"two change seats", []caller{{topic: a}, knew(1, 0)}, []free{seat(1, a), seat(2, a)}, []int{1, 0}},
		{"nobody changes to a worse seat", []caller{waited(time.Hour), knew(1, 0)}, []free{seat(1, a), level(2, 3)}, []int{0, 1}},
		{"refused, the next caller", []caller{{topic: a, refused: []int64{1}}, {topic: a}}, []free{seat(1, a)}, []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pair(c.callers, c.seats, morning).has; !slices.Equal(got, c.want) {
				t.Errorf("%v, not %v", got, c.want)
			}
		})
	}
}

// TestOrder: urgency, then T0, then id; never the order of joining.
func TestOrder(t *testing.T) {
	d := newDesk(t)
	late := d.call(after(9))
	first, second := d.call(after(3)), d.call(after(3)) // the same T0: by id
	blocking := d.call(after(20))
	calls := []struct {
		id      uuid.UUID
		urgency int
		t0      float64
	}{{late, 2, 9}, {second, 2, 3}, {blocking, 1, 20}, {first, 2, 3}}
	for _, c := range calls {
		d.join(c.id, "software", c.urgency, after(c.t0), after(30))
	}
	list, err := d.Waiting(background)
	d.ok(err)
	anna := d.sits("anna", after(0), 0, "software")
	for i, want := range []uuid.UUID{blocking, first, second, late} {
		if list[i].Contact != want || list[i].State != "waiting" {
			t.Fatalf("listed %d: %v", i, list[i])
		}
		at := after(40 + float64(10*i))
		d.match(at, 1)
		s := d.seat(anna)
		if s.Contact.UUID != want {
			t.Fatalf("turn %d is %v's, not %v's", i, s.Contact.UUID, want)
		}
		d.ok(d.Accept(background, s.Offer.UUID, at))
		d.ok(d.Release(background, s.Offer.UUID, at))
	}
}

func TestMatchTakesAllAtOnce(t *testing.T) {
	d := newDesk(t)
	for i := range 3 {
		d.sits(fmt.Sprintf("op%d", i), after(float64(3-i)), 0, "software")
	}
	var places []*Place
	for i := range 5 {
		places = append(places, d.waits("software", 2, after(10+float64(i))))
	}
	d.match(after(20), 3)
	for i, want := range []string{"op2", "op1", "op0"} { // the longest idle first
		if o := d.offerOf(places[i]); o.Name != want {
			t.Errorf("caller %d got %s, not %s", i, o.Name, want)
		}
	}
	d.match(after(20), 0)
}

func TestOnlyWhoIsAvailable(t *testing.T) {
	d := newDesk(t)
	rossi := d.waits("software", 2, after(0))
	d.operator("never", 0, "software")
	for _, declared := range []string{"break", "admin", "off"} {
		id := d.operator(declared, 0, "software")
		d.ok(d.Declare(background, id, declared, "", after(0)))
	}
	d.sits("unskilled", after(0), 0, "certificati")
	gone := d.sits("gone", after(0), 0, "software")
	d.exec(`update users set active = false where id = $1`, gone)
	d.match(after(1), 0)
	anna := d.sits("anna", after(2), 0, "software")
	if o := d.offered(rossi, after(3)); o.Operator != anna || o.Name != "anna" || o.Extension == "" {
		t.Fatalf("%+v", o)
	}
}

// TestSilentNode: the callers of a node that does not say that it lives are
// offered to nobody; our own always are.
func TestSilentNode(t *testing.T) {
	d := newDesk(t)
	south := deskOn(t, d.db, "south")
	d.sits("anna", after(0), 0, "software")
	theirs := south.waits("software", 2, after(1))
	ours := d.waits("software", 2, after(2))
	south.ok(south.beat(background, after(1)))
	d.ok(d.beat(background, after(1)))
	d.ok(d.beat(background, after(1+silentAfter.Seconds()))) // south has not since
	d.offered(ours, after(16))
	d.ok(d.Withdraw(background, d.offerOf(ours).ID, after(18)))
	south.ok(south.beat(background, after(19)))
	d.ok(d.beat(background, after(19)))
	if o := d.offered(theirs, after(20)); o.node != "south" {
		t.Fatalf("the offer's node is %q", o.node)
	}
}

// TestMatchLooksAgain: a seat or a place that somebody has locked for a moment,
// and then does not change, is not forgotten; one that stays locked holds up
// nobody else.
func TestMatchLooksAgain(t *testing.T) {
	for _, c := range []struct {
		name, lock string
		wait       bool
	}{
		{"seat", `select from seats for update`, true},
		{"place", `select from places for update`, true},
		{"a seat that stays locked", `select from seats where user_id = (select id from users where name = 'anna') for update`, false},
		{"a seat that a colleague offers somebody", `select from seats where user_id = (select id from users where name = 'anna') for update;
			insert into offers (id, contact_id, user_id, node, state, offered_at, expires_at)
			select gen_random_uuid(), c.id, u.id, '', 'pending', now(), now() from users u, contacts c where u.name = 'anna' order by c.t0 limit 1`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.sits("anna", after(0), 0, "software")
			d.sits("other", after(0), 0, "software")
			d.call(after(0)) // somebody else
			rossi := d.waits("software", 2, after(1))
			moved := d.db.Wakeups.Subscribe(PlaceTopic(rossi.contact))
			defer moved.Close()
			tx, err := d.db.Pool.Begin(background)
			d.ok(err)
			_, err = tx.Exec(background, c.lock)
			d.ok(err)
			made := make(chan int)
			go func() {
				n, err := d.Match(background, after(2))
				d.ok(err)
				made <- len(n)
			}()
			if c.wait {
				<-time.After(5 * lookAgainPause) // the match has looked and found it locked
			} else {
				for d.state(rossi) != placeOffered {
					<-moved.C()
				}
			}
			d.ok(tx.Rollback(background))
			if n := <-made; n != 1 {
				t.Fatalf("%d offers were made", n)
			}
		})
	}
}

// TestMatchSeesWhatCameBefore: a match that had to wait for its turn knows what
// was committed meanwhile, or it would give the operator to the wrong caller.
func TestMatchSeesWhatCameBefore(t *testing.T) {
	d := newDesk(t)
	anna := d.sits("anna", after(0), 0, "software")
	d.waits("software", 2, after(1))
	urgent, topic := d.call(after(2)), d.topic("software")
	made := make(chan int)
	d.ok(d.db.Tx(background, func(tx *db.Tx) error {
		if _, err := tx.Exec(background, `select pg_advisory_xact_lock($1, $2)`, matchLockClass, matchLock); err != nil {
			return err
		}
		go func() {
			n, err := d.Match(background, after(3))
			d.ok(err)
			made <- len(n)
		}()
		for waits := false; !waits; {
			if err := d.db.Pool.QueryRow(background, `select exists (select from pg_locks where locktype = 'advisory' and not granted
				and database = (select oid from pg_database where datname = current_database()))`).Scan(&waits); err != nil {
				return err
			}
		}
		_, err := d.Join(background, tx, Entry{Contact: urgent, Topic: topic, Urgency: 1, T0: after(2), At: after(2)})
		return err
	}))
	if n := <-made; n != 1 || d.seat(anna).Contact.UUID != urgent {
		t.Fatalf("%d offers, and anna has %v, not %v", n, d.seat(anna).Contact.UUID, urgent)
	}
}

// TestNobodyRingsBeforeTheyWait: a match whose instant is older than the place
// it finds (it waited for its turn meanwhile) does not put Tr before Tq.
func TestNobodyRingsBeforeTheyWait(t *testing.T) {
	d := newDesk(t)
	d.sits("anna", after(-60), 0, "software")
	contact := d.call(after(0))
	d.join(contact, "software", 2, after(0), after(10))
	d.match(after(9), 1)
	var ordered bool
	d.ok(d.db.Pool.QueryRow(background, `select tr >= tq from contacts where id = $1`, contact).Scan(&ordered))
	if !ordered {
		t.Error("the contact rang before it waited")
	}
}

// TestRehearsal does all that a match does but for its last statement, which must
// fail as it is meant to, and leaves nothing behind.
func TestRehearsal(t *testing.T) {
	d := newDesk(t)
	if err := d.rehearse(background, after(0), false); err.Error() != errRehearsed.Error() {
		t.Fatalf("the short rehearsal ended with: %v", err)
	}
	err := d.rehearse(background, after(0), true)
	var pe *pgconn.PgError
	if !errors.Is(err, errRehearsed) || !errors.As(err, &pe) || pe.Code != "23503" || pe.TableName != "offers" { // foreign_key_violation
		t.Fatalf("the rehearsal ended with: %v", err)
	}
	var left int
	d.ok(d.db.Pool.QueryRow(background, `select (select count(*) from journal) + (select count(*) from offers)`).Scan(&left))
	if left != 0 {
		t.Errorf("%d rows are left of a rehearsal", left)
	}
}
