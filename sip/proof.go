package sip

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Who we are is asked by whom a request is for and by each proxy on its way, one after
// the other or all at once, and each knows us by a realm of its own. A request that has
// been refused goes again with what all of them have asked for so far (RFC 3261 §22.3).
// Each refusal must bring something new, so nobody can keep us busy.

const (
	realmsMost = 4 // that ask for one request: two proxies before the one whom it is for, and one to spare
	stalesMost = 2 // times that a realm may say that its nonce has aged meanwhile
)

var errNoChallenge = errors.New("no challenge that we can answer")

// Account answers challenges.
type Account struct {
	User, Password string
}

// challenges says whether a response asks for credentials.
func challenges(res *sip.Response) bool {
	return res.StatusCode == sip.StatusUnauthorized || res.StatusCode == sip.StatusProxyAuthRequired
}

// proofs are what is known of those who have asked for one.
type proofs struct {
	account Account
	asked   []*proof
}

// proof is what one realm wants.
type proof struct {
	proxy     bool // it asked as a proxy does
	challenge credentials
	uses      uint32 // of the nonce (RFC 7616 §3.4: each has a number of its own)
	stales    int
}

// learn takes what a refusal asks for; an error: nothing that another request would be
// worth.
func (p *proofs) learn(res *sip.Response) error {
	if !challenges(res) || p.account.User == "" {
		return errNoChallenge
	}
	news := false
	for _, c := range slices.Concat(strongest(res, false), strongest(res, true)) {
		before := slices.IndexFunc(p.asked, func(o *proof) bool { return o.proxy == c.proxy && o.challenge.realm == c.challenge.realm })
		switch {
		case before < 0 && len(p.asked) < realmsMost:
			p.asked, news = append(p.asked, c), true
		case before < 0:
		default:
			o := p.asked[before]
			if c.challenge.stale && o.stales < stalesMost { // RFC 7616 §3.3: the password was right
				o.stales++
				news = true
			}
			o.challenge, o.uses = c.challenge, 0
		}
	}
	if !news {
		return errNoChallenge
	}
	return nil
}

// strongest are the challenges of a response by its proxies or by whom the request was
// for, one of each realm: the strongest that we know (RFC 8760 §2.4).
func strongest(res *sip.Response, proxy bool) (list []*proof) {
	name := "www-authenticate"
	if proxy {
		name = "proxy-authenticate"
	}
	for _, h := range res.GetHeaders(name) {
		c, ok := parseCredentials(h.Value())
		if !ok || c.nonce == "" || c.algorithm != algorithmMD5 && c.algorithm != algorithmSHA256 || c.qop != "" && !offersAuth(c.qop) {
			continue
		}
		i := slices.IndexFunc(list, func(p *proof) bool { return p.challenge.realm == c.realm })
		switch {
		case i < 0:
			list = append(list, &proof{proxy: proxy, challenge: c})
		case c.algorithm == algorithmSHA256:
			list[i].challenge = c
		}
	}
	return list
}

// offersAuth tells whether a list of qop has "auth": that the body be proved too
// (auth-int) is more than we do.
func offersAuth(list string) bool {
	for q := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(q) == "auth" {
			return true
		}
	}
	return false
}

// sign adds to a request what everybody has asked for so far, and gives what it added:
// the ACK of an INVITE repeats it (RFC 3261 §13.2.2.4).
func (p *proofs) sign(req *sip.Request) (added []sip.Header) {
	for _, o := range p.asked {
		h := o.answer(p.account, string(req.Method), req.Recipient.String())
		req.AppendHeader(h)
		added = append(added, h)
	}
	return added
}

// signAlike adds to an ACK what its INVITE was signed with.
func signAlike(ack *sip.Request, signed []sip.Header) {
	for _, h := range signed {
		ack.AppendHeader(sip.HeaderClone(h))
	}
}

// answer is the proof for one request.
func (o *proof) answer(a Account, method, uri string) sip.Header {
	c := o.challenge
	c.username, c.uri = a.User, uri
	if c.qop != "" {
		o.uses++
		c.qop, c.nc, c.cnonce = "auth", fmt.Sprintf("%08x", o.uses), randomText()
	}
	ha1, long := HA1(a.User, c.realm, a.Password)
	if c.algorithm == algorithmSHA256 {
		ha1 = long
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Digest username=%s, realm=%s, nonce=%s, uri=%s, response=%q, algorithm=%s",
		quote(c.username), quote(c.realm), quote(c.nonce), quote(c.uri), c.digestResponse(ha1, method), c.algorithm)
	if c.qop != "" {
		fmt.Fprintf(&b, ", qop=auth, nc=%s, cnonce=%q", c.nc, c.cnonce)
	}
	if c.opaque != "" {
		fmt.Fprintf(&b, ", opaque=%s", quote(c.opaque))
	}
	if o.proxy {
		return sip.NewHeader("Proxy-Authorization", b.String())
	}
	return sip.NewHeader("Authorization", b.String())
}

// insist sends a request inside the call, again for as long as somebody asks for another
// proof.
func (c *Call) insist(write func() (*sip.Request, flow), longest time.Duration) (*sip.Response, error) {
	p := proofs{account: c.account}
	for {
		req, f := write()
		p.sign(req)
		res, err := c.a.ask(c.a.ctx, req, f, longest)
		if err != nil || p.learn(res) != nil {
			return res, err
		}
	}
}
