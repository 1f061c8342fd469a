package web

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	readLines   = 200             // journal lines at once
	readWork    = 5 * time.Second // for one look at the journal, and for one value
	readSafety  = 2 * time.Second // between two looks when nobody wakes us
	ringsEvery  = time.Second / 2 // telephones that came or went are looked for at most so often, and each readSafety when nothing else happens
	readRetry   = time.Second     // while the database is away
	heldFirst   = 2 * time.Millisecond
	heldLongest = 50 * time.Millisecond
)

// Run is the one reader of the journal on this node: it tells the open pages
// what happened, in the order of commits, until ctx ends. Then it cuts the
// sockets and waits for their goroutines. It returns nil when ctx ended it.
func (s *Server) Run(ctx context.Context) error {
	s.hub.start()
	defer s.hub.stop()
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { s.follow(ctx); return nil })
	parts.Go(func() error { s.tidy(ctx); return nil })
	return parts.Wait()
}

// tidy looks after sessions: those of open sockets every minute, expired rows
// every hour.
func (s *Server) tidy(ctx context.Context) {
	look, sweep := time.NewTicker(recheckEvery), time.NewTicker(sessionSweep)
	defer look.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			s.recheck(ctx, 0)
		case <-sweep.C:
			work, cancel := context.WithTimeout(ctx, readWork)
			if err := s.kept.sweep(work); err != nil && ctx.Err() == nil && !db.Away(err) {
				s.Log.Error("expired sessions could not be deleted", "err", err)
			}
			cancel()
		}
	}
}

// follow reads the journal while there are pages to tell. A desk whose operators have
// only their telephones, or sit at another node, need not read every line it writes.
func (s *Server) follow(ctx context.Context) {
	for s.hub.visited(ctx) {
		s.followPages(ctx)
	}
}

// followPages reads the journal from its present end, until nobody has looked for a
// while. Subscribed first: a line that is written between the two is read. Between two
// steps of what can wait it looks at the journal again: a pop stands behind one list,
// never behind all of them.
func (s *Server) followPages(ctx context.Context) {
	wakes := s.DB.Wakeups.Subscribe("journal")
	defer wakes.Close()
	teller := &teller{s: s, clear: map[int64]bool{}, rings: map[int64]ringing{}}
	var cursor journal.Cursor
	begun := false
	var rehearsed time.Time
	held := heldFirst
	for ctx.Err() == nil && !s.hub.rest(time.Now()) {
		var told, waits bool
		err := s.look(ctx, func(ctx context.Context) (err error) {
			if !begun {
				s.rehearse(ctx)
				rehearsed = s.Now()
				if cursor, err = journal.End(ctx, s.own.Pool); err != nil {
					return err
				}
				s.recheck(ctx, 0) // whose session ended before that
				return teller.learnRings(ctx)
			}
			if err = teller.tellRings(ctx); err != nil {
				return err
			}
			lines, next, behind, err := journal.Look(ctx, s.own.Pool, cursor, readLines)
			if err != nil {
				return err
			}
			if len(lines) > 0 {
				if err = teller.tell(ctx, lines); err != nil {
					return err
				}
				cursor = next
				if told = len(lines) == readLines || teller.owes(); told {
					return nil
				}
			} else if told, err = teller.tellOwed(ctx); told || err != nil {
				return err
			}
			if now := s.Now(); now.Sub(rehearsed).Abs() >= readSafety {
				s.rehearse(ctx)
				rehearsed = now
			}
			if waits = behind; waits {
				err = s.waitHeld(ctx, held)
			}
			return err
		})
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return
			}
			if s.hub.setAway(true) {
				s.Log.Warn("the journal cannot be read: pages wait", "err", err)
			}
			pause(ctx, readRetry, nil)
			continue
		case !begun:
			begun = true
			s.hub.follows()
			s.hub.setAway(false)
			continue
		}
		if s.hub.setAway(false) {
			s.Log.Info("the journal can be read again")
		}
		switch {
		case told:
			held = heldFirst
		case waits:
			held = min(2*held, heldLongest)
		default:
			held = heldFirst
			pause(ctx, readSafety, wakes.C())
		}
	}
}

