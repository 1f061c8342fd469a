-- +goose Up

-- What a token may be used for; each scope includes those before it. Tokens made
-- before there were scopes had all of them.
alter table api_tokens add column scope text not null default 'admin' check (scope in ('read', 'operate', 'admin'));

-- Answers of changes, for who asks again with the same key because an answer
-- was lost. Kept for a day.
create table idempotency_keys (
    user_id     bigint not null references users on delete cascade,
    key         text not null,
    fingerprint bytea not null,      -- SHA-256 of method, address and body
    begun_at    timestamptz not null,
    done        boolean not null default false, -- committed with the change itself
    status      int,                 -- of the answer; null: none yet, or it was lost
    kind        text not null default '',
    body        bytea,
    primary key (user_id, key)
);
create index on idempotency_keys (begun_at);

-- Who is told of what happens, and by which address.
create table webhooks (
    id            uuid primary key,
    url           text not null,
    secret        text not null,     -- signs what is sent, so it is needed as it is
    events        text[] not null,
    created_by    bigint not null references users,
    created_at    timestamptz not null,
    failing_since timestamptz,       -- null: the last delivery arrived, or there was none
    last_fault    text not null default '',
    delivered_at  timestamptz,       -- the last that arrived
    disabled_at   timestamptz,
    disabled_why  text not null default ''
);

-- How far the journal was read for webhooks: a place in the order of commits.
create table webhook_cursor (
    one boolean primary key default true check (one),
    xid text not null,               -- xid8; text because it has no cast from numbers
    id  bigint not null
);

-- River's tables (background jobs), as its own migrations 1 to 8 leave them, so
-- that one file brings up the whole schema. River is told so in river_migration.
create type river_job_state as enum ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled');

create table river_job (
    id            bigserial primary key,
    state         river_job_state not null default 'available',
    attempt       smallint not null default 0,
    max_attempts  smallint not null default 25,
    attempted_at  timestamptz,
    created_at    timestamptz not null default now(),
    finalized_at  timestamptz,
    scheduled_at  timestamptz not null default now(),
    priority      smallint not null default 1,
    args          jsonb not null,
    attempted_by  text[],
    errors        jsonb[],
    kind          text not null,
    metadata      jsonb not null default '{}',
    queue         text not null default 'default',
    tags          varchar(255)[] not null default '{}',
    unique_key    bytea,
    unique_states bit(8),
    constraint finalized_or_finalized_at_null check (
        (finalized_at is null and state not in ('cancelled', 'completed', 'discarded')) or
        (finalized_at is not null and state in ('cancelled', 'completed', 'discarded'))),
    constraint max_attempts_is_positive check (max_attempts > 0),
    constraint priority_in_range check (priority >= 1 and priority <= 4),
    constraint queue_length check (char_length(queue) > 0 and char_length(queue) < 128),
    constraint kind_length check (char_length(kind) > 0 and char_length(kind) < 128)
);
create index river_job_kind on river_job using btree (kind);
create index river_job_state_and_finalized_at_index on river_job using btree (state, finalized_at) where finalized_at is not null;
create index river_job_prioritized_fetching_index on river_job using btree (state, queue, priority, scheduled_at, id);
create index river_job_args_index on river_job using gin (args);
create index river_job_metadata_index on river_job using gin (metadata);

-- +goose StatementBegin
create function river_job_state_in_bitmask(bitmask bit(8), state river_job_state) returns boolean language sql immutable as $$
    select case state
        when 'available' then get_bit(bitmask, 7)
        when 'cancelled' then get_bit(bitmask, 6)
        when 'completed' then get_bit(bitmask, 5)
        when 'discarded' then get_bit(bitmask, 4)
        when 'pending'   then get_bit(bitmask, 3)
        when 'retryable' then get_bit(bitmask, 2)
        when 'running'   then get_bit(bitmask, 1)
        when 'scheduled' then get_bit(bitmask, 0)
        else 0
    end = 1;
$$;
-- +goose StatementEnd

create unique index river_job_unique_idx on river_job (unique_key)
    where unique_key is not null and unique_states is not null and river_job_state_in_bitmask(unique_states, state);

create unlogged table river_leader (
    elected_at timestamptz not null,
    expires_at timestamptz not null,
    leader_id  text not null,
    name       text primary key default 'default',
    constraint name_length check (name = 'default'),
    constraint leader_id_length check (char_length(leader_id) > 0 and char_length(leader_id) < 128)
);

create table river_queue (
    name       text primary key not null,
    created_at timestamptz not null default now(),
    metadata   jsonb not null default '{}',
    paused_at  timestamptz,
    updated_at timestamptz not null default current_timestamp
);

create table river_notification (
    id         bigserial primary key,
    created_at timestamptz not null default now(),
    payload    text not null,
    topic      text not null,
    constraint topic_length check (length(topic) > 0 and length(topic) < 128)
);
create index river_notification_created_at_idx on river_notification (created_at);
create index river_notification_topic_id_idx on river_notification (topic, id);

create table river_migration (
    line       text not null,
    version    bigint not null,
    created_at timestamptz not null default now(),
    constraint line_length check (char_length(line) > 0 and char_length(line) < 128),
    constraint version_gte_1 check (version >= 1),
    primary key (line, version)
);
insert into river_migration (line, version) select 'main', generate_series(1, 8);

-- +goose Down
drop table river_migration;
drop table river_notification;
drop table river_queue;
drop table river_leader;
drop table river_job;
drop function river_job_state_in_bitmask;
drop type river_job_state;
drop table webhook_cursor;
drop table webhooks;
drop table idempotency_keys;
alter table api_tokens drop column scope;
