package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
)

// accessLog is one that a test reads.
func accessLog() (*syncBuffer, *slog.Logger) {
	log := &syncBuffer{}
	return log, slog.New(slog.NewJSONHandler(log, nil))
}

// lines waits for n lines and returns them without their time.
func (b *syncBuffer) lines(tb testing.TB, n int) []map[string]any {
	tb.Helper()
	eventually(tb, "lines in the log", func() bool { return strings.Count(b.String(), "\n") >= n })
	var all []map[string]any
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			tb.Fatalf("%v in %s", err, line)
		}
		all = append(all, m)
	}
	if len(all) != n {
		tb.Fatalf("%d lines, want %d: %s", len(all), n, b.String())
	}
	return all
}

func TestAccessLog(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Secret", "s3cret")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "s3cret")
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("s3cret") })
	mux.HandleFunc("/abort", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/late", untilDone)
	mux.HandleFunc("/empty", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		_ = nc.Close()
	})
	for _, tt := range []struct {
		method, path string
		h2           bool
		proto        string
		status       int
		bytes        int // -1: not looked at
	}{
		{"POST", "/x", false, "HTTP/1.1", 201, 6},
		{"POST", "/x", true, "HTTP/2.0", 201, 6},
		{"GET", "/panic", false, "HTTP/1.1", 500, -1},
		{"GET", "/panic", true, "HTTP/2.0", 500, -1},
		{"GET", "/abort", false, "HTTP/1.1", 200, 4},
		{"GET", "/abort", true, "HTTP/2.0", 200, 4},
		{"GET", "/late", false, "HTTP/1.1", 503, -1},
		{"GET", "/empty", false, "HTTP/1.1", 200, 0},
		{"GET", "/hijack", false, "HTTP/1.1", 0, 0},
		{"HEAD", "/x", false, "HTTP/1.1", 201, -1},
	} {
		t.Run(tt.method+tt.path+" "+tt.proto, func(t *testing.T) {
			log, access := accessLog()
			s := start(t, Options{Handler: mux, AccessLogger: access, Logger: discard()}, allowH2C, requestTime(100*time.Millisecond))
			var body io.Reader
			if tt.method == http.MethodPost {
				body = strings.NewReader("s3cret")
			}
			req := request(t, tt.method, "http://"+s.addr+tt.path+"?token=s3cret", body)
			req.Header.Set("Authorization", "Bearer s3cret")
			req.Header.Set("Cookie", "s3cret=s3cret")
			req.Header.Set("User-Agent", "s3cret")
			req.Header.Set("Referer", "http://x/?s3cret")
			c := client(t)
			if tt.h2 {
				c = h2c(t)
			}
			if res, err := c.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			got := log.lines(t, 1)[0]
			if took, ok := got["took_ms"].(float64); !ok || took < 0 {
				t.Errorf("took %v ms", got["took_ms"])
			}
			if from, _ := got["client"].(string); !strings.HasPrefix(from, "127.0.0.1:") {
				t.Errorf("client %v", got["client"])
			}
			if tt.bytes < 0 {
				delete(got, "bytes")
			}
			for _, key := range []string{"time", "took_ms", "client"} {
				delete(got, key)
			}
			want := map[string]any{
				"level": "INFO", "msg": "request", "method": tt.method, "path": tt.path,
				"proto": tt.proto, "status": float64(tt.status), "bytes": float64(tt.bytes),
			}
			if tt.bytes < 0 {
				delete(want, "bytes")
			}
			if tt.path == "/abort" {
				want["aborted"] = true
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("line (-want +got):\n%s", d)
			}
			if strings.Contains(log.String(), "s3cret") {
				t.Errorf("it shows: %s", log.String())
			}
		})
	}
}

func TestAccessLogOfRefusedRequests(t *testing.T) {
	log, access := accessLog()
	s := start(t, Options{Handler: handler(hello), AccessLogger: access}, rps(0.001, 1))
	c := client(t)
	get(t, c, "http://"+s.addr+"/")
	get(t, c, "http://"+s.addr+"/")
	var statuses []any
	for _, line := range log.lines(t, 2) {
		statuses = append(statuses, line["status"])
	}
	if d := cmp.Diff([]any{200., 429.}, statuses); d != "" {
		t.Errorf("statuses (-want +got):\n%s", d)
	}
}

