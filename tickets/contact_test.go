package tickets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

func TestBeginMatchesTheCaller(t *testing.T) {
	d := newDesk(t)
	for i := range MatchesShown + 1 {
		_, err := d.PutCustomer(t.Context(), Customer{Code: fmt.Sprint("p", i), Name: "Poliambulatorio", Numbers: []string{"0558888888"}}, monday)
		must(t, err)
	}
	for _, c := range []struct {
		from, source, caller, stored, match string
		customers                           int
	}{
		{"+390551234567", "asserted", "+390551234567", "asserted", MatchCertain, 1},
		{"0551234567", "from", "+390551234567", "from", MatchCertain, 1},
		{"0551234567", "somewhere", "+390551234567", "from", MatchCertain, 1},
		{"0558888888", "from", "+390558888888", "from", MatchSeveral, MatchesShown},
		{"+390557654321", "asserted", "+390557654321", "asserted", MatchSeveral, 2},
		{"+393331234567", "asserted", "+393331234567", "asserted", MatchNone, 0},
		{"", "withheld", "", "withheld", MatchWithheld, 0},
		{"anonymous", "from", "", "withheld", MatchWithheld, 0},
		{"", "asserted", "", "withheld", MatchWithheld, 0},
	} {
		got, err := d.Begin(t.Context(), Arrival{Channel: Phone, ID: "a\x00b\xff@host", From: c.from, Source: c.source, To: "+39800123456", Trunk: "carrier", At: monday})
		must(t, err)
		r := d.record(got)
		if got.Caller != c.caller || got.CallerSource != c.stored || got.Match != c.match || len(got.Customers) != c.customers || got.Deferred {
			t.Errorf("from %q: %+v", c.from, got)
		}
		if r.Caller != c.caller || r.CallerSource != c.stored || r.Match != c.match || (r.Customer != nil) != (c.match == MatchCertain) {
			t.Errorf("from %q the row says %+v", c.from, r)
		}
		if got.Service == nil || got.Service.Name != "Assistenza" || got.Dialled != "800123456" || r.Service != "Assistenza" || r.CallID != "ab@host" {
			t.Errorf("from %q: service %v, dialled %q, row %q, call id %q", c.from, got.Service, got.Dialled, r.Service, r.CallID)
		}
		if !r.T0.Equal(monday) || !slices.Equal(kinds(r), []string{"begun"}) || r.Journal[0].Seq != 1 {
			t.Errorf("from %q: t0 %v, journal %v", c.from, r.T0, r.Journal)
		}
	}
}

func TestBeginOfAnUnknownNumber(t *testing.T) {
	d := newDesk(t)
	c, err := d.Begin(t.Context(), Arrival{Channel: Phone, ID: "x", From: "+390551234567", Source: "asserted", To: "800999999", At: monday})
	must(t, err)
	if c.Service != nil || c.Deferred {
		t.Fatalf("service %+v, deferred %v", c.Service, c.Deferred)
	}
	must(t, d.End(t.Context(), c, RefusedUnknownNumber, monday, nil))
	if r := d.record(c); *r.Ending != "refused_unknown_number" || r.Service != "" || r.RingBack != nil {
		t.Errorf("%+v", r)
	}
}

// TestBeginOutlivesTheHangUp: a caller who hangs up while we write is registered.
func TestBeginOutlivesTheHangUp(t *testing.T) {
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := NewBook(d.db, "node1", nil, nil) // that has to read the services first
	c, err := fresh.Begin(ctx, Arrival{Channel: Phone, ID: "x", From: "+390551234567", Source: "asserted", To: "800123456", At: monday})
	must(t, err)
	d.record(c)
}

