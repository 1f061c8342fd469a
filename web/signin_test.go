package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
)

// signIn posts the form as a browser does.
func (d *desk) signIn(name, password string, more url.Values, header http.Header) reply {
	d.t.Helper()
	form := url.Values{"name": {name}, "password": {password}}
	for key, v := range more {
		form[key] = v
	}
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.http.URL+"/signin", strings.NewReader(form.Encode()))
	must(d.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for key, v := range header {
		r.Header[key] = v
	}
	return d.do(r)
}

func TestSignInAndOut(t *testing.T) {
	d := newDesk(t)
	stranger := &person{d: d, header: http.Header{}}

	to := stranger.get("/tickets/2026-1?x=1").want(t, http.StatusSeeOther).Header.Get("Location")
	if to != "/signin?next=%2Ftickets%2F2026-1%3Fx%3D1" {
		t.Fatalf("a stranger is led to %q", to)
	}
	form := stranger.get(to).want(t, http.StatusOK)
	for _, part := range []string{`lang="it"`, `name="name"`, `autocomplete="current-password"`, `value="/tickets/2026-1?x=1"`, "Accedi"} {
		if !strings.Contains(form.body, part) {
			t.Errorf("the form lacks %s", part)
		}
	}

	wrong := d.signIn("anna", "sbagliata-davvero", nil, nil).want(t, http.StatusUnauthorized)
	if !strings.Contains(wrong.body, "Nome utente o password non corretti.") || strings.Contains(wrong.body, "sbagliata-davvero") {
		t.Errorf("a wrong password is answered with %s", wrong.body)
	}
	if len(wrong.Cookies()) != 0 {
		t.Errorf("a wrong password gets a cookie")
	}
	unknown := d.signIn("nessuno", "sbagliata-davvero", nil, nil).want(t, http.StatusUnauthorized)
	if strings.ReplaceAll(unknown.body, "nessuno", "anna") != wrong.body {
		t.Errorf("an unknown name can be told from a wrong password")
	}

	in := d.signIn(" Anna", testPassword, url.Values{"next": {"/tickets"}}, nil).want(t, http.StatusSeeOther)
	if in.Header.Get("Location") != "/tickets" {
		t.Errorf("signed in and led to %q", in.Header.Get("Location"))
	}
	cookie := in.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Secure || cookie.Path != "/" || cookie.Name != "pronto" {
		t.Errorf("the cookie is %+v", cookie)
	}
	if n := one[int](d, `select count(*) from sessions where token = $1`, cookie.Value); n != 0 {
		t.Errorf("the cookie's token stands in the database as it is")
	}
	anna := &person{d: d, cookie: cookie.Value, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
	anna.get("/").want(t, http.StatusOK)
	me := decoded[map[string]any](t, anna.get("/api/v1/me").want(t, http.StatusOK).body)
	if me["name"] != "anna" || me["display_name"] != "Anna Bianchi" || me["role"] != "operator" || me["extension"] != "1001" || me["wrap_up"] != 3.0 {
		t.Errorf("me is %v", me)
	}
	if to := anna.get("/signin?next=/tickets").want(t, http.StatusSeeOther).Header.Get("Location"); to != "/tickets" {
		t.Errorf("somebody signed in is led from the form to %q", to)
	}

	out := anna.ask(http.MethodPost, "/signout", nil).want(t, http.StatusSeeOther)
	if c := out.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("signing out leaves the cookies %v", c)
	}
	anna.get("/api/v1/me").problem(t, http.StatusUnauthorized)

	got := strings.Join(kinds(d, journal.SeatStream(d.user("anna").ID)), " ")
	if got != "sign_in_failed signed_in signed_out" {
		t.Errorf("the journal of anna's seat says %q", got)
	}
	if strings.Contains(d.log.String(), "sbagliata-davvero") || strings.Contains(d.log.String(), testPassword) {
		t.Errorf("a password was logged: %s", d.log)
	}
}

func kinds(d *desk, stream string) (all []string) {
	d.t.Helper()
	rows, err := d.DB.Pool.Query(d.t.Context(), `select kind from journal where stream = $1 order by seq`, stream)
	must(d.t, err)
	defer rows.Close()
	for rows.Next() {
		var kind string
		must(d.t, rows.Scan(&kind))
		all = append(all, kind)
	}
	must(d.t, rows.Err())
	return all
}

