package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

const (
	// CallbackTries is how often somebody is rung back before a person decides
	// how to go on: the third time nobody lifts, a fourth would be a nuisance.
	CallbackTries = 3
	// CallbackAgain is how long after an attempt the next one is made: a visit
	// to a patient is over then.
	CallbackAgain = 15 * time.Minute
)

// Origin is where a callback comes from.
type Origin string

// The origins of callbacks.
const (
	FromQueue   Origin = "queue"   // the caller asked for it while waiting
	FromLost    Origin = "lost"    // a call to ring back
	FromMessage Origin = "message" // a message in the voicemail
	FromTicket  Origin = "ticket"
	FromFault   Origin = "fault" // the caller was cut off by a fault of ours: their node died
)

// Outcome is what came of one attempt to ring somebody back.
type Outcome string

// The outcomes of an attempt.
const (
	Reached      Outcome = "reached"
	NoAnswer     Outcome = "no_answer"
	Engaged      Outcome = "busy"
	Rejected     Outcome = "refused"       // the customer, or their network, said no
	WrongNumber  Outcome = "wrong_number"  // nobody has this number: trying again would not help
	NotAllowed   Outcome = "not_allowed"   // the dial plan forbids the number
	NoLine       Outcome = "no_line"       // our carrier did not take the call
	OperatorGone Outcome = "operator_gone" // hung up before the customer answered
	SystemFault  Outcome = "system_fault"  // ours, a crash included
)

// hopeless says of which outcomes a second attempt would be the same.
var hopeless = map[Outcome]bool{WrongNumber: true, NotAllowed: true}

// CallbackEntry is somebody to be rung back.
type CallbackEntry struct {
	Contact uuid.UUID // the first contact: its topic, urgency and T0 are the place's
	Origin  Origin
	Topic   int64     // when the contact has none; 0: any
	Number  string    // E.164; "": the contact's
	Asked   time.Time // from when on they wait for it; zero: At
	By      int64     // who books it; 0: the caller, or the desk itself
	At      time.Time

	only int64 // the operator who rings back at once; 0: whoever is free
}

// DialsOut says whether this node can dial out, which it cannot before it is
// told so. Callbacks are booked all the same: they wait for a node that can.
func (q *Queue) DialsOut(can bool) { q.dials.Store(can) }

// Dials tells whether this node can dial out.
func (q *Queue) Dials() bool { return q.dials.Load() }

// ToCallback keeps the place for a caller who would rather be rung back: they may
// hang up, and stand in the queue as before, by urgency and T0. A pending offer
// is withdrawn at nobody's expense; Wait returns ErrGone from now on, and Leave
// does nothing. ErrTalking when an operator has just accepted; ErrNoNumber,
// ErrBooked.
func (p *Place) ToCallback(ctx context.Context, number string, at time.Time) error {
	err := errMoved
	for try := 0; try < leaveTries && errors.Is(err, errMoved); try++ {
		err = p.q.db.Tx(ctx, func(tx *db.Tx) error {
			if number == "" {
				return ErrNoNumber
			}
			return p.q.book(ctx, tx, CallbackEntry{Contact: p.contact, Origin: FromQueue, Number: number, Asked: at, At: at})
		})
	}
	if err != nil {
		return fmt.Errorf("book a callback: %w", err)
	}
	return nil
}

// BookCallback books a callback for any contact within a transaction of the
// caller's own: a call that was lost, a message, a ticket, a caller of a node
// that died. One who waits in the queue keeps the place. ErrTalking while they
// are served, ErrBooked, ErrNoNumber.
func (q *Queue) BookCallback(ctx context.Context, tx *db.Tx, e CallbackEntry) error {
	err := errMoved
	for try := 0; try < leaveTries && errors.Is(err, errMoved); try++ {
		err = q.book(ctx, tx, e)
	}
	if err != nil {
		return fmt.Errorf("book a callback: %w", err)
	}
	return nil
}

// standing is a contact and its place, if it has one, before a callback is booked.
type standing struct {
	State  *placeState
	Kind   *string
	Caller string
	Ending *string
	Offer  uuid.NullUUID // pending
	Booked bool          // a callback that is not over
}

