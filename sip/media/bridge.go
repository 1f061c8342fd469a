package media

import (
	"context"
	"fmt"
)

// Bridge joins two streams: what one hears goes to the other, sound and keys,
// until ctx ends, whose cause it returns, or a stream is closed (ErrClosed). Each
// packet is forwarded by the goroutine that read it, in place; sound is converted
// when the two legs have different laws. Each leg keeps its own SSRC, numbers
// and clock. While nothing comes, the other leg gets silence. A clip that sounds
// on a leg covers what is relayed to it. A stream in another bridge: ErrBridged.
func Bridge(ctx context.Context, a, b *Stream) error {
	if !a.bridged.CompareAndSwap(false, true) {
		return ErrBridged
	}
	defer a.bridged.Store(false)
	if !b.bridged.CompareAndSwap(false, true) { // also when a is b
		return ErrBridged
	}
	defer b.bridged.Store(false)

	for _, s := range []*Stream{a, b} {
		if err := s.hurry(true); err != nil {
			return fmt.Errorf("media: bridge: %w", err)
		}
		defer s.hurry(false)
		s.narrow()
		defer s.widen()
	}
	a.out.join(b)
	b.out.join(a)
	a.joined.Store(b)
	b.joined.Store(a)
	defer func() {
		a.joined.Store(nil)
		b.joined.Store(nil)
		a.out.join(nil) // after this no packet of the other leg is under way
		b.out.join(nil)
	}()

	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-a.closed:
		return ErrClosed
	case <-b.closed:
		return ErrClosed
	}
}
