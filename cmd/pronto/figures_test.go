//go:build figures

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
)

// TestFigures measures what the desk promises, on the shipped program, and
// prints a table (`make bench`). It asserts only that the work was done: a
// figure is read, never passed or failed by a machine's mood.
func TestFigures(t *testing.T) {
	var table []string
	row := func(what, must, value string) {
		table = append(table, fmt.Sprintf("| %-58s | %-12s | %s |", what, must, value))
	}
	built(t)
	began := time.Now()
	s := newServer(t, func(s *server) { s.operators, s.rtp = 3, "20000-31999" }) // ports rest between calls: many
	row("start to ready, empty directory", "<= 4 s", time.Since(began).Round(time.Millisecond).String())
	if code := s.stop(); code != 0 {
		t.Fatalf("SIGTERM: exit %d", code)
	}
	began = time.Now()
	s.start()
	row("start to ready, later", "<= 1 s", time.Since(began).Round(time.Millisecond).String())

	k := newRawTrunk(t, s.sip)
	took, cpu := answerRate(t, s, k, 20, 15*time.Second)
	row("INVITE to 200, 20 calls/s, contact committed", "p99 <= 30 ms", spread(took))
	row("CPU per call answered and hung up, PostgreSQL included", "", fmt.Sprintf("%.2f ms", cpu*1000/float64(len(took))))

	var delays []time.Duration
	for range 4 { // each on a socket of its own: one may not say much more than a person does
		delays = append(delays, popDelays(t, s, k, 25)...)
	}
	row("queue decision to call.offered on the socket", "p99 <= 30 ms", spread(delays))

	cpuShare, kb := waitingWithMusic(t, s, k, 100, 15*time.Second)
	row("100 callers with music: share of one core", "<= 15 %", fmt.Sprintf("%.1f %%", cpuShare*100))
	row("100 callers with music: memory each", "<= 150 KB", fmt.Sprintf("%.0f KB", kb))
	t.Logf("\n| %-58s | %-12s | measured |\n| --- | --- | --- |\n%s", "what", "must", strings.Join(table, "\n"))
}

// TestFiguresBackup measures a backup and a restore of a large desk.
func TestFiguresBackup(t *testing.T) {
	backup, restore := backupTimes(t, 200_000)
	t.Logf("200 000 tickets with a contact each and four lines of journal: backup %s, restore %s (each <= 60 s)",
		backup.Round(100*time.Millisecond), restore.Round(100*time.Millisecond))
}

// spread is the median and the 99th percentile (nearest rank) of some times.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "nothing measured"
	}
	slices.Sort(d)
	return fmt.Sprintf("median %.1f ms, p99 %.1f ms (n=%d)",
		float64(d[len(d)/2].Microseconds())/1000, float64(d[(len(d)*99+99)/100-1].Microseconds())/1000, len(d))
}

// answerRate rings at a rate for a while, and hangs up as soon as it is answered.
func answerRate(t *testing.T, s *server, k *rawTrunk, rate int, length time.Duration) (took []time.Duration, cpu float64) {
	took, failed, cpu := answersAt(t, s, k, rate, length)
	if len(failed) > 0 {
		t.Fatalf("%d calls failed, the first: %v", len(failed), failed[0])
	}
	return took, cpu
}

// answersAt is answerRate with the calls that failed.
func answersAt(t *testing.T, s *server, k *rawTrunk, rate int, length time.Duration) (took []time.Duration, failed []error, cpu float64) {
	type result struct {
		took time.Duration
		err  error
	}
	n := rate * int(length/time.Second)
	results := make(chan result, n)
	before := cpuOf(t, s.cmd.Process.Pid)
	began := time.Now()
	for i := range n {
		due := time.NewTimer(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate)))) // a ticker would leave calls out
		<-due.C
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		go func() { // its end is read from results
			status, took, err := c.answer()
			if err == nil && status != 200 {
				err = fmt.Errorf("answered %d", status)
			}
			if err == nil {
				err = c.hangUp()
			}
			results <- result{took, err}
		}()
	}
	for range n {
		if r := <-results; r.err != nil {
			failed = append(failed, r.err)
		} else {
			took = append(took, r.took)
		}
	}
	return took, failed, cpuOf(t, s.cmd.Process.Pid) - before
}

// popDelays measures from the commit of an offer to its arrival on the
// operator's socket.
func popDelays(t *testing.T, s *server, k *rawTrunk, n int) []time.Duration {
	_, program := built(t)
	phone := exec.Command(program, "--server", s.sip, "--register", "1001", "--password", s.secrets().Phones["1001"], "--answer-after", "100ms", "--talk", "100ms", "--for", "10m")
	if err := phone.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = phone.Process.Kill(); _ = phone.Wait() }()
	token := s.newToken("anna")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	ws, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+s.http+"/api/v1/socket", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteJSON(map[string]any{"type": "hello", "epoch": "", "seq": 0}); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "anna to be available", func() error {
		_, err := s.do("PUT", "/operators/anna/state", map[string]string{"declared": "available"}, nil)
		return err
	})
	var delays []time.Duration
	for range n {
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.answer(); err != nil {
			t.Fatal(err)
		}
		c.press("12")
		for {
			_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, text, err := ws.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			var e struct {
				Kind string
				Data struct {
					Offer struct {
						ID        string
						OfferedAt time.Time `json:"offered_at"`
					}
				}
			}
			if err := json.Unmarshal(text, &e); err != nil {
				t.Fatal(err)
			}
			if e.Kind == "call.offered" {
				delays = append(delays, at.Sub(e.Data.Offer.OfferedAt))
				_ = ws.WriteJSON(map[string]any{"type": "painted", "offer": e.Data.Offer.ID})
				break
			}
		}
		select {
		case <-c.bye:
			c.rtp.Close()
		case <-time.After(rawWait):
			t.Fatal("the operator's telephone did not end the talk")
		}
		s.must("PUT", "/operators/anna/state", map[string]string{"declared": "available"}, nil)
	}
	s.declare("anna", "off")
	return delays
}

