package db

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// Away tells whether err means that the database cannot take the work now: it is
// not there, it is starting or ending, it is full, or it did not answer in time.
// What it would refuse again (a constraint, a wrong statement) and a caller who
// hung up (context.Canceled) are not that.
func Away(err error) bool {
	if err == nil {
		return false
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return awayCode(pe.Code) || isConnect(err)
	}
	if errors.Is(err, context.DeadlineExceeded) { // waiting for a connection, or for an answer
		return true
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	var ne net.Error
	return isConnect(err) ||
		errors.As(err, &ne) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) ||
		errors.Is(err, puddle.ErrClosedPool) ||
		strings.Contains(err.Error(), "conn closed") // pgconn's, which has no exported value
}

func isConnect(err error) bool {
	var ce *pgconn.ConnectError
	return errors.As(err, &ce) && !errors.Is(err, context.Canceled)
}

// awayCode knows the SQLSTATEs (PostgreSQL 15, appendix A) of a server that
// cannot take the work now.
func awayCode(code string) bool {
	switch code {
	case "57P01", "57P02", "57P03", // admin_shutdown, crash_shutdown, cannot_connect_now
		"57014", // query_canceled: our own statement_timeout or deadline
		"25006", // read_only_sql_transaction: a standby, before it is promoted
		"25P03", // idle_in_transaction_session_timeout
		"58030": // io_error
		return true
	}
	return strings.HasPrefix(code, "08") || // connection_exception
		strings.HasPrefix(code, "53") // insufficient_resources: connections, memory, disk
}
