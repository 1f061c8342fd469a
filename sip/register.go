package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// registerLongest is how long a registrar may take to answer one REGISTER.
const registerLongest = 8 * time.Second

// RegisterOptions say where and as whom a telephone of ours registers.
type RegisterOptions struct {
	Extension string
	Password  string
	Registrar netip.AddrPort
	TCP       bool
	Expires   time.Duration // 0 takes the binding away
}

// Register makes this agent the telephone of an extension (cmd/caller, tests).
// It gives the time after which the registrar forgets us; register again before.
// Errors are *StatusError for a refusal.
func (a *Agent) Register(ctx context.Context, o RegisterOptions) (time.Duration, error) {
	f, err := a.outFlow(o.Registrar, o.TCP)
	if err != nil {
		return 0, err
	}
	host := hostText(o.Registrar.Addr())
	own := sip.Uri{Scheme: "sip", User: escapeUser(o.Extension), Host: host}
	target := sip.Uri{Scheme: "sip", Host: host, Port: int(o.Registrar.Port())}
	d := newClientDialog(a, sip.FromHeader{Address: own}, sip.ToHeader{Address: own}, target, f)
	var authorization string
	for try := 0; ; try++ {
		req, f := d.request(sip.REGISTER, 0)
		req.AppendHeader(&sip.ContactHeader{Address: ownURI(own.User, f)})
		req.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(int(o.Expires/time.Second))))
		if authorization != "" {
			req.AppendHeader(sip.NewHeader("Authorization", authorization))
		}
		res, err := a.ask(ctx, req, f, registerLongest)
		if err != nil {
			return 0, fmt.Errorf("register: %w", err)
		}
		switch {
		case res.IsSuccess():
			return grantedExpires(res, o.Expires), nil
		case res.StatusCode == sip.StatusUnauthorized && try < 2: // once more when the nonce was stale
			if authorization, err = authorize(res, o, req.Recipient.String()); err != nil {
				return 0, fmt.Errorf("register: %w", err)
			}
		default:
			return 0, fmt.Errorf("register: %w", statusError(res.StatusCode, res.Reason))
		}
	}
}

// grantedExpires is the time that the registrar gave.
func grantedExpires(res *sip.Response, asked time.Duration) time.Duration {
	for _, h := range res.GetHeaders("contact") {
		for _, c := range addresses(h.Value()) {
			if v, ok := param(c.params, "expires"); ok {
				if n, err := strconv.Atoi(v); err == nil && n > 0 {
					return time.Duration(n) * time.Second
				}
			}
		}
	}
	return asked
}

var errNoChallenge = errors.New("no challenge that we can answer")

// authorize answers the strongest challenge (RFC 8760 §2.4).
func authorize(res *sip.Response, o RegisterOptions, uri string) (string, error) {
	var best credentials
	for _, h := range res.GetHeaders("www-authenticate") {
		c, ok := parseCredentials(h.Value())
		if !ok || c.algorithm != algorithmMD5 && c.algorithm != algorithmSHA256 {
			continue
		}
		if best.nonce == "" || c.algorithm == algorithmSHA256 {
			best = c
		}
	}
	if best.nonce == "" {
		return "", errNoChallenge
	}
	best.username, best.uri = o.Extension, uri
	if best.qop != "" { // "auth" or a list with it
		best.qop, best.nc, best.cnonce = "auth", "00000001", randomText()
	}
	ha1, ha1Long := HA1(o.Extension, best.realm, o.Password)
	if best.algorithm == algorithmSHA256 {
		ha1 = ha1Long
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Digest username=%s, realm=%s, nonce=%s, uri=%s, response=%q, algorithm=%s",
		quote(best.username), quote(best.realm), quote(best.nonce), quote(best.uri), best.digestResponse(ha1, string(sip.REGISTER)), best.algorithm)
	if best.qop != "" {
		fmt.Fprintf(&b, ", qop=auth, nc=%s, cnonce=%q", best.nc, best.cnonce)
	}
	return b.String(), nil
}
