package sip

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	registerLongest = 8 * time.Second // a registrar may take to answer one REGISTER
	registerTries   = 8               // challenges of two proxies and the registrar, one more because a nonce was stale, a time that was too short, and some to spare
	registerMost    = time.Hour       // asked of a registrar that finds our time too short
	registerSpare   = 10 * time.Second
	registerAgain   = 5 * time.Second // after the first failure, doubled with each up to
	registerRarely  = 5 * time.Minute
	goodbyeLongest  = 2 * time.Second
)

// RegisterOptions say where and as whom we register: as the telephone of an
// extension (cmd/caller, tests), or as the account of a trunk.
type RegisterOptions struct {
	Extension string // the account, the user part of its address
	User      string // of the digest; "": Extension
	Password  string
	Registrar netip.AddrPort
	// Locate finds the registrar by name before each try of KeepRegistered; nil:
	// it is at Registrar.
	Locate  func(context.Context) ([]netip.AddrPort, error)
	Domain  string // of the account's address; "": the registrar's address
	TCP     bool
	TLS     *tls.Config   // over TLS, with whom it names; nil: not
	Expires time.Duration // 0 takes the binding away

	series *series // of KeepRegistered
}

// series is what all the registrations of an account have in common (RFC 3261 §10.2.4): a
// registrar tells by it which of two is the newer.
type series struct {
	callID string
	seq    uint32
}

// Register says where an account is reached. It gives the time after which the
// registrar forgets us; register again before. A registrar that finds the time
// too short (423, RFC 3261 §10.2.8) gets the one it wants. Errors are *StatusError
// for a refusal.
func (a *Agent) Register(ctx context.Context, o RegisterOptions) (time.Duration, error) {
	f, err := a.outFlow(o.Registrar, transportOf(o.TCP, o.TLS), o.TLS)
	if err != nil {
		return 0, err
	}
	host := o.Domain
	if host == "" {
		host = hostText(o.Registrar.Addr())
	}
	own := sip.Uri{Scheme: "sip", User: escapeUser(o.Extension), Host: host}
	target := sip.Uri{Scheme: "sip", Host: host}
	if o.Domain == "" {
		target.Port = int(o.Registrar.Port())
	}
	d := newClientDialog(a, sip.FromHeader{Address: own}, sip.ToHeader{Address: own}, target, f)
	if s := o.series; s != nil {
		if s.callID == "" {
			s.callID, s.seq = d.callID, d.seq
		}
		d.callID, d.seq = s.callID, s.seq
		defer func() { s.seq = d.seq }()
	}
	proofs := proofs{account: o.account()}
	for try := 1; ; try++ {
		req, f := d.request(sip.REGISTER, 0)
		req.AppendHeader(&sip.ContactHeader{Address: ownURI(own.User, f)})
		req.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(int(o.Expires/time.Second))))
		proofs.sign(req)
		res, err := a.ask(ctx, req, f, registerLongest)
		if err != nil {
			return 0, fmt.Errorf("register: %w", err)
		}
		switch {
		case res.IsSuccess():
			return grantedExpires(res, ownURI(own.User, f), o.Expires), nil
		case try == registerTries:
			return 0, fmt.Errorf("register: %w", refusal(res))
		case res.StatusCode == sip.StatusIntervalToBrief && o.Expires > 0:
			longer := leastExpires(res)
			if longer <= o.Expires || longer > registerMost {
				return 0, fmt.Errorf("register: %w", refusal(res))
			}
			o.Expires = longer
		case proofs.learn(res) == nil:
		default:
			return 0, fmt.Errorf("register: %w", refusal(res))
		}
	}
}

func (o RegisterOptions) account() Account {
	if o.User == "" {
		return Account{o.Extension, o.Password}
	}
	return Account{o.User, o.Password}
}

// leastExpires is what a 423 wants; 0 when it does not say.
func leastExpires(res *sip.Response) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(header(res, "min-expires")))
	if err != nil || n < 0 || n > int(registerMost/time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}

