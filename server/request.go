package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"
)

// errRequestTime is the cause of a request's context when its time has run out.
var errRequestTime = errors.New("the request has taken longer than server.timeout.request allows")

// serve brackets every request: it counts and measures it, pins its
// configuration, limits its time, and answers for a handler that could not.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	s.requests.Add(1)
	defer func() {
		s.requests.Add(-1)
		s.conns.wake()
	}()
	ctx := r.Context()
	if c := connOf(ctx); c != nil {
		c.begin(r.Method, r.URL.Path, began)
		defer c.end()
	}

	answer := &response{ResponseWriter: w, request: r, draining: &s.conns.draining}
	// request is what the handler gets: a router notes its pattern there.
	request := r
	defer func() {
		if s.metrics != nil {
			s.metrics.observe(request, answer, time.Since(began))
		}
	}()
	defer func() {
		if v := recover(); v != nil {
			s.panicked(ctx, answer, v)
		}
	}()

	if s.pin != nil {
		pinned, release := s.pin(ctx)
		defer release()
		ctx = pinned
	}
	if limit := s.config(ctx).Timeout.Request; limit > 0 {
		timed, cancel := context.WithTimeoutCause(ctx, limit, errRequestTime)
		defer cancel()
		ctx = timed
	}
	if ctx != r.Context() {
		request = r.WithContext(ctx)
		answer.request = request
	}
	s.handler.ServeHTTP(answer, request)
	answer.finish()
}

// panicked answers for a handler that panicked. The panic's value is logged only
// where the runtime made it: any other may hold whatever the handler was working
// on.
func (s *Server) panicked(ctx context.Context, w *response, v any) {
	err, isError := v.(error)
	if isError && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler) // the handler's way to drop the connection
	}
	what := fmt.Sprintf("%T", v)
	if re, ok := errors.AsType[runtime.Error](err); ok {
		what = re.Error()
	}
	r := w.request
	s.log.LogAttrs(ctx, slog.LevelError, "handler panicked",
		slog.String("panic", what),
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.String("stack", string(debug.Stack())))
	switch {
	case w.hijacked:
	case w.status == 0:
		writeProblem(w, http.StatusInternalServerError, "the server could not finish this request; its log says more")
	default:
		// Half an answer must not look like a whole one.
		panic(http.ErrAbortHandler)
	}
}

// outOfTime reports whether the request has used up server.timeout.request.
func outOfTime(r *http.Request) bool {
	return errors.Is(context.Cause(r.Context()), errRequestTime)
}
