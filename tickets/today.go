package tickets

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

// Today are the calls of a day so far, as the supervisors' page shows them.
type Today struct {
	Definition     string       `json:"definition"` // what the figures mean, and its version
	From           time.Time    `json:"from"`       // midnight in Italy
	Received       int          `json:"received"`   // INVITEs on the services' numbers, refused ones included
	Answered       int          `json:"answered"`   // an operator talked with the caller
	Abandoned      int          `json:"abandoned"`  // hung up in the queue, with no operator and no callback
	ShortAbandoned int          `json:"short_abandoned"`
	ShortSeconds   int          `json:"short_seconds"` // the parameter: abandoned within so many seconds is short
	Topics         []TopicToday `json:"topics"`        // of the calls whose caller had chosen one
}

// TopicToday are the calls of a day about one topic.
type TopicToday struct {
	Topic     int64 `json:"topic"`
	Received  int   `json:"received"`
	Answered  int   `json:"answered"`
	Abandoned int   `json:"abandoned"`
}

// todayDefinition changes its version with what is counted below.
const todayDefinition = "today/1"

// shortAbandon is how long somebody must have waited to count as one who gave up
// (DEFINITIONS, short abandon).
const shortAbandon = 5 * time.Second

// Today counts the calls that came in on the day of `at` in Italy, up to then.
func (b *Book) Today(ctx context.Context, at time.Time) (*Today, error) {
	local := at.In(calendar.Rome())
	t := &Today{Definition: todayDefinition, From: time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, calendar.Rome()).UTC(),
		ShortSeconds: int(shortAbandon / time.Second), Topics: []TopicToday{}}
	rows, err := b.db.Pool.Query(ctx, `
		select coalesce(topic_id, 0), count(*), count(tc), count(*) filter (where ending = 'abandoned_queue'),
			count(*) filter (where ending = 'abandoned_queue' and te - tq < @short::interval)
		from contacts where channel = 'phone' and direction = 'inbound' and t0 >= @from and t0 <= @at
		group by topic_id order by topic_id`, pgx.StrictNamedArgs{"from": t.From, "at": at, "short": shortAbandon})
	if err != nil {
		return nil, fmt.Errorf("count today's calls: %w", err)
	}
	var of TopicToday
	var short int
	_, err = pgx.ForEachRow(rows, []any{&of.Topic, &of.Received, &of.Answered, &of.Abandoned, &short}, func() error {
		t.Received += of.Received
		t.Answered += of.Answered
		t.Abandoned += of.Abandoned
		t.ShortAbandoned += short
		if of.Topic != 0 {
			t.Topics = append(t.Topics, of)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count today's calls: %w", err)
	}
	return t, nil
}
