package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/pronto-desk/pronto/tickets"
)

func (s *Server) registerAPI(a *operations) {
	provide(a, operation{at: "GET /customers", id: "findCustomers", does: "Searches the register of doctors, in pages by name."}, s.getCustomers)
	provide(a, operation{at: "POST /customers", id: "addCustomer", does: "Adds somebody to the register."}, s.postCustomer)
	provide(a, operation{at: "GET /customers/{id}", id: "getCustomer", does: "One person of the register, who shares their numbers, and how much is theirs."},
		func(ctx context.Context, _ User, in *CustomerPath) (*tickets.RegisterEntry, error) {
			return s.Book.RegisterEntry(ctx, in.ID)
		})
	provide(a, operation{at: "PATCH /customers/{id}", id: "editCustomer", does: "Changes fields; 409 with who and what when somebody else was quicker, and then nothing is saved."}, s.patchCustomer)
	provide(a, operation{at: "DELETE /customers/{id}", id: "deleteCustomer", does: "Removes somebody to whom nothing refers.", by: supervisors}, s.deleteCustomer)
	provide(a, operation{at: "POST /customers/{id}/merge", id: "mergeCustomers", does: "Gives what is another's (tickets, contacts, numbers) to this person, and removes the other.", by: supervisors}, s.postMerge)
	provide(a, operation{at: "POST /customers/import/preview", id: "previewCustomers", does: "Tells what an import would do, and lists its bad lines.", by: supervisors,
		kind: "text/csv", most: tickets.ImportBytes, takes: tickets.ImportLongest}, s.postPreview)
	provide(a, operation{at: "POST /customers/import", id: "importCustomers", does: "Imports the register from CSV; with bad lines nothing is imported, and the problem lists them all.", by: supervisors,
		kind: "text/csv", most: tickets.ImportBytes, takes: tickets.ImportLongest}, s.postImport)
}

// CustomerPath is the input of an operation on a person of the register.
type CustomerPath struct {
	ID int64 `path:"id" minimum:"1"`
}

type customersInput struct {
	Query  string `query:"q" maxLength:"200"`
	Cursor string `query:"cursor" maxLength:"200" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"50"`
}

func (s *Server) getCustomers(ctx context.Context, _ User, in *customersInput) (tickets.Page[tickets.Customer], error) {
	return s.Book.Customers(ctx, in.Query, in.Cursor, limited(in.Limit, customersMax))
}

type customerInput struct {
	Body struct {
		Code      string   `json:"code"`
		Name      string   `json:"name"`
		Practice  string   `json:"practice,omitempty"`
		Authority string   `json:"authority,omitempty"`
		Email     string   `json:"email,omitempty"`
		Numbers   []string `json:"numbers,omitempty"`
	}
}

func (s *Server) postCustomer(ctx context.Context, me User, in *customerInput) (*tickets.RegisterEntry, error) {
	b := in.Body
	return s.Book.AddCustomer(ctx, tickets.Customer{Code: b.Code, Name: b.Name, Practice: b.Practice, Authority: b.Authority, Email: b.Email, Numbers: b.Numbers}, me.ID, s.Now())
}

type editCustomerInput struct {
	CustomerPath
	Body struct {
		Base tickets.Fields `json:"base,omitempty" doc:"The fields as the editor saw them."`
		Set  tickets.Fields `json:"set" doc:"The fields as they shall be."`
	}
}

func (s *Server) patchCustomer(ctx context.Context, me User, in *editCustomerInput) (*tickets.RegisterEntry, error) {
	if len(in.Body.Set) == 0 {
		return nil, refused("set", "Nessun campo da modificare.")
	}
	return s.Book.EditCustomer(ctx, in.ID, me.ID, in.Body.Base, in.Body.Set, s.Now())
}

type deleteCustomerInput struct {
	CustomerPath
	Version int64 `query:"version" minimum:"1" required:"true" doc:"As the asker saw it."`
}

func (s *Server) deleteCustomer(ctx context.Context, me User, in *deleteCustomerInput) (nothing, error) {
	return nothing{}, s.Book.DeleteCustomer(ctx, in.ID, in.Version, me.ID, s.Now())
}

type mergeInput struct {
	CustomerPath
	Body struct {
		Version     int64 `json:"version" doc:"Of the one who stays, as the asker saw it."`
		Gone        int64 `json:"gone" doc:"The one who goes."`
		GoneVersion int64 `json:"gone_version"`
	}
}

func (s *Server) postMerge(ctx context.Context, me User, in *mergeInput) (*tickets.RegisterEntry, error) {
	m := tickets.Merging{Kept: in.ID, Gone: in.Body.Gone, KeptVersion: in.Body.Version, GoneVersion: in.Body.GoneVersion}
	return s.Book.MergeCustomers(ctx, m, me.ID, s.Now())
}

type importInput struct {
	RawBody []byte `contentType:"text/csv"`
}

func (s *Server) postPreview(ctx context.Context, _ User, in *importInput) (tickets.Preview, error) {
	return s.Book.PreviewCustomers(ctx, bytes.NewReader(in.RawBody))
}

func (s *Server) postImport(ctx context.Context, me User, in *importInput) (tickets.Imported, error) {
	done, err := s.Book.ImportCustomers(ctx, bytes.NewReader(in.RawBody), me.ID, s.Now())
	var refusal *tickets.Refusal
	if len(done.Bad) > 0 && errors.As(err, &refusal) {
		p := problemf(http.StatusUnprocessableEntity, "%s", refusal.Reason)
		p.Field, p.Lines = refusal.Field, done.Bad
		return done, p
	}
	return done, err
}
