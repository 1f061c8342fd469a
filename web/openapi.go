package web

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/tickets"
)

// describedAs is the head of the API's description (OpenAPI 3.1). The server's
// address is a path: right for whoever reads it from this server.
func describedAs() *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Pronto", Version: "1",
			Description: "The desk's API. Instants are RFC 3339 in UTC, lengths say their unit in their name, problems are RFC 9457 with Italian detail.",
			License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "/api/v1"}},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry("#/components/schemas/", schemaName),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"token":   {Type: "http", Scheme: "bearer", Description: "Of `pronto token`, or made by its person through this API."},
				"session": {Type: "apiKey", In: "cookie", Name: cookieName, Description: "Of a browser that signed in; over https its name is " + hostCookieName + "."},
			},
		},
	}
}

// named are types whose name in the API is not their name in Go.
var named = map[reflect.Type]string{
	reflect.TypeFor[tickets.Record]():   "Contact",
	reflect.TypeFor[tickets.Code]():     "CallType",
	reflect.TypeFor[tickets.Line]():     "JournalLine",
	reflect.TypeFor[tickets.Moment]():   "TimelineEntry",
	reflect.TypeFor[User]():             "Me",
	reflect.TypeFor[tickets.Version]():  "ServiceVersion",
	reflect.TypeFor[tickets.Settings](): "ServiceSettings",
	reflect.TypeFor[tickets.Overview](): "ServiceOverview",
}

func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if name, ok := named[t]; ok {
		return name
	}
	if strings.HasPrefix(t.Name(), "list[") { // named by its items
		return schemaName(t.Field(0).Type.Elem(), hint) + "List"
	}
	if strings.HasPrefix(t.Name(), "Page[") {
		return schemaName(t.Field(0).Type.Elem(), hint) + "ListPage"
	}
	return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "View")
}

// closed are the closed sets of the API: what a string of this type can be.
var closed = map[reflect.Type][]any{
	reflect.TypeFor[Scope]():           {Read, Operate, Manage},
	reflect.TypeFor[Role]():            {Operator, Supervisor, Admin},
	reflect.TypeFor[queue.Declared]():  {queue.Available, queue.Break, queue.Admin, queue.Off},
	reflect.TypeFor[queue.Part]():      {queue.Listen, queue.Whisper, queue.Barge},
	reflect.TypeFor[queue.Doing]():     {queue.Idle, queue.Offered, queue.Talking, queue.Wrapping},
	reflect.TypeFor[tickets.Status]():  {tickets.Open, tickets.InCharge, tickets.Closed},
	reflect.TypeFor[tickets.Channel](): {tickets.Phone, tickets.Voicemail},
}

// closedFields are those whose Go type is wider than what it carries.
var closedFields = map[string][]any{
	"Match.sure":      {tickets.MatchCertain, tickets.MatchSeveral, tickets.MatchNone, tickets.MatchWithheld},
	"Contact.match":   {tickets.MatchCertain, tickets.MatchSeveral, tickets.MatchNone, tickets.MatchWithheld},
	"Contact.urgency": {tickets.Blocking, tickets.NotBlocking, nil},
	"Ticket.urgency":  {tickets.Blocking, tickets.NotBlocking}, "TicketPage.urgency": {tickets.Blocking, tickets.NotBlocking},
	"Waiting.urgency": {tickets.Blocking, tickets.NotBlocking},
	"Waiting.state":   {"waiting", "offered"},
	"Message.state":   {messageNew, "taken", "heard"},
}

// describe is an operation as the description has it.
func (a *operations) describe(o operation, method, path string, out reflect.Type) *huma.Operation {
	op := &huma.Operation{
		OperationID: o.id, Method: method, Path: path, Summary: o.does, DefaultStatus: http.StatusOK,
		Tags:       []string{strings.SplitN(path, "/", 3)[1]},
		Security:   []map[string][]string{{"token": {string(o.scope)}}, {"session": {}}},
		Extensions: map[string]any{},
	}
	if o.by != nil {
		op.Extensions["x-roles"] = o.by
	}
	if changes(method) {
		op.Parameters = []*huma.Param{{
			Name: keyHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "Sent again with the same key within a day, the same request is answered again and not done again.",
		}}
	}
	done := &huma.Response{Description: "Done."}
	if out == reflect.TypeFor[nothing]() {
		op.DefaultStatus = http.StatusNoContent
	} else {
		schema := a.api.OpenAPI().Components.Schemas.Schema(out, true, o.id+"Answer")
		done.Content = map[string]*huma.MediaType{"application/json": {Schema: schema}}
	}
	refusal := a.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem](), true, "")
	op.Responses = map[string]*huma.Response{
		strconv.Itoa(op.DefaultStatus): done,
		"default":                      {Description: "A refusal or a fault.", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: refusal}}},
	}
	return op
}