func TestSignInOverHTTPSMarksTheCookie(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.PublicURL = "https://assistenza.example.it" })
	in := d.signIn("anna", testPassword, nil, nil).want(t, http.StatusSeeOther)
	if c := in.Cookies()[0]; !c.Secure || c.Name != "__Host-pronto" || c.Path != "/" || c.Domain != "" {
		t.Errorf("the cookie over https is %+v", c)
	}
	if in.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("no HSTS over https")
	}
}

func TestAPlantedSessionIsWorthNothing(t *testing.T) {
	d := newDesk(t)
	planted := d.browser("bruno").cookie
	in := d.signIn("anna", testPassword, nil, http.Header{"Cookie": {"pronto=" + planted}}).want(t, http.StatusSeeOther)
	if got := in.Cookies()[0].Value; got == planted || got == "" {
		t.Errorf("signing in kept the session %q that came with the request", got)
	}
}

func TestSignInIsLimited(t *testing.T) {
	d := newDesk(t)
	for range signInsPerName {
		d.signIn("anna", "", nil, nil).want(t, http.StatusUnauthorized)
	}
	limited := d.signIn("anna", testPassword, nil, nil).want(t, http.StatusTooManyRequests)
	if limited.Header.Get("Retry-After") == "" || !strings.Contains(limited.body, "Troppi tentativi") {
		t.Errorf("the limit says %v %s", limited.Header, limited.body)
	}
	d.signIn("bruno", testPassword, nil, nil).want(t, http.StatusSeeOther)
	for i := range signInsPerAddress { // by the other door of the same house: each password costs a hash, and a minute may pass
		if reply := d.fill("/reset", "", url.Values{"t": {"x"}}); reply.StatusCode == http.StatusTooManyRequests {
			if i < signInsPerAddress-2*signInsPerName {
				t.Fatalf("the address is limited after %d more tries", i)
			}
			break
		}
	}
	d.signIn("carla", testPassword, nil, nil).want(t, http.StatusTooManyRequests)
}

func TestUnknownNamesCostWhatKnownOnesCost(t *testing.T) {
	d := newDesk(t)
	for range hashesAtOnce { // nobody can hash now
		d.users.hasher <- struct{}{}
	}
	for _, name := range []string{"anna", "nessuno", "", "'; drop table users"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := d.users.SignIn(ctx, name, "qualcosa-di-lungo")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q is judged without hashing: %v", name, err)
		}
	}
	passes, memory, threads, salt, key, err := parsePHC(nobody)
	if err != nil || passes != argonTime || memory != argonMemory || threads != argonThreads || len(salt) != argonSalt || len(key) != argonKey {
		t.Errorf("nobody's hash costs something else")
	}
}

func TestHashingIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher()
		for range hashesAtOnce {
			h <- struct{}{}
		}
		began := time.Now()
		_, err := h.hash(t.Context(), testPassword)
		if !errors.Is(err, ErrBusy) || time.Since(began) != hashWait {
			t.Errorf("with %d others hashing: %v after %v", hashesAtOnce, err, time.Since(began))
		}
	})
}

func TestPasswords(t *testing.T) {
	h := newHasher()
	stored, err := h.hash(t.Context(), "perch\u00e9 no, dottore")
	must(t, err)
	for password, want := range map[string]bool{
		"perch\u00e9 no, dottore": true, "perche\u0301 no, dottore": true, // é typed composed and decomposed
		"perche no, dottore": false, "": false, strings.Repeat("x", 100_000): false,
	} {
		got, err := h.verify(t.Context(), password, stored)
		if err != nil || got != want {
			t.Errorf("%.20q: %v %v, want %v", password, got, err, want)
		}
	}
	for _, weak := range []string{"", "corta", "nove-nove", strings.Repeat("x", maxPassword+1), "\xff\xfe non utf-8 affatto"} {
		if _, err := h.hash(t.Context(), weak); !errors.Is(err, errWeak) {
			t.Errorf("%.20q is taken as a password: %v", weak, err)
		}
	}
	for _, broken := range []string{
		"", "x", "$argon2i$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA",
		strings.Replace(stored, "m=19456", "m=4000000000", 1), strings.Replace(stored, "t=2", "t=900", 1), strings.Replace(stored, "p=1", "p=0", 1),
		strings.Replace(stored, "v=19", "v=16", 1), stored[:len(stored)-40],
	} {
		if _, err := h.verify(t.Context(), "qualcosa-di-lungo", broken); !errors.Is(err, errBadHash) {
			t.Errorf("the stored hash %q is used: %v", broken, err)
		}
	}
}

