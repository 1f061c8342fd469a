package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// leadEvery is how often a node asks for the leader's lock, and the leader
	// whether its own still stands. A node killed lets go of it at once, with its
	// connection.
	leadEvery = time.Second
	// leadSilent ends a session that says nothing: a leader that is frozen, or
	// whose machine has lost its power, is no leader four seconds later. Together
	// with leadEvery somebody else is within five.
	leadSilent = 4 * time.Second
	leadAsk    = 2 * time.Second // for one answer
	leadClass  = matchClass
	leadLock   = 2 // 1 is the queue's match
)

// matchClass is the key space of our advisory locks of two integers; those of the
// journal are in the other one.
const matchClass = 0x70726f6e // "pron"

// Lead runs fn while this process is the one leader of all on this database, again
// and again until ctx ends; then it returns nil. The lock belongs to a connection
// of its own, beside the pool. fn must end when its context does; what it was
// doing just then may have a second author already, so each change says under
// which condition it holds.
func (d *DB) Lead(ctx context.Context, fn func(ctx context.Context) error) error {
	away := false
	for ctx.Err() == nil {
		err := d.leadOnce(ctx, func() { away = false }, fn)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !away { // one line for each absence
			d.log.Warn("this node cannot be the leader for now", "err", err)
			away = true
		}
		pause(ctx, leadEvery)
	}
	return nil
}

// leadOnce is one session: it asks until the lock is ours, and leads until the
// session or fn is over.
func (d *DB) leadOnce(ctx context.Context, connected func(), fn func(ctx context.Context) error) error {
	config := d.Pool.Config().ConnConfig
	config.RuntimeParams["idle_session_timeout"] = fmt.Sprint(leadSilent.Milliseconds())
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLongest)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	connected()
	for {
		var ours bool
		err := asked(ctx, func(ctx context.Context) error {
			return conn.QueryRow(ctx, `select pg_try_advisory_lock(@class, @lock)`, pgx.StrictNamedArgs{"class": leadClass, "lock": leadLock}).Scan(&ours)
		})
		if err != nil {
			return fmt.Errorf("ask for the leader's lock: %w", err)
		}
		if ours {
			break
		}
		pause(ctx, leadEvery)
	}
	d.log.Info("this node is the leader")
	leading, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- fn(leading) }()
	for err == nil && leading.Err() == nil {
		select {
		case err := <-done:
			stop()
			return err
		case <-leading.Done():
		case <-time.After(leadEvery):
			err = asked(ctx, conn.Ping)
		}
	}
	stop()
	<-done
	if err != nil {
		return fmt.Errorf("keep the leader's lock: %w", err)
	}
	return nil
}

func asked(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, leadAsk)
	defer cancel()
	return fn(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
