package sip

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// What a stranger may send: enough for an office whose telephones all register
// at once after a power cut; how often it may guess at passwords, see guesses.
const (
	strangerBurst  = 60
	strangerRate   = 10 // a second
	maxSources     = 4096
	grumbleSpacing = 10 * time.Second // one line about one kind of trouble
)

// limits counts what strangers send, by source.
type limits struct {
	mu      sync.Mutex // guards buckets
	buckets map[netip.Prefix]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// sourceOf is what counts as one stranger: an IPv6 host owns a whole /64.
func sourceOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// take uses up one message of a source; false: it has none left.
func (l *limits) take(source netip.Addr, now time.Time) bool {
	key := sourceOf(source)
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxSources {
			l.sweep(now)
		}
		b = &bucket{left: strangerBurst, at: now}
		l.buckets[key] = b
	}
	b.left = min(strangerBurst, b.left+now.Sub(b.at).Seconds()*strangerRate)
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// sweep forgets those who are full again and, if that is not enough, anybody.
func (l *limits) sweep(now time.Time) {
	for k, b := range l.buckets {
		if b.left+now.Sub(b.at).Seconds()*strangerRate >= strangerBurst {
			delete(l.buckets, k)
		}
	}
	for k := range l.buckets {
		if len(l.buckets) < maxSources*3/4 {
			return
		}
		delete(l.buckets, k)
	}
}

// grumbles keeps the log short.
type grumbles struct {
	mu   sync.Mutex // guards last and quiet
	last map[string]time.Time
	less map[string]int
}

// grumble logs trouble with what arrives: one short line of each kind in ten
// seconds, with the number of those that were not logged. Never the message.
func (a *Agent) grumble(what string, from netip.AddrPort, detail string) {
	now := time.Now()
	a.grumbles.mu.Lock()
	if now.Sub(a.grumbles.last[what]) < grumbleSpacing {
		a.grumbles.less[what]++
		a.grumbles.mu.Unlock()
		return
	}
	more := a.grumbles.less[what]
	a.grumbles.last[what] = now
	a.grumbles.less[what] = 0
	a.grumbles.mu.Unlock()
	const longest = 80
	detail = clip(printable(detail), longest) // some say what the far side said
	a.log.LogAttrs(a.ctx, slog.LevelWarn, "sip: "+what, slog.String("from", from.Addr().String()), slog.String("detail", detail), slog.Int("more", more))
}
