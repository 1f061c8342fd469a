// Caller is a telephone for the terminal: it rings a server, presses keys, plays
// and saves WAV, and prints what it heard and when; or it registers as an
// operator's telephone and answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/media"
)

// The exit status says how the call went.
const (
	exitFault = 1 // not answered, refused, or a fault of ours
	exitUsage = 2
)

type flags struct {
	Server    string        `default:"127.0.0.1:5060" help:"Address and port to ring." placeholder:"IP:PORT"`
	Local     string        `help:"Our own address; default: the one that reaches the server." placeholder:"IP"`
	To        string        `default:"800000001" help:"Number to dial."`
	From      string        `default:"+390551234567" help:"Number we call from."`
	Anonymous bool          `help:"Withhold our number."`
	Press     string        `help:"Keys to press once answered: digits, * and #; a comma waits a second." placeholder:"KEYS"`
	PressAt   time.Duration `name:"press-after" default:"1s" help:"How long after the answer the first key is pressed."`
	Say       string        `help:"WAV to say, once." type:"existingfile" placeholder:"FILE"`
	SayAfter  time.Duration `name:"say-after" default:"0s" help:"How long after the answer it is said."`
	Save      string        `help:"WAV to save what was heard to." placeholder:"FILE"`
	For       time.Duration `default:"60s" help:"Hang up (or stop being a telephone) after this long."`
	TCP       bool          `name:"tcp" help:"Ring over TCP instead of UDP."`
	JSON      bool          `name:"json" help:"Print events as JSON lines."`

	Register    string        `help:"Be an operator's telephone with this extension instead of ringing." placeholder:"EXTENSION"`
	Password    string        `help:"Its password." env:"PHONE_PASSWORD"`
	AnswerAfter time.Duration `name:"answer-after" default:"1s" help:"Lift the handset after ringing this long; negative: never."`
	Talk        time.Duration `default:"20s" help:"Hang up after talking this long; 0: let the other side."`
	Decline     int           `help:"Refuse every call with this SIP status." placeholder:"486"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var f flags
	parser := kong.Must(&f, kong.Name("caller"), kong.Description("A telephone for the terminal."))
	if _, err := parser.Parse(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(exitUsage)
	}
	diary := &diary{out: os.Stdout, json: f.JSON, began: time.Now()}
	if err := f.run(ctx, diary); err != nil {
		diary.note("failed", "%v", err)
		os.Exit(exitFault)
	}
}

// run is one call, or one shift as a telephone.
func (f flags) run(ctx context.Context, d *diary) error {
	server, err := netip.ParseAddrPort(f.Server)
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	local, err := f.localAddr(server)
	if err != nil {
		return err
	}
	var said []byte
	if f.Say != "" {
		if said, err = readWAV(f.Say); err != nil {
			return fmt.Errorf("--say: %w", err)
		}
	}
	p := &phone{flags: f, server: server, diary: d, said: said}
	quiet := slog.New(slog.DiscardHandler)
	engine := media.New(media.Config{MinPort: 41000, MaxPort: 49999, Log: quiet})
	p.agent, err = sip.New(sip.Config{
		Addrs: []netip.AddrPort{local}, Media: engine, Log: quiet, Handle: p.rings, UserAgent: "Pronto caller",
		Trunks: []sip.Trunk{{Name: "server", Networks: []netip.Prefix{netip.PrefixFrom(server.Addr(), server.Addr().BitLen())}}},
	})
	if err != nil {
		return err
	}
	if err := p.agent.Listen(); err != nil {
		return err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{}, 2)
	go func() { _ = engine.Run(running); done <- struct{}{} }()
	go func() { _ = p.agent.Run(running); done <- struct{}{} }()
	defer func() { end(); <-done; <-done }()

	ctx, cancel := context.WithTimeout(ctx, f.For)
	defer cancel()
	if f.Register != "" {
		return p.shift(ctx, local)
	}
	return p.dial(ctx)
}

// localAddr is our address and a free port on it.
func (f flags) localAddr(server netip.AddrPort) (netip.AddrPort, error) {
	host := f.Local
	if host == "" {
		c, err := net.Dial("udp", f.Server) // sends nothing: it asks the routing table
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("no way to %s: %w", server, err)
		}
		host = c.LocalAddr().(*net.UDPAddr).IP.String()
		c.Close()
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--local: %w", err)
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--local: %w", err)
	}
	defer c.Close()
	return netip.AddrPortFrom(ip, uint16(c.LocalAddr().(*net.UDPAddr).Port)), nil
}

func readWAV(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return audio.ReadWAV(file)
}

// saveWAV writes what was heard.
func saveWAV(path string, alaw []byte) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return audio.WritePCMWAV(io.Writer(file), alaw)
}