func (s standing) free() error {
	switch {
	case s.State == nil || *s.State == placeLeft:
		return nil
	case *s.Kind == "callback" && *s.State != placeTaken:
		return ErrBooked
	case *s.Kind == "callback" && s.Booked: // in the middle of an attempt
		return ErrTalking
	case *s.State == placeTaken && *s.Kind == "live" && s.Ending == nil:
		return ErrTalking
	}
	return nil
}

func readStanding(ctx context.Context, tx *db.Tx, contact uuid.UUID) (s standing, err error) {
	rows, err := tx.Query(ctx, `
		select p.state, p.kind, c.caller, c.ending,
			(select o.id from offers o where o.contact_id = c.id and o.state = 'pending') as offer,
			exists (select from callbacks b where b.contact_id = c.id and b.outcome is null) as booked
		from contacts c left join places p on p.contact_id = c.id where c.id = @contact`, args{"contact": contact})
	if err != nil {
		return s, err
	}
	s, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[standing])
	return s, err
}

// book gives a contact the place of somebody who is to be rung back: the one they
// have, or a new one.
// errMoved when the place was changed meanwhile.
func (q *Queue) book(ctx context.Context, tx *db.Tx, e CallbackEntry) error {
	was, err := readStanding(ctx, tx, e.Contact)
	if err != nil {
		return err
	}
	if e.Number == "" {
		e.Number = was.Caller
	}
	if e.Number == "" {
		return ErrNoNumber
	}
	if err := was.free(); err != nil {
		return err
	}
	if e.Asked.IsZero() {
		e.Asked = e.At
	}
	if was.State != nil && *was.State == placeOffered {
		if !was.Offer.Valid {
			return errMoved
		}
		if _, err := q.conclude(ctx, tx, was.Offer.UUID, end{to: Withdrawn, reason: "callback", place: placeWaiting}, e.At); err != nil {
			if errors.Is(err, ErrTooLate) {
				err = errMoved
			}
			return err
		}
		waiting := placeWaiting
		was.State = &waiting
	}
	tag, err := tx.Exec(ctx, `
		insert into places (contact_id, node, topic_id, urgency, t0, joined_at, state, kind, next_at)
		select c.id, @node, coalesce(c.topic_id, nullif(@topic, 0::bigint), (select t.id from topics t order by t.id limit 1)),
			coalesce(c.urgency, 2), c.t0, @at, 'waiting', 'callback', @at
		from contacts c where c.id = @contact
		on conflict (contact_id) do update
		set kind = 'callback', state = 'waiting', next_at = @at, node = @node, left_at = null, attempt = null,
			joined_at = case when places.state = 'waiting' then places.joined_at else @at end
		where places.state = @state and places.kind = @kind`,
		args{"contact": e.Contact, "topic": e.Topic, "node": q.node, "at": e.At, "state": was.State, "kind": was.Kind})
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return errMoved
	}
	id := uuid.New()
	w := q.work(tx, e.At)
	w.batch.Queue(`
		insert into callbacks (id, contact_id, origin, number, asked_at, booked_at, booked_by, user_id)
		values (@id, @contact, @origin, @number, @asked, @at, nullif(@by, 0::bigint), nullif(@only, 0::bigint))`,
		args{"id": id, "contact": e.Contact, "origin": e.Origin, "number": e.Number, "asked": e.Asked, "at": e.At, "by": e.By, "only": e.only})
	w.booked(e, id)
	if e.Origin == FromQueue || e.Origin == FromFault {
		if err := w.renew(ctx, e.Contact); err != nil {
			return err
		}
	}
	w.wake(TopicMatch, TopicCallbacks)
	return w.done(ctx)
}

// booked writes that somebody is to be rung back.
func (w *work) booked(e CallbackEntry, id uuid.UUID) {
	w.contact(journal.Booked, e.Contact, map[string]any{"callback": id, "origin": e.Origin})
	w.lines[len(w.lines)-1].User = e.By
}

