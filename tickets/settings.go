package tickets

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

// What a service does with those who wait when it closes.
const (
	AtClosingServe    = "serve"    // they are served
	AtClosingCallback = "callback" // they are offered to be called back
)

// What a key of a menu does.
const (
	ActionTopic = "topic" // the caller's matter is of the item's topic
	ActionState = "state" // the caller hears the state of a request, by its number
)

// What settings hold that say nothing else, and what they may hold.
const (
	maxWaitUsual  = 15 * time.Minute // a caller who has waited so long is better called back
	maxWaitLeast  = time.Minute
	maxWaitMost   = 2 * time.Hour
	nobodyUsual   = 30 * time.Second // somebody who comes back from a break is found; more is a wait for nothing
	announceUsual = 30 * time.Second // often enough to be believed, seldom enough to be borne
	announceLeast = 15 * time.Second // the sentence itself lasts eight
	announceMost  = 10 * time.Minute

	nameLongest    = 100 // characters
	noteLongest    = 200 // characters
	serviceNumbers = 20  // of one service
	windowsMost    = 70  // of a week: ten a day
	dayWindowsMost = 10
	periodsMost    = 200 // a year of exceptional days, nearly one by one
	periodLongest  = 366 // days of one period
	wholeDaysUsual = 20  // 24-hour days a year that contracts know (B3)
	dutyNumbers    = 3   // who has rung three in vain leaves a message

	keepUsual        = 30   // days of a recorded talk: long enough to settle what was said, short enough to be proportionate
	keepMost         = 3650 // days
	agreementLongest = 200  // characters
)

// Settings are what a service is set to, as people write it: one document for
// each version. A draft may hold anything; what is wrong with it says Check.
type Settings struct {
	Name            string        `json:"name"`
	Numbers         []string      `json:"numbers"` // the first is the one shown
	Hours           HoursSettings `json:"hours"`
	Menu            []MenuSetting `json:"menu"`
	MobilesRefused  bool          `json:"mobiles_refused"`
	RecordingNotice bool          `json:"recording_notice"`
	MaxWait         int           `json:"max_wait"`         // seconds; 0: the usual
	NobodyWait      int           `json:"nobody_wait"`      // seconds while nobody is signed in; 0: the usual
	AtClosing       string        `json:"at_closing"`       // "": serve
	AnnounceEvery   int           `json:"announce_every"`   // seconds; 0: the usual
	CallbackOffered *bool         `json:"callback_offered"` // null: yes
	Duty            DutySetting   `json:"duty"`

	RecordCalls        bool   `json:"record_calls" required:"false"`        // talks with operators are recorded
	RecordingAgreement string `json:"recording_agreement" required:"false"` // what allows it: the unions' agreement, or the labour inspectorate's permission
	RecordingDays      int    `json:"recording_days" required:"false"`      // how long they are kept; 0: the usual

	SuperviseCalls       bool   `json:"supervise_calls" required:"false"`       // supervisors may take part in talks
	SupervisionAgreement string `json:"supervision_agreement" required:"false"` // what allows it
}

// HoursSettings are opening hours as people write them.
type HoursSettings struct {
	Always       bool            `json:"always"`
	OpenHolidays bool            `json:"open_holidays"`
	Patron       string          `json:"patron"` // MM-DD, "" for none
	Week         []WeekSetting   `json:"week"`
	Exceptional  []PeriodSetting `json:"exceptional"`
}

// WeekSetting is a window of every week.
type WeekSetting struct {
	Weekday int    `json:"weekday"` // ISO 8601: Monday is 1, Sunday 7
	Opens   string `json:"opens"`   // HH:MM
	Closes  string `json:"closes"`  // HH:MM, up to 24:00
}

// PeriodSetting is a run of exceptional days, both ends included. Without windows
// the service is closed; 00:00 to 24:00 is a 24-hour day.
type PeriodSetting struct {
	First   string          `json:"first"` // YYYY-MM-DD
	Last    string          `json:"last"`  // "": First
	Windows []WindowSetting `json:"windows"`
	Note    string          `json:"note"` // why, for those who read the list
}

// WindowSetting is a window of one day.
type WindowSetting struct {
	Opens  string `json:"opens"`
	Closes string `json:"closes"`
}

