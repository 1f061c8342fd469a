-- +goose Up

-- A supervisor who takes part in an operator's talk stands on the supervisor's own
-- seat: the offer that led to the talk, and how. It holds as long as that talk does.
alter table seats
    add supervises       uuid unique,
    add supervises_as    text not null default '' check (supervises_as in ('', 'listen', 'whisper', 'barge')),
    add supervises_at    timestamptz,              -- when they asked
    add supervises_since timestamptz,              -- null: their telephone rings
    add supervises_why   text not null default ''; -- why it came to nothing, the last time

-- +goose Down
alter table seats
    drop supervises, drop supervises_as, drop supervises_at, drop supervises_since, drop supervises_why;
