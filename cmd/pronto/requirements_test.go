package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	requirementRow = regexp.MustCompile(`(?m)^\| ([ABC]\d+) \| (yes|partly|planned) \|[^|]+\| ([^|]*)\|$`)
	shownBy        = regexp.MustCompile(`"[^"]+"|\S+`)
)

// TestRequirements holds docs/requirements.md to what is there: every requirement
// of A to C5 has its line, and whatever shows one exists.
func TestRequirements(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "requirements.md"))
	if err != nil {
		t.Fatal(err)
	}
	shows := everythingThatShows(t, root)
	listed := map[string]bool{}
	for _, row := range requirementRow.FindAllStringSubmatch(string(page), -1) {
		id, state, names := row[1], row[2], shownBy.FindAllString(row[3], -1)
		listed[id] = true
		if (len(names) == 0) != (state == "planned") {
			t.Errorf("%s is %s and shown by %q", id, state, names)
		}
		for _, name := range names {
			if !shows[strings.Trim(name, `"`)] {
				t.Errorf("%s is shown by %s, and there is no such thing", id, name)
			}
		}
	}
	for letter, last := range map[string]int{"A": 13, "B": 5, "C": 5} {
		for n := range last {
			if id := fmt.Sprint(letter, n+1); !listed[id] {
				t.Errorf("docs/requirements.md has no line for %s", id)
			}
		}
	}
}

// everythingThatShows are the names of the call scripts, the Go tests and the
// browser's stories.
func everythingThatShows(t *testing.T, root string) map[string]bool {
	t.Helper()
	declared := map[string]*regexp.Regexp{
		"_test.go": regexp.MustCompile(`(?m)^func (Test\w+)\(`),
		".spec.ts": regexp.MustCompile(`(?m)^test\('([^']+)'`),
	}
	all := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "node_modules" {
			return filepath.SkipDir
		}
		if filepath.Base(filepath.Dir(path)) == "calls" {
			all[strings.TrimSuffix(entry.Name(), ".txt")] = true
		}
		for ending, names := range declared {
			if !strings.HasSuffix(path, ending) {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, name := range names.FindAllStringSubmatch(string(text), -1) {
				all[name[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
