package sip

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fellows are the nodes of a test, by name; their proof is a hash of the words.
type fellows map[string]netip.AddrPort

// lives says that nobody has died, or that everybody has begun another life.
var lives atomic.Int64

func (f fellows) Where(node string) (netip.AddrPort, bool) { at, ok := f[node]; return at, ok }

func (f fellows) Life(node string) string {
	return f[node].String() + strconv.FormatInt(lives.Load(), 10)
}

func (f fellows) Knows(ip netip.Addr) bool {
	for _, at := range f {
		if at.Addr() == ip {
			return true
		}
	}
	return false
}

func (f fellows) Prove(words ...string) string {
	sum := sha256.Sum256([]byte("secret\n" + strings.Join(words, "\n")))
	return hex.EncodeToString(sum[:])
}

func (f fellows) Proven(proof string, words ...string) bool { return proof == f.Prove(words...) }

var (
	northAt = netip.MustParseAddrPort("127.0.0.65:5060") // on no trunk
	southAt = netip.MustParseAddrPort("127.0.0.66:5060")
)

// twoNodes are two agents that share their telephones, inside a bubble.
func twoNodes(t *testing.T, test func(t *testing.T, north, south *house), change ...func(*house, *Config)) {
	synctest.Test(t, func(t *testing.T) {
		all := fellows{"north": northAt, "south": southAt}
		w, phones := &wire{ends: map[netip.AddrPort]*wireEnd{}}, newMemory()
		node := func(name string) *house {
			return build(t, w, all[name], ring, append([]func(*house, *Config){func(h *house, c *Config) {
				h.phones, c.Phones, c.Node, c.Peers = phones, phones, name, all
			}}, change...)...)
		}
		north := node("north")
		defer north.stop()
		south := node("south")
		defer south.stop()
		test(t, north, south)
	})
}

// phoneOf registers a telephone at a node.
func (h *house) phoneOf(node, extension, transport string) *peer {
	p := h.peer(strangeIP)
	_ = h.phones.Bind(context.Background(), Binding{Extension: extension, Contact: "sip:" + extension + "@" + p.addr.String(),
		Source: p.addr, Transport: transport, Node: node, Expires: time.Now().Add(time.Hour)})
	return p
}

func TestATelephoneOfAnotherNodeRings(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		p := south.phoneOf("south", "1002", "udp")
		if !north.a.Registered("1002", time.Now()) {
			north.t.Error("not registered")
		}
		got := north.ring(t.Context(), "1002", Caller{Number: "+390551234567", Name: "Mario Rossi"})
		invite := p.calling()
		if via := headerOf(invite, "Via"); !strings.Contains(via, southAt.String()) {
			t.Errorf("not rung by its own node: %s", via)
		}
		if from := headerOf(invite, "From"); !strings.HasPrefix(from, `"Mario Rossi" <sip:+390551234567@`) {
			t.Errorf("From: %s", from)
		}
		if strings.Contains(invite, nodeHeader) {
			t.Error("the proof went to the telephone")
		}
		p.reply(invite, "180 Ringing", "a", p.contact(), "")
		p.lift(invite, "a")
		r := <-got
		if r.err != nil || r.leg.Stream() == nil {
			t.Fatalf("ring: %v", r.err)
		}
		p.byeFromPhone(invite, "a")
		select {
		case <-r.leg.Done():
		case <-time.After(20 * time.Second):
			t.Error("the caller's node does not hear of the BYE")
		}
	})
}

