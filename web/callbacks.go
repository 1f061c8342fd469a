package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
)

// noLine is what operators read while nobody can be rung back.
const noLine = "Nessuna linea in uscita configurata."

// figuresLongest is the longest period that figures are counted for: a year and
// a day.
const figuresLongest = 367 * 24 * time.Hour

// callbackReasons say why nobody is rung back now, to the operator who wanted to.
var callbackReasons = map[error]string{
	queue.ErrNoLine:    noLine,
	queue.ErrSeatOff:   "Non sei in servizio: dichiara prima il tuo stato.",
	queue.ErrSeatBusy:  "Hai già una chiamata: richiama quando è finita.",
	queue.ErrTalking:   "È già al telefono con noi, oppure un collega sta richiamando.",
	queue.ErrBooked:    "La richiamata è già prenotata.",
	queue.ErrNoNumber:  "Non c'è un numero da richiamare: chi ha chiamato lo nascondeva.",
	queue.ErrNotBooked: "La richiamata è già conclusa.",
}

// callbackReason is the sentence for an error of ringing back, "" for others.
func callbackReason(err error) string {
	for is, reason := range callbackReasons {
		if errors.Is(err, is) {
			return reason
		}
	}
	return ""
}

// callView is a ringing back that has begun: the operator's telephone rings.
type callView struct {
	Offer uuid.UUID `json:"offer"`
}

