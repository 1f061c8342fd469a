// Package sip is Pronto's user agent: it listens on UDP and TCP, knows trunks
// by their address and operators' telephones by their registration, and makes
// of every INVITE a *Call on a goroutine of its own. Parsing, transports and
// transactions are sipgo's; dialogs, offers and answers are ours.
package sip

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pronto-desk/pronto/sip/media"
)

// Config is what an Agent needs to know. Only Media is required.
type Config struct {
	// Addrs are the addresses to listen on, UDP and TCP on each. They must be
	// concrete: a wildcard address cannot be named in a Contact (TELEPHONY P9).
	Addrs []netip.AddrPort
	// Packet are sockets to serve instead of listening (tests, a wire in memory).
	Packet []net.PacketConn
	// Trunks are the carriers that may call in, known by address only.
	Trunks []Trunk
	// Realm of the telephones' digest; default "pronto".
	Realm string
	// Digests are the algorithms offered, in order; default SHA-256 then MD5.
	Digests []string
	// Phones knows the operators' telephones; nil: no registrar.
	Phones Phones
	// Media gives the streams.
	Media *media.Engine
	// Handle conducts one call; see Call. It runs on the call's goroutine, after
	// 100 Trying and before any other answer. Its context ends with cause
	// ErrHungUp when the caller does. When it returns, a call that still lives
	// is hung up, one that was never answered is refused with 500.
	Handle func(ctx context.Context, c *Call)
	// Log gets our own lines; default slog.Default().
	Log *slog.Logger
	// UserAgent is said in Server and User-Agent; default "Pronto".
	UserAgent string
}

// Trunk is a carrier: whoever sends from one of its networks is believed about
// the caller's identity and may ring the desk.
type Trunk struct {
	Name     string
	Networks []netip.Prefix
}

// Phones knows the operators' telephones: their secrets and where they are.
// *Locations is one over the database.
type Phones interface {
	// Secret gives the hexadecimal H(extension:realm:password) of a telephone by
	// both algorithms (RFC 7616 §3.4.2); ok is false when there is none.
	Secret(ctx context.Context, extension string) (md5, sha256 string, ok bool, err error)
	// Bind adds or renews a binding, until b.Expires.
	Bind(ctx context.Context, b Binding) error
	// Unbind removes one contact, or all of an extension's when contact is "*".
	Unbind(ctx context.Context, extension, contact string) error
	// Bindings gives those that have not expired at the given instant.
	Bindings(ctx context.Context, extension string, at time.Time) ([]Binding, error)
}

// Binding is one place where an extension can be rung.
type Binding struct {
	Extension string
	Contact   string         // the Contact URI as registered
	Source    netip.AddrPort // where the REGISTER came from
	Transport string         // "udp" or "tcp"
	CallID    string
	CSeq      uint32
	UserAgent string
	Expires   time.Time
}

// Caller is what an operator's telephone shows while it rings.
type Caller struct {
	Number string // E.164, or "" when withheld
	Name   string // may be empty
}

// DialOptions are the ways a call can be made by Dial.
type DialOptions struct {
	From      string         // number of the caller, said in From
	Name      string         // display name, said in From
	Asserted  string         // P-Asserted-Identity, when not empty
	Anonymous bool           // From anonymous@anonymous.invalid and Privacy: id (RFC 3323)
	Diversion string         // number the call was diverted from (RFC 5806)
	Laws      []uint8        // payload types to offer, in order; default PCMA (8), PCMU (0)
	Via       netip.AddrPort // where to send the INVITE
	TCP       bool           // over TCP instead of UDP
	LateOffer bool           // no SDP in the INVITE: the answer goes in the ACK
}

// Agent is the user agent. New, Listen, Run.
type Agent struct {
	cfg Config
}

// New makes an agent; it opens nothing yet.
func New(c Config) (*Agent, error) { return &Agent{cfg: c}, nil }

// Listen opens the sockets, so that a port in use is known before Run.
func (a *Agent) Listen() error { return errors.New("sip: not yet") }

// Addr is the first address the agent listens on, after Listen.
func (a *Agent) Addr() netip.AddrPort { return netip.AddrPort{} }

// Run serves until ctx ends, then ends what is left and waits for it.
func (a *Agent) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Calls is the number of calls alive, both ways.
func (a *Agent) Calls() int { return 0 }

// Drained waits until no call is left; it returns the cause of ctx otherwise.
func (a *Agent) Drained(ctx context.Context) error { return nil }

// Registered says whether an extension has a telephone at the given instant.
func (a *Agent) Registered(extension string, at time.Time) bool { return false }

// Ring makes the telephones of an extension ring and gives the one that was
// lifted first. Errors: ErrUnreachable, ErrDeclined (see *StatusError),
// ErrNoAnswer, or the cause of ctx, whose end cancels the ringing.
func (a *Agent) Ring(ctx context.Context, extension string, who Caller) (media.Leg, error) {
	return nil, ErrUnreachable
}

// Dial makes a call and returns when it is answered; `to` is a number or a user part.
func (a *Agent) Dial(ctx context.Context, to string, o DialOptions) (*Call, error) {
	return nil, ErrUnreachable
}
