-- +goose Up

-- The inbox of a talk: what its operator's page asks of the conversation, which
-- takes it out. One at a time; a number that is to be dialled is gone with it.
create table commands (
    offer_id    uuid primary key references offers on delete cascade, -- that led to the talk
    wants       text not null check (wants in ('hold', 'resume', 'transfer', 'consult', 'complete', 'take_back', 'conference')),
    operator_id bigint references users,
    topic_id    bigint references topics,
    number      text not null default '', -- E.164
    expires_at  timestamptz not null
);

-- Where a talk stands, and why the last thing that was asked of it came to nothing.
alter table seats
    add talk     text not null default '' check (talk in ('', 'held', 'asking', 'consulting', 'conference', 'advising')),
    add talk_why text not null default '',
    add check (talk = '' or doing = 'talking');

-- Who is only asked by the operator who talks does not have the caller.
alter table offers add consult boolean not null default false;
drop index one_live_offer_per_caller;
create unique index one_live_offer_per_caller on offers (contact_id)
    where not consult and (state = 'pending' or state = 'accepted' and released_at is null);

-- +goose Down
drop index one_live_offer_per_caller;
delete from offers where consult;
create unique index one_live_offer_per_caller on offers (contact_id) where state = 'pending' or state = 'accepted' and released_at is null;
alter table offers drop consult;
alter table seats drop talk_why, drop talk;
drop table commands;
