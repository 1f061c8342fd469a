// Package private runs the PostgreSQL server that we start ourselves when no
// address of one is configured.
package private

import (
	"context"
	"errors"
	"log/slog"
)

// Config says where the server's data are.
type Config struct {
	Dir string
	Log *slog.Logger
}

// Server is a running PostgreSQL of our own.
type Server struct{}

var errSoon = errors.New("not yet")

// Start starts it.
func Start(ctx context.Context, c Config) (*Server, error) { return nil, errSoon }

// URL is its address.
func (s *Server) URL() string { return "" }

// Stop ends it.
func (s *Server) Stop() {}

// Run keeps it running.
func (s *Server) Run(ctx context.Context) error { return errSoon }

// Attach finds a running one.
func Attach(dir string) (url string, ok bool) { return "", false }
