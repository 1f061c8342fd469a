package web

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/tickets"
)

// TestCallbackFigures: supervisors choose a period, and a wrong one is refused
// where it is wrong.
func TestCallbackFigures(t *testing.T) {
	d := newDesk(t)
	anna, carla := d.bearer("anna"), d.bearer("carla")
	period := func(from, to string) string {
		return "/api/v1/callbacks/figures?" + url.Values{"from": {from}, "to": {to}}.Encode()
	}
	at := func(add time.Duration) string { return noon.Add(add).Format(time.RFC3339) }
	anna.get(period(at(0), at(time.Hour))).problem(t, http.StatusForbidden)

	empty := decoded[tickets.CallbackFigures](t, carla.get(period(at(0), at(time.Hour))).want(t, http.StatusOK).body)
	if empty.Asked != 0 || empty.WithinShare != nil || empty.Definition == "" || !empty.From.Equal(noon) || len(empty.CalendarVersion) != 1 {
		t.Errorf("an empty period: %+v", empty)
	}
	c, err := d.Book.Begin(t.Context(), tickets.Arrival{Channel: tickets.Phone, ID: "lost", From: "+390551234567", Source: "asserted", To: "800123456", At: noon})
	must(t, err)
	_, err = d.DB.Pool.Exec(t.Context(), `insert into callbacks (id, contact_id, origin, number, asked_at, booked_at) values ($1, $2, 'queue', '+390551234567', $3, $3)`, uuid.New(), c.ID, noon)
	must(t, err)
	for to, want := range map[time.Duration]int{time.Second: 1, 0: 0} { // the last instant does not belong to it
		if f := decoded[tickets.CallbackFigures](t, carla.get(period(at(-time.Hour), at(to))).want(t, http.StatusOK).body); f.Asked != want || f.Open != want {
			t.Errorf("up to %v: %+v", to, f)
		}
	}
	for name, bad := range map[string]string{
		"from after to":    period(at(time.Hour), at(0)),
		"no time at all":   period(at(0), at(0)),
		"over a year":      period(at(0), at(368*24*time.Hour)),
		"not an instant":   period(at(0), "domani"),
		"no end":           "/api/v1/callbacks/figures?from=" + at(0),
		"beyond all years": period(at(0), "99999-01-01T00:00:00Z"),
	} {
		if p := carla.get(bad).problem(t, http.StatusUnprocessableEntity); p.Field != "to" || p.Detail == "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestTodayFigures: what was counted is tickets' affair; who may see it is ours.
func TestTodayFigures(t *testing.T) {
	d := newDesk(t)
	_, err := d.Book.Begin(t.Context(), tickets.Arrival{Channel: tickets.Phone, ID: "today", From: "+390551234567", Source: "asserted", To: "800123456", At: noon})
	must(t, err)
	d.bearer("anna").get("/api/v1/figures/today").problem(t, http.StatusForbidden)
	if got := decoded[tickets.Today](t, d.bearer("carla").get("/api/v1/figures/today").want(t, http.StatusOK).body); got.Received != 1 || got.Answered != 0 || got.Topics == nil {
		t.Errorf("today: %+v", got)
	}
}

// TestACallbackThatIsNot: an id of nobody's is not found, one of a callback that
// is over is a conflict.
func TestACallbackThatIsNot(t *testing.T) {
	d := newDesk(t)
	c, err := d.Book.Begin(t.Context(), tickets.Arrival{Channel: tickets.Phone, ID: "lost", From: "+390551234567", Source: "asserted", To: "800123456", At: noon})
	must(t, err)
	over := uuid.New()
	d.exec(`insert into callbacks (id, contact_id, origin, number, asked_at, booked_at, outcome, ended_at) values ($1, $2, 'queue', '+390551234567', $3, $3, 'cancelled', $3)`, over, c.ID, noon)
	anna := d.bearer("anna")
	cancel := func(id uuid.UUID) reply {
		return anna.ask(http.MethodPost, "/api/v1/callbacks/"+id.String()+"/cancel", nil)
	}
	cancel(uuid.New()).problem(t, http.StatusNotFound)
	if p := cancel(over).problem(t, http.StatusConflict); p.Detail != "La richiamata è già conclusa." {
		t.Errorf("the problem is %+v", p)
	}
}
