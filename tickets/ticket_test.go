package tickets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// TestOpenPrefills: what we know of the caller and of the menu stands in the
// form before the operator sees it.
func TestOpenPrefills(t *testing.T) {
	d := newDesk(t)
	got := d.ticket()
	want := Ticket{
		ID: got.ID, Number: "2026-1", Status: Open, Subject: "Certificati", CallType: "intervento", Topic: &d.topics[1], Urgency: Blocking, FaultType: "bloccante",
		Channel: Phone, Customer: d.rossi, RequesterName: "Mario Rossi", RequesterNumber: "+390551234567", Practice: "Ambulatorio Centro", Authority: "Toscana Centro",
		ReceivedAt: monday, OpenedAt: monday.Add(time.Minute), Version: 1,
	}
	if a, b := asJSON(t, got), asJSON(t, want); a != b {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	// Of a shared telephone only the number is certain.
	shared, err := d.Book.Open(t.Context(), d.call("+390557654321", monday), Matter{Channel: Phone, At: monday}, nil)
	must(t, err)
	if shared.Customer != nil || shared.RequesterName != "" || shared.RequesterNumber != "+390557654321" || shared.Subject != "Richiesta telefonica" || shared.FaultType != "non_bloccante" || shared.Topic != nil {
		t.Errorf("%+v", shared)
	}
	// What the caller chose is used when Open is not told.
	chosen := d.call("", monday)
	must(t, d.Note(t.Context(), chosen, Step{Kind: journal.Classified, At: monday, Topic: d.topics[0].ID, Urgency: Blocking}))
	c, err := d.Book.Open(t.Context(), chosen, Matter{At: monday}, nil)
	must(t, err)
	if c.Topic.ID != d.topics[0].ID || c.Urgency != Blocking || c.Subject != "Cartella clinica" || c.RequesterNumber != "" || chosen.Ticket != c {
		t.Errorf("%+v", c)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	return string(raw)
}

// TestTicketJSON holds the names that screens and outside tests read.
func TestTicketJSON(t *testing.T) {
	var got map[string]any
	must(t, json.Unmarshal([]byte(asJSON(t, Ticket{ID: 7, OwnerID: 8})), &got))
	want := strings.Fields("number status subject description call_type topic urgency fault_type channel customer requester_name requester_number practice authority outcome solution owner received_at opened_at taken_at closed_at closed_by version")
	for _, name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("not in the contract: %v", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	c := d.call("+390551234567", monday)
	if _, err := d.Book.Open(ctx, c, Matter{Topic: 999, At: monday}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a topic that is none: %v", err)
	}
	hungUp, cancel := context.WithCancelCause(ctx)
	gone := errors.New("gone")
	cancel(gone)
	if _, err := d.Book.Open(hungUp, c, Matter{At: monday}, nil); !errors.Is(err, gone) {
		t.Errorf("after the hang-up: %v", err)
	}
	must(t, d.End(ctx, c, AbandonedIVR, monday, nil))
	if _, err := d.Book.Open(ctx, c, Matter{At: monday}, nil); !errors.Is(err, ErrEnded) {
		t.Errorf("after the ending: %v", err)
	}
	if n := d.count(`select count(*) from tickets`); n != 0 {
		t.Errorf("%d tickets", n)
	}
}

// TestOpenTogether: the ticket and what comes with it are one.
func TestOpenTogether(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	c := d.call("+390551234567", monday)
	full := errors.New("full")
	for range 3 {
		if _, err := d.Book.Open(ctx, c, Matter{At: monday, Queued: true}, func(context.Context, *db.Tx, int64) error { return full }); !errors.Is(err, full) {
			t.Fatal(err)
		}
	}
	if r := d.record(c); r.Ticket != nil || r.Tq != nil || c.Ticket != nil || len(r.Journal) != 1 {
		t.Errorf("%+v", r)
	}
	var seen string
	ticket, err := d.Book.Open(ctx, c, Matter{At: monday, Queued: true}, func(ctx context.Context, tx *db.Tx, ticket int64) error {
		if err := tx.QueryRow(ctx, `select number from tickets where id = $1`, ticket).Scan(&seen); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into places (contact_id, node, topic_id, urgency, t0, joined_at, state) values ($1, 'node1', $2, 2, $3, $3, 'waiting')`, c.ID, d.topics[0].ID, monday)
		return err
	})
	must(t, err)
	if ticket.Number != "2026-1" || seen != "2026-1" || d.count(`select count(*) from places`) != 1 { // the failed ones took no number
		t.Errorf("number %s, seen %s", ticket.Number, seen)
	}
	// A second opening is the same ticket: the caller who waited in vain leaves a message.
	again, err := d.Book.Open(ctx, c, Matter{Channel: Voicemail, At: monday.Add(time.Hour)}, nil)
	must(t, err)
	if again.ID != ticket.ID || again.Channel != Phone || d.count(`select last from ticket_counters`) != 1 {
		t.Errorf("%+v", again)
	}
}

// TestYearOfANumber: the year is the one in Italy at T0, whenever the ticket is
// opened.
func TestYearOfANumber(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		t0   string
		want string
	}{
		{"2026-12-31T22:59:59Z", "2026-1"}, // 23:59:59 in Rome
		{"2026-12-31T23:00:00Z", "2027-1"}, // midnight in Rome
		{"2026-12-31T22:00:00Z", "2026-2"},
		{"2027-12-31T22:30:00Z", "2027-2"},
	} {
		t0, err := time.Parse(time.RFC3339, c.t0)
		must(t, err)
		ticket, err := d.Book.Open(t.Context(), d.call("", t0), Matter{At: t0.Add(2 * time.Hour)}, nil)
		must(t, err)
		if ticket.Number != c.want {
			t.Errorf("%s: %s, want %s", c.t0, ticket.Number, c.want)
		}
	}
}

// TestNumbersWithoutGaps: sixteen writers at once, a part of whose transactions
// fails after the number was taken, leave 1…n and nothing else.
func TestNumbersWithoutGaps(t *testing.T) {
	d := newDesk(t)
	const writers, each = 16, 12
	var wg sync.WaitGroup
	var mu sync.Mutex // guards got
	var got []string
	broken := errors.New("broken")
	for w := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range each {
				c, err := d.Begin(context.Background(), Arrival{Channel: Phone, ID: fmt.Sprint(w, "-", i), To: "800123456", At: monday})
				if err != nil {
					t.Error(err)
					return
				}
				fail := random.IntN(3) == 0
				ticket, err := d.Book.Open(context.Background(), c, Matter{At: monday}, func(context.Context, *db.Tx, int64) error {
					if fail {
						return broken
					}
					return nil
				})
				if fail != errors.Is(err, broken) || !fail && err != nil {
					t.Errorf("fail %v, err %v", fail, err)
					return
				}
				if err == nil {
					mu.Lock()
					got = append(got, ticket.Number)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(got) == 0 || len(got) == writers*each {
		t.Fatalf("%d of %d opened: the test tests nothing", len(got), writers*each)
	}
	var want []string
	for i := range got {
		want = append(want, fmt.Sprintf("2026-%d", i+1))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("numbers %v", got)
	}
}

// TestMoves walks every move from every status.
func TestMoves(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	at := monday.Add(time.Hour)
	do := map[move]func(number string) (*Ticket, error){
		take:   func(n string) (*Ticket, error) { return d.Take(ctx, n, d.bruno, at) },
		finish: func(n string) (*Ticket, error) { return d.Book.Close(ctx, n, d.bruno, "risolto", "Riavviato", at) },
		reopen: func(n string) (*Ticket, error) { return d.Reopen(ctx, n, d.bruno, at) },
	}
	for from, steps := range map[Status][]move{Open: nil, InCharge: {take}, Closed: {finish}} {
		for m, act := range do {
			number := d.ticket().Number
			for _, s := range steps {
				_, err := do[s](number)
				must(t, err)
			}
			before, err := d.TicketOf(ctx, number)
			must(t, err)
			got, err := act(number)
			want, allowed := moves[m][from]
			var refused *Refusal
			switch {
			case before.Status != from:
				t.Fatalf("%s is %s", number, before.Status)
			case allowed && (err != nil || got.Status != want || got.OwnerID != d.bruno || got.TakenAt == nil):
				t.Errorf("%s from %s: %+v, %v", m, from, got, err)
			case !allowed && (!errors.As(err, &refused) || refused.Reason != refusals[m]):
				t.Errorf("%s from %s: %v", m, from, err)
			}
		}
	}
	if len(moves) != len(do) || len(refusals) != len(moves) {
		t.Error("a move is not walked")
	}
}

// TestALife takes a ticket from hand to hand and looks at the instants, the
// owner, the version and the timeline.
func TestALife(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	at := func(m int) time.Time { return monday.Add(time.Duration(m) * time.Minute) }
	number := d.ticket().Number

	got, err := d.Take(ctx, number, d.anna, at(2))
	must(t, err)
	if got.Owner.Name != "anna" || !got.TakenAt.Equal(at(2)) || got.Version != 2 {
		t.Errorf("%+v", got)
	}
	got, err = d.Take(ctx, number, d.anna, at(3)) // twice the same key
	must(t, err)
	if got.Version != 2 {
		t.Errorf("%+v", got)
	}
	got, err = d.Take(ctx, number, d.bruno, at(4))
	must(t, err)
	if got.Owner.Name != "bruno" || !got.TakenAt.Equal(at(2)) { // Tk is the first
		t.Errorf("%+v", got)
	}
	_, err = d.AddNote(ctx, number, d.bruno, "Chiamato il fornitore\r\ndue volte\x00", at(5))
	must(t, err)
	for i, subject := range []string{"Non stampa", "Non stampa i certificati"} { // the form saves itself
		before, err := d.TicketOf(ctx, number)
		must(t, err)
		_, err = d.Edit(ctx, number, d.bruno, Fields{"subject": before.Subject, "description": before.Description}, Fields{"subject": subject, "description": fmt.Sprint(i)}, at(6+i))
		must(t, err)
	}
	got, err = d.Book.Close(ctx, number, d.bruno, "risolto", "Cambiato il cassetto", at(10))
	must(t, err)
	if got.Status != Closed || got.Outcome != "risolto" || got.Solution != "Cambiato il cassetto" || got.ClosedBy.DisplayName != "Operatore bruno" || !got.ClosedAt.Equal(at(10)) {
		t.Errorf("%+v", got)
	}
	got, err = d.Reopen(ctx, number, d.anna, at(20))
	must(t, err)
	if got.Status != InCharge || got.Outcome != "" || got.Solution != "Cambiato il cassetto" || got.ClosedBy != nil || got.ClosedAt != nil || got.Owner.Name != "anna" || !got.TakenAt.Equal(at(2)) {
		t.Errorf("%+v", got)
	}

	page, err := d.Ticket(ctx, number)
	must(t, err)
	var told []string
	for _, m := range page.Timeline {
		told = append(told, strings.TrimSpace(m.By+": "+m.Text))
	}
	want := []string{
		": Chiamata da +390551234567",
		": Ticket aperto",
		"Operatore anna: Preso in carico",
		"Operatore bruno: Preso in carico",
		"Operatore bruno: Chiamato il fornitore\ndue volte",
		"Operatore bruno: Modificato: descrizione, oggetto",
		"Operatore bruno: Chiuso: risolto",
		"Operatore anna: Riaperto",
	}
	if !slices.Equal(told, want) {
		t.Errorf("timeline\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	if len(page.Contacts) != 1 || !page.Contacts[0].Tk.Equal(at(2)) || len(page.Notes) != 1 || page.Notes[0].By.Name != "bruno" {
		t.Errorf("%+v", page)
	}
	must(t, journal.Verify(ctx, d.db.Pool, journal.TicketStream(got.ID)))
	// The journal holds no word of what was typed, no name and no number.
	if n := d.count(`select count(*) from journal where data::text ~* 'stampa|cassetto|fornitore|rossi|055|[+]39'`); n != 0 {
		t.Errorf("%d journal lines carry a text", n)
	}
}

// TestTimelineTellsTransfers: without them the same call begins to be talked about again
// and again. And who listened in is told to whoever was listened to.
func TestTimelineTellsTransfers(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	c := d.call("", monday)
	ticket, err := d.Book.Open(ctx, c, Matter{Channel: Phone, At: monday}, nil)
	must(t, err)
	must(t, d.db.Tx(ctx, func(tx *db.Tx) error {
		for _, to := range []string{"operator", "topic", "outside", "queue"} {
			if err := journal.Append(ctx, tx, journal.Line{Stream: journal.ContactStream(c.ID), At: monday, Kind: journal.Given, User: d.anna,
				Contact: uuid.NullUUID{UUID: c.ID, Valid: true}, Data: map[string]any{"to": to}}); err != nil {
				return err
			}
		}
		for kind, as := range map[journal.Kind]string{journal.SupervisionBegan: "listen", journal.SupervisionChanged: "barge"} {
			if err := journal.Append(ctx, tx, journal.Line{Stream: journal.ContactStream(c.ID), At: monday, Kind: kind, User: d.anna,
				Contact: uuid.NullUUID{UUID: c.ID, Valid: true}, Data: map[string]any{"as": as}}); err != nil {
				return err
			}
		}
		return nil
	}))
	page, err := d.Ticket(ctx, ticket.Number)
	must(t, err)
	var told []string
	for _, m := range page.Timeline {
		if m.Kind == string(journal.SupervisionBegan) && m.Text != "Un supervisore ascolta la conversazione" || m.Kind == string(journal.SupervisionChanged) && m.Text != "Un supervisore partecipa alla conversazione" {
			t.Errorf("%s: %s", m.Kind, m.Text)
		}
		if strings.HasPrefix(m.Kind, "supervision") {
			told = append(told, m.By)
		}
	}
	if !slices.Equal(told, []string{"Operatore anna", "Operatore anna"}) {
		t.Errorf("supervision is told of %q", told)
	}
	told = nil
	for _, m := range page.Timeline {
		if m.Kind == string(journal.Given) {
			told = append(told, m.By+": "+m.Text)
		}
	}
	want := []string{
		"Operatore anna: Trasferita a un collega",
		"Operatore anna: Trasferita a un altro argomento",
		"Operatore anna: Trasferita a un numero esterno",
		"Operatore anna: Rimessa in coda: l'operatore ha riagganciato durante l'attesa",
	}
	if !slices.Equal(told, want) {
		t.Errorf("timeline\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// TestTimelineShowsTheRecording of the contact that has one.
func TestTimelineShowsTheRecording(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	c := d.call("", monday)
	ticket, err := d.Book.Open(ctx, c, Matter{Channel: Voicemail, At: monday}, nil)
	must(t, err)
	_, err = d.db.Pool.Exec(ctx, `insert into recordings (id, contact_id, node, kind, state, started_at) values (gen_random_uuid(), $1, 'node1', 'message', 'recording', $2)`, c.ID, monday)
	must(t, err)
	if d.record(c).HasRecording {
		t.Error("a recording that is not complete is shown")
	}
	_, err = d.db.Pool.Exec(ctx, `update recordings set state = 'complete'`)
	must(t, err)
	must(t, d.EndMessage(ctx, c, ticket, time.Minute, monday.Add(time.Minute)))
	page, err := d.Ticket(ctx, ticket.Number)
	must(t, err)
	last := page.Timeline[len(page.Timeline)-1]
	if !last.HasRecording || last.Ending != "voicemail" || *last.ContactID != c.ID || last.Text != "Fine della chiamata: messaggio in segreteria" || page.Timeline[0].Text != "Chiamata da numero nascosto" || page.Timeline[0].HasRecording {
		t.Errorf("%+v", page.Timeline)
	}

	// The message and its ticket are taken one by one, and say so.
	must(t, d.db.Tx(ctx, func(tx *db.Tx) error {
		return journal.Append(ctx, tx, journal.Line{Stream: journal.ContactStream(c.ID), At: monday, Kind: journal.Taken, User: d.anna,
			Contact: uuid.NullUUID{UUID: c.ID, Valid: true}, Data: map[string]any{"recording": uuid.New()}})
	}))
	_, err = d.Take(ctx, ticket.Number, d.anna, monday)
	must(t, err)
	page, err = d.Ticket(ctx, ticket.Number)
	must(t, err)
	var said []string
	for _, m := range page.Timeline[len(page.Timeline)-2:] {
		said = append(said, m.Text)
	}
	if want := []string{"Messaggio preso in carico", "Preso in carico"}; !slices.Equal(said, want) {
		t.Errorf("the timeline says %q, want %q", said, want)
	}
}

func TestCloseRules(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	var refused *Refusal
	for _, outcome := range []string{"", "senza_messaggio", "fatto"} {
		if _, err := d.Book.Close(ctx, d.ticket().Number, d.anna, outcome, "", monday); !errors.As(err, &refused) || refused.Field != "outcome" {
			t.Errorf("outcome %q: %v", outcome, err)
		}
	}
	// A closing takes charge when nobody had, and does not wipe out a solution.
	ticket := d.ticket()
	_, err := d.Edit(ctx, ticket.Number, d.anna, Fields{"solution": ""}, Fields{"solution": "Riavviato"}, monday)
	must(t, err)
	got, err := d.Book.Close(ctx, ticket.Number, d.anna, "inoltrato", "", monday.Add(time.Hour))
	must(t, err)
	if got.Owner.Name != "anna" || !got.TakenAt.Equal(monday.Add(time.Hour)) || got.Solution != "Riavviato" {
		t.Errorf("%+v", got)
	}
	if _, err := d.Book.Close(ctx, "2026-999", d.anna, "risolto", "", monday); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := d.Book.Close(ctx, d.ticket().Number, d.anna, "risolto", strings.Repeat("è", textMost+1), monday); !errors.As(err, &refused) || refused.Field != "solution" {
		t.Errorf("%v", err)
	}
}

// TestToRingBackIsNotForgotten: a ticket closed as "da richiamare" puts the call
// on the list, and there one of two takes it.
func TestToRingBackIsNotForgotten(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	c := d.call("+390551234567", monday)
	ticket, err := d.Book.Open(ctx, c, Matter{At: monday}, nil)
	must(t, err)
	_, err = d.Book.Close(ctx, ticket.Number, d.anna, "da_richiamare", "", monday.Add(time.Minute))
	must(t, err)
	must(t, d.End(ctx, c, Served, monday.Add(2*time.Minute), nil)) // closed while they still talk
	lost := d.call("+390557654321", monday.Add(-time.Hour))
	must(t, d.End(ctx, lost, AbandonedQueue, monday, nil))

	due, err := d.RingBacks(ctx)
	must(t, err)
	if len(due) != 2 || due[0].ID != lost.ID || due[1].ID != c.ID { // oldest first
		t.Fatalf("%+v", due)
	}
	type result struct {
		who int64
		err error
	}
	results := make(chan result)
	for _, who := range []int64{d.anna, d.bruno} {
		go func() {
			_, err := d.TakeRingBack(context.Background(), c.ID, who, monday.Add(time.Hour))
			results <- result{who, err}
		}()
	}
	var winners []int64
	for range 2 {
		r := <-results
		var refused *Refusal
		if r.err == nil {
			winners = append(winners, r.who)
		} else if !errors.As(r.err, &refused) {
			t.Error(r.err)
		}
	}
	if len(winners) != 1 || d.count(`select ring_back_by from contacts where id = $1`, c.ID) != int(winners[0]) {
		t.Errorf("winners %v", winners)
	}
	if n, err := d.RingBacksDue(ctx); err != nil || n != 1 {
		t.Errorf("%d due, %v", n, err)
	}
	if k := kinds(d.record(c)); k[len(k)-1] != "rung_back" {
		t.Errorf("journal %v", k)
	}
	if _, err := d.TakeRingBack(ctx, d.call("", monday).ID, d.anna, monday); err == nil {
		t.Error("a call that is not on the list was taken")
	}
}

func TestNoteRules(t *testing.T) {
	d := newDesk(t)
	number := d.ticket().Number
	var refused *Refusal
	for _, body := range []string{"", " \n ", strings.Repeat("x", textMost+1)} {
		if _, err := d.AddNote(t.Context(), number, d.anna, body, monday); !errors.As(err, &refused) {
			t.Errorf("%d characters: %v", len(body), err)
		}
	}
}

// TestEdit holds the three-way rule for one field of each kind.
func TestEdit(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	obj := func(s string) (v any) { must(t, json.Unmarshal([]byte(s), &v)); return v }
	for _, c := range []struct {
		name             string
		field            string
		base, set, stale any
		want             func(*Ticket) bool
		bad              []any
	}{
		{"subject", "subject", "Certificati", "Non stampa", "Altro", func(t *Ticket) bool { return t.Subject == "Non stampa" }, []any{strings.Repeat("x", 201), 5.0, nil}},
		{"description", "description", "", "a\r\nb", "x", func(t *Ticket) bool { return t.Description == "a\nb" }, []any{strings.Repeat("x", textMost+1), nil}},
		{"urgency", "urgency", 1.0, 2.0, 2.0, func(t *Ticket) bool { return t.Urgency == 2 }, []any{0.0, 3.0, 1.5, "2", nil}},
		{"call type", "call_type", "intervento", "sollecito", "reclamo", func(t *Ticket) bool { return t.CallType == "sollecito" }, []any{"altro", "", nil}},
		{"fault type", "fault_type", "bloccante", "", "non_bloccante", func(t *Ticket) bool { return t.FaultType == "" }, []any{"grave"}},
		{"number", "requester_number", "055 1234567", "333 1234567", "055", func(t *Ticket) bool { return t.RequesterNumber == "+393331234567" }, []any{strings.Repeat("1", 201)}},
		{"half a number", "requester_number", "+390551234567", "333 12", "055", func(t *Ticket) bool { return t.RequesterNumber == "333 12" }, nil},
		{"topic by id", "topic", float64(d.topics[1].ID), float64(d.topics[0].ID), nil, func(t *Ticket) bool { return t.Topic.ID == d.topics[0].ID }, []any{999.0, "zzz", "a\x00", map[string]any{"id": 0.0}}},
		{"topic by code", "topic", "t2", "t1", "t3", func(t *Ticket) bool { return t.Topic.Code == "t1" }, nil},
		{"topic as shown", "topic", obj(asJSON(t, d.topics[1])), nil, obj(asJSON(t, d.topics[2])), func(t *Ticket) bool { return t.Topic == nil }, nil},
		{"customer as shown", "customer", obj(asJSON(t, d.rossi)), map[string]any{"code": "2000"}, nil, func(t *Ticket) bool { return t.Customer.Name == "Anna Bianchi" }, []any{"zzz"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			number := d.ticket().Number
			var refused *Refusal
			for _, bad := range c.bad {
				if _, err := d.Edit(ctx, number, d.anna, Fields{c.field: c.base}, Fields{c.field: bad}, monday); !errors.As(err, &refused) || refused.Field != c.field {
					t.Errorf("set to %.20v: %v", bad, err)
				}
			}
			var conflict *ConflictError
			if c.field != "urgency" { // it has two values: what is not the base is the wish
				if _, err := d.Edit(ctx, number, d.anna, Fields{c.field: c.stale}, Fields{c.field: c.set}, monday); !errors.As(err, &conflict) || len(conflict.Fields) != 1 {
					t.Errorf("from %v: %v", c.stale, err)
				}
			}
			got, err := d.Edit(ctx, number, d.anna, Fields{c.field: c.base}, Fields{c.field: c.set}, monday)
			if err != nil || !c.want(got) || got.Version != 2 {
				t.Fatalf("%+v, %v", got, err)
			}
			again, err := d.Edit(ctx, number, d.anna, Fields{c.field: c.base}, Fields{c.field: c.set}, monday)
			if err != nil || again.Version != 2 { // the answer was lost and the form sends it again
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// TestCustomerBringsTheRegister: whoever is told apart by name brings practice
// and authority along, but never over what somebody typed.
func TestCustomerBringsTheRegister(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	verdi, err := d.PutCustomer(ctx, Customer{Code: "2001", Name: "Luca Verdi", Practice: "Ambulatorio Nord", Authority: "Toscana Nord", Numbers: []string{"0557654321"}}, monday)
	must(t, err)
	shared, err := d.Book.Open(ctx, d.call("+390557654321", monday), Matter{At: monday}, nil)
	must(t, err)
	got, err := d.Edit(ctx, shared.Number, d.anna, Fields{"practice": ""}, Fields{"practice": "Via Roma"}, monday)
	must(t, err)
	got, err = d.Edit(ctx, got.Number, d.anna, Fields{"customer": nil}, Fields{"customer": verdi.ID}, monday)
	must(t, err)
	if got.RequesterName != "Luca Verdi" || got.Practice != "Via Roma" || got.Authority != "Toscana Nord" {
		t.Errorf("%+v", got)
	}
	// It was somebody else after all: what came with Verdi goes with him.
	got, err = d.Edit(ctx, got.Number, d.anna, Fields{"customer": verdi.ID, "requester_name": "Luca Verdi"}, Fields{"customer": d.rossi.ID, "requester_name": "La segretaria"}, monday)
	must(t, err)
	if got.RequesterName != "La segretaria" || got.Practice != "Via Roma" || got.Authority != "Toscana Centro" {
		t.Errorf("%+v", got)
	}
	got, err = d.Edit(ctx, got.Number, d.anna, Fields{"customer": d.rossi.ID}, Fields{"customer": nil}, monday)
	must(t, err)
	if got.Customer != nil || got.Authority != "Toscana Centro" {
		t.Errorf("%+v", got)
	}
}

func TestEditRefuses(t *testing.T) {
	d := newDesk(t)
	number := d.ticket().Number
	var refused *Refusal
	for _, name := range []string{"status", "number", "outcome", "version", "subject; drop table tickets", "owner"} {
		if _, err := d.Edit(t.Context(), number, d.anna, Fields{name: "x"}, Fields{name: "y"}, monday); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Edit(t.Context(), number, d.anna, nil, Fields{"subject": "y"}, monday); !errors.As(err, &refused) || refused.Reason != "Manca il valore di partenza." {
		t.Errorf("without base: %v", err)
	}
	if _, err := d.Edit(t.Context(), "2026-9", d.anna, nil, nil, monday); !errors.Is(err, ErrNotFound) {
		t.Errorf("no ticket: %v", err)
	}
}

// TestConflict: all or nothing, and it says who was quicker, and when.
func TestConflict(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	ticket := d.ticket()
	_, err := d.Edit(ctx, ticket.Number, d.bruno, Fields{"subject": "Certificati", "topic": "t2"}, Fields{"subject": "Carta", "topic": "t3"}, monday.Add(time.Minute))
	must(t, err)
	_, err = d.Edit(ctx, ticket.Number, d.anna, Fields{"subject": "Certificati", "topic": "t2", "practice": "Ambulatorio Centro"},
		Fields{"subject": "Stampante", "topic": "t1", "practice": "Sud"}, monday.Add(2*time.Minute))
	var conflict *ConflictError
	if !errors.As(err, &conflict) || len(conflict.Fields) != 2 {
		t.Fatalf("%v", err)
	}
	s := conflict.Fields["subject"]
	if s.Current != "Carta" || s.By != "Operatore bruno" || !s.At.Equal(monday.Add(time.Minute)) {
		t.Errorf("%+v", s)
	}
	if shown := asJSON(t, conflict.Fields["topic"].Current); shown != asJSON(t, d.topics[2]) {
		t.Errorf("topic %s", shown)
	}
	after, err := d.TicketOf(ctx, ticket.Number)
	must(t, err)
	if after.Practice != "Ambulatorio Centro" || after.Subject != "Carta" || after.Version != 2 {
		t.Errorf("%+v", after)
	}
	// The solution may have come with the closing; what nobody edited is the desk's own.
	_, err = d.Book.Close(ctx, ticket.Number, d.bruno, "risolto", "Fatto", monday.Add(3*time.Minute))
	must(t, err)
	_, err = d.Edit(ctx, ticket.Number, d.anna, Fields{"solution": "", "authority": "x"}, Fields{"solution": "Mio", "authority": "y"}, monday.Add(4*time.Minute))
	if !errors.As(err, &conflict) || conflict.Fields["solution"].By != "Operatore bruno" || !conflict.Fields["solution"].At.Equal(monday.Add(3*time.Minute)) ||
		conflict.Fields["authority"].By != "" || !conflict.Fields["authority"].At.Equal(ticket.OpenedAt) {
		t.Errorf("%+v", err)
	}
}

// TestEditsNeverLoseAnothersChange: several forms on one ticket, each with its
// own idea of what stands there. Whatever was saved is either still there or was
// changed by somebody who had seen it.
func TestEditsNeverLoseAnothersChange(t *testing.T) {
	d := newDesk(t)
	ctx := context.Background()
	fields := []string{"subject", "description", "practice"}
	rapid.Check(t, func(rt *rapid.T) {
		number := d.ticket().Number
		var server map[string]string
		read := func() map[string]string {
			t, err := d.TicketOf(ctx, number)
			if err != nil {
				rt.Fatal(err)
			}
			return map[string]string{"subject": t.Subject, "description": t.Description, "practice": t.Practice}
		}
		server = read()
		seen := []map[string]string{read(), read(), read()} // what each form shows
		for i := range rapid.IntRange(3, 12).Draw(rt, "saves") {
			form := rapid.IntRange(0, len(seen)-1).Draw(rt, "form")
			if rapid.Bool().Draw(rt, "reloads") {
				seen[form] = read()
			}
			base, set := Fields{}, Fields{}
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(fields), 1, len(fields), rapid.ID).Draw(rt, "fields") {
				base[name], set[name] = seen[form][name], rapid.SampledFrom([]string{"rosso", "verde", "blu"}).Draw(rt, name)
			}
			_, err := d.Edit(ctx, number, []int64{d.anna, d.bruno, d.anna}[form], base, set, monday.Add(time.Duration(i)*time.Minute))
			clash := map[string]bool{}
			for name := range set {
				if server[name] != base[name] && server[name] != set[name] {
					clash[name] = true
				}
			}
			var conflict *ConflictError
			switch {
			case len(clash) == 0 && err != nil:
				rt.Fatalf("base %v, set %v on %v: %v", base, set, server, err)
			case len(clash) > 0 && !errors.As(err, &conflict):
				rt.Fatalf("base %v, set %v on %v: lost a change (%v)", base, set, server, err)
			case len(clash) > 0:
				for name := range clash {
					if conflict.Fields[name].Current != server[name] {
						rt.Fatalf("%s: %+v, the server has %q", name, conflict.Fields[name], server[name])
					}
				}
				if len(conflict.Fields) != len(clash) {
					rt.Fatalf("conflicts %v, want %v", conflict.Fields, clash)
				}
			default:
				for name, v := range set {
					server[name], seen[form][name] = v.(string), v.(string)
				}
			}
			for name, v := range read() {
				if v != server[name] {
					rt.Fatalf("%s is %q, want %q", name, v, server[name])
				}
			}
		}
	})
}

// TestEditsAtOnce: of two forms that save the same field at the same instant one
// hears of the other.
func TestEditsAtOnce(t *testing.T) {
	d := newDesk(t)
	for range 20 {
		number := d.ticket().Number
		errs := make(chan error)
		for i, who := range []int64{d.anna, d.bruno} {
			go func() {
				_, err := d.Edit(context.Background(), number, who, Fields{"subject": "Certificati"}, Fields{"subject": fmt.Sprint(i)}, monday)
				errs <- err
			}()
		}
		conflicts := 0
		for range 2 {
			var conflict *ConflictError
			if err := <-errs; errors.As(err, &conflict) {
				conflicts++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if conflicts != 1 {
			t.Fatalf("%d conflicts", conflicts)
		}
	}
}

// TestChoiceIsNotedWithTheTicket: what the caller chose is noted once, in the
// transaction of the ticket, and also when that comes to nothing.
func TestChoiceIsNotedWithTheTicket(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	full := errors.New("the queue is full")
	m := Matter{Topic: d.topics[1].ID, Urgency: Blocking, At: monday.Add(2 * time.Second), Queued: true, Chosen: monday.Add(time.Second)}
	lost := d.call("", monday)
	if _, err := d.Open(ctx, lost, m, func(context.Context, *db.Tx, int64) error { return full }); !errors.Is(err, full) {
		t.Fatal(err)
	}
	served := d.call("", monday)
	ticket, err := d.Open(ctx, served, m, nil)
	must(t, err)
	if ticket.Topic == nil || ticket.Topic.ID != m.Topic || ticket.Urgency != Blocking {
		t.Errorf("a ticket about %v, urgency %d", ticket.Topic, ticket.Urgency)
	}
	for c, want := range map[*Contact][]string{lost: {"begun", "classified"}, served: {"begun", "classified", "opened"}} {
		if r := d.record(c); !slices.Equal(kinds(r), want) {
			t.Errorf("%v, want %v", kinds(r), want)
		}
		var ts time.Time
		var topic int64
		var urgency int
		must(t, d.db.Pool.QueryRow(ctx, `select ts, topic_id, urgency from contacts where id = $1`, c.ID).Scan(&ts, &topic, &urgency))
		if !ts.Equal(m.Chosen) || topic != m.Topic || urgency != Blocking {
			t.Errorf("chosen at %v: topic %d, urgency %d", ts, topic, urgency)
		}
	}
	var transactions int
	must(t, d.db.Pool.QueryRow(ctx, `select count(distinct xid::text) from journal where contact_id = $1 and kind in ('classified', 'opened')`, served.ID).Scan(&transactions))
	if transactions != 1 {
		t.Errorf("%d transactions", transactions)
	}
}
