package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func allow(c CORS) func(*Config) { return func(cfg *Config) { cfg.CORS = c } }

// crossOrigin are the headers of an answer that CORS is about.
func crossOrigin(a answer) map[string]string {
	headers := map[string]string{}
	for name, values := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
			headers[name] = strings.Join(values, ", ")
		}
	}
	return headers
}

func TestCORS(t *testing.T) {
	some := CORS{
		Origins: []string{"https://app.example", "https://*.example.com"},
		Methods: []string{"PUT"}, Headers: []string{"X-Token", "Content-Type"},
	}
	const preflightVary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
	for _, tt := range []struct {
		name    string
		cors    CORS
		method  string
		origin  string
		ask     string // Access-Control-Request-Method
		headers string // Access-Control-Request-Headers
		status  int
		allowed string // Access-Control-Allow-Origin
	}{
		{"simple", some, "GET", "https://app.example", "", "", 200, "https://app.example"},
		{"post", some, "POST", "https://app.example", "", "", 200, "https://app.example"},
		{"put", some, "PUT", "https://app.example", "", "", 200, "https://app.example"},
		{"other method", some, "DELETE", "https://app.example", "", "", 200, ""},
		{"other origin", some, "GET", "https://evil.example", "", "", 200, ""},
		{"other scheme", some, "GET", "http://app.example", "", "", 200, ""},
		{"other port", some, "GET", "https://app.example:8443", "", "", 200, ""},
		{"null", some, "GET", "null", "", "", 200, ""},
		{"no origin", some, "GET", "", "", "", 200, ""},
		{"subdomain", some, "GET", "https://a.example.com", "", "", 200, "https://a.example.com"},
		{"sub-subdomain", some, "GET", "https://a.b.example.com", "", "", 200, "https://a.b.example.com"},
		{"not a subdomain", some, "GET", "https://example.com", "", "", 200, ""},
		{"ends alike", some, "GET", "https://evilexample.com", "", "", 200, ""},
		{"begins alike", some, "GET", "https://a.example.com.evil.example", "", "", 200, ""},
		{"preflight", some, "OPTIONS", "https://app.example", "PUT", "", 204, "https://app.example"},
		{"preflight with headers", some, "OPTIONS", "https://app.example", "PUT", "content-type,x-token", 204, "https://app.example"},
		{"preflight with another header", some, "OPTIONS", "https://app.example", "PUT", "x-other", 204, ""},
		{"preflight for another method", some, "OPTIONS", "https://app.example", "DELETE", "", 204, ""},
		{"preflight of another origin", some, "OPTIONS", "https://evil.example", "PUT", "", 204, ""},
		{"options that is no preflight", some, "OPTIONS", "https://app.example", "", "", 200, "https://app.example"},
		{"everybody", CORS{Origins: []string{"*"}}, "GET", "https://evil.example", "", "", 200, "*"},
		{"everybody's preflight", CORS{Origins: []string{"*"}}, "OPTIONS", "https://evil.example", "POST", "", 204, "*"},
		{"no header was allowed", CORS{Origins: []string{"*"}}, "OPTIONS", "https://x.example", "POST", "content-type", 204, ""},
		{"any header", CORS{Origins: []string{"*"}, Headers: []string{"*"}}, "OPTIONS", "https://x.example", "POST", "x-any,x-other", 204, "*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &counted{}
			s := start(t, Options{Handler: h}, allow(tt.cors))
			req := request(t, tt.method, "http://"+s.addr+"/", nil)
			want := map[string]string{"Vary": "Origin"}
			for name, value := range map[string]string{
				"Origin": tt.origin, "Access-Control-Request-Method": tt.ask, "Access-Control-Request-Headers": tt.headers,
			} {
				if value != "" {
					req.Header.Set(name, value)
				}
			}
			if tt.allowed != "" {
				want["Access-Control-Allow-Origin"] = tt.allowed
			}
			if tt.ask != "" {
				want["Vary"] = preflightVary
				if tt.allowed != "" {
					want["Access-Control-Allow-Methods"] = tt.ask
				}
				if tt.allowed != "" && tt.headers != "" {
					want["Access-Control-Allow-Headers"] = tt.headers
				}
			}
			a := do(t, client(t), req)
			if a.StatusCode != tt.status {
				t.Errorf("answer %s", a.Status)
			}
			if d := cmp.Diff(want, crossOrigin(a)); d != "" {
				t.Errorf("headers (-want +got):\n%s", d)
			}
			if ran := h.calls.Load() == 1; ran != (tt.status == 200) {
				t.Errorf("the handler ran: %v", ran)
			}
		})
	}
}

