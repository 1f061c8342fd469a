package main

import (
	"context"
	"time"

	"github.com/pronto-desk/pronto/db"
)

// eraseEvery is how late a recording may be erased; it is kept for days.
const eraseEvery = 10 * time.Minute

// retain erases this node's recordings when their time is over, until ctx ends. Each
// node does so itself, for nobody else reaches its disk; one that was away catches up.
func (h *house) retain(ctx context.Context) error {
	tick := time.NewTicker(eraseEvery)
	defer tick.Stop()
	for {
		n, err := h.archive.Erase(ctx, time.Now())
		if n > 0 {
			h.log.Info("recordings were erased, their time is over", "recordings", n)
		}
		if err != nil && ctx.Err() == nil && !db.Away(err) {
			h.log.Error("recordings whose time is over could not be erased", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
