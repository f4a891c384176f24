package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// h2c is a client of HTTP/2 without TLS.
func h2c(tb testing.TB) *http.Client {
	tb.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &protocols}
	tb.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// clients are one of each protocol without TLS.
func clients(tb testing.TB) map[string]*http.Client {
	tb.Helper()
	return map[string]*http.Client{"http1": client(tb), "h2c": h2c(tb)}
}

func allowH2C(c *Config) { c.H2C = true }

// counted is a handler that reads the body and counts its calls.
type counted struct{ calls atomic.Int64 }

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.calls.Add(1)
	n, err := io.Copy(io.Discard, r.Body)
	if err == nil {
		_, _ = fmt.Fprintf(w, "%d", n)
	}
}

// unknown is a body whose length a client does not tell.
func unknown(n int) io.Reader { return io.MultiReader(strings.NewReader(strings.Repeat("x", n))) }

func TestLimitBodyOfKnownLength(t *testing.T) {
	for name, c := range clients(t) {
		t.Run(name, func(t *testing.T) {
			h := &counted{}
			s := start(t, Options{Handler: h}, allowH2C, func(c *Config) { c.Limit.BodyBytes = 1000 })
			post := func(n int) answer {
				return do(t, c, request(t, http.MethodPost, "http://"+s.addr+"/", strings.NewReader(strings.Repeat("x", n))))
			}
			if a := post(1000); a.StatusCode != 200 || a.body != "1000" {
				t.Errorf("the limit itself: %s %q", a.Status, a.body)
			}
			wantProblem(t, post(1001), 413, "server.limit.body_bytes")
			wantProblem(t, post(1<<20), 413, "server.limit.body_bytes")
			if n := h.calls.Load(); n != 1 {
				t.Errorf("the handler ran %d times", n)
			}
			s.change(func(c *Config) { c.Limit.BodyBytes = 1001 })
			if a := post(1001); a.body != "1001" {
				t.Errorf("after the change: %s", a.Status)
			}
			s.change(func(c *Config) { c.Limit.BodyBytes = 0 })
			if a := post(3 << 20); a.body != "3145728" {
				t.Errorf("without a limit: %s", a.Status)
			}
		})
	}
}

// The answer does not wait for a body that is not wanted.
func TestLimitBodyAnswersBeforeTheBody(t *testing.T) {
	h := &counted{}
	s := start(t, Options{Handler: h}, func(c *Config) { c.Limit.BodyBytes = 1000; c.Timeout.Read = 0 })
	for _, header := range []string{"", "Expect: 100-continue\n"} {
		c := dial(t, s.addr)
		c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 1001\n"+header+"\n")
		a := c.receive(t) // and no 100 before it
		wantProblem(t, a, 413, "server.limit.body_bytes")
		if !a.Close {
			t.Error("the connection is kept")
		}
	}
	if n := h.calls.Load(); n != 0 {
		t.Errorf("the handler ran %d times", n)
	}
	c := dial(t, s.addr)
	c.send(t, "POST / HTTP/1.1\nHost: x\nContent-Length: 1000\nExpect: 100-continue\n\n")
	if a := c.receive(t); a.StatusCode != 100 {
		t.Errorf("to a body that may come: %s", a.Status)
	}
	c.send(t, strings.Repeat("x", 1000))
	if a := c.receive(t); a.body != "1000" {
		t.Errorf("answer %s %q", a.Status, a.body)
	}
}

func TestLimitBodyOfUnknownLength(t *testing.T) {
	gin.SetMode(gin.TestMode)
	var readErr atomic.Value
	for name, h := range map[string]http.Handler{
		"net/http": handler(func(w http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); err != nil {
				readErr.Store(err)
			} else {
				_, _ = fmt.Fprintf(w, "%d", n)
			}
		}),
		"gin": gin.New(),
	} {
		if e, ok := h.(*gin.Engine); ok {
			e.POST("/", func(c *gin.Context) {
				n, err := io.Copy(io.Discard, c.Request.Body)
				if err != nil {
					readErr.Store(err)
					return
				}
				c.String(http.StatusOK, "%d", n)
			})
		}
		for protocol, c := range clients(t) {
			t.Run(name+" "+protocol, func(t *testing.T) {
				s := start(t, Options{Handler: h}, allowH2C, func(c *Config) { c.Limit.BodyBytes = 1000 })
				post := func(n int) answer {
					return do(t, c, request(t, http.MethodPost, "http://"+s.addr+"/", unknown(n)))
				}
				if a := post(1000); a.StatusCode != 200 || a.body != "1000" {
					t.Errorf("the limit itself: %s %q", a.Status, a.body)
				}
				wantProblem(t, post(1001), 413, "server.limit.body_bytes")
				var tooLarge *http.MaxBytesError
				if err, _ := readErr.Load().(error); !errors.As(err, &tooLarge) || tooLarge.Limit != 1000 {
					t.Errorf("the handler reads %v", err)
				}
				wantProblem(t, post(2<<20), 413, "server.limit.body_bytes")
			})
		}
	}
}

