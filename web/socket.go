package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/pronto-desk/pronto/db"
)

const (
	tickEvery     = 5 * time.Second  // without two of them the page's light turns
	pingEvery     = 15 * time.Second // RFC 6455 §5.5.2
	silentLongest = 40 * time.Second // two pings and some grace without any answer: the page is gone
	writeLongest  = 10 * time.Second // one message into a connection that nobody reads
	byeLongest    = time.Second      // for the last frame
	helloLongest  = 10 * time.Second // for the first message
	maxClientMsg  = 4 << 10          // bytes: a hello has a hundred
	maxQueued     = 512              // events that wait for a slow page
	commandWork   = 2 * time.Second  // for what a message of the page asks
	snapshotWork  = 5 * time.Second  // to read a whole state
	snapshotRetry = time.Second      // while the database is away
	clientBurst   = 30               // messages in a burst; one more per second
	recheckEvery  = time.Minute      // sessions of open sockets are looked up so often
)

// ending of a connection, as the page reads it (RFC 6455 §7.4).
type closing struct {
	code int
	text string
}

var (
	closeStopping  = closing{websocket.CloseServiceRestart, "stopping"}
	closeSlow      = closing{websocket.CloseTryAgainLater, "too slow: resume"}
	closeSignedOut = closing{4401, "signed out"}
	closeBad       = closing{websocket.ClosePolicyViolation, "bad message"}
	closeSilent    = closing{websocket.CloseNormalClosure, ""}
)

// clientMessage is what a page may send.
type clientMessage struct {
	Type  string    `json:"type"`  // hello, snapshot, painted
	Epoch string    `json:"epoch"` // of hello
	Seq   uint64    `json:"seq"`   // of hello
	Offer uuid.UUID `json:"offer"` // of painted
}

const maxEpoch = 64 // bytes; ours have 36

var errBadMessage = errors.New("a page sent an unusable message")

// parseClient reads one message of a page. Unknown fields are let pass, so that
// an older server keeps a newer page; unknown types are not.
func parseClient(raw []byte) (m clientMessage, err error) {
	if len(raw) > maxClientMsg {
		return clientMessage{}, errBadMessage
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&m); err != nil {
		return clientMessage{}, errBadMessage
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return clientMessage{}, errBadMessage
	}
	switch {
	case m.Type == "hello" && len(m.Epoch) <= maxEpoch, m.Type == "snapshot":
	case m.Type == "painted" && m.Offer != uuid.Nil:
	default:
		return clientMessage{}, errBadMessage
	}
	return m, nil
}

// socket is one page's connection. One goroutine reads, one writes, and while
// a snapshot is asked for a third makes it.
type socket struct {
	server  *Server
	user    User
	session string // "" when it came with a bearer token
	conn    *websocket.Conn
	log     *slog.Logger

	mu       sync.Mutex // guards all below; never held while writing
	fed      bool       // the page has said hello: events are kept for it
	held     bool       // a snapshot is on its way: events wait
	building bool       // somebody makes that snapshot
	first    [][]byte   // to be written before queue
	queue    []*event
	last     uint64 // seq of the last event put on the way
	floor    uint64 // what came up to this seq is partly lost
	ended    bool   // nothing more is written but the end
	end      closing

	wake chan struct{} // something is to be written
	done chan struct{} // closed when the connection is to end
	once sync.Once
}

// offer gives the socket an event; a page too slow for its buffer is cut.
// Called with the hub's lock.
func (s *socket) offer(e *event) {
	s.mu.Lock()
	if !s.fed {
		s.mu.Unlock()
		return
	}
	slow := len(s.queue) >= maxQueued
	if !slow {
		s.queue = append(s.queue, e)
	}
	s.mu.Unlock()
	if slow {
		s.cut(closeSlow)
		return
	}
	s.stir()
}

func (s *socket) stir() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look already
	}
}

// cut ends the connection, once. It does not wait for the page.
func (s *socket) cut(why closing) {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended, s.end = true, why
		close(s.done)
		last := time.Now().Add(byeLongest)
		if why == closeSlow {
			last = time.Unix(1, 0) // the past: the writer is stuck already
		}
		_ = s.conn.NetConn().SetWriteDeadline(last)
	})
}

// skipTo makes the next event show a gap.
func (s *socket) skipTo(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.floor = seq, seq
}

