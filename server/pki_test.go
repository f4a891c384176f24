package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
	"github.com/hotsvc/svc/server/certs"
)

// secured is a Server under TLS.
type secured struct {
	*running
	authority *testcert.Authority
	material  *atomic.Pointer[certs.Material]
}

// startTLS runs a Server whose certificate is that of a new authority; clients
// must show one of mutual, if that is not nil.
func startTLS(tb testing.TB, o Options, mutual *testcert.Authority, edit ...func(*Config)) *secured {
	tb.Helper()
	s := &secured{authority: testcert.NewAuthority("authority"), material: &atomic.Pointer[certs.Material]{}}
	s.swap(tb, "first", mutual)
	o.Certificates = s.material.Load
	mode := func(c *Config) {
		c.TLS.Mode = ModeTLS
		if mutual != nil {
			c.TLS.Mode = ModeMTLS
		}
	}
	s.running = start(tb, o, append(edit, mode)...)
	return s
}

// swap puts a new certificate in force.
func (s *secured) swap(tb testing.TB, name string, mutual *testcert.Authority) {
	tb.Helper()
	cert, key := testcert.PEM(s.authority.Issue(name))
	c := certs.Config{Cert: cert, Key: configsrc.Secret(key)}
	if mutual != nil {
		c.ClientCA = mutual.PEM
	}
	store, err := certs.Open(tb.Context(), c, certs.Options{Mutual: mutual != nil})
	if err != nil {
		tb.Fatal(err)
	}
	s.material.Store(store.Load())
	if err := store.Close(); err != nil {
		tb.Fatal(err)
	}
}

// clientTLS is the TLS side of a client that trusts the server's authority and
// shows a certificate of shows, if that is not nil. It keeps sessions.
func (s *secured) clientTLS(shows *testcert.Authority) *tls.Config {
	c := &tls.Config{RootCAs: s.authority.Pool(), ServerName: testcert.Host, ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	if shows != nil {
		cert := shows.Issue("client")
		// Whatever authorities the server names: it is to be the one to refuse.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return c
}

// dialTLS shakes hands; its first read may bring the refusal of TLS 1.3.
func (s *secured) dialTLS(tb testing.TB, config *tls.Config) (*raw, *tls.Conn, error) {
	tb.Helper()
	d := tls.Dialer{Config: config, NetDialer: &net.Dialer{Timeout: 20 * time.Second}}
	nc, err := d.DialContext(tb.Context(), "tcp", s.addr)
	if err != nil {
		return nil, nil, err
	}
	return newRaw(tb, nc), nc.(*tls.Conn), nil
}

// mustDialTLS dials and asks once.
func (s *secured) mustDialTLS(tb testing.TB, config *tls.Config) (*raw, *tls.Conn) {
	tb.Helper()
	c, tc, err := s.dialTLS(tb, config)
	if err != nil {
		tb.Fatal(err)
	}
	c.send(tb, getRoot)
	if a := c.receive(tb); a.StatusCode != http.StatusOK {
		tb.Fatalf("answer %s", a.Status)
	}
	return c, tc
}

// https is an HTTP client with connections of its own.
func (s *secured) https(tb testing.TB, config *tls.Config, protocols func(*http.Protocols)) *http.Client {
	tb.Helper()
	var p http.Protocols
	protocols(&p)
	tr := &http.Transport{TLSClientConfig: config, Protocols: &p}
	tb.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func http1(p *http.Protocols) { p.SetHTTP1(true) }
func http2(p *http.Protocols) { p.SetHTTP2(true) }
