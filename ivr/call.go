package ivr

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// ErrNoCodec is what Call.Answer returns, wrapped, when the caller's offer has
// no codec in common with us.
var ErrNoCodec = errors.New("no codec in common")

// Call is the caller's side of a telephone call: the few verbs a conversation
// needs. Every method blocks; when the caller hangs up, ctx is cancelled and
// the method returns its cause.
type Call interface {
	ID() string     // the Call-ID
	From() string   // the caller's number in E.164, or "" when withheld
	Source() string // where From comes from: asserted, from, withheld
	To() string     // the number dialled
	Trunk() string  // the trunk that brought the call
	Beyond() bool   // more than the trunk has lines
	Arrived() time.Time
	Stream() *media.Stream // its sound; nil before it is answered

	// Answer takes the call. It has sent the refusal itself when it returns
	// ErrNoCodec or media.ErrNoPorts.
	Answer(ctx context.Context) error
	// Refuse declines a call that was not answered with a SIP status; retryAfter
	// above zero tells the caller's network when to come again.
	Refuse(ctx context.Context, status int, retryAfter time.Duration) error

	// Play is over when c was heard. Keys pressed meanwhile wait for the next Ask.
	Play(ctx context.Context, c audio.Clip) error
	// Ask plays c and waits for a key, at most wait after its end; a key, also
	// one typed ahead, stops c at once. Key 0 is silence.
	Ask(ctx context.Context, c audio.Clip, wait time.Duration) (key rune, err error)
	// Digits is Ask for a number: # closes it, a pause between two keys too; *
	// starts again. "" is silence. A number of more than most digits is returned
	// with one too many.
	Digits(ctx context.Context, c audio.Clip, most int, wait time.Duration) (string, error)
	// Key waits for a key while fn of While runs; one typed ahead counts.
	Key(ctx context.Context) (key rune, err error)
	// While lets c sound, over and over when it loops, as long as fn runs.
	While(ctx context.Context, c audio.Clip, fn func(context.Context) error) error
	// Record writes what the caller says, 20 ms of A-law a time, until a limit
	// is met; a hang-up is an error like everywhere, and what was said is in w.
	Record(ctx context.Context, w io.Writer, limits media.Limits) (media.Stop, error)
	// Bridge joins caller and leg until either hangs up.
	Bridge(ctx context.Context, leg media.Leg) error
}

// Phones rings the operator an offer names, and returns the operator's leg once
// the offer is accepted. An error means that this offer is over; the caller's
// place is not.
type Phones interface {
	// accept tells the queue that the telephone was lifted.
	Ring(ctx context.Context, offer *queue.Offer, contact *tickets.Contact, accept func(ctx context.Context, at time.Time) error) (media.Leg, error)
	// RingFirst rings the operator before a customer is dialled: number is what the
	// telephone shows.
	RingFirst(ctx context.Context, offer *queue.Offer, number string, accept func(ctx context.Context, at time.Time) error) (media.Leg, error)
	// RingSupervisor rings the supervisor who is to take part in a talk.
	// queue.ErrTimedOut, queue.ErrDeclined; anything else is a telephone that could
	// not be rung.
	RingSupervisor(ctx context.Context, s *queue.Supervision) (media.Leg, error)
}
