package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/ivr"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/outbox"
	"github.com/pronto-desk/pronto/web"
)

const (
	startLongest = time.Minute      // waiting for the database at the start
	closeLongest = 10 * time.Second // each part's end after the calls have ended
	headerWait   = 10 * time.Second // a browser that sends no request
	idleWait     = 2 * time.Minute  // a browser between two requests
)

// edges are where the house meets the world. Tests replace the wire, the
// prompts and the browsers' listener; all the rest is what ships.
type edges struct {
	packet  []net.PacketConn                         // SIP; nil: listen on the addresses of the settings
	rtp     func(netip.AddrPort) (media.Conn, error) // sound; nil: UDP
	prompts *prompts.Library                         // nil: the Italian ones
	http    net.Listener                             // nil: listen
	listen  bool                                     // LISTEN for other nodes' wake-ups (a blocked LISTEN stops a test's clock)
	log     *slog.Logger
}

// house is every part of the desk, built and not yet running.
type house struct {
	settings
	log      *slog.Logger
	node     string
	db       *db.DB
	book     *tickets.Book
	queue    *queue.Queue
	archive  *recordings.Archive
	prompts  *prompts.Store
	engine   *media.Engine
	agent    *sip.Agent
	traces   *sip.Traces
	names    sip.Locator
	peers    *peers
	desk     *ivr.Desk
	mos      *prometheus.HistogramVec
	regs     *prometheus.GaugeVec
	ups      *prometheus.GaugeVec
	lines    *lines // nil: no trunk takes calls of ours
	hooks    *outbox.Webhooks
	web      *web.Server
	front    *front
	sipPair  *pair // nil: no SIP over TLS
	http     net.Listener
	listen   bool
	draining atomic.Bool
	ready    atomic.Bool
}

// build makes the parts on an open, migrated database.
func build(s settings, d *db.DB, e edges) (*house, error) {
	h := &house{settings: s, log: e.log, db: d, http: e.http, listen: e.listen, mos: newMOS(), regs: newRegs(), ups: newUps()}
	var err error
	if h.node, err = nodeName(s.data); err != nil {
		return nil, err
	}
	if h.archive, err = recordings.Open(s.data, h.node, d, e.log); err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	h.archive.KeepFree(s.keepFree)
	h.archive.Seal(s.keys)
	if h.front, err = s.newFront(e.log); err != nil {
		return nil, err
	}
	secret, err := h.sipCertificate(e.log)
	if err != nil {
		return nil, err
	}
	h.book = tickets.NewBook(d, h.node, h.archive, e.log)
	h.book.Plan = s.plan
	h.queue = queue.New(d, h.node, e.log)
	h.peers = &peers{db: d, queue: h.queue}
	h.archive.OnReplay(h.replay)
	h.engine = media.New(media.Config{MinPort: s.minPort, MaxPort: s.maxPort, Listen: e.rtp, Log: e.log})
	if e.prompts == nil {
		e.prompts = prompts.Italian()
	}
	h.prompts = prompts.NewStore(d, e.prompts, e.log)
	h.desk = &ivr.Desk{
		Tickets: h.book, Queue: h.queue, Archive: h.archive, Prompts: h.prompts.Library(),
		Plan: s.plan, Draining: h.draining.Load, Tap: h.engine.Tap, Log: e.log,
		Judged: func(leg, way string, mos float64) { h.mos.WithLabelValues(leg, way).Observe(mos) },
	}
	var trunks []sip.Trunk
	for _, t := range s.trunks {
		trunks = append(trunks, sip.Trunk{Name: t.name, Networks: t.networks, Lines: t.lines, TLS: t.tls, SRTP: t.srtp})
	}
	h.traces = sip.NewTraces(d, e.log)
	var traced func(sip.Trace)
	if s.traceDays > 0 {
		traced = h.traces.Keep
	}
	places := sip.NewLocations(d, h.node)
	h.agent, err = sip.New(sip.Config{
		Addrs: s.sip, TLSAddrs: s.sipTLS, TLS: secret, SRTP: s.sipSRTP, Packet: e.packet, Trunks: trunks, Realm: s.realm,
		Phones: places, Signed: places.Here, Node: h.node, Peers: h.peers, Media: h.engine, Closing: h.draining.Load, Refer: h.refer, Dialled: h.dialled, Second: h.second, Domains: s.domains(), Traced: traced, Log: e.log, UserAgent: "Pronto/" + version,
		Handle: func(ctx context.Context, c *sip.Call) { h.desk.Answer(ctx, caller{c}) },
	})
	if err != nil {
		return nil, fmt.Errorf("build the user agent: %w", err)
	}
	if h.hooks, err = outbox.New(outbox.Config{DB: d, Log: e.log, AllowPrivate: s.hooksInside}); err != nil {
		return nil, err
	}
	h.web = web.New(web.Config{
		DB: d, Book: h.book, Queue: h.queue, Archive: h.archive, Prompts: h.prompts,
		Plan: s.plan, DialsFreely: s.freely, CanRing: h.canRing, Sound: h.peers.sound, Ready: h.isReady, Metrics: h.metrics(), Log: e.log, PublicURL: s.publicURL,
		Webhooks: h.hooks,
		Traces:   h.traces,
		Alarm:    h.alarm,
	})
	h.desk.Phones = &phones{agent: h.agent, queue: h.queue, web: h.web, log: e.log}
	if out, ok := s.out(); ok {
		h.lines = &lines{agent: h.agent, names: &h.names, out: out, ups: h.ups, log: e.log, silent: map[netip.AddrPort]bool{}}
		h.desk.Lines = h.lines
		h.queue.DialsOut(true)
	}
	return h, nil
}

