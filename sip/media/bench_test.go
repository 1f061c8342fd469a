package media

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/pronto-desk/pronto/sip/audio"
)

// BenchmarkForward is one packet through a bridge, without the kernel.
func BenchmarkForward(b *testing.B) {
	for _, c := range []struct {
		name   string
		fa, fb Format
	}{{"same-law", aLawFormat(), aLawFormat()}, {"between-laws", uLawFormat(), aLawFormat()},
		{"wideband", wideFormat(), wideFormat()}, {"from-wideband", wideFormat(), aLawFormat()}, {"to-wideband", aLawFormat(), wideFormat()}} {
		b.Run(c.name, func(b *testing.B) {
			a, _, peer := pair(b, c.fa, c.fb)
			p := &phone{pt: c.fa.PT, ssrc: 1}
			buf := raw(header{}, frameOf(1))
			b.ReportAllocs()
			for b.Loop() {
				header{pt: p.pt, seq: p.seq, ts: p.ts, ssrc: p.ssrc}.put(buf)
				a.engine.epoch = a.engine.epoch.Add(-audio.FrameTime)
				a.receive(buf, peer)
				p.seq++
				p.ts += samplesPerFrame
			}
		})
	}
}

// BenchmarkMusicFrame is one frame of music, without the kernel.
func BenchmarkMusicFrame(b *testing.B) {
	for _, f := range []Format{aLawFormat(), uLawFormat()} {
		b.Run(f.Law.String(), func(b *testing.B) {
			a, _, _ := pair(b, f, f)
			defer a.Start(audio.Clip{ALaw: make([]byte, 60*audio.Rate), Loop: true})()
			at := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				a.out.tick(at)
				at += audio.FrameTime
			}
		})
	}
}

// benchTime is how long the benchmarks with a network run.
const benchTime = 5 * time.Second

// BenchmarkMusic is what waiting callers cost: music out, what they say in,
// from telephones in another process.
func BenchmarkMusic(b *testing.B) {
	for _, n := range []int{100, 1000} {
		for _, f := range []Format{aLawFormat(), uLawFormat()} {
			b.Run(fmt.Sprintf("%d-%v", n, f.Law), func(b *testing.B) {
				benchStreams(b, n, f, f, func(streams []*Stream) (stop func()) {
					music := audio.Clip{ALaw: make([]byte, 60*audio.Rate), Loop: true}
					for _, s := range streams {
						s.Start(music)
					}
					return func() {}
				})
			})
		}
	}
}

// BenchmarkBridge is what talks cost, two streams each.
func BenchmarkBridge(b *testing.B) {
	for _, n := range []int{100, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			benchStreams(b, 2*n, aLawFormat(), aLawFormat(), func(streams []*Stream) func() {
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				for i := 0; i < len(streams); i += 2 {
					go func() { Bridge(ctx, streams[i], streams[i+1]); done <- struct{}{} }()
				}
				return func() {
					cancel()
					for range len(streams) / 2 {
						<-done
					}
				}
			})
		})
	}
}

func benchStreams(b *testing.B, n int, f, g Format, work func([]*Stream) (stop func())) {
	phones := startPhones(b, n)
	e := New(Config{MinPort: 20000, MaxPort: 29999})
	ctx, cancel := context.WithCancel(context.Background())
	run := make(chan struct{})
	go func() { defer close(run); e.Run(ctx) }()
	defer func() { cancel(); <-run }()

	before := inUse()
	local := netip.MustParseAddr("127.0.0.1")
	streams := make([]*Stream, n)
	for i := range streams {
		s, err := e.Open(local)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		s.Agree(f, Peer{RTP: phones.addr, Source: local, Send: true, Receive: true})
		streams[i] = s
	}
	stop := work(streams)
	phones.call(b, streams, f.PT)
	<-time.After(time.Second) // until all is in its stride
	cpu, begun, count := cpuTime(), time.Now(), e.Stats()
	<-time.After(benchTime)
	spent, took, after := cpuTime()-cpu, time.Since(begun), e.Stats()
	memory := inUse() - before
	stop()

	in, out := after.In-count.In, after.Out-count.Out
	b.ReportMetric(100*spent.Seconds()/took.Seconds(), "%core")
	b.ReportMetric(float64(spent.Microseconds())/float64(in+out)*2, "µs/in+out")
	b.ReportMetric(float64(out)/float64(n)/took.Seconds(), "out/s/stream")
	b.ReportMetric(float64(in)/float64(n)/took.Seconds(), "in/s/stream")
	b.ReportMetric(float64(memory)/float64(n)/1024, "KiB/stream")
	b.ReportMetric(float64(after.Late-count.Late), "late")
	b.ReportMetric(0, "ns/op")
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// inUse is the memory of heap and stacks.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// phonesEnv makes the test binary a process full of telephones.
const phonesEnv = "PRONTO_MEDIA_PHONES"

func TestMain(m *testing.M) {
	if os.Getenv(phonesEnv) != "" {
		if err := bePhones(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// bePhones sends 50 packets a second to each address read from the standard
// input, from one socket, and throws away what comes; until the input ends.
func bePhones() error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	c.SetReadBuffer(4 << 20)
	fmt.Println(c.LocalAddr())
	go func() {
		b := make([]byte, 2000)
		for {
			if _, _, err := c.ReadFromUDPAddrPort(b); err != nil {
				return
			}
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	var to []netip.AddrPort
	var pt uint8
	for in.Scan() && in.Text() != "" {
		var addr string
		fmt.Sscan(in.Text(), &addr, &pt)
		to = append(to, netip.MustParseAddrPort(addr))
	}
	eof := make(chan struct{})
	go func() { defer close(eof); in.Scan() }()
	next := time.Now()
	for n := 0; ; n++ {
		next = next.Add(time.Millisecond)
		select {
		case <-eof:
			return nil
		case <-time.After(time.Until(next)):
		}
		seq := n / 20
		for i := n % 20; i < len(to); i += 20 {
			c.WriteToUDPAddrPort(raw(header{pt: pt, seq: uint16(seq), ts: uint32(seq) * samplesPerFrame, ssrc: uint32(i + 1)}, frameOf(1)), to[i])
		}
	}
}

type phoneProcess struct {
	addr netip.AddrPort
	in   *os.File
}

func startPhones(b *testing.B, n int) *phoneProcess {
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), phonesEnv+"=1")
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	r.Close()
	b.Cleanup(func() { w.Close(); cmd.Wait() })
	var addr string
	if _, err := fmt.Fscan(out, &addr); err != nil {
		b.Fatal(err)
	}
	return &phoneProcess{netip.MustParseAddrPort(addr), w}
}

func (p *phoneProcess) call(b *testing.B, streams []*Stream, pt uint8) {
	for _, s := range streams {
		fmt.Fprintln(p.in, s.Addr(), pt)
	}
	fmt.Fprintln(p.in)
}
