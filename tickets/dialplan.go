package tickets

import (
	"regexp"
	"slices"
	"strings"
)

// DialPlan says which numbers the desk may dial. Whatever it says, some are never
// dialled: emergency and short numbers, premium and shared-cost services, and the
// networks of nobody's country, which cost as much as the first caller who leaves
// one of them as "my number" wants.
type DialPlan struct {
	Prefixes []string // +390, +393: beginnings in E.164; none: nobody is dialled
	Shown    []string // the numbers that people see when the desk dials them
}

// DefaultPrefixes are Italian landlines and mobiles.
func DefaultPrefixes() []string { return []string{"+390", "+393"} }

// Why a number is not dialled, for the operator who wanted to.
const (
	notANumber  = "Non c'è un numero da richiamare: chi ha chiamato lo nascondeva, o quello scritto non è completo."
	neverDialed = "Questo numero non si richiama: è un numero di emergenza, breve o a pagamento."
	notInPlan   = "Questo numero non si può chiamare da qui: il suo prefisso non è tra quelli consentiti."
)

// italianPerson is a number behind +39 that belongs to somebody: a landline, 0 and
// five to ten digits more, or a mobile, 3 and eight or nine. All the others are
// services (Piano di numerazione nazionale, delibera AGCOM 8/15/CIR).
var italianPerson = regexp.MustCompile(`^\+39(0[1-9][0-9]{4,9}|3[0-9]{8,9})$`)

// noCountry are satellites and international premium services (ITU-T E.164, list
// of assigned codes).
var noCountry = []string{"+870", "+878", "+881", "+882", "+883", "+888", "+979", "+800", "+808", "+991"}

// Allows returns nil, or a *Refusal that says why the number is not dialled.
func (p DialPlan) Allows(number string) error {
	n := Normalise(number)
	refuse := func(reason string) error { return &Refusal{"number", reason} }
	begins := func(prefix string) bool { return strings.HasPrefix(n, prefix) }
	switch {
	case n == "":
		return refuse(notANumber)
	case !begins("+"), slices.ContainsFunc(noCountry, begins):
		return refuse(neverDialed)
	case begins("+"+italy) && !italianPerson.MatchString(n):
		return refuse(neverDialed)
	case !slices.ContainsFunc(p.Prefixes, begins):
		return refuse(notInPlan)
	}
	return nil
}
