package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/danielgtaylor/huma/v2/validation"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

// operation is what an operation of the API is beside its types. A new one is
// one of these, given to provide with its function: docs/decisions/0011.
type operation struct {
	at   string // "POST /tickets/{number}/take"
	id   string // unique: clients name their functions by it
	does string // one sentence, for the API's description

	by    []Role // who may; nil: everybody who signed in
	scope Scope  // what a token must allow; "": Read to read, Operate to change

	kind  string        // of the body; "": application/json. Others come as RawBody []byte with the tag contentType
	most  int64         // bytes of the body; 0: maxBody
	takes time.Duration // longest work; 0: workLongest

	secret bool // the answer carries a secret: it is not kept for who repeats an Idempotency-Key
}

// Who may call an operation that is not for everybody.
var (
	supervisors = []Role{Supervisor, Admin}
	admins      = []Role{Admin}
)

// nothing is the input or the output of an operation that has none: 204.
type nothing struct{}

// TicketPath is the input of an operation on a ticket; it is exported because
// huma looks into exported fields only.
type TicketPath struct {
	Number string `path:"number" pattern:"^[0-9]{4}-[0-9]{1,9}$" doc:"The ticket's number, such as 2026-123."`
}

// IDPath is the input of an operation on what has a UUID.
type IDPath struct {
	ID uuid.UUID `path:"id" format:"uuid" minLength:"36" maxLength:"36"` // the parser also takes urn: and braces
}

// list is how the API shows lists: an object, so that it can grow.
type list[T any] struct {
	Items []T `json:"items"`
}

func items[T any](of []T) list[T] {
	if of == nil {
		of = []T{} // [] and not null
	}
	return list[T]{of}
}

func listed[T any](of []T, err error) (list[T], error) { return items(of), err }

// operations is the API while it is put together.
type operations struct {
	server *Server
	router chi.Router
	api    huma.API
}

// newOperations prepares the API on the router of /api/v1. Of huma it takes the
// reading of parameters, the description and the check of values; what is
// written, be it answer or problem, is ours.
func newOperations(s *Server, r chi.Router) *operations {
	ourHuma()
	form := huma.Format{
		Marshal:   func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
		Unmarshal: func(data []byte, v any) error { return strict(data, v) },
	}
	// Not huma.DefaultConfig: that serves a page which loads its script from
	// elsewhere, and puts a $schema with the request's host into every answer.
	return &operations{server: s, router: r, api: humachi.New(r, huma.Config{
		OpenAPI:       describedAs(),
		Formats:       map[string]huma.Format{"application/json": form, problemKind: form},
		DefaultFormat: "application/json",
	})}
}

// ourHuma replaces what huma keeps in variables of its package.
var ourHuma = sync.OnceFunc(func() {
	huma.NewErrorWithContext = hummed
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError { return hummed(nil, status, msg, errs...) }
	huma.DefaultArrayNullable = false // items() sees to it
})

// answer writes an operation's answer by itself: huma would panic when a client
// is gone, and would not say charset or no-store.
type answer struct{ Body func(huma.Context) }

// provide adds one operation to the API. I is a struct with its parameters
// (tags path, query) and its Body, O what is answered as JSON.
func provide[I, O any](a *operations, o operation, fn func(ctx context.Context, me User, in *I) (O, error)) {
	method, path, _ := strings.Cut(o.at, " ")
	if o.most == 0 {
		o.most = maxBody
	}
	if o.takes == 0 {
		o.takes = workLongest
	}
	if o.scope == "" {
		o.scope = Operate
		if !changes(method) {
			o.scope = Read
		}
	}
	op := a.describe(o, method, path, reflect.TypeFor[O]())
	sentences := sentencesOf(reflect.TypeFor[I]())
	op.Metadata = map[string]any{"sentences": sentences}
	op.MaxBodyBytes = o.most + 1 // so that it is our own limit which is met
	op.BodyReadTimeout = max(bodyLongest, o.takes)
	op.SkipValidateBody = true // after it was read: what was understood is what is checked
	op.Middlewares = huma.Middlewares{a.admit(o)}
	status := op.DefaultStatus
	var body *huma.Schema
	huma.Register(a.api, *op, func(ctx context.Context, in *I) (*answer, error) {
		out, err := zero[O](), checked(ctx, a.api, body, in, sentences)
		if err == nil {
			out, err = fn(ctx, whoAsked(ctx).User, in)
		}
		return &answer{func(c huma.Context) {
			r, w := humachi.Unwrap(c)
			switch {
			case err != nil:
				a.server.fail(w, r, err)
			case status == http.StatusNoContent:
				w.Header().Set("Cache-Control", "no-store")
				w.WriteHeader(status)
			default:
				writeJSON(w, status, out)
			}
		}}, nil
	})
	body = bodySchema(a.api.OpenAPI(), method, path)
}

