package db_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/dbtest"
)

// TestOneLeads: of two nodes one leads; the other does when it ends, when its
// session is lost, and again when its work has failed.
func TestOneLeads(t *testing.T) {
	address := dbtest.URL(t)
	leads := make(chan string)
	lost := make(chan string)
	fail := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	node := func(name string) context.CancelFunc {
		d := open(t, address)
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			err := d.Lead(ctx, func(leading context.Context) error {
				select {
				case leads <- name:
				case <-leading.Done():
					return nil
				}
				select {
				case err := <-fail:
					return err
				case <-leading.Done():
				}
				select {
				case lost <- name:
				case <-ctx.Done():
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		return cancel
	}
	next := func(ch <-chan string, what string) string {
		t.Helper()
		select {
		case name := <-ch:
			return name
		case <-time.After(time.Minute):
			t.Fatalf("waited a minute for %s", what)
		}
		return ""
	}
	endNorth := node("north")
	defer endNorth()
	if got := next(leads, "a leader"); got != "north" {
		t.Fatalf("%s leads", got)
	}
	endSouth := node("south")
	defer endSouth()
	select {
	case name := <-leads:
		t.Fatalf("%s leads as well", name)
	case <-time.After(2500 * time.Millisecond): // two times it has asked
	}

	// The session of the leader is lost: it learns of it, and somebody leads.
	admin := open(t, address)
	if _, err := admin.Pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = 1886547822 and objid = 2 and granted`); err != nil {
		t.Fatal(err)
	}
	if got := next(lost, "the leader to learn it"); got != "north" {
		t.Fatalf("%s lost it", got)
	}
	next(leads, "a leader after the session was lost")

	fail <- errors.New("its work has failed")
	leader := next(leads, "a leader after the work had failed")
	if leader == "north" {
		endNorth()
	} else {
		endSouth()
	}
	if got := next(leads, "the other to lead"); got == leader {
		t.Fatalf("%s leads after its end", got)
	}
}
