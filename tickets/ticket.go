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

// Person is somebody who signs in, as other people's screens show them.
type Person struct {
	Name        string `json:"name"`
	DisplayName string `json:"display_name"`
}

// Ticket is a customer's matter.
type Ticket struct {
	ID              int64      `json:"-"`
	Number          string     `json:"number"` // "2026-123"
	Status          Status     `json:"status"`
	Subject         string     `json:"subject"`
	Description     string     `json:"description"`
	CallType        string     `json:"call_type"` // code of CallTypes
	Topic           *Topic     `json:"topic"`
	Urgency         int        `json:"urgency"`
	FaultType       string     `json:"fault_type"` // bloccante, non_bloccante or ""
	Channel         Channel    `json:"channel"`
	Customer        *Customer  `json:"customer"`
	RequesterName   string     `json:"requester_name"`
	RequesterNumber string     `json:"requester_number"`
	Practice        string     `json:"practice"`
	Authority       string     `json:"authority"`
	Outcome         string     `json:"outcome"` // code of Outcomes, senza_messaggio, or "" while it is open
	Solution        string     `json:"solution"`
	Owner           *Person    `json:"owner"`
	OwnerID         int64      `json:"-"` // 0: nobody
	ReceivedAt      time.Time  `json:"received_at"`
	OpenedAt        time.Time  `json:"opened_at"`
	TakenAt         *time.Time `json:"taken_at"`
	ClosedAt        *time.Time `json:"closed_at"`
	ClosedBy        *Person    `json:"closed_by"`
	Version         int64      `json:"version"`
}

// ticketSelect reads whole tickets; a where clause follows.
const ticketSelect = `select t.id, t.number, t.status, t.subject, t.description, t.call_type, t.urgency, t.fault_type, t.channel,
	t.requester_name, t.requester_number, t.practice, t.authority, t.outcome, t.solution, coalesce(t.owner_id, 0),
	t.received_at, t.opened_at, t.taken_at, t.closed_at, t.version,
	tp.id, tp.code, tp.name, o.name, o.display_name, cb.name, cb.display_name,
	c.id, c.code, c.name, c.practice, c.authority, c.email, (select array_agg(n.number order by n.number) from customer_numbers n where n.customer_id = c.id)
	from tickets t
	left join topics tp on tp.id = t.topic_id
	left join users o on o.id = t.owner_id
	left join users cb on cb.id = t.closed_by
	left join customers c on c.id = t.customer_id `

func scanTicket(row pgx.CollectableRow) (Ticket, error) {
	var t Ticket
	var topic, customer *int64
	var topicCode, topicName, owner, ownerShown, closer, closerShown *string
	var code, name, practice, authority, email *string
	var numbers []string
	err := row.Scan(&t.ID, &t.Number, &t.Status, &t.Subject, &t.Description, &t.CallType, &t.Urgency, &t.FaultType, &t.Channel,
		&t.RequesterName, &t.RequesterNumber, &t.Practice, &t.Authority, &t.Outcome, &t.Solution, &t.OwnerID,
		&t.ReceivedAt, &t.OpenedAt, &t.TakenAt, &t.ClosedAt, &t.Version,
		&topic, &topicCode, &topicName, &owner, &ownerShown, &closer, &closerShown,
		&customer, &code, &name, &practice, &authority, &email, &numbers)
	if err != nil {
		return t, err
	}
	if topic != nil {
		t.Topic = &Topic{*topic, *topicCode, *topicName}
	}
	if owner != nil {
		t.Owner = &Person{*owner, *ownerShown}
	}
	if closer != nil {
		t.ClosedBy = &Person{*closer, *closerShown}
	}
	if customer != nil {
		t.Customer = &Customer{*customer, *code, *name, *practice, *authority, *email, orEmpty(numbers)}
	}
	t.ReceivedAt, t.OpenedAt, t.TakenAt, t.ClosedAt = t.ReceivedAt.UTC(), t.OpenedAt.UTC(), utc(t.TakenAt), utc(t.ClosedAt)
	return t, nil
}