func TestServicesAreReadAgainAfterAChange(t *testing.T) {
	d := newDesk(t)
	other := NewBook(d.db, "node2", nil, nil)
	if _, err := other.Service(t.Context(), "848000111"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	_, err := d.PutService(t.Context(), Service{Number: "848 000 111", Name: "Seconda"})
	must(t, err)
	s, err := other.Service(t.Context(), "848000111")
	must(t, err)
	if s.Name != "Seconda" || s.Hours.Always {
		t.Errorf("%+v", s)
	}
}

// TestOnlyWhoChoosesIsChecked: a contact's checks are asked by the steps, alone or shared,
// that bring an urgency, and by no other.
func TestOnlyWhoChoosesIsChecked(t *testing.T) {
	d := newDesk(t)
	chosen := d.call("+390551234567", monday)
	one, two := d.call("", monday), d.call("", monday)
	_, err := d.db.Pool.Exec(t.Context(), `create or replace function contact_is_sound() returns trigger language plpgsql as $$ begin raise exception 'checked'; end $$`)
	must(t, err)
	for _, kind := range []journal.Kind{journal.Answered, journal.Told, journal.Offered, journal.Talking, journal.Wrapped} {
		must(t, d.Note(t.Context(), chosen, Step{Kind: kind, At: monday, Operator: d.anna}))
	}
	d.together(2, func() { must(t, d.Note(t.Context(), one, Step{Kind: journal.Answered, At: monday})) },
		func() { must(t, d.Note(t.Context(), two, Step{Kind: journal.Answered, At: monday})) })
	if err := d.Note(t.Context(), chosen, Step{Kind: journal.Classified, At: monday, Topic: d.topics[0].ID, Urgency: Blocking}); err == nil || !strings.Contains(err.Error(), "checked") {
		t.Errorf("what the caller chose is noted with %v", err)
	}
}

// TestInstants walks a call that is served and looks at every instant.
func TestInstants(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	at := func(s int) time.Time { return monday.Add(time.Duration(s) * time.Second) }
	c := d.call("+390551234567", at(0))
	must(t, d.Note(ctx, c, Step{Kind: journal.Answered, At: at(1)}))
	must(t, d.Note(ctx, c, Step{Kind: journal.Classified, At: at(9), Topic: d.topics[1].ID, Urgency: Blocking}))
	ticket, err := d.Book.Open(ctx, c, Matter{Channel: Phone, Topic: d.topics[1].ID, Urgency: Blocking, At: at(10), Queued: true}, nil)
	must(t, err)
	must(t, d.Note(ctx, c, Step{Kind: journal.Told, At: at(15)}))
	must(t, d.Note(ctx, c, Step{Kind: journal.Offered, At: at(20), Operator: d.anna}))
	must(t, d.Note(ctx, c, Step{Kind: journal.Offered, At: at(40), Operator: d.bruno})) // the second offer: Tr stays the first
	must(t, d.Note(ctx, c, Step{Kind: journal.Talking, At: at(45), Operator: d.bruno}))
	must(t, d.End(ctx, c, Served, at(240), nil))
	must(t, d.Note(ctx, c, Step{Kind: journal.Wrapped, At: at(250)}))
	r := d.record(c)
	for name, i := range map[string]struct {
		got  *time.Time
		want int
	}{"ta": {r.Ta, 1}, "ts": {r.Ts, 9}, "tq": {r.Tq, 10}, "tr": {r.Tr, 20}, "tc": {r.Tc, 45}, "tk": {r.Tk, 45}, "te": {r.Te, 240}, "tw": {r.Tw, 250}} {
		if i.got == nil || !i.got.Equal(at(i.want)) {
			t.Errorf("%s is %v, want %v", name, i.got, at(i.want))
		}
	}
	if *r.Ticket != ticket.Number || *r.Operator != "bruno" || !r.NumberTold || r.Topic.ID != d.topics[1].ID || *r.Urgency != Blocking || *r.Ending != "served" || r.RingBack != nil {
		t.Errorf("%+v", r)
	}
	if want := []string{"begun", "answered", "classified", "opened", "told", "offered", "offered", "talking", "taken", "ended", "wrapped"}; !slices.Equal(kinds(r), want) {
		t.Errorf("journal %v, want %v", kinds(r), want)
	}
	// Talking with the caller takes the matter in charge.
	after, err := d.TicketOf(ctx, ticket.Number)
	must(t, err)
	if after.Status != InCharge || after.Owner.Name != "bruno" || !after.TakenAt.Equal(at(45)) {
		t.Errorf("%+v", after)
	}
	must(t, journal.Verify(ctx, d.db.Pool, journal.ContactStream(c.ID)))
	must(t, journal.Verify(ctx, d.db.Pool, journal.TicketStream(ticket.ID)))
}

func TestNoteOfAContactThatIsNone(t *testing.T) {
	d := newDesk(t)
	if err := d.Note(t.Context(), &Contact{ID: uuid.New()}, Step{Kind: journal.Answered, At: monday}); !errors.Is(err, ErrNotFound) {
		t.Errorf("err %v", err)
	}
}

// TestRingBackByEnding holds, for every ending, who is to be rung back.
func TestRingBackByEnding(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	due := map[Ending]string{AbandonedQueue: "always", NoOperator: "always", SystemFault: "always", AbandonedIVR: "chosen",
		NoMessage: "chosen", OutOfHoursNoMessage: "chosen"} // who chose had wanted somebody, and said no word instead
	for e := range endings {
		for _, who := range []struct {
			from   string
			chosen bool
		}{{"+390551234567", true}, {"+390551234567", false}, {"", true}} {
			c := d.call(who.from, monday)
			if who.chosen {
				must(t, d.Note(ctx, c, Step{Kind: journal.Classified, At: monday, Topic: d.topics[0].ID, Urgency: NotBlocking}))
			}
			must(t, d.End(ctx, c, e, monday.Add(time.Minute), nil))
			want := who.from != "" && (due[e] == "always" || due[e] == "chosen" && who.chosen)
			if r := d.record(c); (r.RingBack != nil) != want || *r.Ending != string(e) {
				t.Errorf("%s from %q, chosen %v: ring back %v, want %v", e, who.from, who.chosen, r.RingBack != nil, want)
			}
		}
		if e.Label() == "" || !e.Known() {
			t.Errorf("%s has no label", e)
		}
	}
	if err := d.End(ctx, d.call("", monday), "hung_up", monday, nil); err == nil {
		t.Error("an ending that is none was taken")
	}
}

// TestExactlyOneEnding: whatever ends a contact, however often and at once, the
// first ending stays and is journalled once.
func TestExactlyOneEnding(t *testing.T) {
	d := newDesk(t)
	all := make([]Ending, 0, len(endings))
	for e := range endings {
		all = append(all, e)
	}
	slices.Sort(all)
	rapid.Check(t, func(rt *rapid.T) {
		tries := rapid.SliceOfN(rapid.SampledFrom(all), 2, 5).Draw(rt, "endings")
		c := d.call("+390551234567", monday)
		errs := make(chan error)
		for i, e := range tries {
			go func() {
				own := *c // each as if on a node of its own
				errs <- d.End(context.Background(), &own, e, monday.Add(time.Duration(i+1)*time.Second), nil)
			}()
		}
		for range tries {
			if err := <-errs; err != nil {
				rt.Fatal(err)
			}
		}
		r := d.record(c)
		n := 0
		for _, l := range r.Journal {
			if l.Kind == "ended" {
				n++
				if l.Data["ending"] != *r.Ending {
					rt.Fatalf("the row says %s, the journal %v", *r.Ending, l.Data)
				}
			}
		}
		i := slices.Index(tries, Ending(*r.Ending))
		if n != 1 || i < 0 || r.Te == nil {
			rt.Fatalf("%d endings, %s, te %v", n, *r.Ending, r.Te)
		}
	})
}

// TestEndIsNotBeforeTheRest: Te is the last instant even if a clock was set back.
func TestEndIsNotBeforeTheRest(t *testing.T) {
	d := newDesk(t)
	c := d.call("+390551234567", monday)
	must(t, d.Note(t.Context(), c, Step{Kind: journal.Answered, At: monday.Add(time.Second)}))
	must(t, d.End(t.Context(), c, AbandonedIVR, monday.Add(-time.Minute), errors.New("clock")))
	if r := d.record(c); !r.Te.Equal(monday.Add(time.Second)) {
		t.Errorf("te %v", r.Te)
	}
}

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		name   string
		sound  time.Duration
		ending Ending
		status Status
	}{
		{"a message", 2 * time.Second, MessageLeft, Open},
		{"a breath", 1999 * time.Millisecond, NoMessage, Closed},
		{"nothing", 0, NoMessage, Closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			contact := d.call("+390551234567", monday)
			ticket, err := d.Book.Open(t.Context(), contact, Matter{Channel: Voicemail, Topic: d.topics[2].ID, At: monday.Add(time.Minute)}, nil)
			must(t, err)
			if ticket.Subject != "Messaggio in segreteria" || ticket.Channel != Voicemail || ticket.Urgency != NotBlocking {
				t.Errorf("%+v", ticket)
			}
			must(t, d.EndMessage(t.Context(), contact, ticket, c.sound, monday.Add(2*time.Minute)))
			r := d.record(contact)
			after, err := d.TicketOf(t.Context(), ticket.Number)
			must(t, err)
			if *r.Ending != string(c.ending) || after.Status != c.status || r.RingBack != nil || r.Tq != nil {
				t.Errorf("ending %s, ticket %+v, ring back %v", *r.Ending, after, r.RingBack)
			}
			if c.status == Closed && (after.Outcome != "senza_messaggio" || after.ClosedBy != nil) {
				t.Errorf("%+v", after)
			}
		})
	}
}

