package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets"
)

func TestEverythingNeedsSomebodySignedIn(t *testing.T) {
	d := newDesk(t)
	stranger := &person{d: d, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
	id := uuid.NewString()
	for _, at := range []string{
		"GET /me", "GET /snapshot", "GET /operators", "PUT /operators/anna/state", "POST /operators/anna/wrapup", "POST /offers/" + id + "/painted",
		"POST /offers/" + id + "/decline", "GET /topics", "GET /call-types", "GET /outcomes", "GET /tickets", "GET /tickets/2026-1", "PATCH /tickets/2026-1",
		"POST /tickets/2026-1/take", "POST /tickets/2026-1/notes", "POST /tickets/2026-1/close", "POST /tickets/2026-1/reopen", "GET /contacts",
		"GET /contacts/" + id, "GET /contacts/" + id + "/recording", "GET /contacts/" + id + "/talk", "GET /talk/recording", "POST /talk/recording", "GET /messages", "POST /messages/" + id + "/heard", "POST /messages/" + id + "/take",
		"GET /ringbacks", "POST /ringbacks/" + id + "/take", "GET /customers", "GET /nothing",
	} {
		method, path, _ := strings.Cut(at, " ")
		stranger.ask(method, "/api/v1"+path, "{}").problem(t, http.StatusUnauthorized)
	}
	d.bearer("anna").get("/api/v1/nothing").problem(t, http.StatusNotFound)
	d.bearer("anna").ask(http.MethodDelete, "/api/v1/me", nil).problem(t, http.StatusMethodNotAllowed)
}

func TestStateOfOperators(t *testing.T) {
	d := newDesk(t)
	anna, carla := d.bearer("anna"), d.bearer("carla")
	const own = "/api/v1/operators/anna/state"
	seat := decoded[seatView](t, anna.ask(http.MethodPut, own, map[string]string{"declared": "available"}).want(t, http.StatusOK).body)
	if seat.Declared != queue.Available || seat.Operator != "anna" || seat.DisplayName != "Anna Bianchi" || seat.Extension != "1001" || !seat.CanRing || !seat.DeclaredAt.Equal(noon) {
		t.Errorf("the answer is %+v", seat)
	}
	anna.ask(http.MethodPut, "/api/v1/operators/bruno/state", map[string]string{"declared": "off"}).problem(t, http.StatusForbidden)
	anna.ask(http.MethodPut, "/api/v1/operators/nessuno/state", map[string]string{"declared": "off"}).problem(t, http.StatusForbidden)
	forced := decoded[seatView](t, carla.ask(http.MethodPut, "/api/v1/operators/bruno/state", map[string]string{"declared": "break", "reason": "Riunione"}).want(t, http.StatusOK).body)
	if forced.Declared != "break" || forced.Reason != "Riunione" || forced.ForcedBy != "Carla Verdi" {
		t.Errorf("forced: %+v", forced)
	}
	if mine := decoded[seatView](t, carla.ask(http.MethodPut, "/api/v1/operators/carla/state", map[string]string{"declared": "admin"}).want(t, http.StatusOK).body); mine.ForcedBy != "" {
		t.Errorf("her own word was forced by %q", mine.ForcedBy)
	}
	carla.ask(http.MethodPut, "/api/v1/operators/nessuno/state", map[string]string{"declared": "off"}).problem(t, http.StatusNotFound)

	d.mu.Lock()
	d.cannot[d.userID("anna")] = "Il telefono 1001 non è registrato."
	d.mu.Unlock()
	if p := anna.ask(http.MethodPut, own, map[string]string{"declared": "available"}).problem(t, http.StatusConflict); p.Detail != "Il telefono 1001 non è registrato." {
		t.Errorf("nothing rings: %q", p.Detail)
	}
	anna.ask(http.MethodPut, own, map[string]string{"declared": "off"}).want(t, http.StatusOK) // that needs no telephone

	list := decoded[list[seatView]](t, anna.get("/api/v1/operators").want(t, http.StatusOK).body).Items
	if len(list) < 2 || list[0].Operator != "anna" || list[0].CanRing || list[0].CannotRingWhy == "" || list[1].Reason != "Riunione" {
		t.Errorf("the operators are %+v", list)
	}
	for body, want := range map[string]int{
		`{"declared":"asleep"}`: http.StatusUnprocessableEntity, `{}`: http.StatusUnprocessableEntity,
		`{"declared":"break","reason":"<script>"}`:     http.StatusUnprocessableEntity,
		`{"declared":"off","reason":"Pausa"}`:          http.StatusUnprocessableEntity,
		`{"declared":7}`:                               http.StatusBadRequest,
		`{"declared":"off","segreto-che-non-c'è":"x"}`: http.StatusBadRequest,
		`{"declared":"off"`:                            http.StatusBadRequest,
		`{"declared":"off"} {}`:                        http.StatusBadRequest,
		``:                                             http.StatusBadRequest,
		`[]`:                                           http.StatusBadRequest,
		`{"declared":"` + strings.Repeat("x", maxBody) + `"}`: http.StatusRequestEntityTooLarge,
	} {
		p := anna.ask(http.MethodPut, own, body).problem(t, want)
		for _, sent := range []string{"asleep", "script", "segreto", "xxx"} {
			if strings.Contains(p.Detail, sent) {
				t.Errorf("%.40s: the answer repeats what was sent: %s", body, p.Detail)
			}
		}
	}
	form := &person{d: d, token: anna.token, header: http.Header{"Content-Type": {"text/plain"}}}
	form.ask(http.MethodPut, own, `{"declared":"off"}`).problem(t, http.StatusUnsupportedMediaType)
}

func (d *desk) userID(name string) int64 {
	return one[int64](d, `select id from users where name = $1`, name)
}

func TestWrapUp(t *testing.T) {
	d := newDesk(t)
	anna := d.bearer("anna")
	const at = "/api/v1/operators/anna/wrapup"
	anna.ask(http.MethodPost, at, map[string]int{"extend": 60}).problem(t, http.StatusNotFound) // never sat
	must(t, d.Queue.Declare(t.Context(), d.userID("anna"), "break", "Pausa", d.now()))
	anna.ask(http.MethodPost, at, map[string]int{"extend": 60}).problem(t, http.StatusConflict)
	_, offer := d.offered("anna", "+390551234567")
	must(t, d.Queue.Accept(t.Context(), offer.ID, d.now()))
	must(t, d.Queue.Release(t.Context(), offer.ID, d.pass(time.Minute)))
	seat := decoded[seatView](t, anna.ask(http.MethodPost, at, map[string]int{"extend": 60}).want(t, http.StatusOK).body)
	if seat.Doing != queue.Wrapping || seat.DoingUntil == nil || !seat.DoingUntil.Equal(d.now().Add(63*time.Second)) {
		t.Errorf("a minute more of wrap-up is %+v", seat)
	}
	for _, extend := range []int{0, -60, 601} {
		anna.ask(http.MethodPost, at, map[string]int{"extend": extend}).problem(t, http.StatusUnprocessableEntity)
	}
	d.bearer("bruno").ask(http.MethodPost, at, map[string]int{"extend": 60}).problem(t, http.StatusForbidden)
}

func TestTickets(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.bearer("anna"), d.bearer("bruno")
	call := d.rings("+390551234567")
	at := "/api/v1/tickets/" + call.ticket.Number
	page := decoded[map[string]any](t, anna.get(at).want(t, http.StatusOK).body)
	for _, key := range []string{"number", "status", "subject", "description", "call_type", "topic", "urgency", "fault_type", "channel", "customer", "requester_name",
		"requester_number", "practice", "authority", "outcome", "solution", "owner", "received_at", "opened_at", "taken_at", "closed_at", "closed_by", "version",
		"timeline", "contacts", "notes"} {
		if _, ok := page[key]; !ok {
			t.Errorf("a ticket's page lacks %s", key)
		}
	}
	if page["status"] != "open" || page["requester_name"] != "Mario Rossi" || page["call_type"] != "intervento" {
		t.Errorf("the new ticket is %v", page)
	}
	anna.get("/api/v1/tickets/2026-999").problem(t, http.StatusNotFound)
	for _, number := range []string{"x", "2026-", "2026-1'--", "2026-1234567890"} {
		anna.get("/api/v1/tickets/"+number).problem(t, http.StatusNotFound)
	}

	// Two people write the same field: the second is told, and loses nothing of the first.
	edit := func(p *person, from, to string) reply {
		return p.ask(http.MethodPatch, at, map[string]any{"base": map[string]string{"subject": from}, "set": map[string]string{"subject": to}})
	}
	if got := decoded[tickets.Ticket](t, edit(anna, call.ticket.Subject, "Non stampa").want(t, http.StatusOK).body); got.Subject != "Non stampa" {
		t.Errorf("after the edit: %+v", got)
	}
	conflict := edit(bruno, call.ticket.Subject, "Altro").problem(t, http.StatusConflict)
	of, _ := conflict.Conflicts["subject"].(map[string]any)
	if of["current"] != "Non stampa" || of["by"] != "Anna Bianchi" || of["at"] == nil {
		t.Errorf("the conflict is %v", conflict.Conflicts)
	}
	anna.ask(http.MethodPatch, at, map[string]any{"base": map[string]any{}, "set": map[string]any{}}).problem(t, http.StatusUnprocessableEntity)
	anna.ask(http.MethodPatch, at, map[string]any{"base": map[string]any{"number": "x"}, "set": map[string]any{"number": "y"}}).problem(t, http.StatusUnprocessableEntity)
	anna.ask(http.MethodPatch, at, `{"base":[],"set":1}`).problem(t, http.StatusBadRequest)
	anna.ask(http.MethodPatch, "/api/v1/tickets/2026-999", map[string]any{"base": map[string]any{"subject": ""}, "set": map[string]any{"subject": "y"}}).problem(t, http.StatusNotFound)

	taken := decoded[tickets.Ticket](t, bruno.ask(http.MethodPost, at+"/take", nil).want(t, http.StatusOK).body)
	if taken.Status != tickets.InCharge || taken.Owner == nil || taken.Owner.Name != "bruno" || taken.TakenAt == nil {
		t.Errorf("taken: %+v", taken)
	}
	bruno.ask(http.MethodPost, at+"/notes", map[string]string{"text": "Richiamato: riprova domani"}).want(t, http.StatusOK)
	bruno.ask(http.MethodPost, at+"/notes", map[string]string{"text": "  "}).problem(t, http.StatusUnprocessableEntity)
	if body := anna.get(at).want(t, http.StatusOK).body; !strings.Contains(body, "riprova domani") {
		t.Errorf("the note is not on the page: %s", body)
	}
	bruno.ask(http.MethodPost, at+"/close", map[string]string{"outcome": "dimenticato"}).problem(t, http.StatusUnprocessableEntity)
	closed := decoded[tickets.Ticket](t, bruno.ask(http.MethodPost, at+"/close", map[string]string{"outcome": "risolto", "solution": "Riavviato"}).want(t, http.StatusOK).body)
	if closed.Status != tickets.Closed || closed.Outcome != "risolto" || closed.Solution != "Riavviato" || closed.ClosedBy == nil || closed.ClosedBy.Name != "bruno" {
		t.Errorf("closed: %+v", closed)
	}
	bruno.ask(http.MethodPost, at+"/close", map[string]string{"outcome": "risolto"}).problem(t, http.StatusConflict)
	anna.ask(http.MethodPost, at+"/take", nil).problem(t, http.StatusConflict)
	if again := decoded[tickets.Ticket](t, anna.ask(http.MethodPost, at+"/reopen", nil).want(t, http.StatusOK).body); again.Status == tickets.Closed || again.ClosedAt != nil {
		t.Errorf("reopened: %+v", again)
	}
	anna.ask(http.MethodPost, at+"/reopen", nil).problem(t, http.StatusConflict)
}

func TestListOfTickets(t *testing.T) {
	d := newDesk(t)
	anna := d.bearer("anna")
	var numbers []string
	for range 3 {
		d.pass(time.Minute)
		numbers = append(numbers, d.rings("+390551234567").ticket.Number)
	}
	anna.ask(http.MethodPost, "/api/v1/tickets/"+numbers[0]+"/take", nil).want(t, http.StatusOK)
	anna.ask(http.MethodPost, "/api/v1/tickets/"+numbers[1]+"/close", map[string]string{"outcome": "risolto", "solution": "Fatto"}).want(t, http.StatusOK)
	listed := func(query string) []string {
		var got []string
		for _, one := range decoded[tickets.Page[tickets.Ticket]](t, anna.get("/api/v1/tickets"+query).want(t, http.StatusOK).body).Items {
			got = append(got, one.Number)
		}
		return got
	}
	for query, want := range map[string][]string{
		"": {numbers[2], numbers[1], numbers[0]}, "?status=all": {numbers[2], numbers[1], numbers[0]}, "?status=open": {numbers[2], numbers[0]},
		"?status=closed": {numbers[1]}, "?status=open&owner=me": {numbers[0]}, "?owner=none": {numbers[2]}, "?q=" + numbers[2]: {numbers[2]},
		"?q=rossi&status=closed": {numbers[1]}, "?q=niente%25": nil, "?limit=1": {numbers[2]},
	} {
		if got := listed(query); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, want %v", query, got, want)
		}
	}
	first := decoded[tickets.Page[tickets.Ticket]](t, anna.get("/api/v1/tickets?limit=2").want(t, http.StatusOK).body)
	if first.Next == nil {
		t.Fatal("two of three have no next page")
	}
	if got := listed("?limit=2&cursor=" + *first.Next); !slices.Equal(got, numbers[:1]) {
		t.Errorf("the next page is %v", got)
	}
	if body := anna.get("/api/v1/tickets?q=niente").want(t, http.StatusOK).body; !strings.Contains(body, `"items":[]`) || !strings.Contains(body, `"next":null`) {
		t.Errorf("an empty list is %s", body)
	}
	for _, query := range []string{"?status=lost", "?owner=bruno", "?limit=0", "?limit=9999", "?limit=x", "?cursor=x", "?cursor=" + strings.Repeat("x", 500), "?q=" + strings.Repeat("x", 500), "?q=%ff"} {
		anna.get("/api/v1/tickets"+query).problem(t, http.StatusUnprocessableEntity)
	}
}

