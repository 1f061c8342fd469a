package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
)

// What happens to an account, in its person's own stream; by is who did it.
const (
	userAdded       journal.Kind = "user_added"
	userEdited      journal.Kind = "user_edited" // fields: which; role and skills as they are since
	userActivated   journal.Kind = "user_activated"
	userDeactivated journal.Kind = "user_deactivated"
	sessionsEnded   journal.Kind = "sessions_ended"
)

var (
	errEdited = problemf(http.StatusConflict, "Nel frattempo qualcun altro ha modificato questa persona: nulla è stato salvato.")
	errNobody = problemf(http.StatusNotFound, "Non c'è nessuno con questo nome.")
)

// lastAdmin is why the last who administers stays what they are.
const lastAdmin = "È l'unica persona attiva che amministra: prima dai questo ruolo a un'altra."

// Skill is a topic that somebody answers for.
type Skill struct {
	Topic string `json:"topic" doc:"The topic's code."`
	Level int    `json:"level" minimum:"1" maximum:"3" doc:"1 is the best."`
}

// Profile is what can be changed of a person who signs in.
type Profile struct {
	DisplayName string  `json:"display_name" minLength:"1" maxLength:"100" doc:"As colleagues read it."`
	Role        Role    `json:"role" enum:"operator,supervisor,admin"`
	Extension   string  `json:"extension" pattern:"^([0-9]{2,10})?$" wants:"L'interno ha da 2 a 10 cifre; vuoto per chi non ha un telefono." doc:"Of the person's telephone; empty: none."`
	WrapUp      int     `json:"wrap_up" minimum:"0" maximum:"3600" doc:"Seconds after each call."`
	Skills      []Skill `json:"skills" maxItems:"200"`
}

// Account is somebody who signs in, or did, as those who run the desk see them.
type Account struct {
	Name string `json:"name"`
	Profile
	Active     bool      `json:"active"`
	NoPassword bool      `json:"no_password"` // has not chosen the first one yet
	CreatedAt  time.Time `json:"created_at"`
	Version    int64     `json:"version"` // counts the changes

	id int64
}

// accountSQL reads accounts. Who has not chosen a password yet has the hash that
// no password gives.
const accountSQL = `select u.id, u.name, u.display_name, u.role, coalesce(u.extension, ''), u.wrap_up, u.active, u.password_hash = @nobody, u.created_at, u.version,
	coalesce((select json_agg(json_build_object('topic', t.code, 'level', k.level) order by t.code) from user_topics k join topics t on t.id = k.topic_id where k.user_id = u.id), '[]')
	from users u `

func scanAccount(row pgx.CollectableRow) (a Account, err error) {
	err = row.Scan(&a.id, &a.Name, &a.DisplayName, &a.Role, &a.Extension, &a.WrapUp, &a.Active, &a.NoPassword, &a.CreatedAt, &a.Version, &a.Skills)
	a.CreatedAt = a.CreatedAt.UTC()
	return a, err
}

// Accounts lists everybody, those who left last, by the name colleagues read.
func (s *Users) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := s.db.Pool.Query(ctx, accountSQL+`order by not u.active, lower(u.display_name), u.name`, pgx.StrictNamedArgs{"nobody": nobody})
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return pgx.CollectRows(rows, scanAccount)
}

// lockAccount reads an account that the transaction is about to change, and says
// whether it is the last that administers: one who has not chosen a password yet
// does not, the link may lapse unused. First it locks who administers, always in the same order: of two who would each make
// the other the last, one waits and then sees what the other did. Calls write
// rows that refer to users; they are not waited for.
func lockAccount(ctx context.Context, tx *db.Tx, name string) (a Account, last bool, err error) {
	rows, err := tx.Query(ctx, `select name from users where role = 'admin' and active and password_hash <> @nobody order by id for no key update`,
		pgx.StrictNamedArgs{"nobody": nobody})
	if err != nil {
		return a, false, err
	}
	admins, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return a, false, err
	}
	if rows, err = tx.Query(ctx, accountSQL+`where u.name = @name for no key update of u`, pgx.StrictNamedArgs{"name": name, "nobody": nobody}); err != nil {
		return a, false, err
	}
	a, err = pgx.CollectExactlyOneRow(rows, scanAccount)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNobody
	}
	return a, slices.Equal(admins, []string{name}), err
}

