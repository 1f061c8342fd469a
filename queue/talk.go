package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Talk is where the talk of an operator stands. The conversation's goroutine
// moves it, as the operator's page asks:
//
//	together → held, asking
//	held → together, asking
//	asking → consulting, together
//	consulting → together, conference
//	conference → together
//	advising → together
//
// From any of them the talk may end, or the caller be given on.
type Talk string

// How a talk can stand.
const (
	Together   Talk = ""           // caller and operator hear each other
	Held       Talk = "held"       // the caller hears music, the operator nothing
	Asking     Talk = "asking"     // the caller hears music, the operator how somebody else is rung
	Consulting Talk = "consulting" // the operator and somebody else hear each other, the caller music
	Conference Talk = "conference" // all three hear each other
	Advising   Talk = "advising"   // of the one who is asked: the caller is somebody else's
)

// Wish is what an operator's page asks of the talk.
type Wish string

// What can be asked.
const (
	Hold     Wish = "hold"
	Resume   Wish = "resume"
	Transfer Wish = "transfer"   // give the caller on unannounced
	Consult  Wish = "consult"    // ask somebody while the caller waits
	Complete Wish = "complete"   // give the caller to who was asked, and go
	TakeBack Wish = "take_back"  // let go who was asked, and go on with the caller
	Confer   Wish = "conference" // all three
)

// wishes are those that can be met as a talk stands.
var wishes = map[Talk][]Wish{
	Together:   {Hold, Transfer, Consult},
	Held:       {Resume, Transfer, Consult},
	Asking:     {TakeBack},
	Consulting: {Complete, TakeBack, Confer},
	Conference: {Complete, TakeBack},
}

// wishLongest is how long a wish waits for the conversation to take it: it does so
// at once, unless its node is dying.
const wishLongest = 10 * time.Second

// Target is whom a caller is given to, or who is asked: one of the three.
type Target struct {
	Operator int64
	Topic    int64
	Number   string // E.164, somebody outside
}

// to is what the journal calls it.
func (t Target) to() map[string]any {
	switch {
	case t.Operator != 0:
		return map[string]any{"to": "operator", "operator": t.Operator}
	case t.Topic != 0:
		return map[string]any{"to": "topic", "topic": t.Topic}
	case t.Number != "":
		return map[string]any{"to": "outside"}
	}
	return map[string]any{"to": "queue"}
}

// Command is a wish on its way to the conversation.
type Command struct {
	Offer uuid.UUID // that led to the talk
	Wish  Wish
	Target
	Telephone bool // of Consult: by a second call of the operator's telephone
}

// Command puts what an operator wants of their talk into its inbox. ErrNotTalking;
// ErrNotNow when the talk does not stand so, or the wish before was not taken yet;
// ErrNotFree when the colleague who is named cannot be rung.
func (q *Queue) Command(ctx context.Context, user int64, c Command, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error { return q.command(ctx, tx, user, c, at) })
	if err != nil {
		return fmt.Errorf("command a talk: %w", err)
	}
	return nil
}

func (q *Queue) command(ctx context.Context, tx *db.Tx, user int64, c Command, at time.Time) error {
	seat, err := lockSeat(ctx, tx, user)
	switch {
	case errors.Is(err, ErrNoSeat):
		return ErrNotTalking
	case err != nil:
		return err
	case seat.Doing != Talking:
		return ErrNotTalking
	case !slices.Contains(wishes[seat.Talk], c.Wish):
		return ErrNotNow
	}
	if c.Operator != 0 {
		colleague, err := readSeat(ctx, tx, c.Operator)
		if err != nil {
			return err
		}
		if !colleague.free() || c.Operator == user {
			return ErrNotFree
		}
	}
	tag, err := tx.Exec(ctx, `
		insert into commands (offer_id, wants, operator_id, topic_id, number, telephone, expires_at)
		values (@offer, @wish, nullif(@operator, 0::bigint), nullif(@topic, 0::bigint), @number, @telephone, @expires)
		on conflict (offer_id) do update
		set wants = @wish, operator_id = excluded.operator_id, topic_id = excluded.topic_id, number = @number, telephone = @telephone, expires_at = @expires
		where commands.expires_at <= @at`,
		args{"offer": seat.Offer, "wish": c.Wish, "operator": c.Operator, "topic": c.Topic, "number": c.Number, "telephone": c.Telephone, "expires": at.Add(wishLongest), "at": at})
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return ErrNotNow
	}
	tx.Wake(OfferTopic(seat.Offer.UUID))
	return nil
}

// free says whether a seat can be offered a caller now.
func (s Seat) free() bool {
	return s.Active && s.Declared == Available && s.Doing == Idle && !s.Supervises.Valid
}

