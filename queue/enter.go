package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Entering is a caller on the way into the queue, in a transaction of somebody else's:
// ticket and place come into being together. If nobody matches just now, in this
// process or in another, who waits is matched in the same transaction, before anything of it
// can be seen: most callers of a desk that is not busy have their operator with
// their place. Else it is as if they had only joined, and their Wait matches.
type Entering struct {
	q     *Queue
	entry Entry
	turn  bool // the turn to match is ours

	// Of the transaction that was begun last.
	alone  bool // no other node matched
	vacant vacancies
	made   []*Offer
}

// Entering begins it. Whoever calls it calls Done, in any case.
func (q *Queue) Entering(e Entry) (*Entering, error) {
	if e.Urgency != 1 && e.Urgency != 2 {
		return nil, fmt.Errorf("join the queue: no such urgency %d", e.Urgency)
	}
	n := &Entering{q: q, entry: e}
	select {
	case q.turn <- struct{}{}:
		n.turn = true
	default:
	}
	return n, nil
}

// Over is whose connections the transaction is to use, nil: anybody's. A match reads over
// one that has its plans.
func (n *Entering) Over() *db.DB {
	if n.turn {
		return n.q.own
	}
	return nil
}

// Ahead leaves for the first round of the transaction the place, and what a match reads.
// It must not wait for another node's match, which may wait for its disk: the lock is
// tried.
func (n *Entering) Ahead(tx *db.Tx) {
	n.alone, n.vacant, n.made = false, vacancies{}, nil
	leavePlace(tx, n.q.node, n.entry)
	if !n.turn {
		return
	}
	var b pgx.Batch
	b.Queue(`select pg_try_advisory_xact_lock(@class, @lock)`, args{"class": matchLockClass, "lock": matchLock}).
		QueryRow(func(row pgx.Row) error { return row.Scan(&n.alone) })
	n.q.queueVacant(&b, &n.vacant, leaving{}, n.q.few, n.entry.At)
	tx.Later(&b, nil)
}

// Then leaves the rest for the round of the COMMIT: the journal's line, and the offers.
func (n *Entering) Then(ctx context.Context, tx *db.Tx) error {
	w := n.q.work(tx, n.entry.At)
	w.contact(journal.Waiting, n.entry.Contact, map[string]any{"topic": n.entry.Topic, "urgency": n.entry.Urgency})
	if err := w.done(ctx); err != nil {
		return fmt.Errorf("join the queue: %w", err)
	}
	if n.turn && n.alone && n.vacant.waiting <= fewCallers {
		if p, all := n.vacant.pair(n.entry.At); all {
			var err error
			if n.made, err = n.q.offer(ctx, tx, p, n.entry.At); err != nil {
				return fmt.Errorf("join the queue: %w", err)
			}
			return nil
		}
	}
	tx.Wake(TopicMatch)
	return nil
}

// Again says, of a transaction that failed, whether it is to be made once more at once:
// somebody who was to be offered the caller was leaving, and the caller joins without a
// match then.
func (n *Entering) Again(err error) bool {
	matched := n.turn
	n.quit()
	return matched && errors.As(err, new(*leaving))
}

// Done ends it, and returns the place if it was committed: err is what came of it.
func (n *Entering) Done(err error) *Place {
	n.quit()
	if err != nil {
		return nil
	}
	place := &Place{q: n.q, contact: n.entry.Contact}
	for _, o := range n.made {
		if o.Contact == n.entry.Contact {
			place.first = o // no need to read it: if it is over by now, its watch says so
		}
	}
	return place
}

// quit gives the turn to match back.
func (n *Entering) quit() {
	if n.turn {
		n.turn = false
		<-n.q.turn
	}
}

// leavePlace leaves a place for the next round of a transaction, and with it what is known of who
// served the caller. Who has left may join again. Who has a callback booked about the
// same topic has a place already, and stands no further behind than that: to wait on
// the line must not cost them their turn.
func leavePlace(tx *db.Tx, node string, e Entry) {
	var b pgx.Batch
	b.Queue(`
		with joined as (
		insert into places (contact_id, node, topic_id, urgency, t0, joined_at, state, sticky_id)
		values (@contact, @node, @topic, @urgency, least(@t0, (
			select min(p.t0) from contacts me `+againSQL+`
			where me.id = @contact and p.topic_id = @topic and p.urgency = @urgency)), @at, 'waiting', (
			select c.operator_id from contacts me join contacts c on c.caller = me.caller
			where me.id = @contact and me.caller <> '' and c.ending = 'served' and c.te > @served_since and c.t0 > @begun_since
			order by c.t0 desc limit 1))
		on conflict (contact_id) do update
		set node = @node, topic_id = @topic, urgency = @urgency, joined_at = @at, state = 'waiting', left_at = null
		where places.state = 'left' returning 1
		) select 1 / count(*)::int from joined`, // nobody joins twice: it breaks off what it travels with
		args{"contact": e.Contact, "node": node, "topic": e.Topic, "urgency": e.Urgency, "t0": e.T0, "at": e.At,
			"served_since": e.At.Add(-stickyAge), "begun_since": e.At.Add(-stickyAge - longTalk)})
	tx.Later(&b, func(err error) error {
		if divided(err) {
			return fmt.Errorf("join the queue: contact %s has a place already", e.Contact)
		}
		return fmt.Errorf("join the queue: %w", err)
	})
}