// TestHangUpBeforeTheTone: a night caller who hears the number and hangs up
// leaves nothing to work on.
func TestHangUpBeforeTheTone(t *testing.T) {
	d := newDesk(t)
	c := d.call("+390551234567", monday)
	ticket, err := d.Book.Open(t.Context(), c, Matter{Channel: Voicemail, At: monday}, nil)
	must(t, err)
	must(t, d.End(t.Context(), c, OutOfHoursNoMessage, monday.Add(time.Minute), nil))
	after, err := d.TicketOf(t.Context(), ticket.Number)
	must(t, err)
	if after.Status != Closed || after.Outcome != "senza_messaggio" || d.record(c).RingBack != nil {
		t.Errorf("%+v", after)
	}
}

// TestSilenceDoesNotCloseACall: only a message's ticket that nobody has begun to
// work on is closed for want of a message.
func TestSilenceDoesNotCloseACall(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	phone := d.call("+390551234567", monday)
	first, err := d.Book.Open(ctx, phone, Matter{Channel: Phone, At: monday}, nil)
	must(t, err)
	must(t, d.End(ctx, phone, NoMessage, monday, nil))
	message := d.call("+390551234567", monday)
	second, err := d.Book.Open(ctx, message, Matter{Channel: Voicemail, At: monday}, nil)
	must(t, err)
	_, err = d.Take(ctx, second.Number, d.anna, monday)
	must(t, err)
	must(t, d.EndMessage(ctx, message, second, 0, monday))
	for _, number := range []string{first.Number, second.Number} {
		if after, err := d.TicketOf(ctx, number); err != nil || after.Status == Closed {
			t.Errorf("%s: %+v, %v", number, after, err)
		}
	}
}

