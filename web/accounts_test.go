package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
)

// administered is a desk with dora, who administers it, and a second topic.
func administered(t *testing.T) (*desk, *person) {
	t.Helper()
	d := newDesk(t)
	d.admin("dora")
	_, err := d.Book.PutTopic(t.Context(), "certificati", "Certificati")
	must(t, err)
	return d, d.browser("dora")
}

// admin adds somebody who administers; the hash is the others'.
func (d *desk) admin(name string) {
	d.t.Helper()
	hash, err := testHash()
	must(d.t, err)
	d.exec(`insert into users (name, display_name, role, password_hash, created_at) values ($1, $1, 'admin', $2, $3)`, name, hash, noon)
}

// leaves lets somebody go, as an administrator does.
func (d *desk) leaves(name string) {
	d.t.Helper()
	_, err := d.setActive(d.t.Context(), d.user("carla"), name, false)
	must(d.t, err)
}

// profile is a person as a form sends it.
func profile(more map[string]any) map[string]any {
	p := map[string]any{"display_name": "Elio Rossi", "role": "operator", "extension": "1007", "wrap_up": 30,
		"skills": []Skill{{"software", 1}, {"certificati", 3}}}
	for key, v := range more {
		p[key] = v
	}
	return p
}

const usersPath = "/api/v1/users"

func (p *person) account(name string) Account {
	p.d.t.Helper()
	for _, a := range decoded[list[Account]](p.d.t, p.get(usersPath).want(p.d.t, http.StatusOK).body).Items {
		if a.Name == name {
			return a
		}
	}
	p.d.t.Fatalf("%s is not listed", name)
	return Account{}
}

func TestANewPersonChoosesThePassword(t *testing.T) {
	d, dora := administered(t)
	made := decoded[newAccount](t, dora.ask(http.MethodPost, usersPath, profile(map[string]any{"name": "elio", "display_name": "  Elio   Rossi "})).want(t, http.StatusOK).body)
	if made.DisplayName != "Elio Rossi" || made.Role != Operator || made.Extension != "1007" || made.WrapUp != 30 || !made.Active || !made.NoPassword ||
		!made.ExpiresAt.Equal(noon.Add(resetLife)) {
		t.Errorf("added %+v", made)
	}
	if listed := dora.account("elio"); len(listed.Skills) != 2 || listed.Skills[0] != (Skill{"certificati", 3}) || listed.Skills[1] != (Skill{"software", 1}) || !listed.NoPassword {
		t.Errorf("listed as %+v", listed)
	}
	for _, guess := range []string{"", "elio", "1007", strings.Repeat("\x00", 32)} {
		d.signIn("elio", guess, nil, nil).want(t, http.StatusUnauthorized)
	}
	stranger := &person{d: d, header: http.Header{}}
	stranger.get(made.Address).says(t, http.StatusOK, `name="t"`)
	at, err := url.Parse(made.Address)
	must(t, err)
	d.fill("/reset", "", url.Values{"t": {at.Query().Get("t")}, "password": {otherPassword}, "again": {otherPassword}}).says(t, http.StatusOK, "Ora puoi accedere")
	d.signIn("elio", otherPassword, nil, nil).want(t, http.StatusSeeOther)
	if dora.account("elio").NoPassword {
		t.Error("elio is said to have no password")
	}
	got := strings.Join(kinds(d, journal.SeatStream(d.user("elio").ID)), " ")
	if got != "user_added reset_made sign_in_failed sign_in_failed sign_in_failed sign_in_failed password_changed signed_in" {
		t.Errorf("the journal says %q", got)
	}
	for _, secret := range []string{"Elio", "Rossi", "1007"} {
		if n := one[int](d, `select count(*) from journal where strpos(data::text, $1) > 0`, secret); n != 0 {
			t.Errorf("the journal carries %q", secret)
		}
	}
}