func TestANewPasswordEndsSessions(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.browser("anna"), d.browser("bruno")
	must(t, d.users.SetPassword(t.Context(), "anna", "un'altra parola"))
	anna.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	bruno.get("/api/v1/me").want(t, http.StatusOK)
	d.signIn("anna", testPassword, nil, nil).want(t, http.StatusUnauthorized)
	d.signIn("anna", "un'altra parola", nil, nil).want(t, http.StatusSeeOther)

	token := d.bearer("bruno")
	d.leaves("bruno")
	bruno.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	token.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	d.signIn("bruno", testPassword, nil, nil).want(t, http.StatusUnauthorized)
}

func TestSessionsEnd(t *testing.T) {
	d := newDesk(t)
	anna := d.browser("anna")
	anna.get("/api/v1/me").want(t, http.StatusOK)
	d.mu.Lock()
	d.clock = time.Now().Add(sessionLife + time.Minute) // scs counts from the wall clock
	d.mu.Unlock()
	anna.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	must(t, d.kept.sweep(t.Context()))
	if n := one[int](d, `select count(*) from sessions`); n != 0 {
		t.Errorf("%d expired sessions are left", n)
	}
}

func TestTokens(t *testing.T) {
	d := newDesk(t)
	carla := d.bearer("carla")
	carla.get("/api/v1/me").want(t, http.StatusOK)
	if n := one[int](d, `select count(*) from api_tokens where position($1::bytea in hash) > 0`, []byte(carla.token)); n != 0 {
		t.Errorf("the token stands in the database as it is")
	}
	if one[*time.Time](d, `select last_used_at from api_tokens`) == nil {
		t.Errorf("the use of a token is not noted")
	}
	for _, bad := range []string{"", "x", carla.token + "x", carla.token[:len(carla.token)-1], "pronto_" + strings.Repeat("A", 43), strings.Repeat("A", 5000)} {
		p := &person{d: d, header: http.Header{"Authorization": {"Bearer " + bad}}}
		if got := p.get("/api/v1/me").problem(t, http.StatusUnauthorized); strings.Contains(got.Detail, bad) && bad != "" && len(bad) > 1 {
			t.Errorf("a wrong token is repeated: %s", got.Detail)
		}
	}
	basic := &person{d: d, header: http.Header{"Authorization": {"Basic YW5uYTpwYXNz"}}}
	if got := basic.get("/api/v1/me").want(t, http.StatusUnauthorized).Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("a 401 asks for %q", got)
	}
	d.pass(time.Hour + time.Second)
	carla.get("/api/v1/me").problem(t, http.StatusUnauthorized)

	for _, ttl := range []time.Duration{0, -time.Hour, tokenLongest + time.Second} {
		if _, err := d.users.Token(t.Context(), "carla", ttl); err == nil {
			t.Errorf("a token lives for %v", ttl)
		}
	}
	if _, err := d.users.Token(t.Context(), "nessuno", time.Hour); !errors.Is(err, ErrNoUser) {
		t.Errorf("a token for nobody: %v", err)
	}
}

