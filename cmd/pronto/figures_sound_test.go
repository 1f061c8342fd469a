//go:build figures

package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/sip"
)

const (
	jobFor     = 30 * time.Second // in which they come
	jobWarm    = 3 * time.Second  // before it: the first calls pay for connections, plans and pages
	jobTalk    = 10 * time.Second
	jobThinks  = time.Second     // before a key is pressed
	jobLongest = 2 * time.Minute // from the INVITE to the end of the talk
	jobSeats   = 300             // operators: of 20 calls/s, 12 s each, some 240

	bridgedRate = 20 // calls a second, until they are all there
	bridgedFor  = 15 * time.Second

	waitingFew  = 100
	waitingRate = 20
	waitingFor  = 15 * time.Second

	figuresSettle = 10 * time.Second // the kind words after the number end, the collector comes round
	gatherSoon    = time.Minute      // for all who rang to be where they are measured
)

var (
	jobRate      = flag.Int("job", 20, "how many calls a second TestFigures/job makes")
	bridgedCalls = flag.Int("bridged", 500, "how many calls TestFigures/bridged holds")
	waitingCalls = flag.Int("waiting", 1000, "how many callers TestFigures/waiting lets wait")
)

// jobFigures are what a call costs from the menu to the end of its talk, with
// its sound.
func jobFigures(t *testing.T, f *figures) {
	s := newServer(t, func(s *server) { s.rtp = "10000-32767" })
	v := newVoices(t)
	phones := newRawPhones(t, v, jobTalk)
	s.staff(jobSeats, phones)
	k := newCrowd(t, s)
	k.voices = v
	jobs(t, s, k, phones, *jobRate, jobWarm)
	before, warm := cpuOf(t, s.cmd.Process.Pid), s.served()
	n, failed := jobs(t, s, k, phones, *jobRate, jobFor)
	cpu := cpuOf(t, s.cmd.Process.Pid) - before
	served := s.served() - warm
	if served == 0 {
		t.Fatal("nobody was served")
	}
	f.row(figure{what: fmt.Sprintf("whole job with its sound, %d calls/s, %s of talk", *jobRate, jobTalk), must: "30 ms", aim: "15 ms",
		measured: fmt.Sprintf("%d of %d served, %d failed", served, n, failed), each: cpu / time.Duration(served), unit: "call"})
}

// served is how many callers talked to an operator.
func (s *server) served() int {
	return s.count(`select count(*) from contacts where ending = 'served'`)
}

// jobs lets callers come for a while, and waits for the end of the last. Of the first
// that fails it tells all that is known.
func jobs(t *testing.T, s *server, k *rawTrunk, phones *rawPhones, rate int, length time.Duration) (n, failed int) {
	type result struct {
		call *rawCall
		err  error
	}
	n = rate * int(length/time.Second)
	results := make(chan result, n)
	atRate(rate, n, func(int) {
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		go func() { results <- result{c, c.wholeJob()} }() // its end is read from results
	})
	for range n {
		if r := <-results; r.err != nil {
			if failed++; failed == 1 {
				t.Logf("%v\n%s", r.err, s.inquest(r.call, phones)) // more than this machine can do now, or something got lost
			}
		}
	}
	return n, failed
}

// inquest is what is known of a call that did not end as it should have: what its
// telephones have said and heard, how the desk holds it, and, once it was hung up, its
// journal and its ladder.
func (s *server) inquest(c *rawCall, phones *rawPhones) string {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "caller %s:\n%s\ntheir operators' telephones:\n%s\n", c.from, c.saw(), phones.saw(c.from))
	for _, what := range []string{
		`select state, kind, node, joined_at, left_at from places where contact_id = c.id`,
		`select user_id, state, reason, offered_at, expires_at, ended_at, released_at from offers where contact_id = c.id`,
		`select user_id, declared, reason, doing, doing_at, doing_until, offer_id from seats where contact_id = c.id`,
		`select declared, reason, doing, count(*), min(doing_until) from seats group by 1, 2, 3`,
		`select count(*) as waiting from places where state = 'waiting'`,
	} {
		fmt.Fprintln(&b, s.text(`select coalesce(string_agg(x::text, e'\n'), 'none: ') || @what from contacts c, lateral (`+what+`) x where c.call_id = @call`,
			pgx.StrictNamedArgs{"call": c.id, "what": " (" + what + ")"}))
	}
	if err := c.hangUp(); err != nil {
		fmt.Fprintln(&b, err)
	}
	rest(tracesLater)
	for _, r := range s.contacts(c.id) {
		for line := range strings.Lines(s.log.String()) {
			if strings.Contains(line, r.ID.String()) || strings.Contains(line, c.id) {
				fmt.Fprint(&b, line)
			}
		}
		for _, l := range r.Journal {
			fmt.Fprintln(&b, l.At.Format("15:04:05.000"), l.Kind, l.Data)
		}
		var traces struct{ Items []sip.Trace }
		s.must("GET", "/contacts/"+r.ID.String()+"/trace", nil, &traces)
		for _, trace := range traces.Items {
			draw(&b, trace, false)
		}
	}
	return b.String()
}

