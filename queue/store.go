package queue

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// args are the named arguments of a statement; one too many or too few is an error.
type args = db.Args

// querier reads: the pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// work is what one transaction has decided: its statements, journal lines and
// wake-ups travel in one round to the database.
type work struct {
	tx    *db.Tx
	at    time.Time
	batch pgx.Batch
	lines []journal.Line
}

// work begins a decision; every one of them is told to the screens.
func (q *Queue) work(tx *db.Tx, at time.Time) *work {
	tx.Wake(TopicQueue, "journal")
	return &work{tx: tx, at: at}
}

// do carries the decision out, in a round of its own: for who must know at once
// whether it could be.
func (w *work) do(ctx context.Context) error {
	if err := journal.Queue(&w.batch, w.lines...); err != nil {
		return err
	}
	w.tx.Notify(&w.batch)
	return journal.Replayed(w.tx.SendBatch(ctx, &w.batch).Close())
}

// done is do in the round of whatever the transaction says next, its COMMIT if
// nothing else.
func (w *work) done(ctx context.Context) error {
	w.tx.Later(&w.batch, nil)
	return journal.Append(ctx, w.tx, w.lines...)
}

func (w *work) wake(topics ...string) { w.tx.Wake(topics...) }

func (w *work) line(l journal.Line) {
	l.At = w.at
	w.lines = append(w.lines, l)
}

// contact writes a line on a contact's stream.
func (w *work) contact(kind journal.Kind, contact uuid.UUID, data map[string]any) {
	w.wake(PlaceTopic(contact))
	w.line(journal.Line{Stream: journal.ContactStream(contact), Kind: kind, Contact: null(contact), Data: data})
}

// both writes a line about an offer on the contact's stream and on the seat's.
// The second names the contact in its data only: a contact's own timeline has
// each event once.
func (w *work) both(k journal.Kind, o Offer, more map[string]any) {
	w.wake(PlaceTopic(o.Contact), SeatTopic(o.Operator))
	of, at := map[string]any{"offer": o.ID}, map[string]any{"offer": o.ID, "contact": o.Contact}
	for key, v := range more {
		of[key], at[key] = v, v
	}
	w.line(journal.Line{Stream: journal.ContactStream(o.Contact), Kind: k, Contact: null(o.Contact), User: o.Operator, Data: of})
	if k == journal.TimedOut {
		k = journal.Missed // the same event, seen from the seat
	}
	w.line(journal.Line{Stream: journal.SeatStream(o.Operator), Kind: k, User: o.Operator, Data: at})
}

// why is the data of a line that has a reason: one of our own words, never an
// operator's.
func why(reason string) map[string]any {
	if reason == "" {
		return nil
	}
	return map[string]any{"reason": reason}
}

// declared writes what an operator, or the desk for them, has declared. The
// reason of a break may be anybody's words and stays out of the journal, unless
// it is one of ours.
func (w *work) declared(s Seat) {
	data := map[string]any{"declared": s.Declared}
	switch s.Reason {
	case Missed, Busy, Unreachable:
		data["reason"] = s.Reason
	}
	if s.DeclaredBy != 0 {
		data["by"] = s.DeclaredBy
	}
	w.line(journal.Line{Stream: journal.SeatStream(s.User), Kind: journal.Declared, User: s.User, Data: data})
}

// wrapped ends the wrap-up of the seat as it was, and with it the contact's Tw,
// unless the caller was given on since.
func (w *work) wrapped(was Seat, at time.Time) {
	w.batch.Queue(`update contacts set tw = coalesce(tw, @at) where id = @contact and operator_id = @user`, args{"contact": was.Contact, "user": was.User, "at": at})
	w.wake(PlaceTopic(was.Contact.UUID))
	w.line(journal.Line{Stream: journal.ContactStream(was.Contact.UUID), Kind: journal.Wrapped, Contact: was.Contact, User: was.User})
	w.line(journal.Line{Stream: journal.SeatStream(was.User), Kind: journal.Wrapped, User: was.User, Data: map[string]any{"contact": was.Contact}})
}

// seat writes a seat whose row the transaction has locked.
func (w *work) seat(s Seat) {
	w.wake(SeatTopic(s.User))
	w.batch.Queue(`
		update seats set declared = @declared, reason = @reason, declared_at = @declared_at, declared_by = nullif(@by, 0::bigint), doing = @doing, doing_at = @doing_at,
			doing_until = @doing_until, idle_since = @idle_since, offer_id = @offer, contact_id = @contact, node = @node,
			talk = @talk, talk_at = case when talk = @talk then talk_at else @at end, talk_why = @talk_why, version = version + 1
		where user_id = @user`,
		args{"user": s.User, "declared": s.Declared, "reason": s.Reason, "declared_at": s.DeclaredAt, "by": s.DeclaredBy, "doing": s.Doing, "doing_at": s.DoingAt,
			"doing_until": s.DoingUntil, "idle_since": s.IdleSince, "offer": s.Offer, "contact": s.Contact, "node": s.Node, "talk": s.Talk, "talk_why": s.TalkWhy, "at": w.at})
}