// TestOpenIsPatient: who hears music while a ticket is opened waits for a database that
// is slow; who hears nothing is not kept waiting.
func TestOpenIsPatient(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	begun := func(id string) *Contact {
		c, err := d.Begin(ctx, Arrival{Channel: Phone, ID: id, From: "0551234567", Source: "asserted", To: "800123456", At: monday})
		must(t, err)
		return c
	}
	first, second, third := begun("first"), begun("second"), begun("third")
	_, err := d.Book.Open(ctx, first, Matter{At: monday}, nil) // there is a counter
	must(t, err)
	holds, err := d.db.Pool.Begin(ctx)
	must(t, err)
	_, err = holds.Exec(ctx, `select from ticket_counters for update`)
	must(t, err)
	patient := make(chan error, 1)
	go func() {
		_, err := d.Book.Open(ctx, second, Matter{At: monday, Patience: time.Minute}, nil)
		patient <- err
	}()
	if _, err := d.Book.Open(ctx, third, Matter{At: monday}, nil); !db.Away(err) {
		t.Errorf("without patience: %v", err)
	}
	must(t, holds.Rollback(ctx))
	must(t, <-patient)
	if second.Ticket == nil || second.Deferred {
		t.Errorf("%+v", second)
	}
}

// TestDatabaseAway walks a caller through an outage: registered, answered with a
// courtesy message, and the message's ticket there after the replay, once.
func TestDatabaseAway(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	away := d.away()
	at := func(s int) time.Time { return monday.Add(time.Duration(s) * time.Second) }
	c, err := away.Begin(ctx, Arrival{Channel: Phone, ID: "outage", From: "0551234567", Source: "asserted", To: "800123456", Trunk: "carrier", At: at(0)})
	must(t, err)
	if !c.Deferred || c.Service == nil || c.Match != MatchNone {
		t.Fatalf("%+v", c)
	}
	must(t, away.Note(ctx, c, Step{Kind: journal.Answered, At: at(1)}))
	if _, err := away.Open(ctx, c, Matter{Channel: Voicemail, At: at(5)}, nil); !errors.Is(err, ErrDeferred) {
		t.Errorf("open: %v", err)
	}
	must(t, away.EndMessage(ctx, c, nil, 10*time.Second, at(20)))
	if n := d.count(`select count(*) from contacts`); n != 0 {
		t.Fatalf("%d contacts before the replay", n)
	}
	for range 2 { // a crash in the middle of a replay replays again
		d.replay()
		r := d.record(c)
		if *r.Ending != "voicemail" || r.Match != MatchCertain || r.Ticket == nil || *r.Ticket != "2026-1" || !r.Ta.Equal(at(1)) || !r.Te.Equal(at(20)) || !r.T0.Equal(at(0)) {
			t.Errorf("%+v", r)
		}
		if want := []string{"begun", "answered", "opened", "ended"}; !slices.Equal(kinds(r), want) {
			t.Errorf("journal %v, want %v", kinds(r), want)
		}
		if n := d.count(`select count(*) from tickets`); n != 1 {
			t.Errorf("%d tickets", n)
		}
	}
	ticket, err := d.TicketOf(ctx, "2026-1")
	must(t, err)
	if ticket.RequesterName != "Mario Rossi" || ticket.Channel != Voicemail || !ticket.ReceivedAt.Equal(at(0)) || ticket.Status != Open {
		t.Errorf("%+v", ticket)
	}
}

