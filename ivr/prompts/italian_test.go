package prompts

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// reads compares what a clip says, and that it sounds exactly when it says something.
func reads(t *testing.T, what string, c audio.Clip, want string) {
	t.Helper()
	if c.Text != want {
		t.Errorf("%s:\n got %q\nwant %q", what, c.Text, want)
	}
	if (len(c.ALaw) > 0) != (want != "") || len(c.ALaw)%audio.FrameBytes != 0 || c.Loop {
		t.Errorf("%s: %d octets, loop %v", what, len(c.ALaw), c.Loop)
	}
	// At least as long as its words, spoken fast.
	if least := time.Duration(len([]rune(want))) * quickestRead; c.Duration() < least {
		t.Errorf("%s: lasts %v", what, c.Duration())
	}
}

func TestNumber(t *testing.T) {
	const is = "Il numero della sua richiesta è: "
	lib := Italian()
	for n, want := range map[string]string{
		"2026-1":                "duemilaventisei, trattino, uno.",
		"2026-123":              "duemilaventisei, trattino, uno, due, tre.",
		"2026-40":               "duemilaventisei, trattino, quattro, zero.",
		"2026-1000007":          "duemilaventisei, trattino, uno, zero, zero, zero, zero, zero, sette.",
		"2000-5":                "duemila, trattino, cinque.",
		"2001-5":                "duemilauno, trattino, cinque.",
		"2023-5":                "duemilaventitré, trattino, cinque.",
		"2028-9":                "duemilaventotto, trattino, nove.",
		"2059-6":                "duemilacinquantanove, trattino, sei.",
		"2060-8":                "due, zero, sei, zero, trattino, otto.",
		"1999-8":                "uno, nove, nove, nove, trattino, otto.",
		"42":                    "quattro, due.",
		"A7 b":                  "sette.",
		"+2026-3":               "due, zero, due, sei, trattino, tre.",
		"2026-":                 "duemilaventisei, trattino.",
		strings.Repeat("1", 50): strings.Repeat("uno, ", longestNumber-1) + "uno.",
	} {
		c := lib.Number(n)
		reads(t, n, c, is+want)
		if c.Name != "numero "+n {
			t.Errorf("%s is called %q", n, c.Name)
		}
	}
}

func TestState(t *testing.T) {
	const is = "La richiesta duemilaventisei, trattino, uno, due, "
	lib := Italian()
	for _, c := range []struct {
		received, taken, closed, outcome, now, want string
	}{
		{"2026-11-20 09:30", "", "", "", "2026-11-20 09:31", "è stata ricevuta oggi alle ore nove e trenta. È in attesa di essere presa in carico."},
		{"2026-11-20 23:59", "", "", "", "2026-11-21 00:01", "è stata ricevuta ieri alle ore ventitré e cinquantanove. È in attesa di essere presa in carico."},
		{"2026-11-19 09:30", "2026-11-20 13:00", "", "", "2026-11-22 09:00", "è stata presa in carico venerdì venti novembre alle ore tredici. Un operatore se ne sta occupando."},
		{"2026-03-01 01:05", "", "", "", "2026-03-29 09:00", "è stata ricevuta domenica primo marzo alle ore una e cinque. È in attesa di essere presa in carico."},
		{"2025-12-31 09:30", "2025-12-31 10:00", "2025-12-31 13:00", "risolto", "2026-01-01 09:00", "è stata chiusa ieri alle ore tredici. Il problema è stato risolto."},
		{"2025-12-30 09:30", "2025-12-30 10:00", "2025-12-30 13:00", "inoltrato", "2026-01-01 09:00", "è stata chiusa martedì trenta dicembre duemilaventicinque alle ore tredici. È stata inoltrata al secondo livello."},
		{"2026-11-20 09:30", "2026-11-20 09:40", "2026-11-20 10:00", "da_richiamare", "2026-11-20 11:00", "è stata chiusa oggi alle ore dieci. La richiameremo appena possibile."},
		{"2026-11-20 09:30", "2026-11-20 09:40", "2026-11-20 10:00", "non_pertinente", "2026-11-20 11:00", "è stata chiusa oggi alle ore dieci. Non è di competenza di questo servizio."},
		{"2026-11-20 09:30", "", "2026-11-20 10:00", "senza_messaggio", "2026-11-20 11:00", "è stata chiusa oggi alle ore dieci. Non conteneva alcun messaggio."},
		{"2026-11-20 09:30", "", "2026-11-20 10:00", "operatore", "2026-11-20 11:00", "è stata chiusa oggi alle ore dieci."}, // a clip's name, and no outcome
		{"2026-11-20 09:30", "", "2026-11-20 10:00", "altro", "2026-11-20 11:00", "è stata chiusa oggi alle ore dieci."},
		{"2026-11-20 09:30", "", "2026-11-20 10:00", "", "2026-11-20 11:00", "è stata chiusa oggi alle ore dieci."},
	} {
		r := Request{Number: "2026-12", Received: rome(t, c.received), Outcome: c.outcome}
		if c.taken != "" {
			r.Taken = rome(t, c.taken)
		}
		if c.closed != "" {
			r.Closed = rome(t, c.closed)
		}
		reads(t, c.received+" at "+c.now, lib.State(r, rome(t, c.now)), is+c.want)
		reads(t, c.received+" in UTC", lib.State(r, rome(t, c.now).UTC()), is+c.want)
	}
}

