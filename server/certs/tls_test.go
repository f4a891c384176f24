package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
)

// material is that of a config, for a handshake.
func material(tb testing.TB, c Config, mutual bool) *Material {
	tb.Helper()
	m, problems := newSet(c).parse(mutual)
	if problems != nil {
		tb.Fatal(problems)
	}
	return m
}

// echo is a TLS server that sends back what it gets.
type echo struct {
	addr    string
	current atomic.Pointer[Material]

	mu         sync.Mutex
	handshaked []tls.ConnectionState
	conns      []net.Conn
}

// markedConn tells the accepted connections from others.
type markedConn struct{ net.Conn }

type markedListener struct{ net.Listener }

func (l markedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &markedConn{c}, nil
}

// serve starts an echo that has m in force. The config may pass through edit, as
// through net/http.
func serve(tb testing.TB, m *Material, edit func(*tls.Config) *tls.Config) *echo {
	tb.Helper()
	return serveTickets(tb, m, nil, edit)
}

// serveTickets is serve with the keys of session tickets.
func serveTickets(tb testing.TB, m *Material, keys func() [][32]byte, edit func(*tls.Config) *tls.Config) *echo {
	tb.Helper()
	e := &echo{}
	e.current.Store(m)
	config := TLS(e.current.Load, TLSOptions{
		NextProtos: []string{"h2", "http/1.1"},
		TicketKeys: keys,
		Handshaked: func(c net.Conn, state tls.ConnectionState) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.handshaked, e.conns = append(e.handshaked, state), append(e.conns, c)
		},
	})
	if edit != nil {
		config = edit(config)
	}
	plain, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	must(tb, err)
	ln := tls.NewListener(markedListener{plain}, config)
	e.addr = ln.Addr().String()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close() //nolint:errcheck // the client looks
				_, _ = io.Copy(c, c)
			})
		}
	})
	tb.Cleanup(func() {
		must(tb, ln.Close())
		running.Wait()
	})
	return e
}

// dial makes a connection and uses it once, which also brings the ticket of
// TLS 1.3, or the refusal, to the client.
func (e *echo) dial(tb testing.TB, client *tls.Config) (*tls.Conn, error) {
	tb.Helper()
	d := tls.Dialer{Config: client}
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	nc, err := d.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, err
	}
	c := nc.(*tls.Conn)
	if err := ping(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c, nil
}

func ping(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "x"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// want dials, and fails unless the server is the named one and the session was
// resumed or not.
func (e *echo) want(tb testing.TB, client *tls.Config, subject string, resumed bool) *tls.Conn {
	tb.Helper()
	c, err := e.dial(tb, client)
	must(tb, err)
	state := c.ConnectionState()
	if got := state.PeerCertificates[0].Subject.CommonName; got != subject || state.DidResume != resumed {
		tb.Errorf("server is %s, resumed %v; want %s, %v", got, state.DidResume, subject, resumed)
	}
	return c
}

// refused dials, and fails unless the server refuses the client.
func (e *echo) refused(tb testing.TB, client *tls.Config) {
	tb.Helper()
	_, err := e.dial(tb, client)
	if remote := (*net.OpError)(nil); !errors.As(err, &remote) || remote.Op != "remote error" {
		tb.Errorf("dial: %v, want the server's refusal", err)
	}
}

// newClient makes a client of one version of TLS that caches sessions.
type newClient func(roots *x509.CertPool, certs ...tls.Certificate) *tls.Config

// versions are the clients of each version, by its name.
func versions() map[string]newClient {
	clients := map[string]newClient{}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		clients[tls.VersionName(version)] = func(roots *x509.CertPool, certs ...tls.Certificate) *tls.Config {
			return &tls.Config{
				ServerName: testcert.Host, RootCAs: roots, Certificates: certs,
				MinVersion: version, MaxVersion: version,
				ClientSessionCache: tls.NewLRUClientSessionCache(8),
			}
		}
	}
	return clients
}

func TestClientCertificates(t *testing.T) {
	ca, clients := newAuthority("authority"), newAuthority("clients")
	c := ca.config("one")
	none := material(t, c, false)
	c.ClientCA = clients.PEM
	wanted, required := material(t, c, false), material(t, c, true)
	for version, client := range versions() {
		t.Run(version, func(t *testing.T) {
			e := serve(t, none, nil)
			nobody := client(ca.Pool())
			known := client(ca.Pool(), clients.Issue("known"))
			// A client that shows what was not asked for.
			stranger := client(ca.Pool())
			stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				cert := newAuthority("clients").Issue("stranger")
				return &cert, nil
			}
			late := client(ca.Pool(), clients.Issue("late", expired))

			e.want(t, nobody, "one", false)
			e.want(t, nobody, "one", true)
			e.want(t, known, "one", false)

			e.current.Store(wanted)
			e.want(t, nobody, "one", false) // a session of another mode
			e.want(t, known, "one", false)
			e.refused(t, stranger)
			e.refused(t, late)

			e.current.Store(required)
			e.refused(t, nobody) // although it has a ticket
			e.want(t, known, "one", false)
			e.want(t, known, "one", true)
			e.refused(t, stranger)
			e.refused(t, late)

			// The server knew who it was each time, resumed or not.
			e.mu.Lock()
			defer e.mu.Unlock()
			for _, state := range e.handshaked[len(e.handshaked)-2:] {
				if len(state.VerifiedChains) == 0 || state.VerifiedChains[0][0].Subject.CommonName != "known" {
					t.Errorf("the server does not know the client; resumed %v", state.DidResume)
				}
			}
		})
	}
}

