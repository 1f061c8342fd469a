package tickets

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// againWithin is how old a request may be to be offered to a caller who rings
// again: what is older is seldom what they ring about.
const againWithin = 30 * 24 * time.Hour

// OpenRequest is the newest ticket that is still open and came from this
// caller's number, if the number is in the register (what is told of a request
// is told to nobody else); ErrNotFound. There is a caller who waits for the
// answer: it is found soon or not at all.
func (b *Book) OpenRequest(ctx context.Context, c *Contact, at time.Time) (*Ticket, error) {
	if c.Caller == "" || len(c.Customers) == 0 {
		return nil, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, factBudget)
	defer cancel()
	t, err := oneTicket(ctx, b.db.Pool, `where t.status <> 'closed' and t.requester_number = @caller and t.received_at > @since
		order by t.received_at desc, t.id desc limit 1`, pgx.StrictNamedArgs{"caller": c.Caller, "since": at.Add(-againWithin)})
	if err != nil {
		return nil, fmt.Errorf("the open request of a caller: %w", err)
	}
	return t, nil
}

// Attach adds the contact to a ticket that is there already, in place of Open,
// and with it does whatever `together` does. ErrNotFound when the ticket was
// closed meanwhile; otherwise as Open.
func (b *Book) Attach(ctx context.Context, c *Contact, number string, m Matter, together func(ctx context.Context, tx *db.Tx, ticket int64) error) (*Ticket, error) {
	return b.enter(ctx, c, m, func(ctx context.Context, tx *db.Tx, m Matter) (int64, error) {
		return attachTicket(ctx, tx, c, number, m)
	}, together)
}

// attachTicket gives a contact that has no ticket one that is open.
func attachTicket(ctx context.Context, tx *db.Tx, c *Contact, number string, m Matter) (int64, error) {
	t, err := lockTicket(ctx, tx, number)
	if err != nil {
		return 0, err
	}
	if t.Status == Closed {
		return 0, ErrNotFound
	}
	tag, err := tx.Exec(ctx, `update contacts set ticket_id = @ticket, topic_id = coalesce(topic_id, nullif(@topic::bigint, 0)),
		urgency = coalesce(urgency, nullif(@urgency::smallint, 0)) where id = @contact and ticket_id is null and ending is null`,
		pgx.StrictNamedArgs{"ticket": t.ID, "contact": c.ID, "topic": m.Topic, "urgency": m.Urgency})
	if err != nil {
		return 0, err
	}
	if tag.RowsAffected() == 0 {
		return openTicket(ctx, tx, c.ID, m) // it has one, or has ended
	}
	if err := leaveEntry(ctx, tx, c.ID, m, nil); err != nil {
		return 0, err
	}
	return t.ID, note(ctx, tx, t.ID, journal.Attached, c.ID, 0, m.At, nil)
}
