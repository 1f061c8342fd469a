package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
)

// BenchmarkDecision is the time from an operator's "available" to the offer in
// the hands of the caller's goroutine, with a hundred callers waiting and twenty
// seats: the statement that frees the seat, its commit, the wake-up of all, the
// match and its commit, and the reading of the offer. The test server does not
// wait for the disk; add two of its writes.
func BenchmarkDecision(b *testing.B) {
	d := newDesk(b)
	var users []int64
	for i := range 20 {
		users = append(users, d.operator(fmt.Sprintf("op%02d", i), 0, "software", "certificati"))
		d.ok(d.Declare(background, users[i], "break", "", time.Now()))
	}
	ctx, cancel := context.WithCancel(background)
	done := make(chan struct{}, 200)
	offers := make(chan *Offer)
	for range 100 {
		p := d.waits("software", 2, time.Now())
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				o, err := p.Wait(ctx)
				if err != nil {
					return
				}
				offers <- o
			}
		}()
	}
	go func() {
		defer func() { done <- struct{}{} }()
		_ = d.Run(ctx)
	}()
	var took []time.Duration
	i := 0
	for b.Loop() {
		user := users[i%len(users)]
		i++
		began := time.Now()
		d.ok(d.Declare(background, user, "available", "", began))
		o := <-offers
		took = append(took, time.Since(began))
		b.StopTimer()
		d.ok(d.Decline(background, o.ID, Busy, time.Now())) // the next one is somebody else's
		b.StartTimer()
	}
	cancel()
	for range 101 {
		<-done
	}
	percentiles(b, took)
}

// BenchmarkMatch is one match with a hundred callers and twenty seats of which
// one is idle.
func BenchmarkMatch(b *testing.B) {
	d := newDesk(b)
	for i := range 20 {
		user := d.operator(fmt.Sprintf("op%02d", i), 0, "software", "certificati")
		declared := "break"
		if i == 0 {
			declared = "available"
		}
		d.ok(d.Declare(background, user, declared, "", time.Now()))
	}
	for range 100 {
		d.waits("software", 2, time.Now())
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		d.match(began, 1)
		took = append(took, time.Since(began))
		b.StopTimer()
		d.exec(`update seats set doing = 'idle', doing_until = null, offer_id = null, contact_id = null where doing = 'offered'`)
		d.exec(`update places set state = 'waiting' where state = 'offered'`)
		d.exec(`update offers set state = 'withdrawn' where state = 'pending'`)
		b.StartTimer()
	}
	percentiles(b, took)
}

// BenchmarkMatchNobody is the match that finds no seat: what most wake-ups cost.
func BenchmarkMatchNobody(b *testing.B) {
	d := newDesk(b)
	for range 100 {
		d.waits("software", 2, time.Now())
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		d.match(began, 0)
		took = append(took, time.Since(began))
	}
	percentiles(b, took)
}

func percentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "median-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
}

