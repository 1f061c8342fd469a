package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/recordings"
)

// A node answers the others at a door of its own: over TLS, with a certificate
// made at its start whose hash stands in its row, so that the database says whom
// one talks to; and only to who proves to know what only nodes know.

const (
	doorHeader  = "Pronto-Node"    // name, instant, proof
	doorFresh   = 60 * time.Second // clocks of two nodes may differ by so much
	doorConnect = 2 * time.Second  // to reach another node
	certYears   = 10               // longer than any process lives
)

// nodeDoor is the listener of this node, and its certificate's hash.
type nodeDoor struct {
	listener net.Listener
	pin      string
}

// openDoor listens for other nodes.
func openDoor(address string) (*nodeDoor, error) {
	cert, err := ownCertificate(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make a certificate for other nodes: %w", err)
	}
	l, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return nil, fmt.Errorf("%w: listen for other nodes: %w", errConfig, err)
	}
	return &nodeDoor{listener: l, pin: pinOf(cert.Certificate[0])}, nil
}

func ownCertificate(at time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: at.Add(-24 * time.Hour), NotAfter: at.AddDate(certYears, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func pinOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// handler answers other nodes: whether we live, and the sound on our disk.
func (h *house) doorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /alive", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /sound/{contact}", sounds(h.archive.Message)) // HEAD too
	mux.HandleFunc("GET /talk/{contact}", sounds(h.archive.TalkSound))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.peers.admits(r, time.Now()) {
			h.log.Warn("somebody who is no node was refused at the nodes' door", "from", r.RemoteAddr)
			http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// sounds gives what open finds on this node's disk.
func sounds(open func(context.Context, uuid.UUID) (io.ReadSeekCloser, time.Time, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		contact, err := uuid.Parse(r.PathValue("contact"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		f, at, err := open(r.Context(), contact)
		switch {
		case errors.Is(err, recordings.ErrLocked):
			http.Error(w, err.Error(), http.StatusLocked)
			return
		case errors.Is(err, recordings.ErrDamaged):
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		case err != nil:
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "audio/wav")
		http.ServeContent(w, r, "", at, f)
	}
}

// admits tells whether a request is another node's, to us.
func (p *peers) admits(r *http.Request, now time.Time) bool {
	words := strings.Fields(r.Header.Get(doorHeader))
	if len(words) != 3 {
		return false
	}
	at, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > doorFresh {
		return false
	}
	return p.Proven(words[2], "ask", words[0], words[1], p.queue.Name(), r.Method, r.URL.Path)
}

// ask sends a request to another node. The headers are those that it may know of
// a browser's.
func (p *peers) ask(ctx context.Context, n queue.Node, method, path string, headers http.Header) (*http.Response, error) {
	if n.HTTP == "" || n.Pin == "" {
		return nil, fmt.Errorf("ask %s: it has no door", n.ID)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+n.HTTP+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.ID, err)
	}
	for name, values := range headers {
		req.Header[name] = values
	}
	self, at := p.queue.Name(), strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set(doorHeader, self+" "+at+" "+p.Prove("ask", self, at, n.ID, method, path))
	transport := &http.Transport{
		DialContext:       (&net.Dialer{Timeout: doorConnect}).DialContext,
		DisableKeepAlives: true, // rare, and the pin is this node's
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS13,
			InsecureSkipVerify: true, // nobody signs it: its hash is what we were told
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) == 0 || pinOf(s.PeerCertificates[0].Raw) != n.Pin {
					return errors.New("it shows another certificate than it announced")
				}
				return nil
			},
		},
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.ID, err)
	}
	return res, nil
}

// alive asks a node whether it lives.
func (p *peers) alive(ctx context.Context, n queue.Node) bool {
	res, err := p.ask(ctx, n, http.MethodGet, "/alive", nil)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusNoContent
}

// sound asks a node for a message that is on its disk.
func (p *peers) sound(ctx context.Context, node, what string, contact uuid.UUID, method string, headers http.Header) (*http.Response, error) {
	n, lives := p.queue.Node(node)
	if !lives {
		return nil, fmt.Errorf("%s does not live", node)
	}
	return p.ask(ctx, n, method, "/"+what+"/"+contact.String(), headers)
}

// serveDoor answers other nodes until ctx ends.
func (h *house) serveDoor(ctx context.Context, d *nodeDoor) error {
	server := &http.Server{
		Handler: h.doorHandler(), ReadHeaderTimeout: headerWait, IdleTimeout: idleWait,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
