package recordings

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	sealedExt   = ".age"   // ends the name of a file that is sealed
	keyFileMost = 64 << 10 // bytes: some hundred keys, of all the years
)

// Why a recording's sound cannot be had. Neither is a reason to touch it.
var (
	ErrLocked  = errors.New("no key that we have opens the recording")
	ErrDamaged = errors.New("the recording is not what was written")
)

// Keys seal what is recorded and open it again. A file is sealed as age does it, so
// that age(1) opens it, and any part of it by itself; what is on its way there, in the
// spool, is sealed record by record with a key of its tape, which an age file in the
// tape's beginning holds. nil: nothing is sealed, and nothing that was is opened.
type Keys struct {
	recipients []age.Recipient
	identities []age.Identity
}

// ReadKeys reads whom recordings are sealed to (age1…) and the file with the secret
// keys that open them, those of former years too. Both or none: nil is none. One of
// the secret keys must open what is sealed now.
func ReadKeys(recipients []string, path string) (*Keys, error) {
	switch {
	case len(recipients) == 0 && path == "":
		return nil, nil
	case path == "":
		return nil, errors.New("recipients without identities: nobody could hear what is recorded")
	case len(recipients) == 0:
		return nil, errors.New("identities without recipients: what is recorded would not be encrypted")
	}
	k := &Keys{}
	for i, text := range recipients {
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(r) != 1 { // its text may be a secret key, by mistake
			return nil, fmt.Errorf("recipients: number %d is not a public key like age1…", i+1)
		}
		k.recipients = append(k.recipients, r[0])
	}
	var err error
	if k.identities, err = readIdentities(path); err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	wrapped, _, err := k.newTape()
	if err != nil {
		return nil, fmt.Errorf("recipients: %w", err)
	}
	if _, err := k.openTape(wrapped); err != nil {
		return nil, fmt.Errorf("identities: none in %s opens what is encrypted to recipients", path)
	}
	return k, nil
}

func readIdentities(path string) ([]age.Identity, error) {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular() || st.Size() > keyFileMost:
		return nil, fmt.Errorf("%s is no file of keys", path)
	case st.Mode()&0o007 != 0:
		return nil, fmt.Errorf("%s may be read or changed by everybody: chmod 600, or 640 for the server's group", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil { // what age says may hold a part of the key
		return nil, fmt.Errorf("%s is not what age-keygen writes: lines AGE-SECRET-KEY-…, comments with #", path)
	}
	return list, nil
}

// Seal says that what is recorded from now on is sealed, before the first recording
// and before Recover. nil: it is not.
func (a *Archive) Seal(k *Keys) { a.keys = k }

// Sealing tells to how many keys recordings are sealed; 0: they are in clear.
func (k *Keys) Sealing() int {
	if k == nil {
		return 0
	}
	return len(k.recipients)
}

// seal writes to w what fill writes, sealed if there are keys.
func (k *Keys) seal(w io.Writer, fill func(io.Writer) error) error {
	if k == nil {
		return fill(w)
	}
	sealed, err := age.Encrypt(w, k.recipients...)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if err := fill(sealed); err != nil {
		return err
	}
	return sealed.Close()
}

// open opens a sealed file of so many bytes: what is read is what was written, or an
// error. The end is looked at first, so that a file that was cut is none.
func (k *Keys) open(f io.ReaderAt, size int64) (*io.SectionReader, error) {
	if k == nil {
		return nil, ErrLocked
	}
	r, n, err := age.DecryptReaderAt(f, size, k.identities...)
	if err != nil {
		return nil, whyShut(err)
	}
	return io.NewSectionReader(r, 0, n), nil
}

// whyShut tells a key that we have not from a file that is damaged.
func whyShut(err error) error {
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return ErrLocked
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// newTape makes a tape's key, and the age file that holds it.
func (k *Keys) newTape() (wrapped []byte, seal cipher.AEAD, err error) {
	key := make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(key) // does not fail: the process would end
	var b bytes.Buffer
	err = k.seal(&b, func(w io.Writer) error { _, err := w.Write(key); return err })
	if err != nil {
		return nil, nil, err
	}
	seal, err = chacha20poly1305.New(key)
	return b.Bytes(), seal, err
}

// openTape is its inverse.
func (k *Keys) openTape(wrapped []byte) (cipher.AEAD, error) {
	r, err := k.open(bytes.NewReader(wrapped), int64(len(wrapped)))
	if err != nil {
		return nil, err
	}
	key, err := io.ReadAll(io.LimitReader(r, chacha20poly1305.KeySize+1))
	if err != nil {
		return nil, whyShut(err)
	}
	seal, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, whyShut(err)
	}
	return seal, nil
}

// nonce is a record's in its tape: its place. A key has one tape and a place one
// sound: what a failing disk makes us write again are the same bytes, and a tape that
// a crash cut off is not gone on with.
func nonce(at uint64) []byte {
	return binary.LittleEndian.AppendUint64(make([]byte, chacha20poly1305.NonceSize-8, chacha20poly1305.NonceSize), at)
}

// sealedSound is a sealed file while somebody listens.
type sealedSound struct {
	*io.SectionReader
	f   *os.File
	log *slog.Logger
}

// Read implements io.Reader. Who listens sees only that the sound breaks off.
func (s sealedSound) Read(p []byte) (int, error) {
	n, err := s.SectionReader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.log.Error("a recording is damaged", "file", s.f.Name(), "err", err)
	}
	return n, err
}

// Close implements io.Closer.
func (s sealedSound) Close() error { return s.f.Close() }

// openFile opens a recording's file as it was before it was sealed, if it was.
func (a *Archive) openFile(path string) (io.ReadSeekCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(path, sealedExt) {
		return f, nil
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	sound, err := a.keys.open(f, st.Size())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return sealedSound{sound, f, a.log}, nil
}
