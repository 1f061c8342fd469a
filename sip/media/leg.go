package media

import (
	"context"
	"time"
)

// A Leg is somebody to be joined to a caller: a telephone that answered, later
// a browser.
type Leg interface {
	// Stream is the leg's sound.
	Stream() *Stream
	// Done is closed when the far side hung up or was lost.
	Done() <-chan struct{}
	// Hangup ends the leg; calling it again does nothing.
	Hangup(ctx context.Context)
}

// Limits say when the recording of a message ends by itself.
type Limits struct {
	Longest time.Duration // the whole message; 0: no limit
	Silence time.Duration // continuous silence that ends it; 0: silence does not end it
}

// A Stop is what ended the recording of a message.
type Stop string

// What can end the recording of a message.
const (
	StopHangup  Stop = "hangup"  // the caller hung up
	StopKey     Stop = "key"     // the caller pressed a key
	StopSilence Stop = "silence" // Limits.Silence passed without sound
	StopLongest Stop = "longest" // Limits.Longest was reached
)
