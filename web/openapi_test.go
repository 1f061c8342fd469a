package web

import (
	"flag"
	"net/http"
	"os"
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
