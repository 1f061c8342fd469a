package main

import (
	"testing"
	"time"
)

// One processor does it all after two calm seconds, and not a moment longer than it can.
func TestProcessorsFollowTheLoad(t *testing.T) {
	look := func(l *load, share int, several bool) bool {
		return l.wantsSeveral(processorsLook*time.Duration(share)/100, processorsLook, several, false)
	}
	for _, c := range []struct {
		what    string
		shares  []int // of one processor, look by look, over and over
		looks   int
		several bool // before
		want    bool
	}{
		{"at the start, for two seconds", []int{5}, int(calmFor/processorsLook) - 1, true, true},
		{"calm", []int{5}, int(calmFor / processorsLook), true, false},
		{"calm on the whole", []int{60, 20}, int(calmFor / processorsLook), true, false},
		{"much to do, and never busy", []int{80, 70}, 10 * int(calmFor/processorsLook), true, true},
		{"one does what one can", []int{40, 58}, 10 * int(calmFor/processorsLook), false, false},
		{"more than one should, and never busy", []int{45, 60}, int(calmFor / processorsLook), false, true},
		{"busy within one look", []int{95}, 1, false, true},
		{"several are busy", []int{180}, 100, true, true},
		{"busy now and then", append(make([]int, 40), 95), 1000, true, true},
	} {
		var l load
		several := c.several
		for i := range c.looks {
			several = look(&l, c.shares[i%len(c.shares)], several)
		}
		if several != c.want {
			t.Errorf("%s: several %v, want %v", c.what, several, c.want)
		}
	}
}

// A look that comes late judges by the time that has passed.
func TestProcessorsAreJudgedByTheTimeThatPassed(t *testing.T) {
	var l load
	if l.wantsSeveral(50*time.Millisecond, 100*time.Millisecond, false, false) {
		t.Error("half of one processor wants several")
	}
	if !l.wantsSeveral(95*time.Millisecond, 100*time.Millisecond, false, false) {
		t.Error("one that was busy for 100 ms wants no others")
	}
}

// While many talk several work, however little they use; afterwards it takes two calm seconds.
func TestProcessorsOfACrowd(t *testing.T) {
	var l load
	calm := func(several, crowded bool) bool {
		return l.wantsSeveral(processorsLook/10, processorsLook, several, crowded)
	}
	if calm(false, false) {
		t.Error("nobody wants several")
	}
	for range 10 * int(calmFor/processorsLook) {
		if !calm(true, true) {
			t.Fatal("one is left with a crowd")
		}
	}
	for i := range int(calmFor / processorsLook) {
		if last := i+1 == int(calmFor/processorsLook); calm(true, false) == last {
			t.Fatalf("look %d after the crowd: several %v", i+1, last)
		}
	}
}
