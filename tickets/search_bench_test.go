package tickets

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BenchmarkSearch is a search as the console makes it (three groups, ten each)
// over 200 000 tickets, 50 000 people with 100 000 numbers, 200 000 calls and a
// vocabulary of ten thousand words: common and rare words, misspelt ones, parts
// of numbers, and what is not there.
func BenchmarkSearch(b *testing.B) {
	d := newDesk(b)
	d.filled(200_000, 50_000)
	queries := []string{
		"certificato", "stampante bloccata", "rossini mario", "attivita citta", "E15544", "piano terapeutico accesso",
		"barrosini", "mario rosi", "stampnte", "ferari anna certificto", "esposto giusepe", "nicolo", "zzyzx", "di", "a",
		"2023-1500", "1500", "055 1234567", "055", "4567", "+39333", "12", "lombardi", "ambulatorio 77",
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		began := time.Now()
		_, err := d.Search(b.Context(), queries[i%len(queries)], "", "", 10)
		must(b, err)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "median-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
}

// filled puts a large desk into the database, made there in some ten seconds:
// the two large indexes and the triggers come afterwards, as in a restore.
func (d *desk) filled(tickets, people int) {
	d.t.Helper()
	_, err := d.db.Pool.Exec(d.t.Context(), fmt.Sprintf(fill, tickets, people), pgx.QueryExecModeSimpleProtocol)
	must(d.t, err)
	_, err = d.db.Pool.Exec(d.t.Context(), `vacuum analyze`)
	must(d.t, err)
}

// fill takes how many tickets and how many people.
const fill = `
set local statement_timeout = 0;
create temporary table dropped on commit drop as select pg_get_indexdef(indexrelid) as made from pg_index where indexrelid in ('tickets_search'::regclass, 'customers_words'::regclass);
drop index tickets_search, customers_words;
alter table tickets disable trigger user;
alter table customers disable trigger user;
create temporary table parts on commit drop as select
	string_to_array('Mario Giuseppe Anna Maria Luca Giovanni Francesca Paolo Elena Sara Marco Andrea Niccolò Chiara Stefano Roberto Laura Federica Alessandro Davide', ' ') as first,
	string_to_array(' bar cas dol fer gan lor mon nar pas ric sal tor vol zan bel cor dam ful gri', ' ') as head,
	string_to_array('ross bianch verd russ ferrar esposit roman colomb ricc marin grec brun gall cont deluc mancin cost giordan rizz lombard morett barbier fontan santor marian rinald carus pellegrin amat martin leon long gentil farin vital basil serr coppol santis angel', ' ') as middle,
	string_to_array('i oni etti ini occhi elli azzi ucci acci ato iani eri otti assi elo', ' ') as tail,
	string_to_array('certificato,ricetta,cartella,stampante,malattia,vaccino,accesso,password,farmaco,piano terapeutico,città,attività,errore,INPS,tessera,backup,rete,lenta,bloccata,invio', ',') as about;
insert into customers (code, name, practice, authority, updated_at)
	select 'c' || i, first[1+i%%20] || ' ' || initcap(head[1+i/600%%20] || middle[1+i*7%%40] || tail[1+i/40%%15]), 'Ambulatorio ' || about[1+i%%20] || ' ' || i%%500, 'Toscana Centro', 'epoch'
	from generate_series(1, %[2]d) i, parts;
insert into customer_numbers select '+39055' || 1000000+id*13, id from customers where code like 'c%%' union all select '+39333' || 1000000+id/3*17, id from customers where code like 'c%%';
insert into tickets (year, serial, status, channel, subject, description, solution, customer_id, requester_name, requester_number, practice, received_at, opened_at, closed_at)
	select 2020+i/40000, i%%40000+1, case when i%%50 = 0 then 'open' else 'closed' end, 'phone', about[1+i%%20] || ' ' || about[1+i/20%%20] || ' ' || about[1+i/400%%20],
		'Il medico segnala ' || about[1+i*3%%20] || ' dal ' || i%%28 || ' del mese, codice E' || i || ' ' || about[1+i*11%%20] || ' presso lo studio', 'Rinnovato ' || about[1+i*13%%20],
		c.id, c.name, '+39055' || 1000000+c.id*13, c.practice, timestamptz '2020-01-01' + i*interval '15 min', 'epoch', case when i%%50 = 0 then null else timestamptz 'epoch' end
	from generate_series(1, %[1]d) i join customers c on c.code = 'c' || 1+i*31::bigint%%%[2]d, parts;
insert into ticket_counters select year, max(serial) from tickets group by year;
insert into contacts (id, node, channel, call_id, caller, caller_source, dialled, t0, ticket_id) select gen_random_uuid(), 'n', 'phone', id, requester_number, 'asserted', '800', received_at, id from tickets;
select learn_words(string_agg(name || ' ' || practice, ' ')) from customers;
select learn_words(string_agg(words, ' ')) from (select distinct subject as words from tickets) s;
alter table tickets enable trigger user;
alter table customers enable trigger user;
do $$ declare d text; begin for d in select made from dropped loop execute d; end loop; end $$;
`
