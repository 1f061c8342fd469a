package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pronto-desk/pronto/sip/media"
)

// scrapeLongest bounds what a scrape may ask the database.
const scrapeLongest = 2 * time.Second

// newMOS counts how good each leg of a contact sounded, by the leg (caller,
// operator) and the way (heard: what reached us; reached: what reached the
// telephone).
func newMOS() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "pronto", Name: "leg_mos", Help: "Estimated mean opinion score of each leg that has ended (ITU-T G.107).",
		Buckets: []float64{1.5, 2, 2.5, 3, 3.5, 3.8, 4, 4.2, 4.3, 4.4}, // 3.6 and less: many are dissatisfied (G.107 Annex B)
	}, []string{"leg", "way"})
}

// newRegs says of each trunk that we register at whether it knows us now.
func newRegs() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "pronto", Name: "trunk_registered", Help: "1 while the carrier has our registration; 0: calls do not come.",
	}, []string{"trunk"})
}

// newUps says of each switch that is asked whether it takes calls of ours.
func newUps() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "pronto", Name: "trunk_target_up", Help: "1 while the carrier's switch answers our OPTIONS.",
	}, []string{"trunk", "target"})
}

// dropped are the packets of sound that were not used, or not passed on, by the reason:
// those that have come about.
type dropped func() media.Stats

var droppedTotal = prometheus.NewDesc("pronto_media_packets_dropped_total", "RTP packets not accepted, or not passed on, by the reason.", []string{"reason"}, nil)

func (d dropped) Describe(to chan<- *prometheus.Desc) { to <- droppedTotal }

func (d dropped) Collect(to chan<- prometheus.Metric) {
	for reason, n := range d().Dropped {
		to <- prometheus.MustNewConstMetric(droppedTotal, prometheus.CounterValue, float64(n), reason)
	}
}

// metrics are the desk's figures in Prometheus' form. They are read when they
// are asked for: nothing is counted twice.
func (h *house) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "pronto", Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "pronto", Name: name, Help: help}, value))
	}
	gauge("calls", "Calls alive, callers and operators.", func() float64 { return float64(h.agent.Calls()) })
	gauge("media_streams", "Streams of sound that are open.", func() float64 { return float64(h.engine.Stats().Streams) })
	gauge("media_ports", "UDP ports in use for sound.", func() float64 { return float64(h.engine.Stats().Ports) })
	counter("media_packets_in_total", "RTP packets received.", func() float64 { return float64(h.engine.Stats().In) })
	counter("media_packets_out_total", "RTP packets sent.", func() float64 { return float64(h.engine.Stats().Out) })
	r.MustRegister(h.mos, h.regs, h.ups, dropped(h.engine.Stats))
	gauge("spool_pending", "1 while facts wait on disk for the database.", func() float64 {
		if h.archive.Pending() {
			return 1
		}
		return 0
	})
	gauge("storage_free_bytes", "What is free on the disk of the data directory; -1 when it cannot be asked.", func() float64 {
		free, err := h.archive.Free()
		if err != nil {
			return -1
		}
		return float64(free)
	})
	gauge("messages_refused", "1 while the disk is nearly full and no message is taken.", func() float64 {
		if h.archive.HasRoom() {
			return 0
		}
		return 1
	})
	if h.front.expires != nil {
		gauge("certificate_expires", "When the certificate in use ends, seconds since 1970; 0 when there is none yet.", func() float64 {
			until, err := h.front.expires()
			if err != nil {
				return 0
			}
			return float64(until.Unix())
		})
	}
	if h.sipPair != nil {
		gauge("sip_certificate_expires", "When the certificate for SIP over TLS ends, seconds since 1970.", func() float64 {
			until, _ := h.sipPair.expires()
			return float64(until.Unix())
		})
	}
	gauge("callers_waiting", "Callers in the queue; -1 when the database does not answer.", h.waiting)
	gauge("nodes", "Servers that live on this database, this one included.", func() float64 { return float64(len(h.queue.Nodes())) })
	gauge("ready", "1 while calls are answered.", func() float64 {
		if h.isReady() != nil {
			return 0
		}
		return 1
	})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{Timeout: 2 * scrapeLongest})
}

func (h *house) waiting() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLongest)
	defer cancel()
	list, err := h.queue.Waiting(ctx)
	if err != nil {
		return -1
	}
	return float64(len(list))
}
