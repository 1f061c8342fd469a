-- +goose Up

-- Appends lines, each to the end of its stream, as journal_append(jsonb) does, which
-- stays for the nodes of before: the same locks in the same order, the same bytes. A
-- line is what stands in one place of the arrays; turns are these places, those of one
-- stream together and in their order, the streams by name. What comes as arrays need
-- not be taken from jsonb, and its lines are gone through once.
-- +goose StatementBegin
create function journal_append(turns int[], streams text[], ats bigint[], kinds text[], contacts uuid[], tickets bigint[], users bigint[], datas jsonb[], facts uuid[])
returns void language plpgsql as $$
declare
    i      int;
    own    text; -- the stream of this turn
    n      int;
    h      bytea; -- of the line before
    seqs   int[];
    prevs  bytea[];
    hashes bytea[];
begin
    foreach i in array turns loop
        if own is distinct from streams[i] then
            own := streams[i];
            if pg_advisory_xact_lock(hashtextextended(own, 0)) is null then -- an expression, not a statement: it needs no executor
            end if;
            select j.seq, j.hash into n, h from journal j where j.stream = own order by j.seq desc limit 1;
            if n is null then
                n := 0;
                h := '';
            end if;
        end if;
        n := n + 1;
        seqs[i] := n;
        prevs[i] := h;
        -- journal_bytes (00002) by hand
        h := sha256(h || convert_to(concat_ws(E'\n', own, n, ats[i], kinds[i],
            coalesce(contacts[i]::text, ''), coalesce(tickets[i]::text, ''), coalesce(users[i]::text, ''), datas[i], coalesce(facts[i]::text, '')), 'UTF8'));
        hashes[i] := h;
    end loop;
    insert into journal (stream, seq, at, kind, contact_id, ticket_id, user_id, data, fact, prev, hash)
    select streams[p], seqs[p], timestamptz 'epoch' + ats[p] * interval '1 microsecond', kinds[p],
        contacts[p], tickets[p], users[p], datas[p], facts[p], prevs[p], hashes[p]
    from generate_series(1, cardinality(turns)) p;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function journal_append(int[], text[], bigint[], text[], uuid[], bigint[], bigint[], jsonb[], uuid[]);
