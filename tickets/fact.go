package tickets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
)

// A fact is something that happened on a call. The same code writes it at once
// or at the replay; its id in the journal makes sure that it is written once,
// also when the first attempt was committed and we did not hear of it.
type fact interface {
	kind() string
	apply(ctx context.Context, tx *db.Tx) error
}

// Kinds of deferred facts, as the spool keeps them.
const (
	kindBegun   = "contact.begun"
	kindStepped = "contact.step"
	kindEnded   = "contact.ended"
)

// write applies a fact at once, or puts it into the spool when the database is
// away. From then on all facts of this contact go there: they must not
// overtake each other. A database that restarts is back within the budget, and
// the call goes on as if nothing had been; when others wait for it already, it
// is not waited for again.
func (b *Book) write(ctx context.Context, c *Contact, f fact) error {
	if c.Deferred {
		return b.later.Defer(f.kind(), f)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), factBudget)
	defer cancel()
	err := b.commitSoon(ctx, c, f)
	for b.later != nil && db.Away(err) && !b.later.Pending() && again(ctx) {
		err = b.commitSoon(ctx, c, f)
	}
	if !db.Away(err) || b.later == nil {
		return err
	}
	if deferErr := b.later.Defer(f.kind(), f); deferErr != nil {
		return errors.Join(err, fmt.Errorf("defer: %w", deferErr))
	}
	b.log.Warn("the database is away: a fact goes to the spool", "contact", c.ID, "fact", f.kind(), "error", err)
	c.Deferred = true
	return nil
}

// Settled waits until everything that was kept for the database is written, what
// concerns this contact among it, which then goes on as if it had never been away;
// false: ctx has ended before.
func (b *Book) Settled(ctx context.Context, c *Contact) bool {
	for again(ctx) {
		if b.later == nil || !b.later.Pending() {
			c.Deferred = false
			return true
		}
	}
	return false
}

// again waits a moment before the next try; false when there is no time for one.
func again(ctx context.Context) bool {
	select {
	case <-time.After(factAgain):
		return true
	case <-ctx.Done():
		return false
	}
}

// commit applies a fact in one transaction. A fact that stands already is done.
func (b *Book) commit(ctx context.Context, f fact) error {
	err := b.db.Tx(ctx, func(tx *db.Tx) error { return f.apply(ctx, tx) })
	if errors.Is(err, journal.ErrReplayed) {
		return nil
	}
	return err
}

// Replay writes a deferred fact. Doing it twice is harmless. An error for which
// db.Away holds means: again later; ErrBadFact: never. Facts of one contact
// must come in the order in which they were deferred.
func (b *Book) Replay(ctx context.Context, kind string, raw json.RawMessage) error {
	var f fact
	switch kind {
	case kindBegun:
		f = &begun{}
	case kindStepped:
		f = &stepped{}
	case kindEnded:
		f = &ended{}
	default:
		return fmt.Errorf("replay %q: %w", kind, ErrBadFact)
	}
	if err := json.Unmarshal(raw, f); err != nil {
		return fmt.Errorf("replay %q: %w: %w", kind, ErrBadFact, err)
	}
	err := b.commit(ctx, f)
	if errors.Is(err, ErrNotFound) { // its beginning was never kept
		return fmt.Errorf("replay %q: %w: %w", kind, ErrBadFact, err)
	}
	if err != nil {
		return fmt.Errorf("replay %q: %w", kind, err)
	}
	return nil
}

// Replays says whether a deferred fact of this kind is the book's.
func Replays(kind string) bool { return kind == kindBegun || kind == kindStepped || kind == kindEnded }

// begun is the INVITE.
type begun struct {
	Fact    uuid.UUID `json:"fact"`
	Contact uuid.UUID `json:"contact"`
	Node    string    `json:"node"`
	Channel Channel   `json:"channel"`
	CallID  string    `json:"call_id"`
	Trunk   string    `json:"trunk"`
	Caller  string    `json:"caller"`
	Source  string    `json:"source"`
	Dialled string    `json:"dialled"`
	T0      time.Time `json:"t0"`
	// The service and the version of its settings that answered; 0: not known, and
	// looked up when the fact is written.
	Service  int64 `json:"service,omitempty"`
	Settings int64 `json:"settings,omitempty"`

	found []Customer // whose number it is, once applied
}

