package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

func drainTime(d time.Duration) func(*Config) {
	return func(c *Config) { c.Drain.Timeout = d }
}

// gate is a handler that waits until the test lets it go on.
type gate struct {
	entered, leave chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 100), make(chan struct{})} }

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.entered <- struct{}{}
	<-g.leave
	hello(w, r)
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	g := newGate()
	s := start(t, Options{Handler: g})
	busy := dial(t, s.addr)
	busy.send(t, getRoot)
	<-g.entered
	if n := s.count(liveconn.KindHTTP1, liveconn.StateActive); n != 1 {
		t.Errorf("%d active connections", n)
	}

	s.stop()
	eventually(t, "drain", s.Draining)
	if n := s.count(liveconn.KindHTTP1, liveconn.StateDraining); n != 1 {
		t.Errorf("%d draining connections, of %v", n, s.Connections())
	}
	eventually(t, "refusal of new connections", func() bool {
		nc, err := net.DialTimeout("tcp", s.addr, time.Second) //nolint:noctx // bounded by its time
		if err == nil {
			_ = nc.Close()
		}
		return err != nil
	})
	select {
	case <-s.ended:
		t.Fatal("Run returned during a request")
	case <-time.After(50 * time.Millisecond):
	}

	close(g.leave)
	a := busy.receive(t)
	if a.StatusCode != 200 || a.body != "hello" || !a.Close {
		t.Errorf("answer %s %q, Connection: close: %v", a.Status, a.body, a.Close)
	}
	busy.wantClosed(t)
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	for class, n := range s.Connections() {
		if n != 0 {
			t.Errorf("after Run: %d of %v", n, class)
		}
	}
}

// The case that http.Server.Shutdown loses (golang/go#75591).
func TestDrainAnswersConnectionsNotYetRead(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)})
	const n = 20
	conns := make([]*raw, n)
	for i := range conns {
		conns[i] = dial(t, s.addr)
	}
	// Half of them have sent a part of the request.
	for _, c := range conns[n/2:] {
		c.send(t, "GET / HTTP/1.1\nHost:")
	}
	eventually(t, "all accepted and read", func() bool {
		return s.count(liveconn.KindHTTP1, liveconn.StateNew) == n/2 && s.count(liveconn.KindHTTP1, liveconn.StateActive) == n/2
	})
	s.stop()
	eventually(t, "drain", s.Draining)
	time.Sleep(20 * time.Millisecond)
	for i, c := range conns {
		if i < n/2 {
			c.send(t, getRoot)
		} else {
			c.send(t, " x\n\n")
		}
		if a := c.receive(t); a.StatusCode != 200 || a.body != "hello" || !a.Close {
			t.Errorf("connection %d: %s %q, Connection: close: %v", i, a.Status, a.body, a.Close)
		}
		c.wantClosed(t)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// An idle client may use its connection once more, and is told to leave.
func TestDrainLetsIdleClientsAskOnceMore(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)})
	talks, silent := dial(t, s.addr), dial(t, s.addr)
	for _, c := range []*raw{talks, silent} {
		c.send(t, getRoot)
		if a := c.receive(t); a.Close {
			t.Error("Connection: close before the drain")
		}
	}
	eventually(t, "two idle connections", func() bool { return s.count(liveconn.KindHTTP1, liveconn.StateIdle) == 2 })
	s.stop()
	began := time.Now()
	eventually(t, "drain", s.Draining)
	talks.send(t, getRoot)
	if a := talks.receive(t); a.body != "hello" || !a.Close {
		t.Errorf("answer %s %q, Connection: close: %v", a.Status, a.body, a.Close)
	}
	talks.wantClosed(t)
	silent.wantClosed(t)
	if took := time.Since(began); took < maxLinger {
		t.Errorf("the idle connection was closed after %s", took)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

func TestDrainTimeoutCutsOffAndNames(t *testing.T) {
	g := newGate()
	defer close(g.leave)
	s := start(t, Options{Handler: g}, drainTime(200*time.Millisecond))
	c := dial(t, s.addr)
	c.send(t, "GET /stuck?token=s3cret HTTP/1.1\nHost: x\n\n")
	<-g.entered
	s.stop()
	err := s.wait(t)
	if !errors.Is(err, ErrDrainTimeout) {
		t.Fatalf("Run returned %v", err)
	}
	for _, want := range []string{"1 cut off: GET /stuck from 127.0.0.1:", "handlers still running: 1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %q shows the query", err)
	}
	c.wantClosed(t)
}