// text asks the server's database for a text.
func (s *server) text(sql string, args pgx.StrictNamedArgs) (text string) {
	s.t.Helper()
	conn := s.database()
	defer conn.Close(s.t.Context())
	if err := conn.QueryRow(s.t.Context(), sql, args).Scan(&text); err != nil {
		s.t.Fatal(err)
	}
	return text
}

// wholeJob is answered, chooses, waits, talks, and is hung up on by the operator.
func (c *rawCall) wholeJob() error {
	defer c.silence()
	if status, _, err := c.answer(); err != nil || status != 200 {
		return fmt.Errorf("answered %d: %w", status, err)
	}
	rest(jobThinks)
	c.press("12")
	select {
	case <-c.bye:
		return nil
	case <-time.After(jobLongest):
		return errors.New("no end of the talk of " + c.id)
	}
}

// bridgedFigures are what callers and operators cost who talk.
func bridgedFigures(t *testing.T, f *figures) {
	n := *bridgedCalls
	s := newServer(t, func(s *server) { s.rtp = "10000-32767" })
	v := newVoices(t)
	phones := newRawPhones(t, v, 0)
	s.again() // the hashing of passwords has left traces in its memory
	s.staff(n, phones)
	empty := rssOf(t, s.cmd.Process.Pid)
	k := newCrowd(t, s)
	k.voices = v
	calls := gather(t, k, n, bridgedRate)
	there := awaited(n, phones.talking)
	v.relayed()
	rest(figuresSettle)
	cpu, began, taken := cpuOf(t, s.cmd.Process.Pid), time.Now(), stolen(t)
	v.watch(bridgedFor)
	cpu, length := cpuOf(t, s.cmd.Process.Pid)-cpu, time.Since(began)
	taken = stolen(t) - taken
	each := (rssOf(t, s.cmd.Process.Pid) - empty) / there
	sent, heard, delay := v.measured()
	if heard == 0 {
		t.Fatalf("of %d packets none came through", sent)
	}
	quiet, late := undisturbed(v.moments)
	f.row(figure{what: fmt.Sprintf("%d bridged calls with sound, of %d that rang", there, n), must: "loss < 0.1 %, added delay p99 < 5 ms, 12 µs", aim: "1 000 on one core, 7 µs",
		measured: fmt.Sprintf("loss %.3f %% of %d, delay %s; %.0f %% of a core; the host took %.1f %% of the machine's time; p99 %s of the %.0f %% that it did not disturb", 100*float64(sent-heard)/float64(sent), sent, delay,
			100*cpu.Seconds()/length.Seconds(), 100*taken.Seconds()/length.Seconds()/float64(runtime.NumCPU()), rounded(late), 100*quiet),
		each: cpu / time.Duration(heard), unit: "packet forwarded"})
	f.row(figure{what: "memory of a bridged call, resident", must: "100 KB", aim: "40 KB", measured: fmt.Sprintf("%d KB", each)})
	hangUpAll(t, calls)
}

// stolen is how long all processors of this machine together were not there since it
// started, because their host had them do something else: what was to be done meanwhile is late by
// that much, whoever was to do it (proc_stat(5), steal, in hundredths of a second).
func stolen(t testing.TB) time.Duration {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var user, nice, system, idle, wait, irq, soft, steal int64
	if _, err := fmt.Sscanf(string(text), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &soft, &steal); err != nil {
		t.Fatal(err)
	}
	return time.Duration(steal) * time.Second / 100
}

