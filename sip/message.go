package sip

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Limits of one message.
const (
	maxMessage   = 60 << 10 // octets; what fits a datagram and the parser's buffer
	maxHead      = 16 << 10 // octets of a longer one, in which its headers must end: it gets 513
	maxHeaders   = 256      // lines; a call through 34 proxies has some 60
	maxAddresses = 32       // of one header; more is nonsense
	maxNumber    = 1<<31 - 1
)

// raw is a message split into lines, as it stood on the wire: what the parser
// hides (case, duplicates, order) is what must be looked at before it parses.
type raw struct {
	first   string
	headers []rawHeader
	body    []byte
}

type rawHeader struct {
	name  string // lower case, compact forms written out
	value string // folded lines joined
}

// compact are the short forms of header names (RFC 3261 §7.3.3 and the
// registry); sipgo knows only some of them.
var compact = map[string]string{
	"a": "accept-contact", "b": "referred-by", "c": "content-type", "d": "request-disposition",
	"e": "content-encoding", "f": "from", "i": "call-id", "j": "reject-contact", "k": "supported",
	"l": "content-length", "m": "contact", "o": "event", "r": "refer-to", "s": "subject", "t": "to",
	"u": "allow-events", "v": "via", "x": "session-expires", "y": "identity",
}

// scan splits a message. It fails only on what is no SIP at all: no header
// line, no empty line, or beyond the limits.
func scan(data []byte) (*raw, bool) {
	head, body, ok := bytes.Cut(data, []byte("\r\n\r\n"))
	if !ok || len(data) > maxMessage {
		return nil, false
	}
	first, rest, ok := startLine(string(head))
	if !ok {
		return nil, false
	}
	m := &raw{first: first, body: body, headers: make([]rawHeader, 0, min(bytes.Count(head, []byte("\n")), maxHeaders))}
	for line := ""; rest != ""; {
		line, rest = nextHeader(rest)
		m.headers = append(m.headers, readHeader(line))
	}
	return m, m.first != "" && len(m.headers) > 0
}

// startLine takes the first line off what stands before the body.
func startLine(head string) (first, headers string, ok bool) {
	lines := strings.Count(head, "\n")
	if strings.Count(head, "\r\n") != lines || strings.Count(head, "\r") != lines {
		return "", "", false // half a line end: who reads it otherwise reads other headers
	}
	first, headers, _ = strings.Cut(head, "\r\n")
	if isFolded(headers) { // of no header
		_, headers = nextHeader(headers)
	}
	if lines > maxHeaders && headersIn(headers) > maxHeaders {
		return "", "", false
	}
	return first, headers, true
}

func headersIn(s string) (n int) {
	for ; s != ""; n++ {
		_, s = nextHeader(s)
	}
	return n
}

// nextHeader takes a header off the front, with the lines that it is folded over.
func nextHeader(s string) (line, rest string) {
	for from := 0; ; {
		end := strings.IndexByte(s[from:], '\r')
		if end < 0 {
			return s, ""
		}
		end += from
		if from = end + len("\r\n"); !isFolded(s[from:]) {
			return s[:end], s[from:]
		}
	}
}

// isFolded tells a line that belongs to the one before (RFC 3261 §7.3.1).
func isFolded(line string) bool { return line != "" && (line[0] == ' ' || line[0] == '\t') }

// readHeader reads a header.
func readHeader(line string) rawHeader {
	line, folded, more := strings.Cut(line, "\r\n")
	name, value, _ := strings.Cut(line, ":")
	for more {
		line, folded, more = strings.Cut(folded, "\r\n")
		value = strings.TrimRight(value, " \t") + " " + strings.TrimLeft(line, " \t")
	}
	return rawHeader{headerName(name), strings.TrimSpace(value)}
}

// headerName is the name of a header in lower case and in full.
func headerName(s string) string {
	if name, ok := usual[s]; ok {
		return name
	}
	name := strings.ToLower(strings.TrimSpace(s))
	if long, ok := compact[name]; ok {
		return long
	}
	return name
}

// usual are the names that stand in every message, as nearly everybody writes them,
// so that none need be made for each.
var usual = func() map[string]string {
	all := map[string]string{}
	for name := range kept {
		all[written(name)] = name
	}
	return all
}()

