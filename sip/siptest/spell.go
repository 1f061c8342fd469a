package siptest

import (
	"bytes"
	"hash/crc32"
	"strings"
	"sync"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// A spelled frame is 20 ms of A-law that carries a name: mark, length, name,
// check, padding. Played, bridged and recorded sound is compared exactly by reading
// it. Everything after the mark is written in half octets with sixteen A-law values
// that come back unchanged from µ-law, so that a telephone which speaks the other
// law hears the same names.
var (
	mark     = []byte{0x91, 0x1B, 0x93, 0x19}
	alphabet = [16]byte{0xA8, 0xA9, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF, 0xB8, 0xB9, 0xBA, 0xBB, 0xBC, 0xBD, 0xBE, 0xBF}
	halves   = func() (value [256]int) { // the inverse of alphabet, -1 for all else
		for i := range value {
			value[i] = -1
		}
		for half, octet := range alphabet {
			value[octet] = half
		}
		return value
	}()
)

const (
	padding  = 0x2A                                  // a loud octet: spelled frames are sound, not silence
	spelled  = 400 * time.Millisecond                // how long a spelled clip lasts, unless told otherwise
	head     = 4 + 2                                 // octets of mark and length
	check    = 2                                     // octets of the check
	longestN = (audio.FrameBytes - head - check) / 2 // octets of a name
)

// Spell is a clip of d whose frames carry name, of which 76 octets fit.
func Spell(name string, d time.Duration) audio.Clip {
	if len(name) > longestN {
		name = name[:longestN]
	}
	frame := append([]byte{}, mark...)
	for _, b := range append(append([]byte{byte(len(name))}, name...), checkOf(name)) {
		frame = append(frame, alphabet[b>>4], alphabet[b&15])
	}
	frame = append(frame, bytes.Repeat([]byte{padding}, audio.FrameBytes-len(frame))...)
	return audio.Clip{Name: name, ALaw: bytes.Repeat(frame, max(1, int(d/audio.FrameTime))), Text: name}
}

// checkOf tells a whole name from one whose end another packet has overwritten.
func checkOf(name string) byte { return byte(crc32.ChecksumIEEE([]byte(name))) }

// octet reads one octet from its two halves.
func octet(b []byte) (value byte, ok bool) {
	high, low := halves[b[0]], halves[b[1]]
	return byte(high<<4 | low), high >= 0 && low >= 0
}

// unspell reads a name after its mark. enough is false when b ends before it does.
func unspell(b []byte) (name string, ok, enough bool) {
	if len(b) < 2 {
		return "", false, false
	}
	n, ok := octet(b)
	if !ok || int(n) > longestN {
		return "", false, true
	}
	if b = b[2:]; len(b) < 2*int(n)+check {
		return "", false, false
	}
	text := make([]byte, n+1)
	for i := range text {
		if text[i], ok = octet(b[2*i:]); !ok {
			return "", false, true
		}
	}
	name = string(text[:n])
	return name, checkOf(name) == text[n], true
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
	tail  []byte     // what may be the beginning of a frame
	since int        // octets since the last frame that was read began, without tail
	list  []Heard
	news  chan struct{} // closed and replaced when list grows
}

// gapEnds is how many frames without a name end a word: fewer are lost packets,
// and the shortest pause between two words of the prompts has eight.
const gapEnds = 6

func (e *ear) listen(alaw []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tail = append(e.tail, alaw...)
	for {
		i := bytes.Index(e.tail, mark)
		if i < 0 { // silence or noise; its end may be half a mark
			e.drop(max(0, len(e.tail)-len(mark)+1))
			return
		}
		e.drop(i)
		name, ok, enough := unspell(e.tail[len(mark):])
		switch {
		case !enough:
			return
		case ok:
			e.hear(name)
		}
		e.drop(len(mark))
	}
}

// drop forgets n octets that were looked at.
func (e *ear) drop(n int) {
	e.tail = e.tail[n:]
	e.since += n
}

// hear notes the name of a frame that begins here.
func (e *ear) hear(name string) {
	goesOn := len(e.list) > 0 && e.list[len(e.list)-1].Name == name && e.since < (gapEnds+1)*audio.FrameBytes
	e.since = 0
	if goesOn {
		return
	}
	e.list = append(e.list, Heard{name, time.Now()})
	if e.news != nil {
		close(e.news)
		e.news = nil
	}
}

// pause ends the word that is being heard: the next sound is another call's.
func (e *ear) pause() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tail, e.since = nil, (gapEnds+1)*audio.FrameBytes
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

// say is how heard names are printed.
func say(list []Heard) string {
	var names []string
	for _, h := range list {
		names = append(names, h.Name)
	}
	return strings.Join(names, ", ")
}
