package sip

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// certificate is one of a name that vouches for itself.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// safeHouse is a house that can be reached by TLS as desk.example.org, and how.
func safeHouse(t *testing.T, handle func(h *house, ctx context.Context, c *Call), change ...func(*house, *Config)) (*house, *tls.Config) {
	t.Helper()
	cert, roots := certificate(t, "desk.example.org")
	h := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), handle, append(change, func(_ *house, c *Config) {
		c.TLSAddrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
		c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	})...)
	return h, &tls.Config{RootCAs: roots, ServerName: "desk.example.org"}
}

func TestATelephoneRegistersAndRingsOverTLS(t *testing.T) {
	desk, whom := safeHouse(t, ring)
	phone := build(t, nil, netip.MustParseAddrPort("127.0.0.1:0"), waitAnswer)
	if _, err := phone.a.Register(t.Context(), RegisterOptions{Extension: "1001", Password: "secret", Registrar: desk.a.TLSAddr(), TLS: whom, Expires: time.Minute}); err != nil {
		t.Fatal(err)
	}
	list, _ := desk.phones.Bindings(t.Context(), "1001", time.Now())
	if len(list) != 1 || list[0].Transport != "tls" || !strings.HasSuffix(list[0].Contact, ";transport=tls") {
		t.Fatalf("bound: %+v", list)
	}
	r := <-desk.ring(t.Context(), "1001", Caller{Number: "+390551234567"})
	if r.err != nil {
		t.Fatal(r.err)
	}
	there := <-phone.calls
	via, contact := headerOf(there.req.String(), "Via"), headerOf(there.req.String(), "Contact")
	if !strings.HasPrefix(via, "SIP/2.0/TLS "+desk.a.TLSAddr().String()) || contact != "<sip:pronto@"+desk.a.TLSAddr().String()+";transport=tls>" {
		t.Errorf("Via: %s, Contact: %s", via, contact)
	}
	there.Hangup(t.Context()) // its BYE comes by the same connection
	select {
	case <-r.leg.Done():
	case <-time.After(20 * time.Second):
		t.Error("the leg does not hear of its BYE")
	}

	// A telephone whose connection has gone cannot be rung, least of all in clear.
	phone.stop()
	r = <-desk.ring(t.Context(), "1001", Caller{})
	if !errors.Is(r.err, ErrUnreachable) {
		t.Errorf("rung: %v", r.err)
	}
}

// TestSIPS: an address that wants TLS on every hop is taken where it has come by TLS, and
// answered with one; over TCP in clear it is refused. So is a telephone that registers so.
func TestSIPS(t *testing.T) {
	h, whom := safeHouse(t, waitAnswer)
	for _, safe := range []bool{false, true} {
		l := h.tcp()
		if safe {
			l = h.safe(whom)
		}
		l.seq++
		l.write(strings.Replace(l.request("INVITE", randomText(), "", l.offer("")), "INVITE sip:", "INVITE sips:", 1))
		if !safe {
			l.want("SIP/2.0 416")
			continue
		}
		ok := l.want("SIP/2.0 200")
		if contact := headerOf(ok, "Contact"); contact != "<sips:pronto@"+h.a.TLSAddr().String()+">" {
			t.Errorf("Contact: %s", contact)
		}
		l.toTag = tagOf(ok, "To")
		for _, method := range []string{"ACK", "BYE"} {
			if method == "BYE" {
				l.seq++
			}
			l.write(strings.Replace(l.request(method, randomText(), "", ""), " sip:800000001@", " sips:pronto@", 1))
		}
		l.want("SIP/2.0 200")
	}
	for _, safe := range []bool{false, true} {
		m, _ := scan([]byte("REGISTER sips:pronto SIP/2.0\r\nContact: <sips:1001@192.0.2.1>\r\n\r\n"))
		if w, fault := readContacts(m, "1001", "", flow{tcp: true, tls: safe}, time.Now()); (fault == nil && len(w.add) == 1) != safe {
			t.Errorf("by TLS %v: %+v, %v", safe, w, fault)
		}
	}
	p := h.safe(whom)
	_ = h.phones.Bind(t.Context(), Binding{Extension: "1001", Contact: "sips:1001@" + p.addr.String(), Source: p.addr, Transport: "tls", Expires: time.Now().Add(time.Hour)})
	got := h.ring(t.Context(), "1001", Caller{})
	invite := p.want("INVITE sips:1001@" + p.addr.String() + " ")
	if contact := headerOf(invite, "Contact"); contact != "<sips:pronto@"+h.a.TLSAddr().String()+">" {
		t.Errorf("Contact: %s", contact)
	}
	busy := "SIP/2.0 486 Busy Here\r\n"
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		busy += name + ": " + headerOf(invite, name) + "\r\n"
	}
	p.write(busy + "Content-Length: 0\r\n\r\n")
	p.want("ACK sips:1001@")
	if r := <-got; !errors.Is(r.err, ErrDeclined) {
		t.Errorf("rung: %v", r.err)
	}
}

