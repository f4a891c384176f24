package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func serveProfiles(t *testing.T) (address string, asked func() string) {
	t.Helper()
	var mu sync.Mutex
	var paths []string
	h := Handler(Backend{}, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.Method+" "+r.URL.Path)
		mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(paths, ", ")
	}
}

// TestGoToolPprof: the tool itself reads what is served, and asks for nothing
// that is not.
func TestGoToolPprof(t *testing.T) {
	address, asked := serveProfiles(t)
	for _, c := range []struct{ path, says string }{
		{"profile?seconds=1", "Type: cpu"},
		{"heap", "Type: inuse_space"},
		{"goroutine", "Type: goroutine"},
		{"allocs?gc=1", "Type: alloc_space"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", address+pprofRoot+c.path)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v\n%s", c.path, err, out)
		}
		if c.path == "goroutine" && !strings.Contains(string(out), "runtime.gopark") {
			t.Errorf("%s has no names:\n%s", c.path, out)
		}
	}
	want := "GET /debug/pprof/profile, GET /debug/pprof/heap, GET /debug/pprof/goroutine, GET /debug/pprof/allocs"
	if got := asked(); got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
}

func TestProfiles(t *testing.T) {
	h := Handler(Backend{}, nil)
	for _, c := range []struct {
		method, target string
		status         int
		starts         string
	}{
		{"GET", "", 200, "allocs "},
		{"GET", "goroutine?debug=1", 200, "goroutine profile: total "},
		{"GET", "goroutine?debug=2", 200, "goroutine "},
		{"GET", "heap", 200, "\x1f\x8b"},
		{"GET", "heap?debug=1&gc=1", 200, "heap profile: "},
		{"GET", "allocs", 200, "\x1f\x8b"},
		{"GET", "block", 200, "\x1f\x8b"},
		{"GET", "mutex", 200, "\x1f\x8b"},
		{"GET", "threadcreate", 200, "\x1f\x8b"},
		{"HEAD", "profile?seconds=120", 200, ""},
		{"GET", "trace?seconds=1", 200, "go 1."},
		{"GET", "trace?seconds=0", 400, "{"},
		{"GET", "trace?seconds=31", 400, "{"},
		{"GET", "profile?seconds=121", 400, "{"},
		{"GET", "profile?seconds=-1", 400, "{"},
		{"GET", "profile?seconds=1e9", 400, "{"},
		{"GET", "profile?seconds=", 400, "{"},
		{"GET", "heap?seconds=1", 400, "{"},
		{"GET", "heap?debug=x", 400, "{"},
		{"GET", "heap?debug=3", 400, "{"},
		{"GET", "heap?gc=2", 400, "{"},
		{"GET", "cmdline", 404, "{"},
		{"GET", "symbol", 404, "{"},
		{"GET", "nothing", 404, "{"},
		{"POST", "profile", 405, "{"},
		{"POST", "", 405, "{"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, pprofRoot+c.target, nil))
		if w.Code != c.status || !strings.HasPrefix(w.Body.String(), c.starts) {
			t.Errorf("%s %s: %d %.60q, want %d %q", c.method, c.target, w.Code, w.Body, c.status, c.starts)
		}
		problem := w.Header().Get("Content-Type") == "application/problem+json"
		if problem != (c.status >= 400) || problem && w.Header().Get("Content-Disposition") != "" {
			t.Errorf("%s %s: %s", c.method, c.target, headerText(w.Header()))
		}
	}
}

// TestOneRecordingAtATime of each kind, which ends when its client goes.
func TestOneRecordingAtATime(t *testing.T) {
	h := Handler(Backend{}, nil)
	for _, name := range []string{"profile?seconds=120", "trace?seconds=30"} {
		ctx, cancel := context.WithCancel(t.Context())
		var recording sync.WaitGroup
		started := make(chan struct{})
		recording.Go(func() {
			close(started)
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", pprofRoot+name, nil))
		})
		<-started
		status := func() int {
			short, cancel := context.WithCancel(t.Context())
			cancel() // one that is let in ends at once
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(short, "GET", pprofRoot+name, nil))
			return w.Code
		}
		for deadline := time.Now().Add(time.Minute); status() != http.StatusConflict; {
			if time.Now().After(deadline) {
				t.Fatalf("%s: a second one is never refused", name)
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		recording.Wait()
		if got := status(); got != http.StatusOK {
			t.Errorf("%s: %d after the first has ended", name, got)
		}
	}
}

// TestNoDefaultMux: a program that imports this package serves no profiles by
// its own default mux.
func TestNoDefaultMux(t *testing.T) {
	for _, path := range []string{pprofRoot, pprofRoot + "heap", pprofRoot + "cmdline"} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
		if _, pattern := http.DefaultServeMux.Handler(r); pattern != "" { //nolint:forbidigo // to see that nobody uses it
			t.Errorf("%s is served as %s", path, pattern)
		}
	}
}
