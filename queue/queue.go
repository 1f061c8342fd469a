// Package queue decides who waits, who is free and who gets whom: the places of
// callers, the seats of operators, the offers of one to the other, and the
// wrap-up. It knows a contact's id, topic and urgency, never its text.
//
// Everything is a row; a change and its journal lines commit together, and the
// commit wakes whoever waits for it. Several nodes may work on one database.
//
// Rows are locked in one order, so that no two transactions wait for each other:
// the seat, its offer, the place, the contact, then the journal's streams. Match
// never waits for a seat or a place: it skips what somebody is just changing and
// looks again, so that a node which stalls in the middle of a change holds up
// nobody but that one seat.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
)

const (
	// RingLongest is how long an offer rings: five rings, then the next operator.
	RingLongest = 20 * time.Second
	// MaxWrapUp is the longest wrap-up, extensions included: the longest that a
	// user's own wrap_up may be.
	MaxWrapUp = time.Hour

	refusedFor    = 60 * time.Second // after "Rifiuta" the same caller is not offered to the same operator
	rehearseEvery = 10 * time.Second // a vacuum throws plans away about once a minute on a busy day
	beatEvery     = time.Second      // a node says that it lives; one small statement
	beatLongest   = 2 * time.Second  // then the beat has failed, and is tried anew: it must not hang on a dead connection
	retryAfter    = time.Second      // after an error of the database

	// keepSoon is how long a change waits for others before deadlines are looked for
	// anew: a job is several of them. No deadline is so near when it is set.
	keepSoon = 250 * time.Millisecond

	// keepRest is how long deadlines rest after they were looked for: on a busy desk
	// wrap-ups end one after the other, and those of so short a time end together. An
	// operator who is free so much later has hardly put the handset down; an offer is
	// missed in time whatever rests here.
	keepRest = 200 * time.Millisecond
	// lookRest is how often the clocks look for somebody to match when they are woken, in
	// the round that looks for deadlines. Who waits on the line looks at once: this is for
	// who is to be rung back.
	lookRest = 250 * time.Millisecond

	// silentAfter is four and a half beats: a node that has not been seen to change
	// for so long is silent. Its callers are offered to nobody, its offers cost
	// nobody a pause, and the leader gives it up. A beat that fails for three
	// seconds and is tried again is not yet silence; and of the ten seconds in which
	// a dead node's callers have their ending, four are left for the clearing up.
	silentAfter = 4*beatEvery + beatEvery/2
	// stumble is a beat missed ourselves. Others probably missed theirs, too, and
	// have yet to say that they live.
	stumble = 2*beatEvery + beatEvery/2
	// talkLease is how long a talk outlives its node's last beat, or half of it: with
	// each beat all talks would be written anew.
	talkLease = 60 * time.Second
)

// What the methods of this package return, wrapped or as the cause of a context.
var (
	ErrTooLate     = errors.New("the offer is over")
	ErrDeclined    = errors.New("the operator declined")
	ErrTimedOut    = errors.New("the operator did not answer")
	ErrWithdrawn   = errors.New("the offer was withdrawn")
	ErrGone        = errors.New("the place is no longer in the queue")
	ErrNoSeat      = errors.New("no such operator")
	ErrNotWrapping = errors.New("the operator is not wrapping up")
	ErrState       = errors.New("not something an operator can declare")
	ErrNoNumber    = errors.New("there is no number to ring back")
	ErrBooked      = errors.New("a callback is booked already")
	ErrTalking     = errors.New("somebody is on the line with them")
	ErrSeatBusy    = errors.New("the operator is busy with a caller")
	ErrSeatOff     = errors.New("the operator is not at work")
	ErrNoLine      = errors.New("this node has no line to dial out")
	ErrNotBooked   = errors.New("no callback is booked")
	ErrNoCallback  = errors.New("no such callback")
	ErrNotTalking  = errors.New("the operator is not talking")
	ErrNotNow      = errors.New("the talk does not stand so that this can be done")
	ErrNotFree     = errors.New("the colleague is not free")
	ErrOtherwise   = errors.New("it is not as it mostly is")

	ErrSupervised     = errors.New("a supervisor takes part in the talk")
	ErrSupervises     = errors.New("the supervisor takes part in a talk")
	ErrNotSupervising = errors.New("the supervisor takes part in no talk")
)

