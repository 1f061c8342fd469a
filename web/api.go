package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	maxQuery     = 200              // characters of a search
	maxCursor    = 200              // bytes
	contactsMost = 200              // of one answer
	extendLeast  = 10               // seconds of more wrap-up
	extendMost   = 600              // ten minutes at once; it can be asked again
	customersMax = 50               // of a search: more are not read
	playedAgain  = 10 * time.Minute // a player asks for many ranges: one line says that somebody listened
	readyWork    = time.Second      // for the database to answer /readyz
)

// reasons of a break that the console offers; the journal takes codes, not texts.
var reasons = []string{"", "Pausa", "Pranzo", "Formazione", "Riunione"}

var ticketNumber = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,9}$`)

// none is the answer of a command that has nothing to show: 204.
type none struct{}

// list is how the API shows lists: an object, so that it can grow.
type list[T any] struct {
	Items []T `json:"items"`
}

func items[T any](of []T) list[T] {
	if of == nil {
		of = []T{} // [] and not null
	}
	return list[T]{of}
}

// routes is everything the server answers.
func (s *Server) routes() chi.Router {
	r := chi.NewRouter()
	r.Use(s.caught, s.headers)
	r.NotFound(s.getConsole)
	r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, problemf(http.StatusMethodNotAllowed, "Metodo non consentito."))
	})
	r.With(s.crossOrigin).Get("/api/v1/socket", s.getSocket) // outside of bounded: it stays open
	r.Group(func(r chi.Router) {
		r.Use(requestTimes.bounded, s.crossOrigin)
		r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
		r.Get("/readyz", s.getReady)
		if s.Metrics != nil {
			r.Method(http.MethodGet, "/metrics", s.Metrics)
		}
		r.Get("/signin", s.getSignIn)
		r.Post("/signin", s.postSignIn)
		r.Post("/signout", s.postSignOut)
		r.Get("/pages/*", s.getPagesFile)
		r.Get("/assets/*", s.getConsoleFile)
		r.Get("/", s.getConsole)
		r.Get("/*", s.getConsole)
		r.Route("/api/v1", s.api)
	})
	return r
}

// api is the JSON API, for people who signed in.
func (s *Server) api(r chi.Router) {
	r.Use(s.signedIn)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, errNotFound) })
	get := func(path string, fn answer) { r.Get(path, s.json(fn)) }
	post := func(path string, fn answer) { r.Post(path, s.json(fn)) }

	get("/me", func(_ *http.Request, me User) (any, error) { return me, nil })
	get("/snapshot", func(r *http.Request, me User) (any, error) { return s.state(r.Context(), me) })

	get("/operators", func(r *http.Request, _ User) (any, error) { return listed(s.seats(r.Context())) })
	r.Put("/operators/{name}/state", s.json(s.putState))
	post("/operators/{name}/wrapup", s.postWrapUp)
	post("/offers/{id}/painted", s.postPainted)
	post("/offers/{id}/decline", s.postDecline)

	get("/topics", func(r *http.Request, _ User) (any, error) { return listed(s.Book.Topics(r.Context())) })
	get("/call-types", func(*http.Request, User) (any, error) { return items(tickets.CallTypes()), nil })
	get("/outcomes", func(*http.Request, User) (any, error) { return items(tickets.Outcomes()), nil })

	get("/tickets", s.getTickets)
	get("/tickets/{number}", s.getTicket)
	r.Patch("/tickets/{number}", s.json(s.patchTicket))
	post("/tickets/{number}/take", s.postTake)
	post("/tickets/{number}/notes", s.postNote)
	post("/tickets/{number}/close", s.postClose)
	post("/tickets/{number}/reopen", s.postReopen)

	get("/contacts", s.getContacts)
	get("/contacts/{id}", s.getContact)
	r.Get("/contacts/{id}/recording", s.getRecording)
	r.Head("/contacts/{id}/recording", s.getRecording)
	get("/messages", s.getMessages)
	post("/messages/{id}/heard", s.postHeard)
	post("/messages/{id}/take", s.postTakeMessage)
	get("/ringbacks", func(r *http.Request, _ User) (any, error) { return listed(s.Book.RingBacks(r.Context())) })
	post("/ringbacks/{id}/take", s.postTakeRingBack)
	get("/customers", s.getCustomers)
}

// answer is a handler of the API: what it returns is the answer's JSON.
type answer func(r *http.Request, me User) (any, error)

func (s *Server) json(fn answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := fn(r, whoAsks(r).User)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if _, ok := body.(none); ok {
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		writeJSON(w, http.StatusOK, body)
	}
}

func listed[T any](of []T, err error) (any, error) { return items(of), err }

// domainProblem is what the rules of queue and tickets say, nil for other errors.
func domainProblem(err error) *problem {
	var (
		refusal  *tickets.Refusal
		conflict *tickets.ConflictError
	)
	switch {
	case errors.Is(err, tickets.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return errNotFound
	case errors.Is(err, queue.ErrNoSeat):
		return problemf(http.StatusNotFound, "Questa persona non ha una postazione.")
	case errors.Is(err, queue.ErrTooLate), errors.Is(err, queue.ErrDeclined), errors.Is(err, queue.ErrTimedOut), errors.Is(err, queue.ErrWithdrawn):
		return problemf(http.StatusConflict, "La chiamata non è più offerta a questa postazione.")
	case errors.Is(err, recordings.ErrTaken):
		return problemf(http.StatusConflict, "Il messaggio è già stato preso in carico da un'altra persona.")
	case errors.Is(err, queue.ErrNotWrapping):
		return problemf(http.StatusConflict, "La postazione non è in lavorazione post-chiamata.")
	case errors.As(err, &conflict):
		p := problemf(http.StatusConflict, "La scheda è stata modificata nel frattempo: nulla è stato salvato.")
		p.Conflicts = map[string]any{}
		for field, c := range conflict.Fields {
			p.Conflicts[field] = c
		}
		return p
	case errors.As(err, &refusal) && (refusal.Field == "" || refusal.Field == "status" || refusal.Field == "ring_back"):
		return problemf(http.StatusConflict, "%s", refusal.Reason) // somebody was quicker
	case errors.As(err, &refusal):
		return &problem{Status: http.StatusUnprocessableEntity, Title: titles[http.StatusUnprocessableEntity], Detail: refusal.Reason, Field: refusal.Field}
	}
	return nil
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}

// getReady is 200 when calls are answered and kept.
func (s *Server) getReady(w http.ResponseWriter, r *http.Request) {
	if err := s.Ready(); err != nil {
		plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyWork)
	defer cancel()
	if err := s.DB.Pool.Ping(ctx); err != nil {
		plain(w, http.StatusServiceUnavailable, "not ready: the database is away")
		return
	}
	plain(w, http.StatusOK, "ready")
}

// --- operators

// mayActOn finds the operator a request is about: oneself, or anybody for those
// who supervise.
func (s *Server) mayActOn(r *http.Request, me User) (User, error) {
	name := chi.URLParam(r, "name")
	if name == me.Name {
		return me, nil
	}
	if !me.Role.supervises() {
		return User{}, errRole
	}
	u, err := s.users.ByName(r.Context(), name)
	if errors.Is(err, ErrNoUser) {
		return User{}, problemf(http.StatusNotFound, "Non c'è nessun operatore con questo nome.")
	}
	return u, err
}

func (s *Server) putState(r *http.Request, me User) (any, error) {
	u, err := s.mayActOn(r, me)
	if err != nil {
		return nil, err
	}
	in, err := decode[struct {
		Declared queue.Declared `json:"declared"`
		Reason   string         `json:"reason"`
	}](r)
	if err != nil {
		return nil, err
	}
	switch in.Declared {
	case queue.Available, queue.Break, queue.Admin, queue.Off:
	default:
		return nil, refused("declared", "Lo stato è uno di: available, break, admin, off.")
	}
	if !slices.Contains(reasons, in.Reason) || (in.Reason != "" && in.Declared != queue.Break) {
		return nil, refused("reason", "Il motivo è uno di: Pausa, Pranzo, Formazione, Riunione, e vale solo per la pausa.")
	}
	if in.Declared == queue.Available {
		if rings, why := s.CanRing(u.ID, u.Extension); !rings {
			if why == "" {
				why = "Nessun telefono può squillare per questa postazione."
			}
			return nil, problemf(http.StatusConflict, "%s", why)
		}
	}
	if err := s.Queue.Declare(r.Context(), u.ID, string(in.Declared), in.Reason, s.Now()); err != nil {
		return nil, err
	}
	return s.seatOf(r.Context(), u.ID)
}

func (s *Server) seatOf(ctx context.Context, user int64) (any, error) {
	seat, err := s.Queue.Seat(ctx, user)
	if err != nil {
		return nil, err
	}
	return s.seatView(seat), nil
}

func (s *Server) postWrapUp(r *http.Request, me User) (any, error) {
	u, err := s.mayActOn(r, me)
	if err != nil {
		return nil, err
	}
	in, err := decode[struct {
		Extend int `json:"extend"`
	}](r)
	if err != nil {
		return nil, err
	}
	if in.Extend < extendLeast || in.Extend > extendMost {
		return nil, refused("extend", fmt.Sprintf("Il tempo in più va da %d a %d secondi.", extendLeast, extendMost))
	}
	if err := s.Queue.ExtendWrapUp(r.Context(), u.ID, time.Duration(in.Extend)*time.Second, s.Now()); err != nil {
		return nil, err
	}
	return s.seatOf(r.Context(), u.ID)
}

func refused(field, reason string) error { return &tickets.Refusal{Field: field, Reason: reason} }

// pathID reads the {id} of a path.
func pathID(r *http.Request) (uuid.UUID, error) {
	raw := chi.URLParam(r, "id")
	id, err := uuid.Parse(raw)
	if err != nil || len(raw) != 36 { // Parse also takes urn: and braces
		return uuid.Nil, errNotFound
	}
	return id, nil
}

func (s *Server) postPainted(r *http.Request, me User) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return none{}, s.notePainted(r.Context(), me, id)
}

// postDecline is Rifiuta on one's own page; nobody declines for another.
func (s *Server) postDecline(r *http.Request, me User) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	o, err := s.Queue.Offer(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if o.Operator != me.ID {
		return nil, errNotFound
	}
	return none{}, s.Queue.Decline(r.Context(), id, queue.Refused, s.Now())
}

// --- tickets

func number(r *http.Request) (string, error) {
	n := chi.URLParam(r, "number")
	if !ticketNumber.MatchString(n) {
		return "", errNotFound
	}
	return n, nil
}

// query reads a text parameter of limited length.
func query(r *http.Request, name string, most int) (string, error) {
	v := r.URL.Query().Get(name)
	if !utf8.ValidString(v) || utf8.RuneCountInString(v) > most {
		return "", refused(name, fmt.Sprintf("Al massimo %d caratteri.", most))
	}
	return v, nil
}

// limit reads ?limit=, 0 when it is not there.
func limit(r *http.Request, most int) (int, error) {
	raw := r.URL.Query().Get("limit")
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < 1 || n > most {
		return 0, refused("limit", fmt.Sprintf("Un numero da 1 a %d.", most))
	}
	return n, nil
}

func (s *Server) getTickets(r *http.Request, me User) (any, error) {
	q := r.URL.Query()
	f := tickets.Filter{Status: q.Get("status")}
	switch f.Status {
	case "", "open", "closed", "all":
	default:
		return nil, problemf(http.StatusUnprocessableEntity, "Lo stato è uno di: open, closed, all.")
	}
	switch q.Get("owner") {
	case "":
	case "me":
		f.Owner = me.ID
	case "none":
		f.Unowned = true
	default:
		return nil, refused("owner", "Uno di: me, none.")
	}
	var err error
	if f.Query, err = query(r, "q", maxQuery); err != nil {
		return nil, err
	}
	if f.Cursor, err = query(r, "cursor", maxCursor); err != nil {
		return nil, err
	}
	if f.Limit, err = limit(r, tickets.PageMost); err != nil {
		return nil, err
	}
	page, err := s.Book.Tickets(r.Context(), f)
	if err != nil {
		return nil, err
	}
	if page.Items == nil {
		page.Items = []tickets.Ticket{}
	}
	return page, nil
}

func (s *Server) getTicket(r *http.Request, _ User) (any, error) {
	n, err := number(r)
	if err != nil {
		return nil, err
	}
	return s.Book.Ticket(r.Context(), n)
}

func (s *Server) patchTicket(r *http.Request, me User) (any, error) {
	n, err := number(r)
	if err != nil {
		return nil, err
	}
	in, err := decode[struct {
		Base tickets.Fields `json:"base"`
		Set  tickets.Fields `json:"set"`
	}](r)
	if err != nil {
		return nil, err
	}
	if len(in.Set) == 0 {
		return nil, refused("set", "Nessun campo da modificare.")
	}
	return s.Book.Edit(r.Context(), n, me.ID, in.Base, in.Set, s.Now())
}

func (s *Server) postTake(r *http.Request, me User) (any, error) {
	n, err := number(r)
	if err != nil {
		return nil, err
	}
	return s.Book.Take(r.Context(), n, me.ID, s.Now())
}

func (s *Server) postNote(r *http.Request, me User) (any, error) {
	n, err := number(r)
	if err != nil {
		return nil, err
	}
	in, err := decode[struct {
		Text string `json:"text"`
	}](r)
	if err != nil {
		return nil, err
	}
	return s.Book.AddNote(r.Context(), n, me.ID, in.Text, s.Now())
}

func (s *Server) postClose(r *http.Request, me User) (any, error) {
	n, err := number(r)
	if err != nil {
		return nil, err
	}
	in, err := decode[struct {
		Outcome  string `json:"outcome"`
		Solution string `json:"solution"`
	}](r)
	if err != nil {
		return nil, err
	}
	return s.Book.Close(r.Context(), n, me.ID, in.Outcome, in.Solution, s.Now())
}

func (s *Server) postReopen(r *http.Request, me User) (any, error) {
	n, err := number(r)
	if err != nil {
		return nil, err
	}
	return s.Book.Reopen(r.Context(), n, me.ID, s.Now())
}

func (s *Server) getCustomers(r *http.Request, _ User) (any, error) {
	q, err := query(r, "q", maxQuery)
	if err != nil {
		return nil, err
	}
	most, err := limit(r, customersMax)
	if err != nil {
		return nil, err
	}
	if most == 0 {
		most = customersMax
	}
	return listed(s.Book.Customers(r.Context(), q, most))
}

// --- contacts, messages, calls to ring back

func (s *Server) getContacts(r *http.Request, _ User) (any, error) {
	f := tickets.ContactFilter{}
	var err error
	if f.CallID, err = query(r, "call_id", maxQuery); err != nil {
		return nil, err
	}
	if f.Limit, err = limit(r, contactsMost); err != nil {
		return nil, err
	}
	return listed(s.Book.Contacts(r.Context(), f))
}

func (s *Server) getContact(r *http.Request, _ User) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return s.Book.ContactOf(r.Context(), id)
}

// getRecording plays a message (WAV, with ranges). Who listened is journalled
// before the first byte goes out.
func (s *Server) getRecording(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	sound, at, err := s.Archive.Message(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer func() { _ = sound.Close() }()
	if r.Method == http.MethodGet {
		if err := s.notePlayed(r.Context(), whoAsks(r).User, id); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "audio/wav")
	h.Set("Content-Disposition", `inline; filename="`+id.String()+`.wav"`)
	h.Set("Cache-Control", "private, no-store")
	http.ServeContent(w, r, "", at, sound)
}

// played is the journal's kind for somebody who listened to a recording.
const played journal.Kind = "played"

// heard remembers who listened to what lately: a player asks for a recording in
// many ranges, which are one listening.
type heard struct {
	mu    sync.Mutex // guards since
	since map[listening]time.Time
}

type listening struct {
	user    int64
	contact uuid.UUID
}

func newHeard() *heard { return &heard{since: map[listening]time.Time{}} }

// again tells whether this listening goes on; a new one is remembered.
func (h *heard) again(l listening, at time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for old, since := range h.since {
		if at.Sub(since) > playedAgain {
			delete(h.since, old)
		}
	}
	_, known := h.since[l]
	if !known {
		h.since[l] = at
	}
	return known
}

func (h *heard) forget(l listening) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.since, l)
}

func (s *Server) notePlayed(ctx context.Context, u User, contact uuid.UUID) error {
	l := listening{u.ID, contact}
	at := s.Now()
	if s.heard.again(l, at) {
		return nil
	}
	err := s.DB.Tx(ctx, func(tx *db.Tx) error {
		tx.Wake("journal")
		return journal.Append(ctx, tx, journal.Line{
			Stream: journal.ContactStream(contact), At: at, Kind: played,
			Contact: uuid.NullUUID{UUID: contact, Valid: true}, User: u.ID,
		})
	})
	if err != nil {
		s.heard.forget(l)
	}
	return err
}

func (s *Server) getMessages(r *http.Request, _ User) (any, error) {
	f := recordings.Filter{Limit: messagesMax}
	switch r.URL.Query().Get("state") {
	case "", "all":
	case messageNew:
		f.State = messageNew
	default:
		return nil, refused("state", "Uno di: new, all.")
	}
	return listed(s.messages(r.Context(), f))
}

func (s *Server) postHeard(r *http.Request, me User) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return none{}, s.Archive.Heard(r.Context(), id, me.ID, s.Now())
}

func (s *Server) postTakeMessage(r *http.Request, me User) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return none{}, s.Archive.Take(r.Context(), id, me.ID, s.Now())
}

func (s *Server) postTakeRingBack(r *http.Request, me User) (any, error) {
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	return s.Book.TakeRingBack(r.Context(), id, me.ID, s.Now())
}
