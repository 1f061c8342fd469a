package web

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
)

// Role is what somebody may do.
type Role string

// The roles. Operators act on their own seat and on every ticket; supervisors
// and administrators also set other people's state.
const (
	Operator   Role = "operator"
	Supervisor Role = "supervisor"
	Admin      Role = "admin"
)

// supervises tells whether the role may act on other people's seats.
func (r Role) supervises() bool { return r == Supervisor || r == Admin }

// User is somebody who signs in. The JSON form is ME of the console's contract.
type User struct {
	ID          int64     `json:"id"`
	Name        string    `json:"name"`
	DisplayName string    `json:"display_name"`
	Role        Role      `json:"role"`
	Extension   string    `json:"extension"` // "" when the person has no telephone
	WrapUp      int       `json:"wrap_up"`   // seconds
	Active      bool      `json:"-"`
	CreatedAt   time.Time `json:"-"`

	passwordHash string
	signedOut    int // how often all sessions were ended
}

// stamp changes with the password, and when all sessions are ended: sessions
// carry it and end with it.
func (u User) stamp() string {
	sum := sha256.Sum256([]byte(u.passwordHash + " " + strconv.Itoa(u.signedOut)))
	return hex.EncodeToString(sum[:8])
}

const (
	tokenPrefix   = "pronto_" // so that a leaked token is recognised for what it is
	tokenBytes    = 32
	tokenLongest  = 400 * 24 * time.Hour // a year and a month of grace
	tokenUsedStep = time.Minute          // last_used_at is written so often at most
	maxDisplay    = 100                  // characters
	maxWrapUp     = 3600                 // seconds, as the schema has it
	usersKept     = 10_000               // remembered for when the database is away
)

var (
	// ErrNoUser is a name that nobody has, or somebody no longer active.
	ErrNoUser = errors.New("no such user")
	// ErrUserExists is a name or an extension that somebody has already.
	ErrUserExists = errors.New("the name or the extension is taken")

	userName       = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)
	phoneExtension = regexp.MustCompile(`^[0-9]{2,10}$`)
)

// Users is the store of people, their passwords and tokens, and of the secrets
// of their telephones.
type Users struct {
	db     *db.DB
	now    func() time.Time
	hasher hasher

	mu   sync.Mutex // guards seen
	seen map[int64]User
}

// NewUsers is the store over a database; now is time.Now outside tests.
func NewUsers(d *db.DB, now func() time.Time) *Users {
	return &Users{db: d, now: now, hasher: newHasher(), seen: map[int64]User{}}
}

const userColumns = `id, name, display_name, role, coalesce(extension, ''), wrap_up, active, created_at, password_hash, signed_out`

func scanUser(row pgx.CollectableRow) (u User, err error) {
	err = row.Scan(&u.ID, &u.Name, &u.DisplayName, &u.Role, &u.Extension, &u.WrapUp, &u.Active, &u.CreatedAt, &u.passwordHash, &u.signedOut)
	return u, err
}

// byCommand is who does what is done on the server's command line.
const byCommand = 0

// Add adds a person, and tells the open pages: a telephone is followed from there on. Names are lower-case ASCII, extensions 2 to 10 digits or
// "" for nobody's telephone, passwords 10 characters at least.
func (s *Users) Add(ctx context.Context, name, display string, role Role, password, extension string) (User, error) {
	display = strings.TrimSpace(display)
	switch {
	case !userName.MatchString(name):
		return User{}, fmt.Errorf("user name: want a lower-case letter followed by at most 31 of a-z 0-9 . _ -")
	case display == "" || utf8.RuneCountInString(display) > maxDisplay || !utf8.ValidString(display):
		return User{}, fmt.Errorf("display name: want 1 to %d characters", maxDisplay)
	case role != Operator && role != Supervisor && role != Admin:
		return User{}, fmt.Errorf("role: want %s, %s or %s", Operator, Supervisor, Admin)
	case extension != "" && !phoneExtension.MatchString(extension):
		return User{}, fmt.Errorf("extension: want 2 to 10 digits")
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	var u User
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(ctx, `insert into users (name, display_name, role, password_hash, extension, created_at)
			values (@name, @display, @role, @hash, nullif(@extension, ''), @at) returning `+userColumns,
			pgx.StrictNamedArgs{"name": name, "display": display, "role": role, "hash": hash, "extension": extension, "at": s.now()})
		if err != nil {
			return err
		}
		if u, err = pgx.CollectExactlyOneRow(rows, scanUser); err != nil {
			return err
		}
		return s.noteIn(ctx, tx, u.ID, userAdded, Profile{Role: role}.noted(byCommand))
	})
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "23505" {
		return User{}, ErrUserExists
	}
	if err != nil {
		return User{}, fmt.Errorf("add user: %w", err)
	}
	return u, nil
}