func TestContacts(t *testing.T) {
	d := newDesk(t)
	anna := d.bearer("anna")
	call, offer := d.offered("anna", "+390551234567")
	must(t, d.Queue.Accept(t.Context(), offer.ID, d.now()))
	must(t, d.Queue.Give(t.Context(), offer.ID, queue.Target{Topic: d.topic.ID}, "", d.now()))
	d.pass(time.Second)
	d.rings("")
	got := decoded[list[map[string]any]](t, anna.get("/api/v1/contacts?call_id="+call.contact.CallID).want(t, http.StatusOK).body).Items
	if len(got) != 1 || got[0]["id"] != call.contact.ID.String() || got[0]["ticket"] != call.ticket.Number || got[0]["t0"] != "2026-03-02T11:00:00Z" || got[0]["ending"] != nil {
		t.Fatalf("the contact of a call is %v", got)
	}
	lines, _ := got[0]["journal"].([]any)
	if len(lines) < 3 {
		t.Fatalf("its journal is %v", lines)
	}
	if begun, _ := lines[0].(map[string]any); begun["seq"] != 1.0 || begun["kind"] != "begun" || begun["at"] != "2026-03-02T11:00:00Z" {
		t.Errorf("its first line is %v", begun)
	}
	all := decoded[list[tickets.Record]](t, anna.get("/api/v1/contacts").want(t, http.StatusOK).body).Items
	if len(all) != 2 || all[0].Caller != "" || all[1].ID != call.contact.ID {
		t.Errorf("all contacts, newest first: %+v", all)
	}
	if got[0]["operator"] != "anna" || all[1].Operator != nil {
		t.Errorf("a call is %v's, and in a list of talks %v's", got[0]["operator"], all[1].Operator)
	}
	if one := decoded[list[tickets.Record]](t, anna.get("/api/v1/contacts?limit=1").want(t, http.StatusOK).body).Items; len(one) != 1 {
		t.Errorf("limit=1 gives %d", len(one))
	}
	anna.get("/api/v1/contacts/"+call.contact.ID.String()).want(t, http.StatusOK)
	anna.get("/api/v1/contacts/"+uuid.NewString()).problem(t, http.StatusNotFound)
	anna.get("/api/v1/contacts/1").problem(t, http.StatusNotFound)
	if body := anna.get("/api/v1/contacts?call_id=nobody").want(t, http.StatusOK).body; body != "{\"items\":[]}\n" {
		t.Errorf("no contact is %q", body)
	}
	anna.get("/api/v1/contacts?limit=0").problem(t, http.StatusUnprocessableEntity)
}