func (s *Server) callbacksAPI(a *operations) {
	provide(a, operation{at: "POST /ringbacks/{id}/call", id: "callRingBack", does: "Rings a lost call back at once: one's own telephone first, then the caller."},
		func(ctx context.Context, me User, in *IDPath) (*callView, error) {
			e, err := s.lost(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return s.call(ctx, me, e)
		})
	provide(a, operation{at: "POST /ringbacks/{id}/book", id: "bookRingBack", does: "Gives a lost call its place in the queue again: whoever is free rings back."},
		func(ctx context.Context, me User, in *IDPath) (nothing, error) {
			e, err := s.lost(ctx, in.ID)
			if err != nil {
				return nothing{}, err
			}
			if err := s.Plan.Allows(e.Number); err != nil {
				return nothing{}, err
			}
			e.By = me.ID
			return nothing{}, s.DB.Tx(ctx, func(tx *db.Tx) error { return s.Queue.BookCallback(ctx, tx, e) })
		})
	provide(a, operation{at: "POST /messages/{id}/call", id: "callMessage", does: "Rings back at once who left a message."},
		func(ctx context.Context, me User, in *IDPath) (*callView, error) {
			contact, taken, err := s.Archive.Whose(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if taken != 0 && taken != me.ID {
				return nil, recordings.ErrTaken
			}
			r, err := s.Book.ContactAlone(ctx, contact)
			if err != nil {
				return nil, err
			}
			return s.call(ctx, me, s.callbackTo(ctx, r, queue.FromMessage))
		})
	provide(a, operation{at: "POST /tickets/{number}/call", id: "callTicket", does: "Rings the requester of a ticket back at once."},
		func(ctx context.Context, me User, in *TicketPath) (*callView, error) {
			contact, number, err := s.Book.WhomToCall(ctx, in.Number)
			if err != nil {
				return nil, err
			}
			r, err := s.Book.ContactAlone(ctx, contact)
			if err != nil {
				return nil, err
			}
			e := s.callbackTo(ctx, r, queue.FromTicket)
			if number != "" {
				e.Number = number
			}
			return s.call(ctx, me, e)
		})
	provide(a, operation{at: "GET /callbacks", id: "listCallbacks", does: "Who is to be rung back, with each attempt and its outcome; as long as they are, also whose attempt it was."},
		func(ctx context.Context, _ User, in *callbacksInput) (list[tickets.Callback], error) {
			all, err := s.Book.Callbacks(ctx, tickets.CallbackFilter{Open: in.State != "all", From: in.From, To: in.To, Limit: in.Limit}, s.Now())
			for _, c := range all {
				if c.Outcome != nil { // who has tried matters to whoever tries next; later it would be a figure of theirs (unnamed)
					for i := range c.Attempts {
						c.Attempts[i].By = ""
					}
				}
			}
			return listed(all, err)
		})
	provide(a, operation{at: "POST /callbacks/{id}/cancel", id: "cancelCallback", does: "Takes a callback back: the matter is settled otherwise."},
		func(ctx context.Context, me User, in *IDPath) (nothing, error) {
			return nothing{}, s.Queue.CancelCallback(ctx, in.ID, me.ID, s.Now())
		})
	provide(a, operation{at: "GET /callbacks/figures", id: "countCallbacks", does: "Callbacks of a period: booked, attempted, reached, first attempt within one working hour.", by: supervisors},
		func(ctx context.Context, _ User, in *periodInput) (*tickets.CallbackFigures, error) {
			if !in.From.Before(in.To) || in.To.Sub(in.From) > figuresLongest {
				return nil, &tickets.Refusal{Field: "to", Reason: "Il periodo finisce dopo il suo inizio e dura al massimo un anno."}
			}
			return s.Book.CallbackFigures(ctx, in.From, in.To, s.Now())
		})
	provide(a, operation{at: "GET /attempt-outcomes", id: "listAttemptOutcomes", does: "What can come of ringing somebody back."},
		func(context.Context, User, *nothing) (list[tickets.Code], error) {
			return items(tickets.AttemptOutcomes()), nil
		})
}

type callbacksInput struct {
	State string    `query:"state" enum:"open,all" doc:"open: those that are not over (the default)"`
	From  time.Time `query:"from" doc:"asked for from this instant on"`
	To    time.Time `query:"to" doc:"asked for before this instant"`
	Limit int       `query:"limit" minimum:"1" maximum:"200"`
}

type periodInput struct {
	From time.Time `query:"from" required:"true"`
	To   time.Time `query:"to" required:"true"`
}

// lost is a call of the list of calls to ring back.
func (s *Server) lost(ctx context.Context, contact uuid.UUID) (e queue.CallbackEntry, err error) {
	r, err := s.Book.ContactAlone(ctx, contact)
	if err != nil {
		return e, err
	}
	if r.RingBack == nil || *r.RingBack != "due" {
		return e, &tickets.Refusal{Field: "ring_back", Reason: "La chiamata è già stata presa in carico."}
	}
	return s.callbackTo(ctx, r, queue.FromLost), nil
}

// callbackTo is what the queue needs to know of somebody who is to be rung back.
// They wait since their own call ended; about a ticket since now.
func (s *Server) callbackTo(ctx context.Context, r *tickets.Record, from queue.Origin) queue.CallbackEntry {
	e := queue.CallbackEntry{Contact: r.ID, Origin: from, Number: r.Caller, Asked: s.Now(), At: s.Now()}
	if r.Te != nil && from != queue.FromTicket {
		e.Asked = *r.Te
	}
	if service, err := s.Book.ServiceAt(ctx, r.Dialled, r.T0); err == nil { // without one the queue chooses a topic
		e.Topic = service.DefaultTopic().ID
	}
	return e
}

// call rings one's own telephone, and then the customer.
func (s *Server) call(ctx context.Context, me User, e queue.CallbackEntry) (*callView, error) {
	if !s.Queue.Dials() {
		return nil, queue.ErrNoLine
	}
	if err := s.Plan.Allows(e.Number); err != nil {
		return nil, err
	}
	if rings, why := s.CanRing(me.ID, me.Extension); !rings {
		return nil, problemf(http.StatusConflict, "%s", why)
	}
	offer, err := s.Queue.RingBackNow(ctx, me.ID, e)
	if err != nil {
		return nil, err
	}
	return &callView{Offer: offer}, nil
}
