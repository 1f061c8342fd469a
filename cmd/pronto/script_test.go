package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/queue"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/sip/siptest"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

// TestCalls plays every conversation of testdata/calls on the whole server: the
// wiring of cmd/pronto, SIP, sound, web, sockets and SQL. Only the wire and the
// clock are replaced, so a ten-minute wait takes no time.
func TestCalls(t *testing.T) {
	scripts, err := filepath.Glob("testdata/calls/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no call scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel() // each has a house, a database and a clock of its own
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			playScript(t, path, string(text))
		})
	}
}

// playScript plays one script in a bubble of its own.
func playScript(t *testing.T, name, text string) {
	gate, url := newGate(t, dbtest.URL(t))
	dir := dataDir(t)
	names := carrierNames(t, text)
	synctest.Test(t, func(t *testing.T) {
		lines := strings.Split(text, "\n")
		stage := &stage{t: t, gate: gate, names: names, operators: map[string]*actor{}, callers: map[string]*actor{}, extensions: map[string]string{}}
		for i, line := range lines {
			words := fields(line)
			if len(words) == 0 {
				continue
			}
			if stage.house == nil && words[0] != "at" {
				t.Fatalf("%s:%d: a script begins with `at DATE TIME`", name, i+1)
			}
			var err error
			if words[0] == "at" {
				err = stage.open(url, dir, words[1:])
			} else {
				err = stage.play(words)
			}
			if err != nil {
				stage.explain()
				stage.close()
				t.Fatalf("%s:%d: %s: %v", name, i+1, strings.TrimSpace(line), err)
			}
		}
		if err := stage.close(); err != nil {
			t.Error(err)
		}
	})
}

// carrierNames is the DNS of a carrier with two switches, where a script wants one:
// the first is dead. It lives outside the script's clock.
func carrierNames(t *testing.T, text string) *siptest.Names {
	if !strings.Contains(text, " named\n") {
		return nil
	}
	n, err := siptest.NewNames()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	n.SRV("_sip._udp.carrier.test.", 10, 0, deskPort, "first.carrier.test.")
	n.SRV("_sip._udp.carrier.test.", 20, 0, deskPort, "second.carrier.test.")
	n.A("first.carrier.test.", exchangeAddr.Addr().Next().String())
	n.A("second.carrier.test.", exchangeAddr.Addr().String())
	return n
}

// fields splits a line at spaces and keeps "quoted words" together; a line that
// begins with # is a comment.
func fields(line string) (words []string) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") {
		return nil
	}
	for line != "" {
		var word string
		if line[0] == '"' {
			end := strings.IndexByte(line[1:], '"')
			if end < 0 {
				return append(words, line[1:])
			}
			word, line = line[1:1+end], line[2+end:]
		} else {
			word, line, _ = strings.Cut(line, " ")
			word = strings.TrimSuffix(word, ",")
		}
		words = append(words, word)
		line = strings.TrimLeft(line, " ,")
	}
	return words
}

// stage is the desk and everybody around it, while a script is played.
type stage struct {
	t         *testing.T
	ctx       context.Context
	house     *house
	db        *db.DB
	gate      *gate // between house and database
	wire      *siptest.Wire
	exchange  *siptest.Exchange // what we dial out to
	names     *siptest.Names    // where the carrier's name leads; nil: nobody asks
	browsers  *pipes
	cancel    context.CancelFunc
	ended     chan error
	lib       *prompts.Library
	secrets   demoSecrets
	operators map[string]*actor
	callers   map[string]*actor
	token     string

	extensions map[string]string // of who has got one in the script

	disk atomic.Uint64 // bytes that are free
}

// actor is a caller or an operator: a telephone, for operators a page too.
type actor struct {
	name   string
	phone  *siptest.Phone
	page   *page
	token  string
	number string
}

// callerNumbers are the demo's doctors and some others by the names of scripts.
var callerNumbers = map[string]string{
	"rossi": "+390551234567", "cellulare": "+393331234567", "bianchi": "+390559876543", "deangelis": "+393477654321", "ignoto": "+390577000001", "nascosto": "",
	"primo": "+390577000011", "secondo": "+390577000012",
}

const (
	patience = 2 * time.Minute // for whatever a script waits for; virtual time costs nothing
	deskPort = 5060
	keptFree = 1 << 30 // bytes of the script's disk
)

var exchangeAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 2, 250}), deskPort)

var deskAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), deskPort)

