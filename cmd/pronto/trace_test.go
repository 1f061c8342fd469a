package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

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

// TestTraceOfACall: `pronto trace` draws what was signalled, says nobody's number or
// name, and how the call sounded, as the contact and the metrics do.
func TestTraceOfACall(t *testing.T) {
	s := newServer(t)
	_, caller := built(t)
	if out, err := exec.Command(caller, "--server", s.sip, "--to", "800000001", "--from", "+390551234567", "--for", "2s").CombinedOutput(); err != nil {
		t.Fatalf("caller: %v\n%s", err, out)
	}
	c := s.waitContacts(1, time.Minute, "the call to be on record", func(c tickets.Record) bool { return endingOf(c) == "abandoned_ivr" && len(c.Legs) > 0 })[0]
	if heard := c.Legs[0].Heard; c.Legs[0].Who != tickets.LegCaller || heard == nil || heard.Packets == 0 || heard.MOS < 1 || heard.MOS > 4.5 {
		t.Errorf("the contact's leg is %+v, %+v", c.Legs[0], heard)
	}
	var short string
	within(t, time.Minute, "the trace to be kept", func() (err error) {
		short, err = s.run("trace", c.ID.String(), "--data", s.dir)
		return err
	})
	full := s.mustRun("trace", "--full", c.CallID, "--data", s.dir)
	for _, want := range []string{"-- INVITE (SDP) ", "<- 200 OK (SDP) ", "-- ACK ", " BYE ", "MOS\n", "    caller  received "} {
		if !strings.Contains(short, want) || !strings.Contains(full, want) {
			t.Errorf("no %q in\n%s", want, short)
		}
	}
	if !strings.Contains(full, "\n            m=audio ") || strings.Contains(short, "m=audio") {
		t.Errorf("the descriptions are in the wrong one:\n%s\n%s", short, full)
	}
	for _, secret := range []string{"551234567", "Rossi"} {
		if strings.Contains(short+full, secret) {
			t.Errorf("%q is told:\n%s", secret, full)
		}
	}
	s.mustRefuse("nothing is kept of nobody", "trace", "nobody", "--data", s.dir)
	s.mustRefuse("name a contact or a Call-ID", "trace", "", "--data", s.dir)
	if text := s.scraped(); !strings.Contains(text, `pronto_leg_mos_count{leg="caller",way="heard"} 1`) {
		t.Error("the metrics do not say how the caller sounded:\n", text)
	}
}
