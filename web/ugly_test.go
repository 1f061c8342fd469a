package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// ugly are bodies that nobody should send.
func ugly() []string {
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	return []string{
		"", "null", "[]", "7", `"x"`, "{", "{}", `{"":""}`, "\xff\xfe", `{"text":"` + "\xff" + `"}`, `{"text":"\u0000"}`, `{"\u0000":1}`, `{"text":1e999}`, `{"text":{}}`,
		deep, strings.Repeat("[", 20000), `{"set":{"subject":"\u0000"},"base":{"subject":[]}}`, `{"set":null,"base":7}`, `{"declared":"available","declared":"off"}`,
		`{"text":"` + strings.Repeat("x", maxBody) + `"}`, `{"Text":"x"}`, `{"outcome":[1],"solution":true}`, `{"events":[null,7],"url":"\u0001"}`, `{"days":1e9,"scope":7}`,
	}
}

// operationsOf are the operations that the description has, with ids that exist
// nowhere.
func operationsOf(t testing.TB, s *Server) (all [][2]string) {
	t.Helper()
	raw, err := s.described()
	must(t, err)
	fill := strings.NewReplacer("{number}", "2026-1", "{name}", "anna", "{id}", uuid.NewString())
	for path, methods := range decoded[struct{ Paths map[string]map[string]any }](t, string(raw)).Paths {
		for method := range methods {
			all = append(all, [2]string{strings.ToUpper(method), "/api/v1" + fill.Replace(path)})
		}
	}
	return all
}

// TestUglyRequests sends to every operation what it does not expect: each
// answer is a refusal of ours, and none repeats a secret that came in a wrong
// place.
func TestUglyRequests(t *testing.T) {
	d := newDesk(t)
	carla := d.bearer("carla") // a browser would meet its limit of requests
	const password = "Segretissima-2026!"
	bodies := append(ugly(), `{"password":"`+password+`"}`, `{"`+password+`":1}`, `{"text":["`+password+`"]}`, `{"declared":"`+password+`"}`, `{"outcome":"`+password+`"}`,
		`{"extend":"`+password+`"}`, `{"scope":"`+password+`","label":"x","days":1}`, `{"set":{"`+password+`":1}}`, `"`+password+`"`, password)
	asked := 0
	for _, at := range operationsOf(t, d.Server) {
		for _, body := range bodies {
			for _, query := range []string{"", "?q=%00&limit=" + password + "&status=" + password + "&cursor=" + password + "&owner=" + password + "&state=" + password} {
				asked++
				answer := asks(d, carla, at[0], at[1]+query, body)
				kind := answer.Header().Get("Content-Type")
				switch {
				case answer.Code >= http.StatusInternalServerError:
					t.Errorf("%s %s%s with %.60q: %d %s", at[0], at[1], query, body, answer.Code, answer.Body)
				case answer.Code >= http.StatusBadRequest && kind != problemKind:
					t.Errorf("%s %s%s with %.60q: a problem as %q", at[0], at[1], query, body, kind)
				case answer.Code >= http.StatusBadRequest && !json.Valid(answer.Body.Bytes()):
					t.Errorf("%s %s: no JSON: %s", at[0], at[1], answer.Body)
				}
				if strings.Contains(answer.Body.String(), password) && answer.Code >= http.StatusBadRequest {
					t.Errorf("%s %s%s with %.60q repeats the secret: %s", at[0], at[1], query, body, answer.Body)
				}
			}
		}
	}
	if asked < 1000 || strings.Contains(d.log.String(), "panicked") || strings.Contains(d.log.String(), password) {
		t.Errorf("%d requests; the log: %.2000s", asked, d.log)
	}
}

// TestNullIsNoBody: null decodes into anything, and would switch on, or empty, what
// it is sent to.
func TestNullIsNoBody(t *testing.T) {
	d := newDesk(t)
	carla := d.bearer("carla")
	for _, at := range operationsOf(t, d.Server) {
		if at[0] != http.MethodPut && at[0] != http.MethodPatch {
			continue
		}
		if answer := asks(d, carla, at[0], at[1], " null\n"); answer.Code < http.StatusBadRequest {
			t.Errorf("%s %s takes null: %d %s", at[0], at[1], answer.Code, answer.Body)
		}
	}
}

// asks goes to the handler without a network between: thousands of requests.
func asks(d *desk, p *person, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+p.token)
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	return w
}

// FuzzOperations holds the same for any body.
func FuzzOperations(f *testing.F) {
	for i, body := range ugly() {
		f.Add(uint8(i), body)
	}
	d := newDesk(f)
	carla := d.bearer("carla") // a browser would meet its limit of requests
	all := operationsOf(f, d.Server)
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		at := all[int(which)%len(all)]
		if answer := asks(d, carla, at[0], at[1], body); answer.Code >= http.StatusInternalServerError {
			t.Errorf("%s %s with %.200q: %d %s", at[0], at[1], body, answer.Code, answer.Body)
		}
	})
}
