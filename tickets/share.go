package tickets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

const (
	shareSoon = 60 * time.Millisecond // a fact that nobody is in a hurry for waits so long for company: what comes next takes it along
	shareEach = time.Millisecond      // a fact waits so long for others, for each that shared the transaction before
	shareWait = 20 * time.Millisecond // and no longer than this
	shareMost = 64                    // facts in one transaction: a few milliseconds of work
	shareLine = 1024                  // facts that wait for the next: with more each goes alone
)

// brief is a fact that touches nothing but a contact without a ticket, which is
// in nobody's hands but its own call's: arrivals, steps before the queue, endings
// of those who never got there. Under load that is nearly all that is written.
// Such facts may share a transaction: none can wait for what another holds.
type brief interface {
	fact
	// contact is whom the fact is about.
	contact() uuid.UUID
	// entry is its journal line.
	entry() journal.Line
	// urgent says that somebody hears nothing until it is written: it takes along what waits.
	urgent() bool
}

// freeContacts are those of rows whose contact nobody else is changing and has no
// ticket. It waits for nobody: a contact that another transaction holds is left to
// be written alone.
func freeContacts(rows, further string) string {
	return `(select f.* from ` + rows + ` join contacts x on x.id = f.contact where x.ticket_id is null` + further + ` for no key update of x skip locked) f
		where c.id = f.contact returning c.id`
}

// queueFree puts a statement over freeContacts into a batch. That all of them were free
// is asked in the same round, which breaks off what it travels with, the COMMIT; or a
// round is taken to hear which were.
func queueFree(batch *pgx.Batch, sql string, args pgx.StrictNamedArgs, list []*sharer, ask bool) {
	if !ask {
		args["n"] = len(list)
		batch.Queue(`with changed as (`+sql+`) select 1 / (count(*) = @n)::int from changed`, args)
		return
	}
	batch.Queue(sql, args).Query(func(rows pgx.Rows) error {
		changed, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		for _, s := range list {
			s.free = slices.Contains(changed, s.fact.contact())
		}
		return err
	})
}

// queueAll puts facts, no two of one contact, into a batch: one statement for all
// beginnings, one for each kind of step, one for all endings. ask is queueFree's.
func queueAll(batch *pgx.Batch, list []*sharer, ask bool) error {
	var begins, ends []*sharer
	steps := map[journal.Kind][]*sharer{}
	for _, s := range list {
		switch f := s.fact.(type) {
		case *begun:
			begins = append(begins, s)
		case *stepped:
			steps[f.Kind] = append(steps[f.Kind], s)
		case *ended:
			ends = append(ends, s)
		}
	}
	if len(begins) > 0 {
		queueBegun(batch, factsOf[*begun](begins))
	}
	for _, kind := range slices.Sorted(maps.Keys(steps)) {
		facts := factsOf[*stepped](steps[kind])
		queueFree(batch, stepSQL(freeContacts(rowsOf(len(facts), stepRow, stepRows), ``), facts...), stepArgs(facts...), steps[kind], ask)
	}
	if len(ends) == 0 {
		return nil
	}
	args, err := endArgs(factsOf[*ended](ends)...)
	if err != nil {
		return err
	}
	queueFree(batch, endSQL(freeContacts(rowsOf(len(ends), endRow, endRows), ` and x.`+noEnding)), args, ends, ask)
	return nil
}

// factsOf are the facts of a list that has one kind of them.
func factsOf[F brief](list []*sharer) []F {
	facts := make([]F, len(list))
	for i, s := range list {
		facts[i] = s.fact.(F)
	}
	return facts
}

func (f *begun) contact() uuid.UUID   { return f.Contact }
func (f *stepped) contact() uuid.UUID { return f.Contact }
func (f *ended) contact() uuid.UUID   { return f.Contact }

func (f *begun) urgent() bool   { return true }  // it rings
func (f *stepped) urgent() bool { return false } // who has been answered has their ear to move first
func (f *ended) urgent() bool   { return false } // who has hung up hears nothing

// isBrief says whether f may share a transaction.
func isBrief(c *Contact, f fact) (brief, bool) {
	if c.Ticket != nil {
		return nil, false
	}
	switch f := f.(type) {
	case *begun:
		return f, true
	case *stepped:
		return f, f.Operator == 0 && f.Ticket == 0
	case *ended:
		return f, f.Ending != MessageLeft // it may need a ticket
	}
	return nil, false
}

// errAlone says that a fact could not be written with the others.
var errAlone = errors.New("write this fact alone")

