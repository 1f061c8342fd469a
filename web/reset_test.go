package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
)

const otherPassword = "un'altra frase che ricordo"

// fill posts a form as a browser does; cookie may be "".
func (d *desk) fill(path, cookie string, form url.Values) reply {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.http.URL+path, strings.NewReader(form.Encode()))
	must(d.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if cookie != "" {
		r.Header.Set("Cookie", d.sessions.Cookie.Name+"="+cookie)
	}
	return d.do(r)
}

// says holds what a page tells.
func (r reply) says(t *testing.T, status int, text string) {
	t.Helper()
	if r.want(t, status); !strings.Contains(r.body, text) {
		t.Errorf("the page does not say %q: %s", text, r.body)
	}
}

func (d *desk) resetLink(name string) (path, token string) {
	d.t.Helper()
	token, _, err := d.users.ResetLink(d.t.Context(), name, d.user("carla").ID)
	must(d.t, err)
	return ResetAddress("", token), token
}

func TestResetLinkHoldsOnceAndForAnHour(t *testing.T) {
	d := newDesk(t)
	stranger := &person{d: d, header: http.Header{}}
	anna := d.browser("anna")
	path, token := d.resetLink("anna")
	if strings.Contains(one[string](d, `select encode(hash, 'escape') || encode(hash, 'base64') from password_resets`), token) {
		t.Error("the token stands in the database as it is")
	}
	stranger.get(path).says(t, http.StatusOK, `value="`+token+`"`)

	chosen := url.Values{"t": {token}, "password": {otherPassword}, "again": {otherPassword}}
	d.fill("/reset", "", url.Values{"t": {token}, "password": {otherPassword}, "again": {"diversa"}}).says(t, http.StatusUnprocessableEntity, "non sono uguali")
	d.fill("/reset", "", url.Values{"t": {token}, "password": {"corta"}, "again": {"corta"}}).says(t, http.StatusUnprocessableEntity, "almeno 10 caratteri")
	anna.get("/api/v1/me").want(t, http.StatusOK)
	d.fill("/reset", "", chosen).says(t, http.StatusOK, "Ora puoi accedere")
	anna.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	d.signIn("anna", testPassword, nil, nil).want(t, http.StatusUnauthorized)
	d.signIn("anna", otherPassword, nil, nil).want(t, http.StatusSeeOther)

	d.fill("/reset", "", chosen).says(t, http.StatusNotFound, "già stato usato")
	stranger.get(path).says(t, http.StatusNotFound, "già stato usato")
	for _, token := range []string{"", "x", strings.Repeat("x", 10_000), "\x00"} {
		stranger.get("/reset?"+url.Values{"t": {token}}.Encode()).want(t, http.StatusNotFound)
	}

	path, token = d.resetLink("anna")
	d.pass(resetLife)
	stranger.get(path).says(t, http.StatusNotFound, "è passata più")
	d.fill("/reset", "", url.Values{"t": {token}, "password": {otherPassword}, "again": {otherPassword}}).want(t, http.StatusNotFound)

	first, _ := d.resetLink("anna")
	d.resetLink("anna")
	stranger.get(first).want(t, http.StatusNotFound) // the second one replaced it

	third, _ := d.resetLink("bruno")
	d.leaves("bruno")
	stranger.get(third).want(t, http.StatusNotFound)
	if _, _, err := d.users.ResetLink(t.Context(), "bruno", 0); !errors.Is(err, ErrNoUser) {
		t.Errorf("a link for somebody who left: %v", err)
	}

	got := strings.Join(kinds(d, journal.SeatStream(d.user("anna").ID)), " ")
	if !strings.HasPrefix(got, "reset_made password_changed sign_in_failed signed_in reset_made reset_made") {
		t.Errorf("the journal says %q", got)
	}
	if log := d.log.String(); strings.Contains(log, token) || strings.Contains(log, otherPassword) {
		t.Errorf("a secret was logged: %s", log)
	}
}

// TestResetLinkHasOneUser: of many who use a link at the same time one does.
func TestResetLinkHasOneUser(t *testing.T) {
	d := newDesk(t)
	_, token := d.resetLink("anna")
	var wg sync.WaitGroup
	results := make([]error, 4)
	for i := range results {
		wg.Go(func() { _, results[i] = d.users.UseLink(t.Context(), token, otherPassword) })
	}
	wg.Wait()
	used := 0
	for _, err := range results {
		if err == nil {
			used++
		} else if !errors.Is(err, ErrLink) {
			t.Error(err)
		}
	}
	if used != 1 {
		t.Errorf("the link was used %d times", used)
	}
}

