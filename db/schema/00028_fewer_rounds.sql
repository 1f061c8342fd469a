-- +goose Up

-- Appends lines, each to the end of its stream, as before (00002). Where no stream
-- has two of them, which is nearly always, one statement writes all: a call that is
-- only answered spent a quarter of PostgreSQL's time in one after the other.
-- +goose StatementBegin
create or replace function journal_append(lines jsonb) returns void language plpgsql as $$
declare
    streams int;
    l       record;
    last    record;
    n       int;
    p       bytea;
begin
    perform pg_advisory_xact_lock(hashtextextended(e.stream, 0))
    from (select distinct value ->> 'stream' as stream from jsonb_array_elements(lines) order by 1) e;
    get diagnostics streams = row_count;
    if streams = jsonb_array_length(lines) then
        insert into journal (stream, seq, at, kind, contact_id, ticket_id, user_id, data, fact, prev, hash)
        select e.stream, e.seq, e.instant, e.kind, e.contact, e.ticket, e."user", e.content, e.fact, e.prev,
            sha256(e.prev || journal_bytes(e.stream, e.seq, e.instant, e.kind, e.contact, e.ticket, e."user", e.content, e.fact))
        from (
            select r.*, timestamptz 'epoch' + r.at * interval '1 microsecond' as instant, coalesce(r.data, '{}') as content,
                coalesce(before.seq, 0) + 1 as seq, coalesce(before.hash, ''::bytea) as prev
            from rows from (jsonb_to_recordset(lines) as (stream text, at bigint, kind text, contact uuid, ticket bigint, "user" bigint, data jsonb, fact uuid))
                with ordinality r (stream, at, kind, contact, ticket, "user", data, fact, place)
            left join lateral (select j.seq, j.hash from journal j where j.stream = r.stream order by j.seq desc limit 1) before on true
        ) e order by e.place;
        return;
    end if;
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

-- A function in SQL is planned at each call, one in PL/pgSQL once on a connection.
-- +goose StatementBegin
create or replace function learn_words(t text) returns void language plpgsql as $$
begin
    insert into search_words
    select distinct w from regexp_split_to_table(folded(t), '[^a-z]+') w
    where length(w) between 4 and 32 and not exists (select from search_words k where k.word = w);
end
$$;
-- +goose StatementEnd

-- Most steps of a contact change no column of an index. With room beside its row
-- the new version stands there, and no index hears of it.
alter table contacts set (fillfactor = 60);

-- What has no ticket is found by none.
create index contacts_of_ticket on contacts (ticket_id) where ticket_id is not null;
drop index contacts_ticket_id_idx;
create index journal_of_ticket on journal (ticket_id, id) where ticket_id is not null;
drop index journal_ticket_id_id_idx;

-- +goose Down
create index contacts_ticket_id_idx on contacts (ticket_id);
drop index contacts_of_ticket;
create index journal_ticket_id_id_idx on journal (ticket_id, id);
drop index journal_of_ticket;
alter table contacts reset (fillfactor);
-- +goose StatementBegin
create or replace function learn_words(t text) returns void language sql as $$
    insert into search_words
    select distinct w from regexp_split_to_table(folded(t), '[^a-z]+') w
    where length(w) between 4 and 32 and not exists (select from search_words k where k.word = w)
$$;
-- +goose StatementEnd
-- +goose StatementBegin
create or replace function journal_append(lines jsonb) returns void language plpgsql as $$
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
