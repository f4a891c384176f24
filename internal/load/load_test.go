package load

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// counts are the numbers of clients in a test.
func counts(target Target, fresh, busy, idle int) Options {
	return Options{
		Target: target, Fresh: fresh, Busy: busy, Idle: idle,
		ThinkMin: time.Millisecond, ThinkMax: 20 * time.Millisecond, Timeout: 5 * time.Second,
	}
}

// run runs a load until enough says so, and ends the server.
func (s *service) run(t *testing.T, o Options, enough func(Result) bool) (Result, Executions) {
	t.Helper()
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for !enough(l.Result()) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	r, err := l.Stop()
	if err != nil {
		t.Fatal(err)
	}
	s.end()
	e, err := l.Executions(s.record)
	if err != nil {
		t.Fatal(err)
	}
	if !enough(r) {
		t.Fatalf("the load has not seen enough: %+v", r)
	}
	return r, e
}

func TestServerThatLosesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		network    string
		secure, h2 bool
	}{
		"tcp": {network: "tcp"}, "unix": {network: "unix"},
		"TLS": {network: "tcp", secure: true}, "HTTP/2": {network: "tcp", secure: true, h2: true},
		"TLS on unix": {network: "unix", secure: true}, "HTTP/2 on unix": {network: "unix", secure: true, h2: true},
	} {
		t.Run(name, func(t *testing.T) {
			var major atomic.Int32
			s := serve(t, c.network, c.secure, c.h2, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					major.Store(int32(r.ProtoMajor))
					h.ServeHTTP(w, r)
				})
			})
			prober, err := NewProber(s.target)
			if err != nil {
				t.Fatal(err)
			}
			if pid, err := prober.Probe(t.Context(), 5*time.Second); pid != os.Getpid() || err != nil {
				t.Errorf("probe: %d, %v, want %d", pid, err, os.Getpid())
			}
			r, e := s.run(t, counts(s.target, 2, 3, 4), func(r Result) bool {
				return min(r.Fresh.Answered, r.Busy.Answered, r.Idle.Answered) > 20
			})
			if r.Failed() != 0 {
				t.Errorf("failures: %+v", r)
			}
			if e.Executed != r.Requests() || e != (Executions{Executed: e.Executed}) {
				t.Errorf("%d requests, executions %+v", r.Requests(), e)
			}
			if r.Fresh.Kept != 0 || r.Busy.Kept != 3 || r.Idle.Kept != 4 || r.Busy.Told+r.Busy.Ended+r.Idle.Told+r.Idle.Ended != 0 {
				t.Errorf("connections: %+v", r)
			}
			for _, g := range []Group{r.Fresh, r.Busy, r.Idle} {
				if p50, p99 := g.Latency(0.5), g.Latency(0.99); p50 <= 0 || p99 < p50 {
					t.Errorf("latency %v and %v", p50, p99)
				}
			}
			if want := map[bool]int32{false: 1, true: 2}[c.h2]; major.Load() != want {
				t.Errorf("HTTP/%d, want %d", major.Load(), want)
			}
		})
	}
}

// A server that answers in its own words is fine where it may, and what it does
// not answer is lost all the same.
func TestForeignServer(t *testing.T) {
	for name, c := range map[string]struct{ secure, h2 bool }{"tcp": {}, "HTTP/2": {secure: true, h2: true}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "tcp", c.secure, c.h2, func(http.Handler) http.Handler {
				return every(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
					w.WriteHeader(http.StatusServiceUnavailable)
				})(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "something") }))
			})
			enough := func(r Result) bool { return r.Busy.Requests > 50 }
			s.target.Foreign = true
			l, err := Start(t.Context(), counts(s.target, 1, 2, 0))
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(20 * time.Second); !enough(l.Result()) && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			r, err := l.Stop()
			if err != nil || !enough(r) {
				t.Fatalf("%+v, %v", r, err)
			}
			if failed := r.Of(Status); failed == 0 || failed != r.Failed() || failed > r.Requests()/5 {
				t.Errorf("failures: %+v", r)
			}
		})
	}
}

