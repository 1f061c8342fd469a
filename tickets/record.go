package tickets

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// Record is a contact as screens and outside tests read it: the row, its
// instants, and (from ContactOf and Contacts) its journal.
type Record struct {
	ID           uuid.UUID  `json:"id"`
	CallID       string     `json:"call_id"`
	Channel      Channel    `json:"channel"`
	Caller       string     `json:"caller"`
	CallerSource string     `json:"caller_source"`
	Dialled      string     `json:"dialled"`
	Service      string     `json:"service"` // its name, "" for an unknown number
	Settings     *int64     `json:"settings_version"`
	Customer     *Customer  `json:"customer"`
	Match        string     `json:"match"`
	Topic        *Topic     `json:"topic"`
	Urgency      *int       `json:"urgency"`
	T0           time.Time  `json:"t0"`
	Ta           *time.Time `json:"ta"`
	Ts           *time.Time `json:"ts"`
	Tq           *time.Time `json:"tq"`
	Tr           *time.Time `json:"tr"`
	Tc           *time.Time `json:"tc"`
	Te           *time.Time `json:"te"`
	Tw           *time.Time `json:"tw"`
	Tk           *time.Time `json:"tk"`
	Ending       *string    `json:"ending"`
	Ticket       *string    `json:"ticket"` // its number
	TicketID     int64      `json:"-"`
	Operator     *string    `json:"operator"` // name
	NumberTold   bool       `json:"number_told"`
	RingBack     *string    `json:"ring_back"` // due, taken
	Direction    string     `json:"direction" enum:"inbound,outbound"`
	Outcome      string     `json:"outcome"` // of an outbound contact: reached, no_answer, busy, …
	HasRecording bool       `json:"has_recording"`
	TalkUntil    *time.Time `json:"talk_until"`            // until when its recorded talk is kept; null: there is none
	Legs         []Leg      `json:"legs" nullable:"false"` // how the sound was, once it has ended
	Journal      []Line     `json:"journal,omitempty"`
}

// Line is one journal line of a contact.
type Line struct {
	Seq  int            `json:"seq"`
	At   time.Time      `json:"at"`
	Kind string         `json:"kind"`
	Data map[string]any `json:"data"`
}

// ContactFilter chooses contacts; zero fields do not filter.
type ContactFilter struct {
	CallID string
	Caller string // E.164
	Ticket int64
	Limit  int // 0: PageDefault; at most PageMost
}

// recordSelect reads contacts; a where clause follows.
const recordSelect = `select c.id, c.call_id, c.channel, c.caller, c.caller_source, c.dialled, coalesce(s.name, ''), c.settings_version, c.match, c.urgency,
	c.t0, c.ta, c.ts, c.tq, c.tr, c.tc, c.te, c.tw, c.tk,
	c.ending, c.number_told, c.ring_back, c.direction, c.outcome, coalesce(c.ticket_id, 0), t.number, u.name,
	exists (select from recordings r where r.contact_id = c.id and r.kind = 'message' and r.state = 'complete'),
	(select max(r.keep_until) from recordings r where r.contact_id = c.id and r.kind = 'talk' and r.state = 'complete' and r.path <> ''), c.legs,
	tp.id, tp.code, tp.name,
	cu.id, cu.code, cu.name, cu.practice, cu.authority, cu.email, (select array_agg(n.number order by n.number) from customer_numbers n where n.customer_id = cu.id)
	from contacts c
	left join services s on s.id = c.service_id
	left join tickets t on t.id = c.ticket_id
	left join users u on u.id = c.operator_id
	left join topics tp on tp.id = c.topic_id
	left join customers cu on cu.id = c.customer_id `

func scanRecord(row pgx.CollectableRow) (Record, error) {
	var r Record
	var topic, customer *int64
	var topicCode, topicName, code, name, practice, authority, email *string
	var numbers []string
	err := row.Scan(&r.ID, &r.CallID, &r.Channel, &r.Caller, &r.CallerSource, &r.Dialled, &r.Service, &r.Settings, &r.Match, &r.Urgency,
		&r.T0, &r.Ta, &r.Ts, &r.Tq, &r.Tr, &r.Tc, &r.Te, &r.Tw, &r.Tk,
		&r.Ending, &r.NumberTold, &r.RingBack, &r.Direction, &r.Outcome, &r.TicketID, &r.Ticket, &r.Operator, &r.HasRecording, &r.TalkUntil, &r.Legs,
		&topic, &topicCode, &topicName, &customer, &code, &name, &practice, &authority, &email, &numbers)
	if err != nil {
		return r, err
	}
	if topic != nil {
		r.Topic = &Topic{*topic, *topicCode, *topicName}
	}
	if customer != nil {
		r.Customer = &Customer{*customer, *code, *name, *practice, *authority, *email, orEmpty(numbers)}
	}
	r.T0 = r.T0.UTC()
	for _, at := range []**time.Time{&r.Ta, &r.Ts, &r.Tq, &r.Tr, &r.Tc, &r.Te, &r.Tw, &r.Tk, &r.TalkUntil} {
		*at = utc(*at)
	}
	return r, nil
}

