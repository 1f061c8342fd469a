package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/tickets"
)

const eveningService = `{"settings": {"name": "Assistenza serale", "numbers": ["848 000 111"],
	"hours": {"always": false, "open_holidays": false, "patron": "", "week": [{"weekday": 1, "opens": "18:00", "closes": "22:00"}], "exceptional": []},
	"menu": [{"key": "1", "action": "", "topic": "%s", "default": true}], "mobiles_refused": false, "recording_notice": false,
	"max_wait": 0, "nobody_wait": 0, "at_closing": "", "announce_every": 0, "callback_offered": null,
	"duty": {"numbers": [], "from": "", "to": ""}}, "valid_from": null}`

func TestServiceIsSetUp(t *testing.T) {
	d := newDesk(t)
	carla := d.bearer("carla")
	body := fmt.Sprintf(eveningService, d.topic.Code)
	page := decoded[servicePage](t, carla.ask(http.MethodPost, "/api/v1/services", body).want(t, http.StatusOK).body)
	at := fmt.Sprintf("/api/v1/services/%d", page.ID)
	if len(page.Versions) != 1 || page.Versions[0].State != tickets.VersionDraft || page.Versions[0].Revision != 1 || page.Versions[0].MadeBy.Name != "carla" {
		t.Fatalf("the new service: %+v", page)
	}
	carla.ask(http.MethodPost, "/api/v1/services", body).problem(t, http.StatusUnprocessableEntity) // the number is another's now

	settings := page.Versions[0].Settings
	settings.Menu = []tickets.MenuSetting{}
	draft := map[string]any{"settings": settings, "valid_from": nil, "revision": 1}
	if v := decoded[tickets.Version](t, carla.ask(http.MethodPut, at+"/draft", draft).want(t, http.StatusOK).body); v.Revision != 2 {
		t.Errorf("the draft: %+v", v)
	}
	carla.ask(http.MethodPut, at+"/draft", draft).problem(t, http.StatusConflict) // revision 1 was read by somebody else, too
	faults := decoded[list[tickets.Fault]](t, carla.ask(http.MethodPost, at+"/check", nil).want(t, http.StatusOK).body).Items
	if len(faults) != 1 || faults[0].Field != "menu" || faults[0].Place != "Menu" || faults[0].Reason == "" || faults[0].Warning {
		t.Errorf("the faults: %+v", faults)
	}
	var refusal struct {
		Faults []tickets.Fault
	}
	answer := carla.ask(http.MethodPost, at+"/publish", map[string]int{"revision": 2})
	answer.problem(t, http.StatusUnprocessableEntity)
	must(t, json.Unmarshal([]byte(answer.body), &refusal))
	if len(refusal.Faults) != 1 {
		t.Errorf("publish says %s", answer.body)
	}
	draft["settings"], draft["revision"], draft["valid_from"] = page.Versions[0].Settings, 2, d.now().Add(10*time.Minute)
	carla.ask(http.MethodPut, at+"/draft", draft).want(t, http.StatusOK)
	carla.ask(http.MethodPost, at+"/publish", map[string]int{"revision": 2}).problem(t, http.StatusConflict)
	screen, _ := d.browser("carla").open()
	v := decoded[tickets.Version](t, carla.ask(http.MethodPost, at+"/publish", map[string]int{"revision": 3}).want(t, http.StatusOK).body)
	if v.State != tickets.VersionPublished || v.InForce || v.PublishedBy.Name != "carla" {
		t.Errorf("published: %+v", v)
	}
	screen.event("services") // lists of services are read again
	d.pass(20 * time.Minute)
	if page := decoded[servicePage](t, carla.get(at).want(t, http.StatusOK).body); !page.Versions[0].InForce {
		t.Errorf("twenty minutes later: %+v", page)
	}
	list := decoded[list[tickets.Overview]](t, carla.get("/api/v1/services").want(t, http.StatusOK).body).Items
	if len(list) != 2 || list[1].Name != "Assistenza serale" || list[1].Version != 1 || list[1].HasDraft || len(list[1].Numbers) != 1 || list[1].Numbers[0] != "848000111" {
		t.Errorf("the services: %+v", list)
	}

	draft["revision"], draft["valid_from"] = 0, nil
	carla.ask(http.MethodPut, at+"/draft", draft).want(t, http.StatusOK)
	carla.ask(http.MethodDelete, at+"/draft", nil).problem(t, http.StatusUnprocessableEntity) // which one was read?
	carla.ask(http.MethodDelete, at+"/draft?revision=1", nil).want(t, http.StatusNoContent)
	carla.ask(http.MethodPost, at+"/check", nil).problem(t, http.StatusConflict)

	for _, path := range []string{"/api/v1/services/999", "/api/v1/services/x", "/api/v1/services/0"} {
		carla.get(path).problem(t, http.StatusNotFound)
	}
	for body, want := range map[string]int{
		`{"settings":{"nome":"x"}}`:        http.StatusBadRequest,
		`{"settings":{"name":7}}`:          http.StatusBadRequest,
		`{"settings":{"name":"x"}}`:        http.StatusUnprocessableEntity,
		`{"settings":null}`:                http.StatusUnprocessableEntity,
		`{"settings":{"name":"\u0000"}}`:   http.StatusUnprocessableEntity,
		`{"settings":{},"valid_from":"x"}`: http.StatusBadRequest,
	} {
		carla.ask(http.MethodPost, "/api/v1/services", body).problem(t, want)
	}
}

