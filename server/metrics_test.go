package server

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hotsvc/svc/internal/memnet"
	"github.com/hotsvc/svc/server/liveconn"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	g := newGate()
	e := Engine(RouteOptions{})
	e.GET("/items/:id", func(c *gin.Context) { c.String(201, "item") })
	e.GET("/wait", gin.WrapH(g))
	e.GET("/panic", func(*gin.Context) { panic("x") })
	e.GET("/hijack", func(c *gin.Context) {
		nc, _, err := c.Writer.Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		_ = nc.Close()
	})
	s := start(t, Options{Handler: e, Registerer: registry}, requestTime(100*time.Millisecond))
	c := client(t)
	base := "http://" + s.addr

	if res, err := c.Do(request(t, http.MethodGet, base+"/hijack", nil)); err == nil {
		_ = res.Body.Close()
		t.Error("the hijacked request was answered")
	}
	get(t, c, base+"/items/1")
	get(t, c, base+"/items/2?x=3")
	get(t, c, base+"/nothing/at/all")
	get(t, c, base+"/panic")
	get(t, c, base+"/v1/echo?delay=1h")
	do(t, c, request(t, "BREW", base+"/items/1", nil))
	do(t, c, request(t, http.MethodHead, base+"/livez", nil))
	waiting := dial(t, s.addr)
	waiting.send(t, "GET /wait HTTP/1.1\nHost: x\n\n")
	<-g.entered

	eventually(t, "one idle connection of the client", func() bool { return s.count(liveconn.KindHTTP1, liveconn.StateIdle) == 1 })
	eventually(t, "end of the others' handlers", func() bool { return s.requests.Load() == 1 })
	want := `
# HELP http_server_active_requests Requests whose handler has not returned.
# TYPE http_server_active_requests gauge
http_server_active_requests 1
# HELP svc_connections Open connections by kind and state.
# TYPE svc_connections gauge
svc_connections{kind="custom",state="active"} 0
svc_connections{kind="custom",state="draining"} 0
svc_connections{kind="h2",state="active"} 0
svc_connections{kind="h2",state="draining"} 0
svc_connections{kind="h2",state="idle"} 0
svc_connections{kind="h2",state="new"} 0
svc_connections{kind="http1",state="active"} 1
svc_connections{kind="http1",state="draining"} 0
svc_connections{kind="http1",state="idle"} 1
svc_connections{kind="http1",state="moved"} 0
svc_connections{kind="http1",state="new"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"http_server_active_requests", "svc_connections"); err != nil {
		t.Error(err)
	}
	close(g.leave)
	waiting.receive(t)
	eventually(t, "end of the last handler", func() bool { return s.requests.Load() == 0 })

	got := durations(t, registry)
	for labels, n := range map[string]uint64{
		"GET 201 /items/:id": 2, "GET 404 ": 1, "GET 500 /panic": 1, "GET 503 /v1/echo": 1,
		"_OTHER 405 ": 1, "HEAD 200 /livez": 1, "GET 200 /wait": 1,
	} {
		if got[labels] != n {
			t.Errorf("%q was counted %d times, want %d", labels, got[labels], n)
		}
		delete(got, labels)
	}
	if len(got) != 0 {
		t.Errorf("also counted: %v", got)
	}

	s.stop()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	// The next server may register its own.
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("after Run: %d metrics, %v", len(families), err)
	}
}

// durations are the counts of the duration's histogram, by its labels' values.
func durations(t *testing.T, g prometheus.Gatherer) map[string]uint64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "http_server_request_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() { // in the order of their names
				labels = append(labels, l.GetValue())
			}
			counts[strings.Join(labels, " ")] = m.GetHistogram().GetSampleCount()
		}
	}
	return counts
}

func TestRouteLabelOfServeMux(t *testing.T) {
	registry := prometheus.NewRegistry()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", hello)
	s := start(t, Options{Handler: mux, Registerer: registry})
	get(t, client(t), "http://"+s.addr+"/items/7")
	eventually(t, "a measurement under the pattern's path", func() bool {
		return durations(t, registry)["GET 200 /items/{id}"] == 1
	})
}

func TestMetricsTwiceInOneRegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := start(t, Options{Handler: handler(hello), Registerer: registry})
	o := Options{Handler: handler(hello), Registerer: registry, Config: s.Server.config}
	if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "make server: register metrics") {
		t.Errorf("a second server in the same registry: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	cfg := Default()
	config := func(context.Context) *Config { return &cfg }
	for want, make := range map[string]func() (*Server, error){
		"make server: no handler": func() (*Server, error) { return New(Options{Config: config}) },
		"make server: no func to read the settings": func() (*Server, error) {
			return New(Options{Handler: handler(hello)})
		},
	} {
		if _, err := make(); err == nil || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	cfg := Default()
	config := func(context.Context) *Config { return &cfg }
	s, err := New(Options{Config: config, Handler: handler(hello)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), nil); err == nil || err.Error() != "run server: no listener" {
		t.Errorf("without a listener: %v", err)
	}
	cfg.TLS.Mode = ModeTLS
	if s, err = New(Options{Config: config, Handler: handler(hello)}); err != nil {
		t.Fatal(err)
	}
	listener := memnet.Listen()
	if err := s.Run(t.Context(), []net.Listener{listener}); err == nil || !strings.Contains(err.Error(), "there is no certificate") {
		t.Errorf("TLS without a certificate: %v", err)
	}
	select {
	case <-listener.Done():
	default:
		t.Error("the listener is left open")
	}
}
