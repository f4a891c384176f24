//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// way is how a client speaks to a port.
type way struct {
	name string
	tls  *tls.Config // nil: without
}

// dial connects that way. The handshake's end alone does not say that the server
// takes the client's certificate.
func (w way) dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil || w.tls == nil {
		return nc, err
	}
	c := tls.Client(nc, w.tls)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

// ask sends a request on a fresh connection.
func (w way) ask(ctx context.Context, address string) error {
	nc, err := w.dial(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	return exchange(nc, true)
}

// follower asks again and again on fresh connections, the way that was right
// last, and where that fails, the others.
type follower struct {
	ways    []way
	address string
	asked   int
	lost    int // times that no way was right
	changed int // times that another way was right
	errs    []error
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.asked++
		var errs []error
		for i, w := range f.ways {
			err := w.ask(context.WithoutCancel(ctx), f.address)
			if err == nil {
				if i > 0 {
					f.changed++
					f.ways[0], f.ways[i] = f.ways[i], f.ways[0]
				}
				errs = nil
				break
			}
			errs = append(errs, err)
		}
		if errs != nil {
			f.lost++
			f.errs = append(f.errs, errs...)
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// TestRestartToTLS takes a port from plaintext to TLS, to TLS with client
// certificates, and back.
func TestRestartToTLS(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	dir := t.TempDir()
	cert, key, server := selfSigned(t, dir, "server")
	clientCert, _, client := selfSigned(t, dir, "client")
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(server.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(leaf)
	base := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	known := base.Clone()
	known.Certificates = []tls.Certificate{client}
	plain, anonymous, named := way{"plaintext", nil}, way{"TLS", base}, way{"TLS with a certificate", known}
	r := startFollowed(t, settings{
		"server.listen": []string{address}, "server.tls.mode": "off",
		"server.tls.cert": "file:" + cert, "server.tls.key": "file:" + key, "server.tls.client_ca": "file:" + clientCert,
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	followers := make([]*follower, 4)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	for i := range followers {
		// The first one that works goes on as long as it can: half of them have a
		// certificate from the begin.
		followers[i] = &follower{ways: []way{plain, anonymous, named}, address: address}
		if i%2 == 0 {
			followers[i].ways = []way{plain, named, anonymous}
		}
		following.Go(func() { followers[i].run(ctx) })
	}
	allowed := map[string][]way{"off": {plain}, "tls": {anonymous, named}, "mtls": {named}}
	mode := "off"
	for _, next := range []string{"tls", "mtls", "off"} {
		before := allowed[mode][0]
		// One that is answered while the restart happens, one that is used after it.
		slow, idle := mustDial(t, before, address), mustDial(t, before, address)
		if err := exchange(idle, false); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(slow, "GET /v1/echo?delay=2s HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		began := time.Now()
		r.change("server.tls.mode", next)
		for _, w := range allowed[next] {
			// The old generation is told to stop accepting when the new one does
			// accept: for that moment it is left to chance who takes a connection.
			tries := 0
			r.eventually(w.name+" works", func() bool { tries++; return w.ask(t.Context(), address) == nil })
			t.Logf("%s to %s: %s works at try %d, %v after the edit", mode, next, w.name, tries, time.Since(began))
		}
		r.eventually("the end of "+before.name, func() bool {
			for _, w := range allowed[next] {
				if w.name == before.name {
					return true
				}
			}
			return before.ask(t.Context(), address) != nil
		})
		for range 10 {
			for _, w := range []way{plain, anonymous, named} {
				right := false
				for _, a := range allowed[next] {
					right = right || a.name == w.name
				}
				if err := w.ask(t.Context(), address); (err == nil) != right {
					t.Errorf("%s to %s: %s: %v", mode, next, w.name, err)
				}
			}
		}
		for name, nc := range map[string]net.Conn{"slow": slow, "idle": idle} {
			if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(nc)
			if name == "idle" {
				if _, err := io.WriteString(nc, "GET /v1/echo HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
					t.Errorf("%s to %s, %s connection: %v", mode, next, name, err)
				}
			}
			res, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Errorf("%s to %s, %s connection: %v", mode, next, name, err)
				continue
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK || !res.Close {
				t.Errorf("%s to %s, %s connection: %s, close %v, %v", mode, next, name, res.Status, res.Close, err)
			}
			_ = res.Body.Close()
		}
		mode = next
	}
	stop()
	following.Wait()
	asked, lost := 0, 0
	for i, f := range followers {
		asked, lost = asked+f.asked, lost+f.lost
		if f.changed < 2 { // one with a certificate has no reason to at the second
			t.Errorf("client %d has followed %d changes", i, f.changed)
		}
		for _, err := range f.errs[:min(3, len(f.errs))] {
			t.Logf("no way was right: %v", err)
		}
	}
	t.Logf("%d requests of clients that follow, %d found no way", asked, lost)
	// Once for each of them at each change, and some chance.
	if lost > 2*3*len(followers) {
		t.Errorf("%d of %d requests found no way", lost, asked)
	}
	r.alone()
	r.stopped()
}

func mustDial(t *testing.T, w way, address string) net.Conn {
	t.Helper()
	nc, err := w.dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return nc
}
