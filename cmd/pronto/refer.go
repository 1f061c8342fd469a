package main

import (
	"context"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/web"
)

const (
	noteWait   = 2 * time.Second // to write down a transfer that was refused
	askLongest = 5 * time.Second // to find out whether somebody may be consulted: the telephone repeats its INVITE meanwhile
)

// Statuses of what came of a transfer, as the telephone that asked for it hears them
// (RFC 3261 §21).
const (
	referGiven   = 200
	referAway    = 480
	referBusy    = 486
	referEnded   = 487
	referPending = 491
	referFault   = 500
)

// refer gives a caller on as an operator's telephone asks, and writes down whom it is
// refused to.
func (h *house) refer(ctx context.Context, r sip.Referral) (outcome func(context.Context) int, status int) {
	if status = r.Refused; status == 0 {
		var became web.Became
		var err error
		if r.Joins {
			became, err = h.web.HandOver(ctx, r.Extension)
		} else {
			became, err = h.web.Refer(ctx, r.Extension, r.To)
		}
		if err == nil {
			return h.became(became), 0
		}
		status = web.StatusOf(err)
	}
	h.noteRefused(ctx, r.Extension, r.Call.ID(), status)
	return nil, status
}

// dialled conducts the second call of an operator's telephone: it is the wish to
// consult whom it dials, and the operator's side of that, on the node that has the talk.
func (h *house) dialled(ctx context.Context, c *sip.Call, extension, to string) {
	asked, cancel := context.WithTimeout(ctx, askLongest)
	offer, node, err := h.web.Consult(asked, extension, to)
	cancel()
	if err != nil {
		status := web.StatusOf(err)
		if status == referPending { // of a call: engaged
			status = referBusy
		}
		h.noteRefused(ctx, extension, "", status)
		_ = c.Refuse(ctx, status, 0)
		return
	}
	if node != h.node {
		h.pass(ctx, c, extension, node, offer)
		return
	}
	if err := c.Answer(ctx); err != nil {
		h.log.Info("the second call of a telephone could not be answered", "extension", extension, "error", err)
		return // the talk does not wait for it long
	}
	if h.desk.Second(ctx, offer, c) {
		<-ctx.Done()
	}
}

// pass gives the second call of a telephone to the node that has its talk. Where that
// comes to nothing, both calls are as they were: the talk waits for the second one no
// longer than ivr does.
func (h *house) pass(ctx context.Context, c *sip.Call, extension, node string, offer uuid.UUID) {
	err := h.agent.Pass(ctx, c, node, offer.String())
	if err == nil || c.Err() != nil {
		return
	}
	h.log.Warn("the second call of a telephone could not be passed to the node of its talk", "extension", extension, "node", node, "error", err)
	h.noteRefused(ctx, extension, "", referAway)
	_ = c.Refuse(ctx, referAway, 0)
}

// second is the second call of a telephone at another node, for a talk of ours.
func (h *house) second(ctx context.Context, c *sip.Call, what string) {
	offer, err := uuid.Parse(what)
	if err != nil { // no node says so
		return
	}
	if h.desk.Second(ctx, offer, c) {
		<-ctx.Done()
	}
}

// noteRefused writes down what a telephone asked for in vain.
func (h *house) noteRefused(ctx context.Context, extension, callID string, status int) {
	told, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWait)
	defer cancel()
	if err := h.web.NotReferred(told, extension, callID, status); err != nil {
		h.log.Warn("a transfer that was refused could not be noted", "status", status, "error", err)
	}
}

// became says to a telephone what came of its transfer: as on the operator's page it
// is done when the caller was given on, whoever then lifts.
func (h *house) became(wait web.Became) func(context.Context) int {
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
