package sip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
	"github.com/pronto-desk/pronto/sip/seeds"
)

var far = netip.MustParseAddr("192.0.2.99") // where the SIP came from

func TestAgree(t *testing.T) {
	ap := netip.MustParseAddrPort
	const start = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
	for name, x := range map[string]struct {
		body   string
		format media.Format
		peer   media.Peer
		dir    direction
		err    error
	}{
		"plain": {start + "m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n",
			media.Format{Law: audio.PCMA, PT: 8, KeyPT: 101}, media.Peer{RTP: ap("192.0.2.1:4000"), RTCP: ap("192.0.2.1:4001"), Source: far, Send: true, Receive: true}, sendRecv, nil},
		"their order, their numbers": {start + "m=audio 4000 RTP/AVP 18 97 8 126\r\na=rtpmap:97 pcmu/8000/1\r\na=rtpmap:126 telephone-event/8000\r\n",
			media.Format{Law: audio.PCMU, PT: 97, KeyPT: 126}, media.Peer{RTP: ap("192.0.2.1:4000"), RTCP: ap("192.0.2.1:4001"), Source: far, Send: true, Receive: true}, sendRecv, nil},
		"keys of another clock": {start + "m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/16000\r\n",
			media.Format{Law: audio.PCMA, PT: 8}, media.Peer{RTP: ap("192.0.2.1:4000"), RTCP: ap("192.0.2.1:4001"), Source: far, Send: true, Receive: true}, sendRecv, nil},
		"sloppy": {"m=audio 4000 RTP/AVP 8\na=sendonly\nc=IN IP4 192.0.2.1\ny=what\no=a b 1 2 IN IP4 x",
			media.Format{Law: audio.PCMA, PT: 8}, media.Peer{RTP: ap("192.0.2.1:4000"), RTCP: ap("192.0.2.1:4001"), Source: far, Receive: true}, recvOnly, nil},
		"held as in 1999": {strings.ReplaceAll(start, "c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0") + "m=audio 4000 RTP/AVP 8\r\n",
			media.Format{Law: audio.PCMA, PT: 8}, media.Peer{Source: far, Receive: true}, recvOnly, nil},
		"session's direction": {start + "a=inactive\r\nm=audio 4000 RTP/AVP 0\r\n",
			media.Format{Law: audio.PCMU, PT: 0}, media.Peer{RTP: ap("192.0.2.1:4000"), RTCP: ap("192.0.2.1:4001"), Source: far}, inactive, nil},
		"second audio, own address": {start + "m=video 4002 RTP/AVP 31\r\nm=audio 0 RTP/AVP 8\r\nm=audio 4004 RTP/AVP 8\r\nc=IN IP6 2001:db8::1\r\na=rtcp:5000 IN IP6 2001:db8::2\r\na=recvonly\r\n",
			media.Format{Law: audio.PCMA, PT: 8}, media.Peer{RTP: ap("[2001:db8::1]:4004"), RTCP: ap("[2001:db8::2]:5000"), Source: far, Send: true}, sendOnly, nil},
		"a host name": {"v=0\r\nc=IN IP4 phone.example.it\r\nm=audio 4000 RTP/AVP 8\r\n",
			media.Format{Law: audio.PCMA, PT: 8}, media.Peer{RTP: ap("192.0.2.99:4000"), RTCP: ap("192.0.2.99:4001"), Source: far, Send: true, Receive: true}, sendRecv, nil},
		"wideband only": {start + "m=audio 4000 RTP/AVP 18 9 101\r\na=rtpmap:101 telephone-event/8000\r\n",
			media.Format{Law: audio.G722, PT: 9, KeyPT: 101}, media.Peer{RTP: ap("192.0.2.1:4000"), RTCP: ap("192.0.2.1:4001"), Source: far, Send: true, Receive: true}, sendRecv, nil},
		"wideband first": {start + "m=audio 4000 RTP/AVP 9 0 8\r\na=rtpmap:9 G722/8000\r\n",
			media.Format{Law: audio.PCMU, PT: 0}, media.Peer{RTP: ap("192.0.2.1:4000"), RTCP: ap("192.0.2.1:4001"), Source: far, Send: true, Receive: true}, sendRecv, nil},
		"nothing common":         {start + "m=audio 4000 RTP/AVP 15 18 3\r\n", media.Format{}, media.Peer{}, 0, ErrNoCodec},
		"encrypted":              {start + "m=audio 4000 RTP/SAVP 8\r\n", media.Format{}, media.Peer{}, 0, ErrNoCodec},
		"fax":                    {start + "m=image 4000 udptl t38\r\n", media.Format{}, media.Peer{}, 0, ErrNoCodec},
		"no media":               {start, media.Format{}, media.Peer{}, 0, ErrNoCodec},
		"no description":         {"hello", media.Format{}, media.Peer{}, 0, errNoSDP},
		"empty":                  {"", media.Format{}, media.Peer{}, 0, errNoSDP},
		"too long":               {strings.Repeat("a", maxSDP+1), media.Format{}, media.Peer{}, 0, errSDPTooLong},
		"an m-line that is none": {start + "m=audio 4000 RTP/AVP 8\r\nm=audio 70000 RTP/AVP 0\r\na=inactive\r\nc=IN IP4 192.0.2.66\r\n", media.Format{}, media.Peer{}, 0, errSDPMedia},
		"too many":               {strings.Repeat("m=audio 1 RTP/AVP 8\r\n", maxSDPMedia+1), media.Format{}, media.Peer{}, 0, errSDPTooLong},
	} {
		s, err := parseSDP([]byte(x.body))
		var g agreement
		if err == nil {
			g, err = s.agree(far, terms{clear: true})
		}
		if !errors.Is(err, x.err) || err == nil && (g.format != x.format || g.peer != x.peer || g.dir != x.dir) {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
}

func TestATelephoneOnThisMachine(t *testing.T) {
	s, err := parseSDP([]byte("v=0\r\nc=IN IP4 192.0.2.2\r\nm=audio 4000 RTP/AVP 8\r\na=rtcp:4005\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.agree(netip.MustParseAddr("127.0.0.1"), terms{clear: true})
	want := media.Peer{RTP: netip.MustParseAddrPort("127.0.0.1:4000"), RTCP: netip.MustParseAddrPort("127.0.0.1:4005"), Source: netip.MustParseAddr("192.0.2.2"), Send: true, Receive: true}
	if err != nil || g.peer != want {
		t.Errorf("%+v, %v", g.peer, err)
	}
}

func TestAnswerMirrorsTheOffer(t *testing.T) {
	offer, err := parseSDP([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=video 4002 RTP/AVP 31 34\r\nm=audio 4000 RTP/AVP 18 0 96\r\na=rtpmap:96 telephone-event/8000\r\na=sendonly\r\nm=image 5000 udptl t38\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := offer.agree(far, terms{clear: true})
	if err != nil {
		t.Fatal(err)
	}
	l := local{id: 7, version: 1, addr: netip.MustParseAddrPort("[2001:db8::5]:20000")}
	want := "v=0\r\no=pronto 7 1 IN IP6 2001:db8::5\r\ns=Pronto\r\nc=IN IP6 2001:db8::5\r\nt=0 0\r\n" +
		"m=video 0 RTP/AVP 31 34\r\nm=audio 20000 RTP/AVP 0 96\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\na=ptime:20\r\na=recvonly\r\nm=image 0 udptl t38\r\n"
	if got := string(l.answer(offer, g)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// The version moves when the description does (RFC 3264 §8), and only then.
	for i, step := range []struct {
		dir  direction
		want string
	}{{recvOnly, " 7 1 "}, {sendRecv, " 7 2 "}, {sendRecv, " 7 2 "}, {recvOnly, " 7 3 "}} {
		g.dir = step.dir
		if got := string(l.answer(offer, g)); !strings.Contains(got, step.want) {
			t.Errorf("step %d: %s", i, got)
		}
	}
}

// G.722 is answered with the clock that it does not have (RFC 3551 §4.5.2).
func TestAnswerWithG722(t *testing.T) {
	offer, err := parseSDP([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 97 18\r\na=rtpmap:97 G722/8000/1\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := offer.agree(far, terms{clear: true})
	if err != nil {
		t.Fatal(err)
	}
	l := local{id: 7, version: 1, addr: netip.MustParseAddrPort("192.0.2.5:20000")}
	if got, want := string(l.answer(offer, g)), "m=audio 20000 RTP/AVP 97\r\na=rtpmap:97 G722/8000\r\n"; !strings.Contains(got, want) {
		t.Errorf("got\n%s", got)
	}
}

// Comfort noise is accepted where it is offered as what it is.
func TestAnswerToComfortNoise(t *testing.T) {
	for formats, want := range map[string]string{
		"8 13 96":                               "m=audio 20000 RTP/AVP 8 13\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n",
		"8 13 96\r\na=rtpmap:13 CN/8000":        "m=audio 20000 RTP/AVP 8 13\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n",
		"8 13\r\na=rtpmap:13 G726-32/8000":      "m=audio 20000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=ptime",
		"8 107\r\na=rtpmap:107 CN/16000\r\na=x": "m=audio 20000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=ptime",
	} {
		offer, err := parseSDP([]byte("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP " + formats + "\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		g, err := offer.agree(far, terms{clear: true})
		if err != nil {
			t.Fatal(err)
		}
		l := local{id: 7, version: 1, addr: netip.MustParseAddrPort("192.0.2.5:20000")}
		if got := string(l.answer(offer, g)); !strings.Contains(got, want) {
			t.Errorf("%q: got\n%s", formats, got)
		}
	}
}

func FuzzSDP(f *testing.F) {
	for _, s := range []string{
		"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:4001\r\n",
		"m=audio 65535 RTP/AVP 8\n", "m=\nc=\na=rtpmap:\na=rtcp:x\no=a", "m=audio 1/2 RTP/AVPF 0 8\r\nc=IN IP6 ::\r\na=inactive",
	} {
		f.Add([]byte(s))
	}
	for _, seed := range seeds.Of(f, "sdp") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := parseSDP(body)
		if err != nil {
			return
		}
		g, err := s.agree(far, terms{clear: true})
		if err != nil {
			return
		}
		l := local{id: 1, version: 1, addr: netip.MustParseAddrPort("192.0.2.5:20000")}
		answer := l.answer(s, g)
		again, err := parseSDP(answer)
		if err != nil || len(again.media) != len(s.media) {
			t.Fatalf("the answer to %q is %q: %v", body, answer, err)
		}
		h, err := again.agree(far, terms{clear: true})
		if err != nil || h.format.Law != g.format.Law || h.index != g.index {
			t.Fatalf("the answer to %q says something else: %q", body, answer)
		}
	})
}
