package tickets

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/encoding/charmap"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// Limits of an imported file. A region has some ten thousand doctors.
const (
	ImportBytes = 10 << 20
	importLines = 100_000
	// ImportLongest is for the whole import: 100 000 rows take some seconds.
	ImportLongest = 2 * time.Minute
)

// The columns of the register. codice and nome are needed; their order is free.
const (
	colCode      = "codice"
	colName      = "nome"
	colPractice  = "ambulatorio"
	colAuthority = "azienda"
	colEmail     = "email"
	colNumbers   = "numeri"
)

var importColumns = []string{colCode, colName, colPractice, colAuthority, colEmail, colNumbers}

// BadLine is a line of an imported file that cannot be used.
type BadLine struct {
	Line   int    `json:"line"`   // from 1, as an editor counts; the header is usually line 1
	Reason string `json:"reason"` // Italian
}

// Imported says what an import did. With bad lines it did nothing.
type Imported struct {
	Created   int       `json:"created"`
	Updated   int       `json:"updated"`
	Unchanged int       `json:"unchanged"`
	Bad       []BadLine `json:"bad"`
}

// ImportCustomers reads the register from CSV: a header with codice, nome,
// ambulatorio, azienda, email, numeri; commas or semicolons; UTF-8 (with or
// without BOM) or Windows-1252; the numbers of one doctor separated by spaces
// or semicolons. A doctor whose code is known is updated, nobody is removed.
// When any line is bad nothing is imported: Imported.Bad lists every one and
// err is a *Refusal. by is who imports, 0 for the command line.
func (b *Book) ImportCustomers(ctx context.Context, r io.Reader, by int64, at time.Time) (Imported, error) {
	list, absent, bad, err := parseCustomers(r)
	switch {
	case err != nil:
		return Imported{Bad: []BadLine{}}, err
	case len(bad) > 0:
		return Imported{Bad: bad}, &Refusal{"file", fmt.Sprintf("Il file ha %d righe errate: non è stato importato nulla.", len(bad))}
	}
	ctx, cancel := context.WithTimeout(ctx, ImportLongest)
	defer cancel()
	done, err := b.putCustomers(ctx, list, absent, by, at)
	if err != nil {
		return Imported{Bad: []BadLine{}}, fmt.Errorf("import customers: %w", err)
	}
	return done, nil
}

// parseCustomers reads a file into customers that can be written, or lists its
// bad lines. absent are the columns it has not: what is known there stays. err is about the file as a whole and a *Refusal unless reading
// itself failed.
func parseCustomers(r io.Reader) (list []Customer, absent []string, bad []BadLine, err error) {
	raw, err := io.ReadAll(io.LimitReader(r, ImportBytes+1))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the file: %w", err)
	}
	if len(raw) > ImportBytes {
		return nil, nil, nil, &Refusal{"file", fmt.Sprintf("Il file supera %d MiB.", ImportBytes>>20)}
	}
	text, err := decode(raw)
	if err != nil {
		return nil, nil, nil, err
	}
	if bytes.Count(text, []byte("\n")) > importLines {
		return nil, nil, nil, &Refusal{"file", fmt.Sprintf("Il file supera %d righe.", importLines)}
	}
	comma := separator(text)
	lines := csv.NewReader(bytes.NewReader(text))
	lines.Comma, lines.FieldsPerRecord, lines.ReuseRecord = comma, -1, true
	header, err := lines.Read()
	if err != nil {
		return nil, nil, nil, &Refusal{"file", "Il file è vuoto o la prima riga non si legge."}
	}
	columns, err := readHeader(header)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, name := range importColumns {
		if n, ok := columns[name]; !ok || n < 0 {
			absent = append(absent, name)
		}
	}
	width := len(header)
	seen := map[string]int{} // the line of each code
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return list, absent, bad, nil
		}
		var broken *csv.ParseError
		if errors.As(err, &broken) {
			bad = append(bad, BadLine{broken.StartLine, "virgolette non chiuse o fuori posto"})
			continue
		} else if err != nil {
			return nil, nil, nil, fmt.Errorf("read the file: %w", err)
		}
		at, _ := lines.FieldPos(0)
		// Numbers separated by ";" in a file whose separator it is.
		if n := columns[colNumbers]; comma == ';' && len(fields) > width && n == width-1 {
			fields = append(fields[:n:n], strings.Join(fields[n:], ";"))
		}
		if len(fields) != width {
			if blank(fields) {
				continue // a spreadsheet's empty last lines
			}
			bad = append(bad, BadLine{at, fmt.Sprintf("%d campi invece di %d", len(fields), width)})
			continue
		}
		if blank(fields) {
			continue
		}
		c, err := customerOf(fields, columns)
		if err != nil {
			bad = append(bad, BadLine{at, err.Error()})
			continue
		}
		if first, twice := seen[c.Code]; twice {
			bad = append(bad, BadLine{at, fmt.Sprintf("codice già presente alla riga %d", first)})
			continue
		}
		seen[c.Code] = at
		list = append(list, c)
	}
}