// Commanded waits for what is asked of the talk that an offer led to, and takes it
// out of the inbox: it is returned once. It ends with ctx, whose cause it returns;
// while the database is away it tries again every second.
func (q *Queue) Commanded(ctx context.Context, offer *Offer) (*Command, error) {
	woken := q.db.Wakeups.Subscribe(OfferTopic(offer.ID))
	defer woken.Close()
	again := time.NewTimer(retryAfter)
	again.Stop()
	defer again.Stop()
	for look := !q.quiet(OfferTopic(offer.ID), offer); ; look = true {
		if look {
			c, err := q.takeCommand(ctx, offer.ID, time.Now())
			switch {
			case ctx.Err() != nil && c == nil:
				return nil, context.Cause(ctx)
			case c != nil:
				return c, nil
			case err != nil:
				again.Reset(retryAfter)
			default:
				again.Stop()
			}
		}
		select {
		case <-woken.C():
		case <-again.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// takeLongest is how long the answer is waited for when the inbox is emptied.
const takeLongest = 2 * time.Second

// takeCommand empties the inbox; nil when it was empty, or what lay in it is too old. Once
// it asks, ctx does not end it: the database may have handed out what nobody else will see.
func (q *Queue) takeCommand(ctx context.Context, offer uuid.UUID, at time.Time) (*Command, error) {
	conn, err := q.db.Pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("take a command: %w", err)
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeLongest)
	defer cancel()
	c := Command{Offer: offer}
	var expires time.Time
	err = conn.QueryRow(ctx, `delete from commands where offer_id = @offer
		returning wants, coalesce(operator_id, 0), coalesce(topic_id, 0), number, telephone, expires_at`, args{"offer": offer}).
		Scan(&c.Wish, &c.Operator, &c.Topic, &c.Number, &c.Telephone, &expires)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("take a command: %w", err)
	case !at.Before(expires):
		return nil, nil
	}
	return &c, nil
}

// Stands notes how a talk stands from now on, why it came back to that ("": as was
// asked), and what happened. A talk that is over stays so.
func (q *Queue) Stands(ctx context.Context, offer uuid.UUID, t Talk, reason string, happened journal.Kind, to Target, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		o, seat, err := lockOffer(ctx, tx, offer, anyOffer, nil)
		if err != nil || seat.Doing != Talking || seat.Offer != null(offer) {
			return err
		}
		data := why(reason)
		if to != (Target{}) {
			data = to.to()
			if reason != "" {
				data["reason"] = reason
			}
		}
		seat.Talk, seat.TalkWhy = t, reason
		w := q.work(tx, at)
		w.seat(seat)
		w.both(happened, o, data)
		if t == Conference {
			if err := w.hears(ctx, to.Operator, o.Contact); err != nil {
				return err
			}
		}
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("note how a talk stands: %w", err)
	}
	return nil
}

// whyConference is what the seat of who was asked says once they hear the caller, too:
// the talk is not theirs, and they ask nothing of it.
const whyConference = "conference"

// hears tells who was asked that the caller hears them; nothing when that is nobody of
// ours. No seat but theirs is locked after the operator's: only one talk asks them.
func (w *work) hears(ctx context.Context, user int64, contact uuid.UUID) error {
	tag, err := w.tx.Exec(ctx, `update seats set talk_why = @why, talk_at = @at, version = version + 1 where user_id = @user and talk = 'advising' and contact_id = @contact`,
		args{"why": whyConference, "at": w.at, "user": user, "contact": contact})
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	w.wake(SeatTopic(user))
	w.line(journal.Line{Stream: journal.SeatStream(user), Kind: journal.Conferred, User: user, Data: map[string]any{"contact": contact}})
	return nil
}

// Give gives the caller of a talk on, and frees the operator: to whoever answers a
// topic, keeping T0 and urgency; to one colleague, whose offer this makes; to
// somebody outside, who is dialled next; or, without a target, back to where the
// caller waited. Who waits again is found by Place.Wait. ErrNotFree; ErrTooLate
// when the talk is over.
func (q *Queue) Give(ctx context.Context, offer uuid.UUID, to Target, reason string, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error { return q.give(ctx, tx, offer, to, reason, at) })
	if err != nil {
		return fmt.Errorf("give a caller on: %w", err)
	}
	return nil
}

func (q *Queue) give(ctx context.Context, tx *db.Tx, offer uuid.UUID, to Target, reason string, at time.Time) error {
	o, err := readOffer(ctx, tx, offer)
	if err != nil {
		return err
	}
	seats, err := lockSeats(ctx, tx, o.Operator, to.Operator)
	if err != nil {
		return err
	}
	if to.Operator != 0 && !seats[to.Operator].free() {
		return ErrNotFree
	}
	w := q.work(tx, at)
	data := to.to()
	if reason != "" {
		data["reason"] = reason
	}
	w.both(journal.Given, o, data)
	if err := w.lets(ctx, o, seats[o.Operator]); err != nil {
		return err
	}
	if to.Number != "" {
		return w.done(ctx)
	}
	if err := w.again(ctx, o.Contact, to.Topic); err != nil {
		return err
	}
	if to.Operator != 0 {
		w.ask(seats[to.Operator], o.Contact, q.node, false)
	} else {
		w.wake(TopicMatch)
	}
	return w.done(ctx)
}

// lets frees the operator of a talk that goes on without them; ErrTooLate when it
// was over.
func (w *work) lets(ctx context.Context, o Offer, seat Seat) error {
	free, err := w.released(ctx, o, seat, "")
	if err == nil && !free {
		err = ErrTooLate
	}
	return err
}

