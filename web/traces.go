package web

import (
	"context"

	"github.com/pronto-desk/pronto/sip"
)

// tracesAPI is the signalling of calls, for who must find out what went wrong on
// the line.
func (s *Server) tracesAPI(a *operations) {
	provide(a, operation{at: "GET /contacts/{id}/trace", id: "traceContact", does: "What was signalled for a contact, masked: of the conversation, and of each node that rang a telephone for it.", by: supervisors}, s.getTrace)
}

func (s *Server) getTrace(ctx context.Context, _ User, in *IDPath) (list[sip.Trace], error) {
	c, err := s.Book.ContactAlone(ctx, in.ID)
	if err != nil {
		return list[sip.Trace]{}, err
	}
	if s.Traces == nil {
		return listed([]sip.Trace{}, nil)
	}
	return listed(s.Traces.Of(ctx, c.CallID, c.T0))
}