// open sets the clock and opens the desk with the demo's data.
func (s *stage) open(url, dir string, words []string) error {
	bought, target, standby, host := 0, exchangeAddr, []netip.AddrPort(nil), ""
	if len(words) == 3 && words[2] == "named" { // the same by name: DNS lists the dead switch first
		target, host = netip.AddrPort{}, "carrier.test"
		words = words[:2]
	}
	if len(words) == 3 && words[2] == "standby" { // at 2026-03-02 09:00 standby: the carrier's first switch is dead, the second lives
		target, standby = netip.AddrPortFrom(exchangeAddr.Addr().Next(), deskPort), []netip.AddrPort{exchangeAddr}
		words = words[:2]
	}
	if len(words) == 4 && words[2] == "lines" { // at 2026-03-02 09:00 lines 2: of the trunk
		var err error
		if bought, err = strconv.Atoi(words[3]); err != nil {
			return err
		}
		words = words[:2]
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", strings.Join(words, " "), calendar.Rome())
	if err != nil {
		return err
	}
	<-time.After(time.Until(at)) // the bubble's clock, before anything starts
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx, s.cancel = ctx, cancel
	if s.db, err = db.Open(ctx, db.Config{URL: url, Log: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	s.wire = siptest.NewWire(1)
	s.wire.Delay = 5 * time.Millisecond
	conn, err := s.wire.Listen(deskAddr)
	if err != nil {
		return err
	}
	s.browsers = newPipes()
	s.lib = spelledPrompts()
	if s.exchange, err = siptest.NewExchange(s.wire, exchangeAddr, deskAddr); err != nil {
		return err
	}
	s.house, err = build(settings{
		data: dir, realm: "pronto", traceDays: 14, minPort: 20000, maxPort: 21999, grace: time.Minute, logLevel: "info",
		trunks: []trunk{{name: "carrier", networks: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24")}, lines: bought, target: target, standby: standby, host: host, caller: "+39055400500", asserted: true}},
		plan:   tickets.DialPlan{Prefixes: tickets.DefaultPrefixes()}, freely: transferOut["operators"],
	}, s.db, edges{packet: []net.PacketConn{conn}, rtp: s.wire.Media, prompts: s.lib, http: s.browsers, log: slog.New(slog.NewTextHandler(logTo{s.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	if s.names != nil {
		s.house.names.Resolver = s.names.Resolver
	}
	s.disk.Store(2 * keptFree)
	s.house.archive.KeepFree(keptFree)
	s.house.archive.FreeBy(func(string) (uint64, error) { return s.disk.Load(), nil })
	if err := s.house.seedDemo(ctx, 3); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &s.secrets); err != nil {
		return err
	}
	s.ended = make(chan error, 1)
	go func() { s.ended <- s.house.run(ctx) }() // ends with close
	if s.token, err = s.house.web.Users().Token(ctx, "carla", time.Hour*24*365); err != nil {
		return err
	}
	synctest.Wait()
	return nil
}

// logTo sends log lines to the test.
type logTo struct{ t *testing.T }

func (l logTo) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// spelledPrompts are the Italian prompts with sounds that spell their names.
func spelledPrompts() *prompts.Library {
	return prompts.New(siptest.Prompts())
}

// close ends everybody, then the desk, and asks what must hold after any day.
func (s *stage) close() error {
	var faults []error
	for _, people := range []map[string]*actor{s.callers, s.operators} {
		for _, a := range people {
			if a.page != nil {
				a.page.close()
			}
			if a.phone != nil {
				a.phone.Close()
			}
		}
	}
	if s.exchange != nil {
		s.exchange.Close()
	}
	s.cancel()
	if err := <-s.ended; err != nil {
		faults = append(faults, fmt.Errorf("the desk ended with %w", err))
	}
	check, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	faults = append(faults, s.holds(check)...)
	s.db.Close()
	return errors.Join(faults...)
}

// holds is what must hold after any day, as the rows say it.
func (s *stage) holds(check context.Context) (faults []error) {
	for what, sql := range map[string]string{
		"contacts without an ending":            `select count(*) from contacts where ending is null`,
		"places still held":                     `select count(*) from places where state in ('waiting', 'offered') and kind = 'live' or state = 'offered'`,
		"callbacks that nobody will make":       `select count(*) from callbacks b where b.outcome is null and not exists (select from places p where p.contact_id = b.contact_id and p.kind = 'callback' and p.state = 'waiting')`,
		"callbacks that are made for nothing":   `select count(*) from places p where p.kind = 'callback' and p.state = 'waiting' and not exists (select from callbacks b where b.contact_id = p.contact_id and b.outcome is null)`,
		"offers still pending":                  `select count(*) from offers where state = 'pending'`,
		"seats still with a caller":             `select count(*) from seats where doing in ('offered', 'talking')`,
		"messages without sound":                `select count(*) from recordings where state <> 'complete'`,
		"contacts served more often than given": `select count(*) from (select contact_id from offers o where state = 'accepted' and not consult group by 1 having count(*) > 1 + (select count(*) from journal j where j.contact_id = o.contact_id and j.kind = 'given')) x`,
		"talks that nobody has ended":           `select count(*) from offers where state = 'accepted' and released_at is null`,
		"wishes that no talk took":              `select count(*) from commands`,
		"tickets whose numbers leave a gap":     `select count(*) from ticket_counters c where c.last <> (select count(*) from tickets t where t.year = c.year)`,
		"closed tickets without a closing time": `select count(*) from tickets where status = 'closed' and closed_at is null`,
	} {
		var n int
		if err := s.db.Pool.QueryRow(check, sql).Scan(&n); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, err))
		} else if n != 0 {
			faults = append(faults, fmt.Errorf("%d %s", n, what))
		}
	}
	return faults
}

// explain prints the journals of all contacts, for a script that fails.
func (s *stage) explain() {
	if s.house == nil {
		return
	}
	list, err := s.house.book.Contacts(context.Background(), tickets.ContactFilter{Limit: 20})
	if err != nil {
		s.t.Log(err)
	}
	for _, c := range list {
		s.t.Logf("%s %s → %s: %s (%s)", c.T0.In(calendar.Rome()).Format("15:04:05"), c.Caller, c.Dialled, endingOf(c), kinds(c))
	}
	for name, a := range s.callers {
		s.t.Logf("%s heard %v", name, a.phone.Names())
	}
}

// play plays one line.
func (s *stage) play(w []string) error {
	if len(w) < 2 {
		return errors.New("a line is: who does what")
	}
	switch w[0] {
	case "ticket":
		return s.ticket(w[1], w[2:])
	case "contact", "journal", "sound": // sound rossi caller 4.41 4.41 operator 4.41 4.41: MOS of what was heard, and reached
		return s.contact(w[0], w[1], w[2:])
	case "ladder": // ladder rossi carrier INVITE 200 ACK BYE 200 telephone INVITE …: as it is drawn, of the newest contact
		return s.ladder(w[1], w[2:])
	case "message":
		return s.message(w[1], w[2])
	case "recorded": // recorded rossi caller "la stampante" operator "ci penso io"; recorded rossi nothing
		return s.recorded(w[1], w[2:])
	case "gaps": // gaps rossi hold on: why nothing was kept of the talk for a while, and that it went on
		return s.gaps(w[1], w[2:])
	case "waits":
		return s.wait(w[1])
	case "list":
		return s.list(w[1], w[2:])
	case "desk": // desk dials out: there is a line for callbacks
		s.house.queue.DialsOut(true)
		return nil
	case "topic": // topic carta relaxes 30s 1m, topic carta overflows software 2m
		return s.topic(w[1], w[2:])
	case "service": // service 800123456 closing callback
		return s.service(w[1], w[2:])
	case "callback", "attempt":
		return s.callback(w[0], w[1], w[2:])
	case "carrier": // carrier refuses rossi 503, carrier takes rossi
		return s.carrier(w[1], w[2:])
	case "node": // node gives-up rossi: another node has taken this one for dead, and ended the attempt
		list, err := s.house.book.Contacts(s.ctx, tickets.ContactFilter{Caller: callerNumbers[w[2]], Limit: 50})
		if err != nil {
			return err
		}
		for _, c := range list {
			if c.Direction == tickets.Outbound {
				s.house.desk.GiveUp([]uuid.UUID{c.ID})
			}
		}
		return nil
	case "line": // line goes, line comes: whether the desk can dial out
		s.house.queue.DialsOut(w[1] == "comes")
		return nil
	case "disk": // disk fills, disk empties
		if w[1] != "fills" && w[1] != "empties" {
			return errors.New("the disk fills or empties")
		}
		s.disk.Store(map[string]uint64{"fills": keptFree / 2, "empties": 2 * keptFree}[w[1]])
		return nil
	case "database": // database goes, database comes
		if w[1] != "goes" && w[1] != "comes" {
			return errors.New("the database goes or comes")
		}
		s.gate.goes(w[1] == "goes")
		return nil
	}
	if _, isOperator := s.secrets.Users[w[0]]; isOperator {
		a, err := s.operator(w[0])
		if err != nil {
			return err
		}
		return s.operatorDoes(a, w[1], w[2:])
	}
	number, known := callerNumbers[w[0]]
	if !known {
		return fmt.Errorf("nobody is called %s", w[0])
	}
	a := s.callers[w[0]]
	if a == nil {
		phone, err := siptest.NewPhone(s.wire, netip.AddrFrom4([4]byte{10, 0, 2, byte(len(s.callers) + 1)}), deskAddr)
		if err != nil {
			return err
		}
		synctest.Wait() // until it listens
		a = &actor{name: w[0], phone: phone, number: number}
		s.callers[w[0]] = a
		s.exchange.Connect(number, phone)
	}
	return s.callerDoes(a, w[1], w[2:])
}

// topic lets a topic relax: to the second and the third level, or to another topic.
func (s *stage) topic(code string, w []string) (err error) {
	r := queue.Route{Topic: code}
	switch {
	case len(w) != 3:
		return errors.New("a topic relaxes TIME TIME, or overflows TOPIC TIME")
	case w[0] == "relaxes":
		if r.Second, err = time.ParseDuration(w[1]); err == nil {
			r.Third, err = time.ParseDuration(w[2])
		}
	case w[0] == "overflows":
		r.Overflow = w[1]
		r.After, err = time.ParseDuration(w[2])
	}
	if err != nil {
		return err
	}
	return s.house.queue.SetRoute(s.ctx, nil, r, 0, time.Now())
}

// service changes a setting of a service: closing serve|callback, longest 2m,
// announces 1m, callback no.
func (s *stage) service(number string, w []string) error {
	now, err := s.house.book.Service(s.ctx, number)
	if err != nil {
		return err
	}
	next := *now
	switch w[0] {
	case "closing":
		next.AtClosing = w[1]
	case "longest":
		next.MaxWait, err = time.ParseDuration(w[1])
	case "nobody":
		next.NobodyWait, err = time.ParseDuration(w[1])
	case "announces":
		next.AnnounceEvery, err = time.ParseDuration(w[1])
	case "callback":
		next.CallbackOffered = w[1] != "no"
	default:
		return fmt.Errorf("a service has no %s", w[0])
	}
	if err != nil {
		return err
	}
	_, err = s.house.book.PutService(s.ctx, next)
	return err
}

func (s *stage) wait(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	<-time.After(d)
	return nil
}

// callerDoes is what callers can do.
func (s *stage) callerDoes(a *actor, verb string, w []string) error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	switch verb {
	case "dials":
		o := sip.DialOptions{From: a.number, Asserted: a.number}
		if a.number == "" {
			o = sip.DialOptions{Anonymous: true}
		}
		err := a.phone.Dial(ctx, w[0], o)
		if len(w) == 3 && w[1] == "gets" { // dials 800999999 gets 404
			var refused *sip.StatusError
			if !errors.As(err, &refused) || strconv.Itoa(refused.Code) != w[2] {
				return fmt.Errorf("got %v", err)
			}
			return nil
		}
		return err
	case "presses":
		return a.phone.Press(ctx, w[0])
	case "refers":
		return s.refers(ctx, a, w)
	case "holds", "resumes": // the carrier does
		return a.phone.Hold(ctx, verb == "holds")
	case "exists": // has a telephone, for whom nobody has dialled yet
		return nil
	}
	return s.speaks(ctx, a, verb, w)
}

// callback holds the newest callback of a caller against its state, outcome,
// number of attempts and more; attempt the newest outbound contact to them, or
// its whole journal (attempt rossi journal begun …).
func (s *stage) callback(what, caller string, w []string) error {
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		have, err := s.callbackWords(what, callerNumbers[caller], w[0] == "journal")
		if err != nil {
			return err
		}
		last = strings.Join(have, " ")
		if w[0] == "journal" && last == strings.Join(w[1:], " ") || w[0] != "journal" && !slices.ContainsFunc(w, func(word string) bool { return !slices.Contains(have, word) }) {
			return nil
		}
	}
	return fmt.Errorf("the %s is %q", what, last)
}

func (s *stage) callbackWords(what, number string, journal bool) (have []string, err error) {
	if what == "attempt" {
		list, err := s.house.book.Contacts(s.ctx, tickets.ContactFilter{Caller: number, Limit: 50})
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(r tickets.Record) bool { return r.Direction == tickets.Outbound })
		if i < 0 {
			return []string{"none"}, nil
		}
		c := list[i]
		if journal {
			return []string{kinds(c)}, nil
		}
		have = append(have, c.Outcome, endingOf(c), c.Match)
		if c.Ticket != nil {
			have = append(have, "ticket", *c.Ticket)
		}
		if c.Operator != nil {
			have = append(have, "by", *c.Operator)
		}
		return have, nil
	}
	list, err := s.house.book.Callbacks(s.ctx, tickets.CallbackFilter{Limit: 50}, time.Now())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b tickets.Callback) int { return b.BookedAt.Compare(a.BookedAt) })
	for _, c := range list {
		if c.Number != number {
			continue
		}
		have = append(have, c.State, c.Origin, strconv.Itoa(len(c.Attempts)))
		if c.Outcome != nil {
			have = append(have, *c.Outcome)
		}
		if c.WithinAnHour != nil && *c.WithinAnHour {
			have = append(have, "in-time")
		} else if c.WithinAnHour != nil || c.OutOfTime {
			have = append(have, "late")
		}
		for _, a := range c.Attempts {
			have = append(have, a.Outcome)
		}
		return have, nil
	}
	return []string{"none"}, nil
}

// carrier is what the outside world does with who is dialled: carrier refuses
// rossi 503, carrier takes rossi, carrier dialled rossi 3, carrier shows rossi N.
func (s *stage) carrier(verb string, w []string) error {
	number := callerNumbers[w[0]]
	n, shown := s.exchange.Dialled(number)
	switch verb {
	case "refuses":
		status, err := strconv.Atoi(w[1])
		s.exchange.Refuse(number, status)
		return err
	case "takes":
		s.exchange.Refuse(number, 0)
		return nil
	case "dialled":
		if strconv.Itoa(n) != w[1] {
			return fmt.Errorf("dialled %d times", n)
		}
		return nil
	case "shows":
		if shown != strings.Join(w[1:], " ") {
			return fmt.Errorf("it shows %q", shown)
		}
		return nil
	}
	return fmt.Errorf("a carrier cannot %s", verb)
}

// ringsBack presses Richiama, or books: anna calls rossi, anna calls message of
// rossi, anna calls ticket 2026-1, anna books rossi, anna cancels rossi; `… gets
// 409` at the end is what the desk says instead.
func (s *stage) ringsBack(ctx context.Context, a *actor, verb string, w []string) error {
	want := ""
	if n := len(w); n > 2 && w[n-2] == "gets" {
		want, w = w[n-1], w[:n-2]
	}
	path, err := s.pathOf(ctx, verb, w)
	if err != nil {
		return err
	}
	err = s.api(ctx, a.token, "POST", path, struct{}{}, nil)
	if want != "" {
		if err == nil || !strings.Contains(err.Error(), ": "+want+" ") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	}
	return err
}

func (s *stage) pathOf(ctx context.Context, verb string, w []string) (string, error) {
	var path, of string
	sql := `select id::text from contacts where caller = $1 and direction = 'inbound' order by t0 desc limit 1`
	switch {
	case w[0] == "ticket":
		return "/tickets/" + w[1] + "/call", nil
	case w[0] == "message":
		path, of = "/messages/%s/call", w[2]
		sql = `select r.id::text from recordings r join contacts c on c.id = r.contact_id where c.caller = $1 order by r.started_at desc limit 1`
	case verb == "cancels":
		path, of = "/callbacks/%s/cancel", w[0]
		sql = `select id::text from callbacks where number = $1 order by booked_at desc limit 1`
	case verb == "books":
		path, of = "/ringbacks/%s/book", w[0]
	default:
		path, of = "/ringbacks/%s/call", w[0]
	}
	var id string
	if err := s.db.Pool.QueryRow(ctx, sql, callerNumbers[of]).Scan(&id); err != nil {
		return "", fmt.Errorf("%s: %w", of, err)
	}
	return fmt.Sprintf(path, id), nil
}

// speaks is what everybody with a telephone can do.
func (s *stage) speaks(ctx context.Context, a *actor, verb string, w []string) error {
	switch verb {
	case "hears":
		return a.phone.Hears(ctx, patience, s.heard(w)...)
	case "hears-at-last":
		return a.phone.HearsAtLast(ctx, patience, s.heard(w)...)
	case "never": // never heard "digli di riavviare", up to now
		if i := slices.IndexFunc(a.phone.Names(), func(name string) bool { return slices.Contains(w[1:], name) }); i >= 0 {
			return fmt.Errorf("heard %v", a.phone.Names())
		}
		return nil
	case "says": // says 3m10s "il certificato di Bianchi"
		d, err := time.ParseDuration(w[0])
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(s.ctx, d+patience)
		defer cancel()
		return a.phone.Say(ctx, strings.Join(w[1:], " "), d)
	case "talks-over": // says it until the other side has had enough
		d, err := time.ParseDuration(w[0])
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(s.ctx, d+patience)
		defer cancel()
		if err := a.phone.Say(ctx, strings.Join(w[1:], " "), d); err == nil {
			return errors.New("nobody stopped it")
		}
		return nil
	case "waits":
		return s.wait(w[0])
	case "hangs": // hangs up
		return a.phone.HangUp(ctx)
	case "rings":
		return a.phone.Rings(ctx, patience)
	case "stays": // stays quiet: the telephone does not ring, or no longer
		if a.phone.Rings(ctx, time.Second) == nil {
			return errors.New("the telephone rings")
		}
		return nil
	case "lifts":
		if err := a.phone.Rings(ctx, patience); err != nil {
			return err
		}
		return a.phone.Lift(ctx)
	case "declines": // declines, declines 603
		if err := a.phone.Rings(ctx, patience); err != nil {
			return err
		}
		status := 486
		if len(w) > 0 {
			status, _ = strconv.Atoi(w[0])
		}
		return a.phone.Decline(ctx, status)
	case "is": // is cut off
		return a.phone.Gone(ctx, patience)
	}
	return fmt.Errorf("nobody can %s", verb)
}

// heard turns the words of `hears` into the clips that are spoken.
func (s *stage) heard(w []string) []string {
	switch w[0] {
	case "menu":
		var list []prompts.Choice
		for i, t := range demoTopics {
			list = append(list, prompts.Choice{Key: rune('1' + i), Code: t.Code, Name: t.Name})
		}
		list = append(list, prompts.Choice{Key: demoState, Code: prompts.ChoiceState})
		return siptest.Read(s.lib.Menu(list).ALaw)
	case "parole": // parole oggi alle_ore nove
		return w[1:]
	case "numero":
		return siptest.Read(s.lib.Number(w[1]).ALaw)
	case "orari": // orari 800123456
		service, err := s.house.book.Service(s.ctx, w[1])
		if err != nil {
			return []string{err.Error()}
		}
		return siptest.Read(s.lib.Hours(service.Hours).ALaw)
	case "riapre": // riapre 2026-12-28 08:00
		at, err := time.ParseInLocation("2006-01-02 15:04", w[1]+" "+w[2], calendar.Rome())
		if err != nil {
			return []string{err.Error()}
		}
		return siptest.Read(s.lib.Reopens(at, time.Now()).ALaw)
	}
	return []string{strings.Join(w, " ")}
}

// operator is somebody of the demo with a telephone; the page opens with the
// first line that names them.
func (s *stage) operator(name string) (*actor, error) {
	if a := s.operators[name]; a != nil {
		return a, nil
	}
	phone, err := siptest.NewPhone(s.wire, netip.AddrFrom4([4]byte{10, 0, 1, byte(len(s.operators) + 1)}), deskAddr)
	if err != nil {
		return nil, err
	}
	synctest.Wait() // until it listens
	token, err := s.house.web.Users().Token(s.ctx, name, time.Hour*24*365)
	if err != nil {
		return nil, err
	}
	a := &actor{name: name, phone: phone, token: token}
	s.operators[name] = a
	return a, nil
}

// telephone gives somebody of the demo a telephone who has none.
func (s *stage) telephone(ctx context.Context, name, extension string) error {
	const secret = "telefono-di-prova"
	if _, err := s.db.Pool.Exec(ctx, `update users set extension = $2 where name = $1`, name, extension); err != nil {
		return err
	}
	s.extensions[name], s.secrets.Phones[extension] = extension, secret
	return s.house.web.Users().SetPhone(ctx, extension, "pronto", secret)
}

// supervises is a supervisor in an operator's talk: carla joins anna listen, carla
// becomes whisper, carla leaves; `… gets 409` at the end is what the desk says instead.
func (s *stage) supervises(ctx context.Context, a *actor, verb string, w []string) error {
	want := ""
	if n := len(w); n >= 2 && w[n-2] == "gets" {
		want, w = w[n-1], w[:n-2]
	}
	var err error
	switch verb {
	case "joins":
		err = s.api(ctx, a.token, "POST", "/supervision", map[string]string{"operator": w[0], "part": w[1]}, nil)
	case "becomes":
		err = s.api(ctx, a.token, "PUT", "/supervision", map[string]string{"part": w[0]}, nil)
	default:
		err = s.api(ctx, a.token, "DELETE", "/supervision", nil, nil)
	}
	if want != "" {
		if err == nil || !strings.Contains(err.Error(), ": "+want+" ") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	}
	return err
}

// extension is the number of somebody's telephone.
func (s *stage) extension(name string) string {
	if e := s.extensions[name]; e != "" {
		return e
	}
	return extension(name)
}

// extension is an operator's telephone number.
func extension(name string) string {
	for n := 1; ; n++ {
		if demoOperator(n) == name {
			return strconv.Itoa(demoFirstPhone + n - 1)
		}
	}
}

// operatorDoes is what operators can do at their telephone and on their page.
func (s *stage) operatorDoes(a *actor, verb string, w []string) error {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	me := "/operators/" + a.name + "/state"
	switch verb {
	case "registers":
		ext := s.extension(a.name)
		return a.phone.Register(ctx, ext, s.secrets.Phones[ext], time.Hour*12)
	case "has": // has telephone 1100: who is no operator
		return s.telephone(ctx, a.name, w[1])
	case "joins", "becomes", "leaves":
		return s.supervises(ctx, a, verb, w)
	case "opens": // opens the page
		var err error
		a.page, err = openPage(ctx, s.browsers, a.token)
		return err
	case "sits": // telephone, page, available
		for _, v := range []string{"registers", "opens", "declares"} {
			if err := s.operatorDoes(a, v, []string{"available"}); err != nil {
				return err
			}
		}
		return nil
	case "knows": // knows certificati:2 software
		return s.house.web.Users().SetSkills(s.ctx, a.name, w...)
	case "declares":
		return s.api(ctx, a.token, "PUT", me, map[string]string{"declared": w[0]}, nil)
	case "takes": // takes a break
		if w[0] == "a" {
			return s.api(ctx, a.token, "PUT", me, map[string]string{"declared": "break", "reason": "Pausa"}, nil)
		}
		return s.api(ctx, a.token, "POST", "/tickets/"+w[1]+"/take", struct{}{}, nil) // takes ticket N
	case "sees": // sees "Mario Rossi" certificati 2026-1
		return a.page.sees(ctx, w)
	case "holds", "resumes", "transfers", "consults", "completes", "returns", "confers":
		return s.asks(ctx, a, verb, w)
	case "refers":
		return s.refers(ctx, a, w)
	case "dials": // dials bruno, dials number bianchi, dials 1999 gets 403: a second call of the telephone, while the first waits
		return s.dials(ctx, a, w)
	case "connects": // connects, connects gets 481: the telephone gives the caller to whom its second call is with (REFER with Replaces)
		want := "200"
		if len(w) == 2 {
			want = w[1]
		}
		status, err := a.phone.Join(ctx)
		return told(status, err, want)
	case "wants": // wants topic carta, which the conversation has not heard of yet when its telephone is hung up
		_, err := s.db.Pool.Exec(ctx, `insert into commands (offer_id, wants, topic_id, expires_at)
			select s.offer_id, 'transfer', t.id, $1 from seats s join users u on u.id = s.user_id, topics t where u.name = $2 and t.code = $3`, time.Now().Add(time.Minute), a.name, w[1])
		return err
	case "calls", "books", "cancels":
		return s.ringsBack(ctx, a, verb, w)
	case "pauses", "unpauses": // the recording
		return s.api(ctx, a.token, "POST", "/talk/recording", map[string]bool{"paused": verb == "pauses"}, nil)
	case "unregisters":
		ext := s.extension(a.name)
		return a.phone.Register(ctx, ext, s.secrets.Phones[ext], 0)
	case "refuses": // Rifiuta on the page
		return a.page.refuse(ctx, s, a.token)
	case "notes": // notes 2026-1 "rinviato a INPS"
		return s.api(ctx, a.token, "POST", "/tickets/"+w[0]+"/notes", map[string]string{"text": w[1]}, nil)
	case "writes": // writes 2026-1 subject "…"
		return s.api(ctx, a.token, "PATCH", "/tickets/"+w[0], map[string]any{"base": map[string]any{}, "set": map[string]any{w[1]: w[2]}}, nil)
	case "closes": // closes 2026-1 risolto "rinviato a INPS"
		return s.api(ctx, a.token, "POST", "/tickets/"+w[0]+"/close", map[string]string{"outcome": w[1], "solution": w[2]}, nil)
	case "publishes": // publishes 800123456 {"mobiles_refused":true} [from 2026-03-02 13:00]
		return s.publish(ctx, a.token, w)
	case "announces": // the emergency announcement
		return s.api(ctx, a.token, "PUT", "/emergency", map[string]string{"clip": strings.Join(w, "")}, nil)
	case "replaces": // replaces benvenuto con "saluto nuovo": the file says what it is called
		return s.upload(ctx, a.token, w[0], w[2])
	case "restores": // restores benvenuto
		return s.api(ctx, a.token, "DELETE", "/prompts/"+w[0], nil, nil)
	case "revokes":
		return s.api(ctx, a.token, "DELETE", "/emergency", nil, nil)
	case "does": // does idle|talking|wrapping, declared break missed
		return s.seat(a.name, w)
	}
	return s.speaks(ctx, a, verb, w)
}

// asks presses a button of the talk: anna holds, anna resumes (or does so by telephone,
// with its own key), anna transfers to
// bruno, anna transfers to topic carta, anna consults number rossi, anna completes,
// anna returns to the caller, anna confers; `… gets 409` is what the desk says instead.
func (s *stage) asks(ctx context.Context, a *actor, verb string, w []string) error {
	if strings.Join(w, " ") == "by telephone" {
		return a.phone.Hold(ctx, verb == "holds")
	}
	want := ""
	if n := len(w); n > 1 && w[n-2] == "gets" {
		want, w = w[n-1], w[:n-2]
	}
	body := map[string]string{"wish": map[string]string{"holds": "hold", "resumes": "resume", "transfers": "transfer", "consults": "consult",
		"completes": "complete", "returns": "take_back", "confers": "conference"}[verb]}
	if len(w) > 0 && w[0] == "to" {
		w = w[1:]
	}
	switch {
	case len(w) == 2 && w[0] == "number":
		body["number"] = cmp.Or(callerNumbers[w[1]], w[1])
	case len(w) == 2:
		body[w[0]] = w[1] // topic carta
	case len(w) == 1:
		body["operator"] = w[0]
	}
	err := s.api(ctx, a.token, "POST", "/talk", body, nil)
	if want != "" {
		if err == nil || !strings.Contains(err.Error(), ": "+want+" ") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	}
	return err
}

// refers transfers with the telephone's own key (REFER): anna refers to bruno, anna
// refers to carta, anna refers to number bianchi, anna refers to <sip:…> as it stands;
// `… gets 403` is what the telephone is told in the end, 200 without it; `… and leaves`
// hangs up without waiting for it.
func (s *stage) refers(ctx context.Context, a *actor, w []string) error {
	want, leave := "200", false
	switch n := len(w); {
	case n > 2 && w[n-2] == "gets":
		want, w = w[n-1], w[:n-2]
	case n > 2 && w[n-2] == "and":
		want, leave, w = "0", true, w[:n-2]
	}
	to := w[len(w)-1]
	if _, isOperator := s.secrets.Users[to]; isOperator {
		to = extension(to)
	}
	if !strings.HasPrefix(to, "<") {
		to = "<sip:" + cmp.Or(callerNumbers[to], to) + "@" + deskAddr.String() + ">"
	}
	status, err := a.phone.Refer(ctx, to, leave)
	return told(status, err, want)
}

// dials makes the second call of an operator's telephone.
func (s *stage) dials(ctx context.Context, a *actor, w []string) error {
	want := ""
	if n := len(w); n > 2 && w[n-2] == "gets" {
		want, w = w[n-1], w[:n-2]
	}
	to := w[len(w)-1]
	if _, isOperator := s.secrets.Users[to]; isOperator {
		to = extension(to)
	}
	me := extension(a.name)
	err := a.phone.Consult(ctx, cmp.Or(callerNumbers[to], to), me, s.secrets.Phones[me])
	if want == "" {
		return err
	}
	return told(0, err, want)
}

// told holds what a telephone was told, a refusal too, against what it should be.
func told(status int, err error, want string) error {
	var refused *sip.StatusError
	if errors.As(err, &refused) {
		status, err = refused.Code, nil
	}
	if err == nil && strconv.Itoa(status) != want {
		err = fmt.Errorf("it is told %d", status)
	}
	return err
}

// publish changes settings of a service as the screen does: the version in force
// becomes a draft with what is different, which is checked and published.
func (s *stage) publish(ctx context.Context, token string, w []string) error {
	var services struct{ Items []tickets.Overview }
	if err := s.api(ctx, token, "GET", "/services", nil, &services); err != nil {
		return err
	}
	i := slices.IndexFunc(services.Items, func(o tickets.Overview) bool { return o.Number == w[0] })
	if i < 0 {
		return errors.New("no such service")
	}
	at := fmt.Sprintf("/services/%d", services.Items[i].ID)
	var page struct{ Versions []tickets.Version }
	if err := s.api(ctx, token, "GET", at, nil, &page); err != nil {
		return err
	}
	settings := page.Versions[0].Settings
	if err := json.Unmarshal([]byte(w[1]), &settings); err != nil { // what is not named stays
		return err
	}
	draft := map[string]any{"settings": settings, "valid_from": nil, "revision": 0}
	if len(w) == 5 {
		from, err := time.ParseInLocation("2006-01-02 15:04", w[3]+" "+w[4], calendar.Rome())
		if err != nil {
			return err
		}
		draft["valid_from"] = from
	}
	var version tickets.Version
	if err := s.api(ctx, token, "PUT", at+"/draft", draft, &version); err != nil {
		return err
	}
	var faults struct{ Items []tickets.Fault }
	if err := s.api(ctx, token, "POST", at+"/check", struct{}{}, &faults); err != nil {
		return err
	}
	if len(faults.Items) > 0 {
		return fmt.Errorf("the draft has faults: %+v", faults.Items)
	}
	return s.api(ctx, token, "POST", at+"/publish", map[string]int64{"revision": version.Revision}, nil)
}

// seat waits until an operator's seat says all the words: doing, declared, reason.
func (s *stage) seat(name string, w []string) error {
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end); {
		seats, err := s.house.queue.Seats(s.ctx)
		if err != nil {
			return err
		}
		for _, seat := range seats {
			if seat.Operator != name {
				continue
			}
			have := []string{string(seat.Doing), string(seat.Declared), seat.Reason, cmp.Or(string(seat.Talk), "together"), seat.TalkWhy, seat.SupervisesWhy}
			switch {
			case seat.Supervisor == "":
				have = append(have, "unsupervised")
			case seat.SupervisorSince == nil:
				have = append(have, "with-"+seat.Supervisor, "ringing", string(seat.SupervisorPart))
			default:
				have = append(have, "with-"+seat.Supervisor, "on", string(seat.SupervisorPart))
			}
			last = strings.Join(have, " ")
			if !slices.ContainsFunc(w, func(word string) bool { return !slices.Contains(have, word) }) {
				return nil
			}
		}
		<-time.After(100 * time.Millisecond)
	}
	return fmt.Errorf("the seat is %q", last)
}

