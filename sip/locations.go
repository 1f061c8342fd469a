package sip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pronto-desk/pronto/db"
)

const (
	secretFresh = 30 * time.Second // secrets are read again after that
	secretAgain = 2 * time.Second  // and after that for an answer that is wrong: the password may just have been set
	maxSecrets  = 1 << 16          // telephones
	lookLongest = 1 * time.Second  // then the database is as good as away
	readAgain   = 1 * time.Second  // between two tries to read an extension's rows
	topicPhones = "phones"         // woken when a telephone came, moved or went
)

// Locations keeps the telephones in the database (tables phones and
// phone_bindings) and a copy in memory, so that ringing works, and a telephone
// stays signed in, with the database away. Where a telephone comes, moves or goes,
// all nodes are woken and read its rows anew. It is a Phones.
type Locations struct {
	db      *db.DB
	node    string           // ours
	changed *db.Subscription // what was read is no longer true

	reading sync.Mutex // held while the secrets are read

	mu       sync.Mutex // guards what follows
	secrets  map[string]Secret
	read     time.Time                     // when those were; zero: never
	failed   time.Time                     // when reading them did not work
	bindings map[string]map[string]Binding // extension → contact
	loaded   map[string]bool               // extensions whose rows were read
	tried    map[string]time.Time          // when reading them failed
	unkept   map[string]bool               // changed in memory while the database was away
}

// NewLocations makes the one of a node; nothing is read yet.
func NewLocations(d *db.DB, node string) *Locations {
	return &Locations{
		db: d, node: node, changed: d.Wakeups.Subscribe(topicPhones),
		bindings: map[string]map[string]Binding{}, loaded: map[string]bool{}, tried: map[string]time.Time{}, unkept: map[string]bool{},
	}
}

// Secret implements Phones. All secrets are in memory, so that nobody can tell by the
// time it takes which extensions there are, strangers cannot make the database work, and
// telephones sign in while it is away.
func (l *Locations) Secret(ctx context.Context, extension string, again bool) (Secret, bool, error) {
	old := secretFresh
	if again {
		old = secretAgain
	}
	err := l.readSecrets(ctx, old)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.read.IsZero() {
		return Secret{}, false, err
	}
	s, ok := l.secrets[extension]
	return s, ok, nil
}