func TestUsers(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	u, err := d.users.Add(ctx, "dora", " Dora Gallo ", Admin, testPassword, "1009")
	must(t, err)
	if u.ID == 0 || u.DisplayName != "Dora Gallo" || u.WrapUp != 60 || !u.Active || !u.CreatedAt.Equal(noon) {
		t.Errorf("added %+v", u)
	}
	for what, err := range map[string]error{
		"the same name":       second(d.users.Add(ctx, "dora", "Altra", Operator, testPassword, "")),
		"the same extension":  second(d.users.Add(ctx, "elio", "Elio", Operator, testPassword, "1009")),
		"an upper-case name":  second(d.users.Add(ctx, "Elio", "Elio", Operator, testPassword, "")),
		"an empty name":       second(d.users.Add(ctx, "", "Elio", Operator, testPassword, "")),
		"no display name":     second(d.users.Add(ctx, "elio", "  ", Operator, testPassword, "")),
		"an unknown role":     second(d.users.Add(ctx, "elio", "Elio", "king", testPassword, "")),
		"a short password":    second(d.users.Add(ctx, "elio", "Elio", Operator, "corta", "")),
		"a long extension":    second(d.users.Add(ctx, "elio", "Elio", Operator, testPassword, "12345678901")),
		"nobody's password":   d.users.SetPassword(ctx, "nessuno", testPassword),
		"nobody's wrap-up":    d.users.SetWrapUp(ctx, "nessuno", 3),
		"too long a wrap-up":  d.users.SetWrapUp(ctx, "dora", 3601),
		"nobody's skills":     d.users.SetSkills(ctx, "nessuno", "software"),
		"an unknown topic":    d.users.SetSkills(ctx, "dora", "software", "giardinaggio"),
		"a realm with quotes": d.users.SetPhone(ctx, "1009", `pro"nto`, "x"),
		"a phone of letters":  d.users.SetPhone(ctx, "dora", "pronto", "x"),
	} {
		if err == nil {
			t.Errorf("taken: %s", what)
		}
	}
	must(t, d.users.SetWrapUp(ctx, "dora", 0))
	if err := d.users.SetSkills(ctx, "dora", "software", "giardinaggio"); err == nil || !strings.Contains(err.Error(), `"giardinaggio"`) {
		t.Errorf("an unknown topic: %v", err)
	}
	must(t, d.users.SetSkills(ctx, "dora", "software"))
	must(t, d.users.SetSkills(ctx, "dora"))
	if n := one[int](d, `select count(*) from user_topics where user_id = $1`, u.ID); n != 0 {
		t.Errorf("dora keeps %d skills", n)
	}
	list, err := d.users.List(ctx)
	must(t, err)
	if len(list) != 4 || list[0].Name != "anna" || list[3].Name != "dora" || list[3].WrapUp != 0 {
		t.Errorf("listed %+v", list)
	}
}

func second[T any](_ T, err error) error { return err }

func TestPhoneSecrets(t *testing.T) {
	d := newDesk(t)
	// printf '1001:pronto:segreto' | openssl md5, and sha256.
	must(t, d.users.SetPhone(t.Context(), "1001", "pronto", "vecchio"))
	must(t, d.users.SetPhone(t.Context(), "1001", "pronto", "segreto"))
	md5sum, sha := one[string](d, `select ha1_md5 from phones where extension = '1001'`), one[string](d, `select ha1_sha256 from phones where extension = '1001'`)
	if md5sum != "9dad9c4d020f8935bc837c560da22b4c" || sha != "562f5d7529bb8bc4415f6c403ff27dcd79930c96a199040b6a876c4f13fa74c5" {
		t.Errorf("the secrets are %s and %s", md5sum, sha)
	}
}

func TestOwnPath(t *testing.T) {
	for next, want := range map[string]string{
		"": "/", "/": "/", "/tickets?q=a%20b": "/tickets?q=a%20b", "tickets": "/", "//evil.example": "/", "/\\evil.example": "/",
		"https://evil.example/": "/", "javascript:alert(1)": "/", "/signin?next=/": "/", "/\t/evil.example": "/", "/a\r\nSet-Cookie: x": "/", "/%": "/",
	} {
		if got := ownPath(next); got != want {
			t.Errorf("ownPath(%q) is %q, want %q", next, got, want)
		}
	}
}

func FuzzOwnPath(f *testing.F) {
	for _, seed := range []string{"/", "//x", "/\\x", "https://x", "/a?b#c", "/%2f%2fx"} {
		f.Add(seed)
	}
	base, err := url.Parse("http://desk.example/signin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, next string) {
		to, err := url.Parse(ownPath(next))
		if err != nil {
			t.Fatalf("%q leads to what is no address: %v", next, err)
		}
		if at := base.ResolveReference(to); at.Host != "desk.example" || at.Scheme != "http" {
			t.Fatalf("%q leads to %s", next, at)
		}
	})
}
