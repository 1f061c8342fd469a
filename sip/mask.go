package sip

import (
	"bytes"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	maskWords   = 64  // numbers and names of one call; a bit for each (mask.begins)
	maskAtRest  = 128 // different lines of a call whose room is used again
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
	most := len(l.first) + len(l.last)
	t := Trace{Node: a.cfg.Node, Begun: l.begun, Ended: l.ended, Left: l.left, Ways: slices.Clone(l.ways), Messages: make([]Signal, 0, most)}
	k := masks.Get().(*mask)
	defer k.forget()
	for _, way := range l.ways {
		t.calls = append(t.calls, traceKey(way.CallID))
		k.way(way.CallID)
	}
	for _, list := range [][]seen{l.first, l.last} {
		for _, s := range list {
			if k.message(s) {
				t.Messages = append(t.Messages, Signal{At: s.at, Way: s.way, Out: s.out, Again: s.again, Cut: s.cut})
			}
		}
	}
	lines := k.scrubbed()
	for i := range t.Ways {
		t.Ways[i].CallID = lines[i]
	}
	for i, e := range k.ends {
		m := &t.Messages[i]
		m.First, m.Headers, m.Body = lines[e.first], lines[e.first+1:e.headers:e.headers], lines[e.headers:e.body:e.body]
	}
	return t
}

// mask is a call on its way to be kept. What is kept is written line by line into one
// text, and a line that stands in several messages once. The numbers, names and keys
// that are met meanwhile are looked for in all of it when it is complete.
type mask struct {
	words  []string    // numbers, names and keys, lower case
	begins [256]uint64 // which of the words begin with an octet

	text      []byte
	loose     []span          // what of the text the words are looked for in
	lines     []span          // of the text: those of all ways and messages, in order
	ends      []ends          // of the messages among the lines
	written   []writtenHeader // the headers that were met
	headers   map[string]int  // which of them it is, by how it stood
	described map[string]span // lines of descriptions, likewise
}

// masks are at rest: calls end one after the other, and need the same room.
var masks = sync.Pool{New: func() any { return &mask{headers: map[string]int{}, described: map[string]span{}} }}

// forget makes room for the next call. What a call of many messages took is not kept.
func (k *mask) forget() {
	if len(k.headers) > maskAtRest || len(k.described) > maskAtRest || cap(k.text) > ladderCall {
		return
	}
	clear(k.words)
	clear(k.written)
	clear(k.headers)
	clear(k.described)
	*k = mask{words: k.words[:0], text: k.text[:0], loose: k.loose[:0], lines: k.lines[:0], ends: k.ends[:0], written: k.written[:0], headers: k.headers, described: k.described}
	masks.Put(k)
}

// span is a part of the text; an empty one is not kept.
type span struct{ from, to int }

// ends are where in the lines a message has its first, and where its headers and its body end.
type ends struct{ first, headers, body int }

type writtenHeader struct {
	rawHeader
	span
}

// way writes the Call-ID of a way.
func (k *mask) way(callID string) {
	at := len(k.text)
	k.text = opaques.append(k.text, callID)
	k.loose = append(k.loose, span{at, len(k.text)})
	k.lines = append(k.lines, span{at, len(k.text)})
}

// message writes what is kept of a message; false: it cannot be read.
func (k *mask) message(s seen) bool {
	text := s.data
	if s.cut {
		text = wholeLines(text)
	}
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	if !ok {
		return false
	}
	first, headers, ok := startLine(head)
	if !ok {
		return false
	}
	k.learnKeys(body)
	e := ends{first: len(k.lines)}
	k.first(first)
	var kind *writtenHeader // the first that says so counts
	for line := ""; headers != ""; {
		line, headers = nextHeader(headers)
		h := k.header(line)
		if kind == nil && h.name == "content-type" {
			kind = h
		}
		if h.to > 0 && len(k.lines)-e.first <= maskHeaders {
			k.lines = append(k.lines, h.span)
		}
	}
	e.headers = len(k.lines)
	if body != "" {
		contentType := ""
		if kind != nil {
			contentType = kind.value
		}
		k.body(contentType, body)
	}
	e.body = len(k.lines)
	k.ends = append(k.ends, e)
	return true
}

