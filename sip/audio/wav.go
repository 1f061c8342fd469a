package audio

import (
	"errors"
	"io"
)

// ErrNotWAV is what every fault of ReadWAV's input wraps: the file is refused
// because of what it holds, not because it could not be read.
var ErrNotWAV = errors.New("not a usable WAV file")

// ReadWAV reads a WAV file as A-law, 8 kHz, mono.
func ReadWAV(r io.Reader) ([]byte, error) { panic("being written") }

// WriteWAV writes A-law sound as a WAV file of WAVE_FORMAT_ALAW.
func WriteWAV(w io.Writer, alaw []byte) error { panic("being written") }

// WritePCMWAV writes A-law sound as a WAV file of 16-bit PCM.
func WritePCMWAV(w io.Writer, alaw []byte) error { panic("being written") }
