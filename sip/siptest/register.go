package siptest

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/pronto-desk/pronto/sip"
)

var challenge = regexp.MustCompile(`(?mi)^WWW-Authenticate: Digest ([^\r\n]*)`)

const registerWait = 5 * time.Second // for each answer of the registrar

// Register signs the telephone on as an extension, with MD5 digest (RFC 2617),
// in plain text of its own: it shares nothing with the registrar it asks (on real
// sockets it does). An
// hour, or zero to sign off.
func (p *Phone) Register(ctx context.Context, extension, password string, expires time.Duration) error {
	if p.wire == nil {
		_, err := p.agent.Register(ctx, sip.RegisterOptions{Extension: extension, Password: password, Registrar: p.desk, TLS: p.whom, Expires: expires})
		return err
	}
	me := p.agent.Addr()
	from := netip.AddrPortFrom(me.Addr(), me.Port()+10)
	conn, err := p.wire.Listen(from)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Counted, not timed: on a bubble's clock two of them happen in one instant.
	id := fmt.Sprintf("reg-%s-%x-%d", extension, me.Addr().AsSlice(), p.registered.Add(1))
	authorization := ""
	for seq := 1; seq <= 2; seq++ {
		text := fmt.Sprintf("REGISTER sip:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%d\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=%s\r\nTo: <sip:%s@%s>\r\n"+
			"Call-ID: %s\r\nCSeq: %d REGISTER\r\nContact: <sip:%s@%s>\r\nExpires: %d\r\n%sContent-Length: 0\r\n\r\n",
			p.desk.Addr(), from, id, seq, extension, p.desk.Addr(), id, extension, p.desk.Addr(), id, seq, extension, me, int(expires.Seconds()), authorization)
		answer, err := exchange(ctx, conn, p.desk, text)
		if err != nil {
			return fmt.Errorf("register %s: %w", extension, err)
		}
		switch {
		case strings.HasPrefix(answer, "SIP/2.0 200"):
			return nil
		case !strings.HasPrefix(answer, "SIP/2.0 401"):
			line, _, _ := strings.Cut(answer, "\r\n")
			return fmt.Errorf("register %s: %s", extension, line)
		}
		if authorization, err = credentials(answer, extension, password, "sip:"+p.desk.Addr().String()); err != nil {
			return fmt.Errorf("register %s: %w", extension, err)
		}
	}
	return fmt.Errorf("register %s: the password is wrong", extension)
}

// exchange sends a request until it is answered, as RFC 3261 §17.1.2 does.
func exchange(ctx context.Context, conn *Conn, to netip.AddrPort, text string) (string, error) {
	again, buf := 500*time.Millisecond, make([]byte, 64<<10)
	for end := time.Now().Add(registerWait); time.Now().Before(end) && ctx.Err() == nil; again *= 2 {
		if _, err := conn.WriteToUDPAddrPort([]byte(text), to); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(again))
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", errors.New("no answer")
}

// credentials answers the MD5 challenge among those of a 401.
func credentials(answer, user, password, uri string) (string, error) {
	for _, c := range challenge.FindAllStringSubmatch(answer, -1) {
		value := func(name string) string {
			m := regexp.MustCompile(`(?i)\b` + name + `="?([^",]*)"?`).FindStringSubmatch(c[1])
			if m == nil {
				return ""
			}
			return m[1]
		}
		if algorithm := value("algorithm"); algorithm != "" && !strings.EqualFold(algorithm, "MD5") {
			continue
		}
		hash := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
		a1, a2 := hash(user+":"+value("realm")+":"+password), hash("REGISTER:"+uri)
		response := hash(a1 + ":" + value("nonce") + ":00000001:c0ffee:auth:" + a2)
		return fmt.Sprintf("Authorization: Digest username=%q, realm=%q, nonce=%q, uri=%q, qop=auth, nc=00000001, cnonce=\"c0ffee\", algorithm=MD5, response=%q\r\n",
			user, value("realm"), value("nonce"), uri, response), nil
	}
	return "", errors.New("no MD5 challenge")
}
