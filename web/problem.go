package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/tickets"
)

const (
	maxBody      = 64 << 10         // bytes of a JSON body: the longest is a ticket's description
	bodyLongest  = 15 * time.Second // for a body to arrive
	replyLongest = 30 * time.Second // for an answer to be taken
	workLongest  = 10 * time.Second // for the work of one request
	awayRetry    = 5                // seconds, Retry-After while the database is away
)

// problem is an error as a person reads it (RFC 9457). Its detail is Italian
// and never repeats what was sent.
type problem struct {
	Status    int               `json:"status"`
	Title     string            `json:"title"`
	Detail    string            `json:"detail"`
	Field     string            `json:"field,omitempty"` // what the detail is about
	Conflicts map[string]any    `json:"conflicts,omitempty"`
	Faults    []tickets.Fault   `json:"faults,omitempty"` // of settings that cannot be published
	Lines     []tickets.BadLine `json:"lines,omitempty"`  // of a file, all that cannot be used
	retry     int               // seconds for Retry-After; 0: none
}

// Error implements error.
func (p *problem) Error() string { return strconv.Itoa(p.Status) + " " + p.Detail }

// GetStatus implements huma.StatusError.
func (p *problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter (RFC 9457 §3).
func (p *problem) ContentType(string) string { return problemKind }

const problemKind = "application/problem+json; charset=utf-8"

// titles are short names of the statuses in use.
var titles = map[int]string{
	http.StatusBadRequest:                   "Richiesta non valida",
	http.StatusUnauthorized:                 "Accesso necessario",
	http.StatusForbidden:                    "Operazione non consentita",
	http.StatusNotFound:                     "Non trovato",
	http.StatusMethodNotAllowed:             "Metodo non consentito",
	http.StatusConflict:                     "Conflitto",
	http.StatusRequestEntityTooLarge:        "Richiesta troppo grande",
	http.StatusUnsupportedMediaType:         "Formato non accettato",
	http.StatusUnprocessableEntity:          "Valore non accettato",
	http.StatusRequestedRangeNotSatisfiable: "Parte inesistente",
	http.StatusLocked:                       "Chiave mancante",
	http.StatusTooManyRequests:              "Troppe richieste",
	http.StatusInternalServerError:          "Errore del sistema",
	http.StatusServiceUnavailable:           "Servizio non disponibile",
}

func problemf(status int, format string, args ...any) *problem {
	return &problem{Status: status, Title: titles[status], Detail: fmt.Sprintf(format, args...)}
}

var (
	errNotFound = problemf(http.StatusNotFound, "Non esiste, o non esiste più.")
	errSignIn   = problemf(http.StatusUnauthorized, "Occorre accedere per continuare.")
	errToken    = problemf(http.StatusUnauthorized, "Il token non è valido o è scaduto.")
	errOrigin   = problemf(http.StatusForbidden, "La richiesta non viene da una pagina di questo sito: serve un token.")
	errCrossing = problemf(http.StatusForbidden, "La richiesta viene da un altro sito ed è stata rifiutata.")
	errRole     = problemf(http.StatusForbidden, "Il tuo ruolo non consente questa operazione.")
	errNoBody   = problemf(http.StatusBadRequest, "Il corpo della richiesta manca o è incompleto.")
	errFault    = problemf(http.StatusInternalServerError, "Si è verificato un errore: è stato registrato. Riprova tra poco.")
	errAway     = &problem{Status: http.StatusServiceUnavailable, Title: titles[http.StatusServiceUnavailable],
		Detail: "La base dati non è raggiungibile. Le chiamate in corso proseguono; riprova tra qualche secondo.", retry: awayRetry}
	errBusySignIn = &problem{Status: http.StatusServiceUnavailable, Title: titles[http.StatusServiceUnavailable],
		Detail: "Troppi accessi nello stesso momento. Riprova tra qualche secondo.", retry: awayRetry}
	errLimited = &problem{Status: http.StatusTooManyRequests, Title: titles[http.StatusTooManyRequests],
		Detail: "Troppi tentativi. Attendi un minuto e riprova.", retry: 60}
)

// asProblem is the problem an error is to the one who asked. Faults of ours
// come out as 500 without their text: the log has it.
func asProblem(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, ErrBusy):
		return errBusySignIn
	}
	if p := domainProblem(err); p != nil {
		return p
	}
	if db.Away(err) || errors.Is(err, context.DeadlineExceeded) {
		return errAway
	}
	return errFault
}

