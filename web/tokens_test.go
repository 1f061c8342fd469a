package web

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestATokenIsForItsScopeOnly(t *testing.T) {
	d := newDesk(t)
	note := "/api/v1/tickets/" + d.rings("+390551234567").ticket.Number + "/notes"
	holds := func(name string, w Wish) *person {
		secret, _, err := d.users.MakeToken(t.Context(), name, w)
		must(t, err)
		return &person{d: d, token: secret, header: http.Header{}}
	}
	reader := holds("anna", Wish{Scope: Read, For: time.Hour})
	reader.get("/api/v1/tickets").want(t, http.StatusOK)
	if p := reader.ask(http.MethodPost, note, map[string]string{"text": "x"}).problem(t, http.StatusForbidden); !strings.Contains(p.Detail, "operate") {
		t.Errorf("a reader is told %q", p.Detail)
	}
	holds("anna", Wish{For: time.Hour}).ask(http.MethodPost, note, map[string]string{"text": "x"}).want(t, http.StatusOK)
	if _, _, err := d.users.MakeToken(t.Context(), "anna", Wish{Scope: Manage, For: time.Hour}); err != ErrScope { //nolint:errorlint // returned bare
		t.Errorf("an operator's token to administer: %v", err)
	}
	holds("carla", Wish{Scope: Manage, For: time.Hour}).ask(http.MethodPost, note, map[string]string{"text": "x"}).want(t, http.StatusOK)
}

func TestTokensByTheAPI(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.browser("anna"), d.browser("bruno")
	const at = "/api/v1/tokens"
	want := map[string]any{"label": "Cruscotto", "scope": "read", "days": 30}
	made := decoded[newToken](t, anna.ask(http.MethodPost, at, want).want(t, http.StatusOK).body)
	if !strings.HasPrefix(made.Secret, tokenPrefix) || made.Scope != Read || !made.ExpiresAt.Equal(noon.Add(30*24*time.Hour)) {
		t.Fatalf("the new token is %+v", made.Token)
	}
	program := &person{d: d, token: made.Secret, header: http.Header{}}
	listed := program.get(at).want(t, http.StatusOK).body
	all := decoded[list[Token]](t, listed).Items
	if len(all) != 1 || all[0].Label != "Cruscotto" || all[0].LastUsedAt == nil || strings.Contains(listed, made.Secret) {
		t.Errorf("the list is %s", listed)
	}
	if stored := one[string](d, `select encode(hash, 'escape') from api_tokens where id = $1`, made.ID); strings.Contains(stored, made.Secret) {
		t.Error("the token stands in the database")
	}
	strong := d.bearer("anna")
	strong.ask(http.MethodPost, at, want).problem(t, http.StatusForbidden) // a token makes no token
	for _, bad := range []map[string]any{
		{"label": "x", "scope": "admin", "days": 1}, {"label": "x", "scope": "root", "days": 1}, {"label": "", "scope": "read", "days": 1}, {"label": "x", "scope": "read", "days": 401},
	} {
		anna.ask(http.MethodPost, at, bad).problem(t, http.StatusUnprocessableEntity)
	}
	one1 := at + "/" + strconv.FormatInt(made.ID, 10)
	bruno.ask(http.MethodDelete, one1, nil).problem(t, http.StatusNotFound)
	program.ask(http.MethodDelete, one1, nil).problem(t, http.StatusForbidden) // it only reads
	anna.ask(http.MethodDelete, one1, nil).want(t, http.StatusNoContent)
	program.get(at).problem(t, http.StatusUnauthorized)
	anna.ask(http.MethodDelete, one1, nil).problem(t, http.StatusNotFound)
	for kind, n := range map[string]int{"token_made": 2, "token_revoked": 1} { // anna's bearer is one more
		if got := one[int](d, `select count(*) from journal where kind = $1 and user_id = $2`, kind, d.userID("anna")); got != n {
			t.Errorf("%d lines %s, want %d", got, kind, n)
		}
	}
}
