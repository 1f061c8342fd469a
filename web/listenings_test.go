package web

import (
	"net/http"
	"testing"
	"time"
)

// TestListeningsOfAll: who listened to which recording, the latest first, by person
// and by day in Rome, in pages; for supervisors only.
func TestListeningsOfAll(t *testing.T) {
	d := newDesk(t)
	anna, carla := d.bearer("anna"), d.browser("carla")
	const at = "/api/v1/listenings"
	anna.get(at).problem(t, http.StatusForbidden)
	read := func(query string) listeningsPage {
		t.Helper()
		return decoded[listeningsPage](t, carla.get(at+query).want(t, http.StatusOK).body)
	}
	if p := read(""); p.Items == nil || len(p.Items) != 0 || p.Next != nil || len(p.People) < 3 {
		t.Errorf("at first: %+v", p)
	}
	first, second := d.message("+390551234567", 4*time.Second), d.message("", 4*time.Second)
	sound := func(c string) string { return "/api/v1/contacts/" + c + "/recording" }
	anna.get(sound(first.ID.String())).want(t, http.StatusOK)
	d.pass(12 * time.Hour) // noon in UTC becomes one o'clock of the next day in Rome
	bruno := d.bearer("bruno")
	carla = d.browser("carla")
	bruno.get(sound(first.ID.String())).want(t, http.StatusOK)
	d.pass(time.Minute)
	bruno.get(sound(second.ID.String())).want(t, http.StatusOK)

	all := read("")
	if len(all.Items) != 3 || all.Items[0].Name != "bruno" || all.Items[0].ContactID != second.ID || all.Items[0].Caller != "" || all.Items[0].Ticket == nil ||
		all.Items[2].Name != "anna" || all.Items[2].Customer != "Mario Rossi" || all.Items[2].Handled || all.Items[2].At.Sub(noon) > time.Minute {
		t.Errorf("all: %+v", all.Items)
	}
	for query, want := range map[string]int{
		"?name=bruno": 2, "?name=nessuno": 0, "?from=2026-03-03": 2, "?to=2026-03-02": 1, "?from=2026-03-02&to=2026-03-03&name=anna": 1, "?from=2026-03-04": 0,
	} {
		if p := read(query); len(p.Items) != want {
			t.Errorf("%s: %d listenings", query, len(p.Items))
		}
	}
	page := read("?limit=2")
	if len(page.Items) != 2 || page.Next == nil {
		t.Fatalf("a page of two: %+v", page)
	}
	if rest := read("?limit=2&cursor=" + *page.Next); len(rest.Items) != 1 || rest.Items[0].Name != "anna" || rest.Next != nil {
		t.Errorf("the next page: %+v", rest)
	}
	for query, field := range map[string]string{"?from=2026-02-30": "from", "?to=ieri": "to", "?from=2026-03-03&to=2026-03-02": "to", "?cursor=x": "cursor"} {
		if p := carla.get(at+query).problem(t, http.StatusUnprocessableEntity); p.Field != field {
			t.Errorf("%s: %+v", query, p)
		}
	}
}