// recover finishes what a crash of this node left behind. It runs before the
// first INVITE is read: sound becomes messages, contacts get their endings,
// seats are freed.
func (h *house) recover(ctx context.Context) error {
	at := time.Now()
	tapes, err := h.archive.Recover(ctx)
	if err != nil {
		return fmt.Errorf("recover recordings: %w", err)
	}
	found, err := h.book.Recover(ctx, at, tapes)
	if err != nil {
		return fmt.Errorf("recover contacts: %w", err)
	}
	if err := h.queue.Recover(ctx, at); err != nil {
		return fmt.Errorf("recover the queue: %w", err)
	}
	if err := h.prompts.Load(ctx); err != nil { // the first caller hears what was spoken for them
		return err
	}
	if len(found.Messages)+len(found.Faults) > 0 {
		h.log.Warn("finished what a crash left", "messages", found.Messages, "calls_to_ring_back", found.Faults)
	}
	return nil
}

// replay gives a fact from the spool to the part it belongs to.
func (h *house) replay(ctx context.Context, kind string, raw json.RawMessage) error {
	if mine, err := ivr.Replay(ctx, h.queue, kind, raw); mine {
		return err
	}
	return h.book.Replay(ctx, kind, raw)
}

// run answers calls until ctx ends; then it lets calls in progress end, at most
// for the grace of the settings, and closes the parts from the telephone down
// to the disk.
func (h *house) run(ctx context.Context) error {
	if err := h.recover(ctx); err != nil {
		return err
	}
	if err := h.peers.open(ctx); err != nil {
		return err
	}
	if err := h.agent.Listen(); err != nil {
		return fmt.Errorf("listen for calls: %w", err)
	}
	self := queue.Node{SIP: h.agent.Addr().String()}
	var door *nodeDoor
	if h.listen { // a test's own clock knows no other nodes
		var err error
		if door, err = openDoor(h.settings.nodes); err != nil {
			return err
		}
		defer door.listener.Close()
		self.HTTP, self.Pin = door.listener.Addr().String(), door.pin
	}
	if err := h.queue.Announce(ctx, self, time.Now()); err != nil {
		return err
	}
	if h.http == nil {
		l, err := net.Listen("tcp", h.settings.http)
		if err != nil {
			return fmt.Errorf("%w: listen for browsers: %w", errConfig, err)
		}
		h.http = l
	}
	var redirect net.Listener
	if h.redirect != "" {
		var err error
		if redirect, err = net.Listen("tcp", h.redirect); err != nil {
			return fmt.Errorf("%w: listen for browsers in clear: %w", errConfig, err)
		}
	}
	// The calls' parts end first, the others when no call needs them any more.
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	rest, endRest := context.WithCancel(context.WithoutCancel(ctx))
	defer endRest()
	server := &http.Server{
		Handler: h.web.Handler(), ReadHeaderTimeout: headerWait, IdleTimeout: idleWait,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	elsewhere := &http.Server{ // for browsers that come in clear
		Handler: h.front.wrap(redirection(h.publicURL)), ReadHeaderTimeout: redirectedHeader, ReadTimeout: redirectedHeader, WriteTimeout: redirectedHeader,
		ErrorLog: server.ErrorLog,
	}

	var group errgroup.Group
	failed := make(chan error, 16) // a part that ends by itself takes the house down
	start := func(what string, ctx context.Context, run func(context.Context) error) {
		group.Go(func() error {
			err := run(ctx)
			if ctx.Err() != nil {
				err = nil
			} else if err == nil {
				err = errors.New("ended by itself")
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", what, err)
				failed <- err
			}
			return err
		})
	}
	if h.listen { // River's clock is the machine's: not in a test's bubble
		start("webhooks", rest, h.hooks.Run)
		start("wake-ups", rest, h.db.Listen)
		start("nodes", rest, func(ctx context.Context) error { return h.serveDoor(ctx, door) })
		start("leader", rest, func(ctx context.Context) error { return h.db.Lead(ctx, h.lead) })
	}
	start("fence", rest, h.fence)
	start("archive", rest, h.archive.Run)
	start("retention", rest, h.retain)
	start("traces", rest, h.traces.Run)
	start("prompts", rest, h.prompts.Run)
	start("queue", rest, h.queue.Run)
	start("callbacks", calls, func(ctx context.Context) error { return h.queue.Conduct(ctx, h.ringBack) })
	start("media", rest, h.engine.Run)
	start("events", rest, h.web.Run)
	start("telephone", calls, h.agent.Run)
	for _, l := range h.pinged() {
		start("pings", calls, l.ping)
	}
	for _, t := range h.trunks {
		if t.register != "" { // until we close: then the carrier is to send calls elsewhere
			start("registration", ctx, func(ctx context.Context) error { h.keepRegistered(ctx, t); return nil })
		}
	}
	if h.front.run != nil {
		start("certificate", rest, h.front.run)
	}
	if h.sipPair != nil {
		start("certificate for calls", rest, h.sipPair.run)
	}
	serve := func(server *http.Server, l net.Listener) {
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
				return fmt.Errorf("browsers: %w", err)
			}
			return nil
		})
	}
	serve(server, h.front.listener(h.http, h.proxies))
	if redirect != nil {
		serve(elsewhere, redirect)
	}
	h.ready.Store(true)
	h.log.Info("answering calls", "sip", h.settings.sip, "console", h.consoleURL(), "node", h.node)

	select {
	case <-ctx.Done():
	case err := <-failed:
		h.log.Error("a part of the desk broke", "error", err)
	}
	h.drain(ctx)
	endCalls()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLongest)
	defer cancel()
	_ = h.agent.Drained(closing) // their goroutines write how they ended
	endRest()
	_ = elsewhere.Close() // an answer of its own takes no time
	if err := server.Shutdown(closing); err != nil {
		_ = server.Close()
	}
	err := group.Wait()
	h.traces.Flush(context.WithoutCancel(ctx))
	if departErr := h.queue.Depart(context.WithoutCancel(ctx), time.Now()); departErr != nil {
		h.log.Info("the other nodes could not be told", "error", departErr) // they find out
	}
	return err
}

