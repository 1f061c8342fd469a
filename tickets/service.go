package tickets

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// Topic is what a call is about, chosen in the menu; operators have skills for
// topics.
type Topic struct {
	ID   int64  `json:"id"`
	Code string `json:"code"`
	Name string `json:"name"`
}

// MenuItem is one key of a service's menu.
type MenuItem struct {
	Key     rune   // '1' … '9'
	Action  string // ActionTopic, also when "", or ActionState
	Topic   Topic  // of ActionTopic
	Default bool   // silence gets this one
}

// Service is what callers dial, its hours and its menu, as one version of its
// settings says. It is shared and never changed once read.
type Service struct {
	ID        int64
	Version   int64     // of the settings, from 1; contacts keep it
	ValidFrom time.Time // the version holds from then until another does
	Number    string    // the first of Numbers
	Numbers   []string  // E.164, or the digits as dialled for 800…
	Name      string
	Hours     calendar.Hours    // of this version; whoever looks ahead asks Open
	Calendar  calendar.Calendar // of all versions that were published
	Menu      []MenuItem        // by key

	MobilesRefused  bool          // a caller from a mobile network hears why and is not served (A2)
	RecordingNotice bool          // the caller hears that calls may be recorded (A13)
	MaxWait         time.Duration // in the queue, before voicemail
	NobodyWait      time.Duration // while nobody is signed in for the matter; looked at with each announcement
	AtClosing       string        // AtClosingServe, AtClosingCallback: what those get who wait when it closes
	AnnounceEvery   time.Duration // between two announcements of position and expected wait
	CallbackOffered bool          // a waiting caller may ask to be called back
	Duty            Duty          // who is rung for an emergency while it is closed (A12)

	RecordCalls        bool   // talks with operators are recorded, after the notice
	RecordingAgreement string // what allows it
	RecordingDays      int    // how long they are kept

	SuperviseCalls       bool   // supervisors may take part in talks
	SupervisionAgreement string // what allows it
}

// Open says whether the service answers at an instant and when that changes, also
// when a version to come changes it; see calendar.Hours.Open.
func (s *Service) Open(at time.Time) (open bool, changes time.Time) {
	if len(s.Calendar) == 0 { // a service that was not read from the database
		return s.Hours.Open(at)
	}
	return s.Calendar.Open(at)
}

// Item is the menu's item of a key; false when the menu does not offer it.
func (s *Service) Item(key rune) (MenuItem, bool) {
	for _, m := range s.Menu {
		if m.Key == key {
			return m, true
		}
	}
	return MenuItem{}, false
}

// Choice is the topic of a key; false when the menu does not offer it, or offers
// something else.
func (s *Service) Choice(key rune) (Topic, bool) {
	m, ok := s.Item(key)
	return m.Topic, ok && m.Action != ActionState
}

// Supervisable says whether supervisors may take part in the talk of a contact: both
// the settings must say so that it was answered with, and those in force now.
func (b *Book) Supervisable(ctx context.Context, contact uuid.UUID, at time.Time) (may bool, err error) {
	err = b.db.Pool.QueryRow(ctx, `select coalesce((v.settings ->> 'supervise_calls')::boolean, false) and coalesce((
			select (now.settings ->> 'supervise_calls')::boolean from service_versions now
			where now.service_id = c.service_id and now.state = 'published' and now.valid_from <= @at order by now.valid_from desc, now.version desc limit 1), false)
		from contacts c left join service_versions v on v.service_id = c.service_id and v.version = c.settings_version where c.id = @contact`,
		pgx.StrictNamedArgs{"contact": contact, "at": at}).Scan(&may)
	if err != nil {
		return false, fmt.Errorf("may the talk of %s be supervised: %w", contact, found(err))
	}
	return may, nil
}

// Supervises says whether any service that is in force lets supervisors take part in
// talks. Nothing is known while the database has never answered.
func (b *Book) Supervises(ctx context.Context) bool {
	list, err := b.Services(ctx)
	return err == nil && slices.ContainsFunc(list, func(s *Service) bool { return s.SuperviseCalls })
}

