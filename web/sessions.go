package web

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
)

const (
	sessionLife    = 12 * time.Hour  // a long shift; nobody is thrown out in the middle of one
	sessionQuery   = 2 * time.Second // a page does not wait longer for the database
	sessionsKept   = 10_000          // remembered for when the database is away
	sessionSweep   = time.Hour       // expired rows are deleted so often
	cookieName     = "pronto"
	hostCookieName = "__Host-pronto" // RFC 6265bis §4.1.3.2: only our host can have set it, only over https
)

// newSessions is the session manager over our own table. Tokens are stored
// hashed: who reads the table cannot sign in.
func newSessions(store scs.CtxStore, secure bool) *scs.SessionManager {
	// Not scs.New: it starts a goroutine for a store of its own, which never ends.
	m := &scs.SessionManager{Store: store, Codec: scs.GobCodec{}, ErrorFunc: func(w http.ResponseWriter, _ *http.Request, _ error) {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}}
	m.Cookie.Path = "/"
	m.Lifetime = sessionLife
	m.HashTokenInStore = true
	m.Cookie.Name = cookieName
	m.Cookie.HttpOnly = true
	m.Cookie.SameSite = http.SameSiteLaxMode
	m.Cookie.Persist = false // gone when the browser closes: consoles are shared PCs
	if secure {
		m.Cookie.Name = hostCookieName
		m.Cookie.Secure = true
	}
	return m
}

// sessionStore keeps sessions in the database and remembers those it has seen,
// so that who is signed in stays so while the database is away. Nobody can sign
// in or out meanwhile, so what is remembered cannot have been revoked.
type sessionStore struct {
	db  *db.DB
	now func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]seenSession
}

type seenSession struct {
	data   []byte
	expiry time.Time
}

func newSessionStore(d *db.DB, now func() time.Time) *sessionStore {
	return &sessionStore{db: d, now: now, seen: map[string]seenSession{}}
}

// FindCtx implements scs.CtxStore.
func (s *sessionStore) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionQuery)
	defer cancel()
	var found seenSession
	err := s.db.Pool.QueryRow(ctx, `select data, expiry from sessions where token = @token and expiry > @at`,
		pgx.StrictNamedArgs{"token": token, "at": s.now()}).Scan(&found.data, &found.expiry)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.remember(token, found)
		return found.data, true, nil
	case errors.Is(err, pgx.ErrNoRows):
		delete(s.seen, token)
		return nil, false, nil
	case db.Away(err):
		if seen, ok := s.seen[token]; ok && seen.expiry.After(s.now()) {
			return seen.data, true, nil
		}
	}
	return nil, false, err
}

// remember is called with mu held.
func (s *sessionStore) remember(token string, session seenSession) {
	if len(s.seen) >= sessionsKept {
		clear(s.seen) // they are seen again with their next request
	}
	s.seen[token] = session
}

// CommitCtx implements scs.CtxStore.
func (s *sessionStore) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, sessionQuery)
	defer cancel()
	_, err := s.db.Pool.Exec(ctx, `insert into sessions (token, data, expiry) values (@token, @data, @expiry)
		on conflict (token) do update set data = excluded.data, expiry = excluded.expiry`,
		pgx.StrictNamedArgs{"token": token, "data": data, "expiry": expiry})
	return err
}

// DeleteCtx implements scs.CtxStore.
func (s *sessionStore) DeleteCtx(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, sessionQuery)
	defer cancel()
	_, err := s.db.Pool.Exec(ctx, `delete from sessions where token = @token`, pgx.StrictNamedArgs{"token": token})
	if err == nil {
		s.mu.Lock()
		delete(s.seen, token)
		s.mu.Unlock()
	}
	return err
}

// Find, Commit and Delete implement scs.Store, which scs asks for beside
// scs.CtxStore and does not call.
func (s *sessionStore) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements scs.Store.
func (s *sessionStore) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete implements scs.Store.
func (s *sessionStore) Delete(token string) error {
	return s.DeleteCtx(context.Background(), token)
}

// sweep deletes what has expired.
func (s *sessionStore) sweep(ctx context.Context) error {
	_, err := s.db.Pool.Exec(ctx, `delete from sessions where expiry <= @at`, pgx.StrictNamedArgs{"at": s.now()})
	if err != nil {
		return err
	}
	if _, err = s.db.Pool.Exec(ctx, `delete from api_tokens where expires_at <= @at`, pgx.StrictNamedArgs{"at": s.now()}); err != nil {
		return err
	}
	if _, err = s.db.Pool.Exec(ctx, `delete from password_resets where expires_at <= @at`, pgx.StrictNamedArgs{"at": s.now()}); err != nil {
		return err
	}
	_, err = s.db.Pool.Exec(ctx, `delete from idempotency_keys where begun_at <= @before`, pgx.StrictNamedArgs{"before": s.now().Add(-keyKept)})
	return err
}
