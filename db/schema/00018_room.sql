-- +goose Up

-- Who put an operator into the state they are in, when it was a supervisor: their
-- own page says so until they choose another.
alter table seats add declared_by bigint references users; -- null: themselves, or the desk

-- Somebody who waits to be rung back may ring again, and be served meanwhile.
alter table callbacks drop constraint callbacks_outcome_check,
    add constraint callbacks_outcome_check check (outcome in ('reached', 'not_reached', 'no_operator', 'cancelled', 'served'));
create index on callbacks (number) where outcome is null;
create index on contacts (caller) where ending is null; -- who is on the line

-- +goose Down
drop index contacts_caller_idx;
drop index callbacks_number_idx;
update callbacks set outcome = 'cancelled' where outcome = 'served';
alter table callbacks drop constraint callbacks_outcome_check,
    add constraint callbacks_outcome_check check (outcome in ('reached', 'not_reached', 'no_operator', 'cancelled'));
alter table seats drop declared_by;
