package prompts

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// Choice is one line of a menu.
type Choice struct {
	Key  rune   // '0'…'9', '*' or '#'
	Code string // of the topic, as in topics.code
	Name string // of the topic, as an operator reads it
}

// Menu asks for a topic: "Per i certificati telematici, prema due." and so on, in
// the order given. A topic without a clip of its own (menu_ and its code) is called
// by its key. Without choices there is nothing to hear.
func (l *Library) Menu(choices []Choice) audio.Clip {
	if len(choices) == 0 {
		return audio.Clip{Name: MenuIs}
	}
	s := sentence{from: l}
	s.say(MenuIs)
	s.stop()
	for _, c := range choices {
		key, ok := spoken(c.Key)
		if !ok {
			continue // nothing that a telephone can press
		}
		if topic := OfTopic(c.Code); l.has(topic) {
			s.say(topic)
		} else {
			s.say("menu_argomento", key)
			s.comma()
			s.say("prema")
		}
		s.say(key)
		s.stop()
	}
	return s.clip(MenuIs)
}

// spoken is the clip of a key or of a character of a number.
func spoken(r rune) (name string, ok bool) {
	switch {
	case r >= '0' && r <= '9':
		return numbers[r-'0'], true
	case r == '*':
		return "asterisco", true
	case r == '#':
		return "cancelletto", true
	case r == '-':
		return "trattino", true
	}
	return "", false
}

// longestNumber is how many characters of a ticket's number are read: a year, a
// hyphen and more tickets than a year has seconds.
const longestNumber = 16

// Number says a ticket's number clearly: "2026-123" is "duemilaventisei, trattino,
// uno, due, tre". A year from 2000 to 2059 is read as one; all else, also of a
// number of another form, character by character.
func (l *Library) Number(n string) audio.Clip {
	s := sentence{from: l}
	s.say(TicketIs)
	s.colon()
	s.number(n)
	s.stop()
	return s.clip("numero " + n)
}

// number says a ticket's number.
func (s *sentence) number(n string) {
	rest := n[:min(len(n), longestNumber)]
	year, serial, cut := strings.Cut(rest, "-")
	if y, err := strconv.Atoi(year); cut && err == nil && len(year) == 4 && s.year(y) {
		s.comma()
		s.say("trattino")
		rest = serial
		if serial != "" {
			s.comma()
		}
	}
	first := true
	for _, r := range rest {
		name, ok := spoken(r)
		if !ok {
			continue
		}
		if !first {
			s.comma()
		}
		s.say(name)
		first = false
	}
}

// year says a year from 2000 to 2059 as one number; false, and nothing, for others.
func (s *sentence) year(y int) bool {
	if y < 2000 || y-2000 >= len(numbers) {
		return false
	}
	s.say("duemila")
	if y > 2000 {
		s.join(numbers[y-2000])
	}
	return true
}

// Request is a ticket as far as its state is told.
type Request struct {
	Number   string
	Received time.Time
	Taken    time.Time // zero: by nobody yet
	Closed   time.Time // zero: not yet
	Outcome  string    // as in tickets.outcome, once it is closed
}

// State says how a request stands, as somebody in Rome says it at the time now:
// "La richiesta duemilaventisei, trattino, uno, è stata presa in carico oggi alle
// ore nove e trenta. Un operatore se ne sta occupando."
func (l *Library) State(r Request, now time.Time) audio.Clip {
	s := sentence{from: l}
	s.say(StateIs)
	s.number(r.Number)
	s.comma()
	switch {
	case !r.Closed.IsZero():
		s.say("stato_chiusa")
		s.since(r.Closed, now)
		if outcome := outcomeIs + r.Outcome; r.Outcome != "" && l.has(outcome) {
			s.say(outcome)
		}
	case !r.Taken.IsZero():
		s.say("stato_in_carico")
		s.since(r.Taken, now)
		s.say("stato_in_corso")
	default:
		s.say("stato_ricevuta")
		s.since(r.Received, now)
		s.say("stato_in_attesa")
	}
	return s.clip("stato " + r.Number)
}

// since says when something happened, and ends the sentence.
func (s *sentence) since(at, now time.Time) {
	at, now = at.In(calendar.Rome()), now.In(calendar.Rome())
	switch {
	case sameDay(at, now):
		s.say("oggi")
	case sameDay(at, now.AddDate(0, 0, -1)):
		s.say("ieri")
	default:
		s.date(at)
		if at.Year() != now.Year() {
			s.year(at.Year())
		}
	}
	s.say("alle_ore")
	s.clock(at.Hour()*60 + at.Minute())
	s.stop()
}

// date says a weekday and the day: "sabato venti novembre".
func (s *sentence) date(at time.Time) {
	s.say(weekdays[(int(at.Weekday())+6)%7])
	if at.Day() == 1 {
		s.say("primo")
	} else {
		s.say(numbers[at.Day()])
	}
	s.say(months[at.Month()-1])
}

