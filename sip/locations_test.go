package sip

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

// withTelephones gives a database with extensions 1001 and 1002.
func withTelephones(t *testing.T) *db.DB {
	t.Helper()
	d := dbtest.New(t)
	for _, extension := range []string{"1001", "1002"} {
		a, b := HA1(extension, "pronto", "secret")
		if _, err := d.Pool.Exec(t.Context(), `insert into phones (extension, ha1_md5, ha1_sha256) values ($1, $2, $3)`, extension, a, b); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func place(contact string, expires time.Time) Binding {
	return Binding{Extension: "1001", Contact: contact, Source: netip.MustParseAddrPort("192.0.2.7:5060"), Transport: "udp",
		CallID: "c\x00\xff", CSeq: 7, UserAgent: "phone\r\n1", Expires: expires}
}

func TestLocations(t *testing.T) {
	d, ctx := withTelephones(t), t.Context()
	l := NewLocations(d, "north")
	if _, ok, err := l.Secret(ctx, "1001", false); !ok || err != nil {
		t.Fatalf("secret: %t, %v", ok, err)
	}
	for _, unknown := range []string{"1003", "", "anna", "1001'--", "12345678901", "10\x0001"} {
		if _, ok, err := l.Secret(ctx, unknown, true); ok || err != nil {
			t.Errorf("secret of %q: %t, %v", unknown, ok, err)
		}
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	for _, b := range []Binding{place("sip:a@192.0.2.7", now.Add(time.Minute)), place("sip:b@192.0.2.8", now.Add(time.Hour)), place("sip:b@192.0.2.8", now.Add(2*time.Hour))} {
		if err := l.Bind(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	again := NewLocations(d, "north") // after a restart
	if s, ok, err := again.Secret(ctx, "1001", false); !ok || err != nil || !slices.Contains(s.Places, netip.MustParseAddr("192.0.2.7")) {
		t.Errorf("where it was lately: %+v, %t, %v", s.Places, ok, err)
	}
	for name, l := range map[string]*Locations{"kept": l, "read": again} {
		list, err := l.Bindings(ctx, "1001", now)
		if err != nil || len(list) != 2 || list[0].Contact != "sip:b@192.0.2.8" || !list[0].Expires.Equal(now.Add(2*time.Hour)) ||
			list[0].Source != netip.MustParseAddrPort("192.0.2.7:5060") || list[0].CSeq != 7 || list[0].Transport != "udp" {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
		if list, _ := l.Bindings(ctx, "1001", now.Add(90*time.Minute)); len(list) != 1 {
			t.Errorf("%s: %d after one has expired", name, len(list))
		}
	}
	for node, want := range map[string]int{"north": 2, "south": 0} { // as after a restart
		if list, err := NewLocations(d, node).Here(ctx); err != nil || len(list) != want || want > 0 && !list[0].Source.IsValid() {
			t.Errorf("%s has %+v, %v", node, list, err)
		}
	}
	if err := again.Unbind(ctx, "1001", "sip:b@192.0.2.8"); err != nil {
		t.Fatal(err)
	}
	if list, _ := NewLocations(d, "north").Bindings(ctx, "1001", now); len(list) != 1 || list[0].Contact != "sip:a@192.0.2.7" {
		t.Errorf("after taking one away: %+v", list)
	}
	if err := again.Unbind(ctx, "1001", "*"); err != nil {
		t.Fatal(err)
	}
	if list, _ := NewLocations(d, "north").Bindings(ctx, "1001", now); len(list) != 0 {
		t.Errorf("after taking all away: %+v", list)
	}
	if err := l.Bind(ctx, Binding{Extension: "1999", Contact: "sip:x@y", Expires: now}); err == nil {
		t.Error("bound a telephone that does not exist")
	}
}

func TestTelephonesRingWithTheDatabaseAway(t *testing.T) {
	d := withTelephones(t)
	l := NewLocations(d, "north")
	now := time.Now()
	if _, ok, _ := l.Secret(t.Context(), "1001", false); !ok {
		t.Fatal("no secret")
	}
	if err := l.Bind(t.Context(), place("sip:a@192.0.2.7", now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	gone, err := db.Open(t.Context(), db.Config{URL: "postgres://nobody@127.0.0.1:1/none"})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	l.db = gone
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if list, err := l.Bindings(ctx, "1001", now); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	l.mu.Lock()
	l.read = now.Add(-time.Hour) // not fresh any more: the database would be asked
	l.mu.Unlock()
	for _, extension := range []string{"1001", "1002"} { // also one that has not signed in yet
		if _, ok, err := l.Secret(ctx, extension, false); !ok || err != nil {
			t.Errorf("secret of %s: %t, %v", extension, ok, err)
		}
	}
	if err := l.Bind(ctx, place("sip:b@192.0.2.7", now.Add(time.Hour))); err != nil {
		t.Errorf("bind: %v", err)
	}
	if list, _ := l.Bindings(ctx, "1001", now); len(list) != 2 {
		t.Errorf("%+v", list)
	}
	never := NewLocations(gone, "north")
	if _, _, err := never.Secret(ctx, "1001", false); err == nil {
		t.Error("a secret that was never read was known")
	}
}

// TestATelephoneMoves registers at one node and then at another: each knows where
// it is, without asking the database each time.
func TestATelephoneMoves(t *testing.T) {
	address := dbtest.URL(t)
	ctx, cancel := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	open := func() *db.DB {
		d, err := db.Open(ctx, db.Config{URL: address, MaxConns: 3})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		listening.Go(func() { _ = d.Listen(ctx) })
		return d
	}
	a, b := HA1("1001", "pronto", "secret")
	here := open()
	if _, err := here.Pool.Exec(ctx, `insert into phones (extension, ha1_md5, ha1_sha256) values ('1001', $1, $2)`, a, b); err != nil {
		t.Fatal(err)
	}
	north, south := NewLocations(here, "north"), NewLocations(open(), "south")
	now := time.Now()
	stands := func(l *Locations, want string) {
		t.Helper()
		end := time.Now().Add(20 * time.Second)
		again := time.NewTicker(5 * time.Millisecond) // a wake-up is on its way
		defer again.Stop()
		for {
			list, err := l.Bindings(ctx, "1001", now)
			got := ""
			for _, b := range list {
				got += b.Node + " "
			}
			if err == nil && got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s knows of %q, not %q (%v)", l.node, got, want, err)
			}
			<-again.C
		}
	}
	stands(north, "")
	stands(south, "")
	first := place("sip:a@192.0.2.7", now.Add(time.Minute))
	if err := north.Bind(ctx, first); err != nil {
		t.Fatal(err)
	}
	stands(north, "north ")
	stands(south, "north ")
	first.Expires = now.Add(2 * time.Minute)
	if err := south.Bind(ctx, first); err != nil {
		t.Fatal(err)
	}
	stands(south, "south ")
	stands(north, "south ")
	// Renewed there without a word to us: read anew when it would have expired.
	first.Expires = now.Add(10 * time.Minute)
	if err := south.Bind(ctx, first); err != nil {
		t.Fatal(err)
	}
	if list, err := north.Bindings(ctx, "1001", now.Add(5*time.Minute)); err != nil || len(list) != 1 {
		t.Errorf("after a renewal: %+v, %v", list, err)
	}
	if err := south.Unbind(ctx, "1001", "*"); err != nil {
		t.Fatal(err)
	}
	stands(south, "")
	stands(north, "")
}
