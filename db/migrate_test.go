package db_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

// schemaSQL is all that the schema's files have made, a line each.
const schemaSQL = `
	select 'column ' || concat_ws(' ', table_name, column_name, udt_name, is_nullable, column_default, generation_expression) as line
		from information_schema.columns where table_schema = 'public'
	union all select 'index ' || indexdef from pg_indexes where schemaname = 'public'
	union all select 'constraint ' || conrelid::regclass::text || ' ' || pg_get_constraintdef(c.oid) from pg_constraint c where connamespace = 'public'::regnamespace
	union all select 'trigger ' || pg_get_triggerdef(t.oid) from pg_trigger t where not tgisinternal
	union all select 'table ' || relname || ' ' || coalesce(array_to_string(reloptions, ' '), '') from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
	union all select 'function ' || pg_get_functiondef(p.oid) from pg_proc p where pronamespace = 'public'::regnamespace and prokind = 'f'
		and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
	order by line`

// Every file can be taken back: then the schema is what it was before, and comes
// again.
func TestEveryFileGoesDownAndUpAgain(t *testing.T) {
	d := dbtest.New(t)
	at := func(version int64) []string {
		t.Helper()
		if err := d.MigrateTo(t.Context(), version); err != nil {
			t.Fatal(err)
		}
		rows, err := d.Pool.Query(t.Context(), schemaSQL)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	rows, err := d.Pool.Query(t.Context(), `select version_id from goose_db_version where version_id > 0 order by version_id`)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(versions) == 0 {
		t.Fatalf("versions %v: %v", versions, err)
	}
	down := map[int64][]string{}
	for _, v := range slices.Backward(versions) {
		down[v] = at(v)
	}
	at(0)
	for _, v := range versions {
		up := at(v)
		for _, line := range up {
			if !slices.Contains(down[v], line) {
				t.Errorf("version %d, when the next is taken back, is without %s", v, line)
			}
		}
		for _, line := range down[v] {
			if !slices.Contains(up, line) {
				t.Errorf("version %d, when the next is taken back, has still %s", v, line)
			}
		}
	}
	if err := d.MigrateTo(t.Context(), versions[len(versions)-1]+1); !errors.Is(err, db.ErrNewerSchema) {
		t.Errorf("a version that there is not: %v", err)
	}
}

// What a column may hold is asked of every value, also where its type asks it.
func TestContactsHoldNoWordThatIsNone(t *testing.T) {
	d := dbtest.New(t)
	_, err := d.Pool.Exec(t.Context(), `insert into contacts (id, node, channel, call_id, caller_source, dialled, t0) values (gen_random_uuid(), 'north', 'phone', '1', 'from', '800000001', 'epoch')`)
	if err != nil {
		t.Fatal(err)
	}
	for column, good := range map[string]string{"caller_source": "withheld", "match": "several", "ring_back": "due", "direction": "outbound"} {
		sql := `update contacts set ` + column + ` = $1`
		if _, err := d.Pool.Exec(t.Context(), sql, good); err != nil {
			t.Errorf("%s %q is refused: %v", column, good, err)
		}
		var pe *pgconn.PgError
		if _, err := d.Pool.Exec(t.Context(), sql, "nonsense"); !errors.As(err, &pe) || pe.Code != "23514" { // check_violation
			t.Errorf("%s takes nonsense: %v", column, err)
		}
	}
}

// What several columns may be together is asked of every change of one of them.
func TestRowsThatCannotBeAreRefused(t *testing.T) {
	d := dbtest.New(t)
	_, err := d.Pool.Exec(t.Context(), `
		insert into users (name, role, display_name, password_hash, created_at) values ('anna', 'operator', 'Anna', '', 'epoch');
		insert into seats (user_id, declared_at, doing_at, idle_since) select id, 'epoch', 'epoch', 'epoch' from users;
		insert into topics (code, name) values ('a', 'A');
		insert into contacts (id, node, channel, call_id, caller_source, dialled, t0) values ('00000000-0000-0000-0000-000000000001', 'north', 'phone', '1', 'from', '800000001', 'epoch');
		insert into places (contact_id, node, topic_id, urgency, t0, joined_at, state) select c.id, 'north', t.id, 1, 'epoch', 'epoch', 'waiting' from contacts c, topics t;
		insert into callbacks (id, contact_id, origin, number, asked_at, booked_at) select id, id, 'queue', '1', 'epoch', 'epoch' from contacts`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	for sql, sound := range map[string]bool{
		`update contacts set urgency = 2`:                                   true,
		`update contacts set urgency = 3`:                                   false,
		`update contacts set te = 'epoch'`:                                  false,
		`update contacts set ending = 'lost'`:                               false,
		`update contacts set callback_id = id, direction = 'outbound'`:      true,
		`update contacts set callback_id = id`:                              false,
		`update contacts set urgency = null, te = 'epoch', ending = 'lost'`: true,
		`insert into contacts (id, node, channel, call_id, caller_source, dialled, t0, ending) values (gen_random_uuid(), 'north', 'phone', '1', 'from', '8', 'epoch', 'lost')`: false,
		`update seats set declared = 'away'`:                                                            false,
		`update seats set doing = 'resting', doing_until = 'epoch'`:                                     false,
		`update seats set doing = 'talking'`:                                                            false,
		`update seats set doing = 'talking', doing_until = 'epoch', talk = 'held'`:                      true,
		`update seats set doing = 'talking', doing_until = 'epoch', talk = 'singing'`:                   false,
		`update seats set doing = 'idle', doing_until = null, talk = 'held'`:                            false,
		`update seats set supervises_as = 'shout'`:                                                      false,
		`update seats set supervises_as = 'barge', declared = 'break'`:                                  true,
		`update places set state = 'gone'`:                                                              false,
		`update places set kind = 'letter'`:                                                             false,
		`update places set kind = 'callback'`:                                                           false,
		`update places set kind = 'callback', next_at = 'epoch'`:                                        true,
		`update places set kind = 'live', next_at = 'epoch'`:                                            false,
		`update places set attempt = contact_id`:                                                        false,
		`update places set kind = 'callback', next_at = 'epoch', state = 'taken', attempt = contact_id`: true,
	} {
		var pe *pgconn.PgError
		err := pgx.BeginFunc(t.Context(), d.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return err
			}
			return errSound
		})
		switch refused := errors.As(err, &pe) && pe.Code == "23514"; { // check_violation
		case sound && err != errSound:
			t.Errorf("%s: %v", sql, err)
		case !sound && !refused:
			t.Errorf("%s is taken (%v)", sql, err)
		}
	}
}

var errSound = errors.New("it is sound")