// unreserve ends a ringing back with one click whose operator did not lift their
// own telephone: it was theirs, so it does not wait for others.
func (w *work) unreserve(contact uuid.UUID, at time.Time) {
	w.batch.Queue(`
		with over as (
			update callbacks set outcome = 'no_operator', ended_at = @at
			where contact_id = @contact and outcome is null and user_id is not null returning contact_id)
		update places set state = 'left', left_at = @at where contact_id in (select contact_id from over) and state = 'waiting'`,
		args{"contact": contact, "at": at})
}

// AcceptCallback is Accept for somebody who is to be rung back, within the
// transaction in which their outbound contact, the attempt, begins: the place is
// taken for as long as the attempt lasts, and offer and seat are the attempt's
// from now on. So is a place of its own, as far in front: whoever is given on by who
// rang them waits where they stood. ErrTooLate when the offer is over.
func (q *Queue) AcceptCallback(ctx context.Context, tx *db.Tx, offer, attempt uuid.UUID, at time.Time) error {
	o, seat, err := lockOffer(ctx, tx, offer, anyOffer, nil)
	if err != nil {
		return fmt.Errorf("accept a callback: %w", err)
	}
	tag, err := tx.Exec(ctx, `update offers set state = 'accepted', ended_at = @at, contact_id = @attempt where id = @id and state = 'pending'`,
		args{"id": offer, "attempt": attempt, "at": at})
	if err != nil {
		return fmt.Errorf("accept a callback: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("accept a callback: %w", ErrTooLate)
	}
	w := q.work(tx, at)
	w.both(journal.Accepted, o, map[string]any{"attempt": attempt})
	w.batch.Queue(`update places set state = 'taken', attempt = @attempt, node = @node, left_at = @at where contact_id = @contact and state = 'offered'`,
		args{"contact": o.Contact, "attempt": attempt, "node": q.node, "at": at})
	w.batch.Queue(`
		insert into places (contact_id, node, topic_id, urgency, t0, joined_at, state, left_at)
		select @attempt, @node, topic_id, urgency, t0, @at, 'taken', @at from places where contact_id = @contact`,
		args{"contact": o.Contact, "attempt": attempt, "node": q.node, "at": at})
	w.batch.Queue(`
		with mine as (update callbacks set attempts = attempts + 1, first_at = coalesce(first_at, @at)
			where contact_id = @contact and outcome is null returning id)
		update contacts set callback_id = (select id from mine), operator_id = @operator where id = @attempt`,
		args{"contact": o.Contact, "attempt": attempt, "operator": o.Operator, "at": at})
	next := seat.talking(at)
	next.Contact = null(attempt)
	w.seat(next)
	w.wake(PlaceTopic(attempt))
	if err := w.done(ctx); err != nil {
		return fmt.Errorf("accept a callback: %w", err)
	}
	return nil
}

// againSQL finds the callbacks of a caller (me) who has rung again, as far as they
// wait: whoever was rung, about one of them, has said nothing of the others. A number that several people share is no sign of who it is, and of two
// calls at the same time neither is the other's caller: they had asked before they
// rang again. One that is just being offered or dialled ends by itself: see attempted.
const againSQL = `
	join callbacks b on b.number = me.caller and b.outcome is null and b.asked_at <= me.t0 and b.contact_id <> me.id and me.caller <> '' and me.match <> 'several' and me.direction = 'inbound'
	join places p on p.contact_id = b.contact_id and p.kind = 'callback' and p.state = 'waiting'`

// onLineSQL says of somebody who is to be rung back (p) that their number is on the
// line with us, wherever they are in their call.
const onLineSQL = `exists (
	select from callbacks b join contacts c on c.caller = b.number and c.ending is null and c.direction = 'inbound' and c.id <> b.contact_id
	where b.contact_id = p.contact_id and b.outcome is null)`

// overtaken is a callback that its customer did not wait for.
type overtaken struct {
	Callback uuid.UUID
	Contact  uuid.UUID // the first
	Topic    int64
}

// Whose contact queueOvertaken looks for, by an id.
const (
	ofContact = `@id`
	ofOffer   = `(select contact_id from offers where id = @id and not consult)` // who is only asked about somebody does not serve them
)

func queueOvertaken(b *pgx.Batch, whose string, id uuid.UUID, into *[]overtaken) {
	b.Queue(`select b.id as callback, b.contact_id as contact, p.topic_id as topic from contacts me `+againSQL+`
		where me.id = `+whose+` order by b.contact_id for update of p, b`, args{"id": id}).
		Query(func(rows pgx.Rows) (err error) {
			*into, err = pgx.CollectRows(rows, pgx.RowToStructByName[overtaken])
			return err
		})
}

// settle ends the callbacks of a caller who has rung again and is served now:
// they have said what they wanted to say, and their tickets are on the screen.
func (w *work) settle(o Offer, again []overtaken) {
	for _, c := range again {
		w.servedMeanwhile(c.Callback, c.Contact, o.Contact, o.Operator)
	}
}

// renew ends the callbacks of a caller who rang again and would again rather be
// rung back about the same topic: once is enough.
func (w *work) renew(ctx context.Context, contact uuid.UUID) error {
	var b pgx.Batch
	var list []overtaken
	queueOvertaken(&b, ofContact, contact, &list)
	if err := w.tx.SendBatch(ctx, &b).Close(); err != nil || len(list) == 0 {
		return err
	}
	var topic int64
	if err := w.tx.QueryRow(ctx, `select topic_id from places where contact_id = @contact`, args{"contact": contact}).Scan(&topic); err != nil {
		return err
	}
	for _, c := range list {
		if c.Topic != topic {
			continue
		}
		w.closeCallback(c.Callback, "cancelled", w.at)
		w.gone(c.Contact)
		w.contact(journal.Cancelled, c.Contact, map[string]any{"callback": c.Callback, "reason": "again", "again": contact})
	}
	return nil
}

// servedSinceSQL is the call in which the customer of a callback (b) was served
// since it was booked, null when they were not.
const servedSinceSQL = `(
	select c.id from contacts c where c.caller = b.number and c.direction = 'inbound' and c.match <> 'several' and c.operator_id is not null
		and c.t0 > b.booked_at and c.id <> b.contact_id order by c.t0 desc limit 1)`

// unneeded ends a callback whose offer came to nothing, when its customer was
// served while it rang.
func (w *work) unneeded(ctx context.Context, contact uuid.UUID) error {
	rows, err := w.tx.Query(ctx, `
		select b.id, s.id, s.operator_id from callbacks b, lateral `+servedSinceSQL+` served join contacts s on s.id = served.id
		where b.contact_id = @contact and b.outcome is null and b.user_id is null`, args{"contact": contact})
	if err != nil {
		return err
	}
	var callback, served uuid.UUID
	var operator int64
	_, err = pgx.ForEachRow(rows, []any{&callback, &served, &operator}, func() error {
		w.servedMeanwhile(callback, contact, served, operator)
		return nil
	})
	return err
}

// gone gives up the place of somebody who is no longer to be rung back.
func (w *work) gone(contact uuid.UUID) {
	w.batch.Queue(`update places set state = 'left', attempt = null, left_at = @at where contact_id = @contact and kind = 'callback'`,
		args{"contact": contact, "at": w.at})
}

// servedMeanwhile ends a callback whose customer was served in a call of their
// own; a call that was lost is no longer to be rung back.
func (w *work) servedMeanwhile(callback, first, served uuid.UUID, operator int64) {
	w.closeCallback(callback, "served", w.at)
	w.gone(first)
	w.settled(first, operator)
	w.contact(journal.Cancelled, first, map[string]any{"callback": callback, "reason": "served", "served": served})
	w.lines[len(w.lines)-1].User = operator
}

// settled takes a contact from the list of calls to ring back.
func (w *work) settled(contact uuid.UUID, by int64) {
	w.batch.Queue(`update contacts set ring_back = 'taken', ring_back_by = nullif(@by, 0::bigint), ring_back_at = @at where id = @contact and ring_back = 'due'`,
		args{"contact": contact, "by": by, "at": w.at})
}

// attempted is a callback in the middle of an attempt.
type attempted struct {
	Callback uuid.UUID
	Contact  uuid.UUID // the first
	Attempts int
	Only     bool          // somebody's own, with one click
	Operator int64         // of this attempt
	Served   uuid.NullUUID // the call in which the customer was served since they were to be rung back
}

// Attempted notes what came of an attempt, named by its outbound contact. Who was
// reached is no longer to be rung back. Who was not is rung again CallbackAgain
// later, at once after a fault of ours; after CallbackTries attempts, or when
// there is no hope, they stand among the calls to ring back, as after one click.
// A second word about the same attempt does nothing.
func (q *Queue) Attempted(ctx context.Context, attempt uuid.UUID, outcome Outcome, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error { return q.attempted(ctx, tx, attempt, outcome, at) })
	if err != nil {
		return fmt.Errorf("note an attempt to ring back: %w", err)
	}
	return nil
}

