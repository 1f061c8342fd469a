package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/private"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/calendar"
	"github.com/pronto-desk/pronto/web"
)

const (
	maxPasswordLine       = 1024 // bytes read from standard input for a password
	shortestPhonePassword = 10   // characters, as of a person's: anybody who reaches the port may guess
)

// withDatabase runs fn on the database of the settings: the configured one, the
// private one of a running server, or the private one started for this command.
func withDatabase(ctx context.Context, s settings, fn func(d *db.DB) error) error {
	return throughDatabase(ctx, s, openDatabase, fn)
}

// reachDatabase is withDatabase with the schema as it is, of a desk that there is.
func reachDatabase(ctx context.Context, s settings, fn func(d *db.DB) error) error {
	if s.database == "" && !private.Made(s.data) {
		return fmt.Errorf("%w: there is no desk in %s: name the data directory with --data or --config", errConfig, s.data)
	}
	return throughDatabase(ctx, s, connectDatabase, fn)
}

func throughDatabase(ctx context.Context, s settings, open func(context.Context, settings, *slog.Logger) (*db.DB, func(), error), fn func(d *db.DB) error) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.database == "" {
		if url, ok := private.Attach(s.data); ok {
			s.database = url
			d, err := db.Open(ctx, db.Config{URL: url, Log: log})
			if err != nil {
				return fmt.Errorf("database: %w", err)
			}
			defer d.Close()
			return fn(d) // the running server has migrated it
		}
	}
	if s.database == "" {
		unlock, err := lockData(s.data)
		if err != nil {
			return err
		}
		defer unlock()
	}
	d, closeDB, err := open(ctx, s, log)
	if err != nil {
		return err
	}
	defer closeDB()
	return fn(d)
}

type migrateCommand struct{ common }

// Run brings the schema up and says so.
func (c migrateCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(*db.DB) error {
		fmt.Println("The database has this version's schema.")
		return nil
	})
}

type tokenCommand struct {
	common
	User  string        `required:"" help:"In whose name."`
	Scope string        `enum:"read,operate,admin," default:"" help:"What it may be used for: read, operate or admin; each includes those before it. All that the person's role has when silent."`
	For   time.Duration `default:"24h" help:"How long it holds."`
}

// Run prints a bearer token as the last word of its output.
func (c tokenCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		token, _, err := web.NewUsers(d, time.Now).MakeToken(ctx, c.User, web.Wish{Label: "pronto token", Scope: web.Scope(c.Scope), For: c.For})
		if err != nil {
			return err
		}
		fmt.Println("Bearer", token)
		return nil
	})
}

type userCommand struct {
	Add      userAddCommand      `cmd:"" help:"Add a person; the password is asked for, or read from standard input."`
	Password userPasswordCommand `cmd:"" help:"Change a person's password."`
	Skills   userSkillsCommand   `cmd:"" help:"Change the topics an operator answers for."`
	Reset    userResetCommand    `cmd:"" help:"Print a link by which a person chooses a new password, once and within an hour."`
	List     userListCommand     `cmd:"" help:"List people."`
}

type userSkillsCommand struct {
	common
	Name   string   `arg:"" help:"Whose skills."`
	Skills []string `arg:"" help:"Codes of topics, with a level from 1, the best, to 3 if it is not 1." placeholder:"CODE[:LEVEL]"`
}

// Run changes the skills.
func (c userSkillsCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		return web.NewUsers(d, time.Now).SetSkills(ctx, c.Name, c.Skills...)
	})
}

type topicCommand struct {
	common
	Topic    string        `arg:"" help:"Code of the topic."`
	Second   time.Duration `help:"Wait after which operators of level 2 may have a caller." placeholder:"30s"`
	Third    time.Duration `help:"Wait after which operators of level 3 may have a caller." placeholder:"1m"`
	Overflow string        `help:"Code of another topic whose operators help out." placeholder:"CODE"`
	After    time.Duration `help:"Wait after which they do." placeholder:"2m"`
}

// Run changes how the topic's demands relax while a caller waits.
func (c topicCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		return queue.New(d, "", nil).SetRoute(ctx, nil, queue.Route{Topic: c.Topic, Second: c.Second, Third: c.Third, Overflow: c.Overflow, After: c.After}, 0, time.Now())
	})
}

