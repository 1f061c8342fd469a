package sip

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"
	"github.com/nyaruka/phonenumbers"
)

// Where the caller's number was taken from (Call.Source).
const (
	SourceAsserted = "asserted" // the trunk vouches for it (RFC 3325)
	SourceFrom     = "from"     // the caller says so
	SourceWithheld = "withheld" // there is none, or the caller wants it hidden
)

// Limits of what may be a number: E.164 has 15 digits, an internal extension two.
const (
	minNumber       = 2
	maxNumberDigits = 15
	home            = "IT" // numbers without a country code are Italian
	homeCode        = 39
)

// shortNumbers are dialled as they are, everywhere in Italy; the library does
// not know them as numbers.
var shortNumbers = []string{"112", "113", "115", "117", "118", "1500", "1515", "1522", "1530", "1533", "1544", "114", "116117", "116000"}

// identity is who calls and what was dialled.
type identity struct {
	from, name, source, to string
}

// identify reads an INVITE that came from a trusted trunk.
func identify(req *sip.Request) identity {
	id := identity{to: dialled(req)}
	from := nameAddr{}
	if f := req.From(); f != nil {
		from = nameAddr{display: strings.TrimSpace(f.DisplayName), uri: f.Address.String()}
	}
	id.source = SourceWithheld
	if hidden(headers(req, "privacy")) || anonymous(from) {
		return id // trap 15: also when the trunk tells us, for its own purposes, who it is
	}
	for _, value := range headers(req, "p-asserted-identity") {
		for a := range eachAddress(value) {
			if n := numberOf(a.uri); n != "" {
				return identity{from: n, name: a.display, source: SourceAsserted, to: id.to}
			}
		}
	}
	if n := numberOf(from.uri); n != "" {
		return identity{from: n, name: from.display, source: SourceFrom, to: id.to}
	}
	return id
}

// hidden tells whether the caller asks not to be shown (RFC 3323 §4.2, RFC 3325 §9.3).
func hidden(values []string) bool {
	for _, v := range values {
		for p := range strings.FieldsFuncSeq(strings.ToLower(v), func(r rune) bool { return r == ';' || r == ',' || r == ' ' }) {
			if p == "id" || p == "user" || p == "header" || p == "full" {
				return true
			}
		}
	}
	return false
}

// anonymous knows the ways in which carriers write that there is no number.
func anonymous(a nameAddr) bool {
	_, user, host := uriParts(a.uri)
	user = strings.ToLower(user)
	if strings.HasSuffix(host, "anonymous.invalid") { // RFC 3323 §4.1.1.3
		return true
	}
	switch user {
	case "", "anonymous", "restricted", "unavailable", "unknown", "private", "withheld":
		return true
	}
	switch strings.ToLower(strings.Trim(a.display, `"`)) {
	case "anonymous", "restricted":
		return numberOf(a.uri) == ""
	}
	return false
}

// dialled is the number the caller dialled. A carrier that turns the toll-free
// number into that of the trunk says so in Diversion (RFC 5806) or History-Info
// (RFC 7044). A caller who forwarded a mobile to us dialled the mobile, but means
// the desk: so a toll-free number in the Request-URI stands, and a mobile never
// replaces anything.
func dialled(req *sip.Request) string {
	asked := numberOf(req.Recipient.String())
	if asked == "" {
		if t := req.To(); t != nil {
			asked = numberOf(t.Address.String()) // some trunks put their account's name in the Request-URI
		}
	}
	if isService(asked) {
		return asked
	}
	before := ""
	for _, value := range headers(req, "diversion") { // the first diversion comes last
		for a := range eachAddress(value) {
			if n := numberOf(a.uri); n != "" {
				before = n
			}
		}
	}
	if before == "" {
		before = firstOfHistory(headers(req, "history-info"))
	}
	if before == "" || isMobile(before) {
		return asked
	}
	return before
}

// firstOfHistory is the first address of a History-Info with more than one: what
// the request was for before it was sent elsewhere.
func firstOfHistory(values []string) string {
	var all []nameAddr
	for _, v := range values {
		all = append(all, addresses(v)...)
	}
	if len(all) < 2 {
		return ""
	}
	return numberOf(all[0].uri)
}

// headers gives all values of a header.
func headers(req sip.Message, name string) (values []string) {
	for _, h := range req.GetHeaders(name) {
		values = append(values, h.Value())
	}
	return values
}

// numberOf is the number in a sip: or tel: address, "" when there is none.
func numberOf(uri string) string {
	_, user, _ := uriParts(uri)
	user, _, _ = strings.Cut(user, ";") // +390551234567;npdi;rn=…
	return Number(user)
}

// Number brings a telephone number to the form in which the desk keeps it:
// E.164 with a plus; digits without prefix for what exists only inside Italy
// (toll-free 800, shared-cost 848, 199, emergency and other short numbers) and
// for internal extensions; "" for what is no number. Numbers without a country
// code are Italian, whose landlines keep their leading zero.
func Number(s string) string {
	digits, plus := strip(s)
	if len(digits) < minNumber || len(digits) > maxNumberDigits+3 {
		return ""
	}
	if !plus && isService(digits) { // as nearly every call is for: the library would take its time to say the same
		return digits
	}
	if number := italian(digits, plus); number != "" {
		return number
	}
	return looked(digits, plus)
}

