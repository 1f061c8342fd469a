package ivr

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// caller is a Call of which a talk needs the sound alone.
type caller struct {
	Call
	sound *media.Stream
}

func (c caller) Stream() *media.Stream { return c.sound }

// telephone is an operator's leg; hung is done as the desk hangs up on it.
type telephone struct {
	sound *media.Stream
	gone  chan struct{}
	hung  func()
}

func (l *telephone) Stream() *media.Stream { return l.sound }
func (l *telephone) Done() <-chan struct{} { return l.gone }
func (l *telephone) Hangup(context.Context) {
	if l.hung != nil {
		l.hung()
	}
}

// spoken are two streams that have sent sound to each other.
func spoken(t *testing.T) (a, b *media.Stream) {
	t.Helper()
	local := netip.MustParseAddr("127.0.0.1")
	engine := media.New(media.Config{Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.Background())
	var ran sync.WaitGroup
	ran.Go(func() { _ = engine.Run(ctx) })
	t.Cleanup(func() { stop(); ran.Wait() })
	open := func() *media.Stream {
		s, err := engine.Open(local)
		must(t, err)
		t.Cleanup(s.Close)
		return s
	}
	a, b = open(), open()
	pcma := media.Format{Law: audio.PCMA, PT: 8}
	a.Agree(pcma, media.Peer{RTP: b.Addr(), Source: local, Send: true, Receive: true})
	b.Agree(pcma, media.Peer{RTP: a.Addr(), Source: local, Send: true, Receive: true})
	for _, s := range []*media.Stream{a, b} {
		must(t, s.Hear(t.Context(), func([]byte) bool { return !s.Stats().Heard.Known() }))
	}
	return a, b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// talking is a talk of anna's, which was begun a minute ago.
func talking(t *testing.T) (*talk, *db.DB) {
	t.Helper()
	ctx, d, quiet := t.Context(), dbtest.New(t), slog.New(slog.DiscardHandler)
	desk := &Desk{Tickets: tickets.NewBook(d, "north", nil, quiet), Queue: queue.New(d, "north", quiet), Log: quiet}
	begun := time.Now().Add(-time.Minute)
	topic, err := desk.Tickets.PutTopic(ctx, "software", "Cartella clinica")
	must(t, err)
	var anna int64
	must(t, d.Pool.QueryRow(ctx, `
		with made as (insert into users (name, display_name, role, password_hash, extension, wrap_up, created_at)
			values ('anna', 'Anna', 'operator', '', '1001', 60, $1) returning id)
		insert into user_topics select id, $2 from made returning user_id`, begun, topic.ID).Scan(&anna))
	must(t, desk.Queue.Declare(ctx, anna, string(queue.Available), "", begun))
	c, err := desk.Tickets.Begin(ctx, tickets.Arrival{Channel: tickets.Phone, ID: "one", From: "+390551234567", Source: "asserted", To: "800123456", At: begun})
	must(t, err)
	_, place, err := desk.enter(ctx, c, tickets.Matter{Channel: tickets.Phone, Topic: topic.ID, Urgency: tickets.NotBlocking, Queued: true}, nil)
	must(t, err)
	offer, err := place.Wait(ctx)
	must(t, err)
	must(t, desk.Queue.AcceptWith(ctx, offer, time.Now(), queue.Also{}))
	return &talk{desk: desk, call: caller{}, c: c, place: place, leg: &telephone{gone: make(chan struct{})}, offer: offer, leave: func() {}, ending: tickets.Served}, d
}

// written is what the desk has of the one contact: how anna's seat and the contact
// stand, and the lines of the journal since they talk.
func written(t *testing.T, d *db.DB) string {
	t.Helper()
	var stands string
	must(t, d.Pool.QueryRow(context.Background(), `select concat_ws(' ', s.doing, coalesce(c.ending, 'open')) from seats s, contacts c`).Scan(&stands))
	rows, err := d.Pool.Query(context.Background(), `select kind from journal j where stream like 'contact:%' order by seq`)
	must(t, err)
	kinds, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	since := slices.Index(kinds, string(journal.Accepted)) + 1
	return strings.Join(append([]string{stands}, kinds[since:]...), " ")
}

func expect(t *testing.T, d *db.DB, want string) {
	t.Helper()
	if got := written(t, d); got != want {
		t.Errorf("the desk has %q, not %q", got, want)
	}
}

// TestOperatorHangsUp: an operator who hangs up is released, and the contact ended, before
// anything is done about telephones, once, and with how both of them sounded.
func TestOperatorHangsUp(t *testing.T) {
	k, d := talking(t)
	ours, theirs := spoken(t)
	judged := map[string]int{}
	k.desk.Judged = func(who, way string, _ float64) { judged[who+" "+way]++ }
	const done = "wrapping served released ended"
	hung := 0
	leg := &telephone{sound: theirs, gone: make(chan struct{}), hung: func() { hung++; expect(t, d, done) }}
	theirs.Close()
	close(leg.gone)
	waits, ending := k.desk.talk(t.Context(), caller{sound: ours}, k.c, k.place, leg, k.offer, nil)
	if waits || ending != tickets.Served || !k.c.Ended || hung != 1 {
		t.Errorf("waits %v, ending %s, ended %v, hung up on %d times", waits, ending, k.c.Ended, hung)
	}
	k.desk.judge(k.c, tickets.LegCaller, ours) // as Answer does, and it ends what has ended
	must(t, k.desk.Tickets.End(t.Context(), k.c, ending, time.Now(), nil))
	expect(t, d, done)
	var legs string
	var together bool
	must(t, d.Pool.QueryRow(t.Context(), `select (select string_agg(l->>'who', ' ' order by n) from jsonb_array_elements(c.legs) with ordinality x (l, n)), c.te = o.released_at
		from contacts c join offers o on o.contact_id = c.id`).Scan(&legs, &together))
	if legs != tickets.LegOperator+" "+tickets.LegCaller || !together {
		t.Errorf("the contact has the legs %q; one instant: %v", legs, together)
	}
	delete(judged, tickets.LegCaller+" reached") // by a report: the last is in theirs' goodbye
	delete(judged, tickets.LegOperator+" reached")
	if len(judged) != 2 || judged[tickets.LegOperator+" heard"] != 1 || judged[tickets.LegCaller+" heard"] != 1 {
		t.Errorf("what was judged: %v", judged)
	}
}

// lifted is Phones on which whoever is rung lifts at once.
type lifted struct{ Phones }

func (lifted) Ring(ctx context.Context, _ *queue.Offer, _ *tickets.Contact, accept func(context.Context, time.Time) error) (media.Leg, error) {
	return &telephone{}, accept(ctx, time.Now())
}

// TestGivenOnIsKnown: whoever answers a caller that somebody has talked with finds a
// ticket that is taken, and it is accepted as known.
func TestGivenOnIsKnown(t *testing.T) {
	k, d := talking(t)
	k.c.Talked = false
	must(t, k.desk.Queue.Give(t.Context(), k.offer.ID, queue.Target{}, "", time.Now()))
	must(t, k.desk.Queue.Declare(t.Context(), k.offer.Operator, string(queue.Available), "", time.Now()))
	k.desk.Phones = lifted{}
	for _, known := range []bool{false, true} {
		if k.c.Talked != known {
			t.Errorf("somebody has talked with them, it says: %v", k.c.Talked)
		}
		_, offer, err := k.desk.search(t.Context(), k.place, k.c)
		must(t, err)
		must(t, k.desk.Queue.Give(t.Context(), offer.ID, queue.Target{}, "", time.Now()))
		must(t, k.desk.Queue.Declare(t.Context(), k.offer.Operator, string(queue.Available), "", time.Now()))
	}
	expect(t, d, "idle open given released waiting"+strings.Repeat(" wrapped offered accepted talking given released waiting", 2)+" wrapped")
}

// TestFinished: what is as it mostly is ends in one go; whatever is not leaves everything
// as it was, to who asks first.
func TestFinished(t *testing.T) {
	const as, ended = "talking open", "wrapping served released ended"
	for name, c := range map[string]struct {
		happens func(t *testing.T, k *talk, d *db.DB)
		free    bool
		want    string
	}{
		"nothing": {func(*testing.T, *talk, *db.DB) {}, true, ended},
		"is recorded, and ends when that is safe": {func(t *testing.T, k *talk, _ *db.DB) {
			k.taken = &recorded{tap: media.New(media.Config{Log: k.desk.Log}).Tap()}
		}, true, "wrapping open released"},
		"a wish that was not waited for": {func(t *testing.T, k *talk, _ *db.DB) {
			must(t, k.desk.Queue.Command(t.Context(), k.offer.Operator, queue.Command{Wish: queue.Transfer}, time.Now()))
		}, false, as},
		"waits for the database":       {func(_ *testing.T, k *talk, _ *db.DB) { k.c.Deferred = true }, false, as},
		"another ticket than is known": {func(_ *testing.T, k *talk, _ *db.DB) { k.c.Ticket = nil }, false, as},
		"no ending of a talk":          {func(_ *testing.T, k *talk, _ *db.DB) { k.ending = tickets.MessageLeft }, false, as},
		"released by somebody else": {func(t *testing.T, k *talk, _ *db.DB) {
			must(t, k.desk.Queue.Release(t.Context(), k.offer.ID, time.Now()))
		}, false, "wrapping open released"},
	} {
		t.Run(name, func(t *testing.T) {
			k, d := talking(t)
			c.happens(t, k, d)
			gone, cancel := context.WithCancel(t.Context())
			cancel() // the caller, too, hangs up: what is begun is done
			if free := k.finished(gone); free != c.free || k.free != c.free {
				t.Errorf("it says %v, the operator is free: %v", free, k.free)
			}
			expect(t, d, c.want)
			if k.c.Ended != (c.want == ended) {
				t.Errorf("the contact has ended, it says: %v", k.c.Ended)
			}
		})
	}
}

// TestLastWishIsMet: who transfers and hangs up at once has transferred, and the caller
// waits again.
func TestLastWishIsMet(t *testing.T) {
	k, d := talking(t)
	ours, theirs := spoken(t)
	leg := &telephone{sound: theirs, gone: make(chan struct{})}
	must(t, k.desk.Queue.Command(t.Context(), k.offer.Operator, queue.Command{Wish: queue.Transfer}, time.Now()))
	theirs.Close()
	close(leg.gone)
	waits, _ := k.desk.talk(t.Context(), caller{sound: ours}, k.c, k.place, leg, k.offer, nil)
	if !waits || k.c.Ended {
		t.Errorf("the caller waits: %v, has ended: %v", waits, k.c.Ended)
	}
	expect(t, d, "wrapping open given released waiting")
}