func TestMenu(t *testing.T) {
	lib := Italian()
	demo := []Choice{{'1', "software", "Cartella clinica"}, {'2', "certificati", "Certificati"}, {'3', "carta", "Carta"}, {'4', "non-tecnica", "Altro"}}
	reads(t, "demo", lib.Menu(demo), "Scelga l'argomento della sua richiesta."+
		" Per la cartella clinica informatizzata, prema uno."+
		" Per i certificati telematici, prema due."+
		" Per la carta operatore e i collegamenti, prema tre."+
		" Per informazioni non tecniche, prema quattro.")
	reads(t, "unknown topic", lib.Menu([]Choice{{'9', "certificati", ""}, {'5', "fax", "Fax"}}),
		"Scelga l'argomento della sua richiesta. Per i certificati telematici, prema nove. Per l'argomento cinque, prema cinque.")
	reads(t, "other keys", lib.Menu([]Choice{{'*', "software", ""}, {'#', "carta", ""}, {'x', "carta", ""}, {0, "carta", ""}, {'0', "carta", ""}}),
		"Scelga l'argomento della sua richiesta. Per la cartella clinica informatizzata, prema asterisco."+
			" Per la carta operatore e i collegamenti, prema cancelletto. Per la carta operatore e i collegamenti, prema zero.")
	reads(t, "no choices", lib.Menu(nil), "")
}

func week(days map[time.Weekday][]calendar.Span) (h calendar.Hours) {
	for d, spans := range days {
		h.Week[d] = spans
	}
	return h
}

func spans(minutes ...int) (s []calendar.Span) {
	for i := 0; i < len(minutes); i += 2 {
		s = append(s, calendar.Span{Open: minutes[i], Close: minutes[i+1]})
	}
	return s
}

func workdays(s []calendar.Span) calendar.Hours {
	return week(map[time.Weekday][]calendar.Span{1: s, 2: s, 3: s, 4: s, 5: s})
}

