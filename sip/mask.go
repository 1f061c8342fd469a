package sip

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is kept of a message is written anew from what is known of it: a header, a
// parameter or a line of a description that is on no list here is left out, so a
// new one cannot bring in what nobody thought of. Numbers keep a few digits,
// enough to tell two apart; names, keys, passwords and what was pressed are never
// kept. Whatever was found to be somebody's number or name is then looked for in
// all that is left, where it may stand in a tag or in a sentence.

const (
	maskHeaders = 64  // of one message
	maskLines   = 48  // of one description
	maskValue   = 300 // octets of one value
	maskWords   = 64  // numbers and names of one call
	shortNumber = 4   // digits: an extension, 112, 1500; nobody's own
	secretLeast = 4   // letters of a name, and digits of a number, that are looked for everywhere
	star        = "*"
)

// Trace is the signalling of a conversation as it is kept.
type Trace struct {
	Node     string    `json:"node"`
	Begun    time.Time `json:"begun"`
	Ended    time.Time `json:"ended"`
	Ways     []Way     `json:"ways" nullable:"false"`
	Messages []Signal  `json:"messages" nullable:"false"`
	Left     int       `json:"left"` // messages that were not kept, between the first and the last

	calls []string // what it is found by
}

// Signal is what is kept of one message.
type Signal struct {
	At      time.Time `json:"at"`
	Way     int       `json:"way"` // which of the ways
	Out     bool      `json:"out"` // ours
	First   string    `json:"first"`
	Headers []string  `json:"headers" nullable:"false"`
	Body    []string  `json:"body" nullable:"false"` // of a session description
	Again   int       `json:"again"`                 // so often repeated as it stands
	Cut     bool      `json:"cut"`                   // too long to be kept whole
}

// masked is a ladder without what must not be kept.
func (a *Agent) masked(l *ladder) Trace {
	t := Trace{Node: a.cfg.Node, Begun: l.begun, Ended: l.ended, Left: l.left, Ways: slices.Clone(l.ways)}
	k := mask{learned: map[rawHeader]bool{}, written: map[rawHeader]string{}, lines: map[string]string{}}
	all := slices.Concat(l.first, l.last)
	list := make([]*raw, len(all))
	for i, s := range all {
		if list[i] = readable(s); list[i] != nil {
			k.learn(list[i])
		}
	}
	for i, s := range all {
		if list[i] == nil {
			continue
		}
		m := k.message(list[i])
		m.At, m.Way, m.Out, m.Again, m.Cut = s.at, s.way, s.out, s.again, s.cut
		t.Messages = append(t.Messages, m)
	}
	for i := range t.Ways {
		t.calls = append(t.calls, traceKey(t.Ways[i].CallID))
		t.Ways[i].CallID = k.scrub(opaque(t.Ways[i].CallID))
	}
	return t
}

// readable splits a message; of one that was cut the last line is not whole.
func readable(s seen) *raw {
	data := s.data
	if s.cut {
		if i := bytes.LastIndex(data, []byte("\r\n")); i >= 0 {
			data = data[:i]
		}
		if !bytes.Contains(data, []byte("\r\n\r\n")) {
			data = append(bytes.Clone(data), "\r\n\r\n"...)
		}
	}
	m, _ := scan(data)
	return m
}

// mask knows the numbers and names of one call. Most lines of a call stand in
// several of its messages, and are looked at once.
type mask struct {
	words   []string // lower case
	learned map[rawHeader]bool
	written map[rawHeader]string // headers as they are kept
	lines   map[string]string    // of a description, likewise
}

// note remembers what must appear nowhere, and the words of it.
func (k *mask) note(text string) {
	text = lower(text)
	for w := range strings.SplitSeq(text, star) { // what hides must not be hidden
		k.add(w)
		for w := range strings.FieldsFuncSeq(w, isBetweenWords) {
			k.add(w)
		}
	}
}

// octets are a set of ASCII characters.
type octets [128]bool

func octetsOf(s string) (set octets) {
	for _, c := range []byte(s) {
		set[c] = true
	}
	return set
}

func (o *octets) has(r rune) bool { return r >= 0 && r < rune(len(o)) && o[r] }

const lettersAndDigits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

var (
	betweenWords = octetsOf(" \t,;.\"'()_-+")
	opaques      = octetsOf(lettersAndDigits + "-.!%*_+`'~@:[]=; /<>")
	wordly       = octetsOf(lettersAndDigits + "-._+/=;, ")
)

