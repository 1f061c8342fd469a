package journal_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 123456789, time.UTC)

func add(t *testing.T, d *db.DB, lines ...journal.Line) {
	t.Helper()
	if err := try(t.Context(), d, lines...); err != nil {
		t.Fatal(err)
	}
}

func try(ctx context.Context, d *db.DB, lines ...journal.Line) error {
	return d.Tx(ctx, func(tx *db.Tx) error {
		tx.Wake("journal")
		return journal.Append(ctx, tx, lines...)
	})
}

func some(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: true} }

func TestLinesComeBackAsWritten(t *testing.T) {
	d := dbtest.New(t)
	contact, other := uuid.New(), uuid.New()
	add(t, d,
		journal.Line{Stream: journal.ContactStream(contact), At: noon, Kind: journal.Begun, Contact: some(contact), Data: map[string]any{"trunk": "a\nb", "n": 3}},
		journal.Line{Stream: journal.TicketStream(7), At: noon.Add(time.Second), Kind: journal.Opened, Contact: some(contact), Ticket: 7, User: 5},
		journal.Line{Stream: journal.ContactStream(contact), At: noon.Add(2 * time.Second), Kind: journal.Ended, Contact: some(contact)},
		journal.Line{Stream: journal.ContactStream(other), At: noon, Kind: journal.Begun, Contact: some(other)})
	add(t, d, journal.Line{Stream: journal.TicketStream(7), At: noon.Add(3 * time.Second), Kind: journal.Closed, Ticket: 7})

	got, err := journal.OfContact(t.Context(), d.Pool, contact)
	if err != nil || len(got) != 3 {
		t.Fatalf("contact has %d lines (%v), want 3", len(got), err)
	}
	first := got[0]
	if first.Kind != journal.Begun || first.Seq != 1 || !first.At.Equal(noon.Truncate(time.Microsecond)) || first.Data["trunk"] != "a\nb" || first.Data["n"] != 3.0 || first.Contact != some(contact) {
		t.Errorf("first line is %+v", first)
	}
	if got[1].Ticket != 7 || got[1].User != 5 || got[1].Seq != 1 || got[2].Seq != 2 || got[2].Kind != journal.Ended {
		t.Errorf("further lines are %+v", got[1:])
	}
	ofTicket, err := journal.OfTicket(t.Context(), d.Pool, 7)
	if err != nil || len(ofTicket) != 2 || ofTicket[1].Kind != journal.Closed || ofTicket[1].Seq != 2 {
		t.Errorf("ticket has %+v (%v)", ofTicket, err)
	}
	for _, stream := range []string{journal.ContactStream(contact), journal.TicketStream(7), journal.SeatStream(99)} {
		if err := journal.Verify(t.Context(), d.Pool, stream); err != nil {
			t.Errorf("verify: %v", err)
		}
	}
}

