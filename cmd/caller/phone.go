package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
)

const (
	keyComma    = time.Second     // what a comma among the keys waits
	byeWait     = 2 * time.Second // for a hang-up to be on its way
	registerFor = time.Hour
)

// phone is the telephone: it dials, or it rings.
type phone struct {
	flags
	server netip.AddrPort
	agent  *sip.Agent
	diary  *diary
	said   []byte

	calls sync.WaitGroup // answered calls
	mu    sync.Mutex     // guards heard
	heard []byte
}

// dial makes the call and conducts it to its end.
func (p *phone) dial(ctx context.Context) error {
	p.diary.note("dials", "%s at %s", p.To, p.server)
	call, err := p.agent.Dial(ctx, p.To, sip.DialOptions{From: p.From, Asserted: p.asserted(), Anonymous: p.Anonymous, Via: p.server, TCP: p.TCP})
	if err != nil {
		return fmt.Errorf("not answered: %w", err)
	}
	p.diary.note("answered", "Call-ID %s", call.ID())
	p.conduct(ctx, call, 0)
	return p.save()
}

func (p *phone) asserted() string {
	if p.Anonymous {
		return ""
	}
	return p.From
}

// conduct listens, presses, speaks, and ends the call: when the other side hangs
// up, after talk (0: never), or with ctx.
func (p *phone) conduct(ctx context.Context, call *sip.Call, talk time.Duration) {
	alive, over := context.WithCancel(ctx)
	var parts sync.WaitGroup
	parts.Go(func() { p.listen(alive, call) })
	parts.Go(func() { p.press(alive, call) })
	parts.Go(func() { p.speak(alive, call) })
	var enough <-chan time.Time
	if talk > 0 {
		enough = time.After(talk)
	}
	select {
	case <-call.Done():
		p.diary.note("ended", "the other side hung up")
	case <-enough:
		p.diary.note("ended", "hung up after %s of talk", talk)
	case <-ctx.Done():
		p.diary.note("ended", "hung up after %s", p.For)
	}
	stats := call.Stream().Stats()
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), byeWait)
	defer cancel()
	call.Hangup(bye)
	over()
	parts.Wait()
	p.diary.note("packets", "%d in, %d out, %d lost, jitter %s", stats.In, stats.Out, stats.Lost, stats.Jitter.Round(time.Microsecond))
}

// listen keeps what is heard and notes when it changes between silence, a tone
// and sound.
func (p *phone) listen(ctx context.Context, call *sip.Call) {
	var e ear
	_ = call.Stream().Hear(ctx, func(alaw []byte) bool {
		p.mu.Lock()
		p.heard = append(p.heard, alaw...)
		p.mu.Unlock()
		if what, changed := e.hear(alaw); changed {
			p.diary.note("hears", "%s", what)
		}
		return true
	})
}

// press presses the keys of --press.
func (p *phone) press(ctx context.Context, call *sip.Call) {
	if p.Press == "" || !pause(ctx, p.PressAt) {
		return
	}
	for _, key := range p.Press {
		if key == ',' {
			if !pause(ctx, keyComma) {
				return
			}
			continue
		}
		if err := call.Stream().SendKeys(ctx, string(key)); err != nil {
			if ctx.Err() == nil {
				p.diary.note("failed", "press %c: %v", key, err)
			}
			return
		}
		p.diary.note("presses", "%c", key)
	}
}

// speak says the WAV of --say.
func (p *phone) speak(ctx context.Context, call *sip.Call) {
	if p.said == nil || !pause(ctx, p.SayAfter) {
		return
	}
	clip := audio.Clip{Name: p.Say, ALaw: p.said}
	p.diary.note("says", "%s, %s", p.Say, clip.Duration().Round(10*time.Millisecond))
	_ = call.Stream().Play(ctx, clip)
}

// save writes what was heard, when that is wanted.
func (p *phone) save() error {
	if p.Save == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := saveWAV(p.Save, p.heard); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}

// pause waits, or says false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// shift is the life of an operator's telephone: it registers, answers, and signs
// off when ctx ends.
func (p *phone) shift(ctx context.Context, local netip.AddrPort) error {
	if err := p.register(ctx, local, registerFor); err != nil {
		return err
	}
	p.diary.note("registered", "as %s at %s", p.Register, p.server)
	<-ctx.Done()
	p.calls.Wait()
	off, cancel := context.WithTimeout(context.WithoutCancel(ctx), byeWait)
	defer cancel()
	return errors.Join(p.register(off, local, 0), p.save())
}

// rings is what happens when the desk rings this telephone.
func (p *phone) rings(ctx context.Context, call *sip.Call) {
	p.calls.Add(1)
	defer p.calls.Done()
	p.diary.note("rings", "%s %s", call.From(), call.Name())
	switch {
	case p.Decline > 0:
		_ = call.Refuse(ctx, p.Decline, 0)
		p.diary.note("declined", "%d", p.Decline)
		return
	case p.AnswerAfter < 0, !pause(ctx, p.AnswerAfter):
		<-ctx.Done()
		p.diary.note("stopped ringing", "%v", context.Cause(ctx))
		return
	}
	if err := call.Answer(ctx); err != nil {
		p.diary.note("failed", "answer: %v", err)
		return
	}
	p.diary.note("answered", "Call-ID %s", call.ID())
	talk, cancel := context.WithCancel(ctx)
	defer cancel()
	p.conduct(talk, call, p.Talk)
}

// dialUDP is a socket of our address beside the agent's, for the registration:
// the agent only answers calls.
func dialUDP(local, server netip.AddrPort) (*net.UDPConn, error) {
	return net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local.Addr(), 0)), net.UDPAddrFromAddrPort(server))
}

// printable keeps what a server says from writing more than a line.
func printable(s string) string {
	line, _, _ := strings.Cut(s, "\r\n")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, line[:min(len(line), 120)])
}