func zero[T any]() (v T) { return v }

// admit lets an operation begin: its caller may, the request has its form, and
// from here on it has its limits.
func (a *operations) admit(o operation) func(huma.Context, func(huma.Context)) {
	kind := o.kind
	if kind == "" {
		kind = "application/json"
	}
	return func(c huma.Context, next func(huma.Context)) {
		r, w := humachi.Unwrap(c)
		w.Header().Set("Cache-Control", "no-store") // of huma's own refusals too
		if err := a.allowed(r, o); err != nil {
			a.server.fail(w, r, err)
			return
		}
		if c.Operation().RequestBody != nil && !hasKind(r, kind) {
			writeProblem(w, problemf(http.StatusUnsupportedMediaType, "Il corpo della richiesta deve essere %s.", kind))
			return
		}
		if p := unreadable(c); p != nil {
			writeProblem(w, p)
			return
		}
		conn := http.NewResponseController(w)
		_ = conn.SetReadDeadline(time.Now().Add(max(bodyLongest, o.takes)))
		_ = conn.SetWriteDeadline(time.Now().Add(replyLongest + o.takes)) // not every ResponseWriter has one
		r.Body = http.MaxBytesReader(w, r.Body, o.most)
		ctx, cancel := context.WithTimeout(r.Context(), o.takes)
		defer cancel()
		a.server.once(w, r.WithContext(ctx), o, func(w http.ResponseWriter, r *http.Request) {
			if kind == "application/json" {
				r = keepSent(r)
			}
			next(humachi.NewContext(c.Operation(), r, w))
		})
	}
}

// sentKey is where a request's context has its body as it came.
type sentKey struct{}

// keepSent keeps a copy of the body while it is read: what it was decoded into
// cannot tell a field that was left out from one that is empty.
func keepSent(r *http.Request) *http.Request {
	sent := new(bytes.Buffer)
	r = r.WithContext(context.WithValue(r.Context(), sentKey{}, sent))
	r.Body = io.NopCloser(io.TeeReader(r.Body, sent)) // net/http closes its own
	return r
}

// allowed tells whether who asks may: by role, and with a token by its scope.
func (a *operations) allowed(r *http.Request, o operation) error {
	who := whoAsks(r)
	if o.by != nil && !slices.Contains(o.by, who.Role) {
		return errRole
	}
	if !who.scope.includes(o.scope) {
		return problemf(http.StatusForbidden, "Il token non ha l'ambito «%s».", o.scope)
	}
	return nil
}

// unreadable refuses parameters that are no text: PostgreSQL takes neither
// broken UTF-8 nor NUL.
func unreadable(c huma.Context) *problem {
	for _, p := range c.Operation().Parameters {
		switch {
		case p.In == "path" && !readable(c.Param(p.Name)):
			return errNotFound
		case p.In == "query" && !readable(c.Query(p.Name)):
			return fieldProblem(p.Name, "Il testo non è leggibile.")
		}
	}
	return nil
}

func readable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// checked refuses a body that leaves out what its type requires, and holds the
// decoded one against the constraints of the type's tags. Values are looked at
// as they were decoded, not as they were sent: the two can differ (a key twice,
// or in another case).
func checked(ctx context.Context, api huma.API, schema *huma.Schema, in any, sentences map[string]string) error {
	if schema == nil {
		return nil
	}
	registry := api.OpenAPI().Components.Schemas
	if sent, ok := ctx.Value(sentKey{}).(*bytes.Buffer); ok {
		var value any
		dec := json.NewDecoder(sent)
		dec.UseNumber() // numbers that no float64 holds are none of this
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("check a body: %w", err)
		}
		if at := missingIn(registry, schema, value, "body"); at != "" {
			return fieldProblem(fieldOf(at), "Non può mancare.")
		}
	}
	raw, err := json.Marshal(reflect.ValueOf(in).Elem().FieldByName("Body").Interface())
	if err != nil {
		return fmt.Errorf("check a body: %w", err)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("check a body: %w", err)
	}
	path := huma.NewPathBuffer(nil, 0)
	path.Push("body")
	if at := unreadableIn(value, "body"); at != "" {
		return fieldProblem(fieldOf(at), "Il testo non è leggibile.")
	}
	found := &huma.ValidateResult{}
	huma.Validate(registry, schema, path, huma.ModeWriteToServer, value, found)
	for _, err := range found.Errors {
		detail, ok := err.(*huma.ErrorDetail) //nolint:errorlint // Validate adds nothing else
		if !ok || detail.Value == nil && slices.Contains(leftOut, detail.Message) {
			continue
		}
		return valueProblem(registry, schema, detail, sentences)
	}
	return nil
}

