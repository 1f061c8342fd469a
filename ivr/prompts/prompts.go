// Package prompts is what callers hear: one sound and its spoken text per
// prompt, embedded, and the sentences put together from them.
package prompts

import (
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// Library is a set of clips by name.
type Library struct{ clips map[string]audio.Clip }

// Choice is one line of a menu.
type Choice struct {
	Key  rune   // '0'…'9'
	Code string // of the topic, as in topics.code
	Name string // of the topic, as an operator reads it
}

// Names of clips.
const (
	Welcome   = "benvenuto"
	NotHeard  = "non_capito"
	Urgent    = "urgenza"
	Waiting   = "attesa"
	Music     = "musica"
	Closed    = "chiuso"
	LeaveWord = "lasci_messaggio"
	Beep      = "beep"
	Fault     = "guasto"
	Goodbye   = "arrivederci"
	TicketIs  = "numero_pratica"
	WordTaken = "messaggio_registrato"
)

// Italian returns the embedded Italian clips.
func Italian() *Library { return New(nil) }

// New returns a library of the given clips, for tests.
func New(clips map[string]audio.Clip) *Library { return &Library{clips: clips} }

// Clip returns the clip of a name.
func (l *Library) Clip(name string) audio.Clip { return l.clips[name] }

// Menu asks for a topic.
func (l *Library) Menu(choices []Choice) audio.Clip { return audio.Clip{Name: "menu"} }

// Number says a ticket's number.
func (l *Library) Number(n string) audio.Clip { return audio.Clip{Name: "numero " + n} }

// Hours says when a service answers.
func (l *Library) Hours(h calendar.Hours) audio.Clip { return audio.Clip{Name: "orari"} }

// Reopens says when a service answers again.
func (l *Library) Reopens(next, now time.Time) audio.Clip { return audio.Clip{Name: "riapre"} }
