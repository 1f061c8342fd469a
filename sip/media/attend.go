package media

// Part is how somebody takes part in a talk of two that was none of theirs.
type Part int

// The parts.
const (
	Apart      Part = iota // they hear nothing, and nobody hears them
	Listening              // they hear both
	Whispering             // and the second of the two hears them
	Barging                // and so do both
)

// Attendance is somebody beside a talk of two, which is relayed as it was: only
// who is to hear more than one is given a mix. So a whisper is never in anything
// that is made for the first of the two. One at a time calls its methods.
type Attendance struct {
	guest, first, second *Stream

	mix  mix
	left bool
}

// Attend lets guest take part in the talk of first and second; they are apart
// until As says otherwise.
func Attend(guest, first, second *Stream) *Attendance {
	return &Attendance{guest: guest, first: first, second: second}
}

// As changes the guest's part, each of the three without a hole or a click, and
// returns when it is heard. After an error they are apart. ErrBridged when one of
// them is in a mix already.
func (a *Attendance) As(p Part) error {
	if a.left {
		return nil
	}
	wanted := map[*Stream][]*Stream{}
	if p >= Listening {
		wanted[a.guest] = []*Stream{a.first, a.second}
	}
	if p >= Whispering {
		wanted[a.second] = []*Stream{a.first, a.guest}
	}
	if p >= Barging {
		wanted[a.first] = []*Stream{a.second, a.guest}
	}
	return a.mix.set(wanted)
}

// Leave ends it, and waits for the end; a second time does nothing.
func (a *Attendance) Leave() {
	a.left = true
	a.mix.stop()
}
