package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	certificateLook  = 10 * time.Second // how soon a changed pair of files is noticed
	acmeDir          = "acme"           // accounts and certificates, below the data directory
	acmeLongest      = 5 * time.Minute  // for an authority to issue a certificate
	acmeRetry        = 15 * time.Minute // authorities count failures: five an hour and name at Let's Encrypt
	acmeLook         = 12 * time.Hour   // a certificate that nobody asks for is renewed all the same
	maxPEM           = 1 << 20          // bytes of a certificate, key or root
	expiresSoon      = 21 * 24 * time.Hour
	redirectedHeader = 5 * time.Second // for a request that is only sent elsewhere
)

// front is how browsers reach us: in clear on loopback or from our own proxies,
// else by TLS with a certificate from files or from an authority (RFC 8555).
type front struct {
	tls     *tls.Config // nil: in clear
	run     func(context.Context) error
	wrap    func(http.Handler) http.Handler // what the port in clear answers beside the redirection
	expires func() (time.Time, error)       // of the certificate in use
}

// newFront reads what the settings name.
func (s settings) newFront(log *slog.Logger) (*front, error) {
	f := &front{wrap: func(next http.Handler) http.Handler { return next }}
	switch {
	case s.certificate != "":
		pair, err := openPair(s.certificate, s.key, log)
		if err != nil {
			return nil, fmt.Errorf("%w: http.certificate: %w", errConfig, err)
		}
		f.run, f.expires = pair.run, pair.expires
		f.tls = &tls.Config{GetCertificate: pair.get}
	case len(s.acme.domains) > 0:
		m := s.acme.manager(s.data)
		f.run = func(ctx context.Context) error { return s.acme.run(ctx, m, log) }
		f.expires = func() (time.Time, error) { return s.acme.expires(s.data) }
		f.wrap = m.HTTPHandler                                                                                  // HTTP-01, RFC 8555 §8.3
		f.tls = &tls.Config{GetCertificate: m.GetCertificate, NextProtos: []string{"http/1.1", acme.ALPNProto}} // TLS-ALPN-01, RFC 8737
	default:
		return f, nil
	}
	f.tls.MinVersion = tls.VersionTLS12
	return f, nil
}

// listener is the listener as http.Server reads it.
func (f *front) listener(l net.Listener, proxies []netip.Prefix) net.Listener {
	if f.tls != nil {
		return tls.NewListener(l, f.tls)
	}
	if len(proxies) > 0 {
		return fromProxies{l, proxies}
	}
	return l
}

// fromProxies closes connections from anybody but the proxies: what comes in
// clear over a network comes from them.
type fromProxies struct {
	net.Listener
	proxies []netip.Prefix
}

// Accept implements net.Listener.
func (l fromProxies) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
			at := from.Addr().Unmap()
			for _, p := range l.proxies {
				if p.Contains(at) {
					return conn, nil
				}
			}
			if at.IsLoopback() {
				return conn, nil
			}
		}
		conn.Close()
	}
}

// redirection sends browsers that came in clear to the public address, whatever
// host they asked for.
func redirection(publicURL string) http.Handler {
	to := strings.TrimSuffix(publicURL, "/")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "https only", http.StatusBadRequest) // it may have carried a password already
			return
		}
		w.Header().Set("Connection", "close")
		http.Redirect(w, r, to+r.URL.RequestURI(), http.StatusMovedPermanently)
	})
}

// pair is a certificate and its key in files that may change while we run.
type pair struct {
	cert, key string
	log       *slog.Logger
	now       atomic.Pointer[tls.Certificate]
	read      [2][]byte // what the files held when they were last looked at
}

// openPair reads the files; a pair that does not fit is an error.
func openPair(cert, key string, log *slog.Logger) (*pair, error) {
	p := &pair{cert: cert, key: key, log: log}
	if _, err := p.look(); err != nil {
		return nil, err
	}
	return p, nil
}

// look reads the files and takes the pair when it is new and fits.
func (p *pair) look() (changed bool, err error) {
	cert, err := readPEM(p.cert)
	if err != nil {
		return false, err
	}
	key, err := readPEM(p.key)
	if err != nil {
		return false, err
	}
	if bytes.Equal(cert, p.read[0]) && bytes.Equal(key, p.read[1]) {
		return false, nil
	}
	p.read = [2][]byte{cert, key} // a pair that does not fit is told once
	fits, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("%s and %s: %w", p.cert, p.key, err)
	}
	p.now.Store(&fits)
	return true, nil
}

