package sip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
)

// TestPreferred: RFC 2782: priorities in order, and each its share by weight, also
// one without any.
func TestPreferred(t *testing.T) {
	records := []*net.SRV{{Target: "c", Priority: 2}, {Target: "a", Priority: 1, Weight: 60}, {Target: "b", Priority: 1, Weight: 20}, {Target: "z", Priority: 1}}
	first := map[string]int{}
	random := rand.New(rand.NewPCG(1, 2))
	const times = 8100
	for range times {
		order := preferred(records, random.IntN)
		if len(order) != 4 || order[3] != 0 {
			t.Fatalf("%v: not in order of priority", order)
		}
		first[records[order[0]].Target]++
	}
	for target, want := range map[string]int{"a": 6000, "b": 2000, "z": 100} {
		if got := first[target]; got < want*8/10-20 || got > want*12/10+20 {
			t.Errorf("%s came first %d times of %d, want some %d", target, got, times, want)
		}
	}
	if order := preferred(nil, random.IntN); order != nil {
		t.Errorf("of none: %v", order)
	}
}

// TestDialNamesTheDomain: a call to a name goes to the address that was found, and
// is for the name (RFC 3263 §4).
func TestDialNamesTheDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, &wire{ends: map[netip.AddrPort]*wireEnd{}}, func(*house, context.Context, *Call) {})
		defer h.stop()
		far := h.peer(trunkIP)
		go func() {
			_, err := h.a.Dial(t.Context(), "+390551234567", DialOptions{Via: far.addr, Domain: "carrier.test", From: "1", Asserted: "1", Home: "voip.carrier.test"})
			h.errs <- err
		}()
		invite := far.expect("INVITE")
		far.reply(invite, "486 Busy Here", "x", "", "")
		far.expect("ACK")
		if err := <-h.errs; !errors.Is(err, ErrDeclined) {
			t.Errorf("%v", err)
		}
		if want := "INVITE sip:+390551234567@carrier.test SIP/2.0"; !strings.HasPrefix(invite, want) || !strings.Contains(headerOf(invite, "To"), "@carrier.test") {
			t.Errorf("the request is %q, want %q", fmt.Sprintf("%.80s", invite), want)
		}
		if from, who := headerOf(invite, "From"), headerOf(invite, "P-Asserted-Identity"); !strings.Contains(from, "<sip:1@voip.carrier.test>") || who != "<sip:1@voip.carrier.test>" {
			t.Errorf("From %q, P-Asserted-Identity %q", from, who)
		}
	})
}