// every spoils one in ten POSTs.
func every(spoil func(w http.ResponseWriter, r *http.Request, h http.Handler)) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		var n atomic.Int64
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && n.Add(1)%10 == 0 {
				spoil(w, r, h)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

func TestLossIsSeen(t *testing.T) {
	drop := func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		spoil      func(w http.ResponseWriter, r *http.Request, h http.Handler)
		secure, h2 bool
		kind       Kind
		text       string
		unanswered bool // but executed
	}{
		"dropped": {spoil: drop, kind: Receive, text: "the connection ended before the answer"},
		"dropped after execution": {
			spoil: func(w http.ResponseWriter, r *http.Request, h http.Handler) {
				h.ServeHTTP(discard{http.Header{}}, r)
				panic(http.ErrAbortHandler)
			}, kind: Receive, text: "the connection ended before the answer", unanswered: true,
		},
		"dropped over TLS":    {spoil: drop, secure: true, kind: Receive, text: "the connection ended before the answer"},
		"dropped over HTTP/2": {spoil: drop, secure: true, h2: true, kind: Receive, text: "INTERNAL_ERROR"},
		"cut": {spoil: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.Header().Set("Content-Length", "7")
			_, _ = io.WriteString(w, "cut")
		}, kind: Receive, text: "unexpected EOF"},
		"503": {spoil: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, kind: Status, text: "the answer is 503 Service Unavailable"},
		"204 over HTTP/2": {spoil: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusNoContent)
		}, secure: true, h2: true, kind: Status, text: "the answer is 204 No Content"},
		"to another": {spoil: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set(pidHeader, "1")
			w.Header().Set(idHeader, "999999999")
			_, _ = io.WriteString(w, "999999999")
		}, kind: Mangled, text: "the answer is to another request"},
		"without a process": {spoil: func(http.ResponseWriter, *http.Request, http.Handler) {}, kind: Mangled, text: "the answer does not name a process"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "tcp", c.secure, c.h2, every(c.spoil))
			r, e := s.run(t, counts(s.target, 2, 2, 2), func(r Result) bool {
				return r.Requests() > 200 && min(r.Fresh.Failed(), r.Busy.Failed(), r.Idle.Failed()) > 0
			})
			if r.Failed() == 0 || r.Failed() != r.Of(c.kind) {
				t.Errorf("failures %+v, %+v, %+v: want those of kind %q alone", r.Fresh.Failures, r.Busy.Failures, r.Idle.Failures, c.kind)
			}
			for _, text := range r.Busy.Failures[c.kind].Texts {
				if !strings.Contains(text, c.text) {
					t.Errorf("text %q, want %q", text, c.text)
				}
			}
			answered := r.Fresh.Answered + r.Busy.Answered + r.Idle.Answered
			want := Executions{Executed: answered}
			if c.unanswered {
				want.Executed += r.Failed()
				want.Unanswered = r.Failed()
			}
			if diff := cmp.Diff(want, e); diff != "" || answered+r.Failed() != r.Requests() {
				t.Errorf("%d requests, %d answered, %d failed: %s", r.Requests(), answered, r.Failed(), diff)
			}
		})
	}
}

func TestDoubleExecutionIsSeen(t *testing.T) {
	s := serve(t, "tcp", false, false, every(func(w http.ResponseWriter, r *http.Request, h http.Handler) {
		body, _ := io.ReadAll(r.Body)
		for range 2 { // three times in all, which is one request executed twice
			again := r.Clone(r.Context())
			again.Body = io.NopCloser(strings.NewReader(string(body)))
			h.ServeHTTP(discard{http.Header{}}, again)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		h.ServeHTTP(w, r)
	}))
	r, e := s.run(t, counts(s.target, 1, 2, 1), func(r Result) bool { return r.Requests() >= 100 })
	if want := r.Requests() / 10; r.Failed() != 0 || e.Twice != want || e.Executed != r.Requests() {
		t.Errorf("%d requests, %d failures, executions %+v, want %d twice", r.Requests(), r.Failed(), e, want)
	}
}

func TestSecondAnswerIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		text func(id string) string
		kind Kind
	}{
		"the same": {func(id string) string { return answerTo(id, "") + answerTo(id, "") }, AnsweredTwice},
		"another":  {func(id string) string { return answerTo(id, "") + "HTTP/1.1 408 Request Timeout\r\n\r\n" }, Unasked},
		"half":     {func(id string) string { return answerTo(id, "") + "HTTP" }, Unasked},
	} {
		for kind, o := range map[string]Options{"fresh": {Fresh: 1}, "idle": {Idle: 1}} {
			t.Run(name+", "+kind, func(t *testing.T) {
				target := raw(t, func(_ int, id string) string { return c.text(id) })
				o := counts(target, o.Fresh, 0, o.Idle)
				o.ThinkMin = 10 * time.Millisecond
				l, err := Start(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				for l.Result().Requests() < 2 {
					time.Sleep(time.Millisecond)
				}
				r, err := l.Stop()
				if err != nil {
					t.Fatal(err)
				}
				// A request that was sent meanwhile got none.
				if n := r.Of(c.kind); n == 0 || r.Failed() != n+r.Of(Receive) {
					t.Errorf("%+v, %+v, want %q", r.Fresh.Failures, r.Idle.Failures, c.kind)
				}
			})
		}
	}
}

