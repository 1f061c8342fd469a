package recordings

import (
	"context"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/sip/audio"
)

// What rows call the two kinds of recordings.
const (
	kindMessage = "message"
	kindTalk    = "talk"
)

// talkMost bounds the memory of one talk: four hours of two channels. No call to a
// help desk has lasted so long.
const talkMost = 4 * 3600 * audio.Rate * talkChannels

const talkChannels = 2 // the caller's octet before the operator's

// tapeKind says what a tape is of.
type tapeKind struct {
	Talk bool `json:"talk,omitempty"` // of caller and operator; else a message
	Days int  `json:"days,omitempty"` // how long a talk is kept
}

// Talk starts a recording of a contact's talk, which is kept for so many days. As
// Tape, it returns at once. ErrNoRoom: the disk is nearly full.
func (a *Archive) Talk(ctx context.Context, contact uuid.UUID, at time.Time, days int) (*Tape, error) {
	if !a.HasRoom() {
		return nil, ErrNoRoom
	}
	return a.tape(ctx, tapeStart{Contact: contact, At: at.UTC(), tapeKind: tapeKind{Talk: true, Days: days}})
}

// ID is the recording's.
func (t *Tape) ID() uuid.UUID { return t.id }

func (k tapeKind) name() string {
	if k.Talk {
		return kindTalk
	}
	return kindMessage
}

func (k tapeKind) channels() int {
	if k.Talk {
		return talkChannels
	}
	return 1
}

// most is how many octets a tape may hold.
func (k tapeKind) most() int {
	if k.Talk {
		return talkMost
	}
	return tapeMost
}

// keepUntil is when a tape is erased that began then; nil: nobody has said.
func (f tapeFact) keepUntil() *time.Time {
	if f.Days == 0 {
		return nil
	}
	until := f.Started.AddDate(0, 0, f.Days)
	return &until
}

func (k tapeKind) write(w io.Writer, alaw []byte) error {
	if k.Talk {
		return audio.WriteStereoWAV(w, alaw)
	}
	return audio.WriteWAV(w, alaw)
}

// read is write's inverse.
func (k tapeKind) read(r io.Reader) ([]byte, error) {
	if k.Talk {
		return audio.ReadStereoWAV(r, talkMost+wavHead)
	}
	return audio.ReadWAV(r)
}

// wavHead is room for what stands before the sound in a file.
const wavHead = 1 << 10
