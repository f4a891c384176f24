package testcert

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func selfSignedPool(c tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.Leaf)
	return pool
}

// Each certificate is taken by those who trust its signer, for all that it is
// for, and by nobody else.
func TestVerify(t *testing.T) {
	ca, other := NewAuthority("ca"), NewAuthority("ca")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	serverOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	own := SelfSigned("own")
	for _, tt := range []struct {
		name  string
		cert  tls.Certificate
		roots *x509.CertPool
		host  string
		usage x509.ExtKeyUsage
		ok    bool
	}{
		{"a server", ca.Issue("a"), ca.Pool(), Host, x509.ExtKeyUsageServerAuth, true},
		{"a server, by its address", ca.Issue("a"), ca.Pool(), "127.0.0.1", x509.ExtKeyUsageServerAuth, true},
		{"a client", ca.Issue("a"), ca.Pool(), "", x509.ExtKeyUsageClientAuth, true},
		{"an RSA key", ca.IssueFor(rsaKey, "a"), ca.Pool(), Host, x509.ExtKeyUsageServerAuth, true},
		{"self-signed", own, selfSignedPool(own), Host, x509.ExtKeyUsageServerAuth, true},
		{"self-signed, a client", own, selfSignedPool(own), "", x509.ExtKeyUsageClientAuth, true},
		{"other hosts", ca.Issue("a", Hosts("::1", "a.test")), ca.Pool(), "a.test", x509.ExtKeyUsageServerAuth, true},
		{"another address", ca.Issue("a", Hosts("::1", "a.test")), ca.Pool(), "::1", x509.ExtKeyUsageServerAuth, true},
		{"no longer for the default", ca.Issue("a", Hosts("::1", "a.test")), ca.Pool(), Host, x509.ExtKeyUsageServerAuth, false},
		{"not for its common name", ca.Issue("a.test"), ca.Pool(), "a.test", x509.ExtKeyUsageServerAuth, false},
		{"an authority of the same name", ca.Issue("a"), other.Pool(), Host, x509.ExtKeyUsageServerAuth, false},
		{"self-signed, unknown", own, ca.Pool(), Host, x509.ExtKeyUsageServerAuth, false},
		{"the last edit counts", ca.Issue("a", Hosts("a.test"), Hosts(Host)), ca.Pool(), Host, x509.ExtKeyUsageServerAuth, true},
		{"for servers alone", ca.Issue("a", serverOnly), ca.Pool(), "", x509.ExtKeyUsageClientAuth, false},
		{"expired", ca.Issue("a", expired), ca.Pool(), Host, x509.ExtKeyUsageServerAuth, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := x509.VerifyOptions{Roots: tt.roots, DNSName: tt.host, KeyUsages: []x509.ExtKeyUsage{tt.usage}}
			if _, err := tt.cert.Leaf.Verify(o); (err == nil) != tt.ok {
				t.Errorf("verified: %v, want ok: %v", err, tt.ok)
			}
		})
	}
}

func TestPEM(t *testing.T) {
	ca := NewAuthority("ca")
	c := ca.Issue("a")
	cert, key := PEM(c)
	pair, err := tls.X509KeyPair([]byte(cert+ca.PEM), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([][]byte{c.Leaf.Raw, ca.Cert.Raw}, pair.Certificate); d != "" {
		t.Errorf("chain (-want +got):\n%s", d)
	}
	if chain, _ := PEM(pair); chain != cert+ca.PEM {
		t.Errorf("the chain, again: %s", chain)
	}
	_, other := PEM(ca.Issue("a"))
	if _, err := tls.X509KeyPair([]byte(cert), []byte(other)); err == nil {
		t.Error("two certificates have one key")
	}
}

func TestSerialsDiffer(t *testing.T) {
	ca := NewAuthority("ca")
	a, b := ca.Issue("a").Leaf, ca.Issue("a").Leaf
	if a.SerialNumber.Cmp(b.SerialNumber) == 0 || bytes.Equal(a.Raw, b.Raw) {
		t.Error("two certificates are one")
	}
}

// The dates are of the clock in force, which may be virtual.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1000 * time.Hour)
		c := SelfSigned("a").Leaf
		if got := [2]time.Time{c.NotBefore, c.NotAfter}; !got[0].Equal(time.Now().Add(-time.Hour)) || !got[1].Equal(time.Now().AddDate(1, 0, 0)) {
			t.Errorf("valid from %v to %v, at %v", got[0], got[1], time.Now())
		}
	})
}

func TestPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a certificate that cannot be made is no panic")
		}
	}()
	SelfSigned("a", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.MD5WithRSA })
}
