package reload

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// The reasons of svc_config_rejected_total.
const (
	rejectedParse    = "parse"
	rejectedMerge    = "merge"
	rejectedDecode   = "decode"
	rejectedValidate = "validate"
	rejectedBuild    = "build"
	rejectedRestart  = "restart"
)

// metrics are the svc_config_* metrics. Keys and values are never labels.
type metrics struct {
	successful prometheus.Gauge
	success    prometheus.Gauge
	revision   *prometheus.GaugeVec
	reloads    *prometheus.CounterVec
	stages     *prometheus.HistogramVec
	rejected   *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, stale func() map[string]float64) (*metrics, error) {
	m := &metrics{
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "svc_config_last_reload_successful", Help: "Whether the last content tried is in force as a whole.",
		}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "svc_config_last_reload_success_timestamp_seconds", Help: "When a content last came into force as a whole.",
		}),
		revision: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "svc_config_revision_info", Help: "The revision in force, as a label.",
		}, []string{"revision"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "svc_config_reloads_total", Help: "Contents tried, by what became of them and what was done.",
		}, []string{"result", "action"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "svc_config_stage_seconds", Help: "Time from the stage before to this one, for contents that came into force.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 17),
		}, []string{"stage"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "svc_config_rejected_total", Help: "Contents not brought into force, by where they stopped.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{rejectedParse, rejectedMerge, rejectedDecode, rejectedValidate, rejectedBuild, rejectedRestart} {
		m.rejected.WithLabelValues(reason) // so that an alert sees 0 before the first
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.successful, m.success, m.revision, m.reloads, m.stages, m.rejected, staleCollector(stale)} {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register config metrics: %w", err)
	}
	return m, nil
}

// inherit shows what another process has brought into force; last is the entry
// that tells of it.
func (m *metrics) inherit(last Entry, inForce string) {
	if last.Outcome == "" || last.Outcome.Good() {
		m.successful.Set(1)
	}
	if last.Outcome.Good() {
		m.success.Set(float64(last.At.UnixMilli()) / 1000)
	}
	m.revision.WithLabelValues(inForce).Set(1)
}

func (m *metrics) observe(e Entry, st stages, rejected string) {
	m.reloads.WithLabelValues(string(e.Outcome), string(e.Action)).Inc()
	if rejected != "" {
		m.rejected.WithLabelValues(rejected).Inc()
	}
	if e.Outcome.Good() {
		m.successful.Set(1)
		m.success.Set(float64(e.At.UnixMilli()) / 1000)
	} else {
		m.successful.Set(0)
	}
	inForce := e.InForce
	if inForce == "" && e.Outcome.Good() {
		inForce = e.Revision
	}
	if inForce != "" {
		m.revision.Reset()
		m.revision.WithLabelValues(inForce).Set(1)
	}
	if st.applied.IsZero() || e.Trigger == TriggerStart {
		return // a start takes up what was published at any time before
	}
	list := st.list()
	for i, s := range list[1:] {
		if before := list[i].at; !before.IsZero() && !s.at.IsZero() {
			m.stages.WithLabelValues(s.name).Observe(max(0, s.at.Sub(before).Seconds()))
		}
	}
}

// staleCollector computes how long each source has been stale at each scrape.
type staleCollector func() map[string]float64

func (c staleCollector) desc() *prometheus.Desc {
	return prometheus.NewDesc("svc_config_source_stale_seconds",
		"How long the source could not be read or parsed; 0 while it can.", []string{"source"}, nil)
}

func (c staleCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc() }

func (c staleCollector) Collect(ch chan<- prometheus.Metric) {
	for source, seconds := range c() {
		ch <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, seconds, source)
	}
}