// Handshaked gets the connection as it was accepted, for full and resumed
// handshakes, with the protocol.
func TestHandshaked(t *testing.T) {
	ca := newAuthority("authority")
	m := material(t, ca.config("one"), false)
	for version, client := range versions() {
		t.Run(version, func(t *testing.T) {
			e := serve(t, m, nil)
			c := client(ca.Pool())
			c.NextProtos = []string{"http/1.1"}
			e.want(t, c, "one", false)
			e.want(t, c, "one", true)
			c.NextProtos = []string{"h2", "http/1.1"}
			e.want(t, c, "one", true)

			type seen struct {
				Resumed, Complete bool
				Protocol          string
				Version           uint16
			}
			want := []seen{
				{false, false, "http/1.1", c.MaxVersion}, {true, false, "http/1.1", c.MaxVersion}, {true, false, "h2", c.MaxVersion},
			}
			var got []seen
			e.mu.Lock()
			defer e.mu.Unlock()
			for _, s := range e.handshaked {
				got = append(got, seen{s.DidResume, s.HandshakeComplete, s.NegotiatedProtocol, s.Version})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("handshakes (-want +got):\n%s", diff)
			}
			for i, c := range e.conns {
				if _, ok := c.(*markedConn); !ok {
					t.Errorf("connection %d is a %T", i, c)
				}
			}
		})
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	ca := newAuthority("authority")
	e := serve(t, material(t, ca.config("one"), false), nil)
	e.refused(t, &tls.Config{ServerName: testcert.Host, RootCAs: ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
}

// Without material a handshake fails and the listener lives.
func TestNoMaterial(t *testing.T) {
	ca := newAuthority("authority")
	m := material(t, ca.config("one"), false)
	e := serve(t, nil, nil)
	c := &tls.Config{ServerName: testcert.Host, RootCAs: ca.Pool()}
	e.refused(t, c)
	e.current.Store(m)
	e.want(t, c, "one", false)
}

// Handshakes and swaps at the same time: each client sees one of the two.
func TestSwapsUnderHandshakes(t *testing.T) {
	ca := newAuthority("authority")
	one, two := material(t, ca.config("one"), false), material(t, ca.config("two"), false)
	e := serve(t, one, nil)
	var swapping, clients sync.WaitGroup
	stop := make(chan struct{})
	swapping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				e.current.Store([]*Material{one, two}[i%2])
			}
		}
	})
	for range 4 {
		clients.Go(func() {
			c := &tls.Config{ServerName: testcert.Host, RootCAs: ca.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(8)}
			for range 25 {
				conn, err := e.dial(t, c)
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				_ = conn.Close()
			}
		})
	}
	clients.Wait()
	close(stop)
	swapping.Wait()
}

// The config is fit for net/http's own way of serving TLS, over HTTP/2.
func TestHTTP(t *testing.T) {
	ca := newAuthority("authority")
	s, err := Open(t.Context(), ca.config("one"), Options{})
	must(t, err)
	defer s.Close() //nolint:errcheck // it was only opened
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		TLSConfig:         TLS(s.Load, TLSOptions{NextProtos: []string{"h2", "http/1.1"}}),
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServeTLS(ln, "", "") })
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{ServerName: testcert.Host, RootCAs: ca.Pool()},
		ForceAttemptHTTP2: true,
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+ln.Addr().String(), nil)
	must(t, err)
	resp, err := transport.RoundTrip(req)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	_ = resp.Body.Close()
	if string(body) != "HTTP/2.0" {
		t.Errorf("served over %s", body)
	}
	transport.CloseIdleConnections()
	must(t, server.Close())
	serving.Wait()
}

// The key of a config shows itself to nobody.
func TestKeyIsMasked(t *testing.T) {
	c := Config{Cert: "c", Key: configsrc.Secret("s3cr3t"), ClientCA: ""}
	if text := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(text, "s3cr3t") {
		t.Errorf("printed: %s", text)
	}
}