// TestUglyPeople: what cannot be is refused with its field, and nobody is added
// or changed.
func TestUglyPeople(t *testing.T) {
	d, dora := administered(t)
	d.leaves("bruno")
	for _, c := range []struct {
		field, says string
		more        map[string]any
	}{
		{"name", "minuscola", map[string]any{"name": ""}},
		{"name", "minuscola", map[string]any{"name": "Elio"}},
		{"name", "minuscola", map[string]any{"name": "elio rossi"}},
		{"name", "minuscola", map[string]any{"name": "élio"}},
		{"name", "minuscola", map[string]any{"name": "elio\n"}},
		{"name", "non è leggibile", map[string]any{"name": "elio\x00"}},
		{"name", "minuscola", map[string]any{"name": strings.Repeat("e", 33)}},
		{"name", "C'è già", map[string]any{"name": "anna"}},
		{"name", "C'è già", map[string]any{"name": "bruno"}}, // who left keeps it
		{"display_name", "mancare", map[string]any{"display_name": ""}},
		{"display_name", "mancare", map[string]any{"display_name": " \t "}},
		{"display_name", "100", map[string]any{"display_name": strings.Repeat("è", 101)}},
		{"display_name", "non si vedono", map[string]any{"display_name": "Elio \u202eissoR"}},
		{"role", "operator, supervisor, admin", map[string]any{"role": "king"}},
		{"extension", "cifre", map[string]any{"extension": "1"}},
		{"extension", "cifre", map[string]any{"extension": "12345678901"}},
		{"extension", "cifre", map[string]any{"extension": "١٢٣"}},
		{"extension", "cifre", map[string]any{"extension": "10 07"}},
		{"extension", "È già l'interno di Anna Bianchi.", map[string]any{"extension": "1001"}},
		{"extension", "Bruno Neri (accesso disattivato)", map[string]any{"extension": "1002"}},
		{"wrap_up", "3600", map[string]any{"wrap_up": 3601}},
		{"wrap_up", "3600", map[string]any{"wrap_up": -1}},
		{"skills", "non esiste", map[string]any{"skills": []Skill{{"giardinaggio", 1}}}},
		{"skills", "due volte", map[string]any{"skills": []Skill{{"software", 1}, {"software", 2}}}},
		{"skills[0].level", "da 1 a 3", map[string]any{"skills": []Skill{{"software", 4}}}},
		{"skills[0].level", "da 1 a 3", map[string]any{"skills": []Skill{{"software", 0}}}},
	} {
		body := profile(map[string]any{"name": "elio"})
		for key, v := range c.more {
			body[key] = v
		}
		p := dora.ask(http.MethodPost, usersPath, body).problem(t, http.StatusUnprocessableEntity)
		if p.Field != c.field || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%v is refused with %s: %s", c.more, p.Field, p.Detail)
		}
		if _, ofName := c.more["name"]; ofName {
			continue
		}
		body["version"] = dora.account("carla").Version
		delete(body, "name")
		if p := dora.ask(http.MethodPut, usersPath+"/carla", body).problem(t, http.StatusUnprocessableEntity); p.Field != c.field {
			t.Errorf("carla with %v is refused with %s: %s", c.more, p.Field, p.Detail)
		}
	}
	dora.ask(http.MethodPost, usersPath, `{"name":"elio","display_name":"Elio","role":"operator","wrap_up":30,"password":"x"}`).problem(t, http.StatusBadRequest)
	dora.ask(http.MethodPut, usersPath+"/nessuno", profile(map[string]any{"version": 1})).problem(t, http.StatusNotFound)
	for _, name := range []string{"nessuno", "%00", "%ff", strings.Repeat("x", 5000), "Anna"} {
		for _, what := range []string{"activate", "deactivate", "signout", "reset"} {
			dora.ask(http.MethodPost, usersPath+"/"+name+"/"+what, nil).problem(t, http.StatusNotFound)
		}
	}
	if n := one[int](d, `select count(*) from users`); n != 4 || dora.account("carla").DisplayName != "Carla Verdi" {
		t.Errorf("%d people, carla is %+v", n, dora.account("carla"))
	}
}

