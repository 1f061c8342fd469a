package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

// Limits of a session description. Real ones have a handful of lines.
const (
	maxSDP        = 16 << 10 // octets; what a browser offers with video stays below
	maxSDPMedia   = 16       // m= lines
	maxSDPFormats = 64       // formats of one m= line
)

// ownKeyPT is the payload type we offer for keys: 101 is what every telephone uses.
const ownKeyPT = 101

// comfortPT is comfort noise at 8000 Hz (RFC 3551 §6). Who offers it may rest while
// nobody speaks. We do not offer it: a recording is to have all that was heard.
const comfortPT = 13

// broadcast is everybody on the network.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

var (
	errSDPTooLong = errors.New("session description too long")
	errNoSDP      = errors.New("no session description")
	errSDPMedia   = errors.New("unreadable m= line in a session description")
)

// direction is a=sendrecv and its siblings, as seen by who wrote the line.
type direction uint8

const (
	sendRecv direction = iota // RFC 4566 §6: the default
	sendOnly
	recvOnly
	inactive
)

func (d direction) String() string {
	return [...]string{"sendrecv", "sendonly", "recvonly", "inactive"}[d]
}

// sends and receives speak of whoever wrote the line.
func (d direction) sends() bool    { return d == sendRecv || d == sendOnly }
func (d direction) receives() bool { return d == sendRecv || d == recvOnly }

// directionOf is the inverse of sends and receives.
func directionOf(sends, receives bool) direction {
	switch {
	case sends && receives:
		return sendRecv
	case sends:
		return sendOnly
	case receives:
		return recvOnly
	}
	return inactive
}

// sdp is a session description as far as a telephone desk cares. The codec is
// lenient on purpose: carriers and exchanges omit s= and t=, mix up the order,
// forget the last CRLF (TELEPHONY 2.8).
type sdp struct {
	id, version string // of o=
	media       []sdpMedia
}

// sdpMedia is one m= line with the attributes that follow it.
type sdpMedia struct {
	kind    string // audio, video, image…
	port    uint16
	proto   string
	formats []string
	addr    string // of c=, the session's when the media has none
	dir     direction
	maps    map[uint8]string // payload type → "PCMA/8000" in capitals
	rtcp    netip.AddrPort   // a=rtcp (RFC 3605); port 0: none
	crypto  []cryptoLine     // those that we can do, in their order
}

// parseSDP reads a description. Unknown lines are passed over; an error means
// that there is no description at all or that it is beyond the limits.
func parseSDP(body []byte) (*sdp, error) {
	if len(body) > maxSDP {
		return nil, errSDPTooLong
	}
	s := &sdp{}
	var sessionAddr string
	sessionDir, version := sendRecv, false
	for line := range strings.FieldsFuncSeq(string(body), func(r rune) bool { return r == '\r' || r == '\n' }) {
		line = strings.TrimSpace(line)
		if len(line) < 2 || line[1] != '=' {
			continue
		}
		value := strings.TrimSpace(line[2:])
		var m *sdpMedia
		if len(s.media) > 0 {
			m = &s.media[len(s.media)-1]
		}
		switch line[0] {
		case 'v':
			version = true
		case 'o':
			if f := strings.Fields(value); len(f) >= 6 {
				// The user name may hold a space: count from the end.
				s.id, s.version = f[len(f)-5], f[len(f)-4]
			}
		case 'c':
			addr := connectionAddr(value)
			if m != nil {
				m.addr = addr
			} else {
				sessionAddr = addr
			}
		case 'm':
			if len(s.media) == maxSDPMedia {
				return nil, errSDPTooLong
			}
			next, ok := parseMediaLine(value)
			if !ok {
				return nil, errSDPMedia // what follows would be taken for another stream's, and our answer be a line short (RFC 3264 §6)
			}
			next.dir = sessionDir
			s.media = append(s.media, next)
		case 'a':
			if m == nil {
				if d, ok := parseDirection(value); ok {
					sessionDir = d
				}
				continue
			}
			m.attribute(value)
		}
	}
	if !version && len(s.media) == 0 {
		return nil, errNoSDP
	}
	for i := range s.media {
		if s.media[i].addr == "" {
			// Also when c= comes after the media it was meant for all of it.
			s.media[i].addr = sessionAddr
		}
	}
	return s, nil
}