func TestPersonChangesHerPassword(t *testing.T) {
	d := newDesk(t)
	stranger := &person{d: d, header: http.Header{}}
	if to := stranger.get("/password").want(t, http.StatusSeeOther).Header.Get("Location"); to != "/signin?next=%2Fpassword" {
		t.Errorf("a stranger is led to %q", to)
	}
	d.fill("/password", "", url.Values{"old": {testPassword}}).want(t, http.StatusUnauthorized)

	here, there := d.browser("anna"), d.browser("anna")
	page, _ := there.open()
	here.get("/password").says(t, http.StatusOK, `autocomplete="new-password"`)
	form := func(old, password, again string) url.Values {
		return url.Values{"old": {old}, "password": {password}, "again": {again}}
	}
	d.fill("/password", here.cookie, form("sbagliata-davvero", otherPassword, otherPassword)).says(t, http.StatusUnprocessableEntity, "La password attuale non è corretta.")
	d.fill("/password", here.cookie, form(testPassword, otherPassword, "altra")).says(t, http.StatusUnprocessableEntity, "non sono uguali")
	d.fill("/password", here.cookie, form(testPassword, "corta", "corta")).says(t, http.StatusUnprocessableEntity, "almeno 10 caratteri")
	there.get("/api/v1/me").want(t, http.StatusOK)

	done := d.fill("/password", here.cookie, form(testPassword, otherPassword, otherPassword))
	done.says(t, http.StatusOK, "Password cambiata")
	if code := page.closed(); code != closeSignedOut.code {
		t.Errorf("the other page is closed with %d", code)
	}
	there.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	here.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	here.cookie = done.Cookies()[0].Value
	here.get("/api/v1/me").want(t, http.StatusOK)
	if got := strings.Join(kinds(d, journal.SeatStream(d.user("anna").ID)), " "); got != "sign_in_failed password_changed" {
		t.Errorf("the journal says %q", got)
	}
}

func TestPasswordPagesAreLimited(t *testing.T) {
	d := newDesk(t)
	anna := d.browser("anna")
	for range signInsPerName {
		d.fill("/password", anna.cookie, url.Values{"old": {"x"}, "password": {"x"}, "again": {"y"}})
	}
	d.fill("/password", anna.cookie, url.Values{"old": {testPassword}, "password": {otherPassword}, "again": {otherPassword}}).want(t, http.StatusTooManyRequests)
	for range signInsPerAddress {
		d.fill("/reset", "", url.Values{"t": {"x"}, "password": {"x"}, "again": {"x"}})
	}
	d.fill("/reset", "", url.Values{"t": {"x"}}).want(t, http.StatusTooManyRequests)
}

func TestWhoMayMakeALink(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.PublicURL = "https://assistenza.example.it/" })
	_, err := d.users.Add(t.Context(), "dora", "Dora Admin", Admin, testPassword, "")
	must(t, err)
	for _, c := range []struct {
		by, whose string
		status    int
	}{
		{"anna", "anna", http.StatusForbidden}, {"anna", "bruno", http.StatusForbidden},
		{"carla", "anna", http.StatusOK}, {"carla", "carla", http.StatusForbidden}, {"carla", "dora", http.StatusForbidden},
		{"dora", "carla", http.StatusOK}, {"dora", "nessuno", http.StatusNotFound},
	} {
		token, err := d.users.Token(t.Context(), c.by, time.Hour)
		must(t, err)
		asks := &person{d: d, header: http.Header{"Authorization": {"Bearer " + token}}}
		r := asks.ask(http.MethodPost, "/api/v1/users/"+c.whose+"/reset", nil)
		if r.StatusCode != c.status {
			t.Errorf("%s for %s: %d, want %d: %s", c.by, c.whose, r.StatusCode, c.status, r.body)
			continue
		}
		if c.status != http.StatusOK {
			continue
		}
		got := decoded[Link](t, r.body)
		if !strings.HasPrefix(got.Address, "https://assistenza.example.it/reset?t=") || !got.ExpiresAt.Equal(noon.Add(resetLife)) {
			t.Errorf("the link is %+v", got)
		}
		must(t, d.users.linkHolds(t.Context(), strings.TrimPrefix(got.Address, "https://assistenza.example.it/reset?t=")))
	}
}
