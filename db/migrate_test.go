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
