package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/dbtest"
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
}
