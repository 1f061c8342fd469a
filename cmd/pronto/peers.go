package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/queue"
)

const secretBytes = 32 // of the nodes' secret: as long as the hash it keys

// peers are the other servers on this database: where they are, as the queue's
// beat has seen them, and the secret by which they know each other.
type peers struct {
	db     *db.DB
	queue  *queue.Queue
	secret atomic.Pointer[[]byte] // nil: not read yet, nobody is believed
}

// open reads the secret; the first node on a database makes it.
func (p *peers) open(ctx context.Context) error {
	fresh := make([]byte, secretBytes)
	rand.Read(fresh)
	_, err := p.db.Pool.Exec(ctx, `insert into node_secret (secret) values (@secret) on conflict do nothing`, pgx.StrictNamedArgs{"secret": fresh})
	if err != nil {
		return fmt.Errorf("make the nodes' secret: %w", err)
	}
	var secret []byte
	if err := p.db.Pool.QueryRow(ctx, `select secret from node_secret`).Scan(&secret); err != nil {
		return fmt.Errorf("read the nodes' secret: %w", err)
	}
	p.secret.Store(&secret)
	return nil
}

// Prove implements sip.Peers: an HMAC of the words. None of them may hold the
// line feed that parts them, which nothing in a header does.
func (p *peers) Prove(words ...string) string {
	secret := p.secret.Load()
	if secret == nil {
		return ""
	}
	mac := hmac.New(sha256.New, *secret)
	mac.Write([]byte(strings.Join(words, "\n")))
	return hex.EncodeToString(mac.Sum(nil))
}

// Proven implements sip.Peers.
func (p *peers) Proven(proof string, words ...string) bool {
	right := p.Prove(words...)
	return right != "" && hmac.Equal([]byte(proof), []byte(right))
}

// Where implements sip.Peers.
func (p *peers) Where(node string) (netip.AddrPort, bool) {
	n, lives := p.queue.Node(node)
	if !lives {
		return netip.AddrPort{}, false
	}
	at, err := netip.ParseAddrPort(n.SIP)
	return at, err == nil
}

// Life implements sip.Peers.
func (p *peers) Life(node string) string { return p.queue.Life(node) }

// Knows implements sip.Peers.
func (p *peers) Knows(ip netip.Addr) bool {
	for _, n := range p.queue.Nodes() {
		if at, err := netip.ParseAddrPort(n.SIP); err == nil && n.ID != p.queue.Name() && at.Addr() == ip {
			return true
		}
	}
	return false
}
