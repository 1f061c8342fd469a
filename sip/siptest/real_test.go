package siptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/media"
)

// deskHere runs a desk on real sockets, by TLS as well, which conducts calls as
// handle says; whom are those who connect to it.
func deskHere(t *testing.T, srtp sip.SRTP, handle func(context.Context, *sip.Agent, *sip.Call)) (agent *sip.Agent, whom *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, "key", err)
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	must(t, "certificate", err)
	leaf, err := x509.ParseCertificate(der)
	must(t, "certificate", err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)

	here, there := netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("[::1]:0")
	log := slog.New(slog.DiscardHandler)
	engine := media.New(media.Config{MinPort: 45000, MaxPort: 45999, Log: log})
	agent, err = sip.New(sip.Config{
		Addrs: []netip.AddrPort{here, there}, TLSAddrs: []netip.AddrPort{here},
		TLS:   &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		Media: engine, Phones: &register{}, Realm: "pronto", Log: log, SRTP: srtp,
		Trunks: []sip.Trunk{{Name: "carrier", Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, SRTP: sip.SRTPOffer}},
		Handle: func(ctx context.Context, c *sip.Call) { handle(ctx, agent, c) },
	})
	must(t, "desk", err)
	must(t, "listen", agent.Listen())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = engine.Run(ctx) })
	wg.Go(func() { _ = agent.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return agent, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// TestAnEncryptedTalk: a caller and an operator, each with encrypted sound or
// without, are joined by the desk and hear each other, keys included.
func TestAnEncryptedTalk(t *testing.T) {
	for name, x := range map[string]struct{ caller, operator, desk sip.SRTP }{
		"both":         {sip.SRTPRequired, sip.SRTPRequired, sip.SRTPOffer},
		"the caller":   {sip.SRTPRequired, sip.SRTPOff, sip.SRTPOffer},
		"the operator": {sip.SRTPOff, sip.SRTPRequired, sip.SRTPRequired},
	} {
		t.Run(name, func(t *testing.T) {
			agent, whom := deskHere(t, x.desk, serve(t))
			real := func(at string, srtp sip.SRTP) *Phone {
				way, to := whom, agent.TLSAddr()
				if srtp == sip.SRTPOff {
					way, to = nil, agent.Addr() // all in clear
				}
				p, err := NewRealPhone(netip.MustParseAddr(at), to, way, srtp)
				must(t, "telephone", err)
				t.Cleanup(p.Close)
				return p
			}
			ctx := t.Context()
			rossi, anna := real("127.0.0.2", x.caller), real("127.0.0.3", x.operator)
			must(t, "register", anna.Register(ctx, "1001", "geheim", time.Minute))
			must(t, "dial", rossi.Dial(ctx, "800123456", sip.DialOptions{From: "0551234567"}))
			must(t, "welcome", rossi.HearsAtLast(ctx, soon, prompts.Welcome))
			must(t, "key", rossi.Press(ctx, "2"))
			must(t, "ring", anna.Rings(ctx, soon))
			must(t, "lift", anna.Lift(ctx))
			go func() { _ = rossi.Say(ctx, "sono Rossi", 3*time.Second) }()
			must(t, "the operator hears", anna.HearsAtLast(ctx, soon, "sono Rossi"))
			go func() { _ = anna.Say(ctx, "sono Anna", 3*time.Second) }()
			must(t, "the caller hears", rossi.HearsAtLast(ctx, soon, "sono Anna"))
			must(t, "hang up", anna.HangUp(ctx))
			must(t, "gone", rossi.Gone(ctx, soon))
		})
	}
}

// TestATalkOfTwoFamilies: a caller by IPv6 and an operator by IPv4, and the other way
// round, hear each other, keys included: each leg has addresses of its own family.
func TestATalkOfTwoFamilies(t *testing.T) {
	for name, x := range map[string][2]string{"caller by IPv6": {"::1", "127.0.0.3"}, "operator by IPv6": {"127.0.0.2", "::1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is listening
			families := make(chan bool, 4)
			agent, _ := deskHere(t, sip.SRTPOff, func(ctx context.Context, a *sip.Agent, c *sip.Call) {
				serve(t)(ctx, a, c)
				families <- c.Stream().Addr().Addr().Is4()
			})
			real := func(at string) *Phone {
				ip := netip.MustParseAddr(at)
				desk := agent.Addrs()[0]
				if ip.Is6() {
					desk = agent.Addrs()[1]
				}
				p, err := NewRealPhone(ip, desk, nil, sip.SRTPOff)
				must(t, "telephone", err)
				t.Cleanup(p.Close)
				return p
			}
			ctx := t.Context()
			rossi, anna := real(x[0]), real(x[1])
			must(t, "register", anna.Register(ctx, "1001", "geheim", time.Minute))
			must(t, "dial", rossi.Dial(ctx, "800123456", sip.DialOptions{From: "0551234567"}))
			must(t, "welcome", rossi.HearsAtLast(ctx, soon, prompts.Welcome))
			must(t, "key", rossi.Press(ctx, "2"))
			must(t, "ring", anna.Rings(ctx, soon))
			must(t, "lift", anna.Lift(ctx))
			go func() { _ = rossi.Say(ctx, "sono Rossi", time.Second) }()
			must(t, "the operator hears", anna.HearsAtLast(ctx, soon, "sono Rossi"))
			go func() { _ = anna.Say(ctx, "sono Anna", time.Second) }()
			must(t, "the caller hears", rossi.HearsAtLast(ctx, soon, "sono Anna"))
			for _, p := range []*Phone{rossi, anna} { // what was agreed is of the telephone's own family
				st := p.call.Stream().Stats()
				if me := p.agent.Addr().Addr(); st.Remote.Addr().Is4() != me.Is4() || !st.Latched {
					t.Errorf("the telephone at %s sends to %s", me, st.Remote)
				}
			}
			must(t, "hang up", anna.HangUp(ctx))
			must(t, "gone", rossi.Gone(ctx, soon))
			if is4 := <-families; is4 != netip.MustParseAddr(x[0]).Is4() {
				t.Error("the caller's sound is not of the caller's family")
			}
		})
	}
}