// KeepRegistered keeps an account registered until ctx ends, then takes the
// binding away. tell hears of every try: nil, or why it failed; the next comes
// after five seconds, or when the registrar says, and more rarely as they go on failing. So it does when the
// connection that we registered by ends: by it the registrar would reach us.
func (a *Agent) KeepRegistered(ctx context.Context, o RegisterOptions, tell func(error)) {
	if !a.begin() { // Run waits for the goodbye too
		return
	}
	defer a.work.Done()
	o.series = new(series)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with ctx
		select {
		case <-a.quit:
			stop()
		case <-ctx.Done():
		}
	}()
	defer func() {
		if !o.Registrar.IsValid() {
			return // its name was never found
		}
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeLongest)
		defer cancel()
		o.Expires = 0
		_, _ = a.Register(bye, o) // the registrar forgets us by itself
	}()
	pause := registerAgain
	for {
		granted, err := a.registerAt(ctx, &o)
		if ctx.Err() != nil {
			return
		}
		tell(err)
		next := pause
		var refused *StatusError
		if errors.As(err, &refused) { // RFC 3261 §21.5.4, in bounds: its calls do not come meanwhile
			next = max(next, min(refused.After, registerRarely))
		}
		var lost <-chan struct{}
		if err == nil {
			next = max(granted/2, granted-6*registerSpare) // time for some tries before it lapses
			lost = a.lost(o)
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-lost: // RFC 5626 §4.5: not in step with all who lost theirs in this instant
			timer.Reset(pause/2 + rand.N(pause/2))
			err = errNoConnection
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = registerAgain
		} else {
			pause = min(2*pause, registerRarely)
		}
	}
}

// lost is closed when the connection with a registrar ends; nil: there is none.
func (a *Agent) lost(o RegisterOptions) <-chan struct{} {
	f, err := a.outFlow(o.Registrar, transportOf(o.TCP, o.TLS), o.TLS)
	if err != nil || !f.tcp {
		return nil
	}
	c := a.connOf(f)
	if c == nil { // it has ended already
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return c.done
}

// registerAt registers at the first of the registrar's addresses that takes it (RFC
// 3263 §4.3); o remembers which that was.
func (a *Agent) registerAt(ctx context.Context, o *RegisterOptions) (granted time.Duration, err error) {
	if o.Locate == nil {
		return a.Register(ctx, *o)
	}
	list, err := o.Locate(ctx)
	if err != nil {
		return 0, fmt.Errorf("register: %w", err)
	}
	if i := slices.Index(list, o.Registrar); i > 0 { // who knows us is asked first
		list = slices.Insert(slices.Delete(slices.Clone(list), i, i+1), 0, o.Registrar)
	}
	for _, o.Registrar = range list {
		granted, err = a.Register(ctx, *o)
		var status *StatusError
		if err == nil || ctx.Err() != nil || errors.As(err, &status) && status.Code < 500 {
			break
		}
	}
	return granted, err
}

// grantedExpires is the time that the registrar gave to our own contact. It tells of
// all that an account has (RFC 3261 §10.2.4): of another node of ours, of one of before
// a restart that will soon be forgotten. Where ours is written otherwise, by an exchange
// on the way, the shortest of all holds: early is not late.
func grantedExpires(res *sip.Response, own sip.Uri, asked time.Duration) time.Duration {
	general := inHeader(header(res, "expires"))
	var shortest time.Duration
	for _, h := range res.GetHeaders("contact") {
		for _, c := range addresses(h.Value()) {
			v, _ := param(c.params, "expires")
			given := cmp.Or(inHeader(v), general)
			if given == 0 {
				continue
			}
			if isContact(c.uri, own) {
				return given
			}
			if shortest == 0 || given < shortest {
				shortest = given
			}
		}
	}
	return cmp.Or(shortest, general, asked)
}

// inHeader reads a number of seconds; 0: there is none that makes sense.
func inHeader(text string) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// isContact tells whether an address is that of a contact of ours (RFC 3261 §19.1.4).
func isContact(text string, own sip.Uri) bool {
	var uri sip.Uri
	if sip.ParseUri(text, &uri) != nil {
		return false
	}
	port := func(u sip.Uri) int {
		if u.Port == 0 {
			return sip.DefaultUdpPort
		}
		return u.Port
	}
	return uri.User == own.User && strings.EqualFold(strings.Trim(uri.Host, "[]"), strings.Trim(own.Host, "[]")) && port(uri) == port(own)
}
