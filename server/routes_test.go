package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
)

func TestLivezAndReadyz(t *testing.T) {
	var notReady error
	s := start(t, Options{Handler: Engine(RouteOptions{Ready: func() error { return notReady }})})
	c := client(t)
	base := "http://" + s.addr

	for _, path := range []string{"/livez", "/readyz"} {
		if a := get(t, c, base+path); a.StatusCode != 200 || a.body != "ok\n" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s %q %v", path, a.Status, a.body, a.Header)
		}
		if a := do(t, c, request(t, http.MethodHead, base+path, nil)); a.StatusCode != 200 || a.body != "" {
			t.Errorf("HEAD %s: %s %q", path, a.Status, a.body)
		}
	}
	a := get(t, c, base+"/readyz?verbose")
	if want := `{"checks":[{"name":"accepting","ok":true},{"name":"ready","ok":true}]}`; a.StatusCode != 200 || a.body != want {
		t.Errorf("verbose: %s %s", a.Status, a.body)
	}

	notReady = errors.New("no configuration yet")
	wantProblem(t, get(t, c, base+"/readyz"), 503, "no configuration yet")
	a = get(t, c, base+"/readyz?verbose")
	wantProblem(t, a, 503, "no configuration yet")
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	want := []check{{Name: "accepting", OK: true}, {Name: "ready", Reason: "no configuration yet"}}
	if d := cmp.Diff(want, p.Checks); d != "" {
		t.Errorf("checks (-want +got):\n%s", d)
	}
	if a := get(t, c, base+"/livez"); a.StatusCode != 200 {
		t.Errorf("livez of a service that is not ready: %s", a.Status)
	}
}

func TestPublicConfig(t *testing.T) {
	revision, values := "0123456789ab", map[string]any{"b": int64(1), "a": map[string]any{"x": []any{"<", true, nil}}}
	s := start(t, Options{Handler: Engine(RouteOptions{Public: func(context.Context) (string, map[string]any) {
		return revision, values
	}})})
	c := client(t)
	path := "http://" + s.addr + "/v1/config"

	a := get(t, c, path)
	const body = `{"revision":"0123456789ab","public":{"a":{"x":["\u003c",true,null]},"b":1}}`
	if a.StatusCode != 200 || a.body != body || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("answer %s %q %s", a.Status, a.Header.Get("Content-Type"), a.body)
	}
	tag := a.Header.Get("ETag")
	if len(tag) != 34 || tag[0] != '"' || a.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("ETag %s, Cache-Control %s", tag, a.Header.Get("Cache-Control"))
	}

	for _, tt := range []struct {
		match  []string
		status int
	}{
		{[]string{tag}, 304},
		{[]string{"W/" + tag}, 304},
		{[]string{`"other", W/"x" ,` + tag}, 304},
		{[]string{`"other"`, tag}, 304},
		{[]string{"*"}, 304},
		{[]string{`"other"`}, 200},
		{[]string{strings.Trim(tag, `"`)}, 200},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			req := request(t, method, path, nil)
			req.Header["If-None-Match"] = tt.match
			a := do(t, c, req)
			wantBody := ""
			if tt.status == 200 && method == http.MethodGet {
				wantBody = body
			}
			if a.StatusCode != tt.status || a.body != wantBody || a.Header.Get("ETag") != tag || a.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s with %q: %s, %q, %v", method, tt.match, a.Status, a.body, a.Header)
			}
		}
	}

	values = map[string]any{}
	b := get(t, c, path)
	if b.body != `{"revision":"0123456789ab","public":{}}` || b.Header.Get("ETag") == tag {
		t.Errorf("other content: %s with ETag %s", b.body, b.Header.Get("ETag"))
	}
	values = map[string]any{"bad": math.Inf(1)}
	wantProblem(t, get(t, c, path), 500, "no JSON form")
}