// get gives the first value of a header, "" when it is not there.
func (m *raw) get(name string) string {
	for _, h := range m.headers {
		if h.name == name {
			return h.value
		}
	}
	return ""
}

// count tells how often a header is there, be it empty.
func (m *raw) count(name string) (n int) {
	for _, h := range m.headers {
		if h.name == name {
			n++
		}
	}
	return n
}

// list gives the comma-separated tokens of all headers of a name, lower case.
func (m *raw) list(name string) (tokens []string) {
	for _, h := range m.headers {
		if h.name != name {
			continue
		}
		for t := range strings.SplitSeq(h.value, ",") {
			if t = strings.ToLower(strings.TrimSpace(t)); t != "" {
				tokens = append(tokens, t)
			}
		}
	}
	return tokens
}

// requestLine splits "INVITE sip:800123456@example.it SIP/2.0". ok is false for
// what is no request; an error status (400, 505) for one that is bad.
func (m *raw) requestLine() (method, uri string, status int, ok bool) {
	if strings.HasPrefix(m.first, "SIP/") {
		return "", "", 0, false
	}
	at := strings.LastIndex(m.first, " SIP/")
	if at < 0 {
		return "", "", 0, false
	}
	version := strings.TrimRight(m.first[at+1:], " ")
	method, rest, _ := strings.Cut(m.first, " ")
	uri, last, _ := strings.Cut(rest, " ")
	switch {
	case !isToken(method):
		return "", "", 0, false
	case version != "SIP/2.0" && isVersion(version):
		return method, "", sip.StatusVersionNotSupported, true
	case last != "SIP/2.0" || uri == "":
		return method, "", sip.StatusBadRequest, true // RFC 3261 §7.1: exactly two spaces
	}
	return method, uri, 0, true
}

// isVersion matches SIP/7.0.
func isVersion(s string) bool {
	major, minor, ok := strings.Cut(strings.TrimPrefix(s, "SIP/"), ".")
	return ok && isDigits(major) && isDigits(minor)
}

// isToken is RFC 3261 §25.1's token.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-.!%*_+`'~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// cseq splits "1 INVITE".
func (m *raw) cseq() (number uint32, method string, ok bool) {
	var f [2]string
	if fields(m.get("cseq"), f[:]) != len(f) {
		return 0, "", false
	}
	n, err := strconv.ParseUint(f[0], 10, 32)
	return uint32(n), f[1], err == nil && n <= maxNumber // RFC 3261 §8.1.1.5
}

// fields splits a text as strings.Fields does, and tells how many there are; those
// that have no room are only counted.
func fields(s string, into []string) (n int) {
	for w := range strings.FieldsSeq(s) {
		if n < len(into) {
			into[n] = w
		}
		n++
	}
	return n
}

// nameAddr is one address of a From, Contact, P-Asserted-Identity, Diversion…
type nameAddr struct {
	display string
	uri     string
	params  string // what follows, without the first semicolon
}

// addresses reads a comma-separated list of addresses. It never fails: what is
// no address yields an empty uri, which nobody accepts.
func addresses(value string) []nameAddr { return slices.Collect(eachAddress(value)) }

// eachAddress is addresses without a list.
func eachAddress(value string) iter.Seq[nameAddr] {
	return func(yield func(nameAddr) bool) {
		rest := value
		for n := 0; rest != "" && n < maxAddresses; n++ {
			var a nameAddr
			if a, rest = nextAddress(rest); !yield(a) {
				return
			}
		}
	}
}

// nextAddress takes one address off the front.
func nextAddress(s string) (a nameAddr, rest string) {
	quoted, bracket := false, false
	open, shut, end := -1, -1, len(s)
scan:
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !bracket:
			quoted = !quoted
		case quoted:
		case c == '<' && open < 0:
			open, bracket = i, true
		case c == '>' && bracket:
			shut, bracket = i, false
		case c == ',' && !bracket:
			end = i
			break scan
		}
	}
	one := s[:end]
	if end < len(s) {
		rest = s[end+1:]
	}
	if open >= 0 && shut > open {
		a.display = unquote(strings.TrimSpace(one[:open]))
		a.uri = strings.TrimSpace(one[open+1 : shut])
		_, a.params, _ = strings.Cut(one[shut+1:], ";")
		return a, rest
	}
	// Without brackets everything after ; belongs to the header (RFC 3261 §20.10).
	a.uri, a.params, _ = strings.Cut(one, ";")
	a.uri = strings.TrimSpace(a.uri)
	return a, rest
}

