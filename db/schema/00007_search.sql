-- +goose Up

-- Search over tickets, people and numbers. Both extensions come with PostgreSQL
-- (Debian: postgresql) and are trusted: whoever owns the database may create
-- them, and where they are there already nothing is needed.
create extension if not exists unaccent;
create extension if not exists pg_trgm;

-- Italian stems, found with and without accents: città for citta.
create text search configuration it (copy = italian);
alter text search configuration it alter mapping for hword, hword_part, word with unaccent, italian_stem;

-- A text as it is compared: lower case, without accents. unaccent is only stable
-- because its rules are a file, which nobody edits; the search path is kept so
-- that the function means the same wherever it is called.
create function folded(t text) returns text
language sql immutable strict parallel safe set search_path from current
as $$ select lower(unaccent(t)) $$;

-- People: sort is what lists are ordered by, in every database alike; words is
-- where each word of a question is looked for. version is counted up by every
-- change of a person or of their numbers.
alter table customers
    add version bigint not null default 1,
    add sort    text collate "C" generated always as (folded(name)) stored,
    add words   text generated always as (folded(name || ' ' || code || ' ' || practice || ' ' || email)) stored;
create index on customers (sort, id);
create index customers_words on customers using gin (words gin_trgm_ops) with (fastupdate = off);

-- Tickets: of long texts the beginning is searched, so that no description is
-- too long for a tsvector (1 MB).
alter table tickets
    add search tsvector generated always as (to_tsvector('it', requester_name || ' ' || subject || ' ' || practice || ' ' || left(description, 20000) || ' ' || left(solution, 20000))) stored;
create index tickets_search on tickets using gin (search) with (fastupdate = off);
create index tickets_received on tickets (received_at desc, id desc);

-- Every word that names, practices and subjects are made of, once or (when two
-- write it at the same time) a little more often: a key would make them wait for
-- each other. What somebody misspelt is looked for here, among some ten thousand
-- short words, and the tickets then by the words that were meant: the nearest of
-- 200 000 texts took half a second.
create table search_words (word text collate "C" not null);
create index on search_words (word);
create index search_words_near on search_words using gist (word gist_trgm_ops);

create function learn_words(t text) returns void language sql as $$
    insert into search_words
    select distinct w from regexp_split_to_table(folded(t), '[^a-z]+') w
    where length(w) between 4 and 32 and not exists (select from search_words k where k.word = w)
$$;

-- +goose StatementBegin
create function learn_ticket() returns trigger language plpgsql as $$
begin
    perform learn_words(new.requester_name || ' ' || new.subject || ' ' || new.practice);
    return null;
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
create function learn_customers() returns trigger language plpgsql as $$
begin
    perform learn_words(string_agg(name || ' ' || practice, ' ')) from changed;
    return null;
end
$$;
-- +goose StatementEnd

create trigger learns after insert or update of requester_name, subject, practice on tickets for each row execute function learn_ticket();
create trigger learns_new after insert on customers referencing new table as changed for each statement execute function learn_customers();
create trigger learns after update on customers referencing new table as changed for each statement execute function learn_customers();
select learn_words(string_agg(name || ' ' || practice, ' ')) from customers;
select learn_words(string_agg(requester_name || ' ' || subject || ' ' || practice, ' ')) from tickets;

-- Numbers by how they begin, and by their last digits.
create index customer_numbers_begin on customer_numbers (number collate "C");
create index customer_numbers_end on customer_numbers (reverse(number) collate "C");
create index contacts_caller_begin on contacts (caller collate "C");
create index contacts_caller_end on contacts (reverse(caller) collate "C");

-- +goose Down
drop index customer_numbers_begin, customer_numbers_end, contacts_caller_begin, contacts_caller_end;
drop trigger learns on tickets;
drop trigger learns on customers;
drop trigger learns_new on customers;
drop function learn_ticket();
drop function learn_customers();
drop function learn_words(text);
drop table search_words;
drop index tickets_received;
alter table tickets drop search;
alter table customers drop version, drop sort, drop words;
drop function folded(text);
drop text search configuration it;
-- The extensions stay: they may have been there before.
