package web

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// argon2id with the cost of RFC 9106 §4 scaled to a help desk's server: 19 MiB
// and two passes take some 45 ms on one core. Several sign-ins at once would
// take 19 MiB each, hence the semaphore.
const (
	argonTime    = 2
	argonMemory  = 19 * 1024 // KiB
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32

	hashesAtOnce = 2               // 38 MiB at most, and one core stays free for calls
	hashWait     = 3 * time.Second // a sign-in that waits longer is told to try again
	minPassword  = 10              // characters
	maxPassword  = 256             // bytes: longer ones are only somebody's attempt to keep us busy
	maxArgonMem  = 256 * 1024      // KiB a stored hash may ask for
	maxArgonTime = 16              // passes a stored hash may ask for
)

var (
	// ErrWrong is a name or a password that does not fit; which, is not told.
	ErrWrong = errors.New("wrong name or password")
	// ErrBusy is a sign-in that found too many others at work.
	ErrBusy = errors.New("too many sign-ins at once")
	// errWeak is a password too short or too long to be taken.
	errWeak = fmt.Errorf("a password has %d characters at least and %d bytes at most", minPassword, maxPassword)

	errBadHash = errors.New("the stored password hash cannot be read")
)

// hasher limits how many passwords are hashed at once.
type hasher chan struct{}

func newHasher() hasher { return make(hasher, hashesAtOnce) }

func (h hasher) key(ctx context.Context, password string, salt []byte, passes, memory uint32, threads uint8, size uint32) ([]byte, error) {
	wait := time.NewTimer(hashWait)
	defer wait.Stop()
	select {
	case h <- struct{}{}:
	case <-wait.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-h }()
	// The same letters typed on two keyboards may come composed or decomposed.
	return argon2.IDKey(norm.NFC.Bytes([]byte(password)), salt, passes, memory, threads, size), nil
}

// hash returns the PHC string of a password: $argon2id$v=19$m=…,t=…,p=…$salt$key.
func (h hasher) hash(ctx context.Context, password string) (string, error) {
	if !utf8.ValidString(password) || utf8.RuneCountInString(password) < minPassword || len(password) > maxPassword {
		return "", errWeak
	}
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key, err := h.key(ctx, password, salt, argonTime, argonMemory, argonThreads, argonKey)
	if err != nil {
		return "", err
	}
	return phc(salt, key), nil
}

func phc(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// nobody's hash: verified for unknown users, so that they cost what known ones
// cost. No password gives an all-zero key.
var nobody = phc(make([]byte, argonSalt), make([]byte, argonKey))

// verify tells whether the password gives the stored hash.
func (h hasher) verify(ctx context.Context, password, stored string) (bool, error) {
	passes, memory, threads, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	if len(password) > maxPassword {
		password = password[:maxPassword] // wrong either way, and of bounded cost
	}
	got, err := h.key(ctx, password, salt, passes, memory, threads, uint32(len(want)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// parsePHC reads a stored hash; its cost is limited, so that a row cannot take
// the machine's memory.
func parsePHC(stored string) (passes, memory uint32, threads uint8, salt, key []byte, err error) {
	part := strings.Split(stored, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" {
		return 0, 0, 0, nil, nil, errBadHash
	}
	var version int
	if _, err := fmt.Sscanf(part[2], "v=%d", &version); err != nil || version != argon2.Version {
		return 0, 0, 0, nil, nil, errBadHash
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); err != nil ||
		passes < 1 || passes > maxArgonTime || memory < 8*uint32(threads) || memory > maxArgonMem || threads < 1 {
		return 0, 0, 0, nil, nil, errBadHash
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(part[4])
	key, err2 := base64.RawStdEncoding.DecodeString(part[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return 0, 0, 0, nil, nil, errBadHash
	}
	return passes, memory, threads, salt, key, nil
}