// SetWrapUp sets how many seconds a person has after a call, 0 to 3600.
func (s *Users) SetWrapUp(ctx context.Context, name string, seconds int) error {
	if seconds < 0 || seconds > maxWrapUp {
		return fmt.Errorf("wrap-up: want 0 to %d seconds", maxWrapUp)
	}
	return s.update(ctx, `update users set wrap_up = @value, version = version + 1 where name = @name`, name, seconds)
}

func (s *Users) update(ctx context.Context, sql, name string, value any) error {
	done, err := s.db.Pool.Exec(ctx, sql, pgx.StrictNamedArgs{"name": name, "value": value})
	if err != nil {
		return fmt.Errorf("change user: %w", err)
	}
	if done.RowsAffected() == 0 {
		return ErrNoUser
	}
	return nil
}

// SetSkills sets the topics, by code, that a person is offered callers for. A
// level may follow the code, from 1, the best, to 3: "certificati:2"; without it
// is 1.
func (s *Users) SetSkills(ctx context.Context, name string, topics ...string) error {
	return s.db.Tx(ctx, func(tx *db.Tx) error {
		var user int64
		var p Profile
		err := tx.QueryRow(ctx, `update users set version = version + 1 where name = @name returning id, role`, pgx.StrictNamedArgs{"name": name}).Scan(&user, &p.Role)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoUser
		}
		if err != nil {
			return fmt.Errorf("skills: %w", err)
		}
		if _, err := tx.Exec(ctx, `delete from user_topics where user_id = @user`, pgx.StrictNamedArgs{"user": user}); err != nil {
			return fmt.Errorf("skills: %w", err)
		}
		codes, levels, err := skillsOf(topics)
		if err != nil {
			return err
		}
		for i, code := range codes {
			done, err := tx.Exec(ctx, `insert into user_topics (user_id, topic_id, level) select @user, id, @level from topics where code = @code on conflict do nothing`,
				pgx.StrictNamedArgs{"user": user, "code": code, "level": levels[i]})
			if err != nil {
				return fmt.Errorf("skills: %w", err)
			}
			if done.RowsAffected() == 0 {
				return fmt.Errorf("skills: %q is no topic of this desk, or stands here twice", code)
			}
			p.Skills = append(p.Skills, Skill{code, levels[i]})
		}
		tx.Wake("queue", queue.TopicMatch)
		data := p.noted(byCommand)
		data["fields"] = []string{"skills"}
		return s.noteIn(ctx, tx, user, userEdited, data)
	})
}

const worstLevel = 3 // of a skill

// skillsOf reads codes of topics with their levels.
func skillsOf(topics []string) (codes []string, levels []int, err error) {
	for _, t := range topics {
		code, digit, leveled := strings.Cut(t, ":")
		level := 1
		if leveled {
			if level, err = strconv.Atoi(digit); err != nil || level < 1 || level > worstLevel {
				return nil, nil, fmt.Errorf("skills: %q: want a level from 1 to %d", t, worstLevel)
			}
		}
		codes, levels = append(codes, code), append(levels, level)
	}
	return codes, levels, nil
}

// SetPhone sets the digest secret of a telephone for a realm. Only
// H(user:realm:password) is kept (RFC 7616 §3.4.2), in both algorithms that
// telephones speak.
func (s *Users) SetPhone(ctx context.Context, extension, realm, password string) error {
	if !phoneExtension.MatchString(extension) {
		return fmt.Errorf("extension: want 2 to 10 digits")
	}
	if realm == "" || strings.ContainsAny(realm, "\":") || password == "" || len(password) > maxPassword {
		return fmt.Errorf("telephone %s: want a realm without quotes or colons and a password of 1 to %d bytes", extension, maxPassword)
	}
	a1 := []byte(extension + ":" + realm + ":" + password)
	md5sum, sha := md5.Sum(a1), sha256.Sum256(a1) //nolint:gosec // MD5 is what RFC 2617 telephones know
	_, err := s.db.Pool.Exec(ctx, `insert into phones (extension, ha1_md5, ha1_sha256) values (@extension, @md5, @sha)
		on conflict (extension) do update set ha1_md5 = excluded.ha1_md5, ha1_sha256 = excluded.ha1_sha256`,
		pgx.StrictNamedArgs{"extension": extension, "md5": hex.EncodeToString(md5sum[:]), "sha": hex.EncodeToString(sha[:])})
	if err != nil {
		return fmt.Errorf("telephone %s: %w", extension, err)
	}
	return nil
}

