package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/server/liveconn"
)

// metrics are a Server's, by the names and advised buckets of OpenTelemetry
// where it has a convention.
type metrics struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector
	duration   *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		registerer: r,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_server_request_duration_seconds",
			Help:    "Duration of HTTP requests, without those whose connection a handler took over.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10},
		}, []string{"http_request_method", "http_response_status_code", "http_route"}),
	}
	for _, c := range []prometheus.Collector{
		m.duration,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "http_server_active_requests",
			Help: "Requests whose handler has not returned.",
		}, func() float64 { return float64(s.requests.Load()) }),
		&limitCollector{
			limiter: s.limiter,
			desc: prometheus.NewDesc("svc_requests_limited_total",
				"Requests that a limit has kept from the application, by the limit.", []string{"limit"}, nil),
		},
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "svc_connections_refused_total",
			Help: "Connections closed unheard, being far more than server.limit.connections.",
		}, func() float64 { return float64(s.registry.Refused()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "svc_connections_moved_total",
			Help: "Connections that a successor has taken over.",
		}, func() float64 { return float64(s.registry.MovedCount()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "svc_tls_handshake_errors_total",
			Help: "TLS handshakes that have failed on the listeners of the service.",
		}, func() float64 { return float64(s.handshakeErrors.Load()) }),
		&connectionCollector{
			registry: s.registry,
			desc: prometheus.NewDesc("svc_connections",
				"Open connections by kind and state.", []string{"kind", "state"}, nil),
		},
	} {
		if err := r.Register(c); err != nil {
			m.unregister()
			return nil, errors.Join(errors.New("register metrics"), err)
		}
		m.collectors = append(m.collectors, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) observe(r *http.Request, w *response, d time.Duration) {
	if w.hijacked {
		return // it lasted as long as the connection, which tells nothing
	}
	status := ""
	if w.status != 0 {
		status = strconv.Itoa(w.status)
	}
	m.duration.WithLabelValues(methodLabel(r.Method), status, routeLabel(r.Pattern)).Observe(d.Seconds())
}

// methodLabel keeps what a client can write out of the label.
func methodLabel(method string) string {
	switch method {
	case http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut, http.MethodTrace:
		return method
	default:
		return "_OTHER"
	}
}

// routeLabel is the path of a route's pattern; http.ServeMux puts the method
// before it.
func routeLabel(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		return path
	}
	return pattern
}

// connectionCollector reads the counts when it is asked.
type connectionCollector struct {
	registry *liveconn.Registry
	desc     *prometheus.Desc
}

func (c *connectionCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *connectionCollector) Collect(ch chan<- prometheus.Metric) {
	for class, n := range c.registry.Counts() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n),
			string(class.Kind), string(class.State))
	}
}

// limitCollector reads the counts when it is asked.
type limitCollector struct {
	limiter *limiter
	desc    *prometheus.Desc
}

func (c *limitCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *limitCollector) Collect(ch chan<- prometheus.Metric) {
	for l := range limits {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue,
			float64(c.limiter.refused[l].Load()), l.String())
	}
}