// parseMediaLine reads "audio 49170/2 RTP/AVP 8 0 101".
func parseMediaLine(value string) (sdpMedia, bool) {
	f := strings.Fields(value)
	if len(f) < 3 {
		return sdpMedia{}, false
	}
	port, _, _ := strings.Cut(f[1], "/")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return sdpMedia{}, false
	}
	formats := f[3:]
	if len(formats) > maxSDPFormats {
		formats = formats[:maxSDPFormats]
	}
	return sdpMedia{kind: strings.ToLower(f[0]), port: uint16(n), proto: f[2], formats: formats, maps: map[uint8]string{}}, true
}

// connectionAddr takes the address out of "IN IP4 192.0.2.1/127".
func connectionAddr(value string) string {
	f := strings.Fields(value)
	if len(f) < 3 {
		return ""
	}
	addr, _, _ := strings.Cut(f[2], "/")
	return addr
}

func parseDirection(value string) (direction, bool) {
	switch strings.ToLower(value) {
	case "sendrecv":
		return sendRecv, true
	case "sendonly":
		return sendOnly, true
	case "recvonly":
		return recvOnly, true
	case "inactive":
		return inactive, true
	}
	return sendRecv, false
}

// attribute notes an a= line of a media.
func (m *sdpMedia) attribute(value string) {
	if d, ok := parseDirection(value); ok {
		m.dir = d
		return
	}
	name, rest, _ := strings.Cut(value, ":")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(name) {
	case "rtpmap":
		pt, codec, ok := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(pt, 10, 7)
		if ok && err == nil && len(m.maps) < maxSDPFormats {
			m.maps[uint8(n)] = strings.ToUpper(strings.TrimSpace(codec))
		}
	case "crypto":
		if c, ok := parseCrypto(rest); ok && len(m.crypto) < maxCrypto {
			m.crypto = append(m.crypto, c)
		}
	case "rtcp": // RFC 3605 §2.1: a=rtcp:53020 [IN IP4 126.16.64.4]
		f := strings.Fields(rest)
		if len(f) == 0 {
			return
		}
		port, err := strconv.ParseUint(f[0], 10, 16)
		if err != nil || port == 0 {
			return
		}
		addr := netip.Addr{}
		if len(f) >= 4 {
			addr, _ = netip.ParseAddr(f[3])
		}
		m.rtcp = netip.AddrPortFrom(addr, uint16(port))
	}
}

// codec says what a format of this media means: "PCMA/8000".
func (m *sdpMedia) codec(pt uint8) string {
	if c, ok := m.maps[pt]; ok {
		return c
	}
	switch pt { // RFC 3551 §6: static payload types need no rtpmap
	case uint8(audio.PCMA):
		return "PCMA/8000"
	case uint8(audio.PCMU):
		return "PCMU/8000"
	case uint8(audio.G722): // RFC 3551 §4.5.2: 8000, although it has 16000 samples a second
		return "G722/8000"
	case comfortPT:
		return "CN/8000"
	}
	return ""
}

// usable tells whether we can talk over this media at all, and with whose key it
// is encrypted then; nil: in clear.
func (m *sdpMedia) usable(t terms) (*cryptoLine, bool) {
	if m.port == 0 || !m.spoken(t) {
		return nil, false
	}
	var key *cryptoLine
	if t.crypto && len(m.crypto) > 0 {
		key = &m.crypto[0] // RFC 4568 §5.1.1: the first is preferred
	}
	safe := strings.HasPrefix(strings.ToUpper(m.proto), "RTP/S")
	return key, key != nil || t.clear && !safe // keys beside sound in clear: RFC 8643
}

// spoken is usable, be there a port and a key or not.
func (m *sdpMedia) spoken(t terms) bool {
	switch strings.ToUpper(m.proto) {
	case "RTP/AVP", "RTP/AVPF": // RTP/AVPF is what some send who would take RTP/AVP
		return m.kind == "audio"
	case "RTP/SAVP", "RTP/SAVPF":
		return m.kind == "audio" && t.crypto
	}
	return false
}

// noMedia is the index of an agreement that only holds.
const noMedia = -1

