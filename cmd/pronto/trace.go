package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pronto-desk/pronto/db"
	"github.com/pronto-desk/pronto/sip"
	"github.com/pronto-desk/pronto/tickets"
)

type traceCommand struct {
	common
	Call string `arg:"" help:"Number of the contact, or a Call-ID of any way of the call."`
	Full bool   `help:"The messages too: their headers, and descriptions without keys."`
}

// Run draws the ladder.
func (c traceCommand) Run(ctx context.Context) error {
	if c.Call == "" {
		return fmt.Errorf("%w: name a contact or a Call-ID", errConfig)
	}
	s, err := c.settings()
	if err != nil {
		return err
	}
	return reachDatabase(ctx, s, func(d *db.DB) error {
		callID, at := c.Call, time.Time{}
		contact, err := contactFor(ctx, tickets.NewBook(d, "", nil, nil), c.Call)
		if err != nil {
			return err
		}
		if contact != nil {
			callID, at = contact.CallID, contact.T0
		}
		traces, err := sip.NewTraces(d, nil).Of(ctx, callID, at)
		if err != nil {
			return err
		}
		if len(traces) == 0 {
			return fmt.Errorf("nothing is kept of %s: traces are kept for sip.trace_days, from some seconds after a call has ended", c.Call)
		}
		for i, t := range traces {
			if i > 0 {
				fmt.Println()
			}
			draw(os.Stdout, t, c.Full)
		}
		if contact != nil {
			sounded(os.Stdout, contact.Legs)
		}
		return nil
	})
}

// contactFor is the contact of an id, or of the Call-ID of its own way; nil: there is
// none, as of a telephone's way.
func contactFor(ctx context.Context, book *tickets.Book, call string) (*tickets.Record, error) {
	if id, err := uuid.Parse(call); err == nil {
		contact, err := book.ContactAlone(ctx, id)
		if !errors.Is(err, tickets.ErrNotFound) { // a Call-ID may look like one
			return contact, err
		}
	}
	list, err := book.Contacts(ctx, tickets.ContactFilter{CallID: call, Limit: 1})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// sounded writes how each leg sounded, both ways, once it has ended.
func sounded(w io.Writer, legs []tickets.Leg) {
	if len(legs) == 0 {
		return
	}
	const row = "%10s  %-9s %9s %8s %8s %11s %5s\n"
	fmt.Fprintf(w, "\n"+row, "leg", "way", "packets", "lost", "jitter", "round trip", "MOS")
	for _, leg := range legs {
		for _, d := range []struct {
			way string
			q   *tickets.Direction
		}{{"received", leg.Heard}, {"sent", leg.Reached}} {
			if d.q == nil {
				continue
			}
			trip := "-"
			if d.q.TripMS > 0 {
				trip = fmt.Sprint(d.q.TripMS, " ms")
			}
			fmt.Fprintf(w, row, leg.Who, d.way, fmt.Sprint(d.q.Packets), fmt.Sprintf("%.2f %%", 100*d.q.Lost), fmt.Sprint(d.q.JitterMS, " ms"), trip, fmt.Sprintf("%.2f", d.q.MOS))
		}
	}
}

// ladderWidth is the columns between two sides of a ladder: a request line or a
// status with its phrase fit.
const ladderWidth = 34

// draw writes a trace as a ladder: the carrier on the left, this node in the
// middle, the telephones on the right. An INVITE of another node comes from the left.
func draw(w io.Writer, t sip.Trace, full bool) {
	fmt.Fprintf(w, "%s, node %s, %d messages in %s\n", t.Begun.Format("2006-01-02 15:04:05.000 MST"), t.Node, len(t.Messages), t.Ended.Sub(t.Begun).Round(time.Millisecond))
	left := make([]bool, len(t.Ways))
	for i, way := range t.Ways {
		left[i] = way.End == sip.EndCarrier || way.End == sip.EndNode && i == 0
		fmt.Fprintf(w, "  %d  %s %s, %s %s, Call-ID %s\n", i+1, way.End, way.Name, way.Network, way.Remote, way.CallID)
	}
	if t.Left > 0 {
		fmt.Fprintf(w, "  messages in the middle of the call that were not kept: %d\n", t.Left)
	}
	gap := strings.Repeat(" ", ladderWidth)
	fmt.Fprintf(w, "\n%10s  carrier%s pronto%s telephone\n", "seconds", gap[7:], gap[6:])
	for _, m := range t.Messages {
		if m.Way < 0 || m.Way >= len(t.Ways) {
			continue // a file of a later version
		}
		// What is left of pronto goes right when it comes in; on its other side, when it goes out.
		arrow := arrowOf(what(m), left[m.Way] != m.Out)
		line := "|" + arrow + "|" + gap + "|"
		if !left[m.Way] {
			line = "|" + gap + "|" + arrow + "|"
		}
		fmt.Fprintf(w, "%10.3f  %s %d\n", m.At.Sub(t.Begun).Seconds(), line, m.Way+1)
		if full {
			details(w, m)
		}
	}
}

// what is the words of an arrow.
func what(m sip.Signal) string {
	text := m.First
	if status, ok := strings.CutPrefix(text, "SIP/2.0 "); ok {
		text = status
	} else {
		text, _, _ = strings.Cut(text, " ")
	}
	for _, line := range m.Body {
		if strings.HasPrefix(line, "m=") || strings.HasPrefix(line, "SIP/2.0 ") {
			text += " (" + map[bool]string{true: "SDP", false: strings.TrimPrefix(line, "SIP/2.0 ")}[line[0] == 'm'] + ")"
			break
		}
	}
	if m.Again > 0 {
		text += fmt.Sprintf(" +%d", m.Again)
	}
	return text
}

// arrowOf draws an arrow with words, ladderWidth wide.
func arrowOf(text string, right bool) string {
	const least = len("-- ") + len(" ->")
	if room := ladderWidth - least; len(text) > room {
		text = text[:room-1] + "~"
	}
	rest := strings.Repeat("-", ladderWidth-least-len(text))
	if right {
		return "-- " + text + " " + rest + "->"
	}
	return "<- " + text + " " + rest + "--"
}

func details(w io.Writer, m sip.Signal) {
	fmt.Fprintf(w, "            %s\n", m.First)
	for _, line := range m.Headers {
		fmt.Fprintf(w, "            %s\n", line)
	}
	if len(m.Body) > 0 {
		fmt.Fprintln(w)
	}
	for _, line := range m.Body {
		fmt.Fprintf(w, "            %s\n", line)
	}
	if m.Cut {
		fmt.Fprintln(w, "            (it was longer)")
	}
	fmt.Fprintln(w)
}
