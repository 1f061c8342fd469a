package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	customersMax = 50               // of a page
	searchShown  = 10               // of each group of a search
	playedAgain  = 10 * time.Minute // a player asks for many ranges: one line says that somebody listened
	readyWork    = time.Second      // for the database to answer /readyz
)

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
		r.Get("/reset", s.getReset)
		r.Post("/reset", s.postReset)
		r.Get("/password", s.getPassword)
		r.Post("/password", s.postPassword)
		r.Get("/pages/*", s.getPagesFile)
		r.Get("/assets/*", s.getConsoleFile)
		r.Get("/api/openapi.json", s.getOpenAPI)
		r.Get("/", s.getConsole)
		r.Get("/*", s.getConsole)
	})
	r.Route("/api/v1", func(r chi.Router) {
		r.Use(requestTimes.timed, s.crossOrigin) // each operation has limits of its own
		s.api(r)
	})
	return r
}

// api is the JSON API, for people who signed in. How an operation is added is
// in docs/decisions/0011; what has other answers than JSON is plain chi.
func (s *Server) api(r chi.Router) {
	r.Use(s.signedIn)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, errNotFound) })
	a := newOperations(s, r)
	s.operatorsAPI(a)
	s.ticketsAPI(a)
	s.contactsAPI(a)
	s.tracesAPI(a)
	s.registerAPI(a)
	s.listenersAPI(a)
	s.tokensAPI(a)
	s.servicesAPI(a)
	s.topicsAPI(a)
	s.webhooksAPI(a)
	s.callbacksAPI(a)
	s.talkAPI(a)
	s.supervisionAPI(a)
	s.passwordsAPI(a)
	s.accountsAPI(a)
	s.promptsAPI(a)
	r.With(requestTimes.bounded).Get("/contacts/{id}/recording", s.getRecording)
	r.With(requestTimes.bounded).Head("/contacts/{id}/recording", s.getRecording)
	r.With(requestTimes.bounded).Get("/contacts/{id}/talk", s.getTalk)
	r.With(requestTimes.bounded).Head("/contacts/{id}/talk", s.getTalk)
	r.With(requestTimes.bounded).Get("/prompts/{name}/sound", s.getPromptSound)
	r.With(requestTimes.bounded).Head("/prompts/{name}/sound", s.getPromptSound)
	a.describeSound()
	s.described = a.finish()
}

