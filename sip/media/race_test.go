//go:build race

package media

// forgetful: under the race detector a sync.Pool forgets one in four, and the SRTP
// library keeps its buffer in one.
const forgetful = 1
