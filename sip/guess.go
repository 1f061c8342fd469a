package sip

import (
	"net/netip"
	"sync"
	"time"
)

// Passwords can be guessed only by asking, so wrong answers are counted: by who gave
// them, by whose name they gave, and by both. What is not looked at any
// more gets the same 401 as what was wrong, so nobody can tell when to begin again.
//
// None of this may keep an operator from their desk at eight in the morning. So where
// a telephone is, or was within a day, only its own wrong answers from there count
// (Secret.Places); and the first answer that a source gives for a name is looked at
// whatever others have done to the name: what is slowed down is trying again. With
// passwords of 80 bits (pronto phone) the rest of a search is hopeless anyhow.
var (
	guessesHere   = allowance{burst: 20, every: 5 * time.Second}  // at the telephone's own place: it repeats a wrong one twice a minute
	guessesOnce   = allowance{burst: 5, every: time.Minute}       // from elsewhere, for one name
	guessesSource = allowance{burst: 30, every: 10 * time.Second} // from elsewhere, whatever the names: an office whose realm was changed
	guessesName   = allowance{burst: 60, every: time.Minute}      // for one name, from anywhere else
)

const maxGuesses = 12000 // sources, names and pairs of them that are remembered: a megabyte

// allowance is how often something may be done at once, and after how long once more.
type allowance struct {
	burst float64
	every time.Duration
}

// guesser is who gave a wrong answer: a source, a name, or a source for a name.
type guesser struct {
	source netip.Prefix
	name   string
}

// guesses counts wrong answers.
type guesses struct {
	mu   sync.Mutex // guards left
	left map[guesser]*bucket
}

// nameOf is what is remembered of a user name: nothing that no telephone can have.
func nameOf(user string) string {
	if !isExtension(user) {
		return "-"
	}
	return user
}

// of is what is left to somebody. g.mu is held.
func (g *guesses) of(who guesser, a allowance, now time.Time) float64 {
	b := g.left[who]
	if b == nil {
		return a.burst
	}
	return min(a.burst, b.left+now.Sub(b.at).Seconds()/a.every.Seconds())
}

// add takes away from what is left to somebody, or gives back. g.mu is held.
func (g *guesses) add(who guesser, a allowance, n float64, now time.Time) {
	left := min(a.burst, max(0, g.of(who, a, now)+n))
	if g.left[who] == nil && len(g.left) >= maxGuesses {
		g.sweep(now)
	}
	g.left[who] = &bucket{left: left, at: now}
}

// sweep forgets those of long ago and, if that is not enough, any: their first answers
// are looked at anew, no more than that.
func (g *guesses) sweep(now time.Time) {
	const long = 10 * time.Minute // most are whole again
	for k, b := range g.left {
		if now.Sub(b.at) > long {
			delete(g.left, k)
		}
	}
	for k := range g.left {
		if len(g.left) < maxGuesses*3/4 {
			return
		}
		delete(g.left, k)
	}
}

// try tells whether an answer is looked at, and counts it as a wrong one until it is
// known to be right: two at once are two. home: it comes from where the telephone is.
func (g *guesses) try(source netip.Addr, user string, home bool, now time.Time) bool {
	from, name := guesser{source: sourceOf(source)}, guesser{name: nameOf(user)}
	both := guesser{from.source, name.name}
	g.mu.Lock()
	defer g.mu.Unlock()
	if home {
		if g.of(both, guessesHere, now) < 1 {
			return false
		}
		g.add(both, guessesHere, -1, now)
		return true
	}
	again := g.of(both, guessesOnce, now)
	if again < 1 || g.of(from, guessesSource, now) < 1 || again < guessesOnce.burst && g.of(name, guessesName, now) < 1 {
		return false // and not counted: it would never be whole again
	}
	g.add(both, guessesOnce, -1, now)
	g.add(from, guessesSource, -1, now)
	g.add(name, guessesName, -1, now)
	return true
}

// right takes back what try has counted, and what was wrong before: somebody has put
// it right.
func (g *guesses) right(source netip.Addr, user string, home bool, now time.Time) {
	from, name := guesser{source: sourceOf(source)}, guesser{name: nameOf(user)}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.left, guesser{from.source, name.name})
	if !home {
		g.add(from, guessesSource, 1, now)
		g.add(name, guessesName, 1, now)
	}
}
