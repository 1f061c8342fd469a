package sip

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"
)

// pingLongest is how long a switch may take to answer an OPTIONS.
const pingLongest = 4 * time.Second

// Ping asks whether a carrier's switch takes calls, by OPTIONS (RFC 3261 §11). Any
// answer but 503 is a yes: some refuse OPTIONS. The error says why not. By TCP or,
// with whom, by TLS.
func (a *Agent) Ping(ctx context.Context, to netip.AddrPort, tcp bool, whom *tls.Config) error {
	f, err := a.outFlow(to, transportOf(tcp, whom), whom)
	if err != nil {
		return err
	}
	target := sip.Uri{Scheme: "sip", Host: hostText(to.Addr()), Port: int(to.Port())}
	own := sip.Uri{Scheme: "sip", User: "pronto", Host: hostText(f.local.Addr())}
	d := newClientDialog(a, sip.FromHeader{Address: own}, sip.ToHeader{Address: target}, target, f)
	req, f := d.request(sip.OPTIONS, 0)
	res, err := a.ask(ctx, req, f, pingLongest)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if res.StatusCode == sip.StatusServiceUnavailable {
		return fmt.Errorf("ping: %w", statusError(res.StatusCode, res.Reason))
	}
	return nil
}
