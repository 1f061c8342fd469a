package queue

import "testing"

// TestNodesLiveByTheirBeats: a node lives while its beats are seen to change, by
// our clock; when we cannot look ourselves, everybody stays as they were.
func TestNodesLiveByTheirBeats(t *testing.T) {
	d := newDesk(t)
	south := deskOn(t, d.db, "south")
	d.ok(d.Announce(background, Node{SIP: "192.0.2.1:5060"}, after(0)))
	lives := func(want bool) {
		t.Helper()
		n, got := d.Node("south")
		if got != want || want && (n.SIP != "192.0.2.2:5060" || n.HTTP != "192.0.2.2:5080" || n.Pin != "aa") {
			t.Fatalf("south lives: %v, %+v", got, n)
		}
	}
	lives(false)
	// Its clock is an hour slow.
	d.ok(south.Announce(background, Node{SIP: "192.0.2.2:5060", HTTP: "192.0.2.2:5080", Pin: "aa"}, after(-3600)))
	d.ok(d.beat(background, after(1)))
	lives(true)
	d.ok(d.beat(background, after(1+silentAfter.Seconds()-0.1)))
	lives(true)
	d.ok(d.beat(background, after(1+silentAfter.Seconds())))
	lives(false)
	d.ok(south.beat(background, after(-3599)))
	d.ok(d.beat(background, after(100)))
	lives(true)
	if list := d.Nodes(); len(list) != 2 || list[0].ID != "north" || list[0].SIP != "192.0.2.1:5060" {
		t.Fatalf("%+v", list)
	}
}
