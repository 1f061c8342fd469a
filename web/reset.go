package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

const (
	resetLife    = time.Hour // as long as it takes to hand a link over and use it
	resetLongest = 64        // characters of a link's token; ours have 43
)

// What happens to a password, in its person's own stream.
const (
	passwordChanged journal.Kind = "password_changed" // how: own, link, command
	resetMade       journal.Kind = "reset_made"       // user of the line: whose; by: who made the link
)

// ErrLink is a link that was used, has expired, or was never made.
var ErrLink = errors.New("the link does not hold")

// Link is a way to a new password, told once.
type Link struct {
	Address   string    `json:"link"` // or its token, before a server makes an address of it
	ExpiresAt time.Time `json:"expires_at"`
}

// at is the link on the server that browsers reach at this address.
func (l Link) at(publicURL string) Link {
	return Link{ResetAddress(publicURL, l.Address), l.ExpiresAt.UTC()}
}

// ResetLink makes the token of a link by which a person chooses a new password;
// by is who makes it, 0 on the command line. Links made before end with it. It
// is told once: the database keeps its SHA-256.
func (s *Users) ResetLink(ctx context.Context, name string, by int64) (token string, until time.Time, err error) {
	var l Link
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		var user int64
		err := tx.QueryRow(ctx, `select id from users where name = @name and active for no key update`, pgx.StrictNamedArgs{"name": name}).Scan(&user)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoUser
		}
		if err != nil {
			return err
		}
		l, err = s.newLink(ctx, tx, user, by)
		return err
	})
	if err != nil && !errors.Is(err, ErrNoUser) {
		err = fmt.Errorf("make a link: %w", err)
	}
	return l.Address, l.ExpiresAt, err
}

// newLink is ResetLink for a person whose row the transaction has locked.
func (s *Users) newLink(ctx context.Context, tx *db.Tx, user, by int64) (Link, error) {
	secret := make([]byte, tokenBytes)
	rand.Read(secret)
	token := base64.RawURLEncoding.EncodeToString(secret)
	hash := sha256.Sum256([]byte(token))
	at := s.now()
	until := at.Add(resetLife)
	if _, err := tx.Exec(ctx, `delete from password_resets where user_id = @user and used_at is null or expires_at < @at`,
		pgx.StrictNamedArgs{"user": user, "at": at}); err != nil {
		return Link{}, err
	}
	if _, err := tx.Exec(ctx, `insert into password_resets (hash, user_id, made_by, created_at, expires_at) values (@hash, @user, nullif(@by, 0::bigint), @at, @until)`,
		pgx.StrictNamedArgs{"hash": hash[:], "user": user, "by": by, "at": at, "until": until}); err != nil {
		return Link{}, err
	}
	return Link{token, until}, s.noteIn(ctx, tx, user, resetMade, map[string]any{"by": by})
}

// linkHolds tells whether a token may still be used, before a password is typed
// and hashed in vain.
func (s *Users) linkHolds(ctx context.Context, token string) error {
	if len(token) > resetLongest {
		return ErrLink
	}
	hash := sha256.Sum256([]byte(token))
	var holds bool
	err := s.db.Pool.QueryRow(ctx, `select exists (select from password_resets r join users u on u.id = r.user_id
		where r.hash = @hash and r.used_at is null and r.expires_at > @at and u.active)`, pgx.StrictNamedArgs{"hash": hash[:], "at": s.now()}).Scan(&holds)
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if !holds {
		return ErrLink
	}
	return nil
}

// UseLink gives a link's person a new password, and returns who that is. It works
// once: of two at the same time the other hears ErrLink.
func (s *Users) UseLink(ctx context.Context, token, password string) (user int64, err error) {
	if err := s.linkHolds(ctx, token); err != nil {
		return 0, err
	}
	set, err := s.hasher.hash(ctx, password)
	if err != nil {
		return 0, err
	}
	hash := sha256.Sum256([]byte(token))
	at := s.now()
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, `update password_resets set used_at = @at where hash = @hash and used_at is null and expires_at > @at returning user_id`,
			pgx.StrictNamedArgs{"hash": hash[:], "at": at}).Scan(&user)
		if err != nil {
			return err
		}
		return s.setPassword(ctx, tx, `id = @who and active`, user, set, "link")
	})
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, ErrNoUser) {
		return 0, ErrLink
	}
	if err != nil {
		return 0, fmt.Errorf("use a link: %w", err)
	}
	return user, nil
}