func TestAccessLogNamesTheClient(t *testing.T) {
	log, access := accessLog()
	s := start(t, Options{Handler: handler(hello), AccessLogger: access}, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	req := request(t, http.MethodGet, "http://"+s.addr+"/", nil)
	req.Header.Set("X-Forwarded-For", "1.1.1.1, 203.0.113.9")
	do(t, client(t), req)
	if got := log.lines(t, 1)[0]["client"]; got != "203.0.113.9:0" {
		t.Errorf("client %v", got)
	}
}

// A line of the log is a line, whatever the path.
func TestAccessLogIsOneLine(t *testing.T) {
	log := &syncBuffer{}
	s := start(t, Options{Handler: handler(hello), AccessLogger: slog.New(slog.NewTextHandler(log, nil))})
	get(t, client(t), "http://"+s.addr+"/a%0Alevel=ERROR%20msg=forged")
	eventually(t, "the line", func() bool { return log.String() != "" })
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `path="/a\nlevel=ERROR msg=forged"`) {
		t.Errorf("log: %s", text)
	}
}

// switched is a handler of which each request's context decides.
type switched struct{ slog.Handler }

type silence struct{}

func (h switched) Enabled(ctx context.Context, _ slog.Level) bool { return ctx.Value(silence{}) == nil }

func TestAccessLogIsAskedForEachRequest(t *testing.T) {
	log := &syncBuffer{}
	silent := false
	s := start(t, Options{
		Handler:      handler(hello),
		AccessLogger: slog.New(switched{slog.NewJSONHandler(log, nil)}),
		Pin: func(ctx context.Context) (context.Context, func()) {
			if silent {
				ctx = context.WithValue(ctx, silence{}, true)
			}
			return ctx, func() {}
		},
	})
	c := client(t)
	get(t, c, "http://"+s.addr+"/first")
	log.lines(t, 1)
	silent = true
	get(t, c, "http://"+s.addr+"/second")
	eventually(t, "its end", func() bool { return s.requests.Load() == 0 })
	silent = false
	get(t, c, "http://"+s.addr+"/third")
	if got := log.lines(t, 2)[1]["path"]; got != "/third" {
		t.Errorf("path %v", got)
	}
}

// Without a logger and metrics nothing is done, or allocated, for them.
func TestNothingIsObservedWithoutObservers(t *testing.T) {
	x := &exchange{server: &Server{}}
	if n := testing.AllocsPerRun(100, func() { x.observe(time.Time{}) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
	x.server.access = slog.New(slog.DiscardHandler)
	x.live.Context = t.Context()
	if n := testing.AllocsPerRun(100, func() { x.observe(time.Time{}) }); n != 0 {
		t.Errorf("%g allocations where it is not enabled", n)
	}
}

// What a client did not get is not told as if it had: neither an answer that
// nobody waited for, nor half of one.
func TestAccessLogOfClientsThatGo(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"before the answer": handler(untilDone),
		"gin, before the answer": func() http.Handler {
			e := gin.New()
			e.GET("/", func(c *gin.Context) { <-c.Request.Context().Done() })
			return e
		}(),
		"in the middle": handler(func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			log, access := accessLog()
			s := start(t, Options{Handler: h, AccessLogger: access, Logger: discard()})
			c := dial(t, s.addr)
			c.send(t, getRoot)
			status := 0.0
			if name == "in the middle" {
				status = 200
				if _, err := io.ReadFull(c.r, make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			} else {
				eventually(t, "the request", func() bool { return s.requests.Load() == 1 })
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			got := log.lines(t, 1)[0]
			if got["status"] != status || got["aborted"] != true {
				t.Errorf("status %v, aborted %v, want %v and true", got["status"], got["aborted"], status)
			}
		})
	}
}