// place moves a place.
func (w *work) place(contact uuid.UUID, from, to placeState, at time.Time) {
	queuePlace(&w.batch, contact, from, to, at)
}

func queuePlace(b *pgx.Batch, contact uuid.UUID, from, to placeState, at time.Time) {
	var left *time.Time
	if to == placeTaken || to == placeLeft {
		left = &at
	}
	b.Queue(`update places set state = @to, left_at = @left where contact_id = @contact and state = @from`,
		args{"contact": contact, "from": from, "to": to, "left": left})
}

// ring offers a caller to a seat, unless its operator is leaving just now: somebody
// has the row, or they are not free any more. Those are added to gone.
func (w *work) ring(o Offer, gone *leaving) {
	w.wake(SeatTopic(o.Operator))
	w.batch.Queue(`
		update seats set doing = 'offered', doing_at = @at, doing_until = @until, offer_id = @offer, contact_id = @contact, node = @node, version = version + 1
		where user_id = (select s.user_id from seats s where s.user_id = @user and s.doing = 'idle' and s.declared = 'available' and not `+supervisingSQL+`
			for update of s skip locked)`,
		args{"user": o.Operator, "at": o.OfferedAt, "until": o.ExpiresAt, "offer": o.ID, "contact": o.Contact, "node": o.node}).
		Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				gone.seats = append(gone.seats, o.Operator)
			}
			return nil
		})
}

// take offers the place of a caller who waits, unless they are leaving just now.
func (w *work) take(contact uuid.UUID, gone *leaving) {
	w.batch.Queue(`
		update places set state = 'offered' where contact_id = (
			select contact_id from places where contact_id = @contact and state = 'waiting' for update skip locked)`,
		args{"contact": contact}).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			gone.callers = append(gone.callers, contact)
		}
		return nil
	})
}

// operator names on the contact who has accepted it; who had it before does not
// end its Tw any more.
func (w *work) operator(o Offer) {
	w.batch.Queue(`update contacts set operator_id = @operator, tw = null where id = @contact`, args{"contact": o.Contact, "operator": o.Operator})
}

// offer writes a new offer, if it has seat and place: nobody who is leaving is waited
// for here, in the unique indexes of what others offer. The contact's Tr is when the
// first one rang, if the caller was there, and was not rung by us. A match may have
// begun before a place it finds was taken: Tq is not after Tr.
func (w *work) offer(o Offer, callback bool) {
	sql := insertOffer
	switch {
	case callback:
		w.wake(TopicCallbacks)
	case !o.Consult: // else somebody has them, since long before
		sql = `with made as (` + insertOffer + `) update contacts set tr = coalesce(tr, greatest(@at, tq)) where id = @contact and direction = 'inbound'`
	}
	w.batch.Queue(sql, args{"id": o.ID, "contact": o.Contact, "user": o.Operator, "node": o.node, "at": o.OfferedAt, "expires": o.ExpiresAt, "consult": o.Consult})
}

const insertOffer = `
	insert into offers (id, contact_id, user_id, node, state, offered_at, expires_at, consult)
	select @id::uuid, @contact::uuid, @user::bigint, @node::text, 'pending', @at::timestamptz, @expires::timestamptz, @consult::boolean
	from seats where user_id = @user::bigint and offer_id = @id::uuid
		and not exists (select from places where contact_id = @contact::uuid and state = 'waiting')`

// certain breaks the transaction off, with gone as its error, unless all its offers were
// made and their callers still have their places. So they are committed in the round
// that makes them.
func (w *work) certain(offers []uuid.UUID, gone *leaving) {
	var b pgx.Batch
	b.Queue(`select 1 / (count(*) = @n)::int from offers o join places p on p.contact_id = o.contact_id where o.id = any(@offers) and p.state = 'offered'`,
		args{"n": len(offers), "offers": offers}).Exec(func(pgconn.CommandTag) error { return nil })
	w.tx.Later(&w.batch, nil)
	w.batch = pgx.Batch{}
	w.tx.Later(&b, func(err error) error {
		if gone.any() {
			return gone // what divides by zero
		}
		return err
	})
}