// TestAwayWithoutMessage: who heard that we are out of order is rung back.
func TestAwayWithoutMessage(t *testing.T) {
	d := newDesk(t)
	away := d.away()
	for _, e := range []Ending{NoMessage, OutOfHoursNoMessage} {
		c, err := away.Begin(t.Context(), Arrival{Channel: Phone, ID: string(e), From: "0551234567", Source: "asserted", To: "800123456", At: monday})
		must(t, err)
		must(t, away.End(t.Context(), c, e, monday.Add(time.Second), nil))
		d.replay()
		if r := d.record(c); *r.Ending != string(e) || r.RingBack == nil || r.Ticket != nil {
			t.Errorf("%+v", r)
		}
	}
}

// TestAwayInTheMiddle: a contact whose facts went to the spool once keeps
// sending them there, so that they cannot overtake each other.
func TestAwayInTheMiddle(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	c := d.call("+390551234567", monday)
	must(t, d.away().Note(ctx, c, Step{Kind: journal.Talking, At: monday.Add(time.Second), Operator: d.anna}))
	if !c.Deferred {
		t.Fatal("not deferred")
	}
	must(t, d.End(ctx, c, Served, monday.Add(2*time.Second), nil)) // the database is back
	if r := d.record(c); r.Ending != nil {
		t.Fatal("the ending overtook the talk")
	}
	d.replay()
	if r := d.record(c); *r.Ending != "served" || r.Tc == nil || !slices.Equal(kinds(r), []string{"begun", "talking", "ended"}) {
		t.Errorf("%+v", r)
	}
}

