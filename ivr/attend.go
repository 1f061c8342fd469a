package ivr

import (
	"context"
	"errors"
	"time"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip/media"
)

// partOf is a supervisor's part as it sounds, while caller and operator hear each
// other; else they are apart.
var partOf = map[queue.Part]media.Part{queue.Listen: media.Listening, queue.Whisper: media.Whispering, queue.Barge: media.Barging}

// attended is the talk with one operator as supervisors take part in it, one after
// the other: they hear it, and are heard, while its two hear each other. It ends with
// that operator's part: whoever the caller is given to is another.
type attended struct {
	talk  *talk
	offer *queue.Offer
	leg   media.Leg
	end   func()
	over  chan struct{}

	turn     chan struct{} // holds the turn of who changes what follows: a change of the sound takes some turns of the pacer
	together bool          // the two hear each other
	guest    *media.Stream
	on       *media.Attendance // nil: nobody is on
	as       queue.Part
	leave    func()        // the recording; nil: it does not hear the guest
	broken   chan struct{} // closed when the sound could not be joined; nil: nobody is on
}

// attend lets supervisors take part in the talk with the operator who has it now,
// until unattended is called, where the service allows it. What a contact's service says is
// not known here of who came while the database was away: then who asks is told.
func (t *talk) attend(ctx context.Context) {
	if s := t.c.Service; s != nil && !s.SuperviseCalls {
		return
	}
	ctx, end := context.WithCancel(ctx)
	a := &attended{talk: t, offer: t.offer, leg: t.leg, end: end, over: make(chan struct{}), turn: make(chan struct{}, 1)}
	t.attended = a
	go func() { // ends with unattended, or with the call
		defer close(a.over)
		err := caught(func() error { return a.each(ctx) })
		if ctx.Err() == nil {
			t.desk.Log.Error("supervisors can take part in a talk no more", "contact", t.c.ID, "error", err)
		}
	}()
}

// unattended hangs up on the supervisor, if there is one, and waits until nothing of
// them is heard.
func (t *talk) unattended() {
	if t.attended != nil {
		t.attended.end()
		<-t.attended.over
		t.attended = nil
	}
}

// each lets one supervisor after the other take part, until ctx ends.
func (a *attended) each(ctx context.Context) error {
	var was *queue.Supervision
	for {
		s, err := a.talk.desk.Queue.AwaitSupervision(ctx, a.offer, was)
		if err != nil {
			return err
		}
		if again := s != nil && was != nil && s.At.Equal(was.At); s != nil && !again { // again: its end could not be noted
			a.one(ctx, s)
		}
		was = s
	}
}

// one is one supervisor's part, from the ringing of their telephone to its end. What
// ends with the talk has been noted with it.
func (a *attended) one(ctx context.Context, s *queue.Supervision) {
	d := a.talk.desk
	why := a.lifted(ctx, s)
	if ctx.Err() != nil {
		return
	}
	told, cancel := context.WithTimeout(ctx, leaveWait)
	defer cancel()
	if err := d.Queue.Supervised(told, s, why, time.Now()); err != nil && !errors.Is(err, queue.ErrNotSupervising) {
		d.Log.Warn("that a supervision ended could not be noted", "contact", a.talk.c.ID, "error", err)
	}
}

// lifted rings the supervisor and lets them take part until they hang up, think
// better of it or the talk is over; why it came to nothing, "" when it did not.
func (a *attended) lifted(ctx context.Context, s *queue.Supervision) (why string) {
	d := a.talk.desk
	a.takes(s.As)
	ctx, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() { // ends with ctx
		defer close(followed)
		a.follow(ctx, s)
		stop()
	}()
	defer func() { stop(); <-followed }()
	ringing, cancel := context.WithTimeout(ctx, queue.RingLongest)
	defer cancel()
	leg, err := d.Phones.RingSupervisor(ringing, s)
	if err != nil {
		if ctx.Err() != nil {
			return ""
		}
		return whyNot(err)
	}
	defer leg.Hangup(context.WithoutCancel(ctx))
	if err := d.Queue.Supervises(ctx, s, time.Now()); err != nil { // who is heard must know it: nobody takes part unnoted
		if errors.Is(err, queue.ErrNotSupervising) || ctx.Err() != nil {
			return ""
		}
		d.Log.Warn("a supervisor could not take part in a talk", "contact", a.talk.c.ID, "error", err)
		return whyFault
	}
	broken := a.joins(leg.Stream())
	defer a.parts()
	select {
	case <-leg.Done():
	case <-ctx.Done():
	case <-broken:
		return whyFault
	}
	return ""
}

// follow changes the supervisor's part as they ask, and returns when they take part no
// more.
func (a *attended) follow(ctx context.Context, s *queue.Supervision) {
	for was := s; ; {
		now, err := a.talk.desk.Queue.AwaitSupervision(ctx, a.offer, was)
		if err != nil || now == nil || !now.At.Equal(s.At) {
			return
		}
		a.takes(now.As)
		was = now
	}
}

// takes is what part the supervisor takes from now on.
func (a *attended) takes(p queue.Part) {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	a.as = p
	a.settle()
}

// joins lets the supervisor's telephone take part; broken is closed when that fails.
func (a *attended) joins(guest *media.Stream) (broken <-chan struct{}) {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	a.guest, a.broken = guest, make(chan struct{})
	a.on = media.Attend(guest, a.talk.call.Stream(), a.leg.Stream())
	a.settle()
	return a.broken
}

// parts ends that; when it returns nothing of it is heard.
func (a *attended) parts() {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	a.on.Leave()
	a.records(false)
	a.guest, a.on = nil, nil
}

// stand tells whether caller and operator hear each other now.
func (a *attended) stand(together bool) {
	if a == nil {
		return
	}
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	a.together = together
	a.settle()
}

// settle lets everybody hear whom they are to hear. The turn is held.
func (a *attended) settle() {
	if a.on == nil {
		return
	}
	part := media.Apart
	if a.together {
		part = partOf[a.as]
	}
	a.records(part == media.Barging)
	if err := a.on.As(part); err != nil && !errors.Is(err, media.ErrClosed) { // whoever is gone has ended it
		a.talk.desk.Log.Warn("a supervisor could not be joined to a talk", "contact", a.talk.c.ID, "as", a.as, "error", err)
		a.on.Leave()
		select {
		case <-a.broken:
		default:
			close(a.broken)
		}
	}
}

// records lets the recording hear a supervisor whom the caller hears, on the
// operators' side: a whisper was for the operator alone. The turn is held.
func (a *attended) records(on bool) {
	switch {
	case on && a.leave == nil:
		a.leave = a.talk.taken.joins(media.Operator, a.guest)
	case !on && a.leave != nil:
		a.leave()
		a.leave = nil
	}
}
