package web

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// listenersAPI is who listened to which recording.
func (s *Server) listenersAPI(a *operations) {
	provide(a, operation{at: "GET /contacts/{id}/listenings", id: "listListenings", does: "Who listened to what a caller left, and when.", by: supervisors},
		func(ctx context.Context, _ User, in *IDPath) (list[tickets.Listening], error) {
			return listed(s.Book.Listenings(ctx, in.ID))
		})
	provide(a, operation{at: "GET /listenings", id: "listAllListenings", does: "Who listened to any recording, the latest first, in pages.", by: supervisors}, s.getListenings)
}

type listeningsInput struct {
	Name   string `query:"name" maxLength:"32" doc:"Of who listened."`
	From   string `query:"from" maxLength:"10" doc:"The first day, such as 2026-03-02, in Rome."`
	To     string `query:"to" maxLength:"10" doc:"The last day."`
	Cursor string `query:"cursor" maxLength:"200" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200"`
}

// listeningsPage is a page of listenings with the people by whom it can be filtered.
type listeningsPage struct {
	tickets.Page[tickets.Listened]
	People []listener `json:"people"`
}

// listener is somebody who can listen.
type listener struct {
	Name        string `json:"name"`
	DisplayName string `json:"display_name"`
}

func (s *Server) getListenings(ctx context.Context, _ User, in *listeningsInput) (p listeningsPage, err error) {
	f := tickets.ListeningFilter{Name: in.Name, Cursor: in.Cursor, Limit: in.Limit}
	if f.From, err = dayOf("from", in.From); err != nil {
		return p, err
	}
	if f.To, err = dayOf("to", in.To); err != nil {
		return p, err
	}
	if !f.From.IsZero() && !f.To.IsZero() && f.To.Before(f.From) {
		return p, refused("to", "La fine viene prima dell'inizio.")
	}
	if !f.To.IsZero() {
		f.To = f.To.AddDate(0, 0, 1) // the whole day, be it of 23 or 25 hours
	}
	if p.Page, err = s.Book.AllListenings(ctx, f); err != nil {
		return p, err
	}
	rows, err := s.DB.Pool.Query(ctx, `select name, display_name from users order by display_name, name`)
	if err != nil {
		return p, err
	}
	p.People, err = pgx.CollectRows(rows, pgx.RowToStructByName[listener])
	return p, err
}

// dayOf is when a day begins in Rome; zero for none.
func dayOf(field, day string) (time.Time, error) {
	if day == "" {
		return time.Time{}, nil
	}
	at, err := time.ParseInLocation(time.DateOnly, day, calendar.Rome())
	if err != nil {
		return at, refused(field, "La data non esiste.")
	}
	return at, nil
}