// ChangePassword gives a person who knows the old password a new one. ErrWrong:
// the old one does not fit.
func (s *Users) ChangePassword(ctx context.Context, u User, old, password string) error {
	fits, err := s.hasher.verify(ctx, old, u.passwordHash)
	if err != nil {
		return err
	}
	if !fits {
		if err := s.note(ctx, u.ID, signInFailed); err != nil {
			return err
		}
		return ErrWrong
	}
	return s.newPassword(ctx, `id = @who`, u.ID, password, "own")
}

// SetPassword changes a person's password and thereby ends their sessions.
func (s *Users) SetPassword(ctx context.Context, name, password string) error {
	return s.newPassword(ctx, `name = @who`, name, password, "command")
}

func (s *Users) newPassword(ctx context.Context, where string, who any, password, how string) error {
	set, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	err = s.db.Tx(ctx, func(tx *db.Tx) error { return s.setPassword(ctx, tx, where, who, set, how) })
	if err != nil && !errors.Is(err, ErrNoUser) {
		err = fmt.Errorf("change a password: %w", err)
	}
	return err
}

// setPassword changes it, ends the links that wait for their use, and writes it
// down. Sessions end because they carry the old password's stamp.
func (s *Users) setPassword(ctx context.Context, tx *db.Tx, where string, who any, hash, how string) error {
	var user int64
	err := tx.QueryRow(ctx, `update users set password_hash = @hash where `+where+` returning id`, pgx.StrictNamedArgs{"who": who, "hash": hash}).Scan(&user)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoUser
	}
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `delete from password_resets where user_id = @user and used_at is null`, pgx.StrictNamedArgs{"user": user}); err != nil {
		return err
	}
	return s.noteIn(ctx, tx, user, passwordChanged, map[string]any{"how": how})
}

// --- pages

const (
	passwordTitle = "Nuova password"
	passwordRule  = "La password ha almeno 10 caratteri, e non più di 256 byte."
)

// choice is a form in which a password is chosen.
type choice struct {
	Action string // where it is sent
	Token  string // of a link; "": the old password is asked for
	Name   string // whose, for the browser's store of passwords; "" with a link
}

func (s *Server) getReset(w http.ResponseWriter, r *http.Request) {
	if s.doors.byAddress.OnLimit(w, r, address(r)) {
		s.notice(w, errLimited)
		return
	}
	token := r.URL.Query().Get("t")
	if err := s.users.linkHolds(r.Context(), token); err != nil {
		s.notice(w, linkProblem(err))
		return
	}
	s.showPage(w, http.StatusOK, page{Title: passwordTitle, Choice: &choice{Action: "/reset", Token: token}})
}

func (s *Server) postReset(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.notice(w, asProblem(bodyProblem(err)))
		return
	}
	if s.doors.byAddress.OnLimit(w, r, address(r)) {
		s.notice(w, errLimited)
		return
	}
	form := &choice{Action: "/reset", Token: r.PostForm.Get("t")}
	user, err := int64(0), twice(r.PostForm)
	if err == nil {
		user, err = s.users.UseLink(r.Context(), form.Token, r.PostForm.Get("password"))
	}
	if errors.Is(err, ErrLink) {
		s.notice(w, linkProblem(err))
		return
	}
	if err != nil {
		s.refuseChoice(w, r, form, err)
		return
	}
	s.hub.cutUser(user)
	s.showPage(w, http.StatusOK, page{Title: "Password cambiata", Notice: "Ora puoi accedere con la nuova password."})
}

// linkProblem is what a link that does not hold is to the one who came with it.
func linkProblem(err error) *problem {
	if !errors.Is(err, ErrLink) {
		return asProblem(err)
	}
	return problemf(http.StatusNotFound, "Il collegamento è già stato usato, o è passata più di un'ora. Chiedine un altro a chi amministra il servizio.")
}