func TestWhoMayChangePeople(t *testing.T) {
	d, dora := administered(t)
	bearer := func(name string, scope Scope) *person {
		secret, _, err := d.users.MakeToken(t.Context(), name, Wish{Scope: scope, For: time.Hour})
		must(t, err)
		return &person{d: d, token: secret, header: http.Header{}}
	}
	for _, c := range []struct { // those who may not come first: a person taken off duty loses her sessions
		who          *person
		list, change int
	}{
		{d.browser("anna"), http.StatusForbidden, http.StatusForbidden},
		{d.browser("carla"), http.StatusOK, http.StatusForbidden},
		{bearer("dora", Read), http.StatusOK, http.StatusForbidden},
		{bearer("dora", Manage), http.StatusOK, http.StatusOK},
		{dora, http.StatusOK, http.StatusOK},
	} {
		listed := c.who.get(usersPath)
		listed.want(t, c.list)
		if strings.Contains(listed.body, "argon2") {
			t.Errorf("the list carries password hashes: %s", listed.body)
		}
		c.who.ask(http.MethodPut, usersPath+"/anna", profile(map[string]any{"version": dora.account("anna").Version, "role": "operator"})).want(t, c.change)
		for _, what := range []string{"deactivate", "activate"} {
			c.who.ask(http.MethodPost, usersPath+"/anna/"+what, nil).want(t, c.change)
		}
		if c.change == http.StatusForbidden {
			c.who.ask(http.MethodPost, usersPath, profile(map[string]any{"name": "elio"})).problem(t, c.change)
			c.who.ask(http.MethodPost, usersPath+"/anna/signout", nil).problem(t, c.change)
		}
	}
}

// TestTwoEditOnePerson: what somebody else has saved meanwhile is not undone.
func TestTwoEditOnePerson(t *testing.T) {
	d, dora := administered(t)
	page, _ := d.browser("carla").open()
	was := dora.account("anna")
	edit := func(version int64, more map[string]any) reply {
		more["version"] = version
		return dora.ask(http.MethodPut, usersPath+"/anna", profile(more))
	}
	saved := decoded[Account](t, edit(was.Version, map[string]any{"display_name": "Anna Bianchi Neri", "extension": "1001"}).want(t, http.StatusOK).body)
	if saved.Version != was.Version+1 || saved.DisplayName != "Anna Bianchi Neri" || saved.WrapUp != 30 || len(saved.Skills) != 2 {
		t.Errorf("saved %+v", saved)
	}
	if seat := decoded[seatView](t, string(page.event("seat").Data)); seat.DisplayName != "Anna Bianchi Neri" {
		t.Errorf("pages are told %+v", seat)
	}
	edit(was.Version, map[string]any{"role": "supervisor"}).problem(t, http.StatusConflict)
	if now := dora.account("anna"); now.Role != Operator || now.Version != saved.Version {
		t.Errorf("anna is %+v", now)
	}
	same := decoded[Account](t, edit(saved.Version, map[string]any{"display_name": "Anna Bianchi Neri", "extension": "1001"}).want(t, http.StatusOK).body)
	if same.Version != saved.Version {
		t.Error("saving what stands counts as a change")
	}
	must(t, d.users.SetSkills(t.Context(), "anna", "software")) // on the command line
	edit(saved.Version, map[string]any{}).problem(t, http.StatusConflict)
	if n := one[int](d, `select count(*) from journal where kind = 'user_edited' and (data ->> 'by')::bigint = $1`, d.user("dora").ID); n != 1 {
		t.Errorf("%d lines of an edit", n)
	}
}