func TestRingBacks(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.bearer("anna"), d.bearer("bruno")
	page, _ := d.browser("bruno").open()
	call := d.rings("+390551234567")
	must(t, call.place.Leave(t.Context(), d.pass(time.Minute)))
	must(t, d.Book.End(t.Context(), call.contact, tickets.AbandonedQueue, d.now(), nil))
	due := 0
	for due == 0 {
		due = decoded[map[string]int](t, string(page.event("ringbacks").Data))["due"]
	}
	got := decoded[list[tickets.Record]](t, anna.get("/api/v1/ringbacks").want(t, http.StatusOK).body).Items
	if due != 1 || len(got) != 1 || got[0].ID != call.contact.ID {
		t.Fatalf("%d to ring back: %+v", due, got)
	}
	at := "/api/v1/ringbacks/" + call.contact.ID.String() + "/take"
	anna.ask(http.MethodPost, at, nil).want(t, http.StatusOK)
	bruno.ask(http.MethodPost, at, nil).problem(t, http.StatusConflict)
	bruno.ask(http.MethodPost, "/api/v1/ringbacks/"+uuid.NewString()+"/take", nil).problem(t, http.StatusNotFound)
	for due != 0 {
		due = decoded[map[string]int](t, string(page.event("ringbacks").Data))["due"]
	}
	if body := anna.get("/api/v1/ringbacks").want(t, http.StatusOK).body; body != "{\"items\":[]}\n" {
		t.Errorf("nothing to ring back is %s", body)
	}
}

