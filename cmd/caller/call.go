package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

const (
	keySpacing  = time.Second   // between keys without a time
	longestSave = 8 * time.Hour // of sound kept for --save: 230 MB
	allKeys     = "0123456789*#ABCD"
)

// press is keys to be pressed some time after the answer.
type press struct {
	keys string
	at   time.Duration
}

// parseKeys reads "1@2s,23#@9s,4".
func parseKeys(text string) (list []press, err error) {
	var last time.Duration
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		keys, when, timed := strings.Cut(part, "@")
		at := last + keySpacing
		if timed {
			if at, err = time.ParseDuration(strings.TrimSpace(when)); err != nil || at < 0 {
				return nil, fmt.Errorf("%q: a time such as 2s or 1500ms is missing after @", part)
			}
		}
		keys = strings.ToUpper(strings.TrimSpace(keys))
		if keys == "" || strings.Trim(keys, allKeys) != "" {
			return nil, fmt.Errorf("%q: keys are 0-9, *, #, A-D", part)
		}
		if at < last {
			return nil, fmt.Errorf("%q: before the key that precedes it", part)
		}
		list = append(list, press{keys, at})
		last = at
	}
	return list, nil
}

// parsePress reads "2,,1": digits, and commas that wait.
func parsePress(text string, at time.Duration) (list []press, err error) {
	for _, r := range strings.ToUpper(text) {
		switch {
		case r == ',':
			at += keySpacing
		case strings.ContainsRune(allKeys, r):
			list = append(list, press{string(r), at})
		default:
			return nil, fmt.Errorf("%q: keys are 0-9, *, #, A-D, and commas to wait", r)
		}
	}
	return list, nil
}

// localFor is the address to send from.
func localFor(text string, server netip.AddrPort) (netip.AddrPort, error) {
	if text == "" {
		if server.Addr() == netip.MustParseAddr("127.0.0.1") || server.Addr() == netip.IPv6Loopback() {
			return netip.AddrPortFrom(server.Addr(), 0), nil
		}
		// No packet is sent: the kernel only says which interface it would take.
		conn, err := net.Dial("udp", server.String())
		if err != nil {
			return netip.AddrPort{}, err
		}
		defer conn.Close()
		ap, err := netip.ParseAddrPort(conn.LocalAddr().String())
		return netip.AddrPortFrom(ap.Addr().Unmap(), 0), err
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(ip, 0), nil
	}
	return netip.ParseAddrPort(text)
}

// dial makes the call and lives through it.
func (p *plan) dial(ctx context.Context, agent *sip.Agent) int {
	o := sip.DialOptions{From: p.From, Name: p.Name, Asserted: p.Asserted, Anonymous: p.Anonymous, Diversion: p.Diversion, Via: p.server, TCP: p.TCP, LateOffer: p.LateOffer}
	switch p.Law {
	case "pcma":
		o.Laws = []uint8{uint8(audio.PCMA)}
	case "pcmu":
		o.Laws = []uint8{uint8(audio.PCMU)}
	case "g722":
		o.Laws = []uint8{uint8(audio.G722)}
	}
	p.say.note("dials", "number", p.To, "server", p.server.String(), "from", agent.Addr().String())
	began := time.Now()
	patient, giveUp := context.WithTimeout(ctx, p.Patience)
	call, err := agent.Dial(patient, p.To, o)
	giveUp()
	if err != nil {
		return p.notAnswered(err)
	}
	p.say.note("answered", "after_ms", time.Since(began).Milliseconds(), "call_id", call.ID())
	heard, err := p.talk(ctx, call, p.For)
	return p.summary(call, heard, err)
}

// notAnswered says why there was no call.
func (p *plan) notAnswered(err error) int {
	var status *sip.StatusError
	switch {
	case errors.Is(err, sip.ErrNoCodec):
		p.say.note("refused", "reason", "no common codec")
		return exitRefused
	case errors.As(err, &status) && status.Code != 408 && status.Code != 480:
		p.say.note("refused", "status", status.Code, "reason", status.Reason)
		return exitRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, sip.ErrNoAnswer):
		p.say.note("no answer")
	case errors.Is(err, context.Canceled):
		p.say.note("gave up")
	default:
		p.say.note("unreachable", "reason", err.Error())
	}
	return exitUnreachable
}

// talk is the answered call: ears, voice and fingers at once, until it ends.
func (p *plan) talk(ctx context.Context, call *sip.Call, longest time.Duration) (*ear, error) {
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	began := time.Now()
	var parts sync.WaitGroup
	stream := call.Stream()
	e := &ear{say: p.say, keep: p.Save != ""}
	parts.Go(func() { _ = stream.Hear(ctx, e.hear) })
	if len(p.speech.ALaw) > 0 {
		parts.Go(func() {
			if !pause(ctx, p.SayAfter) {
				return
			}
			p.say.note("speaks", "file", p.Say, "seconds", p.speech.Duration().Seconds())
			if stream.Play(ctx, p.speech) == nil {
				p.say.note("has spoken")
			}
		})
	}
	parts.Go(func() { p.pressAll(ctx, stream, began) })
	var limit <-chan time.Time
	if longest > 0 {
		t := time.NewTimer(longest)
		defer t.Stop()
		limit = t.C
	}
	select {
	case <-call.Done():
		p.say.note("the other side hung up", "after_s", seconds(time.Since(began)))
	case <-limit:
		p.say.note("hangs up", "after_s", seconds(time.Since(began)))
	case <-ctx.Done():
		p.say.note("hangs up", "reason", "interrupted", "after_s", seconds(time.Since(began)))
	}
	call.Hangup(context.WithoutCancel(ctx))
	hangUp()
	parts.Wait()
	e.flush()
	return e, p.save(e)
}

// pressAll presses the keys of the plan at their times.
func (p *plan) pressAll(ctx context.Context, stream *media.Stream, began time.Time) {
	for _, k := range p.presses {
		if !pause(ctx, time.Until(began.Add(k.at))) {
			return
		}
		p.say.note("presses", "keys", k.keys)
		if err := stream.SendKeys(ctx, k.keys); err != nil && ctx.Err() == nil {
			p.say.note("could not press", "keys", k.keys, "reason", err.Error())
			return
		}
	}
}

// pause waits; false: ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// save writes what was heard.
func (p *plan) save(e *ear) error {
	if p.Save == "" {
		return nil
	}
	file, err := os.Create(p.Save)
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	if err := errors.Join(audio.WritePCMWAV(file, e.sound), file.Close()); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	p.say.note("saved", "file", p.Save, "seconds", seconds(time.Duration(len(e.sound))*time.Second/audio.Rate))
	return nil
}

// summary says what the call came to.
func (p *plan) summary(call *sip.Call, e *ear, err error) int {
	s := call.Stream().Stats()
	p.say.note("ended", "heard_s", seconds(e.total), "sound_s", seconds(e.loud), "packets_in", s.In, "packets_out", s.Out,
		"lost", s.Lost, "jitter_ms", float64(s.Jitter.Microseconds())/1000)
	switch {
	case err != nil:
		p.say.note("failed", "reason", err.Error())
		return exitFailed
	case s.In == 0:
		return exitSilent
	}
	return exitFine
}

func seconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Millisecond)) / float64(time.Second)
}
