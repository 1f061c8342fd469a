// Package recordings is the audio archive: what callers say is on disk within
// 200 ms, and what cannot be written to the database waits here until it can.
package recordings

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
)

// Archive keeps the sounds of one node.
type Archive struct{}

// Tape is one recording while it is made.
type Tape struct{}

// Sound says how long a recording is, and how much of it is sound: from the
// first to the last frame above the silence threshold.
type Sound struct{ Length, Sound time.Duration }

// Message is one recorded message, as a screen lists it.
type Message struct {
	ID        uuid.UUID  `json:"id"`
	ContactID uuid.UUID  `json:"contact_id"`
	StartedAt time.Time  `json:"received_at"`
	LengthMS  int        `json:"length_ms"`
	SoundMS   int        `json:"sound_ms"`
	State     string     `json:"state"` // new, taken, heard
	TakenBy   string     `json:"taken_by"`
	TakenAt   *time.Time `json:"taken_at"`
	HeardAt   *time.Time `json:"heard_at"`
}

// Filter picks messages; the zero Filter picks the newest.
type Filter struct {
	State  string    // "new": neither taken nor heard; "": all
	Before time.Time // older than this; zero: from the newest
	Limit  int       // 0: 50
}

var errSoon = errors.New("not yet")

// Open opens the archive under dir.
func Open(dir, node string, d *db.DB, log *slog.Logger) (*Archive, error) { return nil, errSoon }

// Recover finishes what a crash left: contact → sound.
func (a *Archive) Recover(ctx context.Context) (map[uuid.UUID]time.Duration, error) {
	return nil, errSoon
}

// Run syncs and replays until ctx ends.
func (a *Archive) Run(ctx context.Context) error { return errSoon }

// OnReplay says who takes replayed facts.
func (a *Archive) OnReplay(fn func(ctx context.Context, kind string, raw json.RawMessage) error) {}

// Defer keeps a fact until the database is back. It returns when it is on disk.
func (a *Archive) Defer(kind string, v any) error { return errSoon }

// Pending tells whether facts are waiting.
func (a *Archive) Pending() bool { return false }

// Tape starts a recording of a contact.
func (a *Archive) Tape(ctx context.Context, contact uuid.UUID, at time.Time) (*Tape, error) {
	return nil, errSoon
}

// Write adds A-law frames.
func (t *Tape) Write(frame []byte) (int, error) { return 0, errSoon }

// Close finishes the recording.
func (t *Tape) Close(ctx context.Context, at time.Time) (Sound, error) { return Sound{}, errSoon }

// Message opens the WAV of a contact's message.
func (a *Archive) Message(ctx context.Context, contact uuid.UUID) (io.ReadSeekCloser, time.Time, error) {
	return nil, time.Time{}, errSoon
}

// Messages lists messages, newest first.
func (a *Archive) Messages(ctx context.Context, f Filter) ([]Message, error) { return nil, errSoon }

// Heard notes that user listened to a message.
func (a *Archive) Heard(ctx context.Context, id uuid.UUID, user int64, at time.Time) error {
	return errSoon
}

// Take gives a message to user.
func (a *Archive) Take(ctx context.Context, id uuid.UUID, user int64, at time.Time) error {
	return errSoon
}
