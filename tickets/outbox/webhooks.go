// Package outbox tells others what happened at the desk: what is written with a
// change is sent after it, and again until it has arrived. Webhooks are signed
// as https://www.standardwebhooks.com says.
package outbox

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

const (
	secretBytes = 32 // Standard Webhooks: 24 to 64
	secretStart = "whsec_"
	urlMost     = 2000 // bytes
	hooksMost   = 50   // each line of the journal is held against all of them
	queueName   = "webhooks"
	senders     = 8                // at once on this node: a slow receiver keeps one
	pollEvery   = time.Second      // for jobs that are due; waiting on LISTEN would take one more connection
	stuckAfter  = 5 * time.Minute  // a job whose node died is begun again
	doneKept    = 24 * time.Hour   // delivered jobs, to look at
	startAgain  = time.Second      // while the database is away
	stopLongest = 10 * time.Second // for deliveries in progress
)

// Events are what a webhook may be told of, by the journal's kind that it is
// made from.
var events = map[journal.Kind]string{
	journal.Opened:   "ticket.opened",
	journal.Taken:    "ticket.taken", // of a ticket's stream only
	journal.Closed:   "ticket.closed",
	journal.Reopened: "ticket.reopened",
	journal.Ended:    "contact.ended",
	journal.Recorded: "message.recorded",
	journal.Booked:   "callback.booked",
}

// Events lists the events in the order of the alphabet.
func Events() []string {
	var all []string
	for _, name := range events {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Kinds of the journal.
const (
	Added    journal.Kind = "webhook_added"
	Removed  journal.Kind = "webhook_removed"
	Enabled  journal.Kind = "webhook_enabled"
	Disabled journal.Kind = "webhook_disabled"
)

var (
	// ErrNotFound is a webhook that does not exist, or no longer.
	ErrNotFound = errors.New("no such webhook")
	// ErrMany is one webhook more than the desk keeps.
	ErrMany = errors.New("too many webhooks")
	// ErrURL is an address that nothing is sent to.
	ErrURL = errors.New("the address of a webhook is https://host[:port]/… without user or fragment")
	// ErrEvent is an event that does not exist.
	ErrEvent = errors.New("no such event")
)

// Config is what Webhooks need. DB is required.
type Config struct {
	DB           *db.DB
	Log          *slog.Logger     // nil: slog.Default()
	Now          func() time.Time // nil: time.Now
	AllowPrivate bool             // addresses inside the house, and http: else only public ones by https

	retry func(attempt int) time.Duration // tests do not wait for hours
}

// Webhooks keeps who is told of what, and tells them while Run runs.
type Webhooks struct {
	Config
	river  *river.Client[pgx.Tx]
	sender *sender
}

// New builds Webhooks; nothing runs yet and the database is not touched.
func New(c Config) (*Webhooks, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.retry == nil {
		c.retry = func(attempt int) time.Duration { return retries[min(attempt, len(retries))-1] }
	}
	w := &Webhooks{Config: c, sender: newSender(c.AllowPrivate)}
	workers := river.NewWorkers()
	river.AddWorker(workers, &deliverer{webhooks: w})
	var err error
	w.river, err = river.NewClient(riverpgxv5.New(c.DB.Pool), &river.Config{
		Queues:  map[string]river.QueueConfig{queueName: {MaxWorkers: senders}},
		Workers: workers, Logger: slog.New(slog.DiscardHandler), ErrorHandler: faults{c.Log},
		PollOnly: true, FetchPollInterval: pollEvery,
		RescueStuckJobsAfter: stuckAfter, CompletedJobRetentionPeriod: doneKept,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the webhooks: %w", err)
	}
	return w, nil
}

// faults logs what River's own log would: that is left out, because it repeats
// each second that the database is away, and follow says so once.
type faults struct{ log *slog.Logger }

// HandleError implements river.ErrorHandler. A delivery that failed stands in
// the webhook's row.
func (f faults) HandleError(context.Context, *rivertype.JobRow, error) *river.ErrorHandlerResult {
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (f faults) HandlePanic(_ context.Context, job *rivertype.JobRow, value any, trace string) *river.ErrorHandlerResult {
	f.log.Error("a delivery panicked", "job", job.ID, "fault", value, "stack", trace)
	return nil
}

// Run hands out what the journal says and delivers it, until ctx ends. It
// returns nil when ctx ended it.
func (w *Webhooks) Run(ctx context.Context) error {
	for {
		err := w.river.Start(context.WithoutCancel(ctx))
		if err == nil {
			break
		}
		if !pause(ctx, startAgain, nil) {
			return nil
		}
		w.Log.Warn("the webhooks wait for the database", "err", err)
	}
	w.follow(ctx)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLongest)
	defer cancel()
	if w.river.Stop(stop) == nil {
		return nil
	}
	last, end := context.WithTimeout(context.WithoutCancel(ctx), stopLongest)
	defer end()
	if err := w.river.StopAndCancel(last); err != nil {
		return fmt.Errorf("stop the webhooks: %w", err)
	}
	return nil
}

// pause waits for a wake-up or for so long; false when ctx has ended.
func pause(ctx context.Context, by time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(by)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}

// Webhook is one receiver.
type Webhook struct {
	ID           uuid.UUID  `json:"id"`
	URL          string     `json:"url"`
	Events       []string   `json:"events"`
	CreatedAt    time.Time  `json:"created_at"`
	DeliveredAt  *time.Time `json:"delivered_at"`  // the last that arrived
	FailingSince *time.Time `json:"failing_since"` // nil: the last one arrived
	LastFault    string     `json:"last_fault"`    // Italian; "" when the last one arrived
	DisabledAt   *time.Time `json:"disabled_at"`
	DisabledWhy  string     `json:"disabled_why"` // Italian
}

const columns = `id, url, events, created_at, delivered_at, failing_since, last_fault, disabled_at, disabled_why`

// Add registers a receiver. Its secret is told once. It hears of what is
// committed from now on.
func (w *Webhooks) Add(ctx context.Context, user int64, address string, names []string) (Webhook, string, error) {
	if err := w.check(address, names); err != nil {
		return Webhook{}, "", err
	}
	raw := make([]byte, secretBytes)
	rand.Read(raw)
	secret := secretStart + base64.StdEncoding.EncodeToString(raw)
	slices.Sort(names)
	var added Webhook
	err := w.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := w.wakeCursor(ctx, tx); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, `select count(*) from webhooks`).Scan(&n); err != nil {
			return err
		}
		if n >= hooksMost {
			return ErrMany
		}
		at := w.Now()
		rows, err := tx.Query(ctx, `insert into webhooks (id, url, secret, events, created_by, created_at)
			values (@id, @url, @secret, @events, @user, @at) returning `+columns,
			pgx.StrictNamedArgs{"id": uuid.Must(uuid.NewV7()), "url": address, "secret": secret, "events": slices.Compact(names), "user": user, "at": at})
		if err != nil {
			return err
		}
		if added, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Webhook]); err != nil {
			return err
		}
		return note(ctx, tx, Added, added.ID, user, at)
	})
	if errors.Is(err, ErrMany) {
		return Webhook{}, "", err
	}
	if err != nil {
		return Webhook{}, "", fmt.Errorf("add a webhook: %w", err)
	}
	return added, secret, nil
}

