//go:build figures

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/sip/audio"
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
	s.again() // the hashing of passwords has left traces in its memory
	answerRate(t, s, k, 20, 3*time.Second)
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

const (
	voiceSockets = 4
	voicePhases  = 20 // of a millisecond each
	voiceSize    = 12 + audio.FrameBytes
	voiceMark    = "pronto-figures:" // in the sound: what is ours, and no prompt or music
	voiceLook    = time.Millisecond  // how often is looked for what has come
	voiceNice    = 10                // of the threads that speak and hear
	voiceRest    = 2 * time.Second   // until the last has come, or no more comes
	voiceRests   = 5
	momentTime   = 20 * time.Millisecond
	momentStep   = 100 * time.Microsecond
	momentSteps  = 1000
	momentsAfter = 5 // moments that a theft disturbs, its own among them: a queue of 40 ms was seen to take 80 to be gone
	delayStep    = 10 * time.Microsecond
	delaySteps   = 100_000 // up to a second
)

// voices are the sound of many telephones: each sends a packet every 20 ms, as
// telephones do, and what comes back of them says when it left; the kernel says when
// it came. Their sockets are
// looked at every millisecond and wake nobody: a network card does not make
// the sender of a packet pay for the waking of who receives it, and on loopback
// that would be the server.
type voices struct {
	t       testing.TB
	sockets []*voiceSocket
	began   time.Time
	running atomic.Bool // what is sent now is measured
	sent    atomic.Int64

	mu     sync.Mutex // guards what follows
	phases [voicePhases][]*voice
	spoken int // how many have begun to speak: each has its own moment within the 20 ms
	next   int // socket

	heardMu sync.Mutex // guards what follows
	heard   [ways]delays
	moments []moment // of byDesk, since from
	from    time.Time
}

// way is by whom a voice's packets come back.
type way byte

const (
	byDesk   way = iota
	byNobody     // from socket to socket: how long the telephones themselves let a packet wait
	byRelay      // a process that does nothing else: how long anybody's packet waits for a processor here
	ways
)

// delays are how many packets took how long, in steps.
type delays struct {
	n     int
	steps [delaySteps]int
}

// moment is a short time: how many packets that were sent in it took how long, and what
// the host had taken of all processors at its end since the first.
type moment struct {
	n      int
	steps  [momentSteps]uint16
	stolen time.Duration
}

// undisturbed are the packets of moments in which, and shortly before which, the host took
// nothing: what it takes of a machine that is two thirds busy makes a queue, and not only of
// those packets that come meanwhile.
func undisturbed(moments []moment) (share float64, p99 time.Duration) {
	var all, quiet int
	var steps [momentSteps]int
	for i, m := range moments {
		all += m.n
		if before := moments[max(0, i-momentsAfter)]; m.stolen != before.stolen || i < momentsAfter {
			continue
		}
		quiet += m.n
		for step, n := range m.steps {
			steps[step] += int(n)
		}
	}
	if quiet == 0 {
		return 0, 0
	}
	left := quiet * 99 / 100
	for step, n := range steps {
		if left -= n; left < 0 {
			return float64(quiet) / float64(all), time.Duration(step) * momentStep
		}
	}
	return float64(quiet) / float64(all), momentSteps * momentStep
}

// voice is one of them.
type voice struct {
	from *voiceSocket
	to   syscall.SockaddrInet4
	seq  uint16
	pkt  [voiceSize]byte

	way way // for the desk to relay, unless said otherwise
}

// voiceSocket is one that the runtime does not watch.
type voiceSocket struct {
	fd   int
	addr *net.UDPAddr
}

func (v *voiceSocket) LocalAddr() net.Addr { return v.addr }
func (v *voiceSocket) Close() error        { return syscall.Close(v.fd) }
func (v *voiceSocket) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	return len(b), syscall.Sendto(v.fd, b, syscall.MSG_DONTWAIT, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
}

func newVoices(t testing.TB) *voices {
	t.Helper()
	v := &voices{t: t, began: time.Now()}
	for range voiceSockets {
		conn := roomySocket(t)
		file, err := conn.File() // another descriptor of it
		if err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Dup(int(file.Fd()))
		if err == nil {
			err = syscall.SetNonblock(fd, true)
		}
		if err == nil {
			err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1)
		}
		if err = errors.Join(err, file.Close(), conn.Close()); err != nil {
			t.Fatal(err)
		}
		v.sockets = append(v.sockets, &voiceSocket{fd: fd, addr: conn.LocalAddr().(*net.UDPAddr)})
	}
	v.control(byNobody, 1, func(from *voiceSocket) *net.UDPAddr { return from.addr })
	stop := make(chan struct{})
	var parts sync.WaitGroup
	parts.Go(func() { v.run(stop) })
	parts.Go(func() { v.hear(stop) })
	t.Cleanup(func() {
		close(stop)
		parts.Wait()
		for _, s := range v.sockets {
			s.Close()
		}
	})
	return v
}

