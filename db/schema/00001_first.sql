-- +goose Up

-- Everything the desk knows. Every instant is UTC and comes from the program
-- (`@now`), never from now(): rules are tested with another clock.

create table nodes (
    id         text primary key,
    started_at timestamptz not null,
    seen_at    timestamptz not null
);

-- People who sign in. An operator has a telephone (extension); the digest
-- secrets of telephones stand apart from the passwords of people.
create table users (
    id            bigint generated always as identity primary key,
    name          text not null unique check (name ~ '^[a-z][a-z0-9._-]{0,31}$'),
    display_name  text not null,
    role          text not null check (role in ('operator', 'supervisor', 'admin')),
    password_hash text not null,
    extension     text unique,
    wrap_up       int not null default 60 check (wrap_up between 0 and 3600), -- seconds
    active        boolean not null default true,
    created_at    timestamptz not null
);

create table phones (
    extension  text primary key check (extension ~ '^[0-9]{2,10}$'),
    ha1_md5    text not null, -- hex of H(user:realm:password), RFC 7616 §3.4.2
    ha1_sha256 text not null
);

-- Where a telephone can be rung: kept here so that it rings after a restart too.
create table phone_bindings (
    extension  text not null references phones on delete cascade,
    contact    text not null,          -- the Contact URI as registered
    source     text not null,          -- ip:port the REGISTER came from
    transport  text not null,          -- udp or tcp
    call_id    text not null,
    cseq       bigint not null,
    user_agent text not null default '',
    expires_at timestamptz not null,
    primary key (extension, contact)
);

create table sessions (
    token  text primary key, -- SHA-256 of the cookie's token
    data   bytea not null,
    expiry timestamptz not null
);
create index on sessions (expiry);

create table api_tokens (
    id           bigint generated always as identity primary key,
    user_id      bigint not null references users on delete cascade,
    hash         bytea not null unique, -- SHA-256 of the token
    label        text not null default '',
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    last_used_at timestamptz
);

-- What can be dialled, when it is open, what its menu offers.
create table services (
    id             bigint generated always as identity primary key,
    number         text not null unique,   -- E.164, or the digits as dialled for 800…
    name           text not null,
    always_open    boolean not null default false,
    open_holidays  boolean not null default false
);