// wholeLines is what was cut without its last line, which is not whole.
func wholeLines(text string) string {
	if i := strings.LastIndex(text, "\r\n"); i >= 0 {
		text = text[:i]
	}
	if !strings.Contains(text, "\r\n\r\n") {
		text += "\r\n\r\n"
	}
	return text
}

// first writes the first line. A caller by the name of a method takes none away.
func (k *mask) first(line string) {
	if _, uri, _, ok := (&raw{first: line}).requestLine(); ok {
		k.learnURI(uri)
	}
	at := len(k.text)
	k.text = limited(appendFirst(k.text, line), at)
	space := bytes.IndexByte(k.text[at:], ' ')
	if space < 0 {
		space = len(k.text) - at
		k.text = append(k.text, ' ')
	}
	space += at
	if method := string(k.text[at:space]); method != "SIP/2.0" && !slices.Contains(methods, method) {
		k.loose = append(k.loose, span{at, space})
	}
	k.loose = append(k.loose, span{space + 1, len(k.text)})
	k.lines = append(k.lines, span{at, len(k.text)})
}

// header writes a header, unless it was met before.
func (k *mask) header(line string) *writtenHeader {
	if i, ok := k.headers[line]; ok {
		return &k.written[i]
	}
	h := writtenHeader{rawHeader: readHeader(line)}
	k.learnKeys(h.value)
	if how, ok := kept[h.name]; ok {
		h.from = len(k.text)
		k.text = append(append(k.text, how.name...), ": "...)
		at := len(k.text)
		k.value(how.form, h.value)
		k.text = limited(k.text, at)
		h.to = len(k.text)
		k.loose = append(k.loose, span{at, h.to})
	}
	k.headers[line] = len(k.written)
	k.written = append(k.written, h)
	return &k.written[len(k.written)-1]
}

// limited shortens what was written from at on.
func limited(b []byte, at int) []byte {
	if len(b)-at > maskValue {
		return append(b[:at+maskValue], "..."...)
	}
	return b
}

// value writes the value of a header, and learns who stands in it.
func (k *mask) value(how form, value string) {
	switch how {
	case asAddress:
		at := len(k.text)
		for a := range eachAddress(value) {
			k.learnURI(a.uri)
			k.note(a.display)
			k.note(unescape(a.display))
			if len(k.text) > at {
				k.text = append(k.text, ", "...)
			}
			if a.display != "" {
				k.text = append(k.text, `"`+star+`" `...)
			}
			k.text = append(k.text, '<')
			k.text = append(appendURI(k.text, a.uri), '>')
			k.text = appendParams(k.text, a.params)
		}
	case asVia:
		k.text = appendVia(k.text, value)
	case asWords:
		k.text = appendWords(k.text, value)
	case asOpaque:
		k.text = opaques.append(k.text, value)
	case asSentence:
		k.text = appendSentence(k.text, value)
	case asProduct:
		k.text = appendProduct(k.text, value)
	case asScheme: // never a name, a nonce or an answer
		scheme, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch lower(scheme) {
		case "digest", "basic", "bearer":
			k.text = append(append(k.text, scheme...), ' ')
		}
		k.text = append(k.text, star...)
	}
}

