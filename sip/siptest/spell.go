package siptest

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// A spelled frame is 20 ms of A-law that carries a name: mark, length, name,
// padding. Played, bridged and recorded sound is compared exactly by reading it.
var mark = []byte{0x91, 0x1B, 0x93, 0x19}

const (
	padding  = 0x2A                   // a loud octet: spelled frames are sound, not silence
	spelled  = 400 * time.Millisecond // how long a spelled clip lasts, unless told otherwise
	longestN = audio.FrameBytes - 5   // octets of a name
)

// Spell is a clip of d whose frames carry name.
func Spell(name string, d time.Duration) audio.Clip {
	if len(name) > longestN {
		name = name[:longestN]
	}
	frame := append(append([]byte{}, mark...), byte(len(name)))
	frame = append(frame, name...)
	frame = append(frame, bytes.Repeat([]byte{padding}, audio.FrameBytes-len(frame))...)
	return audio.Clip{Name: name, ALaw: bytes.Repeat(frame, max(1, int(d/audio.FrameTime))), Text: name}
}

// Read gives the names that some A-law spells, each once per stretch: a name
// that sounds on is one word. Music counts as one word however often it loops.
func Read(alaw []byte) []string {
	var e ear
	e.listen(alaw)
	return e.names()
}

// Heard is a name and when it began to be heard.
type Heard struct {
	Name string
	At   time.Time
}

// ear reads names out of sound as it arrives.
type ear struct {
	mu    sync.Mutex // guards all below
	tail  []byte     // an incomplete frame
	list  []Heard
	last  time.Time     // when the last frame of list's end was heard
	quiet int           // silent frames since
	news  chan struct{} // closed and replaced when list grows
}

// gapEnds is how many silent frames in a row end a word: fewer are lost packets.
const gapEnds = 5

func (e *ear) listen(alaw []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tail = append(e.tail, alaw...)
	for {
		i := bytes.Index(e.tail, mark)
		if i < 0 || len(e.tail) < i+5 || len(e.tail) < i+5+int(e.tail[i+4]) {
			break
		}
		n := int(e.tail[i+4])
		e.hear(string(e.tail[i+5 : i+5+n]))
		e.tail = e.tail[i+5+n:]
	}
	if over := len(e.tail) - 2*audio.FrameBytes; over > 0 { // silence or noise
		e.quiet += over / audio.FrameBytes
		e.tail = e.tail[over:]
	}
}

func (e *ear) hear(name string) {
	now := time.Now()
	same := len(e.list) > 0 && e.list[len(e.list)-1].Name == name && e.quiet < gapEnds && now.Sub(e.last) < gapEnds*audio.FrameTime+time.Second
	e.quiet, e.last = 0, now
	if same {
		return
	}
	e.list = append(e.list, Heard{name, now})
	if e.news != nil {
		close(e.news)
		e.news = nil
	}
}

// after gives what was heard from position i on, and a channel that closes when
// there is more.
func (e *ear) after(i int) ([]Heard, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.news == nil {
		e.news = make(chan struct{})
	}
	return append([]Heard(nil), e.list[min(i, len(e.list)):]...), e.news
}

func (e *ear) names() []string {
	list, _ := e.after(0)
	var names []string
	for _, h := range list {
		names = append(names, h.Name)
	}
	return names
}

// Say is how heard names are printed.
func say(list []Heard) string {
	var names []string
	for _, h := range list {
		names = append(names, h.Name)
	}
	return strings.Join(names, ", ")
}
