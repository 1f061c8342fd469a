-- +goose Up

-- A place in the order of commits is what the journal's readers go by: the key. Nobody
-- looks for an id alone.
alter table journal drop constraint journal_pkey;
create unique index journal_pkey on journal (xid, id);
alter table journal add primary key using index journal_pkey;
drop index journal_xid_id_idx;

-- Nobody asks for tickets by this: it made of each that was taken in charge an entry in
-- every index, the words' too. With room beside the row its new version is in none.
drop index tickets_status_received_at_idx;
alter table tickets set (fillfactor = 80);

-- Appends lines, each to the end of its stream, as before (00028), now in one statement
-- also where a stream has several of them: what each line continues is worked out
-- before.
-- +goose StatementBegin
create or replace function journal_append(lines jsonb) returns void language plpgsql as $$
declare
    streams int;
    l       record;
    stream  text;
    n       int;
    h       bytea; -- of the line before
    seqs    int[];
    prevs   bytea[];
    hashes  bytea[];
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
        select r.*, timestamptz 'epoch' + r.at * interval '1 microsecond' as instant, coalesce(r.data, '{}') as content,
            coalesce(before.seq, 0) as last, coalesce(before.hash, ''::bytea) as hash
        from rows from (jsonb_to_recordset(lines) as (stream text, at bigint, kind text, contact uuid, ticket bigint, "user" bigint, data jsonb, fact uuid))
            with ordinality r (stream, at, kind, contact, ticket, "user", data, fact, place)
        left join lateral (select j.seq, j.hash from journal j where j.stream = r.stream order by j.seq desc limit 1) before on true
        order by r.stream, r.place
    loop
        if stream is distinct from l.stream then
            stream := l.stream;
            n := l.last;
            h := l.hash;
        end if;
        n := n + 1;
        seqs[l.place] := n;
        prevs[l.place] := h;
        h := sha256(h || journal_bytes(l.stream, n, l.instant, l.kind, l.contact, l.ticket, l."user", l.content, l.fact));
        hashes[l.place] := h;
    end loop;
    insert into journal (stream, seq, at, kind, contact_id, ticket_id, user_id, data, fact, prev, hash)
    select r.stream, r.seq, timestamptz 'epoch' + r.at * interval '1 microsecond', r.kind, r.contact, r.ticket, r."user", coalesce(r.data, '{}'), r.fact, r.prev, r.hash
    from rows from (jsonb_to_recordset(lines) as (stream text, at bigint, kind text, contact uuid, ticket bigint, "user" bigint, data jsonb, fact uuid),
        unnest(seqs), unnest(prevs), unnest(hashes)) as r (stream, at, kind, contact, ticket, "user", data, fact, seq, prev, hash);
end
$$;
-- +goose StatementEnd

-- As before (00007), but planned once on a connection, not at each call.
-- +goose StatementBegin
create or replace function folded(t text) returns text
language plpgsql immutable strict parallel safe set search_path from current as $$
begin
    return lower(unaccent(t));
end
$$;
-- +goose StatementEnd

-- As before (00028), but a word that is known is found by the index of words. Asked for
-- equality PostgreSQL may take the one of near words, which is several times as slow.
-- +goose StatementBegin
create or replace function learn_words(t text) returns void language plpgsql as $$
begin
    insert into search_words
    select distinct w from regexp_split_to_table(folded(t), '[^a-z]+') w
    where length(w) between 4 and 32 and not exists (select from search_words k where k.word >= w and k.word <= w);
end
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
create or replace function learn_words(t text) returns void language plpgsql as $$
begin
    insert into search_words
    select distinct w from regexp_split_to_table(folded(t), '[^a-z]+') w
    where length(w) between 4 and 32 and not exists (select from search_words k where k.word = w);
end
$$;
-- +goose StatementEnd

create or replace function folded(t text) returns text
language sql immutable strict parallel safe set search_path from current
as $$ select lower(unaccent(t)) $$;

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

alter table tickets reset (fillfactor);
create index tickets_status_received_at_idx on tickets (status, received_at);

alter table journal drop constraint journal_pkey, add primary key (id);
create index on journal (xid, id);
