package tickets

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/journal"
)

// Note is what somebody wrote on a ticket; it is never changed.
type Note struct {
	ID   int64     `json:"id"`
	At   time.Time `json:"at"`
	By   *Person   `json:"by"` // nil: the desk itself
	Text string    `json:"text"`
}

// Moment is one line of a ticket's timeline.
type Moment struct {
	At           time.Time  `json:"at"`
	Kind         string     `json:"kind"` // of the journal line
	Text         string     `json:"text"` // Italian
	By           string     `json:"by"`   // display name, or ""
	ContactID    *uuid.UUID `json:"contact_id"`
	HasRecording bool       `json:"has_recording"` // of the contact; on its "ended" line only
	TalkUntil    *time.Time `json:"talk_until"`    // of the contact's recorded talk, until when it is kept; likewise
	TalkGaps     []TalkGap  `json:"talk_gaps,omitempty"`
	Ending       string     `json:"ending"` // on its "ended" line only
}

// TicketPage is a ticket with all that happened to it.
type TicketPage struct {
	Ticket
	Timeline []Moment `json:"timeline"` // oldest first
	Contacts []Record `json:"contacts"` // newest first, without their journals
	Notes    []Note   `json:"notes"`    // oldest first
}

// Filter chooses tickets; zero fields do not filter.
type Filter struct {
	Status   string // "open" (not closed), "closed", "all" or ""
	Owner    int64  // of this user
	Unowned  bool   // of nobody
	Customer int64  // of this person of the register
	Query    string // a number, or a part of requester, subject or customer
	Cursor   string // Page.Next of the page before
	Limit    int    // 0: PageDefault; at most PageMost
}

// Rows per page of a list.
const (
	PageDefault = 50
	PageMost    = 200
)

// Page is a stretch of a list, newest first.
type Page[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"` // cursor of the next page; nil at the end
}

// Asker is somebody whose open tickets are looked for.
type Asker struct {
	Customers []int64
	Number    string // E.164
	Except    string // a ticket number that is not wanted: the one just opened
}

