package web

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/tickets"
)

// TestACallOnTheScreens walks one call past the pages of two operators.
func TestACallOnTheScreens(t *testing.T) {
	d := newDesk(t)
	old := d.rings("+390551234567")
	must(t, old.place.Leave(t.Context(), d.pass(time.Second)))
	must(t, d.Book.End(t.Context(), old.contact, tickets.AbandonedQueue, d.pass(time.Second), nil))

	anna, _ := d.browser("anna").open()
	bruno, _ := d.browser("bruno").open()
	d.pass(time.Minute)
	call, offer := d.offered("anna", "+390551234567")

	raw := anna.event("call.offered")
	pop := decoded[popView](t, string(raw.Data))
	if pop.Offer == nil || pop.Offer.ID != offer.ID || !pop.Offer.ExpiresAt.Equal(d.now().Add(queue.RingLongest)) {
		t.Errorf("the offer on the pop is %+v", pop.Offer)
	}
	if pop.Contact == nil || pop.Contact.ID != call.contact.ID || pop.Contact.Caller != "+390551234567" || pop.Contact.Journal != nil {
		t.Errorf("the contact on the pop is %+v", pop.Contact)
	}
	if pop.Match.Sure != tickets.MatchCertain || pop.Match.Why == "" || len(pop.Match.Customers) != 1 || pop.Match.Customers[0].Name != "Mario Rossi" {
		t.Errorf("the match is %+v", pop.Match)
	}
	if pop.Ticket == nil || pop.Ticket.Number != call.ticket.Number || len(pop.OpenTickets) != 1 || pop.OpenTickets[0].Number != old.ticket.Number || pop.CallsToday != 2 {
		t.Errorf("tickets: %+v, before: %+v, calls today: %d", pop.Ticket, pop.OpenTickets, pop.CallsToday)
	}

	painted := d.Painted(t.Context(), offer.ID)
	anna.say(`{"type":"painted","offer":"` + offer.ID.String() + `"}`)
	wait(t, painted, "the pop is painted")
	wait(t, d.Painted(t.Context(), offer.ID), "asked afterwards, it is painted too")

	must(t, d.Queue.Accept(t.Context(), offer.ID, d.pass(4*time.Second)))
	seat := decoded[seatView](t, string(anna.event("seat").Data))
	for seat.Doing != queue.Talking {
		seat = decoded[seatView](t, string(anna.event("seat").Data))
	}
	if seat.ContactID == nil || *seat.ContactID != call.contact.ID || seat.Ticket == nil || *seat.Ticket != call.ticket.Number {
		t.Errorf("anna's seat in the talk is %+v", seat)
	}
	if talking := decoded[popView](t, string(anna.event("call.talking").Data)); talking.Offer != nil || talking.Contact.ID != call.contact.ID {
		t.Errorf("the pop of the talk is %+v", talking)
	}
	// A page that opens in the middle of a talk has the pop too.
	if _, first := d.browser("anna").open(); first.State.Pop == nil || first.State.Pop.Contact.ID != call.contact.ID || first.State.Pop.Offer != nil {
		t.Errorf("a page opened during the talk has %+v", first.State.Pop)
	}

	must(t, d.Queue.Release(t.Context(), offer.ID, d.pass(time.Minute)))
	must(t, d.Book.End(t.Context(), call.contact, tickets.Served, d.now(), nil))
	ended := decoded[endedView](t, string(anna.event("call.ended").Data))
	for ended.ContactID == old.contact.ID { // what was committed an instant before a page opened it may hear once more
		ended = decoded[endedView](t, string(anna.event("call.ended").Data))
	}
	if ended.ContactID != call.contact.ID || ended.Ending != tickets.Served {
		t.Errorf("the end is %+v", ended)
	}
	must(t, d.Queue.Declare(t.Context(), d.user("anna").ID, string(queue.Available), "", d.pass(time.Second)))
	anna.event("pop.cleared")

	// bruno saw the seats and the queue, and never who was calling.
	must(t, d.hub.publish(0, "probe", 1))
	saw := map[string]bool{}
	for {
		m := bruno.event("seat", "waiting", "ticket", "messages", "ringbacks", "call.ended", "call.offered", "call.talking", "pop.cleared", "probe")
		if m.Kind == "probe" {
			break
		}
		saw[m.Kind] = true
	}
	for kind, want := range map[string]bool{"seat": true, "waiting": true, "ticket": true, "call.ended": true, "call.offered": false, "call.talking": false, "pop.cleared": false} {
		if saw[kind] != want {
			t.Errorf("bruno saw %s: %v", kind, saw[kind])
		}
	}
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(testWait):
		t.Fatalf("waited in vain: %s", what)
	}
}

