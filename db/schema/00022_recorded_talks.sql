-- +goose Up

-- A talk of caller and operator is recorded in two channels, kept for as long as
-- its service says, and can be paused while something is said that nobody keeps.
alter table recordings drop constraint recordings_kind_check,
    add constraint recordings_kind_check check (kind in ('message', 'talk')),
    drop constraint recordings_state_check,
    add constraint recordings_state_check check (state in ('recording', 'complete', 'erased')),
    add column keep_until timestamptz, -- null: nobody has said
    add column paused_at  timestamptz, -- null: it is not paused
    add column paused_by  bigint references users;

-- What is to be erased next, on each node.
create index recordings_kept on recordings (node, keep_until) where keep_until is not null and state <> 'erased';

-- +goose Down
drop index recordings_kept;
delete from recordings where kind = 'talk';
alter table recordings drop column keep_until, drop column paused_at, drop column paused_by,
    drop constraint recordings_kind_check,
    add constraint recordings_kind_check check (kind in ('message')),
    drop constraint recordings_state_check,
    add constraint recordings_state_check check (state in ('recording', 'complete'));
