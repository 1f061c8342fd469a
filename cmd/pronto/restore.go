package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/db/journal"
	"github.com/pronto-desk/pronto/recordings"
)

// unfinishedRestore holds the sounds of a restore until the database is whole;
// as long as it is there, nothing else runs on the data directory.
const unfinishedRestore = "restore.unfinished"

type restoreCommand struct {
	common
	Dir           string `arg:"" type:"path" help:"A backup made by pronto backup."`
	BrokenJournal bool   `help:"Restore although a line of the journal was changed or removed before the backup."`
}

// Run restores a backup into an empty installation.
func (c restoreCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	m, err := readManifest(c.Dir)
	if err != nil {
		return fmt.Errorf("nothing was restored: %w", err)
	}
	if err := m.verify(ctx, c.Dir); err != nil {
		return fmt.Errorf("nothing was restored: the backup is damaged:\n%w", err)
	}
	if err := mine(s.data); err != nil {
		return err
	}
	unlock, err := lockDir(s.data)
	if err != nil {
		return err
	}
	defer unlock()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, closeDB, err := connectDatabase(ctx, s, log)
	if err != nil {
		return err
	}
	defer closeDB()
	r := restore{data: s.data, from: c.Dir, manifest: m, db: d, broken: c.BrokenJournal}
	lines, err := r.run(ctx)
	if err != nil {
		return fmt.Errorf("nothing was restored: %w", err)
	}
	if err := d.Migrate(ctx); err != nil {
		return fmt.Errorf("everything was restored, but not brought to this version's schema: %w", err)
	}
	fmt.Printf("Restored the backup of %s: %s, %d lines of the journal.\n", m.MadeAt.Format("2006-01-02 15:04 UTC"), m.words(), lines)
	for _, node := range m.nodes() {
		fmt.Printf("%d sounds are in the backup of %s: copy its recordings directory there.\n", m.Elsewhere[node], node)
	}
	fmt.Println("Start it as always: calls that were in progress stand among those to ring back.")
	return nil
}

// mine refuses to fill another user's data directory as root: its files would be
// root's, and the server could not open them.
func mine(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil // it is made, or the first file tells
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
		return fmt.Errorf("%w: %s belongs to user %d, as whom the server runs: restore as that user (sudo -u '#%d' pronto restore …)", errConfig, dir, owner, owner)
	}
	return nil
}

// restore is one that is being done.
type restore struct {
	manifest
	data, from string
	db         *db.DB
	broken     bool // a broken journal is accepted
}

// run restores: sounds to a place where nobody takes them for the desk's own,
// then the database in one transaction, then the sounds to their place. Killed
// anywhere, it can be begun again; nothing looks restored before it is.
func (r restore) run(ctx context.Context) (lines int, err error) {
	part := filepath.Join(r.data, unfinishedRestore)
	found, err := r.db.Holdings(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(part); err == nil && r.sameAs(found) { // cut off after the database was whole
		return 0, r.place(part)
	}
	if err := r.empty(found); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(part); err != nil {
		return 0, err
	}
	if err := r.sounds(ctx, part); err != nil {
		return 0, errors.Join(err, os.RemoveAll(part))
	}
	if err := r.db.MigrateTo(ctx, r.Schema); err != nil {
		return 0, errors.Join(err, os.RemoveAll(part))
	}
	err = r.db.Refill(ctx, r.Tables, r.Sequences, r.table, func(ctx context.Context, tx pgx.Tx) (err error) {
		lines, err = journal.VerifyAll(ctx, tx)
		var broken *journal.Broken
		switch {
		case errors.As(err, &broken) && r.broken:
			fmt.Fprintln(os.Stderr, "pronto:", broken)
			return nil
		case errors.As(err, &broken):
			return fmt.Errorf("%w: this was so before the backup; --broken-journal restores it all the same", broken)
		}
		return err
	})
	if err != nil {
		return 0, errors.Join(err, os.RemoveAll(part))
	}
	return lines, r.place(part)
}

// empty says what stands where the backup would go.
func (r restore) empty(found []db.Table) error {
	if len(found) > 0 {
		var words []string
		for _, t := range found {
			words = append(words, fmt.Sprintf("%d %s", t.Rows, t.Name))
		}
		return fmt.Errorf("the database is not empty (%s): restore into an empty one, with --data or --database", strings.Join(words, ", "))
	}
	holds, err := recordings.Holds(r.data)
	if err != nil {
		return err
	}
	if holds != "" {
		return fmt.Errorf("%s is there: the data directory is not empty: restore into an empty one, with --data", holds)
	}
	return nil
}

// sameAs tells whether the database holds as much as the backup.
func (r restore) sameAs(found []db.Table) bool {
	rows := map[string]int64{}
	for _, t := range r.Tables {
		rows[t.Name] = t.Rows
	}
	for _, t := range found {
		if rows[t.Name] != t.Rows {
			return false
		}
	}
	return len(found) > 0
}

// table opens a table's rows.
func (r restore) table(t db.Table) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(r.from, tableFile(t)))
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", tableFile(t), err), f.Close())
	}
	return unzipped{zip, f}, nil
}

// unzipped is a compressed file that closes with its reader.
type unzipped struct {
	*gzip.Reader
	file *os.File
}

// Close implements io.Closer.
func (u unzipped) Close() error { return errors.Join(u.Reader.Close(), u.file.Close()) }

// sounds copies everything but the tables into part.
func (r restore) sounds(ctx context.Context, part string) error {
	b := &backup{ctx: ctx, dir: part}
	if err := os.Mkdir(part, 0o700); err != nil {
		return err
	}
	for _, f := range r.Files {
		if strings.HasPrefix(f.Path, tablesDir+"/") {
			continue
		}
		in, err := os.Open(filepath.Join(r.from, f.Path))
		if err != nil {
			return err
		}
		err = b.write(f.Path, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return syncTree(part)
}

// place puts the sounds, the spool and the node's name where the server looks
// for them. It may be done again.
func (r restore) place(part string) error {
	for _, name := range []string{"recordings", "spool"} {
		from, to := filepath.Join(part, name), filepath.Join(r.data, name)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.RemoveAll(to); err != nil { // empty directories and a lock: empty has looked
			return err
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
	}
	if r.Node != "" { // what the node of this name left is its own to finish
		if err := writeFile(filepath.Join(r.data, nodeFile), r.Node+"\n", 0o644); err != nil {
			return err
		}
	}
	if err := syncDir(r.data); err != nil {
		return err
	}
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	return syncDir(r.data)
}
