package tickets

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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
	Key     rune // '1' … '9'
	Topic   Topic
	Default bool // silence gets this one
}

// Service is a number that can be dialled, its hours and its menu. It is
// shared and never changed once read.
type Service struct {
	ID     int64
	Number string // E.164, or the digits as dialled for 800…
	Name   string
	Hours  calendar.Hours
	Menu   []MenuItem // by key
}

// Choice is the topic of a key; false when the menu does not offer it.
func (s *Service) Choice(key rune) (Topic, bool) {
	for _, m := range s.Menu {
		if m.Key == key {
			return m.Topic, true
		}
	}
	return Topic{}, false
}

// DefaultTopic is what a caller who chooses nothing gets: the item marked so,
// else the first; the zero Topic without a menu.
func (s *Service) DefaultTopic() Topic {
	for _, m := range s.Menu {
		if m.Default {
			return m.Topic
		}
	}
	if len(s.Menu) > 0 {
		return s.Menu[0].Topic
	}
	return Topic{}
}

// Service is the service of a number in any spelling; ErrNotFound when it is
// none. It answers from memory while the database is away, if it was ever read.
func (b *Book) Service(ctx context.Context, number string) (*Service, error) {
	all, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	s, ok := all[Normalise(number)]
	if !ok {
		return nil, ErrNotFound
	}
	return s, nil
}

// known is the services by number: from memory, and read again after a change.
// When they cannot be read the old ones serve: hours seldom change, and a
// caller who arrives while the database is away should not hear of it.
func (b *Book) known(ctx context.Context) (map[string]*Service, error) {
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
	read, err := readServices(ctx, b.db.Pool) // without the lock: a slow database must not queue callers up behind it
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

// Services lists all services by number.
func (b *Book) Services(ctx context.Context) ([]*Service, error) {
	all, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(all), func(x, y *Service) int { return strings.Compare(x.Number, y.Number) }), nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readServices(ctx context.Context, q querier) (map[string]*Service, error) {
	byID := map[int64]*Service{}
	all := map[string]*Service{}
	rows, err := q.Query(ctx, `select id, number, name, always_open, open_holidays from services`)
	if err != nil {
		return nil, err
	}
	var s Service
	if _, err := pgx.ForEachRow(rows, []any{&s.ID, &s.Number, &s.Name, &s.Hours.Always, &s.Hours.OpenHolidays}, func() error {
		one := s
		byID[s.ID], all[s.Number] = &one, &one
		return nil
	}); err != nil {
		return nil, err
	}
	if rows, err = q.Query(ctx, `select service_id, weekday, opens, closes from service_hours order by service_id, weekday, opens`); err != nil {
		return nil, err
	}
	var service int64
	var weekday int
	var opens, closes string
	if _, err := pgx.ForEachRow(rows, []any{&service, &weekday, &opens, &closes}, func() error {
		if s := byID[service]; s != nil { // a service made since the first query has its turn at the next reading
			day := weekday % daysPerWeek // ISO 8601 numbers Sunday 7, time.Weekday 0
			s.Hours.Week[day] = append(s.Hours.Week[day], calendar.Span{Open: minutes(opens), Close: minutes(closes)})
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if rows, err = q.Query(ctx, `select m.service_id, m.key, m.is_default, t.id, t.code, t.name from service_menu m join topics t on t.id = m.topic_id order by m.service_id, m.key`); err != nil {
		return nil, err
	}
	var key string
	var item MenuItem
	_, err = pgx.ForEachRow(rows, []any{&service, &key, &item.Default, &item.Topic.ID, &item.Topic.Code, &item.Topic.Name}, func() error {
		if s := byID[service]; s != nil {
			item.Key = rune(key[0])
			s.Menu = append(s.Menu, item)
		}
		return nil
	})
	return all, err
}

const (
	daysPerWeek    = 7
	minutesPerHour = 60
	minutesPerDay  = 24 * minutesPerHour
)

// minutes reads a column of service_hours, whose check constraint holds the form.
func minutes(clock string) int {
	h, _ := strconv.Atoi(clock[:2])
	m, _ := strconv.Atoi(clock[3:])
	return h*minutesPerHour + m
}

func clock(minutes int) string {
	return fmt.Sprintf("%02d:%02d", minutes/minutesPerHour, minutes%minutesPerHour)
}

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

// PutService creates the service of s.Number or replaces it, its hours and its
// menu (by the Topic.ID of each item). It returns it with its id.
func (b *Book) PutService(ctx context.Context, s Service) (*Service, error) {
	s.Number = Normalise(s.Number)
	if err := s.check(); err != nil {
		return nil, err
	}
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		tx.Wake(topicServices)
		if err := tx.QueryRow(ctx, `insert into services (number, name, always_open, open_holidays) values (@number, @name, @always, @holidays)
			on conflict (number) do update set name = excluded.name, always_open = excluded.always_open, open_holidays = excluded.open_holidays
			returning id`, pgx.StrictNamedArgs{"number": s.Number, "name": s.Name, "always": s.Hours.Always, "holidays": s.Hours.OpenHolidays}).Scan(&s.ID); err != nil {
			return err
		}
		var batch pgx.Batch
		batch.Queue(`delete from service_hours where service_id = $1`, s.ID)
		batch.Queue(`delete from service_menu where service_id = $1`, s.ID)
		for day, spans := range s.Hours.Week {
			for _, span := range spans {
				iso := (day+daysPerWeek-1)%daysPerWeek + 1 // ISO 8601: Monday is 1, Sunday 7
				batch.Queue(`insert into service_hours (service_id, weekday, opens, closes) values ($1, $2, $3, $4)`, s.ID, iso, clock(span.Open), clock(span.Close))
			}
		}
		for _, m := range s.Menu {
			batch.Queue(`insert into service_menu (service_id, key, topic_id, is_default) values ($1, $2, $3, $4)`, s.ID, string(m.Key), m.Topic.ID, m.Default)
		}
		return tx.SendBatch(ctx, &batch).Close()
	})
	if err != nil {
		return nil, fmt.Errorf("put service %s: %w", s.Number, err)
	}
	return b.Service(ctx, s.Number)
}

// check holds what the schema cannot say, and says it in Italian.
func (s Service) check() error {
	switch {
	case s.Number == "":
		return &Refusal{"number", "Il numero del servizio non è valido."}
	case s.Name == "":
		return &Refusal{"name", "Il nome del servizio è obbligatorio."}
	case s.Hours.Patron != nil: // no column holds it yet: better a refusal than hours that are silently others
		return &Refusal{"hours", "Il giorno del patrono non è ancora previsto."}
	}
	for _, spans := range s.Hours.Week {
		for i, span := range spans {
			if span.Open < 0 || span.Open >= span.Close || span.Close > minutesPerDay || i > 0 && span.Open < spans[i-1].Close {
				return &Refusal{"hours", "Gli orari di un giorno devono essere in ordine e non sovrapporsi."}
			}
		}
	}
	keys, defaults := map[rune]bool{}, 0
	for _, m := range s.Menu {
		if m.Key < '1' || m.Key > '9' || keys[m.Key] {
			return &Refusal{"menu", "I tasti del menu vanno da 1 a 9, ciascuno una volta."}
		}
		keys[m.Key] = true
		if m.Default {
			defaults++
		}
	}
	if defaults > 1 {
		return &Refusal{"menu", "Un solo argomento può essere quello predefinito."}
	}
	return nil
}
