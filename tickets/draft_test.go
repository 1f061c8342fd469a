package tickets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// settingsJSON is a document without a fault, as a screen sends it.
const settingsJSON = `{
	"name": "Assistenza serale", "numbers": ["848 000 111", "+39 055 1112223"],
	"hours": {"patron": "06-24",
		"week": [{"weekday": 1, "opens": "14:00", "closes": "18:00"}, {"weekday": 1, "opens": "08:00", "closes": "13:00"}, {"weekday": 6, "opens": "08:00", "closes": "14:00"}],
		"exceptional": [{"first": "2026-06-07", "last": "2026-06-08", "windows": [{"opens": "00:00", "closes": "24:00"}], "note": "Elezioni"}, {"first": "2026-08-14", "windows": []}]},
	"menu": [{"key": "1", "topic": "t1", "default": true}, {"key": "2", "action": "state"}],
	"mobiles_refused": true, "recording_notice": true, "max_wait": 600, "at_closing": "callback", "announce_every": 60, "callback_offered": false,
	"duty": {"numbers": ["055 7654321"], "from": "20:00", "to": "08:00"}
}`

func settingsOf(t testing.TB, text string) (s Settings) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), &s))
	return s
}

// newDraft is a service with the document above as its draft.
func (d *desk) newDraft() int64 {
	d.t.Helper()
	id, err := d.NewService(d.t.Context(), Draft{Settings: settingsOf(d.t, settingsJSON)}, d.anna, monday)
	must(d.t, err)
	return id
}