// DefaultTopic is what a caller who chooses nothing gets: the item marked so,
// else the first topic; the zero Topic without a menu.
func (s *Service) DefaultTopic() (topic Topic) {
	for _, m := range s.Menu {
		switch {
		case m.Action == ActionState:
		case m.Default:
			return m.Topic
		case topic == Topic{}:
			topic = m.Topic
		}
	}
	return topic
}

// Service is the service that a number belongs to now, in any spelling;
// ErrNotFound when it is none. It answers from memory while the database is away,
// if it was ever read.
func (b *Book) Service(ctx context.Context, number string) (*Service, error) {
	return b.ServiceAt(ctx, number, time.Now())
}

// ServiceAt is Service with the settings that are in force at an instant.
func (b *Book) ServiceAt(ctx context.Context, number string, at time.Time) (*Service, error) {
	known, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	number = Normalise(number)
	for _, s := range known.at(at) {
		if slices.Contains(s.Numbers, number) {
			return s, nil
		}
	}
	return nil, ErrNotFound
}

// Services lists the services that are in force now, by number.
func (b *Book) Services(ctx context.Context) ([]*Service, error) {
	known, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	list := known.at(time.Now())
	slices.SortFunc(list, func(x, y *Service) int { return strings.Compare(x.Number, y.Number) })
	return list, nil
}

// catalogue is what was published, as it was last read: all versions, so that
// one comes into force at its instant without anybody reading again.
type catalogue struct {
	services    [][]*Service // of each service its versions, as they come into force
	emergencies []Emergency
}

// at is the version in force of each service.
func (c *catalogue) at(instant time.Time) (list []*Service) {
	for _, versions := range c.services {
		var holds *Service
		for _, s := range versions {
			if !s.ValidFrom.After(instant) {
				holds = s
			}
		}
		if holds != nil {
			list = append(list, holds)
		}
	}
	return list
}

// known is the catalogue: from memory, and read again after a change. When it
// cannot be read the old one serves: hours seldom change, and a caller who
// arrives while the database is away should not hear of it.
func (b *Book) known(ctx context.Context) (*catalogue, error) {
	b.mu.Lock()
	select {
	case <-b.changed.C():
		b.wanted++
	default:
	}
	services, wanted, have := b.services, b.wanted, b.have
	b.mu.Unlock()
	if have >= wanted {
		return services, nil
	}
	read, err := readCatalogue(ctx, b.db.Pool) // without the lock: a slow database must not queue callers up behind it
	if err != nil {
		if services != nil && db.Away(err) {
			return services, nil
		}
		return nil, fmt.Errorf("read the services: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if wanted > b.have { // else somebody who began later was quicker
		b.services, b.have = read, wanted
	}
	return read, nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readCatalogue(ctx context.Context, q querier) (*catalogue, error) {
	topics, err := topicsByCode(ctx, q)
	if err != nil {
		return nil, err
	}
	c := &catalogue{}
	rows, err := q.Query(ctx, `select service_id, version, valid_from, settings from service_versions where state = 'published' order by service_id, valid_from, version`)
	if err != nil {
		return nil, err
	}
	var id, version int64
	var from time.Time
	var settings Settings
	var before int64 // the service of the row before
	if _, err := pgx.ForEachRow(rows, []any{&id, &version, &from, &settings}, func() error {
		s := settings.filled().service(topics, new(faults)) // it was checked when it was published
		s.ID, s.Version, s.ValidFrom = id, version, from
		if id != before {
			c.services, before = append(c.services, nil), id
		}
		last := &c.services[len(c.services)-1]
		*last = append(*last, s)
		settings = Settings{} // a new one: the slices of this one are in use
		return nil
	}); err != nil {
		return nil, err
	}
	for _, versions := range c.services {
		var years calendar.Calendar
		for _, s := range versions {
			years = append(years, calendar.Edition{From: s.ValidFrom, Hours: s.Hours})
		}
		for _, s := range versions {
			s.Calendar = years
		}
	}
	c.emergencies, err = readEmergencies(ctx, q)
	return c, err
}

// topicsByCode reads the topics that menus name.
func topicsByCode(ctx context.Context, q querier) (map[string]Topic, error) {
	rows, err := q.Query(ctx, `select id, code, name from topics`)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Topic])
	topics := map[string]Topic{}
	for _, t := range list {
		topics[t.Code] = t
	}
	return topics, err
}