// DutySetting is who is rung for an emergency while the service is closed (A12).
type DutySetting struct {
	Numbers []string `json:"numbers"` // in the order in which they are rung; none: nobody is on duty
	From    string   `json:"from"`    // HH:MM; "" with To: whenever the service is closed
	To      string   `json:"to"`      // HH:MM, of the day after when it is not later than From
}

// MenuSetting is one key of the menu.
type MenuSetting struct {
	Key     string `json:"key"`    // 1 … 9
	Action  string `json:"action"` // "": topic
	Topic   string `json:"topic"`  // the topic's code
	Default bool   `json:"default"`
}

// Fault is what is wrong with settings: the field by its path in the document,
// the place as a person finds it, and why. A warning does not forbid to publish.
type Fault struct {
	Field   string `json:"field"`
	Place   string `json:"place"`
	Reason  string `json:"reason"`
	Warning bool   `json:"warning"`
}

// faults are gathered while settings are read: all of them, not the first.
type faults []Fault

func (f *faults) add(field, place, reason string, args ...any) {
	*f = append(*f, Fault{Field: field, Place: place, Reason: fmt.Sprintf(reason, args...)})
}

func (f *faults) warn(field, place, reason string, args ...any) {
	*f = append(*f, Fault{Field: field, Place: place, Reason: fmt.Sprintf(reason, args...), Warning: true})
}

// blocking says whether one of them forbids to publish.
func (f faults) blocking() bool {
	return slices.ContainsFunc(f, func(f Fault) bool { return !f.Warning })
}

// Places as the screens call them.
const (
	placeService = "Servizio"
	placeNumbers = "Numeri"
	placeHours   = "Orari"
	placeWeek    = "Orario settimanale"
	placeDays    = "Giorni eccezionali"
	placeMenu    = "Menu"
	placeQueue   = "Attesa"
	placeDuty    = "Reperibilità"
	placeRecord  = "Registrazione"
	placeListen  = "Ascolto"
)

// weekdayNames are the days by time.Weekday.
var weekdayNames = [daysPerWeek]string{"domenica", "lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato"}

// filled is s with what was left out, so that one reads everything that holds.
func (s Settings) filled() Settings {
	s.Name = strings.TrimSpace(s.Name)
	s.Numbers, s.Menu, s.Duty.Numbers = slices.Clone(orEmpty(s.Numbers)), slices.Clone(orEmpty(s.Menu)), slices.Clone(orEmpty(s.Duty.Numbers))
	for _, numbers := range [2][]string{s.Numbers, s.Duty.Numbers} {
		for i, n := range numbers {
			if normal := Normalise(n); normal != "" { // what is no number stays, to be told of
				numbers[i] = normal
			}
		}
	}
	for i := range s.Menu {
		if s.Menu[i].Action == "" {
			s.Menu[i].Action = ActionTopic
		}
	}
	s.Hours.Week, s.Hours.Exceptional = orEmpty(s.Hours.Week), slices.Clone(orEmpty(s.Hours.Exceptional))
	for i := range s.Hours.Exceptional {
		p := &s.Hours.Exceptional[i]
		p.Windows = orEmpty(p.Windows)
		if p.Last == "" {
			p.Last = p.First
		}
	}
	if s.MaxWait == 0 {
		s.MaxWait = int(maxWaitUsual / time.Second)
	}
	if s.NobodyWait == 0 {
		s.NobodyWait = int(nobodyUsual / time.Second)
	}
	if s.AtClosing == "" {
		s.AtClosing = AtClosingServe
	}
	if s.AnnounceEvery == 0 {
		s.AnnounceEvery = int(announceUsual / time.Second)
	}
	if s.CallbackOffered == nil {
		yes := true
		s.CallbackOffered = &yes
	}
	s.RecordingAgreement, s.SupervisionAgreement = strings.TrimSpace(s.RecordingAgreement), strings.TrimSpace(s.SupervisionAgreement)
	if s.RecordingDays == 0 {
		s.RecordingDays = keepUsual
	}
	return s
}

