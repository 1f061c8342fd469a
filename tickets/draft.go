package tickets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/ivr/prompts"
)

// States of a version.
const (
	VersionDraft     = "draft"
	VersionPublished = "published"
)

// Version is one version of a service's settings. A service has at most one
// draft, which everybody who may edits; what was published is never changed.
type Version struct {
	Version     int64      `json:"version"`
	State       string     `json:"state" enum:"draft,published"`
	Revision    int64      `json:"revision"` // of a draft: to be given back with the next change
	InForce     bool       `json:"in_force"`
	ValidFrom   *time.Time `json:"valid_from"` // null in a draft: from when it is published
	Settings    Settings   `json:"settings"`
	MadeBy      *Person    `json:"made_by"` // null: the demo or the command line
	MadeAt      time.Time  `json:"made_at"`
	PublishedBy *Person    `json:"published_by"`
	PublishedAt *time.Time `json:"published_at"`
}

// Draft is what a draft is made of.
type Draft struct {
	Settings  Settings
	ValidFrom *time.Time // nil: from when it is published
	Revision  int64      // of the draft that this replaces; 0: there is none
}

// Overview is a service as the list of services shows it.
type Overview struct {
	ID       int64      `json:"id"`
	Number   string     `json:"number"`
	Numbers  []string   `json:"numbers"` // in force; of a service that was never published, the one it was begun with
	Name     string     `json:"name"`
	Version  int64      `json:"version"` // in force; 0: none yet
	Open     bool       `json:"open"`
	Changes  *time.Time `json:"changes"` // when it closes or opens next; null: not within 400 days
	HasDraft bool       `json:"has_draft"`
	NextFrom *time.Time `json:"next_from"` // when a version that was published comes into force
}

// FaultyError says why a draft was not published: the faults of Check.
type FaultyError struct{ Faults []Fault }

func (e *FaultyError) Error() string { return fmt.Sprintf("settings with %d faults", len(e.Faults)) }

// Overviews lists all services by number, those that were never published too.
func (b *Book) Overviews(ctx context.Context, at time.Time) ([]Overview, error) {
	known, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := b.db.Pool.Query(ctx, `select s.id, s.number, s.name,
		exists (select from service_versions v where v.service_id = s.id and v.state = 'draft') as has_draft,
		(select min(v.valid_from) from service_versions v where v.service_id = s.id and v.state = 'published' and v.valid_from > @at) as next_from
		from services s order by s.number`, pgx.StrictNamedArgs{"at": at})
	if err != nil {
		return nil, fmt.Errorf("list the services: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o Overview, err error) {
		err = row.Scan(&o.ID, &o.Number, &o.Name, &o.HasDraft, &o.NextFrom)
		o.Numbers = []string{o.Number}
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the services: %w", err)
	}
	for _, s := range known.at(at) {
		for i := range list {
			if o := &list[i]; o.ID == s.ID {
				open, changes := s.Open(at)
				o.Number, o.Numbers, o.Name, o.Version, o.Open = s.Number, s.Numbers, s.Name, s.Version, open
				if !changes.IsZero() {
					o.Changes = &changes
				}
			}
		}
	}
	for i := range list {
		list[i].Changes, list[i].NextFrom = utc(list[i].Changes), utc(list[i].NextFrom)
	}
	return orEmpty(list), nil
}

const versionSelect = `select v.version, v.state, v.revision, v.valid_from, v.settings, m.name, m.display_name, v.made_at, p.name, p.display_name, v.published_at
	from service_versions v
	left join users m on m.id = v.made_by
	left join users p on p.id = v.published_by `

func scanVersion(row pgx.CollectableRow) (v Version, err error) {
	var maker, makerShown, publisher, publisherShown *string
	err = row.Scan(&v.Version, &v.State, &v.Revision, &v.ValidFrom, &v.Settings, &maker, &makerShown, &v.MadeAt, &publisher, &publisherShown, &v.PublishedAt)
	if maker != nil {
		v.MadeBy = &Person{*maker, *makerShown}
	}
	if publisher != nil {
		v.PublishedBy = &Person{*publisher, *publisherShown}
	}
	v.Settings, v.MadeAt = v.Settings.filled(), v.MadeAt.UTC()
	v.ValidFrom, v.PublishedAt = utc(v.ValidFrom), utc(v.PublishedAt)
	return v, err
}

// Versions lists the versions of a service, the newest first; ErrNotFound.
func (b *Book) Versions(ctx context.Context, service int64, at time.Time) ([]Version, error) {
	rows, err := b.db.Pool.Query(ctx, versionSelect+`where v.service_id = $1 order by v.version desc`, service)
	if err != nil {
		return nil, fmt.Errorf("versions of service %d: %w", service, err)
	}
	list, err := pgx.CollectRows(rows, scanVersion)
	switch {
	case err != nil:
		return nil, fmt.Errorf("versions of service %d: %w", service, err)
	case len(list) == 0:
		return nil, ErrNotFound
	}
	holds := -1
	for i, v := range list { // of two with the same instant the later version, which comes first
		if v.State == VersionPublished && !v.ValidFrom.After(at) && (holds < 0 || v.ValidFrom.After(*list[holds].ValidFrom)) {
			holds = i
		}
	}
	if holds >= 0 {
		list[holds].InForce = true
	}
	return list, nil
}

// NewService makes a service that has nothing but a draft: nobody can dial it
// before that is published. Its first number must belong to no other service.
func (b *Book) NewService(ctx context.Context, d Draft, by int64, at time.Time) (service int64, err error) {
	d.Settings = d.Settings.filled()
	number := ""
	if len(d.Settings.Numbers) > 0 {
		number = Normalise(d.Settings.Numbers[0])
	}
	switch {
	case number == "":
		return 0, &Refusal{"numbers", "Un servizio nuovo ha bisogno di un numero di telefono."}
	case d.Settings.Name == "":
		return 0, &Refusal{"name", "Il nome del servizio è obbligatorio."}
	}
	err = b.db.Tx(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, `insert into services (number, name) values (@number, @name) on conflict (number) do nothing returning id`,
			pgx.StrictNamedArgs{"number": number, "name": d.Settings.Name}).Scan(&service)
		if errors.Is(err, pgx.ErrNoRows) {
			return &Refusal{"numbers", "Il numero " + number + " appartiene già a un servizio."}
		}
		if err != nil {
			return err
		}
		return writeDraft(ctx, tx, service, d, by, at)
	})
	if err != nil {
		return 0, fmt.Errorf("new service: %w", err)
	}
	return service, nil
}