// describeSound is what the API answers that is no JSON.
func (a *operations) describeSound() {
	a.api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "getRecording", Method: http.MethodGet, Path: "/contacts/{id}/recording", Tags: []string{"contacts"},
		Summary:    "The message that a caller left, as WAV; ranges are served. Who listens is journalled.",
		Parameters: []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"}}},
		Security:   []map[string][]string{{"token": {string(Read)}}, {"session": {}}},
		Responses: map[string]*huma.Response{
			"200": {Description: "The sound.", Content: map[string]*huma.MediaType{"audio/wav": {}}},
			"206": {Description: "A range of it.", Content: map[string]*huma.MediaType{"audio/wav": {}}},
		},
	})
	a.api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "getTalk", Method: http.MethodGet, Path: "/contacts/{id}/talk", Tags: []string{"contacts"},
		Summary:    "The recorded talk, as WAV with the caller left and the operator right; ranges are served. Who listens is journalled.",
		Parameters: []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"}}},
		Security:   []map[string][]string{{"token": {string(Read)}}, {"session": {}}},
		Extensions: map[string]any{"x-roles": supervisors},
		Responses: map[string]*huma.Response{
			"200": {Description: "The sound.", Content: map[string]*huma.MediaType{"audio/wav": {}}},
			"206": {Description: "A range of it.", Content: map[string]*huma.MediaType{"audio/wav": {}}},
		},
	})
	a.api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "getPromptSound", Method: http.MethodGet, Path: "/prompts/{name}/sound", Tags: []string{"prompts"},
		Summary: "What callers hear, as WAV; ranges are served.",
		Parameters: []*huma.Param{
			{Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}},
			{Name: "original", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean}, Description: "The one that comes with the program."},
		},
		Security:   []map[string][]string{{"token": {string(Read)}}, {"session": {}}},
		Extensions: map[string]any{"x-roles": supervisors},
		Responses: map[string]*huma.Response{
			"200": {Description: "The sound.", Content: map[string]*huma.MediaType{"audio/wav": {}}},
			"206": {Description: "A range of it.", Content: map[string]*huma.MediaType{"audio/wav": {}}},
		},
	})
}

// bodySchema is the schema of an operation's JSON body, nil when it has none.
func bodySchema(doc *huma.OpenAPI, method, path string) *huma.Schema {
	item := doc.Paths[path]
	op := map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[method]
	if op == nil || op.RequestBody == nil || op.RequestBody.Content["application/json"] == nil {
		return nil
	}
	return op.RequestBody.Content["application/json"].Schema
}

// finish puts in what huma cannot read from Go types, closed sets and pointers
// that may be null, and returns the description as JSON, made once.
func (a *operations) finish() func() ([]byte, error) {
	doc := a.api.OpenAPI()
	schemas := doc.Components.Schemas
	for name, s := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + name)
		if t.Kind() != reflect.Struct {
			continue
		}
		if !strings.HasSuffix(name, "InputBody") {
			s.AdditionalProperties = nil // answers can grow
		}
		for _, f := range reflect.VisibleFields(t) {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if prop := s.Properties[key]; prop != nil {
				s.Properties[key] = finished(prop, f.Type, strings.Contains(f.Tag.Get("json"), ",omit") || f.Tag.Get("nullable") == "false")
				if set := closedFields[name+"."+key]; set != nil {
					s.Properties[key].Enum = set
				}
			}
		}
	}
	return sync.OnceValues(func() ([]byte, error) {
		raw, err := json.MarshalIndent(doc, "", "  ")
		return append(raw, '\n'), err
	})
}

// finished is a property as its Go type has it; never: it is not sent as null.
func finished(s *huma.Schema, t reflect.Type, never bool) *huma.Schema {
	switch {
	case t == reflect.TypeFor[uuid.UUID](), t == reflect.TypeFor[*uuid.UUID]():
		s.Format, s.Nullable = "uuid", t.Kind() == reflect.Pointer && !never
	case t.Kind() == reflect.Pointer && s.Ref != "" && !never:
		return &huma.Schema{AnyOf: []*huma.Schema{s, {Type: "null"}}}
	case t.Kind() == reflect.Map && s.Type == huma.TypeObject && !never:
		s.Nullable = true
	case closed[t] != nil && len(s.Enum) == 0:
		s.Enum = closed[t]
	}
	return s
}

// getOpenAPI serves the description. It is no secret: it says what the API can
// do, and nothing of what it holds.
func (s *Server) getOpenAPI(w http.ResponseWriter, r *http.Request) {
	doc, err := s.described()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(doc)
}
