package sip

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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

// inspectRegister answers a REGISTER that proves nothing with a challenge,
// without a transaction: a stranger costs nothing but the answer. What carries a
// nonce of ours goes on.
func (a *Agent) inspectRegister(f flow, m *raw) bool {
	if a.cfg.Phones == nil {
		a.reply(f, m, sip.StatusMethodNotAllowed, reasonOf(sip.StatusMethodNotAllowed), "Allow: "+allow)
		return false
	}
	return a.proves(f, m)
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

// onRegister is the registrar (RFC 3261 §10.3).
func (a *Agent) onRegister(req *sip.Request, tx sip.ServerTransaction) {
	now := time.Now()
	ctx, cancel := context.WithTimeout(a.ctx, phonesLongest)
	defer cancel()
	m, ok := scan([]byte(req.String()))
	if !ok {
		return
	}
	f := a.flowOf(req)
	extension, status := a.authenticate(ctx, m, sip.REGISTER, f.remote.Addr(), now)
	switch {
	case status == sip.StatusUnauthorized:
		a.unauthorized(req, tx, f, false)
		return
	case status == statusStale:
		a.unauthorized(req, tx, f, true)
		return
	case status != 0:
		a.respond(req, tx, status, sip.NewHeader("Retry-After", "5"))
		return
	}
	if f.tcp {
		if c := a.connOf(f); c != nil {
			c.known.Store(true)
		}
	}
	wanted, x := readContacts(m, extension, a.cfg.Node, f, req, now)
	if x != nil {
		a.respond(req, tx, x.status, x.headers()...)
		return
	}
	if status := a.bind(ctx, extension, wanted, m, now); status != 0 {
		a.respond(req, tx, status)
		return
	}
	bindings, err := a.cfg.Phones.Bindings(ctx, extension, now)
	if err != nil {
		a.respond(req, tx, sip.StatusServiceUnavailable, sip.NewHeader("Retry-After", "5"))
		return
	}
	var contacts []sip.Header
	for _, b := range bindings { // RFC 3261 §10.3 step 8: all of them
		left := int(b.Expires.Sub(now).Round(time.Second) / time.Second)
		contacts = append(contacts, sip.NewHeader("Contact", "<"+b.Contact+">;expires="+strconv.Itoa(left)))
	}
	a.respond(req, tx, sip.StatusOK, contacts...)
}

const statusStale = -1 // 401 with stale=true

// authenticate finds out whose telephone it is. A wrong password and an unknown
// extension are told apart neither by the answer nor by the time it takes.
func (a *Agent) authenticate(ctx context.Context, m *raw, method sip.RequestMethod, source netip.Addr, now time.Time) (extension string, status int) {
	c, ok := credentialsOf(m, a.cfg.Realm)
	if !ok || !slices.Contains(a.cfg.Digests, c.algorithm) || c.qop != "" && c.qop != "auth" || c.uri == "" {
		return "", sip.StatusUnauthorized
	}
	md5Hex, sha256Hex, found, err := a.cfg.Phones.Secret(ctx, c.username)
	if err != nil {
		a.grumble("telephones cannot be looked up", netip.AddrPortFrom(source, 0), err.Error())
		return "", sip.StatusServiceUnavailable
	}
	if !found {
		md5Hex, sha256Hex = HA1(c.username, a.cfg.Realm, string(a.secret[:]))
	}
	ha1 := md5Hex
	if c.algorithm == algorithmSHA256 {
		ha1 = sha256Hex
	}
	right := c.right(ha1, string(method))
	whose := "to"
	if method != sip.REGISTER {
		whose = "from"
		_, uri, _, _ := m.requestLine()
		_, asked, _ := uriParts(uri)
		_, signed, _ := uriParts(c.uri)
		right = right && asked == signed // RFC 7616 §3.4.6: what was dialled is part of what is proved
	}
	address, _ := nextAddress(m.get(whose))
	_, user, _ := uriParts(address.uri)
	if !right || !found || user != c.username {
		return "", sip.StatusUnauthorized
	}
	if _, stale := a.checkNonce(c.nonce, source, now); stale || !a.nonces.spend(c, now) {
		return "", statusStale
	}
	return c.username, 0
}

func (a *Agent) unauthorized(req *sip.Request, tx sip.ServerTransaction, f flow, stale bool) {
	if !stale {
		a.grumble("sign-in refused", f.remote, "")
	}
	var lines []sip.Header
	for _, c := range a.challenges(f.remote.Addr(), header(req, "user-agent"), stale) {
		lines = append(lines, sip.NewHeader("WWW-Authenticate", c))
	}
	a.respond(req, tx, sip.StatusUnauthorized, lines...)
}

// headers are a fault's lines for an answer inside a transaction.
func (x *fault) headers() (list []sip.Header) {
	for _, line := range x.extra {
		name, value, _ := strings.Cut(line, ": ")
		list = append(list, sip.NewHeader(name, value))
	}
	return list
}

// wish is what a REGISTER asks for.
type wish struct {
	all    bool // Contact: * with Expires: 0
	add    []Binding
	remove []string
}

// readContacts reads what is to be bound and unbound (RFC 3261 §10.3 steps 6, 7).
func readContacts(m *raw, extension, node string, f flow, req *sip.Request, now time.Time) (wish, *fault) {
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
			case scheme != "sip" || host == "" || len(c.uri) > maxContact || strings.ContainsAny(c.uri, " \t<>\""):
				return w, bad("Contact")
			case expires == 0:
				w.remove = append(w.remove, c.uri)
				continue
			case expires < minExpires:
				return w, &fault{status: sip.StatusIntervalToBrief, extra: []string{"Min-Expires: " + strconv.Itoa(minExpires)}}
			}
			transport := strings.ToLower(f.network())
			w.add = append(w.add, Binding{
				Extension: extension, Contact: c.uri, Source: f.remote, Transport: transport, Node: node,
				CallID: req.CallID().Value(), CSeq: seq, UserAgent: clip(m.get("user-agent"), 80),
				Expires: now.Add(time.Duration(min(expires, maxExpires)) * time.Second),
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