// PutDraft replaces the draft of a service, or begins one, whatever is wrong with
// it: Check says that. *Refusal without a field when somebody else has changed the
// draft meanwhile, ErrNotFound.
func (b *Book) PutDraft(ctx context.Context, service int64, d Draft, by int64, at time.Time) (*Version, error) {
	d.Settings = d.Settings.filled()
	var v *Version
	err := b.db.Tx(ctx, func(tx *db.Tx) (err error) {
		if err := lockService(ctx, tx, service); err != nil {
			return err
		}
		if err := writeDraft(ctx, tx, service, d, by, at); err != nil {
			return err
		}
		v, err = draftOf(ctx, tx, service)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("draft of service %d: %w", service, err)
	}
	return v, nil
}

// lockService holds a service until the transaction ends: changes come one after
// the other.
func lockService(ctx context.Context, tx *db.Tx, service int64) error {
	return found(tx.QueryRow(ctx, `select id from services where id = $1 for update`, service).Scan(&service))
}

// nul is how JSON writes the character that PostgreSQL takes in no text.
var nul = []byte(`\u0000`)

func writeDraft(ctx context.Context, tx *db.Tx, service int64, d Draft, by int64, at time.Time) error {
	settings, err := json.Marshal(d.Settings)
	if err != nil {
		return err
	}
	if bytes.Contains(settings, nul) {
		return &Refusal{"settings", "Un testo contiene un carattere che non si può conservare."}
	}
	var revision int64
	switch err := tx.QueryRow(ctx, `select revision from service_versions where service_id = $1 and state = 'draft'`, service).Scan(&revision); {
	case errors.Is(err, pgx.ErrNoRows) && d.Revision == 0:
		_, err = tx.Exec(ctx, `insert into service_versions (service_id, version, state, valid_from, settings, made_by, made_at)
			select @service, coalesce(max(version), 0) + 1, 'draft', @from, @settings, @by, @at from service_versions where service_id = @service`,
			pgx.StrictNamedArgs{"service": service, "from": d.ValidFrom, "settings": settings, "by": by, "at": at})
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return errNoDraft
	case err != nil:
		return err
	case revision != d.Revision:
		return errDraftChanged
	}
	_, err = tx.Exec(ctx, `update service_versions set settings = @settings, valid_from = @from, revision = revision + 1, made_by = @by, made_at = @at
		where service_id = @service and state = 'draft'`,
		pgx.StrictNamedArgs{"service": service, "from": d.ValidFrom, "settings": settings, "by": by, "at": at})
	return err
}

var (
	errDraftChanged = &Refusal{"", "La bozza è stata modificata nel frattempo: ricaricala. Nulla è stato salvato."}
	errNoDraft      = &Refusal{"", "La bozza non c'è più: è stata pubblicata o scartata."}
)

// draftOf is the draft of a service; *Refusal when there is none.
func draftOf(ctx context.Context, q querier, service int64) (*Version, error) {
	rows, err := q.Query(ctx, versionSelect+`where v.service_id = $1 and v.state = 'draft'`, service)
	if err != nil {
		return nil, err
	}
	v, err := pgx.CollectExactlyOneRow(rows, scanVersion)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errNoDraft
	}
	return &v, err
}