func TestPublicConfigWithoutValues(t *testing.T) {
	for name, o := range map[string]RouteOptions{
		"no func": {},
		"nil map": {Public: func(context.Context) (string, map[string]any) { return "", nil }},
	} {
		s := start(t, Options{Handler: Engine(o)})
		if a := get(t, client(t), "http://"+s.addr+"/v1/config"); a.body != `{"revision":"","public":{}}` {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

func TestEcho(t *testing.T) {
	s := start(t, Options{Handler: Engine(RouteOptions{})})
	c := client(t)
	base := "http://" + s.addr + "/v1/echo"

	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
		var body io.Reader
		if method == "POST" || method == "PUT" {
			body = strings.NewReader("12345")
		}
		req := request(t, method, base+"?a=1&a=2", body)
		req.Header.Set("Authorization", "Bearer s3cret")
		req.Header.Set("Cookie", "s3cret=1")
		a := do(t, c, req)
		var got echoAnswer
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.StatusCode != 200 {
			t.Fatalf("%s: %s %q %v", method, a.Status, a.body, err)
		}
		want := echoAnswer{Method: method, Path: "/v1/echo", Query: url.Values{"a": {"1", "2"}}, Remote: got.Remote, Delay: "0s"}
		if body != nil {
			want.BodyBytes = 5
		}
		if d := cmp.Diff(want, got); d != "" || !strings.HasPrefix(got.Remote, "127.0.0.1:") {
			t.Errorf("%s from %q (-want +got):\n%s", method, got.Remote, d)
		}
		if strings.Contains(a.body, "s3cret") {
			t.Errorf("%s shows credentials: %s", method, a.body)
		}
	}
	if a := do(t, c, request(t, http.MethodHead, base, nil)); a.StatusCode != 200 || a.body != "" {
		t.Errorf("HEAD: %s %q", a.Status, a.body)
	}
	for _, delay := range []string{"60ms", "60", "0.06s"} {
		began := time.Now()
		a := get(t, c, base+"?delay="+delay)
		if took := time.Since(began); took < 60*time.Millisecond || !strings.Contains(a.body, `"delay":"60ms"`) {
			t.Errorf("delay=%s: %q after %s", delay, a.body, took)
		}
	}
}

func TestEchoBytes(t *testing.T) {
	s := start(t, Options{Handler: Engine(RouteOptions{})})
	c := client(t)
	base := "http://" + s.addr + "/v1/echo?bytes="
	for text, n := range map[string]int{"0": 0, "1": 1, "100000": 100_000, "67108864": 64 << 20} {
		a := get(t, c, base+text)
		if a.StatusCode != 200 || len(a.body) != n || a.ContentLength != int64(n) || strings.Trim(a.body, ".") != "" {
			t.Errorf("bytes=%s: %s, %d bytes, Content-Length %d", text, a.Status, len(a.body), a.ContentLength)
		}
	}
	a := do(t, c, request(t, http.MethodHead, base+"12", nil))
	if a.ContentLength != 12 || a.body != "" {
		t.Errorf("HEAD: Content-Length %d, body %q", a.ContentLength, a.body)
	}
}

func TestEchoRefuses(t *testing.T) {
	s := start(t, Options{Handler: Engine(RouteOptions{})}, requestTime(300*time.Millisecond))
	c := client(t)
	base := "http://" + s.addr + "/v1/echo"
	for _, q := range []string{
		"delay=x", "delay=-1", "delay=-1ms", "delay=61m", "delay=3600001", "delay=9223372036854775807",
		"delay=99999999999999999999",
	} {
		wantProblem(t, get(t, c, base+"?"+q), 400, "delay must be")
	}
	for _, q := range []string{"bytes=x", "bytes=-1", "bytes=67108865", "bytes=1e3"} {
		wantProblem(t, get(t, c, base+"?"+q), 400, "bytes must be")
	}
	wantProblem(t, get(t, c, base+"?delay=1h"), 503, "server.timeout.request")

	ok := do(t, c, request(t, http.MethodPost, base, strings.NewReader(strings.Repeat("x", 1<<20))))
	if ok.StatusCode != 200 {
		t.Errorf("1 MiB: %s %s", ok.Status, ok.body)
	}
	tooMuch := do(t, c, request(t, http.MethodPost, base, strings.NewReader(strings.Repeat("x", 1<<20+1))))
	wantProblem(t, tooMuch, 413, "server.limit.body_bytes")
	if !tooMuch.Close {
		t.Error("the connection with the rest of the body is kept")
	}
}

// A client that sends far more than is wanted still reads why, because the server
// ends its side first and does not reset the connection.
func TestEchoFarTooLargeABody(t *testing.T) {
	s := start(t, Options{Handler: Engine(RouteOptions{})})
	for range 5 {
		body := strings.NewReader(strings.Repeat("x", 16<<20))
		wantProblem(t, do(t, client(t), request(t, http.MethodPost, "http://"+s.addr+"/v1/echo", body)), 413, "server.limit.body_bytes")
	}
}

// A client that ends its body early is told so, if it still listens.
func TestEchoHalfABody(t *testing.T) {
	s := start(t, Options{Handler: Engine(RouteOptions{})})
	c := dial(t, s.addr)
	c.send(t, "POST /v1/echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\nno chunk\n")
	wantProblem(t, c.receive(t), 400, "did not arrive")
	c.wantClosed(t)
}

func TestNoRouteAndNoMethod(t *testing.T) {
	s := start(t, Options{Handler: Engine(RouteOptions{})})
	c := client(t)
	base := "http://" + s.addr
	for _, path := range []string{"/", "/nothing", "/livez/", "/LIVEZ", "/v1/echo/x"} {
		wantProblem(t, get(t, c, base+path), 404, "nothing at this path")
	}
	a := do(t, c, request(t, http.MethodDelete, base+"/v1/config", nil))
	wantProblem(t, a, 405, "Allow")
	if allow := a.Header.Get("Allow"); allow != "GET, HEAD" && allow != "HEAD, GET" {
		t.Errorf("Allow: %s", allow)
	}
}

func TestEngineTrustsNoProxy(t *testing.T) {
	e := Engine(RouteOptions{})
	e.GET("/ip", func(c *gin.Context) { c.String(200, c.ClientIP()) })
	s := start(t, Options{Handler: e})
	req := request(t, http.MethodGet, "http://"+s.addr+"/ip", nil)
	req.Header.Set("X-Forwarded-For", "203.0.113.1")
	req.Header.Set("X-Real-IP", "203.0.113.1")
	if a := do(t, client(t), req); a.body != "127.0.0.1" {
		t.Errorf("the client is %s", a.body)
	}
}

// The mode of gin is one for the process, so this test does not run beside
// others.
func TestEngineModeOfGin(t *testing.T) {
	before := gin.Mode()
	defer gin.SetMode(before)
	for _, tt := range []struct{ env, mode, want string }{
		{"", gin.DebugMode, gin.ReleaseMode},
		{"debug", gin.DebugMode, gin.DebugMode},
		{"", gin.TestMode, gin.TestMode},
	} {
		t.Setenv(gin.EnvGinMode, tt.env)
		gin.SetMode(tt.mode)
		Engine(RouteOptions{})
		if gin.Mode() != tt.want {
			t.Errorf("GIN_MODE=%q, mode %s: becomes %s, want %s", tt.env, tt.mode, gin.Mode(), tt.want)
		}
	}
}

func FuzzNoneMatch(f *testing.F) {
	const tag = `"0123"`
	for _, s := range []string{"", "*", tag, "W/" + tag, `"a,b", ` + tag, `"`, `""`, `W/`, "\t,, " + tag, `"a"x,` + tag} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := noneMatchHolds([]string{line}, tag)
		if got && !strings.Contains(line, tag) && strings.TrimSpace(line) != "*" {
			t.Errorf("%q names %s", line, tag)
		}
		// A list that is put behind one tag still names it.
		if !noneMatchHolds([]string{tag + "," + line}, tag) || !noneMatchHolds([]string{line, tag}, tag) {
			t.Errorf("%q hides the tag beside it", line)
		}
	})
}

func TestNoneMatch(t *testing.T) {
	for _, tt := range []struct {
		line string
		want bool
	}{
		{`"a"`, true},
		{`W/"a"`, true},
		{`"x","a"`, true},
		{`"x" , W/"a"`, true},
		{`"x,y", "a"`, true},
		{` * `, true},
		{``, false},
		{`a`, false},
		{`"A"`, false},
		{`"a`, false},
		{`w/"a"`, false},
		{`"x, "a"`, false},
		{`x, "a"`, false},
		{`"b"`, false},
	} {
		if got := noneMatchHolds([]string{tt.line}, `"a"`); got != tt.want {
			t.Errorf("%s: %v", tt.line, got)
		}
	}
}

func FuzzParseEcho(f *testing.F) {
	for _, s := range []string{"delay=1s", "delay=1500", "delay=-1", "bytes=10", "bytes=99999999999", "delay=1e300h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		e, err := parseEcho(q)
		if err == nil && (e.delay < 0 || e.delay > maxEchoDelay || e.bytes < -1 || e.bytes > maxEchoBytes) {
			t.Errorf("%q is accepted as %+v", query, e)
		}
	})
}
