package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/tickets"
)

// topicsAPI is how supervisors say whom a topic's callers may be offered while
// they wait.
func (s *Server) topicsAPI(a *operations) {
	provide(a, operation{at: "GET /topics/routes", id: "listRoutes", does: "All topics: who may be offered their callers, and when.", by: supervisors},
		func(ctx context.Context, _ User, _ *nothing) (list[topicRouteView], error) {
			return listed(s.topicRoutes(ctx))
		})
	provide(a, operation{at: "PUT /topics/{code}/route", id: "setRoute", does: "Changes a topic's route; 409 when somebody else was quicker.", by: supervisors, scope: Manage}, s.putRoute)
}

// routeView is how the demands of a topic relax while a caller waits.
type routeView struct {
	Second   int    `json:"second" minimum:"0" maximum:"86400" doc:"Seconds of waiting after which operators of level 2 may have the caller."`
	Third    int    `json:"third" minimum:"0" maximum:"86400" doc:"Seconds after which those of level 3 may; not less than second."`
	Overflow string `json:"overflow" maxLength:"100" doc:"Code of the topic whose operators help out; empty: nobody does."`
	After    int    `json:"after" minimum:"0" maximum:"86400" doc:"Seconds after which they do."`
}

func (v routeView) route(topic string) queue.Route {
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	return queue.Route{Topic: topic, Second: seconds(v.Second), Third: seconds(v.Third), Overflow: v.Overflow, After: seconds(v.After)}
}

// topicRouteView is a topic as its row shows it.
type topicRouteView struct {
	ID    int64     `json:"id"`
	Code  string    `json:"code"`
	Name  string    `json:"name"`
	Route routeView `json:"route"`
	Knows []int     `json:"knows" doc:"How many people know it at level 1, 2 and 3."`
}

func (s *Server) topicRoutes(ctx context.Context) ([]topicRouteView, error) {
	all, err := s.Queue.TopicRoutes(ctx)
	views := make([]topicRouteView, 0, len(all))
	for _, t := range all {
		r := t.Route
		views = append(views, topicRouteView{
			ID: t.ID, Code: r.Topic, Name: t.Name, Knows: t.Knows[:],
			Route: routeView{Second: int(r.Second / time.Second), Third: int(r.Third / time.Second), Overflow: r.Overflow, After: int(r.After / time.Second)},
		})
	}
	return views, err
}

type routeInput struct {
	Code string `path:"code" maxLength:"100"`
	Body struct {
		Base  routeView `json:"base" doc:"The route that was read."`
		Route routeView `json:"route" doc:"As it shall be."`
	}
}

func (s *Server) putRoute(ctx context.Context, me User, in *routeInput) (nothing, error) {
	was := in.Body.Base.route(in.Code)
	err := s.Queue.SetRoute(ctx, &was, in.Body.Route.route(in.Code), me.ID, s.Now())
	var wrong *queue.RouteError
	switch {
	case errors.Is(err, queue.ErrRouteChanged):
		return nothing{}, problemf(http.StatusConflict, "L'argomento è stato modificato nel frattempo: nulla è stato salvato.")
	case errors.As(err, &wrong) && wrong.Field == "topic":
		return nothing{}, errNotFound
	case errors.As(err, &wrong):
		return nothing{}, &tickets.Refusal{Field: wrong.Field, Reason: routeReasons[wrong.Field]}
	}
	return nothing{}, err
}

// routeReasons are why a route is refused, by its field.
var routeReasons = map[string]string{
	"second":   "L'attesa va da 0 a 86400 secondi.",
	"third":    "Il livello 3 non può entrare prima del livello 2.",
	"after":    "L'attesa va da 0 a 86400 secondi.",
	"overflow": "Il trabocco va a un altro argomento, che esista.",
}
