package main

import "testing"

// TestGrowth: memory is saved until there is a rush, and then within limits.
func TestGrowth(t *testing.T) {
	const mb = 1 << 20
	for _, x := range []struct {
		allocated, alive uint64
		want             int
	}{
		{0, 0, gcPercent}, {0, 10 * mb, gcPercent}, {mb / 2, 10 * mb, gcPercent}, // a quiet desk
		{2 * mb, 10 * mb, 80}, {20 * mb, 60 * mb, 133}, // 20 and 200 calls a second
		{100 * mb, 10 * mb, gcRush}, {mb, 0, gcRush},
	} {
		if got := growth(x.allocated, x.alive); got != x.want {
			t.Errorf("%d MB allocated of %d: %d %%, want %d", x.allocated/mb, x.alive/mb, got, x.want)
		}
	}
}
