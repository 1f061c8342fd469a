-- +goose Up

-- version is counted up by every change of a person, their skills included, so
-- that of two who edit the same person none undoes what the other did unseen.
-- signed_out counts how often all sessions of a person were ended: a session
-- carries the number of its day.
alter table users
    add column version    bigint not null default 1,
    add column signed_out int not null default 0;

-- +goose Down
alter table users drop column version, drop column signed_out;
