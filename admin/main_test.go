package admin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hotsvc/svc/internal/testcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverTLS asks for a client certificate of clients, if that is not nil. It
// offers HTTP/2, which the listener must not speak.
func serverTLS(certificate tls.Certificate, clients *testcert.Authority) *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool()
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return config, nil }}
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// tcp is a service on TCP under test.
type tcp struct {
	addr   string
	access atomic.Pointer[Access]
	log    buffer
	// reached counts the requests that got through to the backend.
	reached atomic.Int64
}

func startTCP(t *testing.T, a *Access) *tcp {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tcp{addr: l.Addr().String()}
	s.access.Store(a)
	s.serve(t, l)
	return s
}

func (s *tcp) serve(t *testing.T, listeners ...net.Listener) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.MultiWriter(&s.log, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	handler := Handler(s.backend(), nil)
	go func() { served <- ServeTCP(ctx, listeners, handler, s.access.Load, log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("ServeTCP: %v", err)
		}
		if strings.Contains(s.log.String(), string(canary)) {
			t.Error("the token is in the log")
		}
	})
}

func (s *tcp) backend() Backend {
	b := testBackend()
	show := func(f func() any) func() any { return func() any { s.reached.Add(1); return f() } }
	act := func(f func(context.Context) (any, error)) func(context.Context) (any, error) {
		return func(ctx context.Context) (any, error) { s.reached.Add(1); return f(ctx) }
	}
	b.Status, b.Config = show(b.Status), show(b.Config)
	b.Reload = act(b.Reload)
	plan, rollback := b.Plan, b.Rollback
	b.Plan = func(ctx context.Context, name string, document []byte) (any, error) {
		s.reached.Add(1)
		return plan(ctx, name, document)
	}
	b.Rollback = func(ctx context.Context, revision string) (any, error) {
		s.reached.Add(1)
		return rollback(ctx, revision)
	}
	return b
}

// connection is one whose bytes the test writes.
type connection struct {
	net.Conn
	r *bufio.Reader
}

func (s *tcp) dial(t *testing.T) *connection {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return newConnection(t, conn)
}

func (s *tcp) dialTLS(t *testing.T, config *tls.Config) *connection {
	t.Helper()
	config.ServerName = "127.0.0.1"
	conn := tls.Client(s.dial(t).Conn, config)
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return newConnection(t, conn)
}

func newConnection(t *testing.T, conn net.Conn) *connection {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &connection{conn, bufio.NewReader(conn)}
}

// response is an answer that was read to its end.
type response struct {
	*http.Response
	body string
}

// ask sends the lines of a request, joined by CRLF, and reads one answer.
func (c *connection) ask(t *testing.T, lines ...string) response {
	t.Helper()
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c.receive(t)
}

func (c *connection) receive(t *testing.T) response {
	t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("read the body of the answer: %v", err)
	}
	a := response{r, string(body)}
	if dump := headerText(r.Header) + a.body; strings.Contains(dump, string(canary)) {
		t.Errorf("the token is in the answer: %s", dump)
	}
	return a
}

func (c *connection) wantClosed(t *testing.T) {
	t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		t.Errorf("want the end of the connection, have %q, %v", rest, err)
	}
}

func headerText(h http.Header) string {
	var b strings.Builder
	_ = h.Write(&b)
	return b.String()
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
