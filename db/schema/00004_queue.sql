-- +goose Up

-- How well an operator knows a topic: 1 best, 3 only when nobody better has come.
alter table user_topics add level smallint not null default 1 check (level between 1 and 3);

-- Seconds of waiting after which a caller is also offered to operators of the
-- second and of the third level, and to those who know another topic.
alter table topics
    add relax_2        int not null default 0 check (relax_2 between 0 and 86400),
    add relax_3        int not null default 0 check (relax_3 between 0 and 86400),
    add overflow_id    bigint references topics,
    add overflow_after int not null default 0 check (overflow_after between 0 and 86400),
    add check (relax_2 <= relax_3),
    add check (overflow_id <> id);

alter table places add sticky_id bigint references users; -- who served the caller within the last hour

-- A match reads as many callers of a topic as there are free seats.
create index on places (topic_id, urgency, t0, contact_id) where state = 'waiting';
create index on places (topic_id, joined_at) where state = 'waiting';
create index on offers (ended_at) where state = 'declined';
create index on offers (released_at) where state = 'accepted';

-- +goose Down
drop index offers_released_at_idx;
drop index offers_ended_at_idx;
drop index places_topic_id_joined_at_idx;
drop index places_topic_id_urgency_t0_contact_id_idx;
alter table places drop sticky_id;
alter table topics drop overflow_after, drop overflow_id, drop relax_3, drop relax_2;
alter table user_topics drop level;
