package sip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Session timers (RFC 4028): one of the two sides shows the other from time to time
// that the call still stands. Without them a telephone that lost its power while it
// was on hold, when nobody expects its sound, would keep its place for ever.

const (
	sessionWanted = 30 * time.Minute       // RFC 4028 §4: what we ask for
	sessionLeast  = 90 * time.Second       // RFC 4028 §4: shorter ones get 422
	sessionMost   = 24 * time.Hour         // more is as good as none
	renewLeast    = 5 * time.Second        // between two refreshes of ours, whatever they want
	byeBefore     = 32 * time.Second       // RFC 4028 §10: how long before the end we say BYE, or a third
	heardLately   = 5 * time.Second        // who was heard so shortly ago is there, refreshed or not
	renewAgain    = 10 * time.Second       // after a refresh that got no answer
	renewPause    = 200 * time.Millisecond // while an offer of theirs is being dealt with
	refreshLate   = time.Second            // the least that a retry waits when they name no time
)

// session is the timer of a call; off when the interval is zero.
type session struct {
	interval time.Duration
	ours     bool      // we refresh, they otherwise
	ends     time.Time // when nobody has refreshed it
	clock    *time.Timer
	updates  bool // they know UPDATE
}

// parseInterval reads "1800;refresher=uas".
func parseInterval(value string) (interval time.Duration, refresher string) {
	number, params, _ := strings.Cut(value, ";")
	if number = strings.TrimSpace(number); number == "" {
		return 0, "" // as in most
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 {
		return 0, ""
	}
	refresher, _ = param(params, "refresher")
	return min(time.Duration(n)*time.Second, sessionMost), strings.ToLower(refresher)
}

// validateTimer: a session that would have to be refreshed all the time gets 422,
// if who asks knows what that means (RFC 4028 §9).
func validateTimer(m *raw, method string) *fault {
	if method != "INVITE" && method != "UPDATE" {
		return nil
	}
	interval, _ := parseInterval(m.get("session-expires"))
	if interval == 0 || interval >= sessionLeast {
		return nil
	}
	if !slices.Contains(m.list("supported"), "timer") && !slices.Contains(m.list("require"), "timer") {
		return nil
	}
	return &fault{status: intervalTooSmall, reason: reasonOf(intervalTooSmall), extra: []string{"Min-SE: " + inSeconds(sessionLeast)}}
}

const intervalTooSmall = 422 // Session Interval Too Small, RFC 4028 §6

func inSeconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// supports tells whether a message says that its sender knows an extension.
func supports(msg sip.Message, extension string) bool {
	return has(msg, extension, "supported", "k") || has(msg, extension, "require")
}

// has looks for a token among those of some headers.
func has(msg sip.Message, token string, names ...string) bool {
	for _, name := range names {
		for _, h := range msg.GetHeaders(name) {
			for t := range strings.SplitSeq(h.Value(), ",") {
				if strings.EqualFold(strings.TrimSpace(t), token) {
					return true
				}
			}
		}
	}
	return false
}

// grant decides about the timer that a request asks for (RFC 4028 §9, table 2) and
// completes its 2xx. Who can refresh and does not say otherwise does: each side
// knows best what it can do. c.mu is held.
func (c *Call) grant(req *sip.Request, res *sip.Response) {
	if req.Method != sip.INVITE && (req.Method != sip.UPDATE || c.state == ringing) {
		return
	}
	c.noteMethods(req)
	interval, refresher := parseInterval(header(req, "session-expires", "x"))
	knows := supports(req, "timer")
	switch {
	case !knows && interval == 0:
		if c.session.interval == 0 || !c.session.ours {
			c.disarm() // nobody would refresh
			return
		}
		interval, refresher = c.session.interval, "uas"
	case !knows: // a proxy asks
		refresher = "uas"
	case interval == 0 && c.session.interval != 0:
		interval = c.session.interval
	case interval == 0:
		least, _ := parseInterval(header(req, "min-se"))
		interval, refresher = max(sessionWanted, least), "uas" // RFC 4028 §9: no shorter than they can bear
	}
	if refresher != "uac" && refresher != "uas" {
		refresher = "uac"
		if c.session.interval != 0 && c.session.ours {
			refresher = "uas"
		}
	}
	interval = max(interval, sessionLeast)
	res.AppendHeader(sip.NewHeader("Session-Expires", inSeconds(interval)+";refresher="+refresher))
	if refresher == "uac" {
		res.AppendHeader(sip.NewHeader("Require", "timer"))
	}
	c.arm(interval, refresher == "uas")
}

// granted takes over what a 2xx to a request of ours says of the timer. c.mu is
// held.
func (c *Call) granted(res *sip.Response) {
	c.noteMethods(res)
	interval, refresher := parseInterval(header(res, "session-expires", "x"))
	switch {
	case interval != 0:
		c.arm(interval, refresher != "uas")
	case c.session.interval != 0: // RFC 4028 §7.2: they know of no timer, we may go on
		c.arm(c.session.interval, true)
	}
}

// noteMethods remembers whether the far side knows UPDATE. c.mu is held.
func (c *Call) noteMethods(msg sip.Message) {
	if len(msg.GetHeaders("allow")) > 0 {
		c.session.updates = has(msg, "UPDATE", "allow")
	}
}

// arm starts the timer anew. c.mu is held.
func (c *Call) arm(interval time.Duration, ours bool) {
	c.disarm()
	if c.state == over {
		return
	}
	c.session.interval, c.session.ours = interval, ours
	lasts := max(interval, sessionLeast) // a shorter one must end no call of ours
	c.session.ends = time.Now().Add(lasts - min(byeBefore, lasts/3))
	wait := time.Until(c.session.ends)
	if ours {
		wait = max(interval/2, renewLeast) // RFC 4028 §7.4
	}
	c.session.clock = time.AfterFunc(wait, func() { c.a.later(c.due) })
}

// rearm starts it anew as it was.
func (c *Call) rearm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.interval != 0 {
		c.arm(c.session.interval, c.session.ours)
	}
}