// domainProblem is what the rules of queue and tickets say, nil for other errors.
func domainProblem(err error) *problem {
	var (
		refusal  *tickets.Refusal
		conflict *tickets.ConflictError
		faulty   *tickets.FaultyError
		unheard  *prompts.Refused
	)
	switch {
	case errors.Is(err, tickets.ErrNotFound), errors.Is(err, queue.ErrNoCallback), errors.Is(err, fs.ErrNotExist):
		return errNotFound
	case errors.Is(err, queue.ErrNoSeat):
		return problemf(http.StatusNotFound, "Questa persona non ha una postazione.")
	case errors.Is(err, queue.ErrTooLate), errors.Is(err, queue.ErrDeclined), errors.Is(err, queue.ErrTimedOut), errors.Is(err, queue.ErrWithdrawn):
		return problemf(http.StatusConflict, "La chiamata non è più offerta a questa postazione.")
	case errors.Is(err, recordings.ErrTaken):
		return problemf(http.StatusConflict, "Il messaggio è già stato preso in carico da un'altra persona.")
	case errors.Is(err, recordings.ErrLocked):
		return problemf(http.StatusLocked, "La registrazione è cifrata con una chiave che il server non ha, e non si può ascoltare. Non è persa: avvisa chi amministra il server.")
	case errors.Is(err, recordings.ErrDamaged):
		return problemf(http.StatusInternalServerError, "Il file della registrazione è danneggiato e non si può ascoltare. Avvisa chi amministra il server: può averne una copia.")
	case callbackReason(err) != "":
		return problemf(http.StatusConflict, "%s", callbackReason(err))
	case talkReason(err) != "":
		return problemf(http.StatusConflict, "%s", talkReason(err))
	case errors.Is(err, queue.ErrNotWrapping):
		return problemf(http.StatusConflict, "La postazione non è in lavorazione post-chiamata.")
	case errors.As(err, &conflict):
		p := problemf(http.StatusConflict, "La scheda è stata modificata nel frattempo: nulla è stato salvato.")
		p.Conflicts = map[string]any{}
		for field, c := range conflict.Fields {
			p.Conflicts[field] = c
		}
		return p
	case errors.As(err, &faulty):
		p := problemf(http.StatusUnprocessableEntity, "La bozza non si può pubblicare finché ci sono errori.")
		p.Faults = faulty.Faults
		return p
	case errors.As(err, &unheard) && unheard.Field == "":
		return problemf(http.StatusConflict, "%s", unheard.Reason)
	case errors.As(err, &unheard):
		return fieldProblem(unheard.Field, unheard.Reason)
	case errors.As(err, &refusal) && (refusal.Field == "" || refusal.Field == "status" || refusal.Field == "ring_back"):
		return problemf(http.StatusConflict, "%s", refusal.Reason) // somebody was quicker
	case errors.As(err, &refusal):
		return fieldProblem(refusal.Field, refusal.Reason)
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
	if s.Alarm() != "" { // calls are answered all the same
		plain(w, http.StatusOK, "ready, and the disk is nearly full: messages are refused")
		return
	}
	plain(w, http.StatusOK, "ready")
}

// --- operators

func (s *Server) operatorsAPI(a *operations) {
	provide(a, operation{at: "GET /me", id: "getMe", does: "Who is signed in."},
		func(_ context.Context, me User, _ *nothing) (User, error) { return me, nil })
	provide(a, operation{at: "GET /snapshot", id: "getSnapshot", does: "Everything a console page starts from."},
		func(ctx context.Context, me User, _ *nothing) (*state, error) { return s.state(ctx, me) })
	provide(a, operation{at: "GET /operators", id: "listOperators", does: "Everybody at work, as screens show them."},
		func(ctx context.Context, _ User, _ *nothing) (list[seatView], error) { return listed(s.seats(ctx)) })
	provide(a, operation{at: "GET /figures/today", id: "countToday", does: "The calls of today so far: received, answered, abandoned, also by topic.", by: supervisors},
		func(ctx context.Context, _ User, _ *nothing) (*tickets.Today, error) {
			return s.Book.Today(ctx, s.Now())
		})
	provide(a, operation{at: "PUT /operators/{name}/state", id: "declareState", does: "Declares what somebody is ready for: oneself, or with a supervisor's role anybody."}, s.putState)
	provide(a, operation{at: "POST /operators/{name}/wrapup", id: "extendWrapUp", does: "Gives more time after a call."}, s.postWrapUp)
	provide(a, operation{at: "POST /offers/{id}/painted", id: "notePainted", does: "Tells that the page shows who is calling."}, s.postPainted)
	provide(a, operation{at: "POST /offers/{id}/decline", id: "declineOffer", does: "Refuses a call that is offered to oneself."}, s.postDecline)
}

// OperatorPath is the input of an operation on somebody's seat.
type OperatorPath struct {
	Name string `path:"name" doc:"The user's name."`
}

// mayActOn finds the operator a request is about: oneself, or anybody for those
// who supervise.
func (s *Server) mayActOn(ctx context.Context, me User, name string) (User, error) {
	if name == me.Name {
		return me, nil
	}
	if !me.Role.supervises() {
		return User{}, errRole
	}
	u, err := s.users.ByName(ctx, name)
	if errors.Is(err, ErrNoUser) {
		return User{}, problemf(http.StatusNotFound, "Non c'è nessun operatore con questo nome.")
	}
	return u, err
}

type stateInput struct {
	OperatorPath
	Body struct {
		Declared queue.Declared `json:"declared" enum:"available,break,admin,off" wants:"Lo stato è uno di: available, break, admin, off."`
		Reason   string         `json:"reason,omitempty" enum:",Pausa,Pranzo,Formazione,Riunione" wants:"Il motivo è uno di: Pausa, Pranzo, Formazione, Riunione, e vale solo per la pausa."`
	}
}

func (s *Server) putState(ctx context.Context, me User, in *stateInput) (seatView, error) {
	u, err := s.mayActOn(ctx, me, in.Name)
	if err != nil {
		return seatView{}, err
	}
	if in.Body.Reason != "" && in.Body.Declared != queue.Break {
		return seatView{}, refused("reason", "Il motivo è uno di: Pausa, Pranzo, Formazione, Riunione, e vale solo per la pausa.")
	}
	if in.Body.Declared == queue.Available {
		if rings, why := s.CanRing(u.ID, u.Extension); !rings {
			if why == "" {
				why = "Nessun telefono può squillare per questa postazione."
			}
			return seatView{}, problemf(http.StatusConflict, "%s", why)
		}
	}
	if u.ID == me.ID {
		err = s.Queue.Declare(ctx, u.ID, string(in.Body.Declared), in.Body.Reason, s.Now())
	} else {
		err = s.Queue.Force(ctx, u.ID, me.ID, string(in.Body.Declared), in.Body.Reason, s.Now())
	}
	if err != nil {
		return seatView{}, err
	}
	return s.seatOf(ctx, u.ID)
}

func (s *Server) seatOf(ctx context.Context, user int64) (seatView, error) {
	seat, err := s.Queue.Seat(ctx, user)
	if err != nil {
		return seatView{}, err
	}
	return s.seatView(seat), nil
}

type wrapUpInput struct {
	OperatorPath
	Body struct {
		Extend int `json:"extend" minimum:"10" maximum:"600" doc:"Seconds." wants:"Il tempo in più va da 10 a 600 secondi."`
	}
}

func (s *Server) postWrapUp(ctx context.Context, me User, in *wrapUpInput) (seatView, error) {
	u, err := s.mayActOn(ctx, me, in.Name)
	if err != nil {
		return seatView{}, err
	}
	if err := s.Queue.ExtendWrapUp(ctx, u.ID, time.Duration(in.Body.Extend)*time.Second, s.Now()); err != nil {
		return seatView{}, err
	}
	return s.seatOf(ctx, u.ID)
}

func refused(field, reason string) error { return &tickets.Refusal{Field: field, Reason: reason} }

func (s *Server) postPainted(ctx context.Context, me User, in *IDPath) (nothing, error) {
	return nothing{}, s.notePainted(ctx, me, in.ID)
}

// postDecline is Rifiuta on one's own page; nobody declines for another.
func (s *Server) postDecline(ctx context.Context, me User, in *IDPath) (nothing, error) {
	o, err := s.Queue.Offer(ctx, in.ID)
	if err != nil {
		return nothing{}, err
	}
	if o.Operator != me.ID {
		return nothing{}, errNotFound
	}
	return nothing{}, s.Queue.Decline(ctx, in.ID, queue.Refused, s.Now())
}

// --- tickets

func (s *Server) ticketsAPI(a *operations) {
	provide(a, operation{at: "GET /topics", id: "listTopics", does: "What a caller can choose in a menu."},
		func(ctx context.Context, _ User, _ *nothing) (list[tickets.Topic], error) {
			return listed(s.Book.Topics(ctx))
		})
	provide(a, operation{at: "GET /call-types", id: "listCallTypes", does: "What a call can be about."},
		func(context.Context, User, *nothing) (list[tickets.Code], error) {
			return items(tickets.CallTypes()), nil
		})
	provide(a, operation{at: "GET /outcomes", id: "listOutcomes", does: "How a ticket can be closed."},
		func(context.Context, User, *nothing) (list[tickets.Code], error) {
			return items(tickets.Outcomes()), nil
		})

	provide(a, operation{at: "GET /tickets", id: "listTickets", does: "Tickets, newest first, in pages."}, s.getTickets)
	provide(a, operation{at: "GET /tickets/{number}", id: "getTicket", does: "A ticket with all that happened to it."},
		func(ctx context.Context, _ User, in *TicketPath) (*tickets.TicketPage, error) {
			return s.Book.Ticket(ctx, in.Number)
		})
	provide(a, operation{at: "PATCH /tickets/{number}", id: "editTicket", does: "Changes fields; 409 with who and what when somebody else was quicker, and then nothing is saved."}, s.patchTicket)
	provide(a, operation{at: "POST /tickets/{number}/take", id: "takeTicket", does: "Takes a ticket in charge."},
		func(ctx context.Context, me User, in *TicketPath) (*tickets.Ticket, error) {
			return s.Book.Take(ctx, in.Number, me.ID, s.Now())
		})
	provide(a, operation{at: "POST /tickets/{number}/notes", id: "addNote", does: "Adds a note."}, s.postNote)
	provide(a, operation{at: "POST /tickets/{number}/close", id: "closeTicket", does: "Closes a ticket with an outcome."}, s.postClose)
	provide(a, operation{at: "POST /tickets/{number}/reopen", id: "reopenTicket", does: "Opens a closed ticket again."},
		func(ctx context.Context, me User, in *TicketPath) (*tickets.Ticket, error) {
			return s.Book.Reopen(ctx, in.Number, me.ID, s.Now())
		})
	provide(a, operation{at: "GET /search", id: "search", does: "Finds tickets, people and telephone numbers, misspelt ones too."}, s.getSearch)
}

type searchInput struct {
	Query  string `query:"q" maxLength:"200" doc:"Words, a ticket's number, a telephone number or a part of one."`
	In     string `query:"in" enum:"tickets,people,numbers" doc:"One group; left out, the beginning of each."`
	Cursor string `query:"cursor" maxLength:"200" doc:"The next of the group's page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"50"`
}

func (s *Server) getSearch(ctx context.Context, _ User, in *searchInput) (tickets.Found, error) {
	return s.Book.Search(ctx, in.Query, in.In, in.Cursor, limited(in.Limit, searchShown))
}

func limited(asked, otherwise int) int {
	if asked == 0 {
		return otherwise
	}
	return asked
}

type ticketsInput struct {
	Status   string `query:"status" enum:"open,closed,all" wants:"Lo stato è uno di: open, closed, all."`
	Owner    string `query:"owner" enum:"me,none"`
	Customer int64  `query:"customer" minimum:"1" doc:"The id of a person of the register."`
	Query    string `query:"q" maxLength:"200" doc:"Words, a number, a name."`
	Cursor   string `query:"cursor" maxLength:"200" doc:"The next of the page before."`
	Limit    int    `query:"limit" minimum:"1" maximum:"200"`
}

func (s *Server) getTickets(ctx context.Context, me User, in *ticketsInput) (tickets.Page[tickets.Ticket], error) {
	f := tickets.Filter{Status: in.Status, Customer: in.Customer, Query: in.Query, Cursor: in.Cursor, Limit: in.Limit}
	switch in.Owner {
	case "me":
		f.Owner = me.ID
	case "none":
		f.Unowned = true
	}
	page, err := s.Book.Tickets(ctx, f)
	if page.Items == nil {
		page.Items = []tickets.Ticket{}
	}
	return page, err
}

type editInput struct {
	TicketPath
	Body struct {
		Base tickets.Fields `json:"base,omitempty" doc:"The fields as the editor saw them."`
		Set  tickets.Fields `json:"set" doc:"The fields as they shall be."`
	}
}

func (s *Server) patchTicket(ctx context.Context, me User, in *editInput) (*tickets.Ticket, error) {
	if len(in.Body.Set) == 0 {
		return nil, refused("set", "Nessun campo da modificare.")
	}
	return s.Book.Edit(ctx, in.Number, me.ID, in.Body.Base, in.Body.Set, s.Now())
}

type noteInput struct {
	TicketPath
	Body struct {
		Text string `json:"text"`
	}
}

func (s *Server) postNote(ctx context.Context, me User, in *noteInput) (*tickets.Ticket, error) {
	return s.Book.AddNote(ctx, in.Number, me.ID, in.Body.Text, s.Now())
}

type closeInput struct {
	TicketPath
	Body struct {
		Outcome  string `json:"outcome" doc:"A code of /outcomes."`
		Solution string `json:"solution,omitempty"`
	}
}

func (s *Server) postClose(ctx context.Context, me User, in *closeInput) (*tickets.Ticket, error) {
	return s.Book.Close(ctx, in.Number, me.ID, in.Body.Outcome, in.Body.Solution, s.Now())
}

// --- contacts, messages, calls to ring back

func (s *Server) contactsAPI(a *operations) {
	provide(a, operation{at: "GET /contacts", id: "listContacts", does: "Contacts with their journals, newest first. Whose talks they were is told by Call-ID and one by one only: with their times a list would be figures of workers."}, s.getContacts)
	provide(a, operation{at: "GET /contacts/{id}", id: "getContact", does: "One contact with its journal."},
		func(ctx context.Context, _ User, in *IDPath) (*tickets.Record, error) {
			return s.Book.ContactOf(ctx, in.ID)
		})
	provide(a, operation{at: "GET /messages", id: "listMessages", does: "Messages that callers left."}, s.getMessages)
	provide(a, operation{at: "POST /messages/{id}/heard", id: "noteHeard", does: "Marks a message as heard."},
		func(ctx context.Context, me User, in *IDPath) (nothing, error) {
			return nothing{}, s.Archive.Heard(ctx, in.ID, me.ID, s.Now())
		})
	provide(a, operation{at: "POST /messages/{id}/take", id: "takeMessage", does: "Takes a message in charge."},
		func(ctx context.Context, me User, in *IDPath) (nothing, error) {
			return nothing{}, s.Archive.Take(ctx, in.ID, me.ID, s.Now())
		})
	provide(a, operation{at: "GET /ringbacks", id: "listRingBacks", does: "Lost calls that nobody has rung back."},
		func(ctx context.Context, _ User, _ *nothing) (list[tickets.Record], error) {
			return listed(s.Book.RingBacks(ctx))
		})
	provide(a, operation{at: "POST /ringbacks/{id}/take", id: "takeRingBack", does: "Takes a lost call in charge."},
		func(ctx context.Context, me User, in *IDPath) (*tickets.Record, error) {
			return s.Book.TakeRingBack(ctx, in.ID, me.ID, s.Now())
		})
}

type contactsInput struct {
	CallID string `query:"call_id" maxLength:"200" doc:"The Call-ID of its INVITE."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200"`
}

func (s *Server) getContacts(ctx context.Context, _ User, in *contactsInput) (list[tickets.Record], error) {
	all, err := s.Book.Contacts(ctx, tickets.ContactFilter{CallID: in.CallID, Limit: in.Limit})
	if in.CallID == "" {
		unnamed(all)
	}
	return listed(all, err)
}

// unnamed takes out of a list of talks whose they were: beside their times and their
// quality that is remote monitoring of workers, which needs an agreement that nothing
// here knows of (art. 4 of law 300/1970; docs/decisions/0045).
func unnamed(all []tickets.Record) {
	for i := range all {
		all[i].Operator = nil
		for _, line := range all[i].Journal {
			delete(line.Data, "operator")
			delete(line.Data, "by")
		}
	}
}

// pathID reads the {id} of a path that is plain chi.
func pathID(r *http.Request) (uuid.UUID, error) {
	raw := chi.URLParam(r, "id")
	id, err := uuid.Parse(raw)
	if err != nil || len(raw) != 36 { // Parse also takes urn: and braces
		return uuid.Nil, errNotFound
	}
	return id, nil
}

// getRecording plays a message (WAV, with ranges). Who listened is journalled
// before the first byte goes out.
func (s *Server) getRecording(w http.ResponseWriter, r *http.Request) {
	s.playback(w, r, "sound", s.Archive.Message)
}

// getTalk plays a recorded talk likewise, to supervisors: it is what an operator
// said, too.
func (s *Server) getTalk(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(supervisors, whoAsks(r).Role) {
		s.fail(w, r, errRole)
		return
	}
	s.playback(w, r, "talk", s.Archive.TalkSound)
}

// playback plays what open finds on this node's disk, or another's.
func (s *Server) playback(w http.ResponseWriter, r *http.Request, what string, open func(context.Context, uuid.UUID) (io.ReadSeekCloser, time.Time, error)) {
	id, err := pathID(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	sound, at, err := open(r.Context(), id)
	var elsewhere *recordings.Elsewhere
	if errors.As(err, &elsewhere) {
		s.soundOf(w, r, what, id, elsewhere.Node)
		return
	}
	if errors.Is(err, recordings.ErrLocked) || errors.Is(err, recordings.ErrDamaged) {
		s.Log.Error("a recording cannot be played", "contact", id, "err", err)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer func() { _ = sound.Close() }()
	if r.Method == http.MethodGet {
		if err := s.notePlayed(r.Context(), whoAsks(r).User, what, id); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	soundHeaders(w.Header(), id)
	http.ServeContent(&soundWriter{ResponseWriter: w}, r, "", at, sound)
}

// soundWriter says in our words what net/http says of a range that the sound has not.
type soundWriter struct {
	http.ResponseWriter
	said bool // nothing follows
}

// WriteHeader implements http.ResponseWriter.
func (w *soundWriter) WriteHeader(status int) {
	if status != http.StatusRequestedRangeNotSatisfiable {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.said = true
	w.Header().Del("Content-Disposition")
	writeProblem(w.ResponseWriter, errRange)
}

// Write implements http.ResponseWriter.
func (w *soundWriter) Write(b []byte) (int, error) {
	if w.said {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// ReadFrom implements io.ReaderFrom, so that a file goes to the socket as before.
func (w *soundWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(w.ResponseWriter, r)
}

var errRange = problemf(http.StatusRequestedRangeNotSatisfiable, "La parte chiesta va oltre la fine della registrazione.")

func soundHeaders(h http.Header, contact uuid.UUID) {
	h.Set("Content-Type", "audio/wav")
	h.Set("Content-Disposition", `inline; filename="`+contact.String()+`.wav"`)
	h.Set("Cache-Control", "private, no-store")
}

// What of a request for sound another node is told, and what of its answer the
// browser.
var (
	soundAsks  = []string{"Range", "If-Range", "If-Modified-Since", "If-Unmodified-Since"}
	soundTells = []string{"Accept-Ranges", "Content-Length", "Content-Range", "Last-Modified"}
)

// soundOf plays what is on another node's disk.
func (s *Server) soundOf(w http.ResponseWriter, r *http.Request, what string, contact uuid.UUID, node string) {
	away := problemf(http.StatusServiceUnavailable, "La registrazione è sul server %s, che ora non risponde. Non è persa: riprova quando il server è di nuovo in funzione.", node)
	away.retry = awayRetry
	if s.Sound == nil {
		s.fail(w, r, away)
		return
	}
	headers := http.Header{}
	for _, name := range soundAsks {
		if v := r.Header.Get(name); v != "" {
			headers.Set(name, v)
		}
	}
	res, err := s.Sound(r.Context(), node, what, contact, r.Method, headers)
	if err != nil {
		s.Log.Warn("the sound of another node cannot be had", "node", node, "contact", contact, "err", err)
		s.fail(w, r, away)
		return
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed:
	case http.StatusRequestedRangeNotSatisfiable:
		w.Header().Set("Content-Range", res.Header.Get("Content-Range"))
		s.fail(w, r, errRange)
		return
	case http.StatusNotFound:
		s.fail(w, r, errNotFound)
		return
	case http.StatusLocked:
		s.fail(w, r, recordings.ErrLocked)
		return
	case http.StatusInternalServerError:
		s.fail(w, r, recordings.ErrDamaged)
		return
	default:
		s.fail(w, r, away)
		return
	}
	if r.Method == http.MethodGet {
		if err := s.notePlayed(r.Context(), whoAsks(r).User, what, contact); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	soundHeaders(w.Header(), contact)
	for _, name := range soundTells {
		if v := res.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body) // a browser that went away, or a node: what is missing is seen by the length
}

// heard remembers who listened to what lately: a player asks for a recording in
// many ranges, which are one listening.
type heard struct {
	mu    sync.Mutex // guards since
	since map[listening]time.Time
}

type listening struct {
	user    int64
	what    string
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

func (s *Server) notePlayed(ctx context.Context, u User, what string, contact uuid.UUID) error {
	l := listening{u.ID, what, contact}
	at := s.Now()
	if s.heard.again(l, at) {
		return nil
	}
	err := s.DB.Tx(ctx, func(tx *db.Tx) error {
		tx.Wake("journal")
		return journal.Append(ctx, tx, journal.Line{
			Stream: journal.ContactStream(contact), At: at, Kind: journal.Played,
			Contact: uuid.NullUUID{UUID: contact, Valid: true}, User: u.ID, Data: map[string]any{"what": what},
		})
	})
	if err != nil {
		s.heard.forget(l)
	}
	return err
}

type messagesInput struct {
	State string `query:"state" enum:"new,all"`
}

func (s *Server) getMessages(ctx context.Context, _ User, in *messagesInput) (list[messageView], error) {
	f := recordings.Filter{Limit: messagesMax}
	if in.State == messageNew {
		f.State = messageNew
	}
	return listed(s.messages(ctx, f))
}
