package db_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

// TestTxArgsAreStrict: in a transaction, which remembers how a statement reads, named
// arguments are as strict as pgx's, whichever way the statement goes.
func TestTxArgsAreStrict(t *testing.T) {
	d := dbtest.New(t)
	const sql = `select @one::text || @two::text || @one::text`
	for range 2 {
		err := d.Tx(t.Context(), func(tx *db.Tx) error {
			for range 2 { // with BEGIN, and alone
				var row, batch string
				if err := tx.QueryRow(t.Context(), sql, pgx.StrictNamedArgs{"one": "1", "two": "2"}).Scan(&row); err != nil || row != "121" {
					t.Errorf("a row is %q (%v)", row, err)
				}
				var b pgx.Batch
				b.Queue(sql, pgx.StrictNamedArgs{"one": "3", "two": "4"}).QueryRow(func(row pgx.Row) error { return row.Scan(&batch) })
				if err := tx.SendBatch(t.Context(), &b).Close(); err != nil || batch != "343" {
					t.Errorf("a batch gives %q (%v)", batch, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		for _, wrong := range []pgx.StrictNamedArgs{{"one": "1"}, {"one": "1", "two": "2", "three": "3"}} {
			if err := d.Tx(t.Context(), func(tx *db.Tx) error {
				_, err := tx.Exec(t.Context(), sql, wrong)
				return err
			}); err == nil {
				t.Errorf("%v is taken", wrong)
			}
		}
	}
}

// BenchmarkArgs is how a statement with ten arguments is made ready: as pgx does it,
// and remembered.
func BenchmarkArgs(b *testing.B) {
	sql, args := `insert into contacts values (`, pgx.StrictNamedArgs{}
	for i := range 10 {
		name := fmt.Sprintf("argument%d", i)
		sql, args[name] = sql+"@"+name+", ", i
	}
	sql += `null)`
	for name, of := range map[string]pgx.QueryRewriter{"pgx": args, "remembered": db.Args(args)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := of.RewriteQuery(b.Context(), nil, sql, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestArgsAreStrictTheSecondTime(t *testing.T) {
	d := dbtest.New(t)
	const sql = `select @one::text || @two::text || @one::text`
	for range 2 {
		for _, wrong := range []db.Args{{"one": "1"}, {"one": "1", "two": "2", "three": "3"}, {"one": "1", "tow": "2"}} {
			if _, err := d.Pool.Exec(t.Context(), sql, wrong); err == nil {
				t.Errorf("%v is taken", wrong)
			}
		}
		for said, a := range map[string]db.Args{"121": {"one": "1", "two": "2"}, "343": {"one": "3", "two": "4"}} {
			var got string
			if err := d.Pool.QueryRow(t.Context(), sql, a).Scan(&got); err != nil || got != said {
				t.Errorf("%v gives %q (%v), want %q", a, got, err, said)
			}
		}
	}
}
