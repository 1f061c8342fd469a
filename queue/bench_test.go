package queue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
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