// waitingFigures are what callers cost who wait with music.
func waitingFigures(t *testing.T, f *figures) {
	s := newServer(t, func(s *server) { s.rtp = "10000-32767" })
	k := newCrowd(t, s)
	k.voices = newVoices(t)
	s.again()                                        // the hashing of passwords has left traces in its memory
	first := gather(t, k, waitingFew/2, waitingRate) // pay once for connections, plans and pages
	rest(figuresSettle)
	hangUpAll(t, first)
	for _, n := range []int{waitingFew, *waitingCalls} {
		empty := rssOf(t, s.cmd.Process.Pid)
		calls := gather(t, k, n, waitingRate)
		there := awaited(n, func() int { // they have heard the number, and the music plays
			return s.count(`select count(*) from contacts where ending is null and number_told`)
		})
		rest(figuresSettle)
		cpu, began := cpuOf(t, s.cmd.Process.Pid), time.Now()
		rest(waitingFor)
		cpu, length := cpuOf(t, s.cmd.Process.Pid)-cpu, time.Since(began)
		each := (rssOf(t, s.cmd.Process.Pid) - empty) / there
		r := figure{what: fmt.Sprintf("%d callers with music, of %d that rang", there, n), must: "15 % of a core", measured: fmt.Sprintf("%.0f %% of a core", 100*cpu.Seconds()/length.Seconds()),
			each: time.Duration(cpu.Seconds() / length.Seconds() / float64(there) * float64(time.Second)), unit: "caller and second"}
		m := figure{what: fmt.Sprintf("memory of each of %d waiting callers, resident", there), must: "100 KB", aim: "40 KB", measured: fmt.Sprintf("%d KB", each)}
		if n != waitingFew {
			r.must, r.aim = "one core", "3 000"
		}
		f.row(r)
		f.row(m)
		hangUpAll(t, calls)
	}
}

// awaited waits until n are there; on a machine that has no room for them, it makes
// do with those who are there after a while.
func awaited(n int, count func() int) (there int) {
	for range int(gatherSoon / time.Second) {
		if there = count(); there >= n {
			break
		}
		rest(time.Second)
	}
	return max(there, 1)
}

// newCrowd is a trunk that brings strangers, each with a number of their own.
func newCrowd(t *testing.T, s *server) *rawTrunk {
	t.Helper()
	k := newRawTrunk(t, s.sip)
	k.crowd, k.from = true, "+39055600"
	return k
}

// gather lets n callers ring who choose a topic and stay.
func gather(t *testing.T, k *rawTrunk, n, rate int) (calls []*rawCall) {
	t.Helper()
	atRate(rate, n, func(int) {
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		if status, _, err := c.answer(); err != nil || status != 200 {
			t.Fatalf("answered %d: %v", status, err)
		}
		c.press("12")
		calls = append(calls, c)
	})
	return calls
}

// again stops the server and starts it anew.
func (s *server) again() {
	s.t.Helper()
	if code := s.stop(); code != 0 {
		s.t.Fatalf("SIGTERM: exit %d", code)
	}
	s.start()
}

func hangUpAll(t *testing.T, calls []*rawCall) {
	t.Helper()
	for _, c := range calls {
		if err := c.hangUp(); err != nil {
			t.Error(err)
		}
	}
}

// count asks the server's database for a number.
func (s *server) count(sql string) (n int) {
	s.t.Helper()
	conn := s.database()
	defer conn.Close(s.t.Context())
	if err := conn.QueryRow(s.t.Context(), sql).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// staff makes n operators of the demo's two, each with a telephone, and lets
// them begin to work.
func (s *server) staff(n int, phones *rawPhones) {
	s.t.Helper()
	conn := s.database()
	defer conn.Close(s.t.Context())
	at := time.Now()
	for _, q := range []struct {
		sql  string
		args pgx.StrictNamedArgs
	}{
		{`insert into users (name, display_name, role, password_hash, extension, created_at)
			select 'op' || i, 'Op' || i, 'operator', '-', (@first::int + i - 1)::text, @at from generate_series(3, @n::int) i`,
			pgx.StrictNamedArgs{"n": n, "first": demoFirstPhone, "at": at}},
		{`update users set wrap_up = 1 where role = 'operator'`, pgx.StrictNamedArgs{}},
		{`insert into user_topics (user_id, topic_id) select u.id, t.id from users u, topics t where u.role = 'operator' on conflict do nothing`, pgx.StrictNamedArgs{}},
		{`insert into phones (extension, ha1_md5, ha1_sha256) select extension, '-', '-' from users where role = 'operator' on conflict do nothing`, pgx.StrictNamedArgs{}},
		{`insert into phone_bindings (extension, contact, source, transport, call_id, cseq, expires_at)
			select extension, 'sip:' || extension || '@' || @source, @source, 'udp', 'figures', 1, @at::timestamptz + interval '1 day' from phones`,
			pgx.StrictNamedArgs{"source": phones.conn.LocalAddr().String(), "at": at}},
		{`select pg_notify('pronto', 'figures phones')`, pgx.StrictNamedArgs{}}, // the server may have looked for them before
	} {
		if _, err := conn.Exec(s.t.Context(), q.sql, q.args); err != nil {
			s.t.Fatal(err)
		}
	}
	within(s.t, gatherSoon, "the first telephone to be known", func() error {
		_, err := s.do("PUT", "/operators/"+demoOperator(1)+"/state", map[string]string{"declared": "available"}, nil)
		return err
	})
	for i := range n {
		s.declare(demoOperator(i+1), "available")
	}
}

// rawPhones are the telephones of many operators on one socket: each is lifted
// at once.
type rawPhones struct {
	t      testing.TB
	conn   *net.UDPConn
	voices *voices
	talk   time.Duration // then it is hung up; 0: by the other side

	mu    sync.Mutex // guards what follows
	calls map[string]*rawTalk
}

// rawTalk is a call of rawPhones.
type rawTalk struct {
	invite string
	answer string
	from   net.Addr // the server
	stop   func()   // of its voice; nil: it has ended
	seen   firstLines

	parted bool // its BYE was answered
}

func newRawPhones(t testing.TB, v *voices, talk time.Duration) *rawPhones {
	t.Helper()
	conn := roomySocket(t)
	p := &rawPhones{t: t, conn: conn, voices: v, talk: talk, calls: map[string]*rawTalk{}}
	done := make(chan struct{})
	go func() { defer close(done); p.read() }() // ends when conn is closed
	t.Cleanup(func() { conn.Close(); <-done })
	return p
}

var (
	rawFromLine = regexp.MustCompile(`(?mi)^(?:From|f):\s*(.*?)\s*$`)
	rawToLine   = regexp.MustCompile(`(?mi)^(?:To|t):\s*(.*?)\s*$`)
)

func (p *rawPhones) read() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		text := string(buf[:n])
		id := rawCallID.FindStringSubmatch(text)
		if id == nil {
			continue
		}
		p.mu.Lock()
		call := p.calls[id[1]]
		if call != nil {
			call.seen.add("<-", text)
		}
		switch {
		case strings.HasPrefix(text, "INVITE ") && call == nil:
			p.lift(id[1], text, from)
		case strings.HasPrefix(text, "SIP/2.0 ") && call != nil:
			call.parted = true // a telephone asks nothing else
		case strings.HasPrefix(text, "INVITE "): // again
			p.send(call.answer, from)
		case strings.HasPrefix(text, "BYE "), strings.HasPrefix(text, "CANCEL "):
			p.send(rawReply(text, "", "", ""), from)
			if call != nil {
				call.end()
			}
		}
		p.mu.Unlock()
	}
}

