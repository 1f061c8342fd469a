package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/pronto-desk/pronto/queue"
)

// tab is a page as its script sees the socket: it follows epoch, seq and
// prev, and asks for a snapshot when it finds a gap.
type tab struct {
	t     testing.TB
	d     *desk
	who   *person
	conn  *websocket.Conn
	epoch string
	seq   uint64
}

// fromServer is any message of the server.
type fromServer struct {
	Type   string          `json:"type"`
	Epoch  string          `json:"epoch"`
	Seq    uint64          `json:"seq"`
	Prev   uint64          `json:"prev"`
	Kind   string          `json:"kind"`
	Data   json.RawMessage `json:"data"`
	At     *time.Time      `json:"at"`
	Away   bool            `json:"away"`
	Detail string          `json:"detail"`
	State  *struct {
		Me           map[string]any `json:"me"`
		Seat         *seatView      `json:"seat"`
		Operators    []seatView     `json:"operators"`
		Waiting      []waitingView  `json:"waiting"`
		Pop          *popView       `json:"pop"`
		MessagesNew  *int           `json:"messages_new"`
		RingbacksDue *int           `json:"ringbacks_due"`
		Emergency    emergencyView  `json:"emergency"`
		Now          *time.Time     `json:"now"`
	} `json:"state"`
}

// dial opens a socket; the status is 101 when it is open.
func (p *person) dial(header http.Header) (*websocket.Conn, int) {
	p.d.t.Helper()
	if header == nil {
		header = http.Header{}
	}
	if p.cookie != "" {
		header.Set("Cookie", p.d.sessions.Cookie.Name+"="+p.cookie)
	}
	if p.token != "" {
		header.Set("Authorization", "Bearer "+p.token)
	}
	dialer := websocket.Dialer{HandshakeTimeout: testWait}
	conn, resp, err := dialer.DialContext(p.d.t.Context(), "ws"+strings.TrimPrefix(p.d.http.URL, "http")+"/api/v1/socket", header)
	if err != nil && !errors.Is(err, websocket.ErrBadHandshake) {
		p.d.t.Fatal(err)
	}
	return conn, resp.StatusCode
}

func (p *person) origin() http.Header { return http.Header{"Origin": {p.d.http.URL}} }

// open opens a page: connected, greeted, with its first answer.
func (p *person) open() (*tab, fromServer) {
	p.d.t.Helper()
	c := &tab{t: p.d.t, d: p.d, who: p}
	return c, c.connect()
}

func (c *tab) connect() fromServer {
	c.t.Helper()
	conn, status := c.who.dial(c.who.origin())
	if status != http.StatusSwitchingProtocols {
		c.t.Fatalf("the socket was refused: %d", status)
	}
	c.conn = conn
	c.t.Cleanup(func() { _ = conn.Close() })
	c.say(fmt.Sprintf(`{"type":"hello","epoch":%q,"seq":%d}`, c.epoch, c.seq))
	first := c.hear()
	if first.Type == "snapshot" || first.Type == "resumed" {
		c.epoch, c.seq = first.Epoch, first.Seq
	}
	return first
}

func (c *tab) say(message string) {
	c.t.Helper()
	must(c.t, c.conn.WriteMessage(websocket.TextMessage, []byte(message)))
}

// hear is the next message that is no tick.
func (c *tab) hear() fromServer {
	c.t.Helper()
	m, err := c.listen()
	must(c.t, err)
	return m
}

func (c *tab) listen() (fromServer, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(testWait)) // ticks do not prolong it
	for {
		_, raw, err := c.conn.ReadMessage()
		if err != nil {
			return fromServer{}, err
		}
		var m fromServer
		if err := json.Unmarshal(raw, &m); err != nil {
			return m, fmt.Errorf("not JSON: %w: %.200s", err, raw)
		}
		if m.Type != "tick" {
			return m, nil
		}
	}
}

