package admin

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// TestGuardFollowsTheConfig: one connection, opened once, under changes.
func TestGuardFollowsTheConfig(t *testing.T) {
	s := startTCP(t, &Access{Config: &Config{Token: canary}})
	c := s.dial(t)
	ca := TLS{ClientCA: "x"}
	all := func([]*x509.Certificate) error { return nil }
	for _, step := range []struct {
		name   string
		access *Access
		host   string
		status int
	}{
		{"the token", &Access{Config: &Config{Token: canary}}, s.addr, 200},
		{"another token", &Access{Config: &Config{Token: canary + "2"}}, s.addr, 401},
		{"no host", &Access{Config: &Config{Token: canary}}, s.addr, 200},
		{"a host", &Access{Config: &Config{Token: canary, Hosts: []string{"new.test"}}}, "new.test", 200},
		{"no token and no CA", &Access{Config: &Config{}}, s.addr, 401},
		{"no config", &Access{}, s.addr, 401},
		{"nothing", nil, s.addr, 401},
		{"a CA that was not loaded", &Access{Config: &Config{Token: canary, TLS: ca}, TLS: nil}, s.addr, 401},
		{"a certificate that was not loaded", &Access{Config: &Config{Token: canary, TLS: TLS{Cert: "x", Key: "y"}}}, s.addr, 401},
		{"a CA without TLS", &Access{Config: &Config{Token: canary}, VerifyClient: all}, s.addr, 401},
		{"the token again", &Access{Config: &Config{Token: canary}}, s.addr, 200},
	} {
		s.access.Store(step.access)
		if a := c.ask(t, with(request(step.host))...); a.StatusCode != step.status {
			t.Errorf("%s: %d %s, want %d", step.name, a.StatusCode, a.body, step.status)
		}
	}
	s.access.Store(&Access{Config: &Config{Token: canary}})
	if a := c.ask(t, request("new.test")...); a.StatusCode != 403 {
		t.Errorf("a host that was removed: %d", a.StatusCode)
	}
	c.wantClosed(t)
	if got := s.reached.Load(); got != 4 {
		t.Errorf("%d requests got through, want 4", got)
	}
}

// TestBruteForce: the right token does not help a client that guessed too often.
func TestBruteForce(t *testing.T) {
	s := startTCP(t, &Access{Config: &Config{Token: canary}})
	c := s.dial(t)
	for range 3 * failedBurst {
		if a := c.ask(t, request(s.addr)...); a.StatusCode != 200 {
			t.Fatalf("a request that succeeds was counted: %d", a.StatusCode)
		}
	}
	for i := range failedBurst {
		if a := c.ask(t, with(request(s.addr), fmt.Sprintf("Authorization: Bearer guess-%d", i))...); a.StatusCode != 401 {
			t.Fatalf("guess %d: %d", i, a.StatusCode)
		}
	}
	before := s.reached.Load()
	for _, lines := range [][]string{
		request(s.addr), with(request(s.addr), "Authorization: Bearer guess"), append([]string{"GET /metrics HTTP/1.1"}, request(s.addr)[1:]...),
	} {
		// On a connection of its own: it is the client that waits.
		a := s.dial(t).ask(t, lines...)
		after, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if a.StatusCode != 429 || err != nil || after < 1 || after > int(failedInterval.Seconds()) {
			t.Errorf("%q: %d, Retry-After %q", lines, a.StatusCode, a.Header.Get("Retry-After"))
		}
		wantHeaders(t, a, "application/problem+json")
	}
	if s.reached.Load() != before {
		t.Error("a request got through")
	}
	if n := strings.Count(s.log.String(), `reason="wrong token"`); n != failedBurst {
		t.Errorf("%d lines in the log, want %d:\n%s", n, failedBurst, s.log.String())
	}
}

// FuzzSplitHost: what is taken for a host is the whole header but for brackets
// and a port.
func FuzzSplitHost(f *testing.F) {
	for _, header := range []string{"localhost", "localhost:80", "[::1]", "[::1]:80", "::1", "a:b", "[a]", ":80", "a]:1", "[[::1]]:1", "a..b", "fe80::1%x"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		host, ok := splitHost(header)
		if !ok {
			return
		}
		rest, found := strings.CutPrefix(strings.TrimPrefix(header, "["), host)
		port, hasPort := strings.CutPrefix(strings.TrimPrefix(rest, "]"), ":")
		if _, err := strconv.ParseUint(port, 10, 16); !found || hasPort && err != nil || !hasPort && port != "" {
			t.Errorf("%q is taken for %q", header, host)
		}
		if _, err := netip.ParseAddr(host); err != nil && !isHostName(host) {
			t.Errorf("%q has the host %q", header, host)
		}
	})
}
