package sip

import (
	"time"

	"github.com/emiago/sipgo/sip"
)

// retry is what we have learned of why an INVITE of ours was not taken as it was.
// Each reason is believed a limited number of times: no far side can keep us busy.
type retry struct {
	redirects
	proofs
	interval time.Duration // that they want for the session; 0: ours will do
	reliable bool          // they want provisional answers acknowledged
}

// headers are what the next INVITE says for it, but for its proofs.
func (r *retry) headers() []sip.Header {
	interval := max(sessionWanted, r.interval)
	known := "timer"
	if r.reliable {
		known += ", " + reliably
	}
	list := []sip.Header{sip.NewHeader("Supported", known), sip.NewHeader("Session-Expires", inSeconds(interval))}
	if r.interval > 0 {
		list = append(list, sip.NewHeader("Min-SE", inSeconds(r.interval))) // RFC 4028 §7.4
	}
	return list
}

// learn takes the refusal of an INVITE; true: it is worth another one.
func (r *retry) learn(c *Call, res *sip.Response) bool {
	switch {
	case r.proofs.learn(res) == nil:
		return true
	case res.StatusCode == intervalTooSmall: // RFC 4028 §7.3
		least, _ := parseInterval(header(res, "min-se"))
		again := least > max(sessionWanted, r.interval)
		r.interval = max(r.interval, least)
		return again && r.interval < sessionMost
	case res.StatusCode == sip.StatusExtensionRequired && has(res, reliably, "require") && !r.reliable: // RFC 3261 §21.4.16
		r.reliable = true
		return true
	case res.StatusCode >= 600:
		return false // nowhere else either
	case res.StatusCode >= 300 && res.StatusCode <= 302:
		r.collect(c, res)
	}
	return r.next(c)
}
