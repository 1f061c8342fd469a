package prompts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/sip/audio"
)

// Limits of what a customer has spoken.
const (
	// LargestFile is that of an uploaded file, in bytes: two minutes of the best
	// a studio gives, forty of A-law.
	LargestFile = 20 << 20
	// TextLongest is that of the words, in characters.
	TextLongest = 1000

	longestClip  = 3 * time.Minute  // nobody listens to more
	longestLoop  = 10 * time.Minute // of music
	quietest     = -55.0            // dBFS: half a second of a quiet voice in three minutes of nothing is above it
	ownMost      = 50               // clips of names of one's own: all are in memory
	loadAgain    = time.Second      // after the database was away
	loadLongest  = 20 * time.Second
	secondsInMin = 60
)

// topicPrompts is woken when clips were replaced.
const topicPrompts = "prompts"

// Kinds of the desk's journal.
const (
	replaced journal.Kind = "prompt_replaced"
	restored journal.Kind = "prompt_restored" // to what comes with the program
)

// Refused is an upload that cannot be used. Reason is Italian; Field says what
// it is about, "" when it is the state of things.
type Refused struct{ Field, Reason string }

func (r *Refused) Error() string { return r.Field + ": " + r.Reason }

// Store keeps what a customer has spoken, and puts it into the library of this
// node whenever it changes, on whichever node that was.
type Store struct {
	db      *db.DB
	lib     *Library
	changed *db.Subscription
	log     *slog.Logger
}

// NewStore keeps prompts in a database, over the clips of base.
func NewStore(d *db.DB, base *Library, log *slog.Logger) *Store {
	if log == nil {
		log = slog.Default()
	}
	return &Store{db: d, lib: New(base.base), changed: d.Wakeups.Subscribe(topicPrompts), log: log}
}

// Library is what callers hear: the clips of base, and over them what is kept.
func (s *Store) Library() *Library { return s.lib }

// Load reads all that is kept into the library.
func (s *Store) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadLongest)
	defer cancel()
	rows, err := s.db.Pool.Query(ctx, `select name, alaw, text from prompts`)
	if err != nil {
		return fmt.Errorf("read the prompts: %w", err)
	}
	clips := map[string]audio.Clip{}
	var c audio.Clip
	if _, err := pgx.ForEachRow(rows, []any{&c.Name, &c.ALaw, &c.Text}, func() error {
		c.Loop = loops[c.Name]
		clips[c.Name] = c
		c = audio.Clip{} // the octets of this one are in use
		return nil
	}); err != nil {
		return fmt.Errorf("read the prompts: %w", err)
	}
	s.lib.Replace(clips)
	return nil
}

// Run loads again whenever something changed, until ctx ends. While the database
// is away callers hear what was loaded last.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed.C():
		}
		for failed := false; ; failed = true {
			err := s.Load(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			if !failed { // one line for each absence
				s.log.Warn("replaced prompts cannot be read, the old ones sound on", "err", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(loadAgain):
			}
		}
	}
}

// Prompt is a clip as those who manage them see it.
type Prompt struct {
	Name     string     `json:"name"`
	Text     string     `json:"text"` // what is said
	LengthMS int64      `json:"length_ms"`
	Embedded bool       `json:"embedded"` // one comes with the program, to go back to
	Original string     `json:"original"` // what that says
	Replaced bool       `json:"replaced"` // a customer's own sounds
	Loops    bool       `json:"loops"`    // until it is stopped
	By       string     `json:"by"`       // who replaced it; "" for none
	At       *time.Time `json:"at"`       // when
}

// List is every clip that callers may hear, by name.
func (s *Store) List(ctx context.Context) ([]Prompt, error) {
	rows, err := s.db.Pool.Query(ctx, `select p.name, p.text, length(p.alaw), coalesce(u.display_name, ''), p.made_at from prompts p left join users u on u.id = p.made_by`)
	if err != nil {
		return nil, fmt.Errorf("list the prompts: %w", err)
	}
	all := map[string]Prompt{}
	for name, c := range s.lib.base {
		all[name] = Prompt{Name: name, Text: c.Text, Original: c.Text, LengthMS: c.Duration().Milliseconds(), Embedded: true, Loops: c.Loop}
	}
	var name, text, by string
	var octets int
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&name, &text, &octets, &by, &at}, func() error {
		all[name] = s.own(name, text, octets, by, at)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list the prompts: %w", err)
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Prompt) int { return strings.Compare(a.Name, b.Name) }), nil
}