func TestHours(t *testing.T) {
	const active, holidays = "Il servizio è attivo ", ", esclusi i festivi."
	office := spans(480, 1200)
	withSaturday := workdays(office)
	withSaturday.Week[time.Saturday] = spans(480, 780)
	all := week(map[time.Weekday][]calendar.Span{0: office, 1: office, 2: office, 3: office, 4: office, 5: office, 6: office})
	allWithHolidays := all
	allWithHolidays.OpenHolidays = true
	day := spans(0, 1440)
	roundTheClock := week(map[time.Weekday][]calendar.Span{0: day, 1: day, 2: day, 3: day, 4: day, 5: day, 6: day})
	never, always := roundTheClock, roundTheClock
	never.Week = [7][]calendar.Span{}
	always.OpenHolidays = true
	lib := Italian()
	for _, c := range []struct {
		what  string
		hours calendar.Hours
		want  string
	}{
		{"office", workdays(office), active + "dal lunedì al venerdì, dalle ore otto alle ore venti" + holidays},
		{"two spans, out of order", workdays(spans(840, 1080, 510, 780)), active + "dal lunedì al venerdì, dalle ore otto e trenta alle ore tredici e dalle ore quattordici alle ore diciotto" + holidays},
		{"three spans", workdays(spans(360, 420, 600, 720, 1320, 1440)), active + "dal lunedì al venerdì, dalle ore sei alle ore sette, dalle ore dieci alle ore dodici e dalle ore ventidue alle ore ventiquattro" + holidays},
		{"touching spans", workdays(spans(480, 720, 720, 1200)), active + "dal lunedì al venerdì, dalle ore otto alle ore venti" + holidays},
		{"spans one in the other", workdays(spans(480, 1200, 540, 600)), active + "dal lunedì al venerdì, dalle ore otto alle ore venti" + holidays},
		{"with Saturday", withSaturday, active + "dal lunedì al venerdì, dalle ore otto alle ore venti; il sabato, dalle ore otto alle ore tredici" + holidays},
		{"Saturday only", week(map[time.Weekday][]calendar.Span{6: spans(540, 765)}), active + "il sabato, dalle ore nove alle ore dodici e quarantacinque" + holidays},
		{"Sunday only", week(map[time.Weekday][]calendar.Span{0: spans(600, 720)}), active + "la domenica, dalle ore dieci alle ore dodici" + holidays},
		{"two days", week(map[time.Weekday][]calendar.Span{1: office, 2: office}), active + "il lunedì e il martedì, dalle ore otto alle ore venti" + holidays},
		{"days apart", week(map[time.Weekday][]calendar.Span{1: office, 3: office, 5: office}), active + "il lunedì, il mercoledì e il venerdì, dalle ore otto alle ore venti" + holidays},
		{"to Sunday", week(map[time.Weekday][]calendar.Span{5: office, 6: office, 0: office}), active + "dal venerdì alla domenica, dalle ore otto alle ore venti" + holidays},
		{"around the weekend", week(map[time.Weekday][]calendar.Span{6: office, 0: office, 1: office}), active + "il lunedì, il sabato e la domenica, dalle ore otto alle ore venti" + holidays},
		{"a day of its own in the middle", week(map[time.Weekday][]calendar.Span{1: office, 2: office, 3: spans(480, 780), 4: office, 5: office}),
			active + "il lunedì, il martedì, il giovedì e il venerdì, dalle ore otto alle ore venti; il mercoledì, dalle ore otto alle ore tredici" + holidays},
		{"every day", all, active + "tutti i giorni, dalle ore otto alle ore venti" + holidays},
		{"every day and holidays", allWithHolidays, active + "tutti i giorni, dalle ore otto alle ore venti, festivi compresi."},
		{"nights", workdays(spans(0, 390, 61, 62)), active + "dal lunedì al venerdì, dalle ore zero alle ore sei e trenta" + holidays},
		{"one o'clock", workdays(spans(60, 90)), active + "dal lunedì al venerdì, dalle ore una alle ore una e trenta" + holidays},
		{"whole days", workdays(day), active + "dal lunedì al venerdì, ventiquattro ore su ventiquattro" + holidays},
		{"round the clock", roundTheClock, active + "tutti i giorni, ventiquattro ore su ventiquattro" + holidays},
		{"round the clock and holidays", always, active + "tutti i giorni, ventiquattro ore su ventiquattro."},
		{"always", calendar.Hours{Always: true}, active + "tutti i giorni, ventiquattro ore su ventiquattro."},
		{"never", never, ""},
		{"windows that are none", workdays(spans(600, 600, 700, 650)), ""},
		{"windows past the day", workdays(spans(-60, 60, 1380, 1500)), active + "dal lunedì al venerdì, dalle ore zero alle ore una e dalle ore ventitré alle ore ventiquattro" + holidays},
	} {
		reads(t, c.what, lib.Hours(c.hours), c.want)
	}
}