// utc is t as the API writes it.
func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// orEmpty makes a missing list an empty one: JSON [] and not null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func collectTickets(ctx context.Context, q querier, where string, args ...any) ([]Ticket, error) {
	rows, err := q.Query(ctx, ticketSelect+where, args...)
	if err != nil {
		return nil, err
	}
	tickets, err := pgx.CollectRows(rows, scanTicket)
	return orEmpty(tickets), err
}

func oneTicket(ctx context.Context, q querier, where string, args ...any) (*Ticket, error) {
	tickets, err := collectTickets(ctx, q, where, args...)
	switch {
	case err != nil:
		return nil, err
	case len(tickets) == 0:
		return nil, ErrNotFound
	}
	return &tickets[0], nil
}

func ticketByID(ctx context.Context, q querier, id int64) (*Ticket, error) {
	return oneTicket(ctx, q, `where t.id = $1`, id)
}

func ticketByNumber(ctx context.Context, q querier, number string) (*Ticket, error) {
	return oneTicket(ctx, q, `where t.number = $1`, number)
}

// leaveTicket reads a ticket with the next round of a transaction.
func leaveTicket(tx *db.Tx, id int64, into **Ticket) {
	var b pgx.Batch
	b.Queue(ticketSelect+`where t.id = $1`, id).Query(func(rows pgx.Rows) error {
		t, err := pgx.CollectExactlyOneRow(rows, scanTicket)
		*into = &t
		return err
	})
	tx.Later(&b, found)
}

// lockTicket holds a ticket until the transaction ends: changes come one after
// the other.
func lockTicket(ctx context.Context, tx *db.Tx, number string) (*Ticket, error) {
	return oneTicket(ctx, tx, `where t.number = $1 for update of t`, number)
}

// What a ticket is called before anybody has written a subject.
const (
	subjectMessage = "Messaggio in segreteria"
	subjectCall    = "Richiesta telefonica"
)

// faultTypes are the words of C3 for the two urgencies.
var faultTypes = map[int]string{Blocking: "bloccante", NotBlocking: "non_bloccante"}

// insertTicket takes the next number of the year and gives it to a row. The
// counter's row is locked from here to the end of the transaction: so there are
// no gaps, and so little may come between. The row's id was drawn before, and can
// be named at once.
const insertTicket = `with counter as (
	insert into ticket_counters (year, last) values (@year, 1)
	on conflict (year) do update set last = ticket_counters.last + 1 returning last
) insert into tickets (id, year, serial, status, channel, service_id, topic_id, urgency, call_type, subject, fault_type,
	customer_id, requester_name, requester_number, practice, authority, received_at, opened_at)
overriding system value
select @id, @year, last, 'open', @channel, @service, @topic, @urgency, @call_type, @subject, @fault_type,
	@customer, @requester_name, @requester_number, @practice, @authority, @received, @opened from counter`

