package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/hotsvc/svc/server/liveconn"
)

func requestTime(d time.Duration) func(*Config) {
	return func(c *Config) { c.Timeout.Request = d }
}

// wantProblem checks all of an application/problem+json but the wording of a
// detail, of which it wants a part.
func wantProblem(t *testing.T, a answer, status int, detail string) {
	t.Helper()
	if a.StatusCode != status || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("answer %s of type %q, want problem+json with %d; body %q",
			a.Status, a.Header.Get("Content-Type"), status, a.body)
	}
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in %q", err, a.body)
	}
	if p.Type != "about:blank" || p.Title != http.StatusText(status) || p.Status != status || !strings.Contains(p.Detail, detail) {
		t.Errorf("problem %+v, want status %d and a detail with %q", p, status, detail)
	}
}

func untilDone(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestRequestTimeRunsOut(t *testing.T) {
	gin.SetMode(gin.TestMode)
	plainGin := gin.New()
	plainGin.GET("/", func(c *gin.Context) {
		c.Header("Content-Length", "3")
		c.Header("ETag", `"x"`)
		<-c.Request.Context().Done()
	})
	for name, h := range map[string]http.Handler{
		"net/http":               handler(untilDone),
		"gin of somebody else's": plainGin,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{Handler: h}, requestTime(50*time.Millisecond))
			began := time.Now()
			a := get(t, client(t), "http://"+s.addr+"/")
			wantProblem(t, a, 503, "server.timeout.request")
			if took := time.Since(began); took < 50*time.Millisecond || took > 5*time.Second {
				t.Errorf("answered after %s", took)
			}
			if a.Header.Get("ETag") != "" {
				t.Error("the header of the answer that was not given is still there")
			}
		})
	}
}

func TestRequestTimeLongerOrNone(t *testing.T) {
	for name, limit := range map[string]time.Duration{"longer": time.Minute, "none": 0} {
		t.Run(name, func(t *testing.T) {
			deadline := make(chan bool, 1)
			s := start(t, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
				if _, has := r.Context().Deadline(); has {
					t.Error("the context promises a deadline that may be moved")
				}
				_, has := liveconn.Deadline(r.Context())
				deadline <- has
				hello(w, r)
			})}, requestTime(limit))
			if a := get(t, client(t), "http://"+s.addr+"/"); a.StatusCode != 200 || a.body != "hello" {
				t.Errorf("answer %s %q", a.Status, a.body)
			}
			if has := <-deadline; has != (limit > 0) {
				t.Errorf("the request has a deadline: %v", has)
			}
		})
	}
}

// What a handler has answered stands, however late it is.
func TestLateAnswersStand(t *testing.T) {
	for name, tt := range map[string]struct {
		write  func(http.ResponseWriter)
		status int
		body   string
	}{
		"body":       {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "late") }, 200, "late"},
		"status":     {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, 204, ""},
		"error":      {func(w http.ResponseWriter) { http.Error(w, "late", http.StatusGatewayTimeout) }, 504, "late\n"},
		"flush":      {func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200, ""},
		"200 + body": {func(w http.ResponseWriter) { w.WriteHeader(200); _, _ = w.Write([]byte("late")) }, 200, "late"},
		"hints": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusAccepted)
		}, 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				tt.write(w)
			})}, requestTime(10*time.Millisecond))
			if a := get(t, client(t), "http://"+s.addr+"/"); a.StatusCode != tt.status || a.body != tt.body {
				t.Errorf("answer %s %q, want %d %q", a.Status, a.body, tt.status, tt.body)
			}
		})
	}
}

func TestAnswerBegunInTimeIsNotReplaced(t *testing.T) {
	s := start(t, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first ")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		_, _ = io.WriteString(w, "second")
	})}, requestTime(20*time.Millisecond))
	if a := get(t, client(t), "http://"+s.addr+"/"); a.StatusCode != 200 || a.body != "first second" {
		t.Errorf("answer %s %q", a.Status, a.body)
	}
}

// One request sees one configuration, whatever is stored meanwhile, and each pin
// is released once, after the answer.
func TestRequestIsPinned(t *testing.T) {
	type key struct{}
	var current atomic.Pointer[Config]
	initial := Default()
	current.Store(&initial)
	var pins, releases atomic.Int64
	config := func(ctx context.Context) *Config {
		if c, ok := ctx.Value(key{}).(*Config); ok {
			return c
		}
		return current.Load()
	}
	change := func() {
		changed := Default()
		changed.Limit.BodyBytes = 1 // what the requests below carry is more
		current.Store(&changed)
	}
	s := start(t, Options{
		Pin: func(ctx context.Context) (context.Context, func()) {
			pins.Add(1)
			pinned := &initial
			change() // right after the pin
			return context.WithValue(ctx, key{}, pinned), func() { releases.Add(1) }
		},
		Config: config,
		Handler: handler(func(_ http.ResponseWriter, r *http.Request) {
			before := config(r.Context())
			change()
			if config(r.Context()) != before || before != &initial {
				t.Error("the request sees two configurations")
			}
			if releases.Load() == pins.Load() {
				t.Error("the pin was released during the request")
			}
		}),
	})
	c := client(t)
	for range 2 {
		if a := do(t, c, request(t, http.MethodPost, "http://"+s.addr+"/", strings.NewReader("body"))); a.StatusCode != 200 {
			t.Errorf("answer %s", a.Status)
		}
	}
	eventually(t, "release of both pins", func() bool { return releases.Load() == 2 })
	if pins.Load() != 2 {
		t.Errorf("%d pins for 2 requests", pins.Load())
	}
}

