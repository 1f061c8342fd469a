package sip

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	defaultExpires = 3600 // seconds, when a telephone says nothing (RFC 3261 §10.2.1.1)
	minExpires     = 30   // shorter ones are a load without use: 423
	maxExpires     = 7200 // longer ones are shortened
	maxContacts    = 8    // of one extension
	maxContact     = 512  // octets of one Contact URI
	phonesLongest  = 2 * time.Second
)

// signing are the REGISTERs that carry credentials and are being dealt with, and the
// answers to those whose credentials were right, for a retransmission: its nonce is
// spent. They are no matter of sipgo, which would remember each address that ever asked.
type signing struct {
	mu      sync.Mutex // guards what follows
	busy    int
	swept   time.Time
	answers map[string]*signed
}

// signed is what came of a REGISTER.
type signed struct {
	at     time.Time
	status int // 0: nothing yet
	lines  []string
}

const (
	signingMost = 256         // at once; one more comes again in half a second
	signedKept  = tombstone   // 64·T1: as long as a request may be repeated
	signedSweep = time.Second // old ones are looked for this often
)

// inspectRegister answers a REGISTER. What proves nothing is challenged on the spot:
// a stranger costs nothing but the answer.
func (a *Agent) inspectRegister(f flow, m *raw) {
	if a.cfg.Phones == nil {
		a.reply(f, m, sip.StatusMethodNotAllowed, reasonOf(sip.StatusMethodNotAllowed), "Allow: "+allow)
		return
	}
	if !a.proves(f, m) {
		return
	}
	key := inviteKey(f, m) + "|" + m.get("cseq")
	if before, known := a.signing.begin(key, time.Now()); known {
		if before.status != 0 {
			a.reply(f, m, before.status, reasonOf(before.status), before.lines...)
		}
		return
	}
	m.body = nil // the buffer is the reader's
	a.later(func() {
		status, reason, lines := a.registers(f, m, key)
		a.reply(f, m, status, reason, lines...) // kept already, should it come again at once
	})
}

// registers deals with a REGISTER, and keeps what came of it.
func (a *Agent) registers(f flow, m *raw, key string) (status int, reason string, lines []string) {
	var done signed
	defer func() { a.signing.end(key, done) }()
	status, reason, right, lines := a.register(f, m, time.Now())
	if right {
		done = signed{at: time.Now(), status: status, lines: lines}
	}
	return status, reason, lines
}

// begin takes a REGISTER in; known: it is a retransmission, or one too many.
func (s *signing) begin(key string, now time.Time) (before signed, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.answers[key]; one != nil {
		return *one, true
	}
	if s.busy >= signingMost {
		return signed{}, true
	}
	if now.Sub(s.swept).Abs() >= signedSweep {
		s.swept = now
		maps.DeleteFunc(s.answers, func(_ string, one *signed) bool { return one.status != 0 && now.Sub(one.at) > signedKept })
	}
	s.busy++
	s.answers[key] = &signed{}
	return signed{}, false
}

// end keeps what came of a REGISTER, if it was anything.
func (s *signing) end(key string, done signed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	if done.status == 0 {
		delete(s.answers, key)
		return
	}
	s.answers[key] = &done
}

// proves tells whether a request has credentials with a nonce of ours, right or wrong;
// what has none is challenged.
func (a *Agent) proves(f flow, m *raw) bool {
	c, ok := credentialsOf(m, a.cfg.Realm)
	if !ok {
		a.challenge(f, m, false)
		return false
	}
	ours, stale := a.checkNonce(c.nonce, f.remote.Addr(), time.Now())
	if !ours || stale {
		a.challenge(f, m, stale) // RFC 7616 §3.3: stale, the password need not be asked for again
		return false
	}
	return true
}

// credentialsOf finds the Authorization for our realm.
func credentialsOf(m *raw, realm string) (credentials, bool) {
	for _, h := range m.headers {
		if h.name != "authorization" {
			continue
		}
		if c, ok := parseCredentials(h.value); ok && c.realm == realm {
			return c, true
		}
	}
	return credentials{}, false
}

func (a *Agent) challenge(f flow, m *raw, stale bool) {
	var lines []string
	for _, c := range a.challenges(f.remote.Addr(), m.get("user-agent"), stale) {
		lines = append(lines, "WWW-Authenticate: "+c)
	}
	a.reply(f, m, sip.StatusUnauthorized, "Unauthorized", lines...)
}

