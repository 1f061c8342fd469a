package tickets

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Fields are values of a ticket by their JSON name, as decoded from JSON.
// "topic" and "customer" take an id, a code, an object with either, or null.
type Fields map[string]any

// Conflict is a field that somebody else changed meanwhile.
type Conflict struct {
	Current any       `json:"current"` // as in the ticket's JSON
	By      string    `json:"by"`      // display name, or "" for the desk itself
	At      time.Time `json:"at"`
}

// ConflictError: nothing was applied, because these fields are no longer what
// the editor saw.
type ConflictError struct{ Fields map[string]Conflict }

func (e *ConflictError) Error() string {
	return "the ticket was changed meanwhile: " + strings.Join(slices.Sorted(maps.Keys(e.Fields)), ", ")
}

// lineMost bounds one-line fields, in characters.
const lineMost = 200

// field is one editable field of a ticket. Values are compared and written in
// one canonical form: string, int (urgency) or int64 (ids, 0 for none).
type field struct {
	label string // Italian, for the timeline
	of    func(t *Ticket) any
	shown func(t *Ticket) any // as in JSON; nil: as `of`
	read  func(ctx context.Context, q querier, v any) (any, error)
}

// editable is what the form may change. Status, outcome and owner have moves of
// their own.
var editable = map[string]field{
	"subject":          {label: "oggetto", of: func(t *Ticket) any { return t.Subject }, read: line},
	"description":      {label: "descrizione", of: func(t *Ticket) any { return t.Description }, read: paragraph},
	"solution":         {label: "soluzione", of: func(t *Ticket) any { return t.Solution }, read: paragraph},
	"requester_name":   {label: "richiedente", of: func(t *Ticket) any { return t.RequesterName }, read: line},
	"requester_number": {label: "telefono", of: func(t *Ticket) any { return t.RequesterNumber }, read: telephone},
	"practice":         {label: "ambulatorio", of: func(t *Ticket) any { return t.Practice }, read: line},
	"authority":        {label: "azienda sanitaria", of: func(t *Ticket) any { return t.Authority }, read: line},
	"call_type":        {label: "tipo di chiamata", of: func(t *Ticket) any { return t.CallType }, read: oneOf(CallTypes(), false)},
	"fault_type":       {label: "tipo di guasto", of: func(t *Ticket) any { return t.FaultType }, read: oneOf(FaultTypes(), true)},
	"urgency":          {label: "urgenza", of: func(t *Ticket) any { return t.Urgency }, read: urgency},
	"topic": {label: "argomento", of: func(t *Ticket) any { return topicID(t.Topic) },
		shown: func(t *Ticket) any { return t.Topic }, read: reference("topics", "L'argomento non esiste.")},
	"customer": {label: "medico", of: func(t *Ticket) any { return customerID(t.Customer) },
		shown: func(t *Ticket) any { return t.Customer }, read: reference("customers", "Il medico non è in anagrafica.")},
}

func topicID(t *Topic) int64 {
	if t == nil {
		return 0
	}
	return t.ID
}

func customerID(c *Customer) int64 {
	if c == nil {
		return 0
	}
	return c.ID
}

