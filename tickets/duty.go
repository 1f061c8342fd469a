package tickets

import (
	"fmt"
	"slices"
	"time"

	"github.com/pronto-desk/pronto/tickets/calendar"
)

// DutyNotTaken is what the journal says of who was rung on duty, lifted and did not
// press the key that takes the call, beside AttemptOutcomes.
const DutyNotTaken = "not_taken"

// Duty is who is rung for an emergency while a service is closed (A12), and from
// when to when: minutes since midnight in Italy. When From and To are the same it
// is at any time, when To is earlier it is on the day after.
type Duty struct {
	Numbers  []string // E.164, in the order in which they are rung
	From, To int
}

// At is who is to be rung at an instant, in this order; nobody outside the hours.
func (d Duty) At(at time.Time) []string {
	local := at.In(calendar.Rome())
	now := local.Hour()*minutesPerHour + local.Minute()
	var on bool
	switch {
	case d.From == d.To:
		on = true
	case d.From < d.To:
		on = d.From <= now && now < d.To
	default:
		on = d.From <= now || now < d.To
	}
	if !on {
		return nil
	}
	return d.Numbers
}

// read reads who is on duty for a service of these numbers.
func (d DutySetting) read(service []string, f *faults) (out Duty) {
	if len(d.Numbers) > dutyNumbers {
		f.add("duty.numbers", placeDuty, "I numeri di chi è reperibile sono al massimo %d.", dutyNumbers)
		return out
	}
	for i, n := range d.Numbers {
		field := fmt.Sprintf("duty.numbers[%d]", i)
		switch normal := Normalise(n); {
		case normal == "":
			f.add(field, placeDuty, "La riga %d non è un numero di telefono.", i+1)
		case slices.Contains(out.Numbers, normal):
			f.add(field, placeDuty, "Il numero %s è scritto due volte.", normal)
		case slices.Contains(service, normal):
			f.add(field, placeDuty, "%s è un numero del servizio: chiamerebbe se stesso.", normal)
		default:
			out.Numbers = append(out.Numbers, normal)
		}
	}
	if d.From == "" && d.To == "" {
		return out
	}
	from, okFrom := readClock(d.From)
	to, okTo := readClock(d.To)
	switch {
	case !okFrom || from == minutesPerDay:
		f.add("duty.from", placeDuty, "L'ora d'inizio si scrive HH:MM, da 00:00 a 23:59.")
	case !okTo:
		f.add("duty.to", placeDuty, "L'ora di fine si scrive HH:MM, fino a 24:00.")
	case from == to:
		f.add("duty.to", placeDuty, "La reperibilità comincia e finisce alla stessa ora: per averla a ogni ora di chiusura lascia vuoti gli orari.")
	default:
		out.From, out.To = from, to
	}
	return out
}

// unreachable notes who is on duty and cannot be: whom the desk must not dial, and
// numbers that ring at the desk itself.
func (b *Book) unreachable(others *catalogue, s *Service, f *faults) {
	if s.Hours.Always && len(s.Duty.Numbers) > 0 {
		f.warn("duty", placeDuty, "Il servizio è sempre aperto: chi è reperibile non viene mai chiamato.")
	}
	for i, n := range s.Duty.Numbers {
		field := fmt.Sprintf("duty.numbers[%d]", i)
		ours := slices.ContainsFunc(others.at(s.ValidFrom), func(o *Service) bool { return slices.Contains(o.Numbers, n) })
		switch {
		case ours:
			f.add(field, placeDuty, "%s è un numero di questo banco: chi chiama tornerebbe qui.", n)
		case b.Plan.Allows(n) != nil:
			f.add(field, placeDuty, "Il banco non può chiamare %s: è un numero di emergenza, breve, a pagamento o con un prefisso non consentito.", n)
		case slices.Contains(b.Plan.Shown, n): // it may be a switchboard's, which has a night porter
			f.warn(field, placeDuty, "%s è il numero che il banco mostra quando chiama: se chi lo compone arriva al banco, di notte non risponde nessuno.", n)
		}
	}
}
