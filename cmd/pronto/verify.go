package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// verifyCommand is for who has to defend a figure.
type verifyCommand struct{ common }

// untold are contacts whose ending the journal does not tell so: a chain cannot show
// that its last lines are gone.
const untold = `select c.id::text from contacts c where c.ending is not null and not exists (
	select from journal j where j.contact_id = c.id and j.kind = 'ended' and j.data ->> 'ending' = c.ending) order by c.t0, c.id limit 1`

// Run recomputes every chain of the journal, beside a running server.
func (c verifyCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return reachDatabase(ctx, s, func(d *db.DB) error {
		lines, err := verify(ctx, d)
		if err != nil {
			return err
		}
		fmt.Printf("%d lines, all as they were written, and every ending is told.\n", lines)
		return nil
	})
}

func verify(ctx context.Context, d *db.DB) (lines int, err error) {
	tx, err := d.Lists.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `set transaction isolation level repeatable read, read only; set local statement_timeout = 0`); err != nil { // of years: minutes
		return 0, fmt.Errorf("begin: %w", err)
	}
	lines, err = journal.VerifyAll(ctx, tx)
	var broken *journal.Broken
	if errors.As(err, &broken) {
		return lines, fmt.Errorf("%w; %d lines before it are as they were written", broken, lines)
	}
	if err != nil {
		return lines, err
	}
	var id string
	err = tx.QueryRow(ctx, untold).Scan(&id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return lines, nil
	case err != nil:
		return lines, fmt.Errorf("compare the contacts: %w", err)
	}
	return lines, fmt.Errorf("contact %s has an ending that the journal does not tell", id)
}