// message lets somebody leave a message of so many seconds of sound.
func (d *desk) message(from string, sound time.Duration) *tickets.Contact {
	d.t.Helper()
	ctx, at := d.t.Context(), d.now()
	c, err := d.Book.Begin(ctx, tickets.Arrival{Channel: tickets.Phone, ID: uuid.NewString(), From: from, Source: "asserted", To: "800000001", Trunk: "test", At: at})
	must(d.t, err)
	ticket, err := d.Book.Open(ctx, c, tickets.Matter{Channel: tickets.Voicemail, Topic: d.topic.ID, At: at}, nil)
	must(d.t, err)
	tape, err := d.Archive.Tape(ctx, c.ID, at)
	must(d.t, err)
	_, err = tape.Write(audio.Tone(400, int(sound/time.Millisecond), -10))
	must(d.t, err)
	got, err := tape.Close(ctx, d.pass(sound))
	must(d.t, err)
	must(d.t, d.Book.EndMessage(ctx, c, ticket, got.Sound, d.now()))
	return c
}

func TestMessages(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.bearer("anna"), d.bearer("bruno")
	page, _ := d.browser("bruno").open()
	c := d.message("+390551234567", 4*time.Second)
	d.message("+390551234567", time.Second) // a breath
	unheard := 0
	for unheard == 0 {
		unheard = decoded[map[string]int](t, string(page.event("messages").Data))["new"]
	}
	got := decoded[list[messageView]](t, anna.get("/api/v1/messages?state=new").want(t, http.StatusOK).body).Items
	if unheard != 1 || len(got) != 1 || got[0].ContactID != c.ID || got[0].Name != "Mario Rossi" || got[0].Caller != "+390551234567" || got[0].Service != "Assistenza" ||
		got[0].Ticket == nil || got[0].State != "new" || got[0].LengthMS != 4000 || got[0].SoundMS < 3900 || !got[0].ReceivedAt.Equal(noon) {
		t.Fatalf("%d new: %+v", unheard, got)
	}
	if all := decoded[list[messageView]](t, anna.get("/api/v1/messages?state=all").want(t, http.StatusOK).body).Items; len(all) != 2 {
		t.Errorf("all messages: %+v", all)
	}

	// The sound: whole, in ranges, and who listened is in the journal once.
	at := "/api/v1/contacts/" + c.ID.String() + "/recording"
	whole := anna.get(at).want(t, http.StatusOK)
	if whole.Header.Get("Content-Type") != "audio/wav" || !strings.HasPrefix(whole.body, "RIFF") || whole.Header.Get("Accept-Ranges") != "bytes" ||
		!strings.Contains(whole.Header.Get("Cache-Control"), "no-store") {
		t.Errorf("the sound comes as %v", whole.Header)
	}
	if alaw, err := audio.ReadWAV(strings.NewReader(whole.body)); err != nil || len(alaw) != 4*audio.Rate {
		t.Errorf("the sound has %d samples: %v", len(alaw), err)
	}
	part := &person{d: d, token: anna.token, header: http.Header{"Range": {"bytes=100-199"}}}
	if r := part.get(at).want(t, http.StatusPartialContent); r.body != whole.body[100:200] {
		t.Errorf("a range of %d bytes: %s", len(r.body), r.Header.Get("Content-Range"))
	}
	part.header.Set("Range", "bytes=99999999-")
	if r := part.get(at).want(t, http.StatusRequestedRangeNotSatisfiable); r.Header.Get("Content-Type") != problemKind || !strings.Contains(r.body, "oltre la fine") ||
		r.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", len(whole.body)) {
		t.Errorf("a range that is not there: %v, %s", r.Header, r.body)
	}
	if r := bruno.ask(http.MethodHead, at, nil).want(t, http.StatusOK); r.body != "" || r.ContentLength != int64(len(whole.body)) {
		t.Errorf("HEAD: %d of %d bytes", r.ContentLength, len(whole.body))
	}
	listened := func() int {
		return one[int](d, `select count(*) from journal where kind = 'played' and contact_id = $1 and user_id = $2`, c.ID, d.userID("anna"))
	}
	if n := listened(); n != 1 {
		t.Errorf("anna listened %d times by the journal", n)
	}
	d.pass(playedAgain + time.Second)
	token := d.browser("anna")
	token.get(at).want(t, http.StatusOK)
	if n := listened(); n != 2 {
		t.Errorf("later anna listened %d times by the journal", n)
	}

	// Who listened, the latest first, is for supervisors.
	who := "/api/v1/contacts/" + c.ID.String() + "/listenings"
	anna.get(who).problem(t, http.StatusForbidden)
	heard := decoded[list[tickets.Listening]](t, d.browser("carla").get(who).want(t, http.StatusOK).body).Items
	if len(heard) < 2 || heard[0].Name != "anna" || !heard[0].At.After(heard[1].At) {
		t.Errorf("who listened: %+v", heard)
	}
	token.get("/api/v1/contacts/"+uuid.NewString()+"/recording").problem(t, http.StatusNotFound)
	token.get("/api/v1/contacts/"+d.rings("").contact.ID.String()+"/recording").problem(t, http.StatusNotFound)

	id := got[0].ID.String()
	token.ask(http.MethodPost, "/api/v1/messages/"+id+"/heard", nil).want(t, http.StatusNoContent)
	for unheard != 0 {
		unheard = decoded[map[string]int](t, string(page.event("messages").Data))["new"]
	}
	token.ask(http.MethodPost, "/api/v1/messages/"+id+"/take", nil).want(t, http.StatusNoContent)
	d.browser("bruno").ask(http.MethodPost, "/api/v1/messages/"+id+"/take", nil).problem(t, http.StatusConflict)
	for _, what := range []string{"heard", "take"} {
		token.ask(http.MethodPost, "/api/v1/messages/"+uuid.NewString()+"/"+what, nil).problem(t, http.StatusNotFound)
	}
	if m := decoded[list[messageView]](t, token.get("/api/v1/messages").want(t, http.StatusOK).body).Items; m[1].State != "taken" || m[1].TakenBy != "anna" {
		t.Errorf("after all that: %+v", m)
	}
}

