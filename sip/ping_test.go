package sip

import (
	"errors"
	"strings"
	"testing"
)

// TestPing: what answers takes calls, whatever it says, unless it says 503; what
// does not answer does not.
func TestPing(t *testing.T) {
	bubble(t, ring, func(h *house) {
		p := h.peer(trunkIP)
		ping := func() <-chan error {
			done := make(chan error, 1)
			go func() { done <- h.a.Ping(h.t.Context(), p.addr, false, nil) }()
			return done
		}
		for status, up := range map[string]bool{"200 OK": true, "405 Method Not Allowed": true, "503 Service Unavailable": false} {
			done := ping()
			m := p.expect("OPTIONS sip:" + p.addr.String() + " SIP/2.0")
			if headerOf(m, "Max-Forwards") == "" || !strings.Contains(headerOf(m, "From"), "tag=") {
				h.t.Errorf("asks with %q", m)
			}
			p.reply(m, status, "x", "", "")
			var s *StatusError
			if err := <-done; (err == nil) != up || err != nil && !errors.As(err, &s) {
				h.t.Errorf("%s: %v", status, err)
			}
		}
		if err := <-ping(); err == nil {
			h.t.Error("silence takes calls")
		}
	})
}
