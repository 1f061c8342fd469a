-- +goose Up

-- The wrap-ups that end next are looked for after every change of the queue.
create index seats_wrapping on seats (doing_until) where doing = 'wrapping';

-- +goose Down
drop index seats_wrapping;
