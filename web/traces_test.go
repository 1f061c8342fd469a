package web

import (
	"net/http"
	"testing"
	"time"
)

// TestTraceIsForSupervisors: what was signalled is nobody else's business; of a
// contact without a trace there is an empty list.
func TestTraceIsForSupervisors(t *testing.T) {
	d := newDesk(t)
	c := d.message("+390551234567", 4*time.Second)
	at := "/api/v1/contacts/" + c.ID.String() + "/trace"
	d.bearer("anna").get(at).problem(t, http.StatusForbidden)
	if body := string(d.browser("carla").get(at).want(t, http.StatusOK).body); body != `{"items":[]}`+"\n" && body != `{"items":[]}` {
		t.Errorf("%q", body)
	}
	d.browser("carla").get("/api/v1/contacts/00000000-0000-4000-8000-000000000000/trace").problem(t, http.StatusNotFound)
}