// Ticket is the page of one ticket; ErrNotFound.
func (b *Book) Ticket(ctx context.Context, number string) (*TicketPage, error) {
	var p TicketPage
	err := pgx.BeginTxFunc(ctx, b.db.Pool, oneInstant, func(tx pgx.Tx) error {
		t, err := ticketByNumber(ctx, tx, number)
		if err != nil {
			return err
		}
		p.Ticket = *t
		if p.Contacts, err = records(ctx, tx, `where c.ticket_id = $1 order by c.t0 desc, c.id desc`, t.ID); err != nil {
			return err
		}
		if p.Notes, err = notesOf(ctx, tx, t.ID); err != nil {
			return err
		}
		p.Timeline, err = timeline(ctx, tx, &p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ticket %s: %w", number, err)
	}
	return &p, nil
}

// oneInstant makes several queries see the same rows.
var oneInstant = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// TicketOf is one ticket without its timeline; ErrNotFound.
func (b *Book) TicketOf(ctx context.Context, number string) (*Ticket, error) {
	t, err := ticketByNumber(ctx, b.db.Pool, number)
	if err != nil {
		return nil, fmt.Errorf("ticket %s: %w", number, err)
	}
	return t, nil
}

// TicketByID is TicketOf by the id that contacts and journal lines carry.
func (b *Book) TicketByID(ctx context.Context, id int64) (*Ticket, error) {
	t, err := ticketByID(ctx, b.db.Pool, id)
	if err != nil {
		return nil, fmt.Errorf("ticket %d: %w", id, err)
	}
	return t, nil
}

// Tickets lists tickets by the instant they were received, newest first. A
// cursor or a status that is none is a *Refusal.
func (b *Book) Tickets(ctx context.Context, f Filter) (Page[Ticket], error) {
	where := []string{"true"}
	args := pgx.StrictNamedArgs{"limit": pageOf(f.Limit) + 1} // one more tells whether there is a next page
	switch f.Status {
	case "", "all":
	case "open":
		where = append(where, "t.status <> 'closed'")
	case "closed":
		where = append(where, "t.status = 'closed'")
	default:
		return Page[Ticket]{}, &Refusal{"status", "Lo stato non esiste."}
	}
	if f.Owner != 0 {
		where = append(where, "t.owner_id = @owner")
		args["owner"] = f.Owner
	}
	if f.Unowned {
		where = append(where, "t.owner_id is null")
	}
	if f.Customer != 0 {
		where = append(where, "t.customer_id = @customer")
		args["customer"] = f.Customer
	}
	if q := strings.TrimSpace(clean(f.Query)); q != "" {
		where = append(where, `(t.number = @query or t.requester_name ilike @like or t.subject ilike @like or c.name ilike @like
			or @telephone <> '' and t.requester_number = @telephone)`)
		args["query"], args["like"], args["telephone"] = q, containing(q), Normalise(q)
	}
	if f.Cursor != "" {
		at, id, err := readCursor(f.Cursor)
		if err != nil {
			return Page[Ticket]{}, err
		}
		where = append(where, "(t.received_at, t.id) < (@at, @id)")
		args["at"], args["id"] = at, id
	}
	items, err := collectTickets(ctx, b.db.Lists, `where `+strings.Join(where, " and ")+` order by t.received_at desc, t.id desc limit @limit`, args)
	if err != nil {
		return Page[Ticket]{}, fmt.Errorf("list tickets: %w", err)
	}
	page := Page[Ticket]{Items: items}
	if most := pageOf(f.Limit); len(items) > most {
		page.Items = items[:most]
		last := items[most-1]
		next := writeCursor(last.ReceivedAt, last.ID)
		page.Next = &next
	}
	return page, nil
}

func pageOf(limit int) int {
	if limit <= 0 {
		return PageDefault
	}
	return min(limit, PageMost)
}

// containing is a LIKE pattern for a part of a text.
func containing(part string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part) + "%"
}

// A cursor is the last row of a page: its instant in µs, as PostgreSQL keeps
// it, and its id.
func writeCursor(at time.Time, id int64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", at.UnixMicro(), id))
}

func readCursor(cursor string) (time.Time, int64, error) {
	bad := &Refusal{"cursor", "La pagina richiesta non esiste."}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return time.Time{}, 0, bad
	}
	micro, row, _ := strings.Cut(string(raw), ".")
	at, err1 := strconv.ParseInt(micro, 10, 64)
	id, err2 := strconv.ParseInt(row, 10, 64)
	if err1 != nil || err2 != nil || at < 0 || at > cursorLatest {
		return time.Time{}, 0, bad
	}
	return time.UnixMicro(at).UTC(), id, nil
}

const cursorLatest = 253402300799_000000 // µs of the last second of the year 9999: RFC 3339 and PostgreSQL go that far

// A list by name has the last row's id as its cursor: names change.
func writeRow(id int64) string {
	return base64.RawURLEncoding.EncodeToString(strconv.AppendInt(nil, id, 10))
}

func readRow(cursor string) (int64, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		var id int64
		if id, err = strconv.ParseInt(string(raw), 10, 64); err == nil {
			return id, nil
		}
	}
	return 0, &Refusal{"cursor", "La pagina richiesta non esiste."}
}

// OpenTicketsOf lists the tickets of somebody that are not closed, newest first.
func (b *Book) OpenTicketsOf(ctx context.Context, who Asker, limit int) ([]Ticket, error) {
	tickets, err := collectTickets(ctx, b.db.Pool, `where t.status <> 'closed' and t.number <> @except
		and (t.customer_id = any(@customers) or @number <> '' and t.requester_number = @number)
		order by t.received_at desc, t.id desc limit @limit`,
		pgx.StrictNamedArgs{"except": who.Except, "customers": orEmpty(who.Customers), "number": who.Number, "limit": pageOf(limit)})
	if err != nil {
		return nil, fmt.Errorf("open tickets: %w", err)
	}
	return tickets, nil
}

