-- +goose Up

-- The words of topics are learned as those of people are, when somebody writes them.
-- +goose StatementBegin
create function learn_topic() returns trigger language plpgsql as $$
begin
    perform learn_words(new.name);
    return null;
end
$$;
-- +goose StatementEnd
create trigger learns after insert or update of name on topics for each row execute function learn_topic();
select learn_words(string_agg(name, ' ')) from topics;

-- So a ticket that is named after its topic, and whose requester is as the register says,
-- or nobody yet, has no word to be learned: nearly every ticket of a call, when it is opened.
-- +goose StatementBegin
create or replace function learn_ticket() returns trigger language plpgsql as $$
begin
    if exists (select from topics p where p.id = new.topic_id and p.name = new.subject)
        and (new.requester_name = '' and new.practice = ''
            or exists (select from customers c where c.id = new.customer_id and c.name = new.requester_name and c.practice = new.practice)) then
        return null;
    end if;
    perform learn_words(new.requester_name || ' ' || new.subject || ' ' || new.practice);
    return null;
end
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
create or replace function learn_ticket() returns trigger language plpgsql as $$
begin
    perform learn_words(new.requester_name || ' ' || new.subject || ' ' || new.practice);
    return null;
end
$$;
-- +goose StatementEnd
drop trigger learns on topics;
drop function learn_topic();
