package load

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hotsvc/svc/internal/testcert"
)

// service is a server with a record.
type service struct {
	target Target
	record string
	server *http.Server
	end    func() // the server's, and waits for it; may be called again
}

// serve serves what wrap makes of Handler.
func serve(t *testing.T, network string, secure, h2 bool, wrap func(http.Handler) http.Handler) *service {
	t.Helper()
	dir := t.TempDir()
	s := &service{record: filepath.Join(dir, "record")}
	record, err := OpenRecord(s.record)
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:0"
	if network == "unix" {
		if dir, err = os.MkdirTemp("", "load-"); err != nil { //nolint:usetesting // the names of a test are too long for a socket
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	s.target = Target{Network: network, Address: ln.Addr().String(), HTTP2: h2}
	handler := Handler(record)
	if wrap != nil {
		handler = wrap(handler)
	}
	s.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	if secure {
		certificate := testcert.SelfSigned("load")
		roots := x509.NewCertPool()
		roots.AddCert(certificate.Leaf)
		s.target.TLS = &tls.Config{RootCAs: roots, ServerName: testcert.Host, MinVersion: tls.VersionTLS12}
		s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	var running sync.WaitGroup
	running.Go(func() {
		if secure {
			err = s.server.ServeTLS(ln, "", "")
		} else {
			err = s.server.Serve(ln)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	s.end = sync.OnceFunc(func() {
		_ = s.server.Close()
		running.Wait()
		if err := record.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.end)
	return s
}

// discard is a writer of an answer that nobody gets.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// raw is a server of one's own making: answer gets what is to be written for the
// n-th request of a connection. "" ends the connection.
func raw(t *testing.T, answer func(n int, id string) string) Target {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = nc.Close() }()
				r := bufio.NewReader(nc)
				for n := 1; ; n++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					body, _ := io.ReadAll(req.Body)
					text := answer(n, string(body))
					if text == "" {
						return
					}
					_, _ = io.WriteString(nc, text)
					if req.Close || strings.Contains(text, "Connection: close") {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		running.Wait()
	})
	return Target{Network: "tcp", Address: ln.Addr().String()}
}

func answerTo(id, more string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%s: 1\r\n%s: %s\r\nContent-Length: %d\r\n%s\r\n%s", pidHeader, idHeader, id, len(id), more, id)
}

// closing is a server that closes each connection after one answer.
func closing(t *testing.T, ln net.Listener) Target {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = nc.Close() }()
				req, err := http.ReadRequest(bufio.NewReader(nc))
				if err != nil {
					return
				}
				id, _ := io.ReadAll(req.Body)
				_, _ = io.WriteString(nc, answerTo(string(id), ""))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		running.Wait()
	})
	return Target{Network: "tcp", Address: ln.Addr().String()}
}