func (f *begun) kind() string { return kindBegun }

// insertContacts matches the callers and writes the rows in one statement: this is
// the one place where a caller hears nothing while we wait. Many that share a
// transaction cost PostgreSQL little more than one. Only when a service is not known
// it is looked for: even a question that is not asked costs as much as the insert.
func insertContacts(lookUp bool) string {
	service, version, found := `a.service`, `nullif(a.settings, 0)`, ``
	if lookUp {
		service, version = `coalesce(nullif(a.service, 0), s.service_id)`, `coalesce(nullif(a.settings, 0), s.version)`
		found = `left join lateral (select * from service_at(a.dialled, a.t0) where a.service = 0) s on true`
	}
	return `with arrived as (
	select * from unnest(@contacts::uuid[], @nodes::text[], @channels::text[], @call_ids::text[], @trunks::text[], @services::bigint[], @settings::bigint[],
		@callers::text[], @sources::text[], @dialled::text[], @t0s::timestamptz[])
		with ordinality as a (contact, node, channel, call_id, trunk, service, settings, caller, source, dialled, t0, place)
), found as (
	select a.place, c.* from arrived a, lateral (
		select ` + customerColumns + ` from customers c
		where c.id in (select customer_id from customer_numbers where number = a.caller) order by c.name, c.id limit @shown) c
), counted as (
	select place, count(*) as n, min(id) as the_one from found group by place
), written as (
	insert into contacts (id, node, channel, call_id, trunk, service_id, settings_version, caller, caller_source, dialled, t0, customer_id, match)
	select a.contact, a.node, a.channel, a.call_id, a.trunk, ` + service + `, ` + version + `,
		a.caller, a.source, a.dialled, a.t0,
		case when n = 1 then the_one end,
		case when a.caller = '' then 'withheld' when n is null then 'none' when n = 1 then 'certain' else 'several' end
	from arrived a
	left join counted on counted.place = a.place
	` + found + `
	on conflict (id) do nothing -- the journal says that it stands already
)
select * from found order by place, name, id`
}

// queueBegun puts the one statement of these facts into a batch.
func queueBegun(batch *pgx.Batch, list []*begun) {
	var contacts []uuid.UUID
	var nodes, channels, callIDs, trunks, callers, sources, dialled []string
	var services, settings []int64
	var t0s []time.Time
	for _, f := range list {
		f.found = nil
		contacts, nodes, channels, callIDs, trunks = append(contacts, f.Contact), append(nodes, f.Node), append(channels, string(f.Channel)), append(callIDs, f.CallID), append(trunks, f.Trunk)
		callers, sources, dialled, t0s = append(callers, f.Caller), append(sources, f.Source), append(dialled, f.Dialled), append(t0s, f.T0)
		services, settings = append(services, f.Service), append(settings, f.Settings)
	}
	batch.Queue(insertContacts(slices.Contains(services, 0)), pgx.StrictNamedArgs{
		"contacts": contacts, "nodes": nodes, "channels": channels, "call_ids": callIDs, "trunks": trunks, "services": services, "settings": settings,
		"callers": callers, "sources": sources, "dialled": dialled, "t0s": t0s, "shown": MatchesShown,
	}).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowToStructByName[placed])
		for _, c := range found {
			f := list[c.Place-1]
			f.found = append(f.found, c.Customer)
		}
		return err
	})
}

// placed is a customer who was found for one of several callers.
type placed struct {
	Place int // among those who were asked for, from 1
	Customer
}

func (f *begun) apply(ctx context.Context, tx *db.Tx) error {
	var batch pgx.Batch
	queueBegun(&batch, []*begun{f})
	line := f.entry()
	tx.Wake(topicJournal, line.Stream)
	tx.Later(&batch, nil)
	return journal.Append(ctx, tx, line)
}

