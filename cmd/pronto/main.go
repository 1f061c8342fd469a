// Pronto answers the telephone of a help desk: `pronto serve` is the whole desk
// in one process, the other commands prepare it and look at it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/pronto-desk/pronto/db/private"
)

// version is set by the release's build: -ldflags "-X main.version=1.2.3".
var version = "dev"

const (
	exitFault  = 1
	exitConfig = 78 // EX_CONFIG of sysexits.h: starting again would change nothing
)

// commands are what `pronto` can be told to do.
type commands struct {
	Serve     serveCommand     `cmd:"" help:"Answer the telephone and serve the console."`
	Check     checkCommand     `cmd:"" help:"Check the configuration and say what would be served."`
	Migrate   migrateCommand   `cmd:"" help:"Bring the database to this version's schema."`
	User      userCommand      `cmd:"" help:"People who sign in."`
	Token     tokenCommand     `cmd:"" help:"Print a bearer token for the API."`
	Phone     phoneCommand     `cmd:"" help:"Give an operator's telephone its password."`
	Service   serviceCommand   `cmd:"" help:"Numbers that can be dialled, their hours and menus."`
	Topic     topicCommand     `cmd:"" help:"How the demands of a topic relax while a caller waits."`
	Customers customersCommand `cmd:"" help:"The register of doctors."`
	Trace     traceCommand     `cmd:"" help:"Draw what was signalled for a call."`
	Verify    verifyCommand    `cmd:"" help:"Say whether the journal is as it was written, and tells every ending."`
	Backup    backupCommand    `cmd:"" help:"Write a backup of database and sound, beside a running server."`
	Restore   restoreCommand   `cmd:"" help:"Restore a backup into an empty installation."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// common are the flags of every command that needs the data directory.
type common struct {
	Config   string `help:"Configuration file (TOML)." type:"path" placeholder:"FILE"`
	Data     string `help:"Data directory: private database, spool, recordings." placeholder:"DIR"`
	Database string `help:"PostgreSQL to use instead of a private one." env:"DATABASE_URL" placeholder:"URL"`
}

// settings reads the file, lays the flags over it and checks the whole.
func (c common) settings(change ...func(*Config)) (settings, error) {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return settings{}, err
	}
	if c.Data != "" {
		cfg.Data = c.Data
	}
	if c.Database != "" {
		cfg.Database.URL = c.Database
	}
	for _, f := range change {
		f(&cfg)
	}
	return cfg.check()
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" { // before signals are ours: one that comes meanwhile ends us
		slacken()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// run is main with an exit status.
func run(ctx context.Context, args []string) int {
	var c commands
	parser := kong.Must(&c, kong.Name("pronto"), kong.UsageOnError(),
		kong.Description("A help desk that answers the telephone and loses nothing."))
	kctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "pronto:", err)
		fmt.Fprintln(os.Stderr, "`pronto --help` lists the commands.")
		return exitConfig
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	if err := kctx.Run(); err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			fmt.Fprintln(os.Stderr, "pronto:", line)
		}
		var setup *private.SetupError
		if errors.Is(err, errConfig) || errors.As(err, &setup) {
			return exitConfig
		}
		return exitFault
	}
	return 0
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println("pronto", version)
	return nil
}
