package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/queue"
)

const (
	slack     = time.Second      // a wait that a match could have ended: wake-ups are at once, the next beat after 2 s
	settling  = 20 * time.Second // after the house was away: its node is taken for alive again
	refusal   = 60 * time.Second // a caller is not offered again to who refused
	showFirst = 10               // of the faults of one kind
)

// agrees asks the rows and the journal of a day what must hold, without asking
// the code that made them.
func (d *day) agrees(ctx context.Context) (faults []error) {
	for _, question := range []func(context.Context) ([]string, error){d.endings, d.instants, d.sounds, d.chains, d.calls, d.seats, d.idleness} {
		answers, err := question(ctx)
		if err != nil {
			faults = append(faults, err)
		}
		for i, a := range answers {
			if i == showFirst {
				faults = append(faults, fmt.Errorf("… and %d more", len(answers)-i))
				break
			}
			faults = append(faults, errors.New(a))
		}
	}
	return faults
}

// strings runs a query whose rows are faults.
func (d *day) ask(ctx context.Context, sql string, args ...any) ([]string, error) {
	rows, err := d.db.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// endings: each contact has one, the journal and the row agree on it, and it is
// one that its way can have.
func (d *day) endings(ctx context.Context) ([]string, error) {
	counts, err := d.ask(ctx, `select ending || ' ' || count(*) from contacts group by ending order by 1`)
	if err != nil {
		return nil, err
	}
	d.t.Logf("endings: %s", strings.Join(counts, ", "))
	counts, err = d.ask(ctx, `select kind || ' ' || count(*) from journal where stream like 'contact:%' and kind in ('held', 'given', 'asked', 'consulted', 'conferred', 'joined') group by kind order by 1`)
	if err != nil {
		return nil, err
	}
	d.t.Logf("talks: %s", strings.Join(counts, ", "))
	return d.ask(ctx, `
		with lines as (select contact_id, array_agg(kind) as kinds, count(*) filter (where kind = 'ended') as ended,
				max(data ->> 'ending') filter (where kind = 'ended') as ending, count(*) filter (where kind = 'accepted') as accepted,
				count(*) filter (where kind in ('given', 'asked')) as others
			from journal where stream like 'contact:%' group by contact_id)
		select format('contact %s (%s, %s): %s', c.id, c.ending, l.kinds, w.what) from contacts c left join lines l on l.contact_id = c.id
		cross join lateral (values
			(l.contact_id is null, 'no line in the journal'),
			(l.ended <> 1, 'not one ending in the journal'),
			(l.ending is distinct from c.ending, 'the journal says ' || l.ending),
			(l.accepted > 1 + l.others and not l.kinds @> array['booked'], 'accepted too often'),
			(c.ending = 'callback_booked' and not l.kinds @> array['booked'], 'a callback that nobody booked'),
			(c.ending = 'served' and (c.tc is null or l.accepted = 0 or c.operator_id is null or c.ticket_id is null), 'served by nobody'),
			(c.ending = 'abandoned_queue' and c.tc is not null and not l.kinds @> array['given'], 'abandoned while talking'),
			(c.ending = 'abandoned_ivr' and c.tc is not null, 'abandoned in the menu after talking'),
			(c.ending = 'abandoned_queue' and c.tq is null and c.direction = 'inbound', 'abandoned in a queue that it never was in'),
			(c.ending = 'voicemail' and not exists (select from recordings r where r.contact_id = c.id and r.state = 'complete' and r.sound_ms >= 2000), 'a message without sound'),
			(c.ending = 'voicemail' and c.ticket_id is null, 'a message without a ticket'),
			(c.ending in ('abandoned_queue', 'system_fault') and c.caller <> '' and c.ring_back is null, 'nobody is to ring back')
		) as w(wrong, what) where w.wrong`)
}

// instants are in their order, so that the intervals between them add up to the
// contact's length; and what begins to wait in the journal waits in the row.
func (d *day) instants(ctx context.Context) ([]string, error) {
	return d.ask(ctx, `select format('contact %s (%s): t0 %s ta %s ts %s tq %s tr %s tc %s te %s tw %s', id, ending, t0, ta, ts, tq, tr, tc, te, tw)
		from contacts c where coalesce(to_jsonb(c) ->> 'direction', 'inbound') = 'inbound' and (not (t0 <= coalesce(ta, t0) and coalesce(ta, t0) <= coalesce(ts, ta, t0) and coalesce(ts, ta, t0) <= coalesce(tq, ts, ta, t0)
			and coalesce(tq, ts, ta, t0) <= coalesce(tr, tq, ts, ta, t0) and coalesce(tr, tq, ts, ta, t0) <= coalesce(tc, tr, tq, ts, ta, t0)
			and coalesce(tc, tr, tq, ts, ta, t0) <= te and coalesce(tw >= tc, true))
			or (tc is not null and tr is null) or (tr is not null and tq is null))`)
}

// sounds: every recording has its contact and its file, every file its recording.
func (d *day) sounds(ctx context.Context) (faults []string, err error) {
	rows, err := d.db.Pool.Query(ctx, `select path from recordings`)
	if err != nil {
		return nil, err
	}
	paths, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	d.t.Logf("%d recordings", len(paths))
	known := map[string]bool{}
	for _, path := range paths {
		known[path] = true
		if info, err := os.Stat(filepath.Join(d.dir, path)); err != nil || info.Size() == 0 {
			faults = append(faults, fmt.Sprintf("the recording %s has no file: %v", path, err))
		}
	}
	err = filepath.WalkDir(filepath.Join(d.dir, "recordings"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if short, _ := filepath.Rel(d.dir, path); !known[short] {
			faults = append(faults, "the file "+short+" is nobody's")
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return faults, err
}

// chains: every stream of the journal verifies.
func (d *day) chains(ctx context.Context) (faults []string, err error) {
	streams, err := d.ask(ctx, `select distinct stream from journal`)
	if err != nil {
		return nil, err
	}
	for _, stream := range streams {
		if err := journal.Verify(ctx, d.db.Pool, stream); err != nil {
			faults = append(faults, err.Error())
		}
	}
	return faults, nil
}

// calls: whoever was answered is on record.
func (d *day) calls(ctx context.Context) (faults []string, err error) {
	for from, times := range d.answered {
		var n int
		if err := d.db.Pool.QueryRow(ctx, `select count(*) from contacts where caller = $1 and ta is not null`, from).Scan(&n); err != nil {
			return nil, err
		}
		if n < times {
			faults = append(faults, fmt.Sprintf("%q was answered %d times, %d are on record", from, times, n))
		}
	}
	return faults, nil
}

// seats: at midnight everybody has gone home.
func (d *day) seats(ctx context.Context) ([]string, error) {
	return d.ask(ctx, `select format('the seat of %s is %s, %s', u.name, s.declared, s.doing) from seats s join users u on u.id = s.user_id
		where s.declared <> 'off' or s.doing <> 'idle' or s.offer_id is not null or s.contact_id is not null`)
}

// waiting is a stretch in which a caller could have been offered to somebody.
type waiting struct {
	span
	contact uuid.UUID
	topic   int64
	urgency int
	t0      time.Time
}

// ready is a stretch in which an operator could have been offered somebody.
type ready struct {
	span
	user int64
}

// replay is the queue as the journal tells it: a small model that shares nothing
// with the queue's own code.
type replay struct {
	entries  []journal.Entry
	waits    []waiting
	readies  []ready
	offers   []journal.Entry        // seen from the contact
	refusals map[string][]time.Time // by caller and operator: the same pair may refuse again
	booked   map[uuid.UUID]bool     // to be rung back: no longer on the line
	named    map[string]bool        // offers to the colleague whom an operator has named
	faults   []string
}

// pairOf names a caller and an operator.
func pairOf(contact uuid.UUID, user int64) string { return fmt.Sprint(contact, " ", user) }

func (d *day) replay(ctx context.Context) (*replay, error) {
	rows, err := d.db.Pool.Query(ctx, `select stream, at, kind, contact_id, coalesce(user_id, 0), data from journal order by at, id`)
	if err != nil {
		return nil, err
	}
	p := &replay{refusals: map[string][]time.Time{}, booked: map[uuid.UUID]bool{}, named: map[string]bool{}}
	p.entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e journal.Entry, err error) {
		return e, row.Scan(&e.Stream, &e.At, &e.Kind, &e.Contact, &e.User, &e.Data)
	})
	if err != nil {
		return nil, err
	}
	p.queue()
	p.desks()
	return p, nil
}

// queue follows the places.
func (p *replay) queue() {
	began := map[uuid.UUID]time.Time{}
	open := map[uuid.UUID]waiting{}
	last := map[uuid.UUID]waiting{}    // the topic it joined for
	consults := map[string]bool{}      // offers to who is only asked: the caller is somebody's
	given := map[uuid.UUID]time.Time{} // to a colleague
	for _, e := range p.entries {
		if !strings.HasPrefix(e.Stream, "contact:") {
			continue
		}
		id, offer := e.Contact.UUID, fmt.Sprint(e.Data["offer"])
		ends := false
		switch e.Kind {
		case journal.Begun:
			began[id] = e.At
		case journal.Waiting:
			w := last[id]
			if topic, ok := e.Data["topic"].(float64); ok {
				w = waiting{contact: id, topic: int64(topic), urgency: int(e.Data["urgency"].(float64)), t0: began[id]}
			}
			w.from = e.At
			open[id], last[id] = w, w
		case journal.Given:
			if e.Data["to"] == "operator" {
				given[id] = e.At
			}
		case journal.Declined, journal.TimedOut, journal.Withdrawn:
			if p.booked[id] {
				continue
			}
			if e.Data["reason"] == queue.Refused {
				pair := pairOf(id, e.User)
				p.refusals[pair] = append(p.refusals[pair], e.At)
			}
			if consults[offer] {
				continue
			}
			w := last[id]
			w.from = e.At
			open[id] = w
		case journal.Offered:
			if e.Data["consult"] == true {
				consults[offer] = true
				continue
			}
			p.named[offer] = given[id].Equal(e.At)
			p.offers = append(p.offers, e)
			ends = true
		case journal.Booked:
			p.booked[id] = true
			ends = true
		case journal.Left, journal.Accepted, journal.Ended:
			if attempt, err := uuid.Parse(fmt.Sprint(e.Data["attempt"])); err == nil { // who is given on then waits where they stood
				began[attempt] = began[id]
			}
			ends = true
		}
		if w, waits := open[id]; waits && ends {
			w.to = e.At
			p.waits = append(p.waits, w)
			delete(open, id)
		}
	}
	for id := range open {
		p.faults = append(p.faults, fmt.Sprintf("contact %s still waits at midnight", id))
	}
}

// desks follows the seats.
func (p *replay) desks() {
	type seat struct {
		available, busy bool
		talking         uuid.UUID
		since           time.Time
	}
	seats := map[int64]*seat{}
	for _, e := range p.entries {
		if !strings.HasPrefix(e.Stream, "seat:") {
			continue
		}
		s := seats[e.User]
		if s == nil {
			s = &seat{}
			seats[e.User] = s
		}
		was := s.available && !s.busy
		switch e.Kind {
		case journal.Declared:
			s.available = e.Data["declared"] == string(queue.Available)
		case journal.Offered:
			if s.busy || !s.available {
				p.faults = append(p.faults, fmt.Sprintf("%s: operator %d was offered a caller while busy or away", e.At, e.User))
			}
			s.busy = true
		case journal.Accepted:
			contact, _ := uuid.Parse(fmt.Sprint(e.Data["contact"]))
			if s.talking != uuid.Nil {
				p.faults = append(p.faults, fmt.Sprintf("%s: operator %d holds %s and %s", e.At, e.User, s.talking, contact))
			}
			s.talking = contact
		case journal.Released:
			s.talking = uuid.Nil
		case journal.Declined, journal.Missed, journal.Withdrawn, journal.Wrapped:
			s.busy = false
		}
		is := s.available && !s.busy
		switch {
		case is && !was:
			s.since = e.At
		case was && !is:
			p.readies = append(p.readies, ready{span{s.since, e.At}, e.User})
		}
	}
}

// idleness: nobody waited while somebody ready on that topic sat idle, and nobody
// was overtaken by who came later.
func (d *day) idleness(ctx context.Context) ([]string, error) {
	p, err := d.replay(ctx)
	if err != nil {
		return nil, err
	}
	d.t.Logf("%d waits, %d offers, %d stretches of readiness", len(p.waits), len(p.offers), len(p.readies))
	skills, err := d.skills(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range p.waits {
		for _, r := range p.readies {
			if !skills[r.user][w.topic] {
				continue
			}
			together := span{later(w.from, r.from), earlier(w.to, r.to)}
			if at, refused := p.refused(w.contact, r.user, together.from); refused {
				together.from = later(together.from, at.Add(refusal))
			}
			if d.present(together) > slack {
				p.faults = append(p.faults, fmt.Sprintf("%s waited for topic %d while operator %d was ready, from %s for %s",
					w.contact, w.topic, r.user, together.from.In(d.opens.Location()).Format("15:04:05.000"), together.to.Sub(together.from)))
			}
		}
	}
	for _, o := range p.offers {
		i := slices.IndexFunc(p.waits, func(w waiting) bool { return w.contact == o.Contact.UUID && w.to.Equal(o.At) })
		if p.booked[o.Contact.UUID] || p.named[fmt.Sprint(o.Data["offer"])] {
			continue
		}
		if i < 0 {
			p.faults = append(p.faults, fmt.Sprintf("%s: %s was offered without waiting", o.At, o.Contact.UUID))
			continue
		}
		for _, w := range p.waits {
			if _, refused := p.refused(w.contact, o.User, o.At); refused {
				continue
			}
			around := span{o.At.Add(-slack), o.At.Add(slack)}
			if skills[o.User][w.topic] && before(w, p.waits[i]) && w.from.Before(around.from) && w.to.After(around.to) && d.present(around) > slack {
				p.faults = append(p.faults, fmt.Sprintf("%s: %s was offered to operator %d before %s, who came first", o.At, o.Contact.UUID, o.User, w.contact))
			}
		}
	}
	return p.faults, nil
}

// refused is when an operator last refused a caller, if by an instant the caller
// may not yet be offered to them again.
func (p *replay) refused(contact uuid.UUID, user int64, by time.Time) (time.Time, bool) {
	for _, at := range slices.Backward(p.refusals[pairOf(contact, user)]) {
		if !at.After(by) {
			return at, by.Sub(at) < refusal
		}
	}
	return time.Time{}, false
}

// before is the order of the queue.
func before(a, b waiting) bool {
	return cmp.Or(cmp.Compare(a.urgency, b.urgency), a.t0.Compare(b.t0)) < 0
}

// skills are the topics of each operator.
func (d *day) skills(ctx context.Context) (map[int64]map[int64]bool, error) {
	skills := map[int64]map[int64]bool{}
	rows, err := d.db.Pool.Query(ctx, `select user_id, topic_id from user_topics`)
	if err != nil {
		return nil, err
	}
	var user, topic int64
	_, err = pgx.ForEachRow(rows, []any{&user, &topic}, func() error {
		if skills[user] == nil {
			skills[user] = map[int64]bool{}
		}
		skills[user][topic] = true
		return nil
	})
	return skills, err
}

// present is how much of a stretch the house was there for.
func (d *day) present(s span) time.Duration {
	length := s.to.Sub(s.from)
	for _, a := range d.absent {
		from, to := later(s.from, a.from), earlier(s.to, a.to.Add(settling))
		length -= max(0, to.Sub(from))
	}
	return length
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
