package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Scope is what a bearer token may be used for. A session has all of them that
// its person's role has.
type Scope string

// The scopes. Each includes the ones before it.
const (
	Read    Scope = "read"    // look
	Operate Scope = "operate" // do what an operator or a supervisor does in a shift
	Manage  Scope = "admin"   // change how the desk is set up: services, people, webhooks
)

// scopes are ranks: what a scope includes has a lower one.
var scopes = map[Scope]int{Read: 1, Operate: 2, Manage: 3}

func (s Scope) includes(other Scope) bool { return scopes[s] >= scopes[other] }

// scope is the widest that a role may have.
func (r Role) scope() Scope {
	if r.supervises() {
		return Manage
	}
	return Operate
}

const (
	tokenLabelMost = 100 // characters
	tokensMost     = 100 // of one person: more is a program that makes one per request
)

const (
	tokenMade    journal.Kind = "token_made"
	tokenRevoked journal.Kind = "token_revoked"
)

// ErrScope is a scope that does not exist, or that the person's role has not.
var ErrScope = errors.New("this person cannot have a token with this scope")

// Wish is what a token shall be: for what, how long, and the name of its line
// in the list of tokens.
type Wish struct {
	Label string
	Scope Scope // "": all that the person's role has
	For   time.Duration
}

// Token is a bearer token as its person sees it later: never its secret.
type Token struct {
	ID         int64      `json:"id"`
	Label      string     `json:"label"`
	Scope      Scope      `json:"scope"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  time.Time  `json:"expires_at"`
	LastUsedAt *time.Time `json:"last_used_at"` // to the minute
}

const tokenColumns = `id, label, scope, created_at, expires_at, last_used_at`

// Token makes a bearer token for all that a person may do.
func (s *Users) Token(ctx context.Context, name string, ttl time.Duration) (string, error) {
	secret, _, err := s.MakeToken(ctx, name, Wish{For: ttl})
	return secret, err
}

// MakeToken makes a bearer token for the API in the name of a person. Its
// secret is told once: the database keeps its SHA-256. It lives 400 days at
// most.
func (s *Users) MakeToken(ctx context.Context, name string, w Wish) (secret string, t Token, err error) {
	label := strings.TrimSpace(w.Label)
	switch {
	case w.For <= 0 || w.For > tokenLongest:
		return "", t, fmt.Errorf("token: want a life of more than 0 and at most %d days", int(tokenLongest.Hours()/24))
	case !utf8.ValidString(label) || utf8.RuneCountInString(label) > tokenLabelMost:
		return "", t, fmt.Errorf("token: want a label of at most %d characters", tokenLabelMost)
	}
	raw := make([]byte, tokenBytes)
	rand.Read(raw)
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
	hash := sha256.Sum256([]byte(secret))
	at := s.now()
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		var user int64
		var role Role
		err := tx.QueryRow(ctx, `select id, role from users where name = @name and active for share`, pgx.StrictNamedArgs{"name": name}).Scan(&user, &role)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoUser
		}
		if err != nil {
			return err
		}
		scope := w.Scope
		if scope == "" {
			scope = role.scope()
		}
		if scopes[scope] == 0 || !role.scope().includes(scope) {
			return ErrScope
		}
		rows, err := tx.Query(ctx, `insert into api_tokens (user_id, hash, label, scope, created_at, expires_at)
			values (@user, @hash, @label, @scope, @at, @until) returning `+tokenColumns,
			pgx.StrictNamedArgs{"user": user, "hash": hash[:], "label": label, "scope": scope, "at": at, "until": at.Add(w.For)})
		if err != nil {
			return err
		}
		if t, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Token]); err != nil {
			return err
		}
		return noteToken(ctx, tx, tokenMade, user, t, at)
	})
	switch {
	case errors.Is(err, ErrNoUser), errors.Is(err, ErrScope):
		return "", Token{}, err
	case err != nil:
		return "", Token{}, fmt.Errorf("token: %w", err)
	}
	return secret, t, nil
}

func noteToken(ctx context.Context, tx *db.Tx, kind journal.Kind, user int64, t Token, at time.Time) error {
	tx.Wake("journal")
	return journal.Append(ctx, tx, journal.Line{
		Stream: journal.SeatStream(user), At: at, Kind: kind, User: user, Data: map[string]any{"token": t.ID, "scope": string(t.Scope)},
	})
}

// Tokens lists the tokens of a person that still hold, newest first.
func (s *Users) Tokens(ctx context.Context, user int64) ([]Token, error) {
	rows, err := s.db.Pool.Query(ctx, `select `+tokenColumns+` from api_tokens where user_id = @user and expires_at > @at order by id desc limit @most`,
		pgx.StrictNamedArgs{"user": user, "at": s.now(), "most": tokensMost})
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Token])
}

// RevokeToken ends a token of a person; false when there is none with this id.
func (s *Users) RevokeToken(ctx context.Context, user, id int64) (found bool, err error) {
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(ctx, `delete from api_tokens where id = @id and user_id = @user returning `+tokenColumns,
			pgx.StrictNamedArgs{"id": id, "user": user})
		if err != nil {
			return err
		}
		gone, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Token])
		if found = err == nil; !found {
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		}
		return noteToken(ctx, tx, tokenRevoked, user, gone, s.now())
	})
	if err != nil {
		return false, fmt.Errorf("token: %w", err)
	}
	return found, nil
}

// ByToken finds whose bearer token this is and what it may be used for:
// ErrWrong when it is nobody's, has expired, or its person is no longer active.
func (s *Users) ByToken(ctx context.Context, token string) (User, Scope, error) {
	if !strings.HasPrefix(token, tokenPrefix) || len(token) > 128 {
		return User{}, "", ErrWrong
	}
	hash := sha256.Sum256([]byte(token))
	at := s.now()
	var scope Scope
	var owner int64
	err := s.db.Pool.QueryRow(ctx, `select user_id, scope from api_tokens where hash = @hash and expires_at > @at`,
		pgx.StrictNamedArgs{"hash": hash[:], "at": at}).Scan(&owner, &scope)
	if errors.Is(err, pgx.ErrNoRows) {
		return User{}, "", ErrWrong
	}
	if err != nil {
		return User{}, "", fmt.Errorf("token: %w", err)
	}
	rows, err := s.db.Pool.Query(ctx, `select `+userColumns+` from users where active and id = @id`, pgx.StrictNamedArgs{"id": owner})
	if err != nil {
		return User{}, "", fmt.Errorf("token: %w", err)
	}
	u, err := pgx.CollectExactlyOneRow(rows, scanUser)
	if errors.Is(err, pgx.ErrNoRows) {
		return User{}, "", ErrWrong
	}
	if err != nil {
		return User{}, "", fmt.Errorf("token: %w", err)
	}
	_, err = s.db.Pool.Exec(ctx, `update api_tokens set last_used_at = @at
		where hash = @hash and (last_used_at is null or last_used_at < @before)`,
		pgx.StrictNamedArgs{"hash": hash[:], "at": at, "before": at.Add(-tokenUsedStep)})
	if err != nil {
		return User{}, "", fmt.Errorf("token: %w", err)
	}
	return u, scope, nil
}

// --- by the API

func (s *Server) tokensAPI(a *operations) {
	provide(a, operation{at: "GET /tokens", id: "listTokens", does: "One's own tokens that still hold; their secrets are told once, when they are made."},
		func(ctx context.Context, me User, _ *nothing) (list[Token], error) {
			return listed(s.users.Tokens(ctx, me.ID))
		})
	provide(a, operation{at: "POST /tokens", id: "makeToken", does: "Makes a token in one's own name. Only who signed in can: a token that leaked must not make another.", secret: true}, s.postToken)
	provide(a, operation{at: "DELETE /tokens/{id}", id: "revokeToken", does: "Ends one of one's own tokens."}, s.deleteToken)
}

type tokenInput struct {
	Body struct {
		Label string `json:"label" minLength:"1" maxLength:"100" doc:"What it is for."`
		Scope Scope  `json:"scope" enum:"read,operate,admin"`
		Days  int    `json:"days" minimum:"1" maximum:"400"`
	}
}

type newToken struct {
	Token
	Secret string `json:"secret" doc:"The bearer token. It is not shown again."`
}

func (s *Server) postToken(ctx context.Context, me User, in *tokenInput) (*newToken, error) {
	if whoAsked(ctx).bearer {
		return nil, problemf(http.StatusForbidden, "Un token si crea dopo l'accesso con nome e password, non con un altro token.")
	}
	held, err := s.users.Tokens(ctx, me.ID)
	if err != nil {
		return nil, err
	}
	if len(held) >= tokensMost {
		return nil, problemf(http.StatusConflict, "Hai già %d token: revocane uno.", tokensMost)
	}
	secret, t, err := s.users.MakeToken(ctx, me.Name, Wish{Label: in.Body.Label, Scope: in.Body.Scope, For: time.Duration(in.Body.Days) * 24 * time.Hour})
	if errors.Is(err, ErrScope) {
		return nil, refused("scope", "Il tuo ruolo non ha questo ambito.")
	}
	if err != nil {
		return nil, err
	}
	return &newToken{Token: t, Secret: secret}, nil
}

type tokenPath struct {
	ID int64 `path:"id" minimum:"1"`
}

func (s *Server) deleteToken(ctx context.Context, me User, in *tokenPath) (nothing, error) {
	found, err := s.users.RevokeToken(ctx, me.ID, in.ID)
	if err == nil && !found {
		err = errNotFound
	}
	return nothing{}, err
}
