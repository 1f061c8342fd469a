package db

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Args are pgx.StrictNamedArgs that remember how a statement reads with numbers in
// place of names: the same few are sent thousands of times a minute. What a Tx sends
// is remembered in any case.
type Args map[string]any

// rewritten is a statement with numbers, and the names they stand for.
type rewritten struct {
	sql   string
	names []any
}

// known are the statements that were seen. There are so many as stand in the program;
// the bound is for one that is put together from what a stranger says.
var (
	known     sync.Map // of text to *rewritten
	knownSize atomic.Int32
)

const knownMost = 1000

// RewriteQuery makes pgx.QueryRewriter of Args.
func (a Args) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, rest []any) (string, []any, error) {
	found, ok := known.Load(sql)
	if !ok {
		names := make(pgx.StrictNamedArgs, len(a))
		for name := range a {
			names[name] = name
		}
		text, order, err := names.RewriteQuery(ctx, conn, sql, rest)
		if err != nil {
			return "", nil, err
		}
		found = &rewritten{text, order}
		if knownSize.Add(1) <= knownMost {
			known.Store(sql, found)
		}
	}
	r := found.(*rewritten)
	values := make([]any, len(r.names))
	for i, name := range r.names {
		if values[i], ok = a[name.(string)]; !ok {
			return pgx.StrictNamedArgs(a).RewriteQuery(ctx, conn, sql, rest) // it says which is missing
		}
	}
	if len(a) != len(values) {
		return pgx.StrictNamedArgs(a).RewriteQuery(ctx, conn, sql, rest) // and which is too many
	}
	return r.sql, values, nil
}

// remembered makes Args of a statement's named arguments, in their place.
func remembered(args []any) []any {
	if len(args) == 1 {
		if named, ok := args[0].(pgx.StrictNamedArgs); ok {
			args[0] = Args(named)
		}
	}
	return args
}
