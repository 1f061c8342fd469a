package dbtest_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/dbtest"
)

// Each test has a database of its own, and leaves none, whatever it keeps open.
func TestDatabasesAreFreshAndGoAway(t *testing.T) {
	var mu sync.Mutex // guards addresses
	var addresses []string
	t.Run("tests", func(t *testing.T) {
		for n := range 4 {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				d := dbtest.New(t)
				var before int
				if err := d.Pool.QueryRow(t.Context(), `select count(*) from services`).Scan(&before); err != nil || before != 0 {
					t.Errorf("%d services at the beginning (%v)", before, err)
				}
				if _, err := d.Pool.Exec(t.Context(), `insert into services (number, name) values ('1', 'one')`); err != nil {
					t.Error(err)
				}
				if _, err := pgx.Connect(t.Context(), d.Pool.Config().ConnString()); err != nil { // and never closed
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				addresses = append(addresses, d.Pool.Config().ConnString())
			})
		}
	})
	if len(addresses) != 4 {
		t.Fatalf("%d databases", len(addresses))
	}
	u, err := url.Parse(addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/postgres"
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			t.Fatal(err)
		}
		var there bool
		name := strings.TrimPrefix(u.Path, "/")
		if err := conn.QueryRow(t.Context(), `select exists (select from pg_database where datname = $1)`, name).Scan(&there); err != nil || there {
			t.Errorf("database %s is still there: %v (%v)", name, there, err)
		}
	}
}
