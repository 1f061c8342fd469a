package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/dbtest"
	"github.com/pronto-desk/pronto/ivr/prompts"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/siptest"
	"github.com/pronto-desk/pronto/tickets"
	"github.com/pronto-desk/pronto/tickets/calendar"
)

var (
	days    = flag.Int("days", 3, "how many days TestDay plays")
	daySeed = flag.Uint64("day", 0, "the one seed that TestDay plays; 0: as many as -days says, from 1")
)

// What a day is made of. It begins an hour before the service closes: the hours
// before would be more of the same, and their heartbeats cost real time.
const (
	dayCallers   = 200
	dayOperators = 6
	dayOpens     = "2026-03-02 21:00"
	dayCloses    = 22 * 60                   // minutes: the demo's service, on this day
	dayBusy      = time.Hour                 // in which most callers ring: until the service closes
	dayRings     = 2*time.Hour + time.Hour/2 // in which all of them do
	dayEnds      = 3 * time.Hour             // midnight
	dayTick      = time.Second               // how often people look what happens
	dayLoss      = 0.01                      // of all packets
	dayReorder   = 0.01
	dayLate      = 60 * time.Millisecond // three packets of sound
)

// TestDay plays a day on the whole server, with people who act at random from a
// seed, on a wire that loses and reorders: they hang up anywhere, press anything,
// refuse, do not answer, hold and give on, unplug their telephones; the server is
// restarted, cut off without its goodbyes, and loses its database. At midnight it asks what must
// hold after any day.
//
//	go test -run TestDay ./cmd/pronto -day 17    one day again
//	go test -run TestDay ./cmd/pronto -days 30   (make days)
func TestDay(t *testing.T) {
	seeds := []uint64{*daySeed}
	if *daySeed == 0 {
		seeds = nil
		for seed := range uint64(*days) {
			seeds = append(seeds, seed+1)
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) {
			t.Parallel()
			playDay(t, seed)
		})
	}
}

// day is a stage with people who act by themselves.
type day struct {
	*stage
	seed  uint64
	url   string
	dir   string // of the house that stands now
	opens time.Time
	conn  *siptest.Conn // the house's, for SIP
	lobby *pipes        // the browsers' network, which outlives a house

	mu       sync.Mutex // guards what follows
	absent   []span     // when no house answered, or no database
	answered map[string]int
	faults   []string
}

// span is a stretch of time.
type span struct{ from, to time.Time }

func playDay(t *testing.T, seed uint64) {
	gate, url := newGate(t, dbtest.URL(t))
	d := &day{seed: seed, url: url, dir: dataDir(t), answered: map[string]int{}}
	t.Logf("seed %d", seed)
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		d.lobby = newPipes()
		d.stage = &stage{t: t, gate: gate, browsers: d.lobby}
		if err := d.play(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	})
	t.Logf("seed %d took %s", seed, time.Since(began).Round(time.Millisecond))
}

// play is the day, from the opening to the questions at midnight.
func (d *day) play() error {
	var err error
	if d.opens, err = time.ParseInLocation("2006-01-02 15:04", dayOpens, calendar.Rome()); err != nil {
		return err
	}
	<-time.After(time.Until(d.opens))
	d.wire = siptest.NewWire(d.seed)
	d.wire.Delay, d.wire.Loss, d.wire.Reorder, d.wire.Late = 5*time.Millisecond, dayLoss, dayReorder, dayLate
	d.wire.Spare = refusalsAck
	d.lib = spelledPrompts()
	if err := d.start(); err != nil {
		return err
	}
	if err := d.house.seedDemo(d.ctx, dayOperators); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(d.dir, "demo.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &d.secrets); err != nil {
		return err
	}
	for name, topics := range daySkills {
		if err := d.house.web.Users().SetSkills(d.ctx, name, topics...); err != nil {
			return err
		}
	}
	if err := d.settings(); err != nil {
		return err
	}
	tokens := map[string]string{}
	for n := range dayOperators {
		name := demoOperator(n + 1)
		if tokens[name], err = d.house.web.Users().Token(d.ctx, name, 24*time.Hour); err != nil {
			return err
		}
	}
	var people sync.WaitGroup
	for n := range dayOperators {
		name := demoOperator(n + 1)
		people.Go(func() { d.operate(n, name, tokens[name]) })
	}
	for n := range dayCallers {
		people.Go(func() { d.call(n) })
	}
	troubles := d.troubles()
	people.Wait()
	if err := errors.Join(troubles...); err != nil {
		return err
	}
	return d.close()
}