// agreement is what an offer and its answer come to.
type agreement struct {
	index  int // of the m= line
	format media.Format
	peer   media.Peer
	dir    direction   // ours: what our answer says, or would say
	crypto *cryptoLine // theirs; nil: in clear
}

// agree finds the first audio that we can do, in the order of who wrote the
// description. source is where the SIP message came from.
func (s *sdp) agree(source netip.Addr, t terms) (agreement, error) {
	for i := range s.media {
		m := &s.media[i]
		key, ok := m.usable(t)
		if !ok {
			continue
		}
		format, ok := m.choose()
		if !ok {
			continue
		}
		addr, err := netip.ParseAddr(m.addr)
		// RFC 2543 §B.5: 0.0.0.0 was how one held before there were directions.
		held := err == nil && addr.IsUnspecified()
		if err != nil || addr.Unmap().IsLoopback() && !source.IsLoopback() {
			addr = source // a host name, nothing, or a service of this machine: what sends the sound shows itself
		}
		if addr = addr.Unmap(); addr.IsMulticast() || addr == broadcast {
			continue // nobody's telephone: we should sound all over a network
		}
		from := source
		if source.IsLoopback() && err == nil && !held && !addr.Unmap().IsLoopback() {
			// A telephone on this very machine that names another interface of it
			// (baresip does): its sound comes from loopback, like its signalling, or
			// from where it says. Both are the machine's own.
			addr, from = source, addr.Unmap()
		}
		if !held && t.lacks(addr) {
			continue // neither would hear the other (RFC 6157 §3)
		}
		peer := media.Peer{
			Source:  from,
			Send:    m.dir.receives() && !held,
			Receive: m.dir.sends(),
		}
		if !held {
			peer.RTP = netip.AddrPortFrom(addr.Unmap(), m.port)
			peer.RTCP = netip.AddrPortFrom(addr.Unmap(), m.port+1) // RFC 3550 §11
			if m.rtcp.Port() != 0 {
				peer.RTCP = netip.AddrPortFrom(peer.RTP.Addr(), m.rtcp.Port())
				if at := m.rtcp.Addr().Unmap(); at.IsValid() && at.Is4() == addr.Is4() && !at.IsUnspecified() && !at.IsMulticast() && at != broadcast && (!at.IsLoopback() || source.IsLoopback()) {
					peer.RTCP = netip.AddrPortFrom(at, m.rtcp.Port())
				}
			}
		}
		return agreement{index: i, format: format, peer: peer, dir: directionOf(peer.Send, peer.Receive), crypto: key}, nil
	}
	return agreement{}, ErrNoCodec
}

// agreeAgain is agree for a session that stands, with the format it has: who now
// writes port 0 takes the sound away for a while, the last of the ways to hold
// (RFC 3264 §8.2 and §8.4).
func (s *sdp) agreeAgain(source netip.Addr, format media.Format, t terms) (agreement, error) {
	g, err := s.agree(source, t)
	if err == nil || format == (media.Format{}) {
		return g, err
	}
	off := false
	for i := range s.media {
		m := &s.media[i]
		spoken := m.spoken(t)
		if m.port != 0 && (spoken || m.kind == "image") {
			return agreement{}, err // not to rest, but to go on with what we cannot do: a fax by T.38 is tried by sound when we refuse
		}
		off = off || spoken
	}
	if !off {
		return agreement{}, err
	}
	return agreement{index: noMedia, format: format, peer: media.Peer{Source: source}, dir: inactive}, nil
}

// choose takes the first format that is G.711, G.722 only where there is none (0035),
// and the keys' format with the same clock (RFC 4733 §2.1).
func (m *sdpMedia) choose() (f media.Format, ok bool) {
	wide := -1 // the payload type of G.722; -1: it has none
	for _, text := range m.formats {
		n, err := strconv.ParseUint(text, 10, 7)
		if err != nil {
			continue
		}
		pt := uint8(n)
		codec := strings.TrimSuffix(m.codec(pt), "/1") // "PCMA/8000/1" says the number of channels
		switch {
		case codec == "PCMA/8000" && !ok:
			f.Law, f.PT, ok = audio.PCMA, pt, true
		case codec == "PCMU/8000" && !ok:
			f.Law, f.PT, ok = audio.PCMU, pt, true
		case codec == "G722/8000" && wide < 0:
			wide = int(pt)
		case codec == "TELEPHONE-EVENT/8000" && f.KeyPT == 0:
			f.KeyPT = pt
		case codec == "CN/8000" && pt == comfortPT:
			f.Noise = true
		}
	}
	if !ok && wide >= 0 {
		f.Law, f.PT, ok = audio.G722, uint8(wide), true
	}
	return f, ok
}