// service reads filled settings, with the topics by their codes; what cannot be
// used is left out and noted in f.
func (s Settings) service(topics map[string]Topic, f *faults) *Service {
	out := &Service{
		Name: s.Name, MobilesRefused: s.MobilesRefused, RecordingNotice: s.RecordingNotice,
		AtClosing: s.AtClosing, CallbackOffered: *s.CallbackOffered,
		MaxWait:       inRange(f, "max_wait", "L'attesa massima", s.MaxWait, maxWaitLeast, maxWaitMost),
		NobodyWait:    inRange(f, "nobody_wait", "L'attesa senza operatori", s.NobodyWait, announceLeast, maxWaitMost),
		AnnounceEvery: inRange(f, "announce_every", "L'intervallo degli annunci", s.AnnounceEvery, announceLeast, announceMost),
	}
	switch {
	case s.Name == "":
		f.add("name", placeService, "Il nome del servizio è obbligatorio.")
	case utf8.RuneCountInString(s.Name) > nameLongest:
		f.add("name", placeService, "Il nome supera %d caratteri.", nameLongest)
	case strings.ContainsFunc(s.Name, unseen):
		f.add("name", placeService, "Nel nome ci sono caratteri che non si vedono: riscrivilo.")
	}
	if s.AtClosing != AtClosingServe && s.AtClosing != AtClosingCallback {
		f.add("at_closing", placeQueue, "Alla chiusura chi aspetta si serve (serve) o si richiama (callback).")
	}
	out.Numbers = s.readNumbers(f)
	if len(out.Numbers) > 0 {
		out.Number = out.Numbers[0]
	}
	out.Hours = s.Hours.read(f)
	out.Menu = s.readMenu(topics, f)
	out.Duty = s.Duty.read(out.Numbers, f)
	out.RecordCalls, out.RecordingAgreement, out.RecordingDays = s.RecordCalls, s.RecordingAgreement, s.RecordingDays
	s.checkRecording(f)
	out.SuperviseCalls, out.SupervisionAgreement = s.SuperviseCalls, s.SupervisionAgreement
	s.checkSupervision(f)
	return out
}

// checkSupervision notes what keeps supervisors from taking part in talks: operators
// are listened to by agreement only (art. 4 of law 300/1970), and always see it.
func (s Settings) checkSupervision(f *faults) {
	switch {
	case utf8.RuneCountInString(s.SupervisionAgreement) > agreementLongest:
		f.add("supervision_agreement", placeListen, "L'accordo supera %d caratteri.", agreementLongest)
	case s.SuperviseCalls && s.SupervisionAgreement == "":
		f.add("supervision_agreement", placeListen, "Per ascoltare le conversazioni degli operatori serve l'accordo sindacale o l'autorizzazione dell'Ispettorato del lavoro (art. 4 della legge 300/1970): scrivi quale, con la data.")
	}
}

// checkRecording notes what keeps talks from being recorded: who is recorded
// knows it, and operators are recorded by agreement only (art. 4 of law 300/1970).
func (s Settings) checkRecording(f *faults) {
	if s.RecordingDays < 1 || s.RecordingDays > keepMost {
		f.add("recording_days", placeRecord, "Le registrazioni si conservano da 1 a %d giorni.", keepMost)
	}
	switch {
	case utf8.RuneCountInString(s.RecordingAgreement) > agreementLongest:
		f.add("recording_agreement", placeRecord, "L'accordo supera %d caratteri.", agreementLongest)
	case s.RecordCalls && s.RecordingAgreement == "":
		f.add("recording_agreement", placeRecord, "Per registrare le chiamate serve l'accordo sindacale o l'autorizzazione dell'Ispettorato del lavoro (art. 4 della legge 300/1970): scrivi quale, con la data.")
	}
	if s.RecordCalls && !s.RecordingNotice {
		f.add("recording_notice", placeRecord, "Chi chiama deve sapere che la chiamata è registrata: attiva l'avviso.")
	}
}

// inRange is a number of seconds within its bounds.
func inRange(f *faults, field, what string, seconds int, least, most time.Duration) time.Duration {
	if seconds < int(least/time.Second) || seconds > int(most/time.Second) {
		f.add(field, placeQueue, "%s va da %d a %d secondi.", what, int(least.Seconds()), int(most.Seconds()))
	}
	return time.Duration(seconds) * time.Second
}