const seatColumns = `u.id, u.name, u.display_name, coalesce(u.extension, ''), u.wrap_up,
	coalesce(s.declared, 'off'), coalesce(s.reason, ''), coalesce(s.declared_at, u.created_at),
	coalesce(s.declared_by, 0), coalesce((select f.display_name from users f where f.id = s.declared_by), ''), coalesce(s.doing, 'idle'), coalesce(s.doing_at, u.created_at),
	s.doing_until, coalesce(s.idle_since, u.created_at), s.offer_id, s.contact_id, coalesce(t.number, ''), coalesce(s.node, ''), coalesce(s.version, 0), u.active, coalesce(s.talk, ''), case when s.talk <> '' then s.talk_at end, coalesce(s.talk_why, ''),
	coalesce(v.name, ''), coalesce(v.display_name, ''), coalesce(v.supervises_as, ''), v.supervises_since,
	case when ` + supervisingSQL + ` then s.supervises end, coalesce(s.supervises_why, ''),
	array(select topic_id from user_topics k where k.user_id = u.id order by topic_id)`

const usersFirst = ` from users u left join seats s on s.user_id = u.id left join contacts c on c.id = s.contact_id left join tickets t on t.id = c.ticket_id
		left join lateral (select y.name, y.display_name, x.supervises_as, x.supervises_since from seats x join users y on y.id = x.user_id where x.supervises = s.offer_id) v on s.doing = 'talking' `

func scanSeat(row pgx.CollectableRow) (Seat, error) {
	var s Seat
	var wrapUp int
	err := row.Scan(s.fields(&wrapUp)...)
	s.WrapUp = time.Duration(wrapUp) * time.Second
	return s, err
}

// fields are where seatColumns go.
func (s *Seat) fields(wrapUp *int) []any {
	return []any{
		&s.User, &s.Operator, &s.DisplayName, &s.Extension, wrapUp, &s.Declared, &s.Reason, &s.DeclaredAt, &s.DeclaredBy, &s.ForcedBy, &s.Doing, &s.DoingAt,
		&s.DoingUntil, &s.IdleSince, &s.Offer, &s.Contact, &s.Ticket, &s.Node, &s.Version, &s.Active, &s.Talk, &s.TalkAt, &s.TalkWhy,
		&s.Supervisor, &s.SupervisorName, &s.SupervisorPart, &s.SupervisorSince, &s.Supervises, &s.SupervisesWhy, &s.Topics,
	}
}

// makeSeat gives an active user a seat, if there is none.
func makeSeat(ctx context.Context, tx *db.Tx, user int64, at time.Time) error {
	_, err := tx.Exec(ctx, `
		insert into seats (user_id, declared_at, doing_at, idle_since)
		select id, @at, @at, @at from users where id = @user and active on conflict do nothing`, args{"user": user, "at": at})
	return err
}

// lockedColumns are what a seat's moves ask and write, without what only screens show.
const lockedColumns = `u.id, u.name, coalesce(u.extension, ''), u.wrap_up, u.active, s.declared, s.reason, s.declared_at, coalesce(s.declared_by, 0),
	s.doing, s.doing_at, s.doing_until, s.idle_since, s.offer_id, s.contact_id, s.node, s.talk, s.talk_why, case when ` + supervisingSQL + ` then s.supervises end`

// lockedFields are where lockedColumns go.
func (s *Seat) lockedFields(wrapUp *int) []any {
	return []any{
		&s.User, &s.Operator, &s.Extension, wrapUp, &s.Active, &s.Declared, &s.Reason, &s.DeclaredAt, &s.DeclaredBy,
		&s.Doing, &s.DoingAt, &s.DoingUntil, &s.IdleSince, &s.Offer, &s.Contact, &s.Node, &s.Talk, &s.TalkWhy, &s.Supervises,
	}
}

// lockSeat reads a seat that the transaction is about to change, as far as
// lockedColumns go.
func lockSeat(ctx context.Context, tx *db.Tx, user int64) (s Seat, err error) {
	var wrapUp int
	err = tx.QueryRow(ctx, `select `+lockedColumns+` from seats s join users u on u.id = s.user_id where s.user_id = @user for update of s`,
		args{"user": user}).Scan(s.lockedFields(&wrapUp)...)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoSeat
	}
	s.WrapUp = time.Duration(wrapUp) * time.Second
	return s, err
}

// lockWrapping is lockSeat for those of some operators whose wrap-up is over, always
// in the same order.
func lockWrapping(ctx context.Context, tx *db.Tx, users []int64, at time.Time) ([]Seat, error) {
	rows, err := tx.Query(ctx, `select `+lockedColumns+` from seats s join users u on u.id = s.user_id
		where s.user_id = any(@users) and s.doing = 'wrapping' and s.doing_until <= @at order by s.user_id for update of s`, args{"users": users, "at": at})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Seat, err error) {
		var wrapUp int
		err = row.Scan(s.lockedFields(&wrapUp)...)
		s.WrapUp = time.Duration(wrapUp) * time.Second
		return s, err
	})
}

