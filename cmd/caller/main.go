// Caller is a telephone for the terminal. It rings a running server, presses
// keys, speaks a WAV file, saves what it hears, and says what happened and when.
// With --register it is an operator's telephone instead.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// How the program ends.
const (
	exitFine        = 0  // the call was answered and came to its end
	exitFailed      = 1  // something of ours: a port, a file that cannot be written
	exitRefused     = 2  // the far side said no: busy, unknown number, closing…
	exitUnreachable = 3  // nobody there, or nobody answered
	exitSilent      = 4  // answered, but not one packet of sound came
	exitPassword    = 5  // --register: the registrar does not take us
	exitUsage       = 64 // EX_USAGE of sysexits.h: flags or files that cannot be read
)

const help = `A telephone for the terminal: rings a server, presses keys, speaks and saves WAV
files, prints what it heard and when. With --register it is an operator's telephone.

Exit codes: 0 answered and ended, 1 internal, 2 refused, 3 unreachable or not
answered, 4 answered but silent, 5 registration refused, 64 wrong flags or files.`

// flags are the command line.
type flags struct {
	Server    string        `default:"127.0.0.1:5060" help:"Server's address and port."`
	Local     string        `default:"" help:"Address of ours to send from, with or without a port (default: 127.0.0.1 for a server on loopback, else the interface that leads to it)."`
	TCP       bool          `name:"tcp" help:"SIP over TCP instead of UDP."`
	JSON      bool          `name:"json" help:"One JSON object per line, for scripts."`
	Save      string        `placeholder:"WAV" help:"File for what is heard (16 bit, 8 kHz)."`
	Say       string        `placeholder:"WAV" help:"File to speak once the call is answered."`
	Keys      string        `placeholder:"KEY@TIME,…" help:"Keys to press, each at a time after the answer: 1@2s,2@9s. Without a time: one second after the key before. Several digits may stand together: 123#@4s."`
	Press     string        `placeholder:"KEYS" help:"Keys to press one after the other; a comma waits a second: 2,,1."`
	PressAt   time.Duration `name:"press-after" default:"1s" help:"How long after the answer --press begins."`
	SayAfter  time.Duration `default:"0s" help:"How long after the answer --say begins."`
	To        string        `default:"800000001" help:"Number to dial."`
	From      string        `default:"+390551234567" help:"Our number."`
	Name      string        `help:"Our name, as displayed."`
	Asserted  string        `help:"Number that the trunk vouches for (P-Asserted-Identity)."`
	Anonymous bool          `help:"Withhold our number."`
	Diversion string        `help:"Number that the call was diverted from."`
	Law       string        `default:"any" enum:"any,pcma,pcmu,g722" help:"Sound to offer: any, pcma, pcmu, g722."`
	LateOffer bool          `help:"Offer nothing in the INVITE: the answer goes in the ACK."`
	For       time.Duration `default:"60s" help:"Hang up so long after the answer; 0: never."`
	Patience  time.Duration `default:"30s" help:"Give up when nobody has answered after this."`

	Register    string        `placeholder:"EXTENSION" help:"Be this operator's telephone: register and wait for calls."`
	Password    string        `env:"CALLER_PASSWORD" help:"Password of the extension."`
	AnswerAfter time.Duration `default:"1s" help:"Lift the handset after ringing so long; negative: never."`
	Talk        time.Duration `default:"20s" help:"Hang up after talking so long; 0: wait for the other side."`
	Decline     int           `placeholder:"STATUS" help:"Refuse every call with this status, such as 486."`
	Calls       int           `default:"0" help:"End after so many calls; 0: never."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without the process.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var f flags
	asked := false
	parser, err := kong.New(&f, kong.Name("caller"), kong.Description(help), kong.Writers(out, errs), kong.Exit(func(int) { asked = true }))
	if err != nil {
		fmt.Fprintln(errs, "caller:", err)
		return exitFailed
	}
	if _, err = parser.Parse(args); asked {
		return exitFine // --help
	}
	var p *plan
	if err == nil {
		p, err = f.plan()
	}
	if err != nil {
		fmt.Fprintln(errs, "caller:", err)
		return exitUsage
	}
	p.say = newDiary(out, f.JSON)
	return p.carryOut(ctx, errs)
}

// plan is the command line, understood.
type plan struct {
	flags
	server  netip.AddrPort
	local   netip.AddrPort
	presses []press
	speech  audio.Clip
	say     *diary
}

// plan checks the flags and reads the files they name.
func (f flags) plan() (*plan, error) {
	p := &plan{flags: f}
	var err error
	if p.server, err = netip.ParseAddrPort(f.Server); err != nil {
		return nil, fmt.Errorf("--server: %w", err)
	}
	if p.local, err = localFor(f.Local, p.server); err != nil {
		return nil, fmt.Errorf("--local: %w", err)
	}
	if p.presses, err = parseKeys(f.Keys); err != nil {
		return nil, fmt.Errorf("--keys: %w", err)
	}
	if f.Press != "" {
		if f.Keys != "" {
			return nil, errors.New("--press or --keys, not both")
		}
		if p.presses, err = parsePress(f.Press, f.PressAt); err != nil {
			return nil, fmt.Errorf("--press: %w", err)
		}
	}
	if f.Decline != 0 && (f.Decline < 300 || f.Decline > 699) {
		return nil, errors.New("--decline: a status from 300 to 699")
	}
	if f.Say != "" {
		file, err := os.Open(f.Say)
		if err != nil {
			return nil, fmt.Errorf("--say: %w", err)
		}
		defer file.Close()
		sound, err := audio.ReadWAV(file)
		if err != nil {
			return nil, fmt.Errorf("--say %s: %w", f.Say, err)
		}
		p.speech = audio.Clip{Name: f.Say, ALaw: sound}
	}
	return p, nil
}

// carryOut makes the agent and does what the plan says.
func (p *plan) carryOut(ctx context.Context, errs io.Writer) int {
	log := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	// Another range than the server's, so that both fit one machine.
	engine := media.New(media.Config{MinPort: 25000, MaxPort: 31999, Log: log})
	config := sip.Config{Addrs: []netip.AddrPort{p.local}, Media: engine, Log: log, UserAgent: "Pronto caller"}
	results := make(chan int, 1)
	if p.Register != "" {
		config.Trunks = []sip.Trunk{{Name: "server", Networks: []netip.Prefix{netip.PrefixFrom(p.server.Addr(), p.server.Addr().BitLen())}}}
		config.Handle = p.operator(results)
	}
	agent, err := sip.New(config)
	if err == nil {
		err = agent.Listen()
	}
	if err != nil {
		fmt.Fprintln(errs, "caller:", err)
		return exitFailed
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	sound, silence := context.WithCancel(context.WithoutCancel(ctx))
	served, played := make(chan error, 1), make(chan error, 1)
	go func() { played <- engine.Run(sound) }()
	go func() { served <- agent.Run(life) }()
	var code int
	if p.Register != "" {
		code = p.wait(ctx, agent, results)
	} else {
		code = p.dial(ctx, agent)
	}
	end()
	if err := <-served; err != nil {
		fmt.Fprintln(errs, "caller:", err)
		code = max(code, exitFailed)
	}
	silence()
	<-played
	return code
}
