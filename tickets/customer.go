package tickets

import (
	"context"
	"io"
	"time"
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

// Match is how sure we are who is calling.
type Match struct {
	Sure      string     `json:"sure"` // MatchCertain …
	Why       string     `json:"why"`  // Italian
	Customers []Customer `json:"customers"`
}

// MatchOf looks a caller's number up in the register.
func (b *Book) MatchOf(ctx context.Context, number string) (Match, error) {
	return Match{}, ErrNotFound
}

// Customers searches the register by code, name, practice or number; "" lists
// it by name.
func (b *Book) Customers(ctx context.Context, query string, limit int) ([]Customer, error) {
	return nil, ErrNotFound
}

// PutCustomer creates the customer of this code or replaces it with its
// numbers. *Refusal for a value that is not allowed.
func (b *Book) PutCustomer(ctx context.Context, c Customer, at time.Time) (*Customer, error) {
	return nil, ErrNotFound
}

// BadLine is a line of an imported file that cannot be used.
type BadLine struct {
	Line   int    `json:"line"`   // from 1; the header is line 1
	Reason string `json:"reason"` // Italian
}

// Imported says what an import did. With bad lines it did nothing.
type Imported struct {
	Created   int       `json:"created"`
	Updated   int       `json:"updated"`
	Unchanged int       `json:"unchanged"`
	Bad       []BadLine `json:"bad"`
}

// ImportCustomers reads the register from CSV. When any line is bad nothing is
// imported: Imported.Bad lists every one and err is a *Refusal.
func (b *Book) ImportCustomers(ctx context.Context, r io.Reader, at time.Time) (Imported, error) {
	return Imported{}, ErrNotFound
}
