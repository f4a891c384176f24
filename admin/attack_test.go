package admin

import (
	"slices"
	"strings"
	"testing"

	"github.com/hotsvc/svc/internal/testcert"
)

// request is the head of a good one, whose lines the attacks replace.
func request(addr string) []string {
	return []string{
		"POST /api/v1/reload HTTP/1.1", "Host: " + addr, "Authorization: Bearer " + string(canary), "Content-Length: 0",
	}
}

// with replaces the headers that begin with the same word, or adds them.
func with(lines []string, headers ...string) []string {
	lines = slices.Clone(lines)
	for _, header := range headers {
		word, _, _ := strings.Cut(header, " ")
		lines = append(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, word) }), header)
	}
	return lines
}

// TestAttacks: each of them is sent with the right token, unless the token is
// what it is about, and none gets through.
func TestAttacks(t *testing.T) {
	const (
		get  = "GET /api/v1/status HTTP/1.1"
		host = "the Host header"
		site = "pages of other sites"
		cred = "valid credentials"
		none = "no such endpoint"
	)
	drop := func(lines []string, word string) []string {
		return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.HasPrefix(l, word) })
	}
	line := func(text string) func([]string) []string {
		return func(good []string) []string {
			if strings.HasSuffix(text, " HTTP/1.1") {
				return append([]string{text}, good[1:]...)
			}
			return with(good, text)
		}
	}
	add := func(text ...string) func([]string) []string {
		return func(good []string) []string { return append(slices.Clone(good), text...) }
	}
	reading := func(text ...string) func([]string) []string {
		return func(good []string) []string { return append([]string{get}, append(slices.Clone(good[1:]), text...)...) }
	}
	target := func(text string) func([]string) []string { return line("POST " + text + " HTTP/1.1") }
	for _, c := range []struct {
		name   string
		attack func(good []string) []string
		status int
		says   string // empty: it is net/http that answers
	}{
		{"rebinding", line("Host: evil.example"), 403, host},
		{"rebinding with our port", line("Host: evil.example:8080"), 403, host},
		{"rebinding a name below localhost", line("Host: evil.localhost"), 403, host},
		{"a name that ends as ours", line("Host: evilops.test"), 403, host},
		{"a name below ours", line("Host: evil.ops.test"), 403, host},
		{"our name with a final dot", line("Host: ops.test."), 403, host},
		{"a number that browsers take for an address", line("Host: 2130706433"), 403, host},
		{"a short address", line("Host: 127.1"), 403, host},
		{"an address of hexadecimal digits", line("Host: 0x7f000001"), 403, host},
		{"an address and more", line("Host: 127.0.0.1.evil.example"), 403, host},
		{"IPv6 without brackets", line("Host: ::1"), 403, host},
		{"a name in brackets", line("Host: [localhost]"), 403, host},
		{"IPv4 in brackets", line("Host: [127.0.0.1]:80"), 403, host},
		{"a port that is none", line("Host: localhost:http"), 403, host},
		{"an empty port", line("Host: localhost:"), 403, host},
		{"a port too large", line("Host: localhost:65536"), 403, host},
		{"an empty host", line("Host: "), 403, host},
		{"a port alone", line("Host: :80"), 403, host},
		{"user info", line("Host: localhost@evil.example"), 400, ""},
		{"two names", line("Host: localhost,evil.example"), 403, host},
		{"no Host", func(good []string) []string { return drop(good, "Host:") }, 400, ""},
		{"no Host in HTTP/1.0", func(good []string) []string {
			return append([]string{"POST /api/v1/reload HTTP/1.0"}, drop(good[1:], "Host:")...)
		}, 403, host},
		{"two Host headers", add("Host: evil.example"), 400, ""},
		{"two Host headers, one empty", add("Host:"), 400, ""},

		{"an absolute target of others", target("http://evil.example/api/v1/reload"), 403, "must be a path"},
		{"an absolute target of ours under a Host of others", func(good []string) []string {
			return with(append([]string{"POST http://localhost/api/v1/reload HTTP/1.1"}, good[1:]...), "Host: evil.example")
		}, 403, "must be a path"},
		{"CONNECT", line("CONNECT localhost:80 HTTP/1.1"), 403, "must be a path"},
		{"CONNECT to a path", line("CONNECT /api/v1/reload HTTP/1.1"), 405, "not served"},
		{"TRACE", line("TRACE /api/v1/reload HTTP/1.1"), 405, "not served"},
		{"OPTIONS *", line("OPTIONS * HTTP/1.1"), 403, "must be a path"},

		{"cross-origin", add("Origin: https://evil.example"), 403, site},
		{"null origin", add("Origin: null"), 403, site},
		{"an empty origin", add("Origin:"), 403, site},
		{"our host over another scheme", func(good []string) []string {
			return append(slices.Clone(good), "Origin: https://"+strings.TrimPrefix(good[1], "Host: "))
		}, 403, site},
		{"our host on another port", add("Origin: http://127.0.0.1:1"), 403, site},
		{"our host and a path", func(good []string) []string {
			return append(slices.Clone(good), "Origin: http://"+strings.TrimPrefix(good[1], "Host: ")+"/")
		}, 403, site},
		{"our origin and another", func(good []string) []string {
			return append(slices.Clone(good), "Origin: http://"+strings.TrimPrefix(good[1], "Host: "), "Origin: https://evil.example")
		}, 403, site},
		{"our origin twice", func(good []string) []string {
			own := "Origin: http://" + strings.TrimPrefix(good[1], "Host: ")
			return append(slices.Clone(good), own, own)
		}, 403, site},
		{"cross-origin that claims to be same-origin", add("Origin: https://evil.example", "Sec-Fetch-Site: same-origin"), 403, site},
		{"cross-origin GET", reading("Origin: https://evil.example"), 403, site},
		{"null origin GET", reading("Origin: null"), 403, site},
		{"preflight", func(good []string) []string {
			return append([]string{"OPTIONS /api/v1/reload HTTP/1.1"}, append(slices.Clone(good[1:]), "Origin: https://evil.example", "Access-Control-Request-Method: POST")...)
		}, 403, site},
		{"cross-site", add("Sec-Fetch-Site: cross-site"), 403, site},
		{"cross-site GET", reading("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"), 403, site},
		{"same-site GET", reading("Sec-Fetch-Site: same-site"), 403, site},
		{"two sites", reading("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"), 403, site},
		{"a site that is none", reading("Sec-Fetch-Site: Same-Origin"), 403, site},
		{"no-cors", add("Sec-Fetch-Mode: no-cors"), 403, site},
		{"no-cors GET", reading("Sec-Fetch-Mode: no-cors", "Sec-Fetch-Site: same-origin"), 403, site},
		{"two modes", reading("Sec-Fetch-Mode: cors", "Sec-Fetch-Mode: no-cors"), 403, site},
		{"WebSocket", reading("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"), 403, "no other protocol"},
		{"WebSocket of ours", func(good []string) []string {
			return append([]string{get}, append(slices.Clone(good[1:]), "Upgrade: WebSocket", "Origin: http://"+strings.TrimPrefix(good[1], "Host: "))...)
		}, 403, "no other protocol"},
		{"h2c", reading("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), 403, "no other protocol"},

		{"GET that changes", line("GET /api/v1/reload HTTP/1.1"), 405, "takes POST"},
		{"PUT that changes", line("PUT /api/v1/reload HTTP/1.1"), 405, "takes POST"},
		{"GET with an override", func(good []string) []string {
			return append([]string{"GET /api/v1/reload HTTP/1.1"}, append(slices.Clone(good[1:]), "X-HTTP-Method-Override: POST")...)
		}, 405, "takes POST"},
		{"a method in lower case", line("post /api/v1/reload HTTP/1.1"), 405, "takes POST"},

		{"two slashes", target("//api/v1/reload"), 404, none},
		{"two slashes inside", target("/api//v1/reload"), 404, none},
		{"nothing but slashes", target("//"), 404, none},
		{"a host before the path", target("//localhost/api/v1/reload"), 404, none},
		{"dots", target("/api/v1/../v1/reload"), 404, none},
		{"a dot", target("/api/./v1/reload"), 404, none},
		{"encoded dots", target("/api/v1/%2e%2e/v1/reload"), 404, none},
		{"dots out of an open path", target("/metrics/../api/v1/reload"), 404, none},
		{"an encoded slash", target("/api/v1%2Freload"), 404, none},
		{"an encoded letter", target("/api/v1/%72eload"), 404, none},
		{"twice encoded", target("/api/v1%252Freload"), 404, none},
		{"mixed case", target("/API/v1/Reload"), 404, none},
		{"a final slash", target("/api/v1/reload/"), 404, none},
		{"a parameter in the path", target("/api/v1/reload;x=y"), 404, none},
		{"a NUL", target("/api/v1/reload%00"), 404, none},
		{"a backslash", target("/api\\v1\\reload"), 404, none},
		{"a revision with a slash", target("/api/v1/rollback/a%2Fb"), 404, none},
		{"cmdline", line("GET /debug/pprof/cmdline HTTP/1.1"), 404, none},

		{"no token", func(good []string) []string { return drop(good, "Authorization") }, 401, cred},
		{"no token, no endpoint", func(good []string) []string {
			return append([]string{"GET /nothing HTTP/1.1"}, drop(good[1:], "Authorization")...)
		}, 401, cred},
		{"no token for the metrics", func(good []string) []string {
			return append([]string{"GET /metrics HTTP/1.1"}, drop(good[1:], "Authorization")...)
		}, 401, cred},
		{"no token for a profile", func(good []string) []string {
			return append([]string{"GET /debug/pprof/heap HTTP/1.1"}, drop(good[1:], "Authorization")...)
		}, 401, cred},
		{"no token on a path trick", func(good []string) []string {
			return append([]string{"POST //api/v1/../v1%2Freload HTTP/1.1"}, drop(good[1:], "Authorization")...)
		}, 401, cred},
		{"wrong token", line("Authorization: Bearer canary-0123456789-abcdefghijklmnoX"), 401, cred},
		{"a prefix", line("Authorization: Bearer " + string(canary[:len(canary)-1])), 401, cred},
		{"the token and more", line("Authorization: Bearer " + string(canary) + "x"), 401, cred},
		{"the token twice", line("Authorization: Bearer " + string(canary) + " " + string(canary)), 401, cred},
		{"the token after a tab", line("Authorization: Bearer\t" + string(canary)), 401, cred},
		{"another case of the token", line("Authorization: Bearer " + strings.ToUpper(string(canary))), 401, cred},
		{"an empty bearer", line("Authorization: Bearer "), 401, cred},
		{"a bearer without a word", line("Authorization: Bearer"), 401, cred},
		{"an empty Authorization", line("Authorization: "), 401, cred},
		{"the token without a scheme", line("Authorization: " + string(canary)), 401, cred},
		{"another scheme", line("Authorization: Basic " + string(canary)), 401, cred},
		{"two right tokens", add("Authorization: Bearer " + string(canary)), 401, cred},
		{"a wrong token after the right one", add("Authorization: Bearer x"), 401, cred},
		{"the token in the query", func(good []string) []string {
			return append([]string{"POST /api/v1/reload?token=" + string(canary) + "&access_token=" + string(canary) + " HTTP/1.1"}, drop(good[1:], "Authorization")...)
		}, 401, cred},
		{"the token in a cookie", func(good []string) []string {
			return append(drop(good, "Authorization"), "Cookie: token="+string(canary))
		}, 401, cred},
		{"the token for a proxy", func(good []string) []string {
			return append(drop(good, "Authorization"), "Proxy-Authorization: Bearer "+string(canary))
		}, 401, cred},
		{"the mask of the token", line("Authorization: Bearer [secret]"), 401, cred},

		{"two lengths", add("Content-Length: 5"), 400, ""},
		{"chunks of an odd coding", add("Transfer-Encoding: chunked, identity"), 501, ""},
		{"HTTP/2 in clear text", func([]string) []string { return []string{"PRI * HTTP/2.0", "", "SM"} }, 403, "must be a path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startTCP(t, &Access{Config: &Config{Token: canary, Hosts: []string{"ops.test"}}})
			a := s.dial(t).ask(t, c.attack(request(s.addr))...)
			if a.StatusCode != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("%d %s, want %d %s", a.StatusCode, a.body, c.status, c.says)
			}
			if c.says != "" {
				wantHeaders(t, a, "application/problem+json")
			}
			if got := a.Header.Get("WWW-Authenticate"); (got == "Bearer") != (c.status == 401) {
				t.Errorf("WWW-Authenticate %q", got)
			}
			if n := s.reached.Load(); n != 0 {
				t.Errorf("%d requests got through", n)
			}
		})
	}
}

func wantHeaders(t *testing.T, a response, contentType string) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type": contentType, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := a.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestGoodRequests: what the attacks differ from does get through.
func TestGoodRequests(t *testing.T) {
	ours := testcert.NewAuthority("test CA")
	certificate := ours.Issue("server", testcert.Hosts("127.0.0.1", "admin.test", "*.wild.test"))
	s := startTCP(t, &Access{
		Config: &Config{Token: canary, Hosts: []string{"ops.test"}, Listen: []string{"listen.test:9090", ":9091"}},
		Names:  certificate.Leaf.DNSNames,
	})
	good := request(s.addr)
	for _, lines := range [][]string{
		{},
		{"Host: localhost"},
		{"Host: LOCALHOST:8080"},
		{"Host: 10.1.2.3"},
		{"Host: [::1]:9090"},
		{"Host: ops.test:443"},
		{"Host: Ops.Test"},
		{"Host: listen.test"},
		{"Host: admin.test"},
		{"Host: a.wild.test"},
		{"Authorization: bearer " + string(canary)},
		{"Authorization: BEARER  " + string(canary)},
		{"Origin: http://" + s.addr},
		{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Origin: http://" + s.addr},
		{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"},
	} {
		a := s.dial(t).ask(t, with(good, lines...)...)
		if a.StatusCode != 200 || strings.TrimSpace(a.body) != `{"word":"reload"}` {
			t.Errorf("%q: %d %s", lines, a.StatusCode, a.body)
		}
		wantHeaders(t, a, "application/json")
	}
	for _, host := range []string{"wild.test", "a.b.wild.test", ".wild.test", "*.wild.test"} {
		if a := s.dial(t).ask(t, with(good, "Host: "+host)...); a.StatusCode != 403 {
			t.Errorf("%s: %d", host, a.StatusCode)
		}
	}
}