// waitingWithMusic lets n callers wait and measures the server meanwhile.
func waitingWithMusic(t *testing.T, s *server, k *rawTrunk, n int, length time.Duration) (share, kbEach float64) {
	before := rssOf(t, s.cmd.Process.Pid)
	var calls []*rawCall
	stop := make(chan struct{}) // everybody sends sound all the time, as telephones do
	var sent []<-chan int
	for range n {
		c, err := k.invite("800000001")
		if err != nil {
			t.Fatal(err)
		}
		if status, _, err := c.answer(); err != nil || status != 200 {
			t.Fatalf("answered %d: %v", status, err)
		}
		c.press("12")
		sent = append(sent, c.speak(stop))
		calls = append(calls, c)
	}
	within(t, time.Minute, "everybody to have heard the number and the music to play", func() error {
		told := 0
		for _, c := range s.contacts("") {
			if endingOf(c) == "" && c.NumberTold {
				told++
			}
		}
		if told < n {
			return fmt.Errorf("%d of %d", told, n)
		}
		return nil
	})
	kept := time.NewTimer(10 * time.Second) // the kind words after the number end, the collector comes round
	<-kept.C
	cpu := serverCPU(t, s.cmd.Process.Pid)
	measured := time.NewTimer(length)
	<-measured.C
	share = (serverCPU(t, s.cmd.Process.Pid) - cpu) / length.Seconds()
	kbEach = float64(rssOf(t, s.cmd.Process.Pid)-before) / float64(n)
	close(stop)
	for _, done := range sent {
		<-done
	}
	for _, c := range calls {
		if err := c.hangUp(); err != nil {
			t.Error(err)
		}
	}
	return share, kbEach
}

const ticksPerSecond = 100 // USER_HZ on every Linux that Go runs on

// serverCPU is the CPU time of one process, in seconds.
func serverCPU(t *testing.T, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / ticksPerSecond
}

// cpuOf is the CPU time of a process and of all below it, those that have ended
// included: the private PostgreSQL counts.
func cpuOf(t *testing.T, pid int) float64 {
	t.Helper()
	children := map[int][]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	times := map[int]float64{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		if err != nil {
			continue // gone meanwhile
		}
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
		parent, _ := strconv.Atoi(f[1])
		children[parent] = append(children[parent], id)
		for _, i := range []int{11, 12, 13, 14} {
			v, _ := strconv.ParseFloat(f[i], 64)
			times[id] += v / ticksPerSecond
		}
	}
	sum := 0.0
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		sum += times[todo[0]]
		todo = append(todo, children[todo[0]]...)
	}
	return sum
}

// rssOf is the resident memory of one process, in KB.
func rssOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// backupTimes fills a desk of its own with n tickets, backs it up while it runs
// and restores it elsewhere.
func backupTimes(t *testing.T, n int) (backup, restore time.Duration) {
	s := newServer(t)
	conn := s.database()
	for _, sql := range []string{
		`alter table tickets disable trigger user`, // the words of each: known after the first
		`insert into tickets (year, serial, status, channel, service_id, subject, description, requester_number, received_at, opened_at)
			select 2025, i, 'open', 'phone', (select min(id) from services), 'Certificato ' || i, repeat('La ricetta non parte. ', 10), '+39055' || i, @at::timestamptz + i * interval '1 minute', @at::timestamptz + i * interval '1 minute' from generate_series(1, @n::int) i`,
		`insert into contacts (id, node, channel, call_id, caller, caller_source, dialled, ticket_id, t0, te, ending)
			select gen_random_uuid(), 'n', 'phone', 'c' || id, requester_number, 'asserted', '800000001', id, received_at, received_at + interval '3 minutes', 'served' from tickets where year = 2025`,
	} {
		args := pgx.StrictNamedArgs{"n": n, "at": time.Date(2025, 1, 1, 8, 0, 0, 0, time.UTC)}
		if !strings.Contains(sql, "@n") {
			args = pgx.StrictNamedArgs{}
		}
		if _, err := conn.Exec(t.Context(), sql, args); err != nil {
			t.Fatal(err)
		}
	}
	for seq, kind := range []string{"begun", "answered", "opened", "ended"} { // one line of every chain at a time
		if _, err := conn.Exec(t.Context(), `insert into journal (stream, seq, at, kind, contact_id, ticket_id, data, prev, hash)
			select l.stream, @seq, l.t0, @kind, l.id, l.ticket_id, '{}', l.prev,
				sha256(l.prev || journal_bytes(l.stream, @seq, l.t0, @kind, l.id, l.ticket_id, null, '{}', null))
			from (select 'contact:' || c.id as stream, c.t0, c.id, c.ticket_id, coalesce(j.hash, '') as prev
				from contacts c left join journal j on j.stream = 'contact:' || c.id and j.seq = @seq - 1) l`,
			pgx.StrictNamedArgs{"seq": seq + 1, "kind": kind}); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(dataDir(t), "backup")
	began := time.Now()
	s.mustRun("backup", dir, "--data", s.dir)
	backup = time.Since(began)
	began = time.Now()
	out := s.mustRun("restore", dir, "--data", dataDir(t))
	restore = time.Since(began)
	if !strings.Contains(out, fmt.Sprintf("%d tickets", n)) {
		t.Fatalf("the restore says %q, want %d tickets", out, n)
	}
	return backup, restore
}