// Edit applies `set` where the ticket still has the values of `base`, all or
// nothing: *ConflictError when a field was changed meanwhile, *Refusal for a
// value that is not allowed or a field without base, ErrNotFound. A field that
// has the wanted value already is no conflict: the form that saves itself sends
// twice what was lost on the way. A new customer brings the name, the practice
// and the authority of the register with it, where nobody typed others.
func (b *Book) Edit(ctx context.Context, number string, by int64, base, set Fields, at time.Time) (*Ticket, error) {
	return b.change(ctx, number, func(tx *db.Tx, t *Ticket) error {
		wanted := map[string]any{}
		conflicts := map[string]Conflict{}
		for _, name := range slices.Sorted(maps.Keys(set)) {
			f, ok := editable[name]
			if !ok {
				return &Refusal{name, "Il campo non si può modificare."}
			}
			to, err := f.read(ctx, tx, set[name])
			if err != nil {
				return refusal(name, err)
			}
			before, given := base[name]
			if !given {
				return &Refusal{name, "Manca il valore di partenza."}
			}
			from, err := f.read(ctx, tx, before)
			if err != nil {
				from = nil // a base that no ticket can have matches none: a conflict, not a fault of the form's
			}
			switch now := f.of(t); now {
			case to:
			case from:
				wanted[name] = to
			default:
				conflicts[name] = Conflict{Current: f.show(t)}
			}
		}
		if len(conflicts) > 0 {
			if err := whoChanged(ctx, tx, t, conflicts); err != nil {
				return err
			}
			return &ConflictError{conflicts}
		}
		if to, ok := wanted["customer"].(int64); ok && to != 0 {
			if err := fromRegister(ctx, tx, t, to, set, wanted); err != nil {
				return err
			}
		}
		return writeFields(ctx, tx, t, wanted, by, at)
	})
}

// fromRegister adds what the register says of a customer who was just told
// apart: C4 asks for practice and authority on every ticket. What somebody typed
// stays; only what is empty, or was the former customer's, is filled.
func fromRegister(ctx context.Context, tx *db.Tx, t *Ticket, customer int64, set Fields, wanted map[string]any) error {
	was := t.Customer
	if was == nil {
		was = &Customer{}
	}
	var name, practice, authority string
	if err := tx.QueryRow(ctx, `select name, practice, authority from customers where id = $1`, customer).Scan(&name, &practice, &authority); err != nil {
		return err
	}
	for _, f := range []struct{ field, now, was, is string }{
		{"requester_name", t.RequesterName, was.Name, name},
		{"practice", t.Practice, was.Practice, practice},
		{"authority", t.Authority, was.Authority, authority},
	} {
		if _, typed := set[f.field]; !typed && (f.now == "" || f.now == f.was) && f.now != f.is {
			wanted[f.field] = f.is
		}
	}
	return nil
}

func (f field) show(t *Ticket) any {
	if f.shown != nil {
		return f.shown(t)
	}
	return f.of(t)
}

// refusal keeps faults of the database apart from values that are not allowed.
func refusal(name string, err error) error {
	if r, ok := err.(badValue); ok {
		return &Refusal{name, string(r)}
	}
	return err
}

// badValue is why a value is not allowed, in Italian.
type badValue string

func (b badValue) Error() string { return string(b) }

// columns of the fields whose column has another name.
var columns = map[string]string{"topic": "topic_id", "customer": "customer_id"}

// writeFields changes the row and says in the journal which fields, never what
// stood in them.
func writeFields(ctx context.Context, tx *db.Tx, t *Ticket, wanted map[string]any, by int64, at time.Time) error {
	if len(wanted) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(wanted))
	set := []string{"version = version + 1"}
	args := pgx.StrictNamedArgs{"ticket": t.ID}
	for _, name := range names { // keys of editable: nothing from outside reaches the statement
		column := name
		if c, ok := columns[name]; ok {
			column = c
		}
		set = append(set, column+" = @"+name)
		args[name] = wanted[name]
		if id, ok := wanted[name].(int64); ok && id == 0 {
			args[name] = nil
		}
	}
	if _, err := tx.Exec(ctx, `update tickets set `+strings.Join(set, ", ")+` where id = @ticket`, args); err != nil {
		return err
	}
	return note(ctx, tx, t.ID, journal.Edited, uuid.Nil, by, at, map[string]any{"fields": names})
}

// whoChanged completes conflicts with who changed each field last, and when.
func whoChanged(ctx context.Context, tx *db.Tx, t *Ticket, conflicts map[string]Conflict) error {
	entries, err := journal.OfTicket(ctx, tx, t.ID)
	if err != nil {
		return err
	}
	names, err := displayNames(ctx, tx, entries)
	if err != nil {
		return err
	}
	for name, c := range conflicts {
		c.At = t.OpenedAt
		for _, e := range entries {
			if touched(e, name) {
				c.By, c.At = names[e.User], e.At
			}
		}
		conflicts[name] = c
	}
	return nil
}

