package sip

import (
	"context"
	"io"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

// Call is one telephone call, from INVITE to BYE. Its methods block; when the
// far side hangs up they return ErrHungUp. A Call is a media.Leg.
type Call struct{}

// ID is the Call-ID.
func (c *Call) ID() string { return "" }

// From is the caller's number in E.164, "" when it is withheld or no number.
func (c *Call) From() string { return "" }

// Source says where From was taken from: "asserted", "from" or "withheld".
func (c *Call) Source() string { return "" }

// To is the number that was dialled, normalised; a diversion is looked through.
func (c *Call) To() string { return "" }

// Trunk is the name of the trunk that brought the call, "" for one we made.
func (c *Call) Trunk() string { return "" }

// Arrived is the instant of the INVITE.
func (c *Call) Arrived() time.Time { return time.Time{} }

// Answer sends 200 and returns when it is acknowledged or the call is over.
func (c *Call) Answer(ctx context.Context) error { return ErrEnded }

// Refuse ends a call that was not answered, with Retry-After when not zero.
func (c *Call) Refuse(ctx context.Context, status int, retryAfter time.Duration) error {
	return ErrEnded
}

// Hangup ends the call whatever its state; it does not wait for the far side.
func (c *Call) Hangup(ctx context.Context) {}

// Done is closed when the call is over, whoever ended it.
func (c *Call) Done() <-chan struct{} { return nil }

// Stream is the call's sound, nil before it is answered.
func (c *Call) Stream() *media.Stream { return nil }

// Play sounds a clip to its end; keys pressed meanwhile are kept for Ask.
func (c *Call) Play(ctx context.Context, clip audio.Clip) error { return ErrEnded }

// Ask sounds a clip until a key comes, typed-ahead keys included, and waits
// some more after its end. It gives 0 when there was only silence.
func (c *Call) Ask(ctx context.Context, clip audio.Clip, wait time.Duration) (rune, error) {
	return 0, ErrEnded
}

// While sounds a clip as long as fn runs.
func (c *Call) While(ctx context.Context, clip audio.Clip, fn func(context.Context) error) error {
	return ErrEnded
}

// Record writes what is heard to w, in frames of 160 bytes of A-law.
func (c *Call) Record(ctx context.Context, w io.Writer, l media.Limits) (media.Stop, error) {
	return "", ErrEnded
}

// Bridge joins the call with a leg until either side hangs up; the leg is hung
// up at the end.
func (c *Call) Bridge(ctx context.Context, leg media.Leg) error { return ErrEnded }
