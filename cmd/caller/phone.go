package main

import (
	"context"
	"errors"
	"time"

	"github.com/pronto-desk/pronto/sip"
)

const (
	registration   = 5 * time.Minute // asked for; renewed at half of what is granted
	registerAgain  = 5 * time.Second // after a registrar that did not answer
	unregisterWait = 2 * time.Second
)

// operator conducts the calls that ring an operator's telephone.
func (p *plan) operator(results chan<- int) func(context.Context, *sip.Call) {
	calls := 0
	turn := make(chan struct{}, 1) // one handset: one call at a time
	return func(ctx context.Context, call *sip.Call) {
		select {
		case turn <- struct{}{}:
		default:
			p.say.note("busy", "caller", call.From())
			_ = call.Refuse(ctx, 486, 0)
			return
		}
		code := p.serve(ctx, call)
		calls++
		last := p.Calls > 0 && calls >= p.Calls
		<-turn
		if last {
			results <- code
		}
	}
}

// serve is one call at the operator's telephone.
func (p *plan) serve(ctx context.Context, call *sip.Call) int {
	p.say.note("rings", "caller", call.From(), "name", call.Name(), "call_id", call.ID())
	if p.Decline != 0 {
		p.say.note("declines", "status", p.Decline)
		_ = call.Refuse(ctx, p.Decline, 0)
		return exitFine
	}
	_ = call.Alert()
	if !p.ringing(ctx) {
		p.say.note("stopped ringing")
		return exitUnreachable
	}
	if err := call.Answer(ctx); err != nil {
		p.say.note("could not answer", "reason", err.Error())
		return exitFailed
	}
	p.say.note("lifts the handset")
	heard, err := p.talk(ctx, call, p.Talk)
	return p.summary(call, heard, err)
}

// ringing waits as long as the operator takes; false: the caller gave up before.
func (p *plan) ringing(ctx context.Context) bool {
	if p.AnswerAfter < 0 {
		<-ctx.Done()
		return false
	}
	return pause(ctx, p.AnswerAfter)
}

// wait keeps the telephone registered until it is enough.
func (p *plan) wait(ctx context.Context, agent *sip.Agent, results <-chan int) int {
	o := sip.RegisterOptions{Extension: p.Register, Password: p.Password, Registrar: p.server, TCP: p.TCP, Expires: registration}
	defer func() { // the server should not ring us any more
		o.Expires = 0
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), unregisterWait)
		defer cancel()
		_, _ = agent.Register(bye, o)
	}()
	first := true
	for {
		granted, err := agent.Register(ctx, o)
		var status *sip.StatusError
		next := registerAgain
		switch {
		case err == nil:
			if first {
				p.say.note("registered", "extension", p.Register, "server", p.server.String(), "for_s", granted.Seconds())
			}
			first = false
			next = granted / 2
		case ctx.Err() != nil:
			return exitFine
		case errors.As(err, &status) && status.Code >= 400 && status.Code < 500:
			p.say.note("not registered", "status", status.Code, "reason", status.Reason)
			return exitPassword
		default:
			p.say.note("not registered", "reason", err.Error())
		}
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case code := <-results:
			t.Stop()
			return code
		case <-ctx.Done():
			t.Stop()
			return exitFine
		}
	}
}
