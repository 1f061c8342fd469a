-- +goose Up

-- The signalling of each conversation, masked (sip.Trace), for some days. It is
-- found by a digest of each Call-ID, which may itself hold a number; json, not
-- jsonb: nobody looks inside, and it is written as it stands.
create table traces (
    id       bigint generated always as identity primary key,
    node     text not null,
    begun_at timestamptz not null,
    ended_at timestamptz not null,
    calls    text[] not null,
    trace    json not null
);
create index on traces using gin (calls);
create index on traces (ended_at);

-- +goose Down
drop table traces;
