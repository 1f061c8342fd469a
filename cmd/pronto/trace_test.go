package main

import (
	"strings"
	"testing"

	"github.com/pronto-desk/pronto/tickets"
)

// TestSounded: below the ladder stands how each leg sounded, column below column,
// and nothing is made up of what nobody measured.
func TestSounded(t *testing.T) {
	var got strings.Builder
	sounded(&got, nil)
	if got.Len() > 0 {
		t.Errorf("of no legs it says %q", got.String())
	}
	sounded(&got, []tickets.Leg{
		{Who: tickets.LegCaller, Heard: &tickets.Direction{Packets: 12345, Lost: 0.0123, JitterMS: 31, TripMS: 182, MOS: 3.9}, Reached: &tickets.Direction{Packets: 998, MOS: 4.41}},
		{Who: tickets.LegOperator, Heard: &tickets.Direction{Packets: 1, Lost: 1, MOS: 1}},
	})
	const want = `
       leg  way         packets     lost   jitter  round trip   MOS
    caller  received      12345   1.23 %    31 ms      182 ms  3.90
    caller  sent            998   0.00 %     0 ms           -  4.41
  operator  received          1 100.00 %     0 ms           -  1.00
`
	if got.String() != want {
		t.Errorf("it says\n%s", &got)
	}
}