// register is the registrar (RFC 3261 §10.3); right: the credentials were.
func (a *Agent) register(f flow, m *raw, now time.Time) (status int, reason string, right bool, lines []string) {
	ctx, cancel := context.WithTimeout(a.ctx, phonesLongest)
	defer cancel()
	extension, status := a.authenticate(ctx, m, sip.REGISTER, f.remote.Addr(), now)
	switch status {
	case 0:
	case sip.StatusUnauthorized, statusStale:
		return sip.StatusUnauthorized, reasonOf(sip.StatusUnauthorized), false, a.unauthorized(f, m.get("user-agent"), status == statusStale)
	default:
		return status, reasonOf(status), false, []string{"Retry-After: 5"}
	}
	if f.tcp {
		if c := a.connOf(f); c != nil {
			c.proven()
		}
	}
	wanted, x := readContacts(m, extension, a.cfg.Node, f, now)
	if x != nil {
		return x.status, cmp.Or(x.reason, reasonOf(x.status)), true, x.extra
	}
	if status := a.bind(ctx, extension, wanted, m, now); status != 0 {
		return status, reasonOf(status), true, nil
	}
	a.moved(extension, f.remote.Addr())
	a.reached.note(f, wanted)
	bindings, err := a.cfg.Phones.Bindings(ctx, extension, now)
	if err != nil {
		return sip.StatusServiceUnavailable, reasonOf(sip.StatusServiceUnavailable), true, []string{"Retry-After: 5"}
	}
	for _, b := range bindings { // RFC 3261 §10.3 step 8: all of them
		left := int(b.Expires.Sub(now).Round(time.Second) / time.Second)
		lines = append(lines, "Contact: <"+b.Contact+">;expires="+strconv.Itoa(left))
	}
	return sip.StatusOK, reasonOf(sip.StatusOK), true, lines
}

const statusStale = -1 // 401 with stale=true

// authenticate finds out whose telephone it is. A wrong password, an unknown extension
// and an answer that is not looked at are told apart neither by what we say nor by
// what we do before we say it.
func (a *Agent) authenticate(ctx context.Context, m *raw, method sip.RequestMethod, source netip.Addr, now time.Time) (extension string, status int) {
	c, ok := credentialsOf(m, a.cfg.Realm)
	if !ok || !slices.Contains(a.cfg.Digests, c.algorithm) || c.qop != "" && c.qop != "auth" {
		return "", sip.StatusUnauthorized
	}
	s, found, err := a.cfg.Phones.Secret(ctx, c.username, false)
	if err != nil {
		a.grumble("telephones cannot be looked up", netip.AddrPortFrom(source, 0), err.Error())
		return "", sip.StatusServiceUnavailable
	}
	home := slices.ContainsFunc(s.Places, func(p netip.Addr) bool { return sourceOf(p) == sourceOf(source) })
	looked := a.guesses.try(source, c.username, home, now)
	right := a.answers(c, s, found, method)
	if !right { // the password may have been set this very moment
		s, found, _ = a.cfg.Phones.Secret(ctx, c.username, true)
		right = a.answers(c, s, found, method)
	}
	whose := "to"
	if method != sip.REGISTER {
		whose = "from"
	}
	address, _ := nextAddress(m.get(whose))
	_, user, _ := uriParts(address.uri)
	_, uri, _, _ := m.requestLine()
	if !looked {
		a.grumble("passwords are guessed: answers are not looked at any more", netip.AddrPortFrom(source, 0), nameOf(c.username))
		return "", sip.StatusUnauthorized
	}
	if !right || user != c.username || !a.signedFor(c, uri) {
		return "", sip.StatusUnauthorized
	}
	a.guesses.right(source, c.username, home, now)
	if _, stale := a.checkNonce(c.nonce, source, now); stale || !a.nonces.spend(c, now) {
		return "", statusStale
	}
	return c.username, 0
}

// answers tells whether credentials are those of a telephone's password; for one that
// there is not it computes as much.
func (a *Agent) answers(c credentials, s Secret, found bool, method sip.RequestMethod) bool {
	if !found {
		s = a.nobody
	}
	ha1 := s.MD5
	if c.algorithm == algorithmSHA256 {
		ha1 = s.SHA256
	}
	return c.right(ha1, string(method)) && found
}

// signedFor tells whether credentials are for this request (RFC 7616 §3.4.6): for what
// was dialled, and for us, by the name that the request has or by another of ours.
func (a *Agent) signedFor(c credentials, uri string) bool {
	_, dialled, asked := uriParts(uri)
	scheme, user, host := uriParts(c.uri)
	return scheme != "" && user == dialled && (host == asked || a.isCalled(host))
}

// unauthorized are the lines of a challenge to who answered one in vain.
func (a *Agent) unauthorized(f flow, userAgent string, stale bool) (lines []string) {
	if !stale {
		a.grumble("sign-in refused", f.remote, "")
	}
	for _, c := range a.challenges(f.remote.Addr(), userAgent, stale) {
		lines = append(lines, "WWW-Authenticate: "+c)
	}
	return lines
}

