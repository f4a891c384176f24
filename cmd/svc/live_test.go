//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hotsvc/svc/reload"
)

// load is requests on a few connections that are kept alive.
type load struct {
	requests, connections, failures atomic.Int64
	firstFailure                    atomic.Pointer[string]
	stop                            chan struct{}
	workers                         sync.WaitGroup
}

const loadWorkers = 4

func newLoad(t *testing.T, url string, config *tls.Config) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for range loadWorkers {
		transport := &http.Transport{MaxConnsPerHost: 1, TLSClientConfig: config}
		client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
		l.workers.Go(func() {
			defer transport.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := l.request(t.Context(), client, url, n); err != nil {
					text := err.Error()
					l.firstFailure.CompareAndSwap(nil, &text)
					l.failures.Add(1)
				}
				l.requests.Add(1)
			}
		})
	}
	t.Cleanup(func() {
		select {
		case <-l.stop:
		default:
			l.end()
		}
	})
	return l
}

// request reads, or writes a body, in turn.
func (l *load) request(ctx context.Context, client *http.Client, url string, n int) error {
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !c.Reused {
			l.connections.Add(1)
		}
	}}
	ctx = httptrace.WithClientTrace(ctx, trace)
	method, body := http.MethodGet, io.Reader(nil)
	if n%2 == 1 {
		method, body = http.MethodPost, strings.NewReader(strings.Repeat("x", 512))
	}
	req, err := http.NewRequestWithContext(ctx, method, url+"/v1/echo?delay=2ms", body)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func (l *load) end() {
	close(l.stop)
	l.workers.Wait()
}

// TestEachKeyInPlaceUnderLoad changes every setting that takes effect in place,
// to values that the load does not reach: nothing fails, no connection is closed.
func TestEachKeyInPlaceUnderLoad(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"off", "mtls"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, "")
			cert, key, _ := selfSigned(t, f.dir, "first")
			otherCert, otherKey, _ := selfSigned(t, f.dir, "second")
			clientCert, _, client := selfSigned(t, f.dir, "client")
			operators, _, _ := selfSigned(t, f.dir, "operators")
			both := join(t, f, clientCert, operators)
			config := settings{
				"server.listen":   []string{"127.0.0.1:0"},
				"server.tls.mode": mode, "server.tls.cert": "file:" + cert, "server.tls.key": "file:" + key, "server.tls.client_ca": "file:" + clientCert,
				"admin.listen": []string{"127.0.0.1:0"}, "admin.token": strings.Repeat("a", 32),
				"admin.tls.cert": "file:" + cert, "admin.tls.key": "file:" + key, "admin.tls.client_ca": "file:" + clientCert,
			}
			f.write("config.yaml", config.yaml(t))
			r := f.start()
			url, clientTLS := r.url, (*tls.Config)(nil)
			if mode != "off" {
				url = strings.Replace(url, "http:", "https:", 1)
				roots := x509.NewCertPool()
				for _, path := range []string{cert, otherCert} {
					pem, err := os.ReadFile(path)
					if err != nil || !roots.AppendCertsFromPEM(pem) {
						t.Fatal(path, err)
					}
				}
				clientTLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{client}}
			}
			l := newLoad(t, url, clientTLS)
			progress := func() {
				t.Helper()
				before := l.requests.Load()
				r.until("the load goes on", func() bool { return l.requests.Load() >= before+5*loadWorkers })
			}
			progress()

			tested := map[string]bool{}
			change := func(set settings) {
				t.Helper()
				var keys []string
				for key, value := range set {
					config = config.with(key, value)
					tested[key] = true
					keys = append(keys, key)
				}
				r.applied(r.apply(config), keys...)
				progress()
			}
			for _, c := range []settings{
				{"server.timeout.read_header": "20s"},
				{"server.timeout.read": "21s"},
				{"server.timeout.write": "22s"},
				{"server.timeout.idle": "23s"},
				{"server.timeout.request": "24s"},
				{"server.limit.body_bytes": "2KiB"},
				{"server.limit.concurrency": 1000},
				{"server.limit.rps": 1e6},
				{"server.limit.burst": 1e6},
				{"server.limit.connections": 1000},
				{"server.tls.cert": "file:" + otherCert, "server.tls.key": "file:" + otherKey},
				{"server.tls.client_ca": "file:" + both},
				{"server.cors.origins": []string{"https://example.com"}},
				{"server.cors.methods": []string{"PUT"}},
				{"server.cors.headers": []string{"X-Test"}},
				{"server.trusted_proxies": []string{"192.0.2.0/24"}},
				{"server.drain.timeout": "25s"},
				{"server.drain.spread": "26s"},
				{"server.drain.overlap": "27s"},
				{"server.drain.max_generations": 5},
				{"admin.token": strings.Repeat("b", 32)},
				{"admin.hosts": []string{"svc.example.com"}},
				{"admin.tls.cert": "file:" + otherCert, "admin.tls.key": "file:" + otherKey},
				{"admin.tls.client_ca": "file:" + both},
				{"log.level": "debug"},
				{"log.access": false},
				{"public.greeting": "hi"},
			} {
				change(c)
			}
			// And several at once, and back to the defaults.
			change(settings{"server.timeout.read": nil, "server.limit.rps": nil, "server.limit.burst": nil, "log.access": nil})
			l.end()
			if l.failures.Load() > 0 {
				t.Errorf("%d of %d requests failed, the first with: %s", l.failures.Load(), l.requests.Load(), *l.firstFailure.Load())
			}
			if n := l.connections.Load(); n != loadWorkers {
				t.Errorf("%d connections were made for %d workers", n, loadWorkers)
			}
			r.eachLiveKeyIsIn(tested)
		})
	}
}