type userAddCommand struct {
	common
	Name      string   `arg:"" help:"Name to sign in with: lower-case letters, digits, . _ -"`
	Display   string   `help:"Name as colleagues read it." placeholder:"\"Anna Verdi\""`
	Role      string   `enum:"operator,supervisor,admin" default:"admin" help:"operator, supervisor or admin."`
	Extension string   `help:"The operator's telephone." placeholder:"1001"`
	Skills    []string `help:"Codes of the topics the operator answers for, with a level from 1, the best, to 3 if it is not 1; all when silent." placeholder:"CODE[:LEVEL]"`
}

// Run adds the person.
func (c userAddCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	if c.Display == "" && c.Name != "" {
		c.Display = strings.ToUpper(c.Name[:1]) + c.Name[1:]
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		password, err := readPassword(ctx, os.Stdin, "Password for "+c.Name+": ")
		if err != nil {
			return err
		}
		users := web.NewUsers(d, time.Now)
		if _, err := users.Add(ctx, c.Name, c.Display, web.Role(c.Role), password, c.Extension); err != nil {
			return err
		}
		fmt.Println("Added", c.Name, "as", c.Role+".")
		if c.Extension == "" {
			return nil
		}
		if len(c.Skills) == 0 {
			topics, err := tickets.NewBook(d, "", nil, nil).Topics(ctx)
			if err != nil {
				return err
			}
			for _, t := range topics {
				c.Skills = append(c.Skills, t.Code)
			}
		}
		return users.SetSkills(ctx, c.Name, c.Skills...)
	})
}

type userPasswordCommand struct {
	common
	Name string `arg:"" help:"Whose password."`
}

// Run changes the password.
func (c userPasswordCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		password, err := readPassword(ctx, os.Stdin, "New password for "+c.Name+": ")
		if err != nil {
			return err
		}
		return web.NewUsers(d, time.Now).SetPassword(ctx, c.Name, password)
	})
}

type userResetCommand struct {
	common
	Name string `arg:"" help:"Whose password."`
}

// Run prints the link as the last word of its output.
func (c userResetCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		token, until, err := web.NewUsers(d, time.Now).ResetLink(ctx, c.Name, 0)
		if err != nil {
			return err
		}
		at := s.publicURL
		if at == "" {
			at = "http://" + s.http
		}
		fmt.Printf("Until %s: %s\n", until.Local().Format("15:04"), web.ResetAddress(at, token))
		return nil
	})
}

type userListCommand struct{ common }

// Run lists people.
func (c userListCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		users, err := web.NewUsers(d, time.Now).List(ctx)
		if err != nil {
			return err
		}
		for _, u := range users {
			left := ""
			if !u.Active {
				left = " (inactive)"
			}
			fmt.Printf("%-16s %-11s %-6s %s%s\n", u.Name, u.Role, u.Extension, u.DisplayName, left)
		}
		return nil
	})
}

type phoneCommand struct {
	common
	Extension string `arg:"" help:"The telephone's number, which is also its user name."`
}

// Run sets the telephone's password.
func (c phoneCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		password, err := readPassword(ctx, os.Stdin, "Password for telephone "+c.Extension+": ")
		if err != nil {
			return err
		}
		if utf8.RuneCountInString(password) < shortestPhonePassword {
			return fmt.Errorf("a telephone's password has %d characters at least: who guesses it takes its calls", shortestPhonePassword)
		}
		if err := web.NewUsers(d, time.Now).SetPhone(ctx, c.Extension, s.realm, password); err != nil {
			return err
		}
		fmt.Printf("Telephone %s may register (realm %q).\n", c.Extension, s.realm)
		people, err := web.NewUsers(d, time.Now).List(ctx)
		if err != nil {
			return err
		}
		for _, p := range people {
			if p.Extension == c.Extension {
				return nil
			}
		}
		fmt.Printf("Nobody has extension %s yet: `pronto user add NAME --role operator --extension %s`.\n", c.Extension, c.Extension)
		return nil
	})
}

type serviceCommand struct {
	Add  serviceAddCommand  `cmd:"" help:"Add a number, or change its hours and menu."`
	List serviceListCommand `cmd:"" help:"List numbers with their hours and menus."`
}

type serviceAddCommand struct {
	common
	Number       string   `arg:"" help:"As callers dial it."`
	Name         string   `required:"" help:"As operators read it."`
	Hours        []string `help:"A window of opening; may be repeated." placeholder:"mon-fri 08:00-20:00" sep:"none"`
	Always       bool     `help:"Open day and night, holidays too."`
	OpenHolidays bool     `help:"Italian public holidays are days like others."`
	Menu         []string `required:"" help:"A key of the menu, its topic's code and, for a new topic, its name; the first is what silence gets." placeholder:"1=software=Cartella clinica" sep:"none"`
}

