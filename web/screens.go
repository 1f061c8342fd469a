package web

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	popTickets  = 3   // open tickets on a pop: more are not read while it rings
	messagesMax = 200 // of the list of messages
)

// seatView is SEAT: an operator at work as screens show it.
type seatView struct {
	Operator      string         `json:"operator"`
	DisplayName   string         `json:"display_name"`
	Extension     string         `json:"extension"`
	Declared      queue.Declared `json:"declared"`
	Reason        string         `json:"reason"`
	DeclaredAt    time.Time      `json:"declared_at"`
	ForcedBy      string         `json:"forced_by"` // the supervisor who put them into this state; "": they chose it, or the desk did
	Doing         queue.Doing    `json:"doing"`
	DoingAt       time.Time      `json:"doing_at"`
	DoingUntil    *time.Time     `json:"doing_until"`
	ContactID     *uuid.UUID     `json:"contact_id"`
	Ticket        *string        `json:"ticket"`
	CanRing       bool           `json:"can_ring"`
	CannotRingWhy string         `json:"cannot_ring_why"` // Italian; "" when it can
	Topics        []int64        `json:"topics"`          // that they answer
	Version       int64          `json:"version"`
	Active        bool           `json:"active" doc:"false: was let go, and leaves the lists once idle."`
	Talk          queue.Talk     `json:"talk" enum:",held,asking,consulting,conference,advising" doc:"How the talk stands; empty: the two hear each other."`
	TalkAt        *time.Time     `json:"talk_at" doc:"Since when it stands so; null: as long as there is a talk."`
	TalkWhy       string         `json:"talk_why" doc:"Why what was asked of the talk last came to nothing; empty: it did not."`

	Supervision   *supervisionView `json:"supervision" doc:"Who takes part in the talk as a supervisor; null: nobody."`
	SupervisedWhy string           `json:"supervised_why" doc:"Why the talk in which they wanted to take part themselves came to nothing; empty: it did not."`
}

// supervisionView is a supervisor in an operator's talk.
type supervisionView struct {
	Name        string     `json:"name"`
	DisplayName string     `json:"display_name"`
	Part        queue.Part `json:"part"`
	Since       *time.Time `json:"since" doc:"null: their telephone rings."`
}

func (s *Server) seatView(seat *queue.Seat) seatView {
	v := seatView{
		Operator: seat.Operator, DisplayName: seat.DisplayName, Extension: seat.Extension,
		Declared: seat.Declared, Reason: seat.Reason, DeclaredAt: seat.DeclaredAt.UTC(), ForcedBy: seat.ForcedBy,
		Doing: seat.Doing, DoingAt: seat.DoingAt.UTC(), DoingUntil: seat.DoingUntil, Topics: seat.Topics, Version: seat.Version, Active: seat.Active,
		Talk: seat.Talk, TalkAt: seat.TalkAt, TalkWhy: seat.TalkWhy, SupervisedWhy: seat.SupervisesWhy,
	}
	if seat.Supervisor != "" {
		v.Supervision = &supervisionView{Name: seat.Supervisor, DisplayName: seat.SupervisorName, Part: seat.SupervisorPart, Since: seat.SupervisorSince}
	}
	if seat.Contact.Valid {
		v.ContactID = &seat.Contact.UUID
	}
	if seat.Ticket != "" {
		v.Ticket = &seat.Ticket
	}
	v.CanRing, v.CannotRingWhy = s.CanRing(seat.User, seat.Extension)
	return v
}

func (s *Server) seats(ctx context.Context) ([]seatView, error) {
	all, err := s.Queue.Seats(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]seatView, 0, len(all))
	for i := range all {
		views = append(views, s.seatView(&all[i]))
	}
	return views, nil
}

// waitingView is WAITING: a caller in the queue.
type waitingView struct {
	ContactID uuid.UUID      `json:"contact_id"`
	Caller    string         `json:"caller"` // E.164, "" when withheld
	Name      string         `json:"name"`   // of the doctor, when the number is certainly theirs
	Topic     *tickets.Topic `json:"topic"`
	Urgency   int            `json:"urgency"`
	T0        time.Time      `json:"t0"`
	JoinedAt  time.Time      `json:"joined_at"`
	State     string         `json:"state"`
	Callback  bool           `json:"callback"` // has hung up and is to be rung back
	NextAt    *time.Time     `json:"next_at"`  // from when on; null for who is on the line
	Position  int            `json:"position"` // among who waits for the topic, from 1; 0: being offered
	Expected  *int           `json:"expected"` // seconds still to wait, about; nil: not known
}

// callerOf is what a list shows of a contact.
type callerOf struct {
	ID                    uuid.UUID
	Caller, Name, Service string
	Ticket                string
	TopicID               int64
	TopicCode, TopicName  string
}