// TestLegs: how the sound was is written with the ending, also when that comes
// late, and the ticket's timeline says when it was bad.
func TestLegs(t *testing.T) {
	d := newDesk(t)
	good := Leg{Who: LegCaller, Heard: &Direction{Packets: 500, MOS: 4.41}, Reached: &Direction{Packets: 501, Lost: 0.002, JitterMS: 3, TripMS: 40, MOS: 4.39}}
	bad := Leg{Who: LegOperator, Heard: &Direction{Packets: 300, Lost: 0.2, MOS: 2.63}}
	c := d.call("+390551234567", monday)
	ticket, err := d.Open(t.Context(), c, Matter{Channel: Phone, At: monday}, nil)
	must(t, err)
	c.Legs = []Leg{good, bad}
	c.Deferred = true
	must(t, d.End(t.Context(), c, Served, monday.Add(time.Minute), nil))
	d.replay()
	if r := d.record(c); len(r.Legs) != 2 || *r.Legs[0].Reached != *good.Reached || *r.Legs[1].Heard != *bad.Heard {
		t.Errorf("%+v", r.Legs)
	}
	page, err := d.Book.Ticket(t.Context(), ticket.Number)
	must(t, err)
	if last := page.Timeline[len(page.Timeline)-1]; !strings.HasSuffix(last.Text, ", linea disturbata (qualità 2,6 su 4,5)") {
		t.Errorf("the timeline ends with %q", last.Text)
	}
	if worst([]Leg{good}) < disturbed || worst(nil) < disturbed {
		t.Error("a good line is called disturbed")
	}
}

// TestInDoubt: a fact that was committed without our hearing of it is deferred,
// and the replay finds it done.
func TestInDoubt(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	b := &begun{Fact: uuid.New(), Contact: uuid.New(), Node: "node1", Channel: Phone, CallID: "doubt", Source: "withheld", Dialled: "800123456", T0: monday}
	s := &stepped{Fact: uuid.New(), Contact: b.Contact, Kind: journal.Answered, At: monday.Add(time.Second), Data: map[string]any{"codec": 8}}
	e := &ended{Fact: uuid.New(), Contact: b.Contact, Ending: Served, At: monday.Add(time.Minute)}
	for _, f := range []fact{b, s, e} {
		must(t, d.commit(ctx, f))
		must(t, d.spool.Defer(f.kind(), f))
	}
	d.replay()
	if r := d.record(&Contact{ID: b.Contact}); !slices.Equal(kinds(r), []string{"begun", "answered", "ended"}) || r.Journal[1].Data["codec"] != 8.0 {
		t.Errorf("%+v", r.Journal)
	}
}

func TestNeitherDatabaseNorDisk(t *testing.T) {
	d := newDesk(t)
	away := d.away()
	d.spool.broken = true
	if _, err := away.Begin(t.Context(), Arrival{Channel: Phone, ID: "x", To: "800123456", At: monday}); err == nil || !strings.Contains(err.Error(), "disk") || !db.Away(err) {
		t.Errorf("err %v", err)
	}
	alone := NewBook(away.db, "node1", nil, nil)
	if _, err := alone.Begin(t.Context(), Arrival{Channel: Phone, ID: "x", To: "800123456", At: monday}); !db.Away(err) {
		t.Errorf("without a spool: %v", err)
	}
}