func writeProblem(w http.ResponseWriter, p *problem) {
	h := w.Header()
	h.Set("Content-Type", problemKind)
	h.Set("Cache-Control", "no-store")
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="pronto"`) // RFC 9110 §11.6.1: a 401 names a scheme
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone: nobody to tell
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	var buf bytes.Buffer // whole before the status, so that a fault here is still a 500
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		writeProblem(w, errFault)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes())
}

// fieldName is a field's name that may be repeated to the one who sent it;
// fieldPath is one inside of others.
var (
	fieldName = regexp.MustCompile(`^[a-z_]{1,40}$`)
	fieldPath = regexp.MustCompile(`^[a-z_]{1,40}(\[[0-9]{1,6}\])*(\.[a-z_]{1,40}(\[[0-9]{1,6}\])*){0,8}$`)
)

// hasKind tells whether a request's body says it is of this media type.
func hasKind(r *http.Request, want string) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == want
}

// strict reads one JSON value of a type we know: nothing unknown, nothing after
// it. Its errors are sentences that name fields, never values.
func strict(data []byte, v any) error {
	if string(bytes.TrimSpace(data)) == "null" { // it decodes into anything, and says nothing
		return errors.New(errNoBody.Detail)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.New(bodyProblem(err).Detail)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		//lint:ignore ST1005 a sentence for the client
		return errors.New("Dopo il valore JSON c'è dell'altro.")
	}
	return nil
}

// size is a limit as people say it.
func size(bytes int64) string {
	switch {
	case bytes >= 1<<20 && bytes%(1<<20) == 0:
		return fmt.Sprintf("%d MB", bytes>>20)
	case bytes >= 1<<10 && bytes%(1<<10) == 0:
		return fmt.Sprintf("%d KB", bytes>>10)
	}
	return fmt.Sprintf("%d byte", bytes)
}

// bodyProblem is why a body could not be read.
func bodyProblem(err error) *problem {
	var (
		large  *http.MaxBytesError
		typing *json.UnmarshalTypeError
		syntax *json.SyntaxError
		parse  *time.ParseError
	)
	switch {
	case errors.As(err, &large):
		return problemf(http.StatusRequestEntityTooLarge, "Il corpo della richiesta supera %s.", size(large.Limit))
	case errors.As(err, &typing) && fieldName.MatchString(typing.Field):
		return problemf(http.StatusBadRequest, "Il campo «%s» non ha il tipo atteso.", typing.Field)
	case errors.As(err, &typing):
		return problemf(http.StatusBadRequest, "Un campo non ha il tipo atteso.")
	case errors.As(err, &syntax):
		return problemf(http.StatusBadRequest, "Il corpo non è JSON valido (byte %d).", syntax.Offset)
	case errors.As(err, &parse):
		return problemf(http.StatusBadRequest, "Un istante non è nel formato RFC 3339.")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errNoBody
	}
	if name, ok := strings.CutPrefix(err.Error(), `json: unknown field "`); ok {
		if name = strings.TrimSuffix(name, `"`); fieldName.MatchString(name) {
			return problemf(http.StatusBadRequest, "Il campo «%s» non esiste.", name)
		}
		return problemf(http.StatusBadRequest, "Un campo non esiste.")
	}
	return problemf(http.StatusBadRequest, "Il corpo della richiesta non si può leggere.")
}
