package ivr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/queue"
)

// Left, Withdrawn, Released and Attempted are what the desk remembers in the spool when the
// database is away at the end of a wait, of a ringing, of a talk or of an attempt
// to ring somebody back.
type (
	Left struct {
		Contact uuid.UUID `json:"contact"`
		At      time.Time `json:"at"`
	}
	Withdrawn struct {
		Offer uuid.UUID `json:"offer"`
		At    time.Time `json:"at"`
	}
	Released struct {
		Offer uuid.UUID `json:"offer"`
		At    time.Time `json:"at"`
	}
	Attempted struct {
		Attempt uuid.UUID     `json:"attempt"`
		Outcome queue.Outcome `json:"outcome"`
		At      time.Time     `json:"at"`
	}
)

// orLater puts a fact of the queue into the spool when err says that the
// database was away, and logs any other error.
func (d *Desk) orLater(kind string, fact any, err error) {
	if db.Away(err) {
		err = d.Archive.Defer(kind, fact)
	}
	if err != nil {
		d.Log.Error("the queue was not told", "what", kind, "error", err)
	}
}

// Replay tells the queue what the spool remembered; it reports false for a kind
// that is not the desk's. Doing it twice is harmless.
func Replay(ctx context.Context, q *queue.Queue, kind string, raw json.RawMessage) (mine bool, err error) {
	switch kind {
	case "leave":
		var f Left
		if err := json.Unmarshal(raw, &f); err != nil {
			return true, fmt.Errorf("read %s: %w", kind, err)
		}
		return true, q.Leave(ctx, f.Contact, f.At)
	case "withdraw":
		var f Withdrawn
		if err := json.Unmarshal(raw, &f); err != nil {
			return true, fmt.Errorf("read %s: %w", kind, err)
		}
		err := q.Withdraw(ctx, f.Offer, f.At)
		if errors.Is(err, queue.ErrTooLate) { // it has ended; or it was accepted, and nobody heard of it
			err = q.Release(ctx, f.Offer, f.At)
		}
		return true, err
	case "release":
		var f Released
		if err := json.Unmarshal(raw, &f); err != nil {
			return true, fmt.Errorf("read %s: %w", kind, err)
		}
		return true, q.Release(ctx, f.Offer, f.At)
	case "attempted":
		var f Attempted
		if err := json.Unmarshal(raw, &f); err != nil {
			return true, fmt.Errorf("read %s: %w", kind, err)
		}
		return true, q.Attempted(ctx, f.Attempt, f.Outcome, f.At)
	}
	return false, nil
}