// stream is what the journal says of a stream, with the versions.
func (d *desk) stream(name string) []string {
	d.t.Helper()
	rows, err := d.db.Pool.Query(d.t.Context(), `select concat_ws(' ', kind, data ->> 'version') from journal where stream = $1 order by seq`, name)
	must(d.t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(d.t, err)
	must(d.t, journal.Verify(d.t.Context(), d.db.Pool, name))
	return list
}

// blocking are the faults that are no warnings.
// untouched is for whom nobody is listened to.
func untouched(context.Context, *db.Tx) error { return nil }

func blocking(list []Fault) []Fault {
	return slices.DeleteFunc(slices.Clone(list), func(f Fault) bool { return f.Warning })
}

func TestDraftIsPublished(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	id := d.newDraft()
	if _, err := d.ServiceAt(ctx, "848000111", monday); !errors.Is(err, ErrNotFound) {
		t.Errorf("a draft can be dialled: %v", err)
	}
	list, err := d.Check(ctx, id, monday)
	must(t, err)
	if len(blocking(list)) > 0 || len(list) != 2 || !strings.Contains(list[0].Reason, "«menu_t1»") || !strings.Contains(list[1].Reason, "Nessun operatore") {
		t.Errorf("the faults of a good draft: %+v", list)
	}
	published, err := d.Publish(ctx, id, 1, d.bruno, monday, untouched)
	must(t, err)
	if !published.InForce || published.Version != 1 || published.MadeBy.Name != "anna" || published.PublishedBy.Name != "bruno" || !published.ValidFrom.Equal(monday) {
		t.Errorf("published: %+v", published)
	}
	s, err := d.ServiceAt(ctx, "055 1112223", monday)
	must(t, err)
	if s.ID != id || s.Number != "848000111" || s.MaxWait != 10*time.Minute || s.AtClosing != AtClosingCallback || s.AnnounceEvery != time.Minute ||
		s.CallbackOffered || !s.MobilesRefused || !s.RecordingNotice || s.DefaultTopic() != d.topics[0] || len(s.Menu) != 2 {
		t.Errorf("the service is %+v", s)
	}
	for at, want := range map[string]bool{
		"2026-03-02 12:59": true, "2026-03-02 13:00": false, "2026-03-02 14:00": true, "2026-03-07 13:59": true, // a Saturday
		"2026-06-07 03:00": true, "2026-06-24 09:00": false, "2026-03-03 10:00": false,
	} {
		when, err := time.ParseInLocation("2006-01-02 15:04", at, calendar.Rome())
		must(t, err)
		if open, _ := s.Open(when); open != want {
			t.Errorf("at %s open is %v", at, open)
		}
	}
	// A second version for the next day, published today: the day's calls keep the first.
	next := settingsOf(t, settingsJSON)
	next.Hours.Always, next.Name = true, "Assistenza continua"
	tomorrow := monday.Add(24 * time.Hour)
	draft, err := d.PutDraft(ctx, id, Draft{Settings: next, ValidFrom: &tomorrow}, d.anna, monday.Add(time.Hour))
	must(t, err)
	_, err = d.Publish(ctx, id, draft.Revision, d.anna, monday.Add(time.Hour), untouched)
	must(t, err)
	for at, want := range map[time.Time]int64{monday: 1, tomorrow.Add(-time.Second): 1, tomorrow: 2, tomorrow.AddDate(5, 0, 0): 2} {
		if s, err := d.ServiceAt(ctx, "848000111", at); err != nil || s.Version != want {
			t.Errorf("at %v version %d is in force, %v", at, s.Version, err)
		}
	}
	s, err = d.ServiceAt(ctx, "848000111", monday)
	must(t, err)
	if open, changes := s.Open(monday.Add(10 * time.Hour)); open || !changes.Equal(tomorrow) { // Monday evening: Tuesday it never closes
		t.Errorf("the next opening across versions: %v", changes)
	}
	all, err := d.Overviews(ctx, monday.Add(2*time.Hour))
	must(t, err)
	i := slices.IndexFunc(all, func(o Overview) bool { return o.ID == id })
	if len(all) != 2 || i < 0 || all[i].Version != 1 || all[i].Name != "Assistenza serale" || all[i].NextFrom == nil || !all[i].NextFrom.Equal(tomorrow) || !all[i].Open || all[i].HasDraft {
		t.Errorf("the list of services: %+v", all)
	}
	versions, err := d.Versions(ctx, id, tomorrow)
	must(t, err)
	if len(versions) != 2 || versions[0].Version != 2 || !versions[0].InForce || versions[1].InForce || *versions[0].Settings.CallbackOffered {
		t.Errorf("the versions: %+v", versions)
	}
	if kinds := d.stream(journal.ServiceStream(id)); fmt.Sprint(kinds) != "[published 1 published 2]" {
		t.Errorf("the journal of the service: %v", kinds)
	}
}

// TestEveryFaultIsFound changes the good document in one place a time.
func TestEveryFaultIsFound(t *testing.T) {
	d := newDesk(t)
	id := d.newDraft()
	revision := int64(1)
	for _, c := range []struct {
		name          string
		change        func(*Settings)
		field, reason string
	}{
		{"no menu", func(s *Settings) { s.Menu = nil }, "menu", "non porta da nessuna parte"},
		{"no topic", func(s *Settings) { s.Menu[0].Topic = "" }, "menu[0].topic", "non porta da nessuna parte"},
		{"a topic that is none", func(s *Settings) { s.Menu[0].Topic = "fax" }, "menu[0].topic", "non esiste"},
		{"an action to nothing", func(s *Settings) { s.Menu[1].Action = "transfer" }, "menu[1].action", "non porta da nessuna parte"},
		{"only the state of a request", func(s *Settings) { s.Menu = s.Menu[1:] }, "menu", "Nessun tasto porta a un argomento"},
		{"no default", func(s *Settings) { s.Menu[0].Default = false }, "menu", "Manca il tasto predefinito"},
		{"two defaults", func(s *Settings) { s.Menu = append(s.Menu, MenuSetting{"3", ActionTopic, "t2", true}) }, "menu[2].default", "Un solo tasto"},
		{"the state as default", func(s *Settings) { s.Menu[0].Default, s.Menu[1].Default = false, true }, "menu[1].default", "Chi non sceglie"},
		{"the state of a topic", func(s *Settings) { s.Menu[1].Topic = "t1" }, "menu[1].topic", "non ha argomento"},
		{"a key twice", func(s *Settings) { s.Menu[1].Key = "1" }, "menu[1].key", "Il tasto 1 è usato due volte"},
		{"no key of a telephone", func(s *Settings) { s.Menu[1].Key = "10" }, "menu[1].key", "da 1 a 9"},
		{"overlapping hours", func(s *Settings) { s.Hours.Week[0].Opens = "12:30" }, "hours.week[0]", "08:00–13:00 e 12:30–18:00"},
		{"hours upside down", func(s *Settings) { s.Hours.Week[2].Closes = "07:00" }, "hours.week[2].closes", "08:00–07:00"},
		{"a day that is none", func(s *Settings) { s.Hours.Week[2].Weekday = 0 }, "hours.week[2].weekday", "da 1"},
		{"no time of a day", func(s *Settings) { s.Hours.Week[2].Opens = "8:00" }, "hours.week[2].opens", "HH:MM"},
		{"past midnight", func(s *Settings) { s.Hours.Week[2].Closes = "24:01" }, "hours.week[2].closes", "24:00"},
		{"a sign", func(s *Settings) { s.Hours.Week[2].Closes = "+9:-1" }, "hours.week[2].closes", "HH:MM"},
		{"no patron", func(s *Settings) { s.Hours.Patron = "06-31" }, "hours.patron", "MM-GG"},
		{"no date", func(s *Settings) { s.Hours.Exceptional[0].First = "2026-02-29" }, "hours.exceptional[0].first", "AAAA-MM-GG"},
		{"no last date", func(s *Settings) { s.Hours.Exceptional[0].Last = "8 giugno" }, "hours.exceptional[0].last", "AAAA-MM-GG"},
		{"a period upside down", func(s *Settings) { s.Hours.Exceptional[0].Last = "2026-06-06" }, "hours.exceptional[0].last", "prima del primo"},
		{"a period without end", func(s *Settings) { s.Hours.Exceptional[0].Last = "2036-06-06" }, "hours.exceptional[0].last", "al massimo 366"},
		{"a day in two rows", func(s *Settings) { s.Hours.Exceptional[1].First = "2026-06-08"; s.Hours.Exceptional[1].Last = "" }, "hours.exceptional[1]", "08/06/2026 sta già nella riga 1"},
		{"overlapping on an exceptional day", func(s *Settings) {
			s.Hours.Exceptional[0].Windows = []WindowSetting{{"08:00", "10:00"}, {"09:00", "11:00"}}
		}, "hours.exceptional[0].windows[1]", "08:00–10:00 e 09:00–11:00"},
		{"no number", func(s *Settings) { s.Numbers = nil }, "numbers", "nessun numero"},
		{"a number that is none", func(s *Settings) { s.Numbers[1] = "centralino" }, "numbers[1]", "La riga 2"},
		{"a number twice", func(s *Settings) { s.Numbers[1] = "848000111" }, "numbers[1]", "due volte"},
		{"a number of another service", func(s *Settings) { s.Numbers[1] = "800 123 456" }, "numbers[1]", "appartiene al servizio «Assistenza»"},
		{"no name", func(s *Settings) { s.Name = "  " }, "name", "obbligatorio"},
		{"a long name", func(s *Settings) { s.Name = strings.Repeat("è", nameLongest+1) }, "name", "supera"},
		{"a short wait", func(s *Settings) { s.MaxWait = 59 }, "max_wait", "60 a 7200"},
		{"nobody for ever", func(s *Settings) { s.NobodyWait = 7201 }, "nobody_wait", "15 a 7200"},
		{"never silent", func(s *Settings) { s.AnnounceEvery = 1 }, "announce_every", "15 a 600"},
		{"recorded without an agreement", func(s *Settings) { s.RecordCalls = true }, "recording_agreement", "legge 300/1970"},
		{"recorded without a notice", func(s *Settings) {
			s.RecordCalls, s.RecordingAgreement, s.RecordingNotice = true, "Accordo del 15/01/2026", false
		}, "recording_notice", "attiva l'avviso"},
		{"recorded for ever", func(s *Settings) { s.RecordingDays = 3651 }, "recording_days", "da 1 a 3650 giorni"},
		{"listened to without an agreement", func(s *Settings) { s.SuperviseCalls = true }, "supervision_agreement", "legge 300/1970"},
		{"closing into nothing", func(s *Settings) { s.AtClosing = "drop" }, "at_closing", "Alla chiusura"},
		{"many numbers", func(s *Settings) { s.Numbers = make([]string, serviceNumbers+1) }, "numbers", "al massimo"},
		{"many windows", func(s *Settings) { s.Hours.Week = make([]WeekSetting, windowsMost+1) }, "hours.week", "al massimo"},
		{"many days", func(s *Settings) { s.Hours.Exceptional = make([]PeriodSetting, periodsMost+1) }, "hours.exceptional", "al massimo"},
	} {
		settings := settingsOf(t, settingsJSON)
		c.change(&settings)
		draft, err := d.PutDraft(t.Context(), id, Draft{Settings: settings, Revision: revision}, d.anna, monday) // whatever it holds, it is kept
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		revision = draft.Revision
		list, err := d.Check(t.Context(), id, monday)
		must(t, err)
		if !slices.ContainsFunc(list, func(f Fault) bool {
			return f.Field == c.field && strings.Contains(f.Reason, c.reason) && !f.Warning && f.Place != ""
		}) {
			t.Errorf("%s: the faults are %+v", c.name, list)
		}
		var faulty *FaultyError
		if _, err := d.Publish(t.Context(), id, revision, d.anna, monday, untouched); !errors.As(err, &faulty) || asJSON(t, faulty.Faults) != asJSON(t, list) {
			t.Errorf("%s: publish says %v", c.name, err)
		}
	}
	if n := d.count(`select count(*) from service_versions where service_id = $1 and state = 'published'`, id); n != 0 {
		t.Errorf("%d faulty versions were published", n)
	}
}

func TestCheckWarns(t *testing.T) {
	d := newDesk(t)
	settings := settingsOf(t, settingsJSON)
	settings.Hours = HoursSettings{}
	yesterday := monday.Add(-24 * time.Hour)
	id, err := d.NewService(t.Context(), Draft{Settings: settings, ValidFrom: &yesterday}, d.anna, monday)
	must(t, err)
	list, err := d.Check(t.Context(), id, monday)
	must(t, err)
	for _, want := range []string{"non apre mai", "data di validità è passata"} {
		if !slices.ContainsFunc(list, func(f Fault) bool { return f.Warning && strings.Contains(f.Reason, want) }) {
			t.Errorf("no warning says %q: %+v", want, list)
		}
	}
	settings.Hours.Exceptional = []PeriodSetting{{First: "2026-05-20", Last: "2026-06-09", Windows: []WindowSetting{{"00:00", "24:00"}}}} // 21 days
	_, err = d.PutDraft(t.Context(), id, Draft{Settings: settings, Revision: 1}, d.anna, monday)
	must(t, err)
	list, err = d.Check(t.Context(), id, monday)
	must(t, err)
	if !slices.ContainsFunc(list, func(f Fault) bool {
		return f.Warning && strings.Contains(f.Reason, "Nel 2026 i giorni di 24 ore sono 21")
	}) {
		t.Errorf("twenty-one 24-hour days: %+v", list)
	}
	_, err = d.db.Pool.Exec(t.Context(), `insert into user_topics (user_id, topic_id) values ($1, $2)`, d.anna, d.topics[0].ID)
	must(t, err)
	version, err := d.Publish(t.Context(), id, 2, d.anna, monday, untouched)
	must(t, err)
	if !version.ValidFrom.Equal(monday) { // the past stays as it was
		t.Errorf("it holds from %v", version.ValidFrom)
	}
}

// TestDraftsDoNotOvertakeEachOther: who saves, publishes or discards says what was read.
func TestDraftsDoNotOvertakeEachOther(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	id := d.newDraft()
	good := Draft{Settings: settingsOf(t, settingsJSON), Revision: 1}
	_, err := d.PutDraft(ctx, id, good, d.anna, monday)
	must(t, err)
	var refused *Refusal
	conflict := func(what string, err error) {
		t.Helper()
		if !errors.As(err, &refused) || refused.Field != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = d.PutDraft(ctx, id, good, d.bruno, monday)
	conflict("a second save of revision 1", err)
	good.Revision = 0
	_, err = d.PutDraft(ctx, id, good, d.bruno, monday)
	conflict("a second draft", err)
	_, err = d.Publish(ctx, id, 1, d.bruno, monday, untouched)
	conflict("publishing what was not read", err)
	conflict("discarding what was not read", d.Discard(ctx, id, 1, d.bruno, monday))
	_, err = d.NewService(ctx, good, d.bruno, monday)
	if !errors.As(err, &refused) || refused.Field != "numbers" {
		t.Errorf("a second service of the number: %v", err)
	}
	must(t, d.Discard(ctx, id, 2, d.anna, monday))
	if _, err := d.Versions(ctx, id, monday); !errors.Is(err, ErrNotFound) { // it had nothing else
		t.Errorf("after the draft was discarded: %v", err)
	}
	_, err = d.PutDraft(ctx, id, good, d.anna, monday)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a draft of nothing: %v", err)
	}

	s, err := d.Service(ctx, "800123456")
	must(t, err)
	_, err = d.Check(ctx, s.ID, monday)
	conflict("checking no draft", err)
	_, err = d.Publish(ctx, s.ID, 1, d.anna, monday, untouched)
	conflict("publishing no draft", err)
	good.Settings.Numbers = []string{"800123456"}
	_, err = d.PutDraft(ctx, s.ID, good, d.anna, monday)
	must(t, err)
	must(t, d.Discard(ctx, s.ID, 1, d.anna, monday))
	if again, err := d.Service(ctx, "800123456"); err != nil || again.Version != s.Version {
		t.Errorf("the service without its draft: %+v, %v", again, err)
	}
	bad := good
	bad.Settings.Name = "un \x00 nel nome"
	if _, err := d.PutDraft(ctx, s.ID, bad, d.anna, monday); !errors.As(err, &refused) {
		t.Errorf("a NUL: %v", err)
	}
	for name, change := range map[string]func(*Settings){"numbers": func(s *Settings) { s.Numbers = nil }, "name": func(s *Settings) { s.Name = "" }} {
		settings := settingsOf(t, settingsJSON)
		change(&settings)
		if _, err := d.NewService(ctx, Draft{Settings: settings}, d.anna, monday); !errors.As(err, &refused) || refused.Field != name {
			t.Errorf("a new service without %s: %v", name, err)
		}
	}
}

// TestNumberInTwoServices: a number may move on once the other service has given it up.
func TestNumberInTwoServices(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	first, err := d.Service(ctx, "800123456")
	must(t, err)
	settings := settingsOf(t, settingsJSON)
	settings.Numbers = []string{"800123457"}
	later := monday.Add(48 * time.Hour)
	_, err = d.PutDraft(ctx, first.ID, Draft{Settings: settings, ValidFrom: &later}, d.anna, monday)
	must(t, err)
	_, err = d.Publish(ctx, first.ID, 1, d.anna, monday, untouched)
	must(t, err)

	settings.Numbers = []string{"848000111", "800123456"}
	id, err := d.NewService(ctx, Draft{Settings: settings}, d.anna, monday)
	must(t, err)
	taken := func(from time.Time, numbers ...string) []Fault {
		t.Helper()
		settings.Numbers = numbers
		versions, err := d.Versions(ctx, id, monday)
		must(t, err)
		_, err = d.PutDraft(ctx, id, Draft{Settings: settings, ValidFrom: &from, Revision: versions[0].Revision}, d.anna, monday)
		must(t, err)
		list, err := d.Check(ctx, id, monday)
		must(t, err)
		return blocking(list)
	}
	if list := taken(monday, "848000111", "800123456"); len(list) != 1 {
		t.Errorf("a number that another has until Wednesday: %+v", list)
	}
	if list := taken(later, "848000111", "800123456"); len(list) != 0 {
		t.Errorf("the number that is free by then: %+v", list)
	}
	if list := taken(monday, "848000111", "800123457"); len(list) != 1 {
		t.Errorf("a number that another will have: %+v", list)
	}
}

func TestEmergency(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	at := func(when time.Time) Emergency {
		t.Helper()
		e, err := d.Emergency(ctx, when)
		must(t, err)
		return e
	}
	if e := at(monday); e.Active {
		t.Errorf("before: %+v", e)
	}
	must(t, d.BeginEmergency(ctx, "", time.Time{}, d.anna, monday))
	if e := at(monday.Add(time.Hour)); !e.Active || e.Clip != "" || !e.Since.Equal(monday) || !e.Until.IsZero() {
		t.Errorf("on: %+v", e)
	}
	var unknown *Refusal
	if err := d.BeginEmergency(ctx, "guasto_fse", time.Time{}, d.bruno, monday.Add(time.Hour)); !errors.As(err, &unknown) || unknown.Field != "clip" {
		t.Errorf("a clip that nobody has spoken: %v", err)
	}
	if e := at(monday.Add(time.Hour)); !e.Active || e.Clip != "" {
		t.Errorf("after a refusal: %+v", e)
	}
	_, err := d.db.Pool.Exec(ctx, `insert into prompts (name, alaw, text, made_at) values ('guasto_fse', '\xd5', 'Il fascicolo è fermo.', now())`)
	must(t, err)
	must(t, d.BeginEmergency(ctx, "guasto_fse", monday.Add(3*time.Hour), d.bruno, monday.Add(time.Hour))) // another in its place
	if e := at(monday.Add(2 * time.Hour)); !e.Active || e.Clip != "guasto_fse" {
		t.Errorf("the second: %+v", e)
	}
	if away, err := d.away().Emergency(ctx, monday.Add(2*time.Hour)); err != nil || !away.Active {
		t.Errorf("with the database away: %+v, %v", away, err)
	}
	if e := at(monday.Add(3 * time.Hour)); e.Active {
		t.Errorf("after its end: %+v", e)
	}
	must(t, d.EndEmergency(ctx, d.anna, monday.Add(150*time.Minute)))
	if e := at(monday.Add(151 * time.Minute)); e.Active {
		t.Errorf("ended early: %+v", e)
	}
	var refused *Refusal
	if err := d.EndEmergency(ctx, d.anna, monday.Add(152*time.Minute)); !errors.As(err, &refused) || refused.Field != "" {
		t.Errorf("ended twice: %v", err)
	}
	if err := d.BeginEmergency(ctx, "", monday, d.anna, monday); !errors.As(err, &refused) || refused.Field != "until" {
		t.Errorf("over before it begins: %v", err)
	}
	if err := d.BeginEmergency(ctx, strings.Repeat("x", 100), time.Time{}, d.anna, monday); !errors.As(err, &refused) || refused.Field != "clip" {
		t.Errorf("a clip that cannot be: %v", err)
	}
	if kinds := d.stream(journal.DeskStream); fmt.Sprint(kinds) != "[emergency_began emergency_began emergency_ended]" {
		t.Errorf("the desk's journal: %v", kinds)
	}
}

// TestSettingsOfACallWhileAway: nobody knew the service, so the row finds it later.
func TestSettingsOfACallWhileAway(t *testing.T) {
	d := newDesk(t)
	away := d.away()
	away.services = nil // the server has just been started
	c, err := away.Begin(t.Context(), Arrival{Channel: Phone, ID: "x", To: "800123456", At: monday})
	must(t, err)
	if c.Service != nil || !c.Deferred {
		t.Fatalf("it knew: %+v", c)
	}
	d.replay()
	if r := d.record(c); r.Service != "Assistenza" || r.Settings == nil || *r.Settings != 1 {
		t.Errorf("the contact is of %q, version %v", r.Service, r.Settings)
	}
}

// FuzzSettings: whatever a document holds is read without harm, and what has no
// fault says the same when it is written and read again.
func FuzzSettings(f *testing.F) {
	f.Add([]byte(settingsJSON))
	f.Add([]byte(`{"hours":{"week":[{"weekday":7,"opens":"00:00","closes":"24:00"}],"exceptional":[{"first":"0001-01-01","last":"9999-12-31"}]},"menu":[{"key":"è"}]}`))
	f.Add([]byte(`{"numbers":["anonymous","+39"],"max_wait":-9223372036854775808,"hours":{"patron":"02-29"}}`))
	topics := map[string]Topic{"t1": {ID: 1, Code: "t1", Name: "uno"}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s Settings
		if json.Unmarshal(raw, &s) != nil {
			return
		}
		var list faults
		service := s.filled().service(topics, &list)
		service.leadsSomewhere(&list)
		service.Hours.Open(monday)
		if list.blocking() {
			return
		}
		again := service.settings(map[int64]string{1: "t1"}).service(topics, &list)
		if list.blocking() || asJSON(t, again) != asJSON(t, service) {
			t.Errorf("read again: %+v, %v", again, list)
		}
	})
}