// event is the next event of one of these kinds; every event on the way must
// follow the one before it.
func (c *tab) event(kinds ...string) fromServer {
	c.t.Helper()
	for {
		m := c.hear()
		if m.Type != "event" {
			c.t.Fatalf("waiting for %v, heard %+v", kinds, m)
		}
		if m.Prev != c.seq || m.Seq <= m.Prev {
			c.t.Fatalf("after %d comes event %d with prev %d", c.seq, m.Seq, m.Prev)
		}
		c.seq = m.Seq
		for _, kind := range kinds {
			if m.Kind == kind {
				return m
			}
		}
	}
}

// closed is the code with which the server ended the connection.
func (c *tab) closed() int {
	c.t.Helper()
	for {
		_, err := c.listen()
		if end := (*websocket.CloseError)(nil); errors.As(err, &end) {
			return end.Code
		}
		if err != nil {
			c.t.Fatalf("the connection broke instead of being closed: %v", err)
		}
	}
}

func TestSocketBeginsWithTheWholeState(t *testing.T) {
	d := newDesk(t)
	d.rings("+390551234567")
	_, first := d.browser("anna").open()
	s := first.State
	if first.Type != "snapshot" || first.Epoch == "" || s == nil {
		t.Fatalf("heard %+v", first)
	}
	if s.Me["name"] != "anna" || s.Seat == nil || s.Seat.Operator != "anna" || s.Seat.Declared != queue.Off || s.Pop != nil || s.Now == nil || !s.Now.Equal(noon) {
		t.Errorf("the state of anna is %+v, seat %+v", s, s.Seat)
	}
	if len(s.Operators) != 2 || s.Operators[1].Operator != "bruno" || !s.Operators[1].CanRing {
		t.Errorf("the operators are %+v", s.Operators)
	}
	if len(s.Waiting) != 1 || s.Waiting[0].Name != "Mario Rossi" || s.Waiting[0].Caller != "+390551234567" ||
		s.Waiting[0].Topic == nil || s.Waiting[0].Topic.Code != "software" || s.Waiting[0].Urgency != 1 || s.Waiting[0].State != "waiting" {
		t.Errorf("waiting are %+v", s.Waiting)
	}
	if s.MessagesNew == nil || s.RingbacksDue == nil {
		t.Errorf("the counts are missing")
	}
	over := d.browser("anna").get("/api/v1/snapshot").want(t, http.StatusOK)
	if !strings.Contains(over.body, `"waiting":[{`) || strings.Contains(over.body, "null,null") {
		t.Errorf("the same over HTTP: %s", over.body)
	}
	if _, first := d.browser("carla").open(); first.State.Seat != nil && first.State.Seat.Operator != "carla" {
		t.Errorf("a supervisor's seat is %+v", first.State.Seat)
	}
}

func TestSocketTellsWhatIsDeclared(t *testing.T) {
	d := newDesk(t)
	bruno, _ := d.browser("bruno").open()
	d.bearer("anna").ask(http.MethodPut, "/api/v1/operators/anna/state", map[string]string{"declared": "break", "reason": "Pranzo"}).want(t, http.StatusOK)
	seat := decoded[seatView](t, string(bruno.event("seat").Data))
	if seat.Operator != "anna" || seat.Declared != queue.Break || seat.Reason != "Pranzo" || seat.Doing != queue.Idle {
		t.Errorf("bruno is told %+v", seat)
	}
}