// leftOut is what huma says of a list or an object that is nil.
var leftOut = []string{validation.MsgExpectedArray, validation.MsgExpectedObject, validation.MsgExpectedMatchAtLeastOneSchema}

// missingIn finds a required field that a body leaves out, "" when there is none.
// A null where none may stand is left out, too: it decodes into the zero value
// as silently.
func missingIn(registry huma.Registry, s *huma.Schema, value any, at string) string {
	for s != nil && s.Ref != "" {
		s = registry.SchemaFromRef(s.Ref)
	}
	if s == nil {
		return ""
	}
	switch v := value.(type) {
	case nil:
		if !s.Nullable && len(s.AnyOf) == 0 { // a pointer to a type with a name is any of it and null
			return at
		}
	case []any:
		for i, one := range v {
			if found := missingIn(registry, s.Items, one, at+"["+strconv.Itoa(i)+"]"); found != "" {
				return found
			}
		}
	case map[string]any:
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				return at + "." + key
			}
		}
		for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
			if one, ok := v[key]; ok && (one != nil || slices.Contains(s.Required, key)) {
				if found := missingIn(registry, s.Properties[key], one, at+"."+key); found != "" {
					return found
				}
			}
		}
	}
	return ""
}

// unreadableIn finds a string with NUL, which JSON may carry as \u0000.
func unreadableIn(value any, at string) string {
	switch v := value.(type) {
	case string:
		if !readable(v) {
			return at
		}
	case []any:
		for i, one := range v {
			if found := unreadableIn(one, at+"["+strconv.Itoa(i)+"]"); found != "" {
				return found
			}
		}
	case map[string]any:
		for key, one := range v {
			if !readable(key) {
				return at
			}
			if found := unreadableIn(one, at+"."+key); found != "" {
				return found
			}
		}
	}
	return ""
}

// hummed is a fault that huma finds in a request, as our problem. It never
// repeats what was sent, which huma's own errors do.
func hummed(c huma.Context, status int, msg string, errs ...error) huma.StatusError {
	var first *huma.ErrorDetail
	for _, err := range errs {
		detail, ok := err.(*huma.ErrorDetail) //nolint:errorlint // huma never wraps it
		switch {
		case !ok:
			return bodyProblem(err) // it could not be read
		case strings.HasPrefix(detail.Location, "path."):
			return errNotFound
		case first == nil:
			first = detail
		}
	}
	switch {
	case c == nil: // while operations are registered
	case first != nil && first.Location == "body":
		return problemf(http.StatusBadRequest, "%s", first.Message) // of strict, which is ours
	case first != nil:
		sentences, _ := c.Operation().Metadata["sentences"].(map[string]string)
		return valueProblem(nil, paramSchema(c.Operation(), first.Location), first, sentences)
	case status == http.StatusBadRequest && takesFile(c.Operation()):
		return fieldProblem("file", "Il file è vuoto.")
	case status == http.StatusBadRequest:
		return errNoBody
	case status == http.StatusRequestTimeout:
		return problemf(http.StatusBadRequest, "Il corpo della richiesta non si può leggere.")
	}
	if status < http.StatusInternalServerError && status != 0 {
		return problemf(status, "La richiesta non è valida.")
	}
	return errFault
}

// takesFile says whether an operation's body is a file.
func takesFile(op *huma.Operation) bool {
	return op.RequestBody != nil && op.RequestBody.Content["application/json"] == nil
}

// paramSchema is the schema of a parameter at "query.limit".
func paramSchema(op *huma.Operation, location string) *huma.Schema {
	for _, p := range op.Parameters {
		if p.In+"."+p.Name == location {
			return p.Schema
		}
	}
	return nil
}

