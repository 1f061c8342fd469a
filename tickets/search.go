package tickets

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// Limits of a search.
const (
	queryWords  = 8  // of a question: more say nothing more
	nearMost    = 5  // of a group: what was perhaps meant
	nearWords   = 4  // from the vocabulary, for one that was typed
	nearLooked  = 30 // by their trigrams, of which those with few slips are meant
	nearLeast   = 4  // letters of a word that can be misspelt; shorter ones are near to everything
	digitsLeast = 3  // digits of a number that is searched by its beginning or its end
)

// Hits is one group of what a search found. Near is what was perhaps meant,
// when little or nothing was found.
type Hits[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"` // cursor of the next page; nil at the end
	Near  []T     `json:"near"`
}

// Found is what a search found.
type Found struct {
	Tickets Hits[Ticket]    `json:"tickets"` // the number itself, else newest first
	People  Hits[Customer]  `json:"people"`  // by name
	Numbers Hits[Telephone] `json:"numbers"`
}

// Telephone is a number that somebody has, or that has called.
type Telephone struct {
	Number   string     `json:"number"`
	People   []Customer `json:"people"` // at most MatchesShown
	Calls    int        `json:"calls"`
	LastCall *time.Time `json:"last_call"`
}

// Groups of a search.
const (
	InTickets = "tickets"
	InPeople  = "people"
	InNumbers = "numbers"
)

// Search finds tickets, people and numbers: by words with and without accents
// and misspelt, by a ticket's number or its serial alone, by a telephone number
// as anybody writes it, its beginning or its last digits. `in` is one group, for
// the page after cursor; "" is the beginning of all three. A cursor that is none
// is a *Refusal.
func (b *Book) Search(ctx context.Context, query, in, cursor string, limit int) (Found, error) {
	f := Found{Tickets: noHits[Ticket](), People: noHits[Customer](), Numbers: noHits[Telephone]()}
	err := pgx.BeginTxFunc(ctx, b.db.Lists, oneInstant, func(tx pgx.Tx) error {
		a, err := asked(ctx, tx, query, pageOf(limit))
		if err != nil || a.empty() {
			return err
		}
		if in == "" || in == InNumbers || a.digits != "" { // what a number finds begins with whose it is
			if f.Numbers, err = a.telephones(ctx, tx, cursorIn(in, InNumbers, cursor)); err != nil {
				return err
			}
		}
		if in == "" || in == InPeople {
			if f.People, err = a.people(ctx, tx, cursorIn(in, InPeople, cursor), f.Numbers.Items); err != nil {
				return err
			}
		}
		if in == "" || in == InTickets {
			f.Tickets, err = a.tickets(ctx, tx, cursorIn(in, InTickets, cursor), f.Numbers.Items)
		}
		if in != "" && in != InNumbers {
			f.Numbers = noHits[Telephone]()
		}
		return err
	})
	if err != nil {
		return Found{}, fmt.Errorf("search: %w", err)
	}
	return f, nil
}

func noHits[T any]() Hits[T] { return Hits[T]{Items: []T{}, Near: []T{}} }

// cursorIn is the cursor, when it is one of this group.
func cursorIn(in, group, cursor string) string {
	if in == group {
		return cursor
	}
	return ""
}

// question is what somebody typed, as it is searched.
type question struct {
	text   string
	ticket string     // a ticket's number
	words  []string   // folded; empty for a number
	near   [][]string // of each word, what was perhaps meant; itself first
	digits string     // of a telephone number or a part of one
	whole  string     // the number in our form, when it is a whole one
	serial int        // of a ticket, 0: none
	limit  int
}

func (a *question) empty() bool {
	return a.ticket == "" && len(a.words) == 0 && a.digits == "" && a.serial == 0
}

