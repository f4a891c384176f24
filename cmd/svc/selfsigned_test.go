package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hotsvc/svc/internal/testcert"
)

// pemPair makes a certificate that is its own CA, for servers and clients.
func pemPair(name string, notBefore, notAfter time.Time) (cert, key string) {
	return testcert.PEM(testcert.SelfSigned(name, testcert.Hosts("127.0.0.1"), func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = notBefore, notAfter
	}))
}

// validPair is one that is good for a day.
func validPair(name string) (cert, key string) {
	return pemPair(name, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

// selfSigned makes such a pair in files.
func selfSigned(t testing.TB, dir, name string) (cert, key string, pair tls.Certificate) {
	t.Helper()
	certPEM, keyPEM := validPair(name)
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, data := range map[string]string{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}