func (f *begun) entry() journal.Line {
	return contactLine(f.Contact, f.Fact, journal.Begun, f.T0)
}

// topicJournal is woken with every journal line.
const topicJournal = "journal"

func contactLine(contact, fact uuid.UUID, kind journal.Kind, at time.Time) journal.Line {
	return journal.Line{
		Stream: journal.ContactStream(contact), At: at, Kind: kind,
		Contact: uuid.NullUUID{UUID: contact, Valid: true}, Fact: uuid.NullUUID{UUID: fact, Valid: fact != uuid.Nil},
	}
}

// stepped is a Step.
type stepped struct {
	Fact     uuid.UUID      `json:"fact"`
	Contact  uuid.UUID      `json:"contact"`
	Kind     journal.Kind   `json:"kind"`
	At       time.Time      `json:"at"`
	Topic    int64          `json:"topic,omitempty"`
	Urgency  int            `json:"urgency,omitempty"`
	Operator int64          `json:"operator,omitempty"`
	Ticket   int64          `json:"ticket,omitempty"`
	Data     map[string]any `json:"data,omitempty"`

	ticket *int64 // whose contact it is
	taken  bool   // and this step took it in charge
}

func (f *stepped) kind() string { return kindStepped }

// instants are the columns that the first step of a kind sets.
var instants = map[journal.Kind]string{
	journal.Answered:   "ta",
	journal.Classified: "ts",
	journal.Waiting:    "tq",
	journal.Offered:    "tr",
	journal.Talking:    "tc",
	journal.Wrapped:    "tw",
	journal.Taken:      "tk",
}

// stepSQL is the statement that brings contacts up to steps of one kind; which
// chooses the rows of f, one for each step. Whoever names the urgency has the contact
// checked (contact_is_sound), so a step does that brings one.
func stepSQL(which string, list ...*stepped) string {
	kind, set := list[0].Kind, ``
	if column := instants[kind]; column != "" {
		set = `, ` + column + ` = coalesce(c.` + column + `, f.at)`
	}
	if slices.ContainsFunc(list, func(f *stepped) bool { return f.Topic != 0 || f.Urgency != 0 }) {
		set += `, topic_id = coalesce(nullif(f.topic, 0), c.topic_id), urgency = coalesce(nullif(f.urgency, 0), c.urgency)`
	}
	if kind == journal.Talking { // whoever talks with the caller has taken the matter in charge; whoever had it before does not end its Tw any more
		set += `, tw = case when c.tw > f.at then c.tw end, tk = coalesce(c.tk, case when f.operator > 0 and coalesce(c.ticket_id, nullif(f.ticket, 0)) is not null then greatest(c.t0, f.at) end)`
	}
	return `update contacts c set operator_id = coalesce(nullif(f.operator, 0), c.operator_id), ticket_id = coalesce(c.ticket_id, nullif(f.ticket, 0)),
		number_told = c.number_told or @told` + set + `
		from ` + which
}

// stepRows are the rows of f.
const stepRows = `unnest(@contacts::uuid[], @ats::timestamptz[], @topics::bigint[], @urgencies::smallint[], @operators::bigint[], @tickets::bigint[])
	as f (contact, at, topic, urgency, operator, ticket)`

// oneRow makes of rows, arrays that are unnested, the first alone, its values taken out of
// their arrays where they stand in the statement: there is nothing to run and to join then.
// The contact is named by a value, so that however small the table is it is not read through.
func oneRow(rows string) string {
	return strings.NewReplacer(`unnest(`, `(select `, `@`, `(@`, `[]`, `[])[1]`).Replace(rows)
}

var (
	stepRow = oneRow(stepRows)
	endRow  = oneRow(endRows)
)

