package tickets

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func (d *desk) entry(id int64) *RegisterEntry {
	d.t.Helper()
	e, err := d.RegisterEntry(d.t.Context(), id)
	must(d.t, err)
	return e
}

// TestEditCustomer: what somebody else has changed meanwhile is not written over,
// and it is said who it was; another field is.
func TestEditCustomer(t *testing.T) {
	d := newDesk(t)
	ctx, later := t.Context(), monday.Add(time.Hour)
	got, err := d.EditCustomer(ctx, d.rossi.ID, d.anna, Fields{"name": "Mario Rossi", "numbers": []any{"+390551234567"}},
		Fields{"name": "Mario Rossi Bruni", "numbers": []any{"055 765 4321", "055 1234567"}}, later)
	must(t, err)
	if got.Name != "Mario Rossi Bruni" || !slices.Equal(got.Numbers, []string{"+390551234567", "+390557654321"}) || got.Version != 2 || !got.UpdatedAt.Equal(later) {
		t.Errorf("%+v", got)
	}
	if len(got.Shared) != 1 || got.Shared[0].Number != "+390557654321" || len(got.Shared[0].People) != 2 {
		t.Errorf("shared: %+v", got.Shared)
	}
	var conflict *ConflictError
	_, err = d.EditCustomer(ctx, d.rossi.ID, d.bruno, Fields{"name": "Mario Rossi", "practice": "Ambulatorio Centro"}, Fields{"name": "M. Rossi", "practice": "Altrove"}, later)
	if !errors.As(err, &conflict) || len(conflict.Fields) != 1 || conflict.Fields["name"].Current != "Mario Rossi Bruni" || conflict.Fields["name"].By != "Operatore anna" || !conflict.Fields["name"].At.Equal(later) {
		t.Errorf("%v %+v", err, conflict)
	}
	if e := d.entry(d.rossi.ID); e.Version != 2 || e.Practice != "Ambulatorio Centro" {
		t.Errorf("half of it was saved: %+v", e)
	}
	if _, err := d.EditCustomer(ctx, d.rossi.ID, d.bruno, Fields{"practice": "Ambulatorio Centro"}, Fields{"practice": "Altrove"}, later); err != nil {
		t.Error(err)
	}
	var refused *Refusal
	for field, set := range map[string]Fields{
		"code": {"code": "2000"}, "name": {"name": " "}, "numbers": {"numbers": []any{"112"}}, "email": {"email": "x"}, "id": {"id": 1}, "practice": {"practice": 1},
	} {
		if _, err := d.EditCustomer(ctx, d.rossi.ID, d.anna, Fields{"code": "1042", "name": "Mario Rossi Bruni", "numbers": []any{"+390551234567", "+390557654321"}, "email": "", "practice": "Altrove"}, set, later); !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("%v: %v", set, err)
		}
	}
	if _, err := d.EditCustomer(ctx, 99999, d.anna, Fields{"name": ""}, Fields{"name": "x"}, later); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestAddAndDeleteCustomer(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	e, err := d.AddCustomer(ctx, Customer{Code: "5000", Name: "Nuova", Numbers: []string{"0559999999"}}, d.anna, monday)
	must(t, err)
	var refused *Refusal
	if _, err := d.AddCustomer(ctx, Customer{Code: "5000", Name: "Altra"}, d.anna, monday); !errors.As(err, &refused) || refused.Field != "code" {
		t.Error(err)
	}
	if err := d.DeleteCustomer(ctx, e.ID, e.Version+1, d.anna, monday); !errors.Is(err, errChangedPerson) {
		t.Error(err)
	}
	must(t, d.DeleteCustomer(ctx, e.ID, e.Version, d.anna, monday))
	if _, err := d.RegisterEntry(ctx, e.ID); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	d.ticketOf("+390551234567")
	if err := d.DeleteCustomer(ctx, d.rossi.ID, d.entry(d.rossi.ID).Version, d.anna, monday); !errors.Is(err, errReferred) {
		t.Error(err)
	}
	if n := d.count(`select count(*) from journal where stream = 'customers' and kind in ('added', 'removed')`); n != 2 {
		t.Errorf("%d lines", n)
	}
}

