package tickets

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/journal"
)

// Listening is somebody who listened to a recording.
type Listening struct {
	At          time.Time `json:"at"`
	Name        string    `json:"name"`
	DisplayName string    `json:"display_name"`
	Handled     bool      `json:"handled"` // marked the message as handled, rather than played it
}

// Listenings are those who listened to what a contact left, the latest first;
// ErrNotFound.
func (b *Book) Listenings(ctx context.Context, contact uuid.UUID) ([]Listening, error) {
	rows, err := b.db.Pool.Query(ctx, `select j.at, u.name, u.display_name, j.kind = @heard as handled from journal j join users u on u.id = j.user_id
		where j.contact_id = @contact and j.kind in (@played, @heard) order by j.id desc`,
		pgx.StrictNamedArgs{"contact": contact, "played": journal.Played, "heard": journal.Heard})
	var list []Listening
	if err == nil {
		list, err = pgx.CollectRows(rows, pgx.RowToStructByName[Listening])
	}
	if err == nil && len(list) == 0 {
		err = b.db.Pool.QueryRow(ctx, `select id from contacts where id = $1`, contact).Scan(&contact)
	}
	if err != nil {
		return nil, fmt.Errorf("listenings of %s: %w", contact, found(err))
	}
	for i := range list {
		list[i].At = list[i].At.UTC()
	}
	return list, nil
}

// Listened is a listening with what was listened to.
type Listened struct {
	Listening
	ContactID uuid.UUID `json:"contact_id"`
	T0        time.Time `json:"t0"`       // when the call came
	Caller    string    `json:"caller"`   // E.164, "" when withheld
	Customer  string    `json:"customer"` // who called, if they were recognised
	Ticket    *string   `json:"ticket"`
}

// ListeningFilter chooses listenings; zero fields do not filter.
type ListeningFilter struct {
	Name     string // of who listened
	From, To time.Time
	Cursor   string // Page.Next of the page before
	Limit    int    // 0: PageDefault; at most PageMost
}

// AllListenings are those who listened to any recording, the latest first.
func (b *Book) AllListenings(ctx context.Context, f ListeningFilter) (Page[Listened], error) {
	where := []string{`j.kind in (@played, @heard)`, `j.contact_id in (select contact_id from recordings)`}
	args := pgx.StrictNamedArgs{"played": journal.Played, "heard": journal.Heard, "limit": pageOf(f.Limit) + 1} // one more tells whether there is a next page
	if f.Name != "" {
		where, args["name"] = append(where, `u.name = @name`), f.Name
	}
	if !f.From.IsZero() {
		where, args["from"] = append(where, `j.at >= @from`), f.From
	}
	if !f.To.IsZero() {
		where, args["to"] = append(where, `j.at < @to`), f.To
	}
	if f.Cursor != "" {
		at, id, err := readCursor(f.Cursor)
		if err != nil {
			return Page[Listened]{}, err
		}
		where = append(where, `(j.at, j.id) < (@at, @id)`)
		args["at"], args["id"] = at, id
	}
	rows, err := b.db.Lists.Query(ctx, `select j.id, j.at, u.name, u.display_name, j.kind = @heard, c.id, c.t0, c.caller, coalesce(d.name, ''), t.number
		from journal j join users u on u.id = j.user_id join contacts c on c.id = j.contact_id left join customers d on d.id = c.customer_id left join tickets t on t.id = c.ticket_id
		where `+strings.Join(where, ` and `)+` order by j.at desc, j.id desc limit @limit`, args)
	if err != nil {
		return Page[Listened]{}, fmt.Errorf("list the listenings: %w", err)
	}
	var ids []int64
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Listened, err error) {
		var id int64
		err = row.Scan(&id, &l.At, &l.Name, &l.DisplayName, &l.Handled, &l.ContactID, &l.T0, &l.Caller, &l.Customer, &l.Ticket)
		l.At, l.T0 = l.At.UTC(), l.T0.UTC()
		ids = append(ids, id)
		return l, err
	})
	if err != nil {
		return Page[Listened]{}, fmt.Errorf("list the listenings: %w", err)
	}
	page := Page[Listened]{Items: orEmpty(items)}
	if most := pageOf(f.Limit); len(items) > most {
		next := writeCursor(items[most-1].At, ids[most-1])
		page.Items, page.Next = items[:most], &next
	}
	return page, nil
}
