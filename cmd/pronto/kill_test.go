package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/siptest"
	"github.com/pronto-desk/pronto/tickets"
)

// kill -9 anywhere is a test: after it, a restart finishes every contact, and
// what was said is there.

// speak sends numbered frames, 20 ms apart, until stop is closed; it gives how
// many were sent by then.
func (c *rawCall) speak(stop <-chan struct{}) <-chan int {
	sent := make(chan int, 1)
	go func() { // ends with stop
		tick := time.NewTicker(audio.FrameTime)
		defer tick.Stop()
		pkt := make([]byte, 12+audio.FrameBytes)
		pkt[0], pkt[1] = 0x80, 8
		binary.BigEndian.PutUint32(pkt[8:], 0x5678)
		for n := 0; ; n++ {
			select {
			case <-stop:
				sent <- n
				return
			case <-tick.C:
				binary.BigEndian.PutUint16(pkt[2:], uint16(100+n))
				binary.BigEndian.PutUint32(pkt[4:], uint32(100000+n*audio.FrameBytes))
				copy(pkt[12:], siptest.Spell(frameName(n), audio.FrameTime).ALaw)
				_, _ = c.rtp.WriteToUDP(pkt, c.remote)
			}
		}
	}()
	return sent
}

func frameName(n int) string { return fmt.Sprintf("frame-%06d", n) }

// contactOf waits for the contact of a Call-ID that ok accepts.
func (s *server) contactOf(callID, what string, ok func(tickets.Record) bool) tickets.Record {
	s.t.Helper()
	var found tickets.Record
	within(s.t, 90*time.Second, what, func() error {
		list := s.contacts(callID)
		if len(list) != 1 {
			return fmt.Errorf("%d contacts", len(list))
		}
		found = list[0]
		if !ok(found) {
			return fmt.Errorf("%s (%s)", kinds(found), endingOf(found))
		}
		return nil
	})
	return found
}

// mustFault holds a contact that a kill interrupted against what is promised.
func mustFault(t *testing.T, s *server, callID string) tickets.Record {
	t.Helper()
	c := s.contactOf(callID, "the interrupted call to have its ending", func(c tickets.Record) bool { return c.Ending != nil })
	if endingOf(c) != "system_fault" {
		t.Errorf("%s ended %s, want system_fault (%s)", callID, endingOf(c), kinds(c))
	}
	var list struct{ Items []tickets.Record }
	s.must("GET", "/ringbacks", nil, &list)
	for _, r := range list.Items {
		if r.CallID == callID {
			return c
		}
	}
	t.Errorf("%s does not stand among the calls to ring back", callID)
	return c
}

func TestKillInMenuAndQueue(t *testing.T) {
	s := newServer(t)
	k := newRawTrunk(t, s.sip)
	menu, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*rawCall{menu, waiting} {
		if status, _, err := c.answer(); err != nil || status != 200 {
			t.Fatalf("answered %d: %v", status, err)
		}
	}
	waiting.press("12")
	before := s.contactOf(waiting.id, "the caller to wait", func(c tickets.Record) bool { return c.Tq != nil })
	s.kill()
	s.start()
	if c := mustFault(t, s, menu.id); c.Ticket != nil {
		t.Errorf("a ticket came from nowhere: %s", *c.Ticket)
	}
	c := mustFault(t, s, waiting.id)
	if c.Ticket == nil || *c.Ticket != *before.Ticket {
		t.Fatalf("the ticket was %v and is %v", before.Ticket, c.Ticket)
	}
	var ticket tickets.Ticket
	s.must("GET", "/tickets/"+*c.Ticket, nil, &ticket)
	if ticket.Status != tickets.Open || !ticket.ReceivedAt.Equal(c.T0) {
		t.Errorf("the ticket is %s since %s, want open since the call at %s", ticket.Status, ticket.ReceivedAt, c.T0)
	}
}

// TestKillInTalk kills the server while one operator talks, and another asks a
// colleague about a caller who hears music: each contact has one ending, all seats are
// free, and whoever rings then is served.
func TestKillInTalk(t *testing.T) {
	s := newServer(t, func(s *server) { s.operators = 3 })
	sippPhones(t, s, sippDir(t), 3, time.Minute)
	k := newRawTrunk(t, s.sip)
	talks := func() tickets.Record {
		t.Helper()
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		if status, _, err := c.answer(); err != nil || status != 200 {
			t.Fatalf("answered %d: %v", status, err)
		}
		c.press("12")
		return s.contactOf(c.id, "the talk", func(c tickets.Record) bool { return c.Tc != nil && c.Operator != nil })
	}
	first, second := talks(), talks()
	third := demoOperator(1)
	for n := 2; third == *first.Operator || third == *second.Operator; n++ {
		third = demoOperator(n)
	}
	carla := s.token
	s.token = s.newToken(*second.Operator)
	s.must("POST", "/talk", map[string]string{"wish": "consult", "operator": third}, nil)
	s.token = carla
	s.contactOf(second.CallID, "the colleague to be asked", func(c tickets.Record) bool { return strings.Contains(kinds(c), "consulted") })
	s.kill()
	s.start()
	for _, c := range []tickets.Record{first, second} {
		if got := mustFault(t, s, c.CallID); strings.Count(kinds(got), "ended") != 1 {
			t.Errorf("it ended more than once (%s)", kinds(got))
		}
	}
	within(t, 60*time.Second, "all seats to be free", func() error {
		var seats struct {
			Items []struct {
				Operator, Doing, Talk string
				Contact               *string `json:"contact_id"`
			}
		}
		s.must("GET", "/operators", nil, &seats)
		for _, seat := range seats.Items {
			if seat.Doing != "idle" || seat.Talk != "" || seat.Contact != nil {
				return fmt.Errorf("%+v", seat)
			}
		}
		return nil
	})
	talks()
}