// ticket holds a ticket against words: its status, topic, owner NAME, subject…
func (s *stage) ticket(number string, w []string) error {
	t, err := s.house.book.TicketOf(s.ctx, number)
	if err != nil {
		return err
	}
	have := []string{string(t.Status), t.Outcome, t.CallType, string(t.Channel), t.RequesterName, t.RequesterNumber, t.FaultType, t.Subject, "urgency-" + strconv.Itoa(t.Urgency)}
	if t.Topic != nil {
		have = append(have, t.Topic.Code)
	}
	if t.Owner != nil {
		have = append(have, "owner", t.Owner.Name)
	}
	for _, word := range w {
		if !slices.Contains(have, word) {
			return fmt.Errorf("the ticket says %q, not %q", have, word)
		}
	}
	return nil
}

// contact holds the newest contact of a caller against its ending and more
// (contact rossi served told), or against its whole journal, in order.
func (s *stage) contact(what, caller string, w []string) error {
	var c tickets.Record
	for end := time.Now().Add(patience); ; { // the ending is written a moment after the hang-up
		list, err := s.house.book.Contacts(s.ctx, tickets.ContactFilter{Limit: 50})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(r tickets.Record) bool {
			return r.Caller == callerNumbers[caller] && r.Direction == tickets.Inbound
		})
		if i < 0 {
			return errors.New("no contact")
		}
		c = list[i]
		if endingOf(c) != "" || time.Now().After(end) {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	if what == "journal" {
		if got := kinds(c); got != strings.Join(w, " ") {
			return fmt.Errorf("the journal says %q", got)
		}
		return nil
	}
	if what == "sound" {
		if got := soundOf(c); got != strings.Join(w, " ") {
			return fmt.Errorf("the sound was %q", got)
		}
		return nil
	}
	have := []string{endingOf(c), c.Match, c.CallerSource}
	if c.NumberTold {
		have = append(have, "told")
	} else {
		have = append(have, "not-told")
	}
	if c.HasRecording {
		have = append(have, "recorded")
	}
	if c.Settings != nil {
		have = append(have, fmt.Sprint("settings-", *c.Settings))
	}
	if c.RingBack != nil {
		have = append(have, "ring-back-"+*c.RingBack)
	}
	if c.Ticket != nil {
		have = append(have, "ticket", *c.Ticket)
	} else {
		have = append(have, "no-ticket")
	}
	if c.Operator != nil {
		have = append(have, "by", *c.Operator)
	}
	for _, word := range w {
		if !slices.Contains(have, word) {
			return fmt.Errorf("the contact is %q, not %q (%s)", have, word, kinds(c))
		}
	}
	return nil
}

// ladder holds what was signalled for a caller's newest contact: read by the API,
// drawn as `pronto trace` does, and without a number.
func (s *stage) ladder(caller string, w []string) error {
	const traced = time.Minute // of the bubble; then the call has ended without a trace
	var c struct{ Items []tickets.Record }
	if err := s.api(s.ctx, s.token, "GET", "/contacts?limit=50", nil, &c); err != nil {
		return err
	}
	i := slices.IndexFunc(c.Items, func(r tickets.Record) bool { return r.Caller == callerNumbers[caller] })
	if i < 0 {
		return errors.New("no contact")
	}
	var got struct{ Items []sip.Trace }
	for end := time.Now().Add(traced); len(got.Items) == 0 && time.Now().Before(end); <-time.After(time.Second) {
		if err := s.api(s.ctx, s.token, "GET", "/contacts/"+c.Items[i].ID.String()+"/trace", nil, &got); err != nil {
			return err
		}
	}
	if len(got.Items) != 1 {
		return fmt.Errorf("there are %d traces", len(got.Items))
	}
	var drawn strings.Builder
	draw(&drawn, got.Items[0], true)
	sounded(&drawn, c.Items[i].Legs)
	for _, number := range []string{callerNumbers[caller][1:], callerNumbers[caller][3:], "Rossi"} {
		if strings.Contains(drawn.String(), number) {
			return fmt.Errorf("%q is kept:\n%s", number, &drawn)
		}
	}
	ends := map[string][]string{}
	for _, m := range got.Items[0].Messages {
		end := got.Items[0].Ways[m.Way].End
		if word := strings.Fields(strings.TrimPrefix(m.First, "SIP/2.0 "))[0]; word[0] != '1' { // at one instant they overtake what follows
			ends[end] = append(ends[end], word)
		}
	}
	var have []string
	for _, end := range slices.Sorted(maps.Keys(ends)) {
		have = append(append(have, end), ends[end]...)
	}
	if strings.Join(have, " ") != strings.Join(w, " ") {
		return fmt.Errorf("the ladder is %q:\n%s", have, &drawn)
	}
	return nil
}

// message holds the length of a caller's newest message, to a second.
func (s *stage) message(caller, length string) error {
	want, err := time.ParseDuration(length)
	if err != nil {
		return err
	}
	var ms int
	err = s.db.Pool.QueryRow(s.ctx, `select length_ms from recordings join contacts on contacts.id = contact_id where caller = $1 order by recordings.started_at desc limit 1`,
		callerNumbers[caller]).Scan(&ms)
	if got := time.Duration(ms) * time.Millisecond; err == nil && (got-want).Abs() > time.Second {
		return fmt.Errorf("the message lasts %s", got)
	}
	return err
}

// recorded holds what a supervisor hears on both sides of a caller's newest talk,
// and that its operators do not.
func (s *stage) recorded(caller string, w []string) error {
	var contact string
	if err := s.db.Pool.QueryRow(s.ctx, `select id::text from contacts where caller = $1 order by t0 desc limit 1`, callerNumbers[caller]).Scan(&contact); err != nil {
		return err
	}
	path := "/contacts/" + contact + "/talk"
	if slices.Equal(w, []string{"nothing"}) {
		if err := s.api(s.ctx, s.token, "GET", path, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
			return fmt.Errorf("there is a recording (%w)", err)
		}
		return nil
	}
	for _, a := range s.operators {
		if err := s.api(s.ctx, a.token, "GET", path, nil, nil); a.name != "carla" && (err == nil || !strings.Contains(err.Error(), "403")) {
			return fmt.Errorf("%s hears it (%w)", a.name, err)
		}
	}
	var wav wavFile
	if err := s.api(s.ctx, s.token, "GET", path, nil, &wav); err != nil {
		return err
	}
	sound, err := audio.ReadStereoWAV(bytes.NewReader(wav), 64<<20)
	if err != nil {
		return err
	}
	var sides [2][]byte
	for i, a := range sound {
		sides[i%2] = append(sides[i%2], a)
	}
	var got []string
	for i, name := range []string{"caller", "operator"} {
		got = append(append(got, name), siptest.Read(sides[i])...)
	}
	if !slices.Equal(got, w) {
		return fmt.Errorf("what was recorded is %q", got)
	}
	return nil
}

// wavFile is an answer that is no JSON.
type wavFile []byte

// gaps holds why nothing was kept of a caller's newest talk, in its order.
func (s *stage) gaps(caller string, w []string) error {
	rows, err := s.db.Pool.Query(s.ctx, `select coalesce(j.data ->> 'reason', 'on') from journal j
		where j.contact_id = (select id from contacts where caller = $1 order by t0 desc limit 1) and j.kind in ('taping_gap', 'taping_on') order by j.id`, callerNumbers[caller])
	if err != nil {
		return err
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && !slices.Equal(got, w) {
		return fmt.Errorf("the gaps are %q", got)
	}
	return err
}

// list holds the length of a list: list ringbacks 1, list messages 2, list contacts 3.
func (s *stage) list(what string, w []string) error {
	path := "/" + what
	if what == "messages" {
		path += "?state=new"
	}
	var got struct{ Items []json.RawMessage }
	if err := s.api(s.ctx, s.token, "GET", path, nil, &got); err != nil {
		return err
	}
	if strconv.Itoa(len(got.Items)) != w[0] {
		return fmt.Errorf("there are %d", len(got.Items))
	}
	return nil
}

// api asks the desk as a browser would, over a connection in memory.
func (s *stage) api(ctx context.Context, token, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.ask(ctx, token, method, path, "application/json", text, answer)
}

// ask is api with a body of any kind.
func (s *stage) ask(ctx context.Context, token, method, path, kind string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://desk/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", kind)
	client := &http.Client{Transport: &http.Transport{DialContext: s.browsers.dial, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, said)
	}
	switch to := answer.(type) {
	case nil:
		return nil
	case *wavFile:
		*to = said
		return nil
	}
	return json.Unmarshal(said, answer)
}

// upload puts a sound that spells words in the place of a prompt, as the screen does.
func (s *stage) upload(ctx context.Context, token, name, words string) error {
	var wav bytes.Buffer
	if err := audio.WriteWAV(&wav, siptest.Spell(words, 400*time.Millisecond).ALaw); err != nil {
		return err
	}
	return s.ask(ctx, token, "PUT", "/prompts/"+name+"?text="+url.QueryEscape(words), "audio/wav", wav.Bytes(), nil)
}

// page is an operator's page as far as scripts see it: a socket that
// acknowledges what it was shown.
type page struct {
	ws   *websocket.Conn
	pops chan pop
	gone chan struct{}
}

// pop is what a script looks at of a screen-pop.
type pop struct {
	text  string
	offer string
}

func openPage(ctx context.Context, b *pipes, token string) (*page, error) {
	dialer := websocket.Dialer{NetDialContext: b.dial}
	ws, _, err := dialer.DialContext(ctx, "ws://desk/api/v1/socket", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return nil, err
	}
	p := &page{ws: ws, pops: make(chan pop, 16), gone: make(chan struct{})}
	if err := ws.WriteJSON(map[string]any{"type": "hello", "epoch": "", "seq": 0}); err != nil {
		return nil, err
	}
	var first struct{ Type string }
	if err := ws.ReadJSON(&first); err != nil || first.Type != "snapshot" {
		return nil, fmt.Errorf("the socket begins with %q: %v", first.Type, err)
	}
	go p.read() // ends when the socket is closed
	return p, nil
}

func (p *page) read() {
	defer close(p.gone)
	for {
		_, text, err := p.ws.ReadMessage()
		if err != nil {
			return
		}
		var e struct {
			Kind string
			Data struct {
				Offer *struct{ ID string }
			}
		}
		if json.Unmarshal(text, &e) != nil || e.Kind != "call.offered" || e.Data.Offer == nil {
			continue
		}
		_ = p.ws.WriteJSON(map[string]any{"type": "painted", "offer": e.Data.Offer.ID})
		p.pops <- pop{string(text), e.Data.Offer.ID}
	}
}

// sees waits for a screen-pop that holds all the words; those before it are over.
func (p *page) sees(ctx context.Context, w []string) error {
	if p == nil {
		return errors.New("no page is open")
	}
	last := errors.New("the page shows nothing")
	for {
		select {
		case got := <-p.pops:
			i := slices.IndexFunc(w, func(word string) bool { return !strings.Contains(got.text, word) })
			if i < 0 {
				p.pops <- got // refuse looks at it too
				return nil
			}
			last = fmt.Errorf("the page shows %s, without %q", got.text, w[i])
		case <-ctx.Done():
			return last
		}
	}
}

func (p *page) refuse(ctx context.Context, s *stage, token string) error {
	select {
	case got := <-p.pops:
		return s.api(ctx, token, "POST", "/offers/"+got.offer+"/decline", struct{}{}, nil)
	case <-ctx.Done():
		return errors.New("the page shows nothing to refuse")
	}
}

func (p *page) close() {
	_ = p.ws.Close()
	<-p.gone
}

// pipes is the browsers' network: a listener whose connections are net.Pipe.
type pipes struct {
	come   chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.come <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept gives the next connection.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.come:
		return pipeConn{c}, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

// Addr is an address of this machine, as the console's is.
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// pipeConn has an address, which limits per source need.
type pipeConn struct{ net.Conn }

func (pipeConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }

// soundOf is how each leg of a contact sounded, each way.
func soundOf(c tickets.Record) string {
	mos := func(d *tickets.Direction) string {
		if d == nil {
			return "–"
		}
		return fmt.Sprintf("%.2f", d.MOS)
	}
	var said []string
	for _, l := range c.Legs {
		said = append(said, l.Who, mos(l.Heard), mos(l.Reached))
	}
	return strings.Join(said, " ")
}