func TestReopens(t *testing.T) {
	lib := Italian()
	for _, c := range []struct{ next, now, want string }{
		{"2026-11-23 08:00", "2026-11-20 21:00", "Riaprirà lunedì ventitré novembre alle ore otto."},
		{"2026-11-20 14:00", "2026-11-20 13:10", "Riaprirà oggi alle ore quattordici."},
		{"2026-11-20 14:30", "2026-11-20 00:00", "Riaprirà oggi alle ore quattordici e trenta."},
		{"2026-11-21 08:00", "2026-11-20 23:59", "Riaprirà domani alle ore otto."},
		{"2026-11-21 00:00", "2026-11-20 23:59", "Riaprirà domani alle ore zero."},
		{"2026-12-28 08:00", "2026-12-24 21:00", "Riaprirà lunedì ventotto dicembre alle ore otto."},
		{"2026-02-01 13:15", "2026-01-20 09:00", "Riaprirà domenica primo febbraio alle ore tredici e quindici."},
		{"2027-01-01 01:00", "2026-12-31 09:00", "Riaprirà domani alle ore una."},
		{"2026-03-29 08:00", "2026-03-28 21:00", "Riaprirà domani alle ore otto."}, // a day of 23 hours
		{"2027-11-20 08:00", "2026-11-20 21:00", "Riaprirà sabato venti novembre alle ore otto."},
	} {
		reads(t, c.next, lib.Reopens(rome(t, c.next), rome(t, c.now)), c.want)
		// The same instants on another clock.
		reads(t, c.next+" in UTC", lib.Reopens(rome(t, c.next).UTC(), rome(t, c.now).UTC()), c.want)
	}
	reads(t, "never", lib.Reopens(time.Time{}, rome(t, "2026-11-20 21:00")), "")
}

func rome(t *testing.T, s string) time.Time {
	t.Helper()
	when, err := time.ParseInLocation("2006-01-02 15:04", s, calendar.Rome())
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// What is spoken is the clips of the words, in order, with pauses.
func TestSentencesSoundTheirClips(t *testing.T) {
	lib := Italian()
	var want []byte
	for _, part := range []string{"numero_pratica", ":", "duemila", "ventisei", ",", "trattino", ",", "uno", ",", "due", "."} {
		switch part {
		case ",":
			want = append(want, audio.Silence(shortPause)...)
		case ":", ".":
			want = append(want, audio.Silence(longPause)...)
		default:
			want = append(want, lib.Clip(part).ALaw...)
		}
	}
	if got := lib.Number("2026-12"); !bytes.Equal(got.ALaw, want) {
		t.Errorf("%d octets, the clips have %d", len(got.ALaw), len(want))
	}
}

func FuzzNumber(f *testing.F) {
	for _, n := range []string{"2026-1", "2026-", "-", "", "2026", "é€\xff", "9999-99999999999999999999"} {
		f.Add(n)
	}
	lib := Italian()
	f.Fuzz(func(t *testing.T, n string) {
		c := lib.Number(n)
		if len(c.ALaw) == 0 || !strings.HasPrefix(c.Text, "Il numero della sua richiesta è") || c.Duration() > time.Minute {
			t.Fatalf("%q is %q of %v", n, c.Text, c.Duration())
		}
	})
}

func TestPlace(t *testing.T) {
	lib := Italian()
	for _, c := range []struct {
		position int
		wait     time.Duration
		want     string
	}{
		{1, -1, "Lei è il primo in coda."},
		{3, 4 * time.Minute, "Lei è il terzo in coda. L'attesa prevista è di circa quattro minuti."},
		{1, 29 * time.Second, "Lei è il primo in coda. L'attesa prevista è inferiore a un minuto."},
		{2, 30 * time.Second, "Lei è il secondo in coda. L'attesa prevista è di circa un minuto."},
		{10, 89 * time.Second, "Lei è il decimo in coda. L'attesa prevista è di circa un minuto."},
		{11, 90 * time.Second, "Lei è il numero undici in coda. L'attesa prevista è di circa due minuti."},
		{51, 59 * time.Minute, "Lei è il numero cinquantuno in coda. L'attesa prevista è di circa cinquantanove minuti."},
		{52, 60 * time.Minute, "Prima di lei ci sono più di cinquanta chiamate. L'attesa prevista è superiore a un'ora."},
		{0, -1, ""},
	} {
		reads(t, c.want, lib.Place(c.position, c.wait), c.want)
	}
}

func TestOffers(t *testing.T) {
	lib := Italian()
	reads(t, "both", lib.Offers(true), "Per essere richiamato senza perdere il posto, prema uno. Per lasciare un messaggio, prema due.")
	reads(t, "the message", lib.Offers(false), "Per lasciare un messaggio, prema due.")
}

func TestOpenRequest(t *testing.T) {
	lib := Italian()
	reads(t, "in charge", lib.OpenRequest("2026-12", "in_charge"), "Ha una richiesta aperta, numero: duemilaventisei, trattino, uno, due; stato: presa in carico.")
	reads(t, "open", lib.OpenRequest("2026-7", "open"), "Ha una richiesta aperta, numero: duemilaventisei, trattino, sette; stato: in attesa di un operatore.")
}
