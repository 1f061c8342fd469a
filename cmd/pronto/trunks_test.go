package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/ivr"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/media"
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
		text := s.scraped()
		for _, line := range []string{`pronto_trunk_registered{trunk="carrier"} 1`, fmt.Sprintf(`pronto_trunk_target_up{target=%q,trunk="carrier"} 1`, conn.LocalAddr())} {
			if !strings.Contains(text, line) {
				return errors.New(line + " is not there")
			}
		}
		return nil
	})
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	next("registered for 0")
}

// TestASwitchThatFallsSilent: a call that a switch only tries goes to the next one, when
// the first has let it go and not before; of the last nothing better is hoped, and the
// next call goes there at once.
func TestASwitchThatFallsSilent(t *testing.T) {
	heard := make(chan string, 16)
	var switches []netip.AddrPort
	for _, name := range []string{"first", "second"} {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 7)})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); deaf(conn, name, heard) }() // ends when conn is closed
		defer func() { _ = conn.Close(); <-done }()
		switches = append(switches, conn.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	engine := media.New(media.Config{MinPort: 45000, MaxPort: 45999})
	agent, err := sip.New(sip.Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Media: engine})
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = engine.Run(ctx) })
	running.Go(func() { _ = agent.Run(ctx) })
	defer running.Wait()
	defer stop()
	l := &lines{agent: agent, log: slog.New(slog.DiscardHandler), silent: map[netip.AddrPort]bool{}, out: trunk{target: switches[0], standby: switches[1:], progress: 200 * time.Millisecond, caller: "+390551234567"}}
	for range 2 {
		_, err = l.Dial(ctx, "+390559876543", "")
		var u *ivr.Unreached
		if !errors.As(err, &u) || u.Outcome != queue.Engaged {
			t.Errorf("dialled %v", err)
		}
	}
	var all []string
	for len(heard) > 0 {
		all = append(all, <-heard)
	}
	if got := strings.Join(all, ", "); got != "first INVITE, first CANCEL, first let go, second INVITE, second INVITE" {
		t.Errorf("heard %s", got)
	}
}

// deaf is a switch that tries a call for longer than the desk wants to wait: the first
// tries until it is told to let go, the second finds out that somebody is engaged, and
// knows it from then on.
func deaf(conn *net.UDPConn, name string, heard chan<- string) {
	buf := make([]byte, 64<<10)
	say := func(text, status, tag string, from *net.UDPAddr) {
		_, _ = conn.WriteToUDP([]byte(strings.Replace(rawReply(text, tag, "", ""), "200 OK", status, 1)), from)
	}
	invite, wait := "", 500*time.Millisecond // longer than the first is given
	for {
		n, from, err := conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		text := string(buf[:n])
		switch method, _, _ := strings.Cut(text, " "); {
		case method == "INVITE" && invite == "":
			invite = text
			heard <- name + " INVITE"
			say(text, "100 Trying", "", from)
			if name == "second" {
				time.AfterFunc(wait, func() { say(text, "486 Busy Here", "b", from) })
				wait = 0
			}
		case method == "ACK":
			invite = ""
		case method == "CANCEL":
			heard <- name + " CANCEL"
			say(text, "200 OK", "a", from)
			heard <- name + " let go"
			say(invite, "487 Request Terminated", "a", from)
		}
	}
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
