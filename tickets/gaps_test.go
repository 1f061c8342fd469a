package tickets

import (
	"slices"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
)

// Where nothing was kept, and why, is what the journal says: also of a pause that
// outlives a hold, of one whose line comes late, and of a recording that is cut off.
func TestGapsOf(t *testing.T) {
	begun := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	line := func(s float64, kind journal.Kind, reason string) journal.Entry {
		e := journal.Entry{}
		e.At, e.Kind, e.Data = begun.Add(time.Duration(s*float64(time.Second))), kind, map[string]any{"recording": "r"}
		if reason != "" {
			e.Data["reason"] = reason
		}
		return e
	}
	taping, gap, on, taped := journal.Taping, journal.Gap, journal.GapEnd, journal.Taped
	other := line(5, gap, "fault")
	other.Data["recording"] = "another"
	for name, c := range map[string]struct {
		lines []journal.Entry
		want  []TalkGap
	}{
		"none":         {[]journal.Entry{line(0, taping, ""), line(60, taped, "")}, nil},
		"not recorded": {[]journal.Entry{line(1, gap, "no_room")}, nil},
		"one":          {[]journal.Entry{line(0, taping, ""), line(4, gap, "operator"), line(9.5, on, ""), line(60, taped, "")}, []TalkGap{{4000, 5500, "operator"}}},
		"another's":    {[]journal.Entry{line(0, taping, ""), other, line(60, taped, "")}, nil},
		"told again":   {[]journal.Entry{line(0, taping, ""), line(4, gap, "hold"), line(5, gap, "hold"), line(6, on, ""), line(7, on, "")}, []TalkGap{{4000, 2000, "hold"}}},
		"a pause that outlives a hold": {
			[]journal.Entry{line(0, taping, ""), line(2, gap, "operator"), line(4, gap, "hold"), line(6, gap, "operator"), line(8, on, "")},
			[]TalkGap{{2000, 2000, "operator"}, {4000, 2000, "hold"}, {6000, 2000, "operator"}},
		},
		"a line that comes late": {
			[]journal.Entry{line(0, taping, ""), line(4, gap, "hold"), line(2, gap, "operator"), line(3, on, ""), line(5, on, "")},
			[]TalkGap{{2000, 1000, "operator"}, {4000, 1000, "hold"}},
		},
		"to the end": {[]journal.Entry{line(0, taping, ""), line(50, gap, "waiting"), line(60, taped, "")}, []TalkGap{{50_000, 10_000, "waiting"}}},
	} {
		if got := gapsOf(c.lines); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
