package sip

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// An operator may give a caller on with the telephone's own key: it sends REFER inside
// its call (RFC 3515, RFC 5589 §6). What is asked for is read as what was dialled, and
// never as an address that anything is sent to; the house decides, and does it as it
// does what the operator's page asks. Nobody but a telephone that we rang is heard.

const (
	referDecide = 5 * time.Second  // to find out whether it may be done: the telephone repeats its REFER meanwhile
	referKnown  = 15 * time.Second // until it is known what came of it: a wish waits ten seconds at most
	notifyWait  = 2 * time.Second  // for the answer to a NOTIFY, two transmissions more
	partingWait = 3 * time.Second  // a telephone is told that its caller was given on before it is hung up
	dialledMost = 32               // characters: longer than any number, or code of a topic
	quietly     = "norefersub"     // RFC 4488
	fragment    = "message/sipfrag;version=2.0"
)

// Referral is a REFER inside a call of ours, for the house to judge.
type Referral struct {
	Call      *Call
	Extension string // whose telephone asks; "": somebody else, a caller
	To        string // what was dialled: digits, or a word; "" when it is refused
	Joins     bool   // not dialled: whom a second call of the same telephone is with
	Refused   int    // the status that refuses it whatever the house thinks; 0: none
}

// referral is one that is being done.
type referral struct {
	id    uint32        // of its events; 0: the first of the call needs none
	quiet bool          // the telephone wants to hear nothing of it
	known bool          // what came of it: another may follow; guarded by the call's mu
	done  chan struct{} // closed when it was told what came of it
}

// onRefer takes a REFER inside a dialog.
func (a *Agent) onRefer(req *sip.Request, tx sip.ServerTransaction) {
	c := a.inDialog(req, tx)
	if c == nil {
		return
	}
	r := Referral{Call: c}
	if c.far.End == EndTelephone {
		r.Extension = c.far.Name
		r.To, r.Joins, r.Refused = a.referred(req, c)
	} else {
		r.Refused = sip.StatusForbidden
	}
	open := &referral{done: make(chan struct{}), quiet: strings.EqualFold(strings.TrimSpace(header(req, "refer-sub")), "false")}
	c.mu.Lock()
	switch {
	case r.Refused != 0:
	case c.state != talking:
		r.Refused = sip.StatusForbidden
	case c.referral != nil && !c.referral.known:
		r.Refused = sip.StatusRequestPending
	default:
		c.referral = open // before anything is done: then we may be told to hang up
	}
	if c.refers++; c.refers > 1 { // RFC 3515 §2.4.6
		open.id = req.CSeq().SeqNo
	}
	often := c.refers > refersMost
	c.mu.Unlock()
	if r.Refused != 0 {
		r.To, r.Joins = "", false
	}
	outcome, status := a.decide(r, often)
	if status != 0 {
		c.referralOver(open)
		a.grumble("a transfer asked for by REFER was refused", a.flowOf(req).remote, strconv.Itoa(status))
		a.respond(req, tx, status)
		return
	}
	res := c.response(req, statusAccepted, nil)
	if open.quiet {
		res.AppendHeader(sip.NewHeader("Refer-Sub", "false")) // RFC 4488 §4
	}
	_ = tx.Respond(res)
	a.later(func() { c.report(open, outcome) })
}

const (
	statusAccepted = 202
	refersMost     = 30 // of one call; the house hears of no more
)

// decide asks the house.
func (a *Agent) decide(r Referral, often bool) (outcome func(context.Context) int, status int) {
	if a.cfg.Refer == nil || often {
		return nil, max(r.Refused, sip.StatusForbidden)
	}
	ctx, cancel := context.WithTimeout(a.ctx, referDecide)
	defer cancel()
	outcome, status = a.cfg.Refer(ctx, r)
	if r.Refused != 0 {
		status = r.Refused
	}
	return outcome, status
}

// referred reads what a REFER asks for: what was dialled, or that the call's other
// side is to be joined with that of a second call of the same telephone.
func (a *Agent) referred(req *sip.Request, c *Call) (dialled string, joins bool, status int) {
	values := slices.Concat(headers(req, "refer-to"), headers(req, "r"))
	if len(values) != 1 { // RFC 3515 §2.4.1
		return "", false, sip.StatusBadRequest
	}
	list := addresses(values[0])
	if len(list) != 1 {
		return "", false, sip.StatusBadRequest
	}
	address, embedded, with := strings.Cut(list[0].uri, "?")
	if name, value, _ := strings.Cut(embedded, "="); with && strings.EqualFold(name, "replaces") && !strings.Contains(value, "&") {
		if _, status := a.dialledIn(address); status != 0 {
			return "", false, status
		}
		return "", true, a.replaced(unescape(value), c)
	}
	dialled, status = a.dialledIn(list[0].uri)
	return dialled, false, status
}