// That a telephone holds, in whichever of the spellings, is known where its caller is.
func TestATelephoneOfAnotherNodeHolds(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		p := south.phoneOf("south", "1002", "udp")
		got := north.ring(t.Context(), "1002", Caller{})
		invite := p.calling()
		p.lift(invite, "a")
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for i, offer := range []string{
			p.offer("a=sendonly\r\n"), p.offer(""),
			p.offer("a=inactive\r\n"), p.offer(""),
			strings.Replace(p.offer(""), "c=IN IP4 "+p.addr.Addr().String(), "c=IN IP4 0.0.0.0", 1), p.offer("a=sendrecv\r\n"),
			strings.Replace(p.offer(""), "m=audio 19000", "m=audio 0", 1), p.offer(""),
		} {
			p.send(fmt.Sprintf("UPDATE sip:pronto@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s\r\nFrom: %s;tag=a\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d UPDATE\r\n%sContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
				p.server, p.addr, randomText(), headerOf(invite, "To"), headerOf(invite, "From"), p.callID, i+1, p.contact(), len(offer), offer))
			p.expect("SIP/2.0 200")
			if err := r.leg.Stream().AwaitHold(ctx, i%2 == 0); err != nil {
				t.Fatalf("offer %d: %v", i, err)
			}
		}
		p.byeFromPhone(invite, "a")
	})
}

// The second call of a telephone is passed to the node that has its caller, and the two
// are given to each other (Replaces) where the telephone is. Whoever of the two sides hangs
// up, the other hears of it; a node that knows nothing of it leaves the talk alone.
func TestASecondCallAtAnotherNode(t *testing.T) {
	type passed struct {
		c    *Call
		what string
	}
	var south *house
	came, failed, asked := make(chan passed, 1), make(chan error, 1), make(chan Referral, 1)
	unknown := false
	twoNodes(t, func(t *testing.T, north, there *house) {
		south = there
		p := south.phoneOf("south", "1001", "udp")
		got := north.ring(t.Context(), "1001", Caller{})
		invite := p.calling()
		p.lift(invite, "a")
		first := <-got
		if first.err != nil {
			t.Fatal(first.err)
		}
		p.seq, p.tag, p.toTag = 1, "a", tagOf(invite, "From")
		begin := func() *peer {
			second := south.peer(strangeIP)
			second.dials("1001", "1002", "")
			uri := "sip:1002@" + p.server.String()
			second.dials("1001", "1002", challengeOf(t, second.expect("SIP/2.0 401")).lineFor("INVITE", uri, "1001", "secret", algorithmMD5, "00000001"))
			return second
		}

		second := begin()
		second.toTag = tagOf(second.expect("SIP/2.0 200"), "To")
		second.ack(randomText(), "")
		x := <-came
		if x.what != "the-offer" || x.c.Stream() == nil {
			t.Errorf("passed: %+v", x)
		}
		p.refer("Refer-To: <sip:1002@" + southAt.Addr().String() + "?Replaces=" + escapeUser(second.callID+";to-tag="+second.toTag+";from-tag="+second.tag) + ">\r\n")
		p.expect("SIP/2.0 202")
		if r := <-asked; !r.Joins || r.Extension != "1001" {
			t.Errorf("the house hears %+v", r)
		}
		p.notified("200 OK")
		p.notified("200 OK")
		second.bye()
		<-x.c.Done()
		if err := <-failed; err != nil {
			t.Errorf("passed: %v", err)
		}

		second = begin()
		second.toTag = tagOf(second.expect("SIP/2.0 200"), "To")
		second.ack(randomText(), "")
		(<-came).c.Hangup(t.Context())
		second.reply(second.expect("BYE"), "200 OK", "", "", "")
		if err := <-failed; err != nil {
			t.Errorf("passed: %v", err)
		}

		unknown = true
		begin().expect("SIP/2.0 480")
		if err := <-failed; !errors.Is(err, ErrUnreachable) {
			t.Errorf("to nobody: %v", err)
		}
		if first.leg.(*Call).Err() != nil {
			t.Error("the talk did not survive")
		}
		p.byeFromPhone(invite, "a")
	}, func(_ *house, c *Config) {
		c.Second = func(ctx context.Context, c *Call, what string) {
			came <- passed{c, what}
			<-ctx.Done()
		}
		c.Dialled = func(ctx context.Context, c *Call, extension, to string) {
			node := "north"
			if unknown {
				node = "east"
			}
			err := south.a.Pass(ctx, c, node, "the-offer")
			if err != nil {
				_ = c.Refuse(ctx, 480, 0)
			}
			failed <- err
		}
		c.Refer = func(_ context.Context, r Referral) (func(context.Context) int, int) {
			asked <- r
			return func(context.Context) int { return 200 }, r.Refused
		}
	})
}

