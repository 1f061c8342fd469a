package web

import (
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

func dbAddress(t testing.TB) string { return dbtest.URL(t) }

func deskDB(t testing.TB, address string) *db.DB {
	t.Helper()
	base, err := db.Open(t.Context(), db.Config{URL: address, MaxConns: 8})
	must(t, err)
	t.Cleanup(base.Close)
	return base
}

// cutLine is a line to a database that can be cut and mended.
type cutLine struct {
	address string
	t       testing.TB
	network string
	server  string
	listen  string

	mu    sync.Mutex // guards below
	l     net.Listener
	conns map[net.Conn]struct{}
	ended sync.WaitGroup
}

func newCutLine(t testing.TB, address string) *cutLine {
	t.Helper()
	c, err := pgx.ParseConfig(address)
	must(t, err)
	line := &cutLine{t: t, conns: map[net.Conn]struct{}{}, network: "tcp", server: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))}
	if filepath.IsAbs(c.Host) {
		line.network, line.server = "unix", filepath.Join(c.Host, ".s.PGSQL."+strconv.Itoa(int(c.Port)))
	}
	line.l, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	line.listen = line.l.Addr().String()
	line.ended.Go(func() { line.serve(line.l) })
	t.Cleanup(func() { line.cut(); line.ended.Wait() })
	host, port, err := net.SplitHostPort(line.listen)
	must(t, err)
	line.address = "host=" + host + " port=" + port + " dbname=" + c.Database + " user=" + c.User + " sslmode=disable"
	if c.Password != "" {
		line.address += " password='" + c.Password + "'"
	}
	return line
}

func (c *cutLine) serve(l net.Listener) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial(c.network, c.server)
		if err != nil {
			_ = from.Close()
			continue
		}
		c.mu.Lock()
		c.conns[from], c.conns[to] = struct{}{}, struct{}{}
		c.mu.Unlock()
		for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
			c.ended.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_, _ = way[0].Close(), way[1].Close()
			})
		}
	}
}

// cut breaks every connection and refuses new ones.
func (c *cutLine) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.l.Close()
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

func (c *cutLine) mend() {
	c.t.Helper()
	l, err := net.Listen("tcp", c.listen)
	must(c.t, err)
	c.mu.Lock()
	c.l = l
	c.mu.Unlock()
	c.ended.Go(func() { c.serve(l) })
}

// report prints the median and the 99th percentile.
func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "ms-median")
	b.ReportMetric(ms(took[len(took)*99/100]), "ms-p99")
}