// wholeNumber is a ticket's number.
var wholeNumber = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,9}$`)

// asked reads a question. The database folds it, as it folds what it keeps.
func asked(ctx context.Context, q querier, query string, limit int) (*question, error) {
	a := &question{text: strings.Trim(clean(query), " \t\r\n#"), limit: limit}
	if wholeNumber.MatchString(a.text) {
		a.ticket = a.text
		return a, nil
	}
	if digits, _ := dialled(a.text); digits != "" {
		if len(digits) >= digitsLeast && len(digits) <= numberLongest {
			a.digits = digits
			if n := Normalise(a.text); reachable(n) {
				a.whole = n
			}
		}
		if len(digits) <= serialDigits && digits == a.text && digits[0] != '0' {
			a.serial, _ = strconv.Atoi(digits)
		}
		return a, nil
	}
	var folded string
	if err := q.QueryRow(ctx, `select folded($1)`, a.text).Scan(&folded); err != nil {
		return nil, err
	}
	for _, w := range strings.FieldsFunc(folded, func(r rune) bool { return !isWord(r) }) {
		if len(a.words) < queryWords {
			a.words = append(a.words, w)
		}
	}
	return a, nil
}

// isWord tells what a word is made of. Everything else parts words, so that
// nothing which means something in a pattern or a tsquery stands in one.
func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// meant looks every word up in the vocabulary, once.
func (a *question) meant(ctx context.Context, q querier) error {
	if a.near != nil {
		return nil
	}
	for _, w := range a.words {
		near := []string{w}
		if len(w) >= nearLeast {
			rows, err := q.Query(ctx, `select word from search_words order by word <-> $1 limit $2`, w, nearLooked)
			if err != nil {
				return err
			}
			looked, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			near = append(near, fewestSlips(w, looked)...)
		}
		a.near = append(a.near, near)
	}
	return nil
}

// fewestSlips are the words that may have been meant: one slip from what was
// typed, or two in a longer word; the fewest first, else as they came.
func fewestSlips(typed string, words []string) []string {
	most := 1
	if len(typed) > nearLeast {
		most = 2
	}
	var near []string
	for n := 1; n <= most; n++ {
		for _, w := range words {
			if slips(typed, w) == n && len(near) < nearWords && !slices.Contains(near, w) {
				near = append(near, w)
			}
		}
	}
	return near
}

// slips counts the letters that were left out, added, mistaken, or exchanged
// with their neighbour, between two words (optimal string alignment).
func slips(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+1)
			if a[i-1] == b[j-1] {
				next[j] = row[j-1]
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}

// guessed tells whether the vocabulary knew anything beside what was typed.
func (a *question) guessed() bool {
	for _, near := range a.near {
		if len(near) > 1 {
			return true
		}
	}
	return false
}

// tickets finds tickets by their number, by the telephone numbers that were
// found, or by words.
func (a *question) tickets(ctx context.Context, q querier, cursor string, numbers []Telephone) (Hits[Ticket], error) {
	var where string
	args := pgx.StrictNamedArgs{"limit": a.limit + 1}
	switch {
	case a.ticket != "":
		where, args["number"] = `t.number = @number`, a.ticket
	case len(a.words) > 0:
		where, args["query"] = `t.search @@ to_tsquery('it', @query)`, allOf(a.words)
	default:
		people, list := []int64{}, []string{}
		for _, n := range numbers {
			list = append(list, n.Number)
			for _, c := range n.People {
				people = append(people, c.ID)
			}
		}
		where = `t.id in (select id from tickets where requester_number = any(@numbers) union all select id from tickets where customer_id = any(@people)
			union all select id from tickets where year in (select year from ticket_counters) and serial = @serial)`
		args["numbers"], args["people"], args["serial"] = list, people, a.serial
	}
	if cursor != "" {
		at, id, err := readCursor(cursor)
		if err != nil {
			return noHits[Ticket](), err
		}
		where += ` and (t.received_at, t.id) < (@at, @id)`
		args["at"], args["id"] = at, id
	}
	order := ` order by t.received_at desc, t.id desc limit @limit`
	if a.serial != 0 && cursor == "" {
		order = ` order by t.serial <> @serial, t.received_at desc, t.id desc limit @limit` // the number itself first
	}
	h := noHits[Ticket]()
	var err error
	// The plan is made for these words: a common one is met soon in the newest
	// tickets, a rare one only through the index.
	if h.Items, err = collectTickets(ctx, q, `where `+where+order, args); err != nil {
		return h, err
	}
	if len(h.Items) > a.limit {
		h.Items = h.Items[:a.limit]
		last := h.Items[a.limit-1]
		next := writeCursor(last.ReceivedAt, last.ID)
		h.Next = &next
	}
	if len(a.words) == 0 || cursor != "" || len(h.Items) >= nearMost {
		return h, nil
	}
	if err := a.meant(ctx, q); err != nil || !a.guessed() {
		return h, err
	}
	ids := []int64{}
	for _, t := range h.Items {
		ids = append(ids, t.ID)
	}
	h.Near, err = collectTickets(ctx, q, `where t.search @@ to_tsquery('it', @query) and t.id <> all(@ids) order by t.received_at desc, t.id desc limit @limit`,
		pgx.StrictNamedArgs{"query": anyOfEach(a.near), "ids": ids, "limit": nearMost})
	return h, err
}

// allOf is the tsquery of a text that has every word, or a longer one.
func allOf(words []string) string {
	return strings.Join(words, ":* & ") + ":*"
}

// anyOfEach is the tsquery of a text that has one word of each list.
func anyOfEach(lists [][]string) string {
	var each []string
	for _, list := range lists {
		each = append(each, "("+list[0]+":* | "+strings.Join(list, " | ")+")")
	}
	return strings.Join(each, " & ")
}

// people finds people by the words of their name, code, practice and e-mail, or
// by their numbers.
func (a *question) people(ctx context.Context, q querier, cursor string, numbers []Telephone) (Hits[Customer], error) {
	h := noHits[Customer]()
	var where string
	args := pgx.StrictNamedArgs{}
	if len(a.words) > 0 {
		where = a.everyWord(args)
	} else {
		ids := []int64{}
		for _, n := range numbers {
			for _, c := range n.People {
				ids = append(ids, c.ID)
			}
		}
		where = `(c.code = @code or c.id = any(@ids))`
		args["code"], args["ids"] = a.text, ids
	}
	page, err := customersPage(ctx, q, where, args, cursor, a.limit)
	if err != nil {
		return h, err
	}
	h.Items, h.Next = page.Items, page.Next
	if len(a.words) == 0 || cursor != "" || len(h.Items) >= nearMost {
		return h, nil
	}
	if err := a.meant(ctx, q); err != nil || !a.guessed() {
		return h, err
	}
	// One of each word's meanings; the names that come nearest to the question first.
	near := []string{`c.id <> all(@ids)`}
	ids := []int64{}
	for _, c := range h.Items {
		ids = append(ids, c.ID)
	}
	args = pgx.StrictNamedArgs{"ids": ids, "text": strings.Join(a.words, " "), "limit": nearMost}
	for i, list := range a.near {
		parts := []string{}
		for _, w := range list {
			parts = append(parts, containing(w))
		}
		name := "near" + strconv.Itoa(i)
		near = append(near, `c.words like any(@`+name+`)`)
		args[name] = parts
	}
	h.Near, err = collectCustomers(ctx, q, `where `+strings.Join(near, " and ")+` order by c.sort <-> @text, c.sort, c.id limit @limit`, args)
	return h, err
}

// everyWord is the condition that a person's words have every word of the
// question: one like each, for an index knows no like all.
func (a *question) everyWord(args pgx.StrictNamedArgs) string {
	var each []string
	for i, w := range a.words {
		name := "word" + strconv.Itoa(i)
		each = append(each, `c.words like @`+name)
		args[name] = containing(w)
	}
	return strings.Join(each, " and ")
}

// telephones finds numbers of the register and of callers: the whole one, else
// those that begin or end so.
func (a *question) telephones(ctx context.Context, q querier, cursor string) (Hits[Telephone], error) {
	h := noHits[Telephone]()
	if a.digits == "" {
		return h, nil
	}
	after := ""
	if cursor != "" {
		raw, err := base64.RawURLEncoding.DecodeString(cursor)
		if after = string(raw); err != nil || !wellFormed.MatchString(after) {
			return h, &Refusal{"cursor", "La pagina richiesta non esiste."}
		}
	}
	// Each way to a number ends after a page of them, whatever it goes through;
	// so do calls of one number, of which there may be thousands.
	var ways []string
	args := pgx.StrictNamedArgs{"after": after, "limit": a.limit + 1}
	for i := range a.patterns() {
		ways = append(ways,
			`(select distinct number collate "C" as number from customer_numbers where `+a.like("number", i, args)+` and number collate "C" > @after order by 1 limit @limit)`,
			`(select distinct caller collate "C" from contacts where `+a.like("caller", i, args)+` and caller collate "C" > @after order by 1 limit @limit)`)
	}
	rows, err := q.Query(ctx, `with hits as (select distinct number from (`+strings.Join(ways, " union all ")+`) w order by number limit @limit)
		select h.number, coalesce(k.calls, 0), k.last from hits h
		left join lateral (select count(*) as calls, max(t0) as last from contacts c where c.caller = h.number) k on true order by h.number`, args)
	if err != nil {
		return h, err
	}
	h.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Telephone, error) {
		n := Telephone{People: []Customer{}}
		err := row.Scan(&n.Number, &n.Calls, &n.LastCall)
		n.LastCall = utc(n.LastCall)
		return n, err
	})
	if err != nil {
		return h, err
	}
	h.Items = orEmpty(h.Items)
	if len(h.Items) > a.limit {
		h.Items = h.Items[:a.limit]
		next := base64.RawURLEncoding.EncodeToString([]byte(h.Items[a.limit-1].Number))
		h.Next = &next
	}
	return h, a.whose(ctx, q, h.Items)
}

// patterns are the numbers that were perhaps meant by some digits.
func (a *question) patterns() []string {
	if a.whole != "" {
		return []string{a.whole + "%"}
	}
	international := strings.HasPrefix(a.text, "+") || strings.HasPrefix(a.text, "00")
	if international {
		return []string{"+" + a.digits + "%"}
	}
	return []string{"+" + italy + a.digits + "%", a.digits + "%", "%" + a.digits}
}

// like is the condition of one pattern on a column, as its index has it.
func (a *question) like(column string, i int, args pgx.StrictNamedArgs) string {
	name := "like" + strconv.Itoa(i)
	if args[name] = a.patterns()[i]; strings.HasPrefix(a.patterns()[i], "%") {
		return `reverse(` + column + `) collate "C" like reverse(@` + name + `)`
	}
	return column + ` collate "C" like @` + name
}

// numbered is the condition of all patterns on a column.
func (a *question) numbered(column string, args pgx.StrictNamedArgs) string {
	var any []string
	for i := range a.patterns() {
		any = append(any, a.like(column, i, args))
	}
	return strings.Join(any, " or ")
}

// whose adds the people of each number.
func (a *question) whose(ctx context.Context, q querier, list []Telephone) error {
	for i, n := range list {
		people, err := collectCustomers(ctx, q, `where c.id in (select customer_id from customer_numbers where number = @number) order by c.sort, c.id limit @limit`,
			pgx.StrictNamedArgs{"number": n.Number, "limit": MatchesShown})
		if err != nil {
			return err
		}
		list[i].People = people
	}
	return nil
}