// settings give the service with hours those of the day, and all that it can do
// for who waits.
func (d *day) settings() error {
	s, err := d.house.book.Service(d.ctx, dayNumbers[0])
	if err != nil {
		return err
	}
	changed := *s
	changed.Hours = officeHours(8*60, dayCloses)
	changed.MaxWait, changed.AtClosing, changed.CallbackOffered = 3*time.Minute, tickets.AtClosingCallback, true
	_, err = d.house.book.PutService(d.ctx, changed)
	return err
}

// refusalsAck spares the ACK of a refusal, which goes to what was dialled and not
// to the address that a 200 names. sipgo v1.7.2 answers a repeated refusal after a
// pause of 4 s in which it holds the transaction's lock, and whoever waits for a
// lock stops a bubble's clock.
func refusalsAck(_, _ netip.AddrPort, data []byte) bool {
	return bytes.HasPrefix(data, []byte("ACK ")) && !bytes.HasPrefix(data, []byte("ACK sip:pronto@"))
}

// random gives each person numbers of their own: who acts first at one instant
// is not for the seed to say.
func (d *day) random(who string) *rand.Rand {
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range []byte(who) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(d.seed, h))
}

// maybe is true with a probability.
func maybe(r *rand.Rand, p float64) bool { return r.Float64() < p }

