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
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
)

// TestFigures measures what the desk promises, on the shipped program, and
// prints one table (`make bench`; one part alone: -run '^TestFigures$/^bridged$').
// It asserts only that the work was done: a figure is read, never passed or
// failed by a machine's mood. The callers and telephones are this process, so
// that what they cost is nobody's figure.
func TestFigures(t *testing.T) {
	built(t)
	f := new(figures)
	defer f.print()
	for _, part := range []struct {
		name    string
		measure func(*testing.T, *figures)
	}{
		{"desk", deskFigures},
		{"calls", callsFigures},
		{"job", jobFigures},
		{"bridged", bridgedFigures},
		{"waiting", waitingFigures},
		{"traces", tracesFigures},
		{"soak", soakFigures},
		{"backup", backupFigures},
	} {
		t.Run(part.name, func(t *testing.T) {
			f.relayed = relayCost(t)
			f.relays = append(f.relays, f.relayed)
			part.measure(t, f)
		})
	}
}

// figures are the rows of the table.
type figures struct {
	relayed time.Duration // CPU of one datagram that is only relayed: the unit in which machines compare
	relays  []time.Duration
	rows    []string
}

// figure is a row.
type figure struct {
	what, must, aim string
	measured        string
	each            time.Duration // CPU of one unit, PostgreSQL included; 0: it is not asked
	unit            string
}

func (f *figures) row(r figure) {
	cpu, ratio := "", ""
	if r.each > 0 {
		cpu, ratio = fmt.Sprintf("%s per %s", rounded(r.each), r.unit), fmt.Sprintf("%.2g", float64(r.each)/float64(f.relayed))
		if r.each >= 10*f.relayed {
			ratio = fmt.Sprintf("%.0f", float64(r.each)/float64(f.relayed))
		}
	}
	line := fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.what, r.must, r.aim, r.measured, cpu, ratio)
	fmt.Println(line) // at once too: what follows takes minutes
	f.rows = append(f.rows, line)
}

// rounded is a time with three digits.
func rounded(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// print prints the table, also when only some of it could be measured.
func (f *figures) print() {
	if len(f.rows) == 0 {
		return
	}
	fmt.Printf("\none datagram relayed on loopback: %s to %s of CPU\n\n"+
		"| what | must | aim | measured | CPU, PostgreSQL included | in datagrams relayed |\n| --- | --- | --- | --- | --- | --- |\n%s\n\n",
		rounded(slices.Min(f.relays)), rounded(slices.Max(f.relays)), strings.Join(f.rows, "\n"))
}

// deskFigures are what a desk does all day.
func deskFigures(t *testing.T, f *figures) {
	began := time.Now()
	s := newServer(t, func(s *server) { s.operators, s.rtp = 3, "10000-32767" }) // ports rest between calls: many
	f.row(figure{what: "start to ready, empty directory", must: "4 s", measured: rounded(time.Since(began)),
		each: cpuOf(t, s.cmd.Process.Pid), unit: "start"})
	if code := s.stop(); code != 0 {
		t.Fatalf("SIGTERM: exit %d", code)
	}
	began = time.Now()
	s.start()
	f.row(figure{what: "start to ready, later", must: "1 s", measured: rounded(time.Since(began)),
		each: cpuOf(t, s.cmd.Process.Pid), unit: "start"})

	k := newRawTrunk(t, s.sip)
	took, cpu := answerRate(t, s, newCrowd(t, s), 20, 15*time.Second)
	f.row(figure{what: "INVITE to 200 at 20 calls/s, contact committed", must: "p99 30 ms", measured: spread(took),
		each: cpu / time.Duration(len(took)), unit: "call"})

	var delays []time.Duration
	before := cpuOf(t, s.cmd.Process.Pid)
	for range 4 { // each on a socket of its own: one may not say much more than a person does
		delays = append(delays, popDelays(t, s, k, 25)...)
	}
	f.row(figure{what: "queue decision to `call.offered` on the socket", must: "p99 30 ms", measured: spread(delays),
		each: (cpuOf(t, s.cmd.Process.Pid) - before) / time.Duration(len(delays)), unit: "call, its talk included"})
}

// backupFigures are a backup and a restore of a large desk.
func backupFigures(t *testing.T, f *figures) {
	const tickets = 200_000
	backup, restore := backupTimes(t, tickets)
	f.row(figure{what: "backup of 200 000 tickets, contacts and 800 000 lines of journal", must: "60 s", measured: rounded(backup.took),
		each: backup.cpu / tickets, unit: "ticket"})
	f.row(figure{what: "restore of the same", must: "60 s", measured: rounded(restore.took), each: restore.cpu / tickets, unit: "ticket"})
}

// spread is the median and the 99th percentile (nearest rank) of some times.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "nothing measured"
	}
	slices.Sort(d)
	return fmt.Sprintf("median %s, p99 %s (n=%d)", rounded(d[len(d)/2]), rounded(d[(len(d)*99+99)/100-1]), len(d))
}

// rest lets a while pass, in which everything settles or is measured.
func rest(d time.Duration) {
	over := time.NewTimer(d)
	<-over.C
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

const ticksPerSecond = 100 // USER_HZ on every Linux that Go runs on

// cpuOf is the CPU time of a process and of all below it, those that have ended
// included: the private PostgreSQL counts.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	children := map[int][]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	ticks := map[int]int{}
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
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime of proc(5)
			n, _ := strconv.Atoi(f[i])
			ticks[id] += n
		}
	}
	sum := 0
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		sum += ticks[todo[0]]
		todo = append(todo, children[todo[0]]...)
	}
	return time.Duration(sum) * time.Second / ticksPerSecond
}

// endedCPU is the CPU time of the commands that this process has run and waited for.
func endedCPU(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// cost is what a command took.
type cost struct{ took, cpu time.Duration }

// backupTimes fills a desk of its own with n tickets, backs it up while it runs
// and restores it elsewhere.
func backupTimes(t *testing.T, n int) (backup, restore cost) {
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
	measured := func(args ...string) (out string, c cost) {
		began, before := time.Now(), cpuOf(t, s.cmd.Process.Pid)+endedCPU(t)
		out = s.mustRun(args...)
		return out, cost{time.Since(began), cpuOf(t, s.cmd.Process.Pid) + endedCPU(t) - before}
	}
	_, backup = measured("backup", dir, "--data", s.dir)
	out, restore := measured("restore", dir, "--data", dataDir(t))
	if !strings.Contains(out, fmt.Sprintf("%d tickets", n)) {
		t.Fatalf("the restore says %q, want %d tickets", out, n)
	}
	return backup, restore
}
