-- +goose Up

-- How the sound of each telephone of a contact was, written with its ending:
-- tickets.Leg, one for the caller and one for each operator who talked.
alter table contacts add column legs jsonb not null default '[]';

-- +goose Down
alter table contacts drop column legs;
