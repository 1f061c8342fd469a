package web

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	ringEvents = 4096    // what a page that was away for a minute may have missed at 60 events/s
	ringBytes  = 8 << 20 // and no more memory than this
	maxSockets = 2000    // on this node
	maxPages   = 20      // of one person: more is a page that reconnects in a loop

	// restAfter is how long the journal is followed for pages that have gone: one whose
	// line was cut is back by then, and resumes.
	restAfter = 10 * time.Second
)

// event is one change as pages are told of it. It is encoded once.
type event struct {
	seq  uint64 // global, from 1, in the order of the journal
	to   int64  // the one user who is told; 0: everybody
	kind string
	data []byte // JSON
}

// message is the event as one connection gets it: prev is the last seq that
// was sent there, so the page sees a gap.
func (e *event) message(prev uint64) []byte {
	b := make([]byte, 0, len(e.data)+len(e.kind)+80)
	b = append(b, `{"type":"event","seq":`...)
	b = strconv.AppendUint(b, e.seq, 10)
	b = append(b, `,"prev":`...)
	b = strconv.AppendUint(b, prev, 10)
	b = append(b, `,"kind":`...)
	b = strconv.AppendQuote(b, e.kind)
	b = append(b, `,"data":`...)
	b = append(b, e.data...)
	return append(b, '}')
}

// hub gives events their seq and hands them to the open pages. Its epoch names
// one life of the journal's reader: a seq means something only within it.
type hub struct {
	mu      sync.Mutex // guards all below; taken before a socket's own
	epoch   string
	running bool
	begun   chan struct{} // closed while the reader stands in the journal: what is committed from then on is told
	came    chan struct{} // readable when a page has come
	left    time.Time     // when the last page has gone
	away    bool          // the journal cannot be read: the database is away
	seq     uint64
	ring    []*event // the latest, oldest first
	size    int      // bytes of data in ring
	sockets map[*socket]struct{}
	perUser map[int64]int
	ended   sync.WaitGroup // the sockets' goroutines
}

func newHub() *hub {
	return &hub{sockets: map[*socket]struct{}{}, perUser: map[int64]int{}, begun: make(chan struct{}), came: make(chan struct{}, 1)}
}

// start begins the life; there is one for each Server.
func (h *hub) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.epoch, h.running, h.seq, h.ring, h.size = uuid.NewString(), true, 0, nil, 0
}

// follows notes that the reader stands in the journal. A snapshot taken before
// that might lack what is never told.
func (h *hub) follows() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.begun)
}

// followed is closed once the reader stands in the journal. While a page is open it
// stays there.
func (h *hub) followed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

// visited waits for a page to be open; false when ctx has ended.
func (h *hub) visited(ctx context.Context) bool {
	for ctx.Err() == nil {
		if !h.empty() {
			return true
		}
		select {
		case <-h.came:
		case <-ctx.Done():
		}
	}
	return false
}

// rest says that the reader may leave the journal: nobody has looked for a while.
// From then on snapshots wait for it, and nobody resumes across it.
func (h *hub) rest(at time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sockets) > 0 || at.Sub(h.left) < restAfter {
		return false
	}
	h.begun = make(chan struct{})
	h.seq++
	h.ring, h.size = nil, 0
	return true
}

// stop cuts every socket and waits for their goroutines.
func (h *hub) stop() {
	h.mu.Lock()
	h.running = false
	for s := range h.sockets {
		s.cut(closeStopping)
	}
	h.mu.Unlock()
	h.ended.Wait()
}

// enter counts a socket in; false when there are too many or nothing feeds them.
func (h *hub) enter(s *socket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running || len(h.sockets) >= maxSockets || h.perUser[s.user.ID] >= maxPages {
		return false
	}
	h.sockets[s] = struct{}{}
	h.perUser[s.user.ID]++
	h.ended.Add(1)
	select {
	case h.came <- struct{}{}:
	default: // it will look already
	}
	return true
}

func (h *hub) leave(s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets, s)
	h.left = time.Now()
	if h.perUser[s.user.ID]--; h.perUser[s.user.ID] <= 0 {
		delete(h.perUser, s.user.ID)
	}
	h.ended.Done()
}

func (h *hub) pages(user int64) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.perUser[user]
}

// empty says that no page is open on this node.
func (h *hub) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sockets) == 0
}

// list is the sockets of this instant.
func (h *hub) list() []*socket {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*socket, 0, len(h.sockets))
	for s := range h.sockets {
		all = append(all, s)
	}
	return all
}

// cutSession closes the pages of a session that has ended.
func (h *hub) cutSession(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.sockets {
		if s.session == token {
			s.cut(closeSignedOut)
		}
	}
}

// cutUser closes a person's pages: they sign in anew.
func (h *hub) cutUser(user int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.sockets {
		if s.user.ID == user && s.session != "" {
			s.cut(closeSignedOut)
		}
	}
}

// publish gives an event its seq and hands it to those it is for. It never
// waits for a page.
func (h *hub) publish(to int64, kind string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	e := &event{seq: h.seq, to: to, kind: kind, data: data}
	h.ring = append(h.ring, e)
	h.size += len(data)
	old := 0
	for len(h.ring)-old > ringEvents || (h.size > ringBytes && len(h.ring)-old > 1) {
		h.size -= len(h.ring[old].data)
		old++
	}
	h.ring = slices.Delete(h.ring, 0, old)
	for s := range h.sockets {
		if to == 0 || to == s.user.ID {
			s.offer(e)
		}
	}
	return nil
}

// lose notes that something could not be told: every page finds a gap with the
// next event and asks for a snapshot, and nobody resumes across it.
func (h *hub) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	h.ring, h.size = nil, 0
	for s := range h.sockets {
		s.skipTo(h.seq)
	}
}

// setAway notes whether the journal can be read; pages hear it with the tick.
func (h *hub) setAway(away bool) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed = h.away != away
	h.away = away
	return changed
}

func (h *hub) isAway() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.away
}

// resume lets a page go on after seq of an epoch: it is sent what it missed,
// then what comes. false when that is no longer known here.
func (h *hub) resume(s *socket, epoch string, seq uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.seq + 1 // the first seq that the ring still has
	if len(h.ring) > 0 {
		oldest = h.ring[0].seq
	}
	if epoch == "" || epoch != h.epoch || seq > h.seq || seq+1 < oldest {
		return false
	}
	var missed []*event
	for _, e := range h.ring {
		if e.seq > seq && (e.to == 0 || e.to == s.user.ID) {
			missed = append(missed, e)
		}
	}
	s.resumeWith(h.epoch, seq, missed)
	return true
}

// mark is where a snapshot begins: the socket keeps what comes after it until
// the snapshot is there.
func (h *hub) mark(s *socket) (epoch string, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.hold()
	return h.epoch, h.seq
}
