package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
)

// Became waits for what comes of a transfer: the kind of the journal's line that says
// so, and its reason.
type Became func(context.Context) (journal.Kind, string, error)

// Refer gives the caller on whom the operator of an extension talks to, as POST /talk
// does, to whom was dialled at the telephone: a colleague's extension, a topic's code,
// a number outside.
func (s *Server) Refer(ctx context.Context, extension, dialled string) (Became, error) {
	in := &talkInput{}
	in.Body.Wish = queue.Transfer
	if err := s.dialled(ctx, in, dialled); err != nil {
		return nil, err
	}
	return s.refer(ctx, extension, in)
}

// HandOver gives the caller to whom the operator of an extension has consulted.
func (s *Server) HandOver(ctx context.Context, extension string) (Became, error) {
	in := &talkInput{}
	in.Body.Wish = queue.Complete
	return s.refer(ctx, extension, in)
}

func (s *Server) refer(ctx context.Context, extension string, in *talkInput) (Became, error) {
	me, err := s.phoneOf(ctx, extension)
	if err != nil {
		return nil, err
	}
	mark, err := s.Queue.Mark(ctx, me.ID)
	if err != nil {
		return nil, err
	}
	if err := s.wish(ctx, me, in, false); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (journal.Kind, string, error) { return s.Queue.Became(ctx, me.ID, mark) }, nil
}

// Consult asks whom the operator of an extension has dialled in a second call, while
// the caller waits: the talk, on the node that is returned, is what the offer led to.
func (s *Server) Consult(ctx context.Context, extension, dialled string) (offer uuid.UUID, node string, err error) {
	me, err := s.phoneOf(ctx, extension)
	if err != nil {
		return offer, node, err
	}
	in := &talkInput{}
	in.Body.Wish = queue.Consult
	if err := s.dialled(ctx, in, dialled); err != nil {
		return offer, node, err
	}
	seat, err := s.Queue.Seat(ctx, me.ID)
	switch {
	case err != nil:
		return offer, node, err
	case !seat.Offer.Valid:
		return offer, node, queue.ErrNotTalking
	case seat.Node != s.Queue.Name():
		if _, lives := s.Queue.Node(seat.Node); !lives {
			return offer, node, queue.ErrNotTalking // any more
		}
	}
	return seat.Offer.UUID, seat.Node, s.wish(ctx, me, in, true)
}

// phoneOf is whose telephone it is.
func (s *Server) phoneOf(ctx context.Context, extension string) (User, error) {
	me, err := s.users.byExtension(ctx, extension)
	if errors.Is(err, ErrNoUser) {
		err = errRole
	}
	return me, err
}

// dialled says whom somebody means who dials.
func (s *Server) dialled(ctx context.Context, in *talkInput, dialled string) error {
	colleague, err := s.users.byExtension(ctx, dialled)
	switch {
	case err == nil:
		in.Body.Operator = colleague.Name
		return nil
	case !errors.Is(err, ErrNoUser):
		return err
	case strings.Trim(dialled, "+0123456789-.") == "":
		in.Body.Number = dialled
		return nil
	}
	topics, err := s.Book.Topics(ctx)
	if err != nil {
		return err
	}
	for _, t := range topics {
		if t.Code == dialled {
			in.Body.Topic = dialled
			return nil
		}
	}
	return errNotFound
}

// NotReferred notes that a telephone asked for a transfer as it may not; without an
// extension it was a caller's.
func (s *Server) NotReferred(ctx context.Context, extension, callID string, status int) error {
	var me User
	if extension != "" {
		var err error
		if me, err = s.users.byExtension(ctx, extension); errors.Is(err, ErrNoUser) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return s.Queue.NotReferred(ctx, me.ID, callID, status, s.Now())
}

// StatusOf is what an error of the console says, as telephones say it.
func StatusOf(err error) int {
	switch p := asProblem(err); {
	case errors.Is(err, queue.ErrNotFree):
		return sipBusy
	case errors.Is(err, queue.ErrNotNow):
		return sipPending
	case errors.Is(err, queue.ErrNotTalking):
		return sipDecline
	case p.Status == http.StatusConflict: // the colleague's telephone cannot be rung
		return sipAway
	case p.Status == http.StatusUnprocessableEntity, p.Status == http.StatusForbidden:
		return http.StatusForbidden
	default:
		return p.Status // 404, 500, 503: the same in both
	}
}

// The answers of telephones that HTTP does not know (RFC 3261 §21).
const (
	sipAway    = 480
	sipBusy    = 486
	sipPending = 491
	sipDecline = 603
)
