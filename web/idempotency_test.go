package web

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
)

// under is a person whose requests carry a key.
func (p *person) under(key string) *person {
	h := p.header.Clone()
	h.Set(keyHeader, key)
	return &person{d: p.d, token: p.token, cookie: p.cookie, header: h}
}

func TestAKeyedChangeIsDoneOnce(t *testing.T) {
	d := newDesk(t)
	anna, bruno := d.bearer("anna"), d.bearer("bruno")
	ticket := d.rings("+390551234567").ticket
	at := "/api/v1/tickets/" + ticket.Number + "/notes"
	notes := func() int { return one[int](d, `select count(*) from ticket_notes where ticket_id = $1`, ticket.ID) }
	body := map[string]string{"text": "Richiamato"}

	first := anna.under("k1").ask(http.MethodPost, at, body).want(t, http.StatusOK)
	again := anna.under(`"k1"`).ask(http.MethodPost, at, body).want(t, http.StatusOK)
	if notes() != 1 || again.body != first.body || again.Header.Get("Content-Type") != first.Header.Get("Content-Type") {
		t.Errorf("%d notes; first %s, again %s", notes(), first.body, again.body)
	}
	anna.under("k1").ask(http.MethodPost, at, map[string]string{"text": "altro"}).problem(t, http.StatusUnprocessableEntity)
	anna.under("k1").ask(http.MethodPost, "/api/v1/tickets/"+ticket.Number+"/take", nil).problem(t, http.StatusUnprocessableEntity)
	bruno.under("k1").ask(http.MethodPost, at, body).want(t, http.StatusOK) // each person's keys are their own
	anna.under("k2").ask(http.MethodPost, at, body).want(t, http.StatusOK)
	if notes() != 3 {
		t.Errorf("%d notes, want 3", notes())
	}
	refused := anna.under("k3").ask(http.MethodPost, at, map[string]string{"text": " "}).problem(t, http.StatusUnprocessableEntity)
	if same := anna.under("k3").ask(http.MethodPost, at, map[string]string{"text": " "}).problem(t, http.StatusUnprocessableEntity); same.Detail != refused.Detail {
		t.Errorf("a refusal came back as %+v", same)
	}
	for _, bad := range []string{"con spazio", "é", `a"b`} {
		anna.under(bad).ask(http.MethodPost, at, body).problem(t, http.StatusBadRequest)
	}
	must(t, d.kept.sweep(t.Context()))
	anna.under("k1").ask(http.MethodPost, at, map[string]string{"text": "altro"}).problem(t, http.StatusUnprocessableEntity)
	d.pass(keyKept)
	must(t, d.kept.sweep(t.Context()))
	if n := one[int](d, `select count(*) from idempotency_keys`); n != 0 {
		t.Errorf("after a day %d keys are kept", n)
	}
}

func TestTwoAtOnceWithOneKey(t *testing.T) {
	d := newDesk(t)
	anna := d.bearer("anna").under("k")
	ticket := d.rings("+390551234567").ticket
	at := "/api/v1/tickets/" + ticket.Number + "/notes"
	var both sync.WaitGroup
	var got [6]reply
	for i := range got {
		both.Go(func() { got[i] = anna.ask(http.MethodPost, at, map[string]string{"text": "Una volta"}) })
	}
	both.Wait()
	for _, r := range got {
		if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusConflict {
			t.Errorf("one of them: %d %s", r.StatusCode, r.body)
		}
	}
	if n := one[int](d, `select count(*) from ticket_notes where ticket_id = $1`, ticket.ID); n != 1 {
		t.Errorf("%d notes, want 1", n)
	}
	anna.ask(http.MethodPost, at, map[string]string{"text": "Una volta"}).want(t, http.StatusOK)
}

// TestACrashUnderAKey: a process that died before the change leaves a key that
// is taken over; one that died after it leaves a key that says so.
func TestACrashUnderAKey(t *testing.T) {
	d := newDesk(t)
	anna := d.bearer("anna").under("k")
	ticket := d.rings("+390551234567").ticket
	at := "/api/v1/tickets/" + ticket.Number + "/notes"
	body := map[string]string{"text": "Una volta"}
	anna.ask(http.MethodPost, at, body).want(t, http.StatusOK)
	d.exec(`update idempotency_keys set status = null, body = null`) // the answer was never kept, the change is there
	if p := anna.ask(http.MethodPost, at, body).problem(t, http.StatusConflict); p.Detail != errKeyLost.Detail {
		t.Errorf("a change whose answer was lost: %q", p.Detail)
	}
	d.pass(workLongest + keyGrace + time.Second)
	anna.ask(http.MethodPost, at, body).problem(t, http.StatusConflict)                                    // and it stays done
	d.exec(`update idempotency_keys set done = false, begun_at = @at`, pgx.StrictNamedArgs{"at": d.now()}) // as if nothing had been changed yet
	if p := anna.ask(http.MethodPost, at, body).problem(t, http.StatusConflict); p.Detail != errKeyBusy.Detail {
		t.Errorf("a change that is at work: %q", p.Detail)
	}
	d.pass(workLongest + keyGrace + time.Second)
	anna.ask(http.MethodPost, at, body).want(t, http.StatusOK)
	if n := one[int](d, `select count(*) from ticket_notes where ticket_id = $1`, ticket.ID); n != 2 {
		t.Errorf("%d notes: the second try was not made", n)
	}

	// The mark is committed with the change, or not at all.
	k := keyed{db: d.DB, user: d.userID("anna"), key: "k2", fingerprint: []byte("x")}
	_, err := k.begin(t.Context(), d.now(), time.Minute)
	must(t, err)
	broken := errors.New("broken")
	ctx := db.Alongside(t.Context(), k.done)
	if err := d.DB.Tx(ctx, func(*db.Tx) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	done := func() bool { return one[bool](d, `select done from idempotency_keys where key = 'k2'`) }
	if done() {
		t.Error("a change that was rolled back counts as done")
	}
	must(t, d.DB.Tx(ctx, func(tx *db.Tx) error { _, err := tx.Exec(context.WithoutCancel(ctx), `select 1`); return err }))
	if !done() {
		t.Error("a committed change does not count as done")
	}
}

func TestASecretIsNotKeptUnderAKey(t *testing.T) {
	d := newDesk(t)
	anna := d.browser("anna").under("k")
	want := map[string]any{"label": "x", "scope": "read", "days": 1}
	made := decoded[newToken](t, anna.ask(http.MethodPost, "/api/v1/tokens", want).want(t, http.StatusOK).body)
	if made.Secret == "" || one[bool](d, `select exists (select from idempotency_keys where body is not null)`) {
		t.Error("the secret stands in the database")
	}
	anna.ask(http.MethodPost, "/api/v1/tokens", want).problem(t, http.StatusConflict)
	if n := one[int](d, `select count(*) from api_tokens`); n != 1 {
		t.Errorf("%d tokens", n)
	}
}