// body writes what is kept of a description, or of what a transfer has come to.
func (k *mask) body(contentType, body string) {
	kind := mediaType(contentType)
	if strings.HasPrefix(kind, "message/sipfrag") {
		at := len(k.text)
		first, _, _ := strings.Cut(body, "\r\n")
		k.text = appendFirst(k.text, first)
		k.lines = append(k.lines, k.bodyLine(at))
		return
	}
	text := body
	if kind == multipart {
		text = string(sessionBody(contentType, []byte(body)))
	}
	if kind != sdpType && kind != multipart || text == "" { // keys that were pressed, a list of people
		at := len(k.text)
		k.text = append(strconv.AppendInt(append(k.text, '('), int64(len(body)), 10), " octets that are not kept)"...)
		k.lines = append(k.lines, k.bodyLine(at))
		return
	}
	first := len(k.lines)
	for text != "" {
		line := text
		if end := strings.IndexAny(text, "\r\n"); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = ""
		}
		if line == "" {
			continue
		}
		if len(k.lines)-first == maskLines {
			at := len(k.text)
			k.text = append(k.text, "..."...)
			k.lines = append(k.lines, span{at, len(k.text)})
			return
		}
		if s := k.sdpLine(line); s.to > 0 {
			k.lines = append(k.lines, s)
		}
	}
}

// sdpLine writes a line of a description, unless it was met before.
func (k *mask) sdpLine(line string) span {
	if s, ok := k.described[line]; ok {
		return s
	}
	var s span
	at := len(k.text)
	if k.text = appendSDP(k.text, line); len(k.text) > at {
		s = k.bodyLine(at)
	}
	k.described[line] = s
	return s
}

// bodyLine is what was written from at on.
func (k *mask) bodyLine(at int) span {
	k.text = limited(k.text, at)
	s := span{at, len(k.text)}
	k.loose = append(k.loose, s)
	return s
}

// octets are a set of characters, of which those beyond ASCII are none.
type octets [256]bool

func octetsOf(s string) (set octets) {
	for _, c := range []byte(s) {
		set[c] = true
	}
	return set
}

const lettersAndDigits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

