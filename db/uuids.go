package db

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// uuidLength is that of a uuid in PostgreSQL's binary format.
const uuidLength = 16

// knowUUIDs teaches a connection our uuids: the sixteen octets travel as they are.
// pgx, which knows no type of that library, would try each as a text first, find that
// it is none, and go by way of its 36 letters, both ways.
func knowUUIDs(_ context.Context, conn *pgx.Conn) error {
	knowUUIDsIn(conn.TypeMap())
	return nil
}

func knowUUIDsIn(m *pgtype.Map) {
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	m.RegisterType(one)
	m.RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
}

// uuidCodec is pgx's own, and knows uuid.UUID and uuid.NullUUID beside what that knows.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanEncode chooses how a value goes to the server.
func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case uuid.UUID, uuid.NullUUID:
			return writeUUID{}
		}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

type writeUUID struct{}

// Encode appends the octets; nil is NULL.
func (writeUUID) Encode(value any, buf []byte) ([]byte, error) {
	id, ok := value.(uuid.UUID)
	if !ok {
		null := value.(uuid.NullUUID)
		if !null.Valid {
			return nil, nil
		}
		id = null.UUID
	}
	return append(buf, id[:]...), nil
}

// PlanScan chooses how a value comes from the server.
func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if format == pgtype.BinaryFormatCode {
		switch target.(type) {
		case *uuid.UUID, *uuid.NullUUID:
			return readUUID{}
		}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

type readUUID struct{}

// Scan takes the octets. NULL leaves a uuid.UUID as it is, as its own Scan does.
func (readUUID) Scan(src []byte, target any) error {
	id, ok := target.(*uuid.UUID)
	if !ok {
		null := target.(*uuid.NullUUID)
		*null = uuid.NullUUID{Valid: src != nil}
		id = &null.UUID
	}
	if src == nil {
		return nil
	}
	if len(src) != uuidLength {
		return fmt.Errorf("a uuid of %d octets", len(src))
	}
	copy(id[:], src)
	return nil
}