func (p *rawPhones) send(text string, to net.Addr) { _, _ = p.conn.WriteTo([]byte(text), to) }

// lift answers an INVITE. The caller holds p.mu.
func (p *rawPhones) lift(id, invite string, from net.Addr) {
	port, host := rawMedia.FindStringSubmatch(invite), rawHost.FindStringSubmatch(invite)
	if port == nil || host == nil {
		p.t.Errorf("an INVITE without sound: %s", invite)
		return
	}
	to, err := netip.ParseAddrPort(host[1] + ":" + port[1])
	if err != nil {
		p.t.Error(err)
		return
	}
	voice, stop := p.voices.speak(to)
	sdp := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"+
		"m=audio %d RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n", voice.LocalAddr().(*net.UDPAddr).Port)
	call := &rawTalk{invite: invite, from: from, stop: stop,
		answer: rawReply(invite, "phone", fmt.Sprintf("Contact: <sip:%s>\r\nContent-Type: application/sdp\r\n", p.conn.LocalAddr()), sdp)}
	call.seen.add("<-", invite)
	p.calls[id] = call
	p.send(call.answer, from)
	if p.talk > 0 {
		time.AfterFunc(p.talk, func() { p.hangUp(id, call) })
	}
}

// hangUp says BYE.
func (p *rawPhones) hangUp(id string, call *rawTalk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	contact, from, to := rawContact.FindStringSubmatch(call.invite), rawFromLine.FindStringSubmatch(call.invite), rawToLine.FindStringSubmatch(call.invite)
	if call.stop == nil || contact == nil || from == nil || to == nil {
		return
	}
	call.end()
	bye := fmt.Sprintf("BYE %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\nFrom: %s;tag=phone\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
		contact[1], p.conn.LocalAddr(), id, to[1], from[1], id)
	call.seen.add("->", bye)
	p.send(bye, call.from)
	go repeat(func() bool { // for rawWait at most
		p.mu.Lock()
		defer p.mu.Unlock()
		return call.parted
	}, func() { p.send(bye, call.from) })
}

// saw is what the telephones that were rung for a number have said and heard.
func (p *rawPhones) saw(number string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rung firstLines
	for _, call := range p.calls {
		if strings.Contains(call.invite, number) {
			rung = append(rung, call.seen...)
		}
	}
	return rung.String()
}

// end silences a call, once.
func (c *rawTalk) end() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

// talking is how many calls there are.
func (p *rawPhones) talking() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if c.stop != nil {
			n++
		}
	}
	return n
}

// saw is what the caller's telephone has said and heard.
func (c *rawCall) saw() string {
	c.trunk.mu.Lock()
	defer c.trunk.mu.Unlock()
	return c.seen.String()
}