func (q *Queue) attempted(ctx context.Context, tx *db.Tx, attempt uuid.UUID, outcome Outcome, at time.Time) error {
	rows, err := tx.Query(ctx, `
		select b.id as callback, b.contact_id as contact, b.attempts, b.user_id is not null as only,
			coalesce((select operator_id from contacts where id = @attempt), 0) as operator,
			`+servedSinceSQL+` as served
		from places p join callbacks b on b.contact_id = p.contact_id and b.outcome is null
		where p.attempt = @attempt for update of p, b`, args{"attempt": attempt})
	if err != nil {
		return err
	}
	a, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[attempted])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // told before
	} else if err != nil {
		return err
	}
	w := q.work(tx, at)
	w.batch.Queue(`update contacts set outcome = @outcome where id = @attempt`, args{"attempt": attempt, "outcome": outcome})
	data := map[string]any{"callback": a.Callback, "attempt": attempt, "outcome": outcome, "n": a.Attempts}
	w.contact(journal.Attempted, a.Contact, data)
	w.lines[len(w.lines)-1].User = a.Operator
	switch {
	case outcome == Reached:
		w.closeCallback(a.Callback, "reached", at)
		w.settled(a.Contact, a.Operator)
	case a.Served.Valid && !a.Only:
		w.servedMeanwhile(a.Callback, a.Contact, a.Served.UUID, a.Operator)
	case !a.Only && a.Attempts < CallbackTries && !hopeless[outcome]:
		next := at.Add(CallbackAgain)
		if outcome == SystemFault {
			next = at
		}
		w.batch.Queue(`update places set state = 'waiting', attempt = null, left_at = null, next_at = @next where contact_id = @contact`,
			args{"contact": a.Contact, "next": next})
		w.wake(TopicMatch)
	default:
		w.closeCallback(a.Callback, "not_reached", at)
		w.gone(a.Contact)
		if !a.Only { // a ringing back with one click came from a list: it stands there still
			w.owe(a.Contact)
		}
	}
	return w.done(ctx)
}