// TestAPauseOfTheRecordingIsTold: whoever of three pauses it, the others' pages look
// again at once.
func TestAPauseOfTheRecordingIsTold(t *testing.T) {
	d := newDesk(t)
	anna, _ := d.browser("anna").open()
	call, _ := d.offered("anna", "+390551234567")
	for _, kind := range []journal.Kind{journal.Taping, journal.Gap, journal.GapEnd} {
		must(t, d.DB.Tx(t.Context(), func(tx *db.Tx) error {
			tx.Wake("journal")
			return journal.Append(t.Context(), tx, journal.Line{Stream: journal.ContactStream(call.contact.ID), At: d.now(), Kind: kind, Contact: uuid.NullUUID{UUID: call.contact.ID, Valid: true}})
		}))
		if e := decoded[struct {
			ID uuid.UUID `json:"contact_id"`
		}](t, string(anna.event("taping").Data)); e.ID != call.contact.ID {
			t.Errorf("%s is told of %s", kind, e.ID)
		}
	}
}

func TestAWithheldNumberOnThePop(t *testing.T) {
	d := newDesk(t)
	anna, _ := d.browser("anna").open()
	d.offered("anna", "")
	pop := decoded[popView](t, string(anna.event("call.offered").Data))
	if pop.Match.Sure != tickets.MatchWithheld || len(pop.OpenTickets) != 0 || pop.CallsToday != 0 || pop.Ticket == nil {
		t.Errorf("the pop of nobody is %+v", pop)
	}
}

func TestOnlyTheOperatorPaintsAndDeclines(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.browser("anna"), d.browser("bruno")
	page, _ := anna.open()
	_, offer := d.offered("anna", "+390551234567")
	page.event("call.offered")
	at := "/api/v1/offers/" + offer.ID.String()
	bruno.ask(http.MethodPost, at+"/painted", nil).problem(t, http.StatusNotFound)
	bruno.ask(http.MethodPost, at+"/decline", nil).problem(t, http.StatusNotFound)
	select {
	case <-d.Painted(t.Context(), offer.ID):
		t.Errorf("bruno painted anna's pop")
	default:
	}
	if r := anna.ask(http.MethodPost, at+"/painted", nil).want(t, http.StatusNoContent); r.body != "" {
		t.Errorf("204 with %q", r.body)
	}
	wait(t, d.Painted(t.Context(), offer.ID), "painted over HTTP")
	if one[*time.Time](d, `select painted_at from offers where id = $1`, offer.ID) == nil {
		t.Errorf("painted is not noted")
	}
	anna.ask(http.MethodPost, at+"/decline", nil).want(t, http.StatusNoContent)
	page.event("pop.cleared")
	anna.ask(http.MethodPost, at+"/decline", nil).problem(t, http.StatusConflict)
	anna.ask(http.MethodPost, at+"/painted", nil).problem(t, http.StatusConflict)
	if got := one[string](d, `select declared || ' ' || doing from seats where user_id = $1`, d.user("anna").ID); got != "available idle" {
		t.Errorf("after Rifiuta anna is %s", got)
	}
	for _, path := range []string{"/api/v1/offers/" + uuid.NewString() + "/decline", "/api/v1/offers/" + uuid.NewString() + "/painted"} {
		if r := anna.ask(http.MethodPost, path, nil); r.StatusCode != http.StatusConflict && r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	anna.ask(http.MethodPost, "/api/v1/offers/1/decline", nil).problem(t, http.StatusNotFound)
	anna.ask(http.MethodPost, "/api/v1/offers/urn:uuid:"+offer.ID.String()+"/decline", nil).problem(t, http.StatusNotFound)
}

// TestTheReaderFollowsCommits has a line held back by an older transaction: it
// is told after that one's line, and nobody needs to wake the reader.
func TestTheReaderFollowsCommits(t *testing.T) {
	d := newDesk(t)
	first, later := d.rings("+390551234567"), d.rings("+390557654321")
	anna, _ := d.browser("anna").open()
	ctx := t.Context()
	must(t, d.Queue.Declare(ctx, d.user("bruno").ID, "break", "Pausa", d.now()))
	for { // until that is told: then everything from before has been
		if seat := decoded[seatView](t, string(anna.event("seat").Data)); seat.Operator == "bruno" && seat.Declared == queue.Break {
			break
		}
	}
	slow, err := d.DB.Pool.Begin(ctx)
	must(t, err)
	defer func() { _ = slow.Rollback(context.WithoutCancel(ctx)) }()
	must(t, journal.Append(ctx, slow, journal.Line{Stream: journal.TicketStream(first.ticket.ID), At: d.now(), Kind: journal.Noted, Ticket: first.ticket.ID}))
	if _, err := d.Book.AddNote(ctx, later.ticket.Number, d.user("bruno").ID, "Sono io", d.now()); err != nil {
		t.Fatal(err)
	}
	// Both lines are written and one is committed: the reader has looked, and waits.
	for began := time.Now(); !one[bool](d, `select pg_sleep(0.002) is not null and exists (select from pg_stat_activity
		where datname = current_database() and state = 'active' and query = 'select pg_sleep($1)')`); {
		if time.Since(began) > testWait {
			t.Fatal("the reader does not wait for the older transaction")
		}
	}
	must(t, slow.Commit(ctx)) // and wakes nobody
	for _, want := range []string{first.ticket.Number, later.ticket.Number} {
		if got := decoded[tickets.Ticket](t, string(anna.event("ticket").Data)); got.Number != want {
			t.Fatalf("ticket %s is told instead of %s", got.Number, want)
		}
	}
}

func TestTheReaderReadsWhatTheOtherNodeWrote(t *testing.T) {
	t.Parallel()
	address := dbAddress(t)
	here, there := deskDB(t, address), deskDB(t, address)
	listening, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- here.Listen(listening) }()
	defer func() { cancel(); must(t, <-done) }()
	d := deskOn(t, here)
	anna, _ := d.browser("anna").open()
	other := queue.New(there, "n2", d.Log)
	must(t, other.Declare(t.Context(), d.user("bruno").ID, "available", "", d.now()))
	if seat := decoded[seatView](t, string(anna.event("seat").Data)); seat.Operator != "bruno" || seat.Declared != queue.Available {
		t.Errorf("anna is told %+v", seat)
	}
}

