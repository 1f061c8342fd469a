package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/tickets"
)

var rawKept = regexp.MustCompile(`(?mi)^(?:Via|From|Call-ID|CSeq):.*\r\n`)
var rawTo = regexp.MustCompile(`(?mi)^To:.*`)

// rawSwitch is a carrier's switch made of plain text: it lets every number ring,
// and lifts when it is told to. Each INVITE's Call-ID comes out of the channel
// once.
func rawSwitch(t testing.TB, lifts bool) (addr string, dialled <-chan string) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ids, done := make(chan string, 100), make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() { // ends when conn is closed
		defer close(done)
		buf, seen := make([]byte, 64<<10), map[string]bool{}
		for {
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			text := string(buf[:n])
			answer := func(status, more string) {
				kept := strings.Join(rawKept.FindAllString(text, -1), "")
				_, _ = conn.WriteToUDP([]byte("SIP/2.0 "+status+"\r\n"+kept+strings.TrimRight(rawTo.FindString(text), "\r")+";tag=far\r\nContact: <sip:far@"+conn.LocalAddr().String()+">\r\n"+more), from)
			}
			id := rawCallID.FindStringSubmatch(text)
			switch {
			case id == nil:
			case strings.HasPrefix(text, "INVITE "):
				if !lifts {
					answer("180 Ringing", "Content-Length: 0\r\n\r\n")
				} else {
					sdp := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
					answer("200 OK", fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(sdp), sdp))
				}
				if !seen[id[1]] {
					seen[id[1]] = true
					ids <- id[1]
				}
			case strings.HasPrefix(text, "BYE "), strings.HasPrefix(text, "CANCEL "):
				answer("200 OK", "Content-Length: 0\r\n\r\n")
			}
		}
	}()
	return conn.LocalAddr().String(), ids
}

// TestKillInCallback kills the server while it rings somebody back: the attempt
// has its ending, the operator is free, and who was not reached is rung again.
func TestKillInCallback(t *testing.T) {
	for name, lifts := range map[string]bool{"dialling": false, "talking": true} {
		t.Run(name, func(t *testing.T) {
			target, dialled := rawSwitch(t, lifts)
			config := filepath.Join(t.TempDir(), "pronto.toml")
			text := fmt.Sprintf("[[sip.trunk]]\nname = \"carrier\"\nnetworks = [\"127.0.0.1\"]\ntarget = %q\ncaller = \"+39055400500\"\n", target)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s := newServer(t, func(s *server) { s.args = []string{"--config", config}; s.operators = 1 })
			k := newRawTrunk(t, s.sip)
			lost, err := k.invite("800000001")
			if err != nil {
				t.Fatal(err)
			}
			if status, _, err := lost.answer(); err != nil || status != 200 {
				t.Fatalf("answered %d: %v", status, err)
			}
			lost.press("12")
			s.contactOf(lost.id, "the caller to wait", func(c tickets.Record) bool { return c.Tq != nil })
			if err := lost.hangUp(); err != nil {
				t.Fatal(err)
			}
			first := s.contactOf(lost.id, "the call to be lost", func(c tickets.Record) bool { return c.RingBack != nil })
			s.must("POST", "/ringbacks/"+first.ID.String()+"/book", nil, nil)
			sippPhones(t, s, sippDir(t), 1, time.Minute)
			var attempt string
			select {
			case attempt = <-dialled:
			case <-time.After(60 * time.Second):
				t.Fatal("nobody was dialled")
			}
			if lifts {
				s.contactOf(attempt, "the talk", func(c tickets.Record) bool { return c.Tc != nil })
			}
			s.kill()
			s.start()
			got := s.contactOf(attempt, "the attempt to have its ending", func(c tickets.Record) bool { return c.Ending != nil })
			if endingOf(got) != "system_fault" {
				t.Errorf("the attempt ended %s (%s)", endingOf(got), kinds(got))
			}
			var list struct{ Items []tickets.Callback }
			s.must("GET", "/callbacks?state=all", nil, &list)
			if len(list.Items) != 1 || len(list.Items[0].Attempts) == 0 {
				t.Fatalf("callbacks: %+v", list.Items)
			}
			c := list.Items[0]
			if lifts { // they were reached: the callback was over before the talk broke off
				if c.Outcome == nil || *c.Outcome != "reached" || c.Attempts[0].Outcome != "reached" {
					t.Errorf("the callback: %+v", c)
				}
				var seats struct {
					Items []struct{ Operator, Doing string }
				}
				s.must("GET", "/operators", nil, &seats)
				for _, seat := range seats.Items {
					if seat.Doing == "talking" || seat.Doing == "offered" {
						t.Errorf("%s is still %s with nobody", seat.Operator, seat.Doing)
					}
				}
				return
			}
			if c.Outcome != nil || c.Attempts[0].Outcome != "system_fault" {
				t.Errorf("the callback: %+v", c)
			}
			within(t, 60*time.Second, "the operator to be free", func() error {
				_, err := s.do("PUT", "/operators/anna/state", map[string]string{"declared": "available"}, nil)
				return err
			})
			select {
			case again := <-dialled: // at once: it was no fault of theirs
				if again == attempt {
					t.Error("the same attempt was dialled again")
				}
			case <-time.After(60 * time.Second):
				t.Fatal("who was not reached is not rung again")
			}
		})
	}
}