// TestOneAdministratorStays: whatever several administrators do to each other at
// the same time, one is left.
func TestOneAdministratorStays(t *testing.T) {
	d, dora := administered(t)
	for _, bad := range []reply{
		dora.ask(http.MethodPost, usersPath+"/dora/deactivate", nil),
		dora.ask(http.MethodPut, usersPath+"/dora", profile(map[string]any{"version": dora.account("dora").Version, "extension": "", "role": "supervisor"})),
	} {
		if !strings.Contains(bad.body, "unica persona attiva che amministra") || bad.StatusCode < 400 {
			t.Errorf("the last administrator goes: %d %s", bad.StatusCode, bad.body)
		}
	}
	dora.ask(http.MethodPost, usersPath, profile(map[string]any{"name": "gino", "display_name": "Gino", "extension": "", "role": "admin"})).want(t, http.StatusOK)
	if bad := dora.ask(http.MethodPost, usersPath+"/dora/deactivate", nil); bad.StatusCode < 400 {
		t.Error("the last leaves whose successor has not chosen a password")
	}
	d.exec(`update users set active = false where name = 'gino'`)
	d.admin("elio")
	d.admin("fede")
	names := []string{"dora", "elio", "fede"}
	var people []User
	for _, name := range names {
		people = append(people, d.user(name))
	}
	for round := range 8 {
		version := map[string]int64{}
		d.exec(`update users set active = true, role = 'admin' where name = any($1)`, names)
		for _, a := range must1(d.users.Accounts(t.Context()))(t) {
			version[a.Name] = a.Version
		}
		var wg sync.WaitGroup
		for i, name := range names {
			by := people[(i+1)%len(people)]
			wg.Go(func() {
				if (round+i)%2 == 0 {
					_, _ = d.setActive(t.Context(), by, name, false)
					return
				}
				_, _ = d.users.editAccount(t.Context(), name, version[name], Profile{DisplayName: name, Role: Operator, WrapUp: 60}, by.ID, func(context.Context, *db.Tx, int64) error { return nil })
			})
		}
		wg.Wait()
		if left := one[int](d, `select count(*) from users where role = 'admin' and active`); left != 1 {
			t.Fatalf("round %d: %d administrators are left", round, left)
		}
	}
}

