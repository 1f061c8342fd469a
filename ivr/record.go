package ivr

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/tickets"
)

// Why nothing of a talk is kept for a while, as the journal says it.
const (
	gapHold    = "hold"    // the caller hears music
	gapConsult = "consult" // so does the caller, and the operator asks somebody else
	gapWaiting = "waiting" // the caller was given on, and nobody has answered yet
	gapOutside = "outside" // the caller talks to somebody who is not ours
	gapNoRoom  = "no_room" // the disk is nearly full
	gapFault   = "fault"   // the recording could not be written

	gapOperator = recordings.GapOperator // paused; who did it has told the journal
)

// gapWhile is why nothing is kept as a talk stands; "": what is said is kept.
var gapWhile = map[queue.Talk]string{queue.Held: gapHold, queue.Asking: gapConsult, queue.Consulting: gapConsult}

// linesMost is how many journal lines of a recording wait for the database: more
// gaps than any talk has.
const linesMost = 64

// recorded is the recording of one call's talks, from the first operator to the
// hang-up, through holds and transfers: it hears what each telephone sends,
// whomever it is joined with. nil is a call that is not recorded.
type recorded struct {
	desk *Desk
	call Call
	c    *tickets.Contact

	tap   *media.Tap // nil: no talk has begun, or it is not recorded
	tape  *recordings.Tape
	stop  context.CancelFunc
	done  sync.WaitGroup
	lines chan tickets.Step

	mu     sync.Mutex // guards what follows
	talk   string     // why the talk keeps nothing as it stands
	paused bool       // by the operator, who has told the journal
	failed string     // why the tape takes nothing
	owed   int        // octets that it did not take: silence stands for them, so that what follows has its place
	said   string     // the gap that the journal knows of
}

// begin begins to record with the first talk, where the service says so: the caller
// has heard the notice. It costs the talk nothing: what goes wrong is a gap with a
// reason.
func (r *recorded) begin(ctx context.Context) {
	if r == nil || r.tape != nil || r.c.Service == nil || !r.c.Service.RecordCalls || r.desk.Tap == nil {
		return
	}
	now := time.Now()
	tape, err := r.desk.Archive.Talk(ctx, r.c.ID, now, r.c.Service.RecordingDays)
	if err != nil {
		r.desk.Log.Warn("a talk is not recorded", "contact", r.c.ID, "error", err)
		r.desk.note(ctx, r.c, tickets.Step{Kind: journal.Gap, At: now, Data: map[string]any{"reason": reasonOf(err)}})
		return
	}
	r.tape, r.tap, r.lines = tape, r.desk.Tap(), make(chan tickets.Step, linesMost)
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.done.Go(func() { // ends with finish
		defer close(r.lines)
		_ = r.tap.Run(ctx, r.write)
	})
	r.done.Go(func() { // ends with it
		for step := range r.lines {
			r.desk.note(ctx, r.c, step)
		}
	})
	r.done.Go(func() { r.desk.Archive.Pauses(ctx, tape.ID(), r.pause) })
	r.joins(media.Caller, r.call.Stream())
}

// pause is what the operator asked for while something is said that nobody keeps.
func (r *recorded) pause(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on == r.paused {
		return // woken for another reason
	}
	r.paused, r.said = on, ""
	if on {
		r.said = gapOperator
	}
	r.settle()
}

// joins adds a side's telephone, until leave.
func (r *recorded) joins(side media.Side, s *media.Stream) (leave func()) {
	if r == nil || r.tap == nil {
		return func() {}
	}
	leave, err := r.tap.Join(side, s)
	if err != nil {
		r.desk.Log.Error("one side of a talk is not recorded", "contact", r.c.ID, "error", err)
		return func() {}
	}
	return leave
}

// stands tells the recording why the talk keeps nothing now; "": it does.
func (r *recorded) stands(reason string) {
	if r == nil || r.tap == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.talk = reason
	r.settle()
}

// settle pauses or goes on, and tells the journal. r.mu is held.
func (r *recorded) settle() {
	r.tap.Pause(r.paused || r.talk != "")
	reason := r.talk
	switch {
	case reason != "":
	case r.paused: // it outlives hold and transfer
		reason = gapOperator
	default:
		reason = r.failed
	}
	if reason == r.said {
		return
	}
	r.said = reason
	step := tickets.Step{Kind: journal.GapEnd, At: time.Now(), Data: map[string]any{"recording": r.tape.ID()}}
	if reason != "" {
		step.Kind, step.Data["reason"] = journal.Gap, reason
	}
	select {
	case r.lines <- step:
	default:
		r.desk.Log.Error("a gap of a recording is not in the journal", "contact", r.c.ID, "reason", reason)
	}
}

// write puts 20 ms on the tape. What it does not take is owed, and silence.
func (r *recorded) write(sound []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.repay()
	if err == nil {
		_, err = r.tape.Write(sound)
	}
	failed := ""
	if err != nil {
		r.owed += len(sound)
		failed = reasonOf(err)
	}
	if failed == r.failed {
		return
	}
	if r.failed == "" {
		r.desk.Log.Error("a talk is not recorded any more", "contact", r.c.ID, "error", err)
	}
	r.failed = failed
	r.settle()
}

// repay writes the silence that is owed. r.mu is held.
func (r *recorded) repay() error {
	silence := audio.Silence(1000)
	for r.owed > 0 {
		n, err := r.tape.Write(silence[:min(r.owed, len(silence))])
		if err != nil {
			return err
		}
		r.owed -= n
	}
	return nil
}

// runs says whether anything is recorded.
func (r *recorded) runs() bool { return r != nil && r.tap != nil }

// finish ends the recording: its sound becomes a file that belongs to the contact.
func (r *recorded) finish(ctx context.Context) {
	if !r.runs() {
		return
	}
	r.stop()
	r.done.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingWait)
	defer cancel()
	if _, err := r.tape.Close(ctx, time.Now()); err != nil {
		r.desk.Log.Error("a talk's recording is not safe", "contact", r.c.ID, "error", err)
	}
}

// reasonOf is an error as the journal says it.
func reasonOf(err error) string {
	if errors.Is(err, recordings.ErrNoRoom) {
		return gapNoRoom
	}
	return gapFault
}
