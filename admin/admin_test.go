package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/hotsvc/svc/configsrc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type answer struct {
	Word string `json:"word"`
}

func testBackend() Backend {
	return Backend{
		Status: func() any { return answer{"status"} },
		Config: func() any { return make(chan int) }, // no JSON
		Reload: func(context.Context) (any, error) { return answer{"reload"}, nil },
		Plan: func(_ context.Context, name string, document []byte) (any, error) {
			switch {
			case document == nil:
				return answer{"no document"}, nil
			case len(document) == 0:
				return nil, errors.New("an empty document is not none")
			}
			return answer{name + ":" + string(document)}, nil
		},
		Rollback: func(_ context.Context, revision string) (any, error) {
			switch revision {
			case "missing":
				return nil, &StatusError{http.StatusNotFound, errors.New("no such revision")}
			case "invalid":
				return nil, &configsrc.InvalidError{Problems: []configsrc.Problem{{Key: "a.b", Origin: configsrc.Origin{Name: "f", Line: 3}, Reason: "is bad"}}}
			case "broken":
				return nil, errors.New("disk full")
			}
			return answer{revision}, nil
		},
	}
}

func TestHandler(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "test_gauge", Help: "x"}))
	h := Handler(testBackend(), registry)
	for _, c := range []struct {
		method, target, body string
		status               int
		says                 string
	}{
		{"GET", "/api/v1/status", "", 200, `{"word":"status"}`},
		{"POST", "/api/v1/status", "", 405, "takes GET, HEAD"},
		{"GET", "/api/v1/reload", "", 405, "takes POST"},
		{"GET", "/api/v1/rollback/abc", "", 405, "takes POST"},
		{"POST", "/api/v1/reload", "", 200, `{"word":"reload"}`},
		{"POST", "/api/v1/plan?name=x.yaml", "a: 1", 200, `{"word":"x.yaml:a: 1"}`},
		{"POST", "/api/v1/plan", "", 200, `{"word":"no document"}`},
		{"POST", "/api/v1/plan", strings.Repeat("x", maxDocument+1), 413, "4 MiB"},
		{"POST", "/api/v1/rollback/abc", "", 200, `{"word":"abc"}`},
		{"POST", "/api/v1/rollback/missing", "", 404, `"detail":"no such revision"`},
		{"POST", "/api/v1/rollback/invalid", "", 422, `"problems":[{"key":"a.b","origin":{"name":"f","line":3},"reason":"is bad"}]`},
		{"POST", "/api/v1/rollback/broken", "", 500, "disk full"},
		{"POST", "/api/v1/resume", "", 404, "no such endpoint"},
		{"GET", "/api/v1/sources", "", 404, "no such endpoint"},
		{"GET", "/api/v1/config", "", 500, "unsupported type"},
		{"GET", "/metrics", "", 200, "test_gauge 0"},
		{"GET", "/", "", 404, "no such endpoint"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.target, strings.NewReader(c.body)))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.target, w.Code, w.Body, c.status, c.says)
		}
		want := "application/json"
		if c.status >= 400 {
			want = "application/problem+json"
		}
		if got := w.Header().Get("Content-Type"); c.target != "/metrics" && got != want {
			t.Errorf("%s %s: content type %s", c.method, c.target, got)
		}
	}
}

func TestClientOverTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, l, Handler(testBackend(), nil), slog.New(slog.DiscardHandler))
	}()
	c := NewClient("unix:" + path)
	var a answer
	if err := c.Get(ctx, "/api/v1/status", &a); err != nil || a.Word != "status" {
		t.Errorf("%v %v", a, err)
	}
	if err := c.Post(ctx, "/api/v1/plan", url.Values{"name": {"f"}}, []byte("b: 2"), &a); err != nil || a.Word != "f:b: 2" {
		t.Errorf("%v %v", a, err)
	}
	if err := c.Post(ctx, "/api/v1/plan", nil, nil, &a); err != nil || a.Word != "no document" {
		t.Errorf("%v %v", a, err)
	}
	var p *Problem
	if err := c.Post(ctx, "/api/v1/rollback/invalid", nil, nil, &a); !errors.As(err, &p) || p.Status != 422 || len(p.Problems) != 1 || p.Problems[0].Origin.Line != 3 {
		t.Errorf("%v", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := c.Get(t.Context(), "/api/v1/status", &a); err == nil || errors.As(err, &p) && p.Status == 0 {
		t.Errorf("after the end: %v", err)
	}
}

func TestServeCutsWhatHangs(t *testing.T) {
	l, err := ListenUnix(t.Context(), filepath.Join(t.TempDir(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	b := testBackend()
	b.Reload = func(ctx context.Context) (any, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, Handler(b, nil), slog.New(slog.DiscardHandler)) }()
	called := make(chan error, 1)
	go func() {
		called <- NewClient("unix:"+l.Addr().String()).Post(t.Context(), "/api/v1/reload", nil, nil, &answer{})
	}()
	<-entered
	began := time.Now()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > stopTimeout+2*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := <-called; err == nil {
		t.Error("the call that was cut has no error")
	}
}

func TestListenUnixProblems(t *testing.T) {
	dir := t.TempDir()
	if _, err := ListenUnix(t.Context(), filepath.Join(dir, strings.Repeat("x", 120))); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("too long: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Error("the file was touched")
	}
	if _, err := ListenUnix(t.Context(), filepath.Join(dir, "no", "folder")); err == nil {
		t.Error("a folder that is missing")
	}
	// A socket that a dead process left.
	stale := filepath.Join(dir, "stale")
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = ListenUnix(t.Context(), stale)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestClientRefusesWhatIsNoAnswer(t *testing.T) {
	for name, body := range map[string]string{"html": "<html>", "empty": "", "cut": `{"word":`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, bytes.NewReader([]byte(body))) }))
		if err := NewClient(strings.TrimPrefix(s.URL, "http://")).Get(t.Context(), "/", &answer{}); err == nil {
			t.Errorf("%s was taken", name)
		}
		s.Close()
	}
}
