package outbox

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/pronto-desk/pronto/db"
)

const (
	handLongest    = 10 * time.Second
	deliverLongest = 20 * time.Second // Standard Webhooks: 15 to 30 s
	dialLongest    = 5 * time.Second
	failedFor      = 3 * 24 * time.Hour // without one that arrived: then nothing is sent any more
	answerMost     = 4 << 10            // bytes read, and forgotten, so that a connection can be used again
)

// retries is how long after the n-th failure the next try comes, as Standard
// Webhooks proposes: some three days in all.
var retries = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// delivery is one message to one receiver.
type delivery struct {
	Webhook uuid.UUID `json:"webhook"`
	Message string    `json:"message"`
	Body    string    `json:"body"`
}

// Kind implements river.JobArgs.
func (delivery) Kind() string { return "webhook" }

// deliverer is River's worker.
type deliverer struct {
	river.WorkerDefaults[delivery]
	webhooks *Webhooks
}

// Timeout implements river.Worker.
func (d *deliverer) Timeout(*river.Job[delivery]) time.Duration { return 2 * deliverLongest }

// NextRetry implements river.Worker. The jobs' clock is the machine's.
func (d *deliverer) NextRetry(job *river.Job[delivery]) time.Time {
	return time.Now().Add(d.webhooks.retry(job.Attempt))
}

// Work implements river.Worker: one try.
func (d *deliverer) Work(ctx context.Context, job *river.Job[delivery]) error {
	w := d.webhooks
	var address, secret string
	err := w.DB.Pool.QueryRow(ctx, `select url, secret from webhooks where id = @id and disabled_at is null`,
		pgx.StrictNamedArgs{"id": job.Args.Webhook}).Scan(&address, &secret)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // removed or disabled meanwhile
	}
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	fault := w.sender.send(ctx, address, secret, job.Args, w.Now())
	if fault == nil {
		return w.arrived(ctx, job.Args.Webhook)
	}
	if err := w.failed(ctx, job.Args.Webhook, fault); err != nil {
		return err
	}
	return fault
}

func (w *Webhooks) arrived(ctx context.Context, id uuid.UUID) error {
	_, err := w.DB.Pool.Exec(ctx, `update webhooks set delivered_at = @at, failing_since = null, last_fault = '' where id = @id`,
		pgx.StrictNamedArgs{"id": id, "at": w.Now()})
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	return nil
}

// failed notes a failure; a receiver that took nothing for days, or says that it
// is gone, is disabled.
func (w *Webhooks) failed(ctx context.Context, id uuid.UUID, fault *fault) error {
	at := w.Now()
	err := w.DB.Tx(ctx, func(tx *db.Tx) error {
		var since time.Time
		err := tx.QueryRow(ctx, `update webhooks set failing_since = coalesce(failing_since, @at), last_fault = @fault
			where id = @id and disabled_at is null returning failing_since`,
			pgx.StrictNamedArgs{"id": id, "at": at, "fault": fault.italian}).Scan(&since)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		why := ""
		switch {
		case fault.gone:
			why = "Il destinatario ha risposto 410: non vuole più ricevere."
		case at.Sub(since) >= failedFor:
			why = "Nessuna consegna riuscita da tre giorni. Ultimo errore: " + fault.italian
		default:
			return nil
		}
		if _, err := tx.Exec(ctx, `update webhooks set disabled_at = @at, disabled_why = @why where id = @id`,
			pgx.StrictNamedArgs{"id": id, "at": at, "why": why}); err != nil {
			return err
		}
		return note(ctx, tx, Disabled, id, 0, at)
	})
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	return nil
}

// fault is why a delivery did not arrive. It tells nothing of what the receiver
// answered, which may be anything.
type fault struct {
	italian string
	gone    bool
}

// Error implements error.
func (f *fault) Error() string { return f.italian }

// sender sends messages, and only where it may.
type sender struct{ client *http.Client }

func newSender(allowPrivate bool) *sender {
	dialer := &net.Dialer{Timeout: dialLongest}
	if !allowPrivate {
		// After the name was resolved, for each address that is tried: a name
		// that leads inside the house is refused whatever it said before.
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || !public(to.Addr()) {
				return errPrivate
			}
			return nil
		}
	}
	return &sender{&http.Client{
		Timeout:       deliverLongest,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // no proxy: it would dial for us, unguarded
			DialContext: dialer.DialContext, TLSHandshakeTimeout: dialLongest, ResponseHeaderTimeout: deliverLongest,
			MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		},
	}}
}

var errPrivate = errors.New("the address is not a public one")

// inside are networks that IsGlobalUnicast and IsPrivate leave out: shared,
// reserved, for documentation, and those that carry an IPv4 address inside.
var inside = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10")

func prefixes(all ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(all))
	for _, one := range all {
		out = append(out, netip.MustParsePrefix(one))
	}
	return out
}

func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, net := range inside {
		if net.Contains(a) {
			return false
		}
	}
	return true
}

func (s *sender) send(ctx context.Context, address, secret string, d delivery, at time.Time) *fault {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(d.Body))
	if err != nil {
		return &fault{italian: "L'indirizzo non è utilizzabile."}
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	signature, err := sign(secret, d.Message, stamp, d.Body)
	if err != nil {
		return &fault{italian: "Il segreto non è utilizzabile."}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Pronto")
	r.Header.Set("webhook-id", d.Message)
	r.Header.Set("webhook-timestamp", stamp)
	r.Header.Set("webhook-signature", signature)
	answer, err := s.client.Do(r)
	switch {
	case errors.Is(err, errPrivate):
		return &fault{italian: "L'indirizzo non è pubblico: nulla è stato inviato."}
	case err != nil:
		return &fault{italian: "Nessuna risposta dal destinatario."}
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.CopyN(io.Discard, answer.Body, answerMost)
	if answer.StatusCode >= http.StatusOK && answer.StatusCode < http.StatusMultipleChoices {
		return nil
	}
	return &fault{italian: fmt.Sprintf("Il destinatario ha risposto %d.", answer.StatusCode), gone: answer.StatusCode == http.StatusGone}
}

// sign is the signature of Standard Webhooks, version 1 (HMAC-SHA256 over
// id.timestamp.body).
func sign(secret, id, stamp, body string) (string, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretStart))
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, id+"."+stamp+"."+body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}
