package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pronto-desk/pronto/db"
)

// What a dead node has left is cleared up by the leader, in this order: GiveUp;
// then the tickets end its contacts; FreeTalks; callbacks are booked; LeavePlaces.
// A contact's ending is the fence: only what belongs to one that has ended is
// touched, and what ended is never begun again. So a node that was not dead but
// frozen does no harm when it goes on: its acceptances and its places come too
// late, as anybody's would.

const nodeLost = "node_lost" // the reason in the journal

// GiveUp declares a node dead, unless it has beaten since it was read; then the
// others wake, and ring no telephone through it.
func (q *Queue) GiveUp(ctx context.Context, n Node, at time.Time) (given bool, err error) {
	err = q.db.Tx(ctx, func(tx *db.Tx) error {
		tag, err := tx.Exec(ctx, `update nodes set lost_at = coalesce(lost_at, @at) where id = @node and seen_at = @seen`,
			args{"node": n.ID, "seen": n.SeenAt, "at": at})
		given = err == nil && tag.RowsAffected() == 1
		tx.Wake(TopicNodes)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("give up %s: %w", n.ID, err)
	}
	return given, nil
}

// FreeTalks lets the operators go on who talked to callers of a dead node, and
// fails its attempts to ring somebody back.
func (q *Queue) FreeTalks(ctx context.Context, node string, at time.Time) error {
	attempts, err := ids(ctx, q.db.Pool, `
		select p.attempt from places p join callbacks b on b.contact_id = p.contact_id and b.outcome is null join contacts c on c.id = p.attempt
		where p.node = @node and c.ending is not null order by p.urgency, p.t0`, args{"node": node})
	if err != nil {
		return fmt.Errorf("free the talks of %s: %w", node, err)
	}
	talks, err := ids(ctx, q.db.Pool, `
		select o.id from offers o join contacts c on c.id = o.contact_id
		where o.node = @node and o.state = 'accepted' and o.released_at is null and c.ending is not null order by o.ended_at`, args{"node": node})
	if err != nil {
		return fmt.Errorf("free the talks of %s: %w", node, err)
	}
	var errs []error
	for _, attempt := range attempts {
		errs = append(errs, q.Attempted(ctx, attempt, SystemFault, at))
	}
	for _, offer := range talks {
		errs = append(errs, q.release(ctx, offer, nodeLost, at, Also{}))
	}
	return errors.Join(errs...)
}

// LeavePlaces gives up the places of a dead node's callers that became no
// callback, and withdraws what it was about to ring, at nobody's expense.
func (q *Queue) LeavePlaces(ctx context.Context, node string, at time.Time) error {
	places, err := ids(ctx, q.db.Pool, `
		select p.contact_id from places p join contacts c on c.id = p.contact_id
		where p.node = @node and p.kind = 'live' and p.state in ('waiting', 'offered') and c.ending is not null order by p.urgency, p.t0`, args{"node": node})
	if err != nil {
		return fmt.Errorf("leave the places of %s: %w", node, err)
	}
	offers, err := ids(ctx, q.db.Pool, `
		select o.id from offers o join places p on p.contact_id = o.contact_id
		join contacts c on c.id = o.contact_id
		where o.node = @node and o.state = 'pending' and (p.kind = 'callback' or o.consult and c.ending is not null)`, args{"node": node})
	if err != nil {
		return fmt.Errorf("leave the places of %s: %w", node, err)
	}
	var errs []error
	for _, contact := range places {
		errs = append(errs, q.leave(ctx, contact, nodeLost, at))
	}
	for _, offer := range offers {
		if err := q.withdraw(ctx, offer, nodeLost, at); !errors.Is(err, ErrTooLate) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Cleared tells the nodes that what one of them has left is settled: if it lives
// after all, it looks what became of its calls.
func (q *Queue) Cleared(ctx context.Context) error {
	return q.db.Tx(ctx, func(tx *db.Tx) error { tx.Wake(TopicNodes); return nil })
}
