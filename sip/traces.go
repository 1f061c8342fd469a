package sip

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pronto-desk/pronto/db"
)

const (
	tracesPending  = 1024            // that wait to be written: some minutes of a full desk while the database is away
	tracesTogether = 128             // of one transaction
	tracesGather   = time.Second     // after the first, the others that end meanwhile go with it
	tracesAgain    = 2 * time.Second // the database is away: between two tries
	tracesLast     = 3 * time.Second // for what is left at the end
	tracesMost     = 200_000         // rows; some gigabytes at the very most
	tracesFound    = 8               // of one call: one of each node that had a part in it
	traceUsual     = 4 << 10         // octets of an ordinary call, as it is written
	traceSlack     = time.Minute     // between the clocks of two nodes, and of ringing before a contact begins
)

// Traces keeps what the agent traced in the database (table traces). No call
// waits for it, and many are written in one transaction: what has not been written
// when the server dies is lost, which is the signalling of calls in progress and of
// the last seconds. The journal says of those calls what came of them.
type Traces struct {
	db      *db.DB
	log     *slog.Logger
	pending chan Trace
	lost    atomic.Int64
}

// NewTraces makes the one of a node. Keep, and Run beside it.
func NewTraces(d *db.DB, log *slog.Logger) *Traces {
	return &Traces{db: d, log: log, pending: make(chan Trace, tracesPending)}
}

// Keep takes a trace to be written; it never waits.
func (t *Traces) Keep(trace Trace) {
	select {
	case t.pending <- trace:
	default:
		t.lost.Add(1)
	}
}

// Run writes traces until ctx ends. What comes later is for Flush.
func (t *Traces) Run(ctx context.Context) error {
	for {
		var batch []Trace
		select {
		case one := <-t.pending:
			batch = append(batch, one)
		case <-ctx.Done():
			return nil
		}
		if len(t.pending) < tracesTogether { // else they come faster than one transaction in a gathering takes
			pause(ctx, tracesGather)
		}
		t.write(ctx, t.gathered(batch))
	}
}

// Flush writes what is left once no more can come.
func (t *Traces) Flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tracesLast)
	defer cancel()
	for {
		batch := t.gathered(nil)
		if len(batch) == 0 {
			return
		}
		t.write(ctx, batch)
	}
}

// gathered adds what waits to a batch.
func (t *Traces) gathered(batch []Trace) []Trace {
	for len(batch) < tracesTogether {
		select {
		case one := <-t.pending:
			batch = append(batch, one)
		default:
			return batch
		}
	}
	return batch
}

// write writes a batch, and tries again while the database is away.
func (t *Traces) write(ctx context.Context, batch []Trace) {
	for {
		err := t.insert(context.WithoutCancel(ctx), batch)
		switch {
		case err == nil:
			if lost := t.lost.Swap(0); lost > 0 {
				t.log.Warn("traces of calls were lost: more came than the database took", "calls", lost)
			}
			return
		case !db.Away(err):
			t.log.Error("traces of calls could not be written", "calls", len(batch), "error", err)
			return
		case ctx.Err() != nil:
			t.log.Warn("traces of calls were lost at the end", "calls", len(batch))
			return
		}
		pause(ctx, tracesAgain)
	}
}

func (t *Traces) insert(ctx context.Context, batch []Trace) error {
	ctx, cancel := context.WithTimeout(ctx, tracesLast)
	defer cancel()
	rows := make([][]any, len(batch))
	for i, one := range batch {
		rows[i] = []any{one.Node, one.Begun, one.Ended, one.calls, json.RawMessage(one.appendJSON(make([]byte, 0, traceUsual)))}
	}
	_, err := t.db.Pool.CopyFrom(ctx, pgx.Identifier{"traces"}, []string{"node", "begun_at", "ended_at", "calls", "trace"}, pgx.CopyFromRows(rows))
	if err != nil {
		return fmt.Errorf("write traces: %w", err)
	}
	return nil
}

