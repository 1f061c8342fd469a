//go:build figures

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	callsFor     = 10 * time.Second // at each rate
	relayPackets = 50_000           // about a second's work of one core
	relayBytes   = 172              // 20 ms of G.711 with its RTP header
	relayAhead   = 64               // packets on their way: fewer than a socket's buffer holds
	rusageThread = 1                // RUSAGE_THREAD, getrusage(2)
)

// TestFiguresCalls measures what a call costs that is answered and hung up, at
// rising rates, beside what the same machine needs for relaying one datagram.
func TestFiguresCalls(t *testing.T) {
	s := newServer(t, func(s *server) { s.rtp = "10000-32767" }) // ports rest between calls: many
	k := newRawTrunk(t, s.sip)
	answerRate(t, s, k, 20, 3*time.Second) // the first calls pay for plans and pages
	relayed := relayCost(t)
	var table []string
	for _, rate := range []int{20, 100, 200, 300, 400} {
		took, failed, cpu := answersAt(t, s, k, rate, callsFor)
		if len(failed) > 0 {
			t.Logf("%d calls/s: %d of %d calls failed, the first: %v", rate, len(failed), len(failed)+len(took), failed[0]) // more than this machine can do now
		}
		if len(took) == 0 {
			t.Fatalf("none of %d calls was answered", len(failed))
		}
		each := cpu / float64(len(took))
		table = append(table, fmt.Sprintf("| %d | %d of %d | %s | %.2f ms | %.0f |",
			rate, len(took), rate*int(callsFor/time.Second), spread(took), each*1000, each/relayed.Seconds()))
	}
	t.Logf("\none datagram relayed on loopback: %.1f µs of CPU\n\n"+
		"| calls/s | answered and hung up | INVITE to 200, contact committed | CPU per call, PostgreSQL included | in datagrams relayed |\n| --- | --- | --- | --- | --- |\n%s",
		float64(relayed.Nanoseconds())/1000, strings.Join(table, "\n"))
}

// relayCost is the CPU that a plain relay on loopback needs for one datagram: a
// read and a write, nothing else. It is the unit in which machines compare.
func relayCost(t *testing.T) time.Duration {
	t.Helper()
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	relay, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(relay)
	if err := syscall.Bind(relay, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	limit := syscall.NsecToTimeval(rawWait.Nanoseconds())
	if err := syscall.SetsockoptTimeval(relay, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(relay)
	if err != nil {
		t.Fatal(err)
	}
	at := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}
	to := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: out.LocalAddr().(*net.UDPAddr).Port}

	window := make(chan struct{}, relayAhead)
	var parts sync.WaitGroup
	parts.Go(func() { // the listener: makes room for the next
		buf := make([]byte, relayBytes)
		for range relayPackets {
			_ = out.SetReadDeadline(time.Now().Add(rawWait))
			if _, err := out.Read(buf); err != nil {
				t.Error(err)
				out.Close()
				return
			}
			<-window
		}
	})
	parts.Go(func() { // the speaker
		buf := make([]byte, relayBytes)
		for i := range relayPackets {
			select {
			case window <- struct{}{}:
			case <-time.After(rawWait):
				t.Error("a datagram was lost on the way")
				return
			}
			binary.BigEndian.PutUint32(buf, uint32(i))
			if _, err := in.WriteTo(buf, at); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var cost time.Duration
	parts.Go(func() { cost, err = relayDatagrams(relay, to) })
	parts.Wait()
	if err != nil {
		t.Fatal(os.NewSyscallError("relay", err))
	}
	return cost
}

// relayDatagrams passes relayPackets on and gives the CPU of its thread for each.
func relayDatagrams(relay int, to syscall.Sockaddr) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &before); err != nil {
		return 0, err
	}
	buf := make([]byte, relayBytes)
	for range relayPackets {
		n, _, err := syscall.Recvfrom(relay, buf, 0)
		if err != nil {
			return 0, err
		}
		if err := syscall.Sendto(relay, buf[:n], 0, to); err != nil {
			return 0, err
		}
	}
	if err := syscall.Getrusage(rusageThread, &after); err != nil {
		return 0, err
	}
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	return time.Duration(spent / relayPackets), nil
}
