package web

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/tickets/outbox"
)

func TestWebhooksByTheAPI(t *testing.T) {
	d := newDesk(t)
	anna, carla := d.bearer("anna"), d.bearer("carla")
	const at = "/api/v1/webhooks"
	want := map[string]any{"url": "https://example.org/ganci", "events": []string{"ticket.opened"}}
	anna.ask(http.MethodPost, at, want).problem(t, http.StatusForbidden)
	anna.get(at).problem(t, http.StatusForbidden)
	made := decoded[newWebhook](t, carla.ask(http.MethodPost, at, want).want(t, http.StatusOK).body)
	if !strings.HasPrefix(made.Secret, "whsec_") || made.URL != "https://example.org/ganci" {
		t.Fatalf("the new webhook is %+v", made.Webhook)
	}
	listed := carla.get(at).want(t, http.StatusOK).body
	if all := decoded[list[outbox.Webhook]](t, listed).Items; len(all) != 1 || all[0].ID != made.ID || strings.Contains(listed, "whsec_") {
		t.Errorf("the list is %s", listed)
	}
	if tag, ok := reflect.TypeFor[webhookInput]().FieldByName("Body"); ok {
		if events, _ := tag.Type.FieldByName("Events"); events.Tag.Get("enum") != strings.Join(outbox.Events(), ",") {
			t.Errorf("the API describes the events as %s", events.Tag.Get("enum"))
		}
	}
	for field, bad := range map[string]map[string]any{
		"url": {"url": "http://example.org/", "events": []string{"ticket.opened"}}, "events[0]": {"url": "https://example.org/", "events": []string{"ticket.segreto"}},
	} {
		if p := carla.ask(http.MethodPost, at, bad).problem(t, http.StatusUnprocessableEntity); p.Field != field || strings.Contains(p.Detail, "segreto") {
			t.Errorf("%v is refused with %+v", bad, p)
		}
	}
	if p := carla.ask(http.MethodPost, at, map[string]any{"url": "https://example.org/", "events": []string{}}).problem(t, http.StatusUnprocessableEntity); p.Detail != "Almeno una voce." {
		t.Errorf("no event is refused with %+v", p)
	}
	hook := at + "/" + made.ID.String()
	carla.ask(http.MethodPost, hook+"/disable", nil).want(t, http.StatusNoContent)
	if h := decoded[list[outbox.Webhook]](t, carla.get(at).body).Items[0]; h.DisabledAt == nil || h.DisabledWhy != "Da una persona." {
		t.Errorf("disabled by hand it is %+v", h)
	}
	carla.ask(http.MethodPost, hook+"/enable", nil).want(t, http.StatusNoContent)
	if h := decoded[list[outbox.Webhook]](t, carla.get(at).body).Items[0]; h.DisabledAt != nil || h.DisabledWhy != "" {
		t.Errorf("enabled again it is %+v", h)
	}
	carla.ask(http.MethodPost, at+"/"+uuid.NewString()+"/disable", nil).problem(t, http.StatusNotFound)
	carla.ask(http.MethodDelete, hook, nil).want(t, http.StatusNoContent)
	carla.ask(http.MethodDelete, hook, nil).problem(t, http.StatusNotFound)
	carla.ask(http.MethodPost, at+"/"+uuid.NewString()+"/enable", nil).problem(t, http.StatusNotFound)
}

// TestATicketIsToldToAWebhook goes from what the desk does to what a receiver
// hears.
func TestATicketIsToldToAWebhook(t *testing.T) {
	heard := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 1000)
		n, _ := r.Body.Read(body)
		heard <- string(body[:n])
	}))
	defer receiver.Close()
	d := newDesk(t)
	carla := d.bearer("carla")
	carla.ask(http.MethodPost, "/api/v1/webhooks", map[string]any{"url": receiver.URL, "events": []string{"ticket.taken", "ticket.closed"}}).problem(t, http.StatusUnprocessableEntity)
	open, err := outbox.New(outbox.Config{DB: d.DB, Now: d.now, Log: d.Log, AllowPrivate: true})
	must(t, err)
	d.Webhooks = open
	carla.ask(http.MethodPost, "/api/v1/webhooks", map[string]any{"url": receiver.URL, "events": []string{"ticket.taken", "ticket.closed"}}).want(t, http.StatusOK)
	d.alongside(open.Run)
	at := "/api/v1/tickets/" + d.rings("+390551234567").ticket.Number
	carla.ask(http.MethodPost, at+"/take", nil).want(t, http.StatusOK)
	carla.ask(http.MethodPost, at+"/close", map[string]string{"outcome": "risolto", "solution": "Riavviato"}).want(t, http.StatusOK)
	told := ""
	for range 2 {
		told += within(t, heard)
	}
	for _, want := range []string{`"ticket.taken"`, `"ticket.closed"`, `"ticket":"2026-1"`, `"user":"carla"`} {
		if !strings.Contains(told, want) {
			t.Errorf("%s was not told: %s", want, told)
		}
	}
	if strings.Contains(told, "Rossi") || strings.Contains(told, "Riavviato") {
		t.Errorf("names or texts were told: %s", told)
	}
}