// disarm stops the timer. c.mu is held.
func (c *Call) disarm() {
	if c.session.clock != nil {
		c.session.clock.Stop()
	}
	c.session.interval, c.session.clock = 0, nil
}

// due is the timer's turn: a refresh, or the end of a call that nobody refreshed.
func (c *Call) due() {
	c.mu.Lock()
	s, gone := c.session, c.state == over
	c.mu.Unlock()
	switch {
	case gone || s.interval == 0:
	case time.Now().Before(s.ends) && s.ours:
		c.renew()
	case time.Now().Before(s.ends): // refreshed in this very instant
	default:
		c.expire()
	}
}

// expire ends a call whose far side does not refresh it (RFC 4028 §10), unless it
// is heard: somebody who speaks is no ghost, and is not cut off for a fault of
// their exchange.
func (c *Call) expire() {
	c.mu.Lock()
	stream := c.stream
	c.mu.Unlock()
	if stream != nil && stream.Silent() < heardLately {
		c.postpone(heardLately)
		return
	}
	c.a.log.Info("sip: nobody refreshed a session", "call", c.ID())
	c.hangUp(fmt.Errorf("%w: the session was not refreshed", ErrHungUp))
}

// postpone puts the timer's turn off.
func (c *Call) postpone(wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == over || c.session.clock == nil {
		return
	}
	c.session.clock.Reset(wait)
}

// errUnknown says that the far side knows nothing of the call.
var errUnknown = errors.New("no such call")

// renew refreshes the session. Any answer but one that says that there is no such
// call shows that the far side lives, which is all we wanted to know.
func (c *Call) renew() {
	err := c.refresh(c.ctx)
	switch {
	case err == nil || c.ctx.Err() != nil:
	case errors.Is(err, errUnknown): // RFC 3261 §12.2.1.2
		c.hangUp(fmt.Errorf("%w: %w", ErrHungUp, err))
	default:
		c.a.log.Debug("sip: a refresh failed", "call", c.ID(), "error", err)
		c.postpone(renewAgain)
	}
}

// refresh sends UPDATE where it is known, else a re-INVITE with the session as it
// stands, until there is an answer to go by.
func (c *Call) refresh(ctx context.Context) error {
	c.mu.Lock()
	interval, update := c.session.interval, c.session.updates
	c.mu.Unlock()
	var least time.Duration
	proofs := proofs{account: c.account}
	for range renewTries {
		extra := []sip.Header{sip.NewHeader("Supported", "timer"), sip.NewHeader("Session-Expires", inSeconds(interval)+";refresher=uac")}
		if least > 0 {
			extra = append(extra, sip.NewHeader("Min-SE", inSeconds(least)))
		}
		method := sip.INVITE
		if update {
			method = sip.UPDATE
		}
		res, err := c.renewBy(ctx, method, extra, &proofs)
		if err != nil {
			return err
		}
		wait := time.Duration(0)
		switch code := res.StatusCode; {
		case res.IsSuccess():
			c.mu.Lock()
			c.granted(res)
			c.mu.Unlock()
			return nil
		case code == sip.StatusRequestPending:
			wait = glareWait(c.tx == nil) // we made the Call-ID of those that we called
		case code == intervalTooSmall:
			if least, _ = parseInterval(header(res, "min-se")); least <= interval {
				c.rearm() // they refuse what they ask for
				return nil
			}
			interval = least
		case proofs.learn(res) == nil:
		case update && (code >= 400 && code < 500 || code == sip.StatusNotImplemented): // 405, 501, or something odd
			update = false
			c.mu.Lock()
			c.session.updates = false
			c.mu.Unlock()
		case code == sip.StatusCallTransactionDoesNotExists, code == sip.StatusRequestTimeout:
			return fmt.Errorf("%w: %w", errUnknown, statusError(code, res.Reason))
		case retryAfter(res) > 0 && retryAfter(res) <= retryMost*time.Second:
			wait = max(retryAfter(res), refreshLate)
		default: // refused, but somebody is there
			c.rearm()
			return nil
		}
		pause(ctx, wait)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return errors.New("put off too often")
}

// renewBy sends one refresh.
func (c *Call) renewBy(ctx context.Context, method sip.RequestMethod, extra []sip.Header, p *proofs) (*sip.Response, error) {
	if method == sip.UPDATE {
		req, f := c.dlg.request(sip.UPDATE, 0)
		req.AppendHeader(&sip.ContactHeader{Address: c.dlg.contact(f)})
		req.AppendHeader(sip.NewHeader("Allow", allow))
		for _, h := range extra {
			req.AppendHeader(h)
		}
		p.sign(req)
		res, err := c.a.ask(ctx, req, f, reinviteWait)
		if err == nil && res.IsSuccess() {
			c.dlg.refresh(res)
		}
		return res, err
	}
	for !c.reserve() {
		pause(ctx, renewPause)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	res, err := c.reinvite(ctx, extra, p)
	if err != nil || !res.IsSuccess() {
		c.release()
	}
	return res, err
}
