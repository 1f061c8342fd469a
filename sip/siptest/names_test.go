package siptest_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/siptest"
)

// TestLocate: a carrier's switches by name, on a real socket: SRV by priority, a
// name with a port, one without SRV, none at all, and what holds while nobody
// answers that asks.
func TestLocate(t *testing.T) {
	n := names(t)
	n.SRV("_sip._udp.carrier.test.", 20, 0, 5080, "second.carrier.test.")
	n.SRV("_sip._udp.carrier.test.", 10, 5, 5070, "first.carrier.test.")
	n.SRV("_sip._udp.carrier.test.", 15, 0, 5070, "gone.carrier.test.") // no address: the others do
	n.SRV("_sips._tcp.carrier.test.", 0, 0, 5091, "first.carrier.test.")
	n.SRV("_sip._udp.closed.test.", 0, 0, 0, ".")
	n.A("first.carrier.test.", "192.0.2.1", "2001:db8::1")
	n.A("second.carrier.test.", "192.0.2.2")
	n.A("plain.test.", "192.0.2.9")
	synctest.Test(t, func(t *testing.T) {
		l := &sip.Locator{Resolver: n.Resolver}
		for _, c := range []struct {
			host string
			port uint16
			tcp  bool
			want string // addresses of one name come in any order
		}{
			{"carrier.test.", 0, false, "192.0.2.1:5070 192.0.2.2:5080 [2001:db8::1]:5070"},
			{"first.carrier.test.", 6000, false, "192.0.2.1:6000 [2001:db8::1]:6000"},
			{"plain.test.", 0, false, "192.0.2.9:5060"},
			{"plain.test.", 0, true, "192.0.2.9:5060"},
		} {
			list, err := l.Targets(t.Context(), c.host, c.port, c.tcp, nil)
			if err != nil || sorted(list) != c.want {
				t.Errorf("%s: %v, %v; want %s", c.host, list, err, c.want)
			}
			if c.host == "carrier.test." && (len(list) != 3 || list[2].Port() != 5080) {
				t.Errorf("the second priority is not last: %v", list)
			}
		}
		for _, host := range []string{"closed.test.", "nobody.test."} {
			if list, err := l.Targets(t.Context(), host, 0, false, nil); !errors.Is(err, sip.ErrUnreachable) {
				t.Errorf("%s: %v, %v", host, list, err)
			}
		}
		asked := n.Asked.Load()
		if _, err := l.Targets(t.Context(), "carrier.test.", 0, false, nil); err != nil || n.Asked.Load() != asked {
			t.Errorf("asked again within a minute: %v", err)
		}
		n.Away.Store(true)
		<-time.After(2 * time.Minute)
		if list, err := l.Targets(t.Context(), "carrier.test.", 0, false, nil); err != nil || len(list) != 3 || n.Asked.Load() == asked {
			t.Errorf("while nobody answers: %v, %v", list, err)
		}
	})
}

func names(t *testing.T) *siptest.Names {
	t.Helper()
	n, err := siptest.NewNames()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func sorted(list []netip.AddrPort) string {
	var text []string
	for _, a := range list {
		text = append(text, a.String())
	}
	slices.Sort(text)
	return strings.Join(text, " ")
}
