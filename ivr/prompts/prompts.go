// Package prompts is what callers hear: one sound and its spoken text per
// prompt, embedded, and the sentences put together from them.
//
// make.sh makes the sounds from the table it.tsv; they are committed.
package prompts

import (
	"embed"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pronto-desk/pronto/sip/audio"
)

// Names of clips that are played as they are.
const (
	Welcome   = "benvenuto"
	NotHeard  = "non_capito"
	Urgent    = "urgenza"
	Waiting   = "attesa"        // after the ticket's number
	StillHere = "ancora_attesa" // later in the queue
	Connected = "operatore"     // an operator is about to speak
	Nobody    = "nessun_operatore"
	Music     = "musica" // loops
	Closed    = "chiuso"
	LeaveWord = "lasci_messaggio" // the beep follows
	Beep      = "beep"
	WordTaken = "messaggio_registrato"
	WordCut   = "messaggio_interrotto" // the disk filled up meanwhile
	NoWord    = "messaggio_vuoto"
	NoRoom    = "segreteria_piena" // the hours follow
	Fault     = "guasto"           // the courtesy while the database is away
	Goodbye   = "arrivederci"
	NoMobiles = "rifiuto_mobile"       // the number is not for calls from mobile networks
	Recorded  = "avviso_registrazione" // the call may be recorded
	Emergency = "emergenza"            // unless a supervisor names another
	Ringing   = "libero"               // loops: what an operator hears while somebody is rung back
	Engaged   = "occupato"             // loops: they were not reached

	DutyOffer = "reperibile_offerta"  // asks whether it is an emergency, while the service is closed
	DutyCall  = "reperibile_chiamata" // who is on duty is being rung
	DutyAway  = "reperibile_assente"  // and takes no call
	DutyTake  = "reperibile_accetta"  // asks who is on duty to take the call

	StateNumber    = "stato_digiti"    // asks for a request's number
	StateAgain     = "stato_riprovi"   // asks once more, whatever was wrong
	StateColleague = "stato_collega"   // the one sentence of whoever is told nothing
	StateOperator  = "stato_operatore" // after the state

	WillCall   = "richiamata_prenotata"   // the callback is booked
	CannotCall = "richiamata_impossibile" // a withheld number cannot be called back
	TooLong    = "attesa_massima"         // the longest wait is over
	Closing    = "chiusura"               // the service closes while somebody waits
	CallJoined = "chiamata_unita"         // the call belongs to an open request now
)

// Names of clips that begin sentences; see Menu, Number, State, Hours, Reopens,
// Place, Offers and OpenRequest.
const (
	MenuIs      = "menu"
	TicketIs    = "numero_pratica"
	ServiceIs   = "servizio_attivo"
	ReopensIs   = "riaprira"
	StateIs     = "stato_richiesta"
	PlaceIs     = "lei_e_il"
	PlaceNumber = "lei_e_il_numero"
	ManyBefore  = "coda_lunga" // more than can be counted aloud
	WaitIs      = "attesa_prevista"
	ShortWait   = "attesa_breve"
	LongWait    = "attesa_oltre"
	OfferCall   = "offerta_richiamata"
	OfferWord   = "offerta_messaggio"
	RequestIs   = "richiesta_aperta"
	JoinRequest = "unisci_richiesta"
	topicPrefix = "menu_"  // and the topic's code
	outcomeIs   = "esito_" // and the outcome's code
)

// ChoiceState is the code of the menu's choice that is no topic: the state of a
// request.
const ChoiceState = "stato"

// loops are the clips that sound until they are stopped.
var loops = map[string]bool{Music: true, Ringing: true, Engaged: true}

// Library is a set of clips by name. It is safe for use by many calls at once,
// also while clips are replaced: what sounds already sounds on.
type Library struct {
	base     map[string]audio.Clip // as the program brings them
	now      atomic.Pointer[set]
	replaced atomic.Int64 // how often
}

// set is the clips of a moment.
type set struct {
	edition int64
	clips   map[string]audio.Clip

	mu     sync.Mutex          // guards offers
	offers map[bool]audio.Clip // put together when they are first wanted
}

//go:embed it/*.al it/*.txt
var italian embed.FS