func (w *Webhooks) check(address string, names []string) error {
	u, err := url.Parse(address)
	if err != nil || len(address) > urlMost || u.Hostname() == "" || u.User != nil || u.Fragment != "" ||
		(u.Scheme != "https" && (u.Scheme != "http" || !w.AllowPrivate)) {
		return ErrURL
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return ErrURL
		}
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !w.AllowPrivate && !public(ip) { // a name is looked up at each delivery
		return ErrURL
	}
	known := Events()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return ErrEvent
		}
	}
	if len(names) == 0 {
		return ErrEvent
	}
	return nil
}

// wakeCursor takes the cursor, and when nobody has read by it sets it to the
// journal's end: what happened before there was a webhook is told to none.
func (w *Webhooks) wakeCursor(ctx context.Context, tx *db.Tx) error {
	if _, err := tx.Exec(ctx, `insert into webhook_cursor (xid, id) values ('0', 0) on conflict do nothing`); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `select from webhook_cursor for update`); err != nil {
		return err
	}
	var idle bool
	if err := tx.QueryRow(ctx, `select not exists (select from webhooks where disabled_at is null)`).Scan(&idle); err != nil || !idle {
		return err
	}
	end, err := journal.End(ctx, tx)
	if err != nil {
		return err
	}
	return setCursor(ctx, tx, end)
}

func note(ctx context.Context, tx *db.Tx, kind journal.Kind, id uuid.UUID, user int64, at time.Time) error {
	tx.Wake("journal", topicChanges)
	return journal.Append(ctx, tx, journal.Line{Stream: "webhook:" + id.String(), At: at, Kind: kind, User: user, Data: map[string]any{"webhook": id}})
}

// List returns the receivers, oldest first.
func (w *Webhooks) List(ctx context.Context) ([]Webhook, error) {
	rows, err := w.DB.Pool.Query(ctx, `select `+columns+` from webhooks order by created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("webhooks: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Webhook])
}

// Remove forgets a receiver; what waits for it is not sent any more.
func (w *Webhooks) Remove(ctx context.Context, user int64, id uuid.UUID) error {
	return w.change(ctx, user, id, Removed, `delete from webhooks where id = @id`, nil, nil)
}

// Enable sends to a receiver again, from what happens next.
func (w *Webhooks) Enable(ctx context.Context, user int64, id uuid.UUID) error {
	return w.change(ctx, user, id, Enabled, `update webhooks set disabled_at = null, disabled_why = '', failing_since = null, last_fault = '' where id = @id`, nil, w.wakeCursor)
}

// byHand is why a receiver is disabled that somebody disabled.
const byHand = "Da una persona."

// Disable sends nothing more to a receiver; what waits for it is not sent either.
func (w *Webhooks) Disable(ctx context.Context, user int64, id uuid.UUID) error {
	return w.change(ctx, user, id, Disabled, `update webhooks set disabled_at = @at, disabled_why = @why where id = @id`,
		pgx.StrictNamedArgs{"at": w.Now(), "why": byHand}, nil)
}

func (w *Webhooks) change(ctx context.Context, user int64, id uuid.UUID, kind journal.Kind, sql string, more pgx.StrictNamedArgs, before func(context.Context, *db.Tx) error) error {
	values := pgx.StrictNamedArgs{"id": id}
	maps.Copy(values, more)
	err := w.DB.Tx(ctx, func(tx *db.Tx) error {
		if before != nil {
			if err := before(ctx, tx); err != nil {
				return err
			}
		}
		done, err := tx.Exec(ctx, sql, values)
		if err != nil {
			return err
		}
		if done.RowsAffected() == 0 {
			return ErrNotFound
		}
		return note(ctx, tx, kind, id, user, w.Now())
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("change a webhook: %w", err)
	}
	return err
}
