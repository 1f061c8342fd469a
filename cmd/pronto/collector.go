package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How far the heap may grow between two collections, in percent of what is alive.
// A quarter, and not all of it: 100 waiting callers then cost 105 KB each instead of
// 190, for 1 to 2 % of a core. In a rush of calls the same would be a third of all
// work: then it is as much as is allocated in collectEvery, within gcRush.
const (
	gcPercent    = 25
	gcRush       = 400
	gcStep       = 25 // a smaller change is not worth stopping the program for
	collectEvery = 4 * time.Second
	collectLook  = time.Second
)

// tendCollector sets the collector by what is allocated, until ctx ends.
func tendCollector(ctx context.Context) {
	look := time.NewTicker(collectLook)
	defer look.Stop()
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(heap)
	set, before := gcPercent, heap[0].Value.Uint64()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		metrics.Read(heap)
		allocated, alive := heap[0].Value.Uint64(), heap[1].Value.Uint64()
		percent := growth(allocated-before, alive)
		before = allocated
		if percent-set >= gcStep || set-percent >= gcStep || percent != set && percent == gcPercent {
			debug.SetGCPercent(percent)
			set = percent
		}
	}
}

// growth is how far the heap may grow, by what a look found.
func growth(allocated, alive uint64) int {
	const ahead = uint64(100 * collectEvery / collectLook)
	return int(min(max(gcPercent, ahead*allocated/max(alive, 1)), gcRush))
}