// decode makes UTF-8 of what spreadsheets write.
func decode(raw []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(raw, []byte("\xff\xfe")), bytes.HasPrefix(raw, []byte("\xfe\xff")), bytes.IndexByte(raw, 0) >= 0:
		return nil, &Refusal{"file", "Il file non è un CSV in UTF-8 o Windows-1252: salvarlo come «CSV UTF-8»."}
	case utf8.Valid(raw):
		raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	default:
		var err error
		if raw, err = charmap.Windows1252.NewDecoder().Bytes(raw); err != nil {
			return nil, &Refusal{"file", "Il file non è un CSV in UTF-8 o Windows-1252: salvarlo come «CSV UTF-8»."}
		}
	}
	// An old Macintosh's line ends; encoding/csv knows the other two.
	if !bytes.ContainsRune(raw, '\n') {
		raw = bytes.ReplaceAll(raw, []byte("\r"), []byte("\n"))
	}
	return raw, nil
}

// separator is the one the header uses more of: no column's name has either.
func separator(text []byte) rune {
	first, _, _ := bytes.Cut(bytes.TrimLeft(text, "\r\n"), []byte("\n"))
	if bytes.Count(first, []byte(";")) > bytes.Count(first, []byte(",")) {
		return ';'
	}
	return ','
}

// readHeader finds the place of each column.
func readHeader(header []string) (map[string]int, error) {
	columns := map[string]int{}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if !slices.Contains(importColumns, name) {
			return nil, &Refusal{"file", fmt.Sprintf("Colonna sconosciuta %q: le colonne sono %s.", short(name), strings.Join(importColumns, ", "))}
		}
		if _, twice := columns[name]; twice {
			return nil, &Refusal{"file", fmt.Sprintf("La colonna %q c'è due volte.", name)}
		}
		columns[name] = i
	}
	for _, needed := range []string{colCode, colName} {
		if _, ok := columns[needed]; !ok {
			return nil, &Refusal{"file", fmt.Sprintf("Manca la colonna %q: le colonne sono %s.", needed, strings.Join(importColumns, ", "))}
		}
	}
	if _, ok := columns[colNumbers]; !ok {
		columns[colNumbers] = -1
	}
	return columns, nil
}

func blank(fields []string) bool {
	return !slices.ContainsFunc(fields, func(f string) bool { return strings.TrimSpace(f) != "" })
}

// customerOf reads one line; the error is Italian.
func customerOf(fields []string, columns map[string]int) (Customer, error) {
	get := func(name string) string {
		if i, ok := columns[name]; ok && i >= 0 {
			return fields[i]
		}
		return ""
	}
	c, err := Customer{
		Code: get(colCode), Name: get(colName), Practice: get(colPractice), Authority: get(colAuthority), Email: get(colEmail),
		Numbers: splitNumbers(get(colNumbers)),
	}.checked()
	var r *Refusal
	if errors.As(err, &r) {
		return c, errors.New(r.Reason)
	}
	return c, err
}

// partLeast is the length from which something between blanks is taken for a
// whole number: "05512 34567" is one.
const partLeast = 8

