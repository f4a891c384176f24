//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clients "github.com/hotsvc/svc/internal/load"
)

// followed is a service that follows edits of its config.
type followed struct {
	*running
	settings settings
}

// startFollowed starts the service with listeners. It writes no access log: there
// are too many requests.
func startFollowed(t *testing.T, s settings) *followed {
	t.Helper()
	s = s.with("log.access", false).with("server.drain.max_generations", 40)
	f := newFolder(t, s.yaml(t))
	f.env = []string{quickEnd}
	return &followed{f.start(), s}
}

// change edits the config, and waits for the restart that it needs.
func (r *followed) change(key string, value any) {
	r.t.Helper()
	generation := r.known().Serving
	r.settings = r.settings.with(key, value)
	r.edit(r.settings.yaml(r.t))
	r.serves(generation + 1)
}

// echo is where all of the service's processes answer.
func echo(network, address string) clients.Target {
	return clients.Target{Network: network, Address: address, Path: "/v1/echo", Foreign: true}
}

// wantPosts fails unless the service has executed so many POSTs, in all
// generations.
func (r *followed) wantPosts(n uint64) {
	r.t.Helper()
	r.alone()
	const name = `http_server_request_duration_seconds_count{http_request_method="POST",http_response_status_code="200",http_route="/v1/echo"}`
	var executed uint64
	// The last counts of the generation before may be on their way.
	for deadline := time.Now().Add(5 * time.Second); executed != n && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		executed = uint64(r.metrics(name)[name])
	}
	if executed != n {
		r.t.Errorf("%d requests, executed %d\n%s", n, executed, r.log)
	}
}

// TestRestartsWithListenersThatComeAndGo: clients of the listener that stays do
// not notice what becomes of the others.
func TestRestartsWithListenersThatComeAndGo(t *testing.T) {
	stays, comes := freeAddress(t), freeAddress(t)
	r := startFollowed(t, settings{"server.listen": []string{stays}, "server.drain.overlap": "500ms"})
	l, err := clients.Start(t.Context(), clients.Options{
		Target: echo("tcp", stays), Fresh: 8, Busy: 16, Idle: 200,
		ThinkMin: time.Millisecond, ThinkMax: 5 * time.Second, Timeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		if n%2 == 0 {
			r.change("server.listen", []string{stays, comes})
			if err := connects(t.Context(), comes); err != nil {
				t.Errorf("the address that was added: %v", err)
			}
			continue
		}
		r.change("server.listen", []string{stays})
	}
	r.eventually("the end of the address that was removed", func() bool {
		return errors.Is(connects(t.Context(), comes), syscall.ECONNREFUSED)
	})
	seen, err := l.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantNoFailure(t, seen)
	if seen.Busy.Kept+seen.Idle.Kept != 16+200 {
		t.Errorf("connections were not kept: %d of 16 busy ones, %d of 200 idle ones", seen.Busy.Kept, seen.Idle.Kept)
	}
	r.wantPosts(seen.Requests())
	r.stopped()
}

// connects is nil where somebody listens.
func connects(ctx context.Context, address string) error {
	d := net.Dialer{Timeout: 10 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return nc.Close()
}

// TestRestartsToOverlappingAddresses: clients of one port do not notice that the
// service listens on one, all, one, and again all addresses of it.
func TestRestartsToOverlappingAddresses(t *testing.T) {
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	r := startFollowed(t, settings{"server.listen": []string{address}, "server.drain.overlap": "200ms"})
	l, err := clients.Start(t.Context(), clients.Options{Target: echo("tcp", address), Fresh: 8, Busy: 16, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"127.0.0.1", "0.0.0.0", "127.0.0.1", "::"}
	for n := range 12 {
		host := hosts[(n+1)%len(hosts)]
		r.change("server.listen", []string{net.JoinHostPort(host, port)})
		// What is wider than before is there at once.
		if other := map[string]string{"0.0.0.0": "127.0.0.2", "::": "::1"}[host]; other != "" {
			if err := connects(t.Context(), net.JoinHostPort(other, port)); err != nil {
				t.Errorf("%s, when it listens on %s: %v", other, host, err)
			}
		}
		if n%6 == 5 { // the other changes come while sockets before are still served
			time.Sleep(3 * time.Second)
		}
	}
	for _, host := range []string{"127.0.0.2", "::1"} {
		r.eventually("the end of "+host, func() bool {
			return errors.Is(connects(t.Context(), net.JoinHostPort(host, port)), syscall.ECONNREFUSED)
		})
	}
	seen, err := l.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantNoFailure(t, seen)
	r.wantPosts(seen.Requests())
	r.stopped()
}

// TestRestartToAnotherPort: both ports answer until server.drain.overlap is over,
// and then the old one refuses.
func TestRestartToAnotherPort(t *testing.T) {
	t.Parallel()
	const overlap = 3 * time.Second
	before, after := freeAddress(t), freeAddress(t)
	r := startFollowed(t, settings{"server.listen": []string{before}, "server.drain.overlap": overlap.String()})
	began := time.Now()
	var mu sync.Mutex
	var refused time.Time
	var answers int
	var failures []error
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for time.Since(began) < 60*time.Second {
				err := ask(t.Context(), before)
				mu.Lock()
				switch {
				case err == nil && refused.IsZero():
					answers++
				case errors.Is(err, syscall.ECONNREFUSED):
					if refused.IsZero() {
						refused = time.Now()
					}
					mu.Unlock()
					return
				case err != nil:
					failures = append(failures, err)
				}
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	r.change("server.listen", []string{after})
	both := 0
	for ended := false; !ended; {
		if err := ask(t.Context(), after); err != nil {
			t.Errorf("the new address: %v", err)
			break
		}
		mu.Lock()
		ended = !refused.IsZero()
		mu.Unlock()
		both++
		time.Sleep(2 * time.Millisecond)
	}
	asking.Wait()
	t.Logf("refused after %v, %d answers before, %d at the new address meanwhile", refused.Sub(began), answers, both)
	if refused.IsZero() || refused.Sub(began) < overlap || answers < 10 || both < 10 || len(failures) > 0 {
		t.Errorf("refused after %v, %d answers before, %d beside, failures %v", refused.Sub(began), answers, both, failures)
	}
	if err := ask(t.Context(), before); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the old address: %v", err)
	}
	r.alone()
	r.stopped()
}

// ask sends one request on a fresh connection.
func ask(ctx context.Context, address string) error {
	d := net.Dialer{Timeout: 10 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	return exchange(nc, true)
}

// exchange sends a request, and reads the answer, which must be good.
func exchange(nc net.Conn, last bool) error {
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	header := ""
	if last {
		header = "Connection: close\r\n"
	}
	if _, err := fmt.Fprintf(nc, "GET /v1/echo HTTP/1.1\r\nHost: localhost\r\n%s\r\n", header); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n := 0
	for !strings.Contains(string(answer[:n]), "\r\n\r\n") {
		more, err := nc.Read(answer[n:])
		if n += more; err != nil {
			return fmt.Errorf("after %d bytes of the answer: %w", n, err)
		}
	}
	if !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200 ") {
		return fmt.Errorf("the answer is %q", answer[:n])
	}
	return nil
}
