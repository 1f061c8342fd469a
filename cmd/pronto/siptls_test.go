package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSIPOverTLS asks the running desk by TLS, and changes its certificate under it.
func TestSIPOverTLS(t *testing.T) {
	a := newAuthority(t)
	dir := dataDir(t)
	cert, key, config := filepath.Join(dir, "sip.pem"), filepath.Join(dir, "sip.key"), filepath.Join(dir, "pronto.toml")
	oldCert, oldKey := a.pair(10)
	put(t, cert, oldCert)
	put(t, key, oldKey)
	var at string
	s := newServer(t, func(s *server) {
		at = freeAddr(t, "tcp")
		put(t, config, fmt.Appendf(nil, "[sip]\ntls_listen = [%q]\ncertificate = \"sip.pem\"\nkey = \"sip.key\"\n", at))
		s.args = []string{"--config", config}
	})
	if out := s.mustRun("check", "--config", config, "--data", s.dir); !strings.Contains(out, "SIP/TLS:  the certificate ends") {
		t.Errorf("pronto check says of the certificate: %s", out)
	}
	ask := func() (serial int64, err error) {
		c, err := tls.Dial("tcp", at, &tls.Config{RootCAs: a.pool(), ServerName: "desk.example.org"})
		if err != nil {
			return 0, err
		}
		defer c.Close()
		fmt.Fprintf(c, "OPTIONS sip:desk.example.org SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bKoptions1\r\nMax-Forwards: 70\r\nFrom: <sip:a@example.org>;tag=1\r\nTo: <sip:desk.example.org>\r\nCall-ID: options-1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", c.LocalAddr())
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		answer := make([]byte, 4096)
		n, err := c.Read(answer)
		if err == nil && !strings.HasPrefix(string(answer[:n]), "SIP/2.0 200 ") {
			err = fmt.Errorf("answered %q", answer[:n])
		}
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), err
	}
	first, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	newCert, newKey := a.pair(90)
	put(t, cert, newCert)
	put(t, key, newKey)
	within(t, time.Minute, "the new certificate", func() error {
		serial, err := ask()
		if err == nil && serial == first {
			err = errors.New("still the old one")
		}
		return err
	})
}