// unquote takes the quotes and backslashes off a display name.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	if strings.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1]
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// quote makes a display name fit to stand in a header.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r < ' ' || r == 0x7f:
			b.WriteByte(' ') // a line break in a name must not become a header
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// param finds a parameter in "a;tag=x;lr"; names compare without case.
func param(params, name string) (value string, ok bool) {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.Trim(strings.TrimSpace(v), `"`), true
		}
	}
	return "", false
}

// tag is the tag of a From or To value.
func tag(value string) string {
	a, _ := nextAddress(value)
	t, _ := param(a.params, "tag")
	return t
}

// uriParts splits an address into what we ask of it. The user part comes
// unescaped: %75se%72 is user (RFC 3261 §19.1.4).
func uriParts(uri string) (scheme, user, host string) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return "", "", ""
	}
	scheme = strings.ToLower(strings.TrimSpace(scheme))
	rest, _, _ = strings.Cut(rest, "?")
	if scheme == "tel" { // RFC 3966: tel:+390551234567;phone-context=…
		user, _, _ = strings.Cut(rest, ";")
		return scheme, unescape(user), ""
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, host = rest[:at], rest[at+1:]
		user, _, _ = strings.Cut(user, ":") // a password has no business here
	} else {
		host = rest
	}
	host, _, _ = strings.Cut(host, ";")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return scheme, unescape(user), strings.ToLower(strings.Trim(host, "[]"))
}

// portKnown says whether a URI's port is one, if it names one (RFC 3261 §25.1, and UDP's).
func portKnown(uri string) bool {
	_, rest, _ := strings.Cut(uri, ":")
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest[strings.LastIndexByte(rest, '@')+1:], ";")
	i := strings.LastIndexByte(rest, ':')
	if i <= strings.LastIndexByte(rest, ']') {
		return true
	}
	n, err := strconv.ParseUint(rest[i+1:], 10, 16)
	return err == nil && n > 0
}

// unescape resolves %XX; what is no escape stays as it is.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// viaTop splits the topmost Via: branch, where answers go, and whether the
// sender wants them at the port it sent from (RFC 3581).
func viaTop(value string) (branch, sentBy string, port int, rport bool) {
	one := value
	quoted := false
	for i := 0; i < len(value); i++ { // the first of several in one line
		if value[i] == '"' {
			quoted = !quoted
		}
		if value[i] == ',' && !quoted {
			one = value[:i]
			break
		}
	}
	head, params, _ := strings.Cut(one, ";")
	branch, _ = param(params, "branch")
	if v, ok := param(params, "rport"); ok && v == "" {
		rport = true
	}
	if strings.TrimSpace(head) == "" {
		return branch, "", 0, rport
	}
	// "SIP / 2.0 / UDP first.example.com: 4000" may have blanks: take what
	// follows the transport.
	if i := strings.LastIndexByte(head, '/'); i >= 0 {
		n := 0
		for w := range strings.FieldsSeq(head[i+1:]) {
			if n > 0 {
				sentBy += w // nearly always the only one
			}
			n++
		}
	}
	port = sip.DefaultUdpPort
	if i := strings.LastIndexByte(sentBy, ':'); i > strings.LastIndexByte(sentBy, ']') {
		if n, err := strconv.ParseUint(sentBy[i+1:], 10, 16); err == nil && n > 0 {
			port = int(n)
		}
	}
	return branch, sentBy, port, rport
}

// parse hands the message to sipgo's parser; a panic in there is an error.
func parse(p *sip.Parser, data []byte) (msg sip.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			msg, err = nil, fmt.Errorf("the parser stumbled: %v", r)
		}
	}()
	return p.ParseSIP(data)
}

// header gives the first value of any of the names, as the parser kept them.
func header(msg sip.Message, names ...string) string {
	for _, name := range names {
		if list := msg.GetHeaders(name); len(list) > 0 {
			return list[0].Value()
		}
	}
	return ""
}

// rawParam finds a parameter that sipgo may have kept with blanks or capitals.
func rawParam(p sip.HeaderParams, name string) string {
	for _, kv := range p {
		if strings.EqualFold(strings.TrimSpace(kv.K), name) {
			return strings.TrimSpace(kv.V)
		}
	}
	return ""
}
