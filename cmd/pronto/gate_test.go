package main

import (
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// gate stands between a desk and its database, so that a script can take the
// database away and bring it back: a socket whose name goes and comes. Its
// goroutines are made outside a bubble, whose clock they must not hold up.
type gate struct {
	path string // of the socket
	ours net.Listener
	to   func() (net.Conn, error)
	work sync.WaitGroup

	mu    sync.Mutex // guards what follows
	shut  bool
	conns map[net.Conn]bool
}

// newGate opens a gate to the database at an address, and gives the address of
// the gate.
func newGate(t *testing.T, address string) (*gate, string) {
	t.Helper()
	c, err := pgconn.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "gate") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	network, server := pgconn.NetworkAddress(c.Host, c.Port)
	g := &gate{
		path: filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(int(c.Port))), conns: map[net.Conn]bool{},
		to: func() (net.Conn, error) { return net.Dial(network, server) },
	}
	if g.ours, err = net.Listen("unix", g.path); err != nil {
		t.Fatal(err)
	}
	g.work.Go(g.run)
	t.Cleanup(func() {
		g.ours.Close()
		g.goes(true)
		g.work.Wait()
		os.RemoveAll(dir)
	})
	q := url.Values{"host": {dir}, "port": {strconv.Itoa(int(c.Port))}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Path: "/" + c.Database, RawQuery: q.Encode()}
	return g, u.String()
}

func (g *gate) run() {
	for {
		conn, err := g.ours.Accept()
		if err != nil {
			return
		}
		far, err := g.to()
		if err != nil || !g.let(conn, far) {
			conn.Close()
			if far != nil {
				far.Close()
			}
			continue
		}
		for _, pair := range [][2]net.Conn{{conn, far}, {far, conn}} {
			g.work.Go(func() {
				_, _ = io.Copy(pair[0], pair[1]) // until either side goes
				conn.Close()
				far.Close()
				g.mu.Lock()
				delete(g.conns, pair[0])
				g.mu.Unlock()
			})
		}
	}
}

// let notes a connection, unless the gate is shut.
func (g *gate) let(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		g.conns[c] = true
	}
	if g.shut {
		clear(g.conns)
	}
	return !g.shut
}

// goes takes the database away, as a crash does: the socket is gone and all
// connections break. Without away it comes back.
func (g *gate) goes(away bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == away {
		return
	}
	g.shut = away
	if !away {
		_ = os.Rename(g.path+".away", g.path)
		return
	}
	_ = os.Rename(g.path, g.path+".away")
	for c := range g.conns {
		c.Close()
	}
}