// Place says where in the queue a caller stands, from 1, and how long it will
// probably take: "Lei è il terzo in coda. L'attesa prevista è di circa quattro
// minuti." A wait below zero is not known, and nothing is said of it.
func (l *Library) Place(position int, wait time.Duration) audio.Clip {
	s := sentence{from: l}
	switch {
	case position < 1:
	case position <= len(ordinals):
		s.say(PlaceIs, ordinals[position-1], "in_coda")
		s.stop()
	case position <= mostCounted+1: // so many are before the caller
		s.say(PlaceNumber, numbers[position], "in_coda")
		s.stop()
	default:
		s.say(ManyBefore)
		s.stop()
	}
	minutes := int(wait.Round(time.Minute) / time.Minute)
	switch {
	case wait < 0:
	case minutes < 1:
		s.say(ShortWait)
		s.stop()
	case minutes >= 60:
		s.say(LongWait)
		s.stop()
	case minutes == 1:
		s.say(WaitIs, "un_minuto")
		s.stop()
	default:
		s.say(WaitIs, numbers[minutes], "minuti")
		s.stop()
	}
	return s.clip("posto " + strconv.Itoa(position))
}

// mostCounted is how many callers before somebody are counted aloud.
const mostCounted = 50

// Offers says what a waiting caller may do: be called back, if that can be
// offered, or leave a message. Hundreds hear it at the same time, from one clip.
func (l *Library) Offers(callback bool) audio.Clip {
	now := l.now.Load()
	now.mu.Lock()
	defer now.mu.Unlock()
	if c, ok := now.offers[callback]; ok {
		return c
	}
	if now.offers == nil {
		now.offers = map[bool]audio.Clip{}
	}
	now.offers[callback] = l.newOffers(callback)
	return now.offers[callback]
}

func (l *Library) newOffers(callback bool) audio.Clip {
	s := sentence{from: l}
	if callback {
		s.say(OfferCall)
		s.stop()
	}
	s.say(OfferWord)
	s.stop()
	return s.clip("offerte")
}

// OpenRequest tells a caller of a request of theirs that is still open: "Ha una
// richiesta aperta, numero: duemilaventisei, trattino, uno, due; stato: presa in
// carico." The question JoinRequest may follow. status is a code of a ticket's status.
func (l *Library) OpenRequest(n, status string) audio.Clip {
	s := sentence{from: l}
	s.say(RequestIs)
	s.colon()
	s.number(n)
	s.semicolon()
	if status == "in_charge" {
		s.say("richiesta_presa")
	} else {
		s.say("richiesta_in_attesa")
	}
	s.stop()
	return s.clip("richiesta " + n)
}

// Hours says when a service answers, in groups of days with equal windows: "Il
// servizio è attivo dal lunedì al venerdì, dalle ore otto alle ore venti; il sabato,
// dalle ore otto alle ore tredici, esclusi i festivi." A service that never answers
// has nothing to say: a clip without sound.
func (l *Library) Hours(h calendar.Hours) audio.Clip {
	groups := group(h)
	everyDay := len(groups) == 1 && len(groups[0].days) == 7
	allDay := everyDay && slices.Equal(groups[0].spans, []calendar.Span{{Open: 0, Close: dayEnd}})
	s := sentence{from: l}
	switch {
	case h.Always || allDay && h.OpenHolidays:
		s.say(ServiceIs, "tutti_i_giorni")
		s.comma()
		s.say("tutto_il_giorno")
		s.stop()
		return s.clip("orari")
	case len(groups) == 0:
		return audio.Clip{Name: "orari"}
	}
	s.say(ServiceIs)
	for i, g := range groups {
		if i > 0 {
			s.semicolon()
		}
		s.days(g.days)
		s.comma()
		s.windows(g.spans)
	}
	s.comma()
	if h.OpenHolidays {
		s.say("festivi_compresi")
	} else {
		s.say("esclusi_festivi")
	}
	s.stop()
	return s.clip("orari")
}

// dayEnd is 24:00 in minutes.
const dayEnd = 24 * 60

// days says a group of days: all of them, a row of three or more, or one by one.
// They are numbers from 0, Monday, to 6, Sunday, in order.
func (s *sentence) days(days []int) {
	last := len(days) - 1
	switch {
	case len(days) == 7:
		s.say("tutti_i_giorni")
	case len(days) > 2 && days[last]-days[0] == last:
		s.say(from[days[0]]+weekdays[days[0]], to[days[last]]+weekdays[days[last]])
	default:
		for i, d := range days {
			switch {
			case i == 0:
			case i == last:
				s.say("e")
			default:
				s.comma()
			}
			s.say(the[d] + weekdays[d])
		}
	}
}

