package sip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

const (
	retryNoPorts = 10 * time.Second // until a call has ended, most likely
	silenceBelow = -45.0            // dBFS: quieter than this is nobody speaking (a line's noise is at -60)
	byeWait      = 32 * time.Second // 64·T1, RFC 3261 §17.1.2.2
)

// state is where a call stands.
type state uint8

const (
	ringing  state = iota // no final answer yet
	answered              // 200 sent, not yet acknowledged
	talking               // acknowledged
	over
)

// Call is one telephone call, from INVITE to BYE. Its methods block; when the
// far side hangs up they return ErrHungUp. A Call is a media.Leg.
type Call struct {
	a        *Agent
	identity identity
	trunk    string
	phone    bool          // a telephone of ours that we ring
	beyond   bool          // came when all lines of the trunk were in use
	line     string        // the trunk one of whose lines it has; guarded by a.mu
	progress time.Duration // without any sign of ringing after so long it is withdrawn; 0: it waits
	account  Account       // answers the challenges to what we send
	arrived  time.Time
	dlg      *dialog
	laws     []uint8 // what we offer
	srtp     SRTP
	far      Way     // who is at the other end of a call of ours, for its trace
	ladder   *ladder // nil: it is not traced

	ctx    context.Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex // guards what follows
	state    state
	req      *sip.Request          // the INVITE that came in
	tx       sip.ServerTransaction // its transaction; over with a 2xx
	key      string                // of that INVITE among a.invites
	local    local
	stream   *media.Stream
	format   media.Format
	crypto   *media.Crypto // nil: in clear
	waiting  *waiting      // a 2xx of ours that is not acknowledged yet
	accepted uint32        // CSeq of the INVITE that we accepted last
	saidBye  bool          // they did
	byeSeq   uint32        // its number
	inviting bool          // an INVITE of theirs is being dealt with
	offering bool          // a re-INVITE of ours is on its way
	session  session
	rseq     uint32             // of our 180, where it must be acknowledged
	pracked  chan struct{}      // closed then; nil: it need not
	early    bool               // the dialog is known before the answer
	branches map[string]*branch // of our INVITE that is not answered yet, by their tag
	signed   []sip.Header       // the proofs in our INVITE
	ack      *sip.Request
	ackFlow  flow
	ackSeq   uint32
	referral *referral  // a transfer that the telephone waits for
	refers   int        // how many it has asked for
	told     chan<- int // what the far side says of a REFER of ours
}

// waiting is a 2xx on its way to be acknowledged.
type waiting struct {
	seq  uint32
	done chan struct{} // closed by the ACK
	drop chan struct{} // closed when the far side said BYE instead
	rest chan struct{} // closed when we no longer repeat the 2xx
	body []byte        // of the ACK; valid after done
	kind string        // its Content-Type
}

func newWaiting(seq uint32) *waiting {
	return &waiting{seq: seq, done: make(chan struct{}), drop: make(chan struct{}), rest: make(chan struct{})}
}

// ID is the Call-ID.
func (c *Call) ID() string { return c.dlg.callID }

// From is the caller's number, "" when it is withheld or none: E.164, or plain
// digits for an internal extension (see Number).
func (c *Call) From() string { return c.identity.from }

// Name is the caller's name as the far side displays it; nobody vouches for it.
func (c *Call) Name() string { return c.identity.name }

// Source says where From was taken from: "asserted", "from" or "withheld".
func (c *Call) Source() string { return c.identity.source }

// To is the number that was dialled (see Number); a diversion is looked through.
func (c *Call) To() string { return c.identity.to }

// Trunk is the name of the trunk that brought the call, "" for one we made.
func (c *Call) Trunk() string { return c.trunk }

// Beyond says that the call came when all lines of its trunk were in use (Trunk.Lines).
func (c *Call) Beyond() bool { return c.beyond }

// Arrived is the instant of the INVITE.
func (c *Call) Arrived() time.Time { return c.arrived }

// Done is closed when the call is over, whoever ended it.
func (c *Call) Done() <-chan struct{} { return c.ctx.Done() }

// Err is nil while the call lives, then what ended it: ErrHungUp, ErrEnded…
func (c *Call) Err() error {
	if c.ctx.Err() == nil {
		return nil
	}
	return context.Cause(c.ctx)
}