// rehearse asks, about nobody, all that a pop asks. A connection that has never
// seen these tables and statements needs 20 ms more for its first, and the same
// again when PostgreSQL has looked through a table anew (ANALYZE): a caller should
// not pay that. What comes of it does not matter.
func (s *Server) rehearse(ctx context.Context) {
	now := s.Now()
	_, _ = s.Queue.SeatThrough(ctx, s.own, 0)
	_, _ = s.pops.ContactAlone(ctx, uuid.Nil)
	_, _ = s.pops.CallbackOf(ctx, uuid.Nil, now)
	_, _ = s.pops.MatchOf(ctx, "")
	_, _ = s.pops.TicketByID(ctx, 0)
	_, _ = s.pops.OpenTicketsOf(ctx, tickets.Asker{}, popTickets)
	_, _ = s.pops.CallsToday(ctx, "", now)
}

func (s *Server) look(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readWork)
	defer cancel()
	return fn(ctx)
}

// waitHeld waits for a transaction that holds lines back. It waits in the
// database: that transaction ends in the database's time, which a test's own
// clock must not run ahead of.
func (s *Server) waitHeld(ctx context.Context, d time.Duration) error {
	_, err := s.DB.Pool.Exec(ctx, `select pg_sleep($1)`, d.Seconds())
	return err
}

func pause(ctx context.Context, longest time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}

// teller turns journal lines into what pages are told. A line says only that
// something changed; what is told is how it stands now, so a line told twice is
// harmless, and of several changes between two looks the last is told.
type teller struct {
	s     *Server
	clear map[int64]bool // operators whose pages have been told that nobody is calling
	rings map[int64]ringing
	owed  []owed

	ringsAt time.Time     // when telephones were looked at last
	waits   []waitingView // who waits, as pages were last told
	waitsAt time.Time
}

// owed is something that pages are still to be told, and that can wait until the
// seats have been told.
type owed struct {
	what string // told once, however often it has changed
	tell func(ctx context.Context) error
}

func (t *teller) owe(what string, tell func(ctx context.Context) error) {
	if !slices.ContainsFunc(t.owed, func(o owed) bool { return o.what == what }) {
		t.owed = append(t.owed, owed{what, tell})
	}
}

// owes says whether there is something that tellOwed would tell.
func (t *teller) owes() bool { return len(t.owed) > 0 }

// tellOwed tells the first of what is owed; false when nothing is.
func (t *teller) tellOwed(ctx context.Context) (bool, error) {
	if len(t.waits) > 0 && t.s.Now().Sub(t.waitsAt) >= queue.OutlookFresh {
		t.owe("forecasts", t.tellForecasts)
	}
	if len(t.owed) == 0 {
		return false, nil
	}
	first := t.owed[0]
	if err := t.attempt(ctx, func() error { return first.tell(ctx) }); err != nil {
		return true, err
	}
	t.owed = t.owed[1:]
	return true, nil
}

// ringing is what pages were last told of a seat's telephone. Telephones come and
// go without a journal line: sip knows them, the database does not.
type ringing struct {
	extension string
	can       bool
	why       string
}

func (t *teller) ringing(user int64, extension string) ringing {
	can, why := t.s.CanRing(user, extension)
	return ringing{extension, can, why}
}

// learnRings takes what the first snapshots show as told.
func (t *teller) learnRings(ctx context.Context) error {
	seats, err := t.s.Queue.Seats(ctx)
	for _, seat := range seats {
		t.rings[seat.User] = t.ringing(seat.User, seat.Extension)
	}
	return err
}

// tellRings tells the seats whose telephone came or went. Under load the journal is
// looked at a hundred times a second, and each time that would be all seats.
func (t *teller) tellRings(ctx context.Context) error {
	if time.Since(t.ringsAt) < ringsEvery {
		return nil
	}
	t.ringsAt = time.Now()
	for user, told := range t.rings {
		if t.ringing(user, told.extension) == told {
			continue
		}
		if err := t.attempt(ctx, func() error { return t.tellSeat(ctx, user, false, false) }); err != nil {
			return err
		}
	}
	return nil
}