const (
	daysPerWeek    = 7
	minutesPerHour = 60
	minutesPerDay  = 24 * minutesPerHour
)

// Topics lists all topics by id.
func (b *Book) Topics(ctx context.Context) ([]Topic, error) {
	rows, err := b.db.Pool.Query(ctx, `select id, code, name from topics order by id`)
	if err != nil {
		return nil, fmt.Errorf("read the topics: %w", err)
	}
	topics, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Topic])
	if err != nil {
		return nil, fmt.Errorf("read the topics: %w", err)
	}
	return topics, nil
}

// PutTopic creates the topic of this code or renames it.
func (b *Book) PutTopic(ctx context.Context, code, name string) (Topic, error) {
	t := Topic{Code: code, Name: name}
	if code == "" || name == "" {
		return Topic{}, &Refusal{"topic", "Codice e nome dell'argomento sono obbligatori."}
	}
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		tx.Wake(topicServices)
		return tx.QueryRow(ctx, `insert into topics (code, name) values (@code, @name)
			on conflict (code) do update set name = excluded.name returning id`,
			pgx.StrictNamedArgs{"code": code, "name": name}).Scan(&t.ID)
	})
	if err != nil {
		return Topic{}, fmt.Errorf("put topic %s: %w", code, err)
	}
	return t, nil
}

// PutService creates the service of s.Number, as if it had always been, or
// publishes new settings of it at once, for programs that know what they do: a
// menu that leads nowhere is not refused. The menu names topics by their ids. It
// returns the service as it is in force.
func (b *Book) PutService(ctx context.Context, s Service) (*Service, error) {
	now := time.Now()
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		topics, err := topicsByCode(ctx, tx)
		if err != nil {
			return err
		}
		codes := map[int64]string{}
		for _, t := range topics {
			codes[t.ID] = t.Code
		}
		settings := s.settings(codes)
		var found faults
		read := settings.service(topics, &found)
		if found.blocking() {
			return &Refusal{found[0].Field, found[0].Reason}
		}
		id, from, err := serviceOf(ctx, tx, read, now)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into service_versions (service_id, version, state, valid_from, settings, made_at, published_at)
			select @service, coalesce(max(version), 0) + 1, 'published', @from, @settings, @now, @now from service_versions where service_id = @service`,
			pgx.StrictNamedArgs{"service": id, "from": from, "settings": settings, "now": now}); err != nil {
			return err
		}
		s.Number = read.Number
		return shown(ctx, tx, id, read)
	})
	if err != nil {
		return nil, fmt.Errorf("put service %s: %w", s.Number, err)
	}
	return b.Service(ctx, s.Number)
}

// serviceOf is the row of the service that has the first number of s, a new one
// if none has, and from when the settings hold that are put there.
func serviceOf(ctx context.Context, tx *db.Tx, s *Service, now time.Time) (id int64, from time.Time, err error) {
	var has *int64
	err = tx.QueryRow(ctx, `select coalesce((select service_id from service_at(@number, @now)), (select id from services where number = @number))`,
		pgx.StrictNamedArgs{"number": s.Number, "now": now}).Scan(&has)
	switch {
	case err != nil:
		return 0, now, err
	case has != nil:
		return *has, now, nil
	}
	err = tx.QueryRow(ctx, `insert into services (number, name) values (@number, @name) returning id`,
		pgx.StrictNamedArgs{"number": s.Number, "name": s.Name}).Scan(&id)
	return id, time.Unix(0, 0), err
}

// shown makes lists show what was published last, and everybody read it.
func shown(ctx context.Context, tx *db.Tx, id int64, s *Service) error {
	tx.Wake(topicServices)
	_, err := tx.Exec(ctx, `update services set number = @number, name = @name, always_open = @always, open_holidays = @holidays where id = @id`,
		pgx.StrictNamedArgs{"id": id, "number": s.Number, "name": s.Name, "always": s.Hours.Always, "holidays": s.Hours.OpenHolidays})
	return err
}