// again gives a caller who was served back the place in the queue, for another
// topic if it is not 0. The operator who had them is not preferred any more.
func (w *work) again(ctx context.Context, contact uuid.UUID, topic int64) error {
	var urgency int
	err := w.tx.QueryRow(ctx, `
		update places set state = 'waiting', left_at = null, joined_at = @at, sticky_id = null, topic_id = coalesce(nullif(@topic, 0::bigint), topic_id)
		where contact_id = @contact and state = 'taken' and kind = 'live' returning topic_id, urgency`,
		args{"contact": contact, "topic": topic, "at": w.at}).Scan(&topic, &urgency)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrTooLate
	}
	if err != nil {
		return err
	}
	w.batch.Queue(`update contacts set topic_id = @topic where id = @contact`, args{"contact": contact, "topic": topic})
	w.contact(journal.Waiting, contact, map[string]any{"topic": topic, "urgency": urgency})
	return nil
}

// ask offers a caller to one operator, whose seat is locked and free.
func (w *work) ask(seat Seat, contact uuid.UUID, node string, consult bool) Offer {
	o := Offer{ID: uuid.New(), Contact: contact, Operator: seat.User, Name: seat.Operator, Extension: seat.Extension,
		State: Pending, OfferedAt: w.at, ExpiresAt: w.at.Add(RingLongest), Consult: consult, wraps: seat.WrapUp > 0, node: node, mark: w.tx.Mark()}
	w.seat(seat.offered(o))
	if !consult {
		w.place(contact, placeWaiting, placeOffered, w.at)
	}
	w.offer(o, false)
	data := map[string]any(nil)
	if consult {
		data = map[string]any{"consult": true}
	}
	w.both(journal.Offered, o, data)
	return o
}

// Requeue gives a caller who was given on to somebody outside in vain, for a
// reason of ours, back their place.
func (q *Queue) Requeue(ctx context.Context, contact uuid.UUID, reason string, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		w := q.work(tx, at)
		w.contact(journal.Returned, contact, map[string]any{"to": "queue", "reason": reason})
		if err := w.again(ctx, contact, 0); err != nil {
			return err
		}
		w.wake(TopicMatch)
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("requeue a caller: %w", err)
	}
	return nil
}

// Ask offers the talk that an offer led to to a colleague who is to be asked: their
// page shows who it is about, their telephone is to ring. The caller stays where
// they are. ErrNotFree; ErrTooLate when the talk is over.
func (q *Queue) Ask(ctx context.Context, offer uuid.UUID, colleague int64, at time.Time) (o *Offer, err error) {
	err = q.db.Tx(ctx, func(tx *db.Tx) error {
		from, err := readOffer(ctx, tx, offer)
		if err != nil {
			return err
		}
		seats, err := lockSeats(ctx, tx, from.Operator, colleague)
		if err != nil {
			return err
		}
		switch mine := seats[from.Operator]; {
		case mine.Doing != Talking || mine.Offer != null(offer):
			return ErrTooLate
		case !seats[colleague].free():
			return ErrNotFree
		}
		w := q.work(tx, at)
		asked := w.ask(seats[colleague], from.Contact, q.node, true)
		o = &asked
		return w.done(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("ask a colleague: %w", err)
	}
	return o, nil
}

// HandOver gives the caller of a talk to the colleague who was asked, and frees the
// operator. ErrTooLate when one of the two has gone.
func (q *Queue) HandOver(ctx context.Context, offer, asked uuid.UUID, at time.Time) error {
	err := q.db.Tx(ctx, func(tx *db.Tx) error {
		from, err := readOffer(ctx, tx, offer)
		if err != nil {
			return err
		}
		to, err := readOffer(ctx, tx, asked)
		if err != nil {
			return err
		}
		seats, err := lockSeats(ctx, tx, from.Operator, to.Operator)
		if err != nil {
			return err
		}
		next := seats[to.Operator]
		if next.Doing != Talking || next.Offer != null(asked) {
			return ErrTooLate
		}
		w := q.work(tx, at)
		w.both(journal.Given, from, Target{Operator: to.Operator}.to())
		if err := w.lets(ctx, from, seats[from.Operator]); err != nil {
			return err
		}
		to.Consult = false
		w.batch.Queue(`update offers set consult = false where id = @id`, args{"id": asked})
		w.operator(to)
		next.Talk, next.TalkWhy = Together, ""
		w.seat(next)
		w.both(journal.Joined, to, nil)
		return w.done(ctx)
	})
	if err != nil {
		return fmt.Errorf("hand a caller over: %w", err)
	}
	return nil
}

// lockSeats locks the seats of two operators, always the same first; 0 is nobody.
func lockSeats(ctx context.Context, tx *db.Tx, users ...int64) (map[int64]Seat, error) {
	slices.Sort(users)
	seats := map[int64]Seat{}
	for _, user := range slices.Compact(users) {
		if user == 0 {
			continue
		}
		seat, err := lockSeat(ctx, tx, user)
		if err != nil {
			return nil, err
		}
		seats[user] = seat
	}
	return seats, nil
}