// Run adds the service.
func (c serviceAddCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	hours, err := parseHours(c.Hours)
	if err != nil {
		return fmt.Errorf("%w: --hours: %w", errConfig, err)
	}
	hours.Always, hours.OpenHolidays = c.Always, c.OpenHolidays
	if len(c.Hours) == 0 && !c.Always {
		return fmt.Errorf("%w: say when it is open: --hours, or --always", errConfig)
	}
	choices, err := parseMenu(c.Menu)
	if err != nil {
		return fmt.Errorf("%w: --menu: %w", errConfig, err)
	}
	return withDatabase(ctx, s, func(d *db.DB) error {
		book := tickets.NewBook(d, "", nil, nil)
		service, err := c.known(ctx, book)
		if err != nil {
			return err
		}
		topics, err := topicsOf(ctx, book, choices)
		if err != nil {
			return err
		}
		hours.Patron, hours.Exceptional = service.Hours.Patron, service.Hours.Exceptional
		service.Name, service.Hours = c.Name, hours
		service.Menu = slices.DeleteFunc(slices.Clone(service.Menu), func(m tickets.MenuItem) bool {
			return m.Action != tickets.ActionState || slices.ContainsFunc(choices, func(c choice) bool { return c.key == m.Key })
		})
		for i, choice := range choices {
			service.Menu = append(service.Menu, tickets.MenuItem{Key: choice.key, Topic: topics[choice.code], Default: i == 0})
		}
		if _, err := book.PutService(ctx, service); err != nil {
			return err
		}
		fmt.Println("Service", c.Number, "is served.")
		return nil
	})
}

// known is the service as it is, so that what the command line cannot say (the
// patron day, who is refused, how long one waits) stays; or a new one.
func (c serviceAddCommand) known(ctx context.Context, book *tickets.Book) (tickets.Service, error) {
	s, err := book.Service(ctx, c.Number)
	switch {
	case errors.Is(err, tickets.ErrNotFound):
		return tickets.Service{Number: c.Number, CallbackOffered: true}, nil
	case err != nil:
		return tickets.Service{}, err
	}
	return *s, nil
}

// choice is a line of a menu as the command line writes it.
type choice struct {
	key        rune
	code, name string // without a name: a topic that is there
}

// topicsOf are the topics of choices, by code; new ones are made, once it is sure
// that all can be. A topic is of all numbers: no menu gives it another name.
func topicsOf(ctx context.Context, book *tickets.Book, choices []choice) (map[string]tickets.Topic, error) {
	list, err := book.Topics(ctx)
	if err != nil {
		return nil, err
	}
	topics := map[string]tickets.Topic{}
	for _, t := range list {
		topics[t.Code] = t
	}
	for _, c := range choices {
		switch t, there := topics[c.code]; {
		case !there && c.name == "":
			return nil, fmt.Errorf("%w: --menu: there is no topic %q yet: give it a name, %c=%s=NAME", errConfig, c.code, c.key, c.code)
		case there && c.name != "" && c.name != t.Name:
			return nil, fmt.Errorf("%w: --menu: topic %q is called %q, on all numbers: write %c=%s, or rename it on the console's page Argomenti", errConfig, c.code, t.Name, c.key, c.code)
		}
	}
	for _, c := range choices {
		if _, there := topics[c.code]; !there {
			if topics[c.code], err = book.PutTopic(ctx, c.code, c.name); err != nil {
				return nil, err
			}
		}
	}
	return topics, nil
}

// parseMenu reads choices like "1=software=Cartella clinica" and "1=software".
func parseMenu(menu []string) ([]choice, error) {
	var choices []choice
	keys := map[string]bool{}
	for _, m := range menu {
		part := strings.SplitN(m, "=", 3)
		if len(part) < 2 || len(part[0]) != 1 || part[0] < "1" || part[0] > "9" || slices.Contains(part, "") {
			return nil, fmt.Errorf("%q is not KEY=CODE=NAME or KEY=CODE with a key from 1 to 9", m)
		}
		if keys[part[0]] {
			return nil, fmt.Errorf("%q: key %s is there already", m, part[0])
		}
		keys[part[0]] = true
		choices = append(choices, choice{rune(part[0][0]), part[1], strings.Join(part[2:], "")})
	}
	return choices, nil
}

type serviceListCommand struct{ common }