// syncBuffer is a log that a test reads while the server writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestPanic(t *testing.T) {
	for name, tt := range map[string]struct {
		panics func()
		log    string // a part of the line
	}{
		"text":         {func() { panic("s3cret") }, "panic=string"},
		"error":        {func() { panic(errors.New("s3cret")) }, "panic=*errors.errorString"},
		"wrapped":      {func() { panic(&secretError{"s3cret", errors.New("x")}) }, "panic=*server.secretError"},
		"runtime":      {func() { var v any = 1; _ = v.(string) }, "interface conversion: interface {} is int, not string"},
		"nil":          {func() { panic(nil) }, "panic called with nil argument"},
		"out of range": {func() { s := []int{}; s[len(s)]++ }, "index out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			log := &syncBuffer{}
			var released atomic.Int64
			s := start(t, Options{
				Logger: slog.New(slog.NewTextHandler(log, nil)),
				Pin: func(ctx context.Context) (context.Context, func()) {
					return ctx, func() { released.Add(1) }
				},
				Handler: handler(func(http.ResponseWriter, *http.Request) { tt.panics() }),
			})
			a := get(t, client(t), "http://"+s.addr+"/path?token=s3cret")
			wantProblem(t, a, 500, "")
			text := log.String()
			if strings.Contains(text+a.body, "s3cret") {
				t.Errorf("the value shows: %s %s", text, a.body)
			}
			if n := strings.Count(text, "handler panicked"); n != 1 {
				t.Errorf("logged %d times: %s", n, text)
			}
			for _, want := range []string{tt.log, "method=GET", "path=/path", "request_test.go"} {
				if !strings.Contains(text, want) {
					t.Errorf("log lacks %q: %s", want, text)
				}
			}
			if released.Load() != 1 {
				t.Errorf("pin released %d times", released.Load())
			}
		})
	}
}

type secretError struct {
	text string
	error
}

func (e *secretError) Error() string { return e.text }

// Half an answer, and one that a handler gives up, end as a broken connection.
func TestPanicAfterTheHeader(t *testing.T) {
	for name, value := range map[string]any{"panic": "x", "abort": http.ErrAbortHandler} {
		t.Run(name, func(t *testing.T) {
			log := &syncBuffer{}
			s := start(t, Options{
				Logger: slog.New(slog.NewTextHandler(log, nil)),
				Handler: handler(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = io.WriteString(w, "half")
					w.(http.Flusher).Flush()
					panic(value)
				}),
			})
			res, err := client(t).Do(request(t, http.MethodGet, "http://"+s.addr+"/", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if body, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the client reads %q, %v, as if it were whole", body, err)
			}
			want := 1
			if value == http.ErrAbortHandler { //nolint:errorlint // compared as any, for the table
				want = 0
			}
			if n := strings.Count(log.String(), "handler panicked"); n != want {
				t.Errorf("logged %d times, want %d", n, want)
			}
		})
	}
}

// What a handler may ask of its writer under net/http, it may ask here.
func TestWriterKeepsItsFaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	content := strings.Repeat("0123456789", 20_000)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	gin.SetMode(gin.TestMode)
	e := gin.New()
	e.GET("/file", func(c *gin.Context) { c.File(file) })
	e.GET("/plainfile", gin.WrapF(func(w http.ResponseWriter, r *http.Request) {
		// gin's writer has no ReadFrom: what is below it has.
		http.ServeFile(w.(interface{ Unwrap() http.ResponseWriter }).Unwrap(), r, file)
	}))
	e.GET("/stream", func(c *gin.Context) {
		n := 0
		c.Stream(func(w io.Writer) bool {
			n++
			_, _ = io.WriteString(w, "x")
			return n < 3
		})
	})
	e.GET("/controller", func(c *gin.Context) {
		rc := http.NewResponseController(c.Writer)
		if err := errors.Join(rc.SetReadDeadline(time.Now().Add(time.Minute)),
			rc.SetWriteDeadline(time.Now().Add(time.Minute)), rc.EnableFullDuplex()); err != nil {
			t.Errorf("ResponseController: %v", err)
		}
		c.String(http.StatusAccepted, "ok")
		if err := rc.Flush(); err != nil {
			t.Errorf("flush: %v", err)
		}
	})
	s := start(t, Options{Handler: e})
	c := client(t)
	for path, want := range map[string]string{
		"/file": content, "/plainfile": content, "/stream": "xxx", "/controller": "ok",
	} {
		if a := get(t, c, "http://"+s.addr+path); a.body != want {
			t.Errorf("%s: %s with %d bytes, want %d", path, a.Status, len(a.body), len(want))
		}
	}
}

// countingListener counts what takes the kernel's way to its connections.
type countingListener struct {
	net.Listener
	copied *atomic.Int64
}

type countingConn struct {
	net.Conn
	copied *atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{nc, l.copied}, nil
}

func (c *countingConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.Conn.(io.ReaderFrom).ReadFrom(r)
	c.copied.Add(n)
	return n, err
}

// A file must reach ReadFrom of the connection below ours, where sendfile is.
func TestFilesTakeTheKernelsWay(t *testing.T) {
	const size = 300_000
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	listeners, err := Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	counting := &countingListener{listeners[0], &atomic.Int64{}}
	s := startOn(t, []net.Listener{counting}, Options{Handler: handler(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, file)
	})})
	if a := get(t, client(t), "http://"+s.addr+"/"); len(a.body) != size {
		t.Errorf("answer of %d bytes", len(a.body))
	}
	// net/http copies the first 512 bytes itself, to look at the type.
	if n := counting.copied.Load(); n < size-512 {
		t.Errorf("%d of %d bytes took that way", n, size)
	}
}