// news is what a stretch of the journal touches, in the order it was touched.
type news struct {
	seats    []int64
	offered  map[int64]bool
	talking  map[int64]bool
	tickets  []int64
	ended    []endedView
	waiting  bool
	messages bool
	ringback bool
	painted  []uuid.UUID
	taping   []uuid.UUID // contacts: of what is said something else is kept than before

	signedOut []int64 // whose sessions are over
	emergency bool
	services  bool
}

// endedView is the data of "call.ended".
type endedView struct {
	ContactID uuid.UUID      `json:"contact_id"`
	Ending    tickets.Ending `json:"ending"`
}

func gather(lines []journal.Entry) news {
	n := news{offered: map[int64]bool{}, talking: map[int64]bool{}}
	seat, ticket, tape := once[int64]{}, once[int64]{}, once[uuid.UUID]{}
	for _, l := range lines {
		onSeat := strings.HasPrefix(l.Stream, "seat:")
		onTicket := strings.HasPrefix(l.Stream, "ticket:")
		switch l.Kind {
		case journal.SignedIn, journal.SignedOut, signInFailed, resetMade, tokenMade, tokenRevoked, journal.Played:
			continue // no screen shows it
		case passwordChanged, sessionsEnded:
			n.signedOut, onSeat = append(n.signedOut, l.User), false
		case userDeactivated:
			n.signedOut = append(n.signedOut, l.User)
		case journal.Offered:
			n.offered[l.User], n.waiting, onSeat = true, true, true
		case journal.Talking:
			n.talking[l.User], n.waiting, onSeat = true, true, true
		case journal.Accepted:
			n.talking[l.User], n.waiting, onSeat = true, true, true
		case journal.Declined, journal.TimedOut, journal.Withdrawn, journal.Missed:
			n.waiting, onSeat = true, true
		case journal.Released, journal.Wrapped, journal.Extended, journal.Declared, journal.OnHold, journal.Resumed, journal.Asked, journal.Consulted, journal.Conferred,
			journal.SupervisionAsked, journal.SupervisionBegan, journal.SupervisionChanged, journal.SupervisionEnded:
			onSeat = true
		case journal.Given, journal.Returned:
			n.waiting, onSeat = true, true
		case journal.Joined: // the talk is theirs from now on
			n.talking[l.User], n.waiting, onSeat = true, true, true
		case journal.Painted:
			onSeat = false // the seat stands as it stood
			if id, err := uuid.Parse(text(l.Data["offer"])); err == nil {
				n.painted = append(n.painted, id)
			}
		case journal.Waiting, journal.Left, journal.Classified:
			n.waiting = true
		case journal.Taping, journal.Gap, journal.GapEnd:
			if l.Contact.Valid {
				n.taping = tape.add(n.taping, l.Contact.UUID)
			}
		case journal.Opened, journal.Noted, journal.Edited, journal.Closed, journal.Reopened:
			onTicket = true
		case journal.Taken:
			onTicket, n.messages = true, true
		case journal.Recorded, journal.Heard:
			n.messages = true
		case journal.RingBack, journal.RungBack:
			n.ringback = true
		case journal.Booked, journal.Cancelled:
			n.ringback, n.waiting = true, true
		case journal.Attempted: // its operator's page says what came of it
			n.ringback, n.waiting = true, true
			n.talking[l.User], onSeat = true, true
		case journal.Ended:
			n.ringback = true
			if l.Ticket != 0 { // without one nobody waits, and nobody leaves a message
				n.waiting, n.messages = true, true
			}
			if l.Contact.Valid {
				n.ended = append(n.ended, endedView{l.Contact.UUID, tickets.Ending(text(l.Data["ending"]))})
			}
		case journal.Recovered:
			n.waiting, n.messages, n.ringback = true, true, true
		case journal.EmergencyBegan, journal.EmergencyEnded:
			n.emergency = true
		case journal.Published, journal.Discarded, journal.Routed:
			n.services = true
		}
		if onSeat && l.User != 0 {
			n.seats = seat.add(n.seats, l.User)
		}
		if onTicket && l.Ticket != 0 {
			n.tickets = ticket.add(n.tickets, l.Ticket)
		}
	}
	return n
}