// windows says when a day is open.
func (s *sentence) windows(spans []calendar.Span) {
	for i, w := range spans {
		switch {
		case i == 0:
		case i == len(spans)-1:
			s.say("e")
		default:
			s.comma()
		}
		if w.Open == 0 && w.Close == dayEnd {
			s.say("tutto_il_giorno")
			continue
		}
		s.say("dalle_ore")
		s.clock(w.Open)
		s.say("alle_ore")
		s.clock(w.Close)
	}
}

// clock says a time of the day, in minutes: "otto", "una e trenta", "ventiquattro".
func (s *sentence) clock(minutes int) {
	hour, minute := minutes/60, minutes%60
	if hour == 1 {
		s.say("una")
	} else {
		s.say(numbers[hour])
	}
	if minute > 0 {
		s.say("e", numbers[minute])
	}
}

// days with the same windows, and those windows, in order and without overlap.
type dayGroup struct {
	days  []int // 0 is Monday
	spans []calendar.Span
}

// group gathers the open days of a week by their windows, in the order of their
// first days.
func group(h calendar.Hours) (groups []dayGroup) {
	for day := range 7 {
		spans := tidy(h.Week[(day+1)%7]) // the week begins on Monday, Go's on Sunday
		if len(spans) == 0 {
			continue
		}
		i := slices.IndexFunc(groups, func(g dayGroup) bool { return slices.Equal(g.spans, spans) })
		if i < 0 {
			groups = append(groups, dayGroup{spans: spans})
			i = len(groups) - 1
		}
		groups[i].days = append(groups[i].days, day)
	}
	return groups
}

// tidy puts windows in order, joins those that touch or overlap, and drops what
// is none.
func tidy(spans []calendar.Span) (tidied []calendar.Span) {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b calendar.Span) int { return cmp.Compare(a.Open, b.Open) })
	for _, w := range sorted {
		w.Open, w.Close = max(0, w.Open), min(dayEnd, w.Close)
		last := len(tidied) - 1
		switch {
		case w.Open >= w.Close:
		case last >= 0 && w.Open <= tidied[last].Close:
			tidied[last].Close = max(tidied[last].Close, w.Close)
		default:
			tidied = append(tidied, w)
		}
	}
	return tidied
}

// Reopens says when a closed service answers again, as somebody in Rome says it at
// the time now: "Riaprirà oggi alle ore quattordici.", "domani", or the weekday and
// the date. A zero next (never) has nothing to say: a clip without sound.
func (l *Library) Reopens(next, now time.Time) audio.Clip {
	if next.IsZero() {
		return audio.Clip{Name: "riapre"}
	}
	next, now = next.In(calendar.Rome()), now.In(calendar.Rome())
	s := sentence{from: l}
	s.say(ReopensIs)
	switch {
	case sameDay(next, now):
		s.say("oggi")
	case sameDay(next, now.AddDate(0, 0, 1)):
		s.say("domani")
	default:
		s.date(next)
	}
	s.say("alle_ore")
	s.clock(next.Hour()*60 + next.Minute())
	s.stop()
	return s.clip("riapre")
}

func sameDay(a, b time.Time) bool {
	ay, am, ad := a.Date()
	by, bm, bd := b.Date()
	return ay == by && am == bm && ad == bd
}

// Names of the clips of weekdays, from Monday, and of what stands before them:
// "il lunedì", "la domenica"; "dal lunedì alla domenica".
var (
	weekdays = [7]string{"lunedi", "martedi", "mercoledi", "giovedi", "venerdi", "sabato", "domenica"}
	the      = [7]string{"il_", "il_", "il_", "il_", "il_", "il_", "la_"}
	from     = [7]string{"dal_", "dal_", "dal_", "dal_", "dal_", "dal_", "dalla_"}
	to       = [7]string{"al_", "al_", "al_", "al_", "al_", "al_", "alla_"}
)

// Names of the clips of months.
var months = [12]string{"gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre"}

// ordinals are the names of the clips of "first" to "tenth".
var ordinals = [10]string{"primo", "secondo", "terzo", "quarto", "quinto", "sesto", "settimo", "ottavo", "nono", "decimo"}

// numbers are the names of the clips of 0 to 59.
var numbers = [60]string{
	"zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove",
	"dieci", "undici", "dodici", "tredici", "quattordici", "quindici", "sedici", "diciassette", "diciotto", "diciannove",
	"venti", "ventuno", "ventidue", "ventitre", "ventiquattro", "venticinque", "ventisei", "ventisette", "ventotto", "ventinove",
	"trenta", "trentuno", "trentadue", "trentatre", "trentaquattro", "trentacinque", "trentasei", "trentasette", "trentotto", "trentanove",
	"quaranta", "quarantuno", "quarantadue", "quarantatre", "quarantaquattro", "quarantacinque", "quarantasei", "quarantasette", "quarantotto", "quarantanove",
	"cinquanta", "cinquantuno", "cinquantadue", "cinquantatre", "cinquantaquattro", "cinquantacinque", "cinquantasei", "cinquantasette", "cinquantotto", "cinquantanove",
}
