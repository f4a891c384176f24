package liveconn

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

type testKey struct{}

// begin starts a request on a connection of its own.
func begin(t *testing.T, parent context.Context, timeouts Timeouts) (*Registry, *Request) { //nolint:revive // t comes first in a test
	t.Helper()
	r := NewRegistry(timeouts)
	c := r.add(&lateConn{}, ListenerOptions{})
	c.to(http.StateActive)
	live := &Request{}
	live.Begin(parent, c, nil, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), time.Now()) //nolint:contextcheck // not the parent of anything
	return r, live
}

// wantEnd checks a context that has ended, and what hangs on it.
func wantEnd(t *testing.T, what string, ctx context.Context, want error) { //nolint:revive // t comes first in a test
	t.Helper()
	select {
	case <-ctx.Done():
	default:
		t.Errorf("%s has not ended", what)
	}
	if err := ctx.Err(); !errors.Is(err, want) {
		t.Errorf("%s ended with %v, want %v", what, err, want)
	}
}

func TestContext(t *testing.T) {
	ends := map[string]struct {
		end  func(cancelParent context.CancelFunc, r *Registry, live *Request)
		want error
	}{
		"time": {func(context.CancelFunc, *Registry, *Request) { time.Sleep(10 * time.Second) }, context.DeadlineExceeded},
		"change": {func(_ context.CancelFunc, r *Registry, _ *Request) {
			time.Sleep(time.Second)
			r.SetTimeouts(Timeouts{Request: time.Millisecond})
		}, context.DeadlineExceeded},
		"return": {func(_ context.CancelFunc, _ *Registry, live *Request) { live.End() }, context.Canceled},
		"client": {func(cancel context.CancelFunc, _ *Registry, _ *Request) { cancel() }, context.Canceled},
	}
	for name, tt := range ends {
		for _, asked := range []bool{true, false} { // for Done, before the end
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancel(context.WithValue(t.Context(), testKey{}, "value"))
					defer cancel()
					r, live := begin(t, parent, Timeouts{Request: 10 * time.Second})
					if asked {
						select {
						case <-live.Done():
							t.Error("ended at once")
						default:
						}
					}
					if err := live.Err(); err != nil {
						t.Errorf("Err is %v", err)
					}
					if live.Value(testKey{}) != "value" || live.Value("x") != nil {
						t.Error("the values are not the parent's")
					}
					wrapped := context.WithValue(live, testKey{}, "other")
					goroutines := runtime.NumGoroutine()
					child, cancelChild := context.WithTimeout(wrapped, time.Hour)
					defer cancelChild()
					called := make(chan struct{})
					stop := context.AfterFunc(wrapped, func() { close(called) })
					defer stop()
					if n := runtime.NumGoroutine() - goroutines; n > 0 {
						t.Errorf("a derived context costs %d goroutines", n)
					}
					tt.end(cancel, r, live)
					synctest.Wait()
					wantEnd(t, "the context", live, tt.want)
					wantEnd(t, "a derived one", child, tt.want)
					late, cancelLate := context.WithCancel(live)
					defer cancelLate()
					wantEnd(t, "one derived afterwards", late, tt.want)
					select {
					case <-called:
					default:
						t.Error("AfterFunc was not called")
					}
					if cause := context.Cause(live); !errors.Is(cause, tt.want) {
						t.Errorf("the cause is %v", cause)
					}
					if live.TimedOut() != (tt.want == context.DeadlineExceeded) { //nolint:errorlint // a table's own value
						t.Errorf("timed out: %v", live.TimedOut())
					}
				})
			})
		}
	}
}

// A child keeps its own limit when that of the request is moved over it.
func TestChildKeepsItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, live := begin(t, t.Context(), Timeouts{Request: 300 * time.Millisecond})
		defer live.End()
		child, cancel := context.WithTimeout(live, 500*time.Millisecond)
		defer cancel()
		began := time.Now()
		r.SetTimeouts(Timeouts{Request: time.Second})
		<-child.Done()
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("the child ended after %v", took)
		}
	})
}

func TestDeadline(t *testing.T) {
	r, live := begin(t, t.Context(), Timeouts{Request: time.Minute})
	ctx := context.WithValue(live, testKey{}, 1)
	first, ok := Deadline(ctx)
	if !ok || !first.Equal(live.began.Add(time.Minute)) {
		t.Errorf("deadline %v, %v", first, ok)
	}
	if _, ok := ctx.Deadline(); ok {
		t.Error("the context promises a deadline that may be moved")
	}
	r.SetTimeouts(Timeouts{Request: time.Hour})
	if later, ok := Deadline(ctx); !ok || later.Sub(first) != 59*time.Minute {
		t.Errorf("deadline %v, %v", later, ok)
	}
	r.SetTimeouts(Timeouts{})
	if _, ok := Deadline(ctx); ok {
		t.Error("a deadline without a limit")
	}
	if _, ok := Deadline(t.Context()); ok {
		t.Error("a deadline of something else")
	}
	live.End()
}

// While nobody waits for its end, a request allocates nothing.
func TestBeginAllocatesNothing(t *testing.T) {
	r := NewRegistry(Timeouts{Request: time.Minute})
	c := r.add(&lateConn{}, ListenerOptions{})
	defer c.to(http.StateClosed)
	hr := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	live := make([]Request, 200)
	i := 0
	if n := testing.AllocsPerRun(100, func() {
		now := time.Now()
		live[i].Begin(hr.Context(), c, nil, hr, now)
		_ = live[i].Err()
		live[i].End()
		i++
	}); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
