package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/pronto-desk/pronto/queue"
)

// supervisionAPI is how supervisors take part in operators' talks, where the service
// allows it. Each takes part in one at most, so it has no name.
func (s *Server) supervisionAPI(a *operations) {
	provide(a, operation{at: "POST /supervision", id: "supervise", does: "Asks to take part in an operator's talk: one's telephone rings, and once it is lifted one hears the two, and is heard by the operator (whisper) or by both (barge). How it stands is an event of the operator's seat.", by: supervisors}, s.postSupervision)
	provide(a, operation{at: "PUT /supervision", id: "superviseAs", does: "Changes one's part in the talk.", by: supervisors},
		func(ctx context.Context, me User, in *partInput) (nothing, error) {
			return nothing{}, s.Queue.SuperviseAs(ctx, me.ID, in.Body.Part, s.Now())
		})
	provide(a, operation{at: "DELETE /supervision", id: "stopSupervising", does: "Leaves the talk; one's telephone is hung up.", by: supervisors},
		func(ctx context.Context, me User, _ *nothing) (nothing, error) {
			return nothing{}, s.Queue.StopSupervising(ctx, me.ID, s.Now())
		})
}

type partInput struct {
	Body struct {
		Part queue.Part `json:"part" enum:"listen,whisper,barge" wants:"Si può chiedere: listen, whisper, barge."`
	}
}

type supervisionInput struct {
	Body struct {
		Operator string     `json:"operator" maxLength:"32" doc:"Whose talk, by their name."`
		Part     queue.Part `json:"part" enum:"listen,whisper,barge" wants:"Si può chiedere: listen, whisper, barge."`
	}
}

func (s *Server) postSupervision(ctx context.Context, me User, in *supervisionInput) (nothing, error) {
	u, err := s.users.ByName(ctx, in.Body.Operator)
	if errors.Is(err, ErrNoUser) {
		return nothing{}, refused("operator", "Non c'è nessun operatore con questo nome.")
	}
	if err != nil {
		return nothing{}, err
	}
	if rings, why := s.CanRing(me.ID, me.Extension); !rings {
		return nothing{}, problemf(http.StatusConflict, "%s", why)
	}
	seat, err := s.Queue.Seat(ctx, u.ID)
	if err != nil {
		return nothing{}, err
	}
	if seat.Doing != queue.Talking {
		return nothing{}, problemf(http.StatusConflict, "%s non è in conversazione.", u.DisplayName)
	}
	may, err := s.Book.Supervisable(ctx, seat.Contact.UUID, s.Now())
	switch {
	case err != nil:
		return nothing{}, err
	case !may:
		return nothing{}, problemf(http.StatusConflict, "Per il servizio di questa chiamata l'ascolto non è attivo: si attiva nelle impostazioni del servizio, con l'accordo che lo permette.")
	}
	err = s.Queue.Supervise(ctx, me.ID, seat.Offer.UUID, in.Body.Part, s.Now())
	switch {
	case errors.Is(err, queue.ErrNotTalking):
		return nothing{}, problemf(http.StatusConflict, "%s non è più in conversazione.", u.DisplayName)
	case errors.Is(err, queue.ErrSeatBusy):
		return nothing{}, problemf(http.StatusConflict, "Hai una chiamata: ascolta quando è finita.")
	case errors.Is(err, queue.ErrNotNow):
		return nothing{}, problemf(http.StatusConflict, "La chiamata è in attesa, o %s consulta qualcuno: riprova quando si parlano.", u.DisplayName)
	}
	return nothing{}, err
}
