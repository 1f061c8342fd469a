package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
)

// Node is one server on the database, as it tells the others.
type Node struct {
	ID   string
	SIP  string // ip:port of its user agent; "": it has not said yet
	HTTP string // ip:port where it answers other nodes
	Pin  string // hex SHA-256 of the certificate that it shows there

	StartedAt time.Time
	SeenAt    time.Time  // its last beat, by its own clock
	LostAt    *time.Time // the leader gave it up, or it departed, and has not beaten since
}

// nodes is what this node knows of all of them. Who lives is told by a beat that
// changes, as we see it change: two machines' clocks need not agree. While we
// cannot look ourselves, everybody stays as they were.
type nodes struct {
	mu     sync.Mutex // guards what follows
	self   Node       // as we announce ourselves
	looked time.Time  // the last look that succeeded
	steady time.Time  // since when looks have not stumbled
	known  map[string]sight
}

// sight is a node, and since when it has not been seen to change.
type sight struct {
	Node
	since time.Time
}

// Announce tells the other nodes where they reach this one. Call it before the
// first telephone can register here.
func (q *Queue) Announce(ctx context.Context, self Node, at time.Time) error {
	q.nodes.mu.Lock()
	self.ID = q.node
	q.nodes.self = self
	q.nodes.mu.Unlock()
	if err := q.beat(ctx, at); err != nil {
		return fmt.Errorf("announce this node: %w", err)
	}
	return q.db.Tx(ctx, func(tx *db.Tx) error { tx.Wake(TopicNodes); return nil })
}

// Depart tells the other nodes that this one has ended in good order: they wait
// for nothing of it. Call it after Run; the next Announce takes it back.
func (q *Queue) Depart(ctx context.Context, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, beatLongest)
	defer cancel()
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		tx.Wake(TopicNodes)
		_, err := tx.Exec(ctx, `update nodes set lost_at = @at where id = @node`, args{"node": q.node, "at": at})
		return err
	})
	if err != nil {
		return fmt.Errorf("depart: %w", err)
	}
	return nil
}

// Name is what this node is called in rows.
func (q *Queue) Name() string { return q.node }

// Node gives a node that lives, as of the last beat.
func (q *Queue) Node(id string) (Node, bool) {
	q.nodes.mu.Lock()
	defer q.nodes.mu.Unlock()
	s, known := q.nodes.known[id]
	return s.Node, known && s.LostAt == nil && !q.nodes.silent(s)
}

// Life names the life of a node: another one when it was given up, or has begun
// anew, so that whoever waits for it no longer does. Silence alone changes
// nothing. "": there is no such node.
func (q *Queue) Life(id string) string {
	q.nodes.mu.Lock()
	defer q.nodes.mu.Unlock()
	s, known := q.nodes.known[id]
	switch {
	case !known:
		return ""
	case s.LostAt != nil:
		return "lost"
	}
	return s.StartedAt.UTC().String()
}

// Silent gives the other nodes that have fallen silent. There are none as long as
// we have just stumbled ourselves.
func (q *Queue) Silent() (list []Node) {
	q.nodes.mu.Lock()
	defer q.nodes.mu.Unlock()
	if q.nodes.looked.Sub(q.nodes.steady) < silentAfter {
		return nil
	}
	for _, s := range q.nodes.known {
		if s.ID != q.node && q.nodes.silent(s) {
			list = append(list, s.Node)
		}
	}
	return list
}

// silentNodes are the names of those whose callers and offers are nobody's.
func (q *Queue) silentNodes() []string {
	q.nodes.mu.Lock()
	defer q.nodes.mu.Unlock()
	list := []string{}
	for _, s := range q.nodes.known {
		if s.ID != q.node && q.nodes.silent(s) {
			list = append(list, s.ID)
		}
	}
	return list
}

// Nodes gives all that live, this one included, by name.
func (q *Queue) Nodes() []Node {
	q.nodes.mu.Lock()
	defer q.nodes.mu.Unlock()
	var list []Node
	for _, s := range q.nodes.known {
		if s.LostAt == nil && !q.nodes.silent(s) {
			list = append(list, s.Node)
		}
	}
	slices.SortFunc(list, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (n *nodes) silent(s sight) bool { return n.looked.Sub(s.since) >= silentAfter }

// saw takes over what a look at an instant has found.
func (n *nodes) saw(list []Node, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := make(map[string]sight, len(list))
	for _, node := range list {
		s, known := n.known[node.ID]
		if !known || !s.SeenAt.Equal(node.SeenAt) {
			s.since = at
		}
		s.Node = node
		next[node.ID] = s
	}
	if n.looked.IsZero() || at.Sub(n.looked) > stumble {
		n.steady = at
	}
	n.known, n.looked = next, at
}

// alone says whether there is no other node, as of the last look; one that has died
// counts as long as its row is there.
func (q *Queue) alone() bool {
	q.nodes.mu.Lock()
	defer q.nodes.mu.Unlock()
	_, self := q.nodes.known[q.node]
	return self && len(q.nodes.known) == 1
}

// beatNode adds to a batch that we live and where, and a look at the others.
func (q *Queue) beatNode(b *pgx.Batch, at time.Time) {
	q.nodes.mu.Lock()
	self := q.nodes.self
	q.nodes.mu.Unlock()
	b.Queue(`
		insert into nodes (id, started_at, seen_at, sip, http, pin) values (@node, @at, @at, @sip, @http, @pin)
		on conflict (id) do update set seen_at = @at, lost_at = null, sip = @sip, http = @http, pin = @pin`,
		args{"node": q.node, "at": at, "sip": self.SIP, "http": self.HTTP, "pin": self.Pin})
	b.Queue(`select id, sip, http, pin, started_at, seen_at, lost_at from nodes order by id`).Query(func(rows pgx.Rows) error {
		list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Node])
		if err == nil {
			q.nodes.saw(list, at)
		}
		return err
	})
}
