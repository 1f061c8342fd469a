package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

// TestStartWaitsForTheDatabase: at the start of a machine the database may come
// up after us. Who never comes is named, with what it said.
func TestStartWaitsForTheDatabase(t *testing.T) {
	gate, url := newGate(t, dbtest.URL(t))
	synctest.Test(t, func(t *testing.T) {
		d, err := db.Open(t.Context(), db.Config{URL: url, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		gate.goes(true)
		begun := time.Now()
		err = migrate(context.Background(), d, slog.New(slog.DiscardHandler))
		if took := time.Since(begun); err == nil || took != startLongest {
			t.Errorf("without a database: %v after %s, want an error after %s", err, took, startLongest)
		} else if !strings.Contains(err.Error(), "within 1m0s") || !strings.Contains(err.Error(), filepath.Dir(gate.path)) {
			t.Errorf("the error does not say what was waited for, and where: %v", err)
		}
		comes := time.AfterFunc(startLongest/2, func() { gate.goes(false) })
		defer comes.Stop()
		if err := migrate(context.Background(), d, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("a database that comes late: %v", err)
		}
	})
}

// TestTimersMayBeLate: the server that runs is one that was started with timerSlack,
// as the process that was started first.
func TestTimersMayBeLate(t *testing.T) {
	s := newServer(t)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(text)); got != fmt.Sprint(timerSlack.Nanoseconds()) {
		t.Errorf("a timer may be %s ns late, want %s", got, timerSlack)
	}
}

// TestDemoAmongPeople: whoever starts the demo where its names are taken (a lost
// demo.json, another node, a real anna) reads in the log whose passwords went.
func TestDemoAmongPeople(t *testing.T) {
	s := newServer(t)
	if s.stop(); strings.Contains(s.log.String(), "new passwords") {
		t.Errorf("the first start says that passwords went: %s", s.log.String())
	}
	if err := os.Remove(filepath.Join(s.dir, "demo.json")); err != nil {
		t.Fatal(err)
	}
	s.start()
	if log := s.log.String(); !strings.Contains(log, "people who were there got new passwords") || !strings.Contains(log, "[carla dora anna bruno]") {
		t.Errorf("the log does not say whose passwords went: %s", log)
	}
}