func (s *Server) getPassword(w http.ResponseWriter, r *http.Request) {
	who, err := s.identify(r)
	switch p := asProblem(err); {
	case err == nil:
		s.showPage(w, http.StatusOK, page{Title: passwordTitle, Choice: &choice{Action: "/password", Name: who.Name}})
	case p.Status == http.StatusUnauthorized:
		http.Redirect(w, r, "/signin?next=%2Fpassword", http.StatusSeeOther)
	default:
		s.notice(w, p)
	}
}

func (s *Server) postPassword(w http.ResponseWriter, r *http.Request) {
	who, err := s.identify(r)
	if err == nil && who.bearer { // a page is for whoever sits before it
		err = errSignIn
	}
	if err == nil {
		err = r.ParseForm()
	}
	if err != nil {
		s.notice(w, asProblem(err))
		return
	}
	form := &choice{Action: "/password", Name: who.Name}
	if s.doors.byName.OnLimit(w, r, who.Name) {
		s.refuseChoice(w, r, form, errLimited)
		return
	}
	if err = twice(r.PostForm); err == nil {
		err = s.users.ChangePassword(r.Context(), who.User, r.PostForm.Get("old"), r.PostForm.Get("password"))
	}
	if err != nil {
		s.refuseChoice(w, r, form, err)
		return
	}
	s.hub.cutUser(who.ID)
	u, err := s.users.byID(r.Context(), who.ID)
	if err == nil {
		err = s.startSession(w, r, u) // this browser stays signed in, all others do not
	}
	if err != nil {
		s.notice(w, asProblem(err))
		return
	}
	s.showPage(w, http.StatusOK, page{Title: "Password cambiata", Notice: "Gli altri accessi aperti con la vecchia password sono terminati."})
}

// twice tells whether the new password was typed the same way two times.
func twice(form url.Values) error {
	if form.Get("password") != form.Get("again") {
		return problemf(http.StatusUnprocessableEntity, "Le due password non sono uguali: riscrivile.")
	}
	return nil
}

func (s *Server) refuseChoice(w http.ResponseWriter, r *http.Request, form *choice, err error) {
	p := asProblem(err)
	switch {
	case errors.Is(err, errWeak):
		p = problemf(http.StatusUnprocessableEntity, "%s", passwordRule)
	case errors.Is(err, ErrWrong):
		s.Log.Warn("a change of password was refused", "address", address(r))
		p = problemf(http.StatusUnprocessableEntity, "La password attuale non è corretta.")
	case p.Status >= http.StatusInternalServerError:
		s.Log.Log(r.Context(), levelOf(p), "a change of password failed", "address", address(r), "err", err)
	}
	s.showPage(w, p.Status, page{Title: passwordTitle, Choice: form, Problem: p.Detail})
}

// --- API

// ResetAddress is the link of a token, for a person to open.
func ResetAddress(publicURL, token string) string {
	return strings.TrimSuffix(publicURL, "/") + "/reset?" + url.Values{"t": {token}}.Encode()
}

// passwordsAPI lets those who run the desk help who forgot a password.
func (s *Server) passwordsAPI(a *operations) {
	provide(a, operation{at: "POST /users/{name}/reset", id: "makePasswordLink", by: supervisors, scope: Manage, secret: true,
		does: "Makes a link by which somebody chooses a new password, once and within an hour. Supervisors make it for operators, administrators for everybody."}, s.postUserReset)
}

func (s *Server) postUserReset(ctx context.Context, me User, in *OperatorPath) (Link, error) {
	u, err := s.users.ByName(ctx, in.Name)
	if err == nil && me.Role != Admin && u.Role != Operator {
		return Link{}, errRole // or a supervisor would become an administrator
	}
	var l Link
	if err == nil {
		l.Address, l.ExpiresAt, err = s.users.ResetLink(ctx, u.Name, me.ID)
	}
	if errors.Is(err, ErrNoUser) {
		return Link{}, errNobody
	}
	if err != nil {
		return Link{}, err
	}
	return l.at(s.PublicURL), nil
}
