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
	secretFresh = 30 * time.Second // a changed password works after that at the latest
	maxSecrets  = 4096             // extensions kept in memory
	lookLongest = 1 * time.Second  // then the database is as good as away
)

// Locations keeps the telephones in the database (tables phones and
// phone_bindings) and a copy in memory, so that ringing works, and a telephone
// stays signed in, with the database away. It is a Phones.
type Locations struct {
	db *db.DB

	mu       sync.Mutex // guards what follows
	secrets  map[string]secret
	bindings map[string]map[string]Binding // extension → contact
	loaded   map[string]bool               // extensions whose rows were read
	unkept   map[string]bool               // changed in memory while the database was away
}

type secret struct {
	md5, sha256 string
	ok          bool
	at          time.Time
}

// NewLocations makes one; nothing is read yet.
func NewLocations(d *db.DB) *Locations {
	return &Locations{db: d, secrets: map[string]secret{}, bindings: map[string]map[string]Binding{}, loaded: map[string]bool{}, unkept: map[string]bool{}}
}

// Secret implements Phones. It asks the database, and falls back on what it
// answered last.
func (l *Locations) Secret(ctx context.Context, extension string) (md5, sha256 string, ok bool, err error) {
	if !isExtension(extension) {
		return "", "", false, nil
	}
	now := time.Now()
	l.mu.Lock()
	s, known := l.secrets[extension]
	l.mu.Unlock()
	if known && s.ok && now.Sub(s.at) < secretFresh {
		return s.md5, s.sha256, true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLongest)
	defer cancel()
	fresh := secret{at: now, ok: true}
	err = l.db.Pool.QueryRow(ctx, `select ha1_md5, ha1_sha256 from phones where extension = @extension`,
		pgx.StrictNamedArgs{"extension": extension}).Scan(&fresh.md5, &fresh.sha256)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		fresh.ok = false
	case err != nil && known:
		return s.md5, s.sha256, s.ok, nil
	case err != nil:
		return "", "", false, fmt.Errorf("telephone's secret: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if fresh.ok && (known || len(l.secrets) < maxSecrets) {
		l.secrets[extension] = fresh
	} else {
		delete(l.secrets, extension)
	}
	return fresh.md5, fresh.sha256, fresh.ok, nil
}

// isExtension is the check of the table.
func isExtension(s string) bool { return len(s) >= 2 && len(s) <= 10 && isDigits(s) }

// Bind implements Phones. With the database away the binding lives in memory.
func (l *Locations) Bind(ctx context.Context, b Binding) error {
	if err := l.load(ctx, b.Extension); err != nil && !db.Away(err) {
		return err
	}
	l.mu.Lock()
	if l.bindings[b.Extension] == nil {
		l.bindings[b.Extension] = map[string]Binding{}
	}
	l.bindings[b.Extension][b.Contact] = b
	l.mu.Unlock()
	return l.keep(ctx, b.Extension, `
		insert into phone_bindings (extension, contact, source, transport, call_id, cseq, user_agent, expires_at)
		values (@extension, @contact, @source, @transport, @call_id, @cseq, @user_agent, @expires_at)
		on conflict (extension, contact) do update set source = excluded.source, transport = excluded.transport,
			call_id = excluded.call_id, cseq = excluded.cseq, user_agent = excluded.user_agent, expires_at = excluded.expires_at`,
		pgx.StrictNamedArgs{"extension": b.Extension, "contact": b.Contact, "source": b.Source.String(), "transport": b.Transport,
			"call_id": printable(b.CallID), "cseq": int64(b.CSeq), "user_agent": printable(b.UserAgent), "expires_at": b.Expires})
}

// Unbind implements Phones.
func (l *Locations) Unbind(ctx context.Context, extension, contact string) error {
	if err := l.load(ctx, extension); err != nil && !db.Away(err) {
		return err
	}
	l.mu.Lock()
	if contact == "*" {
		delete(l.bindings, extension)
	} else {
		delete(l.bindings[extension], contact)
	}
	l.mu.Unlock()
	return l.keep(ctx, extension, `delete from phone_bindings where extension = @extension and (contact = @contact or @contact = '*')`,
		pgx.StrictNamedArgs{"extension": extension, "contact": contact})
}

// Bindings implements Phones, the one registered last first.
func (l *Locations) Bindings(ctx context.Context, extension string, at time.Time) ([]Binding, error) {
	if !isExtension(extension) {
		return nil, nil
	}
	err := l.load(ctx, extension)
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

// load reads an extension's rows once: what was registered before a restart.
func (l *Locations) load(ctx context.Context, extension string) error {
	l.mu.Lock()
	done := l.loaded[extension]
	l.mu.Unlock()
	if done {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLongest)
	defer cancel()
	rows, err := l.db.Pool.Query(ctx, `
		select contact, source, transport, call_id, cseq, user_agent, expires_at
		from phone_bindings where extension = @extension`, pgx.StrictNamedArgs{"extension": extension})
	if err != nil {
		return fmt.Errorf("telephone's places: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Binding, error) {
		b := Binding{Extension: extension}
		var source string
		var seq int64
		if err := row.Scan(&b.Contact, &source, &b.Transport, &b.CallID, &seq, &b.UserAgent, &b.Expires); err != nil {
			return b, err
		}
		b.CSeq = uint32(seq)
		b.Source, _ = netip.ParseAddrPort(source)
		return b, nil
	})
	if err != nil {
		return fmt.Errorf("telephone's places: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded[extension] {
		return nil
	}
	l.loaded[extension] = true
	if l.bindings[extension] == nil {
		l.bindings[extension] = map[string]Binding{}
	}
	for _, b := range found {
		if _, newer := l.bindings[extension][b.Contact]; !newer && !l.unkept[extension] {
			l.bindings[extension][b.Contact] = b
		}
	}
	return nil
}

// keep writes a change; with the database away it is enough that we know it: the
// telephone registers again long before anybody misses the row.
func (l *Locations) keep(ctx context.Context, extension, sql string, args pgx.StrictNamedArgs) error {
	ctx, cancel := context.WithTimeout(ctx, lookLongest)
	defer cancel()
	_, err := l.db.Pool.Exec(ctx, sql, args)
	if db.Away(err) || errors.Is(err, context.DeadlineExceeded) {
		l.mu.Lock()
		l.unkept[extension] = true
		l.mu.Unlock()
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep telephone's place: %w", err)
	}
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