func TestATelephoneThatComesAndGoesIsTold(t *testing.T) {
	d := newDesk(t)
	bruno, _ := d.browser("bruno").open()
	anna := d.userID("anna")
	for _, why := range []string{"Il telefono 1001 non è registrato.", ""} {
		d.mu.Lock()
		if d.cannot[anna] = why; why == "" {
			delete(d.cannot, anna)
		}
		d.mu.Unlock()
		seat := decoded[seatView](t, string(bruno.event("seat").Data))
		if seat.Operator != "anna" || seat.CanRing != (why == "") || seat.CannotRingWhy != why {
			t.Errorf("told %+v", seat)
		}
	}
}

// TestAPersonOfTheCommandLineIsFollowed: who is added beside the running server has a
// telephone that pages see come and go, without anybody loading them anew.
func TestAPersonOfTheCommandLineIsFollowed(t *testing.T) {
	d := newDesk(t)
	bruno, _ := d.browser("bruno").open()
	told := func(cannot string) {
		t.Helper()
		for { // until it is told: skills are, too
			seat := decoded[seatView](t, string(bruno.event("seat").Data))
			if seat.Operator == "giulia" && seat.CanRing == (cannot == "") && seat.CannotRingWhy == cannot {
				return
			}
		}
	}
	const off = "Il telefono 1900 non è registrato."
	rings := func(user int64, cannot string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.cannot[user] = cannot; cannot == "" {
			delete(d.cannot, user)
		}
	}
	giulia, err := d.users.Add(t.Context(), "giulia", "Giulia Neri", Supervisor, testPassword, "1900")
	must(t, err)
	must(t, d.users.SetSkills(t.Context(), "giulia", "software"))
	rings(giulia.ID, off)
	told(off)
	rings(giulia.ID, "")
	told("")
	if got := strings.Join(kinds(d, journal.SeatStream(giulia.ID)), " "); got != "user_added user_edited" {
		t.Errorf("the journal says %q", got)
	}
}

