package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/private"
)

type serveCommand struct {
	common
	SIP           []string `name:"sip" help:"Address and port for calls, UDP and TCP; may be repeated." placeholder:"IP:PORT"`
	RTP           string   `name:"rtp" help:"Ports for sound." placeholder:"FROM-TO"`
	HTTP          string   `name:"http" help:"Address and port of the console." placeholder:"IP:PORT"`
	Demo          bool     `help:"Add the demo's services, people and telephones, and trust calls from this machine."`
	DemoOperators int      `help:"How many operators the demo has." default:"2" placeholder:"N"`
}

// change lays the flags over the file.
func (c serveCommand) change(cfg *Config) {
	if len(c.SIP) > 0 {
		cfg.SIP.Listen = c.SIP
	}
	if c.RTP != "" {
		cfg.RTP.Ports = c.RTP
	}
	if c.HTTP != "" {
		cfg.HTTP.Listen = c.HTTP
	}
	if c.Demo {
		cfg.SIP.Trunks = append(cfg.SIP.Trunks, TrunkConfig{Name: "demo", Networks: []string{"127.0.0.0/26", "::1"}})
	}
}

// Run serves until SIGTERM or SIGINT.
func (c serveCommand) Run(ctx context.Context) error {
	s, err := c.common.settings(c.change)
	if err != nil {
		return err
	}
	if c.Demo && (c.DemoOperators < 1 || c.DemoOperators > maxDemoOperators) {
		return fmt.Errorf("%w: --demo-operators: between 1 and %d", errConfig, maxDemoOperators)
	}
	if os.Getenv("GOGC") == "" { // whoever sets it means it
		debug.SetGCPercent(gcPercent)
		defer tend(ctx, tendCollector)()
	}
	log := newLog(s)
	slog.SetDefault(log)
	unlock, err := lockData(s.data)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.listenable(); err != nil { // before a database is made in vain
		return err
	}

	d, closeDB, err := openDatabase(ctx, s, log)
	if err != nil && ctx.Err() != nil {
		log.Info("closed before it was ready")
		return nil
	}
	if err != nil {
		return err
	}
	defer closeDB()
	h, err := build(s, d, edges{listen: true, log: log})
	if err != nil {
		return err
	}
	if c.Demo {
		if err := h.seedDemo(ctx, c.DemoOperators); err != nil {
			return fmt.Errorf("demo data: %w", err)
		}
	}
	if os.Getenv("GOMAXPROCS") == "" {
		defer tend(ctx, func(ctx context.Context) { tendProcessors(ctx, h.engine.Crowded) })()
	}
	if err := h.run(ctx); err != nil {
		return err
	}
	log.Info("closed")
	return nil
}

// tend runs something beside the rest, until what it returns is called, which waits for it.
func tend(ctx context.Context, run func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	return func() { cancel(); running.Wait() }
}

// openDatabase connects to the configured PostgreSQL, or starts the private one
// and keeps it running, and brings it to this version's schema.
func openDatabase(ctx context.Context, s settings, log *slog.Logger) (*db.DB, func(), error) {
	d, closeDB, err := connectDatabase(ctx, s, log)
	if err != nil {
		return nil, nil, err
	}
	if err := migrate(ctx, d, log); err != nil {
		closeDB()
		return nil, nil, err
	}
	return d, closeDB, nil
}

// connectDatabase is openDatabase with the schema as it is.
func connectDatabase(ctx context.Context, s settings, log *slog.Logger) (*db.DB, func(), error) {
	url, stop := s.database, func() {}
	if url == "" {
		server, err := private.Start(ctx, private.Config{Dir: s.data, Log: log})
		if err != nil {
			return nil, nil, fmt.Errorf("private database: %w", err)
		}
		url = server.URL()
		keep, end := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() { // ends by stop, after the pool is closed
			defer close(done)
			if err := server.Run(keep); err != nil && keep.Err() == nil {
				log.Error("the private database stays down", "error", err)
			}
		}()
		stop = func() { end(); <-done; server.Stop() }
	}
	d, err := db.Open(ctx, db.Config{URL: url, Log: log})
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("%w: database: %w", errConfig, err)
	}
	return d, func() { d.Close(); stop() }, nil
}

// migrate brings the schema up, waiting a while for a database that is not
// there yet: at the start of a machine the two come up in any order.
func migrate(ctx context.Context, d *db.DB, log *slog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLongest, fmt.Errorf("the database was not there within %s", startLongest))
	defer cancel()
	var before error // what the last try but one said: the last is cut off by ctx
	for {
		err := d.Migrate(ctx)
		switch {
		case err == nil || !db.Away(err):
			return err
		case ctx.Err() != nil && before != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), before)
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case before == nil:
			log.Warn("waiting for the database", "at_most", startLongest, "error", err)
		}
		before = err
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// lockData makes this process the only server of a data directory: two would
// write one spool.
func lockData(dir string) (unlock func(), err error) {
	unlock, err = lockDir(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, unfinishedRestore)); err == nil {
		unlock()
		return nil, fmt.Errorf("%w: a restore into %s was cut off: do it again with the same backup", errConfig, dir)
	}
	return unlock, nil
}

func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("%w: data directory: %w", errConfig, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: data directory: %w", errConfig, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another pronto serves %s: end it first, or give this one a directory of its own with --data", errConfig, dir)
		}
		return nil, fmt.Errorf("%w: lock %s: %w", errConfig, dir, err)
	}
	return func() { f.Close() }, nil
}

// listenable opens every address for a moment, and says of each that cannot be
// had which it is and what to do.
func (s settings) listenable() error {
	var wrong []error
	for _, a := range s.sip {
		udp, err := net.ListenPacket("udp", a.String())
		if err == nil {
			err = udp.Close()
		}
		if err == nil && a.Port() != 0 { // a port that the system chooses is another for TCP
			err = tryTCP(a.String())
		}
		if err != nil {
			wrong = append(wrong, addressFault("sip.listen (--sip)", a.String(), err))
		}
	}
	for _, a := range s.sipTLS {
		if err := tryTCP(a.String()); err != nil {
			wrong = append(wrong, addressFault("sip.tls_listen", a.String(), err))
		}
	}
	if err := tryTCP(s.http); err != nil {
		wrong = append(wrong, addressFault("http.listen (--http)", s.http, err))
	}
	if s.redirect != "" {
		if err := tryTCP(s.redirect); err != nil {
			wrong = append(wrong, addressFault("http.redirect", s.redirect, err))
		}
	}
	return errors.Join(wrong...)
}

func tryTCP(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// addressFault says in an administrator's words why an address cannot be had.
// What another program or the network may still change is no fault of the
// configuration: a supervisor of processes should try again.
func addressFault(key, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use by another program (`ss -lnptu` names it): end it, or choose another port", key, address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is no address of this machine (`ip address` lists them)", key, address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: %s: %s needs a privilege: choose a port above 1023", errConfig, key, address)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// newLog writes to standard error; rotation is the system's.
func newLog(s settings) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.logLevel)) // checked by Config.check
	o := &slog.HandlerOptions{Level: level}
	if s.logJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