func TestLinesWithoutStreamKindOrInstantAreRefused(t *testing.T) {
	d := dbtest.New(t)
	for _, l := range []journal.Line{
		{At: noon, Kind: journal.Begun},
		{Stream: "seat:1", Kind: journal.Begun},
		{Stream: "seat:1", At: noon},
		{Stream: "seat:1\n2", At: noon, Kind: journal.Begun},
	} {
		if err := try(t.Context(), d, l); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

func TestFactIsWrittenOnce(t *testing.T) {
	d := dbtest.New(t)
	line := journal.Line{Stream: "seat:1", At: noon, Kind: journal.Declared, User: 1, Fact: some(uuid.New())}
	add(t, d, line)
	if err := try(t.Context(), d, line); !errors.Is(err, journal.ErrReplayed) {
		t.Errorf("second time: %v, want ErrReplayed", err)
	}
	err := d.Tx(t.Context(), func(tx *db.Tx) error {
		var b pgx.Batch
		if err := journal.Queue(&b, line); err != nil {
			return err
		}
		return journal.Replayed(tx.SendBatch(t.Context(), &b).Close())
	})
	if !errors.Is(err, journal.ErrReplayed) {
		t.Errorf("in a batch: %v, want ErrReplayed", err)
	}
	if err := journal.Verify(t.Context(), d.Pool, "seat:1"); err != nil {
		t.Error(err)
	}
}

// Eight writers, with transactions of different lengths, some of them given up,
// and one reader: it must see every committed line once, each stream without a
// gap, and in its order a stream that one transaction at a time writes. A reader
// by id loses about half.
func TestReaderLosesNothingUnderEightWriters(t *testing.T) {
	const writers, each = 8, 60
	address := dbtest.URL(t)
	d, err := db.Open(t.Context(), db.Config{URL: address, MaxConns: writers + 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	var mu sync.Mutex // guards written
	written := map[string]bool{}
	var wg sync.WaitGroup
	errGiveUp := errors.New("given up")
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for n := range each {
				name := fmt.Sprintf("%d-%d", w, n)
				fails := r.IntN(10) == 0
				err := d.Tx(t.Context(), func(tx *db.Tx) error {
					if err := journal.Append(t.Context(), tx,
						journal.Line{Stream: fmt.Sprintf("own:%d", w), At: noon, Kind: "own", Data: map[string]any{"name": name}},
					); err != nil {
						return err
					}
					if r.IntN(3) == 0 { // the lock of a stream that others want, and time in which they pass
						if err := journal.Append(t.Context(), tx, journal.Line{Stream: fmt.Sprintf("shared:%d", r.IntN(3)), At: noon, Kind: "shared", Data: map[string]any{"name": name + "s"}}); err != nil {
							return err
						}
					}
					if _, err := tx.Exec(t.Context(), "select pg_sleep($1)", float64(r.IntN(4))/1000); err != nil {
						return err
					}
					if fails {
						return errGiveUp
					}
					return nil
				})
				if err != nil && !errors.Is(err, errGiveUp) {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				if err == nil {
					mu.Lock()
					written[name] = true
					mu.Unlock()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	seen := map[string]int{}
	last, count := map[string]int{}, map[string]int{} // of a stream: highest number, lines
	var cursor journal.Cursor
	for over := false; ; {
		select {
		case <-done:
			over = true
		default:
		}
		entries, next, err := journal.After(t.Context(), d.Pool, cursor, 50)
		if err != nil {
			t.Fatal(err)
		}
		cursor = next
		for _, e := range entries {
			seen[e.Data["name"].(string)]++
			if e.Kind == "own" && e.Seq != last[e.Stream]+1 {
				t.Errorf("stream %s: line %d after %d", e.Stream, e.Seq, last[e.Stream])
			}
			last[e.Stream] = max(last[e.Stream], e.Seq)
			count[e.Stream]++
		}
		if over && len(entries) == 0 {
			held, err := journal.Held(t.Context(), d.Pool)
			if err != nil {
				t.Fatal(err)
			}
			if !held {
				break
			}
		}
	}
	for name := range written {
		if seen[name] != 1 {
			t.Errorf("line %s was read %d times", name, seen[name])
		}
	}
	for name := range seen {
		if base, _, _ := cutS(name); !written[base] {
			t.Errorf("line %s was read, but never committed", name)
		}
	}
	if len(written) < writers*each/2 {
		t.Errorf("only %d transactions were committed", len(written))
	}
	for stream := range last {
		if last[stream] != count[stream] {
			t.Errorf("stream %s: %d lines up to number %d", stream, count[stream], last[stream])
		}
		if err := journal.Verify(t.Context(), d.Pool, stream); err != nil {
			t.Error(err)
		}
	}
}

// cutS takes the mark of a shared line off its name.
func cutS(name string) (string, string, bool) {
	if n := len(name); name[n-1] == 's' {
		return name[:n-1], "s", true
	}
	return name, "", false
}

func TestLineIsHeldBackBehindAnOlderTransaction(t *testing.T) {
	d := dbtest.New(t)
	begin, err := journal.End(t.Context(), d.Pool)
	if err != nil {
		t.Fatal(err)
	}
	older, err := d.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = older.Rollback(context.Background()) }() // or a failing test would wait for its connection
	if err := journal.Append(t.Context(), older, journal.Line{Stream: "seat:1", At: noon, Kind: "older"}); err != nil {
		t.Fatal(err)
	}
	add(t, d, journal.Line{Stream: "seat:2", At: noon, Kind: "newer"})
	if got, _, err := journal.After(t.Context(), d.Pool, begin, 10); err != nil || len(got) != 0 {
		t.Fatalf("read %v (%v) before the older transaction ended", got, err)
	}
	if held, err := journal.Held(t.Context(), d.Pool); err != nil || !held {
		t.Errorf("held is %v (%v), want true", held, err)
	}
	if got, next, held, err := journal.Look(t.Context(), d.Pool, begin, 10); err != nil || len(got) != 0 || next != begin || !held {
		t.Errorf("a look finds %v, held %v (%v), want nothing but that lines are held", got, held, err)
	}
	if err := older.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, next := await(t, d, begin, 2)
	if got[0].Kind != "older" || got[1].Kind != "newer" {
		t.Errorf("read %v, want older before newer", got)
	}
	if seen, after, _, err := journal.Look(t.Context(), d.Pool, begin, 10); err != nil || len(seen) != 2 || after != next {
		t.Errorf("a look finds %v up to %v (%v), want the same two up to %v", seen, after, err, next)
	}
	if rest, _, err := journal.After(t.Context(), d.Pool, next, 10); err != nil || len(rest) != 0 {
		t.Errorf("read %v (%v) again", rest, err)
	}
}

// await reads until there are n lines: another test's transaction on the same
// server may hold them back for a moment.
func await(t *testing.T, d *db.DB, from journal.Cursor, n int) ([]journal.Entry, journal.Cursor) {
	t.Helper()
	for {
		got, next, err := journal.After(t.Context(), d.Pool, from, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) >= n {
			return got, next
		}
		if held, err := journal.Held(t.Context(), d.Pool); err != nil || !held {
			got, next, err = journal.After(t.Context(), d.Pool, from, 10)
			if err != nil || len(got) < n {
				t.Fatalf("only %d lines (%v), want %d", len(got), err, n)
			}
			return got, next
		}
	}
}

func TestEndIsAfterWhatIsThere(t *testing.T) {
	d := dbtest.New(t)
	add(t, d, journal.Line{Stream: "seat:1", At: noon, Kind: "before"})
	await(t, d, journal.Cursor{}, 1)
	end, err := journal.End(t.Context(), d.Pool)
	if err != nil {
		t.Fatal(err)
	}
	add(t, d, journal.Line{Stream: "seat:1", At: noon, Kind: "after"})
	if got, _ := await(t, d, end, 1); len(got) != 1 || got[0].Kind != "after" {
		t.Errorf("after the end come %v", got)
	}
}

func TestVerifyFindsTheChangedLine(t *testing.T) {
	for name, c := range map[string]struct {
		sql string
		seq int
	}{
		"data":           {`update journal set data = '{"n": 99}' where seq = 2`, 2},
		"instant":        {`update journal set at = at + interval '1 microsecond' where seq = 3`, 3},
		"kind":           {`update journal set kind = 'other' where seq = 1`, 1},
		"contact":        {`update journal set contact_id = null where seq = 1`, 1},
		"fact":           {`update journal set fact = gen_random_uuid() where seq = 2`, 2},
		"user":           {`update journal set user_id = 8 where seq = 2`, 2},
		"ticket":         {`update journal set ticket_id = null where seq = 2`, 2},
		"removed":        {`delete from journal where seq = 2`, 2},
		"removed first":  {`delete from journal where seq = 1`, 1},
		"swapped":        {`update journal set seq = case seq when 2 then 3 when 3 then 2 else seq end + 100; update journal set seq = seq - 100`, 2},
		"rehashed alone": {`update journal set data = '{}', hash = sha256(prev || journal_bytes(stream, seq, at, kind, contact_id, ticket_id, user_id, '{}', fact)) where seq = 2`, 3},
	} {
		t.Run(name, func(t *testing.T) {
			d := dbtest.New(t)
			contact := uuid.New()
			for n := range 4 {
				add(t, d, journal.Line{Stream: "ticket:1", At: noon.Add(time.Duration(n) * time.Second), Kind: journal.Noted, Contact: some(contact), Ticket: 1, User: 7, Data: map[string]any{"n": n, "a": "è\\\"\n"}})
			}
			if err := journal.Verify(t.Context(), d.Pool, "ticket:1"); err != nil {
				t.Fatalf("before: %v", err)
			}
			if _, err := d.Pool.Exec(t.Context(), c.sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			err := journal.Verify(t.Context(), d.Pool, "ticket:1")
			var broken *journal.Broken
			if !errors.As(err, &broken) || broken.Seq != c.seq || broken.Stream != "ticket:1" {
				t.Errorf("verify says %v, want line %d", err, c.seq)
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	d := dbtest.New(b)
	for b.Loop() {
		id := uuid.New()
		if err := try(b.Context(), d, journal.Line{Stream: journal.ContactStream(id), At: noon, Kind: journal.Begun, Contact: some(id)}); err != nil {
			b.Fatal(err)
		}
	}
}

// A node of before may still append, in its own way: the chains are the same.
func TestOlderNodesContinueTheSameChains(t *testing.T) {
	d := dbtest.New(t)
	contact, fact := uuid.New(), uuid.New()
	older := fmt.Sprintf(`[{"stream":"ticket:1","at":1,"kind":"noted","ticket":1,"user":7,"data":{"b":1,"a":"è\\\"\n"}},
		{"stream":"desk","at":2,"kind":"noted","contact":"%s"}, {"stream":"ticket:1","at":3,"kind":"edited","fact":"%s"}]`, contact, fact)
	for range 2 {
		add(t, d,
			journal.Line{Stream: "ticket:1", At: noon.Add(time.Microsecond), Kind: journal.Noted, Ticket: 1, User: 7, Data: map[string]any{"b": 1.5, "a": "è\\\"\n"}},
			journal.Line{Stream: "desk", At: noon, Kind: journal.Noted, Contact: some(contact)},
			journal.Line{Stream: "ticket:1", At: noon, Kind: journal.Edited, Fact: some(uuid.New())},
			journal.Line{Stream: "ticket:1", At: noon, Kind: journal.Closed})
		if _, err := d.Pool.Exec(t.Context(), `select journal_append($1::jsonb)`, older); err != nil {
			t.Fatal(err)
		}
		older = strings.Replace(older, `"fact":"`+fact.String()+`"`, `"user":8`, 1)
	}
	if lines, err := journal.VerifyAll(t.Context(), d.Pool); lines != 14 || err != nil {
		t.Errorf("%d lines (%v), want 14 that continue each other", lines, err)
	}
	entries, err := journal.OfContact(t.Context(), d.Pool, contact)
	if err != nil || len(entries) != 4 || entries[3].Seq != 4 {
		t.Errorf("the contact's lines are %v (%v), want four of one stream", entries, err)
	}
}
