package main

import (
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pronto-desk/pronto/sip/media"
)

// TestMetricsNameNobody: a label that says who had a talk would make figures of
// workers of any counter, and those stay away until the agreement that allows them is
// on record (art. 4 of law 300/1970; docs/decisions/0045).
func TestMetricsNameNobody(t *testing.T) {
	harmless := []string{"leg", "way", "trunk", "target"} // a leg is the caller's or an operator's, never whose
	vector, labels := regexp.MustCompile(`prometheus\.New\w+Vec\(`), regexp.MustCompile(`\[\]string\{([^}]*)\}`)
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2) {
			return filepath.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, at := range vector.FindAllIndex(text, -1) {
			found++
			list := labels.FindSubmatch(text[at[1]:])
			if list == nil {
				t.Errorf("%s: a metric whose labels cannot be read", path)
				continue
			}
			for _, label := range strings.Split(string(list[1]), ",") {
				if label = strings.Trim(label, ` "`); !slices.Contains(harmless, label) {
					t.Errorf("%s: label %q: does it say whose talk it was?", path, label)
				}
			}
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("%d metrics with labels were looked at: %v", found, err)
	}
}

// TestDroppedByReason: why sound is not used tells a wrong key from a stranger.
func TestDroppedByReason(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(dropped(func() media.Stats { return media.Stats{Dropped: map[string]uint64{"forged": 3, "stranger": 2}} }))
	said := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(said, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{`pronto_media_packets_dropped_total{reason="forged"} 3`, `pronto_media_packets_dropped_total{reason="stranger"} 2`} {
		if !strings.Contains(said.Body.String(), line+"\n") {
			t.Errorf("%s is not there:\n%s", line, said.Body)
		}
	}
}