func (w *work) closeCallback(id uuid.UUID, outcome string, at time.Time) {
	w.batch.Queue(`update callbacks set outcome = @outcome, ended_at = @at where id = @id and outcome is null`,
		args{"id": id, "outcome": outcome, "at": at})
}

// owe puts a contact on the list of calls to ring back; the line of the attempt
// that was the last tells it.
func (w *work) owe(contact uuid.UUID) {
	w.batch.Queue(`update contacts set ring_back = 'due', ring_back_by = null, ring_back_at = null where id = @contact`, args{"contact": contact})
}

// CancelCallback takes a callback back that is not being conducted just now, for
// somebody who has settled it otherwise: a pending offer is withdrawn. ErrTalking
// in the middle of an attempt, ErrNotBooked when it is over, ErrNoCallback when
// there never was one of this id.
func (q *Queue) CancelCallback(ctx context.Context, id uuid.UUID, by int64, at time.Time) error {
	err := errMoved
	for try := 0; try < leaveTries && errors.Is(err, errMoved); try++ {
		err = q.db.Tx(ctx, func(tx *db.Tx) error { return q.cancelCallback(ctx, tx, id, by, at) })
	}
	if err != nil {
		return fmt.Errorf("cancel a callback: %w", err)
	}
	return nil
}

