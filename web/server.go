// Package web is the desk seen through a browser: sign-in, the JSON API, the
// operators' websocket and the embedded console. It shows and commands what
// tickets, queue and recordings hold; it decides nothing about a call itself.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/outbox"
)

// Config is what a Server shows and commands. DB, Book, Queue, Archive, Prompts
// and Webhooks are required; the rest has defaults.
type Config struct {
	DB      *db.DB
	Book    *tickets.Book
	Queue   *queue.Queue
	Archive *recordings.Archive
	Prompts *prompts.Store
	Plan    tickets.DialPlan // whom the desk may ring back; none: nobody

	DialsFreely []Role // who may give a caller to a number of their own choice, within Plan

	Webhooks *outbox.Webhooks // who is told of what happens
	Traces   *sip.Traces      // the signalling of calls; nil: there is none

	// CanRing tells whether something rings when a caller is offered to this
	// user, and if not, why (Italian, shown to the operator). It is asked for
	// every seat that is shown, so it answers from memory. nil: always yes.
	CanRing func(user int64, extension string) (bool, string)

	// Ready tells why calls are not answered, or nil. nil: ready.
	Ready func() error

	// Sound asks another node for a message or a talk ("sound", "talk") that is on
	// its disk; the headers are those of a browser that asks for a part of it. nil, or an error: that node
	// cannot be asked now.
	Sound func(ctx context.Context, node, what string, contact uuid.UUID, method string, headers http.Header) (*http.Response, error)

	// Alarm is what a supervisor must know of the installation (Italian), or "".
	// It is asked with every tick of a supervisor's page. nil: nothing.
	Alarm func() string

	Metrics   http.Handler     // /metrics; nil: 404
	Log       *slog.Logger     // nil: slog.Default()
	Now       func() time.Time // nil: time.Now
	PublicURL string           // as browsers reach the desk; https makes cookies Secure. "": http, any host
}

// Server serves the console and its API. Handler answers requests, Run feeds
// the sockets: both are needed.
type Server struct {
	Config
	users    *Users
	sessions *scs.SessionManager
	kept     *sessionStore
	doors    *doors
	hub      *hub
	painted  *painted
	own      *db.DB        // what stands between a change and the screens is read by it, in front of all else
	pops     *tickets.Book // Config's, by own
	heard    *heard
	router   chi.Router

	described func() ([]byte, error) // the API's description, as JSON
}

// New builds a Server; nothing runs yet and the database is not touched.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CanRing == nil {
		c.CanRing = func(int64, string) (bool, string) { return true, "" }
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Alarm == nil {
		c.Alarm = func() string { return "" }
	}
	s := &Server{Config: c}
	if c.DB != nil { // without one the API can be described, and no more
		s.own = c.DB.Own()
		s.pops = c.Book.Through(s.own)
	}
	s.users = NewUsers(c.DB, c.Now)
	s.kept = newSessionStore(c.DB, c.Now)
	s.sessions = newSessions(s.kept, s.secure())
	s.doors = newDoors()
	s.hub = newHub()
	s.painted = newPainted()
	s.heard = newHeard()
	s.router = s.routes()
	return s
}

// secure tells whether browsers reach us by https.
func (s *Server) secure() bool {
	u, err := url.Parse(s.PublicURL)
	return err == nil && u.Scheme == "https"
}

// Handler answers everything under the server's address.
func (s *Server) Handler() http.Handler { return s.router }

// Users is the store of the people who sign in.
func (s *Server) Users() *Users { return s.users }

// Pages tells how many console pages this user has open on this node.
func (s *Server) Pages(user int64) int { return s.hub.pages(user) }

// Painted returns a channel that is closed once a page has painted this
// offer's screen-pop, whether before or after this call and on whichever node.
// When ctx ends the wait is forgotten: the channel then stays open.
func (s *Server) Painted(ctx context.Context, offer uuid.UUID) <-chan struct{} {
	return s.painted.wait(ctx, offer)
}