func (s *socket) resumeWith(epoch string, seq uint64, missed []*event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = append(s.first, fmt.Appendf(nil, `{"type":"resumed","epoch":%q,"seq":%d}`, epoch, seq))
	for _, e := range missed {
		s.first = append(s.first, e.message(seq))
		seq = e.seq
	}
	s.fed, s.held, s.queue, s.last = true, false, nil, seq
	s.stir()
}

func (s *socket) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fed, s.held, s.queue = true, true, nil
}

func (s *socket) say(message []byte) {
	s.mu.Lock()
	s.first = append(s.first, message)
	s.mu.Unlock()
	s.stir()
}

// release puts a snapshot on the way, and behind it the events since its seq.
func (s *socket) release(snapshot []byte, seq uint64) {
	s.mu.Lock()
	s.first = append(s.first, snapshot)
	s.last, s.held = max(seq, s.floor), false // below the floor: the next event shows the gap
	s.mu.Unlock()
	s.stir()
}

// take is what is to be written now.
func (s *socket) take() (messages [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, s.first = s.first, nil
	if s.held {
		return messages
	}
	for _, e := range s.queue {
		messages = append(messages, e.message(s.last))
		s.last = e.seq
	}
	s.queue = nil
	return messages
}

// getSocket opens a page's connection and keeps it until it ends.
func (s *Server) getSocket(w http.ResponseWriter, r *http.Request) {
	authCtx, cancel := context.WithTimeout(r.Context(), sessionQuery)
	who, err := s.identify(r.WithContext(authCtx))
	cancel()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if !s.sameOrigin(r, who.bearer) {
		writeProblem(w, errCrossing)
		return
	}
	page := &socket{
		server: s, user: who.User, session: who.session, log: s.Log.With("user", who.ID),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	upgrader := websocket.Upgrader{
		HandshakeTimeout: helloLongest,
		CheckOrigin:      func(*http.Request) bool { return true }, // done above, with an answer of ours
		Error: func(w http.ResponseWriter, _ *http.Request, status int, _ error) {
			writeProblem(w, problemf(status, "Qui si apre solo un websocket."))
		},
	}
	if page.conn, err = upgrader.Upgrade(w, r, nil); err != nil {
		return // answered by Error, or the client is gone
	}
	if !s.hub.enter(page) {
		_ = page.conn.WriteControl(websocket.CloseMessage,
			websocket.FormatCloseMessage(websocket.CloseTryAgainLater, "too many pages"), time.Now().Add(writeLongest))
		_ = page.conn.Close()
		return
	}
	defer s.hub.leave(page)
	page.run(context.WithoutCancel(r.Context()))
}

// sameOrigin holds sockets to our own pages: cookies are sent with a socket of
// any site, and no other rule of browsers protects it (RFC 6455 §10.2).
func (s *Server) sameOrigin(r *http.Request, bearer bool) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return bearer // not a browser: a cookie is not enough
	}
	from, err := url.Parse(origin)
	if err != nil || from.Host == "" {
		return false
	}
	if strings.EqualFold(from.Host, r.Host) {
		return true
	}
	public, err := url.Parse(s.PublicURL)
	return err == nil && public.Host != "" && public.Scheme == from.Scheme && strings.EqualFold(from.Host, public.Host)
}

// run serves the page until it leaves, is cut, or the server stops.
func (s *socket) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() {
		s.write()
		_ = s.conn.Close() // ends the reader
	})
	s.read(ctx, &helpers)
	s.cut(closeSilent)
	cancel()
	helpers.Wait()
}

func (s *socket) write() {
	tick, ping := time.NewTicker(tickEvery), time.NewTicker(pingEvery)
	defer tick.Stop()
	defer ping.Stop()
	for {
		var err error
		select {
		case <-s.wake:
			for _, message := range s.take() {
				if err = s.put(message); err != nil {
					break
				}
			}
		case <-tick.C:
			err = s.put(s.server.tick(s.user))
		case <-ping.C:
			err = s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeLongest))
		case <-s.done:
			s.mu.Lock()
			end := s.end
			s.mu.Unlock()
			_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(end.code, end.text), time.Now().Add(byeLongest))
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *socket) put(message []byte) error {
	s.mu.Lock()
	ended := s.ended
	if !ended { // else it would undo the deadline that cut has set
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeLongest))
	}
	s.mu.Unlock()
	if ended {
		return nil // the writer's next turn says goodbye
	}
	return s.conn.WriteMessage(websocket.TextMessage, message)
}

