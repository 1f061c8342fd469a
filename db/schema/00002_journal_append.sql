-- +goose Up

-- The bytes of a line that its hash covers. The program computes the same ones
-- by itself when it verifies a chain (db/journal), so that a changed function
-- cannot hide a changed line. Neither streams, kinds nor jsonb's text hold a
-- line feed.
-- +goose StatementBegin
create function journal_bytes(stream text, seq int, at timestamptz, kind text, contact_id uuid, ticket_id bigint, user_id bigint, data jsonb, fact uuid)
returns bytea language sql stable parallel safe as $$
    select convert_to(concat_ws(E'\n', stream, seq::text, (extract(epoch from at) * 1000000)::bigint::text, kind,
        coalesce(contact_id::text, ''), coalesce(ticket_id::text, ''), coalesce(user_id::text, ''), data::text, coalesce(fact::text, '')), 'UTF8')
$$;
-- +goose StatementEnd

-- Appends lines, each to the end of its stream. Streams are locked in the order
-- of their names until the transaction ends; in read committed each statement
-- below sees what the one who held the lock before has committed.
-- +goose StatementBegin
create function journal_append(lines jsonb) returns void language plpgsql as $$
declare
    s    text;
    l    record;
    last record;
    n    int;
    p    bytea;
begin
    for s in select distinct e.value ->> 'stream' from jsonb_array_elements(lines) e order by 1 loop
        perform pg_advisory_xact_lock(hashtextextended(s, 0));
    end loop;
    for l in
        select e.value ->> 'stream' as stream,
               timestamptz 'epoch' + (e.value ->> 'at')::bigint * interval '1 microsecond' as at,
               e.value ->> 'kind' as kind,
               (e.value ->> 'contact')::uuid as contact_id,
               (e.value ->> 'ticket')::bigint as ticket_id,
               (e.value ->> 'user')::bigint as user_id,
               coalesce(e.value -> 'data', '{}') as data,
               (e.value ->> 'fact')::uuid as fact
        from jsonb_array_elements(lines) with ordinality e order by e.ordinality
    loop
        select j.seq, j.hash into last from journal j where j.stream = l.stream order by j.seq desc limit 1;
        n := coalesce(last.seq, 0) + 1;
        p := coalesce(last.hash, ''::bytea);
        insert into journal (stream, seq, at, kind, contact_id, ticket_id, user_id, data, fact, prev, hash)
        values (l.stream, n, l.at, l.kind, l.contact_id, l.ticket_id, l.user_id, l.data, l.fact, p,
            sha256(p || journal_bytes(l.stream, n, l.at, l.kind, l.contact_id, l.ticket_id, l.user_id, l.data, l.fact)));
    end loop;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function journal_append(jsonb);
drop function journal_bytes(text, int, timestamptz, text, uuid, bigint, bigint, jsonb, uuid);