// once keeps the first of each.
type once[T comparable] map[T]struct{}

func (o once[T]) add(to []T, v T) []T {
	if _, seen := o[v]; seen {
		return to
	}
	o[v] = struct{}{}
	return append(to, v)
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// tell tells the pages how the seats stand, for somebody's telephone is about to
// ring, and notes what else they are to be told. Its error is only that the
// database is away: then the same lines are told again.
func (t *teller) tell(ctx context.Context, lines []journal.Entry) error {
	n := gather(lines)
	for _, id := range n.painted {
		t.s.painted.note(id)
	}
	for _, user := range n.signedOut { // wherever they are: this node may not be the one that was asked
		t.s.recheck(ctx, user)
	}
	for _, user := range n.seats {
		if err := t.attempt(ctx, func() error { return t.tellSeat(ctx, user, n.offered[user], n.talking[user]) }); err != nil {
			return err
		}
	}
	if n.waiting {
		t.owe("waiting", t.tellWaiting)
	}
	for _, id := range n.tickets {
		t.owe(fmt.Sprint("ticket ", id), func(ctx context.Context) error { return t.tellTicket(ctx, id) })
	}
	for _, e := range n.ended {
		t.owe(fmt.Sprint("ended ", e.ContactID), func(context.Context) error { return t.s.hub.publish(0, "call.ended", e) })
	}
	for _, contact := range n.taping {
		t.owe(fmt.Sprint("taping ", contact), func(context.Context) error {
			return t.s.hub.publish(0, "taping", map[string]uuid.UUID{"contact_id": contact})
		})
	}
	if n.messages {
		t.owe("messages", t.tellMessages)
	}
	if n.ringback {
		t.owe("ringbacks", t.tellRingBacks)
	}
	if n.emergency {
		t.owe("emergency", t.tellEmergency)
	}
	if n.services {
		t.owe("services", func(context.Context) error { return t.s.hub.publish(0, "services", struct{}{}) })
	}
	return nil
}

// attempt tells one thing. What fails for another reason than the database's
// absence would fail again: it is left out, and every page takes a snapshot.
func (t *teller) attempt(ctx context.Context, step func() error) error {
	err := step()
	if err == nil || db.Away(err) || ctx.Err() != nil {
		return err
	}
	t.s.Log.Error("pages could not be told what happened", "err", err)
	t.s.hub.lose()
	return nil
}

// tellSeat tells everybody how a seat stands, and its operator who is calling. Of
// somebody who was let go and is idle it tells that, too: pages drop them.
func (t *teller) tellSeat(ctx context.Context, user int64, offered, talking bool) error {
	seat, err := t.s.Queue.SeatThrough(ctx, t.s.own, user)
	if errors.Is(err, queue.ErrNoSeat) {
		delete(t.rings, user)
		return nil // nobody's any more
	}
	if err != nil {
		return err
	}
	if seat.Version == 0 && seat.Extension == "" {
		return nil // a person without a telephone, who never sat at work
	}
	t.rings[user] = t.ringing(user, seat.Extension)
	if !seat.Active {
		delete(t.rings, user) // their telephone comes and goes without them
	}
	if err := t.s.hub.publish(0, "seat", t.s.seatView(seat)); err != nil {
		return err
	}
	if seat.Doing != queue.Idle {
		t.clear[user] = false
	}
	kind := ""
	switch {
	case seat.Doing == queue.Offered && offered:
		kind = "call.offered"
	case seat.Doing == queue.Talking && talking:
		kind = "call.talking"
	case seat.Doing == queue.Idle && t.clear[user]:
		return nil
	case seat.Doing == queue.Idle:
		t.clear[user] = true
		return t.s.hub.publish(user, "pop.cleared", struct{}{})
	default:
		return nil
	}
	pop, err := t.s.pop(ctx, seat)
	if err != nil || pop == nil {
		return err
	}
	return t.s.hub.publish(user, kind, pop)
}

func (t *teller) tellWaiting(ctx context.Context) error {
	list, err := t.s.waiting(ctx)
	if err != nil {
		return err
	}
	t.waits, t.waitsAt = list, t.s.Now()
	return t.s.hub.publish(0, "waiting", items(list))
}

// tellForecasts tells again what those who wait can expect, when it has changed:
// it does with time, without a journal line. (What a line has changed is always
// told: a page may have opened in between.)
func (t *teller) tellForecasts(ctx context.Context) error {
	list, err := t.s.waiting(ctx)
	if err != nil {
		return err
	}
	told := t.waits
	t.waits, t.waitsAt = list, t.s.Now()
	if reflect.DeepEqual(list, told) {
		return nil
	}
	return t.s.hub.publish(0, "waiting", items(list))
}

func (t *teller) tellTicket(ctx context.Context, id int64) error {
	ticket, err := t.s.Book.TicketByID(ctx, id)
	if errors.Is(err, tickets.ErrNotFound) {
		return nil // erased since
	}
	if err != nil {
		return err
	}
	return t.s.hub.publish(0, "ticket", ticket)
}

func (t *teller) tellMessages(ctx context.Context) error {
	count, err := t.s.messagesNew(ctx)
	if err != nil {
		return err
	}
	return t.s.hub.publish(0, "messages", map[string]int{"new": count})
}

func (t *teller) tellRingBacks(ctx context.Context) error {
	count, err := t.s.Book.RingBacksDue(ctx)
	if err != nil {
		return err
	}
	open, err := t.s.Book.CallbacksOpen(ctx)
	if err != nil {
		return err
	}
	return t.s.hub.publish(0, "ringbacks", map[string]int{"due": count, "callbacks": open})
}

func (t *teller) tellEmergency(ctx context.Context) error {
	e, err := t.s.Book.EmergencyNow(ctx, t.s.Now())
	if err != nil {
		return err
	}
	return t.s.hub.publish(0, "emergency", viewOfEmergency(e))
}

// painted knows which offers' pops pages have painted.
type painted struct {
	mu     sync.Mutex // guards offers
	offers map[uuid.UUID]*paint
}

type paint struct {
	done    chan struct{}
	closed  bool
	waiters int
	at      time.Time
}

// paintKept is how long a painted pop is remembered for somebody who asks late:
// longer than any offer rings.
const paintKept = time.Minute

func newPainted() *painted { return &painted{offers: map[uuid.UUID]*paint{}} }

// get is called with mu held.
func (p *painted) get(offer uuid.UUID) *paint {
	found := p.offers[offer]
	if found == nil {
		found = &paint{done: make(chan struct{}), at: time.Now()}
		p.offers[offer] = found
	}
	return found
}

func (p *painted) wait(ctx context.Context, offer uuid.UUID) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.get(offer)
	if found.closed {
		return found.done
	}
	found.waiters++
	context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if found.waiters--; found.waiters == 0 && !found.closed && p.offers[offer] == found {
			delete(p.offers, offer)
		}
	})
	return found.done
}

func (p *painted) note(offer uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	for id, old := range p.offers {
		if old.closed && at.Sub(old.at) > paintKept {
			delete(p.offers, id)
		}
	}
	if found := p.get(offer); !found.closed {
		found.closed, found.at = true, at
		close(found.done)
	}
}

// notePainted takes a page's word that it shows the pop of an offer, when the
// offer is that operator's.
func (s *Server) notePainted(ctx context.Context, u User, offer uuid.UUID) error {
	o, err := s.Queue.Offer(ctx, offer)
	if err != nil {
		return err
	}
	if o.Operator != u.ID {
		return errNotFound
	}
	s.painted.note(offer) // before the row: the telephone waits for it
	return s.Queue.Painted(ctx, offer, s.Now())
}