// Italian returns the embedded Italian clips.
func Italian() *Library {
	clips := map[string]audio.Clip{}
	files, err := fs.Glob(italian, "it/*.al")
	if err != nil {
		panic(err) // cannot happen: the pattern is a constant
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".al")
		clips[name] = audio.Clip{
			Name: name,
			ALaw: mustRead(file),
			Text: strings.TrimSpace(string(mustRead("it/" + name + ".txt"))),
			Loop: loops[name],
		}
	}
	return New(clips)
}

// OfTopic is the name of the clip that names a topic in a menu.
func OfTopic(code string) string { return topicPrefix + code }

// Embedded tells whether a clip of this name comes with the program.
func Embedded(name string) bool {
	_, err := fs.Stat(italian, "it/"+name+".al")
	return err == nil
}

func mustRead(file string) []byte {
	b, err := italian.ReadFile(file)
	if err != nil {
		panic(err) // a sound without its words is not embedded by a build whose tests passed
	}
	return b
}

// New returns a library of the given clips, which it keeps; for tests and for
// prompts that a customer has spoken.
func New(clips map[string]audio.Clip) *Library {
	l := &Library{base: clips}
	l.now.Store(&set{clips: clips})
	return l
}

// Replace puts clips in the place of those of the same name, or beside them.
// What an earlier Replace had put is as the program brings it, unless it is put
// again.
func (l *Library) Replace(with map[string]audio.Clip) {
	clips := maps.Clone(l.base)
	maps.Copy(clips, with)
	l.now.Store(&set{edition: l.replaced.Add(1), clips: clips})
}

// Edition changes whenever clips are replaced: what was put together in another
// edition may be old.
func (l *Library) Edition() int64 { return l.now.Load().edition }

// Names are the names of all clips, sorted.
func (l *Library) Names() []string { return slices.Sorted(maps.Keys(l.now.Load().clips)) }

// Clip returns the clip of a name. A caller in a call is better served by a short
// tone than by the end of the call: that is what an unknown name gives, without
// text, and a line in the log.
func (l *Library) Clip(name string) audio.Clip {
	if c, ok := l.now.Load().clips[name]; ok {
		return c
	}
	slog.Error("a prompt is missing", "prompt", name)
	return audio.Clip{Name: name, ALaw: audio.Tone(425, 200, -20)} // 425 Hz: the tone of Italian exchanges
}

// Or returns the clip of a name, or another one where there is none of it.
func (l *Library) Or(name, instead string) audio.Clip {
	if !l.has(name) {
		name = instead
	}
	return l.Clip(name)
}

// has says whether there is a clip of this name.
func (l *Library) has(name string) bool { _, ok := l.now.Load().clips[name]; return ok }

// Pauses of spoken punctuation, in milliseconds; whole frames.
const (
	shortPause = 160 // a comma
	longPause  = 320 // a full stop, a colon, a semicolon
)

// sentence is a clip being put together: words one after the other, with the
// pauses and the text of their punctuation.
type sentence struct {
	from  *Library
	parts []audio.Clip
	text  strings.Builder
}

// say adds clips by name.
func (s *sentence) say(names ...string) {
	for _, name := range names {
		s.add(name, " ")
	}
}

// join adds a clip that continues the word before it.
func (s *sentence) join(name string) { s.add(name, "") }

func (s *sentence) add(name, gap string) {
	clip := s.from.Clip(name)
	s.parts = append(s.parts, clip)
	if clip.Text == "" {
		return
	}
	if s.text.Len() > 0 {
		s.text.WriteString(gap)
	}
	s.text.WriteString(clip.Text)
}

// comma, colon, semicolon and stop are punctuation: a pause, and a mark in the text.
func (s *sentence) comma()     { s.pause(",", shortPause) }
func (s *sentence) colon()     { s.pause(":", longPause) }
func (s *sentence) semicolon() { s.pause(";", longPause) }
func (s *sentence) stop()      { s.pause(".", longPause) }

func (s *sentence) pause(mark string, ms int) {
	s.parts = append(s.parts, audio.Clip{ALaw: audio.Silence(ms)})
	if s.text.Len() > 0 && !strings.HasSuffix(s.text.String(), mark) {
		s.text.WriteString(mark)
	}
}

// clip is what was put together.
func (s *sentence) clip(name string) audio.Clip {
	c := audio.Join(name, s.parts...)
	c.Text = s.text.String()
	return c
}
