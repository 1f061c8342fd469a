package db_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
)

// TestUUIDsTravelAsTheyAre looks whether every form in which the desk holds a uuid
// is to PostgreSQL what its text is, both ways.
func TestUUIDsTravelAsTheyAre(t *testing.T) {
	d := dbtest.New(t)
	id, other := uuid.New(), uuid.New()
	null, held := uuid.NullUUID{}, uuid.NullUUID{UUID: id, Valid: true}
	list := []uuid.UUID{id, other}
	var none *uuid.UUID
	const sql = `select @id::uuid::text, @pointer::uuid::text, @held::uuid::text, @null::uuid is null and @none::uuid is null, @list::uuid[]::text,
		@id::uuid, @id::uuid, @id::uuid, null::uuid, null::uuid, @list::uuid[], array[@id::uuid, null]`
	var asID, asPointer, asHeld, asList string
	var isNull bool
	var got uuid.UUID
	var gotPointer, gotNone *uuid.UUID
	gotHeld, gotNull := null, held
	var gotList []uuid.UUID
	var gotNulls []uuid.NullUUID
	err := d.Pool.QueryRow(t.Context(), sql, db.Args{"id": id, "pointer": &id, "held": held, "null": null, "none": none, "list": list}).
		Scan(&asID, &asPointer, &asHeld, &isNull, &asList, &got, &gotPointer, &gotHeld, &gotNull, &gotNone, &gotList, &gotNulls)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"a uuid": asID, "a pointer": asPointer, "one that may be null": asHeld} {
		if text != id.String() {
			t.Errorf("%s is %s, want %s", what, text, id)
		}
	}
	if want := "{" + id.String() + "," + other.String() + "}"; asList != want {
		t.Errorf("a list is %s, want %s", asList, want)
	}
	if !isNull || gotNone != nil || gotNull.Valid {
		t.Errorf("null is not null: %v, %v, %v", isNull, gotNone, gotNull)
	}
	if got != id || gotPointer == nil || *gotPointer != id || gotHeld != held || !slices.Equal(gotList, list) || !slices.Equal(gotNulls, []uuid.NullUUID{held, null}) {
		t.Errorf("%v came back as %v, %v, %v, %v and %v", id, got, gotPointer, gotHeld, gotList, gotNulls)
	}
	for _, way := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} { // as text
		if err := d.Pool.QueryRow(t.Context(), `select $1::uuid`, way, id).Scan(&got); err != nil || got != id {
			t.Errorf("by way %v, %v came back as %v (%v)", way, id, got, err)
		}
	}
}

// BenchmarkUUID is a uuid on its way to the database and back.
func BenchmarkUUID(b *testing.B) {
	d := dbtest.New(b)
	conn, err := d.Pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	m := conn.Conn().TypeMap()
	const oid, binary = 2950, 1
	id := uuid.New()
	b.ReportAllocs()
	for b.Loop() {
		buf, err := m.Encode(oid, binary, id, nil)
		if err == nil && len(buf) == 16 {
			err = m.Scan(oid, binary, buf, &id)
		}
		if err != nil || len(buf) != 16 {
			b.Fatal(len(buf), err)
		}
	}
}