// A handler that minds its context is gone when Run returns.
func TestDrainTimeoutEndsContexts(t *testing.T) {
	var returned atomic.Bool
	entered := make(chan struct{})
	s := start(t, Options{Handler: handler(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		returned.Store(true)
	})}, drainTime(100*time.Millisecond), requestTime(0))
	dial(t, s.addr).send(t, getRoot)
	<-entered
	s.stop()
	err := s.wait(t)
	if !errors.Is(err, ErrDrainTimeout) || strings.Contains(err.Error(), "still running") {
		t.Errorf("Run returned %v", err)
	}
	if !returned.Load() {
		t.Error("the handler still runs")
	}
}

func TestErrorNamesThreeOfMany(t *testing.T) {
	g := newGate()
	defer close(g.leave)
	s := start(t, Options{Handler: g}, drainTime(50*time.Millisecond))
	for _, path := range []string{"/a", "/b", "/c", "/d", "/e"} {
		dial(t, s.addr).send(t, "GET "+path+" HTTP/1.1\nHost: x\n\n")
		<-g.entered
	}
	s.stop()
	err := s.wait(t)
	if err == nil || strings.Count(err.Error(), "GET /") != maxNamed ||
		!strings.Contains(err.Error(), "5 cut off: GET /a from ") || !strings.Contains(err.Error(), ", and 2 more") {
		t.Errorf("Run returned %v", err)
	}
}

func TestHijackedConnections(t *testing.T) {
	hijack := func(closes bool) http.Handler {
		return handler(func(w http.ResponseWriter, _ *http.Request) {
			nc, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Errorf("hijack: %v", err)
				return
			}
			if _, ok := nc.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
				t.Error("the TCP connection cannot be reached")
			}
			_, _ = rw.WriteString("taken\n")
			_ = rw.Flush()
			if closes {
				_, _ = rw.ReadString('\n')
				_ = nc.Close()
			}
		})
	}
	taken := func(t *testing.T, s *running) *raw {
		t.Helper()
		c := dial(t, s.addr)
		c.send(t, getRoot)
		if line, err := c.r.ReadString('\n'); line != "taken\n" {
			t.Fatalf("read %q, %v", line, err)
		}
		eventually(t, "one custom connection", func() bool {
			return s.count(liveconn.KindCustom, liveconn.StateActive) == 1 && s.count(liveconn.KindHTTP1, liveconn.StateActive) == 0
		})
		return c
	}

	t.Run("closed by the handler", func(t *testing.T) {
		s := start(t, Options{Handler: hijack(true)})
		c := taken(t, s)
		s.stop()
		eventually(t, "a draining custom connection", func() bool { return s.count(liveconn.KindCustom, liveconn.StateDraining) == 1 })
		c.send(t, "\n")
		c.wantClosed(t)
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
	})
	t.Run("left open", func(t *testing.T) {
		s := start(t, Options{Handler: hijack(false)}, drainTime(100*time.Millisecond))
		c := taken(t, s)
		s.stop()
		c.wantClosed(t)
		err := s.wait(t)
		if !errors.Is(err, ErrDrainTimeout) || !strings.Contains(err.Error(), "1 cut off: hijacked connection from 127.0.0.1:") {
			t.Errorf("Run returned %v", err)
		}
		if n := s.count(liveconn.KindCustom, liveconn.StateDraining); n != 0 {
			t.Errorf("%d custom connections after Run", n)
		}
	})
}