func isBetweenWords(r rune) bool { return betweenWords.has(r) }

// only replaces what is in no set by a question mark.
func (o *octets) only(s string) string {
	for i := 0; i < len(s); i++ {
		if !o.has(rune(s[i])) {
			return strings.Map(func(r rune) rune {
				if o.has(r) {
					return r
				}
				return '?'
			}, s)
		}
	}
	return s
}

func (k *mask) add(word string) {
	word = strings.TrimSpace(word)
	if len(word) >= secretLeast && len(k.words) < maskWords && !slices.Contains(k.words, word) {
		k.words = append(k.words, word)
	}
}

// learn finds the numbers, names and keys of a message.
func (k *mask) learn(m *raw) {
	k.learnKeys(string(m.body))
	if _, uri, _, ok := m.requestLine(); ok {
		k.learnURI(uri)
	}
	for _, h := range m.headers {
		if k.learned[h] {
			continue
		}
		k.learned[h] = true
		k.learnKeys(h.value)
		if kept[h.name] != asAddress {
			continue
		}
		for _, a := range addresses(h.value) {
			k.learnURI(a.uri)
			k.note(a.display)
			k.note(unescape(a.display))
		}
	}
}

// learnKeys finds the keys of SRTP, wherever they stand (RFC 4568 §9.2).
func (k *mask) learnKeys(text string) {
	const inline = "inline"
	for at := strings.IndexByte(text, ':'); at >= 0; at = strings.IndexByte(text, ':') {
		before := text[:at]
		text = text[at+1:]
		if len(before) < len(inline) || !strings.EqualFold(before[len(before)-len(inline):], inline) {
			continue
		}
		end := strings.IndexAny(text, "|; \t\r\n,\"")
		if end < 0 {
			end = len(text)
		}
		k.add(lower(text[:end]))
	}
}

func (k *mask) learnURI(uri string) {
	_, user, _ := uriParts(uri)
	if nobodys(user) {
		return
	}
	k.note(user)
	if _, rest, ok := strings.Cut(uri, ":"); ok { // also as it stands, with its escapes and a password
		raw, _, _ := strings.Cut(rest, "@")
		k.note(raw)
	}
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, user)
	if len(digits) <= shortNumber {
		return
	}
	k.note(digits)
	for _, prefix := range []string{"0039", "39", "00"} { // the same number as others write it
		if rest, ok := strings.CutPrefix(digits, prefix); ok {
			k.note(rest)
		}
	}
}

// nobodys are user parts that are nobody's.
func nobodys(user string) bool {
	switch strings.ToLower(user) {
	case "", "pronto", "anonymous", "unavailable", "restricted", "unknown":
		return true
	}
	return len(user) <= shortNumber && isDigits(user)
}

// scrub takes the numbers and names of the call out of a text. A key may be made of
// what hides: the search goes forward only.
func (k *mask) scrub(s string) string {
	low := lower(s)
	for _, w := range k.words {
		for from := 0; ; {
			i := strings.Index(low[from:], w)
			if i < 0 {
				break
			}
			i += from
			from = i + len(w)
			hidden := strings.Repeat(star, len(w))
			s, low = s[:i]+hidden+s[from:], low[:i]+hidden+low[from:]
		}
	}
	return s
}