// settled is a profile in the form in which it is kept and compared.
func (p Profile) settled() Profile {
	p.DisplayName = strings.Join(strings.Fields(p.DisplayName), " ")
	p.Skills = slices.SortedFunc(slices.Values(p.Skills), func(a, b Skill) int { return strings.Compare(a.Topic, b.Topic) })
	return p
}

// check refuses what the tags cannot say.
func (p Profile) check() error {
	switch {
	case p.DisplayName == "":
		return refused("display_name", "Non può mancare.")
	case utf8.RuneCountInString(p.DisplayName) > maxDisplay:
		return refused("display_name", fmt.Sprintf("Al massimo %d caratteri.", maxDisplay))
	case strings.ContainsFunc(p.DisplayName, func(r rune) bool { return !unicode.IsPrint(r) }):
		return refused("display_name", "Ci sono caratteri che non si vedono: riscrivilo.")
	}
	for i, k := range p.Skills[min(1, len(p.Skills)):] {
		if k.Topic == p.Skills[i].Topic {
			return refused("skills", "Un argomento è indicato due volte.")
		}
	}
	return nil
}

// changed names the fields in which another profile differs.
func (p Profile) changed(to Profile) (fields []string) {
	for name, differs := range map[string]bool{
		"display_name": p.DisplayName != to.DisplayName, "role": p.Role != to.Role, "extension": p.Extension != to.Extension,
		"wrap_up": p.WrapUp != to.WrapUp, "skills": !slices.Equal(p.Skills, to.Skills),
	} {
		if differs {
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	return fields
}

// noted is the profile as the journal may carry it: codes.
func (p Profile) noted(by int64) map[string]any {
	skills := map[string]int{}
	for _, k := range p.Skills {
		skills[k.Topic] = k.Level
	}
	return map[string]any{"by": by, "role": string(p.Role), "skills": skills}
}

// addAccount adds a person who has no password yet, and makes the link by which
// they choose one.
func (s *Users) addAccount(ctx context.Context, name string, p Profile, by int64) (a Account, l Link, err error) {
	p = p.settled()
	if err := p.check(); err != nil {
		return a, l, err
	}
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		var user int64
		err := tx.QueryRow(ctx, `insert into users (name, display_name, role, password_hash, extension, wrap_up, created_at)
			values (@name, @display, @role, @nobody, nullif(@extension, ''), @wrap_up, @at) returning id`,
			pgx.StrictNamedArgs{"name": name, "display": p.DisplayName, "role": p.Role, "nobody": nobody, "extension": p.Extension, "wrap_up": p.WrapUp, "at": s.now()}).Scan(&user)
		if err != nil {
			return err
		}
		if err := setSkills(ctx, tx, user, p.Skills); err != nil {
			return err
		}
		if err := s.noteIn(ctx, tx, user, userAdded, p.noted(by)); err != nil {
			return err
		}
		if l, err = s.newLink(ctx, tx, user, by); err != nil {
			return err
		}
		a, _, err = lockAccount(ctx, tx, name)
		return err
	})
	if err != nil {
		return Account{}, Link{}, s.taken(ctx, fmt.Errorf("add a user: %w", err), p.Extension)
	}
	return a, l, nil
}

// editAccount gives a person another profile. version is the one that was edited:
// errEdited when it is no longer the one that stands. demoted is called in the same
// transaction for who may not supervise any more.
func (s *Users) editAccount(ctx context.Context, name string, version int64, p Profile, by int64, demoted func(ctx context.Context, tx *db.Tx, user int64) error) (a Account, err error) {
	p = p.settled()
	if err := p.check(); err != nil {
		return a, err
	}
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		was, last, err := lockAccount(ctx, tx, name)
		if err != nil {
			return err
		}
		a = was
		fields := was.changed(p)
		switch {
		case version != was.Version:
			return errEdited
		case last && p.Role != Admin:
			return refused("role", lastAdmin)
		case len(fields) == 0:
			return nil
		}
		if _, err := tx.Exec(ctx, `update users set display_name = @display, role = @role, extension = nullif(@extension, ''), wrap_up = @wrap_up, version = version + 1 where id = @user`,
			pgx.StrictNamedArgs{"user": was.id, "display": p.DisplayName, "role": p.Role, "extension": p.Extension, "wrap_up": p.WrapUp}); err != nil {
			return err
		}
		if slices.Contains(fields, "skills") {
			if err := setSkills(ctx, tx, was.id, p.Skills); err != nil {
				return err
			}
		}
		if was.Role.supervises() && !p.Role.supervises() {
			if err := demoted(ctx, tx, was.id); err != nil {
				return err
			}
		}
		data := p.noted(by)
		data["fields"] = fields
		if err := s.noteIn(ctx, tx, was.id, userEdited, data); err != nil {
			return err
		}
		a, _, err = lockAccount(ctx, tx, name)
		return err
	})
	if err != nil {
		return Account{}, s.taken(ctx, fmt.Errorf("edit a user: %w", err), p.Extension)
	}
	return a, nil
}