// between is a length of time from..to.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// start builds a house on the data and the database that are there, and runs it.
func (d *day) start() (err error) {
	d.ctx, d.cancel = context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(logTo{d.t}, &slog.HandlerOptions{Level: dayLog()}))
	if d.db, err = db.Open(d.ctx, db.Config{URL: d.url, Log: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	if d.conn, err = d.wire.Listen(deskAddr); err != nil {
		return err
	}
	d.house, err = build(settings{
		data: d.dir, realm: "pronto", traceDays: 14, minPort: 20000, maxPort: 21999, grace: time.Minute, logLevel: "info",
		trunks: []trunk{{name: "carrier", networks: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24")}}},
	}, d.db, edges{packet: []net.PacketConn{d.conn}, rtp: d.wire.Media, prompts: d.lib, http: d.lobby.door(), log: log})
	if err != nil {
		return err
	}
	house, ctx, ended := d.house, d.ctx, make(chan error, 1)
	d.ended = ended
	go func() { ended <- house.run(ctx) }() // ends with stop or cut
	return nil
}

// dayLog is how much of the house's log a day shows.
func dayLog() slog.Level {
	if *daySeed != 0 {
		return slog.LevelWarn
	}
	return slog.LevelError + 1
}

// stop ends the house as a SIGTERM does.
func (d *day) stop() error {
	d.cancel()
	err := <-d.ended
	d.db.Close()
	d.conn.Close()
	return err
}

// cut ends the house as a power cut does: from one instant to the next nothing
// leaves it, neither to the telephones nor to the database nor to the disk that
// the next house finds.
func (d *day) cut() error {
	d.wire.Cut(deskAddr.Addr())
	d.gate.goes(true)
	after := d.dir + "-after-" + time.Now().Format("1504")
	d.t.Cleanup(func() { _ = os.RemoveAll(after) })
	if err := os.CopyFS(after, os.DirFS(d.dir)); err != nil {
		return err
	}
	d.house.grace = 0
	d.cancel()
	<-d.ended // whatever it says: it has lost everything
	d.db.Close()
	d.conn.Close()
	d.gate.goes(false)
	d.wire.Mend(deskAddr.Addr())
	d.dir = after
	return nil
}

// troubles are what happens to the house: a restart, a cut, a database that goes.
func (d *day) troubles() (faults []error) {
	r := d.random("troubles")
	list := []func() error{
		func() error { return errors.Join(d.stop(), d.later(r), d.start()) },
		func() error { return errors.Join(d.cut(), d.later(r), d.start()) },
		func() error {
			d.gate.goes(true)
			err := d.later(r)
			d.gate.goes(false)
			return err
		},
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	step := dayBusy / time.Duration(len(list)+1)
	for i, trouble := range list {
		<-time.After(time.Until(d.opens.Add(step*time.Duration(i+1) + between(r, 0, step/2))))
		from := time.Now()
		if err := trouble(); err != nil {
			faults = append(faults, err)
		}
		d.mu.Lock()
		d.absent = append(d.absent, span{from, time.Now()})
		d.mu.Unlock()
	}
	return faults
}

// later lets a little time pass.
func (d *day) later(r *rand.Rand) error {
	<-time.After(between(r, time.Second, time.Minute))
	return nil
}

// fault notes something that must not be.
func (d *day) fault(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
}

// dayNumbers are what callers dial: mostly the number with hours.
var dayNumbers = []string{"800123456", "800123456", "800123456", "800123456", "800123456", "800000001", "800000001", "800000002", "800999999"}

// call is one caller's day: rings once, or again after a while.
func (d *day) call(n int) {
	r := d.random(fmt.Sprint("caller ", n))
	span := dayBusy
	if maybe(r, 0.2) {
		span = dayRings
	}
	<-time.After(between(r, time.Minute, span))
	phone, err := siptest.NewPhone(d.wire, netip.AddrFrom4([4]byte{10, 0, 2, byte(n + 1)}), deskAddr)
	if err != nil {
		d.fault("caller %d: %v", n, err)
		return
	}
	defer phone.Close()
	from := fmt.Sprintf("+3905770%05d", n)
	switch r.IntN(8) {
	case 0:
		from = callerNumbers["rossi"]
	case 1:
		from = callerNumbers["bianchi"]
	case 2:
		from = ""
	}
	for {
		d.ring(phone, r, from)
		if !maybe(r, 0.25) || time.Since(d.opens) > dayRings {
			return
		}
		<-time.After(between(r, 10*time.Second, 10*time.Minute))
	}
}

// ring is one call: until the caller has had enough, or the desk has.
func (d *day) ring(phone *siptest.Phone, r *rand.Rand, from string) {
	<-time.After(between(r, 10*time.Millisecond, time.Second)) // the telephone listens by then
	number := dayNumbers[r.IntN(len(dayNumbers))]
	o := sip.DialOptions{From: from, Asserted: from, Anonymous: from == ""}
	if maybe(r, 0.1) {
		o.LateOffer = true
	}
	patience := 40 * time.Second
	if maybe(r, 0.05) {
		patience = between(r, time.Millisecond, 200*time.Millisecond)
	}
	dialing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := phone.Dial(dialing, number, o); err != nil {
		return // refused, nobody there, or not waited for
	}
	d.mu.Lock()
	d.answered[from]++
	d.mu.Unlock()
	longest := between(r, 3*time.Minute, 12*time.Minute) // from here on
	if maybe(r, 0.4) {
		longest = between(r, 100*time.Millisecond, time.Minute)
	}
	ctx, done := context.WithTimeout(context.Background(), longest)
	defer done()
	d.converse(ctx, phone, r)
	away, gone := context.WithTimeout(context.Background(), time.Minute)
	defer gone()
	_ = phone.HangUp(away)
}

// converse reacts to what a caller hears, in one way or another.
func (d *day) converse(ctx context.Context, phone *siptest.Phone, r *rand.Rand) {
	heard := len(phone.Names())
	for ctx.Err() == nil {
		if phone.Gone(ctx, dayTick) == nil {
			return // the desk has hung up
		}
		names := phone.Names()
		for _, name := range names[min(heard, len(names)):] {
			d.react(ctx, phone, r, name)
		}
		heard = len(names)
		if maybe(r, 0.01) { // a slip of the finger
			_ = phone.Press(ctx, string("0123456789*#"[r.IntN(12)]))
		}
	}
}

// react is what a caller does at a word.
func (d *day) react(ctx context.Context, phone *siptest.Phone, r *rand.Rand, name string) {
	press := func(p float64, keys ...string) {
		if maybe(r, p) {
			<-time.After(between(r, 0, 3*time.Second))
			_ = phone.Press(ctx, keys[r.IntN(len(keys))])
		}
	}
	switch name {
	case prompts.MenuIs:
		press(0.85, "1", "2", "3", "4", "5", "5", "9", "12", "*")
	case prompts.Urgent:
		press(0.5, "1", "2")
	case prompts.StateNumber, prompts.StateAgain:
		press(0.9, fmt.Sprintf("%d#", 1+r.IntN(dayCallers)), fmt.Sprintf("2026%d#", 1+r.IntN(dayCallers)), "1*2#", "99999999999999#", "7")
	case prompts.StateOperator:
		press(0.5, "1", "2")
	case prompts.Waiting, prompts.OfferWord:
		press(0.1, "1", "2")
	case prompts.JoinRequest:
		press(0.5, "1", "2")
	case prompts.OfferCall:
		press(0.3, "1", "2", "1", "12")
	case prompts.Beep:
		if maybe(r, 0.8) {
			_ = phone.Say(ctx, "un messaggio", between(r, 100*time.Millisecond, 25*time.Second))
		}
		press(0.5, "#")
	case "pronto":
		_ = phone.Say(ctx, "la mia richiesta", between(r, time.Second, 40*time.Second))
		if maybe(r, 0.5) {
			_ = phone.HangUp(ctx)
		}
	}
}

// daySkills are the operators who do not do everything.
var daySkills = map[string][]string{
	"op4": {"software", "certificati"},
	"op5": {"certificati", "carta"},
	"op6": {"non-tecnica"},
}

// dayTopics are what a caller can be given on for.
var dayTopics = []string{"software", "certificati", "carta", "non-tecnica"}

// clerk is an operator's day.
type clerk struct {
	*day
	r     *rand.Rand
	name  string
	token string
	at    netip.Addr
	phone *siptest.Phone // nil: unplugged
	page  *page
	offer string // what the page showed last
	asked bool   // somebody about the talk
}

func (d *day) operate(n int, name, token string) {
	c := &clerk{day: d, r: d.random(name), name: name, token: token, at: netip.AddrFrom4([4]byte{10, 0, 1, byte(n + 1)})}
	defer c.leave()
	for time.Since(d.opens) < dayEnds-time.Minute {
		switch {
		case c.phone == nil || maybe(c.r, 0.0002):
			c.plug()
		case c.page == nil && maybe(c.r, 0.2):
			c.look()
		case c.rings():
			c.answer()
		case maybe(c.r, 0.0005): // a break, sometimes with the telephone unplugged
			c.declare("break")
			if maybe(c.r, 0.3) {
				c.unplug()
			}
			<-time.After(between(c.r, time.Minute, 8*time.Minute))
		case maybe(c.r, 0.0003):
			c.unplug() // with calls on their way
		case maybe(c.r, 0.0003):
			c.closePage()
		case maybe(c.r, 0.005):
			c.declare("available")
		default:
			<-time.After(dayTick)
		}
	}
}

// plug gives the operator a telephone that is registered.
func (c *clerk) plug() {
	c.unplug()
	<-time.After(between(c.r, time.Second, 10*time.Second))
	phone, err := siptest.NewPhone(c.wire, c.at, deskAddr)
	if err != nil {
		c.fault("%s: %v", c.name, err)
		return
	}
	<-time.After(10 * time.Millisecond) // it listens by then
	ctx, cancel := c.soon()
	defer cancel()
	ext := extension(c.name)
	if err := phone.Register(ctx, ext, c.secrets.Phones[ext], 12*time.Hour); err != nil {
		phone.Close() // the house is closed: again later
		return
	}
	c.phone = phone
	c.declare("available")
}

func (c *clerk) unplug() {
	if c.phone != nil {
		c.phone.Close()
		c.phone = nil
	}
}

// soon is how long an operator waits for the desk.
func (c *clerk) soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// look opens the page.
func (c *clerk) look() {
	ctx, cancel := c.soon()
	defer cancel()
	if page, err := openPage(ctx, c.lobby, c.token); err == nil {
		c.page = page
	} else {
		<-time.After(dayTick)
	}
}

func (c *clerk) closePage() {
	if c.page != nil {
		c.page.close()
		c.page = nil
	}
}

func (c *clerk) declare(what string) {
	ctx, cancel := c.soon()
	defer cancel()
	_ = c.api(ctx, c.token, "PUT", "/operators/"+c.name+"/state", map[string]string{"declared": what}, nil)
}

// rings says whether there is a call, and reads what the page shows.
func (c *clerk) rings() bool {
	if c.page != nil {
		select {
		case pop := <-c.page.pops:
			c.offer = pop.offer
		case <-c.page.gone:
			c.page = nil
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return c.phone.Rings(ctx, 0) == nil
}

// answer is what an operator does with a call.
func (c *clerk) answer() {
	<-time.After(between(c.r, 100*time.Millisecond, 8*time.Second))
	ctx, cancel := c.soon()
	defer cancel()
	switch p := c.r.Float64(); {
	case p < 0.06:
		_ = c.phone.Decline(ctx, 486)
		return
	case p < 0.12:
		_ = c.api(ctx, c.token, "POST", "/offers/"+c.offer+"/decline", struct{}{}, nil)
		<-time.After(time.Second)
		return
	case p < 0.17: // nobody is there
		<-time.After(25 * time.Second)
		return
	case p < 0.19:
		c.unplug()
		return
	case p < 0.21:
		c.declare("break")
		return
	}
	if c.phone.Lift(ctx) != nil {
		return
	}
	talk, end := context.WithTimeout(context.Background(), between(c.r, 2*time.Second, 90*time.Second))
	defer end()
	_ = c.phone.Say(talk, "pronto", 2*time.Second)
	c.asked = false
	for talk.Err() == nil && c.phone.Gone(talk, dayTick) != nil {
		if maybe(c.r, 0.08) || c.asked && maybe(c.r, 0.25) {
			c.wish()
		}
	}
	away, gone := c.soon()
	defer gone()
	_ = c.phone.HangUp(away)
	if maybe(c.r, 0.5) {
		c.declare("available") // before the wrap-up is over
	}
}

// wish asks something of the talk, whether or not it stands so that it can be done.
func (c *clerk) wish() {
	colleague, topic := demoOperator(1+c.r.IntN(dayOperators)), dayTopics[c.r.IntN(len(dayTopics))]
	wishes := []map[string]string{
		{"wish": "hold"}, {"wish": "resume"}, {"wish": "transfer", "operator": colleague}, {"wish": "transfer", "topic": topic},
		{"wish": "consult", "operator": colleague}, {"wish": "consult", "operator": colleague}, {"wish": "consult", "operator": colleague},
	}
	if c.asked {
		wishes = []map[string]string{{"wish": "complete"}, {"wish": "take_back"}, {"wish": "conference"}, {"wish": "conference"}}
	}
	wish := wishes[c.r.IntN(len(wishes))]
	ctx, cancel := c.soon()
	defer cancel()
	err := c.api(ctx, c.token, "POST", "/talk", wish, nil)
	c.asked = err == nil && (wish["wish"] == "consult" || wish["wish"] == "conference")
}

// leave ends an operator's day.
func (c *clerk) leave() {
	c.declare("off")
	c.closePage()
	c.unplug()
}

// close ends the house and asks what must hold after any day.
func (d *day) close() error {
	var faults []error
	for _, f := range d.faults {
		faults = append(faults, errors.New(f))
	}
	d.cancel()
	if err := <-d.ended; err != nil {
		faults = append(faults, fmt.Errorf("the desk ended with %w", err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	faults = append(faults, d.holds(ctx)...)
	faults = append(faults, d.agrees(ctx)...)
	d.db.Close()
	d.conn.Close()
	return errors.Join(faults...)
}

// door is the browsers' way into one house.
type door struct {
	*pipes
	shut chan struct{}
	once sync.Once
}

func (p *pipes) door() *door { return &door{pipes: p, shut: make(chan struct{})} }

// Accept gives the next connection.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.come:
		return pipeConn{c}, nil
	case <-d.shut:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (d *door) Close() error {
	d.once.Do(func() { close(d.shut) })
	return nil
}