// ringBack conducts an attempt, whose ways are one trace.
func (h *house) ringBack(ctx context.Context, to queue.Ringing) {
	ctx, done := h.agent.Trace(ctx)
	defer done()
	h.desk.RingBack(ctx, to)
}

// drain refuses new calls and waits for those in progress, at most for the grace.
func (h *house) drain(ctx context.Context) {
	h.draining.Store(true)
	h.queue.DialsOut(false)
	n := h.agent.Calls()
	if n == 0 {
		return
	}
	h.log.Info("closing: waiting for calls to end", "calls", n, "at_most", h.grace)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.grace)
	defer cancel()
	if h.agent.Drained(grace) != nil {
		h.log.Warn("closing: calls are being cut", "calls", h.agent.Calls())
	}
}

// isReady tells /readyz why calls are not answered, or nil.
func (h *house) isReady() error {
	switch {
	case !h.ready.Load():
		return errors.New("starting")
	case h.draining.Load():
		return errors.New("closing: new calls are refused")
	}
	return nil
}

// alarm is what a supervisor must know of the installation, or "".
func (h *house) alarm() string {
	if h.archive.HasRoom() {
		return ""
	}
	return "Il disco è quasi pieno: le chiamate proseguono, ma i messaggi in segreteria sono rifiutati. Avvisa chi amministra il sistema."
}

func (h *house) consoleURL() string {
	if h.publicURL != "" {
		return h.publicURL
	}
	return "http://" + h.http.Addr().String()
}

// canRing tells whether a caller given to this operator would be heard of.
func (h *house) canRing(_ int64, extension string) (bool, string) {
	switch {
	case extension == "":
		return false, "Nessun telefono assegnato: chiedi all'amministratore di assegnarti un interno."
	case !h.agent.Registered(extension, time.Now()):
		return false, "Il telefono " + extension + " non è registrato: controlla che sia acceso e collegato."
	}
	return true, ""
}

// nodeName is this server's name in rows: kept in the data directory, so that a
// restart recognises what it left.
func nodeName(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%w: data directory: %w", errConfig, err)
	}
	name, err := readNode(dir)
	if err != nil || name != "" {
		return name, err
	}
	name = "node-" + uuid.NewString()[:8]
	return name, writeFile(filepath.Join(dir, nodeFile), name+"\n", 0o644)
}

// nodeFile keeps the node's name in the data directory.
const nodeFile = "node"

// readNode reads a node's name; "" when it has none yet.
func readNode(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, nodeFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: node name: %w", errConfig, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// writeFile writes a small file whole or not at all, and has it on the disk
// when it returns.
func writeFile(path, text string, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, werr := io.WriteString(f, text)
	if err := errors.Join(werr, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
