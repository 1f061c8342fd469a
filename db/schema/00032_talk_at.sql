-- +goose Up

-- Since when a talk stands as it does: whoever is held is given to somebody else after ten minutes.
alter table seats add talk_at timestamptz;

-- +goose Down
alter table seats drop talk_at;