// run looks at the files again and again. Connections go on with the certificate
// they began with; a pair that does not fit (one of the two files is not written
// yet, say) changes nothing.
func (p *pair) run(ctx context.Context) error {
	tick := time.NewTicker(certificateLook)
	defer tick.Stop()
	told := "" // an error is told once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := p.look()
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			p.log.Error("the new certificate cannot be used; the old one stays", "err", err)
		case changed:
			told = ""
			until, _ := p.expires()
			p.log.Info("the certificate was changed", "until", until)
		}
	}
}

func (p *pair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now.Load(), nil }

func (p *pair) expires() (time.Time, error) { return p.now.Load().Leaf.NotAfter, nil }

// sipCertificate opens the certificate that telephones and carriers see; nil when
// they do not come by TLS.
func (h *house) sipCertificate(log *slog.Logger) (_ *tls.Config, err error) {
	if h.sipPair, err = h.openSIPPair(log); err != nil || h.sipPair == nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: h.sipPair.get, MinVersion: tls.VersionTLS12}, nil
}

// openSIPPair opens its files; nil when none are named.
func (s settings) openSIPPair(log *slog.Logger) (*pair, error) {
	if s.sipFiles[0] == "" {
		return nil, nil
	}
	p, err := openPair(s.sipFiles[0], s.sipFiles[1], log)
	if err != nil {
		return nil, fmt.Errorf("%w: sip.certificate: %w", errConfig, err)
	}
	return p, nil
}

// readPEM reads a small file.
func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPEM {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxPEM)
	}
	return os.ReadFile(path)
}

// acmeSettings are those of an authority that issues certificates.
type acmeSettings struct {
	domains   []string
	email     string
	directory string
	roots     *x509.CertPool // nil: the system's
}

// manager obtains, keeps and renews the certificates.
func (a acmeSettings) manager(data string) *autocert.Manager {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: a.roots, MinVersion: tls.VersionTLS12}
	return &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(filepath.Join(data, acmeDir)),
		HostPolicy: autocert.HostWhitelist(a.domains...), Email: a.email,
		Client: &acme.Client{DirectoryURL: a.directory, UserAgent: "pronto/" + version, HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute}},
	}
}

// run has the certificates there before the first browser asks, and renews them
// though none does.
func (a acmeSettings) run(ctx context.Context, m *autocert.Manager, log *slog.Logger) error {
	for {
		wait := acmeLook
		for _, domain := range a.domains {
			before := time.Now()
			// What a modern browser says: the manager then uses ECDSA.
			_, err := m.GetCertificate(&tls.ClientHelloInfo{ServerName: domain, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
			if err != nil && ctx.Err() == nil {
				wait = acmeRetry
				log.Error("no certificate could be had", "domain", domain, "authority", a.directory, "err", err, "again_in", wait)
			} else if time.Since(before) > time.Second { // from the cache it takes none
				log.Info("a certificate was issued", "domain", domain, "authority", a.directory)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// expires is when the first of the certificates that are kept ends.
func (a acmeSettings) expires(data string) (first time.Time, err error) {
	for _, domain := range a.domains {
		text, err := readPEM(filepath.Join(data, acmeDir, domain))
		if err != nil {
			return time.Time{}, err
		}
		until, err := notAfter(text)
		if err != nil {
			return time.Time{}, err
		}
		if first.IsZero() || until.Before(first) {
			first = until
		}
	}
	return first, nil
}

// notAfter is the end of the first certificate in a PEM text.
func notAfter(text []byte) (time.Time, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, fmt.Errorf("read a certificate: %w", err)
		}
		return leaf.NotAfter, nil
	}
	return time.Time{}, errors.New("there is no certificate in it")
}

// printCertificates says how long the certificates hold, for `pronto check`.
func (s settings) printCertificates(now time.Time) error {
	p, err := s.openSIPPair(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if p != nil {
		until, _ := p.expires()
		printExpiry("SIP/TLS:", until, now, "telephones and carriers refuse it")
	}
	f, err := s.newFront(slog.New(slog.DiscardHandler))
	if err != nil || f.tls == nil {
		return err
	}
	until, err := f.expires()
	switch {
	case errors.Is(err, os.ErrNotExist): // of the authority's
		fmt.Println("HTTPS:    no certificate yet: the server asks", s.acme.directory, "for", strings.Join(s.acme.domains, ", "))
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	printExpiry("HTTPS:", until, now, "browsers refuse it")
	return nil
}

func printExpiry(what string, until, now time.Time, over string) {
	remark := ""
	switch left := until.Sub(now); {
	case left <= 0:
		remark = ": it is over, " + over
	case left < expiresSoon:
		remark = ": that is soon"
	}
	fmt.Printf("%-9s the certificate ends on %s, in %d days%s\n", what, until.Format("2006-01-02"), int(until.Sub(now).Hours()/24), remark)
}
