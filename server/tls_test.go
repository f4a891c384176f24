package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hotsvc/svc/internal/memnet"
	"github.com/hotsvc/svc/internal/testcert"
)

// showTLS answers with what the connection is.
func showTLS(w http.ResponseWriter, r *http.Request) {
	name := ""
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		name = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	_, _ = fmt.Fprintf(w, "%s tls=%v client=%q", r.Proto, r.TLS != nil, name)
}

func TestProtocols(t *testing.T) {
	clientCA := testcert.NewAuthority("authority")
	for _, tt := range []struct {
		name      string
		mutual    *testcert.Authority
		protocols func(*http.Protocols)
		want      string
	}{
		{"tls http/1.1", nil, http1, `HTTP/1.1 tls=true client=""`},
		{"tls h2", nil, http2, `HTTP/2.0 tls=true client=""`},
		{"mtls http/1.1", clientCA, http1, `HTTP/1.1 tls=true client="client"`},
		{"mtls h2", clientCA, http2, `HTTP/2.0 tls=true client="client"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startTLS(t, Options{Handler: handler(showTLS)}, tt.mutual)
			a := get(t, s.https(t, s.clientTLS(tt.mutual), tt.protocols), "https://"+s.addr+"/")
			if a.body != tt.want {
				t.Errorf("answer %s %q, want %q", a.Status, a.body, tt.want)
			}
		})
	}
	t.Run("h2c and http/1.1 on one port", func(t *testing.T) {
		s := start(t, Options{Handler: handler(showTLS)}, allowH2C)
		for c, want := range map[*http.Client]string{h2c(t): `HTTP/2.0 tls=false client=""`, client(t): `HTTP/1.1 tls=false client=""`} {
			if a := get(t, c, "http://"+s.addr+"/"); a.body != want {
				t.Errorf("answer %s %q, want %q", a.Status, a.body, want)
			}
		}
	})
	t.Run("no h2c unless it is allowed", func(t *testing.T) {
		s := start(t, Options{Handler: handler(showTLS)})
		if res, err := h2c(t).Do(request(t, http.MethodGet, "http://"+s.addr+"/", nil)); err == nil {
			_ = res.Body.Close()
			t.Errorf("answer %s", res.Status)
		}
	})
}

func TestTLSVersions(t *testing.T) {
	s := startTLS(t, Options{Handler: handler(hello)}, nil)
	for version, ok := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		config := s.clientTLS(nil)
		config.MinVersion, config.MaxVersion = version, version
		_, _, err := s.dialTLS(t, config)
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	// The client may hear of the failure first.
	eventually(t, "count of two failed handshakes", func() bool { return s.handshakeErrors.Load() == 2 })
}

// wantCertificate checks who the server says it is.
func wantCertificate(t *testing.T, c *tls.Conn, name string, resumed bool) {
	t.Helper()
	state := c.ConnectionState()
	if got := state.PeerCertificates[0].Subject.CommonName; got != name || state.DidResume != resumed {
		t.Errorf("certificate %s, resumed %v; want %s, %v", got, state.DidResume, name, resumed)
	}
}

func TestCertificateSwapsInPlace(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := startTLS(t, Options{Handler: handler(hello)}, nil)
			config := s.clientTLS(nil)
			config.MaxVersion = version
			c, tc := s.mustDialTLS(t, config)
			wantCertificate(t, tc, "first", false)
			_, tc = s.mustDialTLS(t, config)
			wantCertificate(t, tc, "first", true)

			s.swap(t, "second", nil)
			// What is open goes on.
			c.send(t, getRoot)
			if a := c.receive(t); a.body != "hello" || a.Close {
				t.Errorf("on the open connection: %s, closed %v", a.Status, a.Close)
			}
			_, tc = s.mustDialTLS(t, config) // it has a ticket of the first
			wantCertificate(t, tc, "second", false)
			_, tc = s.mustDialTLS(t, config)
			wantCertificate(t, tc, "second", true)
		})
	}
}

func TestClientCAIsTakenAway(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			first, second := testcert.NewAuthority("authority"), testcert.NewAuthority("authority")
			h := &counted{}
			s := startTLS(t, Options{Handler: h}, first)
			config := s.clientTLS(first)
			config.MaxVersion = version
			c, _ := s.mustDialTLS(t, config)
			_, tc := s.mustDialTLS(t, config)
			wantCertificate(t, tc, "first", true)
			calls := h.calls.Load()

			refused := func(who string, config *tls.Config) {
				t.Helper()
				config.MaxVersion = version
				c, _, err := s.dialTLS(t, config)
				if err == nil { // TLS 1.3 tells it by the first read
					c.send(t, getRoot)
					_, err = c.r.ReadByte()
				}
				if err == nil {
					t.Errorf("%s is served", who)
				}
			}
			refused("a client of another authority", s.clientTLS(second))
			refused("a client without a certificate", s.clientTLS(nil))
			s.swap(t, "first", second)
			refused("a client of the authority that is gone, with a ticket", config)
			if n := h.calls.Load(); n != calls {
				t.Errorf("the handler ran %d times for them", n-calls)
			}
			s.mustDialTLS(t, func() *tls.Config { c := s.clientTLS(second); c.MaxVersion = version; return c }())
			c.send(t, getRoot) // what is open goes on
			if a := c.receive(t); a.StatusCode != 200 {
				t.Errorf("on the open connection: %s", a.Status)
			}
		})
	}
}

func TestPlainHTTPOnTheTLSPort(t *testing.T) {
	s := startTLS(t, Options{Handler: handler(hello)}, nil)
	c := dial(t, s.addr)
	c.send(t, getRoot)
	a := c.receive(t)
	if a.StatusCode != 400 || !strings.Contains(a.body, "HTTPS server") {
		t.Errorf("answer %s %q", a.Status, a.body)
	}
	c.wantClosed(t)
}

func TestHandshakesThatStandStill(t *testing.T) {
	registry := prometheus.NewRegistry()
	log := &syncBuffer{}
	s := startTLS(t, Options{Handler: handler(hello), Registerer: registry, Logger: slog.New(slog.NewTextHandler(log, nil))}, nil,
		func(c *Config) { c.Timeout.ReadHeader = time.Hour })
	hello := clientHello(t)
	silent, half, whole := dial(t, s.addr), dial(t, s.addr), dial(t, s.addr)
	for c, n := range map[*raw]int{half: len(hello) / 2, whole: len(hello)} {
		if _, err := c.Write(hello[:n]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "three connections", func() bool { return total(s.running) == 3 })
	s.change(func(c *Config) { c.Timeout.ReadHeader = 50 * time.Millisecond })
	for _, c := range []*raw{silent, half, whole} {
		_, _ = io.Copy(io.Discard, c.r) // until the server closes it
	}
	eventually(t, "no connection", func() bool { return total(s.running) == 0 })
	want := `
# HELP svc_tls_handshake_errors_total TLS handshakes that have failed on the listeners of the service.
# TYPE svc_tls_handshake_errors_total counter
svc_tls_handshake_errors_total 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "svc_tls_handshake_errors_total"); err != nil {
		t.Error(err)
	}
	if text := log.String(); text != "" {
		t.Errorf("anybody can fill the log: %s", text)
	}
}

// clientHello is the first flight of a client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	go func() {
		c := tls.Client(theirs, &tls.Config{ServerName: "svc.test"})
		_ = c.HandshakeContext(t.Context())
		_ = theirs.Close()
	}()
	buf := make([]byte, 16<<10)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// A server has one certificate, so it serves whatever name a client asks for, or
