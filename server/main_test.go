package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hotsvc/svc/server/liveconn"
)

// listenEnv makes the test binary a child that listens on the address in it.
const listenEnv = "SVC_TEST_LISTEN"

func TestMain(m *testing.M) {
	if addr := os.Getenv(listenEnv); addr != "" {
		listenAsChild(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

// running is a Server under test.
type running struct {
	*Server
	addr   string
	config *atomic.Pointer[Config]
	stop   context.CancelFunc
	ended  chan struct{} // closed when Run has returned err
	err    error
}

// start runs a Server on loopback until the test ends.
func start(tb testing.TB, o Options, edit ...func(*Config)) *running {
	tb.Helper()
	listeners, err := Listen(tb.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		tb.Fatal(err)
	}
	return startOn(tb, listeners, o, edit...)
}

func startOn(tb testing.TB, listeners []net.Listener, o Options, edit ...func(*Config)) *running {
	tb.Helper()
	r := &running{config: &atomic.Pointer[Config]{}, ended: make(chan struct{})}
	cfg := Default()
	for _, f := range edit {
		f(&cfg)
	}
	r.config.Store(&cfg)
	if o.Config == nil {
		o.Config = func(context.Context) *Config { return r.config.Load() }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	var err error
	if r.Server, err = New(o); err != nil {
		tb.Fatal(err)
	}
	r.addr = listeners[0].Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() {
		r.err = r.Run(ctx, listeners)
		close(r.ended)
	}()
	tb.Cleanup(func() {
		cancel()
		_ = r.Close()
		<-r.ended
	})
	return r
}

// change makes an edited config the one in force.
func (r *running) change(edit func(*Config)) {
	cfg := *r.config.Load()
	edit(&cfg)
	r.config.Store(&cfg)
	r.Apply(cfg)
}

// wait returns what Run returned.
func (r *running) wait(tb testing.TB) error {
	tb.Helper()
	select {
	case <-r.ended:
		return r.err
	case <-time.After(20 * time.Second):
		tb.Fatal("Run did not return within 20 s")
		return nil
	}
}

// client is an HTTP client with connections of its own.
func client(tb testing.TB) *http.Client {
	tb.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 100}
	tb.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

func get(tb testing.TB, c *http.Client, url string) answer {
	tb.Helper()
	return do(tb, c, request(tb, http.MethodGet, url, nil))
}

func request(tb testing.TB, method, url string, body io.Reader) *http.Request {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	return req
}

func do(tb testing.TB, c *http.Client, req *http.Request) answer {
	tb.Helper()
	res, err := c.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatalf("read the answer of %s: %v", req.URL, err)
	}
	return answer{res, string(body)}
}

// raw is a connection whose bytes the test writes.
type raw struct {
	net.Conn
	r *bufio.Reader
}

func dial(tb testing.TB, addr string) *raw {
	tb.Helper()
	var d net.Dialer
	nc, err := d.DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	return newRaw(tb, nc)
}

func newRaw(tb testing.TB, nc net.Conn) *raw {
	tb.Helper()
	tb.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return &raw{nc, bufio.NewReader(nc)}
}

func (c *raw) send(tb testing.TB, text string) {
	tb.Helper()
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		tb.Fatal(err)
	}
}

func (c *raw) receive(tb testing.TB) answer {
	tb.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		tb.Fatalf("read an answer: %v", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatalf("read the body of an answer: %v", err)
	}
	return answer{res, string(body)}
}

// wantClosed reads until the server has closed the connection.
func (c *raw) wantClosed(tb testing.TB) {
	tb.Helper()
	rest, err := io.ReadAll(c.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		tb.Fatalf("the connection is still open")
	}
	if len(rest) != 0 {
		tb.Fatalf("the server sent %q before it closed the connection", rest)
	}
}

const getRoot = "GET / HTTP/1.1\nHost: x\n\n"

// eventually waits for a condition that other goroutines bring about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("after 10 s there is still no: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// count is the number of connections of a class.
func (r *running) count(k liveconn.Kind, s liveconn.State) int {
	return r.Connections()[liveconn.Class{Kind: k, State: s}]
}

func handler(f func(http.ResponseWriter, *http.Request)) http.Handler { return http.HandlerFunc(f) }

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