// Topics that this package wakes. TopicMatch says that somebody may fit now who
// did not before; whoever changes skills wakes it too.
const (
	TopicQueue     = "queue" // anything: for screens
	TopicMatch     = "match"
	TopicCallbacks = "callbacks" // somebody is to be rung back: for who conducts it
	TopicNodes     = "nodes"     // one came, or was given up
)

// PlaceTopic and SeatTopic are woken by every change of theirs.
func PlaceTopic(contact uuid.UUID) string { return "place:" + contact.String() }

// SeatTopic names the wake-ups of an operator's seat.
func SeatTopic(user int64) string { return "seat:" + itoa(user) }

// OfferTopic names the wake-ups of an offer: when it comes to nothing, and when something
// is asked of the talk that it led to.
func OfferTopic(offer uuid.UUID) string { return "offer:" + offer.String() }

// Queue is the one queue of the desk, as seen from one node.
type Queue struct {
	db    *db.DB
	own   *db.DB // for matches, which stand between a caller and a screen
	clock *db.DB // for deadlines, which are looked for at the same moments
	node  string
	log   *slog.Logger

	few   int         // seats that a match reads first
	dials atomic.Bool // this node can dial out: it may offer callbacks

	nodes nodes

	// One match at a time in this process, for all who asked before it began.
	turn  chan struct{} // holds the turn; guards begun, last, made and runs
	asked atomic.Uint64 // how many looks were asked for
	begun uint64        // the last match covers all looks up to this one
	last  error         // and ended so
	made  []*Offer      // and made these
	runs  uint64        // how many matches that took

	outlook outlook // what callers were told last
}

// New makes the queue of a node. The node's name must stay the same across
// restarts: Recover finds by it what a crash has left. A nil log is the default.
func New(d *db.DB, node string, log *slog.Logger) *Queue {
	if log == nil {
		log = slog.Default()
	}
	return &Queue{db: d, own: d.Own(), clock: d.Own(), node: node, log: log, few: fewSeats, turn: make(chan struct{}, 1)}
}

// look runs Match, unless one that began after this call has done it already: a
// hundred callers who are woken at once need one match, not a hundred. waits says that
// somebody is known to wait: who asks. It returns the offers that this match made; there may be
// others, of another node's or of one since, and these may be over by now.
func (q *Queue) look(ctx context.Context, waits bool) ([]*Offer, error) {
	want := q.asked.Add(1)
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if q.begun < want {
		q.begun = q.asked.Load()
		q.runs++
		// The match is everybody's: the hang-up of one caller does not break it off.
		q.made, q.last = q.matchWaiting(context.WithoutCancel(ctx), waits)
	}
	return q.made, q.last
}

// waitsSQL asks whether anybody waits.
const waitsSQL = `select exists (select from places where state = 'waiting')`

// matchWaiting matches if anybody waits. Most of what calls for a match (somebody
// begins to talk, has wrapped up, comes to work) finds nobody, and a match reads and
// locks every free seat.
func (q *Queue) matchWaiting(ctx context.Context, waits bool) ([]*Offer, error) {
	if !waits {
		asked, cancel := context.WithTimeout(ctx, beatLongest)
		defer cancel()
		if err := q.own.Pool.QueryRow(asked, waitsSQL).Scan(&waits); err != nil {
			return nil, fmt.Errorf("match: %w", err)
		}
	}
	if !waits {
		return nil, nil
	}
	return q.Match(ctx, time.Now())
}
