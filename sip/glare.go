package sip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// A session is renegotiated by one side at a time. Whoever asks while the other
// side's offer is open gets 491 and asks again after a while that differs for the
// two (RFC 3261 §14); whoever asks twice gets 500 and is told when to come back.

const (
	glareOwnerLeast = 2100 * time.Millisecond // RFC 3261 §14.1: who made the Call-ID waits 2.1 to 4 s
	glareOwnerMost  = 4 * time.Second
	glareOtherMost  = 2 * time.Second       // the other side at most so long
	glareStep       = 10 * time.Millisecond // in units of this
	retryMost       = 10                    // seconds, in Retry-After (RFC 3261 §14.2, RFC 3311 §5.2)
	reinviteWait    = 32 * time.Second      // 64·T1 for the final answer to a re-INVITE; then CANCEL
	holdTries       = 4                     // of one key: that 491 comes each time is no chance any more
	renewTries      = 8                     // of one refresh: 491, 422, a challenge and a UPDATE that is not known may all come
)

// glareWait is how long we wait after a 491 (RFC 3261 §14.1).
func glareWait(owner bool) time.Duration {
	if owner {
		steps := int64((glareOwnerMost - glareOwnerLeast) / glareStep)
		return glareOwnerLeast + time.Duration(rand.Int64N(steps+1))*glareStep
	}
	return time.Duration(rand.Int64N(int64(glareOtherMost/glareStep)+1)) * glareStep
}

// busy says with which answer an offer of theirs is put off, 0: it is welcome.
// c.mu is held.
func (c *Call) busy() int {
	switch {
	case c.state == ringing && c.tx != nil, c.inviting:
		return sip.StatusInternalServerError // an offer of theirs is open (RFC 3261 §14.2)
	case c.state == ringing, c.waiting != nil, c.offering:
		return sip.StatusRequestPending // one of ours is (same clause)
	}
	return 0
}

// putOff answers a request that came at a bad time.
func (a *Agent) putOff(req *sip.Request, tx sip.ServerTransaction, status int) {
	if status == sip.StatusInternalServerError {
		a.respond(req, tx, status, sip.NewHeader("Retry-After", fmt.Sprint(rand.IntN(retryMost+1))))
		return
	}
	a.respond(req, tx, status)
}

// retryAfter reads "18 (in a meeting);duration=60"; 0: nothing that makes sense.
func retryAfter(res *sip.Response) time.Duration {
	n, err := strconv.ParseUint(leadingDigits(header(res, "retry-after")), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

func leadingDigits(s string) string {
	s = strings.TrimSpace(s)
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	return s[:end]
}

// reserve takes the right to make an offer; false: not now. release gives it back.
func (c *Call) reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != talking || c.waiting != nil || c.inviting || c.offering {
		return false
	}
	c.offering = true
	return true
}

func (c *Call) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offering = false
}

// reinvite sends the session as it stands in a re-INVITE and gives the final
// answer; a 2xx has been acknowledged. Whatever is refused leaves the session as it
// was (RFC 3261 §14.1). The caller has reserved the right to it, and releases it unless
// there is a 2xx: who has our ACK may offer at once.
func (c *Call) reinvite(ctx context.Context, extra []sip.Header, p *proofs) (*sip.Response, error) {
	req, f := c.dlg.request(sip.INVITE, 0)
	c.mu.Lock()
	body := c.local.again()
	c.mu.Unlock()
	req.AppendHeader(&sip.ContactHeader{Address: c.dlg.contact(f)})
	req.AppendHeader(sip.NewHeader("Allow", allow))
	for _, h := range extra {
		req.AppendHeader(h)
	}
	req.AppendHeader(sip.NewHeader("Content-Type", sdpType))
	req.SetBody(body)
	signed := p.sign(req)
	tx, err := c.a.start(ctx, req, f)
	if err != nil {
		return nil, err
	}
	limit := time.NewTimer(reinviteWait)
	defer limit.Stop()
	provisional, canceled := false, false
	for {
		select {
		case res := <-tx.Responses():
			switch {
			case res.IsProvisional():
				provisional = true
			case res.IsSuccess():
				c.rejoined(res, signed)
				tx.Terminate() // further ones come as strays, and are acknowledged
				return res, nil
			default:
				return res, nil // the transaction stays, to acknowledge it again
			}
		case <-limit.C:
			if canceled || !provisional {
				tx.Terminate()
				return nil, fmt.Errorf("re-INVITE: %w", ErrUnreachable)
			}
			canceled = true
			c.a.cancelInvite(ctx, req, f, nil)
			limit.Reset(cancelWait)
		case <-tx.Done():
			return nil, fmt.Errorf("re-INVITE: %w", tx.Err())
		case <-ctx.Done():
			tx.Terminate()
			return nil, context.Cause(ctx)
		case <-c.a.stopped:
			tx.Terminate()
			return nil, errStopping
		}
	}
}

// Hold tells the far side that we take no sound, or take it again (RFC 3264 §8.4). What
// is refused leaves the session as it was.
func (c *Call) Hold(ctx context.Context, on bool) error {
	ctx, done := c.alive(ctx)
	defer done()
	dir := sendRecv
	if on {
		dir = sendOnly
	}
	proofs := proofs{account: c.account}
	for range holdTries {
		res, err := c.turn(ctx, dir, &proofs)
		switch {
		case err != nil:
			return fmt.Errorf("hold: %w", err)
		case res.IsSuccess():
			return nil
		case proofs.learn(res) == nil:
			continue
		case res.StatusCode != sip.StatusRequestPending:
			return fmt.Errorf("hold: %w", statusError(res.StatusCode, res.Reason))
		}
		pause(ctx, glareWait(c.tx == nil))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return errors.New("hold: put off too often")
}

// turn offers the session as it stands in another direction.
func (c *Call) turn(ctx context.Context, dir direction, p *proofs) (*sip.Response, error) {
	for !c.reserve() {
		pause(ctx, renewPause)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	c.mu.Lock()
	before := c.local.last
	c.local.write(direct(before, dir))
	c.mu.Unlock()
	res, err := c.reinvite(ctx, nil, p)
	if err != nil || !res.IsSuccess() {
		c.mu.Lock()
		c.local.write(before)
		c.mu.Unlock()
		c.release()
	}
	return res, err
}

// rejoined acknowledges the 2xx of a re-INVITE of ours and agrees to what it says.
// One that says nothing we understand leaves the sound as it is.
func (c *Call) rejoined(res *sip.Response, signed []sip.Header) {
	c.dlg.refresh(res)
	if s, err := parseSDP(sessionBody(header(res, "content-type", "c"), res.Body())); err == nil {
		if err := c.takeDescription(s); err != nil {
			c.a.log.Debug("sip: an answer to a re-INVITE that changes nothing", "call", c.ID(), "error", err)
		}
	}
	ack, f := c.dlg.request(sip.ACK, res.CSeq().SeqNo)
	signAlike(ack, signed)
	c.mu.Lock()
	c.ack, c.ackFlow, c.ackSeq = ack, f, res.CSeq().SeqNo
	c.offering = false
	c.mu.Unlock()
	c.sendAck()
}

// refresh takes over the Contact of a 2xx (RFC 3261 §12.2.1.2, RFC 3311 §5.3).
func (d *dialog) refresh(res *sip.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if target, ok := targetOf(res.Contact()); ok {
		d.target = target
	}
}

// again is the description that was sent last, of the same version: nothing has
// changed (RFC 3264 §8).
func (l *local) again() []byte { return l.write(l.last) }
