-- +goose Up

-- A consultation that the operator's telephone asks for: the operator talks to who is
-- asked in a second call of that telephone.
alter table commands add telephone boolean not null default false;

-- +goose Down
alter table commands drop telephone;