// replaced finds out whether a call may be joined with the one that Replaces names
// (RFC 3891 §3): one of the same telephone, which talks in it. 0: it may.
func (a *Agent) replaced(replaces string, c *Call) int {
	callID, params, _ := strings.Cut(replaces, ";")
	ours, _ := param(params, "to-tag")
	theirs, _ := param(params, "from-tag")
	other := a.dialog(strings.TrimSpace(callID), ours)
	if other == nil || other == c || other.far.End != EndTelephone || other.far.Name != c.far.Name {
		return sip.StatusCallTransactionDoesNotExists
	}
	other.dlg.mu.Lock()
	same := other.dlg.remoteTag == theirs
	other.dlg.mu.Unlock()
	other.mu.Lock()
	defer other.mu.Unlock()
	if !same || other.state != talking {
		return sip.StatusCallTransactionDoesNotExists
	}
	return 0
}

// dialledIn takes out of an address of ours what was dialled. An address that wants
// anything else (other hosts, other methods, headers, escapes) is refused rather than
// read in part: who wrote it means something that we do not do.
func (a *Agent) dialledIn(uri string) (dialled string, status int) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return "", sip.StatusBadRequest
	}
	switch strings.ToLower(scheme) {
	case "tel":
		dialled = rest
	case "sip":
		rest, params, _ := strings.Cut(rest, ";")
		user, host, found := strings.Cut(rest, "@")
		if !found || !a.means(host) || !plain(params) {
			return "", sip.StatusForbidden
		}
		dialled = user
	default:
		return "", sip.StatusRequestedRangeNotSatisfiable // 416: Unsupported URI Scheme
	}
	if !dialable(dialled) {
		return "", sip.StatusNotFound
	}
	return dialled, 0
}

// plain tells whether the parameters of an address change nothing.
func plain(params string) bool {
	for p := range strings.SplitSeq(strings.ToLower(params), ";") {
		switch p {
		case "", "user=phone", "transport=udp", "transport=tcp", "transport=tls", "method=invite":
		default:
			return false
		}
	}
	return true
}

// dialable tells whether somebody may have dialled this.
func dialable(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '+' && i == 0:
		case i > 0 && (c == '-' || c == '.' || c == '_'):
		default:
			return false
		}
	}
	return strings.Trim(s, "+") != "" && len(s) <= dialledMost
}

// means tells whether a host, be there a port or not, is this server by any of its
// names.
func (a *Agent) means(host string) bool {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if !isDigits(host[i+1:]) {
			return false
		}
		host = host[:i]
	}
	return a.isCalled(host)
}

// isCalled tells whether this server is called so.
func (a *Agent) isCalled(host string) bool {
	return host != "" && (a.isOurs(host) || strings.EqualFold(a.cfg.Realm, host) || slices.ContainsFunc(a.cfg.Domains, func(d string) bool { return strings.EqualFold(d, host) }))
}

// report tells a telephone what comes of its REFER (RFC 3515 §2.4.4): at once that it
// is being done, then how it ended.
func (c *Call) report(open *referral, outcome func(context.Context) int) {
	defer c.referralOver(open)
	ctx, cancel := context.WithTimeout(c.a.ctx, referKnown)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-c.a.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	heard := !open.quiet && c.notify(open, sip.StatusTrying, "active;expires="+strconv.Itoa(int(referKnown/time.Second)))
	status := outcome(ctx)
	c.mu.Lock()
	open.known = true
	c.mu.Unlock()
	if heard {
		c.notify(open, status, "terminated;reason=noresource")
	}
}

// notify tells a telephone how its transfer stands; false: it does not want to know
// (RFC 6665 §4.2.2). One that has hung up meanwhile is told all the same: what it
// subscribed to outlives the call (RFC 5057 §4.1).
func (c *Call) notify(open *referral, status int, state string) bool {
	req, f := c.dlg.request(sip.NOTIFY, 0)
	event := "refer"
	if open.id != 0 {
		event += ";id=" + strconv.FormatUint(uint64(open.id), 10)
	}
	req.AppendHeader(&sip.ContactHeader{Address: c.dlg.contact(f)})
	req.AppendHeader(sip.NewHeader("Event", event))
	req.AppendHeader(sip.NewHeader("Subscription-State", state))
	req.AppendHeader(sip.NewHeader("Content-Type", fragment))
	req.SetBody(fmt.Appendf(nil, "SIP/2.0 %d %s\r\n", status, reasonOf(status))) // RFC 3420
	res, err := c.a.ask(c.a.ctx, req, f, notifyWait)
	return err != nil || res.StatusCode != sip.StatusCallTransactionDoesNotExists
}

// referralOver lets who waits for the end of a transfer go on.
func (c *Call) referralOver(open *referral) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.referral == open {
		c.referral = nil
	}
	close(open.done)
}

// parting waits until a telephone was told that its caller was given on, for then it
// is hung up.
func (c *Call) parting() {
	c.mu.Lock()
	open := c.referral
	c.mu.Unlock()
	if open == nil {
		return
	}
	t := time.NewTimer(partingWait)
	defer t.Stop()
	select {
	case <-open.done:
	case <-c.a.quit:
	case <-t.C:
	}
}

