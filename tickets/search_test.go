package tickets

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// findings is what a test looks at: numbers of tickets, names, telephone numbers.
type findings struct{ tickets, near, people, nearPeople, numbers []string }

func (d *desk) found(query string) findings {
	d.t.Helper()
	got, err := d.Search(d.t.Context(), query, "", "", 0)
	must(d.t, err)
	if got.Tickets.Items == nil || got.Tickets.Near == nil || got.People.Items == nil || got.People.Near == nil || got.Numbers.Items == nil || got.Numbers.Near == nil {
		d.t.Errorf("%q: a list is nil", query)
	}
	var f findings
	for _, t := range got.Tickets.Items {
		f.tickets = append(f.tickets, t.Number)
	}
	for _, t := range got.Tickets.Near {
		f.near = append(f.near, t.Number)
	}
	for _, c := range got.People.Items {
		f.people = append(f.people, c.Name)
	}
	for _, c := range got.People.Near {
		f.nearPeople = append(f.nearPeople, c.Name)
	}
	for _, n := range got.Numbers.Items {
		f.numbers = append(f.numbers, n.Number)
	}
	return f
}

// searched is a desk with a ticket of Mario Rossi (2026-1) about a printer, one
// of Niccolò D'Angelo (2026-2), and a stranger's (2026-3).
func searched(t testing.TB) *desk {
	d := newDesk(t)
	_, err := d.PutCustomer(t.Context(), Customer{Code: "3001", Name: "Niccolò D'Angelo", Practice: "Studio Città Alta", Email: "dangelo@medici.example", Numbers: []string{"+39 333 765 4321"}}, monday)
	must(t, err)
	d.edited(d.ticketOf("+390551234567"), Fields{"subject": "La stampante è bloccata", "description": "Le attività dello studio sono ferme"})
	d.edited(d.ticketOf("+393337654321"), Fields{"subject": "Certificato di malattia"})
	d.edited(d.ticketOf("+39061112223"), Fields{"subject": "Ricette"})
	return d
}

func (d *desk) ticketOf(caller string) *Ticket {
	d.t.Helper()
	ticket, err := d.Book.Open(d.t.Context(), d.call(caller, monday), Matter{Channel: Phone, At: monday}, nil)
	must(d.t, err)
	return ticket
}

func (d *desk) edited(ticket *Ticket, set Fields) {
	d.t.Helper()
	base := Fields{}
	for name := range set {
		base[name] = editable[name].of(ticket)
	}
	_, err := d.Book.Edit(d.t.Context(), ticket.Number, d.anna, base, set, monday)
	must(d.t, err)
}