func TestATrunkOverTLS(t *testing.T) {
	carrier, whom := safeHouse(t, waitAnswer)
	desk, _ := safeHouse(t, ring)
	c, err := desk.a.Dial(t.Context(), "0551234567", DialOptions{From: "800000001", Via: carrier.a.TLSAddr(), TLS: whom})
	if err != nil {
		t.Fatal(err)
	}
	there := <-carrier.calls
	there.Hangup(t.Context())
	_ = ended(t, c)
	if err := desk.a.Ping(t.Context(), carrier.a.TLSAddr(), false, whom); err != nil {
		t.Error(err)
	}

	// The same switch, expected to be another: not over this connection, nor a new one.
	_, strangers := certificate(t, "desk.example.org")
	for want, other := range map[string]*tls.Config{
		"not desk.other.org":           {RootCAs: whom.RootCAs, ServerName: "desk.other.org"},
		"signed by unknown authority":  {RootCAs: strangers, ServerName: "desk.example.org"},
		"first record does not look l": {ServerName: "desk.example.org"},
	} {
		lonely, _ := safeHouse(t, ring)
		to := carrier.a.TLSAddr()
		if strings.HasPrefix(want, "first") {
			c, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go func() { // no TLS is spoken there
				if conn, err := c.Accept(); err == nil {
					_, _ = io.WriteString(conn, "SIP/2.0 200 OK\r\n\r\n")
					_ = conn.Close()
				}
			}()
			to = addrPort(c.Addr())
		}
		_, err := lonely.a.Dial(t.Context(), "0551234567", DialOptions{From: "800000001", Via: to, TLS: other})
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	select {
	case <-carrier.calls:
		t.Error("a call came through")
	default:
	}
}

// TestTLSConnectionsEnd shows that who does not shake hands is let go, and that a
// silent one keeps nobody out.
func TestTLSConnectionsEnd(t *testing.T) {
	desk, whom := safeHouse(t, ring)
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP(strangeIP.AsSlice())}}
	silent, err := from.Dial("tcp", desk.a.TLSAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	clear, err := from.Dial("tcp", desk.a.TLSAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer clear.Close()
	_, _ = io.WriteString(clear, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\n\r\n")
	_ = clear.SetReadDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(clear); strings.Contains(string(got), "SIP/2.0") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in clear: %q, %v", got, err)
	}
	conn, err := tls.DialWithDialer(from, "tcp", desk.a.TLSAddr().String(), whom)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(conn, make([]byte, 2)); err != nil {
		t.Error("no answer to a keep-alive:", err)
	}
	_ = silent.SetReadDeadline(time.Now().Add(handshake + 20*time.Second))
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent connection: %v", err)
	}
	if log := desk.logged(); !strings.Contains(log, "a TLS connection failed") {
		t.Errorf("logged: %s", log)
	}
}
