package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
)

// talkReasons say why a talk does not do what its operator wants.
var talkReasons = map[error]string{
	queue.ErrNotTalking: "Non sei in conversazione.",
	queue.ErrNotNow:     "La chiamata nel frattempo è cambiata: guarda com'è adesso e riprova.",
	queue.ErrNotFree:    "In questo momento la persona scelta non può rispondere: scegline un'altra.",
	queue.ErrOutgoing:   "Una chiamata fatta da te non si può trasferire.",
}

// talkReason is the sentence for an error of a talk, "" for others.
func talkReason(err error) string {
	for is, reason := range talkReasons {
		if errors.Is(err, is) {
			return reason
		}
	}
	return ""
}

func (s *Server) talkAPI(a *operations) {
	provide(a, operation{at: "POST /talk", id: "commandTalk", does: "Asks something of the talk that one is in: hold, resume, transfer to a colleague or a topic. How it stands then is an event of the seat."}, s.postTalk)
	provide(a, operation{at: "GET /talk/recording", id: "getTaping", does: "Whether the talk that one is in is recorded, and whether that is paused."},
		func(ctx context.Context, me User, _ *nothing) (recordings.Taping, error) {
			return s.Archive.TapingOf(ctx, me.ID)
		})
	provide(a, operation{at: "POST /talk/recording", id: "pauseTaping", does: "Pauses the recording of the talk that one is in, for the whole call, or lets it go on."}, s.postTaping)
}

type talkInput struct {
	Body struct {
		Wish     queue.Wish `json:"wish" enum:"hold,resume,transfer" wants:"Si può chiedere: hold, resume, transfer."`
		Operator string     `json:"operator,omitempty" maxLength:"32" doc:"A colleague's name."`
		Topic    string     `json:"topic,omitempty" maxLength:"64" doc:"A topic's code."`
	}
}

type tapingInput struct {
	Body struct {
		Paused bool `json:"paused"`
	}
}

func (s *Server) postTaping(ctx context.Context, me User, in *tapingInput) (recordings.Taping, error) {
	err := s.Archive.Pause(ctx, me.ID, in.Body.Paused, s.Now())
	if errors.Is(err, recordings.ErrNotTaped) {
		return recordings.Taping{}, problemf(http.StatusConflict, "Di questa conversazione non c'è una registrazione in corso.")
	}
	return recordings.Taping{Recorded: true, Paused: in.Body.Paused}, err
}

// postTalk puts a wish into the inbox of one's own talk; nobody asks for another.
func (s *Server) postTalk(ctx context.Context, me User, in *talkInput) (nothing, error) {
	c := queue.Command{Wish: in.Body.Wish}
	if c.Wish == queue.Transfer {
		to, err := s.target(ctx, in)
		if err != nil {
			return nothing{}, err
		}
		c.Target = to
	}
	return nothing{}, s.Queue.Command(ctx, me.ID, c, s.Now())
}

// target is whom a caller is to be given to.
func (s *Server) target(ctx context.Context, in *talkInput) (to queue.Target, err error) {
	switch {
	case (in.Body.Operator == "") == (in.Body.Topic == ""):
		return to, refused("operator", "Scegli a chi trasferire: una persona oppure un argomento.")
	case in.Body.Operator != "":
		u, err := s.users.ByName(ctx, in.Body.Operator)
		if errors.Is(err, ErrNoUser) {
			return to, refused("operator", "Non c'è nessun operatore con questo nome.")
		}
		if err != nil {
			return to, err
		}
		if rings, why := s.CanRing(u.ID, u.Extension); !rings {
			return to, problemf(http.StatusConflict, "%s", why)
		}
		return queue.Target{Operator: u.ID}, nil
	}
	topics, err := s.Book.Topics(ctx)
	if err != nil {
		return to, err
	}
	for _, t := range topics {
		if t.Code == in.Body.Topic {
			return queue.Target{Topic: t.ID}, nil
		}
	}
	return to, &tickets.Refusal{Field: "topic", Reason: "Non c'è nessun argomento con questo codice."}
}