// TestMergeCustomers: everything of the one is the other's afterwards, and the
// journal says by ids what moved.
func TestMergeCustomers(t *testing.T) {
	d := newDesk(t)
	ctx := t.Context()
	double, err := d.AddCustomer(ctx, Customer{Code: "5000", Name: "Rossi M.", Email: "rossi@medici.example", Practice: "Altro", Numbers: []string{"0559999999", "0551234567"}}, d.anna, monday)
	must(t, err)
	moved := d.ticketOf("+390559999999")
	kept := d.entry(d.rossi.ID)
	m := Merging{Kept: kept.ID, KeptVersion: kept.Version, Gone: double.ID, GoneVersion: double.Version}
	for _, bad := range []Merging{{Kept: kept.ID, KeptVersion: kept.Version + 1, Gone: double.ID, GoneVersion: double.Version}, {Kept: kept.ID, KeptVersion: kept.Version, Gone: double.ID, GoneVersion: double.Version - 1}} {
		if _, err := d.MergeCustomers(ctx, bad, d.anna, monday); !errors.Is(err, errChangedPerson) {
			t.Error(err)
		}
	}
	got, err := d.MergeCustomers(ctx, m, d.anna, monday)
	must(t, err)
	if got.Tickets != 1 || got.Contacts != 1 || got.Email != "rossi@medici.example" || got.Practice != "Ambulatorio Centro" || !slices.Equal(got.Numbers, []string{"+390551234567", "+390559999999"}) || len(got.Shared) != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := d.RegisterEntry(ctx, double.ID); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if now, err := d.TicketOf(ctx, moved.Number); err != nil || now.Customer.ID != kept.ID || now.Version != moved.Version+1 {
		t.Errorf("%+v, %v", now, err)
	}
	if theirs, err := d.Tickets(ctx, Filter{Customer: kept.ID}); err != nil || len(theirs.Items) != 1 || theirs.Items[0].Number != moved.Number {
		t.Errorf("their tickets are %+v, %v", theirs.Items, err)
	}
	if theirs, err := d.Tickets(ctx, Filter{Customer: double.ID}); err != nil || len(theirs.Items) != 0 {
		t.Errorf("the tickets of who is gone are %+v, %v", theirs.Items, err)
	}
	if n := d.count(`select count(*) from journal where stream = 'customers' and kind = 'merged' and data -> 'tickets' = jsonb_build_array($1::bigint) and jsonb_array_length(data -> 'contacts') = 1`, moved.ID); n != 1 {
		t.Error("the journal does not say what moved")
	}
	if _, err := d.MergeCustomers(ctx, m, d.anna, monday); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestPreviewChangesNothing: it says what the import then does.
func TestPreviewChangesNothing(t *testing.T) {
	d := newDesk(t)
	file := register + "1042,Mario Rossi,Altrove,Toscana Centro,,055 1234567\n3000,Nuovo,,,,0559999999\n"
	p, err := d.PreviewCustomers(t.Context(), strings.NewReader(file))
	must(t, err)
	if p.Created != 1 || p.Updated != 1 || len(p.Changes) != 2 || !slices.Equal(p.Changes[0].Fields, []string{"practice"}) || p.Changes[0].New || !p.Changes[1].New || len(p.Bad) != 0 {
		t.Errorf("%+v", p)
	}
	if n := d.count(`select count(*) from customers`); n != 3 {
		t.Errorf("%d customers", n)
	}
	done, err := d.ImportCustomers(t.Context(), strings.NewReader(file), d.anna, monday)
	must(t, err)
	if done.Created != p.Created || done.Updated != p.Updated || d.entry(d.rossi.ID).Version != 2 {
		t.Errorf("%+v", done)
	}
	p, err = d.PreviewCustomers(t.Context(), strings.NewReader(register+"3001,,,,,\n3002,Bene,,,,\n3003,Male,,,,112\n"))
	must(t, err)
	if len(p.Bad) != 2 || p.Changes == nil {
		t.Errorf("%+v", p)
	}
}