// control adds voices that do not speak to the desk, one in every so many milliseconds of a frame.
func (v *voices) control(by way, every int, to func(from *voiceSocket) *net.UDPAddr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for phase := 0; phase < voicePhases; phase += every {
		from := v.sockets[phase%len(v.sockets)]
		one := newVoice(from, to(from).AddrPort(), phase)
		one.way = by
		v.phases[phase] = append(v.phases[phase], one)
	}
}

// relayed adds voices whose packets a plain relay sends back to them, a process of its own
// until the test's end: what they wait is the least that any program's packets wait on this
// machine at the same time.
func (v *voices) relayed() {
	v.t.Helper()
	conn := roomySocket(v.t)
	defer conn.Close()
	file, err := conn.File()
	if err != nil {
		v.t.Fatal(err)
	}
	defer file.Close()
	relay := exec.Command(os.Args[0])
	relay.Env = append(os.Environ(), relayEnv+"=1")
	relay.ExtraFiles = []*os.File{file}
	if err := relay.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() {
		_ = relay.Process.Kill()
		_ = relay.Wait() // it was killed
	})
	v.control(byRelay, 5, func(*voiceSocket) *net.UDPAddr { return conn.LocalAddr().(*net.UDPAddr) })
}

const (
	relayEnv    = "PRONTO_FIGURES_RELAY" // set: this process is the plain relay
	relaySocket = 3                      // the first that a process inherits beside the usual three
)

func init() {
	if os.Getenv(relayEnv) != "" {
		os.Exit(plainRelay(relaySocket))
	}
}

// plainRelay sends back what comes until it is killed.
func plainRelay(fd int) (code int) {
	if err := syscall.SetNonblock(fd, false); err != nil {
		return 1
	}
	buf := make([]byte, relayBytes+1)
	for {
		n, from, err := syscall.Recvfrom(fd, buf, 0)
		if err == nil {
			err = syscall.Sendto(fd, buf[:n], 0, from)
		}
		if err != nil && err != syscall.EINTR {
			return 1
		}
	}
}

// roomySocket keeps what arrives while its reader waits for a processor.
func roomySocket(t testing.TB) *net.UDPConn {
	t.Helper()
	const room = 8 << 20
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var refused error
		err = raw.Control(func(fd uintptr) {
			refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, room)
		})
		err = errors.Join(err, refused)
	}
	if errors.Is(err, os.ErrPermission) { // not root: what the system grants
		err = conn.SetReadBuffer(room)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// socket is the one that the next telephone has.
func (v *voices) socket() rtpSocket {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.next++
	return v.sockets[v.next%len(v.sockets)]
}

// speak begins to send to an address from a socket of the next telephone.
func (v *voices) speak(to netip.AddrPort) (rtpSocket, func()) {
	from := v.socket()
	return from, v.speakFrom(from, to)
}

// speakFrom begins to send to an address from one of our sockets, until stop.
func (v *voices) speakFrom(from rtpSocket, to netip.AddrPort) (stop func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.spoken++
	phase := v.spoken % voicePhases
	one := newVoice(from.(*voiceSocket), to, v.spoken)
	v.phases[phase] = append(v.phases[phase], one)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.phases[phase] = slices.DeleteFunc(v.phases[phase], func(other *voice) bool { return other == one })
	}
}

func newVoice(from *voiceSocket, to netip.AddrPort, ssrc int) *voice {
	one := &voice{from: from, to: syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}}
	one.pkt[0], one.pkt[1] = 0x80, 8 // RTP, PCMA
	binary.BigEndian.PutUint32(one.pkt[8:], uint32(ssrc))
	copy(one.pkt[12+16:], voiceMark)
	return one
}

// stepBack lets the desk go first on the processors that callers and desk share
// here: those who call a desk do not take its processor from it. It is for a
// goroutine that keeps its thread to its end.
func stepBack() error {
	runtime.LockOSThread() // setpriority(2) is of a thread on Linux
	return os.NewSyscallError("setpriority", syscall.Setpriority(syscall.PRIO_PROCESS, 0, voiceNice))
}

// run sends what is due.
func (v *voices) run(stop <-chan struct{}) {
	if err := stepBack(); err != nil {
		v.t.Error(err)
		return
	}
	next := time.NewTimer(0)
	defer next.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-next.C:
		}
		v.turn(n)
		next.Reset(time.Until(v.began.Add(time.Duration(n) * audio.FrameTime / voicePhases)))
	}
}

func (v *voices) turn(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	running := v.running.Load()
	for _, one := range v.phases[n%voicePhases] {
		one.seq++
		binary.BigEndian.PutUint16(one.pkt[2:], one.seq)
		binary.BigEndian.PutUint32(one.pkt[4:], uint32(one.seq)*audio.FrameBytes)
		binary.BigEndian.PutUint64(one.pkt[12:], uint64(time.Now().UnixNano()))
		one.pkt[12+8] = 0
		if running {
			one.pkt[12+8] = 1 + byte(one.way)
		}
		if running && one.way == byDesk {
			v.sent.Add(1)
		}
		_ = syscall.Sendto(one.from.fd, one.pkt[:], syscall.MSG_DONTWAIT, &one.to) // one that is refused is a lost one
	}
}