// sharing writes the brief facts of all calls, one transaction after the other:
// what comes while one is under way goes into the next. A call that comes is written
// at once where there are few; what nobody waits for, the answer and the end, goes with
// one of those, or by itself a moment later. That spares PostgreSQL a commit, its disk
// and all who are woken by it for many of them.
type sharing struct {
	db *db.DB // by a connection of its own: contacts are found by their index, also when the plan is made for a table that is still empty

	soon  time.Duration // how long what nobody is in a hurry for waits for company
	hurry chan struct{} // capacity 1: somebody in a hurry has come

	mu      sync.Mutex // guards the two below
	waiting []*sharer
	busy    bool // write runs
}

func newSharing(d *db.DB) *sharing {
	return &sharing{db: d, soon: shareSoon, hurry: make(chan struct{}, 1)}
}

// sharer is a fact that waits to be written.
type sharer struct {
	fact brief
	free bool       // its contact was as it should be, and in no other hands: else the fact is written alone
	done chan error // holds one
}

// commitSoon is commit, together with what other calls have to write.
func (b *Book) commitSoon(ctx context.Context, c *Contact, f fact) error {
	short, ok := isBrief(c, f)
	if !ok || db.Accompanied(ctx) {
		return b.commit(ctx, f)
	}
	s := &sharer{fact: short, done: make(chan error, 1)}
	if !b.shared.join(s) {
		return b.commit(ctx, f)
	}
	select {
	case err := <-s.done:
		if errors.Is(err, errAlone) {
			return b.commit(ctx, f)
		}
		return err
	case <-ctx.Done(): // it may still be written: like a commit whose answer was lost
		return fmt.Errorf("wait for a transaction: %w", context.Cause(ctx))
	}
}

// join puts a fact into the line; false when that is too long. Who finds nobody
// writing starts it: it ends by itself when nothing waits any more.
func (g *sharing) join(s *sharer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) >= shareLine {
		return false
	}
	g.waiting = append(g.waiting, s)
	if s.fact.urgent() {
		select {
		case g.hurry <- struct{}{}:
		default:
		}
	}
	if !g.busy {
		g.busy = true
		go g.write()
	}
	return true
}

// company waits until somebody comes who is in a hurry, or for a while, if all who wait
// have the time.
func (g *sharing) company() {
	g.mu.Lock()
	now := len(g.waiting) == 0 || slices.ContainsFunc(g.waiting, func(s *sharer) bool { return s.fact.urgent() })
	g.mu.Unlock()
	if now {
		return
	}
	soon := time.NewTimer(g.soon)
	defer soon.Stop()
	select {
	case <-g.hurry:
	case <-soon.C:
	}
}

// next takes those who are written together; none ends write.
func (g *sharing) next() []*sharer {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.hurry: // whoever it was is among them, or the next
	default:
	}
	n := min(len(g.waiting), shareMost)
	list := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	g.busy = n > 0
	return list
}

func (g *sharing) write() {
	for {
		g.company()
		list := g.next()
		if len(list) == 0 {
			return
		}
		err := together(g.db, list)
		for _, s := range list {
			switch {
			case err == nil && s.free:
				s.done <- nil
			case db.Away(err): // for all of them, and the next try would hear the same
				s.done <- err
			default: // whoever's fault it was: the others must not suffer from it
				s.done <- errAlone
			}
		}
		if len(list) > 1 {
			pause := time.NewTimer(min(time.Duration(len(list))*shareEach, shareWait))
			<-pause.C
		}
	}
}

// together writes facts in one transaction, those that are not what they should
// be left out: of several about one contact all but the first, as a statement changes
// a row once, and whom a statement finds otherwise. Nearly always it finds everybody,
// so that is asked only when it was not so.
func together(d *db.DB, list []*sharer) error {
	ctx, cancel := context.WithTimeout(context.Background(), factBudget)
	defer cancel()
	slices.SortStableFunc(list, func(x, y *sharer) int { // as journal.Append takes their streams
		a, b := x.fact.contact(), y.fact.contact()
		return bytes.Compare(a[:], b[:])
	})
	first := slices.CompactFunc(slices.Clone(list), func(x, y *sharer) bool { return x.fact.contact() == y.fact.contact() })
	err := share(ctx, d, first, false)
	var said *pgconn.PgError
	if errors.As(err, &said) && said.Code == "22012" { // division_by_zero
		err = share(ctx, d, first, true)
	}
	return err
}

// share writes facts, no two of one contact, in one transaction. It takes one round, or
// one more to ask who is free, and then leaves out the others.
func share(ctx context.Context, d *db.DB, list []*sharer, ask bool) error {
	return d.Tx(ctx, func(tx *db.Tx) error {
		for _, s := range list {
			s.free = true
		}
		var batch pgx.Batch
		if err := queueAll(&batch, list, ask); err != nil {
			return err
		}
		if !ask {
			tx.Later(&batch, nil)
		} else if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		var lines []journal.Line
		for _, s := range list {
			if s.free {
				lines = append(lines, s.fact.entry())
			}
		}
		tx.Wake(topicJournal)
		return journal.Append(ctx, tx, lines...)
	})
}
