package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/recordings"
)

const (
	backupFormat = 1               // of the manifest and of what it names
	manifestName = "manifest.json" // a backup without it is none
	checksumName = "manifest.json.sha256"
	maxManifest  = 256 << 20 // bytes: two million recordings
	tablesDir    = "db"      // the tables' files in a backup
	bufferSize   = 256 << 10 // bytes between a table and its file
)

// manifest says what a backup is, and what each of its files must be.
type manifest struct {
	Format    int            `json:"format"`
	Program   string         `json:"program"` // version of pronto
	Schema    int64          `json:"schema"`
	Server    string         `json:"postgresql"`
	Node      string         `json:"node"` // whose sounds and spool these are; "" when the data directory was not there
	MadeAt    time.Time      `json:"made_at"`
	Tables    []db.Table     `json:"tables"`
	Sequences []db.Sequence  `json:"sequences"`
	Sounds    int            `json:"sounds"`
	Facts     int            `json:"facts"`               // of the spool, which waited for the database
	Making    int            `json:"making"`              // messages that were being spoken
	Elsewhere map[string]int `json:"elsewhere,omitempty"` // sounds that other nodes keep, by node
	Missing   []string       `json:"missing,omitempty"`   // sounds that have a row and no file
	Files     []keptFile     `json:"files"`
}

// keptFile is a file of a backup.
type keptFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

type backupCommand struct {
	common
	Dir string `arg:"" type:"path" help:"Where the backup will stand; it must not exist yet."`
}

// Run writes a backup, beside a running server or without one.
func (c backupCommand) Run(ctx context.Context) error {
	s, err := c.settings()
	if err != nil {
		return err
	}
	return reachDatabase(ctx, s, func(d *db.DB) error {
		m, err := makeBackup(ctx, s.data, d, c.Dir)
		if err != nil {
			return fmt.Errorf("nothing was backed up: %w", err)
		}
		fmt.Printf("Backed up to %s: %s.\n", c.Dir, m.words())
		for node, n := range m.Elsewhere {
			fmt.Printf("%d sounds are kept by %s: make a backup there too.\n", n, node)
		}
		for _, path := range m.Missing {
			fmt.Fprintf(os.Stderr, "pronto: %s has a row in the database and no file: it is not in the backup\n", path)
		}
		return nil
	})
}

// words are a backup in a line.
func (m manifest) words() string {
	rows := map[string]int64{}
	for _, t := range m.Tables {
		rows[t.Name] = t.Rows
	}
	text := fmt.Sprintf("%d tickets, %d contacts, %d sounds", rows["tickets"], rows["contacts"], m.Sounds)
	if m.Facts+m.Making > 0 {
		text += fmt.Sprintf(", from the spool %d facts and %d messages in the making", m.Facts, m.Making)
	}
	return text
}

// makeBackup writes everything under another name beside dir and renames it when
// it is whole and on the disk: one that was killed does not look like a backup.
func makeBackup(ctx context.Context, data string, d *db.DB, dir string) (m manifest, err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is there already: name one that is not", dir)
	}
	snap, err := d.Snapshot(ctx)
	if err != nil {
		return m, err
	}
	defer snap.Close(ctx)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return m, err
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".unfinished-") // for our user alone
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(part) // gone already when all went well
	b := &backup{ctx: ctx, dir: part}
	m = manifest{Format: backupFormat, Program: version, Schema: snap.Schema, Server: snap.Server, MadeAt: time.Now().UTC(), Sequences: snap.Sequences}
	if m.Node, err = readNode(data); err != nil {
		return m, err
	}
	// The spool first: what leaves it has a file from then on, and a row that
	// this snapshot does not know.
	list, err := recordings.All(ctx, snap)
	if err != nil {
		return m, err
	}
	if err := b.spool(data, &m, list); err != nil {
		return m, err
	}
	if m.Tables, err = b.tables(snap); err != nil {
		return m, err
	}
	if err := b.sounds(data, &m, list); err != nil {
		return m, err
	}
	m.Files = b.files
	if err := b.finish(m); err != nil {
		return m, err
	}
	if err := os.Rename(part, dir); err != nil {
		return m, err
	}
	return m, syncDir(filepath.Dir(dir))
}

// backup is one that is being written.
type backup struct {
	ctx   context.Context
	dir   string
	files []keptFile
}

// spool keeps what the node has not brought to the database yet.
func (b *backup) spool(data string, m *manifest, list []recordings.Kept) (err error) {
	var making []recordings.Kept
	for _, k := range list {
		if k.State == "recording" && k.Node == m.Node {
			making = append(making, k)
		}
	}
	if m.Facts, m.Making, err = recordings.SaveSpool(data, b.dir, making); err != nil {
		return err
	}
	return filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(b.dir, path)
		if err != nil {
			return err
		}
		f, err := summed(path, name)
		b.files = append(b.files, f)
		return err
	})
}

