package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/icholy/digest"
)

const (
	answerWait = 500 * time.Millisecond // T1 of RFC 3261 §17.1.2.2; doubled at every repetition
	giveUp     = 8 * time.Second
	maxMessage = 8 << 10 // bytes of an answer that we read
)

var challenges = regexp.MustCompile(`(?mi)^WWW-Authenticate:\s*(Digest [^\r\n]*)`)

// register signs the telephone on (or off, with expires 0) with digest.
func (p *phone) register(ctx context.Context, local netip.AddrPort, expires time.Duration) error {
	conn, err := dialUDP(local, p.server)
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	defer conn.Close()
	id, uri, authorization := uuid.NewString(), "sip:"+p.server.Addr().String(), ""
	for seq := 1; seq <= 2; seq++ {
		text := fmt.Sprintf("REGISTER %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=%s\r\nTo: <sip:%s@%s>\r\n"+
			"Call-ID: %s\r\nCSeq: %d REGISTER\r\nContact: <sip:%s@%s>\r\nExpires: %d\r\nUser-Agent: Pronto caller\r\n%sContent-Length: 0\r\n\r\n",
			uri, conn.LocalAddr(), id, seq, p.Register, p.server.Addr(), id[:8], p.Register, p.server.Addr(), id, seq, p.Register, local, int(expires.Seconds()), authorization)
		answer, err := exchange(ctx, conn, text)
		if err != nil {
			return fmt.Errorf("register %s: %w", p.Register, err)
		}
		switch {
		case strings.HasPrefix(answer, "SIP/2.0 200"):
			return nil
		case !strings.HasPrefix(answer, "SIP/2.0 401") || seq == 2:
			return fmt.Errorf("register %s: %s", p.Register, printable(answer))
		}
		if authorization, err = p.credentials(answer, uri); err != nil {
			return fmt.Errorf("register %s: %w", p.Register, err)
		}
	}
	return nil
}

// credentials answers the first challenge that we can.
func (p *phone) credentials(answer, uri string) (string, error) {
	for _, m := range challenges.FindAllStringSubmatch(answer, -1) {
		c, err := digest.ParseChallenge(m[1])
		if err != nil || !digest.CanDigest(c) {
			continue
		}
		cred, err := digest.Digest(c, digest.Options{Method: "REGISTER", URI: uri, Username: p.Register, Password: p.Password})
		if err != nil {
			return "", err
		}
		return "Authorization: " + cred.String() + "\r\n", nil
	}
	return "", errors.New("no challenge that we can answer")
}

// datagrams is the part of a connected UDP socket that exchange needs.
type datagrams interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	SetReadDeadline(time.Time) error
}

// exchange sends a request until it is answered.
func exchange(ctx context.Context, conn datagrams, text string) (string, error) {
	buf := make([]byte, maxMessage)
	wait := answerWait
	for end := time.Now().Add(giveUp); time.Now().Before(end) && ctx.Err() == nil; wait *= 2 {
		if _, err := conn.Write([]byte(text)); err != nil {
			return "", err
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return "", err
		}
		if n, err := conn.Read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", errors.New("no answer")
}
