package tickets

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
)

// Customer is a doctor of the register (C4).
type Customer struct {
	ID        int64    `json:"id"`
	Code      string   `json:"code"` // the health authority's code of the doctor
	Name      string   `json:"name"`
	Practice  string   `json:"practice"`
	Authority string   `json:"authority"`
	Email     string   `json:"email"`
	Numbers   []string `json:"numbers"` // E.164
}

// MatchesShown bounds how many customers of one number are looked at: a
// surgery with more doctors is asked for the name.
const MatchesShown = 10

// customerColumns reads a Customer from customers c.
const customerColumns = `c.id, c.code, c.name, c.practice, c.authority, c.email,
	array(select n.number from customer_numbers n where n.customer_id = c.id order by n.number) as numbers`

// Match is how sure we are who is calling.
type Match struct {
	Sure      string     `json:"sure"` // MatchCertain …
	Why       string     `json:"why"`  // Italian
	Customers []Customer `json:"customers"`
}

// matchOf is how sure a number makes us that belongs to so many customers.
func matchOf(number string, customers int) string {
	switch {
	case number == "":
		return MatchWithheld
	case customers == 0:
		return MatchNone
	case customers == 1:
		return MatchCertain
	}
	return MatchSeveral
}

// MatchOf looks a caller's number up in the register.
func (b *Book) MatchOf(ctx context.Context, number string) (Match, error) {
	list, err := b.collectCustomers(ctx, `where c.id in (select customer_id from customer_numbers where number = @number and @number <> '') order by c.name, c.id limit @limit`,
		pgx.StrictNamedArgs{"number": Normalise(number), "limit": MatchesShown})
	if err != nil {
		return Match{}, fmt.Errorf("match a number: %w", err)
	}
	m := Match{Sure: matchOf(Normalise(number), len(list)), Customers: list}
	switch m.Sure {
	case MatchCertain:
		m.Why = "Il numero è di un solo medico."
	case MatchSeveral:
		m.Why = fmt.Sprintf("Il numero è di %d medici: chiedere il nome.", len(list))
		if len(list) == MatchesShown {
			m.Why = fmt.Sprintf("Il numero è di almeno %d medici: chiedere il nome.", len(list))
		}
	case MatchNone:
		m.Why = "Il numero non è in anagrafica."
	case MatchWithheld:
		m.Why = "Il chiamante nasconde il numero."
	}
	return m, nil
}

func (b *Book) collectCustomers(ctx context.Context, where string, args ...any) ([]Customer, error) {
	return collectCustomers(ctx, b.db.Pool, where, args...)
}

func collectCustomers(ctx context.Context, q querier, where string, args ...any) ([]Customer, error) {
	rows, err := q.Query(ctx, `select `+customerColumns+` from customers c `+where, args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Customer])
	return orEmpty(list), err
}

// customersPage reads a page of the people of a condition, by name.
func customersPage(ctx context.Context, q querier, where string, args pgx.StrictNamedArgs, cursor string, limit int) (Page[Customer], error) {
	args["limit"] = limit + 1 // one more tells whether there is a next page
	if cursor != "" {
		id, err := readRow(cursor)
		if err != nil {
			return Page[Customer]{}, err
		}
		where += ` and (c.sort, c.id) > ((select sort from customers where id = @after), @after)`
		args["after"] = id
	}
	items, err := collectCustomers(ctx, q, `where `+where+` order by c.sort, c.id limit @limit`, args)
	page := Page[Customer]{Items: items}
	if err == nil && len(items) > limit {
		page.Items = items[:limit]
		next := writeRow(items[limit-1].ID)
		page.Next = &next
	}
	return page, err
}