func notesOf(ctx context.Context, q querier, ticket int64) ([]Note, error) {
	rows, err := q.Query(ctx, `select n.id, n.at, n.text, u.name, u.display_name from ticket_notes n left join users u on u.id = n.author_id
		where n.ticket_id = $1 order by n.at, n.id`, ticket)
	if err != nil {
		return nil, err
	}
	notes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Note, error) {
		var n Note
		var name, shown *string
		if err := row.Scan(&n.ID, &n.At, &n.Text, &name, &shown); err != nil {
			return n, err
		}
		n.At = n.At.UTC()
		if name != nil {
			n.By = &Person{*name, *shown}
		}
		return n, nil
	})
	return orEmpty(notes), err
}

// editsMerged is how long the saves of one person stay one line: the form saves
// itself every 2 s.
const editsMerged = 5 * time.Minute

// timeline tells a ticket's life from the journal, and from the notes the texts
// that the journal does not hold.
func timeline(ctx context.Context, q querier, p *TicketPage) ([]Moment, error) {
	entries, err := journal.OfTicket(ctx, q, p.ID)
	if err != nil {
		return nil, err
	}
	contacts, gaps := map[uuid.UUID]Record{}, map[uuid.UUID][]TalkGap{}
	for _, c := range p.Contacts {
		contacts[c.ID] = c
		more, err := journal.OfContact(ctx, q, c.ID)
		if err != nil {
			return nil, err
		}
		entries, gaps[c.ID] = append(entries, more...), gapsOf(more)
	}
	slices.SortFunc(entries, func(x, y journal.Entry) int { return cmp.Compare(x.ID, y.ID) })
	entries = slices.CompactFunc(entries, func(x, y journal.Entry) bool { return x.ID == y.ID }) // a line may name both
	names, err := displayNames(ctx, q, entries)
	if err != nil {
		return nil, err
	}
	notes := map[int64]string{}
	for _, n := range p.Notes {
		notes[n.ID] = n.Text
	}
	list := []Moment{}
	var edit *journal.Entry // the first of the edits that the last line of list tells
	for _, e := range entries {
		tell, ok := told[e.Kind]
		if !ok {
			continue
		}
		if e.Kind == journal.Edited && edit != nil && edit.User == e.User && e.At.Sub(edit.At) < editsMerged {
			edit.Data["fields"] = append(edit.Data["fields"].([]any), e.Data["fields"].([]any)...)
			list[len(list)-1].Text = tell(*edit, contacts, notes)
			continue
		}
		m := Moment{At: e.At, Kind: string(e.Kind), Text: tell(e, contacts, notes), By: names[e.User]}
		if e.Contact.Valid {
			id := e.Contact.UUID
			m.ContactID = &id
		}
		if e.Kind == journal.Ended {
			c := contacts[e.Contact.UUID]
			m.HasRecording, m.TalkUntil = c.HasRecording, c.TalkUntil
			if m.Ending, _ = e.Data["ending"].(string); m.TalkUntil != nil {
				m.TalkGaps = gaps[e.Contact.UUID]
			}
		}
		list = append(list, m)
		if edit = nil; e.Kind == journal.Edited && len(fieldsOf(e)) > 0 {
			edit = &e
		}
	}
	return list, nil
}