// TestServicesOfBeforeBecomeVersions: a desk that is updated keeps its hours and
// menus, as if they had been published when it began.
func TestServicesOfBeforeBecomeVersions(t *testing.T) {
	ctx := t.Context()
	old := dbtest.New(t)
	conn := stdlib.OpenDBFromPool(old.Pool)
	schema, err := goose.NewProvider(goose.DialectPostgres, conn, os.DirFS("../db/schema"), goose.WithDisableGlobalRegistry(true))
	must(t, err)
	_, err = schema.DownTo(ctx, 2)
	must(t, err)
	for _, sql := range []string{
		`insert into topics (code, name) values ('t1', 'Cartella'), ('t2', 'Certificati')`,
		`insert into services (number, name, open_holidays) values ('800123456', 'Di prima', true)`,
		`insert into services (number, name, always_open) values ('800000001', 'Sempre', true)`,
		`insert into service_hours select id, 7, '09:00', '24:00' from services where number = '800123456'`,
		`insert into service_hours select id, 1, '08:00', '13:00' from services where number = '800123456'`,
		`insert into service_menu select s.id, t.id::text, t.id, t.id = 2 from services s, topics t where s.number = '800123456'`,
	} {
		_, err := old.Pool.Exec(ctx, sql)
		must(t, err)
	}
	_, err = schema.Up(ctx)
	must(t, err)
	must(t, conn.Close())

	book := NewBook(old, "node1", nil, slog.New(slog.DiscardHandler))
	s, err := book.ServiceAt(ctx, "800123456", time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))
	must(t, err)
	if s.Version != 1 || s.Name != "Di prima" || !s.CallbackOffered || !s.Hours.OpenHolidays || len(s.Menu) != 2 || s.DefaultTopic().Code != "t2" || s.MaxWait != maxWaitUsual ||
		!slices.Equal(s.Hours.Week[time.Sunday], []calendar.Span{{Open: 540, Close: 1440}}) || !slices.Equal(s.Hours.Week[time.Monday], []calendar.Span{{Open: 480, Close: 780}}) {
		t.Errorf("the service of before is %+v", s)
	}
	always, err := book.Service(ctx, "800000001")
	must(t, err)
	if !always.Hours.Always || len(always.Menu) != 0 {
		t.Errorf("the one that is always open: %+v", always)
	}
}