// refuses the handshake; the next client does not notice.
func TestServerNames(t *testing.T) {
	s := startTLS(t, Options{Handler: handler(hello)}, nil)
	for _, name := range []string{
		"svc.test", "other.test", "", "SVC.TEST.", "xn--bad", strings.Repeat("a", 255) + ".test",
		"a b", "..", "svc.test\x00evil", "ünïcode.test", strings.Repeat("x.", 2000), "127.0.0.1", "[::1]",
	} {
		config := s.clientTLS(nil)
		// The client must not be the one to refuse.
		config.ServerName, config.InsecureSkipVerify = name, true
		c, tc, err := s.dialTLS(t, config)
		if err != nil {
			if _, isAlert := errors.AsType[tls.AlertError](err); !isAlert && !errors.Is(err, io.EOF) {
				t.Errorf("%.20q: %v", name, err)
			}
			continue
		}
		wantCertificate(t, tc, "first", false)
		c.send(t, getRoot)
		if a := c.receive(t); a.body != "hello" {
			t.Errorf("%.20q: %s", name, a.Status)
		}
	}
	s.mustDialTLS(t, s.clientTLS(nil))
}

// wantCloseNotify reads until TLS says that the server has closed, which a cut
// connection does not.
func wantCloseNotify(t *testing.T, c *raw) {
	t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) != 0 {
		t.Errorf("read %q, %v, want a clean end", rest, err)
	}
}

func TestDrainOfIdleTLSConnections(t *testing.T) {
	s := startTLS(t, Options{Handler: handler(hello)}, nil)
	var idle []*raw
	for range 5 {
		c, _ := s.mustDialTLS(t, s.clientTLS(nil))
		idle = append(idle, c)
	}
	asks := idle[0]
	s.stop()
	eventually(t, "drain", s.Draining)
	asks.send(t, getRoot)
	if a := asks.receive(t); a.body != "hello" || !a.Close {
		t.Errorf("answer %s, closed %v", a.Status, a.Close)
	}
	for _, c := range idle {
		wantCloseNotify(t, c)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// With mode mtls no client comes in without a certificate, whatever material is
// handed in.
func TestMutualIsNeverLeftOut(t *testing.T) {
	clients := testcert.NewAuthority("clients")
	s := startTLS(t, Options{Handler: handler(hello)}, clients)
	s.mustDialTLS(t, s.clientTLS(clients))
	s.swap(t, "second", nil) // as opened by somebody who forgot
	for _, shows := range []*testcert.Authority{nil, clients} {
		if c, _, err := s.dialTLS(t, s.clientTLS(shows)); err == nil {
			c.send(t, getRoot)
			if a, err := http.ReadResponse(c.r, nil); err == nil {
				_ = a.Body.Close()
				t.Errorf("answered with %s under material for any client", a.Status)
			}
		}
	}
	cfg := Default()
	cfg.TLS.Mode = ModeMTLS
	srv, err := New(Options{
		Handler: handler(hello), Config: func(context.Context) *Config { return &cfg }, Certificates: s.material.Load,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(t.Context(), []net.Listener{memnet.Listen()}); err == nil || !strings.Contains(err.Error(), "no certificate that was opened for it") {
		t.Errorf("Run: %v", err)
	}
}