func (s Settings) readNumbers(f *faults) (numbers []string) {
	if len(s.Numbers) == 0 {
		f.add("numbers", placeNumbers, "Il servizio non ha nessun numero.")
	}
	if len(s.Numbers) > serviceNumbers {
		f.add("numbers", placeNumbers, "Un servizio ha al massimo %d numeri.", serviceNumbers)
		return nil
	}
	for i, n := range s.Numbers {
		field := fmt.Sprintf("numbers[%d]", i)
		switch normal := Normalise(n); {
		case normal == "":
			f.add(field, placeNumbers, "La riga %d non è un numero di telefono.", i+1)
		case slices.Contains(numbers, normal):
			f.add(field, placeNumbers, "Il numero %s è scritto due volte.", normal)
		default:
			numbers = append(numbers, normal)
		}
	}
	return numbers
}

// window is a span with the field it was written in.
type window struct {
	calendar.Span
	field string
}

func (h HoursSettings) read(f *faults) calendar.Hours {
	hours := calendar.Hours{Always: h.Always, OpenHolidays: h.OpenHolidays}
	if h.Patron != "" {
		day, err := time.Parse("2006-01-02", "2000-"+h.Patron) // a leap year: a patron may have the 29th of February
		if err != nil {
			f.add("hours.patron", placeHours, "Il giorno del patrono si scrive MM-GG, per esempio 06-24.")
		} else {
			hours.Patron = &calendar.MonthDay{Month: day.Month(), Day: day.Day()}
		}
	}
	if len(h.Week) > windowsMost {
		f.add("hours.week", placeWeek, "Una settimana ha al massimo %d fasce.", windowsMost)
		return hours
	}
	var week [daysPerWeek][]window
	for i, w := range h.Week {
		field, place := fmt.Sprintf("hours.week[%d]", i), fmt.Sprintf("%s, riga %d", placeWeek, i+1)
		if w.Weekday < 1 || w.Weekday > daysPerWeek {
			f.add(field+".weekday", place, "Il giorno va da 1 (lunedì) a 7 (domenica).")
			continue
		}
		day := w.Weekday % daysPerWeek // ISO 8601 numbers Sunday 7, time.Weekday 0
		if span, ok := readWindow(w.Opens, w.Closes, field, placeWeek+", "+weekdayNames[day], f); ok {
			week[day] = append(week[day], window{span, field})
		}
	}
	for day, windows := range week {
		hours.Week[day] = inOrder(windows, placeWeek+", "+weekdayNames[day], f)
	}
	hours.Exceptional = h.readExceptional(f)
	return hours
}

// readWindow reads a window of a day.
func readWindow(opens, closes, field, place string, f *faults) (span calendar.Span, ok bool) {
	open, okOpen := readClock(opens)
	end, okEnd := readClock(closes)
	switch {
	case !okOpen:
		f.add(field+".opens", place, "L'ora di apertura si scrive HH:MM, da 00:00 a 23:59.")
	case !okEnd:
		f.add(field+".closes", place, "L'ora di chiusura si scrive HH:MM, fino a 24:00.")
	case open >= end:
		f.add(field+".closes", place, "La fascia %s–%s finisce prima di cominciare.", opens, closes)
	default:
		return calendar.Span{Open: open, Close: end}, true
	}
	return calendar.Span{}, false
}

// readClock reads HH:MM in minutes since midnight.
func readClock(text string) (minutes int, ok bool) {
	if len(text) != len("HH:MM") || text[2] != ':' {
		return 0, false
	}
	h, errH := strconv.ParseUint(text[:2], 10, 8)
	m, errM := strconv.ParseUint(text[3:], 10, 8)
	minutes = int(h)*minutesPerHour + int(m)
	return minutes, errH == nil && errM == nil && m < minutesPerHour && minutes <= minutesPerDay
}

// inOrder puts the windows of a day in order, and notes those that overlap.
func inOrder(windows []window, place string, f *faults) (spans []calendar.Span) {
	slices.SortStableFunc(windows, func(a, b window) int { return cmp.Compare(a.Open, b.Open) })
	for i, w := range windows {
		if i > 0 && w.Open < windows[i-1].Close {
			before := windows[i-1]
			f.add(w.field, place, "Le fasce %s–%s e %s–%s si sovrappongono.", clock(before.Open), clock(before.Close), clock(w.Open), clock(w.Close))
		}
		spans = append(spans, w.Span)
	}
	return spans
}