// Refer asks the far side to call somebody else, as `to` says in full (the value of
// Refer-To), and returns when it has accepted: each status that it then reports is
// sent to told, the last is 200 or more. A refusal is a *StatusError.
func (c *Call) Refer(ctx context.Context, to string) (told <-chan int, err error) {
	const reports = 8 // what is told beyond is lost: nobody reads
	list := make(chan int, reports)
	c.mu.Lock()
	c.told = list
	c.mu.Unlock()
	req, f := c.dlg.request(sip.REFER, 0)
	req.AppendHeader(&sip.ContactHeader{Address: c.dlg.contact(f)})
	req.AppendHeader(sip.NewHeader("Refer-To", to))
	res, err := c.a.ask(ctx, req, f, reinviteWait)
	switch {
	case err != nil:
		return nil, fmt.Errorf("refer: %w", err)
	case !res.IsSuccess():
		return nil, fmt.Errorf("refer: %w", statusError(res.StatusCode, res.Reason))
	}
	return list, nil
}

// Replaces names the call as a far side of ours knows it, for Refer-To.
func (c *Call) Replaces() string {
	c.dlg.mu.Lock()
	defer c.dlg.mu.Unlock()
	return "Replaces=" + escapeUser(c.dlg.callID+";to-tag="+c.dlg.remoteTag+";from-tag="+c.dlg.localTag)
}

// talkingAt is the telephone of ours that an INVITE comes from: we have rung it, and it
// talks; "": none. It proves that it is the one later on.
func (a *Agent) talkingAt(f flow, m *raw) string {
	from, _ := nextAddress(m.get("from"))
	_, extension, _ := uriParts(from.uri)
	if a.cfg.Dialled == nil || !isExtension(extension) {
		return ""
	}
	a.mu.Lock()
	list := make([]*Call, 0, 4)
	for c := range a.calls {
		if c.far.End == EndTelephone && c.far.Name == extension {
			list = append(list, c)
		}
	}
	a.mu.Unlock()
	for _, c := range list {
		c.mu.Lock()
		talks := c.state == talking && c.tx == nil
		c.mu.Unlock()
		if talks && c.knows(f.remote.Addr()) {
			return extension
		}
	}
	return ""
}

// onDialled conducts a call of a telephone of ours.
func (a *Agent) onDialled(c *Call, extension string) {
	if c.dlg.flow.tls {
		c.srtp = a.cfg.SRTP
	}
	called := c.req.Recipient.Clone()
	called.Scheme = "sip" // sips has come as it should
	to, status := a.dialledIn(called.String())
	if status != 0 {
		_ = c.refuse(status, 0)
		return
	}
	a.cfg.Dialled(c.ctx, c, extension, to)
}

// authentic finds out whether an INVITE is of the telephone that it says; otherwise it
// is answered.
func (a *Agent) authentic(req *sip.Request, tx sip.ServerTransaction, f flow, m *raw) bool {
	ctx, cancel := context.WithTimeout(a.ctx, phonesLongest)
	defer cancel()
	_, status := a.authenticate(ctx, m, sip.INVITE, f.remote.Addr(), time.Now())
	switch status {
	case 0:
		return true
	case sip.StatusUnauthorized, statusStale:
		var lines []sip.Header
		for _, line := range a.unauthorized(f, m.get("user-agent"), status == statusStale) {
			name, value, _ := strings.Cut(line, ": ")
			lines = append(lines, sip.NewHeader(name, value))
		}
		a.respond(req, tx, sip.StatusUnauthorized, lines...)
	default:
		a.respond(req, tx, status, sip.NewHeader("Retry-After", "5"))
	}
	return false
}

// onNotify takes what a far side says of a REFER of ours; nothing else is asked for.
func (a *Agent) onNotify(req *sip.Request, tx sip.ServerTransaction) {
	c := a.inDialog(req, tx)
	if c == nil {
		return
	}
	c.mu.Lock()
	told := c.told
	c.mu.Unlock()
	event, _, _ := strings.Cut(header(req, "event", "o"), ";")
	line, _, _ := strings.Cut(string(req.Body()), "\r\n")
	f := strings.Fields(line)
	switch {
	case told == nil:
		a.respond(req, tx, sip.StatusCallTransactionDoesNotExists) // RFC 6665 §4.1.3: no such subscription
		return
	case !strings.EqualFold(strings.TrimSpace(event), "refer"):
		a.respond(req, tx, statusBadEvent)
		return
	case len(f) < 2 || f[0] != "SIP/2.0" || len(f[1]) != 3 || !isDigits(f[1]):
		a.respond(req, tx, sip.StatusBadRequest)
		return
	}
	status, _ := strconv.Atoi(f[1])
	select {
	case told <- status:
	default:
	}
	a.respond(req, tx, sip.StatusOK)
}

const statusBadEvent = 489 // RFC 6665 §7.3.2