// TestKillInMessage kills the server in the middle of a message: what was said
// up to 200 ms before is there, on a ticket.
func TestKillInMessage(t *testing.T) {
	s := newServer(t)
	k := newRawTrunk(t, s.sip)
	c, err := k.invite("800000002")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := c.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	stop := make(chan struct{})
	sent := c.speak(stop)
	s.contactOf(c.id, "the message to be recorded", func(c tickets.Record) bool { return strings.Contains(kinds(c), "recording") })
	said := time.NewTimer(4 * time.Second)
	<-said.C
	s.kill()
	close(stop)
	last := <-sent - 1
	s.start()
	got := s.contactOf(c.id, "the ending", func(c tickets.Record) bool { return c.Ending != nil })
	if endingOf(got) != "voicemail" || got.Ticket == nil || !got.HasRecording {
		t.Fatalf("ended %s with ticket %v, recording %v (%s)", endingOf(got), got.Ticket, got.HasRecording, kinds(got))
	}
	var ticket tickets.Ticket
	s.must("GET", "/tickets/"+*got.Ticket, nil, &ticket)
	if ticket.Status != tickets.Open {
		t.Errorf("the ticket is %s", ticket.Status)
	}
	var wav []byte
	s.must("GET", "/contacts/"+got.ID.String()+"/recording", nil, &wav)
	sound, err := audio.ReadWAV(strings.NewReader(string(wav)))
	if err != nil {
		t.Fatal(err)
	}
	holdFrames(t, siptest.Read(sound), last, 200*time.Millisecond)
}

const oneStandstill = 4 // frames: 80 ms

// holdFrames holds a recording against the frames that were sent: none is
// missing from its first to its last, but what a busy machine delivers too late
// for its turn (one in a hundred, or one short standstill, at most: the spool's batch, the
// least that a fault of ours loses, is a frame more); and the last is at most `lost` old.
func holdFrames(t *testing.T, names []string, last int, lost time.Duration) {
	t.Helper()
	var got []int
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimPrefix(name, "frame-"))
		if err != nil {
			t.Fatalf("the recording says %q", name)
		}
		got = append(got, n)
	}
	if len(got) == 0 {
		t.Fatal("the recording is empty")
	}
	late := 0
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Errorf("after frame %d comes %d", got[i-1], got[i])
		}
		late += got[i] - got[i-1] - 1
	}
	if late > max(len(got)/100, oneStandstill) {
		t.Errorf("%d of %d frames are missing", late, len(got))
	}
	// Beside what may be lost, a frame is on its way through the jitter buffer.
	const way = 100 * time.Millisecond
	if missing := time.Duration(last-got[len(got)-1]) * audio.FrameTime; missing > lost+way {
		t.Errorf("the last %s are lost (frame %d of %d)", missing, got[len(got)-1], last)
	}
}

// TestKillAnywhere rings, kills at a random moment, starts again, and holds what
// must hold: whoever was answered is a contact with exactly one ending.
func TestKillAnywhere(t *testing.T) {
	const rounds, callers = 6, 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t)
	sippPhones(t, s, sippDir(t), 2, time.Second)
	for range rounds {
		k := newRawTrunk(t, s.sip)
		var mu sync.Mutex // guards answered
		var answered []string
		var wg sync.WaitGroup
		for i := range callers {
			number := []string{"800000001", "800000001", "800000002"}[i%3]
			wg.Go(func() {
				c, err := k.invite(number)
				if err != nil {
					return
				}
				if status, _, err := c.answer(); err != nil || status != 200 {
					return
				}
				mu.Lock()
				answered = append(answered, c.id)
				mu.Unlock()
				if number == "800000001" {
					c.press("12")
				}
				stop := make(chan struct{})
				sent := c.speak(stop)
				end := time.NewTimer(3 * time.Second)
				<-end.C
				close(stop)
				<-sent
				c.rtp.Close()
			})
		}
		moment := time.NewTimer(time.Duration(random.IntN(2500)) * time.Millisecond)
		<-moment.C
		s.kill()
		s.start()
		for _, id := range []string{"anna", "bruno"} { // SIPp registers once; its registration must have survived
			_, _ = s.do("PUT", "/operators/"+id+"/state", map[string]string{"declared": "available"}, nil)
		}
		k.conn.Close() // those still waiting for an answer have none to expect
		wg.Wait()
		mu.Lock()
		for _, id := range answered {
			s.contactOf(id, "an ending for "+id, func(c tickets.Record) bool { return c.Ending != nil })
		}
		mu.Unlock()
	}
	if code := s.stop(); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
}