// lower is strings.ToLower for ASCII: no octet moves.
func lower(s string) string {
	upper := 0
	for upper < len(s) && (s[upper] < 'A' || s[upper] > 'Z') {
		upper++
	}
	if upper == len(s) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// message writes what is kept of a message.
func (k *mask) message(m *raw) Signal {
	out := Signal{First: k.first(m), Headers: make([]string, 0, min(len(m.headers), maskHeaders)), Body: []string{}}
	for _, h := range m.headers {
		how, ok := kept[h.name]
		if !ok || len(out.Headers) >= maskHeaders {
			continue
		}
		line, ok := k.written[h]
		if !ok {
			line = names[h.name] + ": " + k.scrub(limited(valueOf(how, h.value)))
			k.written[h] = line
		}
		out.Headers = append(out.Headers, line)
	}
	for _, line := range bodyLines(m) {
		hidden, ok := k.lines[line]
		if !ok {
			hidden = k.scrub(limited(line))
			k.lines[line] = hidden
		}
		out.Body = append(out.Body, hidden)
	}
	return out
}

func limited(s string) string {
	if len(s) > maskValue {
		return s[:maskValue] + "..."
	}
	return s
}

// first is the first line. A caller by the name of a method takes none away.
func (k *mask) first(m *raw) string {
	method, rest, _ := strings.Cut(limited(firstLine(m)), " ")
	if method != "SIP/2.0" && !slices.Contains(methods, method) {
		method = k.scrub(method)
	}
	return method + " " + k.scrub(rest)
}

// firstLine is the request line, or the status with its phrase.
func firstLine(m *raw) string {
	if method, uri, status, ok := m.requestLine(); ok {
		if status != 0 {
			uri = ""
		}
		return opaque(method) + " " + maskURI(uri) + " SIP/2.0"
	}
	f := strings.SplitN(m.first, " ", 3)
	if len(f) < 2 || len(f[1]) != 3 || !isDigits(f[1]) {
		return star
	}
	if len(f) < 3 {
		return "SIP/2.0 " + f[1]
	}
	return "SIP/2.0 " + f[1] + " " + sentence(f[2])
}

// The ways a value is written.
type form uint8

const (
	asAddress  form = iota + 1 // addresses with names
	asVia                      // hosts and parameters
	asWords                    // tokens and small numbers
	asOpaque                   // a text that only its maker understands, a number of a message
	asSentence                 // said to people
	asProduct                  // a program and its version
	asScheme                   // the first word of a challenge or of what answers it
)

// kept are the headers that are kept, and how.
var kept = map[string]form{
	"via": asVia, "from": asAddress, "to": asAddress, "contact": asAddress, "route": asAddress, "record-route": asAddress, "path": asAddress,
	"p-asserted-identity": asAddress, "p-preferred-identity": asAddress, "remote-party-id": asAddress, "diversion": asAddress,
	"history-info": asAddress, "refer-to": asAddress, "referred-by": asAddress, "reply-to": asAddress,
	"call-id": asOpaque, "replaces": asOpaque, "cseq": asOpaque, "rseq": asOpaque, "rack": asOpaque,
	"max-forwards": asWords, "allow": asWords, "supported": asWords, "require": asWords, "unsupported": asWords,
	"session-expires": asWords, "min-se": asWords, "retry-after": asWords, "privacy": asWords,
	"content-type": asWords, "content-length": asWords, "expires": asWords, "event": asWords, "subscription-state": asWords,
	"reason": asSentence, "warning": asSentence,
	"user-agent": asProduct, "server": asProduct,
	"www-authenticate": asScheme, "proxy-authenticate": asScheme, "authorization": asScheme, "proxy-authorization": asScheme,
}

// names are those of the kept headers as people write them.
var names = func() map[string]string {
	all := make(map[string]string, len(kept))
	for name := range kept {
		all[name] = written(name)
	}
	return all
}()

// written is a header's name as people write it.
func written(name string) string {
	switch name {
	case "call-id":
		return "Call-ID"
	case "cseq":
		return "CSeq"
	case "rseq":
		return "RSeq"
	case "rack":
		return "RAck"
	case "min-se":
		return "Min-SE"
	case "www-authenticate":
		return "WWW-Authenticate"
	case "remote-party-id":
		return "Remote-Party-ID"
	}
	parts := strings.Split(name, "-")
	for i, p := range parts {
		parts[i] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "-")
}

func valueOf(how form, value string) string {
	switch how {
	case asAddress:
		var list []string
		for _, a := range addresses(value) {
			one := ""
			if a.display != "" {
				one = `"` + star + `" `
			}
			list = append(list, one+"<"+maskURI(a.uri)+">"+maskParams(a.params))
		}
		return strings.Join(list, ", ")
	case asVia:
		var list []string
		for one := range strings.SplitSeq(value, ",") {
			head, params, _ := strings.Cut(one, ";")
			list = append(list, digitsHidden(opaque(strings.Join(strings.Fields(head), " ")))+maskParams(params))
		}
		return strings.Join(list, ", ")
	case asWords:
		return words(value)
	case asOpaque:
		return opaque(value)
	case asSentence:
		return sentence(value)
	case asProduct:
		return product(value)
	}
	scheme, _, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !slices.Contains([]string{"digest", "basic", "bearer"}, lower(scheme)) {
		return star
	}
	return scheme + " " + star // never a name, a nonce or an answer
}

// maskURI writes an address with its user part masked; "*" for what is none.
func maskURI(uri string) string {
	scheme, rest, ok := strings.Cut(uri, ":")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "sip" && scheme != "sips" && scheme != "tel" {
		return star
	}
	rest, _, headers := strings.Cut(rest, "?")
	at := strings.LastIndexByte(rest, '@')
	_, params, _ := strings.Cut(rest[at+1:], ";")
	_, user, host := uriParts(uri)
	b := scheme + ":" + maskUser(user)
	if scheme != "tel" {
		if at >= 0 {
			b += "@"
		} else {
			b = scheme + ":"
		}
		hostPort, _, _ := strings.Cut(rest[at+1:], ";")
		b += maskHost(host, hostPort)
	}
	b += maskParams(params)
	if headers {
		b += "?" + star
	}
	return b
}

// maskHost writes a host and its port.
func maskHost(host, hostPort string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Is6():
		host = "[" + ip.WithZone("").String() + "]"
	case err != nil:
		host = digitsHidden(opaque(host))
	}
	if i := strings.LastIndexByte(hostPort, ':'); i > strings.LastIndexByte(hostPort, ']') {
		if n, err := strconv.ParseUint(hostPort[i+1:], 10, 16); err == nil {
			host += ":" + strconv.FormatUint(n, 10)
		}
	}
	return host
}