func TestCORSIsLive(t *testing.T) {
	s := start(t, Options{Handler: handler(hello)})
	c := client(t)
	ask := func() map[string]string {
		req := request(t, http.MethodGet, "http://"+s.addr+"/", nil)
		req.Header.Set("Origin", "https://app.example")
		return crossOrigin(do(t, c, req))
	}
	off := map[string]string{}
	if d := cmp.Diff(off, ask()); d != "" {
		t.Errorf("off (-want +got):\n%s", d)
	}
	s.change(allow(CORS{Origins: []string{"https://app.example"}}))
	if d := cmp.Diff(map[string]string{"Vary": "Origin", "Access-Control-Allow-Origin": "https://app.example"}, ask()); d != "" {
		t.Errorf("on (-want +got):\n%s", d)
	}
	s.change(allow(CORS{Origins: []string{"https://other.example"}}))
	if d := cmp.Diff(map[string]string{"Vary": "Origin"}, ask()); d != "" {
		t.Errorf("another (-want +got):\n%s", d)
	}
	s.change(allow(CORS{}))
	if d := cmp.Diff(off, ask()); d != "" {
		t.Errorf("off again (-want +got):\n%s", d)
	}
}

// A page may read why its request was refused, and why it failed.
func TestCORSOfProblems(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("x") })
	mux.HandleFunc("/late", untilDone)
	mux.HandleFunc("/", hello)
	s := start(t, Options{Handler: mux, Logger: discard()}, allow(CORS{Origins: []string{"*"}}), requestTime(20*time.Millisecond))
	c := client(t)
	ask := func(method, path string, status int) {
		t.Helper()
		req := request(t, method, "http://"+s.addr+path, nil)
		req.Header.Set("Origin", "https://app.example")
		if method == http.MethodOptions {
			req.Header.Set("Access-Control-Request-Method", "POST")
		}
		a := do(t, c, req)
		if a.StatusCode != status || a.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %s: %s with %v", method, path, a.Status, crossOrigin(a))
		}
	}
	ask(http.MethodGet, "/panic", 500)
	ask(http.MethodGet, "/late", 503)
	s.change(rps(0.001, 1))
	ask(http.MethodGet, "/", 200)
	ask(http.MethodGet, "/", 429)
	// A preflight never reaches the application, so it counts for no limit.
	ask(http.MethodOptions, "/", 204)
	s.change(connections(1))
	req := request(t, http.MethodGet, "http://"+s.addr+"/", nil)
	wantProblem(t, do(t, client(t), req), 503, "server.limit.connections")
}

func TestValidateCORS(t *testing.T) {
	const (
		origin = "must be *, or a scheme and a host without a path, for example https://example.com or https://*.example.com"
		method = "must be a method in capitals, for example PUT"
		header = "must be the name of a header, or *"
	)
	for i, tt := range []struct {
		cors CORS
		want map[string]string
	}{
		{CORS{}, nil},
		{CORS{Origins: []string{"*", "https://example.com", "http://localhost:8080", "https://*.example.com", "app://x"}}, nil},
		{CORS{Origins: []string{"http://[::1]:8080", "https://*"}}, nil},
		{CORS{Methods: []string{"PUT", "X-OWN"}, Headers: []string{"*", "X-Token", "content-type"}}, nil},
		{CORS{Origins: []string{"secret.example"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"*", ""}}, map[string]string{"cors.origins[1]": origin}},
		{CORS{Origins: []string{"https://secret.example/"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://secret.example/path"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://secret.example?x"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://secret.example?"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://secret.example#x"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://secret.example#"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://secret@example.com"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://*.secret.*"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://sec ret"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://secret\r\nX: y"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://:443"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"null"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Origins: []string{"https://"}}, map[string]string{"cors.origins[0]": origin}},
		{CORS{Methods: []string{"put", "", "SECRET IT", "PUT"}}, map[string]string{
			"cors.methods[0]": method, "cors.methods[1]": method, "cors.methods[2]": method,
		}},
		{CORS{Headers: []string{"X-Ok", "", "secret:", "sécret"}}, map[string]string{
			"cors.headers[1]": header, "cors.headers[2]": header, "cors.headers[3]": header,
		}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c := Default()
			c.CORS = tt.cors
			if d := cmp.Diff(tt.want, problemsOf(t, c.Validate()), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}
