package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/httprate"
)

// contentPolicy lets a page load our own files and nothing else: no inline
// script, no frame, no other host. data: images are Bootstrap Italia's icons.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; media-src 'self' blob:; worker-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// headers are on every answer.
func (s *Server) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY") // what came before frame-ancestors
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(self)")
		if s.secure() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// bodyTimes is how long the parts of a request may take.
type bodyTimes struct{ read, write, work time.Duration }

var requestTimes = bodyTimes{bodyLongest, replyLongest, workLongest}

// timed gives a request's body and its answer a time, so that no client holds a
// connection by dripping.
func (b bodyTimes) timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		conn := http.NewResponseController(w)
		_ = conn.SetReadDeadline(at.Add(b.read)) // not every ResponseWriter has one: httptest's recorder
		_ = conn.SetWriteDeadline(at.Add(b.write))
		next.ServeHTTP(w, r)
	})
}

// bounded is timed, with a size for the body and a time for the work.
func (b bodyTimes) bounded(next http.Handler) http.Handler {
	return b.timed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		ctx, cancel := context.WithTimeout(r.Context(), b.work)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	}))
}

// caught turns a panic into one logged request.
func (s *Server) caught(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(fault) // net/http's own way of cutting a connection
			}
			s.Log.Error("a request panicked", "method", r.Method, "path", pathForLog(r), "fault", fault, "stack", string(debug.Stack()))
			writeProblem(w, errFault)
		}()
		next.ServeHTTP(w, r)
	})
}

// pathForLog is the path without what follows it, at most 120 bytes.
func pathForLog(r *http.Request) string {
	path := r.URL.EscapedPath()
	if len(path) > 120 {
		path = path[:120] + "…"
	}
	return path
}

// doors limits attempts to sign in. One address may carry a whole office, one
// name only one person.
type doors struct{ byAddress, byName, perUser, wrongTokens *httprate.RateLimiter }

const (
	signInsPerAddress  = 60  // a minute: an office of fifty at eight o'clock
	signInsPerName     = 10  // a minute
	requestsPerSession = 600 // a minute and person: ten times what the busiest console sends
	wrongPerAddress    = 120 // tokens a minute: twice what a program sends that asks each second with a revoked one
)

func newDoors() *doors {
	quiet := httprate.WithResponseHeaders(httprate.ResponseHeaders{})
	return &doors{
		byAddress: httprate.NewRateLimiter(signInsPerAddress, time.Minute, quiet),
		byName:    httprate.NewRateLimiter(signInsPerName, time.Minute, quiet),
		perUser:   httprate.NewRateLimiter(requestsPerSession, time.Minute, quiet),

		wrongTokens: httprate.NewRateLimiter(wrongPerAddress, time.Minute, quiet),
	}
}

// guessing tells whether too many wrong tokens came from this address: then no
// other is looked up. Nobody guesses 256 bits, but the database is for calls.
func (d *doors) guessing(r *http.Request) bool {
	_, rate, err := d.wrongTokens.Status(address(r))
	return err == nil && rate >= wrongPerAddress
}

func (d *doors) wrongToken(r *http.Request) {
	d.wrongTokens.OnLimit(nil, r, address(r)) // quiet: it writes no headers
}

// address is who connected to us. Headers that a proxy may add are not trusted:
// anybody can write them.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return httprate.CanonicalizeIP(host)
}

// crossOrigin refuses what a page of another site sends in a browser.
func (s *Server) crossOrigin(next http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	if s.PublicURL != "" {
		if err := guard.AddTrustedOrigin(strings.TrimSuffix(s.PublicURL, "/")); err != nil {
			s.Log.Error("the public address is not scheme://host[:port]", "err", err)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := guard.Check(r); err != nil {
			writeProblem(w, errCrossing)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// changes tells whether a method may change something (RFC 9110 §9.2.1).
func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// identity is who asks, and how they showed it.
type identity struct {
	User
	bearer  bool
	scope   Scope  // of the token, or all that the role has
	session string // the cookie's token; "" with a bearer token
}

type identityKey struct{}

// whoAsks returns who signed in; handlers behind signedIn always find somebody.
func whoAsks(r *http.Request) identity { return whoAsked(r.Context()) }

func whoAsked(ctx context.Context) identity {
	who, _ := ctx.Value(identityKey{}).(identity)
	return who
}

// identify finds out who asks: a bearer token, else the session's cookie.
func (s *Server) identify(r *http.Request) (identity, error) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		scheme, token, _ := strings.Cut(auth, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return identity{}, errToken
		}
		if s.doors.guessing(r) {
			return identity{}, errLimited
		}
		u, scope, err := s.users.ByToken(r.Context(), strings.TrimSpace(token))
		if errors.Is(err, ErrWrong) {
			s.doors.wrongToken(r)
			return identity{}, errToken
		}
		return identity{User: u, bearer: true, scope: scope}, err
	}
	cookie, err := r.Cookie(s.sessions.Cookie.Name)
	if err != nil || cookie.Value == "" || len(cookie.Value) > 128 {
		return identity{}, errSignIn
	}
	u, err := s.ofSession(r.Context(), cookie.Value)
	return identity{User: u, session: cookie.Value, scope: u.Role.scope()}, err
}

// ofSession is the person of a session, errSignIn when it is over.
func (s *Server) ofSession(ctx context.Context, token string) (User, error) {
	ctx, err := s.sessions.Load(ctx, token)
	if err != nil {
		return User{}, err
	}
	id := s.sessions.GetInt64(ctx, "user")
	if id == 0 {
		return User{}, errSignIn
	}
	u, err := s.users.byID(ctx, id)
	if errors.Is(err, ErrNoUser) || (err == nil && s.sessions.GetString(ctx, "stamp") != u.stamp()) {
		return User{}, errSignIn
	}
	return u, err
}

// signedIn lets only known people through.
func (s *Server) signedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), workLongest)
		who, err := s.identify(r.WithContext(ctx))
		cancel()
		if err != nil {
			s.fail(w, r, err)
			return
		}
		// CrossOriginProtection lets requests without browser headers pass. A
		// cookie belongs to a browser: without them it is not enough.
		if !who.bearer && changes(r.Method) && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
			writeProblem(w, errOrigin)
			return
		}
		if !who.bearer && s.doors.perUser.OnLimit(w, r, who.Name) {
			writeProblem(w, errLimited)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, who)))
	})
}

// fail answers with an error's problem and logs faults of ours.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := asProblem(err)
	if p.Status >= http.StatusInternalServerError && r.Context().Err() != context.Canceled { //nolint:errorlint // Err returns it bare
		s.Log.Log(r.Context(), levelOf(p), "a request failed", "method", r.Method, "path", pathForLog(r), "status", p.Status, "err", err)
	}
	writeProblem(w, p)
}

func levelOf(p *problem) slog.Level {
	if p.Status == http.StatusServiceUnavailable {
		return slog.LevelWarn
	}
	return slog.LevelError
}
