-- +goose Up

-- Who listened to what, the latest first: few lines among all of the journal's.
create index journal_listened on journal (at desc, id desc) where kind in ('played', 'heard');

-- The messages that nobody has taken or heard are counted with every call that
-- ends: a few, however many have been left in the years before.
create index recordings_new on recordings (started_at desc, id)
    where kind = 'message' and state = 'complete' and taken_at is null and heard_at is null;

-- +goose Down
drop index recordings_new;
drop index journal_listened;