create table service_hours (
    service_id bigint not null references services on delete cascade,
    weekday    smallint not null check (weekday between 1 and 7), -- ISO 8601: Monday is 1
    opens      text not null check (opens ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    closes     text not null check (closes ~ '^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$'),
    primary key (service_id, weekday, opens),
    check (opens < closes)
);

create table topics (
    id   bigint generated always as identity primary key,
    code text not null unique,      -- software, certificati, carta, non-tecnica
    name text not null              -- as an operator reads it
);

create table service_menu (
    service_id bigint not null references services on delete cascade,
    key        text not null check (key ~ '^[1-9]$'),
    topic_id   bigint not null references topics,
    is_default boolean not null default false,
    primary key (service_id, key)
);

create table user_topics ( -- skills
    user_id  bigint not null references users on delete cascade,
    topic_id bigint not null references topics on delete cascade,
    primary key (user_id, topic_id)
);

-- The register of doctors (C4). One number may belong to several of them.
create table customers (
    id         bigint generated always as identity primary key,
    code       text not null unique,     -- the authority's code of the doctor
    name       text not null,
    practice   text not null default '',
    authority  text not null default '', -- health authority
    email      text not null default '',
    updated_at timestamptz not null
);

create table customer_numbers (
    number      text not null,           -- E.164
    customer_id bigint not null references customers on delete cascade,
    primary key (number, customer_id)
);

create table ticket_counters ( -- progressive, per year, without gaps: a sequence skips after a crash
    year int primary key,
    last int not null
);

create table tickets (
    id               bigint generated always as identity primary key,
    year             int not null,
    serial           int not null,
    number           text generated always as (year::text || '-' || serial::text) stored unique,
    status           text not null check (status in ('open', 'in_charge', 'closed')),
    channel          text not null,
    service_id       bigint references services,
    topic_id         bigint references topics,
    urgency          smallint not null default 2 check (urgency in (1, 2)), -- 1 blocking
    call_type        text not null default 'intervento', -- A5
    subject          text not null default '',
    description      text not null default '',
    fault_type       text not null default '', -- bloccante, non_bloccante (C3)
    customer_id      bigint references customers,
    requester_name   text not null default '',
    requester_number text not null default '',
    practice         text not null default '',
    authority        text not null default '',
    outcome          text not null default '', -- risolto, da_richiamare, inoltrato, non_pertinente, senza_messaggio
    solution         text not null default '',
    owner_id         bigint references users,
    received_at      timestamptz not null, -- T0 of the contact that opened it: clocks start here (A9)
    opened_at        timestamptz not null,
    taken_at         timestamptz,          -- Tk
    closed_at        timestamptz,
    closed_by        bigint references users,
    version          bigint not null default 1,
    unique (year, serial),
    check ((status = 'closed') = (closed_at is not null))
);
create index on tickets (status, received_at);
create index on tickets (customer_id);
create index on tickets (requester_number);

create table contacts (
    id            uuid primary key,
    node          text not null,
    channel       text not null,
    call_id       text not null,
    trunk         text not null default '',
    service_id    bigint references services,
    caller        text not null default '',  -- E.164, or '' when withheld
    caller_source text not null check (caller_source in ('asserted', 'from', 'withheld')),
    dialled       text not null,
    customer_id   bigint references customers,
    match         text not null default 'none' check (match in ('certain', 'several', 'none', 'withheld')),
    topic_id      bigint references topics,
    urgency       smallint check (urgency in (1, 2)),
    ticket_id     bigint references tickets,
    operator_id   bigint references users,
    number_told   boolean not null default false, -- the caller heard the ticket's number
    t0 timestamptz not null,
    ta timestamptz, ts timestamptz, tq timestamptz, tr timestamptz,
    tc timestamptz, te timestamptz, tw timestamptz, tk timestamptz,
    ending        text,
    ring_back     text check (ring_back in ('due', 'taken')), -- "calls to ring back"
    ring_back_by  bigint references users,
    ring_back_at  timestamptz,
    check ((ending is null) = (te is null))
);
create index on contacts (call_id, t0 desc);
create index on contacts (t0);
create index on contacts (ticket_id);
create index on contacts (caller, t0 desc);
create index on contacts (node) where ending is null;
create index on contacts (t0) where ring_back = 'due';

create table ticket_notes (
    id        bigint generated always as identity primary key,
    ticket_id bigint not null references tickets,
    author_id bigint references users,
    at        timestamptz not null,
    text      text not null
);
create index on ticket_notes (ticket_id, at);

-- The queue. Callers' places by urgency, then by the instant of the INVITE.
create table places (
    contact_id uuid primary key references contacts,
    node       text not null,
    topic_id   bigint not null references topics,
    urgency    smallint not null,
    t0         timestamptz not null,
    joined_at  timestamptz not null,
    state      text not null check (state in ('waiting', 'offered', 'taken', 'left')),
    left_at    timestamptz
);
create index on places (urgency, t0, contact_id) where state = 'waiting';

-- Operators at work: what they declared and what the desk is doing with them.
-- No doing-state but idle stands without the instant that ends it.
create table seats (
    user_id        bigint primary key references users,
    declared       text not null default 'off' check (declared in ('available', 'break', 'admin', 'off')),
    reason         text not null default '',   -- Pausa, Pranzo, …; missed, phone_unreachable when the desk paused them
    declared_at    timestamptz not null,
    doing          text not null default 'idle' check (doing in ('idle', 'offered', 'talking', 'wrapping')),
    doing_at       timestamptz not null,
    doing_until    timestamptz,
    idle_since     timestamptz not null,       -- the longest idle is served first
    offer_id       uuid,
    contact_id     uuid references contacts,
    node           text not null default '',   -- who holds the call of an offered or talking seat
    version        bigint not null default 1,
    check ((doing = 'idle') = (doing_until is null))
);

create table offers (
    id          uuid primary key,
    contact_id  uuid not null references contacts,
    user_id     bigint not null references users,
    node        text not null,
    state       text not null check (state in ('pending', 'accepted', 'declined', 'timed_out', 'withdrawn')),
    offered_at  timestamptz not null,
    expires_at  timestamptz not null,
    painted_at  timestamptz,
    ended_at    timestamptz,
    released_at timestamptz, -- the talk it led to is over
    reason      text not null default ''
);
create unique index one_pending_offer_per_seat on offers (user_id) where state = 'pending';
create unique index one_live_offer_per_caller on offers (contact_id) where state in ('pending', 'accepted');
create index on offers (expires_at) where state = 'pending';
create index on offers (contact_id);

create table recordings (
    id         uuid primary key,
    contact_id uuid not null references contacts,
    node       text not null,
    kind       text not null check (kind in ('message')),
    state      text not null check (state in ('recording', 'complete')),
    started_at timestamptz not null,
    ended_at   timestamptz,
    length_ms  int,          -- all of it
    sound_ms   int,          -- from the first to the last frame above the silence threshold
    path       text not null default '', -- below the node's data directory
    taken_by   bigint references users,
    taken_at   timestamptz,
    heard_at   timestamptz,
    heard_by   bigint references users
);
create index on recordings (contact_id);
create index on recordings (started_at desc);

-- The journal: whatever happens is one append-only line, in the transaction
-- that changes the state. It carries ids, never names, numbers or texts. Each
-- stream ("contact:…", "ticket:…", "seat:…") is a chain of hashes.
create table journal (
    id         bigint generated always as identity primary key,
    xid        xid8 not null default pg_current_xact_id(),
    stream     text not null,
    seq        int not null,
    at         timestamptz not null,
    kind       text not null,
    contact_id uuid,
    ticket_id  bigint,
    user_id    bigint,   -- the operator it concerns or who did it
    data       jsonb not null default '{}',
    fact       uuid unique, -- replayed once, whatever happens
    prev       bytea not null,
    hash       bytea not null,
    unique (stream, seq)
);
create index on journal (xid, id);
create index on journal (contact_id, id);
create index on journal (ticket_id, id);

-- +goose Down
drop table journal, recordings, offers, seats, places, ticket_notes, contacts, tickets, ticket_counters, customer_numbers, customers, user_topics, service_menu, topics, service_hours, services, api_tokens, sessions, phone_bindings, phones, users, nodes;