func TestSmallLists(t *testing.T) {
	d := newDesk(t)
	anna := d.bearer("anna")
	for path, want := range map[string]string{
		"/topics": `"code":"software","name":"Cartella clinica"`, "/call-types": `"code":"intervento"`, "/outcomes": `"code":"risolto"`,
		"/customers?q=rossi": `"numbers":["+390551234567"]`, "/customers?q=nessuno": `{"items":[]`, "/messages": `{"items":[]}`, "/messages?state=new": `{"items":[]}`,
	} {
		if body := anna.get("/api/v1"+path).want(t, http.StatusOK).body; !strings.Contains(body, want) {
			t.Errorf("%s: %s", path, body)
		}
	}
	anna.get("/api/v1/messages?state=old").problem(t, http.StatusUnprocessableEntity)
	anna.get("/api/v1/customers?limit=1000").problem(t, http.StatusUnprocessableEntity)
}

func TestHealth(t *testing.T) {
	d := newDesk(t)
	stranger := &person{d: d, header: http.Header{}}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n", "/metrics": "pronto_calls 0\n"} {
		if body := stranger.get(path).want(t, http.StatusOK).body; body != want {
			t.Errorf("%s: %q", path, body)
		}
	}
	d.mu.Lock()
	d.unfit = http.ErrServerClosed
	d.mu.Unlock()
	stranger.get("/readyz").want(t, http.StatusServiceUnavailable)
	stranger.get("/healthz").want(t, http.StatusOK)
}