// local is our side of a session: what does not change between offers.
type local struct {
	id      uint64 // of o=
	version uint64 // of o=; one more with every change (RFC 3264 §8)
	addr    netip.AddrPort
	last    string // the description sent last, without o=
	key     ownKey
}

// write completes a body with o=, whose version moves only when the body did.
func (l *local) write(rest string) []byte {
	if l.last != "" && l.last != rest {
		l.version++
	}
	l.last = rest
	ip := family(l.addr.Addr())
	return fmt.Appendf(nil, "v=0\r\no=pronto %d %d IN %s %s\r\ns=Pronto\r\nc=IN %s %s\r\nt=0 0\r\n%s",
		l.id, l.version, ip, l.addr.Addr(), ip, l.addr.Addr(), rest)
}

func family(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		return "IP6"
	}
	return "IP4"
}

// offer says everything we can do. Encryption that is not required is offered
// beside the sound in clear: who does not know a=crypto passes it over (RFC 8643).
func (l *local) offer(laws []uint8, dir direction, t terms) []byte {
	var b strings.Builder
	profile := "RTP/AVP"
	if !t.clear {
		profile = "RTP/SAVP"
	}
	fmt.Fprintf(&b, "m=audio %d %s", l.addr.Port(), profile)
	for _, law := range laws {
		fmt.Fprintf(&b, " %d", law)
	}
	fmt.Fprintf(&b, " %d\r\n", ownKeyPT)
	for _, law := range laws {
		fmt.Fprintf(&b, "a=rtpmap:%d %s/8000\r\n", law, audio.Law(law))
	}
	fmt.Fprintf(&b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\na=ptime:20\r\na=%s\r\n", ownKeyPT, ownKeyPT, dir)
	if t.crypto {
		b.WriteString(l.key.line(ownTag, l.key.suite, ""))
	}
	return l.write(b.String())
}

// direct is a description of ours in another direction.
func direct(rest string, dir direction) string {
	for d := sendRecv; d <= inactive; d++ {
		rest = strings.Replace(rest, "a="+d.String()+"\r\n", "a="+dir.String()+"\r\n", 1)
	}
	return rest
}

// answer mirrors an offer: as many m= lines, all but one refused with port 0
// (RFC 3264 §6), the payload types of whoever offered.
func (l *local) answer(o *sdp, a agreement) []byte {
	var b strings.Builder
	for i := range o.media {
		m := &o.media[i]
		if i != a.index {
			formats := strings.Join(m.formats, " ")
			if formats == "" {
				formats = "0"
			}
			fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", m.kind, m.proto, formats)
			continue
		}
		fmt.Fprintf(&b, "m=audio %d %s %d", l.addr.Port(), m.proto, a.format.PT)
		if a.format.KeyPT != 0 {
			fmt.Fprintf(&b, " %d", a.format.KeyPT)
		}
		if a.format.Noise {
			fmt.Fprintf(&b, " %d", comfortPT)
		}
		fmt.Fprintf(&b, "\r\na=rtpmap:%d %s/8000\r\n", a.format.PT, a.format.Law)
		if a.format.KeyPT != 0 {
			fmt.Fprintf(&b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\n", a.format.KeyPT, a.format.KeyPT)
		}
		if a.format.Noise {
			fmt.Fprintf(&b, "a=rtpmap:%d CN/8000\r\n", comfortPT)
		}
		fmt.Fprintf(&b, "a=ptime:20\r\na=%s\r\n", a.dir)
		if a.crypto != nil {
			b.WriteString(l.key.line(a.crypto.tag, a.crypto.suite, a.crypto.id)) // RFC 4568 §5.1.2: the tag of the line that was chosen
		}
	}
	return l.write(b.String())
}
