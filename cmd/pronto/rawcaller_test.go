package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawTrunk is a carrier made of plain text on one UDP socket: it shares nothing
// with the user agent it rings, and costs little enough to measure it with.
type rawTrunk struct {
	t      testing.TB
	conn   *net.UDPConn
	server *net.UDPAddr
	from   string // who rings
	crowd  bool   // each call is somebody else's, whose number continues from; it repeats what gets lost
	media  string // the m= part of the offer, with the port as %d; "": PCMA and keys
	voices sound  // what the calls sound like; nil: each has a socket of its own, and is silent

	mu    sync.Mutex // guards calls and serial
	calls map[string]*rawCall
	next  int
}

// sound lends calls a socket and speaks for them.
type sound interface {
	socket() rtpSocket
	speakFrom(from rtpSocket, to netip.AddrPort) (stop func())
}

// rtpSocket is where a call's sound comes and goes; *net.UDPConn is one.
type rtpSocket interface {
	LocalAddr() net.Addr
	WriteToUDP(b []byte, to *net.UDPAddr) (int, error)
	Close() error
}

// rawCall is one call of a rawTrunk.
type rawCall struct {
	trunk   *rawTrunk
	id      string
	number  string
	from    string
	rtp     rtpSocket
	remote  *net.UDPAddr // the server's RTP
	quiet   func()       // ends its voice; nil: it has none
	toTag   string
	contact string
	ack     string // guarded by trunk.mu; "": not answered yet
	sent    time.Time
	answers chan rawAnswer
	bye     chan struct{} // closed when the server hangs up
	seen    firstLines    // guarded by trunk.mu
}

// firstLines are those of messages, and when they went or came: what a telephone has
// to tell when something went wrong.
type firstLines []string

func (l *firstLines) add(way, text string) {
	first, _, _ := strings.Cut(text, "\r\n")
	*l = append(*l, time.Now().Format("15:04:05.000 ")+way+" "+first)
}

func (l firstLines) String() string { return strings.Join(l, "\n") }

type rawAnswer struct {
	status int
	at     time.Time
	text   string
}

const (
	rawWait = 10 * time.Second       // for any answer
	rawT1   = 500 * time.Millisecond // until a message is repeated, RFC 3261 §17.1.1.1
)

// unregistered is a number of no register: whoever rings from it again is not
// asked about an open request.
const unregistered = "+390577000099"

func newRawTrunk(t testing.TB, server string) *rawTrunk {
	t.Helper()
	return newRawTrunkAt(t, server, net.IPv4(127, 0, 0, 1))
}

func newRawTrunkAt(t testing.TB, server string, ip net.IP) *rawTrunk {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20)
	k := &rawTrunk{t: t, conn: conn, server: to, from: unregistered, calls: map[string]*rawCall{}}
	done := make(chan struct{})
	go func() { defer close(done); k.read() }() // ends when conn is closed
	t.Cleanup(func() { conn.Close(); <-done })
	return k
}

var (
	rawCallID  = regexp.MustCompile(`(?mi)^(?:Call-ID|i):\s*(\S+)`)
	rawToTag   = regexp.MustCompile(`(?mi)^(?:To|t):.*;tag=([^;\s]+)`)
	rawContact = regexp.MustCompile(`(?mi)^(?:Contact|m):\s*<([^>]+)>`)
	rawMedia   = regexp.MustCompile(`(?m)^m=audio (\d+)`)
	rawHost    = regexp.MustCompile(`(?m)^c=IN IP4 (\S+)`)
)

func (k *rawTrunk) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := k.conn.Read(buf)
		if err != nil {
			return
		}
		at, text := time.Now(), string(buf[:n])
		id := rawCallID.FindStringSubmatch(text)
		if id == nil {
			continue
		}
		k.mu.Lock()
		c := k.calls[id[1]]
		if c != nil {
			c.seen.add("<-", text)
		}
		k.mu.Unlock()
		switch {
		case c == nil:
		case strings.HasPrefix(text, "SIP/2.0 "):
			status, _ := strconv.Atoi(text[8:11])
			if status >= 200 {
				k.acknowledge(c)
				select {
				case c.answers <- rawAnswer{status, at, text}:
				default: // a retransmission
				}
			}
		case strings.HasPrefix(text, "BYE "):
			k.answerBye(text)
			select {
			case <-c.bye:
			default:
				close(c.bye)
			}
		}
	}
}

// answerBye says 200 with the headers that came.
func (k *rawTrunk) answerBye(bye string) { k.send(rawReply(bye, "", "", "")) }

// rawReply is 200 with the headers of a request; toTag is added to its To, unless
// it is "".
func rawReply(request, toTag, headers, body string) string {
	var b strings.Builder
	b.WriteString("SIP/2.0 200 OK\r\n")
	for line := range strings.SplitSeq(request, "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "via", "from", "to", "call-id", "cseq":
			b.WriteString(line)
			if name == "to" && toTag != "" {
				b.WriteString(";tag=" + toTag)
			}
			b.WriteString("\r\n")
		}
	}
	fmt.Fprintf(&b, "%sContent-Length: %d\r\n\r\n%s", headers, len(body), body)
	return b.String()
}

func (k *rawTrunk) send(text string) {
	_, _ = k.conn.WriteToUDP([]byte(text), k.server)
}