func TestSearch(t *testing.T) {
	d := searched(t)
	rossi, dangelo := []string{"Mario Rossi"}, []string{"Niccolò D'Angelo"}
	for query, want := range map[string]findings{
		// Words: any case, with and without accents, in any order, stems.
		"ROSSI mario":            {tickets: []string{"2026-1"}, people: rossi},
		"niccolo":                {tickets: []string{"2026-2"}, people: dangelo},
		"Niccolò":                {tickets: []string{"2026-2"}, people: dangelo},
		"d’angelo":               {tickets: []string{"2026-2"}, people: dangelo},
		"citta":                  {tickets: []string{"2026-2"}, people: dangelo},
		"attivita":               {tickets: []string{"2026-1"}},
		"attività":               {tickets: []string{"2026-1"}},
		"certificati":            {tickets: []string{"2026-2"}},
		"stampanti":              {tickets: []string{"2026-1"}},
		"dangelo@medici.example": {people: dangelo},
		"città rossi":            {},
		// Misspelt: said to be a guess.
		"mario rosi":   {tickets: []string{"2026-1"}, nearPeople: rossi}, // one stem
		"mario rozzi":  {near: []string{"2026-1"}, nearPeople: rossi},
		"nicolo":       {near: []string{"2026-2"}, nearPeople: dangelo},
		"stampnte":     {near: []string{"2026-1"}},
		"mairo rosssi": {near: []string{"2026-1"}, nearPeople: rossi},
		"bianci":       {nearPeople: []string{"Anna Bianchi"}},
		// Tickets by number, and by the serial alone.
		"2026-2":    {tickets: []string{"2026-2"}},
		" #2026-2 ": {tickets: []string{"2026-2"}},
		"2":         {tickets: []string{"2026-2"}},
		"2026-77":   {},
		// Numbers as anybody writes them, their beginning and their end.
		"055 123 45 67":    {tickets: []string{"2026-1"}, people: rossi, numbers: []string{"+390551234567"}},
		"+39 055.1234567":  {tickets: []string{"2026-1"}, people: rossi, numbers: []string{"+390551234567"}},
		"0039-055-1234567": {tickets: []string{"2026-1"}, people: rossi, numbers: []string{"+390551234567"}},
		"4567":             {tickets: []string{"2026-1"}, people: rossi, numbers: []string{"+390551234567"}},
		"055":              {tickets: []string{"2026-1"}, people: []string{"Anna Bianchi", "Luca Verdi", "Mario Rossi"}, numbers: []string{"+390551234567", "+390557654321"}},
		"7654321":          {tickets: []string{"2026-2"}, people: []string{"Anna Bianchi", "Luca Verdi", "Niccolò D'Angelo"}, numbers: []string{"+390557654321", "+393337654321"}},
		"06 1112223":       {tickets: []string{"2026-3"}, numbers: []string{"+39061112223"}}, // nobody of the register
		"1042":             {people: rossi},
		// What finds nothing, and does no harm.
		"":                            {},
		"%":                           {},
		"_":                           {},
		"& | ! ( ) :*":                {},
		"'; drop table tickets":       {},
		"di":                          {people: []string{"Luca Verdi", "Niccolò D'Angelo"}}, // no word of a ticket, but a part of names
		"zzzzzz":                      {},
		"\x00\xff":                    {},
		strings.Repeat("1", 500):      {},
		strings.Repeat("parola ", 60): {},
	} {
		if got := d.found(query); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q:\n got %v\nwant %v", query, got, want)
		}
	}
}

// TestSearchNumbers: a number shows everybody who has it, and its calls.
func TestSearchNumbers(t *testing.T) {
	d := searched(t)
	d.call("+390557654321", monday.Add(time.Hour))
	d.call("+390557654321", monday)
	got, err := d.Search(t.Context(), "055 7654321", InNumbers, "", 5)
	must(t, err)
	n := got.Numbers.Items[0]
	if len(got.Numbers.Items) != 1 || len(n.People) != 2 || n.Calls != 2 || n.LastCall == nil || !n.LastCall.Equal(monday.Add(time.Hour)) {
		t.Errorf("%+v", got.Numbers)
	}
	if len(got.People.Items)+len(got.Tickets.Items) > 0 {
		t.Errorf("%+v", got)
	}
}

