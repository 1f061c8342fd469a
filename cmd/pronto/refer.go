package main

import (
	"context"
	"net/url"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/web"
)

const noteRefused = 2 * time.Second // to write down a transfer that was refused

// Statuses of what came of a transfer, as the telephone that asked for it hears them
// (RFC 3261 §21).
const (
	referGiven = 200
	referBusy  = 486
	referEnded = 487
	referFault = 500
)

// refer gives a caller on as an operator's telephone asks, and writes down whom it is
// refused to.
func (h *house) refer(ctx context.Context, r sip.Referral) (outcome func(context.Context) int, status int) {
	if status = r.Refused; status == 0 {
		became, err := h.web.Refer(ctx, r.Extension, r.To)
		if err == nil {
			return h.became(became), 0
		}
		status = web.StatusOf(err)
	}
	told, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteRefused)
	defer cancel()
	if err := h.web.NotReferred(told, r.Extension, r.Call.ID(), status); err != nil {
		h.log.Warn("a transfer that was refused could not be noted", "status", status, "error", err)
	}
	return nil, status
}

// became says to a telephone what came of its transfer: as on the operator's page it
// is done when the caller was given on, whoever then lifts.
func (h *house) became(wait func(context.Context) (journal.Kind, string, error)) func(context.Context) int {
	return func(ctx context.Context) int {
		kind, why, err := wait(ctx)
		switch {
		case err != nil:
			return referFault
		case kind == journal.Given:
			return referGiven
		case kind == journal.Released: // the caller hung up before
			return referEnded
		case why == "not_free":
			return referBusy
		}
		return referFault
	}
}

// domains are the names by which telephones may call this server.
func (s settings) domains() []string {
	names := []string{s.realm}
	if u, err := url.Parse(s.publicURL); err == nil {
		names = append(names, u.Hostname())
	}
	return names
}
