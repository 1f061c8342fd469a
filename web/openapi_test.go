package web

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

var renew = flag.Bool("renew", false, "write openapi.json anew from the code")

// TestDescriptionIsCommitted: who reads the tree finds the API as it is, and the
// console's types are made from this file.
func TestDescriptionIsCommitted(t *testing.T) {
	got, err := New(Config{}).described()
	must(t, err)
	if *renew {
		must(t, os.WriteFile("openapi.json", got, 0o644)) //nolint:gosec // for everybody to read
		return
	}
	want, err := os.ReadFile("openapi.json")
	must(t, err)
	if string(got) != string(want) {
		t.Error("web/openapi.json is not what the code gives; renew it with: make api")
	}
}

func TestDescriptionIsServed(t *testing.T) {
	d := newDesk(t)
	stranger := &person{d: d, header: http.Header{}}
	doc := decoded[struct {
		OpenAPI string
		Servers []struct{ URL string }
		Paths   map[string]map[string]struct{ OperationID string }
	}](t, stranger.get("/api/openapi.json").want(t, http.StatusOK).body)
	if doc.OpenAPI != "3.1.0" || len(doc.Servers) != 1 || doc.Servers[0].URL != "/api/v1" || doc.Paths["/tickets/{number}/take"]["post"].OperationID != "takeTicket" {
		t.Errorf("the description is %+v", doc)
	}
	if r := stranger.get("/docs"); strings.Contains(r.body, "://") {
		t.Errorf("a page of huma's is served: %s", r.body)
	}
}

// TestNobodyIsCountedByOperator: lists, filters and figures of talks by who had them
// are remote monitoring of workers: they stay away until the agreement that allows
// them is on record (art. 4 of law 300/1970; docs/decisions/0045). There are none.
// Who adds one adds the agreement to the settings, holds it back without, and says so here.
func TestNobodyIsCountedByOperator(t *testing.T) {
	harmless := strings.Fields("call_id cursor customer from in limit original q revision state status text to version")
	people := []string{
		"GET /tickets owner",   // a ticket is a matter: whose it is now, to share the work out; no talk, no time
		"GET /listenings name", // who listened, not who was heard: it protects whoever was recorded
	}
	raw, err := New(Config{}).described()
	must(t, err)
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
			Responses  json.RawMessage
		}
		Components struct{ Schemas map[string]json.RawMessage }
	}
	must(t, json.Unmarshal(raw, &doc))
	figures := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			for _, p := range op.Parameters {
				at := strings.ToUpper(method) + " " + path + " " + p.Name
				if p.In == "query" && !slices.Contains(harmless, p.Name) && !slices.Contains(people, at) {
					t.Errorf("%s: does it choose by operator?", at)
				}
			}
			if !strings.Contains(path, "figures") {
				continue
			}
			figures++
			text := string(op.Responses)
			for seen := map[string]bool{}; ; { // and all that it refers to
				grown := false
				for name, schema := range doc.Components.Schemas {
					if !seen[name] && strings.Contains(text, `/schemas/`+name+`"`) {
						seen[name], grown, text = true, true, text+string(schema)
					}
				}
				if !grown {
					break
				}
			}
			for _, name := range []string{"operator", "operators", "owner", "user", "users", "by", "display_name", "extension", "seat"} {
				if strings.Contains(text, `"`+name+`":`) {
					t.Errorf("%s %s tells %q", method, path, name)
				}
			}
		}
	}
	if figures == 0 {
		t.Error("there are no figures to look at")
	}
}
