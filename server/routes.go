package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"

	"github.com/hotsvc/svc/server/liveconn"
)

// RouteOptions are what the service's own routes show. Its funcs are called for
// each request that needs them and may be called at the same time.
type RouteOptions struct {
	// Ready returns why the service cannot take requests, or nil. Its text is
	// shown to any client. nil: it is ready while it does not drain.
	Ready func() error
	// Public returns the revision in force for a request and its public values,
	// as one nested map. nil: /v1/config shows nothing.
	Public func(context.Context) (revision string, values map[string]any)
}

// Engine returns a gin engine with [Pattern], [Routes], and 404 and 405 as
// application/problem+json. It trusts no proxy's headers and redirects nothing.
// The application adds its routes to it and gives it to [Options.Handler].
//
// gin has one mode for the whole process, debug where nobody chose another, and
// then prints every route to standard output. Engine therefore turns the debug
// mode into the release mode, unless the environment asks for it (GIN_MODE).
// Call it from one goroutine, as everything that registers routes.
func Engine(o RouteOptions) *gin.Engine {
	if gin.IsDebugging() && os.Getenv(gin.EnvGinMode) == "" {
		gin.SetMode(gin.ReleaseMode)
	}
	e := gin.New()
	e.HandleMethodNotAllowed = true
	// The redirect builds its target from X-Forwarded-Prefix, whoever sent it.
	e.RedirectTrailingSlash = false
	// Only a list of addresses that do not parse is an error.
	_ = e.SetTrustedProxies(nil)
	e.Use(Pattern())
	e.NoRoute(func(c *gin.Context) {
		writeProblem(c.Writer, http.StatusNotFound, "there is nothing at this path")
	})
	e.NoMethod(func(c *gin.Context) {
		writeProblem(c.Writer, http.StatusMethodNotAllowed, "the path does not take this method: see Allow")
	})
	Routes(e, o)
	return e
}

// Pattern is a gin middleware that notes the route in the request's Pattern, as
// http.ServeMux does. A [Server] takes the metrics' label http_route from there.
// It comes before every middleware that replaces the request.
func Pattern() gin.HandlerFunc {
	return func(c *gin.Context) { c.Request.Pattern = c.FullPath() }
}

// Routes adds the service's own routes:
//
//   - GET /livez: 200 while the process serves at all.
//   - GET /readyz: 200, or 503 with the reason while the server drains or Ready
//     returns an error; ?verbose lists each check.
//   - GET /v1/config: {"revision", "public": {...}} with a strong ETag.
//   - any method /v1/echo: for trying timeouts. It waits delay (a Go duration or
//     a number of milliseconds, at most 1h, less when the request's context ends)
//     and answers with what it was sent, headers left out, or with bytes
//     (at most 64 MiB) of payload.
func Routes(r gin.IRouter, o RouteOptions) {
	getOrHead := []string{http.MethodGet, http.MethodHead}
	r.Match(getOrHead, "/livez", func(c *gin.Context) { writeOK(c) })
	r.Match(getOrHead, "/readyz", func(c *gin.Context) { ready(c, o.Ready) })
	r.Match(getOrHead, "/v1/config", func(c *gin.Context) { publicConfig(c, o.Public) })
	r.Any("/v1/echo", echo)
}

func writeOK(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
}

// check is one condition of readiness.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

func ready(c *gin.Context, readyFunc func() error) {
	checks := []check{{Name: "accepting", OK: true}, {Name: "ready", OK: true}}
	if conn := liveconn.FromContext(c.Request.Context()); conn != nil && !conn.Served() {
		checks[0] = check{Name: "accepting", Reason: "the server is draining"}
	}
	if readyFunc != nil {
		if err := readyFunc(); err != nil {
			checks[1] = check{Name: "ready", Reason: err.Error()}
		}
	}
	_, verbose := c.GetQuery("verbose")
	for _, ch := range checks {
		if ch.OK {
			continue
		}
		p := problem{Status: http.StatusServiceUnavailable, Detail: ch.Reason}
		if verbose {
			p.Checks = checks
		}
		p.write(c.Writer)
		return
	}
	if !verbose {
		writeOK(c)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, gin.H{"checks": checks})
}

func publicConfig(c *gin.Context, public func(context.Context) (string, map[string]any)) {
	answer := struct {
		Revision string         `json:"revision"`
		Public   map[string]any `json:"public"`
	}{Public: map[string]any{}}
	if public != nil {
		revision, values := public(c.Request.Context())
		answer.Revision = revision
		if values != nil {
			answer.Public = values
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		writeProblem(c.Writer, http.StatusInternalServerError, "the public settings have no JSON form")
		return
	}
	sum := sha256.Sum256(body)
	etag := `"` + hex.EncodeToString(sum[:16]) + `"`
	c.Header("ETag", etag)
	// Keep a copy, and ask each time whether it is still the one.
	c.Header("Cache-Control", "no-cache")
	if noneMatchHolds(c.Request.Header.Values("If-None-Match"), etag) {
		c.Status(http.StatusNotModified)
		return
	}
	c.Data(http.StatusOK, "application/json", body)
}