// touched says whether a journal line changed a field.
func touched(e journal.Entry, name string) bool {
	switch e.Kind {
	case journal.Edited:
		return slices.Contains(fieldsOf(e), name)
	case journal.Closed:
		return name == "solution"
	}
	return false
}

// fieldsOf are the fields an Edited line names.
func fieldsOf(e journal.Entry) []string {
	list, _ := e.Data["fields"].([]any)
	var names []string
	for _, v := range list {
		if name, ok := v.(string); ok {
			names = append(names, name)
		}
	}
	return names
}

// displayNames are the people of some journal lines by their id.
func displayNames(ctx context.Context, q querier, entries []journal.Entry) (map[int64]string, error) {
	var ids []int64
	for _, e := range entries {
		ids = append(ids, e.User)
	}
	names := map[int64]string{}
	rows, err := q.Query(ctx, `select id, display_name from users where id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	var id int64
	var name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error { names[id] = name; return nil })
	return names, err
}

// line reads a field of one line.
func line(ctx context.Context, q querier, v any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, badValue("Serve un testo.")
	}
	if utf8.RuneCountInString(s) > lineMost {
		return nil, badValue(fmt.Sprintf("Al massimo %d caratteri.", lineMost))
	}
	s, err := text(s)
	if err != nil {
		return nil, badValue(err.Error())
	}
	return strings.ReplaceAll(s, "\n", " "), nil
}

// paragraph reads a field of several lines.
func paragraph(ctx context.Context, q querier, v any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return nil, badValue("Serve un testo.")
	}
	s, err := text(s)
	if err != nil {
		return nil, badValue(err.Error())
	}
	return s, nil
}

// telephone reads a number: in our form when it is one, and as it stands while
// somebody is still typing it.
func telephone(ctx context.Context, q querier, v any) (any, error) {
	s, err := line(ctx, q, v)
	if err != nil {
		return nil, err
	}
	if n := Normalise(s.(string)); reachable(n) {
		return n, nil
	}
	return s, nil
}

func oneOf(codes []Code, orNone bool) func(context.Context, querier, any) (any, error) {
	return func(_ context.Context, _ querier, v any) (any, error) {
		if v == nil && orNone {
			return "", nil
		}
		s, ok := v.(string)
		if !ok || !(among(s, codes) || s == "" && orNone) {
			return nil, badValue("Scegliere uno dei valori previsti.")
		}
		return s, nil
	}
}

func urgency(_ context.Context, _ querier, v any) (any, error) {
	n, ok := number(v)
	if !ok || n != Blocking && n != NotBlocking {
		return nil, badValue("L'urgenza è 1 (bloccante) o 2 (non bloccante).")
	}
	return int(n), nil
}

// number reads a whole number in whatever form JSON was decoded to.
func number(v any) (int64, bool) {
	switch n := v.(type) {
	case float64:
		return int64(n), n == math.Trunc(n) && math.Abs(n) < 1<<53 // exact in a float64
	case int:
		return int64(n), true
	case int64:
		return n, true
	case json.Number:
		i, err := n.Int64()
		return i, err == nil
	}
	return 0, false
}

// reference reads a row of a table by id or code, alone or in an object.
func reference(table, missing string) func(context.Context, querier, any) (any, error) {
	return func(ctx context.Context, q querier, v any) (any, error) {
		if object, ok := v.(map[string]any); ok {
			if v = object["id"]; v == nil {
				v = object["code"]
			}
		}
		if v == nil || v == "" {
			return int64(0), nil
		}
		id, _ := number(v)
		code, _ := v.(string)
		if strings.ContainsRune(code, 0) {
			return nil, badValue(missing)
		}
		err := q.QueryRow(ctx, `select id from `+table+` where id = $1 or code = $2`, id, strings.ToValidUTF8(code, "")).Scan(&id)
		if found(err) == ErrNotFound {
			return nil, badValue(missing)
		}
		return id, err
	}
}
