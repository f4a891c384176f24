package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hotsvc/svc/configsrc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverName is what the certificates of the tests are for.
const serverName = "svc.example"

// authority signs certificates. Its methods panic on errors, which examples and
// fuzz seeds cannot report.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  string
}

func newAuthority(name string) *authority {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := try(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{cert: try(x509.ParseCertificate(der)), key: key, pem: encode("CERTIFICATE", der)}
}

// issue makes a certificate that is valid for a year, unless edit says otherwise.
func (a *authority) issue(name string, edit ...func(*x509.Certificate)) (certPEM, keyPEM string) {
	key := newKey()
	return a.sign(key, name, edit...), encode("PRIVATE KEY", try(x509.MarshalPKCS8PrivateKey(key)))
}

func (a *authority) sign(key crypto.Signer, name string, edit ...func(*x509.Certificate)) string {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, DNSNames: []string{serverName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range edit {
		f(template)
	}
	return encode("CERTIFICATE", try(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)))
}

// config is that of a new certificate, without client certificates.
func (a *authority) config(name string, edit ...func(*x509.Certificate)) Config {
	cert, key := a.issue(name, edit...)
	return Config{Cert: cert, Key: configsrc.Secret(key)}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func newKey() *ecdsa.PrivateKey { return try(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func serial() *big.Int { return try(rand.Int(rand.Reader, big.NewInt(1<<62))) }

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func try[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// expired and future edit the dates of a certificate.
func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, -20), time.Now().AddDate(0, 0, -10)
}

func future(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().AddDate(1, 0, 0)
}

// journal is a log that can be asked.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// lines are those that hold text.
func (j *journal) lines(text string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []string
	for line := range strings.Lines(j.b.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// want fails where not exactly n lines hold text.
func (j *journal) want(tb testing.TB, n int, text string) {
	tb.Helper()
	if got := j.lines(text); len(got) != n {
		tb.Errorf("%d lines with %q, want %d; the log:\n%s", len(got), text, n, strings.Join(j.lines(""), ""))
	}
}