// callers reads what a list shows of contacts, in one query for the list.
func (s *Server) callers(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]callerOf, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := s.DB.Pool.Query(ctx, `select c.id, c.caller, coalesce(d.name, '') as name, coalesce(s.name, '') as service,
			coalesce(t.number, '') as ticket, coalesce(o.id, 0) as topic_id, coalesce(o.code, '') as topic_code, coalesce(o.name, '') as topic_name
		from contacts c
		left join customers d on d.id = c.customer_id
		left join services s on s.id = c.service_id
		left join tickets t on t.id = c.ticket_id
		left join topics o on o.id = c.topic_id
		where c.id = any(@ids)`, pgx.StrictNamedArgs{"ids": ids})
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[callerOf])
	if err != nil {
		return nil, err
	}
	found := make(map[uuid.UUID]callerOf, len(list))
	for _, c := range list {
		found[c.ID] = c
	}
	return found, nil
}

func (s *Server) waiting(ctx context.Context) ([]waitingView, error) {
	places, err := s.Queue.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	ids, live := make([]uuid.UUID, 0, len(places)), []uuid.UUID{}
	for _, p := range places {
		ids = append(ids, p.Contact)
		if p.State == "waiting" && !p.Callback {
			live = append(live, p.Contact)
		}
	}
	who, err := s.callers(ctx, ids)
	if err != nil {
		return nil, err
	}
	forecasts, err := s.Queue.Forecasts(ctx, s.Now(), live...)
	if err != nil {
		return nil, err
	}
	views := make([]waitingView, 0, len(places))
	for _, p := range places {
		c := who[p.Contact]
		v := waitingView{
			ContactID: p.Contact, Caller: c.Caller, Name: c.Name, Urgency: p.Urgency,
			T0: p.T0.UTC(), JoinedAt: p.JoinedAt.UTC(), State: p.State,
			Callback: p.Callback, NextAt: p.NextAt,
		}
		if f, waits := forecasts[p.Contact]; waits {
			v.Position = f.Position
			if f.Wait >= 0 {
				seconds := int(f.Wait.Seconds())
				v.Expected = &seconds
			}
		}
		if c.TopicID != 0 {
			v.Topic = &tickets.Topic{ID: c.TopicID, Code: c.TopicCode, Name: c.TopicName}
		}
		views = append(views, v)
	}
	return views, nil
}

// popView is POP: who is calling, while it rings, during the talk and while the
// operator wraps up.
type popView struct {
	Offer       *offerView       `json:"offer"` // nil once it is accepted
	Contact     *tickets.Record  `json:"contact" nullable:"false"`
	Match       tickets.Match    `json:"match"`
	OpenTickets []tickets.Ticket `json:"open_tickets"`
	CallsToday  int              `json:"calls_today"`
	Ticket      *tickets.Ticket  `json:"ticket"`

	// Callback is not nil when we ring: contact is the first one while the
	// operator's telephone rings, and the attempt from then on.
	Callback *tickets.Callback `json:"callback"`
}

