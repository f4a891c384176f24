package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/server/certs"
)

// authority signs certificates of servers and clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{key: newKey(tb)}
	template := &x509.Certificate{
		SerialNumber: serial(tb), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		tb.Fatal(err)
	}
	a.pem = encodePEM("CERTIFICATE", der)
	return a
}

// issue makes a certificate for svc.test and loopback, and for clients.
func (a *authority) issue(tb testing.TB, name string) (cert, key string) {
	tb.Helper()
	k := newKey(tb)
	template := &x509.Certificate{
		SerialNumber: serial(tb), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"svc.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		tb.Fatal(err)
	}
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", keyDER)
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func serial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// client is the TLS side of a client that trusts the authority and shows a
// certificate of shows, if that is not nil. It keeps sessions.
func (a *authority) client(tb testing.TB, shows *authority) *tls.Config {
	tb.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "svc.test", ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	c.RootCAs.AddCert(a.cert)
	if shows != nil {
		certPEM, keyPEM := shows.issue(tb, "client")
		cert, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
		if err != nil {
			tb.Fatal(err)
		}
		// Whatever authorities the server names: it is to be the one to refuse.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return c
}

// secured is a Server under TLS.
type secured struct {
	*running
	authority *authority
	material  *atomic.Pointer[certs.Material]
}

// startTLS runs a Server whose certificate is that of a new authority; clients
// must show one of mutual, if that is not nil.
func startTLS(tb testing.TB, o Options, mutual *authority, edit ...func(*Config)) *secured {
	tb.Helper()
	s := &secured{authority: newAuthority(tb), material: &atomic.Pointer[certs.Material]{}}
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
func (s *secured) swap(tb testing.TB, name string, mutual *authority) {
	tb.Helper()
	cert, key := s.authority.issue(tb, name)
	c := certs.Config{Cert: cert, Key: configsrc.Secret(key)}
	if mutual != nil {
		c.ClientCA = mutual.pem
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
