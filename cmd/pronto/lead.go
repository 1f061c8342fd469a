package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	lookEvery   = time.Second            // the leader looks for silent nodes
	aliveWait   = time.Second            // a silent node may answer the leader itself
	believed    = time.Minute            // so long a node that only lost the database is believed to live
	tidyEvery   = 10 * time.Minute       // expired rows are deleted
	nodesKept   = 30 * 24 * time.Hour    // a node that was not seen for so long is forgotten
	expiredKept = 24 * time.Hour         // a registration that has expired, for who looks why
	fenceAgain  = 500 * time.Millisecond // after an error of the database
)

// lead is what one node does for all: it clears up after nodes that have died, and
// deletes what has expired. It runs as long as this node is the leader.
func (h *house) lead(ctx context.Context) error {
	look, tidy := time.NewTicker(lookEvery), time.NewTicker(tidyEvery)
	defer look.Stop()
	defer tidy.Stop()
	cleared := map[string]time.Time{} // by node: the beat after which it was cleared up
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			for _, n := range h.queue.Silent() {
				if cleared[n.ID].Equal(n.SeenAt) || h.lives(ctx, n) {
					continue
				}
				err := h.clear(ctx, n, time.Now())
				switch {
				case err == nil:
					cleared[n.ID] = n.SeenAt
				case ctx.Err() == nil && !errors.Is(err, tickets.ErrNodeLives):
					h.log.Error("a dead node could not be cleared up, trying again", "node", n.ID, "error", err)
				}
			}
		case <-tidy.C:
			if err := h.tidy(ctx, time.Now()); err != nil && ctx.Err() == nil && !db.Away(err) {
				h.log.Error("expired rows could not be deleted", "error", err)
			}
		}
	}
}

// lives asks a silent node itself. One that answers has only lost the database:
// its talks go on, so it is believed for a while.
func (h *house) lives(ctx context.Context, n queue.Node) bool {
	if n.LostAt != nil || time.Since(n.SeenAt) > believed {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, aliveWait)
	defer cancel()
	return h.peers.alive(ctx, n)
}

// clear ends what a dead node has left: its callers have their ending and keep
// their place as callbacks, its operators are free. The order is that of
// queue.GiveUp. Any of it may have been done before, by a leader that died.
func (h *house) clear(ctx context.Context, n queue.Node, at time.Time) error {
	given, err := h.queue.GiveUp(ctx, n, at)
	if err != nil || !given {
		return err
	}
	if n.LostAt == nil {
		h.log.Warn("a node has died", "node", n.ID, "seen", n.SeenAt)
	}
	promise, err := h.book.EndLost(ctx, n.ID, n.SeenAt, at)
	errs := []error{err, h.queue.FreeTalks(ctx, n.ID, at)}
	for _, contact := range promise {
		errs = append(errs, h.promise(ctx, contact, at))
	}
	errs = append(errs, h.queue.LeavePlaces(ctx, n.ID, at), h.queue.Cleared(ctx))
	if len(promise) > 0 {
		h.log.Warn("callers of a dead node are to be rung back", "node", n.ID, "callers", len(promise))
	}
	return errors.Join(errs...)
}

// promise books a callback for somebody who was cut off. Who cannot have one stays
// on the list of calls to ring back.
func (h *house) promise(ctx context.Context, contact uuid.UUID, at time.Time) error {
	err := h.db.Tx(ctx, func(tx *db.Tx) error {
		if err := h.queue.BookCallback(ctx, tx, queue.CallbackEntry{Contact: contact, Origin: queue.FromFault, At: at}); err != nil {
			return err
		}
		return h.book.Promised(ctx, tx, contact)
	})
	if errors.Is(err, queue.ErrBooked) || errors.Is(err, queue.ErrNoNumber) {
		return nil
	}
	return err
}

// tidy deletes rows that nobody will miss.
func (h *house) tidy(ctx context.Context, at time.Time) error {
	if _, err := h.db.Pool.Exec(ctx, `delete from phone_bindings where expires_at < @expired`, pgx.StrictNamedArgs{"expired": at.Add(-expiredKept)}); err != nil {
		return fmt.Errorf("delete expired registrations: %w", err)
	}
	if _, err := h.db.Pool.Exec(ctx, `
		delete from nodes n where seen_at < @old and not exists (select from contacts c where c.node = n.id and c.ending is null)`,
		pgx.StrictNamedArgs{"old": at.Add(-nodesKept)}); err != nil {
		return fmt.Errorf("delete old nodes: %w", err)
	}
	return h.traces.Tidy(ctx, at.Add(-time.Duration(h.traceDays)*24*time.Hour))
}

// fence ends calls of ours that the leader has ended while we were silent: their
// operators are free for others. It looks whenever a node was given up.
func (h *house) fence(ctx context.Context) error {
	woken := h.db.Wakeups.Subscribe(queue.TopicNodes)
	defer woken.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-woken.C():
		}
		for {
			live := h.desk.Live()
			if len(live) == 0 {
				break
			}
			ended, err := h.book.Ended(ctx, live)
			if err == nil {
				h.desk.GiveUp(ended)
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(fenceAgain):
			}
		}
	}
}
