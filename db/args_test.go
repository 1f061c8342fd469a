package db_test

import (
	"testing"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

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
