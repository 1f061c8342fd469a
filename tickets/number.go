package tickets

import (
	"regexp"
	"strings"

	"github.com/nyaruka/phonenumbers"
)

const (
	numberLongest = 128   // a longer text is no telephone number
	italy         = "39"  // country code
	homeRegion    = "IT"  // whose numbers need no country code
	afterPrefix   = 9     // digits that must follow a bare 39: fewer are an Italian mobile number that begins with 39
	landlineLeast = 5     // digits of the shortest Italian landline number, its 0 included
	trunkAndCode  = "390" // a bare 39 before a landline number: no mobile number begins so
)

// anonymous are the words that stand where a caller withholds the number
// (RFC 3323 §4.1.1.3 and what carriers write).
var anonymous = map[string]bool{
	"anonymous": true, "anonimo": true, "restricted": true, "private": true, "unavailable": true, "unknown": true, "withheld": true, "": true,
}

// wellFormed is what Normalise returns: at most the 15 digits of ITU-T E.164 §6.1.
var wellFormed = regexp.MustCompile(`^(\+[1-9][0-9]{2,14}|[0-9]{2,15})$`)

// between are the characters that people put between digits.
var between = strings.NewReplacer(" ", "", "-", "", ".", "", "(", "", ")", "", "/", "", "\t", "", "\u00a0", "")

// Normalise gives a telephone number in E.164, Italian non-geographic and short
// numbers (800…, 199…, 112) as the digits one dials, and "" for an anonymous
// caller or what is no number. It takes what SIP headers, spreadsheets and
// people write: sip: and tel: addresses, 0039, spaces, dots, brackets.
// Normalising twice changes nothing.
func Normalise(number string) string {
	if len(number) > numberLongest {
		return ""
	}
	digits, international := dialled(number)
	if digits == "" {
		return ""
	}
	var out string
	switch {
	case international && strings.HasPrefix(digits, italy):
		out = italian(digits[len(italy):])
	case international:
		out = foreign(digits)
	default:
		out = italian(withoutBareCode(digits))
	}
	if !wellFormed.MatchString(out) {
		return ""
	}
	return out
}

// dialled strips an address down to its digits and says whether they begin with
// a country code.
func dialled(number string) (digits string, international bool) {
	s := strings.ToLower(strings.TrimSpace(number))
	for _, scheme := range []string{"sips:", "sip:", "tel:"} {
		s = strings.TrimPrefix(s, scheme)
	}
	s, _, _ = strings.Cut(s, "@")
	s, _, _ = strings.Cut(s, ";") // parameters of a tel: address, RFC 3966 §3
	if anonymous[s] {
		return "", false
	}
	s = between.Replace(s)
	if rest, ok := strings.CutPrefix(s, "+"); ok {
		s, international = rest, true
	} else if rest, ok := strings.CutPrefix(s, "00"); ok { // ITU-T E.164: Italy's international prefix
		s, international = rest, true
	}
	for _, r := range s {
		if r < '0' || r > '9' {
			return "", false
		}
	}
	return s, international
}

// withoutBareCode drops a country code written without + or 00. Mobile numbers
// begin with 39 too (391, 392, 393…), so length decides.
func withoutBareCode(digits string) string {
	if len(digits) >= len(italy)+afterPrefix && strings.HasPrefix(digits, italy) ||
		len(digits) >= len(italy)+landlineLeast && strings.HasPrefix(digits, trunkAndCode) {
		return digits[len(italy):]
	}
	return digits
}

// italian is the form of an Italian national number. In the national numbering
// plan (AGCOM 8/15/CIR) 0 is geographic, 3 mobile, 5 nomadic; these have a form
// in E.164. 1 (112, 1500, 199…), 4, 7 and 8 (800, 848…) are services, many of
// which cannot be reached from abroad: they stay as dialled.
func italian(national string) string {
	if national == "" || len(national) < landlineLeast && strings.HasPrefix(national, "00") {
		return ""
	}
	switch national[0] {
	case '0', '3', '5':
		if len(national) < landlineLeast { // an extension of some PBX
			return national
		}
		return "+" + italy + national
	}
	return national
}

// foreign is a number with another country's code, trimmed by that country's
// rules where the library knows them.
func foreign(digits string) string {
	n, err := phonenumbers.Parse("+"+digits, homeRegion)
	if err != nil || !phonenumbers.IsValidNumber(n) {
		return "+" + digits // a country or range the library does not know: as it came
	}
	return phonenumbers.Format(n, phonenumbers.E164)
}

// reachable says whether a normalised number can belong to a customer: an E.164
// number of a possible length, not a service or an extension.
func reachable(normalised string) bool {
	if !strings.HasPrefix(normalised, "+") {
		return false
	}
	n, err := phonenumbers.Parse(normalised, homeRegion)
	return err == nil && phonenumbers.IsPossibleNumber(n)
}

// Mobile says whether a normalised number is one of a mobile network. In Italy
// those are what begins with 3 (AGCOM 8/15/CIR), of every operator and also when
// the network has changed. A foreign number is mobile only where its country's
// plan says so: where mobile and fixed lines share their numbers, as in America,
// nobody is refused on suspicion.
func Mobile(normalised string) bool {
	if national, ok := strings.CutPrefix(normalised, "+"+italy); ok {
		return strings.HasPrefix(national, "3")
	}
	if !strings.HasPrefix(normalised, "+") {
		return false
	}
	n, err := phonenumbers.Parse(normalised, homeRegion)
	return err == nil && phonenumbers.GetNumberType(n) == phonenumbers.MOBILE
}