func TestACallersNodeHangsUp(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		p := south.phoneOf("south", "1002", "udp")
		got := north.ring(t.Context(), "1002", Caller{})
		invite := p.calling()
		if from := headerOf(invite, "From"); !strings.Contains(from, "anonymous@anonymous.invalid") {
			t.Errorf("From: %s", from)
		}
		p.lift(invite, "a")
		r := <-got
		if r.err != nil {
			t.Fatal(r.err)
		}
		r.leg.Hangup(t.Context())
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
	})
}

// The caller's node dies in the middle of a talk: the operator is not left with
// a dead line.
func TestACallersNodeDies(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		p := south.phoneOf("south", "1002", "udp")
		got := north.ring(t.Context(), "1002", Caller{})
		invite := p.calling()
		p.lift(invite, "a")
		if r := <-got; r.err != nil {
			t.Fatal(r.err)
		}
		p.nothing(3 * time.Second)
		lives.Add(1)
		p.reply(p.expect("BYE"), "200 OK", "", "", "")
	})
}

func TestWhatATelephoneOfAnotherNodeSaysPassesThrough(t *testing.T) {
	for status, want := range map[string]error{
		"486 Busy Here": ErrDeclined, "603 Decline": ErrDeclined, "404 Not Found": ErrUnreachable, "480 Away": ErrUnreachable,
	} {
		t.Run(status, func(t *testing.T) {
			twoNodes(t, func(t *testing.T, north, south *house) {
				p := south.phoneOf("south", "1002", "udp")
				got := north.ring(t.Context(), "1002", Caller{})
				invite := p.calling()
				p.reply(invite, status, "a", "", "")
				p.expect("ACK")
				r := <-got
				var s *StatusError
				if !errors.Is(r.err, want) || !errors.As(r.err, &s) || strconv.Itoa(s.Code) != status[:3] {
					t.Errorf("ring: %v, want %v", r.err, want)
				}
			})
		})
	}
}

func TestCancelPassesThrough(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		p := south.phoneOf("south", "1002", "udp")
		ctx, cancel := context.WithCancel(t.Context())
		got := north.ring(ctx, "1002", Caller{})
		invite := p.calling()
		p.reply(invite, "180 Ringing", "a", "", "")
		cancel()
		cancelled := p.expect("CANCEL")
		if r := <-got; !errors.Is(r.err, context.Canceled) {
			t.Errorf("ring: %v", r.err)
		}
		p.reply(cancelled, "200 OK", "a", "", "")
		p.reply(invite, "487 Request Terminated", "a", "", "")
		p.expect("ACK")
		for _, h := range []*house{north, south} {
			if err := h.a.Drained(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A telephone in each node, and one that has moved: each rings once, by its own.
func TestTelephonesOfBothNodesRing(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		p, q := north.phoneOf("north", "1002", "udp"), south.phoneOf("south", "1002", "udp")
		got := north.ring(t.Context(), "1002", Caller{})
		first, second := p.calling(), q.calling()
		q.lift(second, "b")
		if r := <-got; r.err != nil {
			t.Fatal(r.err)
		}
		// The losers are cancelled once they have said that they ring.
		p.reply(first, "180 Ringing", "a", "", "")
		cancelled := p.expect("CANCEL")
		p.reply(cancelled, "200 OK", "a", "", "")
		p.reply(first, "487 Request Terminated", "a", "", "")
		p.expect("ACK")
		q.byeFromPhone(second, "b")
	})
}

// The node of a telephone has died: on UDP it may be rung all the same, a
// connection is gone.
func TestATelephoneWhoseNodeHasDied(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		p := south.phoneOf("lost", "1002", "udp")
		south.phoneOf("lost", "1003", "tcp")
		if north.a.Registered("1003", time.Now()) {
			t.Error("a telephone on a dead connection counts as registered")
		}
		if r := <-north.ring(t.Context(), "1003", Caller{}); !errors.Is(r.err, ErrUnreachable) {
			t.Errorf("ring: %v", r.err)
		}
		p.server = northAt
		got := north.ring(t.Context(), "1002", Caller{})
		invite := p.calling()
		p.lift(invite, "a")
		if r := <-got; r.err != nil {
			t.Errorf("ring: %v", r.err)
		}
		p.byeFromPhone(invite, "a")
	})
}

