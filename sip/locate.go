package sip

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	locateLongest = 2 * time.Second // somebody waits for the call behind it
	locateFresh   = time.Minute     // net.Resolver tells no TTL; carriers' are mostly longer
	locateMost    = 16              // addresses of one name: nobody waits for a seventeenth
)

// Locator finds a carrier's switches by their name (RFC 3263 §4.2): SRV where the
// name stands without a port, then A and AAAA. What was found is asked for again
// after a minute. When nobody answers that asks, what was found last holds: a
// carrier whose names are away may take calls all the same. NAPTR is not asked: the
// transport is configured.
type Locator struct {
	// Resolver asks; nil: the system's.
	Resolver *net.Resolver

	mu    sync.Mutex // guards known
	known map[string]located
}

// located is what a name stood for.
type located struct {
	at   time.Time
	srv  []*net.SRV // with addresses
	list [][]netip.AddrPort
}

// Targets are the addresses of a name, in the order in which they are to be tried;
// port 0: the one that the SRV records say, or the transport's.
func (l *Locator) Targets(ctx context.Context, host string, port uint16, tcp bool, whom *tls.Config) ([]netip.AddrPort, error) {
	transport := transportOf(tcp, whom)
	key := fmt.Sprintf("%s:%d/%s", host, port, transport)
	l.mu.Lock()
	found, known := l.known[key]
	l.mu.Unlock()
	now := time.Now()
	if !known || now.Sub(found.at) >= locateFresh {
		ctx, cancel := context.WithTimeout(ctx, locateLongest)
		defer cancel()
		fresh, err := l.look(ctx, host, port, transport)
		switch {
		case err == nil:
			found = fresh
		case !known:
			return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, host, err)
		}
		found.at = now
		l.mu.Lock()
		if l.known == nil {
			l.known = map[string]located{}
		}
		l.known[key] = found
		l.mu.Unlock()
	}
	var list []netip.AddrPort
	for _, i := range preferred(found.srv, rand.IntN) {
		for _, at := range found.list[i] {
			if !slices.Contains(list, at) && len(list) < locateMost {
				list = append(list, at)
			}
		}
	}
	return list, nil
}

// look asks for a name.
func (l *Locator) look(ctx context.Context, host string, port uint16, transport string) (located, error) {
	service, proto, usual := "sip", transport, uint16(sip.DefaultUdpPort)
	if transport == transportTLS { // RFC 3263 §4.2: _sips._tcp
		service, proto, usual = "sips", transportTCP, uint16(sip.DefaultTlsPort)
	}
	one := []*net.SRV{{Target: host, Port: cmp.Or(port, usual)}}
	records := one
	if port == 0 {
		_, srv, err := l.resolver().LookupSRV(ctx, service, proto, host)
		var no *net.DNSError
		switch {
		case err == nil && len(srv) == 1 && srv[0].Target == ".": // RFC 2782: decidedly not available
			return located{}, errors.New("the domain offers no SIP by this transport")
		case err == nil && len(srv) > 0:
			records = srv
		case err != nil && (!errors.As(err, &no) || !no.IsNotFound):
			return located{}, err
		}
	}
	var found located
	var failed error
	for _, r := range records {
		ips, err := l.resolver().LookupNetIP(ctx, "ip", r.Target)
		if err != nil {
			failed = err // the others may do
			continue
		}
		var list []netip.AddrPort
		for _, ip := range ips {
			list = append(list, netip.AddrPortFrom(ip.Unmap().WithZone(""), r.Port))
		}
		found.srv, found.list = append(found.srv, r), append(found.list, list)
	}
	if len(found.srv) == 0 {
		return located{}, failed
	}
	return found, nil
}

func (l *Locator) resolver() *net.Resolver {
	if l.Resolver == nil {
		return net.DefaultResolver
	}
	return l.Resolver
}

// preferred orders SRV records as RFC 2782 asks: by priority, and among equals at
// random by weight, so that each gets its share of the calls. It gives their places.
func preferred(records []*net.SRV, random func(n int) int) []int {
	left := make([]int, len(records))
	for i := range left {
		left[i] = i
	}
	slices.SortStableFunc(left, func(a, b int) int { // of one priority those without a weight stand first
		return cmp.Or(cmp.Compare(records[a].Priority, records[b].Priority), cmp.Compare(min(records[a].Weight, 1), min(records[b].Weight, 1)))
	})
	var order []int
	for len(left) > 0 {
		group := 1
		for group < len(left) && records[left[group]].Priority == records[left[0]].Priority {
			group++
		}
		sum := 0
		for _, i := range left[:group] {
			sum += int(records[i].Weight)
		}
		drawn, chosen := random(sum+1), 0
		for at, i := range left[:group] {
			if drawn -= int(records[i].Weight); drawn <= 0 {
				chosen = at
				break
			}
		}
		order = append(order, left[chosen])
		left = slices.Delete(left, chosen, chosen+1)
	}
	return order
}