// ByName finds an active person by name.
func (s *Users) ByName(ctx context.Context, name string) (User, error) {
	if !userName.MatchString(name) {
		return User{}, ErrNoUser
	}
	return s.oneActive(ctx, `name = @is`, name)
}

// byExtension finds the active person whose telephone it is.
func (s *Users) byExtension(ctx context.Context, extension string) (User, error) {
	if !phoneExtension.MatchString(extension) {
		return User{}, ErrNoUser
	}
	return s.oneActive(ctx, `extension = @is`, extension)
}

func (s *Users) oneActive(ctx context.Context, where, is string) (User, error) {
	rows, err := s.db.Pool.Query(ctx, `select `+userColumns+` from users where active and `+where, pgx.StrictNamedArgs{"is": is})
	if err != nil {
		return User{}, fmt.Errorf("user: %w", err)
	}
	u, err := pgx.CollectExactlyOneRow(rows, scanUser)
	if errors.Is(err, pgx.ErrNoRows) {
		return User{}, ErrNoUser
	}
	return u, err
}

// byID finds an active person; one seen before is remembered while the
// database is away, as their session is.
func (s *Users) byID(ctx context.Context, id int64) (User, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionQuery)
	defer cancel()
	rows, err := s.db.Pool.Query(ctx, `select `+userColumns+` from users where id = @id and active`, pgx.StrictNamedArgs{"id": id})
	var u User
	if err == nil {
		u, err = pgx.CollectExactlyOneRow(rows, scanUser)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		if len(s.seen) >= usersKept {
			clear(s.seen)
		}
		s.seen[id] = u
		return u, nil
	case errors.Is(err, pgx.ErrNoRows):
		delete(s.seen, id)
		return User{}, ErrNoUser
	case db.Away(err):
		if seen, ok := s.seen[id]; ok {
			return seen, nil
		}
	}
	return User{}, fmt.Errorf("user: %w", err)
}

// List returns everybody, inactive people included, by name.
func (s *Users) List(ctx context.Context) ([]User, error) {
	rows, err := s.db.Pool.Query(ctx, `select `+userColumns+` from users order by name`)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	return pgx.CollectRows(rows, scanUser)
}

// SignIn checks a name and a password: ErrWrong when they do not fit, after the
// same work for known and unknown names; ErrBusy when too many sign in at once.
// Both outcomes of a known name are journalled.
func (s *Users) SignIn(ctx context.Context, name, password string) (User, error) {
	u, err := s.ByName(ctx, name)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNoUser) {
		return User{}, err
	}
	stored := u.passwordHash
	if !known {
		stored = nobody
	}
	fits, err := s.hasher.verify(ctx, password, stored)
	if err != nil {
		return User{}, err
	}
	if !known {
		return User{}, ErrWrong
	}
	kind := journal.SignedIn
	if !fits {
		kind = signInFailed
	}
	if err := s.note(ctx, u.ID, kind); err != nil {
		return User{}, err
	}
	if !fits {
		return User{}, ErrWrong
	}
	return u, nil
}

// signInFailed is a wrong password for a name that exists.
const signInFailed journal.Kind = "sign_in_failed"

// note journals something a person did in their own stream.
func (s *Users) note(ctx context.Context, user int64, kind journal.Kind) error {
	return s.db.Tx(ctx, func(tx *db.Tx) error { return s.noteIn(ctx, tx, user, kind, nil) })
}

// noteIn is note in the transaction of what is noted.
func (s *Users) noteIn(ctx context.Context, tx *db.Tx, user int64, kind journal.Kind, data map[string]any) error {
	tx.Wake("journal")
	return journal.Append(ctx, tx, journal.Line{Stream: journal.SeatStream(user), At: s.now(), Kind: kind, User: user, Data: data})
}
