package media

import (
	"context"
	"sync"
)

// hold says whether the peer holds: it takes no sound, in whichever way it has said so.
type hold struct {
	mu      sync.Mutex // guards both
	on      bool
	changed chan struct{} // closed when on changes, and replaced
}

func (h *hold) set(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on == on {
		return
	}
	h.on = on
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *hold) get() (on bool, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on, h.changed
}

// Holds says whether the peer holds: by its last offer or answer it takes no sound.
func (s *Stream) Holds() bool {
	on, _ := s.hold.get()
	return on
}

// AwaitHold returns when the peer holds, or does no longer, which it may already: nil.
// Otherwise the cause of ctx's end, or ErrClosed.
func (s *Stream) AwaitHold(ctx context.Context, on bool) error {
	for {
		is, changed := s.hold.get()
		if is == on {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.closed:
			return ErrClosed
		}
	}
}