// valueProblem says in Italian what a value must be, by the tags of its field:
// its own sentence (tag wants), else one made from the constraint.
func valueProblem(registry huma.Registry, schema *huma.Schema, detail *huma.ErrorDetail, sentences map[string]string) *problem {
	at := fieldOf(detail.Location)
	if own, ok := sentences[at]; ok {
		return fieldProblem(at, own)
	}
	if registry != nil {
		schema = schemaAt(registry, schema, at)
	}
	return fieldProblem(at, wanted(schema, detail.Message))
}

func fieldProblem(field, sentence string) *problem {
	return &problem{Status: http.StatusUnprocessableEntity, Title: titles[http.StatusUnprocessableEntity], Detail: sentence, Field: field}
}

// fieldOf is a location without where it begins, "" when it would repeat
// something that is not a name of ours.
func fieldOf(location string) string {
	_, field, _ := strings.Cut(location, ".")
	if !fieldPath.MatchString(field) {
		return ""
	}
	return field
}

// schemaAt walks to a field such as "hours[2].opens".
func schemaAt(registry huma.Registry, s *huma.Schema, field string) *huma.Schema {
	step := func() {
		for s != nil && s.Ref != "" {
			s = registry.SchemaFromRef(s.Ref)
		}
	}
	for _, part := range strings.Split(field, ".") {
		name, index, indexed := strings.Cut(part, "[")
		if step(); s == nil {
			return nil
		}
		s = s.Properties[name]
		for range strings.Count(index, "[") + 1 {
			if step(); s != nil && indexed {
				s = s.Items
			}
		}
	}
	step()
	return s
}

// wanted is the sentence for a schema that was not kept; broken is huma's.
func wanted(s *huma.Schema, broken string) string {
	switch {
	case s == nil:
		return "Il valore non è accettato."
	case len(s.Enum) > 0:
		var known []string
		for _, one := range s.Enum {
			if text := fmt.Sprint(one); text != "" {
				known = append(known, text)
			}
		}
		return "Uno di: " + strings.Join(known, ", ") + "."
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("Un numero da %v a %v.", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		return fmt.Sprintf("Un numero, almeno %v.", *s.Minimum)
	case s.Maximum != nil:
		return fmt.Sprintf("Un numero, al massimo %v.", *s.Maximum)
	case s.MinLength != nil && *s.MinLength == 1 && broken == fmt.Sprintf(validation.MsgExpectedMinLength, 1):
		return "Non può mancare."
	case s.MinLength != nil && broken == fmt.Sprintf(validation.MsgExpectedMinLength, *s.MinLength):
		return fmt.Sprintf("Almeno %d caratteri.", *s.MinLength)
	case s.MaxLength != nil && broken == fmt.Sprintf(validation.MsgExpectedMaxLength, *s.MaxLength):
		return fmt.Sprintf("Al massimo %d caratteri.", *s.MaxLength)
	case s.MinItems != nil && *s.MinItems == 1 && broken == fmt.Sprintf(validation.MsgExpectedMinItems, 1):
		return "Almeno una voce."
	case s.MinItems != nil && broken == fmt.Sprintf(validation.MsgExpectedMinItems, *s.MinItems):
		return fmt.Sprintf("Almeno %d voci.", *s.MinItems)
	case s.MaxItems != nil && broken == fmt.Sprintf(validation.MsgExpectedMaxItems, *s.MaxItems):
		return fmt.Sprintf("Al massimo %d voci.", *s.MaxItems)
	case s.Type == huma.TypeInteger:
		return "Un numero intero."
	case s.Type == huma.TypeBoolean:
		return "Uno di: true, false."
	case s.Format == "date-time":
		return "Un istante nel formato RFC 3339."
	}
	return "Il valore non è accettato."
}

// sentencesOf collects the tags `wants` of parameters and of the body's fields.
func sentencesOf(t reflect.Type) map[string]string {
	found := map[string]string{}
	for _, f := range reflect.VisibleFields(t) {
		if f.Name == "Body" && f.Type.Kind() == reflect.Struct {
			for _, inner := range reflect.VisibleFields(f.Type) {
				if own, ok := inner.Tag.Lookup("wants"); ok {
					name, _, _ := strings.Cut(inner.Tag.Get("json"), ",")
					found[name] = own
				}
			}
		}
		if own, ok := f.Tag.Lookup("wants"); ok {
			found[f.Tag.Get("query")] = own
		}
	}
	return found
}