// Stream is the call's sound, nil before it is answered.
func (c *Call) Stream() *media.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream
}

// knows tells whether an address is the far side's.
func (c *Call) knows(ip netip.Addr) bool {
	c.dlg.mu.Lock()
	defer c.dlg.mu.Unlock()
	return c.dlg.flow.remote.Addr() == ip || c.dlg.moved == ip
}

// Answer sends 200 and returns when it is acknowledged. When offer and answer
// have no codec in common the call is refused with 488 and the error is
// ErrNoCodec; without a free port it is refused with 503 and the error is
// media.ErrNoPorts. A 200 that nobody acknowledges within 64·T1 ends the call.
func (c *Call) Answer(ctx context.Context) error {
	offer, agreed, err := c.readOffer()
	if err != nil {
		_ = c.refuse(sip.StatusNotAcceptableHere, 0)
		return fmt.Errorf("answer: %w", err)
	}
	stream, err := c.open(offer)
	if err != nil {
		_ = c.refuse(sip.StatusServiceUnavailable, retryNoPorts)
		return fmt.Errorf("answer: %w", err)
	}
	c.mu.Lock()
	if c.state != ringing {
		c.mu.Unlock()
		stream.Close()
		return c.gone()
	}
	c.stream = stream
	c.local = local{id: uint64(c.arrived.Unix()), version: 1, addr: stream.Addr()}
	var body []byte
	if offer != nil {
		body = c.local.answer(offer, agreed)
		c.agree(agreed)
	} else {
		body = c.local.offer(c.laws, sendRecv, c.terms()) // late offer, trap 5
	}
	w := newWaiting(c.req.CSeq().SeqNo)
	ok := c.accept(c.req, body)
	c.waiting, c.accepted, c.state = w, w.seq, answered
	c.a.enrol(c)
	// A 2xx is the call's and not the transaction's (RFC 3261 §13.3.1.4): we repeat it, and let
	// the INVITE fall if it is repeated, so nothing of the transaction need stay for 64·T1.
	c.a.answered(c.key)
	conn := c.tx.(*sip.ServerTx).Connection()
	err = conn.WriteMsg(ok)
	c.mu.Unlock()
	c.tx.Terminate()
	if err != nil {
		c.finish(fmt.Errorf("%w: the answer could not be sent", ErrHungUp), false)
		return c.gone()
	}
	stream.WhenLost(func(why error) { c.a.later(func() { c.lost(why) }) })
	r := newResending(func() error { return conn.WriteMsg(ok) }, w)
	if !r.run(c, ctx.Done(), c.ctx.Done()) {
		c.a.later(func() { r.run(c, nil, nil) })
	}
	select {
	case <-w.done:
	case <-c.ctx.Done():
		return c.gone()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if offer == nil {
		if err := c.takeAnswer(w); err != nil {
			c.hangUp(err)
			return fmt.Errorf("answer: %w", err)
		}
	}
	return nil
}

// Alert lets the caller hear that it rings (180), on the caller's own tone.
func (c *Call) Alert() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ringing || c.tx == nil {
		return ErrEnded
	}
	if has(c.req, reliably, "require") {
		return c.alertReliably()
	}
	c.early = true // RFC 3261 §12.1.1: who calls may speak in it from now on
	c.a.enrol(c)
	return c.tx.Respond(c.response(c.req, sip.StatusRinging, nil))
}

// readOffer reads the INVITE's description; nil: there is none (late offer).
func (c *Call) readOffer() (*sdp, agreement, error) {
	if !c.terms().possible() {
		return nil, agreement{}, ErrNoCodec
	}
	body := sessionBody(header(c.req, "content-type", "c"), c.req.Body())
	if len(body) == 0 {
		return nil, agreement{}, nil
	}
	offer, err := parseSDP(body)
	if err != nil {
		return nil, agreement{}, fmt.Errorf("%w: %w", ErrNoCodec, err)
	}
	agreed, err := offer.agree(c.source(), c.terms())
	return offer, agreed, err
}

func (c *Call) source() netip.Addr {
	c.dlg.mu.Lock()
	defer c.dlg.mu.Unlock()
	return c.dlg.flow.remote.Addr()
}