// notBooked is why there is no callback to be taken back: it is over, or never was.
func notBooked(ctx context.Context, tx *db.Tx, id uuid.UUID) error {
	was := false
	if err := tx.QueryRow(ctx, `select exists (select from callbacks where id = @id)`, args{"id": id}).Scan(&was); err != nil {
		return err
	}
	if !was {
		return ErrNoCallback
	}
	return ErrNotBooked
}

func (q *Queue) cancelCallback(ctx context.Context, tx *db.Tx, id uuid.UUID, by int64, at time.Time) error {
	var contact uuid.UUID
	var state placeState
	var offer uuid.NullUUID
	err := tx.QueryRow(ctx, `
		select p.contact_id, p.state, (select o.id from offers o where o.contact_id = p.contact_id and o.state = 'pending')
		from callbacks b join places p on p.contact_id = b.contact_id where b.id = @id and b.outcome is null`, args{"id": id}).
		Scan(&contact, &state, &offer)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return notBooked(ctx, tx, id)
	case err != nil:
		return err
	case state == placeTaken:
		return ErrTalking
	case state == placeOffered && !offer.Valid:
		return errMoved
	case state == placeOffered:
		_, err := q.conclude(ctx, tx, offer.UUID, end{to: Withdrawn, reason: "cancelled", place: placeWaiting}, at)
		if errors.Is(err, ErrTooLate) {
			return errMoved
		} else if err != nil {
			return err
		}
	}
	tag, err := tx.Exec(ctx, `update places set state = 'left', left_at = @at where contact_id = @contact and kind = 'callback' and state = 'waiting'`,
		args{"contact": contact, "at": at})
	if err != nil {
		return err
	} else if tag.RowsAffected() == 0 && state == placeWaiting {
		return errMoved // it has just been offered
	}
	w := q.work(tx, at)
	w.closeCallback(id, "cancelled", at) // an operator's own is closed already, with its offer
	w.contact(journal.Cancelled, contact, map[string]any{"callback": id})
	w.lines[len(w.lines)-1].User = by
	return w.done(ctx)
}

// recoverCallbacks clears up what this node was ringing back when it died:
// offers are withdrawn, and attempts have failed through no fault of the
// customer's.
func (q *Queue) recoverCallbacks(ctx context.Context, node args, at time.Time) error {
	offers, err := ids(ctx, q.db.Pool, `
		select o.id from offers o join places p on p.contact_id = o.contact_id
		where o.node = @node and o.state = 'pending' and p.kind = 'callback'`, node)
	if err != nil {
		return err
	}
	for _, offer := range offers {
		if err := q.withdraw(ctx, offer, afterRestart, at); err != nil && !errors.Is(err, ErrTooLate) {
			return err
		}
	}
	attempts, err := ids(ctx, q.db.Pool, `
		select p.attempt from places p join callbacks b on b.contact_id = p.contact_id and b.outcome is null
		where p.node = @node and p.attempt is not null order by p.urgency, p.t0`, node)
	if err != nil {
		return err
	}
	for _, attempt := range attempts {
		if err := q.Attempted(ctx, attempt, SystemFault, at); err != nil {
			return err
		}
	}
	return nil
}

// RingBackNow gives a contact to the operator who wants to ring them back at
// once, whoever's turn it is: the seat is reserved, its telephone rings, and the
// customer is dialled when it is lifted. Who has a callback booked keeps it if
// the telephone is not. The operator may be on a break; a wrap-up ends. ErrNoLine,
// ErrSeatOff, ErrSeatBusy, ErrNoSeat; ErrTalking when they are on the line or
// somebody else is ringing them back; ErrNoNumber.
func (q *Queue) RingBackNow(ctx context.Context, user int64, e CallbackEntry) (offer uuid.UUID, err error) {
	if !q.Dials() {
		return offer, fmt.Errorf("ring back: %w", ErrNoLine)
	}
	err = errMoved
	for try := 0; try < leaveTries && errors.Is(err, errMoved); try++ {
		err = q.db.Tx(ctx, func(tx *db.Tx) (err error) {
			offer, err = q.ringBackNow(ctx, tx, user, e)
			return err
		})
	}
	if err != nil {
		return offer, fmt.Errorf("ring back: %w", err)
	}
	return offer, nil
}

