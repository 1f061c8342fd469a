package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/siptest"
	"github.com/pronto-desk/pronto/tickets"
)

// Two servers on one database: what begins at the one ends well at the other,
// also when the one is killed.

// twoNodes starts two servers on one fresh database, with the demo's people and
// passwords in both.
func twoNodes(t *testing.T, change ...func(*server)) (first, second *server) {
	t.Helper()
	url := dbtest.URL(t)
	change = append(change, func(s *server) { s.env = []string{"DATABASE_URL=" + url} })
	first = newServer(t, change...)
	second = newServer(t, append(change, func(s *server) {
		secrets, err := os.ReadFile(filepath.Join(first.dir, "demo.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, "demo.json"), secrets, 0o600); err != nil {
			t.Fatal(err)
		}
	})...)
	first.meets(2)
	second.meets(2)
	return first, second
}

// meets waits until a node knows of so many that live.
func (s *server) meets(n int) {
	s.t.Helper()
	within(s.t, 20*time.Second, fmt.Sprintf("%d nodes", n), func() error {
		resp, err := http.Get("http://" + s.http + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if !strings.Contains(string(text), fmt.Sprintf("\npronto_nodes %d\n", n)) {
			return errors.New("not yet")
		}
		return nil
	})
}

// asks is a caller who has chosen certificates and waits, or talks.
func asks(t *testing.T, k *rawTrunk) *rawCall {
	t.Helper()
	c, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := c.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	c.press("12")
	return c
}

// seatOf is what the desk does with an operator, as a node shows it.
func (s *server) seatOf(operator string) (declared, doing string) {
	s.t.Helper()
	var seats struct {
		Items []struct{ Operator, Declared, Doing string }
	}
	s.must("GET", "/operators", nil, &seats)
	for _, seat := range seats.Items {
		if seat.Operator == operator {
			return seat.Declared, seat.Doing
		}
	}
	s.t.Fatalf("no seat of %s", operator)
	return "", ""
}

// TestTwoNodesCallerAndTelephone: the caller rings one node, the operator's
// telephone has registered at the other.
func TestTwoNodesCallerAndTelephone(t *testing.T) {
	north, south := twoNodes(t)
	sippPhones(t, south, sippDir(t), 1, 2*time.Second)
	c := asks(t, newRawTrunk(t, north.sip))
	got := south.contactOf(c.id, "the call to be served", func(c tickets.Record) bool { return endingOf(c) == "served" })
	t.Log(timeline(got))
	if got.Operator == nil || *got.Operator != "anna" || got.Tc == nil {
		t.Errorf("served by %v: %s", got.Operator, timeline(got))
	}
	if !strings.Contains(south.log.String(), "rang a telephone for another node") {
		t.Error("the telephone was not rung by the node it has registered at")
	}
	select {
	case <-c.bye: // the operator's BYE went through both
	case <-time.After(rawWait):
		t.Error("the caller was not told that the operator has hung up")
	}
	within(t, 10*time.Second, "the operator to be free", func() error {
		if declared, doing := north.seatOf("anna"); declared != "available" || doing == "talking" {
			return fmt.Errorf("anna is %s, %s", declared, doing)
		}
		return nil
	})
	if code := north.stop(); code != 0 {
		t.Errorf("SIGTERM: exit %d", code)
	}
	south.meets(1) // at once: it has said so
	if strings.Contains(south.log.String(), "has died") {
		t.Error("who departs in good order is taken for dead")
	}
}

// TestTwoNodesConsult: anna's telephone has registered at the one node, her caller is at
// the other. She asks bruno in a second call of her telephone, and gives him the caller
// with its key (REFER with Replaces).
func TestTwoNodesConsult(t *testing.T) {
	north, south := twoNodes(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	secrets := south.secrets().Phones
	phone := func(ip, extension string) *siptest.Phone {
		p, err := siptest.NewRealPhone(netip.MustParseAddr(ip), netip.MustParseAddrPort(south.sip), nil, sip.SRTPOff)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		if err := p.Register(ctx, extension, secrets[extension], time.Hour); err != nil {
			t.Fatal(err)
		}
		return p
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	anna, bruno := phone("127.0.0.99", "1001"), phone("127.0.0.98", "1002")
	south.declare("anna", "available")
	c := asks(t, newRawTrunk(t, north.sip))
	must("anna's telephone rings", anna.Rings(ctx, time.Minute))
	must("anna lifts", anna.Lift(ctx))
	south.contactOf(c.id, "the talk", func(c tickets.Record) bool { return c.Tc != nil })
	south.declare("bruno", "available")
	must("anna dials bruno", anna.Consult(ctx, "1002", "1001", secrets["1001"]))
	must("bruno's telephone rings", bruno.Rings(ctx, time.Minute))
	must("bruno lifts", bruno.Lift(ctx))
	within(t, time.Minute, "anna to talk to bruno", func() error {
		var seats struct {
			Items []struct{ Operator, Talk string }
		}
		north.must("GET", "/operators", nil, &seats)
		for _, seat := range seats.Items {
			if seat.Operator == "anna" && seat.Talk == "consulting" {
				return nil
			}
		}
		return fmt.Errorf("%+v", seats.Items)
	})
	if status, err := anna.Join(ctx); err != nil || status != http.StatusOK {
		t.Fatalf("anna is told %d, %v", status, err)
	}
	must("anna's telephone is hung up", anna.Gone(ctx, time.Minute))
	got := south.contactOf(c.id, "bruno to have the caller", func(c tickets.Record) bool { return c.Operator != nil && *c.Operator == "bruno" })
	t.Log(timeline(got))
	must("bruno hangs up", bruno.HangUp(ctx))
	got = south.contactOf(c.id, "the ending", func(c tickets.Record) bool { return c.Ending != nil })
	if endingOf(got) != "served" {
		t.Errorf("ended %s: %s", endingOf(got), timeline(got))
	}
}

// TestSoundOfAnotherNode: a message that was left at one node is heard at the
// other, whole and in parts; and when its node is down, the page says so.
func TestSoundOfAnotherNode(t *testing.T) {
	north, south := twoNodes(t)
	c, end := leaveMessage(t, north, newRawTrunk(t, north.sip))
	end()
	got := north.contactOf(c.id, "the message", func(c tickets.Record) bool { return c.HasRecording && c.Ending != nil })
	path := "/contacts/" + got.ID.String() + "/recording"
	var here, there []byte
	north.must("GET", path, nil, &here)
	south.must("GET", path, nil, &there)
	if len(here) < 16000 || !bytes.Equal(here, there) {
		t.Fatalf("%d bytes here, %d there", len(here), len(there))
	}
	get := func(method, ranges string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+south.http+"/api/v1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+south.token)
		if ranges != "" {
			req.Header.Set("Range", ranges)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	res := get("GET", "bytes=100-199")
	part, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusPartialContent || !bytes.Equal(part, here[100:200]) || res.Header.Get("Content-Range") != fmt.Sprintf("bytes 100-199/%d", len(here)) {
		t.Errorf("a part: %s, %d bytes, %q, %v", res.Status, len(part), res.Header.Get("Content-Range"), err)
	}
	if res := get("GET", fmt.Sprintf("bytes=%d-", len(here)+1)); res.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("beyond its end: %s", res.Status)
	}
	if res := get("HEAD", ""); res.StatusCode != http.StatusOK || res.ContentLength != int64(len(here)) {
		t.Errorf("HEAD: %s, %d", res.Status, res.ContentLength)
	}
	mustRefuseStrangers(t, north, got.ID)

	name, err := os.ReadFile(filepath.Join(north.dir, nodeFile))
	if err != nil {
		t.Fatal(err)
	}
	north.kill()
	status, err := south.do("GET", path, nil, nil)
	if status != http.StatusServiceUnavailable || !strings.Contains(err.Error(), strings.TrimSpace(string(name))) {
		t.Errorf("with its node down: %d, %v", status, err)
	}
}

// mustRefuseStrangers holds that a node's door opens to nobody who does not know
// the nodes' secret.
func mustRefuseStrangers(t *testing.T, s *server, contact uuid.UUID) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.sharedURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var door string
	if err := conn.QueryRow(t.Context(), `select http from nodes where sip = $1`, s.sip).Scan(&door); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	now := fmt.Sprint(time.Now().Unix())
	for _, header := range []string{"", "node", "node " + now + " ", "node " + now + " " + strings.Repeat("0", 64), "a b c d", "node now proof"} {
		for _, path := range []string{"/alive", "/sound/" + contact.String(), "/"} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+door+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(doorHeader, header)
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("%s with %q: %s", path, header, res.Status)
			}
		}
	}
}

// callbacks are who is to be rung back, in the queue's order, as rows say.
func callbacks(t *testing.T, url string) (list []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `select c.call_id from places p join contacts c on c.id = p.contact_id join callbacks b on b.contact_id = c.id
		where p.kind = 'callback' and p.state = 'waiting' and b.origin = 'fault' and b.outcome is null order by p.urgency, p.t0`)
	if err != nil {
		t.Fatal(err)
	}
	if list, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	return list
}

func (s *server) sharedURL() string { return strings.TrimPrefix(s.env[0], "DATABASE_URL=") }

// lostCallers are callers of one node in every stage: in the menu, talking to
// anna, whose telephone is at the other, and waiting behind her.
func lostCallers(t *testing.T, north, south *server) (menu *rawCall, queued []*rawCall) {
	t.Helper()
	sippPhones(t, south, sippDir(t), 1, 10*time.Minute)
	k := newRawTrunk(t, north.sip)
	menu, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := menu.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	talking := asks(t, k)
	south.contactOf(talking.id, "the talk", func(c tickets.Record) bool { return c.Tc != nil })
	queued = []*rawCall{talking}
	for range 2 {
		c := asks(t, k)
		south.contactOf(c.id, "the caller to wait", func(c tickets.Record) bool { return c.Tq != nil })
		queued = append(queued, c)
	}
	return menu, queued
}

// mustBeSettled holds what is promised of the callers of a lost node, seen from
// another one: their endings, their places as callbacks in the order of their
// calls, their operators free. It tells how long that took.
func mustBeSettled(t *testing.T, south *server, since time.Time, menu *rawCall, queued []*rawCall) {
	t.Helper()
	want := []string{menu.id}
	for _, c := range queued {
		want = append(want, c.id)
	}
	slices.Sort(want)
	within(t, 60*time.Second, "the callers of the dead node to be booked", func() error {
		got := callbacks(t, south.sharedURL())
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("booked are %v, not %v", got, want)
		}
		return nil
	})
	var last time.Time
	for _, id := range want {
		c := south.contactOf(id, "an ending", func(c tickets.Record) bool { return c.Ending != nil })
		if endingOf(c) != "system_fault" {
			t.Errorf("%s ended %s: %s", id, endingOf(c), timeline(c))
		}
		if c.RingBack != nil {
			t.Errorf("%s is owed a call twice", id)
		}
		for _, l := range c.Journal {
			if l.Kind == "booked" && l.At.After(last) {
				last = l.At
			}
		}
	}
	t.Logf("settled %.1f s after", last.Sub(since).Seconds())
	var inOrder []string
	for _, c := range queued {
		inOrder = append(inOrder, c.id)
	}
	got := slices.DeleteFunc(callbacks(t, south.sharedURL()), func(id string) bool { return id == menu.id })
	if !slices.Equal(got, inOrder) {
		t.Errorf("the order is %v, not that of the calls %v", got, inOrder)
	}
	within(t, 20*time.Second, "the operator to be free", func() error {
		if _, doing := south.seatOf("anna"); doing != "idle" && doing != "wrapping" {
			return fmt.Errorf("anna is %s", doing)
		}
		return nil
	})
}

