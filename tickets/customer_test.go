package tickets

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/charmap"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

func TestMatchOf(t *testing.T) {
	d := newDesk(t)
	for number, want := range map[string]Match{
		"+390551234567": {Sure: MatchCertain, Why: "Il numero è di un solo medico."},
		"055 765 4321":  {Sure: MatchSeveral, Why: "Il numero è di 2 medici: chiedere il nome."},
		"+393331234567": {Sure: MatchNone, Why: "Il numero non è in anagrafica."},
		"":              {Sure: MatchWithheld, Why: "Il chiamante nasconde il numero."},
	} {
		got, err := d.MatchOf(t.Context(), number)
		must(t, err)
		if got.Sure != want.Sure || got.Why != want.Why || got.Customers == nil {
			t.Errorf("%q: %+v", number, got)
		}
	}
	for i := range MatchesShown + 2 {
		_, err := d.PutCustomer(t.Context(), Customer{Code: fmt.Sprint("p", i), Name: "Poliambulatorio", Numbers: []string{"0558888888"}}, monday)
		must(t, err)
	}
	got, err := d.MatchOf(t.Context(), "0558888888")
	must(t, err)
	if len(got.Customers) != MatchesShown || !strings.Contains(got.Why, "almeno 10") {
		t.Errorf("%+v", got)
	}
}