// Run lists the services.
func (c serviceListCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return withDatabase(ctx, s, func(d *db.DB) error { return printServices(ctx, d) })
}

func printServices(ctx context.Context, d *db.DB) error {
	services, err := tickets.NewBook(d, "", nil, nil).Services(ctx)
	if err != nil {
		return err
	}
	for _, s := range services {
		open, changes := s.Open(time.Now())
		state := "closed"
		if open {
			state = "open"
		}
		if !changes.IsZero() {
			state += " until " + changes.In(calendar.Rome()).Format("Mon 2 Jan 15:04")
		}
		fmt.Printf("%-14s %s (%s)\n", s.Number, s.Name, state)
		for _, line := range hoursLines(s.Hours) {
			fmt.Println("    " + line)
		}
		for _, m := range s.Menu {
			fmt.Println("    " + menuLine(m))
		}
	}
	return nil
}

// menuLine says where a key leads.
func menuLine(m tickets.MenuItem) string {
	if m.Action == tickets.ActionState {
		return fmt.Sprintf("%c  the state of a request", m.Key)
	}
	return fmt.Sprintf("%c  %s (%s)", m.Key, m.Topic.Name, m.Topic.Code)
}

// hoursLines say when a service is open, a line for days that are alike.
func hoursLines(h calendar.Hours) []string {
	if h.Always {
		return []string{"always open"}
	}
	week := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	spans := func(day int) string {
		var list []string
		for _, span := range h.Week[weekdays[week[day]]] {
			list = append(list, fmt.Sprintf("%02d:%02d-%02d:%02d", span.Open/60, span.Open%60, span.Close/60, span.Close%60))
		}
		return strings.Join(list, ", ")
	}
	var lines []string
	for first := 0; first < len(week); { // days with the same windows stand together
		last, open := first, spans(first)
		for last+1 < len(week) && spans(last+1) == open {
			last++
		}
		days := week[first]
		if last > first {
			days += "-" + week[last]
		}
		if open != "" {
			lines = append(lines, days+" "+open)
		}
		first = last + 1
	}
	if len(lines) == 0 {
		return []string{"never open: callers leave messages"}
	}
	if h.OpenHolidays {
		lines = append(lines, "holidays too")
	}
	if h.Patron != nil {
		lines = append(lines, fmt.Sprintf("closed on %d %s", h.Patron.Day, h.Patron.Month))
	}
	if n := len(h.Exceptional); n > 0 {
		lines = append(lines, fmt.Sprintf("exceptional days: %d", n))
	}
	return lines
}

var weekdays = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

// parseHours reads windows like "mon-fri 08:00-20:00" or "sat 08:00-14:00".
func parseHours(windows []string) (calendar.Hours, error) {
	var h calendar.Hours
	for _, w := range windows {
		days, span, ok := strings.Cut(strings.ToLower(strings.TrimSpace(w)), " ")
		from, to, isRange := strings.Cut(days, "-")
		if !isRange {
			to = from
		}
		first, okFirst := weekdays[from]
		last, okLast := weekdays[to]
		openText, closeText, okSpan := strings.Cut(strings.TrimSpace(span), "-")
		open, errOpen := parseClock(openText)
		close, errClose := parseClock(closeText)
		if !ok || !okFirst || !okLast || !okSpan || errOpen != nil || errClose != nil || open >= close {
			return h, fmt.Errorf("%q is not a window like \"mon-fri 08:00-20:00\"", w)
		}
		for day := first; ; day = (day + 1) % 7 {
			for _, other := range h.Week[day] {
				if open < other.Close && other.Open < close {
					return h, fmt.Errorf("%q overlaps another window of the same day", w)
				}
			}
			h.Week[day] = append(h.Week[day], calendar.Span{Open: open, Close: close})
			if day == last {
				break
			}
		}
	}
	return h, nil
}

// parseClock reads "08:00", up to "24:00", in minutes since midnight.
func parseClock(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, errH := strconv.Atoi(hour)
	m, errM := strconv.Atoi(minute)
	if !ok || errH != nil || errM != nil || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 || len(minute) != 2 {
		return 0, fmt.Errorf("%q is not a time of day", text)
	}
	return h*60 + m, nil
}

type customersCommand struct {
	Import customersImportCommand `cmd:"" help:"Read the register of doctors from a CSV file: codice,nome,ambulatorio,azienda,email,numeri."`
}

type customersImportCommand struct {
	common
	File string `arg:"" type:"path" help:"CSV file, UTF-8 or Windows-1252, separated by commas or semicolons."`
}

