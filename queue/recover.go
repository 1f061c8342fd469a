package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const afterRestart = "restart" // the reason in the journal

// Recover clears up what this node held when it died, before it takes its first
// call: its callers are gone, so their places are left and their offers withdrawn
// at nobody's expense; operators who were talking wrap up. Who was to be rung
// back still is: an attempt in the middle has failed and is made again. Call it once, at the
// start; doing it again is harmless as long as no call has come.
func (q *Queue) Recover(ctx context.Context, at time.Time) error {
	_, err := q.db.Pool.Exec(ctx, `
		insert into nodes (id, started_at, seen_at) values (@node, @at, @at) on conflict (id) do update set started_at = @at, seen_at = @at, lost_at = null`,
		args{"node": q.node, "at": at})
	if err != nil {
		return fmt.Errorf("recover the queue: %w", err)
	}
	node := args{"node": q.node}
	places, err := ids(ctx, q.db.Pool, `select contact_id from places where node = @node and kind = 'live' and state in ('waiting', 'offered') order by urgency, t0`, node)
	if err != nil {
		return fmt.Errorf("recover the queue: %w", err)
	}
	for _, contact := range places {
		if err := q.leave(ctx, contact, afterRestart, at); err != nil {
			return fmt.Errorf("recover the queue: %w", err)
		}
	}
	if err := q.recoverCallbacks(ctx, node, at); err != nil {
		return fmt.Errorf("recover the queue: %w", err)
	}
	asked, err := ids(ctx, q.db.Pool, `select id from offers where node = @node and state = 'pending' and consult`, node)
	if err != nil {
		return fmt.Errorf("recover the queue: %w", err)
	}
	for _, offer := range asked {
		if err := q.withdraw(ctx, offer, afterRestart, at); err != nil && !errors.Is(err, ErrTooLate) {
			return fmt.Errorf("recover the queue: %w", err)
		}
	}
	talks, err := ids(ctx, q.db.Pool, `select id from offers where node = @node and state = 'accepted' and released_at is null order by ended_at`, node)
	if err != nil {
		return fmt.Errorf("recover the queue: %w", err)
	}
	for _, offer := range talks {
		if err := q.release(ctx, offer, afterRestart, at, Also{}); err != nil {
			return fmt.Errorf("recover the queue: %w", err)
		}
	}
	if n, m := len(places), len(talks); n+m > 0 {
		q.log.Warn("a crash left callers in the queue", "waiting", n, "talking", m)
	}
	return nil
}
