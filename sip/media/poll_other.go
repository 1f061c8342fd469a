//go:build !(linux && (amd64 || arm64))

package media

import "net/netip"

// sockets is nothing on systems without epoll: each socket has a goroutine.
type sockets struct{}

func newSockets() *sockets { return &sockets{} }

func (*sockets) listen(at netip.AddrPort) (Conn, error) { return listenUDP(at) }

func (*sockets) crowded() bool { return false }

// punctual is nothing where threads are woken in time.
func punctual() {}
