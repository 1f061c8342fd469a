-- +goose Up

-- PostgreSQL reads and plans the stored text of every check of a table anew for each
-- statement that changes a row (00034). Where there are many, one check asks a function
-- for all: that is planned once on a connection. Types would ask no more, but would make
-- what nodes of before return fail once on each connection.
-- +goose StatementBegin
create function seat_is_sound(declared text, doing text, doing_until timestamptz, talk text, supervises_as text) returns boolean
language plpgsql immutable parallel safe as $$
begin
    return declared in ('available', 'break', 'admin', 'off')
        and doing in ('idle', 'offered', 'talking', 'wrapping')
        and (doing = 'idle') = (doing_until is null)
        and talk in ('', 'held', 'asking', 'consulting', 'conference', 'advising')
        and (talk = '' or doing = 'talking')
        and supervises_as in ('', 'listen', 'whisper', 'barge');
end
$$;
-- +goose StatementEnd
alter table seats
    drop constraint seats_declared_check,
    drop constraint seats_doing_check,
    drop constraint seats_check,
    drop constraint seats_talk_check,
    drop constraint seats_check1,
    drop constraint seats_supervises_as_check,
    add constraint seats_sound check (seat_is_sound(declared, doing, doing_until, talk, supervises_as));

-- +goose StatementBegin
create function place_is_sound(state text, kind text, next_at timestamptz, attempt uuid) returns boolean
language plpgsql immutable parallel safe as $$
begin
    return state in ('waiting', 'offered', 'taken', 'left')
        and kind in ('live', 'callback')
        and (kind = 'callback') = (next_at is not null)
        and (attempt is not null) = (kind = 'callback' and state = 'taken');
end
$$;
-- +goose StatementEnd
alter table places
    drop constraint places_state_check,
    drop constraint places_kind_check,
    drop constraint places_check,
    drop constraint places_check1,
    add constraint places_sound check (place_is_sound(state, kind, next_at, attempt));

-- Most steps of a contact change nothing that is asked here: a trigger of these columns
-- is not called for them.
-- +goose StatementBegin
create function contact_is_sound() returns trigger language plpgsql as $$
begin
    if not (new.urgency in (1, 2) and (new.ending is null) = (new.te is null) and (new.direction = 'outbound' or new.callback_id is null)) then
        raise exception 'contact % has an urgency, an ending or a callback that cannot be', new.id
            using errcode = 'check_violation', table = 'contacts', constraint = 'contacts_sound';
    end if;
    return null;
end
$$;
-- +goose StatementEnd
create trigger sound after insert or update of urgency, ending, te, direction, callback_id on contacts for each row execute function contact_is_sound();
alter table contacts
    drop constraint contacts_urgency_check,
    drop constraint contacts_check,
    drop constraint contacts_check1;

-- Few lines are facts that could come twice; the others need not stand in an index.
alter table journal drop constraint journal_fact_key;
create unique index journal_fact_key on journal (fact) where fact is not null;

-- +goose Down
drop index journal_fact_key;
alter table journal add constraint journal_fact_key unique (fact);
alter table contacts
    add constraint contacts_urgency_check check (urgency in (1, 2)),
    add constraint contacts_check check ((ending is null) = (te is null)),
    add constraint contacts_check1 check (direction = 'outbound' or callback_id is null);
drop trigger sound on contacts;
drop function contact_is_sound();
alter table places
    drop constraint places_sound,
    add constraint places_state_check check (state in ('waiting', 'offered', 'taken', 'left')),
    add constraint places_kind_check check (kind in ('live', 'callback')),
    add constraint places_check check ((kind = 'callback') = (next_at is not null)),
    add constraint places_check1 check ((attempt is not null) = (kind = 'callback' and state = 'taken'));
drop function place_is_sound(text, text, timestamptz, uuid);
alter table seats
    drop constraint seats_sound,
    add constraint seats_declared_check check (declared in ('available', 'break', 'admin', 'off')),
    add constraint seats_doing_check check (doing in ('idle', 'offered', 'talking', 'wrapping')),
    add constraint seats_check check ((doing = 'idle') = (doing_until is null)),
    add constraint seats_talk_check check (talk in ('', 'held', 'asking', 'consulting', 'conference', 'advising')),
    add constraint seats_check1 check (talk = '' or doing = 'talking'),
    add constraint seats_supervises_as_check check (supervises_as in ('', 'listen', 'whisper', 'barge'));
drop function seat_is_sound(text, text, timestamptz, text, text);