func (h HoursSettings) readExceptional(f *faults) (periods []calendar.Period) {
	if len(h.Exceptional) > periodsMost {
		f.add("hours.exceptional", placeDays, "I giorni eccezionali sono al massimo %d righe.", periodsMost)
		return nil
	}
	taken := map[calendar.Date]int{} // the row of each day
	wholeDays := map[int]int{}       // 24-hour days of each year
	for i, p := range h.Exceptional {
		field, place := fmt.Sprintf("hours.exceptional[%d]", i), fmt.Sprintf("%s, riga %d", placeDays, i+1)
		first, okFirst := readDate(p.First)
		last, okLast := readDate(p.Last)
		days := int(last.Sub(first).Hours()/24) + 1
		switch {
		case !okFirst:
			f.add(field+".first", place, "Il primo giorno si scrive AAAA-MM-GG.")
			continue
		case !okLast:
			f.add(field+".last", place, "L'ultimo giorno si scrive AAAA-MM-GG.")
			continue
		case days < 1:
			f.add(field+".last", place, "L'ultimo giorno viene prima del primo.")
			continue
		case days > periodLongest:
			f.add(field+".last", place, "Un periodo dura al massimo %d giorni.", periodLongest)
			continue
		case len(p.Windows) > dayWindowsMost:
			f.add(field+".windows", place, "Un giorno ha al massimo %d fasce.", dayWindowsMost)
			continue
		case utf8.RuneCountInString(p.Note) > noteLongest:
			f.add(field+".note", place, "La nota supera %d caratteri.", noteLongest)
		}
		var windows []window
		for j, w := range p.Windows {
			inner := fmt.Sprintf("%s.windows[%d]", field, j)
			if span, ok := readWindow(w.Opens, w.Closes, inner, place, f); ok {
				windows = append(windows, window{span, inner})
			}
		}
		period := calendar.Period{First: dateOf(first), Last: dateOf(last), Spans: inOrder(windows, place, f)}
		for day := first; !day.After(last); day = day.AddDate(0, 0, 1) {
			if row, twice := taken[dateOf(day)]; twice {
				f.add(field, place, "Il giorno %s sta già nella riga %d.", day.Format("02/01/2006"), row)
				break
			}
			taken[dateOf(day)] = i + 1
			if slices.Equal(period.Spans, []calendar.Span{{Open: 0, Close: minutesPerDay}}) {
				wholeDays[day.Year()]++
			}
		}
		periods = append(periods, period)
	}
	for _, year := range slices.Sorted(maps.Keys(wholeDays)) {
		if n := wholeDays[year]; n > wholeDaysUsual {
			f.warn("hours.exceptional", placeDays, "Nel %d i giorni di 24 ore sono %d: i contratti ne prevedono %d.", year, n, wholeDaysUsual)
		}
	}
	return periods
}

// readDate reads YYYY-MM-DD as midnight UTC, where days have 24 hours.
func readDate(text string) (time.Time, bool) {
	day, err := time.Parse(time.DateOnly, text)
	return day, err == nil
}

func dateOf(day time.Time) calendar.Date {
	year, month, d := day.Date()
	return calendar.Date{Year: year, Month: month, Day: d}
}

func (s Settings) readMenu(topics map[string]Topic, f *faults) (menu []MenuItem) {
	defaults := 0
	for i, m := range s.Menu {
		field, place := fmt.Sprintf("menu[%d]", i), placeMenu+", tasto "+m.Key
		if len(m.Key) != 1 || m.Key < "1" || m.Key > "9" {
			f.add(field+".key", fmt.Sprintf("%s, riga %d", placeMenu, i+1), "I tasti del menu vanno da 1 a 9.")
			continue
		}
		item := MenuItem{Key: rune(m.Key[0]), Action: m.Action, Default: m.Default}
		if slices.ContainsFunc(menu, func(other MenuItem) bool { return other.Key == item.Key }) {
			f.add(field+".key", place, "Il tasto %s è usato due volte.", m.Key)
			continue
		}
		var known bool
		item.Topic, known = topics[m.Topic]
		switch {
		case m.Action != ActionTopic && m.Action != ActionState:
			f.add(field+".action", place, "Questa azione non esiste: il tasto non porta da nessuna parte.")
		case m.Action == ActionState && m.Topic != "":
			f.add(field+".topic", place, "Un tasto che dice lo stato di una richiesta non ha argomento.")
		case m.Action == ActionState && m.Default:
			f.add(field+".default", place, "Chi non sceglie va a un argomento, non allo stato di una richiesta.")
		case m.Action == ActionTopic && m.Topic == "":
			f.add(field+".topic", place, "Manca l'argomento: il tasto non porta da nessuna parte.")
		case m.Action == ActionTopic && !known:
			f.add(field+".topic", place, "L'argomento non esiste: il tasto non porta da nessuna parte.")
		default:
			menu = append(menu, item)
		}
		if m.Default {
			if defaults++; defaults > 1 {
				f.add(field+".default", place, "Un solo tasto può essere quello predefinito.")
			}
		}
	}
	slices.SortFunc(menu, func(a, b MenuItem) int { return cmp.Compare(a.Key, b.Key) })
	return menu
}

