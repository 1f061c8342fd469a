-- +goose Up

-- PostgreSQL reads and plans the stored text of every check of a table anew for each
-- statement that changes a row, whichever columns it sets: a call changes its contact
-- eight times. What is asked of one value alone is a type instead: its check is planned
-- once on a connection, and asked when that column is set. First the columns, then the
-- checks: so the table is not written anew.
create domain caller_source as text;
create domain caller_match as text;
create domain ring_back as text;
create domain direction as text;
alter table contacts
    drop constraint contacts_caller_source_check,
    drop constraint contacts_match_check,
    drop constraint contacts_ring_back_check,
    drop constraint contacts_direction_check,
    alter caller_source type caller_source,
    alter match type caller_match,
    alter ring_back type ring_back,
    alter direction type direction;
alter domain caller_source add check (value in ('asserted', 'from', 'withheld'));
alter domain caller_match add check (value in ('certain', 'several', 'none', 'withheld'));
alter domain ring_back add check (value in ('due', 'taken'));
alter domain direction add check (value in ('inbound', 'outbound'));

-- +goose Down
alter table contacts
    alter caller_source type text,
    alter match type text,
    alter ring_back type text,
    alter direction type text,
    add constraint contacts_caller_source_check check (caller_source in ('asserted', 'from', 'withheld')),
    add constraint contacts_match_check check (match in ('certain', 'several', 'none', 'withheld')),
    add constraint contacts_ring_back_check check (ring_back in ('due', 'taken')),
    add constraint contacts_direction_check check (direction in ('inbound', 'outbound'));
drop domain caller_source, caller_match, ring_back, direction;