// looked is Number for digits of whatever country.
func looked(digits string, plus bool) string {
	text := digits
	if plus {
		text = "+" + digits
	}
	n, err := phonenumbers.Parse(text, home)
	valid := err == nil && isValid(n)
	if err == nil && !valid && !plus && strings.HasPrefix(digits, "39") {
		// 390551234567, as some exchanges write it.
		if m, err := phonenumbers.Parse("+"+digits, home); err == nil && isValid(m) {
			n, valid = m, true
		}
	}
	if valid {
		if n.GetCountryCode() == homeCode {
			if national := phonenumbers.GetNationalSignificantNumber(n); isService(national) {
				return national
			}
		}
		return phonenumbers.Format(n, phonenumbers.E164)
	}
	if len(digits) > maxNumberDigits {
		return ""
	}
	if plus {
		if national, ok := strings.CutPrefix(digits, "39"); ok && isService(national) {
			return national
		}
		return "+" + digits
	}
	return digits // an extension, or a range the library has not heard of yet
}

// italian is Number for what can be read as one thing only: an Italian landline or
// mobile with its country code or without. As nearly all callers have one, the library
// is not asked to find that out, only whether there is such a number; "": it is asked
// for all.
func italian(digits string, plus bool) string {
	national := digits
	if plus {
		var ok bool
		if national, ok = strings.CutPrefix(digits, "39"); !ok {
			return ""
		}
	} else if strings.HasPrefix(digits, "39") { // may be the country's code
		return ""
	}
	if len(national) < minItalian || len(national) > maxItalian || national[0] != '0' && national[0] != '3' || strings.HasPrefix(national, "00") {
		return ""
	}
	if !isItalian(national) {
		return ""
	}
	return "+39" + national
}

// Digits of Italian landlines and mobiles; voicemail has more.
const (
	minItalian = 6
	maxItalian = 11
)

// italianRanges is what the library has said of ranges: of numbers that begin with the
// same five digits, the first of them 0 or 3. Bit n: it was asked about numbers of n
// digits; bit 16+n: there are such.
var italianRanges [2 * 10_000]atomic.Uint32

// isItalian tells whether there is such a number. The library runs eight regular
// expressions to find out, of which none looks at more than the first five digits and
// how many there are, so it is asked once for all numbers that have these in common.
func isItalian(national string) bool {
	i := 0
	for _, c := range []byte(national[1:5]) {
		i = 10*i + int(c-'0')
	}
	if national[0] == '3' {
		i += len(italianRanges) / 2
	}
	asked := uint32(1) << len(national)
	valid := asked << 16
	if known := italianRanges[i].Load(); known&asked != 0 {
		return known&valid != 0
	}
	if !libraryKnows(national) {
		valid = 0
	}
	italianRanges[i].Or(asked | valid)
	return valid != 0
}

// libraryKnows asks the library about an Italian number.
func libraryKnows(national string) bool {
	value, err := strconv.ParseUint(national, 10, 64)
	if err != nil {
		return false
	}
	n := phonenumbers.PhoneNumber{CountryCode: new(int32(homeCode)), NationalNumber: &value}
	if national[0] == '0' {
		n.ItalianLeadingZero = new(true)
	}
	return phonenumbers.IsValidNumberForRegion(&n, home)
}

// isValid is phonenumbers.IsValidNumber, which first looks whose a number is, for one
// that nearly always is Italian: where it is valid there, it is valid.
func isValid(n *phonenumbers.PhoneNumber) bool {
	return n.GetCountryCode() == homeCode && phonenumbers.IsValidNumberForRegion(n, home) || phonenumbers.IsValidNumber(n)
}

// strip keeps the digits of what people and machines write around them.
func strip(s string) (digits string, plus bool) {
	if digits, plus = strings.CutPrefix(s, "+"); !isDigits(digits) {
		digits, plus = stripped(s)
	}
	if !plus {
		if rest, ok := strings.CutPrefix(digits, "00"); ok && len(rest) > 5 {
			return rest, true
		}
	}
	return digits, plus
}

func stripped(s string) (digits string, plus bool) {
	var b strings.Builder
	for _, c := range strings.TrimSpace(s) {
		switch {
		case c >= '0' && c <= '9':
			b.WriteRune(c)
		case c == '+' && b.Len() == 0 && !plus:
			plus = true
		case strings.ContainsRune(" -./()\u00a0", c):
		default:
			return "", false // letters: a name, not a number
		}
	}
	return b.String(), plus
}

// isService tells numbers that exist only inside Italy: toll-free, shared cost
// and premium ranges of the national numbering plan (AGCOM 8/15/CIR).
func isService(digits string) bool {
	if slices.Contains(shortNumbers, digits) {
		return true
	}
	if len(digits) < 6 || len(digits) > 10 {
		return false
	}
	for _, prefix := range []string{"800", "803", "840", "841", "847", "848", "199", "178", "892", "893", "894", "895", "899"} {
		if strings.HasPrefix(digits, prefix) {
			return true
		}
	}
	return false
}

// isMobile tells Italian mobile numbers.
func isMobile(number string) bool {
	n, err := phonenumbers.Parse(number, home)
	return err == nil && phonenumbers.GetNumberType(n) == phonenumbers.MOBILE
}
