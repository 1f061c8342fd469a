package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pronto-desk/pronto/ivr"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip"
)

// lines dials customers out by the trunk that takes our calls.
type lines struct {
	agent *sip.Agent
	names *sip.Locator
	out   trunk
	ups   *prometheus.GaugeVec // by target: whether it takes calls
	log   *slog.Logger

	mu     sync.Mutex // guards silent
	silent map[netip.AddrPort]bool
}

// Dial rings a customer until they answer; an *ivr.Unreached says why they do not.
// A switch of the carrier that does not take the call leaves it to the next
// (RFC 3263 §4.3); so does one that says only that it tries, for so long that it must
// be ill (RFC 3261 §16.8 has proxies wait for three minutes and more).
func (l *lines) Dial(ctx context.Context, number, id string) (ivr.Line, error) {
	o := sip.DialOptions{ID: id, Trunk: l.out.name, Account: l.out.account, From: l.out.caller, TCP: l.out.tcp, TLS: l.out.tls, SRTP: l.out.srtp}
	if l.out.asserted {
		o.Asserted = l.out.caller
	}
	o.Domain, o.Home = l.out.host, l.out.domain
	targets, err := l.targets(ctx)
	if err != nil {
		return nil, &ivr.Unreached{Outcome: outcomeOf(err), Err: err}
	}
	for i := range targets {
		o.Via, o.Progress = targets[i], l.out.progress
		if i == len(targets)-1 {
			o.Progress = 0 // there is no better one
		}
		var call *sip.Call
		call, err = l.agent.Dial(ctx, number, o)
		switch {
		case err == nil:
			return caller{call}, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !notTaken(err):
			return nil, &ivr.Unreached{Outcome: outcomeOf(err), Err: err}
		}
		l.log.Warn("a carrier's switch did not take a call", "trunk", l.out.name, "target", o.Via, "error", err)
		l.mu.Lock()
		l.silent[o.Via] = true // the next call need not find it out, too: it is the last choice until it answers an OPTIONS
		l.mu.Unlock()
	}
	return nil, &ivr.Unreached{Outcome: outcomeOf(err), Err: err}
}

// switches are those of a trunk, in the order that was configured or that the names
// give. While a name stands for nothing the others may do.
func (t trunk) switches(ctx context.Context, names *sip.Locator) ([]netip.AddrPort, error) {
	if t.host == "" {
		return append([]netip.AddrPort{t.target}, t.standby...), nil
	}
	list, err := names.Targets(ctx, t.host, t.port, t.tcp, t.tls)
	if list = append(list, t.standby...); len(list) == 0 {
		return nil, err
	}
	return list, nil
}

// targets are the carrier's switches: those that answer first.
func (l *lines) targets(ctx context.Context) ([]netip.AddrPort, error) {
	list, err := l.out.switches(ctx, l.names)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortStableFunc(list, func(a, b netip.AddrPort) int {
		switch {
		case l.silent[a] == l.silent[b]:
			return 0
		case l.silent[b]:
			return -1
		}
		return 1
	})
	return list, nil
}

// notTaken says whether it was the switch that failed, not the customer: no
// answer at all, or 5xx.
func notTaken(err error) bool {
	var status *sip.StatusError
	if errors.As(err, &status) {
		return status.Code >= 500 && status.Code < 600
	}
	return errors.Is(err, sip.ErrUnreachable)
}

// pingEvery is how long a switch that has died can cost a call five seconds.
const pingEvery = 30 * time.Second

// pinged are the trunks whose switches are asked by OPTIONS: the one that we dial by, if
// it has several to choose from, and those that we register with. A NAT between us and
// them forgets a way that nothing goes by long before the registration lapses.
func (h *house) pinged() (list []*lines) {
	for _, t := range h.trunks {
		l := &lines{agent: h.agent, names: &h.names, out: t, ups: h.ups, log: h.log, silent: map[netip.AddrPort]bool{}}
		dials := h.lines != nil && h.lines.out.name == t.name
		if dials {
			l = h.lines
		}
		if t.register != "" || dials && (len(t.standby) > 0 || t.host != "") {
			list = append(list, l)
		}
	}
	return list
}

// ping asks the switches whether they take calls, until ctx ends.
func (l *lines) ping(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		targets, err := l.out.switches(ctx, l.names)
		if err != nil && ctx.Err() == nil {
			l.log.Warn("a carrier's switches were not found", "trunk", l.out.name, "error", err)
		}
		for _, target := range targets {
			err := l.agent.Ping(ctx, target, l.out.tcp, l.out.tls)
			if ctx.Err() != nil {
				return nil
			}
			l.mu.Lock()
			was := l.silent[target]
			l.silent[target] = err != nil
			l.mu.Unlock()
			up := l.ups.WithLabelValues(l.out.name, target.String())
			if up.Set(1); err != nil {
				up.Set(0)
			}
			switch {
			case err != nil && !was:
				l.log.Warn("a carrier's switch takes no calls", "trunk", l.out.name, "target", target, "error", err)
			case err == nil && was:
				l.log.Info("a carrier's switch takes calls again", "trunk", l.out.name, "target", target)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// registrationLasts is asked of a carrier; most give less.
const registrationLasts = 10 * time.Minute

// keepRegistered tells a carrier where we are until ctx ends. The log and the
// metrics know how that goes.
func (h *house) keepRegistered(ctx context.Context, t trunk) {
	known := h.regs.WithLabelValues(t.name)
	var before string // what went wrong last
	first := true
	var locate func(context.Context) ([]netip.AddrPort, error)
	if t.host != "" {
		locate = func(ctx context.Context) ([]netip.AddrPort, error) { return t.switches(ctx, &h.names) }
	}
	h.agent.KeepRegistered(ctx, sip.RegisterOptions{
		Extension: t.register, User: t.account.User, Password: t.account.Password,
		Registrar: t.target, Locate: locate, TCP: t.tcp, TLS: t.tls, Domain: t.domain, Expires: registrationLasts,
	}, func(err error) {
		switch {
		case err != nil && err.Error() != before:
			known.Set(0)
			before = err.Error()
			h.log.Warn("a trunk has not registered us: its calls do not come", "trunk", t.name, "error", err)
		case err == nil && (first || before != ""):
			known.Set(1)
			before = ""
			h.log.Info("a trunk has registered us", "trunk", t.name)
		}
		first = false
	})
}

// outcomeOf says what a carrier's answer means for somebody who is rung back.
func outcomeOf(err error) queue.Outcome {
	var status *sip.StatusError
	if !errors.As(err, &status) {
		if errors.Is(err, sip.ErrNoAnswer) {
			return queue.NoAnswer
		}
		return queue.NoLine // the carrier's switch said nothing at all
	}
	switch status.Code {
	case 486, 600:
		return queue.Engaged
	case 408, 480, 487:
		return queue.NoAnswer
	case 404, 410, 484, 604:
		return queue.WrongNumber
	case 401, 402, 403, 407: // of us, not of the customer
		return queue.NoLine
	}
	if status.Code >= 500 && status.Code < 600 {
		return queue.NoLine
	}
	return queue.Rejected
}

// caller is a *sip.Call in the words of ivr.Call.
type caller struct{ *sip.Call }

// Answer says in ivr's words that there is no common codec.
func (c caller) Answer(ctx context.Context) error {
	err := c.Call.Answer(ctx)
	if errors.Is(err, sip.ErrNoCodec) {
		return fmt.Errorf("%w: %w", ivr.ErrNoCodec, err)
	}
	return err
}
