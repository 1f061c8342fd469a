-- +goose Up

-- Who could be offered a caller now, the longest idle first.
create index on seats (idle_since, user_id) where doing = 'idle' and declared = 'available';

-- +goose Down
drop index seats_idle_since_user_id_idx;
