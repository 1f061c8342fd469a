package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db/private"
	"github.com/pronto-desk/pronto/sip/audio"
	"github.com/pronto-desk/pronto/tickets"
)

// run runs a command of the shipped program and gives what it said.
func (s *server) run(args ...string) (string, error) {
	s.t.Helper()
	pronto, _ := built(s.t)
	cmd := exec.Command(pronto, args...)
	cmd.Env = append(append(os.Environ(), "DATABASE_URL="), s.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustRun is run that fails the test on any error.
func (s *server) mustRun(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatalf("pronto %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// mustRefuse holds that a command fails and says why.
func (s *server) mustRefuse(why string, args ...string) {
	s.t.Helper()
	out, err := s.run(args...)
	if err == nil || !strings.Contains(out, why) {
		s.t.Errorf("pronto %s: %v, said %q, want a refusal with %q", strings.Join(args, " "), err, out, why)
	}
}

// database opens a connection to the private database of a running server.
func (s *server) database() *pgx.Conn {
	s.t.Helper()
	url, ok := private.Attach(s.dir)
	if !ok {
		s.t.Fatal("no private database is running")
	}
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// leaveMessage rings the closed number and speaks until it is told to end.
func leaveMessage(t *testing.T, s *server, k *rawTrunk) (c *rawCall, end func()) {
	t.Helper()
	c, err := k.invite("800000002")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := c.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	stop := make(chan struct{})
	sent := c.speak(stop)
	s.contactOf(c.id, "the message to be recorded", func(c tickets.Record) bool { return strings.Contains(kinds(c), "recording") })
	said := time.NewTimer(3 * time.Second) // above what counts as a message
	<-said.C
	return c, func() {
		close(stop)
		<-sent
		if err := c.hangUp(); err != nil {
			t.Error(err)
		}
	}
}

// burnTransactions makes a server's count of transactions as high as that of one
// that has worked for a while.
func burnTransactions(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `do $$ begin for i in 1..20000 loop perform pg_current_xact_id(); commit; end loop; end $$`); err != nil {
		t.Fatal(err)
	}
}

// encrypting makes a server encrypt what it records, with a key beside its
// configuration and outside its data.
func encrypting(t *testing.T) func(*server) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "pronto.toml")
	put(t, config, fmt.Appendf(nil, "[recordings]\nrecipients = [%q]\nidentities = \"recordings.key\"\n", id.Recipient()))
	put(t, filepath.Join(dir, "recordings.key"), []byte(id.String()))
	return func(s *server) { s.args = append(s.args, "--config", config) }
}

// TestBackupDuringTraffic makes a backup while people ring, restores it
// elsewhere, and works on: what was being said is a message, who waited stands
// among those to ring back, the next caller is served and the page hears of it.
// What is recorded is encrypted, in the backup too, which needs no key.
func TestBackupDuringTraffic(t *testing.T) {
	encrypts := encrypting(t)
	s := newServer(t, encrypts)
	burnTransactions(t, s.database())
	k := newRawTrunk(t, s.sip)
	first, end := leaveMessage(t, s, k)
	end()
	s.contactOf(first.id, "the first message", func(c tickets.Record) bool { return c.HasRecording && c.Ending != nil })
	waiting, err := k.invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := waiting.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	waiting.press("12")
	s.contactOf(waiting.id, "the caller to wait", func(c tickets.Record) bool { return c.Tq != nil })
	speaking, end := leaveMessage(t, s, k)
	defer end()

	dir := filepath.Join(dataDir(t), "monday")
	if out := s.mustRun("backup", dir, "--data", s.dir); !strings.Contains(out, "1 sounds") || !strings.Contains(out, "1 messages in the making") {
		t.Errorf("the backup says %q", out)
	}
	for _, below := range []string{"recordings", "spool"} {
		if b, err := os.ReadFile(fileBelow(t, filepath.Join(dir, below))); err != nil || !strings.HasPrefix(string(b), "age-encryption.org/v1") && !strings.HasPrefix(string(b), "PRONTO1") || strings.Contains(string(b), "WAVE") {
			t.Errorf("in the backup's %s is %.40q (%v)", below, b, err)
		}
	}
	s.mustRefuse("is there already", "backup", dir, "--data", s.dir)
	s.mustRefuse("another pronto serves", "restore", dir, "--data", s.dir)

	other := dataDir(t)
	s.mustRun("restore", dir, "--data", other)
	s.mustRefuse("the database is not empty (", "restore", dir, "--data", other)
	r := newServer(t, encrypts, func(r *server) { r.dir = other })
	got := r.contactOf(speaking.id, "the message that was being spoken", func(c tickets.Record) bool { return c.Ending != nil })
	if endingOf(got) != "voicemail" || got.Ticket == nil || !got.HasRecording {
		t.Errorf("the message that was being spoken: ended %s, ticket %v, recording %v", endingOf(got), got.Ticket, got.HasRecording)
	}
	var wav []byte
	r.must("GET", "/contacts/"+got.ID.String()+"/recording", nil, &wav)
	if sound, err := audio.ReadWAV(strings.NewReader(string(wav))); err != nil || len(sound) < 2*audio.Rate {
		t.Errorf("of it %d bytes are there (%v), and 3 s were said", len(sound), err)
	}
	if c := mustFault(t, r, waiting.id); c.Ticket == nil {
		t.Error("who waited has lost the ticket")
	}
	served(t, r)
}

// served rings a desk and holds that its page hears of the caller.
func served(t *testing.T, s *server) {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+s.http+"/api/v1/socket", http.Header{"Authorization": {"Bearer " + s.newToken("anna")}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteJSON(map[string]any{"type": "hello", "epoch": "", "seq": 0}); err != nil {
		t.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
	hears := func(what string, ok func(kind string, raw []byte) bool) {
		t.Helper()
		for {
			_, text, err := ws.ReadMessage()
			if err != nil {
				t.Fatalf("the page did not hear of %s: %v", what, err)
			}
			var e struct{ Type, Kind string }
			if err := json.Unmarshal(text, &e); err != nil {
				t.Fatal(err)
			}
			if ok(e.Type+e.Kind, text) {
				return
			}
		}
	}
	hears("the desk", func(kind string, _ []byte) bool { return strings.Contains(kind, "snapshot") })
	c, err := newRawTrunk(t, s.sip).invite("800000001")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := c.answer(); err != nil || status != 200 {
		t.Fatalf("answered %d: %v", status, err)
	}
	c.press("12")
	got := s.contactOf(c.id, "the new caller to wait", func(c tickets.Record) bool { return c.Tq != nil && c.Ticket != nil })
	hears("the new caller", func(_ string, raw []byte) bool { return strings.Contains(string(raw), got.ID.String()) })
	if err := c.hangUp(); err != nil {
		t.Error(err)
	}
}

// TestRestoreIsWhatWasBackedUp compares a desk at rest with its restored backup,
// row by row and sound by sound.
func TestRestoreIsWhatWasBackedUp(t *testing.T) {
	s := newServer(t)
	conn := s.database()
	burnTransactions(t, conn)
	c, end := leaveMessage(t, s, newRawTrunk(t, s.sip))
	end()
	got := s.contactOf(c.id, "the message", func(c tickets.Record) bool { return c.HasRecording && c.Ending != nil })
	s.must("POST", "/tickets/"+*got.Ticket+"/notes", map[string]string{"text": "riga\\ con\ttab \"e\" à\nnuova riga"}, nil)
	if _, err := conn.Exec(t.Context(), `insert into prompts (name, alaw, text, made_at) values ('guasto_fse', '\x5c0a0900d55c2e', 'Il fascicolo è fermo.', '2026-03-02')`); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	if code := s.stop(); code != 0 {
		t.Fatalf("SIGTERM: exit %d", code)
	}
	dir, other := filepath.Join(dataDir(t), "deep", "er", "monday"), dataDir(t)
	s.mustRun("backup", dir, "--data", s.dir)

	// Before the good restore the bad ones: of each nothing stays.
	sound := fileBelow(t, filepath.Join(dir, "recordings"))
	holdDamage(t, s, dir, other, sound, "its sha256 is another")
	holdDamage(t, s, dir, other, filepath.Join(dir, "db", "tickets.copy.gz"), "is not what was written")
	holdDamage(t, s, dir, other, filepath.Join(dir, manifestName), "manifest.json")

	s.mustRun("restore", dir, "--data", other)
	if want, have := everyRow(t, s.dir), everyRow(t, other); !slices.Equal(want, have) {
		for i := range want {
			if i >= len(have) || want[i] != have[i] {
				t.Fatalf("row %d of %d (restored: %d) was\n%s\nand is\n%v", i, len(want), len(have), want[i], have[min(i, len(have)-1)])
			}
		}
		t.Fatalf("%d rows were restored to %d", len(want), len(have))
	}
	want, have := everySound(t, s.dir), everySound(t, other)
	if len(want) == 0 || !slices.Equal(want, have) {
		t.Errorf("sounds: %d were, %d are, or they differ", len(want), len(have))
	}
	node := func(dir string) string { name, _ := readNode(dir); return name }
	if node(other) == "" || node(other) != node(s.dir) {
		t.Errorf("the node was %q and is %q", node(s.dir), node(other))
	}
}

// holdDamage changes one byte of a backup's file for a moment.
func holdDamage(t *testing.T, s *server, dir, data, path, why string) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := slices.Clone(whole)
	broken[len(broken)/2] ^= 0x80
	if err := os.WriteFile(path, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	s.mustRefuse(why, "restore", dir, "--data", data)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.mustRefuse(filepath.Base(path), "restore", dir, "--data", data)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
		t.Errorf("a damaged backup left %v (%v)", left, err)
	}
}

func fileBelow(t *testing.T, dir string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no file below %s: %v", dir, err)
	}
	return found
}

// everyRow reads every table of a data directory's database as JSON, without the
// numbers of transactions.
func everyRow(t *testing.T, dir string) (rows []string) {
	t.Helper()
	pg, err := private.Start(t.Context(), private.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Stop()
	conn, err := pgx.Connect(t.Context(), pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	ask := func(sql string) []string {
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for _, table := range ask(`select tablename::text from pg_tables where schemaname = 'public' and tablename <> 'goose_db_version' order by 1`) {
		for _, row := range ask(`select (to_jsonb(t) - 'xid')::text from ` + table + ` t order by 1`) {
			rows = append(rows, table+" "+row)
		}
	}
	return append(rows, ask(`select sequencename || ' ' || coalesce(last_value, 0) from pg_sequences where sequencename not like 'goose%' order by 1`)...)
}

// everySound reads every file below recordings, with its name.
func everySound(t *testing.T, dir string) (sounds []string) {
	t.Helper()
	root := filepath.Join(dir, "recordings")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		sound, err := os.ReadFile(path)
		sounds = append(sounds, strings.TrimPrefix(path, root)+" "+string(sound))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sounds
}

// TestBackupIsAloneAndWhole holds a backup up in the middle: a second one says
// so, and when the first is killed nothing looks like a backup.
func TestBackupIsAloneAndWhole(t *testing.T) {
	s := newServer(t)
	conn := s.database()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `lock table tickets in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	pronto, _ := built(t)
	parent := dataDir(t)
	dir := filepath.Join(parent, "monday")
	first := exec.Command(pronto, "backup", dir, "--data", s.dir)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	watch := s.database()
	within(t, 30*time.Second, "the first backup to wait for the tickets", func() error {
		var waits bool
		err := watch.QueryRow(t.Context(), `select exists (select from pg_locks where relation = 'tickets'::regclass and not granted)`).Scan(&waits)
		if err == nil && !waits {
			err = errors.New("not yet")
		}
		return err
	})
	s.mustRefuse("another backup or restore of this database is running", "backup", filepath.Join(parent, "second"), "--data", s.dir)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a killed backup stands there: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(parent, "*", manifestName))
	if err != nil || len(left) > 0 {
		t.Errorf("a killed backup has a manifest: %v (%v)", left, err)
	}
	within(t, 30*time.Second, "the next backup", func() error { // the server may not have noticed yet that the first is gone
		if out, err := s.run("backup", dir, "--data", s.dir); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// FuzzManifest: a manifest may come from anywhere, and names files that are
// opened.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"tables":[{"name":"tickets","columns":["id"],"rows":1}],"files":[{"path":"db/tickets.copy.gz"},{"path":"recordings/2026/03/02/a.wav"}]}`))
	f.Add([]byte(`{"format":1,"files":[{"path":"../../etc/passwd"}]}`))
	f.Add([]byte(`{"format":1,"tables":[{"name":"../x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m manifest
		if m.parse(text) != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(file.Path) || strings.HasPrefix(filepath.Clean(file.Path), "..") {
				t.Errorf("takes the path %q", file.Path)
			}
		}
		for _, table := range m.Tables {
			if !filepath.IsLocal(tableFile(table)) {
				t.Errorf("takes the table %q", table.Name)
			}
		}
	})
}