// BenchmarkMatchFiveThousand is a match with five thousand who wait, on three
// topics, and five hundred seats of which one has just become free.
func BenchmarkMatchFiveThousand(b *testing.B) {
	d := newDesk(b)
	const callers, operators = 5000, 500
	topics := []string{"software", "certificati", "carta"}
	for _, topic := range topics {
		d.route(Route{Topic: topic, Second: time.Minute, Third: 2 * time.Minute})
	}
	now := time.Now()
	d.exec(`insert into users (name, display_name, role, password_hash, extension, wrap_up, created_at)
		select 'op' || n, 'op' || n, 'operator', '', (1000 + n)::text, 0, $1 from generate_series(1, $2::int) n`, now, operators)
	d.exec(`insert into user_topics (user_id, topic_id, level) select u.id, t.id, 1 + (u.id + t.id) % 3 from users u, topics t where (u.id + t.id) % 4 > 0`)
	d.exec(`insert into seats (user_id, declared, declared_at, doing, doing_at, doing_until, idle_since)
		select id, 'available', $1, 'wrapping', $1, $1::timestamptz + interval '1 hour', $1 from users`, now)
	d.exec(`insert into contacts (id, node, channel, call_id, caller_source, dialled, t0)
		select gen_random_uuid(), 'north', 'phone', n::text, 'withheld', '800000001', $1::timestamptz - n * interval '0.2 second' from generate_series(1, $2::int) n`, now, callers)
	d.exec(`insert into places (contact_id, node, topic_id, urgency, t0, joined_at, state)
		select c.id, 'north', t.id, 1 + c.call_id::int % 2, c.t0, c.t0, 'waiting' from contacts c join topics t on t.id = (select min(id) from topics) + c.call_id::int % 3`)
	d.exec(`analyze`)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		d.exec(`update seats set doing = 'wrapping', doing_until = $1, offer_id = null, contact_id = null where doing = 'offered'`, now.Add(time.Hour))
		d.exec(`update places set state = 'waiting' where state = 'offered'`)
		d.exec(`update offers set state = 'withdrawn' where state = 'pending'`)
		d.exec(`update seats set doing = 'idle', doing_until = null where user_id = (select min(user_id) from seats) + $1`, i%operators)
		b.StartTimer()
		began := time.Now()
		d.match(began, 1)
		took = append(took, time.Since(began))
	}
	percentiles(b, took)
}

// BenchmarkForecastFiveThousand is what it costs to tell five thousand who wait
// for five hundred operators where they stand: once in five seconds, at most.
func BenchmarkForecastFiveThousand(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	s := scene{handled: map[int64][]time.Duration{}}
	for i := range 500 {
		s.workers = append(s.workers, works(Available, Talking, time.Duration(i)*time.Second, int64(1+i%3), int64(1+(i+1)%3)))
	}
	for i := range 5000 {
		s.lines = append(s.lines, caller{contact: uuid.New(), topic: int64(1 + i%3)})
	}
	for topic := range int64(3) {
		for range recentMost {
			s.handled[topic+1] = append(s.handled[topic+1], drawn(random, 4*time.Minute))
		}
	}
	for b.Loop() {
		forecast(s, morning)
	}
}

// BenchmarkAccepts lets ten thousand accept at once: five hundred offers, twenty
// who want each. One of them gets it, every time.
func BenchmarkAccepts(b *testing.B) {
	const offers, rivals = 500, 20
	d := newDesk(b)
	for i := range offers {
		d.sits(fmt.Sprintf("op%d", i), after(0), 0, "software")
	}
	for b.Loop() {
		b.StopTimer()
		d.exec(`truncate offers, places cascade`)
		d.exec(`update seats set doing = 'idle', doing_until = null, offer_id = null, contact_id = null`)
		d.exec(`update contacts set ending = 'served', te = t0`)
		var ids []uuid.UUID
		for range offers {
			ids = append(ids, d.waits("software", 2, after(1)).contact)
		}
		d.match(after(2), offers)
		for i, contact := range ids {
			_, o, err := readPlace(background, d.db.Pool, contact)
			d.ok(err)
			ids[i] = o.ID
		}
		b.StartTimer()
		var winners [offers]atomic.Int32
		var wg sync.WaitGroup
		for i := range offers * rivals {
			wg.Go(func() {
				err := d.Accept(background, ids[i%offers], after(3))
				for db.Away(err) { // no connection in time: whoever has lifted tries again
					err = d.Accept(background, ids[i%offers], after(3))
				}
				switch {
				case err == nil:
					winners[i%offers].Add(1)
				case !errors.Is(err, ErrTooLate):
					b.Errorf("accept: %v", err)
				}
			})
		}
		wg.Wait()
		for i := range winners {
			if n := winners[i].Load(); n != 1 {
				b.Fatalf("offer %d has %d winners", i, n)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N)/(offers*rivals), "ms/accept")
}
