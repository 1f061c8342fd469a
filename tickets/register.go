package tickets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// RegisterEntry is a person of the register as the page that edits them shows it.
type RegisterEntry struct {
	Customer
	Version   int64     `json:"version"`
	UpdatedAt time.Time `json:"updated_at"`
	Shared    []Shared  `json:"shared"`   // numbers that others have, too
	Tickets   int       `json:"tickets"`  // that are theirs
	Contacts  int       `json:"contacts"` // in which they were recognised
}

// Shared is a number of somebody with the others who have it.
type Shared struct {
	Number string     `json:"number"`
	People []Customer `json:"people"` // at most MatchesShown
}

// RegisterEntry is one person; ErrNotFound.
func (b *Book) RegisterEntry(ctx context.Context, id int64) (e *RegisterEntry, err error) {
	err = pgx.BeginTxFunc(ctx, b.db.Pool, oneInstant, func(tx pgx.Tx) error {
		e, err = registerEntry(ctx, tx, id, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("customer %d: %w", id, err)
	}
	return e, nil
}

// registerEntry reads one person; lock is "" or "for update of c".
func registerEntry(ctx context.Context, q querier, id int64, lock string) (*RegisterEntry, error) {
	var e RegisterEntry
	c := &e.Customer
	err := q.QueryRow(ctx, `select `+customerColumns+`, c.version, c.updated_at from customers c where c.id = $1 `+lock, id).
		Scan(&c.ID, &c.Code, &c.Name, &c.Practice, &c.Authority, &c.Email, &c.Numbers, &e.Version, &e.UpdatedAt)
	if err != nil {
		return nil, found(err)
	}
	e.UpdatedAt, e.Shared = e.UpdatedAt.UTC(), []Shared{}
	for _, number := range c.Numbers {
		people, err := collectCustomers(ctx, q, `where c.id <> $1 and c.id in (select customer_id from customer_numbers where number = $2) order by c.sort, c.id limit $3`, id, number, MatchesShown)
		if err != nil {
			return nil, err
		}
		if len(people) > 0 {
			e.Shared = append(e.Shared, Shared{number, people})
		}
	}
	err = q.QueryRow(ctx, `select (select count(*) from tickets where customer_id = $1), (select count(*) from contacts where customer_id = $1)`, id).Scan(&e.Tickets, &e.Contacts)
	return &e, err
}

// AddCustomer adds somebody with a code that nobody has. *Refusal for a value
// that is not allowed.
func (b *Book) AddCustomer(ctx context.Context, c Customer, by int64, at time.Time) (e *RegisterEntry, err error) {
	if c, err = c.checked(); err != nil {
		return nil, err
	}
	err = b.db.Tx(ctx, func(tx *db.Tx) error {
		if err := tx.QueryRow(ctx, `insert into customers (code, name, practice, authority, email, updated_at) values (@code, @name, @practice, @authority, @email, @at) returning id`,
			pgx.StrictNamedArgs{"code": c.Code, "name": c.Name, "practice": c.Practice, "authority": c.Authority, "email": c.Email, "at": at}).Scan(&c.ID); err != nil {
			return codeTaken(err)
		}
		if err := putNumbers(ctx, tx, c.ID, c.Numbers); err != nil {
			return err
		}
		if err := noteRegister(ctx, tx, journal.Added, by, at, map[string]any{"customer": c.ID}); err != nil {
			return err
		}
		e, err = registerEntry(ctx, tx, c.ID, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("add a customer: %w", err)
	}
	return e, nil
}

// codeTaken is the refusal of a second person with a code.
func codeTaken(err error) error {
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) && pe.Code == "23505" { // unique_violation
		return &Refusal{"code", "Il codice è già di un’altra persona."}
	}
	return err
}

func putNumbers(ctx context.Context, tx *db.Tx, id int64, numbers []string) error {
	args := pgx.StrictNamedArgs{"id": id, "numbers": numbers}
	if _, err := tx.Exec(ctx, `delete from customer_numbers where customer_id = @id and number <> all(@numbers)`, args); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `insert into customer_numbers (number, customer_id) select unnest(@numbers::text[]), @id on conflict do nothing`, args)
	return err
}

// noteRegister writes a line of the register's journal.
func noteRegister(ctx context.Context, tx *db.Tx, kind journal.Kind, by int64, at time.Time, data map[string]any) error {
	tx.Wake(topicJournal, customersStream)
	return journal.Append(ctx, tx, journal.Line{Stream: customersStream, At: at, Kind: kind, User: by, Data: data})
}

// registerFields are what can be changed of a person, as strings to compare.
var registerFields = map[string]struct {
	of func(c *Customer) any
	to func(c *Customer, v any) bool // false: not of this type
}{
	"code":      {func(c *Customer) any { return c.Code }, func(c *Customer, v any) bool { return into(&c.Code, v) }},
	"name":      {func(c *Customer) any { return c.Name }, func(c *Customer, v any) bool { return into(&c.Name, v) }},
	"practice":  {func(c *Customer) any { return c.Practice }, func(c *Customer, v any) bool { return into(&c.Practice, v) }},
	"authority": {func(c *Customer) any { return c.Authority }, func(c *Customer, v any) bool { return into(&c.Authority, v) }},
	"email":     {func(c *Customer) any { return c.Email }, func(c *Customer, v any) bool { return into(&c.Email, v) }},
	"numbers":   {func(c *Customer) any { return c.Numbers }, numbersInto},
}

func into(s *string, v any) (ok bool) {
	*s, ok = v.(string)
	return ok
}

func numbersInto(c *Customer, v any) bool {
	list, ok := v.([]any)
	if !ok {
		return false
	}
	c.Numbers = []string{}
	for _, one := range list {
		n, ok := one.(string)
		if !ok {
			return false
		}
		c.Numbers = append(c.Numbers, n)
	}
	return true
}

// EditCustomer changes fields of a person as Edit does those of a ticket: all or
// nothing, *ConflictError when somebody else has changed one meanwhile, *Refusal
// for a value that is not allowed, ErrNotFound.
func (b *Book) EditCustomer(ctx context.Context, id, by int64, base, set Fields, at time.Time) (e *RegisterEntry, err error) {
	err = b.db.Tx(ctx, func(tx *db.Tx) error {
		now, err := registerEntry(ctx, tx, id, "for update of c")
		if err != nil {
			return err
		}
		wanted, changed, err := edited(&now.Customer, base, set)
		var conflict *ConflictError
		if errors.As(err, &conflict) {
			return whoEdited(ctx, tx, now, conflict)
		}
		if err != nil {
			return err
		}
		if e = now; len(changed) == 0 {
			return nil
		}
		if _, err := tx.Exec(ctx, `update customers set code = @code, name = @name, practice = @practice, authority = @authority, email = @email, updated_at = @at, version = version + 1 where id = @id`,
			pgx.StrictNamedArgs{"id": id, "code": wanted.Code, "name": wanted.Name, "practice": wanted.Practice, "authority": wanted.Authority, "email": wanted.Email, "at": at}); err != nil {
			return codeTaken(err)
		}
		if err := putNumbers(ctx, tx, id, wanted.Numbers); err != nil {
			return err
		}
		if err := noteRegister(ctx, tx, journal.Edited, by, at, map[string]any{"customer": id, "fields": changed}); err != nil {
			return err
		}
		e, err = registerEntry(ctx, tx, id, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("edit customer %d: %w", id, err)
	}
	return e, nil
}

// edited is a person with the fields of set, and the names of those that change.
func edited(now *Customer, base, set Fields) (wanted Customer, changed []string, err error) {
	wanted, from := *now, *now
	names := slices.Sorted(maps.Keys(set))
	for _, name := range names {
		f, ok := registerFields[name]
		before, given := base[name]
		switch {
		case !ok:
			return wanted, nil, &Refusal{name, "Il campo non si può modificare."}
		case !given || !f.to(&from, before):
			return wanted, nil, &Refusal{name, "Manca il valore di partenza."}
		case !f.to(&wanted, set[name]):
			return wanted, nil, &Refusal{name, "Il valore non è accettato."}
		}
	}
	if wanted, err = wanted.checked(); err != nil {
		return wanted, nil, err
	}
	conflicts := map[string]Conflict{}
	for _, name := range names {
		of := registerFields[name].of
		is := fmt.Sprint(of(now))
		switch {
		case is == fmt.Sprint(of(&wanted)):
		case is == fmt.Sprint(of(&from)):
			changed = append(changed, name)
		default:
			conflicts[name] = Conflict{Current: of(now)}
		}
	}
	if len(conflicts) > 0 {
		return wanted, nil, &ConflictError{conflicts}
	}
	return wanted, changed, nil
}

// whoEdited completes conflicts with who changed each field last, and when: an
// import has no name.
func whoEdited(ctx context.Context, tx *db.Tx, now *RegisterEntry, conflict *ConflictError) error {
	for name, c := range conflict.Fields {
		c.At = now.UpdatedAt
		var by string
		var at time.Time
		err := tx.QueryRow(ctx, `select u.display_name, j.at from journal j join users u on u.id = j.user_id
			where j.stream = $1 and j.kind = $2 and j.data @> jsonb_build_object('customer', $3::bigint) and j.data -> 'fields' ? $4 order by j.seq desc limit 1`,
			customersStream, journal.Edited, now.ID, name).Scan(&by, &at)
		switch {
		case err == nil && !at.Before(c.At): // else an import was later
			c.By, c.At = by, at.UTC()
		case err != nil && found(err) != ErrNotFound:
			return err
		}
		conflict.Fields[name] = c
	}
	return conflict
}

// DeleteCustomer removes a person to whom nothing refers. *Refusal otherwise, or
// when they are no longer what the asker saw; ErrNotFound.
func (b *Book) DeleteCustomer(ctx context.Context, id, version, by int64, at time.Time) error {
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		e, err := registerEntry(ctx, tx, id, "for update of c")
		switch {
		case err != nil:
			return err
		case e.Version != version:
			return errChangedPerson
		case e.Tickets+e.Contacts > 0:
			return errReferred
		}
		if err := remove(ctx, tx, id); err != nil {
			return err
		}
		return noteRegister(ctx, tx, journal.Removed, by, at, map[string]any{"customer": id})
	})
	if err != nil {
		return fmt.Errorf("delete customer %d: %w", id, err)
	}
	return nil
}

var (
	errChangedPerson = &Refusal{"", "La persona è stata modificata nel frattempo: ricontrolla e riprova."}
	errReferred      = &Refusal{"", "Ci sono ticket o chiamate di questa persona: non si può eliminare. Se è un doppione, uniscila all’altra."}
)

// remove deletes a person with their numbers.
func remove(ctx context.Context, tx *db.Tx, id int64) error {
	_, err := tx.Exec(ctx, `delete from customers where id = $1`, id)
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) && pe.Code == "23503" { // foreign_key_violation
		return errReferred
	}
	return err
}

// Merging is two people of the register who are one.
type Merging struct {
	Kept, Gone               int64 // who stays, and who does not
	KeptVersion, GoneVersion int64 // as the asker saw them
}

// MergeCustomers gives the tickets, the contacts and the numbers of one person
// to another, fills what the other lacks, and removes the first, in one
// transaction. *Refusal when either is no longer what the asker saw; ErrNotFound.
func (b *Book) MergeCustomers(ctx context.Context, m Merging, by int64, at time.Time) (e *RegisterEntry, err error) {
	if m.Kept == m.Gone {
		return nil, &Refusal{"gone", "È la stessa persona."}
	}
	err = b.db.Tx(ctx, func(tx *db.Tx) error {
		// Both rows in one order: two who merge them crosswise wait for each other.
		if _, err := tx.Exec(ctx, `select from customers where id in ($1, $2) order by id for update`, m.Kept, m.Gone); err != nil {
			return err
		}
		kept, err := registerEntry(ctx, tx, m.Kept, "")
		if err != nil {
			return err
		}
		gone, err := registerEntry(ctx, tx, m.Gone, "")
		if err != nil {
			return err
		}
		if kept.Version != m.KeptVersion || gone.Version != m.GoneVersion {
			return errChangedPerson
		}
		if err := b.merge(ctx, tx, kept, gone, by, at); err != nil {
			return err
		}
		e, err = registerEntry(ctx, tx, m.Kept, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("merge customer %d into %d: %w", m.Gone, m.Kept, err)
	}
	return e, nil
}

func (b *Book) merge(ctx context.Context, tx *db.Tx, kept, gone *RegisterEntry, by int64, at time.Time) error {
	numbers := slices.Concat(kept.Numbers, gone.Numbers)
	slices.Sort(numbers)
	if numbers = slices.Compact(numbers); len(numbers) > numbersMost {
		return &Refusal{"numbers", fmt.Sprintf("Insieme avrebbero più di %d numeri di telefono.", numbersMost)}
	}
	args := pgx.StrictNamedArgs{"kept": kept.ID, "gone": gone.ID}
	tickets, err := moved[int64](ctx, tx, `update tickets set customer_id = @kept, version = version + 1 where customer_id = @gone returning id`, args)
	if err != nil {
		return err
	}
	contacts, err := moved[string](ctx, tx, `update contacts set customer_id = @kept where customer_id = @gone returning id::text`, args)
	if err != nil {
		return err
	}
	if err := remove(ctx, tx, gone.ID); err != nil {
		return err
	}
	args = pgx.StrictNamedArgs{"kept": kept.ID, "practice": gone.Practice, "authority": gone.Authority, "email": gone.Email, "at": at}
	if _, err := tx.Exec(ctx, `update customers set practice = coalesce(nullif(practice, ''), @practice), authority = coalesce(nullif(authority, ''), @authority),
		email = coalesce(nullif(email, ''), @email), updated_at = @at, version = version + 1 where id = @kept`, args); err != nil {
		return err
	}
	if err := putNumbers(ctx, tx, kept.ID, numbers); err != nil {
		return err
	}
	for _, id := range tickets {
		if err := note(ctx, tx, id, journal.Edited, uuid.Nil, by, at, map[string]any{"fields": []string{"customer"}}); err != nil {
			return err
		}
	}
	return noteRegister(ctx, tx, journal.Merged, by, at, map[string]any{"customer": kept.ID, "gone": gone.ID, "tickets": tickets, "contacts": contacts})
}

// moved are the ids of the rows that a statement changed, in order.
func moved[T int64 | string](ctx context.Context, tx *db.Tx, sql string, args pgx.StrictNamedArgs) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[T])
	slices.Sort(ids)
	return orEmpty(ids), err
}

// previewMost is how many of an import's changes are shown before it is done.
const previewMost = 20

// Preview is what an import would do.
type Preview struct {
	Imported
	Changes []Change `json:"changes"` // the first, by code
}

// Change is one person that an import adds or changes.
type Change struct {
	Code   string   `json:"code"`
	Name   string   `json:"name"`
	New    bool     `json:"new"`
	Fields []string `json:"fields"` // that change; empty for somebody new
}

// errOnlyLooking rolls a preview back.
var errOnlyLooking = errors.New("only looking")

// PreviewCustomers tells what ImportCustomers would do, and does nothing. Bad
// lines are listed without an error; a file that is none is a *Refusal.
func (b *Book) PreviewCustomers(ctx context.Context, r io.Reader) (Preview, error) {
	p := Preview{Changes: []Change{}}
	list, absent, bad, err := parseCustomers(r)
	if p.Bad = orEmpty(bad); err != nil || len(bad) > 0 {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, ImportLongest)
	defer cancel()
	err = b.db.Tx(ctx, func(tx *db.Tx) error {
		if p.Imported, err = stageCustomers(ctx, tx, list, absent); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select i.code, i.name, c.id is null as new, array_remove(array[
				case when c.name <> i.name then 'name' end, case when c.practice <> i.practice then 'practice' end, case when c.authority <> i.authority then 'authority' end,
				case when c.email <> i.email then 'email' end,
				case when array(select n.number from customer_numbers n where n.customer_id = c.id order by n.number collate "C") <> i.numbers then 'numbers' end], null) as fields
			from incoming i left join customers c on c.code = i.code order by i.code collate "C" limit $1`, previewMost)
		if err != nil {
			return err
		}
		if p.Changes, err = pgx.CollectRows(rows, pgx.RowToStructByName[Change]); err != nil {
			return err
		}
		for i := range p.Changes {
			if p.Changes[i].New {
				p.Changes[i].Fields = []string{}
			}
		}
		return errOnlyLooking
	})
	if !errors.Is(err, errOnlyLooking) {
		return p, fmt.Errorf("preview an import: %w", err)
	}
	p.Changes = orEmpty(p.Changes)
	return p, nil
}