// A handler that has an answer of its own for a body that is too large gives it.
func TestLimitBodyHandlersAnswerStands(t *testing.T) {
	s := start(t, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, "mine", http.StatusTeapot)
		}
	})}, func(c *Config) { c.Limit.BodyBytes = 10 })
	if a := do(t, client(t), request(t, http.MethodPost, "http://"+s.addr+"/", unknown(11))); a.StatusCode != 418 || a.body != "mine\n" {
		t.Errorf("answer %s %q", a.Status, a.body)
	}
}

func concurrency(n int) func(*Config) { return func(c *Config) { c.Limit.Concurrency = n } }

func TestLimitConcurrency(t *testing.T) {
	for name, c := range clients(t) {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			s := start(t, Options{Handler: g}, allowH2C, concurrency(2))
			url := "http://" + s.addr
			inside := make(chan answer, 2)
			for range 2 {
				go func() { inside <- get(t, c, url+"/") }()
				<-g.entered
			}
			for range 3 {
				a := get(t, c, url+"/")
				wantProblem(t, a, 429, "server.limit.concurrency")
				if a.Header.Get("Retry-After") != "1" || a.Close {
					t.Errorf("Retry-After %q, closed %v", a.Header.Get("Retry-After"), a.Close)
				}
			}
			if len(g.entered) != 0 {
				t.Error("a refused request has reached the handler")
			}
			s.change(concurrency(3))
			go func() { inside <- get(t, c, url+"/") }()
			<-g.entered
			s.change(concurrency(1)) // who is inside stays
			wantProblem(t, get(t, c, url+"/"), 429, "server.limit.concurrency")
			close(g.leave)
			for range 3 {
				if a := <-inside; a.body != "hello" {
					t.Errorf("answer %s", a.Status)
				}
			}
			eventually(t, "free places", func() bool { return s.requests.Load() == 0 })
			if a := get(t, c, url+"/"); a.body != "hello" {
				t.Errorf("afterwards: %s", a.Status)
			}
		})
	}
}

// Whatever becomes of a request, its place is free again.
func TestLimitConcurrencyPlaceIsFreed(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"panic":              func(http.ResponseWriter, *http.Request) { panic("x") },
		"abort":              func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"panic in an answer": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x"); panic("x") },
		"out of time":        untilDone,
		"hijack": func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("hijack: %v", err)
				return
			}
			_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			_ = nc.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/bad", h)
			mux.HandleFunc("/good", hello)
			s := start(t, Options{Handler: mux, Logger: discard()}, concurrency(1), requestTime(20*time.Millisecond))
			c := client(t)
			for range 3 {
				if res, err := c.Do(request(t, http.MethodGet, "http://"+s.addr+"/bad", nil)); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				eventually(t, "a free place", func() bool { return s.limiter.running.Load() == 0 && s.requests.Load() == 0 })
				if a := get(t, c, "http://"+s.addr+"/good"); a.body != "hello" {
					t.Errorf("afterwards: %s", a.Status)
				}
			}
		})
	}
}

func TestLimitsExemptHealthChecks(t *testing.T) {
	g := newGate()
	defer close(g.leave)
	e := Engine(RouteOptions{})
	e.GET("/wait", gin.WrapH(g))
	s := start(t, Options{Handler: e}, func(c *Config) {
		c.Limit = Limit{BodyBytes: 1, Concurrency: 1, RPS: 0.001, Burst: 1}
	})
	dial(t, s.addr).send(t, "GET /wait HTTP/1.1\nHost: x\n\n")
	<-g.entered
	c := client(t)
	for range 5 {
		for _, path := range []string{"/livez", "/readyz"} {
			if a := get(t, c, "http://"+s.addr+path); a.StatusCode != 200 {
				t.Errorf("%s: %s", path, a.Status)
			}
		}
	}
	wantProblem(t, get(t, c, "http://"+s.addr+"/v1/config"), 429, "server.limit.concurrency")
}

func TestLimitsExemptByOption(t *testing.T) {
	s := start(t, Options{Handler: handler(hello), Exempt: func(r *http.Request) bool { return r.URL.Path == "/free" }},
		func(c *Config) { c.Limit.RPS, c.Limit.Burst = 0.001, 1 })
	c := client(t)
	get(t, c, "http://"+s.addr+"/livez") // takes the only one
	wantProblem(t, get(t, c, "http://"+s.addr+"/livez"), 429, "server.limit.rps")
	for range 3 {
		if a := get(t, c, "http://"+s.addr+"/free"); a.body != "hello" {
			t.Errorf("answer %s", a.Status)
		}
	}
}

