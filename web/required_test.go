package web

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// form is a schema as far as a body is made from it.
type form struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Enum       []any
	Minimum    float64
	Required   []string
	Properties map[string]*form
	Items      *form
}

// bodies are made from the description as a client would.
type bodies struct{ Schemas map[string]*form }

func (b bodies) at(f *form) *form {
	for f.Ref != "" {
		f = b.Schemas[f.Ref[strings.LastIndex(f.Ref, "/")+1:]]
	}
	return f
}

func (f *form) takesNull() bool {
	all, _ := f.Type.([]any)
	return slices.Contains(all, any("null"))
}

// whole is a body with all that is required and nothing else.
func (b bodies) whole(f *form) any {
	switch f = b.at(f); {
	case len(f.Enum) > 0:
		return f.Enum[0]
	case f.Type == "object":
		all := map[string]any{}
		for _, key := range f.Required {
			all[key] = b.whole(f.Properties[key])
		}
		return all
	case f.Type == "array":
		return []any{b.whole(f.Items)}
	case f.Type == "integer":
		return f.Minimum
	case f.Type == "boolean":
		return true
	case f.takesNull():
		return nil
	}
	return "x"
}

// without are bodies that lack one required field each, by its path.
func (b bodies) without(f *form, at string, put func(any) any, found map[string]any) {
	switch f = b.at(f); {
	case f.Type == "array":
		b.without(f.Items, at+"[0]", func(v any) any { return put([]any{v}) }, found)
	case f.Type == "object":
		for _, key := range f.Required {
			path := strings.TrimPrefix(at+"."+key, ".")
			less := maps.Clone(b.whole(f).(map[string]any))
			delete(less, key)
			found[path] = put(less)
			if prop := b.at(f.Properties[key]); !prop.takesNull() {
				less := maps.Clone(less)
				less[key] = nil
				found[path+" null"] = put(less)
			}
			b.without(f.Properties[key], path, func(v any) any {
				all := maps.Clone(less)
				all[key] = v
				return put(all)
			}, found)
		}
	}
}

// TestRequiredIsRequired leaves out of every body, one after the other, all that
// the description requires: a client that forgets a field is told which, and does
// not empty it.
func TestRequiredIsRequired(t *testing.T) {
	d, _ := administered(t)
	dora := d.bearer("dora") // a browser would meet its limit of requests
	raw, err := d.described()
	must(t, err)
	doc := decoded[struct {
		Components bodies
		Paths      map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct{ Schema *form }
			}
		}
	}](t, string(raw))
	asked := 0
	fill := strings.NewReplacer("{number}", "2026-1", "{name}", "anna", "{code}", "x", "/customers/{id}", "/customers/7", "/services/{id}", "/services/7", "{id}", uuid.NewString())
	for path, methods := range doc.Paths {
		for method, op := range methods {
			schema := op.RequestBody.Content["application/json"].Schema
			if schema == nil {
				continue
			}
			at := strings.ToUpper(method) + " " + path
			ask := func(body any) *problem {
				t.Helper()
				raw, err := json.Marshal(body)
				must(t, err)
				answer := asks(d, dora, strings.ToUpper(method), "/api/v1"+fill.Replace(path), string(raw))
				if answer.Code < http.StatusBadRequest {
					return &problem{Status: answer.Code}
				}
				p := decoded[problem](t, answer.Body.String())
				return &p
			}
			lacking := map[string]any{}
			doc.Components.without(schema, "", func(v any) any { return v }, lacking)
			for field, body := range lacking {
				asked++
				want, _, _ := strings.Cut(field, " ")
				if p := ask(body); p.Status != http.StatusUnprocessableEntity || p.Field != want || p.Detail != "Non può mancare." {
					t.Errorf("%s without %s: %+v", at, field, *p)
				}
			}
			if p := ask(doc.Components.whole(schema)); p.Detail == "Non può mancare." || p.Status == http.StatusBadRequest {
				t.Errorf("%s with all that is required: %+v", at, *p)
			}
		}
	}
	if asked < 100 {
		t.Errorf("only %d bodies were sent", asked)
	}
}

// TestLeftOutChangesNothing: what an account has stays when a client that
// replaces it forgets one thing.
func TestLeftOutChangesNothing(t *testing.T) {
	_, dora := administered(t)
	was := dora.account("anna")
	body := map[string]any{"version": was.Version, "display_name": was.DisplayName, "role": was.Role, "wrap_up": was.WrapUp, "skills": was.Skills}
	if p := dora.ask(http.MethodPut, usersPath+"/anna", body).problem(t, http.StatusUnprocessableEntity); p.Field != "extension" {
		t.Errorf("the problem names %q", p.Field)
	}
	if now := dora.account("anna"); now.Extension == "" || now.Version != was.Version {
		t.Errorf("changed into %+v", now)
	}
}