// invite sends an INVITE for a number; answer waits for what comes of it.
func (k *rawTrunk) invite(number string) (*rawCall, error) {
	rtp, err := k.socket()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.next++
	id := fmt.Sprintf("raw-%d-%d", k.conn.LocalAddr().(*net.UDPAddr).Port, k.next)
	c := &rawCall{trunk: k, id: id, number: number, from: k.from, rtp: rtp, answers: make(chan rawAnswer, 1), bye: make(chan struct{})}
	if k.crowd {
		c.from += fmt.Sprintf("%04d", k.next)
	}
	k.calls[id] = c
	k.mu.Unlock()
	media := k.media
	if media == "" {
		media = "m=audio %d RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
	}
	sdp := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"+media,
		rtp.LocalAddr().(*net.UDPAddr).Port)
	c.sent = time.Now()
	invite := c.request("INVITE", 1, "sip:"+number+"@"+k.server.String(), "Content-Type: application/sdp\r\n", sdp)
	k.send(invite)
	if k.crowd {
		go repeat(func() bool { // for rawWait at most
			k.mu.Lock()
			defer k.mu.Unlock()
			return len(c.seen) > 1 // somebody has it
		}, func() { k.send(invite) })
	}
	return c, nil
}

// repeat sends again what was sent, until it has come, as RFC 3261 §17.1 asks of who
// sends by UDP.
func repeat(come func() bool, send func()) {
	for wait := rawT1; wait < rawWait; wait *= 2 {
		<-time.After(wait)
		if come() {
			return
		}
		send()
	}
}

// acknowledge sends the ACK of a 200 that has come again.
func (k *rawTrunk) acknowledge(c *rawCall) {
	k.mu.Lock()
	ack := c.ack
	k.mu.Unlock()
	if k.crowd && ack != "" {
		k.send(ack)
	}
}

// socket is where the next call's sound comes and goes.
func (k *rawTrunk) socket() (rtpSocket, error) {
	if k.voices != nil {
		return k.voices.socket(), nil
	}
	return net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
}

// request is the text of a request of this call.
func (c *rawCall) request(method string, cseq int, uri, headers, body string) string {
	to := fmt.Sprintf("<sip:%s@%s>", c.number, c.trunk.server)
	if c.toTag != "" {
		to += ";tag=" + c.toTag
	}
	me := c.trunk.conn.LocalAddr()
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s-%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@127.0.0.1>;tag=%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:doctor@%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		method, uri, me, c.id, method, c.from, c.id, to, c.id, cseq, method, me, headers, len(body), body)
	c.trunk.mu.Lock()
	defer c.trunk.mu.Unlock()
	c.seen.add("->", text)
	return text
}

// answer waits for the final answer and acknowledges it; it gives the time from
// the INVITE to it.
func (c *rawCall) answer() (status int, took time.Duration, err error) {
	select {
	case a := <-c.answers:
		if tag := rawToTag.FindStringSubmatch(a.text); tag != nil {
			c.toTag = tag[1]
		}
		c.contact = "sip:" + c.number + "@" + c.trunk.server.String()
		if m := rawContact.FindStringSubmatch(a.text); m != nil {
			c.contact = m[1]
		}
		ack := c.request("ACK", 1, c.contact, "", "")
		c.trunk.mu.Lock()
		c.ack = ack
		c.trunk.mu.Unlock()
		c.trunk.send(ack)
		port, host := rawMedia.FindStringSubmatch(a.text), rawHost.FindStringSubmatch(a.text)
		if port != nil && host != nil {
			c.remote, err = net.ResolveUDPAddr("udp", host[1]+":"+port[1])
		}
		if err == nil && c.remote != nil && c.trunk.voices != nil {
			c.quiet = c.trunk.voices.speakFrom(c.rtp, c.remote.AddrPort())
		}
		return a.status, a.at.Sub(c.sent), err
	case <-time.After(rawWait):
		return 0, 0, errors.New("no answer to the INVITE of " + c.id)
	}
}

// press sends keys as RFC 4733 §2.5 wants their ends: three packets with the E
// bit, the same timestamp.
func (c *rawCall) press(keys string) {
	for i, key := range []byte(keys) {
		pkt := make([]byte, 16)
		pkt[0], pkt[1] = 0x80, 101|0x80
		binary.BigEndian.PutUint32(pkt[4:], uint32(1000+i*4000))
		binary.BigEndian.PutUint32(pkt[8:], 0x1234)
		pkt[12], pkt[13] = key-'0', 0x80|10
		binary.BigEndian.PutUint16(pkt[14:], 800)
		for n := range 3 {
			binary.BigEndian.PutUint16(pkt[2:], uint16(1+i*3+n))
			_, _ = c.rtp.WriteToUDP(pkt, c.remote)
			pkt[1] = 101
		}
	}
}

// silence ends the call's sound.
func (c *rawCall) silence() {
	switch {
	case c.trunk.voices == nil:
		c.rtp.Close()
	case c.quiet != nil:
		c.quiet()
	}
}

// hangUp says BYE and waits for its answer.
func (c *rawCall) hangUp() error {
	bye := c.request("BYE", 2, c.contact, "", "")
	c.trunk.mu.Lock()
	c.ack = "" // what comes now answers the BYE
	c.trunk.mu.Unlock()
	c.trunk.send(bye)
	defer c.silence()
	select {
	case a := <-c.answers:
		if a.status != 200 && a.status != 481 {
			return fmt.Errorf("BYE of %s: %d", c.id, a.status)
		}
		return nil
	case <-c.bye:
		return nil
	case <-time.After(rawWait):
		return errors.New("no answer to the BYE of " + c.id)
	}
}
