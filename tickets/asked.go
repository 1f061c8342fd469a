package tickets

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

// TypedMost is how many digits of a ticket's number a telephone may type: the
// year and a serial of seven.
const TypedMost = yearDigits + serialDigits

const (
	yearDigits   = 4
	serialDigits = 7 // what is longer is no serial of ours
)

// Asked finds the ticket that a caller names by keys (A10), if the caller may
// hear about it: the caller's number is one of the customer's, or the one that
// the request came from. Otherwise it is ErrNotFound, whether there is such a
// ticket or not: nobody learns by trying which numbers exist.
func (b *Book) Asked(ctx context.Context, c *Contact, typed string, at time.Time) (*Ticket, error) {
	numbers := readings(typed, at)
	if c.Caller == "" || len(numbers) == 0 {
		return nil, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, factBudget)
	defer cancel()
	t, err := oneTicket(ctx, b.db.Pool, `where t.number = any(@numbers::text[]) and (t.requester_number = @caller
			or exists (select from customer_numbers n where n.customer_id = t.customer_id and n.number = @caller))
		order by array_position(@numbers::text[], t.number) limit 1`, pgx.StrictNamedArgs{"numbers": numbers, "caller": c.Caller})
	if err != nil {
		return nil, fmt.Errorf("a ticket asked for by telephone: %w", err)
	}
	return t, nil
}

// readings are the tickets that somebody means who types these digits, the
// likeliest first: a year and a serial, as a ticket's number is read out; or the
// serial alone, of this year or, when that is none of the caller's, of the year
// before. Which of them is meant, the caller's own tickets decide.
func readings(typed string, at time.Time) (numbers []string) {
	if len(typed) == 0 || len(typed) > TypedMost || strings.ContainsFunc(typed, func(r rune) bool { return r < '0' || r > '9' }) {
		return nil
	}
	number := func(year, serial string) {
		if serial = strings.TrimLeft(serial, "0"); serial != "" && len(serial) <= serialDigits {
			numbers = append(numbers, year+"-"+serial)
		}
	}
	if len(typed) > yearDigits && typed[0] != '0' {
		number(typed[:yearDigits], typed[yearDigits:])
	}
	this := at.In(calendar.Rome()).Year()
	number(strconv.Itoa(this), typed)
	number(strconv.Itoa(this-1), typed)
	return numbers
}