// another is a caller who is none of those that were lost: who was lost and is
// served after all is not rung back.
func another(t *testing.T, s *server) *rawTrunk {
	k := newRawTrunk(t, s.sip)
	k.from = "+390577000088"
	return k
}

// TestNodeKilled: whoever a killed node leaves behind is settled by the other one.
// The killed one was the leader, too; its telephones ring through the other.
func TestNodeKilled(t *testing.T) {
	north, south := twoNodes(t)
	menu, queued := lostCallers(t, north, south)
	since := time.Now()
	north.kill()
	mustBeSettled(t, south, since, menu, queued)
	within(t, 20*time.Second, "the operator's telephone to be hung up", func() error {
		if !strings.Contains(south.log.String(), "the node of a caller has died") {
			return errors.New("not yet")
		}
		return nil
	})
	// The desk goes on: a caller at the other node is served, and when the first
	// one is back it changes nothing of what was settled.
	south.declare("anna", "available")
	c := asks(t, another(t, south))
	south.contactOf(c.id, "the next caller to be served", func(c tickets.Record) bool { return c.Tc != nil })
	north.start()
	north.meets(2)
	if got := callbacks(t, south.sharedURL()); len(got) != 1+len(queued) {
		t.Errorf("after its return %d are to be rung back", len(got))
	}
}

// TestNodeFrozen: a node that was only frozen, and given up meanwhile, does no
// harm when it goes on: it ends the calls whose operators are free for others.
func TestNodeFrozen(t *testing.T) {
	north, south := twoNodes(t)
	menu, queued := lostCallers(t, north, south)
	since := time.Now()
	if err := north.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	mustBeSettled(t, south, since, menu, queued)
	if err := north.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(queued, menu) {
		select {
		case <-c.bye:
		case <-time.After(60 * time.Second):
			t.Errorf("%s was not told that the call is over", c.id)
		}
	}
	north.meets(2)
	south.meets(2) // else it would not ring a telephone for it
	if got := callbacks(t, south.sharedURL()); len(got) != 1+len(queued) {
		t.Errorf("after it went on %d are to be rung back", len(got))
	}
	south.declare("anna", "available")
	c := asks(t, another(t, north)) // it serves new calls
	south.contactOf(c.id, "the next caller to be served", func(c tickets.Record) bool { return c.Tc != nil })
}