// told is what the timeline says of each kind of journal line; the others are
// the desk's own affair.
var told = map[journal.Kind]func(e journal.Entry, contacts map[uuid.UUID]Record, notes map[int64]string) string{
	journal.Begun: func(e journal.Entry, contacts map[uuid.UUID]Record, _ map[int64]string) string {
		if direction, _ := e.Data["direction"].(string); direction == Outbound {
			return "Richiamata verso " + contacts[e.Contact.UUID].Caller
		}
		if caller := contacts[e.Contact.UUID].Caller; caller != "" {
			return "Chiamata da " + caller
		}
		return "Chiamata da numero nascosto"
	},
	journal.Opened:    says("Ticket aperto"),
	journal.Attached:  says("Chiamata aggiunta a questo ticket"),
	journal.Told:      says("Numero del ticket comunicato"),
	journal.StateTold: says("Stato del ticket comunicato dal risponditore"),
	journal.Talking:   says("In conversazione"),
	journal.Given: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		switch e.Data["to"] {
		case "operator":
			return "Trasferita a un collega"
		case "topic":
			return "Trasferita a un altro argomento"
		case "outside":
			return "Trasferita a un numero esterno"
		case "queue": // the operator hung up while the caller heard music
			return "Rimessa in coda: l'operatore ha riagganciato durante l'attesa"
		}
		return "Trasferita"
	},
	journal.SupervisionBegan:   supervised, // who was listened to, and whoever looks after it, reads it
	journal.SupervisionChanged: supervised,
	journal.Taken: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		if _, message := e.Data["recording"]; message { // taken from the list of messages, beside its ticket
			return "Messaggio preso in carico"
		}
		return "Preso in carico"
	},
	journal.Reopened: says("Riaperto"),
	journal.RungBack: says("Richiamata presa in carico"),
	journal.Booked: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		if e.Data["origin"] == "queue" {
			return "Richiamata chiesta da chi aspettava"
		}
		return "Richiamata prenotata"
	},
	journal.Attempted: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		outcome, _ := e.Data["outcome"].(string)
		return "Richiamata: " + strings.ToLower(attemptName(outcome))
	},
	journal.DutyRung: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		outcome, _ := e.Data["outcome"].(string)
		if outcome == DutyNotTaken {
			return nthOnDuty(e) + " ha risposto ma non ha accettato la chiamata"
		}
		return nthOnDuty(e) + " chiamato: " + strings.ToLower(attemptName(outcome))
	},
	journal.DutyTook: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		return nthOnDuty(e) + " in conversazione"
	},
	journal.Cancelled: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		switch e.Data["reason"] {
		case "served":
			return "Servito in un'altra chiamata: la richiamata non serve più"
		case "again":
			return "Ha chiesto di nuovo la richiamata: ne resta una"
		}
		return "Richiamata annullata"
	},
	journal.Ended: func(e journal.Entry, contacts map[uuid.UUID]Record, _ map[int64]string) string {
		ending, _ := e.Data["ending"].(string)
		text := "Fine della chiamata: " + strings.ToLower(Ending(ending).Label())
		if mos := worst(contacts[e.Contact.UUID].Legs); mos < disturbed {
			text += ", linea disturbata (qualità " + strings.Replace(fmt.Sprintf("%.1f", mos), ".", ",", 1) + " su 4,5)"
		}
		return text
	},
	journal.Noted: func(e journal.Entry, _ map[uuid.UUID]Record, notes map[int64]string) string {
		id, _ := number(e.Data["note"])
		return notes[id]
	},
	journal.Edited: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		var labels []string
		for _, name := range fieldsOf(e) {
			if l := editable[name].label; l != "" && !slices.Contains(labels, l) {
				labels = append(labels, l)
			}
		}
		return "Modificato: " + strings.Join(labels, ", ")
	},
	journal.Closed: func(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
		outcome, _ := e.Data["outcome"].(string)
		return "Chiuso: " + strings.ToLower(outcomeName(outcome))
	},
}

// supervised says how a supervisor takes part in the talk from then on.
func supervised(e journal.Entry, _ map[uuid.UUID]Record, _ map[int64]string) string {
	switch e.Data["as"] {
	case "whisper":
		return "Un supervisore ascolta e parla all'operatore"
	case "barge":
		return "Un supervisore partecipa alla conversazione"
	}
	return "Un supervisore ascolta la conversazione"
}

// nthOnDuty names who was rung by their place: the journal holds no numbers.
func nthOnDuty(e journal.Entry) string {
	place, _ := number(e.Data["place"])
	return fmt.Sprintf("Reperibile %d", place)
}

// disturbed is the mean opinion score below which many are dissatisfied (G.107
// Annex B).
const disturbed = 3.6

// worst is the least score of some legs; the best there is when nobody judged.
func worst(legs []Leg) float64 {
	least := 4.5
	for _, l := range legs {
		for _, d := range []*Direction{l.Heard, l.Reached} {
			if d != nil {
				least = min(least, d.MOS)
			}
		}
	}
	return least
}

func says(text string) func(journal.Entry, map[uuid.UUID]Record, map[int64]string) string {
	return func(journal.Entry, map[uuid.UUID]Record, map[int64]string) string { return text }
}
