package tickets

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db/journal"
)

// together lets calls do something at once, so that what they write waits for
// the same transaction: n facts.
func (d *desk) together(n int, calls ...func()) {
	d.t.Helper()
	d.shared.mu.Lock()
	d.shared.busy = true // as if one were under way
	d.shared.mu.Unlock()
	var all sync.WaitGroup
	for _, call := range calls {
		all.Go(call)
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		d.shared.mu.Lock()
		waiting = len(d.shared.waiting)
		d.shared.mu.Unlock()
		if d.t.Context().Err() != nil {
			d.t.Fatal("the facts did not come")
		}
	}
	d.shared.write()
	all.Wait()
}

// transactions counts those that wrote lines of a kind.
func (d *desk) transactions(kind journal.Kind) (n int) {
	d.t.Helper()
	must(d.t, d.db.Pool.QueryRow(d.t.Context(), `select count(distinct xid::text) from journal where kind = $1`, kind).Scan(&n))
	return n
}

// TestCallsShareATransaction: what many calls write at once is one transaction,
// and every call has its own.
func TestCallsShareATransaction(t *testing.T) {
	d := newDesk(t)
	contacts := make([]*Contact, shareMost+1) // one too many for the first
	var begin []func()
	for i := range contacts {
		begin = append(begin, func() {
			from := []string{"+390551234567", "+390557654321", "", "+393331234567"}[i%4]
			c, err := d.Begin(context.Background(), Arrival{Channel: Phone, ID: fmt.Sprint("call", i), From: from, Source: "asserted", To: "800123456", At: monday})
			if err != nil {
				t.Error(err)
			}
			contacts[i] = c
		})
	}
	d.together(len(begin), begin...)
	if t.Failed() {
		t.FailNow()
	}
	if n := d.transactions(journal.Begun); n != 2 {
		t.Errorf("%d calls began in %d transactions, want 2", len(contacts), n)
	}
	for i, c := range contacts {
		want := []string{MatchCertain, MatchSeveral, MatchWithheld, MatchNone}[i%4]
		if r := d.record(c); c.Match != want || r.Match != want || r.CallID != fmt.Sprint("call", i) || len(c.Customers) != []int{1, 2, 0, 0}[i%4] {
			t.Errorf("call %d: %q with %d customers, the row says %q of %q", i, c.Match, len(c.Customers), r.Match, r.CallID)
		}
	}
	var steps []func()
	for i, c := range contacts[:20] {
		steps = append(steps, func() {
			var err error
			if i%2 == 0 {
				err = d.Note(context.Background(), c, Step{Kind: journal.Classified, At: monday.Add(time.Second), Topic: d.topics[1].ID, Urgency: Blocking})
			} else {
				err = d.End(context.Background(), c, AbandonedIVR, monday.Add(time.Minute), nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	d.together(len(steps), steps...)
	if n := d.transactions(journal.Classified); n != 1 {
		t.Errorf("the steps are in %d transactions, want 1", n)
	}
	for i, c := range contacts[:20] {
		r, want := d.record(c), []string{"begun", "classified"}
		if i%2 == 1 {
			want[1] = "ended"
		}
		if !slices.Equal(kinds(r), want) || (r.Ending != nil) != (i%2 == 1) || (r.Ts != nil) != (i%2 == 0) {
			t.Errorf("call %d: %v, ending %v, ts %v", i, kinds(r), r.Ending, r.Ts)
		}
	}
	if _, err := journal.VerifyAll(t.Context(), d.db.Pool); err != nil {
		t.Error(err)
	}
}

// TestOneBadFactHarmsNobody: what one call cannot write is refused to that call
// alone, whatever is the matter with it.
func TestOneBadFactHarmsNobody(t *testing.T) {
	d := newDesk(t)
	contacts := make([]*Contact, 8)
	for i := range contacts {
		contacts[i] = d.call("", monday)
	}
	must(t, d.End(t.Context(), contacts[0], AbandonedIVR, monday, nil))
	theirs, err := d.Open(t.Context(), &Contact{ID: contacts[1].ID}, Matter{Channel: Phone, At: monday}, nil) // contacts[1] does not know
	must(t, err)
	results := make([]error, 7)
	end := func(i int, c *Contact, e Ending) func() {
		return func() { results[i] = d.End(context.Background(), c, e, monday.Add(time.Minute), nil) }
	}
	holder, err := d.db.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = holder.Rollback(context.Background()) }()
	_, err = holder.Exec(t.Context(), `select from contacts where id = $1 for update`, contacts[2].ID)
	must(t, err)
	released := make(chan struct{})
	go func() { // lets contacts[2] go only when another call has been written
		defer close(released)
		limit, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for {
			var done bool
			if err := d.db.Pool.QueryRow(limit, `select ending is not null from contacts where id = $1`, contacts[3].ID).Scan(&done); err != nil || done {
				break
			}
		}
		_ = holder.Rollback(context.Background())
	}()
	d.together(5,
		end(0, contacts[0], Served), // has its ending
		end(1, contacts[1], NoMessage),
		end(2, contacts[2], AbandonedIVR),
		end(3, contacts[3], AbandonedIVR),
		end(4, &Contact{ID: uuid.New()}, AbandonedIVR), // is none
	)
	<-released
	for i, want := range []error{nil, nil, nil, nil, ErrNotFound} {
		if !errors.Is(results[i], want) {
			t.Errorf("call %d: %v, want %v", i, results[i], want)
		}
	}
	d.together(2,
		func() {
			results[5] = d.Note(context.Background(), contacts[4], Step{Kind: journal.Classified, At: monday, Topic: 1 << 40}) // no such topic
		},
		end(6, contacts[5], AbandonedIVR))
	if results[5] == nil || results[6] != nil {
		t.Errorf("a step without a topic: %v; the ending beside it: %v", results[5], results[6])
	}
	opened, err := d.Open(t.Context(), &Contact{ID: contacts[6].ID}, Matter{Channel: Phone, At: monday}, nil) // contacts[6] does not know
	must(t, err)
	step := func(i int, s Step) func() {
		return func() {
			s.Kind, s.At = journal.Classified, monday
			if err := d.Note(context.Background(), contacts[i], s); err != nil {
				t.Errorf("a step of call %d: %v", i, err)
			}
		}
	}
	d.together(3, step(6, Step{Urgency: Blocking}), step(7, Step{Urgency: Blocking}), step(7, Step{Topic: d.topics[1].ID})) // two about one contact
	for i := 6; i < 8; i++ {
		var urgency int
		var topic, ticket int64
		must(t, d.db.Pool.QueryRow(t.Context(), `select c.urgency, coalesce(c.topic_id, 0), coalesce(max(j.ticket_id), 0)
			from contacts c join journal j on j.contact_id = c.id and j.kind = 'classified' where c.id = $1 group by c.id`, contacts[i].ID).Scan(&urgency, &topic, &ticket))
		if urgency != Blocking || i == 6 && ticket != opened.ID || i == 7 && topic != d.topics[1].ID {
			t.Errorf("call %d: urgency %d, topic %d, a line with ticket %d", i, urgency, topic, ticket)
		}
	}
	var ended int64
	must(t, d.db.Pool.QueryRow(t.Context(), `select coalesce(max(ticket_id), 0) from journal where contact_id = $1 and kind = 'ended'`, contacts[1].ID).Scan(&ended))
	if ended != theirs.ID {
		t.Errorf("the ending of a call with a ticket names %d, not %d", ended, theirs.ID)
	}
	for i, want := range [][]string{{"begun", "ended"}, {"begun", "opened", "ended"}, {"begun", "ended"}, {"begun", "ended"}, {"begun"}, {"begun", "ended"},
		{"begun", "opened", "classified"}, {"begun", "classified", "classified"}} {
		if r := d.record(contacts[i]); !slices.Equal(kinds(r), want) && !(i == 1 && slices.Equal(kinds(r), append(want, "closed"))) {
			t.Errorf("call %d: %v, want %v", i, kinds(r), want)
		}
	}
	if r := d.record(contacts[0]); *r.Ending != string(AbandonedIVR) {
		t.Errorf("a second ending was written: %s", *r.Ending)
	}
	if _, err := journal.VerifyAll(t.Context(), d.db.Pool); err != nil {
		t.Error(err)
	}
}

// TestTheOthersStillShare: who cannot be written with the others does not part them.
func TestTheOthersStillShare(t *testing.T) {
	d := newDesk(t)
	contacts := make([]*Contact, 3)
	var ends []func()
	for i := range contacts {
		contacts[i] = d.call("", monday)
		ends = append(ends, func() {
			if err := d.End(context.Background(), contacts[i], AbandonedIVR, monday.Add(time.Minute), nil); err != nil {
				t.Error(err)
			}
		})
	}
	before := *contacts[0]
	must(t, d.End(t.Context(), &before, Served, monday, nil))
	d.together(len(ends), ends...)
	if n := d.transactions(journal.Ended); n != 2 {
		t.Errorf("the endings of three calls, of which one had its own before, are in %d transactions, want 2", n)
	}
	for i, want := range []Ending{Served, AbandonedIVR, AbandonedIVR} {
		if r := d.record(contacts[i]); !slices.Equal(kinds(r), []string{"begun", "ended"}) || *r.Ending != string(want) {
			t.Errorf("call %d: %v, ending %s, want %s", i, kinds(r), *r.Ending, want)
		}
	}
}

// TestWhoIsInNoHurry: an answer and an ending go along with the call that comes next, or
// by themselves when none does; a call that comes waits for nobody.
func TestWhoIsInNoHurry(t *testing.T) {
	d := newDesk(t)
	begin := func(id string) *Contact {
		t.Helper()
		c, err := d.Begin(t.Context(), Arrival{Channel: Phone, ID: id, From: "+390551234567", Source: "asserted", To: "800123456", At: monday})
		must(t, err)
		return c
	}
	answer := func(c *Contact) func() {
		return func() {
			if err := d.Note(t.Context(), c, Step{Kind: journal.Answered, At: monday.Add(time.Second)}); err != nil {
				t.Error(err)
			}
		}
	}
	first, second := begin("first"), begin("second")
	if n := d.transactions(journal.Begun); n != 2 {
		t.Errorf("two calls, one after the other, began in %d transactions", n)
	}
	answer(first)() // with nobody to come

	d.shared.soon = time.Minute
	written := make(chan struct{})
	go func() { defer close(written); answer(second)() }()
	for waiting := 0; waiting == 0; runtime.Gosched() {
		select {
		case <-written:
			t.Fatal("the answer waited for nobody")
		default:
		}
		d.shared.mu.Lock()
		waiting = len(d.shared.waiting)
		d.shared.mu.Unlock()
	}
	begin("third")
	<-written
	var together bool
	must(t, d.db.Pool.QueryRow(t.Context(), `select (select xid from journal where contact_id = $1 and kind = 'answered') = (select xid from journal j join contacts c on c.id = j.contact_id where c.call_id = 'third' and j.kind = 'begun')`,
		second.ID).Scan(&together))
	if !together {
		t.Error("the answer did not go along with the call that came next")
	}
	for _, c := range []*Contact{first, second} {
		if r := d.record(c); !slices.Equal(kinds(r), []string{"begun", "answered"}) || r.Ta == nil {
			t.Errorf("%s: %v, ta %v", r.CallID, kinds(r), r.Ta)
		}
	}
}