// Run imports the register, whole or not at all.
func (c customersImportCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	return withDatabase(ctx, s, func(d *db.DB) error {
		done, err := tickets.NewBook(d, "", nil, nil).ImportCustomers(ctx, f, 0, time.Now())
		for _, b := range done.Bad {
			fmt.Fprintf(os.Stderr, "%s:%d: %s\n", c.File, b.Line, b.Reason)
		}
		if len(done.Bad) > 0 {
			return fmt.Errorf("nothing was imported: bad lines in %s: %d", c.File, len(done.Bad))
		}
		if err != nil {
			return fmt.Errorf("nothing was imported: %w", err)
		}
		fmt.Printf("Imported: %d new, %d changed, %d as they were.\n", done.Created, done.Updated, done.Unchanged)
		return nil
	})
}

type checkCommand struct{ common }

// Run says what would be served, or everything that is wrong.
func (c checkCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	fmt.Println("Data:    ", s.data)
	for _, a := range s.sip {
		fmt.Println("Calls:   ", a, "UDP and TCP"+elsewhere(a.Addr()))
	}
	for _, t := range s.trunks {
		fmt.Println("Trunk:   ", t.name, t.networks)
		if t.dials() {
			fmt.Println("Rings:   ", t.where(), "as", t.caller, "numbers that begin with", s.plan.Prefixes)
		}
	}
	if _, ok := s.out(); !ok {
		fmt.Println("Rings:    nobody: no trunk has a target, so callbacks wait and nobody is rung back")
	}
	if len(s.trunks) == 0 {
		fmt.Println("Trunk:    none: every call from outside would be refused with 403")
	}
	fmt.Printf("Sound:    UDP ports %d-%d\n", s.minPort, s.maxPort)
	if n := s.keys.Sealing(); n > 0 {
		fmt.Printf("Recorded: encrypted to %d keys\n", n)
	} else {
		fmt.Println("Recorded: in clear")
	}
	fmt.Println("Console: ", s.http, s.publicURL)
	if err := s.printCertificates(time.Now()); err != nil {
		return err
	}
	if s.database == "" {
		fmt.Println("Database: private, in", s.data)
		if _, err := os.Stat(s.data); errors.Is(err, os.ErrNotExist) {
			fmt.Println("The data directory does not exist yet: `pronto serve` makes it.")
			return nil
		}
		if _, running := private.Attach(s.data); !running {
			fmt.Println("No server is running here that this user can reach: `pronto service list` shows the numbers it would answer.")
			return nil // starting it only to look would be more than a check
		}
	}
	return withDatabase(ctx, s, func(d *db.DB) error { return printServices(ctx, d) })
}

// elsewhere remarks on an address that cannot be listened on here: a fault, or
// the check of another machine's configuration.
func elsewhere(a netip.Addr) string {
	c, err := net.ListenPacket("udp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		return " (now no address of this machine)"
	}
	c.Close()
	return ""
}

// readPassword reads one line; on a terminal it says what for, and does not show
// what is typed. The reading itself cannot be stopped: when ctx ends first, it
// stays until the process ends, which is soon.
func readPassword(ctx context.Context, in *os.File, prompt string) (string, error) {
	if show, terminal := hide(in); terminal {
		fmt.Fprint(os.Stderr, prompt)
		defer fmt.Fprintln(os.Stderr) // the return key was not shown either
		defer show()
	}
	type answer struct {
		line string
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(in, maxPasswordLine)).ReadString('\n')
		read <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", errors.New("no password was given")
	case a := <-read:
		if errors.Is(a.err, io.EOF) && a.line == "" {
			return "", errors.New("a password is needed: type it, or write it to standard input")
		}
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", a.err)
		}
		return strings.TrimRight(a.line, "\r\n"), nil
	}
}

// hide stops a terminal from showing what is typed until show is called;
// terminal is false for anything else.
func hide(in *os.File) (show func(), terminal bool) {
	var was syscall.Termios
	if !ioctl(in, syscall.TCGETS, &was) {
		return nil, false
	}
	silent := was
	silent.Lflag &^= syscall.ECHO
	ioctl(in, syscall.TCSETS, &silent)
	return func() { ioctl(in, syscall.TCSETS, &was) }, true
}

// ioctl reads or writes a terminal's settings, and tells whether there is one
// (tcgetattr(3), which is an ioctl on Linux: ioctl_tty(2)).
func ioctl(f *os.File, request uintptr, t *syscall.Termios) bool {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(t)))
	return errno == 0
}