// splitNumbers parts a doctor's numbers. Semicolons and line ends always part
// them; blanks do too, unless they stand inside one number, as people write it.
func splitNumbers(s string) []string {
	var numbers []string
	for _, group := range strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == '\n' || r == '|' }) {
		group = strings.TrimSpace(group)
		if group == "" {
			continue
		}
		parts := strings.Fields(group)
		each := !slices.ContainsFunc(parts, func(p string) bool { return len(p) < partLeast || !reachable(Normalise(p)) })
		switch {
		case len(parts) > 1 && each: // several numbers
			numbers = append(numbers, parts...)
		default: // one number, perhaps with blanks
			numbers = append(numbers, group)
		}
	}
	return numbers
}

// mergeCustomers writes customers by way of a temporary table: a hundred
// thousand in some seconds, and in the same statements as one.
func mergeCustomers(ctx context.Context, tx *db.Tx, list []Customer, absent []string, by int64, at time.Time) (Imported, error) {
	// Two imports at once wait for each other instead of deadlocking on rows.
	if _, err := tx.Exec(ctx, `lock table customers in share row exclusive mode`); err != nil {
		return Imported{Bad: []BadLine{}}, err
	}
	done, err := stageCustomers(ctx, tx, list, absent)
	if err != nil {
		return done, err
	}
	if done.Created+done.Updated == 0 {
		return done, nil
	}
	var batch pgx.Batch
	batch.Queue(`insert into customers (code, name, practice, authority, email, updated_at) select code, name, practice, authority, email, $1 from incoming
		on conflict (code) do update set name = excluded.name, practice = excluded.practice, authority = excluded.authority, email = excluded.email, updated_at = excluded.updated_at, version = customers.version + 1`, at)
	batch.Queue(`delete from customer_numbers n using customers c, incoming i where c.code = i.code and n.customer_id = c.id and n.number <> all (i.numbers)`)
	batch.Queue(`insert into customer_numbers (number, customer_id) select unnest(i.numbers), c.id from incoming i join customers c on c.code = i.code on conflict do nothing`)
	if err := journal.Queue(&batch, journal.Line{
		Stream: customersStream, At: at, Kind: journal.Imported, User: by, Data: map[string]any{"created": done.Created, "updated": done.Updated},
	}); err != nil {
		return done, err
	}
	tx.Wake(topicJournal, customersStream)
	return done, tx.SendBatch(ctx, &batch).Close()
}

// asKnown fills a column that a file has not with what is known of each person.
var asKnown = map[string]string{
	colPractice:  `practice = c.practice`,
	colAuthority: `authority = c.authority`,
	colEmail:     `email = c.email`,
	colNumbers:   `numbers = array(select n.number from customer_numbers n where n.customer_id = c.id order by n.number collate "C")`,
}

// stageCustomers puts those that are new or differ into the temporary table
// incoming, and counts them. In absent columns they do not differ.
func stageCustomers(ctx context.Context, tx *db.Tx, list []Customer, absent []string) (Imported, error) {
	done := Imported{Bad: []BadLine{}}
	if _, err := tx.Exec(ctx, `create temporary table incoming (code text primary key, name text, practice text, authority text, email text, numbers text[]) on commit drop`); err != nil {
		return done, err
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"incoming"}, []string{"code", "name", "practice", "authority", "email", "numbers"},
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
			c := list[i]
			return []any{c.Code, c.Name, c.Practice, c.Authority, c.Email, c.Numbers}, nil
		})); err != nil {
		return done, err
	}
	for _, column := range absent {
		if _, err := tx.Exec(ctx, `update incoming i set `+asKnown[column]+` from customers c where c.code = i.code`); err != nil {
			return done, err
		}
	}
	same, err := tx.Exec(ctx, `delete from incoming i using customers c where c.code = i.code
		and (c.name, c.practice, c.authority, c.email) = (i.name, i.practice, i.authority, i.email)
		and array(select n.number from customer_numbers n where n.customer_id = c.id order by n.number collate "C") = i.numbers`)
	if err != nil {
		return done, err
	}
	done.Unchanged = int(same.RowsAffected())
	err = tx.QueryRow(ctx, `select count(*) filter (where c.id is null), count(c.id) from incoming i left join customers c on c.code = i.code`).Scan(&done.Created, &done.Updated)
	return done, err
}

// customersStream is the journal of the register.
const customersStream = "customers"
