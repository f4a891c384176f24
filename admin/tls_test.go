package admin

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hotsvc/svc/internal/testcert"
)

// forServers makes a certificate one that is not for clients.
func forServers(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }

func TestClientCertificates(t *testing.T) {
	ours, others := testcert.NewAuthority("test CA"), testcert.NewAuthority("test CA")
	certificate := ours.Issue("server", testcert.Hosts("127.0.0.1"))
	section := &Config{TLS: TLS{Cert: "x", Key: "y", ClientCA: "z"}}
	access := func(clients *testcert.Authority) *Access {
		return &Access{Config: section, TLS: serverTLS(certificate, clients), VerifyClient: VerifyClientBy(clients.Pool())}
	}
	s := startTCP(t, access(ours))
	operator := &tls.Config{RootCAs: ours.Pool(), Certificates: []tls.Certificate{ours.Issue("operator")}, NextProtos: []string{"h2", "http/1.1"}}
	open := s.dialTLS(t, operator)
	if got := open.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("protocol %q", got)
	}
	lines := request(s.addr)[:2]
	lines = append(lines, "Content-Length: 0")
	if a := open.ask(t, lines...); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := open.ask(t, append(slices.Clone(lines), "Origin: https://"+s.addr)...); a.StatusCode != 200 {
		t.Errorf("our own origin: %d %s", a.StatusCode, a.body)
	}
	if a := open.ask(t, append(slices.Clone(lines), "Origin: http://"+s.addr)...); a.StatusCode != 403 {
		t.Errorf("our own host in plain text: %d", a.StatusCode)
	}

	serverOnly := ours.Issue("operator", forServers)
	for name, config := range map[string]*tls.Config{
		"no certificate":               {RootCAs: ours.Pool()},
		"of another CA":                {RootCAs: ours.Pool(), Certificates: []tls.Certificate{others.Issue("operator")}},
		"for servers":                  {RootCAs: ours.Pool(), Certificates: []tls.Certificate{serverOnly}},
		"TLS 1.1":                      {RootCAs: ours.Pool(), Certificates: operator.Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"no protocol that we have":     {RootCAs: ours.Pool(), Certificates: operator.Certificates, NextProtos: []string{"h2"}},
		"ours, in a chain with others": {RootCAs: ours.Pool(), Certificates: []tls.Certificate{{Certificate: append(slices.Clone(serverOnly.Certificate), operator.Certificates[0].Certificate...), PrivateKey: serverOnly.PrivateKey}}},
	} {
		config.ServerName = "127.0.0.1"
		c := tls.Client(s.dial(t).Conn, config)
		err := c.HandshakeContext(t.Context())
		if err == nil {
			// In TLS 1.3 the refusal comes after the client's last message.
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}

	// The CA is removed: the connection that it let in is let in no more.
	s.access.Store(access(others))
	if a := open.ask(t, lines...); a.StatusCode != 401 {
		t.Errorf("after its CA was removed: %d", a.StatusCode)
	}
	s.access.Store(access(ours))
	if a := open.ask(t, lines...); a.StatusCode != 200 {
		t.Errorf("after its CA is back: %d", a.StatusCode)
	}
	// One that came in without a certificate while none was asked for.
	s.access.Store(&Access{Config: &Config{Token: canary, TLS: TLS{Cert: "x", Key: "y"}}, TLS: serverTLS(certificate, nil)})
	without := s.dialTLS(t, &tls.Config{RootCAs: ours.Pool()})
	if a := without.ask(t, request(s.addr)...); a.StatusCode != 200 {
		t.Errorf("a token over TLS: %d", a.StatusCode)
	}
	both := access(ours)
	both.Config = &Config{Token: canary, TLS: section.TLS}
	s.access.Store(both)
	if a := without.ask(t, request(s.addr)...); a.StatusCode != 401 {
		t.Errorf("the token without a certificate: %d", a.StatusCode)
	}
	lax := access(ours)
	lax.VerifyClient = func([]*x509.Certificate) error { return nil }
	s.access.Store(lax)
	if a := without.ask(t, request(s.addr)...); a.StatusCode != 401 {
		t.Errorf("no certificate for a func that takes any: %d", a.StatusCode)
	}
	s.access.Store(&Access{Config: both.Config, TLS: both.TLS})
	if a := without.ask(t, request(s.addr)...); a.StatusCode != 401 {
		t.Errorf("a CA that was not loaded: %d", a.StatusCode)
	}
	s.access.Store(both)
	if a := open.ask(t, lines...); a.StatusCode != 401 {
		t.Errorf("the certificate without a token: %d", a.StatusCode)
	}
	if a := open.ask(t, request(s.addr)...); a.StatusCode != 200 {
		t.Errorf("both: %d", a.StatusCode)
	}
	if got := s.reached.Load(); got != 5 {
		t.Errorf("%d requests got through, want 5", got)
	}

	// Anybody can fail a handshake, as often as they like.
	failed := 0
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "TLS handshake error") {
			failed++
			if !strings.Contains(line, "level=DEBUG") {
				t.Errorf("a failed handshake fills the log: %s", line)
			}
		}
	}
	if failed == 0 {
		t.Error("no failed handshake was logged")
	}
}

func TestVerifyClientBy(t *testing.T) {
	ours, others := testcert.NewAuthority("test CA"), testcert.NewAuthority("test CA")
	verify := VerifyClientBy(ours.Pool())
	leaf := func(c tls.Certificate) []*x509.Certificate { return []*x509.Certificate{c.Leaf} }
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		ok    bool
	}{
		{"ours", leaf(ours.Issue("operator")), true},
		{"of others", leaf(others.Issue("operator")), false},
		{"of others, and their CA", append(leaf(others.Issue("operator")), others.Cert), false},
		{"of others, and our CA", append(leaf(others.Issue("operator")), ours.Cert), false},
		{"for servers", leaf(ours.Issue("operator", forServers)), false},
		{"none", nil, false},
	} {
		if err := verify(c.chain); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestTLSAppears on a listener that is open.
func TestTLSAppears(t *testing.T) {
	ours := testcert.NewAuthority("test CA")
	s := startTCP(t, &Access{Config: &Config{Token: canary}})
	before := s.dial(t)
	if a := before.ask(t, request(s.addr)...); a.StatusCode != 200 {
		t.Fatalf("%d", a.StatusCode)
	}
	s.access.Store(&Access{Config: &Config{Token: canary, TLS: TLS{Cert: "x", Key: "y"}}, TLS: serverTLS(ours.Issue("server", testcert.Hosts("127.0.0.1")), nil)})
	a := before.ask(t, request(s.addr)...)
	if a.StatusCode != 403 || !strings.Contains(a.body, "TLS now") || !a.Close {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	wantHeaders(t, a, "application/problem+json")
	before.wantClosed(t)
	if a := s.dialTLS(t, &tls.Config{RootCAs: ours.Pool()}).ask(t, request(s.addr)...); a.StatusCode != 200 {
		t.Errorf("over TLS: %d", a.StatusCode)
	}
	if a := s.dial(t).ask(t, request(s.addr)...); a.StatusCode != http.StatusBadRequest {
		t.Errorf("plain text to a TLS connection: %d", a.StatusCode)
	}
	if got := s.reached.Load(); got != 2 {
		t.Errorf("%d requests got through, want 2", got)
	}
}