func (q *Queue) ringBackNow(ctx context.Context, tx *db.Tx, user int64, e CallbackEntry) (offer uuid.UUID, err error) {
	if err := makeSeat(ctx, tx, user, e.At); err != nil {
		return offer, err
	}
	seat, err := lockSeat(ctx, tx, user)
	if err != nil {
		return offer, err
	}
	switch {
	case seat.Declared == Off:
		return offer, ErrSeatOff
	case seat.Doing == Offered || seat.Doing == Talking || seat.Supervises.Valid:
		return offer, ErrSeatBusy
	}
	was, err := readStanding(ctx, tx, e.Contact)
	if err != nil {
		return offer, err
	}
	switch err := was.free(); {
	case errors.Is(err, ErrBooked) && *was.State == placeWaiting: // it is their turn now
	case errors.Is(err, ErrBooked), was.State != nil && *was.Kind == "live" && (*was.State == placeWaiting || *was.State == placeOffered):
		return offer, ErrTalking
	case err != nil:
		return offer, err
	default:
		e.By, e.only = user, user
		if err := q.book(ctx, tx, e); err != nil {
			return offer, err
		}
	}
	tag, err := tx.Exec(ctx, `update places set state = 'offered' where contact_id = @contact and kind = 'callback' and state = 'waiting'`, args{"contact": e.Contact})
	if err != nil {
		return offer, err
	} else if tag.RowsAffected() == 0 {
		return offer, errMoved // it has just been offered
	}
	o := Offer{ID: uuid.New(), Contact: e.Contact, Operator: user, Name: seat.Operator, Extension: seat.Extension,
		State: Pending, OfferedAt: e.At, ExpiresAt: e.At.Add(RingLongest), node: q.node}
	w := q.work(tx, e.At)
	if seat.Doing == Wrapping {
		w.wrapped(seat, e.At)
		seat = seat.wrapped(e.At)
	}
	w.seat(seat.offered(o))
	w.offer(o, true)
	w.both(journal.Offered, o, nil)
	return o.ID, w.done(ctx)
}

// Ringing is somebody to be rung back whose offer rings an operator just now.
type Ringing struct {
	Offer
	Number string // whom to dial
}

// Conduct has every callback that this node offers conducted, each on a goroutine
// of its own, until ctx ends; then it waits for them. While the database is away
// it looks again every second.
func (q *Queue) Conduct(ctx context.Context, conduct func(context.Context, Ringing)) error {
	woken := q.db.Wakeups.Subscribe(TopicCallbacks)
	defer woken.Close()
	var all sync.WaitGroup
	defer all.Wait()
	over := make(chan uuid.UUID)
	begun := map[uuid.UUID]bool{}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			for len(begun) > 0 {
				delete(begun, <-over)
			}
			return nil
		case id := <-over:
			delete(begun, id)
			continue
		case <-woken.C():
		case <-again.C:
		}
		list, err := q.ringing(ctx)
		if err != nil {
			again.Reset(retryAfter)
			continue
		}
		for _, r := range list {
			if begun[r.ID] {
				continue
			}
			begun[r.ID] = true
			all.Go(func() {
				defer func() { over <- r.ID }()
				conduct(ctx, r)
			})
		}
	}
}

// ringing are the callbacks whose offers this node has made.
func (q *Queue) ringing(ctx context.Context) ([]Ringing, error) {
	rows, err := q.db.Pool.Query(ctx, `select `+offerColumns+`, b.number from offers o join users u on u.id = o.user_id
		join callbacks b on b.contact_id = o.contact_id and b.outcome is null
		where o.state = 'pending' and o.node = @node order by o.offered_at, o.id`, args{"node": q.node})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Ringing, err error) {
		return r, row.Scan(append(r.fields(), &r.Number)...)
	})
}