// open takes ports on the address that the far side's sound can reach: that of
// the signalling, or one of the family that the offer names (trap 16).
func (c *Call) open(offer *sdp) (*media.Stream, error) {
	c.dlg.mu.Lock()
	ip := c.dlg.flow.local.Addr()
	c.dlg.mu.Unlock()
	if offer != nil {
		for _, m := range offer.media {
			if peer, err := netip.ParseAddr(m.addr); err == nil && m.kind == "audio" && m.port != 0 && !peer.IsUnspecified() && peer.Unmap().Is4() != ip.Is4() {
				if l, ok := c.a.localFor(peer.Unmap()); ok {
					ip = l.Addr()
				}
				break
			}
		}
	}
	if c.a.cfg.Media == nil {
		return nil, media.ErrNoPorts
	}
	return c.a.cfg.Media.Open(ip)
}

// agree hands a result of offer and answer to the stream. c.mu is held.
func (c *Call) agree(g agreement) {
	c.format = g.format
	switch {
	case g.crypto != nil:
		c.crypto = &media.Crypto{Suite: g.crypto.suite, Ours: c.local.key.of(g.crypto.suite), Theirs: g.crypto.key, OurID: c.local.key.id, TheirsID: g.crypto.id}
	case g.index != noMedia: // in clear; what may follow has another key, for nobody counts the packets of this one
		c.crypto, c.local.key.made = nil, false
	}
	g.peer.Crypto = c.crypto
	c.stream.Agree(g.format, g.peer)
}

// accept builds a 200 with a description, and starts the session's timer. c.mu is
// held.
func (c *Call) accept(req *sip.Request, body []byte) *sip.Response {
	res := c.response(req, sip.StatusOK, body)
	c.grant(req, res)
	if len(body) > 0 {
		res.AppendHeader(sip.NewHeader("Content-Type", sdpType))
	}
	return res
}

// response builds an answer that carries our tag and our Contact.
func (c *Call) response(req *sip.Request, status int, body []byte) *sip.Response {
	res := c.a.response(req, status, body)
	if to := res.To(); to != nil { // a copy: sipgo reads the request on its own goroutine (TELEPHONY P2)
		to.Params = sip.HeaderParams{{K: "tag", V: c.dlg.localTag}}
	}
	if status < 300 && status > 100 {
		c.dlg.mu.Lock()
		contact := c.dlg.contact(c.dlg.flow)
		c.dlg.mu.Unlock()
		res.AppendHeader(&sip.ContactHeader{Address: contact})
		res.AppendHeader(sip.NewHeader("Allow", allow))
		res.AppendHeader(sip.NewHeader("Supported", "timer"))
	}
	return res
}

// resending repeats a 2xx until it is acknowledged (RFC 3261 §13.3.1.4: T1, doubled
// up to T2, for 64·T1), then gives the call up with a BYE. Also when we have hung
// up meanwhile: until then the far side knows of no call that a BYE could end.
type resending struct {
	again    func() error
	w        *waiting
	interval time.Duration
	next     time.Time // when it is to be repeated
	deadline time.Time
}

func newResending(again func() error, w *waiting) *resending {
	now := time.Now()
	return &resending{again: again, w: w, interval: sip.T1, next: now.Add(sip.T1), deadline: now.Add(64 * sip.T1)}
}

// run repeats until there is no need any more; false: this or that came first, and
// it is to be run again.
func (r *resending) run(c *Call, this, that <-chan struct{}) bool {
	again := time.NewTimer(time.Until(r.next))
	defer again.Stop()
	for {
		select {
		case <-r.w.done:
		case <-r.w.drop:
		case <-c.a.quit:
		case <-this:
			return false
		case <-that:
			return false
		case <-again.C:
			now := time.Now()
			if now.Before(r.deadline) {
				_ = r.again()
				r.interval = min(2*r.interval, sip.T2)
				r.next = now.Add(min(r.interval, r.deadline.Sub(now)))
				again.Reset(r.next.Sub(now))
				continue
			}
			c.hangUp(fmt.Errorf("%w: the answer was never acknowledged", ErrHungUp))
		}
		close(r.w.rest)
		return true
	}
}

