package siptest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	here  = netip.MustParseAddrPort("10.0.0.1:5060")
	there = netip.MustParseAddrPort("10.0.2.7:4000")
	sixth = netip.MustParseAddrPort("[fd00::1]:5060")
)

// pair are two sockets of a wire.
func pair(t *testing.T, w *Wire, a, b netip.AddrPort) (*Conn, *Conn) {
	t.Helper()
	left, err := w.Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	right, err := w.Listen(b)
	if err != nil {
		t.Fatal(err)
	}
	return left, right
}

// carried sends n numbered packets, one every 20 ms, and gives those that arrive
// with the time each took.
func carried(t *testing.T, w *Wire, n int) (order []int, took []time.Duration) {
	from, to := pair(t, w, there, here)
	defer from.Close()
	defer to.Close()
	started := time.Now()
	go func() { // ends when all are sent
		for i := range n {
			if _, err := from.WriteToUDPAddrPort(binary.BigEndian.AppendUint32(nil, uint32(i)), here); err != nil {
				t.Error(err)
			}
			<-time.After(20 * time.Millisecond)
		}
	}()
	_ = to.SetReadDeadline(started.Add(time.Duration(n)*20*time.Millisecond + time.Second))
	buf := make([]byte, 100)
	for {
		size, source, err := to.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return order, took
		}
		if err != nil || size != 4 || source != there {
			t.Fatalf("%d octets from %v, %v", size, source, err)
		}
		i := int(binary.BigEndian.Uint32(buf))
		order = append(order, i)
		took = append(took, time.Since(started)-time.Duration(i)*20*time.Millisecond)
	}
}

func TestCleanWireCarriesAllInOrder(t *testing.T) {
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := NewWire(1)
			w.Delay = delay
			order, took := carried(t, w, 50)
			if len(order) != 50 || !slices.IsSorted(order) || slices.ContainsFunc(took, func(d time.Duration) bool { return d != delay }) {
				t.Errorf("%v: %v took %v", delay, order, took)
			}
		})
	}
}

func TestFaultsFollowTheSeed(t *testing.T) {
	const n = 2000
	run := func(seed uint64) (order []int) {
		synctest.Test(t, func(t *testing.T) {
			w := NewWire(seed)
			w.Delay, w.Loss, w.Reorder, w.Late = 5*time.Millisecond, 0.1, 0.05, 50*time.Millisecond
			order, _ = carried(t, w, n)
		})
		return order
	}
	first := run(7)
	if again := run(7); !slices.Equal(first, again) {
		t.Error("the same seed carried other packets")
	}
	if other := run(8); slices.Equal(first, other) {
		t.Error("another seed carried the same packets")
	}
	if lost := n - len(first); lost < n/14 || lost > n/7 { // a tenth, and three deviations on both sides
		t.Errorf("%d of %d are lost, a tenth was asked for", lost, n)
	}
	late := 0
	for i := 1; i < len(first); i++ {
		if first[i] < first[i-1] {
			late++
		}
	}
	if late < n/40 || late > n/14 {
		t.Errorf("%d of %d came late, a twentieth was asked for", late, n)
	}
}

func TestSparedPacketsArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWire(1)
		w.Loss = 1
		w.Spare = func(from, to netip.AddrPort, _ []byte) bool { return from == there && to == here }
		if order, _ := carried(t, w, 20); len(order) != 20 {
			t.Errorf("%v arrived", order)
		}
		w.Spare = nil
		if order, _ := carried(t, w, 20); len(order) != 0 {
			t.Errorf("%v arrived", order)
		}
	})
}

func TestSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWire(1)
		a, b := pair(t, w, here, sixth)
		if _, err := w.Listen(here); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("the same address twice: %v", err)
		}
		// What was sent is a copy, and the source is a net.Addr that can be answered.
		said := []byte("hello")
		if _, err := a.WriteTo(said, net.UDPAddrFromAddrPort(sixth)); err != nil {
			t.Fatal(err)
		}
		copy(said, "XXXXX")
		buf := make([]byte, 3)
		n, from, err := b.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "hel" || from.String() != here.String() {
			t.Errorf("%q from %v, %v", buf[:n], from, err)
		}
		if _, err := b.WriteTo([]byte("x"), from); err != nil {
			t.Error(err)
		}
		if _, err := a.WriteToUDPAddrPort([]byte("x"), there); err != nil {
			t.Errorf("to nobody: %v", err)
		}
		if _, err := a.WriteTo(said, &net.TCPAddr{}); err == nil {
			t.Error("a TCP address is taken")
		}
		// Deadlines: past, changed while reading, and taken away.
		_ = b.SetReadDeadline(time.Now().Add(-time.Second))
		if _, _, err := b.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past deadline: %v", err)
		}
		_ = b.SetReadDeadline(time.Now().Add(time.Hour))
		began, read := time.Now(), make(chan error, 1)
		go func() { _, _, err := b.ReadFrom(buf); read <- err }()
		synctest.Wait()
		_ = b.SetReadDeadline(time.Now().Add(time.Second))
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_ = b.SetReadDeadline(time.Time{})
		go func() { _, _, err := b.ReadFrom(buf); read <- err }()
		<-time.After(time.Minute)
		b.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed socket: %v", err)
		}
		b.Close() // twice is once
		if _, err := b.WriteToUDPAddrPort(said, here); !errors.Is(err, net.ErrClosed) {
			t.Errorf("writing to a closed socket: %v", err)
		}
		if again, err := w.Listen(sixth); err != nil {
			t.Errorf("the address is not free again: %v", err)
		} else {
			again.Close()
		}
		a.Close()
	})
}

// A reader that does not read loses packets, as with UDP, and stops nobody.
func TestFullSocketDropsPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, NewWire(1), here, there)
		defer a.Close()
		defer b.Close()
		for i := range 2 * queueLength {
			if _, err := a.WriteToUDPAddrPort(fmt.Append(nil, i), there); err != nil {
				t.Fatal(err)
			}
		}
		buf, n := make([]byte, 10), 0
		for {
			_ = b.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, _, err := b.ReadFrom(buf); err != nil {
				break
			}
			n++
		}
		if n != queueLength {
			t.Errorf("%d packets were kept", n)
		}
	})
}
