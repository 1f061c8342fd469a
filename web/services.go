package web

import (
	"context"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/tickets"
)

// servicesAPI is how supervisors set the desk's services up: a draft is written,
// checked and published, and holds for the next call without a restart.
func (s *Server) servicesAPI(a *operations) {
	provide(a, operation{at: "GET /services", id: "listServices", does: "All services as they are now.", by: supervisors},
		func(ctx context.Context, _ User, _ *nothing) (list[tickets.Overview], error) {
			return listed(s.Book.Overviews(ctx, s.Now()))
		})
	provide(a, operation{at: "POST /services", id: "addService", does: "Begins a service: it has a draft and cannot be dialled before that is published.", by: supervisors, scope: Manage}, s.postService)
	provide(a, operation{at: "GET /services/{id}", id: "getService", does: "A service with its versions, the newest first.", by: supervisors},
		func(ctx context.Context, _ User, in *ServicePath) (servicePage, error) {
			return s.servicePage(ctx, in.ID)
		})
	provide(a, operation{at: "PUT /services/{id}/draft", id: "putDraft", does: "Writes the draft, whatever is wrong with it; 409 when somebody else was quicker.", by: supervisors, scope: Manage}, s.putDraft)
	provide(a, operation{at: "DELETE /services/{id}/draft", id: "discardDraft", does: "Throws the draft away.", by: supervisors, scope: Manage},
		func(ctx context.Context, me User, in *discardInput) (nothing, error) {
			return nothing{}, s.Book.Discard(ctx, in.ID, in.Revision, me.ID, s.Now())
		})
	provide(a, operation{at: "POST /services/{id}/check", id: "checkDraft", does: "Lists what is wrong with the draft; warnings do not forbid to publish.", by: supervisors, scope: Manage},
		func(ctx context.Context, _ User, in *ServicePath) (list[tickets.Fault], error) {
			return listed(s.Book.Check(ctx, in.ID, s.Now()))
		})
	provide(a, operation{at: "POST /services/{id}/publish", id: "publishDraft", does: "Publishes the draft from its date, or at once; 422 with the faults while any stand.", by: supervisors, scope: Manage},
		func(ctx context.Context, me User, in *publishInput) (*tickets.Version, error) {
			return s.Book.Publish(ctx, in.ID, in.Body.Revision, me.ID, s.Now(), func(ctx context.Context, tx *db.Tx) error {
				return s.Queue.Unsupervised(ctx, tx, in.ID, s.Now())
			})
		})

	provide(a, operation{at: "GET /emergency", id: "getEmergency", does: "The announcement that every caller hears instead of a menu."},
		func(ctx context.Context, _ User, _ *nothing) (emergencyView, error) { return s.emergency(ctx) })
	provide(a, operation{at: "PUT /emergency", id: "beginEmergency", does: "Puts the emergency announcement on, or another in its place.", by: supervisors}, s.putEmergency)
	provide(a, operation{at: "DELETE /emergency", id: "endEmergency", does: "Takes the emergency announcement off.", by: supervisors},
		func(ctx context.Context, me User, _ *nothing) (nothing, error) {
			return nothing{}, s.Book.EndEmergency(ctx, me.ID, s.Now())
		})
}

// ServicePath is the input of an operation on a service.
type ServicePath struct {
	ID int64 `path:"id" minimum:"1"`
}

// servicePage is a service as its page shows it.
type servicePage struct {
	ID       int64             `json:"id"`
	Versions []tickets.Version `json:"versions"`
}

func (s *Server) servicePage(ctx context.Context, id int64) (servicePage, error) {
	versions, err := s.Book.Versions(ctx, id, s.Now())
	return servicePage{ID: id, Versions: versions}, err
}

type serviceInput struct {
	Body struct {
		Settings  tickets.Settings `json:"settings"`
		ValidFrom *time.Time       `json:"valid_from" doc:"From when it holds once it is published; null: from then on."`
	}
}

func (s *Server) postService(ctx context.Context, me User, in *serviceInput) (servicePage, error) {
	id, err := s.Book.NewService(ctx, tickets.Draft{Settings: in.Body.Settings, ValidFrom: in.Body.ValidFrom}, me.ID, s.Now())
	if err != nil {
		return servicePage{}, err
	}
	return s.servicePage(ctx, id)
}

type draftInput struct {
	ServicePath
	Body struct {
		Settings  tickets.Settings `json:"settings"`
		ValidFrom *time.Time       `json:"valid_from" doc:"From when it holds once it is published; null: from then on."`
		Revision  int64            `json:"revision" minimum:"0" doc:"Of the draft that this replaces; 0 when there is none."`
	}
}

func (s *Server) putDraft(ctx context.Context, me User, in *draftInput) (*tickets.Version, error) {
	d := tickets.Draft{Settings: in.Body.Settings, ValidFrom: in.Body.ValidFrom, Revision: in.Body.Revision}
	return s.Book.PutDraft(ctx, in.ID, d, me.ID, s.Now())
}

type discardInput struct {
	ServicePath
	Revision int64 `query:"revision" minimum:"1" required:"true" doc:"Of the draft that was read."`
}

type publishInput struct {
	ServicePath
	Body struct {
		Revision int64 `json:"revision" minimum:"1" doc:"Of the draft that was read."`
	}
}

// emergencyView is the emergency announcement; all is null while it is off.
type emergencyView struct {
	Active bool       `json:"active"`
	Clip   string     `json:"clip"` // the prompt's name; "": the one that comes with the program
	Since  *time.Time `json:"since"`
	Until  *time.Time `json:"until"` // null: until somebody takes it off
}

func (s *Server) emergency(ctx context.Context) (emergencyView, error) {
	e, err := s.Book.Emergency(ctx, s.Now())
	return viewOfEmergency(e), err
}

func viewOfEmergency(e tickets.Emergency) emergencyView {
	if !e.Active {
		return emergencyView{}
	}
	since := e.Since.UTC()
	v := emergencyView{Active: true, Clip: e.Clip, Since: &since}
	if !e.Until.IsZero() {
		until := e.Until.UTC()
		v.Until = &until
	}
	return v
}

type emergencyInput struct {
	Body struct {
		Clip  string     `json:"clip,omitempty" maxLength:"64" doc:"A prompt's name; left out: the one that comes with the program."`
		Until *time.Time `json:"until,omitempty" doc:"When it ends by itself; left out: when somebody takes it off."`
	}
}

func (s *Server) putEmergency(ctx context.Context, me User, in *emergencyInput) (emergencyView, error) {
	var until time.Time
	if in.Body.Until != nil {
		until = *in.Body.Until
	}
	if err := s.Book.BeginEmergency(ctx, in.Body.Clip, until, me.ID, s.Now()); err != nil {
		return emergencyView{}, err
	}
	return s.emergency(ctx)
}