// setSkills replaces what somebody answers for.
func setSkills(ctx context.Context, tx *db.Tx, user int64, skills []Skill) error {
	codes, levels := make([]string, len(skills)), make([]int, len(skills))
	for i, k := range skills {
		codes[i], levels[i] = k.Topic, k.Level
	}
	if _, err := tx.Exec(ctx, `delete from user_topics where user_id = @user`, pgx.StrictNamedArgs{"user": user}); err != nil {
		return err
	}
	done, err := tx.Exec(ctx, `insert into user_topics (user_id, topic_id, level)
		select @user, t.id, s.level from unnest(@codes::text[], @levels::int[]) as s(code, level) join topics t using (code)`,
		pgx.StrictNamedArgs{"user": user, "codes": codes, "levels": levels})
	if err != nil {
		return err
	}
	if int(done.RowsAffected()) != len(skills) {
		return refused("skills", "Un argomento non esiste, o non esiste più: ricarica la pagina.")
	}
	tx.Wake("queue", queue.TopicMatch)
	return nil
}

// taken turns the database's refusal of a name or an extension that somebody has
// into one that says so, and who has the extension.
func (s *Users) taken(ctx context.Context, err error, extension string) error {
	var unique *pgconn.PgError
	if !errors.As(err, &unique) || unique.Code != "23505" {
		return err
	}
	if unique.ConstraintName == "users_name_key" {
		return refused("name", "C'è già una persona con questo nome per accedere: anche chi è disattivato lo tiene.")
	}
	var who string
	var active bool
	err = s.db.Pool.QueryRow(ctx, `select display_name, active from users where extension = @extension`, pgx.StrictNamedArgs{"extension": extension}).Scan(&who, &active)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return refused("extension", "L'interno era di un'altra persona fino a ora: riprova.")
	case err != nil:
		return fmt.Errorf("extension: %w", err)
	case !active:
		return refused("extension", fmt.Sprintf("È l'interno di %s (accesso disattivato): prima toglilo a quella persona.", who))
	}
	return refused("extension", fmt.Sprintf("È già l'interno di %s.", who))
}

// setActive lets somebody go, or come back, in a transaction of its caller's.
// Sessions, tokens and links end with the going and stay ended. changed is false
// when it is as it shall be.
func (s *Users) setActive(ctx context.Context, tx *db.Tx, name string, active bool, by int64) (a Account, changed bool, err error) {
	a, last, err := lockAccount(ctx, tx, name)
	switch {
	case err != nil:
		return a, false, err
	case a.Active == active:
		return a, false, nil
	case last:
		return a, false, refused("", lastAdmin)
	}
	kind := userActivated
	if !active {
		kind = userDeactivated
		for _, sql := range []string{`delete from api_tokens where user_id = @user`, `delete from password_resets where user_id = @user and used_at is null`} {
			if _, err := tx.Exec(ctx, sql, pgx.StrictNamedArgs{"user": a.id}); err != nil {
				return a, false, err
			}
		}
	}
	if _, err := tx.Exec(ctx, `update users set active = @active, signed_out = signed_out + 1, version = version + 1 where id = @user`,
		pgx.StrictNamedArgs{"user": a.id, "active": active}); err != nil {
		return a, false, err
	}
	if err := s.noteIn(ctx, tx, a.id, kind, map[string]any{"by": by}); err != nil {
		return a, false, err
	}
	a.Active = active
	a.Version++
	return a, true, nil
}