// onAck takes the ACK of a 2xx; false: it is not of one (the transaction's then).
// A repeated ACK is of one too.
func (c *Call) onAck(m *raw) bool {
	seq, _, _ := m.cseq()
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.waiting; w != nil && w.seq == seq {
		w.body = []byte(string(m.body[:bodyLength(m)])) // the buffer is the reader's
		w.kind = m.get("content-type")
		c.waiting = nil
		if c.state == answered {
			c.state = talking
		}
		close(w.done)
		return true
	}
	return c.accepted == seq && c.accepted != 0
}

// takeAnswer reads the answer that came in an ACK.
func (c *Call) takeAnswer(w *waiting) error {
	body := sessionBody(w.kind, w.body)
	s, err := parseSDP(body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoCodec, err)
	}
	return c.takeDescription(s)
}

// takeDescription agrees to an answer to our offer. One without a port holds
// (RFC 3264 §8.2).
func (c *Call) takeDescription(s *sdp) error {
	for i := range s.media {
		if m := &s.media[i]; m.codec(ownKeyPT) == "" {
			m.maps[ownKeyPT] = "TELEPHONE-EVENT/8000" // what we called it, when the answer does not say
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g, err := s.agreeAgain(c.source(), c.format, c.terms())
	if err != nil {
		return err
	}
	if g.crypto != nil && (g.crypto.tag != cmp.Or(c.local.key.tag, ownTag) || g.crypto.suite != c.local.key.suite) {
		return fmt.Errorf("%w: encrypted as we did not offer", ErrNoCodec) // RFC 4568 §5.1.3
	}
	if c.stream != nil && c.state != over {
		c.agree(g)
	}
	return nil
}

// lost ends a call whose sound has died (trap 11: not while it is held), by the far side or by us.
func (c *Call) lost(why error) { c.hangUp(fmt.Errorf("%w: %w", ErrHungUp, why)) }

// Refuse ends a call that was not answered with a final status (300 … 699), and
// Retry-After when that is not zero.
func (c *Call) Refuse(ctx context.Context, status int, retryAfter time.Duration) error {
	if status < 300 || status > 699 {
		return fmt.Errorf("sip: %d does not refuse", status)
	}
	return c.refuse(status, retryAfter)
}

func (c *Call) refuse(status int, retryAfter time.Duration) error {
	c.mu.Lock()
	if c.tx == nil || c.state == answered || c.state == talking {
		c.mu.Unlock()
		return ErrAnswered
	}
	if c.state == over {
		c.mu.Unlock()
		return c.gone()
	}
	res := c.response(c.req, status, nil)
	if retryAfter > 0 {
		res.AppendHeader(sip.NewHeader("Retry-After", fmt.Sprint(int(retryAfter.Round(time.Second)/time.Second))))
	}
	if status == sip.StatusNotAcceptableHere {
		// RFC 3261 §20.43: 305, incompatible media format.
		needed := "PCMA, PCMU or G722 is needed"
		if c.srtp == SRTPRequired {
			needed = "PCMA, PCMU or G722 by TLS and SRTP (SDES, AES_CM_128) is needed"
		}
		res.AppendHeader(sip.NewHeader("Warning", `305 pronto "`+needed+`"`))
	}
	c.state = over
	c.forgetEarly()
	err := c.tx.Respond(res)
	c.mu.Unlock()
	c.cancel(ErrEnded)
	if err != nil {
		return fmt.Errorf("refuse: %w", err)
	}
	return nil
}

// canceled is what a CANCEL does: 487, unless the call was answered before
// (then the canceller acknowledges and says BYE, trap 2).
func (c *Call) canceled() {
	c.mu.Lock()
	if c.state != ringing {
		c.mu.Unlock()
		return
	}
	c.state = over
	c.forgetEarly()
	_ = c.tx.Respond(c.response(c.req, sip.StatusRequestTerminated, nil))
	c.mu.Unlock()
	c.cancel(ErrHungUp)
}

// forgetEarly buries the dialog of a call that was never answered. c.mu is held.
func (c *Call) forgetEarly() {
	if c.early {
		c.a.bury(c, false)
	}
}

// Hangup ends the call whatever its state; it does not wait for the far side.
func (c *Call) Hangup(context.Context) { c.hangUp(ErrEnded) }

// hangUp ends the call from our side.
func (c *Call) hangUp(cause error) {
	c.mu.Lock()
	state, tx := c.state, c.tx
	c.mu.Unlock()
	switch {
	case state == over:
	case state == ringing && tx != nil:
		status := sip.StatusTemporarilyUnavailable
		if errors.Is(cause, errStopping) {
			status = sip.StatusServiceUnavailable
		}
		_ = c.refuse(status, 0)
	default:
		c.finish(cause, true)
	}
}

// finish is the one end of a call that was answered, or that we made.
func (c *Call) finish(cause error, sayBye bool) {
	c.mu.Lock()
	if c.state == over {
		c.mu.Unlock()
		return
	}
	was, stream, w := c.state, c.stream, c.waiting
	c.state = over
	c.disarm()
	c.mu.Unlock()
	switch {
	case sayBye && was >= answered:
		c.a.later(func() { c.bye(w) })
	case w != nil:
		close(w.drop)
	}
	c.cancel(cause)
	if stream != nil {
		stream.Close()
	}
	c.a.bury(c, c.tx != nil && (w == nil || !sayBye))
	if c.tx == nil {
		c.a.remove(c) // a call that came in is removed when its handler returns
	}
}

// bye says BYE. A 200 must be acknowledged first (RFC 3261 §15): while the ACK is
// missing we wait for it, unless the server is stopping. Whatever is answered,
// the call is over (TELEPHONY P13); but a carrier that wants a proof here too would let
// the call stand, and charge for it, so it gets one (RFC 3261 §22.2).
func (c *Call) bye(w *waiting) {
	if w != nil {
		select {
		case <-w.done:
		case <-w.rest:
		case <-c.a.quit:
		}
	}
	c.parting()
	_, _ = c.insist(func() (*sip.Request, flow) { return c.dlg.request(sip.BYE, 0) }, byeWait)
}

// gone is why the call is over.
func (c *Call) gone() error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	return ErrEnded
}

// alive is a context that also ends, with its cause, when the call does.
func (c *Call) alive(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// sound gives the stream of a call that can be heard.
func (c *Call) sound() (*media.Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == over:
		return nil, c.gone()
	case c.stream == nil:
		return nil, errors.New("sip: the call is not answered")
	}
	return c.stream, nil
}

// why prefers the call's own end to what an ended stream says.
func (c *Call) why(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return err
}

// Play sounds a clip to its end; keys pressed meanwhile are kept for Ask.
func (c *Call) Play(ctx context.Context, clip audio.Clip) error {
	s, err := c.sound() // which closes when the call ends
	if err != nil {
		return err
	}
	return c.why(ctx, s.Play(ctx, clip))
}

// Ask sounds a clip until a key comes, typed-ahead keys included, and waits
// some more after its end. It gives 0 when there was only silence.
func (c *Call) Ask(ctx context.Context, clip audio.Clip, wait time.Duration) (rune, error) {
	s, err := c.sound()
	if err != nil {
		return 0, err
	}
	key, err := s.Ask(ctx, clip, wait)
	return key, c.why(ctx, err)
}

const (
	betweenDigits = 4 * time.Second // between two keys of a number: somebody reads it off a paper
	keysMost      = 100             // of one number, corrections included: then it is taken as it stands
)

// Digits asks for a number: # closes it, and so does a pause between two keys;
// * starts it again. Keys typed ahead count. "" is silence, for as long as wait
// after the clip. At most `most` digits are kept, and one more, so that a number
// that is too long does not pass for one that is not.
func (c *Call) Digits(ctx context.Context, clip audio.Clip, most int, wait time.Duration) (string, error) {
	var number []rune
	pause := wait
	for range keysMost {
		key, err := c.Ask(ctx, clip, pause)
		if err != nil {
			return "", err
		}
		clip, pause = audio.Clip{}, betweenDigits
		switch {
		case key == 0, key == '#':
			return string(number), nil
		case key == '*':
			number, pause = nil, wait
		case key >= '0' && key <= '9' && len(number) <= most: // A to D are no digits
			number = append(number, key)
		}
	}
	return string(number), nil
}

// Key waits for a key, typed-ahead keys included; nothing sounds meanwhile but
// what While plays.
func (c *Call) Key(ctx context.Context) (rune, error) {
	s, err := c.sound()
	if err != nil {
		return 0, err
	}
	r, err := s.Key(ctx)
	return r, c.why(ctx, err)
}

// While sounds a clip as long as fn runs.
func (c *Call) While(ctx context.Context, clip audio.Clip, fn func(context.Context) error) error {
	s, err := c.sound()
	if err != nil {
		return err
	}
	ctx, done := c.alive(ctx)
	defer done()
	stop := s.Start(clip)
	defer stop()
	return c.why(ctx, fn(ctx))
}

// Record writes what is heard to w, in frames of 160 octets of A-law, until the
// caller hangs up, presses #, is silent for l.Silence, or l.Longest has passed.
// Keys pressed before do not end it.
func (c *Call) Record(ctx context.Context, w io.Writer, l media.Limits) (media.Stop, error) {
	s, err := c.sound()
	if errors.Is(err, ErrHungUp) {
		return media.StopHangup, nil
	}
	if err != nil {
		return "", err
	}
	ctx, done := c.alive(ctx)
	defer done()
	c.drainKeys(ctx, s)
	ctx, cancel := context.WithCancelCause(ctx)
	var keys sync.WaitGroup
	keys.Go(func() { c.awaitHash(ctx, s, cancel) })
	defer keys.Wait()
	defer cancel(nil)

	var length, quiet time.Duration
	var stop media.Stop
	var failed error
	err = s.Record(ctx, func(frame []byte) bool {
		if _, failed = w.Write(frame); failed != nil {
			return false
		}
		length += audio.FrameTime
		quiet += audio.FrameTime
		if audio.Level(frame) > silenceBelow {
			quiet = 0
		}
		switch {
		case l.Longest > 0 && length >= l.Longest:
			stop = media.StopLongest
		case l.Silence > 0 && quiet >= l.Silence:
			stop = media.StopSilence
		}
		return stop == ""
	})
	cause := context.Cause(ctx)
	switch {
	case failed != nil:
		return "", fmt.Errorf("record: %w", failed)
	case stop != "":
		return stop, nil
	case errors.Is(cause, errHash):
		return media.StopKey, nil
	case errors.Is(cause, ErrHungUp), errors.Is(c.Err(), ErrHungUp):
		return media.StopHangup, nil
	case cause != nil:
		return "", cause
	}
	return "", err
}

var errHash = errors.New("# was pressed")

// drainKeys takes away what was pressed before the beep.
func (c *Call) drainKeys(ctx context.Context, s *media.Stream) {
	for {
		select {
		case <-s.Pressed():
			if _, err := s.Key(ctx); err != nil {
				return
			}
		default:
			return
		}
	}
}

// awaitHash ends a recording when # is pressed; other keys are slips of a finger.
func (c *Call) awaitHash(ctx context.Context, s *media.Stream, cancel context.CancelCauseFunc) {
	for {
		r, err := s.Key(ctx)
		if err != nil {
			return
		}
		if r == '#' {
			cancel(errHash)
			return
		}
	}
}

// Bridge joins the call with a leg until either side hangs up; the leg is hung
// up at the end. nil: one side ended normally.
func (c *Call) Bridge(ctx context.Context, leg media.Leg) error {
	defer leg.Hangup(context.WithoutCancel(ctx))
	s, err := c.sound()
	if err != nil {
		if errors.Is(err, ErrHungUp) {
			return nil
		}
		return err
	}
	ctx, done := c.alive(ctx)
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var far sync.WaitGroup
	far.Go(func() {
		select {
		case <-leg.Done():
			cancel(errFarEnd)
		case <-ctx.Done():
		}
	})
	defer far.Wait()
	defer cancel(nil)
	err = media.Bridge(ctx, s, leg.Stream())
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errFarEnd), errors.Is(cause, ErrHungUp):
		return nil
	case c.ctx.Err() != nil || isDone(leg.Done()):
		return nil // a stream that closed before we heard why
	case cause != nil:
		return cause
	}
	return err
}

var errFarEnd = errors.New("the other side hung up")

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
