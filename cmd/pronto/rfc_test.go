package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	citation = regexp.MustCompile(`RFC (\d{3,5})`)
	rfcRow   = regexp.MustCompile(`(?m)^\| (\d{3,5}) \|[^|]+\| (yes|partly|planned) \|`)
)

// TestCitations resolves every RFC that a comment cites against docs/rfc.md,
// and every line of that page against a citation, unless it is planned.
func TestCitations(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "rfc.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, row := range rfcRow.FindAllStringSubmatch(string(page), -1) {
		listed[row[1]] = row[2]
	}
	cited := map[string]string{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "dist" || strings.HasPrefix(entry.Name(), ".") && len(entry.Name()) > 2) {
			return filepath.SkipDir
		}
		switch filepath.Ext(path) {
		case ".go", ".ts", ".svelte", ".sql":
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, c := range citation.FindAllStringSubmatch(string(text), -1) {
			cited[c[1]] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(cited) == 0 {
		t.Fatal("found no citation at all: the test looked at nothing")
	}
	for number, path := range cited {
		if listed[number] == "" {
			t.Errorf("%s cites RFC %s, which docs/rfc.md does not list", path, number)
		}
	}
	for number, state := range listed {
		if cited[number] == "" && state != "planned" {
			t.Errorf("docs/rfc.md lists RFC %s as %q, but no code cites it", number, state)
		}
	}
}
