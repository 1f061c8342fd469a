package web

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
)

// talkReasons say why a talk does not do what its operator wants.
var talkReasons = map[error]string{
	queue.ErrNotTalking: "Non sei in conversazione.",
	queue.ErrNotNow:     "La chiamata nel frattempo è cambiata: guarda com'è adesso e riprova.",
	queue.ErrNotFree:    "In questo momento la persona scelta non può rispondere: scegline un'altra.",

	queue.ErrSupervised:     "Un altro supervisore partecipa già a questa conversazione.",
	queue.ErrSupervises:     "Partecipi già a una conversazione: lasciala prima di sceglierne un'altra.",
	queue.ErrNotSupervising: "Non partecipi più a nessuna conversazione: è finita, o l'hai lasciata.",
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
	provide(a, operation{at: "POST /talk", id: "commandTalk", does: "Asks something of the talk that one is in: hold, resume, transfer to a colleague, a topic or a number, consult a colleague or a number first and then complete, take back or confer. How it stands then is an event of the seat."}, s.postTalk)
	provide(a, operation{at: "GET /talk/recording", id: "getTaping", does: "Whether the talk that one is in is recorded, and whether that is paused."},
		func(ctx context.Context, me User, _ *nothing) (recordings.Taping, error) {
			return s.Archive.TapingOf(ctx, me.ID)
		})
	provide(a, operation{at: "POST /talk/recording", id: "pauseTaping", does: "Pauses the recording of the talk that one is in, for the whole call, or lets it go on."}, s.postTaping)
}

type talkInput struct {
	Body struct {
		Wish     queue.Wish `json:"wish" enum:"hold,resume,transfer,consult,complete,take_back,conference" wants:"Si può chiedere: hold, resume, transfer, consult, complete, take_back, conference."`
		Operator string     `json:"operator,omitempty" maxLength:"32" doc:"A colleague's name."`
		Topic    string     `json:"topic,omitempty" maxLength:"64" doc:"A topic's code; nobody is consulted so."`
		Number   string     `json:"number,omitempty" maxLength:"32" doc:"Somebody outside, for who may dial."`
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
	return nothing{}, s.wish(ctx, me, in, false)
}

// wish is postTalk; telephone: who is consulted is talked to in a second call of the
// operator's telephone.
func (s *Server) wish(ctx context.Context, me User, in *talkInput, telephone bool) error {
	c := queue.Command{Wish: in.Body.Wish, Telephone: telephone}
	if c.Wish == queue.Transfer || c.Wish == queue.Consult {
		to, err := s.target(ctx, me, in)
		if err != nil {
			return err
		}
		c.Target = to
	}
	return s.Queue.Command(ctx, me.ID, c, s.Now())
}

// target is whom a caller is to be given to.
func (s *Server) target(ctx context.Context, me User, in *talkInput) (to queue.Target, err error) {
	named := 0
	for _, name := range []string{in.Body.Operator, in.Body.Topic, in.Body.Number} {
		if name != "" {
			named++
		}
	}
	switch {
	case named != 1:
		return to, refused("operator", "Scegli a chi trasferire: una persona, un argomento oppure un numero.")
	case in.Body.Topic != "" && in.Body.Wish == queue.Consult:
		return to, refused("topic", "Un argomento non si può consultare: trasferisci subito, oppure scegli una persona.")
	case in.Body.Number != "":
		return s.outside(me, in.Body.Number)
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

// outside is a number that a caller is given to, for who may dial one of their own
// choice.
func (s *Server) outside(me User, number string) (to queue.Target, err error) {
	if may, why := s.mayDial(me); !may {
		return to, problemf(http.StatusForbidden, "%s", why)
	}
	if err := s.Plan.Allows(number); err != nil {
		return to, err
	}
	return queue.Target{Number: tickets.Normalise(number)}, nil
}

// mayDial says whether somebody may give callers to numbers outside, and if not, why.
func (s *Server) mayDial(u User) (bool, string) {
	switch {
	case !s.Queue.Dials():
		return false, noLine
	case slices.Contains(s.DialsFreely, u.Role):
		return true, ""
	}
	return false, "Non ti è permesso trasferire a numeri esterni."
}
