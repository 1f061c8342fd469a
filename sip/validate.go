package sip

import (
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// What we say we can do.
const (
	allow         = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK, REFER, NOTIFY, REGISTER"
	acceptBodies  = "application/sdp"
	sdpType       = "application/sdp"
	multipart     = "multipart/mixed"
	dtmfRelayType = "application/dtmf-relay"
	dtmfType      = "application/dtmf"
)

var (
	methods    = []string{"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY", "REGISTER"}
	known      = []string{"SUBSCRIBE", "MESSAGE", "PUBLISH"} // of others: 405, not 501
	single     = []string{"from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type", "expires", "session-expires"}
	needed     = []string{"via", "from", "to", "call-id", "cseq"}
	extensions = []string{"timer", reliably, quietly} // the option tags that may be required of us
)

const tooLarge = 513 // Message Too Large, RFC 3261 §21.5.7

// fault is what is wrong with a request: the answer it gets.
type fault struct {
	status int
	reason string
	extra  []string // header lines
}

func bad(why string) *fault {
	return &fault{status: sip.StatusBadRequest, reason: "Bad Request (" + why + ")"}
}

// validate looks at a request as RFC 3261 §8.2 wants it looked at, in the order
// in which RFC 4475 expects to be answered. safe: it came by TLS. nil: nothing is wrong.
func validate(m *raw, method, uri string, safe bool, ourHost func(string) bool) *fault {
	for _, name := range single {
		if m.count(name) > 1 {
			return bad("more than one " + name) // RFC 4475 §3.3.8
		}
	}
	for _, name := range needed {
		if m.get(name) == "" {
			return bad("no " + name) // RFC 4475 §3.3.1
		}
	}
	if len(m.get("call-id")) > 256 || len(tag(m.get("from"))) > 256 || len(tag(m.get("to"))) > 256 {
		return bad("identifier too long") // they are keys of ours
	}
	_, cseqMethod, ok := m.cseq()
	if !ok || cseqMethod != method {
		return bad("CSeq") // RFC 4475 §3.1.2.17
	}
	if n := m.get("content-length"); n != "" && !isDigits(n) {
		return bad("Content-Length") // RFC 4475 §3.1.2.3
	}
	if f := validateMethod(method); f != nil {
		return f
	}
	if f := validateAddresses(m, method, uri, safe); f != nil {
		return f
	}
	if f := validateForwards(m, uri, ourHost); f != nil {
		return f
	}
	if method == "ACK" || method == "CANCEL" {
		return nil // RFC 3261 §8.2.2.3: Require is ignored in them
	}
	if f := validateRequire(m); f != nil {
		return f
	}
	if f := validateTimer(m, method); f != nil {
		return f
	}
	return validateBody(m, method)
}

func validateMethod(method string) *fault {
	switch {
	case slices.Contains(methods, method):
		return nil
	case slices.Contains(known, method):
		return &fault{status: sip.StatusMethodNotAllowed, reason: "Method Not Allowed", extra: []string{"Allow: " + allow}}
	}
	// Method names are compared with case (RFC 3261 §7.1): invite is not INVITE.
	return &fault{status: sip.StatusNotImplemented, reason: "Not Implemented", extra: []string{"Allow: " + allow}}
}

// validateAddresses checks Request-URI, From, To and Contact.
func validateAddresses(m *raw, method, uri string, safe bool) *fault {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || !isScheme(scheme) {
		return bad("Request-URI")
	}
	switch scheme = strings.ToLower(scheme); {
	case scheme == "sip", scheme == schemeSIPS && safe:
		if strings.Contains(rest, "?") {
			return bad("headers in Request-URI") // RFC 4475 §3.1.2.11
		}
	case scheme == "tel":
	default: // sips in clear too: it promises an encryption that is not there (RFC 3261 §26.2.2)
		return &fault{status: sip.StatusRequestedRangeNotSatisfiable, reason: "Unsupported URI Scheme"}
	}
	for _, name := range []string{"from", "to", "contact"} {
		for _, h := range m.headers {
			if h.name != name {
				continue
			}
			if f := validateAddress(h.value, name); f != nil {
				return f
			}
		}
	}
	if method == "INVITE" && m.count("contact") > 1 {
		return bad("more than one contact") // RFC 3261 §12.1.2
	}
	return nil
}

// Schemes that may stand in From, To and Contact; sipgo parses the first two.
var addressSchemes = []string{"sip", schemeSIPS, "tel"}

// schemeSIPS is that of an address to which every hop is by TLS (RFC 3261 §19.1, RFC
// 5630). We are the last one: what goes on from here is a call of ours.
const schemeSIPS = "sips"

func validateAddress(value, name string) *fault {
	if name == "contact" && strings.TrimSpace(value) == "*" {
		return nil
	}
	if value == "" {
		return bad("empty " + name)
	}
	for a := range eachAddress(value) {
		if !strings.Contains(value, "<") && strings.ContainsAny(a.uri, "?,") {
			return bad(name + " without brackets") // RFC 3261 §20.10, RFC 4475 §3.1.2.13
		}
		scheme, _, _ := uriParts(a.uri)
		if scheme == "" {
			return bad("address in " + name)
		}
		if name != "contact" && !slices.Contains(addressSchemes, scheme) {
			return bad("scheme in " + name) // RFC 4475 §3.3.4
		}
		if name != "contact" {
			break // a display name may hold an unquoted comma: leniently, RFC 4475 §3.1.2.15
		}
	}
	return nil
}

func isScheme(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}

// validateForwards checks Max-Forwards. A server that answers itself need not
// care (RFC 3261 §16.3); what would have to be forwarded further gets 483.
func validateForwards(m *raw, uri string, ourHost func(string) bool) *fault {
	text := m.get("max-forwards")
	if text == "" {
		return nil // RFC 2543 had none
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > 255 { // RFC 3261 §20.22
		return bad("Max-Forwards")
	}
	if _, _, host := uriParts(uri); n == 0 && !ourHost(host) {
		return &fault{status: sip.StatusTooManyHops, reason: "Too Many Hops"}
	}
	return nil
}

func validateRequire(m *raw) *fault {
	var unknown []string
	for _, t := range m.list("require") {
		if !slices.Contains(extensions, t) {
			unknown = append(unknown, t)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	if len(unknown) > 16 { // we echo them
		unknown = unknown[:16]
	}
	return &fault{status: sip.StatusBadExtension, reason: "Bad Extension", extra: []string{"Unsupported: " + strings.Join(unknown, ", ")}}
}

// validateBody checks what is said about the body.
func validateBody(m *raw, method string) *fault {
	if n, err := strconv.Atoi(m.get("content-length")); err == nil && n > len(m.body) {
		return bad("shorter than Content-Length") // RFC 4475 §3.1.2.2
	}
	if method != "INVITE" && method != "UPDATE" && method != "INFO" {
		return nil
	}
	if a := m.list("accept"); method != "INFO" && len(a) > 0 && !slices.ContainsFunc(a, acceptsSDP) {
		return &fault{status: sip.StatusNotAcceptable, reason: "Not Acceptable"} // RFC 4475 §3.3.15
	}
	if bodyLength(m) == 0 {
		return nil
	}
	kind := mediaType(m.get("content-type"))
	accept, unknown := acceptBodies, kind != sdpType
	if method == "INFO" {
		accept, unknown = dtmfRelayType+", "+dtmfType, kind != dtmfRelayType && kind != dtmfType
	}
	encoding := strings.ToLower(m.get("content-encoding"))
	if unknown && kind != multipart || encoding != "" && encoding != "identity" {
		return &fault{status: sip.StatusUnsupportedMediaType, reason: "Unsupported Media Type",
			extra: []string{"Accept: " + accept, "Accept-Encoding: identity"}}
	}
	return nil
}

func acceptsSDP(t string) bool {
	t = mediaType(t)
	return t == sdpType || t == "application/*" || t == "*/*" || t == multipart
}

func mediaType(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(s))
}

func bodyLength(m *raw) int {
	if n, err := strconv.Atoi(m.get("content-length")); err == nil {
		return min(n, len(m.body))
	}
	return len(m.body)
}

// sessionBody finds the session description in a body, also inside a multipart
// one (RFC 5621: a carrier may add ISUP or a location).
func sessionBody(contentType string, body []byte) []byte {
	if mediaType(contentType) != multipart {
		return body
	}
	_, params, _ := strings.Cut(contentType, ";")
	boundary, _ := param(params, "boundary")
	if boundary == "" {
		return nil
	}
	for part := range strings.SplitSeq("\r\n"+string(body), "\r\n--"+boundary) {
		head, content, ok := strings.Cut(part, "\r\n\r\n")
		if !ok {
			continue
		}
		for line := range strings.SplitSeq(head, "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			if strings.EqualFold(strings.TrimSpace(name), "content-type") && mediaType(value) == sdpType {
				return []byte(content)
			}
		}
	}
	return nil
}