// maskUser keeps of a number two digits at its end and a few at its beginning,
// never half of it; of a name nothing.
func maskUser(user string) string {
	if nobodys(user) {
		return user
	}
	plus := ""
	digits := user
	if strings.HasPrefix(user, "+") {
		plus, digits = "+", user[1:]
	}
	if !isDigits(digits) {
		return star
	}
	const tail = 2
	front := min(max((len(digits)-1)/2-tail, 0), 4)
	if len(digits) <= shortNumber {
		front = 0
	}
	return plus + digits[:front] + strings.Repeat(star, len(digits)-front-tail) + digits[len(digits)-tail:]
}

// keptParams are those of addresses, Via and URIs whose values are kept.
var keptParams = []string{"tag", "branch", "received", "rport", "transport", "lr", "expires", "q", "reason", "cause", "counter", "privacy", "screen", "party", "index", "user", "ob", "method", "ttl", "maddr", "alias", "early-only", "to-tag", "from-tag"}

// maskParams writes those of "a=1;b" that are known.
func maskParams(params string) string {
	var b strings.Builder
	for p := range strings.SplitSeq(params, ";") {
		name, value, has := strings.Cut(p, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !slices.Contains(keptParams, name) {
			continue
		}
		b.WriteString(";" + name)
		if has {
			value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
			b.WriteString("=" + opaque(value))
		}
	}
	return b.String()
}

// opaque keeps what a token, an address or a Call-ID is made of.
func opaque(s string) string { return opaques.only(s) }

// words keeps tokens and small numbers.
func words(s string) string { return digitsHidden(wordly.only(s)) }

// sentence keeps words that are said to people, without what looks like a number,
// an address or an escape.
func sentence(s string) string {
	var b strings.Builder
	for w := range strings.FieldsSeq(s) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		switch {
		case strings.ContainsAny(w, "@%"), strings.Contains(lower(w), "sip:"), strings.Contains(lower(w), "tel:"):
			b.WriteString(star)
		default:
			b.WriteString(strings.Map(func(r rune) rune {
				if r < ' ' || r > '~' {
					return '?'
				}
				return r
			}, w))
		}
	}
	return digitsHidden(b.String())
}

// product keeps the program and its version: what follows in brackets is often
// whose telephone it is.
func product(s string) string {
	var list []string
	for w := range strings.FieldsSeq(s) {
		if strings.ContainsAny(w, "(['\"") || len(list) == 3 {
			break
		}
		list = append(list, words(w))
	}
	return strings.Join(list, " ")
}