type offerView struct {
	ID        uuid.UUID `json:"id"`
	OfferedAt time.Time `json:"offered_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// pop builds the screen-pop of a seat's contact; nil when the seat has none. It
// stands between the queue's decision and the operator's screen, so it reads
// only what the pop shows.
func (s *Server) pop(ctx context.Context, seat *queue.Seat) (*popView, error) {
	if seat == nil || !seat.Contact.Valid || seat.Doing == queue.Idle {
		return nil, nil
	}
	v := &popView{OpenTickets: []tickets.Ticket{}}
	if seat.Doing == queue.Offered && seat.Offer.Valid && seat.DoingUntil != nil {
		v.Offer = &offerView{ID: seat.Offer.UUID, OfferedAt: seat.DoingAt.UTC(), ExpiresAt: seat.DoingUntil.UTC()}
	}
	var err error
	if v.Contact, err = s.pops.ContactAlone(ctx, seat.Contact.UUID); err != nil {
		return nil, err
	}
	if v.Callback, err = s.pops.CallbackOf(ctx, seat.Contact.UUID, s.Now()); err != nil {
		return nil, err
	}
	if v.Match, err = s.pops.MatchOf(ctx, v.Contact.Caller); err != nil {
		return nil, err
	}
	asker := tickets.Asker{Number: v.Contact.Caller}
	for _, c := range v.Match.Customers {
		asker.Customers = append(asker.Customers, c.ID)
	}
	if v.Contact.TicketID != 0 {
		if v.Ticket, err = s.pops.TicketByID(ctx, v.Contact.TicketID); err != nil {
			return nil, err
		}
		asker.Except = v.Ticket.Number
	}
	if asker.Number != "" || len(asker.Customers) > 0 {
		found, err := s.pops.OpenTicketsOf(ctx, asker, popTickets)
		if err != nil {
			return nil, err
		}
		v.OpenTickets = append(v.OpenTickets, found...)
	}
	if v.CallsToday, err = s.pops.CallsToday(ctx, v.Contact.Caller, s.Now()); err != nil {
		return nil, err
	}
	return v, nil
}

// messageView is MESSAGE.
type messageView struct {
	ID         uuid.UUID `json:"id"`
	ContactID  uuid.UUID `json:"contact_id"`
	Ticket     *string   `json:"ticket"`
	Caller     string    `json:"caller"`
	Name       string    `json:"name"`
	Service    string    `json:"service"`
	ReceivedAt time.Time `json:"received_at"`
	LengthMS   int       `json:"length_ms"`
	SoundMS    int       `json:"sound_ms"`
	State      string    `json:"state"`
	TakenBy    string    `json:"taken_by"`
}

func (s *Server) messages(ctx context.Context, f recordings.Filter) ([]messageView, error) {
	list, err := s.recorded(ctx, f)
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, 0, len(list))
	for _, m := range list {
		ids = append(ids, m.ContactID)
	}
	who, err := s.callers(ctx, ids)
	if err != nil {
		return nil, err
	}
	views := make([]messageView, 0, len(list))
	for _, m := range list {
		c := who[m.ContactID]
		v := messageView{
			ID: m.ID, ContactID: m.ContactID, Caller: c.Caller, Name: c.Name, Service: c.Service,
			ReceivedAt: m.StartedAt.UTC(), LengthMS: m.LengthMS, SoundMS: m.SoundMS, State: m.State, TakenBy: m.TakenBy,
		}
		if c.Ticket != "" {
			v.Ticket = &c.Ticket
		}
		views = append(views, v)
	}
	return views, nil
}

// recorded lists messages. New ones are those that wait for somebody: a breath
// before a hang-up is none, its ticket is closed already.
func (s *Server) recorded(ctx context.Context, f recordings.Filter) ([]recordings.Message, error) {
	list, err := s.Archive.Messages(ctx, f)
	if f.State == messageNew {
		list = slices.DeleteFunc(list, func(m recordings.Message) bool {
			return time.Duration(m.SoundMS)*time.Millisecond < tickets.ShortestMessage
		})
	}
	return list, err
}

const messageNew = "new"

// messagesNew counts the messages that nobody has taken or heard.
func (s *Server) messagesNew(ctx context.Context) (int, error) {
	list, err := s.recorded(ctx, recordings.Filter{State: messageNew, Limit: messagesMax})
	return len(list), err
}

// state is STATE: everything a console page starts from.
type state struct {
	Me           User          `json:"me"`
	Seat         *seatView     `json:"seat"` // nil for somebody who never sat
	Operators    []seatView    `json:"operators"`
	Waiting      []waitingView `json:"waiting"`
	Pop          *popView      `json:"pop"`
	MessagesNew  int           `json:"messages_new"`
	RingbacksDue int           `json:"ringbacks_due"`

	CallbacksOpen int    `json:"callbacks_open"`
	CanDial       bool   `json:"can_dial"`
	CannotDialWhy string `json:"cannot_dial_why"` // Italian; "" when it can

	CanTransferOut bool `json:"can_transfer_out" doc:"One may give a caller to a number of one's own choice."`
	CanSupervise   bool `json:"can_supervise" doc:"One may take part in operators' talks, of some service at least."`

	Emergency emergencyView `json:"emergency"`

	Now time.Time `json:"now"`
}

func (s *Server) state(ctx context.Context, u User) (*state, error) {
	st := &state{Me: u, Now: s.Now().UTC()}
	seat, err := s.Queue.Seat(ctx, u.ID)
	switch {
	case err == nil:
		v := s.seatView(seat)
		st.Seat = &v
		if st.Pop, err = s.pop(ctx, seat); err != nil {
			return nil, err
		}
	case !errors.Is(err, queue.ErrNoSeat):
		return nil, err
	}
	if st.Operators, err = s.seats(ctx); err != nil {
		return nil, err
	}
	if st.Waiting, err = s.waiting(ctx); err != nil {
		return nil, err
	}
	if st.MessagesNew, err = s.messagesNew(ctx); err != nil {
		return nil, err
	}
	if st.RingbacksDue, err = s.Book.RingBacksDue(ctx); err != nil {
		return nil, err
	}
	if st.CallbacksOpen, err = s.Book.CallbacksOpen(ctx); err != nil {
		return nil, err
	}
	emergency, err := s.Book.EmergencyNow(ctx, st.Now)
	if err != nil {
		return nil, err
	}
	st.Emergency = viewOfEmergency(emergency)
	if st.CanDial = s.Queue.Dials(); !st.CanDial {
		st.CannotDialWhy = noLine
	}
	st.CanTransferOut, _ = s.mayDial(u)
	st.CanSupervise = u.Role.supervises() && s.Book.Supervises(ctx)
	return st, nil
}