// hear looks for what has come, until stop.
func (v *voices) hear(stop <-chan struct{}) {
	if err := stepBack(); err != nil {
		v.t.Error(err)
		return
	}
	buf, stamp := make([]byte, 2000), make([]byte, 64)
	look := time.NewTicker(voiceLook)
	defer look.Stop()
	for {
		select {
		case <-stop:
			return
		case <-look.C:
		}
		for _, s := range v.sockets {
			for {
				n, at, err := s.receive(buf, stamp)
				if err != nil { // nothing is there
					break
				}
				v.count(buf[:n], at)
			}
		}
	}
}

// receive reads a packet that is there, and when it came: the kernel says so, which
// has it long before we look.
func (v *voiceSocket) receive(buf, control []byte) (n int, at time.Time, err error) {
	n, m, _, _, err := syscall.Recvmsg(v.fd, buf, control, 0)
	if err != nil {
		return 0, time.Time{}, err
	}
	messages, err := syscall.ParseSocketControlMessage(control[:m])
	if err != nil || len(messages) == 0 || len(messages[0].Data) < 16 {
		return 0, time.Time{}, fmt.Errorf("a packet without its time: %w", err)
	}
	sent := messages[0].Data // a struct timespec
	return n, time.Unix(int64(binary.NativeEndian.Uint64(sent)), int64(binary.NativeEndian.Uint64(sent[8:]))), nil
}

// count takes note of a packet if it is one of ours.
func (v *voices) count(pkt []byte, at time.Time) {
	if len(pkt) != voiceSize || pkt[12+8] == 0 || pkt[12+8] > byte(ways) || !bytes.HasPrefix(pkt[12+16:], []byte(voiceMark)) {
		return
	}
	step := time.Duration(at.UnixNano()-int64(binary.BigEndian.Uint64(pkt[12:]))) / delayStep
	v.heardMu.Lock()
	defer v.heardMu.Unlock()
	d := &v.heard[pkt[12+8]-1]
	if i := int(at.Add(-step*delayStep).Sub(v.from) / momentTime); pkt[12+8] == 1+byte(byDesk) && i >= 0 && i < len(v.moments) {
		v.moments[i].n++
		v.moments[i].steps[min(max(step*delayStep/momentStep, 0), momentSteps-1)]++
	}
	d.n++
	d.steps[min(max(step, 0), delaySteps-1)]++
}

// measure begins or ends a stretch of which every packet counts.
func (v *voices) measure(on bool) { v.running.Store(on) }

// watch measures for a while, and what the host takes meanwhile.
func (v *voices) watch(length time.Duration) {
	v.heardMu.Lock()
	v.moments, v.from = make([]moment, length/momentTime), time.Now()
	v.heardMu.Unlock()
	v.measure(true)
	defer v.measure(false)
	before := stolen(v.t)
	for i := range v.moments {
		<-time.After(time.Until(v.from.Add(time.Duration(i+1) * momentTime)))
		v.moments[i].stolen = stolen(v.t) - before // count leaves it alone
	}
}

// measured is how many packets were sent in it, and what came of them: the last may
// be on their way, or lie in our sockets.
func (v *voices) measured() (sent, heard int, delay string) {
	for range voiceRests {
		rest(voiceRest)
		sent = int(v.sent.Load())
		v.heardMu.Lock()
		before := heard
		heard = v.heard[byDesk].n
		v.heardMu.Unlock()
		if heard == sent || heard == before {
			break
		}
	}
	v.heardMu.Lock()
	defer v.heardMu.Unlock()
	delay = fmt.Sprintf("%s (from telephone to telephone: %s; by a plain relay: %s)", &v.heard[byDesk], &v.heard[byNobody], &v.heard[byRelay])
	if n := v.overflown(); n > 0 {
		delay += fmt.Sprintf("; %d packets, at any time, by full sockets of the telephones", n)
	}
	return sent, heard, delay
}

// overflown is how many packets our sockets had no room for (SO_MEMINFO, the last of
// nine numbers): lost by the telephones, which stand behind the desk here, and not by it.
func (v *voices) overflown() (n int) {
	const soMemInfo, drops = 55, 8
	for _, s := range v.sockets {
		var info [9]uint32
		size := uint32(unsafe.Sizeof(info))
		if _, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(s.fd), syscall.SOL_SOCKET, soMemInfo, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); errno == 0 {
			n += int(info[drops])
		}
	}
	return n
}

func (d *delays) String() string {
	at := func(share float64) time.Duration {
		left := int(share * float64(d.n))
		for step, n := range d.steps {
			if left -= n; left < 0 {
				return time.Duration(step) * delayStep
			}
		}
		return delaySteps * delayStep
	}
	return fmt.Sprintf("median %s, p99 %s, p99.9 %s", rounded(at(.5)), rounded(at(.99)), rounded(at(.999)))
}

// saw is what the caller's telephone has said and heard.
func (c *rawCall) saw() string {
	c.trunk.mu.Lock()
	defer c.trunk.mu.Unlock()
	return c.seen.String()
}
