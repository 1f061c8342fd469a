package ivr

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// TestWhoseFaultAnEndingIs: a step that breaks off is the caller's ending when they hung up
// or fell silent, and ours when it was our step or our sound that failed.
func TestWhoseFaultAnEndingIs(t *testing.T) {
	var (
		hung    = errors.New("hung up")
		silent  = fmt.Errorf("%w: %w", hung, media.ErrSilent)
		stumble = fmt.Errorf("%w: %w", hung, media.ErrStumbled)
		broken  = errors.New("a step of ours")
	)
	for name, c := range map[string]struct {
		cause, err, told error
		want             tickets.Ending
	}{
		"hung up":            {hung, hung, nil, tickets.AbandonedQueue},
		"fell silent":        {silent, silent, nil, tickets.AbandonedQueue},
		"hung up in a fault": {hung, broken, nil, tickets.AbandonedQueue},
		"our sound failed":   {stumble, stumble, stumble, tickets.SystemFault},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(c.cause)
			for by, step := range map[string]func() (tickets.Ending, error){
				"hungUp": func() (tickets.Ending, error) { return hungUp(ctx, tickets.AbandonedQueue, c.err) },
				"sorry":  func() (tickets.Ending, error) { return (&Desk{}).sorry(ctx, nil, nil, tickets.AbandonedQueue, c.err) },
			} {
				if ending, err := step(); ending != c.want || err != c.told {
					t.Errorf("%s: %s, %v", by, ending, err)
				}
			}
		})
	}
	if ending, err := hungUp(t.Context(), tickets.AbandonedQueue, broken); ending != tickets.SystemFault || err != broken {
		t.Errorf("a step of ours failed: %s, %v", ending, err)
	}
}