func TestReplayOfNonsense(t *testing.T) {
	d := newDesk(t)
	orphan, err := json.Marshal(&stepped{Fact: uuid.New(), Contact: uuid.New(), Kind: journal.Answered, At: monday})
	must(t, err)
	for kind, raw := range map[string]string{"leave": `{}`, kindBegun: `{"t0":5}`, kindEnded: `not json`, kindStepped: string(orphan)} {
		if err := d.Replay(t.Context(), kind, json.RawMessage(raw)); !errors.Is(err, ErrBadFact) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := d.Replay(t.Context(), kindEnded, json.RawMessage(`{"contact":"`+d.call("", monday).ID.String()+`","ending":"gone"}`)); !errors.Is(err, ErrBadFact) {
		t.Errorf("unknown ending: %v", err)
	}
	if !Replays(kindBegun) || !Replays(kindStepped) || !Replays(kindEnded) || Replays("leave") {
		t.Error("Replays")
	}
}

func TestRecover(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	crash := monday.Add(3 * time.Minute)
	_, err := d.db.Pool.Exec(ctx, `insert into nodes (id, started_at, seen_at) values ('node1', $1, $2)`, monday, crash)
	must(t, err)

	inMenu := d.call("+390551234567", monday)
	hidden := d.call("", monday)
	inMessage := d.call("+390551234567", monday)
	open, err := d.Book.Open(ctx, inMessage, Matter{Channel: Voicemail, At: monday}, nil)
	must(t, err)
	breath := d.call("+390551234567", monday)
	_, err = d.Book.Open(ctx, breath, Matter{Channel: Voicemail, At: monday}, nil)
	must(t, err)
	untold := d.call("+390551234567", monday) // recorded during an outage: no ticket yet
	over := d.call("+390551234567", monday)
	must(t, d.End(ctx, over, Served, monday, nil))
	other, err := NewBook(d.db, "node2", nil, nil).Begin(ctx, Arrival{Channel: Phone, ID: "other", To: "800123456", At: monday})
	must(t, err)

	tapes := map[uuid.UUID]time.Duration{inMessage.ID: 5 * time.Second, breath.ID: time.Second, untold.ID: 4 * time.Second, over.ID: time.Minute, uuid.New(): time.Minute}
	for i := range 2 { // a second crash finds nothing left
		got, err := d.Recover(ctx, monday.Add(time.Hour), tapes)
		must(t, err)
		if want := []int{3, 2}; i == 0 && (len(got.Messages) != want[0] || len(got.Faults) != want[1]) || i > 0 && len(got.Messages)+len(got.Faults) > 0 {
			t.Errorf("%+v", got)
		}
	}
	for _, c := range []struct {
		contact *Contact
		ending  string
		due     bool
		ticket  string
	}{
		{inMenu, "system_fault", true, ""},
		{hidden, "system_fault", false, ""},
		{inMessage, "voicemail", false, open.Number},
		{breath, "no_message", true, "2026-2"},
		{untold, "voicemail", false, "2026-3"},
		{over, "served", false, ""},
	} {
		r := d.record(c.contact)
		if *r.Ending != c.ending || (r.RingBack != nil) != c.due || r.Ticket == nil && c.ticket != "" || r.Ticket != nil && *r.Ticket != c.ticket {
			t.Errorf("want %+v, got %s, ring back %v, ticket %v", c, *r.Ending, r.RingBack != nil, r.Ticket)
		}
		if c.contact != over && (!r.Te.Equal(crash) || r.Journal[len(r.Journal)-1].Data["recovered"] != true && c.ending != "no_message") {
			t.Errorf("%s: te %v, journal %+v", c.ending, r.Te, r.Journal)
		}
	}
	if r := d.record(other); r.Ending != nil {
		t.Error("another node's contact was ended")
	}
}

// TestEndLost ends what a dead node has left, and stops once that node beats.
func TestEndLost(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	seen := monday.Add(3 * time.Minute)
	_, err := d.db.Pool.Exec(ctx, `insert into nodes (id, started_at, seen_at) values ('node1', $1, $2)`, monday, seen)
	must(t, err)
	answered := func(number string, at time.Time) *Contact {
		c := d.call(number, at)
		must(t, d.Note(ctx, c, Step{Kind: journal.Answered, At: at}))
		return c
	}
	second := answered("+390551234567", monday.Add(time.Second))
	first := answered("+390559876543", monday)
	hidden := answered("", monday)
	ringing := d.call("+390551234567", monday)
	message := answered("+390551234567", monday)
	_, err = d.db.Pool.Exec(ctx, `insert into recordings (id, contact_id, node, kind, state, started_at) values ($1, $2, 'node1', 'message', 'recording', $3)`,
		uuid.New(), message.ID, monday)
	must(t, err)
	over := answered("+390551234567", monday)
	must(t, d.End(ctx, over, Served, monday, nil))
	older := answered("+390551234567", monday) // a fault before the node died: a person has it on the list
	must(t, d.End(ctx, older, SystemFault, monday.Add(time.Minute), nil))
	ours, err := NewBook(d.db, "node2", nil, nil).Begin(ctx, Arrival{Channel: Phone, ID: "other", To: "800123456", At: monday})
	must(t, err)

	all := []uuid.UUID{first.ID, second.ID, hidden.ID, ringing.ID, message.ID, over.ID, ours.ID}
	other := NewBook(d.db, "node2", nil, nil)
	if promise, err := other.EndLost(ctx, "node1", seen.Add(-time.Second), monday.Add(time.Hour)); !errors.Is(err, ErrNodeLives) || len(promise) > 0 {
		t.Fatalf("it has beaten since: %v, %v", promise, err)
	}
	if ended, err := d.Ended(ctx, all); err != nil || len(ended) != 1 || ended[0] != over.ID {
		t.Fatalf("ended are %v, %v", ended, err)
	}
	lost := func(want ...uuid.UUID) {
		t.Helper()
		promise, err := other.EndLost(ctx, "node1", seen, monday.Add(time.Hour))
		must(t, err)
		if !slices.Equal(promise, want) {
			t.Errorf("to be promised a call: %v, want %v", promise, want)
		}
	}
	lost(first.ID, second.ID)
	lost(first.ID, second.ID) // a leader that died in between: the next one still owes them a call
	for c, due := range map[*Contact]bool{first: true, second: true, hidden: false, ringing: true, message: true} {
		r := d.record(c)
		if *r.Ending != "system_fault" || !r.Te.Equal(seen) || (r.RingBack != nil) != due {
			t.Errorf("%s at %v, ring back %v", *r.Ending, r.Te, r.RingBack)
		}
	}
	if r := d.record(ours); r.Ending != nil {
		t.Error("our own contact was ended")
	}
	must(t, d.db.Tx(ctx, func(tx *db.Tx) error { return d.Promised(ctx, tx, first.ID) }))
	if r := d.record(first); r.RingBack != nil {
		t.Error("owed twice")
	}
	lost(second.ID)
}

// BenchmarkBegin is what a caller waits for before the first ring.
func BenchmarkBegin(b *testing.B) {
	d := newDesk(b)
	for i := 0; b.Loop(); i++ {
		d.call("+390551234567", monday.Add(time.Duration(i)))
	}
}

// BenchmarkOpen is what the commit of a ticket costs.
func BenchmarkOpen(b *testing.B) {
	d := newDesk(b)
	for i := 0; b.Loop(); i++ {
		c := d.call("+390551234567", monday.Add(time.Duration(i)))
		if _, err := d.Book.Open(b.Context(), c, Matter{At: monday, Queued: true}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
