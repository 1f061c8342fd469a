package web

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/pronto-desk/pronto/tickets"
)

// TestRegisterByTheAPI: a file with bad lines lists them all and imports
// nothing; operators edit, supervisors import, merge and remove.
func TestRegisterByTheAPI(t *testing.T) {
	d := newDesk(t)
	anna, carla := d.browser("anna"), d.browser("carla")
	const at = "/api/v1/customers"
	const header = "codice,nome,ambulatorio,azienda,email,numeri\n"
	bad := header + "9001,,,,,\n9002,Bene,,,,055 9999999\n9003,Male,,,,112\n"
	send := func(p *person, path, file string) reply { return p.send(t, at+path, "text/csv", file) }

	send(anna, "/import", bad).problem(t, http.StatusForbidden)
	if p := decoded[tickets.Preview](t, send(carla, "/import/preview", bad).want(t, http.StatusOK).body); len(p.Bad) != 2 || p.Bad[0].Line != 2 || p.Bad[1].Line != 4 {
		t.Errorf("the preview is %+v", p)
	}
	refusal := decoded[problem](t, send(carla, "/import", bad).want(t, http.StatusUnprocessableEntity).body)
	if len(refusal.Lines) != 2 || refusal.Field != "file" {
		t.Errorf("the refusal is %+v", refusal)
	}
	if found := decoded[tickets.Page[tickets.Customer]](t, anna.get(at+"?q=bene").want(t, http.StatusOK).body); len(found.Items) != 0 {
		t.Errorf("imported: %+v", found.Items)
	}
	for _, path := range []string{"/import", "/import/preview"} {
		if p := send(carla, path, "").problem(t, http.StatusUnprocessableEntity); p.Field != "file" || p.Detail != "Il file è vuoto." {
			t.Errorf("%s of an empty file: %+v", path, p)
		}
	}
	send(carla, "/import", "\xff\xfe").want(t, http.StatusUnprocessableEntity)
	if p := send(carla, "/import", strings.Repeat("x", tickets.ImportBytes+1)).problem(t, http.StatusRequestEntityTooLarge); p.Detail != "Il corpo della richiesta supera 10 MB." {
		t.Errorf("a file too large is refused with %q", p.Detail)
	}
	good := header + "9002,Bene,,,,055 9999999\n9004,Doppio,,,,\n"
	if done := decoded[tickets.Imported](t, send(carla, "/import", good).want(t, http.StatusOK).body); done.Created != 2 {
		t.Errorf("imported %+v", done)
	}

	found := decoded[tickets.Found](t, anna.get("/api/v1/search?q=9999999").want(t, http.StatusOK).body)
	if len(found.Numbers.Items) != 1 || len(found.People.Items) != 1 {
		t.Fatalf("found %+v", found)
	}
	one := at + "/" + strconv.FormatInt(found.People.Items[0].ID, 10)
	set := func(from, to string) map[string]any {
		return map[string]any{"base": map[string]any{"name": from}, "set": map[string]any{"name": to}}
	}
	anna.ask(http.MethodPatch, one, set("Bene", "Bene Assai")).want(t, http.StatusOK)
	if p := decoded[problem](t, carla.ask(http.MethodPatch, one, set("Bene", "Altro")).want(t, http.StatusConflict).body); p.Conflicts["name"] == nil {
		t.Errorf("the conflict is %+v", p)
	}
	kept := decoded[tickets.RegisterEntry](t, anna.get(one).want(t, http.StatusOK).body)
	other := decoded[tickets.Page[tickets.Customer]](t, anna.get(at+"?q=9004").want(t, http.StatusOK).body).Items[0]
	merge := map[string]any{"version": kept.Version, "gone": other.ID, "gone_version": 1}
	anna.ask(http.MethodPost, one+"/merge", merge).problem(t, http.StatusForbidden)
	carla.ask(http.MethodPost, one+"/merge", merge).want(t, http.StatusOK)
	carla.ask(http.MethodPost, one+"/merge", merge).problem(t, http.StatusNotFound)
	carla.ask(http.MethodDelete, one+"?version=1", nil).problem(t, http.StatusConflict)
	carla.ask(http.MethodDelete, one+"?version="+strconv.FormatInt(kept.Version+1, 10), nil).want(t, http.StatusNoContent)
	anna.get(one).problem(t, http.StatusNotFound)
}

// send posts a body of another kind than JSON.
func (p *person) send(t *testing.T, path, kind, body string) reply {
	t.Helper()
	p.header.Set("Content-Type", kind)
	defer p.header.Del("Content-Type")
	return p.ask(http.MethodPost, path, body)
}
