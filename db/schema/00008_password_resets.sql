-- +goose Up

-- A link by which a person chooses a new password, once and for an hour. Who
-- reads this table cannot use it: the link's token is kept hashed.
create table password_resets (
    hash       bytea primary key, -- SHA-256 of the token
    user_id    bigint not null references users on delete cascade,
    made_by    bigint references users, -- null: on the server's command line
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at    timestamptz
);
create index on password_resets (user_id);
create index on password_resets (expires_at);

-- +goose Down
drop table password_resets;