// readSecrets reads the telephones' secrets, and where each was lately, unless that was
// done a short while ago. With the database away it tries no more often.
func (l *Locations) readSecrets(ctx context.Context, old time.Duration) error {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	now := time.Now()
	fresh := !l.read.IsZero() && now.Sub(l.read) < old
	waits := !l.read.IsZero() && now.Sub(l.failed).Abs() < readAgain
	l.mu.Unlock()
	if fresh || waits {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLongest)
	defer cancel()
	secrets := map[string]Secret{}
	rows, err := l.db.Pool.Query(ctx, `
		select p.extension, p.ha1_md5, p.ha1_sha256, array(select b.source from phone_bindings b where b.extension = p.extension)
		from phones p limit @most`, pgx.StrictNamedArgs{"most": maxSecrets})
	if err == nil {
		var extension string
		var s Secret
		var places []string
		_, err = pgx.ForEachRow(rows, []any{&extension, &s.MD5, &s.SHA256, &places}, func() error {
			s.Places = nil
			for _, text := range places {
				if at, err := netip.ParseAddrPort(text); err == nil {
					s.Places = append(s.Places, at.Addr())
				}
			}
			secrets[extension] = s
			return nil
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = now
		return fmt.Errorf("telephones' secrets: %w", err)
	}
	l.secrets, l.read = secrets, now
	return nil
}

// isExtension is the check of the table.
func isExtension(s string) bool { return len(s) >= 2 && len(s) <= 10 && isDigits(s) }

// Bind implements Phones. With the database away the binding lives in memory.
func (l *Locations) Bind(ctx context.Context, b Binding) error {
	if err := l.load(ctx, b.Extension, time.Now()); err != nil && !db.Away(err) {
		return err
	}
	if b.Node == "" {
		b.Node = l.node
	}
	l.mu.Lock()
	before, had := l.bindings[b.Extension][b.Contact]
	l.mu.Unlock()
	// What is only renewed is no news to other nodes: they read it when it would expire.
	news := !had || before.Node != b.Node || before.Source != b.Source || before.Transport != b.Transport || !before.Expires.After(time.Now())
	err := l.keep(ctx, b.Extension, news, `
		insert into phone_bindings (extension, contact, source, transport, node, call_id, cseq, user_agent, expires_at)
		values (@extension, @contact, @source, @transport, @node, @call_id, @cseq, @user_agent, @expires_at)
		on conflict (extension, contact) do update set source = excluded.source, transport = excluded.transport, node = excluded.node,
			call_id = excluded.call_id, cseq = excluded.cseq, user_agent = excluded.user_agent, expires_at = excluded.expires_at`,
		pgx.StrictNamedArgs{"extension": b.Extension, "contact": b.Contact, "source": b.Source.String(), "transport": b.Transport, "node": b.Node,
			"call_id": printable(b.CallID), "cseq": int64(b.CSeq), "user_agent": printable(b.UserAgent), "expires_at": b.Expires})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bindings[b.Extension] == nil {
		l.bindings[b.Extension] = map[string]Binding{}
	}
	l.bindings[b.Extension][b.Contact] = b
	return nil
}

// Unbind implements Phones.
func (l *Locations) Unbind(ctx context.Context, extension, contact string) error {
	if err := l.load(ctx, extension, time.Now()); err != nil && !db.Away(err) {
		return err
	}
	err := l.keep(ctx, extension, true, `delete from phone_bindings where extension = @extension and (contact = @contact or @contact = '*')`,
		pgx.StrictNamedArgs{"extension": extension, "contact": contact})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if contact == "*" {
		delete(l.bindings, extension)
	} else {
		delete(l.bindings[extension], contact)
	}
	return nil
}

// Bindings implements Phones, the one registered last first.
func (l *Locations) Bindings(ctx context.Context, extension string, at time.Time) ([]Binding, error) {
	if !isExtension(extension) {
		return nil, nil
	}
	err := l.load(ctx, extension, at)
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.bindings[extension]
	maps.DeleteFunc(mine, func(_ string, b Binding) bool { return !b.Expires.After(at) })
	list := slices.SortedFunc(maps.Values(mine), func(a, b Binding) int {
		if c := b.Expires.Compare(a.Expires); c != 0 {
			return c
		}
		return strings.Compare(a.Contact, b.Contact)
	})
	if err != nil && len(list) == 0 {
		return nil, err
	}
	return list, nil
}

// Here are the telephones that have registered at this node, in this life or one before.
func (l *Locations) Here(ctx context.Context) ([]Binding, error) {
	rows, err := l.db.Pool.Query(ctx, `
		select extension, contact, source, transport, expires_at from phone_bindings where node = @node and expires_at > @at`,
		pgx.StrictNamedArgs{"node": l.node, "at": time.Now()})
	if err != nil {
		return nil, fmt.Errorf("telephones of this node: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Binding, err error) {
		var source string
		err = row.Scan(&b.Extension, &b.Contact, &source, &b.Transport, &b.Expires)
		b.Source, _ = netip.ParseAddrPort(source)
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("telephones of this node: %w", err)
	}
	return list, nil
}

// fresh tells whether what memory holds of an extension is true: its rows were
// read, nobody has changed them since, and none of another node's has expired,
// which that node may have renewed.
func (l *Locations) fresh(extension string, at time.Time) bool {
	select {
	case <-l.changed.C():
		clear(l.loaded)
	default:
	}
	for _, b := range l.bindings[extension] {
		if b.Node != l.node && !b.Expires.After(at) {
			delete(l.loaded, extension)
		}
	}
	return l.loaded[extension]
}

// load reads an extension's rows, unless memory is as good.
func (l *Locations) load(ctx context.Context, extension string, at time.Time) error {
	l.mu.Lock()
	if l.fresh(extension, at) {
		l.mu.Unlock()
		return nil
	}
	_, known := l.bindings[extension]
	waits := known && at.Sub(l.tried[extension]).Abs() < readAgain
	l.mu.Unlock()
	if waits {
		return nil // the database was away a moment ago: memory will do
	}
	ctx, cancel := context.WithTimeout(ctx, lookLongest)
	defer cancel()
	rows, err := l.db.Pool.Query(ctx, `
		select contact, source, transport, node, call_id, cseq, user_agent, expires_at
		from phone_bindings where extension = @extension`, pgx.StrictNamedArgs{"extension": extension})
	var found []Binding
	if err == nil {
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Binding, error) { return scanBinding(row, extension) })
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.tried[extension] = at
		return fmt.Errorf("telephone's places: %w", err)
	}
	delete(l.tried, extension)
	l.loaded[extension] = true
	read := make(map[string]Binding, len(found))
	for _, b := range found {
		if b.Node != l.node || !l.unkept[extension] { // of ours memory knows better
			read[b.Contact] = b
		}
	}
	for _, b := range l.bindings[extension] {
		if b.Node == l.node && l.unkept[extension] {
			read[b.Contact] = b
		}
	}
	l.bindings[extension] = read
	return nil
}

func scanBinding(row pgx.CollectableRow, extension string) (Binding, error) {
	b := Binding{Extension: extension}
	var source string
	var seq int64
	if err := row.Scan(&b.Contact, &source, &b.Transport, &b.Node, &b.CallID, &seq, &b.UserAgent, &b.Expires); err != nil {
		return b, err
	}
	b.CSeq = uint32(seq)
	b.Source, _ = netip.ParseAddrPort(source)
	return b, nil
}

// keep writes a change, and wakes the other nodes when it is news to them; with
// the database away it is enough that we know it: the telephone registers again
// long before anybody misses the row.
func (l *Locations) keep(ctx context.Context, extension string, news bool, sql string, args pgx.StrictNamedArgs) error {
	ctx, cancel := context.WithTimeout(ctx, lookLongest)
	defer cancel()
	err := l.db.Tx(ctx, func(tx *db.Tx) error {
		if news {
			tx.Wake(topicPhones)
		}
		_, err := tx.Exec(ctx, sql, args)
		return err
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if db.Away(err) || errors.Is(err, context.DeadlineExceeded) {
		l.unkept[extension] = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep telephone's place: %w", err)
	}
	delete(l.unkept, extension)
	return nil
}

// printable makes text from a telephone fit for a column.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
