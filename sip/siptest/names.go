package siptest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// Names is a DNS server of a few records, on a socket of its own. Inside a bubble it
// is made outside of it.
type Names struct {
	Resolver *net.Resolver // asks it
	Asked    atomic.Int64  // questions so far
	Away     atomic.Bool   // answers nothing but that it cannot

	conn *net.UDPConn
	done chan struct{}

	mu      sync.Mutex                           // guards what follows: a socket between two goroutines orders nothing
	records map[string][]dnsmessage.ResourceBody // by "name. TYPE"
}

// NewNames begins to answer, until Close.
func NewNames() (*Names, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return nil, err
	}
	n := &Names{conn: conn, done: make(chan struct{}), records: map[string][]dnsmessage.ResourceBody{}}
	n.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	go n.serve()
	_, _ = n.Resolver.LookupHost(context.Background(), "nobody.test.") // what package net keeps for the process is made outside of any bubble
	n.Asked.Store(0)
	return n, nil
}

// Close ends it.
func (n *Names) Close() {
	_ = n.conn.Close()
	<-n.done
}

func (n *Names) serve() {
	defer close(n.done)
	b := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		n.Asked.Add(1)
		m.Response, m.Additionals = true, nil
		q := m.Questions[0]
		list, ok := n.known(q.Name.String() + " " + strings.TrimPrefix(q.Type.String(), "Type"))
		switch {
		case n.Away.Load():
			m.RCode = dnsmessage.RCodeServerFailure
		case !ok:
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, body := range list {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 300}, Body: body})
		}
		if out, err := m.Pack(); err == nil {
			_, _ = n.conn.WriteToUDPAddrPort(out, from)
		}
	}
}

func (n *Names) known(key string) ([]dnsmessage.ResourceBody, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ok := n.records[key]
	return list, ok
}

func (n *Names) add(key string, body dnsmessage.ResourceBody) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[key] = append(n.records[key], body)
}

// SRV adds a record.
func (n *Names) SRV(name string, priority, weight, port uint16, target string) {
	n.add(name+" SRV", &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target)})
}

// A adds addresses of a name, A and AAAA.
func (n *Names) A(name string, ips ...string) {
	for _, text := range ips {
		if ip := netip.MustParseAddr(text); ip.Is4() {
			n.add(name+" A", &dnsmessage.AResource{A: ip.As4()})
		} else {
			n.add(name+" AAAA", &dnsmessage.AAAAResource{AAAA: ip.As16()})
		}
	}
}