func TestOnlySupervisorsSetUp(t *testing.T) {
	d := newDesk(t)
	anna := d.bearer("anna")
	for _, at := range []string{
		"GET /services", "POST /services", "GET /services/1", "PUT /services/1/draft", "DELETE /services/1/draft?revision=1",
		"POST /services/1/check", "POST /services/1/publish", "PUT /emergency", "DELETE /emergency",
	} {
		method, path, _ := strings.Cut(at, " ")
		anna.ask(method, "/api/v1"+path, "{}").problem(t, http.StatusForbidden)
	}
}

func TestEmergencyIsPutOnAndTakenOff(t *testing.T) {
	d := newDesk(t)
	carla, anna := d.bearer("carla"), d.bearer("anna")
	page, first := d.browser("anna").open()
	if first.State.Emergency.Active {
		t.Errorf("a page begins with %+v", first.State.Emergency)
	}
	told := func(active bool) {
		t.Helper()
		if e := decoded[emergencyView](t, string(page.event("emergency").Data)); e.Active != active {
			t.Errorf("an operator's page was told %+v, want %v", e, active)
		}
	}
	const at = "/api/v1/emergency"
	if e := decoded[emergencyView](t, anna.get(at).want(t, http.StatusOK).body); e.Active || e.Since != nil {
		t.Errorf("at first: %+v", e)
	}
	until := d.now().Add(10 * time.Minute)
	if p := carla.ask(http.MethodPut, at, map[string]any{"clip": "guasto_fse"}).problem(t, http.StatusUnprocessableEntity); p.Field != "clip" {
		t.Errorf("a clip that does not exist: %+v", p)
	}
	carla.sound("/api/v1/prompts/guasto_fse?text=Il+fascicolo+%C3%A8+fermo.", tone(2)).want(t, http.StatusOK)
	carla.ask(http.MethodPut, at, map[string]any{"clip": "guasto_fse", "until": until}).want(t, http.StatusOK)
	told(true)
	if _, later := d.browser("bruno").open(); !later.State.Emergency.Active || later.State.Emergency.Clip != "guasto_fse" {
		t.Errorf("a page that opens meanwhile begins with %+v", later.State.Emergency)
	}
	if e := decoded[emergencyView](t, anna.get(at).want(t, http.StatusOK).body); !e.Active || e.Clip != "guasto_fse" || e.Until == nil || !e.Until.Equal(until) {
		t.Errorf("on: %+v", e) // operators see it too
	}
	carla.ask(http.MethodPut, at, map[string]any{"until": d.now()}).problem(t, http.StatusUnprocessableEntity)
	if e := decoded[emergencyView](t, carla.ask(http.MethodPut, at, map[string]any{}).want(t, http.StatusOK).body); !e.Active || e.Clip != "" || e.Until != nil {
		t.Errorf("another in its place: %+v", e)
	}
	told(true)
	d.pass(time.Minute)
	carla.ask(http.MethodDelete, at, nil).want(t, http.StatusNoContent)
	told(false)
	carla.ask(http.MethodDelete, at, nil).problem(t, http.StatusConflict)
	if e := decoded[emergencyView](t, anna.get(at).want(t, http.StatusOK).body); e.Active {
		t.Errorf("off: %+v", e)
	}
}
