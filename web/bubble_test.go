package web

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
)

// pipes is a network in memory: what is dialled is accepted.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p <- there
	return here, nil
}

// TestSocketKeepsTime runs a server and a page in a bubble, on the bubble's
// clock: ticks every 5 s, pings every 15 s, a silent page is given up.
func TestSocketKeepsTime(t *testing.T) {
	t.Parallel()
	address := dbAddress(t)
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		base, err := db.Open(t.Context(), db.Config{URL: address, MaxConns: 4})
		must(t, err)
		defer base.Close()
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		archive, err := recordings.Open(folder, "n1", base, log)
		must(t, err)
		s := New(Config{DB: base, Book: tickets.NewBook(base, "n1", archive, log), Queue: queue.New(base, "n1", log), Archive: archive, Log: log})
		_, err = s.users.Add(t.Context(), "anna", "Anna", Operator, testPassword, "1001")
		must(t, err)
		token, err := s.users.Token(t.Context(), "anna", time.Hour)
		must(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		wire := make(pipes)
		server := &http.Server{Handler: s.Handler()}
		go func() { _ = server.Serve(wire) }()
		defer func() {
			cancel()
			must(t, <-done)
			must(t, server.Close())
		}()

		dialer := websocket.Dialer{NetDialContext: wire.dial}
		conn, _, err := dialer.DialContext(t.Context(), "ws://desk/api/v1/socket", http.Header{"Authorization": {"Bearer " + token}})
		must(t, err)
		defer func() { _ = conn.Close() }()
		pings := 0
		answer := conn.PingHandler()
		conn.SetPingHandler(func(data string) error { pings++; return answer(data) })
		must(t, conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"hello"}`)))
		began := time.Now()
		ticks := 0
		for time.Since(began) < time.Minute {
			_, raw, err := conn.ReadMessage()
			must(t, err)
			var m fromServer
			must(t, json.Unmarshal(raw, &m))
			switch m.Type {
			case "tick":
				ticks++
				if m.At == nil || !m.At.Equal(time.Now()) || m.Away {
					t.Errorf("a tick at %v says %s", time.Now(), raw)
				}
			case "snapshot":
				if took := time.Since(began); took > snapshotRetry {
					t.Errorf("the snapshot took %v of the bubble's time", took)
				}
			case "event": // that anna was added: other tests' transactions may hold the end of the journal back
				if m.Kind != "seat" && m.Kind != "pop.cleared" {
					t.Errorf("heard %s", raw)
				}
			default:
				t.Errorf("heard %s", raw)
			}
		}
		if ticks != 12 || pings < 3 || pings > 4 {
			t.Errorf("%d ticks and %d pings in a minute", ticks, pings)
		}

		// A page that no longer answers, though its connection stands.
		conn.SetPingHandler(func(string) error { return nil })
		silent := time.Now()
		for {
			if _, _, err = conn.ReadMessage(); err != nil {
				break
			}
		}
		if took := time.Since(silent); took > silentLongest || took < silentLongest-pingEvery {
			t.Errorf("a silent page is given up after %v: %v", took, err)
		}
	})
}
