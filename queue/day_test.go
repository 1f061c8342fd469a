package queue

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// drawn is a handling time as they are: many short ones, a few long ones.
func drawn(random *rand.Rand, median time.Duration) time.Duration {
	return time.Duration(float64(median) * math.Exp(0.6*random.NormFloat64()))
}

// told is one announcement of a simulated day, and what came of it.
type told struct {
	at       time.Time
	contact  uuid.UUID
	expected time.Duration
	waited   time.Duration // from then on
}

// simulated is a day of the queue: callers who come at random, more of them in the
// middle of the morning and of the afternoon, operators with breaks, and every
// half minute what the forecast says to who waits. Matches are Match's own.
func simulated(seed uint64, operators, callers int) (list []told) {
	const open = 10 * time.Hour
	random := rand.New(rand.NewPCG(seed, 1))
	medians := map[int64]time.Duration{1: 4 * time.Minute, 2: 3 * time.Minute, 3: 6 * time.Minute}
	var coming []caller
	for len(coming) < callers {
		t := time.Duration(random.Float64() * float64(open))
		if busy := 0.6 - 0.4*math.Cos(4*math.Pi*float64(t)/float64(open)); random.Float64() > busy {
			continue
		}
		var id uuid.UUID
		id[0], id[1] = byte(len(coming)>>8), byte(len(coming))
		coming = append(coming, caller{contact: id, topic: 1 + random.Int64N(3), joined: morning.Add(t)})
	}
	slices.SortFunc(coming, func(a, b caller) int { return a.joined.Compare(b.joined) })
	s := scene{handled: map[int64][]time.Duration{}}
	for topic, median := range medians { // yesterday's
		for range 60 {
			s.handled[topic] = append(s.handled[topic], drawn(random, median))
		}
	}
	until, breaks := make([]time.Time, operators), make([]time.Time, operators)
	for i := range operators {
		w := worker{free: knows(1+int64(i)%3, 1+int64(i+1)%3)}
		w.seat.User, w.seat.Declared, w.seat.Doing = int64(i+1), Available, Idle
		s.workers = append(s.workers, w)
		breaks[i] = morning.Add(time.Duration(2+i%6) * time.Hour)
	}
	hanging := map[uuid.UUID][]int{} // announcements of who still waits
	for at := morning; at.Before(morning.Add(open+2*time.Hour)) && (len(coming) > 0 || len(s.lines) > 0); at = at.Add(time.Second) {
		for len(coming) > 0 && !coming[0].joined.After(at) {
			s.lines, coming = append(s.lines, coming[0]), coming[1:]
		}
		var idle []int
		for i := range s.workers {
			seat := &s.workers[i].seat
			if seat.Doing == Talking && !until[i].After(at) {
				seat.Doing = Idle
				s.handled[s.workers[i].serving] = append(s.handled[s.workers[i].serving][1:], at.Sub(seat.DoingAt))
			}
			onBreak := !at.Before(breaks[i]) && at.Before(breaks[i].Add(30*time.Minute))
			seat.Declared = map[bool]Declared{false: Available, true: Break}[onBreak]
			if seat.Doing == Idle && !onBreak {
				idle = append(idle, i)
			}
		}
		var seats []free
		for _, i := range idle {
			seats = append(seats, s.workers[i].free)
		}
		gone := map[uuid.UUID]bool{}
		for n, c := range pair(s.lines, seats, at).has {
			if c < 0 {
				continue
			}
			l, w := s.lines[c], &s.workers[idle[n]]
			w.seat.Doing, w.seat.DoingAt, w.serving = Talking, at, l.topic
			until[idle[n]] = at.Add(drawn(random, medians[l.topic]))
			gone[l.contact] = true
			for _, i := range hanging[l.contact] {
				list[i].waited = at.Sub(list[i].at)
			}
		}
		s.lines = slices.DeleteFunc(s.lines, func(l caller) bool { return gone[l.contact] })
		if at.Second()%30 != 0 || len(s.lines) == 0 {
			continue
		}
		all := forecast(s, at)
		for _, l := range s.lines {
			if f := all[l.contact]; f.Wait >= 0 {
				hanging[l.contact] = append(hanging[l.contact], len(list))
				list = append(list, told{at: at, contact: l.contact, expected: f.Wait})
			}
		}
	}
	return list
}

// errors of a day: how far all that was said is from all that was waited, and how
// far one announcement is from its wait, weighed by the waits.
func errorsOf(list []told) (bias, each float64) {
	var expected, waited, off time.Duration
	for _, t := range list {
		expected, waited, off = expected+t.expected, waited+t.waited, off+(t.expected-t.waited).Abs()
	}
	return float64(expected)/float64(waited) - 1, float64(off) / float64(waited)
}

// TestForecastOfADay: over a simulated day what callers were told is what they
// waited, within a quarter. A single announcement may be further off: how long the
// talks before it last is chance.
func TestForecastOfADay(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		list := simulated(seed, 6, 470)
		bias, each := errorsOf(list)
		t.Logf("seed %d: %d announcements, all of them %+.1f %%, each %.1f %%", seed, len(list), 100*bias, 100*each)
		if len(list) < 100 {
			t.Errorf("seed %d: hardly anybody waited: %d announcements", seed, len(list))
		}
		if math.Abs(bias) > 0.25 {
			t.Errorf("seed %d: told %+.0f %% of what was waited", seed, 100*bias)
		}
	}
}

// BenchmarkForecastOfADay prints how good the forecast is over ten days.
func BenchmarkForecastOfADay(b *testing.B) {
	var bias, each, worst float64
	n := 0
	for b.Loop() {
		n++
		x, y := errorsOf(simulated(uint64(n), 6, 470))
		bias, each, worst = bias+x, each+y, max(worst, math.Abs(x))
	}
	b.ReportMetric(100*bias/float64(n), "%bias")
	b.ReportMetric(100*worst, "%worst-day")
	b.ReportMetric(100*each/float64(n), "%each")
}
