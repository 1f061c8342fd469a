package web

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/pronto-desk/pronto/db/journal"
)

var pages = template.Must(template.ParseFS(templates, "templates/page.html"))

// page is what the server-rendered pages show.
type page struct {
	Title   string
	SignIn  bool
	Name    string // the name tried
	Next    string // where to go after signing in
	Problem string // why it did not work
	Notice  string // the text of a notice
	Choice  *choice
}

func (s *Server) showPage(w http.ResponseWriter, status int, p page) {
	var buf bytes.Buffer
	if err := pages.ExecuteTemplate(&buf, "page", p); err != nil {
		s.Log.Error("a page could not be made", "title", p.Title, "err", err)
		writeProblem(w, errFault)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}

// notice is an error page for people.
func (s *Server) notice(w http.ResponseWriter, p *problem) {
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retry))
	}
	s.showPage(w, p.Status, page{Title: p.Title, Notice: p.Detail})
}

const signInTitle = "Accesso"

func (s *Server) getSignIn(w http.ResponseWriter, r *http.Request) {
	next := ownPath(r.URL.Query().Get("next"))
	if _, err := s.identify(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	s.showPage(w, http.StatusOK, page{Title: signInTitle, SignIn: true, Next: next})
}

func (s *Server) postSignIn(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.notice(w, asProblem(bodyProblem(err)))
		return
	}
	name := strings.ToLower(strings.TrimSpace(r.PostForm.Get("name")))
	next := ownPath(r.PostForm.Get("next"))
	if !userName.MatchString(name) {
		name = "" // nobody's: it is not shown again either
	}
	// An unknown name has its limit too, so that a limit does not tell who exists.
	if s.doors.byAddress.OnLimit(w, r, address(r)) || s.doors.byName.OnLimit(w, r, name) {
		s.refuseSignIn(w, r, name, next, errLimited)
		return
	}
	u, err := s.users.SignIn(r.Context(), name, r.PostForm.Get("password"))
	if err == nil {
		err = s.startSession(w, r, u)
	}
	switch {
	case errors.Is(err, ErrWrong):
		s.Log.Warn("a sign-in was refused", "address", address(r))
		s.refuseSignIn(w, r, name, next, problemf(http.StatusUnauthorized, "Nome utente o password non corretti."))
	case err != nil:
		p := asProblem(err)
		s.Log.Log(r.Context(), levelOf(p), "a sign-in failed", "address", address(r), "err", err)
		s.refuseSignIn(w, r, name, next, p)
	default:
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

func (s *Server) refuseSignIn(w http.ResponseWriter, _ *http.Request, name, next string, p *problem) {
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retry))
	}
	s.showPage(w, p.Status, page{Title: signInTitle, SignIn: true, Name: name, Next: next, Problem: p.Detail})
}

// startSession makes a new session, whatever cookie came with the request: a
// session that somebody planted is worth nothing.
func (s *Server) startSession(w http.ResponseWriter, r *http.Request, u User) error {
	ctx, err := s.sessions.Load(r.Context(), "")
	if err != nil {
		return err
	}
	s.sessions.Put(ctx, "user", u.ID)
	s.sessions.Put(ctx, "stamp", u.stamp())
	token, until, err := s.sessions.Commit(ctx)
	if err != nil {
		return err
	}
	s.sessions.WriteSessionCookie(ctx, w, token, until)
	return nil
}

// postSignOut ends the session and closes its sockets.
func (s *Server) postSignOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(s.sessions.Cookie.Name); err == nil && cookie.Value != "" {
		if err := s.endSession(r.Context(), cookie.Value); err != nil {
			s.notice(w, asProblem(err))
			return
		}
		s.hub.cutSession(cookie.Value)
	}
	s.sessions.WriteSessionCookie(r.Context(), w, "", expiredCookie)
	http.Redirect(w, r, "/signin", http.StatusSeeOther)
}

func (s *Server) endSession(ctx context.Context, token string) error {
	ctx, err := s.sessions.Load(ctx, token)
	if err != nil {
		return err
	}
	if id := s.sessions.GetInt64(ctx, "user"); id != 0 {
		if err := s.users.note(ctx, id, journal.SignedOut); err != nil {
			return err
		}
	}
	return s.sessions.Destroy(ctx)
}

// ownPath keeps a path of our own site and turns anything else into "/": a
// link to the sign-in page must not lead elsewhere.
func ownPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") ||
		strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") || strings.HasPrefix(u.Path, "/signin") {
		return "/"
	}
	return next
}
