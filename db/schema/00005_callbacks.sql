-- +goose Up

-- A promise to ring somebody back. The first contact is who asked or was lost;
-- each attempt is a contact of its own, outbound, with its outcome.
create table callbacks (
    id         uuid primary key,
    contact_id uuid not null references contacts, -- the first contact
    origin     text not null check (origin in ('queue', 'lost', 'message', 'ticket', 'fault')),
    number     text not null check (number <> ''), -- E.164: who is dialled
    asked_at   timestamptz not null,   -- the working hour for the first attempt runs from here
    booked_at  timestamptz not null,
    booked_by  bigint references users, -- null: the caller, or the desk itself
    user_id    bigint references users, -- who rings back at once, with one click; null: whoever is free, in the queue's order
    attempts   int not null default 0,
    first_at   timestamptz,            -- the first attempt
    outcome    text check (outcome in ('reached', 'not_reached', 'no_operator', 'cancelled')), -- null while the promise stands
    ended_at   timestamptz,
    check ((outcome is null) = (ended_at is null))
);
create unique index one_callback_per_contact on callbacks (contact_id) where outcome is null;
create index on callbacks (asked_at);
create index on callbacks (contact_id, booked_at);

-- A place is kept when its caller has gone and is to be rung back: it stands in
-- the same order, and is offered from next_at on. An acceptance begins an attempt: the
-- outbound contact, conducted on places.node. The place is taken as long as it
-- lasts, and stays so when the customer was reached.
alter table places
    add kind    text not null default 'live' check (kind in ('live', 'callback')),
    add next_at timestamptz,
    add attempt uuid references contacts,
    add check ((kind = 'callback') = (next_at is not null)),
    add check ((attempt is not null) = (kind = 'callback' and state = 'taken'));
create index on places (next_at) where kind = 'callback' and state = 'waiting';
create unique index on places (attempt) where attempt is not null;

alter table contacts
    add direction   text not null default 'inbound' check (direction in ('inbound', 'outbound')),
    add callback_id uuid references callbacks, -- of an outbound contact: whose attempt it is
    add outcome     text not null default '',  -- of an outbound contact: reached, no_answer, busy, …
    add check (direction = 'outbound' or callback_id is null);
create index on contacts (callback_id) where callback_id is not null;

-- Somebody who was served may be rung back later: an acceptance whose talk is
-- over stands in nobody's way.
drop index one_live_offer_per_caller;
create unique index one_live_offer_per_caller on offers (contact_id) where state = 'pending' or state = 'accepted' and released_at is null;

-- +goose Down
drop index one_live_offer_per_caller;
create unique index one_live_offer_per_caller on offers (contact_id) where state in ('pending', 'accepted');
alter table contacts drop callback_id, drop outcome, drop direction;
alter table places drop attempt, drop next_at, drop kind;
drop table callbacks;