// must1 takes the value of a call that must not fail.
func must1[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// TestWhoLeavesWhileTalking: the talk goes on, everything else ends, and stays
// ended when they come back.
func TestWhoLeavesWhileTalking(t *testing.T) {
	d, dora := administered(t)
	anna, program := d.browser("anna"), d.bearer("anna")
	page, _ := anna.open()
	display, _ := program.open()
	id := d.user("anna").ID
	call, offer := d.offered("anna", "+390551234567")
	must(t, d.Queue.Accept(t.Context(), offer.ID, d.now()))

	gone := decoded[Account](t, dora.ask(http.MethodPost, usersPath+"/anna/deactivate", nil).want(t, http.StatusOK).body)
	if gone.Active {
		t.Errorf("left as %+v", gone)
	}
	if code := page.closed(); code != closeSignedOut.code {
		t.Errorf("the page is closed with %d", code)
	}
	if code := display.closed(); code != closeSignedOut.code {
		t.Errorf("the program's socket is closed with %d", code)
	}
	anna.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	program.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	d.signIn("anna", testPassword, nil, nil).want(t, http.StatusUnauthorized)
	seat, err := d.Queue.Seat(t.Context(), id)
	must(t, err)
	if seat.Declared != queue.Off || seat.Doing != queue.Talking || seat.Contact.UUID != call.contact.ID {
		t.Errorf("the seat of who talks is %+v", seat)
	}
	must(t, d.Queue.Release(t.Context(), offer.ID, d.now()))
	d.rings("+390559876543")
	d.pass(time.Minute)
	must(t, second(d.Queue.Match(t.Context(), d.now())))
	if n := one[int](d, `select count(*) from offers where state = 'pending'`); n != 0 {
		t.Error("a call is offered to who has left")
	}

	dora.ask(http.MethodPost, usersPath+"/anna/deactivate", nil).want(t, http.StatusOK) // again: nothing
	dora.ask(http.MethodPost, usersPath+"/anna/activate", nil).want(t, http.StatusOK)
	anna.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	program.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	d.signIn("anna", testPassword, nil, nil).want(t, http.StatusSeeOther)
	if seat, err = d.Queue.Seat(t.Context(), id); err != nil || seat.Declared != queue.Off {
		t.Errorf("who comes back is %+v, %v", seat, err)
	}
	got := strings.Join(kinds(d, journal.SeatStream(id)), " ")
	if strings.Count(got, "user_deactivated") != 1 || strings.Count(got, "user_activated") != 1 {
		t.Errorf("the journal says %q", got)
	}
}

// TestWhoLeavesWhileItRings: the caller keeps the place and rings elsewhere.
func TestWhoLeavesWhileItRings(t *testing.T) {
	d, dora := administered(t)
	call, offer := d.offered("anna", "+390551234567")
	dora.ask(http.MethodPost, usersPath+"/anna/deactivate", nil).want(t, http.StatusOK)
	if state := one[string](d, `select state from offers where id = $1`, offer.ID); state != "withdrawn" {
		t.Errorf("the offer is %s", state)
	}
	must(t, d.Queue.Declare(t.Context(), d.user("bruno").ID, string(queue.Available), "", d.now()))
	if o := d.match(call); o.Operator != d.user("bruno").ID {
		t.Errorf("the caller is offered to %d", o.Operator)
	}
}

// TestWhoIsDemotedHearsNoMore: the right to take part in operators' talks ends in the
// middle of one, too, and the history says why.
func TestWhoIsDemotedHearsNoMore(t *testing.T) {
	d, dora := administered(t)
	call, offer := d.offered("anna", "+390551234567")
	must(t, d.Queue.Accept(t.Context(), offer.ID, d.now()))
	must(t, d.Queue.Supervise(t.Context(), d.user("carla").ID, offer.ID, queue.Listen, d.now()))
	listens, err := d.Queue.AwaitSupervision(t.Context(), offer, nil)
	must(t, err)
	must(t, d.Queue.Supervises(t.Context(), listens, d.now()))

	was := dora.account("carla")
	edit := func(role Role, version int64) {
		dora.ask(http.MethodPut, usersPath+"/carla", map[string]any{"version": version, "display_name": was.DisplayName, "role": role, "extension": was.Extension, "wrap_up": was.WrapUp, "skills": was.Skills}).want(t, http.StatusOK)
	}
	edit(Admin, was.Version) // who administers may listen, too
	if seat, err := d.Queue.Seat(t.Context(), d.user("anna").ID); err != nil || seat.Supervisor != "carla" {
		t.Errorf("promoted in the talk: %+v, %v", seat, err)
	}
	edit(Operator, was.Version+1)
	if now, err := d.Queue.AwaitSupervision(t.Context(), offer, listens); err != nil || now != nil {
		t.Errorf("the conversation is told %+v, %v", now, err)
	}
	got := strings.Join(kinds(d, journal.ContactStream(call.contact.ID)), " ")
	if !strings.HasSuffix(got, "supervision_asked supervision_began supervision_ended") {
		t.Errorf("the journal says %q", got)
	}
	if why := one[string](d, `select data->>'reason' from journal where kind = 'supervision_ended' and stream = $1`, journal.ContactStream(call.contact.ID)); why != "demoted" {
		t.Errorf("it ended because of %q", why)
	}
}

// TestSessionsAreEndedEverywhere: a node that was not asked hears of it by the
// journal; programs go on.
func TestSessionsAreEndedEverywhere(t *testing.T) {
	d, dora := administered(t)
	anna, program, carla := d.browser("anna"), d.bearer("anna"), d.browser("carla")
	page, _ := anna.open()
	other, _ := carla.open()
	dora.ask(http.MethodPost, usersPath+"/anna/signout", nil).want(t, http.StatusNoContent)
	if code := page.closed(); code != closeSignedOut.code {
		t.Errorf("the page is closed with %d", code)
	}
	anna.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	program.get("/api/v1/me").want(t, http.StatusOK)
	d.signIn("anna", testPassword, nil, nil).want(t, http.StatusSeeOther)
	must(t, second(d.users.endSessions(t.Context(), "carla", 0))) // as another node does it
	if code := other.closed(); code != closeSignedOut.code {
		t.Errorf("the page on another node is closed with %d", code)
	}
}

func TestWrongTokensAreLimited(t *testing.T) {
	d := newDesk(t)
	anna, page := d.bearer("anna"), d.browser("anna")
	anna.get("/api/v1/me").want(t, http.StatusOK)
	guess := &person{d: d, token: tokenPrefix + uuid.NewString(), header: http.Header{}}
	for range wrongPerAddress {
		guess.get("/api/v1/me").problem(t, http.StatusUnauthorized)
	}
	if got := guess.get("/api/v1/me").want(t, http.StatusTooManyRequests).Header.Get("Retry-After"); got == "" {
		t.Error("the limit does not say when to come back")
	}
	anna.get("/api/v1/me").want(t, http.StatusTooManyRequests)
	page.get("/api/v1/me").want(t, http.StatusOK) // who signed in is not hindered
}