// Of gives the traces that a Call-ID has a part in: the conversation's, and those
// of other nodes that rang a telephone for it. at is when the call was; zero: at
// any time.
func (t *Traces) Of(ctx context.Context, callID string, at time.Time) ([]Trace, error) {
	found := []Trace{}
	seen := map[int64]bool{}
	for calls := []string{traceKey(callID)}; len(calls) > 0 && len(found) < tracesFound; {
		where := ""
		args := pgx.StrictNamedArgs{"calls": calls, "most": tracesFound}
		if !at.IsZero() {
			where = `and begun_at <= @before and ended_at >= @after`
			args["before"], args["after"] = at.Add(traceSlack), at.Add(-traceSlack)
		}
		rows, err := t.db.Lists.Query(ctx, `select id, calls, trace from traces where calls && @calls `+where+` order by begun_at desc, id desc limit @most`, args)
		if err != nil {
			return nil, fmt.Errorf("read traces: %w", err)
		}
		var next []string
		var id int64
		var more []string
		var text []byte
		_, err = pgx.ForEachRow(rows, []any{&id, &more, &text}, func() error {
			if seen[id] {
				return nil
			}
			seen[id] = true
			next = append(next, more...)
			var one Trace
			if err := json.Unmarshal(text, &one); err != nil {
				return err
			}
			found = append(found, one)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read traces: %w", err)
		}
		calls = next
	}
	return found, nil
}

// Tidy deletes traces of calls that ended before, and the oldest beyond what there
// is room for.
func (t *Traces) Tidy(ctx context.Context, before time.Time) error {
	if _, err := t.db.Pool.Exec(ctx, `delete from traces where ended_at < @before or id <= (select max(id) from traces) - @most`,
		pgx.StrictNamedArgs{"before": before, "most": tracesMost}); err != nil {
		return fmt.Errorf("delete old traces: %w", err)
	}
	return nil
}

// traceKey is what a Call-ID is looked up by: it may hold somebody's number.
func traceKey(callID string) string {
	sum := sha256.Sum256([]byte(printable(callID)))
	return hex.EncodeToString(sum[:12])
}

// appendJSON writes what json.Marshal does, with less ado: there is one for each call,
// and nearly all of it are lines of a mask, which are ASCII.
func (t *Trace) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"node":`...), t.Node)
	b = appendTime(append(b, `,"begun":`...), t.Begun)
	b = appendTime(append(b, `,"ended":`...), t.Ended)
	b = append(b, `,"ways":[`...)
	for i := range t.Ways {
		b = t.Ways[i].appendJSON(comma(b, i))
	}
	b = append(b, `],"messages":[`...)
	for i := range t.Messages {
		b = t.Messages[i].appendJSON(comma(b, i))
	}
	b = strconv.AppendInt(append(b, `],"left":`...), int64(t.Left), 10)
	return append(b, '}')
}

func (w *Way) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"call_id":`...), w.CallID)
	b = appendString(append(b, `,"end":`...), w.End)
	b = appendString(append(b, `,"name":`...), w.Name)
	b = appendString(append(b, `,"network":`...), w.Network)
	b = appendString(append(b, `,"remote":`...), w.Remote)
	return append(b, '}')
}

func (m *Signal) appendJSON(b []byte) []byte {
	b = appendTime(append(b, `{"at":`...), m.At)
	b = strconv.AppendInt(append(b, `,"way":`...), int64(m.Way), 10)
	b = strconv.AppendBool(append(b, `,"out":`...), m.Out)
	b = appendString(append(b, `,"first":`...), m.First)
	b = appendStrings(append(b, `,"headers":`...), m.Headers)
	b = appendStrings(append(b, `,"body":`...), m.Body)
	b = strconv.AppendInt(append(b, `,"again":`...), int64(m.Again), 10)
	b = strconv.AppendBool(append(b, `,"cut":`...), m.Cut)
	return append(b, '}')
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		b = appendString(comma(b, i), s)
	}
	return append(b, ']')
}

// comma stands before each but the first.
func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

// asItIs is what stands in a string as it is; what follows a backslash is not among it.
var asItIs = octetsOf(lettersAndDigits + " !#$%&'()*+,-./:;<=>?@[]^_`{|}~")

func appendString(b []byte, s string) []byte {
	at := len(b)
	b = append(b, '"')
	for rest := s; rest != ""; {
		n := 0
		for n < len(rest) && asItIs[rest[n]] {
			n++
		}
		b, rest = append(b, rest[:n]...), rest[n:]
		switch {
		case rest == "":
		case rest[0] == '"', rest[0] == '\\':
			b, rest = append(b, '\\', rest[0]), rest[1:]
		default: // the name of a trunk
			text, _ := json.Marshal(s) // of a string there is no error
			return append(b[:at], text...)
		}
	}
	return append(b, '"')
}
