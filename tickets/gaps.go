package tickets

import (
	"slices"
	"time"

	"github.com/pronto-desk/pronto/db/journal"
)

// TalkGap is a stretch of a recorded talk of which nothing is kept: silence stands
// for it.
type TalkGap struct {
	FromMS int64  `json:"from_ms" doc:"Since the recording's first instant."`
	ForMS  int64  `json:"for_ms"`
	Reason string `json:"reason" doc:"hold, consult, waiting, outside, operator, no_room or fault."`
}

// gapsOf are the gaps of a contact's last recording, by the lines of its journal. An
// operator's pause is told by another than what the call did meanwhile, so instants
// decide, not the order of the lines.
func gapsOf(lines []journal.Entry) (gaps []TalkGap) {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(x, y journal.Entry) int { return x.At.Compare(y.At) })
	var recording any
	var begun time.Time
	open := "" // the reason of the gap that goes on
	at := func(e journal.Entry) int64 { return max(0, e.At.Sub(begun).Milliseconds()) }
	for _, e := range lines {
		if e.Kind == journal.Taping {
			recording, begun, open, gaps = e.Data["recording"], e.At, "", nil
			continue
		}
		if recording == nil || e.Data["recording"] != recording {
			continue
		}
		reason, _ := e.Data["reason"].(string)
		switch e.Kind {
		case journal.Gap, journal.GapEnd, journal.Taped:
			if open != "" {
				last := &gaps[len(gaps)-1]
				last.ForMS = at(e) - last.FromMS
			}
			if open == reason { // told again
				continue
			}
			if open = reason; open != "" {
				gaps = append(gaps, TalkGap{FromMS: at(e), Reason: open})
			}
		}
	}
	return gaps
}