// Nobody but a node that lives makes a telephone ring, and a proof is good for
// one call.
func TestNodesAreNoDoorForStrangers(t *testing.T) {
	twoNodes(t, func(t *testing.T, north, south *house) {
		phone := south.phoneOf("south", "1002", "udp")
		now := time.Now()
		at := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
		attempt := func(ip netip.Addr, words ...string) string {
			s := south.peer(ip)
			s.server = southAt
			s.send("INVITE sip:1002@" + southAt.String() + " SIP/2.0\r\nVia: SIP/2.0/UDP " + s.addr.String() + ";rport;branch=z9hG4bK" + randomText() +
				"\r\nMax-Forwards: 70\r\nFrom: <sip:1@x>;tag=tag\r\nTo: <sip:1002@y>\r\nCall-ID: call\r\nCSeq: 1 INVITE\r\nContact: <sip:s@" + s.addr.String() + ">\r\n" +
				nodeHeader + ": " + strings.Join(words, " ") + "\r\nContent-Length: 0\r\n\r\n")
			for m := s.within(10 * time.Second); m != ""; m = s.within(10 * time.Second) {
				if !strings.HasPrefix(m, "SIP/2.0 100") {
					s.send("ACK sip:1002@" + southAt.String() + " SIP/2.0\r\nVia: " + headerOf(m, "Via") + "\r\nMax-Forwards: 70\r\nFrom: " + headerOf(m, "From") +
						"\r\nTo: " + headerOf(m, "To") + "\r\nCall-ID: call\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n")
					return m[:min(len(m), len("SIP/2.0 403"))]
				}
			}
			return "nothing"
		}
		proof := func(node string, when time.Time, extension string) string {
			return fellows{}.Prove("ring", node, at(when), extension, "call", "tag")
		}
		for what, c := range map[string]struct {
			ip    netip.Addr
			words []string
		}{
			"from elsewhere":    {strangeIP, []string{"north", at(now), proof("north", now, "1002")}},
			"from a trunk":      {trunkIP, []string{"north", at(now), proof("north", now, "1002")}},
			"without a proof":   {northAt.Addr(), []string{"north"}},
			"empty":             {northAt.Addr(), nil},
			"a wrong proof":     {northAt.Addr(), []string{"north", at(now), strings.Repeat("0", 64)}},
			"another extension": {northAt.Addr(), []string{"north", at(now), proof("north", now, "1003")}},
			"too old":           {northAt.Addr(), []string{"north", at(now.Add(-2 * nodeFresh)), proof("north", now.Add(-2*nodeFresh), "1002")}},
			"from the future":   {northAt.Addr(), []string{"north", at(now.Add(2 * nodeFresh)), proof("north", now.Add(2*nodeFresh), "1002")}},
			"no instant":        {northAt.Addr(), []string{"north", "now", proof("north", now, "1002")}},
		} {
			if got := attempt(c.ip, c.words...); got != "SIP/2.0 403" {
				t.Errorf("%s: %q", what, got)
			}
		}
		phone.nothing(time.Second)
		right := []string{"north", at(time.Now()), proof("north", time.Now(), "1002")}
		answer := make(chan string, 1)
		go func() { answer <- attempt(northAt.Addr(), right...) }()
		invite := phone.calling()
		phone.reply(invite, "486 Busy Here", "a", "", "")
		phone.expect("ACK")
		if got := <-answer; got != "SIP/2.0 486" {
			t.Errorf("the right one: %q", got)
		}
		if got := attempt(northAt.Addr(), right...); got != "SIP/2.0 403" {
			t.Errorf("the same again: %q", got)
		}
		phone.nothing(time.Second)
	})
}