// tick tells the page that we are there, what time it is, whether what it shows
// may be old because the database is away, and those who supervise what they must
// know of the installation.
func (s *Server) tick(to User) []byte {
	t := struct {
		Type  string    `json:"type"`
		At    time.Time `json:"at"`
		Away  bool      `json:"away,omitempty"`
		Alarm string    `json:"alarm,omitempty"`
	}{Type: "tick", At: s.Now().UTC(), Away: s.hub.isAway()}
	if to.Role.supervises() {
		t.Alarm = s.Alarm()
	}
	raw, err := json.Marshal(t)
	if err != nil {
		panic(err) // an instant and words: cannot fail
	}
	return raw
}

func (s *socket) read(ctx context.Context, helpers *sync.WaitGroup) {
	s.conn.SetReadLimit(maxClientMsg)
	_ = s.conn.SetReadDeadline(time.Now().Add(helloLongest))
	s.conn.SetPongHandler(func(string) error {
		return s.conn.SetReadDeadline(time.Now().Add(silentLongest))
	})
	allowance, counted := float64(clientBurst), time.Now()
	greeted := false
	for {
		kind, raw, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		at := time.Now()
		_ = s.conn.SetReadDeadline(at.Add(silentLongest))
		allowance = min(allowance+at.Sub(counted).Seconds(), clientBurst) - 1
		counted = at
		m, err := parseClient(raw)
		if err != nil || kind != websocket.TextMessage || allowance < 0 || (!greeted && m.Type != "hello") {
			s.log.Warn("a page was cut for its messages", "bytes", len(raw))
			s.cut(closeBad)
			return
		}
		switch m.Type {
		case "hello":
			greeted = true
			if !s.server.hub.resume(s, m.Epoch, m.Seq) {
				s.askSnapshot(ctx, helpers)
			}
		case "snapshot":
			s.askSnapshot(ctx, helpers)
		case "painted":
			s.paintedBy(ctx, m.Offer)
		}
	}
}

func (s *socket) paintedBy(ctx context.Context, offer uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, commandWork)
	defer cancel()
	if err := s.server.notePainted(ctx, s.user, offer); err != nil && asProblem(err) == errFault {
		s.log.Error("a painted pop could not be noted", "offer", offer, "err", err)
	}
}

// askSnapshot has a snapshot made, unless one is being made: that one is as new.
func (s *socket) askSnapshot(ctx context.Context, helpers *sync.WaitGroup) {
	s.mu.Lock()
	busy := s.building
	s.building = true
	s.mu.Unlock()
	if busy {
		return
	}
	helpers.Go(func() {
		s.snapshot(ctx)
		s.mu.Lock()
		s.building = false
		s.mu.Unlock()
	})
}

// snapshot sends the whole state as it stood at a seq. While the database is
// away the page is told so, and the state follows when it is back.
func (s *socket) snapshot(ctx context.Context) {
	for told := false; ; {
		err := s.trySnapshot(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !db.Away(err) {
			s.log.Error("a snapshot could not be made", "err", err)
		}
		if !told {
			told = true
			detail, _ := json.Marshal(asProblem(err).Detail) // a string: cannot fail
			s.say(fmt.Appendf(nil, `{"type":"away","detail":%s}`, detail))
		}
		pause(ctx, snapshotRetry, s.done)
	}
}

func (s *socket) trySnapshot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotWork)
	defer cancel()
	select {
	case <-s.server.hub.followed():
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	epoch, seq := s.server.hub.mark(s)
	message, err := s.server.snapshotMessage(ctx, s.user, epoch, seq)
	if err == nil {
		s.release(message, seq)
	}
	return err
}

func (s *Server) snapshotMessage(ctx context.Context, u User, epoch string, seq uint64) ([]byte, error) {
	now, err := s.state(ctx, u)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Type  string `json:"type"`
		Epoch string `json:"epoch"`
		Seq   uint64 `json:"seq"`
		State *state `json:"state"`
	}{"snapshot", epoch, seq, now})
}

// recheck cuts the sockets, of one person or (0) of everybody, whose session is
// over or whose person may no longer sign in. While the database is away
// everybody stays.
func (s *Server) recheck(ctx context.Context, user int64) {
	for _, page := range s.hub.list() {
		if user != 0 && page.user.ID != user {
			continue
		}
		var err error
		if page.session != "" {
			_, err = s.ofSession(ctx, page.session)
		} else {
			_, err = s.users.byID(ctx, page.user.ID) // with a token
		}
		if errors.Is(err, errSignIn) || errors.Is(err, ErrNoUser) {
			page.cut(closeSignedOut)
		}
	}
}