func TestLinesThatNoScreenShowsAreNotTold(t *testing.T) {
	lines := []journal.Entry{
		{Stream: "seat:1", Kind: journal.SignedIn, User: 1}, {Stream: "seat:1", Kind: journal.SignedOut, User: 1}, {Stream: "seat:1", Kind: signInFailed, User: 1},
		{Stream: "seat:1", Kind: journal.Painted, User: 1}, {Stream: "contact:x", Kind: journal.Played, User: 1}, {Stream: "contact:x", Kind: journal.Begun},
	}
	n := gather(lines)
	if len(n.seats)+len(n.tickets)+len(n.ended) != 0 || n.waiting || n.messages || n.ringback {
		t.Errorf("these are told: %+v", n)
	}
	n = gather([]journal.Entry{
		{Stream: "contact:x", Kind: journal.Offered, User: 7}, {Stream: "seat:7", Kind: journal.Offered, User: 7},
		{Stream: "ticket:3", Kind: journal.Noted, Ticket: 3, User: 8}, {Stream: "ticket:3", Kind: journal.Edited, Ticket: 3, User: 8},
		{Stream: "seat:7", Kind: "something_new", User: 7},
	})
	if len(n.seats) != 1 || n.seats[0] != 7 || !n.offered[7] || len(n.tickets) != 1 || n.tickets[0] != 3 || !n.waiting {
		t.Errorf("told: %+v", n)
	}
}

func TestPaintedForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPainted()
		ctx, cancel := context.WithCancel(t.Context())
		id := uuid.New()
		first, second := p.wait(ctx, id), p.wait(t.Context(), id)
		cancel()
		synctest.Wait()
		p.note(id)
		<-first
		<-second

		ctx, cancel = context.WithCancel(t.Context())
		gone := uuid.New()
		p.wait(ctx, gone)
		cancel()
		synctest.Wait()
		if _, kept := p.offers[gone]; kept {
			t.Errorf("an offer that nobody waits for is remembered")
		}
		<-time.After(paintKept + time.Second) // the bubble's time
		p.note(uuid.New())
		if _, kept := p.offers[id]; kept || len(p.offers) != 1 {
			t.Errorf("a pop painted long ago is remembered")
		}
	})
}

func TestWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	line := newCutLine(t, dbAddress(t))
	d := deskOn(t, deskDB(t, line.address))
	anna := d.browser("anna")
	anna.get("/api/v1/me").want(t, http.StatusOK) // now her session is known
	page, _ := anna.open()
	stranger := &person{d: d, header: http.Header{}}
	stranger.get("/readyz").want(t, http.StatusOK)

	line.cut()
	if r := stranger.get("/readyz").want(t, http.StatusServiceUnavailable); !strings.Contains(r.body, "database") {
		t.Errorf("not ready because %q", r.body)
	}
	stranger.get("/healthz").want(t, http.StatusOK)
	anna.get("/api/v1/me").want(t, http.StatusOK)
	anna.get("/").want(t, http.StatusOK)
	away := anna.get("/api/v1/tickets")
	if p := away.problem(t, http.StatusServiceUnavailable); away.Header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "non è raggiungibile") {
		t.Errorf("while it is away: %v %+v", away.Header, p)
	}
	if r := d.signIn("bruno", testPassword, nil, nil).want(t, http.StatusServiceUnavailable); !strings.Contains(r.body, "non è raggiungibile") {
		t.Errorf("signing in while it is away: %s", r.body)
	}
	again, first := anna.open()
	if first.Type != "away" || first.Detail == "" {
		t.Fatalf("a page that comes while it is away hears %+v", first)
	}
	d.DB.Wakeups.Wake("journal") // the reader looks, and cannot
	d.log.wait(t, "the journal cannot be read")
	if !strings.Contains(string(d.tick(User{})), `"away":true`) {
		t.Errorf("the tick says %s", d.tick(User{}))
	}

	line.mend()
	if m := again.hear(); m.Type != "snapshot" {
		t.Fatalf("when it is back: %+v", m)
	}
	must(t, d.Queue.Declare(t.Context(), d.user("bruno").ID, "break", "Pausa", d.now()))
	if seat := decoded[seatView](t, string(page.event("seat").Data)); seat.Operator != "bruno" { // it stayed open
		t.Errorf("told %+v", seat)
	}
	stranger.get("/readyz").want(t, http.StatusOK)
	if strings.Contains(string(d.tick(User{})), "away") {
		t.Errorf("the tick still says %s", d.tick(User{}))
	}
}