// A server that answers the request before again, in place of the next one.
func TestLateSecondAnswerIsSeen(t *testing.T) {
	first := ""
	target := raw(t, func(n int, id string) string {
		if n == 1 {
			first = id
		}
		return answerTo(first, "")
	})
	l, err := Start(t.Context(), counts(target, 0, 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	for l.Result().Requests() < 4 {
		time.Sleep(time.Millisecond)
	}
	r, err := l.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Busy.Failures[AnsweredTwice].Count; n == 0 || r.Failed() != n {
		t.Errorf("failures %+v", r.Busy.Failures)
	}
}

func TestEndsOfConnectionsAreNoFailures(t *testing.T) {
	for name, c := range map[string]struct {
		answer      func(n int, id string) string
		told, ended bool
	}{
		"told":  {answer: func(_ int, id string) string { return answerTo(id, "Connection: close\r\n") }, told: true},
		"ended": {answer: func(n int, id string) string { return answerTo(id, "") }, ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			var lc net.ListenConfig
			var target Target
			if c.ended { // closes after each answer, without a word
				ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				target = closing(t, ln)
			} else {
				target = raw(t, c.answer)
			}
			o := counts(target, 0, 0, 3)
			o.ThinkMin = 10 * time.Millisecond
			l, err := Start(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for l.Result().Requests() < 9 {
				time.Sleep(time.Millisecond)
			}
			r, err := l.Stop()
			if err != nil {
				t.Fatal(err)
			}
			if r.Failed() != 0 || r.Idle.Kept != 0 || (r.Idle.Told >= 6) != c.told || (r.Idle.Ended >= 6) != c.ended {
				t.Errorf("%+v", r.Idle)
			}
		})
	}
}

func TestNobodyThereAndNoAnswer(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := Target{Network: "tcp", Address: ln.Addr().String()} // the queue takes connections
	nobody := Target{Network: "unix", Address: filepath.Join(t.TempDir(), "none")}
	for kind, target := range map[Kind]Target{Timeout: silent, Connect: nobody} {
		o := counts(target, 1, 1, 1)
		o.Timeout = 20 * time.Millisecond
		l, err := Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.Stop()
		if err != nil {
			t.Fatal(err)
		}
		if r.Requests() < 3 || r.Of(kind) != r.Requests() {
			t.Errorf("%q: %+v", kind, r)
		}
		prober, err := NewProber(target)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prober.Probe(t.Context(), 20*time.Millisecond); err == nil {
			t.Errorf("%q: the probe was answered", kind)
		}
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}

func TestContextThatEndsIsNoFailure(t *testing.T) {
	entered := make(chan struct{}, 8)
	leave := make(chan struct{})
	var held atomic.Bool
	s := serve(t, "tcp", false, false, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if held.Load() {
				entered <- struct{}{}
				<-leave
			}
			h.ServeHTTP(w, r)
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Start(ctx, counts(s.target, 1, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	held.Store(true)
	<-entered
	cancel()
	r, err := l.Stop()
	close(leave)
	if !errors.Is(err, context.Canceled) || r.Failed() != 0 {
		t.Errorf("%v, %+v", err, r)
	}
}