// own is a row as it is shown.
func (s *Store) own(name, text string, octets int, by string, at time.Time) Prompt {
	base, embedded := s.lib.base[name]
	at = at.UTC()
	length := time.Duration(octets) * time.Second / audio.Rate
	return Prompt{Name: name, Text: text, Original: base.Text, LengthMS: length.Milliseconds(), Embedded: embedded, Replaced: true, Loops: loops[name], By: by, At: &at}
}

// Sound is a clip as callers hear it, or as it comes with the program; an error
// that wraps fs.ErrNotExist when there is none.
func (s *Store) Sound(ctx context.Context, name string, original bool) (c audio.Clip, at time.Time, err error) {
	if !original {
		err = s.db.Pool.QueryRow(ctx, `select name, alaw, text, made_at from prompts where name = $1`, name).Scan(&c.Name, &c.ALaw, &c.Text, &at)
		if err == nil {
			return c, at, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return c, at, fmt.Errorf("sound of %s: %w", name, err)
		}
	}
	c, ok := s.lib.base[name]
	if !ok {
		return c, at, fmt.Errorf("sound of %s: %w", name, fs.ErrNotExist)
	}
	return c, at, nil
}

// ownName is what a clip of one's own may be called; also what the program's are.
var ownName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// Put makes callers hear a WAV file in the place of a clip, or makes a clip of a
// new name of it. *Refused when it cannot be used; what sounded before stays.
func (s *Store) Put(ctx context.Context, name, text string, wav []byte, by int64, at time.Time) (p Prompt, err error) {
	if !ownName.MatchString(name) {
		return p, &Refused{"name", "Il nome comincia con una lettera e ha solo lettere minuscole senza accenti, cifre, - e _: al massimo 64."}
	}
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return p, &Refused{"text", "Scrivi che cosa si sente, parola per parola."}
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return p, &Refused{"text", "Il testo ha caratteri non ammessi: scrivilo su una riga."}
	case utf8.RuneCountInString(text) > TextLongest:
		return p, &Refused{"text", fmt.Sprintf("Il testo supera %d caratteri.", TextLongest)}
	}
	sound, err := readSound(name, wav)
	if err != nil {
		return p, err
	}
	var author string
	err = s.db.Tx(ctx, func(tx *db.Tx) error {
		if err := s.bounded(ctx, tx, name); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `insert into prompts (name, alaw, text, made_by, made_at) values (@name, @alaw, @text, @by, @at)
			on conflict (name) do update set alaw = excluded.alaw, text = excluded.text, made_by = excluded.made_by, made_at = excluded.made_at
			returning coalesce((select display_name from users where id = made_by), '')`,
			pgx.StrictNamedArgs{"name": name, "alaw": sound, "text": text, "by": by, "at": at}).Scan(&author); err != nil {
			return err
		}
		return note(ctx, tx, replaced, name, by, at)
	})
	if err != nil {
		return p, fmt.Errorf("replace prompt %s: %w", name, err)
	}
	return s.own(name, text, len(sound), author, at), nil
}

// bounded refuses one clip too many of names that the program does not have.
func (s *Store) bounded(ctx context.Context, tx *db.Tx, name string) error {
	if _, embedded := s.lib.base[name]; embedded {
		return nil
	}
	var others int
	if err := tx.QueryRow(ctx, `select count(*) from prompts where name <> @name and name <> all(@base)`,
		pgx.StrictNamedArgs{"name": name, "base": slices.Collect(maps.Keys(s.lib.base))}).Scan(&others); err != nil {
		return err
	}
	if others >= ownMost {
		return &Refused{"name", fmt.Sprintf("Ci sono già %d messaggi aggiunti: eliminane uno che non serve più.", ownMost)}
	}
	return nil
}

