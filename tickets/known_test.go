package tickets

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// inOwn does a part in a transaction of its own.
func (d *desk) inOwn(p Part, known bool) error {
	return d.db.Tx(d.t.Context(), func(tx *db.Tx) error {
		if known {
			return p.Known(d.t.Context(), tx)
		}
		if err := tx.SendBatch(d.t.Context(), p.Batch).Close(); err != nil {
			return err
		}
		return p.Then(d.t.Context(), tx)
	})
}

// TestPartsOfWhatIsKnown: what is written of a contact without reading it first is what
// is written when it is read; where it is not as is known, nothing is.
func TestPartsOfWhatIsKnown(t *testing.T) {
	opened := func(d *desk) *Contact {
		c := d.call("+390551234567", monday)
		_, err := d.Open(context.Background(), c, Matter{Channel: Phone, Topic: d.topics[1].ID, Urgency: Blocking, At: monday.Add(time.Minute)}, nil)
		must(d.t, err)
		return c
	}
	bare := func(d *desk) *Contact { return d.call("+390551234567", monday) }
	other := func(d *desk, c *Contact) {
		_, err := d.db.Pool.Exec(d.t.Context(), `update contacts set ticket_id = $2 where id = $1`, c.ID, d.ticket().ID)
		must(d.t, err)
	}
	asIs := func(*desk, *Contact) {}
	ends := func(d *desk, c *Contact) Part {
		p, err := d.EndWith(c, Served, monday.Add(time.Hour))
		must(d.t, err)
		return p
	}
	talks := func(d *desk, c *Contact) Part { return d.Talks(c, d.anna, monday.Add(5*time.Minute)) }
	taken := func(d *desk, c *Contact) {
		_, err := d.db.Pool.Exec(d.t.Context(), `update tickets set status = 'in_charge', owner_id = $1, taken_at = $2`, d.bruno, monday.Add(time.Minute))
		must(d.t, err)
	}
	for name, s := range map[string]struct {
		contact func(*desk) *Contact
		happens func(*desk, *Contact)
		part    func(*desk, *Contact) Part
		known   bool
	}{
		"an end":                         {opened, asIs, ends, true},
		"an end without ticket":          {bare, asIs, ends, true},
		"an end of another's":            {opened, other, ends, false},
		"an end of what has one":         {opened, func(d *desk, c *Contact) { must(d.t, d.End(d.t.Context(), c, Overflow, monday.Add(time.Minute), nil)) }, ends, false},
		"a talk":                         {opened, asIs, talks, true},
		"a talk without ticket":          {bare, asIs, talks, true},
		"a talk about another's":         {opened, other, talks, false},
		"a talk about what somebody has": {opened, taken, talks, false},
		"a talk after another": {func(d *desk) *Contact {
			c := opened(d)
			must(d.t, d.Note(d.t.Context(), c, Step{Kind: journal.Talking, At: monday.Add(2 * time.Minute), Operator: d.bruno}))
			return c
		}, asIs, talks, true},
		"a talk about what we know so": {func(d *desk) *Contact {
			c := opened(d)
			taken(d, c)
			c.Ticket.Status = InCharge
			return c
		}, asIs, talks, true},
		"a talk about what was given back": {func(d *desk) *Contact {
			c := opened(d)
			c.Ticket.Status = InCharge
			return c
		}, asIs, talks, false},
		"an end with a ticket by now": {bare, other, ends, false},
	} {
		t.Run(name, func(t *testing.T) {
			written := func(known bool) string {
				d := newDesk(t)
				c := s.contact(d)
				s.happens(d, c)
				all := func() (text string) {
					must(t, d.db.Pool.QueryRow(t.Context(), `select concat_ws(e'\n',
						(select string_agg((to_jsonb(c) - 'id' - 'search_words')::text, e'\n' order by t0) from contacts c),
						(select string_agg((to_jsonb(t) - 'search_words')::text, e'\n' order by id) from tickets t),
						(select string_agg(concat_ws(' ', left(stream, 7), seq, at, kind, ticket_id, user_id, data, fact is null), e'\n' order by stream, seq) from journal))`).Scan(&text))
					return text
				}
				before := all()
				err := d.inOwn(s.part(d, c), known)
				if !known || s.known {
					must(t, err)
					return all()
				}
				var said *pgconn.PgError
				if !errors.As(err, &said) || said.Code != "22012" || all() != before {
					t.Errorf("%v; from\n%s\nto\n%s", err, before, all())
				}
				return ""
			}
			if want, got := written(false), written(true); s.known && got != want {
				t.Errorf("of what is known it made\n%s\nof what is read\n%s", got, want)
			}
		})
	}
}
