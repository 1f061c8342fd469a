package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
)

// A change may be sent with an Idempotency-Key
// (draft-ietf-httpapi-idempotency-key-header-07): sent again with the same key,
// because its answer was lost, it is answered again and not done again.

const (
	keyHeader = "Idempotency-Key"
	keyKept   = 24 * time.Hour   // longer than anybody tries again
	keyGrace  = 30 * time.Second // after an operation's longest work: then its process has died
	keyWork   = 5 * time.Second  // to keep an answer
)

// keyForm is a key as it may be: the draft's quoted string, or bare.
var keyForm = regexp.MustCompile(`^"?([!#-~]{1,200})"?$`)

var (
	errKeyForm  = problemf(http.StatusBadRequest, "La chiave Idempotency-Key ha da 1 a 200 caratteri ASCII senza spazi.")
	errKeyOther = problemf(http.StatusUnprocessableEntity, "Questa chiave Idempotency-Key è già servita per un'altra richiesta.")
	errKeyBusy  = &problem{Status: http.StatusConflict, Title: titles[http.StatusConflict],
		Detail: "La stessa richiesta è ancora in corso.", retry: 1}
	errKeyLost = problemf(http.StatusConflict, "La richiesta è già stata eseguita, ma la risposta non si può ripetere: controlla il risultato.")
)

// keyed is a change under its key.
type keyed struct {
	db          *db.DB
	user        int64
	key         string
	fingerprint []byte
}

// kept is what stands under a key.
type kept struct {
	Fingerprint []byte
	Done        bool
	Status      *int
	Kind        string
	Body        []byte
}

// captured holds an answer back until it is kept.
type captured struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (c *captured) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

func (c *captured) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(p)
}

// once runs a change under the key it came with, or repeats what it answered.
// next answers into the writer it is given.
func (s *Server) once(w http.ResponseWriter, r *http.Request, o operation, next func(http.ResponseWriter, *http.Request)) {
	key := r.Header.Get(keyHeader)
	if key == "" || !changes(r.Method) {
		next(w, r)
		return
	}
	match := keyForm.FindStringSubmatch(key)
	if match == nil {
		writeProblem(w, errKeyForm)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeProblem(w, bodyProblem(err))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	k := keyed{db: s.DB, user: whoAsks(r).ID, key: match[1], fingerprint: fingerprint(r, body)}
	old, err := k.begin(r.Context(), s.Now(), o.takes+keyGrace)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if old != nil {
		repeat(w, k, old)
		return
	}
	out := &captured{ResponseWriter: w}
	defer func() {
		if out.status == 0 { // a panic: caught answers it
			k.settle(r.Context(), s, out, o)
		}
	}()
	next(out, r.WithContext(db.Alongside(r.Context(), k.done)))
	if out.status == 0 {
		out.status = http.StatusOK
	}
	k.settle(r.Context(), s, out, o)
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body.Bytes())
}

func fingerprint(r *http.Request, body []byte) []byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s\n", r.Method, r.URL.RequestURI())
	_, _ = h.Write(body)
	return h.Sum(nil)
}

// repeat answers with what stands under a key.
func repeat(w http.ResponseWriter, k keyed, old *kept) {
	switch {
	case !bytes.Equal(old.Fingerprint, k.fingerprint):
		writeProblem(w, errKeyOther)
	case old.Status == nil && !old.Done:
		writeProblem(w, errKeyBusy)
	case old.Status == nil:
		writeProblem(w, errKeyLost)
	default:
		if old.Kind != "" {
			w.Header().Set("Content-Type", old.Kind)
		}
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(*old.Status)
		_, _ = w.Write(old.Body)
	}
}

// begin takes the key, or returns what stands under it. A key whose work began
// longer than stale ago and changed nothing belonged to a process that died: it
// is taken over.
func (k keyed) begin(ctx context.Context, at time.Time, stale time.Duration) (*kept, error) {
	args := pgx.StrictNamedArgs{"user": k.user, "key": k.key, "fingerprint": k.fingerprint, "at": at, "stale": at.Add(-stale)}
	done, err := k.db.Pool.Exec(ctx, `insert into idempotency_keys as i (user_id, key, fingerprint, begun_at) values (@user, @key, @fingerprint, @at)
		on conflict (user_id, key) do update set begun_at = excluded.begun_at
		where i.status is null and not i.done and i.fingerprint = excluded.fingerprint and i.begun_at < @stale`, args)
	if err != nil {
		return nil, fmt.Errorf("take an idempotency key: %w", err)
	}
	if done.RowsAffected() == 1 {
		return nil, nil
	}
	rows, err := k.db.Pool.Query(ctx, `select fingerprint, done, status, kind, body from idempotency_keys where user_id = @user and key = @key`,
		pgx.StrictNamedArgs{"user": k.user, "key": k.key})
	if err != nil {
		return nil, fmt.Errorf("read an idempotency key: %w", err)
	}
	old, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[kept])
	if errors.Is(err, pgx.ErrNoRows) { // given back this instant
		return nil, errKeyBusy
	}
	if err != nil {
		return nil, fmt.Errorf("read an idempotency key: %w", err)
	}
	return &old, nil
}

// done is committed with the change itself: a crash after it finds the key used,
// a crash before it finds nothing changed.
func (k keyed) done(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `update idempotency_keys set done = true where user_id = @user and key = @key`,
		pgx.StrictNamedArgs{"user": k.user, "key": k.key})
	return err
}

// settle keeps the answer. A fault of ours that changed nothing gives the key
// back, so that the same request can be tried again; an answer with a secret is
// not kept.
func (k keyed) settle(ctx context.Context, s *Server, out *captured, o operation) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyWork)
	defer cancel()
	args := pgx.StrictNamedArgs{"user": k.user, "key": k.key}
	var err error
	switch {
	case out.status == 0 || out.status >= http.StatusInternalServerError:
		_, err = k.db.Pool.Exec(ctx, `delete from idempotency_keys where user_id = @user and key = @key and not done`, args)
	case o.secret && out.status < http.StatusMultipleChoices:
	default:
		args["status"], args["kind"], args["body"] = out.status, out.Header().Get("Content-Type"), out.body.Bytes()
		_, err = k.db.Pool.Exec(ctx, `update idempotency_keys set status = @status, kind = @kind, body = @body where user_id = @user and key = @key`, args)
	}
	if err != nil && !db.Away(err) {
		s.Log.Error("an idempotency key was not settled", "err", err)
	}
}
