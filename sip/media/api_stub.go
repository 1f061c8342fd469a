// Package media is the RTP engine. The bodies follow; the signatures stand.
package media

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

var (
	ErrNoPorts = errors.New("media: no free pair of RTP ports")
	ErrClosed  = errors.New("media: stream is closed")
	ErrStopped = errors.New("media: engine has stopped")
	ErrNoKeys  = errors.New("media: the peer did not agree to telephone-event")
	ErrBridged = errors.New("media: stream is bridged already")
)

type Conn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	LocalAddr() net.Addr
	Close() error
}
type Config struct {
	MinPort, MaxPort uint16
	Listen           func(netip.AddrPort) (Conn, error)
	Log              *slog.Logger
}
type Engine struct{}
type Stats struct {
	Streams, Ports, Cooling int
	In, Out, Late           uint64
	Dropped                 map[string]uint64
}
type StreamStats struct {
	In, Out uint64
	Lost    int64
	Jitter  time.Duration
	Trip    time.Duration
	Remote  netip.AddrPort
	Dropped map[string]uint64
}
type Format struct {
	Law   audio.Law
	PT    uint8
	KeyPT uint8
}
type Peer struct {
	RTP, RTCP     netip.AddrPort
	Source        netip.Addr
	Send, Receive bool
}
type Stream struct{}

func New(c Config) *Engine                                                  { panic("to come") }
func (e *Engine) Run(ctx context.Context) error                             { panic("to come") }
func (e *Engine) Open(ip netip.Addr) (*Stream, error)                       { panic("to come") }
func (e *Engine) Stats() Stats                                              { panic("to come") }
func (s *Stream) Addr() netip.AddrPort                                      { panic("to come") }
func (s *Stream) Agree(f Format, p Peer)                                    { panic("to come") }
func (s *Stream) Play(ctx context.Context, c audio.Clip) error              { panic("to come") }
func (s *Stream) Start(c audio.Clip) (stop func())                          { panic("to come") }
func (s *Stream) Key(ctx context.Context) (rune, error)                     { panic("to come") }
func (s *Stream) Pressed() <-chan struct{}                                  { panic("to come") }
func (s *Stream) SendKeys(ctx context.Context, keys string) error           { panic("to come") }
func (s *Stream) Hear(ctx context.Context, fn func(alaw []byte) bool) error { panic("to come") }
func Bridge(ctx context.Context, a, b *Stream) error                        { panic("to come") }
func (s *Stream) Lost() <-chan struct{}                                     { panic("to come") }
func (s *Stream) Close()                                                    { panic("to come") }
func (s *Stream) Stats() StreamStats                                        { panic("to come") }
