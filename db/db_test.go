package db_test

import (
	"testing"

	"github.com/pronto-desk/pronto/db/dbtest"
)

func TestMigratedDatabaseHasTables(t *testing.T) {
	d := dbtest.New(t)
	var n int
	if err := d.Pool.QueryRow(t.Context(), "select count(*) from journal").Scan(&n); err != nil || n != 0 {
		t.Fatal(n, err)
	}
}
func TestX(t *testing.T) {
	for range 5 { t.Run("a", TestMigratedDatabaseHasTables) }
}