// endSessions ends the sessions of a person; their tokens hold on.
func (s *Users) endSessions(ctx context.Context, name string, by int64) (a Account, err error) {
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		if a, _, err = lockAccount(ctx, tx, name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update users set signed_out = signed_out + 1 where id = @user`, pgx.StrictNamedArgs{"user": a.id}); err != nil {
			return err
		}
		return s.noteIn(ctx, tx, a.id, sessionsEnded, map[string]any{"by": by})
	})
	if err != nil {
		return a, fmt.Errorf("end the sessions of a user: %w", err)
	}
	return a, nil
}

// --- API

// accountsAPI is who may sign in. Supervisors see it, administrators change it.
func (s *Server) accountsAPI(a *operations) {
	provide(a, operation{at: "GET /users", id: "listUsers", does: "Everybody who signs in or did, with what they answer for.", by: supervisors},
		func(ctx context.Context, _ User, _ *nothing) (list[Account], error) {
			return listed(s.users.Accounts(ctx))
		})
	provide(a, operation{at: "POST /users", id: "addUser", by: admins, scope: Manage, secret: true,
		does: "Adds somebody, who chooses the first password by the link: once and within an hour."}, s.postUser)
	provide(a, operation{at: "PUT /users/{name}", id: "editUser", by: admins, scope: Manage,
		does: "Changes somebody; 409 when somebody else was quicker, and then nothing is saved."}, s.putUser)
	provide(a, operation{at: "POST /users/{name}/deactivate", id: "deactivateUser", by: admins, scope: Manage,
		does: "Lets somebody go: sessions and tokens end, no call is offered any more. A talk goes on to its end."},
		func(ctx context.Context, me User, in *OperatorPath) (Account, error) {
			return s.setActive(ctx, me, in.Name, false)
		})
	provide(a, operation{at: "POST /users/{name}/activate", id: "activateUser", by: admins, scope: Manage,
		does: "Lets somebody come back, with the password they had."},
		func(ctx context.Context, me User, in *OperatorPath) (Account, error) {
			return s.setActive(ctx, me, in.Name, true)
		})
	provide(a, operation{at: "POST /users/{name}/signout", id: "signOutUser", by: admins, scope: Manage,
		does: "Ends the sessions of somebody on every browser."}, s.postUserSignOut)
}

type newUserInput struct {
	Body struct {
		Name string `json:"name" pattern:"^[a-z][a-z0-9._-]{0,31}$" wants:"Comincia con una lettera minuscola; poi al massimo 31 tra lettere minuscole senza accenti, cifre, punto, trattino e sottolineatura." doc:"To sign in with."`
		Profile
	}
}

// newAccount is an account with the link to its first password.
type newAccount struct {
	Account
	Link
}

func (s *Server) postUser(ctx context.Context, me User, in *newUserInput) (*newAccount, error) {
	a, l, err := s.users.addAccount(ctx, in.Body.Name, in.Body.Profile, me.ID)
	if err != nil {
		return nil, err
	}
	return &newAccount{a, l.at(s.PublicURL)}, nil
}

type editUserInput struct {
	OperatorPath
	Body struct {
		Version int64 `json:"version" doc:"As the editor saw it."`
		Profile
	}
}

func (s *Server) putUser(ctx context.Context, me User, in *editUserInput) (Account, error) {
	return s.users.editAccount(ctx, in.Name, in.Body.Version, in.Body.Profile, me.ID, func(ctx context.Context, tx *db.Tx, user int64) error {
		return s.Queue.Demote(ctx, tx, user, s.Now())
	})
}

func (s *Server) setActive(ctx context.Context, me User, name string, active bool) (a Account, err error) {
	err = s.DB.Tx(ctx, func(tx *db.Tx) error {
		var changed bool
		if a, changed, err = s.users.setActive(ctx, tx, name, active, me.ID); err != nil || !changed {
			return err
		}
		return s.Queue.Dismiss(ctx, tx, a.id, s.Now())
	})
	if err != nil {
		return Account{}, fmt.Errorf("let a user go or come back: %w", err)
	}
	if !active {
		s.hub.cutUser(a.id)
	}
	return a, nil
}

func (s *Server) postUserSignOut(ctx context.Context, me User, in *OperatorPath) (nothing, error) {
	a, err := s.users.endSessions(ctx, in.Name, me.ID)
	if err == nil {
		s.hub.cutUser(a.id)
	}
	return nothing{}, err
}
