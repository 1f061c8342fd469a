-- +goose Up

-- Several servers on one database. Where the others reach a node: it says so
-- with every beat. The secret is what makes one of them known to the others:
-- whoever can read it can read everything else, too.
alter table nodes
    add column sip  text not null default '',  -- ip:port of its user agent
    add column http text not null default '',  -- ip:port where it answers other nodes
    add column pin  text not null default '',  -- hex SHA-256 of the certificate it shows there
    add column lost_at timestamptz;            -- another node gave it up; its next beat takes that back

create table node_secret (
    one    boolean primary key default true check (one),
    secret bytea not null check (length(secret) >= 32)
);

-- The node whose socket a telephone has registered at. '': from before there
-- were several; any node may try it.
alter table phone_bindings add column node text not null default '';

-- +goose Down
alter table phone_bindings drop column node;
drop table node_secret;
alter table nodes drop column sip, drop column http, drop column pin, drop column lost_at;