// tables copies every table.
func (b *backup) tables(snap *db.Snapshot) (list []db.Table, err error) {
	for _, t := range snap.Tables {
		err := b.write(tableFile(t), func(w io.Writer) (err error) {
			zip, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // a level that exists
			in := bufio.NewWriterSize(zip, bufferSize)
			if t.Rows, err = snap.Copy(b.ctx, t, in); err != nil {
				return err
			}
			return errors.Join(in.Flush(), zip.Close())
		})
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func tableFile(t db.Table) string { return filepath.Join(tablesDir, t.Name+".copy.gz") }

// sounds copies the file of every recording of this node.
func (b *backup) sounds(data string, m *manifest, list []recordings.Kept) error {
	for _, k := range list {
		switch {
		case k.Path == "": // it is being made, or its sound was lost in a crash
			continue
		case k.Node != m.Node:
			if m.Elsewhere == nil {
				m.Elsewhere = map[string]int{}
			}
			m.Elsewhere[k.Node]++
			continue
		case !filepath.IsLocal(k.Path):
			return fmt.Errorf("recording %s: its path leads elsewhere", k.ID)
		}
		in, err := os.Open(filepath.Join(data, k.Path))
		if errors.Is(err, fs.ErrNotExist) {
			m.Missing = append(m.Missing, k.Path)
			continue
		}
		if err != nil {
			return err
		}
		err = b.write(k.Path, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
		m.Sounds++
	}
	return nil
}

// write writes a file of the backup, on the disk when it returns, and notes it.
func (b *backup) write(name string, fill func(io.Writer) error) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := summing{w: f, hash: sha256.New()}
	err = fill(&sum)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	b.files = append(b.files, sum.kept(name))
	return nil
}

// finish writes the manifest and puts every directory's names on the disk.
func (b *backup) finish(m manifest) error {
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if err := writeFile(filepath.Join(b.dir, manifestName), string(text), 0o600); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(b.dir, checksumName), checksumOf(text), 0o600); err != nil {
		return err
	}
	return syncTree(b.dir)
}

// checksumOf is what checksumName holds, as sha256sum(1) reads it.
func checksumOf(text []byte) string {
	return fmt.Sprintf("%x  %s\n", sha256.Sum256(text), manifestName)
}

// summing is a writer that knows what went through it.
type summing struct {
	w     io.Writer
	hash  hash.Hash
	bytes int64
}

// Write implements io.Writer.
func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.bytes += int64(n)
	return n, err
}

func (s *summing) kept(name string) keptFile {
	return keptFile{Path: filepath.ToSlash(name), Bytes: s.bytes, SHA256: hex.EncodeToString(s.hash.Sum(nil))}
}

// summed reads a file and says what it is.
func summed(path, name string) (keptFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return keptFile{}, err
	}
	defer f.Close()
	sum := summing{w: io.Discard, hash: sha256.New()}
	if _, err := io.Copy(&sum, f); err != nil {
		return keptFile{}, fmt.Errorf("read %s: %w", name, err)
	}
	return sum.kept(name), nil
}

// syncTree puts the names in a directory and below it on the disk; its files are.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readManifest reads a backup's manifest and checks what can be checked without
// its files.
func readManifest(dir string) (m manifest, err error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is no backup, or one that was cut off: it has no %s", dir, manifestName)
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	switch {
	case err != nil:
		return m, fmt.Errorf("read %s: %w", manifestName, err)
	case len(text) > maxManifest:
		return m, fmt.Errorf("%s is larger than %d bytes", manifestName, maxManifest)
	}
	if sum, err := os.ReadFile(filepath.Join(dir, checksumName)); err != nil || string(sum) != checksumOf(text) {
		return m, fmt.Errorf("%s is not what was written, by %s", manifestName, checksumName)
	}
	return m, m.parse(text)
}

// parse reads a manifest that may have been damaged, or written by somebody else.
func (m *manifest) parse(text []byte) error {
	if err := json.Unmarshal(text, m); err != nil {
		return fmt.Errorf("%s cannot be read: %w", manifestName, err)
	}
	if m.Format != backupFormat {
		return fmt.Errorf("%s is of format %d, this version of pronto reads %d", manifestName, m.Format, backupFormat)
	}
	names := map[string]bool{}
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Path) || names[f.Path] || !(strings.HasPrefix(f.Path, tablesDir+"/") || strings.HasPrefix(f.Path, "recordings/") || strings.HasPrefix(f.Path, "spool/")) {
			return fmt.Errorf("%s names a file %q that no backup has", manifestName, f.Path)
		}
		names[f.Path] = true
	}
	for _, t := range m.Tables {
		if !names[filepath.ToSlash(tableFile(t))] {
			return fmt.Errorf("%s names no file of table %q", manifestName, t.Name)
		}
	}
	if strings.ContainsAny(m.Node, "/\n") || len(m.Node) > 64 {
		return fmt.Errorf("%s: the node's name is none", manifestName)
	}
	return nil
}

// verify reads every file of a backup, and lists those that are not what was
// written.
func (m manifest) verify(ctx context.Context, dir string) error {
	var wrong []error
	for _, want := range m.Files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		got, err := summed(filepath.Join(dir, want.Path), want.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, fmt.Errorf("%s is missing", want.Path))
		case err != nil:
			wrong = append(wrong, err)
		case got.Bytes == want.Bytes && got != want:
			wrong = append(wrong, fmt.Errorf("%s is not what was written: its sha256 is another", want.Path))
		case got != want:
			wrong = append(wrong, fmt.Errorf("%s is not what was written: %d bytes, and they were %d", want.Path, got.Bytes, want.Bytes))
		}
	}
	if len(wrong) > 10 { // the first show enough
		wrong = append(wrong[:10], fmt.Errorf("and %d more", len(wrong)-10))
	}
	return errors.Join(wrong...)
}

// nodes are those whose sounds are kept elsewhere, for a person.
func (m manifest) nodes() []string { return slices.Sorted(maps.Keys(m.Elsewhere)) }
