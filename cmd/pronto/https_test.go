package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

// authority issues certificates for tests.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
	mu   sync.Mutex // guards next
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, key: key, cert: cert, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), next: 2}
}

// issue signs a certificate for a public key.
func (a *authority) issue(public any, days int, names ...string) []byte {
	a.mu.Lock()
	serial := a.next
	a.next++
	a.mu.Unlock()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(days) * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, public, a.key)
	if err != nil {
		a.t.Error(err)
	}
	return der
}

// pair is a certificate for this machine and its key, as PEM.
func (a *authority) pair(days int) (cert, key []byte) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.issue(&k.PublicKey, days, "127.0.0.1", "desk.example.org")}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func put(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPairIsReadAgain: a new pair is taken when both files fit, and never before.
func TestPairIsReadAgain(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	oldCert, oldKey := a.pair(30)
	put(t, cert, oldCert)
	put(t, key, oldKey)
	p, err := openPair(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	first := p.now.Load()
	holds := func(step string, changed, fails, same bool) {
		t.Helper()
		got, err := p.look()
		if got != changed || (err != nil) != fails || (p.now.Load() == first) != same {
			t.Errorf("%s: changed %v, error %v, the first one still in use: %v", step, got, err, p.now.Load() == first)
		}
	}
	holds("nothing new", false, false, true)
	newCert, newKey := a.pair(60)
	put(t, cert, newCert)
	holds("the key is not there yet", false, true, true)
	put(t, cert, []byte("half a certif"))
	holds("no PEM", false, true, true)
	put(t, cert, bytes.Repeat([]byte("x"), maxPEM+1))
	holds("too large", false, true, true)
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	holds("gone", false, true, true)
	put(t, cert, newCert)
	put(t, key, newKey)
	holds("both", true, false, false)
	if until, err := p.expires(); err != nil || time.Until(until) < 59*24*time.Hour {
		t.Errorf("ends %s (%v), want in 60 days", until, err)
	}
}

// TestHTTPS serves the console by TLS, signs in, and changes the certificate: an
// open connection goes on, a new one has the new certificate.
func TestHTTPS(t *testing.T) {
	a := newAuthority(t)
	dir := dataDir(t)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	oldCert, oldKey := a.pair(10)
	put(t, cert, oldCert)
	put(t, key, oldKey)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "pronto.toml")
	var clear string
	s := newServer(t, func(s *server) {
		s.scheme = "https"
		s.client = &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool()}, MaxIdleConnsPerHost: 1}}
		clear = freeAddr(t, "tcp")
		put(t, config, fmt.Appendf(nil, "[http]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\npublic_url = \"https://%s\"\nredirect = %q\n", s.http, clear))
		s.args = []string{"--config", config}
	})
	if out := s.mustRun("check", "--config", config, "--data", s.dir); !strings.Contains(out, "in 9 days: that is soon") {
		t.Errorf("pronto check says of the certificate: %s", out)
	}

	req, err := http.NewRequest("POST", "https://"+s.http+"/signin", strings.NewReader(url.Values{"name": {"carla"}, "password": {s.secrets().Users["carla"]}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "https://"+s.http)
	client := *s.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if c := resp.Cookies(); resp.StatusCode != http.StatusSeeOther || len(c) != 1 || !c[0].Secure || !c[0].HttpOnly || !strings.HasPrefix(c[0].Name, "__Host-") {
		t.Errorf("sign-in: %s, cookies %v", resp.Status, c)
	}
	if resp.Header.Get("Strict-Transport-Security") == "" {
		t.Error("browsers are not told to come by https only")
	}

	old, err := tls.Dial("tcp", s.http, &tls.Config{RootCAs: a.pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	serial := func(c *tls.Conn) int64 { return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64() }
	newCert, newKey := a.pair(90)
	put(t, cert, newCert)
	put(t, key, newKey)
	within(t, time.Minute, "the new certificate", func() error {
		c, err := tls.Dial("tcp", s.http, &tls.Config{RootCAs: a.pool()})
		if err != nil {
			return err
		}
		defer c.Close()
		if serial(c) == serial(old) {
			return errors.New("still the old one")
		}
		return nil
	})
	if _, err := fmt.Fprintf(old, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", s.http); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 15)
	if _, err := io.ReadFull(old, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("on the connection that was open: %q, %v", answer, err)
	}
	if _, err := tls.Dial("tcp", s.http, &tls.Config{RootCAs: a.pool(), MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	client.Jar = nil
	if resp, err = client.Get("http://" + clear + "/ticket/2026-1?x=1"); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusMovedPermanently || to != "https://"+s.http+"/ticket/2026-1?x=1" {
		t.Errorf("in clear: %s to %q", resp.Status, to)
	}
	if resp, err = client.Post("http://"+clear+"/signin", "application/x-www-form-urlencoded", strings.NewReader("password=x")); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a form in clear: %s", resp.Status)
	}
}

// TestOnlyProxiesComeInClear closes the connections of everybody else.
func TestOnlyProxiesComeInClear(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	in := make(chan net.Conn, 2)
	in <- from{"198.51.100.7:4711"}
	in <- from{"192.0.2.9:4711"}
	got, err := fromProxies{queued{l, in}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}}.Accept()
	if err != nil || got.RemoteAddr().String() != "192.0.2.9:4711" {
		t.Errorf("accepted %v, %v", got, err)
	}
}

// queued is a listener whose connections are given.
type queued struct {
	net.Listener
	in chan net.Conn
}

func (q queued) Accept() (net.Conn, error) { return <-q.in, nil }

// from is a connection of which only the other end matters.
type from struct{ address string }

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.address))
}
func (from) Read([]byte) (int, error)         { return 0, io.EOF }
func (from) Write([]byte) (int, error)        { return 0, io.EOF }
func (from) Close() error                     { return nil }
func (from) LocalAddr() net.Addr              { return nil }
func (from) SetDeadline(time.Time) error      { return nil }
func (from) SetReadDeadline(time.Time) error  { return nil }
func (from) SetWriteDeadline(time.Time) error { return nil }

// TestACME has a certificate issued by an authority of the test, over real HTTPS,
// which asks back by TLS-ALPN-01 (RFC 8737).
func TestACME(t *testing.T) {
	a := newAuthority(t)
	stub := newACMEStub(t, a)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "roots.pem"), stub.roots)
	config := filepath.Join(dir, "pronto.toml")
	put(t, config, fmt.Appendf(nil, "data = \"data\"\n[http]\nlisten = \"0.0.0.0:8443\"\n[http.acme]\ndomains = [\"desk.example.org\"]\nemail = \"admin@example.org\"\ndirectory = %q\nroots = \"roots.pem\"\n", stub.server.URL+"/directory"))
	cfg, err := loadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	set, err := cfg.check()
	if err != nil || set.publicURL != "https://desk.example.org:8443" {
		t.Fatalf("the configuration: %v, public address %q", err, set.publicURL)
	}
	f, err := set.newFront(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.expires(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before the first certificate: %v", err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stub.target = plain.Addr().String()
	console := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ciao") }), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = console.Serve(f.listener(plain, nil)) })
	wg.Go(func() { _ = f.run(ctx) })
	defer wg.Wait()
	defer console.Close()
	defer cancel()

	within(t, time.Minute, "the certificate", func() error { _, err := f.expires(); return err })
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.pool()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, stub.target)
		},
	}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://desk.example.org/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ciao" {
		t.Errorf("the console says %q", body)
	}
	if _, err := client.Get("https://other.example.org/"); err == nil {
		t.Error("a certificate was issued for a name that is not ours")
	}
	if n := stub.orders; n != 1 {
		t.Errorf("%d certificates were ordered, want 1", n)
	}
}