// openTicket gives a contact its ticket and returns the ticket's id; the one it
// has, if it has one. The row comes with the next round of the transaction.
func openTicket(ctx context.Context, tx *db.Tx, contact uuid.UUID, m Matter) (int64, error) {
	var (
		ticket, service, customer, topic  *int64
		id                                *int64
		ending, name, practice, authority *string
		topicName                         *string
		caller                            string
		urgency                           *int
		t0                                time.Time
	)
	err := tx.QueryRow(ctx, `select c.ticket_id, c.ending, c.service_id, c.caller, c.t0, c.urgency, cu.id, cu.name, cu.practice, cu.authority, tp.id, tp.name,
		case when c.ticket_id is null and c.ending is null then nextval('tickets_id_seq') end
		from contacts c
		left join customers cu on cu.id = c.customer_id
		left join topics tp on tp.id = coalesce(nullif(@topic::bigint, 0), c.topic_id)
		where c.id = @contact for update of c`, pgx.StrictNamedArgs{"contact": contact, "topic": m.Topic}).
		Scan(&ticket, &ending, &service, &caller, &t0, &urgency, &customer, &name, &practice, &authority, &topic, &topicName, &id)
	switch {
	case err != nil:
		return 0, found(err)
	case ticket != nil:
		return *ticket, leaveEntry(ctx, tx, contact, m, ticket)
	case ending != nil:
		return 0, ErrEnded
	case m.Topic != 0 && topic == nil:
		return 0, fmt.Errorf("topic %d: %w", m.Topic, ErrNotFound)
	}
	if m.Urgency == 0 && urgency != nil {
		m.Urgency = *urgency
	}
	if m.Urgency != Blocking {
		m.Urgency = NotBlocking
	}
	if m.Channel == "" {
		m.Channel = Phone
	}
	if m.Kind == "" {
		m.Kind = CallTypes()[0].Code
	}
	subject := subjectCall
	switch {
	case m.Channel == Voicemail:
		subject = subjectMessage
	case topicName != nil:
		subject = *topicName
	}
	var batch pgx.Batch
	batch.Queue(insertTicket, pgx.StrictNamedArgs{
		"id": *id, "year": t0.In(calendar.Rome()).Year(), "channel": m.Channel, "service": service, "topic": topic, "urgency": m.Urgency,
		"call_type": m.Kind, "subject": subject, "fault_type": faultTypes[m.Urgency],
		"customer": customer, "requester_name": deref(name), "requester_number": caller, "practice": deref(practice), "authority": deref(authority),
		"received": t0, "opened": m.At,
	})
	var queued, chosen *time.Time
	if m.Queued {
		queued = &m.At
	}
	if m.choice != nil {
		chosen = &m.choice.At
		line := m.choice.line(nil)
		tx.Wake(line.Stream)
		if err := journal.Append(ctx, tx, line); err != nil {
			return 0, err
		}
	}
	batch.Queue(`update contacts set ticket_id = @ticket, tq = coalesce(tq, @tq), ts = coalesce(ts, @ts),
		topic_id = case when @ts is null then coalesce(topic_id, @topic) else @topic end,
		urgency = case when @ts is null then coalesce(urgency, @urgency) else @urgency end where id = @contact`, pgx.StrictNamedArgs{
		"ticket": *id, "topic": topic, "urgency": m.Urgency, "tq": queued, "ts": chosen, "contact": contact,
	})
	tx.Later(&batch, nil)
	return *id, note(ctx, tx, *id, journal.Opened, contact, 0, m.At, nil)
}

// leaveEntry leaves Tq and what the caller chose for the next round of a transaction by
// which the contact has no new ticket; ticket is the one it had before, nil: none.
func leaveEntry(ctx context.Context, tx *db.Tx, contact uuid.UUID, m Matter, ticket *int64) error {
	var b pgx.Batch
	if m.Queued {
		b.Queue(`update contacts set tq = coalesce(tq, @at) where id = @contact`, pgx.StrictNamedArgs{"contact": contact, "at": m.At})
	}
	if m.choice != nil {
		b.Queue(stepSQL(stepRow+aloneRow, m.choice), stepArgs(m.choice))
	}
	tx.Later(&b, nil)
	if m.choice == nil {
		return nil
	}
	line := m.choice.line(ticket)
	tx.Wake(topicJournal, line.Stream)
	return journal.Append(ctx, tx, line)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// note appends a line to a ticket's stream and wakes who looks at it. contact
// may be uuid.Nil, user 0.
func note(ctx context.Context, tx *db.Tx, ticket int64, kind journal.Kind, contact uuid.UUID, user int64, at time.Time, data map[string]any) error {
	stream := journal.TicketStream(ticket)
	tx.Wake(topicJournal, stream)
	return journal.Append(ctx, tx, journal.Line{
		Stream: stream, At: at, Kind: kind, Ticket: ticket, User: user, Data: data,
		Contact: uuid.NullUUID{UUID: contact, Valid: contact != uuid.Nil},
	})
}