// rowsOf are the rows of n facts: the one, or the many.
func rowsOf(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// aloneRow chooses the one row of a fact that is written alone.
const aloneRow = ` where c.id = f.contact`

// stepArgs are the arguments of both, for steps of one kind.
func stepArgs(list ...*stepped) pgx.StrictNamedArgs {
	var contacts []uuid.UUID
	var ats []time.Time
	var topics, operators, tickets []int64
	var urgencies []int
	for _, f := range list {
		contacts, ats, topics, urgencies = append(contacts, f.Contact), append(ats, f.At), append(topics, f.Topic), append(urgencies, f.Urgency)
		operators, tickets = append(operators, f.Operator), append(tickets, f.Ticket)
	}
	return pgx.StrictNamedArgs{
		"contacts": contacts, "ats": ats, "topics": topics, "urgencies": urgencies, "operators": operators, "tickets": tickets,
		"told": list[0].Kind == journal.Told || list[0].Kind == journal.StateTold, // the state begins with the number
	}
}

func (f *stepped) line(ticket *int64) journal.Line {
	line := contactLine(f.Contact, f.Fact, f.Kind, f.At)
	line.User, line.Data = f.Operator, f.Data
	if ticket != nil {
		line.Ticket = *ticket
	}
	if f.Topic != 0 || f.Urgency != 0 {
		line.Data = merged(f.Data, map[string]any{"topic": f.Topic, "urgency": f.Urgency})
	}
	return line
}

func (f *stepped) entry() journal.Line { return f.line(nil) }

func (f *stepped) apply(ctx context.Context, tx *db.Tx) error {
	var b pgx.Batch
	f.queue(&b)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	return f.follow(ctx, tx)
}

// queue puts the statement of a step that is written alone into a batch.
func (f *stepped) queue(b *pgx.Batch) {
	sql, args := stepSQL(stepRow+aloneRow+` returning c.ticket_id`, f), stepArgs(f)
	into := []any{&f.ticket}
	// Whoever talks with the caller has taken the matter in charge: registering
	// is part of the call itself (A9).
	if f.Kind == journal.Talking && f.Operator != 0 {
		sql, into = takingSQL(sql)+` select step.ticket_id, exists (select from taking) from step`, append(into, &f.taken)
		args["by"], args["at"] = f.Operator, f.At
	}
	b.Queue(sql, args).QueryRow(func(row pgx.Row) error { return found(row.Scan(into...)) })
}

// follow writes what follows from queue's statement.
func (f *stepped) follow(ctx context.Context, tx *db.Tx) error {
	line := f.line(f.ticket)
	tx.Wake(topicJournal, line.Stream)
	if err := journal.Append(ctx, tx, line); err != nil || !f.taken {
		return err
	}
	return note(ctx, tx, *f.ticket, journal.Taken, f.Contact, f.Operator, f.At, nil)
}

// takingSQL is a step's statement (step) with the taking of the contact's ticket, if nobody
// has taken it (taking); a ticket somebody has, or has closed meanwhile, stays as it is.
// Of the ticket's other contacts none waits any more to be taken in charge (Tk). What it
// returns follows.
func takingSQL(step string) string {
	return `with step as (` + step + `), taking as (
			update tickets t set status = 'in_charge', owner_id = @by, taken_at = coalesce(t.taken_at, @at), version = t.version + 1
			where t.id = (select ticket_id from step) and t.status = 'open' returning t.id
		), others as (
			update contacts o set tk = greatest(o.t0, @at::timestamptz) from step
			where o.ticket_id = step.ticket_id and o.id <> (@contacts::uuid[])[1] and o.tk is null
		)`
}

// known leaves queue's statement of a talk for the COMMIT, and what follows. It breaks the
// transaction off if the contact has another ticket than is known, or that is not to be
// taken now and was, or the other way round. Of who has talked before it is taken already.
func (f *stepped) known(ctx context.Context, tx *db.Tx, t *Ticket, talked bool) error {
	f.ticket, f.taken = nil, false
	if t != nil {
		f.ticket, f.taken = &t.ID, t.Status == Open && !talked
	}
	args := stepArgs(f)
	args["by"], args["at"], args["ticket"], args["taken"] = f.Operator, f.At, f.ticket, f.taken
	var b pgx.Batch
	b.Queue(takingSQL(stepSQL(stepRows+aloneRow+` returning c.ticket_id`, f))+`
		select 1 / count(*)::int from step where ticket_id is not distinct from @ticket and @taken = exists (select from taking)`, args)
	tx.Later(&b, nil)
	return f.follow(ctx, tx)
}

func merged(a, b map[string]any) map[string]any {
	out := make(map[string]any, len(a)+len(b))
	for _, m := range []map[string]any{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// found makes "no row" our own error.
func found(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// ended is a contact's ending.
type ended struct {
	Fact      uuid.UUID `json:"fact"`
	Contact   uuid.UUID `json:"contact"`
	Ending    Ending    `json:"ending"`
	At        time.Time `json:"at"`
	Owed      bool      `json:"owed,omitempty"`      // to be rung back although the ending alone does not say so
	Recovered bool      `json:"recovered,omitempty"` // written by Recover
	Legs      []Leg     `json:"legs,omitempty"`

	node   string // only as long as this node has not beaten since seen
	seen   time.Time
	done   bool   // this fact gave the contact its ending
	ticket *int64 // whose contact it is, if done
}

func (f *ended) kind() string { return kindEnded }

// endSQL is the statement that gives contacts their endings; which chooses the rows
// of f, one for each. Whom we have rung back, and given on to nobody, is owed a call as
// who rang is; a fault of ours in an attempt is the callback's to make good.
func endSQL(which string) string {
	return `update contacts c set ending = f.ending, legs = f.legs::jsonb, te = greatest(f.at, c.t0, c.ta, c.ts, c.tq, c.tr, c.tc),
		ring_back = coalesce(c.ring_back, case when c.caller <> '' and (c.direction = 'inbound' or f.ending <> @fault) and (f.always or f.chosen and c.ts is not null or f.silent and coalesce(c.tq, c.ts, c.tc) is not null)
			and not exists (select from callbacks b where b.contact_id = c.id and b.outcome is null) then 'due' end)
		from ` + which
}

// noEnding says that a contact has no ending. (A check says so, too. Asked for the
// ending itself, PostgreSQL reads through the small indexes of all who are on the line.)
const noEnding = `te is null`

// endRows are the rows of f.
const endRows = `unnest(@contacts::uuid[], @endings::text[], @ats::timestamptz[], @legs::text[], @always::bool[], @chosen::bool[], @silent::bool[])
	as f (contact, ending, at, legs, always, chosen, silent)`

// endArgs are the arguments of both.
func endArgs(list ...*ended) (pgx.StrictNamedArgs, error) {
	var contacts []uuid.UUID
	var ats []time.Time
	var words, legs []string
	var owed, hasChosen, silent []bool
	for _, f := range list {
		rule := endings[f.Ending]
		text, err := json.Marshal(orEmpty(f.Legs))
		if err != nil {
			return nil, fmt.Errorf("encode legs: %w", err)
		}
		contacts, words, ats, legs = append(contacts, f.Contact), append(words, string(f.Ending)), append(ats, f.At), append(legs, string(text))
		owed, hasChosen = append(owed, f.Owed || rule.ringBack == always), append(hasChosen, rule.ringBack == chosen)
		silent = append(silent, rule.silent) // who had wanted somebody and then left no message is owed a call all the same
	}
	return pgx.StrictNamedArgs{"contacts": contacts, "endings": words, "ats": ats, "legs": legs, "always": owed, "chosen": hasChosen, "silent": silent, "fault": SystemFault}, nil
}

func (f *ended) line(ticket *int64) journal.Line {
	line := contactLine(f.Contact, f.Fact, journal.Ended, f.At)
	line.Data = map[string]any{"ending": f.Ending}
	if len(f.Legs) > 0 {
		line.Data["legs"] = f.Legs
	}
	if f.Recovered {
		line.Data["recovered"] = true
	}
	if ticket != nil {
		line.Ticket = *ticket
	}
	return line
}

func (f *ended) entry() journal.Line { return f.line(nil) }

func (f *ended) apply(ctx context.Context, tx *db.Tx) error {
	if !f.Ending.Known() {
		return fmt.Errorf("%w: %q is no ending", ErrBadFact, f.Ending)
	}
	f.done = false
	if f.node != "" { // a beat of the node waits for us; one that came before makes us stop
		var silent bool
		if err := tx.QueryRow(ctx, `select seen_at = @seen from nodes where id = @node for share`,
			pgx.StrictNamedArgs{"node": f.node, "seen": f.seen}).Scan(&silent); err != nil {
			return found(err)
		}
		if !silent {
			return ErrNodeLives
		}
	}
	if f.Ending == MessageLeft { // it needs a ticket: the caller may have come while the database was away
		if _, err := openTicket(ctx, tx, f.Contact, Matter{Channel: Voicemail, At: f.At}); errors.Is(err, ErrEnded) {
			return nil // exactly one ending
		} else if err != nil {
			return err
		}
	}
	var b pgx.Batch
	if err := f.queue(&b); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	return f.follow(ctx, tx)
}

// queue puts the statement of an ending that is written alone into a batch.
func (f *ended) queue(b *pgx.Batch) error {
	args, err := endArgs(f)
	if err != nil {
		return err
	}
	b.Queue(endSQL(endRow+aloneRow+` and c.`+noEnding+` returning c.ticket_id`), args).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&f.ticket)
		if f.done = err == nil; errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return nil
}

// known leaves an ending for the COMMIT. It breaks the transaction off if the contact
// has one, or another ticket than is known.
func (f *ended) known(ctx context.Context, tx *db.Tx, ticket *int64) error {
	args, err := endArgs(f)
	if err != nil {
		return err
	}
	args["ticket"] = ticket
	var b pgx.Batch
	b.Queue(`with known as (`+endSQL(endRows+aloneRow+` and c.`+noEnding+` and c.ticket_id is not distinct from @ticket returning 1`)+`) select 1 / count(*)::int from known`, args)
	tx.Later(&b, nil)
	f.done, f.ticket = true, ticket
	return f.follow(ctx, tx)
}

// follow writes what follows from queue's statement.
func (f *ended) follow(ctx context.Context, tx *db.Tx) error {
	if !f.done { // exactly one ending
		var ended bool
		return found(tx.QueryRow(ctx, `select true from contacts where id = $1`, f.Contact).Scan(&ended))
	}
	line := f.line(f.ticket)
	tx.Wake(topicJournal, line.Stream)
	if err := journal.Append(ctx, tx, line); err != nil {
		return err
	}
	if endings[f.Ending].silent && f.ticket != nil {
		return closeSilent(ctx, tx, *f.ticket, f.Contact, f.At)
	}
	return nil
}

// Recovered is what Recover found unfinished.
type Recovered struct {
	Messages []uuid.UUID // contacts that ended as messages, or short of one
	Faults   []uuid.UUID // contacts that ended system_fault
}

// Recover ends the contacts that a crash of this node left without an ending:
// those with a tape as messages, the others system_fault and to be rung back.
// tapes is the sound found on disk by contact. Replay what is pending first, or
// an ending that waits in the spool comes too late; and recover before the node
// beats again in nodes.seen_at, whose last value tells when it died.
func (b *Book) Recover(ctx context.Context, at time.Time, tapes map[uuid.UUID]time.Duration) (Recovered, error) {
	var out Recovered
	left, err := b.unfinished(ctx, b.node, at)
	if err != nil {
		return out, fmt.Errorf("recover: %w", err)
	}
	for _, u := range left {
		f := &ended{Fact: uuid.New(), Contact: u.ID, Ending: SystemFault, At: u.Last, Recovered: true}
		if u.Booked {
			f.Ending = CallbackBooked
		}
		sound, taped := tapes[u.ID]
		if taped {
			f.Ending = endingOf(sound)
			f.Owed = f.Ending == NoMessage // we may have cut the first word off
		}
		if err := b.commit(ctx, f); err != nil {
			return out, fmt.Errorf("recover %s: %w", u.ID, err)
		}
		switch {
		case !f.done || u.Booked: // somebody was quicker; the queue knows of it
		case taped:
			out.Messages = append(out.Messages, u.ID)
		default:
			out.Faults = append(out.Faults, u.ID)
		}
	}
	return out, nil
}

// unfinished is a contact that a dead node has left without an ending.
type unfinished struct {
	ID     uuid.UUID
	Last   time.Time // the last sign of life: a contact did not go on while the server was down
	Booked bool      // to be rung back: that stands, and only the ending was lost
}

func (b *Book) unfinished(ctx context.Context, node string, at time.Time) ([]unfinished, error) {
	rows, err := b.db.Pool.Query(ctx, `select c.id, greatest(c.t0,
			(select least(n.seen_at, @at) from nodes n where n.id = c.node),
			(select least(max(j.at), @at) from journal j where j.contact_id = c.id and j.kind <> 'recorded')) as last,
			exists (select from callbacks b where b.contact_id = c.id and b.outcome is null) as booked
		from contacts c where c.node = @node and c.ending is null order by c.t0, c.id`, pgx.StrictNamedArgs{"node": node, "at": at})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[unfinished])
}

// ErrNodeLives stops EndLost: the node has beaten meanwhile.
var ErrNodeLives = errors.New("the node lives")

// EndLost ends the contacts of another node that has died: system_fault, at its
// last sign of life, and to be rung back. seen is the node's beat by which it was
// judged: once it beats again nothing more is ended, and the error is
// ErrNodeLives. What was being said to it is on its disk, and becomes a message
// when it is started again. It returns those who are to be promised a callback,
// by the instant of their call: also those whom an earlier try has ended and then
// could not promise anything.
func (b *Book) EndLost(ctx context.Context, node string, seen, at time.Time) (promise []uuid.UUID, err error) {
	left, err := b.unfinished(ctx, node, at)
	if err != nil {
		return nil, fmt.Errorf("end the contacts of %s: %w", node, err)
	}
	for _, u := range left {
		f := &ended{Fact: uuid.New(), Contact: u.ID, Ending: SystemFault, At: u.Last, Recovered: true, node: node, seen: seen}
		if u.Booked {
			f.Ending = CallbackBooked
		}
		if err := b.commit(ctx, f); err != nil {
			return nil, fmt.Errorf("end %s of %s: %w", u.ID, node, err)
		}
	}
	rows, err := b.db.Pool.Query(ctx, owedSQL, pgx.StrictNamedArgs{"node": node, "seen": seen, "fault": SystemFault})
	if err != nil {
		return nil, fmt.Errorf("look for the callers of %s: %w", node, err)
	}
	if promise, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return nil, fmt.Errorf("look for the callers of %s: %w", node, err)
	}
	return promise, nil
}

// owedSQL are the callers of a node whom its death has cut off, and who have been
// promised nothing yet. Who left a message has said what there was to say. What
// ended before the node's last beat is an older matter, and a person's to decide.
const owedSQL = `
	select c.id from contacts c
	where c.node = @node and c.ending = @fault and c.te >= @seen and c.ring_back = 'due' and c.ta is not null
		and not exists (select from recordings r where r.contact_id = c.id and r.kind = 'message')
		and not exists (select from callbacks b where b.contact_id = c.id and b.outcome is null)
	order by c.t0, c.id`

// Promised takes a contact off the list of calls to ring back, in the transaction
// that books its callback: it is not owed twice.
func (b *Book) Promised(ctx context.Context, tx *db.Tx, contact uuid.UUID) error {
	if _, err := tx.Exec(ctx, `update contacts set ring_back = null where id = $1 and ring_back = 'due'`, contact); err != nil {
		return fmt.Errorf("a callback is promised: %w", err)
	}
	tx.Wake(topicJournal)
	return nil
}

// Ended tells which of these contacts have their ending.
func (b *Book) Ended(ctx context.Context, contacts []uuid.UUID) ([]uuid.UUID, error) {
	rows, err := b.db.Pool.Query(ctx, `select id from contacts where id = any($1) and ending is not null`, contacts)
	if err != nil {
		return nil, fmt.Errorf("look for endings: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for endings: %w", err)
	}
	return list, nil
}
