package tickets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Directions of a contact.
const (
	Inbound  = "inbound"
	Outbound = "outbound" // we rang: an attempt of a callback
)

// firstAttemptWithin is the working time within which somebody is to be rung back
// for the first time (DEFINITIONS, handled by callback).
const firstAttemptWithin = time.Hour

// Outgoing is an attempt to ring somebody back, before it begins. Its id is
// chosen by who makes it, so that a beginning can be told twice.
type Outgoing struct {
	ID     uuid.UUID
	First  uuid.UUID // the contact that is rung back
	Number string    // E.164: who is dialled
	At     time.Time
}

// Contact is the attempt as a contact, while it goes on.
func (o Outgoing) Contact() *Contact {
	return &Contact{
		ID: o.ID, Channel: Phone, CallID: o.ID.String(), Caller: o.Number, CallerSource: sourceFrom, Dialled: o.Number,
		T0: o.At, Match: MatchNone,
	}
}

// insertOutgoing makes the attempt's contact: service, topic, urgency, ticket and
// customer are those of the contact that is rung back.
const insertOutgoing = `insert into contacts (id, node, channel, call_id, service_id, settings_version, caller, caller_source, dialled,
	customer_id, match, topic_id, urgency, ticket_id, t0, direction)
select @id, @node, 'phone', @call_id, f.service_id, f.settings_version, @number, 'from', @number,
	f.customer_id, case f.match when 'withheld' then 'none' else f.match end, f.topic_id, f.urgency, f.ticket_id, @at, 'outbound'
from contacts f where f.id = @first
on conflict (id) do nothing -- the journal says that it stands already
returning ticket_id, coalesce(service_id, 0)`

// BeginAttempt registers an attempt in one transaction with what `together` does:
// the contact's row and its first journal line, before anybody is dialled. A
// second time is harmless. c is o.Contact(), and learns its ticket and its service.
// ErrNotFound: there is no such contact to ring back.
func (b *Book) BeginAttempt(ctx context.Context, c *Contact, o Outgoing, together func(ctx context.Context, tx *db.Tx) error) error {
	var service int64
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		var ticket *int64
		err := tx.QueryRow(ctx, insertOutgoing, pgx.StrictNamedArgs{"id": o.ID, "call_id": c.CallID, "node": b.node, "number": o.Number, "first": o.First, "at": o.At}).Scan(&ticket, &service)
		if err != nil {
			return found(err)
		}
		line := contactLine(o.ID, uuid.Nil, journal.Begun, o.At)
		line.Data = map[string]any{"direction": Outbound, "first": o.First}
		if ticket != nil {
			line.Ticket = *ticket
			if c.Ticket, err = ticketByID(ctx, tx, *ticket); err != nil {
				return err
			}
		}
		tx.Wake(topicJournal, line.Stream)
		if err := journal.Append(ctx, tx, line); err != nil {
			return err
		}
		return together(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("begin to ring back: %w", err)
	}
	services, err := b.known(ctx)
	if err != nil {
		b.log.Warn("the service of who is rung back is not known", "contact", c.ID, "error", err)
		return nil
	}
	for _, s := range services.at(o.At) {
		if s.ID == service {
			c.Service = s
		}
	}
	return nil
}