var (
	betweenWords   = octetsOf(" \t,;.\"'()_-+")
	betweenNumbers = octetsOf(" .-/()")
	opaques        = octetsOf(lettersAndDigits + "-.!%*_+`'~@:[]=; /<>") // of a token, an address, a Call-ID
	wordly         = octetsOf(lettersAndDigits + "-._+/=;, ")
	visible        = octetsOf(lettersAndDigits + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
)

// append writes a text with a question mark for each character that is not in the set.
func (o *octets) append(b []byte, s string) []byte {
	n := 0
	for n < len(s) && o[s[n]] {
		n++
	}
	b = append(b, s[:n]...)
	for _, r := range s[n:] {
		if r >= 0x80 || !o[r] {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return b
}

// note remembers what must appear nowhere, and the words of it.
func (k *mask) note(text string) {
	text = lower(text)
	for w := range strings.SplitSeq(text, star) { // what hides must not be hidden
		k.add(w)
		for w := range strings.FieldsFuncSeq(w, func(r rune) bool { return r < 0x80 && betweenWords[r] }) {
			k.add(w)
		}
	}
}

func (k *mask) add(word string) {
	word = strings.TrimSpace(word)
	if len(word) < secretLeast || len(k.words) == maskWords || slices.Contains(k.words, word) {
		return
	}
	c, bit := word[0], uint64(1)<<len(k.words)
	k.begins[c] |= bit
	if c >= 'a' && c <= 'z' {
		k.begins[c-'a'+'A'] |= bit
	}
	k.words = append(k.words, word)
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
		if raw, _, _ := strings.Cut(rest, "@"); raw != user {
			k.note(raw)
		}
	}
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.TrimPrefix(user, "+"))
	if len(digits) <= shortNumber {
		return
	}
	k.add(digits)
	for _, prefix := range []string{"0039", "39", "00"} { // the same number as others write it
		if rest, ok := strings.CutPrefix(digits, prefix); ok {
			k.add(rest)
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

// scrubbed gives the lines without the numbers, names and keys of the call.
func (k *mask) scrubbed() []string {
	for _, s := range k.loose {
		k.scrub(k.text[s.from:s.to])
	}
	text := string(k.text)
	lines := make([]string, len(k.lines))
	for i, s := range k.lines {
		lines[i] = text[s.from:s.to]
	}
	return lines
}

// scrub hides the words in a part of the text. One may be made of what hides: the
// search for each goes forward only.
func (k *mask) scrub(b []byte) {
	if !k.has(b) { // as nearly always: what could hold one is masked already
		return
	}
	for _, w := range k.words {
		for i := 0; i < len(b); {
			if !beginsWith(b[i:], w) {
				i++
				continue
			}
			for range w {
				b[i] = star[0]
				i++
			}
		}
	}
}

// has tells whether any of the words is in a text.
func (k *mask) has(b []byte) bool {
	for i, c := range b {
		for set := k.begins[c]; set != 0; set &= set - 1 {
			if beginsWith(b[i:], k.words[bits.TrailingZeros64(set)]) {
				return true
			}
		}
	}
	return false
}

// beginsWith compares with a word in lower case.
func beginsWith(b []byte, word string) bool {
	if len(b) < len(word) {
		return false
	}
	for i := range len(word) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
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

// appendFirst writes the request line, or the status with its phrase.
func appendFirst(b []byte, line string) []byte {
	if method, uri, status, ok := (&raw{first: line}).requestLine(); ok {
		if status != 0 {
			uri = ""
		}
		b = append(opaques.append(b, method), ' ')
		return append(appendURI(b, uri), " SIP/2.0"...)
	}
	_, rest, _ := strings.Cut(line, " ")
	code, phrase, more := strings.Cut(rest, " ")
	if len(code) != 3 || !isDigits(code) {
		return append(b, star...)
	}
	b = append(append(b, "SIP/2.0 "...), code...)
	if more {
		b = appendSentence(append(b, ' '), phrase)
	}
	return b
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

// keptForms are the headers that are kept, and how.
var keptForms = map[string]form{
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

// keptHeader is one of them, with its name as people write it.
type keptHeader struct {
	form
	name string
}

var kept = func() map[string]keptHeader {
	all := make(map[string]keptHeader, len(keptForms))
	for name, how := range keptForms {
		all[name] = keptHeader{how, written(name)}
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

// appendVia writes hosts and parameters.
func appendVia(b []byte, value string) []byte {
	more := false
	for one := range strings.SplitSeq(value, ",") {
		if more {
			b = append(b, ", "...)
		}
		more = true
		head, params, _ := strings.Cut(one, ";")
		at := len(b)
		for w := range strings.FieldsSeq(head) {
			b = opaques.append(spaced(b, at), w)
		}
		hideDigits(b[at:])
		b = appendParams(b, params)
	}
	return b
}

// spaced writes what stands between two words, unless this is the first from at on.
func spaced(b []byte, at int) []byte {
	if len(b) > at {
		return append(b, ' ')
	}
	return b
}

// appendURI writes an address with its user part masked; "*" for what is none.
func appendURI(b []byte, uri string) []byte {
	scheme, rest, ok := strings.Cut(uri, ":")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "sip" && scheme != "sips" && scheme != "tel" {
		return append(b, star...)
	}
	rest, _, headers := strings.Cut(rest, "?")
	at := strings.LastIndexByte(rest, '@')
	hostPort, params, _ := strings.Cut(rest[at+1:], ";")
	_, user, host := uriParts(uri)
	b = append(append(b, scheme...), ':')
	if scheme == "tel" || at >= 0 {
		b = appendUser(b, user)
	}
	if scheme != "tel" {
		if at >= 0 {
			b = append(b, '@')
		}
		b = appendHost(b, host, hostPort)
	}
	b = appendParams(b, params)
	if headers {
		b = append(b, "?"+star...)
	}
	return b
}

// appendHost writes a host and its port.
func appendHost(b []byte, host, hostPort string) []byte {
	at := len(b)
	b = opaques.append(b, host)
	if strings.IndexByte(host, ':') >= 0 {
		if ip, err := netip.ParseAddr(host); err == nil {
			b = append(ip.WithZone("").AppendTo(append(b[:at], '[')), ']')
			at = len(b)
		}
	}
	hideDigits(b[at:])
	if i := strings.LastIndexByte(hostPort, ':'); i > strings.LastIndexByte(hostPort, ']') {
		if n, err := strconv.ParseUint(hostPort[i+1:], 10, 16); err == nil {
			b = strconv.AppendUint(append(b, ':'), n, 10)
		}
	}
	return b
}

// appendUser keeps of a number two digits at its end and a few at its beginning,
// never half of it; of a name nothing.
func appendUser(b []byte, user string) []byte {
	if nobodys(user) {
		return append(b, user...)
	}
	const tail = 2
	digits := strings.TrimPrefix(user, "+")
	if len(digits) < tail || !isDigits(digits) {
		return append(b, star...)
	}
	front := min(max((len(digits)-1)/2-tail, 0), 4)
	if len(digits) <= shortNumber {
		front = 0
	}
	if len(digits) < len(user) {
		b = append(b, '+')
	}
	b = append(b, digits[:front]...)
	for range len(digits) - front - tail {
		b = append(b, star...)
	}
	return append(b, digits[len(digits)-tail:]...)
}

// appendParams writes those of "a=1;b" that are known.
func appendParams(b []byte, params string) []byte {
	for p := range strings.SplitSeq(params, ";") {
		name, value, has := strings.Cut(p, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		switch name {
		case "tag", "branch", "received", "rport", "transport", "lr", "expires", "q", "reason", "cause", "counter", "privacy", "screen", "party",
			"index", "user", "ob", "method", "ttl", "maddr", "alias", "early-only", "to-tag", "from-tag":
		default:
			continue
		}
		b = append(append(b, ';'), name...)
		if has {
			value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
			b = opaques.append(append(b, '='), value)
		}
	}
	return b
}

// appendWords keeps tokens and small numbers.
func appendWords(b []byte, s string) []byte {
	at := len(b)
	b = wordly.append(b, s)
	hideDigits(b[at:])
	return b
}

// appendSentence keeps words that are said to people, without what looks like a
// number, an address or an escape.
func appendSentence(b []byte, s string) []byte {
	at := len(b)
	for w := range strings.FieldsSeq(s) {
		b = spaced(b, at)
		if low := lower(w); strings.ContainsAny(low, "@%") || strings.Contains(low, "sip:") || strings.Contains(low, "tel:") {
			b = append(b, star...)
			continue
		}
		b = visible.append(b, w)
	}
	hideDigits(b[at:])
	return b
}

// appendProduct keeps the program and its version: what follows in brackets is often
// whose telephone it is.
func appendProduct(b []byte, s string) []byte {
	at, n := len(b), 0
	for w := range strings.FieldsSeq(s) {
		if strings.ContainsAny(w, "(['\"") || n == 3 {
			break
		}
		b = appendWords(spaced(b, at), w)
		n++
	}
	return b
}

// hideDigits hides what may be somebody's number: more than shortNumber digits in a
// row, or more than twice as many in rows that are joined as numbers are written.
// Addresses and versions stay.
func hideDigits(b []byte) {
	for i := 0; i < len(b); {
		if !isDigit(b[i]) {
			i++
			continue
		}
		if n := addressAt(b[i:]); n > 0 {
			i += n
			continue
		}
		end, digits, longest, row := i, 0, 0, 0
	number:
		for j := i; j < len(b); j++ {
			switch {
			case isDigit(b[j]) && addressAt(b[j:]) > 0:
				break number
			case isDigit(b[j]):
				digits, row, end = digits+1, row+1, j+1
				longest = max(longest, row)
			case betweenNumbers[b[j]] && j-end < 2:
				row = 0
			default:
				break number
			}
		}
		if longest > shortNumber || digits > 2*shortNumber {
			for j := i; j < end; j++ {
				if isDigit(b[j]) {
					b[j] = star[0]
				}
			}
		}
		i = end
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// addressAt is the length of the IPv4 address that a text begins with; 0: none.
func addressAt(b []byte) int {
	n := 0
	for part := range 4 {
		if part > 0 {
			if n == len(b) || b[n] != '.' {
				return 0
			}
			n++
		}
		value, from := 0, n
		for n < len(b) && isDigit(b[n]) && value < 256 {
			value = 10*value + int(b[n]-'0')
			n++
		}
		if n == from || value > 255 || b[from] == '0' && n > from+1 {
			return 0
		}
	}
	after := n
	for after < len(b) && b[after] == '.' { // the end of a sentence
		after++
	}
	if after < len(b) && isDigit(b[after]) {
		return 0
	}
	return n
}

// appendPorts is appendWords in which a number may have the five digits of a port.
func appendPorts(b []byte, s string) []byte {
	at := len(b)
	for w := range strings.FieldsSeq(s) {
		b = spaced(b, at)
		if isDigits(w) && len(w) <= 5 {
			b = append(b, w...)
		} else {
			b = appendWords(b, w)
		}
	}
	return b
}

// suite is the name of a crypto suite; a key that stands in its place is none.
func suite(s string) string {
	const longest = len("AES_CM_128_HMAC_SHA1_80") + 8
	if !strings.Contains(s, "AES_") && !strings.HasPrefix(s, "F8_") || len(s) > longest || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return star
	}
	return s
}

// appendSDP writes what is kept of a line of a description: nothing of most.
func appendSDP(b []byte, line string) []byte {
	name, value, _ := strings.Cut(line, "=")
	if len(name) != 1 {
		return b
	}
	switch name[0] {
	case 'v', 't', 'm', 'b':
		return appendPorts(append(b, name[0], '='), value)
	case 'c':
		var f [3]string
		b = append(b, "c="...)
		if fields(value, f[:]) != len(f) {
			return append(b, star...)
		}
		b = append(appendWords(b, f[0]), ' ')
		b = append(appendWords(b, f[1]), ' ')
		return appendHost(b, f[2], "")
	case 'o': // whose it is, is a name
		var f [6]string
		b = append(b, "o="+star...)
		if fields(value, f[:]) != len(f) {
			return b
		}
		b = opaques.append(append(b, ' '), f[1])
		b = opaques.append(append(b, ' '), f[2])
		b = appendWords(append(b, ' '), f[3])
		b = appendWords(append(b, ' '), f[4])
		return appendHost(append(b, ' '), f[5], "")
	case 's', 'i', 'e', 'p', 'k', 'u':
		return append(append(b, name[0], '='), star...)
	case 'a':
		return appendAttribute(append(b, "a="...), value)
	}
	return b
}

// appendAttribute writes an attribute of a description; the values of most are not kept.
func appendAttribute(b []byte, attribute string) []byte {
	name, value, has := strings.Cut(attribute, ":")
	name = strings.TrimSpace(name)
	switch low := lower(name); low {
	case "crypto": // RFC 4568 §9.1: the tag and the suite; never the key
		var f [2]string
		b = append(b, "crypto:"...)
		if fields(value, f[:]) < len(f) {
			return append(b, star...)
		}
		b = append(appendWords(b, f[0]), ' ')
		return append(append(append(b, suite(f[1])...), ' '), star...)
	case "rtpmap", "fmtp", "ptime", "maxptime", "sendrecv", "sendonly", "recvonly", "inactive", "rtcp", "rtcp-mux", "setup", "mid", "group":
		b = append(b, low...)
		if has {
			b = appendPorts(append(b, ':'), value)
		}
		return b
	}
	if !isToken(name) || len(name) > 32 {
		return append(b, star...)
	}
	at := len(b)
	b = append(b, name...)
	hideDigits(b[at:])
	return append(b, ":"+star...)
}
