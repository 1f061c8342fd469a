-- +goose Up

-- What a customer has spoken in the place of a clip that comes with the program,
-- or beside them. A node reads it all into memory: see ivr/prompts.
create table prompts (
    name    text primary key,                    -- as the program calls its own: benvenuto
    alaw    bytea not null check (length(alaw) > 0), -- A-law, 8 kHz, mono, whole frames of 20 ms
    text    text not null check (text <> ''),    -- what is said
    made_by bigint references users,
    made_at timestamptz not null
);

-- +goose Down
drop table prompts;