// Remove lets callers hear again what comes with the program; a clip of a name of
// one's own is gone. *Refused when it was not replaced, or is being announced; an
// error that wraps fs.ErrNotExist when there is none of this name.
func (s *Store) Remove(ctx context.Context, name string, by int64, at time.Time) error {
	_, embedded := s.lib.base[name]
	err := s.db.Tx(ctx, func(tx *db.Tx) error {
		var announced bool
		if err := tx.QueryRow(ctx, `select exists (select from emergencies where clip = @name and (until is null or until > @at))`,
			pgx.StrictNamedArgs{"name": name, "at": at}).Scan(&announced); err != nil {
			return err
		}
		if announced && !embedded {
			return &Refused{"", "È l'annuncio di emergenza attivo: prima toglilo o mettine un altro."}
		}
		gone, err := tx.Exec(ctx, `delete from prompts where name = $1`, name)
		switch {
		case err != nil:
			return err
		case gone.RowsAffected() == 0 && !embedded:
			return fs.ErrNotExist
		case gone.RowsAffected() == 0:
			return &Refused{"", "Questo messaggio non è stato sostituito."}
		}
		return note(ctx, tx, restored, name, by, at)
	})
	if err != nil {
		return fmt.Errorf("restore prompt %s: %w", name, err)
	}
	return nil
}

// note writes a line of the desk's journal and has every node load again. A
// prompt's name is a code: it names no person.
func note(ctx context.Context, tx *db.Tx, kind journal.Kind, name string, by int64, at time.Time) error {
	tx.Wake(topicPrompts, "journal")
	return journal.Append(ctx, tx, journal.Line{Stream: journal.DeskStream, At: at, Kind: kind, User: by, Data: map[string]any{"prompt": name}})
}

// Exists tells whether there is a clip of this name: embedded, or kept.
func Exists(ctx context.Context, q journal.Querier, name string) (bool, error) {
	if Embedded(name) {
		return true, nil
	}
	var kept bool
	err := q.QueryRow(ctx, `select exists (select from prompts where name = $1)`, name).Scan(&kept)
	return kept, err
}

// readSound is the sound of a WAV file as callers hear it, in whole frames.
func readSound(name string, wav []byte) ([]byte, error) {
	switch {
	case len(wav) == 0:
		return nil, &Refused{"file", "Il file è vuoto."}
	case len(wav) > LargestFile:
		return nil, &Refused{"file", fmt.Sprintf("Il file supera %d MB.", LargestFile>>20)}
	case !bytes.HasPrefix(wav, []byte("RIFF")):
		return nil, &Refused{"file", "Il file non è un WAV: esportalo come WAV (PCM a 16 bit) e riprova."}
	}
	sound, err := audio.ReadWholeWAV(bytes.NewReader(wav))
	if err != nil {
		return nil, &Refused{"file", "Questo WAV non si può usare: è rovinato, incompleto o di un tipo che il banco non legge. Va bene PCM a 8 o 16 bit, A-law o µ-law, mono o stereo, da 4 a 48 kHz."}
	}
	c := audio.Clip{ALaw: sound}
	longest := longestClip
	if loops[name] {
		longest = longestLoop
	}
	switch d := c.Duration(); {
	case len(sound) == 0:
		return nil, &Refused{"file", "Il file non contiene suono."}
	case d > longest:
		return nil, &Refused{"file", fmt.Sprintf("Dura %s: al massimo %s.", clock(d), clock(longest))}
	case audio.Level(sound) < quietest:
		return nil, &Refused{"file", "Nel file non si sente niente: è silenzio, o quasi."}
	}
	for len(sound)%audio.FrameBytes != 0 { // whole frames join without a click
		sound = append(sound, audio.ALaw(0))
	}
	return sound, nil
}

// clock is a length as people write it: 3:05.
func clock(d time.Duration) string {
	s := int((d + time.Second - 1) / time.Second)
	return fmt.Sprintf("%d:%02d", s/secondsInMin, s%secondsInMin)
}