// OpenForFirst opens the ticket of a matter whose caller never came so far as to
// have one: they were rung back, and its clocks start with their own call.
func (b *Book) OpenForFirst(ctx context.Context, c *Contact, first uuid.UUID, at time.Time) error {
	_, err := b.Open(ctx, c, Matter{Channel: Phone, At: at}, func(ctx context.Context, tx *db.Tx, ticket int64) error {
		if _, err := tx.Exec(ctx, `update tickets set received_at = least(received_at, (select t0 from contacts where id = @first)) where id = @ticket`,
			pgx.StrictNamedArgs{"ticket": ticket, "first": first}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update contacts set ticket_id = @ticket where id = @first and ticket_id is null`,
			pgx.StrictNamedArgs{"ticket": ticket, "first": first})
		return err
	})
	return err
}

// Callback is a promise to ring somebody back, and what came of it so far.
type Callback struct {
	ID           uuid.UUID  `json:"id"`
	ContactID    uuid.UUID  `json:"contact_id"` // the first contact
	Ticket       *string    `json:"ticket"`     // its number
	Origin       string     `json:"origin" enum:"queue,lost,message,ticket,fault"`
	Number       string     `json:"number"`
	Name         string     `json:"name"` // of the doctor, when the number is certainly theirs
	Service      string     `json:"service"`
	Topic        *Topic     `json:"topic"`
	Urgency      int        `json:"urgency"`
	T0           time.Time  `json:"t0"`       // of the first contact: the order of the queue
	AskedAt      time.Time  `json:"asked_at"` // the working hour for the first attempt runs from here
	BookedAt     time.Time  `json:"booked_at"`
	BookedBy     *Person    `json:"booked_by"` // null: the caller, or the desk itself
	State        string     `json:"state" enum:"waiting,ringing,dialling,ended"`
	NextAt       *time.Time `json:"next_at"`                                                         // when it is offered, or offered again
	Attempts     []Attempt  `json:"attempts"`                                                        // oldest first
	Outcome      *string    `json:"outcome" enum:"reached,not_reached,no_operator,cancelled,served"` // served: in a call of their own, before we rang
	EndedAt      *time.Time `json:"ended_at"`
	WithinAnHour *bool      `json:"within_an_hour"` // the first attempt, of working time; null: none yet
	OutOfTime    bool       `json:"out_of_time"`    // no attempt yet, and the working hour is over
}

// Attempt is one outbound contact of a callback.
type Attempt struct {
	ContactID uuid.UUID `json:"contact_id"`
	At        time.Time `json:"at"`
	By        string    `json:"by"`      // the operator's name as shown
	Outcome   string    `json:"outcome"` // "": it is going on
}

// CallbackFilter chooses callbacks; zero fields do not filter.
type CallbackFilter struct {
	Open     bool      // those that are not over
	From, To time.Time // asked for from then, up to then
	Limit    int       // 0: PageDefault; at most PageMost
}

const callbackSelect = `select b.id, b.contact_id, t.number, b.origin, b.number, coalesce(cu.name, ''), coalesce(s.name, ''), coalesce(c.service_id, 0),
	tp.id, tp.code, tp.name, coalesce(c.urgency, 2), c.t0, b.asked_at, b.booked_at, u.name, u.display_name,
	case when b.outcome is not null then 'ended' when p.state = 'taken' then 'dialling' when p.state = 'offered' then 'ringing' else 'waiting' end,
	case when b.outcome is null then p.next_at end, b.outcome, b.ended_at, b.first_at,
	coalesce((select jsonb_agg(jsonb_build_object('contact_id', a.id, 'at', a.t0, 'by', coalesce(o.display_name, ''), 'outcome', a.outcome) order by a.t0, a.id)
		from contacts a left join users o on o.id = a.operator_id where a.callback_id = b.id), '[]')
	from callbacks b
	join contacts c on c.id = b.contact_id
	left join places p on p.contact_id = b.contact_id
	left join tickets t on t.id = c.ticket_id
	left join customers cu on cu.id = c.customer_id
	left join services s on s.id = c.service_id
	left join topics tp on tp.id = c.topic_id
	left join users u on u.id = b.booked_by `

// callbackRow is a Callback with what its figures need.
type callbackRow struct {
	Callback
	service int64
	first   *time.Time
	missed  bool // the working hour passed without an attempt
}

func scanCallback(row pgx.CollectableRow) (r callbackRow, err error) {
	var topic *int64
	var code, name, by, shown *string
	err = row.Scan(&r.ID, &r.ContactID, &r.Ticket, &r.Origin, &r.Number, &r.Name, &r.Service, &r.service,
		&topic, &code, &name, &r.Urgency, &r.T0, &r.AskedAt, &r.BookedAt, &by, &shown,
		&r.State, &r.NextAt, &r.Outcome, &r.EndedAt, &r.first, &r.Attempts)
	if topic != nil {
		r.Topic = &Topic{*topic, *code, *name}
	}
	if by != nil {
		r.BookedBy = &Person{*by, *shown}
	}
	for i := range r.Attempts {
		r.Attempts[i].At = r.Attempts[i].At.UTC()
	}
	r.T0, r.AskedAt, r.BookedAt, r.NextAt, r.EndedAt = r.T0.UTC(), r.AskedAt.UTC(), r.BookedAt.UTC(), utc(r.NextAt), utc(r.EndedAt)
	return r, err
}

// Callbacks lists callbacks: the open ones in the queue's order, before them the
// newest of the others.
func (b *Book) Callbacks(ctx context.Context, f CallbackFilter, at time.Time) ([]Callback, error) {
	where, args := []string{`true`}, pgx.StrictNamedArgs{"limit": pageOf(f.Limit)}
	if f.Open {
		where = append(where, `b.outcome is null`)
	}
	if !f.From.IsZero() {
		where, args["from"] = append(where, `b.asked_at >= @from`), f.From
	}
	if !f.To.IsZero() {
		where, args["to"] = append(where, `b.asked_at < @to`), f.To
	}
	rows, err := b.callbacks(ctx, `where `+strings.Join(where, ` and `)+`
		order by b.outcome is not null, case when b.outcome is null then coalesce(c.urgency, 2) end, case when b.outcome is null then c.t0 end, b.booked_at desc, b.id limit @limit`, args, at)
	if err != nil {
		return nil, fmt.Errorf("list callbacks: %w", err)
	}
	list := make([]Callback, len(rows))
	for i, r := range rows {
		list[i] = r.Callback
	}
	return list, nil
}

// CallbackOf is the callback that a contact belongs to: an outbound one as its
// attempt, another as what is to be rung back. nil when there is none. Few have
// one, and the screen-pop asks for every caller: so the id first, which costs
// nothing to plan, and the ten tables of a callback only when there is one.
func (b *Book) CallbackOf(ctx context.Context, contact uuid.UUID, at time.Time) (*Callback, error) {
	var id uuid.UUID
	err := b.db.Pool.QueryRow(ctx, `select callback_id from contacts where id = $1 and callback_id is not null
		union all select id from callbacks where contact_id = $1 and outcome is null limit 1`, contact).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("callback of %s: %w", contact, err)
	}
	rows, err := b.callbacks(ctx, `where b.id = @id`, pgx.StrictNamedArgs{"id": id}, at)
	if err != nil {
		return nil, fmt.Errorf("callback of %s: %w", contact, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return &rows[0].Callback, nil
}

// CallbacksOpen counts the callbacks that are not over.
func (b *Book) CallbacksOpen(ctx context.Context) (n int, err error) {
	if err := b.db.Pool.QueryRow(ctx, `select count(*) from callbacks where outcome is null`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count callbacks: %w", err)
	}
	return n, nil
}

// WhomToCall is the contact of a ticket to ring back, the last one that came in,
// and the requester's number. ErrNotFound; *Refusal when the ticket has none.
func (b *Book) WhomToCall(ctx context.Context, ticket string) (contact uuid.UUID, number string, err error) {
	var last *uuid.UUID
	err = b.db.Pool.QueryRow(ctx, `select c.id, t.requester_number from tickets t
		left join contacts c on c.id = (select id from contacts where ticket_id = t.id order by direction, t0 desc, id desc limit 1)
		where t.number = $1`, ticket).Scan(&last, &number)
	switch {
	case err != nil:
		return contact, "", fmt.Errorf("ticket %s: %w", ticket, found(err))
	case last == nil:
		return contact, "", &Refusal{Reason: "Nessun contatto è legato a questo ticket: non c'è chi richiamare."}
	}
	return *last, Normalise(number), nil
}

// callbacks reads callbacks and holds each against the working hour of its
// service; one without a service against the clock.
func (b *Book) callbacks(ctx context.Context, where string, args pgx.StrictNamedArgs, at time.Time) ([]callbackRow, error) {
	rows, err := b.db.Pool.Query(ctx, callbackSelect+where, args)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanCallback)
	if err != nil {
		return nil, err
	}
	known, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		r := &list[i]
		attempted := r.first != nil
		until := at
		if attempted {
			until = *r.first
		} else if r.EndedAt != nil {
			until = *r.EndedAt
		}
		within := known.worked(r.service, r.AskedAt, until) <= firstAttemptWithin
		if attempted {
			r.WithinAnHour = &within
		}
		r.missed = !attempted && !within
		r.OutOfTime = r.missed && r.Outcome == nil
	}
	return list, nil
}

// worked is how much of a stretch of time a service was open.
func (c *catalogue) worked(service int64, from, to time.Time) time.Duration {
	for _, versions := range c.services {
		if len(versions) > 0 && versions[0].ID == service {
			return versions[0].Calendar.Elapsed(from, to)
		}
	}
	return to.Sub(from)
}

// CallbackFigures are the callbacks asked for in a period: contacts, not promises,
// for one who was not reached may be rung again. DEFINITIONS: handled by callback.
type CallbackFigures struct {
	Definition      string    `json:"definition"` // what the figures mean, and its version
	From            time.Time `json:"from"`
	To              time.Time `json:"to"`
	Asked           int       `json:"asked"`           // contacts that were to be rung back
	Attempted       int       `json:"attempted"`       // of these, with an attempt
	Attempts        int       `json:"attempts"`        // all attempts
	Reached         int       `json:"reached"`         // handled by callback
	NotReached      int       `json:"not_reached"`     // given up, and not reached later
	Served          int       `json:"served"`          // rang again, and were served before we reached them
	Cancelled       int       `json:"cancelled"`       // settled otherwise
	Open            int       `json:"open"`            // still to be rung back
	Within          int       `json:"within"`          // first attempt within one working hour
	WithinShare     *float64  `json:"within_share"`    // of those attempted or out of time; null: none
	Outcomes        []Tally   `json:"outcomes"`        // of attempts
	NeverAttempted  int       `json:"never_attempted"` // the working hour passed without one
	WorkingMinutes  int       `json:"working_minutes"` // the parameter: how long the hour is
	CalendarVersion []Edition `json:"calendars"`       // of each service, the version in force at the end of the period
}

// Tally is how often a code came.
type Tally struct {
	Code  string `json:"code"`
	Count int    `json:"count"`
}

// Edition names the version of a service's settings that a figure used.
type Edition struct {
	Service string `json:"service"`
	Version int64  `json:"version"`
}

// callbackDefinition changes its version with what is counted below.
// 2: who was served in a call of their own is counted apart; an hour that passed
// without an attempt counts also when the promise was ended later.
const callbackDefinition = "callbacks/2"

// figuresMost bounds the callbacks of one report: a year of a large desk.
const figuresMost = 200_000

// CallbackFigures counts the callbacks that were asked for from an instant up to
// another, as they stand at `at`.
func (b *Book) CallbackFigures(ctx context.Context, from, to, at time.Time) (*CallbackFigures, error) {
	rows, err := b.callbacks(ctx, `where b.asked_at >= @from and b.asked_at < @to order by b.contact_id, b.booked_at limit @most`,
		pgx.StrictNamedArgs{"from": from, "to": to, "most": figuresMost}, at)
	if err != nil {
		return nil, fmt.Errorf("count callbacks: %w", err)
	}
	f := &CallbackFigures{Definition: callbackDefinition, From: from.UTC(), To: to.UTC(), WorkingMinutes: int(firstAttemptWithin / time.Minute), Outcomes: []Tally{}, CalendarVersion: []Edition{}}
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].ContactID == rows[0].ContactID {
			n++
		}
		f.count(rows[:n])
		rows = rows[n:]
	}
	known, err := b.known(ctx)
	if err != nil {
		return nil, fmt.Errorf("count callbacks: %w", err)
	}
	for _, s := range known.at(to) {
		f.CalendarVersion = append(f.CalendarVersion, Edition{s.Name, s.Version})
	}
	if judged := f.Attempted + f.NeverAttempted; judged > 0 {
		share := float64(f.Within) / float64(judged)
		f.WithinShare = &share
	}
	return f, nil
}

// count adds one contact: its callbacks in the order they were booked.
func (f *CallbackFigures) count(of []callbackRow) {
	f.Asked++
	var first *callbackRow // with an attempt
	out := false
	for i := range of {
		r := &of[i]
		f.Attempts += len(r.Attempts)
		for _, a := range r.Attempts {
			f.tally(a.Outcome)
		}
		if first == nil && r.first != nil {
			first = r
		}
		out = out || r.missed
	}
	switch last := of[len(of)-1].Outcome; {
	case slices.ContainsFunc(of, func(r callbackRow) bool { return r.Outcome != nil && *r.Outcome == "reached" }):
		f.Reached++
	case last == nil:
		f.Open++
	case *last == "served":
		f.Served++
	case *last == "cancelled":
		f.Cancelled++
	default:
		f.NotReached++
	}
	switch {
	case first != nil:
		f.Attempted++
		if *first.WithinAnHour {
			f.Within++
		}
	case out:
		f.NeverAttempted++
	}
}

func (f *CallbackFigures) tally(outcome string) {
	if outcome == "" {
		return // it is going on
	}
	i := slices.IndexFunc(f.Outcomes, func(t Tally) bool { return t.Code == outcome })
	if i < 0 {
		f.Outcomes = append(f.Outcomes, Tally{Code: outcome})
		i = len(f.Outcomes) - 1
	}
	f.Outcomes[i].Count++
}
