package media

import (
	"math"
	"testing"
	"time"
)

// TestMOS holds the estimate against values worked out by hand from the
// formulas of G.107, and against what everybody knows: worse is never better.
func TestMOS(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		q    Quality
		want float64
	}{
		{Quality{}, 4.41},
		{Quality{Trip: 160 * ms}, 4.41},               // 100 ms from mouth to ear are not heard
		{Quality{Lost: 0.01}, 4.33},                   // Ie,eff = 95·1/26.1 = 3.64, R = 89.56
		{Quality{Lost: 0.05}, 3.92},                   // 15.78, 77.42
		{Quality{Lost: 0.20}, 2.63},                   // 42.13, 51.07
		{Quality{Lost: 1}, 1.18},                      // 75.94, 17.26
		{Quality{Trip: 360 * ms}, 4.34},               // 200 ms, x = 1: Idd = 25(2^(1/6) − 3(1+1/729)^(1/6) + 2) = 3.04
		{Quality{Trip: 760 * ms}, 3.56},               // 400 ms, x = 2
		{Quality{Jitter: 40 * ms, Trip: 0}, 4.41},     // 100 ms
		{Quality{Jitter: 90 * ms, Trip: 0}, 4.34},     // 200 ms
		{Quality{Lost: -3, Jitter: 0, Trip: 0}, 4.41}, // duplicates

		{Quality{Wide: true}, 4.37},                 // R = 91.2: 1 + 0.035·91.2 + 91.2·31.2·8.8·7e-6 = 4.367
		{Quality{Wide: true, Lost: 0.01}, 3.76},     // Ie,eff = 2 + 93·1/5.3 = 19.55, R = 73.65: 3.763
		{Quality{Wide: true, Lost: 0.05}, 2.12},     // 52.00, 41.20: 2.123
		{Quality{Wide: true, Trip: 360 * ms}, 4.29}, // Idd = 3.04 as above, R = 88.16: 4.291
		{Quality{Wide: true, Lost: 1}, 1},           // 91.17, 2.03
	} {
		if got := c.q.MOS(); math.Abs(got-c.want) > 0.01 {
			t.Errorf("%+v: MOS %.3f, want %.2f", c.q, got, c.want)
		}
	}
	before := 5.0
	for lost := 0.0; lost <= 1; lost += 0.01 {
		if got := (Quality{Lost: lost, Trip: 300 * ms}).MOS(); got > before || got < 1 {
			t.Errorf("%.0f %% lost: MOS %.3f after %.3f", 100*lost, got, before)
		} else {
			before = got
		}
	}
}
