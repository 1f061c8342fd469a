package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestARegisteredTrunk: a carrier that does not know where we are is told, with the
// account's password, asked from time to time, and told goodbye.
func TestARegisteredTrunk(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 7)})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 64) // what the carrier understood
	done := make(chan struct{})
	go func() { defer close(done); carrier(conn, heard) }() // ends when conn is closed
	defer func() { _ = conn.Close(); <-done }()
	s := newServer(t, func(s *server) {
		config := filepath.Join(s.dir, "pronto.toml")
		put(t, config, fmt.Appendf(nil, "[[sip.trunk]]\nname = \"carrier\"\nnetworks = [\"127.0.0.7\"]\ntarget = %q\ncaller = \"+390551234567\"\n"+
			"register = \"0551234567\"\nuser = \"account\"\npassword = \"geheim\"\ndomain = \"voip.carrier.test\"\n", conn.LocalAddr()))
		s.args = []string{"--config", config}
	})
	next := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-heard:
				if got == want {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("the carrier never heard %q", want)
			}
		}
	}
	next("registered for 600")
	within(t, 20*time.Second, "the metrics to say so", func() error {
		resp, err := s.client.Get(s.scheme + "://" + s.http + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		for _, line := range []string{`pronto_trunk_registered{trunk="carrier"} 1`, fmt.Sprintf(`pronto_trunk_target_up{target=%q,trunk="carrier"} 1`, conn.LocalAddr())} {
			if err == nil && !strings.Contains(string(text), line) {
				err = errors.New(line + " is not there")
			}
		}
		return err
	})
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	next("registered for 0")
}

var (
	carrierExpires = regexp.MustCompile(`(?m)^Expires: (\d+)\r$`)
	carrierTo      = regexp.MustCompile(`(?m)^To: <sip:0551234567@voip\.carrier\.test>\r$`)
)

// carrier answers what a desk asks of it, and tells of what it has taken.
func carrier(conn *net.UDPConn, heard chan<- string) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		text := string(buf[:n])
		answer := rawReply(text, "carrier", "", "")
		switch {
		case strings.HasPrefix(text, "REGISTER sip:voip.carrier.test SIP/2.0") && !strings.Contains(text, "Authorization: Digest username=\"account\""):
			answer = strings.Replace(rawReply(text, "carrier", "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"\r\n", ""), "200 OK", "401 Unauthorized", 1)
		case strings.HasPrefix(text, "REGISTER") && carrierTo.MatchString(text):
			heard <- "registered for " + carrierExpires.FindStringSubmatch(text)[1]
		}
		_, _ = conn.WriteToUDP([]byte(answer), from)
	}
}
