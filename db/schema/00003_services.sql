-- +goose Up

-- The settings of a service, one document per version: numbers, hours, menu and
-- what callers are offered. The version in force at an instant is the published
-- one with the latest valid_from up to it, of two the later version; so hours can
-- be published for a day to come, and a report on the past finds those of then.
-- service_hours and service_menu are read no longer.
create table service_versions (
    service_id   bigint not null references services on delete cascade,
    version      bigint not null check (version > 0),
    state        text not null check (state in ('draft', 'published')),
    revision     bigint not null default 1, -- of a draft, counted up by each change: nobody publishes what somebody else has changed meanwhile
    valid_from   timestamptz,               -- null in a draft: from when it is published
    settings     jsonb not null,
    made_by      bigint references users,   -- null: the demo or the command line
    made_at      timestamptz not null,
    published_by bigint references users,
    published_at timestamptz,
    primary key (service_id, version),
    check ((state = 'published') = (published_at is not null)),
    check (state = 'draft' or valid_from is not null)
);
create unique index one_draft_per_service on service_versions (service_id) where state = 'draft';

-- services.number and services.name now follow what was published last: they are
-- for lists, and decide nothing.
insert into service_versions (service_id, version, state, valid_from, settings, made_at, published_at)
select s.id, 1, 'published', 'epoch', jsonb_build_object(
    'name', s.name,
    'numbers', jsonb_build_array(s.number),
    'hours', jsonb_build_object(
        'always', s.always_open,
        'open_holidays', s.open_holidays,
        'week', coalesce((select jsonb_agg(jsonb_build_object('weekday', h.weekday, 'opens', h.opens, 'closes', h.closes) order by h.weekday, h.opens)
            from service_hours h where h.service_id = s.id), '[]')),
    'menu', coalesce((select jsonb_agg(jsonb_build_object('key', m.key, 'action', 'topic', 'topic', t.code, 'default', m.is_default) order by m.key)
        from service_menu m join topics t on t.id = m.topic_id where m.service_id = s.id), '[]'),
    'callback_offered', true), 'epoch', 'epoch'
from services s;

-- The service that a number belonged to at an instant, and the version of its
-- settings: for a call that came while the database was away.
-- +goose StatementBegin
create function service_at(dialled text, instant timestamptz) returns table (service_id bigint, version bigint)
language sql stable as $$
    select f.service_id, f.version
    from (
        select distinct on (v.service_id) v.service_id, v.version, v.settings
        from service_versions v
        where v.state = 'published' and v.valid_from <= instant
        order by v.service_id, v.valid_from desc, v.version desc
    ) f
    where f.settings -> 'numbers' ? dialled
    order by f.service_id limit 1
$$;
-- +goose StatementEnd

alter table contacts add column settings_version bigint; -- of its service, which it was handled with

-- What every caller of the desk hears instead of a menu, while it is on.
create table emergencies (
    id         bigint generated always as identity primary key,
    clip       text not null default '', -- '': the one that comes with the program
    since      timestamptz not null,
    until      timestamptz,              -- null: until somebody ends it
    started_by bigint references users,
    ended_by   bigint references users,
    check (until >= since)
);

-- +goose Down
drop table emergencies;
alter table contacts drop column settings_version;
drop function service_at(text, timestamptz);
drop table service_versions;
