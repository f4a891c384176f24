package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

// exchange is one request and its answer. It is one allocation for all that a
// Server needs beside net/http.
type exchange struct {
	live liveconn.Request // the context
	response
	server *Server
	config *Config
	policy *policy
	// tooLarge says that the body has turned out to be.
	tooLarge atomic.Bool
	// last says that the connection is closed after the answer.
	last bool
}

// serve brackets every request: it counts and measures it, pins its
// configuration, limits it, and answers for a handler that could not.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	s.requests.Add(1)
	defer func() {
		s.requests.Add(-1)
		s.registry.Wake()
	}()
	conn := liveconn.FromContext(r.Context())
	ctx := withSocketAddr(r.Context(), conn.LocalAddr())
	if s.pin != nil {
		pinned, release := s.pin(ctx)
		defer release()
		ctx = pinned
	}
	x := &exchange{server: s, config: s.config(ctx), last: framedInDoubt(r)}
	x.policy = s.policyOf(x.config)
	x.response = response{ResponseWriter: w, exchange: x}
	x.live.Begin(ctx, conn, w, r, began)
	defer x.live.End()

	r = r.WithContext(&x.live) //nolint:contextcheck // it is made from ctx
	x.request = r
	if !x.policy.proxies.empty() {
		if ip, forwarded := x.policy.proxies.client(r); forwarded {
			r.RemoteAddr = forwardedAddr(ip)
		}
	}
	defer x.observe(began) //nolint:contextcheck // it has its own
	defer x.recovered()    //nolint:contextcheck // it has its own
	x.answer()
	x.finish()
}

// framedInDoubt reports whether a proxy before the server may see another end of
// the request than the server does, so that what follows on the connection may be
// a part of it, smuggled past the proxy. RFC 9112 section 6.1 wants such a
// connection closed. Whether a chunked request had a Content-Length too, or one of
// HTTP/1.0 a Transfer-Encoding, net/http does not tell.
func framedInDoubt(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || r.ContentLength < 0)
}

// answer has the request answered. A page of another origin may read why it was
// limited, so CORS comes first; it answers preflights by itself.
func (x *exchange) answer() {
	switch {
	case x.live.Conn().Over():
		x.refuse(limitConnections, time.Second)
	case x.policy.cors != nil:
		x.policy.cors.ServeHTTP(x, x.request, func(http.ResponseWriter, *http.Request) { x.limit() })
	default:
		x.limit()
	}
}

// limit hands the request on unless it is more than the service takes.
func (x *exchange) limit() {
	s, r, limit := x.server, x.request, &x.config.Limit
	switch {
	case s.exempt(r):
		x.handle()
		return
	case limit.BodyBytes > 0 && r.ContentLength > int64(limit.BodyBytes):
		x.refuse(limitBody, 0)
		return
	}
	by, wait, ok := s.limiter.enter(limit)
	if !ok {
		x.refuse(by, wait)
		return
	}
	defer s.limiter.leave()
	if limit.BodyBytes > 0 && r.ContentLength < 0 {
		r.Body = &boundedBody{http.MaxBytesReader(x.ResponseWriter, r.Body, int64(limit.BodyBytes)), x}
	}
	x.handle()
}

func (x *exchange) handle() {
	if x.request.RequestURI == "*" && x.request.Method == http.MethodOptions {
		// It is about the server and no resource of the application. net/http
		// would answer it past the limits, and the drain.
		x.Header().Set("Content-Length", "0")
		return
	}
	x.server.handler.ServeHTTP(x, x.request)
}

// refuse answers for a request that a limit keeps out. wait is after how long it
// is worth another try.
func (x *exchange) refuse(by limit, wait time.Duration) {
	x.server.limiter.refused[by].Add(1)
	switch by {
	case limitBody:
		// The body is not wanted. Closing an HTTP/2 connection for it would
		// hit the streams beside it.
		x.last = x.last || x.request.ProtoMajor == 1
	case limitConnections:
		x.last = true
	case limitConcurrency, limitRate, limits:
	}
	if by != limitBody {
		x.Header().Set("Retry-After", retryAfter(wait))
	}
	status, detail := by.problem()
	writeProblem(x, status, detail)
}

// boundedBody is a body of a length that was not told.
type boundedBody struct {
	io.ReadCloser
	exchange *exchange
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && errors.As(err, new(*http.MaxBytesError)) {
		b.exchange.tooLarge.Store(true)
	}
	return n, err
}

// clientGone reports whether the client has ended the connection, or the server
// has, before there was an answer. net/http takes a client that ends its own side
// alone for one that has gone, too.
func (x *exchange) clientGone() bool {
	return x.live.Context.Err() != nil
}

// finish answers for a handler that has returned without an answer.
func (x *exchange) finish() {
	switch {
	case x.hijacked || x.status != 0:
	case x.live.TimedOut():
		writeProblem(x, http.StatusServiceUnavailable, "the request has taken longer than server.timeout.request allows")
	case x.tooLarge.Load():
		x.refuse(limitBody, 0)
	case x.clientGone():
		// Nobody reads an answer, and none is to be counted.
	default:
		x.ensureHeader()
	}
}

// recovered answers for a handler that panicked. The panic's value is logged
// only where the runtime made it: any other may hold whatever the handler was
// working on.
func (x *exchange) recovered() {
	v := recover()
	if v == nil {
		return
	}
	err, isError := v.(error)
	if isError && errors.Is(err, http.ErrAbortHandler) {
		x.failed = true
		panic(http.ErrAbortHandler) // the handler's way to drop the connection
	}
	what := fmt.Sprintf("%T", v)
	if re, ok := errors.AsType[runtime.Error](err); ok {
		what = re.Error()
	}
	x.server.log.LogAttrs(&x.live, slog.LevelError, "handler panicked",
		slog.String("panic", what),
		slog.String("method", x.request.Method),
		slog.String("path", x.request.URL.Path),
		slog.String("stack", string(debug.Stack())))
	switch {
	case x.hijacked:
	case x.status == 0:
		writeProblem(x, http.StatusInternalServerError, "the server could not finish this request; its log says more")
	default:
		// Half an answer must not look like a whole one.
		x.failed = true
		panic(http.ErrAbortHandler)
	}
}

// observe measures and logs the exchange.
func (x *exchange) observe(began time.Time) {
	s := x.server
	if s.metrics == nil && s.access == nil {
		return
	}
	took := time.Since(began)
	if s.metrics != nil {
		s.metrics.observe(x.request, &x.response, took)
	}
	if s.access != nil && s.access.Enabled(&x.live, slog.LevelInfo) {
		x.logAccess(took)
	}
}

// logAccess writes the line of the access log. It holds no query and no header:
// both carry credentials.
func (x *exchange) logAccess(took time.Duration) {
	r := x.request
	attrs := []slog.Attr{
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.String("proto", r.Proto),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.bytes),
		slog.Float64("took_ms", float64(took.Microseconds())/1e3),
		slog.String("client", r.RemoteAddr),
	}
	if x.failed || x.status == 0 && !x.hijacked {
		attrs = append(attrs, slog.Bool("aborted", true)) // the client has not got it, or not all
	}
	x.server.access.LogAttrs(&x.live, slog.LevelInfo, "request", attrs...)
}