// join writes a file of several.
func join(t *testing.T, f *folder, paths ...string) string {
	t.Helper()
	var all []byte
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	f.write("joined.pem", string(all))
	return f.path("joined.pem")
}

// eachLiveKeyIsIn fails for a setting that changes in place and was not tested:
// one that was added without a thought of this.
func (r *running) eachLiveKeyIsIn(tested map[string]bool) {
	r.t.Helper()
	var all []reload.Setting
	if err := r.operator().Get(r.t.Context(), "/api/v1/config", &all); err != nil {
		r.t.Fatal(err)
	}
	for _, s := range all {
		if s.Live && !tested[s.Key] {
			r.t.Errorf("%s changes in place and is not tested", s.Key)
		}
	}
}

// TestHeaderTimeoutUnderHalfARequest: a client that has sent half a header obeys
// what the file says, longer and shorter.
func TestHeaderTimeoutUnderHalfARequest(t *testing.T) {
	config := settings{"server.listen": []string{"127.0.0.1:0"}, "server.timeout.read_header": "4s"}
	f := newFolder(t, config.yaml(t))
	r := f.start()
	var d net.Dialer
	began := time.Now()
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /v1/config HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	r.applied(r.apply(config.with("server.timeout.read_header", "60s")), "server.timeout.read_header")
	if took := time.Since(began); took > 4*time.Second {
		t.Fatalf("this machine took %v for one change", took)
	}
	read := func(deadline time.Time) (int, error) {
		if err := conn.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		return conn.Read(make([]byte, 1))
	}
	if n, err := read(began.Add(5 * time.Second)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("longer: read %d bytes, %v, under a time of 60 s", n, err)
	}
	r.applied(r.apply(config.with("server.timeout.read_header", "1s")), "server.timeout.read_header")
	// What it says before it closes is net/http's; that it closes is ours.
	for {
		n, err := read(time.Now().Add(20 * time.Second))
		if errors.Is(err, io.EOF) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if n == 0 {
			t.Fatalf("shorter: the connection is open after 20 s under a time of 1 s\n%s", r.log)
		}
	}
	if code, body := r.get("/v1/config"); code != http.StatusOK {
		t.Errorf("another client gets %d %s", code, body)
	}
}

// TestRestartKeys: without a keeper what needs a restart changes nothing, and
// says so.
func TestRestartKeys(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "")
	cert, key, _ := selfSigned(t, f.dir, "server")
	config := settings{
		"server.listen": []string{"127.0.0.1:0"}, "server.tls.cert": "file:" + cert, "server.tls.key": "file:" + key,
		"admin.listen": []string{"127.0.0.1:0"}, "admin.token": strings.Repeat("a", 32),
	}
	f.write("config.yaml", config.yaml(t))
	r := f.start("--no-keeper")
	before, settingsBefore := r.current(), f.svc("config").stdout
	for changed, value := range map[string]any{
		"server.listen":           []string{freeAddress(t)},
		"server.tls.mode":         "tls",
		"server.h2c":              true,
		"server.max_header_bytes": "2MiB",
		"admin.listen":            []string{freeAddress(t)},
	} {
		t.Run(changed, func(t *testing.T) {
			e := r.apply(config.with(changed, value))
			if e.Outcome != reload.RestartRequired || e.Action != reload.ActionNone || !slices.Equal(e.Restart, []string{changed}) {
				t.Errorf("%+v", e)
			}
			f.svc("reload").want(t, 1, "restart_required", changed)
			f.svc("status").want(t, 0, "healthy", "restart_required", changed)
			now := r.current()
			if now.Revision != before.Revision || !slices.Equal(now.Listeners, before.Listeners) || f.svc("config").stdout != settingsBefore {
				t.Errorf("something changed: %+v", now)
			}
			if code, body := r.get("/v1/config"); code != http.StatusOK {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	// With what can be had in place, that is.
	e := r.apply(config.with("server.h2c", true).with("server.timeout.request", "100ms"))
	if e.Outcome != reload.RestartRequired || e.Action != reload.ActionInPlace {
		t.Errorf("%+v", e)
	}
	if code, _ := r.get("/v1/echo?delay=2s"); code != http.StatusServiceUnavailable {
		t.Errorf("the part that needs no restart is not in force: %d", code)
	}
	if e := r.apply(config); e.Outcome != reload.Applied {
		t.Errorf("back: %s", fmt.Sprint(e))
	}
}