// A handler may outlive the connection that it has hijacked and closed.
func TestDrainWaitsForHandlersWithoutConnection(t *testing.T) {
	g := newGate()
	var returned atomic.Bool
	s := start(t, Options{Handler: handler(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		_ = nc.Close()
		g.entered <- struct{}{}
		<-g.leave
		returned.Store(true)
	})})
	c := dial(t, s.addr)
	c.send(t, getRoot)
	<-g.entered
	c.wantClosed(t)
	s.stop()
	eventually(t, "drain", s.Draining)
	time.AfterFunc(50*time.Millisecond, func() { close(g.leave) })
	if err := s.wait(t); err != nil || !returned.Load() {
		t.Errorf("Run returned %v; the handler has returned: %v", err, returned.Load())
	}
}

// brokenListener accepts until it is told to fail.
type brokenListener struct {
	net.Listener
	broken chan struct{}
}

var errBroken = errors.New("broken")

func (l *brokenListener) Accept() (net.Conn, error) {
	<-l.broken
	return nil, errBroken
}

// One listener that breaks ends Run, with a drain of what the others accepted.
func TestBrokenListener(t *testing.T) {
	listeners, err := Listen(t.Context(), []string{"127.0.0.1:0", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	broken := &brokenListener{listeners[1], make(chan struct{})}
	g := newGate()
	s := startOn(t, []net.Listener{listeners[0], broken}, Options{Handler: g})
	c := dial(t, s.addr)
	c.send(t, getRoot)
	<-g.entered
	close(broken.broken)
	eventually(t, "drain", s.Draining)
	close(g.leave)
	if a := c.receive(t); a.body != "hello" || !a.Close {
		t.Errorf("answer %q", a.body)
	}
	err = s.wait(t)
	if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "accept on "+listeners[1].Addr().String()+": ") {
		t.Errorf("Run returned %v", err)
	}
}

func TestReadinessFailsInADrain(t *testing.T) {
	s := start(t, Options{Handler: Engine(RouteOptions{})})
	c := dial(t, s.addr)
	ask := func() answer {
		c.send(t, "GET /readyz HTTP/1.1\nHost: x\n\n")
		return c.receive(t)
	}
	if a := ask(); a.StatusCode != 200 {
		t.Errorf("before the drain: %s", a.Status)
	}
	s.stop()
	eventually(t, "drain", s.Draining)
	wantProblem(t, ask(), 503, "draining")
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// Under load, no request fails on a connection that the server accepted. One in
// the kernel's queue is reset when the listener closes.
func TestDrainUnderLoad(t *testing.T) {
	for range 5 {
		s := start(t, Options{Handler: Engine(RouteOptions{})})
		var answered atomic.Int64
		var clients sync.WaitGroup
		for i := range 12 {
			tr := &http.Transport{DisableKeepAlives: i%3 == 0}
			clients.Go(func() {
				defer tr.CloseIdleConnections()
				for load(t, tr, "http://"+s.addr+"/v1/echo?delay=2") {
					answered.Add(1)
				}
			})
		}
		eventually(t, "load", func() bool { return answered.Load() > 200 })
		s.stop()
		if err := s.wait(t); err != nil {
			t.Error(err)
		}
		clients.Wait()
	}
}

// load sends one request that the transport does not repeat by itself. It
// returns false when the listener is closed.
func load(t *testing.T, tr *http.Transport, url string) bool {
	t.Helper()
	var reused atomic.Bool
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused.Store(info.Reused) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("body"))
	if err != nil {
		t.Error(err)
		return false
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		op, ok := errors.AsType[*net.OpError](err)
		switch {
		case ok && op.Op == "dial":
			return false
		case ok && !reused.Load() && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
			return true // it was in the queue; the next one is refused
		}
		t.Errorf("request failed (connection reused: %v): %v", reused.Load(), err)
		return false
	}
	_, err = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("answer %s, %v", res.Status, err)
	}
	return true
}
