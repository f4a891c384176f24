package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/internal/testcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is one that makes configs.
type authority struct{ *testcert.Authority }

func newAuthority(name string) authority { return authority{testcert.NewAuthority(name)} }

// config is that of a new certificate, without client certificates.
func (a authority) config(name string, edit ...func(*x509.Certificate)) Config {
	cert, key := testcert.PEM(a.Issue(name, edit...))
	return Config{Cert: cert, Key: configsrc.Secret(key)}
}

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