func records(ctx context.Context, q querier, where string, args ...any) ([]Record, error) {
	rows, err := q.Query(ctx, recordSelect+where, args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanRecord)
	return orEmpty(list), err
}

// withJournal reads contacts and the journal of each.
func (b *Book) withJournal(ctx context.Context, where string, args ...any) (list []Record, err error) {
	err = pgx.BeginTxFunc(ctx, b.db.Lists, oneInstant, func(tx pgx.Tx) error {
		if list, err = records(ctx, tx, where, args...); err != nil {
			return err
		}
		for i := range list {
			entries, err := journal.OfContact(ctx, tx, list[i].ID)
			if err != nil {
				return err
			}
			list[i].Journal = lines(entries)
		}
		return nil
	})
	return list, err
}

// lines numbers a contact's journal anew: its lines stand in several streams,
// each with a numbering of its own.
func lines(entries []journal.Entry) []Line {
	list := make([]Line, len(entries))
	for i, e := range entries {
		list[i] = Line{Seq: i + 1, At: e.At, Kind: string(e.Kind), Data: e.Data}
	}
	return list
}

// Contacts lists contacts with their journals, newest first.
func (b *Book) Contacts(ctx context.Context, f ContactFilter) ([]Record, error) {
	list, err := b.withJournal(ctx, `where (@call_id = '' or c.call_id = @call_id) and (@caller = '' or c.caller = @caller) and (@ticket::bigint = 0 or c.ticket_id = @ticket)
		order by c.t0 desc, c.id desc limit @limit`,
		pgx.StrictNamedArgs{"call_id": clean(f.CallID), "caller": clean(f.Caller), "ticket": f.Ticket, "limit": pageOf(f.Limit)})
	if err != nil {
		return nil, fmt.Errorf("list contacts: %w", err)
	}
	return list, nil
}

// ContactAlone is one contact without its journal; ErrNotFound.
func (b *Book) ContactAlone(ctx context.Context, id uuid.UUID) (*Record, error) {
	list, err := records(ctx, b.db.Pool, `where c.id = $1`, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("contact %s: %w", id, err)
	}
	return &list[0], nil
}

// ContactOf is one contact with its journal; ErrNotFound.
func (b *Book) ContactOf(ctx context.Context, id uuid.UUID) (*Record, error) {
	list, err := b.withJournal(ctx, `where c.id = $1`, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("contact %s: %w", id, err)
	}
	return &list[0], nil
}

// RingBacks lists the calls to ring back that nobody has taken, oldest first,
// without a limit in time.
func (b *Book) RingBacks(ctx context.Context) ([]Record, error) {
	list, err := records(ctx, b.db.Pool, `where c.ring_back = 'due' order by c.t0, c.id`)
	if err != nil {
		return nil, fmt.Errorf("calls to ring back: %w", err)
	}
	return list, nil
}

// RingBacksDue counts RingBacks.
func (b *Book) RingBacksDue(ctx context.Context) (n int, err error) {
	if err := b.db.Pool.QueryRow(ctx, `select count(*) from contacts where ring_back = 'due'`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count calls to ring back: %w", err)
	}
	return n, nil
}

// TakeRingBack takes a call off that list; *Refusal when somebody was quicker
// or it is not on the list, ErrNotFound.
func (b *Book) TakeRingBack(ctx context.Context, contact uuid.UUID, by int64, at time.Time) (*Record, error) {
	var r Record
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		tag, err := tx.Exec(ctx, `update contacts set ring_back = 'taken', ring_back_by = @by, ring_back_at = @at where id = @contact and ring_back = 'due'`,
			pgx.StrictNamedArgs{"contact": contact, "by": by, "at": at})
		if err != nil {
			return err
		}
		list, err := records(ctx, tx, `where c.id = $1`, contact)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return ErrNotFound
		case tag.RowsAffected() == 0:
			return &Refusal{"ring_back", "La chiamata è già stata presa in carico."}
		}
		r = list[0]
		line := contactLine(contact, uuid.Nil, journal.RungBack, at)
		line.User, line.Ticket = by, r.TicketID
		tx.Wake(topicJournal, line.Stream)
		return journal.Append(ctx, tx, line)
	})
	if err != nil {
		return nil, fmt.Errorf("take call %s: %w", contact, err)
	}
	return &r, nil
}

// CallsToday counts the calls of a number on the day of `at` in Italy, that of
// `at` included; 0 for "".
func (b *Book) CallsToday(ctx context.Context, number string, at time.Time) (n int, err error) {
	if number == "" {
		return 0, nil
	}
	local := at.In(calendar.Rome())
	from := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, calendar.Rome())
	to := time.Date(local.Year(), local.Month(), local.Day()+1, 0, 0, 0, 0, calendar.Rome())
	if err := b.db.Pool.QueryRow(ctx, `select count(*) from contacts where caller = @number and direction = 'inbound' and t0 >= @from and t0 < @to`,
		pgx.StrictNamedArgs{"number": number, "from": from, "to": to}).Scan(&n); err != nil {
		return 0, fmt.Errorf("count calls: %w", err)
	}
	return n, nil
}