// Check lists what is wrong with the draft of a service, and what may be meant
// otherwise; nothing if it can be published as it stands.
func (b *Book) Check(ctx context.Context, service int64, at time.Time) ([]Fault, error) {
	var list faults
	err := pgx.BeginTxFunc(ctx, b.db.Pool, oneInstant, func(tx pgx.Tx) error {
		draft, err := draftOf(ctx, tx, service)
		if err != nil {
			return err
		}
		_, list, err = b.checked(ctx, tx, service, draft, at)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("check the draft of service %d: %w", service, err)
	}
	return orEmpty(list), nil
}

// checked reads a draft as a service from the instant on at which it would be in
// force, with all its faults.
func (b *Book) checked(ctx context.Context, q querier, service int64, draft *Version, at time.Time) (*Service, faults, error) {
	var list faults
	topics, err := topicsByCode(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	others, err := readCatalogue(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	s := draft.Settings.service(topics, &list)
	s.ValidFrom = at
	if draft.ValidFrom != nil && draft.ValidFrom.After(at) {
		s.ValidFrom = *draft.ValidFrom
	}
	if draft.ValidFrom != nil && draft.ValidFrom.Before(at) {
		list.warn("valid_from", placeService, "La data di validità è passata: varrà da quando si pubblica.")
	}
	s.leadsSomewhere(&list)
	if open, opens := s.Hours.Open(s.ValidFrom); !open && opens.IsZero() {
		list.warn("hours", placeHours, "Con questi orari il servizio non apre mai: chi chiama non arriva a nessun operatore.")
	}
	others.taken(service, s, draft.Settings.Numbers, &list)
	if err := unspoken(ctx, q, s, &list); err != nil {
		return nil, nil, err
	}
	b.unreachable(others, s, &list)
	return s, list, unattended(ctx, q, s, &list)
}

// unspoken warns of topics of the menu that no prompt names: callers hear their
// keys only.
func unspoken(ctx context.Context, q querier, s *Service, f *faults) error {
	for _, m := range s.Menu {
		if m.Action != ActionTopic {
			continue
		}
		known, err := prompts.Exists(ctx, q, prompts.OfTopic(m.Topic.Code))
		switch {
		case err != nil:
			return err
		case !known:
			f.warn("menu", placeMenu+", tasto "+string(m.Key), "Manca il messaggio vocale «%s»: chi chiama non sente il nome di «%s», solo il tasto.", prompts.OfTopic(m.Topic.Code), m.Topic.Name)
		}
	}
	return nil
}

// taken notes the numbers of s that another service has, at the instant from
// which s holds or later; written is how they stand in the settings.
func (c *catalogue) taken(service int64, s *Service, written []string, f *faults) {
	for _, versions := range c.services {
		for i, other := range versions {
			over := i+1 < len(versions) && !versions[i+1].ValidFrom.After(s.ValidFrom) // before s comes
			if other.ID == service || over {
				continue
			}
			for _, n := range other.Numbers {
				reason := fmt.Sprintf("Il numero %s appartiene al servizio «%s».", n, other.Name)
				if slices.Contains(s.Numbers, n) && !slices.ContainsFunc(*f, func(f Fault) bool { return f.Reason == reason }) {
					row := slices.IndexFunc(written, func(w string) bool { return Normalise(w) == n })
					f.add(fmt.Sprintf("numbers[%d]", row), placeNumbers, "%s", reason)
				}
			}
		}
	}
}

// unattended warns of topics of the menu that no operator has the skill for.
func unattended(ctx context.Context, q querier, s *Service, f *faults) error {
	var ids []int64
	for _, m := range s.Menu {
		ids = append(ids, m.Topic.ID)
	}
	rows, err := q.Query(ctx, `select ut.topic_id from user_topics ut join users u on u.id = ut.user_id where u.active and ut.topic_id = any($1)`, ids)
	if err != nil {
		return err
	}
	attended, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	for _, m := range s.Menu {
		if m.Action == ActionTopic && !slices.Contains(attended, m.Topic.ID) {
			f.warn("menu", placeMenu+", tasto "+string(m.Key), "Nessun operatore è abilitato a «%s».", m.Topic.Name)
		}
	}
	return err
}

// Publish makes the draft of a service a version that holds from its instant, or
// from now. revision says which draft was read. withdrawn is called in the same
// transaction when supervisors may not take part in the service's talks from now on.
// *FaultyError while faults stand, *Refusal without a field when the draft was changed
// meanwhile, ErrNotFound.
func (b *Book) Publish(ctx context.Context, service, revision, by int64, at time.Time, withdrawn func(ctx context.Context, tx *db.Tx) error) (*Version, error) {
	var v Version
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		// Two who publish the same number for two services must see each other.
		if _, err := tx.Exec(ctx, `lock table service_versions in share row exclusive mode`); err != nil {
			return err
		}
		if err := lockService(ctx, tx, service); err != nil {
			return err
		}
		draft, err := draftOf(ctx, tx, service)
		if err != nil {
			return err
		}
		if draft.Revision != revision {
			return errDraftChanged
		}
		s, list, err := b.checked(ctx, tx, service, draft, at)
		if err != nil {
			return err
		}
		if list.blocking() {
			return &FaultyError{list}
		}
		if _, err := tx.Exec(ctx, `update service_versions set state = 'published', valid_from = @from, published_by = @by, published_at = @at
			where service_id = @service and state = 'draft'`,
			pgx.StrictNamedArgs{"service": service, "from": s.ValidFrom, "by": by, "at": at}); err != nil {
			return err
		}
		if err := shown(ctx, tx, service, s); err != nil {
			return err
		}
		if err := settingsLine(ctx, tx, service, journal.Published, draft.Version, by, at, s.ValidFrom); err != nil {
			return err
		}
		if !s.SuperviseCalls && !s.ValidFrom.After(at) {
			if err := withdrawn(ctx, tx); err != nil {
				return err
			}
		}
		rows, err := tx.Query(ctx, versionSelect+`where v.service_id = $1 and v.version = $2`, service, draft.Version)
		if err != nil {
			return err
		}
		v, err = pgx.CollectExactlyOneRow(rows, scanVersion)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("publish service %d: %w", service, err)
	}
	v.InForce = !v.ValidFrom.After(at)
	return &v, nil
}

// Discard throws the draft of a service away, and the service with it if it never
// had anything else. *Refusal without a field when the draft was changed
// meanwhile, ErrNotFound.
func (b *Book) Discard(ctx context.Context, service, revision, by int64, at time.Time) error {
	err := b.db.Tx(ctx, func(tx *db.Tx) error {
		if err := lockService(ctx, tx, service); err != nil {
			return err
		}
		draft, err := draftOf(ctx, tx, service)
		if err != nil {
			return err
		}
		if draft.Revision != revision {
			return errDraftChanged
		}
		if _, err := tx.Exec(ctx, `delete from service_versions where service_id = $1 and state = 'draft'`, service); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `delete from services s where s.id = $1 and not exists (select from service_versions v where v.service_id = s.id)`, service); err != nil {
			return err
		}
		return settingsLine(ctx, tx, service, journal.Discarded, draft.Version, by, at, time.Time{})
	})
	if err != nil {
		return fmt.Errorf("discard the draft of service %d: %w", service, err)
	}
	return nil
}

// settingsLine says who did what to a version.
func settingsLine(ctx context.Context, tx *db.Tx, service int64, kind journal.Kind, version, by int64, at, from time.Time) error {
	line := journal.Line{Stream: journal.ServiceStream(service), At: at, Kind: kind, User: by, Data: map[string]any{"version": version}}
	if !from.IsZero() {
		line.Data["valid_from"] = from.UTC().Format(time.RFC3339)
	}
	tx.Wake(topicJournal, line.Stream)
	return journal.Append(ctx, tx, line)
}
