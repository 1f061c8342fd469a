package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

const (
	linesAtOnce = 200
	lookAgain   = 2 * time.Second       // when nobody wakes us
	heldAgain   = 20 * time.Millisecond // journal.Held says why
	idleAgain   = 2 * time.Minute       // without any webhook, when nobody says that there is one
	lookAway    = time.Second           // while the database is away
)

// follow turns lines of the journal into deliveries, in the order of commits.
// Every node does it: who finds the cursor taken leaves it to the other.
func (w *Webhooks) follow(ctx context.Context) {
	wakes := w.DB.Wakeups.Subscribe("journal")
	defer wakes.Close()
	changes := w.DB.Wakeups.Subscribe(topicChanges)
	defer changes.Close()
	away := false
	for {
		wait := lookAgain
		n, held, err := w.hand(ctx)
		if errors.Is(err, errIdle) {
			if away = false; !pause(ctx, idleAgain, changes.C()) { // the journal's wake-ups are many and mean nothing
				return
			}
			continue
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !away {
				w.Log.Warn("the webhooks cannot read the journal", "err", err)
			}
			wait = lookAway
		case n == linesAtOnce:
			wait = 0
		case held:
			wait = heldAgain
		}
		away = err != nil
		if !pause(ctx, wait, wakes.C()) {
			return
		}
	}
}

// topicChanges is woken when there is another webhook than before, or one less.
const topicChanges = "webhooks"

// errIdle says that there is no webhook.
var errIdle = errors.New("no webhook")

// receiver is what handing out needs of a webhook.
type receiver struct {
	ID        uuid.UUID
	Events    []string
	CreatedAt time.Time
}

// hand reads the next lines and writes a job for each that somebody wants to
// hear of, in one transaction with the cursor: no line is lost, and none is
// handed out twice.
func (w *Webhooks) hand(ctx context.Context) (n int, held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, handLongest)
	defer cancel()
	var idle bool
	err = w.DB.Pool.QueryRow(ctx, `select not exists (select from webhooks where disabled_at is null)`).Scan(&idle)
	if err == nil && idle {
		return 0, false, errIdle
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for webhooks: %w", err)
	}
	err = w.DB.Tx(ctx, func(tx *db.Tx) error {
		n, held = 0, false
		rows, err := tx.Query(ctx, `select id, events, created_at from webhooks where disabled_at is null`)
		if err != nil {
			return err
		}
		receivers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[receiver])
		if err != nil || len(receivers) == 0 {
			return err
		}
		cursor, err := takeCursor(ctx, tx)
		if errors.Is(err, pgx.ErrNoRows) { // another node works
			return nil
		}
		if err != nil {
			return err
		}
		lines, next, err := journal.After(ctx, tx, cursor, linesAtOnce)
		if err != nil {
			return err
		}
		if n = len(lines); n == 0 {
			held, err = journal.Held(ctx, tx)
			return err
		}
		jobs, err := jobsFor(ctx, tx, receivers, lines)
		if err != nil {
			return err
		}
		if len(jobs) > 0 {
			if _, err := w.river.InsertManyTx(ctx, tx.Tx, jobs); err != nil {
				return err
			}
		}
		return setCursor(ctx, tx, next)
	})
	if err != nil {
		return 0, false, fmt.Errorf("hand out to webhooks: %w", err)
	}
	return n, held, nil
}

func takeCursor(ctx context.Context, tx *db.Tx) (c journal.Cursor, err error) {
	var xid string
	if err = tx.QueryRow(ctx, `select xid, id from webhook_cursor for update skip locked`).Scan(&xid, &c.ID); err != nil {
		return c, err
	}
	c.XID, err = strconv.ParseUint(xid, 10, 64)
	return c, err
}

func setCursor(ctx context.Context, tx *db.Tx, c journal.Cursor) error {
	_, err := tx.Exec(ctx, `update webhook_cursor set xid = @xid, id = @id`,
		pgx.StrictNamedArgs{"xid": strconv.FormatUint(c.XID, 10), "id": c.ID})
	return err
}

// message is what a receiver gets. It carries ids and codes, as the journal
// does: who wants names asks the API, and is written down there.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      content   `json:"data"`
}

type content struct {
	Ticket  string         `json:"ticket,omitempty"` // its number
	Contact *uuid.UUID     `json:"contact_id,omitempty"`
	User    string         `json:"user,omitempty"` // the name of who did it
	Details map[string]any `json:"details,omitempty"`
}

// jobsFor are the deliveries of lines. A message's id is made from the line and
// the receiver, so it stays the same whatever is tried again.
func jobsFor(ctx context.Context, tx *db.Tx, receivers []receiver, lines []journal.Entry) ([]river.InsertManyParams, error) {
	tickets, users, err := namesOf(ctx, tx, lines)
	if err != nil {
		return nil, err
	}
	var jobs []river.InsertManyParams
	for _, line := range lines {
		event := events[line.Kind]
		if event == "" || strings.HasPrefix(event, "ticket.") && line.Ticket == 0 || line.Kind == journal.Taken && !strings.HasPrefix(line.Stream, "ticket:") {
			continue
		}
		m := message{Type: event, Timestamp: line.At, Data: content{Ticket: tickets[line.Ticket], User: users[line.User], Details: line.Data}}
		if line.Contact.Valid {
			m.Data.Contact = &line.Contact.UUID
		}
		body, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		for _, r := range receivers {
			if !slices.Contains(r.Events, event) {
				continue
			}
			jobs = append(jobs, river.InsertManyParams{
				Args:       delivery{Webhook: r.ID, Message: "msg_" + uuid.NewSHA1(r.ID, []byte(strconv.FormatInt(line.ID, 10))).String(), Body: string(body)},
				InsertOpts: &river.InsertOpts{Queue: queueName, MaxAttempts: len(retries) + 1},
			})
		}
	}
	return jobs, nil
}

// namesOf reads the numbers of tickets and the names of users that lines speak
// of.
func namesOf(ctx context.Context, tx *db.Tx, lines []journal.Entry) (tickets, users map[int64]string, err error) {
	var ticketIDs, userIDs []int64
	for _, line := range lines {
		ticketIDs, userIDs = append(ticketIDs, line.Ticket), append(userIDs, line.User)
	}
	if tickets, err = named(ctx, tx, `select id, number from tickets where id = any(@ids)`, ticketIDs); err != nil {
		return nil, nil, err
	}
	users, err = named(ctx, tx, `select id, name from users where id = any(@ids)`, userIDs)
	return tickets, users, err
}

func named(ctx context.Context, tx *db.Tx, sql string, ids []int64) (map[int64]string, error) {
	rows, err := tx.Query(ctx, sql, pgx.StrictNamedArgs{"ids": ids})
	if err != nil {
		return nil, err
	}
	found := map[int64]string{}
	var id int64
	var name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error { found[id] = name; return nil })
	return found, err
}