func connections(n int) func(*Config) { return func(c *Config) { c.Limit.Connections = n } }

func TestLimitConnections(t *testing.T) {
	h := &counted{}
	registry := prometheus.NewRegistry()
	s := start(t, Options{Handler: h, Registerer: registry}, connections(2))
	ask := func(c *raw) answer {
		t.Helper()
		c.send(t, "GET /livez HTTP/1.1\nHost: x\n\n")
		return c.receive(t)
	}
	inside := []*raw{dial(t, s.addr), dial(t, s.addr)}
	for _, c := range inside {
		if a := ask(c); a.StatusCode != 200 || a.Close {
			t.Errorf("within the limit: %s, closed %v", a.Status, a.Close)
		}
	}
	for range 3 {
		c := dial(t, s.addr)
		a := ask(c)
		wantProblem(t, a, 503, "server.limit.connections")
		if !a.Close || a.Header.Get("Retry-After") != "1" {
			t.Errorf("closed %v, Retry-After %q", a.Close, a.Header.Get("Retry-After"))
		}
		c.wantClosed(t)
	}
	// Those that are told so are bounded too.
	eventually(t, "end of the refused ones", func() bool { return total(s) == 2 })
	for range 64 {
		dial(t, s.addr)
	}
	eventually(t, "66 connections", func() bool { return total(s) == 66 })
	dial(t, s.addr).wantClosed(t)
	if n := h.calls.Load(); n != 2 {
		t.Errorf("the handler ran %d times", n)
	}
	s.change(connections(1)) // what is open stays open
	for _, c := range inside {
		if a := ask(c); a.StatusCode != 200 || a.Close {
			t.Errorf("after the limit was lowered: %s, closed %v", a.Status, a.Close)
		}
	}
	s.change(connections(0))
	if a := ask(dial(t, s.addr)); a.StatusCode != 200 {
		t.Errorf("without a limit: %s", a.Status)
	}
	want := `
# HELP svc_connections_refused_total Connections closed unheard, being far more than server.limit.connections.
# TYPE svc_connections_refused_total counter
svc_connections_refused_total 1
# HELP svc_requests_limited_total Requests that a limit has kept from the application, by the limit.
# TYPE svc_requests_limited_total counter
svc_requests_limited_total{limit="body_bytes"} 0
svc_requests_limited_total{limit="concurrency"} 0
svc_requests_limited_total{limit="connections"} 3
svc_requests_limited_total{limit="rps"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"svc_connections_refused_total", "svc_requests_limited_total"); err != nil {
		t.Error(err)
	}
}

// On HTTP/2 the connection is told to end too.
func TestLimitConnectionsH2(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)}, allowH2C, connections(1))
	dial(t, s.addr)
	eventually(t, "the first connection", func() bool { return total(s) == 1 })
	wantProblem(t, get(t, h2c(t), "http://"+s.addr+"/"), 503, "server.limit.connections")
	eventually(t, "end of the second connection", func() bool { return total(s) == 1 })
}

// total is how many connections are open.
func total(s *running) int {
	n := 0
	for _, k := range s.Connections() {
		n += k
	}
	return n
}

func TestLimitedRequestsAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	g := newGate()
	s := start(t, Options{Handler: g, Registerer: registry}, func(c *Config) {
		c.Limit = Limit{BodyBytes: 1, Concurrency: 1}
	})
	c := client(t)
	do(t, c, request(t, http.MethodPost, "http://"+s.addr+"/", strings.NewReader("xx")))
	dial(t, s.addr).send(t, getRoot)
	<-g.entered
	get(t, c, "http://"+s.addr+"/")
	get(t, c, "http://"+s.addr+"/")
	close(g.leave)
	eventually(t, "a free place", func() bool { return s.limiter.running.Load() == 0 })
	s.change(func(c *Config) { c.Limit.RPS, c.Limit.Burst = 0.001, 1 })
	for range 4 {
		get(t, c, "http://"+s.addr+"/")
	}
	want := `
# HELP svc_requests_limited_total Requests that a limit has kept from the application, by the limit.
# TYPE svc_requests_limited_total counter
svc_requests_limited_total{limit="body_bytes"} 1
svc_requests_limited_total{limit="concurrency"} 2
svc_requests_limited_total{limit="connections"} 0
svc_requests_limited_total{limit="rps"} 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "svc_requests_limited_total"); err != nil {
		t.Error(err)
	}
	got := map[string]uint64{}
	eventually(t, "all of them in the histogram", func() bool {
		got = durations(t, registry)
		return got["GET 429 "] == 5 && got["POST 413 "] == 1
	})
}