// wish is what a REGISTER asks for.
type wish struct {
	all    bool // Contact: * with Expires: 0
	add    []Binding
	remove []string
}

// readContacts reads what is to be bound and unbound (RFC 3261 §10.3 steps 6, 7).
func readContacts(m *raw, extension, node string, f flow, now time.Time) (wish, *fault) {
	var w wish
	general, given := defaultExpires, false
	if e := m.get("expires"); e != "" {
		n, err := strconv.ParseUint(e, 10, 32)
		if err != nil {
			return w, bad("Expires")
		}
		general, given = int(n), true
	}
	seq, _, _ := m.cseq()
	for _, h := range m.headers {
		if h.name != "contact" {
			continue
		}
		if strings.TrimSpace(h.value) == "*" {
			if !given || general != 0 || m.count("contact") > 1 {
				return w, bad("Contact: *") // §10.2.2
			}
			return wish{all: true}, nil
		}
		for _, c := range addresses(h.value) {
			expires := general
			if v, ok := param(c.params, "expires"); ok {
				n, err := strconv.ParseUint(v, 10, 32)
				if err != nil {
					return w, bad("expires")
				}
				expires = int(n)
			}
			scheme, _, host := uriParts(c.uri)
			switch {
			case scheme != "sip" && (scheme != schemeSIPS || !f.tls) || host == "" || !portKnown(c.uri) || len(c.uri) > maxContact || strings.ContainsAny(c.uri, " \t<>\"") || printable(c.uri) != c.uri:
				return w, bad("Contact")
			case expires == 0:
				w.remove = append(w.remove, c.uri)
				continue
			case expires < minExpires:
				return w, &fault{status: sip.StatusIntervalToBrief, extra: []string{"Min-Expires: " + strconv.Itoa(minExpires)}}
			}
			longest := maxExpires
			if behindNAT(f, c.uri) {
				longest = reachLasts
			}
			transport := strings.ToLower(f.network())
			w.add = append(w.add, Binding{
				Extension: extension, Contact: c.uri, Source: f.remote, Transport: transport, Node: node,
				CallID: m.get("call-id"), CSeq: seq, UserAgent: clip(m.get("user-agent"), 80),
				Expires: now.Add(time.Duration(min(expires, longest)) * time.Second),
			})
		}
	}
	if len(w.add)+len(w.remove) > maxContacts {
		return w, bad("too many contacts")
	}
	return w, nil
}

// bind carries a wish out; the status is 0 when that worked.
func (a *Agent) bind(ctx context.Context, extension string, w wish, m *raw, now time.Time) int {
	have, err := a.cfg.Phones.Bindings(ctx, extension, now)
	if err != nil {
		return sip.StatusServiceUnavailable
	}
	seq, _, _ := m.cseq()
	for _, b := range have { // §10.3 step 7: an old request that comes late
		touched := w.all || slices.Contains(w.remove, b.Contact) || slices.ContainsFunc(w.add, func(n Binding) bool { return n.Contact == b.Contact })
		if touched && b.CallID == m.get("call-id") && seq < b.CSeq {
			return sip.StatusInternalServerError
		}
	}
	if w.all {
		w.remove = []string{"*"}
	}
	for _, contact := range w.remove {
		if err := a.cfg.Phones.Unbind(ctx, extension, contact); err != nil {
			return a.phonesFailed(err)
		}
	}
	fresh := 0
	for _, n := range w.add {
		if !slices.ContainsFunc(have, func(b Binding) bool { return b.Contact == n.Contact }) {
			fresh++
		}
	}
	if len(have)-len(w.remove)+fresh > maxContacts && fresh > 0 {
		return sip.StatusForbidden
	}
	for _, b := range w.add {
		if err := a.cfg.Phones.Bind(ctx, b); err != nil {
			return a.phonesFailed(err)
		}
	}
	return 0
}

func (a *Agent) phonesFailed(err error) int {
	if !errors.Is(err, context.Canceled) {
		a.grumble("registration not kept", netip.AddrPort{}, err.Error())
	}
	return sip.StatusServiceUnavailable
}

// Registered says whether an extension has a telephone at the given instant.
func (a *Agent) Registered(extension string, at time.Time) bool {
	return slices.ContainsFunc(a.bindings(a.ctx, extension, at), func(b Binding) bool {
		_, _, ok := a.place(b)
		return ok
	})
}

func (a *Agent) bindings(ctx context.Context, extension string, at time.Time) []Binding {
	if a.cfg.Phones == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, phonesLongest)
	defer cancel()
	list, err := a.cfg.Phones.Bindings(ctx, extension, at)
	if err != nil {
		a.grumble("telephones cannot be looked up", netip.AddrPort{}, err.Error())
	}
	return list
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