// BenchmarkOffer measures from the queue's decision to call.offered in the
// operator's browser.
func BenchmarkOffer(b *testing.B) {
	d := newDesk(b)
	anna, _ := d.browser("anna").open()
	var took []time.Duration
	for b.Loop() {
		d.pass(2 * time.Minute)
		call := d.rings("+390551234567")
		must(b, d.Queue.Declare(b.Context(), d.user("anna").ID, string(queue.Available), "", d.now()))
		began := time.Now()
		offer := d.match(call)
		anna.event("call.offered")
		took = append(took, time.Since(began))
		must(b, d.Queue.Withdraw(b.Context(), offer.ID, d.now()))
		must(b, call.place.Leave(b.Context(), d.now()))
	}
	report(b, took)
}

// TestAlarmIsForSupervisors: what must be known of the installation stands on the
// pages of those who can do something about it, and calls are answered all the same.
func TestAlarmIsForSupervisors(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.Alarm = func() string { return "Il disco è quasi pieno." } })
	for role, want := range map[Role]bool{Operator: false, Supervisor: true, Admin: true} {
		if got := strings.Contains(string(d.tick(User{Role: role})), `"alarm":"Il disco è quasi pieno."`); got != want {
			t.Errorf("%s is told: %v, want %v", role, got, want)
		}
	}
	stranger := &person{d: d, header: http.Header{}}
	if r := stranger.get("/readyz").want(t, http.StatusOK); !strings.Contains(r.body, "messages are refused") {
		t.Errorf("/readyz says %q", r.body)
	}
}

// TestWhoIsLetGoInATalk: an operator who is deactivated while talking stays on
// every list until the talk and its wrap-up are over, and then goes; open pages
// hear of it, and of a return.
func TestWhoIsLetGoInATalk(t *testing.T) {
	d, _ := administered(t)
	dora := d.bearer("dora")
	listed := func() (found *seatView) {
		t.Helper()
		for _, s := range decoded[list[seatView]](t, dora.get("/api/v1/operators").want(t, http.StatusOK).body).Items {
			if s.Operator == "anna" {
				found = &s
			}
		}
		return found
	}
	_, offer := d.offered("anna", "+390551234567")
	must(t, d.Queue.Accept(t.Context(), offer.ID, d.pass(time.Second)))
	page, _ := d.browser("carla").open()
	told := func(what string, is func(seatView) bool) {
		t.Helper()
		for {
			if s := decoded[seatView](t, string(page.event("seat").Data)); s.Operator == "anna" && is(s) {
				return
			} else if s.Operator == "anna" {
				t.Logf("before %s: %+v", what, s)
			}
		}
	}

	dora.ask(http.MethodPost, usersPath+"/anna/deactivate", nil).want(t, http.StatusOK)
	told("she is let go", func(s seatView) bool { return !s.Active && s.Doing == queue.Talking && s.Declared == queue.Off })
	if s := listed(); s == nil || s.Active || s.Doing != queue.Talking {
		t.Fatalf("in the talk she is listed as %+v", s)
	}
	must(t, d.Queue.Release(t.Context(), offer.ID, d.pass(time.Minute)))
	told("the wrap-up", func(s seatView) bool { return !s.Active && s.Doing == queue.Wrapping })
	if s := listed(); s == nil || s.Doing != queue.Wrapping {
		t.Fatalf("in the wrap-up she is listed as %+v", s)
	}
	d.exec(`update seats set doing_until = $1`, time.Now().Add(-time.Second)) // the queue's clocks are not the desk's
	d.alongside(d.Queue.Run)
	told("the end", func(s seatView) bool { return !s.Active && s.Doing == queue.Idle })
	if s := listed(); s != nil {
		t.Fatalf("after all she is listed as %+v", s)
	}
	dora.ask(http.MethodPost, usersPath+"/anna/activate", nil).want(t, http.StatusOK)
	told("she is back", func(s seatView) bool { return s.Active })
	dora.ask(http.MethodPost, usersPath+"/anna/deactivate", nil).want(t, http.StatusOK)
	told("she is let go at rest", func(s seatView) bool { return !s.Active })
}
