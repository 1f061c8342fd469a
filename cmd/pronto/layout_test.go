package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/pronto-desk/pronto"

// level says how high each package stands. A package imports only what stands
// lower, so a reader who opens one never has to look up. A new package takes
// its line here, or the test says so.
var level = map[string]int{
	"cmd/pronto": 5, "cmd/caller": 5,
	"web": 4, "ivr": 4, "sip/siptest": 4,
	"tickets/intake": 3, "tickets/reports": 3, "sip/webrtc": 3, "sip": 3,
	"queue": 2, "tickets": 2, "recordings": 2, "sip/media": 2,
	"tickets/sla": 1, "tickets/outbox": 1, "ivr/prompts": 1, "db/dbtest": 1, "sip/seeds": 1,
	"db": 0, "db/private": 0, "db/journal": 0, "tickets/calendar": 0, "sip/audio": 0, "web/ui": 0,
}

// onlyForTests are helpers of tests: nothing that ships may import them.
var onlyForTests = map[string]bool{"db/dbtest": true, "sip/siptest": true, "sip/seeds": true}

// goPackage is what `go list -json` says of one package.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// TestLayout holds the table above against the imports of the tree.
func TestLayout(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		seen++
		for _, fault := range faults(p) {
			t.Error(fault)
		}
	}
	if seen == 0 {
		t.Fatal("go list named no package: the test looked at nothing")
	}
}

// TestLayoutFaults shows that each rule is able to fail.
func TestLayoutFaults(t *testing.T) {
	for _, c := range []struct {
		why string
		pkg goPackage
		bad bool
	}{
		{"a lower package imports a higher one", goPackage{ImportPath: module + "/queue", Imports: []string{module + "/ivr"}}, true},
		{"two packages of one level", goPackage{ImportPath: module + "/queue", Imports: []string{module + "/tickets"}}, true},
		{"web is imported", goPackage{ImportPath: module + "/ivr", Imports: []string{module + "/web"}}, true},
		{"a test helper ships", goPackage{ImportPath: module + "/queue", Imports: []string{module + "/db/dbtest"}}, true},
		{"an unknown folder", goPackage{ImportPath: module + "/util"}, true},
		{"a test may use its helper", goPackage{ImportPath: module + "/queue", TestImports: []string{module + "/db/dbtest"}}, false},
		{"downwards", goPackage{ImportPath: module + "/ivr", Imports: []string{module + "/queue", "net/http"}}, false},
	} {
		if got := len(faults(c.pkg)) > 0; got != c.bad {
			t.Errorf("%s: faults found: %v, want %v", c.why, got, c.bad)
		}
	}
}

// faults names every rule of the layout that p breaks, in a sentence each.
func faults(p goPackage) []string {
	var found []string
	name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
	mine, known := level[name]
	if !known {
		return []string{fmt.Sprintf("%s has no place in the house: give it a line in level, or put its types where their rules live", name)}
	}
	check := func(imports []string, inTest bool) {
		for _, path := range imports {
			if !strings.HasPrefix(path, module+"/") {
				continue
			}
			other := strings.TrimPrefix(path, module+"/")
			theirs, ok := level[other]
			switch {
			case other == name: // an external test imports its own package
			case !ok:
				found = append(found, fmt.Sprintf("%s imports %s, which has no place in the house", name, other))
			case onlyForTests[other] && !inTest && !onlyForTests[name]:
				found = append(found, fmt.Sprintf("%s ships with %s, which is for tests only", name, other))
			case (theirs > mine || theirs == mine && !inTest) && !onlyForTests[other]: // a test may stand beside what it tests with
				found = append(found, fmt.Sprintf("%s (level %d) imports %s (level %d): imports point down; let the lower one declare an interface, or a wake-up carry the news", name, mine, other, theirs))
			}
		}
	}
	check(p.Imports, false)
	check(p.TestImports, true)
	check(p.XTestImports, true)
	return found
}
