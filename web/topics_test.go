package web

import (
	"net/http"
	"slices"
	"testing"
)

func TestTopicsAreRouted(t *testing.T) {
	d := newDesk(t)
	carla := d.bearer("carla")
	other, err := d.Book.PutTopic(t.Context(), "carta", "Smart card")
	must(t, err)
	at := "/api/v1/topics/" + d.topic.Code + "/route"
	read := func() topicRouteView {
		t.Helper()
		all := decoded[list[topicRouteView]](t, carla.get("/api/v1/topics/routes").want(t, http.StatusOK).body).Items
		return all[slices.IndexFunc(all, func(x topicRouteView) bool { return x.Code == d.topic.Code })]
	}
	first := read()
	if first.Name != d.topic.Name || first.Route != (routeView{}) || len(first.Knows) != 3 || first.Knows[0] == 0 {
		t.Errorf("at first: %+v", first)
	}
	page, _ := d.browser("carla").open()
	full := routeView{Second: 30, Third: 60, Overflow: other.Code, After: 120}
	carla.ask(http.MethodPut, at, map[string]any{"base": routeView{}, "route": full}).want(t, http.StatusNoContent)
	page.event("services") // a colleague's list is read again
	if now := read(); now.Route != full {
		t.Errorf("routed: %+v", now)
	}
	if by := one[int64](d, `select (user_id) from journal where kind = 'routed'`); by != d.user("carla").ID {
		t.Errorf("the journal says that %d did it", by)
	}

	carla.ask(http.MethodPut, at, map[string]any{"base": routeView{}, "route": routeView{}}).problem(t, http.StatusConflict) // read by somebody else, too
	for field, r := range map[string]routeView{
		"third":    {Second: 60, Third: 30},
		"second":   {Second: -1},
		"after":    {After: 86401},
		"overflow": {Overflow: d.topic.Code},
	} {
		p := carla.ask(http.MethodPut, at, map[string]any{"base": full, "route": r}).problem(t, http.StatusUnprocessableEntity)
		if got := p.Field; got != field && got != "route."+field {
			t.Errorf("%s: the problem names %q", field, got)
		}
	}
	carla.ask(http.MethodPut, at, map[string]any{"base": full, "route": routeView{Overflow: "giardinaggio"}}).problem(t, http.StatusUnprocessableEntity)
	carla.ask(http.MethodPut, "/api/v1/topics/giardinaggio/route", map[string]any{"base": full, "route": full}).problem(t, http.StatusNotFound)
	if now := read(); now.Route != full {
		t.Errorf("after all refusals: %+v", now)
	}
	anna := d.bearer("anna")
	anna.get("/api/v1/topics/routes").problem(t, http.StatusForbidden)
	anna.ask(http.MethodPut, at, map[string]any{"base": full, "route": full}).problem(t, http.StatusForbidden)
}
