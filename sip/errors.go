package sip

import (
	"errors"
	"fmt"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Errors of this package. They are compared with errors.Is; a refusal by the
// far side also carries its status as a *StatusError.
var (
	// ErrHungUp is the cause of a call's context when the far side ended it:
	// by BYE, by CANCEL, or by thirty seconds without any media.
	ErrHungUp = errors.New("sip: the far side hung up")
	// ErrNoCodec says that offer and answer share none of PCMA, PCMU and G722.
	ErrNoCodec = errors.New("sip: no common codec")
	// ErrUnreachable says that no telephone could be made to ring: nothing is
	// registered, it does not answer to SIP, or it answered that it is away.
	ErrUnreachable = errors.New("sip: telephone unreachable")
	// ErrDeclined says that a telephone was reached and said no (486, 603…).
	ErrDeclined = errors.New("sip: declined")
	// ErrNoAnswer says that a telephone rang and nobody lifted the handset.
	ErrNoAnswer = errors.New("sip: no answer")
	// ErrNoLine says that all lines of the trunk are in use.
	ErrNoLine = errors.New("sip: all lines of the trunk are in use")
	// ErrEnded is returned by the methods of a call that is over.
	ErrEnded = errors.New("sip: the call is over")
	// ErrAnswered is returned by Refuse when the call was answered before.
	ErrAnswered = errors.New("sip: the call was answered already")
)

// StatusError is a final response that was not a success. It wraps ErrDeclined
// or ErrUnreachable, whichever the code means for somebody who wants to ring.
type StatusError struct {
	Code   int           // 300 … 699
	Reason string        // the reason phrase, at most 80 characters
	After  time.Duration // when they want to be asked again; 0: they do not say
	kind   error
}

// Error says the status as it was received.
func (e *StatusError) Error() string { return fmt.Sprintf("sip: answered %d %s", e.Code, e.Reason) }

// Unwrap gives ErrDeclined or ErrUnreachable.
func (e *StatusError) Unwrap() error { return e.kind }

// statusError sorts a final response by what it means to somebody who rings:
// is the telephone not there, or does it not want to?
func statusError(code int, reason string) *StatusError {
	if len(reason) > 80 {
		reason = reason[:80]
	}
	kind := ErrDeclined
	switch code {
	// Gone, timed out, away, overloaded: nobody looked at the telephone.
	case 404, 408, 410, 430, 480, 481, 500, 502, 503, 504:
		kind = ErrUnreachable
	}
	return &StatusError{Code: code, Reason: reason, kind: kind}
}

// refusal is statusError of a whole response.
func refusal(res *sip.Response) *StatusError {
	e := statusError(res.StatusCode, res.Reason)
	e.After = retryAfter(res)
	return e
}