// leadsSomewhere notes what keeps a menu from bringing every caller to a topic.
func (s *Service) leadsSomewhere(f *faults) {
	topics := slices.DeleteFunc(slices.Clone(s.Menu), func(m MenuItem) bool { return m.Action != ActionTopic })
	switch {
	case len(s.Menu) == 0:
		f.add("menu", placeMenu, "Il menu non ha voci: non porta da nessuna parte.")
	case len(topics) == 0:
		f.add("menu", placeMenu, "Nessun tasto porta a un argomento.")
	case !slices.ContainsFunc(topics, func(m MenuItem) bool { return m.Default }):
		f.add("menu", placeMenu, "Manca il tasto predefinito, per chi non sceglie.")
	}
}

// settings are a service as its document, with the topics' codes by their ids.
func (s Service) settings(codes map[int64]string) Settings {
	out := Settings{
		Name: s.Name, Numbers: s.Numbers, MobilesRefused: s.MobilesRefused, RecordingNotice: s.RecordingNotice,
		MaxWait: int(s.MaxWait / time.Second), NobodyWait: int(s.NobodyWait / time.Second), AtClosing: s.AtClosing, AnnounceEvery: int(s.AnnounceEvery / time.Second),
		CallbackOffered: &s.CallbackOffered,
		RecordCalls:     s.RecordCalls, RecordingAgreement: s.RecordingAgreement, RecordingDays: s.RecordingDays,
		SuperviseCalls: s.SuperviseCalls, SupervisionAgreement: s.SupervisionAgreement,
		Hours: HoursSettings{Always: s.Hours.Always, OpenHolidays: s.Hours.OpenHolidays},
	}
	if len(out.Numbers) == 0 && s.Number != "" {
		out.Numbers = []string{s.Number}
	}
	if p := s.Hours.Patron; p != nil {
		out.Hours.Patron = fmt.Sprintf("%02d-%02d", p.Month, p.Day)
	}
	for day, spans := range s.Hours.Week {
		for _, span := range spans {
			iso := (day+daysPerWeek-1)%daysPerWeek + 1 // ISO 8601: Monday is 1, Sunday 7
			out.Hours.Week = append(out.Hours.Week, WeekSetting{iso, clock(span.Open), clock(span.Close)})
		}
	}
	for _, p := range s.Hours.Exceptional {
		period := PeriodSetting{First: date(p.First), Last: date(p.Last)}
		for _, span := range p.Spans {
			period.Windows = append(period.Windows, WindowSetting{clock(span.Open), clock(span.Close)})
		}
		out.Hours.Exceptional = append(out.Hours.Exceptional, period)
	}
	out.Duty.Numbers = s.Duty.Numbers
	if s.Duty.From != s.Duty.To {
		out.Duty.From, out.Duty.To = clock(s.Duty.From), clock(s.Duty.To)
	}
	for _, m := range s.Menu {
		out.Menu = append(out.Menu, MenuSetting{Key: string(m.Key), Action: m.Action, Topic: codes[m.Topic.ID], Default: m.Default})
	}
	return out.filled()
}

func clock(minutes int) string {
	return fmt.Sprintf("%02d:%02d", minutes/minutesPerHour, minutes%minutesPerHour)
}

func date(d calendar.Date) string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }
