package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

func forwardedRequest(remote string, lines ...string) *http.Request {
	return &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": lines}}
}

func TestClientBehindProxies(t *testing.T) {
	const proxy = "10.0.0.1:1234"
	for _, tt := range []struct {
		name      string
		trusted   string
		remote    string
		lines     []string
		want      string // "" is none
		forwarded bool
	}{
		{"nobody is trusted", "", proxy, []string{"203.0.113.9"}, "10.0.0.1", false},
		{"the peer is not trusted", "10.0.0.2", proxy, []string{"203.0.113.9"}, "10.0.0.1", false},
		{"no header", "10.0.0.1", proxy, nil, "10.0.0.1", false},
		{"one", "10.0.0.1", proxy, []string{"203.0.113.9"}, "203.0.113.9", true},
		{"one in a network", "10.0.0.0/8", proxy, []string{"203.0.113.9"}, "203.0.113.9", true},
		{"a network with bits below it", "10.1.2.3/8", proxy, []string{"203.0.113.9"}, "203.0.113.9", true},
		{"what stands left of the client is its own word", "10.0.0.1", proxy, []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9", true},
		{"a spoofed proxy", "10.0.0.0/8", proxy, []string{"1.1.1.1, 10.0.0.7, 203.0.113.9"}, "203.0.113.9", true},
		{"a chain", "10.0.0.0/8", proxy, []string{"1.1.1.1,203.0.113.9,10.0.0.3, 10.0.0.2"}, "203.0.113.9", true},
		{"a chain on lines", "10.0.0.0/8", proxy, []string{"1.1.1.1", "203.0.113.9, 10.0.0.3", "10.0.0.2"}, "203.0.113.9", true},
		{"all are trusted", "10.0.0.0/8", proxy, []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", true},
		{"junk at the end", "10.0.0.0/8", proxy, []string{"203.0.113.9, unknown"}, "10.0.0.1", false},
		{"junk in the middle", "10.0.0.0/8", proxy, []string{"203.0.113.9, _hidden, 10.0.0.2"}, "10.0.0.2", true},
		{"nothing between commas", "10.0.0.0/8", proxy, []string{"203.0.113.9,,10.0.0.2"}, "10.0.0.2", true},
		{"an empty line", "10.0.0.0/8", proxy, []string{"203.0.113.9", ""}, "10.0.0.1", false},
		{"a name", "10.0.0.0/8", proxy, []string{"client.example"}, "10.0.0.1", false},
		{"not quite an address", "10.0.0.0/8", proxy, []string{"203.0.113.009"}, "10.0.0.1", false},
		{"a network", "10.0.0.0/8", proxy, []string{"203.0.113.0/24"}, "10.0.0.1", false},
		{"a port", "10.0.0.1", proxy, []string{"203.0.113.9:4321"}, "203.0.113.9", true},
		{"spaces", "10.0.0.1", proxy, []string{"  203.0.113.9\t"}, "203.0.113.9", true},
		{"ipv6", "10.0.0.1", proxy, []string{"2001:db8::9"}, "2001:db8::9", true},
		{"ipv6 in brackets", "10.0.0.1", proxy, []string{"[2001:db8::9]"}, "2001:db8::9", true},
		{"ipv6 with a port", "10.0.0.1", proxy, []string{"[2001:db8::9]:443"}, "2001:db8::9", true},
		{"half a bracket", "10.0.0.1", proxy, []string{"[2001:db8::9"}, "10.0.0.1", false},
		{"the other half", "10.0.0.1", proxy, []string{"2001:db8::9]"}, "10.0.0.1", false},
		{"ipv4 in brackets", "10.0.0.1", proxy, []string{"[203.0.113.9]"}, "10.0.0.1", false},
		{"ipv6 with a zone", "10.0.0.1", proxy, []string{"fe80::1%eth0"}, "fe80::1", true},
		{"ipv4 in ipv6", "10.0.0.1", proxy, []string{"::ffff:203.0.113.9"}, "203.0.113.9", true},
		{"a peer of ipv4 in ipv6", "10.0.0.1", "[::ffff:10.0.0.1]:1", []string{"203.0.113.9"}, "203.0.113.9", true},
		{"a proxy of ipv4 in ipv6", "10.0.0.0/8", proxy, []string{"203.0.113.9, ::ffff:10.0.0.2"}, "203.0.113.9", true},
		{"trusted as ipv4 in ipv6", "::ffff:10.0.0.1", proxy, []string{"203.0.113.9"}, "203.0.113.9", true},
		{"ipv6 proxies", "2001:db8::/32", "[2001:db8::1]:1", []string{"203.0.113.9, 2001:db8::2"}, "203.0.113.9", true},
		{"all of ipv4", "0.0.0.0/0", proxy, []string{"1.1.1.1, 203.0.113.9"}, "1.1.1.1", true},
		{"a unix socket that is trusted", "unix", "@", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9", true},
		{"a unix socket and a chain", "unix,10.0.0.0/8", "", []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9", true},
		{"a unix socket without a header", "unix", "@", nil, "", false},
		{"a unix socket with junk", "unix", "@", []string{"x"}, "", false},
		{"a unix socket that is not trusted", "10.0.0.0/8", "@", []string{"203.0.113.9"}, "", false},
		{"tcp where only unix is trusted", "unix", proxy, []string{"203.0.113.9"}, "10.0.0.1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var trusted []string
			if tt.trusted != "" {
				trusted = strings.Split(tt.trusted, ",")
			}
			cfg := Default()
			cfg.TrustedProxies = trusted
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			p := newProxies(trusted)
			ip, forwarded := p.client(forwardedRequest(tt.remote, tt.lines...))
			got := ""
			if ip.IsValid() {
				got = ip.String()
			}
			if got != tt.want || forwarded != tt.forwarded {
				t.Errorf("client %q, forwarded %v; want %q, %v", got, forwarded, tt.want, tt.forwarded)
			}
		})
	}
}

// Whatever the header holds, the client is an address that a trusted peer has
// named: the first one from the right that is not trusted, or one right of it.
func FuzzClientBehindProxies(f *testing.F) {
	f.Add("1.1.1.1, 203.0.113.9, 10.0.0.2", "10.0.0.3")
	f.Add("x", "[::1]:80, ::ffff:10.0.0.1")
	f.Add("10.0.0.1,,", " , ")
	f.Add("[", "]")
	p := newProxies([]string{"10.0.0.0/8", "2001:db8::/32"})
	f.Fuzz(func(t *testing.T, first, second string) {
		got, forwarded := p.client(forwardedRequest("10.0.0.1:1", first, second))
		// The rule again, from the left: every entry right of the client's is
		// a trusted address.
		want, wantForwarded := netip.MustParseAddr("10.0.0.1"), false
		entries := strings.Split(first+","+second, ",")
		for i := range entries {
			trusted := true
			for _, e := range entries[i+1:] {
				ip, ok := parseHop(strings.TrimSpace(e))
				trusted = trusted && ok && p.trust(ip)
			}
			if ip, ok := parseHop(strings.TrimSpace(entries[i])); trusted && ok {
				want, wantForwarded = ip, true
				break
			}
		}
		if got != want || forwarded != wantForwarded {
			t.Errorf("%q %q: client %s, want %s", first, second, got, want)
		}
		if got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q %q: client %s has two forms", first, second, got)
		}
		if forwarded && !strings.HasSuffix(forwardedAddr(got), ":0") {
			t.Errorf("remote %s", forwardedAddr(got))
		}
	})
}

// showClient answers with all ways to ask for the client.
func showClient() http.Handler {
	e := Engine(RouteOptions{})
	e.GET("/", func(c *gin.Context) {
		c.String(200, "%s %s %s", c.ClientIP(), ClientAddr(c.Request), c.Request.RemoteAddr)
	})
	return e
}

func TestTrustedProxiesAreLive(t *testing.T) {
	s := start(t, Options{Handler: showClient()})
	c := client(t) // one connection
	ask := func() string {
		req := request(t, http.MethodGet, "http://"+s.addr+"/", nil)
		req.Header.Set("X-Forwarded-For", "2001:db8::1")
		req.Header.Set("X-Real-Ip", "1.1.1.1")
		return do(t, c, req).body
	}
	const forwarded = "2001:db8::1 2001:db8::1 [2001:db8::1]:0"
	if got := ask(); !strings.HasPrefix(got, "127.0.0.1 127.0.0.1 127.0.0.1:") {
		t.Errorf("without proxies: %s", got)
	}
	s.change(func(c *Config) { c.TrustedProxies = []string{"127.0.0.0/8"} })
	if got := ask(); got != forwarded {
		t.Errorf("with a trusted one: %s", got)
	}
	s.change(func(c *Config) { c.TrustedProxies = []string{"127.0.0.2"} })
	if got := ask(); !strings.HasPrefix(got, "127.0.0.1 127.0.0.1 127.0.0.1:") {
		t.Errorf("with another one: %s", got)
	}
}

func TestClientOnAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listeners, err := Listen(t.Context(), []string{"unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	s := startOn(t, listeners, Options{Handler: showClient()})
	ask := func() string {
		var d net.Dialer
		nc, err := d.DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c := newRaw(t, nc)
		c.send(t, "GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 1.1.1.1, 203.0.113.9\n\n")
		return c.receive(t).body
	}
	if got := ask(); !strings.HasPrefix(got, " invalid IP @") {
		t.Errorf("without proxies: %q", got)
	}
	s.change(func(c *Config) { c.TrustedProxies = []string{"unix"} })
	if got := ask(); got != "203.0.113.9 203.0.113.9 203.0.113.9:0" {
		t.Errorf("with a trusted one: %q", got)
	}
}

// A header as long as may be costs no more than reading it.
func TestClientOfAVeryLongHeader(t *testing.T) {
	s := start(t, Options{Handler: showClient()}, func(c *Config) {
		c.TrustedProxies = []string{"127.0.0.1", "10.0.0.0/8"}
	})
	req := request(t, http.MethodGet, "http://"+s.addr+"/", nil)
	req.Header.Set("X-Forwarded-For", "203.0.113.9"+strings.Repeat(",10.0.0.1", 100_000))
	if got := do(t, client(t), req).body; got != "203.0.113.9 203.0.113.9 203.0.113.9:0" {
		t.Errorf("client %s", got)
	}
}

func TestValidateTrustedProxies(t *testing.T) {
	for text, ok := range map[string]bool{
		"10.0.0.1": true, "10.0.0.0/8": true, "::1": true, "2001:db8::/32": true, "unix": true, "::ffff:10.0.0.1": true,
		"": false, "secret": false, "10.0.0.1:80": false, "10.0.0.0/33": false, "[::1]": false, "fe80::1%eth0": false,
		"::ffff:10.0.0.0/104": false, "10.0.0.0/8,11.0.0.0/8": false, "UNIX": false, "*": false,
	} {
		c := Default()
		c.TrustedProxies = []string{"unix", text}
		problems := problemsOf(t, c.Validate())
		want := map[string]string{}
		if !ok {
			want["trusted_proxies[1]"] = "must be an IP address, a network such as 10.0.0.0/8, or unix"
		}
		if fmt.Sprint(problems) != fmt.Sprint(want) {
			t.Errorf("%q: %v", text, problems)
		}
	}
}