// Customers searches the register by words, code or number; "" lists it by
// name. cursor is Page.Next of the page before; limit 0 is PageDefault.
func (b *Book) Customers(ctx context.Context, query, cursor string, limit int) (Page[Customer], error) {
	a, err := asked(ctx, b.db.Lists, query, pageOf(limit))
	if err != nil {
		return Page[Customer]{}, fmt.Errorf("search customers: %w", err)
	}
	where, args := `true`, pgx.StrictNamedArgs{}
	switch {
	case len(a.words) > 0:
		where = a.everyWord(args)
	case a.digits != "":
		where = `(c.code = @code or c.id in (select customer_id from customer_numbers where ` + a.numbered("number", args) + `))`
		args["code"] = a.text
	case a.text != "": // signs alone name nobody
		where, args["code"] = `c.code = @code`, a.text
	}
	page, err := customersPage(ctx, b.db.Lists, where, args, cursor, pageOf(limit))
	if err != nil {
		return Page[Customer]{}, fmt.Errorf("search customers: %w", err)
	}
	return page, nil
}

// PutCustomer creates the customer of this code or replaces it with its
// numbers. *Refusal for a value that is not allowed.
func (b *Book) PutCustomer(ctx context.Context, c Customer, at time.Time) (*Customer, error) {
	c, err := c.checked()
	if err != nil {
		return nil, err
	}
	if _, err := b.putCustomers(ctx, []Customer{c}, nil, 0, at); err != nil {
		return nil, fmt.Errorf("put customer %s: %w", c.Code, err)
	}
	list, err := b.collectCustomers(ctx, `where c.code = $1`, c.Code)
	if err != nil || len(list) == 0 {
		return nil, fmt.Errorf("put customer %s: %w", c.Code, err)
	}
	return &list[0], nil
}

const (
	codeLongest  = 32  // characters
	emailLongest = 254 // octets, RFC 5321 §4.5.3.1.3 less the brackets
	numbersMost  = 20  // of one customer
)

// checked is a customer as its row holds it, or a *Refusal in Italian.
func (c Customer) checked() (Customer, error) {
	for _, f := range []struct {
		name, label string
		value       *string
		longest     int
		required    bool
	}{
		{"code", "codice", &c.Code, codeLongest, true},
		{"name", "nome", &c.Name, lineMost, true},
		{"practice", "ambulatorio", &c.Practice, lineMost, false},
		{"authority", "azienda", &c.Authority, lineMost, false},
		{"email", "email", &c.Email, emailLongest, false},
	} {
		*f.value = strings.TrimSpace(*f.value)
		switch {
		case f.required && *f.value == "":
			return c, &Refusal{f.name, "manca il " + f.label}
		case utf8.RuneCountInString(*f.value) > f.longest:
			return c, &Refusal{f.name, fmt.Sprintf("%s più lungo di %d caratteri", f.label, f.longest)}
		case !utf8.ValidString(*f.value) || strings.ContainsFunc(*f.value, unseen):
			return c, &Refusal{f.name, f.label + " con caratteri non ammessi"}
		}
	}
	if c.Email != "" {
		if a, err := mail.ParseAddress(c.Email); err != nil || a.Address != c.Email || len(c.Email) > emailLongest {
			return c, &Refusal{"email", "indirizzo e-mail non valido"}
		}
	}
	numbers := []string{} // never nil: COPY would write null
	for _, written := range c.Numbers {
		n := Normalise(written)
		if !reachable(n) {
			return c, &Refusal{"numbers", fmt.Sprintf("numero di telefono non valido: %q", short(written))}
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	c.Numbers = slices.Compact(numbers)
	if len(c.Numbers) > numbersMost {
		return c, &Refusal{"numbers", fmt.Sprintf("più di %d numeri di telefono", numbersMost)}
	}
	return c, nil
}

// unseen says that a character shows nothing: it would hide what a name is, or turn
// it round.
func unseen(r rune) bool { return !unicode.IsPrint(r) && r != ' ' && r != '\u00a0' }

const shortMost = 24 // characters of somebody's input that an error repeats

func short(s string) string {
	if r := []rune(s); len(r) > shortMost {
		return string(r[:shortMost]) + "…"
	}
	return s
}

// putCustomers creates or replaces checked customers with different codes, in
// one transaction, and says what it did.
func (b *Book) putCustomers(ctx context.Context, list []Customer, absent []string, by int64, at time.Time) (done Imported, err error) {
	err = b.db.Tx(ctx, func(tx *db.Tx) error {
		done, err = mergeCustomers(ctx, tx, list, absent, by, at)
		return err
	})
	return done, err
}