func TestSocketIsForOurOwnPages(t *testing.T) {
	d := newDesk(t)
	anna, token, stranger := d.browser("anna"), d.bearer("anna"), &person{d: d}
	for name, c := range map[string]struct {
		who    *person
		header http.Header
		want   int
	}{
		"our page":                  {anna, anna.origin(), http.StatusSwitchingProtocols},
		"a token, no browser":       {token, nil, http.StatusSwitchingProtocols},
		"nobody":                    {stranger, stranger.origin(), http.StatusUnauthorized},
		"another site":              {anna, http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		"another port":              {anna, http.Header{"Origin": {"http://127.0.0.1:1"}}, http.StatusForbidden},
		"no origin":                 {anna, nil, http.StatusForbidden},
		"a hidden origin":           {anna, http.Header{"Origin": {"null"}}, http.StatusForbidden},
		"another site with a token": {token, http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
	} {
		conn, status := c.who.dial(c.header)
		if status != c.want {
			t.Errorf("%s: %d, want %d", name, status, c.want)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
	if got := anna.get("/api/v1/socket"); got.StatusCode != http.StatusForbidden { // no Origin
		t.Errorf("a plain GET gets %d", got.StatusCode)
	}
	anna.header.Set("Origin", d.http.URL)
	anna.get("/api/v1/socket").problem(t, http.StatusBadRequest)
}

func TestPagesThatMisbehaveAreCut(t *testing.T) {
	d := newDesk(t)
	for name, c := range map[string]struct {
		say  []string
		code int
	}{
		"no hello":         {[]string{`{"type":"snapshot"}`}, websocket.ClosePolicyViolation},
		"no JSON":          {[]string{`hello`}, websocket.ClosePolicyViolation},
		"an unknown type":  {[]string{`{"type":"hello"}`, `{"type":"sing"}`}, websocket.ClosePolicyViolation},
		"two at once":      {[]string{`{"type":"hello"}{"type":"hello"}`}, websocket.ClosePolicyViolation},
		"a painted nobody": {[]string{`{"type":"hello"}`, `{"type":"painted","offer":"1"}`}, websocket.ClosePolicyViolation},
		"too long":         {[]string{`{"type":"hello","epoch":"` + strings.Repeat("x", maxClientMsg) + `"}`}, websocket.CloseMessageTooBig},
		"too much":         {many(clientBurst+20, `{"type":"hello"}`), websocket.ClosePolicyViolation},
	} {
		t.Run(name, func(t *testing.T) {
			anna := d.browser("anna")
			conn, _ := anna.dial(anna.origin())
			c2 := &tab{t: t, d: d, who: anna, conn: conn}
			for _, m := range c.say {
				if err := conn.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
					break // cut already
				}
			}
			for {
				_, err := c2.listen()
				if err == nil {
					continue
				}
				end := (*websocket.CloseError)(nil)
				switch timeout := net.Error(nil); {
				case errors.As(err, &end) && end.Code != c.code:
					t.Errorf("closed with %d, want %d", end.Code, c.code)
				case end == nil && errors.As(err, &timeout) && timeout.Timeout():
					t.Errorf("not cut")
				case end == nil && name != "too much": // a flood may be reset before its close frame is read
					t.Errorf("broken, not closed: %v", err)
				}
				break
			}
		})
	}
	if _, first := d.browser("anna").open(); first.Type != "snapshot" {
		t.Errorf("after all that a good page hears %+v", first)
	}
}

func many(n int, s string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// TestResumeLosesNothing cuts a page's connection again and again while 500
// events are told: after each cut it resumes, and in the end it has seen each
// event that was for it once, in order.
func TestResumeLosesNothing(t *testing.T) {
	const events, cuts = 500, 9
	d := newDesk(t)
	anna, first := d.browser("anna").open()
	if first.Type != "snapshot" {
		t.Fatalf("heard %+v", first)
	}
	me, other := d.user("anna").ID, d.user("bruno").ID
	ahead := make(chan struct{}, 40) // how far the events are before the page: some are told while it is cut off
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := range events {
			ahead <- struct{}{}
			if err := d.hub.publish([]int64{0, me, other}[i%3], "probe", i); err != nil {
				t.Error(err)
			}
		}
	}()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	cutAfter := map[int]bool{}
	for len(cutAfter) < cuts {
		cutAfter[1+random.IntN(events/2)] = true
	}
	seen, resumed := 0, 0
	for want := range events {
		<-ahead
		if want%3 == 2 {
			continue // bruno's
		}
		m := anna.hear()
		if m.Type != "event" || m.Prev != anna.seq {
			t.Fatalf("after %d comes %s %d with prev %d", anna.seq, m.Type, m.Seq, m.Prev)
		}
		anna.seq = m.Seq
		var got int
		must(t, json.Unmarshal(m.Data, &got))
		if got != want {
			t.Fatalf("event %d instead of %d", got, want)
		}
		if seen++; cutAfter[seen] {
			_ = anna.conn.NetConn().Close() // with what it has read ahead
			if m := anna.connect(); m.Type != "resumed" {
				t.Fatalf("instead of resuming, heard %s", m.Type)
			}
			resumed++
		}
	}
	<-published
	if seen != events-events/3 || resumed != cuts {
		t.Errorf("saw %d events over %d connections", seen, resumed+1)
	}
}

func TestResumeThatIsImpossibleIsASnapshot(t *testing.T) {
	d := newDesk(t)
	anna, first := d.browser("anna").open()
	for i := range ringEvents + 1 {
		must(t, d.hub.publish(d.user("bruno").ID, "probe", i))
	}
	_ = anna.conn.Close()
	anna.seq = first.Seq
	if again := anna.connect(); again.Type != "snapshot" || again.Seq != first.Seq+ringEvents+1 {
		t.Errorf("after more events than are kept: %s %d", again.Type, again.Seq)
	}
	for epoch, seq := range map[string]uint64{uuid.NewString(): anna.seq, "": 0, anna.epoch: anna.seq + 1} {
		_ = anna.conn.Close()
		anna.epoch, anna.seq = epoch, seq
		if again := anna.connect(); again.Type != "snapshot" {
			t.Errorf("epoch %q seq %d: %s", epoch, seq, again.Type)
		}
	}
	_ = anna.conn.Close()
	if again := anna.connect(); again.Type != "resumed" {
		t.Errorf("with nothing missed: %s", again.Type)
	}
}

// TestTheJournalRestsWhileNobodyLooks: it is read for pages. Who comes when it has not
// been read for a while gets the state as it stands, and hears what follows.
func TestTheJournalRestsWhileNobodyLooks(t *testing.T) {
	d := newDesk(t)
	rests := func() bool {
		select {
		case <-d.hub.followed():
			return false
		default:
			return true
		}
	}
	bruno := d.user("bruno").ID
	declares := func(what string) { must(t, d.Queue.Declare(t.Context(), bruno, what, "", d.now())) }
	shown := func(operators []seatView) string {
		for _, seat := range operators {
			if seat.Operator == "bruno" {
				return string(seat.Declared)
			}
		}
		return ""
	}
	declares("break")
	if !rests() {
		t.Fatal("it is read although no page was ever open")
	}
	anna, first := d.browser("anna").open()
	for range 2 {
		if first.Type != "snapshot" || shown(first.State.Operators) != "break" {
			t.Fatalf("the page hears %s: %+v", first.Type, first.State)
		}
		declares("available")
		for decoded[seatView](t, string(anna.event("seat").Data)).Declared != queue.Available {
		}
		_ = anna.conn.Close()
		for began := time.Now(); !rests(); d.DB.Wakeups.Wake("journal") { // until it has noticed that the page has gone
			d.hub.mu.Lock()
			d.hub.left = d.hub.left.Add(-restAfter)
			anna.seq = d.hub.seq // the page has seen everything
			d.hub.mu.Unlock()
			if time.Since(began) > testWait {
				t.Fatal("it is read although nobody looks")
			}
			one[bool](d, `select true`)
		}
		declares("break")
		first = anna.connect() // and would resume
	}
}

func TestWhatIsLostShowsAsAGap(t *testing.T) {
	d := newDesk(t)
	anna, _ := d.browser("anna").open()
	d.hub.lose()
	must(t, d.hub.publish(0, "probe", 1))
	m := anna.hear()
	if m.Type != "event" || m.Prev == anna.seq {
		t.Fatalf("after a loss: %+v, the page is at %d", m, anna.seq)
	}
	anna.say(`{"type":"snapshot"}`)
	m = anna.hear()
	if m.Type != "snapshot" || m.State == nil {
		t.Fatalf("heard %+v", m)
	}
	anna.seq = m.Seq
	must(t, d.hub.publish(0, "probe", 2))
	anna.event("probe")
}

func TestASlowPageIsCutAndTheOthersAreNot(t *testing.T) {
	d := newDesk(t)
	slow, _ := d.browser("anna").open()
	quick, _ := d.browser("bruno").open()
	big := strings.Repeat("x", 64<<10)
	const events = 3 * maxQueued // 96 MB: no socket buffer takes that
	heard := make(chan error, events)
	go func() {
		for range events {
			m, err := quick.listen()
			if err == nil && (m.Type != "event" || m.Prev != quick.seq) {
				err = fmt.Errorf("after %d: %s %d", quick.seq, m.Type, m.Prev)
			}
			quick.seq = m.Seq
			if heard <- err; err != nil {
				return
			}
		}
	}()
	for i := range events {
		if i >= maxQueued/2 { // bruno is a page that reads: he is never further behind
			must(t, <-heard)
		}
		must(t, d.hub.publish(0, "probe", big))
	}
	for range maxQueued / 2 {
		must(t, <-heard)
	}
	for got := 0; ; got++ {
		if _, err := slow.listen(); err != nil {
			break
		}
		if got == events-1 {
			t.Fatal("a page that read nothing is sent everything in the end")
		}
	}
	if again := slow.connect(); again.Type != "snapshot" { // the ring holds 8 MB
		t.Errorf("the slow page comes back to %s", again.Type)
	}
}

func TestSocketsEndWithTheirSession(t *testing.T) {
	d := newDesk(t)
	anna, bruno, carla := d.browser("anna"), d.browser("bruno"), d.browser("carla")
	first, _ := anna.open()
	second, _ := bruno.open()
	third, _ := carla.open()
	anna.ask(http.MethodPost, "/signout", nil).want(t, http.StatusSeeOther)
	if code := first.closed(); code != 4401 {
		t.Errorf("after signing out: %d", code)
	}
	must(t, d.users.SetPassword(t.Context(), "bruno", "un'altra parola"))
	d.recheck(t.Context(), 0)
	if code := second.closed(); code != 4401 {
		t.Errorf("after a new password: %d", code)
	}
	d.stop()
	if code := third.closed(); code != websocket.CloseServiceRestart {
		t.Errorf("at the server's end: %d", code)
	}
}

func TestOnePersonHasSoManyPages(t *testing.T) {
	d := newDesk(t)
	anna := d.browser("anna")
	for range maxPages {
		anna.open()
	}
	if n := d.Pages(d.user("anna").ID); n != maxPages {
		t.Errorf("%d pages are counted", n)
	}
	conn, _ := anna.dial(anna.origin())
	c := &tab{t: t, d: d, conn: conn}
	if code := c.closed(); code != websocket.CloseTryAgainLater {
		t.Errorf("one more page is closed with %d", code)
	}
	d.browser("bruno").open()
}

func FuzzParseClient(f *testing.F) {
	for _, seed := range []string{
		`{"type":"hello","epoch":"","seq":0}`, `{"type":"hello","epoch":"x","seq":18446744073709551615}`, `{"type":"snapshot"}`,
		`{"type":"painted","offer":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}`, `{"type":"painted"}`, `[]`, `{"type":1}`, `{"seq":-1}`, "\x00", `{"type":"hello"} x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseClient(raw)
		if err != nil {
			if m != (clientMessage{}) {
				t.Fatalf("a refused message gives %+v", m)
			}
			return
		}
		switch m.Type {
		case "hello", "snapshot":
		case "painted":
			if m.Offer == uuid.Nil {
				t.Fatal("a pop of no offer is painted")
			}
		default:
			t.Fatalf("type %q is taken", m.Type)
		}
		if len(m.Epoch) > maxEpoch && m.Type == "hello" {
			t.Fatalf("an epoch of %d bytes is taken", len(m.Epoch))
		}
	})
}
