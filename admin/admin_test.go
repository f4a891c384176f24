package admin

import (
	"context"
	"errors"
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

	"github.com/hotsvc/svc/configsrc"
)

type answer struct {
	Word string `json:"word"`
}

// changedKey finds the keys that a refresh finds changed.
type changedKey struct{}

func testBackend() Backend {
	return Backend{
		Status: func() any { return answer{"status"} },
		Config: func() any { return make(chan int) }, // no JSON
		Reload: func(context.Context) (any, error) { return answer{"reload"}, nil },
		Refresh: func(ctx context.Context) ([]string, error) {
			changed, _ := ctx.Value(changedKey{}).([]string)
			if len(changed) == 1 {
				return changed, &StatusError{http.StatusUnprocessableEntity, errors.New(changed[0] + " is bad")}
			}
			return changed, nil
		},
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

// TestRefresh: the answer is Spring's, a list of keys.
func TestRefresh(t *testing.T) {
	h := Handler(testBackend(), nil)
	for _, c := range []struct {
		method  string
		changed []string
		status  int
		says    string
	}{
		{"POST", nil, 200, "[]\n"},
		{"POST", []string{"a.b", "c"}, 200, `["a.b","c"]` + "\n"},
		{"POST", []string{"a.b"}, 422, "a.b is bad"},
		{"GET", nil, 405, "takes POST"},
	} {
		w := httptest.NewRecorder()
		ctx := context.WithValue(t.Context(), changedKey{}, c.changed)
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, c.method, "/actuator/refresh", nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || c.status == 200 && w.Body.String() != c.says {
			t.Errorf("%s %v: %d %s", c.method, c.changed, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	Handler(Backend{}, nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/actuator/refresh", nil))
	if w.Code != 404 {
		t.Errorf("not offered: %d", w.Code)
	}
}

// TestBrowsersOnTheSocket: what stands before the socket may be a proxy.
func TestBrowsersOnTheSocket(t *testing.T) {
	h := Handler(testBackend(), nil)
	for _, header := range []string{
		"Origin: https://evil.example", "Origin: null", "Origin: https://admin", "Sec-Fetch-Site: cross-site",
		"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Upgrade: websocket",
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), method, "/api/v1/reload", nil)
			r.Host = "admin"
			name, value, _ := strings.Cut(header, ": ")
			r.Header.Set(name, value)
			h.ServeHTTP(w, r)
			if w.Code != http.StatusForbidden || w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: %d", method, header, w.Code)
			}
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/reload", nil)
	r.Host = "admin"
	r.Header.Set("Origin", "http://admin")
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("our own origin: %d %s", w.Code, w.Body)
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
		served <- Serve(ctx, l, Handler(testBackend(), nil), discard())
	}()
	c := newTestClient(t, "unix:"+path, ClientOptions{})
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
	go func() { served <- Serve(ctx, l, Handler(b, nil), discard()) }()
	called := make(chan error, 1)
	c := newTestClient(t, "unix:"+l.Addr().String(), ClientOptions{})
	go func() {
		called <- c.Post(t.Context(), "/api/v1/reload", nil, nil, &answer{})
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