// digitsHidden hides what may be somebody's number: more than shortNumber digits
// in a row, or more than twice as many in rows that are joined as numbers are
// written. Addresses and versions stay.
func digitsHidden(s string) string {
	if !strings.ContainsAny(s, "0123456789") {
		return s
	}
	var b []byte // s, once something is hidden in it
	for i := 0; i < len(s); {
		if !isDigit(s[i]) {
			i++
			continue
		}
		if n := addressAt(s[i:]); n > 0 {
			i += n
			continue
		}
		end, digits, longest, row := i, 0, 0, 0
	number:
		for j := i; j < len(s); j++ {
			switch {
			case isDigit(s[j]) && addressAt(s[j:]) > 0:
				break number
			case isDigit(s[j]):
				digits, row, end = digits+1, row+1, j+1
				longest = max(longest, row)
			case strings.IndexByte(" .-/()", s[j]) >= 0 && j-end < 2:
				row = 0
			default:
				break number
			}
		}
		if longest > shortNumber || digits > 2*shortNumber {
			if b == nil {
				b = []byte(s)
			}
			for j := i; j < end; j++ {
				if isDigit(s[j]) {
					b[j] = star[0]
				}
			}
		}
		i = end
	}
	if b == nil {
		return s
	}
	return string(b)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// addressAt is the length of the IPv4 address that a text begins with; 0: none.
func addressAt(s string) int {
	n := 0
	for n < len(s) && (s[n] == '.' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	one := strings.TrimRight(s[:n], ".")
	if len(one) > len("255.255.255.255") || strings.Count(one, ".") != 3 { // said without what makes an error of it
		return 0
	}
	if a, err := netip.ParseAddr(one); err != nil || !a.Is4() {
		return 0
	}
	return len(one)
}

// bodyLines is what is kept of a description, or of what a transfer has come to.
func bodyLines(m *raw) []string {
	body := m.body
	kind := m.get("content-type")
	if len(body) == 0 {
		return nil
	}
	if strings.HasPrefix(mediaType(kind), "message/sipfrag") {
		first, _, _ := strings.Cut(string(body), "\r\n")
		return []string{firstLine(&raw{first: first})}
	}
	text := sessionBody(kind, body)
	if t := mediaType(kind); t != sdpType && t != "multipart/mixed" || len(text) == 0 { // keys that were pressed, a list of people
		return []string{fmt.Sprintf("(%d octets that are not kept)", len(body))}
	}
	var lines []string
	for line := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if len(lines) == maskLines {
			return append(lines, "...")
		}
		if l := sdpLine(line); l != "" {
			lines = append(lines, l)
		}
	}
	return lines
}

// ports is words in which a number may have the five digits of a port.
func ports(s string) string {
	list := strings.Fields(s)
	for i, w := range list {
		if !isDigits(w) || len(w) > 5 {
			list[i] = words(w)
		}
	}
	return strings.Join(list, " ")
}

// suite is the name of a crypto suite; a key that stands in its place is none.
func suite(s string) string {
	const longest = len("AES_CM_128_HMAC_SHA1_80") + 8
	if !strings.Contains(s, "AES_") && !strings.HasPrefix(s, "F8_") || len(s) > longest || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return star
	}
	return s
}

// keptAttributes are those of a description whose values are kept.
var keptAttributes = []string{"rtpmap", "fmtp", "ptime", "maxptime", "sendrecv", "sendonly", "recvonly", "inactive", "rtcp", "rtcp-mux", "setup", "mid", "group"}

// sdpLine is what is kept of one line; "": nothing.
func sdpLine(line string) string {
	name, value, _ := strings.Cut(line, "=")
	switch name {
	case "v", "t", "m", "b":
		return name + "=" + ports(value)
	case "c":
		f := strings.Fields(value)
		if len(f) != 3 {
			return "c=" + star
		}
		return "c=" + words(f[0]) + " " + words(f[1]) + " " + maskHost(f[2], "")
	case "o": // whose it is, is a name
		f := strings.Fields(value)
		if len(f) != 6 {
			return "o=" + star
		}
		return fmt.Sprintf("o=%s %s %s %s %s %s", star, opaque(f[1]), opaque(f[2]), words(f[3]), words(f[4]), maskHost(f[5], ""))
	case "s", "i", "e", "p", "k", "u":
		return name + "=" + star
	case "a":
		attribute, value, has := strings.Cut(value, ":")
		attribute = strings.TrimSpace(attribute)
		switch {
		case strings.EqualFold(attribute, "crypto"): // RFC 4568 §9.1: the tag and the suite; never the key
			f := strings.Fields(value)
			if len(f) < 2 {
				return "a=crypto:" + star
			}
			return "a=crypto:" + words(f[0]) + " " + suite(f[1]) + " " + star
		case slices.Contains(keptAttributes, lower(attribute)) && has:
			return "a=" + lower(attribute) + ":" + ports(value)
		case slices.Contains(keptAttributes, lower(attribute)):
			return "a=" + lower(attribute)
		case isToken(attribute) && len(attribute) <= 32:
			return "a=" + digitsHidden(attribute) + ":" + star
		}
		return "a=" + star
	}
	return ""
}
