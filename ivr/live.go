package ivr

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/ivr/prompts"
)

// ErrGivenUp is the cause with which a conversation ends whose contact another
// node has ended: this one was silent for so long that it was taken for dead.
// The operator is free for others, and the caller will be rung back.
var ErrGivenUp = errors.New("another node has ended this contact")

const excuseLongest = 20 * time.Second // of a sentence

// live are the conversations of this node, by contact.
type live struct {
	mu    sync.Mutex // guards calls
	calls map[uuid.UUID]context.CancelCauseFunc
}

// enter remembers a conversation; the function it returns forgets it.
func (l *live) enter(ctx context.Context, contact uuid.UUID) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = map[uuid.UUID]context.CancelCauseFunc{}
	}
	l.calls[contact] = cancel
	return ctx, func() {
		l.mu.Lock()
		delete(l.calls, contact)
		l.mu.Unlock()
		cancel(nil)
	}
}

// Live are the contacts whose conversations go on here.
func (d *Desk) Live() []uuid.UUID {
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	return slices.Collect(maps.Keys(d.live.calls))
}

// GiveUp ends the conversations of contacts that have ended already.
func (d *Desk) GiveUp(contacts []uuid.UUID) {
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	for _, contact := range contacts {
		if cancel := d.live.calls[contact]; cancel != nil {
			cancel(ErrGivenUp)
		}
	}
}

// excuse says to somebody who is still there that there was a fault.
func (d *Desk) excuse(ctx context.Context, call Call) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), excuseLongest)
	defer cancel()
	_ = call.Play(ctx, d.Prompts.Clip(prompts.Fault)) // an unanswered call, or one that has hung up, hears nothing
}
