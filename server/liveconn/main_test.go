package liveconn

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hotsvc/svc/internal/memnet"
	"github.com/hotsvc/svc/internal/testcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipes is a listener in memory, so that time can be virtual. It also takes in
// connections that are made elsewhere.
type pipes struct {
	*memnet.Listener
	conns  chan<- net.Conn
	closed <-chan struct{}
}

func newPipes() *pipes {
	l := memnet.Listen()
	return &pipes{l, l.Conns(), l.Done()}
}

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	nc, err := p.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc
}

// transport is what is between a client and the server.
type transport struct {
	name     string
	tls, h2c bool
	key      string // of the listener
}

func transports() []transport { return []transport{{name: "plain"}, {name: "tls", tls: true}} }

// service is an http.Server with a registry.
type service struct {
	*Registry
	pipes     *pipes
	transport transport
	certs     *tls.Config
	done      chan struct{}
	server    *http.Server
}

// serve runs a handler under a registry until the test ends. It brackets each
// request as a server does.
func serve(t *testing.T, tr transport, timeouts Timeouts, handler http.HandlerFunc) *service {
	t.Helper()
	s := &service{Registry: NewRegistry(timeouts), pipes: newPipes(), transport: tr, done: make(chan struct{})}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(tr.tls)
	protocols.SetUnencryptedHTTP2(tr.h2c)
	s.server = &http.Server{
		Protocols: &protocols, ConnState: s.ConnState, ConnContext: s.ConnContext,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var live Request
			live.Begin(r.Context(), FromContext(r.Context()), w, r, time.Now())
			defer live.End()
			handler(&answering{w, &live}, r.WithContext(&live)) //nolint:contextcheck // it is made from r.Context
		}),
	}
	ln := s.Listener(s.pipes, ListenerOptions{H2C: tr.h2c, Key: tr.key})
	if tr.tls {
		cert := testcert.SelfSigned("server")
		base := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
		config := base.Clone()
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c := base.Clone()
			c.VerifyConnection = func(state tls.ConnectionState) error {
				s.Secured(hello.Conn, state)
				return nil
			}
			return c, nil
		}
		ln = tls.NewListener(ln, config)
		s.certs = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: testcert.Host}
		s.certs.RootCAs.AddCert(cert.Leaf)
	}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = s.server.Close()
		<-s.done
	})
	return s
}

// answering tells the live request of the first write, as a server does.
type answering struct {
	http.ResponseWriter
	live *Request
}

func (w *answering) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *answering) WriteHeader(status int) {
	w.ResponseWriter.WriteHeader(status)
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		w.live.Interim()
	}
}

func (w *answering) Write(p []byte) (int, error) {
	w.live.Answer()
	return w.ResponseWriter.Write(p)
}

// connect is a new connection of a client, with the handshake done.
func (s *service) connect(t *testing.T, protocol string) *client {
	t.Helper()
	nc := s.pipes.dial(t)
	if s.transport.tls {
		config := s.certs.Clone()
		config.NextProtos = []string{protocol}
		secure := tls.Client(nc, config)
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		nc = secure
	}
	return newClient(nc)
}

// client is a connection whose bytes the test writes.
type client struct {
	net.Conn
	r *bufio.Reader
}

func newClient(nc net.Conn) *client { return &client{Conn: nc, r: bufio.NewReader(nc)} }

func (c *client) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
}

// receive reads a whole answer and returns its body.
func (c *client) receive(t *testing.T) string {
	t.Helper()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("read an answer: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatalf("read the body of an answer: %v", err)
	}
	return string(body)
}

// ended is closed when the server has closed the connection.
func (c *client) ended() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, c.r)
	}()
	return done
}

const get = "GET / HTTP/1.1\nHost: x\n\n"

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

var _ context.Context = (*Request)(nil)
