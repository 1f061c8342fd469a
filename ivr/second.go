package ivr

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/sip/media"
)

// secondWait is how long a talk and the second call of its operator's telephone wait
// for each other: the one is asked for before the other is answered.
const secondWait = 5 * time.Second

// seconds are the second calls of operators' telephones on their way to the talk that
// each is for, by the offer that led to it. Nothing is kept of one that has arrived.
type seconds struct {
	mu    sync.Mutex // guards calls
	calls map[uuid.UUID]chan media.Leg
}

// of is where the two meet.
func (s *seconds) of(offer uuid.UUID) chan media.Leg {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = map[uuid.UUID]chan media.Leg{}
	}
	if s.calls[offer] == nil {
		s.calls[offer] = make(chan media.Leg)
	}
	return s.calls[offer]
}

func (s *seconds) forget(offer uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, offer)
}

// Second brings the second call of an operator's telephone to the talk that an offer
// led to, in which that operator has asked for somebody by it; false: the talk did not
// take it, and it is to be hung up.
func (d *Desk) Second(ctx context.Context, offer uuid.UUID, leg media.Leg) bool {
	defer d.seconds.forget(offer)
	late := time.NewTimer(secondWait)
	defer late.Stop()
	select {
	case d.seconds.of(offer) <- leg:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// takeSecond waits for the second call of the operator's telephone.
func (t *talk) takeSecond(ctx context.Context) bool {
	defer t.desk.seconds.forget(t.offer.ID)
	late := time.NewTimer(secondWait)
	defer late.Stop()
	select {
	case t.second = <-t.desk.seconds.of(t.offer.ID):
		return true
	case <-late.C:
	case <-t.leg.Done():
	case <-ctx.Done():
	}
	return false
}

// ear is how the operator talks to who is asked: by the second call, if there is one.
func (t *talk) ear() media.Leg {
	if t.second != nil {
		return t.second
	}
	return t.leg
}

// partSecond ends the second call.
func (t *talk) partSecond(ctx context.Context) {
	if t.second != nil {
		t.second.Hangup(context.WithoutCancel(ctx))
		t.second = nil
	}
}

// confide joins the operator with who was asked, until one of them hangs up, be it in
// the call with the caller.
func (t *talk) confide(ctx context.Context, other *asked) error {
	if t.second == nil {
		return media.Bridge(ctx, t.leg.Stream(), other.leg.Stream())
	}
	ctx, stop := lasting(ctx, t.leg)
	defer stop()
	if err := media.Bridge(ctx, t.second.Stream(), other.leg.Stream()); !gone(t.leg) {
		return err
	}
	return nil
}
