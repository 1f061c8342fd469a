package sip

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/db/dbtest"
)

// TestTraces: what is kept is written together, found by any of its Call-IDs, also
// on another node, and deleted after its time.
func TestTraces(t *testing.T) {
	d, ctx := dbtest.New(t), t.Context()
	kept := NewTraces(d, slog.Default())
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	trace := func(node string, at time.Time, calls ...string) Trace {
		one := Trace{Node: node, Begun: at, Ended: at.Add(time.Minute), Messages: []Signal{{At: at, First: "INVITE sip:* SIP/2.0", Headers: []string{"X: \" \\ \u00e0"}, Body: []string{}}}}
		for _, c := range calls {
			one.Ways = append(one.Ways, Way{CallID: c, End: EndCarrier})
			one.calls = append(one.calls, traceKey(c))
		}
		return one
	}
	kept.Keep(trace("north", at, "a@x", "to-south"))
	kept.Keep(trace("south", at, "to-south", "phone"))
	kept.Keep(trace("north", at.Add(time.Hour), "a@x")) // the same Call-ID again, of another call
	kept.Keep(trace("north", at, "it's\x00\xff"))
	for i := range tracesTogether {
		kept.Keep(trace("north", at.AddDate(0, 0, -20), fmt.Sprint("old", i)))
	}
	kept.Flush(ctx)
	for _, c := range []struct {
		call string
		at   time.Time
		want int
	}{
		{"a@x", at, 2}, {"a@x", at.Add(time.Hour), 1}, {"a@x", time.Time{}, 3}, {"phone", time.Time{}, 3}, {"it's\x00\xff", at, 1}, {"nobody", time.Time{}, 0}, {"old0", time.Time{}, 1},
	} {
		list, err := kept.Of(ctx, c.call, c.at)
		if err != nil || len(list) != c.want || list == nil {
			t.Errorf("of %q: %d traces, %v; want %d", c.call, len(list), err, c.want)
		}
	}
	list, err := kept.Of(ctx, "a@x", at)
	if err != nil || len(list) != 2 || len(list[0].Messages) != 1 || list[0].Messages[0].Headers[0] != "X: \" \\ \u00e0" || !list[0].Begun.Equal(at) {
		t.Errorf("read back: %+v, %v", list, err)
	}
	if err := kept.Tidy(ctx, at.AddDate(0, 0, -14)); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := d.Pool.QueryRow(ctx, `select count(*) from traces`).Scan(&left); err != nil || left != 4 {
		t.Errorf("%d are left, %v", left, err)
	}
}

// TestTraceJSON: a trace is written as json.Marshal would, which leaves nothing out.
func TestTraceJSON(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 0, 0, 120_000_000, time.FixedZone("", 3600))
	lines := []string{"", "a", `From: "*" <sip:*@x>;a=\b & c`, "\u00e0 <\u2028>", "\x00\x1f\n\x7f", "\xff\"", `"`, `\`, "...\""}
	for i, one := range []Trace{
		{Ways: []Way{}, Messages: []Signal{}},
		{Node: "nord \u00e0", Begun: at, Ended: at.UTC(), Left: -3, Ways: []Way{{"a", "b", "c", "d", "e"}, {"<", ">", "&", "\"", "\\"}},
			Messages: []Signal{{At: at, Way: 7, Out: true, First: "x", Headers: lines, Body: []string{}, Again: 12}, {Headers: []string{}, Body: lines, Cut: true}}},
	} {
		var want, got bytes.Buffer
		text, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		json.HTMLEscape(&got, one.appendJSON(nil))
		if want.Write(text); got.String() != want.String() {
			t.Errorf("%d: it writes\n%s, want\n%s", i, &got, &want)
		}
	}
}

// BenchmarkTraceJSON is what it costs to write down the signalling of an ordinary call.
func BenchmarkTraceJSON(b *testing.B) {
	one := new(Agent).masked(benchLadder())
	b.ReportAllocs()
	for b.Loop() {
		one.appendJSON(make([]byte, 0, traceUsual))
	}
}

// TestTracesLoseNoMoreThanTheyMust: with nobody to write them, Keep waits for
// nothing, and says afterwards how many there were.
func TestTracesLoseNoMoreThanTheyMust(t *testing.T) {
	kept := NewTraces(nil, slog.Default())
	for range tracesPending + 7 {
		kept.Keep(Trace{})
	}
	if n := kept.lost.Load(); n != 7 {
		t.Errorf("%d were lost", n)
	}
}
