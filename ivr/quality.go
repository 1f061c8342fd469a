package ivr

import (
	"math"
	"slices"
	"time"

	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// judge notes how the sound of a telephone was that leaves a contact; nil: it had
// none. What nobody heard is not judged, and the caller's once.
func (d *Desk) judge(c *tickets.Contact, who string, s *media.Stream) {
	legs := judged(c, who, s)
	c.Legs = append(c.Legs, legs...)
	if d.Judged == nil {
		return
	}
	for _, leg := range legs {
		for way, q := range map[string]*tickets.Direction{"heard": leg.Heard, "reached": leg.Reached} {
			if q != nil {
				d.Judged(who, way, q.MOS)
			}
		}
	}
}

// judged is what judge adds to a contact: one leg, or none.
func judged(c *tickets.Contact, who string, s *media.Stream) []tickets.Leg {
	if s == nil || who == tickets.LegCaller && slices.ContainsFunc(c.Legs, func(l tickets.Leg) bool { return l.Who == who }) {
		return nil
	}
	st := s.Stats()
	leg := tickets.Leg{Who: who, Heard: direction(st.Heard), Reached: direction(st.Told)}
	if leg.Heard == nil && leg.Reached == nil {
		return nil
	}
	return []tickets.Leg{leg}
}

func direction(q media.Quality) *tickets.Direction {
	if !q.Known() {
		return nil
	}
	round := func(f, places float64) float64 { return math.Round(f*places) / places }
	return &tickets.Direction{
		Packets: q.Packets, Lost: round(q.Lost, 10_000), MOS: round(q.MOS(), 100),
		JitterMS: int(q.Jitter.Round(time.Millisecond).Milliseconds()), TripMS: int(q.Trip.Round(time.Millisecond).Milliseconds()),
	}
}
