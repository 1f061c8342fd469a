package db

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	listenRetry = time.Second      // between two attempts to listen again
	keepalive   = 30 * time.Second // a listening connection says nothing by itself: it is asked this often
	askLongest  = 5 * time.Second  // for the answer
	selfRunes   = 12               // enough that two processes never share it
)

// Wakeups tells those who wait in this process to look again.
type Wakeups struct {
	mu   sync.Mutex // guards subs, last and n
	subs map[string]map[*Subscription]struct{}
	last [keptWakeups]string // topics, the n-th at n modulo their number
	n    Mark                // of the next

	// untold is how often other nodes are still to be told to look at everything:
	// toldOften as long as there are none, whom nothing is told.
	untold atomic.Int32
}

// What a node hears that has just come: whatever happened before, look again. It is
// told more than once: of a transaction that was about to commit the first time it
// would hear nothing.
const (
	everything = "*"
	toldOften  = 2
)

func newWakeups() *Wakeups { return &Wakeups{subs: map[string]map[*Subscription]struct{}{}, n: 1} }

func newSelf() string { return rand.Text()[:selfRunes] }

// Subscription is somebody who waits. Wake-ups that come before the last one was
// taken are one.
type Subscription struct {
	w      *Wakeups
	topics []string
	c      chan struct{}
}

// C is readable once after each wake-up, or several together.
func (s *Subscription) C() <-chan struct{} { return s.c }

// Close ends the subscription; a second Close does nothing.
func (s *Subscription) Close() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, topic := range s.topics {
		delete(s.w.subs[topic], s)
		if len(s.w.subs[topic]) == 0 {
			delete(s.w.subs, topic)
		}
	}
}

// Subscribe listens for topics. Subscribe first and look afterwards: a change
// between the two then wakes, and is not missed.
func (w *Wakeups) Subscribe(topics ...string) *Subscription {
	s := &Subscription{w: w, topics: distinct(topics), c: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, topic := range s.topics {
		if w.subs[topic] == nil {
			w.subs[topic] = map[*Subscription]struct{}{}
		}
		w.subs[topic][s] = struct{}{}
	}
	return s
}

// Wake wakes the subscribers of topics in this process. It never blocks.
func (w *Wakeups) Wake(topics ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, topic := range topics {
		w.last[w.n%keptWakeups] = topic
		w.n++
		for s := range w.subs[topic] {
			s.wake()
		}
	}
}

// keptWakeups are so many topics as some thirty commits wake: a busy desk's tenth of a
// second.
const keptWakeups = 256

// Mark is an instant among the wake-ups of this process; zero is none.
type Mark uint64

// Mark is now.
func (w *Wakeups) Mark() Mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// Quiet tells whether a topic is certain not to have been woken since an instant: one
// that is longer ago than what is kept is not. Who read before they subscribed need not
// look again if it was quiet since before they read.
func (w *Wakeups) Quiet(topic string, since Mark) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if since == 0 || w.n-since > keptWakeups {
		return false
	}
	for ; since < w.n; since++ {
		if w.last[since%keptWakeups] == topic {
			return false
		}
	}
	return true
}

// wakeAll makes everybody look again, after news may have been missed.
func (w *Wakeups) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n += keptWakeups + 1 // nothing was quiet
	for _, subs := range w.subs {
		for s := range subs {
			s.wake()
		}
	}
}

func (s *Subscription) wake() {
	select {
	case s.c <- struct{}{}:
	default: // one is waiting already: looking once is enough
	}
}

// Alone says whether this node is the only one that there is: then nobody is notified,
// which costs each commit its turn in PostgreSQL's one queue, and ourselves the reading
// of what we have said. It is to be said with every beat: a node that has come since the
// last one is told to look at everything. Who never says it notifies.
func (d *DB) Alone(ctx context.Context, alone bool) error {
	if alone {
		d.Wakeups.untold.Store(toldOften)
		return nil
	}
	left := d.Wakeups.untold.Load()
	if left == 0 {
		return nil
	}
	d.Wakeups.untold.Store(left - 1) // first: from now on each transaction notifies
	if _, err := d.Pool.Exec(ctx, notifySQL, d.self+" "+everything); err != nil {
		d.Wakeups.untold.Store(1) // again with the next beat
		return fmt.Errorf("tell the other nodes: %w", err)
	}
	return nil
}

// distinct keeps the first of each topic, in order.
func distinct(topics []string) []string {
	if len(topics) < 2 {
		return topics
	}
	seen := make(map[string]bool, len(topics))
	var out []string
	for _, topic := range topics {
		if !seen[topic] {
			seen[topic] = true
			out = append(out, topic)
		}
	}
	return out
}

// Listen brings the wake-ups of the other nodes into this process, until ctx
// ends (then it returns nil). While it has no connection news may be missed, so
// everybody is woken whenever it has one again.
func (d *DB) Listen(ctx context.Context) error {
	away := false
	for ctx.Err() == nil {
		err := d.listenOnce(ctx, func() { away = false })
		if ctx.Err() != nil {
			return nil
		}
		if !away { // one line for each absence
			d.log.Warn("listening to the database was interrupted", "err", err)
			away = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenRetry):
		}
	}
	return nil
}

// listenOnce has a connection of its own, beside the pool, so that a full pool
// cannot keep it out.
func (d *DB) listenOnce(ctx context.Context, connected func()) error {
	conn, err := pgx.ConnectConfig(ctx, d.Pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askLongest)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	if _, err := conn.Exec(ctx, `listen pronto`); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	connected()
	d.Wakeups.wakeAll()
	for {
		waitCtx, cancel := context.WithTimeout(ctx, keepalive)
		n, err := conn.WaitForNotification(waitCtx)
		idle := waitCtx.Err() != nil
		cancel()
		switch {
		case err == nil:
			from, topics, ok := strings.Cut(n.Payload, " ")
			switch {
			case !ok || from == d.self:
			case topics == everything:
				d.Wakeups.wakeAll()
			default:
				d.Wakeups.Wake(strings.Split(topics, " ")...)
			}
		case ctx.Err() != nil:
			return nil
		case idle && !conn.IsClosed():
			askCtx, cancel := context.WithTimeout(ctx, askLongest)
			err := conn.Ping(askCtx)
			cancel()
			if err != nil {
				return fmt.Errorf("ask the listening connection: %w", err)
			}
		default:
			return fmt.Errorf("wait for a notification: %w", err)
		}
	}
}