func readSeat(ctx context.Context, q querier, user int64) (Seat, error) {
	rows, err := q.Query(ctx, `select `+seatColumns+usersFirst+`where u.id = @user`, args{"user": user})
	if err != nil {
		return Seat{}, err
	}
	s, err := pgx.CollectExactlyOneRow(rows, scanSeat)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoSeat
	}
	return s, err
}

// readSeats reads those that lists show: who was let go stays as long as the talk
// and its wrap-up.
func readSeats(ctx context.Context, q querier) ([]Seat, error) {
	rows, err := q.Query(ctx, `select `+seatColumns+usersFirst+`where (u.active or coalesce(s.doing, 'idle') <> 'idle') and (s.user_id is not null or u.extension is not null) order by u.name`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanSeat)
}

const offerColumns = `o.id, o.contact_id, o.user_id, u.name, coalesce(u.extension, ''), o.state, o.offered_at, o.expires_at, o.painted_at, o.node, o.consult, u.wrap_up > 0`

func (o *Offer) fields() []any {
	return []any{&o.ID, &o.Contact, &o.Operator, &o.Name, &o.Extension, &o.State, &o.OfferedAt, &o.ExpiresAt, &o.PaintedAt, &o.node, &o.Consult, &o.wraps}
}

// readOffer returns ErrTooLate when there is no offer of this id.
func readOffer(ctx context.Context, q querier, id uuid.UUID) (o Offer, err error) {
	rows, err := q.Query(ctx, `select `+offerColumns+` from offers o join users u on u.id = o.user_id where o.id = @id`, args{"id": id})
	if err != nil {
		return o, err
	}
	o, err = pgx.CollectExactlyOneRow(rows, scanOffer)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrTooLate // an id that was never an offer's, or is so no longer
	}
	return o, err
}

func scanOffer(row pgx.CollectableRow) (o Offer, err error) {
	return o, row.Scan(o.fields()...)
}

// lockOffer reads an offer and locks the seat it was made to: an offer's state
// changes under that lock only. It is read before it is locked: who changes it
// looks again. Without the offers whose state is beside the point nobody waits for a
// seat in vain. ErrTooLate when there is none of this id.
//
// What b holds (nil: nothing) comes after it in the same round: statements that ask
// for themselves whether the offer is as it should be.
func lockOffer(ctx context.Context, tx *db.Tx, id uuid.UUID, which string, b *pgx.Batch) (o Offer, s Seat, err error) {
	var all pgx.Batch
	var wrapUp int
	found := true
	all.Queue(`select `+offerColumns+`, `+lockedColumns+`
		from offers o join users u on u.id = o.user_id join seats s on s.user_id = o.user_id where o.id = @id`+which+` for update of s`,
		args{"id": id}).QueryRow(func(row pgx.Row) error {
		err := row.Scan(append(o.fields(), s.lockedFields(&wrapUp)...)...)
		if found = !errors.Is(err, pgx.ErrNoRows); !found {
			return nil
		}
		return err
	})
	if b != nil {
		all.QueuedQueries = append(all.QueuedQueries, b.QueuedQueries...)
	}
	err = tx.SendBatch(ctx, &all).Close()
	if err == nil && !found {
		err = ErrTooLate
	}
	s.WrapUp = time.Duration(wrapUp) * time.Second
	return o, s, err
}

// Which offers lockOffer takes.
const (
	anyOffer     = ``
	pendingOffer = ` and o.state = 'pending'`
)

// readPlace reads where a place stands for the call it began with, and its
// pending offer if there is one.
func readPlace(ctx context.Context, q journal.Batcher, contact uuid.UUID) (state placeState, o *Offer, err error) {
	var b pgx.Batch
	b.Queue(`select case when kind = 'callback' then 'booked' else state end from places where contact_id = @contact`, args{"contact": contact}).
		QueryRow(func(row pgx.Row) error { return row.Scan(&state) })
	b.Queue(`select `+offerColumns+` from offers o join users u on u.id = o.user_id where o.contact_id = @contact and o.state = 'pending'`, args{"contact": contact}).
		Query(func(rows pgx.Rows) error {
			offers, err := pgx.CollectRows(rows, scanOffer)
			if len(offers) > 0 && state == placeOffered { // else it began or ended between the two
				o = &offers[0]
			}
			return err
		})
	return state, o, q.SendBatch(ctx, &b).Close()
}