func TestCustomersSearch(t *testing.T) {
	d := newDesk(t)
	for query, want := range map[string][]string{
		"":               {"Anna Bianchi", "Luca Verdi", "Mario Rossi"},
		"rossi":          {"Mario Rossi"},
		"1042":           {"Mario Rossi"},
		"centro":         {"Mario Rossi"},
		"055 765 4321":   {"Anna Bianchi", "Luca Verdi"},
		"_":              nil,
		"%":              nil,
		"Mario\x00 Ross": {"Mario Rossi"},
	} {
		page, err := d.Customers(t.Context(), query, "", 0)
		must(t, err)
		var got []string
		for _, c := range page.Items {
			got = append(got, c.Name)
		}
		if !slices.Equal(got, want) || page.Items == nil {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
	first, err := d.Customers(t.Context(), "", "", 2)
	must(t, err)
	if len(first.Items) != 2 || first.Next == nil {
		t.Fatalf("%+v", first)
	}
	if rest, err := d.Customers(t.Context(), "", *first.Next, 2); err != nil || len(rest.Items) != 1 || rest.Items[0].Name != "Mario Rossi" || rest.Next != nil {
		t.Errorf("%+v, %v", rest, err)
	}
	var refused *Refusal
	if _, err := d.Customers(t.Context(), "", "?", 2); !errors.As(err, &refused) || refused.Field != "cursor" {
		t.Errorf("%v", err)
	}
}

func TestPutCustomerReplaces(t *testing.T) {
	d := newDesk(t)
	got, err := d.PutCustomer(t.Context(), Customer{Code: " 1042 ", Name: "Mario Rossi", Email: "rossi@example.it", Numbers: []string{"333 1234567", "+393331234567", "055 1111111"}}, monday)
	must(t, err)
	if got.ID != d.rossi.ID || got.Practice != "" || got.Email != "rossi@example.it" || !slices.Equal(got.Numbers, []string{"+390551111111", "+393331234567"}) {
		t.Errorf("%+v", got)
	}
	var refused *Refusal
	for field, c := range map[string]Customer{
		"code": {Name: "x"}, "name": {Code: "x", Name: " "}, "email": {Code: "x", Name: "x", Email: "Rossi <rossi@example.it>"}, "numbers": {Code: "x", Name: "x", Numbers: []string{"800123456"}},
		"practice": {Code: "x", Name: "x", Practice: strings.Repeat("x", lineMost+1)}, "authority": {Code: "x", Name: "x", Authority: "a\x00b"},
	} {
		if _, err := d.PutCustomer(t.Context(), c, monday); !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

const register = "codice,nome,ambulatorio,azienda,email,numeri\n"

// TestImport reads the same doctors from the files that spreadsheets write.
func TestImport(t *testing.T) {
	windows := func(s string) string {
		out, err := charmap.Windows1252.NewEncoder().String(s)
		must(t, err)
		return out
	}
	plain := "codice,nome,ambulatorio,azienda,email,numeri\n7,Niccolò D'Amì,\"Via Roma, 1\",Toscana Centro,n.dami@example.it,055 1112223;3331112223\n"
	semicolons := "codice;nome;ambulatorio;azienda;email;numeri\n7;Niccolò D'Amì;Via Roma, 1;Toscana Centro;n.dami@example.it;0551112223 3331112223\n"
	for name, file := range map[string]string{
		"commas":                    plain,
		"semicolons":                semicolons,
		"BOM":                       "\ufeff" + plain,
		"Windows-1252":              windows(semicolons),
		"CRLF":                      strings.ReplaceAll(plain, "\n", "\r\n"),
		"CR":                        strings.ReplaceAll(plain, "\n", "\r"),
		"no last line end":          strings.TrimSuffix(plain, "\n"),
		"empty lines at the end":    semicolons + ";;;;;\n\n;;;;;\n",
		"quoted numbers":            "codice;nome;ambulatorio;azienda;email;numeri\n7;Niccolò D'Amì;Via Roma, 1;Toscana Centro;n.dami@example.it;\"055 1112223;333 1112223\"\n",
		"numbers in columns":        "codice;nome;ambulatorio;azienda;email;numeri\n7;Niccolò D'Amì;Via Roma, 1;Toscana Centro;n.dami@example.it;055 1112223;333 1112223\n",
		"another order, capitals":   "Numeri,EMAIL,Azienda, Ambulatorio ,Nome,CODICE\n+390551112223 +393331112223,n.dami@example.it,Toscana Centro,\"Via Roma, 1\",Niccolò D'Amì,7\n",
		"blanks around":             "codice,nome,ambulatorio,azienda,email,numeri\n 7 , Niccolò D'Amì ,\"Via Roma, 1\", Toscana Centro , n.dami@example.it , 0551112223 3331112223 \n",
		"international and doubled": "codice,nome,ambulatorio,azienda,email,numeri\n7,Niccolò D'Amì,\"Via Roma, 1\",Toscana Centro,n.dami@example.it,0039 055 1112223; +39 333 1112223;0551112223\n",
	} {
		t.Run(name, func(t *testing.T) {
			list, _, bad, err := parseCustomers(strings.NewReader(file))
			if err != nil || len(bad) > 0 || len(list) != 1 {
				t.Fatalf("%+v, %+v, %v", list, bad, err)
			}
			want := Customer{Code: "7", Name: "Niccolò D'Amì", Practice: "Via Roma, 1", Authority: "Toscana Centro", Email: "n.dami@example.it", Numbers: []string{"+390551112223", "+393331112223"}}
			if asJSON(t, list[0]) != asJSON(t, want) {
				t.Errorf("%+v", list[0])
			}
		})
	}
}

// TestImportOfSomeColumns: what a file does not speak of stays as it is known, also
// in the preview; an empty field empties.
func TestImportOfSomeColumns(t *testing.T) {
	d := newDesk(t)
	load := func(file string) Imported {
		t.Helper()
		got, err := d.ImportCustomers(t.Context(), strings.NewReader(file), 0, monday)
		must(t, err)
		return got
	}
	load("codice;nome;ambulatorio;azienda;email;numeri\n7;Ada;Via Roma 1;Centro;ada@example.it;0551112223\n")
	known := func() Customer {
		t.Helper()
		page, err := d.MatchOf(t.Context(), "0551112223")
		must(t, err)
		if len(page.Customers) != 1 {
			t.Fatalf("%+v", page)
		}
		return page.Customers[0]
	}
	before := known()
	preview, err := d.PreviewCustomers(t.Context(), strings.NewReader("codice;nome\n7;Ada\n8;Bea\n"))
	must(t, err)
	if preview.Imported.Unchanged != 1 || preview.Imported.Created != 1 || preview.Imported.Updated != 0 {
		t.Errorf("the preview says %+v", preview.Imported)
	}
	if got := load("nome;codice\nAda Neri;7\n"); got.Updated != 1 {
		t.Errorf("%+v", got)
	}
	before.Name = "Ada Neri"
	if now := known(); asJSON(t, now) != asJSON(t, before) {
		t.Errorf("%+v, want %+v", now, before)
	}
	load("codice;nome;email\n7;Ada Neri;\n")
	before.Email = ""
	if now := known(); asJSON(t, now) != asJSON(t, before) {
		t.Errorf("%+v, want %+v", now, before)
	}
	if _, err := d.ImportCustomers(t.Context(), strings.NewReader("codice;nome\n9;Z\u200bita\n"), 0, monday); !errors.As(err, new(*Refusal)) {
		t.Errorf("a name with what nobody sees: %v", err)
	}
}

func TestSplitNumbers(t *testing.T) {
	for in, want := range map[string][]string{
		"":                            nil,
		" ; ;":                        nil,
		"055 1234567":                 {"055 1234567"},
		"055123 333456":               {"055123 333456"}, // not two short ones
		"0551234567 3331234567":       {"0551234567", "3331234567"},
		"055 1234567;333 123 4567":    {"055 1234567", "333 123 4567"},
		"+39 055 1234567":             {"+39 055 1234567"},
		"055 1234567 3331234567":      {"055 1234567 3331234567"}, // unclear: the line is refused
		"0551234567 | +39 3331234567": {"0551234567", "+39 3331234567"},
	} {
		if got := splitNumbers(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestImportBadLines: every bad line is listed with its number and its reason,
// and nothing is imported.
func TestImportBadLines(t *testing.T) {
	d := newDesk(t)
	file := register +
		"1,Uno,,,,0551112221\n" + // 2: good
		",Senza codice,,,,\n" +
		"3,,,,,\n" +
		"4,Quattro,,,non un indirizzo,\n" +
		"5,Cinque,,,,055\n" +
		"1,Di nuovo,,,,\n" +
		"8,Otto,,\n" +
		"9,No\"ve,,,,\n" +
		"10,\"Due\nrighe\",,,,\n" + // 10 and 11
		"12,Dodici,,,,alice;0551112223\n" +
		"13,Tredici,,,,,\n" +
		"14,Quattordici,,,,800123456\n" +
		strings.Repeat("1", codeLongest+1) + ",Quindici,,,,\n"
	got, err := d.ImportCustomers(t.Context(), strings.NewReader(file), 0, monday)
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Reason != "Il file ha 12 righe errate: non è stato importato nulla." {
		t.Errorf("%v", err)
	}
	want := []BadLine{
		{3, "manca il codice"},
		{4, "manca il nome"},
		{5, "indirizzo e-mail non valido"},
		{6, `numero di telefono non valido: "055"`},
		{7, "codice già presente alla riga 2"},
		{8, "4 campi invece di 6"},
		{9, "virgolette non chiuse o fuori posto"},
		{10, "nome con caratteri non ammessi"},
		{12, `numero di telefono non valido: "alice"`},
		{13, "7 campi invece di 6"},
		{14, `numero di telefono non valido: "800123456"`},
		{15, "codice più lungo di 32 caratteri"},
	}
	if !slices.Equal(got.Bad, want) {
		t.Errorf("got  %+v\nwant %+v", got.Bad, want)
	}
	if got.Created+got.Updated+got.Unchanged != 0 || d.count(`select count(*) from customers`) != 3 {
		t.Errorf("%+v", got)
	}
}

func TestImportRefusesFiles(t *testing.T) {
	for name, c := range map[string]struct{ file, reason string }{
		"empty":             {"", "vuoto"},
		"only blank lines":  {"\n\n", "vuoto"},
		"no code":           {"nome,email\nx,\n", `"codice"`},
		"no name":           {"codice\n1\n", `"nome"`},
		"unknown column":    {"codice,nome,telefono\n", `"telefono"`},
		"column twice":      {"codice,nome,nome\n", "due volte"},
		"UTF-16":            {"\xff\xfec\x00o\x00", "UTF-8"},
		"a spreadsheet":     {"PK\x03\x04\x00\x00", "UTF-8"},
		"too many bytes":    {register + strings.Repeat("x", ImportBytes), "10 MiB"},
		"too many lines":    {register + strings.Repeat("\n", importLines), "100000 righe"},
		"quotes in header":  {"\"codice\nnome", "prima riga"},
		"header with a NUL": {"codice,nome\x00\n", "UTF-8"},
	} {
		_, _, _, err := parseCustomers(strings.NewReader(c.file))
		var refused *Refusal
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, _, bad, err := parseCustomers(strings.NewReader(register + strings.Repeat("\n", importLines-1))); err != nil || len(list)+len(bad) > 0 {
		t.Errorf("as many lines as allowed: %v, %v, %v", list, bad, err)
	}
	if _, _, _, err := parseCustomers(brokenReader{}); err == nil || errors.As(err, new(*Refusal)) {
		t.Errorf("a broken upload: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// TestImportAgain: the code decides who is who; what is not in the file stays.
func TestImportAgain(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	got, err := d.ImportCustomers(ctx, strings.NewReader(register+
		"1042,Mario Rossi,Ambulatorio Centro,Toscana Centro,,055 1234567\n"+ // as it is
		"2000,Anna Bianchi,,,,0557654321 3331112223\n"+ // one number more
		"2001,Luca Verdi,Ambulatorio Nord,,,\n"+ // moved, and his number is gone
		"3000,Nuovo,,,,0559999999\n"), 0, monday.Add(time.Hour))
	must(t, err)
	if got.Created != 1 || got.Updated != 2 || got.Unchanged != 1 || len(got.Bad) != 0 {
		t.Errorf("%+v", got)
	}
	page, err := d.Customers(ctx, "", "", 0)
	must(t, err)
	var told []string
	for _, c := range page.Items {
		told = append(told, c.Code+" "+c.Practice+" "+strings.Join(c.Numbers, " "))
	}
	want := []string{"2000  +390557654321 +393331112223", "2001 Ambulatorio Nord ", "1042 Ambulatorio Centro +390551234567", "3000  +390559999999"}
	if !slices.Equal(told, want) {
		t.Errorf("%q", told)
	}
	if n := d.count(`select count(*) from customers where updated_at = $1`, monday.Add(time.Hour)); n != 3 {
		t.Errorf("%d touched", n)
	}
	lines := d.count(`select count(*) from journal where kind = 'imported'`)
	got, err = d.ImportCustomers(ctx, strings.NewReader(register+"3000,Nuovo,,,,0559999999\n"), 0, monday.Add(2*time.Hour))
	must(t, err)
	if got.Unchanged != 1 || got.Created+got.Updated != 0 || d.count(`select count(*) from journal where kind = 'imported'`) != lines {
		t.Errorf("%+v", got)
	}
	got, err = d.ImportCustomers(ctx, strings.NewReader(register), 0, monday)
	must(t, err)
	if got.Created+got.Updated+got.Unchanged != 0 || got.Bad == nil {
		t.Errorf("%+v", got)
	}
}

// FuzzImport: whatever is uploaded, the answer is customers that fit their rows,
// or lines that exist with a reason each.
func FuzzImport(f *testing.F) {
	f.Add([]byte(register + "1,Uno,,,,0551112221 3331112223\n"))
	f.Add([]byte("codice;nome;numeri\n1;\"Uno;055;333\n2;Due;\"\n"))
	f.Add([]byte("\ufeffcodice,nome\r1,Niccol\xf2\r"))
	f.Add([]byte("codice,nome\n\n\"\",\"\"\n1"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, _, bad, err := parseCustomers(strings.NewReader(string(raw)))
		if err != nil {
			if !errors.As(err, new(*Refusal)) {
				t.Fatal(err)
			}
			return
		}
		lines := strings.Count(string(raw), "\n") + strings.Count(string(raw), "\r") + 1
		for _, b := range bad {
			if b.Line < 1 || b.Line > lines || b.Reason == "" {
				t.Fatalf("%+v of %d lines", b, lines)
			}
		}
		codes := map[string]bool{}
		for _, c := range list {
			again, err := c.checked()
			if err != nil || asJSON(t, again) != asJSON(t, c) || codes[c.Code] {
				t.Fatalf("%+v: %v", c, err)
			}
			codes[c.Code] = true
		}
	})
}

func TestPutServiceRoundTrip(t *testing.T) {
	d := newDesk(t)
	var week [7][]calendar.Span
	week[time.Monday] = []calendar.Span{{Open: 9 * 60, Close: 13 * 60}, {Open: 14 * 60, Close: 18 * 60}}
	week[time.Sunday] = []calendar.Span{{Open: 0, Close: 24 * 60}}
	election := calendar.Period{
		First: calendar.Date{Year: 2026, Month: time.June, Day: 7}, Last: calendar.Date{Year: 2026, Month: time.June, Day: 8},
		Spans: []calendar.Span{{Open: 0, Close: 24 * 60}},
	}
	want := Service{Number: "848000111", Numbers: []string{"848000111", "+390551112223"}, Name: "Base",
		Hours:          calendar.Hours{Week: week, OpenHolidays: true, Patron: &calendar.MonthDay{Month: time.June, Day: 24}, Exceptional: []calendar.Period{election}},
		MobilesRefused: true, RecordingNotice: true, MaxWait: 20 * time.Minute, NobodyWait: 2 * time.Minute, AtClosing: AtClosingCallback, AnnounceEvery: time.Minute,
		Duty:        Duty{Numbers: []string{"+390557654321"}, From: 20 * 60, To: 8 * 60},
		RecordCalls: true, RecordingAgreement: "accordo del 3 marzo", RecordingDays: 90,
		Menu: []MenuItem{{Key: '2', Action: ActionTopic, Topic: d.topics[1]}, {Key: '3', Action: ActionState}, {Key: '9', Action: ActionTopic, Topic: d.topics[0], Default: true}}}
	for version := range 2 { // the second replaces the first
		got, err := d.PutService(t.Context(), want)
		must(t, err)
		want.ID, want.Version, want.ValidFrom, want.Calendar = got.ID, int64(version+1), got.ValidFrom, got.Calendar
		if len(got.Calendar) != version+1 || got.ValidFrom.Equal(time.Unix(0, 0)) != (version == 0) {
			t.Errorf("version %d holds from %v, the calendar is %v", version+1, got.ValidFrom, got.Calendar)
		}
		if asJSON(t, got) != asJSON(t, want) {
			t.Errorf("got  %s\nwant %s", asJSON(t, got), asJSON(t, want))
		}
	}
	s, err := d.Service(t.Context(), "+39 848 000 111")
	must(t, err)
	if topic, ok := s.Choice('2'); !ok || topic != d.topics[1] {
		t.Errorf("key 2: %v", topic)
	}
	if second, err := d.Service(t.Context(), "055 1112223"); err != nil || second != s {
		t.Errorf("the second number: %v, %v", second, err)
	}
	if item, ok := s.Item('3'); !ok || item.Action != ActionState {
		t.Errorf("key 3: %v", item)
	}
	if _, ok := s.Choice('3'); ok {
		t.Error("the state of a request is no topic")
	}
	if _, ok := s.Choice('1'); ok || s.DefaultTopic() != d.topics[0] {
		t.Errorf("default %v", s.DefaultTopic())
	}
	if (&Service{}).DefaultTopic() != (Topic{}) || (&Service{Menu: want.Menu[:2]}).DefaultTopic() != d.topics[1] {
		t.Error("default without a mark")
	}
	all, err := d.Services(t.Context())
	must(t, err)
	if len(all) != 2 || all[0].Number != "800123456" {
		t.Errorf("%v", all)
	}
	topics, err := d.Topics(t.Context())
	must(t, err)
	if !slices.Equal(topics, d.topics) {
		t.Errorf("%v", topics)
	}

	var refused *Refusal
	span := func(spans ...calendar.Span) (h calendar.Hours) { h.Week[1] = spans; return h }
	for name, s := range map[string]Service{
		"number":          {Number: "abc", Name: "x"},
		"name":            {Number: "800000009"},
		"upside down":     {Number: "800000009", Name: "x", Hours: span(calendar.Span{Open: 60, Close: 60})},
		"overlap":         {Number: "800000009", Name: "x", Hours: span(calendar.Span{Open: 0, Close: 61}, calendar.Span{Open: 60, Close: 90})},
		"after midnight":  {Number: "800000009", Name: "x", Hours: span(calendar.Span{Open: 0, Close: 1441})},
		"before midnight": {Number: "800000009", Name: "x", Hours: span(calendar.Span{Open: -1, Close: 10})},
		"patron":          {Number: "800000009", Name: "x", Hours: calendar.Hours{Patron: &calendar.MonthDay{Month: 6, Day: 31}}},
		"key 0":           {Number: "800000009", Name: "x", Menu: []MenuItem{{Key: '0', Topic: d.topics[0]}}},
		"key twice":       {Number: "800000009", Name: "x", Menu: []MenuItem{{Key: '1', Topic: d.topics[0]}, {Key: '1', Topic: d.topics[1]}}},
		"two defaults":    {Number: "800000009", Name: "x", Menu: []MenuItem{{Key: '1', Topic: d.topics[0], Default: true}, {Key: '2', Topic: d.topics[1], Default: true}}},
	} {
		if _, err := d.PutService(t.Context(), s); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.PutTopic(t.Context(), "", "x"); !errors.As(err, &refused) {
		t.Errorf("topic: %v", err)
	}
}

func TestServiceDefaults(t *testing.T) {
	s, err := newDesk(t).Service(t.Context(), "800123456")
	must(t, err)
	if s.MaxWait != 15*time.Minute || s.AnnounceEvery != 30*time.Second || s.NobodyWait != 30*time.Second || s.AtClosing != AtClosingServe || s.Version != 1 || s.MobilesRefused || s.RecordingNotice {
		t.Errorf("what was left out is %+v", s)
	}
	var settings Settings
	must(t, json.Unmarshal([]byte(`{"name":"x","numbers":["800000009"]}`), &settings))
	if read := settings.filled().service(nil, new(faults)); !read.CallbackOffered {
		t.Error("who says nothing offers the callback")
	}
}

// TestContactKeepsItsSettings: a version that comes into force is the next caller's.
func TestContactKeepsItsSettings(t *testing.T) {
	d := newDesk(t)
	_, err := d.db.Pool.Exec(t.Context(), `insert into service_versions (service_id, version, state, valid_from, settings, made_at, published_at)
		select service_id, 2, 'published', $1, settings || '{"name": "Nuova"}', $1, $1 from service_versions where version = 1`, monday.Add(time.Hour))
	must(t, err)
	d.db.Wakeups.Wake(topicServices)
	for _, c := range []struct {
		at      time.Time
		version int64
		name    string
	}{{monday.Add(time.Hour - time.Second), 1, "Assistenza"}, {monday.Add(time.Hour), 2, "Nuova"}} {
		contact := d.call("", c.at)
		if r := d.record(contact); r.Settings == nil || *r.Settings != c.version || contact.Service.Version != c.version || contact.Service.Name != c.name {
			t.Errorf("a call at %v was handled with %+v", c.at, contact.Service)
		}
	}
}