// TestSearchPages: page after page gives everything once, and in order.
func TestSearchPages(t *testing.T) {
	d := searched(t)
	for i := range 7 {
		_, err := d.PutCustomer(t.Context(), Customer{Code: fmt.Sprint("v", i), Name: fmt.Sprintf("Vianello %c", 'g'-i), Numbers: []string{fmt.Sprintf("041555%04d", i)}}, monday)
		must(t, err)
		d.ticketOf(fmt.Sprintf("+39041555%04d", i))
	}
	for in, of := range map[string]struct {
		query string
		want  []string
	}{
		InTickets: {"vianello", []string{"2026-10", "2026-9", "2026-8", "2026-7", "2026-6", "2026-5", "2026-4"}},
		InPeople:  {"vianello", []string{"Vianello a", "Vianello b", "Vianello c", "Vianello d", "Vianello e", "Vianello f", "Vianello g"}},
		InNumbers: {"041", []string{"+390415550000", "+390415550001", "+390415550002", "+390415550003", "+390415550004", "+390415550005", "+390415550006"}},
	} {
		var got []string
		cursor := ""
		for range 9 {
			page, err := d.Search(t.Context(), of.query, in, cursor, 3)
			must(t, err)
			for _, one := range page.Tickets.Items {
				got = append(got, one.Number)
			}
			for _, one := range page.People.Items {
				got = append(got, one.Name)
			}
			for _, one := range page.Numbers.Items {
				got = append(got, one.Number)
			}
			next := map[string]*string{InTickets: page.Tickets.Next, InPeople: page.People.Next, InNumbers: page.Numbers.Next}[in]
			if next == nil {
				break
			}
			cursor = *next
		}
		if !slices.Equal(got, of.want) {
			t.Errorf("%s:\n got %v\nwant %v", in, got, of.want)
		}
		var refused *Refusal
		if _, err := d.Search(t.Context(), of.query, in, "%", 3); !errors.As(err, &refused) || refused.Field != "cursor" {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestSlips(t *testing.T) {
	for words, want := range map[[2]string]int{
		{"rossi", "rossi"}: 0, {"rosi", "rossi"}: 1, {"mairo", "mario"}: 1, {"rozzi", "rossi"}: 2, {"ossi", "rossi"}: 1, {"rossii", "rossi"}: 1, {"", "abc"}: 3, {"abc", ""}: 3,
	} {
		if got := slips(words[0], words[1]); got != want || slips(words[1], words[0]) != want {
			t.Errorf("%v: %d, want %d", words, got, want)
		}
	}
}

// TestEveryWordOfATicketIsKnown: the vocabulary has what tickets are made of, whoever
// wrote it, and a ticket of a call to a topic by somebody in the register looks for none.
func TestEveryWordOfATicketIsKnown(t *testing.T) {
	d := newDesk(t)
	known := func(when string) {
		t.Helper()
		var missing []string
		must(t, d.db.Pool.QueryRow(t.Context(), `select coalesce(array_agg(distinct w), '{}') from tickets, regexp_split_to_table(folded(requester_name || ' ' || subject || ' ' || practice), '[^a-z]+') w
			where length(w) between 4 and 32 and w not in (select word from search_words)`).Scan(&missing))
		if len(missing) > 0 {
			t.Errorf("%s: %v are not known", when, missing)
		}
	}
	of := func(caller string, topic Topic) *Ticket {
		t.Helper()
		ticket, err := d.Book.Open(t.Context(), d.call(caller, monday), Matter{Channel: Phone, Topic: topic.ID, At: monday}, nil)
		must(t, err)
		return ticket
	}
	topic, err := d.PutTopic(t.Context(), "t2", "Attestati")
	must(t, err)
	ticket := of("+390551234567", topic)
	of("+39061112223", topic)
	d.ticketOf("+39061112223")
	known("tickets of people in the register, of strangers and without a topic")
	_, err = d.PutCustomer(t.Context(), Customer{Code: "1042", Name: "Mario Rossini", Practice: "Poliambulatorio", Numbers: []string{"0551234567"}}, monday)
	must(t, err)
	of("+390551234567", topic)
	d.edited(ticket, Fields{"subject": "Stampante", "practice": "Ospedale"})
	known("somebody with another name, an edited ticket")
	_, err = d.db.Pool.Exec(t.Context(), `delete from search_words`)
	must(t, err)
	ours := []*Ticket{of("+390551234567", topic), of("+390551234567", topic), of("+390551234567", topic)}
	strangers := []*Ticket{of("+39061112223", topic), of("+39061112223", topic)}
	var n int
	must(t, d.db.Pool.QueryRow(t.Context(), `select count(*) from search_words`).Scan(&n))
	if n != 0 {
		t.Errorf("%d words were looked for and learned, which the register and the topics had taught", n)
	}
	d.edited(ours[0], Fields{"requester_name": "Maria Russo"})
	d.edited(ours[1], Fields{"subject": "Telefono"})
	d.edited(ours[2], Fields{"practice": "Consultorio"})
	d.edited(strangers[0], Fields{"requester_name": "Elena"})
	d.edited(strangers[1], Fields{"practice": "Ospedale"})
	var got []string
	must(t, d.db.Pool.QueryRow(t.Context(), `select array_agg(word order by word) from search_words where word not in ('mario', 'rossini', 'poliambulatorio', 'attestati')`).Scan(&got))
	if !slices.Equal(got, []string{"consultorio", "elena", "maria", "ospedale", "russo", "telefono"}) {
		t.Errorf("of edited tickets %v were learned", got)
	}
}