// acmeStub is an authority as far as a client of RFC 8555 needs it. It believes
// every signature, and asks back for the challenge.
type acmeStub struct {
	t      testing.TB
	ca     *authority
	server *httptest.Server
	roots  []byte
	target string // where the names lead

	mu        sync.Mutex // guards what follows
	orders    int
	thumb     string // of the account's key
	validated bool
	chain     []byte
}

func newACMEStub(t testing.TB, ca *authority) *acmeStub {
	s := &acmeStub{t: t, ca: ca}
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(s.server.Close)
	s.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	return s
}

const stubToken = "DGyRejmCefe7v4NfDGDKfA"

func (s *acmeStub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.server.URL
	w.Header().Set("Replay-Nonce", fmt.Sprint(time.Now().UnixNano()))
	var request struct{ Protected, Payload string }
	if r.Method == http.MethodPost {
		_ = json.NewDecoder(r.Body).Decode(&request)
	}
	protected, _ := base64.RawURLEncoding.DecodeString(request.Protected)
	payload, _ := base64.RawURLEncoding.DecodeString(request.Payload)
	reply := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	order := func() map[string]any {
		o := map[string]any{"status": "pending", "identifiers": []any{map[string]string{"type": "dns", "value": "desk.example.org"}},
			"authorizations": []string{at + "/authz"}, "finalize": at + "/finalize"}
		if s.validated {
			o["status"] = "ready"
		}
		if s.chain != nil {
			o["status"], o["certificate"] = "valid", at+"/cert"
		}
		return o
	}
	challenge := func() map[string]any {
		c := map[string]any{"type": "tls-alpn-01", "url": at + "/challenge", "token": stubToken, "status": "pending"}
		if s.validated {
			c["status"] = "valid"
		}
		return c
	}
	switch r.URL.Path {
	case "/directory":
		reply(200, map[string]string{"newNonce": at + "/nonce", "newAccount": at + "/account", "newOrder": at + "/order", "revokeCert": at + "/revoke", "keyChange": at + "/key"})
	case "/nonce":
	case "/account":
		var head struct {
			JWK struct{ Crv, Kty, X, Y string }
		}
		_ = json.Unmarshal(protected, &head)
		sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":%q,"x":%q,"y":%q}`, head.JWK.Crv, head.JWK.Kty, head.JWK.X, head.JWK.Y)) // RFC 7638 §3
		s.thumb = base64.RawURLEncoding.EncodeToString(sum[:])
		w.Header().Set("Location", at+"/account/1")
		reply(201, map[string]string{"status": "valid"})
	case "/order":
		s.orders++
		w.Header().Set("Location", at+"/order/1")
		reply(201, order())
	case "/order/1":
		reply(200, order())
	case "/authz":
		status := "pending"
		if s.validated {
			status = "valid"
		}
		reply(200, map[string]any{"status": status, "identifier": map[string]string{"type": "dns", "value": "desk.example.org"}, "challenges": []any{challenge()}})
	case "/challenge":
		s.validated = s.askBack()
		reply(200, challenge())
	case "/finalize":
		var body struct{ CSR string }
		_ = json.Unmarshal(payload, &body)
		der, _ := base64.RawURLEncoding.DecodeString(body.CSR)
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil || !s.validated {
			reply(403, map[string]string{"type": "urn:ietf:params:acme:error:orderNotReady"})
			return
		}
		s.chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.issue(csr.PublicKey, 90, csr.DNSNames...)})
		w.Header().Set("Location", at+"/order/1")
		reply(200, order())
	case "/cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(s.chain)
	default:
		reply(404, map[string]string{"type": "urn:ietf:params:acme:error:malformed"})
	}
}

// askBack connects as RFC 8737 §3 says and looks for the proof.
func (s *acmeStub) askBack() bool {
	c, err := tls.Dial("tcp", s.target, &tls.Config{ServerName: "desk.example.org", NextProtos: []string{acme.ALPNProto}, InsecureSkipVerify: true})
	if err != nil {
		s.t.Errorf("the challenge: %v", err)
		return false
	}
	defer c.Close()
	want := sha256.Sum256([]byte(stubToken + "." + s.thumb))
	for _, e := range c.ConnectionState().PeerCertificates[0].Extensions {
		var got []byte
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) {
			_, err := asn1.Unmarshal(e.Value, &got)
			return err == nil && bytes.Equal(got, want[:])
		}
	}
	return false
}
